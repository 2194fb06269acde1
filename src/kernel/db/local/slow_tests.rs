//! Own changes for a master whose connection has no room.

use super::super::super::request::{QueryKind, Request};
use super::super::super::testing::{FAM, TestNode, entries, node};
use super::super::super::{Datum, DbEffect, DbMonitorId, Entries};
use crate::value::Str;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn set(slave: &mut TestNode, content: &str) {
    for (key, value) in entries(content) {
        slave.db.set(&FAM.into(), key, value, slave.now).unwrap();
    }
}

fn no_room(slave: &mut TestNode) {
    slave.db.has_no_room(&node("m"), slave.now);
}

fn room(slave: &mut TestNode, number: u64) {
    slave.db.has_room(&node("m"), number, slave.now);
}

fn held(slave: &TestNode) -> usize {
    slave.db.held(&node("m"))
}

/// A slave that has told its master `k`, and is now waiting for room with the number 2.
fn without_room() -> TestNode {
    let mut slave = TestNode::with_master();
    set(&mut slave, "k=0");
    slave.effects();
    no_room(&mut slave);
    assert_eq!(slave.effects(), ["room at m for 2"]);
    slave
}

#[test]
fn what_waits_for_the_master_is_one_change_for_each_key_and_the_newest() {
    let mut slave = without_room();
    for n in 1..=1_000 {
        set(&mut slave, &format!("k={n} l={n}"));
        no_room(&mut slave);
        assert_eq!(held(&slave), 2);
    }
    assert_eq!(slave.effects(), [""; 0]);
    room(&mut slave, 1);
    assert_eq!(slave.effects(), [""; 0], "that was the room of a transfer");
    room(&mut slave, 2);
    assert_eq!(slave.effects(), [r#"m: ["g_upd", "fam", {"k": 1000, "l": 1000}]"#]);
    set(&mut slave, "k=1001");
    assert_eq!(slave.effects(), [r#"m: ["g_upd", "fam", {"k": 1001}]"#], "told at once again");
    assert_eq!(held(&slave), 0);
}

#[test]
fn only_keys_that_the_master_has_seen_are_deleted_and_none_is_both_set_and_deleted() {
    let mut slave = without_room();
    set(&mut slave, "new=1 again=1");
    slave.delete("new k again");
    set(&mut slave, "again=2");
    room(&mut slave, 2);
    assert_eq!(slave.effects(), [r#"m: ["g_upd", "fam", {"again": 2}, ["k"]]"#]);
    no_room(&mut slave);
    slave.delete("again");
    slave.effects();
    room(&mut slave, 3);
    assert_eq!(slave.effects(), [r#"m: ["g_upd", "fam", undef, ["again"]]"#]);
    // Nothing is left of a key that came and went.
    no_room(&mut slave);
    set(&mut slave, "again=3");
    slave.delete("again");
    slave.effects();
    room(&mut slave, 4);
    assert_eq!(slave.effects(), [""; 0]);
    assert_eq!(held(&slave), 0);
}

#[test]
fn what_waits_for_the_master_comes_before_whatever_it_is_asked() {
    type Ask = fn(&mut TestNode);
    let asked: [(Ask, &str); 6] = [
        (
            |slave| {
                slave.db.query(QueryKind::Keys, FAM.into(), slave.now);
            },
            r#"["g_db_keys", "fam", "b"]"#,
        ),
        (
            |slave| {
                slave.db.get(FAM.into(), "k".into(), slave.now);
            },
            r#"["g_db_family", "fam", "b"]"#,
        ),
        (|slave| slave.db.find(node("x"), slave.now), r#"["g_find", "x"]"#),
        (
            |slave| {
                slave.db.monitor("other".into(), slave.now);
            },
            r#"["g_mon1", "other"]"#,
        ),
        (|slave| slave.db.unmonitor(DbMonitorId(1), slave.now), r#"["g_mon0", "fam"]"#),
        // What follows is a message that a peer has sent to us for the master.
        (|slave| slave.db.flush(&node("m"), slave.now), ""),
    ];
    for (ask, request) in asked {
        let mut slave = TestNode::with_master();
        assert_eq!(slave.monitor(), DbMonitorId(1));
        no_room(&mut slave);
        set(&mut slave, "k=1");
        slave.effects();
        slave.db.flush(&node("other"), slave.now);
        assert_eq!(slave.effects(), [""; 0], "what another node gets is no barrier");
        ask(&mut slave);
        let mut all = vec![r#"m: ["g_upd", "fam", {"k": 1}]"#.to_owned()];
        all.extend(Some(request).filter(|request| !request.is_empty()).map(|r| format!("m: {r}")));
        assert_eq!(slave.effects(), all);
        // There is still no room.
        set(&mut slave, "k=2");
        assert_eq!((slave.effects().len(), held(&slave)), (0, 1));
    }
}

#[test]
fn what_waits_for_the_master_goes_in_pieces_each_of_which_waits_for_room() {
    let mut slave = without_room();
    slave.db.set_piece(1);
    set(&mut slave, "a=1 b=2");
    slave.delete("k");
    for told in [r#"{"a": 1}]"#, r#"{"b": 2}]"#] {
        room(&mut slave, 2);
        let told = format!(r#"m: ["g_upd", "fam", {told}"#);
        assert_eq!(slave.effects(), [told, "room at m for 2".to_owned()]);
    }
    room(&mut slave, 2);
    assert_eq!(slave.effects(), [r#"m: ["g_upd", "fam", undef, ["k"]]"#]);
    assert_eq!(held(&slave), 0);
}

/// A slave whose master has got `a` of its keys `a`, `b` and `c`, and then has no room.
fn within_a_transfer() -> TestNode {
    let mut slave = TestNode::new("me");
    slave.db.set_piece(1);
    set(&mut slave, "a=1 b=1 c=1");
    slave.adopt("m");
    assert_eq!(slave.effects(), [r#"m: ["g_slave", {"fam": {"a": 1}}]"#, "room at m for 1"]);
    no_room(&mut slave);
    assert_eq!(slave.effects(), ["room at m for 2"]);
    slave
}

#[test]
fn a_transfer_and_what_waits_meanwhile_both_come_before_the_questions() {
    let mut slave = within_a_transfer();
    slave.monitor();
    set(&mut slave, "a=2 b=2 new=1");
    assert_eq!((slave.effects().len(), held(&slave)), (0, 3));
    room(&mut slave, 1);
    // That is the newest value of `b`, which has not to be sent again.
    assert_eq!(slave.effects(), [r#"m: ["g_upd", "fam", {"b": 2}]"#, "room at m for 1"]);
    assert_eq!(held(&slave), 2);
    room(&mut slave, 1);
    assert_eq!(
        slave.effects(),
        [
            r#"m: ["g_upd", "fam", {"c": 1}]"#,
            r#"m: ["g_upd", "fam", {"a": 2, "new": 1}]"#,
            r#"m: ["g_mon1", "fam"]"#
        ]
    );
    room(&mut slave, 2);
    assert_eq!(slave.effects(), [""; 0]);
}

#[test]
fn a_new_key_that_a_transfer_has_sent_after_all_is_deleted_at_the_master() {
    let mut slave = TestNode::new("me");
    slave.db.set_piece(1);
    set(&mut slave, "a=1 b=1");
    slave.adopt("m");
    slave.delete("b");
    assert_eq!(slave.effects().len(), 3);
    no_room(&mut slave);
    set(&mut slave, "b=2");
    slave.effects();
    room(&mut slave, 1);
    assert_eq!(slave.effects(), [r#"m: ["g_upd", "fam", {"b": 2}]"#]);
    slave.delete("b");
    room(&mut slave, 2);
    assert_eq!(slave.effects(), [r#"m: ["g_upd", "fam", undef, ["b"]]"#]);
}

#[test]
fn nothing_waits_for_a_master_that_is_lost_or_replaced_or_for_one_of_a_global_node() {
    let leave: [fn(&mut TestNode); 4] = [
        |slave| slave.down("m"),
        |slave| slave.db.master_lost(slave.now),
        |slave| slave.adopt("n"),
        |slave| slave.db.become_global(slave.now),
    ];
    for leave in leave {
        let mut slave = without_room();
        set(&mut slave, "k=1");
        leave(&mut slave);
        assert_eq!(held(&slave), 0);
        slave.effects();
        set(&mut slave, "k=2");
        slave.db.take_effects();
        room(&mut slave, 2);
        assert_eq!(slave.effects(), [""; 0], "what waited was dropped");
    }
    // The next connection begins with room, and with the whole database.
    let mut slave = without_room();
    set(&mut slave, "k=1");
    slave.down("m");
    slave.adopt("m");
    assert_eq!(slave.effects(), [r#"m: ["g_slave", {"fam": {"k": 1}}]"#]);
    set(&mut slave, "k=2");
    assert_eq!(slave.effects(), [r#"m: ["g_upd", "fam", {"k": 2}]"#]);
}

#[test]
fn own_changes_do_not_wait_for_other_nodes() {
    let mut slave = TestNode::with_master();
    slave.up("other");
    slave.db.has_no_room(&node("other"), slave.now);
    assert_eq!(slave.effects(), [""; 0]);
    set(&mut slave, "k=1");
    assert_eq!(slave.effects(), [r#"m: ["g_upd", "fam", {"k": 1}]"#]);
    // A node without a master has nobody to wait for.
    slave.down("m");
    no_room(&mut slave);
    set(&mut slave, "k=2");
    assert_eq!((slave.effects().len(), held(&slave)), (0, 0));
}

#[derive(Debug, Clone)]
enum Step {
    Set(Str, i64),
    Delete(Vec<Str>),
    NoRoom,
    Room(usize),
    Ask,
    NewMaster,
}

fn step() -> impl Strategy<Value = Step> {
    let key = || (0..6_u8).prop_map(|n| Str::from(format!("k{n}")));
    prop_oneof![
        8 => (key(), 0..3_i64).prop_map(|(key, value)| Step::Set(key, value)),
        4 => proptest::collection::vec(key(), 1..3).prop_map(Step::Delete),
        2 => Just(Step::NoRoom),
        4 => (0..2_usize).prop_map(Step::Room),
        1 => Just(Step::Ask),
        1 => Just(Step::NewMaster),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_master_knows_our_entries_whenever_it_is_asked_and_in_the_end(
        steps in proptest::collection::vec(step(), 1..80)
    ) {
        let mut slave = TestNode::new("me");
        slave.db.set_piece(80);
        let (mut known, mut may_be_unseen) = (BTreeMap::new(), BTreeSet::new());
        let mut rooms = Vec::new();
        let mut steps = steps;
        steps.insert(0, Step::NewMaster);
        steps.extend((0..20).map(|_| Step::Room(0)));
        for step in steps {
            match step {
                Step::Set(key, value) => {
                    slave.db.set(&FAM.into(), key, Datum::int(value), slave.now).unwrap();
                }
                Step::Delete(keys) => slave.db.delete(&FAM.into(), keys, slave.now).unwrap(),
                Step::NoRoom => no_room(&mut slave),
                Step::Room(at) if at < rooms.len() => {
                    let number = rooms.remove(at);
                    room(&mut slave, number);
                }
                Step::Room(_) => {}
                Step::Ask => {
                    slave.db.query(QueryKind::Keys, FAM.into(), slave.now);
                }
                Step::NewMaster => slave.adopt("m"),
            }
            let own = slave.db.own().remove(&FAM.into()).unwrap_or_default();
            for effect in slave.db.take_effects() {
                let packet = match effect {
                    DbEffect::AwaitRoom { number, .. } => {
                        rooms.push(number);
                        continue;
                    }
                    DbEffect::Send { packet, .. } => packet,
                    _ => continue,
                };
                let elements = packet.as_elements().after(1);
                let name = elements.first_str().unwrap();
                match Request::parse(name, elements.after(1)).unwrap().unwrap() {
                    Request::Slave(tables) => {
                        let mut tables = tables.unwrap_or_default();
                        known = tables.remove(&FAM.into()).unwrap_or_default().into_iter().collect();
                        // A transfer does not say which keys it still has to send.
                        may_be_unseen = own.keys().cloned().collect();
                    }
                    Request::Update { set, delete, .. } => {
                        let (set, delete) = (set.unwrap_or_default(), delete.unwrap_or_default());
                        for (key, value) in set {
                            prop_assert!(!delete.contains(&key));
                            known.insert(key, value);
                        }
                        for key in delete {
                            let seen = known.remove(&key).is_some();
                            prop_assert!(seen || may_be_unseen.contains(&key), "{key} was never told");
                        }
                    }
                    Request::Query { .. } => {
                        let known: Entries = known.clone().into_iter().collect();
                        prop_assert_eq!(&known, &own, "when it is asked");
                        may_be_unseen.clear();
                    }
                    other => panic!("{other:?}"),
                }
            }
            prop_assert!(held(&slave) <= 6);
        }
        let known: Entries = known.into_iter().collect();
        prop_assert_eq!(known, slave.db.own().remove(&FAM.into()).unwrap_or_default());
    }
}
