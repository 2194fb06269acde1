//! One node with many others connected, all of these in one other process, over real sockets.

use crate::aemp_side::{address, builder, node_id};
use crate::clock::now_ns;
use crate::idle::resident_kib;
use crate::sides::Role;
use aemp::{Context, Node};
use anyhow::{Context as _, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// How many changes are in flight at a time.
pub(crate) const IN_FLIGHT: u64 = 64;
pub(crate) const CHANGES: u64 = 400;
/// Changes before these, each of which waits for the one before.
pub(crate) const LONE: u64 = 20;

async fn global(role: &Role<'_>) -> Result<Node> {
    let node = builder("center", role).bind("127.0.0.1:0").start().await?;
    node.become_global();
    Ok(node)
}

async fn slaves(role: &Role<'_>) -> Result<Vec<Node>> {
    let seed = role.arguments.first().context("no seed")?;
    let mut starting = JoinSet::new();
    for number in 0..role.size {
        let builder = builder(&format!("slave{number}"), role)
            .no_binds()
            .set("monitor_timeout", 60)
            .seed(seed);
        starting.spawn(async move { anyhow::Ok(builder.start().await?) });
    }
    let mut nodes = Vec::new();
    while let Some(started) = starting.join_next().await {
        nodes.push(started??);
    }
    Ok(nodes)
}

/// The central node of `slaves_10k` and `joins`: waits until all others are connected, and for
/// `slaves_10k` until all of them know that they have joined, then measures its own memory. Prints
/// after how many seconds all were connected, the memory, and after how many seconds all knew; for
/// `joins`, how many nodes were connected per second, and the memory.
pub(crate) async fn center(role: &Role<'_>) -> Result<()> {
    let node = global(role).await?;
    let before = resident_kib("self")?;
    let begun = Arc::new(AtomicU64::new(0));
    let noted = begun.clone();
    let port = node.port_of_tags();
    port.on("begun", move |_: &Context<'_>, (time,): (u64,)| noted.store(time, Relaxed));
    let all_joined = Arc::new(Notify::new());
    let told = all_joined.clone();
    port.on("joined", move |_: &Context<'_>, ()| told.notify_one());
    println!("READY {} {}", address(&node), port.id());
    while node.up_nodes().len() < role.size + 1 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let seconds = || (now_ns() - begun.load(Relaxed)) as f64 / 1e9;
    let connected = seconds();
    let waits_for_slaves = role.case == "slaves_10k";
    if waits_for_slaves {
        all_joined.notified().await;
    }
    let joined = seconds();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let each = (resident_kib("self")? - before) / role.size as f64;
    match waits_for_slaves {
        true => println!("RESULT {connected} {each} {joined}"),
        false => println!("RESULT {} {each}", role.size as f64 / connected),
    }
    Ok(())
}

/// The slaves of `slaves_10k` and `joins`.
pub(crate) async fn join(role: &Role<'_>) -> Result<()> {
    let seed = role.arguments.first().context("no seed")?;
    let teller = builder("teller", role).no_binds().seed(seed).start().await?;
    teller.joined().await;
    let port: aemp::PortId = role.arguments.get(1).context("no port")?.parse()?;
    teller.snd(&port, ("begun", now_ns()))?;
    let nodes = slaves(role).await?;
    if role.case == "slaves_10k" {
        let mut joining: JoinSet<()> =
            nodes.iter().cloned().map(|node| async move { node.joined().await }).collect();
        while joining.join_next().await.is_some() {}
        teller.snd(&port, ("joined",))?;
    }
    std::future::pending::<()>().await;
    drop(nodes);
    Ok(())
}

/// The node whose entries change, in `fanout_1k`.
pub(crate) async fn fan_out(role: &Role<'_>) -> Result<()> {
    let node = global(role).await?;
    let seen = Arc::new((AtomicU64::new(0), Notify::new()));
    let port = node.port_of_tags();
    let told = seen.clone();
    port.on("seen", move |_: &Context<'_>, (number,): (u64,)| {
        // Reports of the next change may arrive before the last one of this change.
        told.0.fetch_max(number, Relaxed);
        told.1.notify_one();
    });
    let ready = Arc::new(Notify::new());
    let is_ready = ready.clone();
    port.on("ready", move |_: &Context<'_>, ()| is_ready.notify_one());
    println!("READY {} {} {}", address(&node), port.id(), node.id());
    ready.notified().await;
    let db = node.db();
    let wait_for = async |number: u64| {
        while seen.0.load(Relaxed) < number {
            seen.1.notified().await;
        }
    };
    let mut lone = Vec::new();
    for number in 1..=LONE {
        let begun = Instant::now();
        db.set("bench", "key", number)?;
        wait_for(number).await;
        lone.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    lone.sort_by(f64::total_cmp);
    let begun = Instant::now();
    for number in 1..=CHANGES {
        wait_for((LONE + number).saturating_sub(IN_FLIGHT)).await;
        db.set("bench", "key", LONE + number)?;
    }
    wait_for(LONE + CHANGES).await;
    let deliveries = (CHANGES * role.size as u64) as f64;
    let rate = deliveries / begun.elapsed().as_secs_f64() / 1e6;
    println!("RESULT {} {rate}", lone.get(10).copied().unwrap_or(0.0));
    Ok(())
}

/// The subscribers of `fanout_1k`: they report when the last of them has seen a change.
pub(crate) async fn subscribe(role: &Role<'_>) -> Result<()> {
    let center = role.arguments.get(2).context("no node")?;
    let center = node_id(center)?;
    let port: aemp::PortId = role.arguments.get(1).context("no port")?.parse()?;
    let nodes = slaves(role).await?;
    let count = nodes.len() as u64;
    let counts: Arc<Vec<AtomicU64>> =
        Arc::new((0..CHANGES + 64).map(|_| AtomicU64::new(0)).collect());
    let ready = Arc::new(AtomicU64::new(0));
    let mut watching = JoinSet::new();
    for node in nodes {
        let (counts, ready, port, center) =
            (counts.clone(), ready.clone(), port.clone(), center.clone());
        watching.spawn(async move {
            let mut changes = node.db().monitor("bench");
            changes.next().await.context("no first report")?;
            let _: (f64,) = node.call(&center, ("time",)).await?;
            if ready.fetch_add(1, Relaxed) + 1 == count {
                node.snd(&port, ("ready",))?;
            }
            let key = "key".into();
            loop {
                let change = changes.next().await.context("shut down")?;
                if let Some(number) = change.value::<u64>(&key)?
                    && let Some(seen) = counts.get(number as usize)
                    && seen.fetch_add(1, Relaxed) + 1 == count
                {
                    node.snd(&port, ("seen", number))?;
                }
            }
            #[allow(unreachable_code)]
            anyhow::Ok(())
        });
    }
    while let Some(ended) = watching.join_next().await {
        ended??;
    }
    Ok(())
}
