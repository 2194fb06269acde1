//! The node's logic as deterministic state machines, without sockets, clock or randomness of its own.
//!
//! [`Kernel`] is a router over machines that do not know each other: the mesh (connections), the ports
//! (with all monitors), the database, and the healing of Perl slaves. It passes each input to the
//! machine responsible for it, and turns the outputs of machines into [`Effect`]s or into inputs of
//! other machines. Tests run whole networks of kernels in virtual time.

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
mod lines;
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
mod table;
mod time;

pub use config::KernelConfig;
pub use counts::ResourceCounts;
pub use effect::{AuthOrder, Call, ConnId, Effect, Level, MonitorId, Origin, PortName, Reason};
pub(crate) use effect::{build_reason, died};
pub use eval::is_function;
pub use large::{LARGE_PACKET, LargePacket, NextPiece, is_large};
pub use limits::PeerLimits;
pub use lines::Line;
pub use mesh::{Authenticated, PeerGreeting, Pulse, SeedStatus};
pub use ports::OnDeath;
pub(crate) use random::Random;
pub use request::{Arguments, Handler, REQUESTS, RequestInfo, port_named_by};
pub use time::Now;

use crate::value::{NodeId, Packed, PortId, Str};
use db::{
    Database, Datum, DbConfig, DbMonitorId, DbProblem, InternalFamily, QueryId, QueryKind, SetError,
};
use healing::Healing;
use limits::PendingOctets;
pub(crate) use lines::{cut, cut_line};
use log::LogLimits;
use mesh::{Mesh, MeshTimer};
use ports::Ports;
use std::collections::VecDeque;
use time::TimerQueue;

/// A hash map that is faster than the standard library's, still with a secret per map against keys
/// chosen by peers; keys can be looked up in the form that they have in a packet.
type HashMap<K, V> = hashbrown::HashMap<K, V, foldhash::fast::RandomState>;
type HashSet<K> = hashbrown::HashSet<K, foldhash::fast::RandomState>;

/// What a timer of the kernel is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Task {
    Mesh(MeshTimer),
    Healing(NodeId),
}

/// The decisions of a node: plain data in, [`Effect`]s out.
///
/// The host first passes the time ([`Kernel::set_now`]), then any number of inputs, and then takes the
/// effects ([`Kernel::take_effects`], [`Kernel::swap_effects`]) and carries them out in order. When an
/// input's method returns, everything that follows from it is decided, and its effects come after those
/// of earlier inputs, so it makes no difference whether the host takes the effects after each input or
/// after many. Carrying out an effect may cause another input; the effects of that come after those
/// already taken.
///
/// **Connections.** The host reports each connection in this order: [`Kernel::accepted`] (or it is told
/// to dial by [`Effect::Dial`]), [`Kernel::greeting_sent`], [`Kernel::greeted`] or
/// [`Kernel::greeted_with_own_id`]; it waits for [`Effect::Proceed`] before it sends its authentication
/// line, reports [`Kernel::verified`] if it was told to wait for the peer's, and then
/// [`Kernel::established`]. [`Effect::LaneUp`] means that packets may be sent and read.
/// [`Kernel::closed`] comes last; it may come at any time. The host answers [`Effect::Probe`] and
/// [`Effect::Look`] with [`Kernel::pulse`], once it has handled what was received on the connection, and
/// [`Effect::AwaitRoom`] with [`Kernel::has_room`]. If much is queued in a lane after an
/// [`Effect::Send`] or [`Effect::SendAll`], the host calls [`Kernel::has_no_room`].
///
/// **Packets.** Packets to the node port go to [`Kernel::node_packet`], messages to
/// [`Kernel::service_port`] to [`Kernel::service_message`], and all others to the port that they name,
/// without the kernel. A large packet to the node port ([`is_large`]) should be handled in pieces
/// ([`LargePacket::work`]), so that other threads get the kernel in between. So should what
/// [`Kernel::node_packet`] leaves unfinished ([`Kernel::take_unfinished`]).
///
/// **The program on this node.** Ports ([`Kernel::open_port`], [`Kernel::kill`],
/// [`Kernel::port_ended`]), monitors (`Kernel::monitor`), spawning, the database, the seeds. The kernel
/// knows the ports that it has named, that peers have spawned, and that the host has added
/// ([`Kernel::add_port`]); a host that has other ports adds one as soon as a request names it
/// ([`port_named_by`]).
///
/// **Time.** [`Kernel::tick`] has to be called at [`Kernel::next_tick`], which every input may
/// change.
///
/// All other methods only read.
#[derive(Debug)]
pub struct Kernel {
    node: NodeId,
    secure: bool,
    process_id: u32,
    now: Now,
    random: Random,
    agenda: TimerQueue<Task>,
    effects: Vec<Effect>,
    /// Packets of this node to itself that were not handled yet.
    own_packets: VecDeque<Packed>,
    /// The port that receives answers to the kernel's own questions.
    service_port: PortName,
    /// The functions that peers may call and spawn.
    functions: HashSet<Str>,
    /// The maximum length, in octets, of all names that were ever among them.
    longest_function: usize,
    log_limits: LogLimits,
    limits: PeerLimits,
    waiting: PendingOctets,
    /// The number of refusals because a peer was at one of its limits.
    refused: u64,
    /// The database's refusals for the packet that is being handled: each is logged once for a packet,
    /// even if several of its pieces are refused.
    refused_of_packet: Option<Vec<DbProblem>>,
    /// The large packet that is being handled, if its parts are shared.
    large_body: Option<Packed>,
    mesh: Mesh,
    ports: Ports,
    db: Database,
    healing: Healing,
    /// An empty vector whose capacity is reused for the database's effects.
    db_effects: Vec<db::DbEffect>,
}

/// Inputs and queries. Outputs of machines are handled in `router.rs`, requests of peers in
/// `dispatch.rs`. An input calls a machine, and ends with [`Kernel::settle`].
impl Kernel {
    /// A node that is starting: it will dial its seeds at once.
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
            agenda: TimerQueue::new(),
            effects: Vec::new(),
            own_packets: VecDeque::new(),
            service_port,
            functions: HashSet::default(),
            longest_function: 0,
            log_limits: LogLimits::default(),
            limits: PeerLimits::default(),
            waiting: PendingOctets::default(),
            refused: 0,
            refused_of_packet: None,
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

    /// Sets the limits for each peer from now on.
    pub fn set_limits(&mut self, limits: PeerLimits) {
        self.limits = limits;
        self.ports.set_limit(limits.table);
        self.db.set_limits(limits);
    }

    /// Sets the size of the pieces in which whole databases are sent, in octets. The default is
    /// [`db::PIECE_SIZE`].
    pub fn set_database_piece(&mut self, octets: usize) {
        self.db.set_piece(octets);
    }

    /// Sets the time of the inputs that follow.
    pub fn set_now(&mut self, now: Now) {
        self.now = now;
    }

    /// The addresses of this node have changed. Existing connections stay open.
    pub fn set_addresses(&mut self, addresses: &[Str]) {
        self.db.set_location(addresses, self.now.uptime);
        self.settle();
    }

    // Connections.

    /// A connection was accepted.
    pub fn accepted(&mut self) -> ConnId {
        self.mesh.accepted()
    }

    /// The two greeting lines that this node sends on a connection.
    pub fn greeting_sent(&mut self, conn: ConnId, lines: &[u8]) {
        self.mesh.greeting_sent(conn, lines);
    }

    /// A peer has sent its greeting; nothing of it is proven.
    ///
    /// The answer is an [`Effect::Proceed`] or [`Effect::Close`], at once or later.
    pub fn greeted(&mut self, conn: ConnId, greeting: PeerGreeting) {
        self.mesh.greeted(conn, greeting, self.now.uptime);
        self.settle();
    }

    /// A peer has sent a greeting with our own node ID. Returns why the connection ends (it leads to
    /// this node itself, or to something that echoes what it receives), unless the peer is another node.
    ///
    /// If a dialled seed is this node, this node becomes global.
    pub fn greeted_with_own_id(&mut self, conn: ConnId, lines: &[u8]) -> Option<&'static str> {
        let why = self.mesh.greeted_with_own_id(conn, lines, self.now.uptime);
        self.settle();
        why
    }

    /// The peer's authentication line was verified, and ours is still held back.
    pub fn verified(&mut self, conn: ConnId) {
        self.mesh.verified(conn, self.now.uptime);
        self.settle();
    }

    /// Both sides have authenticated: the connection carries packets from now on.
    pub fn established(&mut self, conn: ConnId, how: &Authenticated) {
        self.mesh.established(conn, how, self.now.uptime);
        self.settle();
    }

    /// A connection has ended, or a dial has failed.
    pub fn closed(&mut self, conn: ConnId, why: &str) {
        self.mesh.closed(conn, why, self.now.uptime);
        self.settle();
    }

    /// The state of a connection: the answer to [`Effect::Probe`] and [`Effect::Look`].
    pub fn pulse(&mut self, conn: ConnId, number: u64, pulse: Pulse) {
        self.mesh.pulse(conn, number, pulse, self.now.uptime);
        self.settle();
    }

    /// There is something to send to a node that is not connected.
    pub fn want_connection(&mut self, node: &NodeId) {
        self.mesh.want_connection(node, self.now.uptime);
        self.settle();
    }

    /// Closes the connection of a node that is up, or ends the attempt to connect it.
    pub fn disconnect(&mut self, node: &NodeId, why: &str) {
        self.mesh.disconnect(node, why, self.now.uptime);
        self.settle();
    }

    /// Resets the retry delay, and dials the seeds that are down now, or a moment after their last dial.
    pub fn retry_seeds(&mut self) {
        self.mesh.retry_seeds(self.now.uptime, &mut self.random);
        self.settle();
    }

    /// Replaces the seeds; existing connections stay open.
    pub fn set_seeds(&mut self, addresses: &[Str]) {
        self.mesh.set_seeds(addresses, self.now.uptime, &mut self.random);
        self.settle();
    }

    /// Whether a connection other than this one leads, or claims to lead, to the node.
    pub fn is_spare(&self, conn: ConnId, node: &NodeId) -> bool {
        self.mesh.is_spare(conn, node)
    }

    // Ports and monitors.

    /// Makes a local port with a new name.
    pub fn open_port(&mut self) -> PortName {
        self.ports.open(&mut self.random)
    }

    /// Adds a local port that the host has made and named; the host has to call [`Kernel::port_ended`].
    pub fn add_port(&mut self, name: &PortName) {
        self.ports.add(name.clone());
    }

    /// As [`Kernel::add_port`], for the reply port of a call. The caller is told of its death by
    /// [`Effect::PortClosed`], so no line is logged about it.
    pub fn add_reply_port(&mut self, name: &PortName) {
        self.ports.add_reply(name.clone());
    }

    /// Monitors a port, local or remote; or, with a node's ID, the connection to that node.
    ///
    /// It fires once, with the reason of the death or loss. Perl's `mon`.
    pub fn monitor(&mut self, target: &PortId, on_death: OnDeath) -> MonitorId {
        let id = self.ports.monitor(target, on_death);
        self.settle();
        id
    }

    /// Removes a monitor; no effect if it has fired.
    pub fn unmonitor(&mut self, monitor: MonitorId) {
        self.ports.unmonitor(monitor);
        self.settle();
    }

    /// A port of this node ended normally: its monitors are told. No [`Effect::PortClosed`] follows.
    pub fn port_ended(&mut self, port: &PortName) {
        self.ports.ended(port);
        self.settle();
    }

    // The database.

    /// Makes this node global, if it is not global yet.
    pub fn become_global(&mut self) {
        self.turn_global();
        self.settle();
    }

    /// Sets an entry of this node. Perl's `db_set`.
    ///
    /// # Errors
    /// Fails for internal families, which begin with `'`.
    pub fn set(&mut self, family: &Str, key: Str, value: Datum) -> Result<(), SetError> {
        let done = self.db.set(family, key, value, self.now.uptime);
        self.settle();
        done
    }

    /// Deletes entries of this node. Perl's `db_del`.
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

    /// Requests a family, its keys or its values; an [`Effect::Answer`] follows.
    pub fn query(&mut self, kind: QueryKind, family: &Str) -> QueryId {
        let query = self.db.query(kind, family.clone(), self.now.uptime);
        self.settle();
        query
    }

    /// Requests the value of one key; an [`Effect::Answer`] follows.
    pub fn get(&mut self, family: &Str, key: &Str) -> QueryId {
        let query = self.db.get(family.clone(), key.clone(), self.now.uptime);
        self.settle();
        query
    }

    /// Cancels a query.
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

    /// Removes a monitor of a family.
    pub fn unmonitor_family(&mut self, monitor: DbMonitorId) {
        self.db.unmonitor(monitor, self.now.uptime);
        self.settle();
    }

    // Queries.

    /// This node's ID.
    pub fn node(&self) -> &NodeId {
        &self.node
    }

    /// The port that receives answers to the kernel's questions; pass its messages to
    /// [`Kernel::service_message`].
    pub fn service_port(&self) -> &PortName {
        &self.service_port
    }

    /// Whether `node` is connected. A node is always connected to itself.
    pub fn is_up(&self, node: &NodeId) -> bool {
        *node == self.node || self.mesh.is_up(node)
    }

    /// The nodes that are connected, without this one.
    pub fn up_nodes(&self) -> Vec<NodeId> {
        self.up_nodes_with_trust().into_iter().map(|(node, _)| node).collect()
    }

    /// The same nodes, each with whether it is untrusted: it has not proven that it belongs to the
    /// network.
    pub fn up_nodes_with_trust(&self) -> Vec<(NodeId, bool)> {
        let up = self.mesh.up_nodes();
        let mut nodes: Vec<(NodeId, bool)> =
            up.map(|(node, untrusted)| (node.clone(), untrusted)).collect();
        nodes.sort();
        nodes
    }

    /// The implementation that a connected node announced.
    pub fn provider(&self, node: &NodeId) -> Option<&Str> {
        self.mesh.provider(node)
    }

    /// The state of the seeds.
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

    /// The database, for reading.
    pub fn database(&self) -> &Database {
        &self.db
    }

    /// The families of the database and their numbers of keys; none if this node is not global.
    pub fn families(&self) -> Vec<(Str, usize)> {
        self.db.families()
    }

    /// The number of connections in any state, dials and handshakes included.
    pub fn connection_count(&self) -> usize {
        self.mesh.connections()
    }

    /// The number of ports of this node that the kernel knows.
    pub fn port_count(&self) -> usize {
        self.ports.len()
    }

    /// The number of monitors that this node has set.
    pub fn monitor_count(&self) -> usize {
        self.ports.monitors()
    }

    /// The number of pending database queries.
    pub fn query_count(&self) -> usize {
        self.db.outstanding().0
    }

    /// Octets kept for peers, without database entries; see [`PeerLimits`].
    pub fn octets_for_peers(&self) -> usize {
        self.ports.octets_for_peers() + self.db.octets_for_peers() + self.waiting.octets()
    }

    /// Octets of the database entries of all nodes, if this node is global.
    pub fn database_octets(&self) -> usize {
        self.db.global().map_or(0, |global| global.merge().octets())
    }

    /// The number of refusals because a peer was at one of its limits.
    pub const fn refused_for_limits(&self) -> u64 {
        self.refused
    }

    /// The number of slaves that this node has healed, by making them adopt it.
    pub fn healed(&self) -> u64 {
        self.healing.healed()
    }

    /// Counts the resources of this kernel, in time proportional to their number.
    pub fn resource_counts(&self) -> ResourceCounts {
        ResourceCounts::of(&self.node, &self.mesh, &self.ports, &self.db, self.agenda.len())
    }

    /// Random octets for a secret.
    pub(crate) fn entropy(&mut self) -> [u8; 32] {
        self.random.entropy()
    }
}
