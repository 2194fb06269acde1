//! What a node counts, and all its figures at one moment: for monitoring.
//!
//! Nothing is reported when it happens. Each lane and connection counts for itself, where that
//! costs next to nothing, and [`Node::metrics`] reads all of it when somebody asks. (A facade that
//! is called for each message would cost more than the message.)

use super::counters::{HandshakeCount, Traffic};
use super::{Link, Node};
use crate::value::Str;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

/// The figures of a node at one moment. Counts begin with the node and never fall.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Metrics {
    /// Which node.
    pub node: Str,
    /// For how many seconds it has been running.
    pub uptime: f64,
    /// Whether it keeps the whole database.
    pub global: bool,
    /// The node that keeps the database for it; a global node's own ID.
    pub master: Option<Str>,
    /// How many seeds are configured.
    pub seeds: u64,
    /// How many of these are connected, or are this node itself.
    pub seeds_up: u64,
    /// Its connections now, in order of the nodes' IDs.
    pub links: Vec<Link>,
    /// How many connections there are, and were.
    pub connections: Connections,
    /// Handshakes that have ended, by who dialled and how they ended.
    pub handshakes: Vec<HandshakeCount>,
    /// What has passed between this node and all others, also those that are gone.
    pub traffic: Traffic,
    /// How many octets wait to be sent, to all nodes.
    pub waiting: u64,
    /// How many ports it has.
    pub ports: u64,
    /// How many octets of messages wait in these ports.
    pub ports_waiting: u64,
    /// How many monitors are set here, on ports of any node.
    pub monitors: u64,
    /// How many database queries wait for an answer.
    pub queries: u64,
    /// How many keys each family of the database has, if it keeps that.
    pub families: BTreeMap<Str, u64>,
    /// When other nodes begin to refuse this one's certificate, in seconds since the epoch: the first
    /// end of its own certificate and those that issued it. `None` without a certificate.
    pub certificate_expires: Option<i64>,
    /// Octets that are kept on account of peers, without database entries: what the key `peer_limit`
    /// bounds for each peer and table.
    pub peer_octets: u64,
    /// Octets of the database's entries, if it keeps that: what the key `database_limit` bounds for each
    /// peer.
    pub database_octets: u64,
    /// How often something was refused because a peer was at one of these limits.
    pub refused_for_limits: u64,
    /// How many slaves of lost masters it has taken on; see `docs/protocol.md` §7.
    pub healed: u64,
}

/// Connections with nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Connections {
    /// How many there are that can be used.
    pub up: u64,
    /// How many are being dialled or shake hands.
    pub opening: u64,
    /// How many of these others dialled who have not proven yet that they belong to the network;
    /// the keys `handshake_limit` and `handshake_limit_per_address` bound them.
    pub pending_handshakes: u64,
    /// How many that could be used were lost or closed.
    pub lost: u64,
}

impl Node {
    /// All figures of the node at this moment, for monitoring: what `aemp run metrics ADDRESS`
    /// serves to Prometheus, for programs that have an exporter of their own.
    ///
    /// It costs as much as there are connections, ports and families; once a second is fine.
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
