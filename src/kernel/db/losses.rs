//! Recently lost nodes: their entries are not expected from a new master.

use crate::kernel::HashMap;
use crate::value::NodeId;
use std::time::Duration;

/// Losses of a global node and of its slaves within this time count as simultaneous. The entries of a
/// slave that was lost earlier were deleted by its master.
const SIMULTANEOUS_LOSS_WINDOW: Duration = Duration::from_secs(5);

/// The maximum number of recorded losses; the oldest are dropped first.
const MAX_LOSSES: usize = 1000;

/// The times at which nodes were lost that have not reconnected since.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    nodes: HashMap<NodeId, Duration>,
}

impl Losses {
    pub(super) fn add(&mut self, node: &NodeId, now: Duration) {
        if self.nodes.len() >= MAX_LOSSES {
            let oldest = self.nodes.iter().min_by_key(|(node, at)| (**at, *node));
            if let Some(oldest) = oldest.map(|(node, _)| node.clone()) {
                self.nodes.remove(&oldest);
            }
        }
        self.nodes.insert(node.clone(), now);
    }

    pub(super) fn is_back(&mut self, node: &NodeId) {
        self.nodes.remove(node);
    }

    /// Whether a node was lost at the same time as a global node whose loss was noticed at time `then`,
    /// or later.
    pub(super) fn contains(&self, node: &NodeId, then: Duration) -> bool {
        self.nodes.get(node).is_some_and(|at| then <= *at + SIMULTANEOUS_LOSS_WINDOW)
    }
}
