//! The three framings: conversion of packets to octets on a connection, and back.
//!
//! In memory every packet is in [packed form](crate::value::packed); a framing translates between this
//! and the wire (`docs/protocol.md` §2). [`Decoder`] accepts octets as they arrive, split anywhere;
//! [`encode`] appends a packet to a buffer.
//!
//! ```
//! use aemp::value::packed::{self, Elements};
//! use aemp::wire::framing::{Decoder, Framing, FramingLimits, Step, encode};
//!
//! let mut packed = Vec::new();
//! packed::put_text(&mut packed, "port1");
//! packed::put_int(&mut packed, 42);
//! let mut wire = Vec::new();
//! encode(Framing::Json, Elements::new(2, &packed), &mut wire)?;
//! assert_eq!(wire, br#"["port1",42]"#);
//!
//! let mut decoder = Decoder::new(Framing::Json, FramingLimits::default());
//! match decoder.next(&wire)? {
//!     Step::Packet { used, elements } => assert_eq!((used, elements.len()), (12, 2)),
//!     Step::More { .. } => unreachable!("the packet is complete"),
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod cbor;
mod cbor_unusual;
mod json;
mod json_encode;
mod json_string;
mod number;
mod run;
mod shared;
mod storable;

pub use run::PacketRun;

pub use crate::value::MAX_NESTING;

use crate::value::packed::{Elements, Malformed, Token};
use std::fmt;
use thiserror::Error;

pub(crate) use number::{NumberText, float_name, float_text, int_text, uint_text};

/// The encoding of packets on a connection. The two directions may differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Framing {
    /// CBOR items one after another; the fastest.
    Cbor,
    /// JSON texts one after another.
    Json,
    /// Perl's Storable images, each after its length.
    Storable,
}

impl Framing {
    /// All framings in order of preference, as in Perl's default `framing_format`.
    pub const ALL: [Framing; 3] = [Framing::Cbor, Framing::Json, Framing::Storable];

    /// Its name in greetings and in `framing_format`.
    pub const fn name(self) -> &'static str {
        match self {
            Framing::Cbor => "cbor",
            Framing::Json => "json",
            Framing::Storable => "storable",
        }
    }

    /// The framing with this name, if it is one of the three.
    pub fn from_name(name: &str) -> Option<Framing> {
        Framing::ALL.into_iter().find(|framing| framing.name() == name)
    }
}

impl fmt::Display for Framing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Limits for received packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FramingLimits {
    /// The maximum octets of one packet on the wire.
    ///
    /// In memory a packet takes at most four times as many, plus 64 KiB.
    pub packet: usize,
    /// The maximum number of nested arrays, hashes and tags, including the packet's own array.
    pub nesting: usize,
}

impl Default for FramingLimits {
    /// 256 MiB and [`MAX_NESTING`].
    fn default() -> Self {
        FramingLimits { packet: 256 << 20, nesting: MAX_NESTING }
    }
}

/// Why received octets are not a packet. The connection has to be closed, as no further packet can be
/// found on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FramingError {
    /// The packet is not an array that begins with a string or number.
    #[error("no array with a port name first")]
    NotAPacket,
    /// The packet is, or claims to be, longer than allowed.
    #[error("longer than the limit of {limit} octets")]
    TooLong {
        /// [`FramingLimits::packet`].
        limit: usize,
    },
    /// Arrays, hashes and tags are nested deeper than allowed.
    #[error("nested deeper than the limit of {limit} levels")]
    TooDeep {
        /// [`FramingLimits::nesting`].
        limit: usize,
    },
    /// With the values that it refers to repeatedly, the packet takes more memory than allowed.
    #[error("with its references it takes more than the {limit} octets allowed for its length")]
    TooExpanded {
        /// The octets of memory allowed for this packet.
        limit: usize,
    },
    /// The octets violate the syntax of the framing.
    #[error("malformed {framing}: {what}")]
    Malformed {
        /// The framing of the connection.
        framing: Framing,
        /// The violation.
        what: &'static str,
    },
    /// A text is not valid (generalized) UTF-8.
    #[error("a text is not in UTF-8")]
    NotUtf8,
    /// Something that Perl accepts but that is not data.
    #[error("{what} cannot be received")]
    Refused {
        /// Its name.
        what: &'static str,
    },
}

/// Why a packet cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The packet is nested too deeply for Perl's decoders. A Perl node that fails to decode one JSON
    /// packet accepts no further one on the connection.
    #[error("nested deeper than the {MAX_NESTING} levels that Perl accepts")]
    TooDeep,
    /// A string, array or hash is too long for the framing (2 GiB in Storable).
    #[error("a string, array or hash is too long for {framing}")]
    TooLong {
        /// The framing.
        framing: Framing,
    },
    /// The given elements are not in packed form.
    #[error(transparent)]
    NotPacked(#[from] Malformed),
}

/// The result of [`Decoder::next`].
#[derive(Debug, Clone, Copy)]
pub enum Step<'a> {
    /// No complete packet. Call again with the octets after the first `used`, and more.
    More {
        /// Octets that were consumed and must not be passed again.
        used: usize,
    },
    /// A packet. The next one begins after the first `used` octets.
    Packet {
        /// Octets that were consumed.
        used: usize,
        /// The packet's array, port name first. `[]` has no elements.
        elements: Elements<'a>,
    },
}

/// Finds packets in received octets, split anywhere, without reading octets twice.
///
/// It stores only incomplete packets; plain CBOR is lent from the input without copying. After an error
/// nothing more can be read from the connection.
#[derive(Debug)]
pub struct Decoder {
    translation: Translation,
}

#[derive(Debug)]
enum Translation {
    Cbor(cbor::Cbor),
    Json(json::Json),
    Storable(storable::Storable),
}

impl Decoder {
    /// A decoder at the start of a connection's packets.
    pub fn new(framing: Framing, limits: FramingLimits) -> Self {
        let translation = match framing {
            Framing::Cbor => Translation::Cbor(cbor::Cbor::new(limits)),
            Framing::Json => Translation::Json(json::Json::new(limits)),
            Framing::Storable => Translation::Storable(storable::Storable::new(limits)),
        };
        Decoder { translation }
    }

    /// The framing that it reads.
    pub const fn framing(&self) -> Framing {
        match self.translation {
            Translation::Cbor(_) => Framing::Cbor,
            Translation::Json(_) => Framing::Json,
            Translation::Storable(_) => Framing::Storable,
        }
    }

    /// Whether a part of an incomplete packet was consumed.
    ///
    /// Only JSON consumes parts of packets; in the other framings an incomplete packet stays in the
    /// input.
    pub fn is_inside_a_packet(&self) -> bool {
        matches!(&self.translation, Translation::Json(json) if json.is_inside_a_packet())
    }

    /// The packets for one port at the beginning of `input`, if they can be lent without copying. They
    /// count as consumed when they are taken. Otherwise, and for the packets after them, use
    /// [`Decoder::next`].
    #[inline]
    pub fn packet_run<'a>(&self, input: &'a [u8]) -> Option<PacketRun<'a>> {
        match &self.translation {
            Translation::Cbor(cbor) => PacketRun::begin(input, cbor.limit_of_simple_packets()?),
            Translation::Json(_) | Translation::Storable(_) => None,
        }
    }

    /// Looks for one packet in `input`, which has to begin at the first octet that was not consumed.
    ///
    /// Invalid packets are refused as soon as possible: if the packet is not an array, if its first
    /// element is neither a string nor a number, or if its announced length exceeds the limit. No memory
    /// is allocated for announced lengths.
    ///
    /// # Errors
    /// The octets are not a packet; see [`FramingError`].
    pub fn next<'a>(&'a mut self, input: &'a [u8]) -> Result<Step<'a>, FramingError> {
        match &mut self.translation {
            Translation::Cbor(cbor) => cbor.next(input),
            Translation::Json(json) => json.next(input),
            Translation::Storable(storable) => storable.next(input),
        }
    }
}

/// Appends a packet to `out`; `elements` are its array, port name first.
///
/// Nothing is sent that Perl's decoder for the framing rejects:
/// - In JSON the numbers that it lacks go out as the strings `Inf`, `-Inf` and `NaN`, which are
///   what Perl writes for them and takes as numbers. Octets go out as the code points of the same
///   number. Surrogates and code points above U+10FFFF are sent as they are: Perl takes them.
/// - In Storable, integers beyond 32 bits and floats go out as strings, as Perl sends them, with
///   as many digits as it takes to read the same number again; booleans as the `JSON::PP::Boolean`
///   objects that every AnyEvent::MP process has.
///
/// # Errors
/// The packet is nested too deeply or has something too long for the framing; `out` is unchanged then.
#[inline]
pub fn encode(
    framing: Framing,
    elements: Elements<'_>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    encode_as(Some(framing), elements, out)
}

/// As [`encode`]; if the framing is not known yet, the packet is appended in packed form, as one array,
/// to be translated later.
#[inline]
pub(crate) fn encode_as(
    framing: Option<Framing>,
    elements: Elements<'_>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    match framing {
        None => cbor::keep(elements, out),
        Some(Framing::Cbor) => cbor::encode(elements, out),
        Some(Framing::Json) => whole(json_encode::encode, elements, out),
        Some(Framing::Storable) => whole(storable::encode, elements, out),
    }
}

/// Removes the beginning of a packet that cannot be sent.
#[inline(never)]
fn whole(
    encode: fn(Elements<'_>, &mut Vec<u8>) -> Result<(), EncodeError>,
    elements: Elements<'_>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let before = out.len();
    encode(elements, out).inspect_err(|_| out.truncate(before))
}

/// The maximum capacity of scratch space that is kept between packets.
const SCRATCH_KEPT: usize = 64 << 10;

/// Empties `scratch` for the next packet, and frees the capacity that a large one needed.
fn recycle<T>(scratch: &mut Vec<T>) {
    scratch.clear();
    if scratch.capacity() > SCRATCH_KEPT / size_of::<T>().max(1) {
        *scratch = Vec::new();
    }
}

/// Whether `elements` begin with a possible port name, or are an empty packet.
fn begins_with_a_name(elements: Elements<'_>) -> bool {
    elements.is_empty()
        || matches!(
            elements.reader().token(),
            Ok(Token::Str(_) | Token::UInt(_) | Token::NInt(_) | Token::Float(_))
        )
}
