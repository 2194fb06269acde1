//! Nodes whose connections have no room: changes for them are held back and merged. Likewise, for one
//! turn, what moving slaves bring to the other global nodes.

use super::super::entries::Tables;
use super::super::held::{HeldBack, HoldsUntil, Knows};
use super::super::update::{Key, Sets, Update};
use super::{Around, Global};
use crate::value::{NodeId, Str};
use std::collections::BTreeMap;

impl Global {
    /// The number of changes held back for a node whose connection has no room.
    pub(crate) fn held(&self, node: &NodeId) -> usize {
        self.held.get(node).map_or(0, HeldBack::len)
    }

    /// The connection of a node has no room: changes for it as a subscriber or global node are held back
    /// until [`Global::has_room_again`].
    pub(crate) fn has_no_room(&mut self, node: &NodeId, around: &mut Around<'_>) {
        if let Some(held) = self.held.get_mut(node) {
            held.wait_for(HoldsUntil::Room);
            return;
        }
        let is_told = self.peers.contains(node) || self.subscriptions.contains_key(node);
        if is_told && *node != self.own {
            self.hold_back(node, HoldsUntil::Room, around);
        }
    }

    fn hold_back(&mut self, node: &NodeId, until: HoldsUntil, around: &mut Around<'_>) {
        let number = around.local.new_transfer();
        let held = HeldBack::begin(node, number, until, around.effects);
        self.held.insert(node.clone(), held);
        self.recipients_change(node);
    }

    /// The database of `from` follows. While slaves of a lost global node are moving, many come at once:
    /// what they bring is held back for the other global nodes until the host's next turn, in which it
    /// answers [`DbEffect::AwaitRoom`]. So it takes one packet for each family, not for each slave.
    pub(super) fn begin_batch(&mut self, from: &NodeId, around: &mut Around<'_>) {
        if !self.merge.has_unclaimed() || !self.is_slave(from) {
            return;
        }
        let peers = self.peers.nodes.iter().filter(|peer| !self.held.contains_key(*peer));
        for peer in peers.cloned().collect::<Vec<_>>() {
            self.hold_back(&peer, HoldsUntil::NextTurn, around);
        }
    }

    /// A change by a slave follows that is not part of its whole database: it is sent at once.
    pub(super) fn end_batch(&mut self, around: &mut Around<'_>) {
        if self.held.is_empty() {
            return;
        }
        let batch = self.held.iter().filter(|(_, held)| held.until() == HoldsUntil::NextTurn);
        for peer in batch.map(|(peer, _)| peer.clone()).collect::<Vec<_>>() {
            self.flush(&peer, around);
            self.held.remove(&peer);
            self.recipients_change(&peer);
        }
    }

    /// The connection has room for changes that were held back, or for some of them.
    pub(super) fn has_room_again(&mut self, node: &NodeId, number: u64, around: &mut Around<'_>) {
        let Some(held) = self.held.get_mut(node).filter(|held| held.number() == number) else {
            return;
        };
        if !held.go_on(node, around.piece, around.effects) {
            self.held.remove(node);
            self.recipients_change(node);
        }
    }

    /// Sends all changes held back for a node, since a packet follows that must not overtake them.
    pub(crate) fn flush(&mut self, node: &NodeId, around: &mut Around<'_>) {
        if let Some(held) = self.held.get_mut(node) {
            held.flush(node, around.effects);
        }
    }

    /// Changes for a node are held back from now on, or no longer.
    fn recipients_change(&mut self, node: &NodeId) {
        self.peers.changes(node);
        let subscriptions = self.subscriptions.get(node);
        for family in subscriptions.into_iter().flat_map(|one| &one.families) {
            if let Some(subscribers) = self.subscribers.get_mut(family) {
                subscribers.changes(node);
            }
        }
    }

    /// Keys are about to be set. Keys that no node has yet cannot have been sent to nodes with held-back
    /// changes; they are noted as new, so that no deletion is reported of a key that was never sent.
    pub(super) fn note_new_keys(&mut self, family: Key<'_>, set: Sets<'_>) {
        let family = family.to_str();
        let (merge, subscribers) = (&self.merge, self.subscribers.get(&family));
        let keys = |is_new: &dyn Fn(&Str) -> bool| {
            let mut keys = Vec::new();
            set.each(|key, _| keys.extend(Some(key.to_str()).filter(is_new)));
            keys
        };
        let for_globals = keys(&|key| merge.value_of_slaves(&family, key).is_none());
        let for_subscribers = keys(&|key| merge.get(&family, key).is_none());
        for (node, held) in &mut self.held {
            let is_subscriber = subscribers.is_some_and(|subscribers| subscribers.contains(node));
            for (told, is_told, keys) in [
                (Knows::Global, self.peers.contains(node), &for_globals),
                (Knows::Subscriber, is_subscriber, &for_subscribers),
            ] {
                let keys = keys.iter().filter(|_| is_told);
                keys.for_each(|key| held.note_new(told, &family, key.clone()));
            }
        }
    }

    /// As [`Global::note_new_keys`], for a whole database.
    pub(super) fn note_new_tables(&mut self, tables: &Tables) {
        if !self.held.is_empty() {
            for (family, set) in tables {
                self.note_new_keys(Key::Held(family), Sets::Many(set));
            }
        }
    }
}

/// Notes, for nodes without room, a change that other nodes get at once.
pub(super) fn note(
    held: &mut BTreeMap<NodeId, HeldBack>,
    nodes: &[NodeId],
    told: Knows,
    update: Update<'_>,
) {
    for node in nodes {
        if let Some(held) = held.get_mut(node) {
            held.note_all(told, update);
        }
    }
}
