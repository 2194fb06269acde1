//! TLS between nodes, over real sockets: who may join, and who counts as trusted.

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod services_support;

use aemp::node::tls;
use aemp::{Node, NodeEvent};
use services_support::{Introduction, Peer, SECRET, id, started, within};
use std::time::Duration;

fn certificate() -> String {
    tls::gencert(std::time::SystemTime::now()).unwrap()
}

/// A listening node with these settings.
async fn listener(settings: &[(&str, serde_json::Value)]) -> Node {
    let mut builder = Node::builder().node_id("seed").bind("127.0.0.1:0");
    for (key, value) in settings {
        builder = builder.set(key, value.clone());
    }
    started(builder).await
}

async fn up(node: &Node, peer: &str) -> bool {
    let mut events = node.events();
    within(async {
        loop {
            match events.next().await {
                Some(NodeEvent::Up { node, untrusted }) if node == id(peer) => return untrusted,
                Some(_) => {}
                None => panic!("the node has ended"),
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_stays_anonymous_is_untrusted_and_others_are_not() {
    let pem = certificate();
    let seed = listener(&[("cert", pem.as_str().into())]).await;
    let anonymous = Introduction {
        secret: None,
        pem: Some(&pem),
        line: Some("tls_anon;;json\n"),
        ..Introduction::of("stranger")
    };
    let _stranger = Peer::connect(&seed, &anonymous).await.unwrap();
    assert!(up(&seed, "stranger").await);
    let proven = Introduction { secret: None, pem: Some(&pem), ..Introduction::of("member") };
    let _member = Peer::connect(&seed, &proven).await.unwrap();
    assert!(!up(&seed, "member").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_tls_anon_is_not_accepted_an_anonymous_peer_stays_out() {
    let pem = certificate();
    let seed =
        listener(&[("cert", pem.as_str().into()), ("auth_accept", vec!["tls_sha3_512"].into())])
            .await;
    let anonymous = Introduction {
        secret: None,
        pem: Some(&pem),
        line: Some("tls_anon;;json\n"),
        ..Introduction::of("stranger")
    };
    let mut stranger = match Peer::connect(&seed, &anonymous).await {
        Ok(peer) => peer,
        // Closed before we saw its line.
        Err(_) => return,
    };
    let mut rest = Vec::new();
    let closed = tokio::io::AsyncReadExt::read_to_end(&mut stranger.stream, &mut rest);
    // With a closing alert of TLS or without.
    let _ = within(closed).await;
    assert!(!seed.is_up(&id("stranger")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_peer_with_the_secret_joins_unless_tls_is_required() {
    let pem = certificate();
    for required in [false, true] {
        let seed = listener(&[
            ("cert", pem.as_str().into()),
            ("secret", SECRET.into()),
            ("tls_required", required.into()),
        ])
        .await;
        let joined = Peer::connect(&seed, &Introduction::of("plain")).await;
        assert_eq!(joined.is_err(), required);
        if !required {
            assert!(!up(&seed, "plain").await);
        }
        let secured = Introduction { pem: Some(&pem), ..Introduction::of("secured") };
        let _secured = Peer::connect(&seed, &secured).await.unwrap();
        assert!(!up(&seed, "secured").await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_requires_tls_does_not_authenticate_to_a_plain_seed() {
    let pem = certificate();
    let plain = listener(&[("secret", SECRET.into()), ("encrypt", 0.into())]).await;
    let dialler = Node::builder()
        .node_id("dialler")
        .secret(SECRET)
        .cert(&pem)
        .set("tls_required", true)
        .bind("127.0.0.1:0")
        .seed(&plain.addresses()[0].to_string())
        .start()
        .await
        .unwrap();
    let why = within(async {
        loop {
            if let Some(error) = dialler.seeds()[0].last_error.clone() {
                return error;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert!(why.contains("tls_required"), "{why}");
    assert!(plain.up_nodes().is_empty() && dialler.up_nodes().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_with_other_certificates_do_not_meet() {
    let seed = listener(&[("cert", certificate().as_str().into())]).await;
    let stranger = Node::builder()
        .node_id("stranger")
        .cert(&certificate())
        .bind("127.0.0.1:0")
        .seed(&seed.addresses()[0].to_string())
        .start()
        .await
        .unwrap();
    let why = within(async {
        loop {
            if let Some(error) = stranger.seeds()[0].last_error.clone() {
                return error;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    // The nonces determine which side sees the other's certificate first.
    assert!(why.contains("certificate") || why.contains("TLS") || why.contains("clos"), "{why}");
    assert!(seed.up_nodes().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_can_run_with_tls_only() {
    let pem = certificate();
    let seed = listener(&[("cert", pem.as_str().into())]).await;
    let mut slaves = Vec::new();
    for name in ["one", "two", "three"] {
        let slave = Node::builder()
            .node_id(name)
            .cert(&pem)
            .bind("127.0.0.1:0")
            .seed(&seed.addresses()[0].to_string());
        slaves.push(started(slave).await);
    }
    for from in &slaves {
        for to in slaves.iter().filter(|to| to.id() != from.id()) {
            let mut port = to.port();
            from.snd(port.id(), ("hello", from.id())).unwrap();
            let (_, name): (String, String) = within(port.recv()).await.unwrap();
            assert_eq!(name, from.id().to_string());
        }
    }
}
