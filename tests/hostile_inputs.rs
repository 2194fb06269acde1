//! The checks of the fuzz targets on inputs that are almost valid.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../fuzz/src/inputs.rs"]
#[allow(unreachable_pub)]
mod inputs;

use aemp::value::Packed;
use aemp::wire::framing::{self, Framing};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

fn garbage() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..300)
}

/// Concatenated pieces with occasional octets of garbage.
fn made_of(pieces: &'static [&'static str], most: usize) -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        20 => select(pieces).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => any::<u8>().prop_map(|octet| vec![octet]),
    ];
    prop::collection::vec(piece, 0..most).prop_map(|pieces| pieces.concat())
}

/// The parts of greetings and authentication lines; the token is that of `cleartext`.
const HANDSHAKE: &[&str] = &[
    "aemp;1;peer;hmac_sha3_512,cleartext;cbor,json",
    "aemp-dataconn;1;peer;hmac_sha3_512;cbor",
    "aemp;1;node;cleartext;json",
    "aemp;2;peer;;",
    ";",
    ";tls=1.0",
    ";dataconn_id=id",
    ";role=dial",
    ";role=accept",
    ";provider=AE-2.02",
    ";provider=aemp-0.1.0",
    "\n",
    "\r\n",
    "nonce\n",
    "BwcHBwcHBwcHBwcH\n",
    "cleartext;67656865696d;cbor\n",
    "cleartext;;json\n",
    "hmac_sha3_512;00;cbor\n",
    "tls_anon;;storable\n",
    "tls_sha3_512;00;cbor\n",
    "[\"\"]",
    "%3b",
    "%",
    ",",
    "=",
    "aemp",
];

const RC: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "# comment\n",
    "\n",
    " ",
    "\"profile\"",
    "\"parent\"",
    "\"secret\"",
    "\"default\"",
    "\"a\"",
    "\"b\"",
    "\"seeds\"",
    "\"binds\"",
    "\"nodeid\"",
    "\"services\"",
    "\"cert\"",
    "\"monitor_timeout\"",
    "\"auth_accept\"",
    "\"framing_format\"",
    "\"handshake_limit\"",
    "{\"profile\":{",
    "\"a\":{",
    "\"parent\":\"b\",",
    "\"seeds\":[\"[::1]:4040\",",
    "\"%n/%u\"",
    "\"host:1,*:4040\"",
    "\"\\ud83d\\ude00\"",
    "\"\\ud83d\"",
    "\"\\u0000\"",
    "\"tls_anon,x\"",
    "\"-----BEGIN PRIVATE KEY-----\"",
    "true",
    "null",
    "-0",
    "1e999",
    "12345678901234567890123",
    "0.5",
    "\t",
    "\"",
];

/// A request, or something that happens at the node itself.
fn happening() -> impl Strategy<Value = Value> {
    let name =
        select(&["p", "q", "", "node#p", "perl#p", "ours", "x#y", "nobody", "a\n\u{1b}[2J"][..])
            .prop_map(Value::from);
    let family = select(&["f", "'l", "'g", ""][..]).prop_map(Value::from);
    let leaf = prop_oneof![
        3 => name.clone(),
        1 => Just(Value::Null),
        1 => any::<i8>().prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(json!(["192.0.2.7:1"])),
    ];
    let entries = prop::collection::btree_map(
        select(&["perl", "ours", "node", "k", "x"][..]).prop_map(str::to_owned),
        leaf.clone(),
        0..4,
    )
    .prop_map(|entries| json!(entries));
    let tables = prop::collection::btree_map(
        select(&["f", "'l", "'g", ""][..]).prop_map(str::to_owned),
        entries.clone(),
        0..4,
    )
    .prop_map(|tables| json!(tables));
    let keys = prop::collection::vec(leaf.clone(), 0..4).prop_map(Value::from);
    let request = select(
        &[
            "mon0",
            "mon1",
            "kil0",
            "kil1",
            "snd",
            "can",
            "eval",
            "time",
            "devnull",
            "f",
            "g",
            "AnyEvent::MP::_spawn",
            "AnyEvent::MP::Kernel::master_set",
            "g_slave",
            "g_global",
            "g_set",
            "g_upd",
            "g_find",
            "g_found",
            "g_reply",
            "g_mon0",
            "g_mon1",
            "g_chg1",
            "g_chg2",
            "g_db_family",
            "g_db_keys",
            "g_db_values",
            "g_x",
            "AnyEvent::MP::LogCatcher::connect",
        ][..],
    )
    .prop_map(Value::from);
    let argument = prop_oneof![leaf, family.clone(), entries, tables, keys];
    let from_peer = (
        select(&["", "1", "2"][..]).prop_map(Value::from),
        request,
        prop::collection::vec(argument.clone(), 0..4),
    )
        .prop_map(|(port, request, rest)| [vec![port, request], rest].concat().into());
    let at_home = (
        select(&["tick", "open", "watch", "kill", "set", "delete", "monitor", "query", "lose"][..])
            .prop_map(Value::from),
        prop_oneof![name, family, (0..60_u8).prop_map(Value::from)],
        prop::collection::vec(argument, 0..3),
    )
        .prop_map(|(what, first, rest)| [vec![what, first], rest].concat().into());
    prop_oneof![3 => from_peer, 1 => at_home]
}

fn in_cbor(packets: &[Value]) -> Vec<u8> {
    let mut wire = Vec::new();
    for packet in packets {
        let packed = Packed::of(packet).unwrap();
        framing::encode(Framing::Cbor, packed.as_elements(), &mut wire).unwrap();
    }
    wire
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn greetings_do_no_harm(line in prop_oneof![garbage(), made_of(HANDSHAKE, 12)]) {
        inputs::greeting(&line);
    }

    #[test]
    fn handshakes_do_no_harm(kind: u8, peer in prop_oneof![garbage(), made_of(HANDSHAKE, 20)]) {
        inputs::handshake(&[&[kind], &peer[..]].concat());
    }

    #[test]
    fn packets_do_no_harm(
        framing in select(&Framing::ALL[..]),
        cut: u8,
        sent in prop::collection::vec(happening(), 0..5),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut wire = vec![cut];
        for packet in &sent {
            let packed = Packed::of(packet).unwrap();
            framing::encode(framing, packed.as_elements(), &mut wire).unwrap();
        }
        for (at, octet) in damage {
            let at = at.index(wire.len());
            wire[at] = octet;
        }
        inputs::packets(framing, &wire);
    }

    #[test]
    fn octets_not_in_packed_form_do_no_harm(
        len: u8,
        octets in garbage(),
        sent in prop::collection::vec(happening(), 0..3),
    ) {
        inputs::packed(&[&[len], &octets[..]].concat());
        let packed = in_cbor(&sent);
        inputs::packed(&[&[sent.len() as u8], &packed[..]].concat());
        inputs::packed(&[&[len], &packed[..packed.len() / 2]].concat());
    }

    #[test]
    fn the_rc_file_does_no_harm(text in prop_oneof![garbage(), made_of(RC, 40)]) {
        inputs::rc_file(&text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn requests_leave_nothing_behind(
        kind in 0..8_u8,
        packets in prop::collection::vec(happening(), 0..24),
    ) {
        inputs::requests(&[&[kind], &in_cbor(&packets)[..]].concat());
    }
}
