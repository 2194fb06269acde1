//! The benchmark processes that use aemp.

use crate::clock::{self, now_ns, percentile};
use crate::sides::{Role, runtime};
use crate::{eight, swarm};
use aemp::{CallbackPort, Context, Node, NodeBuilder, NodeId, PortId};
use anyhow::{Context as _, Result, bail};
use serde_bytes::{ByteBuf, Bytes};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

pub(crate) const SECRET: &str = "geheim";
pub(crate) const TEXT: &str = "hello world";
const IN_FLIGHT: usize = 1000;

pub(crate) fn run(role: &Role<'_>) -> Result<()> {
    runtime(role)?.block_on(async {
        match (role.case, role.part) {
            ("local_callback", _) => local_callback(role.size).await,
            ("local_8to8", _) => eight::local(role.size).await,
            ("local_mailbox", _) => local_mailbox(role.size).await,
            ("rtt" | "rtt_bound" | "echo_beside_flood", "sender") => round_trips(role).await,
            ("echo_beside_flood", "flooder") => flood(role).await,
            ("calls", "sender") => calls(role).await,
            ("db_propagate", "master") => wait(&start("master", role).await?).await,
            ("db_propagate", "watcher") => watch(role).await,
            ("db_propagate", "setter") => set(role).await,
            ("fanout_1k", "center") => swarm::fan_out(role).await,
            ("slaves_10k" | "joins" | "joins_bound", "center") => swarm::center(role).await,
            ("fanout_1k", _) => swarm::subscribe(role).await,
            ("slaves_10k" | "joins" | "joins_bound", _) => swarm::join(role).await,
            ("oneway_8to8", _) => eight::pairs(role).await,
            ("oneway_8to1", "receiver") => eight::receive(role).await,
            ("oneway_8to1", _) => eight::send(role).await,
            (_, "receiver") => receive(role).await,
            ("oneway_4k" | "oneway_4k_vec", _) => send_blobs(role).await,
            (_, "sender") => send(role).await,
            _ => bail!("no such case"),
        }
    })
}

/// A node that encrypts if the case measures encryption.
pub(crate) fn builder(id: &str, role: &Role<'_>) -> NodeBuilder {
    let builder = Node::builder().node_id(id).secret(SECRET);
    // On loopback, nodes do not encrypt by default.
    if role.case.ends_with("_bound") { builder.set("encrypt", "1") } else { builder }
}

/// A node for the case; the first argument, if there is one, is its seed.
pub(crate) async fn start(id: &str, role: &Role<'_>) -> Result<Node> {
    let mut builder = builder(id, role).bind("127.0.0.1:0");
    builder = match role.case {
        "oneway_json" => builder.set("framing_format", vec!["json"]),
        "oneway_tls" => builder.cert(&certificate(role)?),
        _ => builder,
    };
    if let Some(seed) = role.arguments.first() {
        builder = builder.seed(seed);
    }
    let node = builder.start().await?;
    if !role.arguments.is_empty() {
        node.joined().await;
    }
    Ok(node)
}

/// Where the receiver of `oneway_tls` leaves its certificate for the sender.
fn certificate_file(process: u32) -> std::path::PathBuf {
    std::env::temp_dir().join(format!("aemp-bench-{process}.pem"))
}

/// The certificate of both sides, which the receiver makes.
fn certificate(role: &Role<'_>) -> Result<String> {
    match role.arguments.get(2) {
        Some(process) => {
            let file = certificate_file(process.parse()?);
            let pem = std::fs::read_to_string(&file)?;
            std::fs::remove_file(file)?;
            Ok(pem)
        }
        None => {
            let pem = aemp::node::tls::gencert(std::time::SystemTime::now())?;
            std::fs::write(certificate_file(std::process::id()), &pem)?;
            Ok(pem)
        }
    }
}

/// Prints this node's address, and keeps running.
async fn wait(node: &Node) -> Result<()> {
    println!("READY {} {}", address(node), node.id());
    std::future::pending().await
}

pub(crate) fn address(node: &Node) -> String {
    node.addresses().first().map(ToString::to_string).unwrap_or_default()
}

async fn receive(role: &Role<'_>) -> Result<()> {
    let node = start("receiver", role).await?;
    let seen = Arc::new(AtomicU64::new(0));
    let (count, borrowed) = (seen.clone(), seen.clone());
    let port = match role.case {
        "oneway_4k" => node.port_with(move |_: &Context<'_>, message| -> Result<(), String> {
            let decoded = message.decode::<(&str, u64, &Bytes)>();
            black_box(decoded.map_err(|error| error.to_string())?);
            borrowed.fetch_add(1, Relaxed);
            Ok(())
        }),
        _ => node.port_of_tags(),
    };
    port.on("msg", move |_: &Context<'_>, message: (u64, String)| {
        black_box(message);
        count.fetch_add(1, Relaxed);
    });
    let count = seen.clone();
    port.on("vec", move |_: &Context<'_>, message: (u64, ByteBuf)| {
        black_box(message);
        count.fetch_add(1, Relaxed);
    });
    port.on("echo", |ctx: &Context<'_>, (number, text, reply): (u64, String, PortId)| {
        ctx.snd(&reply, ("echo", number, text))
    });
    port.on("add", |ctx: &Context<'_>, (number, reply): (u64, PortId)| {
        ctx.snd(&reply, (number + 1,))
    });
    port.on("end", move |ctx: &Context<'_>, (reply,): (PortId,)| {
        ctx.snd(&reply, ("end", seen.swap(0, Relaxed)))
    });
    println!("READY {} {} {}", address(&node), port.id(), std::process::id());
    std::future::pending().await
}

fn target(role: &Role<'_>) -> Result<PortId> {
    Ok(role.arguments.get(1).context("no port")?.parse()?)
}

async fn send(role: &Role<'_>) -> Result<()> {
    let node = start("sender", role).await?;
    let to = target(role)?;
    // The first run is a warm-up.
    send_and_count(&node, &to, role.size / 20).await?;
    let begun = Instant::now();
    send_and_count(&node, &to, role.size).await?;
    println!("RESULT {}", role.size as f64 / begun.elapsed().as_secs_f64() / 1e6);
    Ok(())
}

/// Sends this many messages to a port, which says how many have arrived.
pub(crate) async fn send_and_count(node: &Node, to: &PortId, count: usize) -> Result<()> {
    let mut replies = node.port();
    for number in 0..count {
        if number % 256 == 0 {
            node.snd_wait(to, ("msg", number, TEXT)).await?;
        } else {
            node.snd(to, ("msg", number, TEXT))?;
        }
    }
    node.snd(to, ("end", replies.id()))?;
    let (_, seen): (String, usize) = replies.recv().await?;
    if seen != count {
        bail!("{seen} of {count} arrived");
    }
    Ok(())
}

/// A port that counts its messages until it is asked how many there were.
pub(crate) fn counting_port(node: &Node) -> CallbackPort {
    let seen = Arc::new(AtomicU64::new(0));
    let count = seen.clone();
    let port = node.port_of_tags();
    port.on("msg", move |_: &Context<'_>, message: (u64, String)| {
        black_box(message);
        count.fetch_add(1, Relaxed);
    });
    port.on("end", move |ctx: &Context<'_>, (reply,): (PortId,)| {
        ctx.snd(&reply, ("end", seen.swap(0, Relaxed)))
    });
    port
}

async fn send_blobs(role: &Role<'_>) -> Result<()> {
    let node = start("sender", role).await?;
    let to = target(role)?;
    let mut replies = node.port();
    let blob = vec![0xa5_u8; 4096];
    let tag = if role.case == "oneway_4k" { "blob" } else { "vec" };
    let begun = Instant::now();
    for number in 0..role.size {
        node.snd_wait(&to, (tag, number, Bytes::new(&blob))).await?;
    }
    node.snd(&to, ("end", replies.id()))?;
    let (_, seen): (String, usize) = replies.recv().await?;
    if seen != role.size {
        bail!("{seen} of {} arrived", role.size);
    }
    println!("RESULT {}", role.size as f64 * 4096.0 / begun.elapsed().as_secs_f64() / 1e6);
    Ok(())
}

async fn round_trips(role: &Role<'_>) -> Result<()> {
    let node = start("sender", role).await?;
    let to = target(role)?;
    let mut replies = node.port();
    let own = replies.id();
    let mut times = Vec::with_capacity(role.size);
    for number in clock::round_trips(role.size) {
        let begun = Instant::now();
        node.snd(&to, ("echo", number, TEXT, &own))?;
        let _: (String, usize, String) = replies.recv().await?;
        times.push(begun.elapsed().as_nanos() as u64);
    }
    let (median, p99) = (percentile(&mut times, 0.5), percentile(&mut times, 0.99));
    println!("RESULT {} {}", median / 1000.0, p99 / 1000.0);
    Ok(())
}

/// Sends as much as the receiver takes, until it is killed.
async fn flood(role: &Role<'_>) -> Result<()> {
    let node = start("flooder", role).await?;
    let to = target(role)?;
    println!("READY");
    for number in 0_u64.. {
        if number % 256 == 0 {
            node.snd_wait(&to, ("msg", number, TEXT)).await?;
        } else {
            node.snd(&to, ("msg", number, TEXT))?;
        }
    }
    Ok(())
}

async fn calls(role: &Role<'_>) -> Result<()> {
    let node = start("sender", role).await?;
    let to = target(role)?;
    let each = role.size / IN_FLIGHT;
    let begun = Instant::now();
    let mut callers = JoinSet::new();
    for caller in 0..IN_FLIGHT {
        let (node, to) = (node.clone(), to.clone());
        callers.spawn(async move {
            for number in 0..each {
                let number = caller * each + number;
                let (more,): (usize,) = node.call(&to, ("add", number)).await?;
                anyhow::ensure!(more == number + 1, "wrong answer");
            }
            Ok(())
        });
    }
    while let Some(done) = callers.join_next().await {
        done??;
    }
    let rate = (each * IN_FLIGHT) as f64 / begun.elapsed().as_secs_f64() / 1e6;
    println!("RESULT {rate}");
    Ok(())
}

async fn local_callback(count: usize) -> Result<()> {
    let node = Node::builder().node_id("alone").secret(SECRET).no_binds().start().await?;
    let (done, mut is_done) = oneshot::channel();
    let mut done = Some(done);
    let port = node.port_of_tags();
    let mut seen = 0;
    port.on("msg", move |_: &Context<'_>, message: (usize, String)| {
        black_box(message);
        seen += 1;
        if seen == count
            && let Some(done) = done.take()
        {
            let _ = done.send(());
        }
    });
    let id = port.id();
    let begun = Instant::now();
    for number in 0..count {
        node.snd(&id, ("msg", number, TEXT))?;
    }
    is_done.try_recv()?;
    println!("RESULT {}", count as f64 / begun.elapsed().as_secs_f64() / 1e6);
    Ok(())
}

async fn local_mailbox(count: usize) -> Result<()> {
    let node = Node::builder().node_id("alone").secret(SECRET).no_binds().start().await?;
    let mut port = node.port();
    let id = port.id();
    let begun = Instant::now();
    let reader = tokio::spawn(async move {
        for _ in 0..count {
            let message: (String, usize, String) = port.recv().await?;
            black_box(message);
        }
        anyhow::Ok(())
    });
    let taken = Arc::new(AtomicU64::new(0));
    for number in 0..count {
        node.snd(&id, ("msg", number, TEXT))?;
        // A mailbox holds 64 MiB: yield, so that the reader runs even on a single processor.
        if number % 100_000 == 0 {
            tokio::task::yield_now().await;
        }
    }
    black_box(taken);
    reader.await??;
    println!("RESULT {}", count as f64 / begun.elapsed().as_secs_f64() / 1e6);
    Ok(())
}

async fn watch(role: &Role<'_>) -> Result<()> {
    let node = start("watcher", role).await?;
    let mut changes = node.db().monitor("bench");
    changes.next().await.context("no first report")?;
    println!("READY");
    let (mut seen, mut begun) = (0, 0);
    while seen < role.size {
        let change = changes.next().await.context("shut down")?;
        for (key, value) in change.added().chain(change.changed()) {
            if begun == 0 && *key == *"begun" {
                begun = change.value::<u64>(key)?.context("no time")?;
            } else {
                black_box(value);
                seen += 1;
            }
        }
    }
    println!("RESULT {}", role.size as f64 * 1e3 / (now_ns() - begun) as f64);
    Ok(())
}

async fn set(role: &Role<'_>) -> Result<()> {
    let node = start("setter", role).await?;
    let db = node.db();
    let keys: Vec<String> = (0..role.size).map(|number| format!("key{number}")).collect();
    db.set("bench", "begun", now_ns())?;
    for (number, key) in keys.iter().enumerate() {
        db.set("bench", key.as_str(), number)?;
    }
    std::future::pending().await
}

/// Parses a node ID in an argument.
pub(crate) fn node_id(text: &str) -> Result<NodeId> {
    Ok(text.parse()?)
}
