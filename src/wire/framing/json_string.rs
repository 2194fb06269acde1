//! The strings of JSON: where they end, and what they contain.

use super::{Framing, FramingError};
use crate::value::StrRef;

pub(super) const fn malformed(what: &'static str) -> FramingError {
    FramingError::Malformed { framing: Framing::Json, what }
}

/// How much of the incomplete token at the end of the input was scanned.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Partial {
    /// The number of octets.
    pub(super) scanned: usize,
    /// Whether the token is a string with a backslash.
    pub(super) escaped: bool,
    /// Whether the token is a string with unescaped characters beyond ASCII.
    pub(super) wide: bool,
}

/// Scans a string up to its closing quote; false if it is incomplete.
///
/// UTF-8 and escapes are checked, and control characters refused.
#[inline]
pub(super) fn scan_string(body: &[u8], partial: &mut Partial) -> Result<bool, FramingError> {
    loop {
        let rest = body.get(partial.scanned..).unwrap_or_default();
        let len = plain_len::<false>(rest);
        let (plain, rest) = rest.split_at(len);
        let plain = if rest.is_empty() { without_cut_character(plain) } else { plain };
        if !plain.is_ascii() {
            partial.wide = true;
            if StrRef::generalized(plain).is_none() {
                return Err(FramingError::NotUtf8);
            }
        }
        partial.scanned += plain.len();
        match rest.first() {
            None => return Ok(false),
            Some(b'"') => return Ok(true),
            Some(b'\\') => {
                partial.escaped = true;
                match escape_len(rest)? {
                    0 => return Ok(false),
                    len => partial.scanned += len,
                }
            }
            Some(_) => return Err(malformed("a control character in a string")),
        }
    }
}

/// `text` without an incomplete multi-octet character at its end.
fn without_cut_character(text: &[u8]) -> &[u8] {
    let is_tail = |octet: &&u8| **octet & 0xc0 == 0x80;
    let tail = text.iter().rev().take(6).take_while(is_tail).count();
    let whole = text.len().saturating_sub(tail + 1);
    let wanted = match text.get(whole) {
        Some(0xc0..=0xdf) => 1,
        Some(0xe0..=0xef) => 2,
        Some(0xf0..=0xf7) => 3,
        Some(0xf8..=0xfb) => 4,
        Some(0xfc..=0xfd) => 5,
        Some(0xfe) => 6,
        _ => 0,
    };
    if tail < wanted { text.get(..whole).unwrap_or_default() } else { text }
}

/// The number of octets at the beginning that a JSON string contains literally; with `ASCII`, only
/// ASCII.
#[inline]
pub(super) fn plain_len<const ASCII: bool>(octets: &[u8]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    // The high bit of each octet tells whether it is a quote, a backslash, or below 0x20. Borrows cause
    // false hits only above a true one.
    let hits = |chunk: u64| {
        let quote = chunk ^ (ONES * u64::from(b'"'));
        let backslash = chunk ^ (ONES * u64::from(b'\\'));
        let special = (quote.wrapping_sub(ONES) & !quote)
            | (backslash.wrapping_sub(ONES) & !backslash)
            | (chunk.wrapping_sub(ONES * 0x20) & !chunk)
            | if ASCII { chunk } else { 0 };
        special & HIGH
    };
    // Octets before the last chunk are examined twice, so no octet needs to be examined alone.
    let last = octets.len().wrapping_sub(8);
    let mut at = 0;
    while let Some(chunk) = octets.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let hits = hits(u64::from_le_bytes(*chunk));
        if hits != 0 {
            return at + (hits.trailing_zeros() / 8) as usize;
        }
        if at == last {
            return octets.len();
        }
        at = (at + 8).min(last);
    }
    if let (Some(first), Some(last)) = (octets.first_chunk(), octets.last_chunk()) {
        let half = |octets: &[u8; 4]| u64::from(u32::from_le_bytes(*octets));
        if hits(half(first) | half(last) << 32) == 0 {
            return octets.len();
        }
    }
    let is_plain =
        |octet: u8| octet >= 0x20 && octet != b'"' && octet != b'\\' && !(ASCII && octet >= 0x80);
    octets.iter().position(|&octet| !is_plain(octet)).unwrap_or(octets.len())
}

/// The length of the escape at the beginning of `rest`; 0 if it is incomplete.
fn escape_len(rest: &[u8]) -> Result<usize, FramingError> {
    match rest.get(1) {
        None => Ok(0),
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(2),
        Some(b'u') => {
            let digits = rest.iter().skip(2).take(4);
            let len = 2 + digits.len();
            if !digits.into_iter().all(u8::is_ascii_hexdigit) {
                return Err(malformed("an escape without four hexadecimal digits"));
            }
            Ok(if len == 6 { 6 } else { 0 })
        }
        Some(_) => Err(malformed("an unknown escape")),
    }
}

/// Appends the content of a scanned string.
pub(super) fn unescape(string: &[u8], out: &mut Vec<u8>) {
    let mut rest = string;
    while let Some(plain) = memchr::memchr(b'\\', rest) {
        let (before, escape) = rest.split_at(plain);
        out.extend_from_slice(before);
        let mut len = 2;
        match escape.get(1) {
            Some(b'b') => out.push(0x08),
            Some(b'f') => out.push(0x0c),
            Some(b'n') => out.push(b'\n'),
            Some(b'r') => out.push(b'\r'),
            Some(b't') => out.push(b'\t'),
            Some(b'u') => {
                let mut point = code_unit(escape);
                len = 6;
                if let 0xd800..0xdc00 = point
                    && let Some(second @ [b'\\', b'u', ..]) = escape.get(6..)
                    && let low @ 0xdc00..0xe000 = code_unit(second)
                {
                    point = 0x1_0000 + ((point - 0xd800) << 10 | (low - 0xdc00));
                    len = 12;
                }
                push_code_point(out, point);
            }
            Some(&itself) => out.push(itself),
            None => {}
        }
        rest = escape.get(len..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
}

/// The code unit of `\uXXXX`.
fn code_unit(escape: &[u8]) -> u32 {
    escape
        .iter()
        .skip(2)
        .take(4)
        .fold(0, |unit, &digit| unit << 4 | (digit as char).to_digit(16).unwrap_or_default())
}

fn push_code_point(out: &mut Vec<u8>, point: u32) {
    match char::from_u32(point) {
        Some(character) => {
            out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
        None => out.extend_from_slice(&[
            0xe0 | (point >> 12) as u8,
            0x80 | (point >> 6 & 0x3f) as u8,
            0x80 | (point & 0x3f) as u8,
        ]),
    }
}
