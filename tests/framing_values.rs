//! Packets of real Perl nodes can be decoded in every framing, wherever they are split, and sent on.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod framing_support;

use aemp::wire::framing::{self, Decoder, Framing, FramingLimits, Step};
use framing_support::*;

/// Values that Perl's JSON encoder writes as invalid JSON.
const UNREADABLE_JSON: [&str; 2] = ["inf", "nan"];

struct Recorded {
    name: String,
    wire: Vec<(Framing, Vec<u8>)>,
}

fn values() -> Vec<Recorded> {
    let lines = fixture("values.jsonl");
    let recorded = lines.iter().map(|line| {
        let name = line["name"].as_str().unwrap().to_owned();
        let wire = Framing::ALL
            .into_iter()
            .filter(|&framing| framing != Framing::Json || !UNREADABLE_JSON.contains(&&*name))
            .map(|framing| (framing, unhex(line[framing.name()].as_str().unwrap())))
            .collect();
        Recorded { name, wire }
    });
    recorded.collect()
}

#[test]
fn each_value_is_the_same_in_all_framings() {
    let values = values();
    assert_eq!(values.len(), 54);
    for Recorded { name, wire } in values {
        let decoded: Vec<_> =
            wire.iter().map(|(framing, wire)| loosely(&decode_one(*framing, wire))).collect();
        assert_eq!(decoded[0].len(), 3, "{name}");
        assert_eq!(decoded[0][..2], [Tree::text("port1"), Tree::text("tag")], "{name}");
        for other in &decoded[1..] {
            assert_eq!(&decoded[0], other, "{name}");
        }
    }
}

#[test]
fn values_arrive_as_what_they_are() {
    let third = |name: &str, framing: Framing| {
        let values = values();
        let value = values.iter().find(|value| value.name == name).unwrap();
        let (_, wire) = value.wire.iter().find(|(each, _)| *each == framing).unwrap();
        decode_one(framing, wire).remove(2)
    };
    for framing in Framing::ALL {
        assert_eq!(third("true", framing), Tree::Bool(true), "{framing}");
        assert_eq!(third("false", framing), Tree::Bool(false), "{framing}");
        assert_eq!(third("perl true", framing), Tree::text("1"), "{framing}");
        assert_eq!(third("perl false", framing), Tree::text(""), "{framing}");
        assert_eq!(third("undef", framing), Tree::Undef, "{framing}");
        assert_eq!(third("int -2**31", framing), Tree::Int(-(1 << 31)), "{framing}");
        assert_eq!(third("raw bytes", framing), Tree::text("\0\u{1}\u{ff}\u{fe}"), "{framing}");
    }
    for framing in [Framing::Cbor, Framing::Json] {
        assert_eq!(third("int max u64", framing), Tree::Int(u64::MAX.into()));
        assert_eq!(third("int min i64", framing), Tree::Int(i64::MIN.into()));
        assert_eq!(third("float 0.1", framing), Tree::Float(0.1));
    }
    assert_eq!(third("int 2**32", Framing::Storable), Tree::text("4294967296"));
    assert_eq!(third("float 1e16", Framing::Storable), Tree::text("1e+16"));
    assert_eq!(third("scalar ref to 1", Framing::Cbor), Tree::Int(1));
    assert_eq!(third("scalar ref to 1", Framing::Json), Tree::Bool(true));
    assert_eq!(third("scalar ref to 1", Framing::Storable), Tree::Int(1));
}

#[test]
fn inf_and_nan_of_perls_json_are_refused() {
    for line in fixture("values.jsonl") {
        if UNREADABLE_JSON.contains(&line["name"].as_str().unwrap()) {
            let wire = unhex(line["json"].as_str().unwrap());
            assert!(decode(Framing::Json, &wire).is_err());
        }
    }
}

#[test]
fn a_packet_may_arrive_cut_at_any_octet() {
    for Recorded { name, wire } in values() {
        for (framing, wire) in wire {
            let whole = decode_one(framing, &wire);
            let limits = FramingLimits::default();
            let step = 1 + wire.len() / 500;
            for cut in (0..wire.len()).step_by(step) {
                let (before, after) = wire.split_at(cut);
                let pieces = decode_pieces(framing, limits, [before, after]).unwrap();
                assert_eq!(pieces, [whole.as_slice()], "{framing} {name} cut at {cut}");
            }
            let octets = decode_pieces(framing, limits, wire.chunks(1)).unwrap();
            assert_eq!(octets, [whole.as_slice()], "{framing} {name} octet by octet");
        }
    }
}

#[test]
fn what_was_received_can_be_sent_in_every_framing() {
    for Recorded { name, wire } in values() {
        for (from, wire) in wire {
            let received = decode_one(from, &wire);
            for to in Framing::ALL {
                for octets in [false, true] {
                    let sent = encode(to, &received, octets);
                    let again = decode_one(to, &sent);
                    assert_eq!(loosely(&again), loosely(&received), "{name} from {from} to {to}");
                }
            }
        }
    }
}

#[test]
fn what_perl_sent_is_sent_in_the_same_octets() {
    // Except for what is equal but not the same: tags, the exponent of a JSON number, string flags,
    // and a boolean's reference, which we write so that Perl need not have its class.
    let differs = |name: &str, framing| match framing {
        Framing::Cbor => name.starts_with("scalar ref"),
        Framing::Json => name == "float 1e16" || name == "float -1e300",
        Framing::Storable => {
            ["utf8-flagged ascii", "true", "false"].contains(&name)
                || name.starts_with("hash")
                || name.starts_with("scalar ref")
        }
    };
    for Recorded { name, wire } in values() {
        for (framing, wire) in wire {
            if differs(&name, framing) {
                continue;
            }
            let mut decoder = Decoder::new(framing, FramingLimits::default());
            let Ok(Step::Packet { elements, .. }) = decoder.next(&wire) else {
                panic!("{name} is a packet");
            };
            let mut again = Vec::new();
            framing::encode(framing, elements, &mut again).unwrap();
            assert_eq!(again, wire, "{framing} {name}");
        }
    }
}

/// The octets that one side sent after its handshake, and its framing.
fn sent_packets(lines: &[serde_json::Value], from: &str) -> Option<(Framing, Vec<u8>)> {
    let octets: Vec<u8> = lines
        .iter()
        .filter(|line| line["from"] == from)
        .filter_map(|line| line["hex"].as_str())
        .flat_map(unhex)
        .collect();
    let mut parts = octets.splitn(4, |&octet| octet == b'\n');
    let authentication = parts.nth(2)?;
    let packets = parts.next()?;
    let framing = authentication.split(|&octet| octet == b';').nth(2)?;
    let framing = Framing::from_name(std::str::from_utf8(framing).ok()?)?;
    Some((framing, packets.to_vec()))
}

#[test]
fn every_recorded_packet_decodes_and_can_be_sent_again() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let mut counts = std::collections::BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !name.ends_with(".jsonl") || ["values.jsonl", "tls-auth.jsonl"].contains(&&*name) {
            continue;
        }
        let lines = fixture(&name);
        // On a data connection no packets follow the handshake.
        let data_greeting = "61656d702d64617461636f6e6e";
        if lines
            .iter()
            .filter_map(|line| line["hex"].as_str())
            .any(|hex| hex.contains(data_greeting))
        {
            continue;
        }
        for from in ["a", "b"] {
            let Some((framing, wire)) = sent_packets(&lines, from) else {
                continue;
            };
            let packets = decode(framing, &wire).unwrap_or_else(|error| panic!("{name}: {error}"));
            let pieces = decode_pieces(framing, FramingLimits::default(), wire.chunks(1));
            assert_eq!(pieces.as_ref(), Ok(&packets), "{name} octet by octet");
            for packet in &packets {
                assert!(matches!(packet.first(), Some(Tree::Str(_) | Tree::Int(_))), "{name}");
                for to in Framing::ALL {
                    let again = decode_one(to, &encode(to, packet, true));
                    assert_eq!(loosely(&again), loosely(packet), "{name} to {to}");
                }
            }
            *counts.entry(framing.name()).or_insert(0) += packets.len();
        }
    }
    for framing in Framing::ALL {
        assert!(counts[framing.name()] > 30, "{counts:?}");
    }
}
