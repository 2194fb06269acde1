//! §5.1: what a node carries over from one master to the next.

use super::master::Master;
use crate::conform::check::{Check, check, run};
use crate::conform::checks::{ANY, REST};
use crate::conform::context::Ctx;
use crate::conform::pattern;
use crate::conform::stop::{Verdict, ensure};
use serde_json::json;

/// The checks of this file.
pub(in crate::conform::checks) const CHECKS: &[Check] = &[
    check("failover-entries", "5.1b", "Sends a new master all the entries it has set.")
        .seeds(2)
        .by(run!(entries)),
    check("failover-monitors", "5.1c", "Monitors its families at the new master.")
        .seeds(2)
        .by(run!(monitors)),
    check("failover-queries", "5.1c", "Asks the new master what the old one did not answer.")
        .seeds(2)
        .by(run!(queries)),
    check(
        "failover-find",
        "5.1c",
        "Asks the new master for a node that the old one did not tell of.",
    )
    .seeds(2)
    .by(run!(search)),
    check("failover-changes", "5.1q", "Reports what differs at the new master.")
        .seeds(2)
        .by(run!(changes)),
    check("failover-unchanged", "5.1q", "Does not report what is the same there.")
        .ours()
        .seeds(2)
        .by(run!(unchanged)),
];

async fn entries(c: Ctx) -> Verdict {
    let mut m = Master::with_service(c).await?;
    m.lets_set("k", json!(["v"])).await?;
    m.is_updated().await?;
    let mut next = m.next().await?;
    let database = m.hands_over(&mut next).await?;
    let entry = database.get(&next.family);
    ensure(entry == Some(&json!({"k": ["v"]})), || format!("its database is {database}"))
}

async fn monitors(c: Ctx) -> Verdict {
    let mut m = Master::with_service(c).await?;
    m.lets_watch("label", &m.port("family")).await?;
    m.is_subscribed().await?;
    let mut next = m.next().await?;
    m.hands_over(&mut next).await?;
    next.is_subscribed().await
}

async fn queries(c: Ctx) -> Verdict {
    let mut m = Master::with_service(c).await?;
    let question = json!(["db_family", m.family, m.port("answer")]);
    m.lets(question).await?;
    let query = json!(["", "g_db_family", m.family, ANY]);
    m.expect(query.clone()).await?;
    let mut next = m.next().await?;
    m.hands_over(&mut next).await?;
    next.expect(query).await?;
    Ok(())
}

async fn search(c: Ctx) -> Verdict {
    let sought = c.name("sought");
    let mut m = Master::with_service(c).await?;
    let message = json!(["snd", format!("{sought}#port"), "hello"]);
    m.lets(message).await?;
    let find = json!(["", "g_find", sought]);
    m.expect(find.clone()).await?;
    let mut next = m.next().await?;
    m.hands_over(&mut next).await?;
    next.expect(find).await?;
    Ok(())
}

async fn changes(c: Ctx) -> Verdict {
    let mut m = Master::with_service(c).await?;
    let mut next = m.next().await?;
    m.lets_watch("label", &next.port("report")).await?;
    m.is_subscribed().await?;
    m.tells_all(json!({"same": 1, "other": 1})).await?;
    next.expect(json!(["report", "label", {"same": 1, "other": 1}, ANY, ANY, ANY])).await?;
    m.hands_over(&mut next).await?;
    next.is_subscribed().await?;
    let content = json!({"same": 1, "other": 2, "new": 3});
    next.tells_all(content.clone()).await?;
    let report = next.gets_report(json!(["label", content, ["new"], ANY, []])).await?;
    // The reference reports each key that existed before as changed.
    let changed = report.get(4).map(pattern::to_json).unwrap_or_default();
    let has_other = changed.as_array().is_some_and(|keys| keys.contains(&json!("other")));
    ensure(has_other, || format!("what it reports as changed is {changed}"))
}

async fn unchanged(c: Ctx) -> Verdict {
    let mut m = Master::with_service(c).await?;
    let mut next = m.next().await?;
    m.lets_watch("label", &next.port("report")).await?;
    m.is_subscribed().await?;
    m.tells_all(json!({"same": 1})).await?;
    next.expect(json!(["report", "label", {"same": 1}, REST])).await?;
    m.hands_over(&mut next).await?;
    next.is_subscribed().await?;
    next.tells_all(json!({"same": 1, "new": 2})).await?;
    next.gets_report(json!(["label", {"same": 1, "new": 2}, ["new"], [], []])).await?;
    Ok(())
}
