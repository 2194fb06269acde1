//! The search for a connection to a node that somebody wants to reach.

use super::connection::Goal;
use crate::kernel::effect::{ConnId, Level, seconds};
use crate::kernel::{Kernel, Task};
use crate::value::{NodeId, Str};
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

/// Addresses are tried at least this far apart.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(400);

/// One such search.
#[derive(Debug)]
pub(in crate::kernel) struct Trial {
    started: Duration,
    searching: bool,
    addresses: VecDeque<Str>,
    next_dial: Duration,
    interval: Duration,
    pub(super) dials: BTreeSet<ConnId>,
    failures: Vec<String>,
}

impl Kernel {
    /// A connection to an unconnected node is wanted: its lane has got something to send.
    pub fn want_connection(&mut self, node: &NodeId) {
        if *node == self.config.node {
            return;
        }
        let now = self.now.uptime;
        let give_up = now + self.config.monitor_timeout;
        let peer = self.peer(node);
        if peer.link.is_some() || peer.trial.is_some() {
            return;
        }
        peer.trial = Some(Trial {
            started: now,
            searching: false,
            addresses: VecDeque::new(),
            next_dial: now,
            interval: SHORTEST_INTERVAL,
            dials: BTreeSet::new(),
            failures: Vec::new(),
        });
        self.agenda.add(give_up, Task::GiveUp(node.clone()));
        self.search(node);
    }

    /// Looks for the addresses of a node on trial.
    fn search(&mut self, node: &NodeId) {
        if self.db.is_global() {
            let addresses = self.db.location(node);
            self.addresses_found(node, addresses);
        } else {
            if let Some(trial) = self.trial(node) {
                trial.searching = true;
            }
            self.db.find(node.clone(), self.now.uptime);
        }
    }

    fn trial(&mut self, node: &NodeId) -> Option<&mut Trial> {
        self.peers.get_mut(node)?.trial.as_mut()
    }

    /// The search for a node's addresses has ended.
    pub(in crate::kernel) fn addresses_found(
        &mut self,
        node: &NodeId,
        addresses: Option<Vec<Str>>,
    ) {
        let mut addresses: VecDeque<Str> = addresses.unwrap_or_default().into();
        for address in self.mesh.seeds.addresses_of(node) {
            if !addresses.contains(address) {
                addresses.push_back(address.clone());
            }
        }
        let (monitor, interval) = (self.config.monitor_timeout, self.config.connect_interval);
        let now = self.now.uptime;
        let Some(trial) = self.trial(node) else {
            return;
        };
        trial.searching = false;
        if addresses.is_empty() && trial.dials.is_empty() {
            if !self.mesh.greeted.contains_key(node) {
                self.give_up(node, "no known address");
            }
            return;
        }
        let share = monitor.saturating_sub(interval) / addresses.len().max(1) as u32;
        trial.interval = interval.min(share).max(SHORTEST_INTERVAL);
        trial.addresses = addresses;
        trial.next_dial = now;
        self.advance_trial(node);
    }

    /// Dials the next address of a node on trial, if it is time.
    pub(in crate::kernel) fn advance_trial(&mut self, node: &NodeId) {
        if self.mesh.greeted.contains_key(node) {
            return;
        }
        let now = self.now.uptime;
        let patience = self.config.connect_interval;
        let Some(trial) = self.trial(node) else {
            return;
        };
        if trial.searching || (now < trial.next_dial && !trial.dials.is_empty()) {
            return;
        }
        if let Some(address) = trial.addresses.pop_front() {
            let next_dial = now + trial.interval;
            trial.next_dial = next_dial;
            self.agenda.add(next_dial, Task::AdvanceTrial(node.clone()));
            let conn = self.dial(Goal::Node(node.clone()), address);
            if let Some(trial) = self.trial(node) {
                trial.dials.insert(conn);
            }
        } else if trial.dials.is_empty() {
            if now >= trial.started + patience {
                let failures = trial.failures.join("; ");
                self.give_up(node, &format!("cannot connect: {failures}"));
            } else if now >= trial.next_dial {
                trial.failures.clear();
                self.search(node);
            }
        }
    }

    /// The time of a trial is over.
    pub(in crate::kernel) fn trial_timed_out(&mut self, node: &NodeId) {
        let limit = self.config.monitor_timeout;
        let now = self.now.uptime;
        if self.trial(node).is_some_and(|trial| now >= trial.started + limit) {
            self.give_up(node, &format!("no connection within {}", seconds(limit)));
        }
    }

    /// A dial to a node on trial has led nowhere.
    pub(super) fn trial_dial_ended(&mut self, node: &NodeId, id: ConnId, why: &str) {
        if let Some(trial) = self.trial(node)
            && trial.dials.remove(&id)
        {
            trial.failures.push(why.to_owned());
            self.arbitrate_again(node);
            self.advance_trial(node);
        }
    }

    pub(super) fn give_up(&mut self, node: &NodeId, why: &str) {
        if self.end_trial(node, None, "given up") {
            self.log(Level::Info, format!("{node}: {why}"));
            self.unreachable(node, why);
            self.forget_if_unused(node);
        }
    }

    /// Ends the search for a node, and all its dials but one. Returns whether there was one.
    pub(super) fn end_trial(&mut self, node: &NodeId, kept: Option<ConnId>, why: &str) -> bool {
        let Some(trial) = self.peers.get_mut(node).and_then(|peer| peer.trial.take()) else {
            return false;
        };
        self.db.cancel_find(node);
        for dial in trial.dials {
            if Some(dial) != kept {
                self.close(dial, why);
            }
        }
        true
    }
}
