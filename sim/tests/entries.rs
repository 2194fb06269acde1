//! Which losses delete database entries, and when monitors report that.
#![allow(clippy::unwrap_used)]

mod support;

use aemp::kernel::db::Datum;
use aemp::value::Str;
use aemp_sim::{HostId, Spec, World, WorldEvent};
use support::*;

const SEEDS: [&str; 3] = ["s:1", "t:1", "u:1"];

/// Three seeds and three slaves. Each slave has a different master, knows all seeds and sets its
/// own key.
fn network() -> (World, Vec<HostId>, Vec<HostId>) {
    let mut world = World::calm();
    let seeds: Vec<_> =
        ["s", "t", "u"].iter().map(|name| world.add(Spec::new(name).seeds(SEEDS))).collect();
    world.run_for(secs(3));
    let slaves: Vec<_> = ["a", "b", "c"]
        .iter()
        .zip(SEEDS)
        .map(|(name, seed)| world.add(Spec::new(name).seeds([seed])))
        .collect();
    world.run_for(secs(3));
    for (index, &slave) in slaves.iter().enumerate() {
        world.kernel(slave, |kernel| {
            kernel.set_seeds(&SEEDS.map(Str::from));
            kernel.set(&"f".into(), format!("k{index}").into(), Datum::int(1)).unwrap();
            kernel.monitor_family(&"f".into());
        });
    }
    for &seed in &seeds {
        world.kernel(seed, |kernel| kernel.monitor_family(&"f".into()));
    }
    world.run_for(secs(10));
    for (&slave, seed) in slaves.iter().zip(["s", "t", "u"]) {
        assert_eq!(world.node(slave).kernel().master(), Some(&id(seed)));
        assert_eq!(deleted(&mut world, slave), [""; 0]);
    }
    seeds.iter().for_each(|&seed| drop(world.happenings(seed)));
    (world, seeds, slaves)
}

/// The keys that monitors on a node have reported as deleted since the last look.
fn deleted(world: &mut World, host: HostId) -> Vec<String> {
    let happenings = world.happenings(host).into_iter();
    let changes = happenings.filter_map(|happening| match happening {
        WorldEvent::Changed { changes, .. } => Some(changes.deleted),
        _ => None,
    });
    changes.flatten().map(|key| key.to_string()).collect()
}

#[test]
fn no_monitor_reports_a_live_nodes_key_deleted_whichever_seed_is_killed() {
    let (mut world, seeds, slaves) = network();
    for &seed in &seeds {
        world.kill(seed);
        world.run_for(secs(5));
        world.start(seed);
        world.run_for(secs(20));
        for host in world.hosts() {
            assert_eq!(deleted(&mut world, host), [""; 0], "{host:?} after the loss of {seed:?}");
        }
    }
    assert_eq!(slaves.len(), 3);
}

#[test]
fn a_slave_that_dies_together_with_its_master_is_reported_once_the_others_have_come() {
    let (mut world, seeds, slaves) = network();
    world.kill(seeds[0]);
    world.kill(slaves[0]);
    world.run_for(secs(4));
    for host in [seeds[1], seeds[2], slaves[1], slaves[2]] {
        assert_eq!(deleted(&mut world, host), ["k0"]);
    }
}

#[test]
fn a_slave_that_dies_is_reported_at_once() {
    let (mut world, seeds, slaves) = network();
    world.kill(slaves[0]);
    world.run_for(ms(10));
    for host in [seeds[0], seeds[1], seeds[2], slaves[1], slaves[2]] {
        assert_eq!(deleted(&mut world, host), ["k0"]);
    }
}

/// Both sides keep the entries of the other side's slaves for the grace, and learn of them again
/// afterwards.
#[test]
fn a_split_network_reports_the_other_side_after_the_grace_and_converges_when_it_is_mended() {
    let (mut world, seeds, slaves) = network();
    let sides = [[seeds[0], slaves[0]], [seeds[1], slaves[1]]];
    for a in sides[0] {
        for b in world.hosts().filter(|host| !sides[0].contains(host)).collect::<Vec<_>>() {
            world.block(a, b);
        }
    }
    // Keepalive takes 60 s.
    world.run_for(secs(100));
    let mut seen: Vec<Vec<String>> =
        slaves.iter().map(|&slave| deleted(&mut world, slave)).collect();
    seen[0].sort();
    assert_eq!(seen, [vec!["k1", "k2"], vec!["k0"], vec!["k0"]]);
    seeds.iter().for_each(|&seed| drop(world.happenings(seed)));
    world.unblock_all();
    world.run_for(secs(60));
    for &seed in &seeds {
        let global = world.node(seed).kernel().database().global().unwrap();
        assert_eq!(global.merge().family_len(&"f".into()), 3);
    }
    world.hosts().for_each(|host| assert_eq!(deleted(&mut world, host), [""; 0]));
}
