//! The local ports and all monitors: which ports exist, and who is told when one dies.
//!
//! A machine of its own: its inputs are methods, its outputs are [`PortsOutput`]s, which have to be
//! handled in order before the next input.

mod failed_spawns;
mod monitors;
mod names;
#[cfg(test)]
mod tests;

pub use monitors::OnDeath;

use super::effect::{Builder, MonitorId, PortName, Reason};
use super::limits::PeerLimits;
use super::random::Random;
use super::request::{Parsed, Refused};
use super::{HashMap, HashSet};
use crate::mutation::{self, Mutation};
use crate::value::{NodeId, Packed, PortId, Str, StrRef};
use failed_spawns::FailedSpawns;
use monitors::Monitors;
use names::Names;

/// The local ports of a node, and the monitors of local and remote ones.
#[derive(Debug)]
pub(super) struct Ports {
    own: NodeId,
    names: Names,
    live: HashMap<PortName, Port>,
    /// The live ports that each peer monitors or has spawned.
    concerns: HashMap<NodeId, HashSet<PortName>>,
    failed_spawns: FailedSpawns,
    monitors: Monitors,
    /// Ports that have to be killed before the current input is done.
    dying: Vec<(PortName, Reason)>,
    outputs: Vec<PortsOutput>,
}

/// An output of the ports.
#[derive(Debug, Clone)]
pub(super) enum PortsOutput {
    /// Send a packet, port name first, to a node, which may be this one.
    Send { to: NodeId, packet: Packed },
    /// Send a message to a port anywhere.
    SendMessage { to: PortId, message: Packed },
    /// A connection to this node is wanted, since the node is monitored.
    Connect(NodeId),
    /// A monitor of the host fires.
    Fire { monitor: MonitorId, reason: Reason },
    /// A port was killed.
    Closed { port: PortName, reason: Reason },
    /// All monitors of a lost node were handled on this node; messages follow, which may go to that
    /// node.
    LossTold(NodeId),
    /// A port died with a reason, and nobody monitored it.
    Unnoticed { port: PortName, reason: Reason },
}

#[derive(Debug, Default)]
struct Port {
    /// The monitors of this node, in order.
    monitors: Vec<MonitorId>,
    /// The peers that monitor the port.
    peers: HashSet<NodeId>,
    /// The peer that spawned the port and has not monitored it yet.
    awaited_by: Option<NodeId>,
    /// It is the reply port of a call, whose caller learns of its death without a monitor.
    is_reply: bool,
}

/// Who has to be told that a port died.
#[derive(Debug, Default)]
struct DeathNotices {
    monitors: Vec<MonitorId>,
    peers: Vec<NodeId>,
    is_reply: bool,
}

impl DeathNotices {
    fn is_for_nobody(&self) -> bool {
        self.monitors.is_empty() && self.peers.is_empty() && !self.is_reply
    }
}

impl Ports {
    pub(super) fn new(own: NodeId, random: &mut Random) -> Self {
        Ports {
            own,
            names: Names::new(random),
            live: HashMap::default(),
            concerns: HashMap::default(),
            failed_spawns: FailedSpawns::new(PeerLimits::default().table),
            monitors: Monitors::default(),
            dying: Vec::new(),
            outputs: Vec::new(),
        }
    }

    /// A request of a peer about ports, other than spawning.
    pub(super) fn request(
        &mut self,
        from: &NodeId,
        name: &str,
        request: Parsed<'_>,
    ) -> Result<(), Refused> {
        match (name, request) {
            ("mon1", Parsed::Port(port)) => self.monitored_by(&port, from),
            ("mon0", Parsed::Port(port)) => self.unmonitored_by(&port, from),
            ("kil0", Parsed::PortAndReason(port, reason)) => self.remote_died(from, &port, &reason),
            ("kil1", Parsed::PortAndReason(port, _)) if port.is_empty() => {
                return Err("the node port cannot be killed".into());
            }
            ("kil1", Parsed::PortAndReason(port, reason)) => self.kill(port, reason),
            _ => {}
        }
        Ok(())
    }

    /// Takes the outputs since the last call, in order.
    #[inline]
    pub(super) fn take_outputs(&mut self) -> Vec<PortsOutput> {
        std::mem::take(&mut self.outputs)
    }

    /// Returns the vector of outputs that were handled, so that its capacity is reused.
    #[inline]
    pub(super) fn reuse(&mut self, room: Vec<PortsOutput>) {
        if self.outputs.capacity() == 0 {
            self.outputs = room;
        }
    }

    /// A new name for a port of this node.
    pub(super) fn new_name(&mut self, random: &mut Random) -> PortName {
        self.names.local(random)
    }

    /// A new name for a port that another node will spawn.
    pub(super) fn new_remote_name(&mut self) -> PortName {
        self.names.remote()
    }

    /// Makes a port with a new name.
    pub(super) fn open(&mut self, random: &mut Random) -> PortName {
        loop {
            let name = self.names.local(random);
            if self.add(name.clone()) {
                return name;
            }
        }
    }

    /// Adds a port with a name chosen elsewhere; false if the name is taken.
    pub(super) fn add(&mut self, name: PortName) -> bool {
        self.insert(name, None)
    }

    /// Adds the reply port of a call.
    pub(super) fn add_reply(&mut self, name: PortName) {
        self.insert(name.clone(), None);
        if let Some(port) = self.live.get_mut(&name) {
            port.is_reply = true;
        }
    }

    /// Adds a port that a peer spawned; false if the name is taken.
    pub(super) fn spawned(&mut self, name: PortName, by: &NodeId) -> bool {
        self.insert(name, Some(by.clone()))
    }

    fn insert(&mut self, name: PortName, spawned_by: Option<NodeId>) -> bool {
        if name.is_empty() || self.live.contains_key(&name) {
            return false;
        }
        if let Some(peer) = &spawned_by {
            self.failed_spawns.forget(peer, &name);
            self.concerns.entry(peer.clone()).or_default().insert(name.clone());
        }
        self.live.insert(name, Port { awaited_by: spawned_by, ..Port::default() });
        true
    }

    /// A spawn of `peer` has failed: its monitors are told why.
    pub(super) fn spawn_failed(&mut self, peer: &NodeId, name: PortName, reason: Reason) {
        self.failed_spawns.remember(peer, name, reason);
    }

    /// Sets the octets kept for each peer whose spawns failed.
    pub(super) fn set_limit(&mut self, octets: usize) {
        self.failed_spawns.set_limit(octets);
    }

    /// Octets kept for peers.
    pub(super) fn octets_for_peers(&self) -> usize {
        self.failed_spawns.octets()
    }

    pub(super) fn exists(&self, name: &Str) -> bool {
        self.live.contains_key(name)
    }

    /// The nodes that spawned or monitor ports, or did so before, and those whose ports are monitored.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &NodeId> {
        self.concerns.keys().chain(self.failed_spawns.spawners()).chain(self.monitors.nodes())
    }

    /// The number of ports.
    pub(super) fn len(&self) -> usize {
        self.live.len()
    }

    /// The number of monitors set by this node.
    pub(super) fn monitors(&self) -> usize {
        self.monitors.len()
    }

    /// The number of monitors that peers have set, one for each peer and port.
    pub(super) fn monitors_of_peers(&self) -> usize {
        self.live.values().map(|port| port.peers.len()).sum()
    }

    /// A peer monitors a port.
    pub(super) fn monitored_by(&mut self, name: &Str, peer: &NodeId) {
        if name.is_empty() {
            return;
        }
        if let Some((name, port)) = self.live.get_key_value_mut(name) {
            port.awaited_by = None;
            port.peers.insert(peer.clone());
            // The port's own name, so that all monitors share the octets.
            self.concerns.entry(peer.clone()).or_default().insert(name.clone());
            return;
        }
        let reason = self.reason_of_absence(name, peer);
        self.send_death(peer.clone(), name, &reason);
    }

    /// A peer no longer monitors a port.
    pub(super) fn unmonitored_by(&mut self, name: &Str, peer: &NodeId) {
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

    /// Why there is no port of this name, for `asker`, who may have spawned it.
    fn reason_of_absence(&self, name: &Str, asker: &NodeId) -> Reason {
        let known = self.failed_spawns.reason(asker, name).cloned();
        known.unwrap_or_else(|| no_such_port(&self.own, name.as_ref()))
    }

    /// A port ended normally: its monitors are told. No [`PortsOutput::Closed`] follows.
    pub(super) fn ended(&mut self, port: &PortName) {
        let reason = Reason::default();
        if let Some(notices) = self.remove(port, &reason) {
            self.tell(port, &reason, notices);
        }
        self.kill_dying();
    }

    /// Kills a local port, and every port that is linked to it. No effect if it does not exist.
    pub(super) fn kill(&mut self, port: PortName, reason: Reason) {
        self.dying.push((port, reason));
        self.kill_dying();
    }

    fn kill_dying(&mut self) {
        while let Some((port, reason)) = self.dying.pop() {
            let Some(notices) = self.remove(&port, &reason) else {
                continue;
            };
            if notices.is_for_nobody() && !reason.is_empty() {
                let (port, reason) = (port.clone(), reason.clone());
                self.outputs.push(PortsOutput::Unnoticed { port, reason });
            }
            let closed = PortsOutput::Closed { port: port.clone(), reason: reason.clone() };
            self.outputs.push(closed);
            self.tell(&port, &reason, notices);
        }
    }

    fn remove(&mut self, name: &Str, reason: &Reason) -> Option<DeathNotices> {
        let port = self.live.remove(name)?;
        for peer in port.peers.iter().chain(&port.awaited_by) {
            self.unconcern(peer, name);
        }
        if let Some(spawner) = &port.awaited_by
            && !reason.is_empty()
        {
            self.failed_spawns.remember(spawner, name.clone(), reason.clone());
        }
        let mut peers: Vec<_> = port.peers.into_iter().collect();
        peers.sort();
        Some(DeathNotices { monitors: port.monitors, peers, is_reply: port.is_reply })
    }

    /// Tells all monitors of a port that it died.
    fn tell(&mut self, port: &PortName, reason: &Reason, notices: DeathNotices) {
        let untold = usize::from(mutation::is_on(Mutation::TellNoPeerOfDeaths));
        for peer in notices.peers.into_iter().skip(untold) {
            self.send_death(peer, port, reason);
        }
        for id in notices.monitors {
            self.fire(id, reason);
        }
    }

    fn send_death(&mut self, to: NodeId, port: &Str, reason: &Reason) {
        let packet =
            Builder::request("kil0").string(port.as_ref()).elements(reason.as_elements()).build();
        self.outputs.push(PortsOutput::Send { to, packet });
    }

    /// A node is lost or cannot be reached: its own monitors are removed, and all monitors of its ports
    /// fire. Monitors that send messages come last, after [`PortsOutput::LossTold`].
    pub(super) fn node_lost(&mut self, node: &NodeId, reason: &Reason) {
        // This comes first; otherwise ports that die now would be reported to the lost node by a new
        // connection.
        if !mutation::is_on(Mutation::KeepMonitorsOfLostPeers) {
            self.forget_peer(node);
        }
        if mutation::is_on(Mutation::ResetLaneEarly) {
            self.outputs.push(PortsOutput::LossTold(node.clone()));
        }
        let ids = self.monitors.take_node(node);
        let (messages, others): (Vec<_>, Vec<_>) =
            ids.into_iter().partition(|id| self.monitors.sends_message(*id));
        let missed = usize::from(mutation::is_on(Mutation::MissAMonitorOnLoss));
        for id in others.into_iter().skip(missed) {
            self.fire(id, reason);
        }
        self.kill_dying();
        self.outputs.push(PortsOutput::LossTold(node.clone()));
        // A message may go to the lost node itself, which starts a new connection.
        for id in messages {
            self.fire(id, reason);
        }
    }

    fn forget_peer(&mut self, peer: &NodeId) {
        self.failed_spawns.forget_spawner(peer);
        for name in self.concerns.remove(peer).unwrap_or_default() {
            if let Some(port) = self.live.get_mut(&name) {
                port.peers.remove(peer);
                port.awaited_by.take_if(|spawner| spawner == peer);
            }
        }
    }
}

/// The reason that Perl gives monitors of a port that does not exist.
fn no_such_port(node: &NodeId, port: StrRef<'_>) -> Reason {
    let id = PortId::new(node, port);
    Builder::new()
        .name("no_such_port")
        .name("cannot monitor nonexistent port")
        .string(id.as_str())
        .build()
}
