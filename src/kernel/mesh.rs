//! Connections: which to make, which of several to keep, when to give up.

use super::effect::{AuthOrder, ConnId, Effect, Level, seconds, transport_error};
use super::{HashMap, HashSet};
use super::{Kernel, Task};
use crate::value::{NodeId, Str};
use std::collections::VecDeque;
use std::time::Duration;

/// Addresses are tried at least this far apart.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(400);
/// The unit of the first retry of seeds; a random factor between 2 and 4 goes on top.
const SEED_RETRY: Duration = Duration::from_millis(600);
/// The same for nodes that a global node keeps connected.
const KEEPALIVE_RETRY: Duration = Duration::from_millis(300);

/// What a peer's greeting tells, before anything of it is proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerGreeting {
    /// The node ID that it claims.
    pub node: NodeId,
    /// The value of `provider`.
    pub provider: Str,
}

/// What the handshake proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authenticated {
    /// Whether the peer has no certificate that we trust (`tls_anon`).
    pub untrusted: bool,
}

#[derive(Debug)]
pub(super) struct Conn {
    goal: Option<Goal>,
    /// What we sent, to recognise ourselves by.
    greeting: Vec<u8>,
    phase: Phase,
}

/// Why we dialled.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Goal {
    Seed(usize),
    Node(NodeId),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    /// Connecting, or waiting for the greeting.
    Opening,
    Greeted {
        node: NodeId,
        provider: Str,
        step: Step,
    },
    Up {
        node: NodeId,
    },
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Our authentication line is held back.
    Held { since: Duration },
    /// The peer authenticates first.
    AwaitsPeer,
    /// Our authentication line is sent; the time says until when others wait for this one.
    Sent { patience: Duration },
}

/// The connection of a peer that is up.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) conn: ConnId,
    pub(super) provider: Str,
    pub(super) untrusted: bool,
    /// A relayed echo is on its way, because another connection claims to be this node.
    probe: Option<u64>,
}

/// The search for a connection to a node that somebody wants to reach.
#[derive(Debug)]
pub(super) struct Trial {
    started: Duration,
    searching: bool,
    addresses: VecDeque<Str>,
    next_dial: Duration,
    interval: Duration,
    dials: HashSet<ConnId>,
    failures: Vec<String>,
}

/// A configured seed.
#[derive(Debug)]
pub(super) struct Seed {
    pub(super) address: Str,
    pub(super) node: Option<NodeId>,
    dial: Option<ConnId>,
    last_error: Option<String>,
    is_ourselves: bool,
}

/// A retry delay that doubles up to a limit.
#[derive(Debug, Default)]
struct Backoff {
    delay: Duration,
    /// When it was tried last.
    last: Option<Duration>,
    scheduled: Option<Duration>,
}

#[derive(Debug, Default)]
pub(super) struct Mesh {
    conns: HashMap<ConnId, Conn>,
    next_conn: u64,
    /// Connections that were greeted and are not up yet, by the node that they claim to lead to.
    greeted: HashMap<NodeId, Vec<ConnId>>,
    pub(super) seeds: Vec<Seed>,
    seed_retry: Backoff,
    keepalive: HashSet<NodeId>,
    keepalive_retry: Backoff,
    next_probe: u64,
}

impl Mesh {
    pub(super) fn new(seeds: &[Str]) -> Self {
        Mesh { seeds: seeds.iter().cloned().map(Seed::new).collect(), ..Mesh::default() }
    }

    pub(super) fn connections(&self) -> usize {
        self.conns.len()
    }

    /// The nodes that are to be connected, or claim to be.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &NodeId> {
        self.greeted.keys().chain(&self.keepalive)
    }

    /// The seed whose node this is, if it is one's.
    pub(super) fn is_seed(&self, node: &NodeId) -> bool {
        self.seeds.iter().any(|seed| seed.node.as_ref() == Some(node))
    }
}

impl Seed {
    fn new(address: Str) -> Self {
        Seed { address, node: None, dial: None, last_error: None, is_ourselves: false }
    }
}

/// What is known of a configured seed, for status displays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeedStatus {
    /// As configured.
    pub address: Str,
    /// Its node, once it has authenticated.
    pub node: Option<NodeId>,
    /// Whether it is this node itself.
    pub is_ourselves: bool,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
}

impl Kernel {
    /// A connection to an unconnected node is wanted: its lane has got something to send.
    pub fn want_connection(&mut self, node: &NodeId) {
        if *node == self.config.node {
            return;
        }
        let now = self.now.uptime;
        let give_up = now + self.config.monitor_timeout;
        let peer = self.peer(node);
        if peer.link.is_some() || peer.trial.is_some() {
            return;
        }
        peer.trial = Some(Trial {
            started: now,
            searching: false,
            addresses: VecDeque::new(),
            next_dial: now,
            interval: SHORTEST_INTERVAL,
            dials: HashSet::default(),
            failures: Vec::new(),
        });
        self.agenda.add(give_up, Task::GiveUp(node.clone()));
        self.search(node);
    }

    /// Looks for the addresses of a node on trial.
    fn search(&mut self, node: &NodeId) {
        if self.db.is_global() {
            let addresses = self.db.location(node);
            self.addresses_found(node, addresses);
        } else {
            if let Some(trial) = self.trial(node) {
                trial.searching = true;
            }
            self.db.find(node.clone(), self.now.uptime);
        }
    }

    fn trial(&mut self, node: &NodeId) -> Option<&mut Trial> {
        self.peers.get_mut(node)?.trial.as_mut()
    }

    /// The search for a node's addresses has ended.
    pub(super) fn addresses_found(&mut self, node: &NodeId, addresses: Option<Vec<Str>>) {
        let mut addresses: VecDeque<Str> = addresses.unwrap_or_default().into();
        for seed in &self.mesh.seeds {
            if seed.node.as_ref() == Some(node) && !addresses.contains(&seed.address) {
                addresses.push_back(seed.address.clone());
            }
        }
        let (monitor, interval) = (self.config.monitor_timeout, self.config.connect_interval);
        let now = self.now.uptime;
        let Some(trial) = self.trial(node) else {
            return;
        };
        trial.searching = false;
        if addresses.is_empty() && trial.dials.is_empty() {
            if !self.mesh.greeted.contains_key(node) {
                self.give_up(node, "no known address");
            }
            return;
        }
        let share = monitor.saturating_sub(interval) / addresses.len().max(1) as u32;
        trial.interval = interval.min(share).max(SHORTEST_INTERVAL);
        trial.addresses = addresses;
        trial.next_dial = now;
        self.advance_trial(node);
    }

    /// Dials the next address of a node on trial, if it is time.
    pub(super) fn advance_trial(&mut self, node: &NodeId) {
        if self.mesh.greeted.contains_key(node) {
            return;
        }
        let now = self.now.uptime;
        let patience = self.config.connect_interval;
        let Some(trial) = self.trial(node) else {
            return;
        };
        if trial.searching || (now < trial.next_dial && !trial.dials.is_empty()) {
            return;
        }
        if let Some(address) = trial.addresses.pop_front() {
            let next_dial = now + trial.interval;
            trial.next_dial = next_dial;
            self.agenda.add(next_dial, Task::AdvanceTrial(node.clone()));
            let conn = self.dial(Goal::Node(node.clone()), address);
            if let Some(trial) = self.trial(node) {
                trial.dials.insert(conn);
            }
        } else if trial.dials.is_empty() {
            if now >= trial.started + patience {
                let failures = trial.failures.join("; ");
                self.give_up(node, &format!("cannot connect: {failures}"));
            } else if now >= trial.next_dial {
                trial.failures.clear();
                self.search(node);
            }
        }
    }

    /// The time of a trial is over.
    pub(super) fn trial_timed_out(&mut self, node: &NodeId) {
        let limit = self.config.monitor_timeout;
        let now = self.now.uptime;
        if self.trial(node).is_some_and(|trial| now >= trial.started + limit) {
            self.give_up(node, &format!("no connection within {}", seconds(limit)));
        }
    }

    fn give_up(&mut self, node: &NodeId, why: &str) {
        let Some(trial) = self.peers.get_mut(node).and_then(|peer| peer.trial.take()) else {
            return;
        };
        self.db.cancel_find(node);
        for conn in trial.dials {
            self.close(conn, "given up");
        }
        self.log(Level::Info, format!("{node}: {why}"));
        self.unreachable(node, why);
        self.forget_if_unused(node);
    }

    fn dial(&mut self, goal: Goal, address: Str) -> ConnId {
        let conn = self.new_conn(Some(goal));
        self.effects.push(Effect::Dial { conn, address });
        conn
    }

    fn new_conn(&mut self, goal: Option<Goal>) -> ConnId {
        self.mesh.next_conn += 1;
        let id = ConnId(self.mesh.next_conn);
        self.mesh.conns.insert(id, Conn { goal, greeting: Vec::new(), phase: Phase::Opening });
        id
    }

    /// Somebody has connected to our listener.
    pub fn accepted(&mut self) -> ConnId {
        self.new_conn(None)
    }

    /// Both greeting lines that we send on a connection.
    pub fn greeting_sent(&mut self, conn: ConnId, lines: &[u8]) {
        if let Some(conn) = self.mesh.conns.get_mut(&conn) {
            conn.greeting = lines.to_vec();
        }
    }

    /// The peer of a connection has greeted; nothing of it is proven.
    ///
    /// The answer is an [`Effect::Proceed`] or [`Effect::Close`], now or later.
    pub fn greeted(&mut self, id: ConnId, greeting: PeerGreeting) {
        let Some(conn) = self.mesh.conns.get_mut(&id) else {
            return;
        };
        if conn.phase != Phase::Opening {
            return;
        }
        conn.phase = Phase::Greeted {
            node: greeting.node.clone(),
            provider: greeting.provider,
            step: Step::Held { since: self.now.uptime },
        };
        match conn.goal.clone() {
            // A node that is up has proven its ID, so that a duplicate may be believed.
            Some(Goal::Seed(index)) if self.is_up(&greeting.node) => {
                self.learn_seed(index, &greeting.node);
            }
            Some(Goal::Node(sought)) if sought != greeting.node => {
                let why = format!("that is {}", greeting.node);
                self.dial_ended(id, &Goal::Node(sought), &why);
            }
            _ => {}
        }
        self.mesh.greeted.entry(greeting.node.clone()).or_default().push(id);
        self.arbitrate(&greeting.node);
    }

    /// A peer has greeted with our own node ID. Returns whether it is this node itself: whether its
    /// two lines are ones that we sent on a connection that is still there.
    ///
    /// If so, a seed that was dialled is this node, which becomes global. The connection ends
    /// either way.
    pub fn greeted_with_own_id(&mut self, id: ConnId, lines: &[u8]) -> bool {
        if self.mesh.conns.get(&id).is_some_and(|conn| conn.phase == Phase::Closed) {
            // The other end of the same connection has found out first.
            return true;
        }
        let is_twin = |conn: &Conn| !conn.greeting.is_empty() && conn.greeting == lines;
        let twin = self.mesh.conns.iter().find(|(_, conn)| is_twin(conn)).map(|(&id, _)| id);
        let Some(twin) = twin else { return false };
        for id in [id, twin] {
            let goal = self.mesh.conns.get(&id).and_then(|conn| conn.goal.clone());
            self.close(id, "this is ourselves");
            if let Some(Goal::Seed(index)) = goal
                && let Some(seed) = self.mesh.seeds.get_mut(index)
            {
                seed.is_ourselves = true;
                seed.dial = None;
                let address = seed.address.clone();
                self.log(Level::Info, format!("seed {address} is this node: now global"));
                self.become_global();
            }
        }
        true
    }

    /// Decides which of the greeted connections to `node` may go on.
    ///
    /// At most one has our authentication line and not the peer's. Between nodes of this
    /// implementation the one with the smaller ID decides, and prefers the connection that it
    /// dialled itself; the other node answers on whichever it is asked. With other peers the first
    /// connection goes on.
    fn arbitrate(&mut self, node: &NodeId) {
        if self.is_up(node) {
            return self.probe(node);
        }
        let now = self.now.uptime;
        let ids = self.mesh.greeted.get(node).cloned().unwrap_or_default();
        let mut held = Vec::new();
        for &id in &ids {
            let Some(conn) = self.mesh.conns.get(&id) else {
                continue;
            };
            match &conn.phase {
                Phase::Greeted { step: Step::Sent { patience }, .. } if now < *patience => return,
                Phase::Greeted { step: Step::Held { since }, provider, .. } => {
                    held.push((id, conn.goal.is_some(), is_ours(provider), *since));
                }
                _ => {}
            }
        }
        let Some(&(first, _, ours, since)) = held.first() else {
            return;
        };
        if !ours {
            return self.authenticate(first, node);
        }
        if self.config.node < *node {
            if let Some(&(dialled, ..)) = held.iter().find(|(_, dialled, ..)| *dialled) {
                self.authenticate(dialled, node);
            } else {
                // Our own dial may lead nowhere: the peer's does not wait for it for long.
                let patience = since + self.config.connect_interval;
                if now < patience && self.is_dialling(node) {
                    self.agenda.add(patience, Task::Arbitrate(node.clone()));
                } else {
                    self.authenticate(first, node);
                }
            }
        } else {
            for (id, ..) in held {
                self.set_step(id, Step::AwaitsPeer);
                self.effects.push(Effect::Proceed { conn: id, order: AuthOrder::AfterPeer });
            }
        }
    }

    /// Whether a connection to `node` that we dialled may still be greeted.
    fn is_dialling(&self, node: &NodeId) -> bool {
        let opening =
            |id: &ConnId| self.mesh.conns.get(id).is_some_and(|conn| conn.phase == Phase::Opening);
        self.peers
            .get(node)
            .and_then(|peer| peer.trial.as_ref())
            .is_some_and(|trial| trial.dials.iter().any(opening))
            || self.mesh.seeds.iter().any(|seed| {
                seed.node.as_ref() == Some(node) && seed.dial.as_ref().is_some_and(opening)
            })
    }

    fn set_step(&mut self, id: ConnId, new: Step) {
        if let Some(Conn { phase: Phase::Greeted { step, .. }, .. }) = self.mesh.conns.get_mut(&id)
        {
            *step = new;
        }
    }

    fn authenticate(&mut self, id: ConnId, node: &NodeId) {
        let patience = self.now.uptime + self.config.connect_interval;
        self.set_step(id, Step::Sent { patience });
        self.agenda.add(patience, Task::Arbitrate(node.clone()));
        self.effects.push(Effect::Proceed { conn: id, order: AuthOrder::Now });
    }

    pub(super) fn arbitrate_again(&mut self, node: &NodeId) {
        if !self.is_up(node) {
            self.arbitrate(node);
        }
    }

    /// The peer's authentication line was verified; ours is still held back.
    pub fn verified(&mut self, id: ConnId) {
        let Some(Conn { phase: Phase::Greeted { node, step, .. }, .. }) =
            self.mesh.conns.get_mut(&id)
        else {
            return;
        };
        let node = node.clone();
        *step = Step::Held { since: self.now.uptime };
        if self.is_up(&node) { self.probe(&node) } else { self.authenticate(id, &node) }
    }

    /// Both sides have authenticated: the connection carries packets now.
    pub fn established(&mut self, id: ConnId, how: &Authenticated) {
        let Some(conn) = self.mesh.conns.get_mut(&id) else {
            return;
        };
        let Phase::Greeted { node, provider, .. } = &conn.phase else {
            return;
        };
        let (node, provider) = (node.clone(), provider.clone());
        if self.is_up(&node) {
            self.close(id, "already connected");
            return;
        }
        let Some(conn) = self.mesh.conns.get_mut(&id) else {
            return;
        };
        conn.phase = Phase::Up { node: node.clone() };
        let mut goals = vec![conn.goal.clone()];
        for other in self.mesh.greeted.remove(&node).unwrap_or_default() {
            if other != id {
                goals.push(self.mesh.conns.get(&other).and_then(|conn| conn.goal.clone()));
                self.close(other, "another connection to this node is in use");
            }
        }
        for goal in goals.into_iter().flatten() {
            // The node has proven its ID, so that its other connections may be believed.
            if let Goal::Seed(index) = goal {
                self.learn_seed(index, &node);
            }
        }
        let peer = self.peer(&node);
        peer.link = Some(Link { conn: id, provider, untrusted: how.untrusted, probe: None });
        let trial = peer.trial.take();
        for dial in trial.into_iter().flat_map(|trial| trial.dials) {
            if dial != id {
                self.close(dial, "connected by another address");
            }
        }
        self.db.cancel_find(&node);
        self.effects.push(Effect::LaneUp { node: node.clone(), conn: id });
        self.effects.push(Effect::NodeUp { node: node.clone(), untrusted: how.untrusted });
        self.log(Level::Info, format!("{node} is up"));
        self.node_is_up(&node);
    }

    /// A seed's node is known now.
    fn learn_seed(&mut self, index: usize, node: &NodeId) {
        let Some(seed) = self.mesh.seeds.get_mut(index) else {
            return;
        };
        seed.dial = None;
        seed.last_error = None;
        if seed.node.as_ref() != Some(node) {
            seed.node = Some(node.clone());
            if self.is_up(node) {
                self.seed_is_up(node);
            }
        }
    }

    /// A connection has ended, for whatever reason; or a dial has failed.
    pub fn closed(&mut self, id: ConnId, why: &str) {
        let Some(conn) = self.mesh.conns.remove(&id) else {
            return;
        };
        match &conn.phase {
            Phase::Up { node } => {
                let current = self.peers.get(node).and_then(|peer| peer.link.as_ref());
                if current.is_some_and(|link| link.conn == id) {
                    self.lost(&node.clone(), why);
                }
            }
            Phase::Greeted { node, .. } => {
                let node = node.clone();
                self.forget_greeted(&node, id);
                self.arbitrate_again(&node);
            }
            Phase::Opening | Phase::Closed => {}
        }
        if let Some(goal) = conn.goal {
            self.dial_ended(id, &goal, why);
        }
    }

    fn forget_greeted(&mut self, node: &NodeId, id: ConnId) {
        if let Some(ids) = self.mesh.greeted.get_mut(node) {
            ids.retain(|&other| other != id);
            if ids.is_empty() {
                self.mesh.greeted.remove(node);
                self.advance_trial(node);
            }
        }
    }

    fn dial_ended(&mut self, id: ConnId, goal: &Goal, why: &str) {
        match goal {
            Goal::Seed(index) => {
                if let Some(seed) = self.mesh.seeds.get_mut(*index)
                    && seed.dial == Some(id)
                {
                    seed.dial = None;
                    seed.last_error = Some(why.to_owned());
                    if let Some(node) = seed.node.clone() {
                        self.arbitrate_again(&node);
                    }
                }
            }
            Goal::Node(node) => {
                if let Some(trial) = self.trial(node)
                    && trial.dials.remove(&id)
                {
                    trial.failures.push(why.to_owned());
                    self.arbitrate_again(node);
                    self.advance_trial(node);
                }
            }
        }
    }

    /// Ends a connection from our side; [`Kernel::closed`] need not follow, but may.
    pub(super) fn close(&mut self, id: ConnId, why: &str) {
        let Some(conn) = self.mesh.conns.get_mut(&id) else {
            return;
        };
        let phase = std::mem::replace(&mut conn.phase, Phase::Closed);
        conn.greeting.clear();
        self.effects.push(Effect::Close { conn: id, reason: why.to_owned() });
        if let Phase::Greeted { node, .. } = phase {
            self.forget_greeted(&node, id);
        }
    }

    /// Ends the connection of a node that is up.
    pub fn disconnect(&mut self, node: &NodeId, why: &str) {
        if let Some(conn) = self.peers.get(node).and_then(|peer| peer.link.as_ref()).map(|l| l.conn)
        {
            self.close(conn, why);
            self.lost(node, why);
        } else {
            self.give_up(node, why);
        }
    }

    /// The connection of a node that was up is gone.
    fn lost(&mut self, node: &NodeId, why: &str) {
        let Some(peer) = self.peers.get_mut(node) else {
            return;
        };
        if peer.link.take().is_none() {
            return;
        }
        peer.patient = super::heal::Patient::default();
        let reason = transport_error(node, why);
        self.log(Level::Info, format!("{node} is down: {why}"));
        // First, or ports that die now would be reported to the lost node, by a new connection.
        self.ports.forget_peer(node);
        self.unreachable(node, why);
        self.effects.push(Effect::NodeDown { node: node.clone(), reason });
        self.node_is_down(node);
        if self.mesh.is_seed(node) {
            self.retry_seeds();
        }
        if self.mesh.keepalive.contains(node) {
            self.retry_keepalive();
        }
        self.arbitrate_again(node);
        self.forget_if_unused(node);
    }

    /// Asks a node that seems to be up whether it still is, because a new connection claims to
    /// come from it.
    fn probe(&mut self, node: &NodeId) {
        let deadline = self.now.uptime + self.config.connect_interval;
        let number = self.mesh.next_probe + 1;
        let Some(link) = self.peers.get_mut(node).and_then(|peer| peer.link.as_mut()) else {
            return;
        };
        if link.probe.is_some() {
            return;
        }
        link.probe = Some(number);
        self.mesh.next_probe = number;
        self.agenda.add(deadline, Task::ProbeOver(node.clone(), number));
        self.ask_echo(node, super::service::Question::Probe(number));
    }

    /// The echo of a probe has come back.
    pub(super) fn probe_answered(&mut self, node: &NodeId, number: u64) {
        let Some(link) = self.peers.get_mut(node).and_then(|peer| peer.link.as_mut()) else {
            return;
        };
        if link.probe == Some(number) {
            link.probe = None;
            for id in self.mesh.greeted.get(node).cloned().unwrap_or_default() {
                self.close(id, "already connected");
            }
        }
    }

    pub(super) fn probe_over(&mut self, node: &NodeId, number: u64) {
        let link = self.peers.get(node).and_then(|peer| peer.link.as_ref());
        if link.is_some_and(|link| link.probe == Some(number)) {
            self.disconnect(node, "no answer while a new connection of this node waits");
        }
    }

    /// Makes the seeds that are down be dialled now, or a moment after they were dialled last, and
    /// the delay between retries short again.
    pub fn retry_seeds(&mut self) {
        let delay = SEED_RETRY.mul_f64(self.random_factor());
        let retry = &mut self.mesh.seed_retry;
        retry.delay = delay;
        let earliest = retry.last.map_or(Duration::ZERO, |last| last + delay);
        let at = self.now.uptime.max(earliest);
        if retry.scheduled.is_none_or(|scheduled| scheduled > at) {
            self.schedule_seeds(at);
        }
    }

    fn schedule_seeds(&mut self, at: Duration) {
        self.mesh.seed_retry.scheduled = Some(at);
        self.agenda.add(at, Task::DialSeeds);
    }

    /// Dials all seeds that are down.
    pub(super) fn dial_seeds(&mut self) {
        if self.mesh.seed_retry.scheduled.is_none_or(|at| at > self.now.uptime) {
            return;
        }
        self.mesh.seed_retry.scheduled = None;
        let down: Vec<usize> = (0..self.mesh.seeds.len())
            .filter(|&index| {
                self.mesh.seeds.get(index).is_some_and(|seed| {
                    !seed.is_ourselves && !seed.node.as_ref().is_some_and(|node| self.is_up(node))
                })
            })
            .collect();
        if down.is_empty() {
            return;
        }
        self.mesh.seed_retry.last = Some(self.now.uptime);
        for index in down {
            let Some(seed) = self.mesh.seeds.get(index) else {
                continue;
            };
            if seed.dial.is_none() {
                let conn = self.dial(Goal::Seed(index), seed.address.clone());
                if let Some(seed) = self.mesh.seeds.get_mut(index) {
                    seed.dial = Some(conn);
                }
            }
        }
        let delay = (self.mesh.seed_retry.delay * 2).min(self.config.monitor_timeout);
        self.mesh.seed_retry.delay = delay;
        self.schedule_seeds(self.now.uptime + delay);
    }

    /// Replaces the seeds; connections that exist stay.
    pub fn set_seeds(&mut self, addresses: &[Str]) {
        let old = std::mem::take(&mut self.mesh.seeds);
        for seed in &old {
            if let Some(dial) = seed.dial {
                self.close(dial, "no seed any more");
            }
        }
        self.mesh.seeds = addresses
            .iter()
            .map(|address| {
                let known = old.iter().find(|seed| seed.address == *address);
                Seed {
                    node: known.and_then(|seed| seed.node.clone()),
                    is_ourselves: known.is_some_and(|seed| seed.is_ourselves),
                    ..Seed::new(address.clone())
                }
            })
            .collect();
        self.retry_seeds();
    }

    /// What is known of the seeds.
    pub fn seeds(&self) -> Vec<SeedStatus> {
        self.mesh
            .seeds
            .iter()
            .map(|seed| SeedStatus {
                address: seed.address.clone(),
                node: seed.node.clone(),
                is_ourselves: seed.is_ourselves,
                last_error: seed.last_error.clone(),
            })
            .collect()
    }

    /// Keeps a connection to `node` from now on.
    pub(super) fn keep_alive(&mut self, node: NodeId) {
        if node != self.config.node
            && self.mesh.keepalive.insert(node.clone())
            && !self.is_up(&node)
        {
            self.retry_keepalive();
        }
    }

    pub(super) fn keep_alive_no_longer(&mut self, node: &NodeId) {
        self.mesh.keepalive.remove(node);
    }

    fn retry_keepalive(&mut self) {
        self.mesh.keepalive_retry.delay = KEEPALIVE_RETRY.mul_f64(self.random_factor());
        let now = self.now.uptime;
        self.mesh.keepalive_retry.scheduled = Some(now);
        self.agenda.add(now, Task::KeepAlive);
    }

    pub(super) fn connect_keepalive(&mut self) {
        if self.mesh.keepalive_retry.scheduled.is_none_or(|at| at > self.now.uptime) {
            return;
        }
        self.mesh.keepalive_retry.scheduled = None;
        let mut down: Vec<NodeId> =
            self.mesh.keepalive.iter().filter(|node| !self.is_up(node)).cloned().collect();
        down.sort();
        if down.is_empty() {
            return;
        }
        for node in &down {
            self.want_connection(node);
        }
        let delay = (self.mesh.keepalive_retry.delay * 2).min(self.config.monitor_timeout);
        self.mesh.keepalive_retry.delay = delay;
        let at = self.now.uptime + delay;
        self.mesh.keepalive_retry.scheduled = Some(at);
        self.agenda.add(at, Task::KeepAlive);
    }

    /// A factor between 1 and 2.
    fn random_factor(&mut self) -> f64 {
        1.0 + self.random.fraction()
    }
}

/// Whether the peer is of this implementation, which arbitrates as we do.
pub(super) fn is_ours(provider: &Str) -> bool {
    provider.to_text_lossy().starts_with("aemp-")
}
