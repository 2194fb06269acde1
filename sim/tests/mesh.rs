//! How kernels find each other, connect, stay connected and give up.
#![allow(clippy::unwrap_used)]

mod support;

use aemp::value::{PortId, Str};
use aemp_sim::{Spec, StrangerBehaviour, World, WorldEvent};
use support::*;

#[test]
fn a_slave_joins_by_its_seed_and_adopts_it() {
    let (world, seed, slaves) = family(1);
    assert!(world.node(seed).kernel().is_global());
    assert!(!world.node(slaves[0]).kernel().is_global());
    assert_eq!(world.node(slaves[0]).kernel().master(), Some(&id("s")));
    let global = world.node(seed).kernel().database().global().unwrap();
    assert!(global.is_slave(&id("a")));
    assert_eq!(global.location(&id("a")), Some(vec![Str::from("a:1")]));
}

#[test]
fn a_node_that_finds_itself_behind_a_seed_becomes_global_and_looks_again_ever_more_rarely() {
    let mut world = World::calm();
    let seed = world.add(Spec::new("s").seeds(["s:1"]));
    world.run_for(secs(1));
    let kernel = world.node(seed).kernel();
    assert!(kernel.is_global());
    assert!(kernel.seeds()[0].is_ourselves);
    world.happenings(seed);
    world.run_for(secs(1000));
    // After 30 and 60 s, and then every 120 s.
    assert_eq!(dialled(&mut world, seed).len(), 9);
    assert_eq!(world.node(seed).connections(), 0);
    assert!(world.node(seed).kernel().seeds()[0].is_ourselves);
}

#[test]
fn an_address_that_led_to_the_node_itself_may_lead_to_a_seed_later() {
    let mut world = World::calm();
    let mut spec = Spec::new("s").seeds(["moves:1"]);
    spec.addresses.push(Str::from("moves:1"));
    let first = world.add(spec);
    let second = world.add(Spec::new("t").global());
    world.run_for(secs(300));
    assert!(world.node(first).kernel().seeds()[0].is_ourselves);
    world.redirect("moves:1", Some(second));
    world.run_for(secs(130));
    let kernel = world.node(first).kernel();
    assert!(!kernel.seeds()[0].is_ourselves && kernel.is_up(&id("t")));
    assert_eq!(kernel.seeds()[0].node, Some(id("t")));
}

#[test]
fn a_node_does_not_take_an_echo_for_itself() {
    let (mut world, seed, _) = family(0);
    let a = world.place(Spec::new("a").seeds(["s:1"]));
    let stranger = world.add_stranger(StrangerBehaviour::Echoes);
    world.hijack("s:1", Some(stranger));
    world.start(a);
    world.run_for(secs(100));
    let kernel = world.node(a).kernel();
    assert!(!kernel.is_global() && !kernel.seeds()[0].is_ourselves);
    assert!(kernel.seeds()[0].last_error.as_ref().unwrap().contains("comes back"));
    world.hijack("s:1", None);
    world.run_for(secs(31));
    assert!(is_up(&world, seed, "a"));
}

#[test]
fn a_stranger_that_greets_as_a_connected_node_at_a_seeds_address_does_not_become_that_seed() {
    for (provider, perl) in [("aemp-0.1", false), ("AE-2.02", true)] {
        for closes in [true, false] {
            let mut world = World::calm();
            let s = Spec::new("s").seeds(["s:1"]);
            let s = world.add(if perl { s.perl() } else { s });
            let t = world.place(Spec::new("t").seeds(["t:1"]));
            let a = world.place(Spec::new("a").seeds(["s:1", "t:1"]));
            let (node, provider) = (id("s"), Str::from(provider));
            let instance = world.instance(s);
            let manner = StrangerBehaviour::Claims { node, provider, instance, closes };
            let stranger = world.add_stranger(manner);
            world.hijack("t:1", Some(stranger));
            world.start(t);
            world.start(a);
            world.run_for(secs(100));
            assert!(is_up(&world, a, "s"), "{perl}");
            assert_eq!(world.node(a).kernel().seeds()[1].node, None);
            world.hijack("t:1", None);
            world.run_for(secs(62));
            assert_eq!(world.node(a).kernel().seeds()[1].node, Some(id("t")));
            assert!(is_up(&world, a, "t"));
        }
    }
}

#[test]
fn two_addresses_of_one_seed_are_both_known_to_lead_there_and_dialled_no_more() {
    let mut world = World::calm();
    let mut spec = Spec::new("s").seeds(["s:1"]);
    spec.addresses.push(Str::from("also:1"));
    world.add(spec);
    let a = world.add(Spec::new("a").seeds(["s:1", "also:1"]));
    world.run_for(secs(30));
    let kernel = world.node(a).kernel();
    assert!(kernel.seeds().iter().all(|seed| seed.node == Some(id("s"))), "{:?}", kernel.seeds());
    world.happenings(a);
    world.run_for(secs(300));
    assert!(dialled(&mut world, a).is_empty());
    assert_eq!(world.node(a).connections(), 1);
}

#[test]
fn of_seeds_that_dial_each_other_each_knows_where_the_addresses_lead() {
    let mut world = World::calm();
    let addresses = ["s:1", "t:1", "u:1"];
    let seeds = ["s", "t", "u"].map(|name| world.add(Spec::new(name).seeds(addresses)));
    world.run_for(secs(10));
    for seed in seeds {
        let status = world.node(seed).kernel().seeds();
        let known = status.iter().filter(|seed| seed.is_ourselves || seed.node.is_some());
        assert_eq!(known.count(), 3, "{status:?}");
        assert_eq!(world.node(seed).connections(), 2);
    }
}

#[test]
fn a_stranger_with_our_node_id_behind_a_seed_is_no_seed_of_ours() {
    let mut world = World::calm();
    let mut stranger = Spec::new("s");
    stranger.addresses = vec![Str::from("elsewhere:1")];
    world.add(stranger);
    let node = world.add(Spec::new("s").seeds(["elsewhere:1"]));
    world.run_for(secs(10));
    let kernel = world.node(node).kernel();
    assert!(!kernel.is_global());
    assert!(!kernel.seeds()[0].is_ourselves);
    assert!(kernel.seeds()[0].last_error.as_ref().unwrap().contains("node ID"));
    assert!(dialled(&mut world, node).len() > 2, "it is dialled again");
}

#[test]
fn a_node_is_asked_once_to_be_global_and_once_as_master() {
    let mut world = World::calm();
    let seed = world.add(Spec::new("s"));
    world.add(Spec::new("a").seeds(["s:1"]));
    world.run_for(secs(5));
    let global: Vec<_> = world
        .happenings(seed)
        .into_iter()
        .filter(
            |happening| matches!(happening, WorldEvent::Log { text, .. } if text.contains("global")),
        )
        .collect();
    assert_eq!(global.len(), 1);
    assert!(world.node(seed).kernel().is_global());
}

#[test]
fn every_seed_is_asked_to_be_global_though_one_is_the_master() {
    let mut world = World::calm();
    let seeds = ["s", "t", "u"].map(|name| world.add(Spec::new(name)));
    world.add(Spec::new("a").seeds(["s:1", "t:1", "u:1"]));
    world.run_for(secs(5));
    for seed in seeds {
        assert!(world.node(seed).kernel().is_global());
    }
}

#[test]
fn a_query_ends_when_its_master_is_lost_and_no_other_comes() {
    let (mut world, seed, slaves) = family(1);
    world.block(seed, slaves[0]);
    world.kernel(slaves[0], |kernel| {
        kernel.query(aemp::kernel::db::QueryKind::Keys, &Str::from("family"));
    });
    // The connection is given up after 30 seconds, and so is the search for a master.
    world.run_for(secs(58));
    let answered = |world: &mut World| {
        let happenings = world.happenings(slaves[0]);
        happenings.iter().filter(|it| matches!(it, WorldEvent::Answered { .. })).count()
    };
    assert_eq!(answered(&mut world), 0);
    world.run_for(secs(5));
    assert_eq!(answered(&mut world), 1);
}

#[test]
fn a_node_that_is_not_connected_is_found_by_the_master() {
    let (mut world, _, slaves) = family(2);
    let port = world.open_port(slaves[1]);
    assert!(!is_up(&world, slaves[0], "b"));
    world.send(slaves[0], &port, &packed(&("hello", 1)));
    world.send(slaves[0], &port, &packed(&("hello", 2)));
    world.run_for(secs(1));
    assert!(is_up(&world, slaves[0], "b"));
    assert_eq!(messages(&mut world, slaves[1]), [r#"["hello", 1]"#, r#"["hello", 2]"#]);
    assert_eq!(dialled(&mut world, slaves[0]), ["b:1"]);
}

#[test]
fn a_global_node_finds_others_by_itself() {
    let mut world = World::calm();
    let s = world.add(Spec::new("s").seeds(["s:1"]));
    let t = world.add(Spec::new("t").seeds(["t:1", "s:1"]));
    let b = world.add(Spec::new("b").seeds(["t:1"]));
    world.run_for(secs(5));
    let port = world.open_port(b);
    world.send(s, &port, &packed(&("hello",)));
    world.run_for(secs(1));
    assert_eq!(messages(&mut world, b), [r#"["hello"]"#]);
    assert!(world.node(t).kernel().is_global());
}

#[test]
fn a_node_that_nobody_knows_is_given_up_at_once() {
    let (mut world, _, slaves) = family(1);
    let port = PortId::new(&id("nobody"), "x");
    let monitored = monitor(&mut world, slaves[0], &port);
    world.run_for(ms(100));
    let fired = fired(&mut world, slaves[0]);
    assert_eq!(fired.len(), 1);
    assert_eq!(fired[0].0, monitored);
    assert_eq!(text(&fired[0].1), r#"["transport_error", "nobody", "no known address"]"#);
    assert!(world.node(slaves[0]).lanes().all(|(node, _)| *node == id("s")));
}

#[test]
fn addresses_are_tried_one_after_another_and_the_last_may_be_the_right_one() {
    let (mut world, _, slaves) = family(1);
    let mut spec = Spec::new("b").seeds(["s:1"]);
    spec.advertised = Some(["void:1", "refused:1", "b:1"].map(Str::from).to_vec());
    let b = world.add(spec);
    let void = world.place(Spec::new("void"));
    world.redirect("void:1", Some(void));
    world.block(slaves[0], void);
    world.run_for(secs(3));
    let port = world.open_port(b);
    let monitored = monitor(&mut world, slaves[0], &port);
    world.happenings(slaves[0]);
    world.run_for(ms(1_900));
    assert_eq!(dialled(&mut world, slaves[0]), ["void:1"]);
    assert!(!is_up(&world, slaves[0], "b"));
    world.run_for(ms(200));
    assert_eq!(dialled(&mut world, slaves[0]), ["refused:1"]);
    world.run_for(secs(2));
    assert_eq!(dialled(&mut world, slaves[0]), ["b:1"]);
    assert!(is_up(&world, slaves[0], "b"));
    world.run_for(secs(60));
    assert!(fired(&mut world, slaves[0]).is_empty(), "{monitored:?}");
    assert_eq!(world.node(slaves[0]).connections(), 2, "the dial into the void was given up");
}

#[test]
fn a_node_that_does_not_answer_is_given_up_after_the_monitor_timeout() {
    let (mut world, _, slaves) = family(2);
    world.block(slaves[0], slaves[1]);
    let port = world.open_port(slaves[1]);
    let monitored = monitor(&mut world, slaves[0], &port);
    world.run_for(secs(29));
    assert!(fired(&mut world, slaves[0]).is_empty());
    world.run_for(ms(1_100));
    let fired = fired(&mut world, slaves[0]);
    assert_eq!(fired[0].0, monitored);
    assert_eq!(text(&fired[0].1), r#"["transport_error", "b", "no connection within 30.0 s"]"#);
    world.run_for(secs(5));
    assert_eq!(world.node(slaves[0]).connections(), 1);
}

#[test]
fn seeds_that_are_down_are_dialled_at_once_and_then_at_doubling_intervals() {
    let mut world = World::calm();
    world.place(Spec::new("s"));
    let a = world.add(Spec::new("a").seeds(["s:1"]));
    let mut times = Vec::new();
    for _ in 0..1_200 {
        world.run_for(ms(100));
        if !dialled(&mut world, a).is_empty() {
            times.push(world.now());
        }
    }
    assert!(times[0] <= ms(100));
    let first = times[1] - times[0];
    assert!((ms(1_100)..ms(2_500)).contains(&first), "{first:?}");
    let gaps: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for pair in gaps.windows(2) {
        let doubled = (pair[0] * 2).min(secs(30));
        assert!(pair[1].abs_diff(doubled) <= ms(300), "{gaps:?}");
    }
}

#[test]
fn a_seed_that_is_lost_is_dialled_soon_though_another_is_down_for_long() {
    let mut world = World::calm();
    world.place(Spec::new("t"));
    let s = world.add(Spec::new("s").seeds(["s:1"]));
    let a = world.add(Spec::new("a").seeds(["s:1", "t:1"]));
    world.run_for(secs(120));
    assert!(is_up(&world, a, "s"));
    world.cut(s, a);
    world.run_for(ms(1_300));
    assert!(is_up(&world, a, "s"));
}

#[test]
fn a_seed_that_closes_at_once_is_not_dialled_in_a_loop() {
    let (mut world, s, slaves) = family(1);
    let mut dials = 0;
    for _ in 0..600 {
        world.run_for(ms(100));
        dials += dialled(&mut world, slaves[0]).len();
        if is_up(&world, slaves[0], "s") {
            world.cut(s, slaves[0]);
        }
    }
    assert!(dials <= 100, "{dials} dials in a minute");
}

#[test]
fn two_nodes_that_are_each_others_seeds_learn_that_over_one_connection() {
    let mut world = World::calm();
    let mut s = Spec::new("s").seeds(["a:1"]);
    s.addresses = vec![Str::from("s:1")];
    let s = world.add(s);
    let a = world.add(Spec::new("a").seeds(["s:1"]));
    world.run_for(secs(5));
    for host in [s, a] {
        assert_eq!(world.node(host).connections(), 1);
        assert!(world.node(host).kernel().is_global());
        assert!(world.node(host).kernel().seeds()[0].node.is_some());
    }
}

#[test]
fn global_nodes_keep_connected() {
    let mut world = World::calm();
    let hosts = ["s", "t", "u"].map(|name| world.add(Spec::new(name).global()));
    let a = world.add(Spec::new("a").seeds(["s:1", "t:1", "u:1"]));
    world.run_for(secs(5));
    for host in hosts {
        assert!(is_up(&world, a, &world.spec(host).node.to_string()));
    }
    // They are not each other's seeds, and have no other way yet to know of each other.
    assert!(!is_up(&world, hosts[0], "t"));
    world.kernel(hosts[0], |kernel| kernel.set_seeds(&[Str::from("t:1")]));
    world.kernel(hosts[1], |kernel| kernel.set_seeds(&[Str::from("u:1")]));
    world.run_for(secs(5));
    assert!(is_up(&world, hosts[0], "u"), "learnt from the one in between");
    world.cut(hosts[0], hosts[2]);
    world.run_for(secs(1));
    assert!(is_up(&world, hosts[0], "u"), "kept");
}

#[test]
fn when_the_master_is_lost_the_next_seed_is_master() {
    let mut world = World::calm();
    let s = world.add(Spec::new("s").seeds(["s:1", "t:1"]));
    let t = world.add(Spec::new("t").seeds(["s:1", "t:1"]));
    let a = world.add(Spec::new("a").seeds(["s:1", "t:1"]));
    let b = world.add(Spec::new("b").seeds(["s:1", "t:1"]));
    world.run_for(secs(5));
    let family = Str::from("fam");
    let value = aemp::kernel::db::Datum::int(5);
    world.kernel(a, |kernel| kernel.set(&family, Str::from("k"), value).unwrap());
    let first = world.node(a).kernel().master().cloned().unwrap();
    let (first, second) = if first == id("s") { (s, t) } else { (t, s) };
    world.run_for(secs(1));
    world.kill(first);
    world.run_for(secs(1));
    let second_id = world.spec(second).node.clone();
    for slave in [a, b] {
        assert_eq!(world.node(slave).kernel().master(), Some(&second_id));
    }
    let global = world.node(second).kernel().database().global().unwrap();
    assert_eq!(global.merge().family(&family).count(), 1);
    assert_eq!(global.location(&id("b")), Some(vec![Str::from("b:1")]));
    world.start(first);
    world.run_for(secs(60));
    let global = world.node(first).kernel().database().global().unwrap();
    assert_eq!(global.merge().family(&family).count(), 1);
    assert_eq!(world.node(a).kernel().master(), Some(&second_id), "no switch while it is up");
}

/// Two nodes that are each other's seeds and dial at times that differ by `lead`.
fn simultaneous(first: &str, second: &str, provider: &str, lead: std::time::Duration) {
    let mut world = World::calm();
    let [x, y] = [(first, second), (second, first)].map(|(name, other)| {
        let mut spec = Spec::new(name).seeds([format!("{other}:1").as_str()]);
        spec.provider = Str::from(provider);
        world.place(spec)
    });
    // The seeds are not up yet when the first one dials; both know each other later.
    world.start(x);
    world.run_for(lead);
    world.start(y);
    for _ in 0..100 {
        world.run_for(ms(100));
        assert!(world.links_between(x, y).len() <= 3);
    }
    for host in [x, y] {
        assert_eq!(world.node(host).connections(), 1, "{first} {second} {lead:?}");
        assert_eq!(world.node(host).established().count(), 1);
        let ups = world.happenings(host);
        let ups = ups.iter().filter(|happening| matches!(happening, WorldEvent::NodeUp(_)));
        assert_eq!(ups.count(), 1, "connected once");
    }
}

/// Two slaves that send to each other at times that differ by `lead`.
fn simultaneous_messages(provider: &str, swap: bool, lead: std::time::Duration) {
    let mut world = World::calm();
    world.add(Spec::new("s").seeds(["s:1"]));
    let mut hosts = ["a", "b"].map(|name| {
        let mut spec = Spec::new(name).seeds(["s:1"]);
        spec.provider = Str::from(provider);
        world.add(spec)
    });
    world.run_for(secs(3));
    if swap {
        hosts.reverse();
    }
    let [x, y] = hosts;
    let ports = hosts.map(|host| world.open_port(host));
    monitor(&mut world, x, &ports[1]);
    for number in 0..5 {
        world.send(x, &ports[1], &packed(&(number,)));
    }
    world.run_for(lead);
    monitor(&mut world, y, &ports[0]);
    for number in 0..5 {
        world.send(y, &ports[0], &packed(&(number,)));
    }
    world.run_for(secs(5));
    for host in [x, y] {
        assert_eq!(world.node(host).connections(), 2, "{provider} {swap} {lead:?}");
        let happenings = world.happenings(host);
        let fired =
            happenings.iter().any(|happening| matches!(happening, WorldEvent::Fired { .. }));
        assert!(!fired, "{provider} {swap} {lead:?}");
        let delivered = happenings
            .iter()
            .filter(|happening| matches!(happening, WorldEvent::Delivered { .. }))
            .count();
        assert_eq!(delivered, 5, "nothing queued is lost");
    }
}

#[test]
fn two_nodes_that_dial_each_other_end_with_one_connection() {
    for provider in ["aemp-0.1", "AE-2.02"] {
        for (first, second) in [("a", "b"), ("b", "a")] {
            for lead in [0, 1, 2, 3, 5] {
                simultaneous(first, second, provider, ms(lead));
            }
        }
        for swap in [false, true] {
            for lead in 0..10 {
                simultaneous_messages(provider, swap, ms(lead));
            }
        }
    }
}

#[test]
fn a_dial_into_nowhere_does_not_hold_up_the_peers_own_connection() {
    for (inside, outside) in [("a", "b"), ("b", "a")] {
        let mut world = World::calm();
        world.add(Spec::new("s").seeds(["s:1"]));
        // This node can dial out, but its own address leads nowhere.
        let void = world.place(Spec::new("void"));
        let outside = world.add(Spec::new(outside).seeds(["s:1"]));
        world.block(outside, void);
        let mut spec = Spec::new(inside).seeds(["s:1"]);
        spec.addresses = vec![Str::from("void:1")];
        let inside = world.add(spec);
        world.redirect("void:1", Some(void));
        world.run_for(secs(3));
        let ports = [inside, outside].map(|host| world.open_port(host));
        world.send(outside, &ports[0], &packed(&("in",)));
        world.send(inside, &ports[1], &packed(&("out",)));
        world.run_for(secs(3));
        assert_eq!(messages(&mut world, outside), [r#"["out"]"#]);
        assert_eq!(messages(&mut world, inside), [r#"["in"]"#]);
    }
}

#[test]
fn a_peer_that_crashed_and_comes_back_is_not_locked_out() {
    for (name, peer) in [("a", "b"), ("b", "a")] {
        let mut world = World::calm();
        let listener = world.add(Spec::new(name).global());
        let peer = world.add(Spec::new(peer).seeds([format!("{name}:1").as_str()]));
        world.run_for(secs(3));
        let node = world.spec(peer).node.clone();
        let monitored = monitor(&mut world, listener, &node.node_port());
        world.vanish(peer);
        world.run_for(secs(1));
        assert!(is_up(&world, listener, &node.to_string()), "nobody was told");
        // Its old socket does not answer, and no reset arrives.
        world.start(peer);
        world.run_for(secs(5));
        let fired = fired(&mut world, listener);
        assert_eq!(fired.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [monitored]);
        assert!(is_up(&world, listener, &node.to_string()));
        assert!(is_up(&world, peer, name));
        assert_eq!(world.node(listener).connections(), 1);
    }
}

#[test]
fn a_second_connection_of_a_node_that_lives_is_closed_and_the_first_one_stays() {
    let (mut world, s, slaves) = family(1);
    let monitored = monitor(&mut world, s, &id("a").node_port());
    // A second name for the same seed.
    world.redirect("alias:1", Some(s));
    let seeds = ["s:1", "alias:1"].map(Str::from);
    world.kernel(slaves[0], |kernel| kernel.set_seeds(&seeds));
    world.run_for(secs(20));
    assert!(fired(&mut world, s).is_empty(), "{monitored:?}");
    assert_eq!(world.node(s).connections(), 1);
    assert_eq!(world.node(slaves[0]).connections(), 1);
    let seeds = world.node(slaves[0]).kernel().seeds();
    assert!(seeds.iter().all(|seed| seed.node == Some(id("s"))), "{seeds:?}");
}

#[test]
fn an_address_that_leads_to_another_node_connects_that_one_and_the_search_goes_on() {
    let (mut world, _, slaves) = family(2);
    let mut spec = Spec::new("c").seeds(["s:1"]);
    spec.advertised = Some(["b:1", "c:1"].map(Str::from).to_vec());
    let c = world.add(spec);
    world.run_for(secs(3));
    let port = world.open_port(c);
    world.send(slaves[0], &port, &packed(&("hello",)));
    world.run_for(ms(500));
    assert_eq!(messages(&mut world, c), [r#"["hello"]"#]);
    assert!(is_up(&world, slaves[0], "b"), "kept under the ID that it proved");
}

#[test]
fn new_seeds_take_the_place_of_old_ones() {
    let mut world = World::calm();
    let s = world.add(Spec::new("s").seeds(["s:1"]));
    let t = world.add(Spec::new("t").seeds(["t:1"]));
    let a = world.add(Spec::new("a").seeds(["down:1", "s:1"]));
    world.run_for(secs(3));
    world.kernel(a, |kernel| kernel.set_seeds(&[Str::from("t:1")]));
    world.run_for(secs(3));
    assert!(is_up(&world, a, "t"));
    assert!(is_up(&world, a, "s"), "connections stay");
    assert_eq!(world.node(a).kernel().seeds()[0].node, Some(id("t")));
    world.kill(t);
    world.kill(s);
    world.run_for(secs(30));
    assert!(dialled(&mut world, a).iter().skip(8).all(|address| address == "t:1"));
}

#[test]
fn the_last_words_of_a_node_that_was_given_up_are_not_heard() {
    let (mut world, s, slaves) = family(1);
    let port = world.open_port(s);
    world.kernel(s, |kernel| {
        kernel.disconnect(&id("a"), "enough");
        let monitor = packed(&("mon1", port.port().to_text_lossy()));
        kernel.node_packet(&id("a"), monitor.as_elements());
        let database = packed(&("g_slave", std::collections::BTreeMap::from([("f", ())])));
        kernel.node_packet(&id("a"), database.as_elements());
        assert!(kernel.resource_counts().nodes.is_empty());
    });
    world.run_for(secs(5));
    assert!(is_up(&world, slaves[0], "s"));
}
