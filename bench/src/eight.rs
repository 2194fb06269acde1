//! Eight senders at the same time: tasks of one node, pairs of nodes in one process, and threads that send
//! to ports of their own node.

use crate::aemp_side::{SECRET, TEXT, address, counting_port, send_and_count, start};
use crate::sides::Role;
use aemp::{Context, Node, PortId};
use anyhow::{Context as _, Result};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;
use tokio::task::JoinSet;

const SENDERS: usize = 8;

/// The receiver of `oneway_8to1`: a port for each sender.
pub(crate) async fn receive(role: &Role<'_>) -> Result<()> {
    let node = start("receiver", role).await?;
    let ports: Vec<_> = (0..SENDERS).map(|_| counting_port(&node)).collect();
    let names: Vec<String> = ports.iter().map(|port| port.id().to_string()).collect();
    println!("READY {} {}", address(&node), names.join(" "));
    std::future::pending().await
}

/// The sender of `oneway_8to1`: eight tasks of one node, so that all of them use one connection.
pub(crate) async fn send(role: &Role<'_>) -> Result<()> {
    let node = start("sender", role).await?;
    let ports = role.arguments.get(1..).context("no ports")?;
    let ports = ports.iter().map(|port| port.parse()).collect::<Result<Vec<PortId>, _>>()?;
    let ways: Vec<_> = ports.into_iter().map(|port| (node.clone(), port)).collect();
    run_all(&ways, role.size / 20).await?;
    let begun = Instant::now();
    run_all(&ways, role.size).await?;
    println!("RESULT {}", role.size as f64 / begun.elapsed().as_secs_f64() / 1e6);
    Ok(())
}

/// `oneway_8to8`: eight nodes, each of which sends to another one, over TCP, all in this process.
pub(crate) async fn pairs(role: &Role<'_>) -> Result<()> {
    let (mut ways, mut receivers) = (Vec::new(), Vec::new());
    for number in 0..SENDERS {
        let receiver = start(&format!("receiver{number}"), role).await?;
        let port = counting_port(&receiver);
        let seed = [address(&receiver)];
        let role = Role { arguments: &seed, ..*role };
        ways.push((start(&format!("sender{number}"), &role).await?, port.id()));
        receivers.push((receiver, port));
    }
    run_all(&ways, role.size / 20).await?;
    let begun = Instant::now();
    run_all(&ways, role.size).await?;
    println!("RESULT {}", role.size as f64 / begun.elapsed().as_secs_f64() / 1e6);
    Ok(())
}

/// Sends `count` messages, the same number on each way, each way in a task of its own.
async fn run_all(ways: &[(Node, PortId)], count: usize) -> Result<()> {
    let mut senders = JoinSet::new();
    for (node, port) in ways {
        let (node, port) = (node.clone(), port.clone());
        senders.spawn(async move { send_and_count(&node, &port, count / SENDERS).await });
    }
    while let Some(done) = senders.join_next().await {
        done??;
    }
    Ok(())
}

/// `local_8to8`: eight threads, each of which sends to a callback port of its own on the same node.
pub(crate) async fn local(count: usize) -> Result<()> {
    let node = Node::builder().node_id("alone").secret(SECRET).no_binds().start().await?;
    let each = count / SENDERS;
    let begun = Instant::now();
    let threads: Vec<_> = (0..SENDERS)
        .map(|_| {
            let node = node.clone();
            std::thread::spawn(move || send_locally(&node, each))
        })
        .collect();
    for thread in threads {
        thread.join().map_err(|_| anyhow::anyhow!("a sender panicked"))??;
    }
    println!("RESULT {}", (each * SENDERS) as f64 / begun.elapsed().as_secs_f64() / 1e6);
    Ok(())
}

/// Sends to a port whose callback runs in this thread, as nobody else sends to it.
fn send_locally(node: &Node, count: usize) -> Result<()> {
    let seen = Arc::new(AtomicU64::new(0));
    let counted = seen.clone();
    let port = node.port_of_tags();
    port.on("msg", move |_: &Context<'_>, message: (usize, String)| {
        black_box(message);
        counted.fetch_add(1, Relaxed);
    });
    let id = port.id();
    for number in 0..count {
        node.snd(&id, ("msg", number, TEXT))?;
    }
    let seen = seen.load(Relaxed);
    anyhow::ensure!(seen == count as u64, "{seen} of {count} arrived");
    Ok(())
}
