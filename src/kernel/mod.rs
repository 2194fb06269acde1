//! The node's logic as deterministic state machines: no sockets, no clock, no randomness of its
//! own.
//!
//! [`Kernel`] is a router over machines that know nothing of each other: the mesh (connections),
//! the ports (with all monitors), the database, and the healing of Perl slaves. It hands each input
//! to the machine whose business it is, and turns what machines want done into [`Effect`]s or into
//! inputs of other machines. A whole network of kernels runs inside one test in virtual time.

mod config;
mod counts;
pub mod db;
mod dispatch;
mod effect;
mod eval;
mod healing;
mod large;
pub(crate) mod letters;
mod limits;
mod log;
mod mesh;
mod ports;
mod question;
mod random;
mod relay;
mod request;
mod router;
#[cfg(test)]
mod router_tests;
mod time;

pub use config::KernelConfig;
pub use counts::ResourceCounts;
pub use effect::{AuthOrder, Call, ConnId, Effect, Level, MonitorId, Origin, PortName, Reason};
pub(crate) use effect::{build_reason, died};
pub use eval::is_function;
pub use large::{LARGE_PACKET, LargePacket, NextPiece};
pub use limits::PeerLimits;
pub use mesh::{Authenticated, PeerGreeting, Pulse, SeedStatus};
pub use ports::OnDeath;
pub(crate) use random::Random;
pub use request::{Arguments, Handler, REQUESTS, RequestInfo, port_named_by};
pub use time::Now;

use crate::value::{NodeId, Packed, PortId, Str};
use db::{Database, Datum, DbConfig, DbMonitorId, InternalFamily, QueryId, QueryKind, SetError};
use healing::Healing;
use limits::Waiting;
use log::LogLimits;
pub(crate) use log::cut;
use mesh::{Mesh, MeshTimer};
use ports::Ports;
use std::collections::VecDeque;
use time::Agenda;

/// Quicker than the standard library's hash, with a secret of each map against peers who choose keys;
/// keys can be looked up as they stand in a packet.
type HashMap<K, V> = hashbrown::HashMap<K, V, foldhash::fast::RandomState>;
type HashSet<K> = hashbrown::HashSet<K, foldhash::fast::RandomState>;

/// What a machine wants to do later.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Task {
    Mesh(MeshTimer),
    Healing(NodeId),
}

/// What a node decides: plain data in, [`Effect`]s out.
///
/// The host first tells the time by [`Kernel::set_now`], then gives any number of inputs, and then
/// takes the effects ([`Kernel::take_effects`], [`Kernel::swap_effects`]) and carries them out in
/// order. Everything that follows from an input is decided when its method returns, and its effects
/// come after those of the inputs before it: whether the host takes the effects after each input or
/// after many makes no difference. Carrying out an effect may be an input again; its own effects come
/// after those at hand.
///
/// **Connections.** The host reports each connection in this order: [`Kernel::accepted`] (or it is
/// told to dial by [`Effect::Dial`]), [`Kernel::greeting_sent`], [`Kernel::greeted`] or
/// [`Kernel::greeted_with_own_id`]; it waits for [`Effect::Proceed`] before it sends its
/// authentication line, reports [`Kernel::verified`] if it was told to wait for the peer's, and
/// then [`Kernel::established`]. [`Effect::LaneUp`] says that packets may be sent and read.
/// [`Kernel::closed`] comes last, whatever happened before; it may come at any time. To
/// [`Effect::Probe`] and [`Effect::Look`] the host answers with [`Kernel::pulse`], once it has handled
/// what has come on the connection; to [`Effect::AwaitRoom`] with [`Kernel::has_room`]. Whenever it has
/// carried out an [`Effect::Send`] or [`Effect::SendAll`] and much waits in the lane, it says so by
/// [`Kernel::has_no_room`].
///
/// **Packets.** Packets to the node port go to [`Kernel::node_packet`], messages to
/// [`Kernel::service_port`] to [`Kernel::service_message`], and all others to the port that they
/// name, without the kernel. A packet to the node port of more than [`LARGE_PACKET`] octets should be
/// worked on piece by piece ([`LargePacket::work`]), so that others get at the kernel in between.
///
/// **The program on this node.** Ports ([`Kernel::open_port`], [`Kernel::kill`],
/// [`Kernel::port_ended`]), monitors (`Kernel::monitor`), spawning, the database, the seeds. The
/// kernel knows the ports that it has named, that peers have spawned, and that the host has added
/// ([`Kernel::add_port`]); a host that keeps others adds one as soon as a request names it
/// ([`port_named_by`]).
///
/// **Time.** [`Kernel::tick`] has to be called at [`Kernel::next_tick`], which every input may
/// change.
///
/// All other methods only look.
#[derive(Debug)]
pub struct Kernel {
    node: NodeId,
    secure: bool,
    process_id: u32,
    now: Now,
    random: Random,
    agenda: Agenda<Task>,
    effects: Vec<Effect>,
    /// Packets that this node sent to itself and has not handled yet.
    own_packets: VecDeque<Packed>,
    /// Where answers to the kernel's own questions come.
    service_port: PortName,
    /// What peers may call and spawn.
    functions: HashSet<Str>,
    /// Octets of the longest name that was ever among them.
    longest_function: usize,
    log_limits: LogLimits,
    limits: PeerLimits,
    waiting: Waiting,
    /// What was refused because a peer was at one of its limits.
    refused: u64,
    /// The large packet at hand, of which parts are shared.
    large_body: Option<Packed>,
    mesh: Mesh,
    ports: Ports,
    db: Database,
    healing: Healing,
    /// Room for the database's effects, empty.
    db_effects: Vec<db::DbEffect>,
}

/// Inputs and looks; what becomes of them is in `router.rs`, requests of peers in `dispatch.rs`. An
/// input tells a machine, and ends with [`Kernel::settle`].
impl Kernel {
    /// A node that is just starting: it will dial its seeds at once.
    pub fn new(config: KernelConfig, now: Now) -> Self {
        let mut random = Random::new(config.entropy);
        let mut ports = Ports::new(config.node.clone(), &mut random);
        let service_port = ports.new_name(&mut random);
        let patience = DbConfig { patience: config.monitor_timeout, grace: config.grace };
        let mut kernel = Kernel {
            mesh: Mesh::new(&config),
            ports,
            db: Database::new(config.node.clone(), patience),
            healing: Healing::new(config.node.clone(), config.heal),
            now,
            random,
            agenda: Agenda::new(),
            effects: Vec::new(),
            own_packets: VecDeque::new(),
            service_port,
            functions: HashSet::default(),
            longest_function: 0,
            log_limits: LogLimits::default(),
            limits: PeerLimits::default(),
            waiting: Waiting::default(),
            refused: 0,
            large_body: None,
            db_effects: Vec::new(),
            node: config.node,
            secure: config.secure,
            process_id: config.process_id,
        };
        kernel.db.set_location(&config.addresses, now.uptime);
        kernel.retry_seeds();
        kernel
    }

    /// How much is kept on account of each peer from now on.
    pub fn set_limits(&mut self, limits: PeerLimits) {
        self.limits = limits;
        self.ports.set_limit(limits.table);
        self.db.set_limits(limits);
    }

    /// Sends whole databases in pieces of so many octets from now on; [`db::PIECE`] unless told.
    pub fn set_database_piece(&mut self, octets: usize) {
        self.db.set_piece(octets);
    }

    /// Tells what the clocks show; every input that follows happens then.
    pub fn set_now(&mut self, now: Now) {
        self.now = now;
    }

    /// The addresses have changed under which others can connect to this node. What is there stays.
    pub fn set_addresses(&mut self, addresses: &[Str]) {
        self.db.set_location(addresses, self.now.uptime);
        self.settle();
    }

    // Connections.

    /// Somebody has connected to our listener.
    pub fn accepted(&mut self) -> ConnId {
        self.mesh.accepted()
    }

    /// Both greeting lines that we send on a connection.
    pub fn greeting_sent(&mut self, conn: ConnId, lines: &[u8]) {
        self.mesh.greeting_sent(conn, lines);
    }

    /// The peer of a connection has greeted; nothing of it is proven.
    ///
    /// The answer is an [`Effect::Proceed`] or [`Effect::Close`], now or later.
    pub fn greeted(&mut self, conn: ConnId, greeting: PeerGreeting) {
        self.mesh.greeted(conn, greeting, self.now.uptime);
        self.settle();
    }

    /// A peer has greeted with our own node ID. Returns why the connection ends, unless the peer is
    /// another node: because it is this node itself, or sends back what it gets.
    ///
    /// If a seed that was dialled is this node, it becomes global.
    pub fn greeted_with_own_id(&mut self, conn: ConnId, lines: &[u8]) -> Option<&'static str> {
        let why = self.mesh.greeted_with_own_id(conn, lines, self.now.uptime);
        self.settle();
        why
    }

    /// The peer's authentication line was verified; ours is still held back.
    pub fn verified(&mut self, conn: ConnId) {
        self.mesh.verified(conn, self.now.uptime);
        self.settle();
    }

    /// Both sides have authenticated: the connection carries packets now.
    pub fn established(&mut self, conn: ConnId, how: &Authenticated) {
        self.mesh.established(conn, how, self.now.uptime);
        self.settle();
    }

    /// A connection has ended, for whatever reason; or a dial has failed.
    pub fn closed(&mut self, conn: ConnId, why: &str) {
        self.mesh.closed(conn, why, self.now.uptime);
        self.settle();
    }

    /// How a connection is doing: the answer to [`Effect::Probe`] and [`Effect::Look`].
    pub fn pulse(&mut self, conn: ConnId, number: u64, pulse: Pulse) {
        self.mesh.pulse(conn, number, pulse, self.now.uptime);
        self.settle();
    }

    /// A connection to an unconnected node is wanted: its lane has got something to send.
    pub fn want_connection(&mut self, node: &NodeId) {
        self.mesh.want_connection(node, self.now.uptime);
        self.settle();
    }

    /// Ends the connection of a node that is up, or the attempt to connect it.
    pub fn disconnect(&mut self, node: &NodeId, why: &str) {
        self.mesh.disconnect(node, why, self.now.uptime);
        self.settle();
    }

    /// Makes the seeds that are down be dialled now, or a moment after they were dialled last, and
    /// the delay between retries short again.
    pub fn retry_seeds(&mut self) {
        self.mesh.retry_seeds(self.now.uptime, &mut self.random);
        self.settle();
    }

    /// Replaces the seeds; connections that exist stay.
    pub fn set_seeds(&mut self, addresses: &[Str]) {
        self.mesh.set_seeds(addresses, self.now.uptime, &mut self.random);
        self.settle();
    }

    /// Whether another connection than this one leads, or claims to lead, to the node.
    pub fn is_spare(&self, conn: ConnId, node: &NodeId) -> bool {
        self.mesh.is_spare(conn, node)
    }

    // Ports and monitors.

    /// Makes a local port with a name chosen here.
    pub fn open_port(&mut self) -> PortName {
        self.ports.open(&mut self.random)
    }

    /// Adds a local port that the host has made and named; [`Kernel::port_ended`] has to follow.
    pub fn add_port(&mut self, name: &PortName) {
        self.ports.add(name.clone());
    }

    /// As [`Kernel::add_port`], for the reply port of a call: its death is told to the caller by
    /// [`Effect::PortClosed`], so that the log has no line about it.
    pub fn add_reply_port(&mut self, name: &PortName) {
        self.ports.add_reply(name.clone());
    }

    /// Monitors a port, local or remote; or, with a node's ID, the connection to that node.
    ///
    /// It fires once, with the reason of the death or loss. What Perl calls `mon`.
    pub fn monitor(&mut self, target: &PortId, on_death: OnDeath) -> MonitorId {
        let id = self.ports.monitor(target, on_death);
        self.settle();
        id
    }

    /// Removes a monitor; nothing happens if it has fired.
    pub fn unmonitor(&mut self, monitor: MonitorId) {
        self.ports.unmonitor(monitor);
        self.settle();
    }

    /// A port of this node ended normally: whoever monitors it is told. No
    /// [`Effect::PortClosed`] follows; the host knows.
    pub fn port_ended(&mut self, port: &PortName) {
        self.ports.ended(port);
        self.settle();
    }

    // The database.

    /// Makes this node global, if it is not.
    pub fn become_global(&mut self) {
        self.turn_global();
        self.settle();
    }

    /// Sets an entry of this node. What Perl calls `db_set`.
    ///
    /// # Errors
    /// Fails for internal families, which begin with `'`.
    pub fn set(&mut self, family: &Str, key: Str, value: Datum) -> Result<(), SetError> {
        let done = self.db.set(family, key, value, self.now.uptime);
        self.settle();
        done
    }

    /// Deletes entries of this node. What Perl calls `db_del`.
    ///
    /// # Errors
    /// Fails for internal families, which begin with `'`.
    pub fn delete(
        &mut self,
        family: &Str,
        keys: impl IntoIterator<Item = Str>,
    ) -> Result<(), InternalFamily> {
        let done = self.db.delete(family, keys, self.now.uptime);
        self.settle();
        done
    }

    /// Asks for a family, its keys or its values; an [`Effect::Answer`] follows.
    pub fn query(&mut self, kind: QueryKind, family: &Str) -> QueryId {
        let query = self.db.query(kind, family.clone(), self.now.uptime);
        self.settle();
        query
    }

    /// Asks for the value of one key; an [`Effect::Answer`] follows.
    pub fn get(&mut self, family: &Str, key: &Str) -> QueryId {
        let query = self.db.get(family.clone(), key.clone(), self.now.uptime);
        self.settle();
        query
    }

    /// Nobody waits for the answer of a query any more.
    pub fn cancel_query(&mut self, query: QueryId) {
        self.db.cancel(query);
        self.settle();
    }

    /// Monitors a family: an [`Effect::Changed`] with its content follows, then one for each change.
    pub fn monitor_family(&mut self, family: &Str) -> DbMonitorId {
        let monitor = self.db.monitor(family.clone(), self.now.uptime);
        self.settle();
        monitor
    }

    /// Ends a monitor of a family.
    pub fn unmonitor_family(&mut self, monitor: DbMonitorId) {
        self.db.unmonitor(monitor, self.now.uptime);
        self.settle();
    }

    // What there is to see.

    /// This node's ID.
    pub fn node(&self) -> &NodeId {
        &self.node
    }

    /// The port to which answers to the kernel come; hand its messages to
    /// [`Kernel::service_message`].
    pub fn service_port(&self) -> &PortName {
        &self.service_port
    }

    /// Whether there is a connection to `node`; to itself a node is always connected.
    pub fn is_up(&self, node: &NodeId) -> bool {
        *node == self.node || self.mesh.is_up(node)
    }

    /// The nodes that this one is connected to, without itself.
    pub fn up_nodes(&self) -> Vec<NodeId> {
        self.up_nodes_with_trust().into_iter().map(|(node, _)| node).collect()
    }

    /// The same nodes, each with whether it has not proven that it belongs to the network.
    pub fn up_nodes_with_trust(&self) -> Vec<(NodeId, bool)> {
        let up = self.mesh.up_nodes();
        let mut nodes: Vec<(NodeId, bool)> =
            up.map(|(node, untrusted)| (node.clone(), untrusted)).collect();
        nodes.sort();
        nodes
    }

    /// Which software a connected node says it is.
    pub fn provider(&self, node: &NodeId) -> Option<&Str> {
        self.mesh.provider(node)
    }

    /// What is known of the seeds.
    pub fn seeds(&self) -> Vec<SeedStatus> {
        self.mesh.seed_status()
    }

    /// Whether this node is global.
    pub fn is_global(&self) -> bool {
        self.db.is_global()
    }

    /// The node that keeps the database for this one; a global node is its own master.
    pub fn master(&self) -> Option<&NodeId> {
        self.db.master()
    }

    /// The database, to be looked at.
    pub fn database(&self) -> &Database {
        &self.db
    }

    /// The families of the database with how many keys each has; none if this node is not global.
    pub fn families(&self) -> Vec<(Str, usize)> {
        self.db.families()
    }

    /// How many connections there are in whatever state, dials and handshakes included.
    pub fn connection_count(&self) -> usize {
        self.mesh.connections()
    }

    /// How many ports of this node the kernel knows.
    pub fn port_count(&self) -> usize {
        self.ports.len()
    }

    /// How many monitors of this node are set.
    pub fn monitor_count(&self) -> usize {
        self.ports.monitors()
    }

    /// How many database queries wait for an answer.
    pub fn query_count(&self) -> usize {
        self.db.outstanding().0
    }

    /// Octets that are kept on account of peers, without database entries; see [`PeerLimits`].
    pub fn octets_for_peers(&self) -> usize {
        self.ports.octets_for_peers() + self.db.octets_for_peers() + self.waiting.octets()
    }

    /// Octets of the database entries of all nodes, if this node is global.
    pub fn database_octets(&self) -> usize {
        self.db.global().map_or(0, |global| global.merge().octets())
    }

    /// How often something was refused because a peer was at one of its limits.
    pub const fn refused_for_limits(&self) -> u64 {
        self.refused
    }

    /// How many slaves were told to adopt this node because they had lost their master.
    pub fn healed(&self) -> u64 {
        self.healing.healed()
    }

    /// Counts what this kernel holds; takes as long as there is much of it.
    pub fn resource_counts(&self) -> ResourceCounts {
        ResourceCounts::of(&self.node, &self.mesh, &self.ports, &self.db, self.agenda.len())
    }

    /// Randomness that nobody else has.
    pub(crate) fn entropy(&mut self) -> [u8; 32] {
        self.random.entropy()
    }
}
