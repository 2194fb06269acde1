//! Requests of peers, well-formed and malformed.

use super::*;
use packed::{put_array, put_float, put_hash, put_int, put_text, put_undef};

fn parse(request: &str, put: impl FnOnce(&mut Vec<u8>) -> usize) -> Result<Request, String> {
    let mut octets = Vec::new();
    let len = put(&mut octets);
    Request::parse(request.into(), Elements::new(len, &octets))
        .unwrap()
        .map_err(|error| error.to_string())
}

fn entries(pairs: &[(&str, i64)]) -> Entries {
    pairs.iter().map(|&(key, value)| (key.into(), Datum::int(value))).collect()
}

#[test]
fn every_request_is_parsed_as_it_was_encoded() {
    let tables: Tables = [("fam".into(), entries(&[("k", 1), ("l", 2)]))].into();
    let family = Str::octets(&b"\xe9"[..]);
    for request in [
        Request::Slave(None),
        Request::Slave(Some(tables.clone())),
        Request::Set(tables),
        Request::Update { family: family.clone(), set: Some(entries(&[("k", 1)])), delete: None },
        Request::Update { family: family.clone(), set: None, delete: Some(vec!["k".into()]) },
        Request::Update {
            family: family.clone(),
            set: Some(Entries::new()),
            delete: Some(Vec::new()),
        },
        Request::Find("node".parse().unwrap()),
        Request::Found { node: "node".parse().unwrap(), addresses: None },
        Request::Found { node: "node".parse().unwrap(), addresses: Some(vec!["h:1".into()]) },
        Request::Query { kind: QueryKind::Family, family: family.clone(), id: Datum::string("b") },
        Request::Query { kind: QueryKind::Keys, family: family.clone(), id: Datum::int(7) },
        Request::Query { kind: QueryKind::Values, family: family.clone(), id: Datum::UNDEF },
        Request::Reply { id: Datum::string("b"), result: Datum::strings(&[]) },
        Request::Monitor(family.clone()),
        Request::Unmonitor(family.clone()),
        Request::Family { family: family.clone(), content: None },
        Request::Family { family: family.clone(), content: Some(entries(&[("k", 1)])) },
        Request::Changed { family, set: entries(&[("k", 1)]), delete: vec!["d".into()] },
        Request::Global,
    ] {
        let mut octets = Vec::new();
        let len = request.encode(&mut octets);
        let elements = Elements::new(len, &octets);
        let name = elements.first_str().unwrap();
        assert_eq!(name.kind(), crate::value::StrKind::Octets);
        assert_eq!(Request::parse(name, elements.after(1)), Some(Ok(request)));
    }
}

#[test]
fn numbers_are_names_too() {
    let parsed = parse("g_upd", |out| {
        put_int(out, 42);
        put_undef(out);
        put_array(out, 2);
        put_int(out, -1);
        put_float(out, 1.5);
        3
    });
    let delete = Some(vec!["-1".into(), "1.5".into()]);
    assert_eq!(parsed, Ok(Request::Update { family: "42".into(), set: None, delete }));
}

#[test]
fn what_is_no_database_request_is_left_alone() {
    assert_eq!(Request::parse("g_upd2".into(), Elements::EMPTY), None);
    assert!(!Request::is_known("snd".into()));
    assert!(Request::is_known("g_mon0".into()));
}

#[test]
fn malformed_requests_name_the_request_and_the_argument() {
    type Put = fn(&mut Vec<u8>) -> usize;
    let none: Put = |_| 0;
    let undef: Put = |out| {
        put_undef(out);
        1
    };
    let array: Put = |out| {
        put_array(out, 0);
        1
    };
    let family_and_array: Put = |out| {
        put_text(out, "f");
        put_array(out, 0);
        2
    };
    let family_and_hash_as_list: Put = |out| {
        put_text(out, "f");
        put_undef(out);
        put_hash(out, 0);
        3
    };
    let list_of_undef: Put = |out| {
        put_text(out, "f");
        put_undef(out);
        put_array(out, 1);
        put_undef(out);
        3
    };
    let family_is_array: Put = |out| {
        put_hash(out, 1);
        put_text(out, "f");
        put_array(out, 0);
        1
    };
    let bad_locations: Put = |out| {
        put_text(out, "'l");
        put_hash(out, 2);
        put_text(out, "a");
        put_undef(out);
        put_text(out, "b");
        put_text(out, "host:1");
        2
    };
    let bad_location_in_tables: Put = |out| {
        put_hash(out, 1);
        put_text(out, "'l");
        put_hash(out, 1);
        put_text(out, "b");
        put_text(out, "host:1");
        1
    };
    let cut: Put = |out| {
        put_text(out, "f");
        out.push(0xa5);
        2
    };
    let cases: &[(&str, Put, &str)] = &[
        ("g_slave", undef, "g_slave: database is not a hash"),
        ("g_slave", array, "g_slave: database is not a hash"),
        ("g_slave", family_is_array, "g_slave: database is not a hash"),
        ("g_slave", bad_location_in_tables, "g_slave: addresses is not an array of strings"),
        ("g_set", none, "g_set: database is missing"),
        ("g_set", array, "g_set: database is not a hash"),
        ("g_upd", none, "g_upd: family is missing"),
        ("g_upd", undef, "g_upd: family is not a string"),
        ("g_upd", family_and_array, "g_upd: set is not a hash"),
        ("g_upd", family_and_hash_as_list, "g_upd: keys to delete is not an array of strings"),
        ("g_upd", list_of_undef, "g_upd: keys to delete is not an array of strings"),
        ("g_upd", bad_locations, "g_upd: addresses is not an array of strings"),
        ("g_upd", cut, "g_upd: set is not in packed form"),
        ("g_find", none, "g_find: node is missing"),
        (
            "g_find",
            |out| {
                put_text(out, "a#b");
                1
            },
            "g_find: node is not a node ID",
        ),
        ("g_found", none, "g_found: node is missing"),
        (
            "g_found",
            |out| {
                put_text(out, "n");
                put_text(out, "a");
                2
            },
            "g_found: addresses is not an array of strings",
        ),
        ("g_db_family", none, "g_db_family: family is missing"),
        ("g_db_keys", array, "g_db_keys: family is not a string"),
        (
            "g_db_values",
            |out| {
                put_text(out, "f");
                1
            },
            "g_db_values: id is missing",
        ),
        (
            "g_db_values",
            |out| {
                put_text(out, "f");
                put_text(out, &"x".repeat(64 << 10));
                2
            },
            "g_db_values: id is longer than 64 KiB",
        ),
        (
            "g_get",
            |out| {
                put_text(out, "f");
                put_text(out, "k");
                put_array(out, 70_000);
                (0..70_000).for_each(|_| put_undef(out));
                3
            },
            "g_get: id is longer than 64 KiB",
        ),
        (
            "g_find",
            |out| {
                put_text(out, &"x".repeat((64 << 10) + 1));
                1
            },
            "g_find: node is longer than 64 KiB",
        ),
        ("g_reply", none, "g_reply: id is missing"),
        ("g_reply", undef, "g_reply: result is missing"),
        ("g_mon1", none, "g_mon1: family is missing"),
        ("g_mon0", array, "g_mon0: family is not a string"),
        ("g_chg1", family_and_array, "g_chg1: content is not a hash"),
        ("g_chg2", family_and_array, "g_chg2: set is not a hash"),
    ];
    for (request, put, error) in cases {
        assert_eq!(parse(request, put), Err(format!("malformed request {error}")));
    }
}

#[test]
fn a_global_node_is_believed_though_it_repeats_another_nodes_nonsense() {
    let parsed = parse("g_set", |out| {
        put_hash(out, 1);
        put_text(out, "'l");
        put_hash(out, 1);
        put_text(out, "n");
        put_int(out, 1);
        1
    });
    assert!(parsed.is_ok());
}
