//! Changes held back for a node, at most one for each key, with its newest value.

use super::datum::{Datum, STRING_HEAD};
use super::effect::DbEffect;
use super::entries::{Entries, Tables};
use super::request::Name;
use super::update::{Key, Sets, Update};
use crate::kernel::LARGE_PACKET;
use crate::mutation::{self, Mutation};
use crate::value::{NodeId, Packed, Str};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// The maximum number of keys that are sent when there is room, since each takes some time.
const KEYS_AT_A_TIME: usize = 2048;

/// The maximum octets of a packet besides keys, values and the name of its family.
const PACKET_OVERHEAD: usize = 32;

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

/// The changes of which a node has yet to be told.
#[derive(Debug)]
pub(super) struct HeldBack {
    /// Distinguishes this from transfers and from earlier changes held back for the same node.
    number: u64,
    until: HoldsUntil,
    changes: HeldChanges,
}

/// The newest change of each key.
#[derive(Debug, Clone, Default)]
pub(super) struct HeldChanges {
    of_families: BTreeMap<(Knows, Str), BTreeMap<Str, HeldChange>>,
    /// The number of keys.
    len: usize,
    /// The maximum octets of their packets.
    octets: usize,
}

#[derive(Debug, Clone)]
struct HeldChange {
    /// Whether the node may have got the key before.
    is_known: bool,
    /// Its value; `None` if it was deleted, or is only about to be set.
    value: Option<Datum>,
}

impl HeldBack {
    /// Changes for a node are held back from now on, until the host reports room with this number.
    pub(super) fn begin(
        node: &NodeId,
        number: u64,
        until: HoldsUntil,
        effects: &mut Vec<DbEffect>,
    ) -> Self {
        let held = HeldBack { number, until, changes: HeldChanges::default() };
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
    pub(super) const fn len(&self) -> usize {
        self.changes.len
    }

    /// Records a key that no node has yet, and that is about to be set. Whether the node knows a key is
    /// recorded only the first time, since nothing has been sent to it since then.
    pub(super) fn note_new(&mut self, told: Knows, family: &Str, key: Str) {
        self.changes.change_or_insert(told, family, key, false);
    }

    /// Records a change, all keys of which the node may have got before.
    pub(super) fn note_all(&mut self, told: Knows, update: Update<'_>) {
        let family = update.family.to_str();
        update.set.each(|key, value| {
            self.changes.set(told, &family, key.to_str(), Some(value.to_datum()));
        });
        update.delete.iter().for_each(|key| self.changes.set(told, &family, key.clone(), None));
    }

    /// The newest values of these keys were sent with a piece of a whole database. From now on the node
    /// knows them, whether or not they were new when they were recorded.
    pub(super) fn were_sent(&mut self, told: Knows, piece: &Tables) {
        for (family, entries) in piece {
            self.changes.remove(told, family, entries);
        }
    }

    /// The node no longer gets changes of a family.
    pub(super) fn forget(&mut self, told: Knows, family: &Str) {
        self.changes.forget(&(told, family.clone()));
    }

    /// The node no longer counts as a global node.
    pub(super) fn forget_as_global(&mut self) {
        let of_families = self.changes.of_families.keys();
        let as_global = of_families.filter(|(told, _)| *told == Knows::Global).cloned();
        as_global.collect::<Vec<_>>().iter().for_each(|of_family| self.changes.forget(of_family));
    }

    /// The connection has room: sends about this many octets, and asks for room for the rest. Returns
    /// whether there is a rest.
    pub(super) fn go_on(
        &mut self,
        node: &NodeId,
        most: usize,
        effects: &mut Vec<DbEffect>,
    ) -> bool {
        send(node, self.changes.take(most, KEYS_AT_A_TIME), effects);
        let is_rest = self.changes.len > 0;
        if is_rest {
            self.await_room(node, effects);
        }
        is_rest
    }

    /// Sends everything, since a packet follows that must not overtake it.
    pub(super) fn flush(&mut self, node: &NodeId, effects: &mut Vec<DbEffect>) {
        let changes = std::mem::take(&mut self.changes);
        if changes.octets <= LARGE_PACKET {
            send(node, changes.into_packets(), effects);
        } else {
            effects
                .push(DbEffect::SendLater { to: node.clone(), packets: Box::new(changes.into()) });
        }
    }
}

fn send(node: &NodeId, packets: Vec<Packed>, effects: &mut Vec<DbEffect>) {
    let send = |packet| DbEffect::Send { to: [node.clone()].into(), packet };
    effects.extend(packets.into_iter().map(send));
}

impl HeldChange {
    /// The maximum octets of the change of this key in a packet.
    fn octets(&self, key: &Str) -> usize {
        octets_of_string(key) + self.value.as_ref().map_or(0, |value| value.octets().len())
    }
}

fn octets_of_string(string: &Str) -> usize {
    STRING_HEAD + string.as_ref().data().len()
}

fn octets_of_packet(family: &Str) -> usize {
    PACKET_OVERHEAD + octets_of_string(family)
}

impl HeldChanges {
    /// The maximum octets of the packets.
    pub(super) const fn octets(&self) -> usize {
        self.octets
    }

    fn change_or_insert(
        &mut self,
        told: Knows,
        family: &Str,
        key: Str,
        is_known: bool,
    ) -> &mut HeldChange {
        let of_family = match self.of_families.entry((told, family.clone())) {
            Entry::Occupied(of_family) => of_family.into_mut(),
            Entry::Vacant(place) => {
                self.octets += octets_of_packet(family);
                place.insert(BTreeMap::new())
            }
        };
        match of_family.entry(key) {
            Entry::Occupied(change) => change.into_mut(),
            Entry::Vacant(place) => {
                self.len += 1;
                self.octets += octets_of_string(place.key());
                place.insert(HeldChange { is_known, value: None })
            }
        }
    }

    fn set(&mut self, told: Knows, family: &Str, key: Str, value: Option<Datum>) {
        let octets = |value: &Option<Datum>| value.as_ref().map_or(0, |it| it.octets().len());
        let after = octets(&value);
        let change = self.change_or_insert(told, family, key, true);
        let before = octets(&std::mem::replace(&mut change.value, value));
        self.octets = self.octets + after - before;
    }

    fn remove(&mut self, told: Knows, family: &Str, keys: &Entries) {
        let Entry::Occupied(mut of_family) = self.of_families.entry((told, family.clone())) else {
            return;
        };
        for key in keys.keys() {
            if let Some(change) = of_family.get_mut().remove(key) {
                self.len -= 1;
                self.octets -= change.octets(key);
            }
        }
        if of_family.get().is_empty() {
            self.octets -= octets_of_packet(family);
            of_family.remove();
        }
    }

    fn forget(&mut self, of_family: &(Knows, Str)) {
        let Some(changes) = self.of_families.remove(of_family) else { return };
        self.len -= changes.len();
        self.octets -= octets_of_packet(&of_family.1);
        self.octets -= changes.iter().map(|(key, change)| change.octets(key)).sum::<usize>();
    }

    /// The packets for a node port.
    pub(super) fn into_packets(mut self) -> Vec<Packed> {
        self.take(usize::MAX, usize::MAX)
    }

    /// Takes about this many octets, of so many keys at most, as packets. Keys that were added and deleted
    /// meanwhile are left out.
    fn take(&mut self, most: usize, keys: usize) -> Vec<Packed> {
        if mutation::is_on(Mutation::LoseWhatWaitsForRoom) {
            *self = HeldChanges::default();
        }
        let (octets_left, len_left) =
            (self.octets.saturating_sub(most), self.len.saturating_sub(keys));
        let mut packets = Vec::new();
        while self.octets > octets_left
            && self.len > len_left
            && let Some(mut of_family) = self.of_families.first_entry()
        {
            let (told, family) = of_family.key().clone();
            let (mut set, mut delete) = (Entries::new(), Vec::new());
            while self.octets > octets_left
                && self.len > len_left
                && let Some((key, change)) = of_family.get_mut().pop_first()
            {
                self.len -= 1;
                self.octets -= change.octets(&key);
                match change.value {
                    Some(value) => drop(set.insert(key, value)),
                    None if change.is_known => delete.push(key),
                    None => {}
                }
            }
            if of_family.get().is_empty() {
                self.octets -= octets_of_packet(&family);
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
