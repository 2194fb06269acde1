//! The slave side: a node's own entries, its queries, lookups and monitors, and its master
//! (docs/protocol.md §5.1).

mod family;
mod master;
mod query;
mod slow;

pub use family::DbMonitorId;
pub use query::{DbAnswer, DbResult, QueryError, QueryId};

use super::datum::Datum;
use super::effect::{ChangeSet, DbEffect, DbProblem};
use super::entries::{Entries, Tables};
use super::held::HeldBack;
use super::is_internal;
use super::losses::Losses;
use super::request::{QueryKind, Request};
use super::sendable::{FamilySize, Unsendable};
use super::transfer::Transfer;
use super::update::{Sets, Update, Value};
use crate::kernel::HashMap;
use crate::kernel::letters::query_id;
use crate::kernel::table::{Place, Table};
use crate::value::{NodeId, PortId, Str};
use family::{Family, FamilyState, in_order};
use query::{Query, Wanted};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// The family is one of the protocol's internal families, which cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("family {family} is internal: it can be read, but not written")]
pub struct InternalFamily {
    /// The family.
    pub family: Str,
}

/// What a timer of the slave side is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum LocalTimer {
    Query(QueryId),
    Find(NodeId),
    Missing(Str),
}

/// The timeouts of the slave side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DbTimeouts {
    /// How long queries and lookups wait for a master.
    pub(crate) without_master: Duration,
    /// How long keys that a new master does not have are kept before they are reported as deleted.
    pub(crate) grace: Duration,
}

/// The own entries of one family.
#[derive(Debug)]
struct OwnFamily {
    entries: Table<Str, Datum>,
    size: FamilySize,
}

impl OwnFamily {
    fn set(&mut self, key: &Str, value: &Datum) -> Result<bool, Unsendable> {
        match self.entries.place(key) {
            Place::Occupied(held) if held.get().1.perl_eq(value) => return Ok(false),
            Place::Occupied(mut slot) => {
                let held = &mut slot.get_mut().1;
                let before = Some(Value::Held(held));
                self.size.try_set(key.as_ref(), before, Value::Held(value))?;
                *held = value.clone();
            }
            Place::Vacant(slot) => {
                self.size.try_set(key.as_ref(), None, Value::Held(value))?;
                slot.insert(key.clone(), value.clone());
            }
        }
        Ok(true)
    }

    fn remove(&mut self, key: &Str) -> bool {
        let value = self.entries.remove(key);
        value.inspect(|value| self.size.remove(key.as_ref(), Value::Held(value))).is_some()
    }
}

/// A node's own entries, and its requests to the master.
#[derive(Debug)]
pub(crate) struct Local {
    patience: DbTimeouts,
    losses: Losses,
    /// When the last master was lost; `None` if it was replaced by another one.
    lost_master: Option<Duration>,
    own: Table<Str, OwnFamily>,
    /// In the form in which it is the recipient of requests.
    master: Option<Arc<[NodeId; 1]>>,
    /// Whether it supports the request `g_get`.
    master_knows_get: bool,
    /// The part of our database that the master has not got yet. Requests are sent only afterwards,
    /// since the answers would lack our own entries.
    transfer: Option<Transfer>,
    /// Changes of our entries that are held back while the master's connection has no room.
    held: Option<HeldBack>,
    last_transfer: u64,
    queries: BTreeMap<QueryId, Query>,
    by_wire_id: BTreeMap<Str, QueryId>,
    finds: BTreeMap<NodeId, Duration>,
    families: HashMap<Str, Family>,
    monitors: BTreeMap<DbMonitorId, Str>,
    due: BTreeSet<(Duration, LocalTimer)>,
    last_query: u64,
    last_monitor: u64,
}

impl Local {
    pub(crate) fn new(patience: DbTimeouts) -> Self {
        Local {
            patience,
            losses: Losses::default(),
            lost_master: None,
            own: Table::default(),
            master: None,
            master_knows_get: false,
            transfer: None,
            held: None,
            last_transfer: 0,
            queries: BTreeMap::new(),
            by_wire_id: BTreeMap::new(),
            finds: BTreeMap::new(),
            families: HashMap::default(),
            monitors: BTreeMap::new(),
            due: BTreeSet::new(),
            last_query: 0,
            last_monitor: 0,
        }
    }

    pub(crate) const fn grace(&self) -> Duration {
        self.patience.grace
    }

    pub(crate) const fn losses(&self) -> &Losses {
        &self.losses
    }

    pub(crate) const fn losses_mut(&mut self) -> &mut Losses {
        &mut self.losses
    }

    pub(crate) fn outstanding(&self) -> (usize, usize, usize) {
        (self.queries.len(), self.finds.len(), self.families.len())
    }

    pub(crate) fn own(&self) -> Tables {
        let families = self.own.iter();
        families.map(|(family, own)| (family.clone(), in_order(&own.entries))).collect()
    }

    /// The own keys of a family, in order.
    pub(crate) fn own_keys(&self, family: &str) -> Vec<Str> {
        let keys = self.own.get(&Str::text(family)).map(|own| own.entries.keys().cloned());
        let mut keys: Vec<Str> = keys.into_iter().flatten().collect();
        keys.sort_unstable();
        keys
    }

    /// Sets an own entry. Returns whether the master, if there is one, has to be told.
    ///
    /// # Errors
    /// With the entry, the own entries of the family would not fit into one packet.
    pub(crate) fn set(
        &mut self,
        family: &Str,
        key: &Str,
        value: &Datum,
    ) -> Result<bool, Unsendable> {
        self.note_if_new(family, key);
        let own = match self.own.get_mut(family) {
            Some(own) => own,
            None => {
                let size = FamilySize::of(family.as_ref());
                self.own.add(family.clone(), OwnFamily { entries: Table::default(), size })
            }
        };
        let is_new = own.set(key, value);
        if own.entries.is_empty() {
            self.own.remove(family);
        }
        is_new
    }

    /// Deletes own entries, and returns their keys; the master, if there is one, has to be told.
    pub(crate) fn delete(&mut self, family: &Str, keys: impl IntoIterator<Item = Str>) -> Vec<Str> {
        let Some(own) = self.own.get_mut(family) else { return Vec::new() };
        let deleted: Vec<_> = keys.into_iter().filter(|key| own.remove(key)).collect();
        if own.entries.is_empty() {
            self.own.remove(family);
        }
        deleted
    }

    pub(crate) fn refuse_internal(family: &Str) -> Result<(), InternalFamily> {
        if is_internal(family) {
            return Err(InternalFamily { family: family.clone() });
        }
        Ok(())
    }

    pub(crate) fn query(
        &mut self,
        kind: QueryKind,
        family: Str,
        now: Duration,
    ) -> (QueryId, Request) {
        self.ask(Wanted::Whole(kind), family, now)
    }

    pub(crate) fn get(&mut self, family: Str, key: Str, now: Duration) -> (QueryId, Request) {
        self.ask(Wanted::key(&family, key), family, now)
    }

    fn ask(&mut self, wanted: Wanted, family: Str, now: Duration) -> (QueryId, Request) {
        self.last_query += 1;
        let id = QueryId(self.last_query);
        let wire_id = query_id(self.last_query);
        let query = Query { family, wanted, wire_id: wire_id.clone() };
        let request = query.request(self.master_knows_get);
        self.by_wire_id.insert(wire_id, id);
        self.queries.insert(id, query);
        self.wait_for_master(LocalTimer::Query(id), now);
        (id, request)
    }

    /// Cancels a query.
    pub(crate) fn cancel(&mut self, id: QueryId) {
        self.take_query(id);
    }

    fn take_query(&mut self, id: QueryId) -> Option<Query> {
        let query = self.queries.remove(&id)?;
        self.by_wire_id.remove(&query.wire_id);
        Some(query)
    }

    /// Looks up a node's addresses; returns no request if a lookup is pending.
    pub(crate) fn find(&mut self, node: NodeId, now: Duration) -> Option<Request> {
        if self.finds.contains_key(&node) {
            return None;
        }
        self.finds.insert(node.clone(), now);
        self.wait_for_master(LocalTimer::Find(node.clone()), now);
        Some(Request::Find(node))
    }

    pub(crate) fn cancel_find(&mut self, node: &NodeId) {
        self.finds.remove(node);
    }

    fn wait_for_master(&mut self, what: LocalTimer, now: Duration) {
        if self.master.is_none() {
            self.due.insert((now + self.patience.without_master, what));
        }
    }

    /// Monitors a family. The first monitor causes the request; others get the known content at once.
    pub(crate) fn monitor(
        &mut self,
        family: Str,
        effects: &mut Vec<DbEffect>,
    ) -> (DbMonitorId, Option<Request>) {
        self.last_monitor += 1;
        let id = DbMonitorId(self.last_monitor);
        self.monitors.insert(id, family.clone());
        if let Some(known) = self.families.get_mut(&family) {
            known.monitors.insert(id);
            if known.knowledge != FamilyState::None {
                let added = in_order(&known.content);
                let changes = ChangeSet { family, initial: true, added, ..ChangeSet::default() };
                effects.push(DbEffect::Changed { monitor: id, changes });
            }
            return (id, None);
        }
        let new = Family {
            monitors: [id].into(),
            content: Table::default(),
            knowledge: FamilyState::None,
            missing: BTreeSet::new(),
            missing_until: Duration::ZERO,
        };
        self.families.insert(family.clone(), new);
        (id, Some(Request::Monitor(family)))
    }

    /// Ends a monitor; the last one causes the request.
    pub(crate) fn unmonitor(&mut self, id: DbMonitorId) -> Option<Request> {
        let name = self.monitors.remove(&id)?;
        let family = self.families.get_mut(&name)?;
        family.monitors.remove(&id);
        if !family.monitors.is_empty() {
            return None;
        }
        self.families.remove(&name);
        Some(Request::Unmonitor(name))
    }

    /// The monitored families in order.
    pub(crate) fn monitored(&self) -> impl Iterator<Item = &Str> {
        let mut families: Vec<_> = self.families.keys().collect();
        families.sort_unstable();
        families.into_iter()
    }

    /// When [`Local::expire`] has to be called next.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Ends queries and lookups that have timed out.
    pub(crate) fn expire(&mut self, now: Duration, effects: &mut Vec<DbEffect>) {
        while self.deadline().is_some_and(|at| at <= now) {
            let Some((at, what)) = self.due.pop_first() else {
                return;
            };
            match what {
                LocalTimer::Query(query) => {
                    if self.take_query(query).is_some() {
                        let answer = Err(QueryError::NoMaster);
                        effects.push(DbEffect::Answer { query, answer });
                    }
                }
                LocalTimer::Find(node) => {
                    let asked = self.finds.get(&node);
                    if asked.is_some_and(|&asked| asked + self.patience.without_master <= at) {
                        self.finds.remove(&node);
                        effects.push(DbEffect::Found { node, addresses: None });
                    }
                }
                LocalTimer::Missing(name) => {
                    if let Some(family) = self.families.get_mut(&name)
                        && family.missing_until <= now
                    {
                        let mut changes = family.changes(&name);
                        changes.deleted = std::mem::take(&mut family.missing)
                            .into_iter()
                            .filter(|key| family.content.remove(key).is_some())
                            .collect();
                        family.report(changes, effects);
                    }
                }
            }
        }
    }

    /// Handles a change of a family, which only the master may send. With `keep_until`, deleted keys are
    /// missing until then: another node may still have them.
    pub(crate) fn changed(
        &mut self,
        from: &NodeId,
        update: Update<'_>,
        keep_until: Option<Duration>,
        effects: &mut Vec<DbEffect>,
    ) {
        if self.master() != Some(from) {
            return not_from_master(from, "g_chg2", effects);
        }
        if let Some((name, family)) = self.families.get_key_value_mut(&update.family.string())
            // Changes that arrive before the whole content are included in it.
            && family.knowledge == FamilyState::Full
        {
            let deleted = match keep_until {
                Some(until) if !update.delete.is_empty() => {
                    family.miss(update.delete);
                    family.missing_until = until;
                    self.due.insert((until, LocalTimer::Missing(name.clone())));
                    &[]
                }
                _ => update.delete,
            };
            let changes = family.change(name, update.set, deleted);
            family.report(changes, effects);
        }
    }

    /// The connection to a node is lost: missing keys that are its ports are reported as deleted.
    pub(crate) fn node_lost(&mut self, node: &NodeId, now: Duration, effects: &mut Vec<DbEffect>) {
        self.losses.add(node, now);
        let waiting = self.families.iter().filter(|(_, family)| !family.missing.is_empty());
        let mut waiting: Vec<Str> = waiting.map(|(name, _)| name.clone()).collect();
        waiting.sort_unstable();
        for name in waiting {
            if let Some(family) = self.families.get_mut(&name) {
                let gone = family.missing_ports_of(node);
                let changes = family.change(&name, Sets::None, &gone);
                family.report(changes, effects);
            }
        }
    }

    /// Handles a request that only the master may send.
    pub(crate) fn receive(
        &mut self,
        from: &NodeId,
        request: Request,
        now: Duration,
        effects: &mut Vec<DbEffect>,
    ) {
        if self.master() != Some(from) {
            return not_from_master(from, request.name(), effects);
        }
        match request {
            Request::Reply { id, result } => {
                let id = id.to_str().and_then(|id| self.by_wire_id.get(&id).copied());
                if let Some(id) = id
                    && let Some(query) = self.take_query(id)
                {
                    let answer = query.answer(&result);
                    effects.push(DbEffect::Answer { query: id, answer });
                }
            }
            Request::Found { node, addresses } => self.found(node, addresses, effects),
            Request::Family { family, content } => {
                self.whole_family(family, content.unwrap_or_default(), now, effects);
            }
            Request::Changed { family, mut set, mut delete } => {
                self.changed(from, Update::of(&family, &mut set, &mut delete), None, effects);
            }
            _ => {}
        }
    }

    /// Reports the addresses of a node to a lookup and to queries of its key.
    fn found(&mut self, node: NodeId, addresses: Option<Vec<Str>>, effects: &mut Vec<DbEffect>) {
        let asks = |query: &Query| matches!(&query.wanted, Wanted::Location(of) if *of == node);
        let asking = self.queries.iter().filter(|(_, query)| asks(query));
        let asking: Vec<QueryId> = asking.map(|(id, _)| *id).collect();
        for query in asking {
            self.take_query(query);
            let value = addresses.as_deref().map(Datum::strings);
            effects.push(DbEffect::Answer { query, answer: Ok(DbResult::Value(value)) });
        }
        if self.finds.remove(&node).is_some() {
            effects.push(DbEffect::Found { node, addresses });
        }
    }

    fn whole_family(
        &mut self,
        name: Str,
        content: Entries,
        now: Duration,
        effects: &mut Vec<DbEffect>,
    ) {
        let Some(family) = self.families.get_mut(&name) else {
            return;
        };
        let before = std::mem::replace(&mut family.knowledge, FamilyState::Full);
        if before == FamilyState::None {
            family.content = content.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
            let changes =
                ChangeSet { family: name, initial: true, added: content, ..ChangeSet::default() };
            family.report(changes, effects);
            return;
        }
        let mut absent: Vec<Str> =
            family.content.keys().filter(|key| !content.contains(key)).cloned().collect();
        absent.sort();
        let (gone, waiting): (Vec<Str>, Vec<Str>) =
            absent.into_iter().partition(|key| match before {
                FamilyState::Full => !family.missing.contains(key),
                _ => self.lost_master.is_some_and(|then| is_port_of_lost(key, &self.losses, then)),
            });
        let changes = if self.patience.grace.is_zero() {
            let gone: Vec<Str> = gone.into_iter().chain(waiting).collect();
            family.change(&name, Sets::Many(&content), &gone)
        } else {
            if before == FamilyState::Old && !waiting.is_empty() {
                family.missing_until = now + self.patience.grace;
                self.due.insert((family.missing_until, LocalTimer::Missing(name.clone())));
            }
            let changes = family.change(&name, Sets::Many(&content), &gone);
            family.missing = waiting.into_iter().collect();
            changes
        };
        family.report(changes, effects);
    }
}

fn not_from_master(from: &NodeId, request: &'static str, effects: &mut Vec<DbEffect>) {
    let problem = DbProblem::NotFromMaster(request);
    effects.push(DbEffect::Problem { from: from.clone(), problem });
}

/// Whether a key is the ID of a node that was lost at the same time as the master, at time `then`, or of
/// a port on such a node.
fn is_port_of_lost(key: &Str, losses: &Losses, then: Duration) -> bool {
    PortId::parse(key.clone()).is_ok_and(|port| losses.contains(&port.node(), then))
}

#[cfg(test)]
mod tests;
