//! A monitored family: the known content, and the reports to its monitors.

use super::super::datum::Datum;
use super::super::effect::{ChangeSet, DbEffect};
use super::super::entries::Entries;
use super::super::update::{Key, Sets};
use crate::kernel::table::{Place, Table};
use crate::value::{NodeId, PortId, Str};
use std::collections::BTreeSet;
use std::time::Duration;

/// A monitor of a family, until it is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DbMonitorId(pub(crate) u64);

/// How complete the known content of a monitored family is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FamilyState {
    /// Nothing is known yet.
    None,
    /// The content is from an earlier master; the present one has not answered yet.
    Old,
    /// The content is complete.
    Full,
}

#[derive(Debug)]
pub(super) struct Family {
    pub(super) monitors: BTreeSet<DbMonitorId>,
    pub(super) content: Table<Str, Datum>,
    pub(super) knowledge: FamilyState,
    /// Keys that an earlier master had and the present one does not have, or not yet.
    pub(super) missing: BTreeSet<Str>,
    pub(super) missing_until: Duration,
}

impl Family {
    pub(super) fn changes(&self, name: &Str) -> ChangeSet {
        ChangeSet {
            family: name.clone(),
            initial: false,
            added: Entries::new(),
            changed: Entries::new(),
            deleted: Vec::new(),
        }
    }

    /// The missing keys that are the ID of this node, or of a port on it.
    pub(super) fn missing_ports_of(&self, node: &NodeId) -> Vec<Str> {
        let first = PortId::new(node, "\0").as_str().to_owned();
        let is_on_it = |key: &&Str| {
            PortId::parse((*key).clone()).is_ok_and(|port| port.node_str() == node.as_str())
        };
        let ports = self.missing.range(first..).take_while(is_on_it);
        self.missing.get(&node.as_str().to_owned()).into_iter().chain(ports).cloned().collect()
    }

    /// Deleted keys that are known become missing keys.
    pub(super) fn miss(&mut self, deleted: &[Str]) {
        let known = deleted.iter().filter(|key| self.content.contains_key(*key));
        self.missing.extend(known.cloned());
    }

    /// Applies a change, and returns what differs from the content before.
    pub(super) fn change(&mut self, name: &Str, set: Sets<'_>, delete: &[Str]) -> ChangeSet {
        let mut changes = self.changes(name);
        set.each(|key, value| self.set(key, value.to_datum(), &mut changes));
        for key in delete {
            self.missing.remove(key);
            if self.content.remove(key).is_some() {
                changes.deleted.push(key.clone());
            }
        }
        changes
    }

    /// Sets a key, and adds to `changes` what differs from before.
    fn set(&mut self, key: Key<'_>, value: Datum, changes: &mut ChangeSet) {
        if !self.missing.is_empty() {
            self.missing.remove(&key.to_str());
        }
        match self.content.place(&key.string()) {
            Place::Occupied(mut slot) => {
                let (key, held) = slot.get_mut();
                let before = std::mem::replace(held, value.clone());
                if !before.perl_eq(&value) {
                    changes.changed.insert(key.clone(), value);
                }
            }
            Place::Vacant(slot) => {
                let key = key.to_str();
                slot.insert(key.clone(), value.clone());
                changes.added.insert(key, value);
            }
        }
    }

    pub(super) fn report(&self, changes: ChangeSet, effects: &mut Vec<DbEffect>) {
        if changes.is_empty() && !changes.initial {
            return;
        }
        let mut monitors = self.monitors.iter().copied();
        let Some(last) = monitors.next_back() else {
            return;
        };
        effects.extend(
            monitors.map(|monitor| DbEffect::Changed { monitor, changes: changes.clone() }),
        );
        effects.push(DbEffect::Changed { monitor: last, changes });
    }
}

pub(super) fn in_order(content: &Table<Str, Datum>) -> Entries {
    content.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}
