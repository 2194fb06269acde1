//! The node requests: one table of all of them, and the parsing of their arguments.

use super::effect::died;
use crate::value::packed::{Elements, Reader, Token};
use crate::value::{InvalidId, NodeId, Packed, PortId, Str, StrRef, same};
use thiserror::Error;

/// A node request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestInfo {
    /// Its name, as in `can`; the first element after the name of the node port.
    pub name: &'static str,
    /// Its arguments.
    pub arguments: Arguments,
    /// The machine that handles it.
    pub handled_by: Handler,
    /// Whether it makes this node run a function, so that a node in `secure` mode refuses it.
    pub refused_if_secure: bool,
    /// Whether only global nodes handle it.
    pub only_global: bool,
}

/// The arguments of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arguments {
    /// They are ignored.
    Ignored,
    /// The name of a port of the receiver.
    OwnPort,
    /// The name of a port of the receiver, and a reason.
    OwnPortAndReason,
    /// The name of a port of the sender, and a reason.
    SendersPortAndReason,
    /// The destination of a message, and the message. The results are appended to it; without a
    /// destination there is no reply.
    Reply,
    /// A string, followed by [`Arguments::Reply`].
    StringAndReply,
    /// The name of the new port, the name of its first function, and the function's arguments.
    Spawn,
    /// Parsed by the database ([`db::Request`](super::db::Request)).
    Database,
}

/// The machine that handles a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handler {
    /// The ports and monitors.
    Ports,
    /// The database.
    Database,
    /// The kernel itself, which replies, or passes it to its host.
    Kernel,
}

/// All requests, sorted by name.
pub const REQUESTS: &[RequestInfo] = {
    use Arguments::{
        Database as InDb, Ignored, OwnPort, OwnPortAndReason, Reply, SendersPortAndReason, Spawn,
        StringAndReply,
    };
    use Handler::{Database, Kernel, Ports};
    &[
        request("", Ignored, Kernel),
        // Makes a Perl slave adopt a master. Nodes of this implementation choose their master
        // themselves.
        request(MASTER_SET, Ignored, Kernel),
        request(SPAWN, Spawn, Ports).refused_if_secure(),
        request("can", StringAndReply, Kernel),
        request("devnull", Ignored, Kernel),
        request("eval", StringAndReply, Kernel).refused_if_secure(),
        request("g_chg1", InDb, Database),
        request("g_chg2", InDb, Database),
        request("g_db_family", InDb, Database).only_global(),
        request("g_db_keys", InDb, Database).only_global(),
        request("g_db_values", InDb, Database).only_global(),
        request("g_find", InDb, Database).only_global(),
        request("g_found", InDb, Database),
        // An extension, sent to nodes whose greeting announces support.
        request("g_get", InDb, Database).only_global(),
        request("g_global", InDb, Database),
        request("g_mon0", InDb, Database).only_global(),
        request("g_mon1", InDb, Database).only_global(),
        request("g_reply", InDb, Database),
        request("g_set", InDb, Database).only_global(),
        request("g_slave", InDb, Database),
        request("g_upd", InDb, Database).only_global(),
        request("kil0", SendersPortAndReason, Ports),
        request("kil1", OwnPortAndReason, Ports),
        request("mon0", OwnPort, Ports),
        request("mon1", OwnPort, Ports),
        request("snd", Reply, Kernel),
        request("time", Reply, Kernel),
    ]
};

/// Perl's name for the request that spawns a port.
pub(super) const SPAWN: &str = "AnyEvent::MP::_spawn";
/// Perl's name for the function that makes a slave adopt a master.
pub(super) const MASTER_SET: &str = "AnyEvent::MP::Kernel::master_set";

const fn request(name: &'static str, arguments: Arguments, handled_by: Handler) -> RequestInfo {
    RequestInfo { name, arguments, handled_by, refused_if_secure: false, only_global: false }
}

impl RequestInfo {
    const fn refused_if_secure(mut self) -> Self {
        self.refused_if_secure = true;
        self
    }

    const fn only_global(mut self) -> Self {
        self.only_global = true;
        self
    }

    /// The request of this name.
    pub(super) fn find(name: StrRef<'_>) -> Option<&'static RequestInfo> {
        // Few names have the same length, so this is faster than a binary search.
        REQUESTS.iter().find(|request| same(request.name.as_bytes(), name.data()))
    }

    /// The answer to `can`. Perl does not include the functions that it calls by their full name.
    pub(super) fn is_offered(&self, by_global_node: bool) -> bool {
        !self.name.contains("::") && (by_global_node || !self.only_global)
    }
}

/// The maximum octets of a port name in a request.
const MAX_PORT_NAME_LEN: usize = 64 << 10;

/// The maximum octets of a string in a request: a name, an expression, or the ID of a port. It is copied
/// while the kernel is locked.
const MAX_STRING_LEN: usize = 256 << 10;

/// The maximum octets of the reason of a death.
const MAX_REASON_LEN: usize = 64 << 10;

/// Why a request was not carried out; the text follows the request's name in the log. What the peer
/// chose is cut.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum Refused {
    /// For a reason that names nothing of the request.
    #[error("{0}")]
    Because(&'static str),
    /// The port that is to be spawned exists.
    #[error("port {} exists", .0.as_ref().beginning())]
    PortExists(Str),
    /// The program has no such function.
    #[error("function {} is not registered here", .0.as_ref().beginning())]
    NotRegistered(Str),
    /// The name of a port is too long.
    #[error("the port's name is longer than {MAX_PORT_NAME_LEN} octets")]
    LongPortName,
    /// The destination of a reply is no port.
    #[error(transparent)]
    Destination(#[from] InvalidId),
}

impl From<&'static str> for Refused {
    fn from(why: &'static str) -> Self {
        Refused::Because(why)
    }
}

/// The parsed arguments of a request other than the database's.
#[derive(Debug)]
pub(super) enum Parsed<'a> {
    Nothing,
    Port(Str),
    PortAndReason(Str, Packed),
    Reply(Elements<'a>),
    /// The string is `None` if the argument is not a string, or too long.
    StringAndReply(Option<Str>, Elements<'a>),
    Spawn {
        port: Str,
        function: Option<Str>,
        arguments: Elements<'a>,
    },
}

impl<'a> Parsed<'a> {
    pub(super) fn read(kind: Arguments, arguments: Elements<'a>) -> Result<Self, Refused> {
        Ok(match kind {
            Arguments::Ignored | Arguments::Database => Parsed::Nothing,
            Arguments::OwnPort => Parsed::Port(port_name(arguments)?),
            Arguments::OwnPortAndReason | Arguments::SendersPortAndReason => {
                Parsed::PortAndReason(port_name(arguments)?, reason(arguments.after(1)))
            }
            Arguments::Reply => Parsed::Reply(arguments),
            Arguments::StringAndReply => {
                Parsed::StringAndReply(argument(arguments), arguments.after(1))
            }
            Arguments::Spawn => Parsed::Spawn {
                port: port_name(arguments)?,
                function: argument(arguments.after(1)),
                arguments: arguments.after(2),
            },
        })
    }
}

/// The port of node `own` that a request to its node port concerns, if it concerns one.
///
/// A host that has ports unknown to the kernel adds this one
/// ([`Kernel::add_port`](super::Kernel::add_port)) before it passes the request to the kernel. Requests
/// that return to the same node port by a relay are included.
pub fn port_named_by(own: &NodeId, request: Elements<'_>) -> Option<Str> {
    let mut request = request;
    loop {
        let info = RequestInfo::find(request.first_str()?)?;
        let reply = match info.arguments {
            Arguments::OwnPort | Arguments::OwnPortAndReason | Arguments::Spawn => {
                return argument(request.after(1));
            }
            Arguments::Reply => request.after(1),
            Arguments::StringAndReply => request.after(2),
            Arguments::Ignored | Arguments::SendersPortAndReason | Arguments::Database => {
                return None;
            }
        };
        let to = reply.first_str()?;
        if !to.data().starts_with(own.as_str().data()) {
            return None;
        }
        let to = PortId::try_from(to.to_owned()).ok()?;
        if to.node_str() != own.as_str() || !to.is_node_port() {
            return None;
        }
        request = reply.after(1);
    }
}

/// The first element as a string. As in Perl, numbers become strings, and undef becomes the empty
/// string.
pub(super) fn argument(elements: Elements<'_>) -> Option<Str> {
    if elements.is_empty() {
        return None;
    }
    scalar(&mut elements.reader())
}

/// The next value as a string, if it is a string of at most [`MAX_STRING_LEN`] octets, a number or undef.
pub(super) fn scalar(reader: &mut Reader<'_>) -> Option<Str> {
    Some(match reader.token().ok()? {
        Token::Str(string) if string.data().len() > MAX_STRING_LEN => return None,
        Token::Str(string) => string.to_owned(),
        Token::UInt(number) => Str::from(number.to_string()),
        Token::NInt(number) => Str::from(number.to_string()),
        Token::Float(number) => Str::from(crate::value::Number::Float(number).to_string()),
        Token::Exact(number) => Str::from(number.to_string()),
        Token::Undef => Str::default(),
        Token::Bool(_) | Token::Array(_) | Token::Hash(_) => return None,
    })
}

fn port_name(arguments: Elements<'_>) -> Result<Str, Refused> {
    if arguments.first_str().is_some_and(|name| name.data().len() > MAX_PORT_NAME_LEN) {
        return Err(Refused::LongPortName);
    }
    Ok(argument(arguments).ok_or("the port's name is missing or not a string")?)
}

/// The reason of a death. Each monitor gets a copy, so a reason that is too long is replaced.
fn reason(arguments: Elements<'_>) -> Packed {
    if arguments.octets().len() > MAX_REASON_LEN {
        return died(&format!("the reason was longer than {MAX_REASON_LEN} octets"));
    }
    arguments.to_packed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Packed;

    #[test]
    fn requests_are_found_by_name() {
        assert!(REQUESTS.is_sorted_by(|one, next| one.name < next.name));
        for request in REQUESTS {
            assert_eq!(RequestInfo::find(Str::text(request.name).as_ref()), Some(request));
        }
        assert_eq!(RequestInfo::find(Str::text("g_").as_ref()), None);
    }

    #[test]
    fn the_database_reads_the_requests_that_the_table_says_it_does() {
        for request in REQUESTS {
            let name = Str::text(request.name);
            let by_database = request.handled_by == Handler::Database;
            assert_eq!(super::super::db::Request::is_known(name.as_ref()), by_database, "{name}");
            assert_eq!(request.arguments == Arguments::Database, by_database, "{name}");
        }
    }

    #[test]
    fn a_request_names_a_port_directly_or_by_a_relay_to_the_same_node_port() {
        let own = NodeId::new("own").unwrap();
        let named = |request: Packed| port_named_by(&own, request.as_elements());
        let port = Some(Str::text("port"));
        assert_eq!(named(Packed::of(&("mon1", "port")).unwrap()), port);
        assert_eq!(named(Packed::of(&("kil1", "port", "die", "x")).unwrap()), port);
        assert_eq!(named(Packed::of(&(SPAWN, "port", "f")).unwrap()), port);
        assert_eq!(named(Packed::of(&("snd", "own", "kil1", "port")).unwrap()), port);
        assert_eq!(
            named(Packed::of(&("can", "x", "own#", "snd", "own", "kil1", "port")).unwrap()),
            port
        );
        for other in [
            Packed::of(&("kil0", "port")).unwrap(),
            Packed::of(&("snd", "own#x", "kil1", "port")).unwrap(),
            Packed::of(&("snd", "owner", "kil1", "port")).unwrap(),
            Packed::of(&("unknown", "port")).unwrap(),
            Packed::of(&("snd",)).unwrap(),
        ] {
            assert_eq!(named(other.clone()), None, "{other}");
        }
    }
}
