//! Messages, monitors, kills, links and spawned ports between kernels.
#![allow(clippy::unwrap_used)]

mod support;

use aemp::kernel::OnDeath;
use aemp::value::{Packed, PortId, Str};
use aemp_sim::{HostId, World, WorldEvent};
use support::*;

/// Two connected nodes, a port on the second.
fn pair() -> (World, HostId, HostId, PortId) {
    let (mut world, seed, slaves) = family(1);
    let port = world.open_port(seed);
    (world, slaves[0], seed, port)
}

/// How many packets of each request were sent to a peer since its lane came up, as counted by the
/// lane.
fn sent(world: &World, from: HostId, to: &str) -> u64 {
    let (_, lane) = world.node(from).lanes().find(|(node, _)| **node == id(to)).unwrap();
    lane.counters().packets
}

#[test]
fn a_local_monitor_fires_once_with_the_reason() {
    let mut world = World::calm();
    let host = world.add(aemp_sim::Spec::new("n"));
    let port = world.open_port(host);
    let monitored = monitor(&mut world, host, &port);
    kill(&mut world, host, &port, &packed(&("why", 1)));
    kill(&mut world, host, &port, &packed(&("again",)));
    let fired = fired(&mut world, host);
    assert_eq!(fired.len(), 1);
    assert_eq!((fired[0].0, text(&fired[0].1)), (monitored, r#"["why", 1]"#.to_owned()));
    assert_eq!(world.node(host).kernel().monitor_count(), 0);
}

#[test]
fn monitoring_a_local_port_that_is_not_there_fires_at_once() {
    let mut world = World::calm();
    let host = world.add(aemp_sim::Spec::new("n"));
    let monitored = monitor(&mut world, host, &PortId::new(&id("n"), "none"));
    let fired = fired(&mut world, host);
    assert_eq!(fired[0].0, monitored);
    assert_eq!(
        text(&fired[0].1),
        r#"["no_such_port", "cannot monitor nonexistent port", "n#none"]"#
    );
}

#[test]
fn a_remote_monitor_fires_once_with_the_reason() {
    let (mut world, a, s, port) = pair();
    let monitored = monitor(&mut world, a, &port);
    world.run_for(ms(10));
    kill(&mut world, s, &port, &packed(&("failure", "too hot", 42)));
    world.run_for(ms(10));
    let fired = fired(&mut world, a);
    assert_eq!(fired.len(), 1);
    assert_eq!(
        (fired[0].0, text(&fired[0].1)),
        (monitored, r#"["failure", "too hot", 42]"#.into())
    );
}

#[test]
fn any_number_of_monitors_of_a_port_asks_the_peer_once_and_tells_it_once() {
    let (mut world, a, _, port) = pair();
    let before = sent(&world, a, "s");
    let monitors: Vec<_> = (0..3).map(|_| monitor(&mut world, a, &port)).collect();
    assert_eq!(sent(&world, a, "s"), before + 1, "one mon1");
    for (left, monitor) in [(2, monitors[0]), (1, monitors[1])] {
        world.kernel(a, |kernel| kernel.unmonitor(monitor));
        assert_eq!(world.node(a).kernel().monitor_count(), left);
        assert_eq!(sent(&world, a, "s"), before + 1);
    }
    world.kernel(a, |kernel| kernel.unmonitor(monitors[2]));
    assert_eq!(sent(&world, a, "s"), before + 2, "one mon0");
    world.kernel(a, |kernel| kernel.unmonitor(monitors[2]));
    assert_eq!(sent(&world, a, "s"), before + 2);
}

#[test]
fn a_monitor_that_was_removed_never_fires() {
    let (mut world, a, s, port) = pair();
    let removed = monitor(&mut world, a, &port);
    let kept = monitor(&mut world, a, &port);
    world.kernel(a, |kernel| kernel.unmonitor(removed));
    world.run_for(ms(10));
    kill(&mut world, s, &port, &Packed::default());
    world.run_for(ms(10));
    assert_eq!(fired(&mut world, a), [(kept, "[]".to_owned())]);
}

#[test]
fn a_port_that_is_not_there_is_reported_by_its_node() {
    let (mut world, a, _, _) = pair();
    monitor(&mut world, a, &PortId::new(&id("s"), "none"));
    world.run_for(ms(10));
    let fired = fired(&mut world, a);
    assert_eq!(
        text(&fired[0].1),
        r#"["no_such_port", "cannot monitor nonexistent port", "s#none"]"#
    );
}

#[test]
fn a_kill_across_the_network_arrives_with_its_reason() {
    let (mut world, a, s, port) = pair();
    monitor(&mut world, a, &port);
    kill(&mut world, a, &port, &packed(&("bye", 1)));
    world.run_for(ms(10));
    assert_eq!(text(&fired(&mut world, a)[0].1), r#"["bye", 1]"#);
    assert!(!world.node(s).ports().any(|name| name.as_ref() == port.port()));
}

#[test]
fn the_node_port_cannot_be_killed() {
    let (mut world, a, s, _) = pair();
    let before = world.node(s).kernel().port_count();
    kill(&mut world, a, &id("s").node_port(), &packed(&("die",)));
    world.run_for(ms(10));
    assert!(is_up(&world, a, "s"));
    assert_eq!(world.node(s).kernel().port_count(), before);
}

#[test]
fn a_linked_port_dies_too_but_not_when_the_other_ended_normally() {
    for (reason, dies) in [(Packed::default(), false), (packed(&("bad",)), true)] {
        let (mut world, a, s, port) = pair();
        let local = world.open_port(a);
        let name = local.port().to_owned();
        world.kernel(a, |kernel| kernel.monitor(&port, OnDeath::Link(name)));
        let mourner = monitor(&mut world, a, &local);
        world.run_for(ms(10));
        kill(&mut world, s, &port, &reason);
        world.run_for(ms(10));
        let expected = if dies { vec![(mourner, text(&reason))] } else { vec![] };
        assert_eq!(fired(&mut world, a), expected);
    }
}

#[test]
fn a_monitor_can_send_a_message() {
    let (mut world, a, s, port) = pair();
    let to = world.open_port(a);
    let elements = packed(&("died", 7));
    world.kernel(a, |kernel| kernel.monitor(&port, OnDeath::Message { to, elements }));
    world.run_for(ms(10));
    kill(&mut world, s, &port, &packed(&("bad", 1)));
    world.run_for(ms(10));
    assert_eq!(messages(&mut world, a), [r#"["died", 7, "bad", 1]"#]);
}

#[test]
fn monitoring_a_node_asks_nobody_and_fires_when_the_connection_is_lost() {
    let (mut world, a, s, _) = pair();
    let before = sent(&world, a, "s");
    let monitored = monitor(&mut world, a, &id("s").node_port());
    world.run_for(ms(10));
    assert_eq!(sent(&world, a, "s"), before);
    world.kill(s);
    world.run_for(ms(10));
    let fired = fired(&mut world, a);
    assert_eq!(fired[0].0, monitored);
    assert_eq!(text(&fired[0].1), r#"["transport_error", "s", "unexpected end of file"]"#);
}

#[test]
fn a_lost_connection_fires_all_monitors_of_its_ports_and_no_other() {
    let (mut world, s, slaves) = family(2);
    let ports: Vec<_> = [s, s, slaves[1]].map(|host| world.open_port(host)).to_vec();
    let monitors: Vec<_> = ports.iter().map(|port| monitor(&mut world, slaves[0], port)).collect();
    world.run_for(ms(100));
    world.cut(s, slaves[0]);
    world.run_for(ms(10));
    let fired: Vec<_> = fired(&mut world, slaves[0]).into_iter().map(|(id, _)| id).collect();
    assert_eq!(fired, monitors[..2]);
}

#[test]
fn a_connection_is_lost_before_its_lane_takes_packets_again() {
    let (mut world, a, s, port) = pair();
    let own = world.open_port(s);
    monitor(&mut world, a, &port);
    let ping = world.open_port(a);
    // Messages that are sent while monitors fire are lost with the connection; later ones are not.
    world.kernel(a, |kernel| {
        let elements = packed(&("after",));
        kernel.monitor(&port, OnDeath::Message { to: own.clone(), elements })
    });
    world.send(a, &own, &packed(&("before",)));
    world.run_for(ms(10));
    assert_eq!(messages(&mut world, s), [r#"["before"]"#]);
    world.cut(a, s);
    world.send(a, &own, &packed(&("lost",)));
    world.run_for(secs(10));
    assert_eq!(
        messages(&mut world, s),
        [r#"["after", "transport_error", "s", "connection reset by peer"]"#]
    );
    drop(ping);
}

#[test]
fn the_loss_of_a_node_that_monitored_us_makes_no_new_connection() {
    let (mut world, s, slaves) = family(2);
    // b monitors a port of a that is linked to one of b.
    let a_port = world.open_port(slaves[0]);
    let b_port = world.open_port(slaves[1]);
    monitor(&mut world, slaves[1], &a_port);
    let name = a_port.port().to_owned();
    world.kernel(slaves[0], |kernel| kernel.monitor(&b_port, OnDeath::Link(name)));
    world.run_for(ms(100));
    world.happenings(slaves[0]);
    world.cut(slaves[0], slaves[1]);
    world.run_for(secs(5));
    assert!(!world.node(slaves[0]).ports().any(|name| name.as_ref() == a_port.port()));
    assert_eq!(dialled(&mut world, slaves[0]), [""; 0]);
    assert!(is_up(&world, slaves[0], &world.spec(s).node.to_string()));
}

#[test]
fn a_spawned_port_can_be_monitored_and_written_to_at_once() {
    let (mut world, a, s, _) = pair();
    let port = world.kernel(a, |kernel| {
        let arguments = packed(&(1, "x"));
        kernel.spawn(&id("s"), "f", arguments.as_elements())
    });
    monitor(&mut world, a, &port);
    world.send(a, &port, &packed(&("ping",)));
    world.run_for(ms(10));
    let happenings = world.happenings(s);
    let [WorldEvent::Spawned { port: name, init }, WorldEvent::Delivered { message, .. }] =
        happenings.as_slice()
    else {
        panic!("{happenings:?}");
    };
    assert_eq!(name.as_ref(), port.port());
    assert_eq!(init.function, *"f");
    assert_eq!(text(&init.arguments), r#"[1, "x"]"#);
    assert_eq!(text(message), r#"["ping"]"#);
    // The port dies by itself.
    kill(&mut world, s, &port, &packed(&("die", "oops")));
    world.run_for(ms(10));
    assert_eq!(text(&fired(&mut world, a)[0].1), r#"["die", "oops"]"#);
}

#[test]
fn a_function_that_is_not_registered_makes_a_port_that_died_with_the_real_reason() {
    let (mut world, a, _, _) = pair();
    let port = world
        .kernel(a, |kernel| kernel.spawn(&id("s"), "No::Such", Packed::default().as_elements()));
    world.run_for(secs(10));
    monitor(&mut world, a, &port);
    world.run_for(ms(10));
    let reason = text(&fired(&mut world, a)[0].1);
    assert_eq!(reason, r#"["die", "function No::Such is not registered here"]"#);
}

#[test]
fn a_spawned_port_that_failed_before_it_was_monitored_keeps_its_reason() {
    let (mut world, a, s, _) = pair();
    let port =
        world.kernel(a, |kernel| kernel.spawn(&id("s"), "f", Packed::default().as_elements()));
    world.run_for(ms(10));
    kill(&mut world, s, &port, &packed(&("die", "init failed")));
    world.run_for(secs(5));
    monitor(&mut world, a, &port);
    world.run_for(ms(10));
    assert_eq!(text(&fired(&mut world, a)[0].1), r#"["die", "init failed"]"#);
    // This does not apply if the connection was lost in between.
    world.cut(a, s);
    world.run_for(secs(5));
    monitor(&mut world, a, &port);
    world.run_for(ms(10));
    assert!(text(&fired(&mut world, a)[0].1).contains("no_such_port"));
}

#[test]
fn spawning_at_home_is_spawning() {
    let mut world = World::calm();
    let host = world.add(aemp_sim::Spec::new("n"));
    for (function, spawned) in [("f", true), ("g", false)] {
        let port = world.kernel(host, |kernel| {
            kernel.spawn(&id("n"), function, Packed::default().as_elements())
        });
        let monitored = monitor(&mut world, host, &port);
        let happenings = world.happenings(host);
        let found = happenings.iter().any(|h| matches!(h, WorldEvent::Spawned { .. }));
        assert_eq!(found, spawned);
        let reasons: Vec<_> = happenings
            .iter()
            .filter_map(|h| match h {
                WorldEvent::Fired { monitor, reason } => Some((*monitor, text(reason))),
                _ => None,
            })
            .collect();
        let expected = r#"["die", "function g is not registered here"]"#.to_owned();
        assert_eq!(reasons, if spawned { vec![] } else { vec![(monitored, expected)] });
    }
}

#[test]
fn a_port_that_exists_is_not_spawned_again() {
    let (mut world, a, s, port) = pair();
    world.kernel(a, |kernel| {
        let request = packed(&("AnyEvent::MP::_spawn", port.port().to_text_lossy(), "f"));
        kernel.send_request(&id("s"), request.as_elements());
    });
    world.run_for(ms(10));
    assert!(!world.happenings(s).iter().any(|h| matches!(h, WorldEvent::Spawned { .. })));
    monitor(&mut world, a, &port);
    world.run_for(ms(10));
    assert!(fired(&mut world, a).is_empty(), "the port that was there lives");
}

#[test]
fn a_secure_node_runs_nothing() {
    let mut world = World::calm();
    let mut spec = aemp_sim::Spec::new("s");
    spec.secure = true;
    let s = world.add(spec);
    let a = world.add(aemp_sim::Spec::new("a").seeds(["s:1"]));
    world.run_for(secs(3));
    world.happenings(s);
    let reply = world.open_port(a);
    let port = world.kernel(a, |kernel| {
        for request in [packed(&("f", 1)), packed(&("eval", "$$", reply.to_string()))] {
            kernel.send_request(&id("s"), request.as_elements());
        }
        kernel.spawn(&id("s"), "f", Packed::default().as_elements())
    });
    monitor(&mut world, a, &port);
    world.run_for(ms(10));
    assert_eq!(text(&fired(&mut world, a)[0].1), r#"["die", "remote execution not allowed"]"#);
    let happenings = world.happenings(s);
    assert!(happenings.iter().all(|h| matches!(h, WorldEvent::Log { .. })), "{happenings:?}");
    // A node that runs nothing for others stays up.
    world.kernel(a, |kernel| {
        let request = packed(&("snd", reply.to_string(), "echo"));
        kernel.send_request(&id("s"), request.as_elements());
    });
    world.run_for(ms(10));
    assert_eq!(messages(&mut world, a), [r#"["echo"]"#]);
}

#[test]
fn requests_take_effect_in_the_order_of_the_wire() {
    let (mut world, a, s, _) = pair();
    let reply = world.open_port(a);
    let port = world.kernel(a, |kernel| {
        let port = kernel.spawn(&id("s"), "f", Packed::default().as_elements());
        kernel.monitor(&port, OnDeath::Host);
        port
    });
    world.send(a, &port, &packed(&(1,)));
    kill(&mut world, a, &port, &packed(&("stop",)));
    world.send(a, &port, &packed(&(2,)));
    world.kernel(a, |kernel| {
        let barrier = packed(&("snd", reply.to_string(), "barrier"));
        kernel.send_request(&id("s"), barrier.as_elements());
    });
    world.run_for(ms(20));
    assert_eq!(messages(&mut world, s), ["[1]"]);
    let happenings = world.happenings(a);
    let [WorldEvent::Fired { reason, .. }, WorldEvent::Delivered { message, .. }] =
        happenings.as_slice()
    else {
        panic!("{happenings:?}")
    };
    assert_eq!((text(reason), text(message)), (r#"["stop"]"#.into(), r#"["barrier"]"#.into()));
}

#[test]
fn a_monitor_of_a_lost_node_connects_again() {
    let (mut world, _, slaves) = family(2);
    let port = world.open_port(slaves[1]);
    for _ in 0..3 {
        let monitored = monitor(&mut world, slaves[0], &port);
        world.send(slaves[0], &port, &packed(&("hello",)));
        world.run_for(ms(500));
        assert_eq!(messages(&mut world, slaves[1]), [r#"["hello"]"#]);
        // The next one is dialled at once only if this one has lasted.
        world.run_for(secs(5));
        world.cut(slaves[0], slaves[1]);
        world.run_for(ms(100));
        let fired = fired(&mut world, slaves[0]);
        assert_eq!(fired.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [monitored]);
    }
}

#[test]
fn names_of_ports_are_never_used_again_and_need_no_escape() {
    let mut world = World::calm();
    let host = world.add(aemp_sim::Spec::new("n"));
    let mut names = std::collections::HashSet::new();
    for _ in 0..1_000 {
        let port = world.open_port(host);
        let name: Str = port.port().to_owned();
        assert!(name.as_ref().data().iter().all(u8::is_ascii_alphanumeric), "{name}");
        assert!(names.insert(name));
        kill(&mut world, host, &port, &Packed::default());
    }
    assert_eq!(world.node(host).kernel().port_count(), 0);
}
