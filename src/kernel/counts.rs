//! What a kernel holds, counted: for status displays, and to see that nothing leaks.

use super::db::Database;
use super::mesh::Mesh;
use super::ports::Ports;
use crate::value::NodeId;
use std::collections::BTreeSet;

/// How much a kernel holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ResourceCounts {
    /// Connections, in whatever state.
    pub connections: usize,
    /// Attempts to connect nodes that somebody wants to reach.
    pub attempts: usize,
    /// Local ports that the kernel was told of.
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

impl ResourceCounts {
    /// What these machines of node `own` hold.
    pub(super) fn of(
        own: &NodeId,
        mesh: &Mesh,
        ports: &Ports,
        db: &Database,
        agenda: usize,
    ) -> Self {
        let mut nodes: BTreeSet<NodeId> = ports.nodes().chain(mesh.nodes()).cloned().collect();
        nodes.extend(db.global().into_iter().flat_map(|global| global.nodes()).cloned());
        nodes.remove(own);
        let (queries, finds, families) = db.outstanding();
        ResourceCounts {
            connections: mesh.connections(),
            attempts: mesh.attempts(),
            ports: ports.len(),
            monitors: ports.monitors(),
            monitors_of_peers: ports.monitors_of_peers(),
            queries,
            finds,
            families,
            agenda,
            nodes,
        }
    }
}
