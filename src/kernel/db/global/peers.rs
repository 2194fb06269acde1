//! Nodes that connect and disconnect, other global nodes in particular, and this node's entries about
//! them.

use super::super::datum::Datum;
use super::super::effect::{DbEffect, DbProblem};
use super::super::entries::Tables;
use super::super::held::Knows;
use super::super::merge::{Change, OwnerKind};
use super::super::request::{Name, Request};
use super::super::transfer::{Transfer, octets_of};
use super::super::update::{Key, Sets, Update};
use super::super::{GLOBALS, LOCATIONS, node_key, node_of};
use super::audience::Recipients;
use super::{Around, Global};
use crate::mutation::{self, Mutation};
use crate::value::{NodeId, Str};
use std::collections::BTreeSet;

/// The maximum number of global nodes to which connections are kept.
const MAX_GLOBALS: usize = 1000;

impl Global {
    /// This node has just become global: its own database is added, and all nodes are told; other global
    /// nodes get its entries.
    pub(crate) fn start(&mut self, globals: &BTreeSet<NodeId>, around: &mut Around<'_>) {
        let own = self.own.clone();
        self.young_until = around.now + around.local.grace();
        for request in around.local.adopt_itself(&own) {
            self.receive(&own, request, around);
        }
        self.set_own(GLOBALS, &own, Datum::UNDEF, around);
        let up = Recipients::of(&own, around.up);
        around.send(&own, up, Request::Global);
        for peer in globals {
            self.meet(peer, around);
        }
    }

    /// A connected node announced that it is global.
    pub(crate) fn global_is_up(&mut self, node: &NodeId, around: &mut Around<'_>) {
        // A node that repeats its announcement does not send its database again, so it must not be
        // forgotten.
        if *node == self.own || self.peers.contains(node) {
            return;
        }
        self.forget_node(node, around);
        let changes = if self.is_slave(node) {
            let grace = around.local.grace();
            self.merge.slave_is_global(node, grace, self.limits.database, around.now)
        } else {
            self.merge.remove(node)
        };
        self.announce_loss(changes, around);
        self.meet(node, around);
    }

    fn meet(&mut self, peer: &NodeId, around: &mut Around<'_>) {
        self.peers.insert(peer);
        self.merge.set_kind(peer, OwnerKind::Global);
        self.set_own(GLOBALS, peer, Datum::UNDEF, around);
        self.begin_transfer(peer, around);
    }

    /// Begins to send our slaves' entries to another global node, in pieces. The first piece has all
    /// that Perl nodes accept only there: which nodes are global as far as this one knows itself, and
    /// this node's addresses. What slaves say about global nodes comes next.
    fn begin_transfer(&mut self, peer: &NodeId, around: &mut Around<'_>) {
        let mut first = Tables::new();
        let globals = around.local.own_keys(GLOBALS).into_iter().map(|key| (GLOBALS, key));
        for (family, key) in globals.chain([(LOCATIONS, node_key(&self.own))]) {
            let family = Str::text(family);
            if let Some(value) = self.merge.value_of_slaves(&family, &key) {
                first.entry(family).or_default().insert(key, value.clone());
            }
        }
        let mut transfer = Transfer::new(around.local.new_transfer());
        let left = around.piece.saturating_sub(octets_of(&first));
        let next = transfer.next(left, &self.merge);
        for (family, entries) in next {
            first.entry(family).or_default().extend(entries);
        }
        around.reply(&self.own, peer, Request::Set(first));
        self.go_on_later(peer, transfer, around);
    }

    /// The connection has room for the next piece of a transfer, or for changes that were held back.
    pub(crate) fn has_room(&mut self, peer: &NodeId, number: u64, around: &mut Around<'_>) {
        if self.transfers.get(peer).is_none_or(|transfer| transfer.number() != number) {
            return self.has_room_again(peer, number, around);
        }
        let Some(mut transfer) = self.transfers.remove(peer) else { return };
        let next = transfer.next(around.piece, &self.merge);
        if let Some(held) = self.held.get_mut(peer) {
            held.were_sent(Knows::Global, &next);
        }
        for (family, entries) in next {
            let (family, set) = (Key::Held(&family), Sets::Many(&entries));
            let packet = Update { family, set, delete: &[] }.to_packet(Name::Update);
            around.effects.push(DbEffect::Send { to: [peer.clone()].into(), packet });
        }
        self.go_on_later(peer, transfer, around);
    }

    fn go_on_later(&mut self, peer: &NodeId, transfer: Transfer, around: &mut Around<'_>) {
        if !transfer.is_done() {
            let (node, number) = (peer.clone(), transfer.number());
            around.effects.push(DbEffect::AwaitRoom { node, number });
            self.transfers.insert(peer.clone(), transfer);
        }
    }

    /// A connection is lost, and with it what was received over it. The entries of the slaves of a lost
    /// global node are kept for a grace period, as the slaves will move to another master.
    pub(crate) fn node_down(&mut self, node: &NodeId, around: &mut Around<'_>) {
        if !mutation::is_on(Mutation::KeepSubscriptionsOfLostNodes) {
            self.unsubscribe_all(node);
        }
        self.merge.cancel_readings(node);
        self.held.remove(node);
        self.forget_node(node, around);
        let changes = if self.merge.kind(node) == Some(OwnerKind::Global) {
            let grace = around.local.grace();
            let losses = around.local.losses();
            self.merge.lose_global(node, grace, self.limits.database, losses, around.now)
        } else {
            self.merge.remove(node)
        };
        self.announce_loss(changes, around);
    }

    /// The connection to a node is lost.
    pub(crate) fn is_lost(&mut self, node: &NodeId, around: &mut Around<'_>) {
        self.merge.is_lost(node, around.now);
    }

    /// Drops a slave's database: it was an outdated copy, or the slave has another master now
    /// (docs/protocol.md §7.2).
    pub(crate) fn drop_slave(&mut self, node: &NodeId, around: &mut Around<'_>) {
        if *node != self.own && self.is_slave(node) {
            self.node_down(node, around);
        }
    }

    fn forget_node(&mut self, node: &NodeId, around: &mut Around<'_>) {
        self.peers.remove(node);
        self.transfers.remove(node);
        if let Some(held) = self.held.get_mut(node) {
            held.forget_as_global();
        }
        self.delete_own(GLOBALS, node, around);
        self.delete_own(LOCATIONS, node, around);
    }

    fn announce_loss(&mut self, changes: Vec<(Str, Change)>, around: &mut Around<'_>) {
        let kept = usize::from(mutation::is_on(Mutation::KeepEntriesOfLostNodes));
        for (family, change) in changes.into_iter().skip(kept) {
            self.announce(Key::Held(&family), Sets::None, &change, around);
        }
    }

    /// The addresses that an update of another global node announces for that node; `Some(None)` if it
    /// withdraws them.
    pub(super) fn location_of_peer(
        &self,
        peer: &NodeId,
        update: Update<'_>,
        around: &mut Around<'_>,
    ) -> Option<Option<Datum>> {
        self.look_for_conflicts(peer, update.set, around);
        let mut location = update.delete.contains(&node_key(peer)).then_some(None);
        update.set.each(|key, value| {
            if key.string() == peer.as_str() {
                location = Some(Some(value.to_datum()));
            }
        });
        location
    }

    /// Announces the addresses of another global node to our slaves as well, so that global nodes find
    /// each other.
    pub(super) fn mirror_location(
        &mut self,
        peer: &NodeId,
        location: Option<&Datum>,
        around: &mut Around<'_>,
    ) {
        match location.filter(|location| location.to_addresses().is_some()) {
            Some(location) => self.set_own(LOCATIONS, peer, location.clone(), around),
            None => self.delete_own(LOCATIONS, peer, around),
        }
    }

    pub(super) fn keep_connections(
        &mut self,
        set: Sets<'_>,
        deleted: &[Str],
        around: &mut Around<'_>,
    ) {
        set.each(|key, _| {
            if let Some(node) = node_of(&key.to_str())
                && node != self.own
                && self.kept.len() < MAX_GLOBALS
                && self.kept.insert(node.clone())
            {
                around.effects.push(DbEffect::KeepAlive(node));
            }
        });
        for node in deleted.iter().filter_map(node_of) {
            if self.kept.remove(&node) {
                around.effects.push(DbEffect::KeepAliveNoMore(node));
            }
        }
    }

    pub(super) fn notice_locations(&self, set: Sets<'_>, deleted: &[Str], around: &mut Around<'_>) {
        set.each(|key, value| {
            if let Some(node) = node_of(&key.to_str())
                && around.up.contains(&node)
            {
                around.effects.push(match value.to_datum().to_addresses() {
                    Some(_) => DbEffect::Located(node),
                    None => DbEffect::Unlocated(node),
                });
            }
        });
        for node in deleted.iter().filter_map(node_of) {
            if around.up.contains(&node) {
                around.effects.push(DbEffect::Unlocated(node));
            }
        }
    }

    /// Sets an own entry of an internal family.
    fn set_own(&mut self, family: &str, node: &NodeId, value: Datum, around: &mut Around<'_>) {
        let (family, key) = (Str::text(family), node_key(node));
        match around.local.set(&family, &key, &value) {
            Ok(false) => {}
            Ok(true) => {
                let set = Sets::One(Key::Held(&key), value.octets());
                self.own_update(Update { family: Key::Held(&family), set, delete: &[] }, around);
            }
            Err(why) => around.problem(node, DbProblem::Unsendable("g_upd", why)),
        }
    }

    fn delete_own(&mut self, family: &str, node: &NodeId, around: &mut Around<'_>) {
        let family = Str::text(family);
        let deleted = around.local.delete(&family, [node_key(node)]);
        if !deleted.is_empty() {
            let (family, set) = (Key::Held(&family), Sets::None);
            self.own_update(Update { family, set, delete: &deleted }, around);
        }
    }

    fn own_update(&mut self, update: Update<'_>, around: &mut Around<'_>) {
        let own = self.own.clone();
        self.update(&own, update, around);
    }
}
