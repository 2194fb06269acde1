//! Counts of a kernel's resources, for status displays and for tests that look for leaks.

use super::db::Database;
use super::mesh::Mesh;
use super::ports::Ports;
use crate::value::NodeId;
use std::collections::BTreeSet;

/// Counts of a kernel's resources.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ResourceCounts {
    /// Connections, in any state.
    pub connections: usize,
    /// Nodes that are being connected.
    pub attempts: usize,
    /// Local ports that the kernel knows.
    pub ports: usize,
    /// Monitors of local and remote ports that this node has set.
    pub monitors: usize,
    /// Monitors of local ports that peers have set: one for each peer and port.
    pub monitors_of_peers: usize,
    /// Database queries that wait for an answer.
    pub queries: usize,
    /// Nodes whose addresses are being looked up in the database.
    pub finds: usize,
    /// Monitored families.
    pub families: usize,
    /// Entries in timer queues.
    pub agenda: usize,
    /// Every other node about which the kernel keeps anything.
    pub nodes: BTreeSet<NodeId>,
}

impl ResourceCounts {
    /// The counts of these machines of node `own`.
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
