//! Two sessions against each other, and one against all kinds of invalid peers.

use super::*;
use crate::wire::auth::Secret;

fn secret_config(node_id: &str) -> HandshakeConfig {
    HandshakeConfig { secret: Secret::new("geheim"), ..HandshakeConfig::new(node_id) }
}

fn tls_config(node_id: &str) -> HandshakeConfig {
    HandshakeConfig { certificate: true, ..HandshakeConfig::new(node_id) }
}

fn handshaker(config: HandshakeConfig) -> Handshaker {
    Handshaker::new(config).unwrap()
}

fn nonce(octet: u8) -> Nonce {
    Nonce::from_random(&[octet; Nonce::OCTETS])
}

fn listen(config: HandshakeConfig) -> Session {
    handshaker(config).listen(nonce(1), "peer:1")
}

fn dial(config: HandshakeConfig) -> Session {
    handshaker(config).dial(nonce(2), "peer:2")
}

/// The octets that the session sends.
fn says(session: &mut Session) -> Vec<u8> {
    session.transmit().unwrap_or_default()
}

/// The next event, or the error if the peer sends no more than this.
fn event(session: &mut Session, input: &[u8]) -> Result<Event, HandshakeError> {
    session.input().extend_from_slice(input);
    session.poll()?.ok_or_else(|| session.closed())
}

fn greeted(mut session: Session, input: &[u8]) -> Result<Session, HandshakeError> {
    assert_eq!(event(&mut session, input)?, Event::Greeted);
    Ok(session)
}

/// Continues after the peer's greeting, in TLS with this peer if the session wants TLS.
fn proceed(mut session: Session, tls_peer: TlsPeer) -> Result<Session, HandshakeError> {
    session.proceed(AuthOrder::Now);
    if let Some(event) = session.poll()? {
        assert!(matches!(event, Event::StartTls { .. }));
        session.tls_established(tls_peer);
    }
    Ok(session)
}

fn authenticating(session: Session, input: &[u8]) -> Result<Session, HandshakeError> {
    let mut session = greeted(session, input)?;
    says(&mut session);
    proceed(session, TlsPeer::Verified)
}

fn finish(mut session: Session, input: &[u8]) -> HandshakeResult {
    match event(&mut session, input)? {
        Event::Established(agreement) => Ok(agreement),
        other => panic!("{other:?}"),
    }
}

type HandshakeResult = Result<Agreement, HandshakeError>;

/// The results of both sides when each receives everything that the other sends.
fn meet(mut a: Session, mut b: Session) -> (HandshakeResult, HandshakeResult) {
    let (a_says, b_says) = (says(&mut a), says(&mut b));
    let (mut a, mut b) = (authenticating(a, &b_says), authenticating(b, &a_says));
    let line = |side: &mut Result<Session, _>| match side {
        Ok(session) => says(session),
        Err(_) => Vec::new(),
    };
    let (a_says, b_says) = (line(&mut a), line(&mut b));
    (a.and_then(|a| finish(a, &b_says)), b.and_then(|b| finish(b, &a_says)))
}

/// The result for a peer that sends this greeting and an authentication line made for it.
fn hear(
    config: HandshakeConfig,
    greeting: &str,
    auth_line: impl FnOnce(&Peer) -> String,
) -> HandshakeResult {
    let session = listen(config);
    let (own, peer) =
        (session.own_greeting().to_vec(), format!("{greeting}\nnonce\n").into_bytes());
    let session = authenticating(session, &peer)?;
    finish(session, format!("{}\n", auth_line(&Peer { own, peer })).as_bytes())
}

struct Peer {
    own: Vec<u8>,
    peer: Vec<u8>,
}

impl Peer {
    fn token(&self, method: AuthMethod) -> String {
        method.token(Secret::new("geheim").as_ref(), &self.peer, &self.own).unwrap()
    }

    fn line(&self, method: AuthMethod) -> String {
        format!("{method};{};json", self.token(method))
    }
}

const PLAIN_PEER: &str = "aemp;1;peer;hmac_sha3_512;json";
const TLS_PEER: &str = "aemp;1;peer;tls_sha3_512,hmac_sha3_512;json;tls=1.0";

#[test]
fn two_nodes_with_one_secret_meet() {
    let (a, b) = meet(dial(secret_config("a")), listen(secret_config("b")));
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!((&*a.peer.node_id, &*b.peer.node_id), (&b"b"[..], &b"a"[..]));
    assert_eq!((a.method, b.method), (AuthMethod::HmacSha3_512, AuthMethod::HmacSha3_512));
    assert_eq!(a.connection, Connection::Node);
    assert!(!a.protection.is_encrypted() && !a.untrusted);
    let provider = concat!("aemp-", env!("CARGO_PKG_VERSION"));
    assert_eq!(b.peer.value("provider").unwrap(), provider.as_bytes());
    assert_eq!(b.peer.value("peeraddr").unwrap(), b"peer:2");
    assert_eq!(b.peer.written("mproto"), Some(&b"1"[..]));
    assert_eq!(b.peer.written("gproto"), Some(&b"1"[..]));
    assert_eq!(b.peer.written("tls"), None);
    assert!(!b.peer.is_from_perl());
}

#[test]
fn two_connections_that_somebody_ties_together_are_refused_at_both_ends() {
    let pairs = [
        (listen(secret_config("a")), handshaker(secret_config("b")).listen(nonce(3), "")),
        (dial(secret_config("a")), handshaker(secret_config("b")).dial(nonce(3), "")),
    ];
    for (one, other) in pairs {
        let greeting = other.own_greeting().to_vec();
        assert_eq!(greeted(other, one.own_greeting()).unwrap_err(), HandshakeError::Relayed);
        assert_eq!(greeted(one, &greeting).unwrap_err(), HandshakeError::Relayed);
    }
    // Peers without the key, such as Perl nodes, are accepted.
    let silent = b"aemp;1;b;hmac_sha3_512;json;provider=AE-2.02\nnonce\n";
    assert!(greeted(listen(secret_config("a")), silent).is_ok());
}

#[test]
fn each_side_sends_what_the_other_listed_first() {
    let a = HandshakeConfig { framings: vec![Framing::Json, Framing::Cbor], ..secret_config("a") };
    let b = HandshakeConfig { framings: vec![Framing::Cbor, Framing::Json], ..secret_config("b") };
    let (a, b) = meet(dial(a), listen(b));
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!((a.send_framing, a.receive_framing), (Framing::Cbor, Framing::Json));
    assert_eq!((b.send_framing, b.receive_framing), (Framing::Json, Framing::Cbor));
}

#[test]
fn two_nodes_with_certificates_use_tls_and_the_smaller_nonce_is_the_client() {
    let (dialled, listening) = (dial(tls_config("a")), listen(tls_config("b")));
    let greetings = [&dialled, &listening].map(|session| session.own_greeting().to_vec());
    let in_tls = |session, says: &[u8]| {
        let mut session = greeted(session, says).unwrap();
        assert!(session.transmit().is_some() && session.transmit().is_none());
        session.proceed(AuthOrder::Now);
        assert_eq!(session.transmit(), None, "TLS comes first");
        let Ok(Some(Event::StartTls { we_are_client })) = session.poll() else { panic!("no TLS") };
        assert!(!session.wants_input());
        (session, we_are_client)
    };
    let ((a, a_is_client), (mut b, b_is_client)) =
        (in_tls(dialled, &greetings[1]), in_tls(listening, &greetings[0]));
    assert!(!a_is_client && b_is_client);
    assert_eq!(a.peer().unwrap().node_id, b"b");
    let mut a = a;
    a.tls_established(TlsPeer::Verified);
    b.tls_established(TlsPeer::Verified);
    let b = finish(b, &says(&mut a)).unwrap();
    assert_eq!(b.method, AuthMethod::TlsSha3_512);
    assert!(b.protection == Protection::Certificates && !b.untrusted);
}

#[test]
fn octets_of_tls_that_come_with_the_greeting_are_left_for_tls() {
    let session = listen(tls_config("a"));
    let mut session = greeted(session, format!("{TLS_PEER}\nnonce\n\x16\x03").as_bytes()).unwrap();
    session.proceed(AuthOrder::Now);
    assert!(matches!(session.poll(), Ok(Some(Event::StartTls { .. }))));
    assert_eq!(&session.take_input()[..], b"\x16\x03");
}

#[test]
fn our_line_is_held_until_the_peer_has_proven_itself_and_the_caller_wants_it() {
    for config in [secret_config, tls_config] {
        let (mut a, mut b) = (dial(config("a")), listen(config("b")));
        let (from_a, from_b) = (says(&mut a), says(&mut b));
        let mut a = authenticating(a, &from_b).unwrap();
        let mut b = greeted(b, &from_a).unwrap();
        b.authenticate();
        b.proceed(AuthOrder::AfterPeer);
        if let Some(event) = b.poll().unwrap() {
            assert!(matches!(event, Event::StartTls { .. }));
            b.tls_established(TlsPeer::Verified);
        }
        b.authenticate();
        assert_eq!(b.transmit(), None);
        assert_eq!(event(&mut b, &says(&mut a)), Ok(Event::Proven));
        assert_eq!((b.transmit(), b.poll()), (None, Ok(None)));
        b.authenticate();
        let line = says(&mut b);
        assert!(matches!(b.poll(), Ok(Some(Event::Established(_)))));
        assert!(finish(a, &line).is_ok());
    }
}

#[test]
fn while_the_caller_decides_not_much_is_taken_in() {
    let mut session = listen(secret_config("a"));
    session.input().extend_from_slice(format!("{PLAIN_PEER}\n").as_bytes());
    assert_eq!(session.poll(), Ok(None));
    assert_eq!(event(&mut session, b"nonce\n"), Ok(Event::Greeted));
    assert!(session.wants_input());
    session.input().extend_from_slice(&vec![b'x'; HELD_INPUT]);
    assert!(!session.wants_input());
    assert_eq!(session.poll(), Ok(None));
}

#[test]
fn a_session_that_has_failed_says_so_for_ever() {
    let mut session = listen(secret_config("a"));
    let error = event(&mut session, b"GET / HTTP/1.1\r\n").unwrap_err();
    assert_eq!(error.to_string(), "peer did not greet as an AEMP node but sent \"GET / HTTP/1.1\"");
    session.proceed(AuthOrder::Now);
    assert_eq!(event(&mut session, PLAIN_PEER.as_bytes()), Err(error.clone()));
    assert_eq!(session.closed(), error);
    assert!(session.into_packets(FramingLimits::default()).is_none());
}

#[test]
fn nodes_with_secret_and_certificate_fall_back_to_the_secret_without_tls() {
    let a = HandshakeConfig { certificate: true, ..secret_config("a") };
    let (a, b) = meet(dial(a), listen(secret_config("b")));
    assert_eq!(a.unwrap().method, AuthMethod::HmacSha3_512);
    assert!(!b.unwrap().protection.is_encrypted());
}

#[test]
fn the_secret_also_serves_inside_tls() {
    let config = |node_id| HandshakeConfig {
        certificate: true,
        auth_accept: vec![AuthMethod::HmacSha3_512],
        ..secret_config(node_id)
    };
    let (a, b) = meet(dial(config("a")), listen(config("b")));
    assert_eq!(a.unwrap().method, AuthMethod::HmacSha3_512);
    assert!(b.unwrap().protection.is_encrypted());
}

#[test]
fn tls_anon_is_sent_only_if_offered_and_marks_the_sender_untrusted() {
    let offer = vec![AuthMethod::TlsAnon];
    let accept = vec![AuthMethod::TlsAnon, AuthMethod::TlsSha3_512];
    let a = HandshakeConfig { auth_offer: offer, ..tls_config("a") };
    let b = HandshakeConfig { auth_accept: accept, ..tls_config("b") };
    let (a, b) = meet(dial(a), listen(b));
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!((a.own_method, b.method), (AuthMethod::TlsAnon, AuthMethod::TlsAnon));
    assert!(b.untrusted && !a.untrusted);
}

#[test]
fn tls_that_is_required_is_required_of_the_peer() {
    let config =
        HandshakeConfig { certificate: true, encryption_required: true, ..secret_config("a") };
    let error = hear(config, PLAIN_PEER, |_| unreachable!()).unwrap_err();
    assert!(matches!(error, HandshakeError::EncryptionRequired { .. }), "{error}");
}

#[test]
fn tls_methods_are_refused_outside_tls_and_without_a_certificate() {
    for method in [AuthMethod::TlsSha3_512, AuthMethod::TlsAnon] {
        let error = hear(secret_config("a"), PLAIN_PEER, |peer| peer.line(method)).unwrap_err();
        assert_eq!(error, HandshakeError::MethodOutsideTls { method });
    }
    let heard = |method: AuthMethod| {
        let session = listen(HandshakeConfig { certificate: true, ..secret_config("a") });
        let own = session.own_greeting().to_vec();
        let peer = format!("{TLS_PEER}\nnonce\n").into_bytes();
        let session = proceed(greeted(session, &peer).unwrap(), TlsPeer::Anonymous).unwrap();
        let line = Peer { own, peer }.line(method) + "\n";
        finish(session, line.as_bytes())
    };
    for method in [AuthMethod::TlsSha3_512, AuthMethod::TlsAnon] {
        assert_eq!(heard(method), Err(HandshakeError::NoPeerCertificate { method }));
    }
    assert!(heard(AuthMethod::HmacSha3_512).is_ok());
}

#[test]
fn a_simple_client_gets_in_with_the_cleartext_secret() {
    let peer = hear(secret_config("a"), PLAIN_PEER, |_| "cleartext;67656865696d;json".into());
    assert_eq!(peer.unwrap().method, AuthMethod::Cleartext);
}

#[test]
fn auth_accept_is_enforced() {
    let config =
        HandshakeConfig { auth_accept: vec![AuthMethod::HmacSha3_512], ..secret_config("a") };
    let error = hear(config, PLAIN_PEER, |_| "cleartext;67656865696d;json".into()).unwrap_err();
    assert_eq!(error, HandshakeError::MethodRefused { method: AuthMethod::Cleartext });
}

#[test]
fn a_node_without_a_secret_accepts_no_empty_one() {
    for line in ["cleartext;;json", "hmac_sha3_512;;json"] {
        let error = hear(tls_config("a"), TLS_PEER, |_| line.into()).unwrap_err();
        assert!(matches!(error, HandshakeError::MethodRefused { .. }), "{error}");
    }
    let session = listen(tls_config("a"));
    let own =
        Greeting::parse(session.own_greeting().split(|&octet| octet == b'\n').next().unwrap());
    assert_eq!(own.unwrap().auth_methods.join(&b','), b"tls_sha3_512,tls_anon");
}

#[test]
fn wrong_tokens_are_refused() {
    use AuthMethod::{Cleartext, HmacSha3_512, TlsAnon, TlsSha3_512};
    for method in [Cleartext, HmacSha3_512] {
        for token in ["", "00", "\u{e9}"] {
            let line = format!("{method};{token};json");
            let error = hear(secret_config("a"), PLAIN_PEER, |_| line).unwrap_err();
            assert_eq!(error, HandshakeError::WrongSecret { method });
        }
    }
    for method in [TlsSha3_512, TlsAnon] {
        let error = hear(tls_config("a"), TLS_PEER, |_| format!("{method};00;json")).unwrap_err();
        assert_eq!(error, HandshakeError::WrongToken { method });
    }
    let upper =
        |peer: &Peer| peer.line(HmacSha3_512).to_uppercase().replace("HMAC_SHA", "hmac_sha");
    assert!(hear(secret_config("a"), PLAIN_PEER, upper).is_err());
}

#[test]
fn further_fields_of_the_authentication_line_are_ignored() {
    let line = |peer: &Peer| peer.line(AuthMethod::HmacSha3_512) + ";KEY=VALUE;x";
    assert!(hear(secret_config("a"), PLAIN_PEER, line).is_ok());
}

#[test]
fn garbage_instead_of_authentication_is_refused_without_telling_it() {
    let heard = |line: &str| hear(secret_config("a"), PLAIN_PEER, |_| line.into()).unwrap_err();
    assert_eq!(heard("67656865696d"), HandshakeError::NotAnAuthLine);
    assert_eq!(heard("cleartext;67656865696d"), HandshakeError::NotAnAuthLine);
    assert_eq!(heard("md6;;json"), HandshakeError::UnknownMethod { method: "\"md6\"".into() });
}

#[test]
fn a_framing_that_we_did_not_list_is_refused() {
    let config = HandshakeConfig { framings: vec![Framing::Json], ..secret_config("a") };
    let line = |peer: &Peer| peer.line(AuthMethod::HmacSha3_512).replace(";json", ";cbor");
    let error = hear(config, PLAIN_PEER, line).unwrap_err();
    assert_eq!(error.to_string(), "peer wants to send framing \"cbor\", we accept \"json\"");
}

#[test]
fn unknown_methods_framings_and_keys_are_passed_over() {
    let greeting = "aemp;1.0;peer;new,cleartext,tls_anon,hmac_sha3_512;xml,storable,json;k;=;a=b=c";
    let peer = hear(secret_config("a"), greeting, |peer| peer.line(AuthMethod::HmacSha3_512));
    let peer = peer.unwrap();
    assert_eq!(peer.own_method, AuthMethod::HmacSha3_512);
    assert_eq!(peer.send_framing, Framing::Storable);
}

#[test]
fn wrong_greetings_are_refused() {
    let heard = |greeting: &str| {
        hear(secret_config("a"), greeting, |_| unreachable!()).unwrap_err().to_string()
    };
    assert_eq!(
        heard("GET / HTTP/1.1\r"),
        "peer did not greet as an AEMP node but sent \"GET / HTTP/1.1\"",
    );
    assert_eq!(
        heard("http;1;peer;;"),
        "peer speaks protocol \"http\", expected aemp or aemp-dataconn",
    );
    assert!(heard("aemp-other;1;peer;;").starts_with("peer speaks protocol \"aemp-other\""));
    assert!(heard("aemp;2;peer;;").starts_with("peer speaks AEMP version \"2\", we speak 1"));
    assert!(heard("aemp;1;a;;").starts_with("peer has our own node ID \"a\":"));
    assert_eq!(
        heard("aemp;1;peer;tls_sha3_512,x\x1b;json"),
        "no common authentication method: peer accepts \"tls_sha3_512,x\\u{1b}\", \
         we can send \"hmac_sha3_512\"",
    );
    assert_eq!(
        heard("aemp;1;peer;hmac_sha3_512;"),
        "no common framing: peer accepts \"\", we speak \"cbor,json,storable\"",
    );
}

#[test]
fn wrong_protocols_and_versions_fail_at_the_first_line() {
    for line in ["GET /\r\n", "http;1;n;;\n", "aemp;2;n;;\n"] {
        let error = greeted(listen(secret_config("a")), line.as_bytes()).unwrap_err();
        assert_ne!(error, HandshakeError::ClosedInGreeting);
    }
}

#[test]
fn our_own_node_id_comes_with_the_greeting_that_named_it() {
    let (dialled, listening) = (dial(secret_config("a")), listen(secret_config("a")));
    let listener_says = listening.own_greeting().to_vec();
    let Err(HandshakeError::SameNodeId { greeting, .. }) = greeted(dialled, &listener_says) else {
        panic!("not taken for itself");
    };
    assert_eq!(greeting, listening.own_greeting());
}

#[test]
fn an_echo_of_our_nonce_is_refused() {
    let session = listen(secret_config("a"));
    let echo = String::from_utf8(session.own_greeting().to_vec()).unwrap().replace(";a;", ";b;");
    assert_eq!(greeted(session, echo.as_bytes()).unwrap_err(), HandshakeError::EchoedNonce);
    let dialled = handshaker(secret_config("a")).dial_data(nonce(1), "", "id");
    let echo = dialled.own_greeting().to_vec();
    assert_eq!(greeted(dialled, &echo).unwrap_err(), HandshakeError::EchoedNonce);
}

#[test]
fn carriage_returns_before_line_feeds_are_no_part_of_a_line() {
    let session = listen(secret_config("a"));
    let own = session.own_greeting().to_vec();
    let session = authenticating(session, format!("{PLAIN_PEER}\r\n\r\n").as_bytes()).unwrap();
    let peer = Peer { own, peer: format!("{PLAIN_PEER}\n\n").into_bytes() };
    let line = peer.line(AuthMethod::HmacSha3_512) + "\r\n";
    assert!(finish(session, line.as_bytes()).is_ok());
}

#[test]
fn a_line_may_have_4096_octets_and_no_more() {
    let line = |length: usize| {
        let mut line = b"aemp;1;peer;hmac_sha3_512;json;pad=".to_vec();
        line.resize(length - 1, b'x');
        line.extend(b"\n\n");
        line
    };
    assert!(greeted(listen(secret_config("a")), &line(4096)).is_ok());
    let too_long = Err(HandshakeError::LineTooLong { limit: 4096 });
    assert_eq!(greeted(listen(secret_config("a")), &line(4097)).map(drop), too_long);
    let endless = vec![b'x'; 1 << 20];
    assert_eq!(greeted(listen(secret_config("a")), &endless).map(drop), too_long);
    let session = authenticating(listen(secret_config("a")), &line(100)).unwrap();
    assert_eq!(finish(session, &endless).map(drop), too_long);
}

#[test]
fn octets_after_the_authentication_line_are_packets_and_do_not_count_as_a_line() {
    let session = listen(secret_config("a"));
    let own = session.own_greeting().to_vec();
    let peer = Peer { own, peer: format!("{PLAIN_PEER}\nnonce\n").into_bytes() };
    let packets = br#"["port",1]"#.repeat(1000);
    let line = peer.line(AuthMethod::HmacSha3_512) + "\n";
    let all = [&*peer.peer, line.as_bytes(), &packets].concat();
    let mut session = greeted(session, &all).unwrap();
    session.proceed(AuthOrder::Now);
    assert!(matches!(session.poll(), Ok(Some(Event::Established(_)))));
    let mut received = session.into_packets(FramingLimits::default()).unwrap();
    received.input().extend_from_slice(br#"["port","#);
    for _ in 0..1000 {
        assert_eq!(received.poll().unwrap().unwrap().len(), 2);
    }
    assert!(received.poll().unwrap().is_none());
    received.input().extend_from_slice(b"2][");
    assert_eq!(received.poll().unwrap().unwrap().decode::<(String, u8)>().unwrap().1, 2);
    let (decoder, rest) = received.into_parts();
    assert_eq!((&rest[..], decoder.is_inside_a_packet()), (&b"["[..], false));
}

#[test]
fn a_peer_that_closes_early_is_told_apart_by_how_far_it_came() {
    let error = greeted(listen(secret_config("a")), b"aemp;1;peer;;\n").unwrap_err();
    assert_eq!(error, HandshakeError::ClosedInGreeting);
    let session =
        authenticating(listen(secret_config("a")), format!("{PLAIN_PEER}\n\n").as_bytes());
    assert_eq!(
        finish(session.unwrap(), b"hmac").unwrap_err(),
        HandshakeError::ClosedInAuthentication
    );
}

#[test]
fn a_listener_adopts_the_data_connection_of_a_dialler() {
    let dialled = handshaker(secret_config("a")).dial_data(nonce(2), "", "b;@a%25");
    assert!(dialled.own_greeting().starts_with(b"aemp-dataconn;1;a;"));
    let id = b"b%3b@a%25".to_vec();
    let (a, b) = meet(dialled, listen(secret_config("b")));
    assert_eq!(b.unwrap().connection, Connection::Data { id });
    assert_eq!(a.unwrap().connection, Connection::Data { id: b"b;@a%25".to_vec() });
}

#[test]
fn a_node_may_open_a_data_connection_to_itself() {
    let dialled = handshaker(secret_config("a")).dial_data(nonce(2), "", "id");
    let (a, b) = meet(dialled, listen(secret_config("a")));
    assert!(a.is_ok() && b.is_ok());
}

#[test]
fn a_data_connection_may_greet_as_one_in_both_directions_but_a_node_is_dialled_as_node() {
    let greeting = b"aemp-dataconn;1;peer;hmac_sha3_512;json;dataconn_id=x\n\n";
    let data = handshaker(secret_config("a")).dial_data(nonce(2), "", "id");
    let data = greeted(data, greeting).unwrap();
    assert_eq!(data.connection(), Some(&Connection::Data { id: b"id".to_vec() }));
    assert_eq!(data.peer().unwrap().node_id, b"peer");
    let node = greeted(dial(secret_config("a")), greeting).unwrap_err();
    assert_eq!(node.to_string(), "peer speaks protocol \"aemp-dataconn\", expected aemp");
    let nameless = b"aemp-dataconn;1;peer;hmac_sha3_512;json\n\n";
    let nameless = greeted(listen(secret_config("a")), nameless).unwrap_err();
    assert_eq!(nameless, HandshakeError::NoDataConnectionId);
}

#[test]
fn extra_keys_replace_ours_and_are_escaped() {
    let key = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let keys = vec![key("x", "a;b"), key("provider", "mine-1")];
    let session = listen(HandshakeConfig { keys, certificate: true, ..secret_config("a") });
    let line = String::from_utf8(session.own_greeting().to_vec()).unwrap();
    let keys = "peeraddr=peer:1;mproto=1;gproto=1;tls=1.0;x=a%3bb;provider=mine-1\n";
    assert!(line.contains(keys), "{line}");
}

#[test]
fn a_configuration_with_which_nobody_could_talk_is_refused() {
    use HandshakeConfigError::*;
    let refused = |config| Handshaker::new(config).map(drop).unwrap_err();
    assert_eq!(refused(HandshakeConfig::new("a")), NoCredentials);
    assert_eq!(refused(secret_config("")), NodeId("\"\"".into()));
    assert_eq!(refused(secret_config("a;b")), NodeId("\"a;b\"".into()));
    for name in ["", "a=b", "a\n"] {
        let keys = vec![(name.to_owned(), String::new())];
        assert_eq!(refused(HandshakeConfig { keys, ..secret_config("a") }), Key(name.into()));
    }
    assert_eq!(refused(HandshakeConfig { framings: vec![], ..secret_config("a") }), NoFraming);
    let auth_offer = vec![AuthMethod::TlsSha3_512, AuthMethod::Cleartext];
    assert_eq!(refused(HandshakeConfig { auth_offer, ..secret_config("a") }), NothingToOffer);
    let auth_accept = vec![AuthMethod::HmacSha3_512, AuthMethod::Cleartext];
    assert_eq!(refused(HandshakeConfig { auth_accept, ..tls_config("a") }), NothingAccepted);
    let long = refused(secret_config(&"a".repeat(4000)));
    assert!(matches!(long, GreetingTooLong { octets: 5000.. }), "{long}");
    let kept = handshaker(secret_config("a"));
    assert_eq!(kept.config().auth_offer, [AuthMethod::HmacSha3_512]);
}

#[test]
fn nothing_that_can_be_shown_shows_the_secret() {
    let handshaker = handshaker(secret_config("a"));
    let shown = format!("{handshaker:?} {:?}", handshaker.dial(nonce(1), ""));
    assert!(!shown.contains("geheim"), "{shown}");
}
