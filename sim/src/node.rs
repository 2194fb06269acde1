//! One node of this implementation: its kernel, lanes and connections. What the real node does with
//! tasks and sockets happens here in virtual time.

mod connections;

use crate::event::{Event, Queue, Timer, WorldEvent};
use crate::link::{LinkEnd, Segment};
use crate::net::Net;
use crate::wire::{HandshakeParams, Wire};
use crate::world::CONNECT_INTERVAL;
use aemp::kernel::{ConnId, Effect, Kernel, KernelConfig, Level, Now, PortName};
use aemp::lane::{Appended, Lane, LaneLimits};
use aemp::value::packed::Elements;
use aemp::value::{NodeId, Packed, PortId};
use aemp::wire::framing::Framing;
use rand::Rng as _;
use rand::rngs::StdRng;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// The parts of the world that a node uses while it handles one event.
pub(crate) struct HandlerContext<'a> {
    pub(crate) host: usize,
    pub(crate) incarnation: u32,
    pub(crate) queue: &'a mut Queue,
    pub(crate) net: &'a mut Net,
    pub(crate) random: &'a mut StdRng,
}

impl HandlerContext<'_> {
    pub(crate) fn now(&self) -> Duration {
        self.queue.now
    }

    pub(crate) fn timer(&mut self, delay: Duration, what: Timer) {
        let (host, incarnation) = (self.host, self.incarnation);
        self.queue.after(delay, Event::Timer { host, incarnation, what });
    }

    pub(crate) fn send(&mut self, from: LinkEnd, segment: Segment) {
        self.net.send(self.queue, self.random, from, segment, Duration::ZERO);
    }

    /// Sends lines of a handshake, which may be delayed or cut.
    pub(crate) fn say(&mut self, from: LinkEnd, octets: &[u8]) {
        self.net.say(self.queue, self.random, from, octets);
    }

    /// Sends our part of the TLS handshake, which may be delayed.
    pub(crate) fn say_tls(&mut self, from: LinkEnd, part: u64) {
        let late = self.net.handshake_delay(self.random);
        self.net.send(self.queue, self.random, from, Segment::Tls(part), late);
    }

    /// A short delay, since a task is not always run at once.
    fn a_moment(&mut self) -> Duration {
        if self.net.weather.fastest == self.net.weather.worst {
            Duration::ZERO
        } else {
            self.random.random_range(Duration::ZERO..Duration::from_millis(2))
        }
    }
}

/// Octets per segment on slow links.
const ON_SLOW_LINKS: usize = 1000;

/// One node of this implementation.
#[derive(Debug)]
pub struct Node {
    kernel: Kernel,
    started: Duration,
    clock: Clock,
    introduction: HandshakeParams,
    framings: Vec<Framing>,
    silence: Duration,
    limits: LaneLimits,
    /// Whether the kernel is told of lanes without room.
    coalesces: bool,
    lanes: BTreeMap<NodeId, Lane>,
    wires: BTreeMap<ConnId, Wire>,
    /// The connections on which packets are sent.
    established: BTreeMap<NodeId, ConnId>,
    ports: BTreeSet<PortName>,
    tick_at: Option<Duration>,
    undisturbed_since: Duration,
    happenings: Vec<WorldEvent>,
    /// Inputs that result from the current effects, handled after these are carried out.
    later: VecDeque<DelayedInput>,
    /// Connections on which something may have arrived, read when nothing else is left to do.
    readable: VecDeque<ConnId>,
}

/// The errors of a node's clocks.
#[derive(Debug, Default)]
struct Clock {
    /// How far the uptime clock is ahead.
    leapt: Duration,
    /// How long the uptime clock stood still.
    stood: Duration,
    /// The last uptime that was shown: it never decreases.
    last: Duration,
    /// Seconds by which the wall clock is wrong.
    wall: f64,
}

#[derive(Debug)]
enum DelayedInput {
    Answered { from: NodeId, message: Packed },
    Verified(ConnId),
    Established(ConnId),
}

impl Node {
    pub(crate) fn new(
        config: KernelConfig,
        introduction: HandshakeParams,
        framings: Vec<Framing>,
        limits: LaneLimits,
        coalesces: bool,
        now: Duration,
    ) -> Self {
        let silence = config.monitor_timeout;
        Node {
            kernel: Kernel::new(config, Now::default()),
            started: now,
            clock: Clock::default(),
            introduction,
            framings,
            silence,
            limits,
            coalesces,
            lanes: BTreeMap::new(),
            wires: BTreeMap::new(),
            established: BTreeMap::new(),
            ports: BTreeSet::new(),
            tick_at: None,
            undisturbed_since: Duration::ZERO,
            happenings: Vec::new(),
            later: VecDeque::new(),
            readable: VecDeque::new(),
        }
    }

    /// Its kernel, for inspection.
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// Its local ports.
    pub fn ports(&self) -> impl Iterator<Item = &PortName> {
        self.ports.iter()
    }

    /// The nodes for which a lane exists, with it.
    pub fn lanes(&self) -> impl Iterator<Item = (&NodeId, &Lane)> {
        self.lanes.iter()
    }

    /// Number of connections, in any state.
    pub fn connections(&self) -> usize {
        self.wires.len()
    }

    /// What both ends of the TLS session with a node share, if there is one.
    pub fn tls_secret(&self, node: &NodeId) -> Option<u64> {
        self.wires.get(self.established.get(node)?)?.tls_secret()
    }

    /// The lane to a node, if there is one.
    pub fn lane(&self, node: &NodeId) -> Option<&Lane> {
        self.lanes.get(node)
    }

    /// The established connections, by node.
    pub fn established(&self) -> impl Iterator<Item = &NodeId> {
        let up = self.wires.values().filter(|wire| wire.established && !wire.closing);
        up.filter_map(|wire| wire.peer.as_ref())
    }

    pub(crate) fn take_happenings(&mut self) -> Vec<WorldEvent> {
        std::mem::take(&mut self.happenings)
    }

    /// Passes an input to the kernel and carries out the effects.
    pub(crate) fn drive<R>(
        &mut self,
        around: &mut HandlerContext<'_>,
        input: impl FnOnce(&mut Kernel) -> R,
    ) -> R {
        let uptime = self.uptime(around.queue.now);
        let wall = 1_700_000_000.0 + around.queue.now.as_secs_f64() + self.clock.wall;
        self.kernel.set_now(Now { uptime, wall });
        let result = input(&mut self.kernel);
        loop {
            let effects = self.kernel.take_effects();
            if !effects.is_empty() {
                effects.into_iter().for_each(|effect| self.carry_out(around, effect));
            } else if !self.do_later(around) {
                break;
            }
        }
        let clock = &self.clock;
        let next = self.kernel.next_tick();
        let next = next.map(|at| (self.started + at + clock.stood).saturating_sub(clock.leapt));
        if let Some(at) = next
            && self.tick_at.is_none_or(|set| set > at || set < around.queue.now)
        {
            self.tick_at = Some(at);
            around.timer(at.saturating_sub(around.queue.now), Timer::Tick);
        }
        result
    }

    fn uptime(&mut self, now: Duration) -> Duration {
        let clock = &mut self.clock;
        let shows = (now - self.started + clock.leapt).saturating_sub(clock.stood);
        clock.last = clock.last.max(shows);
        clock.last
    }

    /// Makes the clocks jump.
    pub(crate) fn jump(&mut self, around: &mut HandlerContext<'_>, leap: Duration, wall: f64) {
        self.clock.leapt += leap;
        self.disturbed(around.now());
        self.clock.wall += wall;
        self.drive(around, |_| ());
    }

    /// Marks the node as disturbed until this time, because its process was stopped or its clock
    /// was wrong.
    pub(crate) fn disturbed(&mut self, until: Duration) {
        self.undisturbed_since = self.undisturbed_since.max(until);
    }

    /// The clock stands still for a while.
    pub(crate) fn stand_still(&mut self, how_long: Duration) {
        self.clock.stood += how_long;
    }

    fn do_later(&mut self, around: &mut HandlerContext<'_>) -> bool {
        match self.later.pop_front() {
            Some(DelayedInput::Answered { from, message }) => {
                self.kernel.service_message(&from, message.as_elements());
            }
            Some(DelayedInput::Verified(conn)) => self.kernel.verified(conn),
            Some(DelayedInput::Established(conn)) => self.connection_established(conn),
            None => match self.readable.pop_front() {
                Some(conn) => self.read(around, conn),
                None => return false,
            },
        }
        true
    }

    pub(crate) fn open_port(&mut self, around: &mut HandlerContext<'_>) -> PortName {
        let name = self.drive(around, Kernel::open_port);
        self.ports.insert(name.clone());
        name
    }

    /// Sends a message as a program does: directly to the port, or into the lane.
    pub(crate) fn send(
        &mut self,
        around: &mut HandlerContext<'_>,
        to: &PortId,
        message: Elements<'_>,
    ) {
        let node = to.node();
        if node == *self.kernel.node() {
            let own = node;
            if to.is_node_port() {
                let message = message.to_packed();
                self.drive(around, |kernel| kernel.node_packet(&own, message.as_elements()));
            } else {
                self.deliver(to.port().to_owned(), own, message.to_packed());
                self.drive(around, |_| ());
            }
            return;
        }
        let mut octets = Vec::new();
        aemp::value::packed::put_str(&mut octets, to.port());
        octets.extend_from_slice(message.octets());
        self.append(around, &node, Elements::new(message.len() + 1, &octets));
    }

    fn append(&mut self, around: &mut HandlerContext<'_>, node: &NodeId, packet: Elements<'_>) {
        let limits = self.limits;
        let lane = self.lanes.entry(node.clone()).or_insert_with(|| Lane::new(limits));
        around.net.traffic.count(packet);
        match lane.append(packet) {
            Ok(Appended::WakeWriter) => self.wake_writer(around, node),
            Ok(Appended::WantConnection) => {
                self.drive(around, |kernel| kernel.want_connection(node));
            }
            Ok(Appended::Overflow) => {
                self.drive(around, |kernel| {
                    kernel.disconnect(node, "too many octets were queued to be sent")
                });
            }
            Ok(Appended::Waits | Appended::Dropped) => {}
            Err(error) => self.log_error(format!("not sent: {error}")),
        }
    }

    fn log_error(&mut self, text: String) {
        self.happenings.push(WorldEvent::Log { level: Level::Error, text });
    }

    fn wake_writer(&mut self, around: &mut HandlerContext<'_>, node: &NodeId) {
        if let Some(&conn) = self.established.get(node)
            && self.wires.get(&conn).is_some_and(|wire| !wire.closing)
        {
            let delay = around.a_moment();
            around.timer(delay, Timer::Flush { node: node.clone(), conn });
        }
    }

    /// Writes what is queued in the lane of a node to its connection.
    fn flush(&mut self, around: &mut HandlerContext<'_>, node: &NodeId, conn: ConnId) {
        // The lane may belong to another connection by now. Generations begin anew with each lane,
        // so only the connection distinguishes them.
        if self.established.get(node) != Some(&conn) {
            return;
        }
        let Some(lane) = self.lanes.get_mut(node) else {
            return;
        };
        let Some((_, generation)) = lane.connection() else {
            return;
        };
        let Some(wire) = self.wires.get(&conn) else {
            return;
        };
        // Number of segments that a socket accepts at a time.
        let takes = |end| if around.net.is_slow(end) { 40 } else { 4 };
        if wire.end.is_some_and(|end| around.net.in_flight(end) > takes(end)) {
            let delay = Duration::from_millis(5);
            around.timer(delay, Timer::Flush { node: node.clone(), conn });
            return;
        }
        while let Some(end) = wire.end {
            loop {
                match lane.make_next(generation) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) => {
                        let (level, text) = (Level::Error, format!("not sent: {error}"));
                        self.happenings.push(WorldEvent::Log { level, text });
                    }
                }
            }
            let Some(mut chunk) = lane.take(generation) else {
                break;
            };
            let mut rest = chunk.unwritten();
            while around.net.is_slow(end) && rest.len() > ON_SLOW_LINKS {
                let (head, tail) = rest.split_at(ON_SLOW_LINKS);
                around.send(end, Segment::Data(head.to_vec()));
                rest = tail;
            }
            while rest.len() > 1 && around.random.random_ratio(1, 8) {
                let (head, tail) = rest.split_at(around.random.random_range(1..rest.len()));
                around.send(end, Segment::Data(head.to_vec()));
                rest = tail;
            }
            around.send(end, Segment::Data(rest.to_vec()));
            chunk.advance(chunk.unwritten().len());
            let _ = lane.give_back(generation, chunk);
        }
    }

    fn carry_out(&mut self, around: &mut HandlerContext<'_>, effect: Effect) {
        match effect {
            Effect::Send { to, packet } => self.kernel_sends(around, &to, packet.as_elements()),
            Effect::SendAll { to, packet } => {
                for node in to.iter() {
                    self.kernel_sends(around, node, packet.as_elements());
                }
            }
            Effect::SendLater { to, packets } => {
                for packet in packets.into_packets() {
                    self.kernel_sends(around, &to, packet.as_elements());
                }
            }
            Effect::Probe { node, conn, number, packet } => {
                around.net.traffic.count(packet.as_elements());
                let lane = self.lanes.get_mut(&node);
                let sent = lane.map(|lane| lane.append_first(packet.as_elements()));
                if sent.is_some_and(|sent| sent.expect("every framing can carry a question")) {
                    self.wake_writer(around, &node);
                }
                self.look(around, conn, number);
            }
            Effect::Look { conn, number } => self.look(around, conn, number),
            Effect::AwaitRoom { node, number, octets } => {
                let delay = around.a_moment();
                around.timer(delay, Timer::Room { node, number, octets });
            }
            Effect::Deliver { port, message, from } => self.deliver(port, from, message),
            Effect::LaneUp { node, conn } => {
                let limits = self.limits;
                let Some(wire) = self.wires.get(&conn) else {
                    return;
                };
                let lane = self.lanes.entry(node.clone()).or_insert_with(|| Lane::new(limits));
                let (_, waiting, errors) = lane.connect(wire.framing);
                assert!(errors.is_empty(), "{errors:?}");
                self.established.insert(node.clone(), conn);
                if waiting {
                    let delay = around.a_moment();
                    around.timer(delay, Timer::Flush { node, conn });
                }
            }
            Effect::LaneDown { node } => {
                let limits = self.limits;
                self.established.remove(&node);
                let lane = self.lanes.entry(node).or_insert_with(|| Lane::new(limits));
                drop(lane.disconnect());
            }
            Effect::LaneReset { node } => {
                self.lanes.remove(&node);
                self.happenings.push(WorldEvent::LaneOpen(node));
            }
            Effect::Dial { conn, address } => {
                let framing = self.pick_framing(around);
                self.wires.insert(conn, Wire::new(None, framing));
                self.happenings.push(WorldEvent::Dialled { conn, address: address.clone() });
                let delay = around.net.weather.delay(around.random);
                let (host, incarnation) = (around.host, around.incarnation);
                let since = around.queue.now;
                let dial = Event::Dial { host, incarnation, conn: conn.0, address, since };
                around.queue.after(delay, dial);
                around.timer(self.silence, Timer::HandshakeOver { conn });
            }
            Effect::Proceed { conn, order } => self.proceed(around, conn, order),
            Effect::Close { conn, reason } => {
                self.check_doubt(around, conn, &reason);
                self.happenings.push(WorldEvent::Closed { conn, reason: reason.clone() });
                if let Some(wire) = self.wires.get_mut(&conn) {
                    wire.closing = true;
                    let delay = around.a_moment();
                    around.timer(delay, Timer::Close { conn, reason });
                }
            }
            Effect::Spawned { port, init } => {
                self.ports.insert(port.clone());
                self.happenings.push(WorldEvent::Spawned { port, init });
            }
            Effect::PortClosed { port, reason } => {
                self.ports.remove(&port);
                self.happenings.push(WorldEvent::PortClosed { port, reason });
            }
            Effect::Fire { monitor, reason } => {
                self.happenings.push(WorldEvent::Fired { monitor, reason });
            }
            Effect::Call(call) => self.happenings.push(WorldEvent::Called(call)),
            Effect::Eval { expression, from, reply } => {
                self.happenings.push(WorldEvent::Eval { expression, from, reply });
            }
            Effect::NodeUp { node, .. } => self.happenings.push(WorldEvent::NodeUp(node)),
            Effect::NodeDown { node, reason } => {
                self.happenings.push(WorldEvent::NodeDown(node, reason));
            }
            Effect::Answer { query, answer } => {
                self.happenings.push(WorldEvent::Answered { query, answer });
            }
            Effect::Changed { monitor, changes } => {
                self.happenings.push(WorldEvent::Changed { monitor, changes });
            }
            Effect::Log { level, line, .. } => {
                let text = line.to_string();
                self.happenings.push(WorldEvent::Log { level, text });
            }
        }
    }

    /// Checks that no connection is given up as dead while its peer shows signs of life, up to the
    /// last look at it.
    fn check_doubt(&mut self, around: &HandlerContext<'_>, conn: ConnId, reason: &str) {
        // After a pause of this process, everything arrives at once.
        let (now, is_calm) = (around.now(), self.undisturbed_since + CONNECT_INTERVAL * 4);
        let Some(wire) = self.wires.get(&conn) else { return };
        if !reason.starts_with("no answer while") || now < is_calm {
            return;
        }
        let Some(end) = wire.end else { return };
        let progress = around.net.progress(end);
        let after = now.saturating_sub(CONNECT_INTERVAL);
        let before = now.saturating_sub(CONNECT_INTERVAL / 2);
        if wire.has_shown_life(progress, after, before) {
            let peer = wire.peer.clone();
            self.log_error(format!(
                "{peer:?} is given up as dead though it shows life: {progress:?}"
            ));
        }
    }

    /// Reports the signs of life of a connection to the kernel.
    fn look(&mut self, around: &HandlerContext<'_>, conn: ConnId, number: u64) {
        let Some(wire) = self.wires.get_mut(&conn) else { return };
        let (Some(end), Some(peer)) = (wire.end, &wire.peer) else { return };
        let lane = self.lanes.get(peer);
        let generation = lane.and_then(Lane::connection).map(|(_, generation)| generation);
        let written = generation
            .is_some_and(|generation| lane.is_some_and(|lane| lane.first_is_written(generation)));
        let pulse = wire.pulse(number, written, around.net.progress(end));
        self.kernel.pulse(conn, number, pulse);
    }

    fn kernel_sends(&mut self, around: &mut HandlerContext<'_>, to: &NodeId, packet: Elements<'_>) {
        let limits = self.limits;
        let lane = self.lanes.entry(to.clone()).or_insert_with(|| Lane::new(limits));
        around.net.traffic.count(packet);
        match lane.append(packet) {
            Ok(Appended::WakeWriter) => self.wake_writer(around, to),
            Ok(Appended::Overflow) => {
                self.kernel.disconnect(to, "too many octets were queued to be sent")
            }
            // The kernel asks for connections itself.
            Ok(_) => {}
            Err(error) => panic!("the kernel's own packet cannot be sent: {error}"),
        }
        if self.coalesces && self.lanes.get(to).is_some_and(Lane::is_crowded) {
            self.kernel.has_no_room(to);
        }
    }

    fn deliver(&mut self, port: PortName, from: NodeId, message: Packed) {
        if port == *self.kernel.service_port() {
            self.later.push_back(DelayedInput::Answered { from, message });
        } else if self.ports.contains(&port) {
            self.happenings.push(WorldEvent::Delivered { port, from, message });
        }
    }

    fn pick_framing(&self, around: &mut HandlerContext<'_>) -> Framing {
        let index = around.random.random_range(0..self.framings.len());
        self.framings[index]
    }

    pub(crate) fn timer(&mut self, around: &mut HandlerContext<'_>, what: Timer) {
        match what {
            Timer::Tick => {
                if self.tick_at.is_some_and(|at| at <= around.queue.now) {
                    self.tick_at = None;
                    self.drive(around, Kernel::tick);
                }
            }
            Timer::Flush { node, conn } => self.flush(around, &node, conn),
            Timer::Room { node, number, octets } => {
                if self.lanes.get(&node).is_none_or(|lane| lane.has_room(octets)) {
                    self.drive(around, |kernel| kernel.has_room(&node, number));
                } else {
                    let delay = Duration::from_millis(5);
                    around.timer(delay, Timer::Room { node, number, octets });
                }
            }
            Timer::Close { conn, reason } => self.ended(around, conn, &reason),
            Timer::HandshakeOver { conn } => {
                if self.wires.get(&conn).is_some_and(|wire| !wire.established) {
                    self.ended(around, conn, "the handshake took too long");
                }
            }
        }
    }
}
