//! Supervisors of children on one node and on several.

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod counter_support;
mod node_support;

use aemp::patterns::actor::{self, ActorRef};
use aemp::patterns::service::Service;
use aemp::patterns::supervisor::{Child, Place, Request, Restart, Strategy, Supervisor};
use aemp::{CallbackPort, Context, KillReason, Node, PortId};
use counter_support::{Count, counter};
use node_support::{Gate, node, until, within};
use std::time::Duration;

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
        .child(Child::supervisor("inner", || three(Strategy::RestForOne)))
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
    let ends: Vec<_> = (0..6).map(|_| ended.recv_timeout(node_support::TIMEOUT).unwrap()).collect();
    let wanted: Vec<_> = (0..6).map(|index| (index, "normal end".to_owned())).collect();
    assert_eq!(ends, wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supervisor_that_gives_up_is_restarted_until_its_own_gives_up() {
    let node = node("n", &[]).await;
    let outer = Supervisor::new(Strategy::OneForOne)
        .intensity(2, Duration::from_secs(60))
        .backoff(Duration::from_millis(1), Duration::from_millis(1))
        .child(Child::supervisor("inner", || {
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
