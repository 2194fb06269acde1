//! Limits of what a peer can make this node keep, and the handling of what exceeds them.

use super::*;
use crate::kernel::large::tests::{Host, node};
use crate::kernel::{Effect, Kernel, Now};
use crate::value::Packed;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

const LIMIT: usize = 100_000;

fn host() -> Host {
    let mut host = Host::new();
    host.kernel.set_limits(PeerLimits { table: LIMIT, database: LIMIT });
    host
}

fn packet(request: &impl Serialize) -> Packed {
    Packed::of(request).unwrap()
}

#[test]
fn subscriptions_take_no_more_than_the_limit_and_one_that_ends_makes_room() {
    let mut host = host();
    host.whole("peer", &packet(&("g_slave", BTreeMap::<u8, u8>::new())));
    let name = |number: u32| format!("{number}{}", "x".repeat(1000));
    let answered =
        |effects: &[Effect]| effects.iter().any(|effect| matches!(effect, Effect::Send { .. }));
    let mut subscribed = 0;
    for number in 0..1000 {
        let effects = host.whole("peer", &packet(&("g_mon1", name(number))));
        subscribed += u32::from(answered(&effects));
        assert!(host.kernel.octets_for_peers() <= LIMIT);
    }
    assert!((50..100).contains(&subscribed), "{subscribed}");
    assert_eq!(host.kernel.refused_for_limits(), u64::from(1000 - subscribed));
    assert!(answered(&host.whole("peer", &packet(&("g_mon1", name(0))))), "it has that one");
    assert!(answered(&host.whole("watcher", &packet(&("g_mon1", name(999))))), "others may");
    host.whole("peer", &packet(&("g_mon0", name(0))));
    assert!(answered(&host.whole("peer", &packet(&("g_mon1", name(999))))));
    host.lose("peer");
    host.lose("watcher");
    assert_eq!(host.kernel.octets_for_peers(), 0);
}

#[test]
fn relayed_messages_wait_for_nodes_that_are_looked_for_up_to_the_limit_and_no_longer_than_the_search()
 {
    let mut host = host();
    let places: BTreeMap<String, [&str; 1]> =
        (0..1000).map(|number| (format!("sought{number}"), ["127.0.0.1:1"])).collect();
    host.in_pieces("peer", &packet(&("g_slave", BTreeMap::from([("'l", places)]))));
    let text = "x".repeat(1000);
    let sent = |effects: &[Effect]| {
        effects.iter().filter(|effect| matches!(effect, Effect::Send { .. })).count()
    };
    let mut waiting = 0;
    for number in 0..1000 {
        let relay = packet(&("snd", format!("sought{number}#port"), text.as_str()));
        // Small and large messages, relayed once more or not.
        let relay = match number % 3 {
            0 => relay,
            1 => packet(&("snd", "own", "snd", format!("sought{number}#port"), text.as_str())),
            _ => {
                let message = host.in_pieces("peer", &relay);
                let delivers = |effect: &Effect| matches!(effect, Effect::Deliver { .. });
                waiting += message.iter().filter(|effect| delivers(effect)).count();
                continue;
            }
        };
        waiting += sent(&host.whole("peer", &relay));
        assert!(host.kernel.octets_for_peers() <= LIMIT);
    }
    assert!((30..100).contains(&waiting), "{waiting}");
    let to_connected = packet(&("snd", "watcher#port", text.as_str()));
    assert_eq!(sent(&host.whole("peer", &to_connected)), 1, "that one does not wait");
    let own = packet(&("snd", "sought999#port", text.as_str()));
    assert_eq!(sent(&host.whole("own", &own)), 1, "nor is what the program sends limited");
    let dials = |effects: Vec<Effect>| {
        let dials = effects.into_iter().filter_map(|effect| match effect {
            Effect::Dial { conn, .. } => Some(conn),
            _ => None,
        });
        dials.collect::<Vec<_>>()
    };
    // No node answers.
    for second in 1..100 {
        let uptime = Duration::from_secs(second);
        host.kernel.set_now(Now { uptime, wall: 0.0 });
        for conn in dials(host.input(Kernel::tick)) {
            host.input(|kernel| kernel.closed(conn, "refused"));
        }
    }
    assert_eq!(host.kernel.octets_for_peers(), 0);
}

#[test]
fn entries_of_a_peer_take_no_more_than_the_limit_and_deletions_make_room() {
    let mut host = host();
    host.whole("peer", &packet(&("g_slave", BTreeMap::<u8, u8>::new())));
    let one = |key: u32, octets: usize| {
        packet(&("g_upd", "family", BTreeMap::from([(format!("k{key}"), "x".repeat(octets))])))
    };
    let owned = |host: &Host| {
        let merge = host.kernel.database().global().unwrap().merge();
        (merge.owned(&node("peer")), merge.octets_of(&node("peer")))
    };
    for octets in [10, 1000, 3000] {
        for key in 0..1000 {
            host.whole("peer", &one(key, octets));
            assert!(owned(&host).1 <= LIMIT + 4000);
        }
        assert!(owned(&host).1 > LIMIT, "all that fits is taken");
    }
    assert!(host.kernel.refused_for_limits() > 0);
    let (keys, octets) = owned(&host);
    let set: BTreeMap<String, &str> = (2000..4000).map(|key| (format!("k{key}"), "x")).collect();
    let delete: Vec<String> = (0..1000).map(|key| format!("k{key}")).collect();
    host.whole("peer", &packet(&("g_upd", "family", set, delete)));
    assert!(keys > 0 && octets > 0);
    assert_eq!(owned(&host), (0, 0), "nothing was set, and all that was there deleted");
    host.whole("peer", &one(1, 1000));
    assert_eq!(owned(&host).0, 1);
    host.lose("peer");
    let of_peer =
        |host: &Host| host.kernel.database().global().unwrap().merge().owned(&node("peer"));
    assert_eq!(of_peer(&host), 0);
}

#[test]
fn a_node_with_any_number_of_addresses_is_dialled_at_a_steady_pace() {
    let mut host = Host::new();
    let addresses: Vec<String> = (0..20_000).map(|port| format!("127.0.0.1:{port}")).collect();
    let places = BTreeMap::from([("'l", BTreeMap::from([("sought", addresses)]))]);
    host.in_pieces("peer", &packet(&("g_slave", places)));
    let mut effects = host.whole("peer", &packet(&("snd", "sought#port", "text")));
    let (mut dials, mut time) = (0, Duration::ZERO);
    loop {
        let dialled: Vec<_> = effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Dial { conn, .. } => Some(*conn),
                _ => None,
            })
            .collect();
        dials += dialled.len();
        effects = dialled
            .iter()
            .flat_map(|conn| host.input(|kernel| kernel.closed(*conn, "refused")))
            .collect();
        if !effects.is_empty() {
            continue;
        }
        match host.kernel.next_tick() {
            Some(at) if at < Duration::from_secs(60) => {
                time = time.max(at);
                host.kernel.set_now(Now { uptime: time, wall: 0.0 });
                effects = host.input(Kernel::tick);
            }
            _ => break,
        }
    }
    assert!((32..100).contains(&dials), "{dials}");
}
