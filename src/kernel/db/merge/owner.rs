//! A node that owns entries of the database, and what they cost it.

use super::super::datum::Datum;
use crate::kernel::{HashMap, HashSet};
use crate::value::{NodeId, Str};
use std::collections::BTreeSet;

/// What a node is to the global node that keeps its database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnerKind {
    /// We are its master (we are our own).
    Slave,
    /// Another global node: its database is the merge of its slaves' databases.
    Global,
    /// Neither: its entries are shown to subscribers, but other global nodes are not told.
    Other,
}

/// A node that owns entries; numbers are used again when a node is removed.
pub(super) type OwnerId = u32;

#[derive(Debug)]
pub(super) struct Owner {
    pub(super) node: NodeId,
    pub(super) kind: OwnerKind,
    /// The keys by family; the strings are shared with the merge.
    pub(super) entries: HashMap<Str, HashSet<Str>>,
    /// How many keys these are.
    pub(super) len: usize,
    /// Octets of these and their values.
    pub(super) octets: usize,
    /// Whether it was lost: nobody deletes what it still has, it is only given up.
    pub(super) is_lost: bool,
    /// Whether it is getting a new database at this time, piece by piece.
    pub(super) is_replaced: bool,
    /// The owner that has what the node had before it began to get a new database.
    pub(super) before: Option<OwnerId>,
}

impl Owner {
    fn new(node: NodeId) -> Self {
        let entries = HashMap::default();
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
    /// Gives a node a number.
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

    /// Forgets a node; its number is used again.
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

/// What an entry costs its owner; the key is the one that is stored, as another one that is equal may
/// have another length.
pub(super) fn entry_octets(key: &Str, value: &Datum) -> usize {
    const BESIDES: usize = 128;
    BESIDES + key.as_ref().data().len() + value.long_octets()
}

/// What has to be known of an owner before its entries are changed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing {
    pub(super) id: OwnerId,
    pub(crate) kind: OwnerKind,
    /// Octets of what it owns.
    pub(crate) octets: usize,
}
