//! The local ports: which exist, who monitors them, and why those that failed to start did.

use super::effect::{PortName, Reason, WatchId};
use super::{HashMap, HashSet};
use crate::value::{NodeId, Str, StrRef};
use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::Arc;

/// How many reasons of ports that died before their spawner monitored them are kept, per peer.
const REMEMBERED_DEATHS: usize = 1000;

/// Ports that the kernel is not told of when they begin, as most end before anybody asks for them:
/// the reply ports of calls.
pub trait Unlisted: Debug + Send + Sync {
    /// Whether there is such a port. If so the kernel knows it from now on, and has to be told of
    /// its end.
    fn list(&self, name: StrRef<'_>) -> bool;

    /// How many there are that the kernel does not know.
    fn count(&self) -> usize;
}

/// The local ports of a node.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    live: HashMap<PortName, Port>,
    unlisted: Option<Arc<dyn Unlisted>>,
    /// The live ports that each peer monitors or spawned.
    concerns: HashMap<NodeId, HashSet<PortName>>,
    /// Ports that peers spawned and that died before the peer's `mon1` came, for each peer.
    stillborn: HashMap<NodeId, Stillborn>,
}

#[derive(Debug, Default)]
struct Port {
    watches: Vec<WatchId>,
    peers: HashSet<NodeId>,
    /// The peer that spawned the port and has not monitored it yet.
    awaited_by: Option<NodeId>,
}

#[derive(Debug, Default)]
struct Stillborn {
    reasons: HashMap<PortName, Reason>,
    order: VecDeque<PortName>,
}

/// Who has to be told that a port died.
#[derive(Debug, Default)]
pub(crate) struct Mourners {
    pub(crate) watches: Vec<WatchId>,
    pub(crate) peers: Vec<NodeId>,
}

/// What became of a peer's `mon1`.
#[derive(Debug)]
pub(crate) enum Monitored {
    /// The peer will be told.
    Yes,
    /// The port died before, for this reason.
    Died(Reason),
    /// There is no such port.
    NoSuchPort,
}

impl Ports {
    /// Adds a port; false if the name is taken.
    pub(crate) fn open(&mut self, name: PortName, spawned_by: Option<NodeId>) -> bool {
        if name.is_empty() || self.live.contains_key(&name) {
            return false;
        }
        if let Some(dead) = spawned_by.as_ref().and_then(|peer| self.stillborn.get_mut(peer)) {
            dead.reasons.remove(&name);
        }
        if let Some(peer) = &spawned_by {
            self.concerns.entry(peer.clone()).or_default().insert(name.clone());
        }
        self.live.insert(name, Port { awaited_by: spawned_by, ..Port::default() });
        true
    }

    pub(crate) fn set_unlisted(&mut self, unlisted: Arc<dyn Unlisted>) {
        self.unlisted = Some(unlisted);
    }

    pub(crate) fn exists(&mut self, name: &Str) -> bool {
        self.find(name).is_some()
    }

    fn find(&mut self, name: &Str) -> Option<&mut Port> {
        if !self.live.contains_key(name)
            && self.unlisted.as_ref().is_some_and(|unlisted| unlisted.list(name.as_ref()))
        {
            self.live.insert(name.clone(), Port::default());
        }
        self.live.get_mut(name)
    }

    /// The nodes that spawned or monitor ports, or did.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &NodeId> {
        self.concerns.keys().chain(self.stillborn.keys())
    }

    /// How many monitors peers have set, one for each peer and port.
    pub(crate) fn monitors_of_peers(&self) -> usize {
        self.live.values().map(|port| port.peers.len()).sum()
    }

    pub(crate) fn len(&self) -> usize {
        self.live.len() + self.unlisted.as_ref().map_or(0, |unlisted| unlisted.count())
    }

    /// Removes a port and tells who has to know; `None` if there is none.
    pub(crate) fn close(&mut self, name: &Str, reason: &Reason) -> Option<Mourners> {
        self.find(name)?;
        let port = self.live.remove(name)?;
        for peer in port.peers.iter().chain(&port.awaited_by) {
            self.unconcern(peer, name);
        }
        if let Some(spawner) = port.awaited_by
            && !reason.is_empty()
        {
            self.remember(spawner, name.clone(), reason.clone());
        }
        let mut peers: Vec<_> = port.peers.into_iter().collect();
        peers.sort();
        Some(Mourners { watches: port.watches, peers })
    }

    /// Keeps the reason why a port that `peer` spawned is not there.
    pub(crate) fn remember(&mut self, peer: NodeId, name: PortName, reason: Reason) {
        let dead = self.stillborn.entry(peer).or_default();
        if dead.reasons.insert(name.clone(), reason).is_none() {
            dead.order.push_back(name);
        }
        while dead.order.len() > REMEMBERED_DEATHS {
            if let Some(oldest) = dead.order.pop_front() {
                dead.reasons.remove(&oldest);
            }
        }
    }

    /// A peer monitors a port.
    pub(crate) fn monitored_by(&mut self, name: &Str, peer: &NodeId) -> Monitored {
        if let Some(port) = self.find(name) {
            port.awaited_by = None;
            port.peers.insert(peer.clone());
            self.concerns.entry(peer.clone()).or_default().insert(name.clone());
            return Monitored::Yes;
        }
        match self.reason_of_death(name, peer) {
            Some(reason) => Monitored::Died(reason),
            None => Monitored::NoSuchPort,
        }
    }

    /// A peer monitors a port no longer.
    pub(crate) fn unmonitored_by(&mut self, name: &Str, peer: &NodeId) {
        if let Some(port) = self.live.get_mut(name) {
            port.peers.remove(peer);
            self.unconcern(peer, name);
        }
    }

    fn unconcern(&mut self, peer: &NodeId, name: &Str) {
        if let Some(names) = self.concerns.get_mut(peer) {
            names.remove(name);
            if names.is_empty() {
                self.concerns.remove(peer);
            }
        }
    }

    /// Somebody on this node monitors a port.
    pub(crate) fn watch(&mut self, name: &Str, watch: WatchId, own: &NodeId) -> Monitored {
        if let Some(port) = self.find(name) {
            port.awaited_by = None;
            port.watches.push(watch);
            return Monitored::Yes;
        }
        match self.reason_of_death(name, own) {
            Some(reason) => Monitored::Died(reason),
            None => Monitored::NoSuchPort,
        }
    }

    pub(crate) fn unwatch(&mut self, name: &Str, watch: WatchId) {
        if let Some(port) = self.live.get_mut(name) {
            // Later monitors have greater IDs.
            if let Ok(at) = port.watches.binary_search(&watch) {
                port.watches.remove(at);
            }
        }
    }

    fn reason_of_death(&mut self, name: &Str, spawner: &NodeId) -> Option<Reason> {
        self.stillborn.get(spawner)?.reasons.get(name).cloned()
    }

    /// A peer is lost: it monitors nothing any more.
    pub(crate) fn forget_peer(&mut self, peer: &NodeId) {
        self.stillborn.remove(peer);
        for name in self.concerns.remove(peer).unwrap_or_default() {
            if let Some(port) = self.live.get_mut(&name) {
                port.peers.remove(peer);
                port.awaited_by.take_if(|spawner| spawner == peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    /// One port, called `reply`, until the kernel knows it.
    #[derive(Debug)]
    struct One(AtomicUsize);

    impl Unlisted for One {
        fn list(&self, name: StrRef<'_>) -> bool {
            name == "reply" && self.0.swap(0, Relaxed) == 1
        }

        fn count(&self) -> usize {
            self.0.load(Relaxed)
        }
    }

    #[test]
    fn a_port_that_was_not_listed_is_one_as_soon_as_somebody_names_it() {
        let (name, peer) = (Str::from("reply"), NodeId::new("peer").unwrap());
        let uses: [fn(&mut Ports, &Str, &NodeId) -> bool; 4] = [
            |ports, name, _| ports.exists(name),
            |ports, name, peer| matches!(ports.monitored_by(name, peer), Monitored::Yes),
            |ports, name, own| matches!(ports.watch(name, WatchId(1), own), Monitored::Yes),
            |ports, name, _| ports.close(name, &Reason::default()).is_some(),
        ];
        for (number, used) in uses.into_iter().enumerate() {
            let mut ports = Ports::default();
            ports.set_unlisted(Arc::new(One(AtomicUsize::new(1))));
            assert!(!used(&mut ports, &Str::from("other"), &peer));
            assert_eq!(ports.len(), 1);
            assert!(used(&mut ports, &name, &peer));
            let closed = number == 3;
            assert_eq!(ports.len(), usize::from(!closed));
            let mourners = ports.close(&name, &Reason::default());
            assert_eq!(mourners.is_none(), closed);
            assert_eq!(ports.len(), 0);
            assert!(!used(&mut ports, &name, &peer), "it has ended");
        }
    }
}
