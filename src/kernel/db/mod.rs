//! The global database in both roles: every node is a slave of some master, and some nodes are global.

mod arguments;
mod database;
mod datum;
mod effect;
mod entries;
mod global;
mod held;
mod later;
mod local;
mod losses;
mod merge;
mod pieces;
mod request;
mod sendable;
#[cfg(test)]
mod testing;
mod transfer;
mod unread;
mod update;

pub use arguments::{ArgumentProblem, MalformedRequest};
pub use database::{Database, DbConfig};
pub use datum::Datum;
pub use effect::{ChangeSet, DbEffect, DbProblem};
pub use entries::{Entries, IntoIter, Iter, Tables};
pub use global::Global;
pub(crate) use global::Question;
pub use later::LaterPackets;
pub use local::{DbAnswer, DbMonitorId, DbResult, InternalFamily, QueryError, QueryId};
pub use merge::{Besides, Change, Merge, OwnerKind};
pub(crate) use pieces::{Piece, Pieces};
pub(crate) use request::Name;
pub use request::{QueryKind, Request};
pub use sendable::{MAX_ENTRY, MAX_ENTRY_NESTING, MAX_FAMILY, SetError, Unsendable};
pub use transfer::PIECE_SIZE;

use crate::value::{NodeId, Str, StrRef};

/// The internal family of the nodes' addresses: node ID -> array of addresses.
pub const LOCATIONS: &str = "'l";

/// The internal family that has a key for each global node.
pub const GLOBALS: &str = "'g";

/// Whether a family is one of the protocol's internal families, which can be read but not written.
pub fn is_internal<'a>(family: impl Into<StrRef<'a>>) -> bool {
    family.into().data().first() == Some(&b'\'')
}

/// A node ID as a key of the database.
fn node_key(node: &NodeId) -> Str {
    node.as_str().to_owned()
}

/// The node that a key of an internal family names, if the key is a valid node ID.
fn node_of(key: &Str) -> Option<NodeId> {
    NodeId::new(key.clone()).ok()
}
