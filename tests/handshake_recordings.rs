//! Every recorded handshake of real nodes, verified, produced again, and replayed against ours.

// Helpers of tests may fail loudly, but clippy sees only functions marked as tests as such.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use aemp::wire::auth::{AuthMethod, Nonce, Secret};
use aemp::wire::framing::Framing;
use aemp::wire::greeting::Greeting;
use aemp::wire::handshake::{
    Authenticated, Authenticating, Connection, Greeted, Handshake, HandshakeConfig, HandshakeError,
    Handshaker, Proceed, Progress, Tls, TlsPeer,
};
use base64::Engine as _;
use proptest::prelude::*;
use serde_json::Value;

/// What one side of a conversation sent.
struct Side {
    dials: bool,
    secret: String,
    auth_accept: Vec<AuthMethod>,
    /// Greeting, nonce, authentication line (unless it gave up before), without line ends.
    lines: Vec<String>,
    /// What came after those lines.
    rest: Vec<u8>,
    octets: Vec<u8>,
}

impl Side {
    fn greeting_line(&self) -> &[u8] {
        self.lines[0].as_bytes()
    }

    fn greeting(&self) -> Greeting {
        Greeting::parse(self.greeting_line()).unwrap()
    }

    /// Both lines of the greeting, each with its LF.
    fn greeting_octets(&self) -> Vec<u8> {
        format!("{}\n{}\n", self.lines[0], self.lines[1]).into_bytes()
    }

    fn auth_line(&self) -> Option<&str> {
        self.lines.get(2).map(String::as_str)
    }

    fn secret(&self) -> Option<Secret> {
        Secret::new(self.secret.as_str())
    }

    fn nonce(&self) -> Nonce {
        let octets = base64::engine::general_purpose::STANDARD.decode(&self.lines[1]).unwrap();
        Nonce::from_random(octets.as_slice().try_into().unwrap())
    }

    /// Our configuration for the part of this side, with its greeting keys in their order.
    fn config(&self, order: KeyOrder) -> HandshakeConfig {
        let greeting = self.greeting();
        let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).unwrap();
        let framings = greeting
            .framings
            .iter()
            .map(|name| Framing::from_name(std::str::from_utf8(name).unwrap()).unwrap());
        let recorded = greeting.keys.iter().filter(|(name, _)| match order {
            KeyOrder::Recorded => true,
            KeyOrder::Ours => name == b"provider",
        });
        HandshakeConfig {
            auth_accept: self.auth_accept.clone(),
            framings: framings.collect(),
            secret: self.secret(),
            tls: if greeting.offers_tls() { Tls::Offered } else { Tls::Off },
            keys: recorded.map(|(name, value)| (text(name), text(value))).collect(),
            ..HandshakeConfig::new(greeting.node_id)
        }
    }

    /// Our machine in the part of this side.
    fn begin(&self, order: KeyOrder) -> Handshake {
        let handshaker = Handshaker::new(self.config(order)).unwrap();
        let peer_addr = self.greeting().value("peeraddr").unwrap();
        let peer_addr = std::str::from_utf8(&peer_addr).unwrap();
        if self.dials {
            handshaker.dial(self.nonce(), peer_addr)
        } else {
            handshaker.listen(self.nonce(), peer_addr)
        }
    }
}

#[derive(Clone, Copy)]
enum KeyOrder {
    Recorded,
    Ours,
}

struct Conversation {
    file: String,
    a: Side,
    b: Side,
}

impl Conversation {
    /// Each side with the other one.
    fn both_ways(&self) -> [(&Side, &Side); 2] {
        [(&self.a, &self.b), (&self.b, &self.a)]
    }

    /// Each Perl node with its peer; the clients that are none send keys of their own.
    fn perl_nodes(&self) -> impl Iterator<Item = (&Side, &Side)> {
        self.both_ways().into_iter().filter(|(side, _)| side.greeting().is_from_perl())
    }
}

fn fixture(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(file)
}

fn json_lines(file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(fixture(file)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let octet = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(octet).collect()
}

fn read(file: &str) -> Conversation {
    let entries = json_lines(file);
    let (scenario, reads) = entries.split_first().unwrap();
    let side = |name: &str| {
        let of_side = reads.iter().filter(|entry| entry["from"] == name);
        let octets: Vec<u8> =
            of_side.filter_map(|entry| entry["hex"].as_str()).flat_map(unhex).collect();
        let mut rest = octets.as_slice();
        let mut lines = Vec::new();
        while lines.len() < 3
            && let Some(end) = rest.iter().position(|&octet| octet == b'\n')
        {
            lines.push(String::from_utf8(rest[..end].to_vec()).unwrap());
            rest = &rest[end + 1..];
        }
        let configured = ["dialer", "listener"].map(|role| &scenario[role]);
        let configured = configured.into_iter().find(|side| side["is"] == name);
        let secret = configured.map_or(&scenario["secret"], |side| &side["secret"]);
        let auth_accept = Greeting::parse(lines[0].as_bytes()).unwrap().auth_methods;
        Side {
            dials: name == "a",
            secret: secret.as_str().unwrap().to_owned(),
            auth_accept: auth_accept
                .iter()
                .filter_map(|name| AuthMethod::from_name(name))
                .collect(),
            lines,
            rest: rest.to_vec(),
            octets,
        }
    };
    Conversation { file: file.to_owned(), a: side("a"), b: side("b") }
}

/// All recordings that begin with a handshake in the clear.
fn conversations() -> Vec<Conversation> {
    let names = std::fs::read_dir(fixture("")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.ends_with(".jsonl")).collect();
    names.retain(|name| name != "values.jsonl" && name != "tls-auth.jsonl");
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

fn reach_greeted(mut state: Handshake, pieces: &mut Pieces<'_>) -> Result<Greeted, HandshakeError> {
    loop {
        match state.feed(&mut pieces.unread)? {
            Progress::Reached(greeted) => return Ok(greeted),
            Progress::NeedMore(same) if !pieces.arrive() => return Err(same.closed()),
            Progress::NeedMore(same) => state = same,
        }
    }
}

fn finish(
    mut state: Authenticating,
    pieces: &mut Pieces<'_>,
) -> Result<Authenticated, HandshakeError> {
    loop {
        match state.feed(&mut pieces.unread)? {
            Progress::Reached(authenticated) => return Ok(authenticated),
            Progress::NeedMore(same) if !pieces.arrive() => return Err(same.closed()),
            Progress::NeedMore(same) => state = same,
        }
    }
}

/// Octets that arrive in several reads.
struct Pieces<'a> {
    unread: &'a [u8],
    to_come: Vec<&'a [u8]>,
}

impl<'a> Pieces<'a> {
    fn whole(octets: &'a [u8]) -> Pieces<'a> {
        Pieces { unread: octets, to_come: Vec::new() }
    }

    fn cut_at(octets: &'a [u8], at: usize) -> Pieces<'a> {
        Pieces { unread: &octets[..at], to_come: vec![&octets[at..]] }
    }

    fn single(octets: &'a [u8]) -> Pieces<'a> {
        Pieces { unread: &[], to_come: octets.chunks(1).rev().collect() }
    }

    /// Brings the next piece, if there is one; the state has taken all that was there.
    fn arrive(&mut self) -> bool {
        assert!(self.unread.is_empty());
        self.to_come.pop().map(|piece| self.unread = piece).is_some()
    }

    fn rest(mut self) -> Vec<u8> {
        self.to_come.push(self.unread);
        self.to_come.into_iter().rev().flatten().copied().collect()
    }
}

/// What we say in the part of one side, and what we think of the other.
struct Played {
    output: Vec<u8>,
    outcome: Result<Authenticated, HandshakeError>,
    rest: Vec<u8>,
}

fn play(state: Handshake, mut pieces: Pieces<'_>) -> Played {
    let mut output = state.output().to_vec();
    let outcome = reach_greeted(state, &mut pieces).and_then(|greeted| {
        let state = match greeted.proceed()? {
            Proceed::Authenticate(state) => state,
            Proceed::StartTls(tls) => tls.tls_established(TlsPeer::Verified),
        };
        output.extend_from_slice(state.output());
        finish(state, &mut pieces)
    });
    Played { output, outcome, rest: pieces.rest() }
}

fn said(side: &Side) -> Vec<u8> {
    side.lines.iter().flat_map(|line| [line.as_bytes(), b"\n"].concat()).collect()
}

#[test]
fn every_recorded_greeting_is_composed_again_octet_for_octet() {
    for conversation in conversations() {
        for side in [&conversation.a, &conversation.b] {
            assert_eq!(side.greeting().compose(), side.greeting_line(), "{}", conversation.file);
            assert_eq!(side.nonce().as_bytes(), side.lines[1].as_bytes());
        }
    }
}

#[test]
fn every_recorded_authentication_line_is_verified_and_made_again() {
    let mut seen = 0;
    for conversation in conversations() {
        for (side, other) in conversation.both_ways() {
            let Some(line) = side.auth_line() else {
                continue;
            };
            let [name, token, framing] = *line.split(';').collect::<Vec<_>>() else { panic!() };
            let method: AuthMethod = name.parse().unwrap();
            let (own, peer) = (side.greeting_octets(), other.greeting_octets());
            let secret = side.secret();
            assert!(method.verify(secret.as_ref(), token.as_bytes(), &own, &peer));
            assert!(!method.verify(secret.as_ref(), token.as_bytes(), &peer, &own));
            let made = method.token(secret.as_ref(), &own, &peer).unwrap();
            assert_eq!(format!("{method};{made};{framing}"), line, "{}", conversation.file);
            seen += 1;
        }
    }
    assert!(seen >= 54, "only {seen} authentication lines");
}

#[test]
fn in_the_part_of_a_perl_node_we_say_what_it_said() {
    for conversation in successes() {
        for (side, other) in conversation.perl_nodes() {
            let played = play(side.begin(KeyOrder::Recorded), Pieces::whole(&other.octets));
            assert_eq!(played.output, said(side), "{}", conversation.file);
            let peer = played.outcome.unwrap();
            assert_eq!(peer.peer, other.greeting());
            assert_eq!(peer.method, AuthMethod::HmacSha3_512);
            assert!(side.auth_line().unwrap().ends_with(peer.send_framing.name()));
            assert!(other.auth_line().unwrap().ends_with(peer.receive_framing.name()));
            assert_eq!(played.rest, other.rest, "{}", conversation.file);
        }
    }
}

#[test]
fn the_order_of_our_own_keys_is_all_that_differs() {
    for conversation in successes() {
        for (side, _) in conversation.perl_nodes() {
            let state = side.begin(KeyOrder::Ours);
            let own = state.output().split(|&octet| octet == b'\n').collect::<Vec<_>>();
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
fn where_the_reads_end_makes_no_difference() {
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
            auth_accept: AuthMethod::ALL.to_vec(),
            lines: ["1", "2", "_auth"].map(|key| text(&format!("{name}{key}"))).to_vec(),
            rest: Vec::new(),
            octets: Vec::new(),
        });
        // Without a secret we would not list hmac_sha3_512, as the recorded node did.
        let handshaker = Handshaker::new(HandshakeConfig {
            secret: Secret::new("not used"),
            ..b.config(KeyOrder::Recorded)
        });
        let state = handshaker.unwrap().listen(b.nonce(), "");
        assert_eq!(state.output(), b.greeting_octets());
        let from_a = said(&a);
        let mut pieces = Pieces::whole(&from_a);
        let greeted = reach_greeted(state, &mut pieces).unwrap();
        let Proceed::StartTls(tls) = greeted.proceed().unwrap() else { panic!("no TLS") };
        assert_eq!(tls.we_are_client(), vector["tls_client"] == "b");
        let state = tls.tls_established(TlsPeer::Verified);
        assert_eq!(state.output(), format!("{}\n", b.lines[2]).as_bytes());
        let peer = finish(state, &mut pieces).unwrap();
        assert_eq!(peer.method.name(), a.lines[2].split(';').next().unwrap());
        assert_eq!(peer.untrusted, peer.method == AuthMethod::TlsAnon);
        assert!(peer.tls);
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
    let dialled = handshaker.dial_data(conversation.a.nonce(), "", "b@py-1");
    let line = Greeting::parse(dialled.output().split(|&octet| octet == b'\n').next().unwrap());
    let line = line.unwrap();
    let recorded = conversation.a.greeting();
    assert_eq!(line.protocol, recorded.protocol);
    assert_eq!(line.written("dataconn_id"), recorded.written("dataconn_id"));
    let mut greeting = &*conversation.b.greeting_octets();
    assert!(matches!(dialled.feed(&mut greeting), Ok(Progress::Reached(_))));
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
        // The token covers the greetings; the name of the framing after it is covered by nothing.
        prop_assert!(played.outcome.is_err());
    }

    #[test]
    fn an_endless_line_is_given_up_at_the_limit(octet in any::<u8>(), piece in 1..9000_usize) {
        prop_assume!(octet != b'\n');
        let mut state = read("join-mixed.jsonl").b.begin(KeyOrder::Recorded);
        let piece = vec![octet; piece];
        let mut taken = 0;
        let error = loop {
            match state.feed(&mut piece.as_slice()) {
                Ok(Progress::NeedMore(same)) => state = same,
                Ok(Progress::Reached(_)) => panic!("no line ended"),
                Err(error) => break error,
            }
            taken += piece.len();
            prop_assert!(taken <= 4096);
        };
        prop_assert_eq!(error, HandshakeError::LineTooLong { limit: 4096 });
    }

    #[test]
    fn what_is_composed_parses_to_the_same(
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
