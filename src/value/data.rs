//! Any Perl value as a Rust enum, for data of unknown shape.

use super::error::{DecodeError, EncodeError};
use super::nesting::{MAX_NESTING, Room};
use super::packed::{self, Item, Reader, Token};
use super::string::{Str, StrRef};
use super::{Exact, Hash, Integer, Number, Tagged, tag};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::borrow::Cow;

/// Any Perl value.
///
/// It keeps the form that arrived: octets or text, integer, float or string. `==` compares as Rust does
/// (`2` is not `"2"`), [`Value::perl_eq`] as Perl does.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Value {
    /// Perl's undef.
    #[default]
    Undef,
    /// A boolean of CBOR or JSON; Perl's own booleans are the strings `"1"` and `""`.
    Bool(bool),
    /// An integer.
    Int(Integer),
    /// A float.
    Float(f64),
    /// A string.
    Str(Str),
    /// An array.
    Array(Vec<Value>),
    /// A hash.
    Hash(Hash),
    /// A value with a tag: big numbers, dates, objects. The methods below look inside the tag.
    Tagged(Box<Tagged<Value>>),
}

/// The maximum number of values for which memory is allocated before they were read.
const MAX_PREALLOCATED: usize = 64;

impl Value {
    /// Encodes a Rust value, as it would be inside a message.
    ///
    /// # Errors
    /// As [`put_value`](super::put_value).
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Value, EncodeError> {
        let mut out = Vec::new();
        super::put_value(&mut out, value)?;
        // Octets that were just written can be read.
        Value::from_packed(&mut Reader::new(&out)).map_err(|_| EncodeError::TooDeep)
    }

    /// Decodes the value into a Rust type, coerced as Perl does.
    ///
    /// # Errors
    /// As [`from_value`](super::from_value), and if the value nests too deep.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, DecodeError> {
        let mut out = Vec::new();
        self.put(&mut out).map_err(|_| DecodeError::too_deep())?;
        super::from_value(&mut Reader::new(&out))
    }

    /// Appends the value in packed form.
    ///
    /// # Errors
    /// [`EncodeError::TooDeep`]; nothing is appended then.
    pub fn put(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let start = out.len();
        let result = self.put_within(out, Room::VALUE);
        if result.is_err() {
            out.truncate(start);
        }
        result
    }

    /// The value in packed form.
    ///
    /// # Errors
    /// [`EncodeError::TooDeep`].
    pub fn to_packed(&self) -> Result<Vec<u8>, EncodeError> {
        let mut out = Vec::new();
        self.put(&mut out)?;
        Ok(out)
    }

    fn put_within(&self, out: &mut Vec<u8>, room: Room) -> Result<(), EncodeError> {
        match self {
            Value::Undef => packed::put_undef(out),
            Value::Bool(b) => packed::put_bool(out, *b),
            Value::Int(n) => n.put(out),
            Value::Float(x) => packed::put_float(out, *x),
            Value::Str(string) => packed::put_str(out, string.as_ref()),
            Value::Array(items) => {
                let room = room.deeper()?;
                packed::put_array(out, items.len());
                for item in items {
                    item.put_within(out, room)?;
                }
            }
            Value::Hash(hash) => {
                let room = room.deeper()?;
                packed::put_hash(out, hash.len());
                for (key, value) in hash {
                    packed::put_str(out, key.as_ref());
                    value.put_within(out, room)?;
                }
            }
            Value::Tagged(tagged) => {
                let room = room.deeper()?;
                packed::put_tag(out, tagged.tag);
                tagged.value.put_within(out, room)?;
            }
        }
        Ok(())
    }

    /// Reads one value.
    ///
    /// # Errors
    /// The octets are not in packed form, or nest deeper than [`MAX_NESTING`]. Reading does not recurse.
    pub fn from_packed(reader: &mut Reader<'_>) -> Result<Value, DecodeError> {
        let mut open: Vec<Open> = Vec::new();
        loop {
            let item = reader.item()?;
            let mut value = match item {
                Item::Token(Token::Undef) => Value::Undef,
                Item::Token(Token::Bool(b)) => Value::Bool(b),
                Item::Token(Token::UInt(n)) => Value::Int(n.into()),
                Item::Token(Token::NInt(n)) => Value::Int(n.into()),
                Item::Token(Token::Float(x)) => Value::Float(x),
                Item::Token(Token::Str(string)) => Value::Str(string.to_owned()),
                // `Reader::item` does not return exact numbers: it returns the tag, and then its value.
                Item::Token(Token::Exact(number)) => Value::from(number.to_string()),
                Item::Token(Token::Array(0)) => Value::Array(Vec::new()),
                Item::Token(Token::Hash(0)) => Value::Hash(Hash::new()),
                _ if open.len() >= MAX_NESTING => return Err(DecodeError::too_deep()),
                Item::Tag(tag) => {
                    open.push(Open::Tag(tag));
                    continue;
                }
                Item::Token(Token::Array(len)) => {
                    open.push(Open::Array {
                        items: Vec::with_capacity(len.min(MAX_PREALLOCATED)),
                        left: len,
                    });
                    continue;
                }
                Item::Token(Token::Hash(len)) => {
                    open.push(Open::Hash { hash: Hash::new(), left: len, key: read_key(reader)? });
                    continue;
                }
            };
            loop {
                match open.pop() {
                    None => return Ok(value),
                    Some(Open::Tag(tag)) => value = Value::tagged(tag, value),
                    Some(Open::Array { mut items, left }) => {
                        items.push(value);
                        if left > 1 {
                            let left = left - 1;
                            open.push(Open::Array { items, left });
                            break;
                        }
                        value = Value::Array(items);
                    }
                    Some(Open::Hash { mut hash, left, key }) => {
                        hash.insert(key, value);
                        if left > 1 {
                            let left = left - 1;
                            let key = read_key(reader)?;
                            open.push(Open::Hash { hash, left, key });
                            break;
                        }
                        value = Value::Hash(hash);
                    }
                }
            }
        }
    }

    /// `value` with a tag.
    pub fn tagged(tag: u64, value: impl Into<Value>) -> Value {
        Value::Tagged(Box::new(Tagged { tag, value: value.into() }))
    }

    /// The value inside all tags. For an object that was frozen to one value, this value; if it was
    /// frozen to several, the array of its class and the values.
    pub fn untagged(&self) -> &Value {
        let mut value = self;
        while let Value::Tagged(tagged) = value {
            value = match &tagged.value {
                Value::Array(items) if tag::has_class(tagged.tag) && items.len() == 2 => {
                    items.get(1).unwrap_or(&tagged.value)
                }
                value => value,
            };
        }
        value
    }

    /// The value without tags: an exact number becomes the string of its digits, any other value is
    /// [`Value::untagged`].
    pub fn without_tags(&self) -> Cow<'_, Value> {
        match self.exact_text() {
            Some(digits) => Cow::Owned(digits.into()),
            None => Cow::Borrowed(self.untagged()),
        }
    }

    /// The number that tags make exact, if this is one.
    fn with_exact<T>(&self, with: impl FnOnce(Exact<'_>) -> T) -> Option<T> {
        if !matches!(self, Value::Tagged(_)) {
            return None;
        }
        match Reader::new(&self.to_packed().ok()?).token().ok()? {
            Token::Exact(number) => Some(with(number)),
            _ => None,
        }
    }

    /// All digits of a number that tags make exact.
    pub(super) fn exact_text(&self) -> Option<String> {
        self.with_exact(|number| number.to_string())
    }

    /// Whether this is undef.
    pub fn is_undef(&self) -> bool {
        matches!(self.untagged(), Value::Undef)
    }

    /// The string, if it is one; see [`Value::to_str`] for all that Perl takes as one.
    pub fn as_str(&self) -> Option<StrRef<'_>> {
        match self.untagged() {
            Value::Str(string) => Some(string.as_ref()),
            _ => None,
        }
    }

    /// The items, if this is an array.
    pub fn as_array(&self) -> Option<&[Value]> {
        match self.untagged() {
            Value::Array(items) => Some(items),
            _ => None,
        }
    }

    /// The pairs, if this is a hash.
    pub fn as_hash(&self) -> Option<&Hash> {
        match self.untagged() {
            Value::Hash(hash) => Some(hash),
            _ => None,
        }
    }

    /// The value of a key, if this is a hash that has it.
    pub fn get<'k>(&self, key: impl Into<StrRef<'k>>) -> Option<&Value> {
        self.as_hash()?.get(key)
    }

    /// The number that this is or, as a whole string, stands for.
    pub fn to_number(&self) -> Option<Number> {
        match self {
            Value::Bool(b) => Some(u8::from(*b).into()),
            Value::Int(n) => Some(Number::Int(*n)),
            Value::Float(x) => Some(Number::Float(*x)),
            Value::Str(string) => Number::parse(string.as_ref()),
            Value::Tagged(_) => {
                let number = |exact: Exact<'_>| {
                    let whole = exact.to_i128().and_then(|n| Integer::try_from(n).ok());
                    whole.map_or_else(|| Number::Float(exact.to_f64()), Number::Int)
                };
                self.with_exact(number).or_else(|| self.untagged().to_number())
            }
            _ => None,
        }
    }

    /// The integer that this is or stands for; `3.0` and `"3"` are 3.
    pub fn to_integer(&self) -> Option<Integer> {
        self.to_number()?.to_integer()
    }

    /// The string that Perl makes of a string, number or boolean (`1` and `0`).
    pub fn to_str(&self) -> Option<Cow<'_, Str>> {
        Some(match self {
            Value::Str(string) => Cow::Borrowed(string),
            Value::Bool(_) | Value::Int(_) | Value::Float(_) => {
                Cow::Owned(self.to_number()?.to_string().into())
            }
            Value::Tagged(_) => match self.exact_text() {
                Some(text) => Cow::Owned(text.into()),
                None => self.untagged().to_str()?,
            },
            _ => return None,
        })
    }

    /// Perl's truth: everything but undef, false, 0, `""` and `"0"`.
    pub fn is_true(&self) -> bool {
        match self {
            Value::Undef => false,
            Value::Bool(b) => *b,
            Value::Int(n) => n.get() != 0,
            Value::Float(x) => *x != 0.0,
            Value::Str(string) => !matches!(string.as_ref().data(), b"" | b"0"),
            Value::Array(_) | Value::Hash(_) => true,
            Value::Tagged(_) => match self.to_number() {
                Some(number) => number.to_f64() != 0.0,
                None => self.untagged().is_true(),
            },
        }
    }

    /// Deep equality as Perl's `eq` sees it: numbers compare as strings, so that `2`, `2.0` and
    /// `"2"` are equal, and so are `0.1 + 0.2` and `0.3` (docs/protocol.md §5.2).
    ///
    /// Undef equals only undef, booleans only booleans (Perl has them as objects), tags count, and
    /// the order of a hash does not matter.
    pub fn perl_eq(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Undef, Value::Undef) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Undef | Value::Bool(_), _) | (_, Value::Undef | Value::Bool(_)) => false,
            (Value::Array(a), Value::Array(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.perl_eq(b))
            }
            (Value::Hash(a), Value::Hash(b)) => {
                a.len() == b.len()
                    && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| a.perl_eq(b)))
            }
            (Value::Int(a), Value::Int(b)) => a == b,
            (Value::Str(a), Value::Str(b)) => a == b,
            (Value::Tagged(a), Value::Tagged(b)) => a.tag == b.tag && a.value.perl_eq(&b.value),
            (Value::Tagged(_), _) | (_, Value::Tagged(_)) => false,
            _ => match (self.to_str(), other.to_str()) {
                (Some(a), Some(b)) => a == b,
                _ => false,
            },
        }
    }
}

/// A tag, array or hash that is being read.
enum Open {
    Tag(u64),
    Array { items: Vec<Value>, left: usize },
    Hash { hash: Hash, left: usize, key: Str },
}

fn read_key(reader: &mut Reader<'_>) -> Result<Str, DecodeError> {
    let at = reader.position();
    match reader.token()? {
        Token::Str(key) => Ok(key.to_owned()),
        _ => Err(packed::Malformed { at }.into()),
    }
}

macro_rules! from {
    ($($source:ty => $value:expr;)*) => {
        $(impl From<$source> for Value {
            fn from(source: $source) -> Self {
                $value(source.into())
            }
        })*
    };
}

from! {
    bool => Value::Bool;
    f32 => Value::Float;
    f64 => Value::Float;
    i8 => Value::Int;
    i16 => Value::Int;
    i32 => Value::Int;
    i64 => Value::Int;
    isize => Value::Int;
    u8 => Value::Int;
    u16 => Value::Int;
    u32 => Value::Int;
    u64 => Value::Int;
    usize => Value::Int;
    Integer => Value::Int;
    &str => Value::Str;
    String => Value::Str;
    Str => Value::Str;
    StrRef<'_> => Value::Str;
    Hash => Value::Hash;
}

impl From<()> for Value {
    fn from((): ()) -> Self {
        Value::Undef
    }
}

impl From<Number> for Value {
    fn from(number: Number) -> Self {
        match number {
            Number::Int(n) => Value::Int(n),
            Number::Float(x) => Value::Float(x),
        }
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Undef, Into::into)
    }
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(items: Vec<T>) -> Self {
        items.into_iter().collect()
    }
}

impl<T: Into<Value>, const N: usize> From<[T; N]> for Value {
    fn from(items: [T; N]) -> Self {
        items.into_iter().collect()
    }
}

impl<T: Into<Value>> FromIterator<T> for Value {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Value::Array(items.into_iter().map(Into::into).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(levels: usize) -> Value {
        (0..levels).fold(Value::from(1), |value, level| {
            if level % 2 == 0 { Value::from([value]) } else { Hash::from([("k", value)]).into() }
        })
    }

    #[test]
    fn values_survive_the_packed_form() {
        let value = Value::from([
            Value::Undef,
            true.into(),
            (-1).into(),
            u64::MAX.into(),
            1.5_f32.into(),
            Str::octets(&b"\xff"[..]).into(),
            "é".into(),
            Value::Array(Vec::new()),
            Hash::new().into(),
            Hash::from([("a", Value::from([1, 2])), ("b", ().into())]).into(),
            Value::from(vec![Some("x"), None]),
        ]);
        let packed = value.to_packed().unwrap();
        let mut reader = Reader::new(&packed);
        assert_eq!(Value::from_packed(&mut reader).unwrap(), value);
        assert!(reader.is_done());
        assert_eq!(Value::of(&value).unwrap(), value);
        assert_eq!(value.decode::<Value>().unwrap(), value);
    }

    #[test]
    fn nesting_ends_at_the_limit() {
        let deep = nested(MAX_NESTING);
        let packed = deep.to_packed().unwrap();
        assert_eq!(Value::from_packed(&mut Reader::new(&packed)).unwrap(), deep);
        let mut out = vec![7];
        assert_eq!(nested(MAX_NESTING + 1).put(&mut out), Err(EncodeError::TooDeep));
        assert_eq!(out, [7], "nothing is left of a failure");
        let mut octets = vec![0x81; MAX_NESTING + 1];
        octets.push(0);
        let error = Value::from_packed(&mut Reader::new(&octets)).unwrap_err();
        assert_eq!(error, DecodeError::too_deep());
        assert!(nested(MAX_NESTING + 1).decode::<Value>().is_err());
        assert!(nested(MAX_NESTING + 1).to_packed().is_err());
    }

    #[test]
    fn keys_are_strings_or_nothing() {
        assert!(Value::from_packed(&mut Reader::new(&[0xa1, 1, 2])).is_err());
        assert!(Value::from_packed(&mut Reader::new(&[0xa1, 0x40])).is_err());
    }

    #[test]
    fn equality_as_perl_sees_it() {
        let equal = |a: Value, b: Value| a.perl_eq(&b) && b.perl_eq(&a);
        assert!(equal(2.into(), "2".into()));
        assert!(equal(2.0.into(), 2.into()));
        assert!(equal((0.1 + 0.2).into(), 0.3.into()));
        assert!(equal(f64::NAN.into(), "NaN".into()));
        assert!(equal(Str::octets(&b"\xe9"[..]).into(), "é".into()));
        assert!(equal([Value::from(1), "x".into()].into(), [Value::from("1"), "x".into()].into()));
        assert!(equal(
            Hash::from([("a", 1), ("b", 2)]).into(),
            Hash::from([("b", "2"), ("a", "1")]).into()
        ));
        assert!(equal(Value::Undef, Value::Undef));
        assert!(equal(true.into(), true.into()));
        assert!(!equal(true.into(), "1".into()));
        assert!(!equal(Value::Undef, "".into()));
        assert!(!equal("2.0".into(), 2.into()));
        assert!(!equal([1].into(), [1, 2].into()));
        assert!(!equal([1].into(), 1.into()));
        assert!(!equal(Hash::from([("a", 1)]).into(), Hash::from([("b", 1)]).into()));
        assert!(!equal(Hash::new().into(), Value::Array(Vec::new())));
    }

    #[test]
    fn scalars_turn_into_each_other() {
        assert_eq!(Value::from("42").to_integer(), Some(42.into()));
        assert_eq!(Value::from(3.0).to_integer(), Some(3.into()));
        assert_eq!(Value::from(true).to_number(), Some(1.into()));
        assert_eq!(Value::from("x").to_number(), None);
        assert_eq!(Value::Undef.to_number(), None);
        assert_eq!(*Value::from(1e16).to_str().unwrap(), "1e+16");
        assert_eq!(*Value::from(false).to_str().unwrap(), "0");
        assert_eq!(*Value::from("x").to_str().unwrap(), "x");
        assert_eq!(Value::Undef.to_str(), None);
        assert_eq!(Value::from(Number::from(1)), Value::from(1));
        assert_eq!(Value::from(Number::from(1.0)), Value::from(1.0));
    }

    #[test]
    fn truth_as_in_perl() {
        for value in [().into(), false.into(), 0.into(), 0.0.into(), "".into(), Value::from("0")] {
            assert!(!value.is_true(), "{value}");
        }
        for value in [true.into(), 1.into(), "0.0".into(), 0.1.into(), Value::Array(vec![])] {
            assert!(value.is_true(), "{value}");
        }
        assert!(Value::from(Hash::new()).is_true());
    }

    #[test]
    fn parts_are_reached_by_kind() {
        let value = Value::from(Hash::from([("k", ["x"])]));
        assert_eq!(value.get("k").and_then(Value::as_array), Some(&[Value::from("x")][..]));
        assert_eq!(value.as_str(), None);
        assert_eq!(value.as_array(), None);
        assert_eq!(Value::from("x").as_str(), Some("x".into()));
        assert_eq!(Value::from("x").get("k"), None);
        assert!(Value::from(None::<u8>).is_undef());
    }
}
