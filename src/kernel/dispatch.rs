//! Handling of packets to the node port, and of answers to the kernel's own questions.

use super::Kernel;
use super::db::Database;
use super::effect::{Builder, Call, Effect, Level, Origin, died};
use super::eval::Known;
use super::large::LargePacket;
use super::lines::What;
use super::log::Source;
use super::question::{Question, QuestionKind};
use super::relay::{MAX_ELEMENTS_BEFORE_MESSAGE, Relay, RelayStep, destination};
use super::request::{Handler, MASTER_SET, Parsed, Refused, RequestInfo, argument, scalar};
use crate::value::packed::Elements;
use crate::value::{NodeId, Packed, PortId, Str, StrRef};
use std::time::Duration;

/// Why a database request that a peer has relayed through this node to itself is refused.
const IN_OUR_NAME: &str = "a database request in this node's own name";

/// The reason with which a node in `secure` mode refuses to run functions.
const NOT_ALLOWED: &str = "remote execution not allowed";

impl Kernel {
    /// Handles a packet to the node port. A packet of a node that is no longer connected is ignored: it
    /// was read before the connection was given up.
    ///
    /// Its effects are in [`Kernel::take_effects`] when this returns, before those of later packets of
    /// the same connection.
    pub fn node_packet(&mut self, from: &NodeId, elements: Elements<'_>) {
        // The database keeps nothing about a node that is not connected.
        if !self.db.receive_one(from, elements, self.now.uptime) && self.is_up(from) {
            self.refused_of_packet = Some(Vec::new());
            self.request(from, elements);
            self.settle();
            self.refused_of_packet = None;
        } else {
            self.settle();
        }
    }

    /// What is left of the packet that [`Kernel::node_packet`] has handled last, if that was not all: it
    /// asks for the content of a large family. It has to be handled in pieces like a large packet, before
    /// the next packet of the same peer.
    pub fn take_unfinished(&mut self, from: &NodeId) -> Option<LargePacket> {
        let question = self.db.take_unfinished()?;
        Some(LargePacket::unfinished(from, question))
    }

    /// Handles a request. Relays to this node's own port are followed in a loop: each one removes its
    /// head from the rest of the packet, and nothing is copied.
    pub(super) fn request(&mut self, from: &NodeId, request: Elements<'_>) {
        let mut relay = Relay::new(request);
        loop {
            match self.follow(&relay) {
                RelayStep::Here { rest, results } => relay.take_head(rest, results),
                RelayStep::Elsewhere { to, message, results } => {
                    if !self.may_wait(from, &to, message.octets().len()) {
                        return;
                    }
                    // Peers use it as a barrier.
                    self.db.flush(&to.node(), self.now.uptime);
                    self.follow_db();
                    return self.send_message(&to, message, relay.results_behind(results));
                }
                RelayStep::Request => break,
            }
        }
        let own = self.node.clone();
        let from = if relay.is_first() { from } else { &own };
        if relay.results.is_empty() {
            self.carry_out(from, relay.rest);
        } else {
            let request = Builder::new().name("").elements(relay.rest);
            self.own_packets.push_back(request.append(relay.results).build());
        }
    }

    /// Whether a message of a peer may be sent. False if its destination is not connected and too many
    /// octets of the peer's messages are pending already.
    pub(super) fn may_wait(&mut self, from: &NodeId, to: &PortId, octets: usize) -> bool {
        let sought = to.node_str();
        if *from == self.node || sought == self.node.as_str() || self.mesh.is_up(&sought) {
            return true;
        }
        let sought = to.node();
        let may = self.waiting.add(from, &sought, octets, self.limits.table);
        if !may {
            self.refused += 1;
            let what = What::MayNotWait(from.clone(), sought.as_str().cut());
            self.log(Origin::Requests, Source::Peer(from.clone()), Level::Warn, what);
        }
        may
    }

    /// Decides how a request continues that only sends something. The results are appended to it.
    pub(super) fn follow<'a>(&self, relay: &Relay<'a>) -> RelayStep<'a> {
        let request = relay.rest;
        // One of its own elements may be among the results.
        if !relay.results.is_empty() && request.len() < MAX_ELEMENTS_BEFORE_MESSAGE {
            return RelayStep::Request;
        }
        let Some(name) = request.first_str() else { return RelayStep::Request };
        let (reply, results) = match name.data() {
            b"snd" => (request.after(1), Builder::default()),
            b"time" => (request.after(1), Builder::default().float(self.now.wall)),
            b"can" => {
                let mut reader = request.reader();
                let asked = reader.skip().ok().and_then(|_| scalar(&mut reader));
                let asked = asked.as_ref().and_then(|name| RequestInfo::find(name.as_ref()));
                let known = asked.is_some_and(|info| info.is_offered(self.db.is_global()));
                (request.after(2), Builder::default().name(if known { "1" } else { "" }))
            }
            b"eval" if !self.secure => {
                let Some(known) = argument(request.after(1)).and_then(|e| Known::of(&e)) else {
                    return RelayStep::Request;
                };
                // An empty error text, followed by the results.
                (request.after(2), self.evaluate(known, Builder::default().name("")))
            }
            _ => return RelayStep::Request,
        };
        let Some(to) = argument(reply).and_then(|to| PortId::try_from(to).ok()) else {
            return RelayStep::Request;
        };
        if to.is_node_port() && to.node_str() == self.node.as_str() {
            RelayStep::Here { rest: reply.after(1), results }
        } else {
            RelayStep::Elsewhere { to, message: reply.after(1), results }
        }
    }

    pub(super) fn carry_out(&mut self, from: &NodeId, elements: Elements<'_>) {
        let string;
        let name = match elements.first_str() {
            Some(name) => Some(name),
            None => {
                string = argument(elements);
                string.as_ref().map(Str::as_ref)
            }
        };
        let Some(name) = name else {
            if !elements.is_empty() {
                let what = What::NoName(from.clone());
                self.log(Origin::Requests, Source::Peer(from.clone()), Level::Warn, what);
            }
            return;
        };
        if let Err(why) = self.dispatch(from, name, elements.after(1)) {
            let what = What::Refused(from.clone(), name.cut(), why);
            self.log(Origin::Requests, Source::Peer(from.clone()), Level::Warn, what);
        }
    }

    fn dispatch(
        &mut self,
        from: &NodeId,
        name: StrRef<'_>,
        arguments: Elements<'_>,
    ) -> Result<(), Refused> {
        let Some(info) = RequestInfo::find(name) else {
            return self.call(from, name, arguments);
        };
        if info.handled_by == Handler::Database {
            // What this node's database is, only the node itself can know.
            if *from == self.node {
                return Err(IN_OUR_NAME.into());
            }
            self.database_request(from, name, arguments);
            return Ok(());
        }
        let parsed = Parsed::read(info.arguments, arguments)?;
        if self.secure && info.refused_if_secure {
            if let Parsed::Spawn { port, .. } = parsed {
                self.ports.spawn_failed(from, port, died(NOT_ALLOWED));
            }
            return Err(NOT_ALLOWED.into());
        }
        match (info.name, parsed) {
            (_, Parsed::Spawn { port, function, arguments }) => {
                self.spawn_here(from, port, function, arguments)
            }
            // The rest was done by `Kernel::follow`.
            ("snd" | "time", Parsed::Reply(reply)) => destination(reply).map(drop),
            ("can", Parsed::StringAndReply(_, reply)) => destination(reply).map(drop),
            ("eval", Parsed::StringAndReply(expression, reply)) => {
                let expression =
                    expression.ok_or("the expression is not a string, or longer than 256 KiB")?;
                self.eval(from, expression, reply)
            }
            (MASTER_SET, _) => Err("this node chooses its own master".into()),
            (name, parsed) if info.handled_by == Handler::Ports => {
                self.ports.request(from, name, parsed)?;
                self.follow_ports();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn database_request(&mut self, from: &NodeId, name: StrRef<'_>, arguments: Elements<'_>) {
        self.tell_database(from, |db, now| db.receive(from, name, arguments, now));
    }

    /// Passes a peer's request to the database, which may make this node global.
    pub(super) fn tell_database(
        &mut self,
        from: &NodeId,
        tell: impl FnOnce(&mut Database, Duration) -> bool,
    ) -> bool {
        let was_global = self.db.is_global();
        let told = tell(&mut self.db, self.now.uptime);
        if !was_global && self.db.is_global() {
            let what = What::Global(Some(from.clone()));
            self.log(Origin::Database, Source::Peer(from.clone()), Level::Info, what);
            self.look_for_orphans();
        }
        told
    }

    /// Sends the elements after the first, followed by `results`, to the port that the first one names.
    /// Without a destination nothing is sent.
    fn reply(&mut self, to: Elements<'_>, results: Builder) -> Result<(), Refused> {
        if let Some(id) = destination(to)? {
            self.send_message(&id, to.after(1), results);
        }
        Ok(())
    }

    fn eval(&mut self, from: &NodeId, expression: Str, reply: Elements<'_>) -> Result<(), Refused> {
        let to = destination(reply)?;
        if Known::of(&expression).is_none() {
            // Otherwise the rest of the packet would be copied once for each of any number of
            // expressions.
            if to.is_some_and(|to| to.is_node_port() && to.node() == self.node) {
                return Err("the result would go to this node's own node port".into());
            }
            let (from, reply) = (from.clone(), self.keep(reply));
            self.effects.push(Effect::Eval { expression, from, reply });
        }
        Ok(())
    }

    /// Appends the results of an expression.
    fn evaluate(&self, known: Known, results: Builder) -> Builder {
        let with_master = |results: Builder| match self.db.master() {
            Some(master) => results.string(master.as_str()),
            None => results.undef(),
        };
        let with_up_nodes = |results| {
            let up = self.up_nodes();
            up.iter().fold(results, |results: Builder, node| results.string(node.as_str()))
        };
        match known {
            Known::Nothing => results,
            Known::UpNodes => with_up_nodes(results),
            Known::OwnNode => results.string(self.node.as_str()),
            Known::Master => with_master(results),
            Known::MasterAndUpNodes => with_up_nodes(with_master(results)),
            Known::ProcessId => results.text(&self.process_id.to_string()),
            Known::IsFunction(name) => {
                let name = name.as_ref();
                let is_there = self.is_registered(name) || RequestInfo::find(name).is_some();
                results.name(if is_there { "1" } else { "" })
            }
        }
    }

    /// The answer to an [`Effect::Eval`]: the error text, empty if there was no error, and the results.
    pub fn eval_done(&mut self, reply: &Packed, error: &str, results: Elements<'_>) {
        let results = Builder::new().text(error).elements(results);
        // The destination was checked when the expression was received.
        let _ = self.reply(reply.as_elements(), results);
        self.settle();
    }

    fn spawn_here(
        &mut self,
        from: &NodeId,
        port: Str,
        function: Option<Str>,
        arguments: Elements<'_>,
    ) -> Result<(), Refused> {
        if port.is_empty() {
            return Err("the node port cannot be spawned".into());
        }
        if self.ports.exists(&port) {
            return Err(Refused::PortExists(port.as_ref().cut()));
        }
        let function = function
            .ok_or(Refused::Because("the function's name is not a string, or longer than 256 KiB"));
        let function = function.and_then(|function| match self.is_registered(function.as_ref()) {
            true => Ok(function),
            false => Err(Refused::NotRegistered(function.as_ref().cut())),
        });
        match function {
            Ok(function) => {
                self.ports.spawned(port.clone(), from);
                let arguments = self.keep(arguments);
                let init = Call { function, arguments, from: from.clone() };
                self.effects.push(Effect::Spawned { port, init });
                Ok(())
            }
            Err(why) => {
                self.ports.spawn_failed(from, port, died(&why.to_string()));
                Err(why)
            }
        }
    }

    /// Lets others call the function `name`, and spawn ports with it as first function.
    pub fn register(&mut self, name: Str) {
        self.longest_function = self.longest_function.max(name.as_ref().data().len());
        self.functions.insert(name);
    }

    /// Reverts [`Kernel::register`].
    pub fn unregister(&mut self, name: &Str) {
        self.functions.remove(name);
    }

    fn is_registered(&self, name: StrRef<'_>) -> bool {
        name.data().len() <= self.longest_function && self.functions.contains(&name.to_owned())
    }

    fn call(
        &mut self,
        from: &NodeId,
        name: StrRef<'_>,
        arguments: Elements<'_>,
    ) -> Result<(), Refused> {
        if self.secure {
            return Err(NOT_ALLOWED.into());
        }
        if !self.is_registered(name) {
            return Err("no such request, and no function of that name is registered".into());
        }
        let (function, arguments) = (name.to_owned(), self.keep(arguments));
        self.effects.push(Effect::Call(Call { function, arguments, from: from.clone() }));
        Ok(())
    }

    /// Handles a message to the kernel's own port: an answer to one of its questions.
    pub fn service_message(&mut self, from: &NodeId, message: Elements<'_>) {
        let Some((Question { about, number }, answers)) = Question::answered_by(message) else {
            let what = What::NotAsked(from.clone());
            return self.log(Origin::Requests, Source::Peer(from.clone()), Level::Debug, what);
        };
        match about {
            QuestionKind::Life => {
                self.mesh.probe_answered(from, number, self.now.uptime);
            }
            QuestionKind::Order => {
                if let Some(node) = self.healing.waits_for_barrier(from, number) {
                    self.with_healing(&node, |healing, status, now, _| {
                        healing.barrier_passed(&node, from, status, now);
                    });
                }
            }
            QuestionKind::Silence => self.with_healing(from, |healing, status, _, _| {
                healing.is_silent(from, number, status);
            }),
            QuestionKind::Master => {
                let named = answers.get(1).and_then(|master| {
                    self.db.globals().find(|global| global.as_str() == master.as_ref()).cloned()
                });
                self.with_healing(from, |healing, status, now, _| {
                    healing.master_answered(from, number, &answers, named, status, now);
                });
            }
        }
        self.settle();
    }

    /// A copy of a part of the packet; a part of a large packet shares its octets.
    pub(super) fn keep(&self, part: Elements<'_>) -> Packed {
        match &self.large_body {
            Some(body) => body.share(part),
            None => part.to_packed(),
        }
    }
}
