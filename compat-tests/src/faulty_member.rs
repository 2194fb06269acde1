//! Deliberately broken members of a network: our node behind a relay on all connections of its seeds.

use crate::faulty::{Fault, Lapse, Memory, Packet, Relay, Sent, Way};
use crate::node::SECRET;
use aemp::value::Str;
use aemp::{Node, Value};
use std::sync::Mutex;
use tokio::net::{TcpListener, TcpStream};

/// Faults of a member, each with the check of networks that has to find it.
pub const NETWORK_FAULTS: &[(&str, Fault, &str)] = &[
    ("no change told", Fault::Requests(Way::Out, "g_upd", lost), "split-apart"),
    ("no deletion told", Fault::Requests(Way::Out, "g_upd", without_deletions), "db-agree"),
    ("a lost kil0", Fault::Requests(Way::Out, "kil0", lost), "mon-port"),
    ("seeds dialled once", Fault::Handshake(Lapse::DialsOnce), "mon-cut"),
    ("every tenth message lost", Fault::Packets(every_tenth_lost), "msg-pause"),
    ("one message lost", Fault::Packets(one_lost), "msg-cut"),
    ("old entries after a split", Fault::Packets(repeats_updates), "split-dead"),
    ("one g_set", Fault::Requests(Way::Out, "g_set", once), "split-heals"),
    ("one database", Fault::Requests(Way::Out, "g_slave", one_database), "seed-lost"),
];

/// Runs a member with that fault, or none.
///
/// # Panics
/// If it cannot be started.
pub async fn run(fault: &str, id: &str, bind: &str, seeds: &str) {
    let fault = NETWORK_FAULTS.iter().find(|(name, ..)| *name == fault);
    let fault = fault.map_or(Fault::None, |(_, fault, _)| *fault);
    let relay = || Relay::new(id, SECRET, fault);
    // Its address is announced to other hosts.
    let host = bind.rsplit_once(':').map_or(bind, |(host, _)| host);
    let mut builder = Node::builder().node_id(id).secret(SECRET).bind(&format!("{host}:0"));
    for seed in seeds.split(',') {
        builder = builder.seed(&relay().before_seed(seed.to_owned()).await);
    }
    let node = crate::service::registered(builder).start().await.unwrap();
    let inside = relay().in_front_of(node.addresses()[0].to_string()).await;
    let listener = TcpListener::bind(bind).await.unwrap();
    loop {
        let (mut outside, _) = listener.accept().await.unwrap();
        let inside = inside.clone();
        tokio::spawn(async move {
            let mut inside = TcpStream::connect(inside).await?;
            tokio::io::copy_bidirectional(&mut outside, &mut inside).await
        });
    }
}

fn is_request(packet: &[Value], name: &str) -> bool {
    let is = |at: usize, wanted: &str| {
        packet.get(at).and_then(Value::to_str).is_some_and(|found| *found == Str::text(wanted))
    };
    is(0, "") && is(1, name)
}

fn lost(_: Packet) -> Vec<Packet> {
    Vec::new()
}

fn without_deletions(mut packet: Packet) -> Vec<Packet> {
    packet.truncate(4);
    vec![packet]
}

/// What this process has sent so far; a member is a process of its own.
static SENT: Mutex<Vec<Packet>> = Mutex::new(Vec::new());

fn once(packet: Packet) -> Vec<Packet> {
    let mut sent = SENT.lock().unwrap();
    if !sent.is_empty() {
        return Vec::new();
    }
    sent.push(packet.clone());
    vec![packet]
}

fn one_database(packet: Packet) -> Vec<Packet> {
    match packet.len() {
        2 => vec![packet],
        _ => once(packet),
    }
}

/// After a second `g_set` come all changes that were ever told.
fn repeats_updates(_: &mut Memory, way: Way, packet: Packet) -> Sent {
    let mut sent = vec![(way, packet.clone())];
    if way == Way::Out && is_request(&packet, "g_upd") {
        SENT.lock().unwrap().push(packet);
    } else if way == Way::Out && is_request(&packet, "g_set") {
        sent.extend(SENT.lock().unwrap().iter().map(|update| (way, update.clone())));
    }
    sent
}

/// Of the messages to a service, or from one to another.
fn is_message(packet: &[Value]) -> bool {
    packet.get(1).and_then(Value::to_str).is_some_and(|tag| *tag == Str::text("echo"))
}

fn every_tenth_lost(memory: &mut Memory, way: Way, packet: Packet) -> Sent {
    let messages = memory.entry("messages").or_default();
    if way == Way::In && is_message(&packet) {
        messages.push(Vec::new());
        if messages.len() % 10 == 9 {
            return Vec::new();
        }
    }
    vec![(way, packet)]
}

/// The seventieth: fifty come before the one that is under way.
fn one_lost(memory: &mut Memory, way: Way, packet: Packet) -> Sent {
    let messages = memory.entry("messages").or_default();
    if way == Way::Out && is_message(&packet) {
        messages.push(Vec::new());
        if messages.len() == 70 {
            return Vec::new();
        }
    }
    vec![(way, packet)]
}
