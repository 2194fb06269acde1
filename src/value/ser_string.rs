//! What has to become a string: map keys, and our own strings in their stored form.

use super::Number;
use super::error::EncodeError;
use super::packed;
use super::serde_tokens;
use super::string::{StrKind, StrRef};
use serde::ser::{Impossible, Serialize, Serializer};

/// Writes one string; gives 1 as the number of values written.
pub(super) struct StringSerializer<'a> {
    pub(super) out: &'a mut Vec<u8>,
    /// Set while one of our own types is asked for its stored octets; see [`serde_tokens`].
    pub(super) stored: Option<Stored>,
}

/// What the stored octets are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stored {
    /// A string of octets.
    Octets,
    /// A string in generalized UTF-8.
    Text,
    /// One value in packed form.
    Packed,
}

impl StringSerializer<'_> {
    fn number(self, number: Number) -> Result<usize, EncodeError> {
        self.serialize_str(&number.to_string())
    }
}

macro_rules! numbers {
    ($($method:ident: $type:ty;)*) => {
        $(fn $method(self, value: $type) -> Result<usize, EncodeError> {
            self.number(value.into())
        })*
    };
}

impl<'a> Serializer for StringSerializer<'a> {
    type Ok = usize;
    type Error = EncodeError;
    type SerializeSeq = Impossible<usize, EncodeError>;
    type SerializeTuple = Impossible<usize, EncodeError>;
    type SerializeTupleStruct = Impossible<usize, EncodeError>;
    type SerializeTupleVariant = Impossible<usize, EncodeError>;
    type SerializeMap = Impossible<usize, EncodeError>;
    type SerializeStruct = Impossible<usize, EncodeError>;
    type SerializeStructVariant = Impossible<usize, EncodeError>;

    #[inline]
    fn is_human_readable(&self) -> bool {
        self.stored.is_none()
    }

    #[inline]
    fn serialize_bytes(self, data: &[u8]) -> Result<usize, EncodeError> {
        let kind = match self.stored {
            Some(Stored::Text) => StrKind::Text,
            Some(Stored::Octets) | None => StrKind::Octets,
            Some(Stored::Packed) => {
                self.out.extend_from_slice(data);
                return Ok(1);
            }
        };
        packed::put_str(self.out, StrRef::trusted(kind, data));
        Ok(1)
    }

    #[inline]
    fn serialize_str(self, text: &str) -> Result<usize, EncodeError> {
        packed::put_text(self.out, text);
        Ok(1)
    }

    fn serialize_char(self, c: char) -> Result<usize, EncodeError> {
        self.serialize_str(c.encode_utf8(&mut [0; 4]))
    }

    fn serialize_bool(self, value: bool) -> Result<usize, EncodeError> {
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

    fn serialize_f32(self, value: f32) -> Result<usize, EncodeError> {
        self.number(f64::from(value).into())
    }

    fn serialize_i128(self, value: i128) -> Result<usize, EncodeError> {
        self.serialize_str(&value.to_string())
    }

    fn serialize_u128(self, value: u128) -> Result<usize, EncodeError> {
        self.serialize_str(&value.to_string())
    }

    fn serialize_unit_variant(
        self,
        _name: &'static str,
        _index: u32,
        tag: &'static str,
    ) -> Result<usize, EncodeError> {
        self.serialize_str(tag)
    }

    fn serialize_newtype_struct<T>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<usize, EncodeError>
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

    fn serialize_some<T>(self, value: &T) -> Result<usize, EncodeError>
    where
        T: Serialize + ?Sized,
    {
        value.serialize(self)
    }

    fn serialize_none(self) -> Result<usize, EncodeError> {
        Err(EncodeError::Key("undef"))
    }

    fn serialize_unit(self) -> Result<usize, EncodeError> {
        self.serialize_none()
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<usize, EncodeError> {
        self.serialize_none()
    }

    fn serialize_newtype_variant<T>(
        self,
        _name: &'static str,
        _index: u32,
        _tag: &'static str,
        _value: &T,
    ) -> Result<usize, EncodeError>
    where
        T: Serialize + ?Sized,
    {
        Err(EncodeError::Key("a variant with fields"))
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
