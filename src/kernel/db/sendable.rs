//! Which entries the database takes: those that can be sent on, in every request that carries them.

use super::InternalFamily;
use crate::value::packed::{Item, Reader, Token, nesting};
use crate::value::{MAX_NESTING, StrRef};
use thiserror::Error;

/// Levels that a request has around a value: the packet, families, keys.
const LEVELS_AROUND: usize = 3;

/// Arrays, hashes and tags inside each other that a value of the database has at most.
pub const MAX_ENTRY_NESTING: usize = MAX_NESTING - LEVELS_AROUND;

/// Octets of family, key and value that an entry has at most: a packet may have 256 MiB, and JSON needs
/// up to six octets for one.
pub const MAX_ENTRY: usize = 32 << 20;

/// Octets of a family at most, name included, each string and value as in the framing that takes most for
/// it: a family is sent in one packet, to whoever monitors or asks for it, and a packet may have 256 MiB.
pub const MAX_FAMILY: usize = 255 << 20;

/// An entry that the database does not take, as it could not be sent to all nodes.
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
    /// The family is the protocol's own.
    #[error(transparent)]
    Internal(#[from] InternalFamily),
    /// The entry could not be sent.
    #[error(transparent)]
    Unsendable(#[from] Unsendable),
}

/// Whether an entry can be sent on; `value` is in packed form.
pub(crate) fn check(family: StrRef<'_>, key: StrRef<'_>, value: &[u8]) -> Result<(), Unsendable> {
    // Each level takes an octet.
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

/// Octets that a string takes in a packet, at most: JSON escapes octets.
#[inline]
pub(crate) fn string_sent(string: StrRef<'_>) -> usize {
    let data = string.data();
    HEAD + data.len()
        + data.iter().map(|&octet| usize::from(BESIDES[usize::from(octet)])).sum::<usize>()
}

/// How many octets more than one an octet of a string takes in JSON.
const BESIDES: [u8; 256] = {
    let mut besides = [0; 256];
    let mut octet = 0;
    while octet < besides.len() {
        besides[octet] = match octet {
            ..0x20 | 0x7f => ESCAPED as u8 - 1,
            0x22 | 0x5c | 0x80.. => 1,
            _ => 0,
        };
        octet += 1;
    }
    besides
};

/// Octets that a value in packed form takes in a packet, at most.
#[inline]
pub(crate) fn value_sent(value: &[u8]) -> usize {
    match value.len() {
        0..=SHORT => OTHERS * value.len(),
        _ => long_value_sent(value),
    }
}

/// As [`value_sent`] for the value of a long string at least.
fn long_value_sent(value: &[u8]) -> usize {
    let mut reader = Reader::new(value);
    let mut octets = 0;
    while !reader.is_done() {
        let before = reader.position();
        octets += match reader.item() {
            Ok(Item::Token(Token::Str(string))) => string_sent(string),
            Ok(_) => OTHERS * (reader.position() - before),
            Err(_) => OTHERS * reader.rest().len(),
        };
    }
    octets
}

/// Octets that stand around a string in a packet: JSON's quotes, Storable's flag and length.
const HEAD: usize = 6;

/// Octets of an escaped octet in JSON.
const ESCAPED: usize = 6;

/// Octets in a packet for each octet that is no string's: a tag in Storable takes most.
const OTHERS: usize = 10;

/// Values that are not looked at: all octets count as those of tags.
const SHORT: usize = 22;

/// How many octets a family takes in a packet, at most; kept up to date with each change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct FamilySize(usize);

impl FamilySize {
    /// Of a family without entries.
    pub(crate) fn of(name: StrRef<'_>) -> Self {
        FamilySize(string_sent(name))
    }

    pub(crate) const fn octets(self) -> usize {
        self.0
    }

    /// A key that was not there gets a value.
    #[inline]
    pub(crate) fn add(&mut self, key: StrRef<'_>, value: &[u8]) {
        self.0 += string_sent(key) + value_sent(value);
    }

    /// A key has another value.
    #[inline]
    pub(crate) fn change(&mut self, before: &[u8], value: &[u8]) {
        self.0 = (self.0 + value_sent(value)).saturating_sub(value_sent(before));
    }

    /// A key is there no more.
    #[inline]
    pub(crate) fn remove(&mut self, key: StrRef<'_>, value: &[u8]) {
        self.0 = self.0.saturating_sub(string_sent(key) + value_sent(value));
    }

    /// Counts an entry in place of what the key had, if that leaves the family sendable or no larger than
    /// it was.
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

/// No fewer octets than a string takes in a packet, without a look at it.
#[inline]
pub(crate) const fn string_sent_at_most(string: StrRef<'_>) -> usize {
    HEAD + ESCAPED * string.data().len()
}

/// No fewer octets than an entry takes in a packet, without a look at it.
#[inline]
pub(crate) const fn entry_sent_at_most(key: StrRef<'_>, value: &[u8]) -> usize {
    string_sent_at_most(key) + OTHERS * value.len()
}

#[cfg(test)]
#[path = "sendable_tests.rs"]
mod tests;
