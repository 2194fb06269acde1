//! The global side: slaves, other global nodes, subscribers, and what is sent to each (docs/protocol.md
//! §5.2).

mod audience;
mod peers;
mod questions;
mod slow;
mod subscriptions;
mod whole;

pub(super) use audience::Around;
pub(crate) use questions::FamilyAnswer;
pub(crate) use questions::Question;

use super::datum::Datum;
use super::effect::{DbEffect, DbProblem};
use super::held::{HeldBack, Knows};
use super::merge::{Change, Merge, OwnerKind, OwnerStatus};
use super::request::{Name, Request};
use super::transfer::Transfer;
use super::update::{Key, Sets, Update};
use super::{GLOBALS, LOCATIONS, is_internal, node_key};
use crate::kernel::HashMap;
use crate::kernel::limits::PeerLimits;
use crate::mutation::{self, Mutation};
use crate::value::{NodeId, Str, packed};
use audience::{Audience, Parts};
use questions::Wanted;
use slow::note;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use subscriptions::{Subscriptions, subscription_octets};

/// The whole database, as a global node keeps it.
#[derive(Debug)]
pub struct Global {
    own: NodeId,
    merge: Merge,
    /// Global nodes that have our slaves' databases and get all changes of them.
    peers: Audience,
    subscribers: HashMap<Str, Audience>,
    subscriptions: BTreeMap<NodeId, Subscriptions>,
    limits: PeerLimits,
    kept: BTreeSet<NodeId>,
    /// Transfers of our slaves' entries to other global nodes.
    transfers: BTreeMap<NodeId, Transfer>,
    /// Changes held back for nodes whose connections have no room.
    held: BTreeMap<NodeId, HeldBack>,
    /// The end of the grace period after this node became global, during which the databases of other
    /// global nodes may not have arrived.
    young_until: Duration,
    /// What is left of the last question about a family.
    unfinished: Option<Question>,
}

impl Global {
    pub(crate) fn new(own: NodeId, limits: PeerLimits) -> Self {
        let mut merge = Merge::new();
        merge.set_kind(&own, OwnerKind::Slave);
        Global {
            own,
            merge,
            peers: Audience::default(),
            subscribers: HashMap::default(),
            subscriptions: BTreeMap::new(),
            limits,
            kept: BTreeSet::new(),
            transfers: BTreeMap::new(),
            held: BTreeMap::new(),
            young_until: Duration::ZERO,
            unfinished: None,
        }
    }

    pub(crate) fn set_limits(&mut self, limits: PeerLimits) {
        self.limits = limits;
    }

    /// Octets kept for peers, without their entries.
    pub(crate) fn octets_for_peers(&self) -> usize {
        self.subscriptions.values().map(|subscriptions| subscriptions.octets).sum()
    }

    /// The entries of all nodes, merged.
    pub fn merge(&self) -> &Merge {
        &self.merge
    }

    /// The nodes about which something is kept: entries, subscriptions, or that they are global.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeId> {
        let known = self.merge.owners().chain(&self.peers.nodes);
        known.chain(self.subscriptions.keys()).chain(&self.kept).chain(self.held.keys())
    }

    /// Whether a node has sent us its database as a slave.
    pub fn is_slave(&self, node: &NodeId) -> bool {
        self.merge.kind(node) == Some(OwnerKind::Slave)
    }

    /// The number of subscribers of a family.
    pub fn subscribers(&self, family: &Str) -> usize {
        self.subscribers.get(family).map_or(0, |subscribers| subscribers.nodes.len())
    }

    /// The known addresses of a node.
    pub fn location(&self, node: &NodeId) -> Option<Vec<Str>> {
        self.merge.get(&Str::text(LOCATIONS), &node_key(node))?.to_addresses()
    }

    /// The nodes that announce the addresses of `node`: itself as our slave, and other global nodes.
    pub fn announcers(&self, node: &NodeId) -> Vec<NodeId> {
        self.merge.holders(&Str::text(LOCATIONS), &node_key(node)).cloned().collect()
    }

    /// Handles a request of a connected node, or of this node.
    pub(crate) fn receive(&mut self, from: &NodeId, request: Request, around: &mut Around<'_>) {
        if matches!(
            request,
            Request::Find(_) | Request::Monitor(_) | Request::Query { .. } | Request::Get { .. }
        ) {
            self.flush(from, around);
            if self.merge.kind(from).is_none_or(|kind| kind == OwnerKind::Other) {
                self.is_orphan(from, request.name(), around);
            }
        }
        match request {
            Request::Slave(Some(tables)) => self.slave(from, tables, around),
            Request::Set(tables) => self.peer_database(from, tables, around),
            Request::Update { family, set, delete } => {
                let (mut set, mut delete) = (set.unwrap_or_default(), delete.unwrap_or_default());
                self.update(from, Update::of(&family, &mut set, &mut delete), around);
            }
            Request::Find(node) => {
                let addresses = self.location(&node);
                around.reply(&self.own, from, Request::Found { node, addresses });
            }
            Request::Query { kind, family, id } => {
                self.ask(from, Wanted::Content(kind, id), family, around);
            }
            Request::Get { family, key, id } => {
                let value = self.merge.get(&family, &key);
                let result = Datum::build(|out| {
                    packed::put_array(out, usize::from(value.is_some()));
                    value.into_iter().for_each(|value| out.extend_from_slice(value.octets()));
                });
                around.reply(&self.own, from, Request::Reply { id, result });
            }
            Request::Monitor(family) => self.ask(from, Wanted::Changes, family, around),
            Request::Unmonitor(family) => {
                self.unsubscribe(from, &family);
                if let Some(subscriptions) = self.subscriptions.get_mut(from) {
                    if subscriptions.families.remove(&family) {
                        subscriptions.octets -= subscription_octets(&family);
                    }
                    if subscriptions.families.is_empty() {
                        self.subscriptions.remove(from);
                    }
                }
            }
            _ => {}
        }
    }

    fn is_orphan(&self, node: &NodeId, request: &'static str, around: &mut Around<'_>) {
        if *node != self.own {
            around.effects.push(DbEffect::Orphan { node: node.clone(), request });
        }
    }

    /// Looks up a node that is our slave or another global node.
    pub(crate) fn expected(&self, node: &NodeId) -> Option<OwnerStatus> {
        self.merge.status(node).filter(|owner| owner.kind != OwnerKind::Other)
    }

    /// Applies an update of a node's own database.
    pub(crate) fn update(&mut self, from: &NodeId, update: Update<'_>, around: &mut Around<'_>) {
        let owner = self.merge.make_known(from);
        if owner.kind == OwnerKind::Other {
            self.is_orphan(from, "g_upd", around);
        }
        self.update_of(from, owner, update, around);
    }

    /// As [`Global::update`], for a node that was looked up already.
    pub(crate) fn update_of(
        &mut self,
        from: &NodeId,
        owner: OwnerStatus,
        update: Update<'_>,
        around: &mut Around<'_>,
    ) {
        // Other global nodes are told of no other changes.
        if owner.kind == OwnerKind::Slave {
            self.end_batch(around);
        }
        self.set_and_delete(from, owner, update, around);
    }

    fn set_and_delete(
        &mut self,
        from: &NodeId,
        owner: OwnerStatus,
        update: Update<'_>,
        around: &mut Around<'_>,
    ) {
        let mut update = update;
        if owner.octets >= self.limits.database && *from != self.own && !update.set.is_empty() {
            around.problem(from, DbProblem::TooMuch("g_upd", "database_limit"));
            update.set = Sets::None;
        }
        match self.merge.check(update) {
            Ok(()) => self.apply(from, owner, update, around),
            Err(why) => {
                around.problem(from, DbProblem::Unsendable("g_upd", why));
                let (entries, _) = self.merge.sendable(update);
                let set = Sets::Many(&entries);
                self.apply(from, owner, Update { set, ..update }, around);
            }
        }
    }

    /// Applies an update that was checked and can be sent on as a whole.
    fn apply(
        &mut self,
        from: &NodeId,
        owner: OwnerStatus,
        update: Update<'_>,
        around: &mut Around<'_>,
    ) {
        if !self.held.is_empty() {
            self.note_new_keys(update.family, update.set);
        }
        let location = match update.family.string() == *LOCATIONS && self.peers.contains(from) {
            true => self.location_of_peer(from, update, around),
            false => None,
        };
        let change = self.merge.apply(owner, update);
        self.announce(update.family, update.set, &change, around);
        if let Some(location) = location {
            self.mirror_location(from, location.as_ref(), around);
        }
    }

    /// Whether this node has just become global, and another global node has not sent its database yet:
    /// that one may have keys that others delete.
    fn lacks_databases(&self, now: Duration) -> bool {
        let is_incomplete =
            |node| self.merge.owned(node) == 0 || self.merge.is_being_replaced(node);
        now < self.young_until && self.kept.iter().any(is_incomplete)
    }

    /// Sends a change to all nodes that need it, with the entries set at the same time.
    fn announce(
        &mut self,
        family: Key<'_>,
        set: Sets<'_>,
        change: &Change,
        around: &mut Around<'_>,
    ) {
        if family.string() == *LOCATIONS {
            let now = around.now;
            set.each(|node, _| self.merge.has_come(node, now));
            change.set.keys().for_each(|node| self.merge.has_come(Key::Held(node), now));
        }
        if change.tell_globals && !self.peers.nodes.is_empty() {
            self.tell_globals(family, set, change, around);
        }
        if !set.is_empty() || change.tell_subscribers() {
            let more = set.and([&change.set, &change.set_for_subscribers]);
            let set = more.as_ref().map_or(set, Sets::Many);
            self.tell_subscribers(family, set, change, around);
        }
    }

    fn tell_globals(
        &mut self,
        family: Key<'_>,
        set: Sets<'_>,
        change: &Change,
        around: &mut Around<'_>,
    ) {
        let more = set.and([&change.set, &change.set_for_globals]);
        let set = more.as_ref().map_or(set, Sets::Many);
        let rest = match mutation::is_on(Mutation::HideWhatIsTakenOver) {
            true => set.without(&change.taken_over),
            false => None,
        };
        let set = rest.as_ref().map_or(set, Sets::Many);
        let delete = match mutation::is_on(Mutation::TellNoGlobalOfDeletions) {
            true => &[],
            false => change.deletions_for_globals.as_slice(),
        };
        let Parts { at_once, without_room } = self.peers.parts(&self.own, &self.held);
        let update = Update { family, set, delete };
        if !at_once.others.is_empty() {
            let packet = update.to_packet(Name::Update);
            around.effects.push(DbEffect::Send { to: at_once.others.clone(), packet });
        }
        note(&mut self.held, without_room, Knows::Global, update);
    }

    fn tell_subscribers(
        &mut self,
        family: Key<'_>,
        set: Sets<'_>,
        change: &Change,
        around: &mut Around<'_>,
    ) {
        let deleted = change.deletions_for_subscribers.as_slice();
        if is_internal(family.string()) {
            if family.string() == *GLOBALS {
                self.keep_connections(set, deleted, around);
            } else if family.string() == *LOCATIONS {
                self.notice_locations(set, deleted, around);
            }
        }
        let Some(subscribers) = self.subscribers.get_mut(&family.string()) else { return };
        let news = set.without(&change.taken_over);
        let set = news.as_ref().map_or(set, Sets::Many);
        if set.is_empty() && deleted.is_empty() {
            return;
        }
        let Parts { at_once, without_room } = subscribers.parts(&self.own, &self.held);
        let untold = usize::from(mutation::is_on(Mutation::TellNoSubscriberOfDeletions));
        let delete = deleted.get(untold..).unwrap_or_default();
        let update = Update { family, set, delete };
        if !at_once.others.is_empty() {
            let packet = update.to_packet(Name::Changed);
            around.effects.push(DbEffect::Send { to: at_once.others.clone(), packet });
        }
        note(&mut self.held, without_room, Knows::Subscriber, update);
        if at_once.ourselves {
            let keep = !change.tell_globals && self.lacks_databases(around.now);
            let keep_until = keep.then_some(self.young_until);
            around.local.changed(&self.own, update, keep_until, around.effects);
        }
    }
}

#[cfg(test)]
mod grace_tests;
#[cfg(test)]
mod slow_tests;
#[cfg(test)]
mod tests;
