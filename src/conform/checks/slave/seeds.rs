//! §4.1 and §5.1: how a node joins through its seeds, and which one it chooses as master.

use super::master::{database, master, next};
use crate::conform::check::{Check, check, run};
use crate::conform::checks::{ANY, REST};
use crate::conform::context::Ctx;
use crate::conform::stop::{Verdict, ensure, miss};
use serde_json::{Value as Json, json};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The checks of this file.
pub(in crate::conform::checks) const CHECKS: &[Check] = &[
    check("join", "4.1c", "Dials its seed and sends g_slave without an argument.")
        .seeds(1)
        .by(run!(joins)),
    check("join-master", "5.1a", "Takes the seed as its master and sends it its database.")
        .seeds(1)
        .by(run!(adopts)),
    check("join-address", "5b", "Sets its addresses in 'l, and can be dialled there.")
        .seeds(1)
        .by(run!(address_works)),
    check("join-all", "4.1a", "Connects to each of its seeds.").seeds(3).by(run!(joins_all)),
    check("join-one-master", "5.1d", "Has one master at a time.").seeds(2).by(run!(one_master)),
    check("seed-again", "4.1a", "Dials a seed again that was lost.").seeds(1).by(run!(dials_again)),
    check("seed-other-again", "4.1a", "Dials a lost seed again that is not its master.")
        .seeds(2)
        .by(run!(dials_other_again)),
    check("seed-late", "4.1b", "Keeps dialling a seed that refused it several times.")
        .seeds(1)
        .by(run!(dials_after_refusals)),
    check("seed-refused", "4.1b", "Dials a seed again that closed before its greeting.")
        .seeds(1)
        .by(run!(dials_after_refusal)),
    check("seed-master-again", "5.1b", "Sends its database again to a master that came back.")
        .seeds(1)
        .by(run!(adopts_again)),
    check("failover", "5.1b", "Chooses the next seed as master when the master is lost.")
        .seeds(2)
        .by(run!(failover)),
    check("failover-stays", "5.1d", "Stays with its master when an old one comes back.")
        .seeds(2)
        .by(run!(stays)),
];

async fn joins(c: Ctx) -> Verdict {
    let mut m = c.meet_at("m", 0).await?;
    m.expect(json!(["", "g_slave"])).await?;
    Ok(())
}

async fn adopts(c: Ctx) -> Verdict {
    let mut m = c.meet_at("m", 0).await?;
    let database = database(&mut m).await?;
    let addresses = database.get("'l").and_then(|addresses| addresses.get(&m.node));
    ensure(addresses.is_some_and(Json::is_array), || format!("its database is {database}"))
}

async fn address_works(c: Ctx) -> Verdict {
    let mut m = c.meet_at("m", 0).await?;
    let database = database(&mut m).await?;
    let addresses = database.get("'l").and_then(|addresses| addresses.get(&m.node));
    let first = addresses.and_then(|all| all.get(0)).and_then(Json::as_str);
    let Some(address) = first else {
        return miss(format!("it has no address in {database}"));
    };
    match timeout(c.target.patience, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => miss(format!("nobody listens on {address}: {error}")),
        Err(_) => miss(format!("nobody answers on {address}")),
    }
}

async fn joins_all(c: Ctx) -> Verdict {
    let mut seeds = Vec::new();
    for seed in 0..3 {
        let mut session = c.meet_at(&format!("m{seed}"), seed).await?;
        session.expect(json!(["", "g_slave"])).await?;
        seeds.push(session);
    }
    for seed in &mut seeds {
        seed.barrier().await?;
    }
    Ok(())
}

async fn one_master(c: Ctx) -> Verdict {
    let mut m = master(&c).await?;
    let mut other = c.meet_at("o", 1).await?;
    other.send(json!(["", "g_global"])).await?;
    m.barrier().await?;
    other.nothing(json!(["", "g_slave", {REST: ANY}])).await
}

async fn dials_again(c: Ctx) -> Verdict {
    let mut m = c.meet_at("m", 0).await?;
    m.barrier().await?;
    m.close().await;
    let mut m = c.meet_at("m", 0).await?;
    m.expect(json!(["", "g_slave"])).await?;
    Ok(())
}

async fn dials_other_again(c: Ctx) -> Verdict {
    let mut m = master(&c).await?;
    next(&c).await?.close().await;
    let mut other = c.meet_at("n", 1).await?;
    other.expect(json!(["", "g_slave"])).await?;
    m.barrier().await
}

async fn dials_after_refusals(c: Ctx) -> Verdict {
    for _ in 0..2 {
        drop(c.connect_at("m", 0).await?);
    }
    let mut m = c.meet_at("m", 0).await?;
    m.expect(json!(["", "g_slave"])).await?;
    m.close().await;
    drop(c.connect_at("m", 0).await?);
    let mut m = c.meet_at("m", 0).await?;
    m.barrier().await
}

async fn dials_after_refusal(c: Ctx) -> Verdict {
    drop(c.connect_at("m", 0).await?);
    let mut m = c.meet_at("m", 0).await?;
    m.expect(json!(["", "g_slave"])).await?;
    Ok(())
}

async fn adopts_again(c: Ctx) -> Verdict {
    let m = master(&c).await?;
    m.close().await;
    master(&c).await?;
    Ok(())
}

async fn failover(c: Ctx) -> Verdict {
    let m = master(&c).await?;
    let mut next = next(&c).await?;
    m.close().await;
    database(&mut next).await?;
    Ok(())
}

async fn stays(c: Ctx) -> Verdict {
    let m = master(&c).await?;
    let mut next = next(&c).await?;
    m.close().await;
    database(&mut next).await?;
    let mut m = c.meet_at("m", 0).await?;
    m.send(json!(["", "g_global"])).await?;
    next.barrier().await?;
    m.nothing(json!(["", "g_slave", {REST: ANY}])).await
}
