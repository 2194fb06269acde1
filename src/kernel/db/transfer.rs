//! A whole database on its way to another node in pieces, since no packet may be as large as a database.
//!
//! Only the keys are noted when it begins; values are read when they are sent. What changes meanwhile is
//! sent as it changes, so that at the end the other node has the state of that moment.

use super::datum::Datum;
use super::entries::{Entries, Tables};
use super::is_internal;
use crate::mutation::{self, Mutation};
use crate::value::Str;
use std::collections::VecDeque;
use std::vec;

/// Octets of packed form that one piece of a database has at most, unless a single entry has more.
pub const PIECE: usize = 1 << 20;

/// Octets that a key costs besides itself and its value, and a family besides its name: the heads of
/// strings and hashes, and the packet of each family.
const BESIDES: usize = 32;

/// The keys that have not been sent yet.
#[derive(Debug)]
pub(crate) struct Transfer {
    /// Tells it from others to the same node, earlier and later ones.
    number: u64,
    families: VecDeque<(Str, vec::IntoIter<Str>)>,
}

impl Transfer {
    /// Of these families and keys: the protocol's own families go first.
    pub(crate) fn new(number: u64, mut families: Vec<(Str, Vec<Str>)>) -> Self {
        families.sort_by(|(a, _), (b, _)| (!is_internal(a), a).cmp(&(!is_internal(b), b)));
        let families = families.into_iter().map(|(family, keys)| (family, keys.into_iter()));
        Transfer { number, families: families.collect() }
    }

    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    /// Takes what comes next: entries that `value_of` still finds, up to `most` octets.
    pub(crate) fn next<'a>(
        &mut self,
        most: usize,
        value_of: impl Fn(&Str, &Str) -> Option<&'a Datum>,
    ) -> Tables {
        let mut piece = Tables::new();
        let mut octets = 0;
        while let Some((family, keys)) = self.families.front_mut() {
            let mut entries = Entries::new();
            while octets < most
                && let Some(key) = keys.as_slice().first()
            {
                if let Some(value) = value_of(family, key) {
                    let name = if entries.is_empty() { cost(family, 0) } else { 0 };
                    let entry = name + cost(key, value.octets().len());
                    if octets > 0 && octets + entry > most {
                        break;
                    }
                    octets += entry;
                    entries.insert(key.clone(), value.clone());
                }
                keys.next();
            }
            if !entries.is_empty() {
                piece.insert(family.clone(), entries);
            }
            if keys.len() > 0 {
                break;
            }
            self.families.pop_front();
        }
        piece
    }

    /// Whether there is nothing left to send.
    pub(crate) fn is_done(&self) -> bool {
        self.families.is_empty() || mutation::is_on(Mutation::SendOnlyTheFirstPiece)
    }
}

/// Octets of entries, as they count for a piece.
pub(crate) fn octets_of(tables: &Tables) -> usize {
    let entry = |(key, value): (&Str, &Datum)| cost(key, value.octets().len());
    let family = |(name, content): (&Str, &Entries)| {
        cost(name, 0) + content.iter().map(entry).sum::<usize>()
    };
    tables.iter().map(family).sum()
}

/// Octets of a key or the name of a family, and of what comes with it.
pub(super) fn cost(name: &Str, besides: usize) -> usize {
    BESIDES + name.as_ref().data().len() + besides
}

#[cfg(test)]
#[path = "transfer_tests.rs"]
mod tests;
