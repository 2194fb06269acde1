//! Limits of database entries: an entry is accepted only if it can be sent on in every request that
//! carries it.

use super::InternalFamily;
use super::update::Value;
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

/// What decides whether a value can be sent on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Measures {
    /// The maximum octets of the value in a packet.
    sent: usize,
    is_too_deep: bool,
}

impl Measures {
    /// The measures of a value in packed form.
    pub(crate) fn of(value: &[u8]) -> Self {
        Measures { sent: value_sent(value), is_too_deep: is_too_deep(value) }
    }

    /// The number of octets of [`Measures::to_octets`].
    pub(crate) const OCTETS: usize = 8;

    /// The measures as octets, which [`Measures::from_end_of`] reads.
    pub(crate) const fn to_octets(self) -> [u8; Self::OCTETS] {
        ((self.sent as u64) << 1 | self.is_too_deep as u64).to_le_bytes()
    }

    /// The measures behind a value.
    pub(crate) fn from_end_of(octets: &[u8]) -> Option<Self> {
        let number = u64::from_le_bytes(*octets.last_chunk()?);
        Some(Measures { sent: (number >> 1) as usize, is_too_deep: number & 1 == 1 })
    }
}

#[inline]
fn is_too_deep(value: &[u8]) -> bool {
    // Each level takes at least one octet.
    value.len() > MAX_ENTRY_NESTING && nesting(value).is_ok_and(|levels| levels > MAX_ENTRY_NESTING)
}

impl Value<'_> {
    #[inline]
    fn sent(self) -> usize {
        self.large().map_or_else(|| value_sent(self.octets()), |measures| measures.sent)
    }

    #[inline]
    fn is_too_deep(self) -> bool {
        self.large().map_or_else(|| is_too_deep(self.octets()), |measures| measures.is_too_deep)
    }

    /// The measures of a large value.
    #[inline]
    fn large(self) -> Option<Measures> {
        match self {
            Value::Held(datum) => datum.measures_of_large(),
            Value::Octets(_) => None,
        }
    }
}

/// Whether an entry can be sent on.
#[inline]
pub(crate) fn check(
    family: StrRef<'_>,
    key: StrRef<'_>,
    value: Value<'_>,
) -> Result<(), Unsendable> {
    if value.is_too_deep() {
        return Err(Unsendable::TooDeep);
    }
    if family.data().len() + key.data().len() + value.octets().len() > MAX_ENTRY {
        return Err(Unsendable::TooLarge);
    }
    Ok(())
}

/// The maximum octets of a string in a packet: JSON escapes some octets.
#[inline]
pub(crate) fn string_sent(string: StrRef<'_>) -> usize {
    let data = string.data();
    STRING_HEAD + data.len() + extra_json_octets(data)
}

/// So few octets that the sum of what they need fits into an octet, and enough for the compiler to add them
/// all at once.
const AT_ONCE: usize = 32;

/// The octets beyond the first that JSON needs for each octet of a string.
#[inline]
fn extra_json_octets(data: &[u8]) -> usize {
    if data.len() < AT_ONCE { extra_of_few(data) } else { extra_of_many(data) }
}

#[inline]
fn extra_of_few(data: &[u8]) -> usize {
    data.iter().map(|&octet| usize::from(EXTRA_JSON_OCTETS[usize::from(octet)])).sum()
}

#[inline(never)]
fn extra_of_many(data: &[u8]) -> usize {
    let chunks = data.chunks_exact(AT_ONCE);
    let rest = extra_of_few(chunks.remainder());
    let sum = |chunk: &[u8]| chunk.iter().fold(0_u8, |sum, &octet| sum.wrapping_add(extra(octet)));
    rest + chunks.map(|chunk| usize::from(sum(chunk))).sum::<usize>()
}

/// The octets beyond the first that JSON needs for an octet of a string, computed without branches.
#[inline]
const fn extra(octet: u8) -> u8 {
    let is_control = (octet < 0x20) as u8 | (octet == 0x7f) as u8;
    let is_quoted = (octet == b'"') as u8 | (octet == b'\\') as u8 | (octet >= 0x80) as u8;
    (ESCAPED_OCTET as u8 - 1) * is_control + is_quoted
}

/// The results of [`extra`].
const EXTRA_JSON_OCTETS: [u8; 256] = {
    let mut besides = [0; 256];
    let mut octet = 0;
    while octet < besides.len() {
        besides[octet] = extra(octet as u8);
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
    pub(crate) fn add(&mut self, key: StrRef<'_>, value: Value<'_>) {
        self.0 += string_sent(key) + value.sent();
    }

    /// The value of a key changes.
    #[inline]
    pub(crate) fn change(&mut self, before: Value<'_>, value: Value<'_>) {
        self.0 = (self.0 + value.sent()).saturating_sub(before.sent());
    }

    /// A key is removed.
    #[inline]
    pub(crate) fn remove(&mut self, key: StrRef<'_>, value: Value<'_>) {
        self.0 = self.0.saturating_sub(string_sent(key) + value.sent());
    }

    /// Counts an entry in place of the key's former value, if the family remains sendable or does not
    /// grow.
    pub(crate) fn try_set(
        &mut self,
        key: StrRef<'_>,
        before: Option<Value<'_>>,
        value: Value<'_>,
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
