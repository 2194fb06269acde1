//! Helpers of the framing tests: fixtures, a simple model of values, and decoding in pieces.
#![allow(dead_code, unreachable_pub, clippy::expect_used)]

use aemp::value::packed::{self, Elements, Reader, Token};
use aemp::value::{StrKind, StrRef};
use aemp::wire::framing::{Decoder, Framing, FramingError, FramingLimits, Step};
use std::collections::BTreeMap;

/// A value, written out.
#[derive(Debug, Clone)]
pub enum Tree {
    Undef,
    Bool(bool),
    Int(i128),
    Float(f64),
    /// The code points in generalized UTF-8.
    Str(Vec<u8>),
    Array(Vec<Tree>),
    Hash(BTreeMap<Vec<u8>, Tree>),
}

/// Floats are equal if their bits are.
impl PartialEq for Tree {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Tree::Undef, Tree::Undef) => true,
            (Tree::Bool(one), Tree::Bool(other)) => one == other,
            (Tree::Int(one), Tree::Int(other)) => one == other,
            (Tree::Float(one), Tree::Float(other)) => one.to_bits() == other.to_bits(),
            (Tree::Str(one), Tree::Str(other)) => one == other,
            (Tree::Array(one), Tree::Array(other)) => one == other,
            (Tree::Hash(one), Tree::Hash(other)) => one == other,
            _ => false,
        }
    }
}

impl Tree {
    pub fn text(text: &str) -> Tree {
        Tree::Str(text.as_bytes().to_vec())
    }

    /// Normalized as in Perl: a string of digits is a number, a boolean is 1 or 0.
    pub fn loosely(&self) -> Tree {
        match self {
            Tree::Bool(value) => Tree::Int(i128::from(*value)),
            Tree::Float(number) => loose_float(*number),
            Tree::Str(text) => {
                let text = String::from_utf8_lossy(text);
                match (text.parse(), text.parse()) {
                    (Ok(number), _) => Tree::Int(number),
                    (_, Ok(number)) => loose_float(number),
                    _ => self.clone(),
                }
            }
            Tree::Array(items) => Tree::Array(items.iter().map(Tree::loosely).collect()),
            Tree::Hash(pairs) => {
                let pairs = pairs.iter().map(|(key, value)| (key.clone(), value.loosely()));
                Tree::Hash(pairs.collect())
            }
            other => other.clone(),
        }
    }
}

fn loose_float(number: f64) -> Tree {
    if number.is_nan() {
        Tree::text("not a number")
    } else if number.fract() == 0.0 && number.abs() < 1e18 {
        Tree::Int(number as i128)
    } else {
        Tree::Float(number)
    }
}

/// Reads `len` values, which have to fill `octets`.
pub fn trees(elements: Elements<'_>) -> Vec<Tree> {
    let mut reader = elements.reader();
    let trees = (0..elements.len()).map(|_| tree(&mut reader)).collect();
    assert!(reader.is_done(), "octets after the last element");
    trees
}

fn tree(reader: &mut Reader<'_>) -> Tree {
    match reader.token().expect("packed form") {
        Token::Undef => Tree::Undef,
        Token::Bool(value) => Tree::Bool(value),
        Token::UInt(number) => Tree::Int(number.into()),
        Token::NInt(number) => Tree::Int(number.into()),
        Token::Float(number) => Tree::Float(number),
        Token::Exact(number) => Tree::text(&number.to_string()),
        Token::Str(string) => Tree::Str(checked(string).canonical().into_owned()),
        Token::Array(len) => Tree::Array((0..len).map(|_| tree(reader)).collect()),
        Token::Hash(len) => {
            let mut pairs = BTreeMap::new();
            for _ in 0..len {
                let Tree::Str(key) = tree(reader) else {
                    panic!("a key that is not a string");
                };
                pairs.insert(key, tree(reader));
            }
            Tree::Hash(pairs)
        }
    }
}

fn checked(string: StrRef<'_>) -> StrRef<'_> {
    if string.kind() == StrKind::Text {
        assert!(StrRef::generalized(string.data()).is_some(), "text in UTF-8");
    }
    string
}

/// Appends the tree in packed form; strings below U+0100 as octets if `octets`.
pub fn put(out: &mut Vec<u8>, tree: &Tree, octets: bool) {
    match tree {
        Tree::Undef => packed::put_undef(out),
        Tree::Bool(value) => packed::put_bool(out, *value),
        Tree::Int(number) => match u64::try_from(*number) {
            Ok(number) => packed::put_uint(out, number),
            Err(_) => packed::put_int(out, (*number).try_into().expect("64 bits")),
        },
        Tree::Float(number) => packed::put_float(out, *number),
        Tree::Str(text) => put_string(out, text, octets),
        Tree::Array(items) => {
            packed::put_array(out, items.len());
            items.iter().for_each(|item| put(out, item, octets));
        }
        Tree::Hash(pairs) => {
            packed::put_hash(out, pairs.len());
            for (key, value) in pairs {
                put_string(out, key, octets);
                put(out, value, octets);
            }
        }
    }
}

fn put_string(out: &mut Vec<u8>, text: &[u8], octets: bool) {
    let text = StrRef::generalized(text).expect("UTF-8");
    match text.to_octets() {
        Some(data) if octets => packed::put_octets(out, &data),
        _ => packed::put_str(out, text),
    }
}

/// The packets in `pieces`, each as its elements; and how many octets each took.
pub fn decode_pieces<'p>(
    framing: Framing,
    limits: FramingLimits,
    pieces: impl IntoIterator<Item = &'p [u8]>,
) -> Result<Vec<Vec<Tree>>, FramingError> {
    let mut decoder = Decoder::new(framing, limits);
    let mut input = Vec::new();
    let mut start = 0;
    let mut packets = Vec::new();
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            match decoder.next(&input[start..])? {
                Step::More { used } => {
                    start += used;
                    break;
                }
                Step::Packet { used, elements } => {
                    packets.push(trees(elements));
                    start += used;
                }
            }
        }
    }
    Ok(packets)
}

/// The packets in `wire`, decoded at once.
pub fn decode(framing: Framing, wire: &[u8]) -> Result<Vec<Vec<Tree>>, FramingError> {
    decode_pieces(framing, FramingLimits::default(), [wire])
}

/// The only packet in `wire`, decoded at once.
pub fn decode_one(framing: Framing, wire: &[u8]) -> Vec<Tree> {
    let mut packets = decode(framing, wire).unwrap_or_else(|error| panic!("{error}: {wire:x?}"));
    assert_eq!(packets.len(), 1, "one packet in {wire:x?}");
    packets.remove(0)
}

/// The elements encoded in a framing.
pub fn encode(framing: Framing, elements: &[Tree], octets: bool) -> Vec<u8> {
    let mut packed = Vec::new();
    elements.iter().for_each(|element| put(&mut packed, element, octets));
    let mut wire = Vec::new();
    aemp::wire::framing::encode(framing, Elements::new(elements.len(), &packed), &mut wire)
        .expect("can be sent");
    wire
}

pub fn unhex(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

/// The lines of a fixture.
pub fn fixture(name: &str) -> Vec<serde_json::Value> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name);
    let text = std::fs::read_to_string(path).expect("the fixture");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

pub fn loosely(trees: &[Tree]) -> Vec<Tree> {
    trees.iter().map(Tree::loosely).collect()
}

/// The elements after the port name in the only packet of `wire`, which is decoded at once and octet by
/// octet.
pub fn items_of(framing: Framing, wire: &[u8]) -> Result<Vec<Tree>, FramingError> {
    let whole = decode(framing, wire);
    let octets = decode_pieces(framing, FramingLimits::default(), wire.chunks(1));
    assert_eq!(whole, octets, "{wire:x?}");
    let mut packets = whole?;
    assert_eq!(packets.len(), 1, "{wire:x?} is complete");
    Ok(packets.remove(0).split_off(1))
}

pub fn array(items: impl IntoIterator<Item = Tree>) -> Tree {
    Tree::Array(items.into_iter().collect())
}

pub fn hash<const N: usize>(pairs: [(&str, Tree); N]) -> Tree {
    Tree::Hash(pairs.into_iter().map(|(key, value)| (key.as_bytes().to_vec(), value)).collect())
}

pub fn text(text: &str) -> Tree {
    Tree::text(text)
}
