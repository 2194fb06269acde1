//! The three framings: how packets become octets of a connection, and octets packets again.
//!
//! In memory every packet is in [packed form](crate::value::packed); a framing is a translation
//! between that and the wire (`docs/protocol.md` §2). [`Decoder`] takes octets as they arrive, cut
//! anywhere; [`encode`] appends a packet to a buffer.
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

/// How packets are written on a connection; each direction has its own.
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
    /// All framings, the one to prefer first, as Perl's default `framing_format` has them.
    pub const ALL: [Framing; 3] = [Framing::Cbor, Framing::Json, Framing::Storable];

    /// The name in greetings and in `framing_format`.
    pub const fn name(self) -> &'static str {
        match self {
            Framing::Cbor => "cbor",
            Framing::Json => "json",
            Framing::Storable => "storable",
        }
    }

    /// The framing of that name, if it is one of the three.
    pub fn from_name(name: &str) -> Option<Framing> {
        Framing::ALL.into_iter().find(|framing| framing.name() == name)
    }
}

impl fmt::Display for Framing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a received packet may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FramingLimits {
    /// Octets that one packet may have on the wire.
    ///
    /// In memory it takes at most four times as many, and 64 KiB.
    pub packet: usize,
    /// Arrays, hashes and tags inside each other, the packet's own array included.
    pub nesting: usize,
}

impl Default for FramingLimits {
    /// 256 MiB and [`MAX_NESTING`].
    fn default() -> Self {
        FramingLimits { packet: 256 << 20, nesting: MAX_NESTING }
    }
}

/// Why received octets are no packet. The connection has to be closed: no further packet can be
/// found on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FramingError {
    /// Not an array that begins with a string or number.
    #[error("no array with a port name first")]
    NotAPacket,
    /// The packet has, or announces, more octets than allowed.
    #[error("longer than the limit of {limit} octets")]
    TooLong {
        /// [`FramingLimits::packet`].
        limit: usize,
    },
    /// Arrays, hashes and tags nest deeper than allowed.
    #[error("nested deeper than the limit of {limit} levels")]
    TooDeep {
        /// [`FramingLimits::nesting`].
        limit: usize,
    },
    /// With its references to values sent before it takes more memory than allowed.
    #[error("with its references it takes more than the {limit} octets allowed for its length")]
    TooExpanded {
        /// Octets of memory allowed for this packet.
        limit: usize,
    },
    /// The octets are not what the framing prescribes.
    #[error("malformed {framing}: {what}")]
    Malformed {
        /// The framing of the connection.
        framing: Framing,
        /// What is wrong.
        what: &'static str,
    },
    /// A text is not in (generalized) UTF-8.
    #[error("a text is not in UTF-8")]
    NotUtf8,
    /// Something that Perl could take, but that is not data.
    #[error("{what} cannot be received")]
    Refused {
        /// What it is.
        what: &'static str,
    },
}

/// Why a packet cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// Perl's decoders refuse deeper nesting, and a Perl node that fails to decode one JSON packet
    /// never takes another one on that connection.
    #[error("nested deeper than the {MAX_NESTING} levels that Perl takes")]
    TooDeep,
    /// A string, array or hash is longer than the framing can tell (2 GiB in Storable).
    #[error("a string, array or hash is too long for {framing}")]
    TooLong {
        /// The framing.
        framing: Framing,
    },
    /// The elements given are not in packed form.
    #[error(transparent)]
    NotPacked(#[from] Malformed),
}

/// What came of the octets given to [`Decoder::next`].
#[derive(Debug, Clone, Copy)]
pub enum Step<'a> {
    /// No packet yet. Call again with the octets after the first `used`, and more of them.
    More {
        /// Octets that were used up and must not be given again.
        used: usize,
    },
    /// A packet. The next one begins after the first `used` octets.
    Packet {
        /// Octets that were used up.
        used: usize,
        /// The packet's array, port name first. `[]` has no elements.
        elements: Elements<'a>,
    },
}

/// Finds packets in received octets, wherever those are cut, and does no work twice.
///
/// It stores nothing but what a packet needs: plain CBOR is lent straight from the input.
/// After an error nothing more can be read from the connection.
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

    /// Whether a part of a packet was used up, the rest of which has not come.
    ///
    /// Only JSON is used up in parts; in the other framings a packet that is cut off is still in
    /// the input.
    pub fn is_inside_a_packet(&self) -> bool {
        matches!(&self.translation, Translation::Json(json) if json.is_inside_a_packet())
    }

    /// The packets for one port that `input` begins with, if they can be lent as they are; they
    /// count as used up as soon as they were taken from it. Otherwise, and for what comes behind
    /// them, there is [`Decoder::next`].
    #[inline]
    pub fn packet_run<'a>(&self, input: &'a [u8]) -> Option<PacketRun<'a>> {
        match &self.translation {
            Translation::Cbor(cbor) => PacketRun::begin(input, cbor.limit_of_simple_packets()?),
            Translation::Json(_) | Translation::Storable(_) => None,
        }
    }

    /// Looks for one packet in `input`: all octets received and not yet used up.
    ///
    /// What cannot be a packet is refused as soon as its first octets show it: an item that is no
    /// array, a first element that is neither string nor number, an announced length beyond the
    /// limit. No memory is reserved for what was only announced.
    ///
    /// # Errors
    /// Fails where the octets are no packet; see [`FramingError`].
    pub fn next<'a>(&'a mut self, input: &'a [u8]) -> Result<Step<'a>, FramingError> {
        match &mut self.translation {
            Translation::Cbor(cbor) => cbor.next(input),
            Translation::Json(json) => json.next(input),
            Translation::Storable(storable) => storable.next(input),
        }
    }
}

/// Appends a packet to `out`, `elements` being its array, port name first.
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
/// Fails if the packet nests too deeply or has something too long for the framing; `out` is then
/// as it was before.
#[inline]
pub fn encode(
    framing: Framing,
    elements: Elements<'_>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    encode_as(Some(framing), elements, out)
}

/// As [`encode`], or with no framing known yet: the packet is kept in packed form, as one array, to
/// be translated later.
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

/// Leaves nothing of a packet that cannot be sent.
#[inline(never)]
fn whole(
    encode: fn(Elements<'_>, &mut Vec<u8>) -> Result<(), EncodeError>,
    elements: Elements<'_>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let before = out.len();
    encode(elements, out).inspect_err(|_| out.truncate(before))
}

/// Scratch space that is kept between packets; more than this is given back.
const SCRATCH_KEPT: usize = 64 << 10;

/// Empties `scratch` for the next packet, and gives back what a large one left.
fn recycle<T>(scratch: &mut Vec<T>) {
    scratch.clear();
    if scratch.capacity() > SCRATCH_KEPT / size_of::<T>().max(1) {
        *scratch = Vec::new();
    }
}

/// Whether `elements` begin with what can be a port name, or are the empty packet.
fn begins_with_a_name(elements: Elements<'_>) -> bool {
    elements.is_empty()
        || matches!(
            elements.reader().token(),
            Ok(Token::Str(_) | Token::UInt(_) | Token::NInt(_) | Token::Float(_))
        )
}
