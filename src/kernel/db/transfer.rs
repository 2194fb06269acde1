//! The transfer of a whole database to another node, in pieces, since a database may be larger than a
//! packet.
//!
//! Only the keys are recorded when it begins, and they are sorted as far as they are sent; values are read
//! when they are sent. Changes made meanwhile are sent as they happen, so at the end the other node has
//! the current state.

use super::datum::Datum;
use super::entries::{Entries, Tables};
use super::in_order::InOrder;
use super::is_internal;
use crate::mutation::{self, Mutation};
use crate::value::Str;

/// The maximum octets of one piece in packed form, unless a single entry has more.
pub const PIECE_SIZE: usize = 1 << 20;

/// The maximum number of keys in one piece, since each takes some time to look up.
const MAX_KEYS: usize = 4096;

/// Octets counted for each key besides key and value, and for each family besides its name: the heads of
/// strings and hashes, and the packet of each family.
const OVERHEAD: usize = 32;

/// The keys that were not sent yet.
#[derive(Debug)]
pub(crate) struct Transfer {
    /// Distinguishes this transfer from other ones to the same node.
    number: u64,
    /// Families that have not begun, internal ones first, with their keys in no order.
    families: InOrder<(IsUsual, Str, Vec<Str>)>,
    /// The family that has begun.
    current: Option<(Str, InOrder<Str>)>,
}

/// Whether a family is not an internal one.
type IsUsual = bool;

impl Transfer {
    /// A transfer of these families and keys, in any order; internal families are sent first.
    pub(crate) fn new(number: u64, families: Vec<(Str, Vec<Str>)>) -> Self {
        let families =
            families.into_iter().map(|(family, keys)| (!is_internal(&family), family, keys));
        Transfer { number, families: InOrder::new(families.collect()), current: None }
    }

    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    /// The next entries, up to `most` octets and [`MAX_KEYS`]. Keys for which `value_of` finds no value are skipped.
    pub(crate) fn next<'a>(
        &mut self,
        most: usize,
        value_of: impl Fn(&Str, &Str) -> Option<&'a Datum>,
    ) -> Tables {
        let mut piece = Tables::new();
        let mut octets = 0;
        let mut looked_up = 0;
        while let Some((family, keys)) = self.family() {
            let mut entries = Entries::new();
            while octets < most
                && looked_up < MAX_KEYS
                && let Some(key) = keys.first()
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
                keys.take_first();
                looked_up += 1;
            }
            if !entries.is_empty() {
                piece.insert(family.clone(), entries);
            }
            if !keys.is_empty() {
                break;
            }
            self.current = None;
        }
        piece
    }

    /// The family whose keys are sent next, and those that are left.
    fn family(&mut self) -> Option<&mut (Str, InOrder<Str>)> {
        if self.current.is_none() {
            let next = self.families.take_first();
            self.current = next.map(|(_, family, keys)| (family, InOrder::new(keys)));
        }
        self.current.as_mut()
    }

    /// Whether everything was sent.
    pub(crate) fn is_done(&self) -> bool {
        (self.families.is_empty() && self.current.is_none())
            || mutation::is_on(Mutation::SendOnlyTheFirstPiece)
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
