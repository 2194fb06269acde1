//! The global side: slaves, other global nodes, subscribers, and who is told what (docs/protocol.md §5.2).

mod audience;
mod peers;
mod subscriptions;
mod whole;

pub(super) use audience::Around;

use super::datum::Datum;
use super::effect::{DbEffect, DbProblem};
use super::entries::Entries;
use super::merge::{Change, Merge, OwnerKind};
use super::request::{Name, QueryKind, Request};
use super::single::{Deletions, SetOne};
use super::{GLOBALS, LOCATIONS, node_key};
use crate::kernel::HashMap;
use crate::kernel::limits::PeerLimits;
use crate::mutation::{self, Mutation};
use crate::value::{NodeId, Str, packed};
use audience::{Audience, Recipients};
use std::collections::{BTreeMap, BTreeSet};
use subscriptions::{Subscriptions, subscription_octets};

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
}

#[cfg(test)]
mod tests;
