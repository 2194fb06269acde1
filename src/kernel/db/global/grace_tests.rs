//! The entries of a lost global node's slaves, with the tests taking the part of all other nodes.

use super::super::pieces::KEYS_PER_PIECE;
use super::super::request::QueryKind;
use super::super::testing::{TestNode, entries, keys, node, seconds, tables_of};
use super::*;
use crate::kernel::db::pieces::Pieces;
use crate::kernel::limits::PeerLimits;

/// A global node that monitors the family, and another one with these slaves and entries.
fn two_globals(slaves: &str, content: &str) -> TestNode {
    let mut me = TestNode::global("me");
    me.monitor();
    peer(&mut me, "g", slaves, content);
    me.effects();
    me
}

fn peer(me: &mut TestNode, id: &str, slaves: &str, content: &str) {
    me.up(id);
    me.hear_from(id, Request::Global);
    me.hear_from(id, Request::Set(tables_of(&format!("{id} {slaves}"), content)));
}

fn slave(me: &mut TestNode, id: &str, content: &str) {
    me.up(id);
    me.hear_from(id, Request::Slave(Some(tables_of(id, content))));
}

fn update(me: &mut TestNode, from: &str, set: &str, delete: &str) {
    let (set, delete) = (Some(entries(set)), Some(keys(delete)));
    me.hear_from(from, Request::Update { family: "fam".into(), set, delete });
}

/// The reports of the monitor.
fn told(me: &mut TestNode) -> Vec<String> {
    let effects = me.effects();
    effects.into_iter().filter(|effect| effect.starts_with("1 ")).collect()
}

fn octets(me: &TestNode) -> usize {
    me.db.global().unwrap().merge().octets()
}

#[test]
fn what_is_claimed_again_is_reported_only_if_its_value_differs_and_the_rest_at_the_end_of_the_grace()
 {
    let mut me = two_globals("w v u", "a=1 b=1 c=1 d=1 e=1");
    me.down("g");
    assert!(told(&mut me).is_empty());
    assert_eq!(me.db.location(&node("w")), None, "where nodes are is no longer known");
    me.wait(1);
    slave(&mut me, "w", "a=1 b=2");
    assert_eq!(told(&mut me), ["1 +[] ~[b=2] -[]"]);
    peer(&mut me, "h", "v", "c=1");
    assert!(told(&mut me).is_empty());
    me.wait(3);
    assert!(told(&mut me).is_empty());
    me.wait(1);
    assert_eq!(told(&mut me), ["1 +[] ~[] -[d e]"]);
    me.wait(100);
    assert!(told(&mut me).is_empty());
}

/// `me` with the subscriber `x` and the global node `h`, just after the loss of `g` and before its slaves
/// come.
fn slaves_are_moving() -> TestNode {
    let mut me = two_globals("w v u", "a=1 b=1 c=1");
    peer(&mut me, "h", "", "");
    slave(&mut me, "x", "");
    me.hear_from("x", Request::Monitor("fam".into()));
    ["w", "v", "u"].iter().for_each(|id| me.up(id));
    me.down("g");
    me.turn();
    me
}

/// What is sent and reported in one turn.
fn turn(me: &mut TestNode) -> Vec<String> {
    me.turn().into_iter().filter(|effect| !effect.starts_with("located ")).collect()
}

#[test]
fn what_moving_slaves_bring_in_one_turn_takes_one_packet_for_each_family_and_global_node() {
    let mut me = slaves_are_moving();
    slave(&mut me, "w", "a=1");
    slave(&mut me, "v", "b=2");
    slave(&mut me, "u", "c=1 d=1");
    assert_eq!(
        turn(&mut me),
        [
            r#"x: ["g_chg2", "fam", {"b": 2}, []]"#,
            "1 +[] ~[b=2] -[]",
            r#"x: ["g_chg2", "fam", {"d": 1}, []]"#,
            "1 +[d=1] ~[] -[]",
            r#"h: ["g_upd", "'l", {"u": ["u:1"], "v": ["v:1"], "w": ["w:1"]}, []]"#,
            r#"h: ["g_upd", "fam", {"a": 1, "b": 2, "c": 1, "d": 1}, []]"#,
        ]
    );
}

#[test]
fn changes_that_are_no_part_of_a_whole_database_are_sent_one_by_one_while_slaves_are_moving() {
    let mut me = slaves_are_moving();
    slave(&mut me, "w", "a=1");
    update(&mut me, "w", "a=2", "");
    update(&mut me, "w", "a=3", "");
    slave(&mut me, "v", "b=1");
    let told = turn(&mut me);
    let to_h: Vec<_> = told.iter().filter(|effect| effect.starts_with("h: ")).collect();
    assert_eq!(
        to_h,
        [
            r#"h: ["g_upd", "'l", {"w": ["w:1"]}, []]"#,
            r#"h: ["g_upd", "fam", {"a": 1}, []]"#,
            r#"h: ["g_upd", "fam", {"a": 2}, []]"#,
            r#"h: ["g_upd", "fam", {"a": 3}, []]"#,
            r#"h: ["g_upd", "'l", {"v": ["v:1"]}, []]"#,
            r#"h: ["g_upd", "fam", {"b": 1}, []]"#,
        ]
    );
}

#[test]
fn what_moving_slaves_bring_comes_before_every_answer() {
    let mut me = slaves_are_moving();
    slave(&mut me, "w", "a=1");
    me.hear_from("h", Request::Find(node("w")));
    let told: Vec<_> =
        me.effects().into_iter().filter(|effect| effect.starts_with("h: ")).collect();
    assert_eq!(
        told,
        [
            r#"h: ["g_upd", "'l", {"w": ["w:1"]}, []]"#,
            r#"h: ["g_upd", "fam", {"a": 1}, []]"#,
            r#"h: ["g_found", "w", ["w:1"]]"#,
        ]
    );
}

#[test]
fn what_moving_slaves_bring_waits_for_room_if_there_is_none() {
    let mut me = slaves_are_moving();
    slave(&mut me, "w", "a=1");
    me.db.has_no_room(&node("h"), me.now);
    update(&mut me, "w", "a=2", "");
    slave(&mut me, "v", "b=1");
    assert!(me.effects().iter().all(|effect| !effect.starts_with("h: ")));
    assert_eq!(me.db.held(&node("h")), 4);
}

/// Their databases may be larger than what is handled at once.
#[test]
fn pieces_of_a_moving_slaves_database_are_held_back_too() {
    let mut me = slaves_are_moving();
    let request = Request::Slave(Some(tables_of("w", "a=1 b=1")));
    for piece in Pieces::of(&node("w"), request) {
        me.db.handle_piece(&node("w"), piece, me.now);
    }
    slave(&mut me, "v", "c=1");
    let told = turn(&mut me);
    assert_eq!(
        told,
        [
            r#"h: ["g_upd", "'l", {"v": ["v:1"], "w": ["w:1"]}, []]"#,
            r#"h: ["g_upd", "fam", {"a": 1, "b": 1, "c": 1}, []]"#,
        ]
    );
}

#[test]
fn what_was_claimed_again_is_the_new_owners_alone() {
    let mut me = two_globals("w v", "a=1 b=1 c=1");
    me.down("g");
    slave(&mut me, "w", "a=1 b=2");
    told(&mut me);
    update(&mut me, "w", "", "a b");
    assert_eq!(told(&mut me), ["1 +[] ~[] -[a b]"]);
    peer(&mut me, "h", "v", "c=1");
    update(&mut me, "h", "", "c");
    assert_eq!(told(&mut me), ["1 +[] ~[] -[c]"]);
}

/// A suspended global node is noticed late: its slaves have moved long before.
#[test]
fn what_was_written_before_the_loss_was_noticed_is_claimed_too() {
    let mut me = two_globals("w", "a=1 b=1");
    slave(&mut me, "w", "a=1 b=2");
    told(&mut me);
    me.down("g");
    update(&mut me, "w", "", "a b");
    assert_eq!(told(&mut me), ["1 +[] ~[] -[a b]"]);
}

#[test]
fn other_owners_of_a_key_keep_it() {
    let mut me = two_globals("w v", "a=1");
    slave(&mut me, "s", "a=2");
    update(&mut me, "g", "a=3", "");
    me.down("g");
    told(&mut me);
    update(&mut me, "s", "", "a");
    assert!(told(&mut me).is_empty(), "the lost node's slave has it");
    slave(&mut me, "w", "a=3");
    update(&mut me, "s", "a=4", "");
    told(&mut me);
    me.wait(5);
    assert!(told(&mut me).is_empty());
    me.down("s");
    assert_eq!(told(&mut me), ["1 +[] ~[a=3] -[]"]);
}

#[test]
fn the_grace_ends_early_when_all_slaves_have_come_or_are_lost() {
    for w_is_lost_first in [true, false] {
        let mut me = two_globals("w v", "a=1 b=1 c=1");
        me.up("w");
        if w_is_lost_first {
            me.down("w");
        }
        me.down("g");
        me.down("w");
        slave(&mut me, "v", "b=1");
        me.wait(1);
        // A large database comes in several packets.
        update(&mut me, "v", "c=1", "");
        me.wait(1);
        assert!(told(&mut me).is_empty());
        me.wait(2);
        assert_eq!(told(&mut me), ["1 +[] ~[] -[a]"]);
    }
}

#[test]
fn what_a_lost_global_node_without_slaves_owns_goes_at_once() {
    let mut me = two_globals("", "a=1");
    me.down("g");
    assert_eq!(told(&mut me), ["1 +[] ~[] -[a]"]);
}

#[test]
fn a_global_node_that_comes_back_within_the_grace_speaks_for_its_slaves_again() {
    let mut me = two_globals("w", "a=1 b=1 c=1");
    me.down("g");
    me.wait(4);
    peer(&mut me, "g", "w", "a=1 b=2");
    assert_eq!(told(&mut me), ["1 +[] ~[b=2] -[]"]);
    me.wait(1);
    assert_eq!(told(&mut me), ["1 +[] ~[] -[c]"]);
    me.wait(5);
    assert!(told(&mut me).is_empty());
}

/// Other global nodes get the entries of our slaves, but none that may have been deleted.
#[test]
fn what_is_unclaimed_is_shown_and_not_told_other_global_nodes() {
    let mut me = two_globals("w", "a=1");
    me.down("g");
    me.effects();
    me.up("h");
    me.hear_from("h", Request::Global);
    let to_h: Vec<_> =
        me.effects().into_iter().filter(|effect| effect.contains(r#""a""#)).collect();
    assert!(to_h.is_empty(), "{to_h:?}");
    me.db.query(QueryKind::Family, "fam".into(), me.now);
    assert_eq!(me.effects(), ["1 a=1"]);
}

#[test]
fn what_a_slave_owns_that_becomes_global_is_known_without_a_gap() {
    let mut me = two_globals("w", "");
    slave(&mut me, "s", "a=1 b=1");
    told(&mut me);
    me.hear_from("s", Request::Global);
    let to_g: Vec<_> = me.effects().into_iter().filter(|e| e.contains("fam")).collect();
    assert_eq!(
        to_g,
        [
            r#"s: ["g_set", {"'g": {"g": undef, "me": undef, "s": undef}, "'l": {"g": ["g:1"], "me": ["me:1"]}, "fam": {"a": 1, "b": 1}}]"#
        ]
    );
    me.hear_from("s", Request::Set(tables_of("s", "a=1 b=2")));
    me.wait(4);
    let effects = me.effects();
    assert!(effects.iter().all(|effect| !effect.starts_with("g: ") || !effect.contains("fam")));
    assert!(effects.contains(&"1 +[] ~[b=2] -[]".to_owned()), "{effects:?}");
    me.wait(1);
    assert_eq!(me.effects(), [r#"g,s: ["g_upd", "fam", {}, ["a", "b"]]"#]);
}

#[test]
fn a_slave_that_is_lost_leaves_nothing() {
    let mut me = two_globals("w", "a=1");
    slave(&mut me, "s", "b=1");
    told(&mut me);
    me.down("s");
    assert_eq!(told(&mut me), ["1 +[] ~[] -[b]"]);
}

#[test]
fn the_end_of_a_large_family_is_told_in_pieces() {
    let content: Vec<String> = (0..2500).map(|key| format!("k{key}=1")).collect();
    let slaves: Vec<String> = (0..2500).map(|slave| format!("w{slave}")).collect();
    let mut me = two_globals(&slaves.join(" "), &content.join(" "));
    let worked = |me: &TestNode| me.db.global().unwrap().merge().operations();
    let before = worked(&me);
    me.down("g");
    assert!(worked(&me) - before < KEYS_PER_PIECE as u64 + 100, "{}", worked(&me) - before);
    while me.db.deadline() == Some(std::time::Duration::ZERO) {
        me.wait(0);
    }
    assert_eq!(me.db.global().unwrap().merge().family_len(&"'l".into()), 1);
    assert!(told(&mut me).is_empty());
    assert_eq!(me.db.deadline(), Some(me.now + seconds(5)));
    for _ in 0..2500_usize.div_ceil(KEYS_PER_PIECE) {
        let before = worked(&me);
        me.wait(5);
        assert!(worked(&me) - before <= KEYS_PER_PIECE as u64);
        assert_eq!(told(&mut me).len(), 1);
    }
    assert_eq!(me.db.deadline(), None);
    assert_eq!(me.db.global().unwrap().merge().family_len(&"fam".into()), 0);
}

#[test]
fn a_global_node_that_comes_and_goes_takes_no_more_room_than_one_that_stays() {
    let mut me = TestNode::global("me");
    me.db.set_limits(PeerLimits { database: 2_000, ..PeerLimits::default() });
    for round in 0..100 {
        peer(&mut me, "g", "w", &format!("a{round}=1 b{round}=1"));
        me.down("g");
        me.wait(0);
        assert!(octets(&me) < 6_000, "{}", octets(&me));
    }
    for other in 0..300 {
        peer(&mut me, &format!("g{other}"), "w", &format!("c{other}=1"));
        me.down(&format!("g{other}"));
        me.wait(0);
    }
    assert!(me.db.global().unwrap().merge().family_len(&"fam".into()) < 100);
    me.wait(5);
    me.wait(0);
    assert_eq!(me.db.global().unwrap().merge().family_len(&"fam".into()), 0);
}

/// A slave of `g` that has just become global, when it has the database of `g` and knows of `h`.
fn new_global() -> TestNode {
    let mut me = TestNode::new("me");
    me.adopt("g");
    me.monitor();
    me.content_from("g", "a=1 b=1 c=1");
    me.hear_from("g", Request::Global);
    me.db.become_global(me.now);
    let globals = ["g", "h"].map(|id| (id.into(), Datum::UNDEF)).into_iter().collect();
    let mut tables = tables_of("g w", "a=1 b=1 c=1");
    tables.insert("'g".into(), globals);
    me.hear_from("g", Request::Set(tables));
    me.effects();
    me
}

/// A key that one global node deletes may be another one's too.
#[test]
fn a_new_global_node_reports_what_another_one_deletes_at_the_end_of_the_grace_unless_a_third_has_it()
 {
    let mut me = new_global();
    update(&mut me, "g", "", "a b");
    assert!(told(&mut me).is_empty());
    peer(&mut me, "h", "v", "a=1");
    assert!(told(&mut me).is_empty());
    me.wait(4);
    assert!(told(&mut me).is_empty());
    me.wait(1);
    assert_eq!(told(&mut me), ["1 +[] ~[] -[b]"]);
}

#[test]
fn a_new_global_node_that_has_all_databases_reports_each_deletion_at_once() {
    let mut me = new_global();
    peer(&mut me, "h", "v", "");
    update(&mut me, "g", "", "a");
    assert_eq!(told(&mut me), ["1 +[] ~[] -[a]"]);
}

#[test]
fn a_new_global_node_reports_what_its_own_slaves_delete_at_once() {
    let mut me = new_global();
    slave(&mut me, "s", "d=1");
    assert_eq!(told(&mut me), ["1 +[d=1] ~[] -[]"]);
    update(&mut me, "s", "", "d");
    assert_eq!(told(&mut me), ["1 +[] ~[] -[d]"]);
    me.wait(10);
    assert!(told(&mut me).is_empty());
}
