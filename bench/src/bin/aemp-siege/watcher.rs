//! A member that repeatedly asks the node for an echo, as a process of its own, which reports how long it
//! waited.

use super::SECRET;
use aemp::Node;
use aemp::value::NodeId;
use anyhow::{Context as _, Result};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How often it asks for an echo.
const INTERVAL: Duration = Duration::from_millis(20);

/// A node that does not answer for this long would be restarted by its watchdog.
const LONGEST: Duration = Duration::from_secs(60);

/// Runs the member. Each line of standard input is answered with the median, the 99th percentile and the
/// maximum in microseconds since the last one, an echo that is still on its way included.
pub(super) fn run(address: &str) -> Result<()> {
    let (asked, orders) = mpsc::channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            if line.is_err() || asked.send(()).is_err() {
                return;
            }
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let builder = Node::builder().node_id("watcher").secret(SECRET).no_binds();
        let node = builder.seed(address).start().await?;
        node.joined().await;
        println!("ready");
        watch(&node, &orders).await
    })
}

async fn watch(node: &Node, orders: &mpsc::Receiver<()>) -> Result<()> {
    let victim = NodeId::new("victim")?;
    let mut port = node.port();
    let id = port.id();
    let mut waits = Vec::new();
    loop {
        let begun = Instant::now();
        node.snd(&victim, ("snd", &id, "echo"))?;
        let echo = tokio::time::timeout(LONGEST, port.recv::<(String,)>()).await;
        echo.context("the node does not answer")??;
        let wait = begun.elapsed();
        waits.push(wait);
        match orders.try_recv() {
            Ok(()) => report(std::mem::take(&mut waits)),
            Err(mpsc::TryRecvError::Empty) => {}
            Err(mpsc::TryRecvError::Disconnected) => return Ok(()),
        }
        tokio::time::sleep(INTERVAL.saturating_sub(wait)).await;
    }
}

fn report(mut waits: Vec<Duration>) {
    waits.sort_unstable();
    let at = |hundredths: usize| {
        let index = (waits.len() * hundredths / 100).min(waits.len().saturating_sub(1));
        waits.get(index).map_or(0, Duration::as_micros)
    };
    println!("{} {} {}", at(50), at(99), at(100));
}
