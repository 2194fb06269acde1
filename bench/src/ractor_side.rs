//! ractor_cluster's processes.

use crate::clock::{percentile, pin};
use crate::sides::Role;
use anyhow::{Context as _, Result, anyhow, bail};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use ractor_cluster::{NodeServer, RactorClusterMessage};
use std::hint::black_box;
use std::time::{Duration, Instant};

const GROUP: &str = "bench";
const TEXT: &str = "hello world";

#[derive(RactorClusterMessage)]
enum Message {
    Msg(u64, String),
    #[rpc]
    Echo(u64, String, RpcReplyPort<u64>),
    #[rpc]
    End(RpcReplyPort<u64>),
}

struct Receiver;

impl Actor for Receiver {
    type Msg = Message;
    type State = u64;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Message>, (): ()) -> Result<u64, ActorProcessingErr> {
        Ok(0)
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        seen: &mut u64,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Msg(number, text) => {
                black_box((number, text));
                *seen += 1;
            }
            Message::Echo(number, text, reply) => {
                black_box(text);
                reply.send(number)?;
            }
            Message::End(reply) => reply.send(std::mem::take(seen))?,
        }
        Ok(())
    }
}

pub(crate) fn run(role: &Role<'_>) -> Result<()> {
    if role.case == "rtt" {
        pin(usize::from(role.part == "receiver"));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match role.part {
            "alone" => {
                let (receiver, _) = Actor::spawn(None, Receiver, ()).await?;
                one_way(&receiver, role.size).await
            }
            "receiver" => receive().await,
            _ => {
                let receiver = find(role).await?;
                match role.case {
                    "rtt" => round_trips(&receiver, role.size).await,
                    _ => one_way(&receiver, role.size).await,
                }
            }
        }
    })
}

async fn server(port: u16, name: &str) -> Result<ActorRef<ractor_cluster::NodeServerMessage>> {
    let host = "127.0.0.1".to_owned();
    let server = NodeServer::new(port, "bench".to_owned(), name.to_owned(), host, None, None);
    Ok(Actor::spawn(None, server, ()).await?.0)
}

fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

async fn receive() -> Result<()> {
    let port = free_port()?;
    let _server = server(port, "receiver").await?;
    let (receiver, _) = Actor::spawn(None, Receiver, ()).await?;
    ractor::pg::join(GROUP.to_owned(), vec![receiver.get_cell()]);
    println!("READY {port}");
    std::future::pending().await
}

async fn find(role: &Role<'_>) -> Result<ActorRef<Message>> {
    let server = server(free_port()?, "sender").await?;
    let address = format!("127.0.0.1:{}", role.arguments.first().context("no port")?);
    ractor_cluster::client_connect(&server, address).await.map_err(|error| anyhow!("{error}"))?;
    for _ in 0..1000 {
        if let Some(cell) = ractor::pg::get_members(&GROUP.to_owned()).into_iter().next() {
            return Ok(cell.into());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    bail!("the receiver is not found")
}

async fn one_way(receiver: &ActorRef<Message>, size: usize) -> Result<()> {
    let begun = Instant::now();
    for number in 0..size {
        receiver.cast(Message::Msg(number as u64, TEXT.to_owned()))?;
    }
    let seen = ractor::call!(receiver, Message::End)?;
    if seen != size as u64 {
        bail!("{seen} of {size} arrived");
    }
    println!("RESULT {}", size as f64 / begun.elapsed().as_secs_f64() / 1e6);
    Ok(())
}

async fn round_trips(receiver: &ActorRef<Message>, size: usize) -> Result<()> {
    let mut times = Vec::with_capacity(size);
    for number in 0..size {
        let begun = Instant::now();
        black_box(ractor::call!(receiver, Message::Echo, number as u64, TEXT.to_owned())?);
        times.push(begun.elapsed().as_nanos() as u64);
    }
    let (median, p99) = (percentile(&mut times, 0.5), percentile(&mut times, 0.99));
    println!("RESULT {} {}", median / 1000.0, p99 / 1000.0);
    Ok(())
}
