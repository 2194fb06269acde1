//! Handshakes in the simulation are real, except for TLS, and have trouble where that is
//! configured.
#![allow(clippy::unwrap_used)]

mod support;

use aemp::value::Str;
use aemp::wire::framing::Framing;
use aemp_sim::{HostId, NetworkConditions, Spec, StrangerBehaviour, Tampering, World};
use support::*;

#[test]
fn both_ends_of_a_tls_session_share_a_secret_that_no_other_session_has() {
    let mut world = World::calm();
    let with_tls = |spec: Spec| Spec { tls: true, ..spec };
    let seed = world.add(with_tls(Spec::new("s")));
    let one = world.add(with_tls(Spec::new("a").seeds(["s:1"])));
    let other = world.add(with_tls(Spec::new("b").seeds(["s:1"])));
    let plain = world.add(Spec::new("c").seeds(["s:1"]));
    world.run_for(secs(5));
    let secret = |of: HostId, with: &str| world.node(of).tls_secret(&id(with));
    assert!(secret(one, "s").is_some() && secret(other, "s").is_some());
    assert_eq!(secret(one, "s"), secret(seed, "a"));
    assert_eq!(secret(other, "s"), secret(seed, "b"));
    assert_ne!(secret(one, "s"), secret(other, "s"));
    assert!(is_up(&world, plain, "s"), "it has the network's secret");
    assert_eq!((secret(plain, "s"), secret(seed, "c")), (None, None));
}

#[test]
fn each_side_sends_in_the_framing_that_the_other_names_first() {
    let mut world = World::calm();
    let mut spec = Spec::new("s");
    spec.framings = vec![Framing::Json, Framing::Cbor];
    let seed = world.add(spec);
    let mut spec = Spec::new("a").seeds(["s:1"]);
    spec.framings = vec![Framing::Storable, Framing::Json];
    let slave = world.add(spec);
    world.run_for(secs(5));
    let framing = |of: HostId, to: &str| world.node(of).lane(&id(to)).unwrap().connection();
    for (of, to) in [(seed, "a"), (slave, "s")] {
        assert_eq!(framing(of, to).unwrap().0, Framing::Json, "the only one that both speak");
    }
}

#[test]
fn handshakes_that_are_cut_and_late_delay_a_network_and_do_not_keep_it_apart() {
    let mut failures = 0;
    for seed in 0..20 {
        let mut world = World::new(seed, NetworkConditions::ROUGH);
        world.set_handshake_trouble(true);
        let first = world.add(Spec { tls: seed % 2 == 0, ..Spec::new("s") });
        let names = ["a", "b", "c"];
        let slaves = names
            .map(|name| world.add(Spec { tls: seed % 2 == 0, ..Spec::new(name).seeds(["s:1"]) }));
        world.run_for(secs(20));
        world.set_handshake_trouble(false);
        world.run_for(secs(120));
        for (slave, name) in slaves.into_iter().zip(names) {
            failures += dialled(&mut world, slave).len() - 1;
            assert!(is_up(&world, slave, "s") && is_up(&world, first, name), "seed {seed}");
            assert_eq!(world.node(slave).kernel().master(), Some(&id("s")));
        }
        let global = world.node(first).kernel().database().global().unwrap();
        assert_eq!(global.location(&id("a")), Some(vec![Str::from("a:1")]));
    }
    assert!(failures > 10, "only {failures} handshakes had trouble");
}

#[test]
fn nodes_that_offer_it_are_bound_to_the_secret_and_others_are_talked_to_as_before() {
    let mut world = World::calm();
    let bound = |spec: Spec| Spec { bound: true, ..spec };
    let seed = world.add(bound(Spec::new("s")));
    let one = world.add(bound(Spec::new("a").seeds(["s:1"])));
    let other = world.add(bound(Spec::new("b").seeds(["s:1"])));
    let old = world.add(Spec::new("c").seeds(["s:1"]));
    world.run_for(secs(5));
    let secret = |of: HostId, with: &str| world.node(of).tls_secret(&id(with));
    assert!(secret(one, "s").is_some() && secret(other, "s").is_some());
    assert_eq!(secret(one, "s"), secret(seed, "a"));
    assert_ne!(secret(one, "s"), secret(other, "s"));
    assert!(is_up(&world, old, "s"));
    assert_eq!((secret(old, "s"), secret(seed, "c")), (None, None));
}

#[test]
fn bound_handshakes_that_are_cut_and_late_do_not_keep_a_network_apart() {
    for seed in 0..10 {
        let mut world = World::new(seed, NetworkConditions::ROUGH);
        world.set_handshake_trouble(true);
        world.add(Spec { bound: true, ..Spec::new("s") });
        let slaves = ["a", "b", "c"]
            .map(|name| world.add(Spec { bound: true, ..Spec::new(name).seeds(["s:1"]) }));
        world.run_for(secs(20));
        world.set_handshake_trouble(false);
        world.run_for(secs(120));
        for slave in slaves {
            assert!(is_up(&world, slave, "s"), "seed {seed}");
        }
    }
}

/// A seed and a slave that offer to be bound to the secret, and a process without the secret that
/// answers at the seed's address and relays their connections.
fn relayed(seed: u64, meddling: Tampering) -> (World, HostId, HostId) {
    let mut world = World::new(seed, NetworkConditions::ROUGH);
    world.set_handshake_trouble(seed % 2 == 1);
    let first = world.place(Spec { bound: true, ..Spec::new("s") });
    let slave = world.place(Spec { bound: true, ..Spec::new("a").seeds(["s:1"]) });
    let to = Str::from("s:1");
    let stranger = world.add_stranger(StrangerBehaviour::Relays { to, meddling });
    world.hijack("s:1", Some(stranger));
    world.start(first);
    world.start(slave);
    (world, first, slave)
}

#[test]
fn who_only_passes_on_octets_connects_two_nodes_and_shares_no_secret() {
    for seed in 0..10 {
        let (mut world, first, slave) = relayed(seed, Tampering::Nothing);
        world.run_for(secs(20));
        world.set_handshake_trouble(false);
        world.run_for(secs(120));
        assert!(is_up(&world, slave, "s") && is_up(&world, first, "a"), "seed {seed}");
        let secret = world.node(slave).tls_secret(&id("s"));
        assert!(secret.is_some(), "seed {seed}");
        assert_eq!(secret, world.node(first).tls_secret(&id("a")), "seed {seed}");
    }
}

#[test]
fn nobody_who_ends_the_encryption_or_changes_a_greeting_is_believed_and_both_nodes_go_on() {
    let replaces = |text, by| Tampering::Replaces { text, by };
    for (meddling, seed) in [
        Tampering::EndsTls,
        replaces(";bound=1", ""),
        replaces("bound=1", "bound=2"),
        replaces("bound=1", "bound=local"),
        replaces("hmac_sha3_512", "hmac_sha3_256"),
        replaces(";role=dial", ""),
        replaces("aemp;1;", "aemp;1;x"),
        replaces("\n", "\nx"),
    ]
    .into_iter()
    .flat_map(|meddling| (0..6).map(move |seed| (meddling, seed)))
    {
        let (mut world, first, slave) = relayed(seed, meddling);
        for _ in 0..60 {
            world.run_for(secs(1));
            let up = is_up(&world, slave, "s") || is_up(&world, first, "a");
            assert!(!up, "{meddling:?}, seed {seed}");
        }
        assert!(dialled(&mut world, slave).len() > 1, "{meddling:?}, seed {seed}: it tries again");
        world.set_handshake_trouble(false);
        world.hijack("s:1", None);
        world.run_for(secs(120));
        let up = is_up(&world, slave, "s") && is_up(&world, first, "a");
        assert!(up, "{meddling:?}, seed {seed}");
        assert_eq!(world.node(slave).kernel().master(), Some(&id("s")));
    }
}
