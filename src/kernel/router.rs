//! The handling of timers and of the machines' outputs: each becomes an effect for the host, or an input
//! of another machine.
//!
//! Every input of the host ends with [`Kernel::settle`], which handles everything that follows from it
//! inside this node. So each input meets a consistent state, however many inputs the host gives before
//! it takes the effects.
//!
//! Outputs of the mesh, the ports and healing are handled where they arise, in order, each with
//! everything that follows from it. Outputs of the database, and packets that this node sends to itself,
//! may lead to further requests and outputs. They are queued, in order, until the rest of the input has
//! been handled, so that the stack does not grow.

use super::db::{DbEffect, DbProblem};
use super::effect::{Builder, Effect, Level, Origin, Reason, transport_error};
use super::healing::{DbStatus, Healing, HealingOutput};
use super::lines::{Line, What};
use super::log::Source;
use super::mesh::MeshOutput;
use super::ports::PortsOutput;
use super::question::{Question, QuestionKind};
use super::random::Random;
use super::{Kernel, Task, request};
use crate::mutation::{self, Mutation};
use crate::value::packed::Elements;
use crate::value::{NodeId, Packed, PortId};
use std::time::Duration;

impl Kernel {
    /// Handles all timers that have expired. Timers that this starts and that expire at once are handled
    /// by the next call, so each call ends.
    pub fn tick(&mut self) {
        let now = self.now.uptime;
        for _ in 0..self.agenda.due(now) {
            let Some(task) = self.agenda.pop(now) else { break };
            match task {
                Task::Mesh(timer) => self.mesh.timer(&timer, now),
                Task::Healing(node) => {
                    self.with_healing(&node, |healing, status, now, _| {
                        healing.look_at_due(&node, status, now);
                    });
                }
            }
            self.settle();
        }
        self.db.expire(now);
        self.settle();
    }

    /// When [`Kernel::tick`] has to be called next, as time since the node started.
    pub fn next_tick(&self) -> Option<Duration> {
        [self.agenda.next(), self.db.deadline()].into_iter().flatten().min()
    }

    /// The lane of a node has the room that [`Effect::AwaitRoom`] asked for. No effect if there is
    /// nothing left to send.
    pub fn has_room(&mut self, node: &NodeId, number: u64) {
        self.db.has_room(node, number, self.now.uptime);
        self.settle();
    }

    /// So much is queued in the lane of a node that packets that can wait should be held back. An
    /// [`Effect::AwaitRoom`] may follow.
    pub fn has_no_room(&mut self, node: &NodeId) {
        self.db.has_no_room(node, self.now.uptime);
        self.settle();
    }

    /// Takes the effects, in order.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.swap_effects(&mut effects);
        effects
    }

    /// As [`Kernel::take_effects`], but leaves `into`, which has to be empty, in place of the effects,
    /// so that its capacity is reused.
    pub fn swap_effects(&mut self, into: &mut Vec<Effect>) {
        debug_assert!(self.is_settled(), "an input ended without `Kernel::settle`");
        into.clear();
        std::mem::swap(&mut self.effects, into);
    }

    /// The effects that [`Kernel::take_effects`] would return.
    pub(crate) fn pending_effects(&self) -> &[Effect] {
        debug_assert!(self.is_settled(), "an input ended without `Kernel::settle`");
        &self.effects
    }

    /// Spawns a port on `node`, with `function` as its first function. The port's ID is known at once.
    ///
    /// If the spawn fails, the port is dead and its monitors fire. Perl's `spawn`.
    pub fn spawn(&mut self, node: &NodeId, function: &str, arguments: Elements<'_>) -> PortId {
        let name = self.ports.new_remote_name();
        let request = Builder::request(request::SPAWN)
            .string(name.as_ref())
            .text(function)
            .elements(arguments)
            .build();
        self.send(node, request);
        self.settle();
        PortId::new(node, &name)
    }

    /// Kills a port, local or remote; Perl's `kil`. No effect if it does not exist.
    pub fn kill(&mut self, port: &PortId, reason: &Reason) {
        if port.node() == self.node {
            self.ports.kill(port.port().to_owned(), reason.clone());
        } else {
            let packet = Builder::request("kil1").string(port.port());
            self.send(&port.node(), packet.elements(reason.as_elements()).build());
        }
        self.settle();
    }

    /// Sends a request to a node's node port, as a program would.
    pub fn send_request(&mut self, to: &NodeId, request: Elements<'_>) {
        self.send(to, Builder::new().name("").elements(request).build());
        self.settle();
    }

    /// Logs what could not be done for a peer, or not be sent to it. The line counts for that peer's
    /// limit.
    pub(crate) fn log_of_peer(
        &mut self,
        peer: &NodeId,
        origin: Origin,
        level: Level,
        text: String,
    ) {
        self.log(origin, Source::Peer(peer.clone()), level, What::Text(text));
    }

    pub(super) fn log(&mut self, origin: Origin, source: Source, level: Level, what: What) {
        let line = self.log_limits.line(origin, source, level, what, self.now.uptime);
        self.effects.extend(line);
    }

    /// Sends a packet to a node, which may be this one.
    pub(super) fn send(&mut self, to: &NodeId, packet: Packed) {
        if *to == self.node {
            self.own_packets.push_back(packet);
            return;
        }
        self.effects.push(Effect::Send { to: to.clone(), packet });
        self.mesh.want_connection(to, self.now.uptime);
        self.follow_mesh();
    }

    /// Sends a message to any port, as this node: these elements, followed by `more`.
    pub(super) fn send_message(&mut self, to: &PortId, message: Elements<'_>, more: Builder) {
        let port = to.port();
        if to.node_str() == self.node.as_str() && !port.is_empty() {
            let message = Builder::new().elements(message).append(more).build();
            let (port, from) = (port.to_owned(), self.node.clone());
            self.effects.push(Effect::Deliver { port, message, from });
        } else {
            let packet = Builder::to_port(port, message.octets().len() + more.octets_len());
            self.send(&to.node(), packet.elements(message).append(more).build());
        }
    }

    fn ask(&mut self, node: &NodeId, about: QuestionKind, number: u64) {
        self.send(node, self.question(about, number));
    }

    fn question(&self, about: QuestionKind, number: u64) -> Packed {
        let reply_to = PortId::new(&self.node, &self.service_port);
        Question { about, number }.packet(&reply_to)
    }

    /// Ends an input of the host: handles everything that follows from it inside this node.
    ///
    /// The outputs of the database are handled before its next input.
    #[inline]
    pub(super) fn settle(&mut self) {
        self.follow_mesh();
        self.follow_ports();
        while !self.is_settled() {
            self.follow_db();
            if let Some(packet) = self.own_packets.pop_front() {
                self.own_packet(&packet);
            }
        }
    }

    /// Whether [`Kernel::settle`] has nothing to do.
    #[inline]
    fn is_settled(&self) -> bool {
        !self.db.has_effects() && self.own_packets.is_empty()
    }

    /// A packet that this node has sent to itself.
    fn own_packet(&mut self, packet: &Packed) {
        let own = self.node.clone();
        let port = request::argument(packet.as_elements()).unwrap_or_default();
        let message = packet.as_elements().after(1);
        if port.is_empty() {
            self.request(&own, message);
        } else {
            let message = message.to_packed();
            self.effects.push(Effect::Deliver { port, message, from: own });
        }
    }

    /// Handles the outputs of the mesh.
    #[inline]
    pub(super) fn follow_mesh(&mut self) {
        for output in self.mesh.take_outputs() {
            self.mesh_wants(output);
        }
    }

    fn mesh_wants(&mut self, output: MeshOutput) {
        let now = self.now.uptime;
        match output {
            MeshOutput::Dial { conn, address } => self.effects.push(Effect::Dial { conn, address }),
            MeshOutput::Proceed { conn, order } => {
                self.effects.push(Effect::Proceed { conn, order });
            }
            MeshOutput::Close { conn, reason } => self.effects.push(Effect::Close { conn, reason }),
            MeshOutput::Find(node) if self.db.is_global() => {
                let addresses = self.db.location(&node);
                self.mesh.addresses_found(&node, addresses, now);
                self.follow_mesh();
            }
            MeshOutput::Find(node) => self.db.find(node, now),
            MeshOutput::CancelFind(node) => self.db.cancel_find(&node),
            MeshOutput::Probe { node, conn, number } => {
                let packet = self.question(QuestionKind::Life, number);
                self.effects.push(Effect::Probe { node, conn, number, packet });
            }
            MeshOutput::Look { conn, number } => self.effects.push(Effect::Look { conn, number }),
            MeshOutput::Up { node, conn, provider, untrusted, knows_get } => {
                self.waiting.is_settled(&node);
                self.effects.push(Effect::LaneUp { node: node.clone(), conn });
                self.effects.push(Effect::NodeUp { node: node.clone(), untrusted });
                let what = What::Up(node.clone());
                self.log(Origin::Mesh, Source::Peer(node.clone()), Level::Info, what);
                self.db.node_up(node.clone());
                if knows_get {
                    self.db.knows_get(&node);
                }
                if self.mesh.is_seed(&node) {
                    self.seed_is_up(&node);
                }
                self.healing.node_up(&node, &provider);
                self.suspect(&node);
            }
            MeshOutput::Down { node, why } => {
                let what = What::Down(node.clone(), why.clone());
                self.log(Origin::Mesh, Source::Peer(node.clone()), Level::Info, what);
                self.healing.node_down(&node);
                self.unreachable(&node, &why);
                let reason = transport_error(&node, &why);
                self.effects.push(Effect::NodeDown { node: node.clone(), reason });
                self.db.node_down(&node, now);
                if !mutation::is_on(Mutation::ReplaceNoMaster) {
                    self.find_master();
                }
                self.mesh.loss_was_told(&node, now, &mut self.random);
                self.follow_mesh();
            }
            // The database is not told, since a node that cannot be dialled from here may be alive.
            MeshOutput::GaveUp { node, why } => self.unreachable(&node, &why),
            MeshOutput::SeedUp(node) => self.seed_is_up(&node),
            MeshOutput::SeedClaimed => self.find_master(),
            MeshOutput::IsSeed => self.turn_global(),
            MeshOutput::Wake { at, timer } => self.agenda.add(at, Task::Mesh(timer)),
            MeshOutput::Log { level, line } => {
                self.log(Origin::Mesh, Source::Mesh, level, What::Mesh(line));
            }
        }
    }

    /// The connection to a node is lost, or could not be made: its queue is dropped, and then all
    /// monitors of its ports fire.
    fn unreachable(&mut self, node: &NodeId, why: &str) {
        self.waiting.is_settled(node);
        self.effects.push(Effect::LaneDown { node: node.clone() });
        self.ports.node_lost(node, &transport_error(node, why));
        self.follow_ports();
    }

    /// A seed's node has connected, or a connected node has proven to be a seed's.
    fn seed_is_up(&mut self, node: &NodeId) {
        // Every seed has to be global; it becomes global now if it is not.
        if !mutation::is_on(Mutation::AskNoSeedToBeGlobal) {
            self.send(node, Builder::request("g_slave").build());
        }
        self.find_master();
    }

    /// Chooses a master among the seeds that are up, if there is none. A node that claims to be a seed's
    /// without proof has to be global already.
    fn find_master(&mut self) {
        if self.db.master().is_some() {
            return;
        }
        let seed = self.mesh.first_seed_up();
        let claimed = || self.mesh.claimed_seeds_up().find(|node| self.db.is_peer_global(node));
        if let Some(master) = seed.or_else(claimed).cloned() {
            let what = What::Master(master.clone());
            self.log(Origin::Database, Source::Peer(master.clone()), Level::Debug, what);
            self.db.adopt_master(&master);
        }
    }

    /// Handles the outputs of the ports.
    #[inline]
    pub(super) fn follow_ports(&mut self) {
        let mut outputs = self.ports.take_outputs();
        if !outputs.is_empty() {
            for output in outputs.drain(..) {
                self.ports_want(output);
            }
            self.ports.reuse(outputs);
        }
    }

    fn ports_want(&mut self, output: PortsOutput) {
        match output {
            PortsOutput::Send { to, packet } => self.send(&to, packet),
            PortsOutput::SendMessage { to, message } => {
                self.send_message(&to, message.as_elements(), Builder::default());
            }
            PortsOutput::Connect(node) => {
                self.mesh.want_connection(&node, self.now.uptime);
                self.follow_mesh();
            }
            PortsOutput::Fire { monitor, reason } => {
                self.effects.push(Effect::Fire { monitor, reason });
            }
            PortsOutput::Closed { port, reason } => {
                self.effects.push(Effect::PortClosed { port, reason });
            }
            PortsOutput::LossTold(node) => self.effects.push(Effect::LaneReset { node }),
            PortsOutput::Unnoticed { port, reason } => {
                let what = What::Unnoticed(port, reason);
                self.log(Origin::Ports, Source::Ports, Level::Warn, what);
            }
        }
    }

    /// Passes an input about a node to healing, if healing knows the node, and handles the outputs.
    pub(super) fn with_healing(
        &mut self,
        node: &NodeId,
        input: impl FnOnce(&mut Healing, &DbStatus, Duration, &mut Random),
    ) {
        if !self.healing.knows(node) {
            return;
        }
        let global = self.db.global();
        let status = DbStatus {
            is_global: self.db.is_peer_global(node),
            is_slave: global.is_some_and(|global| global.is_slave(node)),
            is_missing: global.is_some_and(|global| global.location(node).is_none()),
            announcers: global.map(|global| global.announcers(node)).unwrap_or_default(),
            our_master: self.db.master().cloned(),
        };
        input(&mut self.healing, &status, self.now.uptime, &mut self.random);
        self.follow_healing();
    }

    fn follow_healing(&mut self) {
        for output in self.healing.take_outputs() {
            self.healing_wants(output);
        }
    }

    fn healing_wants(&mut self, output: HealingOutput) {
        match output {
            HealingOutput::AskMaster { node, number } => {
                self.ask(&node, QuestionKind::Master, number)
            }
            HealingOutput::AskSilence { node, number } => {
                self.ask(&node, QuestionKind::Silence, number)
            }
            HealingOutput::AskBarrier { node, number } => {
                self.ask(&node, QuestionKind::Order, number)
            }
            HealingOutput::Adopt { node, master } => {
                let request = Builder::request(request::MASTER_SET).string(master.as_str());
                self.send(&node, request.build());
            }
            HealingOutput::DropSlave(node) => self.db.drop_slave(&node, self.now.uptime),
            HealingOutput::Wake { at, node } => self.agenda.add(at, Task::Healing(node)),
            HealingOutput::Log { level, line } => {
                self.log(Origin::Healing, Source::Healing, level, What::Healing(line));
            }
        }
    }

    fn suspect(&mut self, node: &NodeId) {
        self.with_healing(node, |healing, status, now, random| {
            healing.suspect(node, status, now, random);
        });
    }

    /// Makes this node global, if it is not global yet.
    pub(super) fn turn_global(&mut self) {
        if !self.db.is_global() {
            let line = Line { what: What::Global(None), unlogged: 0 };
            self.effects.push(Effect::Log { level: Level::Info, origin: Origin::Database, line });
            self.db.become_global(self.now.uptime);
            self.look_for_orphans();
        }
    }

    /// This node has become global: connected nodes whose addresses no node announces may need healing.
    pub(super) fn look_for_orphans(&mut self) {
        for node in self.up_nodes() {
            self.suspect(&node);
        }
    }

    /// Handles the outputs of the database, and all further ones that they cause.
    pub(super) fn follow_db(&mut self) {
        while self.db.has_effects() {
            let mut effects = std::mem::take(&mut self.db_effects);
            self.db.swap_effects(&mut effects);
            for effect in effects.drain(..) {
                self.database_wants(effect);
            }
            self.db_effects = effects;
        }
    }

    fn database_wants(&mut self, effect: DbEffect) {
        let now = self.now.uptime;
        match effect {
            DbEffect::Send { to, packet } => match &*to {
                // The last connection that knew of a master may be lost; then a new one is chosen.
                [node] => self.send(node, packet),
                // Subscribers are connected, so no connection has to be started.
                _ => self.effects.push(Effect::SendAll { to, packet }),
            },
            DbEffect::SendLater { to, packets } => {
                self.effects.push(Effect::SendLater { to, packets });
            }
            DbEffect::AwaitRoom { node, number } => {
                let octets = self.db.piece();
                self.effects.push(Effect::AwaitRoom { node, number, octets });
            }
            DbEffect::Answer { query, answer } => {
                self.effects.push(Effect::Answer { query, answer });
            }
            DbEffect::Changed { monitor, changes } => {
                self.effects.push(Effect::Changed { monitor, changes });
            }
            DbEffect::Found { node, addresses } => {
                self.mesh.addresses_found(&node, addresses, now);
                self.follow_mesh();
            }
            DbEffect::KeepAlive(node) => {
                self.mesh.keep_alive(node, now, &mut self.random);
                self.follow_mesh();
            }
            DbEffect::KeepAliveNoMore(node) => self.mesh.keep_alive_no_longer(&node),
            DbEffect::Located(node) => self.healing.is_located(&node),
            DbEffect::Unlocated(node) => {
                self.healing.is_unlocated(&node);
                self.suspect(&node);
            }
            DbEffect::Orphan { node, request } => {
                self.with_healing(&node, |healing, status, now, _| {
                    healing.is_orphan(&node, request, status, now);
                });
            }
            DbEffect::Conflict { node, other } => {
                self.with_healing(&node, |healing, _, now, _| {
                    healing.has_conflict(&node, &other, now);
                });
            }
            DbEffect::Problem { from, problem } => {
                self.refused += u64::from(matches!(problem, DbProblem::TooMuch(..)));
                if let Some(told) = &mut self.refused_of_packet {
                    if told.contains(&problem) {
                        return;
                    }
                    told.push(problem.clone());
                }
                let what = What::Problem(from.clone(), problem);
                self.log(Origin::Database, Source::Peer(from), Level::Warn, what);
            }
        }
    }
}
