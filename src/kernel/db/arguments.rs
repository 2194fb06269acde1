//! Parsing of the arguments of database requests.

use super::datum::{Datum, token_to_str};
use super::entries::{Entries, Tables};
use super::pieces::{Changes, Replaces};
use super::request::{Name, Request};
use super::unread::Unread;
use super::{LOCATIONS, node_of};
use crate::value::packed::{Elements, Malformed, Reader, Token};
use crate::value::{NodeId, Str, StrRef};
use thiserror::Error;

/// A malformed request of a peer; nothing of it was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("malformed request {request}: {argument} {problem}")]
pub struct MalformedRequest {
    /// The name of the request.
    pub request: &'static str,
    /// The malformed argument.
    pub argument: &'static str,
    /// What is wrong with it.
    pub problem: ArgumentProblem,
}

/// The fault of a malformed argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ArgumentProblem {
    /// It is not there.
    #[error("is missing")]
    Missing,
    /// A string was expected.
    #[error("is not a string")]
    NoString,
    /// A node ID was expected.
    #[error("is not a node ID")]
    NoNodeId,
    /// A hash was expected.
    #[error("is not a hash")]
    NoHash,
    /// An array was expected.
    #[error("is not an array")]
    NoArray,
    /// An array of strings was expected.
    #[error("is not an array of strings")]
    NoStrings,
    /// It is part of the answer, and has more than 64 KiB.
    #[error("is longer than 64 KiB")]
    TooLong,
    /// Its octets are not in packed form.
    #[error("is not in packed form")]
    NotPacked,
}

/// The maximum octets of what an answer repeats, since it is copied while others wait: IDs of queries and of
/// nodes.
const MAX_REPEATED: usize = 64 << 10;

/// An array of strings or numbers; `None` if it is anything else.
fn strings(reader: &mut Reader<'_>) -> Result<Option<Vec<Str>>, Malformed> {
    let Token::Array(len) = reader.token()? else {
        return Ok(None);
    };
    let mut strings = Vec::new();
    for _ in 0..len {
        let Some(string) = token_to_str(reader.token()?) else {
            return Ok(None);
        };
        strings.push(string);
    }
    Ok(Some(strings))
}

/// A checked request, as it is divided into pieces.
pub(super) enum Divided {
    /// It is not divided.
    Whole(Request),
    /// `g_slave` with a database, or `g_set`.
    Tables {
        what: Replaces,
        families: Unread,
        /// Whether it has the sender's addresses.
        located: bool,
    },
    /// `g_upd` or `g_chg2`.
    Changes { changes: Changes, family: Str, set: Unread, delete: Unread },
}

/// Whether a token is this string. No internal family and no node ID is a number.
fn is(token: Token<'_>, string: StrRef<'_>) -> bool {
    matches!(token, Token::Str(held) if held == string)
}

/// Whether the value is what a node announces as its addresses.
fn is_location(value: &Datum) -> bool {
    value.is_undef() || value.to_strings().is_some()
}

/// The arguments of a request.
pub(super) struct Arguments<'a> {
    request: Name,
    reader: Reader<'a>,
    left: usize,
}

impl<'a> Arguments<'a> {
    pub(super) fn new(request: Name, arguments: Elements<'a>) -> Self {
        Arguments { request, reader: arguments.reader(), left: arguments.len() }
    }

    pub(super) fn parse(mut self) -> Result<Request, MalformedRequest> {
        let request = match self.request {
            Name::Slave if self.left == 0 => Request::Slave(None),
            Name::Slave => {
                let tables = self.tables("database")?;
                if let Some(locations) = tables.get(&Str::text(LOCATIONS)) {
                    self.check_locations(locations)?;
                }
                Request::Slave(Some(tables))
            }
            // Malformed locations are skipped, not refused: a bad entry of one node must not hide the
            // entries of all other nodes that this global node sends.
            Name::Set => Request::Set(self.tables("database")?),
            Name::Update => {
                let family = self.string("family")?;
                let set = self.entries_or_null("set")?;
                let delete = self.strings_or_null("keys to delete")?;
                if let Some(set) = &set
                    && family == *LOCATIONS
                {
                    self.check_locations(set)?;
                }
                Request::Update { family, set, delete }
            }
            Name::Find => Request::Find(self.node()?),
            Name::Found => {
                Request::Found { node: self.node()?, addresses: self.strings_or_null("addresses")? }
            }
            Name::Reply => Request::Reply { id: self.datum("id")?, result: self.datum("result")? },
            Name::Monitor => Request::Monitor(self.string("family")?),
            Name::Unmonitor => Request::Unmonitor(self.string("family")?),
            Name::Family => Request::Family {
                family: self.string("family")?,
                content: self.entries_or_null("content")?,
            },
            Name::Changed => Request::Changed {
                family: self.string("family")?,
                set: self.entries_or_null("set")?.unwrap_or_default(),
                delete: self.strings_or_null("keys to delete")?.unwrap_or_default(),
            },
            Name::Get => Request::Get {
                family: self.string("family")?,
                key: self.string("key")?,
                id: self.query_id()?,
            },
            Name::Global => Request::Global,
            Name::Query(kind) => {
                Request::Query { kind, family: self.string("family")?, id: self.query_id()? }
            }
        };
        Ok(request)
    }

    /// As [`Arguments::parse`], but what the request sets and deletes is only checked. `own` is the
    /// sender's key in the family of addresses.
    pub(super) fn divide(mut self, own: StrRef<'_>) -> Result<Divided, MalformedRequest> {
        let what = match self.request {
            Name::Slave if self.left > 0 => Replaces::OfSlave,
            Name::Set => Replaces::OfGlobal,
            Name::Update => return self.divide_changes(Changes::Update),
            Name::Changed => return self.divide_changes(Changes::Changed),
            _ => return self.parse().map(Divided::Whole),
        };
        let (mut located, mut all_fine) = (false, true);
        let families = self.next("database", |reader| {
            Unread::tables(reader, |family, key, value| {
                if is(family, StrRef::text(LOCATIONS)) {
                    located |= is(key, own);
                    all_fine &= is_location(&Datum::trusted(value));
                }
            })
        })?;
        let families = families
            .ok_or(self.wrong("database", ArgumentProblem::Missing))?
            .ok_or(self.wrong("database", ArgumentProblem::NoHash))?;
        match what {
            Replaces::OfSlave if !all_fine => Err(self.wrong_addresses()),
            Replaces::OfSlave | Replaces::OfGlobal => {
                Ok(Divided::Tables { what, families, located })
            }
        }
    }

    fn divide_changes(mut self, changes: Changes) -> Result<Divided, MalformedRequest> {
        let family = self.string("family")?;
        let has_locations = self.request == Name::Update && family == *LOCATIONS;
        let mut all_fine = true;
        let set = self.or_null("set", ArgumentProblem::NoHash, |reader| {
            Unread::entries(reader, |_, value| {
                all_fine &= !has_locations || is_location(&Datum::trusted(value));
            })
        })?;
        let no_strings = ArgumentProblem::NoStrings;
        let delete = self.or_null("keys to delete", no_strings, Unread::strings)?;
        if !all_fine {
            return Err(self.wrong_addresses());
        }
        let (set, delete) = (set.unwrap_or_default(), delete.unwrap_or_default());
        Ok(Divided::Changes { changes, family, set, delete })
    }

    fn wrong_addresses(&self) -> MalformedRequest {
        self.wrong("addresses", ArgumentProblem::NoStrings)
    }

    fn wrong(&self, argument: &'static str, problem: ArgumentProblem) -> MalformedRequest {
        MalformedRequest { request: self.request.as_str(), argument, problem }
    }

    /// Reads one argument; `None` if there are no more.
    fn next<T>(
        &mut self,
        argument: &'static str,
        read: impl FnOnce(&mut Reader<'_>) -> Result<T, Malformed>,
    ) -> Result<Option<T>, MalformedRequest> {
        let Some(left) = self.left.checked_sub(1) else {
            return Ok(None);
        };
        self.left = left;
        match read(&mut self.reader) {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(self.wrong(argument, ArgumentProblem::NotPacked)),
        }
    }

    fn datum(&mut self, argument: &'static str) -> Result<Datum, MalformedRequest> {
        self.next(argument, |reader| Ok(Datum::trusted(reader.skip()?)))?
            .ok_or(self.wrong(argument, ArgumentProblem::Missing))
    }

    /// The ID of a query, which the answer repeats.
    fn query_id(&mut self) -> Result<Datum, MalformedRequest> {
        let id = self.datum("id")?;
        match id.octets().len() {
            ..=MAX_REPEATED => Ok(id),
            _ => Err(self.wrong("id", ArgumentProblem::TooLong)),
        }
    }

    fn string(&mut self, argument: &'static str) -> Result<Str, MalformedRequest> {
        self.next(argument, |reader| Ok(token_to_str(reader.token()?)))?
            .ok_or(self.wrong(argument, ArgumentProblem::Missing))?
            .ok_or(self.wrong(argument, ArgumentProblem::NoString))
    }

    fn node(&mut self) -> Result<NodeId, MalformedRequest> {
        let node = self.string("node")?;
        if node.as_ref().data().len() > MAX_REPEATED {
            return Err(self.wrong("node", ArgumentProblem::TooLong));
        }
        node_of(&node).ok_or(self.wrong("node", ArgumentProblem::NoNodeId))
    }

    fn entries_or_null(
        &mut self,
        argument: &'static str,
    ) -> Result<Option<Entries>, MalformedRequest> {
        self.or_null(argument, ArgumentProblem::NoHash, Entries::read)
    }

    fn strings_or_null(
        &mut self,
        argument: &'static str,
    ) -> Result<Option<Vec<Str>>, MalformedRequest> {
        self.or_null(argument, ArgumentProblem::NoStrings, strings)
    }

    /// Reads an argument that may be null or missing.
    fn or_null<T>(
        &mut self,
        argument: &'static str,
        otherwise: ArgumentProblem,
        read: impl FnOnce(&mut Reader<'_>) -> Result<Option<T>, Malformed>,
    ) -> Result<Option<T>, MalformedRequest> {
        let value = self.next(argument, |reader| {
            if reader.peek()? == Token::Undef {
                reader.token()?;
                return Ok(Some(None));
            }
            Ok(read(reader)?.map(Some))
        })?;
        match value {
            None => Ok(None),
            Some(Some(value)) => Ok(value),
            Some(None) => Err(self.wrong(argument, otherwise)),
        }
    }

    fn tables(&mut self, argument: &'static str) -> Result<Tables, MalformedRequest> {
        let tables = self.next(argument, |reader| {
            let Token::Hash(len) = reader.token()? else {
                return Ok(None);
            };
            let mut tables = Tables::new();
            for _ in 0..len {
                let Some(family) = token_to_str(reader.token()?) else {
                    return Ok(None);
                };
                let Some(entries) = Entries::read(reader)? else {
                    return Ok(None);
                };
                // A family that comes twice has the entries of both, as when they come in pieces.
                tables.entry(family).or_default().extend(entries);
            }
            Ok(Some(tables))
        })?;
        tables
            .ok_or(self.wrong(argument, ArgumentProblem::Missing))?
            .ok_or(self.wrong(argument, ArgumentProblem::NoHash))
    }

    fn check_locations(&self, locations: &Entries) -> Result<(), MalformedRequest> {
        match locations.values().all(is_location) {
            true => Ok(()),
            false => Err(self.wrong_addresses()),
        }
    }
}
