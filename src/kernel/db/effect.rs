//! The outputs of the database: plain data, carried out in order.

use super::arguments::MalformedRequest;
use super::entries::Entries;
use super::later::LaterPackets;
use super::local::{DbAnswer, DbMonitorId, QueryId};
use super::sendable::Unsendable;
use crate::value::{NodeId, Packed, Str};
use std::sync::Arc;
use thiserror::Error;

/// An output of the database. Effects are carried out in the order in which they were emitted.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum DbEffect {
    /// Send a request to the node port of each of these nodes.
    Send {
        /// Connected nodes, never this one.
        to: Arc<[NodeId]>,
        /// The packet: the node port's name, which is empty, then the name and the arguments of the
        /// request.
        packet: Packed,
    },
    /// Send large packets: append them to what is sent to the node now, but make them later
    /// ([`LaterPackets::into_packets`]).
    SendLater {
        /// A connected node, never this one.
        to: NodeId,
        /// The packets.
        packets: Box<LaterPackets>,
    },
    /// More of the database, or changes that are held back, have to be sent to this node: call
    /// [`Database::has_room`](super::Database::has_room) when its connection has room for a piece.
    AwaitRoom {
        /// A connected node, never this one.
        node: NodeId,
        /// Which of the two it is, passed back to `has_room`.
        number: u64,
    },
    /// A query was answered, or has failed.
    Answer {
        /// The query.
        query: QueryId,
        /// The result.
        answer: DbAnswer,
    },
    /// A monitored family changed.
    Changed {
        /// The monitor.
        monitor: DbMonitorId,
        /// The changes.
        changes: ChangeSet,
    },
    /// The answer to [`Database::find`](super::Database::find).
    Found {
        /// The node that was looked for.
        node: NodeId,
        /// Its addresses; `None` if none are known.
        addresses: Option<Vec<Str>>,
    },
    /// Keep a connection to this node from now on: it is global, as this node is.
    KeepAlive(NodeId),
    /// A connection to this node need not be kept any longer.
    KeepAliveNoMore(NodeId),
    /// A connected node's addresses were added to the database.
    Located(NodeId),
    /// No node announces a connected node's addresses any more.
    Unlocated(NodeId),
    /// A node that is neither global nor our slave sends requests that are meant for its master. It has
    /// probably lost its master without noticing (docs/protocol.md §7.1).
    Orphan {
        /// The node.
        node: NodeId,
        /// The name of its request.
        request: &'static str,
    },
    /// Another global node announces entries of our slave: one of the two has an outdated copy
    /// (docs/protocol.md §7.2).
    Conflict {
        /// Our slave.
        node: NodeId,
        /// The other global node.
        other: NodeId,
    },
    /// A warning for the log.
    Problem {
        /// The sender of the request.
        from: NodeId,
        /// The problem.
        problem: DbProblem,
    },
}

/// Why a peer's request was refused, or carried out only in part.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DbProblem {
    /// It is malformed.
    #[error("{0}; nothing of it was applied")]
    Malformed(#[from] MalformedRequest),
    /// Only global nodes handle it.
    #[error("request {0} ignored: this node is not global")]
    NotGlobal(&'static str),
    /// Only slaves may send it.
    #[error("request {0} ignored: it comes from a global node")]
    FromGlobal(&'static str),
    /// Only global nodes may send it.
    #[error("request {0} comes from a node that did not say that it is global")]
    NotFromGlobal(&'static str),
    /// The sender is at one of its limits. Deletions were carried out.
    #[error("request {0} refused: this node keeps too much for its sender already ({1})")]
    TooMuch(&'static str, &'static str),
    /// Some entries are too large to be sent on; all others were set.
    #[error("request {0} refused in part: {1}")]
    Unsendable(&'static str, Unsendable),
    /// Only the master may send it.
    #[error("request {0} ignored: it does not come from our master")]
    NotFromMaster(&'static str),
}

/// How a monitored family changed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ChangeSet {
    /// The family.
    pub family: Str,
    /// Whether this is the first report of the monitor: its `added` is the whole content.
    pub initial: bool,
    /// Keys that did not exist before.
    pub added: Entries,
    /// Keys that have a new value.
    pub changed: Entries,
    /// Keys that were deleted.
    pub deleted: Vec<Str>,
}

impl ChangeSet {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.deleted.is_empty()
    }
}
