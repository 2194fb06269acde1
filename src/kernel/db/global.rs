//! The global side: slaves, other global nodes, subscribers, and who is told what (docs/protocol.md §5.2).

use super::datum::Datum;
use super::effect::{DbEffect, DbProblem};
use super::entries::{Entries, Tables};
use super::local::Local;
use super::merge::{Change, Merge, OwnerKind};
use super::pieces::Replaces;
use super::request::{Name, QueryKind, Request};
use super::single::{Deletions, SetOne};
use super::{GLOBALS, LOCATIONS, node_key, node_of};
use crate::kernel::HashMap;
use crate::kernel::limits::PeerLimits;
use crate::mutation::{self, Mutation};
use crate::value::{NodeId, Str, packed};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// What the global side needs of its node while it handles one input.
pub(crate) struct Around<'a> {
    pub(crate) local: &'a mut Local,
    pub(crate) up: &'a BTreeSet<NodeId>,
    pub(crate) now: Duration,
    pub(crate) effects: &'a mut Vec<DbEffect>,
}

impl Around<'_> {
    /// Sends a request to some nodes; what is for ourselves takes no detour.
    fn send(&mut self, own: &NodeId, to: Recipients, request: Request) {
        if !to.others.is_empty() {
            self.effects.push(DbEffect::Send { to: to.others, packet: request.to_packet() });
        }
        if to.ourselves {
            self.local.receive(own, request, self.now, self.effects);
        }
    }

    /// Sends a request to one node, which may be this one.
    fn reply(&mut self, own: &NodeId, to: &NodeId, request: Request) {
        let ourselves = to == own;
        let others = if ourselves { Arc::default() } else { [to.clone()].into() };
        self.send(own, Recipients { others, ourselves }, request);
    }

    fn problem(&mut self, from: &NodeId, problem: DbProblem) {
        self.effects.push(DbEffect::Problem { from: from.clone(), problem });
    }
}

/// Whom a request is sent to.
#[derive(Debug, Clone, Default)]
struct Recipients {
    /// Connected nodes.
    others: Arc<[NodeId]>,
    ourselves: bool,
}

impl Recipients {
    fn of(own: &NodeId, nodes: &BTreeSet<NodeId>) -> Self {
        let ourselves = nodes.contains(own);
        let others = nodes.iter().filter(|node| *node != own).cloned().collect();
        Recipients { others, ourselves }
    }
}

/// Who is told of changes.
#[derive(Debug, Default)]
struct Audience {
    nodes: BTreeSet<NodeId>,
    /// The same, as changes are sent to them; made when there is a change.
    recipients: Option<Recipients>,
}

impl Audience {
    fn insert(&mut self, node: &NodeId) {
        if self.nodes.insert(node.clone()) {
            self.recipients = None;
        }
    }

    fn remove(&mut self, node: &NodeId) {
        if self.nodes.remove(node) {
            self.recipients = None;
        }
    }

    fn contains(&self, node: &NodeId) -> bool {
        self.nodes.contains(node)
    }

    /// The same list each time until somebody comes or goes.
    fn recipients(&mut self, own: &NodeId) -> Recipients {
        self.recipients.get_or_insert_with(|| Recipients::of(own, &self.nodes)).clone()
    }
}

/// The families that a node subscribed to.
#[derive(Debug, Default)]
struct Subscriptions {
    families: BTreeSet<Str>,
    octets: usize,
}

/// What a subscription costs.
fn subscription_octets(family: &Str) -> usize {
    const BESIDES: usize = 256;
    BESIDES + family.as_ref().data().len()
}

/// Global nodes to which connections are kept; no network has more.
const MOST_GLOBALS: usize = 1000;

/// The whole database, as a global node keeps it.
#[derive(Debug)]
pub struct Global {
    own: NodeId,
    merge: Merge,
    /// Global nodes that have our slaves' databases and get every change of them.
    peers: Audience,
    subscribers: HashMap<Str, Audience>,
    subscriptions: BTreeMap<NodeId, Subscriptions>,
    limits: PeerLimits,
    kept: BTreeSet<NodeId>,
}

impl Global {
    pub(crate) fn new(own: NodeId, limits: PeerLimits) -> Self {
        let mut merge = Merge::new();
        merge.set_kind(&own, OwnerKind::Slave);
        Global {
            own,
            merge,
            peers: Audience::default(),
            subscribers: HashMap::default(),
            subscriptions: BTreeMap::new(),
            limits,
            kept: BTreeSet::new(),
        }
    }

    pub(crate) fn set_limits(&mut self, limits: PeerLimits) {
        self.limits = limits;
    }

    /// Octets that are kept for peers, besides their entries.
    pub(crate) fn octets_for_peers(&self) -> usize {
        self.subscriptions.values().map(|subscriptions| subscriptions.octets).sum()
    }

    /// Everything, merged.
    pub fn merge(&self) -> &Merge {
        &self.merge
    }

    /// The nodes of which something is kept: entries, subscriptions, or that they are global.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeId> {
        let known = self.merge.owners().chain(&self.peers.nodes);
        known.chain(self.subscriptions.keys()).chain(&self.kept)
    }

    /// Whether a node has sent us its database as its master.
    pub fn is_slave(&self, node: &NodeId) -> bool {
        self.merge.kind(node) == Some(OwnerKind::Slave)
    }

    /// How many subscribers a family has.
    pub fn subscribers(&self, family: &Str) -> usize {
        self.subscribers.get(family).map_or(0, |subscribers| subscribers.nodes.len())
    }

    /// Where a node can be reached, as far as anybody knows.
    pub fn location(&self, node: &NodeId) -> Option<Vec<Str>> {
        self.merge.get(&Str::text(LOCATIONS), &node_key(node))?.to_strings()
    }

    /// Nodes that announced where `node` can be reached: itself as our slave, and other global
    /// nodes.
    pub fn announcers(&self, node: &NodeId) -> Vec<NodeId> {
        self.merge.holders(&Str::text(LOCATIONS), &node_key(node)).cloned().collect()
    }

    /// A request of a connected node, or of this one.
    pub(crate) fn receive(&mut self, from: &NodeId, request: Request, around: &mut Around<'_>) {
        if *from != self.own
            && self.merge.kind(from).is_none_or(|kind| kind == OwnerKind::Other)
            && matches!(
                request,
                Request::Update { .. }
                    | Request::Find(_)
                    | Request::Monitor(_)
                    | Request::Query { .. }
            )
        {
            let request = request.name();
            around.effects.push(DbEffect::Orphan { node: from.clone(), request });
        }
        match request {
            Request::Slave(Some(tables)) => self.slave(from, tables, around),
            Request::Set(tables) => self.peer_database(from, tables, around),
            Request::Update { family, set, delete } => {
                let set = set.unwrap_or_default();
                self.update(from, family, set, delete.unwrap_or_default(), around);
            }
            Request::Find(node) => {
                let addresses = self.location(&node);
                around.reply(&self.own, from, Request::Found { node, addresses });
            }
            Request::Query { kind, family, id } => {
                let result = self.query(kind, &family);
                around.reply(&self.own, from, Request::Reply { id, result });
            }
            Request::Monitor(family) => {
                if !self.subscribe(from, &family) {
                    return around.problem(from, DbProblem::TooMuch("g_mon1", "peer_limit"));
                }
                let content: Entries = self
                    .merge
                    .family(&family)
                    .map(|(key, value)| (key.clone(), value.clone()))
                    .collect();
                let content = (!content.is_empty()).then_some(content);
                around.reply(&self.own, from, Request::Family { family, content });
            }
            Request::Unmonitor(family) => {
                self.unsubscribe(from, &family);
                if let Some(subscriptions) = self.subscriptions.get_mut(from) {
                    if subscriptions.families.remove(&family) {
                        subscriptions.octets -= subscription_octets(&family);
                    }
                    if subscriptions.families.is_empty() {
                        self.subscriptions.remove(from);
                    }
                }
            }
            _ => {}
        }
    }

    /// As [`Global::receive`] of an update that sets one key; false if that has more to do.
    pub(crate) fn set_one(
        &mut self,
        from: &NodeId,
        one: SetOne<'_>,
        around: &mut Around<'_>,
    ) -> bool {
        let kind = match self.merge.set_one(from, one, self.limits.database) {
            None | Some(OwnerKind::Other) => return false,
            Some(kind) => kind,
        };
        if kind == OwnerKind::Slave && !self.peers.nodes.is_empty() {
            let to = self.peers.recipients(&self.own).others;
            let packet = one.to_packet(Name::Update, Deletions::Empty);
            around.effects.push(DbEffect::Send { to, packet });
        }
        if let Some(subscribers) = self.subscribers.get_mut(&one.family) {
            let Recipients { others: to, ourselves } = subscribers.recipients(&self.own);
            if !to.is_empty() {
                let packet = one.to_packet(Name::Changed, Deletions::Empty);
                around.effects.push(DbEffect::Send { to, packet });
            }
            if ourselves {
                around.local.set_one(&self.own, one, around.effects);
            }
        }
        true
    }

    fn query(&self, kind: QueryKind, family: &Str) -> Datum {
        let len = self.merge.family_len(family);
        let entries = self.merge.family(family);
        Datum::build(|out| match kind {
            QueryKind::Family => {
                packed::put_hash(out, len);
                for (key, value) in entries {
                    packed::put_str(out, key.as_ref());
                    out.extend_from_slice(value.octets());
                }
            }
            QueryKind::Keys => {
                packed::put_array(out, len);
                entries.for_each(|(key, _)| packed::put_str(out, key.as_ref()));
            }
            QueryKind::Values => {
                packed::put_array(out, len);
                entries.for_each(|(_, value)| out.extend_from_slice(value.octets()));
            }
        })
    }

    fn slave(&mut self, from: &NodeId, tables: Tables, around: &mut Around<'_>) {
        if self.merge.kind(from) == Some(OwnerKind::Global) {
            // What it told as a global node stands for its slaves too.
            return around.problem(from, DbProblem::FromGlobal("g_slave"));
        }
        self.merge.set_kind(from, OwnerKind::Slave);
        self.replace(from, tables, around);
        self.look_for_other_masters(from, around);
    }

    /// A slave's database may have been long on the way: meanwhile it may have another master.
    fn look_for_other_masters(&self, from: &NodeId, around: &mut Around<'_>) {
        let other = self.announcers(from).into_iter().find(|node| self.peers.contains(node));
        if let Some(other) = other {
            around.effects.push(DbEffect::Conflict { node: from.clone(), other });
        }
    }

    fn peer_database(&mut self, from: &NodeId, tables: Tables, around: &mut Around<'_>) {
        if *from == self.own || self.is_slave(from) {
            return around.problem(from, DbProblem::NotFromGlobal("g_set"));
        }
        if !self.peers.contains(from) {
            around.problem(from, DbProblem::NotFromGlobal("g_set"));
            return self.replace(from, tables, around);
        }
        let locations = tables.get(&Str::text(LOCATIONS)).cloned().unwrap_or_default();
        self.look_for_conflicts(from, &locations, around);
        self.replace(from, tables, around);
        self.mirror_location(from, locations.get(&node_key(from)), around);
    }

    /// As [`Global::receive`] of a request that replaces a database, in pieces: the first of them.
    /// False if that is refused.
    pub(crate) fn begin_to_replace(
        &mut self,
        from: &NodeId,
        what: Replaces,
        around: &mut Around<'_>,
    ) -> bool {
        match what {
            Replaces::OfSlave if self.merge.kind(from) == Some(OwnerKind::Global) => {
                around.problem(from, DbProblem::FromGlobal("g_slave"));
                return false;
            }
            Replaces::OfGlobal if *from == self.own || self.is_slave(from) => {
                around.problem(from, DbProblem::NotFromGlobal("g_set"));
                return false;
            }
            Replaces::OfGlobal if !self.peers.contains(from) => {
                around.problem(from, DbProblem::NotFromGlobal("g_set"));
            }
            Replaces::OfSlave | Replaces::OfGlobal => {}
        }
        self.merge.begin_to_replace(from);
        if what == Replaces::OfSlave {
            self.merge.set_kind(from, OwnerKind::Slave);
        }
        true
    }

    /// Entries of a new database; false if nobody expects any, as the node was dropped meanwhile.
    pub(crate) fn add(
        &mut self,
        from: &NodeId,
        entries: Vec<(Str, Entries)>,
        around: &mut Around<'_>,
    ) -> bool {
        if !self.merge.is_being_replaced(from) {
            return false;
        }
        for (family, set) in entries {
            self.update(from, family, set, Vec::new(), around);
        }
        true
    }

    /// The new database is complete.
    pub(crate) fn replaced(
        &mut self,
        from: &NodeId,
        what: Replaces,
        located: bool,
        around: &mut Around<'_>,
    ) {
        if !self.merge.is_being_replaced(from) {
            return;
        }
        self.merge.replaced(from);
        match what {
            Replaces::OfSlave => self.look_for_other_masters(from, around),
            Replaces::OfGlobal if !located && self.peers.contains(from) => {
                self.mirror_location(from, None, around);
            }
            Replaces::OfGlobal => {}
        }
    }

    /// Whether there is something to do for [`Global::give_up_some`].
    pub(crate) fn is_giving_up(&self) -> bool {
        self.merge.is_giving_up()
    }

    /// Deletes some of what nodes had that are lost or have a new database.
    pub(crate) fn give_up_some(&mut self, around: &mut Around<'_>) {
        for change in self.merge.give_up_some() {
            self.announce(change, around);
        }
    }

    fn update(
        &mut self,
        from: &NodeId,
        family: Str,
        mut set: Entries,
        delete: Vec<Str>,
        around: &mut Around<'_>,
    ) {
        if *from != self.own
            && !set.is_empty()
            && self.merge.octets_of(from) >= self.limits.database
        {
            around.problem(from, DbProblem::TooMuch("g_upd", "database_limit"));
            set = Entries::new();
        }
        let is_location_of_peer = family == *LOCATIONS && self.peers.contains(from);
        let own_location = is_location_of_peer.then(|| {
            self.look_for_conflicts(from, &set, around);
            (set.get(&node_key(from)).cloned(), delete.contains(&node_key(from)))
        });
        let change = self.merge.update(from, family, set, delete);
        self.announce(change, around);
        match own_location {
            Some((_, true)) => self.mirror_location(from, None, around),
            Some((Some(location), false)) => {
                self.mirror_location(from, Some(&location), around);
            }
            _ => {}
        }
    }

    fn replace(&mut self, node: &NodeId, tables: Tables, around: &mut Around<'_>) {
        for change in self.merge.replace(node, tables) {
            self.announce(change, around);
        }
    }

    /// We tell our slaves' friends too where another global node is: so global nodes find each
    /// other.
    fn mirror_location(
        &mut self,
        peer: &NodeId,
        location: Option<&Datum>,
        around: &mut Around<'_>,
    ) {
        match location.filter(|location| location.to_strings().is_some()) {
            Some(location) => self.set_own(LOCATIONS, peer, location.clone(), around),
            None => self.delete_own(LOCATIONS, peer, around),
        }
    }

    fn look_for_conflicts(&self, from: &NodeId, locations: &Entries, around: &mut Around<'_>) {
        for (key, value) in locations {
            if let Some(node) = node_of(key)
                && node != self.own
                && self.is_slave(&node)
                && value.to_strings().is_some()
            {
                around.effects.push(DbEffect::Conflict { node, other: from.clone() });
            }
        }
    }

    /// Tells everybody who has to know of a change.
    fn announce(&mut self, change: Change, around: &mut Around<'_>) {
        let tell_subscribers = change.tell_subscribers();
        let Change {
            family,
            mut set,
            set_for_subscribers,
            set_for_globals,
            deletions_for_subscribers: deleted,
            deletions_for_globals,
            tell_globals,
        } = change;
        if tell_globals && !self.peers.nodes.is_empty() {
            let peers = self.peers.recipients(&self.own);
            let mut set = set.clone();
            set.extend(set_for_globals);
            let update = Request::Update {
                family: family.clone(),
                set: Some(set),
                delete: Some(deletions_for_globals)
                    .filter(|_| !mutation::is_on(Mutation::TellNoGlobalOfDeletions)),
            };
            around.send(&self.own, peers, update);
        }
        if !tell_subscribers {
            return;
        }
        set.extend(set_for_subscribers);
        if family == *GLOBALS {
            self.keep_connections(&set, &deleted, around);
        } else if family == *LOCATIONS {
            self.notice_locations(&set, &deleted, around);
        }
        if let Some(subscribers) = self.subscribers.get_mut(&family) {
            let recipients = subscribers.recipients(&self.own);
            let untold = usize::from(mutation::is_on(Mutation::TellNoSubscriberOfDeletions));
            let delete = deleted.into_iter().skip(untold).collect();
            let changed = Request::Changed { family, set, delete };
            around.send(&self.own, recipients, changed);
        }
    }

    fn keep_connections(&mut self, set: &Entries, deleted: &[Str], around: &mut Around<'_>) {
        for node in set.keys().filter_map(node_of) {
            if node != self.own && self.kept.len() < MOST_GLOBALS && self.kept.insert(node.clone())
            {
                around.effects.push(DbEffect::KeepAlive(node));
            }
        }
        for node in deleted.iter().filter_map(node_of) {
            if self.kept.remove(&node) {
                around.effects.push(DbEffect::KeepAliveNoMore(node));
            }
        }
    }

    fn notice_locations(&self, set: &Entries, deleted: &[Str], around: &mut Around<'_>) {
        for (key, value) in set {
            let Some(node) = node_of(key) else { continue };
            if around.up.contains(&node) {
                around.effects.push(match value.to_strings() {
                    Some(_) => DbEffect::Located(node),
                    None => DbEffect::Unlocated(node),
                });
            }
        }
        for node in deleted.iter().filter_map(node_of) {
            if around.up.contains(&node) {
                around.effects.push(DbEffect::Unlocated(node));
            }
        }
    }

    /// Sets an internal entry of our own.
    fn set_own(&mut self, family: &str, node: &NodeId, value: Datum, around: &mut Around<'_>) {
        let (family, key) = (Str::text(family), node_key(node));
        let is_new = around.local.set(&family, &key, &value);
        self.own_update(is_new.then(|| Request::set_one(family, key, value)), around);
    }

    fn delete_own(&mut self, family: &str, node: &NodeId, around: &mut Around<'_>) {
        let update = around.local.delete(&Str::text(family), [node_key(node)]);
        self.own_update(update, around);
    }

    fn own_update(&mut self, update: Option<Request>, around: &mut Around<'_>) {
        if let Some(update) = update {
            let own = self.own.clone();
            self.receive(&own, update, around);
        }
    }

    /// We have just become global: our own database comes in, all nodes hear of it, and other
    /// global nodes get what we have.
    pub(crate) fn start(&mut self, globals: &BTreeSet<NodeId>, around: &mut Around<'_>) {
        let own = self.own.clone();
        for request in around.local.adopt(own.clone()) {
            self.receive(&own, request, around);
        }
        self.set_own(GLOBALS, &own, Datum::UNDEF, around);
        let up = Recipients::of(&own, around.up);
        around.send(&own, up, Request::Global);
        for peer in globals {
            self.meet(peer, around);
        }
    }

    /// A connected node says that it is global.
    pub(crate) fn global_is_up(&mut self, node: &NodeId, around: &mut Around<'_>) {
        // It sends its database once; to forget it when it repeats itself would lose it.
        if *node == self.own || self.peers.contains(node) {
            return;
        }
        self.forget_database(node, around);
        self.meet(node, around);
    }

    fn meet(&mut self, peer: &NodeId, around: &mut Around<'_>) {
        self.peers.insert(peer);
        self.merge.set_kind(peer, OwnerKind::Global);
        self.set_own(GLOBALS, peer, Datum::UNDEF, around);
        let set = Request::Set(self.merge.merged_of_slaves());
        around.reply(&self.own, peer, set);
    }

    /// A connection is lost, and with it all that came over it.
    pub(crate) fn node_down(&mut self, node: &NodeId, around: &mut Around<'_>) {
        if !mutation::is_on(Mutation::KeepSubscriptionsOfLostNodes) {
            self.unsubscribe_all(node);
        }
        self.forget_database(node, around);
    }

    /// A slave's database was a stale copy, or it has another master now (docs/protocol.md §7.2).
    pub(crate) fn drop_slave(&mut self, node: &NodeId, around: &mut Around<'_>) {
        if *node != self.own && self.is_slave(node) {
            self.node_down(node, around);
        }
    }

    fn forget_database(&mut self, node: &NodeId, around: &mut Around<'_>) {
        self.peers.remove(node);
        self.delete_own(GLOBALS, node, around);
        self.delete_own(LOCATIONS, node, around);
        let kept = usize::from(mutation::is_on(Mutation::KeepEntriesOfLostNodes));
        for change in self.merge.remove(node).into_iter().skip(kept) {
            self.announce(change, around);
        }
    }

    /// False if the node has too many subscriptions.
    fn subscribe(&mut self, node: &NodeId, family: &Str) -> bool {
        let subscriptions = self.subscriptions.entry(node.clone()).or_default();
        if !subscriptions.families.contains(family) {
            let octets = subscriptions.octets + subscription_octets(family);
            if octets > self.limits.table && *node != self.own {
                return false;
            }
            subscriptions.octets = octets;
            subscriptions.families.insert(family.clone());
        }
        self.subscribers.entry(family.clone()).or_default().insert(node);
        true
    }

    fn unsubscribe_all(&mut self, node: &NodeId) {
        for family in self.subscriptions.remove(node).unwrap_or_default().families {
            self.unsubscribe(node, &family);
        }
    }

    fn unsubscribe(&mut self, node: &NodeId, family: &Str) {
        if let Some(subscribers) = self.subscribers.get_mut(family) {
            subscribers.remove(node);
            if subscribers.nodes.is_empty() {
                self.subscribers.remove(family);
            }
        }
    }
}

#[cfg(test)]
#[path = "global_tests.rs"]
mod tests;
