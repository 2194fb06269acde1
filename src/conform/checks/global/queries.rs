//! §5.1 and §5.2: a global node's answers to its slaves.

use super::family::Family;
use super::global;
use crate::conform::check::{Check, run};
use crate::conform::checks::framings::{TAGGED, ensure_tags};
use crate::conform::checks::{ANY, REST};
use crate::conform::pattern;
use crate::conform::stop::{Verdict, ensure, skip};
use serde_json::{Value as Json, json};

/// The checks of this file.
pub(in crate::conform::checks) const CHECKS: &[Check] = &[
    global("g-global", "4.2a", "A node that is used as a seed sends g_global.")
        .by(run!(says_global)),
    global("g-global-later", "4.2a", "Sends g_global to every node that connects later.")
        .by(run!(says_global_later)),
    global("g-find", "5.1f", "Answers g_find of a node with its addresses.").by(run!(find)),
    global("g-find-unknown", "5.1f", "Answers g_find of a node that nobody knows with undef.")
        .by(run!(find_unknown)),
    global("g-find-itself", "5.1f", "Knows its own addresses.").by(run!(find_itself)),
    global("g-slave-db", "5.2a", "g_slave with a database makes its entries visible.")
        .by(run!(slave_database)),
    global("g-slave-nothing", "5.2a", "g_slave without a database removes nothing.")
        .by(run!(slave_again)),
    global("g-slave-replaces", "5.2a", "A second g_slave replaces the first database.")
        .ours()
        .by(run!(slave_replaces)),
    global("g-family", "5.1g", "Answers g_db_family with keys and values.")
        .by(run!(query("g_db_family", json!({"k1": "v1", "k2": [2]})))),
    global("g-keys", "5.1h", "Answers g_db_keys with the keys.")
        .by(run!(query_list("g_db_keys", json!(["k1", "k2"])))),
    global("g-values", "5.1i", "Answers g_db_values with the values.")
        .by(run!(query_list("g_db_values", json!(["v1", [2]])))),
    global("g-family-unknown", "5.1m", "A family that does not exist is empty.")
        .by(run!(unknown_family)),
    global("g-reply-id", "5.1l", "An answer has the ID of its query, whatever that is.")
        .by(run!(reply_ids)),
    global("g-get", "5.1r", "If its greeting says so, answers g_get with the value of one key.")
        .ours()
        .by(run!(get)),
    global("g-same-family", "2.1b", "Family and key are the same as octets and as text.")
        .by(run!(same_family)),
    global("g-values-kept", "5a", "Values are kept as they are.").by(run!(values_kept)),
    global("g-tags-kept", "2.5b", "The database keeps the tags of values.").by(run!(tags_kept)),
];

async fn says_global(f: Family) -> Verdict {
    let mut a = f.stranger("a").await?;
    a.send(json!(["", "g_slave"])).await?;
    a.expect(json!(["", "g_global"])).await?;
    Ok(())
}

async fn says_global_later(f: Family) -> Verdict {
    let mut a = f.stranger("a").await?;
    a.send(json!(["", "g_slave"])).await?;
    a.expect(json!(["", "g_global"])).await?;
    let mut b = f.stranger("b").await?;
    b.expect(json!(["", "g_global"])).await?;
    Ok(())
}

async fn find(f: Family) -> Verdict {
    let a = f.slave("a", json!({})).await?;
    let mut b = f.slave("b", json!({})).await?;
    b.send(json!(["", "g_find", a.me])).await?;
    b.expect_first(json!(["", "g_found", REST]), json!(["", "g_found", a.me, ["127.0.0.1:1"]]))
        .await?;
    Ok(())
}

async fn find_unknown(f: Family) -> Verdict {
    let mut a = f.slave("a", json!({})).await?;
    let nobody = f.nobody();
    a.send(json!(["", "g_find", nobody])).await?;
    a.expect_first(json!(["", "g_found", REST]), json!(["", "g_found", nobody, null])).await?;
    Ok(())
}

async fn find_itself(f: Family) -> Verdict {
    let mut a = f.slave("a", json!({})).await?;
    let node = a.node.clone();
    a.send(json!(["", "g_find", node])).await?;
    let found = a.expect(json!(["", "g_found", node, ANY])).await?;
    let addresses = found.get(3).map(pattern::to_json).unwrap_or_default();
    let is_address = |address: &Json| {
        address.as_str().is_some_and(|text| {
            text.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok())
        })
    };
    let all = addresses.as_array().is_some_and(|all| !all.is_empty() && all.iter().all(is_address));
    ensure(all, || format!("its addresses are {addresses}"))
}

async fn slave_database(f: Family) -> Verdict {
    let _a = f.slave("a", json!({"k": "v"})).await?;
    let mut b = f.slave("b", json!({})).await?;
    b.finds(json!({"k": "v"})).await
}

async fn slave_again(f: Family) -> Verdict {
    let mut a = f.slave("a", json!({"k": "v"})).await?;
    a.send(json!(["", "g_slave"])).await?;
    a.finds(json!({"k": "v"})).await
}

async fn slave_replaces(f: Family) -> Verdict {
    let mut a = f.slave("a", json!({"old": 1, "both": 1})).await?;
    a.send(json!(["", "g_slave", {f.name.clone(): {"new": 2, "both": 2}}])).await?;
    a.finds(json!({"both": 2, "new": 2})).await
}

async fn query(f: Family, request: &str, wanted: Json) -> Verdict {
    let mut a = f.slave("a", json!({"k1": "v1", "k2": [2]})).await?;
    a.send(json!(["", request, f.name, "id"])).await?;
    a.expect_first(json!(["", "g_reply", "id", REST]), json!(["", "g_reply", "id", wanted]))
        .await?;
    Ok(())
}

async fn query_list(f: Family, request: &str, wanted: Json) -> Verdict {
    let mut a = f.slave("a", json!({"k1": "v1", "k2": [2]})).await?;
    a.send(json!(["", request, f.name, "id"])).await?;
    let reply = a.expect(json!(["", "g_reply", "id", ANY])).await?;
    let sorted = |list: Json| {
        let mut items: Vec<String> =
            list.as_array().into_iter().flatten().map(Json::to_string).collect();
        items.sort();
        items
    };
    let found = reply.get(3).map(pattern::to_json).unwrap_or_default();
    ensure(sorted(found.clone()) == sorted(wanted), || format!("it answers {found}"))
}

async fn get(f: Family) -> Verdict {
    if !f.greets_with("g_get", b"1").await? {
        return skip("its greeting does not say that it knows g_get");
    }
    let mut a = f.slave("a", json!({"k": ["v", null], "u": null})).await?;
    for (key, wanted) in [("k", json!([["v", null]])), ("u", json!([null])), ("none", json!([]))] {
        a.send(json!(["", "g_get", f.name, key, key])).await?;
        a.expect_first(json!(["", "g_reply", key, REST]), json!(["", "g_reply", key, wanted]))
            .await?;
    }
    Ok(())
}

async fn unknown_family(f: Family) -> Verdict {
    let f = f.called("no-such-family");
    let mut a = f.slave("a", json!({})).await?;
    for (request, id) in [("g_db_family", "f"), ("g_db_keys", "k"), ("g_db_values", "v")] {
        a.send(json!(["", request, f.name, id])).await?;
        let reply = a.expect(json!(["", "g_reply", id, ANY])).await?;
        let found = reply.get(3).map(pattern::to_json).unwrap_or_default();
        let is_empty = match &found {
            Json::Array(items) => request != "g_db_family" && items.is_empty(),
            Json::Object(pairs) => request == "g_db_family" && pairs.is_empty(),
            _ => false,
        };
        ensure(is_empty, || format!("{request} answers {found}"))?;
    }
    Ok(())
}

async fn reply_ids(f: Family) -> Verdict {
    let mut a = f.slave("a", json!({"k": 1})).await?;
    for id in [json!("a text"), json!(42), json!("")] {
        a.send(json!(["", "g_db_keys", f.name, id])).await?;
        a.expect(json!(["", "g_reply", id, ["k"]])).await?;
    }
    Ok(())
}

async fn same_family(f: Family) -> Verdict {
    // Our own strings are sent as text where the framing distinguishes it; the node may send octets.
    let f = f.called("caf\u{e9}");
    let mut a = f.slave("a", json!({"\u{e9}": "v"})).await?;
    a.finds(json!({"\u{e9}": "v"})).await?;
    a.deletes("\u{e9}").await?;
    a.finds(json!({})).await
}

async fn values_kept(f: Family) -> Verdict {
    let values = json!({"a": [1, [2, {"k": null}]], "e": "", "u": null, "t": "\u{20ac}", "h": {}});
    let mut a = f.slave("a", json!({})).await?;
    a.sets(values.clone()).await?;
    a.finds(values).await
}

async fn tags_kept(f: Family) -> Verdict {
    let mut slave = f.cbor_slave().await?;
    for (number, octets) in TAGGED.iter().enumerate() {
        // ["", "g_upd", FAMILY, {"k": VALUE}, []]
        let length = u8::try_from(f.name.len()).unwrap_or(u8::MAX);
        let family = [&[0x58, length][..], f.name.as_bytes()].concat();
        let head = b"\x85\x40\x45g_upd";
        slave.raw(&[&head[..], &family, b"\xa1\x41k", octets, b"\x80"].concat()).await?;
        let id = format!("query {number}");
        slave.send(json!(["", "g_db_family", f.name, id])).await?;
        let reply = slave.expect(json!(["", "g_reply", id, ANY])).await?;
        ensure_tags(octets, reply.get(3).and_then(|family| family.get("k")))?;
    }
    Ok(())
}
