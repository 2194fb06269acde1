//! Limits of what a node keeps for each peer, and the octets of relayed messages whose destinations are
//! not connected yet.

use super::HashMap;
use crate::value::NodeId;

/// Octets that a node keeps for one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerLimits {
    /// Octets in each of these tables: subscriptions to families, reasons of failed spawns, relayed
    /// messages to nodes that are being connected, and expected data connections.
    pub table: usize,
    /// Octets of database entries of one slave, or of all slaves of another global node.
    pub database: usize,
}

impl Default for PeerLimits {
    /// 16 MiB for each table, 1 GiB of database entries.
    fn default() -> Self {
        PeerLimits { table: 16 << 20, database: 1 << 30 }
    }
}

/// Octets counted for each node that is being connected, besides the messages.
const SEARCH_OVERHEAD: usize = 1000;

/// How many times the ID of a node is stored that is being connected, or more.
const COPIES_OF_ID: usize = 6;

/// Octets of relayed messages to nodes that are being connected, by sender.
#[derive(Debug, Default)]
pub(super) struct PendingOctets {
    by_peer: HashMap<NodeId, usize>,
    by_sought: HashMap<NodeId, HashMap<NodeId, usize>>,
}

impl PendingOctets {
    /// Adds a message of `peer` to `sought`, which is being connected; false if the peer's messages
    /// would exceed `limit`.
    pub(super) fn add(
        &mut self,
        peer: &NodeId,
        sought: &NodeId,
        octets: usize,
        limit: usize,
    ) -> bool {
        let of_sought = self.by_sought.get(sought).and_then(|peers| peers.get(peer));
        let search = SEARCH_OVERHEAD + COPIES_OF_ID * sought.as_str().data().len();
        let octets = octets + if of_sought.is_some() { 0 } else { search };
        let of_peer = self.by_peer.get(peer).copied().unwrap_or(0);
        // A single message may exceed the limit, as packets may; otherwise longer ones could not be
        // relayed.
        if of_peer > 0 && of_peer.saturating_add(octets) > limit {
            return false;
        }
        self.by_peer.insert(peer.clone(), of_peer.saturating_add(octets));
        *self.by_sought.entry(sought.clone()).or_default().entry(peer.clone()).or_default() +=
            octets;
        true
    }

    /// A node has connected, or was given up.
    pub(super) fn is_settled(&mut self, sought: &NodeId) {
        for (peer, octets) in self.by_sought.remove(sought).unwrap_or_default() {
            if let Some(of_peer) = self.by_peer.get_mut(&peer) {
                *of_peer = of_peer.saturating_sub(octets);
                if *of_peer == 0 {
                    self.by_peer.remove(&peer);
                }
            }
        }
    }

    pub(super) fn octets(&self) -> usize {
        self.by_peer.values().sum()
    }
}

#[cfg(test)]
#[path = "limits_tests.rs"]
mod tests;
