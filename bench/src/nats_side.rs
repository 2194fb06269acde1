//! The clients of a NATS server, which is a process of its own between them. The client library switches
//! Nagle's algorithm off and batches small messages by itself.

use crate::clock::{now_ns, percentile};
use crate::idle::resident_kib;
use crate::sides::{Role, runtime};
use crate::swarm::{CHANGES, IN_FLIGHT, LONE};
use anyhow::{Context as _, Result, bail, ensure};
use async_nats::{Client, ConnectOptions, Message, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const FRAME: usize = 32;

/// Commands that may wait for a client's connection; by default 2,048.
const COMMANDS: usize = 65_536;

/// Messages that may wait for a subscriber, which loses what is more.
const MESSAGES: usize = 1 << 20;

/// The sender of `oneway_cbor` waits while so many messages are not yet received, since the server would
/// otherwise give up a slow receiver, and the receiver tells how many it has after so many of them.
const WINDOW: u64 = 200_000;
const TOLD_EVERY: u64 = 5_000;

const CALLS_IN_FLIGHT: usize = 1000;

pub(crate) fn run(role: &Role<'_>) -> Result<()> {
    runtime(role)?.block_on(async {
        match (role.case, role.part) {
            ("oneway_cbor", "receiver") => receive(role).await,
            ("oneway_cbor", _) => send(role).await,
            ("rtt", "receiver") => echo(role).await,
            ("rtt", _) => round_trips(role).await,
            ("calls", "receiver") => answer(role).await,
            ("calls", _) => calls(role).await,
            ("fanout_1k", "center") => publish(role).await,
            ("fanout_1k", _) => subscribe(role).await,
            ("joins", "center") => count_all(role).await,
            ("joins", _) => connect_all(role).await,
            _ => bail!("no such case"),
        }
    })
}

async fn connect(role: &Role<'_>) -> Result<Client> {
    let address = role.arguments.first().context("no address")?;
    let options = ConnectOptions::new()
        .client_capacity(COMMANDS)
        .subscription_capacity(MESSAGES)
        .skip_subject_validation(true);
    Ok(options.connect(address.as_str()).await?)
}

/// Subscriptions that are in effect when this returns, since the server handles a connection's commands in
/// order.
async fn subscriptions<const N: usize>(
    client: &Client,
    subjects: [&'static str; N],
) -> Result<[Subscriber; N]> {
    let mut subscribers = Vec::new();
    for subject in subjects {
        subscribers.push(client.subscribe(subject).await?);
    }
    let inbox = client.new_inbox();
    let mut own = client.subscribe(inbox.clone()).await?;
    client.publish(inbox, Bytes::new()).await?;
    own.next().await.context("the connection ended")?;
    subscribers.try_into().map_err(|_| anyhow::anyhow!("too few subscriptions"))
}

async fn next(subscriber: &mut Subscriber) -> Result<Message> {
    subscriber.next().await.context("the connection ended")
}

fn frame(number: u64) -> Bytes {
    let mut frame = vec![0x41; FRAME];
    frame[..8].copy_from_slice(&number.to_be_bytes());
    frame.into()
}

fn number(message: &Message) -> Result<u64> {
    let number = message.payload.first_chunk().context("a short message")?;
    Ok(u64::from_be_bytes(*number))
}

async fn receive(role: &Role<'_>) -> Result<()> {
    let client = connect(role).await?;
    let [mut messages] = subscriptions(&client, ["msg"]).await?;
    println!("READY");
    let mut seen = 0;
    loop {
        black_box(next(&mut messages).await?);
        seen += 1;
        if seen % TOLD_EVERY == 0 {
            client.publish("seen", frame(seen)).await?;
        }
    }
}

async fn send(role: &Role<'_>) -> Result<()> {
    let client = connect(role).await?;
    let [mut told] = subscriptions(&client, ["seen"]).await?;
    let message = frame(0);
    let (mut sent, mut seen, mut rate) = (0, 0, 0.0);
    // The first run is a warm-up.
    for count in [role.size as u64 / 20, role.size as u64] {
        let count = count.next_multiple_of(TOLD_EVERY);
        let begun = Instant::now();
        for _ in 0..count {
            client.publish("msg", message.clone()).await?;
            sent += 1;
            while sent - seen > WINDOW {
                seen = number(&next(&mut told).await?)?;
            }
        }
        while seen < sent {
            seen = number(&next(&mut told).await?)?;
        }
        rate = count as f64 / begun.elapsed().as_secs_f64() / 1e6;
    }
    println!("RESULT {rate}");
    Ok(())
}

async fn echo(role: &Role<'_>) -> Result<()> {
    let client = connect(role).await?;
    let [mut messages] = subscriptions(&client, ["there"]).await?;
    println!("READY");
    loop {
        let message = next(&mut messages).await?;
        client.publish("back", message.payload).await?;
    }
}

async fn round_trips(role: &Role<'_>) -> Result<()> {
    let client = connect(role).await?;
    let [mut answers] = subscriptions(&client, ["back"]).await?;
    let message = frame(0);
    let mut times = Vec::with_capacity(role.size);
    for _ in 0..role.size {
        let begun = Instant::now();
        client.publish("there", message.clone()).await?;
        next(&mut answers).await?;
        times.push(begun.elapsed().as_nanos() as u64);
    }
    let (median, p99) = (percentile(&mut times, 0.5), percentile(&mut times, 0.99));
    println!("RESULT {} {}", median / 1000.0, p99 / 1000.0);
    Ok(())
}

/// Answers each call with the next number.
async fn answer(role: &Role<'_>) -> Result<()> {
    let client = connect(role).await?;
    let [mut calls] = subscriptions(&client, ["add"]).await?;
    println!("READY");
    loop {
        let call = next(&mut calls).await?;
        let answer = frame(number(&call)? + 1);
        client.publish(call.reply.context("a call without reply")?, answer).await?;
    }
}

async fn calls(role: &Role<'_>) -> Result<()> {
    let client = connect(role).await?;
    let each = role.size / CALLS_IN_FLIGHT;
    let begun = Instant::now();
    let mut callers = JoinSet::new();
    for caller in 0..CALLS_IN_FLIGHT {
        let client = client.clone();
        callers.spawn(async move {
            for asked in 0..each {
                let asked = (caller * each + asked) as u64;
                let answer = client.request("add", frame(asked)).await?;
                ensure!(number(&answer)? == asked + 1, "wrong answer");
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = callers.join_next().await {
        done??;
    }
    let rate = (each * CALLS_IN_FLIGHT) as f64 / begun.elapsed().as_secs_f64() / 1e6;
    println!("RESULT {rate}");
    Ok(())
}

/// Publishes what `fanout_1k` of a node enters into the database, when all have subscribed.
async fn publish(role: &Role<'_>) -> Result<()> {
    let client = connect(role).await?;
    let [mut ready, mut reports] = subscriptions(&client, ["ready", "seen"]).await?;
    println!("READY");
    next(&mut ready).await?;
    let mut seen = 0;
    let mut lone = Vec::new();
    for number in 1..=LONE {
        let begun = Instant::now();
        client.publish("changes", frame(number)).await?;
        wait_for(number, &mut seen, &mut reports).await?;
        lone.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    lone.sort_by(f64::total_cmp);
    let begun = Instant::now();
    for number in 1..=CHANGES {
        wait_for((LONE + number).saturating_sub(IN_FLIGHT), &mut seen, &mut reports).await?;
        client.publish("changes", frame(LONE + number)).await?;
    }
    wait_for(LONE + CHANGES, &mut seen, &mut reports).await?;
    let deliveries = (CHANGES * role.size as u64) as f64;
    let rate = deliveries / begun.elapsed().as_secs_f64() / 1e6;
    println!("RESULT {} {rate}", lone.get(lone.len() / 2).copied().unwrap_or(0.0));
    Ok(())
}

/// Waits until all subscribers have seen this change.
async fn wait_for(change: u64, seen: &mut u64, reports: &mut Subscriber) -> Result<()> {
    while *seen < change {
        *seen = (*seen).max(number(&next(reports).await?)?);
    }
    Ok(())
}

/// All subscribers, each with a connection and a task of its own.
async fn subscribe(role: &Role<'_>) -> Result<()> {
    let counts: Arc<Vec<AtomicUsize>> =
        Arc::new((0..=LONE + CHANGES).map(|_| AtomicUsize::new(0)).collect());
    let mut watching = JoinSet::new();
    let everybody = role.size;
    for client in clients(role).await? {
        let [mut changes] = subscriptions(&client, ["changes"]).await?;
        let counts = counts.clone();
        watching.spawn(async move {
            loop {
                let change = number(&next(&mut changes).await?)?;
                let seen = counts.get(change as usize).context("an unknown change")?;
                if seen.fetch_add(1, Relaxed) + 1 == everybody {
                    client.publish("seen", frame(change)).await?;
                }
            }
            #[allow(unreachable_code)]
            anyhow::Ok(())
        });
    }
    let client = connect(role).await?;
    client.publish("ready", Bytes::new()).await?;
    while let Some(ended) = watching.join_next().await {
        ended??;
    }
    Ok(())
}

/// As many clients as the case has, each with a connection of its own.
async fn clients(role: &Role<'_>) -> Result<Vec<Client>> {
    let mut clients = Vec::new();
    for _ in 0..role.size {
        clients.push(connect(role).await?);
    }
    Ok(clients)
}

/// How many clients connect in a second, and the server's memory for each.
async fn count_all(role: &Role<'_>) -> Result<()> {
    let server = role.arguments.get(1).context("no process ID")?;
    let client = connect(role).await?;
    let [mut joined] = subscriptions(&client, ["joined"]).await?;
    let before = resident_kib(server)?;
    println!("READY");
    let seconds = number(&next(&mut joined).await?)? as f64 / 1e9;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let each = (resident_kib(server)? - before) / role.size as f64;
    println!("RESULT {} {each}", role.size as f64 / seconds);
    Ok(())
}

/// Opens connections, says how long that took, and keeps them.
async fn connect_all(role: &Role<'_>) -> Result<()> {
    let begun = now_ns();
    let clients = clients(role).await?;
    let took = now_ns() - begun;
    clients.first().context("no client")?.publish("joined", frame(took)).await?;
    std::future::pending::<()>().await;
    drop(clients);
    Ok(())
}
