//! Ports as programs use them: callbacks, tasks, timers, futures, and misuse by user code.

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod node_support;

use aemp::{
    CallbackPort, Context, KillReason, MessageRef, Node, PortId, RecvError, SendError, Value,
};
use futures_core::Stream;
use node_support::{builder, join, node, pair, settled, until, within};
use serde::{Serialize, Serializer};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

type Notes = Arc<Mutex<Vec<String>>>;

fn note(notes: &Notes, text: impl Into<String>) {
    notes.lock().unwrap().push(text.into());
}

fn noted(notes: &Notes) -> Vec<String> {
    notes.lock().unwrap().clone()
}

async fn reason_of(node: &Node, port: impl aemp::ToPort) -> String {
    within(node.monitor(port)).await.to_string()
}

// Callback ports.

#[tokio::test(flavor = "multi_thread")]
async fn tags_have_receivers_and_the_default_gets_the_rest() {
    let (seed, other) = pair().await;
    let notes = Notes::default();
    let noting = notes.clone();
    let port = seed.port_with(move |_: &Context<'_>, message: MessageRef<'_>| {
        note(&noting, format!("default {:?}", message.decode::<Vec<String>>().unwrap()));
    });
    let noting = notes.clone();
    port.on("tag", move |ctx: &Context<'_>, (number,): (u32,)| {
        note(&noting, format!("tag {number} from {}", ctx.from()));
    });
    for from in [&other, &seed] {
        from.snd(port.id(), ("tag", 1)).unwrap();
        from.snd(port.id(), ("else", 2)).unwrap();
        from.snd(port.id(), ()).unwrap();
        settled(from, seed.id()).await;
    }
    port.off("tag");
    other.snd(port.id(), ("tag", 3)).unwrap();
    settled(&other, seed.id()).await;
    let expected = [
        "tag 1 from other",
        r#"default ["else", "2"]"#,
        "default []",
        "tag 1 from seed",
        r#"default ["else", "2"]"#,
        "default []",
        r#"default ["tag", "3"]"#,
    ];
    assert_eq!(noted(&notes), expected);
}

#[tokio::test]
async fn a_port_without_a_default_dies_of_a_message_without_receiver() {
    let node = node("alone", &[]).await;
    let port = node.port_of_tags();
    port.on("tag", |_: &Context<'_>, (): ()| {});
    let died = node.monitor(port.id());
    node.snd(port.id(), ("tag",)).unwrap();
    node.snd(port.id(), ("other", 1)).unwrap();
    let reason = within(died).await.to_string();
    let text = format!("no callback found for message 'other' from {}", node.id());
    assert_eq!(reason, format!(r#"["unhandled_message", "{text}"]"#));
}

#[tokio::test]
async fn a_spawned_port_drops_messages_without_receiver() {
    let node = node("alone", &[]).await;
    node.expose("f", |ctx: &Context<'_>, (): ()| {
        ctx.on("die", |_: &Context<'_>, (): ()| Err::<(), _>("told to"));
    });
    let port = node.spawn(node.id(), "f", ()).unwrap();
    let died = node.monitor(&port);
    node.snd(&port, ("unknown",)).unwrap();
    node.snd(&port, ("die",)).unwrap();
    assert_eq!(within(died).await.to_string(), r#"["die", "told to"]"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_and_panics_in_callbacks_kill_the_port_and_nothing_else() {
    let (seed, other) = pair().await;
    for from in [&other, &seed] {
        let port = seed.port_of_tags();
        port.on("error", |_: &Context<'_>, (): ()| Err::<(), _>("an error\n"));
        let died = from.monitor(port.id());
        from.snd(port.id(), ("error",)).unwrap();
        assert_eq!(within(died).await.to_string(), r#"["die", "an error"]"#);

        let port = seed.port_with(|_: &Context<'_>, _: MessageRef<'_>| panic!("a {}", "panic"));
        let died = from.monitor(port.id());
        from.snd(port.id(), ("anything",)).unwrap();
        assert_eq!(within(died).await.to_string(), r#"["die", "a panic"]"#);

        let port = seed.port();
        let guard = seed.on_death(port.id(), |_| panic!("in a monitor's callback"));
        let died = from.monitor(port.id());
        settled(from, seed.id()).await;
        drop(port);
        assert!(within(died).await.is_normal());
        drop(guard);
    }
    // A port whose callback for another's death panics dies itself.
    let (first, second) = (seed.port(), seed.port_of_tags());
    let died = other.monitor(second.id());
    second.on_death(first.id(), |_: &Context<'_>, _: KillReason| panic!("of grief")).detach();
    settled(&other, seed.id()).await;
    drop(first);
    assert_eq!(within(died).await.to_string(), r#"["die", "of grief"]"#);
    settled(&other, seed.id()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_callback_owns_may_panic_when_it_is_dropped() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            if !std::thread::panicking() {
                panic!("dropped");
            }
        }
    }
    let (seed, other) = pair().await;
    let port = seed.port_of_tags();
    let bomb = Bomb;
    port.on("tag", move |_: &Context<'_>, (): ()| {
        let _ = &bomb;
    });
    let died = other.monitor(port.id());
    other.kil(port.id(), &KillReason::new("by", "peer"));
    assert_eq!(within(died).await.to_string(), r#"["by", "peer"]"#);
    let port = seed.port();
    let bomb = Bomb;
    seed.on_death(port.id(), move |_| drop(bomb)).detach();
    drop(port);
    settled(&other, seed.id()).await;
}

#[tokio::test]
async fn a_wrong_message_kills_a_callback_port_with_path_and_types() {
    let node = node("alone", &[]).await;
    let port = node.port_of_tags();
    port.on("tag", |_: &Context<'_>, _: (u32, Vec<(String, u32)>)| {});
    let died = node.monitor(port.id());
    node.snd(port.id(), ("tag", "1", [("one", 1), ("two", 2)])).unwrap();
    assert_eq!(node.port_count(), 1);
    node.snd(port.id(), ("tag", 1, ("x", "y"))).unwrap();
    let reason = within(died).await.to_string();
    assert!(reason.starts_with(r#"["die", "#), "{reason}");
    // Elements count from 0, without the tag.
    assert!(reason.contains("element 1, element 0: wanted"), "{reason}");
    assert!(reason.contains(r#"found string \"x\""#), "{reason}");
}

#[tokio::test]
async fn a_wrong_message_is_an_error_of_the_mailbox_and_is_kept_as_message() {
    let node = node("alone", &[]).await;
    let mut port = node.port();
    node.snd(port.id(), (1, vec!["x"])).unwrap();
    node.snd(port.id(), (1, vec!["x"])).unwrap();
    let error = within(port.recv::<(u32, (u32,))>()).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, RecvError::Decode(_)));
    let expected = r#"element 1, element 0: wanted u32, found string "x""#;
    assert!(text.ends_with(expected), "{text}");
    let message = within(port.recv_message()).await.unwrap();
    assert!(message.decode::<(u32, (u32,))>().is_err());
    assert_eq!(message.decode::<(u32, (String,))>().unwrap().1.0, "x");
}

#[tokio::test]
async fn callbacks_send_kill_and_make_ports_from_inside_of_callbacks() {
    let node = node("alone", &[]).await;
    let notes = Notes::default();
    let port = node.port_of_tags();
    let (noting, own) = (notes.clone(), port.id());
    port.on("down", move |ctx: &Context<'_>, (depth,): (u32,)| {
        note(&noting, format!("begin {depth}"));
        if depth < 3 {
            ctx.snd(&own, ("down", depth + 1)).unwrap();
        } else {
            let inner = ctx.node().port_of_tags();
            let noting = noting.clone();
            inner.on("x", move |_: &Context<'_>, (): ()| note(&noting, "inner"));
            ctx.snd(inner.id(), ("x",)).unwrap();
            ctx.kil(&KillReason::new("deep", "enough"));
            ctx.snd(&own, ("down", depth + 1)).unwrap();
        }
        note(&noting, format!("end {depth}"));
    });
    let died = node.monitor(port.id());
    node.snd(port.id(), ("down", 1)).unwrap();
    assert_eq!(within(died).await.to_string(), r#"["deep", "enough"]"#);
    let expected = ["begin 1", "end 1", "begin 2", "end 2", "begin 3", "end 3", "inner"];
    assert_eq!(noted(&notes), expected);
}

#[tokio::test]
async fn a_callback_may_replace_and_remove_itself() {
    let node = node("alone", &[]).await;
    let notes = Notes::default();
    let port = node.port_of_tags();
    let noting = notes.clone();
    port.on("tag", move |ctx: &Context<'_>, (): ()| {
        note(&noting, "first");
        let noting = noting.clone();
        ctx.on("tag", move |ctx: &Context<'_>, (): ()| {
            note(&noting, "second");
            ctx.port().unwrap().off("tag");
        });
    });
    let died = node.monitor(port.id());
    for _ in 0..3 {
        node.snd(port.id(), ("tag",)).unwrap();
    }
    assert_eq!(within(died).await.tag().unwrap(), "unhandled_message");
    assert_eq!(noted(&notes), ["first", "second"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_ports_that_message_each_other_for_ever_do_not_block_the_sender() {
    let node = node("alone", &[]).await;
    let (one, two) = (node.port_of_tags(), node.port_of_tags());
    let hits = Arc::new(AtomicUsize::new(0));
    for (port, to) in [(&one, two.id()), (&two, one.id())] {
        let hits = hits.clone();
        port.on("ball", move |ctx: &Context<'_>, (): ()| {
            hits.fetch_add(1, Ordering::Relaxed);
            ctx.snd(&to, ("ball",))
        });
    }
    let (playing, to) = (node.clone(), one.id());
    let begin = tokio::task::spawn_blocking(move || playing.snd(&to, ("ball",)));
    within(begin).await.unwrap().unwrap();
    let before = hits.load(Ordering::Relaxed);
    until("they play on", || hits.load(Ordering::Relaxed) > before + 100_000).await;
    one.kil(&KillReason::normal());
    until("the game is over", || node.port_count() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn threads_without_a_runtime_send_monitor_kill_and_spawn() {
    let (seed, other) = pair().await;
    let mut port = seed.port();
    let (to, reply) = (port.id(), other.port());
    let handle = other.clone();
    seed.expose("f", |_: &Context<'_>, (): ()| {});
    let seed_id = seed.id().clone();
    std::thread::spawn(move || {
        for number in 0..100 {
            handle.snd(&to, (number,)).unwrap();
        }
        let local = handle.port();
        handle.snd(local.id(), ("local",)).unwrap();
        drop(handle.monitor(local.id()));
        handle.kil(reply.id(), &KillReason::normal());
        let spawned = handle.spawn(&seed_id, "f", ()).unwrap();
        handle.kil(&spawned, &KillReason::normal());
        let after = handle.port_of_tags().after(Duration::ZERO, |_: &Context<'_>| {});
        after.detach();
    })
    .join()
    .unwrap();
    for expected in 0..100 {
        let (number,): (u32,) = within(port.recv()).await.unwrap();
        assert_eq!(number, expected);
    }
}

// What runs as a port.

#[tokio::test]
async fn closures_of_then_run_as_the_port_in_order_with_its_messages() {
    let node = node("alone", &[]).await;
    let notes = Notes::default();
    let port = node.port_of_tags();
    let noting = notes.clone();
    port.on("n", move |_: &Context<'_>, (number,): (u32,)| note(&noting, number.to_string()));
    let died = node.monitor(port.id());
    let (noting, handle) = (notes.clone(), port.clone());
    node.port_of_tags().then(move |ctx: &Context<'_>| {
        ctx.snd(handle.id(), ("n", 1)).unwrap();
        let own = handle.id();
        handle.then(move |ctx: &Context<'_>| {
            assert_eq!((ctx.port_id(), ctx.node().current_port()), (own.clone(), Some(own)));
            note(&noting, "then");
        });
        ctx.snd(handle.id(), ("n", 2)).unwrap();
        handle.then(|_: &Context<'_>| Err::<(), _>("failed"));
        ctx.snd(handle.id(), ("n", 3)).unwrap();
    });
    assert_eq!(within(died).await.to_string(), r#"["die", "failed"]"#);
    assert_eq!(noted(&notes), ["1", "then", "2"]);
    assert_eq!(node.current_port(), None);
}

#[tokio::test]
async fn timers_go_off_as_the_port_unless_they_or_it_are_gone() {
    let node = join(builder("alone", &[]).no_binds(), false).await;
    let notes = Notes::default();
    let port = node.port_of_tags();
    let timer = |port: &CallbackPort, ticks: u64, text: &'static str| {
        let noting = notes.clone();
        port.after(Duration::from_millis(20 * ticks), move |ctx: &Context<'_>| {
            assert!(ctx.node().current_port().is_some());
            note(&noting, text);
        })
    };
    let kept = timer(&port, 2, "second");
    timer(&port, 1, "first").detach();
    drop(timer(&port, 1, "dropped"));
    let dead = node.port_of_tags();
    timer(&dead, 1, "of a dead port").detach();
    dead.kil(&KillReason::normal());
    port.after(Duration::from_millis(60), |_: &Context<'_>| Err::<(), _>("late")).detach();
    assert_eq!(reason_of(&node, port.id()).await, r#"["die", "late"]"#);
    assert_eq!(noted(&notes), ["first", "second"]);
    drop(kept);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_future_that_fails_or_panics_kills_the_port_that_it_runs_as() {
    let node = node("alone", &[]).await;
    let port = node.port_of_tags();
    let own = port.id();
    let handle = node.clone();
    let died = node.monitor(port.id());
    port.background(async move {
        tokio::task::yield_now().await;
        assert_eq!(handle.current_port(), Some(own));
        Err::<(), _>("failed")
    });
    assert_eq!(within(died).await.to_string(), r#"["die", "failed"]"#);

    let port = node.port_of_tags();
    let died = node.monitor(port.id());
    port.background(async {
        tokio::task::yield_now().await;
        panic!("panicked")
    });
    assert_eq!(within(died).await.to_string(), r#"["die", "panicked"]"#);

    let port = node.port_of_tags();
    let mut died = node.monitor(port.id());
    port.background(async {});
    port.background(async { Ok::<(), String>(()) });
    settled(&node, node.id()).await;
    assert!(died.try_reason().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mailbox_that_is_run_ends_with_its_future_for_its_reason() {
    let node = node("alone", &[]).await;
    async fn sum(mut port: aemp::Port, node: Node) -> Result<(), String> {
        let mut sum = 0;
        loop {
            match port.recv::<(i32, PortId)>().await {
                Ok((0, reply)) => return node.snd(&reply, (sum,)).map_err(|e| e.to_string()),
                Ok((number, _)) if number < 0 => return Err(format!("{number} is negative")),
                Ok((13, _)) => panic!("thirteen"),
                Ok((number, _)) => sum += number,
                Err(error) => return Err(error.to_string()),
            }
        }
    }
    let mut reply = node.port();
    for (last, expected) in
        [(0, "normal end"), (-1, r#"["die", "-1 is negative"]"#), (13, r#"["die", "thirteen"]"#)]
    {
        let handle = node.clone();
        let id = node.port().run(move |port| sum(port, handle));
        let died = node.monitor(&id);
        for number in [1, 2, last] {
            node.snd(&id, (number, reply.id())).unwrap();
        }
        assert_eq!(within(died).await.to_string(), expected);
    }
    assert_eq!(within(reply.recv::<(i32,)>()).await.unwrap(), (3,));
    let id = node.port().run(|_port| -> std::future::Ready<()> { panic!("before it begins") });
    assert!(reason_of(&node, &id).await.contains("no_such_port"));
    until("only the reply port is left", || node.port_count() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_future_is_dropped_when_its_port_is_killed() {
    let node = node("alone", &[]).await;
    let held = Arc::new(());
    let port = node.port_of_tags();
    let kept = held.clone();
    port.background(async move {
        std::future::pending::<()>().await;
        drop(kept);
    });
    let kept = held.clone();
    let mailbox = node.port().run(async move |port: aemp::Port| {
        std::future::pending::<()>().await;
        drop((kept, port));
    });
    assert_eq!(Arc::strong_count(&held), 3);
    port.kil(&KillReason::normal());
    node.kil(&mailbox, &KillReason::normal());
    until("they are dropped", || Arc::strong_count(&held) == 1).await;
}

// Mailboxes.

#[tokio::test]
async fn a_killed_mailbox_yields_what_came_before_then_the_reason_again_and_again() {
    let node = node("alone", &[]).await;
    let mut port = node.port();
    node.snd(port.id(), (1,)).unwrap();
    node.snd(port.id(), (2,)).unwrap();
    node.kil(port.id(), &KillReason::new("a", "b"));
    node.snd(port.id(), (3,)).unwrap();
    assert_eq!(port.recv::<(u32,)>().await.unwrap(), (1,));
    assert_eq!(port.try_recv().unwrap().unwrap().decode::<(u32,)>().unwrap(), (2,));
    for _ in 0..2 {
        let error = port.recv::<(u32,)>().await.unwrap_err();
        assert!(matches!(error, RecvError::Died(reason) if reason.to_string() == r#"["a", "b"]"#));
    }
    assert!(port.try_recv().is_err());
}

#[tokio::test]
async fn a_mailbox_is_a_stream_that_ends_with_it() {
    let node = node("alone", &[]).await;
    let mut port = node.port();
    node.snd(port.id(), (1,)).unwrap();
    let next = async |port: &mut aemp::Port| {
        std::future::poll_fn(|cx| Pin::new(&mut *port).poll_next(cx)).await
    };
    assert_eq!(next(&mut port).await.unwrap().decode::<(u32,)>().unwrap(), (1,));
    let (handle, id) = (node.clone(), port.id());
    std::thread::spawn(move || {
        handle.snd(&id, (2,)).unwrap();
        handle.kil(&id, &KillReason::normal());
    });
    assert_eq!(within(next(&mut port)).await.unwrap().decode::<(u32,)>().unwrap(), (2,));
    assert!(within(next(&mut port)).await.is_none());
}

#[tokio::test]
async fn receiving_with_a_timeout_ends_in_time() {
    let node = join(builder("alone", &[]).no_binds(), false).await;
    let mut port = node.port();
    let limit = Duration::from_millis(20);
    let error = port.recv_timeout::<()>(limit).await.unwrap_err();
    assert!(matches!(error, RecvError::Timeout(given) if given == limit));
    node.snd(port.id(), ("x",)).unwrap();
    assert_eq!(port.recv_timeout::<(String,)>(node_support::TIMEOUT).await.unwrap().0, "x");
}

#[tokio::test]
async fn dropping_a_mailbox_kills_it_normally_and_links_stay_quiet() {
    let node = node("alone", &[]).await;
    let (port, linked, callback) = (node.port(), node.port(), node.port_of_tags());
    let link = node.link(port.id(), &linked.id());
    let other_link = callback.link(linked.id());
    let mut notified = node.port();
    let notify = node.notify(port.id(), notified.id(), &("down", 1)).unwrap();
    let died = node.monitor(port.id());
    drop(port);
    assert!(within(died).await.is_normal());
    let (tag, number): (String, u32) = within(notified.recv()).await.unwrap();
    assert_eq!((&*tag, number), ("down", 1));
    assert_eq!(node.port_count(), 3, "a normal end is not passed on");
    let died = node.monitor(callback.id());
    linked.kil(&KillReason::new("hard", "end"));
    assert_eq!(within(died).await.to_string(), r#"["hard", "end"]"#);
    drop((link, other_link, notify));
}

#[tokio::test]
async fn a_monitor_that_is_dropped_does_not_fire() {
    let node = node("alone", &[]).await;
    let notes = Notes::default();
    let port = node.port();
    let noting = notes.clone();
    let kept = node.on_death(port.id(), move |_| note(&noting, "kept"));
    let noting = notes.clone();
    drop(node.on_death(port.id(), move |_| note(&noting, "dropped")));
    drop(node.monitor(port.id()));
    assert_eq!(node.monitor_count(), 1);
    drop(port);
    assert_eq!((noted(&notes), node.monitor_count()), (vec!["kept".to_owned()], 0));
    drop(kept);
}

// What is sent.

#[tokio::test(flavor = "multi_thread")]
async fn numbers_that_json_does_not_know_arrive_in_all_framings() {
    for framing in ["cbor", "json", "storable"] {
        let seed = builder("seed", &[]).set("framing_format", vec![framing]);
        let seed = join(seed, false).await;
        let other = builder("other", &[&seed]).set("framing_format", vec![framing]);
        let other = join(other, true).await;
        let mut port = seed.port();
        let numbers = (f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, f64::MAX, u64::MAX);
        other.snd(port.id(), numbers).unwrap();
        let arrived: (f64, f64, f64, f64, f64, u64) = within(port.recv()).await.unwrap();
        assert!(arrived.0.is_nan(), "{framing}");
        assert_eq!((arrived.1, arrived.2), (f64::INFINITY, f64::NEG_INFINITY), "{framing}");
        assert_eq!((arrived.3, arrived.4, arrived.5), (-0.0, f64::MAX, u64::MAX), "{framing}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsendable_message_is_refused_at_once_and_the_connection_lives() {
    let (seed, other) = pair().await;
    for malformed in ["", "#", "#port"] {
        let error = other.snd(malformed, ("x",)).unwrap_err();
        assert!(matches!(error, SendError::Destination(_)), "{malformed:?}: {error}");
        assert!(reason_of(&other, malformed).await.contains("no_such_port"));
        let (sender, reason) = std::sync::mpsc::channel();
        other.on_death(malformed, move |reason| drop(sender.send(reason.to_string()))).detach();
        assert!(reason.recv().unwrap().contains(&error.to_string()["cannot send: ".len()..]));
        assert!(within(other.call::<()>(malformed, ())).await.is_err());
        other.kil(malformed, &KillReason::normal());
    }
    let mut deep = Value::from("bottom");
    for _ in 0..600 {
        deep = Value::Array(vec![deep]);
    }
    let port = seed.port();
    for to in [port.id(), seed.id().node_port(), "unknown#port".parse().unwrap()] {
        assert!(other.snd(&to, (&deep,)).is_err(), "{to}");
    }
    assert!(other.spawn(seed.id(), "f", (&deep,)).is_err());
    assert!(within(other.call::<()>(port.id(), (&deep,))).await.is_err());
    settled(&other, seed.id()).await;
}

/// Does things while it is being serialized.
struct Busy<F>(F);

impl<F: Fn()> Serialize for Busy<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.0)();
        serializer.serialize_str("busy")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_may_log_send_and_panic_while_it_is_written() {
    let (seed, other) = pair().await;
    let mut port = seed.port();
    let local = other.port_of_tags();
    local.on("x", |_: &Context<'_>, _: (String,)| {});
    for to in [port.id(), local.id()] {
        let handle = other.clone();
        let (inner, own) = (port.id(), local.id());
        other
            .snd(
                &to,
                (
                    "x",
                    Busy(|| {
                        tracing::error!("in the middle");
                        handle.snd(&inner, ("inner", "y")).unwrap();
                        handle.snd(&own, ("x", "y")).unwrap();
                        handle.kil("other#nobody", &KillReason::normal());
                        drop(handle.monitor(&inner));
                    }),
                ),
            )
            .unwrap();
        let panics = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _ = other.snd(&to, ("x", Busy(|| panic!("in the middle"))));
        }));
        assert!(panics.is_err());
        other.snd(&to, ("x", "after")).unwrap();
    }
    for expected in [("inner", "y"), ("x", "busy"), ("x", "after"), ("inner", "y")] {
        let (tag, text): (String, String) = within(port.recv()).await.unwrap();
        assert_eq!((&*tag, &*text), expected);
    }
    settled(&other, seed.id()).await;
}

#[tokio::test]
async fn types_become_elements() {
    #[derive(Serialize)]
    enum Chat {
        Join(String, String),
        Leave,
        Say {
            who: &'static str,
            what: u32,
        },
        #[serde(rename = "priv msg")]
        Private((u32, u32)),
    }
    #[derive(Serialize)]
    struct Pair(u32, &'static str);
    #[derive(Serialize)]
    struct Named {
        key: u32,
    }
    let node = node("alone", &[]).await;
    let mut port = node.port();
    let mut shown = async |message: &dyn Fn(&Node, PortId)| {
        message(&node, port.id());
        format!("{:?}", within(port.recv_message()).await.unwrap().packed())
    };
    let mut all = Vec::new();
    macro_rules! show {
        ($($message:expr),*) => {
            $(all.push(shown(&|node, to| node.snd(to, $message).unwrap()).await);)*
        };
    }
    show!(
        Chat::Join("a".into(), "b".into()),
        Chat::Leave,
        Chat::Say { who: "me", what: 1 },
        Chat::Private((1, 2)),
        Pair(1, "x"),
        Named { key: 1 },
        [1, 2],
        vec!["a"],
        "single",
        7u8,
        ()
    );
    assert_eq!(
        all,
        [
            r#"["Join", "a", "b"]"#,
            r#"["Leave"]"#,
            r#"["Say", {"who": "me", "what": 1}]"#,
            r#"["priv msg", [1, 2]]"#,
            r#"[1, "x"]"#,
            r#"[{"key": 1}]"#,
            "[1, 2]",
            r#"["a"]"#,
            r#"["single"]"#,
            "[7]",
            "[]",
        ]
    );
}
