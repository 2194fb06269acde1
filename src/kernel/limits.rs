//! How much a node keeps on account of each peer, and the messages of peers that wait for nodes which are
//! being looked for.

use super::HashMap;
use crate::value::NodeId;

/// Octets that a node keeps on account of one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerLimits {
    /// In each of these tables: subscriptions to families, reasons of failed spawns, relayed messages
    /// to nodes that are being looked for, and expected data connections.
    pub table: usize,
    /// Of database entries: those of one slave, or of all slaves of another global node.
    pub database: usize,
}

impl Default for PeerLimits {
    /// 16 MiB in each table, and 1 GiB of database entries.
    fn default() -> Self {
        PeerLimits { table: 16 << 20, database: 1 << 30 }
    }
}

/// What a node that is being looked for costs besides what waits for it.
const SEARCH: usize = 1000;

/// Octets of relayed messages that wait for nodes which are being looked for, by whom they come from.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    by_peer: HashMap<NodeId, usize>,
    by_sought: HashMap<NodeId, HashMap<NodeId, usize>>,
}

impl Waiting {
    /// A message of `peer` is to wait for `sought`; false if more waits on the peer's account than
    /// `limit` then.
    pub(super) fn add(
        &mut self,
        peer: &NodeId,
        sought: &NodeId,
        octets: usize,
        limit: usize,
    ) -> bool {
        let of_sought = self.by_sought.get(sought).and_then(|peers| peers.get(peer));
        let octets = octets + if of_sought.is_some() { 0 } else { SEARCH };
        let of_peer = self.by_peer.get(peer).copied().unwrap_or(0);
        // One message may be as long as a packet, or nothing could be relayed that is longer.
        if of_peer > 0 && of_peer.saturating_add(octets) > limit {
            return false;
        }
        self.by_peer.insert(peer.clone(), of_peer.saturating_add(octets));
        *self.by_sought.entry(sought.clone()).or_default().entry(peer.clone()).or_default() +=
            octets;
        true
    }

    /// A node is connected, or given up.
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
