//! CBOR that is not in packed form, rewritten to it: references, indefinite lengths, and numbers,
//! keys and simple values that Perl has no use for.
//!
//! - Strings, arrays and maps of indefinite length become definite.
//! - Half floats become floats, and so do integers below -2^63 without a tag, as in Perl.
//! - Simple values without a meaning become undef.
//! - Keys become strings as Perl makes them: numbers in decimal, undef empty, `true` and `false`
//!   `1` and `0`. Arrays and maps cannot be keys.
//! - Tags 25/256 (string references) and 28/29 (shared values) are resolved: the value is repeated.
//!   A value that contains itself is refused.
//! - Tags of our own, which no other node has, are left out, as are tags of keys and of the packet.
//! - A Perl object (tag 26) has to begin with its class, as Perl's decoder fails otherwise.
//! - All other tags stay.

use super::cbor::{ARRAY, BREAK, Head, MAP, OCTETS, TAG, TEXT, head, malformed};
use super::shared::{Placement, Shared, grow, memory_limit};
use super::{FramingError, FramingLimits, NumberText, float_name, int_text, uint_text};
use crate::value::packed::{self, OpenLen, Reader, Token};
use crate::value::tag::{
    PERL_OBJECT, SHAREABLE, SHARED_REFERENCE, STRING_NAMESPACE, STRING_REFERENCE, is_internal,
};
use crate::value::{StrKind, StrRef};
use std::ops::Range;

/// Whether packets with this tag have to be rewritten.
#[inline]
pub(super) fn is_rewritten(tag: u64) -> bool {
    // Objects are only checked.
    matches!(tag, STRING_REFERENCE | PERL_OBJECT | SHAREABLE | SHARED_REFERENCE | STRING_NAMESPACE)
        || is_internal(tag)
}

/// The maximum octets of the head of an item.
const HEAD: usize = 9;

/// Rewrites `packet`, a complete array that was scanned before, to packed form in `out`, and returns the
/// number of its elements.
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
        levels: Vec::new(),
        shared: Shared::any(memory_limit(packet.len())),
        strings: Vec::new(),
        namespaces: Vec::new(),
    };
    loop {
        rewriter.value()?;
        if let Some(len) = rewriter.leave_complete_levels()? {
            return Ok(len);
        }
    }
}

/// What the tags before a value opened, to be closed after it.
#[derive(Debug)]
struct Tags {
    /// The places of the value among the shared values.
    shared: Range<usize>,
    /// The number of string namespaces opened.
    namespaces: usize,
    /// The last tag.
    innermost: Option<u64>,
    /// The number of tags written to the output.
    written: usize,
}

#[derive(Debug)]
struct Level {
    is_map: bool,
    /// The first item has to be a class.
    is_object: bool,
    /// The number of items left; `None` if the length is indefinite.
    left: Option<u64>,
    /// The number of items written.
    passed: usize,
    /// The place of the length in the output, if it is not known yet.
    open: Option<OpenLen>,
    tags: Tags,
    /// The offset in the output of the current item.
    item: usize,
    /// The number of arrays, maps and tags around its items.
    depth: usize,
}

struct Rewriter<'a> {
    packet: &'a [u8],
    at: usize,
    out: &'a mut Vec<u8>,
    limits: FramingLimits,
    levels: Vec<Level>,
    shared: Shared,
    /// The offsets in the packet of strings that can be referred to, in all open namespaces.
    strings: Vec<u32>,
    /// The index in `strings` at which each open namespace begins.
    namespaces: Vec<usize>,
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

    /// Writes the next value, or enters it.
    fn value(&mut self) -> Result<(), FramingError> {
        let mut tags = Tags {
            shared: self.shared.len()..self.shared.len(),
            namespaces: 0,
            innermost: None,
            written: 0,
        };
        let start = self.out.len();
        // The packet itself, and keys, lose their tags.
        let mut keeps_tags = false;
        if let Some(level) = self.levels.last_mut() {
            level.item = start;
            keeps_tags = !(level.is_map && level.passed.is_multiple_of(2));
        }
        let (first, head_len) = loop {
            let at = self.at;
            let head = self.head()?;
            grow(self.out, HEAD);
            if head.major != TAG {
                break (head, head.end - at);
            }
            match head.argument {
                SHAREABLE => {
                    self.shared.begin(self.out, self.out.len(), Placement::Itself)?;
                    tags.shared.end = self.shared.len();
                }
                STRING_NAMESPACE => {
                    self.namespaces.push(self.strings.len());
                    tags.namespaces += 1;
                }
                STRING_REFERENCE | SHARED_REFERENCE => {}
                // Only an array can be an object.
                PERL_OBJECT => {}
                tag if keeps_tags && !is_internal(tag) => {
                    packed::put_tag(self.out, tag);
                    tags.written += 1;
                }
                _ => {}
            }
            tags.innermost = Some(head.argument);
        };
        match first.major {
            ARRAY | MAP => {
                self.enter(first, tags, keeps_tags);
                return Ok(());
            }
            OCTETS | TEXT => self.string(first, first.end - head_len)?,
            0 => match tags.innermost {
                Some(STRING_REFERENCE) => self.string_reference(first.argument)?,
                Some(SHARED_REFERENCE) => {
                    let depth = self.depth() + tags.written;
                    self.shared.repeat(first.argument, depth, self.out, self.limits)?;
                }
                _ => packed::put_uint(self.out, first.argument),
            },
            1 => match i64::try_from(first.argument) {
                Ok(argument) => packed::put_int(self.out, !argument),
                Err(_) => packed::put_float(self.out, -1.0 - first.argument as f64),
            },
            _ => self.simple(first, head_len),
        }
        self.end_value(tags)
    }

    fn depth(&self) -> usize {
        self.levels.last().map_or(0, |level| level.depth)
    }

    fn enter(&mut self, head: Head, tags: Tags, keeps_tags: bool) {
        let is_map = head.major == MAP;
        let is_object = tags.innermost == Some(PERL_OBJECT) && !is_map && keeps_tags;
        if is_object {
            packed::put_tag(self.out, PERL_OBJECT);
        }
        let len = (!head.indefinite).then_some(head.argument);
        let open = match (self.levels.is_empty(), len) {
            (true, _) => None,
            (false, Some(len)) => {
                let put = if is_map { packed::put_hash } else { packed::put_array };
                put(self.out, len as usize);
                None
            }
            (false, None) if is_map => Some(packed::open_hash(self.out)),
            (false, None) => Some(packed::open_array(self.out)),
        };
        self.levels.push(Level {
            is_map,
            left: len.map(|len| len << u32::from(is_map)),
            passed: 0,
            open,
            is_object,
            depth: self.depth() + tags.written + usize::from(is_object) + 1,
            tags,
            item: self.out.len(),
        });
    }

    /// Leaves the arrays and maps that are complete; returns the number of the packet's elements when
    /// the packet is complete.
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
            let items = level.passed;
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

    /// Ends a value, an item of the current level.
    fn end_value(&mut self, tags: Tags) -> Result<(), FramingError> {
        for _ in 0..tags.namespaces {
            let begin = self.namespaces.pop().unwrap_or_default();
            self.strings.truncate(begin);
        }
        if let Some(level) = self.levels.last_mut() {
            let is_key = level.is_map && level.passed.is_multiple_of(2);
            let start = level.item;
            level.passed += 1;
            level.left = level.left.map(|left| left.saturating_sub(1));
            if is_key {
                self.make_key(start)?;
            } else if level.is_object
                && level.passed == 1
                && !matches!(self.out.get(start), Some(0x40..=0x7f))
            {
                return Err(malformed("a Perl object without a class"));
            }
        }
        self.shared.end(tags.shared, self.out.len());
        Ok(())
    }

    /// Converts the value that begins at `start` to a string.
    fn make_key(&mut self, start: usize) -> Result<(), FramingError> {
        let key = self.out.get(start..).unwrap_or_default();
        let text: NumberText = match Reader::new(key).token().map_err(|_| malformed("a key"))? {
            // Only a repeated value can still have tags.
            Token::Str(string) if matches!(key.first(), Some(0xc0..=0xdf)) => {
                let string = string.to_owned();
                self.out.truncate(start);
                packed::put_str(self.out, string.as_ref());
                return Ok(());
            }
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
            Token::Exact(_) | Token::Array(_) | Token::Hash(_) => {
                return Err(malformed("an array, map or large number as a key"));
            }
        };
        self.out.truncate(start);
        packed::put_str(self.out, text.as_str());
        Ok(())
    }

    fn string(&mut self, first: Head, head_at: usize) -> Result<(), FramingError> {
        let kind = if first.major == TEXT { StrKind::Text } else { StrKind::Octets };
        if first.indefinite {
            return self.string_in_chunks(kind);
        }
        let string = StrRef::trusted(kind, self.slice(first.argument));
        if let Some(&namespace) = self.namespaces.last()
            && string.data().len() >= shortest_worth_a_reference(self.strings.len() - namespace)
        {
            let too_long = FramingError::TooLong { limit: self.limits.packet };
            grow(&mut self.strings, 1);
            self.strings.push(u32::try_from(head_at).map_err(|_| too_long)?);
        }
        self.put_string(string);
        Ok(())
    }

    fn put_string(&mut self, string: StrRef<'_>) {
        grow(self.out, string.data().len() + HEAD);
        packed::put_str(self.out, string);
    }

    fn string_in_chunks(&mut self, kind: StrKind) -> Result<(), FramingError> {
        let begin = self.at;
        let mut len = 0;
        loop {
            let chunk = self.head()?;
            if chunk.indefinite {
                break;
            }
            len += self.slice(chunk.argument).len();
        }
        let end = self.at;
        grow(self.out, len + HEAD);
        packed::begin_str(self.out, kind, len);
        self.at = begin;
        while self.at < end {
            let chunk = self.head()?;
            if !chunk.indefinite {
                let octets = self.slice(chunk.argument);
                self.out.extend_from_slice(octets);
            }
        }
        Ok(())
    }

    fn string_reference(&mut self, number: u64) -> Result<(), FramingError> {
        let not_sent = malformed("a reference to a string that was not sent");
        let namespace = *self.namespaces.last().ok_or(not_sent)?;
        let head_at = usize::try_from(number)
            .ok()
            .and_then(|number| self.strings.get(namespace.checked_add(number)?))
            .ok_or(not_sent)?;
        let head = head(self.packet, *head_at as usize)?.ok_or(not_sent)?;
        let kind = if head.major == TEXT { StrKind::Text } else { StrKind::Octets };
        let end = head.end.saturating_add(head.argument as usize);
        let octets = self.packet.get(head.end..end).ok_or(not_sent)?;
        self.shared.check(self.out, octets.len() + self.strings.len() * size_of::<u32>())?;
        self.put_string(StrRef::trusted(kind, octets));
        Ok(())
    }

    /// Major type 7; the argument of a float is its bits.
    fn simple(&mut self, head: Head, len: usize) {
        match (len, head.argument) {
            (1, 20) => packed::put_bool(self.out, false),
            (1, 21) => packed::put_bool(self.out, true),
            (1, 23) => packed::put_undefined(self.out),
            (3, bits) => packed::put_float(self.out, half(bits as u16)),
            (5, bits) => packed::put_float(self.out, f64::from(f32::from_bits(bits as u32))),
            (9, bits) => packed::put_float(self.out, f64::from_bits(bits)),
            _ => packed::put_undef(self.out),
        }
    }
}

/// Strings shorter than this are not numbered, since a reference to them would not be shorter.
fn shortest_worth_a_reference(number: usize) -> usize {
    match number {
        0..=23 => 3,
        24..=0xff => 4,
        0x100..=0xffff => 5,
        0x1_0000..=0xffff_ffff => 7,
        _ => 11,
    }
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
