//! One key is set and nothing else: what nearly all changes are, carried out as it stands in the
//! packet.

use super::is_internal;
use super::request::Name;
use crate::value::packed::{self, Elements, Token};
use crate::value::{Packed, StrRef};

/// The value of one key of a family that is not the protocol's own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SetOne<'a> {
    pub(crate) family: StrRef<'a>,
    pub(crate) key: StrRef<'a>,
    /// In packed form.
    pub(crate) value: &'a [u8],
}

/// What a request that sets one key says of deletions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deletions {
    /// Nothing, as slaves.
    Left,
    /// That there are none, as global nodes.
    Empty,
}

impl<'a> SetOne<'a> {
    /// The arguments of `g_upd` or `g_chg2`, if they say no more than that; else the request has to
    /// be taken apart in full.
    pub(crate) fn read(arguments: Elements<'a>) -> Option<Self> {
        let mut reader = arguments.reader();
        let family = reader.take_str()?;
        let Ok(Token::Hash(1)) = reader.token() else { return None };
        let key = reader.take_str()?;
        let value = reader.skip().ok()?;
        let none_deleted = match arguments.len() {
            2 => true,
            3 => matches!(reader.token(), Ok(Token::Undef | Token::Array(0))),
            _ => false,
        };
        (none_deleted && !is_internal(family)).then_some(SetOne { family, key, value })
    }

    /// The packet for a node port.
    pub(crate) fn to_packet(self, name: Name, deletions: Deletions) -> Packed {
        let name = name.as_str().as_bytes();
        let data = [name, self.family.data(), self.key.data()];
        let strings: usize =
            data.map(|data| data.len() + 1 + usize::from(data.len() > 23)).iter().sum();
        // Just enough, or the octets would have to be moved once more.
        let empty = usize::from(deletions == Deletions::Empty);
        let mut octets = Vec::with_capacity(strings + self.value.len() + 2 + empty);
        packed::put_octets(&mut octets, b"");
        packed::put_octets(&mut octets, name);
        packed::put_str(&mut octets, self.family);
        packed::put_hash(&mut octets, 1);
        packed::put_str(&mut octets, self.key);
        octets.extend_from_slice(self.value);
        if deletions == Deletions::Empty {
            packed::put_array(&mut octets, 0);
        }
        Packed::new(4 + empty, octets.into())
    }
}

#[cfg(test)]
#[path = "single_tests.rs"]
mod tests;
