//! The operations on a world: plain data, made from a seed.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use std::time::Duration;

/// One operation. Its numbers choose among what exists when it is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Op {
    OpenPort {
        host: u32,
    },
    /// A monitor, followed by numbered messages.
    Stream {
        host: u32,
        port: u32,
        count: u32,
    },
    /// More messages on a stream.
    Continue {
        stream: u32,
        count: u32,
    },
    Kill {
        host: u32,
        port: u32,
        with_reason: bool,
    },
    Unmonitor {
        monitor: u32,
    },
    Spawn {
        host: u32,
        on: u32,
        known: bool,
        count: u32,
    },
    Link {
        host: u32,
        port: u32,
        own: u32,
    },
    Notify {
        host: u32,
        port: u32,
        to: u32,
    },
    MonitorNode {
        host: u32,
        node: u32,
    },
    Set {
        host: u32,
        family: u32,
        key: u32,
        value: u32,
    },
    Delete {
        host: u32,
        family: u32,
        key: u32,
    },
    MonitorFamily {
        host: u32,
        family: u32,
    },
    UnmonitorFamily {
        monitor: u32,
    },
    Query {
        host: u32,
        family: u32,
        kind: u32,
    },
    CancelQuery {
        query: u32,
    },
    /// A message with a reply port, sent after a monitor was set.
    Call {
        host: u32,
        port: u32,
    },
    /// More messages on a stream, each sent only while the lane is not congested.
    Patiently {
        stream: u32,
        count: u32,
    },
    Echo {
        host: u32,
        on: u32,
    },
    Cut {
        a: u32,
        b: u32,
    },
    HalfCut {
        a: u32,
        b: u32,
    },
    Block {
        a: u32,
        b: u32,
    },
    Unblock {
        a: u32,
        b: u32,
    },
    Partition {
        mask: u32,
    },
    Heal,
    Kill9 {
        host: u32,
    },
    Vanish {
        host: u32,
    },
    Start {
        host: u32,
        new_id: bool,
    },
    Pause {
        host: u32,
        ms: u32,
    },
    Suspend {
        host: u32,
        ms: u32,
    },
    /// The clocks of a node jump.
    Jump {
        host: u32,
        leap_ms: u32,
        wall: i32,
    },
    NetworkConditions {
        rough: bool,
    },
    BecomeGlobal {
        host: u32,
    },
    SetSeeds {
        host: u32,
        mask: u32,
    },
    Disconnect {
        host: u32,
        node: u32,
    },
    /// A stranger answers at a seed's address: it echoes, or claims to be a node.
    Hijack {
        seed: u32,
        claimed: u32,
        manner: u32,
    },
    /// The seed itself answers at its address again.
    Restore {
        seed: u32,
    },
    /// The link between two nodes becomes slow: limited to these octets per second, with a delay in
    /// milliseconds for all octets or some of them.
    Slow {
        a: u32,
        b: u32,
        pace: u32,
        delay: u32,
        stall: u32,
    },
    /// A monitor, followed by enough messages to keep a slow link busy.
    Bulk {
        host: u32,
        on: u32,
    },
    /// A process with the secret and the ID of another node connects to a node.
    TwinDials {
        host: u32,
        of: u32,
    },
    /// A stranger connects to a node.
    StrangerDials {
        host: u32,
        claimed: u32,
        manner: u32,
    },
}

impl Op {
    /// Whether the nodes that it affects may not notice a fault for a while.
    pub fn hides_something(&self) -> bool {
        matches!(
            self,
            Op::HalfCut { .. }
                | Op::Block { .. }
                | Op::Partition { .. }
                | Op::Vanish { .. }
                | Op::Pause { .. }
                | Op::Suspend { .. }
                | Op::Jump { .. }
                | Op::NetworkConditions { .. }
        )
    }

    /// Whether it is a fault in the environment of the nodes.
    pub fn is_fault(&self) -> bool {
        matches!(
            self,
            Op::Cut { .. }
                | Op::HalfCut { .. }
                | Op::Block { .. }
                | Op::Partition { .. }
                | Op::Kill9 { .. }
                | Op::Vanish { .. }
                | Op::Pause { .. }
                | Op::Suspend { .. }
                | Op::Jump { .. }
                | Op::Disconnect { .. }
                | Op::Slow { .. }
        )
    }
}

/// The network at the beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setup {
    /// Number of nodes.
    pub nodes: usize,
    /// Number of seeds, which are the first nodes.
    pub seeds: usize,
    /// For each other node, a bit for each seed that it has.
    pub knows: Vec<u32>,
    // The bits are reused from the first one if there are more nodes.
    /// A bit for each node that is global without being a seed.
    pub globals: u32,
    /// A bit for each node whose lanes hold only little.
    pub narrow: u32,
    /// Two bits for each node that also announces addresses that lead nowhere, or to other nodes.
    pub confused: u32,
    /// A bit for each node in `secure` mode.
    pub secure: u32,
    /// Nothing fails and delays are short, so no connection may be lost.
    pub peaceful: bool,
    /// A bit for each Perl node. Global ones are replaced by ours, at the end at the latest.
    pub perl: u32,
    /// A bit for each node that, if it is down and not a seed, is not restarted at the end.
    pub stay_down: u32,
    /// A bit for each node with a certificate.
    pub tls: u32,
    /// Handshakes are cut, and their octets are delayed.
    pub trouble: bool,
    /// The extensions of the protocol, if not all nodes have the same: for each, a bit for each node that
    /// has it. They are the request for one key, the name of a run, and changes that coalesce.
    pub extensions: Option<[u32; 3]>,
    /// Every failure is noticed at once, and delays are short: processes end and connections break,
    /// but nothing hangs.
    pub orderly: bool,
}

/// A network, and the operations on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The seed of all random choices, including those of the world.
    pub seed: u64,
    /// The network.
    pub setup: Setup,
    /// Whether all events are printed.
    pub verbose: bool,
    /// Whether the outcome contains a hash of all events, which takes a sixth of the run's time.
    pub traced: bool,
    /// The operations, each after a pause.
    pub ops: Vec<(Duration, Op)>,
}

impl Plan {
    /// The plan of a seed: mostly three to eight nodes, sometimes up to forty.
    pub fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed ^ 0x5eed_0fa1_7e57);
        let nodes = match seed % 100 {
            50 => random.random_range(25..=40),
            10 | 30 | 70 | 90 => random.random_range(9..=24),
            _ => random.random_range(3..=8),
        };
        Plan::make(seed, nodes, &mut random)
    }

    /// The plan of a seed for a network of this many nodes, at least three.
    pub fn of_nodes(seed: u64, nodes: usize) -> Self {
        let mut random = StdRng::seed_from_u64(seed ^ 0x1a_29e0_5eed);
        Plan::make(seed, nodes.max(3), &mut random)
    }

    fn make(seed: u64, nodes: usize, random: &mut StdRng) -> Self {
        let seeds = random.random_range(1..=3_usize.max(nodes / 10).min(nodes - 1).min(10));
        let everything = (1_u32 << seeds) - 1;
        let peaceful = random.random_ratio(1, 10);
        let mut sometimes = |of: u32, out_of: u32| {
            if !peaceful && random.random_ratio(of, out_of) { random.random() } else { 0 }
        };
        let (globals, narrow, confused) = (sometimes(1, 3), sometimes(1, 3), sometimes(1, 3));
        let (perl, stay_down, secure) = (sometimes(2, 5), sometimes(1, 2), sometimes(1, 5));
        // From a separate source, so that they do not change the rest of the plan.
        let mut handshakes = StdRng::seed_from_u64(seed ^ 0x7_1500_5eed);
        let tls = if handshakes.random_ratio(1, 4) { handshakes.random() } else { 0 };
        let trouble = !peaceful && handshakes.random_ratio(1, 4);
        let orderly = perl == 0
            && !peaceful
            && !trouble
            && StdRng::seed_from_u64(seed ^ 0x0_4de4_1700).random_ratio(1, 3);
        let mut mixed = StdRng::seed_from_u64(seed ^ 0x00e8_7e45_1075);
        let extensions = mixed.random_ratio(1, 2).then(|| mixed.random());
        let (confused, narrow) = if orderly { (0, 0) } else { (confused, narrow) };
        let setup = Setup {
            nodes,
            seeds,
            knows: (seeds..nodes).map(|_| random.random_range(1..=everything)).collect(),
            globals,
            narrow,
            confused,
            secure,
            peaceful,
            perl,
            stay_down,
            tls,
            trouble,
            extensions,
            orderly,
        };
        let longest = if random.random_ratio(1, 4) { 1_000 } else { 200 };
        let len = random.random_range(20..=longest) * nodes.div_ceil(8);
        let faults = if peaceful { 0 } else { random.random_range(0..=40) };
        let mut ops: Vec<_> = (0..len).map(|_| (pause(random), op(random, faults))).collect();
        if orderly {
            ops.retain(|(_, op)| !op.hides_something());
        } else {
            add_strangers(&mut ops, peaceful, &mut StdRng::seed_from_u64(seed ^ 0x57_7a29_e750));
            add_twins(&mut ops, &mut StdRng::seed_from_u64(seed ^ 0x0007_3145_e750));
            add_slow_ways(&mut ops, &mut StdRng::seed_from_u64(seed ^ 0x0051_0375_e750));
        }
        Plan { seed, setup, verbose: false, traced: false, ops }
    }
}

/// Adds strangers to most plans, without changing the rest of the plan. In a peaceful plan they
/// never take over a seed's address, since a seed that cannot be reached is a fault.
fn add_strangers(ops: &mut Vec<(Duration, Op)>, peaceful: bool, random: &mut StdRng) {
    for _ in 0..random.random_range(0..8) {
        let mut r = || random.random::<u32>() >> 8;
        let (host, claimed, manner) = (r(), r(), r());
        let op = match r() % 5 {
            0 | 1 => Op::Hijack { seed: host, claimed, manner },
            2 => Op::Restore { seed: host },
            _ => Op::StrangerDials { host, claimed, manner },
        };
        let at = random.random_range(0..=ops.len());
        let pause = pause(random);
        if !(peaceful && matches!(op, Op::Hijack { .. })) {
            ops.insert(at, (pause, op));
        }
    }
}

/// Makes some links slow and busy in some plans, while other processes claim to be the node at
/// their end.
fn add_slow_ways(ops: &mut Vec<(Duration, Op)>, random: &mut StdRng) {
    if !random.random_ratio(1, 4) {
        return;
    }
    let mut at = random.random_range(0..=ops.len());
    for _ in 0..random.random_range(1..6) {
        let (a, b) = (random.random::<u32>() >> 8, random.random::<u32>() >> 8);
        let pace = 10_000 << random.random_range(0..7);
        let (delay, stall) = (random.random_range(0..300), random.random_range(0..1000));
        let slow = Op::Slow { a, b, pace, delay, stall };
        let twin = Op::TwinDials { host: a, of: b };
        for op in [slow, Op::Bulk { host: a, on: b }, twin, twin] {
            ops.insert(at, (Duration::from_millis(random.random_range(0..800)), op));
            at += 1;
        }
        at = random.random_range(at..=ops.len());
    }
}

/// Lets second processes with the IDs of nodes try to connect, in some plans.
fn add_twins(ops: &mut Vec<(Duration, Op)>, random: &mut StdRng) {
    if !random.random_ratio(1, 4) {
        return;
    }
    let (host, of) = (random.random::<u32>() >> 8, random.random::<u32>() >> 8);
    let first = random.random_range(0..=ops.len());
    for at in (first..ops.len()).step_by(3).take(random.random_range(1..20)) {
        // Either the same one repeatedly, or many.
        let (host, of) = match random.random_ratio(3, 4) {
            true => (host, of),
            false => (random.random::<u32>() >> 8, of),
        };
        ops.insert(at, (pause(random), Op::TwinDials { host, of }));
    }
}

/// Operations mostly happen close together; sometimes much time passes.
fn pause(random: &mut StdRng) -> Duration {
    let longest = match random.random_range(0..20) {
        0 => 40_000,
        1..=4 => 3_000,
        5..=12 => 100,
        _ => 2,
    };
    Duration::from_millis(random.random_range(0..longest))
}

fn op(random: &mut StdRng, faults: u32) -> Op {
    let mut r = || random.random::<u32>() >> 8;
    let (a, b, c) = (r(), r(), r());
    if r() % 100 < faults {
        return match r() % 27 {
            23 => Op::HalfCut { a, b },
            24 => Op::Suspend { host: a, ms: b % if c % 8 == 0 { 600_000 } else { 8_000 } },
            25 => Op::Jump { host: a, leap_ms: b % 4_000_000, wall: c as i32 - 8_000_000 },
            26 => Op::Jump { host: a, leap_ms: 0, wall: c as i32 - 8_000_000 },
            0..=3 => Op::Cut { a, b },
            4 | 5 => Op::Block { a, b },
            6 => Op::Unblock { a, b },
            7 => Op::Partition { mask: a },
            8 | 9 => Op::Heal,
            10 | 11 => Op::Kill9 { host: a },
            12 => Op::Vanish { host: a },
            13..=16 => Op::Start { host: a, new_id: b % 3 == 0 },
            17 => Op::Pause { host: a, ms: b % if c % 8 == 0 { 120_000 } else { 8_000 } },
            18 => Op::NetworkConditions { rough: a % 2 == 0 },
            19 => Op::BecomeGlobal { host: a },
            20 => Op::SetSeeds { host: a, mask: b },
            _ => Op::Disconnect { host: a, node: b },
        };
    }
    match r() % 46 {
        40..=42 => Op::Call { host: a, port: b },
        43..=45 => Op::Patiently { stream: a, count: 1 + c % 100 },
        0..=4 => Op::OpenPort { host: a },
        5..=9 => Op::Stream { host: a, port: b, count: c % 5 },
        // Sometimes more than a lane can hold.
        10..=13 => Op::Continue { stream: a, count: 1 + c % if c % 16 == 0 { 100 } else { 20 } },
        14..=16 => Op::Kill { host: a, port: b, with_reason: c % 2 == 0 },
        17 | 18 => Op::Unmonitor { monitor: a },
        19 | 20 => Op::Spawn { host: a, on: b, known: c % 4 != 0, count: c % 3 },
        21 => Op::Link { host: a, port: b, own: c },
        22 => Op::Notify { host: a, port: b, to: c },
        23 => Op::MonitorNode { host: a, node: b },
        24..=28 => Op::Set { host: a, family: b % 2, key: c % 4, value: r() % 3 },
        29..=31 => Op::Delete { host: a, family: b % 2, key: c % 4 },
        32 | 33 => Op::MonitorFamily { host: a, family: b % 4 },
        34 => Op::UnmonitorFamily { monitor: a },
        35 | 36 => Op::Query { host: a, family: b % 2, kind: c % 4 },
        37 => Op::CancelQuery { query: a },
        _ => Op::Echo { host: a, on: b },
    }
}
