//! Requests of peers to the database.

use super::Database;
use crate::kernel::db::effect::{DbEffect, DbProblem};
use crate::kernel::db::entries::Entries;
use crate::kernel::db::global::{Around, Question};
use crate::kernel::db::pieces::{KEYS_PER_PIECE, Piece, Replaces};
use crate::kernel::db::request::{Name, Request};
use crate::kernel::db::update::Update;
use crate::value::packed::Elements;
use crate::value::{NodeId, StrRef};
use std::time::Duration;

impl Database {
    /// Handles a request of a connected node; returns false if the database has no request of this name.
    ///
    /// A malformed request is not applied, and reported as [`DbEffect::Problem`].
    pub fn receive(
        &mut self,
        from: &NodeId,
        name: StrRef<'_>,
        arguments: Elements<'_>,
        now: Duration,
    ) -> bool {
        let Some(name) = Name::known(name) else {
            return false;
        };
        if self.refuses(from, name) {
            return true;
        }
        match Request::parse_known(name, arguments) {
            Ok(request) => {
                self.make_room_for(&request, now);
                self.handle(from, request, now);
            }
            Err(error) => self.problem(from, error.into()),
        }
        true
    }

    /// Refuses a request that only the master may send, if another node sends it: it is not even read.
    pub(crate) fn refuses(&mut self, from: &NodeId, name: Name) -> bool {
        let only_master = matches!(name, Name::Reply | Name::Found | Name::Family | Name::Changed);
        let is_refused = only_master && self.local.master() != Some(from);
        if is_refused {
            self.problem(from, DbProblem::NotFromMaster(name.as_str()));
        }
        is_refused
    }

    /// As [`Database::receive`], for the most frequent request: it sets a single key, and the sender is
    /// a known slave or global node. Returns false for all other requests. Requests of nodes that are
    /// not connected are ignored.
    pub(crate) fn receive_one(
        &mut self,
        from: &NodeId,
        request: Elements<'_>,
        now: Duration,
    ) -> bool {
        let mut reader = request.reader();
        let Some(name) = reader.take_str().and_then(Name::known) else { return false };
        let arguments = request.rest(1, reader.rest());
        match (name, &mut self.global) {
            (Name::Changed, _) if self.local.master() == Some(from) => {
                let Some(update) = Update::read(arguments) else { return false };
                self.local.changed(from, update, None, &mut self.effects);
            }
            (Name::Update, Some(global)) => {
                let Some(owner) = global.expected(from) else { return false };
                let Some(update) = Update::read(arguments) else { return false };
                let mut around = Around {
                    local: &mut self.local,
                    up: &self.up,
                    now,
                    piece: self.piece,
                    effects: &mut self.effects,
                };
                global.update_of(from, owner, update, &mut around);
            }
            _ => return false,
        }
        true
    }

    /// Deletes as much of what was replaced earlier as the request will replace, so that one request after
    /// another does not pile it up.
    fn make_room_for(&mut self, request: &Request, now: Duration) {
        if let Request::Slave(Some(tables)) | Request::Set(tables) = request {
            let keys: usize = tables.values().map(Entries::len).sum();
            let mut rounds = 1 + keys / KEYS_PER_PIECE;
            while rounds > 0 && self.is_giving_up() {
                self.give_up_some(now);
                rounds -= 1;
            }
        }
    }

    /// A request of a connected node.
    pub fn handle(&mut self, from: &NodeId, request: Request, now: Duration) {
        match request {
            Request::Global => {
                if *from != self.node && self.globals.insert(from.clone()) {
                    self.with_global(now, |global, around| global.global_is_up(from, around));
                }
            }
            Request::Found { .. }
            | Request::Reply { .. }
            | Request::Family { .. }
            | Request::Changed { .. } => {
                self.local.receive(from, request, now, &mut self.effects);
            }
            Request::Slave(_) => {
                self.become_global(now);
                self.with_global(now, |global, around| global.receive(from, request, around));
            }
            Request::Set(_)
            | Request::Update { .. }
            | Request::Find(_)
            | Request::Query { .. }
            | Request::Get { .. }
            | Request::Monitor(_)
            | Request::Unmonitor(_) => {
                if self.is_global() {
                    self.with_global(now, |global, around| global.receive(from, request, around));
                    return;
                }
                let request_name = request.name();
                self.problem(from, DbProblem::NotGlobal(request_name));
                // It was our slave when this node was global, and does not know yet that this node was
                // restarted.
                if !self.globals.contains(from)
                    && !matches!(request, Request::Set(_) | Request::Unmonitor(_))
                {
                    let node = from.clone();
                    self.effects.push(DbEffect::Orphan { node, request: request_name });
                }
            }
        }
    }

    /// The last question, if it is to be answered in parts: what is left of it.
    pub(crate) fn take_unfinished(&mut self) -> Option<Question> {
        self.global.as_mut()?.take_unfinished()
    }

    /// Goes on with a question of a connected node. Returns whether there is more to do.
    pub(crate) fn go_on_answering(
        &mut self,
        from: &NodeId,
        question: &mut Question,
        now: Duration,
    ) -> bool {
        let mut goes_on = false;
        self.with_global(now, |global, around| {
            goes_on = global.go_on_answering(from, question, around);
        });
        goes_on
    }

    /// Handles a piece of a request of a connected node; returns false if the rest of the request is to
    /// be skipped.
    pub(crate) fn handle_piece(&mut self, from: &NodeId, piece: Piece, now: Duration) -> bool {
        let mut goes_on = true;
        match piece {
            Piece::Request(request) => self.handle(from, request, now),
            Piece::Replace(what) => {
                if what == Replaces::OfSlave {
                    self.become_global(now);
                } else if !self.is_global() {
                    self.problem(from, DbProblem::NotGlobal("g_set"));
                    return false;
                }
                self.with_global(now, |global, around| {
                    goes_on = global.begin_to_replace(from, what, around);
                });
            }
            Piece::Entries(entries) => self.with_global(now, |global, around| {
                goes_on = global.add(from, entries, around);
            }),
            Piece::Replaced { what, located } => self.with_global(now, |global, around| {
                global.replaced(from, what, located, around);
            }),
        }
        goes_on
    }
}
