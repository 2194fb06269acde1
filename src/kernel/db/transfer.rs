//! The transfer of a whole database to another node, in pieces, since a database may be larger than a
//! packet.
//!
//! What is to be sent is looked up when its turn comes: a part of the families, a part of the keys of one
//! family, and their values. Changes made meanwhile are sent as they happen, so at the end the other node
//! has the current state.

use super::datum::Datum;
use super::entries::{Entries, Tables};
use super::{GLOBALS, LOCATIONS};
use crate::kernel::table::Cursor;
use crate::mutation::{self, Mutation};
use crate::value::Str;

/// The maximum octets of one piece in packed form, unless a single entry has more.
pub const PIECE_SIZE: usize = 1 << 20;

/// The maximum number of keys and families that are looked up for one piece, since each takes some time.
const MAX_NAMES: usize = 2048;

/// Octets counted for each key besides key and value, and for each family besides its name: the heads of
/// strings and hashes, and the packet of each family.
const OVERHEAD: usize = 32;

/// A database that is sent.
pub(super) trait Source {
    /// Some families, in no order, and moves the cursor behind them. More may follow even if there are
    /// none.
    fn families(&self, from: &mut Cursor) -> Vec<Str>;

    /// Some keys of a family, likewise.
    fn keys(&self, family: &Str, from: &mut Cursor) -> Vec<Str>;

    /// The value of a key, if it is to be sent.
    fn value(&self, family: &Str, key: &Str) -> Option<&Datum>;
}

/// What was not sent yet of a database.
#[derive(Debug)]
pub(crate) struct Transfer {
    /// Distinguishes this transfer from other ones to the same node.
    number: u64,
    /// Families that are sent before all others, the last first.
    first: Vec<Str>,
    families: Names,
    /// The family that has begun, and its keys.
    current: Option<(Str, Names)>,
}

impl Transfer {
    /// The internal families are sent first.
    pub(crate) fn new(number: u64) -> Self {
        let first = [LOCATIONS, GLOBALS].map(Str::text).to_vec();
        Transfer { number, first, families: Names::default(), current: None }
    }

    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    /// The next entries, up to `most` octets, and as many as are found among [`MAX_NAMES`].
    pub(crate) fn next(&mut self, most: usize, source: &impl Source) -> Tables {
        let mut piece = Tables::new();
        let mut octets = 0;
        let mut looked_up = 0;
        while octets < most && looked_up < MAX_NAMES {
            looked_up += 1;
            if self.current.is_none() && !self.begin_family(source) {
                break;
            }
            let Some((family, keys)) = &mut self.current else { continue };
            let mut entries = Entries::new();
            let mut is_full = false;
            while octets < most
                && looked_up < MAX_NAMES
                && let Some(key) = keys.first(|from| source.keys(family, from))
            {
                if let Some(value) = source.value(family, key) {
                    let name = if entries.is_empty() { cost(family, 0) } else { 0 };
                    let entry = name + cost(key, value.octets().len());
                    is_full = octets > 0 && octets + entry > most;
                    if is_full {
                        break;
                    }
                    octets += entry;
                    entries.insert(key.clone(), value.clone());
                }
                keys.take_first();
                looked_up += 1;
            }
            if !entries.is_empty() {
                piece.entry(family.clone()).or_default().extend(entries);
            }
            if keys.is_done() {
                self.current = None;
            }
            if is_full {
                break;
            }
        }
        piece
    }

    /// Looks for the next family. Returns whether there may be more.
    fn begin_family(&mut self, source: &impl Source) -> bool {
        let next = self.first.pop().or_else(|| {
            self.families.first(|from| source.families(from));
            self.families.take_first().filter(|family| *family != *LOCATIONS && *family != *GLOBALS)
        });
        self.current = next.map(|family| (family, Names::default()));
        self.current.is_some() || !self.families.is_done()
    }

    /// Whether everything was sent.
    pub(crate) fn is_done(&self) -> bool {
        (self.first.is_empty() && self.families.is_done() && self.current.is_none())
            || mutation::is_on(Mutation::SendOnlyTheFirstPiece)
    }
}

/// The names of a table, of which a part is looked up at a time.
#[derive(Debug, Default)]
struct Names {
    /// In descending order.
    found: Vec<Str>,
    from: Cursor,
}

impl Names {
    /// The next name. There may be more even if there is none now.
    fn first(&mut self, more: impl FnOnce(&mut Cursor) -> Vec<Str>) -> Option<&Str> {
        if self.found.is_empty() && !self.from.is_at_end() {
            self.found = more(&mut self.from);
            self.found.sort_unstable_by(|a, b| b.cmp(a));
        }
        self.found.last()
    }

    fn take_first(&mut self) -> Option<Str> {
        self.found.pop()
    }

    const fn is_done(&self) -> bool {
        self.found.is_empty() && self.from.is_at_end()
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
