//! The connections of this node: which it has, which it wants, which it keeps.

mod arbitration;
mod backoff;
mod connection;
mod keepalive;
mod link;
mod seeds;
mod trial;

pub(super) use arbitration::is_ours;
pub use connection::{Authenticated, PeerGreeting};
pub(super) use link::Link;
pub use seeds::SeedStatus;
pub(super) use trial::Trial;

use super::HashMap;
use super::effect::ConnId;
use crate::value::{NodeId, Str};
use connection::Conn;
use keepalive::Keepalive;
use seeds::Seeds;

/// All connections, and what makes new ones; what there is of a single node is in its `Peer`.
#[derive(Debug, Default)]
pub(super) struct Mesh {
    conns: HashMap<ConnId, Conn>,
    next_conn: u64,
    /// Connections that were greeted and are not up yet, by the node that they claim to lead to.
    greeted: HashMap<NodeId, Vec<ConnId>>,
    pub(super) seeds: Seeds,
    keepalive: Keepalive,
    next_probe: u64,
}

impl Mesh {
    pub(super) fn new(seeds: &[Str]) -> Self {
        Mesh { seeds: Seeds::new(seeds), ..Mesh::default() }
    }

    pub(super) fn connections(&self) -> usize {
        self.conns.len()
    }

    /// The nodes that are to be connected, or claim to be.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &NodeId> {
        self.greeted.keys().chain(self.keepalive.nodes())
    }

    /// Whether this is the node of a seed.
    pub(super) fn is_seed(&self, node: &NodeId) -> bool {
        self.seeds.nodes().any(|seed| seed == node)
    }
}
