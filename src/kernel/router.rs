//! What becomes of time and of the machines' outputs: effects for the host, or inputs of other machines.
//!
//! Every input of the host ends with [`Kernel::settle`], which handles all that follows from it inside
//! this node. So no input meets a state that the one before it has only half changed, however many
//! inputs the host gives before it takes the effects.
//!
//! Outputs of the mesh, the ports and healing are handled where they arise, one by one and in order,
//! each with all that follows from it. Outputs of the database, and packets that this node sends to
//! itself, may lead to further requests, and those to further outputs: so that this does not go deeper
//! into the stack, they queue up, in order, until the input at hand is done otherwise.

use super::db::{DbEffect, DbProblem};
use super::effect::{Builder, Effect, Level, Origin, Reason, transport_error};
use super::healing::{Healing, HealingOutput, Standing};
use super::log::Source;
use super::mesh::MeshOutput;
use super::ports::PortsOutput;
use super::question::{About, Question};
use super::random::Random;
use super::{Kernel, Task, request};
use crate::mutation::{self, Mutation};
use crate::value::packed::Elements;
use crate::value::{NodeId, Packed, PortId};
use std::fmt;
use std::time::Duration;

impl Kernel {
    /// Does what is due. What that makes due at once is done by the next call, so that one call is
    /// never without end.
    pub fn tick(&mut self) {
        let now = self.now.uptime;
        for _ in 0..self.agenda.due(now) {
            let Some(task) = self.agenda.pop(now) else { break };
            match task {
                Task::Mesh(timer) => self.mesh.timer(&timer, now),
                Task::Healing(node) => {
                    self.with_healing(&node, |healing, standing, now, _| {
                        healing.look_at_due(&node, standing, now);
                    });
                }
            }
            self.settle();
        }
        self.db.expire(now);
        self.settle();
    }

    /// When [`Kernel::tick`] is wanted next, as time since the node started.
    pub fn next_tick(&self) -> Option<Duration> {
        [self.agenda.next(), self.db.deadline()].into_iter().flatten().min()
    }

    /// The lane of a node has the room that [`Effect::AwaitRoom`] was about. Nothing happens if nothing
    /// is to be sent there any more.
    pub fn has_room(&mut self, node: &NodeId, number: u64) {
        self.db.has_room(node, number, self.now.uptime);
        self.settle();
    }

    /// So much waits in the lane of a node that what can wait should. An [`Effect::AwaitRoom`] may follow.
    pub fn has_no_room(&mut self, node: &NodeId) {
        self.db.has_no_room(node, self.now.uptime);
        self.settle();
    }

    /// Takes what has to be done, in order.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.swap_effects(&mut effects);
        effects
    }

    /// As [`Kernel::take_effects`], in exchange for an empty vector whose room is used again.
    pub fn swap_effects(&mut self, into: &mut Vec<Effect>) {
        debug_assert!(self.is_settled(), "an input ended without `Kernel::settle`");
        into.clear();
        std::mem::swap(&mut self.effects, into);
    }

    /// What [`Kernel::take_effects`] would give.
    pub(crate) fn pending_effects(&self) -> &[Effect] {
        debug_assert!(self.is_settled(), "an input ended without `Kernel::settle`");
        &self.effects
    }

    /// Makes `node` spawn a port that begins with `function`; the port's ID is known at once.
    ///
    /// If that fails the port is dead and monitors fire. What Perl calls `spawn`.
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

    /// Kills a port, local or remote; what Perl calls `kil`. Killing what is not there does nothing.
    pub fn kill(&mut self, port: &PortId, reason: &Reason) {
        if port.node() == self.node {
            self.ports.kill(port.port().to_owned(), reason.clone());
        } else {
            let packet = Builder::request("kil1").string(port.port());
            self.send(&port.node(), packet.elements(reason.as_elements()).build());
        }
        self.settle();
    }

    /// Sends a request to a node's node port, as if a program had sent it.
    pub fn send_request(&mut self, to: &NodeId, request: Elements<'_>) {
        self.send(to, Builder::new().name("").elements(request).build());
        self.settle();
    }

    /// Logs what the node could not do for a peer, or could not send to it: on that peer's account.
    pub(crate) fn log_of_peer(
        &mut self,
        peer: &NodeId,
        origin: Origin,
        level: Level,
        text: fmt::Arguments<'_>,
    ) {
        self.log(origin, Source::Peer(peer.clone()), level, text);
    }

    pub(super) fn log(
        &mut self,
        origin: Origin,
        source: Source,
        level: Level,
        text: fmt::Arguments<'_>,
    ) {
        let line = self.log_limits.line(origin, source, level, text, self.now.uptime);
        self.effects.extend(line);
    }

    /// Sends a packet, port name first, to a node, this one included.
    pub(super) fn send(&mut self, to: &NodeId, packet: Packed) {
        if *to == self.node {
            self.own_packets.push_back(packet);
            return;
        }
        self.effects.push(Effect::Send { to: to.clone(), packet });
        self.mesh.want_connection(to, self.now.uptime);
        self.follow_mesh();
    }

    /// Sends a message to a port anywhere, as this node: these elements, and `more` behind them.
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

    fn ask(&mut self, node: &NodeId, about: About, number: u64) {
        self.send(node, self.question(about, number));
    }

    fn question(&self, about: About, number: u64) -> Packed {
        let reply_to = PortId::new(&self.node, &self.service_port);
        Question { about, number }.packet(&reply_to)
    }

    /// Ends an input of the host: handles all that follows from it inside this node.
    ///
    /// What the database wants done is handled before it learns of the next packet.
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

    /// Whether nothing is left for [`Kernel::settle`].
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

    /// Handles what the mesh wants done.
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
                let packet = self.question(About::Life, number);
                self.effects.push(Effect::Probe { node, conn, number, packet });
            }
            MeshOutput::Look { conn, number } => self.effects.push(Effect::Look { conn, number }),
            MeshOutput::Up { node, conn, provider, untrusted, knows_get } => {
                self.waiting.is_settled(&node);
                self.effects.push(Effect::LaneUp { node: node.clone(), conn });
                self.effects.push(Effect::NodeUp { node: node.clone(), untrusted });
                self.log(
                    Origin::Mesh,
                    Source::Peer(node.clone()),
                    Level::Info,
                    format_args!("{node} is up"),
                );
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
                let text = format_args!("{node} is down: {why}");
                self.log(Origin::Mesh, Source::Peer(node.clone()), Level::Info, text);
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
            // The database hears nothing of it: a node that cannot be dialled from here may live.
            MeshOutput::GaveUp { node, why } => self.unreachable(&node, &why),
            MeshOutput::SeedUp(node) => self.seed_is_up(&node),
            MeshOutput::SeedClaimed => self.find_master(),
            MeshOutput::IsSeed => self.turn_global(),
            MeshOutput::Wake { at, timer } => self.agenda.add(at, Task::Mesh(timer)),
            MeshOutput::Log { level, text } => {
                self.log(Origin::Mesh, Source::Mesh, level, format_args!("{text}"));
            }
        }
    }

    /// The connection to a node is gone, or could not be made: what waits for it is dropped, and
    /// then all monitors of its ports fire.
    fn unreachable(&mut self, node: &NodeId, why: &str) {
        self.waiting.is_settled(node);
        self.effects.push(Effect::LaneDown { node: node.clone() });
        self.ports.node_lost(node, &transport_error(node, why));
        self.follow_ports();
    }

    /// A seed's node is connected, or a connected node turns out to be a seed's.
    fn seed_is_up(&mut self, node: &NodeId) {
        // Every seed has to be global; one that is not becomes it now.
        if !mutation::is_on(Mutation::AskNoSeedToBeGlobal) {
            self.send(node, Builder::request("g_slave").build());
        }
        self.find_master();
    }

    /// Chooses a master among the seeds that are up, if there is none. Where it is only claimed that
    /// a node is a seed's, it has to be global already.
    fn find_master(&mut self) {
        if self.db.master().is_some() {
            return;
        }
        let seed = self.mesh.first_seed_up();
        let claimed = || self.mesh.claimed_seeds_up().find(|node| self.db.is_peer_global(node));
        if let Some(master) = seed.or_else(claimed).cloned() {
            let text = format_args!("{master} is our master");
            self.log(Origin::Database, Source::Peer(master.clone()), Level::Debug, text);
            self.db.adopt_master(&master);
        }
    }

    /// Handles what the ports want done.
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
                let port = port.as_ref().beginning();
                let text = format_args!("port {port} died and nobody monitored it: {reason}");
                self.log(Origin::Ports, Source::Ports, Level::Warn, text);
            }
        }
    }

    /// Gives healing an input about a node, if the node is one of its concern, and handles what it
    /// wants done.
    pub(super) fn with_healing(
        &mut self,
        node: &NodeId,
        input: impl FnOnce(&mut Healing, &Standing, Duration, &mut Random),
    ) {
        if !self.healing.knows(node) {
            return;
        }
        let global = self.db.global();
        let standing = Standing {
            is_global: self.db.is_peer_global(node),
            is_slave: global.is_some_and(|global| global.is_slave(node)),
            is_missing: global.is_some_and(|global| global.location(node).is_none()),
            announcers: global.map(|global| global.announcers(node)).unwrap_or_default(),
            our_master: self.db.master().cloned(),
        };
        input(&mut self.healing, &standing, self.now.uptime, &mut self.random);
        self.follow_healing();
    }

    fn follow_healing(&mut self) {
        for output in self.healing.take_outputs() {
            self.healing_wants(output);
        }
    }

    fn healing_wants(&mut self, output: HealingOutput) {
        match output {
            HealingOutput::AskMaster { node, number } => self.ask(&node, About::Master, number),
            HealingOutput::AskSilence { node, number } => self.ask(&node, About::Silence, number),
            HealingOutput::AskBarrier { node, number } => self.ask(&node, About::Order, number),
            HealingOutput::Adopt { node, master } => {
                let request = Builder::request(request::MASTER_SET).string(master.as_str());
                self.send(&node, request.build());
            }
            HealingOutput::DropSlave(node) => self.db.drop_slave(&node, self.now.uptime),
            HealingOutput::Wake { at, node } => self.agenda.add(at, Task::Healing(node)),
            HealingOutput::Log { level, text } => {
                self.log(Origin::Healing, Source::Healing, level, format_args!("{text}"));
            }
        }
    }

    fn suspect(&mut self, node: &NodeId) {
        self.with_healing(node, |healing, standing, now, random| {
            healing.suspect(node, standing, now, random);
        });
    }

    /// Makes this node global, if it is not.
    pub(super) fn turn_global(&mut self) {
        if !self.db.is_global() {
            let text = "this node is global now".to_owned();
            self.effects.push(Effect::Log { level: Level::Info, origin: Origin::Database, text });
            self.db.become_global(self.now.uptime);
            self.look_for_orphans();
        }
    }

    /// This node has become global, so that connected nodes may turn out to be in nobody's
    /// database.
    pub(super) fn look_for_orphans(&mut self) {
        for node in self.up_nodes() {
            self.suspect(&node);
        }
    }

    /// Handles what the database wants done, and what it wants done because of that.
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
                // The last that knew of a master may have been lost: then one is looked for.
                [node] => self.send(node, packet),
                // Subscribers are connected: no connection has to be asked for.
                _ => self.effects.push(Effect::SendAll { to, packet }),
            },
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
                self.with_healing(&node, |healing, standing, now, _| {
                    healing.is_orphan(&node, request, standing, now);
                });
            }
            DbEffect::Conflict { node, other } => {
                self.with_healing(&node, |healing, _, now, _| {
                    healing.has_conflict(&node, &other, now);
                });
            }
            DbEffect::Problem { from, problem } => {
                self.refused += u64::from(matches!(problem, DbProblem::TooMuch(..)));
                let text = format_args!("request from {from}: {problem}");
                self.log(Origin::Database, Source::Peer(from.clone()), Level::Warn, text);
            }
        }
    }
}
