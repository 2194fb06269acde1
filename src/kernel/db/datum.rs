//! Database values in packed form, compared as Perl compares them.

use super::sendable::Measures;
use crate::value::packed::{self, Item, Malformed, Reader, Token};
use crate::value::{DecodeError, EncodeError, MAX_NESTING, Number, Str, StrRef};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The maximum octets before those of a string, in packed form.
pub(super) const STRING_HEAD: usize = 5;

/// One value of the database, in packed form. Clones share the octets.
///
/// `==` compares the octets; [`Datum::perl_eq`] compares the values as Perl sees them.
#[derive(Clone)]
pub struct Datum(Octets);

/// Short values, such as numbers, names and single addresses, are stored inline. Behind a large value, of more
/// than [`LARGE`] octets, there are its [`Measures`], since it takes long to read.
#[derive(Clone)]
enum Octets {
    Short(u8, [u8; INLINE_CAPACITY]),
    Long(Arc<[u8]>),
}

/// Values of more octets are large.
const LARGE: usize = 64 << 10;

/// The longest values that are the same to Perl if they only look different: to compare longer ones takes
/// too long.
const MAX_COMPARED: usize = 256 << 10;

/// The longest value that is stored inline: it makes `Datum` no larger than the shared form does.
const INLINE_CAPACITY: usize = 22;

const UNDEF: u8 = 0xf6;

impl Datum {
    /// Perl's undef.
    pub const UNDEF: Datum = {
        let mut octets = [0; INLINE_CAPACITY];
        octets[0] = UNDEF;
        Datum(Octets::Short(1, octets))
    };

    /// The value with this packed form.
    ///
    /// # Errors
    /// `octets` is not exactly one value in packed form.
    pub fn from_packed(octets: &[u8]) -> Result<Datum, Malformed> {
        let mut reader = Reader::new(octets);
        reader.skip()?;
        if !reader.is_done() {
            return Err(Malformed { at: reader.position() });
        }
        Ok(Datum::trusted(octets))
    }

    /// As [`Datum::from_packed`], for octets that are known to be exactly one value.
    pub(crate) fn trusted(octets: &[u8]) -> Datum {
        let mut short = [0; INLINE_CAPACITY];
        match short.get_mut(..octets.len()) {
            Some(room) => {
                room.copy_from_slice(octets);
                Datum(Octets::Short(octets.len() as u8, short))
            }
            None => Datum::long(octets),
        }
    }

    #[inline(never)]
    fn long(octets: &[u8]) -> Datum {
        if octets.len() <= LARGE {
            return Datum(Octets::Long(Arc::from(octets)));
        }
        let measures = Measures::of(octets).to_octets();
        Datum(Octets::Long([octets, measures.as_slice()].concat().into()))
    }

    /// Encodes any Rust value; see [`put_value`](crate::value::put_value).
    ///
    /// # Errors
    /// As [`put_value`](crate::value::put_value).
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Datum, EncodeError> {
        let mut octets = Vec::new();
        crate::value::put_value(&mut octets, value)?;
        Ok(Datum::trusted(&octets))
    }

    /// Decodes the value into a Rust type; see [`from_value`](crate::value::from_value).
    ///
    /// # Errors
    /// As [`from_value`](crate::value::from_value).
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, DecodeError> {
        crate::value::from_value(&mut Reader::new(self.octets()))
    }

    /// A string.
    pub fn string<'a>(string: impl Into<StrRef<'a>>) -> Datum {
        Datum::build(|out| packed::put_str(out, string.into()))
    }

    /// An integer.
    pub fn int(value: i64) -> Datum {
        Datum::build(|out| packed::put_int(out, value))
    }

    /// An array of strings.
    pub fn strings(strings: &[Str]) -> Datum {
        Datum::build(|out| {
            packed::put_array(out, strings.len());
            strings.iter().for_each(|string| packed::put_str(out, string.as_ref()));
        })
    }

    /// The value that `put` appends, which has to be exactly one.
    pub(crate) fn build(put: impl FnOnce(&mut Vec<u8>)) -> Datum {
        let mut octets = Vec::new();
        put(&mut octets);
        Datum::trusted(&octets)
    }

    /// The value in packed form.
    #[inline]
    pub fn octets(&self) -> &[u8] {
        match &self.0 {
            Octets::Short(len, octets) => octets.get(..usize::from(*len)).unwrap_or_default(),
            Octets::Long(octets) => octets.get(..value_len(octets)).unwrap_or_default(),
        }
    }

    /// What has to be known of a large value before it is stored. It was found out when the value was made,
    /// which for values of peers is before the kernel is locked.
    #[inline]
    pub(crate) fn measures_of_large(&self) -> Option<Measures> {
        match &self.0 {
            Octets::Long(octets) if octets.len() > LARGE => Measures::from_end_of(octets),
            Octets::Short(..) | Octets::Long(_) => None,
        }
    }

    /// Octets outside the struct; 0 for short values.
    pub(crate) fn long_octets(&self) -> usize {
        match &self.0 {
            Octets::Short(..) => 0,
            Octets::Long(octets) => value_len(octets),
        }
    }

    /// Whether it is undef.
    pub fn is_undef(&self) -> bool {
        self.octets() == [UNDEF]
    }

    /// The value as a list of strings, if it is an array of strings or numbers.
    pub fn to_strings(&self) -> Option<Vec<Str>> {
        let mut reader = Reader::new(self.octets());
        let Ok(Token::Array(len)) = reader.token() else {
            return None;
        };
        (0..len).map(|_| reader.token().ok().and_then(token_to_str)).collect()
    }

    /// The value as the addresses of a node: the first 1000 strings, without those of more than 64 KiB, if
    /// it is an array that begins with strings. Nobody dials more.
    pub(crate) fn to_addresses(&self) -> Option<Vec<Str>> {
        const MAX_ADDRESSES: usize = 1000;
        let mut reader = Reader::new(self.octets());
        let Ok(Token::Array(len)) = reader.token() else {
            return None;
        };
        let mut addresses = Vec::new();
        for _ in 0..len.min(MAX_ADDRESSES) {
            match reader.token().ok()? {
                Token::Str(string) if string.data().len() > LARGE => {}
                token => addresses.push(token_to_str(token)?),
            }
        }
        Some(addresses)
    }

    /// The value as a list of values, if it is an array.
    pub fn to_data(&self) -> Option<Vec<Datum>> {
        let mut reader = Reader::new(self.octets());
        let Ok(Token::Array(len)) = reader.token() else {
            return None;
        };
        (0..len).map(|_| reader.skip().ok().map(Datum::trusted)).collect()
    }

    /// The value as a string, if it is a string or a number.
    pub fn to_str(&self) -> Option<Str> {
        token_to_str(Reader::new(self.octets()).token().ok()?)
    }

    /// Whether Perl sees the same value: numbers are compared as strings, octets and text by code
    /// points, hashes regardless of order. Undef differs from `""`, and tags are compared. Values of more
    /// than 256 KiB are the same only if their octets are.
    pub fn perl_eq(&self, other: &Datum) -> bool {
        // Most changes are of integers, for which equal octets are enough.
        let int = |datum: &Datum| Reader::new(datum.octets()).take_uint();
        if let (Some(a), Some(b)) = (int(self), int(other)) {
            return a == b;
        }
        self == other
            || self.octets().len().max(other.octets().len()) <= MAX_COMPARED
                && equal(
                    &mut Reader::new(self.octets()),
                    &mut Reader::new(other.octets()),
                    MAX_NESTING,
                )
                .unwrap_or(false)
    }
}

/// The length of a value without its measures.
#[inline]
const fn value_len(octets: &[u8]) -> usize {
    if octets.len() > LARGE { octets.len() - Measures::OCTETS } else { octets.len() }
}

impl PartialEq for Datum {
    fn eq(&self, other: &Self) -> bool {
        self.octets() == other.octets()
    }
}

impl Eq for Datum {}

impl Default for Datum {
    fn default() -> Self {
        Datum::UNDEF
    }
}

impl fmt::Debug for Datum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug_value(&mut Reader::new(self.octets()), f, MAX_NESTING)
    }
}

fn debug_value(reader: &mut Reader<'_>, f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
    let (Ok(item), Some(depth)) = (reader.item(), depth.checked_sub(1)) else {
        return f.write_str("?");
    };
    let token = match item {
        Item::Token(token) => token,
        Item::Tag(tag) => {
            write!(f, "{tag}(")?;
            debug_value(reader, f, depth)?;
            return f.write_str(")");
        }
    };
    match token {
        Token::Undef => f.write_str("undef"),
        Token::Bool(value) => write!(f, "{value}"),
        Token::Array(len) => {
            f.write_str("[")?;
            for _ in 0..len {
                debug_value(reader, f, depth)?;
                f.write_str(",")?;
            }
            f.write_str("]")
        }
        Token::Hash(len) => {
            f.write_str("{")?;
            for _ in 0..len {
                debug_value(reader, f, depth)?;
                f.write_str("=>")?;
                debug_value(reader, f, depth)?;
                f.write_str(",")?;
            }
            f.write_str("}")
        }
        Token::Str(string) => write!(f, "{string:?}"),
        Token::Exact(number) => write!(f, "{number}"),
        Token::UInt(_) | Token::NInt(_) | Token::Float(_) => {
            f.write_str(&perl_number(token).unwrap_or_default())
        }
    }
}

/// A string, or a number converted to a string as Perl does it.
pub(crate) fn token_to_str(token: Token<'_>) -> Option<Str> {
    match token {
        Token::Str(string) => Some(string.to_owned()),
        _ => perl_number(token).map(|text| Str::octets(text.as_bytes())),
    }
}

fn perl_number(token: Token<'_>) -> Option<String> {
    let number: Number = match token {
        Token::UInt(n) => n.into(),
        Token::NInt(n) => n.into(),
        Token::Float(x) => x.into(),
        _ => return None,
    };
    Some(number.to_string())
}

fn equal(a: &mut Reader<'_>, b: &mut Reader<'_>, depth: usize) -> Result<bool, Malformed> {
    let Some(depth) = depth.checked_sub(1) else {
        return Ok(false);
    };
    let (one, other) = match (a.item()?, b.item()?) {
        (Item::Tag(tag), Item::Tag(other)) => return Ok(tag == other && equal(a, b, depth)?),
        (Item::Token(one), Item::Token(other)) => (one, other),
        _ => return Ok(false),
    };
    Ok(match (one, other) {
        (Token::Undef, Token::Undef) => true,
        (Token::Bool(a), Token::Bool(b)) => a == b,
        (Token::Str(a), Token::Str(b)) => a == b,
        (Token::Array(len), Token::Array(other)) => {
            if len != other {
                return Ok(false);
            }
            for _ in 0..len {
                if !equal(a, b, depth)? {
                    return Ok(false);
                }
            }
            true
        }
        (Token::Hash(len), Token::Hash(other)) => {
            let (a, b) = (pairs(a, len)?, pairs(b, other)?);
            if a.len() != b.len() {
                return Ok(false);
            }
            for ((key, a), (other, b)) in a.into_iter().zip(b) {
                if key != other || !equal(&mut Reader::new(a), &mut Reader::new(b), depth)? {
                    return Ok(false);
                }
            }
            true
        }
        (a, b) => same_as_strings(a, b),
    })
}

fn pairs<'a>(
    reader: &mut Reader<'a>,
    len: usize,
) -> Result<BTreeMap<StrRef<'a>, &'a [u8]>, Malformed> {
    let mut pairs = BTreeMap::new();
    for _ in 0..len {
        let Token::Str(key) = reader.token()? else {
            return Err(Malformed { at: reader.position() });
        };
        pairs.insert(key, reader.skip()?);
    }
    Ok(pairs)
}

fn same_as_strings(a: Token<'_>, b: Token<'_>) -> bool {
    match (token_to_str(a), token_to_str(b)) {
        (Some(a), Some(b)) => a == b,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use packed::{put_array, put_bool, put_float, put_hash, put_int, put_octets, put_text};

    fn hash(pairs: &[(&str, Datum)]) -> Datum {
        Datum::build(|out| {
            put_hash(out, pairs.len());
            for (key, value) in pairs {
                put_text(out, key);
                out.extend_from_slice(value.octets());
            }
        })
    }

    #[test]
    fn equal_is_what_perl_sees_as_equal() {
        let text = |text| Datum::build(|out| put_text(out, text));
        let octets = |octets| Datum::build(|out| put_octets(out, octets));
        let float = |x| Datum::build(|out| put_float(out, x));
        let one_of = |value: Datum| {
            Datum::build(|out| {
                put_array(out, 1);
                out.extend_from_slice(value.octets());
            })
        };
        let bool = |value| Datum::build(|out| put_bool(out, value));
        let tagged = |tag, n| {
            Datum::build(|out| {
                packed::put_tag(out, tag);
                put_int(out, n);
            })
        };
        let nested = |n: usize| {
            Datum::build(|out| {
                (0..n).for_each(|_| put_array(out, 1));
                put_int(out, 1);
            })
        };
        let other_nested = |n: usize| {
            Datum::build(|out| {
                (0..n).for_each(|_| put_array(out, 1));
                put_text(out, "1");
            })
        };
        for (a, b, same) in [
            (Datum::UNDEF, Datum::UNDEF, true),
            (Datum::UNDEF, text(""), false),
            (Datum::int(2), text("2"), true),
            (Datum::int(2), octets(b"2"), true),
            (Datum::int(-7), text("-7"), true),
            (float(1.5), text("1.5"), true),
            (float(3.0), Datum::int(3), true),
            (float(0.1), text("0.1"), true),
            (Datum::int(2), text("2.0"), false),
            (text("é"), octets(b"\xe9"), true),
            (text("é"), octets("é".as_bytes()), false),
            (one_of(Datum::int(5)), one_of(text("5")), true),
            (one_of(Datum::UNDEF), one_of(text("")), false),
            (one_of(text("1")), text("1"), false),
            (nested(3), nested(4), false),
            (tagged(1, 5), tagged(1, 5), true),
            (tagged(1, 5), tagged(2, 5), false),
            (tagged(1, 5), tagged(1, 6), false),
            (tagged(1, 5), Datum::int(5), false),
            (bool(true), bool(true), true),
            (bool(true), bool(false), false),
            (nested(500), other_nested(500), true),
            (nested(50_000), other_nested(50_000), false),
            (
                hash(&[("a", Datum::int(1)), ("b", text("x"))]),
                hash(&[("b", octets(b"x")), ("a", text("1"))]),
                true,
            ),
            (hash(&[("a", Datum::int(1))]), hash(&[("b", Datum::int(1))]), false),
            (hash(&[("a", Datum::int(1))]), hash(&[]), false),
        ] {
            assert_eq!(a.perl_eq(&b), same);
            assert_eq!(b.perl_eq(&a), same);
            assert!(a.perl_eq(&a));
        }
    }

    #[test]
    fn of_the_addresses_of_a_node_the_first_are_read() {
        let strings = |count: usize| -> Vec<Str> {
            (0..count).map(|number| Str::from(number.to_string())).collect()
        };
        assert_eq!(Datum::strings(&strings(3)).to_addresses(), Some(strings(3)));
        assert_eq!(Datum::strings(&strings(50_000)).to_addresses(), Some(strings(1000)));
        let long = Str::from("x".repeat(LARGE + 1));
        let with_long = Datum::strings(&[long, "a".into()]);
        assert_eq!(with_long.to_addresses(), Some(vec!["a".into()]));
        assert_eq!(Datum::UNDEF.to_addresses(), None);
        assert_eq!(Datum::of(&[[1]]).unwrap().to_addresses(), None);
    }

    #[test]
    fn only_exactly_one_value_is_a_datum() {
        assert!(Datum::from_packed(&[0x01]).is_ok());
        assert!(Datum::from_packed(&[0x01, 0x01]).is_err());
        assert!(Datum::from_packed(&[0x81]).is_err());
        assert!(Datum::from_packed(&[]).is_err());
        assert!(Datum::from_packed(&[0xf6]).is_ok_and(|datum| datum.is_undef()));
    }

    #[test]
    fn short_and_long_values_are_kept_as_they_are() {
        for len in [
            0,
            1,
            INLINE_CAPACITY - 2,
            INLINE_CAPACITY - 1,
            INLINE_CAPACITY,
            200,
            LARGE - 5,
            LARGE,
            2 * LARGE,
        ] {
            let text = "x".repeat(len);
            let datum = Datum::string(text.as_str());
            assert_eq!(datum.decode::<String>().as_deref(), Ok(text.as_str()));
            assert_eq!(datum.clone(), datum);
            assert_ne!(datum, Datum::string(format!("{text}x").as_str()));
        }
        assert_eq!(size_of::<Datum>(), 24);
    }
}
