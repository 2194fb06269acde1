//! §4.3 and §5.1: what a node requests from its master, sends to it, and does with its answers.

use super::master::{Master, master};
use crate::conform::check::{Check, check, run};
use crate::conform::checks::{ANY, REST};
use crate::conform::context::Ctx;
use crate::conform::pattern;
use crate::conform::session::show_packet;
use crate::conform::stop::{Verdict, ensure};
use serde_json::{Value as Json, json};

/// The checks of this file.
pub(in crate::conform::checks) const CHECKS: &[Check] = &[
    check("slave-set", "5.1e", "Tells its master what it sets.").seeds(1).by(run!(sets)),
    check("slave-set-again", "5.1n", "Tells nothing when it sets an equal value.")
        .seeds(1)
        .by(run!(sets_again)),
    check("slave-delete", "5.1e", "Tells its master what it deletes.").seeds(1).by(run!(deletes)),
    check("slave-delete-nothing", "5.1n", "Tells nothing when it deletes what is not set.")
        .seeds(1)
        .by(run!(deletes_nothing)),
    check("slave-family", "5.1g", "Asks its master for a family.")
        .seeds(1)
        .by(run!(asks("db_family", json!({"k": [1, null]})))),
    check("slave-keys", "5.1h", "Asks its master for the keys of a family.")
        .seeds(1)
        .by(run!(asks("db_keys", json!(["k", "l"])))),
    check("slave-values", "5.1i", "Asks its master for the values of a family.")
        .seeds(1)
        .by(run!(asks("db_values", json!(["v", [2]])))),
    check("slave-mon", "5.1j", "Subscribes to a family and reports its content.")
        .seeds(1)
        .by(run!(subscribes)),
    check("slave-mon-changes", "5.1j", "Reports what is added, changed and deleted.")
        .seeds(1)
        .by(run!(reports_changes)),
    check("slave-mon-once", "5.1o", "Two monitors on a family are one subscription.")
        .seeds(1)
        .by(run!(subscribes_once)),
    check("slave-mon0", "5.1k", "Ends the subscription with the last monitor.")
        .seeds(1)
        .by(run!(unsubscribes)),
    check("slave-chg-stranger", "5.1p", "Ignores changes from nodes that are not its master.")
        .seeds(2)
        .by(run!(ignores_strangers)),
    check("slave-find", "4.3a", "Asks its master for a node, dials it, and sends.")
        .seeds(1)
        .by(run!(finds)),
    check("slave-find-nothing", "4.3c", "Monitors fire if the master knows no address.")
        .ours()
        .seeds(1)
        .by(run!(finds_nothing)),
    // Run last, since the node, which all checks share, cannot return to its earlier state.
    check("join-global", "4.2b", "Becomes global when another node uses it as a seed.")
        .seeds(1)
        .by(run!(becomes_global)),
];

async fn sets(c: Ctx) -> Verdict {
    let mut m = Master::with_service(c).await?;
    m.lets_set("k", json!({"v": [1]})).await?;
    let update = m.is_updated().await?;
    let is_right = match &update[..] {
        [_, _, _, set] => pattern::matches(&json!({"k": {"v": [1]}}), set),
        [_, _, _, set, deleted] => {
            pattern::matches(&json!({"k": {"v": [1]}}), set)
                && (deleted.is_undef() || pattern::matches(&json!([]), deleted))
        }
        _ => false,
    };
    ensure(is_right, || format!("it told {}", show_packet(&update)))
}

async fn sets_again(c: Ctx) -> Verdict {
    let mut m = Master::with_service(c).await?;
    m.lets_set("k", json!(["v", 1])).await?;
    m.is_updated().await?;
    m.lets_set("k", json!(["v", 1])).await?;
    m.is_not_updated().await
}

async fn deletes(c: Ctx) -> Verdict {
    let mut m = Master::with_service(c).await?;
    m.lets_set("k", json!(1)).await?;
    m.is_updated().await?;
    m.lets_delete("k").await?;
    let deletion = json!(["", "g_upd", m.family, ANY, ["k"]]);
    let update = m.expect(deletion).await?;
    let sets_nothing =
        update.get(3).is_some_and(|set| set.is_undef() || pattern::matches(&json!({}), set));
    ensure(sets_nothing, || format!("it told {}", show_packet(&update)))
}

async fn deletes_nothing(c: Ctx) -> Verdict {
    let mut m = Master::with_service(c).await?;
    m.lets_delete("never-set").await?;
    m.is_not_updated().await
}

async fn asks(c: Ctx, tag: &str, answer: Json) -> Verdict {
    let mut m = Master::with_service(c).await?;
    let question = json!([tag, m.family, m.port("answer")]);
    m.lets(question).await?;
    let query = json!(["", format!("g_{tag}"), m.family, ANY]);
    let query = m.expect(query).await?;
    let id = query.get(3).map(pattern::to_json).unwrap_or_default();
    m.send(json!(["", "g_reply", id, answer])).await?;
    m.expect_first(json!(["answer", REST]), json!(["answer", answer])).await?;
    Ok(())
}

async fn subscribes(c: Ctx) -> Verdict {
    let mut m = Master::with_service(c).await?;
    m.lets_watch("label", &m.port("report")).await?;
    m.is_subscribed().await?;
    m.tells_all(json!({"k": "v"})).await?;
    m.gets_report(json!(["label", {"k": "v"}, ["k"], [], []])).await?;
    Ok(())
}

async fn reports_changes(c: Ctx) -> Verdict {
    let mut m = Master::with_service(c).await?;
    m.lets_watch("label", &m.port("report")).await?;
    m.is_subscribed().await?;
    m.tells_all(json!({"a": 1, "b": 1})).await?;
    m.expect(json!(["report", "label", {"a": 1, "b": 1}, ANY, ANY, ANY])).await?;
    let change = json!(["", "g_chg2", m.family, {"b": 2, "c": 3}, ["a"]]);
    m.send(change).await?;
    m.gets_report(json!(["label", {"b": 2, "c": 3}, ["c"], ["b"], ["a"]])).await?;
    Ok(())
}

async fn subscribes_once(c: Ctx) -> Verdict {
    let mut m = Master::with_service(c).await?;
    m.lets_watch("one", &m.port("report")).await?;
    m.is_subscribed().await?;
    m.tells_all(json!({"k": 1})).await?;
    m.expect(json!(["report", "one", {"k": 1}, REST])).await?;
    m.lets_watch("two", &m.port("report")).await?;
    m.expect(json!(["report", "two", {"k": 1}, REST])).await?;
    let subscription = json!(["", "g_mon1", m.family]);
    m.nothing(subscription).await
}

async fn unsubscribes(c: Ctx) -> Verdict {
    let mut m = Master::with_service(c).await?;
    for label in ["one", "two"] {
        m.lets_watch(label, &m.port("report")).await?;
    }
    m.is_subscribed().await?;
    m.tells_all(json!({"k": 1})).await?;
    m.expect(json!(["report", "two", {"k": 1}, REST])).await?;
    let subscription_ends = json!(["", "g_mon0", m.family]);
    m.lets(json!(["db_unmon", "one"])).await?;
    m.nothing(subscription_ends.clone()).await?;
    m.lets(json!(["db_unmon", "two"])).await?;
    m.expect(subscription_ends).await?;
    Ok(())
}

async fn ignores_strangers(c: Ctx) -> Verdict {
    let mut m = Master::with_service(c).await?;
    let mut other = m.context.meet_at("o", 1).await?;
    m.lets_watch("label", &m.port("report")).await?;
    m.is_subscribed().await?;
    other.send(json!(["", "g_chg1", m.family, {"wrong": 1}])).await?;
    other.send(json!(["", "g_chg2", m.family, {"wrong": 1}, []])).await?;
    other.barrier().await?;
    m.tells_all(json!({"right": 1})).await?;
    m.gets_report(json!(["label", {"right": 1}, ["right"], [], []])).await?;
    Ok(())
}

async fn finds(c: Ctx) -> Verdict {
    let mut m = Master::with_service(c.clone()).await?;
    let listener = c.listen(&m).await?;
    let address = listener.local_addr().map(|address| address.to_string()).unwrap_or_default();
    let x = c.name("x");
    m.lets(json!(["snd", format!("{x}#port"), "hello", 1])).await?;
    m.expect(json!(["", "g_find", x])).await?;
    m.send(json!(["", "g_found", x, [address]])).await?;
    let mut x = c.dialled(&listener, "x", &c.shake("x")).await?;
    x.expect(json!(["port", "hello", 1])).await?;
    Ok(())
}

async fn finds_nothing(c: Ctx) -> Verdict {
    let mut m = Master::with_service(c.clone()).await?;
    let x = c.name("x");
    let fired = m.port("fired");
    m.lets(json!(["mon", "m", format!("{x}#port"), fired])).await?;
    m.expect(json!(["", "g_find", x])).await?;
    m.send(json!(["", "g_found", x, null])).await?;
    m.expect_first(json!(["fired", REST]), json!(["fired", "m", "transport_error", x, REST]))
        .await?;
    Ok(())
}

async fn becomes_global(c: Ctx) -> Verdict {
    let mut m = master(&c).await?;
    m.send(json!(["", "g_slave"])).await?;
    m.expect(json!(["", "g_global"])).await?;
    Ok(())
}
