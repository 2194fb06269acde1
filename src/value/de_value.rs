//! Deserialization of single values, with Perl's coercions.

use super::de_access::{Fields, Items, OnlyPair, Pairs, TagAndValue, visit_octets};
use super::error::DecodeError;
use super::nesting::Room;
use super::number::{digits, integral, numeric_text};
use super::packed::{Item, Reader, Token};
use super::serde_tokens::{self, Given};
use super::string::{StrKind, StrRef, is_ascii};
use super::{Exact, Integer, Number};
use serde::Deserializer;
use serde::de::Visitor;

/// Reads one value. After success the reader is positioned after it.
pub(super) struct ValueDeserializer<'a, 'de> {
    pub(super) reader: &'a mut Reader<'de>,
    pub(super) room: Room,
}

/// The methods that take one scalar, string or map and have no arguments of their own.
macro_rules! forward_scalars {
    ($macro:ident) => {
        $macro! {
            deserialize_bool deserialize_char deserialize_str deserialize_string
            deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
            deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
            deserialize_f32 deserialize_f64
            deserialize_bytes deserialize_byte_buf deserialize_identifier deserialize_map
        }
    };
}
pub(super) use forward_scalars;

/// Converts a token to an integer.
fn to_integer(found: Token<'_>, wanted: &str) -> Result<i128, DecodeError> {
    let number = match found {
        Token::UInt(n) => Some(n.into()),
        Token::NInt(n) => Some(n.into()),
        Token::Bool(b) => Some(b.into()),
        Token::Float(x) => integral(x),
        Token::Exact(number) => number.to_i128(),
        Token::Str(string) => match digits(string.data()) {
            Some(n) => Some(n.into()),
            None => numeric_text(string).and_then(|text| {
                let float = || text.parse().ok().and_then(integral);
                text.parse().ok().or_else(float)
            }),
        },
        Token::Undef | Token::Array(_) | Token::Hash(_) => None,
    };
    number.ok_or_else(|| DecodeError::wanted(wanted, found))
}

/// Converts a token to a float.
#[inline]
fn to_float(found: Token<'_>, wanted: &str) -> Result<f64, DecodeError> {
    let number = match found {
        Token::Float(x) => Some(x),
        Token::UInt(n) => Some(n as f64),
        Token::NInt(n) => Some(n as f64),
        Token::Bool(b) => Some(b.into()),
        Token::Exact(number) => Some(number.to_f64()),
        Token::Str(string) => Number::parse(string).map(Number::to_f64),
        Token::Undef | Token::Array(_) | Token::Hash(_) => None,
    };
    number.ok_or_else(|| DecodeError::wanted(wanted, found))
}

fn to_bool(found: Token<'_>) -> Result<bool, DecodeError> {
    match found {
        Token::Bool(b) => Ok(b),
        Token::Undef | Token::UInt(0) => Ok(false),
        Token::UInt(1) => Ok(true),
        Token::Float(x) if x == 0.0 || x == 1.0 => Ok(x == 1.0),
        Token::Str(string) if matches!(string.data(), b"" | b"0") => Ok(false),
        Token::Str(string) if string.data() == b"1" => Ok(true),
        Token::Exact(number) if matches!(number.to_i128(), Some(0 | 1)) => {
            Ok(number.to_i128() == Some(1))
        }
        _ => Err(DecodeError::wanted("bool", found)),
    }
}

/// The string that Perl makes of a scalar that is not a string.
#[cold]
fn written(found: Token<'_>, wanted: &str) -> Result<String, DecodeError> {
    match found {
        Token::UInt(n) => Ok(n.to_string()),
        Token::NInt(n) => Ok(n.to_string()),
        Token::Bool(b) => Ok(u8::from(b).to_string()),
        Token::Float(x) => Ok(Number::Float(x).to_string()),
        Token::Exact(number) => Ok(number.to_string()),
        _ => Err(DecodeError::wanted(wanted, found)),
    }
}

#[inline]
fn visit_text<'de, V: Visitor<'de>>(
    string: StrRef<'de>,
    visitor: V,
) -> Result<V::Value, DecodeError> {
    if is_ascii(string.data()) {
        // SAFETY: ASCII is UTF-8.
        return visitor.visit_borrowed_str(unsafe { std::str::from_utf8_unchecked(string.data()) });
    }
    match std::str::from_utf8(string.data()) {
        Ok(text) if string.kind() == StrKind::Text => visitor.visit_borrowed_str(text),
        _ => visit_other_text(string, visitor),
    }
}

#[cold]
fn visit_other_text<'de, V: Visitor<'de>>(
    string: StrRef<'de>,
    visitor: V,
) -> Result<V::Value, DecodeError> {
    match string.to_text() {
        Ok(text) => visitor.visit_string(text.into_owned()),
        Err(_) => Err(DecodeError::not_text(string)),
    }
}

/// A number for a visitor that accepts any type: with all its digits, as a string if necessary.
#[cold]
fn visit_exact<'de, V: Visitor<'de>>(
    number: Exact<'_>,
    visitor: V,
) -> Result<V::Value, DecodeError> {
    match number.to_i128().and_then(|n| Integer::try_from(n).ok()).map(Integer::split) {
        Some(Ok(negative)) => visitor.visit_i64(negative),
        Some(Err(other)) => visitor.visit_u64(other),
        None => visitor.visit_string(number.to_string()),
    }
}

impl<'a, 'de> ValueDeserializer<'a, 'de> {
    #[inline]
    fn text<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        if let Some(string) = self.reader.take_str() {
            return visit_text(string, visitor);
        }
        match self.reader.token()? {
            Token::Str(string) => visit_text(string, visitor),
            other => visitor.visit_string(written(other, "string")?),
        }
    }

    fn octets<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.reader.token()? {
            Token::Str(string) if string.kind() == StrKind::Octets => {
                visitor.visit_borrowed_bytes(string.data())
            }
            Token::Str(string) => match string.to_octets() {
                Some(std::borrow::Cow::Borrowed(octets)) => visitor.visit_borrowed_bytes(octets),
                Some(std::borrow::Cow::Owned(octets)) => visitor.visit_byte_buf(octets),
                None => Err(wanted_octets(string)),
            },
            Token::Array(len) => self.items(len, 0, visitor),
            other => visitor.visit_byte_buf(written(other, "octets")?.into_bytes()),
        }
    }

    #[inline]
    fn items<V: Visitor<'de>>(
        self,
        len: usize,
        expected: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        let mut items =
            Items { reader: self.reader, left: len, index: 0, expected, room: self.room.deeper()? };
        let value = visitor.visit_seq(&mut items)?;
        items.skip_rest()?;
        Ok(value)
    }

    #[inline]
    fn pairs<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, DecodeError> {
        let mut pairs = Pairs {
            key: self.reader.clone(),
            reader: self.reader,
            left: len,
            owes_value: false,
            room: self.room.deeper()?,
        };
        let value = visitor.visit_map(&mut pairs)?;
        pairs.skip_rest()?;
        Ok(value)
    }
}

macro_rules! integers {
    ($($method:ident $visit:ident $type:ident)*) => {
        $(#[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
            if let Some(n) = self.reader.take_uint() {
                return match <$type>::try_from(n) {
                    Ok(n) => visitor.$visit(n),
                    Err(_) => Err(DecodeError::out_of_range(stringify!($type), n)),
                };
            }
            let n = to_integer(self.reader.token()?, stringify!($type))?;
            match <$type>::try_from(n) {
                Ok(n) => visitor.$visit(n),
                Err(_) => Err(DecodeError::out_of_range(stringify!($type), n)),
            }
        })*
    };
}

impl<'de> Deserializer<'de> for ValueDeserializer<'_, 'de> {
    type Error = DecodeError;

    integers! {
        deserialize_i8 visit_i8 i8
        deserialize_i16 visit_i16 i16
        deserialize_i32 visit_i32 i32
        deserialize_i64 visit_i64 i64
        deserialize_i128 visit_i128 i128
        deserialize_u8 visit_u8 u8
        deserialize_u16 visit_u16 u16
        deserialize_u32 visit_u32 u32
        deserialize_u64 visit_u64 u64
    }

    fn deserialize_u128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let found = self.reader.token()?;
        if let Token::Exact(number) = found
            && let Some(n) = number.to_u128()
        {
            return visitor.visit_u128(n);
        }
        let n = to_integer(found, "u128")?;
        let n = u128::try_from(n).map_err(|_| DecodeError::out_of_range("u128", n))?;
        visitor.visit_u128(n)
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.reader.token()? {
            Token::Undef => visitor.visit_unit(),
            Token::Bool(b) => visitor.visit_bool(b),
            Token::UInt(n) => visitor.visit_u64(n),
            Token::NInt(n) => visitor.visit_i64(n),
            Token::Float(x) => visitor.visit_f64(x),
            Token::Exact(number) => visit_exact(number, visitor),
            Token::Str(string) => visit_text(string, visitor),
            Token::Array(len) => self.items(len, 0, visitor),
            Token::Hash(len) => self.pairs(len, visitor),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.reader.skip()?;
        visitor.visit_unit()
    }

    #[inline]
    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_bool(to_bool(self.reader.token()?)?)
    }

    #[inline]
    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_f32(to_float(self.reader.token()?, "f32")? as f32)
    }

    #[inline]
    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_f64(to_float(self.reader.token()?, "f64")?)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.text(visitor)
    }

    #[inline]
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.text(visitor)
    }

    #[inline]
    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.text(visitor)
    }

    #[inline]
    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.text(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.octets(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.octets(visitor)
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        if self.reader.is_at_undef() {
            self.reader.token()?;
            return visitor.visit_none();
        }
        visitor.visit_some(ValueDeserializer { room: self.room.wrapped()?, ..self })
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.reader.token()? {
            Token::Undef => visitor.visit_unit(),
            other => Err(DecodeError::wanted("undef", other)),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.deserialize_unit(visitor)
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match name {
            serde_tokens::STR => {
                if let Some(string) = self.reader.take_str() {
                    return visitor.visit_enum(Given::string(string));
                }
                match self.reader.token()? {
                    Token::Str(string) => visitor.visit_enum(Given::string(string)),
                    other => visitor.visit_string(written(other, "string")?),
                }
            }
            serde_tokens::VALUE => visitor.visit_enum(Given::value(self.reader.skip()?)),
            serde_tokens::TAGGED => match self.reader.tag_or_token()? {
                Item::Tag(tag) => {
                    let value = ValueDeserializer { room: self.room.deeper()?, ..self };
                    visitor.visit_seq(TagAndValue { tag: Some(tag), value: Some(value) })
                }
                Item::Token(token) => Err(DecodeError::wanted("a tagged value", token)),
            },
            serde_tokens::INTEGER => {
                visitor.visit_i128(to_integer(self.reader.token()?, "integer")?)
            }
            _ => visitor
                .visit_newtype_struct(ValueDeserializer { room: self.room.wrapped()?, ..self }),
        }
    }

    #[inline]
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.reader.token()? {
            Token::Array(len) => self.items(len, 0, visitor),
            Token::Str(string) => visit_octets(string, visitor),
            other => Err(DecodeError::wanted("an array", other)),
        }
    }

    #[inline]
    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match self.reader.token()? {
            Token::Array(found) if found <= len => self.items(found, len, visitor),
            Token::Str(string) => visit_octets(string, visitor),
            other => Err(wanted_array(len, other)),
        }
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.deserialize_tuple(len, visitor)
    }

    #[inline]
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.reader.token()? {
            Token::Hash(len) => self.pairs(len, visitor),
            other => Err(DecodeError::wanted("a hash", other)),
        }
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        let room = self.room.deeper()?;
        let found = self.reader.peek()?;
        let left = match found {
            Token::Hash(1) => {
                self.reader.token()?;
                let reader = self.reader;
                let key = reader.clone();
                return visitor.visit_enum(OnlyPair { reader, key, room });
            }
            Token::Undef | Token::Array(0) | Token::Hash(_) => {
                return Err(DecodeError::wanted("a tag", found));
            }
            Token::Array(len) => {
                self.reader.token()?;
                len
            }
            _ => 1,
        };
        visitor.visit_enum(Fields { reader: self.reader, left, strict: true, room })
    }
}

#[cold]
pub(super) fn wanted_array(len: usize, found: Token<'_>) -> DecodeError {
    DecodeError::wanted(&format!("an array of {len}"), found)
}

#[cold]
pub(super) fn wanted_octets(found: StrRef<'_>) -> DecodeError {
    DecodeError::wanted("octets", Token::Str(found))
}
