//! Nodes that were lost and have not come back: what they owned is not expected from another master.

use crate::kernel::HashMap;
use crate::value::NodeId;
use std::time::Duration;

/// How long before the loss of a global node that of its slaves is noticed, if all of them were lost at
/// the same time. What a slave owned that was lost earlier, its master has deleted itself.
const TOGETHER: Duration = Duration::from_secs(5);

/// How many losses are remembered: the last ones.
const MOST: usize = 1000;

/// When nodes were lost that have not been connected since.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    nodes: HashMap<NodeId, Duration>,
}

impl Losses {
    pub(super) fn add(&mut self, node: &NodeId, now: Duration) {
        if self.nodes.len() >= MOST {
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

    /// Whether a node was lost together with a global node whose loss was noticed `then`, or after that.
    pub(super) fn contains(&self, node: &NodeId, then: Duration) -> bool {
        self.nodes.get(node).is_some_and(|at| then <= *at + TOGETHER)
    }
}
