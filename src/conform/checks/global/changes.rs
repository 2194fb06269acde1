//! §5.1 and §5.2: the changes that a global node reports to subscribers of a family.

use super::family::Family;
use super::global;
use crate::conform::check::{Check, run};
use crate::conform::checks::{ANY, REST};
use crate::conform::pattern;
use crate::conform::stop::{Verdict, ensure};
use serde_json::{Value as Json, json};

/// The checks of this file.
pub(in crate::conform::checks) const CHECKS: &[Check] = &[
    global("g-mon1", "5.1j", "g_mon1 is answered with the whole family.").by(run!(content)),
    global("g-mon1-empty", "5.1j", "g_mon1 of an unknown family is answered with none.")
        .by(run!(no_content)),
    global("g-chg2-set", "5.1j", "Subscribers are sent keys that are set.").by(run!(sees_set)),
    global("g-chg2-delete", "5.1j", "Subscribers are sent keys that are deleted.")
        .by(run!(sees_deletion)),
    global("g-chg2-form", "5.2o", "g_chg2 has both the entries set and the keys deleted.")
        .by(run!(change_form)),
    global("g-chg2-both", "5.2n", "Within one g_upd, sets are applied before deletions.")
        .by(run!(set_and_delete)),
    global("g-chg2-equal", "5.2p", "Setting a key to an equal value is passed on.")
        .by(run!(equal_value)),
    global("g-chg2-own", "5.1j", "A subscriber is sent its own changes too.").by(run!(own_changes)),
    global("g-chg2-order", "5.2m", "Changes arrive in the order in which they were made.")
        .by(run!(changes_in_order)),
    global("g-chg2-family", "5.1j", "A subscriber is sent nothing about other families.")
        .by(run!(other_families)),
    global("g-upd-null", "5.1e", "g_upd may have undef in place of the set entries.")
        .by(run!(null_set)),
    global("g-upd-lists", "5.2o", "g_upd may have both parts, and empty ones.")
        .by(run!(empty_update)),
    global("g-mon0", "5.1k", "After g_mon0 no change is sent.").by(run!(unsubscribed)),
    global("g-mon1-twice", "5.2q", "Two g_mon1 get two answers, but make one subscription.")
        .by(run!(subscribed_twice)),
];

async fn content(f: Family) -> Verdict {
    let _a = f.slave("a", json!({"k": "v"})).await?;
    let mut b = f.slave("b", json!({})).await?;
    b.send(json!(["", "g_mon1", f.name])).await?;
    b.expect_first(json!(["", "g_chg1", f.name, REST]), json!(["", "g_chg1", f.name, {"k": "v"}]))
        .await?;
    Ok(())
}

async fn no_content(f: Family) -> Verdict {
    let mut a = f.slave("a", json!({})).await?;
    a.send(json!(["", "g_mon1", f.name])).await?;
    let answer = a.expect(json!(["", "g_chg1", f.name, ANY])).await?;
    let found = answer.get(3).map(pattern::to_json).unwrap_or_default();
    ensure(found.is_null() || found == json!({}), || format!("the content is {found}"))
}

async fn sees_set(f: Family) -> Verdict {
    let mut a = f.slave("a", json!({})).await?;
    let mut b = f.subscriber("b").await?;
    a.send(json!(["", "g_upd", f.name, {"k": "v"}])).await?;
    b.is_told(json!({"k": "v"}), json!(ANY)).await
}

async fn sees_deletion(f: Family) -> Verdict {
    let mut a = f.slave("a", json!({"k": "v"})).await?;
    let mut b = f.subscriber("b").await?;
    a.send(json!(["", "g_upd", f.name, null, ["k"]])).await?;
    b.is_told(json!(ANY), json!(["k"])).await?;
    b.finds(json!({})).await
}

async fn change_form(f: Family) -> Verdict {
    let mut a = f.slave("a", json!({})).await?;
    let mut b = f.subscriber("b").await?;
    a.send(json!(["", "g_upd", f.name, {"k": "v"}])).await?;
    b.sees(json!({"k": "v"})).await?;
    a.send(json!(["", "g_upd", f.name, null, ["k"]])).await?;
    b.sees_deleted("k").await
}

async fn set_and_delete(f: Family) -> Verdict {
    let mut a = f.slave("a", json!({"old": 1})).await?;
    a.updates(json!({"new": 1, "both": 1}), json!(["old", "both"])).await?;
    a.finds(json!({"new": 1})).await
}

async fn equal_value(f: Family) -> Verdict {
    let mut a = f.slave("a", json!({"k": "v"})).await?;
    let mut b = f.subscriber("b").await?;
    a.sets(json!({"k": "v"})).await?;
    b.sees(json!({"k": "v"})).await
}

async fn own_changes(f: Family) -> Verdict {
    let mut a = f.subscriber("a").await?;
    a.sets(json!({"k": "v"})).await?;
    a.sees(json!({"k": "v"})).await
}

async fn changes_in_order(f: Family) -> Verdict {
    let mut a = f.slave("a", json!({})).await?;
    let mut b = f.subscriber("b").await?;
    let changes: Vec<Json> =
        (0..50).map(|number| json!(["", "g_upd", f.name, {"k": number}])).collect();
    a.send_all(&changes).await?;
    for number in 0..50 {
        b.sees(json!({"k": number})).await?;
    }
    Ok(())
}

async fn other_families(f: Family) -> Verdict {
    let other = f.called("other");
    let mut a = other.slave("a", json!({})).await?;
    let mut b = f.subscriber("b").await?;
    a.sets(json!({"k": "v"})).await?;
    a.barrier().await?;
    b.nothing(json!(["", ANY, other.name, REST])).await
}

async fn null_set(f: Family) -> Verdict {
    let mut a = f.slave("a", json!({"k": 1, "l": 2})).await?;
    a.deletes("k").await?;
    a.finds(json!({"l": 2})).await
}

async fn empty_update(f: Family) -> Verdict {
    let mut a = f.slave("a", json!({"k": 1})).await?;
    let mut b = f.subscriber("b").await?;
    a.updates(json!({}), json!([])).await?;
    b.is_told_nothing_of(&mut a).await
}

async fn unsubscribed(f: Family) -> Verdict {
    let mut a = f.slave("a", json!({})).await?;
    let mut b = f.subscriber("b").await?;
    b.send(json!(["", "g_mon0", f.name])).await?;
    b.barrier().await?;
    a.sets(json!({"k": "v"})).await?;
    b.is_told_nothing_of(&mut a).await
}

async fn subscribed_twice(f: Family) -> Verdict {
    let mut a = f.subscriber("a").await?;
    a.send(json!(["", "g_mon1", f.name])).await?;
    a.expect(json!(["", "g_chg1", f.name, ANY])).await?;
    a.sets(json!({"k": 1})).await?;
    a.sees(json!({"k": 1})).await?;
    a.nothing(json!(["", "g_chg2", f.name, REST])).await?;
    a.send(json!(["", "g_mon0", f.name])).await?;
    a.sets(json!({"k": 2})).await?;
    a.nothing(json!(["", "g_chg2", f.name, REST])).await
}
