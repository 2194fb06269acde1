//! CBOR that is not in packed form, rewritten to it: tags, indefinite lengths, and numbers, keys
//! and simple values that Perl has no use for.
//!
//! - Strings, arrays and maps of indefinite length become definite.
//! - Half floats become floats; integers below -2^63 and bignums beyond 64 bits too.
//! - `undefined` and simple values without a meaning become undef.
//! - Keys become strings as Perl makes them: numbers in decimal, undef empty, `true` and `false`
//!   `1` and `0`. Arrays and maps cannot be keys.
//! - Tags 25/256 (string references) and 28/29 (shared values) are resolved: the value is repeated.
//!   A value that contains itself is refused.
//! - A Perl object (tag 26) becomes what its class was frozen to: the one value, or an array of
//!   several.
//! - Any other tag is ignored, and its content taken.

use super::cbor::{ARRAY, BREAK, Head, MAP, OCTETS, TAG, TEXT, head, malformed};
use super::shared::{Shared, expansion_limit};
use super::{FramingError, FramingLimits, NumberText, float_name, int_text, uint_text};
use crate::value::packed::{self, OpenLen, Reader, Token};
use crate::value::{StrKind, StrRef};
use std::ops::Range;

const BIGNUM: u64 = 2;
const NEGATIVE_BIGNUM: u64 = 3;
const STRING_REFERENCE: u64 = 25;
const PERL_OBJECT: u64 = 26;
const SHAREABLE: u64 = 28;
const SHARED_REFERENCE: u64 = 29;
const STRING_NAMESPACE: u64 = 256;

/// Rewrites `packet`, a whole array that was scanned before, and returns how many elements it has;
/// `out` holds them in packed form.
pub(super) fn rewrite(
    packet: &[u8],
    limits: FramingLimits,
    out: &mut Vec<u8>,
) -> Result<usize, FramingError> {
    let mut rewriter = Rewriter {
        packet,
        at: 0,
        out,
        limits,
        expansion: expansion_limit(packet.len(), limits),
        levels: Vec::new(),
        shared: Shared::default(),
        namespaces: Vec::new(),
    };
    loop {
        rewriter.value()?;
        if let Some(len) = rewriter.leave_complete_levels()? {
            return Ok(len);
        }
    }
}

/// The tags in front of a value that have a meaning for it.
#[derive(Debug)]
struct Tags {
    /// Its numbers as a shared value.
    shared: Range<usize>,
    /// It opened so many string namespaces.
    namespaces: usize,
    perl_object: bool,
    /// The last tag.
    innermost: Option<u64>,
}

#[derive(Debug)]
struct Level {
    is_map: bool,
    /// Items to come; nothing where a break says that there are no more.
    left: Option<u64>,
    /// Items passed.
    passed: usize,
    /// Where the length goes; nothing if only the items are written.
    open: Option<OpenLen>,
    tags: Tags,
    /// Where the item that is being written begins.
    item: usize,
}

struct Rewriter<'a> {
    packet: &'a [u8],
    at: usize,
    out: &'a mut Vec<u8>,
    limits: FramingLimits,
    expansion: usize,
    levels: Vec<Level>,
    shared: Shared,
    /// The strings that can be referred to, in each open namespace.
    namespaces: Vec<Vec<StrRef<'a>>>,
}

impl<'a> Rewriter<'a> {
    fn head(&mut self) -> Result<Head, FramingError> {
        let head = head(self.packet, self.at)?.ok_or(malformed("it ends early"))?;
        self.at = head.end;
        Ok(head)
    }

    fn slice(&mut self, len: u64) -> &'a [u8] {
        let end = self.at.saturating_add(len as usize).min(self.packet.len());
        let slice = self.packet.get(self.at..end).unwrap_or_default();
        self.at = end;
        slice
    }

    /// Writes the next value, or goes into it.
    fn value(&mut self) -> Result<(), FramingError> {
        let mut tags = Tags {
            shared: self.shared.len()..self.shared.len(),
            namespaces: 0,
            perl_object: false,
            innermost: None,
        };
        let start = self.out.len();
        if let Some(level) = self.levels.last_mut() {
            level.item = start;
        }
        let (first, head_len) = loop {
            let at = self.at;
            let head = self.head()?;
            if head.major != TAG {
                break (head, head.end - at);
            }
            match head.argument {
                SHAREABLE => {
                    self.shared.begin(start);
                    tags.shared.end += 1;
                }
                STRING_NAMESPACE => {
                    self.namespaces.push(Vec::new());
                    tags.namespaces += 1;
                }
                PERL_OBJECT => tags.perl_object = true,
                _ => {}
            }
            tags.innermost = Some(head.argument);
        };
        match first.major {
            ARRAY | MAP => {
                self.enter(first, tags);
                return Ok(());
            }
            OCTETS | TEXT => self.string(first, tags.innermost)?,
            0 => match tags.innermost {
                Some(STRING_REFERENCE) => self.string_reference(first.argument)?,
                Some(SHARED_REFERENCE) => self.shared.repeat(
                    first.argument,
                    self.levels.len(),
                    self.out,
                    self.expansion,
                    self.limits,
                )?,
                _ => packed::put_uint(self.out, first.argument),
            },
            1 => put_negative(self.out, first.argument),
            _ => self.simple(first, head_len),
        }
        self.end_value(tags)
    }

    fn enter(&mut self, head: Head, tags: Tags) {
        let is_map = head.major == MAP;
        let left = (!head.indefinite).then(|| head.argument << u32::from(is_map));
        let is_packet = self.levels.is_empty();
        let perl_object = tags.perl_object && !is_map && !is_packet;
        let open = if is_packet || perl_object && left == Some(2) {
            None
        } else if is_map {
            Some(packed::open_hash(self.out))
        } else {
            Some(packed::open_array(self.out))
        };
        self.levels.push(Level {
            is_map,
            left,
            passed: 0,
            open,
            tags: Tags { perl_object, ..tags },
            item: self.out.len(),
        });
    }

    /// Leaves the arrays and maps that have no more items; returns the number of the packet's
    /// elements once that is left.
    fn leave_complete_levels(&mut self) -> Result<Option<usize>, FramingError> {
        while let Some(level) = self.levels.last() {
            let complete = match level.left {
                Some(left) => left == 0,
                None => self.packet.get(self.at) == Some(&BREAK),
            };
            if !complete {
                return Ok(None);
            }
            let Some(level) = self.levels.pop() else {
                break;
            };
            if level.left.is_none() {
                self.at += 1;
            }
            let items = level.passed - usize::from(level.tags.perl_object && level.passed > 0);
            if self.levels.is_empty() {
                return Ok(Some(items));
            }
            if let Some(open) = level.open {
                packed::close_len(self.out, open, if level.is_map { items / 2 } else { items });
            }
            self.end_value(level.tags)?;
        }
        Ok(None)
    }

    /// A value was written, the next item of the level that it is in.
    fn end_value(&mut self, tags: Tags) -> Result<(), FramingError> {
        self.namespaces.truncate(self.namespaces.len() - tags.namespaces);
        if let Some(level) = self.levels.last_mut() {
            let is_key = level.is_map && level.passed.is_multiple_of(2);
            let is_class = level.tags.perl_object && level.passed == 0;
            let start = level.item;
            level.passed += 1;
            level.left = level.left.map(|left| left.saturating_sub(1));
            if is_key {
                self.make_key(start)?;
            } else if is_class {
                // Only a string: nothing that is dropped here can be referred to later.
                if !matches!(self.out.get(start), Some(0x40..=0x7f)) {
                    return Err(malformed("a Perl object without a class"));
                }
                self.out.truncate(start);
            }
        }
        self.shared.end(tags.shared, self.out.len());
        Ok(())
    }

    /// Makes the value that begins at `start` a string.
    fn make_key(&mut self, start: usize) -> Result<(), FramingError> {
        let key = self.out.get(start..).unwrap_or_default();
        let token = Reader::new(key).token().map_err(|_| malformed("a key"))?;
        let text: NumberText = match token {
            Token::Str(_) => return Ok(()),
            Token::UInt(number) => uint_text(number),
            Token::NInt(number) => int_text(number),
            Token::Float(number) => float_name(number),
            Token::Bool(value) => uint_text(u64::from(value)),
            Token::Undef => {
                self.out.truncate(start);
                packed::put_octets(self.out, b"");
                return Ok(());
            }
            Token::Array(_) | Token::Hash(_) => {
                return Err(malformed("an array or map as a key"));
            }
        };
        self.out.truncate(start);
        packed::put_str(self.out, text.as_str());
        Ok(())
    }

    fn string(&mut self, first: Head, tag: Option<u64>) -> Result<(), FramingError> {
        let kind = if first.major == TEXT { StrKind::Text } else { StrKind::Octets };
        if first.indefinite {
            let mut joined = Vec::new();
            loop {
                let chunk = self.head()?;
                if chunk.indefinite {
                    break;
                }
                joined.extend_from_slice(self.slice(chunk.argument));
            }
            packed::put_str(self.out, StrRef::trusted(kind, &joined));
            return Ok(());
        }
        let string = StrRef::trusted(kind, self.slice(first.argument));
        if let Some(namespace) = self.namespaces.last_mut()
            && string.data().len() >= shortest_worth_a_reference(namespace.len())
        {
            namespace.push(string);
        }
        match tag {
            Some(BIGNUM) if kind == StrKind::Octets => put_bignum(self.out, string.data()),
            Some(NEGATIVE_BIGNUM) if kind == StrKind::Octets => {
                put_negative_bignum(self.out, string.data());
            }
            _ => packed::put_str(self.out, string),
        }
        Ok(())
    }

    fn string_reference(&mut self, number: u64) -> Result<(), FramingError> {
        let string = usize::try_from(number)
            .ok()
            .and_then(|number| self.namespaces.last()?.get(number))
            .ok_or(malformed("a reference to a string that was not sent"))?;
        if self.out.len() + string.data().len() > self.expansion {
            return Err(FramingError::TooExpanded { limit: self.expansion });
        }
        packed::put_str(self.out, *string);
        Ok(())
    }

    /// Major type 7; the argument of a float is its bits.
    fn simple(&mut self, head: Head, len: usize) {
        match (len, head.argument) {
            (1, 20) => packed::put_bool(self.out, false),
            (1, 21) => packed::put_bool(self.out, true),
            (3, bits) => packed::put_float(self.out, half(bits as u16)),
            (5, bits) => packed::put_float(self.out, f64::from(f32::from_bits(bits as u32))),
            (9, bits) => packed::put_float(self.out, f64::from_bits(bits)),
            _ => packed::put_undef(self.out),
        }
    }
}

/// Strings shorter than this get no number, as a reference to them would not be shorter.
fn shortest_worth_a_reference(number: usize) -> usize {
    match number {
        0..=23 => 3,
        24..=0xff => 4,
        0x100..=0xffff => 5,
        0x1_0000..=0xffff_ffff => 7,
        _ => 11,
    }
}

/// -1 - `argument`.
fn put_negative(out: &mut Vec<u8>, argument: u64) {
    match i64::try_from(argument) {
        Ok(argument) => packed::put_int(out, !argument),
        Err(_) => packed::put_float(out, -1.0 - argument as f64),
    }
}

fn put_bignum(out: &mut Vec<u8>, octets: &[u8]) {
    match small(octets) {
        Some(number) => packed::put_uint(out, number),
        None => packed::put_float(out, large(octets)),
    }
}

fn put_negative_bignum(out: &mut Vec<u8>, octets: &[u8]) {
    match small(octets) {
        Some(number) => put_negative(out, number),
        None => packed::put_float(out, -1.0 - large(octets)),
    }
}

fn small(octets: &[u8]) -> Option<u64> {
    octets.iter().try_fold(0_u64, |number, &octet| {
        (number >> 56 == 0).then_some(number << 8 | u64::from(octet))
    })
}

fn large(octets: &[u8]) -> f64 {
    octets.iter().fold(0.0, |number, &octet| number * 256.0 + f64::from(octet))
}

fn half(bits: u16) -> f64 {
    let magnitude = bits & 0x7fff;
    let exponent = i32::from(magnitude >> 10);
    let fraction = f64::from(magnitude & 0x3ff);
    let value = match exponent {
        0 => fraction * 2_f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1024.0 + fraction) * 2_f64.powi(exponent - 25),
    };
    if bits & 0x8000 == 0 { value } else { -value }
}
