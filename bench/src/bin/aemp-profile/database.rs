//! The paths of the database and of relayed messages: the work of the node in the middle, of the setter
//! and of the subscriber, each without that of the nodes around it.

use super::{BATCH, batches_of, iterations};
use aemp::Node;
use aemp::kernel::{Authenticated, Kernel, KernelConfig, Now, PeerGreeting};
use aemp::value::packed::Elements;
use aemp::value::{NodeId, Packed};
use anyhow::{Context as _, Result};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Duration;
use tokio::sync::mpsc;

/// A node's kernel with connected peers.
fn kernel(name: &str, others: &[&NodeId]) -> Result<Kernel> {
    let now = Now { uptime: Duration::ZERO, wall: 0.0 };
    let mut kernel = Kernel::new(KernelConfig::repeatable(NodeId::new(name)?), now);
    kernel.set_now(now);
    for node in others {
        let conn = kernel.accepted();
        let provider = Default::default();
        kernel.greeted(conn, PeerGreeting::new((*node).clone(), provider));
        kernel.established(conn, &Authenticated { untrusted: false });
    }
    Ok(kernel)
}

/// A master gets one new key from a slave, and tells another slave that monitors the family.
pub(super) fn merge() -> Result<()> {
    let (setter, watcher) = (NodeId::new("setter")?, NodeId::new("watcher")?);
    let mut kernel = kernel("master", &[&setter, &watcher])?;
    kernel.become_global();
    let nothing = Packed::of(&("g_slave", BTreeMap::<String, u8>::new()))?;
    kernel.node_packet(&setter, nothing.as_elements());
    kernel.node_packet(&watcher, nothing.as_elements());
    kernel.node_packet(&watcher, Packed::of(&("g_mon1", "family"))?.as_elements());
    black_box(kernel.take_effects());
    // Only the digits of keys and values are rewritten, so that building the packet is not counted.
    let set = BTreeMap::from([("key00000", "00000")]);
    let mut update = Packed::of(&("g_upd", "family", set))?.as_elements().octets().to_vec();
    let end = update.len();
    for number in iterations() {
        let mut left = number;
        for digit in (0..5).rev() {
            let octet = b'0' + (left % 10) as u8;
            update[end - 5 + digit] = octet;
            update[end - 11 + digit] = octet;
            left /= 10;
        }
        kernel.node_packet(&setter, Elements::new(3, &update));
        black_box(kernel.take_effects());
    }
    Ok(())
}

/// A node sends a message to another one that a third asked it to send.
pub(super) fn relay() -> Result<()> {
    let (sender, receiver) = (NodeId::new("sender")?, NodeId::new("receiver")?);
    let mut kernel = kernel("relay", &[&sender, &receiver])?;
    let request = Packed::of(&("snd", "receiver#aB3dE5gHab", "msg", 1234, "hello world"))?;
    black_box(kernel.take_effects());
    for _ in iterations() {
        kernel.node_packet(&sender, request.as_elements());
        black_box(kernel.take_effects());
    }
    Ok(())
}

/// A slave sets new keys, one after another. Its master, on a thread of its own, says when it has
/// them, so that no more than a batch is on its way.
pub(super) fn set() -> Result<()> {
    let (address, addresses) = std::sync::mpsc::channel();
    let (told, mut seen) = mpsc::channel(1);
    on_another_thread(async move || {
        let center = center().await?;
        let mut changes = center.db().monitor("bench");
        changes.next().await.context("no first report")?;
        address.send(center.addresses()[0].to_string())?;
        while told.send(()).await.is_ok() {
            for _ in 0..BATCH {
                changes.next().await.context("shut down")?;
            }
        }
        Ok(())
    });
    on_this_thread(async || {
        let slave = slave(&addresses.recv()?).await?;
        let db = slave.db();
        let mut key = *b"key00000";
        for batch in batches_of(BATCH) {
            seen.recv().await.context("the master ended")?;
            for number in 0..BATCH {
                put_digits(&mut key, batch * BATCH + number);
                db.set("bench", key.as_slice(), number)?;
            }
        }
        Ok(())
    })
}

/// Changes of another node's key come to a slave that monitors the family.
pub(super) fn subscriber() -> Result<()> {
    let (address, addresses) = std::sync::mpsc::channel();
    let (ready, mut next) = mpsc::channel(1);
    on_another_thread(async move || {
        let center = center().await?;
        address.send(center.addresses()[0].to_string())?;
        let mut number = 0;
        while next.recv().await.is_some() {
            for _ in 0..BATCH {
                center.db().set("bench", "key", number)?;
                number += 1;
            }
        }
        anyhow::Ok(())
    });
    on_this_thread(async || {
        let slave = slave(&addresses.recv()?).await?;
        let mut changes = slave.db().monitor("bench");
        changes.next().await.context("no first report")?;
        let key = "key".into();
        for batch in batches_of(BATCH) {
            ready.send(()).await?;
            for number in 0..BATCH {
                let change = changes.next().await.context("shut down")?;
                anyhow::ensure!(change.value::<usize>(&key)? == Some(batch * BATCH + number));
            }
        }
        Ok(())
    })
}

/// Writes five digits at the end of `octets`.
fn put_digits(octets: &mut [u8], number: usize) {
    let mut left = number;
    for octet in octets.iter_mut().rev().take(5) {
        *octet = b'0' + (left % 10) as u8;
        left /= 10;
    }
}

async fn center() -> Result<Node> {
    let center = Node::builder().node_id("center").secret("geheim").bind("127.0.0.1:0");
    let center = center.start().await?;
    center.become_global();
    Ok(center)
}

async fn slave(address: &str) -> Result<Node> {
    let slave = Node::builder().node_id("slave").secret("geheim").no_binds().seed(address);
    let slave = slave.start().await?;
    slave.joined().await;
    Ok(slave)
}

fn on_this_thread(path: impl AsyncFnOnce() -> Result<()>) -> Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(path())
}

/// Runs nodes whose work is not counted, until the program ends; an error ends it.
fn on_another_thread(nodes: impl AsyncFnOnce() -> Result<()> + Send + 'static) {
    std::thread::spawn(move || {
        if let Err(problem) = on_this_thread(nodes) {
            eprintln!("{problem:#}");
            std::process::exit(1);
        }
    });
}
