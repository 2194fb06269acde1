//! The limits of queues: for a node, and in a port.

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod node_support;

use aemp::{CallbackPort, Context, KillReason, Node, RecvError};
use node_support::{Gate, Log, builder, join, node, until, within};
use std::sync::{Arc, LazyLock, Mutex};

static LOG: LazyLock<Log> = LazyLock::new(Log::of_this_process);

type Numbers = Arc<Mutex<Vec<u32>>>;

/// A port that blocks its node's reader on the tag `block`, and records the numbers of the tag `n`.
fn blocking_port(node: &Node, gate: &Gate) -> (CallbackPort, Numbers) {
    let numbers = Numbers::default();
    let port = node.port_of_tags();
    let gate = gate.clone();
    port.on("block", move |_: &Context<'_>, (): ()| gate.pass());
    let noted = numbers.clone();
    port.on("n", move |_: &Context<'_>, (number, _): (u32, String)| {
        noted.lock().unwrap().push(number);
    });
    (port, numbers)
}

fn is_overflow(reason: &KillReason) -> bool {
    reason.is_transport_error() && reason.to_string().contains("too many octets were queued")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_peer_that_never_reads_is_given_up_without_a_hole_and_found_again() {
    let log = &*LOG;
    let peer = node("never-reads", &[]).await;
    let sender = builder("eager", &[&peer]).soft_limit(64 << 10).hard_limit(4 << 20);
    let sender = join(sender, true).await;
    let gate = Gate::closed();
    let (port, numbers) = blocking_port(&peer, &gate);
    let mut died = sender.monitor(port.id());
    sender.snd(port.id(), ("block",)).unwrap();
    let load = "x".repeat(16 << 10);
    let mut sent = 0;
    let reason = loop {
        sender.snd(port.id(), ("n", sent, &load)).unwrap();
        sent += 1;
        if let Some(reason) = died.try_reason() {
            break reason;
        }
        assert!(sent < 100_000, "the limit is not heeded");
    };
    assert!(is_overflow(&reason), "{reason}");
    // Once more each time that the sockets' buffers took all that waited.
    let warnings = log.count("more than 65536 octets are queued for never-reads");
    assert!((1..sent as usize / 4).contains(&warnings), "{}", log.text());

    let again = sender.monitor(port.id());
    sender.snd(port.id(), ("n", 1_000_000, "")).unwrap();
    gate.open();
    until("the node is found again", || numbers.lock().unwrap().contains(&1_000_000)).await;
    let mut arrived = numbers.lock().unwrap().clone();
    assert_eq!(arrived.pop(), Some(1_000_000));
    assert!(arrived.iter().copied().eq(0..arrived.len() as u32), "a hole");
    assert!((arrived.len() as u32) < sent);
    drop(again);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_sender_that_waits_reaches_no_limit_and_causes_no_warning() {
    let log = &*LOG;
    let peer = node("slow", &[]).await;
    let sender = builder("patient", &[&peer]).soft_limit(64 << 10).hard_limit(256 << 10);
    let sender = join(sender, true).await;
    let gate = Gate::closed();
    let (port, numbers) = blocking_port(&peer, &gate);
    let mut died = sender.monitor(port.id());
    sender.snd(port.id(), ("block",)).unwrap();
    let load = "x".repeat(64 << 10);
    // More than the sockets' buffers hold.
    for number in 0..512 {
        if number == 4 {
            gate.open();
        }
        within(sender.snd_wait(port.id(), ("n", number, &load))).await.unwrap();
    }
    until("all has come", || numbers.lock().unwrap().len() == 512).await;
    assert!(numbers.lock().unwrap().iter().copied().eq(0..512));
    assert!(died.try_reason().is_none());
    assert_eq!(log.count("octets are queued for slow"), 0, "{}", log.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_sender_that_waits_goes_on_when_the_node_is_lost() {
    let peer = node("lost", &[]).await;
    let sender = builder("waits", &[&peer]).soft_limit(64 << 10);
    let sender = join(sender, true).await;
    let gate = Gate::closed();
    let (port, _) = blocking_port(&peer, &gate);
    sender.snd(port.id(), ("block",)).unwrap();
    sender.snd(port.id(), ("n", 0, "x".repeat(64 << 20))).unwrap();
    let (waiting, to) = (sender.clone(), port.id());
    let waiting = tokio::spawn(async move { waiting.snd_wait(&to, ("n", 1, "")).await });
    until("it waits", || !waiting.is_finished()).await;
    let lost = sender.monitor(peer.id());
    drop(port);
    gate.open();
    peer.shutdown().await;
    assert!(within(lost).await.is_transport_error());
    within(waiting).await.unwrap().unwrap();
}

#[tokio::test]
async fn too_much_queued_for_an_unconnected_node_gives_it_up() {
    // It (or the operating system) accepts connections, and never sends anything.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let node = builder("seeker", &[]).seed(&silent.local_addr().unwrap().to_string());
    let node = join(node.hard_limit(10_000), false).await;
    let port: aemp::PortId = "elsewhere#port".parse().unwrap();
    let mut died = node.monitor(&port);
    for _ in 0..100 {
        node.snd(&port, ("n", "x".repeat(1000))).unwrap();
    }
    let reason = died.try_reason().expect("it is given up at once");
    assert!(is_overflow(&reason), "{reason}");
    // The next one begins anew.
    let mut died = node.monitor(&port);
    node.snd(&port, ("n",)).unwrap();
    assert!(died.try_reason().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_message_may_exceed_all_limits() {
    let peer = builder("receives", &[]).port_limit(1000);
    let peer = join(peer, false).await;
    let sender = builder("sends", &[&peer]).soft_limit(1000).hard_limit(10_000);
    let sender = join(sender, true).await;
    let mut port = peer.port();
    let large = "x".repeat(3 << 20);
    sender.snd(port.id(), (&large,)).unwrap();
    let (arrived,): (String,) = within(port.recv()).await.unwrap();
    assert!(arrived == large);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mailbox_that_overflows_yields_what_came_before_and_then_the_reason() {
    let peer = join(builder("peer", &[]).port_limit(1000), false).await;
    let sender = node("sender", &[&peer]).await;
    for from in [&sender, &peer] {
        let mut port = peer.port();
        let died = from.monitor(port.id());
        for number in 0..1000 {
            from.snd(port.id(), (number,)).unwrap();
        }
        let reason = within(died).await;
        assert_eq!(reason.to_string(), r#"["die", "too many messages were waiting"]"#);
        let mut next = 0;
        let end = loop {
            match within(port.recv::<(u32,)>()).await {
                Ok((number,)) => assert_eq!(number, next),
                Err(end) => break end,
            }
            next += 1;
        };
        assert!(next > 10, "{next}");
        assert!(matches!(end, RecvError::Died(reason) if reason.to_string().contains("too many")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_callback_port_that_overflows_dies() {
    let node = join(builder("busy", &[]).port_limit(1000), false).await;
    let gate = Gate::closed();
    let (port, numbers) = blocking_port(&node, &gate);
    let died = node.monitor(port.id());
    let (blocked, to) = (node.clone(), port.id());
    let blocked = std::thread::spawn(move || blocked.snd(&to, ("block",)).unwrap());
    // Otherwise this thread might be the one that is blocked.
    gate.wait_for_visitor();
    let mut sent = 0;
    while node.port_count() > 0 {
        node.snd(port.id(), ("n", sent, "")).unwrap();
        sent += 1;
        assert!(sent < 1_000_000);
    }
    assert!(within(died).await.to_string().contains("too many messages"));
    gate.open();
    blocked.join().unwrap();
    let numbers = numbers.lock().unwrap();
    assert!(numbers.iter().copied().eq(0..numbers.len() as u32));
}
