//! Deliberately broken nodes: our node behind a relay that violates the protocol.
//!
//! The relay does the handshake with the suite itself, which is where faults of handshakes are, and another
//! one with our node, in the suite's name. Between the two it has complete packets, which faults change.

mod relay;

pub use relay::Relay;

use aemp::Value;
use aemp::value::Str;
use std::collections::HashMap;
use std::sync::Mutex;

/// What is wrong with a node.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// Nothing: the relay itself violates no statement that is checked.
    None,
    /// A fault of the handshake.
    Handshake(Lapse),
    /// A fault of packets: returns what is sent instead, and in which direction.
    Packets(PacketFault),
}

/// Changes one packet.
pub type PacketFault = fn(&mut Memory, ToSuite, Vec<Value>) -> Sent;

/// Packets, each with its direction.
pub type Sent = Vec<(ToSuite, Vec<Value>)>;

/// The direction of a packet.
pub type ToSuite = bool;

/// The state of a fault for one connection.
pub type Memory = HashMap<&'static str, Vec<Vec<Value>>>;

/// A fault of the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lapse {
    /// The token covers the peer's greeting first, then its own.
    SwapsGreetings,
    /// The token is in upper case.
    ShoutsToken,
    /// Tokens are not compared.
    BelievesTokens,
    /// A part of the token is accepted.
    BelievesBeginnings,
    /// The version is not checked.
    TakesAnyVersion,
    /// The version is compared as a text.
    ComparesVersionAsText,
    /// The protocol's name is not checked.
    TakesAnyProtocol,
    /// It accepts its own greeting.
    TakesMirrors,
    /// The line end is hashed, too.
    HashesCr,
    /// Its greeting waits for the peer's.
    GreetsSecond,
    /// Its authentication waits for the peer's.
    AuthenticatesSecond,
    /// The nonce is always the same.
    RepeatsNonce,
    /// It sends the framing that it prefers itself.
    PrefersOwnFraming,
    /// There is no limit to a greeting.
    TakesAnyLength,
    /// An unknown framing is taken for JSON.
    GuessesFraming,
    /// A greeting without keys is refused.
    WantsKeys,
    /// Packets come before the peer has authenticated.
    SpeaksEarly,
    /// A seed is dialled until it has been connected once, and never again.
    DialsOnce,
}

/// Every fault, with the check that has to find it.
pub const FAULTS: &[(&str, Fault, &str)] = &[
    ("swapped greetings", Fault::Handshake(Lapse::SwapsGreetings), "auth-hmac"),
    ("an upper case token", Fault::Handshake(Lapse::ShoutsToken), "auth-form"),
    ("tokens not compared", Fault::Handshake(Lapse::BelievesTokens), "refuse-secret"),
    ("beginnings of tokens", Fault::Handshake(Lapse::BelievesBeginnings), "refuse-cut"),
    ("any version", Fault::Handshake(Lapse::TakesAnyVersion), "refuse-version-2"),
    ("the version as text", Fault::Handshake(Lapse::ComparesVersionAsText), "take-version"),
    ("any protocol", Fault::Handshake(Lapse::TakesAnyProtocol), "refuse-protocol"),
    ("mirrors", Fault::Handshake(Lapse::TakesMirrors), "refuse-mirror"),
    ("a hashed CR", Fault::Handshake(Lapse::HashesCr), "take-crlf"),
    ("a late greeting", Fault::Handshake(Lapse::GreetsSecond), "greet-unasked"),
    ("a late authentication", Fault::Handshake(Lapse::AuthenticatesSecond), "auth-unasked"),
    ("one nonce for all", Fault::Handshake(Lapse::RepeatsNonce), "greet-nonce-fresh"),
    ("its own framing", Fault::Handshake(Lapse::PrefersOwnFraming), "choose-storable"),
    ("endless greetings", Fault::Handshake(Lapse::TakesAnyLength), "refuse-8kib"),
    ("a guessed framing", Fault::Handshake(Lapse::GuessesFraming), "refuse-framing"),
    ("wanted keys", Fault::Handshake(Lapse::WantsKeys), "take-no-keys"),
    ("early packets", Fault::Handshake(Lapse::SpeaksEarly), "hold-packets"),
    ("kil0 twice", Fault::Packets(kil0_twice), "mon-unknown-once"),
    ("a lost kil0", Fault::Packets(no_kil0), "mon-unknown"),
    ("a lost reason", Fault::Packets(no_reason), "kil1-reason"),
    ("a lost mon0", Fault::Packets(|_, to, p| dropped(to, p, false, "mon0")), "mon0"),
    ("mon0 not sent", Fault::Packets(|_, to, p| dropped(to, p, true, "mon0")), "monitors-last"),
    ("a mon1 for each", Fault::Packets(mon1_twice), "monitors-once"),
    ("reordered packets", Fault::Packets(reordered), "order-many"),
    ("booleans for Perl's truth", Fault::Packets(real_booleans), "can-form"),
    ("milliseconds", Fault::Packets(milliseconds), "time"),
    ("lost reply elements", Fault::Packets(short_replies), "reply-prepends"),
    ("undef as empty string", Fault::Packets(no_undef), "snd-echo"),
    ("octets encoded twice", Fault::Packets(encoded_twice), "strings-cbor"),
    ("rounded floats", Fault::Packets(rounded), "numbers-cbor"),
    ("keepalives as errors", Fault::Packets(keepalive_dies), "keepalive"),
    ("silence for eval", Fault::Packets(|_, to, p| dropped(to, p, false, "eval")), "eval-error"),
    ("g_global not said", Fault::Packets(|_, to, p| dropped(to, p, true, "g_global")), "g-global"),
    ("short changes", Fault::Packets(short_changes), "g-chg2-form"),
    ("owners forgotten", Fault::Packets(forgets_owners), "g-other-owner"),
    ("equal values kept back", Fault::Packets(no_equal_values), "g-chg2-equal"),
    (
        "subscriptions for ever",
        Fault::Packets(|_, to, p| dropped(to, p, false, "g_mon0")),
        "g-mon0",
    ),
    ("globals not told", Fault::Packets(|_, to, p| dropped(to, p, true, "g_upd")), "g-tells"),
    ("globals told their own", Fault::Packets(echoes_updates), "g-tells-no-echo"),
    ("itself forgotten", Fault::Packets(forgets_itself), "g-set-itself"),
    ("sets after deletions", Fault::Packets(sets_after_deletions), "g-chg2-both"),
    ("no answer for the unknown", Fault::Packets(finds_only_known), "g-find-unknown"),
    ("mon0 for everybody", Fault::Packets(mon0_for_all), "mon0-others"),
    ("others' entries in g_set", Fault::Packets(repeats_others), "g-set-own"),
    ("strangers' entries passed on", Fault::Packets(passes_strangers_on), "g-stranger-untold"),
    ("lost globals kept", Fault::Packets(keeps_lost_globals), "g-global-down-g"),
    ("lost globals not dialled", Fault::Packets(drops_lost_globals), "mesh-global-again"),
    ("a short queue", Fault::Packets(short_queue), "mesh-queue"),
    ("numbers unlike their strings", Fault::Packets(typed_values), "g-equal-number"),
];

/// Faults of a node that dials, each with the check that has to find it.
pub const DIALLING_FAULTS: &[(&str, Fault, &str)] = &[
    ("g_slave not said", Fault::Packets(no_plain_slave), "join"),
    ("no database for a second master", Fault::Packets(one_database), "seed-master-again"),
    ("no change told", Fault::Packets(|_, to, p| dropped(to, p, true, "g_upd")), "slave-set"),
    (
        "the last monitor kept",
        Fault::Packets(|_, to, p| dropped(to, p, true, "g_mon0")),
        "slave-mon0",
    ),
    ("no search", Fault::Packets(|_, to, p| dropped(to, p, true, "g_find")), "slave-find"),
    ("no second search", Fault::Packets(one_search), "failover-find"),
    ("lost seeds forgotten", Fault::Handshake(Lapse::DialsOnce), "seed-other-again"),
    ("lost masters forgotten", Fault::Handshake(Lapse::DialsOnce), "seed-late"),
];

fn is(packet: &[Value], at: usize, text: &str) -> bool {
    packet.get(at).and_then(Value::to_str).is_some_and(|found| *found == Str::text(text))
}

fn is_request(packet: &[Value], name: &str) -> bool {
    is(packet, 0, "") && is(packet, 1, name)
}

fn dropped(to: ToSuite, packet: Vec<Value>, way: ToSuite, name: &str) -> Sent {
    match to == way && is_request(&packet, name) {
        true => Vec::new(),
        false => vec![(to, packet)],
    }
}

fn kil0_twice(_: &mut Memory, to: ToSuite, packet: Vec<Value>) -> Sent {
    let times = if to && is_request(&packet, "kil0") { 2 } else { 1 };
    vec![(to, packet); times]
}

fn no_kil0(_: &mut Memory, to: ToSuite, packet: Vec<Value>) -> Sent {
    dropped(to, packet, true, "kil0")
}

fn no_reason(_: &mut Memory, to: ToSuite, mut packet: Vec<Value>) -> Sent {
    if to && is_request(&packet, "kil0") {
        packet.truncate(3);
    }
    vec![(to, packet)]
}

fn mon1_twice(_: &mut Memory, to: ToSuite, packet: Vec<Value>) -> Sent {
    let times = if to && is_request(&packet, "mon1") { 2 } else { 1 };
    vec![(to, packet); times]
}

/// Every other message to that port is held back until the next one.
fn reordered(memory: &mut Memory, to: ToSuite, packet: Vec<Value>) -> Sent {
    if !to || !is(&packet, 0, "many") {
        return vec![(to, packet)];
    }
    let held = memory.entry("held").or_default();
    match held.pop() {
        Some(earlier) => vec![(to, packet), (to, earlier)],
        None => {
            held.push(packet);
            Vec::new()
        }
    }
}

fn real_booleans(_: &mut Memory, to: ToSuite, mut packet: Vec<Value>) -> Sent {
    if to && is(&packet, 0, "can") {
        let is_true = packet.last().is_some_and(Value::is_true);
        *packet.last_mut().unwrap() = Value::Bool(is_true);
    }
    vec![(to, packet)]
}

fn milliseconds(_: &mut Memory, to: ToSuite, mut packet: Vec<Value>) -> Sent {
    if to && is(&packet, 0, "time") {
        let last = packet.last_mut().unwrap();
        let seconds = last.to_number().map_or(0.0, |number| number.to_f64());
        *last = Value::Float(seconds * 1000.0);
    }
    vec![(to, packet)]
}

fn short_replies(_: &mut Memory, to: ToSuite, mut packet: Vec<Value>) -> Sent {
    if to && is(&packet, 0, "many") && packet.len() > 3 {
        packet.remove(2);
    }
    vec![(to, packet)]
}

fn each_value(packet: &mut [Value], change: fn(&mut Value)) {
    for value in packet {
        match value {
            Value::Array(items) => each_value(items, change),
            other => change(other),
        }
    }
}

fn no_undef(_: &mut Memory, to: ToSuite, mut packet: Vec<Value>) -> Sent {
    each_value(&mut packet, |value| {
        if value.is_undef() {
            *value = Value::Str(Str::text(""));
        }
    });
    vec![(to, packet)]
}

fn encoded_twice(_: &mut Memory, to: ToSuite, mut packet: Vec<Value>) -> Sent {
    each_value(&mut packet, |value| {
        if let Value::Str(text) = value {
            *value = Value::Str(Str::octets(text.to_text_lossy().as_bytes()));
        }
    });
    vec![(to, packet)]
}

fn rounded(_: &mut Memory, to: ToSuite, mut packet: Vec<Value>) -> Sent {
    each_value(&mut packet, |value| {
        if let Value::Float(number) = value {
            *number = f64::from(*number as f32);
        }
    });
    vec![(to, packet)]
}

/// An empty packet to the node ends the connection.
fn keepalive_dies(_: &mut Memory, to: ToSuite, packet: Vec<Value>) -> Sent {
    match !to && packet.is_empty() {
        true => vec![(to, vec![Value::Undef])],
        false => vec![(to, packet)],
    }
}

fn is_empty(value: &Value) -> bool {
    value.as_array().is_some_and(<[Value]>::is_empty)
        || value.as_hash().is_some_and(|hash| hash.is_empty())
}

fn short_changes(_: &mut Memory, to: ToSuite, mut packet: Vec<Value>) -> Sent {
    if to && is_request(&packet, "g_chg2") && packet.last().is_some_and(is_empty) {
        packet.pop();
    }
    vec![(to, packet)]
}

/// A deleted key is deleted for all, even if another node still has it.
fn forgets_owners(memory: &mut Memory, to: ToSuite, mut packet: Vec<Value>) -> Sent {
    if to && is_request(&packet, "g_chg1") {
        memory.entry("seen").or_default().push(packet.clone());
    } else if to && is_request(&packet, "g_chg2") && memory.contains_key("seen") {
        let keys = packet.get(3).and_then(Value::as_hash).map(|set| set.keys().cloned().collect());
        let keys: Vec<Str> = keys.unwrap_or_default();
        packet[3] = Value::Hash(aemp::value::Hash::new());
        packet[4] = Value::Array(keys.into_iter().map(Value::Str).collect());
    }
    vec![(to, packet)]
}

fn no_equal_values(memory: &mut Memory, to: ToSuite, packet: Vec<Value>) -> Sent {
    if !to || !(is_request(&packet, "g_chg1") || is_request(&packet, "g_chg2")) {
        return vec![(to, packet)];
    }
    let seen = memory.entry("values").or_default();
    let set = packet.get(3).cloned().unwrap_or_default();
    let is_known = seen.iter().any(|known| known[0].perl_eq(&set));
    seen.push(vec![set]);
    match is_known {
        true => Vec::new(),
        false => vec![(to, packet)],
    }
}

fn echoes_updates(_: &mut Memory, to: ToSuite, packet: Vec<Value>) -> Sent {
    match !to && is_request(&packet, "g_upd") {
        true => vec![(true, packet.clone()), (false, packet)],
        false => vec![(to, packet)],
    }
}

fn forgets_itself(_: &mut Memory, to: ToSuite, mut packet: Vec<Value>) -> Sent {
    if to
        && is_request(&packet, "g_set")
        && let Some(Value::Hash(database)) = packet.get_mut(2)
    {
        database.remove("'g");
    }
    vec![(to, packet)]
}

/// A key that is both set and deleted stays set.
fn sets_after_deletions(_: &mut Memory, to: ToSuite, mut packet: Vec<Value>) -> Sent {
    if !to && is_request(&packet, "g_upd") && packet.len() > 4 {
        let set = packet[3].as_hash().cloned().unwrap_or_default();
        if let Value::Array(deleted) = &mut packet[4] {
            deleted.retain(|key| key.as_str().is_none_or(|key| !set.contains_key(key)));
        }
    }
    vec![(to, packet)]
}

fn finds_only_known(_: &mut Memory, to: ToSuite, packet: Vec<Value>) -> Sent {
    match to && is_request(&packet, "g_found") && packet.get(3).is_some_and(Value::is_undef) {
        true => Vec::new(),
        false => vec![(to, packet)],
    }
}

fn no_plain_slave(_: &mut Memory, to: ToSuite, packet: Vec<Value>) -> Sent {
    match to && is_request(&packet, "g_slave") && packet.len() == 2 {
        true => Vec::new(),
        false => vec![(to, packet)],
    }
}

/// The state that all connections of a faulty node share; a node that is dialled has one for each fault.
static COMMON: Mutex<Vec<(&str, Vec<Value>)>> = Mutex::new(Vec::new());

fn in_common(fault: &'static str, packet: &[Value]) {
    COMMON.lock().unwrap().push((fault, packet.to_vec()));
}

fn common(fault: &str) -> Vec<Vec<Value>> {
    let all = COMMON.lock().unwrap();
    all.iter().filter(|(of, _)| *of == fault).map(|(_, packet)| packet.clone()).collect()
}

/// After a mon0 of one node for a port, no node is told of its death.
fn mon0_for_all(_: &mut Memory, to: ToSuite, packet: Vec<Value>) -> Sent {
    if !to && is_request(&packet, "mon0") {
        in_common("mon0", &packet[2..]);
    }
    let is_over = |port: &[Value]| port[0].perl_eq(&packet[2]);
    if to && is_request(&packet, "kil0") && common("mon0").iter().any(|port| is_over(port)) {
        return Vec::new();
    }
    vec![(to, packet)]
}

/// The entries of one global node are sent to the others.
fn repeats_others(_: &mut Memory, to: ToSuite, mut packet: Vec<Value>) -> Sent {
    if is_request(&packet, "g_set") {
        if !to {
            in_common("g_set", &packet[2..]);
        } else if let Some(Value::Hash(database)) = packet.get_mut(2) {
            for other in common("g_set") {
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
    vec![(to, packet)]
}

/// A node that is neither slave nor global counts as a slave.
fn passes_strangers_on(memory: &mut Memory, to: ToSuite, packet: Vec<Value>) -> Sent {
    let mut sent = Vec::new();
    if !to && (is_request(&packet, "g_slave") || is_request(&packet, "g_global")) {
        memory.entry("is no stranger").or_default();
    } else if !to && is_request(&packet, "g_upd") && !memory.contains_key("is no stranger") {
        in_common("g_upd", &packet);
    } else if memory.contains_key("is no stranger") {
        sent.extend(common("g_upd").into_iter().map(|update| (true, update)));
    }
    sent.push((to, packet));
    sent
}

/// Lost nodes stay in `'g` and `'l`.
fn keeps_lost_globals(memory: &mut Memory, to: ToSuite, mut packet: Vec<Value>) -> Sent {
    let is_internal = |packet: &[Value]| is(packet, 2, "'g") || is(packet, 2, "'l");
    if to && is_request(&packet, "g_chg1") && is_internal(&packet) {
        memory.entry("families").or_default().push(packet.clone());
    } else if !to && is_request(&packet, "g_db_family") && is_internal(&packet) {
        memory.entry("questions").or_default().push(packet.clone());
    } else if to && is_request(&packet, "g_reply") {
        let asked = memory.entry("questions").or_default().pop().unwrap_or_default();
        let known = memory.entry("families").or_default().clone();
        let old = known.iter().find(|old| asked.get(2).is_some_and(|name| name.perl_eq(&old[2])));
        if let Some(old) = old {
            packet[3] = old[3].clone();
        }
    }
    vec![(to, packet)]
}

/// Nodes leave `'g` once their first connection may be lost.
fn drops_lost_globals(memory: &mut Memory, to: ToSuite, packet: Vec<Value>) -> Sent {
    if !to && is_request(&packet, "g_set") {
        memory.entry("told").or_default().push(packet.clone());
    } else if !to
        && let Some(told) = memory.remove("told")
        && let Some(globals) = told[0][2].as_hash().and_then(|all| all.get(&Str::text("'g")))
    {
        let names = globals.as_hash().into_iter().flatten().map(|(name, _)| name.clone());
        let names = Value::Array(names.map(Value::Str).collect());
        let text = |text| Value::Str(Str::text(text));
        let none = Value::Hash(aemp::value::Hash::new());
        let update = vec![text(""), text("g_upd"), text("'g"), none, names];
        return vec![(false, update), (to, packet)];
    }
    vec![(to, packet)]
}

/// Only twenty messages are queued.
fn short_queue(memory: &mut Memory, to: ToSuite, packet: Vec<Value>) -> Sent {
    let queue = memory.entry("queue").or_default();
    if !to && is_request(&packet, "snd") && packet.len() == 4 {
        queue.push(Vec::new());
        if queue.len() > 20 {
            return Vec::new();
        }
    }
    vec![(to, packet)]
}

/// 1 and "1" count as different values.
fn typed_values(_: &mut Memory, to: ToSuite, mut packet: Vec<Value>) -> Sent {
    fn marked(value: &mut Value) {
        match value {
            Value::Int(number) => *value = Value::Str(Str::text(&format!("number {number}"))),
            Value::Hash(hash) => {
                let mut entries: Vec<(Str, Value)> = std::mem::take(hash).into_iter().collect();
                entries.iter_mut().for_each(|(_, value)| marked(value));
                *hash = entries.into_iter().collect();
            }
            _ => {}
        }
    }
    if !to && (is_request(&packet, "g_upd") || is_request(&packet, "g_slave")) {
        packet.iter_mut().for_each(marked);
    }
    vec![(to, packet)]
}

fn one_search(_: &mut Memory, to: ToSuite, packet: Vec<Value>) -> Sent {
    use std::sync::atomic::{AtomicU32, Ordering};
    // Of the process: each check has one of its own.
    static SENT: AtomicU32 = AtomicU32::new(0);
    let is_search = to && is_request(&packet, "g_find");
    match is_search && SENT.fetch_add(1, Ordering::Relaxed) > 0 {
        true => Vec::new(),
        false => vec![(to, packet)],
    }
}

fn one_database(_: &mut Memory, to: ToSuite, packet: Vec<Value>) -> Sent {
    use std::sync::atomic::{AtomicU32, Ordering};
    // Of the process: each check has one of its own.
    static SENT: AtomicU32 = AtomicU32::new(0);
    let is_database = to && is_request(&packet, "g_slave") && packet.len() > 2;
    match is_database && SENT.fetch_add(1, Ordering::Relaxed) > 0 {
        true => Vec::new(),
        false => vec![(to, packet)],
    }
}
