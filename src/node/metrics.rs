//! What a node counts, and all its figures at one moment: for monitoring.
//!
//! Nothing is reported when it happens. Each lane and connection counts for itself, where that
//! costs next to nothing, and [`Node::metrics`] reads all of it when somebody asks. (A facade that
//! is called for each message would cost more than the message.)

use super::error::ConnectionError;
use super::{Link, Node};
use crate::lane::Counters;
use crate::value::Str;
use crate::wire::session::HandshakeError;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

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
    pub strangers: u64,
    /// How many that could be used were lost or closed.
    pub lost: u64,
}

/// What has passed between nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    /// Packets sent: messages, requests and keepalives.
    pub sent_packets: u64,
    /// Octets of these, before encryption.
    pub sent_octets: u64,
    /// Packets received.
    pub received_packets: u64,
    /// Octets of these, after decryption.
    pub received_octets: u64,
    /// Packets dropped because their connection was being lost, or too much waited for it.
    pub dropped_packets: u64,
}

impl Traffic {
    pub(super) const fn add(&mut self, other: Traffic) {
        self.sent_packets += other.sent_packets;
        self.sent_octets += other.sent_octets;
        self.received_packets += other.received_packets;
        self.received_octets += other.received_octets;
        self.dropped_packets += other.dropped_packets;
    }
}

/// How many handshakes ended in one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct HandshakeCount {
    /// Whether this node dialled.
    pub dialled: bool,
    /// How they ended.
    pub outcome: Outcome,
    /// How many.
    pub count: u64,
}

/// How a handshake can end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// In a connection between nodes.
    Up,
    /// In a data connection.
    Data,
    /// Nobody answered at the address.
    Unreachable,
    /// There was none within the time for it.
    TimedOut,
    /// In a connection that broke, or that the peer closed: perhaps as it has another secret.
    Closed,
    /// The peer could not prove that it belongs to the network, or not in a way that is accepted.
    Unauthenticated,
    /// TLS failed.
    Tls,
    /// The peer does not speak the protocol, or nothing that both sides speak.
    Protocol,
    /// The connection was not wanted: there is one with that node already, or it is this one.
    Unwanted,
    /// It made room for a newer one, as too many were in their handshake.
    Displaced,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Outcome; 10] = [
        Outcome::Up,
        Outcome::Data,
        Outcome::Unreachable,
        Outcome::TimedOut,
        Outcome::Closed,
        Outcome::Unauthenticated,
        Outcome::Tls,
        Outcome::Protocol,
        Outcome::Unwanted,
        Outcome::Displaced,
    ];

    /// A word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Up => "up",
            Outcome::Data => "data",
            Outcome::Unreachable => "unreachable",
            Outcome::TimedOut => "timed_out",
            Outcome::Closed => "closed",
            Outcome::Unauthenticated => "unauthenticated",
            Outcome::Tls => "tls",
            Outcome::Protocol => "protocol",
            Outcome::Unwanted => "unwanted",
            Outcome::Displaced => "displaced",
        }
    }

    /// How a handshake that failed with this ended.
    pub(super) fn of(why: &ConnectionError) -> Outcome {
        match why {
            ConnectionError::Connect { .. } => Outcome::Unreachable,
            ConnectionError::HandshakeTimeout(_) => Outcome::TimedOut,
            ConnectionError::Displaced => Outcome::Displaced,
            ConnectionError::Tls(_) => Outcome::Tls,
            ConnectionError::Io(_) | ConnectionError::Closed => Outcome::Closed,
            ConnectionError::Garbage { .. } => Outcome::Protocol,
            ConnectionError::Refused(_) => Outcome::Unwanted,
            ConnectionError::HandedOver => Outcome::Data,
            ConnectionError::Handshake(error) => match error {
                HandshakeError::ClosedInGreeting
                | HandshakeError::ClosedWhileHeld
                | HandshakeError::ClosedInAuthentication => Outcome::Closed,
                HandshakeError::EncryptionRequired { .. }
                | HandshakeError::EchoedNonce
                | HandshakeError::MethodRefused { .. }
                | HandshakeError::MethodOutsideTls { .. }
                | HandshakeError::NoPeerCertificate { .. }
                | HandshakeError::MethodInBoundSession { .. }
                | HandshakeError::NotABoundSession
                | HandshakeError::WrongBoundToken
                | HandshakeError::WrongSecret { .. }
                | HandshakeError::WrongToken { .. } => Outcome::Unauthenticated,
                _ => Outcome::Protocol,
            },
        }
    }
}

/// What a node counts of its connections.
#[derive(Debug, Default)]
pub(crate) struct ConnectionCounters {
    dialled: [AtomicU64; Outcome::ALL.len()],
    accepted: [AtomicU64; Outcome::ALL.len()],
    lost: AtomicU64,
    /// The last connection could not be accepted.
    cannot_accept: AtomicBool,
}

impl ConnectionCounters {
    /// A connection could, or could not, be accepted.
    pub(super) fn accepts(&self, accepts: bool) {
        self.cannot_accept.store(!accepts, Relaxed);
    }

    /// Whether the last connection could not be accepted.
    pub(super) fn cannot_accept(&self) -> bool {
        self.cannot_accept.load(Relaxed)
    }

    /// A handshake has ended.
    pub(super) fn handshake_ended(&self, dialled: bool, outcome: Outcome) {
        let counts = if dialled { &self.dialled } else { &self.accepted };
        if let Some(count) = counts.get(outcome as usize) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// A connection between nodes that could be used has ended.
    pub(super) fn lost(&self) {
        self.lost.fetch_add(1, Relaxed);
    }

    fn handshakes(&self) -> Vec<HandshakeCount> {
        let of = |dialled, counts: &[AtomicU64; Outcome::ALL.len()]| {
            let pairs = Outcome::ALL.into_iter().zip(counts);
            pairs
                .map(|(outcome, count)| HandshakeCount {
                    dialled,
                    outcome,
                    count: count.load(Relaxed),
                })
                .collect::<Vec<_>>()
        };
        let mut all = of(false, &self.accepted);
        all.extend(of(true, &self.dialled));
        all
    }
}

/// What a connection has brought. Only its reader counts.
#[derive(Debug, Default)]
pub(crate) struct Received {
    packets: AtomicU64,
    octets: AtomicU64,
}

impl Received {
    pub(super) fn count(&self, packets: u64, octets: u64) {
        self.packets.fetch_add(packets, Relaxed);
        self.octets.fetch_add(octets, Relaxed);
    }

    pub(super) fn and_sent(&self, sent: Counters) -> Traffic {
        Traffic {
            sent_packets: sent.packets,
            sent_octets: sent.octets,
            received_packets: self.packets.load(Relaxed),
            received_octets: self.octets.load(Relaxed),
            dropped_packets: sent.dropped,
        }
    }
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
            (kernel.watch_count(), kernel.query_count(), kernel.connection_count(), kernel.healed())
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
                strangers: status.strangers,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_its_own_counter_and_name() {
        let counters = ConnectionCounters::default();
        for (times, outcome) in Outcome::ALL.into_iter().enumerate() {
            for _ in 0..times {
                counters.handshake_ended(true, outcome);
            }
        }
        let counts = counters.handshakes();
        assert_eq!(counts.len(), 2 * Outcome::ALL.len());
        let dialled: Vec<u64> =
            counts.iter().filter(|count| count.dialled).map(|count| count.count).collect();
        assert!(dialled.iter().copied().eq(0..Outcome::ALL.len() as u64), "{dialled:?}");
        let names: std::collections::BTreeSet<_> =
            Outcome::ALL.iter().map(|outcome| outcome.name()).collect();
        assert_eq!(names.len(), Outcome::ALL.len());
    }
}
