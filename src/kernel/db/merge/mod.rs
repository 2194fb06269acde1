//! The databases of many nodes and their merge, indexed by key and by owner (docs/protocol.md §5.2).
//!
//! The cost of a change is proportional to the change, and that of a node's loss to its entries, however
//! many other nodes there are.

mod change;
mod entry;
mod owner;
mod reading;
mod unclaimed;
mod whole;

pub use change::{Besides, Change};
pub use owner::OwnerKind;
pub(crate) use owner::OwnerStatus;
pub(crate) use reading::{Content, Progress, Reading};

use super::datum::Datum;
use super::entries::Entries;
use super::sendable::{
    self, FamilySize, MAX_FAMILY, Unsendable, entry_sent_at_most, string_sent_at_most,
};
use super::update::{Key, Update, Value};
use crate::kernel::HashMap;
use crate::kernel::table::{Place, Table};
use crate::value::{NodeId, Str, StrRef};
use entry::{Contested, Entry, Remaining};
use owner::{OwnerId, Owners, entry_octets};
use reading::Watched;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use unclaimed::{Lost, claim, strike};

/// The largest number of keys that are told in order. To sort more of them takes longer than to send them,
/// and the order has no meaning.
const MAX_SORTED: usize = 10_000;

/// The databases of slaves and of other global nodes, and their merge.
#[derive(Debug, Default)]
pub struct Merge {
    families: Table<Str, Keys>,
    /// An upper bound for the packet size of every family so far, in octets.
    fullest: usize,
    ids: HashMap<NodeId, OwnerId>,
    owners: Owners,
    /// Removed owners whose keys have not all been deleted yet.
    abandoned: VecDeque<OwnerId>,
    /// Recently lost global nodes, the latest last.
    unclaimed: Vec<Lost>,
    serial: u64,
    operations: u64,
    /// Families that are being read.
    watched: BTreeMap<u64, Watched>,
    last_reading: u64,
}

/// The keys of a family.
#[derive(Debug)]
struct Keys {
    entries: Table<Str, Entry>,
    /// The size of the merged values.
    size: FamilySize,
}

impl Merge {
    /// An empty database.
    pub fn new() -> Self {
        Merge::default()
    }

    /// The number of entries that all updates have examined so far: a measure of work without a clock.
    pub const fn operations(&self) -> u64 {
        self.operations
    }

    /// The merged value of a key.
    pub fn get(&self, family: &Str, key: &Str) -> Option<&Datum> {
        self.families.get(family)?.entries.get(key).map(Entry::merged)
    }

    /// The families in order.
    pub fn families(&self) -> impl Iterator<Item = &Str> {
        let mut families: Vec<_> = self.families.keys().collect();
        families.sort_unstable();
        families.into_iter()
    }

    /// The merged content of a family, in order of keys unless there are more than [`MAX_SORTED`].
    pub fn family(&self, family: &Str) -> impl Iterator<Item = (&Str, &Datum)> + use<'_> {
        let keys = self.families.get(family).into_iter().flat_map(|keys| &keys.entries);
        let mut entries: Vec<_> = keys.map(|(key, entry)| (key, entry.merged())).collect();
        if entries.len() <= MAX_SORTED {
            entries.sort_unstable_by_key(|(key, _)| *key);
        }
        entries.into_iter()
    }

    /// How many keys a family has.
    pub fn family_len(&self, family: &Str) -> usize {
        self.families.get(family).map_or(0, |keys| keys.entries.len())
    }

    /// The nodes that own a key, in no particular order.
    pub fn holders(&self, family: &Str, key: &Str) -> impl Iterator<Item = &NodeId> {
        let entry = self.families.get(family).and_then(|keys| keys.entries.get(key));
        let (one, many) = match entry {
            Some(Entry::One(owner, _)) => (Some(owner), None),
            Some(Entry::Contested(contested)) => (None, Some(contested.holders.keys())),
            None => (None, None),
        };
        one.into_iter()
            .chain(many.into_iter().flatten())
            .filter_map(|id| self.owners.get(*id).map(|owner| (id, &owner.node)))
            // Not those that are being forgotten.
            .filter(|(id, node)| self.ids.get(*node) == Some(*id))
            .map(|(_, node)| node)
    }

    /// What `node` is, if it is known.
    pub fn kind(&self, node: &NodeId) -> Option<OwnerKind> {
        Some(self.owners.get(*self.ids.get(node)?)?.kind)
    }

    /// The nodes that are known, in no particular order.
    pub fn owners(&self) -> impl Iterator<Item = &NodeId> {
        self.ids.keys()
    }

    /// How many entries `node` owns.
    pub fn owned(&self, node: &NodeId) -> usize {
        let owner = self.ids.get(node).and_then(|&id| self.owners.get(id));
        owner.map_or(0, |owner| owner.len)
    }

    /// Octets of what `node` owns.
    pub fn octets_of(&self, node: &NodeId) -> usize {
        let owner = self.ids.get(node).and_then(|&id| self.owners.get(id));
        owner.map_or(0, |owner| owner.octets)
    }

    /// Octets of the entries of all nodes.
    pub fn octets(&self) -> usize {
        self.owners.iter().map(|owner| owner.octets).sum()
    }

    /// Changes the kind of `node`. Its entries are kept, and nobody is told.
    pub fn set_kind(&mut self, node: &NodeId, kind: OwnerKind) {
        let id = self.id(node);
        let Some(owner) = self.owners.get_mut(id) else {
            return;
        };
        let before = std::mem::replace(&mut owner.kind, kind);
        if (before == OwnerKind::Slave) == (kind == OwnerKind::Slave) {
            return;
        }
        for (family, owned) in &owner.entries {
            let Some(keys) = self.families.get_mut(family) else { continue };
            for key in owned.keys() {
                if let Some(Entry::Contested(contested)) = keys.entries.get_mut(key)
                    && let Some(&(serial, _)) = contested.holders.get(&id)
                {
                    contested.order(before).remove(&(serial, id));
                    contested.order(kind).insert((serial, id));
                }
            }
        }
    }

    /// Changes one family of `node`'s database. Keys are set before keys are deleted. A node that is not
    /// known becomes [`OwnerKind::Other`]. The keys that are set are part of the returned change.
    pub fn update(&mut self, node: &NodeId, family: Str, set: Entries, delete: Vec<Str>) -> Change {
        let id = self.id(node);
        self.update_of(id, &family, set, delete)
    }

    fn update_of(
        &mut self,
        id: OwnerId,
        family: &Str,
        mut set: Entries,
        mut delete: Vec<Str>,
    ) -> Change {
        let owner = OwnerStatus { id, kind: self.kind_of(id), octets: 0 };
        let mut change = self.apply(owner, Update::of(family, &mut set, &mut delete));
        if !set.is_empty() {
            let besides = change.besides.get_or_insert_default();
            set.extend(std::mem::take(&mut besides.set));
            besides.set = set;
        }
        change
    }

    /// Changes one family of a node's database.
    pub(crate) fn apply(&mut self, owner: OwnerStatus, update: Update<'_>) -> Change {
        let OwnerStatus { id, kind, .. } = owner;
        let Update { family, set, delete } = update;
        let mut change = Change::default();
        set.each(|key, value| {
            if self.set(id, kind, family, key, value.to_datum()) {
                let besides = change.besides.get_or_insert_default();
                besides.taken_over.insert(key.to_str());
            }
        });
        for key in delete {
            let left = self.delete(id, kind, family.string(), key);
            let besides = change.besides.get_or_insert_default();
            match left {
                Remaining::Slave { merged: Some(value), .. } => {
                    besides.set.insert(key.clone(), value);
                }
                Remaining::Slave { told: Some(value), .. } => {
                    besides.set_for_globals.insert(key.clone(), value);
                }
                Remaining::Slave { merged: None, told: None } => {}
                Remaining::Others(value) => {
                    if let Some(value) = value {
                        besides.set_for_subscribers.insert(key.clone(), value);
                    }
                    besides.deletions_for_globals.push(key.clone());
                }
                Remaining::Nothing => {
                    if kind == OwnerKind::Slave {
                        besides.deletions_for_globals.push(key.clone());
                    }
                    besides.deletions_for_subscribers.push(key.clone());
                }
            }
        }
        if !self.watched.is_empty() {
            self.note_change(update);
        }
        let is_empty = |keys: &Keys| keys.entries.is_empty();
        if !delete.is_empty() && self.families.get(&family.string()).is_some_and(is_empty) {
            self.families.remove(&family.string());
        }
        change.tell_globals = kind == OwnerKind::Slave
            && !(set.is_empty()
                && change.set.is_empty()
                && change.set_for_globals.is_empty()
                && change.deletions_for_globals.is_empty());
        change
    }

    /// Checks that all entries of an update can be sent on, and that its family will still fit into one
    /// packet.
    pub(crate) fn check(&self, update: Update<'_>) -> Result<(), Unsendable> {
        update.check()?;
        let mut most = self.fullest + string_sent_at_most(update.family.string());
        update.set.each(|key, value| most += entry_sent_at_most(key.string(), value.octets()));
        match most {
            0..=MAX_FAMILY => Ok(()),
            _ => self.sendable(update).1,
        }
    }

    /// The entries of an update that can be sent on, and why the rest cannot.
    pub(crate) fn sendable(&self, update: Update<'_>) -> (Entries, Result<(), Unsendable>) {
        let family = update.family.string();
        let keys = self.families.get(&family);
        let mut size = keys.map_or_else(|| FamilySize::of(family), |keys| keys.size);
        let mut room = Entries::new();
        let mut refused = Ok(());
        update.set.each(|key, value| {
            let name = key.string();
            let before = keys.and_then(|keys| keys.entries.get(&name));
            let before = before.map(|entry| Value::Held(entry.merged()));
            let checked = sendable::check(family, name, value)
                .and_then(|()| size.try_set(name, before, value));
            match checked {
                Ok(()) => {
                    room.insert(key.to_str(), value.to_datum());
                }
                Err(why) => refused = Err(why),
            }
        });
        (room, refused)
    }

    /// The status of a known node.
    pub(crate) fn status(&self, node: &NodeId) -> Option<OwnerStatus> {
        let id = *self.ids.get(node)?;
        let owner = self.owners.get(id)?;
        Some(OwnerStatus { id, kind: owner.kind, octets: owner.octets })
    }

    /// As [`Merge::status`]; a node that is not known becomes [`OwnerKind::Other`].
    pub(crate) fn make_known(&mut self, node: &NodeId) -> OwnerStatus {
        let id = self.id(node);
        self.status(node).unwrap_or(OwnerStatus { id, kind: OwnerKind::Other, octets: 0 })
    }

    fn id(&mut self, node: &NodeId) -> OwnerId {
        if let Some(&id) = self.ids.get(node) {
            return id;
        }
        let id = self.owners.add(node.clone());
        self.ids.insert(node.clone(), id);
        id
    }

    fn kind_of(&self, id: OwnerId) -> OwnerKind {
        self.owners.get(id).map_or(OwnerKind::Other, |owner| owner.kind)
    }

    /// Sets a key of its owner. Returns whether that only takes it over from a lost global node: the
    /// merged value is the same as before.
    fn set(
        &mut self,
        id: OwnerId,
        kind: OwnerKind,
        family: Key<'_>,
        key: Key<'_>,
        value: Datum,
    ) -> bool {
        self.operations += 1;
        self.serial += 1;
        let serial = self.serial;
        let keys = match self.families.get_mut(&family.string()) {
            Some(keys) => keys,
            None => {
                let size = FamilySize::of(family.string());
                self.families.add(family.to_str(), Keys { entries: Table::default(), size })
            }
        };
        let value_octets = value.long_octets();
        let mut before = None;
        let mut claimed = Vec::new();
        let mut former = None;
        let mut is_same = false;
        let key = match keys.entries.place(&key.string()) {
            Place::Vacant(slot) => {
                let key = key.to_str();
                keys.size.add(key.as_ref(), Value::Held(&value));
                self.fullest = self.fullest.max(keys.size.octets());
                slot.insert(key.clone(), Entry::One(id, value));
                key
            }
            Place::Occupied(mut slot) => {
                let (key, entry) = slot.get_mut();
                keys.size.change(Value::Held(entry.merged()), Value::Held(&value));
                self.fullest = self.fullest.max(keys.size.octets());
                match entry {
                    Entry::One(owner, held) if *owner == id => {
                        let before = std::mem::replace(held, value).long_octets();
                        if before != value_octets
                            && let Some(owner) = self.owners.get_mut(id)
                        {
                            owner.octets = owner.octets + value_octets - before;
                        }
                        return false;
                    }
                    Entry::One(owner, held)
                        if self.unclaimed.iter().any(|lost| lost.owner == *owner)
                            && self.owners.get(*owner).map(|owner| owner.kind)
                                != Some(OwnerKind::Slave) =>
                    {
                        is_same = *held == value;
                        let held = std::mem::replace(held, value);
                        claimed.push((std::mem::replace(owner, id), held));
                    }
                    // The owner had the key before, and sends it again with a new database.
                    Entry::One(owner, held)
                        if self.owners.get(id).is_some_and(|new| new.before == Some(*owner)) =>
                    {
                        let held = std::mem::replace(held, value);
                        former = Some((std::mem::replace(owner, id), held));
                    }
                    Entry::One(owner, held) => {
                        let other = *owner;
                        let held = held.clone();
                        let other_kind =
                            self.owners.get(other).map_or(OwnerKind::Other, |owner| owner.kind);
                        let mut contested = Contested {
                            merged: value.clone(),
                            holders: BTreeMap::new(),
                            slaves: BTreeSet::new(),
                            others: BTreeSet::new(),
                        };
                        contested.put(other, other_kind, 0, held);
                        contested.put(id, kind, serial, value);
                        *entry = Entry::Contested(Box::new(contested));
                    }
                    Entry::Contested(contested) => {
                        before = contested.put(id, kind, serial, value.clone());
                        is_same = contested.merged == value;
                        contested.merged = value;
                        claimed = claim(contested, &self.unclaimed, serial);
                        let replaced = self.owners.get(id).and_then(|new| new.before);
                        former = replaced.and_then(|old| Some((old, contested.take(old)?)));
                        if let Some(one) = contested.last_one() {
                            *entry = one;
                        }
                    }
                }
                key.clone()
            }
        };
        if !claimed.is_empty() || former.is_some() {
            let name = (family.string(), &key);
            let struck = claimed.iter().chain(&former);
            strike(&mut self.owners, &mut self.unclaimed, name, struck);
        }
        if let Some(owner) = self.owners.get_mut(id) {
            let owned = match owner.entries.get_mut(&family.string()) {
                Some(owned) => owned,
                None => owner.entries.add(family.to_str(), Table::default()),
            };
            owner.octets += entry_octets(&key, &Datum::UNDEF) + value_octets;
            owner.octets -= before.map_or(0, |before| entry_octets(&key, &before));
            owner.len += usize::from(owned.insert(key, ()).is_none());
        }
        is_same && !claimed.is_empty()
    }

    /// Deletes a key of its owner, and returns which owners remain.
    fn delete(&mut self, id: OwnerId, kind: OwnerKind, family: StrRef<'_>, key: &Str) -> Remaining {
        self.operations += 1;
        if let Some(owner) = self.owners.get_mut(id)
            && let Some(owned) = owner.entries.get_mut(&family)
            && owned.remove(key).is_some()
        {
            owner.len -= 1;
            if owned.is_empty() {
                owner.entries.remove(&family);
            }
        }
        let Some(keys) = self.families.get_mut(&family) else {
            return Remaining::Nothing;
        };
        let Some((stored, entry)) = keys.entries.get_key_value_mut(key) else {
            return Remaining::Nothing;
        };
        let left = match entry {
            Entry::One(owner, value) if *owner == id => {
                if let Some(owner) = self.owners.get_mut(id) {
                    owner.octets -= entry_octets(stored, value);
                }
                keys.size.remove(stored.as_ref(), Value::Held(value));
                keys.entries.remove(key);
                return Remaining::Nothing;
            }
            // The key belongs to another owner.
            Entry::One(owner, _) => {
                let owner = *owner;
                return match self.kind_of(owner) {
                    OwnerKind::Slave => Remaining::Slave { merged: None, told: None },
                    OwnerKind::Global | OwnerKind::Other => Remaining::Others(None),
                };
            }
            Entry::Contested(contested) => contested,
        };
        let told = left.latest(&left.slaves).cloned();
        if let Some((serial, value)) = left.holders.remove(&id) {
            left.order(kind).remove(&(serial, id));
            // When this owner deletes the key, the earlier value of a lost global node does not become
            // visible again: it may have been an entry of this very owner.
            if self.owners.get(id).is_some_and(|owner| !owner.is_lost) {
                let claimed = claim(left, &self.unclaimed, serial);
                strike(&mut self.owners, &mut self.unclaimed, (family, stored), claimed.iter());
            }
            if let Some(owner) = self.owners.get_mut(id) {
                owner.octets -= entry_octets(stored, &value);
            }
        }
        let by_slave = left.latest(&left.slaves);
        let of_slave = by_slave.is_some();
        let Some(next) = by_slave.or_else(|| left.latest(&left.others)).cloned() else {
            keys.size.remove(stored.as_ref(), Value::Held(&left.merged));
            keys.entries.remove(key);
            return Remaining::Nothing;
        };
        let unless_same = |known: &Datum| (!known.perl_eq(&next)).then(|| next.clone());
        let merged = unless_same(&left.merged);
        let told = told.as_ref().and_then(unless_same);
        keys.size.change(Value::Held(&left.merged), Value::Held(&next));
        self.fullest = self.fullest.max(keys.size.octets());
        left.merged = next;
        if let Some(one) = left.last_one() {
            keys.entries.insert(key.clone(), one);
        }
        if of_slave { Remaining::Slave { merged, told } } else { Remaining::Others(merged) }
    }
}

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;
