//! Requests of peers, accepted and refused: functions by name, spawning, expressions.

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod node_support;

use aemp::{Context, KillReason, Node, PortId, Value};
use node_support::{Log, builder, join, node, pair, settled, until, within};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

static LOG: LazyLock<Log> = LazyLock::new(Log::of_this_process);

async fn eval(from: &Node, at: &Node, expression: &str) -> Vec<String> {
    within(from.call(at.id(), ("eval", expression))).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secure_node_runs_nothing_for_others_and_does_all_the_rest() {
    let called = Arc::new(AtomicUsize::new(0));
    let counter = called.clone();
    let evaluated = called.clone();
    let seed = builder("secure", &[]).set("secure", true).expose(
        "My::function",
        move |_: &Context<'_>, (): ()| {
            counter.fetch_add(1, Ordering::SeqCst);
        },
    );
    let seed = join(seed, false).await;
    seed.answer_eval(move |_, _| {
        evaluated.fetch_add(1, Ordering::SeqCst);
        Ok(Vec::new())
    });
    let other = node("asks", &[&seed]).await;
    let mut reply = other.port();

    for expression in ["$$", "up_nodes", "6 * 7"] {
        other.snd(seed.id(), ("eval", expression, reply.id())).unwrap();
    }
    other.snd(seed.id(), ("My::function",)).unwrap();
    let spawned = other.spawn(seed.id(), "My::function", ()).unwrap();
    let reason = within(other.monitor(&spawned)).await;
    assert_eq!(reason.to_string(), r#"["die", "remote execution not allowed"]"#);
    settled(&other, seed.id()).await;
    assert!(reply.try_recv().unwrap().is_none(), "no expression is answered");
    assert_eq!(called.load(Ordering::SeqCst), 0);

    let (yes,): (bool,) = within(other.call(seed.id(), ("can", "mon1"))).await.unwrap();
    let (no,): (bool,) = within(other.call(seed.id(), ("can", "My::function"))).await.unwrap();
    assert!(yes && !no);
    let (time,): (f64,) = within(other.call(seed.id(), ("time",))).await.unwrap();
    assert!(time > 1e9);
    let port = seed.port();
    let died = other.monitor(port.id());
    other.kil(port.id(), &KillReason::new("by", "the peer"));
    assert_eq!(within(died).await.to_string(), r#"["by", "the peer"]"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_node_answers_the_expressions_of_the_table() {
    let (seed, other) = pair().await;
    let own_process = std::process::id().to_string();
    let table: &[(&[&str], &[&str])] = &[
        (&["", " \n"], &[""]),
        (
            &[
                "AnyEvent::MP::Kernel::up_nodes",
                "AnyEvent::MP::Kernel::up_nodes()",
                "AnyEvent::MP::Kernel::up_nodes ()",
                "up_nodes",
                "up_nodes()",
                "up_nodes ()",
            ],
            &["", "other"],
        ),
        (
            &["$AnyEvent::MP::Kernel::NODE", "AnyEvent::MP::Kernel::NODE", "$NODE", "NODE"],
            &["", "seed"],
        ),
        (&["$AnyEvent::MP::Kernel::MASTER", "$MASTER"], &["", "seed"]),
        (&["$$", " $$\n"], &["", &own_process]),
    ];
    for (expressions, answer) in table {
        for expression in *expressions {
            assert_eq!(eval(&other, &seed, expression).await, *answer, "{expression}");
            let in_shell =
                format!("package AnyEvent::MP::Kernel; my $ECHO = 'other#a1;'; {expression}");
            assert_eq!(eval(&other, &seed, &in_shell).await, *answer, "{in_shell}");
        }
    }
    for unknown in ["6 * 7", "package AnyEvent::MP::Kernel; my $ECHO = ''; 6 * 7", "$$; $$"] {
        let answer = eval(&other, &seed, unknown).await;
        assert!(answer.len() == 1 && answer[0].contains("does not know"), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_answers_expressions_or_refuses_and_may_panic() {
    let (seed, other) = pair().await;
    seed.answer_eval(|expression, from| match expression {
        "6 * 7" => Ok(vec![Value::from(42u32), Value::from(from.to_string())]),
        "panic" => panic!("the hook panics"),
        other => Err(format!("no {other} here")),
    });
    assert_eq!(eval(&other, &seed, "6 * 7").await, ["", "42", "other"]);
    assert_eq!(eval(&other, &seed, "rm").await, ["no rm here"]);
    assert_eq!(eval(&other, &seed, "panic").await, ["the hook panics"]);
    assert_eq!(eval(&other, &seed, "$NODE").await, ["", "seed"], "the table comes first");
}

#[tokio::test(flavor = "multi_thread")]
async fn spawning_an_unregistered_function_is_logged_once_and_its_port_dies_with_the_reason() {
    let log = &*LOG;
    let (seed, other) = pair().await;
    let spawned = other.spawn(seed.id(), "Not::here", ()).unwrap();
    other.snd(seed.id(), ("Not::callable", 1)).unwrap();
    settled(&other, seed.id()).await;
    // Long after the spawn has failed, and as often as it is asked.
    for _ in 0..2 {
        let reason = within(other.monitor(&spawned)).await;
        let (tag, text): (String, String) = reason.decode().unwrap();
        assert_eq!((&*tag, &*text), ("die", "function Not::here is not registered here"));
    }
    assert_eq!(log.count("Not::here"), 1, "{}", log.text());
    assert_eq!(log.count("Not::callable"), 1, "{}", log.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reasons_of_a_thousand_failed_spawns_are_kept() {
    let (seed, other) = pair().await;
    let ports: Vec<PortId> =
        (0..1001).map(|_| other.spawn(seed.id(), "Nowhere", ()).unwrap()).collect();
    settled(&other, seed.id()).await;
    let tag = async |port: &PortId| within(other.monitor(port)).await.tag().unwrap().to_string();
    assert_eq!(tag(&ports[0]).await, "no_such_port", "the oldest is forgotten");
    assert_eq!(tag(&ports[1]).await, "die");
    assert_eq!(tag(&ports[1000]).await, "die");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reasons_of_failed_spawns_are_forgotten_with_the_connection() {
    let seed = node("seed", &[]).await;
    let other = node("comes-back", &[&seed]).await;
    let spawned = other.spawn(seed.id(), "Nowhere", ()).unwrap();
    settled(&other, seed.id()).await;
    let gone = seed.monitor(other.id());
    drop(other);
    within(gone).await;
    let other = node("comes-back", &[&seed]).await;
    assert_eq!(within(other.monitor(&spawned)).await.tag().unwrap(), "no_such_port");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spawn_its_monitor_and_its_first_messages_take_effect_in_order() {
    let (seed, other) = pair().await;
    seed.expose("counts", |ctx: &Context<'_>, (reply, end): (PortId, u32)| {
        let mut seen = 0;
        ctx.on("n", move |ctx: &Context<'_>, (number,): (u32,)| {
            assert_eq!(number, seen, "in order");
            seen += 1;
            if seen == end {
                ctx.snd(&reply, ("all",)).unwrap();
                ctx.kil(&KillReason::new("done", &seen.to_string()));
            }
        });
    });
    for _ in 0..100 {
        let mut reply = other.port();
        let port = other.spawn(seed.id(), "counts", (reply.id(), 10)).unwrap();
        let died = other.monitor(&port);
        for number in 0..10 {
            other.snd(&port, ("n", number)).unwrap();
        }
        assert_eq!(within(died).await.to_string(), r#"["done", "10"]"#);
        let _: (String,) = within(reply.recv()).await.unwrap();
    }
    until("no port is left", || seed.port_count() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relayed_message_waits_for_the_functions_that_were_called_before() {
    let (seed, other) = pair().await;
    let done = Arc::new(Mutex::new(Vec::new()));
    let noted = done.clone();
    seed.expose("slow", move |ctx: &Context<'_>, (number,): (u32,)| {
        std::thread::sleep(Duration::from_millis(2));
        noted.lock().unwrap().push((number, ctx.from().to_string(), ctx.port_id().to_string()));
    });
    for number in 0..20 {
        other.snd(seed.id(), ("slow", number)).unwrap();
    }
    settled(&other, seed.id()).await;
    let expected: Vec<_> =
        (0..20).map(|number| (number, "other".to_owned(), "seed".to_owned())).collect();
    assert_eq!(*done.lock().unwrap(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_by_the_own_node_waits_for_the_functions_that_were_called_before() {
    let (seed, other) = pair().await;
    let port = seed.port();
    let to = port.id().clone();
    let arrived = Arc::new(Mutex::new(Vec::new()));
    // Both are sent while this thread runs a function, which has to be finished first.
    seed.expose("outer", move |ctx: &Context<'_>, (): ()| {
        let own = ctx.node().id().clone();
        for number in 0..3 {
            ctx.node().snd(&own, ("inner",)).unwrap();
            ctx.node().snd(&own, ("snd", &to, number)).unwrap();
        }
    });
    let (port, noted) = (Mutex::new(port), arrived.clone());
    seed.expose("inner", move |_: &Context<'_>, (): ()| {
        let mut port = port.lock().unwrap();
        let messages = std::iter::from_fn(|| port.try_recv().unwrap());
        noted.lock().unwrap().push(messages.count());
    });
    other.snd(seed.id(), ("outer",)).unwrap();
    settled(&other, seed.id()).await;
    assert_eq!(*arrived.lock().unwrap(), [0, 1, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_that_fail_or_panic_harm_nobody() {
    let (seed, other) = pair().await;
    seed.expose("fails", |_: &Context<'_>, (): ()| Err::<(), _>("failed"));
    seed.expose("panics", |_: &Context<'_>, (): ()| -> () { panic!("panicked") });
    for (name, text) in [("fails", "failed"), ("panics", "panicked")] {
        other.snd(seed.id(), (name,)).unwrap();
        for node in [&other, &seed] {
            let port = node.spawn(seed.id(), name, ()).unwrap();
            let (tag, why): (String, String) = within(node.monitor(&port)).await.decode().unwrap();
            assert_eq!((&*tag, &*why), ("die", text));
        }
    }
    let port = other.spawn(seed.id(), "fails", ("too", "many")).unwrap();
    let reason = within(other.monitor(&port)).await.to_string();
    assert!(reason.starts_with(r#"["die", "#), "{reason}");
    settled(&other, seed.id()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unregistered_function_cannot_be_called() {
    let (seed, other) = pair().await;
    seed.expose("f", |_: &Context<'_>, (): ()| {});
    let port = other.spawn(seed.id(), "f", ()).unwrap();
    settled(&other, seed.id()).await;
    assert_eq!(seed.port_count(), 1);
    other.kil(&port, &KillReason::normal());
    seed.hide("f");
    let port = other.spawn(seed.id(), "f", ()).unwrap();
    let reason = within(other.monitor(&port)).await.to_string();
    assert!(reason.contains("not registered"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_port_and_existing_names_are_neither_killed_nor_spawned() {
    let (seed, other) = pair().await;
    seed.expose("f", |_: &Context<'_>, (): ()| {});
    let mut port = seed.port();
    let name = port.id().port().to_string();
    other.snd(seed.id(), ("kil1", "", "die", "all of you")).unwrap();
    other.snd(seed.id(), ("AnyEvent::MP::_spawn", "", "f")).unwrap();
    other.snd(seed.id(), ("AnyEvent::MP::_spawn", &name, "f")).unwrap();
    for nonsense in ["mon1", "mon0", "kil0", "kil1", "snd", "can", "eval", "AnyEvent::MP::_spawn"] {
        other.snd(seed.id(), (nonsense,)).unwrap();
        other.snd(seed.id(), (nonsense, (1, 2), "x")).unwrap();
    }
    other.snd(port.id(), ("still there",)).unwrap();
    let (text,): (String,) = within(port.recv()).await.unwrap();
    assert_eq!(text, "still there");
    settled(&other, seed.id()).await;
}
