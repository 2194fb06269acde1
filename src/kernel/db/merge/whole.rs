//! Whole databases of nodes: replaced, deleted in pieces, and collected for another global node.

use super::super::datum::Datum;
use super::super::entries::{Entries, Tables};
use super::super::pieces::{KEYS_PER_PIECE, Room};
use super::super::transfer::Source;
use super::entry::Entry;
use super::owner::{OwnerId, OwnerKind};
use super::{Change, Merge};
use crate::kernel::table::{Cursor, Table};
use crate::value::{NodeId, Str};
use std::collections::BTreeMap;

/// The maximum number of keys that are deleted at once when a node is lost; more are deleted in pieces
/// ([`Merge::give_up_some`]).
const IMMEDIATE_LOSS_LIMIT: usize = KEYS_PER_PIECE;

/// The octets of entries after which no more are deleted at once: to free the memory of large values
/// takes time, too.
const OCTETS_AT_ONCE: usize = 1 << 20;

/// A family, and some of its keys.
type FamilyKeys = (Str, Vec<Str>);

impl Merge {
    /// `node` begins to send a new database in pieces. Its present entries stay until
    /// [`Merge::replaced`].
    pub(crate) fn begin_to_replace(&mut self, node: &NodeId) {
        let id = self.id(node);
        let Some(owner) = self.owners.get_mut(id) else { return };
        if owner.len == 0 {
            owner.is_replaced = true;
            return;
        }
        let kind = owner.kind;
        self.ids.remove(node);
        let new = self.id(node);
        if let Some(owner) = self.owners.get_mut(new) {
            owner.kind = kind;
            owner.is_replaced = true;
            owner.before = Some(id);
        }
    }

    /// Whether `node` is sending a new database.
    pub(crate) fn is_being_replaced(&self, node: &NodeId) -> bool {
        let owner = self.ids.get(node).and_then(|&id| self.owners.get(id));
        owner.is_some_and(|owner| owner.is_replaced)
    }

    /// The new database of `node` is complete: its former entries that are not part of it are deleted.
    pub(crate) fn replaced(&mut self, node: &NodeId) {
        let owner = self.ids.get(node).and_then(|&id| self.owners.get_mut(id));
        if let Some(owner) = owner {
            owner.is_replaced = false;
            self.abandoned.extend(owner.before.take());
        }
    }

    /// Whether [`Merge::give_up_some`] has something to do.
    pub(crate) fn is_giving_up(&self) -> bool {
        !self.abandoned.is_empty() || self.nodes_of_lost().is_some()
    }

    /// Deletes some keys of nodes that were removed or lost, or whose database was replaced.
    pub(crate) fn give_up_some(&mut self) -> Vec<(Str, Change)> {
        let mut changes = Vec::new();
        let mut room = Room::new(OCTETS_AT_ONCE);
        while room.is_left()
            && let Some((id, families)) = self.next_to_give_up(&mut room)
        {
            for (family, mut keys) in families {
                keys.sort_unstable();
                let change = self.update_of(id, &family, Entries::new(), keys);
                changes.push((family, change));
            }
        }
        changes
    }

    /// Some keys of one owner, by family, in one pass: to look for one family after another in a map that
    /// becomes empty takes the time for all of its capacity each time.
    fn next_to_give_up(&mut self, room: &mut Room) -> Option<(OwnerId, Vec<FamilyKeys>)> {
        while let Some(&id) = self.abandoned.front() {
            let mut families: Vec<FamilyKeys> = Vec::new();
            for (family, keys) in self.owners.get(id).into_iter().flat_map(|owner| &owner.entries) {
                if !room.is_left() {
                    break;
                }
                families.push((family.clone(), self.some_of(family, keys, room)));
            }
            if !families.is_empty() {
                return Some((id, families));
            }
            self.abandoned.pop_front();
            self.forget_owner(id);
        }
        let (id, family) = self.nodes_of_lost()?;
        let keys = self.some_of(&family, self.owners.get(id)?.entries.get(&family)?, room);
        Some((id, vec![(family, keys)]))
    }

    /// Some of an owner's keys of a family, for which there is room.
    fn some_of(&self, family: &Str, owned: &Table<Str, ()>, room: &mut Room) -> Vec<Str> {
        let keys = self.families.get(family);
        let mut some = Vec::new();
        for key in owned.keys() {
            if !room.is_left() {
                break;
            }
            let entry = keys.and_then(|keys| keys.entries.get(key));
            room.take(entry.map_or(0, |entry| entry.merged().long_octets()));
            some.push(key.clone());
        }
        some
    }

    pub(super) fn forget_owner(&mut self, id: OwnerId) {
        self.owners.remove(id);
    }

    /// As [`Merge::begin_to_replace`], if `node` has too much to be replaced at once.
    pub(crate) fn begin_to_replace_much(&mut self, node: &NodeId) {
        if self.is_much(node) {
            self.begin_to_replace(node);
        }
    }

    /// Whether `node` owns too much for all of it to be deleted at once.
    fn is_much(&self, node: &NodeId) -> bool {
        self.owned(node) > IMMEDIATE_LOSS_LIMIT || self.octets_of(node) > OCTETS_AT_ONCE
    }

    /// Replaces the database of `node`. Entries that are not in `tables` are deleted: at once if they
    /// are few, in pieces otherwise.
    pub fn replace(&mut self, node: &NodeId, tables: Tables) -> Vec<(Str, Change)> {
        self.begin_to_replace_much(node);
        if self.is_being_replaced(node) {
            let id = self.id(node);
            let update = |(family, set)| {
                let change = self.update_of(id, &family, set, Vec::new());
                (family, change)
            };
            let changes = tables.into_iter().map(update).collect();
            self.replaced(node);
            return changes;
        }
        let mut missing: BTreeMap<Str, Vec<Str>> = BTreeMap::new();
        if let Some(owner) = self.ids.get(node).and_then(|&id| self.owners.get(id)) {
            for (family, owned) in &owner.entries {
                let kept = tables.get(family);
                let is_kept = |key: &&Str| kept.is_some_and(|entries| entries.contains(key));
                let mut keys: Vec<Str> =
                    owned.keys().filter(|key| !is_kept(key)).cloned().collect();
                if !keys.is_empty() {
                    keys.sort_unstable();
                    missing.insert(family.clone(), keys);
                }
            }
        }
        let mut updates: BTreeMap<Str, (Entries, Vec<Str>)> =
            tables.into_iter().map(|(family, entries)| (family, (entries, Vec::new()))).collect();
        for (family, keys) in missing {
            updates.entry(family).or_default().1 = keys;
        }
        let id = self.id(node);
        updates
            .into_iter()
            .map(|(family, (set, delete))| {
                let change = self.update_of(id, &family, set, delete);
                (family, change)
            })
            .collect()
    }

    /// Removes a node and its database, family by family: at once if it is small, in pieces otherwise.
    pub fn remove(&mut self, node: &NodeId) -> Vec<(Str, Change)> {
        let Some(&id) = self.ids.get(node) else {
            return Vec::new();
        };
        if let Some(owner) = self.owners.get_mut(id) {
            owner.is_lost = true;
        }
        let changes = match self.is_much(node) {
            true => Vec::new(),
            false => self.replace(node, Tables::new()),
        };
        self.ids.remove(node);
        let before = self.owners.get_mut(id).and_then(|owner| owner.before.take());
        self.abandoned.extend(before);
        match self.owners.get(id) {
            Some(owner) if owner.len > 0 => self.abandoned.push_back(id),
            _ => self.forget_owner(id),
        }
        changes
    }

    /// The value of a key at our slaves, for another global node.
    pub(crate) fn value_of_slaves(&self, family: &Str, key: &Str) -> Option<&Datum> {
        self.value_in(self.families.get(family)?.entries.get(key)?)
    }

    fn value_in<'a>(&self, entry: &'a Entry) -> Option<&'a Datum> {
        match entry {
            Entry::One(owner, value) => (self.kind_of(*owner) == OwnerKind::Slave).then_some(value),
            Entry::Contested(contested) => contested.latest(&contested.slaves),
        }
    }
}

/// What our slaves (ourselves included) have, for another global node.
impl Source for Merge {
    fn families(&self, from: &mut Cursor) -> Vec<Str> {
        self.families.next_leaf(from).map(|(family, _)| family.clone()).collect()
    }

    fn keys(&self, family: &Str, from: &mut Cursor) -> Vec<Str> {
        let Some(keys) = self.families.get(family) else {
            *from = Cursor::END;
            return Vec::new();
        };
        keys.entries.next_leaf(from).map(|(key, _)| key.clone()).collect()
    }

    fn value(&self, family: &Str, key: &Str) -> Option<&Datum> {
        self.value_of_slaves(family, key)
    }
}
