//! The effects and their order do not depend on when the host takes them.

use super::db::{Datum, QueryKind};
use super::effect::Builder;
use super::{Authenticated, Effect, Kernel, KernelConfig, Now, OnDeath, PeerGreeting};
use crate::value::{NodeId, Packed, PortId, Str};
use std::time::Duration;

fn node(id: &str) -> NodeId {
    NodeId::new(id).unwrap()
}

fn kernel() -> Kernel {
    let config = KernelConfig {
        addresses: vec!["own:4040".into()],
        seeds: vec!["seed:4040".into()],
        heal: true,
        ..KernelConfig::repeatable(node("own"))
    };
    Kernel::new(config, Now::default())
}

type Input = Box<dyn FnMut(&mut Kernel)>;

fn connect(id: &'static str) -> Input {
    Box::new(move |kernel| {
        let conn = kernel.accepted();
        kernel.greeted(conn, PeerGreeting::new(node(id), Str::default()));
        kernel.established(conn, &Authenticated { untrusted: false });
    })
}

/// A request of a peer, its elements as JSON.
fn request(from: &'static str, elements: &'static str) -> Input {
    Box::new(move |kernel| {
        let elements: serde_json::Value = serde_json::from_str(elements).unwrap();
        let packed = Packed::of(&elements).unwrap();
        kernel.node_packet(&node(from), packed.as_elements());
    })
}

/// Inputs whose consequences pass through several machines: each depends on what the one before it has
/// made the database do, or a packet of this node to itself.
fn inputs() -> Vec<Input> {
    let mut after = 0;
    let mut wait = move |seconds: u64| -> Input {
        after += seconds;
        Box::new(move |kernel| {
            kernel.set_now(Now { uptime: Duration::from_secs(after), wall: 0.0 });
            kernel.tick();
        })
    };
    let own_port = PortId::new(&node("own"), "gone");
    vec![
        Box::new(Kernel::become_global),
        connect("a"),
        connect("b"),
        request("b", r#"["g_global"]"#),
        request("a", r#"["g_slave", {"'l": {"a": ["a:1"]}, "fam": {"k": 1}}]"#),
        request("b", r#"["g_set", {"'l": {"b": ["b:1"], "far": ["far:1"]}, "fam": {"k": 2}}]"#),
        Box::new(|kernel| {
            kernel.monitor_family(&"fam".into());
        }),
        Box::new(|kernel| kernel.set(&"fam".into(), "mine".into(), Datum::int(3)).unwrap()),
        // This node sends itself a request that changes the database.
        request("a", r#"["can", "g_upd", "own", "g_upd", "fam", {"relayed": 4}, []]"#),
        request("a", r#"["g_upd", "fam", {"k": 5}]"#),
        Box::new(move |kernel| {
            let elements = Builder::new().name("snd").name("a#port").build();
            let to = PortId::new(&node("own"), "");
            let on_death = OnDeath::Message { to, elements };
            kernel.monitor(&own_port, on_death);
        }),
        // The database finds the node, so that the mesh dials it.
        Box::new(|kernel| kernel.want_connection(&node("far"))),
        Box::new(|kernel| {
            kernel.query(QueryKind::Keys, &"fam".into());
        }),
        wait(1),
        Box::new(|kernel| kernel.disconnect(&node("b"), "test")),
        Box::new(|kernel| {
            kernel.get(&"fam".into(), &"k".into());
        }),
        wait(40),
    ]
}

fn show(effects: &[Effect]) -> Vec<String> {
    effects.iter().map(|effect| format!("{effect:?}")).collect()
}

#[test]
fn effects_that_are_taken_late_are_those_that_would_have_been_taken_at_once() {
    let mut at_once = kernel();
    let mut effects = at_once.take_effects();
    for mut input in inputs() {
        input(&mut at_once);
        let new = at_once.take_effects();
        assert!(
            !new.is_empty(),
            "every input does something; not the one after {:?}",
            effects.last()
        );
        effects.extend(new);
    }
    let mut late = kernel();
    inputs().iter_mut().for_each(|input| input(&mut late));
    assert_eq!(show(&late.take_effects()), show(&effects));
}

#[test]
fn what_waits_for_room_comes_before_a_relayed_message() {
    let mut kernel = kernel();
    kernel.become_global();
    for mut input in [
        connect("a"),
        connect("w"),
        request("a", r#"["g_slave", {}]"#),
        request("w", r#"["g_slave", {}]"#),
        request("w", r#"["g_mon1", "fam"]"#),
    ] {
        input(&mut kernel);
    }
    kernel.take_effects();
    kernel.has_no_room(&node("w"));
    request("a", r#"["g_upd", "fam", {"k": 1}]"#)(&mut kernel);
    let waits = kernel.take_effects();
    assert!(matches!(waits[..], [Effect::AwaitRoom { .. }]), "{waits:?}");
    request("a", r#"["snd", "w#port", "x"]"#)(&mut kernel);
    let sent = sent(&mut kernel);
    assert_eq!(sent, [r#"w: ["", "g_chg2", "fam", {"k": 1}, []]"#, r#"w: ["port", "x"]"#]);
}

#[test]
fn what_waits_for_room_at_the_master_comes_before_a_relayed_message() {
    let mut kernel = kernel();
    kernel.tick();
    let dialled = kernel.take_effects().into_iter().find_map(|effect| match effect {
        Effect::Dial { conn, .. } => Some(conn),
        _ => None,
    });
    let conn = dialled.unwrap();
    kernel.greeted(conn, PeerGreeting::new(node("seed"), Str::default()));
    kernel.established(conn, &Authenticated { untrusted: false });
    assert_eq!(kernel.master(), Some(&node("seed")));
    kernel.take_effects();
    kernel.has_no_room(&node("seed"));
    kernel.set(&"fam".into(), "k".into(), Datum::int(1)).unwrap();
    let waits = kernel.take_effects();
    assert!(matches!(waits[..], [Effect::AwaitRoom { .. }]), "{waits:?}");
    request("seed", r#"["snd", "seed#port", "x"]"#)(&mut kernel);
    let sent = sent(&mut kernel);
    assert_eq!(sent, [r#"seed: ["", "g_upd", "fam", {"k": 1}]"#, r#"seed: ["port", "x"]"#]);
}

/// The packets that a kernel sends, with nothing else among its effects.
fn sent(kernel: &mut Kernel) -> Vec<String> {
    let sent = kernel.take_effects().into_iter().map(|effect| match effect {
        Effect::Send { to, packet } => format!("{to}: {packet}"),
        other => panic!("{other:?}"),
    });
    sent.collect()
}
