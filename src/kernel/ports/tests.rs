//! The ports alone: who is told of which death, and in which order.

use super::*;

fn node(id: &str) -> NodeId {
    NodeId::new(id).unwrap()
}

fn ports() -> (Ports, Random) {
    let mut random = Random::new([1; 32]);
    (Ports::new(node("own"), &mut random), random)
}

fn reason(text: &str) -> Reason {
    Packed::of(&(text,)).unwrap()
}

/// The outputs of the ports as text.
fn outputs(ports: &mut Ports) -> Vec<String> {
    let word = |output| match output {
        PortsOutput::Send { to, packet } => format!("{to} gets {packet}"),
        PortsOutput::SendMessage { to, message } => format!("{to} gets {message}"),
        PortsOutput::Connect(node) => format!("connect {node}"),
        PortsOutput::Fire { monitor, reason } => format!("monitor {} {reason}", monitor.0),
        PortsOutput::Closed { port, reason } => format!("{port} closed {reason}"),
        PortsOutput::LossTold(node) => format!("loss of {node} told"),
        PortsOutput::Unnoticed { .. } => "unnoticed".to_owned(),
    };
    ports.take_outputs().into_iter().map(word).collect()
}

fn port(node: &str, name: &str) -> PortId {
    PortId::new(&self::node(node), name)
}

#[test]
fn peers_and_monitors_are_told_of_a_death_once() {
    let (mut ports, mut random) = ports();
    let name = ports.open(&mut random);
    ports.monitored_by(&name, &node("peer"));
    ports.monitored_by(&name, &node("gone"));
    ports.unmonitored_by(&name, &node("gone"));
    ports.monitor(&PortId::new(&node("own"), &name), OnDeath::Host);
    assert_eq!(outputs(&mut ports), [""; 0]);
    for _ in 0..2 {
        ports.kill(name.clone(), reason("why"));
    }
    let told = [
        format!(r#"{name} closed ["why"]"#),
        format!(r#"peer gets ["", "kil0", "{name}", "why"]"#),
        r#"monitor 1 ["why"]"#.to_owned(),
    ];
    assert_eq!(outputs(&mut ports), told);
    assert_eq!((ports.len(), ports.monitors(), ports.nodes().count()), (0, 0, 0));
}

#[test]
fn linked_ports_die_of_the_same_reason_unless_the_port_ended_normally() {
    for (killed, dead) in [(reason("why"), 3), (Reason::default(), 1)] {
        let (mut ports, mut random) = ports();
        let [first, second, third] = [(); 3].map(|()| ports.open(&mut random));
        ports.monitor(&PortId::new(&node("own"), &first), OnDeath::Link(second.clone()));
        ports.monitor(&PortId::new(&node("own"), &second), OnDeath::Link(third.clone()));
        ports.kill(first, killed);
        assert_eq!(ports.len(), 3 - dead);
    }
}

#[test]
fn whoever_monitors_what_is_not_there_is_told_so() {
    let (mut ports, _) = ports();
    ports.monitored_by(&Str::text("x"), &node("peer"));
    ports.monitor(&port("own", "x"), OnDeath::Host);
    let absent = r#""no_such_port", "cannot monitor nonexistent port", "own#x"]"#;
    let told = [format!(r#"peer gets ["", "kil0", "x", {absent}"#), format!("monitor 1 [{absent}")];
    assert_eq!(outputs(&mut ports), told);
}

#[test]
fn a_spawner_learns_why_its_port_is_not_there_and_others_do_not() {
    let (mut ports, _) = ports();
    let name = Str::text("x");
    assert!(ports.spawned(name.clone(), &node("spawner")));
    assert!(!ports.spawned(name.clone(), &node("other")), "the name is taken");
    ports.kill(name.clone(), reason("why"));
    ports.take_outputs();
    ports.monitored_by(&name, &node("other"));
    ports.monitored_by(&name, &node("spawner"));
    let told = outputs(&mut ports);
    assert!(told[0].contains("no_such_port"), "{told:?}");
    assert_eq!(told[1], r#"spawner gets ["", "kil0", "x", "why"]"#);
}

#[test]
fn one_request_serves_all_monitors_of_a_remote_port() {
    let (mut ports, _) = ports();
    let ids = [(); 2].map(|()| ports.monitor(&port("peer", "x"), OnDeath::Host));
    assert_eq!(outputs(&mut ports), [r#"peer gets ["", "mon1", "x"]"#]);
    ports.unmonitor(ids[0]);
    assert_eq!(outputs(&mut ports), [""; 0]);
    ports.unmonitor(ids[1]);
    assert_eq!(outputs(&mut ports), [r#"peer gets ["", "mon0", "x"]"#]);
    assert_eq!(ports.nodes().count(), 0);
    ports.remote_died(&node("peer"), &Str::text("x"), &reason("why"));
    assert_eq!(outputs(&mut ports), [""; 0]);
}

#[test]
fn all_that_happens_here_because_of_a_lost_node_comes_before_messages_that_may_go_to_it() {
    let (mut ports, mut random) = ports();
    let linked = ports.open(&mut random);
    ports.monitored_by(&linked, &node("peer"));
    let elements = Packed::of(&("lost",)).unwrap();
    let to = port("peer", "y");
    ports.monitor(&port("peer", "x"), OnDeath::Message { to, elements });
    ports.monitor(&port("peer", "x"), OnDeath::Link(linked.clone()));
    ports.monitor(&port("peer", ""), OnDeath::Host);
    let asked = [r#"peer gets ["", "mon1", "x"]"#, "connect peer"];
    assert_eq!(outputs(&mut ports), asked);
    ports.node_lost(&node("peer"), &reason("gone"));
    let told = [
        r#"monitor 3 ["gone"]"#.to_owned(),
        "unnoticed".to_owned(),
        format!(r#"{linked} closed ["gone"]"#),
        "loss of peer told".to_owned(),
        r#"peer#y gets ["lost", "gone"]"#.to_owned(),
    ];
    assert_eq!(outputs(&mut ports), told, "and the lost peer is told of nothing");
}

#[test]
fn the_reasons_of_failed_spawns_take_no_more_than_the_limit_and_the_latest_remain() {
    let (mut ports, _) = ports();
    ports.set_limit(100_000);
    let name = |number: usize| Str::text(&format!("{number}{}", "x".repeat(10_000)));
    for number in 0..1000 {
        ports.spawn_failed(&node("peer"), name(number), reason("why"));
        ports.spawn_failed(&node("other"), name(number), reason("why"));
        assert!(ports.octets_for_peers() <= 200_000);
    }
    ports.monitored_by(&name(999), &node("peer"));
    ports.monitored_by(&name(1), &node("peer"));
    let told = outputs(&mut ports);
    assert!(told[0].ends_with(r#""why"]"#));
    assert!(told[1].contains("no_such_port"));
    for _ in 0..1000 {
        ports.spawn_failed(&node("peer"), name(0), reason("why"));
    }
    for lost in ["peer", "other"] {
        ports.node_lost(&node(lost), &reason("gone"));
    }
    assert_eq!(ports.octets_for_peers(), 0);
}
