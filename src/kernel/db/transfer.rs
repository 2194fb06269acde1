//! The transfer of a whole database to another node, in pieces, since a database may be larger than a
//! packet.
//!
//! Only the keys are recorded when it begins; values are read when they are sent. Changes made meanwhile
//! are sent as they happen, so at the end the other node has the current state.

use super::datum::Datum;
use super::entries::{Entries, Tables};
use super::is_internal;
use crate::mutation::{self, Mutation};
use crate::value::Str;
use std::collections::VecDeque;
use std::vec;

/// The maximum octets of one piece in packed form, unless a single entry has more.
pub const PIECE_SIZE: usize = 1 << 20;

/// Octets counted for each key besides key and value, and for each family besides its name: the heads of
/// strings and hashes, and the packet of each family.
const OVERHEAD: usize = 32;

/// The keys that were not sent yet.
#[derive(Debug)]
pub(crate) struct Transfer {
    /// Distinguishes this transfer from other ones to the same node.
    number: u64,
    families: VecDeque<(Str, vec::IntoIter<Str>)>,
}

impl Transfer {
    /// A transfer of these families and keys; internal families are sent first.
    pub(crate) fn new(number: u64, mut families: Vec<(Str, Vec<Str>)>) -> Self {
        families.sort_by(|(a, _), (b, _)| (!is_internal(a), a).cmp(&(!is_internal(b), b)));
        let families = families.into_iter().map(|(family, keys)| (family, keys.into_iter()));
        Transfer { number, families: families.collect() }
    }

    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    /// The next entries, up to `most` octets. Keys for which `value_of` finds no value are skipped.
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

    /// Whether everything was sent.
    pub(crate) fn is_done(&self) -> bool {
        self.families.is_empty() || mutation::is_on(Mutation::SendOnlyTheFirstPiece)
    }
}

/// The octets that entries count for the size of a piece.
pub(crate) fn octets_of(tables: &Tables) -> usize {
    let entry = |(key, value): (&Str, &Datum)| cost(key, value.octets().len());
    let family = |(name, content): (&Str, &Entries)| {
        cost(name, 0) + content.iter().map(entry).sum::<usize>()
    };
    tables.iter().map(family).sum()
}

/// The octets that a key or the name of a family counts, with `besides` octets of its value.
pub(super) fn cost(name: &Str, besides: usize) -> usize {
    OVERHEAD + name.as_ref().data().len() + besides
}

#[cfg(test)]
#[path = "transfer_tests.rs"]
mod tests;
