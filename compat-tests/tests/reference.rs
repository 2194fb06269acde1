//! What `docs/protocol.md` says of the reference, and no check of `aemp conform` shows: tried with real Perl
//! nodes and Perl's own encoders.

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use aemp::wire::auth::{Nonce, Secret};
use aemp::wire::framing::Framing;
use aemp::wire::session::{AuthOrder, Event, HandshakeConfig, Handshaker, Session};
use compat_tests::node::SECRET;
use compat_tests::peer::{HandshakeResult, Peer};
use compat_tests::perl;
use compat_tests::perl_node::{MODULES, PerlNode};
use compat_tests::process::TIMEOUT;
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

const PAGE: &str = include_str!("../../docs/protocol.md");

/// A real Perl node and a peer that plays other nodes, if there are both here.
fn cast(id: &str, settings: Value) -> Option<(PerlNode, Peer)> {
    match perl::has(MODULES) {
        true => Peer::start().map(|peer| (PerlNode::start(id, settings), peer)),
        false => None,
    }
}

fn port_of(address: &str) -> u16 {
    address.rsplit(':').next().unwrap().parse().unwrap()
}

/// Connects the peer with a node, as a node of that name.
fn joins(peer: &mut Peer, name: &str, node: &PerlNode) {
    peer.dial(name, port_of(node.address()), &json!({"node": name, "secret": SECRET}));
    assert_eq!(peer.outcome(name), HandshakeResult::Up);
}

/// The arguments of the next request of that name.
fn request(peer: &mut Peer, conn: &str, name: &str) -> Vec<Value> {
    loop {
        let packet = peer.packet(conn, &json!(""));
        if packet[1] == name {
            return packet.as_array().unwrap()[2..].to_vec();
        }
    }
}

/// Octets as the page writes them: hexadecimal digits, and texts in quotation marks.
fn octets(written: &str) -> Vec<u8> {
    assert!(PAGE.contains(written), "the page has no {written}");
    let mut octets = Vec::new();
    for (index, part) in written.split('"').enumerate() {
        if index % 2 == 1 {
            octets.extend(part.as_bytes());
            continue;
        }
        let digits: Vec<u8> = part.bytes().filter(u8::is_ascii_hexdigit).collect();
        octets.extend(compat_tests::neutral::unhex(std::str::from_utf8(&digits).unwrap()));
    }
    octets
}

/// The octets that Perl code returns.
fn made_by(node: &mut PerlNode, code: &str) -> Vec<u8> {
    let text = node.eval(&format!("unpack 'H*', do {{ {code} }}"));
    compat_tests::neutral::unhex(text[0].as_str().unwrap())
}

#[test]
fn storable_writes_references_booleans_and_numbers_of_values_as_the_page_says() {
    let Some((mut node, _peer)) = cast("storable", json!({})) else {
        return;
    };
    // All images begin with the version.
    let mut image = |value: &str| {
        let code =
            format!("require Storable; require Types::Serialiser; Storable::nfreeze({value})");
        made_by(&mut node, &code)[2..].to_vec()
    };
    let boolean = octets("14 11 11 \"JSON::PP::Boolean\" 08 81");
    assert_eq!(image("[Types::Serialiser::true]")[5..], boolean);
    assert_eq!(image("[\\1]")[5..], octets("04 08 81"));
    let numbered = "02 00000004  0a 01 \"a\"  04 11 01 \"X\" 02 00000000  04 02 00000001 08 81  04 00 00000005";
    assert_eq!(
        image("do { my $same = [1]; ['a', bless([], 'X'), $same, $same] }"),
        octets(numbered)
    );
    let own = "do { my $own = []; push @$own, $own; ['a', $own] }";
    // Here the array that consists of itself is number 3, after the packet, the text and the reference.
    assert_eq!(image(own)[8..], octets("04 02 00000001 04 00 00000003"));
}

#[test]
fn strings_enter_the_table_of_cbor_if_they_are_long_enough_for_the_next_number() {
    let Some((mut node, _peer)) = cast("cbor", json!({})) else {
        return;
    };
    // Two octets never; three as numbers 0 to 23; four from number 24 on.
    let texts: Vec<String> = (10..34).map(|number| format!("a{number}")).collect();
    let mut all = vec!["xx", "xx"];
    all.extend(texts.iter().map(String::as_str));
    all.extend(["a10", "a33", "yyy", "yyy", "zzzz", "zzzz"]);
    let list = all.iter().map(|text| format!("'{text}'")).collect::<Vec<_>>().join(", ");
    let made = made_by(
        &mut node,
        &format!("require CBOR::XS; CBOR::XS->new->pack_strings(1)->encode([{list}])"),
    );
    let mut wanted = vec![0xd9, 0x01, 0x00, 0x98, u8::try_from(all.len()).unwrap()];
    let references: [(usize, &[u8]); 3] =
        [(26, &[0xd8, 0x19, 0x00]), (27, &[0xd8, 0x19, 0x17]), (31, &[0xd8, 0x19, 0x18, 0x18])];
    for (index, text) in all.iter().enumerate() {
        match references.iter().find(|(at, _)| *at == index) {
            Some((_, reference)) => wanted.extend(*reference),
            None => {
                wanted.push(0x40 + u8::try_from(text.len()).unwrap());
                wanted.extend(text.as_bytes());
            }
        }
    }
    assert_eq!(made, wanted);
}

#[test]
fn can_knows_the_requests_that_the_page_lists() {
    let Some((mut node, mut peer)) = cast("can", json!({})) else {
        return;
    };
    let (_, list) = PAGE.split_once("`can` answers `\"1\"` for the empty name and ").unwrap();
    let (of_all, list) = list.split_once("; on a global node also for").unwrap();
    // Ours know one more.
    let (of_globals, _) = list.split_once(" (ours: and").unwrap();
    let names = |list: &str| {
        let names = list.split('`').skip(1).step_by(2).map(str::to_owned);
        names.collect::<Vec<_>>()
    };
    let known = |node: &mut PerlNode| {
        let known = node.eval("sort grep length, keys %AnyEvent::MP::Kernel::NODE_REQ");
        serde_json::from_value::<Vec<String>>(known).unwrap()
    };
    assert_eq!(known(&mut node), names(of_all));
    joins(&mut peer, "asker", &node);
    peer.send("asker", json!(["", "g_slave"]));
    request(&mut peer, "asker", "g_global");
    let mut all = [names(of_all), names(of_globals)].concat();
    all.sort();
    assert_eq!(known(&mut node), all);
}

#[test]
fn a_node_that_turns_global_is_its_own_master_and_answers_itself() {
    let Some((mut node, mut peer)) = cast("turns", json!({})) else {
        return;
    };
    node.run("db_set", json!({"family": "fam", "key": "own", "value": 1}));
    // Without a master these wait.
    node.run("db_family", json!({"family": "fam", "label": "query"}));
    node.run("db_mon", json!({"family": "fam", "label": "monitor"}));
    joins(&mut peer, "slave", &node);
    peer.send("slave", json!(["", "g_slave"]));
    request(&mut peer, "slave", "g_global");
    assert_eq!(node.event("database", "query", |_| true)["result"], json!({"own": 1}));
    assert_eq!(node.event("family", "monitor", |_| true)["content"], json!({"own": 1}));
    assert_eq!(node.eval("$AnyEvent::MP::Kernel::MASTER"), json!([node.id()]));
    node.run("db_family", json!({"family": "'g", "label": "globals"}));
    assert_eq!(node.event("database", "globals", |_| true)["result"], json!({"turns": null}));
}

#[test]
fn the_first_report_of_an_empty_family_is_empty() {
    let Some((mut node, mut peer)) = cast("empty", json!({})) else {
        return;
    };
    joins(&mut peer, "slave", &node);
    peer.send("slave", json!(["", "g_slave"]));
    node.run("db_mon", json!({"family": "none", "label": "none"}));
    let first = node.event("family", "none", |_| true);
    assert_eq!(first["content"], json!({}), "{first}");
}

#[test]
fn answers_of_a_node_that_is_not_the_master_are_taken() {
    if !perl::has(MODULES) {
        return;
    }
    let Some(mut peer) = Peer::start() else {
        return;
    };
    let seed = peer.listen("seed", &json!({"node": "seed", "secret": SECRET}));
    let settings = json!({"seeds": [format!("127.0.0.1:{seed}")]});
    let mut node = PerlNode::start("asks", settings);
    assert_eq!(peer.outcome("seed.1"), HandshakeResult::Up);
    peer.send("seed.1", json!(["", "g_global"]));
    joins(&mut peer, "stranger", &node);
    node.run("db_family", json!({"family": "fam", "label": "query"}));
    let asked = request(&mut peer, "seed.1", "g_db_family");
    peer.send("stranger", json!(["", "g_reply", asked[1], {"who": "stranger"}]));
    let answer = node.event("database", "query", |_| true);
    assert_eq!(answer["result"], json!({"who": "stranger"}));
    let hidden = peer.listen("hidden", &json!({"node": "hidden", "secret": SECRET}));
    node.snd("hidden#port", json!(["hello"]));
    assert_eq!(request(&mut peer, "seed.1", "g_find"), [json!("hidden")]);
    peer.send("stranger", json!(["", "g_found", "hidden", [format!("127.0.0.1:{hidden}")]]));
    assert_eq!(peer.packet("hidden.1", &json!("port")), json!(["port", "hello"]));
}

#[test]
fn a_monitor_on_a_node_port_is_never_answered() {
    let Some((node, mut peer)) = cast("node-port", json!({})) else {
        return;
    };
    joins(&mut peer, "monitors", &node);
    peer.send("monitors", json!(["", "mon1", ""]));
    peer.send("monitors", json!(["", "mon1", "nowhere"]));
    // In order: the answer to the first one would come before this.
    assert_eq!(request(&mut peer, "monitors", "kil0")[0], json!("nowhere"));
}

#[test]
fn the_version_of_log_catching_is_not_looked_at() {
    let Some((node, mut peer)) = cast("logs", json!({})) else {
        return;
    };
    joins(&mut peer, "catcher", &node);
    let connect = "AnyEvent::MP::LogCatcher::connect";
    peer.send("catcher", json!(["", connect, 99, "catcher#log", 9]));
    assert_eq!(request(&mut peer, "catcher", "mon1"), [json!("log")]);
}

#[test]
fn a_bind_without_a_port_takes_any_and_a_seed_without_one_is_port_0() {
    if !perl::has(MODULES) {
        return;
    }
    let settings = json!({"binds": ["127.0.0.1"], "seeds": ["127.0.0.1"]});
    let mut node = PerlNode::start("ports", settings);
    assert_ne!(port_of(node.address()), 0);
    let seeds = node.eval("keys %AnyEvent::MP::Kernel::SEED_NODE");
    assert_eq!(seeds, json!(["127.0.0.1:0"]));
}

#[test]
fn of_several_slaves_that_have_a_deleted_key_one_keeps_its_value() {
    let Some((mut node, mut peer)) = cast("owners", json!({})) else {
        return;
    };
    for slave in ["one", "two", "three"] {
        joins(&mut peer, slave, &node);
        peer.send(slave, json!(["", "g_slave", {"fam": {"key": slave}}]));
        assert_eq!(peer.echo(slave, slave, "barrier"), HandshakeResult::Up);
    }
    peer.send("three", json!(["", "g_upd", "fam", null, ["key"]]));
    assert_eq!(peer.echo("three", "three", "deleted"), HandshakeResult::Up);
    node.run("db_family", json!({"family": "fam", "label": "left"}));
    let left = node.event("database", "left", |_| true)["result"]["key"].clone();
    assert!(left == "one" || left == "two", "{left}");
}

/// A connection of a handshake that the test takes from step to step.
struct Step {
    stream: TcpStream,
    session: Session,
}

impl Step {
    fn greets(address: &str, name: &str, nonce: u8) -> Step {
        let mut config = HandshakeConfig::new(name);
        config.secret = Secret::new(SECRET.as_bytes());
        config.framings = vec![Framing::Json];
        let nonce = Nonce::from_random(&[nonce; Nonce::OCTETS]);
        let session = Handshaker::new(config).unwrap().dial(nonce, "127.0.0.1");
        let mut step = Step { stream: TcpStream::connect(address).unwrap(), session };
        assert!(matches!(step.event(), Event::Greeted));
        step
    }

    fn event(&mut self) -> Event {
        loop {
            while let Some(octets) = self.session.transmit() {
                self.stream.write_all(&octets).unwrap();
            }
            if let Some(event) = self.session.poll().unwrap() {
                return event;
            }
            let mut piece = [0; 4096];
            let read = self.stream.read(&mut piece).unwrap();
            assert_ne!(read, 0, "the node closed the connection");
            self.session.input().extend_from_slice(&piece[..read]);
        }
    }

    fn authenticates(&mut self) {
        self.session.proceed(AuthOrder::Now);
        assert!(matches!(self.event(), Event::Established(_)));
    }

    /// Waits until the node closes the connection.
    fn ends(&mut self) {
        self.stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        loop {
            match self.stream.read(&mut [0; 4096]) {
                Ok(1..) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    panic!("the node does not close the connection")
                }
                Ok(0) | Err(_) => return,
            }
        }
    }
}

#[test]
fn of_two_authenticated_connections_the_later_one_replaces_the_earlier_one_and_ends_too() {
    if !perl::has(MODULES) {
        return;
    }
    let mut node = PerlNode::start("crossed", json!({}));
    let mut first = Step::greets(node.address(), "twice", 1);
    let mut second = Step::greets(node.address(), "twice", 2);
    first.authenticates();
    node.sees_up("twice");
    second.authenticates();
    node.sees_down("twice");
    node.sees_up("twice");
    first.ends();
    // Nothing in the reference holds on to a node that was down for a moment.
    second.ends();
    assert!(!node.nodes().contains(&"twice".to_owned()));
}
