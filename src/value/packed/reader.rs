//! The reader of packed form.

use super::{
    ARRAY, BYTES, DOUBLE, Elements, FALSE, MAP, NINT, NULL, SINGLE, TAG, TEXT, TRUE, UINT,
    UNDEFINED,
};
use crate::value::exact::Exact;
use crate::value::string::{StrKind, StrRef};
use crate::value::tag;
use thiserror::Error;

/// Octets that are not in packed form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not in packed form at octet {at}")]
pub struct Malformed {
    /// The position, counted from the start of the reader's octets.
    pub at: usize,
}

/// A token: a scalar, or the head of an array or hash.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Token<'a> {
    /// Perl's undef.
    Undef,
    /// A boolean (not Perl's `"1"` and `""`).
    Bool(bool),
    /// A non-negative integer.
    UInt(u64),
    /// A negative integer.
    NInt(i64),
    /// A number with a fraction or exponent.
    Float(f64),
    /// A number that a tag makes exact: a big integer, a decimal or binary fraction, a ratio.
    Exact(Exact<'a>),
    /// A string.
    Str(StrRef<'a>),
    /// An array: this many values follow.
    Array(usize),
    /// A hash: this many pairs of key and value follow.
    Hash(usize),
}

/// A token, or a tag.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Item<'a> {
    /// A tag: its value follows.
    Tag(u64),
    /// Anything else. Never [`Token::Exact`], which consists of a tag and its value.
    Token(Token<'a>),
}

/// Reads the packed form, token by token.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
    /// The total number of octets.
    all: usize,
}

impl<'a> Reader<'a> {
    /// A reader of `octets` from the start.
    pub const fn new(octets: &'a [u8]) -> Self {
        Reader { rest: octets, all: octets.len() }
    }

    /// The number of octets that were read.
    pub const fn position(&self) -> usize {
        self.all - self.rest.len()
    }

    /// The octets that were not read yet.
    #[inline]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether everything was read.
    pub const fn is_done(&self) -> bool {
        self.rest.is_empty()
    }

    const fn malformed(&self) -> Malformed {
        Malformed { at: self.position() }
    }

    #[inline]
    fn octet(&mut self) -> Result<u8, Malformed> {
        let (&octet, rest) = self.rest.split_first().ok_or(self.malformed())?;
        self.rest = rest;
        Ok(octet)
    }

    #[inline]
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (octets, rest) = self.rest.split_first_chunk::<N>().ok_or(self.malformed())?;
        self.rest = rest;
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
        let parts = usize::try_from(len).ok().and_then(|len| self.rest.split_at_checked(len));
        let (slice, rest) = parts.ok_or(self.malformed())?;
        self.rest = rest;
        Ok(slice)
    }

    /// A length, checked against the octets that are left for that many values.
    #[inline]
    fn len(&self, argument: u64, each: u64) -> Result<usize, Malformed> {
        if argument > self.rest.len() as u64 / each {
            return Err(self.malformed());
        }
        Ok(argument as usize)
    }

    /// The next token; tags before it are skipped.
    ///
    /// A number with tags that make it exact is one token. The class of an object (tag 26, and what
    /// Storable blesses) is skipped, so the object reads as what it was frozen to: the one value, or an
    /// array of several.
    ///
    /// # Errors
    /// The octets end early or are not in packed form.
    #[inline]
    pub fn token(&mut self) -> Result<Token<'a>, Malformed> {
        match self.item()? {
            Item::Token(token) => Ok(token),
            Item::Tag(tag) => self.token_of(tag),
        }
    }

    /// As [`Reader::token`], after a tag that [`Reader::item`] has returned.
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
            _ => self.rest_of_item(first)?,
        }))
    }

    /// Reads an item that begins with `first` and is not a non-negative integer, a string, an array or a
    /// hash.
    #[inline]
    fn rest_of_item(&mut self, first: u8) -> Result<Token<'a>, Malformed> {
        Ok(match first {
            FALSE => Token::Bool(false),
            TRUE => Token::Bool(true),
            NULL | UNDEFINED => Token::Undef,
            SINGLE => Token::Float(f64::from(f32::from_be_bytes(self.take()?))),
            DOUBLE => Token::Float(f64::from_be_bytes(self.take()?)),
            _ if first & 0xe0 == NINT => {
                let argument = self.argument(first & 0x1f)?;
                Token::NInt(!i64::try_from(argument).map_err(|_| self.malformed())?)
            }
            _ => return Err(self.malformed()),
        })
    }

    /// As [`Reader::item`], but skips tags that only record how another tag was encoded.
    pub(crate) fn tag_or_token(&mut self) -> Result<Item<'a>, Malformed> {
        let item = self.item()?;
        let mut inside = self.clone();
        if item == Item::Tag(tag::Storable::Tagged.tag())
            && inside.item()? == Item::Token(Token::Array(2))
        {
            inside.skip()?;
            *self = inside;
            return self.item();
        }
        Ok(item)
    }

    /// The next value, if it is a non-negative integer; otherwise nothing is read.
    ///
    /// This and [`Reader::take_str`] are shortcuts for the most frequent values.
    #[inline]
    pub(crate) fn take_uint(&mut self) -> Option<u64> {
        let (&first, after) = self.rest.split_first()?;
        let (value, rest) = match first {
            0..24 => (u64::from(first), after),
            24 => after.split_first().map(|(&octet, rest)| (octet.into(), rest))?,
            25 => {
                after.split_first_chunk().map(|(n, rest)| (u16::from_be_bytes(*n).into(), rest))?
            }
            26 => {
                after.split_first_chunk().map(|(n, rest)| (u32::from_be_bytes(*n).into(), rest))?
            }
            27 => after.split_first_chunk().map(|(n, rest)| (u64::from_be_bytes(*n), rest))?,
            _ => return None,
        };
        self.rest = rest;
        Some(value)
    }

    /// The next value, if it is a string of at most 255 octets; otherwise nothing is read.
    #[inline]
    pub(crate) fn take_str(&mut self) -> Option<StrRef<'a>> {
        let (&first, mut data) = self.rest.split_first()?;
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
        let (data, rest) = data.split_at_checked(usize::from(len))?;
        self.rest = rest;
        Some(StrRef::trusted(kind, data))
    }

    /// Whether the next value is undef.
    #[inline]
    pub fn is_at_undef(&self) -> bool {
        match self.rest.first() {
            Some(&(NULL | UNDEFINED)) => true,
            Some(&(TAG..0xe0)) => self.peek() == Ok(Token::Undef),
            _ => false,
        }
    }

    /// The next token, without reading it.
    ///
    /// # Errors
    /// As [`Reader::token`].
    pub fn peek(&self) -> Result<Token<'a>, Malformed> {
        self.clone().token()
    }

    /// The elements of the next value, which has to be an array.
    ///
    /// # Errors
    /// As [`Reader::token`], and if the value is not an array.
    pub fn array(&mut self) -> Result<Elements<'a>, Malformed> {
        match self.token()? {
            Token::Array(len) => {
                let start = self.rest;
                for _ in 0..len {
                    self.skip()?;
                }
                Ok(Elements::new(len, self.since(start)))
            }
            _ => Err(self.malformed()),
        }
    }

    /// Skips one whole value and returns its octets.
    ///
    /// # Errors
    /// As [`Reader::token`].
    pub fn skip(&mut self) -> Result<&'a [u8], Malformed> {
        let start = self.rest;
        let mut left = 1_u64;
        while left > 0 {
            left = left - 1 + self.pass_head()?;
        }
        Ok(self.since(start))
    }

    /// The octets read since the position `start`.
    #[inline]
    fn since(&self, start: &'a [u8]) -> &'a [u8] {
        start.get(..start.len().saturating_sub(self.rest.len())).unwrap_or_default()
    }

    /// Skips the next token, and returns the number of values inside it.
    #[inline]
    fn pass_head(&mut self) -> Result<u64, Malformed> {
        let first = self.octet()?;
        let info = first & 0x1f;
        Ok(match first & 0xe0 {
            UINT => {
                self.argument(info)?;
                0
            }
            BYTES | TEXT => {
                let len = self.argument(info)?;
                self.slice(len)?;
                0
            }
            ARRAY => {
                let len = self.argument(info)?;
                self.len(len, 1)? as u64
            }
            MAP => {
                let len = self.argument(info)?;
                2 * self.len(len, 2)? as u64
            }
            TAG => {
                self.argument(info)?;
                1
            }
            _ => {
                self.rest_of_item(first)?;
                0
            }
        })
    }
}

/// The nesting depth of arrays, hashes and tags in packed values: 0 if there are none.
///
/// The array of class and value of a blessed value is not a level: only its tag is.
///
/// # Errors
/// The octets are not in packed form.
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

/// Whether packed values nest deeper than `levels`.
///
/// # Errors
/// The octets are not in packed form.
#[inline]
pub fn is_deeper_than(octets: &[u8], levels: usize) -> Result<bool, Malformed> {
    // Each level takes at least one octet.
    Ok(octets.len() > levels && nesting(octets)? > levels)
}
