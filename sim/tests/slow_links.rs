//! Slow connections, while another connection claims to be the same node.
#![allow(clippy::unwrap_used)]

mod support;

use aemp::kernel::db::{Datum, DbResult, QueryKind};
use aemp::lane::LaneLimits;
use aemp::value::{Packed, Str};
use aemp_sim::{HostId, NetworkConditions, Spec, World, WorldEvent};
use std::collections::BTreeMap;
use support::*;

const SLOW: NetworkConditions =
    NetworkConditions { octets_per_second: Some(20_000), ..NetworkConditions::CALM };

/// A seed `s` and a node `a` that has sent it as much as the link carries in 30 seconds.
fn busy() -> (World, HostId, HostId) {
    let mut world = World::new(1, SLOW);
    let seed = world.add(Spec::new("s").seeds(["s:1"]));
    let node = world.add(Spec::new("a").seeds(["s:1"]));
    world.run_for(secs(5));
    let port = world.open_port(seed);
    let message = Packed::of(&("x".repeat(2_000),)).unwrap();
    for _ in 0..300 {
        world.send(node, &port, &message);
    }
    for host in [seed, node] {
        world.happenings(host);
    }
    world.run_for(secs(1));
    (world, seed, node)
}

/// The nodes whose connections were lost.
fn lost(world: &mut World, host: HostId) -> Vec<String> {
    let lost = world.happenings(host).into_iter().filter_map(|happening| match happening {
        WorldEvent::NodeDown(node, reason) => Some(format!("{node} {reason}")),
        _ => None,
    });
    lost.collect()
}

#[test]
fn a_node_to_which_much_is_under_way_is_not_lost_to_another_connection_with_it() {
    let (mut world, seed, node) = busy();
    world.redirect("also:1", Some(seed));
    world.kernel(node, |kernel| kernel.set_seeds(&["s:1".into(), "also:1".into()]));
    world.run_for(secs(60));
    for host in [seed, node] {
        assert_eq!(lost(&mut world, host), Vec::<String>::new());
    }
    assert_eq!(world.links_between(seed, node).len(), 1);
}

#[test]
fn a_node_that_takes_nothing_more_is_lost_to_a_new_connection_of_it_in_bounded_time() {
    let (mut world, seed, node) = busy();
    world.pause(seed, secs(600));
    let mut elsewhere = Spec::new("s").seeds(["a:1"]);
    elsewhere.addresses = vec!["elsewhere:1".into()];
    world.add(elsewhere);
    world.run_for(secs(10));
    assert_eq!(lost(&mut world, node).len(), 1);
    assert!(is_up(&world, node, "s"));
}

/// A node whose lanes hold little.
fn with_short_lanes(name: &str) -> Spec {
    Spec { limits: LaneLimits { soft: 64 << 10, hard: 256 << 10 }, ..Spec::new(name) }
}

#[test]
fn a_key_that_changes_faster_than_the_link_is_waits_once_and_arrives_with_its_newest_value() {
    let changes = 20_000;
    let mut world = World::new(1, SLOW);
    let seeds = ["s:1", "g:1"];
    let seed = world.add(with_short_lanes("s").seeds(seeds));
    let other = world.add(Spec::new("g").seeds(seeds));
    let slave = world.add(Spec::new("a").seeds(["s:1"]));
    world.run_for(secs(10));
    let family = Str::from("family");
    world.kernel(slave, |kernel| kernel.monitor_family(&family));
    world.run_for(secs(5));
    world.happenings(slave);
    let before = world.traffic().clone();
    let set = |world: &mut World, key: &str, value: i64| {
        let key = Str::from(key);
        world.kernel(seed, |kernel| kernel.set(&family, key, Datum::int(value)).unwrap());
    };
    for number in 0..changes {
        set(&mut world, "key", number);
        set(&mut world, "gone", number);
    }
    world.kernel(seed, |kernel| kernel.delete(&family, ["gone".into()]).unwrap());
    for node in ["a", "g"].map(id) {
        let held = world.database(seed).unwrap().held(&node);
        assert_eq!(held, 2, "a change of each key waits");
        let waiting = world.node(seed).lane(&node).unwrap().waiting();
        assert!(waiting <= (64 << 10) / 8 + 100, "{waiting}");
    }
    world.run_for(secs(30));
    let mut seen = BTreeMap::new();
    for happening in world.happenings(slave) {
        if let WorldEvent::Changed { changes, .. } = happening {
            let set = changes.added.iter().chain(&changes.changed);
            seen.extend(set.map(|(key, value)| (key.to_string(), value.clone())));
            changes.deleted.iter().for_each(|key| drop(seen.remove(&key.to_string())));
        }
    }
    let newest = Datum::int(changes - 1);
    assert_eq!(seen, BTreeMap::from([("key".to_owned(), newest.clone())]));
    let global = world.database(other).unwrap().global().unwrap();
    let merged: Vec<_> = global.merge().family(&family).collect();
    assert_eq!(merged, [(&Str::from("key"), &newest)]);
    let traffic = world.traffic().since(&before);
    for kind in ["g_chg2", "g_upd"] {
        assert!(traffic.packets[kind] < 1_000, "{traffic:?}");
    }
    let database = world.database(seed).unwrap();
    assert_eq!(["a", "g"].map(|node| database.held(&id(node))), [0, 0]);
}

#[test]
fn what_a_slave_changes_faster_than_the_link_is_waits_once_and_is_known_to_its_master_when_it_asks()
{
    let changes = 20_000;
    let mut world = World::new(1, SLOW);
    let seed = world.add(Spec::new("s").seeds(["s:1"]));
    let slave = world.add(with_short_lanes("a").seeds(["s:1"]));
    world.run_for(secs(10));
    assert_eq!(world.node(slave).kernel().master(), Some(&id("s")));
    let before = world.traffic().clone();
    let family = Str::from("family");
    let set = |world: &mut World, key: &str, value: i64| {
        let key = Str::from(key);
        world.kernel(slave, |kernel| kernel.set(&family, key, Datum::int(value)).unwrap());
    };
    for number in 0..changes {
        set(&mut world, "key", number);
        set(&mut world, "gone", number);
        let waiting = world.node(slave).lane(&id("s")).unwrap().waiting();
        assert!(waiting <= (64 << 10) / 8 + 100, "{waiting}");
    }
    assert_eq!(world.database(slave).unwrap().held(&id("s")), 2, "a change of each key waits");
    world.happenings(slave);
    world.kernel(slave, |kernel| kernel.query(QueryKind::Family, &family));
    set(&mut world, "key", changes);
    world.kernel(slave, |kernel| kernel.delete(&family, ["gone".into()]).unwrap());
    world.run_for(secs(30));
    let answers = world.happenings(slave).into_iter().filter_map(|happening| match happening {
        WorldEvent::Answered { answer, .. } => Some(answer.unwrap()),
        _ => None,
    });
    let newest = Datum::int(changes - 1);
    let asked = ["gone", "key"].map(|key| (Str::from(key), newest.clone()));
    assert_eq!(answers.collect::<Vec<_>>(), [DbResult::Family(asked.into_iter().collect())]);
    let global = world.database(seed).unwrap().global().unwrap();
    let merged: Vec<_> = global.merge().family(&family).collect();
    assert_eq!(merged, [(&Str::from("key"), &Datum::int(changes))]);
    let traffic = world.traffic().since(&before);
    assert!(traffic.packets["g_upd"] < 1_000, "{traffic:?}");
    assert_eq!(world.database(slave).unwrap().held(&id("s")), 0);
}
