//! The node of a seed: what a greeting claims, and what a connection proves.

use super::tests::{establish, mesh, node, outputs, proceeds, seconds, up};
use super::*;
use crate::kernel::random::Random;

/// Dials a seed, and returns the connection.
fn dial_seed(mesh: &mut Mesh, now: Duration) -> ConnId {
    mesh.take_outputs();
    mesh.retry_seeds(now, &mut Random::new([1; 32]));
    mesh.timer(&MeshTimer::DialSeeds, now);
    match outputs(mesh)[..] {
        [MeshOutput::Dial { conn, .. }] => conn,
        ref other => panic!("{other:?}"),
    }
}

#[test]
fn our_own_greeting_is_ours_only_on_another_connection_that_was_accepted() {
    let mut mesh = mesh(&["seed:1"]);
    let dialled = dial_seed(&mut mesh, seconds(0));
    mesh.greeting_sent(dialled, b"dialled");
    // The greeting comes back on the same connection, or on another one that we dialled.
    let status = |mesh: &Mesh| mesh.seed_status()[0].clone();
    assert!(mesh.greeted_with_own_id(dialled, b"dialled", seconds(0)).is_some());
    mesh.closed(dialled, "echo", seconds(0));
    assert!(!status(&mesh).is_ourselves && status(&mesh).last_error.is_some());

    let dialled = dial_seed(&mut mesh, seconds(100));
    mesh.greeting_sent(dialled, b"dialled");
    let accepted = mesh.accepted();
    mesh.greeting_sent(accepted, b"accepted");
    assert_eq!(mesh.greeted_with_own_id(dialled, b"unknown", seconds(0)), None);
    assert!(mesh.greeted_with_own_id(dialled, b"accepted", seconds(0)).is_some());
    assert!(status(&mesh).is_ourselves);
    assert!(outputs(&mut mesh).contains(&MeshOutput::IsSeed));
}

#[test]
fn a_greeting_at_a_seeds_address_says_nothing_of_the_seed_before_it_is_proven() {
    let mut mesh = mesh(&["seed:1"]);
    up(&mut mesh, "z");
    let dialled = dial_seed(&mut mesh, seconds(0));
    let greeting = PeerGreeting::new(node("z"), Str::text("aemp-0.1"));
    mesh.greeted(dialled, greeting, seconds(0));
    let [MeshOutput::Probe { number, .. }] = outputs(&mut mesh)[..] else { panic!("no probe") };
    mesh.probe_answered(&node("z"), number, seconds(0));
    assert_eq!(proceeds(&outputs(&mut mesh)), [(dialled, AuthOrder::AfterPeer)]);
    assert_eq!(mesh.seed_status()[0].node, None);
    mesh.verified(dialled, seconds(1));
    assert_eq!(mesh.seed_status()[0].node, Some(node("z")));
    let proven = outputs(&mut mesh);
    assert!(proven.contains(&MeshOutput::SeedUp(node("z"))), "{proven:?}");
    let Some(MeshOutput::Probe { number, .. }) = proven.last() else { panic!("{proven:?}") };
    mesh.probe_answered(&node("z"), *number, seconds(1));
    assert!(matches!(outputs(&mut mesh)[..], [MeshOutput::Close { conn, .. }] if conn == dialled));
    assert!(mesh.is_up(&node("z")));
}

#[test]
fn a_perl_node_that_refuses_second_connections_only_claims_to_be_a_seeds() {
    let mut mesh = mesh(&["seed:1"]);
    let conn = mesh.accepted();
    let greeting = PeerGreeting::new(node("z"), Str::text("AE-2.02"));
    mesh.greeted(conn, greeting.clone(), seconds(0));
    establish(&mut mesh, conn, seconds(0));
    mesh.take_outputs();
    let dialled = dial_seed(&mut mesh, seconds(0));
    mesh.greeted(dialled, greeting, seconds(0));
    assert!(outputs(&mut mesh).contains(&MeshOutput::SeedClaimed));
    assert_eq!(mesh.claimed_seeds_up().next(), Some(&node("z")));
    assert!(!mesh.is_seed(&node("z")) && mesh.first_seed_up().is_none());
    mesh.closed(dialled, "already connected", seconds(0));
    mesh.timer(&MeshTimer::DialSeeds, seconds(10));
    assert!(
        matches!(outputs(&mut mesh)[..], [MeshOutput::Dial { .. }]),
        "it is dialled all the same"
    );
}

#[test]
fn a_lost_seed_is_dialled_again() {
    let mut mesh = mesh(&["seed:1"]);
    let random = &mut Random::new([1; 32]);
    mesh.retry_seeds(seconds(0), random);
    mesh.timer(&MeshTimer::DialSeeds, seconds(0));
    let [MeshOutput::Dial { conn, .. }] = outputs(&mut mesh)[..] else { panic!("no dial") };
    mesh.greeted(conn, PeerGreeting::new(node("seed"), Str::text("AE-2.02")), seconds(0));
    establish(&mut mesh, conn, seconds(0));
    assert_eq!(mesh.first_seed_up(), Some(&node("seed")));
    mesh.take_outputs();
    mesh.closed(conn, "reset", seconds(100));
    assert!(matches!(outputs(&mut mesh)[..], [MeshOutput::Down { .. }]));
    mesh.loss_was_told(&node("seed"), seconds(100), random);
    mesh.timer(&MeshTimer::DialSeeds, seconds(103));
    assert!(matches!(outputs(&mut mesh)[..], [MeshOutput::Dial { .. }]));
}
