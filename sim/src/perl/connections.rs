//! How a Perl node dials, greets, and chooses between several connections.

use super::{Goal, PerlNode};
use crate::event::{Event, Timer, WorldEvent};
use crate::link::{LinkEnd, Segment};
use crate::node::HandlerContext;
use crate::wire::Wire;
use aemp::kernel::{AuthOrder, Reason};
use aemp::value::{NodeId, Packed, Str};
use aemp::wire::framing::Framing;
use aemp::wire::session::{Event as Reached, HandshakeError};
use rand::Rng as _;
use std::time::Duration;

/// After this long a handshake is given up.
const SILENCE: Duration = Duration::from_secs(30);
/// After this long a dial of a node that is not a seed is given up.
const CONNECT_INTERVAL: Duration = Duration::from_secs(2);

impl PerlNode {
    pub(super) fn dial_seeds(&mut self, around: &mut HandlerContext<'_>) {
        let down: Vec<Str> = self
            .seeds
            .iter()
            .filter(|seed| {
                let up = seed.node.as_ref().is_some_and(|node| self.links.contains_key(node));
                !up && seed.dial.is_none()
            })
            .map(|seed| seed.address.clone())
            .collect();
        for address in down {
            let conn = self.dial(around, address.clone(), Goal::Seed(address.clone()), SILENCE);
            if let Some(seed) = self.seeds.iter_mut().find(|seed| seed.address == address) {
                seed.dial = Some(conn);
            }
        }
        self.seed_delay = (self.seed_delay * 2).min(Duration::from_secs(30));
    }

    fn dial(
        &mut self,
        around: &mut HandlerContext<'_>,
        address: Str,
        goal: Goal,
        patience: Duration,
    ) -> u64 {
        self.next_conn += 1;
        let conn = self.next_conn;
        self.goals.insert(conn, goal);
        self.wires.insert(conn, Wire::new(None, framing(around)));
        let delay = around.net.weather.delay(around.random);
        let (host, incarnation, since) = (around.host, around.incarnation, around.now());
        around.queue.after(delay, Event::Dial { host, incarnation, conn, address, since });
        let conn_id = aemp::kernel::ConnId(conn);
        around.timer(patience, Timer::HandshakeOver { conn: conn_id });
        conn
    }

    pub(crate) fn dialled(&mut self, around: &mut HandlerContext<'_>, conn: u64, end: LinkEnd) {
        match self.wires.get_mut(&conn) {
            Some(wire) => {
                wire.end = Some(end);
                self.greet(around, conn);
            }
            None => around.net.close(around.queue, around.random, end),
        }
    }

    pub(crate) fn accepted(&mut self, around: &mut HandlerContext<'_>, end: LinkEnd) -> u64 {
        self.next_conn += 1;
        let conn = self.next_conn;
        self.wires.insert(conn, Wire::new(Some(end), framing(around)));
        let conn_id = aemp::kernel::ConnId(conn);
        around.timer(SILENCE, Timer::HandshakeOver { conn: conn_id });
        self.greet(around, conn);
        conn
    }

    fn greet(&mut self, around: &mut HandlerContext<'_>, conn: u64) {
        let chance: [u8; 16] = around.random.random();
        let Some(wire) = self.wires.get_mut(&conn) else { return };
        wire.begin(self.introduction.session(wire, chance));
        self.transmit(around, conn);
    }

    fn transmit(&mut self, around: &mut HandlerContext<'_>, conn: u64) {
        let Some(wire) = self.wires.get_mut(&conn) else { return };
        while let (Some(end), Some(octets)) = (wire.end, wire.transmit()) {
            around.say(end, &octets);
        }
    }

    pub(crate) fn received(
        &mut self,
        around: &mut HandlerContext<'_>,
        conn: u64,
        segment: Segment,
    ) {
        let Some(wire) = self.wires.get_mut(&conn) else { return };
        match segment {
            Segment::Lines(octets) | Segment::Data(octets) => wire.received(&octets),
            Segment::Tls(theirs) => wire.tls_heard(theirs),
            Segment::Fin => self.ended(around, conn, "unexpected end of file"),
        }
        while self.shake_hands(around, conn) {}
        self.read_packets(around, conn);
        self.settle(around);
    }

    /// Takes one step of a handshake; returns whether another one may follow.
    fn shake_hands(&mut self, around: &mut HandlerContext<'_>, conn: u64) -> bool {
        self.transmit(around, conn);
        let Some(wire) = self.wires.get_mut(&conn) else { return false };
        match wire.poll() {
            Ok(None) => return false,
            Ok(Some(Reached::Greeted)) => {
                if let Some(node) = wire.peer.clone() {
                    self.greeted(around, conn, node);
                }
            }
            Ok(Some(Reached::StartTls { .. } | Reached::StartBoundTls { .. })) => {
                let own = around.random.random();
                if let Some(end) = wire.end {
                    around.say_tls(end, own);
                }
                wire.tls_begun(own);
            }
            Ok(Some(Reached::Proven)) => wire.proceed(AuthOrder::Now),
            Ok(Some(Reached::Established(_))) => {
                wire.established = true;
                self.established(around, conn);
            }
            Err(HandshakeError::SameNodeId { .. }) => {
                let own = self.id.clone();
                self.greeted(around, conn, own);
            }
            Err(error) => self.ended(around, conn, &error.to_string()),
        }
        true
    }

    fn greeted(&mut self, around: &mut HandlerContext<'_>, conn: u64, node: NodeId) {
        if let Some(Goal::Seed(address)) = self.goals.get(&conn).cloned() {
            if node == self.id {
                self.seeds.retain(|seed| seed.address != address);
                let now = around.now() - self.started;
                self.db.become_global(now);
                return self.ended(around, conn, "this is ourselves");
            }
            if let Some(seed) = self.seeds.iter_mut().find(|seed| seed.address == address) {
                // This happens before the peer has authenticated.
                seed.node = Some(node.clone());
            }
        }
        if node == self.id {
            return self.ended(around, conn, "I do not talk to myself");
        }
        if self.links.contains_key(&node) {
            return self.ended(around, conn, "already connected");
        }
        if let Some(wire) = self.wires.get_mut(&conn) {
            wire.proceed(AuthOrder::Now);
        }
    }

    /// The defect: the connection that is completed last is used.
    fn established(&mut self, around: &mut HandlerContext<'_>, conn: u64) {
        let Some(node) = self.wires.get(&conn).and_then(|wire| wire.peer.clone()) else { return };
        if let Some(old) = self.links.get(&node).copied() {
            self.ended(around, old, "switched connections");
        }
        self.links.insert(node.clone(), conn);
        if let Some(Goal::Seed(address)) = self.goals.remove(&conn)
            && let Some(seed) = self.seeds.iter_mut().find(|seed| seed.address == address)
        {
            seed.dial = None;
        }
        self.happenings.push(WorldEvent::NodeUp(node.clone()));
        self.db.node_up(node.clone());
        self.settle(around);
        if self.seeds.iter().any(|seed| seed.node.as_ref() == Some(&node)) {
            self.request(around, &node, "g_slave");
            self.seed_is_up(around, &node);
        }
    }

    fn read_packets(&mut self, around: &mut HandlerContext<'_>, conn: u64) {
        loop {
            let Some(wire) = self.wires.get_mut(&conn) else { return };
            let Some(from) = wire.peer.clone().filter(|_| wire.established) else { return };
            match wire.next_packet() {
                Ok(Some(packet)) => self.packet(around, &from, &packet),
                Ok(None) => return,
                Err(error) => panic!("a packet of {from} cannot be read: {error}"),
            }
        }
    }

    pub(crate) fn ended(&mut self, around: &mut HandlerContext<'_>, conn: u64, why: &str) {
        let Some(wire) = self.wires.remove(&conn) else { return };
        if let Some(end) = wire.end {
            around.net.close(around.queue, around.random, end);
        }
        self.goals.remove(&conn);
        let seed = self.seeds.iter_mut().find(|seed| seed.dial == Some(conn));
        if let Some(seed) = seed {
            seed.dial = None;
        }
        let Some(node) = wire.peer.filter(|node| self.links.get(node) == Some(&conn)) else {
            return;
        };
        self.links.remove(&node);
        for watchers in self.ports.values_mut() {
            watchers.remove(&node);
        }
        let reason: Reason = Packed::of(&("transport_error", why)).unwrap_or_default();
        self.happenings.push(WorldEvent::NodeDown(node.clone(), reason));
        self.master_is_down(around, &node);
        self.settle(around);
        if self.seeds.iter().any(|seed| seed.node.as_ref() == Some(&node)) {
            self.seed_delay = Duration::from_millis(around.random.random_range(600..1_200));
            self.dial_seeds(around);
        }
    }

    pub(crate) fn timer(&mut self, around: &mut HandlerContext<'_>, what: Timer) {
        match what {
            Timer::Tick => {
                self.dial_seeds(around);
                for node in self.keepalive.clone() {
                    if !self.links.contains_key(&node)
                        && let Some(addresses) = self.db.location(&node)
                        && let Some(address) = addresses.first()
                    {
                        self.dial(around, address.clone(), Goal::Node, CONNECT_INTERVAL);
                    }
                }
                let delay = self.seed_delay.max(Duration::from_millis(500));
                self.settle(around);
                around.timer(delay.min(Duration::from_secs(5)), Timer::Tick);
            }
            Timer::HandshakeOver { conn } => {
                if self.wires.get(&conn.0).is_some_and(|wire| !wire.established) {
                    self.ended(around, conn.0, "timed out");
                }
            }
            Timer::Close { conn, reason } => self.ended(around, conn.0, &reason),
            Timer::Flush { .. } | Timer::Room { .. } => {}
        }
    }
}

fn framing(around: &mut HandlerContext<'_>) -> Framing {
    Framing::ALL[around.random.random_range(0..3)]
}
