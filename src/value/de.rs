//! Deserialization of whole messages from packed form.

use super::de_access::{Fields, Items};
use super::de_value::{ValueDeserializer, forward_scalars};
use super::error::DecodeError;
use super::nesting::Room;
use super::packed::{Elements, Reader, Token};
use super::serde_tokens;
use serde::Deserializer;
use serde::de::{Deserialize, Visitor};

/// Undef, in place of missing elements.
pub(super) const UNDEF: &[u8] = &[0xf6];

/// Decodes the elements of a message into a Rust type; the inverse of
/// [`to_elements`](super::to_elements).
///
/// - A tuple, tuple struct or array takes as many elements as it has fields, as Perl's
///   `my ($a, $b) = @_` does: missing ones are undef (`None` for an `Option`, an error for most
///   other types), further ones are ignored.
/// - A `Vec` or other sequence takes all elements; so does a [`Value`](super::Value), as an array.
/// - An enum takes the first element as its tag and the following ones as its fields.
/// - What takes anything, such as an internally tagged enum (`#[serde(tag = "...")]`), takes all
///   elements as a list, but a message of one hash as that hash.
/// - `()` takes nothing. An `Option` is `None` if there are no elements or one undef.
/// - Everything else (a struct, a map, a string, a number) takes the first element.
///
/// See [`from_value`] for what elements become. Borrowed types (`&str`, `&[u8]`,
/// [`StrRef`](super::StrRef)) point into the message.
///
/// # Errors
/// Names the place, what was wanted and what was found.
///
/// ```
/// use aemp::value::{Packed, from_elements};
///
/// let message = Packed::of(&("test", "42", [1, 2]))?;
/// let (tag, number, rest): (&str, u32, Vec<String>) = from_elements(message.as_elements())?;
/// assert_eq!((tag, number, rest), ("test", 42, vec!["1".to_owned(), "2".to_owned()]));
///
/// let error = message.decode::<(&str, u32, (u8, bool))>().unwrap_err();
/// assert_eq!(error.to_string(), "element 2, element 1: wanted bool, found number 2");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[inline]
pub fn from_elements<'de, T: Deserialize<'de>>(elements: Elements<'de>) -> Result<T, DecodeError> {
    T::deserialize(MessageDeserializer {
        reader: elements.reader(),
        left: elements.len(),
        room: Room::ELEMENT,
    })
}

/// Reads one value as a Rust type, coerced as Perl does.
///
/// - A number is also taken from a string that is a number as a whole (`"42"`, `" 42"`, `"1e3"`,
///   `"inf"`, `"nan"`; not `""`), an integer also from a float without fraction, and any number
///   from a boolean. What does not fit into the type is an error.
/// - A string is also taken from a number, as Perl writes it, and from a boolean (`1`, `0`).
///   Octets become the characters with the same code points. `&str` needs text or ASCII.
/// - Tags are passed over. A number that its tag makes exact (a big integer, a decimal fraction, a
///   ratio) is taken as any number; as a string it has all its digits. Of an object the class is
///   passed over. [`Tagged`](super::Tagged) and [`Value`](super::Value) show tags.
/// - A bool is also taken from 1, 0, `"1"`, `"0"`, `""` and undef.
/// - Octets (`&[u8]`, `Vec<u8>`, arrays of `u8`) are also taken from text with code points below
///   256, and from numbers.
/// - A struct or map needs a hash; unknown keys are ignored. Keys become numbers like any string.
/// - A tuple needs an array that is not longer; missing items are undef.
/// - An enum needs a string or `[tag, fields...]`, or a hash of one pair, `{tag: field}`.
/// - `Option` and `()` take undef.
///
/// Serde itself buffers untagged and internally tagged enums and flattened structs; inside of these
/// numbers and strings do not turn into each other.
///
/// # Errors
/// As [`from_elements`].
#[inline]
pub fn from_value<'de, T: Deserialize<'de>>(reader: &mut Reader<'de>) -> Result<T, DecodeError> {
    T::deserialize(ValueDeserializer { reader, room: Room::VALUE })
}

impl<'a> Elements<'a> {
    /// The elements as a Rust type; see [`from_elements`].
    ///
    /// # Errors
    /// As [`from_elements`].
    #[inline]
    pub fn decode<T: Deserialize<'a>>(self) -> Result<T, DecodeError> {
        from_elements(self)
    }
}

/// The deserializer of a message's elements.
struct MessageDeserializer<'de> {
    reader: Reader<'de>,
    left: usize,
    room: Room,
}

impl<'de> MessageDeserializer<'de> {
    /// The first element alone, or undef.
    #[inline]
    fn first<T>(
        mut self,
        read: impl FnOnce(ValueDeserializer<'_, 'de>) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        let nothing = self.left == 0;
        if nothing {
            self.reader = Reader::new(UNDEF);
        }
        read(ValueDeserializer { reader: &mut self.reader, room: self.room })
            .map_err(|error| if nothing { error.missing() } else { error }.in_element(0))
    }

    #[inline]
    fn items<V: Visitor<'de>>(
        mut self,
        expected: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_seq(Items {
            reader: &mut self.reader,
            left: self.left,
            index: 0,
            expected,
            room: self.room,
        })
    }
}

macro_rules! through_first {
    ($($method:ident)*) => {
        $(#[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
            self.first(|value| value.$method(visitor))
        })*
    };
}

impl<'de> Deserializer<'de> for MessageDeserializer<'de> {
    type Error = DecodeError;

    forward_scalars!(through_first);

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        // Internally tagged enums are written as a hash, and request any type.
        if self.left == 1 && matches!(self.reader.peek(), Ok(Token::Hash(_))) {
            return self.first(|value| value.deserialize_any(visitor));
        }
        self.items(0, visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_unit()
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_unit()
    }

    fn deserialize_option<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, DecodeError> {
        if self.left == 0 || (self.left == 1 && self.reader.is_at_undef()) {
            return visitor.visit_none();
        }
        self.room = self.room.wrapped()?;
        visitor.visit_some(self)
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match name {
            serde_tokens::STR | serde_tokens::INTEGER | serde_tokens::TAGGED => {
                self.first(|value| value.deserialize_newtype_struct(name, visitor))
            }
            serde_tokens::VALUE => self.items(0, visitor),
            _ => {
                self.room = self.room.wrapped()?;
                visitor.visit_newtype_struct(self)
            }
        }
    }

    #[inline]
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.items(0, visitor)
    }

    #[inline]
    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.items(len, visitor)
    }

    #[inline]
    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.items(len, visitor)
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.first(|value| value.deserialize_struct(name, fields, visitor))
    }

    #[inline]
    fn deserialize_enum<V: Visitor<'de>>(
        mut self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_enum(Fields {
            reader: &mut self.reader,
            left: self.left,
            strict: false,
            room: self.room,
        })
    }
}
