//! The attempt to connect a node: its addresses are looked up, and dialled one after another.

use super::connection::DialReason;
use super::{Mesh, MeshOutput, MeshTimer};
use crate::kernel::effect::{ConnId, Level, seconds};
use crate::kernel::lines::MeshLine;
use crate::mutation::{self, Mutation};
use crate::value::{NodeId, Str};
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

/// The minimum time between two dials.
const MIN_INTERVAL: Duration = Duration::from_millis(400);

/// The maximum number of addresses of a node that are tried, since other nodes can announce any number.
const MAX_ADDRESSES: usize = 32;

/// The maximum octets of an address; the name of a host has at most 253.
const MAX_ADDRESS_LEN: usize = 300;

/// The maximum number of addresses that are dialled immediately after one another because each dial
/// fails at once; further ones wait for the usual interval.
const MAX_IMMEDIATE_ATTEMPTS: u32 = 4;

/// An attempt to connect one node.
#[derive(Debug)]
pub(super) struct Attempt {
    started: Duration,
    /// Its addresses are being looked up.
    searching: bool,
    /// Addresses that were not tried yet.
    addresses: VecDeque<Str>,
    next_dial: Duration,
    /// While another connection has greeted as the node, and until this time, no address is dialled, as
    /// that connection may really be the node's. Only once in each attempt, since anybody can send such
    /// a greeting.
    waits_for_greeted: Option<Duration>,
    interval: Duration,
    /// Dials since the last lookup that began early because the previous one had failed.
    hurried: u32,
    pub(super) dials: BTreeSet<ConnId>,
    /// The errors of dials since the last lookup.
    failures: Vec<String>,
}

impl Mesh {
    /// Starts an attempt to connect a node, because there is something to send or it is monitored.
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
            interval: MIN_INTERVAL,
            hurried: 0,
            dials: BTreeSet::new(),
            failures: Vec::new(),
        });
        self.wake(now + self.monitor_timeout, MeshTimer::GiveUp(node.clone()));
        self.search(node);
    }

    /// Looks up the addresses of a node.
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
        let is_short = |address: &Str| address.as_ref().data().len() <= MAX_ADDRESS_LEN;
        let mut addresses: VecDeque<Str> = addresses.filter(is_short).take(MAX_ADDRESSES).collect();
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
        attempt.interval = interval.min(share).max(MIN_INTERVAL);
        if mutation::is_on(Mutation::TryOnlyTheFirstAddress) {
            addresses.truncate(1);
        }
        attempt.addresses = addresses;
        attempt.next_dial = now;
        attempt.hurried = 0;
        self.advance_attempt(node, now);
    }

    /// Dials the next address of a node, if its time has come.
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
        let may_hurry = attempt.dials.is_empty() && attempt.hurried < MAX_IMMEDIATE_ATTEMPTS;
        if attempt.searching || (is_early && !may_hurry) {
            return;
        }
        if let Some(address) = attempt.addresses.pop_front() {
            attempt.hurried += u32::from(is_early);
            let next_dial = now + attempt.interval;
            attempt.next_dial = next_dial;
            self.wake(next_dial, MeshTimer::AdvanceAttempt(node.clone()));
            let conn = self.dial(DialReason::Node(node.clone()), address);
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

    /// An attempt has timed out.
    pub(super) fn attempt_timed_out(&mut self, node: &NodeId, now: Duration) {
        let limit = self.monitor_timeout;
        let is_over = |attempt: &mut Attempt| now >= attempt.started + limit;
        if self.attempt_mut(node).is_some_and(is_over) && !mutation::is_on(Mutation::NeverGiveUp) {
            self.give_up(node, &format!("no connection within {}", seconds(limit)), now);
        }
    }

    /// A dial has failed.
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
            self.log(Level::Info, MeshLine::GaveUp(node.clone(), why.to_owned()));
            self.forget_if_unused(node);
            self.outputs.push(MeshOutput::GaveUp { node: node.clone(), why: why.to_owned() });
        }
    }

    /// Ends the attempt to connect a node, and all its dials but one. Returns whether there was an
    /// attempt.
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
