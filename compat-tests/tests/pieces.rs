//! Databases that our nodes send in pieces, and real Perl nodes that get them.

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use aemp::Node;
use aemp::value::Str;
use compat_tests::cut::CutConnections;
use compat_tests::network::InProcess;
use compat_tests::perl;
use compat_tests::perl_node::{MODULES, PerlNode};
use serde_json::{Value, json};

const FRAMINGS: [&str; 3] = ["cbor", "json", "storable"];

/// Entries of [`fill`], which take three pieces.
const KEYS: usize = 30;

/// Octets at which connections are cut: in the first piece, and after one and after two pieces.
const CUTS: [usize; 3] = [500_000, 1_500_000, 2_500_000];

/// All framings if there are real Perl nodes, otherwise none.
fn framings() -> &'static [&'static str] {
    if perl::has(MODULES) { &FRAMINGS } else { &[] }
}

/// A Perl node that speaks one framing and reports the family `large`.
fn perl_node(framing: &str, seeds: &[String]) -> PerlNode {
    let settings = json!({"framing_format": [framing], "seeds": seeds});
    let mut perl = PerlNode::start("perl-node", settings);
    perl.run("db_mon", json!({"family": "large", "label": "large"}));
    perl
}

fn fill(node: &Node) {
    let value = "v".repeat(100_000);
    (0..KEYS).for_each(|key| node.db().set("large", format!("{key}"), &value).unwrap());
}

/// Waits until the family has this many keys at the Perl node, all with their complete values.
fn has(perl: &mut PerlNode, keys: usize) {
    perl.event("family", "large", |event| {
        let content = event["content"].as_object();
        content.is_some_and(|content| {
            let whole = |value: &&Value| value.as_str().is_some_and(|text| text.len() == 100_000);
            content.len() == keys && content.values().filter(whole).count() == KEYS
        })
    });
}

/// Waits until the Perl node knows where ours can be reached, which it learns from the first piece only.
fn knows_the_address_of(perl: &mut PerlNode, node: &Node) {
    perl.run("db_mon", json!({"family": "'l", "label": "addresses"}));
    let (id, address) = (node.id().to_string(), node.addresses()[0].to_string());
    perl.event("family", "addresses", |event| event["content"][&id] == json!([address]));
}

#[test]
fn a_database_of_several_pieces_reaches_a_perl_master_and_a_perl_global_node() {
    for framing in framings() {
        let inside = InProcess::new();
        let ours = inside.start("rust-node", &[]);
        fill(&ours);
        let mut perl = perl_node(framing, &[]);
        ours.set_seeds([Str::from(perl.address())]);
        has(&mut perl, KEYS);
        // Now it has another database of ours, that of a global node, which has one key more.
        ours.become_global();
        ours.db().set("large", "last", 1).unwrap();
        has(&mut perl, KEYS + 1);
        knows_the_address_of(&mut perl, &ours);
    }
}

#[test]
fn what_was_lost_between_pieces_reaches_a_perl_node_with_the_next_connection() {
    for framing in framings() {
        for is_global in [false, true] {
            let inside = InProcess::new();
            let ours = inside.start("rust-node", &[]);
            fill(&ours);
            if is_global {
                ours.become_global();
            }
            let mut perl = perl_node(framing, &[]);
            let way = CutConnections::to(perl.address(), CUTS);
            ours.set_seeds([Str::from(way.address())]);
            has(&mut perl, KEYS);
            // Global nodes dial each other's own addresses as well once they know them.
            let cuts = if is_global { 1 } else { CUTS.len() };
            assert!(way.cut() >= cuts, "{framing}, global: {is_global}: {}", way.cut());
            knows_the_address_of(&mut perl, &ours);
            // Later changes find their way too.
            ours.db().set("large", "last", 1).unwrap();
            has(&mut perl, KEYS + 1);
        }
    }
}

#[test]
fn a_perl_slave_is_told_of_a_database_that_reaches_its_master_in_pieces_by_several_connections() {
    for framing in framings() {
        let inside = InProcess::new();
        let seed = inside.start("rust-seed", &[]);
        let address = seed.addresses()[0].to_string();
        let mut perl = perl_node(framing, std::slice::from_ref(&address));
        perl.sees_up("rust-seed");
        let way = CutConnections::to(&address, CUTS);
        let ours = inside.start("rust-node", &[way.address().to_owned()]);
        fill(&ours);
        has(&mut perl, KEYS);
        ours.db().set("large", "last", 1).unwrap();
        has(&mut perl, KEYS + 1);
    }
}
