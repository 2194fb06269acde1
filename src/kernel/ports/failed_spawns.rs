//! Why ports that peers spawned are not there: kept for the peer's monitor, which comes later.

use crate::kernel::HashMap;
use crate::kernel::effect::{PortName, Reason};
use crate::value::{NodeId, Str};
use std::collections::VecDeque;

/// How many reasons are kept for each peer.
const MOST_KEPT: usize = 1000;

/// The reasons, by spawner.
#[derive(Debug)]
pub(super) struct FailedSpawns {
    peers: HashMap<NodeId, OfOnePeer>,
    /// Octets that are kept for each peer.
    limit: usize,
}

#[derive(Debug, Default)]
struct OfOnePeer {
    reasons: HashMap<PortName, Reason>,
    /// The names in the order in which they came.
    order: VecDeque<PortName>,
    octets: usize,
}

impl OfOnePeer {
    fn remove(&mut self, name: &Str) {
        if let Some(reason) = self.reasons.remove(name) {
            self.octets -= octets(name, &reason);
            self.order.retain(|other| other != name);
        }
    }
}

/// What a reason costs with the name that it is kept under.
fn octets(name: &Str, reason: &Reason) -> usize {
    const BESIDES: usize = 128;
    BESIDES + name.as_ref().data().len() + reason.octets_len()
}

impl FailedSpawns {
    pub(super) fn new(limit: usize) -> Self {
        FailedSpawns { peers: HashMap::default(), limit }
    }

    pub(super) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Octets that are kept for all peers.
    pub(super) fn octets(&self) -> usize {
        self.peers.values().map(|failed| failed.octets).sum()
    }

    /// Keeps the reason why a port that `spawner` spawned is not there. The oldest ones make room.
    pub(super) fn remember(&mut self, spawner: &NodeId, name: PortName, reason: Reason) {
        let failed = self.peers.entry(spawner.clone()).or_default();
        failed.remove(&name);
        failed.octets += octets(&name, &reason);
        failed.reasons.insert(name.clone(), reason);
        failed.order.push_back(name);
        while failed.order.len() > MOST_KEPT || failed.octets > self.limit {
            let Some(oldest) = failed.order.front().cloned() else { break };
            failed.remove(&oldest);
        }
    }

    pub(super) fn reason(&self, spawner: &NodeId, name: &Str) -> Option<&Reason> {
        self.peers.get(spawner)?.reasons.get(name)
    }

    /// The spawner has made a port of that name after all.
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
