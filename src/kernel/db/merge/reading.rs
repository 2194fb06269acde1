//! The content of a family, read in parts while the family changes, and exact at the end.
//!
//! A family may have a million keys, so its keys are copied some at a time. The new values of keys that
//! change meanwhile are noted, so the content is complete with the last part.

use super::super::datum::{Datum, STRING_HEAD};
use super::super::update::Update;
use super::{MAX_SORTED, Merge};
use crate::kernel::table::{Cursor, Place, Table};
use crate::value::{NodeId, Str};

/// The number of keys after which a part ends. It has whole leaves of the table, so it may have a leaf
/// more.
const KEYS_PER_PART: usize = 1024;

/// A family that is being read.
#[derive(Debug)]
pub(crate) struct Reading {
    number: u64,
    family: Str,
    from: Cursor,
    content: Content,
}

/// How far a reading is.
#[derive(Debug)]
pub(crate) enum Progress {
    More,
    /// The content, as it is now.
    Complete(Content),
    /// The node for which the family was read has been lost.
    Cancelled,
}

/// The content of a family.
#[derive(Debug, Clone, Default)]
pub(crate) struct Content {
    parts: Vec<Vec<(Str, Datum)>>,
    read: Octets,
    changed: Changes,
}

/// What has changed since a reading has begun: the values, if the keys still exist.
#[derive(Debug, Clone, Default)]
struct Changes {
    values: Table<Str, Option<Datum>>,
    octets: Octets,
}

/// The octets of keys in packed form, and of their values.
#[derive(Debug, Clone, Copy, Default)]
struct Octets {
    keys: usize,
    values: usize,
}

impl Octets {
    fn of(key: &Str, value: &Datum) -> Self {
        let keys = STRING_HEAD + key.as_ref().data().len();
        Octets { keys, values: value.octets().len() }
    }

    fn add(&mut self, other: Octets) {
        self.keys += other.keys;
        self.values += other.values;
    }

    fn subtract(&mut self, other: Octets) {
        self.keys -= other.keys;
        self.values -= other.values;
    }
}

impl Changes {
    fn note(&mut self, key: Str, value: Option<Datum>) {
        let after = value.as_ref().map(|value| Octets::of(&key, value));
        match self.values.place(&key) {
            Place::Occupied(mut slot) => {
                let (key, held) = slot.get_mut();
                if let Some(before) = std::mem::replace(held, value) {
                    self.octets.subtract(Octets::of(key, &before));
                }
            }
            Place::Vacant(slot) => drop(slot.insert(key, value)),
        }
        self.octets.add(after.unwrap_or_default());
    }
}

impl Content {
    /// The entries, in order of keys unless there are more than [`MAX_SORTED`].
    pub(crate) fn entries(&self) -> Vec<(&Str, &Datum)> {
        let changed = &self.changed.values;
        let read = self.parts.iter().flatten().map(|(key, value)| (key, value));
        let read = read.filter(|(key, _)| !changed.contains_key(*key));
        let changed = changed.iter().filter_map(|(key, value)| Some((key, value.as_ref()?)));
        let mut entries: Vec<_> = read.chain(changed).collect();
        if entries.len() <= MAX_SORTED {
            entries.sort_unstable_by_key(|(key, _)| *key);
        }
        entries
    }

    /// The octets of all keys in packed form, and of all values. Those that changed while they were read
    /// count twice.
    pub(crate) const fn octets(&self) -> (usize, usize) {
        let (read, changed) = (self.read, self.changed.octets);
        (read.keys + changed.keys, read.values + changed.values)
    }
}

/// A family that is being read, as those see it who change it.
#[derive(Debug)]
pub(super) struct Watched {
    node: NodeId,
    family: Str,
    changed: Changes,
}

impl Merge {
    /// Begins to read a family for a node.
    pub(crate) fn begin_to_read(&mut self, node: &NodeId, family: Str) -> Reading {
        self.last_reading += 1;
        let number = self.last_reading;
        let (node, changed) = (node.clone(), Changes::default());
        self.watched.insert(number, Watched { node, family: family.clone(), changed });
        Reading { number, family, from: Cursor::default(), content: Content::default() }
    }

    /// Reads the next part.
    pub(crate) fn read_part(&mut self, reading: &mut Reading) -> Progress {
        let Reading { number, family, from, content } = reading;
        if !self.watched.contains_key(number) {
            return Progress::Cancelled;
        }
        let mut read = 0;
        while read < KEYS_PER_PART
            && !from.is_at_end()
            && let Some(keys) = self.families.get(family)
        {
            let entries = keys.entries.next_leaf(from);
            let part: Vec<_> =
                entries.map(|(key, entry)| (key.clone(), entry.merged().clone())).collect();
            part.iter().for_each(|(key, value)| content.read.add(Octets::of(key, value)));
            // An empty leaf takes time as well.
            read += part.len().max(1);
            content.parts.push(part);
        }
        if !from.is_at_end() && self.families.contains_key(family) {
            return Progress::More;
        }
        let mut content = std::mem::take(content);
        content.changed = self.watched.remove(number).map(|one| one.changed).unwrap_or_default();
        Progress::Complete(content)
    }

    /// Cancels what is being read for a node.
    pub(crate) fn cancel_readings(&mut self, node: &NodeId) {
        self.watched.retain(|_, watched| watched.node != *node);
    }

    /// The number of families that are being read.
    #[cfg(test)]
    pub(crate) fn readings(&self) -> usize {
        self.watched.len()
    }

    /// Notes a change for those who are reading the family.
    #[cold]
    pub(super) fn note_change(&mut self, Update { family, set, delete }: Update<'_>) {
        let keys = self.families.get(&family.string());
        for watched in
            self.watched.values_mut().filter(|one| one.family.as_ref() == family.string())
        {
            let mut note = |key: Str| {
                let entry = keys.and_then(|keys| keys.entries.get(&key));
                watched.changed.note(key, entry.map(|entry| entry.merged().clone()));
            };
            set.each(|key, _| note(key.to_str()));
            delete.iter().cloned().for_each(&mut note);
        }
    }
}
