//! §5.1 and §5.2: databases that come, or are sent, in several packets.

use super::family::Family;
use super::global;
use crate::conform::check::{Check, run};
use crate::conform::checks::REST;
use crate::conform::checks::pieces::{Told, entries};
use crate::conform::pattern;
use crate::conform::stop::{Verdict, ensure, miss};
use serde_json::{Value as Json, json};

/// The checks of this file.
pub(in crate::conform::checks) const CHECKS: &[Check] = &[
    global("g-slave-pieces", "5.1s", "Adds what a slave sends with g_upd to what its g_slave has.")
        .by(run!(slave_in_pieces)),
    global("g-set-pieces", "5.2r", "Sends one g_set, however large the database.")
        .by(run!(one_set)),
];

/// The requests with which a slave sends the family behind its `g_slave`: one for each entry.
fn updates(f: &Family) -> Vec<Json> {
    let one = |(key, value): (String, Json)| json!(["", "g_upd", f.name, {key: value}]);
    entries().into_iter().map(one).collect()
}

async fn slave_in_pieces(f: Family) -> Verdict {
    let mut a = f.stranger("a").await?;
    let database = json!({"'l": {&*a.me: ["127.0.0.1:1"]}, f.name.clone(): {"first": 1}});
    let mut packets = vec![json!(["", "g_slave"]), json!(["", "g_slave", database])];
    packets.extend(updates(&f));
    // The question follows the last piece in the same write.
    packets.push(json!(["", "g_db_family", f.name, "pieces"]));
    a.send_all(&packets).await?;
    let reply = a.expect(json!(["", "g_reply", "pieces", REST])).await?;
    let mut wanted = entries();
    wanted.insert("first".to_owned(), json!(1));
    match reply.get(3) {
        Some(found) if pattern::matches(&Json::Object(wanted.clone()), found) => Ok(()),
        found => {
            let keys = found.and_then(|found| found.as_hash()).map(|hash| hash.keys().count());
            miss(format!("it knows {} of {} keys", keys.unwrap_or_default(), wanted.len()))
        }
    }
}

async fn one_set(f: Family) -> Verdict {
    let mut a = f.slave("a", json!({})).await?;
    a.send_all(&updates(&f)).await?;
    a.barrier().await?;
    let mut g = f.other_global("g", json!({})).await?;
    let mut told = Told::of(&f.name, "g_set");
    told.all(&mut g).await?;
    let count = told.databases.len();
    ensure(count == 1, || format!("it sent {count} databases, each instead of the one before"))?;
    let has = |family: &str, key: &str| {
        let entries = told.databases.first().and_then(|database| database.get(family));
        entries.is_some_and(|entries| entries.get(key).is_some())
    };
    let (me, node) = (&*g.me, &*g.node);
    ensure(has("'l", node), || "its g_set does not have its own addresses".to_owned())?;
    ensure(has("'g", node) && has("'g", me), || "its g_set does not have both in 'g".to_owned())
}
