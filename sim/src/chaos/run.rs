//! Carries out a plan.

use super::ledger::Ledger;
use super::oracle::{Monitored, NodeRun, Oracle, PortFate, Stream};
use super::plan::Plan;
use crate::{HostId, NetworkConditions, Spec, StrangerBehaviour, World, WorldEvent};
use aemp::kernel::{MonitorId, OnDeath};
use aemp::lane::{Lane, LaneLimits};
use aemp::value::{NodeId, Packed, PortId, Str};
use aemp::wire::framing::Framing;
use std::collections::BTreeSet;
use std::time::Duration;

/// How long a network may take to come to rest after everything is repaired: TCP detects lost
/// connections, seeds are retried, searches end, and missing keys are given up.
const SETTLING_TIME: Duration = Duration::from_secs(400);

/// Steps that may happen at one instant. More of them mean that a timer is set for the current
/// time.
const MAX_STEPS_PER_INSTANT: u32 = 100_000;

/// Delays vary, but are too short to be taken for a failure.
const GENTLE: NetworkConditions =
    NetworkConditions { worst: Duration::from_millis(50), ..NetworkConditions::ROUGH };

/// A promise that was broken.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The plan.
    pub plan: Plan,
    /// When, in virtual time.
    pub at: Duration,
    /// What happened.
    pub what: String,
    /// The most recent operations and events.
    pub history: Vec<String>,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "seed {} failed at {:?}: {}", self.plan.seed, self.at, self.what)?;
        writeln!(f, "{:?}", self.plan.setup)?;
        self.history.iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}

/// Statistics of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RunStats {
    /// Events in virtual time.
    pub steps: u64,
    /// Numbered messages that were sent.
    pub sent: u64,
    /// Those that arrived.
    pub received: u64,
    /// Faults: cuts, crashes, stopped processes, jumping clocks, and so on.
    pub faults: u64,
    /// Connections that were given up because too much was queued.
    pub overflows: u64,
    /// Calls that were answered.
    pub answered: u64,
    /// Monitors that fired.
    pub fired: u64,
    /// Perl slaves that had to adopt a master, among those that were running at the end.
    pub healed: u64,
    /// A hash of all events, if the plan is traced. Equal runs have equal hashes.
    pub trace: u64,
}

impl RunStats {
    /// Adds the figures of another run.
    pub fn add(&mut self, other: &RunStats) {
        self.steps += other.steps;
        self.sent += other.sent;
        self.received += other.received;
        self.faults += other.faults;
        self.overflows += other.overflows;
        self.answered += other.answered;
        self.fired += other.fired;
        self.healed += other.healed;
        self.trace ^= other.trace;
    }
}

pub(super) struct Run<'a> {
    pub(super) plan: &'a Plan,
    pub(super) world: World,
    /// A process that tries to disturb the nodes without knowing their secret.
    pub(super) stranger: HostId,
    /// A process that has the ID of one of the nodes and knows their secret.
    pub(super) twin: HostId,
    pub(super) oracle: Oracle,
    /// The owners of entries, if the rules for entries apply to this plan.
    pub(super) ledger: Option<Ledger>,
    pub(super) outcome: RunStats,
    history: Vec<String>,
    /// The first broken promise that was found while an operation was carried out.
    broken: Option<String>,
}

impl Plan {
    /// Carries the plan out.
    ///
    /// # Errors
    /// Fails if a promise was broken.
    pub fn run(&self) -> Result<RunStats, Box<Failure>> {
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
        let setup = &plan.setup;
        let weather =
            if setup.peaceful || setup.orderly { GENTLE } else { NetworkConditions::ROUGH };
        let mut world = World::new(plan.seed, weather);
        world.set_handshake_trouble(setup.trouble);
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
            if bit(setup.narrow.rotate_left(1), host) {
                // About one entry per piece, so that connections are lost in the middle of a
                // database.
                spec.piece = 60;
            }
            spec.knows_get = bit(setup.narrow.rotate_left(2), host);
            if let Some([get, run, coalesce]) = setup.extensions {
                spec.knows_get = bit(get, host);
                spec.names_run = bit(run, host);
                spec.coalesces = bit(coalesce, host);
            }
            let own = spec.addresses.clone();
            let (nowhere, other) = (Str::from("nowhere:1"), Str::from("n0:1"));
            spec.advertised = match setup.confused.rotate_right(2 * host as u32) & 3 {
                // Perl nodes rarely try second addresses.
                _ if setup.perl != 0 => None,
                1 => Some([vec![nowhere], own].concat()),
                2 => Some([vec![other, nowhere], own].concat()),
                _ => None,
            };
            spec.perl = bit(setup.perl, host);
            spec.tls = bit(setup.tls, host);
            spec.secure = bit(setup.secure, host) && !spec.perl;
            world.place(spec);
        }
        let [stranger, twin] = [(); 2].map(|()| world.add_stranger(StrangerBehaviour::Echoes));
        let ledger = Ledger::new(plan, weather.worst);
        let (oracle, outcome) = (Oracle::default(), RunStats::default());
        let (history, broken) = (Vec::new(), None);
        Run { plan, world, stranger, twin, oracle, ledger, outcome, history, broken }
    }

    fn everything(&mut self) -> Result<(), String> {
        for host in self.world.hosts() {
            self.start(host);
        }
        for &(pause, op) in &self.plan.ops {
            self.pass(pause)?;
            let done = self.carry_out(op);
            self.history.push(format!("{:?} {op:?} {done}", self.world.now()));
            self.broken.take().map_or(Ok(()), Err)?;
            self.look()?;
            self.check_contents()?;
        }
        if let Some(ledger) = &mut self.ledger {
            ledger.mended(self.world.now());
        }
        self.world.unblock_all();
        for seed in 0..self.plan.setup.seeds {
            self.world.hijack(&format!("n{seed}:1"), None);
        }
        self.world.set_weather(GENTLE);
        self.world.set_handshake_trouble(false);
        self.pass(self.world.all_resume_at().saturating_sub(self.world.now()))?;
        for host in self.world.hosts() {
            if host.0 < self.plan.setup.seeds || !bit(self.plan.setup.stay_down, host.0) {
                self.start(host);
            }
        }
        self.history.push(format!("{:?} everything is mended", self.world.now()));
        for host in self.world.hosts() {
            // Entries that global Perl nodes keep for too long cannot be removed from them.
            if self
                .world
                .perl(host)
                .is_some_and(|perl| host.0 < self.plan.setup.seeds || perl.database().is_global())
            {
                self.pass(Duration::from_secs(20))?;
                self.stop(host, World::kill);
                self.history.push(format!("{:?} {host:?} is replaced", self.world.now()));
                self.pass(Duration::from_secs(5))?;
                self.world.spec_mut(host).perl = false;
                self.world.start(host);
            }
        }
        self.pass(SETTLING_TIME)?;
        // From time to time a node checks whether a seed's address still leads to the node itself.
        for _ in 0..60 {
            if self.has_only_established_connections() {
                break;
            }
            self.pass(Duration::from_secs(1))?;
        }
        let perl = self.world.hosts().filter_map(|host| self.world.perl(host));
        self.outcome.healed = perl.map(|perl| u64::from(perl.adopted())).sum();
        self.check_rest()
    }

    fn has_only_established_connections(&self) -> bool {
        let nodes = self.world.hosts().filter_map(|host| self.world.running(host));
        nodes.into_iter().all(|node| node.connections() == node.kernel().up_nodes().len())
    }

    fn pass(&mut self, how_long: Duration) -> Result<(), String> {
        let until = self.world.now() + how_long;
        let mut instant = (self.world.now(), 0);
        while self.world.step(until) {
            self.outcome.steps += 1;
            self.look()?;
            if self.world.now() > instant.0 {
                instant = (self.world.now(), 0);
            }
            instant.1 += 1;
            if instant.1 > MAX_STEPS_PER_INSTANT {
                return Err(format!("{MAX_STEPS_PER_INSTANT} steps took no time: a timer spins"));
            }
        }
        self.world.run_for(until.saturating_sub(self.world.now()));
        Ok(())
    }

    /// Checks the events since the last call.
    pub(super) fn look(&mut self) -> Result<(), String> {
        let mut looked_at = BTreeSet::new();
        loop {
            // The reactions of programs cause more events at once.
            while let Some(host) = self.world.next_touched() {
                self.see(host)?;
                looked_at.insert(host);
            }
            // Only a program that knows of all monitors that have fired continues to send.
            let Some(host) = looked_at.pop_first() else { return Ok(()) };
            if let Some(ledger) = &mut self.ledger {
                ledger.look(&self.world, host);
            }
            self.patience_of(host);
        }
    }

    fn see(&mut self, host: HostId) -> Result<(), String> {
        let happenings = self.world.happenings(host);
        let life = (host, self.world.incarnation(host));
        let node = self.world.spec(host).node.clone();
        for happening in &happenings {
            if self.plan.traced {
                self.trace(&(host, self.world.now(), format!("{happening:?}")));
            }
            if self.plan.verbose {
                eprintln!("{:?} {host:?} {happening:?}", self.world.now());
            }
            let seen = self.oracle.saw(life, &node, happening);
            seen.map_err(|what| format!("{host:?}: {what}"))?;
            self.follow_entries(host, happening)?;
        }
        // All events are recorded before any reaction to them.
        for happening in happenings {
            self.react(host, happening)?;
        }
        Ok(())
    }

    /// Records what a database report, or a connection to a node or its loss, means for entries.
    fn follow_entries(&mut self, host: HostId, happening: &WorldEvent) -> Result<(), String> {
        let now = self.world.now();
        match happening {
            WorldEvent::NodeUp(peer) => {
                if let Some(other) = self.place_of(peer)
                    && let Some(ledger) = &mut self.ledger
                {
                    ledger.met(host, other, now);
                }
            }
            WorldEvent::NodeDown(peer, _) => {
                if let Some(owner) = self.place_of(peer)
                    && let Some(ledger) = &mut self.ledger
                {
                    ledger.lost(host, owner, now);
                }
            }
            WorldEvent::Changed { changes, .. } => {
                let family = &changes.family;
                if let Some(ledger) = &self.ledger
                    && !aemp::kernel::db::is_internal(family)
                {
                    let mut deleted = changes.deleted.iter();
                    let checked = deleted
                        .try_for_each(|key| ledger.check_deletion(&self.world, host, family, key));
                    return checked.map_err(|what| format!("{host:?}: {what}"));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn check_contents(&self) -> Result<(), String> {
        let Some(ledger) = &self.ledger else { return Ok(()) };
        let now = self.world.now();
        for ((life, _), view) in &self.oracle.views {
            if let Some(content) = &view.content
                && !aemp::kernel::db::is_internal(&view.family)
                && self.is_alive(*life)
            {
                ledger.check_content(life.0, &view.family, content.keys(), now)?;
            }
        }
        Ok(())
    }

    fn react(&mut self, host: HostId, happening: WorldEvent) -> Result<(), String> {
        match happening {
            WorldEvent::Fired { monitor, .. } => {
                self.outcome.fired += 1;
                let life = self.life(host);
                if let Some(call) = self.oracle.call_of(life, monitor) {
                    self.end_call(call);
                }
            }
            WorldEvent::Delivered { port, message, .. } => {
                self.outcome.received += 1;
                self.answer(host, &message);
                self.answered(host, &port, &message)?;
            }
            WorldEvent::NodeDown(_, reason)
                if reason.to_string().contains("too many octets were queued") =>
            {
                self.outcome.overflows += 1;
            }
            WorldEvent::NodeUp(peer) => self.check_twins(host, &peer)?,
            WorldEvent::NodeDown(peer, reason) if self.plan.setup.peaceful => {
                return Err(format!("{host:?} lost {peer} though nothing failed: {reason}"));
            }
            WorldEvent::Eval { reply, .. } => {
                let none = Packed::default();
                self.world.kernel(host, |kernel| {
                    kernel.eval_done(&reply, "no Perl here", none.as_elements());
                });
            }
            _ => {}
        }
        Ok(())
    }

    /// Checks that there is at most one connection to a node.
    fn check_twins(&self, host: HostId, peer: &NodeId) -> Result<(), String> {
        let Some(node) = self.world.running(host) else { return Ok(()) };
        match node.established().filter(|other| *other == peer).count() {
            0 | 1 => Ok(()),
            many => Err(format!("{host:?} has {many} connections to {peer}")),
        }
    }

    /// The program at a port answers calls.
    fn answer(&mut self, host: HostId, message: &Packed) {
        if self.world.running(host).is_some()
            && let Ok((kind, number, reply)) = message.decode::<(String, u32, String)>()
            && kind == "call"
            && let Ok(reply) = PortId::try_from(Str::from(reply))
        {
            let answer = Packed::of(&("answer", number)).unwrap_or_default();
            self.world.send(host, &reply, &answer);
        }
    }

    fn answered(&mut self, host: HostId, port: &Str, message: &Packed) -> Result<(), String> {
        if let Ok((kind, number)) = message.decode::<(String, usize)>()
            && kind == "answer"
        {
            let call = self.oracle.calls.get(number);
            let call = call
                .filter(|call| call.life == self.life(host) && call.reply.port() == port.as_ref());
            if call.is_none() {
                return Err(format!("the answer {message} came to {host:?} {port}"));
            }
            self.outcome.answered += 1;
            self.end_call(number);
        }
        Ok(())
    }

    fn end_call(&mut self, number: usize) {
        let Some(call) = self.oracle.calls.get_mut(number) else { return };
        call.ended = true;
        let (host, reply, monitor) = (call.life.0, call.reply.clone(), call.monitor);
        if let Some(monitored) = self.oracle.monitors.get_mut(&(call.life, monitor))
            && monitored.fate == PortFate::Set
        {
            monitored.fate = PortFate::Removed;
            self.world.kernel(host, |kernel| kernel.unmonitor(monitor));
        }
        self.world.kernel(host, |kernel| kernel.kill(&reply, &Packed::default()));
    }

    /// Streams that wait for room in a lane of this node each continue by one message.
    fn patience_of(&mut self, host: HostId) {
        let waiting: Vec<usize> = self.oracle.waiting_streams.keys().copied().collect();
        for index in waiting {
            if self.oracle.streams.get(index).is_some_and(|stream| stream.from.0 == host) {
                self.send_patiently(index);
            }
        }
    }

    /// Sends the next message of a stream, if the lane has room.
    pub(super) fn send_patiently(&mut self, index: usize) {
        let Some(left) = self.oracle.waiting_streams.get(&index).copied() else { return };
        let Some(stream) = self.oracle.streams.get(index) else { return };
        let monitored = self.oracle.monitors.get(&(stream.from, stream.monitor));
        let over =
            stream.ended || monitored.is_none_or(|monitored| monitored.fate != PortFate::Set);
        let lane = self.world.running(stream.from.0);
        let lane = lane.and_then(|node| node.lane(&stream.to.node()));
        if over || left == 0 || !self.is_alive(stream.from) {
            self.oracle.waiting_streams.remove(&index);
        } else if !lane.is_some_and(Lane::is_congested) {
            self.oracle.waiting_streams.insert(index, left - 1);
            self.send_one(index);
        }
    }

    pub(super) fn live_stream(&self, choice: u32) -> Option<usize> {
        let is_live = |index: &usize| {
            let stream = self.oracle.streams.get(*index);
            stream.is_some_and(|stream| self.is_alive(stream.from) && !stream.ended)
        };
        let live: Vec<usize> = (0..self.oracle.streams.len()).filter(is_live).collect();
        live.get(choice as usize % live.len().max(1)).copied()
    }

    fn trace(&mut self, what: &impl std::hash::Hash) {
        use std::hash::{DefaultHasher, Hasher as _};
        let mut hasher = DefaultHasher::new();
        std::hash::Hash::hash(&self.outcome.trace, &mut hasher);
        what.hash(&mut hasher);
        self.outcome.trace = hasher.finish();
    }

    pub(super) fn host(&self, choice: u32) -> HostId {
        HostId(choice as usize % self.plan.setup.nodes)
    }

    pub(super) fn start(&mut self, host: HostId) {
        self.world.start(host);
        if let Some(ledger) = &mut self.ledger {
            ledger.started(host, self.world.now());
        }
    }

    pub(super) fn stop(&mut self, host: HostId, how: impl FnOnce(&mut World, HostId)) {
        if let Some(ledger) = &mut self.ledger {
            ledger.ended(host, self.world.now());
        }
        let node = self.world.spec(host).node.clone();
        self.oracle.died(self.life(host), &node);
        how(&mut self.world, host);
    }

    /// A running node, ours or Perl's, if the chosen one is running.
    pub(super) fn anybody(&self, choice: u32) -> Option<HostId> {
        let host = self.host(choice);
        self.world.is_running(host).then_some(host)
    }

    /// A running node of ours, if the chosen one is running.
    pub(super) fn running(&self, choice: u32) -> Option<HostId> {
        let host = self.host(choice);
        self.world.running(host).map(|_| host)
    }

    pub(super) fn life(&self, host: HostId) -> NodeRun {
        (host, self.world.incarnation(host))
    }

    pub(super) fn is_alive(&self, (host, incarnation): NodeRun) -> bool {
        self.world.is_running(host) && self.world.incarnation(host) == incarnation
    }

    pub(super) fn port(&self, choice: u32) -> Option<PortId> {
        // Recent ports are more interesting.
        let ports = &self.oracle.ports;
        let recent = ports.len().min(12);
        let index = (ports.len() - recent) + choice as usize % recent.max(1);
        ports.get(index).cloned()
    }

    pub(super) fn node_id(&self, choice: u32) -> NodeId {
        self.world.spec(self.host(choice)).node.clone()
    }

    pub(super) fn monitor(
        &mut self,
        host: HostId,
        target: &PortId,
        on_death: OnDeath,
    ) -> MonitorId {
        // Events before this must not be attributed to the new monitor.
        if let Err(what) = self.look() {
            self.broken.get_or_insert(what);
        }
        let is_silent = !matches!(on_death, OnDeath::Host);
        let target = target.clone();
        let monitor = self.world.kernel(host, |kernel| kernel.monitor(&target, on_death));
        let monitored = Monitored { target, fate: PortFate::Set, is_silent };
        self.oracle.monitors.insert((self.life(host), monitor), monitored);
        monitor
    }

    pub(super) fn stream(&mut self, host: HostId, to: PortId, count: u32) -> usize {
        let monitor = self.monitor(host, &to, OnDeath::Host);
        let from = self.life(host);
        self.oracle.streams.push(Stream { from, to, monitor, sent: 0, received: 0, ended: false });
        let stream = self.oracle.streams.len() - 1;
        self.send(stream, count);
        stream
    }

    pub(super) fn send(&mut self, index: usize, count: u32) {
        for _ in 0..count {
            let Some(stream) = self.oracle.streams.get(index) else {
                return;
            };
            let monitored = self.oracle.monitors.get(&(stream.from, stream.monitor));
            if stream.ended || monitored.is_none_or(|monitored| monitored.fate != PortFate::Set) {
                return;
            }
            self.send_one(index);
            // It may have exceeded the lane's limit.
            if let Err(what) = self.look() {
                self.broken.get_or_insert(what);
                return;
            }
        }
    }

    fn send_one(&mut self, index: usize) {
        let Some(stream) = self.oracle.streams.get_mut(index) else {
            return;
        };
        let filling = "x".repeat((stream.sent as usize * 37 + index) % 300);
        let message = Packed::of(&("num", index, stream.sent, filling)).unwrap_or_default();
        let (host, to) = (stream.from.0, stream.to.clone());
        stream.sent += 1;
        self.outcome.sent += 1;
        self.world.send(host, &to, &message);
    }
}

/// Whether a host's bit is set.
pub(super) fn bit(bits: u32, host: usize) -> bool {
    (bits >> (host % 32)) & 1 == 1
}
