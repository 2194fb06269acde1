//! A packet that goes to many nodes, encoded once per framing.

use crate::value::packed::Elements;
use crate::wire::framing::{self, EncodeError, Framing};

/// A packet, with its encodings in the framings that were needed so far.
#[derive(Debug)]
pub(crate) struct Copies<'a> {
    packet: Elements<'a>,
    encoded: [Option<Result<Vec<u8>, EncodeError>>; Framing::ALL.len() + 1],
}

impl<'a> Copies<'a> {
    pub(crate) fn of(packet: Elements<'a>) -> Self {
        Copies { packet, encoded: Default::default() }
    }

    /// Its approximate size in octets.
    pub(crate) fn expected(&self) -> usize {
        self.packet.octets().len()
    }

    /// The packet as octets in a framing.
    ///
    /// # Errors
    /// As [`framing::encode`].
    #[inline]
    pub(crate) fn in_framing(&mut self, framing: Option<Framing>) -> Result<&[u8], EncodeError> {
        let copy = match framing {
            Some(Framing::Cbor) => &mut self.encoded[0],
            Some(Framing::Json) => &mut self.encoded[1],
            Some(Framing::Storable) => &mut self.encoded[2],
            None => &mut self.encoded[3],
        };
        let encoded = copy.get_or_insert_with(|| {
            let mut octets = Vec::new();
            framing::encode_as(framing, self.packet, &mut octets).map(|()| octets)
        });
        match encoded {
            Ok(octets) => Ok(octets),
            Err(error) => Err(*error),
        }
    }
}
