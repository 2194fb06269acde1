//! Changes held back for a node, at most one for each key.
//!
//! Only keys are recorded. Their values are looked up when they are sent, as in a
//! [`Transfer`](super::transfer::Transfer), so the node gets the newest value, or a deletion.

use super::datum::Datum;
use super::effect::DbEffect;
use super::entries::{Entries, Tables};
use super::request::Name;
use super::transfer::cost;
use super::update::{Key, Sets, Update};
use crate::mutation::{self, Mutation};
use crate::value::{NodeId, Packed, Str};
use std::collections::BTreeMap;

/// The role in which a node gets changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Knows {
    /// A global node: it gets the entries of our slaves.
    Global,
    /// A subscriber: it gets the merged entries.
    Subscriber,
    /// Our master: it gets our own entries.
    Master,
}

/// How long changes are held back for a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HoldsUntil {
    /// Until its connection has room.
    Room,
    /// Until the host's next turn, or a change that does not belong to the batch.
    NextTurn,
}

/// The keys of which a node has to be told.
#[derive(Debug)]
pub(super) struct PendingKeys {
    /// Distinguishes this from transfers and from earlier changes held back for the same node.
    number: u64,
    until: HoldsUntil,
    /// The keys of each family, each with whether the node may have got the key before.
    keys: BTreeMap<(Knows, Str), BTreeMap<Str, bool>>,
}

impl PendingKeys {
    /// Changes for a node are held back from now on, until the host reports room with this number.
    pub(super) fn begin(
        node: &NodeId,
        number: u64,
        until: HoldsUntil,
        effects: &mut Vec<DbEffect>,
    ) -> Self {
        let held = PendingKeys { number, until, keys: BTreeMap::new() };
        held.await_room(node, effects);
        held
    }

    fn await_room(&self, node: &NodeId, effects: &mut Vec<DbEffect>) {
        effects.push(DbEffect::AwaitRoom { node: node.clone(), number: self.number });
    }

    pub(super) const fn until(&self) -> HoldsUntil {
        self.until
    }

    pub(super) const fn wait_for(&mut self, until: HoldsUntil) {
        self.until = until;
    }

    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    /// The number of keys.
    pub(super) fn len(&self) -> usize {
        self.keys.values().map(BTreeMap::len).sum()
    }

    /// Records a changed key. Whether the node knows the key is recorded only the first time, since
    /// nothing has been sent to it since then.
    pub(super) fn note(&mut self, told: Knows, family: &Str, key: Str, is_known: bool) {
        let keys = self.keys.entry((told, family.clone())).or_default();
        keys.entry(key).or_insert(is_known);
    }

    /// Records the keys of a change, all of which the node may have got before.
    pub(super) fn note_all(&mut self, told: Knows, update: Update<'_>) {
        let family = update.family.to_str();
        update.set.each(|key, _| self.note(told, &family, key.to_str(), true));
        update.delete.iter().for_each(|key| self.note(told, &family, key.clone(), true));
    }

    /// The newest values of these keys were sent with a piece of a whole database. From now on the node
    /// knows them, whether or not they were new when they were recorded.
    pub(super) fn were_sent(&mut self, told: Knows, piece: &Tables) {
        for (family, entries) in piece {
            let family = (told, family.clone());
            if let Some(keys) = self.keys.get_mut(&family) {
                for key in entries.keys() {
                    keys.remove(key);
                }
                if keys.is_empty() {
                    self.keys.remove(&family);
                }
            }
        }
    }

    /// The node no longer gets changes of a family.
    pub(super) fn forget(&mut self, told: Knows, family: &Str) {
        self.keys.remove(&(told, family.clone()));
    }

    /// The node no longer counts as a global node.
    pub(super) fn forget_as_global(&mut self) {
        self.keys.retain(|(told, _), _| *told != Knows::Global);
    }

    /// The connection has room: sends about this many octets, and asks for room for the rest. Returns
    /// whether there is a rest.
    pub(super) fn go_on<'a>(
        &mut self,
        node: &NodeId,
        most: usize,
        value_of: impl Fn(Knows, &Str, &Str) -> Option<&'a Datum>,
        effects: &mut Vec<DbEffect>,
    ) -> bool {
        self.send(node, most, value_of, effects);
        let is_rest = !self.keys.is_empty();
        if is_rest {
            self.await_room(node, effects);
        }
        is_rest
    }

    /// Sends about this many octets: the current values of recorded keys, or their deletions.
    pub(super) fn send<'a>(
        &mut self,
        node: &NodeId,
        most: usize,
        value_of: impl Fn(Knows, &Str, &Str) -> Option<&'a Datum>,
        effects: &mut Vec<DbEffect>,
    ) {
        let packets = self.take(most, value_of).into_iter();
        effects.extend(packets.map(|packet| DbEffect::Send { to: [node.clone()].into(), packet }));
    }

    /// Takes about this many octets of keys and returns their current values or deletions as packets.
    /// Keys that were added and deleted meanwhile are left out.
    fn take<'a>(
        &mut self,
        most: usize,
        value_of: impl Fn(Knows, &Str, &Str) -> Option<&'a Datum>,
    ) -> Vec<Packed> {
        if mutation::is_on(Mutation::LoseWhatWaitsForRoom) {
            self.keys.clear();
        }
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
                let update = Update { family, set, delete: &delete };
                packets.push(match told {
                    Knows::Global => update.to_packet(Name::Update),
                    Knows::Subscriber => update.to_packet(Name::Changed),
                    Knows::Master => update.to_packet_of_slave(),
                });
            }
        }
        packets
    }
}
