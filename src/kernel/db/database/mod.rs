//! A node's part of the global database: the slave side always, the global side once the node is global.

mod requests;
#[cfg(test)]
mod tests;

use crate::kernel::db::datum::Datum;
use crate::kernel::db::effect::{DbEffect, DbProblem};
use crate::kernel::db::entries::Tables;
use crate::kernel::db::global::{Around, Global};
use crate::kernel::db::local::{DbMonitorId, DbTimeouts, InternalFamily, Local, QueryId};
use crate::kernel::db::request::{QueryKind, Request};
use crate::kernel::db::sendable::{self, SetError, Unsendable};
use crate::kernel::db::transfer::PIECE_SIZE;
use crate::kernel::db::update::{Key, Sets, Update, Value};
use crate::kernel::db::{LOCATIONS, node_key};
use crate::kernel::limits::PeerLimits;
use crate::value::{NodeId, Str};
use std::collections::BTreeSet;
use std::time::Duration;

/// The timeouts of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DbConfig {
    /// How long queries and lookups wait for a master before they fail: `monitor_timeout`.
    pub patience: Duration,
    /// How long the entries of a node whose master is lost are kept, since the node usually moves to
    /// another master. At global nodes the period begins with the loss, at a slave with the answer of
    /// its new master.
    pub grace: Duration,
}

impl Default for DbConfig {
    fn default() -> Self {
        DbConfig { patience: Duration::from_secs(30), grace: Duration::from_secs(10) }
    }
}

/// The database as one node sees it; drive it, then carry out its
/// [effects](Database::take_effects).
///
/// A slave has a master, chosen by the mesh. A global node is its own master and its own slave.
#[derive(Debug)]
pub struct Database {
    node: NodeId,
    local: Local,
    global: Option<Global>,
    up: BTreeSet<NodeId>,
    /// Connected nodes that announced that they are global.
    globals: BTreeSet<NodeId>,
    /// Connected nodes that support `g_get`.
    know_get: BTreeSet<NodeId>,
    effects: Vec<DbEffect>,
    limits: PeerLimits,
    /// The size of the pieces in which a whole database is sent, in octets.
    piece: usize,
}

impl Database {
    /// The database of a node that has no master yet and is not global.
    pub fn new(node: NodeId, config: DbConfig) -> Self {
        let patience = DbTimeouts { without_master: config.patience, grace: config.grace };
        Database {
            node,
            local: Local::new(patience),
            global: None,
            up: BTreeSet::new(),
            globals: BTreeSet::new(),
            know_get: BTreeSet::new(),
            effects: Vec::new(),
            limits: PeerLimits::default(),
            piece: PIECE_SIZE,
        }
    }

    pub(crate) const fn piece(&self) -> usize {
        self.piece
    }

    /// Sets the size of the pieces in which whole databases are sent, in octets. The default is
    /// [`PIECE_SIZE`].
    pub fn set_piece(&mut self, octets: usize) {
        self.piece = octets.max(1);
    }

    pub(crate) fn set_limits(&mut self, limits: PeerLimits) {
        self.limits = limits;
        if let Some(global) = &mut self.global {
            global.set_limits(limits);
        }
    }

    /// Octets kept for peers, without their entries.
    pub(crate) fn octets_for_peers(&self) -> usize {
        self.global.as_ref().map_or(0, Global::octets_for_peers)
    }

    /// The families and their numbers of keys; none if this node is not global.
    pub fn families(&self) -> Vec<(Str, usize)> {
        let Some(merge) = self.global.as_ref().map(Global::merge) else {
            return Vec::new();
        };
        merge.families().map(|family| (family.clone(), merge.family_len(family))).collect()
    }

    /// The effects since the last call, in order.
    pub fn take_effects(&mut self) -> Vec<DbEffect> {
        std::mem::take(&mut self.effects)
    }

    pub(crate) fn has_effects(&self) -> bool {
        !self.effects.is_empty()
    }

    /// As [`Database::take_effects`], but leaves `into`, which has to be empty, in place of the effects,
    /// so that its capacity is reused.
    pub(crate) fn swap_effects(&mut self, into: &mut Vec<DbEffect>) {
        std::mem::swap(&mut self.effects, into);
    }

    /// The global side, if this node is global.
    pub const fn global(&self) -> Option<&Global> {
        self.global.as_ref()
    }

    /// Whether this node is global.
    pub const fn is_global(&self) -> bool {
        self.global.is_some()
    }

    /// The master: a global node's own ID.
    pub fn master(&self) -> Option<&NodeId> {
        self.local.master()
    }

    /// The connected nodes that announced that they are global, in order.
    pub fn globals(&self) -> impl Iterator<Item = &NodeId> {
        self.globals.iter()
    }

    /// Whether a connected node announced that it is global.
    pub fn is_peer_global(&self, node: &NodeId) -> bool {
        self.globals.contains(node)
    }

    /// This node's own entries.
    pub fn own(&self) -> Tables {
        self.local.own()
    }

    /// The known addresses of a node, if this node is global.
    pub fn location(&self, node: &NodeId) -> Option<Vec<Str>> {
        self.global.as_ref()?.location(node)
    }

    /// The numbers of queries, lookups and monitored families.
    pub fn outstanding(&self) -> (usize, usize, usize) {
        self.local.outstanding()
    }

    /// The number of changes held back for a node whose connection has no room.
    pub fn held(&self, node: &NodeId) -> usize {
        match &self.global {
            Some(global) => global.held(node),
            None if self.is_master(node) => self.local.held(),
            None => 0,
        }
    }

    // The mesh.

    /// A node has connected.
    pub fn node_up(&mut self, node: NodeId) {
        if node == self.node || !self.up.insert(node.clone()) {
            return;
        }
        self.local.losses_mut().is_back(&node);
        if self.is_global() {
            self.send(node, &Request::Global);
        }
    }

    /// A connected node supports the request `g_get`, which is sent to no other nodes.
    pub fn knows_get(&mut self, node: &NodeId) {
        if self.up.contains(node) {
            self.know_get.insert(node.clone());
        }
    }

    /// The connection to a node was lost. A node that cannot be dialled from here may still be alive.
    pub(crate) fn node_lost(&mut self, node: &NodeId, now: Duration) {
        self.local.node_lost(node, now, &mut self.effects);
        self.with_global(now, |global, around| global.is_lost(node, around));
    }

    /// The connection to a node was lost. If it was our master, there is no master now.
    pub fn node_down(&mut self, node: &NodeId, now: Duration) {
        self.up.remove(node);
        self.globals.remove(node);
        self.know_get.remove(node);
        self.node_lost(node, now);
        self.with_global(now, |global, around| global.node_down(node, around));
        if self.is_master(node) {
            self.local.lost_master(now);
        }
    }

    /// Whether a node is our master. A global node is its own, and none of another node.
    fn is_master(&self, node: &NodeId) -> bool {
        !self.is_global() && self.local.master() == Some(node)
    }

    /// A connected node becomes our master: it gets our database and all outstanding requests. A global
    /// node stays its own master.
    pub fn adopt_master(&mut self, node: &NodeId) {
        if self.is_global() || *node == self.node {
            return;
        }
        let requests = self.local.adopt(node.clone(), self.know_get.contains(node), self.piece);
        self.local.send_all(requests, &mut self.effects);
    }

    /// The connection has room for what follows, as requested by [`DbEffect::AwaitRoom`].
    pub fn has_room(&mut self, node: &NodeId, number: u64, now: Duration) {
        if self.is_master(node) {
            self.local.has_room(number, self.piece, &mut self.effects);
        } else {
            self.with_global(now, |global, around| global.has_room(node, number, around));
        }
    }

    /// The connection has no room: changes for this subscriber, global node or master are held back until
    /// [`Database::has_room`]. Of several changes of a key only the last is sent then.
    pub fn has_no_room(&mut self, node: &NodeId, now: Duration) {
        if self.is_master(node) {
            self.local.has_no_room(&mut self.effects);
        } else {
            self.with_global(now, |global, around| global.has_no_room(node, around));
        }
    }

    /// Sends the changes held back for a node, since a packet follows that must not overtake them.
    pub(crate) fn flush(&mut self, node: &NodeId, now: Duration) {
        if self.is_master(node) {
            self.local.flush(&mut self.effects);
        } else {
            self.with_global(now, |global, around| global.flush(node, around));
        }
    }

    /// The master is lost. A global node stays its own master.
    pub fn master_lost(&mut self, now: Duration) {
        if !self.is_global() {
            self.local.lost_master(now);
        }
    }

    /// This node becomes global, if it is not global yet.
    pub fn become_global(&mut self, now: Duration) {
        if self.is_global() {
            return;
        }
        // The old master keeps the subscriptions of a slave that turns out to be global.
        let monitored: Vec<_> = self.local.monitored().cloned().collect();
        for family in monitored {
            self.ask_master(Some(Request::Unmonitor(family)), now);
        }
        self.global = Some(Global::new(self.node.clone(), self.limits));
        let globals = self.globals.clone();
        self.with_global(now, |global, around| global.start(&globals, around));
    }

    /// Drops the database and the subscriptions of a node that has another master by now.
    pub fn drop_slave(&mut self, node: &NodeId, now: Duration) {
        self.with_global(now, |global, around| global.drop_slave(node, around));
    }

    // The node's own part.

    /// Sets an own entry. Setting the value that it has already sends nothing.
    ///
    /// # Errors
    /// Fails for the protocol's own families, and for entries that could not be sent on.
    pub fn set(
        &mut self,
        family: &Str,
        key: Str,
        value: Datum,
        now: Duration,
    ) -> Result<(), SetError> {
        Local::refuse_internal(family)?;
        sendable::check(family.as_ref(), key.as_ref(), Value::Held(&value))?;
        if let Some(global) = &self.global {
            let set = Sets::One(Key::Held(&key), value.octets());
            global.merge().check(Update { family: Key::Held(family), set, delete: &[] })?;
        }
        Ok(self.set_own(family, &key, &value, now)?)
    }

    /// Deletes own entries. Deleting an entry that does not exist sends nothing.
    ///
    /// # Errors
    /// Fails for the protocol's own families.
    pub fn delete(
        &mut self,
        family: &Str,
        keys: impl IntoIterator<Item = Str>,
        now: Duration,
    ) -> Result<(), InternalFamily> {
        Local::refuse_internal(family)?;
        self.delete_internal(family, keys, now);
        Ok(())
    }

    /// Sets an own entry of any family.
    fn set_own(
        &mut self,
        family: &Str,
        key: &Str,
        value: &Datum,
        now: Duration,
    ) -> Result<(), Unsendable> {
        if !self.local.set(family, key, value)? {
            return Ok(());
        }
        let set = Sets::One(Key::Held(key), value.octets());
        self.own_changed(Update { family: Key::Held(family), set, delete: &[] }, now);
        Ok(())
    }

    /// As [`Database::delete`], for any family.
    pub fn delete_internal(
        &mut self,
        family: &Str,
        keys: impl IntoIterator<Item = Str>,
        now: Duration,
    ) {
        let deleted = self.local.delete(family, keys);
        if !deleted.is_empty() {
            let (family, set) = (Key::Held(family), Sets::None);
            self.own_changed(Update { family, set, delete: &deleted }, now);
        }
    }

    fn own_changed(&mut self, update: Update<'_>, now: Duration) {
        if self.is_global() {
            let own = self.node.clone();
            self.with_global(now, |global, around| global.update(&own, update, around));
        } else {
            self.local.tell_master(update, &mut self.effects);
        }
    }

    /// Sets the addresses at which this node can be reached.
    pub fn set_location(&mut self, addresses: &[Str], now: Duration) {
        let key = node_key(&self.node);
        let value = Datum::strings(addresses);
        if let Err(why) = self.set_own(&LOCATIONS.into(), &key, &value, now) {
            self.problem(&self.node.clone(), DbProblem::Unsendable("g_upd", why));
        }
    }

    /// Requests a family, its keys or its values; an [`DbEffect::Answer`] follows.
    pub fn query(&mut self, kind: QueryKind, family: Str, now: Duration) -> QueryId {
        let (id, request) = self.local.query(kind, family, now);
        self.ask_master(Some(request), now);
        id
    }

    /// Requests the value of one key; an [`DbEffect::Answer`] follows.
    pub fn get(&mut self, family: Str, key: Str, now: Duration) -> QueryId {
        let (id, request) = self.local.get(family, key, now);
        self.ask_master(Some(request), now);
        id
    }

    /// Cancels a query.
    pub fn cancel(&mut self, query: QueryId) {
        self.local.cancel(query);
    }

    /// Monitors a family: a [`DbEffect::Changed`] with its content follows, then one for each change.
    pub fn monitor(&mut self, family: Str, now: Duration) -> DbMonitorId {
        let (id, request) = self.local.monitor(family, &mut self.effects);
        self.ask_master(request, now);
        id
    }

    /// Ends a monitor.
    pub fn unmonitor(&mut self, monitor: DbMonitorId, now: Duration) {
        let request = self.local.unmonitor(monitor);
        self.ask_master(request, now);
    }

    /// Looks up a node's addresses. One [`DbEffect::Found`] answers all lookups of the node that are
    /// pending.
    pub fn find(&mut self, node: NodeId, now: Duration) {
        let request = self.local.find(node, now);
        self.ask_master(request, now);
    }

    /// Cancels the lookup of a node.
    pub fn cancel_find(&mut self, node: &NodeId) {
        self.local.cancel_find(node);
    }

    /// When [`Database::expire`] has to be called next.
    pub fn deadline(&self) -> Option<Duration> {
        match &self.global {
            Some(global) if global.is_giving_up() => Some(Duration::ZERO),
            global => {
                let unclaimed = global.as_ref().and_then(Global::unclaimed_deadline);
                [self.local.deadline(), unclaimed].into_iter().flatten().min()
            }
        }
    }

    /// Whether entries of nodes that are lost or have sent a new database have to be deleted.
    pub(crate) fn is_giving_up(&self) -> bool {
        self.global.as_ref().is_some_and(Global::is_giving_up)
    }

    /// Deletes some of these entries.
    pub(crate) fn give_up_some(&mut self, now: Duration) {
        self.with_global(now, Global::give_up_some);
    }

    /// Ends queries and lookups that have timed out, and deletes some of the entries of lost nodes.
    pub fn expire(&mut self, now: Duration) {
        self.give_up_some(now);
        self.local.expire(now, &mut self.effects);
    }

    fn with_global(&mut self, now: Duration, act: impl FnOnce(&mut Global, &mut Around<'_>)) {
        if let Some(global) = &mut self.global {
            let mut around = Around {
                local: &mut self.local,
                up: &self.up,
                now,
                piece: self.piece,
                effects: &mut self.effects,
            };
            act(global, &mut around);
        }
    }

    fn ask_master(&mut self, request: Option<Request>, now: Duration) {
        let Some(request) = request else { return };
        if self.is_global() {
            let own = self.node.clone();
            self.with_global(now, |global, around| global.receive(&own, request, around));
        } else {
            self.local.ask_master(&request, &mut self.effects);
        }
    }

    fn send(&mut self, to: NodeId, request: &Request) {
        self.effects.push(DbEffect::Send { to: [to].into(), packet: request.to_packet() });
    }

    pub(crate) fn problem(&mut self, from: &NodeId, problem: DbProblem) {
        self.effects.push(DbEffect::Problem { from: from.clone(), problem });
    }
}
