//! What the database wants done: plain data, to be carried out in order.

use super::arguments::MalformedRequest;
use super::entries::Entries;
use super::local::{DbAnswer, DbMonitorId, QueryId};
use super::sendable::Unsendable;
use crate::value::{NodeId, Packed, Str};
use std::sync::Arc;
use thiserror::Error;

/// One thing to do; effects are carried out in the order in which they were given.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum DbEffect {
    /// Send a request to the node port of each of these nodes.
    Send {
        /// Connected nodes, never this one.
        to: Arc<[NodeId]>,
        /// The packet: the name of the node port, which is empty, and the request, its name first.
        packet: Packed,
    },
    /// More of the database is to be sent to this node, by
    /// [`Database::has_room`](super::Database::has_room) once there is room for a piece of it.
    AwaitRoom {
        /// A connected node, never this one.
        node: NodeId,
        /// Which transfer goes on then.
        number: u64,
    },
    /// A query is answered, or failed.
    Answer {
        /// Which.
        query: QueryId,
        /// The result.
        answer: DbAnswer,
    },
    /// A monitored family changed.
    Changed {
        /// The monitor.
        monitor: DbMonitorId,
        /// What changed.
        changes: ChangeSet,
    },
    /// The answer to [`Database::find`](super::Database::find).
    Found {
        /// The node that was looked for.
        node: NodeId,
        /// Its addresses; `None` if none are known.
        addresses: Option<Vec<Str>>,
    },
    /// A connection to this node is to be kept from now on: it is a global node, and so are we.
    KeepAlive(NodeId),
    /// A connection to this node need not be kept any longer.
    KeepAliveNoMore(NodeId),
    /// A connected node's addresses came into the database.
    Located(NodeId),
    /// A connected node's addresses are in nobody's database any more.
    Unlocated(NodeId),
    /// A node that is neither global nor our slave talks to us as if we were its master: surely an
    /// orphan (docs/protocol.md §7.1).
    Orphan {
        /// The node.
        node: NodeId,
        /// What it sent.
        request: &'static str,
    },
    /// Another global node speaks for a node that is our slave: one of us has a stale copy
    /// (docs/protocol.md §7.2).
    Conflict {
        /// Our slave.
        node: NodeId,
        /// The other global node.
        other: NodeId,
    },
    /// Something for the log.
    Problem {
        /// Whose request it was.
        from: NodeId,
        /// What was wrong.
        problem: DbProblem,
    },
}

/// Why a peer's request was not carried out, or only in part.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DbProblem {
    /// It makes no sense.
    #[error("{0}; nothing of it was applied")]
    Malformed(#[from] MalformedRequest),
    /// It is for global nodes only.
    #[error("request {0} ignored: this node is not global")]
    NotGlobal(&'static str),
    /// It is for our slaves only.
    #[error("request {0} ignored: it comes from a global node")]
    FromGlobal(&'static str),
    /// It is for other global nodes only.
    #[error("request {0} comes from a node that did not say that it is global")]
    NotFromGlobal(&'static str),
    /// The sender is at one of its limits; deletions were carried out.
    #[error("request {0} refused: this node keeps too much for its sender already ({1})")]
    TooMuch(&'static str, &'static str),
    /// Entries could not be sent on; all others of the request were taken.
    #[error("request {0} refused in part: {1}")]
    Unsendable(&'static str, Unsendable),
    /// Only the master may send it.
    #[error("request {0} ignored: it does not come from our master")]
    NotFromMaster(&'static str),
}

/// How a monitored family changed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ChangeSet {
    /// Which family.
    pub family: Str,
    /// Whether this is the first report of its monitor: the whole content, as added.
    pub initial: bool,
    /// Keys that were not there before.
    pub added: Entries,
    /// Keys that have a new value.
    pub changed: Entries,
    /// Keys that are gone.
    pub deleted: Vec<Str>,
}

impl ChangeSet {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.deleted.is_empty()
    }
}
