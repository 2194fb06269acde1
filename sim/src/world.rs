//! The world: nodes, the network between them, and time.

use crate::event::{Event, Queue, WorldEvent};
use crate::link::{LinkEnd, Segment};
use crate::net::{Net, NetworkConditions, SlowLink, Traffic};
use crate::node::{HandlerContext, Node};
use crate::perl::PerlNode;
use crate::program::Program;
use crate::spec::Spec;
use crate::stranger::{Stranger, StrangerBehaviour};
use crate::wire::HandshakeParams;
use aemp::kernel::db::Database;
use aemp::kernel::{Kernel, KernelConfig};
use aemp::value::{Packed, PortId, Str};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use std::collections::BTreeSet;
use std::time::Duration;

/// Every node's `connect_interval`.
pub(crate) const CONNECT_INTERVAL: Duration = Duration::from_secs(2);

/// A place for a node. The node may crash and start again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId(pub usize);

#[derive(Debug)]
struct Host {
    spec: Spec,
    incarnation: u32,
    node: Option<Program>,
    /// The process is stopped until then, and notices nothing before.
    stopped_until: Duration,
}

/// Nodes, the network between them, and time.
#[derive(Debug)]
pub struct World {
    queue: Queue,
    net: Net,
    hosts: Vec<Host>,
    /// Number of places for nodes, which come first; the others are strangers.
    nodes: usize,
    random: StdRng,
    /// Places where something has happened since the last call of `next_touched`.
    touched: BTreeSet<HostId>,
}

impl World {
    /// An empty world in which everything takes one millisecond.
    pub fn calm() -> Self {
        World::new(0, NetworkConditions::CALM)
    }

    /// An empty world, whose random choices are determined by `seed`.
    pub fn new(seed: u64, weather: NetworkConditions) -> Self {
        World {
            queue: Queue::default(),
            net: Net::new(weather),
            hosts: Vec::new(),
            nodes: 0,
            random: StdRng::seed_from_u64(seed),
            touched: BTreeSet::new(),
        }
    }

    /// The time since the beginning.
    pub fn now(&self) -> Duration {
        self.queue.now
    }

    /// Changes the network's delays.
    pub fn set_weather(&mut self, weather: NetworkConditions) {
        self.net.weather = weather;
    }

    /// Whether handshakes are cut, and delayed more than other octets.
    pub fn set_handshake_trouble(&mut self, trouble: bool) {
        self.net.handshakes_have_trouble = trouble;
    }

    /// Adds a place where nothing is running yet.
    pub fn place(&mut self, spec: Spec) -> HostId {
        assert_eq!(self.nodes, self.hosts.len(), "strangers come last");
        self.nodes += 1;
        self.place_anybody(spec)
    }

    fn place_anybody(&mut self, spec: Spec) -> HostId {
        let host = self.hosts.len();
        self.hosts.push(Host { spec, incarnation: 0, node: None, stopped_until: Duration::ZERO });
        self.net.running.push(None);
        HostId(host)
    }

    /// Adds a process that does not know the secret and is not one of [`World::hosts`]. All places
    /// for nodes have to be added before.
    pub fn add_stranger(&mut self, manner: StrangerBehaviour) -> HostId {
        let stranger = self.place_anybody(Spec::new("stranger"));
        let place = &mut self.hosts[stranger.0];
        place.incarnation = 1;
        place.node = Some(Program::Stranger(Box::new(Stranger::new(manner))));
        self.net.running[stranger.0] = Some(1);
        stranger
    }

    /// Sets the behaviour of a stranger on new connections.
    pub fn set_manner(&mut self, stranger: HostId, manner: StrangerBehaviour) {
        self.with_stranger(stranger.0, |stranger, _| stranger.manner = manner);
    }

    /// Number of connections on which a stranger has got through the handshake.
    pub fn taken_for_a_node(&self, stranger: HostId) -> u64 {
        match self.hosts.get(stranger.0).and_then(|place| place.node.as_ref()) {
            Some(Program::Stranger(stranger)) => stranger.taken_for_a_node(),
            _ => 0,
        }
    }

    /// Lets a stranger answer at the address of a node, or, with `None`, the node itself again. Perl
    /// nodes believe what strangers send, but still reach the node itself.
    pub fn hijack(&mut self, address: &str, stranger: Option<HostId>) {
        match stranger {
            Some(stranger) => self.net.hijacked.insert(Str::from(address), stranger.0),
            None => self.net.hijacked.remove(&Str::from(address)),
        };
    }

    /// A stranger connects to an address.
    pub fn stranger_dials(&mut self, stranger: HostId, address: &str) {
        let address = Str::from(address);
        self.with_stranger(stranger.0, |stranger, around| {
            let (host, incarnation, since) = (around.host, around.incarnation, around.now());
            let conn = stranger.new_conn();
            let delay = around.net.weather.delay(around.random);
            around.queue.after(delay, Event::Dial { host, incarnation, conn, address, since });
        });
    }

    /// Adds a place with a running node.
    pub fn add(&mut self, spec: Spec) -> HostId {
        let host = self.place(spec);
        self.start(host);
        host
    }

    /// Starts the node of a place if it is not running.
    pub fn start(&mut self, host: HostId) {
        let Some(place) = self.hosts.get_mut(host.0) else {
            return;
        };
        if place.node.is_some() {
            return;
        }
        place.incarnation += 1;
        let instance = instance_of(host, place.incarnation);
        let spec = &place.spec;
        let config = KernelConfig {
            node: spec.node.clone(),
            addresses: spec.advertised.clone().unwrap_or_else(|| spec.addresses.clone()),
            seeds: spec.seeds.clone(),
            monitor_timeout: Duration::from_secs(30),
            connect_interval: CONNECT_INTERVAL,
            secure: spec.secure,
            heal: spec.heal,
            grace: spec.grace,
            process_id: place.incarnation,
            entropy: self.random.random(),
        };
        place.node = Some(if spec.perl {
            let addresses = spec.advertised.as_ref().unwrap_or(&spec.addresses);
            let mut node =
                PerlNode::new(spec.node.clone(), addresses, &spec.seeds, spec.tls, self.queue.now);
            node.set_secure(spec.secure);
            Program::Perl(Box::new(node))
        } else {
            Program::Ours(Box::new(Node::new(
                config,
                HandshakeParams::new(
                    &spec.node,
                    &spec.provider,
                    spec.names_run.then_some(&*instance),
                    &spec.framings,
                    (spec.tls, spec.bound),
                    spec.knows_get,
                ),
                spec.framings.clone(),
                spec.limits,
                spec.coalesces,
                self.queue.now,
            )))
        });
        for address in &spec.addresses {
            self.net.listeners.insert(address.clone(), host.0);
        }
        let (global, functions, perl) = (spec.global, spec.functions.clone(), spec.perl);
        let piece = spec.piece;
        self.net.running[host.0] = Some(place.incarnation);
        self.net.came_back(&mut self.queue, &mut self.random, host.0);
        if perl {
            self.with_perl(host.0, |node, around| node.start(around, global));
            return;
        }
        self.kernel(host, |kernel| {
            functions.into_iter().for_each(|function| kernel.register(function));
            kernel.set_database_piece(piece);
            if global {
                kernel.become_global();
            }
        });
    }

    /// Kills a node's process: its peers read the end of their connections.
    pub fn kill(&mut self, host: HostId) {
        if self.stop_running(host) {
            self.net.killed(&mut self.queue, &mut self.random, host.0);
        }
    }

    /// Powers a node off: its peers are not told.
    pub fn vanish(&mut self, host: HostId) {
        if self.stop_running(host) {
            self.net.vanished(&mut self.queue, host.0);
        }
    }

    fn stop_running(&mut self, host: HostId) -> bool {
        let Some(place) = self.hosts.get_mut(host.0) else {
            return false;
        };
        self.net.running[host.0] = None;
        place.stopped_until = Duration::ZERO;
        place.node.take().is_some()
    }

    /// Stops a process for a while; its system keeps running.
    pub fn pause(&mut self, host: HostId, how_long: Duration) {
        let until = self.queue.now + how_long;
        if let Some(place) = self.hosts.get_mut(host.0) {
            place.stopped_until = place.stopped_until.max(until);
        }
        self.with(host.0, |node, _| node.disturbed(until));
    }

    /// Stops a whole machine for a while; its uptime clock stands still too.
    pub fn suspend(&mut self, host: HostId, how_long: Duration) {
        let end = |world: &World| {
            world.hosts.get(host.0).map_or(Duration::ZERO, |place| place.stopped_until)
        };
        let before = end(self).max(self.queue.now);
        self.pause(host, how_long);
        let longer = end(self).saturating_sub(before);
        self.with(host.0, |node, _| node.stand_still(longer));
    }

    /// Makes the clocks of a node jump: the uptime clock forward by `leap`, the wall clock by this
    /// many seconds.
    pub fn jump(&mut self, host: HostId, leap: Duration, wall: f64) {
        self.with(host.0, |node, around| node.jump(around, leap, wall));
    }

    /// Whether a process is stopped.
    pub fn is_paused(&self, host: HostId) -> bool {
        self.hosts.get(host.0).is_some_and(|place| place.stopped_until > self.queue.now)
    }

    /// When the last stopped process continues.
    pub fn all_resume_at(&self) -> Duration {
        let stopped = self.hosts.iter().filter(|place| place.node.is_some());
        stopped.map(|place| place.stopped_until).max().unwrap_or_default()
    }

    /// Blocks the link between two places: nothing arrives, and neither end is told.
    pub fn block(&mut self, a: HostId, b: HostId) {
        self.net.block(&mut self.queue, a.0, b.0);
    }

    /// Unblocks the link between two places.
    pub fn unblock(&mut self, a: HostId, b: HostId) {
        self.net.unblock(&mut self.queue, &mut self.random, a.0, b.0);
    }

    /// Makes the link between two places slow, or normal again.
    pub fn set_slow(&mut self, a: HostId, b: HostId, slow: Option<SlowLink>) {
        self.net.set_slow(a.0, b.0, slow);
    }

    /// Unblocks all links.
    pub fn unblock_all(&mut self) {
        for a in 0..self.nodes {
            for b in a..self.nodes {
                self.unblock(HostId(a), HostId(b));
                self.net.set_slow(a, b, None);
            }
        }
    }

    /// Cuts the connections between two places; both ends are told.
    pub fn cut(&mut self, a: HostId, b: HostId) {
        for link in self.links_between(a, b) {
            self.net.cut(&mut self.queue, &mut self.random, link);
        }
    }

    /// Cuts the connections between two places; only one end of each is told.
    pub fn half_cut(&mut self, a: HostId, b: HostId) {
        for link in self.links_between(a, b) {
            self.net.half_cut(&mut self.queue, &mut self.random, link);
        }
    }

    /// Everything that was sent so far.
    pub fn traffic(&self) -> &Traffic {
        &self.net.traffic
    }

    /// Makes an address lead to another place, or to none.
    pub fn redirect(&mut self, address: &str, host: Option<HostId>) {
        match host {
            Some(host) => self.net.listeners.insert(Str::from(address), host.0),
            None => self.net.listeners.remove(&Str::from(address)),
        };
    }

    /// The connections between two places, including those being made.
    pub fn links_between(&self, a: HostId, b: HostId) -> Vec<u64> {
        let both_open = |link: &u64| {
            let ends = self.net.links.get(link);
            ends.is_some_and(|ends| [0, 1].into_iter().all(|side| ends.end(side).open))
        };
        self.net.links_between(a.0, b.0).into_iter().filter(both_open).collect()
    }

    /// The places.
    pub fn hosts(&self) -> impl Iterator<Item = HostId> + use<> {
        (0..self.nodes).map(HostId)
    }

    /// The configuration of a place's node.
    pub fn spec(&self, host: HostId) -> &Spec {
        &self.hosts[host.0].spec
    }

    /// The configuration of a place's node, to be changed for the next start.
    pub fn spec_mut(&mut self, host: HostId) -> &mut Spec {
        &mut self.hosts[host.0].spec
    }

    /// The instance in the greetings of the place's node, which identifies its run.
    pub fn instance(&self, host: HostId) -> String {
        instance_of(host, self.incarnation(host))
    }

    /// How often the place's node was started.
    pub fn incarnation(&self, host: HostId) -> u32 {
        self.hosts[host.0].incarnation
    }

    /// The node of a place, if it is running and one of ours.
    pub fn running(&self, host: HostId) -> Option<&Node> {
        match self.hosts.get(host.0)?.node.as_ref()? {
            Program::Ours(node) => Some(node),
            Program::Perl(_) | Program::Stranger(_) => None,
        }
    }

    /// The model of a Perl node at a place, if one runs there.
    pub fn perl(&self, host: HostId) -> Option<&PerlNode> {
        match self.hosts.get(host.0)?.node.as_ref()? {
            Program::Ours(_) | Program::Stranger(_) => None,
            Program::Perl(node) => Some(node),
        }
    }

    /// Whether anything runs at a place.
    pub fn is_running(&self, host: HostId) -> bool {
        self.hosts.get(host.0).is_some_and(|place| place.node.is_some())
    }

    /// The database of the node of a place.
    pub fn database(&self, host: HostId) -> Option<&Database> {
        match self.hosts.get(host.0)?.node.as_ref()? {
            Program::Ours(node) => Some(node.kernel().database()),
            Program::Perl(node) => Some(node.database()),
            Program::Stranger(_) => None,
        }
    }

    /// The node of a place.
    ///
    /// # Panics
    /// If it is not running, or is a Perl node.
    pub fn node(&self, host: HostId) -> &Node {
        self.running(host).expect("the node runs")
    }

    /// The next place where something may have happened since the last call.
    pub fn next_touched(&mut self) -> Option<HostId> {
        self.touched.pop_first()
    }

    /// The events on a node since the last call.
    pub fn happenings(&mut self, host: HostId) -> Vec<WorldEvent> {
        let node = self.hosts.get_mut(host.0).and_then(|host| host.node.as_mut());
        node.map(Program::take_happenings).unwrap_or_default()
    }

    /// Calls the kernel of a running node, and carries out the effects.
    ///
    /// # Panics
    /// If it is not running, or is a Perl node.
    pub fn kernel<R>(&mut self, host: HostId, input: impl FnOnce(&mut Kernel) -> R) -> R {
        self.with(host.0, |node, around| node.drive(around, input)).expect("the node runs")
    }

    /// Makes a port.
    ///
    /// # Panics
    /// If no node is running there.
    pub fn open_port(&mut self, host: HostId) -> PortId {
        if self.perl(host).is_some() {
            let port = self.with_perl(host.0, |node, around| node.open_port(around));
            return port.expect("the node runs");
        }
        let name = self.with(host.0, |node, around| node.open_port(around));
        PortId::new(&self.hosts[host.0].spec.node, &name.expect("the node runs"))
    }

    /// Calls the database of a Perl node.
    pub fn perl_database<R>(
        &mut self,
        host: HostId,
        call: impl FnOnce(&mut Database, Duration) -> R,
    ) -> Option<R> {
        self.with_perl(host.0, |node, around| node.database_call(around, call))
    }

    /// Kills a port of a Perl node.
    pub fn perl_kill(&mut self, host: HostId, port: &PortId, reason: &Packed) {
        let name = port.port().to_owned();
        self.with_perl(host.0, |node, around| node.kill_port(around, &name, reason));
    }

    /// Sends a message as a program on the node does.
    pub fn send(&mut self, host: HostId, to: &PortId, message: &Packed) {
        self.with(host.0, |node, around| node.send(around, to, message.as_elements()));
    }

    fn with<R>(
        &mut self,
        host: usize,
        act: impl FnOnce(&mut Node, &mut HandlerContext<'_>) -> R,
    ) -> Option<R> {
        self.with_program(host, |program, around| match program {
            Program::Ours(node) => Some(act(node, around)),
            Program::Perl(_) | Program::Stranger(_) => None,
        })?
    }

    fn with_perl<R>(
        &mut self,
        host: usize,
        act: impl FnOnce(&mut PerlNode, &mut HandlerContext<'_>) -> R,
    ) -> Option<R> {
        self.with_program(host, |program, around| match program {
            Program::Ours(_) | Program::Stranger(_) => None,
            Program::Perl(node) => Some(act(node, around)),
        })?
    }

    fn with_stranger<R>(
        &mut self,
        host: usize,
        act: impl FnOnce(&mut Stranger, &mut HandlerContext<'_>) -> R,
    ) -> Option<R> {
        self.with_program(host, |program, around| match program {
            Program::Ours(_) | Program::Perl(_) => None,
            Program::Stranger(stranger) => Some(act(stranger, around)),
        })?
    }

    fn with_program<R>(
        &mut self,
        host: usize,
        act: impl FnOnce(&mut Program, &mut HandlerContext<'_>) -> R,
    ) -> Option<R> {
        let place = self.hosts.get_mut(host)?;
        let program = place.node.as_mut()?;
        self.touched.insert(HostId(host));
        let mut around = HandlerContext {
            host,
            incarnation: place.incarnation,
            queue: &mut self.queue,
            net: &mut self.net,
            random: &mut self.random,
        };
        Some(act(program, &mut around))
    }

    /// Lets time pass.
    pub fn run_for(&mut self, how_long: Duration) {
        let until = self.queue.now + how_long;
        while self.step(until) {}
        self.queue.now = until;
    }

    /// Handles the next event, if it is not later than `until`.
    pub fn step(&mut self, until: Duration) -> bool {
        let Some(event) = self.queue.pop(until) else {
            return false;
        };
        if let Some(host) = self.host_of(&event)
            && let Some(place) = self.hosts.get(host)
            && place.stopped_until > self.queue.now
        {
            let at = place.stopped_until;
            self.queue.at(at, event);
            return true;
        }
        self.happen(event);
        true
    }

    fn host_of(&self, event: &Event) -> Option<usize> {
        let end = match event {
            // The system accepts the connection, but no process reads the greeting.
            Event::Dial { host, address, .. } => return self.answers(*host, address),
            Event::Arrive { to: end }
            | Event::Reset { at: end, .. }
            | Event::Timeout { at: end } => end,
            _ => return event.host(),
        };
        self.net.links.get(&end.link).map(|link| link.end(end.side).host)
    }

    /// The host that answers at an address when this place dials it.
    fn answers(&self, dialler: usize, address: &Str) -> Option<usize> {
        let is_led_to =
            |hijacker: &&usize| **hijacker != dialler && self.perl(HostId(dialler)).is_none();
        let hijacker = self.net.hijacked.get(address).filter(is_led_to);
        hijacker.or_else(|| self.net.listeners.get(address)).copied()
    }

    fn is_life(&self, host: usize, incarnation: u32) -> bool {
        self.net.running.get(host).copied().flatten() == Some(incarnation)
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Dial { host, incarnation, conn, address, since } => {
                if self.is_life(host, incarnation) {
                    self.dial(host, incarnation, conn, address, since);
                }
            }
            Event::DialFailed { host, incarnation, conn, why } => {
                if self.is_life(host, incarnation) {
                    self.with_program(host, |node, around| node.ended(around, conn, why));
                }
            }
            Event::Arrive { to } => {
                if let Some(arrival) = self.net.arrive(&mut self.queue, to)
                    && self.is_life(arrival.host, arrival.incarnation)
                {
                    let (host, conn, segment) = (arrival.host, arrival.conn, arrival.segment);
                    if matches!(segment, Segment::Fin) {
                        self.net.reset(to);
                    }
                    self.with_program(host, |node, around| node.received(around, conn, segment));
                }
            }
            Event::Reset { at, why } => self.ended(at, why),
            Event::Timeout { at } => {
                if self.net.is_timed_out(self.queue.now, at) {
                    self.ended(at, "connection timed out");
                }
            }
            Event::Timer { host, incarnation, what } => {
                if self.is_life(host, incarnation) {
                    self.with_program(host, |node, around| node.timer(around, what));
                }
            }
        }
    }

    fn ended(&mut self, at: LinkEnd, why: &str) {
        if let Some((host, incarnation, conn)) = self.net.reset(at)
            && self.is_life(host, incarnation)
        {
            self.with_program(host, |node, around| node.ended(around, conn, why));
        }
    }

    fn dial(&mut self, host: usize, incarnation: u32, conn: u64, address: Str, since: Duration) {
        let target = self.answers(host, &address);
        let failed = |why| Event::DialFailed { host, incarnation, conn, why };
        let Some(target) = target else {
            self.queue.after(self.net.weather.fastest, failed("connection refused"));
            return;
        };
        let reachable = !self.net.is_blocked(host, target);
        match self.net.running.get(target).copied().flatten() {
            Some(its) if reachable => {
                let ends = [(host, incarnation, conn), (target, its, 0)];
                let link = self.net.connect(ends, self.queue.now);
                let [near, far] = [0, 1].map(|side| LinkEnd { link, side });
                let its = self.with_program(target, |node, around| node.accepted(around, far));
                self.net.set_conn(far, its.unwrap_or_default());
                self.with_program(host, |node, around| node.dialled(around, conn, near));
            }
            None if reachable && self.random.random_ratio(3, 4) => {
                self.queue.after(self.net.weather.fastest, failed("connection refused"));
            }
            // No host answers: the system repeats the attempt for a while.
            _ if self.queue.now < since + Duration::from_secs(30) => {
                let again = Event::Dial { host, incarnation, conn, address, since };
                self.queue.after(Duration::from_secs(1), again);
            }
            _ => self.queue.after(Duration::ZERO, failed("no answer")),
        }
    }
}

fn instance_of(host: HostId, incarnation: u32) -> String {
    format!("{}.{incarnation}", host.0)
}
