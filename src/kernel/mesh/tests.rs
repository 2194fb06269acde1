//! The mesh alone: which connections it makes, keeps and gives up.

use super::*;
use crate::kernel::random::Random;

pub(super) const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) fn node(id: &str) -> NodeId {
    NodeId::new(id).unwrap()
}

/// A mesh of node `m` with timeouts of 30 seconds for nodes and 2 for connections.
pub(super) fn mesh(seeds: &[&str]) -> Mesh {
    Mesh::new(&KernelConfig {
        seeds: seeds.iter().map(|seed| Str::text(seed)).collect(),
        heal: true,
        entropy: [1; 32],
        ..KernelConfig::repeatable(node("m"))
    })
}

/// A connection is accepted, whose greeting claims to be from this node, of this implementation.
fn claim(mesh: &mut Mesh, id: &str, now: Duration) -> ConnId {
    let conn = mesh.accepted();
    let greeting = PeerGreeting::new(node(id), Str::text("aemp-0.1"));
    mesh.greeted(conn, greeting, now);
    conn
}

pub(super) fn establish(mesh: &mut Mesh, conn: ConnId, now: Duration) {
    mesh.established(conn, &Authenticated { untrusted: false }, now);
}

/// The outputs of the mesh as text, without timers and log lines.
pub(super) fn outputs(mesh: &mut Mesh) -> Vec<MeshOutput> {
    let unimportant =
        |output: &MeshOutput| matches!(output, MeshOutput::Wake { .. } | MeshOutput::Log { .. });
    mesh.take_outputs().into_iter().filter(|output| !unimportant(output)).collect()
}

pub(super) fn proceeds(outputs: &[MeshOutput]) -> Vec<(ConnId, AuthOrder)> {
    let proceed = |output: &MeshOutput| match output {
        MeshOutput::Proceed { conn, order } => Some((*conn, *order)),
        _ => None,
    };
    outputs.iter().filter_map(proceed).collect()
}

pub(super) fn up(mesh: &mut Mesh, id: &str) -> ConnId {
    let conn = claim(mesh, id, seconds(0));
    establish(mesh, conn, seconds(0));
    mesh.take_outputs();
    assert!(mesh.is_up(&node(id)));
    conn
}

#[test]
fn of_two_connections_the_smaller_node_id_authenticates_one_and_the_other_side_answers_on_both() {
    let mut small = mesh(&[]);
    let (first, _second) = (claim(&mut small, "z", seconds(0)), claim(&mut small, "z", seconds(0)));
    assert_eq!(proceeds(&outputs(&mut small)), [(first, AuthOrder::Now)]);
    let mut great = mesh(&[]);
    let both = [claim(&mut great, "a", seconds(0)), claim(&mut great, "a", seconds(0))];
    assert_eq!(proceeds(&outputs(&mut great)), both.map(|conn| (conn, AuthOrder::AfterPeer)));
}

#[test]
fn the_next_connection_goes_on_once_the_first_had_its_time_or_ended() {
    let mut mesh = mesh(&[]);
    let [first, second, third] = [(); 3].map(|()| claim(&mut mesh, "z", seconds(0)));
    mesh.take_outputs();
    mesh.timer(&MeshTimer::Arbitrate(node("z")), seconds(1));
    assert_eq!(outputs(&mut mesh), []);
    mesh.timer(&MeshTimer::Arbitrate(node("z")), seconds(2));
    assert_eq!(proceeds(&outputs(&mut mesh)), [(second, AuthOrder::Now)]);
    mesh.closed(second, "reset", seconds(2));
    assert_eq!(proceeds(&outputs(&mut mesh)), [(third, AuthOrder::Now)]);
    establish(&mut mesh, first, seconds(3));
    let outputs = outputs(&mut mesh);
    let [MeshOutput::Close { conn, .. }, MeshOutput::Up { conn: winner, .. }] = &outputs[..] else {
        panic!("{outputs:?}");
    };
    assert_eq!((*conn, *winner), (third, first));
}

#[test]
fn a_second_connection_waits_for_a_probe_of_the_first_and_takes_over_only_if_nothing_answers() {
    let mut mesh = mesh(&[]);
    let old = up(&mut mesh, "z");
    let second = claim(&mut mesh, "z", seconds(10));
    let [MeshOutput::Probe { number, .. }] = outputs(&mut mesh)[..] else { panic!("no probe") };
    mesh.probe_answered(&node("z"), number, seconds(11));
    // The node that dialled may want to know where the address leads.
    assert_eq!(proceeds(&outputs(&mut mesh)), [(second, AuthOrder::Now)]);
    mesh.timer(&MeshTimer::Arbitrate(node("z")), seconds(13));
    let refused = outputs(&mut mesh);
    assert!(matches!(refused[..], [MeshOutput::Close { conn, .. }] if conn == second));

    let third = claim(&mut mesh, "z", seconds(20));
    let [MeshOutput::Probe { number, .. }] = outputs(&mut mesh)[..] else { panic!("no probe") };
    for quarter in 0..=8 {
        silent(&mut mesh, old, number, seconds(20) + seconds(1) / 4 * quarter);
    }
    assert_eq!(proceeds(&outputs(&mut mesh)), [(third, AuthOrder::Now)]);
    assert!(mesh.is_up(&node("z")), "who claims to be the node may be anybody");
    establish(&mut mesh, third, seconds(23));
    let [MeshOutput::Close { .. }, MeshOutput::Down { .. }] = outputs(&mut mesh)[..] else {
        panic!("the old connection is not lost");
    };
    assert!(!mesh.is_up(&node("z")), "the new one waits until everybody was told");
    mesh.loss_was_told(&node("z"), seconds(23), &mut Random::new([1; 32]));
    assert!(matches!(outputs(&mut mesh)[..], [MeshOutput::Up { conn, .. }] if conn == third));
}

#[test]
fn addresses_are_dialled_one_after_another_until_the_node_is_given_up() {
    let mut mesh = mesh(&[]);
    mesh.want_connection(&node("z"), seconds(0));
    mesh.want_connection(&node("z"), seconds(0));
    assert_eq!(outputs(&mut mesh), [MeshOutput::Find(node("z"))], "one search at a time");
    let addresses = ["one:1", "two:1"].map(Str::text);
    mesh.addresses_found(&node("z"), Some(addresses.to_vec()), seconds(0));
    let mut dialled = Vec::new();
    for time in 0..=30 {
        for output in outputs(&mut mesh) {
            match output {
                MeshOutput::Dial { address, .. } => dialled.push((time, address)),
                MeshOutput::GaveUp { node: given_up, .. } => {
                    assert_eq!((time, given_up), (31, node("z")));
                }
                _ => {}
            }
        }
        mesh.timer(&MeshTimer::AdvanceAttempt(node("z")), seconds(time));
    }
    assert_eq!(dialled, [(0, Str::text("one:1")), (3, Str::text("two:1"))]);
    mesh.timer(&MeshTimer::GiveUp(node("z")), seconds(30));
    let ended = outputs(&mut mesh);
    assert!(matches!(ended.last(), Some(MeshOutput::GaveUp { .. })), "{ended:?}");
    assert_eq!(mesh.nodes().count(), 0, "nothing is kept of it");
}

#[test]
fn a_node_that_nobody_knows_is_given_up_at_once_unless_it_greets() {
    let mut mesh = mesh(&[]);
    mesh.want_connection(&node("z"), seconds(0));
    mesh.addresses_found(&node("z"), None, seconds(0));
    assert!(matches!(outputs(&mut mesh).last(), Some(MeshOutput::GaveUp { .. })));
    claim(&mut mesh, "y", seconds(0));
    mesh.want_connection(&node("y"), seconds(0));
    mesh.addresses_found(&node("y"), None, seconds(0));
    assert!(!outputs(&mut mesh).iter().any(|output| matches!(output, MeshOutput::GaveUp { .. })));
}

#[test]
fn strangers_that_claim_to_be_a_node_put_its_addresses_off_once_and_not_for_long() {
    let mut mesh = mesh(&[]);
    mesh.want_connection(&node("z"), seconds(0));
    claim(&mut mesh, "z", seconds(0));
    mesh.addresses_found(&node("z"), Some(vec![Str::text("z:1")]), seconds(0));
    let is_dialled =
        |mesh: &mut Mesh| outputs(mesh).iter().any(|out| matches!(out, MeshOutput::Dial { .. }));
    assert!(!is_dialled(&mut mesh), "it may be the node itself");
    claim(&mut mesh, "z", seconds(1));
    mesh.timer(&MeshTimer::AdvanceAttempt(node("z")), seconds(2));
    assert!(is_dialled(&mut mesh));
}

/// The connection of a probed node is checked, and no octets were transferred.
fn silent(mesh: &mut Mesh, conn: ConnId, number: u64, now: Duration) {
    let pulse = Pulse { received: 7, acknowledged: 70, probe_arrived: true };
    mesh.pulse(conn, number, pulse, now);
}

/// A node that another connection claims to be, and the number of its probe.
fn probed(mesh: &mut Mesh) -> (ConnId, ConnId, u64) {
    let old = up(mesh, "z");
    let new = claim(mesh, "z", seconds(10));
    let [MeshOutput::Probe { conn, number, .. }] = outputs(mesh)[..] else { panic!("no probe") };
    assert_eq!(conn, old);
    (old, new, number)
}

#[test]
fn any_octet_that_comes_after_the_question_is_an_answer() {
    let mut mesh = mesh(&[]);
    let (old, new, number) = probed(&mut mesh);
    let pulse = Pulse { received: 7, acknowledged: 70, probe_arrived: false };
    mesh.pulse(old, number, pulse, seconds(10));
    assert_eq!(outputs(&mut mesh), []);
    mesh.pulse(old, number, Pulse { received: 8, ..pulse }, seconds(11));
    // The peer may want to know where this address leads; it gets no second connection.
    assert_eq!(proceeds(&outputs(&mut mesh)), [(new, AuthOrder::Now)]);
    establish(&mut mesh, new, seconds(11));
    let outputs = outputs(&mut mesh);
    assert!(matches!(outputs[..], [MeshOutput::Close { conn, .. }] if conn == new), "{outputs:?}");
}

#[test]
fn while_octets_arrive_at_the_node_the_question_has_not_been_asked_yet() {
    let mut mesh = mesh(&[]);
    let (old, new, number) = probed(&mut mesh);
    let mut pulse = Pulse { received: 7, acknowledged: 70, probe_arrived: false };
    for second in 10..100 {
        pulse.acknowledged += 1000;
        mesh.pulse(old, number, pulse, seconds(second));
    }
    assert_eq!(outputs(&mut mesh), [], "much is under way to a node that takes it");
    pulse = Pulse { acknowledged: pulse.acknowledged + 1, probe_arrived: true, ..pulse };
    mesh.pulse(old, number, pulse, seconds(100));
    // Octets that are acknowledged later were sent after the probe.
    pulse.acknowledged += 1000;
    mesh.pulse(old, number, pulse, seconds(101));
    assert_eq!(outputs(&mut mesh), []);
    mesh.pulse(old, number, pulse, seconds(102));
    assert_eq!(proceeds(&outputs(&mut mesh)), [(new, AuthOrder::Now)]);
}

#[test]
fn a_connection_that_takes_nothing_more_is_given_up_though_the_question_never_arrives() {
    let mut mesh = mesh(&[]);
    let (old, new, number) = probed(&mut mesh);
    let pulse = Pulse { received: 7, acknowledged: 70, probe_arrived: false };
    for second in [10, 11, 12] {
        mesh.pulse(old, number, pulse, seconds(second));
    }
    assert_eq!(proceeds(&outputs(&mut mesh)), [(new, AuthOrder::Now)]);
}

#[test]
fn who_connects_again_and_again_in_the_name_of_a_node_that_is_up_is_logged_with_its_id() {
    let mut mesh = mesh(&[]);
    up(&mut mesh, "z");
    let mut logged = Vec::new();
    for count in 1..=16 {
        claim(&mut mesh, "z", seconds(count));
        let outputs = mesh.take_outputs();
        let probe = outputs.iter().find_map(|output| match output {
            MeshOutput::Probe { number, .. } => Some(*number),
            _ => None,
        });
        mesh.probe_answered(&node("z"), probe.unwrap(), seconds(count));
        let warns = |output: &MeshOutput| matches!(output, MeshOutput::Log { level: Level::Warn, line: MeshLine::Refused(of, _) } if *of == node("z"));
        if mesh.take_outputs().iter().any(warns) {
            logged.push(count);
        }
    }
    // Once or twice it may be the node itself, by several of our addresses.
    assert_eq!(logged, [3, 8, 16]);
}

#[test]
fn a_connection_of_the_same_run_is_shown_our_line_and_one_of_another_run_is_not() {
    for (instance, shown) in [("1", true), ("2", false), ("", false)] {
        let mut mesh = mesh(&[]);
        let greeting = |instance: &str| PeerGreeting {
            instance: Str::text(instance),
            ..PeerGreeting::new(node("z"), Str::text("aemp-0.1"))
        };
        let first = mesh.accepted();
        mesh.greeted(first, greeting("1"), seconds(0));
        establish(&mut mesh, first, seconds(0));
        mesh.take_outputs();
        let second = mesh.accepted();
        mesh.greeted(second, greeting(instance), seconds(10));
        let [MeshOutput::Probe { number, .. }] = outputs(&mut mesh)[..] else { panic!("no probe") };
        mesh.probe_answered(&node("z"), number, seconds(10));
        let outputs = outputs(&mut mesh);
        assert_eq!(!proceeds(&outputs).is_empty(), shown, "{outputs:?}");
        let closes = matches!(outputs[..], [MeshOutput::Close { conn, .. }] if conn == second);
        assert_eq!(closes, !shown, "{outputs:?}");
    }
}

/// The times at which a global node that is kept connected is dialled, if each of its connections lasts
/// this long.
fn sought(lasting: Duration) -> Vec<Duration> {
    let mut mesh = mesh(&[]);
    let random = &mut Random::new([1; 32]);
    let (mut timers, mut sought) = (std::collections::BTreeSet::new(), Vec::new());
    mesh.keep_alive(node("z"), seconds(0), random);
    let mut now = Duration::ZERO;
    while now < seconds(300) {
        let mut outputs = std::collections::VecDeque::from(mesh.take_outputs());
        while let Some(output) = outputs.pop_front() {
            match output {
                MeshOutput::Wake { at, timer } => {
                    timers.insert((at, timer));
                }
                MeshOutput::Find(node) => {
                    mesh.addresses_found(&node, Some(vec![Str::text("z:1")]), now);
                }
                MeshOutput::Dial { conn, .. } => {
                    sought.push(now);
                    mesh.greeted(conn, PeerGreeting::new(node("z"), Str::text("AE-2.02")), now);
                    establish(&mut mesh, conn, now);
                    now += lasting;
                    mesh.closed(conn, "reset", now);
                }
                MeshOutput::Down { node, .. } => mesh.loss_was_told(&node, now, random),
                _ => {}
            }
            outputs.extend(mesh.take_outputs());
        }
        if let Some((at, timer)) = timers.pop_first() {
            now = now.max(at);
            mesh.timer(&timer, now);
        }
    }
    sought
}

#[test]
fn a_connection_that_does_not_last_is_no_success_that_makes_pauses_short_again() {
    let pauses = |lasting: Duration| -> Vec<f64> {
        let sought = sought(lasting);
        sought.windows(2).map(|two| (two[1] - two[0] - lasting).as_secs_f64()).collect()
    };
    let short = pauses(seconds(1));
    assert!(short[0] < 0.1 && short[1] >= 0.6, "the first one may be chance: {short:?}");
    let is_doubled = |two: &[f64]| two[1] == 15.0 || (two[1] - 2.0 * two[0]).abs() < 0.01;
    assert!(short[1..].windows(2).all(is_doubled) && short.last() == Some(&15.0), "{short:?}");
    let long = pauses(seconds(5));
    assert!(long.iter().all(|pause| *pause < 0.1), "{long:?}");
}

/// The number of greeted connections examined while this many strangers connect, greet as `id`, stay for
/// the time of a handshake, and leave.
fn looks(id: &str, is_up: bool, strangers: u64) -> u64 {
    let mut mesh = mesh(&["seed:1"]);
    if is_up {
        up(&mut mesh, id);
    }
    let mut timers = std::collections::BTreeSet::new();
    let mut all = std::collections::VecDeque::new();
    for number in 0..strangers {
        let now = Duration::from_millis(number);
        all.push_back((now, claim(&mut mesh, id, now)));
        let mut outputs = std::collections::VecDeque::from(mesh.take_outputs());
        while let Some(output) = outputs.pop_front() {
            match output {
                MeshOutput::Wake { at, timer } => {
                    timers.insert((at, timer));
                }
                // Its answer arrives a second later, among other packets.
                MeshOutput::Probe { node, number, .. } if now > seconds(1) => {
                    mesh.probe_answered(&node, number, now);
                }
                MeshOutput::Close { conn, .. } => mesh.closed(conn, "closed", now),
                _ => {}
            }
            outputs.extend(mesh.take_outputs());
        }
        while timers.first().is_some_and(|(at, _)| *at <= now) {
            let (at, timer) = timers.pop_first().unwrap();
            mesh.timer(&timer, at.max(now));
        }
        while all.front().is_some_and(|(since, _)| *since + seconds(30) < now) {
            let (_, conn) = all.pop_front().unwrap();
            mesh.closed(conn, "the handshake took too long", now);
        }
    }
    all.into_iter().for_each(|(_, conn)| mesh.closed(conn, "gone", seconds(100)));
    assert_eq!(mesh.connections(), usize::from(is_up));
    mesh.looked_at
}

#[test]
fn what_a_stranger_that_claims_to_be_a_node_costs_does_not_grow_with_their_number() {
    // An ID smaller than that of the mesh, and a greater one.
    for id in ["a", "z"] {
        for is_up in [true, false] {
            let looked_at = looks(id, is_up, 40_000);
            assert!(looked_at <= 4 * 40_000, "{id} {is_up}: {looked_at} for 40,000");
        }
    }
}

#[test]
fn of_connections_that_come_with_our_own_id_each_is_found_by_what_was_sent_on_it() {
    let mut mesh = mesh(&[]);
    let conns: Vec<ConnId> = (0..1000).map(|_| mesh.accepted()).collect();
    for (number, conn) in conns.iter().enumerate() {
        mesh.greeting_sent(*conn, number.to_string().as_bytes());
    }
    for (number, conn) in conns.iter().enumerate() {
        let greeting = (number + 1).to_string();
        // Both were accepted: a peer that sends the greeting of another connection is not this node.
        assert_eq!(mesh.greeted_with_own_id(*conn, greeting.as_bytes(), seconds(0)), None);
        mesh.closed(*conn, "refused", seconds(0));
    }
    assert!(mesh.by_own_greeting.is_empty() && mesh.conns.is_empty());
}

#[test]
fn a_doubt_ends_with_the_last_connection_that_claims_to_be_the_node() {
    let mut mesh = mesh(&[]);
    let (old, new, number) = probed(&mut mesh);
    let pulse = Pulse { received: 7, acknowledged: 70, probe_arrived: true };
    for second in [10, 12] {
        mesh.pulse(old, number, pulse, seconds(second));
    }
    assert!(mesh.is_in_doubt(&node("z")));
    mesh.closed(new, "it went away", seconds(12));
    mesh.timer(&MeshTimer::LookAtProbed(node("z"), number), seconds(13));
    mesh.pulse(old, number, pulse, seconds(13));
    assert!(!mesh.is_in_doubt(&node("z")));
    // A later claim to be the node starts a new probe.
    outputs(&mut mesh);
    claim(&mut mesh, "z", seconds(20));
    let outputs = outputs(&mut mesh);
    assert!(matches!(outputs[..], [MeshOutput::Probe { conn, .. }] if conn == old), "{outputs:?}");
}

#[test]
fn octets_that_come_while_a_connection_is_in_doubt_end_the_doubt() {
    let mut mesh = mesh(&[]);
    let (old, new, number) = probed(&mut mesh);
    let pulse = Pulse { received: 7, acknowledged: 70, probe_arrived: true };
    for second in [10, 12] {
        mesh.pulse(old, number, pulse, seconds(second));
    }
    assert_eq!(proceeds(&outputs(&mut mesh)), [(new, AuthOrder::Now)]);
    mesh.timer(&MeshTimer::LookAtProbed(node("z"), number), seconds(13));
    assert!(matches!(outputs(&mut mesh)[..], [MeshOutput::Look { .. }]));
    mesh.pulse(old, number, Pulse { received: 8, ..pulse }, seconds(13));
    establish(&mut mesh, new, seconds(14));
    let outputs = outputs(&mut mesh);
    assert!(matches!(outputs[..], [MeshOutput::Close { conn, .. }] if conn == new), "{outputs:?}");
    assert!(mesh.is_up(&node("z")));
}
