//! The databases of many nodes and their merge, indexed by key and by owner (docs/protocol.md §5.2).
//!
//! A change costs what it changes and the loss of a node costs what it owned, however many other
//! nodes there are.

use super::datum::Datum;
use super::entries::{Entries, Tables};
use super::pieces::KEYS_PER_PIECE;
use super::single::SetOne;
use crate::kernel::{HashMap, HashSet};
use crate::value::{NodeId, Str, StrRef};
use hashbrown::hash_map::EntryRef;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

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

/// What an update did, and who has to be told of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// The family that changed.
    pub family: Str,
    /// Keys that are set, for subscribers and other global nodes.
    pub set: Entries,
    /// Keys that fell back to another global node's value; other global nodes know it already.
    pub set_for_subscribers: Entries,
    /// Keys of which other global nodes were told a slave's value that is gone; what another slave
    /// has is the merged value already. (The reference tells nobody, so that they keep a value that
    /// no node has any longer.)
    pub set_for_globals: Entries,
    /// Keys that are gone from the merge.
    pub deletions_for_subscribers: Vec<Str>,
    /// Keys that none of our slaves has any longer.
    pub deletions_for_globals: Vec<Str>,
    /// Whether the change came from a slave of ours and other global nodes have to hear of it.
    pub tell_globals: bool,
}

impl Change {
    /// Whether subscribers of the family have to hear of it.
    pub fn tell_subscribers(&self) -> bool {
        !self.set.is_empty()
            || !self.set_for_subscribers.is_empty()
            || !self.deletions_for_subscribers.is_empty()
    }
}

/// What an entry costs its owner; the key is the one that is stored, as another one that is equal may
/// have another length.
fn entry_octets(key: &Str, value: &Datum) -> usize {
    const BESIDES: usize = 128;
    BESIDES + key.as_ref().data().len() + value.long_octets()
}

/// A node that owns entries; numbers are used again when a node is removed.
type OwnerId = u32;

#[derive(Debug)]
struct Owner {
    node: NodeId,
    kind: OwnerKind,
    /// The keys by family; the strings are shared with the merge.
    entries: HashMap<Str, HashSet<Str>>,
    /// How many keys these are.
    len: usize,
    /// Octets of these and their values.
    octets: usize,
    /// Whether it is getting a new database at this time, piece by piece.
    is_replaced: bool,
    /// The owner that has what the node had before it began to get a new database.
    before: Option<OwnerId>,
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
            is_replaced: false,
            before: None,
        }
    }
}

/// What a node may own so that its loss is handled at once; the keys of one that has more are given
/// up piece by piece ([`Merge::give_up_some`]).
const FEW_KEYS: usize = KEYS_PER_PIECE;

/// A key of the merge: nearly always it has one owner, whose value is the merged one.
#[derive(Debug)]
enum Entry {
    One(OwnerId, Datum),
    Contested(Box<Contested>),
}

/// A key that several nodes own, with what it takes to find the next value in one step.
#[derive(Debug)]
struct Contested {
    merged: Datum,
    holders: BTreeMap<OwnerId, (u64, Datum)>,
    /// Those of our slaves, in the order in which they wrote.
    slaves: BTreeSet<(u64, OwnerId)>,
    /// All others, in the order in which they wrote.
    others: BTreeSet<(u64, OwnerId)>,
}

impl Contested {
    fn order(&mut self, kind: OwnerKind) -> &mut BTreeSet<(u64, OwnerId)> {
        match kind {
            OwnerKind::Slave => &mut self.slaves,
            OwnerKind::Global | OwnerKind::Other => &mut self.others,
        }
    }

    fn latest(&self, order: &BTreeSet<(u64, OwnerId)>) -> Option<&Datum> {
        let (_, owner) = order.last()?;
        self.holders.get(owner).map(|(_, value)| value)
    }

    /// Returns what the owner had before.
    fn put(&mut self, owner: OwnerId, kind: OwnerKind, serial: u64, value: Datum) -> Option<Datum> {
        let before = self.holders.insert(owner, (serial, value));
        let before = before.map(|(serial, value)| {
            self.order(kind).remove(&(serial, owner));
            value
        });
        self.order(kind).insert((serial, owner));
        before
    }
}

impl Entry {
    fn merged(&self) -> &Datum {
        match self {
            Entry::One(_, value) => value,
            Entry::Contested(contested) => &contested.merged,
        }
    }
}

/// What is left of a key after one owner gave it up.
enum Left {
    /// Nobody has it.
    Nothing,
    /// A slave of ours has it.
    Slave {
        /// Its value, if it is not the merged one already.
        merged: Option<Datum>,
        /// Its value, if it is not the one that other global nodes were told.
        told: Option<Datum>,
    },
    /// Only others have it; the value is there if it is not the merged one already.
    Others(Option<Datum>),
}

/// The databases of slaves and of other global nodes, and their merge.
#[derive(Debug, Default)]
pub struct Merge {
    families: HashMap<Str, HashMap<Str, Entry>>,
    ids: HashMap<NodeId, OwnerId>,
    owners: HashMap<OwnerId, Owner>,
    unused: BTreeSet<OwnerId>,
    /// Owners that are no node's any more, and whose keys have not all been given up yet.
    abandoned: VecDeque<OwnerId>,
    serial: u64,
    operations: u64,
}

impl Merge {
    /// Nobody owns anything.
    pub fn new() -> Self {
        Merge::default()
    }

    /// How many entries were looked at in all updates so far: what the work was, without a clock.
    pub const fn operations(&self) -> u64 {
        self.operations
    }

    /// The merged value of a key.
    pub fn get(&self, family: &Str, key: &Str) -> Option<&Datum> {
        self.families.get(family)?.get(key).map(Entry::merged)
    }

    /// The families in order.
    pub fn families(&self) -> impl Iterator<Item = &Str> {
        let mut families: Vec<_> = self.families.keys().collect();
        families.sort_unstable();
        families.into_iter()
    }

    /// The merged content of a family in order of keys.
    pub fn family(&self, family: &Str) -> impl Iterator<Item = (&Str, &Datum)> + use<'_> {
        let keys = self.families.get(family).into_iter().flatten();
        let mut entries: Vec<_> = keys.map(|(key, entry)| (key, entry.merged())).collect();
        entries.sort_unstable_by_key(|(key, _)| *key);
        entries.into_iter()
    }

    /// How many keys a family has.
    pub fn family_len(&self, family: &Str) -> usize {
        self.families.get(family).map_or(0, HashMap::len)
    }

    /// The nodes that own a key, in no particular order.
    pub fn holders(&self, family: &Str, key: &Str) -> impl Iterator<Item = &NodeId> {
        let entry = self.families.get(family).and_then(|keys| keys.get(key));
        let (one, many) = match entry {
            Some(Entry::One(owner, _)) => (Some(owner), None),
            Some(Entry::Contested(contested)) => (None, Some(contested.holders.keys())),
            None => (None, None),
        };
        one.into_iter()
            .chain(many.into_iter().flatten())
            .filter_map(|id| self.owners.get(id).map(|owner| (id, &owner.node)))
            // Not those that are being forgotten.
            .filter(|(id, node)| self.ids.get(*node) == Some(*id))
            .map(|(_, node)| node)
    }

    /// What `node` is, if it is known.
    pub fn kind(&self, node: &NodeId) -> Option<OwnerKind> {
        Some(self.owners.get(self.ids.get(node)?)?.kind)
    }

    /// The nodes that are known, in no particular order.
    pub fn owners(&self) -> impl Iterator<Item = &NodeId> {
        self.ids.keys()
    }

    /// How many entries `node` owns.
    pub fn owned(&self, node: &NodeId) -> usize {
        let owner = self.ids.get(node).and_then(|id| self.owners.get(id));
        owner.map_or(0, |owner| owner.len)
    }

    /// Octets of what `node` owns.
    pub fn octets_of(&self, node: &NodeId) -> usize {
        let owner = self.ids.get(node).and_then(|id| self.owners.get(id));
        owner.map_or(0, |owner| owner.octets)
    }

    /// Octets of what all nodes own.
    pub fn octets(&self) -> usize {
        self.owners.values().map(|owner| owner.octets).sum()
    }

    /// Says what `node` is from now on. What it owns stays, and nobody is told.
    pub fn set_kind(&mut self, node: &NodeId, kind: OwnerKind) {
        let id = self.id(node);
        let Some(owner) = self.owners.get_mut(&id) else {
            return;
        };
        let before = std::mem::replace(&mut owner.kind, kind);
        if (before == OwnerKind::Slave) == (kind == OwnerKind::Slave) {
            return;
        }
        for (family, owned) in &owner.entries {
            let Some(keys) = self.families.get_mut(family) else { continue };
            for key in owned {
                if let Some(Entry::Contested(contested)) = keys.get_mut(key)
                    && let Some(&(serial, _)) = contested.holders.get(&id)
                {
                    contested.order(before).remove(&(serial, id));
                    contested.order(kind).insert((serial, id));
                }
            }
        }
    }

    /// Changes one family of `node`'s database. Sets apply before deletions. A node that was not
    /// known is [`OwnerKind::Other`].
    pub fn update(&mut self, node: &NodeId, family: Str, set: Entries, delete: Vec<Str>) -> Change {
        let id = self.id(node);
        self.update_of(id, family, set, delete)
    }

    fn update_of(
        &mut self,
        id: OwnerId,
        family: Str,
        mut set: Entries,
        delete: Vec<Str>,
    ) -> Change {
        let kind = self.kind_of(id);
        let delete = without_repetition(delete);
        // What is set and then deleted at once is only deleted: the outcome is the same.
        delete.iter().for_each(|key| {
            set.remove(key);
        });
        let mut change = Change { family, ..Change::default() };
        for (key, value) in &set {
            self.set(id, kind, &change.family, key, value.clone());
        }
        change.set = set;
        let deleted = !delete.is_empty();
        for key in delete {
            match self.delete(id, kind, &change.family, &key) {
                Left::Slave { merged: Some(value), .. } => {
                    change.set.insert(key, value);
                }
                Left::Slave { told: Some(value), .. } => {
                    change.set_for_globals.insert(key, value);
                }
                Left::Slave { merged: None, told: None } => {}
                Left::Others(value) => {
                    if let Some(value) = value {
                        change.set_for_subscribers.insert(key.clone(), value);
                    }
                    change.deletions_for_globals.push(key);
                }
                Left::Nothing => {
                    if kind == OwnerKind::Slave {
                        change.deletions_for_globals.push(key.clone());
                    }
                    change.deletions_for_subscribers.push(key);
                }
            }
        }
        if deleted && self.families.get(&change.family).is_some_and(HashMap::is_empty) {
            self.families.remove(&change.family);
        }
        change.tell_globals = kind == OwnerKind::Slave
            && !(change.set.is_empty()
                && change.set_for_globals.is_empty()
                && change.deletions_for_globals.is_empty());
        change
    }

    /// As [`Merge::update`] of a node that is known and owns fewer octets than `limit`, with a single
    /// key that is set: what the node is. Nothing is done for [`OwnerKind::Other`].
    pub(crate) fn set_one(
        &mut self,
        node: &NodeId,
        one: SetOne<'_>,
        limit: usize,
    ) -> Option<OwnerKind> {
        let id = *self.ids.get(node)?;
        let owner = self.owners.get(&id).filter(|owner| owner.octets < limit)?;
        let kind = owner.kind;
        if kind != OwnerKind::Other {
            self.set(id, kind, one.family, one.key, Datum::trusted(one.value));
        }
        Some(kind)
    }

    /// `node` is about to get a whole new database of which only a part is at hand. What it has now
    /// stays until [`Merge::replaced`].
    pub(crate) fn begin_to_replace(&mut self, node: &NodeId) {
        let id = self.id(node);
        let Some(owner) = self.owners.get_mut(&id) else { return };
        if owner.len == 0 {
            owner.is_replaced = true;
            return;
        }
        let kind = owner.kind;
        self.ids.remove(node);
        let new = self.id(node);
        if let Some(owner) = self.owners.get_mut(&new) {
            owner.kind = kind;
            owner.is_replaced = true;
            owner.before = Some(id);
        }
    }

    /// Whether `node` has got a part of a new database.
    pub(crate) fn is_being_replaced(&self, node: &NodeId) -> bool {
        let owner = self.ids.get(node).and_then(|id| self.owners.get(id));
        owner.is_some_and(|owner| owner.is_replaced)
    }

    /// The new database of `node` is complete: what it had before, and has no more, is given up.
    pub(crate) fn replaced(&mut self, node: &NodeId) {
        let owner = self.ids.get(node).and_then(|id| self.owners.get_mut(id));
        if let Some(owner) = owner {
            owner.is_replaced = false;
            self.abandoned.extend(owner.before.take());
        }
    }

    /// Whether there is something to do for [`Merge::give_up_some`].
    pub(crate) fn is_giving_up(&self) -> bool {
        !self.abandoned.is_empty()
    }

    /// Deletes some keys of nodes that were removed or whose database was replaced.
    pub(crate) fn give_up_some(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut left = KEYS_PER_PIECE;
        while left > 0
            && let Some(&id) = self.abandoned.front()
        {
            let Some((family, keys)) = self.owners.get(&id).and_then(|o| o.entries.iter().next())
            else {
                self.abandoned.pop_front();
                self.forget_owner(id);
                continue;
            };
            let family = family.clone();
            let mut keys: Vec<Str> = keys.iter().take(left).cloned().collect();
            keys.sort_unstable();
            left -= keys.len();
            changes.push(self.update_of(id, family, Entries::new(), keys));
        }
        changes
    }

    fn forget_owner(&mut self, id: OwnerId) {
        self.owners.remove(&id);
        self.unused.insert(id);
        // The room that many families took is not kept.
        if self.families.capacity() > 4 * (self.families.len() + FEW_KEYS) {
            self.families.shrink_to_fit();
        }
    }

    /// Gives `node` a whole new database: what it had and is not in `tables` is deleted, at once if
    /// that is not much.
    pub fn replace(&mut self, node: &NodeId, tables: Tables) -> Vec<Change> {
        if self.owned(node) > FEW_KEYS {
            self.begin_to_replace(node);
            let updates = tables.into_iter();
            let changes =
                updates.map(|(family, set)| self.update(node, family, set, Vec::new())).collect();
            self.replaced(node);
            return changes;
        }
        let mut missing: BTreeMap<Str, Vec<Str>> = BTreeMap::new();
        if let Some(owner) = self.ids.get(node).and_then(|id| self.owners.get(id)) {
            for (family, owned) in &owner.entries {
                let kept = tables.get(family);
                let is_kept = |key: &&Str| kept.is_some_and(|entries| entries.contains(key));
                let mut keys: Vec<Str> =
                    owned.iter().filter(|key| !is_kept(key)).cloned().collect();
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
        updates
            .into_iter()
            .map(|(family, (set, delete))| self.update(node, family, set, delete))
            .collect()
    }

    /// Forgets a node and deletes its database, family by family: at once if that is not much.
    pub fn remove(&mut self, node: &NodeId) -> Vec<Change> {
        let Some(&id) = self.ids.get(node) else {
            return Vec::new();
        };
        let changes = match self.owned(node) {
            ..=FEW_KEYS => self.replace(node, Tables::new()),
            _ => Vec::new(),
        };
        self.ids.remove(node);
        let before = self.owners.get_mut(&id).and_then(|owner| owner.before.take());
        self.abandoned.extend(before);
        match self.owners.get(&id) {
            Some(owner) if owner.len > 0 => self.abandoned.push_back(id),
            _ => self.forget_owner(id),
        }
        changes
    }

    /// What our slaves have (ourselves included): what another global node has to know.
    pub fn merged_of_slaves(&self) -> Tables {
        let is_slave = |owner| {
            self.owners.get(owner).is_some_and(|owner: &Owner| owner.kind == OwnerKind::Slave)
        };
        let mut tables = Tables::new();
        for (family, keys) in &self.families {
            let entries: Entries = keys
                .iter()
                .filter_map(|(key, entry)| {
                    let value = match entry {
                        Entry::One(owner, value) => is_slave(owner).then_some(value),
                        Entry::Contested(contested) => contested.latest(&contested.slaves),
                    };
                    Some((key.clone(), value?.clone()))
                })
                .collect();
            if !entries.is_empty() {
                tables.insert(family.clone(), entries);
            }
        }
        tables
    }

    fn id(&mut self, node: &NodeId) -> OwnerId {
        if let Some(&id) = self.ids.get(node) {
            return id;
        }
        let id = self.unused.pop_first().unwrap_or(self.owners.len() as OwnerId);
        self.ids.insert(node.clone(), id);
        self.owners.insert(id, Owner::new(node.clone()));
        id
    }

    fn kind_of(&self, id: OwnerId) -> OwnerKind {
        self.owners.get(&id).map_or(OwnerKind::Other, |owner| owner.kind)
    }

    fn set<'s, S>(&mut self, id: OwnerId, kind: OwnerKind, family: S, key: S, value: Datum)
    where
        S: Copy + Into<Str> + Into<StrRef<'s>>,
    {
        self.operations += 1;
        self.serial += 1;
        let serial = self.serial;
        let borrowed: StrRef<'_> = family.into();
        let keys = match self.families.get_mut(&borrowed) {
            Some(keys) => keys,
            None => self.families.entry(family.into()).or_default(),
        };
        let borrowed: StrRef<'_> = key.into();
        let value_octets = value.long_octets();
        let mut before = None;
        let key = match keys.entry_ref(&borrowed) {
            EntryRef::Vacant(slot) => {
                let key: Str = key.into();
                slot.insert_with_key(key.clone(), Entry::One(id, value));
                key
            }
            EntryRef::Occupied(mut slot) => {
                let key = slot.key().clone();
                match slot.get_mut() {
                    Entry::One(owner, held) if *owner == id => {
                        let before = std::mem::replace(held, value).long_octets();
                        if before != value_octets
                            && let Some(owner) = self.owners.get_mut(&id)
                        {
                            owner.octets = owner.octets + value_octets - before;
                        }
                        return;
                    }
                    Entry::One(owner, held) => {
                        let other = *owner;
                        let held = held.clone();
                        let other_kind =
                            self.owners.get(&other).map_or(OwnerKind::Other, |owner| owner.kind);
                        let mut contested = Contested {
                            merged: value.clone(),
                            holders: BTreeMap::new(),
                            slaves: BTreeSet::new(),
                            others: BTreeSet::new(),
                        };
                        contested.put(other, other_kind, 0, held);
                        contested.put(id, kind, serial, value);
                        slot.insert(Entry::Contested(Box::new(contested)));
                    }
                    Entry::Contested(contested) => {
                        before = contested.put(id, kind, serial, value.clone());
                        contested.merged = value;
                    }
                }
                key
            }
        };
        if let Some(owner) = self.owners.get_mut(&id) {
            let borrowed: StrRef<'_> = family.into();
            let owned = match owner.entries.get_mut(&borrowed) {
                Some(owned) => owned,
                None => owner.entries.entry(family.into()).or_default(),
            };
            owner.octets += entry_octets(&key, &Datum::UNDEF) + value_octets;
            owner.octets -= before.map_or(0, |before| entry_octets(&key, &before));
            owner.len += usize::from(owned.insert(key));
        }
    }

    /// Takes a key from its owner and says what is left of it.
    fn delete(&mut self, id: OwnerId, kind: OwnerKind, family: &Str, key: &Str) -> Left {
        self.operations += 1;
        if let Some(owner) = self.owners.get_mut(&id)
            && let Some(owned) = owner.entries.get_mut(family)
            && owned.remove(key)
        {
            owner.len -= 1;
            if owned.is_empty() {
                owner.entries.remove(family);
            }
        }
        let Some(keys) = self.families.get_mut(family) else {
            return Left::Nothing;
        };
        let Some((stored, entry)) = keys.get_key_value_mut(key) else {
            return Left::Nothing;
        };
        let left = match entry {
            Entry::One(owner, value) if *owner == id => {
                if let Some(owner) = self.owners.get_mut(&id) {
                    owner.octets -= entry_octets(stored, value);
                }
                keys.remove(key);
                return Left::Nothing;
            }
            // It was another's all the time.
            Entry::One(owner, _) => {
                let owner = *owner;
                return match self.kind_of(owner) {
                    OwnerKind::Slave => Left::Slave { merged: None, told: None },
                    OwnerKind::Global | OwnerKind::Other => Left::Others(None),
                };
            }
            Entry::Contested(contested) => contested,
        };
        let told = left.latest(&left.slaves).cloned();
        if let Some((serial, value)) = left.holders.remove(&id) {
            left.order(kind).remove(&(serial, id));
            if let Some(owner) = self.owners.get_mut(&id) {
                owner.octets -= entry_octets(stored, &value);
            }
        }
        let by_slave = left.latest(&left.slaves);
        let of_slave = by_slave.is_some();
        let Some(next) = by_slave.or_else(|| left.latest(&left.others)).cloned() else {
            keys.remove(key);
            return Left::Nothing;
        };
        let unless_same = |known: &Datum| (!known.perl_eq(&next)).then(|| next.clone());
        let merged = unless_same(&left.merged);
        let told = told.as_ref().and_then(unless_same);
        left.merged = next;
        if left.holders.len() == 1
            && let Some((owner, (_, value))) = left.holders.pop_first()
        {
            keys.insert(key.clone(), Entry::One(owner, value));
        }
        if of_slave { Left::Slave { merged, told } } else { Left::Others(merged) }
    }
}

fn without_repetition(keys: Vec<Str>) -> Vec<Str> {
    if keys.len() < 2 {
        return keys;
    }
    let mut seen = BTreeSet::new();
    keys.into_iter().filter(|key| seen.insert(key.clone())).collect()
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;
