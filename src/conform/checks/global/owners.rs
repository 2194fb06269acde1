//! §5.1 and §5.2: which of several entries of a key is effective, and what disappears with a node.

use super::family::Family;
use super::global;
use crate::conform::check::{Check, run};
use crate::conform::checks::ANY;
use crate::conform::pattern;
use crate::conform::session::show_packet;
use crate::conform::stop::{Verdict, ensure, miss};
use serde_json::{Value as Json, json};

/// The checks of this file.
pub(in crate::conform::checks) const CHECKS: &[Check] = &[
    global("g-last-writer", "5.2h", "If two nodes set a key, the last value is used.")
        .by(run!(last_writer)),
    global("g-other-owner", "5.2i", "A deleted key that another slave still has gets its value.")
        .by(run!(other_owner)),
    global("g-lesser-owner", "5.2i", "Deleting a value that is not in use changes nothing.")
        .by(run!(lesser_owner)),
    global("g-equal-number", "5.2k", "A number and the string of its digits are equal values.")
        .by(run!(number_and_string)),
    global("g-undef", "5.2k", "undef is a value, and not the empty string.").by(run!(undef_value)),
    global("g-down", "5.2f", "The entries of a lost node are deleted.").by(run!(goes_down)),
    global("g-down-owner", "5.2f", "Keys that another node has too stay when a node is lost.")
        .by(run!(goes_down_sharing)),
    global("g-down-address", "5.2f", "The address of a lost node is deleted.")
        .by(run!(address_goes)),
    global("g-down-monitors", "5.2g", "The subscriptions of a lost node end.")
        .ours()
        .by(run!(subscriptions_go)),
];

async fn last_writer(f: Family) -> Verdict {
    let mut a = f.slave("a", json!({"k": "a1"})).await?;
    let mut b = f.slave("b", json!({})).await?;
    b.sets(json!({"k": "b1"})).await?;
    b.finds(json!({"k": "b1"})).await?;
    a.sets(json!({"k": "a2"})).await?;
    a.finds(json!({"k": "a2"})).await
}

async fn other_owner(f: Family) -> Verdict {
    let _a = f.slave("a", json!({"k": "from a"})).await?;
    let mut b = f.slave("b", json!({})).await?;
    b.sets(json!({"k": "from b"})).await?;
    b.barrier().await?;
    let mut watcher = f.subscriber("w").await?;
    b.deletes("k").await?;
    watcher.sees(json!({"k": "from a"})).await?;
    watcher.finds(json!({"k": "from a"})).await
}

async fn lesser_owner(f: Family) -> Verdict {
    let mut a = f.slave("a", json!({"k": "from a"})).await?;
    let mut b = f.slave("b", json!({})).await?;
    b.sets(json!({"k": "from b"})).await?;
    b.barrier().await?;
    let mut watcher = f.subscriber("w").await?;
    a.deletes("k").await?;
    watcher.is_told_nothing_of(&mut a).await?;
    watcher.finds(json!({"k": "from b"})).await
}

async fn number_and_string(f: Family) -> Verdict {
    let _a = f.slave("a", json!({"k": 1})).await?;
    let mut b = f.slave("b", json!({})).await?;
    b.sets(json!({"k": "1"})).await?;
    b.barrier().await?;
    let mut watcher = f.subscriber("w").await?;
    b.deletes("k").await?;
    watcher.is_told_nothing_of(&mut b).await
}

async fn undef_value(f: Family) -> Verdict {
    let _a = f.slave("a", json!({"k": null})).await?;
    let mut b = f.slave("b", json!({})).await?;
    b.sets(json!({"k": ""})).await?;
    b.barrier().await?;
    let mut watcher = f.subscriber("w").await?;
    b.deletes("k").await?;
    watcher.sees(json!({"k": null})).await
}

async fn goes_down(f: Family) -> Verdict {
    let a = f.slave("a", json!({"k": "v", "l": "w"})).await?;
    let mut b = f.subscriber("b").await?;
    a.close().await;
    let change = b.expect(json!(["", "g_chg2", f.name, ANY, ANY])).await?;
    let keys = change.get(4).map(pattern::to_json).unwrap_or_default();
    let mut keys: Vec<String> =
        keys.as_array().into_iter().flatten().map(Json::to_string).collect();
    keys.sort();
    ensure(keys == ["\"k\"", "\"l\""], || format!("it tells {}", show_packet(&change)))?;
    b.finds(json!({})).await
}

async fn goes_down_sharing(f: Family) -> Verdict {
    let _a = f.slave("a", json!({"k": "from a"})).await?;
    let mut b = f.slave("b", json!({})).await?;
    b.sets(json!({"k": "from b"})).await?;
    b.barrier().await?;
    let mut watcher = f.subscriber("w").await?;
    b.close().await;
    watcher.sees(json!({"k": "from a"})).await
}

async fn address_goes(f: Family) -> Verdict {
    let a = f.slave("a", json!({})).await?;
    let mut b = f.slave("b", json!({})).await?;
    let gone = a.me.clone();
    a.close().await;
    let deadline = tokio::time::Instant::now() + b.patience;
    loop {
        b.send(json!(["", "g_find", gone])).await?;
        let found = b.expect(json!(["", "g_found", gone, ANY])).await?;
        if found.get(3).is_some_and(crate::value::Value::is_undef) {
            return Ok(());
        }
        if tokio::time::Instant::now() > deadline {
            return miss(format!("it still answers {}", show_packet(&found)));
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

async fn subscriptions_go(f: Family) -> Verdict {
    let mut a = f.slave("a", json!({})).await?;
    let b = f.subscriber("b").await?;
    b.close().await;
    let mut b = f.stranger_again("b").await?;
    b.barrier().await?;
    a.sets(json!({"k": "v"})).await?;
    b.is_told_nothing_of(&mut a).await
}
