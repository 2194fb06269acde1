//! Perl slaves that lose their master, and how kernels heal them.
#![allow(clippy::unwrap_used)]

mod support;

use aemp::kernel::db::Datum;
use aemp::value::Str;
use aemp_sim::{HostId, Spec, World};
use support::*;

/// Two seeds, and a Perl slave with an entry.
fn network(perl_seeds: bool) -> (World, [HostId; 2], HostId) {
    let mut world = World::calm();
    let seeds = ["s:1", "t:1"];
    let [s, t] = ["s", "t"].map(|name| {
        let spec = Spec::new(name).seeds(seeds);
        world.add(if perl_seeds { spec.perl() } else { spec })
    });
    let p = world.add(Spec::new("p").seeds(seeds).perl());
    world.run_for(secs(20));
    let (family, key) = (Str::from("fam"), Str::from("k"));
    world.perl_database(p, |db, now| db.set(&family, key, Datum::int(1), now).unwrap());
    world.run_for(secs(1));
    assert!(has_entry(&world, s) && has_entry(&world, t));
    (world, [s, t], p)
}

fn has_entry(world: &World, host: HostId) -> bool {
    let global = world.database(host).unwrap().global().unwrap();
    global.merge().get(&Str::from("fam"), &Str::from("k")).is_some()
}

/// The seed that is the slave's master, then the other one.
fn master_first(world: &World, seeds: [HostId; 2], slave: HostId) -> [HostId; 2] {
    let master = world.perl(slave).unwrap().master().unwrap();
    let [s, t] = seeds;
    if world.spec(s).node == *master { [s, t] } else { [t, s] }
}

#[test]
fn the_model_of_a_perl_slave_survives_one_change_of_master_and_no_more() {
    let (mut world, seeds, p) = network(true);
    let [first, second] = master_first(&world, seeds, p);
    world.kill(first);
    world.run_for(secs(2));
    assert!(has_entry(&world, second), "the first change works");
    world.start(first);
    world.run_for(secs(20));
    assert!(has_entry(&world, first));
    world.kill(second);
    world.run_for(secs(300));
    assert!(!has_entry(&world, first), "the second one does not");
    world.start(second);
    world.run_for(secs(300));
    assert!(!has_entry(&world, first), "not even when the master comes back");
}

#[test]
fn a_perl_slave_that_lost_its_master_for_good_is_healed() {
    let (mut world, seeds, p) = network(false);
    let [first, second] = master_first(&world, seeds, p);
    world.kill(first);
    world.run_for(secs(2));
    world.start(first);
    world.run_for(secs(20));
    assert_eq!(world.perl(p).unwrap().adopted(), 0, "never as a precaution");
    let mut down = second;
    let mut up = first;
    for _ in 0..4 {
        world.kill(down);
        world.run_for(secs(8));
        assert!(has_entry(&world, up), "healed");
        world.start(down);
        world.run_for(secs(30));
        assert!(has_entry(&world, down));
        (down, up) = (up, down);
    }
    assert_eq!(world.perl(p).unwrap().adopted(), 4, "once for each loss");
}

#[test]
fn three_perl_seeds_are_replaced_one_after_another_and_every_slave_is_kept() {
    let mut world = World::new(7, aemp_sim::NetworkConditions::CALM);
    let addresses = ["s:1", "t:1", "u:1"];
    let seeds = ["s", "t", "u"].map(|name| world.add(Spec::new(name).seeds(addresses).perl()));
    world.run_for(secs(10));
    let slaves: Vec<_> = ["a", "b", "c", "d", "e"]
        .map(|name| world.add(Spec::new(name).seeds(addresses).perl()))
        .to_vec();
    world.run_for(secs(20));
    for &slave in &slaves {
        let key = Str::from(world.spec(slave).node.to_string());
        world.perl_database(slave, |db, now| {
            db.set(&Str::from("workers"), key, Datum::UNDEF, now).unwrap();
        });
    }
    world.run_for(secs(1));
    for seed in seeds {
        world.kill(seed);
        world.spec_mut(seed).perl = false;
        world.run_for(secs(3));
        world.start(seed);
        world.run_for(secs(10));
        for other in seeds {
            if let Some(global) = world.database(other).and_then(|database| database.global())
                && !world.spec(other).perl
            {
                let workers = global.merge().family_len(&Str::from("workers"));
                assert_eq!(workers, 5, "at {:?}", world.spec(other).node);
            }
        }
        world.run_for(secs(30));
    }
}

#[test]
fn a_slave_that_does_not_answer_is_asked_no_more() {
    let (mut world, seeds, p) = network(false);
    world.spec_mut(p).secure = true;
    world.kill(p);
    world.start(p);
    world.run_for(secs(20));
    let [first, second] = master_first(&world, seeds, p);
    world.kill(first);
    world.run_for(secs(2));
    world.start(first);
    world.run_for(secs(20));
    world.kill(second);
    world.run_for(secs(300));
    let refusals = world
        .happenings(first)
        .iter()
        .filter(|happening| format!("{happening:?}").contains("answers no questions"))
        .count();
    assert_eq!(refusals, 1);
}

#[test]
fn a_slave_that_changed_its_master_while_connected_to_both_is_kept_by_the_new_one_only() {
    let (mut world, seeds, p) = network(false);
    let [first, second] = master_first(&world, seeds, p);
    let new_master = world.spec(second).node.to_string();
    let request = packed(&("AnyEvent::MP::Kernel::master_set", new_master));
    world.kernel(second, |kernel| kernel.send_request(&id("p"), request.as_elements()));
    world.run_for(secs(2));
    let is_slave = |host| {
        let global = world.node(host).kernel().database().global();
        global.is_some_and(|global| global.is_slave(&id("p")))
    };
    assert!(is_slave(second) && !is_slave(first));
    assert!(has_entry(&world, first) && has_entry(&world, second));
}

#[test]
fn healing_can_be_switched_off() {
    let (mut world, seeds, p) = network(false);
    let [first, second] = master_first(&world, seeds, p);
    for seed in seeds {
        world.spec_mut(seed).heal = false;
    }
    world.kill(first);
    world.run_for(secs(2));
    world.start(first);
    world.run_for(secs(20));
    world.kill(second);
    world.run_for(secs(300));
    assert_eq!(world.perl(p).unwrap().adopted(), 0);
    assert!(!world.node(first).kernel().database().global().unwrap().is_slave(&id("p")));
}

#[test]
fn a_slave_of_a_global_that_we_do_not_see_is_left_alone() {
    let mut world = World::calm();
    let t = world.add(Spec::new("t").seeds(["t:1"]).perl());
    let p = world.add(Spec::new("p").seeds(["t:1", "s:1"]).perl());
    world.run_for(secs(20));
    // It is connected to both, but they do not know of each other.
    let s = world.place(Spec::new("s").seeds(["s:1"]));
    world.block(s, t);
    world.start(s);
    world.run_for(secs(200));
    assert!(is_up(&world, s, "p"));
    assert!(world.node(s).kernel().database().location(&id("p")).is_none());
    assert_eq!(world.perl(p).unwrap().adopted(), 0);
    assert_eq!(world.perl(p).unwrap().master(), Some(&id("t")));
}

#[test]
fn a_slave_whose_master_has_not_told_of_it_yet_is_left_alone() {
    let mut world = World::calm();
    let seeds = ["s:1", "t:1"];
    let globals = ["s", "t"].map(|name| world.add(Spec::new(name).seeds(seeds)));
    world.run_for(secs(5));
    world.block(globals[0], globals[1]);
    let p = world.add(Spec::new("p").seeds(seeds).perl());
    world.run_for(secs(12));
    let [master, other] = master_first(&world, globals, p);
    let asked = world
        .happenings(other)
        .iter()
        .any(|happening| format!("{happening:?}").contains("p says that its master is"));
    assert!(asked && is_up(&world, other, "p"), "it looks like an orphan there");
    world.unblock(master, other);
    world.run_for(secs(30));
    assert!(world.node(other).kernel().database().location(&id("p")).is_some());
    assert_eq!(world.perl(p).unwrap().adopted(), 0);
}
