//! The same packet to many nodes again and again: their lanes are looked up once.

use super::lanes::{Lanes, SharedLane};
use crate::value::NodeId;
use std::sync::Arc;

/// Lists of nodes whose lanes are remembered.
const MOST_LISTS: usize = 16;

/// The lanes of the lists of nodes that were sent to last, in the order of the nodes.
#[derive(Debug, Default)]
pub(crate) struct FanOuts(Vec<(Arc<[NodeId]>, SharedLanes)>);

type SharedLanes = Arc<[Arc<SharedLane>]>;

impl FanOuts {
    /// The lanes of these nodes. Those that retire meanwhile stay in the list.
    pub(crate) fn of(&mut self, nodes: &Arc<[NodeId]>, lanes: &Lanes) -> SharedLanes {
        if let Some((_, known)) = self.0.iter().find(|(known, _)| Arc::ptr_eq(known, nodes)) {
            return known.clone();
        }
        let resolved: SharedLanes = nodes.iter().map(|node| lanes.of(node)).collect();
        // Lists of which nobody else knows do not come again.
        self.0.retain(|(known, _)| Arc::strong_count(known) > 1);
        if self.0.len() >= MOST_LISTS {
            self.0.remove(0);
        }
        self.0.push((nodes.clone(), resolved.clone()));
        resolved
    }
}
