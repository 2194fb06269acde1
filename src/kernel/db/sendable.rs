//! Limits of database entries: an entry is accepted only if it can be sent on in every request that
//! carries it.

use super::InternalFamily;
use crate::value::packed::{Item, Reader, Token, nesting};
use crate::value::{MAX_NESTING, StrRef};
use thiserror::Error;

/// The nesting levels of a request around a value: the packet, families, keys.
const ENVELOPE_LEVELS: usize = 3;

/// The maximum number of nested arrays, hashes and tags in a database value.
pub const MAX_ENTRY_NESTING: usize = MAX_NESTING - ENVELOPE_LEVELS;

/// The maximum octets of family, key and value of an entry: a packet may have 256 MiB, and JSON needs up
/// to six octets for one.
pub const MAX_ENTRY: usize = 32 << 20;

/// The maximum octets of a family, including its name, each string and value in the framing that needs
/// most for it: a family is sent in one packet to nodes that monitor or query it, and a packet may have
/// 256 MiB.
pub const MAX_FAMILY: usize = 255 << 20;

/// An entry that the database refuses, since it could not be sent to all nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Unsendable {
    /// The value nests too deep.
    #[error(
        "the value has more than {MAX_ENTRY_NESTING} arrays, hashes and tags inside each other"
    )]
    TooDeep,
    /// The entry is too large.
    #[error("family, key and value together have more than {MAX_ENTRY} octets")]
    TooLarge,
    /// The family would be too large.
    #[error(
        "the family would have more than {MAX_FAMILY} octets, which is what can be sent in one packet; \
         divide it into several families"
    )]
    FamilyTooLarge,
}

/// Why an entry was not set.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SetError {
    /// The family is one of the protocol's internal families.
    #[error(transparent)]
    Internal(#[from] InternalFamily),
    /// The entry could not be sent.
    #[error(transparent)]
    Unsendable(#[from] Unsendable),
}

/// Whether an entry can be sent on; `value` is in packed form.
pub(crate) fn check(family: StrRef<'_>, key: StrRef<'_>, value: &[u8]) -> Result<(), Unsendable> {
    // Each level takes at least one octet.
    if value.len() > MAX_ENTRY_NESTING
        && nesting(value).is_ok_and(|levels| levels > MAX_ENTRY_NESTING)
    {
        return Err(Unsendable::TooDeep);
    }
    if family.data().len() + key.data().len() + value.len() > MAX_ENTRY {
        return Err(Unsendable::TooLarge);
    }
    Ok(())
}

/// The maximum octets of a string in a packet: JSON escapes some octets.
#[inline]
pub(crate) fn string_sent(string: StrRef<'_>) -> usize {
    let data = string.data();
    STRING_HEAD
        + data.len()
        + data
            .iter()
            .map(|&octet| usize::from(EXTRA_JSON_OCTETS[usize::from(octet)]))
            .sum::<usize>()
}

/// The octets beyond the first that JSON needs for an octet of a string.
const EXTRA_JSON_OCTETS: [u8; 256] = {
    let mut besides = [0; 256];
    let mut octet = 0;
    while octet < besides.len() {
        besides[octet] = match octet {
            ..0x20 | 0x7f => ESCAPED_OCTET as u8 - 1,
            0x22 | 0x5c | 0x80.. => 1,
            _ => 0,
        };
        octet += 1;
    }
    besides
};

/// The maximum octets of a packed value in a packet.
#[inline]
pub(crate) fn value_sent(value: &[u8]) -> usize {
    match value.len() {
        0..=UNPARSED_LIMIT => NON_STRING_OCTET * value.len(),
        _ => long_value_sent(value),
    }
}

/// As [`value_sent`], for values that are not short.
fn long_value_sent(value: &[u8]) -> usize {
    let mut reader = Reader::new(value);
    let mut octets = 0;
    while !reader.is_done() {
        let before = reader.position();
        octets += match reader.item() {
            Ok(Item::Token(Token::Str(string))) => string_sent(string),
            Ok(_) => NON_STRING_OCTET * (reader.position() - before),
            Err(_) => NON_STRING_OCTET * reader.rest().len(),
        };
    }
    octets
}

/// The octets around a string in a packet: JSON's quotes, or Storable's flag and length.
const STRING_HEAD: usize = 6;

/// The octets of an escaped octet in JSON.
const ESCAPED_OCTET: usize = 6;

/// The maximum octets in a packet for a packed octet outside strings; tags in Storable need most.
const NON_STRING_OCTET: usize = 10;

/// Values up to this length are not parsed: all their octets count as those of tags.
const UNPARSED_LIMIT: usize = 22;

/// The maximum octets of a family in a packet, updated with each change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct FamilySize(usize);

impl FamilySize {
    /// The size of a family without entries.
    pub(crate) fn of(name: StrRef<'_>) -> Self {
        FamilySize(string_sent(name))
    }

    pub(crate) const fn octets(self) -> usize {
        self.0
    }

    /// A key is added.
    #[inline]
    pub(crate) fn add(&mut self, key: StrRef<'_>, value: &[u8]) {
        self.0 += string_sent(key) + value_sent(value);
    }

    /// The value of a key changes.
    #[inline]
    pub(crate) fn change(&mut self, before: &[u8], value: &[u8]) {
        self.0 = (self.0 + value_sent(value)).saturating_sub(value_sent(before));
    }

    /// A key is removed.
    #[inline]
    pub(crate) fn remove(&mut self, key: StrRef<'_>, value: &[u8]) {
        self.0 = self.0.saturating_sub(string_sent(key) + value_sent(value));
    }

    /// Counts an entry in place of the key's former value, if the family remains sendable or does not
    /// grow.
    pub(crate) fn try_set(
        &mut self,
        key: StrRef<'_>,
        before: Option<&[u8]>,
        value: &[u8],
    ) -> Result<(), Unsendable> {
        let mut after = *self;
        match before {
            Some(before) => after.change(before, value),
            None => after.add(key, value),
        }
        if after.0 > MAX_FAMILY && after.0 > self.0 {
            return Err(Unsendable::FamilyTooLarge);
        }
        *self = after;
        Ok(())
    }
}

/// An upper bound for the octets of a string in a packet, without reading the string.
#[inline]
pub(crate) const fn string_sent_at_most(string: StrRef<'_>) -> usize {
    STRING_HEAD + ESCAPED_OCTET * string.data().len()
}

/// An upper bound for the octets of an entry in a packet, without reading the entry.
#[inline]
pub(crate) const fn entry_sent_at_most(key: StrRef<'_>, value: &[u8]) -> usize {
    string_sent_at_most(key) + NON_STRING_OCTET * value.len()
}

#[cfg(test)]
#[path = "sendable_tests.rs"]
mod tests;
