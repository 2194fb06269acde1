//! Sessions bound to the secret: who is accepted, and that nobody in between is.

use super::*;
use crate::wire::auth::{self, Secret};
use crate::wire::greeting::BoundOffer;
use crate::wire::protection::WhyPlain;

fn config(node_id: &str) -> HandshakeConfig {
    HandshakeConfig {
        secret: Secret::new("geheim"),
        encrypt: Encrypt::Auto,
        ..HandshakeConfig::new(node_id)
    }
}

fn dial(config: HandshakeConfig) -> Session {
    Handshaker::new(config).unwrap().dial(Nonce::from_random(&[2; Nonce::OCTETS]), "peer:2")
}

fn listen(config: HandshakeConfig) -> Session {
    Handshaker::new(config).unwrap().listen(Nonce::from_random(&[1; Nonce::OCTETS]), "peer:1")
}

fn exporter(octet: u8) -> Exporter {
    Exporter::new([octet; Exporter::OCTETS])
}

/// The state of a side after both greetings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Plain,
    Certificates,
    Bound,
}

/// Passes a greeting to a session and continues, in the TLS session of `exporter` if the session wants
/// TLS.
fn greet(
    session: &mut Session,
    greeting: &[u8],
    exporter: Exporter,
) -> Result<Stage, HandshakeError> {
    session.input().extend_from_slice(greeting);
    match session.poll()? {
        Some(Event::Greeted) => session.proceed(AuthOrder::Now),
        _ => return Err(session.closed()),
    }
    match session.poll()? {
        Some(Event::StartTls { .. }) => {
            session.bound_tls_established(exporter);
            assert_eq!(session.transmit(), None, "a bound proof in TLS with certificates");
            session.tls_established(TlsPeer::Verified);
            Ok(Stage::Certificates)
        }
        Some(Event::StartBoundTls { .. }) => {
            session.tls_established(TlsPeer::Verified);
            assert_eq!(session.transmit(), None, "a proof by certificate in a bound session");
            session.bound_tls_established(exporter);
            Ok(Stage::Bound)
        }
        Some(other) => panic!("{other:?}"),
        None => Ok(Stage::Plain),
    }
}

type HandshakeResult = Result<Agreement, HandshakeError>;

fn finish(session: &mut Session, line: &[u8]) -> HandshakeResult {
    session.input().extend_from_slice(line);
    match session.poll()? {
        Some(Event::Established(agreement)) => Ok(agreement),
        _ => Err(session.closed()),
    }
}

/// Two nodes with an attacker in between, who passes each greeting on as `change` makes it, and who is
/// the other end of a TLS session with each, unless `one_session`.
fn meet_through(
    mut a: Session,
    mut b: Session,
    change: impl Fn(Vec<u8>) -> Vec<u8>,
    one_session: bool,
) -> (HandshakeResult, HandshakeResult) {
    let (from_a, from_b) = (a.transmit().unwrap(), b.transmit().unwrap());
    let b_exporter = if one_session { exporter(1) } else { exporter(2) };
    let stages =
        (greet(&mut a, &change(from_b), exporter(1)), greet(&mut b, &change(from_a), b_exporter));
    let stages = match stages {
        (Ok(a), Ok(b)) => (a, b),
        (one, other) => {
            let closed = |stage: Result<Stage, HandshakeError>| match stage {
                Ok(_) => Err(HandshakeError::ClosedInAuthentication),
                Err(error) => Err(error),
            };
            return (closed(one), closed(other));
        }
    };
    if stages.0 != stages.1 {
        // One of them reads TLS as a line, or a line as TLS.
        let failed = || Err(HandshakeError::ClosedInAuthentication);
        return (failed(), failed());
    }
    let (line_a, line_b) = (a.transmit().unwrap_or_default(), b.transmit().unwrap_or_default());
    (finish(&mut a, &line_b), finish(&mut b, &line_a))
}

fn meet(a: Session, b: Session) -> (HandshakeResult, HandshakeResult) {
    meet_through(a, b, |greeting| greeting, true)
}

#[test]
fn two_nodes_with_nothing_but_a_secret_are_encrypted_and_bound_to_it() {
    let (a, b) = meet(dial(config("a")), listen(config("b")));
    for agreement in [a.unwrap(), b.unwrap()] {
        assert_eq!(agreement.protection, Protection::Bound);
        assert_eq!(agreement.method, AuthMethod::HmacBoundSha3_512);
        assert_eq!(agreement.own_method, AuthMethod::HmacBoundSha3_512);
        assert!(!agreement.untrusted);
    }
}

#[test]
fn the_smaller_nonce_is_the_tls_client() {
    let (mut a, mut b) = (dial(config("a")), listen(config("b")));
    let (from_a, from_b) = (a.transmit().unwrap(), b.transmit().unwrap());
    for (session, greeting, expected) in [(&mut a, from_b, false), (&mut b, from_a, true)] {
        session.input().extend_from_slice(&greeting);
        assert_eq!(session.poll(), Ok(Some(Event::Greeted)));
        session.proceed(AuthOrder::Now);
        assert!(!session.wants_input());
        let event = Event::StartBoundTls { we_are_client: expected };
        assert_eq!(session.poll(), Ok(Some(event)));
    }
}

#[test]
fn whoever_ends_the_encryption_in_between_has_no_token_that_fits() {
    let (a, b) = meet_through(dial(config("a")), listen(config("b")), |greeting| greeting, false);
    assert_eq!(a.unwrap_err(), HandshakeError::WrongBoundToken);
    assert_eq!(b.unwrap_err(), HandshakeError::WrongBoundToken);
}

#[test]
fn no_change_of_a_greeting_on_the_way_is_survived() {
    let lengths =
        [dial(config("a")), listen(config("b"))].map(|session| session.own_greeting().len());
    let longest = lengths.into_iter().max().unwrap();
    let attempt = |change: &dyn Fn(Vec<u8>) -> Vec<u8>| {
        for one_session in [true, false] {
            let (a, b) = meet_through(dial(config("a")), listen(config("b")), change, one_session);
            assert!(a.is_err() && b.is_err());
        }
    };
    for at in 0..longest {
        for octet in [b'0', b';', b'=', b'\n', 0xff] {
            attempt(&|mut greeting| {
                if let Some(place) = greeting.get_mut(at) {
                    *place = if *place == octet { b'z' } else { octet };
                } else {
                    greeting[1] = octet;
                }
                greeting
            });
        }
        attempt(&|mut greeting| {
            greeting.remove(at.min(greeting.len() - 2));
            greeting
        });
    }
    // Without the key both would continue unencrypted.
    attempt(&|greeting| String::from_utf8(greeting).unwrap().replace(";bound=1", "").into_bytes());
    attempt(&|greeting| {
        String::from_utf8(greeting).unwrap().replace("bound=1", "bound=local").into_bytes()
    });
}

#[test]
fn in_a_bound_session_no_other_method_is_accepted_whatever_is_listed() {
    for method in AuthMethod::LISTED {
        let mut session = listen(HandshakeConfig { certificate: true, ..config("b") });
        let own = session.transmit().unwrap();
        let peer = b"aemp;1;a;tls_sha3_512,hmac_sha3_512;json;bound=1\nnonce\n";
        assert_eq!(greet(&mut session, peer, exporter(1)), Ok(Stage::Bound));
        assert!(session.transmit().unwrap().starts_with(b"hmac_bound_sha3_512;"));
        let token = method.token(Secret::new("geheim").as_ref(), peer, &own).unwrap();
        let line = format!("{method};{token};json\n");
        let error = finish(&mut session, line.as_bytes()).unwrap_err();
        assert_eq!(error, HandshakeError::MethodInBoundSession { method });
    }
}

#[test]
fn a_bound_token_is_accepted_in_a_bound_session_only() {
    for (keys, stage) in [("", Stage::Plain), (";tls=1.0", Stage::Certificates)] {
        let mut session = listen(HandshakeConfig { certificate: true, ..config("b") });
        let own = session.transmit().unwrap();
        let peer = format!("aemp;1;a;hmac_sha3_512,hmac_bound_sha3_512;json{keys}\nnonce\n");
        assert_eq!(greet(&mut session, peer.as_bytes(), exporter(1)), Ok(stage));
        let line = String::from_utf8(session.transmit().unwrap()).unwrap();
        assert!(line.starts_with("hmac_sha3_512;"), "{line}");
        let secret = Secret::new("geheim").unwrap();
        let role = auth::TlsRole::Server;
        let token = auth::bound_token(&secret, &exporter(1), role, peer.as_bytes(), &own).unwrap();
        let line = format!("hmac_bound_sha3_512;{token};json\n");
        assert_eq!(
            finish(&mut session, line.as_bytes()).unwrap_err(),
            HandshakeError::NotABoundSession
        );
    }
}

#[test]
fn our_own_token_sent_back_is_refused() {
    let mut session = listen(config("b"));
    session.transmit().unwrap();
    let peer = b"aemp;1;a;hmac_sha3_512;json;bound=1\nnonce\n";
    greet(&mut session, peer, exporter(1)).unwrap();
    let line = session.transmit().unwrap();
    assert_eq!(finish(&mut session, &line).unwrap_err(), HandshakeError::WrongBoundToken);
}

#[test]
fn each_mixture_of_nodes_is_as_well_protected_as_both_can() {
    use HandshakeConfig as Config;
    let old = || Config { encrypt: Encrypt::Never, ..config("x") };
    let plain = || config("x");
    let both = || Config { certificate: true, ..config("x") };
    let certificate_only = || Config { certificate: true, secret: None, ..Config::new("x") };
    type Make<'a> = &'a dyn Fn() -> Config;
    let kinds: [(&str, Make<'_>); 4] =
        [("old", &old), ("secret", &plain), ("both", &both), ("certificate", &certificate_only)];
    for (a_name, a) in kinds {
        for (b_name, b) in kinds {
            let (mut a, mut b) = (a(), b());
            (a.node_id, b.node_id) = (b"a".to_vec(), b"b".to_vec());
            let (here, there) = meet(dial(a), listen(b));
            let expected = match (a_name, b_name) {
                ("both" | "certificate", "both" | "certificate") => Some("certificates"),
                ("both" | "secret", "both" | "secret") => Some("bound"),
                ("certificate", _) | (_, "certificate") => None,
                _ => Some("plain"),
            };
            let found = [&here, &there]
                .map(|side| side.as_ref().ok().map(|agreement| agreement.protection.name()));
            assert_eq!(found, [expected, expected], "{a_name} {b_name}: {here:?}");
        }
    }
}

#[test]
fn on_loopback_a_node_does_without_if_both_ends_see_it() {
    let at = |encrypt, required, own_is_loopback| {
        let config = HandshakeConfig { encrypt, encryption_required: required, ..config("a") };
        let nonce = Nonce::from_random(&[2; Nonce::OCTETS]);
        let ends = Ends { peer: "peer:2", own_is_loopback };
        Handshaker::new(config).unwrap().dial(nonce, ends).own.bound()
    };
    assert_eq!(at(Encrypt::Auto, false, true), Some(BoundOffer::Local));
    assert_eq!(at(Encrypt::Auto, false, false), Some(BoundOffer::Wanted));
    assert_eq!(at(Encrypt::Auto, true, true), Some(BoundOffer::Wanted));
    assert_eq!(at(Encrypt::Always, false, true), Some(BoundOffer::Wanted));
    assert_eq!(at(Encrypt::Never, false, false), None);
}

#[test]
fn a_secret_that_may_prove_nothing_binds_nothing() {
    for change in [
        (|config| config.auth_offer = vec![AuthMethod::TlsSha3_512]) as fn(&mut HandshakeConfig),
        |config| config.auth_accept = vec![AuthMethod::TlsSha3_512],
        |config| config.secret = None,
    ] {
        let mut config = HandshakeConfig { certificate: true, ..config("a") };
        change(&mut config);
        assert_eq!(dial(config).own.bound(), None);
    }
}

#[test]
fn encryption_that_is_required_is_satisfied_by_the_secret_and_refuses_what_is_plain() {
    let required = || HandshakeConfig { encryption_required: true, ..config("b") };
    let (a, b) = meet(dial(config("a")), listen(required()));
    assert!(a.is_ok() && b.is_ok());
    let (_, b) =
        meet(dial(HandshakeConfig { encrypt: Encrypt::Never, ..config("a") }), listen(required()));
    let why = WhyPlain::NotOfferedByPeer.name();
    assert_eq!(b.unwrap_err(), HandshakeError::EncryptionRequired { why });
    let nothing = HandshakeConfig { encrypt: Encrypt::Never, ..required() };
    assert_eq!(Handshaker::new(nothing).unwrap_err(), HandshakeConfigError::NothingEncrypted);
}

#[test]
fn a_data_connection_is_bound_the_same_way() {
    let nonce = Nonce::from_random(&[2; Nonce::OCTETS]);
    let dialled = Handshaker::new(config("a")).unwrap().dial_data(nonce, "peer:2", "id");
    let (a, b) = meet(dialled, listen(config("b")));
    let expected = Connection::Data { id: b"id".to_vec() };
    for agreement in [a.unwrap(), b.unwrap()] {
        assert_eq!(agreement.connection, expected);
        assert_eq!(agreement.protection, Protection::Bound);
    }
}
