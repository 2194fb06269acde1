//! A change of one family, borrowed from a packet or from the owner of its parts. All updates, of this
//! node and of others, pass through the database in this form.

use super::datum::Datum;
use super::entries::Entries;
use super::is_internal;
use super::request::{Name, put_strings};
use super::sendable::{self, Unsendable};
use crate::value::packed::{self, Count, Elements, Token, head_len, string_len};
use crate::value::{Packed, Str, StrRef};
use std::collections::BTreeSet;

/// The keys of a family to set and to delete; no key is in both.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Update<'a> {
    pub(crate) family: Key<'a>,
    pub(crate) set: Sets<'a>,
    pub(crate) delete: &'a [Str],
}

/// The keys to set, with their values.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Sets<'a> {
    None,
    /// The most frequent case: one key, and its value in packed form.
    One(Key<'a>, &'a [u8]),
    Many(&'a Entries),
}

/// A string, borrowed from a packet or from an existing `Str` whose octets a copy can share.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Key<'a> {
    Borrowed(StrRef<'a>),
    Held(&'a Str),
}

impl<'a> Key<'a> {
    #[inline]
    pub(crate) fn string(self) -> StrRef<'a> {
        match self {
            Key::Borrowed(string) => string,
            Key::Held(string) => string.as_ref(),
        }
    }

    #[inline]
    pub(crate) fn to_str(self) -> Str {
        match self {
            Key::Borrowed(string) => string.to_owned(),
            Key::Held(string) => string.clone(),
        }
    }
}

/// A value, borrowed from a packet or from an existing `Datum`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value<'a> {
    Octets(&'a [u8]),
    Held(&'a Datum),
}

impl Value<'_> {
    #[inline]
    pub(crate) fn to_datum(self) -> Datum {
        match self {
            Value::Octets(octets) => Datum::trusted(octets),
            Value::Held(datum) => datum.clone(),
        }
    }

    #[inline]
    pub(crate) fn octets(&self) -> &[u8] {
        match self {
            Value::Octets(octets) => octets,
            Value::Held(datum) => datum.octets(),
        }
    }
}

impl<'a> Sets<'a> {
    pub(crate) fn len(self) -> usize {
        match self {
            Sets::None => 0,
            Sets::One(..) => 1,
            Sets::Many(entries) => entries.len(),
        }
    }

    pub(crate) fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Calls `act` with each key, in order of keys.
    #[inline(always)]
    pub(crate) fn each(self, mut act: impl FnMut(Key<'a>, Value<'a>)) {
        match self {
            Sets::None => {}
            Sets::One(key, value) => act(key, Value::Octets(value)),
            Sets::Many(entries) => {
                entries.iter().for_each(|(key, value)| act(Key::Held(key), Value::Held(value)));
            }
        }
    }

    /// The entries of both.
    #[inline]
    pub(crate) fn and(self, others: [&Entries; 2]) -> Option<Entries> {
        if others.iter().all(|more| more.is_empty()) {
            return None;
        }
        let mut all = Entries::new();
        self.each(|key, value| {
            all.insert(key.to_str(), value.to_datum());
        });
        others.into_iter().for_each(|more| all.extend(more.clone()));
        Some(all)
    }

    /// The entries without these keys; `None` if there is nothing to leave out.
    pub(crate) fn without(self, keys: &BTreeSet<Str>) -> Option<Entries> {
        if keys.is_empty() {
            return None;
        }
        let mut rest = Entries::new();
        self.each(|key, value| {
            let key = key.to_str();
            if !keys.contains(&key) {
                rest.insert(key, value.to_datum());
            }
        });
        Some(rest)
    }

    /// The octets of a packed hash of the entries.
    fn packed_len(self) -> usize {
        let mut octets = head_len(self.len());
        self.each(|key, value| octets += string_len(key.string()) + value.octets().len());
        octets
    }
}

impl<'a> Update<'a> {
    /// The arguments of `g_upd` or `g_chg2` in the packet, if they only set one key of a family that is
    /// not internal.
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
        if !none_deleted || is_internal(family) {
            return None;
        }
        let set = Sets::One(Key::Borrowed(key), value);
        Some(Update { family: Key::Borrowed(family), set, delete: &[] })
    }

    /// An update of parts that may overlap or repeat keys. A key in both is only deleted, which has the
    /// same result.
    pub(crate) fn of(family: &'a Str, set: &'a mut Entries, delete: &'a mut Vec<Str>) -> Self {
        if delete.len() > 1 {
            let mut seen = BTreeSet::new();
            delete.retain(|key| seen.insert(key.clone()));
        }
        if !set.is_empty() {
            delete.iter().for_each(|key| {
                set.remove(key);
            });
        }
        Update { family: Key::Held(family), set: Sets::Many(set), delete }
    }

    /// Checks that all entries to set can be sent on.
    pub(crate) fn check(self) -> Result<(), Unsendable> {
        let family = self.family.string();
        let mut checked = Ok(());
        self.set.each(|key, value| {
            checked = checked.and_then(|()| sendable::check(family, key.string(), value));
        });
        checked
    }

    /// The packet to a node port in which a global node sends the update.
    pub(crate) fn to_packet(self, name: Name) -> Packed {
        self.packet(name, true, true)
    }

    /// The packet to a node port in which a slave sends the update to its master: what is empty is left
    /// out.
    pub(crate) fn to_packet_of_slave(self) -> Packed {
        self.packet(Name::Update, !self.set.is_empty(), !self.delete.is_empty())
    }

    fn packet(self, name: Name, with_set: bool, with_deletions: bool) -> Packed {
        let (name, family) = (StrRef::octets(name.as_str().as_bytes()), self.family.string());
        let mut len = 1 + string_len(name) + string_len(family) + self.set.packed_len();
        if with_deletions {
            len += head_len(self.delete.len());
            len += self.delete.iter().map(|key| string_len(key.as_ref())).sum::<usize>();
        }
        // The exact size: with less, the octets would have to be moved again.
        let mut octets = Vec::with_capacity(len);
        packed::put_octets(&mut octets, b"");
        packed::put_str(&mut octets, name);
        packed::put_str(&mut octets, family);
        match with_set {
            true => packed::put_hash(&mut octets, self.set.len()),
            false => packed::put_undef(&mut octets),
        }
        let mut plain = true;
        self.set.each(|key, value| {
            packed::put_str(&mut octets, key.string());
            octets.extend_from_slice(value.octets());
            plain &= packed::is_scalar(value.octets());
        });
        if with_deletions {
            put_strings(&mut octets, self.delete);
        }
        let len = 4 + usize::from(with_deletions);
        // A scalar without a tag needs no search of the packet for our own tags.
        let count = if plain { Count::plain(len) } else { Count::of(len) };
        Packed::counted(count, octets.into())
    }
}

#[cfg(test)]
#[path = "update_tests.rs"]
mod tests;
