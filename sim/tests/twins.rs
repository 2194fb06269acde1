//! Two live nodes with one ID, and peers that close connections as soon as they are established: the
//! network does not notice, and the pauses between dials increase.
#![allow(clippy::unwrap_used)]

mod support;

use aemp::kernel::Level;
use aemp::value::{NodeId, Str};
use aemp_sim::{HostId, Spec, StrangerBehaviour, World, WorldEvent};
use support::*;

/// How often the nodes at these places saw the node go up and down.
fn comings_and_goings(world: &mut World, hosts: &[HostId], node: &NodeId) -> (usize, usize) {
    let (mut ups, mut downs) = (0, 0);
    for &host in hosts {
        for happening in world.happenings(host) {
            match happening {
                WorldEvent::NodeUp(other) => ups += usize::from(other == *node),
                WorldEvent::NodeDown(other, _) => downs += usize::from(other == *node),
                _ => {}
            }
        }
    }
    (ups, downs)
}

/// The number of dials when the last pauses have reached their maximum.
const RARELY: std::ops::RangeInclusive<usize> = 35..=60;

#[test]
fn of_two_live_nodes_with_one_id_the_second_one_never_comes_up_and_nobody_notices_it() {
    // Between two nodes of ours, the side with the smaller ID decides about connections.
    for twin in ["a", "z"] {
        for (first_is_perl, seed_is_perl) in [(false, false), (true, false), (false, true)] {
            let case = format!("{twin} {first_is_perl} {seed_is_perl}");
            let mut world = World::calm();
            let perl = |spec: Spec, perl| if perl { spec.perl() } else { spec };
            let seed = world.add(perl(Spec::new("m").seeds(["m:1"]), seed_is_perl));
            let watcher = world.add(Spec::new("watcher").seeds(["m:1"]));
            world.add(perl(Spec::new(twin).seeds(["m:1"]), first_is_perl));
            world.run_for(secs(10));
            world.kernel(watcher, |kernel| kernel.want_connection(&id(twin)));
            world.run_for(secs(10));
            comings_and_goings(&mut world, &[seed, watcher], &id(twin));
            let mut second = Spec::new(twin).seeds(["m:1"]);
            second.addresses = vec![Str::from("elsewhere:1")];
            let second = world.add(second);
            world.run_for(secs(1000));
            let seen = comings_and_goings(&mut world, &[seed, watcher], &id(twin));
            assert_eq!(seen, (0, 0), "{case}");
            let happenings = world.happenings(second);
            let up = happenings.iter().any(|seen| matches!(seen, WorldEvent::NodeUp(_)));
            assert!(!up, "{case}");
            let dials =
                happenings.iter().filter(|seen| matches!(seen, WorldEvent::Dialled { .. })).count();
            assert!(RARELY.contains(&dials), "{case}: {dials} dials");
            let warnings = happenings.iter().filter(|seen| {
                matches!(seen, WorldEvent::Log { level: Level::Warn, text } if text.contains("m:1"))
            });
            // At once, and after pauses that double from one minute on.
            assert_eq!(warnings.count(), 5, "{case}");
        }
    }
}

#[test]
fn a_second_node_with_the_id_of_a_node_that_crashes_takes_its_place() {
    let mut world = World::calm();
    let seed = world.add(Spec::new("m").seeds(["m:1"]));
    let first = world.add(Spec::new("z").seeds(["m:1"]));
    world.run_for(secs(10));
    let mut second = Spec::new("z").seeds(["m:1"]);
    second.addresses = vec![Str::from("elsewhere:1")];
    let second = world.add(second);
    world.run_for(secs(100));
    assert!(!is_up(&world, second, "m"));
    world.vanish(first);
    world.run_for(secs(40));
    assert!(is_up(&world, second, "m") && is_up(&world, seed, "z"));
}

#[test]
fn a_twin_that_knows_the_secret_is_never_let_in_while_the_node_answers() {
    for twin in ["a", "z"] {
        for provider in ["aemp-0.1", "AE-2.02"] {
            let mut world = World::calm();
            let seed = world.add(Spec::new("m").seeds(["m:1"]));
            world.add(Spec::new(twin).seeds(["m:1"]));
            let (node, provider) = (id(twin), Str::from(provider));
            let stranger = world.add_stranger(StrangerBehaviour::Twin { node, provider });
            world.run_for(secs(10));
            comings_and_goings(&mut world, &[seed], &id(twin));
            for _ in 0..50 {
                world.stranger_dials(stranger, "m:1");
                world.run_for(ms(700));
            }
            assert_eq!(world.taken_for_a_node(stranger), 0);
            assert_eq!(comings_and_goings(&mut world, &[seed], &id(twin)), (0, 0));
        }
    }
}

#[test]
fn a_peer_that_closes_each_connection_at_once_is_dialled_ever_more_rarely() {
    // As a seed, and as a node to which a program sends again whenever it is lost.
    for is_seed in [true, false] {
        let mut world = World::calm();
        world.add(Spec::new("s").seeds(["s:1"]));
        let node = world.add(Spec::new("m").seeds([if is_seed { "flaps:1" } else { "s:1" }]));
        // Others know its address, but another node answers there.
        world.add(Spec::new("flaps").seeds(["s:1"]));
        let manner = StrangerBehaviour::Twin { node: id("flaps"), provider: Str::from("aemp-0.1") };
        let stranger = world.add_stranger(manner);
        world.hijack("flaps:1", Some(stranger));
        for _ in 0..10_000 {
            if !is_seed {
                world.kernel(node, |kernel| kernel.want_connection(&id("flaps")));
            }
            world.run_for(ms(100));
        }
        let taken = world.taken_for_a_node(stranger);
        assert!((60..=90).contains(&taken), "{taken} connections in 1000 s");
        let warned = world.happenings(node).into_iter().filter(|seen| {
            matches!(seen, WorldEvent::Log { level: Level::Warn, text } if text.contains("in a row"))
        });
        // The 3rd, 8th, 16th, 32nd and 64th.
        assert_eq!(warned.count(), 5);
    }
}
