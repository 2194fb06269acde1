//! What a kernel holds, counted: for status displays, and to see that nothing leaks.

use super::Kernel;
use crate::value::NodeId;
use std::collections::BTreeSet;

/// How much a kernel holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Census {
    /// Connections, in whatever state.
    pub connections: usize,
    /// Connections that are made because somebody wants to reach a node.
    pub searches: usize,
    /// Local ports.
    pub ports: usize,
    /// Monitors of local and remote ports that were set here.
    pub monitors: usize,
    /// Monitors of local ports that peers have set: one for each peer and port.
    pub monitors_of_peers: usize,
    /// Database queries that wait for an answer.
    pub queries: usize,
    /// Nodes whose addresses are looked for in the database.
    pub finds: usize,
    /// Monitored families.
    pub families: usize,
    /// What is to happen later.
    pub agenda: usize,
    /// Every other node of which anything at all is held.
    pub nodes: BTreeSet<NodeId>,
}

impl Kernel {
    /// Counts what this kernel holds; takes as long as there is much of it.
    pub fn census(&self) -> Census {
        let mut nodes: BTreeSet<NodeId> = self.peers.keys().cloned().collect();
        nodes.extend(self.ports.nodes().cloned());
        nodes.extend(self.mesh.nodes().cloned());
        if let Some(global) = self.db.global() {
            nodes.extend(global.nodes().cloned());
        }
        nodes.remove(&self.config.node);
        let (queries, finds, families) = self.db.outstanding();
        Census {
            connections: self.mesh.connections(),
            searches: self.peers.values().filter(|peer| peer.trial.is_some()).count(),
            ports: self.ports.len(),
            monitors: self.watches.len(),
            monitors_of_peers: self.ports.monitors_of_peers(),
            queries,
            finds,
            families,
            agenda: self.agenda.len(),
            nodes,
        }
    }
}
