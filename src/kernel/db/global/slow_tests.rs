//! Changes for nodes whose connections have no room.

use super::super::request::{QueryKind, Request};
use super::super::testing::{FAM, TestNode, entries, keys, node, tables_of};
use super::super::{Datum, DbEffect, Entries};
use crate::value::Str;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// The numbers for which `w`, and then `g`, wait for room, distinct from those of transfers.
const W: u64 = 3;
const G: u64 = 4;

/// A global node with the slave `s`, which has `k`, the global node `g`, and the subscriber `w`.
fn network() -> TestNode {
    let mut global = TestNode::global("me");
    global.up("s");
    global.hear_from("s", Request::Slave(Some(tables_of("s", "k=1"))));
    global.up("g");
    global.hear_from("g", Request::Global);
    global.hear_from("g", Request::Set(tables_of("g", "")));
    global.up("w");
    global.hear_from("w", Request::Slave(Some(tables_of("w", ""))));
    global.hear_from("w", Request::Monitor(FAM.into()));
    global.effects();
    global
}

fn update(global: &mut TestNode, set: &str, delete: &str) {
    let (set, delete) = (Some(entries(set)), Some(keys(delete)));
    global.hear_from("s", Request::Update { family: FAM.into(), set, delete });
}

fn no_room(global: &mut TestNode, id: &str) {
    global.db.has_no_room(&node(id), global.now);
}

fn room(global: &mut TestNode, id: &str, number: u64) {
    global.db.has_room(&node(id), number, global.now);
}

fn held(global: &TestNode, id: &str) -> usize {
    global.db.global().unwrap().held(&node(id))
}

#[test]
fn what_waits_for_room_is_one_change_for_each_key_and_the_newest() {
    let mut global = network();
    no_room(&mut global, "w");
    no_room(&mut global, "w");
    assert_eq!(global.effects(), ["room at w for 3"]);
    for n in 0..100 {
        update(&mut global, &format!("k={n} l={n}"), "");
        // Other nodes get everything.
        let told = format!(r#"g: ["g_upd", "fam", {{"k": {n}, "l": {n}}}, []]"#);
        assert_eq!(global.effects(), [told]);
        assert_eq!(held(&global, "w"), 2);
    }
    no_room(&mut global, "g");
    assert_eq!(global.effects(), ["room at g for 4"]);
    update(&mut global, "k=100", "l");
    assert_eq!(global.effects(), [""; 0]);
    room(&mut global, "g", W);
    assert_eq!(global.effects(), [""; 0], "that was room of another node");
    room(&mut global, "w", W);
    assert_eq!(global.effects(), [r#"w: ["g_chg2", "fam", {"k": 100}, []]"#], "it never saw l");
    room(&mut global, "g", G);
    assert_eq!(global.effects(), [r#"g: ["g_upd", "fam", {"k": 100}, ["l"]]"#], "it did");
    update(&mut global, "k=101", "");
    assert_eq!(global.effects().len(), 2, "both are told at once again");
}

#[test]
fn keys_that_come_and_go_while_there_is_no_room_are_not_mentioned() {
    let mut global = network();
    no_room(&mut global, "w");
    no_room(&mut global, "g");
    global.effects();
    update(&mut global, "new=1", "");
    update(&mut global, "", "new k");
    // A slave connects with a whole database, and disconnects.
    global.up("t");
    global.effects();
    global.hear_from("t", Request::Slave(Some(tables_of("", "other=1"))));
    global.down("t");
    room(&mut global, "w", W);
    room(&mut global, "g", G);
    assert_eq!(
        global.effects(),
        [r#"w: ["g_chg2", "fam", {}, ["k"]]"#, r#"g: ["g_upd", "fam", {}, ["k"]]"#,]
    );
}

#[test]
fn what_waits_comes_before_every_answer() {
    for (request, answer) in [
        (Request::Find(node("s")), r#"w: ["g_found", "s", ["s:1"]]"#),
        (Request::Monitor("none".into()), r#"w: ["g_chg1", "none", undef]"#),
        (
            Request::Query { kind: QueryKind::Keys, family: FAM.into(), id: Datum::string("q") },
            r#"w: ["g_reply", "q", ["k"]]"#,
        ),
    ] {
        let mut global = network();
        no_room(&mut global, "w");
        update(&mut global, "k=2", "");
        global.effects();
        global.hear_from("w", request);
        assert_eq!(global.effects(), [r#"w: ["g_chg2", "fam", {"k": 2}, []]"#, answer]);
        // There is still no room.
        update(&mut global, "k=3", "");
        assert_eq!(global.effects().len(), 1, "only the other global node is told");
    }
}

#[test]
fn much_that_waits_is_one_effect_at_a_barrier_and_some_keys_at_a_time_when_there_is_room() {
    const KEYS: usize = 6000;
    let mut global = network();
    no_room(&mut global, "w");
    let change = |global: &mut TestNode, value: usize| {
        let set: Vec<String> = (0..KEYS).map(|key| format!("key{key}={value}")).collect();
        update(global, &set.join(" "), "");
        global.effects();
    };
    change(&mut global, 1);
    global.hear_from("w", Request::Find(node("s")));
    let effects = global.db.take_effects();
    let [DbEffect::SendLater { packets, .. }, DbEffect::Send { .. }] = &effects[..] else {
        panic!("{}", effects.len());
    };
    let octets = packets.octets();
    let packets = packets.as_ref().clone().into_packets();
    let [packet] = &packets[..] else { panic!("{}", packets.len()) };
    type Change = (String, String, String, BTreeMap<String, u32>, Vec<String>);
    let (_, _, _, set, _) = packet.decode::<Change>().unwrap();
    assert!(set.len() == KEYS && set.values().all(|value| *value == 1));
    assert!((octets / 2..=octets).contains(&packet.octets_len()), "{octets}");

    assert_eq!(held(&global, "w"), 0);
    change(&mut global, 2);
    let mut rooms = 0;
    while held(&global, "w") > 0 {
        let before = held(&global, "w");
        room(&mut global, "w", W);
        assert!((1..=2048).contains(&(before - held(&global, "w"))));
        rooms += 1;
    }
    assert_eq!(rooms, 3);
}

#[test]
fn what_waits_goes_in_pieces_each_of_which_waits_for_room() {
    let mut global = network();
    global.db.set_piece(1);
    no_room(&mut global, "w");
    update(&mut global, "a=1 b=2", "k");
    global.effects();
    for told in [r#"{"a": 1}, []"#, r#"{"b": 2}, []"#] {
        room(&mut global, "w", W);
        let told = format!(r#"w: ["g_chg2", "fam", {told}]"#);
        assert_eq!(global.effects(), [told, "room at w for 3".to_owned()]);
    }
    room(&mut global, "w", W);
    assert_eq!(global.effects(), [r#"w: ["g_chg2", "fam", {}, ["k"]]"#]);
    assert_eq!(held(&global, "w"), 0);
}

#[test]
fn a_new_key_that_a_transfer_has_sent_after_all_is_deleted_at_the_other_global_node() {
    let mut global = TestNode::global("me");
    global.db.set_piece(1);
    global.up("s");
    global.hear_from("s", Request::Slave(Some(tables_of("", "a=1 b=1"))));
    global.up("g");
    global.effects();
    global.hear_from("g", Request::Global);
    let [.., wait] = &global.effects()[..] else { panic!("it waits for room") };
    assert_eq!(wait, "room at g for 2");
    update(&mut global, "", "b");
    no_room(&mut global, "g");
    update(&mut global, "b=2", "");
    global.effects();
    let b_2 = [r#"g: ["g_upd", "fam", {"b": 2}, []]"#];
    while global.effects() != b_2 {
        room(&mut global, "g", 2);
    }
    update(&mut global, "", "b");
    room(&mut global, "g", 3);
    assert_eq!(global.effects(), [r#"g: ["g_upd", "fam", {}, ["b"]]"#]);
}

#[test]
fn nothing_waits_for_nodes_that_are_not_told_of_changes_any_more() {
    let mut global = network();
    no_room(&mut global, "s");
    assert_eq!(global.effects(), [""; 0], "it monitors nothing");
    no_room(&mut global, "w");
    no_room(&mut global, "g");
    update(&mut global, "k=2", "");
    global.hear_from("w", Request::Unmonitor(FAM.into()));
    assert_eq!(held(&global, "w"), 0);
    global.down("g");
    assert_eq!(held(&global, "g"), 0);
    global.effects();
    room(&mut global, "g", G);
    assert_eq!(global.effects(), [""; 0]);
    // The next connection begins with room.
    global.up("g");
    global.hear_from("g", Request::Global);
    global.effects();
    update(&mut global, "k=3", "");
    assert_eq!(global.effects(), [r#"g: ["g_upd", "fam", {"k": 3}, []]"#]);
}

#[derive(Debug, Clone)]
enum Step {
    Update(usize, Entries, Vec<Str>),
    Database(usize, Entries),
    NoRoom,
    Room,
    Barrier,
}

fn step() -> impl Strategy<Value = Step> {
    let key = || (0..4_u8).prop_map(|n| Str::from(format!("k{n}")));
    let set = proptest::collection::btree_map(key(), (0..3_i64).prop_map(Datum::int), 0..3)
        .prop_map(|map| map.into_iter().collect::<Entries>());
    prop_oneof![
        2 => (0..2_usize, set.clone()).prop_map(|(slave, set)| Step::Database(slave, set)),
        6 => (0..2_usize, set, proptest::collection::vec(key(), 0..3))
            .prop_map(|(slave, set, delete)| Step::Update(slave, set, delete)),
        1 => Just(Step::NoRoom),
        1 => Just(Step::Room),
        1 => Just(Step::Barrier),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn who_is_told_late_knows_what_who_is_told_at_once_knows(
        steps in proptest::collection::vec(step(), 1..80)
    ) {
        let mut global = network();
        global.db.set_piece(40);
        global.up("t");
        global.hear_from("t", Request::Slave(Some(tables_of("t", ""))));
        // Slaves of a lost global node are expected: what they bring is held back for one turn.
        global.up("x");
        global.hear_from("x", Request::Global);
        global.hear_from("x", Request::Set(tables_of("x y", "k0=1 k1=1")));
        global.down("x");
        global.turn();
        let of = |text| entries(text).into_iter().collect::<BTreeMap<_, _>>();
        let mut known = [of("k=1 k0=1 k1=1"), of("k=1")];
        let mut numbers = [None, None];
        // Nodes delete the entries that they have set.
        let mut owned = [BTreeSet::from([Str::from("k")]), BTreeSet::new()];
        let mut steps = steps;
        steps.extend((0..40).map(|_| Step::Room));
        for step in steps {
            match step {
                Step::Update(slave, set, mut delete) => {
                    let owned = &mut owned[slave];
                    delete.retain(|key| owned.contains(key) && !set.contains(key));
                    owned.extend(set.keys().cloned());
                    delete.iter().for_each(|key| {
                        owned.remove(key);
                    });
                    let (set, delete) = (Some(set), Some(delete));
                    let request = Request::Update { family: FAM.into(), set, delete };
                    global.hear_from(["s", "t"][slave], request);
                }
                Step::Database(slave, set) => {
                    owned[slave] = set.keys().cloned().collect();
                    let database = Request::Slave(Some([(FAM.into(), set)].into()));
                    global.hear_from(["s", "t"][slave], database);
                }
                Step::NoRoom => ["w", "g"].iter().for_each(|id| no_room(&mut global, id)),
                Step::Room => {
                    for (id, number) in ["w", "g"].iter().zip(numbers) {
                        if let Some(number) = number {
                            room(&mut global, id, number);
                        }
                    }
                }
                Step::Barrier => global.hear_from("w", Request::Find(node("s"))),
            }
            for effect in global.db.take_effects() {
                match effect {
                    DbEffect::AwaitRoom { node: of, number } => {
                        numbers[usize::from(of == node("g"))] = Some(number);
                    }
                    DbEffect::Send { to, packet } => {
                        let elements = packet.as_elements().after(1);
                        let name = elements.first_str().unwrap();
                        let request = Request::parse(name, elements.after(1)).unwrap().unwrap();
                        let (set, delete) = match request {
                            Request::Update { family, set, delete } if family == *FAM => {
                                (set.unwrap_or_default(), delete.unwrap_or_default())
                            }
                            Request::Changed { set, delete, .. } => (set, delete),
                            _ => continue,
                        };
                        for to in to.iter() {
                            let known = &mut known[usize::from(*to == node("g"))];
                            for (key, value) in &set {
                                prop_assert!(!delete.contains(key));
                                known.insert(key.clone(), value.clone());
                            }
                            for key in &delete {
                                prop_assert!(known.remove(key).is_some(), "{key} was never told");
                            }
                        }
                    }
                    _ => {}
                }
            }
            // Five keys, and the addresses of two slaves.
            prop_assert!(held(&global, "w") <= 5 && held(&global, "g") <= 7);
        }
        let merge = global.db.global().unwrap().merge();
        let merged: BTreeMap<_, _> =
            merge.family(&FAM.into()).map(|(key, value)| (key.clone(), value.clone())).collect();
        prop_assert_eq!(&known[0], &merged);
        let of_slave = |key: &Str| merge.value_of_slaves(&FAM.into(), key).cloned();
        let of_slaves: BTreeMap<_, _> =
            merged.keys().filter_map(|key| Some((key.clone(), of_slave(key)?))).collect();
        prop_assert_eq!(&known[1], &of_slaves);
    }
}
