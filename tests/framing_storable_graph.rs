//! Storable images of values that contain themselves, and of objects that were frozen with others.
//!
//! The images are those that Perl's `nfreeze` makes of the value in the comment, unless it says so.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod framing_support;

use aemp::value::packed;
use aemp::wire::framing::encode as encode_packet;
use aemp::wire::framing::{Decoder, Framing, FramingError, FramingLimits, Step};
use aemp::wire::hex;
use framing_support::*;

/// A packet of `["p", items...]`, whose items are `hex`.
fn packet(items: u8, hex: &str) -> Vec<u8> {
    let mut image = vec![0x05, 0x0b, 0x02, 0, 0, 0, items + 1, 0x0a, 1, b'p'];
    image.extend(unhex(hex));
    with_length(&image)
}

fn with_length(image: &[u8]) -> Vec<u8> {
    let len = image.len() as u32;
    let mut wire: Vec<u8> = [28, 21, 14, 7].map(|shift| (len >> shift) as u8 | 0x80).to_vec();
    while wire.first() == Some(&0x80) {
        wire.remove(0);
    }
    wire.push(len as u8 & 0x7f);
    wire.extend_from_slice(image);
    wire
}

/// What a node sends on that got this packet.
fn handed_on(wire: &[u8], framing: Framing) -> Result<Vec<u8>, FramingError> {
    let mut decoder = Decoder::new(Framing::Storable, FramingLimits::default());
    let Step::Packet { used, elements } = decoder.next(wire)? else { panic!("not complete") };
    assert_eq!(used, wire.len());
    assert!(packed::nesting(elements.octets()).unwrap() <= FramingLimits::default().nesting);
    let mut out = Vec::new();
    encode_packet(framing, elements, &mut out).unwrap();
    Ok(out)
}

/// An entry of a doubly linked list.
fn entry<const N: usize>(value: i128, others: [(&str, Tree); N]) -> Tree {
    let Tree::Hash(mut pairs) = hash(others) else { unreachable!() };
    pairs.insert(b"v".to_vec(), Tree::Int(value));
    Tree::Hash(pairs)
}

#[test]
fn values_that_contain_themselves_leave_as_they_came() {
    for (what, hex) in [
        ("[1, itself]", "04 02 00000002 0881 04 00 00000003"),
        ("\\ itself", "04 04 00 00000003"),
        (
            "{k => 1, me => itself, weakly}",
            "04 03 00000002 0881 00000001 6b 1b 00 00000003 00000002 6d65",
        ),
        (
            "an object {me => [itself, \\ itself]}",
            "04 11014f 03 00000001 04 02 00000002 04 00 00000003 04 04 00 00000003 00000002 6d65",
        ),
        ("\\[reference to that]", "04 04 02 00000001 04 00 00000003"),
        (
            "a tree whose children refer to it weakly",
            "04 03 00000001 04 02 00000002 04 03 00000001 1b 00 00000003 00000002 7570
             04 03 00000001 1b 00 00000003 00000002 7570 00000004 6b696473",
        ),
        (
            "objects that were frozen with themselves and [7]",
            "04 13 42 02 00000001 0887 82 01 48 06 3c73656c663e 02 00000003 00000004",
        ),
        (
            "objects that were frozen with [themselves] and [7]",
            "04 13 42 02 00000001 04 00 00000003 42 02 00000001 0887 82 01 48 06 3c73656c663e 02
             00000004 00000006",
        ),
        (
            "two values, of which each contains the other twice",
            "04 02 00000003 04 02 00000002 04 00 00000003 04 00 00000003 04 00 00000005 0881",
        ),
    ] {
        let hex: String = hex.split_whitespace().collect();
        let wire = packet(1, &hex);
        let out =
            handed_on(&wire, Framing::Storable).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(out, wire, "{what}");
    }
}

#[test]
fn inside_of_a_value_that_contains_itself_it_reads_as_undef() {
    let value = "04 02 00000002 0881 04 00 00000003";
    let items = items_of(Framing::Storable, &packet(1, &value.replace(' ', ""))).unwrap();
    let expected = array([Tree::Int(1), Tree::Undef]);
    assert_eq!(items, std::slice::from_ref(&expected));
    for framing in [Framing::Json, Framing::Cbor] {
        let out = handed_on(&packet(1, &value.replace(' ', "")), framing).unwrap();
        assert_eq!(decode_one(framing, &out)[1], expected);
    }
}

/// A doubly linked list of three, and its last entry again.
const LIST: &str = "04 03 00000002 04 03 00000003 04 03 00000002 04 00 00000005 00000004 70726576
     0883 00000001 76 00000004 6e657874 04 00 00000003 00000004 70726576 0882 00000001 76
     00000004 6e657874 0881 00000001 76 04 00 00000007";

#[test]
fn a_part_of_such_a_value_brings_what_it_refers_to() {
    let wire = packet(2, &LIST.split_whitespace().collect::<String>());
    let out = handed_on(&wire, Framing::Storable).unwrap();
    let items = items_of(Framing::Storable, &out).unwrap();
    let last = entry(3, [("prev", Tree::Undef)]);
    let second = entry(2, [("prev", Tree::Undef), ("next", last)]);
    let first = entry(1, [("next", second)]);
    assert_eq!(items[0], first);
    // From the other end.
    let first = entry(1, [("next", Tree::Undef)]);
    let second = entry(2, [("prev", first), ("next", Tree::Undef)]);
    assert_eq!(items[1], entry(3, [("prev", second)]));
    assert_eq!(handed_on(&out, Framing::Storable).unwrap(), out);
    assert!(out.len() < 2 * wire.len());
}

#[test]
fn objects_that_were_frozen_with_others_leave_as_they_came() {
    for (what, hex) in [
        (
            "a string and [5], [7]",
            "04 13 42 02 00000001 0885 42 02 00000001 0887 82 01 48 03 3c613e 02 00000004 00000006",
        ),
        (
            "an object in an object, with the class named there",
            "04 13 42 13 42 0a 01 78 42 02 00000001 0887 82 01 48 03 3c633e 02 00000005 00000006
             42 02 00000001 0887 a2 00 03 3c623e 02 00000004 00000008",
        ),
        (
            "in a hash, whose keys come later",
            "04 03 00000002 04 03 00000001 04 13 42 03 00000001 0881 00000001 6b 82 01 48 00 01 00000008
             00000001 61 00000001 62 0882 00000001 63",
        ),
        ("a long string", &format!("04 13 42 02 00000000 8a 01 48 0000012c {} 01 00000004", "78".repeat(300))),
        ("a long list", &format!("04 13 {} 92 01 48 00 00000100 {}", "42 05".repeat(256),
            (4..260).map(|n| format!("{n:08x}")).collect::<String>())),
    ] {
        let wire = packet(1, &hex.split_whitespace().collect::<String>());
        let out = handed_on(&wire, Framing::Storable).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(out, wire, "{what}");
    }
    // What is referred to was sent before: each gets it.
    let wire = packet(2, "040200000001088504138201480001 00000003".replace(' ', "").as_str());
    let out = handed_on(&wire, Framing::Storable).unwrap();
    assert_eq!(
        out,
        packet(
            2,
            "0402000000010885041342020000000108858201480001 00000007".replace(' ', "").as_str()
        )
    );
    // As data it is what was frozen, and the values.
    let items = items_of(Framing::Storable, &out).unwrap();
    let five = array([Tree::Int(5)]);
    assert_eq!(items, [five.clone(), array([Tree::text(""), five])]);
}

#[test]
fn images_in_the_order_of_the_machine_are_read() {
    // freeze(["p", 1, 300, 2**40, 1.5, {k => 1}, [5], the same again, -1000])
    let image = "040b0831323334353637380408080802090000000a01700881062c01000000000000060000000000010000
         07000000000000f83f0403010000000881010000006b0402010000000885040000000009 0618fcffffffffffff";
    let image = unhex(&image.split_whitespace().collect::<String>());
    let wire = with_length(&image);
    let items = items_of(Framing::Storable, &wire).unwrap();
    let five = array([Tree::Int(5)]);
    let expected = [
        Tree::Int(1),
        Tree::Int(300),
        Tree::Int(1 << 40),
        Tree::Float(1.5),
        hash([("k", Tree::Int(1))]),
        five.clone(),
        five,
        Tree::Int(-1000),
    ];
    assert_eq!(items, expected);
    let out = handed_on(&wire, Framing::Storable).unwrap();
    assert!(out.starts_with(&unhex("4f050b02")) || out[1..].starts_with(&unhex("050b02")));
    // Cut anywhere.
    for len in 0..wire.len() {
        let mut decoder = Decoder::new(Framing::Storable, FramingLimits::default());
        assert!(matches!(decoder.next(&wire[..len]), Ok(Step::More { used: 0 })), "{len}");
    }
}

#[test]
fn a_packet_does_not_contain_itself() {
    let error = handed_on(&packet(1, "040000000000"), Framing::Storable).unwrap_err();
    assert_eq!(error.to_string(), "a packet that contains itself cannot be received");
}

/// Any wiring of a few arrays, each with three items that are arrays of the packet, strings or numbers:
/// it is read, and what is sent on is sent on the same by the next node.
#[test]
fn any_graph_reaches_a_fixed_form_after_one_hop() {
    for seed in 0..3000_u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut below = |bound: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % bound
        };
        let mut image = unhex("050b02000000030a0170");
        let mut numbers = 2_u64;
        let mut left = vec![2];
        while let Some(items) = left.last_mut() {
            if *items == 0 {
                left.pop();
                continue;
            }
            *items -= 1;
            match below(if left.len() < 6 { 8 } else { 5 }) {
                0 => {
                    image.extend(unhex("0878"));
                    numbers += 1;
                }
                1 => {
                    image.push(0);
                    image.extend((1 + below(numbers - 1) as u32).to_be_bytes());
                }
                2..=4 => {
                    image.push(if below(4) == 0 { 0x1b } else { 4 });
                    image.push(0);
                    // The reference itself has a number, too.
                    image.extend((1 + below(numbers) as u32).to_be_bytes());
                    numbers += 1;
                }
                5 => {
                    image.extend(unhex("0404"));
                    numbers += 2;
                    left.push(1);
                }
                6 => {
                    let items = 1 + below(3);
                    image.extend(unhex("0411014f02"));
                    image.extend((items as u32).to_be_bytes());
                    numbers += 2;
                    left.push(items);
                }
                _ => {
                    let items = 1 + below(3);
                    image.extend(unhex("0402"));
                    image.extend((items as u32).to_be_bytes());
                    numbers += 2;
                    left.push(items);
                }
            }
        }
        let wire = with_length(&image);
        let once = match handed_on(&wire, Framing::Storable) {
            Ok(once) => once,
            // `\` of an item that is a reference to itself.
            Err(error) => panic!("{seed}: {error}: {}", hex::encode(&image)),
        };
        let twice = handed_on(&once, Framing::Storable).unwrap_or_else(|e| panic!("{seed}: {e}"));
        let thrice = handed_on(&twice, Framing::Storable).unwrap_or_else(|e| panic!("{seed}: {e}"));
        assert_eq!(hex::encode(&thrice), hex::encode(&twice), "{seed}: {}", hex::encode(&image));
    }
}
