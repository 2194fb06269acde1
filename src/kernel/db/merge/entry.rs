//! One key of the merge: its owners, and which of their values is the merged one.

use super::super::datum::Datum;
use super::owner::{OwnerId, OwnerKind};
use std::collections::{BTreeMap, BTreeSet};

/// A key of the merge. Nearly always it has one owner, whose value is the merged one.
#[derive(Debug)]
pub(super) enum Entry {
    One(OwnerId, Datum),
    Contested(Box<Contested>),
}

/// A key with several owners, indexed so that the next value is found in one step.
#[derive(Debug)]
pub(super) struct Contested {
    pub(super) merged: Datum,
    pub(super) holders: BTreeMap<OwnerId, (u64, Datum)>,
    /// The owners that are our slaves, in the order of their writes.
    pub(super) slaves: BTreeSet<(u64, OwnerId)>,
    /// All other owners, in the order of their writes.
    pub(super) others: BTreeSet<(u64, OwnerId)>,
}

impl Contested {
    pub(super) fn order(&mut self, kind: OwnerKind) -> &mut BTreeSet<(u64, OwnerId)> {
        match kind {
            OwnerKind::Slave => &mut self.slaves,
            OwnerKind::Global | OwnerKind::Other => &mut self.others,
        }
    }

    pub(super) fn latest(&self, order: &BTreeSet<(u64, OwnerId)>) -> Option<&Datum> {
        let (_, owner) = order.last()?;
        self.holders.get(owner).map(|(_, value)| value)
    }

    /// Returns the owner's former value.
    pub(super) fn put(
        &mut self,
        owner: OwnerId,
        kind: OwnerKind,
        serial: u64,
        value: Datum,
    ) -> Option<Datum> {
        let before = self.holders.insert(owner, (serial, value));
        let before = before.map(|(serial, value)| {
            self.order(kind).remove(&(serial, owner));
            value
        });
        self.order(kind).insert((serial, owner));
        before
    }

    /// Removes an owner of any kind, and returns its value.
    pub(super) fn take(&mut self, owner: OwnerId) -> Option<Datum> {
        let (serial, value) = self.holders.remove(&owner)?;
        self.slaves.remove(&(serial, owner));
        self.others.remove(&(serial, owner));
        Some(value)
    }

    /// The entry in the form for a single owner, if only one is left.
    pub(super) fn last_one(&mut self) -> Option<Entry> {
        if self.holders.len() > 1 {
            return None;
        }
        let (owner, (_, value)) = self.holders.pop_first()?;
        Some(Entry::One(owner, value))
    }
}

impl Entry {
    pub(super) fn merged(&self) -> &Datum {
        match self {
            Entry::One(_, value) => value,
            Entry::Contested(contested) => &contested.merged,
        }
    }
}

/// The owners of a key that remain after one has deleted it.
pub(super) enum Remaining {
    /// None.
    Nothing,
    /// A slave of ours.
    Slave {
        /// Its value, if it is not the merged one already.
        merged: Option<Datum>,
        /// Its value, if it is not the one that was sent to other global nodes.
        told: Option<Datum>,
    },
    /// Only other nodes; with the value, if it is not the merged one already.
    Others(Option<Datum>),
}
