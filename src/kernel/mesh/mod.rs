//! The connections of this node: which exist, which are wanted, which are kept.
//!
//! A machine of its own: its inputs are methods, its outputs are [`MeshOutput`]s, which have to be
//! handled in order before the next input. It does not know what connections are used for (packets,
//! monitors, the database); it is given the time, and asks for timers.

mod arbitration;
mod attempt;
mod backoff;
mod claims;
mod connection;
mod keepalive;
mod link;
#[cfg(test)]
mod seed_tests;
mod seeds;
#[cfg(test)]
mod tests;
mod unsteady;

pub(super) use arbitration::is_ours;
pub use connection::{Authenticated, PeerGreeting};
pub use link::Pulse;
pub use seeds::SeedStatus;

use super::effect::{AuthOrder, ConnId, Level};
use super::lines::MeshLine;
use super::{HashMap, KernelConfig};
use crate::value::{NodeId, Str};
use attempt::Attempt;
use claims::Claims;
use connection::Conn;
use hashbrown::Equivalent;
use keepalive::Keepalive;
use link::Link;
use seeds::Seeds;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;
use unsteady::ConnectPauses;

/// All connections, and the reasons to make new ones.
#[derive(Debug)]
pub(super) struct Mesh {
    own: NodeId,
    monitor_timeout: Duration,
    connect_interval: Duration,
    conns: HashMap<ConnId, Conn>,
    next_conn: u64,
    /// Greeted connections that are not up yet, by the node that they claim to lead to.
    greeted: HashMap<NodeId, Claims>,
    greetings: u64,
    /// The connections by the greeting sent on them, to recognise connections to this node itself.
    by_own_greeting: HashMap<Arc<[u8]>, ConnId>,
    /// The number of greeted connections examined so far to decide which of them continues.
    looked_at: u64,
    /// The nodes that are connected or being connected.
    remotes: HashMap<NodeId, Remote>,
    seeds: Seeds,
    keepalive: Keepalive,
    unsteady: ConnectPauses,
    next_probe: u64,
    /// A connection that replaces a lost one as soon as the loss was handled.
    replacement: Option<(ConnId, Authenticated)>,
    outputs: Vec<MeshOutput>,
}

/// A remote node that is connected or being connected.
#[derive(Debug, Default)]
struct Remote {
    link: Option<Link>,
    attempt: Option<Attempt>,
    /// How long the connection lasted whose loss is being handled.
    lasted: Duration,
}

/// An output of the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum MeshOutput {
    /// Dial an address.
    Dial { conn: ConnId, address: Str },
    /// A greeted connection may continue.
    Proceed { conn: ConnId, order: AuthOrder },
    /// Close a connection.
    Close { conn: ConnId, reason: String },
    /// Look up the addresses of a node, and pass them to [`Mesh::addresses_found`].
    Find(NodeId),
    /// The addresses of this node are no longer needed.
    CancelFind(NodeId),
    /// Send an echo request ahead of everything queued, whose answer goes to [`Mesh::probe_answered`],
    /// and report the state of the connection at once by [`Mesh::pulse`].
    Probe { node: NodeId, conn: ConnId, number: u64 },
    /// Report the state of the connection again.
    Look { conn: ConnId, number: u64 },
    /// A node is connected.
    Up { node: NodeId, conn: ConnId, provider: Str, untrusted: bool, knows_get: bool },
    /// The connection of a node is lost. [`Mesh::loss_was_told`] has to be called when this was handled
    /// completely.
    Down { node: NodeId, why: String },
    /// A node could not be connected.
    GaveUp { node: NodeId, why: String },
    /// A connected node has proven to be a seed's.
    SeedUp(NodeId),
    /// A connected node sent its greeting at a seed's address, without proof that it is the seed's node.
    SeedClaimed,
    /// A seed is this node itself.
    IsSeed,
    /// Call [`Mesh::timer`] at this time.
    Wake { at: Duration, timer: MeshTimer },
    /// A line for the log.
    Log { level: Level, line: MeshLine },
}

/// What a timer of the mesh is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum MeshTimer {
    DialSeeds,
    ReportSeeds,
    LookAgain,
    KeepAlive,
    AdvanceAttempt(NodeId),
    GiveUp(NodeId),
    Arbitrate(NodeId),
    LookAtProbed(NodeId, u64),
}

impl Mesh {
    /// No connections; [`Mesh::retry_seeds`] dials the seeds.
    pub(super) fn new(config: &KernelConfig) -> Self {
        Mesh {
            own: config.node.clone(),
            monitor_timeout: config.monitor_timeout,
            connect_interval: config.connect_interval,
            conns: HashMap::default(),
            next_conn: 0,
            greeted: HashMap::default(),
            greetings: 0,
            by_own_greeting: HashMap::default(),
            looked_at: 0,
            remotes: HashMap::default(),
            seeds: Seeds::new(&config.seeds),
            keepalive: Keepalive::new(),
            unsteady: ConnectPauses::new(config.monitor_timeout / 2),
            next_probe: 0,
            replacement: None,
            outputs: Vec::new(),
        }
    }

    /// Takes the outputs since the last call, in order.
    pub(super) fn take_outputs(&mut self) -> Vec<MeshOutput> {
        std::mem::take(&mut self.outputs)
    }

    /// The time of a [`MeshOutput::Wake`] has come.
    pub(super) fn timer(&mut self, timer: &MeshTimer, now: Duration) {
        match timer {
            MeshTimer::DialSeeds => self.dial_seeds(now),
            MeshTimer::ReportSeeds => self.report_seeds(now),
            MeshTimer::LookAgain => self.look_again(now),
            MeshTimer::KeepAlive => self.connect_keepalive(now),
            MeshTimer::AdvanceAttempt(node) => self.advance_attempt(node, now),
            MeshTimer::GiveUp(node) => self.attempt_timed_out(node, now),
            MeshTimer::Arbitrate(node) => self.arbitrate_again(node, now),
            MeshTimer::LookAtProbed(node, number) => self.look_at_probed(node, *number),
        }
    }

    /// Whether a remote node is connected.
    pub(super) fn is_up(&self, node: &(impl Hash + Equivalent<NodeId>)) -> bool {
        self.link(node).is_some()
    }

    /// The connected nodes, unordered, each with whether it is untrusted: it has not proven that it
    /// belongs to the network.
    pub(super) fn up_nodes(&self) -> impl Iterator<Item = (&NodeId, bool)> {
        self.remotes
            .iter()
            .filter_map(|(node, remote)| Some((node, remote.link.as_ref()?.untrusted)))
    }

    /// The implementation that a connected node announced.
    pub(super) fn provider(&self, node: &NodeId) -> Option<&Str> {
        Some(&self.link(node)?.peer.provider)
    }

    /// The number of connections, in any state.
    pub(super) fn connections(&self) -> usize {
        self.conns.len()
    }

    /// The number of nodes that are being connected.
    pub(super) fn attempts(&self) -> usize {
        self.remotes.values().filter(|remote| remote.attempt.is_some()).count()
    }

    /// The nodes that are connected, that are being connected, and that connections claim to be.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &NodeId> {
        self.remotes.keys().chain(self.greeted.keys()).chain(self.keepalive.nodes())
    }

    /// Whether this is the node of a seed.
    pub(super) fn is_seed(&self, node: &NodeId) -> bool {
        self.seeds.nodes().any(|seed| seed == node)
    }

    /// The first seed in the configured order whose node is connected.
    pub(super) fn first_seed_up(&self) -> Option<&NodeId> {
        self.seeds.nodes().find(|node| self.is_up(*node))
    }

    /// The connected nodes that claim to be a seed's node without proof.
    pub(super) fn claimed_seeds_up(&self) -> impl Iterator<Item = &NodeId> {
        self.seeds.claims().filter(|node| self.is_up(*node))
    }

    fn link(&self, node: &(impl Hash + Equivalent<NodeId>)) -> Option<&Link> {
        self.remotes.get(node)?.link.as_ref()
    }

    fn link_mut(&mut self, node: &NodeId) -> Option<&mut Link> {
        self.remotes.get_mut(node)?.link.as_mut()
    }

    fn attempt_mut(&mut self, node: &NodeId) -> Option<&mut Attempt> {
        self.remotes.get_mut(node)?.attempt.as_mut()
    }

    fn remote(&mut self, node: &NodeId) -> &mut Remote {
        self.remotes.entry(node.clone()).or_default()
    }

    fn forget_if_unused(&mut self, node: &NodeId) {
        let unused = |remote: &Remote| remote.link.is_none() && remote.attempt.is_none();
        if self.remotes.get(node).is_some_and(unused) {
            self.remotes.remove(node);
        }
    }

    fn wake(&mut self, at: Duration, timer: MeshTimer) {
        self.outputs.push(MeshOutput::Wake { at, timer });
    }

    fn log(&mut self, level: Level, line: MeshLine) {
        self.outputs.push(MeshOutput::Log { level, line });
    }
}
