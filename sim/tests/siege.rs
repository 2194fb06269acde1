//! A member that sends the most expensive requests to one kernel. The work and memory of the kernel are
//! counted, not timed. `make siege` does the same to a node over real sockets, and measures time.

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use aemp::kernel::{
    Authenticated, ConnId, Effect, Kernel, KernelConfig, LARGE_PACKET, LargePacket, NextPiece, Now,
    PeerGreeting, PeerLimits, is_large,
};
use aemp::value::{NodeId, Packed, Str};
use aemp_sim::offences::{Offence, Offender};
use std::time::Duration;

/// Database entries that one input may look at if it is a piece of a large packet: those that it
/// sets, and as many of a lost database.
const OPERATIONS_OF_A_PIECE: u64 = 2100;

/// The same for a packet that is handled at once; an entry has at least two octets.
const OPERATIONS_AT_ONCE: u64 = LARGE_PACKET as u64 / 2;

const TABLE: usize = 200_000;

/// Tables that a kernel keeps per peer.
const TABLES: usize = 3;

fn node(id: &str) -> NodeId {
    NodeId::new(id).unwrap()
}

struct Victim {
    kernel: Kernel,
    seconds: u64,
    log_lines: usize,
}

impl Victim {
    fn new() -> Victim {
        let config = KernelConfig { heal: true, ..KernelConfig::repeatable(node("victim")) };
        let mut kernel = Kernel::new(config, Now::default());
        kernel.set_limits(PeerLimits { table: TABLE, database: 2_000_000 });
        kernel.become_global();
        kernel.take_effects();
        Victim { kernel, seconds: 0, log_lines: 0 }
    }

    fn connect(&mut self, id: &str) -> ConnId {
        let conn = self.kernel.accepted();
        let greeting = PeerGreeting::new(node(id), Str::default());
        self.kernel.greeted(conn, greeting);
        self.kernel.established(conn, &Authenticated { untrusted: false });
        self.input("a connection", OPERATIONS_OF_A_PIECE, |_| {});
        conn
    }

    fn operations(&self) -> u64 {
        self.kernel.database().global().unwrap().merge().operations()
    }

    /// One acquisition of the kernel's lock, with everything that follows from it.
    fn input(&mut self, what: &str, most: u64, input: impl FnOnce(&mut Kernel)) {
        let before = self.operations();
        input(&mut self.kernel);
        // The nodes that it dials do not answer.
        loop {
            let mut refused = Vec::new();
            for effect in self.kernel.take_effects() {
                match effect {
                    Effect::Dial { conn, .. } => refused.push(conn),
                    Effect::Log { line, .. } => {
                        let text = line.to_string();
                        self.log_lines += 1;
                        assert!(text.len() <= 1100, "{what}: {text}");
                        assert!(!text.contains(['\u{1b}', '\u{202e}']), "{what}: {text}");
                    }
                    _ => {}
                }
            }
            if refused.is_empty() {
                break;
            }
            refused.into_iter().for_each(|conn| self.kernel.closed(conn, "refused"));
        }
        let operations = self.operations() - before;
        assert!(operations <= most, "{what}: {operations} entries at once");
        let kept = self.kernel.octets_for_peers();
        assert!(kept <= TABLES * TABLE + LARGE_PACKET, "{what}: {kept} octets kept");
    }

    /// Handles a packet as a node does, and returns how many pieces it took.
    fn packet(&mut self, from: &NodeId, offence: &Offence) -> usize {
        let elements = offence.request.as_elements();
        if !is_large(elements) {
            let request = |kernel: &mut Kernel| kernel.node_packet(from, elements);
            self.input(offence.what, OPERATIONS_AT_ONCE, request);
            return match self.kernel.take_unfinished(from) {
                Some(rest) => 1 + self.pieces(offence, rest),
                None => 1,
            };
        }
        self.pieces(offence, LargePacket::new(from, elements))
    }

    fn pieces(&mut self, offence: &Offence, mut packet: LargePacket) -> usize {
        let mut pieces = 0;
        loop {
            match packet.prepare() {
                NextPiece::Kernel => {
                    pieces += 1;
                    let piece = |kernel: &mut Kernel| packet.work(kernel);
                    self.input(offence.what, OPERATIONS_OF_A_PIECE, piece);
                }
                NextPiece::Send { .. } => {}
                NextPiece::Done => return pieces,
            }
        }
    }

    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.seconds += 1;
            let uptime = Duration::from_secs(self.seconds);
            self.kernel.set_now(Now { uptime, wall: 0.0 });
            while self.kernel.next_tick().is_some_and(|at| at <= uptime) {
                self.input("time", OPERATIONS_OF_A_PIECE, Kernel::tick);
            }
        }
    }
}

/// Sends offences to a kernel, and checks the bounds after each.
fn besiege(seed: u64, largest: usize, packets: usize) {
    let mut victim = Victim::new();
    let peer = node("peer");
    let mut conn = victim.connect("peer");
    let mut offender = Offender::new(seed, &node("victim"), largest);
    for number in 0..packets {
        let offence = offender.offence();
        let octets = offence.request.as_elements().octets().len();
        let pieces = victim.packet(&peer, &offence);
        let most = 4 + octets / 1000;
        assert!(
            pieces <= most,
            "seed {seed}, {}: {pieces} pieces of {octets} octets",
            offence.what
        );
        if number % 16 == 15 {
            victim.pass(1);
        }
        if number % 50 == 49 {
            victim.input("a loss", OPERATIONS_OF_A_PIECE, |kernel| kernel.closed(conn, "gone"));
            conn = victim.connect("peer");
        }
    }
    // Twenty lines of each source and level at once, then one per second.
    let most = (20 + victim.seconds as usize) * 8;
    assert!(victim.log_lines <= most, "seed {seed}: {} lines", victim.log_lines);
    victim.input("the last loss", OPERATIONS_OF_A_PIECE, |kernel| kernel.closed(conn, "gone"));
    victim.pass(120);
    let merge = victim.kernel.database().global().unwrap().merge();
    assert_eq!(merge.owners().collect::<Vec<_>>(), [&node("victim")], "seed {seed}");
    assert_eq!(victim.kernel.octets_for_peers(), 0, "seed {seed}");
    let held = victim.kernel.resource_counts();
    assert_eq!((held.connections, held.attempts, held.monitors_of_peers), (0, 0, 0), "seed {seed}");
    assert!(!held.nodes.contains(&peer), "seed {seed}");
}

#[test]
fn whatever_a_member_sends_little_is_done_at_once_and_nothing_stays() {
    (0..40).for_each(|seed| besiege(seed, 20_000, 200));
}

#[test]
fn large_packets_of_a_member_are_worked_off_in_pieces() {
    (100..110).for_each(|seed| besiege(seed, 1 << 20, 60));
}

#[test]
fn packets_with_nothing_in_them_do_nothing() {
    let mut victim = Victim::new();
    victim.connect("peer");
    let empty = Offence { what: "nothing", request: Packed::default() };
    assert_eq!(victim.packet(&node("peer"), &empty), 1);
    assert_eq!(victim.log_lines, 1, "that it is up");
}
