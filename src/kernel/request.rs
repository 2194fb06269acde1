//! Node requests: what a packet to the node port makes this node do.

use super::Kernel;
use super::effect::{Builder, Call, Effect, Level, Reason};
use super::monitor::no_such_port;
use super::ports::Monitored;
use crate::value::packed::{Elements, Reader, Token};
use crate::value::{NodeId, Packed, PortId, Str, StrRef};

/// The requests that every node knows, for `can`.
const KNOWN: &[&str] = &[
    "", "can", "devnull", "eval", "g_chg1", "g_chg2", "g_found", "g_global", "g_reply", "g_slave",
    "kil0", "kil1", "mon0", "mon1", "snd", "time",
];
/// The requests that a global node knows besides.
const KNOWN_IF_GLOBAL: &[&str] =
    &["g_db_family", "g_db_keys", "g_db_values", "g_find", "g_mon0", "g_mon1", "g_set", "g_upd"];
/// Perl's name of the request that spawns a port.
const SPAWN: &str = "AnyEvent::MP::_spawn";
/// Makes a Perl slave adopt a master; we choose ours ourselves.
pub(super) const MASTER_SET: &str = "AnyEvent::MP::Kernel::master_set";

/// Why a request was not carried out; the text follows the request's name in the log.
type Refused = String;

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
        let arguments = elements.after(1);
        if let Err(why) = self.dispatch(from, name, arguments) {
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
        if name.data().starts_with(b"g_") {
            return self.database_request(from, name, arguments);
        }
        match &*name.to_text_lossy() {
            "" | "devnull" => Ok(()),
            "mon1" => self.mon1(from, &port_name(arguments)?),
            "mon0" => {
                self.ports.unmonitored_by(&port_name(arguments)?, from);
                Ok(())
            }
            "kil0" => {
                let reason = arguments.after(1).to_packed();
                self.remote_port_died(from, &port_name(arguments)?, &reason);
                Ok(())
            }
            "kil1" => {
                let port = port_name(arguments)?;
                if port.is_empty() {
                    return Err("the node port cannot be killed".to_owned());
                }
                self.kill_local(port, arguments.after(1).to_packed());
                Ok(())
            }
            "snd" => self.reply(arguments, Builder::new()),
            "can" => {
                let known = argument(arguments).is_some_and(|asked| self.knows(&asked));
                self.reply(arguments.after(1), Builder::new().name(if known { "1" } else { "" }))
            }
            "time" => self.reply(arguments, Builder::new().float(self.now.wall)),
            "eval" => self.eval(from, arguments),
            SPAWN => self.spawn_here(from, arguments),
            MASTER_SET => Err("masters are chosen here".to_owned()),
            _ => self.call(from, &name.to_owned(), arguments),
        }
    }

    fn knows(&self, name: &Str) -> bool {
        let name = name.to_text_lossy();
        KNOWN.contains(&&*name) || (self.db.is_global() && KNOWN_IF_GLOBAL.contains(&&*name))
    }

    fn mon1(&mut self, from: &NodeId, port: &Str) -> Result<(), Refused> {
        if port.is_empty() {
            return Ok(());
        }
        let reason = match self.ports.monitored_by(port, from) {
            Monitored::Yes => return Ok(()),
            Monitored::Died(reason) => reason,
            Monitored::NoSuchPort => no_such_port(&self.config.node, port.as_ref()),
        };
        let packet =
            Builder::request("kil0").string(port.as_ref()).elements(reason.as_elements()).build();
        self.send(from, packet);
        Ok(())
    }

    /// Sends `to`'s first element the others, and `results` behind them; no destination, no reply.
    pub(super) fn reply(&mut self, to: Elements<'_>, results: Builder) -> Result<(), Refused> {
        if to.is_empty() {
            return Ok(());
        }
        let id = argument(to).ok_or("the destination is no string")?;
        let id = PortId::try_from(id).map_err(|error| error.to_string())?;
        let results = results.build();
        let message = Builder::new().elements(to.after(1)).elements(results.as_elements()).build();
        let own = self.config.node.clone();
        self.send_to_port(&id, message, &own);
        Ok(())
    }

    fn eval(&mut self, from: &NodeId, arguments: Elements<'_>) -> Result<(), Refused> {
        self.refuse_if_secure()?;
        let expression = argument(arguments).ok_or("the expression is no string")?;
        let reply = arguments.after(1);
        match self.well_known(&expression) {
            Some(results) => {
                let results = results.build();
                self.reply(reply, Builder::new().name("").elements(results.as_elements()))
            }
            None => {
                self.effects.push(Effect::Eval {
                    expression,
                    from: from.clone(),
                    reply: reply.to_packed(),
                });
                Ok(())
            }
        }
    }

    /// The answer to an [`Effect::Eval`]: the error text, empty if there is none, and results.
    pub fn eval_done(&mut self, reply: &Packed, error: &str, results: Elements<'_>) {
        let results = Builder::new().text(error).elements(results);
        if let Err(why) = self.reply(reply.as_elements(), results) {
            self.log(Level::Warn, format!("reply to eval: {why}"));
        }
    }

    fn spawn_here(&mut self, from: &NodeId, arguments: Elements<'_>) -> Result<(), Refused> {
        let port = port_name(arguments)?;
        let refused = if self.config.secure {
            Some("remote execution not allowed".to_owned())
        } else if port.is_empty() {
            return Err("the node port cannot be spawned".to_owned());
        } else if self.ports.exists(&port) {
            return Err(format!("port {port} exists"));
        } else {
            None
        };
        let function = argument(arguments.after(1));
        let refused = refused.or_else(|| match &function {
            None => Some("the function's name is no string".to_owned()),
            Some(function) if !self.functions.contains(function) => {
                Some(format!("function {function} is not registered here"))
            }
            Some(_) => None,
        });
        if let Some(why) = refused {
            self.ports.remember(from.clone(), port, died(&why));
            return Err(why);
        }
        let function = function.unwrap_or_default();
        self.ports.open(port.clone(), Some(from.clone()));
        let arguments = arguments.after(2).to_packed();
        let init = Call { function, arguments, from: from.clone() };
        self.effects.push(Effect::Spawned { port, init });
        Ok(())
    }

    pub(super) fn call(
        &mut self,
        from: &NodeId,
        name: &Str,
        arguments: Elements<'_>,
    ) -> Result<(), Refused> {
        self.refuse_if_secure()?;
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

    fn refuse_if_secure(&self) -> Result<(), Refused> {
        if self.config.secure {
            return Err("remote execution not allowed".to_owned());
        }
        Ok(())
    }

    /// Lets others call the function `name`, or spawn ports that begin with it.
    pub fn register(&mut self, name: Str) {
        self.functions.insert(name);
    }

    /// Ends [`Kernel::register`].
    pub fn unregister(&mut self, name: &Str) {
        self.functions.remove(name);
    }

    /// Makes `node` spawn a port that begins with `function`; the port's ID is known at once.
    ///
    /// If that fails the port is dead and monitors fire. What Perl calls `spawn`.
    pub fn spawn(&mut self, node: &NodeId, function: &str, arguments: Elements<'_>) -> PortId {
        let name = self.new_remote_port_name();
        let request = Builder::new()
            .name("")
            .name(SPAWN)
            .string(name.as_ref())
            .text(function)
            .elements(arguments)
            .build();
        self.send(node, request);
        PortId::new(node, &name)
    }
}

/// As much of a name as the log shows: peers can make it as long as a packet.
fn beginning_of(name: StrRef<'_>) -> (Str, &'static str) {
    const SHOWN: usize = 200;
    if name.data().len() <= SHOWN {
        return (name.to_owned(), "");
    }
    let mut shown = String::new();
    for point in name.code_points().take(SHOWN) {
        shown.push(
            char::from_u32(point.try_into().unwrap_or(0)).unwrap_or(char::REPLACEMENT_CHARACTER),
        );
    }
    (Str::text(&shown), "...")
}

/// The reason of a port that failed: Perl's `die`, and the error.
pub(crate) fn died(text: &str) -> Reason {
    Builder::new().name("die").text(text).build()
}

/// The first element as a string; numbers become strings, undef is empty, as in Perl.
pub(super) fn argument(elements: Elements<'_>) -> Option<Str> {
    if elements.is_empty() {
        return None;
    }
    scalar(&mut elements.reader())
}

/// The next value as a string, if it is a string, a number or undef.
pub(super) fn scalar(reader: &mut Reader<'_>) -> Option<Str> {
    Some(match reader.token().ok()? {
        Token::Str(string) => string.to_owned(),
        Token::UInt(number) => Str::from(number.to_string()),
        Token::NInt(number) => Str::from(number.to_string()),
        Token::Float(number) => Str::from(crate::value::Number::Float(number).to_string()),
        Token::Undef => Str::default(),
        Token::Bool(_) | Token::Array(_) | Token::Hash(_) => return None,
    })
}

fn port_name(arguments: Elements<'_>) -> Result<Str, Refused> {
    argument(arguments).ok_or_else(|| "the port's name is missing or no string".to_owned())
}
