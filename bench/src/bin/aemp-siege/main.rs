//! One or two hostile members, or thousands of strangers, against a node over real sockets. Measures how
//! long another member waits meanwhile, what the node keeps, and what it writes into its log.
//!
//! `aemp-siege [SECONDS [SEED]]`. A round in which others waited for too long is repeated before it
//! counts, since something else may have kept the processors busy. A round that breaks a bound is then
//! repeated with a part of its packets, as few as still break it, and `aemp-siege round SEED FROM TO`
//! repeats that. At the end there is a table of the worst of all rounds. `aemp-siege node` is the node.

mod node;
mod raw;

use aemp::Node;
use aemp::value::packed::Elements;
use aemp::value::{NodeId, PortId};
use aemp::wire::auth::{Nonce, Secret};
use aemp::wire::framing::{Framing, encode};
use aemp::wire::session::{AuthOrder, Event, HandshakeConfig, Handshaker};
use aemp_sim::offences::Offender;
use anyhow::{Context as _, Result, bail};
use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const SECRET: &str = "siege";

/// How long other members may wait for an answer at most, at the 99th percentile.
const MAX_WAIT: Duration = Duration::from_millis(50);

/// Octets that the node may keep after the member is gone.
const MAX_RETAINED: u64 = 64 << 20;

/// How long a member sends.
const ROUND: Duration = Duration::from_secs(5);

/// Log lines that are allowed at once: 20 for each of 8 sources and levels.
const LINES: u64 = 20 * 8;

/// How far the sequences of two members are from each other.
const SECOND_MEMBER: u64 = 1_000_001;

/// How often another member asks for an echo.
const INTERVAL: Duration = Duration::from_millis(20);

/// How often a round is repeated in which others waited for too long; it counts if they do each time.
const REPEATS: usize = 2;

/// A member sends octets that are hard to decode behind one packet in this many, and connects again.
const PACKETS_TO_RAW: usize = 50;

/// The pause after a connection was refused.
const RETRY: Duration = Duration::from_millis(50);

/// One round in this many is one of strangers that claim to be a node.
const ROUNDS_TO_STRANGERS: u64 = 5;

/// The number of strangers, and how many of them are connected at the same time.
const STRANGERS: usize = 10_000;
const STRANGERS_AT_ONCE: usize = 4_000;

/// Octets of the largest packets of a round.
const MAX_PACKET_SIZES: [usize; 4] = [2_000, 60_000, 1 << 20, 16 << 20];

/// What a node under siege reports about itself.
#[derive(Debug, Clone, Copy)]
struct State {
    in_use: u64,
    lines: u64,
    octets: u64,
    unescaped: u64,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["node"] => node::run(),
        ["round", seed, from, to] => {
            let outcome = in_runtime(|| round(seed.parse()?, from.parse()?, to.parse()?))?;
            println!("{outcome}");
            if outcome.broken.is_some() { bail!("a bound is broken") } else { Ok(()) }
        }
        [] => siege(600, 1),
        [seconds] => siege(seconds.parse()?, 1),
        [seconds, seed] => siege(seconds.parse()?, seed.parse()?),
        _ => bail!("usage: aemp-siege [SECONDS [SEED]] | round SEED FROM TO"),
    }
}

fn in_runtime<T>(run: impl FnOnce() -> Result<T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let _guard = runtime.enter();
    run()
}

fn siege(seconds: u64, first: u64) -> Result<()> {
    let begun = Instant::now();
    let mut seed = first;
    let mut table = Table::default();
    in_runtime(|| {
        while begun.elapsed() < Duration::from_secs(seconds) {
            let outcome = confirmed(seed)?;
            println!("seed {seed}: {outcome}");
            if outcome.broken.is_some() {
                let (from, to) = shortest(seed, outcome.packets)?;
                print!("{table}");
                bail!("repeat it with: aemp-siege round {seed} {from} {to}");
            }
            table.add(kind(seed), &outcome);
            seed += 1;
        }
        print!("{table}");
        println!("{} rounds without a finding", seed - first);
        Ok(())
    })
}

/// A round. If others waited for too long it is repeated, and the best outcome counts.
fn confirmed(seed: u64) -> Result<RoundStats> {
    let mut outcome = round(seed, 0, usize::MAX)?;
    for _ in 0..REPEATS {
        if outcome.broken != Some(WAITING) {
            break;
        }
        println!("seed {seed}: {outcome}; again");
        outcome = round(seed, 0, usize::MAX)?;
    }
    Ok(outcome)
}

/// Who attacks in the round of a seed.
const fn kind(seed: u64) -> usize {
    if seed.is_multiple_of(ROUNDS_TO_STRANGERS) { 2 } else { 1 - (seed % 2) as usize }
}

const KINDS: [&str; 3] = ["one member", "two members", "strangers"];

/// The worst figures of all rounds, by who attacks.
#[derive(Default)]
struct Table([Row; 3]);

#[derive(Default)]
struct Row {
    rounds: usize,
    median: Duration,
    p99: Duration,
    longest: Duration,
    kept: u64,
    lines: u64,
    logged: u64,
}

impl Table {
    fn add(&mut self, kind: usize, outcome: &RoundStats) {
        let Some(row) = self.0.get_mut(kind) else { return };
        row.rounds += 1;
        row.median = row.median.max(outcome.median);
        row.p99 = row.p99.max(outcome.p99);
        row.longest = row.longest.max(outcome.longest);
        row.kept = row.kept.max(outcome.kept);
        row.lines = row.lines.max(outcome.lines);
        row.logged = row.logged.max(outcome.logged);
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "worst of all rounds; others waited in ms, kept and logged in KiB")?;
        writeln!(f, "| attack | rounds | p50 | p99 | max | kept | lines | logged |")?;
        writeln!(f, "|---|---|---|---|---|---|---|---|")?;
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        for (kind, row) in KINDS.iter().zip(&self.0) {
            writeln!(
                f,
                "| {kind} | {} | {:.1} | {:.1} | {:.1} | {} | {} | {} |",
                row.rounds,
                ms(row.median),
                ms(row.p99),
                ms(row.longest),
                row.kept >> 10,
                row.lines,
                row.logged >> 10
            )?;
        }
        Ok(())
    }
}

/// A part of a round's packets that still breaks a bound, found by halving.
fn shortest(seed: u64, packets: usize) -> Result<(usize, usize)> {
    let (mut from, mut to) = (0, packets);
    while to - from > 1 {
        let middle = from + (to - from) / 2;
        if round(seed, from, middle)?.broken.is_some() {
            to = middle;
        } else if round(seed, middle, to)?.broken.is_some() {
            from = middle;
        } else {
            break;
        }
    }
    Ok((from, to))
}

/// The bound that a busy machine breaks too.
const WAITING: &str = "waiting";

/// The result of one round.
struct RoundStats {
    packets: usize,
    octets: u64,
    median: Duration,
    p99: Duration,
    longest: Duration,
    kept: u64,
    lines: u64,
    logged: u64,
    broken: Option<&'static str>,
}

impl std::fmt::Display for RoundStats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} packets, {} KiB; others waited {:.1} ms (p50), {:.1} ms (p99), {:.1} ms at most; \
             {} KiB kept, {} lines",
            self.packets,
            self.octets >> 10,
            self.median.as_secs_f64() * 1e3,
            self.p99.as_secs_f64() * 1e3,
            self.longest.as_secs_f64() * 1e3,
            self.kept >> 10,
            self.lines
        )?;
        self.broken.map_or(Ok(()), |bound| write!(f, ": TOO MUCH {bound}"))
    }
}

/// Sends the packets `from` to `to` of a seed's sequence to a new node.
fn round(seed: u64, from: usize, to: usize) -> Result<RoundStats> {
    let mut victim = Victim::start()?;
    let runtime = tokio::runtime::Handle::current();
    let watcher = runtime.block_on(async {
        let builder = Node::builder().node_id("watcher").secret(SECRET).no_binds();
        let node = builder.seed(&victim.address).start().await?;
        node.joined().await;
        anyhow::Ok(node)
    })?;
    let over = Arc::new(AtomicBool::new(false));
    let waits = Arc::new(Mutex::new(Vec::new()));
    let echo = runtime.spawn(echo(watcher.clone(), over.clone(), waits.clone()));
    std::thread::sleep(Duration::from_millis(500));
    let before = victim.state()?;
    if let Ok(mut waits) = waits.lock() {
        waits.clear();
    }
    let begun = Instant::now();
    let (packets, octets) = if seed.is_multiple_of(ROUNDS_TO_STRANGERS) {
        // The ID of the node that waits for echoes, of a node that does not exist, or of the victim
        // itself.
        let claimed = ["watcher", "nobody", "victim"];
        let choice = (seed / ROUNDS_TO_STRANGERS) as usize % claimed.len();
        claim(&victim.address, claimed.get(choice).unwrap_or(&"watcher"), from, to)?
    } else {
        besiege_together(&victim.address, seed, from, to)?
    };
    // Time for the work that the node still has to do for the member.
    std::thread::sleep(Duration::from_secs(1));
    over.store(true, Ordering::Relaxed);
    runtime.block_on(echo)??;
    let mut waits = std::mem::take(&mut *waits.lock().map_err(|_| anyhow::anyhow!("poisoned"))?);
    waits.sort();
    let mut after = victim.state()?;
    let patience = Instant::now() + Duration::from_secs(10);
    while after.in_use > before.in_use + MAX_RETAINED && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(100));
        after = victim.state()?;
    }
    runtime.block_on(watcher.shutdown());
    let at = |share: f64| {
        let last = waits.len().saturating_sub(1);
        waits.get((waits.len() as f64 * share) as usize).or_else(|| waits.get(last)).copied()
    };
    let mut outcome = RoundStats {
        packets,
        octets,
        median: at(0.5).unwrap_or_default(),
        p99: at(0.99).unwrap_or_default(),
        longest: at(1.0).unwrap_or_default(),
        kept: after.in_use.saturating_sub(before.in_use),
        lines: after.lines - before.lines,
        logged: after.octets - before.octets,
        broken: None,
    };
    let lines = LINES + 4 * begun.elapsed().as_secs();
    outcome.broken = if outcome.p99 > MAX_WAIT {
        Some(WAITING)
    } else if outcome.kept > MAX_RETAINED {
        Some("memory")
    } else if outcome.lines > lines || outcome.logged > 1100 * lines {
        Some("in the log")
    } else if after.unescaped > before.unescaped {
        Some("that is not escaped in the log")
    } else {
        None
    };
    Ok(outcome)
}

/// Repeatedly asks the victim's node port for an echo.
async fn echo(node: Node, over: Arc<AtomicBool>, waits: Arc<Mutex<Vec<Duration>>>) -> Result<()> {
    let victim = NodeId::new("victim")?;
    let mut port = node.port();
    let id: PortId = port.id();
    while !over.load(Ordering::Relaxed) {
        let begun = Instant::now();
        node.snd(&victim, ("snd", &id, "echo"))?;
        port.recv::<(String,)>().await?;
        let wait = begun.elapsed();
        if let Ok(mut waits) = waits.lock() {
            waits.push(wait);
        }
        tokio::time::sleep(INTERVAL.saturating_sub(wait)).await;
    }
    Ok(())
}

/// Sends as one member if the seed is odd, else as two at once. Each sends packets `from` to `to` of its
/// own sequence.
fn besiege_together(address: &str, seed: u64, from: usize, to: usize) -> Result<(usize, u64)> {
    let second = seed.is_multiple_of(2).then(|| {
        let address = address.to_owned();
        std::thread::spawn(move || besiege(&address, "second", seed + SECOND_MEMBER, from, to))
    });
    let (packets, octets) = besiege(address, "member", seed, from, to)?;
    let Some(second) = second else { return Ok((packets, octets)) };
    let (more, more_octets) =
        second.join().map_err(|_| anyhow::anyhow!("the second member panicked"))??;
    Ok((packets.max(more), octets + more_octets))
}

/// Sends the packets as a member. The seed also determines how fast it reads the answers.
fn besiege(address: &str, name: &str, seed: u64, from: usize, to: usize) -> Result<(usize, u64)> {
    let framing = Framing::ALL.get(seed as usize % 3).copied().unwrap_or(Framing::Cbor);
    let largest = MAX_PACKET_SIZES.get(seed as usize / 3 % 4).copied().unwrap_or(2_000);
    let reads = !(seed / 12).is_multiple_of(3);
    let begun = Instant::now();
    let victim = NodeId::new("victim")?;
    let mut offender = Offender::new(seed, &victim, largest);
    let (mut number, mut octets, mut wire) = (0, 0, Vec::new());
    // A packet that is refused ends the connection; the member connects again.
    'connections: while begun.elapsed() < ROUND && number < to {
        // The node may not have noticed yet that the last connection has ended.
        let Ok(mut stream) = member(address, name, framing) else {
            std::thread::sleep(RETRY);
            continue;
        };
        if reads {
            let mut input = stream.try_clone()?;
            std::thread::spawn(move || {
                let mut buffer = vec![0; 1 << 16];
                while matches!(input.read(&mut buffer), Ok(len) if len > 0) {}
            });
        }
        stream.set_write_timeout(Some(Duration::from_secs(1)))?;
        while begun.elapsed() < ROUND && number < to {
            let offence = offender.offence();
            number += 1;
            if number <= from {
                continue;
            }
            let request = offence.request.as_elements();
            let mut packet = vec![0x40];
            packet.extend_from_slice(request.octets());
            wire.clear();
            // What is too deep for a framing cannot be sent in it.
            if encode(framing, Elements::new(request.len() + 1, &packet), &mut wire).is_err() {
                continue;
            }
            octets += wire.len() as u64;
            if stream.write_all(&wire).is_err() {
                continue 'connections;
            }
            if number.is_multiple_of(PACKETS_TO_RAW) {
                let choice = (number / PACKETS_TO_RAW) as u64;
                let raw = raw::octets(framing, choice, largest);
                octets += raw.len() as u64;
                // The node may refuse it before all is written.
                let _ = stream.write_all(&raw);
                let _ = stream.shutdown(std::net::Shutdown::Both);
                continue 'connections;
            }
        }
        stream.shutdown(std::net::Shutdown::Both)?;
    }
    Ok((number, octets))
}

/// Connects as strangers that all claim to be the same node.
fn claim(address: &str, node: &str, from: usize, to: usize) -> Result<(usize, u64)> {
    let mut config = HandshakeConfig::new(node);
    config.secret = Secret::new("another");
    let handshaker = Handshaker::new(config)?;
    let (mut connections, mut octets) = (VecDeque::new(), 0);
    let numbers = from..to.min(STRANGERS);
    for _ in numbers.clone() {
        let session = handshaker.dial(nonce()?, address);
        let mut stream = TcpStream::connect(address)?;
        octets += session.own_greeting().len() as u64;
        // The node may have refused it already.
        let _ = stream.write_all(session.own_greeting());
        connections.push_back(stream);
        if connections.len() > STRANGERS_AT_ONCE {
            connections.pop_front();
        }
    }
    std::thread::sleep(Duration::from_secs(1));
    Ok((numbers.end, octets))
}

fn nonce() -> Result<Nonce> {
    let mut octets = [0; Nonce::OCTETS];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut octets)?;
    Ok(Nonce::from_random(&octets))
}

/// An authenticated connection.
fn member(address: &str, name: &str, framing: Framing) -> Result<TcpStream> {
    let mut config = HandshakeConfig::new(name);
    config.secret = Secret::new(SECRET);
    config.framings = vec![framing];
    let handshaker = Handshaker::new(config)?;
    let mut session = handshaker.dial(nonce()?, address);
    let mut stream = TcpStream::connect(address)?;
    loop {
        while let Some(octets) = session.transmit() {
            stream.write_all(&octets)?;
        }
        match session.poll()? {
            Some(Event::Greeted) => session.proceed(AuthOrder::Now),
            Some(Event::Established(_)) => return Ok(stream),
            Some(other) => bail!("{other:?}"),
            None => {
                let mut piece = [0; 4096];
                let len = stream.read(&mut piece)?;
                if len == 0 {
                    bail!("the node closed the connection");
                }
                session.input().extend(piece.iter().take(len));
            }
        }
    }
}

/// The node, as a process of its own.
struct Victim {
    process: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    address: String,
}

impl Victim {
    fn start() -> Result<Victim> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("node").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn()?;
        let orders = process.stdin.take().context("no pipe")?;
        let answers = BufReader::new(process.stdout.take().context("no pipe")?);
        let mut victim = Victim { process, orders, answers, address: String::new() };
        victim.address = victim.answer()?;
        Ok(victim)
    }

    fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            bail!("the node has ended");
        }
        Ok(line.trim_end().to_owned())
    }

    fn state(&mut self) -> Result<State> {
        writeln!(self.orders)?;
        let answer = self.answer()?;
        let figures: Vec<u64> = answer.split(' ').map_while(|word| word.parse().ok()).collect();
        match figures.as_slice() {
            [in_use, lines, octets, unescaped] => {
                Ok(State { in_use: *in_use, lines: *lines, octets: *octets, unescaped: *unescaped })
            }
            _ => bail!("no figures: {answer}"),
        }
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
