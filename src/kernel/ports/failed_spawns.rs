//! Why spawns of peers failed, kept until the peer's monitor arrives.

use crate::kernel::HashMap;
use crate::kernel::effect::{PortName, Reason};
use crate::value::{NodeId, Str};
use std::collections::VecDeque;

/// The maximum number of reasons kept for each peer.
const MAX_REASONS: usize = 1000;

/// The reasons, by spawner.
#[derive(Debug)]
pub(super) struct FailedSpawns {
    peers: HashMap<NodeId, PeerFailures>,
    /// The maximum octets kept for each peer.
    limit: usize,
}

#[derive(Debug, Default)]
struct PeerFailures {
    reasons: HashMap<PortName, Reason>,
    /// The names, oldest first.
    order: VecDeque<PortName>,
    octets: usize,
}

impl PeerFailures {
    fn remove(&mut self, name: &Str) {
        if let Some(reason) = self.reasons.remove(name) {
            self.octets -= octets(name, &reason);
            self.order.retain(|other| other != name);
        }
    }
}

/// The octets that a reason counts, with its name.
fn octets(name: &Str, reason: &Reason) -> usize {
    const OVERHEAD: usize = 128;
    OVERHEAD + name.as_ref().data().len() + reason.octets_len()
}

impl FailedSpawns {
    pub(super) fn new(limit: usize) -> Self {
        FailedSpawns { peers: HashMap::default(), limit }
    }

    pub(super) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Octets kept for all peers.
    pub(super) fn octets(&self) -> usize {
        self.peers.values().map(|failed| failed.octets).sum()
    }

    /// Keeps the reason why a spawn of `spawner` failed; the oldest ones are dropped if there are too
    /// many.
    pub(super) fn remember(&mut self, spawner: &NodeId, name: PortName, reason: Reason) {
        let failed = self.peers.entry(spawner.clone()).or_default();
        failed.remove(&name);
        failed.octets += octets(&name, &reason);
        failed.reasons.insert(name.clone(), reason);
        failed.order.push_back(name);
        while failed.order.len() > MAX_REASONS || failed.octets > self.limit {
            let Some(oldest) = failed.order.front().cloned() else { break };
            failed.remove(&oldest);
        }
    }

    pub(super) fn reason(&self, spawner: &NodeId, name: &Str) -> Option<&Reason> {
        self.peers.get(spawner)?.reasons.get(name)
    }

    /// The spawner has made a port of this name after all.
    pub(super) fn forget(&mut self, spawner: &NodeId, name: &Str) {
        if let Some(failed) = self.peers.get_mut(spawner) {
            failed.remove(name);
        }
    }

    pub(super) fn forget_spawner(&mut self, spawner: &NodeId) {
        self.peers.remove(spawner);
    }

    pub(super) fn spawners(&self) -> impl Iterator<Item = &NodeId> {
        self.peers.keys()
    }
}
