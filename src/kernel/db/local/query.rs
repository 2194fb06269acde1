//! A query of a family and the interpretation of its reply.

use super::super::arguments::{ArgumentProblem, MalformedRequest};
use super::super::datum::Datum;
use super::super::entries::Entries;
use super::super::request::{QueryKind, Request};
use super::super::{LOCATIONS, node_key, node_of};
use crate::value::packed::{Reader, Token};
use crate::value::{NodeId, Str};
use thiserror::Error;

/// The ID of a pending query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueryId(pub(crate) u64);

/// The answer of a query.
pub type DbAnswer = Result<DbResult, QueryError>;

/// The result of a query.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum DbResult {
    /// The whole family.
    Family(Entries),
    /// Its keys.
    Keys(Vec<Str>),
    /// Its values.
    Values(Vec<Datum>),
    /// The value of one key, if it is set.
    Value(Option<Datum>),
}

/// Why a query failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum QueryError {
    /// No global node was connected before the timeout.
    #[error("no global node was connected in time; are the seeds up?")]
    NoMaster,
    /// The master's reply is malformed.
    #[error("the master's answer is malformed: {0}")]
    Malformed(MalformedRequest),
}

#[derive(Debug)]
pub(super) enum Wanted {
    Whole(QueryKind),
    Key(Str),
    /// The addresses of a node, for which the protocol has a request of its own.
    Location(NodeId),
}

impl Wanted {
    /// One key of a family.
    pub(super) fn key(family: &Str, key: Str) -> Self {
        match node_of(&key) {
            Some(node) if *family == *LOCATIONS => Wanted::Location(node),
            _ => Wanted::Key(key),
        }
    }
}

#[derive(Debug)]
pub(super) struct Query {
    pub(super) family: Str,
    pub(super) wanted: Wanted,
    pub(super) wire_id: Str,
}

impl Query {
    pub(super) fn request(&self, master_knows_get: bool) -> Request {
        let id = || Datum::string(&self.wire_id);
        let kind = match &self.wanted {
            Wanted::Whole(kind) => *kind,
            Wanted::Key(key) if master_knows_get => {
                return Request::Get { family: self.family.clone(), key: key.clone(), id: id() };
            }
            // The protocol has no request for one key.
            Wanted::Key(_) => QueryKind::Family,
            Wanted::Location(node) => return Request::Find(node.clone()),
        };
        Request::Query { kind, family: self.family.clone(), id: id() }
    }

    /// Interprets the reply. The reply to `g_get` is an array, empty or with the value.
    pub(super) fn answer(&self, result: &Datum) -> DbAnswer {
        let wrong = |problem| {
            let request = "g_reply";
            QueryError::Malformed(MalformedRequest { request, argument: "result", problem })
        };
        let mut reader = Reader::new(result.octets());
        match &self.wanted {
            Wanted::Whole(QueryKind::Keys) => {
                result.to_strings().map(DbResult::Keys).ok_or(wrong(ArgumentProblem::NoStrings))
            }
            Wanted::Whole(QueryKind::Values) => {
                result.to_data().map(DbResult::Values).ok_or(wrong(ArgumentProblem::NoArray))
            }
            Wanted::Key(_) if matches!(reader.peek(), Ok(Token::Array(_))) => {
                let mut values = result.to_data().ok_or(wrong(ArgumentProblem::NoArray))?;
                Ok(DbResult::Value(values.pop()))
            }
            Wanted::Whole(QueryKind::Family) | Wanted::Key(_) | Wanted::Location(_) => {
                let entries = Entries::read(&mut reader)
                    .ok()
                    .flatten()
                    .ok_or(wrong(ArgumentProblem::NoHash))?;
                Ok(match &self.wanted {
                    Wanted::Key(key) => DbResult::Value(entries.get(key).cloned()),
                    Wanted::Location(node) => {
                        DbResult::Value(entries.get(&node_key(node)).cloned())
                    }
                    Wanted::Whole(_) => DbResult::Family(entries),
                })
            }
        }
    }
}
