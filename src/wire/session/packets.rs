//! The packets of an established session, as they arrive.

use crate::value::packed::Elements;
use crate::wire::framing::{Decoder, Framing, FramingError, FramingLimits, Step};
use bytes::{Buf as _, BytesMut};

/// What the peer sends behind its authentication line.
///
/// Made by [`Session::into_packets`](super::Session::into_packets). Put octets into
/// [`Packets::input`], and take packets by [`Packets::poll`] until there is none.
#[derive(Debug)]
pub struct Packets {
    decoder: Decoder,
    input: BytesMut,
    /// Octets at the beginning of `input` that the decoder is done with.
    used: usize,
}

impl Packets {
    pub(super) fn new(framing: Framing, limits: FramingLimits, input: BytesMut) -> Self {
        Packets { decoder: Decoder::new(framing, limits), input, used: 0 }
    }

    /// Where to append what has been read from the connection.
    pub fn input(&mut self) -> &mut BytesMut {
        self.forget_used();
        &mut self.input
    }

    /// The next complete packet, port name first.
    ///
    /// # Errors
    /// Fails where the octets are no packet; nothing can be found on the connection after that.
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

    /// The decoder, and what it has not seen: for whoever reads into buffers of his own.
    pub fn into_parts(mut self) -> (Decoder, BytesMut) {
        self.forget_used();
        (self.decoder, self.input)
    }

    fn forget_used(&mut self) {
        self.input.advance(std::mem::take(&mut self.used));
    }
}
