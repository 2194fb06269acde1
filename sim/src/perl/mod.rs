//! A model of a Perl node, with the defects that others have to live with (`docs/protocol.md` §7).
//!
//! Its database is ours; its mesh and its choice of a master are not. It stops monitoring its
//! master if it changed the master while another one was up, believes in dead masters, gives up
//! dials early, and uses whichever of two connections is completed last.

mod connections;
mod master;

use crate::event::{Timer, WorldEvent};
use crate::node::HandlerContext;
use crate::wire::{HandshakeParams, Wire};
use aemp::kernel::db::{Database, DbConfig, DbEffect, OwnerKind, Request};
use aemp::value::packed::{self, Elements};
use aemp::value::{NodeId, Packed, PortId, Str, StrRef};
use aemp::wire::framing::Framing;
use master::Master;
use rand::Rng as _;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The provider in its greeting.
const PROVIDER: &str = "AE-2.02";

/// A model of a Perl node.
#[derive(Debug)]
pub struct PerlNode {
    id: NodeId,
    introduction: HandshakeParams,
    db: Database,
    started: Duration,
    seeds: Vec<PerlSeed>,
    seed_delay: Duration,
    master: Master,
    wires: BTreeMap<u64, Wire>,
    /// Why each connection was dialled: for a seed, or for a node.
    goals: BTreeMap<u64, Goal>,
    next_conn: u64,
    links: BTreeMap<NodeId, u64>,
    keepalive: BTreeSet<NodeId>,
    ports: BTreeMap<Str, BTreeSet<NodeId>>,
    /// Whether it refuses function calls: `secure` mode.
    secure: bool,
    happenings: Vec<WorldEvent>,
    adopted: u32,
}

#[derive(Debug)]
struct PerlSeed {
    address: Str,
    node: Option<NodeId>,
    dial: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Goal {
    Seed(Str),
    Node,
}

impl PerlNode {
    pub(crate) fn new(
        id: NodeId,
        addresses: &[Str],
        seeds: &[Str],
        tls: bool,
        now: Duration,
    ) -> Self {
        let config = DbConfig { patience: Duration::from_secs(100_000), grace: Duration::ZERO };
        let mut db = Database::new(id.clone(), config);
        db.set_piece(usize::MAX);
        db.set_location(addresses, Duration::ZERO);
        let seeds = seeds.iter();
        let seeds =
            seeds.map(|address| PerlSeed { address: address.clone(), node: None, dial: None });
        PerlNode {
            introduction: HandshakeParams::new(
                &id,
                &Str::from(PROVIDER),
                Some(""),
                &Framing::ALL,
                (tls, false),
                false,
            ),
            id,
            db,
            started: now,
            seeds: seeds.collect(),
            seed_delay: Duration::ZERO,
            master: Master::default(),
            wires: BTreeMap::new(),
            goals: BTreeMap::new(),
            next_conn: 0,
            links: BTreeMap::new(),
            keepalive: BTreeSet::new(),
            ports: BTreeMap::new(),
            secure: false,
            happenings: Vec::new(),
            adopted: 0,
        }
    }

    /// Its database, for inspection.
    pub fn database(&self) -> &Database {
        &self.db
    }

    /// The master that it believes it has.
    pub fn master(&self) -> Option<&NodeId> {
        if self.db.is_global() { Some(&self.id) } else { self.master.believed() }
    }

    /// The nodes that it is connected to.
    pub fn up_nodes(&self) -> impl Iterator<Item = &NodeId> {
        self.links.keys()
    }

    /// Its local ports.
    pub fn ports(&self) -> impl Iterator<Item = &Str> {
        self.ports.keys()
    }

    /// How often a function call made it adopt a master.
    pub fn adopted(&self) -> u32 {
        self.adopted
    }

    pub(crate) fn set_secure(&mut self, secure: bool) {
        self.secure = secure;
    }

    pub(crate) fn take_happenings(&mut self) -> Vec<WorldEvent> {
        std::mem::take(&mut self.happenings)
    }

    pub(crate) fn start(&mut self, around: &mut HandlerContext<'_>, global: bool) {
        if global {
            self.db.become_global(Duration::ZERO);
        }
        self.seed_delay = Duration::from_millis(around.random.random_range(600..1_200));
        self.search_master(around);
        self.dial_seeds(around);
        self.settle(around);
        around.timer(Duration::from_millis(500), Timer::Tick);
    }

    /// Changes its own entries, or queries its database.
    pub(crate) fn database_call<R>(
        &mut self,
        around: &mut HandlerContext<'_>,
        call: impl FnOnce(&mut Database, Duration) -> R,
    ) -> R {
        let now = around.now() - self.started;
        let result = call(&mut self.db, now);
        self.settle(around);
        result
    }

    pub(crate) fn open_port(&mut self, around: &mut HandlerContext<'_>) -> PortId {
        let name = Str::from(format!("perl{}", around.random.random::<u64>()));
        self.ports.insert(name.clone(), BTreeSet::new());
        PortId::new(&self.id, &name)
    }

    pub(crate) fn kill_port(
        &mut self,
        around: &mut HandlerContext<'_>,
        port: &Str,
        reason: &Packed,
    ) {
        let Some(watchers) = self.ports.remove(port) else { return };
        self.happenings.push(WorldEvent::PortClosed { port: port.clone(), reason: reason.clone() });
        for node in watchers {
            let mut request = begin(&["kil0"]);
            packed::put_str(&mut request.1, port.as_ref());
            request.1.extend_from_slice(reason.as_elements().octets());
            self.send(around, &node, request.0 + 1 + reason.len(), &request.1);
        }
    }

    /// Sends a packet to a connected node; packets to other nodes are lost.
    fn send(&mut self, around: &mut HandlerContext<'_>, to: &NodeId, len: usize, octets: &[u8]) {
        if let Some(conn) = self.links.get(to)
            && let Some(wire) = self.wires.get(conn)
            && let Some(end) = wire.end
        {
            let mut out = Vec::new();
            let packet = Elements::new(len, octets);
            if aemp::wire::framing::encode(wire.framing, packet, &mut out).is_ok() {
                around.send(end, crate::link::Segment::Data(out));
            }
        }
    }

    fn request(&mut self, around: &mut HandlerContext<'_>, to: &NodeId, name: &str) {
        let (len, octets) = begin(&[name]);
        self.send(around, to, len, &octets);
    }

    /// Carries out the outputs of the database.
    fn settle(&mut self, around: &mut HandlerContext<'_>) {
        loop {
            let effects = self.db.take_effects();
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                match effect {
                    DbEffect::Send { to, packet } => {
                        for node in to.iter() {
                            self.send(around, node, packet.len(), packet.as_elements().octets());
                        }
                    }
                    DbEffect::Answer { query, answer } => {
                        self.happenings.push(WorldEvent::Answered { query, answer });
                    }
                    DbEffect::Changed { monitor, changes } => {
                        self.happenings.push(WorldEvent::Changed { monitor, changes });
                    }
                    DbEffect::KeepAlive(node) => {
                        self.keepalive.insert(node);
                    }
                    DbEffect::KeepAliveNoMore(node) => {
                        self.keepalive.remove(&node);
                    }
                    _ => {}
                }
            }
        }
    }

    /// Handles a packet from a connected node.
    fn packet(&mut self, around: &mut HandlerContext<'_>, from: &NodeId, packet: &Packed) {
        let elements = packet.as_elements();
        let Some(port) = elements.first_str() else { return };
        if port.is_empty() {
            self.node_request(around, from, elements.after(1));
        } else if self.ports.contains_key(&port.to_owned()) {
            self.happenings.push(WorldEvent::Delivered {
                port: port.to_owned(),
                from: from.clone(),
                message: elements.after(1).to_packed(),
            });
        }
    }

    fn node_request(
        &mut self,
        around: &mut HandlerContext<'_>,
        from: &NodeId,
        request: Elements<'_>,
    ) {
        let Some(name) = request.first_str() else { return };
        let arguments = request.after(1);
        let now = around.now() - self.started;
        if self.adds_only(from, name, arguments, now) || self.db.receive(from, name, arguments, now)
        {
            return self.settle(around);
        }
        let first = arguments.first_str();
        match (&*name.to_text_lossy(), first) {
            ("mon1", Some(port)) => self.mon1(around, from, port),
            ("mon0", Some(port)) => {
                if let Some(watchers) = self.ports.get_mut(&port.to_owned()) {
                    watchers.remove(from);
                }
            }
            ("kil1", Some(port)) => {
                let reason = arguments.after(1).to_packed();
                self.kill_port(around, &port.to_owned(), &reason);
            }
            ("snd", Some(to)) => {
                let message = arguments.after(1).to_packed();
                self.reply(around, to, &message, &[]);
            }
            ("eval", Some(_)) if !self.secure => {
                // Only one expression is ever evaluated.
                let master = self.master().map(|master| master.as_str().to_owned());
                let mut results = vec![Some(Str::default()), master];
                results.extend(self.links.keys().map(|node| Some(node.as_str().to_owned())));
                let reply = arguments.after(1);
                if let Some(to) = reply.first_str() {
                    self.reply(around, to, &reply.after(1).to_packed(), &results);
                }
            }
            ("AnyEvent::MP::Kernel::master_set", Some(master)) if !self.secure => {
                if let Ok(master) = NodeId::try_from(master) {
                    self.adopted += 1;
                    self.master_set(around, master);
                }
            }
            _ => {}
        }
    }

    /// The defect: entries that a node had and does not send again are kept. Returns true if that
    /// applies.
    fn adds_only(
        &mut self,
        from: &NodeId,
        name: StrRef<'_>,
        arguments: Elements<'_>,
        now: Duration,
    ) -> bool {
        let kind = self.db.global().and_then(|global| global.merge().kind(from));
        let tables = match (kind, Request::parse(name, arguments)) {
            (Some(OwnerKind::Slave), Some(Ok(Request::Slave(Some(tables)))))
            | (Some(OwnerKind::Global), Some(Ok(Request::Set(tables)))) => tables,
            _ => return false,
        };
        for (family, set) in tables {
            let update = Request::Update { family, set: Some(set), delete: None };
            self.db.handle(from, update, now);
        }
        true
    }

    fn mon1(&mut self, around: &mut HandlerContext<'_>, from: &NodeId, port: StrRef<'_>) {
        if let Some(watchers) = self.ports.get_mut(&port.to_owned()) {
            watchers.insert(from.clone());
            return;
        }
        let (len, mut octets) = begin(&["kil0"]);
        packed::put_str(&mut octets, port);
        packed::put_octets(&mut octets, b"no_such_port");
        self.send(around, from, len + 2, &octets);
    }

    fn reply(
        &mut self,
        around: &mut HandlerContext<'_>,
        to: StrRef<'_>,
        message: &Packed,
        results: &[Option<Str>],
    ) {
        let Ok(to) = PortId::try_from(to) else { return };
        let mut octets = Vec::new();
        packed::put_str(&mut octets, to.port());
        octets.extend_from_slice(message.as_elements().octets());
        for result in results {
            match result {
                Some(text) => packed::put_str(&mut octets, text.as_ref()),
                None => packed::put_undef(&mut octets),
            }
        }
        self.send(around, &to.node(), 1 + message.len() + results.len(), &octets);
    }
}

/// The beginning of a node request: the number of elements, and the octets.
fn begin(names: &[&str]) -> (usize, Vec<u8>) {
    let mut octets = Vec::new();
    packed::put_octets(&mut octets, b"");
    names.iter().for_each(|name| packed::put_octets(&mut octets, name.as_bytes()));
    (1 + names.len(), octets)
}
