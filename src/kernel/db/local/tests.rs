//! The requests of a slave and the reports to its program, whatever its master does.

use super::super::testing::{FAM, TestNode, entries, keys, node, seconds};
use super::super::{Database, DbConfig, LOCATIONS};
use super::*;
use crate::value::packed;

#[test]
fn a_change_is_sent_and_no_change_is_not() {
    let mut slave = TestNode::with_master();
    slave.set("k", Datum::int(1));
    assert_eq!(slave.effects(), [r#"m: ["g_upd", "fam", {"k": 1}]"#]);
    slave.set("k", Datum::string("1"));
    assert!(slave.effects().is_empty(), "equal in Perl");
    slave.set("k", Datum::UNDEF);
    assert_eq!(slave.effects(), [r#"m: ["g_upd", "fam", {"k": undef}]"#]);
    slave.set("k", Datum::string(""));
    assert_eq!(slave.effects().len(), 1, "undef is not the empty string");
    slave.delete("k nothing");
    assert_eq!(slave.effects(), [r#"m: ["g_upd", "fam", undef, ["k"]]"#]);
    slave.delete("k nothing");
    assert!(slave.effects().is_empty());
}

#[test]
fn internal_families_are_not_written_by_programs() {
    let mut slave = TestNode::with_master();
    let error = slave.db.set(&"'l".into(), "me".into(), Datum::UNDEF, slave.now).unwrap_err();
    assert_eq!(error.to_string(), "family 'l is internal: it can be read, but not written");
    assert!(slave.db.delete(&"'x".into(), keys("k"), slave.now).is_err());
    slave.db.set_location(&["h:1".into()], slave.now);
    assert_eq!(slave.effects(), [r#"m: ["g_upd", "'l", {"me": ["h:1"]}]"#]);
}

#[test]
fn a_new_master_gets_everything_again() {
    let mut slave = TestNode::new("me");
    slave.set("k", Datum::int(1));
    slave.db.query(QueryKind::Keys, FAM.into(), slave.now);
    slave.db.find(node("other"), slave.now);
    slave.db.find(node("other"), slave.now);
    slave.monitor();
    slave.monitor();
    assert!(slave.effects().is_empty(), "there is nobody to ask yet");
    let all = [
        r#"["g_slave", {"fam": {"k": 1}}]"#,
        r#"["g_db_keys", "fam", "b"]"#,
        r#"["g_find", "other"]"#,
        r#"["g_mon1", "fam"]"#,
    ];
    slave.adopt("m");
    assert_eq!(slave.effects(), all.map(|request| format!("m: {request}")));
    slave.db.node_down(&node("m"), slave.now);
    assert_eq!(slave.db.master(), None);
    slave.adopt("m2");
    assert_eq!(slave.effects(), all.map(|request| format!("m2: {request}")));
    slave.hear_from("m2", Request::Reply { id: Datum::string("b"), result: Datum::strings(&[]) });
    slave.hear_from("m2", Request::Found { node: node("other"), addresses: None });
    assert_eq!(slave.effects(), ["1 Keys([])", "found other None"]);
    slave.adopt("m3");
    assert_eq!(slave.effects().len(), 2, "the database and the monitor");
}

#[test]
fn a_nodes_key_in_the_family_of_locations_costs_a_find_which_any_answer_of_the_master_ends() {
    for (addresses, value) in [
        (Some(vec!["me:1".into()]), "Some([\"me:1\",])"),
        (Some(vec![]), "Some([])"),
        (None, "None"),
    ] {
        let mut slave = TestNode::new("me");
        slave.db.set_piece(1);
        slave.set("k", Datum::int(1));
        slave.set("l", Datum::int(1));
        slave.db.get(LOCATIONS.into(), "me".into(), slave.now);
        slave.db.get(LOCATIONS.into(), "me".into(), slave.now);
        slave.adopt("m");
        // The request follows when the master has got everything.
        let [first, room] = &slave.effects()[..] else { panic!("two effects") };
        assert_eq!(first, r#"m: ["g_slave", {"fam": {"k": 1}}]"#);
        assert_eq!(room, "room at m for 1");
        slave.db.has_room(&node("m"), 1, slave.now);
        let find = r#"m: ["g_find", "me"]"#;
        assert_eq!(slave.effects(), [r#"m: ["g_upd", "fam", {"l": 1}]"#, find, find]);
        // The next master has to get it, too.
        slave.down("m");
        slave.db.set_piece(1 << 20);
        slave.adopt("m2");
        assert_eq!(slave.effects().len(), 3);
        let found = || Request::Found { node: node("me"), addresses: addresses.clone() };
        slave.hear_from("m", found());
        assert_eq!(
            slave.effects(),
            ["m: request g_found ignored: it does not come from our master"]
        );
        slave.hear_from("m2", found());
        assert_eq!(slave.effects(), [format!("1 Value({value})"), format!("2 Value({value})")]);
        slave.hear_from("m2", found());
        assert_eq!(slave.effects(), [""; 0]);
    }
}

#[test]
fn a_query_without_a_master_fails_in_time_whatever_it_asks_for() {
    let mut slave = TestNode::new("me");
    slave.db.get(LOCATIONS.into(), "me".into(), slave.now);
    slave.db.get(FAM.into(), "me".into(), slave.now);
    slave.wait(31);
    let error = QueryError::NoMaster;
    assert_eq!(slave.effects(), [format!("1 {error}"), format!("2 {error}")]);
}

#[test]
fn one_key_is_asked_for_by_the_request_that_the_master_knows() {
    let mut slave = TestNode::new("me");
    slave.db.get(FAM.into(), "k".into(), slave.now);
    slave.db.get(FAM.into(), "l".into(), slave.now);
    slave.adopt("perl");
    let [_, one, two] = &slave.effects()[..] else { panic!("three requests") };
    assert_eq!(one, r#"perl: ["g_db_family", "fam", "b"]"#);
    assert_eq!(two, r#"perl: ["g_db_family", "fam", "c"]"#);
    slave.down("perl");
    // Whether it supports the request is forgotten with the connection.
    slave.up("m");
    slave.db.knows_get(&node("m"));
    slave.adopt("m");
    let [_, one, two] = &slave.effects()[..] else { panic!("three requests") };
    assert_eq!(one, r#"m: ["g_get", "fam", "k", "b"]"#);
    assert_eq!(two, r#"m: ["g_get", "fam", "l", "c"]"#);
    let reply = |id, values: &[i64]| {
        let result = Datum::build(|out| {
            packed::put_array(out, values.len());
            values.iter().for_each(|value| packed::put_int(out, *value));
        });
        Request::Reply { id: Datum::string(id), result }
    };
    slave.hear(reply("b", &[5]));
    slave.hear(reply("c", &[]));
    assert_eq!(slave.effects(), ["1 Value(Some(5))", "2 Value(None)"]);
    slave.down("m");
    slave.adopt("m");
    slave.effects();
    slave.db.get(FAM.into(), "k".into(), slave.now);
    assert_eq!(slave.effects(), [r#"m: ["g_db_family", "fam", "d"]"#]);
}

#[test]
fn a_global_node_answers_itself() {
    let mut global = TestNode::global("me");
    global.set("k", Datum::int(1));
    global.db.get(LOCATIONS.into(), "me".into(), global.now);
    global.db.get(FAM.into(), "k".into(), global.now);
    global.db.get(FAM.into(), "l".into(), global.now);
    assert_eq!(
        global.effects(),
        [r#"1 Value(Some(["me:1",]))"#, "2 Value(Some(1))", "3 Value(None)"]
    );
}

#[test]
fn answers_find_their_queries() {
    let mut slave = TestNode::with_master();
    let now = slave.now;
    slave.db.query(QueryKind::Family, FAM.into(), now);
    slave.db.query(QueryKind::Keys, FAM.into(), now);
    slave.db.query(QueryKind::Values, FAM.into(), now);
    slave.db.get(FAM.into(), "l".into(), now);
    slave.db.get(FAM.into(), "none".into(), now);
    let cancelled = slave.db.query(QueryKind::Keys, FAM.into(), now);
    slave.db.cancel(cancelled);
    assert_eq!(
        slave.effects(),
        [
            r#"m: ["g_db_family", "fam", "b"]"#,
            r#"m: ["g_db_keys", "fam", "c"]"#,
            r#"m: ["g_db_values", "fam", "d"]"#,
            r#"m: ["g_db_family", "fam", "e"]"#,
            r#"m: ["g_db_family", "fam", "f"]"#,
            r#"m: ["g_db_keys", "fam", "g"]"#,
        ]
    );
    let hash = Datum::build(|out| entries("k=1 l=2").put(out));
    let numbers = Datum::build(|out| {
        packed::put_array(out, 2);
        packed::put_int(out, 5);
        packed::put_undef(out);
    });
    let keys = Datum::strings(&["k".into()]);
    for (id, result) in
        [("f", &hash), ("e", &hash), ("d", &numbers), ("c", &keys), ("b", &hash), ("b", &hash)]
    {
        slave.hear(Request::Reply { id: Datum::string(id), result: result.clone() });
    }
    slave.hear(Request::Reply { id: Datum::string("g"), result: keys });
    slave.hear(Request::Reply { id: Datum::UNDEF, result: hash });
    assert_eq!(
        slave.effects(),
        [
            "5 Value(None)",
            "4 Value(Some(2))",
            "3 Values([5, undef])",
            r#"2 Keys(["k"])"#,
            "1 k=1 l=2"
        ]
    );
}

#[test]
fn an_answer_of_the_wrong_kind_is_an_error() {
    let mut slave = TestNode::with_master();
    slave.db.query(QueryKind::Family, FAM.into(), slave.now);
    slave.db.query(QueryKind::Keys, FAM.into(), slave.now);
    slave.db.query(QueryKind::Values, FAM.into(), slave.now);
    slave.effects();
    for id in ["b", "c", "d"] {
        slave.hear(Request::Reply { id: Datum::string(id), result: Datum::int(1) });
    }
    let errors = slave.effects();
    assert_eq!(
        errors[0],
        "1 the master's answer is malformed: malformed request g_reply: result is not a hash"
    );
    assert!(errors[1].ends_with("not an array of strings") && errors[2].ends_with("not an array"));
}

#[test]
fn queries_and_finds_wait_for_a_master_only_so_long() {
    let mut slave = TestNode::new("me");
    slave.db.query(QueryKind::Keys, FAM.into(), slave.now);
    slave.wait(10);
    slave.db.find(node("other"), slave.now);
    slave.db.find(node("cancelled"), slave.now);
    slave.db.cancel_find(&node("cancelled"));
    assert_eq!(slave.db.deadline(), Some(seconds(130)));
    slave.wait(20);
    assert_eq!(slave.effects(), ["1 no global node was connected in time; are the seeds up?"]);
    slave.wait(10);
    assert_eq!(slave.effects(), ["found other None"]);
    assert_eq!(slave.db.deadline(), None);
}

#[test]
fn with_a_master_there_is_no_deadline_until_it_is_lost() {
    let mut slave = TestNode::new("me");
    slave.db.query(QueryKind::Keys, FAM.into(), slave.now);
    slave.adopt("m");
    slave.effects();
    slave.wait(1000);
    assert!(slave.effects().is_empty());
    slave.db.find(node("other"), slave.now);
    slave.db.master_lost(slave.now);
    slave.effects();
    slave.wait(29);
    assert!(slave.effects().is_empty());
    slave.wait(1);
    assert_eq!(slave.effects().len(), 2);
}

#[test]
fn one_subscription_serves_all_monitors() {
    let mut slave = TestNode::with_master();
    let first = slave.monitor();
    let second = slave.monitor();
    assert_eq!(slave.effects(), [r#"m: ["g_mon1", "fam"]"#]);
    slave.change("early=1", "");
    assert!(slave.effects().is_empty(), "the whole content comes first");
    slave.content("k=1");
    assert_eq!(slave.effects(), ["1 initially +[k=1] ~[] -[]", "2 initially +[k=1] ~[] -[]"]);
    slave.monitor();
    assert_eq!(slave.effects(), ["3 initially +[k=1] ~[] -[]"]);
    slave.db.unmonitor(first, slave.now);
    slave.change("k=2 l=3", "");
    assert_eq!(slave.effects(), ["2 +[l=3] ~[k=2] -[]", "3 +[l=3] ~[k=2] -[]"]);
    slave.db.unmonitor(second, slave.now);
    assert!(slave.effects().is_empty());
    slave.db.unmonitor(DbMonitorId(3), slave.now);
    slave.db.unmonitor(DbMonitorId(3), slave.now);
    assert_eq!(slave.effects(), [r#"m: ["g_mon0", "fam"]"#]);
    slave.change("k=4", "");
    slave.content("k=4");
    assert!(slave.effects().is_empty());
    slave.monitor();
    assert_eq!(slave.effects(), [r#"m: ["g_mon1", "fam"]"#]);
}

#[test]
fn a_monitor_of_an_empty_family_is_told_so() {
    let mut slave = TestNode::with_master();
    slave.monitor();
    slave.effects();
    slave.content("");
    assert_eq!(slave.effects(), ["1 initially +[] ~[] -[]"]);
    slave.monitor();
    assert_eq!(slave.effects(), ["2 initially +[] ~[] -[]"]);
}

#[test]
fn only_real_changes_are_reported() {
    let mut slave = TestNode::with_master();
    slave.monitor();
    slave.content("a=1 b=1 c=1");
    slave.effects();
    slave.change("a=1", "nothing");
    assert!(slave.effects().is_empty());
    slave.change("a=2 b=3 d=4", "b d c");
    assert_eq!(slave.effects(), ["1 +[] ~[a=2] -[b c]"], "sets apply before deletions");
    slave.content("a=2 e=1");
    assert_eq!(slave.effects(), ["1 +[e=1] ~[] -[]"]);
    slave.content("e=2");
    assert_eq!(slave.effects(), ["1 +[] ~[e=2] -[a]"], "the same master knows what is gone");
}

#[test]
fn only_the_master_is_believed() {
    let mut slave = TestNode::with_master();
    slave.monitor();
    slave.content("a=1");
    slave.db.query(QueryKind::Keys, FAM.into(), slave.now);
    slave.db.find(node("other"), slave.now);
    slave.effects();
    slave.content_from("x", "b=1");
    slave.hear_from("x", Request::Reply { id: Datum::string("b"), result: Datum::strings(&[]) });
    slave.hear_from("x", Request::Found { node: node("other"), addresses: None });
    assert_eq!(
        slave.effects(),
        ["g_chg1", "g_reply", "g_found"]
            .map(|name| format!("x: request {name} ignored: it does not come from our master"))
    );
}

#[test]
fn keys_that_a_new_master_does_not_have_yet_are_not_reported_as_deleted() {
    let mut slave = TestNode::with_master();
    slave.monitor();
    slave.content("back=1 changed=1 gone=1 deleted=1 there=1");
    slave.db.node_down(&node("m"), slave.now);
    slave.adopt("m2");
    slave.effects();
    slave.content_from("m2", "there=1");
    assert!(slave.effects().is_empty());
    assert_eq!(slave.db.deadline(), Some(seconds(105)));
    slave.monitor();
    let all = "2 initially +[back=1 changed=1 deleted=1 gone=1 there=1] ~[] -[]";
    assert_eq!(slave.effects(), [all], "a new monitor sees what the old one believes");
    slave.wait(4);
    let change = |set, delete| Request::Changed {
        family: FAM.into(),
        set: entries(set),
        delete: keys(delete),
    };
    slave.hear_from("m2", change("back=1", ""));
    assert!(slave.effects().is_empty());
    slave.hear_from("m2", change("changed=2 new=1", "deleted"));
    let seen = "+[new=1] ~[changed=2] -[deleted]";
    assert_eq!(slave.effects(), [format!("1 {seen}"), format!("2 {seen}")]);
    slave.wait(1);
    assert_eq!(slave.effects(), ["1 +[] ~[] -[gone]", "2 +[] ~[] -[gone]"]);
    slave.wait(1000);
    assert!(slave.effects().is_empty());
}

#[test]
fn without_a_master_nothing_is_reported_as_deleted() {
    let mut slave = TestNode::with_master();
    slave.monitor();
    slave.content("k=1 l=1");
    slave.adopt("m2");
    slave.content_from("m2", "k=1");
    slave.wait(3);
    slave.db.node_down(&node("m2"), slave.now);
    slave.effects();
    slave.wait(1000);
    assert!(slave.effects().is_empty());
    slave.adopt("m3");
    slave.effects();
    slave.content_from("m3", "l=1");
    slave.wait(4);
    assert!(slave.effects().is_empty());
    slave.wait(1);
    assert_eq!(slave.effects(), ["1 +[] ~[] -[k]"]);
}

/// Those who use a port learn of its loss from the connection to its node, as the database does.
#[test]
fn ports_of_lost_nodes_have_no_grace() {
    for lost_before in [true, false] {
        let mut slave = TestNode::with_master();
        slave.monitor();
        slave.content("w#1=1 w#2=1 w=1 w!#3=1 ww#4=1 v#5=1");
        slave.up("w");
        slave.up("v");
        if lost_before {
            slave.down("w");
        }
        slave.down("m");
        slave.adopt("m2");
        slave.effects();
        slave.content_from("m2", "");
        if !lost_before {
            assert!(slave.effects().is_empty());
            // Its connection is lost, or it cannot be connected.
            slave.db.node_lost(&node("w"), slave.now);
        }
        assert_eq!(slave.effects(), ["1 +[] ~[] -[w w#1 w#2]"]);
        slave.wait(5);
        assert_eq!(slave.effects(), ["1 +[] ~[] -[v#5 w!#3 ww#4]"]);
    }
}

/// Only entries that no other node announces are deleted with their node.
#[test]
fn ports_of_lost_nodes_stay_while_the_master_knows_them() {
    let mut slave = TestNode::with_master();
    slave.monitor();
    slave.content("w#1=1 w#2=1");
    slave.up("w");
    slave.down("w");
    slave.down("m");
    slave.adopt("m2");
    slave.content_from("m2", "w#1=1 w#2=1");
    slave.down("m2");
    slave.up("w");
    slave.adopt("m");
    slave.effects();
    slave.content_from("m", "w#1=1");
    assert!(slave.effects().is_empty(), "it is up again");
}

#[test]
fn a_change_before_the_new_masters_content_is_not_believed() {
    let mut slave = TestNode::with_master();
    slave.monitor();
    slave.content("k=1");
    slave.db.node_down(&node("m"), slave.now);
    slave.adopt("m");
    slave.effects();
    slave.change("k=0", "");
    assert!(slave.effects().is_empty());
    slave.content("k=2");
    assert_eq!(slave.effects(), ["1 +[] ~[k=2] -[]"]);
}

#[test]
fn no_grace_is_possible_too() {
    let config = DbConfig { patience: seconds(30), grace: Duration::ZERO };
    let mut slave = TestNode { db: Database::new(node("me"), config), now: seconds(0) };
    slave.adopt("m");
    slave.monitor();
    slave.content("k=1");
    slave.adopt("m2");
    slave.effects();
    slave.content_from("m2", "");
    assert_eq!(slave.effects(), ["1 +[] ~[] -[k]"]);
}

#[test]
fn query_ids_count_as_perls_do() {
    let ids: Vec<_> =
        [1, 2, 25, 26, 51, 52, 701, 702].into_iter().map(|n| query_id(n).to_string()).collect();
    assert_eq!(ids, ["b", "c", "z", "aa", "az", "ba", "zz", "aaa"]);
}
