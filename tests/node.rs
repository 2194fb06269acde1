//! Nodes in one process, over real sockets: joining, messages, monitors, spawning, calls and the database
//! from a program's point of view.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod node_support;

use aemp::{CallError, Context, KillReason, Node, NodeEvent, NodeId, PortId, RecvError, SendError};
use node_support::{builder, join, node, within};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn a_slave_joins_and_finds_a_port_in_the_database() {
    let seed = node("seed", &[]).await;
    let receiver = node("receiver", &[&seed]).await;
    let sender = node("sender", &[&seed]).await;
    assert!(seed.is_global());
    assert_eq!(sender.master().as_ref(), Some(seed.id()));

    let port = receiver.port_of_tags();
    port.on("test", |ctx: &Context<'_>, (data, reply): (String, PortId)| {
        ctx.snd(&reply, ("pong", data + "!"))
    });
    let _entry = receiver.db().register("eg_receivers", &port).unwrap();

    let mut changes = sender.db().monitor("eg_receivers");
    let found = loop {
        let change = within(changes.next()).await.unwrap();
        if let Some((key, _)) = change.added().next() {
            break key.to_string();
        }
    };
    let mut answers = sender.port();
    sender.snd(&found, ("test", "hello", answers.id())).unwrap();
    let (tag, text): (String, String) = within(answers.recv()).await.unwrap();
    assert_eq!((tag.as_str(), text.as_str()), ("pong", "hello!"));
    assert_eq!(within(sender.db().keys("eg_receivers")).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn monitors_fire_for_ports_and_for_lost_nodes() {
    let seed = node("seed", &[]).await;
    let other = node("other", &[&seed]).await;
    let port = other.port();
    let missing = seed.monitor(PortId::new(other.id(), "missing"));
    assert_eq!(within(missing).await.tag().unwrap(), "no_such_port");

    let died = seed.monitor(port.id());
    let second = other.port();
    let lost = seed.monitor(second.id());
    let node_lost = seed.monitor(other.id());
    // The answer arrives after the monitors were set there.
    let _: (f64,) = within(seed.call(other.id(), ("time",))).await.unwrap();
    port.kil(&KillReason::new("gone", "away"));
    assert_eq!(within(died).await.to_string(), r#"["gone", "away"]"#);
    other.shutdown().await;
    assert!(within(lost).await.is_transport_error());
    assert!(within(node_lost).await.is_transport_error());
    drop(second);
}

#[tokio::test(flavor = "multi_thread")]
async fn spawned_ports_take_their_first_message_and_tell_why_they_failed() {
    let seed = node("seed", &[]).await;
    let other = node("other", &[&seed]).await;
    seed.expose("My::App::init", |ctx: &Context<'_>, (reply, number): (PortId, u32)| {
        ctx.on("ping", move |ctx: &Context<'_>, (text,): (String,)| {
            ctx.snd(&reply, ("pong", number, text))
        });
    });
    seed.expose("My::App::dies", |_: &Context<'_>, (): ()| Err::<(), _>("init failed"));

    let mut answers = other.port();
    let worker = other.spawn(seed.id(), "My::App::init", (answers.id(), 7)).unwrap();
    other.snd(&worker, ("ping", "x")).unwrap();
    let (_, number, text): (String, u32, String) = within(answers.recv()).await.unwrap();
    assert_eq!((number, text.as_str()), (7, "x"));

    let failed = other.spawn(seed.id(), "My::App::dies", ()).unwrap();
    assert_eq!(within(other.monitor(&failed)).await.to_string(), r#"["die", "init failed"]"#);
    let unknown = other.spawn(seed.id(), "No::Such", ()).unwrap();
    let reason = within(other.monitor(&unknown)).await.to_string();
    assert!(reason.contains("not registered"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_answered_time_out_or_fail_with_the_port() {
    let seed = node("seed", &[]).await;
    let other = node("other", &[&seed]).await;
    let (now,): (f64,) = within(other.call(seed.id(), ("time",))).await.unwrap();
    assert!(now > 1e9);
    let quiet = seed.port();
    let call = other.call::<()>(quiet.id(), ("hello",)).timeout(Duration::from_millis(50));
    assert!(matches!(within(call).await, Err(CallError::Timeout(_))));
    let call = other.call::<()>(PortId::new(seed.id(), "missing"), ("hello",));
    assert!(matches!(within(call).await, Err(CallError::Died(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn slaves_reach_each_other_through_their_seed() {
    let seed = node("seed", &[]).await;
    let one = node("one", &[&seed]).await;
    let two = node("two", &[&seed]).await;
    let mut port = two.port();
    one.snd(port.id(), ("hello",)).unwrap();
    let message = within(port.recv_message()).await.unwrap();
    assert_eq!(message.from(), one.id());
    assert!(one.is_up(two.id()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_message_is_an_error_and_the_port_lives() {
    let node = node("alone", &[]).await;
    let mut port = node.port();
    node.snd(port.id(), ("text", 1)).unwrap();
    node.snd(port.id(), (2, 1)).unwrap();
    assert!(matches!(within(port.recv::<(u32, u32)>()).await, Err(RecvError::Decode(_))));
    assert_eq!(within(port.recv::<(u32, u32)>()).await.unwrap(), (2, 1));
    assert!(matches!(node.snd("#x", ("hello",)), Err(SendError::Destination(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_come_and_go_as_events() {
    let seed = node("seed", &[]).await;
    let mut events = seed.events();
    let other = node("other", &[&seed]).await;
    let name: NodeId = "other".parse().unwrap();
    assert!(
        matches!(within(events.next()).await, Some(NodeEvent::Up { node, .. }) if node == name)
    );
    drop(other);
    assert!(
        matches!(within(events.next()).await, Some(NodeEvent::Down { node, .. }) if node == name)
    );
}

/// The program of docs/scaling.md.
async fn open_door(here: &Node, there: &Node, family: &str) -> bool {
    let Some(service) = there.db().wait_for_key(family).await else { return false };
    let service = PortId::try_from(service).unwrap();
    let (far, to) = (there.clone(), service.clone());
    let door = here.port_with(move |_, message| far.snd(&to, message.keep().packed()));
    here.db().register(family, &door).unwrap().detach();
    let reason = there.monitor(&service).await;
    door.kil(&reason);
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn a_door_forwards_to_another_network_and_dies_with_the_service_behind_it() {
    let there = node("there", &[]).await;
    there.become_global();
    let here = join(builder("here", &[]).secret("another"), false).await;
    let asker = join(builder("asker", &[&here]).secret("another"), true).await;
    let mut service = there.port();
    there.db().register("search", service.id()).unwrap().detach();
    let opened = tokio::spawn({
        let (here, there) = (here.clone(), there.clone());
        async move { open_door(&here, &there, "search").await }
    });
    let door = within(asker.db().wait_for_key("search")).await.unwrap();
    let door = PortId::try_from(door).unwrap();
    let death = asker.monitor(&door);
    asker.snd(&door, ("find", 1, ["a", "b"])).unwrap();
    let found: (String, u8, (String, String)) = within(service.recv()).await.unwrap();
    assert_eq!(found, ("find".into(), 1, ("a".into(), "b".into())));
    assert!(!asker.up_nodes().iter().any(|node| node == there.id()), "the networks stay apart");
    let reason = KillReason::new("no", "more");
    service.kil(&reason);
    assert_eq!(within(death).await.to_string(), reason.to_string());
    assert!(within(opened).await.unwrap());
}
