//! §5.1: how a node tells a new master a database that it may have to divide.

use super::master::Master;
use crate::conform::check::{Check, check, run};
use crate::conform::checks::pieces::{Told, entries};
use crate::conform::context::Ctx;
use crate::conform::stop::{Verdict, ensure};
use serde_json::json;

/// The checks of this file.
pub(in crate::conform::checks) const CHECKS: &[Check] = &[
    check("slave-pieces", "5.1t", "Sends a new master one g_slave, however large its database.")
        .seeds(2)
        .by(run!(one_database)),
    check("slave-pieces-first", "5.1u", "Subscribes after the last piece of a large database.")
        .seeds(2)
        .by(run!(before_subscriptions)),
];

/// A node with a large family at its master, and another seed of it, which is its next master.
async fn large(c: Ctx) -> Verdict<(Master, Master)> {
    let mut m = Master::with_service(c).await?;
    for (key, value) in entries() {
        m.lets_set(&key, value).await?;
    }
    let done = json!(["echo", m.port("done"), "done"]);
    m.lets(done).await?;
    m.expect(json!(["done", "done"])).await?;
    let next = m.next().await?;
    Ok((m, next))
}

async fn one_database(c: Ctx) -> Verdict {
    let (m, mut next) = large(c).await?;
    m.closes().await;
    next.send(json!(["", "g_global"])).await?;
    let family = next.family.clone();
    let mut told = Told::of(&family, "g_slave");
    told.all(&mut next).await?;
    let count = told.databases.len();
    ensure(count == 1, || format!("it sent {count} databases, each instead of the one before"))
}

async fn before_subscriptions(c: Ctx) -> Verdict {
    let (mut m, mut next) = large(c).await?;
    let report = next.port("report");
    m.lets_watch("label", &report).await?;
    m.is_subscribed().await?;
    m.closes().await;
    next.send(json!(["", "g_global"])).await?;
    let family = next.family.clone();
    let before = next.all_before(json!(["", "g_mon1", family])).await?;
    let mut told = Told::of(&family, "g_slave");
    told.hear(&before);
    ensure(told.is_all(), || format!("when it subscribed, it had told {}", told.how_many()))
}
