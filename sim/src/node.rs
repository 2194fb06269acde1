//! One node of this implementation: its kernel, its lanes, its connections; what the real node
//! does with tasks and sockets is done here in virtual time.

use crate::event::{Event, Happening, Queue, Timer};
use crate::link::{LinkEnd, Segment};
use crate::net::Net;
use crate::wire::Wire;
use crate::world::CONNECT_INTERVAL;
use aemp::kernel::{
    AuthOrder, Authenticated, ConnId, Effect, Kernel, KernelConfig, Now, PeerGreeting, PortName,
};
use aemp::lane::{Appended, Lane, LaneLimits};
use aemp::value::packed::Elements;
use aemp::value::{NodeId, Packed, PortId, Str};
use aemp::wire::framing::Framing;
use aemp::wire::packet::Packet;
use rand::Rng as _;
use rand::rngs::StdRng;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// The world around a node while it handles one event.
pub(crate) struct Around<'a> {
    pub(crate) host: usize,
    pub(crate) incarnation: u32,
    pub(crate) queue: &'a mut Queue,
    pub(crate) net: &'a mut Net,
    pub(crate) random: &'a mut StdRng,
}

impl Around<'_> {
    pub(crate) fn now(&self) -> Duration {
        self.queue.now
    }

    pub(crate) fn timer(&mut self, delay: Duration, what: Timer) {
        let (host, incarnation) = (self.host, self.incarnation);
        self.queue.after(delay, Event::Timer { host, incarnation, what });
    }

    pub(crate) fn send(&mut self, from: LinkEnd, segment: Segment) {
        self.net.send(self.queue, self.random, from, segment);
    }

    /// A task is not always run at once.
    fn a_moment(&mut self) -> Duration {
        if self.net.weather.fastest == self.net.weather.worst {
            Duration::ZERO
        } else {
            self.random.random_range(Duration::ZERO..Duration::from_millis(2))
        }
    }
}

/// One node of this implementation.
#[derive(Debug)]
pub struct Node {
    kernel: Kernel,
    started: Duration,
    clock: Clock,
    provider: Str,
    framings: Vec<Framing>,
    silence: Duration,
    limits: LaneLimits,
    lanes: BTreeMap<NodeId, Lane>,
    wires: BTreeMap<ConnId, Wire>,
    /// The connections on which packets are sent.
    established: BTreeMap<NodeId, ConnId>,
    ports: BTreeSet<PortName>,
    tick_at: Option<Duration>,
    happenings: Vec<Happening>,
    /// What the effects at hand bring about, once they are carried out.
    later: VecDeque<Later>,
}

/// What a node's clocks show, besides what time it is.
#[derive(Debug, Default)]
struct Clock {
    /// By how much the clock that counts the time since the start went too far.
    leapt: Duration,
    /// For how long it stood still.
    stood: Duration,
    /// What it showed last: it never goes back.
    last: Duration,
    /// Seconds by which the other clock is wrong.
    wall: f64,
}

#[derive(Debug)]
enum Later {
    Answered { from: NodeId, message: Packed },
    Verified(ConnId),
    Established(ConnId),
}

impl Node {
    pub(crate) fn new(
        config: KernelConfig,
        provider: Str,
        framings: Vec<Framing>,
        limits: LaneLimits,
        now: Duration,
    ) -> Self {
        let silence = config.monitor_timeout;
        Node {
            kernel: Kernel::new(config, Now::default()),
            started: now,
            clock: Clock::default(),
            provider,
            framings,
            silence,
            limits,
            lanes: BTreeMap::new(),
            wires: BTreeMap::new(),
            established: BTreeMap::new(),
            ports: BTreeSet::new(),
            tick_at: None,
            happenings: Vec::new(),
            later: VecDeque::new(),
        }
    }

    /// Its kernel, to be looked at.
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

    /// How many connections it has, in whatever state.
    pub fn connections(&self) -> usize {
        self.wires.len()
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

    pub(crate) fn take_happenings(&mut self) -> Vec<Happening> {
        std::mem::take(&mut self.happenings)
    }

    /// Gives the kernel an input and carries out what it wants done.
    pub(crate) fn drive<R>(
        &mut self,
        around: &mut Around<'_>,
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
            } else if !self.do_later() {
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
    pub(crate) fn jump(&mut self, around: &mut Around<'_>, leap: Duration, wall: f64) {
        self.clock.leapt += leap;
        self.clock.wall += wall;
        self.drive(around, |_| ());
    }

    /// The clock stands still for a while.
    pub(crate) fn stand_still(&mut self, how_long: Duration) {
        self.clock.stood += how_long;
    }

    fn do_later(&mut self) -> bool {
        match self.later.pop_front() {
            None => return false,
            Some(Later::Answered { from, message }) => {
                self.kernel.service_message(&from, message.as_elements());
            }
            Some(Later::Verified(conn)) => self.kernel.verified(conn),
            Some(Later::Established(conn)) => {
                if let Some(wire) = self.wires.get_mut(&conn)
                    && !wire.established
                {
                    wire.established = true;
                    self.kernel.established(conn, &Authenticated { untrusted: false });
                }
            }
        }
        true
    }

    pub(crate) fn open_port(&mut self, around: &mut Around<'_>) -> PortName {
        let name = self.drive(around, Kernel::open_port);
        self.ports.insert(name.clone());
        name
    }

    /// Sends a message as a program does: straight to the port or into the lane.
    pub(crate) fn send(&mut self, around: &mut Around<'_>, to: &PortId, message: Elements<'_>) {
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

    fn append(&mut self, around: &mut Around<'_>, node: &NodeId, packet: Elements<'_>) {
        let limits = self.limits;
        let lane = self.lanes.entry(node.clone()).or_insert_with(|| Lane::new(limits));
        around.net.traffic.count(packet);
        match lane.append(packet) {
            Ok(Appended::WakeWriter) => self.wake_writer(around, node),
            Ok(Appended::WantConnection) => {
                self.drive(around, |kernel| kernel.want_connection(node));
            }
            Ok(Appended::Overflow) => {
                self.drive(around, |kernel| kernel.disconnect(node, "too much waits to be sent"));
            }
            Ok(Appended::Waits | Appended::Dropped) => {}
            Err(error) => {
                let text = format!("not sent: {error}");
                self.happenings.push(Happening::Log { level: aemp::kernel::Level::Error, text });
            }
        }
    }

    fn wake_writer(&mut self, around: &mut Around<'_>, node: &NodeId) {
        if let Some(&conn) = self.established.get(node)
            && self.wires.get(&conn).is_some_and(|wire| !wire.closing)
        {
            let delay = around.a_moment();
            around.timer(delay, Timer::Flush { node: node.clone(), conn });
        }
    }

    /// A connection writes what waits in its node's lane.
    fn flush(&mut self, around: &mut Around<'_>, node: &NodeId, conn: ConnId) {
        // The lane may have another connection by now: generations begin anew with each lane, so
        // that only the connection tells them apart.
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
        // A socket takes only so much.
        if wire.end.is_some_and(|end| around.net.in_flight(end) > 4) {
            let delay = Duration::from_millis(5);
            around.timer(delay, Timer::Flush { node: node.clone(), conn });
            return;
        }
        while let Some(end) = wire.end
            && let Some(mut chunk) = lane.take(generation)
        {
            let mut rest = chunk.unwritten();
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

    fn carry_out(&mut self, around: &mut Around<'_>, effect: Effect) {
        match effect {
            Effect::Send { to, packet } => self.kernel_sends(around, &to, packet.as_elements()),
            Effect::SendAll { to, packet } => {
                for node in to.iter() {
                    self.kernel_sends(around, node, packet.as_elements());
                }
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
                self.lanes.entry(node).or_insert_with(|| Lane::new(limits)).disconnect();
            }
            Effect::LaneReset { node } => {
                self.lanes.remove(&node);
                self.happenings.push(Happening::LaneOpen(node));
            }
            Effect::Dial { conn, address } => {
                let framing = self.pick_framing(around);
                self.wires.insert(conn, Wire::new(None, framing));
                self.happenings.push(Happening::Dialled { conn, address: address.clone() });
                let delay = around.net.weather.delay(around.random);
                let (host, incarnation) = (around.host, around.incarnation);
                let since = around.queue.now;
                let dial = Event::Dial { host, incarnation, conn: conn.0, address, since };
                around.queue.after(delay, dial);
                around.timer(self.silence, Timer::HandshakeOver { conn });
            }
            Effect::Proceed { conn, order } => {
                self.proceed(around, conn, order);
                self.check_authentications(conn);
            }
            Effect::Close { conn, reason } => {
                self.happenings.push(Happening::Closed { conn, reason: reason.clone() });
                if let Some(wire) = self.wires.get_mut(&conn) {
                    wire.closing = true;
                    let delay = around.a_moment();
                    around.timer(delay, Timer::Close { conn, reason });
                }
            }
            Effect::Spawned { port, init } => {
                self.ports.insert(port.clone());
                self.happenings.push(Happening::Spawned { port, init });
            }
            Effect::PortClosed { port, reason } => {
                self.ports.remove(&port);
                self.happenings.push(Happening::PortClosed { port, reason });
            }
            Effect::Fire { watch, reason } => {
                self.happenings.push(Happening::Fired { watch, reason });
            }
            Effect::Call(call) => self.happenings.push(Happening::Called(call)),
            Effect::Eval { expression, from, reply } => {
                self.happenings.push(Happening::Eval { expression, from, reply });
            }
            Effect::NodeUp { node, .. } => self.happenings.push(Happening::NodeUp(node)),
            Effect::NodeDown { node, reason } => {
                self.happenings.push(Happening::NodeDown(node, reason));
            }
            Effect::Answer { query, answer } => {
                self.happenings.push(Happening::Answered { query, answer });
            }
            Effect::Changed { monitor, changes } => {
                self.happenings.push(Happening::Changed { monitor, changes });
            }
            Effect::Log { level, text } => self.happenings.push(Happening::Log { level, text }),
            _ => {}
        }
    }

    fn kernel_sends(&mut self, around: &mut Around<'_>, to: &NodeId, packet: Elements<'_>) {
        let limits = self.limits;
        let lane = self.lanes.entry(to.clone()).or_insert_with(|| Lane::new(limits));
        around.net.traffic.count(packet);
        match lane.append(packet) {
            Ok(Appended::WakeWriter) => self.wake_writer(around, to),
            Ok(Appended::Overflow) => self.kernel.disconnect(to, "too much waits to be sent"),
            // The kernel asks for connections itself.
            Ok(_) => {}
            Err(error) => panic!("the kernel's own packet cannot be sent: {error}"),
        }
    }

    fn deliver(&mut self, port: PortName, from: NodeId, message: Packed) {
        if port == *self.kernel.service_port() {
            self.later.push_back(Later::Answered { from, message });
        } else if self.ports.contains(&port) {
            self.happenings.push(Happening::Delivered { port, from, message });
        }
    }

    fn pick_framing(&self, around: &mut Around<'_>) -> Framing {
        let index = around.random.random_range(0..self.framings.len());
        self.framings[index]
    }

    fn greet(&mut self, around: &mut Around<'_>, conn: ConnId) {
        let Some(wire) = self.wires.get(&conn) else {
            return;
        };
        let Some(end) = wire.end else { return };
        let nonce: [u8; 16] = around.random.random();
        let greeting = Segment::Greeting {
            node: self.kernel.node().clone(),
            nonce: nonce.to_vec(),
            provider: self.provider.clone(),
            framing: wire.framing,
        };
        self.drive(around, |kernel| kernel.greeting_sent(conn, &nonce));
        around.send(end, greeting);
    }

    fn proceed(&mut self, around: &mut Around<'_>, conn: ConnId, order: AuthOrder) {
        let Some(wire) = self.wires.get_mut(&conn) else {
            return;
        };
        let Some(end) = wire.end else { return };
        wire.order = Some(order);
        match order {
            AuthOrder::Now => {
                around.send(end, Segment::Auth);
                if wire.peer_has_authenticated {
                    self.later.push_back(Later::Established(conn));
                }
                let until = self.clock.last + self.time_to_answer(conn);
                if let Some(wire) = self.wires.get_mut(&conn) {
                    wire.others_wait_until = Some(until);
                }
            }
            AuthOrder::AfterPeer if wire.peer_has_authenticated => {
                self.later.push_back(Later::Verified(conn));
            }
            AuthOrder::AfterPeer => {}
        }
    }

    /// How long a peer that was sent our authentication line has to answer before other connections
    /// that claim to be the same node go on: less where many do, as anybody can claim that.
    fn time_to_answer(&self, conn: ConnId) -> Duration {
        const USUAL_CLAIMS: usize = 4;
        let peer = self.wires.get(&conn).and_then(|wire| wire.peer.as_ref());
        let claims = self.wires.values().filter(|wire| wire.peer.as_ref() == peer);
        let claims = claims.filter(|wire| !wire.established && !wire.closing).count();
        CONNECT_INTERVAL.mul_f64(USUAL_CLAIMS as f64 / claims.max(USUAL_CLAIMS) as f64)
    }

    /// Of all connections to a node, one at most has our authentication line and not the peer's
    /// until it had its time to answer, or both ends could finish different ones.
    fn check_authentications(&mut self, conn: ConnId) {
        let Some(peer) = self.wires.get(&conn).and_then(|wire| wire.peer.as_ref()) else { return };
        let under_way = self.wires.values().filter(|wire| {
            let has_time = wire.others_wait_until.is_some_and(|until| self.clock.last < until);
            wire.peer.as_ref() == Some(peer)
                && has_time
                && !wire.peer_has_authenticated
                && !wire.closing
        });
        let under_way = under_way.count();
        if under_way > 1 {
            let text = format!("{under_way} connections to {peer} are authenticated at once");
            self.happenings.push(Happening::Log { level: aemp::kernel::Level::Error, text });
        }
    }

    /// A dial has been answered.
    pub(crate) fn dialled(&mut self, around: &mut Around<'_>, conn: u64, end: LinkEnd) {
        let conn = ConnId(conn);
        match self.wires.get_mut(&conn) {
            Some(wire) => {
                wire.end = Some(end);
                self.greet(around, conn);
            }
            None => around.net.close(around.queue, around.random, end),
        }
    }

    /// Somebody has connected to us; returns the connection's number.
    pub(crate) fn accepted(&mut self, around: &mut Around<'_>, end: LinkEnd) -> u64 {
        let conn = self.drive(around, Kernel::accepted);
        let framing = self.pick_framing(around);
        self.wires.insert(conn, Wire::new(Some(end), framing));
        around.timer(self.silence, Timer::HandshakeOver { conn });
        self.greet(around, conn);
        conn.0
    }

    /// Something has come on a connection.
    pub(crate) fn received(&mut self, around: &mut Around<'_>, conn: u64, segment: Segment) {
        let conn = ConnId(conn);
        let Some(wire) = self.wires.get_mut(&conn) else {
            return;
        };
        match segment {
            Segment::Greeting { node, nonce, provider, framing } => {
                wire.peer = Some(node.clone());
                wire.peer_sends(framing);
                if node == *self.kernel.node() {
                    if !self.drive(around, |kernel| kernel.greeted_with_own_id(conn, &nonce)) {
                        self.ended(around, conn, "another node uses our node ID");
                    }
                    return;
                }
                let greeting = PeerGreeting { node, provider };
                self.drive(around, |kernel| kernel.greeted(conn, greeting));
            }
            Segment::Auth => {
                wire.peer_has_authenticated = true;
                match wire.order {
                    Some(AuthOrder::Now) => self.later.push_back(Later::Established(conn)),
                    Some(AuthOrder::AfterPeer) => self.later.push_back(Later::Verified(conn)),
                    None => {}
                }
                self.drive(around, |_| ());
            }
            Segment::Data(octets) => {
                wire.received(&octets);
                self.read_packets(around, conn);
            }
            Segment::Fin => self.ended(around, conn, "unexpected end of file"),
        }
    }

    fn read_packets(&mut self, around: &mut Around<'_>, conn: ConnId) {
        loop {
            let Some(wire) = self.wires.get_mut(&conn) else {
                return;
            };
            if !wire.established || wire.closing {
                return;
            }
            let Some(from) = wire.peer.clone() else {
                return;
            };
            let packet = match wire.next_packet() {
                Ok(Some(packet)) => packet,
                Ok(None) => return,
                Err(error) => panic!("a packet of {from} cannot be read: {error}"),
            };
            match Packet::read(packet.as_elements()) {
                Ok(Packet::Keepalive) => {}
                Ok(Packet::Message { port, elements }) if port.is_node_port() => {
                    self.drive(around, |kernel| kernel.node_packet(&from, elements));
                }
                Ok(Packet::Message { port, elements }) => {
                    let port = port.as_str().to_owned();
                    self.deliver(port, from, elements.to_packed());
                    self.drive(around, |_| ());
                }
                Err(error) => panic!("{from} sends {packet}: {error}"),
            }
        }
    }

    /// A connection, or the attempt to make one, has ended.
    pub(crate) fn ended(&mut self, around: &mut Around<'_>, conn: ConnId, why: &str) {
        let Some(wire) = self.wires.remove(&conn) else {
            return;
        };
        if let Some(end) = wire.end {
            around.net.close(around.queue, around.random, end);
        }
        if let Some(peer) = &wire.peer
            && self.established.get(peer) == Some(&conn)
        {
            self.established.remove(peer);
        }
        self.drive(around, |kernel| kernel.closed(conn, why));
    }

    pub(crate) fn timer(&mut self, around: &mut Around<'_>, what: Timer) {
        match what {
            Timer::Tick => {
                if self.tick_at.is_some_and(|at| at <= around.queue.now) {
                    self.tick_at = None;
                    self.drive(around, Kernel::tick);
                }
            }
            Timer::Flush { node, conn } => self.flush(around, &node, conn),
            Timer::Close { conn, reason } => self.ended(around, conn, &reason),
            Timer::HandshakeOver { conn } => {
                if self.wires.get(&conn).is_some_and(|wire| !wire.established) {
                    self.ended(around, conn, "the handshake took too long");
                }
            }
        }
    }
}
