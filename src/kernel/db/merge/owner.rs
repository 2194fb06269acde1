//! A node that owns entries of the database, and the octets they count.

use super::super::datum::Datum;
use crate::kernel::table::Table;
use crate::value::{NodeId, Str};
use std::collections::BTreeSet;

/// The role of a node, seen by the global node that keeps its entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnerKind {
    /// Our slave; we are our own slave.
    Slave,
    /// Another global node, whose database is the merge of its slaves' databases.
    Global,
    /// Neither: its entries are visible to subscribers, but are not sent to other global nodes.
    Other,
}

/// The number of a node that owns entries. Numbers of removed nodes are reused.
pub(super) type OwnerId = u32;

#[derive(Debug)]
pub(super) struct Owner {
    pub(super) node: NodeId,
    pub(super) kind: OwnerKind,
    /// The keys by family; the strings are shared with the merge.
    pub(super) entries: Table<Str, Table<Str, ()>>,
    /// The number of keys.
    pub(super) len: usize,
    /// Octets of keys and values.
    pub(super) octets: usize,
    /// Whether the node is lost: its remaining entries can only be removed, not changed.
    pub(super) is_lost: bool,
    /// Whether it is sending a new database, piece by piece.
    pub(super) is_replaced: bool,
    /// The owner that keeps the node's former entries until the new database is complete.
    pub(super) before: Option<OwnerId>,
}

impl Owner {
    fn new(node: NodeId) -> Self {
        let entries = Table::default();
        Owner {
            node,
            kind: OwnerKind::Other,
            entries,
            len: 0,
            octets: 0,
            is_lost: false,
            is_replaced: false,
            before: None,
        }
    }
}

/// The nodes that own entries, by number.
#[derive(Debug, Default)]
pub(super) struct Owners {
    by_id: Vec<Option<Owner>>,
    unused: BTreeSet<OwnerId>,
}

impl Owners {
    /// Adds a node, and returns its number.
    pub(super) fn add(&mut self, node: NodeId) -> OwnerId {
        let owner = Some(Owner::new(node));
        if let Some(id) = self.unused.pop_first()
            && let Some(place) = self.by_id.get_mut(id as usize)
        {
            *place = owner;
            return id;
        }
        self.by_id.push(owner);
        (self.by_id.len() - 1) as OwnerId
    }

    /// Removes a node; its number will be reused.
    pub(super) fn remove(&mut self, id: OwnerId) {
        if let Some(place) = self.by_id.get_mut(id as usize)
            && place.take().is_some()
        {
            self.unused.insert(id);
        }
    }

    pub(super) fn get(&self, id: OwnerId) -> Option<&Owner> {
        self.by_id.get(id as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: OwnerId) -> Option<&mut Owner> {
        self.by_id.get_mut(id as usize)?.as_mut()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Owner> {
        self.by_id.iter().flatten()
    }
}

/// The octets that an entry counts. `key` is the stored string, since an equal one may have another
/// length.
pub(super) fn entry_octets(key: &Str, value: &Datum) -> usize {
    const OVERHEAD: usize = 128;
    OVERHEAD + key.as_ref().data().len() + value.long_octets()
}

/// The status of an owner, looked up before its entries are changed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OwnerStatus {
    pub(super) id: OwnerId,
    pub(crate) kind: OwnerKind,
    /// Octets of its entries.
    pub(crate) octets: usize,
}
