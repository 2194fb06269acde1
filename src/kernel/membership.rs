//! This node's place in the global database: its master, its global role, what others tell of it.

use super::Kernel;
use super::db::{Datum, DbEffect, DbMonitorId, InternalFamily, QueryId, QueryKind};
use super::effect::{Builder, Effect, Level};
use crate::value::packed::Elements;
use crate::value::{NodeId, Str, StrRef};

impl Kernel {
    pub(super) fn announce_addresses(&mut self) {
        let addresses = self.config.addresses.clone();
        self.db.set_location(&addresses, self.now.uptime);
    }

    /// A node was connected.
    pub(super) fn node_is_up(&mut self, node: &NodeId) {
        self.db.node_up(node.clone());
        if self.mesh.is_seed(node) {
            self.seed_is_up(node);
        }
        self.suspect(node);
    }

    /// A seed's node is connected, or a connected node turns out to be a seed's.
    pub(super) fn seed_is_up(&mut self, node: &NodeId) {
        // Every seed has to be global; one that is not becomes it now.
        let request = Builder::request("g_slave").build();
        self.send(node, request);
        self.find_master();
    }

    /// Chooses a master among the seeds that are up, if there is none.
    fn find_master(&mut self) {
        if self.db.master().is_some() {
            return;
        }
        let master = self
            .mesh
            .seeds
            .nodes()
            .find(|node| self.peers.get(*node).is_some_and(|peer| peer.link.is_some()))
            .cloned();
        if let Some(master) = master {
            self.log(Level::Debug, format!("{master} is our master"));
            self.db.adopt_master(&master, self.now.uptime);
        }
    }

    /// The connection to a node was lost.
    pub(super) fn node_is_down(&mut self, node: &NodeId) {
        self.db.node_down(node, self.now.uptime);
        self.find_master();
    }

    /// Makes this node global, if it is not.
    pub fn become_global(&mut self) {
        if !self.db.is_global() {
            self.log(Level::Info, "this node is global now".to_owned());
            self.db.become_global(self.now.uptime);
            for node in self.up_nodes() {
                self.suspect(&node);
            }
        }
    }

    pub(super) fn database_request(
        &mut self,
        from: &NodeId,
        name: StrRef<'_>,
        arguments: Elements<'_>,
    ) -> Result<(), String> {
        let was_global = self.db.is_global();
        if !self.db.receive(from, name, arguments, self.now.uptime) {
            return self.call(from, &name.to_owned(), arguments);
        }
        if !was_global && self.db.is_global() {
            self.log(Level::Info, format!("this node is global now: {from} asked for it"));
            for node in self.up_nodes() {
                self.suspect(&node);
            }
        }
        Ok(())
    }

    /// Carries on what the database wants done; false if that is nothing.
    pub(super) fn settle_db(&mut self) -> bool {
        if !self.db.has_effects() {
            return false;
        }
        let mut effects = std::mem::take(&mut self.db_effects);
        self.db.swap_effects(&mut effects);
        for effect in effects.drain(..) {
            match effect {
                DbEffect::Send { to, packet } => match &*to {
                    // The last that knew of a master may have been lost: then one is looked for.
                    [node] => self.send(node, packet),
                    // Subscribers are connected: no connection has to be asked for.
                    _ => self.effects.push(Effect::SendAll { to, packet }),
                },
                DbEffect::Answer { query, answer } => {
                    self.effects.push(Effect::Answer { query, answer });
                }
                DbEffect::Changed { monitor, changes } => {
                    self.effects.push(Effect::Changed { monitor, changes });
                }
                DbEffect::Found { node, addresses } => self.addresses_found(&node, addresses),
                DbEffect::KeepAlive(node) => self.keep_alive(node),
                DbEffect::KeepAliveNoMore(node) => self.keep_alive_no_longer(&node),
                DbEffect::Located(node) => self.is_located(&node),
                DbEffect::Unlocated(node) => self.suspect(&node),
                DbEffect::Orphan { node, request } => self.is_orphan(&node, request),
                DbEffect::Conflict { node, other } => self.has_conflict(&node, &other),
                DbEffect::Problem { from, problem } => {
                    self.log(Level::Warn, format!("request from {from}: {problem}"));
                }
            }
        }
        self.db_effects = effects;
        true
    }

    /// Whether this node is global.
    pub fn is_global(&self) -> bool {
        self.db.is_global()
    }

    /// The node that keeps the database for this one; a global node is its own master.
    pub fn master(&self) -> Option<&NodeId> {
        self.db.master()
    }

    /// The database, to be looked at.
    pub fn database(&self) -> &super::db::Database {
        &self.db
    }

    /// Sets an entry of this node. What Perl calls `db_set`.
    ///
    /// # Errors
    /// Fails for internal families, which begin with `'`.
    pub fn set(&mut self, family: &Str, key: Str, value: Datum) -> Result<(), InternalFamily> {
        self.db.set(family, key, value, self.now.uptime)
    }

    /// Deletes entries of this node. What Perl calls `db_del`.
    ///
    /// # Errors
    /// Fails for internal families, which begin with `'`.
    pub fn delete(
        &mut self,
        family: &Str,
        keys: impl IntoIterator<Item = Str>,
    ) -> Result<(), InternalFamily> {
        self.db.delete(family, keys, self.now.uptime)
    }

    /// Asks for a family, its keys or its values; an [`Effect::Answer`] follows.
    pub fn query(&mut self, kind: QueryKind, family: &Str) -> QueryId {
        self.db.query(kind, family.clone(), self.now.uptime)
    }

    /// Asks for the value of one key; an [`Effect::Answer`] follows.
    pub fn get(&mut self, family: &Str, key: &Str) -> QueryId {
        self.db.get(family.clone(), key.clone(), self.now.uptime)
    }

    /// Nobody waits for the answer of a query any more.
    pub fn cancel_query(&mut self, query: QueryId) {
        self.db.cancel(query);
    }

    /// Monitors a family: an [`Effect::Changed`] with its content follows, then one for each change.
    pub fn monitor_family(&mut self, family: &Str) -> DbMonitorId {
        self.db.monitor(family.clone(), self.now.uptime)
    }

    /// Ends a monitor of a family.
    pub fn unmonitor_family(&mut self, monitor: DbMonitorId) {
        self.db.unmonitor(monitor, self.now.uptime);
    }
}
