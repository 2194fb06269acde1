//! One connection of the virtual network. Octets stay in order and may be delayed without limit.

use std::collections::VecDeque;
use std::time::Duration;

/// One end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LinkEnd {
    pub(crate) link: u64,
    pub(crate) side: usize,
}

impl LinkEnd {
    pub(crate) const fn other(self) -> LinkEnd {
        LinkEnd { link: self.link, side: 1 - self.side }
    }
}

/// What is transferred over a connection.
#[derive(Debug, Clone)]
pub(crate) enum Segment {
    /// A part of the lines of the handshake.
    Lines(Vec<u8>),
    /// The sender's part of the TLS handshake.
    Tls(u64),
    /// A part of the framed packets.
    Data(Vec<u8>),
    /// The sender has closed its end.
    Fin,
}

impl Segment {
    /// Number of octets; the whole TLS handshake counts as one.
    pub(crate) fn octets(&self) -> u64 {
        match self {
            Segment::Lines(octets) | Segment::Data(octets) => octets.len() as u64,
            Segment::Tls(_) => 1,
            Segment::Fin => 0,
        }
    }
}

/// One direction, and the end that sends in it.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) host: usize,
    pub(crate) incarnation: u32,
    pub(crate) conn: u64,
    /// Whether the process still has its socket.
    pub(crate) open: bool,
    /// Segments that this end has sent and the other has not received.
    pub(crate) flight: VecDeque<Segment>,
    /// Octets of packets that this end has sent.
    pub(crate) sent: u64,
    /// How many of these have arrived.
    pub(crate) arrived: u64,
    /// When an octet of a packet from this end last arrived.
    pub(crate) progressed: Option<Duration>,
    /// When the last segment arrives.
    pub(crate) last_arrival: Duration,
}

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) ends: [End; 2],
}

impl Link {
    pub(crate) fn end(&self, side: usize) -> &End {
        if side == 0 { &self.ends[0] } else { &self.ends[1] }
    }

    pub(crate) fn end_mut(&mut self, side: usize) -> &mut End {
        if side == 0 { &mut self.ends[0] } else { &mut self.ends[1] }
    }
}
