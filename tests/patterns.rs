//! Actors, supervisors, services, timers and topics between nodes, and that they use the public
//! interface only.

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod node_support;

use aemp::patterns::Failure;
use aemp::patterns::actor::{self, Actor, ActorContext, ActorRef};
use aemp::patterns::replica::{Counter as Sum, Replica};
use aemp::patterns::service::{Service, State};
use aemp::patterns::supervisor::{Child, Place, Request, Restart, Strategy, Supervisor};
use aemp::patterns::timer;
use aemp::patterns::topic::Topic;
use aemp::{CallError, CallbackPort, Context, KillReason, Node, PortId, Reply};
use node_support::{Gate, node, pair, until, within};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// An actor that counts, fails and panics as it is told, and counts its own ends.
struct Counter {
    count: i64,
    ended: Arc<AtomicUsize>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Count {
    Add(i64),
    Get(Reply<i64>),
    Plus(i64, Reply<i64>),
    Fail(String),
    Panic,
    Stop,
    Keep(Reply<()>),
}

impl Actor for Counter {
    type Message = Count;
    const MAILBOX: usize = 64 << 10;

    async fn handle(&mut self, ctx: &ActorContext, message: Count) -> Result<(), Failure> {
        match message {
            Count::Add(n) => self.count += n,
            Count::Get(reply) => reply.send(self.count)?,
            Count::Plus(n, reply) => {
                self.count += n;
                reply.send(self.count)?;
            }
            Count::Fail(text) => return Err(text.into()),
            Count::Panic => panic!("as told"),
            Count::Stop => ctx.stop(),
            Count::Keep(reply) => reply.cancelled().await,
        }
        Ok(())
    }

    async fn stopped(&mut self, _: &ActorContext, _: &KillReason) {
        self.ended.fetch_add(1, Ordering::SeqCst);
    }
}

fn counter(count: i64) -> (Counter, Arc<AtomicUsize>) {
    let ended = Arc::new(AtomicUsize::new(0));
    (Counter { count, ended: ended.clone() }, ended)
}

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

async fn children(supervisor: &ActorRef<Request>) -> Vec<Option<PortId>> {
    let children = within(supervisor.call(Request::Children)).await.unwrap();
    children.into_iter().map(|(_, port)| port).collect()
}

/// The ports of the children once all run and `is_so`.
async fn settled_children(
    supervisor: &ActorRef<Request>,
    is_so: impl Fn(&[PortId]) -> bool,
) -> Vec<PortId> {
    let look = async {
        loop {
            let ports: Option<Vec<_>> = children(supervisor).await.into_iter().collect();
            if let Some(ports) = ports.filter(|ports| is_so(ports)) {
                return ports;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    within(look).await
}

fn three(strategy: Strategy) -> Supervisor {
    ["a", "b", "c"].into_iter().fold(Supervisor::new(strategy), |supervisor, id| {
        supervisor.child(Child::actor(id, || counter(0).0))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strategy_says_who_is_restarted() {
    let node = node("n", &[]).await;
    for (strategy, restarted) in [
        (Strategy::OneForOne, [false, true, false]),
        (Strategy::OneForAll, [true, true, true]),
        (Strategy::RestForOne, [false, true, true]),
    ] {
        let supervisor = three(strategy).start(&node);
        let before = settled_children(&supervisor, |_| true).await;
        node.kil(&before[1], &KillReason::new("failure", "too hot"));
        let is_so = |after: &[PortId]| {
            (0..3).all(|index| (before[index] != after[index]) == restarted[index])
        };
        let after = settled_children(&supervisor, is_so).await;
        // Twice is more than once within five seconds.
        let deaths: Vec<_> = after.iter().map(|port| node.monitor(port)).collect();
        let death = supervisor.monitor();
        node.kil(&after[1], &KillReason::new("failure", "too hot"));
        assert!(within(death).await.to_string().contains("child b died"));
        for death in deaths {
            within(death).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supervisor_stops_its_children_in_reverse_order_before_it_ends() {
    let node = node("n", &[]).await;
    let outer = Supervisor::new(Strategy::OneForOne)
        .child(Child::actor("first", || counter(0).0))
        .child(Supervisor::as_child("inner", || three(Strategy::RestForOne)))
        .start(&node);
    let ports = settled_children(&outer, |_| true).await;
    let inner = ActorRef::<Request>::at(&node, &ports[1]).unwrap();
    let inner_ports = settled_children(&inner, |_| true).await;
    let (sender, ended) = std::sync::mpsc::channel();
    let order =
        [&inner_ports[2], &inner_ports[1], &inner_ports[0], &ports[1], &ports[0], outer.id()];
    for (index, port) in order.iter().enumerate() {
        let sender = sender.clone();
        node.on_death(*port, move |reason| sender.send((index, reason.to_string())).unwrap())
            .detach();
    }
    outer.stop().unwrap();
    assert!(within(outer.monitor()).await.tag().is_none_or(|tag| tag == "no_such_port"));
    let ends: Vec<_> =
        (0..6).map(|_| ended.recv_timeout(node_support::PATIENCE).unwrap()).collect();
    let wanted: Vec<_> = (0..6).map(|index| (index, "normal end".to_owned())).collect();
    assert_eq!(ends, wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supervisor_that_gives_up_is_restarted_until_its_own_gives_up() {
    let node = node("n", &[]).await;
    let outer = Supervisor::new(Strategy::OneForOne)
        .intensity(2, Duration::from_secs(60))
        .backoff(Duration::from_millis(1), Duration::from_millis(1))
        .child(Supervisor::as_child("inner", || {
            let child = Child::actor("counter", || counter(0).0);
            Supervisor::new(Strategy::OneForAll).intensity(0, Duration::from_secs(60)).child(child)
        }))
        .start(&node);
    let death = outer.monitor();
    let mut before = Vec::new();
    for _ in 0..3 {
        let inner = settled_children(&outer, |ports| !before.contains(&ports[0])).await[0].clone();
        let child =
            settled_children(&ActorRef::at(&node, &inner).unwrap(), |_| true).await[0].clone();
        let (ends, given_up) = (node.monitor(&child), node.monitor(&inner));
        node.kil(&child, &KillReason::new("failure", "too hot"));
        within(ends).await;
        assert!(within(given_up).await.to_string().contains("child counter died"));
        before.push(inner);
    }
    assert!(within(death).await.to_string().contains("child inner died"));
    until("nothing is left", || node.port_count() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_comes_up_after_its_supervisor_was_stopped_is_killed() {
    let node = node("n", &[]).await;
    let gate = Gate::closed();
    let entrance = gate.clone();
    let supervisor = Supervisor::new(Strategy::OneForOne)
        .child(Child::new("late", move |node| {
            let gate = entrance.clone();
            async move {
                gate.pass();
                Ok(actor::start(&node, counter(0).0).id().clone())
            }
        }))
        .start(&node);
    gate.wait_for_visitor();
    supervisor.stop().unwrap();
    within(supervisor.monitor()).await;
    gate.open();
    until("nothing is left", || node.port_count() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_is_registered_as_long_as_it_runs() {
    let node = node("n", &[]).await;
    node.become_global();
    let service: Service<()> = Service::new(&node, "counters");
    let supervisor = Supervisor::new(Strategy::OneForOne)
        .child(Child::actor("counter", || counter(0).0).registered("counters"))
        .start(&node);
    let first = within(service.any()).await.unwrap();
    node.snd(&first, Count::Stop).unwrap();
    until("its successor is registered", || {
        let ports = service.members();
        ports.len() == 1 && ports[0].port != first
    })
    .await;
    supervisor.stop().unwrap();
    until("nobody is registered", || service.members().is_empty()).await;

    // A family that cannot be written counts as a start that failed, again and again.
    let hopeless = Supervisor::new(Strategy::OneForOne)
        .child(Child::actor("counter", || counter(0).0).registered("'l"))
        .start(&node);
    // It gives up, perhaps before the monitor is set.
    assert!(!within(hopeless.monitor()).await.is_normal());
    until("nothing is left", || node.port_count() == 0).await;
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
async fn transient_and_temporary_children_may_end() {
    let node = node("n", &[]).await;
    let supervisor = Supervisor::new(Strategy::OneForOne)
        .child(Child::actor("transient", || counter(0).0).restart(Restart::Transient))
        .child(Child::actor("temporary", || counter(0).0).restart(Restart::Temporary))
        .child(Child::actor("permanent", || counter(0).0))
        .start(&node);
    let ports = settled_children(&supervisor, |_| true).await;
    node.snd(&ports[0], Count::Stop).unwrap();
    node.snd(&ports[1], Count::Fail("x".into())).unwrap();
    node.snd(&ports[2], Count::Stop).unwrap();
    let look = async {
        loop {
            let now = children(&supervisor).await;
            let permanent = now[2].clone().filter(|port| *port != ports[2]);
            if now[0].is_none() && now[1].is_none() && permanent.is_some() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    within(look).await;
}

/// A node on which counters can be spawned, entered in the family `hosts`.
async fn host(id: &str, seed: &Node) -> Node {
    let host = node(id, &[seed]).await;
    host.expose("Counter::new", actor::init(|n: i64| Ok(counter(n).0)));
    host.db().set("hosts", host.id().clone(), ()).unwrap();
    host
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_child_is_started_elsewhere_when_its_node_is_lost() {
    let seed = node("seed", &[]).await;
    let place = Place::Family("hosts".into());
    let supervisor = Supervisor::new(Strategy::OneForOne)
        .child(Child::spawned_actor("counter", place, "Counter::new", (7,)))
        .start(&seed);
    let mut hosts = Vec::from([host("h1", &seed).await, host("h2", &seed).await]);
    let first = settled_children(&supervisor, |_| true).await[0].clone();
    assert_eq!(within(seed.call::<i64>(&first, ("get",))).await.unwrap(), 7);
    let index = hosts.iter().position(|host| *host.id() == first.node()).unwrap();
    within(hosts.remove(index).shutdown()).await;
    let second = settled_children(&supervisor, |ports| ports[0] != first).await[0].clone();
    assert_eq!(second.node(), *hosts[0].id());
    assert_eq!(within(seed.call::<i64>(&second, ("get",))).await.unwrap(), 7);

    // The child ends with the node of its supervisor.
    let death = hosts[0].monitor(&second);
    within(seed.shutdown()).await;
    assert!(within(death).await.is_normal());
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
async fn a_child_that_is_a_port_is_restarted_with_its_receivers() {
    let node = node("n", &[]).await;
    let supervisor = Supervisor::new(Strategy::OneForOne)
        .intensity(9, Duration::from_secs(60))
        .child(Child::port("echo", |port: &CallbackPort| {
            port.on("echo", |ctx: &Context<'_>, (n, reply): (u32, PortId)| ctx.snd(reply, n));
        }))
        .start(&node);
    let first = settled_children(&supervisor, |_| true).await[0].clone();
    assert_eq!(within(node.call::<u32>(&first, ("echo", 1))).await.unwrap(), 1);
    node.snd(&first, ("unknown",)).unwrap();
    let second = settled_children(&supervisor, |ports| ports[0] != first).await[0].clone();
    assert_eq!(within(node.call::<u32>(&second, ("echo", 2))).await.unwrap(), 2);
    supervisor.stop().unwrap();
    until("nothing is left", || node.port_count() == 0).await;

    // A panic counts as a start that failed, and leaves no port behind.
    let hopeless = Supervisor::new(Strategy::OneForOne)
        .child(Child::port("panics", |_: &CallbackPort| panic!("as told")))
        .start(&node);
    assert!(!within(hopeless.monitor()).await.is_normal());
    until("nothing is left", || node.port_count() == 0).await;
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
    assert!(found.len() >= 7);
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
