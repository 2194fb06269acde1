//! Serde implementations of Perl's types, for our own and for other formats.

use super::packed::{Elements, Reader};
use super::serde_tokens::{
    ELEMENTS, INTEGER, OCTETS, PACKED, PLAIN, Raw, Received, STR, TEXT, VALUE, is_ours,
};
use super::string::{Str, StrKind, StrRef};
use super::{Hash, Integer, Number, Packed, Value};
use serde::de::{
    Deserialize, Deserializer, EnumAccess, Error as _, MapAccess, SeqAccess, Unexpected, Visitor,
};
use serde::ser::{Error as _, Serialize, SerializeSeq, Serializer};
use std::fmt;

impl Serialize for StrRef<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let name = match self.kind() {
            StrKind::Octets => OCTETS,
            StrKind::Text => TEXT,
        };
        serializer.serialize_newtype_struct(name, &Raw(*self))
    }
}

impl Serialize for Str {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.as_ref().serialize(serializer)
    }
}

struct StrVisitor;

impl<'de> Visitor<'de> for StrVisitor {
    type Value = Str;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("string")
    }

    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<Str, A::Error> {
        match Received::from_enum(access)? {
            Received::Str(string) => Ok(string.to_owned()),
            Received::Value(_) => Err(A::Error::invalid_type(Unexpected::Enum, &self)),
        }
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<Str, D::Error> {
        inner.deserialize_any(self)
    }

    fn visit_str<E>(self, text: &str) -> Result<Str, E> {
        Ok(Str::text(text))
    }

    fn visit_bytes<E>(self, octets: &[u8]) -> Result<Str, E> {
        Ok(Str::octets(octets))
    }

    fn visit_bool<E>(self, b: bool) -> Result<Str, E> {
        Ok(Number::from(u8::from(b)).to_string().into())
    }

    fn visit_i64<E>(self, n: i64) -> Result<Str, E> {
        Ok(n.to_string().into())
    }

    fn visit_u64<E>(self, n: u64) -> Result<Str, E> {
        Ok(n.to_string().into())
    }

    fn visit_f64<E>(self, x: f64) -> Result<Str, E> {
        Ok(Number::from(x).to_string().into())
    }
}

impl<'de> Deserialize<'de> for Str {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(STR, StrVisitor)
    }
}

struct StrRefVisitor;

impl<'de> Visitor<'de> for StrRefVisitor {
    type Value = StrRef<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a borrowed string")
    }

    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<StrRef<'de>, A::Error> {
        match Received::from_enum(access)? {
            Received::Str(string) => Ok(string),
            Received::Value(_) => Err(A::Error::invalid_type(Unexpected::Enum, &self)),
        }
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<StrRef<'de>, D::Error> {
        inner.deserialize_any(self)
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<StrRef<'de>, E> {
        Ok(StrRef::text(text))
    }

    fn visit_borrowed_bytes<E>(self, octets: &'de [u8]) -> Result<StrRef<'de>, E> {
        Ok(StrRef::octets(octets))
    }
}

impl<'de> Deserialize<'de> for StrRef<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(STR, StrRefVisitor)
    }
}

impl Serialize for Integer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.split() {
            Ok(negative) => serializer.serialize_i64(negative),
            Err(other) => serializer.serialize_u64(other),
        }
    }
}

struct IntegerVisitor;

impl<'de> Visitor<'de> for IntegerVisitor {
    type Value = Integer;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an integer from -2^63 to 2^64-1")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<Integer, D::Error> {
        inner.deserialize_any(self)
    }

    fn visit_i64<E>(self, n: i64) -> Result<Integer, E> {
        Ok(n.into())
    }

    fn visit_u64<E>(self, n: u64) -> Result<Integer, E> {
        Ok(n.into())
    }

    fn visit_i128<E: serde::de::Error>(self, n: i128) -> Result<Integer, E> {
        n.try_into().map_err(|_| E::invalid_value(Unexpected::Other(&format!("number {n}")), &self))
    }

    fn visit_f64<E: serde::de::Error>(self, x: f64) -> Result<Integer, E> {
        Number::from(x).to_integer().ok_or_else(|| E::invalid_value(Unexpected::Float(x), &self))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Integer, E> {
        Number::parse(text.into())
            .and_then(Number::to_integer)
            .ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

impl<'de> Deserialize<'de> for Integer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(INTEGER, IntegerVisitor)
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Undef => serializer.serialize_none(),
            Value::Bool(b) => serializer.serialize_bool(*b),
            Value::Int(n) => n.serialize(serializer),
            Value::Float(x) => serializer.serialize_f64(*x),
            Value::Str(string) => string.serialize(serializer),
            Value::Array(items) => items.serialize(serializer),
            Value::Hash(hash) => hash.serialize(serializer),
            Value::Tagged(_) => {
                let readable = serializer.is_human_readable();
                serializer.serialize_newtype_struct(PACKED, &TaggedValue { whole: self, readable })
            }
        }
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self)
    }
}

/// A value with its tag, as in [`Tagged`](super::Tagged), but exact numbers keep their digits.
struct TaggedValue<'a> {
    whole: &'a Value,
    /// Whether the format was human-readable outside the newtype.
    readable: bool,
}

impl Serialize for TaggedValue<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if is_ours(self.readable, &serializer) {
            return serializer.serialize_bytes(&self.whole.to_packed().map_err(S::Error::custom)?);
        }
        self.whole.without_tags().serialize(serializer)
    }
}

struct HashVisitor;

impl<'de> Visitor<'de> for HashVisitor {
    type Value = Hash;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a hash")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<Hash, A::Error> {
        let mut hash = Hash::new();
        while let Some((key, value)) = pairs.next_entry::<Str, Value>()? {
            hash.insert(key, value);
        }
        Ok(hash)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HashVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a Perl value")
    }

    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<Value, A::Error> {
        match Received::from_enum(access)? {
            Received::Str(string) => Ok(string.into()),
            Received::Value(octets) => {
                Value::from_packed(&mut Reader::new(octets)).map_err(A::Error::custom)
            }
        }
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<Value, D::Error> {
        inner.deserialize_any(self)
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<Value, D::Error> {
        inner.deserialize_any(self)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Undef)
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Undef)
    }

    fn visit_bool<E>(self, b: bool) -> Result<Value, E> {
        Ok(b.into())
    }

    fn visit_i64<E>(self, n: i64) -> Result<Value, E> {
        Ok(n.into())
    }

    fn visit_u64<E>(self, n: u64) -> Result<Value, E> {
        Ok(n.into())
    }

    fn visit_i128<E: serde::de::Error>(self, n: i128) -> Result<Value, E> {
        IntegerVisitor.visit_i128(n).map(Value::Int)
    }

    fn visit_f64<E>(self, x: f64) -> Result<Value, E> {
        Ok(x.into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_bytes<E>(self, octets: &[u8]) -> Result<Value, E> {
        Ok(Str::octets(octets).into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element::<Value>()? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, pairs: A) -> Result<Value, A::Error> {
        HashVisitor.visit_map(pairs).map(Value::Hash)
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(VALUE, ValueVisitor)
    }
}

/// A list of the elements, so that a message can be sent on unchanged.
impl Serialize for Elements<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let readable = serializer.is_human_readable();
        serializer.serialize_newtype_struct(ELEMENTS, &List { elements: *self, readable })
    }
}

/// The content of the newtype: the octets for our own serializer, the values for others.
struct List<'a> {
    elements: Elements<'a>,
    /// Whether the format was human-readable outside the newtype.
    readable: bool,
}

impl Serialize for List<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let len = self.elements.len();
        if is_ours(self.readable, &serializer) {
            let name = if self.elements.count().is_plain() { PLAIN } else { ELEMENTS };
            let len = u32::try_from(len).unwrap_or(u32::MAX);
            let octets = Octets(self.elements.octets());
            return serializer.serialize_newtype_variant(ELEMENTS, len, name, &octets);
        }
        let mut reader = self.elements.reader();
        let mut items = serializer.serialize_seq(Some(len))?;
        for _ in 0..len {
            let value = Value::from_packed(&mut reader).map_err(S::Error::custom)?;
            items.serialize_element(&value)?;
        }
        items.end()
    }
}

struct Octets<'a>(&'a [u8]);

impl Serialize for Octets<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

/// As [`Elements`].
impl Serialize for Packed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.as_elements().serialize(serializer)
    }
}
