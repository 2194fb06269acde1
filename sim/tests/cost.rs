//! The number of packets of a join, a change and a loss, as `docs/scaling.md` states for large
//! networks.
#![allow(clippy::unwrap_used)]

mod support;

use aemp::kernel::db::Datum;
use aemp::value::Str;
use aemp_sim::{HostId, Spec, Traffic, World};
use support::*;

const GLOBALS: u64 = 5;

fn global_nodes() -> World {
    let mut world = World::calm();
    let addresses: Vec<String> = (0..GLOBALS).map(|global| format!("g{global}:1")).collect();
    for global in 0..GLOBALS {
        let seeds = addresses.iter().map(String::as_str);
        world.add(Spec::new(&format!("g{global}")).seeds(seeds));
    }
    world.run_for(secs(60));
    world
}

fn slave(world: &mut World, name: &str) -> HostId {
    let slave = world.add(Spec::new(name).seeds(["g0:1", "g1:1"]));
    world.run_for(secs(5));
    slave
}

/// The packets that `act` makes the nodes of a world send.
fn sent(world: &mut World, act: impl FnOnce(&mut World)) -> Traffic {
    let before = world.traffic().clone();
    act(world);
    world.run_for(secs(5));
    world.traffic().since(&before)
}

fn set(world: &mut World, slave: HostId) {
    let (family, key) = (Str::from("family"), Str::from("key"));
    world.kernel(slave, |kernel| kernel.set(&family, key, Datum::int(1)).unwrap());
}

#[test]
fn a_join_takes_five_packets_and_one_for_each_other_global_node() {
    let mut world = global_nodes();
    let traffic = sent(&mut world, |world| {
        slave(world, "a");
    });
    assert_eq!(traffic.packets["g_upd"], GLOBALS - 1);
    assert_eq!(traffic.packets["g_slave"], 3, "one asks each seed to be global");
    assert_eq!(traffic.packets["g_global"], 2);
    assert_eq!(traffic.packets(), GLOBALS + 4);
}

#[test]
fn a_change_takes_one_packet_for_each_global_node_and_one_for_each_subscriber() {
    let mut world = global_nodes();
    let slaves = ["a", "b", "c"].map(|name| slave(&mut world, name));
    let traffic = sent(&mut world, |world| set(world, slaves[0]));
    assert_eq!((traffic.packets(), traffic.packets["g_upd"]), (GLOBALS, GLOBALS));
    for slave in slaves {
        world.kernel(slave, |kernel| kernel.monitor_family(&Str::from("family")));
    }
    world.run_for(secs(1));
    let traffic = sent(&mut world, |world| set(world, slaves[2]));
    assert_eq!((traffic.packets["g_upd"], traffic.packets["g_chg2"]), (GLOBALS, 3));
}

#[test]
fn a_loss_takes_one_packet_for_each_family_and_other_global_node() {
    let mut world = global_nodes();
    let slave = slave(&mut world, "a");
    world.run_for(secs(1));
    let traffic = sent(&mut world, |world| world.kill(slave));
    assert_eq!((traffic.packets(), traffic.packets["g_upd"]), (GLOBALS - 1, GLOBALS - 1));
}

/// Each slave sends its database to its new master, which tells the other global nodes once for each
/// family, however many slaves came.
#[test]
fn the_loss_of_a_global_node_takes_one_packet_for_each_slave_besides_its_subscriptions() {
    let mut world = global_nodes();
    let slaves: Vec<HostId> =
        (0..20).map(|slave| self::slave(&mut world, &format!("w{slave}"))).collect();
    for (number, &slave) in slaves.iter().enumerate() {
        assert_eq!(world.node(slave).kernel().master(), Some(&id("g0")));
        world.kernel(slave, |kernel| {
            let key = Str::from(format!("key{number}"));
            kernel.set(&Str::from("family"), key, Datum::int(1)).unwrap();
            kernel.monitor_family(&Str::from("family"));
        });
    }
    world.run_for(secs(5));
    let traffic = sent(&mut world, |world| world.kill(HostId(0)));
    assert_eq!(traffic.packets["g_slave"], 20);
    assert_eq!((traffic.packets["g_mon1"], traffic.packets["g_chg1"]), (20, 20));
    // Each global node deletes two entries of its own about the lost one.
    let of_globals = 2 * (GLOBALS - 1) * (GLOBALS - 2);
    assert_eq!(traffic.packets["g_upd"], of_globals + 2 * (GLOBALS - 2), "{traffic:?}");
    assert_eq!(traffic.packets.get("g_chg2"), None, "no value has changed: {traffic:?}");
}

#[test]
fn a_network_at_rest_sends_nothing() {
    let mut world = global_nodes();
    slave(&mut world, "a");
    world.run_for(secs(60));
    let traffic = sent(&mut world, |world| world.run_for(secs(3_600)));
    assert_eq!(traffic, Traffic::default());
}

#[test]
fn one_key_of_a_large_family_costs_what_its_value_has() {
    let mut world = global_nodes();
    let asking = slave(&mut world, "a");
    let owner = slave(&mut world, "b");
    for number in 0..1_000 {
        let (family, key) = (Str::from("family"), Str::from(format!("key{number}")));
        world.kernel(owner, |kernel| kernel.set(&family, key, Datum::int(number)).unwrap());
    }
    world.run_for(secs(5));
    let traffic = sent(&mut world, |world| {
        world.kernel(asking, |kernel| kernel.get(&"family".into(), &"key7".into()));
    });
    assert_eq!(traffic.packets["g_get"], 1);
    assert_eq!(traffic.packets["g_reply"], 1);
    assert!(traffic.octets <= 200, "{traffic:?}");
    let own = Str::from(id("a"));
    let traffic = sent(&mut world, |world| {
        world.kernel(asking, |kernel| kernel.get(&"'l".into(), &own));
    });
    assert_eq!((traffic.packets["g_find"], traffic.packets["g_found"]), (1, 1));
    assert!(traffic.octets <= 200, "{traffic:?}");
}
