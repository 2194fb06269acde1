//! Carrying out a plan.

use super::oracle::{Fate, Life, Oracle, Stream, View, Watched};
use super::plan::{Op, Plan};
use crate::{HostId, Spec, Weather, World};
use aemp::kernel::db::{Datum, QueryKind};
use aemp::kernel::{LaneLimits, WatchId, Watcher};
use aemp::value::{NodeId, Packed, PortId, Str};
use aemp::wire::framing::Framing;
use std::time::Duration;

/// How long a network may take to come to rest after everything is mended: TCP notices what is
/// lost, seeds are retried, searches end, keys that are missing are given up.
const REST: Duration = Duration::from_secs(400);

/// A promise that was broken.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The plan.
    pub plan: Plan,
    /// When, in virtual time.
    pub at: Duration,
    /// What happened.
    pub what: String,
    /// The last things that were done.
    pub history: Vec<String>,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "seed {} failed at {:?}: {}", self.plan.seed, self.at, self.what)?;
        writeln!(f, "{:?}", self.plan.setup)?;
        self.history.iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}

/// What a run was, in figures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Things that happened in virtual time.
    pub steps: u64,
    /// Numbered messages that were sent.
    pub sent: u64,
    /// Those that arrived.
    pub received: u64,
    /// Monitors that fired.
    pub fired: u64,
    /// Perl slaves that had to adopt a master, of those that still ran at the end.
    pub healed: u64,
    /// A hash over everything that happened: equal for equal runs.
    pub trace: u64,
}

impl Outcome {
    /// Adds the figures of another run.
    pub fn add(&mut self, other: &Outcome) {
        self.steps += other.steps;
        self.sent += other.sent;
        self.received += other.received;
        self.fired += other.fired;
        self.healed += other.healed;
        self.trace ^= other.trace;
    }
}

pub(super) struct Run<'a> {
    plan: &'a Plan,
    pub(super) world: World,
    pub(super) oracle: Oracle,
    pub(super) outcome: Outcome,
    history: Vec<String>,
}

impl Plan {
    /// Carries the plan out.
    ///
    /// # Errors
    /// Fails where a promise was broken.
    pub fn run(&self) -> Result<Outcome, Box<Failure>> {
        let mut run = Run::new(self);
        run.everything().map_err(|what| {
            Box::new(Failure {
                plan: self.clone(),
                at: run.world.now(),
                what,
                history: std::mem::take(&mut run.history),
            })
        })?;
        Ok(run.outcome)
    }

    /// Leaves operations out as long as the plan still fails.
    #[must_use]
    pub fn shrink(&self) -> Plan {
        let mut best = self.clone();
        let mut chunk = best.ops.len().div_ceil(2).max(1);
        loop {
            let mut at = 0;
            while at < best.ops.len() {
                let mut shorter = best.clone();
                let end = (at + chunk).min(shorter.ops.len());
                shorter.ops.drain(at..end);
                if shorter.run().is_err() {
                    best = shorter;
                } else {
                    at += chunk;
                }
            }
            if chunk == 1 {
                return best;
            }
            chunk /= 2;
        }
    }
}

impl<'a> Run<'a> {
    fn new(plan: &'a Plan) -> Self {
        let mut world = World::new(plan.seed, Weather::ROUGH);
        let setup = &plan.setup;
        let seeds: Vec<String> = (0..setup.seeds).map(|host| format!("n{host}:1")).collect();
        for host in 0..setup.nodes {
            let mut spec = Spec::new(&format!("n{host}"));
            let known = match host.checked_sub(setup.seeds) {
                None => u32::MAX,
                Some(other) => setup.knows.get(other).copied().unwrap_or(1),
            };
            let known = seeds.iter().enumerate().filter(|(index, _)| known & (1 << index) != 0);
            spec.seeds = known.map(|(_, seed)| Str::from(seed.as_str())).collect();
            spec.framings = vec![Framing::Cbor, Framing::Cbor, Framing::Json, Framing::Storable];
            spec.global = host >= setup.seeds && bit(setup.globals, host);
            if bit(setup.narrow, host) {
                spec.limits = LaneLimits { soft: 1 << 10, hard: 4 << 10 };
            }
            let own = spec.addresses.clone();
            let (nowhere, other) = (Str::from("nowhere:1"), Str::from("n0:1"));
            spec.advertised = match setup.confused.rotate_right(2 * host as u32) & 3 {
                // Perl nodes hardly try second addresses.
                _ if setup.perl != 0 => None,
                1 => Some([vec![nowhere], own].concat()),
                2 => Some([vec![other, nowhere], own].concat()),
                _ => None,
            };
            spec.perl = bit(setup.perl, host);
            world.place(spec);
        }
        let (oracle, outcome) = (Oracle::default(), Outcome::default());
        Run { plan, world, oracle, outcome, history: Vec::new() }
    }

    fn everything(&mut self) -> Result<(), String> {
        for host in self.world.hosts() {
            self.world.start(host);
        }
        for &(pause, op) in &self.plan.ops {
            self.pass(pause)?;
            let done = self.carry_out(op);
            self.history.push(format!("{:?} {op:?} {done}", self.world.now()));
            self.look()?;
        }
        self.world.unblock_all();
        self.world.set_weather(Weather { worst: Duration::from_millis(50), ..Weather::ROUGH });
        for host in self.world.hosts() {
            if host.0 < self.plan.setup.seeds || !bit(self.plan.setup.stay_down, host.0) {
                self.world.start(host);
            }
        }
        self.history.push(format!("{:?} everything is mended", self.world.now()));
        for seed in (0..self.plan.setup.seeds).map(HostId) {
            if self.world.perl(seed).is_some() {
                self.pass(Duration::from_secs(20))?;
                self.stop(seed, World::kill);
                self.history.push(format!("{:?} {seed:?} is replaced", self.world.now()));
                self.pass(Duration::from_secs(5))?;
                self.world.spec_mut(seed).perl = false;
                self.world.start(seed);
            }
        }
        self.pass(REST)?;
        let perl = self.world.hosts().filter_map(|host| self.world.perl(host));
        self.outcome.healed = perl.map(|perl| u64::from(perl.adopted())).sum();
        self.check_rest()
    }

    fn pass(&mut self, how_long: Duration) -> Result<(), String> {
        let until = self.world.now() + how_long;
        while self.world.step(until) {
            self.outcome.steps += 1;
            self.look()?;
        }
        self.world.run_for(until.saturating_sub(self.world.now()));
        Ok(())
    }

    /// Checks what has happened since the last look.
    fn look(&mut self) -> Result<(), String> {
        for host in self.world.take_touched() {
            let happenings = self.world.happenings(host);
            if happenings.is_empty() {
                continue;
            }
            let life = (host, self.world.incarnation(host));
            for happening in happenings {
                self.trace(&(host, self.world.now(), format!("{happening:?}")));
                if self.plan.verbose {
                    eprintln!("{:?} {host:?} {happening:?}", self.world.now());
                }
                self.oracle.saw(life, &happening).map_err(|what| format!("{host:?}: {what}"))?;
                match happening {
                    crate::Happening::Fired { .. } => self.outcome.fired += 1,
                    crate::Happening::Delivered { .. } => self.outcome.received += 1,
                    // Nobody but the spawner can know of it before.
                    crate::Happening::Spawned { port, .. } => {
                        let node = &self.world.spec(host).node;
                        self.oracle.ports.push(PortId::new(node, &port));
                    }
                    crate::Happening::Eval { reply, .. } => {
                        let none = Packed::default();
                        self.world.kernel(host, |kernel| {
                            kernel.eval_done(&reply, "no Perl here", none.as_elements());
                        });
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn trace(&mut self, what: &impl std::hash::Hash) {
        use std::hash::{DefaultHasher, Hasher as _};
        let mut hasher = DefaultHasher::new();
        std::hash::Hash::hash(&self.outcome.trace, &mut hasher);
        what.hash(&mut hasher);
        self.outcome.trace = hasher.finish();
    }

    fn host(&self, choice: u32) -> HostId {
        HostId(choice as usize % self.plan.setup.nodes)
    }

    fn stop(&mut self, host: HostId, how: impl FnOnce(&mut World, HostId)) {
        self.oracle.died(self.life(host));
        how(&mut self.world, host);
    }

    /// A node that runs, ours or Perl's, if the chosen one does.
    fn anybody(&self, choice: u32) -> Option<HostId> {
        let host = self.host(choice);
        self.world.is_running(host).then_some(host)
    }

    /// A node of ours that runs, if the chosen one does.
    fn running(&self, choice: u32) -> Option<HostId> {
        let host = self.host(choice);
        self.world.running(host).map(|_| host)
    }

    pub(super) fn life(&self, host: HostId) -> Life {
        (host, self.world.incarnation(host))
    }

    pub(super) fn is_alive(&self, (host, incarnation): Life) -> bool {
        self.world.is_running(host) && self.world.incarnation(host) == incarnation
    }

    fn port(&self, choice: u32) -> Option<PortId> {
        // New ports are more interesting.
        let ports = &self.oracle.ports;
        let recent = ports.len().min(12);
        let index = (ports.len() - recent) + choice as usize % recent.max(1);
        ports.get(index).cloned()
    }

    fn node_id(&self, choice: u32) -> NodeId {
        self.world.spec(self.host(choice)).node.clone()
    }

    fn watch(&mut self, host: HostId, target: &PortId, watcher: Watcher) -> WatchId {
        let is_silent = !matches!(watcher, Watcher::Host);
        let target = target.clone();
        let watch = self.world.kernel(host, |kernel| kernel.watch(&target, watcher));
        let watched = Watched { target, fate: Fate::Set, is_silent };
        self.oracle.watches.insert((self.life(host), watch), watched);
        watch
    }

    fn stream(&mut self, host: HostId, to: PortId, count: u32) -> usize {
        let watch = self.watch(host, &to, Watcher::Host);
        let from = self.life(host);
        self.oracle.streams.push(Stream { from, to, watch, sent: 0, received: 0, ended: false });
        let stream = self.oracle.streams.len() - 1;
        self.send(stream, count);
        stream
    }

    fn send(&mut self, index: usize, count: u32) {
        for _ in 0..count {
            let Some(stream) = self.oracle.streams.get(index) else {
                return;
            };
            let watched = self.oracle.watches.get(&(stream.from, stream.watch));
            if stream.ended || watched.is_none_or(|watched| watched.fate != Fate::Set) {
                return;
            }
            let filling = "x".repeat((stream.sent as usize * 37 + index) % 300);
            let message = Packed::of(&("num", index, stream.sent, filling)).unwrap_or_default();
            let (host, to) = (stream.from.0, stream.to.clone());
            if let Some(stream) = self.oracle.streams.get_mut(index) {
                stream.sent += 1;
            }
            self.outcome.sent += 1;
            self.world.send(host, &to, &message);
            // It may have been too much.
            if self.look().is_err() {
                return;
            }
        }
    }

    fn carry_out(&mut self, op: Op) -> String {
        self.try_op(op).unwrap_or_else(|| "(nothing)".to_owned())
    }

    fn try_op(&mut self, op: Op) -> Option<String> {
        match op {
            Op::OpenPort { host } => {
                let host = self.anybody(host)?;
                let port = self.world.open_port(host);
                self.oracle.ports.push(port.clone());
                Some(format!("{port}"))
            }
            Op::Stream { host, port, count } => {
                let (host, port) = (self.running(host)?, self.port(port)?);
                let stream = self.stream(host, port.clone(), count);
                Some(format!("stream {stream} from {host:?} to {port}"))
            }
            Op::Continue { stream, count } => {
                let live: Vec<usize> = (0..self.oracle.streams.len())
                    .filter(|&index| {
                        let stream = &self.oracle.streams[index];
                        self.is_alive(stream.from) && !stream.ended
                    })
                    .collect();
                let index = *live.get(stream as usize % live.len().max(1))?;
                self.send(index, count);
                Some(format!("stream {index}"))
            }
            Op::Kill { host, port, with_reason } => {
                let (host, port) = (self.anybody(host)?, self.port(port)?);
                let reason =
                    if with_reason { Packed::of(&("bad", 1)).ok()? } else { Packed::default() };
                if self.world.perl(host).is_none() {
                    self.world.kernel(host, |kernel| kernel.kill(&port, &reason));
                } else if self.world.spec(host).node == port.node() {
                    self.world.perl_kill(host, &port, &reason);
                } else {
                    return None;
                }
                Some(format!("{host:?} kills {port}"))
            }
            Op::Unwatch { watch } => {
                let set = self.oracle.watches.iter().filter(|(_, w)| w.fate == Fate::Set);
                let set: Vec<_> = set.map(|(&key, _)| key).collect();
                let (life, watch) = *set.get(watch as usize % set.len().max(1))?;
                self.world.kernel(life.0, |kernel| kernel.unwatch(watch));
                let watched = self.oracle.watches.get_mut(&(life, watch))?;
                watched.fate = Fate::Removed;
                let done = format!("{life:?} {watch:?} of {}", watched.target);
                for stream in &mut self.oracle.streams {
                    if stream.from == life && stream.watch == watch {
                        stream.ended = true;
                    }
                }
                Some(done)
            }
            Op::Spawn { host, on, known, count } => {
                let (host, on) = (self.running(host)?, self.node_id(on));
                let port = self.world.kernel(host, |kernel| {
                    let function = if known { "f" } else { "unknown" };
                    kernel.spawn(&on, function, Packed::default().as_elements())
                });
                let stream = self.stream(host, port.clone(), count);
                Some(format!("{host:?} spawns {port}, stream {stream}"))
            }
            Op::Link { host, port, own } => {
                let (host, port) = (self.running(host)?, self.port(port)?);
                let ports: Vec<_> = self.world.node(host).ports().cloned().collect();
                let own = ports.get(own as usize % ports.len().max(1))?.clone();
                let done = format!("{own} of {host:?} to {port}");
                self.watch(host, &port, Watcher::Link(own));
                Some(done)
            }
            Op::Notify { host, port, to } => {
                let (host, port, to) = (self.running(host)?, self.port(port)?, self.port(to)?);
                self.oracle.notices += 1;
                let elements = Packed::of(&("notice", self.oracle.notices)).ok()?;
                let done = format!("{host:?} for {to} of {port}");
                self.watch(host, &port, Watcher::Message { to, elements });
                Some(done)
            }
            Op::WatchNode { host, node } => {
                let (host, node) = (self.running(host)?, self.node_id(node));
                if node == self.world.spec(host).node {
                    return None;
                }
                self.watch(host, &node.node_port(), Watcher::Host);
                Some(format!("{host:?} {node}"))
            }
            Op::Set { host, family, key, value } => {
                let host = self.anybody(host)?;
                let (family, key) = (family_name(family), Str::from(format!("k{key}")));
                let value = Datum::int(i64::from(value));
                if self.world.perl(host).is_some() {
                    self.world
                        .perl_database(host, |db, now| db.set(&family, key, value, now))?
                        .ok()?;
                    return Some("in Perl".to_owned());
                }
                self.world.kernel(host, |kernel| kernel.set(&family, key, value)).ok()?;
                Some(String::new())
            }
            Op::Delete { host, family, key } => {
                let host = self.anybody(host)?;
                let (family, key) = (family_name(family), Str::from(format!("k{key}")));
                if self.world.perl(host).is_some() {
                    self.world
                        .perl_database(host, |db, now| db.delete(&family, [key], now))?
                        .ok()?;
                    return Some("in Perl".to_owned());
                }
                self.world.kernel(host, |kernel| kernel.delete(&family, [key])).ok()?;
                Some(String::new())
            }
            Op::MonitorFamily { host, family } => {
                let host = self.running(host)?;
                let family = family_name(family);
                let life = self.life(host);
                let oracle = &mut self.oracle;
                self.world.kernel(host, |kernel| {
                    let monitor = kernel.monitor_family(&family);
                    oracle.views.insert((life, monitor), View { family, content: None });
                });
                Some(String::new())
            }
            Op::UnmonitorFamily { monitor } => {
                let views: Vec<_> = self.oracle.views.keys().copied().collect();
                let (life, monitor) = *views.get(monitor as usize % views.len().max(1))?;
                self.oracle.views.remove(&(life, monitor));
                self.world.kernel(life.0, |kernel| kernel.unmonitor_family(monitor));
                Some(format!("{life:?}"))
            }
            Op::Query { host, family, kind } => {
                let host = self.running(host)?;
                let family = family_name(family);
                let query = self.world.kernel(host, |kernel| match kind {
                    0 => kernel.query(QueryKind::Family, &family),
                    1 => kernel.query(QueryKind::Keys, &family),
                    2 => kernel.query(QueryKind::Values, &family),
                    _ => kernel.get(&family, &Str::from("k1")),
                });
                self.oracle.queries.insert((self.life(host), query));
                Some(format!("{query:?}"))
            }
            Op::CancelQuery { query } => {
                let queries: Vec<_> = self.oracle.queries.iter().copied().collect();
                let (life, query) = *queries.get(query as usize % queries.len().max(1))?;
                self.oracle.queries.remove(&(life, query));
                self.world.kernel(life.0, |kernel| kernel.cancel_query(query));
                Some(format!("{life:?} {query:?}"))
            }
            Op::Echo { host, on } => {
                let (host, on) = (self.running(host)?, self.node_id(on));
                let port = self.world.open_port(host);
                let request = Packed::of(&("snd", port.to_string(), "echo")).ok()?;
                self.world.kernel(host, |kernel| {
                    kernel.send_request(&on, request.as_elements());
                });
                Some(format!("{host:?} {on}"))
            }
            Op::Cut { a, b } => {
                self.world.cut(self.host(a), self.host(b));
                Some(format!("{:?} {:?}", self.host(a), self.host(b)))
            }
            Op::Block { a, b } => {
                self.world.block(self.host(a), self.host(b));
                Some(format!("{:?} {:?}", self.host(a), self.host(b)))
            }
            Op::Unblock { a, b } => {
                self.world.unblock(self.host(a), self.host(b));
                Some(format!("{:?} {:?}", self.host(a), self.host(b)))
            }
            Op::Partition { mask } => {
                for a in self.world.hosts() {
                    for b in self.world.hosts() {
                        if bit(mask, a.0) != bit(mask, b.0) {
                            self.world.block(a, b);
                        }
                    }
                }
                Some(String::new())
            }
            Op::Heal => {
                self.world.unblock_all();
                Some(String::new())
            }
            Op::Kill9 { host } => {
                let host = self.anybody(host)?;
                self.stop(host, World::kill);
                Some(format!("{host:?}"))
            }
            Op::Vanish { host } => {
                let host = self.anybody(host)?;
                self.stop(host, World::vanish);
                Some(format!("{host:?}"))
            }
            Op::Start { host, new_id } => {
                let host = self.host(host);
                if self.world.is_running(host) {
                    return None;
                }
                if host.0 < self.plan.setup.seeds && self.world.spec(host).perl {
                    self.world.spec_mut(host).perl = !new_id;
                } else if new_id {
                    let name = format!("n{}.{}", host.0, self.world.incarnation(host) + 1);
                    self.world.spec_mut(host).node = NodeId::new(name).ok()?;
                }
                self.world.start(host);
                Some(format!("{host:?} as {}", self.world.spec(host).node))
            }
            Op::Pause { host, ms } => {
                let host = self.anybody(host)?;
                self.world.pause(host, Duration::from_millis(u64::from(ms)));
                Some(format!("{host:?}"))
            }
            Op::Weather { rough } => {
                self.world.set_weather(if rough { Weather::ROUGH } else { Weather::CALM });
                Some(String::new())
            }
            Op::SetSeeds { host, mask } => {
                let host = self.running(host)?;
                let seeds = self.plan.setup.seeds;
                let chosen = (0..seeds).filter(|seed| (mask >> seed) & 1 == 1);
                let chosen: Vec<Str> = chosen.map(|seed| Str::from(format!("n{seed}:1"))).collect();
                if host.0 < seeds || chosen.is_empty() {
                    return None;
                }
                self.world.kernel(host, |kernel| kernel.set_seeds(&chosen));
                let done = format!("{host:?} {chosen:?}");
                self.world.spec_mut(host).seeds = chosen;
                Some(done)
            }
            Op::Disconnect { host, node } => {
                let (host, node) = (self.running(host)?, self.node_id(node));
                self.world.kernel(host, |kernel| kernel.disconnect(&node, "told to"));
                Some(format!("{host:?} {node}"))
            }
            Op::BecomeGlobal { host } => {
                let host = self.running(host)?;
                self.world.kernel(host, |kernel| kernel.become_global());
                Some(format!("{host:?}"))
            }
        }
    }
}

/// Whether a host's bit is set.
fn bit(bits: u32, host: usize) -> bool {
    (bits >> (host % 32)) & 1 == 1
}

fn family_name(choice: u32) -> Str {
    match choice {
        0 => Str::from("f0"),
        1 => Str::from("f1"),
        2 => Str::from("'l"),
        _ => Str::from("'g"),
    }
}
