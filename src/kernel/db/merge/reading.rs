//! The content of a family, read in parts while the family changes, and exact at the end.
//!
//! A family may have a million keys, so its keys are copied some at a time. Keys that change meanwhile are
//! noted, and read again at the end.

use super::super::datum::Datum;
use super::{MAX_SORTED, Merge};
use crate::kernel::table::Cursor;
use crate::value::{NodeId, Str, StrRef};
use std::collections::{BTreeMap, BTreeSet};

/// The number of keys after which a part ends. It has whole leaves of the table, so it may have a leaf
/// more.
const KEYS_PER_PART: usize = 1024;

/// The maximum octets before those of a string, in packed form.
const STRING_HEAD: usize = 5;

/// A family that is being read.
#[derive(Debug)]
pub(crate) struct Reading {
    number: u64,
    family: Str,
    from: Cursor,
    content: Content,
    /// The number of changed keys that are read again at a time. It doubles when there are not fewer of
    /// them than the last time, so that the reading ends however fast others change the family.
    again: usize,
    /// The number of changed keys the last time.
    before: usize,
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
    /// What has changed since it was read: the values, if the keys still exist.
    changed: BTreeMap<Str, Option<Datum>>,
    /// The octets of all keys that were read, and of all values.
    octets: (usize, usize),
}

impl Content {
    /// The entries, in order of keys unless there are more than [`MAX_SORTED`].
    pub(crate) fn entries(&self) -> Vec<(&Str, &Datum)> {
        let read = self.parts.iter().flatten().map(|(key, value)| (key, value));
        let read = read.filter(|(key, _)| !self.changed.contains_key(*key));
        let changed = self.changed.iter().filter_map(|(key, value)| Some((key, value.as_ref()?)));
        let mut entries: Vec<_> = read.chain(changed).collect();
        if entries.len() <= MAX_SORTED {
            entries.sort_unstable_by_key(|(key, _)| *key);
        }
        entries
    }

    fn count(&mut self, key: &Str, value: &Datum) {
        self.octets.0 += STRING_HEAD + key.as_ref().data().len();
        self.octets.1 += value.octets().len();
    }

    /// The octets of all keys in packed form, and of all values. Those that changed while they were read
    /// count twice.
    pub(crate) const fn octets(&self) -> (usize, usize) {
        self.octets
    }
}

/// The keys of a family that have changed since a reading has begun.
#[derive(Debug)]
pub(super) struct Watched {
    node: NodeId,
    family: Str,
    changed: BTreeSet<Str>,
}

impl Merge {
    /// Begins to read a family for a node.
    pub(crate) fn begin_to_read(&mut self, node: &NodeId, family: Str) -> Reading {
        self.last_reading += 1;
        let number = self.last_reading;
        let (node, changed) = (node.clone(), BTreeSet::new());
        self.watched.insert(number, Watched { node, family: family.clone(), changed });
        let (from, content) = (Cursor::default(), Content::default());
        Reading { number, family, from, content, again: KEYS_PER_PART, before: usize::MAX }
    }

    /// Reads the next part.
    pub(crate) fn read_part(&mut self, reading: &mut Reading) -> Progress {
        let Some(watched) = self.watched.get_mut(&reading.number) else {
            return Progress::Cancelled;
        };
        let keys = self.families.get(&reading.family);
        let Reading { from, content, again, before, .. } = reading;
        let mut read = 0;
        while read < KEYS_PER_PART
            && !from.is_at_end()
            && let Some(keys) = keys
        {
            let entries = keys.entries.next_leaf(from);
            let part: Vec<_> =
                entries.map(|(key, entry)| (key.clone(), entry.merged().clone())).collect();
            part.iter().for_each(|(key, value)| content.count(key, value));
            // An empty leaf takes time as well.
            read += part.len().max(1);
            content.parts.push(part);
        }
        if keys.is_some() && !from.is_at_end() {
            return Progress::More;
        }
        if watched.changed.len() >= *before {
            *again *= 2;
        }
        *before = watched.changed.len();
        for _ in 0..*again {
            let Some(key) = watched.changed.pop_first() else { break };
            let entry = keys.and_then(|keys| keys.entries.get(&key));
            let value = entry.map(|entry| entry.merged().clone());
            value.iter().for_each(|value| content.count(&key, value));
            content.changed.insert(key, value);
        }
        if !watched.changed.is_empty() {
            return Progress::More;
        }
        self.watched.remove(&reading.number);
        Progress::Complete(std::mem::take(content))
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

    /// Notes a change of a key for those who are reading its family.
    #[cold]
    pub(super) fn note_change(&mut self, family: StrRef<'_>, key: StrRef<'_>) {
        for watched in self.watched.values_mut().filter(|one| one.family.as_ref() == family) {
            watched.changed.insert(key.to_owned());
        }
    }
}
