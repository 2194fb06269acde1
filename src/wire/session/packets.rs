//! The packets received in an established session.

use crate::value::packed::Elements;
use crate::wire::framing::{Decoder, Framing, FramingError, FramingLimits, Step};
use bytes::{Buf as _, BytesMut};

/// The octets after the peer's authentication line.
///
/// Made by [`Session::into_packets`](super::Session::into_packets). Append octets to [`Packets::input`],
/// and take packets by [`Packets::poll`] until it returns none.
#[derive(Debug)]
pub struct Packets {
    decoder: Decoder,
    input: BytesMut,
    /// Octets at the beginning of `input` that were consumed.
    used: usize,
}

impl Packets {
    pub(super) fn new(framing: Framing, limits: FramingLimits, input: BytesMut) -> Self {
        Packets { decoder: Decoder::new(framing, limits), input, used: 0 }
    }

    /// The buffer to which octets read from the connection are appended.
    pub fn input(&mut self) -> &mut BytesMut {
        self.forget_used();
        &mut self.input
    }

    /// The next complete packet, port name first.
    ///
    /// # Errors
    /// The octets are not a packet; no further packet can be found on the connection.
    pub fn poll(&mut self) -> Result<Option<Elements<'_>>, FramingError> {
        self.forget_used();
        match self.decoder.next(&self.input)? {
            Step::More { used } => {
                self.used = used;
                Ok(None)
            }
            Step::Packet { used, elements } => {
                self.used = used;
                Ok(Some(elements))
            }
        }
    }

    /// The decoder, and the octets that it has not consumed, for callers with their own read buffer.
    pub fn into_parts(mut self) -> (Decoder, BytesMut) {
        self.forget_used();
        (self.decoder, self.input)
    }

    fn forget_used(&mut self) {
        self.input.advance(std::mem::take(&mut self.used));
    }
}
