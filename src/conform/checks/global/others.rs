//! §5.1 and §5.2: what global nodes send each other, and its effects.

use super::family::Family;
use super::global;
use crate::conform::check::{Check, run};
use crate::conform::checks::{ANY, REST};
use crate::conform::pattern;
use crate::conform::stop::{Verdict, ensure, miss};
use serde_json::json;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The checks of this file.
pub(in crate::conform::checks) const CHECKS: &[Check] = &[
    global("g-set", "5.2b", "Sends another global node the merge of its slaves.")
        .by(run!(sends_set)),
    global("g-set-itself", "5.2b", "That merge has its own addresses, and both in 'g.")
        .by(run!(sends_itself)),
    global("g-set-own", "5.2b", "That merge has no entries of other global nodes.")
        .by(run!(sends_no_others)),
    global("g-set-merge", "5.2c", "Slaves see the entries of other global nodes.").by(run!(merges)),
    global("g-set-mirror", "5.2c", "Sets the address of another global node itself.")
        .by(run!(mirrors)),
    global("g-set-replaces", "5.2c", "A second g_set replaces the first.")
        .ours()
        .by(run!(set_replaces)),
    global("g-set-no-address", "5.2c", "A g_set without its sender's address mirrors nothing.")
        .ours()
        .by(run!(no_address)),
    global("g-tells", "5.2l", "Tells other global nodes what its slaves set.")
        .by(run!(tells_global)),
    global("g-tells-delete", "5.2l", "Tells other global nodes what its slaves delete.")
        .by(run!(tells_deletion)),
    global("g-tells-down", "5.2l", "Tells other global nodes which keys of a lost slave are gone.")
        .by(run!(tells_loss)),
    global("g-tells-no-echo", "5.2l", "Does not pass on what another global node sent.")
        .by(run!(tells_no_echo)),
    global("g-hears", "5.2m", "Tells subscribers what other global nodes set.").by(run!(hears)),
    global("g-hears-delete", "5.2m", "Tells subscribers what other global nodes delete.")
        .by(run!(hears_deletion)),
    global("g-global-first", "5.2i", "A slave's value is used when a global node deletes its own.")
        .by(run!(slave_has_it)),
    global("g-global-has", "5.2j", "A slave's deleted key gets the value of a global node.")
        .by(run!(global_has_it)),
    global("g-global-down", "5.2f", "The entries of a lost global node are deleted.")
        .by(run!(global_down)),
    global(
        "g-global-down-g",
        "5.2f",
        "A lost global node is removed from 'g, and its address from 'l.",
    )
    .by(run!(global_down_internal)),
    global("g-global-turns", "5.2f", "The entries of a slave that becomes global are deleted.")
        .by(run!(turns_global)),
    global("g-turns-keeps", "5.2g", "The subscriptions of a slave that becomes global stay.")
        .by(run!(turns_and_listens)),
    global("g-stranger", "5.2e", "Accepts g_upd from a node that is neither slave nor global.")
        .should()
        .by(run!(stranger)),
    global("g-stranger-untold", "5.2e", "Does not tell other global nodes what such a node sets.")
        .by(run!(stranger_untold)),
];

async fn sends_set(f: Family) -> Verdict {
    let _a = f.slave("a", json!({"k": "v"})).await?;
    let mut g = f.other_global("g", json!({})).await?;
    g.expect_first(
        json!(["", "g_set", REST]),
        json!(["", "g_set", {f.name.clone(): {"k": "v"}, REST: ANY}]),
    )
    .await?;
    Ok(())
}

async fn sends_itself(f: Family) -> Verdict {
    let mut g = f.other_global("g", json!({})).await?;
    let (me, node) = (g.me.clone(), g.node.clone());
    let wanted = json!({
        "'l": {&*node: [ANY, REST], REST: ANY},
        "'g": {&*node: null, me: null, REST: ANY},
        REST: ANY,
    });
    g.expect_first(json!(["", "g_set", REST]), json!(["", "g_set", wanted])).await?;
    Ok(())
}

async fn sends_no_others(f: Family) -> Verdict {
    let _a = f.slave("a", json!({"ka": 1})).await?;
    let _g = f.other_global("g", json!({"kg": 2})).await?;
    let mut h = f.other_global("h", json!({})).await?;
    let sent = h.expect(json!(["", "g_set", {f.name.clone(): ANY, REST: ANY}])).await?;
    let database = sent.get(2).map(pattern::to_json).unwrap_or_default();
    let entries = database.get(&f.name);
    ensure(entries == Some(&json!({"ka": 1})), || format!("it sends {entries:?} of the family"))
}

async fn merges(f: Family) -> Verdict {
    let mut a = f.slave("a", json!({"ka": 1})).await?;
    let _g = f.other_global("g", json!({"kg": 2})).await?;
    a.barrier().await?;
    a.finds(json!({"ka": 1, "kg": 2})).await
}

async fn mirrors(f: Family) -> Verdict {
    let mut g = f.other_global("g", json!({})).await?;
    let me = g.me.clone();
    g.expect(json!(["", "g_upd", "'l", {me: ["127.0.0.1:1"], REST: ANY}, ANY])).await?;
    Ok(())
}

async fn set_replaces(f: Family) -> Verdict {
    let mut g = f.other_global("g", json!({"old": 1})).await?;
    let me = g.me.clone();
    let again = json!({"'l": {me: ["127.0.0.1:1"]}, f.name.clone(): {"new": 2}});
    g.send(json!(["", "g_set", again])).await?;
    g.finds(json!({"new": 2})).await
}

async fn no_address(f: Family) -> Verdict {
    let mut g = f.stranger("g").await?;
    g.send_all(&[json!(["", "g_slave"]), json!(["", "g_global"]), json!(["", "g_set", {}])])
        .await?;
    g.expect(json!(["", "g_global"])).await?;
    let me = g.me.clone();
    g.nothing(json!(["", "g_upd", "'l", {me.clone(): null, REST: ANY}, ANY])).await?;
    g.send(json!(["", "g_find", me])).await?;
    g.expect(json!(["", "g_found", me, null])).await?;
    Ok(())
}

async fn tells_global(f: Family) -> Verdict {
    let mut a = f.slave("a", json!({})).await?;
    let mut g = f.other_global("g", json!({})).await?;
    a.send(json!(["", "g_upd", f.name, {"k": "v"}])).await?;
    g.hears(json!({"k": "v"})).await
}

async fn tells_deletion(f: Family) -> Verdict {
    let mut a = f.slave("a", json!({"k": "v"})).await?;
    let mut g = f.other_global("g", json!({})).await?;
    a.send(json!(["", "g_upd", f.name, null, ["k"]])).await?;
    g.hears_deleted("k").await
}

async fn tells_loss(f: Family) -> Verdict {
    let a = f.slave("a", json!({"k": "v"})).await?;
    let mut g = f.other_global("g", json!({})).await?;
    a.close().await;
    g.hears_deleted("k").await
}

async fn tells_no_echo(f: Family) -> Verdict {
    let mut g = f.other_global("g", json!({})).await?;
    let mut h = f.other_global("h", json!({})).await?;
    g.sets(json!({"k": "v"})).await?;
    h.is_told_nothing_of(&mut g).await?;
    g.is_told_nothing().await
}

async fn hears(f: Family) -> Verdict {
    let mut g = f.other_global("g", json!({})).await?;
    let mut b = f.subscriber("b").await?;
    g.sets(json!({"k": "v"})).await?;
    b.sees(json!({"k": "v"})).await
}

async fn hears_deletion(f: Family) -> Verdict {
    let mut g = f.other_global("g", json!({"k": "v"})).await?;
    let mut b = f.subscriber("b").await?;
    g.updates(json!({}), json!(["k"])).await?;
    b.sees_deleted("k").await
}

async fn slave_has_it(f: Family) -> Verdict {
    let _a = f.slave("a", json!({"k": "from a"})).await?;
    let mut g = f.other_global("g", json!({})).await?;
    g.sets(json!({"k": "from g"})).await?;
    g.barrier().await?;
    let mut b = f.subscriber("b").await?;
    g.updates(json!({}), json!(["k"])).await?;
    b.sees(json!({"k": "from a"})).await
}

async fn global_has_it(f: Family) -> Verdict {
    let mut g = f.other_global("g", json!({"k": "from g"})).await?;
    let mut a = f.slave("a", json!({})).await?;
    a.sets(json!({"k": "from a"})).await?;
    a.barrier().await?;
    g.hears(json!({"k": "from a"})).await?;
    let mut b = f.subscriber("b").await?;
    a.deletes("k").await?;
    b.sees(json!({"k": "from g"})).await?;
    g.hears_deleted("k").await
}

async fn global_down(f: Family) -> Verdict {
    let g = f.other_global("g", json!({"k": "v"})).await?;
    let mut b = f.subscriber("b").await?;
    b.finds(json!({"k": "v"})).await?;
    g.close().await;
    b.sees_deleted("k").await
}

async fn global_down_internal(f: Family) -> Verdict {
    let mut b = f.slave("b", json!({})).await?;
    let g = f.other_global("g", json!({})).await?;
    let gone = g.me.clone();
    for family in ["'g", "'l"] {
        b.send(json!(["", "g_mon1", family])).await?;
        b.expect(json!(["", "g_chg1", family, {gone.clone(): ANY, REST: ANY}])).await?;
    }
    g.close().await;
    for family in ["'g", "'l"] {
        // Meanwhile nodes of other checks connect and disconnect.
        let deadline = Instant::now() + b.patience;
        while b.family(family).await?.get(&gone).is_some() {
            if Instant::now() > deadline {
                return miss(format!("{gone} stays in {family}"));
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(())
}

async fn turns_global(f: Family) -> Verdict {
    let mut a = f.slave("a", json!({"k": "v"})).await?;
    let mut b = f.subscriber("b").await?;
    a.send(json!(["", "g_global"])).await?;
    a.barrier().await?;
    b.sees_deleted_at_last("k").await?;
    b.finds_at_last(json!({})).await
}

async fn turns_and_listens(f: Family) -> Verdict {
    let mut a = f.subscriber("a").await?;
    let mut b = f.slave("b", json!({})).await?;
    a.send(json!(["", "g_global"])).await?;
    a.barrier().await?;
    b.sets(json!({"k": "v"})).await?;
    a.sees(json!({"k": "v"})).await
}

async fn stranger(f: Family) -> Verdict {
    let mut b = f.subscriber("b").await?;
    let mut a = f.stranger("a").await?;
    a.send(json!(["", "g_upd", f.name, {"k": "v"}])).await?;
    b.sees(json!({"k": "v"})).await?;
    a.close().await;
    b.sees_deleted("k").await
}

async fn stranger_untold(f: Family) -> Verdict {
    let mut g = f.other_global("g", json!({})).await?;
    let mut a = f.stranger("a").await?;
    a.send(json!(["", "g_upd", f.name, {"k": "v"}])).await?;
    g.is_told_nothing_of(&mut a).await?;
    g.barrier().await?;
    g.is_told_nothing().await
}
