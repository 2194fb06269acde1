//! What packets to the node port, and answers to the kernel's own questions, make this node do.

use super::Kernel;
use super::effect::{Builder, Call, Effect, Level, died};
use super::eval::Known;
use super::question::{About, Question};
use super::request::{Handler, MASTER_SET, Parsed, Refused, RequestInfo, argument, beginning_of};
use crate::value::packed::Elements;
use crate::value::{NodeId, Packed, PortId, Str, StrRef};

/// Why a node in `secure` mode runs nothing for others.
const NOT_ALLOWED: &str = "remote execution not allowed";

impl Kernel {
    /// A packet to our node port. One of a node that is not connected (any more) is ignored: it was
    /// read before the connection was given up.
    ///
    /// Its effects are in [`Kernel::take_effects`] when this returns; packets that were behind it
    /// on the same connection come after them.
    pub fn node_packet(&mut self, from: &NodeId, elements: Elements<'_>) {
        // What the database knows of a node it forgets together with the connection.
        if !self.db.receive_one(from, elements, self.now.uptime) && self.is_up(from) {
            self.request(from, elements);
        }
    }

    pub(super) fn request(&mut self, from: &NodeId, elements: Elements<'_>) {
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
                self.log(Level::Warn, format!("request from {from}: its name is no string"));
            }
            return;
        };
        if let Err(why) = self.dispatch(from, name, elements.after(1)) {
            let (name, more) = beginning_of(name);
            self.log(Level::Warn, format!("request {name}{more} from {from}: {why}"));
        }
    }

    fn dispatch(
        &mut self,
        from: &NodeId,
        name: StrRef<'_>,
        arguments: Elements<'_>,
    ) -> Result<(), Refused> {
        let Some(info) = RequestInfo::find(name) else {
            return self.call(from, &name.to_owned(), arguments);
        };
        if info.handled_by == Handler::Database {
            self.database_request(from, name, arguments);
            return Ok(());
        }
        let parsed = Parsed::read(info.arguments, arguments)?;
        if self.secure && info.refused_if_secure {
            if let Parsed::Spawn { port, .. } = parsed {
                self.ports.spawn_failed(from, port, died(NOT_ALLOWED));
            }
            return Err(NOT_ALLOWED.to_owned());
        }
        match (info.name, parsed) {
            ("mon1", Parsed::Port(port)) => self.ports.monitored_by(&port, from),
            ("mon0", Parsed::Port(port)) => self.ports.unmonitored_by(&port, from),
            ("kil0", Parsed::PortAndReason(port, reason)) => {
                self.ports.remote_died(from, &port, &reason.to_packed());
            }
            ("kil1", Parsed::PortAndReason(port, reason)) => {
                if port.is_empty() {
                    return Err("the node port cannot be killed".to_owned());
                }
                self.ports.kill(port, reason.to_packed());
            }
            (_, Parsed::Spawn { port, function, arguments }) => {
                return self.spawn_here(from, port, function, arguments);
            }
            ("snd", Parsed::Reply(reply)) => return self.reply(reply, Builder::new()),
            ("time", Parsed::Reply(reply)) => {
                return self.reply(reply, Builder::new().float(self.now.wall));
            }
            ("can", Parsed::StringAndReply(asked, reply)) => {
                let asked = asked.as_ref().and_then(|name| RequestInfo::find(name.as_ref()));
                let known = asked.is_some_and(|info| info.is_offered(self.db.is_global()));
                return self.reply(reply, Builder::new().name(if known { "1" } else { "" }));
            }
            ("eval", Parsed::StringAndReply(expression, reply)) => {
                let expression = expression.ok_or("the expression is no string")?;
                return self.eval(from, expression, reply);
            }
            (MASTER_SET, _) => return Err("masters are chosen here".to_owned()),
            _ => return Ok(()),
        }
        self.follow_ports();
        Ok(())
    }

    fn database_request(&mut self, from: &NodeId, name: StrRef<'_>, arguments: Elements<'_>) {
        let was_global = self.db.is_global();
        self.db.receive(from, name, arguments, self.now.uptime);
        if !was_global && self.db.is_global() {
            self.log(Level::Info, format!("this node is global now: {from} asked for it"));
            self.look_for_orphans();
        }
    }

    /// Sends `to`'s first element the others, and `results` behind them; no destination, no reply.
    fn reply(&mut self, to: Elements<'_>, results: Builder) -> Result<(), Refused> {
        if to.is_empty() {
            return Ok(());
        }
        let id = argument(to).ok_or("the destination is no string")?;
        let id = PortId::try_from(id).map_err(|error| error.to_string())?;
        let results = results.build();
        let message = Builder::new().elements(to.after(1)).elements(results.as_elements()).build();
        self.send_message(&id, message);
        Ok(())
    }

    fn eval(&mut self, from: &NodeId, expression: Str, reply: Elements<'_>) -> Result<(), Refused> {
        let Some(known) = Known::of(&expression) else {
            let (from, reply) = (from.clone(), reply.to_packed());
            self.effects.push(Effect::Eval { expression, from, reply });
            return Ok(());
        };
        // No error, and then the results.
        let results = self.evaluate(known, Builder::new().name(""));
        self.reply(reply, results)
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
        }
    }

    /// The answer to an [`Effect::Eval`]: the error text, empty if there is none, and results.
    pub fn eval_done(&mut self, reply: &Packed, error: &str, results: Elements<'_>) {
        let results = Builder::new().text(error).elements(results);
        if let Err(why) = self.reply(reply.as_elements(), results) {
            self.log(Level::Warn, format!("reply to eval: {why}"));
        }
    }

    fn spawn_here(
        &mut self,
        from: &NodeId,
        port: Str,
        function: Option<Str>,
        arguments: Elements<'_>,
    ) -> Result<(), Refused> {
        if port.is_empty() {
            return Err("the node port cannot be spawned".to_owned());
        }
        if self.ports.exists(&port) {
            return Err(format!("port {port} exists"));
        }
        let function = function.ok_or_else(|| "the function's name is no string".to_owned());
        let function = function.and_then(|function| match self.functions.contains(&function) {
            true => Ok(function),
            false => Err(format!("function {function} is not registered here")),
        });
        match function {
            Ok(function) => {
                self.ports.spawned(port.clone(), from);
                let arguments = arguments.to_packed();
                let init = Call { function, arguments, from: from.clone() };
                self.effects.push(Effect::Spawned { port, init });
                Ok(())
            }
            Err(why) => {
                self.ports.spawn_failed(from, port, died(&why));
                Err(why)
            }
        }
    }

    fn call(&mut self, from: &NodeId, name: &Str, arguments: Elements<'_>) -> Result<(), Refused> {
        if self.secure {
            return Err(NOT_ALLOWED.to_owned());
        }
        if !self.functions.contains(name) {
            return Err("no such request, and no function of that name is registered".to_owned());
        }
        self.effects.push(Effect::Call(Call {
            function: name.clone(),
            arguments: arguments.to_packed(),
            from: from.clone(),
        }));
        Ok(())
    }

    /// A message to the kernel's own port: the answer to one of its questions.
    pub fn service_message(&mut self, from: &NodeId, message: Elements<'_>) {
        let Some((Question { about, number }, answers)) = Question::answered_by(message) else {
            return self.log(Level::Debug, format!("{from} answered something that nobody asked"));
        };
        match about {
            About::Life => {
                self.mesh.probe_answered(from, number, self.now.uptime);
                self.follow_mesh();
            }
            About::Order => {
                if let Some(node) = self.healing.waits_for_barrier(from, number) {
                    self.with_healing(&node, |healing, standing, now, _| {
                        healing.barrier_passed(&node, from, standing, now);
                    });
                }
            }
            About::Silence => self.with_healing(from, |healing, standing, _, _| {
                healing.is_silent(from, number, standing);
            }),
            About::Master => {
                let named = answers.get(1).and_then(|master| {
                    self.db.globals().find(|global| global.as_str() == master.as_ref()).cloned()
                });
                self.with_healing(from, |healing, standing, now, _| {
                    healing.master_answered(from, number, &answers, named, standing, now);
                });
            }
        }
    }
}
