//! Measures a large network: messages, memory and time for each join, change and loss.
//!
//! `scale [SLAVES [GLOBALS]]`: 100,000 and 30 by default. All nodes run in this process, so the
//! time is that of all nodes together, including the simulated network.

#![allow(clippy::unwrap_used, reason = "what is measured has been set up right")]

use aemp::kernel::db::{Datum, LOCATIONS, Merge, OwnerKind, QueryKind};
use aemp::value::{NodeId, Packed, PortId, Str};
use aemp_sim::{HostId, Spec, Traffic, World};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Number of seeds of a slave: its master, and another one in case that is lost.
const SEEDS: usize = 2;

/// Counts the octets that are allocated.
struct Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all calls are passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() {
    let mut arguments = std::env::args().skip(1).filter_map(|text| text.parse::<usize>().ok());
    let slaves = arguments.next().unwrap_or(100_000);
    let globals = arguments.next().unwrap_or(30).max(SEEDS + 1);
    Network::new(globals).measure(slaves);
    weigh_entries(slaves, globals);
}

/// Measures the memory that a global node needs for an entry, without anything else that it keeps.
fn weigh_entries(slaves: usize, globals: usize) {
    let before = ALLOCATED.load(Relaxed);
    let mut merge = Merge::new();
    for number in 0..slaves {
        let slave = format!("slave/{number}");
        // The first global node is this one; the others send what their slaves have.
        let (owner, kind) = match number % globals {
            0 => (slave.clone(), OwnerKind::Slave),
            master => (format!("g{master}"), OwnerKind::Global),
        };
        let owner = NodeId::new(owner).unwrap();
        merge.set_kind(&owner, kind);
        let location = Datum::strings(&[Str::from(format!("{slave}:1"))]);
        for (family, value) in [(LOCATIONS, location), ("workers", Datum::int(1))] {
            let set = [(Str::from(slave.clone()), value)].into_iter().collect();
            merge.update(&owner, Str::from(family), set, Vec::new());
        }
    }
    let octets = ALLOCATED.load(Relaxed) - before;
    println!("an entry at a global node: {} octets", octets / (2 * slaves));
}

struct Network {
    world: World,
    globals: Vec<HostId>,
    slaves: Vec<HostId>,
}

/// The counters at the beginning of a phase.
struct PhaseStart {
    traffic: Traffic,
    cpu: Duration,
    memory: usize,
}

impl Network {
    fn new(globals: usize) -> Self {
        let mut world = World::calm();
        let addresses: Vec<String> = (0..globals).map(|global| format!("g{global}:1")).collect();
        let seeds = || addresses.iter().map(String::as_str);
        let globals =
            (0..globals).map(|global| world.add(Spec::new(&format!("g{global}")).seeds(seeds())));
        let globals = globals.collect();
        world.run_for(Duration::from_secs(60));
        Network { world, globals, slaves: Vec::new() }
    }

    fn measure(&mut self, slaves: usize) {
        println!("| what | packets each | octets each | time each | until all know |");
        println!("|---|---|---|---|---|");
        for part in [slaves / 100, slaves / 10, slaves / 2, slaves] {
            self.join(part);
        }
        let memory = ALLOCATED.load(Relaxed);
        self.settle(Duration::from_secs(40));
        self.changes(slaves);
        self.subscriptions();
        self.connects();
        self.losses(slaves / 100);
        self.loss_of_a_global();
        println!();
        println!("all of it: {} MB allocated, {} MB resident", memory / 1_000_000, resident());
        self.weigh();
    }

    fn mark(&self) -> PhaseStart {
        PhaseStart {
            traffic: self.world.traffic().clone(),
            cpu: cpu(),
            memory: ALLOCATED.load(Relaxed),
        }
    }

    /// Prints a line of the table.
    fn tell(&self, what: &str, since: &PhaseStart, count: usize, took: Duration) {
        let traffic = self.world.traffic().since(&since.traffic);
        let each = |number: u64| number as f64 / count as f64;
        let time = (cpu() - since.cpu) / count as u32;
        let mut kinds: Vec<_> = traffic.packets.iter().collect();
        kinds.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let kinds: Vec<String> = kinds
            .into_iter()
            .filter(|(_, count)| **count * 100 > traffic.packets())
            .map(|(name, count)| format!("{name} {:.1}", each(*count)))
            .collect();
        println!(
            "| {what} | {:.1} ({}) | {:.0} | {time:.1?} | {took:.1?} |",
            each(traffic.packets()),
            kinds.join(", "),
            each(traffic.octets),
        );
    }

    /// Lets time pass, and discards what the nodes have reported to programs.
    fn settle(&mut self, how_long: Duration) {
        let step = Duration::from_millis(100);
        let until = self.world.now() + how_long;
        while self.world.now() < until {
            self.world.run_for(step.min(until - self.world.now()));
            self.forget();
        }
    }

    fn forget(&mut self) {
        while let Some(host) = self.world.next_touched() {
            drop(self.world.happenings(host));
        }
    }

    /// Lets time pass until a condition holds; returns how long that took.
    fn until(&mut self, is_so: impl Fn(&Self) -> bool) -> Duration {
        let begun = self.world.now();
        while !is_so(self) {
            assert!(self.world.now() < begun + Duration::from_secs(600), "it never happens");
            self.world.run_for(Duration::from_millis(1));
            self.forget();
        }
        self.world.now() - begun
    }

    /// Whether all global nodes know this many nodes.
    fn all_know(&self, nodes: usize) -> bool {
        self.keys(LOCATIONS, nodes)
    }

    fn keys(&self, family: &str, keys: usize) -> bool {
        let family = Str::from(family);
        self.globals.iter().filter_map(|&host| self.world.running(host)).all(|node| {
            let global = node.kernel().database().global();
            global.is_some_and(|global| global.merge().family_len(&family) == keys)
        })
    }

    /// Lets slaves join, a thousand per second, until there are this many.
    fn join(&mut self, until: usize) {
        let (mark, before) = (self.mark(), self.slaves.len());
        let globals = self.globals.len();
        while self.slaves.len() < until {
            for _ in 0..100.min(until - self.slaves.len()) {
                let number = self.slaves.len();
                let seeds = (0..SEEDS).map(|seed| format!("g{}:1", (number + seed) % globals));
                let seeds: Vec<String> = seeds.collect();
                let spec = Spec::new(&format!("slave/{number}"));
                let spec = spec.seeds(seeds.iter().map(String::as_str));
                let slave = self.world.add(spec);
                // Like a program that waits until it has joined.
                let own = Str::from(self.world.spec(slave).node.clone());
                self.world.kernel(slave, |kernel| kernel.get(&LOCATIONS.into(), &own));
                self.slaves.push(slave);
            }
            if self.slaves.len() < until {
                self.world.run_for(Duration::from_millis(100));
                self.forget();
            }
        }
        let nodes = self.slaves.len() + globals;
        let took = self.until(|network| network.all_know(nodes));
        let joined = self.slaves.len() - before;
        self.tell(&format!("join, {} to {until} slaves", before), &mark, joined, took);
        eprintln!(
            "{} octets of memory for each slave that joined",
            (ALLOCATED.load(Relaxed) - mark.memory) / joined
        );
    }

    fn set(&mut self, slave: HostId, family: &str, value: usize) {
        let key = Str::from(self.world.spec(slave).node.to_string());
        let value = Datum::int(value as i64);
        self.world.kernel(slave, |kernel| kernel.set(&Str::from(family), key, value).unwrap());
    }

    fn changes(&mut self, slaves: usize) {
        let mark = self.mark();
        for index in 0..slaves {
            self.set(self.slaves[index], "workers", 1);
            if index % 100 == 0 {
                self.world.run_for(Duration::from_millis(10));
                self.forget();
            }
        }
        let took = self.until(|network| network.keys("workers", slaves));
        self.tell("change: a key of every slave is set", &mark, slaves, took);
    }

    fn subscriptions(&mut self) {
        let mark = self.mark();
        let first = self.slaves[0];
        self.world.kernel(first, |kernel| kernel.monitor_family(&Str::from("workers")));
        self.settle(Duration::from_secs(1));
        self.tell("subscription to the family of all these keys", &mark, 1, Duration::ZERO);
        let mark = self.mark();
        self.world.kernel(first, |kernel| kernel.query(QueryKind::Keys, &Str::from("workers")));
        self.settle(Duration::from_secs(1));
        self.tell("query for its keys", &mark, 1, Duration::ZERO);
        let mark = self.mark();
        for slave in self.slaves.clone() {
            self.world.kernel(slave, |kernel| kernel.monitor_family(&Str::from("settings")));
        }
        self.settle(Duration::from_secs(1));
        self.tell("subscription of every slave to a small family", &mark, self.slaves.len(), {
            Duration::ZERO
        });
        let mark = self.mark();
        for number in 0..5 {
            self.set(self.slaves[number], "settings", number);
            self.settle(Duration::from_secs(1));
        }
        self.tell("change that every slave has subscribed to", &mark, 5, Duration::ZERO);
    }

    /// Lets slaves send messages to slaves of other global nodes.
    fn connects(&mut self) {
        let pairs = 1_000.min(self.slaves.len() / 2 - 1);
        let mark = self.mark();
        let ports: Vec<PortId> =
            (0..pairs).map(|pair| self.world.open_port(self.slaves[2 * pair + 1])).collect();
        let message = Packed::of(&("hello",)).unwrap();
        for (pair, port) in ports.iter().enumerate() {
            self.world.send(self.slaves[2 * pair], port, &message);
        }
        let slaves = self.slaves.clone();
        let took = self.until(|network| {
            (0..pairs).all(|pair| {
                let kernel = network.world.node(slaves[2 * pair]).kernel();
                kernel.is_up(&network.world.spec(slaves[2 * pair + 1]).node)
            })
        });
        self.tell("first message from a slave to another one", &mark, pairs, took);
    }

    fn losses(&mut self, count: usize) {
        let mark = self.mark();
        for slave in self.slaves.split_off(self.slaves.len() - count) {
            self.world.kill(slave);
        }
        let nodes = self.slaves.len() + self.globals.len();
        let took = self.until(|network| network.all_know(nodes));
        self.tell("loss of a slave with two entries", &mark, count, took);
    }

    fn loss_of_a_global(&mut self) {
        let lost = self.globals[0];
        let id = self.world.spec(lost).node.clone();
        let moved = self.slaves_of(&id);
        let nodes = self.slaves.len() + self.globals.len() - 1;
        let mark = self.mark();
        self.world.kill(lost);
        self.settle(Duration::from_millis(1));
        let took = self.until(|network| network.all_know(nodes));
        self.tell(&format!("loss of a global node with {moved} slaves"), &mark, 1, took);
        let mark = self.mark();
        self.world.start(lost);
        let took = self.until(|network| network.all_know(nodes + 1));
        self.tell("the same when it comes back, without slaves", &mark, 1, took);
        self.settle(Duration::from_secs(60));
    }

    fn slaves_of(&self, global: &NodeId) -> usize {
        let slaves = self.slaves.iter().filter_map(|&slave| self.world.running(slave));
        slaves.filter(|node| node.kernel().master() == Some(global)).count()
    }

    /// Measures the memory that is freed when nodes end, without their connections.
    fn weigh(&mut self) {
        let before = ALLOCATED.load(Relaxed);
        let some = self.slaves.len() / 10;
        for slave in self.slaves.split_off(self.slaves.len() - some) {
            self.world.vanish(slave);
        }
        let after = ALLOCATED.load(Relaxed);
        println!("a slave: {} KB", (before - after) / some / 1_000);
        let global = self.globals[1];
        let entries = self.world.database(global).unwrap().global().map_or(0, |global| {
            ["workers", LOCATIONS]
                .map(|name| global.merge().family_len(&Str::from(name)))
                .iter()
                .sum()
        });
        let peers = self.world.node(global).kernel().up_nodes().len();
        self.world.vanish(global);
        let size = after - ALLOCATED.load(Relaxed);
        println!(
            "a global node with {entries} entries and {peers} connections: {} MB",
            size / 1_000_000
        );
    }
}

/// Processor time of this process.
fn cpu() -> Duration {
    static BEGUN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    match stat.split(' ').next().and_then(|nanos| nanos.parse().ok()) {
        Some(nanos) => Duration::from_nanos(nanos),
        None => BEGUN.get_or_init(Instant::now).elapsed(),
    }
}

/// Resident memory of this process, in megabytes.
fn resident() -> usize {
    let stat = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = stat.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok());
    pages.unwrap_or_default() * 4_096 / 1_000_000
}
