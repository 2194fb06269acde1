//! Faults of databases that are told in several packets.

use super::packets::is_request;
use super::{Direction, FaultState, Packet, Sent};
use aemp::Value;
use aemp::value::{Hash, Str};

/// A `g_upd` that sets entries becomes a database of its own, in the request of this name.
fn as_database(packet: Packet, request: &str) -> Vec<Packet> {
    let family = packet.get(2).and_then(Value::to_str).map(|name| name.into_owned());
    match (family, packet.get(3)) {
        (Some(family), Some(Value::Hash(entries))) => {
            let database = Hash::from_iter([(family, Value::Hash(entries.clone()))]);
            let text = |text: &str| Value::Str(Str::text(text));
            vec![vec![text(""), text(request), Value::Hash(database)]]
        }
        _ => vec![packet],
    }
}

/// Each piece is the whole database of a slave.
pub(super) fn as_g_slave(packet: Packet) -> Vec<Packet> {
    as_database(packet, "g_slave")
}

/// Each piece is the whole database of a global node.
pub(super) fn as_g_set(packet: Packet) -> Vec<Packet> {
    as_database(packet, "g_set")
}

/// Subscriptions overtake the last piece.
pub(super) fn subscribes_early(memory: &mut FaultState, way: Direction, packet: Packet) -> Sent {
    if way == Direction::In {
        return vec![(way, packet)];
    }
    let held = memory.remove("piece").unwrap_or_default();
    if is_request(&packet, "g_upd") {
        memory.insert("piece", vec![packet]);
        return held.into_iter().map(|piece| (way, piece)).collect();
    }
    let is_early = is_request(&packet, "g_mon1");
    let mut sent: Sent = held.into_iter().map(|piece| (way, piece)).collect();
    sent.insert(if is_early { 0 } else { sent.len() }, (way, packet));
    sent
}
