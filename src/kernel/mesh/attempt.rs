//! The attempt to connect a node that somebody wants to reach: its addresses are looked up, and
//! dialled one after another.

use super::connection::Goal;
use super::{Mesh, MeshOutput, MeshTimer};
use crate::kernel::effect::{ConnId, Level, seconds};
use crate::mutation::{self, Mutation};
use crate::value::{NodeId, Str};
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

/// Addresses are tried at least this far apart.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(400);

/// Addresses of a node that are tried; others may enter any number for it into the database.
const MOST_ADDRESSES: usize = 32;

/// Octets that an address may have; the name of a host has 253 at most.
const LONGEST_ADDRESS: usize = 300;

/// Addresses that are tried one right after the other while each fails at once; further ones wait for
/// their time.
const MOST_HURRIED: u32 = 4;

/// An attempt to connect one node.
#[derive(Debug)]
pub(super) struct Attempt {
    started: Duration,
    /// Its addresses are being looked for.
    searching: bool,
    /// Addresses that were not tried yet.
    addresses: VecDeque<Str>,
    next_dial: Duration,
    /// Until then nothing is dialled if a connection has greeted as the node: it may be its own.
    /// Once for each attempt, as anybody can greet so.
    waits_for_greeted: Option<Duration>,
    interval: Duration,
    /// Dials since the last search that did not wait for their time, as the one before had failed.
    hurried: u32,
    pub(super) dials: BTreeSet<ConnId>,
    /// Why dials failed since the last search.
    failures: Vec<String>,
}

impl Mesh {
    /// A connection to an unconnected node is wanted: there is something to send, or it is
    /// monitored.
    #[inline]
    pub(in crate::kernel) fn want_connection(&mut self, node: &NodeId, now: Duration) {
        if self.link(node).is_none() {
            self.begin_attempt(node, now);
        }
    }

    fn begin_attempt(&mut self, node: &NodeId, now: Duration) {
        if *node == self.own || self.attempt_mut(node).is_some() {
            return;
        }
        self.remote(node).attempt = Some(Attempt {
            started: now,
            searching: false,
            addresses: VecDeque::new(),
            next_dial: now,
            waits_for_greeted: None,
            interval: SHORTEST_INTERVAL,
            hurried: 0,
            dials: BTreeSet::new(),
            failures: Vec::new(),
        });
        self.wake(now + self.monitor_timeout, MeshTimer::GiveUp(node.clone()));
        self.search(node);
    }

    /// Looks for the addresses of a node.
    fn search(&mut self, node: &NodeId) {
        if let Some(attempt) = self.attempt_mut(node) {
            attempt.searching = true;
        }
        self.outputs.push(MeshOutput::Find(node.clone()));
    }

    /// The answer to a [`MeshOutput::Find`].
    pub(in crate::kernel) fn addresses_found(
        &mut self,
        node: &NodeId,
        addresses: Option<Vec<Str>>,
        now: Duration,
    ) {
        let addresses = addresses.unwrap_or_default().into_iter();
        let is_short = |address: &Str| address.as_ref().data().len() <= LONGEST_ADDRESS;
        let mut addresses: VecDeque<Str> =
            addresses.filter(is_short).take(MOST_ADDRESSES).collect();
        for address in self.seeds.addresses_of(node) {
            if !addresses.contains(address) {
                addresses.push_back(address.clone());
            }
        }
        let (monitor, interval) = (self.monitor_timeout, self.connect_interval);
        let Some(attempt) = self.attempt_mut(node) else {
            return;
        };
        attempt.searching = false;
        if addresses.is_empty() && attempt.dials.is_empty() {
            if !self.greeted.contains_key(node) {
                self.give_up(node, "no known address", now);
            }
            return;
        }
        let share = monitor.saturating_sub(interval) / addresses.len().max(1) as u32;
        attempt.interval = interval.min(share).max(SHORTEST_INTERVAL);
        if mutation::is_on(Mutation::TryOnlyTheFirstAddress) {
            addresses.truncate(1);
        }
        attempt.addresses = addresses;
        attempt.next_dial = now;
        attempt.hurried = 0;
        self.advance_attempt(node, now);
    }

    /// Dials the next address of a node, if it is time.
    pub(super) fn advance_attempt(&mut self, node: &NodeId, now: Duration) {
        let patience = self.connect_interval;
        let is_greeted = self.greeted.contains_key(node);
        let Some(attempt) = self.attempt_mut(node) else {
            return;
        };
        if is_greeted {
            let is_first = attempt.waits_for_greeted.is_none();
            let until = *attempt.waits_for_greeted.get_or_insert(now + patience);
            if is_first {
                self.wake(until, MeshTimer::AdvanceAttempt(node.clone()));
            }
            if now < until {
                return;
            }
        }
        if let Some(until) = self.unsteady.until(node, now) {
            return self.wake(until, MeshTimer::AdvanceAttempt(node.clone()));
        }
        let Some(attempt) = self.attempt_mut(node) else {
            return;
        };
        let is_early = now < attempt.next_dial;
        let may_hurry = attempt.dials.is_empty() && attempt.hurried < MOST_HURRIED;
        if attempt.searching || (is_early && !may_hurry) {
            return;
        }
        if let Some(address) = attempt.addresses.pop_front() {
            attempt.hurried += u32::from(is_early);
            let next_dial = now + attempt.interval;
            attempt.next_dial = next_dial;
            self.wake(next_dial, MeshTimer::AdvanceAttempt(node.clone()));
            let conn = self.dial(Goal::Node(node.clone()), address);
            if let Some(attempt) = self.attempt_mut(node) {
                attempt.dials.insert(conn);
            }
        } else if attempt.dials.is_empty() {
            if now >= attempt.started + patience {
                let failures = attempt.failures.join("; ");
                self.give_up(node, &format!("cannot connect: {failures}"), now);
            } else if now >= attempt.next_dial {
                attempt.failures.clear();
                self.search(node);
            }
        }
    }

    /// The time of an attempt is over.
    pub(super) fn attempt_timed_out(&mut self, node: &NodeId, now: Duration) {
        let limit = self.monitor_timeout;
        let is_over = |attempt: &mut Attempt| now >= attempt.started + limit;
        if self.attempt_mut(node).is_some_and(is_over) && !mutation::is_on(Mutation::NeverGiveUp) {
            self.give_up(node, &format!("no connection within {}", seconds(limit)), now);
        }
    }

    /// A dial has led nowhere.
    pub(super) fn attempt_dial_ended(
        &mut self,
        node: &NodeId,
        id: ConnId,
        why: &str,
        now: Duration,
    ) {
        if let Some(attempt) = self.attempt_mut(node)
            && attempt.dials.remove(&id)
        {
            attempt.failures.push(why.to_owned());
            self.arbitrate_again(node, now);
            self.advance_attempt(node, now);
        }
    }

    pub(super) fn give_up(&mut self, node: &NodeId, why: &str, now: Duration) {
        if self.end_attempt(node, None, "given up", now) {
            self.log(Level::Info, format_args!("{node}: {why}"));
            self.forget_if_unused(node);
            self.outputs.push(MeshOutput::GaveUp { node: node.clone(), why: why.to_owned() });
        }
    }

    /// Ends the attempt to connect a node, and all its dials but one. Returns whether there was
    /// one.
    pub(super) fn end_attempt(
        &mut self,
        node: &NodeId,
        kept: Option<ConnId>,
        why: &str,
        now: Duration,
    ) -> bool {
        let Some(attempt) = self.remotes.get_mut(node).and_then(|remote| remote.attempt.take())
        else {
            return false;
        };
        self.outputs.push(MeshOutput::CancelFind(node.clone()));
        for dial in attempt.dials {
            if Some(dial) != kept {
                self.close(dial, why, now);
            }
        }
        true
    }
}
