//! The nodes that a global node stays connected to: the other global ones.

use super::backoff::Backoff;
use crate::kernel::{HashSet, Kernel, Task};
use crate::value::NodeId;
use std::time::Duration;

/// The unit of the first retry; a random factor between 2 and 4 goes on top.
const RETRY: Duration = Duration::from_millis(300);

#[derive(Debug, Default)]
pub(super) struct Keepalive {
    nodes: HashSet<NodeId>,
    retry: Backoff,
}

impl Keepalive {
    pub(super) fn nodes(&self) -> impl Iterator<Item = &NodeId> {
        self.nodes.iter()
    }

    pub(super) fn contains(&self, node: &NodeId) -> bool {
        self.nodes.contains(node)
    }
}

impl Kernel {
    /// Keeps a connection to `node` from now on.
    pub(in crate::kernel) fn keep_alive(&mut self, node: NodeId) {
        if node != self.config.node
            && self.mesh.keepalive.nodes.insert(node.clone())
            && !self.is_up(&node)
        {
            self.retry_keepalive();
        }
    }

    pub(in crate::kernel) fn keep_alive_no_longer(&mut self, node: &NodeId) {
        self.mesh.keepalive.nodes.remove(node);
    }

    pub(super) fn retry_keepalive(&mut self) {
        let now = self.now.uptime;
        let retry = &mut self.mesh.keepalive.retry;
        retry.restart(RETRY, &mut self.random);
        retry.schedule(now);
        self.agenda.add(now, Task::KeepAlive);
    }

    pub(in crate::kernel) fn connect_keepalive(&mut self) {
        let now = self.now.uptime;
        if !self.mesh.keepalive.retry.take_due(now) {
            return;
        }
        let mut down: Vec<NodeId> =
            self.mesh.keepalive.nodes().filter(|node| !self.is_up(node)).cloned().collect();
        down.sort();
        if down.is_empty() {
            return;
        }
        for node in &down {
            self.want_connection(node);
        }
        let at = self.mesh.keepalive.retry.again(now, self.config.monitor_timeout);
        self.agenda.add(at, Task::KeepAlive);
    }
}
