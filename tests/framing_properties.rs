//! Any packet passes through any framing, however it is split; no input does harm.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod framing_support;

use aemp::value::packed::{self, Elements};
use aemp::wire::framing::{
    self, Decoder, EncodeError, Framing, FramingError, FramingLimits, MAX_NESTING, Step,
};
use framing_support::*;
use proptest::prelude::*;

/// Strings of any code points that Perl can send, in generalized UTF-8.
fn string() -> impl Strategy<Value = Vec<u8>> {
    let point = prop_oneof![
        4 => 0x20..0x7f_u64,
        1 => 0..0x20_u64,
        1 => 0x80..0x100_u64,
        1 => 0x100..0xd800_u64,
        1 => 0xd800..0xe000_u64,
        1 => 0x1_0000..0x20_0000_u64,
        1 => 0x20_0000..0x10_0000_0000_u64,
    ];
    prop::collection::vec(point, 0..24).prop_map(|points| {
        let mut utf8 = Vec::new();
        points.into_iter().for_each(|point| push_code_point(&mut utf8, point));
        utf8
    })
}

fn push_code_point(out: &mut Vec<u8>, point: u64) {
    let (len, mark) = match point {
        0..0x80 => return out.push(point as u8),
        0x80..0x800 => (2, 0xc0),
        0x800..0x1_0000 => (3, 0xe0),
        0x1_0000..0x20_0000 => (4, 0xf0),
        0x20_0000..0x400_0000 => (5, 0xf8),
        0x400_0000..0x8000_0000 => (6, 0xfc),
        _ => (7, 0xfe),
    };
    out.push(mark | (point >> (6 * (len - 1))) as u8);
    out.extend((0..len - 1).rev().map(|at| 0x80 | (point >> (6 * at) & 0x3f) as u8));
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        Just(Tree::Undef),
        any::<bool>().prop_map(Tree::Bool),
        any::<u64>().prop_map(|number| Tree::Int(number.into())),
        any::<i64>().prop_map(|number| Tree::Int(number.into())),
        (-300..300_i32).prop_map(|number| Tree::Int(number.into())),
        any::<f64>().prop_map(Tree::Float),
        any::<f32>().prop_map(|number| Tree::Float(number.into())),
        string().prop_map(Tree::Str),
    ];
    leaf.prop_recursive(6, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Tree::Array),
            prop::collection::btree_map(string(), inner, 0..8).prop_map(Tree::Hash),
        ]
    })
}

fn packet() -> impl Strategy<Value = Vec<Tree>> {
    (string(), prop::collection::vec(tree(), 0..6)).prop_map(|(port, mut elements)| {
        elements.insert(0, Tree::Str(port));
        elements
    })
}

fn framing() -> impl Strategy<Value = Framing> {
    prop::sample::select(&Framing::ALL[..])
}

/// The value that arrives for one that was sent.
fn arrives(framing: Framing, sent: &Tree) -> Tree {
    match (framing, sent) {
        (Framing::Json, Tree::Float(number)) if !number.is_finite() => {
            Tree::text(if number.is_nan() {
                "NaN"
            } else if *number > 0.0 {
                "Inf"
            } else {
                "-Inf"
            })
        }
        (Framing::Storable, Tree::Int(number)) if i32::try_from(*number).is_err() => {
            Tree::text(&number.to_string())
        }
        // Perl sends whole floats as integers.
        (Framing::Storable, Tree::Float(number))
            if f64::from(*number as i32).to_bits() == number.to_bits() =>
        {
            Tree::Int(i128::from(*number as i32))
        }
        (_, Tree::Array(items)) => {
            Tree::Array(items.iter().map(|item| arrives(framing, item)).collect())
        }
        (_, Tree::Hash(pairs)) => {
            let pairs = pairs.iter().map(|(key, value)| (key.clone(), arrives(framing, value)));
            Tree::Hash(pairs.collect())
        }
        (_, other) => other.clone(),
    }
}

/// Equal, where Storable's floats are strings that read as the same float.
fn same(framing: Framing, received: &Tree, expected: &Tree) -> bool {
    match (received, expected) {
        (Tree::Str(text), Tree::Float(number)) if framing == Framing::Storable => {
            let read: f64 = std::str::from_utf8(text).unwrap().parse().unwrap();
            read.to_bits() == number.to_bits() || read.is_nan() && number.is_nan()
        }
        (Tree::Float(one), Tree::Float(other)) => {
            one.to_bits() == other.to_bits() || one.is_nan() && other.is_nan()
        }
        (Tree::Array(one), Tree::Array(other)) => {
            one.len() == other.len()
                && one.iter().zip(other).all(|(one, other)| same(framing, one, other))
        }
        (Tree::Hash(one), Tree::Hash(other)) => {
            one.len() == other.len()
                && one.iter().zip(other).all(|((key, one), (other_key, other))| {
                    key == other_key && same(framing, one, other)
                })
        }
        _ => received == expected,
    }
}

/// Splits `wire` into pieces of these lengths, cyclically.
fn pieces<'w>(wire: &'w [u8], lengths: &[usize]) -> Vec<&'w [u8]> {
    let mut rest = wire;
    let mut pieces = Vec::new();
    for length in lengths.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at((*length).min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn packets_pass_through_whole_and_in_pieces(
        framing in framing(),
        packets in prop::collection::vec(packet(), 1..4),
        lengths in prop::collection::vec(1..60_usize, 1..8),
        octets: bool,
    ) {
        let mut wire = Vec::new();
        for packet in &packets {
            wire.extend(encode(framing, packet, octets));
        }
        let whole = decode(framing, &wire).unwrap();
        prop_assert_eq!(whole.len(), packets.len());
        for (received, sent) in whole.iter().zip(&packets) {
            let received = Tree::Array(received.clone());
            let expected = arrives(framing, &Tree::Array(sent.clone()));
            prop_assert!(same(framing, &received, &expected), "{received:?} is not {expected:?}");
        }
        let limits = FramingLimits::default();
        let in_pieces = decode_pieces(framing, limits, pieces(&wire, &lengths)).unwrap();
        for (one, other) in in_pieces.iter().zip(&whole) {
            prop_assert!(same(
                framing,
                &Tree::Array(one.clone()),
                &Tree::Array(other.clone())
            ));
        }
        prop_assert_eq!(in_pieces.len(), whole.len());
    }

    #[test]
    fn octets_sent_in_cbor_are_those_in_memory(packet in packet(), octets: bool) {
        let mut packed = Vec::new();
        packet.iter().for_each(|element| put(&mut packed, element, octets));
        let wire = encode(Framing::Cbor, &packet, octets);
        let mut decoder = Decoder::new(Framing::Cbor, FramingLimits::default());
        let step = decoder.next(&wire).unwrap();
        let is_same = matches!(step, Step::Packet { elements, .. } if elements.octets() == packed);
        prop_assert!(is_same);
    }

    #[test]
    fn garbage_does_no_harm(
        framing in framing(),
        garbage in prop::collection::vec(any::<u8>(), 0..200),
        lengths in prop::collection::vec(1..60_usize, 1..8),
    ) {
        // Decoding checks that the result is in packed form.
        let limits = FramingLimits::default();
        let whole = decode(framing, &garbage).is_ok();
        let in_pieces = decode_pieces(framing, limits, pieces(&garbage, &lengths)).is_ok();
        prop_assert_eq!(whole, in_pieces);
    }

    #[test]
    fn a_damaged_packet_does_no_harm(
        framing in framing(),
        packet in packet(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        lengths in prop::collection::vec(1..60_usize, 1..8),
    ) {
        let mut wire = encode(framing, &packet, true);
        for (at, octet) in damage {
            let at = at.index(wire.len());
            wire[at] = octet;
        }
        let limits = FramingLimits {
            packet: 10_000,
            nesting: 20,
        };
        let whole = decode_pieces(framing, limits, [&wire[..]]).is_ok();
        let in_pieces = decode_pieces(framing, limits, pieces(&wire, &lengths)).is_ok();
        prop_assert_eq!(whole, in_pieces);
    }

    #[test]
    fn opcodes_in_any_order_do_no_harm(
        opcodes in prop::collection::vec((0..36_u8, 0..4_u8), 0..80),
    ) {
        // Storable images, many of them almost valid.
        let mut image = vec![0x05, 0x0b, 0x02, 0, 0, 0, 3, 0x0a, 1, b'p'];
        for (opcode, operand) in opcodes {
            image.push(opcode);
            match opcode {
                0 | 2 | 3 => image.extend([0, 0, 0, operand]),
                8 | 18 => image.push(operand),
                9 => image.extend([0, 0, 0, 1, b'k']),
                10 | 23 => image.extend([1, b'x']),
                17 => image.extend(b"\x07boolean"),
                25 => image.extend([0, 0, 0, 0, operand]),
                _ => {}
            }
        }
        let mut wire = vec![0x80 | (image.len() >> 7) as u8, (image.len() & 0x7f) as u8];
        if wire[0] == 0x80 {
            wire.remove(0);
        }
        wire.extend(image);
        let _ = decode(Framing::Storable, &wire);
    }

    #[test]
    fn items_in_any_order_do_no_harm(
        items in prop::collection::vec((0..16_usize, 0..4_u8), 0..60),
    ) {
        // CBOR, much of it almost valid.
        let mut wire = vec![0x9f, 0x41, b'p'];
        for (kind, operand) in items {
            match kind {
                0 => wire.push(operand),
                1 => wire.push(0x20 | operand),
                2 => wire.extend([0x43, b'a', b'b', operand]),
                3 => wire.extend([0x61, b'x']),
                4 => wire.push(0x80 | operand),
                5 => wire.push(0xa0 | operand),
                6 => wire.push(0x9f),
                7 => wire.push(0xbf),
                8 => wire.push(0x5f),
                9 => wire.extend([0xd8, 25, operand]),
                10 => wire.extend([0xd8, 26]),
                11 => wire.extend([0xd8, 28]),
                12 => wire.extend([0xd8, 29, operand]),
                13 => wire.extend([0xd9, 1, 0]),
                14 => wire.push(0xc2 + operand % 2),
                _ => wire.push(0xff),
            }
        }
        let whole = decode(Framing::Cbor, &wire).is_ok();
        let octets = decode_pieces(Framing::Cbor, FramingLimits::default(), wire.chunks(1)).is_ok();
        prop_assert_eq!(whole, octets);
    }
}

/// `levels` arrays or hashes inside each other, a number innermost.
fn nested(levels: usize, hashes: bool) -> Vec<u8> {
    let mut packed = Vec::new();
    packed::put_text(&mut packed, "p");
    for _ in 0..levels {
        if hashes {
            packed::put_hash(&mut packed, 1);
            packed::put_text(&mut packed, "k");
        } else {
            packed::put_array(&mut packed, 1);
        }
    }
    packed::put_int(&mut packed, 1);
    packed
}

#[test]
fn nesting_is_limited_in_both_directions() {
    for framing in Framing::ALL {
        for hashes in [false, true] {
            let mut wire = Vec::new();
            // The packet's own array is a level too.
            let deep = nested(MAX_NESTING - 1, hashes);
            framing::encode(framing, Elements::new(2, &deep), &mut wire).unwrap();
            assert_eq!(decode_one(framing, &wire).len(), 2);
            let stricter = FramingLimits { nesting: MAX_NESTING - 1, ..FramingLimits::default() };
            for pieces in [vec![&wire[..]], wire.chunks(1).collect()] {
                let error = decode_pieces(framing, stricter, pieces).unwrap_err();
                assert_eq!(error, FramingError::TooDeep { limit: 511 }, "{framing}");
            }
            wire.clear();
            let too_deep = nested(MAX_NESTING, hashes);
            let error = framing::encode(framing, Elements::new(2, &too_deep), &mut wire);
            assert_eq!(error, Err(EncodeError::TooDeep), "{framing}");
            assert!(wire.is_empty());
        }
    }
}

#[test]
fn an_empty_array_innermost_counts_as_a_level() {
    for framing in Framing::ALL {
        for empty in [&b"\x80"[..], b"\xa0"] {
            let mut packed = b"\x61p".to_vec();
            packed.extend([0x81; MAX_NESTING - 2]);
            packed.extend(empty);
            let mut wire = Vec::new();
            framing::encode(framing, Elements::new(2, &packed), &mut wire).unwrap();
            assert!(decode(framing, &wire).is_ok());
            packed.insert(2, 0x81);
            let error = framing::encode(framing, Elements::new(2, &packed), &mut wire);
            assert_eq!(error, Err(EncodeError::TooDeep), "{framing}");
        }
    }
}

#[test]
fn a_limit_of_no_levels_refuses_all() {
    let limits = FramingLimits { nesting: 0, ..FramingLimits::default() };
    for framing in Framing::ALL {
        let wire = encode(framing, &[Tree::text("p")], true);
        let error = decode_pieces(framing, limits, [&wire[..]]).unwrap_err();
        assert_eq!(error, FramingError::TooDeep { limit: 0 }, "{framing}");
    }
}

#[test]
fn packets_up_to_the_limit_pass() {
    for framing in Framing::ALL {
        let packet = [Tree::text("p"), Tree::text(&"x".repeat(1000))];
        let wire = encode(framing, &packet, true);
        let limit = |packet| FramingLimits { packet, nesting: 512 };
        let pass = decode_pieces(framing, limit(wire.len()), wire.repeat(3).chunks(7));
        assert_eq!(pass.map(|packets| packets.len()), Ok(3), "{framing}");
        for pieces in [vec![&wire[..]], wire.chunks(7).collect()] {
            let refused = decode_pieces(framing, limit(wire.len() - 1), pieces).unwrap_err();
            assert_eq!(refused, FramingError::TooLong { limit: wire.len() - 1 }, "{framing}");
        }
    }
}

#[test]
fn framings_have_the_names_of_the_greeting() {
    for framing in Framing::ALL {
        assert_eq!(Framing::from_name(framing.name()), Some(framing));
        assert_eq!(Decoder::new(framing, FramingLimits::default()).framing(), framing);
    }
    assert_eq!(Framing::ALL.map(Framing::name), ["cbor", "json", "storable"]);
    assert_eq!(Framing::from_name("JSON"), None);
}
