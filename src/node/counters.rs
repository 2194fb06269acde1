//! Counters of connections, handshakes, packets and octets, kept where the events happen.

use super::error::ConnectionError;
use crate::lane::Counters;
use crate::wire::session::HandshakeError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// What was transferred between nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    /// Packets sent: messages, requests and keepalives.
    pub sent_packets: u64,
    /// Octets of the packets sent, before encryption.
    pub sent_octets: u64,
    /// Packets received.
    pub received_packets: u64,
    /// Octets of the packets received, after decryption.
    pub received_octets: u64,
    /// Packets dropped because their connection was being lost, or because too much was queued for
    /// it.
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

/// How many handshakes ended in a given way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct HandshakeCount {
    /// Whether this node dialled.
    pub dialled: bool,
    /// How they ended.
    pub outcome: HandshakeOutcome,
    /// How many.
    pub count: u64,
}

/// How a handshake can end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HandshakeOutcome {
    /// In a connection between nodes.
    Up,
    /// In a data connection.
    Data,
    /// Nobody answered at the address.
    Unreachable,
    /// The handshake did not finish in time.
    TimedOut,
    /// The connection broke, or the peer closed it: perhaps because it has another secret.
    Closed,
    /// The peer could not prove that it belongs to the network, or not by an accepted method.
    Unauthenticated,
    /// TLS failed.
    Tls,
    /// The peer does not speak the protocol, or shares no method or framing with this node.
    Protocol,
    /// The connection was not wanted: there is one with that node already, or it is this node
    /// itself.
    Unwanted,
    /// Closed to make room for a newer one, as there were too many pending handshakes.
    Displaced,
}

impl HandshakeOutcome {
    /// All outcomes.
    pub const ALL: [HandshakeOutcome; 10] = [
        HandshakeOutcome::Up,
        HandshakeOutcome::Data,
        HandshakeOutcome::Unreachable,
        HandshakeOutcome::TimedOut,
        HandshakeOutcome::Closed,
        HandshakeOutcome::Unauthenticated,
        HandshakeOutcome::Tls,
        HandshakeOutcome::Protocol,
        HandshakeOutcome::Unwanted,
        HandshakeOutcome::Displaced,
    ];

    /// The outcome as a word.
    pub const fn name(self) -> &'static str {
        match self {
            HandshakeOutcome::Up => "up",
            HandshakeOutcome::Data => "data",
            HandshakeOutcome::Unreachable => "unreachable",
            HandshakeOutcome::TimedOut => "timed_out",
            HandshakeOutcome::Closed => "closed",
            HandshakeOutcome::Unauthenticated => "unauthenticated",
            HandshakeOutcome::Tls => "tls",
            HandshakeOutcome::Protocol => "protocol",
            HandshakeOutcome::Unwanted => "unwanted",
            HandshakeOutcome::Displaced => "displaced",
        }
    }

    /// The outcome of a handshake that failed with this error.
    pub(super) fn of(why: &ConnectionError) -> HandshakeOutcome {
        match why {
            ConnectionError::Connect { .. } => HandshakeOutcome::Unreachable,
            ConnectionError::HandshakeTimeout(_) => HandshakeOutcome::TimedOut,
            ConnectionError::Displaced => HandshakeOutcome::Displaced,
            ConnectionError::Tls(_) => HandshakeOutcome::Tls,
            ConnectionError::Io(_) | ConnectionError::Closed => HandshakeOutcome::Closed,
            ConnectionError::Garbage { .. } | ConnectionError::NodeId(_) => {
                HandshakeOutcome::Protocol
            }
            ConnectionError::Refused(_) => HandshakeOutcome::Unwanted,
            ConnectionError::HandedOver => HandshakeOutcome::Data,
            ConnectionError::Handshake(error) => match error {
                HandshakeError::ClosedInGreeting
                | HandshakeError::ClosedWhileHeld
                | HandshakeError::ClosedInAuthentication => HandshakeOutcome::Closed,
                HandshakeError::EncryptionRequired { .. }
                | HandshakeError::EchoedNonce
                | HandshakeError::MethodRefused { .. }
                | HandshakeError::MethodOutsideTls { .. }
                | HandshakeError::NoPeerCertificate { .. }
                | HandshakeError::MethodInBoundSession { .. }
                | HandshakeError::NotABoundSession
                | HandshakeError::WrongBoundToken
                | HandshakeError::WrongSecret { .. }
                | HandshakeError::WrongToken { .. } => HandshakeOutcome::Unauthenticated,
                _ => HandshakeOutcome::Protocol,
            },
        }
    }
}

/// A node's counters of its connections.
#[derive(Debug, Default)]
pub(crate) struct ConnectionCounters {
    dialled: [AtomicU64; HandshakeOutcome::ALL.len()],
    accepted: [AtomicU64; HandshakeOutcome::ALL.len()],
    pub(super) lost: AtomicU64,
    /// The last connection could not be accepted.
    cannot_accept: AtomicBool,
}

impl ConnectionCounters {
    /// Records whether the last connection could be accepted.
    pub(super) fn accepts(&self, accepts: bool) {
        self.cannot_accept.store(!accepts, Relaxed);
    }

    /// Whether accepting the last connection failed.
    pub(super) fn cannot_accept(&self) -> bool {
        self.cannot_accept.load(Relaxed)
    }

    /// Counts a handshake that has ended.
    pub(super) fn handshake_ended(&self, dialled: bool, outcome: HandshakeOutcome) {
        let counts = if dialled { &self.dialled } else { &self.accepted };
        if let Some(count) = counts.get(outcome as usize) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// Counts the end of a connection between nodes that was up.
    pub(super) fn lost(&self) {
        self.lost.fetch_add(1, Relaxed);
    }

    pub(super) fn handshakes(&self) -> Vec<HandshakeCount> {
        let of = |dialled, counts: &[AtomicU64; HandshakeOutcome::ALL.len()]| {
            let pairs = HandshakeOutcome::ALL.into_iter().zip(counts);
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

/// What a connection has received. Only its reader counts.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_its_own_counter_and_name() {
        let counters = ConnectionCounters::default();
        for (times, outcome) in HandshakeOutcome::ALL.into_iter().enumerate() {
            for _ in 0..times {
                counters.handshake_ended(true, outcome);
            }
        }
        let counts = counters.handshakes();
        assert_eq!(counts.len(), 2 * HandshakeOutcome::ALL.len());
        let dialled: Vec<u64> =
            counts.iter().filter(|count| count.dialled).map(|count| count.count).collect();
        assert!(dialled.iter().copied().eq(0..HandshakeOutcome::ALL.len() as u64), "{dialled:?}");
        let names: std::collections::BTreeSet<_> =
            HandshakeOutcome::ALL.iter().map(|outcome| outcome.name()).collect();
        assert_eq!(names.len(), HandshakeOutcome::ALL.len());
    }
}
