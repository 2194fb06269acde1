//! A slave's master: what is sent to it when it is adopted, and what is kept for the next one when it is
//! lost.

use super::family::FamilyState;
use super::{Local, LocalTimer, OwnFamily};
use crate::kernel::db::datum::Datum;
use crate::kernel::db::effect::DbEffect;
use crate::kernel::db::held::Knows;
use crate::kernel::db::request::Request;
use crate::kernel::db::transfer::{Source, Transfer};
use crate::kernel::db::update::Update;
use crate::kernel::table::{Cursor, Table};
use crate::mutation::{self, Mutation};
use crate::value::{NodeId, Str};
use std::sync::Arc;
use std::time::Duration;

impl Local {
    pub(crate) fn master(&self) -> Option<&NodeId> {
        self.master.as_deref().map(|[master]| master)
    }

    fn to_master(&self) -> Option<Arc<[NodeId]>> {
        self.master.clone().map(|master| master as Arc<[NodeId]>)
    }

    /// Adopts a master: it gets our whole database, in pieces of this many octets, and then all pending
    /// requests.
    pub(crate) fn adopt(&mut self, master: NodeId, knows_get: bool, piece: usize) -> Vec<Request> {
        if self.master.is_some() {
            self.lost_master = None;
        }
        self.forget_master();
        self.due.clear();
        self.master = Some(Arc::new([master]));
        self.master_knows_get = knows_get;
        let mut transfer = Transfer::new(self.new_transfer());
        let first = transfer.next(piece, &self.own);
        let mut requests = vec![Request::Slave(Some(first))];
        requests.extend(self.go_on_later(transfer));
        requests
    }

    /// A node that becomes global adopts itself: there is no connection whose room it could wait for.
    pub(crate) fn adopt_itself(&mut self, own: &NodeId) -> Vec<Request> {
        let mut requests = self.adopt(own.clone(), true, usize::MAX);
        while self.transfer.is_some() {
            requests.extend(self.go_on(usize::MAX));
        }
        requests
    }

    /// The number of a new transfer.
    pub(crate) fn new_transfer(&mut self) -> u64 {
        self.last_transfer += 1;
        self.last_transfer
    }

    /// Sends requests to the master, and asks for room for the next piece of our database.
    pub(crate) fn send_all(&mut self, requests: Vec<Request>, effects: &mut Vec<DbEffect>) {
        requests.iter().for_each(|request| self.send(request, effects));
        if let (Some(master), Some(transfer)) = (self.master(), &self.transfer) {
            let (node, number) = (master.clone(), transfer.number());
            effects.push(DbEffect::AwaitRoom { node, number });
        }
    }

    /// Sends a request to the master. Changes that are held back come first, unless it is a part of our
    /// database itself.
    fn send(&mut self, request: &Request, effects: &mut Vec<DbEffect>) {
        if !matches!(request, Request::Slave(_) | Request::Update { .. })
            && !mutation::is_on(Mutation::OvertakeChangesWithoutRoom)
        {
            self.flush(effects);
        }
        if let Some(to) = self.to_master() {
            effects.push(DbEffect::Send { to, packet: request.to_packet() });
        }
    }

    /// Sends a request that is not a change to the master, if it has got our whole database. Otherwise
    /// the request follows the last piece.
    pub(crate) fn ask_master(&mut self, request: &Request, effects: &mut Vec<DbEffect>) {
        if self.transfer.is_none() {
            self.send(request, effects);
        }
    }

    /// Tells the master, if there is one, of a change of our entries: at once, or when its connection has
    /// room.
    pub(crate) fn tell_master(&mut self, update: Update<'_>, effects: &mut Vec<DbEffect>) {
        if let Some(held) = &mut self.held {
            held.note_all(Knows::Master, update);
        } else if let Some(to) = self.to_master() {
            effects.push(DbEffect::Send { to, packet: update.to_packet_of_slave() });
        }
    }

    /// The master's connection has room for the next piece of our database, or for changes that were held
    /// back.
    pub(crate) fn has_room(&mut self, number: u64, piece: usize, effects: &mut Vec<DbEffect>) {
        if self.transfer.as_ref().is_none_or(|transfer| transfer.number() != number) {
            return self.has_room_again(number, piece, effects);
        }
        let requests = self.go_on(piece);
        self.send_all(requests, effects);
    }

    /// The next piece of our database for the master; after the last one, the pending requests.
    fn go_on(&mut self, piece: usize) -> Vec<Request> {
        let Some(mut transfer) = self.transfer.take() else { return Vec::new() };
        let next = transfer.next(piece, &self.own);
        if let Some(held) = &mut self.held {
            held.were_sent(Knows::Master, &next);
        }
        let mut requests: Vec<_> = next
            .into_iter()
            .map(|(family, set)| Request::Update { family, set: Some(set), delete: None })
            .collect();
        requests.extend(self.go_on_later(transfer));
        requests
    }

    /// The pending requests, if the transfer is complete; keeps the transfer otherwise.
    fn go_on_later(&mut self, transfer: Transfer) -> Vec<Request> {
        let mut requests = Vec::new();
        if !transfer.is_done() {
            self.transfer = Some(transfer);
            return requests;
        }
        if !mutation::is_on(Mutation::RepeatNoQueries) {
            let knows_get = self.master_knows_get;
            requests.extend(self.queries.values().map(|query| query.request(knows_get)));
        }
        requests.extend(self.finds.keys().cloned().map(Request::Find));
        if !mutation::is_on(Mutation::TellNoMasterOfMonitors) {
            requests.extend(self.monitored().cloned().map(Request::Monitor));
        }
        requests
    }

    /// The master is lost; pending requests are kept for the next one.
    pub(crate) fn lost_master(&mut self, now: Duration) {
        if self.master.is_none() {
            return;
        }
        self.lost_master = Some(now);
        self.forget_master();
        let until = now + self.patience.without_master;
        let queries = self.queries.keys().copied().map(LocalTimer::Query);
        let finds = self.finds.keys().cloned().map(LocalTimer::Find);
        let queries = queries.filter(|_| !mutation::is_on(Mutation::QueryForEver));
        self.due = queries.chain(finds).map(|what| (until, what)).collect();
        self.finds.values_mut().for_each(|asked| *asked = now);
    }

    fn forget_master(&mut self) {
        self.master = None;
        self.transfer = None;
        // The next master gets our whole database.
        self.held = None;
        for family in self.families.values_mut() {
            // Without a master no key can be deleted: missing keys are kept until the next master has
            // answered.
            family.missing.clear();
            if family.knowledge == FamilyState::Full {
                family.knowledge = FamilyState::Old;
            }
        }
    }
}

/// A node's own entries, for its master.
impl Source for Table<Str, OwnFamily> {
    fn families(&self, from: &mut Cursor) -> Vec<Str> {
        self.next_leaf(from).map(|(family, _)| family.clone()).collect()
    }

    fn keys(&self, family: &Str, from: &mut Cursor) -> Vec<Str> {
        let Some(own) = self.get(family) else {
            *from = Cursor::END;
            return Vec::new();
        };
        own.entries.next_leaf(from).map(|(key, _)| key.clone()).collect()
    }

    fn value(&self, family: &Str, key: &Str) -> Option<&Datum> {
        self.get(family)?.entries.get(key)
    }
}
