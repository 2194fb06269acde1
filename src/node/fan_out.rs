//! Remembers the lanes of lists of nodes to which packets are sent repeatedly.

use super::lanes::{Lanes, SharedLane};
use crate::value::NodeId;
use std::sync::Arc;

/// Lists of nodes whose lanes are remembered.
const MAX_LISTS: usize = 16;

/// The lanes for the most recent lists of nodes, in the order of the nodes.
#[derive(Debug, Default)]
pub(crate) struct FanOuts(Vec<(Arc<[NodeId]>, SharedLanes)>);

type SharedLanes = Arc<[Arc<SharedLane>]>;

impl FanOuts {
    /// The lanes of these nodes. Lanes that retire later stay in the list.
    pub(crate) fn of(&mut self, nodes: &Arc<[NodeId]>, lanes: &Lanes) -> SharedLanes {
        if let Some((_, known)) = self.0.iter().find(|(known, _)| Arc::ptr_eq(known, nodes)) {
            return known.clone();
        }
        let resolved: SharedLanes = nodes.iter().map(|node| lanes.of(node)).collect();
        // A list that nobody else holds will not be used again.
        self.0.retain(|(known, _)| Arc::strong_count(known) > 1);
        if self.0.len() >= MAX_LISTS {
            self.0.remove(0);
        }
        self.0.push((nodes.clone(), resolved.clone()));
        resolved
    }
}
