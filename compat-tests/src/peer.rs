//! The scripted Perl peer (`perl/peer.pl`), driven by the test.

use crate::dialogue::Dialogue;
use crate::neutral::hex;
use crate::perl;
use serde_json::{Value, json};

/// The modules that it needs.
pub const MODULES: &[&str] = &[
    "AnyEvent",
    "CBOR::XS",
    "Digest::HMAC",
    "Digest::SHA3",
    "EV",
    "JSON::XS",
    "Net::SSLeay",
    "Storable",
];

/// The peer's process; it may have any number of connections, each with a name.
#[derive(Debug)]
pub struct Peer {
    dialogue: Dialogue,
}

/// The result of a handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HandshakeResult {
    /// The other side has authenticated; only an answer shows whether it accepted us.
    Up,
    /// The connection is closed, with the reason as the peer saw it.
    Closed(String),
}

impl Peer {
    /// Starts it, or says why the test is skipped.
    pub fn start() -> Option<Peer> {
        perl::has(MODULES).then(|| Peer {
            dialogue: Dialogue::new(perl::start("the Perl peer", "peer.pl", &[], &[])),
        })
    }

    /// Connects to a port of 127.0.0.1. Options: see `perl/peer.pl`.
    pub fn dial(&mut self, conn: &str, port: u16, options: &Value) {
        self.command("dial", conn, options, ("port", port.into()));
    }

    /// Listens on a free port of 127.0.0.1 and returns its number. Connections are called
    /// `CONN.1`, `CONN.2` and so on.
    pub fn listen(&mut self, conn: &str, options: &Value) -> u16 {
        self.command("listen", conn, options, ("port", Value::Null));
        let port = &self.event(conn, "listening")["port"];
        u16::try_from(port.as_u64().unwrap()).unwrap()
    }

    /// Sends a packet.
    pub fn send(&mut self, conn: &str, packet: Value) {
        self.command("send", conn, &json!({}), ("packet", packet));
    }

    /// Sends octets.
    pub fn raw(&mut self, conn: &str, octets: &[u8]) {
        self.command("raw", conn, &json!({}), ("hex", hex(octets).into()));
    }

    /// Closes a connection, or a listener.
    pub fn close(&mut self, conn: &str) {
        self.command("close", conn, &json!({}), ("hex", Value::Null));
    }

    /// Waits for the next event of that kind on a connection.
    pub fn event(&mut self, conn: &str, kind: &str) -> Value {
        self.dialogue.expect(&format!("{kind} on {conn}"), |event| {
            event["conn"] == conn && event["event"] == kind
        })
    }

    /// Waits for the next event of one of these kinds on a connection.
    pub fn event_of(&mut self, conn: &str, kinds: &[&str]) -> Value {
        self.dialogue.expect(&format!("{kinds:?} on {conn}"), |event| {
            event["conn"] == conn && kinds.iter().any(|kind| event["event"] == *kind)
        })
    }

    /// Waits until the other side has authenticated or closed.
    pub fn outcome(&mut self, conn: &str) -> HandshakeResult {
        outcome(&self.event_of(conn, &["up", "closed"]))
    }

    /// Waits for a packet to one of our ports.
    pub fn packet(&mut self, conn: &str, port: &Value) -> Value {
        let event = self.dialogue.expect(&format!("a packet to {port} on {conn}"), |event| {
            event["conn"] == conn && event["packet"][0] == *port
        });
        event["packet"].clone()
    }

    /// Asks the other side to relay a message to our port `name` and waits for that message, or
    /// for the connection to close. `node` is the node ID in our greeting.
    pub fn echo(&mut self, conn: &str, node: &str, name: &str) -> HandshakeResult {
        let to = format!("{node}#{name}");
        self.send(conn, json!(["", "snd", to, "echo", name]));
        let event = self.dialogue.expect(&format!("the echo {name} on {conn}"), |event| {
            event["conn"] == conn
                && (event["packet"] == json!([name, "echo", name]) || event["event"] == "closed")
        });
        outcome(&event)
    }

    fn command(&mut self, name: &str, conn: &str, options: &Value, (key, value): (&str, Value)) {
        let mut command = options.clone();
        command["do"] = name.into();
        command["conn"] = conn.into();
        command[key] = value;
        self.dialogue.tell(&command);
    }
}

fn outcome(event: &Value) -> HandshakeResult {
    if event["event"] == "closed" {
        HandshakeResult::Closed(event["why"].as_str().unwrap().to_owned())
    } else {
        HandshakeResult::Up
    }
}
