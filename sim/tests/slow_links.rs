//! Connections on which octets go slowly, while another connection claims to be of the same node.
#![allow(clippy::unwrap_used)]

mod support;

use aemp::value::Packed;
use aemp_sim::{Happening, HostId, Spec, Weather, World};
use support::*;

const SLOW: Weather = Weather { octets_per_second: Some(20_000), ..Weather::CALM };

/// A seed `s` and a node `a` that has sent it as much as the link takes in 30 seconds.
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
        Happening::NodeDown(node, reason) => Some(format!("{node} {reason}")),
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
