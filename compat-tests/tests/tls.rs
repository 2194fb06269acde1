//! Networks of real Perl nodes and ours with TLS.

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use aemp::NodeId;
use compat_tests::network::InProcess;
use compat_tests::node::{Aemp, SECRET};
use compat_tests::perl;
use compat_tests::perl_node::{MODULES, PerlNode};
use compat_tests::process::TIMEOUT;
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

/// Sends a message from `perl` through all nodes of `way`, one after another, back to itself.
fn assert_goes_round(perl: &mut PerlNode, way: &[&str]) {
    let port = perl.port("round");
    let mut request: Vec<Value> = Vec::new();
    for node in way.get(1..).unwrap() {
        request.extend([json!("snd"), json!(node)]);
    }
    request.extend([json!("snd"), json!(port), json!("round"), json!(way)]);
    perl.snd(way[0], request.into());
    assert_eq!(perl.message("round"), json!(["round", way]));
}

fn assert_network_meets_in_tls(pem: &str, seeds_are_ours: bool) {
    let tls = json!({"cert": pem, "secret": null});
    let ours = |id: &str, seed: &str| {
        let settings = [("secret", ""), ("cert", pem), ("seeds", seed)];
        Aemp::start(id, if seed.is_empty() { &settings[..2] } else { &settings })
    };
    let perls = |id: &str, seed: &str| {
        let mut settings = tls.clone();
        settings["seeds"] = json!([seed]);
        PerlNode::start(id, settings)
    };
    let (mut our_seed, mut perl_seed) = (None, None);
    let (seed, seed_id) = if seeds_are_ours {
        let seed = our_seed.insert(ours("rust-seed", ""));
        (seed.address(), "rust-seed")
    } else {
        let seed = perl_seed.insert(PerlNode::start("perl-seed", tls.clone()));
        (seed.address().to_owned(), "perl-seed")
    };
    let _ours = [ours("rust-a", &seed), ours("rust-b", &seed)];
    let mut a = perls("perl-a", &seed);
    let mut b = perls("perl-b", &seed);
    let all = ["rust-a", "rust-b", "perl-a", "perl-b"];
    for perl in [&mut a, &mut b] {
        // The seed may hear of an address only after it is asked for it.
        perl.run("db_mon", json!({"family": "'l", "label": "addresses"}));
        perl.event("family", "addresses", |event| {
            all.iter().all(|id| !event["content"][id].is_null())
        });
    }
    for (perl, other) in [(&mut a, "perl-b"), (&mut b, "perl-a")] {
        for way in [
            vec![seed_id],
            vec!["rust-a"],
            vec!["rust-b"],
            vec![other],
            vec!["rust-a", "rust-b", other],
            vec!["rust-b", "rust-a", seed_id],
        ] {
            assert_goes_round(perl, &way);
        }
    }
}

// The nonces determine which side is the TLS client. Each network has about fourteen connections, so that
// every combination of roles occurs.

#[test]
fn perl_and_our_nodes_form_a_tls_network_around_a_perl_seed() {
    if perl::has(MODULES) {
        assert_network_meets_in_tls(&compat_tests::certificate(), false);
    }
}

#[test]
fn perl_and_our_nodes_form_a_tls_network_around_our_seed() {
    if perl::has(MODULES) {
        assert_network_meets_in_tls(&compat_tests::certificate(), true);
    }
}

#[test]
fn perl_takes_the_certificates_that_we_make() {
    if perl::has(MODULES) {
        let pem = aemp::node::tls::gencert(SystemTime::now()).unwrap();
        assert_network_meets_in_tls(&pem, true);
    }
}

#[test]
fn each_node_may_have_its_own_certificate_of_one_ca() {
    if !perl::has(MODULES) {
        return;
    }
    let [ours, perls] = compat_tests::certificates_of_a_ca();
    let seed = Aemp::start("rust-seed", &[("secret", ""), ("cert", &ours)]);
    // Which side is the TLS client is random each time.
    for _ in 0..4 {
        let settings = json!({"cert": perls, "secret": null, "seeds": [seed.address()]});
        let mut perl = PerlNode::start("perl-slave", settings);
        perl.sees_up("rust-seed");
        assert_goes_round(&mut perl, &["rust-seed"]);
    }
}

/// Nodes by how they encrypt by the secret; without a word for it they are Perl's.
const MIXTURE: [(&str, Option<&str>); 4] =
    [("auto", Some("auto")), ("always", Some("1")), ("never", Some("0")), ("perl", None)];

/// What becomes of a connection on loopback between two of them.
fn protection(one: Option<&str>, other: Option<&str>) -> &'static str {
    match (one, other) {
        (None | Some("0"), _) | (_, None | Some("0")) => "plain",
        (Some("auto"), Some("auto")) => "plain",
        _ => "bound",
    }
}

fn assert_mixture_meets_around(seed_kind: Option<&str>) {
    let ours = |id: &str, encrypt: &str, seed: &str| {
        let settings = [("encrypt", encrypt), ("seeds", seed)];
        Aemp::start(id, if seed.is_empty() { &settings[..1] } else { &settings })
    };
    let (mut our_seed, mut perl_seed) = (None, None);
    let seed = match seed_kind {
        Some(encrypt) => our_seed.insert(ours("seed", encrypt, "")).address(),
        None => perl_seed.insert(PerlNode::start("seed", json!({}))).address().to_owned(),
    };
    let [auto, always, never] =
        [0, 1, 2].map(|at| ours(MIXTURE[at].0, MIXTURE[at].1.unwrap(), &seed));
    let _running = [auto, always, never];
    let mut perl = PerlNode::start("perl", json!({ "seeds": [seed] }));
    let kinds: Vec<_> = MIXTURE.into_iter().chain([("seed", seed_kind)]).collect();
    perl.run("db_mon", json!({"family": "'l", "label": "addresses"}));
    perl.event("family", "addresses", |event| {
        kinds.iter().all(|(id, _)| !event["content"][id].is_null())
    });
    let others: Vec<&str> = kinds.iter().map(|(id, _)| *id).filter(|id| *id != "perl").collect();
    for one in &others {
        for other in others.iter().filter(|other| *other != one) {
            assert_goes_round(&mut perl, &[one, other]);
        }
    }
    let inside = InProcess::new();
    let looking = inside.start("looking", &[seed]);
    inside.run(looking.joined());
    for (id, kind) in kinds.iter().filter(|(_, kind)| kind.is_some()) {
        let status = inside.run(looking.status_of(&NodeId::new(*id).unwrap(), TIMEOUT)).unwrap();
        for (other, other_kind) in kinds.iter().filter(|(other, _)| other != id) {
            let link = status.links.iter().find(|link| link.node.to_text_lossy() == *other);
            let link = link.unwrap_or_else(|| panic!("{id} has no connection with {other}"));
            let seen = link.protection.to_text_lossy();
            assert_eq!(seen, protection(*kind, *other_kind), "{id} and {other}");
        }
    }
}

#[test]
fn nodes_that_encrypt_by_the_secret_or_not_and_perl_nodes_are_one_network_around_a_perl_seed() {
    if perl::has(MODULES) {
        assert_mixture_meets_around(None);
    }
}

#[test]
fn nodes_that_encrypt_by_the_secret_or_not_and_perl_nodes_are_one_network_around_our_seed() {
    if perl::has(MODULES) {
        for encrypt in ["auto", "1", "0"] {
            assert_mixture_meets_around(Some(encrypt));
        }
    }
}

/// The octets of both directions of each connection that went through a relay.
type RelayedOctets = Arc<Mutex<Vec<Arc<Mutex<Vec<u8>>>>>>;

/// Listens on a free port, passes everything on to `target`, and records it.
fn eavesdropper(target: &str) -> (String, RelayedOctets) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let heard = RelayedOctets::default();
    let (target, all) = (target.to_owned(), heard.clone());
    std::thread::spawn(move || {
        for near in listener.incoming() {
            let (Ok(near), Ok(far)) = (near, TcpStream::connect(&target)) else {
                return;
            };
            for (from, to) in [(&near, &far), (&far, &near)] {
                let octets = Arc::default();
                all.lock().unwrap().push(Arc::clone(&octets));
                let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                std::thread::spawn(move || relay(from, to, &octets));
            }
        }
    });
    (address, heard)
}

fn relay(mut from: TcpStream, mut to: TcpStream, heard: &Mutex<Vec<u8>>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(len @ 1..) = from.read(&mut buffer) {
        heard.lock().unwrap().extend_from_slice(&buffer[..len]);
        if to.write_all(&buffer[..len]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// Checks that only TLS records follow the two greeting lines. Returns their size in octets.
fn assert_says_nothing_before_tls(octets: &[u8]) -> usize {
    let mut lines = octets.splitn(3, |&octet| octet == b'\n');
    let greeting = String::from_utf8_lossy(lines.next().unwrap()).into_owned();
    assert!(greeting.starts_with("aemp;1;") && greeting.contains("tls=1.0"), "{greeting}");
    assert!(!greeting.contains(SECRET), "{greeting}");
    let _nonce = lines.next().unwrap();
    let mut rest = lines.next().unwrap_or_default();
    let len = rest.len();
    while let [kind, major, _, high, low, ..] = rest {
        assert!((20..=23).contains(kind) && *major == 3, "no TLS record: {:?}", &rest[..5]);
        let record = 5 + usize::from(u16::from_be_bytes([*high, *low]));
        // The last one may be incomplete.
        rest = rest.get(record..).unwrap_or_default();
    }
    len
}

fn assert_all_is_encrypted(heard: &RelayedOctets) {
    let heard = heard.lock().unwrap();
    assert!(heard.len() >= 2, "nobody connected");
    let encrypted =
        heard.iter().map(|octets| assert_says_nothing_before_tls(&octets.lock().unwrap()));
    assert!(encrypted.sum::<usize>() > 2000, "too little for a certificate of each side");
}

#[test]
fn nothing_that_depends_on_the_secret_travels_outside_tls() {
    if !perl::has(MODULES) {
        return;
    }
    let pem = compat_tests::certificate();
    // With a secret and a certificate, between all kinds of nodes.
    let seed = Aemp::start("rust-seed", &[("cert", &pem)]);
    let (relayed, heard) = eavesdropper(&seed.address());
    let mut perl = PerlNode::start("perl-slave", json!({"seeds": [relayed], "cert": pem}));
    perl.sees_up("rust-seed");
    let _ours = Aemp::start("rust-slave", &[("seeds", &relayed), ("cert", &pem)]);
    perl.run("db_mon", json!({"family": "'l", "label": "addresses"}));
    perl.event("family", "addresses", |event| !event["content"]["rust-slave"].is_null());
    assert_goes_round(&mut perl, &["rust-seed"]);
    assert_all_is_encrypted(&heard);

    let mut perl = PerlNode::start("perl-seed", json!({"cert": pem}));
    let (relayed, heard) = eavesdropper(perl.address());
    let _ours = Aemp::start("rust-slave", &[("seeds", &relayed), ("cert", &pem)]);
    perl.sees_up("rust-slave");
    assert_goes_round(&mut perl, &["rust-slave"]);
    assert_all_is_encrypted(&heard);
}

#[test]
fn a_perl_node_without_certificate_joins_only_where_tls_is_not_required() {
    if !perl::has(MODULES) {
        return;
    }
    let pem = compat_tests::certificate();
    let mut lax = Aemp::start("rust-lax", &[("cert", &pem)]);
    let mut perl = PerlNode::start("perl-plain", json!({"seeds": [lax.address()]}));
    perl.sees_up("rust-lax");
    lax.process().wait_for_log("perl-plain");
    lax.process().wait_for_log("is not encrypted");
    let mut strict = Aemp::start("rust-strict", &[("cert", &pem), ("tls_required", "1")]);
    let mut perl = PerlNode::start("perl-plain", json!({"seeds": [strict.address()]}));
    let refused = strict.process().wait_for_log("refused");
    assert!(refused.contains("perl-plain") && refused.contains("tls_required"), "{refused}");
    assert!(perl.nodes().is_empty());
}
