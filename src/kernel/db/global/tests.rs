//! The requests that a global node sends, with the tests taking the part of all other nodes.

use super::super::entries::Tables;
use super::super::request::QueryKind;
use super::super::testing::{TestNode, entries, keys, node};
use super::*;

fn tables(text: &str) -> Tables {
    let entries = entries(text);
    if entries.is_empty() { Tables::new() } else { [("fam".into(), entries)].into() }
}

fn slave(global: &mut TestNode, id: &str, content: &str) {
    global.up(id);
    global.hear_from(id, Request::Slave(Some(tables(content))));
}

/// Another global node, with the entries of its slaves.
fn peer(global: &mut TestNode, id: &str, content: &str) {
    global.up(id);
    global.hear_from(id, Request::Global);
    global.hear_from(id, Request::Set(tables(content)));
}

fn update(global: &mut TestNode, from: &str, set: &str, delete: &str) {
    let (set, delete) = (Some(entries(set)), Some(keys(delete)));
    global.hear_from(from, Request::Update { family: "fam".into(), set, delete });
}

fn location(family: &str, id: &str, address: Datum) -> Request {
    let set = Some([(id.into(), address)].into_iter().collect());
    Request::Update { family: family.into(), set, delete: None }
}

fn addresses(text: &str) -> Datum {
    Datum::strings(&keys(text))
}

fn monitor(global: &mut TestNode, from: &str) {
    global.hear_from(from, Request::Monitor("fam".into()));
}

#[test]
fn a_node_that_is_asked_becomes_global_and_says_so() {
    let mut me = TestNode::new("me");
    me.db.set_location(&["me:1".into()], me.now);
    me.up("a");
    me.up("b");
    assert!(!me.db.is_global());
    me.hear_from("a", Request::Slave(None));
    assert!(me.db.is_global());
    assert_eq!(me.db.master(), Some(&node("me")));
    assert_eq!(me.effects(), [r#"a,b: ["g_global"]"#]);
    assert!(!me.db.global().unwrap().is_slave(&node("a")));
    me.hear_from("a", Request::Slave(None));
    assert!(me.effects().is_empty());
    me.up("c");
    assert_eq!(me.effects(), [r#"c: ["g_global"]"#]);
    let merge = me.db.global().unwrap().merge();
    assert_eq!(merge.get(&"'g".into(), &"me".into()), Some(&Datum::UNDEF));
    assert_eq!(me.db.location(&node("me")), Some(keys("me:1")));
}

#[test]
fn a_slave_becomes_global_with_all_that_it_wants() {
    let mut me = TestNode::new("me");
    me.up("m");
    me.hear_from("m", Request::Global);
    me.adopt("m");
    me.monitor();
    me.content_from("m", "x=1");
    me.db.find(node("me"), me.now);
    me.set("k", Datum::int(1));
    me.effects();
    me.db.become_global(me.now);
    me.db.become_global(me.now);
    assert_eq!(
        me.effects(),
        [
            r#"m: ["g_mon0", "fam"]"#,
            "found me None",
            "1 +[k=1] ~[] -[]",
            r#"m: ["g_global"]"#,
            r#"m: ["g_upd", "'g", {"m": undef}, []]"#,
            "keep m",
            r#"m: ["g_set", {"'g": {"m": undef, "me": undef}, "fam": {"k": 1}}]"#,
        ]
    );
    peer_database(&mut me, "m", "x=1");
    assert!(me.effects().iter().all(|effect| !effect.contains("-[x]")));
    me.wait(100);
    assert!(me.effects().is_empty(), "x came back in time");
}

fn peer_database(me: &mut TestNode, id: &str, content: &str) {
    me.hear_from(id, Request::Set(tables(content)));
}

#[test]
fn subscribers_are_told_with_one_packet_for_all() {
    let mut me = TestNode::global("me");
    slave(&mut me, "s1", "k=1");
    slave(&mut me, "s2", "");
    me.effects();
    for id in ["s1", "s2"] {
        monitor(&mut me, id);
        assert_eq!(me.effects(), [format!(r#"{id}: ["g_chg1", "fam", {{"k": 1}}]"#)]);
    }
    me.monitor();
    assert_eq!(me.effects(), ["1 initially +[k=1] ~[] -[]"]);
    update(&mut me, "s1", "k=2", "");
    assert_eq!(me.effects(), [r#"s1,s2: ["g_chg2", "fam", {"k": 2}, []]"#, "1 +[] ~[k=2] -[]"]);
    me.set("own", Datum::UNDEF);
    assert_eq!(
        me.effects(),
        [r#"s1,s2: ["g_chg2", "fam", {"own": undef}, []]"#, "1 +[own=undef] ~[] -[]"]
    );
    me.hear_from("s1", Request::Unmonitor("fam".into()));
    me.hear_from("s1", Request::Unmonitor("fam".into()));
    update(&mut me, "s2", "k=3", "");
    assert_eq!(me.effects()[0], r#"s2: ["g_chg2", "fam", {"k": 3}, []]"#);
}

#[test]
fn two_requests_to_monitor_give_two_contents_and_one_subscription() {
    let mut me = TestNode::global("me");
    slave(&mut me, "s", "");
    me.effects();
    monitor(&mut me, "s");
    monitor(&mut me, "s");
    assert_eq!(me.effects(), [r#"s: ["g_chg1", "fam", undef]"#; 2]);
    update(&mut me, "s", "k=1", "");
    assert_eq!(me.effects().len(), 1);
    me.hear_from("s", Request::Unmonitor("fam".into()));
    update(&mut me, "s", "k=2", "");
    assert!(me.effects().is_empty());
}

#[test]
fn questions_are_answered_from_the_merge() {
    let mut me = TestNode::global("me");
    slave(&mut me, "s", "k=1 l=2");
    me.hear_from("s", location("'l", "s", addresses("s:1 s:2")));
    me.hear_from("s", location("'l", "gone", Datum::UNDEF));
    me.effects();
    for id in ["s", "gone", "nobody"] {
        me.hear_from("s", Request::Find(node(id)));
    }
    assert_eq!(
        me.effects(),
        [
            r#"s: ["g_found", "s", ["s:1", "s:2"]]"#,
            r#"s: ["g_found", "gone", undef]"#,
            r#"s: ["g_found", "nobody", undef]"#,
        ]
    );
    for family in ["fam", "none"] {
        for kind in [QueryKind::Family, QueryKind::Keys, QueryKind::Values] {
            me.hear_from("s", Request::Query { kind, family: family.into(), id: Datum::int(7) });
        }
    }
    assert_eq!(
        me.effects(),
        [
            r#"s: ["g_reply", 7, {"k": 1, "l": 2}]"#,
            r#"s: ["g_reply", 7, ["k", "l"]]"#,
            r#"s: ["g_reply", 7, [1, 2]]"#,
            r#"s: ["g_reply", 7, {}]"#,
            r#"s: ["g_reply", 7, []]"#,
            r#"s: ["g_reply", 7, []]"#,
        ]
    );
    me.db.query(QueryKind::Family, "fam".into(), me.now);
    me.db.get("fam".into(), "l".into(), me.now);
    me.db.find(node("s"), me.now);
    assert_eq!(
        me.effects(),
        ["1 k=1 l=2", "2 Value(Some(2))", r#"found s Some(["s:1", "s:2"])"#],
        "our own questions take no detour"
    );
}

#[test]
fn global_nodes_that_meet_exchange_what_their_slaves_have() {
    let mut me = TestNode::global("me");
    slave(&mut me, "s", "k=1");
    me.effects();
    me.up("g");
    assert_eq!(me.effects(), [r#"g: ["g_global"]"#]);
    me.hear_from("g", Request::Global);
    assert_eq!(
        me.effects(),
        [
            r#"g: ["g_upd", "'g", {"g": undef}, []]"#,
            "keep g",
            r#"g: ["g_set", {"'g": {"g": undef, "me": undef}, "'l": {"me": ["me:1"]}, "fam": {"k": 1}}]"#,
        ]
            .map(|effect| effect.to_owned())
    );
    let mut tables = tables("k=2 l=2");
    tables.insert("'l".into(), [("g".into(), addresses("g:1"))].into_iter().collect());
    me.hear_from("g", Request::Set(tables));
    assert_eq!(
        me.effects(),
        ["located g", r#"g: ["g_upd", "'l", {"g": ["g:1"]}, []]"#, "located g"]
    );
    me.hear_from("g", Request::Global);
    assert!(me.effects().is_empty(), "it has said so before");
    update(&mut me, "s", "m=1", "k");
    assert_eq!(me.effects(), [r#"g: ["g_upd", "fam", {"m": 1}, ["k"]]"#]);
    update(&mut me, "g", "k=5", "l");
    assert!(me.effects().is_empty(), "it is not told of its own changes, nor is anybody else");
}

#[test]
fn a_lost_global_node_takes_everything_with_it() {
    let mut me = TestNode::global("me");
    slave(&mut me, "s", "k=1");
    peer(&mut me, "g", "k=2 l=2");
    peer(&mut me, "h", "");
    me.hear_from("g", location("'l", "g", addresses("g:1")));
    monitor(&mut me, "s");
    me.effects();
    me.down("g");
    assert_eq!(
        me.effects(),
        [
            r#"h: ["g_upd", "'g", {}, ["g"]]"#,
            "keep g no more",
            r#"h: ["g_upd", "'l", {}, ["g"]]"#,
            r#"s: ["g_chg2", "fam", {"k": 1}, ["l"]]"#,
        ]
    );
    assert!(!me.db.is_peer_global(&node("g")));
    assert_eq!(me.db.location(&node("g")), None);
    me.down("g");
    assert!(me.effects().is_empty());
}

#[test]
fn a_lost_slave_takes_its_entries_and_subscriptions_with_it() {
    let mut me = TestNode::global("me");
    slave(&mut me, "s", "k=1 l=1");
    slave(&mut me, "t", "l=2");
    peer(&mut me, "g", "");
    monitor(&mut me, "s");
    me.hear_from("t", location("'l", "t", addresses("t:1")));
    me.effects();
    me.down("t");
    assert_eq!(
        me.effects(),
        [
            r#"g: ["g_upd", "'l", {}, ["t"]]"#,
            r#"g: ["g_upd", "fam", {"l": 1}, []]"#,
            r#"s: ["g_chg2", "fam", {"l": 1}, []]"#,
        ]
    );
    me.down("s");
    assert_eq!(me.effects(), [r#"g: ["g_upd", "fam", {}, ["k", "l"]]"#]);
    assert_eq!(me.db.global().unwrap().subscribers(&"fam".into()), 0);
    assert_eq!(me.db.global().unwrap().merge().family_len(&"fam".into()), 0);
}

#[test]
fn a_slave_that_turns_out_to_be_global_keeps_its_subscriptions() {
    let mut me = TestNode::global("me");
    slave(&mut me, "s", "k=1");
    peer(&mut me, "g", "");
    monitor(&mut me, "s");
    me.effects();
    me.hear_from("s", Request::Global);
    let effects = me.effects();
    assert!(effects.contains(&r#"g,s: ["g_upd", "'g", {"s": undef}, []]"#.to_owned()));
    peer_database(&mut me, "s", "k=2");
    assert_eq!(me.effects(), [r#"s: ["g_chg2", "fam", {"k": 2}, []]"#]);
    me.wait(5);
    assert_eq!(me.effects(), [r#"g,s: ["g_upd", "fam", {}, ["k"]]"#]);
    assert!(!me.db.global().unwrap().is_slave(&node("s")));
    me.hear_from("s", Request::Slave(Some(Tables::new())));
    assert_eq!(me.effects(), ["s: request g_slave ignored: it comes from a global node"]);
}

#[test]
fn a_second_database_of_a_slave_replaces_the_first() {
    let mut me = TestNode::global("me");
    slave(&mut me, "s", "k=1 l=1");
    peer(&mut me, "g", "x=1 y=1");
    monitor(&mut me, "s");
    me.effects();
    me.hear_from("s", Request::Slave(Some(tables("l=1 m=1"))));
    assert_eq!(
        me.effects(),
        [
            r#"g: ["g_upd", "fam", {"l": 1, "m": 1}, ["k"]]"#,
            r#"s: ["g_chg2", "fam", {"l": 1, "m": 1}, ["k"]]"#,
        ]
    );
    peer_database(&mut me, "g", "y=2");
    assert_eq!(me.effects(), [r#"s: ["g_chg2", "fam", {"y": 2}, ["x"]]"#]);
}

#[test]
fn a_stranger_is_heard_but_not_passed_on_and_is_reported() {
    let mut me = TestNode::global("me");
    slave(&mut me, "s", "");
    peer(&mut me, "g", "");
    monitor(&mut me, "s");
    me.up("o");
    me.effects();
    update(&mut me, "o", "k=1", "");
    assert_eq!(me.effects(), ["orphan o: g_upd", r#"s: ["g_chg2", "fam", {"k": 1}, []]"#]);
    me.hear_from("o", Request::Find(node("s")));
    monitor(&mut me, "o");
    me.hear_from(
        "o",
        Request::Query { kind: QueryKind::Keys, family: "fam".into(), id: Datum::UNDEF },
    );
    let effects = me.effects();
    assert_eq!(effects.len(), 6, "each is answered and reported");
    assert_eq!(effects.iter().filter(|effect| effect.starts_with("orphan")).count(), 3);
    me.down("o");
    assert_eq!(me.effects(), [r#"s: ["g_chg2", "fam", {}, ["k"]]"#]);
    slave(&mut me, "o", "k=2");
    update(&mut me, "o", "k=3", "");
    assert!(me.effects().iter().all(|effect| !effect.starts_with("orphan")));
}

#[test]
fn whoever_takes_us_for_its_master_while_we_are_not_global_is_reported() {
    let mut me = TestNode::new("me");
    me.up("o");
    update(&mut me, "o", "k=1", "");
    assert_eq!(
        me.effects(),
        ["o: request g_upd ignored: this node is not global", "orphan o: g_upd"]
    );
    peer(&mut me, "g", "");
    assert_eq!(me.effects(), ["g: request g_set ignored: this node is not global"]);
}

#[test]
fn two_globals_that_speak_for_one_slave_are_in_conflict() {
    let mut me = TestNode::global("me");
    slave(&mut me, "s", "");
    me.hear_from("s", location("'l", "s", addresses("s:1")));
    peer(&mut me, "g", "");
    me.effects();
    let mirrored = [("me", "me:1"), ("g", "g:1"), ("s", "s:1"), ("other", "o:1")];
    let locations = mirrored.iter().map(|(id, address)| (Str::from(*id), addresses(address)));
    me.hear_from("g", Request::Set([("'l".into(), locations.collect())].into()));
    let conflict = "conflict over s with g".to_owned();
    assert_eq!(me.effects().iter().filter(|&effect| *effect == conflict).count(), 1);
    assert_eq!(me.db.global().unwrap().announcers(&node("s")).len(), 2);
    me.hear_from("g", location("'l", "s", addresses("s:1")));
    assert!(me.effects().contains(&conflict));
    me.hear_from("g", location("'l", "s", Datum::UNDEF));
    me.hear_from("g", location("fam", "s", addresses("s:1")));
    me.hear_from("s", location("'l", "s", addresses("s:2")));
    assert!(!me.effects().contains(&conflict));
    me.db.drop_slave(&node("s"), me.now);
    assert_eq!(me.db.global().unwrap().announcers(&node("s")), [node("g")]);
    me.db.drop_slave(&node("me"), me.now);
    me.db.drop_slave(&node("g"), me.now);
    assert!(me.db.location(&node("me")).is_some() && me.db.location(&node("g")).is_some());
}

#[test]
fn a_location_of_null_is_missing() {
    let mut me = TestNode::global("me");
    me.up("g");
    me.hear_from("g", Request::Global);
    let mut tables = Tables::new();
    tables.insert("'l".into(), [("g".into(), Datum::UNDEF)].into_iter().collect());
    me.effects();
    me.hear_from("g", Request::Set(tables.clone()));
    assert_eq!(me.effects(), ["unlocated g"], "there is nothing to mirror");
    me.hear_from("g", location("'l", "g", addresses("g:1")));
    assert!(me.effects().contains(&r#"g: ["g_upd", "'l", {"g": ["g:1"]}, []]"#.to_owned()));
    me.hear_from("g", Request::Set(Tables::new()));
    assert!(me.effects().contains(&r#"g: ["g_upd", "'l", {}, ["g"]]"#.to_owned()));
    assert_eq!(me.db.location(&node("g")), None);
}

#[test]
fn connections_to_all_global_nodes_that_anybody_knows_are_kept() {
    let mut me = TestNode::global("me");
    peer(&mut me, "g", "");
    me.effects();
    let update = |set: &str, delete: &str| Request::Update {
        family: "'g".into(),
        set: Some(entries(set)),
        delete: Some(keys(delete)),
    };
    me.hear_from("g", update("h=1 me=1 g=1 a#b=1", ""));
    assert_eq!(me.effects(), ["keep h"]);
    me.hear_from("g", update("", "h g"));
    assert_eq!(me.effects(), ["keep h no more"], "we know g ourselves");
}

#[test]
fn connected_nodes_are_seen_to_be_located() {
    let mut me = TestNode::global("me");
    slave(&mut me, "s", "");
    peer(&mut me, "g", "");
    me.effects();
    me.hear_from("g", location("'l", "s", addresses("s:1")));
    me.hear_from("g", location("'l", "elsewhere", addresses("e:1")));
    me.hear_from(
        "g",
        Request::Update { family: "'l".into(), set: None, delete: Some(keys("s elsewhere")) },
    );
    let effects = me.effects();
    let seen: Vec<_> = effects.iter().filter(|effect| effect.contains("ocated")).collect();
    assert_eq!(seen, ["located s", "unlocated s"]);
}

#[test]
fn a_malformed_request_changes_nothing() {
    use crate::value::Packed;
    let mut me = TestNode::global("me");
    slave(&mut me, "s", "k=1");
    me.effects();
    let mut deaf = |name: &str, arguments: Packed| {
        let before = format!("{:?}", me.db);
        assert!(me.db.receive(&node("s"), name.into(), arguments.as_elements(), me.now));
        let effects = me.effects();
        assert_eq!(format!("{:?}", me.db), before);
        assert_eq!(effects.len(), 1);
        effects[0].clone()
    };
    let list = ["x", "y"];
    assert_eq!(
        deaf("g_upd", Packed::of(&("fam", [("k", 2)].as_slice())).unwrap()),
        "s: malformed request g_upd: set is not a hash; nothing of it was applied"
    );
    let set = std::collections::BTreeMap::from([("k", 2)]);
    deaf("g_upd", Packed::of(&("fam", &set, "l")).unwrap());
    deaf("g_upd", Packed::of(&("'l", &set)).unwrap());
    deaf("g_slave", Packed::of(&(list,)).unwrap());
    deaf("g_slave", Packed::of(&(&set,)).unwrap());
    deaf("g_set", Packed::of(&(1,)).unwrap());
    deaf("g_mon1", Packed::default());
    deaf("g_find", Packed::of(&("",)).unwrap());
    assert!(!me.db.receive(&node("s"), "snd".into(), packed::Elements::EMPTY, me.now));
}
