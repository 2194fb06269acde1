//! Handshakes of the scripted Perl peer with itself, so that the other tests can rely on it.

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used)]

use compat_tests::cases;
use compat_tests::neutral::hex;
use compat_tests::peer::{HandshakeResult, Peer};
use serde_json::json;

#[test]
fn it_accepts_itself_in_every_correct_way() {
    let Some(mut peer) = Peer::start() else {
        return;
    };
    for case in cases::accepted() {
        let listener = format!("{} listening", case.name);
        let port = peer.listen(&listener, &json!({"node": "listener"}));
        peer.dial(case.name, port, &case.options);
        let accepted = format!("{listener}.1");
        assert_eq!(peer.outcome(&accepted), HandshakeResult::Up, "{}", case.name);
        assert_eq!(peer.outcome(case.name), HandshakeResult::Up, "{}", case.name);
        assert_eq!(peer.echo(case.name, &case.node, "port1"), HandshakeResult::Up, "{}", case.name);
        assert_eq!(peer.echo(&accepted, "listener", "port2"), HandshakeResult::Up, "{}", case.name);
    }
}

#[test]
fn it_sees_wrong_tokens() {
    let Some(mut peer) = Peer::start() else {
        return;
    };
    for (name, options) in [
        ("hmac", json!({"secret": "wrong"})),
        ("cleartext", json!({"secret": "wrong", "method": "cleartext"})),
        ("empty", json!({"token": ""})),
    ] {
        let listener = format!("{name} listening");
        let port = peer.listen(&listener, &json!({"node": "listener"}));
        peer.dial(name, port, &options);
        let accepted = format!("{listener}.1");
        assert_eq!(peer.event(&accepted, "auth")["ok"], false, "{name}");
        peer.event(name, "closed");
    }
}

#[test]
fn it_sends_packets_with_the_authentication() {
    let Some(mut peer) = Peer::start() else {
        return;
    };
    let port = peer.listen("listening", &json!({"node": "listener"}));
    let request = br#"["","snd","early#port1","first"]["","snd","early#port1","second"]"#;
    let options = json!({"node": "early", "framing": "json", "early": hex(request)});
    peer.dial("early", port, &options);
    for word in ["first", "second"] {
        assert_eq!(peer.packet("early", &json!("port1")), json!(["port1", word]));
    }
}

#[test]
fn it_speaks_tls_with_itself() {
    let Some(mut peer) = Peer::start() else {
        return;
    };
    let pem = compat_tests::certificate();
    for method in ["tls_sha3_512", "tls_anon", "hmac_sha3_512"] {
        let listener = format!("{method} listening");
        let port = peer.listen(&listener, &json!({"node": "listener", "cert": pem}));
        peer.dial(method, port, &json!({"node": "dialler", "cert": pem, "method": method}));
        assert_eq!(peer.event(method, "auth")["method"], "tls_sha3_512");
        assert_eq!(peer.outcome(method), HandshakeResult::Up);
        assert_eq!(peer.echo(method, "dialler", "port1"), HandshakeResult::Up);
    }
}
