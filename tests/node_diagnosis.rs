//! What the log says, at its default level, about nodes that cannot connect, and what it does not say.

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod node_support;

use aemp::wire::auth::{Nonce, Secret};
use aemp::wire::session::{HandshakeConfig, Handshaker};
use aemp::{Node, NodeEvent};
use node_support::{Gate, Log, builder, join, node, settled, until, within};
use std::io::Write as _;
use std::net::TcpStream;
use std::sync::LazyLock;

static LOG: LazyLock<Log> = LazyLock::new(Log::of_this_process);

#[tokio::test(flavor = "multi_thread")]
async fn two_live_nodes_with_one_id_are_named_in_the_logs_of_both_and_disturb_nobody() {
    LazyLock::force(&LOG);
    // The side with the smaller ID decides about connections.
    for (seed, twin) in [("diag-m", "diag-a"), ("diag-n", "diag-z")] {
        let seed = node(seed, &[]).await;
        let first = node(twin, &[&seed]).await;
        let port = first.port();
        let (lost, mut seeds_events) = (seed.monitor(port.id()), seed.events());
        assert!(matches!(within(seeds_events.next()).await, Some(NodeEvent::Up { .. })));
        let second = builder(twin, &[&seed]).start().await.unwrap();
        let seconds_events = second.events();
        until("the seed's log has it", || {
            LOG.count(&format!("in the name of {twin} were refused")) > 0
        })
        .await;
        assert!(first.is_up(seed.id()), "the first one is not disturbed");
        for mut events in [seeds_events, seconds_events] {
            let none = tokio::time::timeout(std::time::Duration::ZERO, events.next()).await;
            assert!(none.is_err(), "{none:?}");
        }
        let said = format!("no connection to {} ", seed.addresses()[0]);
        assert_eq!(LOG.count(&said), 1, "three dials have failed: {}", LOG.text());
        let health = second.health().unwrap_err().to_string();
        assert!(health.contains("another live node may have our node ID"), "{health}");
        drop((second, lost, port));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_dial_each_other_at_once_log_no_warning() {
    LazyLock::force(&LOG);
    for round in 0..20 {
        let (a, b) = (format!("cross-a{round}"), format!("cross-b{round}"));
        let (a, b) = (node(&a, &[]).await, node(&b, &[]).await);
        a.set_seeds(b.addresses());
        b.set_seeds(a.addresses());
        until("they are connected", || a.is_up(b.id()) && b.is_up(a.id())).await;
        settled(&a, b.id()).await;
        settled(&b, a.id()).await;
        until("no connection is open but theirs", || {
            [&a, &b].iter().all(|node| node.metrics().connections.opening == 0)
        })
        .await;
    }
    assert_eq!(LOG.count("cross-"), 0, "{}", LOG.text());
}

/// A peer that greets with this node ID.
fn peer(node: &Node, id: &str) -> TcpStream {
    let mut config = HandshakeConfig::new(id);
    config.secret = Secret::new("secret");
    let mut nonce = [0; Nonce::OCTETS];
    getrandom::fill(&mut nonce).unwrap();
    let address = node.addresses()[0].to_string();
    let handshaker = Handshaker::new(config).unwrap();
    let session = handshaker.dial(Nonce::from_random(&nonce), &address);
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(session.own_greeting()).unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_whose_node_id_cannot_be_used_is_refused_with_the_reason() {
    LazyLock::force(&LOG);
    let node = node("diag-own", &[]).await;
    for (id, reason) in [
        ("diag#port", "must not contain '#'"),
        (
            "diag-own",
            "peer has our own node ID \"diag-own\": each node of a network needs another one",
        ),
    ] {
        let _peer = peer(&node, id);
        until(reason, || LOG.count(reason) > 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_ends_waits_for_a_peer_that_does_not_read_no_longer_than_it_may() {
    let limit = std::time::Duration::from_millis(300);
    let (gate, stalled) = (Gate::closed(), node("stalled", &[]).await);
    let door = gate.clone();
    let port = stalled.port_with(move |_: &aemp::Context<'_>, _| door.pass());
    let sender = join(builder("sender", &[&stalled]).shutdown_limit(limit), true).await;
    sender.snd(port.id(), "wait").unwrap();
    gate.wait_for_visitor();
    // More than the system's buffers take.
    for _ in 0..32 {
        sender.snd(port.id(), vec![0_u8; 1 << 20]).unwrap();
    }
    let begun = std::time::Instant::now();
    within(sender.shutdown()).await;
    let took = begun.elapsed();
    assert!(took >= limit && took < aemp::config::Settings::DEFAULT_SHUTDOWN, "{took:?}");
    gate.open();
}
