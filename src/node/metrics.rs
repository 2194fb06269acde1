//! A node's counters and gauges, read at one moment for monitoring.
//!
//! Nothing is reported when it happens. Each lane and connection counts for itself, which costs
//! next to nothing, and [`Node::metrics`] reads all counters on request. (A facade that is called
//! for each message would cost more than the message.)

use super::counters::{HandshakeCount, Traffic};
use super::{Link, Node};
use crate::value::Str;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

/// The metrics of a node at one moment. Counters begin when the node starts and never decrease.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Metrics {
    /// The node's ID.
    pub node: Str,
    /// Seconds since the node started.
    pub uptime: f64,
    /// Whether it keeps the whole database.
    pub global: bool,
    /// The node that keeps the database for it; its own ID if it is global.
    pub master: Option<Str>,
    /// Number of configured seeds.
    pub seeds: u64,
    /// Number of these that are connected, or are this node itself.
    pub seeds_up: u64,
    /// Its current connections, ordered by node ID.
    pub links: Vec<Link>,
    /// Numbers of current and past connections.
    pub connections: Connections,
    /// Handshakes that have ended, by who dialled and how they ended.
    pub handshakes: Vec<HandshakeCount>,
    /// Totals between this node and all others, including those that are gone.
    pub traffic: Traffic,
    /// Octets that are queued to be sent, to all nodes.
    pub waiting: u64,
    /// Number of ports.
    pub ports: u64,
    /// Octets of messages that are queued in these ports.
    pub ports_waiting: u64,
    /// Number of monitors that are set here, on ports of any node.
    pub monitors: u64,
    /// Number of database queries without an answer yet.
    pub queries: u64,
    /// Number of keys in each family of the database, if this node keeps it.
    pub families: BTreeMap<Str, u64>,
    /// When other nodes begin to refuse this node's certificate, in seconds since the epoch: the
    /// earliest end of its own certificate and of those that issued it. `None` without a
    /// certificate.
    pub certificate_expires: Option<i64>,
    /// Octets that are held on account of peers, without database entries; the key `peer_limit`
    /// bounds them for each peer and table.
    pub peer_octets: u64,
    /// Octets of the database's entries, if this node keeps it; the key `database_limit` bounds
    /// them for each peer.
    pub database_octets: u64,
    /// Requests that were refused because a peer had reached one of these limits.
    pub refused_for_limits: u64,
    /// Slaves of lost masters that this node has adopted; see `docs/protocol.md` §7.
    pub healed: u64,
}

/// Connections with nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Connections {
    /// Connections that are up.
    pub up: u64,
    /// Connections that are being dialled or are in the handshake.
    pub opening: u64,
    /// How many of these were dialled by peers that have not authenticated yet; the keys
    /// `handshake_limit` and `handshake_limit_per_address` bound them.
    pub pending_handshakes: u64,
    /// Connections that were up and have been lost or closed.
    pub lost: u64,
}

impl Node {
    /// All metrics of the node at this moment: what `aemp run metrics ADDRESS` serves to
    /// Prometheus, for programs that have an exporter of their own.
    ///
    /// The cost grows with the number of connections, ports and families; once a second is fine.
    pub fn metrics(&self) -> Metrics {
        let shared = self.shared();
        let status = self.status();
        let (seeds_up, seeds) = self.seeds_up();
        let (peer_octets, database_octets, refused_for_limits) = shared.kernel(|kernel| {
            let refused = kernel.refused_for_limits();
            (kernel.octets_for_peers() as u64, kernel.database_octets() as u64, refused)
        });
        let (monitors, queries, connections, healed) = shared.kernel(|kernel| {
            (
                kernel.monitor_count(),
                kernel.query_count(),
                kernel.connection_count(),
                kernel.healed(),
            )
        });
        let (traffic, waiting) = shared.lanes.traffic();
        let up = status.links.len() as u64;
        Metrics {
            node: status.node,
            uptime: status.uptime,
            global: status.global,
            master: status.master,
            seeds: seeds as u64,
            seeds_up: seeds_up as u64,
            links: status.links,
            connections: Connections {
                up,
                opening: (connections as u64).saturating_sub(up),
                pending_handshakes: status.pending_handshakes,
                lost: shared.counters.lost.load(Relaxed),
            },
            handshakes: shared.counters.handshakes(),
            traffic,
            waiting: waiting as u64,
            ports: status.ports,
            ports_waiting: shared.ports.waiting() as u64,
            monitors: monitors as u64,
            queries: queries as u64,
            families: status.families,
            certificate_expires: shared
                .settings
                .certificate_dates
                .as_ref()
                .and_then(|dates| dates.expires())
                .map(|moment| moment.since_epoch()),
            healed,
            peer_octets: peer_octets + shared.streams.octets() as u64,
            database_octets,
            refused_for_limits,
        }
    }
}
