//! Faults of packets: what a broken node sends or ignores instead of a packet.

use super::{Direction, FaultState, Packet, Sent};
use aemp::Value;
use aemp::value::{Hash, Str};
use std::collections::HashMap;
use std::sync::Mutex;

pub(super) fn is(packet: &[Value], at: usize, wanted: &str) -> bool {
    packet.get(at).and_then(Value::to_str).is_some_and(|found| *found == Str::text(wanted))
}

pub(crate) fn is_request(packet: &[Value], name: &str) -> bool {
    is(packet, 0, "") && is(packet, 1, name)
}

fn text(text: &str) -> Value {
    Value::Str(Str::text(text))
}

fn is_empty(value: &Value) -> bool {
    value.as_array().is_some_and(<[Value]>::is_empty)
        || value.as_hash().is_some_and(|hash| hash.is_empty())
}

/// The packet does not arrive.
pub(super) fn lost(_: Packet) -> Vec<Packet> {
    Vec::new()
}

/// The packet arrives twice.
pub(super) fn twice(packet: Packet) -> Vec<Packet> {
    vec![packet.clone(), packet]
}

/// The packet ends the connection: our node closes when it reads this.
pub(super) fn closes(_: Packet) -> Vec<Packet> {
    vec![vec![Value::Undef]]
}

/// The packet loses all that follows its first elements.
pub(super) fn shortened<const LENGTH: usize>(mut packet: Packet) -> Vec<Packet> {
    packet.truncate(LENGTH);
    vec![packet]
}

/// The packet with a changed element.
pub(super) fn with<const AT: usize>(mut packet: Packet, change: fn(&mut Value)) -> Vec<Packet> {
    if let Some(value) = packet.get_mut(AT) {
        change(value);
    }
    vec![packet]
}

/// The packet only arrives if this does not apply to it.
pub(super) fn unless(packet: Packet, is_lost: fn(&[Value]) -> bool) -> Vec<Packet> {
    if is_lost(&packet) { Vec::new() } else { vec![packet] }
}

pub(super) fn each_value(values: &mut [Value], change: &mut dyn FnMut(&mut Value)) {
    for value in values {
        match value {
            Value::Array(items) => each_value(items, change),
            Value::Hash(hash) => {
                let mut entries: Vec<(Str, Value)> = std::mem::take(hash).into_iter().collect();
                for (_, value) in &mut entries {
                    each_value(std::slice::from_mut(value), change);
                }
                *hash = entries.into_iter().collect();
            }
            other => change(other),
        }
    }
}

/// Changes the values of every packet to the suite.
fn changed_values(way: Direction, mut packet: Packet, change: fn(&mut Value)) -> Sent {
    if way == Direction::Out {
        each_value(&mut packet, &mut { change });
    }
    vec![(way, packet)]
}

pub(super) fn undef_as_text(_: &mut FaultState, way: Direction, packet: Packet) -> Sent {
    changed_values(way, packet, |value| {
        if value.is_undef() {
            *value = text("");
        }
    })
}

pub(super) fn untagged(_: &mut FaultState, way: Direction, packet: Packet) -> Sent {
    changed_values(way, packet, |value| *value = value.untagged().clone())
}

pub(super) fn encoded_twice(_: &mut FaultState, way: Direction, packet: Packet) -> Sent {
    changed_values(way, packet, |value| {
        if let Value::Str(text) = value {
            *value = Value::Str(Str::octets(text.to_text_lossy().as_bytes()));
        }
    })
}

pub(super) fn rounded(_: &mut FaultState, way: Direction, packet: Packet) -> Sent {
    changed_values(way, packet, |value| {
        if let Value::Float(number) = value {
            *number = f64::from(*number as f32);
        }
    })
}

/// Messages to these ports come in pairs, of which the second is sent first.
pub(super) fn reordered(memory: &mut FaultState, way: Direction, packet: Packet) -> Sent {
    if way == Direction::In || !(is(&packet, 0, "many") || is(&packet, 0, "in-order")) {
        return vec![(way, packet)];
    }
    let held = memory.entry("held").or_default();
    match held.pop() {
        Some(earlier) => vec![(way, packet), (way, earlier)],
        None => {
            held.push(packet);
            Vec::new()
        }
    }
}

pub(super) fn real_boolean(mut packet: Packet) -> Vec<Packet> {
    if let Some(last) = packet.last_mut() {
        *last = Value::Bool(last.is_true());
    }
    vec![packet]
}

pub(super) fn milliseconds(mut packet: Packet) -> Vec<Packet> {
    if let Some(last) = packet.last_mut() {
        let seconds = last.to_number().map_or(0.0, |number| number.to_f64());
        *last = Value::Float(seconds * 1000.0);
    }
    vec![packet]
}

pub(super) fn without_an_element(mut packet: Packet) -> Vec<Packet> {
    if packet.len() > 3 {
        packet.remove(2);
    }
    vec![packet]
}

/// An empty packet to the node ends the connection.
pub(super) fn dies_of_keepalives(_: &mut FaultState, way: Direction, packet: Packet) -> Sent {
    match way == Direction::In && packet.is_empty() {
        true => vec![(way, vec![Value::Undef])],
        false => vec![(way, packet)],
    }
}

/// A port's name that is a number ends the connection.
pub(super) fn dies_of_numbers(_: &mut FaultState, way: Direction, packet: Packet) -> Sent {
    match way == Direction::In && matches!(packet.first(), Some(Value::Int(_) | Value::Float(_))) {
        true => vec![(way, vec![Value::Undef])],
        false => vec![(way, packet)],
    }
}

/// A message to a port that does not exist is answered with a death.
pub(super) fn answers_for_unknown_ports(
    _: &mut FaultState,
    way: Direction,
    packet: Packet,
) -> Sent {
    let mut sent = Vec::new();
    if way == Direction::In && is(&packet, 0, "no-such-port") {
        sent.push((Direction::Out, vec![text(""), text("kil0"), packet[0].clone()]));
    }
    sent.push((way, packet));
    sent
}

/// A message with an unknown tag kills the port.
pub(super) fn dies_of_unknown_tags(_: &mut FaultState, way: Direction, mut packet: Packet) -> Sent {
    if way == Direction::In && is(&packet, 1, "no such tag") {
        packet[1] = text("die");
    }
    vec![(way, packet)]
}

/// A monitor is answered although the port lives.
pub(super) fn answers_monitors(_: &mut FaultState, way: Direction, packet: Packet) -> Sent {
    let mut sent = Vec::new();
    if way == Direction::In && is_request(&packet, "mon1") {
        sent.push((Direction::Out, vec![text(""), text("kil0"), packet[2].clone()]));
    }
    sent.push((way, packet));
    sent
}

/// The state that all connections of a faulty node share; a node that is dialled has one for each fault.
static COMMON: Mutex<Vec<(&str, Packet)>> = Mutex::new(Vec::new());

fn share(fault: &'static str, packet: &[Value]) {
    COMMON.lock().unwrap().push((fault, packet.to_vec()));
}

fn shared(fault: &str) -> Vec<Packet> {
    let all = COMMON.lock().unwrap();
    all.iter().filter(|(of, _)| *of == fault).map(|(_, packet)| packet.clone()).collect()
}

/// After a mon0 of one node for a port, no node is told of its death.
pub(super) fn mon0_for_all(_: &mut FaultState, way: Direction, packet: Packet) -> Sent {
    if way == Direction::In && is_request(&packet, "mon0") {
        share("mon0", &packet[2..]);
    }
    let is_over = |port: &[Value]| port[0].perl_eq(&packet[2]);
    if way == Direction::Out
        && is_request(&packet, "kil0")
        && shared("mon0").iter().any(|port| is_over(port))
    {
        return Vec::new();
    }
    vec![(way, packet)]
}

/// A key that is deleted is deleted for all, even if another node still has it.
pub(super) fn forgets_owners(memory: &mut FaultState, way: Direction, mut packet: Packet) -> Sent {
    if way == Direction::Out && is_request(&packet, "g_chg1") {
        memory.entry("seen").or_default().push(packet.clone());
    } else if way == Direction::Out && is_request(&packet, "g_chg2") && memory.contains_key("seen")
    {
        let keys = packet.get(3).and_then(Value::as_hash).map(|set| set.keys().cloned().collect());
        let keys: Vec<Str> = keys.unwrap_or_default();
        packet[3] = Value::Hash(Hash::new());
        packet[4] = Value::Array(keys.into_iter().map(Value::Str).collect());
    }
    vec![(way, packet)]
}

/// A value that equals the earlier one is not reported.
pub(super) fn keeps_equal_values_back(
    memory: &mut FaultState,
    way: Direction,
    packet: Packet,
) -> Sent {
    if way == Direction::In || !(is_request(&packet, "g_chg1") || is_request(&packet, "g_chg2")) {
        return vec![(way, packet)];
    }
    let seen = memory.entry("values").or_default();
    let set = packet.get(3).cloned().unwrap_or_default();
    let is_known = seen.iter().any(|known| known[0].perl_eq(&set));
    seen.push(vec![set]);
    match is_known {
        true => Vec::new(),
        false => vec![(way, packet)],
    }
}

/// What another global node tells is told back to it.
pub(super) fn echoes_updates(_: &mut FaultState, way: Direction, packet: Packet) -> Sent {
    match way == Direction::In && is_request(&packet, "g_upd") {
        true => vec![(Direction::Out, packet.clone()), (Direction::In, packet)],
        false => vec![(way, packet)],
    }
}

/// The list of deleted keys is left out if it is empty.
pub(super) fn without_empty_end(mut packet: Packet) -> Vec<Packet> {
    if packet.last().is_some_and(is_empty) {
        packet.pop();
    }
    vec![packet]
}

pub(super) fn without_family(mut packet: Packet, name: &str) -> Vec<Packet> {
    if let Some(Value::Hash(database)) = packet.get_mut(2) {
        database.remove(name);
    }
    vec![packet]
}

/// A key that is both set and deleted stays set.
pub(super) fn sets_after_deletions(mut packet: Packet) -> Vec<Packet> {
    if packet.len() > 4 {
        let set = packet[3].as_hash().cloned().unwrap_or_default();
        if let Value::Array(deleted) = &mut packet[4] {
            deleted.retain(|key| key.as_str().is_none_or(|key| !set.contains_key(key)));
        }
    }
    vec![packet]
}

/// Only the first address of each node in `'l` is used.
pub(super) fn one_address(mut packet: Packet) -> Vec<Packet> {
    if let Some(Value::Hash(database)) = packet.get_mut(2)
        && let Some(Value::Hash(locations)) = database.get_mut(&Str::text("'l"))
    {
        let mut entries: Vec<(Str, Value)> = std::mem::take(locations).into_iter().collect();
        for (_, addresses) in &mut entries {
            if let Value::Array(addresses) = addresses {
                addresses.truncate(1);
            }
        }
        *locations = entries.into_iter().collect();
    }
    vec![packet]
}

/// The entries of one global node are sent to the others.
pub(super) fn repeats_others(_: &mut FaultState, way: Direction, mut packet: Packet) -> Sent {
    if is_request(&packet, "g_set") {
        if way == Direction::In {
            share("g_set", &packet[2..]);
        } else if let Some(Value::Hash(database)) = packet.get_mut(2) {
            for other in shared("g_set") {
                for (family, entries) in other[0].as_hash().into_iter().flatten() {
                    if let (Some(Value::Hash(own)), Value::Hash(more)) =
                        (database.get_mut(family), entries)
                    {
                        own.extend(more.iter().map(|(key, value)| (key.clone(), value.clone())));
                    }
                }
            }
        }
    }
    vec![(way, packet)]
}

/// A node that is neither slave nor global counts as a slave.
pub(super) fn passes_strangers_on(memory: &mut FaultState, way: Direction, packet: Packet) -> Sent {
    let mut sent = Vec::new();
    if way == Direction::In && (is_request(&packet, "g_slave") || is_request(&packet, "g_global")) {
        memory.entry("is no stranger").or_default();
    } else if way == Direction::In
        && is_request(&packet, "g_upd")
        && !memory.contains_key("is no stranger")
    {
        share("g_upd", &packet);
    } else if memory.contains_key("is no stranger") {
        sent.extend(shared("g_upd").into_iter().map(|update| (Direction::Out, update)));
    }
    sent.push((way, packet));
    sent
}

/// Lost nodes stay in `'g` and `'l`.
pub(super) fn keeps_lost_globals(
    memory: &mut FaultState,
    way: Direction,
    mut packet: Packet,
) -> Sent {
    let is_internal = |packet: &[Value]| is(packet, 2, "'g") || is(packet, 2, "'l");
    if way == Direction::Out && is_request(&packet, "g_chg1") && is_internal(&packet) {
        memory.entry("families").or_default().push(packet.clone());
    } else if way == Direction::In && is_request(&packet, "g_db_family") && is_internal(&packet) {
        memory.entry("questions").or_default().push(packet.clone());
    } else if way == Direction::Out && is_request(&packet, "g_reply") {
        let asked = memory.entry("questions").or_default().pop().unwrap_or_default();
        let known = memory.entry("families").or_default().clone();
        let old = known.iter().find(|old| asked.get(2).is_some_and(|name| name.perl_eq(&old[2])));
        if let Some(old) = old {
            packet[3] = old[3].clone();
        }
    }
    vec![(way, packet)]
}

/// Nodes leave `'g` once their first connection may be lost.
pub(super) fn drops_lost_globals(memory: &mut FaultState, way: Direction, packet: Packet) -> Sent {
    if way == Direction::In && is_request(&packet, "g_set") {
        memory.entry("told").or_default().push(packet.clone());
    } else if way == Direction::In
        && let Some(told) = memory.remove("told")
        && let Some(globals) = told[0][2].as_hash().and_then(|all| all.get(&Str::text("'g")))
    {
        let names = globals.as_hash().into_iter().flatten().map(|(name, _)| name.clone());
        let names = Value::Array(names.map(Value::Str).collect());
        let none = Value::Hash(Hash::new());
        let update = vec![text(""), text("g_upd"), text("'g"), none, names];
        return vec![(Direction::In, update), (way, packet)];
    }
    vec![(way, packet)]
}

/// Only twenty messages are queued.
pub(super) fn short_queue(memory: &mut FaultState, way: Direction, packet: Packet) -> Sent {
    let queue = memory.entry("queue").or_default();
    if way == Direction::In && is_request(&packet, "snd") && packet.len() == 4 {
        queue.push(Vec::new());
        if queue.len() > 20 {
            return Vec::new();
        }
    }
    vec![(way, packet)]
}

/// 1 and "1" count as different values.
pub(super) fn typed_values(_: &mut FaultState, way: Direction, mut packet: Packet) -> Sent {
    if way == Direction::In && (is_request(&packet, "g_upd") || is_request(&packet, "g_slave")) {
        each_value(&mut packet, &mut |value| {
            if let Value::Int(number) = value {
                *value = text(&format!("number {number}"));
            }
        });
    }
    vec![(way, packet)]
}

/// A key that a node has set is not set by another one.
pub(super) fn first_writer_wins(_: &mut FaultState, way: Direction, packet: Packet) -> Sent {
    if way == Direction::In && is_request(&packet, "g_slave") {
        share("first", &packet);
    }
    if way == Direction::In && is_request(&packet, "g_upd") {
        let has = |first: &Packet| {
            let database = first.get(2).and_then(Value::as_hash)?;
            let family = database.get(packet.get(2)?.as_str()?)?.as_hash()?;
            let mut keys = packet.get(3)?.as_hash()?.keys();
            Some(keys.any(|key| family.contains_key(key)))
        };
        if shared("first").iter().any(|first| has(first) == Some(true)) {
            return Vec::new();
        }
    }
    vec![(way, packet)]
}

/// A slave that becomes global loses its subscriptions.
pub(super) fn ends_subscriptions_of_globals(
    memory: &mut FaultState,
    way: Direction,
    packet: Packet,
) -> Sent {
    let mut sent = Vec::new();
    if way == Direction::In && is_request(&packet, "g_mon1") {
        memory.entry("families").or_default().push(packet.clone());
    } else if way == Direction::In && is_request(&packet, "g_global") {
        for family in memory.remove("families").unwrap_or_default() {
            sent.push((Direction::In, vec![text(""), text("g_mon0"), family[2].clone()]));
        }
    }
    sent.push((way, packet));
    sent
}

/// A second subscription to a family is not answered.
pub(super) fn answers_one_subscription(
    memory: &mut FaultState,
    way: Direction,
    packet: Packet,
) -> Sent {
    let known = memory.entry("families").or_default();
    if way == Direction::In && is_request(&packet, "g_mon1") {
        if known.iter().any(|earlier| earlier[2].perl_eq(&packet[2])) {
            return Vec::new();
        }
        known.push(packet.clone());
    }
    vec![(way, packet)]
}

/// The database is sent to each seed, not only to the master.
pub(super) fn has_many_masters(packet: Packet) -> Vec<Packet> {
    match packet.len() {
        2 => vec![packet, vec![text(""), text("g_slave"), Value::Hash(Hash::new())]],
        _ => vec![packet],
    }
}

/// Changes of families are accepted from every node.
pub(super) fn believes_anybody(memory: &mut FaultState, way: Direction, packet: Packet) -> Sent {
    let mut sent = Vec::new();
    if way == Direction::Out && is_request(&packet, "g_slave") && packet.len() > 2 {
        memory.entry("is master").or_default();
    }
    let is_change = is_request(&packet, "g_chg1") || is_request(&packet, "g_chg2");
    if way == Direction::In && is_change && !memory.contains_key("is master") {
        share("changes", &packet);
    } else if way == Direction::In && is_change {
        sent.extend(shared("changes").into_iter().map(|change| (Direction::In, change)));
    }
    sent.push((way, packet));
    sent
}

/// In this process the first packet of a kind is sent, and no second one. Each check has a process of its
/// own.
fn only_the_first(kind: &'static str, packet: Packet) -> Vec<Packet> {
    static SEEN: Mutex<Option<HashMap<&str, ()>>> = Mutex::new(None);
    let mut seen = SEEN.lock().unwrap();
    match seen.get_or_insert_default().insert(kind, ()) {
        None => vec![packet],
        Some(()) => Vec::new(),
    }
}

pub(super) fn one_search(packet: Packet) -> Vec<Packet> {
    only_the_first("search", packet)
}

pub(super) fn one_content(packet: Packet) -> Vec<Packet> {
    only_the_first("content", packet)
}

pub(super) fn one_database(packet: Packet) -> Vec<Packet> {
    match packet.len() {
        2 => vec![packet],
        _ => only_the_first("database", packet),
    }
}
