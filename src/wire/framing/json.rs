//! The JSON framing, received: an incremental parser that writes packed form.
//!
//! Tokens are consumed as soon as they are complete, so a packet that arrives in pieces is stored only
//! once, in packed form. The syntax is RFC 8259, with the differences of Perl's JSON::XS: surrogates and
//! code points above U+10FFFF in (generalized) UTF-8 are accepted, and integers beyond 64 bits become
//! strings of digits. Strings of ASCII characters become octets, others text. `\ud800` without its other
//! half, which JSON::XS refuses, is accepted as this surrogate. Bare `inf` and `nan` are refused.

use super::json_string::{Partial, malformed, scan_string, unescape};
use super::{FramingError, FramingLimits, Step, recycle};
use crate::value::packed::{self, Elements, OpenLen};
use crate::value::{StrKind, StrRef};

/// What the parser expects next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    /// The `[` of a packet.
    Packet,
    /// A value or `]`.
    FirstValue,
    Value,
    /// A key or `}`.
    FirstKey,
    Key,
    Colon,
    /// `,` or the end of the array or hash.
    Separator,
}

#[derive(Debug)]
struct Level {
    open: OpenLen,
    is_hash: bool,
    len: usize,
}

/// The decoder of the JSON framing.
#[derive(Debug)]
pub(super) struct Json {
    limits: FramingLimits,
    expect: Expect,
    /// The arrays and hashes inside the packet's own array.
    levels: Vec<Level>,
    /// The number of items so far of the innermost array or hash; those of the outer ones are in
    /// `levels`.
    len: usize,
    in_hash: bool,
    /// The number of octets of the packet that were consumed in earlier calls.
    taken: usize,
    partial: Partial,
    packed: Vec<u8>,
    unescaped: Vec<u8>,
}

impl Json {
    pub(super) fn new(limits: FramingLimits) -> Self {
        Json {
            limits,
            expect: Expect::Packet,
            levels: Vec::new(),
            len: 0,
            in_hash: false,
            taken: 0,
            partial: Partial::default(),
            packed: Vec::new(),
            unescaped: Vec::new(),
        }
    }

    pub(super) fn is_inside_a_packet(&self) -> bool {
        self.expect != Expect::Packet
    }

    pub(super) fn next<'a>(&'a mut self, input: &'a [u8]) -> Result<Step<'a>, FramingError> {
        let mut at = 0;
        if self.expect == Expect::Packet {
            recycle(&mut self.packed);
            recycle(&mut self.unescaped);
            at = skip_space(input, 0);
            match input.get(at) {
                Some(b'[') => at += 1,
                Some(_) => return Err(FramingError::NotAPacket),
                None => return Ok(Step::More { used: at }),
            }
            self.expect = Expect::FirstValue;
            self.levels.clear();
            self.len = 0;
            self.in_hash = false;
            // White space before a packet does not belong to it.
            self.taken = 0;
            if self.limits.nesting == 0 {
                return Err(self.too_deep());
            }
            return self.rest_of_packet(input, at, at - 1);
        }
        self.rest_of_packet(input, at, 0)
    }

    /// Parses from `at` on; the packet began, or continued, at `start` of the input.
    fn rest_of_packet<'a>(
        &'a mut self,
        input: &'a [u8],
        at: usize,
        start: usize,
    ) -> Result<Step<'a>, FramingError> {
        let mut at = at;
        let complete = self.parse(input, &mut at)?;
        let seen = self.taken + if complete { at } else { input.len() } - start;
        if seen > self.limits.packet {
            return Err(FramingError::TooLong { limit: self.limits.packet });
        }
        if complete {
            self.expect = Expect::Packet;
            let elements = Elements::plain(self.len, &self.packed);
            return Ok(Step::Packet { used: at, elements });
        }
        self.taken += at - start;
        Ok(Step::More { used: at })
    }

    fn too_deep(&self) -> FramingError {
        FramingError::TooDeep { limit: self.limits.nesting }
    }

    /// Consumes all complete tokens; true when the packet's array was closed.
    fn parse(&mut self, input: &[u8], at: &mut usize) -> Result<bool, FramingError> {
        loop {
            let mut first = match input.get(*at) {
                Some(&first) => first,
                None => return Ok(false),
            };
            if is_space(first) {
                *at = skip_space(input, *at + 1);
                match input.get(*at) {
                    Some(&octet) => first = octet,
                    None => return Ok(false),
                }
            }
            match self.expect {
                Expect::FirstValue if first == b']' => {
                    *at += 1;
                    if self.leave() {
                        return Ok(true);
                    }
                }
                Expect::FirstValue | Expect::Value => {
                    if !self.value(input, at, first)? {
                        return Ok(false);
                    }
                }
                Expect::FirstKey if first == b'}' => {
                    *at += 1;
                    self.leave();
                }
                Expect::FirstKey | Expect::Key => {
                    if first != b'"' {
                        return Err(malformed("a key that is not a string"));
                    }
                    if !self.string(input, at)? {
                        return Ok(false);
                    }
                    self.expect = Expect::Colon;
                }
                Expect::Colon => {
                    if first != b':' {
                        return Err(malformed("a key without a colon"));
                    }
                    *at += 1;
                    self.expect = Expect::Value;
                }
                Expect::Separator | Expect::Packet => {
                    *at += 1;
                    match (first, self.in_hash) {
                        (b',', false) => self.expect = Expect::Value,
                        (b',', true) => self.expect = Expect::Key,
                        (b']', false) | (b'}', true) => {
                            if self.leave() {
                                return Ok(true);
                            }
                        }
                        _ => return Err(malformed("values without a comma between them")),
                    }
                }
            }
        }
    }

    /// Consumes a value or the beginning of one; false if it is incomplete.
    #[inline]
    fn value(&mut self, input: &[u8], at: &mut usize, first: u8) -> Result<bool, FramingError> {
        let complete = match first {
            b'"' => self.string(input, at)?,
            b'-' | b'0'..=b'9' => self.number(input, at)?,
            _ if self.len == 0 && self.levels.is_empty() => return Err(FramingError::NotAPacket),
            b'[' | b'{' => {
                *at += 1;
                return self.enter(first == b'{').map(|()| true);
            }
            b't' => literal(input, at, b"true")? && put(packed::put_bool, &mut self.packed, true),
            b'f' => literal(input, at, b"false")? && put(packed::put_bool, &mut self.packed, false),
            b'n' => {
                literal(input, at, b"null")? && {
                    packed::put_undef(&mut self.packed);
                    true
                }
            }
            _ => {
                return Err(malformed("neither string, number, array, object nor literal"));
            }
        };
        if complete {
            self.len += 1;
            self.expect = Expect::Separator;
        }
        Ok(complete)
    }

    fn enter(&mut self, is_hash: bool) -> Result<(), FramingError> {
        // The packet's own array is a level, too.
        if self.levels.len() + 1 >= self.limits.nesting {
            return Err(self.too_deep());
        }
        let open = if is_hash {
            packed::open_hash(&mut self.packed)
        } else {
            packed::open_array(&mut self.packed)
        };
        self.levels.push(Level { open, is_hash: self.in_hash, len: self.len + 1 });
        self.in_hash = is_hash;
        self.len = 0;
        self.expect = if is_hash { Expect::FirstKey } else { Expect::FirstValue };
        Ok(())
    }

    /// Leaves an array or hash; true if it was the packet's own.
    fn leave(&mut self) -> bool {
        let Some(level) = self.levels.pop() else {
            return true;
        };
        packed::close_len(&mut self.packed, level.open, self.len);
        self.in_hash = level.is_hash;
        self.len = level.len;
        self.expect = Expect::Separator;
        false
    }

    /// Consumes the string whose opening quote is at `at`; false if it is incomplete.
    #[inline]
    fn string(&mut self, input: &[u8], at: &mut usize) -> Result<bool, FramingError> {
        let body = input.get(*at + 1..).unwrap_or_default();
        let mut partial = std::mem::take(&mut self.partial);
        if !scan_string(body, &mut partial)? {
            self.partial = partial;
            return Ok(false);
        }
        let string = body.get(..partial.scanned).unwrap_or_default();
        *at += partial.scanned + 2;
        let text = if partial.escaped {
            self.unescaped.clear();
            unescape(string, &mut self.unescaped);
            partial.wide |= !self.unescaped.is_ascii();
            &self.unescaped
        } else {
            string
        };
        // Perl's decoder marks strings in the same way, so they are sent on as by a Perl node.
        let kind = if partial.wide { StrKind::Text } else { StrKind::Octets };
        packed::put_str(&mut self.packed, StrRef::trusted(kind, text));
        Ok(true)
    }

    /// Consumes the number at `at`; false if it may continue.
    #[inline]
    fn number(&mut self, input: &[u8], at: &mut usize) -> Result<bool, FramingError> {
        let rest = input.get(*at..).unwrap_or_default();
        let scanned = std::mem::take(&mut self.partial).scanned;
        let more = rest.get(scanned..).unwrap_or_default();
        let is_part = |octet: &u8| matches!(octet, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        let Some(len) = more.iter().position(|octet| !is_part(octet)) else {
            self.partial.scanned = rest.len();
            return Ok(false);
        };
        let number = rest.get(..scanned + len).unwrap_or_default();
        *at += number.len();
        put_number(number, &mut self.packed)?;
        Ok(true)
    }
}

fn put(put: fn(&mut Vec<u8>, bool), out: &mut Vec<u8>, value: bool) -> bool {
    put(out, value);
    true
}

fn is_space(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t' | b'\n' | b'\r')
}

fn skip_space(input: &[u8], at: usize) -> usize {
    let rest = input.get(at..).unwrap_or_default();
    at + rest.iter().position(|&octet| !is_space(octet)).unwrap_or(rest.len())
}

/// Consumes a literal; false if it is incomplete.
fn literal(input: &[u8], at: &mut usize, literal: &[u8]) -> Result<bool, FramingError> {
    let rest = input.get(*at..).unwrap_or_default();
    if rest.starts_with(literal) {
        *at += literal.len();
        Ok(true)
    } else if literal.starts_with(rest) {
        Ok(false)
    } else {
        Err(malformed("neither true, false nor null"))
    }
}

/// Appends a number: an integer if it is written as one, or a string of digits if it does not fit into
/// 64 bits.
fn put_number(number: &[u8], out: &mut Vec<u8>) -> Result<(), FramingError> {
    let (negative, digits) = match number {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    let whole = digits.iter().take_while(|octet| octet.is_ascii_digit()).count();
    match (digits, whole) {
        (_, 0) => return Err(malformed("a number without digits")),
        ([b'0', ..], 2..) => return Err(malformed("a number with a leading zero")),
        _ => {}
    }
    if whole < digits.len() {
        return put_float(number, digits.get(whole..).unwrap_or_default(), out);
    }
    let magnitude = digits.iter().try_fold(0_u64, |number, digit| {
        number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    });
    match magnitude {
        Some(magnitude) if !negative => packed::put_uint(out, magnitude),
        Some(magnitude) if magnitude <= 1 << 63 => {
            packed::put_int(out, (magnitude as i64).wrapping_neg());
        }
        _ => packed::put_octets(out, number),
    }
    Ok(())
}

fn put_float(number: &[u8], after_whole: &[u8], out: &mut Vec<u8>) -> Result<(), FramingError> {
    let digits = |octets: &[u8]| octets.iter().take_while(|octet| octet.is_ascii_digit()).count();
    let mut rest = after_whole;
    if let [b'.', fraction @ ..] = rest {
        let len = digits(fraction);
        if len == 0 {
            return Err(malformed("a number without digits after its point"));
        }
        rest = fraction.get(len..).unwrap_or_default();
    }
    if let [b'e' | b'E', exponent @ ..] = rest {
        let exponent = match exponent {
            [b'+' | b'-', exponent @ ..] => exponent,
            exponent => exponent,
        };
        let len = digits(exponent);
        if len == 0 {
            return Err(malformed("a number without digits in its exponent"));
        }
        rest = exponent.get(len..).unwrap_or_default();
    }
    let text = std::str::from_utf8(number).ok().filter(|_| rest.is_empty());
    let value = text.and_then(|text| text.parse().ok());
    packed::put_float(out, value.ok_or(malformed("a number"))?);
    Ok(())
}
