//! Hashes and arrays of a request that stay in the octets of its packet, and are read a part at a time:
//! as objects, all their keys and values together take many times those octets.

use super::datum::{Datum, token_to_str};
use crate::value::Str;
use crate::value::packed::{Malformed, Reader, Token};

/// What is left of a hash or array that was checked.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Unread {
    /// The position of the next key or string in the octets.
    at: usize,
    /// The number of keys or strings from there on.
    left: usize,
}

/// Whether [`token_to_str`] makes a string of the token.
const fn is_string(token: Token<'_>) -> bool {
    matches!(token, Token::Str(_) | Token::UInt(_) | Token::NInt(_) | Token::Float(_))
}

impl Unread {
    /// Checks an array of strings or numbers; `None` if it is anything else.
    pub(super) fn strings(reader: &mut Reader<'_>) -> Result<Option<Self>, Malformed> {
        let Token::Array(left) = reader.token()? else { return Ok(None) };
        let unread = Unread { at: reader.position(), left };
        for _ in 0..left {
            if !is_string(reader.token()?) {
                return Ok(None);
            }
        }
        Ok(Some(unread))
    }

    /// Checks a hash, and shows each key with the octets of its value; `None` if it is no hash.
    pub(super) fn entries<'a>(
        reader: &mut Reader<'a>,
        mut show: impl FnMut(Token<'a>, &'a [u8]),
    ) -> Result<Option<Self>, Malformed> {
        let Token::Hash(left) = reader.token()? else { return Ok(None) };
        let unread = Unread { at: reader.position(), left };
        for _ in 0..left {
            let key = reader.token()?;
            if !is_string(key) {
                return Ok(None);
            }
            show(key, reader.skip()?);
        }
        Ok(Some(unread))
    }

    /// Checks a hash of hashes, and shows each entry with its family; `None` if it is anything else.
    pub(super) fn tables<'a>(
        reader: &mut Reader<'a>,
        mut show: impl FnMut(Token<'a>, Token<'a>, &'a [u8]),
    ) -> Result<Option<Self>, Malformed> {
        let Token::Hash(left) = reader.token()? else { return Ok(None) };
        let unread = Unread { at: reader.position(), left };
        for _ in 0..left {
            let family = reader.token()?;
            let content = Unread::entries(reader, |key, value| show(family, key, value))?;
            if content.is_none() || !is_string(family) {
                return Ok(None);
            }
        }
        Ok(Some(unread))
    }

    pub(super) const fn is_empty(self) -> bool {
        self.left == 0
    }

    /// Takes the next item, which `read` reads. The octets were checked, so this fails only at the end.
    fn next<T>(
        &mut self,
        octets: &[u8],
        read: impl FnOnce(&mut Reader<'_>) -> Option<T>,
    ) -> Option<T> {
        self.left = self.left.checked_sub(1)?;
        let mut reader = Reader::new(octets.get(self.at..)?);
        let item = read(&mut reader)?;
        self.at += reader.position();
        Some(item)
    }

    /// The next string of an array.
    pub(super) fn next_string(&mut self, octets: &[u8]) -> Option<Str> {
        self.next(octets, |reader| token_to_str(reader.token().ok()?))
    }

    /// The next key of a hash, and its value.
    pub(super) fn next_entry(&mut self, octets: &[u8]) -> Option<(Str, Datum)> {
        self.next(octets, |reader| {
            let key = token_to_str(reader.token().ok()?)?;
            Some((key, Datum::trusted(reader.skip().ok()?)))
        })
    }

    /// The next family, whose entries have to be read before the one after it
    /// ([`Unread::go_on_after`]).
    pub(super) fn next_family(&mut self, octets: &[u8]) -> Option<(Str, Unread)> {
        let (family, left) = self.next(octets, |reader| {
            let family = token_to_str(reader.token().ok()?)?;
            match reader.token() {
                Ok(Token::Hash(left)) => Some((family, left)),
                _ => None,
            }
        })?;
        Some((family, Unread { at: self.at, left }))
    }

    /// All entries of a family have been read.
    pub(super) const fn go_on_after(&mut self, entries: Unread) {
        self.at = entries.at;
    }
}
