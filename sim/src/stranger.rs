//! A process that is not a node of the network: it answers at an address that is not its own, or
//! dials, and sends whatever it likes. Most strangers do not know the network's secret.

use crate::link::{LinkEnd, Segment};
use crate::node::HandlerContext;
use crate::wire::{HandshakeParams, Wire};
use aemp::kernel::{AuthOrder, ConnId};
use aemp::value::{NodeId, Str};
use aemp::wire::framing::Framing;
use aemp::wire::greeting::PROVIDER_PREFIX;
use aemp::wire::session::Event;
use rand::Rng as _;
use std::collections::BTreeMap;
use std::time::Duration;

/// The behaviour of a stranger on its connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StrangerBehaviour {
    /// Sends back what it receives.
    Echoes,
    /// Greets as another node, with that node's provider, and sends nothing more.
    Claims {
        /// The node.
        node: NodeId,
        /// That node's provider.
        provider: Str,
        /// The run of that node: greetings are not secret.
        instance: String,
        /// Whether it closes the connection after its greeting.
        closes: bool,
    },
    /// Knows the secret and has the ID of a node, like a second process with a wrong configuration.
    /// It closes each connection as soon as it is established.
    Twin {
        /// The node whose ID it has.
        node: NodeId,
        /// Its provider.
        provider: Str,
    },
    /// Connects a node that dials it with another node.
    Relays {
        /// The address of the other node.
        to: Str,
        /// What it does to the data in between.
        meddling: Tampering,
    },
}

/// How a relaying stranger changes what it relays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tampering {
    /// Not at all.
    Nothing,
    /// It terminates the TLS of both sides, so that there are two sessions, and reads both.
    EndsTls,
    /// In both greetings it replaces a text with another one.
    Replaces {
        /// The text that is replaced.
        text: &'static str,
        /// The replacement.
        by: &'static str,
    },
}

#[derive(Debug)]
enum Conversation {
    Echoes,
    /// Nothing more is sent.
    Silent,
    Handshake(Box<Wire>),
}

#[derive(Debug)]
pub(crate) struct Stranger {
    /// How it behaves on connections that begin from now on.
    pub(crate) manner: StrangerBehaviour,
    /// How it behaves on each connection.
    manners: BTreeMap<u64, StrangerBehaviour>,
    wires: BTreeMap<u64, (LinkEnd, Conversation)>,
    /// The other half of each connection that it relays.
    others: BTreeMap<u64, u64>,
    /// Segments for connections that are not established yet.
    waiting: BTreeMap<u64, Vec<Segment>>,
    /// Greetings that have not arrived completely.
    greetings: BTreeMap<u64, Vec<u8>>,
    next_conn: u64,
    /// How often it was accepted as a node.
    taken_for_a_node: u64,
}

impl Stranger {
    pub(crate) fn new(manner: StrangerBehaviour) -> Self {
        Stranger {
            manner,
            manners: BTreeMap::new(),
            wires: BTreeMap::new(),
            others: BTreeMap::new(),
            waiting: BTreeMap::new(),
            greetings: BTreeMap::new(),
            next_conn: 0,
            taken_for_a_node: 0,
        }
    }

    pub(crate) const fn taken_for_a_node(&self) -> u64 {
        self.taken_for_a_node
    }

    /// A number for a new connection.
    pub(crate) fn new_conn(&mut self) -> u64 {
        self.next_conn += 1;
        self.manners.insert(self.next_conn, self.manner.clone());
        self.next_conn
    }

    pub(crate) fn accepted(&mut self, around: &mut HandlerContext<'_>, end: LinkEnd) -> u64 {
        let conn = self.new_conn();
        self.begin(around, conn, end, false);
        if let StrangerBehaviour::Relays { to, .. } = &self.manner {
            let address = to.clone();
            let other = self.new_conn();
            self.others.extend([(conn, other), (other, conn)]);
            self.greetings.extend([(conn, Vec::new()), (other, Vec::new())]);
            self.waiting.insert(other, Vec::new());
            let (host, incarnation, since) = (around.host, around.incarnation, around.now());
            let delay = around.net.weather.delay(around.random);
            let dial = crate::event::Event::Dial { host, incarnation, conn: other, address, since };
            around.queue.after(delay, dial);
        }
        conn
    }

    pub(crate) fn dialled(&mut self, around: &mut HandlerContext<'_>, conn: u64, end: LinkEnd) {
        let Some(waiting) = self.waiting.remove(&conn) else {
            return self.begin(around, conn, end, true);
        };
        if !self.others.contains_key(&conn) {
            return around.net.close(around.queue, around.random, end);
        }
        self.wires.insert(conn, (end, Conversation::Silent));
        waiting.into_iter().for_each(|segment| around.send(end, segment));
    }

    /// Relays a segment that has arrived on one half of a connection.
    fn relay(&mut self, around: &mut HandlerContext<'_>, conn: u64, other: u64, segment: Segment) {
        let StrangerBehaviour::Relays { meddling, .. } = self.manner else { return };
        let segment = match (segment, meddling) {
            (Segment::Tls(_), Tampering::EndsTls) => Segment::Tls(around.random.random()),
            (Segment::Lines(octets), Tampering::Replaces { text, by }) => {
                match self.greetings.get_mut(&conn) {
                    None => Segment::Lines(octets),
                    Some(greeting) => {
                        greeting.extend_from_slice(&octets);
                        let lines = greeting.iter().filter(|octet| **octet == b'\n').count();
                        if lines < 2 {
                            return;
                        }
                        let changed = String::from_utf8_lossy(greeting).replacen(text, by, 1);
                        self.greetings.remove(&conn);
                        Segment::Lines(changed.into_bytes())
                    }
                }
            }
            (segment, _) => segment,
        };
        match (self.wires.get(&other), self.waiting.get_mut(&other)) {
            (Some((end, _)), _) => around.send(*end, segment),
            (None, Some(waiting)) => waiting.push(segment),
            (None, None) => {}
        }
    }

    fn begin(&mut self, around: &mut HandlerContext<'_>, conn: u64, end: LinkEnd, dialled: bool) {
        let manner = self.manners.get(&conn).unwrap_or(&self.manner).clone();
        let (node, provider, instance) = match &manner {
            StrangerBehaviour::Echoes => {
                self.wires.insert(conn, (end, Conversation::Echoes));
                return;
            }
            StrangerBehaviour::Relays { .. } => {
                self.wires.insert(conn, (end, Conversation::Silent));
                return;
            }
            StrangerBehaviour::Claims { node, provider, instance, .. } => {
                (node, provider, instance.as_str())
            }
            StrangerBehaviour::Twin { node, provider } => (node, provider, "another"),
        };
        let framings = [Framing::Cbor];
        let introduction =
            HandshakeParams::new(node, provider, Some(instance), &framings, (false, false), false);
        let chance: [u8; 16] = around.random.random();
        let mut wire = Wire::new(Some(end), Framing::Cbor);
        wire.dialled = dialled;
        let session = introduction.session(&wire, chance);
        match &manner {
            StrangerBehaviour::Twin { .. } => {
                wire.begin(session);
                self.wires.insert(conn, (end, Conversation::Handshake(Box::new(wire))));
                self.converse(around, conn);
            }
            manner => {
                around.say(end, session.own_greeting());
                let closes = matches!(manner, StrangerBehaviour::Claims { closes: true, .. });
                self.wires.insert(conn, (end, Conversation::Silent));
                if closes && around.random.random() {
                    self.ended(around, conn);
                } else if closes {
                    let reason = "that was all".to_owned();
                    let delay = Duration::from_millis(around.random.random_range(0..3_000));
                    around.timer(delay, crate::event::Timer::Close { conn: ConnId(conn), reason });
                }
            }
        }
    }

    pub(crate) fn received(
        &mut self,
        around: &mut HandlerContext<'_>,
        conn: u64,
        segment: Segment,
    ) {
        if let Some(&other) = self.others.get(&conn)
            && !matches!(segment, Segment::Fin)
        {
            return self.relay(around, conn, other, segment);
        }
        match (segment, self.wires.get_mut(&conn)) {
            (Segment::Fin, _) => self.ended(around, conn),
            (segment, Some((end, Conversation::Echoes))) => around.send(*end, segment),
            (
                Segment::Lines(octets) | Segment::Data(octets),
                Some((_, Conversation::Handshake(wire))),
            ) => {
                wire.received(&octets);
                self.converse(around, conn);
            }
            _ => {}
        }
    }

    /// Continues a handshake as far as possible.
    fn converse(&mut self, around: &mut HandlerContext<'_>, conn: u64) {
        let Some((end, Conversation::Handshake(wire))) = self.wires.get_mut(&conn) else { return };
        loop {
            while let Some(octets) = wire.transmit() {
                around.say(*end, &octets);
            }
            match wire.poll() {
                Ok(Some(Event::Greeted)) => wire.proceed(match self.manners.get(&conn) {
                    // Between two nodes of ours, the one with the smaller ID begins.
                    Some(StrangerBehaviour::Twin { node, provider })
                        if is_ours(provider) && wire.peer.as_ref() < Some(node) =>
                    {
                        AuthOrder::AfterPeer
                    }
                    _ => AuthOrder::Now,
                }),
                Ok(Some(Event::Proven)) => wire.proceed(AuthOrder::Now),
                Ok(Some(Event::Established(_))) => {
                    self.taken_for_a_node += 1;
                    return self.ended(around, conn);
                }
                Ok(Some(Event::StartTls { .. } | Event::StartBoundTls { .. })) | Err(_) => {
                    return self.ended(around, conn);
                }
                Ok(None) => return,
            }
        }
    }

    pub(crate) fn ended(&mut self, around: &mut HandlerContext<'_>, conn: u64) {
        if let Some((end, _)) = self.wires.remove(&conn) {
            around.net.close(around.queue, around.random, end);
        }
        self.greetings.remove(&conn);
        self.manners.remove(&conn);
        if let Some(other) = self.others.remove(&conn) {
            self.ended(around, other);
        }
    }
}

fn is_ours(provider: &Str) -> bool {
    provider.to_text_lossy().starts_with(PROVIDER_PREFIX)
}
