//! Serialization of strings: map keys, and our own types in their stored form.

use super::Number;
use super::error::EncodeError;
use super::packed::{self, Count};
use super::serde_tokens;
use super::string::{StrKind, StrRef};
use serde::ser::{Impossible, Serialize, Serializer};

/// Writes one string, or the stored octets of one of our own types.
pub(super) struct StringSerializer<'a> {
    pub(super) out: &'a mut Vec<u8>,
    /// Set while one of our own types writes its stored octets; see [`serde_tokens`].
    pub(super) stored: Option<Stored>,
}

/// The form of the stored octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stored {
    /// A string of octets.
    Octets,
    /// A string in generalized UTF-8.
    Text,
    /// One value in packed form.
    Packed,
    /// A list of values in packed form, written as an array or as elements of a message.
    Elements {
        /// Whether to write the head of an array first.
        as_array: bool,
    },
}

impl StringSerializer<'_> {
    fn number(self, number: Number) -> Result<Count, EncodeError> {
        self.serialize_str(&number.to_string())
    }
}

macro_rules! numbers {
    ($($method:ident: $type:ty;)*) => {
        $(fn $method(self, value: $type) -> Result<Count, EncodeError> {
            self.number(value.into())
        })*
    };
}

impl<'a> Serializer for StringSerializer<'a> {
    type Ok = Count;
    type Error = EncodeError;
    type SerializeSeq = Impossible<Count, EncodeError>;
    type SerializeTuple = Impossible<Count, EncodeError>;
    type SerializeTupleStruct = Impossible<Count, EncodeError>;
    type SerializeTupleVariant = Impossible<Count, EncodeError>;
    type SerializeMap = Impossible<Count, EncodeError>;
    type SerializeStruct = Impossible<Count, EncodeError>;
    type SerializeStructVariant = Impossible<Count, EncodeError>;

    #[inline]
    fn is_human_readable(&self) -> bool {
        self.stored.is_none()
    }

    #[inline]
    fn serialize_bytes(self, data: &[u8]) -> Result<Count, EncodeError> {
        let kind = match self.stored {
            Some(Stored::Text) => StrKind::Text,
            Some(Stored::Octets) | None => StrKind::Octets,
            Some(Stored::Packed | Stored::Elements { .. }) => {
                self.out.extend_from_slice(data);
                return Ok(Count::of(1));
            }
        };
        packed::put_str(self.out, StrRef::trusted(kind, data));
        Ok(Count::ONE)
    }

    #[inline]
    fn serialize_str(self, text: &str) -> Result<Count, EncodeError> {
        packed::put_text(self.out, text);
        Ok(Count::ONE)
    }

    fn serialize_char(self, c: char) -> Result<Count, EncodeError> {
        self.serialize_str(c.encode_utf8(&mut [0; 4]))
    }

    fn serialize_bool(self, value: bool) -> Result<Count, EncodeError> {
        self.number(u8::from(value).into())
    }

    numbers! {
        serialize_i8: i8;
        serialize_i16: i16;
        serialize_i32: i32;
        serialize_i64: i64;
        serialize_u8: u8;
        serialize_u16: u16;
        serialize_u32: u32;
        serialize_u64: u64;
        serialize_f64: f64;
    }

    fn serialize_f32(self, value: f32) -> Result<Count, EncodeError> {
        self.number(f64::from(value).into())
    }

    fn serialize_i128(self, value: i128) -> Result<Count, EncodeError> {
        self.serialize_str(&value.to_string())
    }

    fn serialize_u128(self, value: u128) -> Result<Count, EncodeError> {
        self.serialize_str(&value.to_string())
    }

    fn serialize_unit_variant(
        self,
        _name: &'static str,
        _index: u32,
        tag: &'static str,
    ) -> Result<Count, EncodeError> {
        self.serialize_str(tag)
    }

    fn serialize_newtype_struct<T>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<Count, EncodeError>
    where
        T: Serialize + ?Sized,
    {
        let stored = match name {
            serde_tokens::OCTETS => Some(Stored::Octets),
            serde_tokens::TEXT => Some(Stored::Text),
            _ => self.stored,
        };
        value.serialize(StringSerializer { out: self.out, stored })
    }

    fn serialize_some<T>(self, value: &T) -> Result<Count, EncodeError>
    where
        T: Serialize + ?Sized,
    {
        value.serialize(self)
    }

    fn serialize_none(self) -> Result<Count, EncodeError> {
        Err(EncodeError::Key("undef"))
    }

    fn serialize_unit(self) -> Result<Count, EncodeError> {
        self.serialize_none()
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<Count, EncodeError> {
        self.serialize_none()
    }

    /// A list of `len` values in packed form; see [`serde_tokens::ELEMENTS`].
    fn serialize_newtype_variant<T>(
        self,
        _name: &'static str,
        len: u32,
        tag: &'static str,
        value: &T,
    ) -> Result<Count, EncodeError>
    where
        T: Serialize + ?Sized,
    {
        let Some(Stored::Elements { as_array }) = self.stored else {
            return Err(EncodeError::Key("a variant with fields"));
        };
        if as_array {
            packed::put_array(self.out, len as usize);
        }
        value.serialize(self)?;
        let len = if as_array { 1 } else { len as usize };
        Ok(if tag == serde_tokens::PLAIN { Count::plain(len) } else { Count::of(len) })
    }

    fn serialize_seq(self, _len: Option<usize>) -> Result<Self::SerializeSeq, EncodeError> {
        Err(EncodeError::Key("an array"))
    }

    fn serialize_tuple(self, _len: usize) -> Result<Self::SerializeTuple, EncodeError> {
        Err(EncodeError::Key("an array"))
    }

    fn serialize_tuple_struct(
        self,
        _name: &'static str,
        _len: usize,
    ) -> Result<Self::SerializeTupleStruct, EncodeError> {
        Err(EncodeError::Key("an array"))
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        _tag: &'static str,
        _len: usize,
    ) -> Result<Self::SerializeTupleVariant, EncodeError> {
        Err(EncodeError::Key("a variant with fields"))
    }

    fn serialize_map(self, _len: Option<usize>) -> Result<Self::SerializeMap, EncodeError> {
        Err(EncodeError::Key("a hash"))
    }

    fn serialize_struct(
        self,
        _name: &'static str,
        _len: usize,
    ) -> Result<Self::SerializeStruct, EncodeError> {
        Err(EncodeError::Key("a hash"))
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        _tag: &'static str,
        _len: usize,
    ) -> Result<Self::SerializeStructVariant, EncodeError> {
        Err(EncodeError::Key("a variant with fields"))
    }
}
