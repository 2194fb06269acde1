//! Actors, services, replicas, timers and topics between nodes, and that they use the public
//! interface only.

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod counter_support;
mod node_support;

use aemp::patterns::Failure;
use aemp::patterns::actor::{self, Actor, ActorContext, ActorRef};
use aemp::patterns::replica::{Counter as Sum, Replica};
use aemp::patterns::service::{Members, Service, State};
use aemp::patterns::supervisor::{Child, Strategy, Supervisor};
use aemp::patterns::timer;
use aemp::patterns::topic::Topic;
use aemp::{CallError, KillReason, PortId};
use counter_support::{Count, Counter, counter};
use node_support::{node, pair, until, within};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn an_actor_answers_and_ends_in_every_way() {
    let (seed, other) = pair().await;
    type End = fn(&ActorRef<Count>);
    let ends: [(&str, End, &str); 5] = [
        ("error", |counter| counter.snd(Count::Fail("no".into())).unwrap(), r#"["die", "no"]"#),
        ("panic", |counter| counter.snd(Count::Panic).unwrap(), r#"["die", "as told"]"#),
        ("own will", |counter| counter.snd(Count::Stop).unwrap(), "normal end"),
        ("request", |counter| counter.stop().unwrap(), "normal end"),
        (
            "mailbox",
            |counter| {
                for _ in 0..2000 {
                    counter.snd(Count::Add(1)).unwrap();
                }
            },
            r#"["die", "more than 65536 octets of messages wait"]"#,
        ),
    ];
    for (what, end, reason) in ends {
        let (actor, ended) = counter(40);
        let here = actor::start(&seed, actor);
        let there = ActorRef::<Count>::at(&other, here.id()).unwrap();
        for counter in [&here, &there] {
            counter.snd(Count::Add(1)).unwrap();
        }
        assert_eq!(within(there.call(Count::Get)).await.unwrap(), 42, "{what}");
        assert_eq!(within(here.call(|reply| Count::Plus(-2, reply))).await.unwrap(), 40);
        if what == "mailbox" {
            // It is busy until its caller gives up.
            let call = tokio::spawn(there.call(Count::Keep));
            until("it is called", || other.port_count() > 0).await;
            node_support::settled(&other, seed.id()).await;
            let death = there.monitor();
            end(&there);
            assert_eq!(within(death).await.to_string(), reason);
            assert!(matches!(within(call).await.unwrap(), Err(CallError::Died(_))));
        } else {
            let death = there.monitor();
            end(&there);
            assert_eq!(within(death).await.to_string(), reason, "{what}");
        }
        until("it has ended once", || ended.load(Ordering::SeqCst) == 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn senders_that_wait_for_room_do_not_kill_an_actor_that_is_slow() {
    let (seed, other) = pair().await;
    let (actor, _) = counter(0);
    let here = actor::start(&seed, actor);
    // It is busy, and 600 messages need more than its mailbox may hold.
    let busy = tokio::spawn(here.call(Count::Keep));
    until("it is called", || seed.port_count() > 1).await;
    let senders: Vec<_> = (0..6)
        .map(|number| {
            let node = if number % 2 == 0 { &seed } else { &other };
            let there = ActorRef::<Count>::at(node, here.id()).unwrap();
            tokio::spawn(async move {
                for _ in 0..100 {
                    there.clone().snd_wait(Count::Ignore("x".repeat(1000))).await.unwrap();
                    there.snd_wait(Count::Add(1)).await.unwrap();
                }
            })
        })
        .collect();
    // What they send without waiting has arrived.
    node_support::settled(&other, seed.id()).await;
    busy.abort();
    for sender in senders {
        within(sender).await.unwrap();
    }
    node_support::settled(&other, seed.id()).await;
    assert_eq!(within(here.call(Count::Get)).await.unwrap(), 600);

    let death = here.monitor();
    here.snd(Count::Panic).unwrap();
    within(death).await;
    let late = ActorRef::<Count>::at(&other, here.id()).unwrap();
    assert!(matches!(within(late.snd_wait(Count::Panic)).await, Err(CallError::Died(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_actor_is_spawned_by_name_and_killed() {
    let (seed, other) = pair().await;
    let ended = Arc::new(AtomicUsize::new(0));
    let kept = ended.clone();
    seed.expose(
        "Counter::new",
        actor::init(move |count: i64| match count {
            0 => Err("0 is no beginning".into()),
            _ => Ok(Counter { count, ended: kept.clone() }),
        }),
    );
    let counter = actor::spawn::<Count>(&other, "seed", "Counter::new", 5).unwrap();
    counter.snd(Count::Add(1)).unwrap();
    assert_eq!(within(counter.call(Count::Get)).await.unwrap(), 6);
    let (death, busy) = (counter.monitor(), tokio::spawn(counter.call(Count::Keep)));
    other.kil(&counter, &KillReason::new("enough", "of it"));
    assert_eq!(within(death).await.tag().unwrap(), "enough");
    assert!(within(busy).await.unwrap().is_err());
    until("it has ended", || ended.load(Ordering::SeqCst) == 1).await;

    let refused = other.spawn("seed", "Counter::new", (0,)).unwrap();
    assert!(within(other.monitor(refused)).await.to_string().contains("0 is no beginning"));
    let wrong = other.spawn("seed", "Counter::new", (1,)).unwrap();
    let death = other.monitor(&wrong);
    other.snd(&wrong, ("unknown", 1)).unwrap();
    assert_eq!(within(death).await.tag().unwrap(), "die");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_actor_does_not_keep_its_node() {
    let node = node("n", &[]).await;
    let (actor, ended) = counter(1);
    let counter = actor::start(&node, actor);
    let supervisor = Supervisor::new(Strategy::OneForOne)
        .child(Child::actor("counter", || self::counter(1).0))
        .start(&node);
    assert_eq!(within(counter.call(Count::Get)).await.unwrap(), 1);
    let service: Service<()> = Service::new(&node, "f");
    drop(node);
    until("it has ended", || ended.load(Ordering::SeqCst) == 1).await;
    assert!(counter.snd(Count::Stop).is_err());
    assert!(supervisor.stop().is_err());
    assert!(within(service.any()).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_actor_dies_with_a_port_for_the_same_reason() {
    struct Agent(PortId);
    impl Actor for Agent {
        type Message = Count;
        async fn started(&mut self, ctx: &ActorContext) -> Result<(), Failure> {
            ctx.die_with(&self.0);
            Ok(())
        }
        async fn handle(&mut self, _: &ActorContext, message: Count) -> Result<(), Failure> {
            match message {
                Count::Get(reply) => Ok(reply.send(0)?),
                _ => Ok(()),
            }
        }
    }
    let (seed, other) = pair().await;
    for reason in [KillReason::normal(), KillReason::new("failure", "too hot")] {
        let client = other.port();
        let agent = actor::start(&seed, Agent(client.id()));
        let death = agent.monitor();
        // It has started, and its monitor has arrived.
        within(agent.call(Count::Get)).await.unwrap();
        node_support::settled(&seed, other.id()).await;
        client.kil(&reason);
        assert_eq!(within(death).await.to_string(), reason.to_string());
    }
    let nobody = actor::start(&seed, Agent(PortId::new(other.id(), "nobody")));
    assert!(!within(nobody.monitor()).await.is_normal());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_actor_registers_itself_as_long_as_it_lives() {
    struct Registered;
    impl Actor for Registered {
        type Message = Count;
        async fn started(&mut self, ctx: &ActorContext) -> Result<(), Failure> {
            Ok(ctx.register_with("counters", "a value")?)
        }
        async fn handle(&mut self, ctx: &ActorContext, _: Count) -> Result<(), Failure> {
            ctx.stop();
            Ok(())
        }
    }
    let node = node("n", &[]).await;
    node.become_global();
    let service: Service<String> = Service::new(&node, "counters");
    let actor = actor::start(&node, Registered);
    assert_eq!(within(service.any()).await.unwrap(), *actor.id());
    assert_eq!(service.members()[0].value, "a value");
    actor.snd(Count::Stop).unwrap();
    until("nobody is registered", || service.members().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_knows_who_is_up() {
    let seed = node("seed", &[]).await;
    let client = node("client", &[&seed]).await;
    let mut service: Service<String> = Service::new(&client, "counters");
    let waiting = {
        let service = service.clone();
        tokio::spawn(async move { service.any().await })
    };
    let (w1, w2) = (node("w1", &[&seed]).await, node("w2", &[&seed]).await);
    let mut entries = Vec::new();
    let mut counters = Vec::new();
    for worker in [&w1, &w2] {
        let counter = actor::start(worker, counter(0).0);
        entries.push(worker.db().register_with("counters", &counter, worker.id()).unwrap());
        counters.push(counter);
    }
    within(waiting).await.unwrap().unwrap();
    while service.all().len() < 2 {
        assert!(within(service.changed()).await);
    }
    let values: Vec<_> = service.members().into_iter().map(|member| member.value).collect();
    assert_eq!(values, ["w1", "w2"]);
    let (a, b) = (within(service.next()).await.unwrap(), within(service.next()).await.unwrap());
    assert_ne!(a, b);
    assert_eq!(within(service.next()).await.unwrap(), a);
    let mut keys = Vec::new();
    for n in 0..100 {
        keys.push(within(service.by_key(&n.to_string())).await.unwrap());
    }
    let firsts = keys.iter().filter(|port| **port == a).count();
    assert!((20..80).contains(&firsts), "{firsts}");

    // One dies while it is called; the other one answers, if that is asked for.
    let doomed = counters.remove(0);
    assert_eq!(service.snd_all(Count::Add(1)).unwrap(), 2);
    doomed.snd(Count::Fail("x".into())).unwrap();
    for _ in 0..4 {
        let count: i64 = within(service.call(("get",)).safe_to_repeat()).await.unwrap();
        assert_eq!(count, 1);
    }
    while service.all().len() > 1 {
        assert!(within(service.changed()).await);
    }
    let left = service.all();
    assert_eq!(left[0].node(), *w2.id());
    for (n, port) in keys.iter().enumerate() {
        let now = within(service.by_key(&n.to_string())).await.unwrap();
        assert_eq!(now, left[0]);
        assert!(*port == now || port.node() == *w1.id());
    }
    within(w2.shutdown()).await;
    while service.members().iter().any(|member| matches!(member.state, State::Up)) {
        assert!(within(service.changed()).await);
    }
}

/// Waits until the members are so.
async fn changed_to(changes: &mut Members<u32>, is_so: impl Fn(&[(u32, State)]) -> bool) {
    loop {
        let members = within(changes.next()).await.unwrap().into_iter();
        let members: Vec<_> = members.map(|member| (member.value, member.state)).collect();
        if is_so(&members) {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_tells_of_members_that_come_and_go_and_of_their_ends() {
    let seed = node("seed", &[]).await;
    let client = node("client", &[&seed]).await;
    let service: Service<u32> = Service::new(&client, "counters");
    let mut changes = service.changes();
    assert!(within(changes.next()).await.unwrap().is_empty());
    let port = seed.port();
    seed.db().set("counters", port.id(), 1).unwrap();
    changed_to(&mut changes, |members| matches!(members, [(1, State::Up)])).await;
    seed.db().set("counters", port.id(), 2).unwrap();
    changed_to(&mut changes, |members| matches!(members, [(2, State::Up)])).await;
    // The service's monitor has arrived. The entry stays, as nobody deletes it.
    node_support::settled(&client, seed.id()).await;
    port.kil(&KillReason::new("failure", "too hot"));
    changed_to(&mut changes, |members| match members {
        [(2, State::Down(reason))] => reason.tag().is_some_and(|tag| tag == "failure"),
        _ => false,
    })
    .await;
    let other = seed.port();
    seed.db().set("counters", other.id(), 3).unwrap();
    changed_to(&mut changes, |members| {
        members.iter().any(|member| matches!(member, (3, State::Up)))
    })
    .await;
    node_support::settled(&client, seed.id()).await;
    // The seed keeps the database, which stays as it was when it is lost together with the port.
    within(seed.shutdown()).await;
    changed_to(&mut changes, |members| {
        members.iter().any(|member| matches!(member, (3, State::Unreachable)))
    })
    .await;
    within(client.shutdown()).await;
    let ended = async { while changes.next().await.is_some() {} };
    within(ended).await;
    assert!(within(changes.next()).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_says_when_it_knows_that_there_is_nobody_or_who_is_there() {
    let seed = node("seed", &[]).await;
    let client = node("client", &[&seed]).await;
    let service: Service<()> = Service::new(&client, "counters");
    within(service.known()).await.unwrap();
    assert_eq!(service.all(), []);
    let counter = actor::start(&seed, counter(0).0);
    let _entry = seed.db().register("counters", &counter).unwrap();
    within(service.any()).await.unwrap();
    let another: Service<()> = Service::new(&client, "counters");
    within(another.known()).await.unwrap();
    assert_eq!(another.all().len(), 1);
    let lost: Service<()> = Service::new(&node("lost", &[]).await, "counters");
    within(lost.known()).await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_instance_is_preferred_while_it_is_up() {
    let (seed, other) = pair().await;
    let service: Service<()> = Service::local_first(&other, "f");
    let (here, there) = (other.port(), seed.port());
    let _far = seed.db().register("f", &there).unwrap();
    assert_eq!(within(service.any()).await.unwrap(), there.id());
    let _near = other.db().register("f", &here).unwrap();
    until("both are known", || service.all().len() == 2).await;
    for _ in 0..8 {
        assert_eq!(within(service.any()).await.unwrap(), here.id());
        assert_eq!(within(service.next()).await.unwrap(), here.id());
    }
    drop(here);
    until("one is left", || service.all().len() == 1).await;
    assert_eq!(within(service.any()).await.unwrap(), there.id());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_crosses_the_network_once_for_each_node() {
    let (seed, other) = pair().await;
    let (here, there) = (Topic::new(&seed, "news").unwrap(), Topic::new(&other, "news").unwrap());
    let mut subscriptions = [there.subscribe(), there.subscribe(), here.subscribe()];
    let until_two = async {
        loop {
            if here.publish(("any",)).unwrap() == 2 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    within(until_two).await;
    assert_eq!(here.publish(("rain", 3)).unwrap(), 2);
    for subscription in &mut subscriptions {
        loop {
            let (what, n): (String, Option<u32>) =
                within(subscription.recv()).await.unwrap().unwrap();
            if what == "rain" {
                assert_eq!(n, Some(3));
                break;
            }
        }
    }
    drop(there);
    assert!(within(subscriptions[0].recv::<(String,)>()).await.unwrap().is_none());
}

async fn until_equal(replicas: &[&Replica<Sum>], value: i64) {
    let what = format!("all replicas have {value}");
    until(&what, || replicas.iter().all(|replica| replica.value() == value)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_has_what_the_others_knew_before_it_came_and_what_they_change() {
    let (seed, other) = pair().await;
    let one = within(Replica::<Sum>::join(&seed, "hits")).await.unwrap();
    one.add(40).unwrap();
    let two = within(Replica::<Sum>::join(&other, "hits")).await.unwrap();
    assert_eq!(two.value(), 40);
    two.add(5).unwrap();
    one.add(-3).unwrap();
    until_equal(&[&one, &two], 42).await;

    // A port that is killed is replaced, and nothing is lost.
    let first = two.id();
    other.kil(&first, &KillReason::new("failure", "too hot"));
    until("there is another one", || two.id() != first).await;
    one.add(1).unwrap();
    two.add(1).unwrap();
    until_equal(&[&one, &two], 44).await;

    // Nonsense does no harm.
    seed.snd(two.id(), ("merge", "nonsense")).unwrap();
    seed.snd(two.id(), ("nonsense",)).unwrap();
    one.add(1).unwrap();
    until_equal(&[&one, &two], 45).await;

    // The last one left knows everything, and a clone keeps its copy in the family.
    drop(one);
    let kept = two.clone();
    drop(two);
    let three = within(Replica::<Sum>::join(&seed, "hits")).await.unwrap();
    assert_eq!((kept.value(), three.value()), (45, 45));
    drop((kept, three));
    until("nothing is left", || seed.port_count() + other.port_count() == 0).await;
    assert!(within(Replica::<Sum>::join(&seed, "'l")).await.is_err());
    until("nothing is left", || seed.port_count() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_copy_told_only_one_other_before_it_was_lost_reaches_all() {
    let (seed, other) = pair().await;
    let one = within(Replica::<Sum>::join(&seed, "hits")).await.unwrap();
    let two = within(Replica::<Sum>::join(&other, "hits")).await.unwrap();
    let lost = seed.port();
    let entry = seed.db().register("hits", &lost).unwrap();
    let service: Service<()> = Service::new(&other, "hits");
    until("it is known", || service.all().len() == 3).await;
    node_support::settled(&other, seed.id()).await;
    seed.snd(two.id(), ("merge", [("lost", (42, 0))].into_iter().collect::<BTreeMap<_, _>>()))
        .unwrap();
    lost.kil(&KillReason::new("failure", "too hot"));
    until_equal(&[&one, &two], 42).await;
    drop(entry);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_on_a_global_node_has_what_those_of_its_seeds_knew() {
    let first = node("first", &[]).await;
    first.become_global();
    let one = within(Replica::<Sum>::join(&first, "hits")).await.unwrap();
    one.add(42).unwrap();
    for round in 0..10 {
        // It is global before it is connected to anything, and one of its seeds is not there.
        let builder = node_support::builder(&format!("second{round}"), &[&first]);
        let second = builder.seed("127.0.0.1:1").start().await.unwrap();
        second.become_global();
        let two = within(Replica::<Sum>::join(&second, "hits")).await.unwrap();
        assert_eq!(two.value(), 42);
        within(second.shutdown()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn timers_end_with_their_port() {
    let node = node("n", &[]).await;
    let mut port = node.port();
    let never = timer::after(&node, port.id(), Duration::from_millis(1), ("never",)).unwrap();
    drop(never);
    let ticks = timer::every(&node, port.id(), Duration::from_millis(1), ("tick",)).unwrap();
    ticks.detach();
    for _ in 0..3 {
        assert_eq!(within(port.recv::<(String,)>()).await.unwrap().0, "tick");
    }
    let monitors = node.monitor_count();
    assert!(monitors > 0);
    drop(port);
    until("the timer has ended", || node.monitor_count() == 0).await;
}

/// The patterns are what users could have written: nothing of the crate's inner parts.
#[test]
fn patterns_use_the_public_interface_only() {
    fn files(dir: &std::path::Path, found: &mut Vec<std::path::PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => files(&path, found),
                false => found.push(path),
            }
        }
    }
    let mut found = Vec::new();
    files(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/patterns"), &mut found);
    assert!(found.len() >= 12, "{found:?}");
    for path in found {
        let text = std::fs::read_to_string(&path).unwrap();
        for inner in [
            "crate::kernel",
            "crate::wire",
            "crate::lane",
            "::Shared>",
            ".shared()",
            "pub(crate)",
            ".inside()",
            "unsafe",
        ] {
            assert!(!text.contains(inner), "{path:?} has {inner}");
        }
        // What stands at the crate's root stands in the module `node`, and its modules are not public.
        let inner = text
            .split("crate::node::")
            .skip(1)
            .find(|rest| rest.starts_with(|first: char| first.is_ascii_lowercase()));
        assert!(inner.is_none(), "{path:?} uses a module of crate::node");
    }
}
