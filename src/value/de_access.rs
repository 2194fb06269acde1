//! Access to the contents of values: items, pairs, fields of variants, octets of strings.

use super::de::UNDEF;
use super::de_value::{ValueDeserializer, wanted_array, wanted_octets};
use super::error::DecodeError;
use super::nesting::Room;
use super::packed::{Reader, Token};
use super::string::StrRef;
use serde::de::value::U64Deserializer;
use serde::de::{DeserializeSeed, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor};
use serde::{Deserializer, forward_to_deserialize_any};

/// The items of an array, the elements of a message, or the fields of a variant.
pub(super) struct Items<'a, 'de> {
    pub(super) reader: &'a mut Reader<'de>,
    pub(super) left: usize,
    /// The index of the next element, to name the place of an error.
    pub(super) index: usize,
    /// Up to this index, missing elements are undef.
    pub(super) expected: usize,
    pub(super) room: Room,
}

impl<'de> Items<'_, 'de> {
    /// Skips the items that a visitor has not read.
    #[inline]
    pub(super) fn skip_rest(&mut self) -> Result<(), DecodeError> {
        for _ in 0..self.left {
            self.reader.skip()?;
        }
        Ok(())
    }
}

impl<'de> SeqAccess<'de> for Items<'_, 'de> {
    type Error = DecodeError;

    #[inline]
    fn next_element_seed<T>(&mut self, seed: T) -> Result<Option<T::Value>, DecodeError>
    where
        T: DeserializeSeed<'de>,
    {
        let index = self.index;
        self.index += 1;
        if self.left > 0 {
            self.left -= 1;
            let value =
                seed.deserialize(ValueDeserializer { reader: &mut *self.reader, room: self.room });
            return value.map(Some).map_err(|error| error.in_element(index));
        }
        if index < self.expected {
            return missing(seed, index, self.room).map(Some);
        }
        Ok(None)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

/// Deserializes undef in place of the missing element `index`.
fn missing<'de, T>(seed: T, index: usize, room: Room) -> Result<T::Value, DecodeError>
where
    T: DeserializeSeed<'de>,
{
    let reader = &mut Reader::new(UNDEF);
    seed.deserialize(ValueDeserializer { reader, room })
        .map_err(|error| error.missing().in_element(index))
}

/// The pairs of a hash.
pub(super) struct Pairs<'a, 'de> {
    pub(super) reader: &'a mut Reader<'de>,
    pub(super) left: usize,
    pub(super) owes_value: bool,
    /// Positioned at the current key.
    pub(super) key: Reader<'de>,
    pub(super) room: Room,
}

impl<'de> Pairs<'_, 'de> {
    #[inline]
    pub(super) fn skip_rest(&mut self) -> Result<(), DecodeError> {
        if self.owes_value {
            self.reader.skip()?;
        }
        for _ in 0..self.left {
            self.reader.skip()?;
            self.reader.skip()?;
        }
        Ok(())
    }
}

/// Adds the key at the position of `key` to the path of an error.
#[cold]
fn in_key(error: DecodeError, key: &Reader<'_>) -> DecodeError {
    match key.peek() {
        Ok(Token::Str(key)) => error.in_key(key),
        _ => error,
    }
}

impl<'de> MapAccess<'de> for Pairs<'_, 'de> {
    type Error = DecodeError;

    #[inline]
    fn next_key_seed<K>(&mut self, seed: K) -> Result<Option<K::Value>, DecodeError>
    where
        K: DeserializeSeed<'de>,
    {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        self.owes_value = true;
        self.key = self.reader.clone();
        seed.deserialize(ValueDeserializer { reader: &mut *self.reader, room: self.room })
            .map(Some)
            .map_err(|error| in_key(error, &self.key))
    }

    #[inline]
    fn next_value_seed<V>(&mut self, seed: V) -> Result<V::Value, DecodeError>
    where
        V: DeserializeSeed<'de>,
    {
        self.owes_value = false;
        seed.deserialize(ValueDeserializer { reader: &mut *self.reader, room: self.room })
            .map_err(|error| in_key(error, &self.key))
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

/// An enum as its tag and fields.
pub(super) struct Fields<'a, 'de> {
    pub(super) reader: &'a mut Reader<'de>,
    /// The number of values that are left, including the tag until it was read.
    pub(super) left: usize,
    /// Whether more fields than wanted are an error.
    pub(super) strict: bool,
    pub(super) room: Room,
}

impl<'a, 'de> Fields<'a, 'de> {
    /// The place of the first field, after the tag.
    const FIRST: usize = 1;

    #[inline]
    fn at_most(&self, wanted: usize) -> Result<(), DecodeError> {
        if self.strict && self.left > wanted {
            return Err(wanted_array(1 + wanted, Token::Array(1 + self.left)));
        }
        Ok(())
    }

    #[inline]
    fn items(self, expected: usize) -> Items<'a, 'de> {
        Items {
            reader: self.reader,
            left: self.left,
            index: Self::FIRST,
            expected: Self::FIRST + expected,
            room: self.room,
        }
    }
}

impl<'de> EnumAccess<'de> for Fields<'_, 'de> {
    type Error = DecodeError;
    type Variant = Self;

    #[inline]
    fn variant_seed<V>(mut self, seed: V) -> Result<(V::Value, Self), DecodeError>
    where
        V: DeserializeSeed<'de>,
    {
        if self.left == 0 {
            return Err(missing(seed, 0, self.room)
                .err()
                .unwrap_or_else(|| DecodeError::wanted("a tag", Token::Undef)));
        }
        self.left -= 1;
        let tag =
            seed.deserialize(ValueDeserializer { reader: &mut *self.reader, room: self.room });
        Ok((tag.map_err(|error| error.in_element(0))?, self))
    }
}

impl<'de> VariantAccess<'de> for Fields<'_, 'de> {
    type Error = DecodeError;

    #[inline]
    fn unit_variant(self) -> Result<(), DecodeError> {
        self.at_most(0)
    }

    #[inline]
    fn newtype_variant_seed<T>(self, seed: T) -> Result<T::Value, DecodeError>
    where
        T: DeserializeSeed<'de>,
    {
        self.at_most(1)?;
        let field = self.items(1).next_element_seed(seed)?;
        // With one field expected, there always is one.
        field.ok_or_else(DecodeError::too_deep)
    }

    #[inline]
    fn tuple_variant<V: Visitor<'de>>(
        self,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.at_most(len)?;
        let mut items = self.items(len);
        let value = visitor.visit_seq(&mut items)?;
        items.skip_rest()?;
        Ok(value)
    }

    #[inline]
    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.newtype_variant_seed(StructSeed(visitor))
    }
}

/// Makes a struct variant's visitor read a hash.
struct StructSeed<V>(V);

impl<'de, V: Visitor<'de>> DeserializeSeed<'de> for StructSeed<V> {
    type Value = V::Value;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        deserializer.deserialize_map(self.0)
    }
}

/// An enum as a hash of one pair.
pub(super) struct OnlyPair<'a, 'de> {
    pub(super) reader: &'a mut Reader<'de>,
    pub(super) key: Reader<'de>,
    pub(super) room: Room,
}

impl<'a, 'de> OnlyPair<'a, 'de> {
    fn value<T>(
        self,
        read: impl FnOnce(ValueDeserializer<'a, 'de>) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        let key = self.key;
        read(ValueDeserializer { reader: self.reader, room: self.room })
            .map_err(|error| in_key(error, &key))
    }
}

impl<'de> EnumAccess<'de> for OnlyPair<'_, 'de> {
    type Error = DecodeError;
    type Variant = Self;

    fn variant_seed<V>(self, seed: V) -> Result<(V::Value, Self), DecodeError>
    where
        V: DeserializeSeed<'de>,
    {
        let tag =
            seed.deserialize(ValueDeserializer { reader: &mut *self.reader, room: self.room })?;
        Ok((tag, self))
    }
}

impl<'de> VariantAccess<'de> for OnlyPair<'_, 'de> {
    type Error = DecodeError;

    fn unit_variant(self) -> Result<(), DecodeError> {
        // A value that is ignored is the same as none.
        self.reader.skip()?;
        Ok(())
    }

    fn newtype_variant_seed<T>(self, seed: T) -> Result<T::Value, DecodeError>
    where
        T: DeserializeSeed<'de>,
    {
        self.value(|value| seed.deserialize(value))
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.value(|value| value.deserialize_tuple(len, visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.value(|value| value.deserialize_map(visitor))
    }
}

/// A tag, then the value that it belongs to.
pub(super) struct TagAndValue<'a, 'de> {
    pub(super) tag: Option<u64>,
    pub(super) value: Option<ValueDeserializer<'a, 'de>>,
}

impl<'de> SeqAccess<'de> for TagAndValue<'_, 'de> {
    type Error = DecodeError;

    fn next_element_seed<T>(&mut self, seed: T) -> Result<Option<T::Value>, DecodeError>
    where
        T: DeserializeSeed<'de>,
    {
        if let Some(tag) = self.tag.take() {
            return seed.deserialize(U64Deserializer::new(tag)).map(Some);
        }
        self.value.take().map(|value| seed.deserialize(value)).transpose()
    }
}

/// Decodes the octets of a string as a sequence of `u8`.
pub(super) fn visit_octets<'de, V: Visitor<'de>>(
    whole: StrRef<'de>,
    visitor: V,
) -> Result<V::Value, DecodeError> {
    let octets = whole.to_octets().ok_or_else(|| wanted_octets(whole))?;
    visitor.visit_seq(Octets { octets: octets.iter(), whole })
}

struct Octets<'o, 'de> {
    octets: std::slice::Iter<'o, u8>,
    whole: StrRef<'de>,
}

impl<'de> SeqAccess<'de> for Octets<'_, 'de> {
    type Error = DecodeError;

    #[inline]
    fn next_element_seed<T>(&mut self, seed: T) -> Result<Option<T::Value>, DecodeError>
    where
        T: DeserializeSeed<'de>,
    {
        let Some(&octet) = self.octets.next() else {
            return Ok(None);
        };
        let whole = self.whole;
        seed.deserialize(Octet { octet, whole }).map(Some)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        Some(self.octets.len())
    }
}

/// One octet of a string. Only `u8` accepts it, since a `Vec<u64>` of a string would be surprising.
struct Octet<'de> {
    octet: u8,
    whole: StrRef<'de>,
}

impl<'de> Deserializer<'de> for Octet<'de> {
    type Error = DecodeError;

    #[inline]
    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_u8(self.octet)
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, DecodeError> {
        Err(DecodeError::wanted("an array", Token::Str(self.whole)))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier
        ignored_any
    }
}
