//! Whole databases sent by slaves and other global nodes.

use super::super::effect::{DbEffect, DbProblem};
use super::super::entries::{Entries, Tables};
use super::super::merge::OwnerKind;
use super::super::pieces::Replaces;
use super::super::update::{Key, Sets, Update};
use super::super::{LOCATIONS, node_key, node_of};
use super::{Around, Global};
use crate::value::{NodeId, Str};
use std::time::Duration;

impl Global {
    pub(super) fn slave(&mut self, from: &NodeId, tables: Tables, around: &mut Around<'_>) {
        if self.merge.kind(from) == Some(OwnerKind::Global) {
            // What it sent as a global node includes the entries of its slaves.
            return around.problem(from, DbProblem::FromGlobal("g_slave"));
        }
        // What it has set before does not become a slave's, as that would take time for each key.
        self.merge.begin_to_replace_much(from);
        self.merge.set_kind(from, OwnerKind::Slave);
        self.begin_batch(from, around);
        self.replace(from, tables, around);
        self.look_for_other_masters(from, around);
    }

    /// A slave's database may have been delayed; meanwhile the slave may have got another master.
    fn look_for_other_masters(&self, from: &NodeId, around: &mut Around<'_>) {
        let other = self.announcers(from).into_iter().find(|node| self.peers.contains(node));
        if let Some(other) = other {
            around.effects.push(DbEffect::Conflict { node: from.clone(), other });
        }
    }

    pub(super) fn peer_database(&mut self, from: &NodeId, tables: Tables, around: &mut Around<'_>) {
        if *from == self.own || self.is_slave(from) {
            return around.problem(from, DbProblem::NotFromGlobal("g_set"));
        }
        if !self.peers.contains(from) {
            around.problem(from, DbProblem::NotFromGlobal("g_set"));
            return self.replace(from, tables, around);
        }
        let locations = tables.get(&Str::text(LOCATIONS)).cloned().unwrap_or_default();
        self.look_for_conflicts(from, Sets::Many(&locations), around);
        self.replace(from, tables, around);
        self.mirror_location(from, locations.get(&node_key(from)), around);
    }

    /// Begins a request that replaces a database and is handled in pieces. Returns false if it is
    /// refused.
    pub(crate) fn begin_to_replace(
        &mut self,
        from: &NodeId,
        what: Replaces,
        around: &mut Around<'_>,
    ) -> bool {
        match what {
            Replaces::OfSlave if self.merge.kind(from) == Some(OwnerKind::Global) => {
                around.problem(from, DbProblem::FromGlobal("g_slave"));
                return false;
            }
            Replaces::OfGlobal if *from == self.own || self.is_slave(from) => {
                around.problem(from, DbProblem::NotFromGlobal("g_set"));
                return false;
            }
            Replaces::OfGlobal if !self.peers.contains(from) => {
                around.problem(from, DbProblem::NotFromGlobal("g_set"));
            }
            Replaces::OfSlave | Replaces::OfGlobal => {}
        }
        self.merge.begin_to_replace(from);
        if what == Replaces::OfSlave {
            self.merge.set_kind(from, OwnerKind::Slave);
        }
        true
    }

    /// Adds entries of a new database; false if none is expected, since the node was dropped meanwhile.
    pub(crate) fn add(
        &mut self,
        from: &NodeId,
        entries: Vec<(Str, Entries)>,
        around: &mut Around<'_>,
    ) -> bool {
        if !self.merge.is_being_replaced(from) {
            return false;
        }
        self.begin_batch(from, around);
        for (family, set) in entries {
            let update = Update { family: Key::Held(&family), set: Sets::Many(&set), delete: &[] };
            let owner = self.merge.make_known(from);
            self.set_and_delete(from, owner, update, around);
        }
        true
    }

    /// The new database is complete.
    pub(crate) fn replaced(
        &mut self,
        from: &NodeId,
        what: Replaces,
        located: bool,
        around: &mut Around<'_>,
    ) {
        if !self.merge.is_being_replaced(from) {
            return;
        }
        self.merge.replaced(from);
        match what {
            Replaces::OfSlave => self.look_for_other_masters(from, around),
            Replaces::OfGlobal if !located && self.peers.contains(from) => {
                self.mirror_location(from, None, around);
            }
            Replaces::OfGlobal => {}
        }
    }

    /// Whether [`Global::give_up_some`] has something to do.
    pub(crate) fn is_giving_up(&self) -> bool {
        self.merge.is_giving_up()
    }

    /// When the grace period of entries of slaves of lost global nodes ends.
    pub(crate) fn unclaimed_deadline(&self) -> Option<Duration> {
        self.merge.unclaimed_deadline()
    }

    /// Deletes some of the entries of nodes that are lost or have sent a new database.
    pub(crate) fn give_up_some(&mut self, around: &mut Around<'_>) {
        self.merge.end_of_grace(around.now);
        for (family, change) in self.merge.give_up_some() {
            self.announce(Key::Held(&family), Sets::None, &change, around);
        }
    }

    fn replace(&mut self, node: &NodeId, tables: Tables, around: &mut Around<'_>) {
        self.note_new_tables(&tables);
        for (family, change) in self.merge.replace(node, tables) {
            self.announce(Key::Held(&family), Sets::None, &change, around);
        }
    }

    pub(super) fn look_for_conflicts(
        &self,
        from: &NodeId,
        locations: Sets<'_>,
        around: &mut Around<'_>,
    ) {
        locations.each(|key, value| {
            if let Some(node) = node_of(&key.to_str())
                && node != self.own
                && self.is_slave(&node)
                && value.to_datum().to_addresses().is_some()
            {
                around.effects.push(DbEffect::Conflict { node, other: from.clone() });
            }
        });
    }
}
