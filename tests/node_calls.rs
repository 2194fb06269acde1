//! Calls; and that nothing is left of calls that end in any way, and of nodes that are shut down.

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod node_support;

use aemp::{CallError, Context, KillReason, MessageRef, Node, PortId, RecvError, Reply, SendError};
use node_support::{builder, join, node, pair, settled, until, within};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

fn echo(node: &Node) -> PortId {
    let port = node.port_of_tags();
    port.on("echo", |ctx: &Context<'_>, (text, reply): (String, PortId)| ctx.snd(&reply, (text,)));
    port.on("die", |_: &Context<'_>, _: (PortId,)| Err::<(), _>("told to"));
    port.on("silence", |_: &Context<'_>, _: (PortId,)| {});
    port.id()
}

/// The numbers of ports and monitors.
fn count(node: &Node) -> (usize, usize) {
    (node.port_count(), node.monitor_count())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_leaves_nothing_behind_however_it_ends() {
    let (seed, other) = pair().await;
    for callee in [&seed, &other] {
        let port = echo(callee);
        let (before, there) = (count(&other), count(&seed));
        let (text,): (String,) = within(other.call(&port, ("echo", "x"))).await.unwrap();
        assert_eq!(text, "x");
        assert!(matches!(
            within(other.call::<(u32,)>(&port, ("echo", "x"))).await,
            Err(CallError::Decode(_))
        ));
        let call = other.call::<()>(&port, ("silence",)).timeout(Duration::from_millis(1));
        assert!(matches!(within(call).await, Err(CallError::Timeout(_))));
        let nobody = PortId::new(callee.id(), "nobody");
        assert!(matches!(within(other.call::<()>(&nobody, ())).await, Err(CallError::Died(_))));
        assert!(within(other.call::<()>("#", ())).await.is_err());
        // Never sent, and dropped in the middle.
        drop(other.call::<()>(&port, ("silence",)));
        let call = other.call::<()>(&port, ("silence",)).into_future();
        let call = tokio::spawn(call);
        until("it is on its way", || other.port_count() > before.0).await;
        call.abort();
        until("all is given up", || count(&other) == before).await;
        settled(&other, seed.id()).await;
        assert_eq!(count(&seed), there);

        let Err(CallError::Died(reason)) = within(other.call::<()>(&port, ("die",))).await else {
            panic!("the callee died");
        };
        assert_eq!(reason.to_string(), r#"["die", "told to"]"#);
        until("all is given up", || count(&other).1 == before.1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_calls_leave_nothing_behind() {
    let (seed, other) = pair().await;
    let (here, there) = (echo(&other), echo(&seed));
    let before = (count(&other), count(&seed));
    let calls = if cfg!(debug_assertions) { 100_000 } else { 1_000_000 };
    let threads: Vec<_> = [(here, calls), (there, calls / 20)]
        .into_iter()
        .map(|(port, calls)| {
            let other = other.clone();
            tokio::spawn(async move {
                for _ in 0..calls {
                    let (_,): (String,) = other.call(&port, ("echo", "x")).await.unwrap();
                }
            })
        })
        .collect();
    for thread in threads {
        thread.await.unwrap();
    }
    assert_eq!((other.port_count(), seed.port_count()), (before.0.0, before.1.0));
    until("the monitors are given up", || (count(&other), count(&seed)) == before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_calls_that_wait_for_a_port_share_a_monitor_and_fail_when_it_dies() {
    const CALLS: usize = 1000;
    let (seed, other) = pair().await;
    for callee in [&seed, &other] {
        let port = echo(callee);
        let before = count(&other);
        let call = || tokio::spawn(other.call::<()>(&port, ("silence",)).into_future());
        let calls: Vec<_> = (0..CALLS).map(|_| call()).collect();
        until("all are on their way", || other.port_count() == before.0 + CALLS).await;
        assert_eq!(other.monitor_count(), before.1 + 1);
        settled(&other, callee.id()).await;
        callee.kil(&port, &KillReason::new("enough", "said the test"));
        for call in calls {
            let Err(CallError::Died(reason)) = within(call).await.unwrap() else {
                panic!("the callee died");
            };
            assert_eq!(reason.to_string(), r#"["enough", "said the test"]"#);
        }
        let Err(CallError::Died(reason)) = within(call()).await.unwrap() else {
            panic!("there is no such port");
        };
        assert_eq!(reason.tag().unwrap(), "no_such_port");
        let ports = usize::from(callee.id() == other.id());
        assert_eq!(count(&other), (before.0 - ports, before.1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_follow_one_another_ask_for_one_monitor() {
    const CALLS: u64 = 1000;
    let (seed, other) = pair().await;
    let port = echo(&seed);
    let sent = || [&other, &seed].map(|node| node.metrics().traffic.sent_packets);
    let before = sent();
    for _ in 0..CALLS {
        let (_,): (String,) = within(other.call(&port, ("echo", "x"))).await.unwrap();
    }
    for (before, after) in before.into_iter().zip(sent()) {
        // On a busy machine the connection may be lost occasionally, and there are keepalives.
        assert!((CALLS..CALLS * 5 / 4).contains(&(after - before)), "{before} to {after}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_begins_while_the_port_dies_is_answered_or_fails() {
    let (seed, other) = pair().await;
    for round in 0..100 {
        let callee = [&seed, &other][round % 2];
        let port = echo(callee);
        let callers: Vec<_> = (0..4)
            .map(|_| {
                let (node, port) = (other.clone(), port.clone());
                tokio::spawn(async move {
                    loop {
                        match node.call::<(String,)>(&port, ("echo", "x")).await {
                            Ok(_) => {}
                            Err(CallError::Died(reason)) => return reason,
                            Err(error) => panic!("{error}"),
                        }
                    }
                })
            })
            .collect();
        for _ in 0..round {
            let (_,): (String,) = within(other.call(&port, ("echo", "x"))).await.unwrap();
        }
        callee.kil(&port, &KillReason::new("enough", ""));
        for caller in callers {
            let tag = within(caller).await.unwrap().tag().unwrap();
            assert!(tag == "enough" || tag == "no_such_port", "{tag}");
        }
    }
    assert_eq!(count(&other), (0, 0));
}

/// A port that answers nothing, but tells the reply ports of who calls it.
fn tells_reply_ports(node: &Node) -> (PortId, mpsc::UnboundedReceiver<PortId>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let port = node.port_of_tags();
    port.on("call", move |_: &Context<'_>, (reply,): (PortId,)| {
        let _ = sender.send(reply);
    });
    (port.id(), receiver)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_port_is_monitored_as_any_other() {
    let (seed, other) = pair().await;
    for callee in [&seed, &other] {
        let (port, mut reply_ports) = tells_reply_ports(callee);
        let (ports, call) = (other.port_count(), other.call::<(u32,)>(&port, ("call",)));
        let call = tokio::spawn(call.into_future());
        let reply = within(reply_ports.recv()).await.unwrap();
        let monitors = [seed.monitor(&reply), other.monitor(&reply)];
        settled(&seed, other.id()).await;
        assert_eq!(other.port_count(), ports + 1, "it is counted once");
        for answer in 1..=3 {
            callee.snd(&reply, (answer,)).unwrap();
        }
        assert_eq!(within(call).await.unwrap().unwrap(), (1,), "the first answer counts");
        for monitor in monitors {
            assert!(within(monitor).await.is_normal());
        }
        for node in [&seed, &other] {
            assert_eq!(within(node.monitor(&reply)).await.tag().unwrap(), "no_such_port");
        }
        callee.snd(&reply, ("late",)).unwrap();
        settled(callee, other.id()).await;
        assert_eq!(other.port_count(), ports);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_reply_port_is_killed_fails_for_that_reason() {
    let (seed, other) = pair().await;
    for (callee, killer) in [(&seed, &seed), (&seed, &other), (&other, &seed), (&other, &other)] {
        let (port, mut reply_ports) = tells_reply_ports(callee);
        let ports = other.port_count();
        let calls =
            [(); 2].map(|()| tokio::spawn(other.call::<(u32,)>(&port, ("call",)).into_future()));
        let mut killed = 0;
        for number in 0..2 {
            let reply = within(reply_ports.recv()).await.unwrap();
            let monitor = seed.monitor(&reply);
            settled(&seed, other.id()).await;
            killer.kil(&reply, &KillReason::new("no", &number.to_string()));
            assert_eq!(within(monitor).await.tag().unwrap(), "no");
            assert_eq!(within(seed.monitor(&reply)).await.tag().unwrap(), "no_such_port");
        }
        for call in calls {
            let Err(CallError::Died(reason)) = within(call).await.unwrap() else {
                panic!("the reply port was killed");
            };
            let (tag, number): (String, u32) = reason.decode().unwrap();
            assert_eq!(tag, "no");
            killed += number;
        }
        assert_eq!((killed, other.port_count()), (1, ports));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_to_a_node_that_is_lost_fails() {
    let (seed, other) = pair().await;
    let port = echo(&seed);
    let call = tokio::spawn(other.call::<()>(&port, ("silence",)).into_future());
    until("it is on its way", || other.port_count() == 1).await;
    settled(&other, seed.id()).await;
    drop(seed);
    let Err(CallError::Died(reason)) = within(call).await.unwrap() else {
        panic!("the node was lost");
    };
    assert!(reason.is_transport_error());
    assert_eq!(count(&other), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_shut_down_frees_callbacks_and_values() {
    let (seed, other) = pair().await;
    let held = Arc::new(());
    let hold = || held.clone();
    let (kept, inner) = (hold(), other.clone());
    // A cycle: the callback owns a handle of the node that owns it.
    let port = other.port_with(move |_: &Context<'_>, _: MessageRef<'_>| {
        let _ = (&kept, &inner);
    });
    let kept = hold();
    port.on("x", move |_: &Context<'_>, (): ()| drop(kept.clone()));
    let kept = hold();
    other.expose("f", move |ctx: &Context<'_>, (): ()| {
        let kept = kept.clone();
        ctx.on("x", move |_: &Context<'_>, (): ()| drop(kept.clone()));
    });
    let kept = hold();
    other.answer_eval(move |_, _| {
        drop(kept.clone());
        Ok(Vec::new())
    });
    let kept = hold();
    other.on_death(seed.port_of_tags().id(), move |_| drop(kept)).detach();
    let kept = hold();
    port.background(async move {
        std::future::pending::<()>().await;
        drop(kept);
    });
    let kept = hold();
    port.after(Duration::from_secs(3600), move |_: &Context<'_>| drop(kept)).detach();
    let kept = hold();
    let mailbox = other.port().run(async move |port: aemp::Port| {
        std::future::pending::<()>().await;
        drop((kept, port));
    });
    seed.spawn(other.id(), "f", ()).unwrap();
    seed.snd(&mailbox, ("unread",)).unwrap();
    settled(&seed, other.id()).await;
    assert_eq!(Arc::strong_count(&held), 10);
    other.shutdown().await;
    until("all is freed", || Arc::strong_count(&held) == 1).await;
    drop(port);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_shutdown_everything_ends_at_once() {
    let (seed, node) = pair().await;
    let handle = node.clone();
    let mut mailbox = node.port();
    let callbacks = node.port_of_tags();
    let (remote, local) = (node.monitor(seed.id()), node.monitor(callbacks.id()));
    let mut events = node.events();
    let mut changes = node.db().monitor("family");
    let waits = echo(&seed);
    let call = tokio::spawn(node.call::<()>(&waits, ("silence",)).into_future());
    until("it is on its way", || node.port_count() == 3).await;
    node.shutdown().await;

    assert!(matches!(within(call).await.unwrap(), Err(CallError::Died(_))));
    for monitor in [remote, local] {
        let reason = within(monitor).await;
        assert!(reason.is_normal() || reason.tag().unwrap() == "shutdown", "{reason}");
    }
    assert!(matches!(within(mailbox.recv::<()>()).await, Err(RecvError::Died(_))));
    while within(events.next()).await.is_some() {}
    while within(changes.next()).await.is_some() {}
    within(handle.ended()).await;

    // Remaining handles do nothing and do no harm.
    for to in [seed.id().node_port(), handle.id().node_port(), mailbox.id()] {
        assert!(matches!(handle.snd(&to, ("x",)), Err(SendError::Shutdown)), "{to}");
    }
    assert!(within(handle.snd_wait(seed.id(), ("x",))).await.is_err());
    assert_eq!(within(handle.monitor(&waits)).await.tag().unwrap(), "shutdown");
    assert!(within(handle.call::<()>(&waits, ())).await.is_err());
    assert!(matches!(within(handle.port().recv::<()>()).await, Err(RecvError::Died(_))));
    assert!(within(handle.events().next()).await.is_none());
    assert!(within(handle.db().monitor("family").next()).await.is_none());
    assert!(within(handle.db().keys("family")).await.is_err());
    handle.kil(&waits, &KillReason::normal());
    let _ = handle.spawn(handle.id(), "f", ());
    let held = Arc::new(());
    let kept = held.clone();
    handle.expose("f", move |_: &Context<'_>, (): ()| drop(kept.clone()));
    let (kept, inner) = (held.clone(), handle.clone());
    let port = handle.port_with(move |_: &Context<'_>, _: MessageRef<'_>| {
        let _ = (&kept, &inner);
    });
    drop(port);
    assert_eq!(Arc::strong_count(&held), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_one_process_have_nothing_in_common() {
    let mut nodes = vec![node("first", &[]).await];
    for number in 0..5 {
        let joined = node(&format!("joined{number}"), &[&nodes[0]]).await;
        nodes.push(joined);
    }
    for node in &nodes {
        let port = echo(node);
        for from in &nodes {
            let (text,): (String,) = within(from.call(&port, ("echo", "x"))).await.unwrap();
            assert_eq!(text, "x");
        }
    }
    let first = nodes.remove(0);
    first.shutdown().await;
    let port = echo(&nodes[0]);
    let (_,): (String,) = within(nodes[1].call(&port, ("echo", "x"))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn large_calls_wait_for_room_in_the_mailbox_of_a_port_that_is_slow() {
    const LIMIT: usize = 64 << 10;
    let seed = join(builder("seed", &[]).port_limit(LIMIT), false).await;
    let other = join(builder("other", &[&seed]).port_limit(LIMIT), true).await;
    let mut port = seed.port();
    let calls: Vec<_> = (0..100_u32)
        .map(|number| {
            let text = "x".repeat(LIMIT / 10);
            tokio::spawn(other.call::<u32>(port.id(), (number, text)))
        })
        .collect();
    // All are sent before the first one is received, unless they wait.
    until("the first ones are on their way", || other.port_count() > 0).await;
    settled(&other, seed.id()).await;
    for _ in 0..100 {
        let ((number, _), reply): ((u32, String), Reply<u32>) =
            within(port.recv_call()).await.unwrap();
        reply.send(number).unwrap();
    }
    for (number, call) in calls.into_iter().enumerate() {
        assert_eq!(within(call).await.unwrap().unwrap() as usize, number);
    }
    // Waiting for room counts, too.
    let full = other.call::<u32>(port.id(), "x".repeat(LIMIT / 4));
    let full = tokio::spawn(full);
    until("it is on its way", || other.port_count() > 0).await;
    let late = other.call::<u32>(port.id(), "x".repeat(LIMIT / 10));
    let late = within(late.timeout(Duration::from_millis(1))).await;
    assert!(matches!(late, Err(CallError::Timeout(_))));
    port.kil(&KillReason::normal());
    assert!(within(full).await.unwrap().is_err());
}
