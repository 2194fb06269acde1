//! All kinds of handshakes, valid and invalid, between a scripted Perl peer and our node, in both roles.

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use compat_tests::cases::{self, Case};
use compat_tests::node::Aemp;
use compat_tests::peer::{HandshakeResult, Peer};
use serde_json::{Value, json};

/// A permanent connection that shows that the node goes on serving.
struct KeptConnection {
    echoes: usize,
}

impl KeptConnection {
    const NODE: &str = "witness";

    fn connect(peer: &mut Peer, node: &Aemp) -> KeptConnection {
        peer.dial(Self::NODE, node.port(), &json!({"node": Self::NODE}));
        assert_eq!(peer.outcome(Self::NODE), HandshakeResult::Up);
        let mut witness = KeptConnection { echoes: 0 };
        witness.assert_served(peer, "at the start");
        witness
    }

    fn assert_served(&mut self, peer: &mut Peer, when: &str) {
        self.echoes += 1;
        let echo = peer.echo(Self::NODE, Self::NODE, &format!("port{}", self.echoes));
        assert_eq!(echo, HandshakeResult::Up, "the connection that was there before, {when}");
    }
}

/// Whether the other side accepts us: it authenticates, and it answers.
fn is_taken(peer: &mut Peer, conn: &str, case: &Case) -> HandshakeResult {
    match peer.outcome(conn) {
        HandshakeResult::Up => peer.echo(conn, &case.node, "port1"),
        closed => closed,
    }
}

/// The options of a case, for a peer that leaves it to the other side to close.
fn relaxed(case: &Case) -> Value {
    let mut options = case.options.clone();
    options["relax"] = true.into();
    options
}

fn assert_none(failures: &[String]) {
    assert!(failures.is_empty(), "{} cases failed:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn every_correct_dialler_is_accepted_and_echoed() {
    let Some(mut peer) = Peer::start() else {
        return;
    };
    let node = Aemp::start("rust-node", &[]);
    let mut failures = Vec::new();
    for case in cases::accepted() {
        peer.dial(case.name, node.port(), &case.options);
        if let HandshakeResult::Closed(why) = is_taken(&mut peer, case.name, &case) {
            failures.push(format!("{}: closed: {why}", case.name));
        }
    }
    assert_none(&failures);
}

#[test]
fn every_correct_listener_is_dialled_and_echoed() {
    let Some(mut peer) = Peer::start() else {
        return;
    };
    let cases = cases::accepted();
    let seeds: Vec<String> = cases
        .iter()
        .map(|case| format!("127.0.0.1:{}", peer.listen(case.name, &case.options)))
        .collect();
    let _node = Aemp::start("rust-node", &[("seeds", &seeds.join(","))]);
    let mut failures = Vec::new();
    for case in &cases {
        let conn = format!("{}.1", case.name);
        if let HandshakeResult::Closed(why) = is_taken(&mut peer, &conn, case) {
            failures.push(format!("{}: closed: {why}", case.name));
        }
    }
    assert_none(&failures);
}

#[test]
fn every_wrong_dialler_is_refused_and_the_node_goes_on_serving() {
    let Some(mut peer) = Peer::start() else {
        return;
    };
    let node = Aemp::start("rust-node", &[]);
    let mut witness = KeptConnection::connect(&mut peer, &node);
    let mut failures = Vec::new();
    for case in cases::refused(node.id()) {
        peer.dial(case.name, node.port(), &relaxed(&case));
        if is_taken(&mut peer, case.name, &case) == HandshakeResult::Up {
            failures.push(format!("{}: accepted", case.name));
        }
        witness.assert_served(&mut peer, case.name);
    }
    assert_none(&failures);
}

#[test]
fn every_wrong_listener_is_refused_and_the_node_goes_on_serving() {
    let Some(mut peer) = Peer::start() else {
        return;
    };
    let cases = cases::refused("rust-node");
    let seeds: Vec<String> = cases
        .iter()
        .map(|case| format!("127.0.0.1:{}", peer.listen(case.name, &relaxed(case))))
        .collect();
    let node = Aemp::start("rust-node", &[("seeds", &seeds.join(","))]);
    let mut witness = KeptConnection::connect(&mut peer, &node);
    let mut failures = Vec::new();
    for case in &cases {
        let conn = format!("{}.1", case.name);
        if is_taken(&mut peer, &conn, case) == HandshakeResult::Up {
            failures.push(format!("{}: accepted", case.name));
        }
    }
    witness.assert_served(&mut peer, "at the end");
    assert_none(&failures);
}

#[test]
fn a_method_that_is_not_in_auth_accept_is_refused() {
    let Some(mut peer) = Peer::start() else {
        return;
    };
    let node = Aemp::start("rust-node", &[("auth_accept", r#"["hmac_sha3_512"]"#)]);
    let mut witness = KeptConnection::connect(&mut peer, &node);
    peer.dial(
        "clear",
        node.port(),
        &json!({"node": "clear", "method": "cleartext", "relax": true}),
    );
    let greeting = peer.event("clear", "greeting");
    assert_eq!(greeting["auth"], json!(["hmac_sha3_512"]));
    if peer.outcome("clear") == HandshakeResult::Up {
        assert_ne!(peer.echo("clear", "clear", "port1"), HandshakeResult::Up);
    }
    witness.assert_served(&mut peer, "after the refusal");
}

#[test]
fn a_framing_that_is_not_in_framing_format_is_refused() {
    let Some(mut peer) = Peer::start() else {
        return;
    };
    let node = Aemp::start("rust-node", &[("framing_format", r#"["json"]"#)]);
    let mut witness = KeptConnection::connect(&mut peer, &node);
    for (conn, options) in [
        ("takes cbor only", json!({"node": "a", "framings": ["cbor"], "relax": true})),
        ("sends cbor", json!({"node": "b", "framing": "cbor", "relax": true})),
    ] {
        peer.dial(conn, node.port(), &options);
        if peer.outcome(conn) == HandshakeResult::Up {
            let echo = peer.echo(conn, options["node"].as_str().unwrap(), "port1");
            assert_ne!(echo, HandshakeResult::Up, "{conn}");
        }
        witness.assert_served(&mut peer, conn);
    }
}

#[test]
fn packets_that_come_with_the_authentication_are_answered() {
    let Some(mut peer) = Peer::start() else {
        return;
    };
    let node = Aemp::start("rust-node", &[]);
    let request = br#"["","snd","early#port1","first"]["","snd","early#port1","second"]"#;
    let options = json!({
        "node": "early",
        "framing": "json",
        "early": compat_tests::neutral::hex(request),
    });
    peer.dial("early", node.port(), &options);
    for word in ["first", "second"] {
        let packet = peer.packet("early", &json!("port1"));
        assert_eq!(packet, json!(["port1", word]));
    }
}

#[test]
fn a_second_connection_of_a_node_is_closed() {
    let Some(mut peer) = Peer::start() else {
        return;
    };
    let node = Aemp::start("rust-node", &[]);
    let options = json!({"node": "twin"});
    peer.dial("first", node.port(), &options);
    assert_eq!(peer.outcome("first"), HandshakeResult::Up);
    assert_eq!(peer.echo("first", "twin", "port1"), HandshakeResult::Up);
    peer.dial("second", node.port(), &options);
    assert!(matches!(peer.outcome("second"), HandshakeResult::Closed(_)));
    assert_eq!(peer.echo("first", "twin", "port2"), HandshakeResult::Up);
}

#[test]
fn a_second_connection_replaces_one_that_has_fallen_silent() {
    let Some(mut peer) = Peer::start() else {
        return;
    };
    let node = Aemp::start("rust-node", &[("connect_interval", "1")]);
    peer.dial("silent", node.port(), &json!({"node": "twin", "answer": false}));
    assert_eq!(peer.outcome("silent"), HandshakeResult::Up);
    assert_eq!(peer.echo("silent", "twin", "port1"), HandshakeResult::Up);
    peer.dial("restarted", node.port(), &json!({"node": "twin"}));
    assert_eq!(peer.outcome("restarted"), HandshakeResult::Up);
    assert_eq!(peer.echo("restarted", "twin", "port2"), HandshakeResult::Up);
    peer.event("silent", "closed");
}

/// Sends octets on a new connection and returns the seconds until the node closed it.
fn seconds_until_closed(peer: &mut Peer, node: &Aemp, framing: &str, octets: &[u8]) -> f64 {
    let conn = "garbage";
    let options = json!({"node": conn, "framings": [framing], "framing": framing});
    peer.dial(conn, node.port(), &options);
    assert_eq!(peer.outcome(conn), HandshakeResult::Up);
    assert_eq!(peer.echo(conn, conn, "port1"), HandshakeResult::Up);
    peer.raw(conn, octets);
    peer.event(conn, "closed")["after"].as_f64().unwrap()
}

/// A machine may be suspended for a moment; a node that waits for more octets, or for a timeout, is late
/// each time.
fn assert_closed_within_half_a_second(framing: &str, garbage: &[(&str, &[u8])]) {
    let Some(mut peer) = Peer::start() else {
        return;
    };
    let node = Aemp::start("rust-node", &[]);
    let mut witness = KeptConnection::connect(&mut peer, &node);
    for (name, octets) in garbage {
        let fastest = (0..3)
            .map(|_| seconds_until_closed(&mut peer, &node, framing, octets))
            .find(|seconds| *seconds < 0.5);
        assert!(fastest.is_some(), "{name} in {framing}: closed, but too late");
        witness.assert_served(&mut peer, name);
    }
}

#[test]
fn an_invalid_json_packet_closes_the_connection_at_once() {
    assert_closed_within_half_a_second(
        "json",
        &[
            ("an object", br#"{"a":1}"#),
            ("an object first", b"[{}]"),
            ("an array first", br#"[["x"]]"#),
            ("null first", b"[null]"),
            ("a string", br#""str""#),
            ("a number", b"42 "),
            ("nonsense", b"nonsense"),
            ("an octet that is in no text", b"\xff"),
            ("such an octet in a string", b"[\"port\",\"\xff\"]"),
            ("600 opening brackets", &[b'['; 600]),
            ("deep nesting in an element", &[&b"[\"port\","[..], &[b'['; 600]].concat()),
        ],
    );
}

#[test]
fn an_invalid_cbor_packet_closes_the_connection_at_once() {
    assert_closed_within_half_a_second(
        "cbor",
        &[
            ("a map", b"\xa0"),
            ("a map first", b"\x81\xa0"),
            ("an array first", b"\x81\x80"),
            ("null first", b"\x81\xf6"),
            ("a string", b"\x43str"),
            ("a number", b"\x18\x2a"),
            ("a break without a beginning", b"\xff"),
            ("a reserved head", b"\x1c"),
            ("600 arrays", &[0x81; 600]),
        ],
    );
}

#[test]
fn an_invalid_storable_packet_closes_the_connection_at_once() {
    assert_closed_within_half_a_second(
        "storable",
        &[
            ("a length without an end", &[0xff; 16]),
            ("no image", b"\x05hello"),
            ("an empty image", b"\x00"),
            ("an image in native order", b"\x0b\x04\x0b\x0812345678"),
            // major 2 in network order, minor 11; then a hash, or an array with a hash first
            ("a hash", b"\x07\x05\x0b\x03\x00\x00\x00\x00"),
            ("a hash first", b"\x0d\x05\x0b\x02\x00\x00\x00\x01\x04\x03\x00\x00\x00\x00"),
        ],
    );
}

#[test]
fn keepalives_and_white_space_are_ignored() {
    let Some(mut peer) = Peer::start() else {
        return;
    };
    let node = Aemp::start("rust-node", &[]);
    for (framing, octets) in [
        ("json", &b"[]"[..]),
        ("json", br#"[""]"#),
        ("json", b" \t\r\n "),
        ("json", b"\n[ ]\n[ \"\" ]\n"),
        ("cbor", b"\x80"),
        ("cbor", b"\x81\x40\x81\x60"),
        ("cbor", b"\x9f\xff"),
        ("storable", b"\x07\x05\x0b\x02\x00\x00\x00\x00"),
        ("storable", b"\x09\x05\x0b\x02\x00\x00\x00\x01\x0a\x00"),
    ] {
        let conn = format!("{framing} {}", compat_tests::neutral::hex(octets));
        let id = "quiet";
        peer.dial(
            &conn,
            node.port(),
            &json!({"node": id, "framings": [framing], "framing": framing}),
        );
        assert_eq!(peer.outcome(&conn), HandshakeResult::Up);
        peer.raw(&conn, octets);
        assert_eq!(peer.echo(&conn, id, "port1"), HandshakeResult::Up, "{conn}");
        peer.close(&conn);
        peer.event(&conn, "closed");
    }
}

#[test]
fn packets_before_garbage_take_effect() {
    let Some(mut peer) = Peer::start() else {
        return;
    };
    let node = Aemp::start("rust-node", &[]);
    KeptConnection::connect(&mut peer, &node);
    peer.dial("mixed", node.port(), &json!({"node": "mixed", "framing": "json"}));
    assert_eq!(peer.outcome("mixed"), HandshakeResult::Up);
    peer.raw("mixed", br#"["","snd","witness#kept",1]["","snd","witness#kept",2]{"a":1}"#);
    peer.event("mixed", "closed");
    assert_eq!(peer.packet(KeptConnection::NODE, &json!("kept")), json!(["kept", 1]));
    assert_eq!(peer.packet(KeptConnection::NODE, &json!("kept")), json!(["kept", 2]));
}
