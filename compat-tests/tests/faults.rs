//! Networks of Perl's processes and ours that are continuously killed, stopped and flooded.
//!
//! A short version runs with all other tests. `AEMP_SOAK_SECONDS` sets a longer duration, over which the
//! memory of all processes that stay must not grow (`make soak-real`).

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use aemp::{CallbackPort, Context, KillReason, MonitorGuard, Node, NodeId, PortId};
use compat_tests::host::Host;
use compat_tests::network::{InProcess, eventually, free_address};
use compat_tests::node::Aemp;
use compat_tests::perl;
use compat_tests::perl_node::{MODULES, PerlNode};
use compat_tests::process::{Signal, signal};
use serde_json::json;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The allowed growth of memory between a sixth of the time and the end.
const GROWTH: f64 = 1.10;
/// Strangers that connect in each round: some send nothing, some garbage.
const STRANGERS: usize = 40;
/// Nodes that join and leave in each round.
const MAX_PENDING: usize = 8;

/// What happens to a process.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Killed,
    /// It is stopped for a moment.
    Paused,
    StoppedAndKilled,
    Terminated,
    /// It and its watchdog are stopped for longer than its heartbeat.
    FrozenPair,
    /// It is killed, and its port is taken while its watchdog starts it again.
    StolenPort,
    /// Nobody reads its log any more.
    FullPipe,
    /// Its machine loses the address of its connections, and gets it again.
    MovingAddress,
}

const FAULTS: [Fault; 8] = [
    Fault::Killed,
    Fault::Paused,
    Fault::StoppedAndKilled,
    Fault::Terminated,
    Fault::FrozenPair,
    Fault::StolenPort,
    Fault::FullPipe,
    Fault::MovingAddress,
];

/// An address that comes and goes.
const MOVING: &str = "192.0.2.7";

/// How long a process may take to end if nobody reads its log.
const ENDING: Duration = Duration::from_secs(15);

/// The heartbeat of watched processes.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Numbers sent to a node, which echoes them; they stay in order without gaps until the monitor fires.
struct Stream {
    port: CallbackPort,
    _monitor: MonitorGuard,
    answered: Arc<AtomicU64>,
    broken: Arc<AtomicBool>,
    lost: Arc<AtomicBool>,
    pump: tokio::task::JoinHandle<u64>,
}

impl Stream {
    fn start(inside: &InProcess, from: &Node, to: &NodeId) -> Stream {
        inside.run(async {
            let answered = Arc::new(AtomicU64::new(0));
            let [broken, lost] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
            let port = from.port_of_tags();
            let (seen, hole, over) = (answered.clone(), broken.clone(), lost.clone());
            port.on("n", move |_: &Context<'_>, (number,): (u64,)| {
                // Messages sent just after a loss use the next connection.
                if !over.load(Ordering::SeqCst) && seen.swap(number, Ordering::SeqCst) + 1 != number
                {
                    hole.store(true, Ordering::SeqCst);
                }
            });
            let (fired, shown) = (lost.clone(), to.clone());
            let monitor = from.on_death(to.node_port(), move |reason| {
                fired.store(true, Ordering::SeqCst);
                eprintln!("{shown}: {reason}");
            });
            let (from, to, back, fired) = (from.clone(), to.clone(), port.id(), lost.clone());
            let pump = tokio::spawn(async move {
                for number in 1_u64.. {
                    from.snd_wait(&to, ("snd", &back, "n", number)).await.unwrap();
                    if fired.load(Ordering::SeqCst) {
                        return number;
                    }
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                0
            });
            Stream { port, _monitor: monitor, answered, broken, lost, pump }
        })
    }

    fn answered(&self) -> u64 {
        self.answered.load(Ordering::SeqCst)
    }

    /// Waits until further numbers come back.
    fn flows(&self, what: &str) {
        let before = self.answered();
        eventually(what, || match self.answered() {
            now if now > before + 10 => Ok(()),
            now => Err(format!(
                "{before}, then {now} answers, lost {}, ended {}, a hole {}",
                self.lost.load(Ordering::SeqCst),
                self.pump.is_finished(),
                self.broken.load(Ordering::SeqCst),
            )),
        });
    }

    /// Waits for the monitor, and returns how many numbers came back.
    fn ends(self, inside: &InProcess, what: &str) -> u64 {
        eventually(what, || {
            if self.lost.load(Ordering::SeqCst) { Ok(()) } else { Err("no monitor fired".into()) }
        });
        let sent = inside.run(self.pump).unwrap();
        self.port.kil(&KillReason::normal());
        let answered = self.answered.load(Ordering::SeqCst);
        assert!(!self.broken.load(Ordering::SeqCst), "{what}: a hole before {answered}");
        assert!(answered <= sent);
        answered
    }
}

struct Network {
    /// A network of its own with all nodes in it, so that the machine's addresses can be changed without
    /// affecting anything else.
    host: Option<Host>,
    inside: InProcess,
    seeds: Vec<Aemp>,
    addresses: Vec<String>,
    worker: Node,
    observer: Node,
    perl: Option<PerlNode>,
    steady: Vec<Stream>,
    round: usize,
    answers: u64,
    strangers: Vec<TcpStream>,
}

impl Network {
    fn start() -> Network {
        let host = Host::new().filter(Host::enter);
        let inside = InProcess::new();
        let addresses: Vec<String> = (0..2).map(|_| free_address()).collect();
        let all = addresses.join(",");
        let seeds = addresses.iter().enumerate().map(|(index, address)| {
            Aemp::start(&format!("seed{index}"), &[("binds", address), ("seeds", &all)])
        });
        let seeds: Vec<Aemp> = seeds.collect();
        let worker = inside.start("worker", &addresses);
        let observer = inside.start("observer", &addresses);
        let perl = perl::has(MODULES).then(|| {
            let mut perl = PerlNode::start("perl", json!({ "seeds": addresses }));
            perl.eval("db_set guests => $NODE => 1; 1");
            perl
        });
        for node in [&worker, &observer] {
            inside.run(node.joined());
        }
        // Before that nobody could be connected to them.
        eventually("the addresses of those that stay", || {
            let locations = inside.family(&observer, "'l")?;
            let known = |id: &str| locations.contains_key(id);
            let all = known("worker") && (perl.is_none() || known("perl"));
            if all { Ok(()) } else { Err(format!("{locations:?}")) }
        });
        let stays = ["worker"].into_iter().chain(perl.as_ref().map(|_| "perl"));
        let steady = stays.map(|id| Stream::start(&inside, &observer, &node_id(id))).collect();
        Network {
            host,
            inside,
            seeds,
            addresses,
            worker,
            observer,
            perl,
            steady,
            round: 0,
            answers: 0,
            strangers: Vec::new(),
        }
    }

    /// Strangers connect to a seed, and those of the previous round close.
    fn strangers(&mut self) {
        let garbage: [&[u8]; 5] = [
            b"",
            b"GET / HTTP/1.1\r\n\r\n",
            b"aemp;1;worker;hmac_sha3_512;cbor;provider=AE-2.02\nnonce\n",
            b"aemp;1;worker;hmac_sha3_512;cbor\nnonce\nhmac_sha3_512;00;cbor\n\x81\x60",
            &[b'x'; 5000],
        ];
        let seed = &self.addresses[self.round % self.addresses.len()];
        self.strangers.clear();
        for index in 0..STRANGERS {
            let mut stranger = TcpStream::connect(seed).unwrap();
            // The seed may have closed it already.
            if index % 8 == 7 {
                echo(stranger.try_clone().unwrap());
            } else {
                let _ = stranger.write_all(garbage[index % garbage.len()]);
            }
            self.strangers.push(stranger);
        }
    }

    /// Nodes join, use the database, talk, and leave.
    fn guests(&mut self) {
        let round = self.round;
        let guests: Vec<Node> = (0..MAX_PENDING)
            .map(|index| self.inside.start(&format!("guest{round}-{index}"), &self.addresses))
            .collect();
        self.inside.run(async {
            for guest in &guests {
                guest.joined().await;
                guest.db().set("guests", guest.id().to_string(), vec![round; 100]).unwrap();
                let _watched: Vec<_> = (0..10).map(|_| self.worker.monitor(guest.id())).collect();
                let (time,): (f64,) = guest.call(self.worker.id(), ("time",)).await.unwrap();
                assert!(time > 0.0);
            }
        });
        for (index, guest) in guests.into_iter().enumerate() {
            if index % 2 == 0 {
                self.inside.run(guest.shutdown());
            }
        }
    }

    /// A process joins, talks, and suffers a fault.
    fn victim(&mut self, fault: Fault) {
        let id = format!("victim{}", self.round);
        let (seeds, address) = (self.addresses.join(","), free_address());
        let mut settings = vec![("seeds", seeds.as_str())];
        let heartbeat = HEARTBEAT.as_secs().to_string();
        let mut victim = match fault {
            Fault::FrozenPair | Fault::StolenPort => {
                settings.extend([("heartbeat", heartbeat.as_str()), ("binds", &address)]);
                Aemp::start_watched(&id, &settings)
            }
            Fault::FullPipe => {
                settings.push(("heartbeat", &heartbeat));
                Aemp::start_watched_and_traced(&id, &settings)
            }
            _ => Aemp::start(&id, &settings),
        };
        let node = node_id(&id);
        eventually("the victim's addresses in the database", || {
            let locations = self.inside.family(&self.observer, "'l")?;
            if locations.contains_key(&id) { Ok(()) } else { Err(format!("{locations:?}")) }
        });
        let mut stream = Stream::start(&self.inside, &self.observer, &node);
        stream.flows("answers of the victim");
        match fault {
            Fault::Killed => victim.process().kill(),
            Fault::Paused => {
                victim.process().signal(Signal::STOP);
                std::thread::sleep(Duration::from_millis(500));
                assert!(!stream.lost.load(Ordering::SeqCst), "to stand still is not to be lost");
                victim.process().signal(Signal::CONT);
                stream.flows("answers of the victim that goes on");
                victim.process().kill();
            }
            Fault::StoppedAndKilled => {
                victim.process().signal(Signal::STOP);
                std::thread::sleep(Duration::from_millis(100));
                victim.process().kill();
            }
            Fault::FrozenPair => {
                let pair = [victim.process().id(), child_of(victim.process().id())];
                pair.iter().for_each(|process| signal(*process, Signal::STOP));
                std::thread::sleep(HEARTBEAT * 2);
                pair.iter().for_each(|process| signal(*process, Signal::CONT));
                stream.flows("answers of the victim that stood still with its watchdog");
                assert!(!stream.lost.load(Ordering::SeqCst), "to stand still is not to be lost");
                victim.process().kill();
            }
            Fault::StolenPort => {
                signal(child_of(victim.process().id()), Signal::KILL);
                self.answers += stream.ends(&self.inside, "the loss of the killed node");
                // Its watchdog may have been quicker.
                let thief = TcpListener::bind(&address);
                std::thread::sleep(Duration::from_millis(500));
                drop(thief);
                let mut again = None;
                eventually("answers of the victim that was started again", || {
                    let new = Stream::start(&self.inside, &self.observer, &node);
                    std::thread::sleep(Duration::from_millis(100));
                    if new.answered() == 0 || new.lost.load(Ordering::SeqCst) {
                        new.pump.abort();
                        return Err("none".into());
                    }
                    again = Some(new);
                    Ok(())
                });
                stream = again.unwrap();
                victim.process().kill();
            }
            Fault::FullPipe => {
                victim.process().fill_stderr();
                // Longer than its watchdog waits for a sign of life.
                std::thread::sleep(HEARTBEAT * 2);
                stream.flows("answers of the victim whose log nobody reads");
                assert!(
                    !stream.lost.load(Ordering::SeqCst),
                    "a log that nobody reads stops nothing"
                );
                victim.process().signal(Signal::TERM);
                assert!(victim.process().ends_within(ENDING), "a full pipe delays the end");
                victim.process().read_again();
            }
            Fault::Terminated => {
                victim.process().signal(Signal::TERM);
                victim.process().wait_for_end();
            }
            Fault::MovingAddress => unreachable!("has a function of its own"),
        }
        self.answers += stream.ends(&self.inside, &format!("the loss of {id} ({fault:?})"));
    }

    /// A process joins that others connect to at an address which its machine loses for a moment; then it is
    /// killed, every other time while it has no address.
    fn victim_that_moves(&mut self, host: &Host) {
        let id = format!("victim{}", self.round);
        let (seeds, address) = (self.addresses.join(","), free_address());
        let port = address.rsplit_once(':').unwrap().1;
        host.ip(&format!("address add {MOVING}/24 dev lo"));
        let binds = format!("*:{port}");
        let mut victim = Aemp::run_watched(&id, &[("seeds", &seeds), ("binds", &binds)]);
        let announced = |network: &Network, expected: &serde_json::Value| {
            eventually("the victim's addresses in the database", || {
                let locations = network.inside.family(&network.observer, "'l")?;
                let found = locations.get(&id) == Some(expected);
                if found { Ok(()) } else { Err(format!("{locations:?}, not {expected}")) }
            });
        };
        let (somewhere, nowhere) = (json!([format!("{MOVING}:{port}")]), json!([]));
        announced(self, &somewhere);
        let stream = Stream::start(&self.inside, &self.observer, &node_id(&id));
        stream.flows("answers of the victim that will move");
        host.ip(&format!("address del {MOVING}/24 dev lo"));
        announced(self, &nowhere);
        let is_killed_nowhere = self.round / FAULTS.len() % 2 == 1;
        if is_killed_nowhere {
            victim.kill();
        } else {
            host.ip(&format!("address add {MOVING}/24 dev lo"));
            announced(self, &somewhere);
            stream.flows("answers of the victim that has its address again");
            assert!(!stream.lost.load(Ordering::SeqCst), "a moment without address is no loss");
            victim.kill();
        }
        self.answers += stream.ends(&self.inside, &format!("the loss of {id}, which had moved"));
        if !is_killed_nowhere {
            host.ip(&format!("address del {MOVING}/24 dev lo"));
        }
    }

    /// The invariants after each round.
    fn check(&mut self) {
        let perl = self.perl.is_some();
        for family in ["guests", "'l"] {
            eventually("no entry of nodes that are gone", || {
                let entries = self.inside.family(&self.observer, family)?;
                let mut left: Vec<_> = entries.keys().map(String::as_str).collect();
                left.retain(|node| node.starts_with("guest") || node.starts_with("victim"));
                if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
            });
        }
        if perl {
            let guests = self.inside.family(&self.observer, "guests").unwrap();
            assert!(guests.contains_key("perl"), "{guests:?}");
        }
        for (stream, to) in self.steady.iter().zip(["worker", "perl"]) {
            stream.flows(&format!("the steady stream to {to}"));
            assert!(!stream.lost.load(Ordering::SeqCst), "a monitor fired for nothing");
            assert!(!stream.broken.load(Ordering::SeqCst), "a hole");
        }
    }

    fn round(&mut self) {
        self.strangers();
        self.guests();
        match FAULTS[self.round % FAULTS.len()] {
            Fault::MovingAddress => {
                if let Some(host) = self.host.take() {
                    self.victim_that_moves(&host);
                    self.host = Some(host);
                }
            }
            fault => self.victim(fault),
        }
        self.check();
        self.round += 1;
    }

    /// The resident memory of each process that stays, in KiB.
    fn resident(&mut self) -> Vec<(String, u64)> {
        let seeds = self.seeds.iter_mut().map(|seed| (seed.id().to_owned(), seed.process().id()));
        let mut processes: Vec<(String, u32)> = seeds.collect();
        processes.push(("nodes inside of the test".to_owned(), std::process::id()));
        processes.into_iter().map(|(name, id)| (name, memory_kib(id, "VmRSS:"))).collect()
    }
}

/// Sends back everything that arrives, until the connection is closed.
fn echo(mut stranger: TcpStream) {
    std::thread::spawn(move || {
        let mut octets = [0; 4096];
        while let Ok(len @ 1..) = stranger.read(&mut octets) {
            if stranger.write_all(&octets[..len]).is_err() {
                return;
            }
        }
    });
}

/// The process that a watchdog supervises.
fn child_of(watchdog: u32) -> u32 {
    let path = format!("/proc/{watchdog}/task/{watchdog}/children");
    let children = std::fs::read_to_string(path).unwrap();
    children.split_whitespace().next().unwrap().parse().unwrap()
}

fn node_id(id: &str) -> NodeId {
    NodeId::new(id).unwrap()
}

/// The value of a line of `/proc/PID/status`.
fn memory_kib(process: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_network_lives_through_constant_churn() {
    let soak = std::env::var("AEMP_SOAK_SECONDS").ok();
    let duration = soak.as_ref().map(|seconds| Duration::from_secs(seconds.parse().unwrap()));
    let start = Instant::now();
    let mut network = Network::start();
    let Some(duration) = duration else {
        for _ in FAULTS {
            network.round();
        }
        return;
    };
    let mut early = None;
    let mut said = 0;
    while start.elapsed() < duration {
        network.round();
        let elapsed = start.elapsed();
        if early.is_none() && elapsed >= duration / 6 {
            early = Some(network.resident());
        }
        if elapsed.as_secs() / 60 > said {
            said = elapsed.as_secs() / 60;
            let (rounds, resident) = (network.round, network.resident());
            eprintln!("minute {said}: {rounds} rounds, resident KiB {resident:?}");
        }
    }
    let (early, late) = (early.unwrap(), network.resident());
    let steady: u64 = network.steady.iter().map(Stream::answered).sum();
    eprintln!(
        "{} rounds in {:.0} s: {} processes were killed, stopped or ended, {} nodes came and went, \
         {} strangers connected; {steady} answers on connections that stayed, {} on the others, \
         none lost before a monitor fired",
        network.round,
        start.elapsed().as_secs_f64(),
        network.round,
        network.round * MAX_PENDING,
        network.round * STRANGERS,
        network.answers,
    );
    for ((name, before), (_, after)) in early.iter().zip(&late) {
        let growth = *after as f64 / *before as f64;
        eprintln!(
            "{name}: {before} KiB after a sixth of the time, {after} KiB at the end: {growth:.3}"
        );
    }
    for ((name, before), (_, after)) in early.iter().zip(&late) {
        assert!(*after as f64 <= *before as f64 * GROWTH, "{name} has grown");
    }
}

/// The ports of a node that has ended are dead too.
#[test]
fn what_was_sent_to_a_killed_process_is_not_sent_to_the_next_one_of_its_name() {
    let inside = InProcess::new();
    let address = free_address();
    let seed = inside.start("seed", &[]);
    let seeds = seed.addresses()[0].to_string();
    let settings = [("binds", address.as_str()), ("seeds", seeds.as_str())];
    let mut first = Aemp::start("twin", &settings);
    let twin = node_id("twin");
    eventually("the first one", || if seed.is_up(&twin) { Ok(()) } else { Err("down".into()) });
    let port: PortId = "twin#port".parse().unwrap();
    let lost = seed.monitor(&twin);
    first.process().kill();
    inside.run(lost);
    let _second = Aemp::start("twin", &settings);
    eventually("the second one", || if seed.is_up(&twin) { Ok(()) } else { Err("down".into()) });
    let reason = inside.run(async { seed.monitor(&port).await });
    assert!(reason.to_string().contains("no_such_port"), "{reason}");
}

fn is_up(inside: &Node, id: &NodeId) -> Result<(), String> {
    if inside.is_up(id) { Ok(()) } else { Err(format!("{id} is down")) }
}

/// How much processor time a process has taken, in hundredths of a second.
fn cpu_time(process: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn without_file_descriptors_a_node_serves_its_connections_and_later_new_ones() {
    let inside = InProcess::new();
    let mut seed = Aemp::start_limited("seed", "ulimit -n 40", &[]);
    let seeds = [seed.address()];
    let mut nodes: Vec<Node> = Vec::new();
    for number in 0..50 {
        nodes.push(inside.start_as(&format!("node{number}"), |builder| {
            builder.no_binds().seed(&seeds[0]).set("connect_interval", 1)
        }));
    }
    seed.process().wait_for_log("cannot accept connections");
    let id = node_id("seed");
    let (before, start) = (cpu_time(seed.process().id()), Instant::now());
    let up = nodes.iter().position(|node| node.is_up(&id)).expect("some have joined");
    while start.elapsed() < Duration::from_secs(1) {
        let (time,): (f64,) = inside.run(nodes[up].call(&id, ("time",)).into_future()).unwrap();
        assert!(time > 0.0);
        std::thread::sleep(Duration::from_millis(50));
    }
    let taken = cpu_time(seed.process().id()) - before;
    assert!(taken < 70, "{taken} % of a processor: it spins");
    drop(nodes);
    let late = inside.start("late", &seeds);
    inside.run(late.joined());
}

#[test]
fn with_few_file_descriptors_the_oldest_strangers_make_room_for_members() {
    let inside = InProcess::new();
    let mut seed = Aemp::start_limited("seed", "ulimit -n 64", &[]);
    let strangers: Vec<TcpStream> =
        (0..200).map(|_| TcpStream::connect(seed.address()).unwrap()).collect();
    seed.process().wait_for_log("the oldest was closed to make room");
    let member = inside.start("member", &[seed.address()]);
    inside.run(member.joined());
    let id = node_id("seed");
    let call = member.status_of(&id, compat_tests::process::TIMEOUT);
    let status = inside.run(call).unwrap();
    assert!(status.displaced >= 100 && status.pending_handshakes <= 32, "{status:?}");
    drop(strangers);
}

#[test]
fn a_node_that_stands_still_is_not_lost_because_strangers_claim_to_be_it() {
    let inside = InProcess::new();
    let seed =
        inside.start_as("seed", |builder| builder.bind("127.0.0.1:0").set("connect_interval", 0.2));
    let address = seed.addresses()[0].to_string();
    for id in ["a-victim", "z-victim"] {
        let victim = Aemp::start(id, &[("seeds", &address)]);
        let mut victim = victim;
        let node = node_id(id);
        eventually("the victim", || is_up(&seed, &node));
        let mut lost = seed.monitor(&node);
        victim.process().signal(Signal::STOP);
        let strangers: Vec<TcpStream> = (0..20)
            .map(|number| {
                let mut stranger = TcpStream::connect(&address).unwrap();
                let provider = if number % 2 == 0 { "AE-2.02" } else { "aemp-0.1.0" };
                let greeting = format!("aemp;1;{id};hmac_sha3_512;cbor;provider={provider}\n-\n");
                stranger.write_all(greeting.as_bytes()).unwrap();
                stranger
            })
            .collect();
        // Five times the time in which a node whose ID is claimed has to answer.
        std::thread::sleep(Duration::from_secs(1));
        assert!(lost.try_reason().is_none());
        victim.process().signal(Signal::CONT);
        let (time,): (f64,) = inside.run(seed.call(&node, ("time",)).into_future()).unwrap();
        assert!(time > 0.0 && lost.try_reason().is_none());
        drop(strangers);
    }
}

#[test]
fn a_node_out_of_memory_is_lost_like_any_other_and_strangers_cannot_cause_that() {
    let inside = InProcess::new();
    let seed = inside.start("seed", &[]);
    let address = seed.addresses()[0].to_string();
    // Address space, of which the threads' stacks and arenas are most: 100 MiB more than it takes.
    let mut idle = Aemp::start("idle", &[]);
    let limit = memory_kib(idle.process().id(), "VmPeak:") + (100 << 10);
    drop(idle);
    let limit = format!("ulimit -v {limit}");
    let mut small = Aemp::start_limited("small", &limit, &[("seeds", &address)]);
    let node = node_id("small");
    eventually("the small one", || is_up(&seed, &node));
    let mut lost = seed.monitor(&node);
    let strangers: Vec<TcpStream> = (0..300)
        .map(|_| {
            let mut stranger = TcpStream::connect(small.address()).unwrap();
            let _ = stranger.write_all(&[b'x'; 4000]);
            stranger
        })
        .collect();
    let (time,): (f64,) = inside.run(seed.call(&node, ("time",)).into_future()).unwrap();
    assert!(time > 0.0 && lost.try_reason().is_none());
    drop(strangers);
    // A member can do so: it sends more in one packet than there is memory.
    let large = vec!["x".repeat(1 << 20); 200];
    inside.run(async { seed.snd(&node, ("devnull", &large)).unwrap() });
    assert!(inside.run(lost).is_transport_error());
    assert!(!small.process().wait_for_end().success());
    let again = Aemp::start("small", &[("seeds", &address)]);
    eventually("the one that follows", || is_up(&seed, &node));
    drop(again);
}
