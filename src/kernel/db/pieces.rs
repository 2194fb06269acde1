//! Division of large requests into pieces, each of a bounded amount of work. What is left of a request
//! stays in the octets of its packet until the piece that needs it.
//!
//! What is sent to other nodes for a piece is what would be sent for a smaller request. A request that
//! replaces a whole family at once is not divided; how questions are answered in parts, `Question` says.

use super::arguments::{Arguments, Divided, MalformedRequest};
use super::entries::Entries;
use super::node_key;
use super::request::{Name, Request};
use super::unread::Unread;
use crate::value::{NodeId, Packed, Str};

/// The maximum number of keys that one piece sets or deletes.
pub(crate) const KEYS_PER_PIECE: usize = 400;

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
    /// The request's arguments.
    arguments: Packed,
    begin: Option<Piece>,
    sets: Sets,
    deletes: Option<(Changes, Str, Unread)>,
    end: Option<Piece>,
}

#[derive(Debug)]
enum Sets {
    None,
    OfFamily(Changes, Str, Unread),
    OfTables { families: Unread, current: Option<(Str, Unread)> },
}

/// The request that a change of one family belongs to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Changes {
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
    /// Divides the request `name` of `from`. It is checked as a whole: nothing of a malformed one is
    /// applied.
    pub(crate) fn read(
        from: &NodeId,
        name: Name,
        arguments: Packed,
    ) -> Result<Self, MalformedRequest> {
        let own = node_key(from);
        let divided = Arguments::new(name, arguments.as_elements()).divide(own.as_ref())?;
        let (begin, sets, deletes, end) = match divided {
            Divided::Whole(whole) => (Some(Piece::Request(whole)), Sets::None, None, None),
            Divided::Tables { what, families, located } => (
                Some(Piece::Replace(what)),
                Sets::OfTables { families, current: None },
                None,
                Some(Piece::Replaced { what, located }),
            ),
            Divided::Changes { changes, family, set, delete } => {
                let deletes = Some((changes, family.clone(), delete));
                (None, Sets::OfFamily(changes, family, set), deletes, None)
            }
        };
        Ok(Pieces { arguments, begin, sets, deletes, end })
    }

    /// Divides a request of `from`.
    #[cfg(test)]
    pub(crate) fn of(from: &NodeId, request: impl std::borrow::Borrow<Request>) -> Self {
        let packet = request.borrow().to_packet();
        let request = packet.as_elements().after(1);
        let name = request.first_str().and_then(Name::known).expect("a name");
        Pieces::read(from, name, request.after(1).to_packed()).expect("well formed")
    }
}

impl Iterator for Pieces {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        if let Some(begin) = self.begin.take() {
            return Some(begin);
        }
        let octets = self.arguments.as_elements().octets();
        if let Some(sets) = self.sets.next(octets) {
            return Some(sets);
        }
        if let Some((changes, family, keys)) = &mut self.deletes {
            let mut some = Vec::new();
            while some.len() < KEYS_PER_PIECE
                && let Some(key) = keys.next_string(octets)
            {
                some.push(key);
            }
            if !some.is_empty() {
                return Some(changes.piece(family, Entries::new(), some));
            }
        }
        self.end.take()
    }
}

impl Sets {
    fn next(&mut self, octets: &[u8]) -> Option<Piece> {
        let mut room = Room::new(OCTETS_PER_PIECE);
        match self {
            Sets::None => None,
            Sets::OfFamily(changes, family, entries) => {
                let some = room.fill(entries, octets);
                (!some.is_empty()).then(|| changes.piece(family, some, Vec::new()))
            }
            Sets::OfTables { families, current } => {
                let mut piece = Vec::new();
                while room.is_left() {
                    let next = current.take().or_else(|| families.next_family(octets));
                    let Some((family, mut entries)) = next else { break };
                    let some = room.fill(&mut entries, octets);
                    if !some.is_empty() {
                        piece.push((family.clone(), some));
                    }
                    // An empty family counts as one key of work.
                    room.take(0);
                    match entries.is_empty() {
                        true => families.go_on_after(entries),
                        false => *current = Some((family, entries)),
                    }
                }
                // Families without entries are work too.
                (room.keys < KEYS_PER_PIECE).then_some(Piece::Entries(piece))
            }
        }
    }
}

/// The remaining capacity of a piece.
pub(super) struct Room {
    keys: usize,
    octets: usize,
}

impl Room {
    /// Room for [`KEYS_PER_PIECE`] keys, and for these octets and one key more.
    pub(super) const fn new(octets: usize) -> Self {
        Room { keys: KEYS_PER_PIECE, octets }
    }

    pub(super) const fn is_left(&self) -> bool {
        self.keys > 0 && self.octets > 0
    }

    /// Takes the room of a key, with these octets.
    pub(super) const fn take(&mut self, octets: usize) {
        self.keys = self.keys.saturating_sub(1);
        self.octets = self.octets.saturating_sub(octets);
    }

    fn fill(&mut self, entries: &mut Unread, octets: &[u8]) -> Entries {
        let mut some = Entries::new();
        while self.is_left() {
            let Some((key, value)) = entries.next_entry(octets) else { break };
            self.take(key.as_ref().data().len() + value.octets().len());
            some.insert(key, value);
        }
        some
    }
}

#[cfg(test)]
#[path = "pieces_tests.rs"]
mod tests;
