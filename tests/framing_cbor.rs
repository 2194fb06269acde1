//! CBOR that nodes rarely send: accepted if it has a meaning in Perl, otherwise refused.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod framing_support;

use aemp::wire::framing::{Decoder, Framing, FramingError, FramingLimits, Step};
use framing_support::*;

/// Decodes the packet `["p", ITEMS...]`, where `hex` is the items, at once and octet by octet.
fn decode_items(count: u8, hex: &str) -> Result<Vec<Tree>, FramingError> {
    let mut wire = vec![0x81 + count, 0x41, b'p'];
    wire.extend(unhex(hex));
    items_of(Framing::Cbor, &wire)
}

fn item(hex: &str) -> Tree {
    let mut items = decode_items(1, hex).unwrap_or_else(|error| panic!("{hex}: {error}"));
    assert_eq!(items.len(), 1, "{hex}");
    items.remove(0)
}

#[test]
fn unusual_items_become_what_perl_can_hold() {
    use Tree::{Bool, Float, Int, Undef};
    let table = [
        // Half floats.
        ("f93e00", Float(1.5)),
        ("f98000", Float(-0.0)),
        ("f90001", Float(2_f64.powi(-24))),
        ("f97bff", Float(65504.0)),
        ("f97c00", Float(f64::INFINITY)),
        ("f9fc00", Float(f64::NEG_INFINITY)),
        ("f97e00", Float(f64::NAN)),
        // Undefined, and simple values without a meaning.
        ("f7", Undef),
        ("f0", Undef),
        ("f820", Undef),
        ("f8ff", Undef),
        // Floats next to something unusual.
        ("82f7fb3ff8000000000000", array([Undef, Float(1.5)])),
        // Integers of all sizes, not in their shortest form.
        ("1800", Int(0)),
        ("1b0000000000000001", Int(1)),
        ("3b7fffffffffffffff", Int(i64::MIN.into())),
        ("3b8000000000000000", Float(-9_223_372_036_854_775_809.0)),
        ("3bffffffffffffffff", Float(-18_446_744_073_709_551_616.0)),
        // Bignums.
        ("c24101", text("1")),
        ("c240", text("0")),
        ("c248ffffffffffffffff", text("18446744073709551615")),
        ("c24a0000ffffffffffffffff", text("18446744073709551615")),
        ("c249010000000000000000", text("18446744073709551616")),
        ("c34101", text("-2")),
        ("c3487fffffffffffffff", text("-9223372036854775808")),
        ("c348ffffffffffffffff", text("-18446744073709551616")),
        ("c349010000000000000000", text("-18446744073709551617")),
        ("c26131", text("1")),
        // Indefinite lengths.
        ("5f4161420162ff", Tree::Str(b"a\x01b".to_vec())),
        ("7f616162c3a9ff", text("aé")),
        ("5fff", text("")),
        ("9f0102ff", array([Int(1), Int(2)])),
        ("9fff", array([])),
        ("bf416101ff", hash([("a", Int(1))])),
        ("bfff", hash([])),
        ("9f9fff820102bfffff", array([array([]), array([Int(1), Int(2)]), hash([])])),
        // Keys.
        ("a10102", hash([("1", Int(2))])),
        ("a12002", hash([("-1", Int(2))])),
        ("a1fa3fc0000001", hash([("1.5", Int(1))])),
        ("a1f601", hash([("", Int(1))])),
        ("a1f501", hash([("1", Int(1))])),
        ("a1f401", hash([("0", Int(1))])),
        ("a1c6416101", hash([("a", Int(1))])),
        ("a15f41614162ff01", hash([("ab", Int(1))])),
        ("bf0102ff", hash([("1", Int(2))])),
        // Tags that are unknown, or have no meaning here.
        ("d9d9f701", Int(1)),
        ("c6c6f5", Bool(true)),
        ("c11a514b67b0", Int(1_363_896_240)),
        ("d81843820102", Tree::Str("\u{82}\u{1}\u{2}".into())),
        ("c48221196ab3", text("273.15")),
        ("c48221f6", array([Int(-2), Undef])),
        ("d9565201", Int(1)),
        ("d9565281f6", array([Undef])),
        // Perl objects.
        ("d81a8263466f6f01", Int(1)),
        ("d81a8363466f6f0102", array([Int(1), Int(2)])),
        ("d81a8163466f6f", array([])),
        ("d81a9f63466f6f01ff", Int(1)),
        ("d81a8263466f6fa1416101", hash([("a", Int(1))])),
        ("d81a8263466f6fd81a824142820102", array([Int(1), Int(2)])),
        ("d81a01", Int(1)),
        ("81d81a8263466f6f01", array([Int(1)])),
        // Text that is not Unicode.
        ("63eda080", Tree::Str(b"\xed\xa0\x80".to_vec())),
        ("64f4908080", Tree::Str(b"\xf4\x90\x80\x80".to_vec())),
    ];
    for (hex, expected) in table {
        assert_eq!(loose_nan(item(hex)), loose_nan(expected), "{hex}");
    }
}

fn loose_nan(tree: Tree) -> Tree {
    match tree {
        Tree::Float(number) if number.is_nan() => text("not a number"),
        other => other,
    }
}

#[test]
fn string_references_are_resolved_within_their_namespace() {
    let three = |string: &str| array([text(string), text(string), text(string)]);
    // [256, ["aaa", ref 0, ref 0]]
    assert_eq!(item("d901008343616161d81900d81900"), three("aaa"));
    assert_eq!(item("d901008363616161d81900d81900"), three("aaa"));
    // Strings that are too short get no number.
    let items = item("d9010084416142626243636363d81900");
    assert_eq!(items, array([text("a"), text("bb"), text("ccc"), text("ccc")]));
    // Keys get numbers, too, and can be references.
    assert_eq!(
        item("d9010082a14361616101a1d8190002"),
        array([hash([("aaa", Tree::Int(1))]), hash([("aaa", Tree::Int(2))])])
    );
    // The inner namespace has its own numbers; the outer one continues after it.
    assert_eq!(
        item("d901008443616161d901008243626262d8190043636363d81901"),
        array([text("aaa"), array([text("bbb"), text("bbb")]), text("ccc"), text("ccc")])
    );
    for wrong in ["d81900", "d9010082d81900 43616161", "d9010081d81900"] {
        assert!(decode_items(1, wrong).is_err(), "{wrong}");
    }
    // From the 25th string on, only strings of at least four octets get a number.
    let many: String = (0..24).map(|n| format!("4361{:02x}61", n + 0x61)).collect();
    let wire = format!("d90100981b{many}437a7a7a 447a7a7a7a d8191818");
    let Tree::Array(items) = item(&wire) else {
        panic!("an array");
    };
    assert_eq!(items[26], text("zzzz"));
}

#[test]
fn shared_values_are_repeated() {
    let one = || array([Tree::Int(1)]);
    assert_eq!(decode_items(2, "d81c8101d81d00"), Ok(vec![one(), one()]));
    assert_eq!(decode_items(2, "d81c01d81d00"), Ok(vec![Tree::Int(1), Tree::Int(1)]));
    // Nested; the outer one has the smaller number.
    assert_eq!(
        decode_items(3, "d81c81d81c8101d81d01d81d00"),
        Ok(vec![array([one()]), one(), array([one()])])
    );
    // As an object's value, as a key.
    assert_eq!(decode_items(2, "d81cd81a82414101d81d00"), Ok(vec![Tree::Int(1), Tree::Int(1)]));
    assert_eq!(
        decode_items(2, "a1d81c0102d81d00"),
        Ok(vec![hash([("1", Tree::Int(2))]), text("1")])
    );
    for wrong in ["d81d00", "d81c81d81d00", "d81cd81d00", "d81cd81c81d81d01"] {
        assert!(decode_items(1, wrong).is_err(), "{wrong}");
    }
    // The packet contains itself.
    assert!(decode(Framing::Cbor, &unhex("d81c824170d81d00")).is_err());
    // The class of an object.
    assert_eq!(decode_items(2, "d81a82d81c414101d81d00"), Ok(vec![Tree::Int(1), text("A")]));
}

#[test]
fn references_cannot_make_a_small_packet_a_large_one() {
    // Each level refers twice to the one before.
    let mut wire = unhex("9820 4170 d81c5903e8");
    wire.extend([b'x'; 1000]);
    for level in 0..30_u8 {
        wire.extend([0xd8, 28, 0x82, 0xd8, 29, 24, level, 0xd8, 29, 24, level]);
    }
    let error = decode(Framing::Cbor, &wire).unwrap_err();
    assert!(matches!(error, FramingError::TooExpanded { .. }), "{error}");

    // The same with string references.
    let mut wire = unhex("d90100 9a00030d42 4170 59c350");
    wire.extend([b'x'; 50_000]);
    wire.extend([0xd8, 25, 0].repeat(200_000));
    let error = decode(Framing::Cbor, &wire).unwrap_err();
    assert!(matches!(error, FramingError::TooExpanded { .. }), "{error}");
}

#[test]
fn references_cannot_make_a_flat_packet_a_deep_one() {
    // ["p", shared [[..300..]], [[..300.. ref 0]]]
    let mut wire = unhex("834170d81c");
    wire.extend([0x81; 300]);
    wire.push(0x80);
    wire.extend([0x81; 300]);
    wire.extend([0xd8, 29, 0]);
    let error = decode(Framing::Cbor, &wire).unwrap_err();
    assert_eq!(error, FramingError::TooDeep { limit: 512 });
}

#[test]
fn invalid_cbor_is_refused() {
    for wrong in [
        "1c",
        "3d",
        "5e",
        "fc",
        "fe", // reserved
        "1f",
        "3f",
        "df",
        "ff",
        "81ff",
        "a1ff", // breaks and lengths where there are none
        "bf4161ff",
        "9fc6ff",
        "bf4161c6ff",
        "f800",
        "f814",
        "f81f",
        "5f6161ff",
        "7f4161ff",
        "5f01ff",
        "5f5f4161ffff",
        "5f80ff",
        "61ff",
        "62c080",
        "7f61c361a9ff", // no UTF-8
        "a18001",
        "a1a001",
        "bf9fff01ff", // arrays and maps as keys
        "d81a8101",
        "d81a82804161",
        "d81a82818001", // objects without a class
    ] {
        let result = decode_items(1, wrong);
        assert!(result.is_err(), "{wrong}: {result:?}");
    }
}

#[test]
fn anything_but_an_array_with_a_name_first_is_refused_at_its_first_octets() {
    for wrong in [
        "a0", "a1", "40", "01", "f6", "f5", "ff", "fb", "c6a0", "d9d9f740", "bf", "5f", "df",
        "8280", "81a0", "8181", "819f", "81bf", "81f6", "81f4", "81f7", "81f0", "9ff6", "9f80",
        "c681f6", "82a1",
    ] {
        let error = decode(Framing::Cbor, &unhex(wrong)).unwrap_err();
        assert_eq!(error, FramingError::NotAPacket, "{wrong}");
    }
    // An error inside a tag is found when the tag's content is complete.
    for wrong in ["81c680", "81c6f6", "82d81a824141a001"] {
        let error = decode(Framing::Cbor, &unhex(wrong)).unwrap_err();
        assert_eq!(error, FramingError::NotAPacket, "{wrong}");
    }
    for right in
        ["80", "9fff", "8101", "8120", "8140", "8160", "81fa3f800000", "81f93c00", "81c64161"]
    {
        assert!(decode(Framing::Cbor, &unhex(right)).is_ok(), "{right}");
    }
}

#[test]
fn plain_packets_are_borrowed_from_the_input() {
    let wire = unhex("8445706f7274314474657374182a6b68656c6c6f20776f726c64");
    let mut decoder = Decoder::new(Framing::Cbor, FramingLimits::default());
    let Ok(Step::Packet { used, elements }) = decoder.next(&wire) else {
        panic!("a packet");
    };
    assert_eq!(used, wire.len());
    assert_eq!(elements.octets().as_ptr_range(), wire[1..].as_ptr_range());
}

#[test]
fn announced_lengths_beyond_the_limit_are_refused_at_once() {
    let limits = FramingLimits { packet: 1000, nesting: 512 };
    for wrong in [
        "9903e8",
        "9b0000000100000000",
        "82415959 03e8",
        "8241595a3b9aca00",
        "8241597903e8",
        "824159bb8000000000000000",
        "824159ba7fffffff",
        "9bffffffffffffffff",
    ] {
        let wire = unhex(wrong);
        let error = decode_pieces(Framing::Cbor, limits, [&wire[..]]).unwrap_err();
        assert_eq!(error, FramingError::TooLong { limit: 1000 }, "{wrong}");
    }
    let wire = unhex("98c8");
    assert_eq!(decode_pieces(Framing::Cbor, limits, [&wire[..]]), Ok(vec![]));

    let limits = FramingLimits { packet: 5, nesting: 512 };
    let wire = unhex("8441700102 03");
    for pieces in [vec![&wire[..]], wire.chunks(1).collect()] {
        let error = decode_pieces(Framing::Cbor, limits, pieces).unwrap_err();
        assert_eq!(error, FramingError::TooLong { limit: 5 });
    }
}
