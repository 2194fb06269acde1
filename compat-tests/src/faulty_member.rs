//! Deliberately broken members of a network: our node behind a relay on all connections of its seeds.

use crate::faulty::{
    Detours, Direction, Fault, FaultState, HandshakeFault, Packet, Relay, Sent, is_request,
};
use crate::node::SECRET;
use aemp::value::{Hash, Str};
use aemp::{Node, Value};
use std::sync::{Arc, Mutex};
use tokio::net::{TcpListener, TcpStream};

/// Faults of a member, each with the check of networks that has to find it.
pub const NETWORK_FAULTS: &[(&str, Fault, &str)] = &[
    ("no change told", Fault::Requests(Direction::Out, "g_upd", lost), "split-apart"),
    ("no deletion told", Fault::Requests(Direction::Out, "g_upd", without_deletions), "db-agree"),
    ("a lost kil0", Fault::Requests(Direction::Out, "kil0", lost), "mon-port"),
    ("seeds dialled once", Fault::Handshake(HandshakeFault::DialsOnce), "mon-cut"),
    ("every tenth message lost", Fault::Packets(every_tenth_lost), "msg-pause"),
    ("one message lost", Fault::Packets(one_lost), "msg-cut"),
    ("messages sent again", Fault::Packets(sends_again), "msg-silence"),
    ("a lost connection not told", Fault::Messages("fired", lost), "split-silent"),
    ("old entries after a split", Fault::Packets(repeats_entries), "split-dead"),
    ("one g_set", Fault::Requests(Direction::Out, "g_set", once), "split-heals"),
    ("one database", Fault::Requests(Direction::Out, "g_slave", one_database), "seed-lost"),
];

/// Runs a member with that fault, or none.
///
/// # Panics
/// If it cannot be started.
pub async fn run(fault: &str, id: &str, bind: &str, seeds: &str) {
    let fault = NETWORK_FAULTS.iter().find(|(name, ..)| *name == fault);
    let fault = fault.map_or(Fault::None, |(_, fault, _)| *fault);
    let detours = Arc::new(Detours::new(bind));
    let relay = || Relay::new(id, SECRET, fault).with_detours(detours.clone());
    let mut builder = Node::builder().node_id(id).secret(SECRET).bind("127.0.0.1:0");
    for seed in seeds.split(',') {
        builder = builder.seed(&relay().before_seed(seed.to_owned()));
    }
    let node = crate::service::registered(builder).start().await.unwrap();
    let address = node.addresses()[0].to_string();
    detours.leads_to(&address);
    let inside = relay().in_front_of(address).await;
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

/// All entries that this process has ever sent.
static KNOWN_ENTRIES: Mutex<Option<Hash>> = Mutex::new(None);

/// Each `g_set` has all entries that were ever sent, in any request.
fn repeats_entries(_: &mut FaultState, way: Direction, mut packet: Packet) -> Sent {
    let mut told = KNOWN_ENTRIES.lock().unwrap();
    let told = told.get_or_insert_default();
    let mut remember = |family: &Str, entries: &Value| {
        let Some(entries) = entries.as_hash().filter(|_| !is_internal(family)) else {
            return;
        };
        let new = || (family.clone(), Value::Hash(Hash::new()));
        if !told.contains_key(family) {
            told.extend([new()]);
        }
        if let Some(Value::Hash(all)) = told.get_mut(family) {
            all.extend(entries.iter().map(|(key, value)| (key.clone(), value.clone())));
        }
    };
    if way == Direction::Out && is_request(&packet, "g_upd") {
        if let Some(family) = packet[2].to_str() {
            remember(&family, &packet[3]);
        }
    } else if way == Direction::Out && is_request(&packet, "g_set") {
        let Value::Hash(database) = &mut packet[2] else {
            return vec![(way, packet)];
        };
        for (family, entries) in database.iter() {
            remember(family, entries);
        }
        database.extend(told.iter().map(|(family, entries)| (family.clone(), entries.clone())));
    }
    vec![(way, packet)]
}

/// Whether nodes keep their knowledge of each other in this family.
fn is_internal(family: &Str) -> bool {
    family.to_text_lossy().starts_with('\'')
}

/// Whether a packet is a message to a service, or from one service to another.
fn is_message(packet: &[Value]) -> bool {
    packet.get(1).and_then(Value::to_str).is_some_and(|tag| *tag == Str::text("echo"))
}

fn every_tenth_lost(memory: &mut FaultState, way: Direction, packet: Packet) -> Sent {
    let messages = memory.entry("messages").or_default();
    if way == Direction::In && is_message(&packet) {
        messages.push(Vec::new());
        if messages.len() % 10 == 9 {
            return Vec::new();
        }
    }
    vec![(way, packet)]
}

/// Each message that is not answered at once, as none is.
fn sends_again(_: &mut FaultState, way: Direction, packet: Packet) -> Sent {
    match way == Direction::Out && is_message(&packet) {
        true => vec![(way, packet.clone()), (way, packet)],
        false => vec![(way, packet)],
    }
}

/// The seventieth: fifty come before the one that is under way.
fn one_lost(memory: &mut FaultState, way: Direction, packet: Packet) -> Sent {
    let messages = memory.entry("messages").or_default();
    if way == Direction::Out && is_message(&packet) {
        messages.push(Vec::new());
        if messages.len() == 70 {
            return Vec::new();
        }
    }
    vec![(way, packet)]
}
