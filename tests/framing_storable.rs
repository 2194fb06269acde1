//! Storable images that Perl makes of more than plain data, and invalid images.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod framing_support;

use aemp::value::packed::Elements;
use aemp::value::{Packed, Tagged};
use aemp::wire::framing::encode as encode_packet;
use aemp::wire::framing::{Decoder, Framing, FramingError, FramingLimits, Step};
use framing_support::*;

fn with_length(image: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    for shift in [28, 21, 14, 7] {
        if image.len() >> shift > 0 {
            wire.push(0x80 | (image.len() >> shift & 0x7f) as u8);
        }
    }
    wire.push((image.len() & 0x7f) as u8);
    wire.extend_from_slice(image);
    wire
}

/// Decodes the packet `["p", ITEMS...]`, where `hex` is the items as they occur in an image.
fn decode_items(count: u8, hex: &str) -> Result<Vec<Tree>, FramingError> {
    let mut image = vec![0x05, 0x0b, 0x02, 0, 0, 0, count + 1, 0x0a, 1, b'p'];
    image.extend(unhex(hex));
    let wire = with_length(&image);
    items_of(Framing::Storable, &wire)
}

fn item(hex: &str) -> Tree {
    let mut items = decode_items(1, hex).unwrap_or_else(|error| panic!("{hex}: {error}"));
    assert_eq!(items.len(), 1, "{hex}");
    items.remove(0)
}

#[test]
fn every_kind_of_data_is_read() {
    use Tree::{Bool, Int, Undef};
    let one = || array([Int(1)]);
    let table = [
        ("05", Undef),
        ("0e", Undef),
        ("1f", Undef),
        ("040e", Undef),
        ("0f", text("1")),
        ("10", text("")),
        ("22", text("1")),
        ("23", text("")),
        ("0800", Int(-128)),
        ("08ff", Int(127)),
        ("09ffffff7f", Int(-129)),
        ("0a0178", text("x")),
        ("0100000001e9", text("é")),
        ("1702c3a9", text("é")),
        ("1800000003e282ac", text("€")),
        // References of all kinds.
        ("0402000000010881", one()),
        ("1402000000010881", one()),
        ("1b02000000010881", one()),
        ("1c02000000010881", one()),
        ("0404040881", Int(1)),
        // Objects: {a=>1} and [] of class Foo, \1 of class Bar.
        ("041103466f6f030000000108810000000161", hash([("a", Int(1))])),
        ("041103466f6f0200000000", array([])),
        ("0411034261720881", Int(1)),
        ("04118000000003466f6f0881", Int(1)),
        // Booleans, in the forms that occur.
        ("1411114a534f4e3a3a50503a3a426f6f6c65616e0881", Bool(true)),
        ("0411114a534f4e3a3a50503a3a426f6f6c65616e0880", Bool(false)),
        ("041107626f6f6c65616e0a0131", text("1")),
        ("041107626f6f6c65616e0a00", text("")),
        // v1.2.3
        ("1d0676312e322e330a03010203", Tree::Str(b"\x01\x02\x03".to_vec())),
        ("1e0000000676312e322e330a03010203", Tree::Str(b"\x01\x02\x03".to_vec())),
        // qr/a/i
        ("041106526567657870200001610169", text("a")),
        ("0411065265676578702001000000026162 00", text("ab")),
        // Hashes with flags: a wide key, one that was UTF-8, a restricted hash with a free place.
        (
            "04190000000003 0883 00 00000001e9 0882 00 0000000161 0881 01 00000002c480",
            hash([("é", Int(3)), ("a", Int(2)), ("Ā", Int(1))]),
        ),
        ("04198000000002 0881 04 0000000161 0e 10 0000000162", hash([("a", Int(1))])),
        ("0419000000000108810200000001e9", hash([("é", Int(1))])),
    ];
    for (hex, expected) in table {
        assert_eq!(item(hex), expected, "{hex}");
    }
}

#[test]
fn a_class_named_once_is_referred_to() {
    let boolean = "1411114a534f4e3a3a50503a3a426f6f6c65616e0881";
    let items = decode_items(3, &format!("{boolean}041103466f6f0881041200 0880"));
    assert_eq!(items, Ok(vec![Tree::Bool(true), Tree::Int(1), Tree::Bool(false)]));
    let items = decode_items(2, &format!("{boolean}0412800000000 00880"));
    assert_eq!(items, Ok(vec![Tree::Bool(true), Tree::Bool(false)]));
    assert!(decode_items(1, "0412000880").is_err());
}

#[test]
fn keys_come_after_values_of_any_depth() {
    // {k => [1, {i => 2, j => [3]}], l => {}, m => 4, n => \5}
    let hex = "04 03 00000004
        04 02 00000002 0881 04 03 00000002 0882 00000001 69 04 02 00000001 0883 00000001 6a
           00000001 6b
        04 03 00000000 00000001 6c
        0884 00000001 6d
        04 0885 00000001 6e";
    let inner = hash([("i", Tree::Int(2)), ("j", array([Tree::Int(3)]))]);
    let expected = hash([
        ("k", array([Tree::Int(1), inner])),
        ("l", hash([])),
        ("m", Tree::Int(4)),
        ("n", Tree::Int(5)),
    ]);
    assert_eq!(item(hex), expected);
}

#[test]
fn values_sent_once_are_repeated() {
    let one = || array([Tree::Int(1)]);
    // [$x, $x, "a"] with $x = [1]: packet 0, "p" 1, reference 2, array 3.
    let items = decode_items(3, "0402000000010881 0400000000 03 0a0161");
    assert_eq!(items, Ok(vec![one(), one(), text("a")]));
    // The same reference, too.
    let items = decode_items(2, "0402000000010881 0000000002");
    assert_eq!(items, Ok(vec![one(), one()]));
    // Numbering continues through hashes: packet 0, "p" 1, reference 2, hash 3, 7 is 4, 8 is 5.
    let items = decode_items(2, "040300000002 0887 00000001 61 0888 00000001 62 0000000005");
    let expected = hash([("a", Tree::Int(7)), ("b", Tree::Int(8))]);
    assert_eq!(items, Ok(vec![expected, Tree::Int(8)]));
    // As values in hashes.
    let items =
        decode_items(2, "0881 040300000002 0000000002 00000001 61 0400000000 02 00000001 62");
    let expected = hash([("a", Tree::Int(1)), ("b", Tree::Int(1))]);
    assert_eq!(items, Ok(vec![Tree::Int(1), expected]));
    for wrong in ["0000000002", "00ffffffff", "0000000000"] {
        let error = decode_items(1, wrong).unwrap_err();
        assert!(matches!(error, FramingError::Refused { .. }), "{wrong}: {error}");
    }
}

#[test]
fn references_cannot_make_a_small_packet_a_large_one() {
    let mut image = unhex("050b02 00000020 0a0170 01000003e8");
    image.extend([b'x'; 1000]);
    let mut last = 2_u32;
    for _ in 0..30 {
        // [last, last]: a reference and an array more.
        image.extend(unhex("0402 00000002"));
        for _ in 0..2 {
            image.push(0);
            image.extend(last.to_be_bytes());
        }
        last += 2;
    }
    let error = decode(Framing::Storable, &with_length(&image)).unwrap_err();
    assert!(matches!(error, FramingError::TooExpanded { .. }), "{error}");
}

#[test]
fn images_that_would_run_code_are_refused() {
    for (hex, what) in [
        ("04138303466f6f0161 01 00000001", "a tied variable with a hook"),
        ("041a0a0131", "code"),
        ("040b0402000000", "a tied array"),
        ("040c", "a tied hash"),
        ("040d", "a tied scalar"),
        ("0415", "a tied key"),
        ("0416", "a tied index"),
        ("04190000000001 0881 08 0a0161", "a key that is a scalar"),
    ] {
        let error = decode_items(1, hex).unwrap_err();
        assert!(matches!(error, FramingError::Refused { .. }), "{what}: {error}");
    }
}

#[test]
fn an_invalid_image_is_refused() {
    for wrong in [
        "",
        "21",
        "ff",
        "24",
        "0a",
        "0a0261",
        "01000000ff61",
        "0402ffffffff",
        "0403ffffffff",
        "040300000001 0881",
        "040300000001 0881 000000ff61",
        "04",
        "0411",
        "110361",
        "04020000",
        "08810881",
        "0419",
        "041900ffffffff",
        "20",
        "200102",
        "1d05",
        "1e000000ff",
        "09000000",
        // Numbers in the order of a machine.
        "060000000000000001",
        "070000000000000001",
        // Objects that refer to others: one that is missing, an end that is missing, none at all, one
        // that was not sent yet, one that was sent and is not referred to, a class that was not named.
        "04138003466f6f016101000000ff",
        "041342020000000002",
        "0413420200000000 02 03466f6f0161",
        "0413420200000000 82 03466f6f0161 00",
        "0413420200000000 82 03466f6f0161 01 00000005 05",
        "0413420200000000 82 03466f6f0161 01 00000001",
        "0413420200000000 a2 00 0161 01 00000003",
        "0413420200000000 82 03466f6f0161 ff 00000003",
    ] {
        assert!(decode_items(1, wrong).is_err(), "{wrong}");
    }
    for wrong in ["1701ff", "1800000001c3", "041900000000010881010000 0001ff"] {
        assert_eq!(decode_items(1, wrong), Err(FramingError::NotUtf8), "{wrong}");
    }
    for (wrong, expected) in [
        ("00", "malformed storable: an empty image"),
        ("0105", "malformed storable: an empty image"),
        ("02050b", "malformed storable: an empty image"),
        ("8000", "malformed storable: a length with leading zeros"),
        ("0706", "malformed storable: not an image of version 2"),
        ("070670", "malformed storable: not an image of version 2"),
        (
            "14040b0431",
            "malformed storable: an image of a machine that is not 64-bit little-endian",
        ),
        (
            "14040b083837363534333231",
            "malformed storable: an image of a machine that is not 64-bit little-endian",
        ),
        ("0d040b08313233343536373804080808", "malformed storable: an empty image"),
        ("10040b0831323334353637380408080803", "no array with a port name first"),
        ("0a050b03", "no array with a port name first"),
        ("0a050b0a", "no array with a port name first"),
        ("05050b110141", "malformed storable: it ends early"),
        ("07050b1101410200", "malformed storable: it ends early"),
        ("06050b1101410a", "malformed storable: it ends early"),
        ("07050b1101410a00", "no array with a port name first"),
        ("08050b020000000105", "no array with a port name first"),
        ("0d050b02000000010402000000 00", "no array with a port name first"),
        ("ffffffff", "longer than the limit of 268435456 octets"),
    ] {
        let error = decode(Framing::Storable, &unhex(wrong)).unwrap_err();
        assert_eq!(error.to_string(), expected, "{wrong}");
    }
}

#[test]
fn a_blessed_packet_is_a_packet() {
    let wire = with_length(&unhex("050b 1101410200000001 0a0170"));
    assert_eq!(decode_one(Framing::Storable, &wire), [text("p")]);
    let empty = with_length(&unhex("050b0200000000"));
    assert_eq!(decode_one(Framing::Storable, &empty), []);
}

#[test]
fn hashes_that_nest_deeply_take_no_longer() {
    // Inserting each key before its value afterwards would move every value at every level.
    let mut image = unhex("050b02 00000002 0a0170");
    for _ in 0..510 {
        image.extend(unhex("0403 00000002"));
    }
    image.extend(unhex("0881"));
    for _ in 0..510 {
        image.extend(unhex("00000001 61 0882 00000001 62"));
    }
    let mut tree = &decode_one(Framing::Storable, &with_length(&image))[1];
    let mut depth = 0;
    while let Tree::Hash(pairs) = tree {
        assert_eq!(pairs[&b"b"[..]], Tree::Int(2));
        tree = &pairs[&b"a"[..]];
        depth += 1;
    }
    assert_eq!((depth, tree), (510, &Tree::Int(1)));
}

#[test]
fn sent_images_are_those_of_nfreeze() {
    let image = |value: Tree, octets: bool| {
        let wire = encode(Framing::Storable, &[value], octets);
        assert_eq!(wire[0] as usize, wire.len() - 1);
        assert_eq!(wire[1..8], unhex("050b0200000001"));
        wire[8..].to_vec()
    };
    for (value, octets, hex) in [
        (Tree::Int(-128), true, "0800"),
        (Tree::Int(127), true, "08ff"),
        (Tree::Int(128), true, "0900000080"),
        (Tree::Int(-129), true, "09ffffff7f"),
        (Tree::Int(1 << 31), true, "0a0a32313437343833363438"),
        (Tree::Float(1.5), true, "0a03312e35"),
        (Tree::Float(1e16), true, "0a0531652b3136"),
        (Tree::Float(f64::INFINITY), true, "0a03496e66"),
        (Tree::text("é"), true, "0a01e9"),
        (Tree::text("é"), false, "1702c3a9"),
        (Tree::text("abc"), true, "0a03616263"),
        (Tree::text("abc"), false, "1703616263"),
        (Tree::Undef, true, "05"),
        (hash([("a", Tree::Int(1))]), true, "040300000001088100000001 61"),
        (hash([("é", Tree::Int(1))]), false, "0403000000010881 00000001e9"),
        (hash([("Ā", Tree::Int(1))]), false, "04190000000001 0881 01 00000002c480"),
        (
            array([Tree::Bool(true), Tree::Bool(false)]),
            true,
            "04020000000204 11114a534f4e3a3a50503a3a426f6f6c65616e0881 0412000880",
        ),
    ] {
        assert_eq!(image(value, octets), unhex(hex), "{hex}");
    }
    for len in [255, 256, 20_000, 3_000_000] {
        for string in ["x".repeat(len), "é".repeat(len / 2)] {
            let wire = encode(Framing::Storable, &[Tree::text(&string)], false);
            assert_eq!(decode_one(Framing::Storable, &wire), [Tree::text(&string)]);
        }
    }
}

#[test]
fn keys_that_are_not_strings_cannot_be_sent() {
    for framing in [Framing::Json, Framing::Storable] {
        let mut out = b"before".to_vec();
        let not_packed = Elements::new(1, &[0xa1, 1, 2]);
        assert!(aemp::wire::framing::encode(framing, not_packed, &mut out).is_err());
        assert_eq!(out, b"before");
    }
}

/// However a message with an object goes on, no tag of our own leaves in CBOR, and nothing but them is
/// left out; in Storable it stays an object.
#[test]
fn an_object_leaves_in_cbor_without_its_class_whichever_way_it_is_handed_on() {
    // ["port", bless([7], "X")], as `nfreeze` has it.
    let image = &unhex("050b02000000020a04706f72740411015802000000010887");
    let wire = with_length(image);
    let mut decoder = Decoder::new(Framing::Storable, FramingLimits::default());
    let Step::Packet { elements, .. } = decoder.next(&wire).unwrap() else { panic!("no packet") };
    let kept = elements.to_packed();
    let values = elements.to_values().unwrap();
    let sent_on = [
        elements.to_packed(),
        Packed::new(2, elements.octets().to_vec().into()),
        Packed::of(&kept).unwrap(),
        Packed::of(&elements).unwrap(),
        Packed::of(&values).unwrap(),
        Packed::of(&("port", &values[1])).unwrap(),
        Packed::of(&("port", kept.as_elements().after(1))).unwrap(),
    ];
    for (way, packet) in sent_on.iter().enumerate() {
        let mut cbor = Vec::new();
        encode_packet(Framing::Cbor, packet.as_elements(), &mut cbor).unwrap();
        assert!(!cbor.windows(4).any(|octets| octets == b"\xda\x61\x65\x6d"), "{way}: {cbor:x?}");
        let inside = Tree::Array(vec![Tree::Int(7)]);
        let inside = if way == 6 { Tree::Array(vec![inside]) } else { inside };
        assert_eq!(decode_one(Framing::Cbor, &cbor), [Tree::text("port"), inside], "{way}");
        if way != 6 {
            let mut storable = Vec::new();
            encode_packet(Framing::Storable, packet.as_elements(), &mut storable).unwrap();
            assert!(storable.ends_with(&image[13..]), "{way}: {storable:x?}");
        }
    }
}

/// A tag for which Perl has objects of its own, if it came as an object that holds the tag.
#[test]
fn a_tagged_object_leaves_in_storable_as_it_came_and_in_cbor_as_a_tag() {
    let mut image = unhex("050b02000000020a04706f7274041110");
    image.extend_from_slice(b"CBOR::XS::Tagged");
    // The tag 1, and a number.
    image.extend(unhex("02000000020881096553f100"));
    let wire = with_length(&image);
    let mut decoder = Decoder::new(Framing::Storable, FramingLimits::default());
    let Step::Packet { elements, .. } = decoder.next(&wire).unwrap() else { panic!("no packet") };
    let values = elements.to_values().unwrap();
    assert_eq!(values[1].to_string(), "1(1700000000)");
    assert_eq!(values[1].to_integer(), Some(1_700_000_000.into()));
    let (_, at) = elements.decode::<(String, Tagged<u64>)>().unwrap();
    assert_eq!(at, Tagged { tag: 1, value: 1_700_000_000 });
    for packet in [elements.to_packed(), Packed::of(&values).unwrap()] {
        let (mut storable, mut cbor) = (Vec::new(), Vec::new());
        encode_packet(Framing::Storable, packet.as_elements(), &mut storable).unwrap();
        assert_eq!(storable, wire);
        encode_packet(Framing::Cbor, packet.as_elements(), &mut cbor).unwrap();
        assert!(cbor.ends_with(b"\xc1\x1a\x65\x53\xf1\x00"), "{cbor:x?}");
        assert_eq!(cbor.len(), 6 + 6);
    }
}

#[test]
fn whole_floats_leave_as_integers_as_far_as_they_are_exact() {
    for (number, item) in [
        (3.0, &b"\x08\x83"[..]),
        (-4080.0, b"\x09\xff\xff\xf0\x10"),
        (4_294_967_296.0, b"\x0a\x0a4294967296"),
        (9_007_199_254_740_992.0, b"\x0a\x159.007199254740992e+15"),
        (-0.0, b"\x0a\x02-0"),
        (1.5, b"\x0a\x031.5"),
    ] {
        let packet = Packed::of(&("p", number)).unwrap();
        let mut wire = Vec::new();
        encode_packet(Framing::Storable, packet.as_elements(), &mut wire).unwrap();
        assert!(wire.ends_with(item), "{number}: {wire:x?}");
    }
}
