//! The framings as a [`tokio_util::codec`], for programs that only want packets on a stream.
//!
//! [`PacketCodec`] begins where the handshake has ended. Around any `AsyncRead + AsyncWrite` it
//! makes a stream and sink of packets:
//!
//! ```
//! use aemp::codec::PacketCodec;
//! use aemp::value::Packed;
//! use aemp::wire::framing::Framing;
//! use bytes::BytesMut;
//! use tokio_util::codec::{Decoder, Encoder};
//!
//! // Usually inside `tokio_util::codec::Framed::new(stream, codec)`.
//! let mut codec = PacketCodec::new(Framing::Json, Framing::Cbor);
//!
//! let mut received = BytesMut::from(&br#"["port1","ping"]["port1","#[..]);
//! let packet = codec.decode(&mut received)?.expect("a whole packet");
//! assert_eq!(packet.decode::<(String, String)>()?, ("port1".into(), "ping".into()));
//! assert!(codec.decode(&mut received)?.is_none());
//!
//! let mut sent = BytesMut::new();
//! codec.encode(Packed::of(&("port2", 42))?, &mut sent)?;
//! assert_eq!(&sent[..], b"\x82\x65port2\x18\x2a");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::value::Packed;
use crate::value::packed::Elements;
use crate::wire::framing::{self, EncodeError, Framing, FramingError, FramingLimits, Step};
use bytes::{Buf, BytesMut};
use std::io;
use thiserror::Error;
use tokio_util::codec;

/// Why a stream of packets ended.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The received octets are not a packet. Nothing more can be read from the connection.
    #[error("packet {number} received is unusable")]
    Received {
        /// Counts the packets received, from 1.
        number: u64,
        /// What is wrong.
        source: FramingError,
    },
    /// The stream ended inside a packet.
    #[error("the stream ended inside packet {number}")]
    CutOff {
        /// Counts the packets received, from 1.
        number: u64,
    },
    /// The packet cannot be sent. Nothing was written, and other packets can still be sent.
    #[error("the packet cannot be sent")]
    Sent(#[from] EncodeError),
    /// The stream failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads and writes packets, each direction in the framing that the handshake chose for it.
///
/// A packet is an array that begins with the port name.
/// [`Packet::read`](crate::wire::packet::Packet::read) takes it apart and recognises keepalives
/// (which are passed on like any other packet).
#[derive(Debug)]
pub struct PacketCodec {
    decoder: framing::Decoder,
    received: u64,
    sends: Framing,
    /// The packet to write, encoded here so that nothing is written if that fails.
    encoded: Vec<u8>,
}

impl PacketCodec {
    /// A codec with the default [`FramingLimits`].
    pub fn new(receives: Framing, sends: Framing) -> Self {
        PacketCodec::with_limits(receives, sends, FramingLimits::default())
    }

    /// A codec with other limits for received packets.
    pub fn with_limits(receives: Framing, sends: Framing, limits: FramingLimits) -> Self {
        PacketCodec {
            decoder: framing::Decoder::new(receives, limits),
            received: 0,
            sends,
            encoded: Vec::new(),
        }
    }
}

impl codec::Decoder for PacketCodec {
    type Item = Packed;
    type Error = CodecError;

    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<Packed>, CodecError> {
        let step = self
            .decoder
            .next(src)
            .map_err(|source| CodecError::Received { number: self.received + 1, source })?;
        let (used, packet) = match step {
            Step::More { used } => (used, None),
            Step::Packet { used, elements } => (used, Some(elements.to_packed())),
        };
        self.received += u64::from(packet.is_some());
        src.advance(used);
        Ok(packet)
    }

    fn decode_eof(&mut self, src: &mut BytesMut) -> Result<Option<Packed>, CodecError> {
        match self.decode(src)? {
            None if !src.is_empty() || self.decoder.is_inside_a_packet() => {
                Err(CodecError::CutOff { number: self.received + 1 })
            }
            packet => Ok(packet),
        }
    }
}

impl codec::Encoder<Elements<'_>> for PacketCodec {
    type Error = CodecError;

    fn encode(&mut self, packet: Elements<'_>, dst: &mut BytesMut) -> Result<(), CodecError> {
        self.encoded.clear();
        framing::encode(self.sends, packet, &mut self.encoded)?;
        dst.extend_from_slice(&self.encoded);
        Ok(())
    }
}

impl codec::Encoder<Packed> for PacketCodec {
    type Error = CodecError;

    fn encode(&mut self, packet: Packed, dst: &mut BytesMut) -> Result<(), CodecError> {
        codec::Encoder::encode(self, packet.as_elements(), dst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use codec::{Decoder, Encoder};

    fn packet() -> Packed {
        Packed::new(2, Bytes::from_static(b"\x45port1\x18\x2a"))
    }

    #[test]
    fn packets_pass_through_each_framing_octet_by_octet() {
        for framing in Framing::ALL {
            let mut codec = PacketCodec::new(framing, framing);
            let mut wire = BytesMut::new();
            codec.encode(packet(), &mut wire).unwrap();
            codec.encode(packet().as_elements(), &mut wire).unwrap();
            let mut src = BytesMut::new();
            let mut received = 0;
            for octet in wire {
                src.extend_from_slice(&[octet]);
                while let Some(packet) = codec.decode(&mut src).unwrap() {
                    assert_eq!(packet.as_elements().len(), 2);
                    received += 1;
                }
            }
            assert_eq!(received, 2, "{framing}");
            assert!(codec.decode_eof(&mut src).unwrap().is_none());
        }
    }

    #[test]
    fn an_end_inside_a_packet_is_an_error() {
        for framing in Framing::ALL {
            let mut codec = PacketCodec::new(framing, framing);
            let mut wire = BytesMut::new();
            codec.encode(packet(), &mut wire).unwrap();
            wire.truncate(wire.len() - 1);
            let end = codec.decode_eof(&mut wire);
            assert!(matches!(end, Err(CodecError::CutOff { number: 1 })), "{framing}");
        }
    }

    #[test]
    fn garbage_is_reported_with_the_number_of_its_packet() {
        let mut codec = PacketCodec::new(Framing::Json, Framing::Json);
        let mut src = BytesMut::from(&b"[1]{}"[..]);
        assert!(codec.decode(&mut src).unwrap().is_some());
        let error = codec.decode(&mut src).unwrap_err();
        assert_eq!(error.to_string(), "packet 2 received is unusable");
        assert!(matches!(
            error,
            CodecError::Received { number: 2, source: FramingError::NotAPacket }
        ));
    }

    #[test]
    fn a_packet_that_cannot_be_sent_leaves_nothing_behind() {
        let mut codec = PacketCodec::new(Framing::Cbor, Framing::Json);
        let mut dst = BytesMut::from(&b"before"[..]);
        let too_deep = Packed::new(1, [&[0x81; 600][..], b"\x01"].concat().into());
        let error = codec.encode(too_deep, &mut dst).unwrap_err();
        assert!(matches!(error, CodecError::Sent(EncodeError::TooDeep)));
        assert_eq!(&dst[..], b"before");
    }
}
