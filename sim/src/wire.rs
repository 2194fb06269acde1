//! A connection as its node sees it: handshake, then packets.

use crate::link::LinkEnd;
use aemp::kernel::AuthOrder;
use aemp::value::{NodeId, Packed};
use aemp::wire::framing::{Decoder, Framing, FramingError, FramingLimits, Step};
use std::time::Duration;

/// One connection of a node.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) end: Option<LinkEnd>,
    /// In which framing we send on it.
    pub(crate) framing: Framing,
    pub(crate) peer: Option<NodeId>,
    pub(crate) order: Option<AuthOrder>,
    /// Our authentication line was sent; until then, by the node's clock, no other connection to
    /// the same node goes on.
    pub(crate) others_wait_until: Option<Duration>,
    pub(crate) peer_has_authenticated: bool,
    pub(crate) established: bool,
    /// The kernel wants it closed, and that is under way: nothing is read any more.
    pub(crate) closing: bool,
    input: Input,
}

/// Octets that have come, and the packets in them.
#[derive(Debug)]
struct Input {
    decoder: Decoder,
    octets: Vec<u8>,
}

impl Wire {
    pub(crate) fn new(end: Option<LinkEnd>, framing: Framing) -> Self {
        Wire {
            end,
            framing,
            peer: None,
            order: None,
            others_wait_until: None,
            peer_has_authenticated: false,
            established: false,
            closing: false,
            input: Input {
                decoder: Decoder::new(Framing::Cbor, FramingLimits::default()),
                octets: Vec::new(),
            },
        }
    }

    /// The peer has said in which framing it sends.
    pub(crate) fn peer_sends(&mut self, framing: Framing) {
        self.input.decoder = Decoder::new(framing, FramingLimits::default());
    }

    pub(crate) fn received(&mut self, octets: &[u8]) {
        self.input.octets.extend_from_slice(octets);
    }

    /// The next whole packet, port name first.
    pub(crate) fn next_packet(&mut self) -> Result<Option<Packed>, FramingError> {
        let (used, packet) = match self.input.decoder.next(&self.input.octets)? {
            Step::More { used } => (used, None),
            Step::Packet { used, elements } => (used, Some(elements.to_packed())),
        };
        self.input.octets.drain(..used);
        Ok(packet)
    }
}
