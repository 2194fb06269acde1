//! The node's logic as deterministic state machines: no sockets, no clock, no randomness of its
//! own.
//!
//! Inputs are method calls: a node packet, a connection that greets, is established or ends, a
//! local call, the time. Outputs are [`Effect`]s, to be carried out in order. A whole network of
//! kernels runs inside one test in virtual time.
//!
//! Time goes in by [`Kernel::set_now`] before any other input.

mod census;
pub mod db;
mod effect;
mod eval;
mod heal;
mod membership;
mod mesh;
mod monitor;
mod ports;
mod random;
mod request;
mod service;
mod time;

pub use census::Census;
pub(crate) use effect::build_reason;
pub use effect::{AuthOrder, Call, ConnId, Effect, Level, PortName, Reason, WatchId};
pub use mesh::{Authenticated, PeerGreeting, SeedStatus};
pub use monitor::Watcher;
pub use ports::Unlisted;
pub(crate) use random::Random;
pub(crate) use request::died;
pub use time::Now;

use crate::value::packed::Elements;
use crate::value::{NodeId, Packed, PortId, Str};
use db::{Database, DbConfig};
use effect::Builder;
use mesh::{Link, Mesh, Trial};
use monitor::Watch;
use ports::Ports;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use time::Agenda;

/// Quicker than the standard library's hash, with a secret of each map against peers who choose keys;
/// keys can be looked up as they stand in a packet.
type HashMap<K, V> = hashbrown::HashMap<K, V, foldhash::quality::RandomState>;
type HashSet<K> = hashbrown::HashSet<K, foldhash::quality::RandomState>;

/// What the kernel of a node has to know from the start.
#[derive(Debug, Clone)]
pub struct KernelConfig {
    /// The node's ID.
    pub node: NodeId,
    /// Where others can connect to it: what goes into the database family `'l`.
    pub addresses: Vec<Str>,
    /// The seeds, as `host:port`.
    pub seeds: Vec<Str>,
    /// How long a node is sought before it is given up; Perl's `monitor_timeout`.
    pub monitor_timeout: Duration,
    /// How long one address is tried before the next; Perl's `connect_interval`.
    pub connect_interval: Duration,
    /// Whether peers may make this node run anything; Perl's `secure`.
    pub secure: bool,
    /// Whether Perl slaves that lost their master are healed.
    pub heal: bool,
    /// How long keys may be missing after a change of master before they are reported as deleted.
    pub grace: Duration,
    /// What `$$` evaluates to.
    pub process_id: u32,
    /// Where all randomness comes from.
    pub entropy: [u8; 32],
}

impl KernelConfig {
    /// How long keys may be missing after a change of master, unless told.
    pub const DEFAULT_GRACE: Duration = Duration::from_secs(10);
}

/// Things that happen by themselves.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Task {
    DialSeeds,
    ReportSeeds,
    KeepAlive,
    AdvanceTrial(NodeId),
    GiveUp(NodeId),
    Arbitrate(NodeId),
    ProbeOver(NodeId, u64),
    Heal(NodeId),
}

/// A remote node.
#[derive(Debug, Default)]
struct Peer {
    link: Option<Link>,
    trial: Option<Trial>,
    /// The monitors on its ports; the empty name stands for the node itself.
    watches: HashMap<Str, Vec<WatchId>>,
    patient: heal::Patient,
}

/// The state of one node.
#[derive(Debug)]
pub struct Kernel {
    config: KernelConfig,
    now: Now,
    random: Random,
    agenda: Agenda<Task>,
    effects: Vec<Effect>,
    /// Packets that this node sent to itself and has not handled yet.
    own_packets: VecDeque<Packed>,
    /// Ports that are about to be killed.
    dying: Vec<(PortName, Reason)>,
    ports: Ports,
    port_count: u64,
    /// What the names of ports that we spawn on others begin with.
    remote_prefix: Vec<u8>,
    service_port: PortName,
    functions: HashSet<Str>,
    peers: HashMap<NodeId, Peer>,
    watches: HashMap<WatchId, Watch>,
    next_watch: u64,
    mesh: Mesh,
    db: Database,
    /// Room for the database's effects, empty.
    db_effects: Vec<db::DbEffect>,
    next_question: u64,
    healed: u64,
}

impl Kernel {
    /// A node that is just starting: it will dial its seeds at once.
    pub fn new(config: KernelConfig, now: Now) -> Self {
        let mut random = Random::new(config.entropy);
        let mut remote_prefix = Vec::with_capacity(10);
        random.alphanumeric(&mut remote_prefix, 10);
        if let Some(last) = remote_prefix.last_mut() {
            last.make_ascii_uppercase();
        }
        let mut kernel = Kernel {
            mesh: Mesh::new(&config.seeds),
            db: Database::new(
                config.node.clone(),
                DbConfig { patience: config.monitor_timeout, grace: config.grace },
            ),
            now,
            random,
            agenda: Agenda::new(),
            effects: Vec::new(),
            own_packets: VecDeque::new(),
            dying: Vec::new(),
            ports: Ports::default(),
            port_count: 0,
            remote_prefix,
            service_port: Str::default(),
            functions: HashSet::default(),
            peers: HashMap::default(),
            watches: HashMap::default(),
            next_watch: 0,
            db_effects: Vec::new(),
            next_question: 0,
            healed: 0,
            config,
        };
        kernel.service_port = kernel.new_port_name();
        kernel.announce_addresses();
        kernel.retry_seeds();
        kernel
    }

    /// Tells what the clocks show; every input that follows happens then.
    pub fn set_now(&mut self, now: Now) {
        self.now = now;
    }

    /// Does what is due.
    pub fn tick(&mut self) {
        while let Some(task) = self.agenda.pop(self.now.uptime) {
            match task {
                Task::DialSeeds => self.dial_seeds(),
                Task::ReportSeeds => self.report_seeds(),
                Task::KeepAlive => self.connect_keepalive(),
                Task::AdvanceTrial(node) => self.advance_trial(&node),
                Task::GiveUp(node) => self.trial_timed_out(&node),
                Task::Arbitrate(node) => self.arbitrate_again(&node),
                Task::ProbeOver(node, number) => self.probe_over(&node, number),
                Task::Heal(node) => self.heal_due(&node),
            }
        }
        self.db.expire(self.now.uptime);
    }

    /// When [`Kernel::tick`] is wanted next, as time since the node started.
    pub fn next_tick(&self) -> Option<Duration> {
        [self.agenda.next(), self.db.deadline()].into_iter().flatten().min()
    }

    /// Takes what has to be done, in order.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        self.settle();
        std::mem::take(&mut self.effects)
    }

    /// As [`Kernel::take_effects`], in exchange for an empty vector whose room is used again.
    pub fn swap_effects(&mut self, into: &mut Vec<Effect>) {
        self.settle();
        into.clear();
        std::mem::swap(&mut self.effects, into);
    }

    /// What [`Kernel::take_effects`] would give.
    pub(crate) fn pending_effects(&mut self) -> &[Effect] {
        self.settle();
        &self.effects
    }

    /// This node's ID.
    pub fn node(&self) -> &NodeId {
        &self.config.node
    }

    /// Whether there is a connection to `node`; to itself a node is always connected.
    pub fn is_up(&self, node: &NodeId) -> bool {
        *node == self.config.node || self.peers.get(node).is_some_and(|peer| peer.link.is_some())
    }

    /// The nodes that this one is connected to, without itself.
    pub fn up_nodes(&self) -> Vec<NodeId> {
        let up = self.peers.iter().filter(|(_, peer)| peer.link.is_some());
        let mut nodes: Vec<NodeId> = up.map(|(node, _)| node.clone()).collect();
        nodes.sort();
        nodes
    }

    /// The same nodes, each with whether it has not proven that it belongs to the network.
    pub fn up_nodes_with_trust(&self) -> Vec<(NodeId, bool)> {
        let up = self.peers.iter();
        let mut nodes: Vec<(NodeId, bool)> = up
            .filter_map(|(node, peer)| Some((node.clone(), peer.link.as_ref()?.untrusted)))
            .collect();
        nodes.sort();
        nodes
    }

    /// The families of the database with how many keys each has; none if this node is not global.
    pub fn families(&self) -> Vec<(Str, usize)> {
        self.db.families()
    }

    /// Which software a connected node says it is.
    pub fn provider(&self, node: &NodeId) -> Option<&Str> {
        Some(&self.peers.get(node)?.link.as_ref()?.provider)
    }

    /// How many connections there are in whatever state, dials and handshakes included.
    pub fn connection_count(&self) -> usize {
        self.mesh.connections()
    }

    /// How many ports this node has.
    pub fn port_count(&self) -> usize {
        self.ports.len()
    }

    /// Tells of ports for which there was no [`Kernel::open_port`].
    pub fn set_unlisted(&mut self, unlisted: Arc<dyn Unlisted>) {
        self.ports.set_unlisted(unlisted);
    }

    /// Randomness that nobody else has.
    pub(crate) fn entropy(&mut self) -> [u8; 32] {
        self.random.entropy()
    }

    fn peer(&mut self, node: &NodeId) -> &mut Peer {
        self.peers.entry(node.clone()).or_default()
    }

    fn forget_if_unused(&mut self, node: &NodeId) {
        if self.peers.get(node).is_some_and(|peer| {
            peer.link.is_none() && peer.trial.is_none() && peer.watches.is_empty()
        }) {
            self.peers.remove(node);
        }
    }

    fn log(&mut self, level: Level, mut text: String) {
        if text.len() > LONGEST_LOG_LINE {
            let boundary = (0..=LONGEST_LOG_LINE).rev().find(|at| text.is_char_boundary(*at));
            text.truncate(boundary.unwrap_or(0));
            text.push_str("...");
        }
        self.effects.push(Effect::Log { level, text });
    }

    /// Sends a packet, port name first, to a node, this one included.
    fn send(&mut self, to: &NodeId, packet: Packed) {
        if *to == self.config.node {
            self.own_packets.push_back(packet);
            return;
        }
        self.effects.push(Effect::Send { to: to.clone(), packet });
        self.want_connection(to);
    }

    /// Sends a message to a port anywhere.
    fn send_to_port(&mut self, to: &PortId, message: Packed, from: &NodeId) {
        let (node, port) = (to.node(), to.port());
        if node == self.config.node && !port.is_empty() {
            let port = port.to_owned();
            self.effects.push(Effect::Deliver { port, message, from: from.clone() });
        } else {
            let packet = Builder::to_port(port).elements(message.as_elements());
            self.send(&node, packet.build());
        }
    }

    /// Sends a request to a node's node port, as if a program had sent it.
    pub fn send_request(&mut self, to: &NodeId, request: Elements<'_>) {
        self.send(to, Builder::new().name("").elements(request).build());
    }

    /// Works off what the last inputs have left to do inside this node.
    fn settle(&mut self) {
        loop {
            if let Some((port, reason)) = self.dying.pop() {
                self.kill_local(port, reason);
            } else if let Some(packet) = self.own_packets.pop_front() {
                let own = self.config.node.clone();
                let port = request::argument(packet.as_elements()).unwrap_or_default();
                let message = packet.as_elements().after(1);
                if port.is_empty() {
                    self.request(&own, message);
                } else {
                    let message = message.to_packed();
                    self.effects.push(Effect::Deliver { port, message, from: own });
                }
            } else if !self.settle_db() {
                return;
            }
        }
    }

    fn new_port_name(&mut self) -> PortName {
        let mut name = Vec::with_capacity(16);
        self.random.alphanumeric(&mut name, 8);
        self.port_count += 1;
        push_letters(&mut name, self.port_count);
        Str::octets(name)
    }

    fn new_remote_port_name(&mut self) -> PortName {
        let mut name = self.remote_prefix.clone();
        self.port_count += 1;
        push_letters(&mut name, self.port_count);
        Str::octets(name)
    }
}

/// Peers choose the names that are logged, and how long these are.
const LONGEST_LOG_LINE: usize = 1000;

/// Appends a number in lowercase letters.
fn push_letters(out: &mut Vec<u8>, mut number: u64) {
    let start = out.len();
    loop {
        out.push(b'a' + (number % 26) as u8);
        number /= 26;
        if number == 0 {
            break;
        }
    }
    if let Some(letters) = out.get_mut(start..) {
        letters.reverse();
    }
}
