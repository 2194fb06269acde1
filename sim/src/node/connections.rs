//! The beginning and end of a node's connections, and what is received on them.

use super::{DelayedInput, HandlerContext, Node};
use crate::link::{LinkEnd, Segment};
use crate::world::CONNECT_INTERVAL;
use aemp::kernel::{AuthOrder, Authenticated, ConnId, Kernel};
use aemp::wire::packet::Packet;
use aemp::wire::session::{Event, HandshakeError};
use rand::Rng as _;
use std::time::Duration;

impl Node {
    /// Handles the answer to a dial.
    pub(crate) fn dialled(&mut self, around: &mut HandlerContext<'_>, conn: u64, end: LinkEnd) {
        let conn = ConnId(conn);
        match self.wires.get_mut(&conn) {
            Some(wire) => {
                wire.end = Some(end);
                self.greet(around, conn);
            }
            None => around.net.close(around.queue, around.random, end),
        }
    }

    /// Accepts a connection; returns its number.
    pub(crate) fn accepted(&mut self, around: &mut HandlerContext<'_>, end: LinkEnd) -> u64 {
        let conn = self.drive(around, Kernel::accepted);
        let framing = self.pick_framing(around);
        self.wires.insert(conn, crate::wire::Wire::new(Some(end), framing));
        around.timer(self.silence, crate::event::Timer::HandshakeOver { conn });
        self.greet(around, conn);
        conn.0
    }

    fn greet(&mut self, around: &mut HandlerContext<'_>, conn: ConnId) {
        let chance: [u8; 16] = around.random.random();
        let Some(wire) = self.wires.get_mut(&conn) else {
            return;
        };
        let session = self.introduction.session(wire, chance);
        let greeting = session.own_greeting().to_vec();
        wire.begin(session);
        self.drive(around, |kernel| kernel.greeting_sent(conn, &greeting));
        self.transmit(around, conn);
    }

    /// Sends the pending octets of a connection's session.
    fn transmit(&mut self, around: &mut HandlerContext<'_>, conn: ConnId) {
        let Some(wire) = self.wires.get_mut(&conn) else {
            return;
        };
        while let (Some(end), Some(octets)) = (wire.end, wire.transmit()) {
            around.say(end, &octets);
        }
    }

    /// Lets a connection continue, as the kernel has ordered.
    pub(super) fn proceed(
        &mut self,
        around: &mut HandlerContext<'_>,
        conn: ConnId,
        order: AuthOrder,
    ) {
        let Some(wire) = self.wires.get_mut(&conn) else {
            return;
        };
        wire.proceed(order);
        self.transmit(around, conn);
        self.readable.push_back(conn);
        if order == AuthOrder::Now {
            let until = self.clock.last + self.time_to_answer(conn);
            if let Some(wire) = self.wires.get_mut(&conn) {
                wire.others_wait_until = Some(until);
            }
        }
        self.check_authentications(conn);
    }

    /// How long a peer has to answer our authentication line before other connections that claim to
    /// be the same node may continue. The more there are, the shorter, since anybody can claim
    /// that.
    fn time_to_answer(&self, conn: ConnId) -> Duration {
        const CLAIMS_WITH_FULL_TIMEOUT: usize = 4;
        let peer = self.wires.get(&conn).and_then(|wire| wire.peer.as_ref());
        let claims = self.wires.values().filter(|wire| wire.peer.as_ref() == peer);
        let claims = claims.filter(|wire| !wire.established && !wire.closing).count();
        CONNECT_INTERVAL
            .mul_f64(CLAIMS_WITH_FULL_TIMEOUT as f64 / claims.max(CLAIMS_WITH_FULL_TIMEOUT) as f64)
    }

    /// Checks that at most one of all connections to a node has our authentication line without the
    /// peer's, until its time to answer has passed. Otherwise both ends could complete different
    /// ones.
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
            self.log_error(text);
        }
    }

    /// Handles a segment that has arrived on a connection.
    pub(crate) fn received(
        &mut self,
        around: &mut HandlerContext<'_>,
        conn: u64,
        segment: Segment,
    ) {
        let conn = ConnId(conn);
        let Some(wire) = self.wires.get_mut(&conn) else {
            return;
        };
        match segment {
            Segment::Lines(octets) | Segment::Data(octets) => wire.received(&octets),
            Segment::Tls(theirs) => {
                wire.tls_heard(theirs);
                self.transmit(around, conn);
            }
            Segment::Fin => return self.ended(around, conn, "unexpected end of file"),
        }
        self.readable.push_back(conn);
        self.drive(around, |_| ());
    }

    /// Takes one step on a connection on which something may have arrived: an event of its session,
    /// or a packet. The kernel's effects are carried out before the next step.
    pub(super) fn read(&mut self, around: &mut HandlerContext<'_>, conn: ConnId) {
        let Some(wire) = self.wires.get_mut(&conn).filter(|wire| !wire.closing) else {
            return;
        };
        if wire.established {
            return self.read_packet(conn);
        }
        let event = match wire.poll() {
            Ok(Some(event)) => event,
            Ok(None) => return,
            Err(error) => return self.refuse(around, conn, &error),
        };
        match event {
            Event::Greeted => {
                let Some(greeting) = wire.greeting() else { return };
                self.kernel.greeted(conn, greeting);
            }
            Event::StartTls { .. } | Event::StartBoundTls { .. } => {
                let own = around.random.random();
                if let Some(end) = wire.end {
                    around.say_tls(end, own);
                }
                wire.tls_begun(own);
                self.transmit(around, conn);
                self.readable.push_back(conn);
            }
            Event::Proven => self.later.push_back(DelayedInput::Verified(conn)),
            Event::Established(_) => self.later.push_back(DelayedInput::Established(conn)),
        }
    }

    pub(super) fn connection_established(&mut self, conn: ConnId) {
        if let Some(wire) = self.wires.get_mut(&conn)
            && !wire.established
        {
            wire.established = true;
            self.readable.push_back(conn);
            self.kernel.established(conn, &Authenticated { untrusted: false });
        }
    }

    fn refuse(&mut self, around: &mut HandlerContext<'_>, conn: ConnId, error: &HandshakeError) {
        if let HandshakeError::SameNodeId { greeting, .. } = error {
            if self.kernel.greeted_with_own_id(conn, greeting).is_none() {
                self.ended(around, conn, "another node uses our node ID");
            }
        } else {
            // All nodes here follow the protocol.
            self.log_error(format!("a handshake fails: {error}"));
            self.ended(around, conn, &error.to_string());
        }
    }

    fn read_packet(&mut self, conn: ConnId) {
        let Some(wire) = self.wires.get_mut(&conn) else {
            return;
        };
        let Some(from) = wire.peer.clone() else {
            return;
        };
        let packet = match wire.next_packet() {
            Ok(Some(packet)) => packet,
            Ok(None) => return,
            Err(error) => panic!("a packet of {from} cannot be read: {error}"),
        };
        self.readable.push_back(conn);
        match Packet::read(packet.as_elements()) {
            Ok(Packet::Keepalive) => {}
            Ok(Packet::Message { port, elements }) if port.is_node_port() => {
                self.kernel.node_packet(&from, elements);
                if let Some(rest) = self.kernel.take_unfinished(&from) {
                    rest.finish(&mut self.kernel);
                }
            }
            Ok(Packet::Message { port, elements }) => {
                let port = port.as_str().to_owned();
                self.deliver(port, from, elements.to_packed());
            }
            Err(error) => panic!("{from} sends {packet}: {error}"),
        }
    }

    /// Handles the end of a connection, or of the attempt to make one.
    pub(crate) fn ended(&mut self, around: &mut HandlerContext<'_>, conn: ConnId, why: &str) {
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
}
