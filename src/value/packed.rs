//! The packed form: values as octets, the one shape in which messages are kept, queued and decoded.
//!
//! It is a subset of CBOR that needs no context to read: integers from -2^63 to 2^64-1, byte
//! strings, text strings (generalized UTF-8), arrays and maps of definite length, false, true,
//! null, undefined, single and double floats, and tags. Map keys are strings without tags. There
//! are no indefinite lengths and no tags that refer to other values (25, 256, 28, 29). Lengths need
//! not be in their shortest form. Each framing is translated to and from it, so that there is one
//! serializer, one deserializer and one kind of message.
//!
//! [`Reader::token`] sees through tags to the data, for everybody who wants values;
//! [`Reader::item`] shows them, for those who pass values on. See [`super::tag`] for their meaning.

use super::string::{StrKind, StrRef};
use super::tag::{self, Exact};
use thiserror::Error;

/// Octets that are not in packed form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not in packed form at octet {at}")]
pub struct Malformed {
    /// Where, counted from the start of what the reader was given.
    pub at: usize,
}

/// What stands at one place of the packed form.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Token<'a> {
    /// Perl's undef.
    Undef,
    /// A boolean proper (not Perl's `"1"` and `""`).
    Bool(bool),
    /// A non-negative integer.
    UInt(u64),
    /// A negative integer.
    NInt(i64),
    /// A number with a fraction or exponent.
    Float(f64),
    /// A number that its tag makes exact: a big integer, a decimal or binary fraction, a ratio.
    Exact(Exact<'a>),
    /// A string.
    Str(StrRef<'a>),
    /// An array: so many values follow.
    Array(usize),
    /// A hash: so many pairs of key and value follow.
    Hash(usize),
}

/// What stands at one place of the packed form, tags included.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Item<'a> {
    /// A tag: the value that it belongs to follows.
    Tag(u64),
    /// Anything else. Never [`Token::Exact`], which is a tag and what follows.
    Token(Token<'a>),
}

const UINT: u8 = 0 << 5;
const NINT: u8 = 1 << 5;
const BYTES: u8 = 2 << 5;
const TEXT: u8 = 3 << 5;
const ARRAY: u8 = 4 << 5;
const MAP: u8 = 5 << 5;
const TAG: u8 = 6 << 5;
const FALSE: u8 = 0xf4;
const TRUE: u8 = 0xf5;
const NULL: u8 = 0xf6;
/// CBOR's `undefined`, which Perl's encoder writes for `Types::Serialiser::error`. It reads as undef.
pub(crate) const UNDEFINED: u8 = 0xf7;
const SINGLE: u8 = 0xfa;
const DOUBLE: u8 = 0xfb;

/// Appends a head (major type and argument) in its shortest form.
#[inline]
fn head(out: &mut Vec<u8>, major: u8, argument: u64) {
    match argument {
        0..=23 => out.push(major | argument as u8),
        24..=0xff => out.extend_from_slice(&[major | 24, argument as u8]),
        0x100..=0xffff => {
            let [a, b] = (argument as u16).to_be_bytes();
            out.extend_from_slice(&[major | 25, a, b]);
        }
        0x1_0000..=0xffff_ffff => {
            let [a, b, c, d] = (argument as u32).to_be_bytes();
            out.extend_from_slice(&[major | 26, a, b, c, d]);
        }
        _ => {
            out.push(major | 27);
            out.extend_from_slice(&argument.to_be_bytes());
        }
    }
}

/// Appends undef.
#[inline]
pub fn put_undef(out: &mut Vec<u8>) {
    out.push(NULL);
}

/// Appends CBOR's `undefined`.
pub(crate) fn put_undefined(out: &mut Vec<u8>) {
    out.push(UNDEFINED);
}

/// Appends a tag; the value that it belongs to is appended next.
#[inline]
pub fn put_tag(out: &mut Vec<u8>, tag: u64) {
    head(out, TAG, tag);
}

/// Appends a boolean.
#[inline]
pub fn put_bool(out: &mut Vec<u8>, value: bool) {
    out.push(if value { TRUE } else { FALSE });
}

/// Appends a non-negative integer.
#[inline]
pub fn put_uint(out: &mut Vec<u8>, value: u64) {
    head(out, UINT, value);
}

/// Appends an integer.
#[inline]
pub fn put_int(out: &mut Vec<u8>, value: i64) {
    if value < 0 { head(out, NINT, !value as u64) } else { head(out, UINT, value as u64) }
}

/// Appends a float, as a single where that is exact, as Perl's CBOR::XS does.
#[inline]
pub fn put_float(out: &mut Vec<u8>, value: f64) {
    let single = value as f32;
    if f64::from(single).to_bits() == value.to_bits() {
        out.push(SINGLE);
        out.extend_from_slice(&single.to_be_bytes());
    } else {
        out.push(DOUBLE);
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// Appends a string whose code points are these octets.
#[inline]
pub fn put_octets(out: &mut Vec<u8>, octets: &[u8]) {
    head(out, BYTES, octets.len() as u64);
    out.extend_from_slice(octets);
}

/// Appends a string of characters.
#[inline]
pub fn put_text(out: &mut Vec<u8>, text: &str) {
    head(out, TEXT, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Appends a string as it is stored.
#[inline]
pub fn put_str(out: &mut Vec<u8>, string: StrRef<'_>) {
    let major = match string.kind() {
        StrKind::Octets => BYTES,
        StrKind::Text => TEXT,
    };
    head(out, major, string.data().len() as u64);
    out.extend_from_slice(string.data());
}

/// Begins a string of `len` octets of this kind, which are appended next.
pub(crate) fn begin_str(out: &mut Vec<u8>, kind: StrKind, len: usize) {
    let major = match kind {
        StrKind::Octets => BYTES,
        StrKind::Text => TEXT,
    };
    head(out, major, len as u64);
}

/// Appends a string that is made of parts, of which only the first may be other than ASCII.
#[inline]
pub(crate) fn put_joined(out: &mut Vec<u8>, first: StrRef<'_>, rest: &[&[u8]]) {
    let len = first.data().len() + rest.iter().map(|part| part.len()).sum::<usize>();
    let major = match first.kind() {
        StrKind::Octets => BYTES,
        StrKind::Text => TEXT,
    };
    head(out, major, len as u64);
    out.extend_from_slice(first.data());
    for part in rest {
        out.extend_from_slice(part);
    }
}

/// Begins an array of `len` values, which are appended next.
#[inline]
pub fn put_array(out: &mut Vec<u8>, len: usize) {
    head(out, ARRAY, len as u64);
}

/// Begins a hash of `len` pairs, which are appended next: key, value, key, value.
#[inline]
pub fn put_hash(out: &mut Vec<u8>, len: usize) {
    head(out, MAP, len as u64);
}

/// A place in the output where the length of an array or hash is still open.
#[derive(Debug, Clone, Copy)]
#[must_use = "an open length has to be closed"]
pub struct OpenLen {
    at: usize,
}

/// Begins an array whose length [`close_len`] tells later.
pub fn open_array(out: &mut Vec<u8>) -> OpenLen {
    open(out, ARRAY)
}

/// Begins a hash whose length [`close_len`] tells later.
pub fn open_hash(out: &mut Vec<u8>) -> OpenLen {
    open(out, MAP)
}

fn open(out: &mut Vec<u8>, major: u8) -> OpenLen {
    let at = out.len();
    out.extend_from_slice(&[major | 26, 0, 0, 0, 0]);
    OpenLen { at }
}

/// Writes the length of an array or hash begun by [`open_array`] or [`open_hash`].
///
/// Lengths are at most 2^32-1: whoever collects more has passed every packet limit before.
pub fn close_len(out: &mut [u8], place: OpenLen, len: usize) {
    let len = u32::try_from(len).unwrap_or(u32::MAX);
    if let Some(slot) = out.get_mut(place.at + 1..place.at + 5) {
        slot.copy_from_slice(&len.to_be_bytes());
    }
}

/// Reads the packed form, token by token.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    all: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// A reader of `octets` from the start.
    pub const fn new(octets: &'a [u8]) -> Self {
        Reader { all: octets, at: 0 }
    }

    /// How many octets were read.
    pub const fn position(&self) -> usize {
        self.at
    }

    /// What is still to be read.
    pub fn rest(&self) -> &'a [u8] {
        self.all.get(self.at..).unwrap_or_default()
    }

    /// Whether everything was read.
    pub const fn is_done(&self) -> bool {
        self.at >= self.all.len()
    }

    fn malformed(&self) -> Malformed {
        Malformed { at: self.at }
    }

    #[inline]
    fn octet(&mut self) -> Result<u8, Malformed> {
        let octet = *self.all.get(self.at).ok_or(self.malformed())?;
        self.at += 1;
        Ok(octet)
    }

    #[inline]
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let octets =
            self.all.get(self.at..).and_then(<[u8]>::first_chunk::<N>).ok_or(self.malformed())?;
        self.at += N;
        Ok(*octets)
    }

    #[inline]
    fn argument(&mut self, info: u8) -> Result<u64, Malformed> {
        if info < 24 {
            return Ok(u64::from(info));
        }
        self.long_argument(info)
    }

    #[inline(never)]
    fn long_argument(&mut self, info: u8) -> Result<u64, Malformed> {
        Ok(match info {
            24 => u64::from(self.octet()?),
            25 => u64::from(u16::from_be_bytes(self.take()?)),
            26 => u64::from(u32::from_be_bytes(self.take()?)),
            27 => u64::from_be_bytes(self.take()?),
            _ => return Err(self.malformed()),
        })
    }

    #[inline]
    fn slice(&mut self, len: u64) -> Result<&'a [u8], Malformed> {
        let len = usize::try_from(len).map_err(|_| self.malformed())?;
        let end = self.at.checked_add(len).ok_or(self.malformed())?;
        let slice = self.all.get(self.at..end).ok_or(self.malformed())?;
        self.at = end;
        Ok(slice)
    }

    /// A length, believed only as far as there are octets left for that many values.
    #[inline]
    fn len(&self, argument: u64, each: u64) -> Result<usize, Malformed> {
        let left = (self.all.len() - self.at) as u64;
        if argument > left / each {
            return Err(self.malformed());
        }
        Ok(argument as usize)
    }

    /// The next token; tags before it are passed over.
    ///
    /// A number that its tags make exact is one token. Of an object (tag 26 and what Storable
    /// blesses) the class is passed over, so that it reads as what it was frozen to: the one value,
    /// or an array of several.
    ///
    /// # Errors
    /// Fails where the octets end early or are not in packed form.
    #[inline]
    pub fn token(&mut self) -> Result<Token<'a>, Malformed> {
        match self.item()? {
            Item::Token(token) => Ok(token),
            Item::Tag(tag) => self.token_of(tag),
        }
    }

    /// As [`Reader::token`], behind a tag that [`Reader::item`] gave.
    ///
    /// # Errors
    /// As [`Reader::token`].
    #[cold]
    #[inline(never)]
    pub fn token_of(&mut self, tag: u64) -> Result<Token<'a>, Malformed> {
        let mut tag = tag;
        loop {
            if let Some(exact) = Exact::read(tag, self)? {
                return Ok(Token::Exact(exact));
            }
            if tag::has_class(tag) {
                let mut inside = self.clone();
                if let Item::Token(Token::Array(len @ 1..)) = inside.item()? {
                    inside.skip()?;
                    *self = inside;
                    if len != 2 {
                        return Ok(Token::Array(len - 1));
                    }
                }
            }
            match self.item()? {
                Item::Token(token) => return Ok(token),
                Item::Tag(inner) => tag = inner,
            }
        }
    }

    /// The next token, or the next tag.
    ///
    /// # Errors
    /// As [`Reader::token`].
    #[inline]
    pub fn item(&mut self) -> Result<Item<'a>, Malformed> {
        let first = self.octet()?;
        let info = first & 0x1f;
        Ok(Item::Token(match first & 0xe0 {
            UINT => Token::UInt(self.argument(info)?),
            NINT => {
                let argument = self.argument(info)?;
                let argument = i64::try_from(argument).map_err(|_| self.malformed())?;
                Token::NInt(!argument)
            }
            BYTES => {
                let len = self.argument(info)?;
                Token::Str(StrRef::octets(self.slice(len)?))
            }
            TEXT => {
                let len = self.argument(info)?;
                Token::Str(StrRef::trusted(StrKind::Text, self.slice(len)?))
            }
            ARRAY => {
                let len = self.argument(info)?;
                Token::Array(self.len(len, 1)?)
            }
            MAP => {
                let len = self.argument(info)?;
                Token::Hash(self.len(len, 2)?)
            }
            TAG => return Ok(Item::Tag(self.argument(info)?)),
            _ => match first {
                FALSE => Token::Bool(false),
                TRUE => Token::Bool(true),
                NULL | UNDEFINED => Token::Undef,
                SINGLE => Token::Float(f64::from(f32::from_be_bytes(self.take()?))),
                DOUBLE => Token::Float(f64::from_be_bytes(self.take()?)),
                _ => return Err(self.malformed()),
            },
        }))
    }

    /// The next value if it is a non-negative integer; else nothing is read.
    ///
    /// This and [`Reader::take_str`] are shortcuts for what is asked for most.
    #[inline]
    pub(crate) fn take_uint(&mut self) -> Option<u64> {
        let first = *self.all.get(self.at)?;
        if first < UINT | 24 {
            self.at += 1;
            return Some(u64::from(first));
        }
        if first >= NINT {
            return None;
        }
        let mut ahead = self.clone();
        ahead.at += 1;
        let value = ahead.long_argument(first).ok()?;
        self.at = ahead.at;
        Some(value)
    }

    /// The next value if it is a string of at most 255 octets; else nothing is read.
    #[inline]
    pub(crate) fn take_str(&mut self) -> Option<StrRef<'a>> {
        let rest = self.all.get(self.at..)?;
        let (&first, mut data) = rest.split_first()?;
        let mut len = first & 0x1f;
        if len == 24 {
            let (&longer, after) = data.split_first()?;
            (len, data) = (longer, after);
        } else if len > 24 {
            return None;
        }
        let kind = match first & 0xe0 {
            BYTES => StrKind::Octets,
            TEXT => StrKind::Text,
            _ => return None,
        };
        let (data, after) = data.split_at_checked(usize::from(len))?;
        self.at = self.all.len() - after.len();
        Some(StrRef::trusted(kind, data))
    }

    /// Whether undef comes next.
    #[inline]
    pub fn is_at_undef(&self) -> bool {
        match self.all.get(self.at) {
            Some(&(NULL | UNDEFINED)) => true,
            Some(&(TAG..0xe0)) => self.peek() == Ok(Token::Undef),
            _ => false,
        }
    }

    /// The next token, left in place.
    ///
    /// # Errors
    /// As [`Reader::token`].
    pub fn peek(&self) -> Result<Token<'a>, Malformed> {
        self.clone().token()
    }

    /// The next value, which has to be an array, as its elements.
    ///
    /// # Errors
    /// As [`Reader::token`], and where it is no array.
    pub fn array(&mut self) -> Result<Elements<'a>, Malformed> {
        match self.token()? {
            Token::Array(len) => {
                let start = self.at;
                for _ in 0..len {
                    self.skip()?;
                }
                let octets = self.all.get(start..self.at).ok_or(self.malformed())?;
                Ok(Elements::new(len, octets))
            }
            _ => Err(self.malformed()),
        }
    }

    /// Passes over one whole value and returns its octets.
    ///
    /// # Errors
    /// As [`Reader::token`].
    pub fn skip(&mut self) -> Result<&'a [u8], Malformed> {
        let start = self.at;
        let mut left = 1_u64;
        while left > 0 {
            left -= 1;
            match self.item()? {
                Item::Tag(_) => left += 1,
                Item::Token(Token::Array(len)) => left += len as u64,
                Item::Token(Token::Hash(len)) => left += 2 * len as u64,
                Item::Token(_) => {}
            }
        }
        self.all.get(start..self.at).ok_or(self.malformed())
    }
}

/// How deep arrays, hashes and tags nest in values in packed form: 0 if there are none.
///
/// The array that holds class and value of a blessed value is no level of its own: its tag is one.
///
/// # Errors
/// Fails where the octets are not in packed form.
pub fn nesting(octets: &[u8]) -> Result<usize, Malformed> {
    let mut reader = Reader::new(octets);
    let mut outside: Vec<u64> = Vec::new();
    let mut left = u64::MAX;
    let mut deepest = 0;
    while !reader.is_done() {
        left -= 1;
        let inside = match reader.item()? {
            Item::Tag(tag) => Some(tag::items_of(tag, &mut reader)?),
            Item::Token(Token::Array(len)) => Some(len as u64),
            Item::Token(Token::Hash(len)) => Some(2 * len as u64),
            Item::Token(_) => None,
        };
        if let Some(inside) = inside {
            outside.push(left);
            left = inside;
            deepest = deepest.max(outside.len());
        }
        while left == 0 {
            match outside.pop() {
                Some(further_out) => left = further_out,
                None => break,
            }
        }
    }
    Ok(deepest)
}

/// Whether values in packed form nest deeper than `levels`.
///
/// # Errors
/// Fails where the octets are not in packed form.
pub fn is_deeper_than(octets: &[u8], levels: usize) -> Result<bool, Malformed> {
    // Each level has at least one octet.
    Ok(octets.len() > levels && nesting(octets)? > levels)
}

/// A borrowed list of values in packed form: the elements of a message.
#[derive(Debug, Clone, Copy)]
pub struct Elements<'a> {
    len: usize,
    octets: &'a [u8],
}

impl<'a> Elements<'a> {
    /// `octets` hold exactly `len` values in packed form.
    pub const fn new(len: usize, octets: &'a [u8]) -> Self {
        Elements { len, octets }
    }

    /// No elements.
    pub const EMPTY: Elements<'static> = Elements { len: 0, octets: &[] };

    /// How many values there are.
    pub const fn len(self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }

    /// The values, one after another, in packed form.
    pub const fn octets(self) -> &'a [u8] {
        self.octets
    }

    /// A reader at the first value.
    pub const fn reader(self) -> Reader<'a> {
        Reader::new(self.octets)
    }

    /// The first value as a string, if it is one.
    pub fn first_str(self) -> Option<StrRef<'a>> {
        match self.reader().token() {
            Ok(Token::Str(string)) if self.len > 0 => Some(string),
            _ => None,
        }
    }

    /// The elements after the first `count`; none if there are fewer.
    pub fn after(self, count: usize) -> Elements<'a> {
        let mut reader = self.reader();
        for _ in 0..count.min(self.len) {
            if reader.skip().is_err() {
                return Elements::EMPTY;
            }
        }
        Elements { len: self.len.saturating_sub(count), octets: reader.rest() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_as_they_were_put() {
        let mut out = Vec::new();
        put_array(&mut out, 9);
        put_undef(&mut out);
        put_bool(&mut out, true);
        put_int(&mut out, -500);
        put_uint(&mut out, u64::MAX);
        put_float(&mut out, 0.1);
        put_float(&mut out, 1.5);
        put_octets(&mut out, b"\xff");
        put_text(&mut out, "é");
        let open = open_hash(&mut out);
        put_text(&mut out, "k");
        put_int(&mut out, i64::MIN);
        close_len(&mut out, open, 1);
        let mut reader = Reader::new(&out);
        let mut tokens = Vec::new();
        while !reader.is_done() {
            tokens.push(reader.token().unwrap());
        }
        assert_eq!(
            tokens,
            [
                Token::Array(9),
                Token::Undef,
                Token::Bool(true),
                Token::NInt(-500),
                Token::UInt(u64::MAX),
                Token::Float(0.1),
                Token::Float(1.5),
                Token::Str(StrRef::octets(b"\xff")),
                Token::Str(StrRef::text("é")),
                Token::Hash(1),
                Token::Str(StrRef::text("k")),
                Token::NInt(i64::MIN),
            ]
        );
        assert_eq!(Reader::new(&out).skip().unwrap(), out);
    }

    #[test]
    fn lengths_beyond_the_octets_are_malformed() {
        for octets in [&[0x9a, 0xff, 0xff, 0xff, 0xff][..], &[0xa1, 0x41], &[0x5b], &[0x9f], &[]] {
            assert!(Reader::new(octets).skip().is_err(), "{octets:x?}");
        }
    }

    #[test]
    fn elements_after_the_last_are_none() {
        let mut out = Vec::new();
        put_text(&mut out, "tag");
        put_int(&mut out, 1);
        let elements = Elements::new(2, &out);
        assert_eq!(elements.first_str(), Some(StrRef::text("tag")));
        assert_eq!(elements.after(1).len(), 1);
        assert_eq!(elements.after(1).reader().token(), Ok(Token::UInt(1)));
        assert!(elements.after(2).is_empty());
        assert!(elements.after(9).is_empty());
    }
}
