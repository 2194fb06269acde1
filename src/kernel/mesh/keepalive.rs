//! The connections that a global node keeps open, to the other global nodes.

use super::backoff::Backoff;
use super::{Mesh, MeshTimer};
use crate::kernel::HashSet;
use crate::kernel::random::Random;
use crate::value::NodeId;
use std::time::Duration;

/// The unit of the retry delay; the first delay has a random factor between 2 and 4.
const BACKOFF_UNIT: Duration = Duration::from_millis(300);

#[derive(Debug)]
pub(super) struct Keepalive {
    nodes: HashSet<NodeId>,
    retry: Backoff,
}

impl Keepalive {
    pub(super) fn new() -> Self {
        Keepalive { nodes: HashSet::default(), retry: Backoff::new(BACKOFF_UNIT) }
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = &NodeId> {
        self.nodes.iter()
    }

    pub(super) fn contains(&self, node: &NodeId) -> bool {
        self.nodes.contains(node)
    }
}

impl Mesh {
    /// Keeps a connection to `node` open from now on.
    pub(in crate::kernel) fn keep_alive(
        &mut self,
        node: NodeId,
        now: Duration,
        random: &mut Random,
    ) {
        if node == self.own {
            return;
        }
        let is_up = self.is_up(&node);
        if self.keepalive.nodes.insert(node) && !is_up {
            self.retry_keepalive(now, random);
        }
    }

    /// Reverts [`Mesh::keep_alive`]; an existing connection stays open.
    pub(in crate::kernel) fn keep_alive_no_longer(&mut self, node: &NodeId) {
        self.keepalive.nodes.remove(node);
    }

    pub(super) fn retry_keepalive(&mut self, now: Duration, random: &mut Random) {
        let retry = &mut self.keepalive.retry;
        retry.restart(random);
        retry.schedule(now);
        self.wake(now, MeshTimer::KeepAlive);
    }

    /// As [`Mesh::retry_keepalive`], for a node that must not be dialled before `at`; the delay stays
    /// the same.
    pub(super) fn retry_keepalive_later(&mut self, at: Duration) {
        if self.keepalive.retry.no_later_than(at) {
            self.wake(at, MeshTimer::KeepAlive);
        }
    }

    pub(super) fn connect_keepalive(&mut self, now: Duration) {
        if !self.keepalive.retry.take_due(now) {
            return;
        }
        let mut down: Vec<NodeId> =
            self.keepalive.nodes().filter(|node| !self.is_up(*node)).cloned().collect();
        down.sort();
        if down.is_empty() {
            return;
        }
        for node in &down {
            self.want_connection(node, now);
        }
        let at = self.keepalive.retry.again(now, self.monitor_timeout);
        self.wake(at, MeshTimer::KeepAlive);
    }
}
