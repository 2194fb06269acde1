//! Division of large requests into pieces, each of a bounded amount of work.
//!
//! What is sent to other nodes for a piece is what would be sent for a smaller request. A request that
//! this node answers, or that replaces a whole family at once, is not divided.

use super::entries::{Entries, IntoIter, Tables};
use super::request::Request;
use super::{LOCATIONS, node_key};
use crate::value::{NodeId, Str};
use std::collections::btree_map;
use std::vec;

/// The maximum number of keys that one piece sets or deletes.
pub(crate) const KEYS_PER_PIECE: usize = 1000;

/// The maximum octets of values that one piece sets, unless a single value has more.
const OCTETS_PER_PIECE: usize = 64 << 10;

/// A part of the work of a request.
#[derive(Debug)]
pub(crate) enum Piece {
    /// A complete request.
    Request(Request),
    /// The sender begins to send a new database; its former entries stay until [`Piece::Replaced`].
    Replace(Replaces),
    /// Entries of the new database.
    Entries(Vec<(Str, Entries)>),
    /// The new database is complete.
    Replaced {
        /// The database that it replaces.
        what: Replaces,
        /// Whether it has the sender's addresses.
        located: bool,
    },
}

/// The kind of database that a request replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replaces {
    /// A slave's: `g_slave`.
    OfSlave,
    /// That of another global node's slaves: `g_set`.
    OfGlobal,
}

/// The rest of a request.
#[derive(Debug)]
pub(crate) struct Pieces {
    begin: Option<Piece>,
    sets: Sets,
    deletes: Option<(Changes, Str, vec::IntoIter<Str>)>,
    end: Option<Piece>,
}

#[derive(Debug)]
enum Sets {
    None,
    OfFamily(Changes, Str, IntoIter),
    OfTables { families: btree_map::IntoIter<Str, Entries>, current: Option<(Str, IntoIter)> },
}

/// The request that a change of one family belongs to.
#[derive(Debug, Clone, Copy)]
enum Changes {
    /// `g_upd`
    Update,
    /// `g_chg2`
    Changed,
}

impl Changes {
    fn piece(self, family: &Str, set: Entries, delete: Vec<Str>) -> Piece {
        let family = family.clone();
        Piece::Request(match self {
            Changes::Update => Request::Update { family, set: Some(set), delete: Some(delete) },
            Changes::Changed => Request::Changed { family, set, delete },
        })
    }
}

impl Pieces {
    /// Divides a request of `from`.
    pub(crate) fn of(from: &NodeId, request: Request) -> Self {
        match request {
            Request::Update { family, set, delete } => Pieces::of_changes(
                Changes::Update,
                &family,
                set.unwrap_or_default(),
                delete.unwrap_or_default(),
            ),
            Request::Changed { family, set, delete } => {
                Pieces::of_changes(Changes::Changed, &family, set, delete)
            }
            Request::Slave(Some(tables)) => Pieces::of_tables(from, Replaces::OfSlave, tables),
            Request::Set(tables) => Pieces::of_tables(from, Replaces::OfGlobal, tables),
            whole => Pieces {
                begin: Some(Piece::Request(whole)),
                sets: Sets::None,
                deletes: None,
                end: None,
            },
        }
    }

    fn of_changes(changes: Changes, family: &Str, set: Entries, delete: Vec<Str>) -> Self {
        Pieces {
            begin: None,
            sets: Sets::OfFamily(changes, family.clone(), set.into_iter()),
            deletes: Some((changes, family.clone(), delete.into_iter())),
            end: None,
        }
    }

    fn of_tables(from: &NodeId, what: Replaces, tables: Tables) -> Self {
        let locations = tables.get(&Str::text(LOCATIONS));
        let located = locations.is_some_and(|entries| entries.contains(&node_key(from)));
        Pieces {
            begin: Some(Piece::Replace(what)),
            sets: Sets::OfTables { families: tables.into_iter(), current: None },
            deletes: None,
            end: Some(Piece::Replaced { what, located }),
        }
    }
}

impl Iterator for Pieces {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        if let Some(begin) = self.begin.take() {
            return Some(begin);
        }
        if let Some(sets) = self.sets.next() {
            return Some(sets);
        }
        if let Some((changes, family, keys)) = &mut self.deletes {
            let some: Vec<Str> = keys.by_ref().take(KEYS_PER_PIECE).collect();
            if !some.is_empty() {
                return Some(changes.piece(family, Entries::new(), some));
            }
        }
        self.end.take()
    }
}

impl Sets {
    fn next(&mut self) -> Option<Piece> {
        let mut room = Room { keys: KEYS_PER_PIECE, octets: OCTETS_PER_PIECE };
        match self {
            Sets::None => None,
            Sets::OfFamily(changes, family, entries) => {
                let some = room.fill(entries);
                (!some.is_empty()).then(|| changes.piece(family, some, Vec::new()))
            }
            Sets::OfTables { families, current } => {
                let mut piece = Vec::new();
                while room.is_left() {
                    let (family, mut entries) = match current.take() {
                        Some(begun) => begun,
                        None => match families.next() {
                            Some((family, entries)) => (family, entries.into_iter()),
                            None => break,
                        },
                    };
                    let some = room.fill(&mut entries);
                    if !some.is_empty() {
                        piece.push((family.clone(), some));
                    }
                    // An empty family counts as one key of work.
                    room.keys = room.keys.saturating_sub(1);
                    if entries.len() > 0 {
                        *current = Some((family, entries));
                    }
                }
                // Families without entries are work too.
                (room.keys < KEYS_PER_PIECE).then_some(Piece::Entries(piece))
            }
        }
    }
}

/// The remaining capacity of a piece.
struct Room {
    keys: usize,
    octets: usize,
}

impl Room {
    const fn is_left(&self) -> bool {
        self.keys > 0 && self.octets > 0
    }

    fn fill(&mut self, entries: &mut IntoIter) -> Entries {
        let mut some = Entries::new();
        while self.is_left() {
            let Some((key, value)) = entries.next() else { break };
            self.keys -= 1;
            let octets = key.as_ref().data().len() + value.octets().len();
            self.octets = self.octets.saturating_sub(octets);
            some.insert(key, value);
        }
        some
    }
}

#[cfg(test)]
#[path = "pieces_tests.rs"]
mod tests;
