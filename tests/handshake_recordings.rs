//! All recorded handshakes of real nodes: verified, reproduced, and replayed against ours.

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used)]

mod recorded_handshake;

use aemp::wire::auth::{AuthMethod, Exporter, Secret};
use aemp::wire::greeting::Greeting;
use aemp::wire::hex;
use aemp::wire::protection::Protection;
use aemp::wire::session::{
    AuthOrder, Connection, Event, HandshakeConfig, HandshakeError, Handshaker, TlsPeer,
};
use proptest::prelude::*;
use recorded_handshake::*;

/// All recordings that begin with a handshake in the clear.
fn conversations() -> Vec<Conversation> {
    let names = std::fs::read_dir(fixture("")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.ends_with(".jsonl")).collect();
    let others = ["values.jsonl", "tls-auth.jsonl", "bound-auth.jsonl"];
    names.retain(|name| !others.contains(&name.as_str()));
    names.sort();
    assert!(names.len() >= 28, "recordings are missing: {names:?}");
    names.iter().map(|name| read(name)).collect()
}

const FAILURES: [&str; 3] =
    ["no-common-auth.jsonl", "no-common-framing.jsonl", "wrong-secret.jsonl"];

fn successes() -> Vec<Conversation> {
    let all = conversations().into_iter();
    all.filter(|conversation| !FAILURES.contains(&conversation.file.as_str())).collect()
}

#[test]
fn every_recorded_greeting_is_composed_again_octet_for_octet() {
    conversations().iter().for_each(is_composed_again);
}

#[test]
fn every_recorded_authentication_line_is_verified_and_made_again() {
    let seen: usize = conversations().iter().map(authenticates_again).sum();
    assert!(seen >= 54, "only {seen} authentication lines");
}

#[test]
fn playing_a_perl_node_we_send_what_it_sent() {
    successes().iter().for_each(is_played_again);
}

#[test]
fn the_order_of_our_own_keys_is_all_that_differs() {
    for conversation in successes() {
        for (side, _) in conversation.perl_nodes() {
            let session = side.begin(KeyOrder::Ours);
            let own = session.own_greeting().split(|&octet| octet == b'\n').collect::<Vec<_>>();
            let sorted = |line: &[u8]| {
                let mut greeting = Greeting::parse(line).unwrap();
                greeting.keys.sort();
                greeting
            };
            assert_eq!(sorted(own[0]), sorted(side.greeting_line()), "{}", conversation.file);
            assert_eq!(own[1], side.lines[1].as_bytes());
        }
    }
}

#[test]
fn the_boundaries_of_reads_make_no_difference() {
    for conversation in successes() {
        for (side, other) in conversation.perl_nodes() {
            let whole = play(side.begin(KeyOrder::Recorded), Pieces::whole(&other.octets));
            let lines = said(other).len();
            let cuts = (0..=lines).map(|at| Pieces::cut_at(&other.octets, at));
            for pieces in cuts.chain([Pieces::single(&other.octets)]) {
                let cut = play(side.begin(KeyOrder::Recorded), pieces);
                assert_eq!(cut.output, whole.output);
                assert_eq!(cut.outcome, whole.outcome);
                assert_eq!(cut.rest, whole.rest);
            }
        }
    }
}

#[test]
fn a_wrong_secret_is_refused_on_both_sides() {
    let conversation = read("wrong-secret.jsonl");
    for (side, other) in conversation.both_ways() {
        let played = play(side.begin(KeyOrder::Recorded), Pieces::whole(&other.octets));
        assert_eq!(played.output, said(side));
        let method = AuthMethod::HmacSha3_512;
        assert_eq!(played.outcome, Err(HandshakeError::WrongSecret { method }));
    }
}

#[test]
fn the_side_that_finds_no_common_method_closes() {
    let conversation = read("no-common-auth.jsonl");
    let a = play(conversation.a.begin(KeyOrder::Recorded), Pieces::whole(&conversation.b.octets));
    assert_eq!(a.output, said(&conversation.a));
    assert_eq!(a.outcome, Err(HandshakeError::ClosedInAuthentication));
    let b = play(conversation.b.begin(KeyOrder::Recorded), Pieces::whole(&conversation.a.octets));
    assert_eq!(b.output, said(&conversation.b));
    assert_eq!(
        b.outcome.unwrap_err().to_string(),
        "no common authentication method: peer accepts \"tls_anon\", we can send \"hmac_sha3_512\"",
    );
}

#[test]
fn sides_without_a_common_framing_close() {
    let conversation = read("no-common-framing.jsonl");
    for (side, other) in conversation.both_ways() {
        let played = play(side.begin(KeyOrder::Recorded), Pieces::whole(&other.octets));
        assert_eq!(played.output, said(side));
        assert!(matches!(played.outcome, Err(HandshakeError::NoCommonFraming { .. })));
    }
}

#[test]
fn recorded_handshakes_inside_tls_are_verified_and_the_client_is_the_recorded_one() {
    let vectors = json_lines("tls-auth.jsonl");
    assert!(vectors.len() >= 6);
    for vector in &vectors[1..] {
        let text = |key: &str| vector[key].as_str().unwrap().to_owned();
        let [a, b] = ["a", "b"].map(|name| Side {
            dials: name == "a",
            secret: String::new(),
            auth_accept: AuthMethod::LISTED.to_vec(),
            lines: ["1", "2", "_auth"].map(|key| text(&format!("{name}{key}"))).to_vec(),
            rest: Vec::new(),
            octets: Vec::new(),
        });
        // Without a secret we would not list hmac_sha3_512, as the recorded node did.
        let handshaker = Handshaker::new(HandshakeConfig {
            secret: Secret::new("not used"),
            ..b.config(KeyOrder::Recorded)
        });
        let mut session = handshaker.unwrap().listen(b.nonce(), "");
        assert_eq!(session.transmit(), Some(b.greeting_octets()));
        let from_a = said(&a);
        let mut pieces = Pieces::whole(&from_a);
        assert_eq!(next_event(&mut session, &mut pieces), Ok(Event::Greeted));
        session.proceed(AuthOrder::Now);
        let we_are_client = vector["tls_client"] == "b";
        assert_eq!(session.poll(), Ok(Some(Event::StartTls { we_are_client })));
        session.tls_established(TlsPeer::Verified);
        assert_eq!(session.transmit().unwrap(), format!("{}\n", b.lines[2]).as_bytes());
        let Ok(Event::Established(peer)) = next_event(&mut session, &mut pieces) else {
            panic!("refused")
        };
        assert_eq!(peer.method.name(), a.lines[2].split(';').next().unwrap());
        assert_eq!(peer.untrusted, peer.method == AuthMethod::TlsAnon);
        assert_eq!(peer.protection, Protection::Certificates);
    }
}

#[test]
fn bound_authentication_is_what_another_implementation_computes() {
    let vectors = json_lines("bound-auth.jsonl");
    assert!(vectors.len() >= 5);
    for vector in &vectors[1..] {
        let text = |key: &str| vector[key].as_str().unwrap().to_owned();
        let exporter = hex::decode(&text("exporter")).unwrap();
        let listed = |line: String| {
            let methods = Greeting::parse(line.as_bytes()).unwrap().auth_methods;
            methods.iter().filter_map(|name| AuthMethod::from_name(name)).collect()
        };
        let sides = ["a", "b"].map(|name| Side {
            dials: name == "a",
            secret: text("secret"),
            auth_accept: listed(text(&format!("{name}1"))),
            lines: ["1", "2", "_auth"].map(|key| text(&format!("{name}{key}"))).to_vec(),
            rest: Vec::new(),
            octets: Vec::new(),
        });
        for (name, side, other) in [("a", &sides[0], &sides[1]), ("b", &sides[1], &sides[0])] {
            let mut session = side.begin(KeyOrder::Recorded);
            assert_eq!(session.transmit(), Some(side.greeting_octets()));
            let from_other = said(other);
            let mut pieces = Pieces::whole(&from_other);
            assert_eq!(next_event(&mut session, &mut pieces), Ok(Event::Greeted));
            session.proceed(AuthOrder::Now);
            let we_are_client = vector["tls_client"] == name;
            assert_eq!(session.poll(), Ok(Some(Event::StartBoundTls { we_are_client })));
            session.bound_tls_established(Exporter::new(exporter.clone().try_into().unwrap()));
            let line = String::from_utf8(session.transmit().unwrap()).unwrap();
            assert_eq!(line, format!("{}\n", side.lines[2]));
            let Ok(Event::Established(agreement)) = next_event(&mut session, &mut pieces) else {
                panic!("refused")
            };
            assert_eq!(agreement.protection, Protection::Bound);
            assert_eq!(agreement.method, AuthMethod::HmacBoundSha3_512);
        }
    }
}

#[test]
fn recorded_data_connections_are_adopted() {
    let conversation = read("dataconn-2.jsonl");
    let played =
        play(conversation.b.begin(KeyOrder::Recorded), Pieces::whole(&conversation.a.octets));
    let peer = played.outcome.unwrap();
    let id = b"b@py-1".to_vec();
    assert_eq!(peer.connection, Connection::Data { id });
    assert_eq!(played.rest, b"raw bytes\n");
    let handshaker = Handshaker::new(conversation.a.config(KeyOrder::Ours)).unwrap();
    let mut dialled = handshaker.dial_data(conversation.a.nonce(), "", "b@py-1");
    let line =
        Greeting::parse(dialled.own_greeting().split(|&octet| octet == b'\n').next().unwrap());
    let line = line.unwrap();
    let recorded = conversation.a.greeting();
    assert_eq!(line.protocol, recorded.protocol);
    assert_eq!(line.written("dataconn_id"), recorded.written("dataconn_id"));
    dialled.input().extend_from_slice(&conversation.b.greeting_octets());
    assert_eq!(dialled.poll(), Ok(Some(Event::Greeted)));
}

fn hostile_lines() -> impl Strategy<Value = Vec<u8>> {
    let recorded = read("join-mixed.jsonl").a.octets;
    let mutated = proptest::collection::vec((0..recorded.len(), any::<u8>()), 1..8);
    let mutated = mutated.prop_map(move |changes| {
        let mut octets = recorded.clone();
        changes.into_iter().for_each(|(at, octet)| octets[at] = octet);
        octets
    });
    let garbage = proptest::collection::vec(any::<u8>(), 0..6000);
    let fields = proptest::collection::vec("[a-z0-9_,;=%\\r\\n\u{e9}-]{0,40}", 0..20)
        .prop_map(|fields| format!("aemp;1;{}\n\n", fields.join(";")).into_bytes());
    prop_oneof![mutated, garbage, fields]
}

proptest! {
    #[test]
    fn whatever_a_peer_sends_ends_in_one_line_errors_at_worst(
        octets in hostile_lines(),
        cut in any::<prop::sample::Index>(),
    ) {
        let side = read("join-mixed.jsonl").b;
        let cut = cut.index(octets.len() + 1);
        let whole = play(side.begin(KeyOrder::Recorded), Pieces::whole(&octets));
        let pieces = play(side.begin(KeyOrder::Recorded), Pieces::cut_at(&octets, cut));
        prop_assert_eq!(&whole.outcome, &pieces.outcome);
        if let Err(error) = whole.outcome {
            let text = error.to_string();
            prop_assert!(!text.contains(char::is_control) && text.len() < 1000, "{text}");
        }
    }

    #[test]
    fn a_changed_octet_in_a_handshake_never_authenticates(
        at in any::<prop::sample::Index>(),
        octet in any::<u8>(),
    ) {
        let conversation = read("join-mixed.jsonl");
        let mut octets = said(&conversation.a);
        let at = at.index(octets.len());
        prop_assume!(octets[at] != octet);
        octets[at] = octet;
        let played = play(conversation.b.begin(KeyOrder::Recorded), Pieces::whole(&octets));
        // The token covers the greetings, but not the framing's name after it.
        prop_assert!(played.outcome.is_err());
    }

    #[test]
    fn an_endless_line_is_given_up_at_the_limit(octet in any::<u8>(), piece in 1..9000_usize) {
        prop_assume!(octet != b'\n');
        let mut session = read("join-mixed.jsonl").b.begin(KeyOrder::Recorded);
        let piece = vec![octet; piece];
        let mut taken = 0;
        let error = loop {
            session.input().extend_from_slice(&piece);
            match session.poll() {
                Ok(None) => prop_assert!(session.input().is_empty()),
                Ok(Some(_)) => panic!("no line ended"),
                Err(error) => break error,
            }
            taken += piece.len();
            prop_assert!(taken <= 4096);
        };
        prop_assert_eq!(error, HandshakeError::LineTooLong { limit: 4096 });
    }

    #[test]
    fn a_composed_line_parses_to_the_same(
        node_id in "[^;\\r\\n]{1,30}",
        methods in proptest::collection::vec("[^;,\\r\\n]{1,10}", 0..5),
        framings in proptest::collection::vec("[^;,\\r\\n]{1,10}", 0..5),
        keys in proptest::collection::vec(("[^;=\\r\\n]{1,10}", "[^;\\r\\n]{0,10}"), 0..5),
    ) {
        let octets = |texts: Vec<String>| texts.into_iter().map(String::into_bytes).collect();
        let greeting = Greeting {
            protocol: b"aemp".to_vec(),
            version: b"1".to_vec(),
            node_id: node_id.into_bytes(),
            auth_methods: octets(methods),
            framings: octets(framings),
            keys: keys.into_iter().map(|(key, value)| (key.into_bytes(), value.into_bytes())).collect(),
        };
        prop_assert_eq!(Greeting::parse(&greeting.compose()), Ok(greeting));
    }
}
