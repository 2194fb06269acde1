//! Nodes whose connections have no room: changes wait for them, and coalesce.

use super::super::effect::DbEffect;
use super::super::entries::Tables;
use super::super::held::{Held, Told};
use super::super::update::{Key, Sets};
use super::{Around, Global};
use crate::value::{NodeId, Str};
use std::collections::BTreeMap;

impl Global {
    /// How many changes wait for a node whose connection has no room.
    pub fn held(&self, node: &NodeId) -> usize {
        self.held.get(node).map_or(0, Held::len)
    }

    /// The connection of a node has no room: what it is told as a subscriber or global node waits, until
    /// [`Global::has_room_again`].
    pub(crate) fn has_no_room(&mut self, node: &NodeId, around: &mut Around<'_>) {
        let is_told = self.peers.contains(node) || self.subscriptions.contains_key(node);
        if !is_told || *node == self.own || self.held.contains_key(node) {
            return;
        }
        let number = around.local.new_transfer();
        self.held.insert(node.clone(), Held::new(number));
        self.recipients_change(node);
        around.effects.push(DbEffect::AwaitRoom { node: node.clone(), number });
    }

    /// There is room for what waits, or for a piece of it.
    pub(super) fn has_room_again(&mut self, node: &NodeId, number: u64, around: &mut Around<'_>) {
        if self.held.get(node).is_none_or(|held| held.number() != number) {
            return;
        }
        self.send_held(node, around.piece, around);
        if self.held.get(node).is_some_and(Held::is_empty) {
            self.held.remove(node);
            self.recipients_change(node);
        } else {
            around.effects.push(DbEffect::AwaitRoom { node: node.clone(), number });
        }
    }

    /// Sends all that waits for a node: what follows says something about it.
    pub(crate) fn flush(&mut self, node: &NodeId, around: &mut Around<'_>) {
        self.send_held(node, usize::MAX, around);
    }

    fn send_held(&mut self, node: &NodeId, most: usize, around: &mut Around<'_>) {
        let Some(held) = self.held.get_mut(node) else { return };
        let merge = &self.merge;
        let packets = held.take(most, |told, family, key| match told {
            Told::Global => merge.value_of_slaves(family, key),
            Told::Subscriber => merge.get(family, key),
        });
        let send = |packet| DbEffect::Send { to: [node.clone()].into(), packet };
        around.effects.extend(packets.into_iter().map(send));
    }

    /// Whether a node is told at once is different from now on.
    fn recipients_change(&mut self, node: &NodeId) {
        self.peers.changes(node);
        let subscriptions = self.subscriptions.get(node);
        for family in subscriptions.into_iter().flat_map(|one| &one.families) {
            if let Some(subscribers) = self.subscribers.get_mut(family) {
                subscribers.changes(node);
            }
        }
    }

    /// Keys are about to be set: those that nobody has yet, nodes that wait cannot have got. Without this
    /// they would be told of the deletion of what they never saw.
    pub(super) fn note_new_keys(&mut self, family: Key<'_>, set: Sets<'_>) {
        let family = family.to_str();
        let (merge, subscribers) = (&self.merge, self.subscribers.get(&family));
        for (node, held) in &mut self.held {
            let mut note = |told, is_new: &dyn Fn(&Str) -> bool| {
                set.each(|key, _| {
                    let key = key.to_str();
                    if is_new(&key) {
                        held.note(told, &family, key, false);
                    }
                });
            };
            if self.peers.contains(node) {
                note(Told::Global, &|key| merge.value_of_slaves(&family, key).is_none());
            }
            if subscribers.is_some_and(|subscribers| subscribers.contains(node)) {
                note(Told::Subscriber, &|key| merge.get(&family, key).is_none());
            }
        }
    }

    /// As [`Global::note_new_keys`], of a whole database.
    pub(super) fn note_new_tables(&mut self, tables: &Tables) {
        if !self.held.is_empty() {
            for (family, set) in tables {
                self.note_new_keys(Key::Held(family), Sets::Many(set));
            }
        }
    }
}

/// Notes for nodes without room what others are told at once.
pub(super) fn note(
    held: &mut BTreeMap<NodeId, Held>,
    nodes: &[NodeId],
    (told, family): (Told, Key<'_>),
    set: Sets<'_>,
    delete: &[Str],
) {
    for node in nodes {
        if let Some(held) = held.get_mut(node) {
            let family = family.to_str();
            set.each(|key, _| held.note(told, &family, key.to_str(), true));
            delete.iter().for_each(|key| held.note(told, &family, key.clone(), true));
        }
    }
}
