//! Somebody who does not know the network's secret: answers at an address that is not theirs, or
//! dials, and says what they like.

use crate::link::{LinkEnd, Segment};
use crate::node::Around;
use crate::wire::{Introduction, Wire};
use aemp::value::{NodeId, Str};
use aemp::wire::framing::Framing;
use rand::Rng as _;
use std::collections::BTreeMap;
use std::time::Duration;

/// What a stranger does on its connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manner {
    /// Sends back what it gets.
    Echoes,
    /// Greets as a node that it is not, with that node's provider, and says no more.
    Claims {
        /// Which node.
        node: NodeId,
        /// What that node is made of.
        provider: Str,
        /// Whether it closes the connection after its greeting.
        closes: bool,
    },
}

/// Whether it sends back what it gets on a connection.
type Echoes = bool;

#[derive(Debug)]
pub(crate) struct Stranger {
    pub(crate) manner: Manner,
    wires: BTreeMap<u64, (LinkEnd, Echoes)>,
    next_conn: u64,
}

impl Stranger {
    pub(crate) fn new(manner: Manner) -> Self {
        Stranger { manner, wires: BTreeMap::new(), next_conn: 0 }
    }

    /// A number for a new connection.
    pub(crate) fn new_conn(&mut self) -> u64 {
        self.next_conn += 1;
        self.next_conn
    }

    pub(crate) fn accepted(&mut self, around: &mut Around<'_>, end: LinkEnd) -> u64 {
        let conn = self.new_conn();
        self.begin(around, conn, end, false);
        conn
    }

    pub(crate) fn dialled(&mut self, around: &mut Around<'_>, conn: u64, end: LinkEnd) {
        self.begin(around, conn, end, true);
    }

    fn begin(&mut self, around: &mut Around<'_>, conn: u64, end: LinkEnd, dialled: bool) {
        self.wires.insert(conn, (end, self.manner == Manner::Echoes));
        let Manner::Claims { node, provider, closes } = &self.manner else { return };
        let introduction = Introduction::new(node, provider, &[Framing::Cbor], false, false);
        let chance: [u8; 16] = around.random.random();
        let mut wire = Wire::new(Some(end), Framing::Cbor);
        wire.dialled = dialled;
        let session = introduction.session(&wire, chance);
        around.say(end, session.own_greeting());
        if *closes && around.random.random() {
            self.ended(around, conn);
        } else if *closes {
            let reason = "that was all".to_owned();
            let conn = aemp::kernel::ConnId(conn);
            let delay = Duration::from_millis(around.random.random_range(0..3_000));
            around.timer(delay, crate::event::Timer::Close { conn, reason });
        }
    }

    pub(crate) fn received(&mut self, around: &mut Around<'_>, conn: u64, segment: Segment) {
        match (segment, self.wires.get(&conn)) {
            (Segment::Fin, _) => self.ended(around, conn),
            (segment, Some(&(end, true))) => around.send(end, segment),
            _ => {}
        }
    }

    pub(crate) fn ended(&mut self, around: &mut Around<'_>, conn: u64) {
        if let Some((end, _)) = self.wires.remove(&conn) {
            around.net.close(around.queue, around.random, end);
        }
    }
}
