//! Why ports that peers spawned are not there: kept for the peer's monitor, which comes later.

use crate::kernel::HashMap;
use crate::kernel::effect::{PortName, Reason};
use crate::value::{NodeId, Str};
use std::collections::VecDeque;

/// How many reasons are kept for each peer.
const MOST_KEPT: usize = 1000;

/// The reasons, by spawner.
#[derive(Debug, Default)]
pub(super) struct FailedSpawns(HashMap<NodeId, OfOnePeer>);

#[derive(Debug, Default)]
struct OfOnePeer {
    reasons: HashMap<PortName, Reason>,
    /// The names in the order in which they came.
    order: VecDeque<PortName>,
}

impl FailedSpawns {
    /// Keeps the reason why a port that `spawner` spawned is not there.
    pub(super) fn remember(&mut self, spawner: &NodeId, name: PortName, reason: Reason) {
        let failed = self.0.entry(spawner.clone()).or_default();
        if failed.reasons.insert(name.clone(), reason).is_none() {
            failed.order.push_back(name);
        }
        while failed.order.len() > MOST_KEPT {
            if let Some(oldest) = failed.order.pop_front() {
                failed.reasons.remove(&oldest);
            }
        }
    }

    pub(super) fn reason(&self, spawner: &NodeId, name: &Str) -> Option<&Reason> {
        self.0.get(spawner)?.reasons.get(name)
    }

    /// The spawner has made a port of that name after all.
    pub(super) fn forget(&mut self, spawner: &NodeId, name: &Str) {
        if let Some(failed) = self.0.get_mut(spawner) {
            failed.reasons.remove(name);
        }
    }

    pub(super) fn forget_spawner(&mut self, spawner: &NodeId) {
        self.0.remove(spawner);
    }

    pub(super) fn spawners(&self) -> impl Iterator<Item = &NodeId> {
        self.0.keys()
    }
}
