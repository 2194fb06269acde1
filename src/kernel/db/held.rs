//! Changes that wait for a node whose connection has no room: at most one for each key.
//!
//! Only keys are noted. What has become of them is looked up when they are sent, as it is with a
//! [`Transfer`](super::transfer::Transfer): the node gets the newest value, or a deletion.

use super::datum::Datum;
use super::entries::Entries;
use super::request::Name;
use super::transfer::cost;
use super::update::{Key, Sets, Update};
use crate::value::{Packed, Str};
use std::collections::BTreeMap;

/// As what a node is told of changes; the family comes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Told {
    /// As a global node, of what our slaves have.
    Global,
    /// As a subscriber, of the merged content.
    Subscriber,
}

/// The keys of which a node has to be told.
#[derive(Debug)]
pub(super) struct Held {
    /// Tells it from what waited for the same node earlier, and from transfers.
    number: u64,
    /// Each with whether the node may have got it already.
    keys: BTreeMap<(Told, Str), BTreeMap<Str, bool>>,
}

impl Held {
    pub(super) const fn new(number: u64) -> Self {
        Held { number, keys: BTreeMap::new() }
    }

    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// How many keys wait.
    pub(super) fn len(&self) -> usize {
        self.keys.values().map(BTreeMap::len).sum()
    }

    /// A key has changed. What was noted of it first stays: since then the node has heard nothing.
    pub(super) fn note(&mut self, told: Told, family: &Str, key: Str, is_known: bool) {
        let keys = self.keys.entry((told, family.clone())).or_default();
        keys.entry(key).or_insert(is_known);
    }

    /// The node is not told of a family any more.
    pub(super) fn forget(&mut self, told: Told, family: &Str) {
        self.keys.remove(&(told, family.clone()));
    }

    /// The node does not count as a global one any more.
    pub(super) fn forget_as_global(&mut self) {
        self.keys.retain(|(told, _), _| *told != Told::Global);
    }

    /// Takes keys of about so many octets, and what has become of them, as packets. Keys that have come
    /// and gone meanwhile are left out.
    pub(super) fn take<'a>(
        &mut self,
        most: usize,
        value_of: impl Fn(Told, &Str, &Str) -> Option<&'a Datum>,
    ) -> Vec<Packed> {
        let mut packets = Vec::new();
        let mut octets = 0;
        while octets < most
            && let Some(mut of_family) = self.keys.first_entry()
        {
            let (told, family) = of_family.key().clone();
            let (mut set, mut delete) = (Entries::new(), Vec::new());
            while octets < most
                && let Some((key, is_known)) = of_family.get_mut().pop_first()
            {
                match value_of(told, &family, &key) {
                    Some(value) => {
                        octets += cost(&key, value.octets().len());
                        set.insert(key, value.clone());
                    }
                    None if is_known => {
                        octets += cost(&key, 0);
                        delete.push(key);
                    }
                    None => {}
                }
            }
            if of_family.get().is_empty() {
                of_family.remove();
            }
            if !set.is_empty() || !delete.is_empty() {
                let (family, set) = (Key::Held(&family), Sets::Many(&set));
                let name = match told {
                    Told::Global => Name::Update,
                    Told::Subscriber => Name::Changed,
                };
                packets.push(Update { family, set, delete: &delete }.to_packet(name));
            }
        }
        packets
    }
}
