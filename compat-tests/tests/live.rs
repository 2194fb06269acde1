//! Networks of real Perl nodes (AnyEvent::MP) and ours.

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use compat_tests::cases;
use compat_tests::node::Aemp;
use compat_tests::peer::{HandshakeResult, Peer};
use compat_tests::perl;
use compat_tests::perl_node::{MODULES, PerlNode};
use serde_json::{Value, json};

const FRAMINGS: [&str; 3] = ["cbor", "json", "storable"];

/// `port` is the port number in an address.
fn port_of(address: &str) -> u16 {
    address.rsplit_once(':').unwrap().1.parse().unwrap()
}

/// Settings of a Perl node with these seeds and this framing.
fn joining(seeds: &[String], framing: &str) -> Value {
    json!({"seeds": seeds, "framing_format": [framing]})
}

/// All framings if there are real Perl nodes, otherwise none.
fn framings() -> &'static [&'static str] {
    if perl::has(MODULES) { &FRAMINGS } else { &[] }
}

/// A slave of Perl's with a seed of ours, in each framing.
fn perl_slaves() -> impl Iterator<Item = (Aemp, PerlNode)> {
    framings().iter().map(|framing| {
        let seed = Aemp::start("rust-seed", &[]);
        let slave = PerlNode::start("perl-slave", joining(&[seed.address()], framing));
        (seed, slave)
    })
}

/// A message after a node has relayed it.
fn assert_echoes(perl: &mut PerlNode, through: &str) {
    let port = perl.port("echo");
    let message = json!(["hello", 42, [1, null, {"key": "value"}], "\u{20ac}"]);
    let mut request = vec![json!("snd"), json!(port)];
    request.extend(message.as_array().unwrap().iter().cloned());
    perl.snd(through, request.into());
    assert_eq!(perl.message("echo"), message);
}

#[test]
fn the_scripted_peer_and_a_real_node_agree_on_every_correct_handshake() {
    if !perl::has(MODULES) {
        return;
    }
    let Some(mut peer) = Peer::start() else {
        return;
    };
    let node = PerlNode::start("perl-node", json!({}));
    for case in cases::accepted() {
        peer.dial(case.name, port_of(node.address()), &case.options);
        assert_eq!(peer.outcome(case.name), HandshakeResult::Up, "{}", case.name);
        assert_eq!(peer.echo(case.name, &case.node, "port1"), HandshakeResult::Up, "{}", case.name);
    }
}

#[test]
fn the_scripted_peer_and_a_real_node_agree_on_tls() {
    if !perl::has(MODULES) {
        return;
    }
    let Some(mut peer) = Peer::start() else {
        return;
    };
    let pem = compat_tests::certificate();
    let node = PerlNode::start("perl-node", json!({"cert": pem, "secret": null}));
    // The side with the smaller nonce is the TLS client.
    for (conn, nonce, role) in [("client", "!", "connect"), ("server", "~", "accept")] {
        let options = json!({"node": conn, "nonce": nonce, "cert": pem, "secret": null});
        peer.dial(conn, port_of(node.address()), &options);
        assert_eq!(peer.event(conn, "tls")["role"], role);
        assert_eq!(peer.event(conn, "auth")["method"], "tls_sha3_512");
        assert_eq!(peer.outcome(conn), HandshakeResult::Up);
        assert_eq!(peer.echo(conn, conn, "port1"), HandshakeResult::Up);
    }
}

#[test]
fn two_perl_nodes_reach_each_other_through_a_perl_seed() {
    if !perl::has(MODULES) {
        return;
    }
    let seed = PerlNode::start("perl-seed", json!({}));
    assert_two_perl_nodes_reach_each_other(seed.address(), seed.id(), "json");
}

#[test]
fn a_perl_slave_joins_our_seed() {
    for (_seed, mut slave) in perl_slaves() {
        slave.sees_up("rust-seed");
        assert_echoes(&mut slave, "rust-seed");
    }
}

#[test]
fn a_perl_slave_uses_the_database_of_our_seed() {
    for (_seed, mut slave) in perl_slaves() {
        slave.run("db_mon", json!({"family": "colours", "label": "colours"}));
        slave.run("db_set", json!({"family": "colours", "key": "sky", "value": ["blue"]}));
        let told = slave.event("family", "colours", |event| !event["content"]["sky"].is_null());
        assert_eq!(told["content"], json!({"sky": ["blue"]}));
        slave.run("db_family", json!({"family": "colours", "label": "query"}));
        let answer = slave.event("database", "query", |_| true);
        assert_eq!(answer["result"], json!({"sky": ["blue"]}));
        slave.run("db_del", json!({"family": "colours", "keys": ["sky"]}));
        let told = slave.event("family", "colours", |event| event["deleted"] != json!([]));
        assert_eq!((&told["deleted"], &told["content"]), (&json!(["sky"]), &json!({})));
    }
}

#[test]
fn our_slave_joins_a_perl_seed() {
    for framing in framings() {
        let mut seed = PerlNode::start("perl-seed", json!({"framing_format": [framing]}));
        let slave = Aemp::start("rust-slave", &[("seeds", seed.address())]);
        seed.sees_up("rust-slave");
        assert_echoes(&mut seed, "rust-slave");
        // Perl's database knows where it listens once it has adopted the seed as its master.
        seed.run("db_mon", json!({"family": "'l", "label": "addresses"}));
        seed.event("family", "addresses", |event| {
            event["content"]["rust-slave"] == json!([slave.address()])
        });
    }
}

#[test]
fn each_direction_may_have_its_own_framing() {
    if !perl::has(MODULES) {
        return;
    }
    for ours in FRAMINGS {
        for perls in FRAMINGS.into_iter().filter(|perls| *perls != ours) {
            let order = json!([ours, perls]).to_string();
            let seed = Aemp::start("rust-seed", &[("framing_format", &order)]);
            let settings = json!({
                "seeds": [seed.address()],
                "framing_format": [perls, ours],
            });
            let mut slave = PerlNode::start("perl-slave", settings);
            slave.sees_up("rust-seed");
            assert_echoes(&mut slave, "rust-seed");
        }
    }
}

#[test]
fn two_perl_nodes_reach_each_other_through_our_seed() {
    for framing in framings() {
        let seed = Aemp::start("rust-seed", &[]);
        assert_two_perl_nodes_reach_each_other(&seed.address(), "rust-seed", framing);
    }
}

fn assert_two_perl_nodes_reach_each_other(seed: &str, seed_id: &str, framing: &str) {
    let settings = joining(&[seed.to_owned()], framing);
    let mut first = PerlNode::start("perl-first", settings.clone());
    let mut second = PerlNode::start("perl-second", settings);
    first.sees_up(seed_id);
    second.sees_up(seed_id);
    // The seed may learn of an address only after it is asked for it; a node that looks for one that has
    // just joined finds it in the database first.
    for perl in [&mut first, &mut second] {
        perl.run("db_mon", json!({"family": "'l", "label": "addresses"}));
        perl.event("family", "addresses", |event| {
            ["perl-first", "perl-second"].iter().all(|id| !event["content"][id].is_null())
        });
    }
    let (at_first, at_second) = (first.port("inbox"), second.port("inbox"));
    first.snd(&at_second, json!(["from first"]));
    assert_eq!(second.message("inbox"), json!(["from first"]));
    second.snd(&at_first, json!(["from second"]));
    assert_eq!(first.message("inbox"), json!(["from second"]));
    assert_echoes(&mut first, "perl-second");
}

#[test]
fn perl_finds_our_node_through_a_perl_seed() {
    if !perl::has(MODULES) {
        return;
    }
    let mut seed = PerlNode::start("perl-seed", json!({}));
    let seeds = [seed.address().to_owned()];
    let _ours = Aemp::start("rust-slave", &[("seeds", &seeds[0])]);
    seed.sees_up("rust-slave");
    let mut other = PerlNode::start("perl-slave", joining(&seeds, "cbor"));
    other.run("db_mon", json!({"family": "'l", "label": "addresses"}));
    other.event("family", "addresses", |event| !event["content"]["rust-slave"].is_null());
    assert_echoes(&mut other, "rust-slave");
}

#[test]
fn our_node_answers_the_requests_of_the_node_port() {
    for (_seed, mut perl) in perl_slaves() {
        perl.sees_up("rust-seed");
        let port = perl.port("reply");
        let mut ask = |request: Value| {
            perl.snd("rust-seed", request);
            perl.message("reply")
        };
        let truth = ask(json!(["can", "snd", port, "can"]));
        assert_eq!(truth, json!(["can", "1"]));
        let lie = ask(json!(["can", "no such request", port, "can"]));
        assert_eq!(lie, json!(["can", ""]));
        let time = ask(json!(["time", port, "time"]));
        let seconds = match &time[1] {
            Value::String(text) => text.parse().unwrap(),
            number => number.as_f64().unwrap(),
        };
        assert!(seconds > 1.7e9, "{time}");
        let up = ask(json!(["eval", "AnyEvent::MP::Kernel::up_nodes", port, "up"]));
        assert_eq!(up, json!(["up", "", "perl-slave"]));
        let unknown = ask(json!(["eval", "6 * 7", port, "eval"]));
        assert_ne!(unknown[1], "", "an error text is expected");
        // This has no effect and does no harm.
        perl.snd("rust-seed", json!(["devnull", 1, 2, 3]));
        perl.snd("rust-seed#no-such-port", json!(["lost"]));
        assert_echoes(&mut perl, "rust-seed");
    }
}

#[test]
fn a_monitor_on_a_port_that_does_not_exist_fires() {
    for (_seed, mut perl) in perl_slaves() {
        perl.sees_up("rust-seed");
        perl.run("mon", json!({"of": "rust-seed#none", "label": "none"}));
        let fired = perl.event("monitor", "none", |_| true);
        assert_eq!(fired["reason"][0], "no_such_port");
    }
}

#[test]
fn perls_monitors_fire_when_our_node_is_killed() {
    if !perl::has(MODULES) {
        return;
    }
    let mut seed = Aemp::start("rust-seed", &[]);
    let mut perl = PerlNode::start("perl-slave", joining(&[seed.address()], "cbor"));
    perl.sees_up("rust-seed");
    perl.run("mon", json!({"of": "rust-seed", "label": "node"}));
    assert_echoes(&mut perl, "rust-seed");
    seed.process().kill();
    let fired = perl.event("monitor", "node", |_| true);
    assert_eq!(fired["reason"][0], "transport_error");
    assert_eq!(fired["reason"][1], "rust-seed");
    perl.sees_down("rust-seed");
}

#[test]
fn nodes_with_a_certificate_and_no_secret_meet_in_tls() {
    if !perl::has(MODULES) {
        return;
    }
    let pem = compat_tests::certificate();
    let seed = Aemp::start("rust-seed", &[("secret", ""), ("cert", &pem)]);
    let settings = json!({"seeds": [seed.address()], "cert": pem, "secret": null});
    let mut slave = PerlNode::start("perl-slave", settings);
    slave.sees_up("rust-seed");
    assert_echoes(&mut slave, "rust-seed");
}

#[test]
fn a_second_node_with_the_id_of_one_that_lives_disturbs_nobody_in_perl_or_rust() {
    if !perl::has(MODULES) {
        return;
    }
    // Each of the three is Perl's or ours: the seed that both dial, the first node and the second.
    for case in 0..8_u8 {
        let is_perl = |bit: u8| case & (1 << bit) != 0;
        let start = |bit: u8, id: &str, seeds: &[String]| match is_perl(bit) {
            true => Either::Perl(Box::new(PerlNode::start(id, json!({"seeds": seeds})))),
            false => Either::Ours(match seeds {
                [] => Aemp::start(id, &[]),
                [seed, ..] => Aemp::start(id, &[("seeds", seed)]),
            }),
        };
        let seed = start(0, "seed", &[]);
        let seeds = [seed.address()];
        let mut watcher = PerlNode::start("watcher", json!({"seeds": seeds}));
        watcher.sees_up("seed");
        let _first = start(1, "twin", &seeds);
        watcher.run("db_mon", json!({"family": "'l", "label": "addresses"}));
        watcher.event("family", "addresses", |event| !event["content"]["twin"].is_null());
        assert_echoes(&mut watcher, "twin");
        watcher.eval(
            "db_mon q('l), sub { ++$::lost if grep $_ eq 'twin', @{ $_[3] } }; \
             mon 'twin', sub { ++$::lost }; $::lost = 0",
        );
        let _second = start(2, "twin", &seeds);
        // It dials several times in this while.
        let begun = std::time::Instant::now();
        while begun.elapsed() < std::time::Duration::from_secs(5) {
            assert_echoes(&mut watcher, "twin");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        assert_eq!(watcher.eval("$::lost + 0"), json!([0]), "case {case}");
    }
}

/// A node of Perl's or ours.
enum Either {
    Perl(Box<PerlNode>),
    Ours(Aemp),
}

impl Either {
    fn address(&self) -> String {
        match self {
            Either::Perl(node) => node.address().to_owned(),
            Either::Ours(node) => node.address(),
        }
    }
}
