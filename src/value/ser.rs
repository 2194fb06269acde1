//! Serialization of Rust types to packed form, for whole messages and single values.

use super::error::EncodeError;
use super::nesting::Room;
use super::number;
use super::packed::{self, Count, Malformed, OpenLen, Reader};
use super::ser_string::{Stored, StringSerializer};
use super::{serde_tokens, tag};
use serde::ser::{self, Serialize, Serializer};

/// Appends `value` as the elements of a message, in packed form, and returns their number.
///
/// - A tuple, tuple struct, array, `Vec` or other sequence is the list of elements.
/// - An enum variant is its tag and fields: `Quit` is `"Quit"`, `Join(room, nick)` is `"Join",
///   room, nick`, and `Move { x, y }` is `"Move"` and one hash.
/// - `()` and unit structs are no elements.
/// - Newtype structs and `Some` become their content.
/// - Everything else (a struct, a map, a string, a number, `None` as undef) is one element.
///
/// See [`put_value`] for what stands inside of elements.
///
/// # Errors
/// As [`put_value`], where the message itself is the first level of nesting. After an error `out`
/// is as it was.
///
/// ```
/// use aemp::value::{packed::Elements, to_elements};
///
/// let mut out = Vec::new();
/// let len = to_elements(&mut out, &("tag", 42, "hello world"))?;
/// assert_eq!(len, 3);
/// assert_eq!(Elements::new(len, &out).decode::<(&str, String)>()?, ("tag", "42".into()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[inline]
pub fn to_elements<T>(out: &mut Vec<u8>, value: &T) -> Result<usize, EncodeError>
where
    T: Serialize + ?Sized,
{
    put_elements(out, value).map(Count::get)
}

/// As [`to_elements`]; also returns whether the elements have internal tags.
///
/// # Errors
/// As [`to_elements`].
#[doc(hidden)]
#[inline]
pub fn put_elements<T>(out: &mut Vec<u8>, value: &T) -> Result<Count, EncodeError>
where
    T: Serialize + ?Sized,
{
    put::<true, T>(out, value, Room::ELEMENT)
}

/// Appends `value` as one value in packed form.
///
/// - Strings are text; `serialize_bytes` (as of `serde_bytes`) gives octets; a char is a string.
/// - Floats stay floats, also `3.0`; integers stay integers (beyond 64 bits they are big integers,
///   which arrive at nodes that speak JSON or Storable as their digits); booleans are booleans proper.
/// - `None`, `()` and unit structs are undef; `Some` and newtype structs become their content.
/// - Sequences, tuples and tuple structs are arrays; maps and structs are hashes.
/// - A unit variant is a string, another variant an array of its tag and fields.
/// - Integers, booleans (`1` and `0`), chars and unit variants as map keys become strings.
///
/// # Errors
/// Map keys that are no strings, more than [`MAX_NESTING`](super::MAX_NESTING) levels, and what a
/// type's own `Serialize` reports. After an error `out` is as it was.
#[inline]
pub fn put_value<T>(out: &mut Vec<u8>, value: &T) -> Result<(), EncodeError>
where
    T: Serialize + ?Sized,
{
    put::<false, T>(out, value, Room::VALUE).map(|_| ())
}

/// As [`put_value`], for a value that will be sent inside `around` arrays and hashes, including the
/// packet itself: a value that is accepted here can be sent there.
///
/// # Errors
/// As [`put_value`], with `around` levels fewer.
pub fn put_value_within<T>(out: &mut Vec<u8>, value: &T, around: usize) -> Result<(), EncodeError>
where
    T: Serialize + ?Sized,
{
    put::<false, T>(out, value, Room::within(around)).map(|_| ())
}

#[inline]
fn put<const MESSAGE: bool, T>(
    out: &mut Vec<u8>,
    value: &T,
    room: Room,
) -> Result<Count, EncodeError>
where
    T: Serialize + ?Sized,
{
    let start = out.len();
    let result = value.serialize(PackedSerializer::<'_, MESSAGE> { out: &mut *out, room });
    if result.is_err() {
        out.truncate(start);
    }
    result
}

/// Writes a message's elements (`MESSAGE`) or one value. Returns the number of values written.
struct PackedSerializer<'a, const MESSAGE: bool> {
    out: &'a mut Vec<u8>,
    room: Room,
}

impl<'a, const MESSAGE: bool> PackedSerializer<'a, MESSAGE> {
    #[inline]
    fn list(self, len: Option<usize>) -> Result<List<'a>, EncodeError> {
        if MESSAGE {
            let (out, room) = (self.out, self.room);
            let length = Length::Elements;
            return Ok(List { out, room, length, count: 0, all: Count::ONE });
        }
        let room = self.room.deeper()?;
        let length = match len {
            Some(len) => {
                packed::put_array(self.out, len);
                Length::Announced(len)
            }
            None => Length::Open(packed::open_array(self.out)),
        };
        Ok(List { out: self.out, room, length, count: 0, all: Count::ONE })
    }

    /// Writes a variant with fields: the tag first.
    #[inline]
    fn variant(self, tag: &str, fields: usize) -> Result<List<'a>, EncodeError> {
        let mut list = self.list(Some(fields + 1))?;
        packed::put_text(list.out, tag);
        list.count = 1;
        Ok(list)
    }

    /// Writes a value, or a list of values, that is in packed form already.
    #[inline(never)]
    fn packed<T: Serialize + ?Sized>(
        self,
        value: &T,
        stored: Stored,
    ) -> Result<Count, EncodeError> {
        let start = self.out.len();
        let stored = Some(stored);
        let written = value.serialize(StringSerializer { out: &mut *self.out, stored })?;
        let octets = self.out.get(start..).unwrap_or_default();
        let mut reader = Reader::new(octets);
        let values = (0..written.get()).try_for_each(|_| reader.skip().map(drop));
        if !reader.is_done() || values.is_err() {
            return Err(ser::Error::custom(Malformed { at: reader.position() }));
        }
        if packed::is_deeper_than(octets, self.room.levels()).unwrap_or(true) {
            return Err(EncodeError::TooDeep);
        }
        if written.is_plain() || !tag::is_cbor(octets) {
            return Ok(written);
        }
        Ok(Count::plain(written.get()))
    }

    #[inline]
    fn pairs(self, len: Option<usize>) -> Result<Pairs<'a>, EncodeError> {
        let room = self.room.deeper()?;
        let length = match len {
            Some(len) => {
                packed::put_hash(self.out, len);
                Length::Announced(len)
            }
            None => Length::Open(packed::open_hash(self.out)),
        };
        Ok(Pairs { out: self.out, room, length, count: 0, before: 0, all: Count::ONE })
    }
}

macro_rules! scalars {
    ($($method:ident: $type:ty => $put:path as $target:ty;)*) => {
        $(#[inline]
        fn $method(self, value: $type) -> Result<Count, EncodeError> {
            $put(self.out, <$target>::from(value));
            Ok(Count::ONE)
        })*
    };
}

impl<'a, const MESSAGE: bool> Serializer for PackedSerializer<'a, MESSAGE> {
    type Ok = Count;
    type Error = EncodeError;
    type SerializeSeq = List<'a>;
    type SerializeTuple = List<'a>;
    type SerializeTupleStruct = List<'a>;
    type SerializeTupleVariant = List<'a>;
    type SerializeMap = Pairs<'a>;
    type SerializeStruct = Pairs<'a>;
    type SerializeStructVariant = Pairs<'a>;

    scalars! {
        serialize_bool: bool => packed::put_bool as bool;
        serialize_i8: i8 => packed::put_int as i64;
        serialize_i16: i16 => packed::put_int as i64;
        serialize_i32: i32 => packed::put_int as i64;
        serialize_i64: i64 => packed::put_int as i64;
        serialize_u8: u8 => packed::put_uint as u64;
        serialize_u16: u16 => packed::put_uint as u64;
        serialize_u32: u32 => packed::put_uint as u64;
        serialize_u64: u64 => packed::put_uint as u64;
        serialize_f32: f32 => packed::put_float as f64;
        serialize_f64: f64 => packed::put_float as f64;
    }

    fn serialize_i128(self, value: i128) -> Result<Count, EncodeError> {
        number::put_i128(self.out, value);
        Ok(Count::ONE)
    }

    fn serialize_u128(self, value: u128) -> Result<Count, EncodeError> {
        number::put_u128(self.out, value);
        Ok(Count::ONE)
    }

    #[inline]
    fn serialize_char(self, value: char) -> Result<Count, EncodeError> {
        packed::put_text(self.out, value.encode_utf8(&mut [0; 4]));
        Ok(Count::ONE)
    }

    #[inline]
    fn serialize_str(self, value: &str) -> Result<Count, EncodeError> {
        packed::put_text(self.out, value);
        Ok(Count::ONE)
    }

    #[inline]
    fn serialize_bytes(self, value: &[u8]) -> Result<Count, EncodeError> {
        packed::put_octets(self.out, value);
        Ok(Count::ONE)
    }

    #[inline]
    fn serialize_none(self) -> Result<Count, EncodeError> {
        packed::put_undef(self.out);
        Ok(Count::ONE)
    }

    #[inline]
    fn serialize_some<T>(self, value: &T) -> Result<Count, EncodeError>
    where
        T: Serialize + ?Sized,
    {
        value.serialize(Self { room: self.room.wrapped()?, ..self })
    }

    #[inline]
    fn serialize_unit(self) -> Result<Count, EncodeError> {
        if MESSAGE {
            return Ok(Count::plain(0));
        }
        self.serialize_none()
    }

    #[inline]
    fn serialize_unit_struct(self, _name: &'static str) -> Result<Count, EncodeError> {
        self.serialize_unit()
    }

    #[inline]
    fn serialize_unit_variant(
        self,
        _name: &'static str,
        _index: u32,
        tag: &'static str,
    ) -> Result<Count, EncodeError> {
        self.serialize_str(tag)
    }

    #[inline]
    fn serialize_newtype_struct<T>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<Count, EncodeError>
    where
        T: Serialize + ?Sized,
    {
        let stored = match name {
            serde_tokens::OCTETS => Stored::Octets,
            serde_tokens::TEXT => Stored::Text,
            serde_tokens::PACKED => return self.packed(value, Stored::Packed),
            serde_tokens::ELEMENTS => {
                return self.packed(value, Stored::Elements { as_array: !MESSAGE });
            }
            _ => return self.serialize_some(value),
        };
        value.serialize(StringSerializer { out: self.out, stored: Some(stored) })?;
        Ok(Count::ONE)
    }

    #[inline]
    fn serialize_newtype_variant<T>(
        self,
        _name: &'static str,
        _index: u32,
        tag: &'static str,
        value: &T,
    ) -> Result<Count, EncodeError>
    where
        T: Serialize + ?Sized,
    {
        let mut list = self.variant(tag, 1)?;
        list.item(value)?;
        list.finish()
    }

    #[inline]
    fn serialize_seq(self, len: Option<usize>) -> Result<List<'a>, EncodeError> {
        self.list(len)
    }

    #[inline]
    fn serialize_tuple(self, len: usize) -> Result<List<'a>, EncodeError> {
        self.list(Some(len))
    }

    #[inline]
    fn serialize_tuple_struct(
        self,
        _name: &'static str,
        len: usize,
    ) -> Result<List<'a>, EncodeError> {
        self.list(Some(len))
    }

    #[inline]
    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        tag: &'static str,
        len: usize,
    ) -> Result<List<'a>, EncodeError> {
        self.variant(tag, len)
    }

    #[inline]
    fn serialize_map(self, len: Option<usize>) -> Result<Pairs<'a>, EncodeError> {
        self.pairs(len)
    }

    #[inline]
    fn serialize_struct(self, _name: &'static str, len: usize) -> Result<Pairs<'a>, EncodeError> {
        self.pairs(Some(len))
    }

    #[inline]
    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        tag: &'static str,
        len: usize,
    ) -> Result<Pairs<'a>, EncodeError> {
        let List { out, room, .. } = self.variant(tag, 1)?;
        let pairs = PackedSerializer::<'_, false> { out, room }.pairs(Some(len))?;
        // As elements: a tag and a hash. As a value: one array.
        let before = usize::from(MESSAGE);
        Ok(Pairs { before, ..pairs })
    }
}

/// Where the length of an array or hash comes from.
enum Length {
    /// The message's own list, whose length is only counted.
    Elements,
    /// Announced, and written already.
    Announced(usize),
    /// Counted, and written at the end.
    Open(OpenLen),
}

impl Length {
    #[inline]
    fn check(&self, out: &mut [u8], count: usize) -> Result<(), EncodeError> {
        match *self {
            Length::Announced(announced) if announced != count => {
                Err(EncodeError::Length { announced, given: count })
            }
            Length::Open(place) => {
                packed::close_len(out, place, count);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// The values of an array, or the elements of a message.
pub(super) struct List<'a> {
    out: &'a mut Vec<u8>,
    room: Room,
    length: Length,
    count: usize,
    /// Whether all items so far are without internal tags.
    all: Count,
}

impl List<'_> {
    #[inline]
    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        let item = PackedSerializer::<'_, false> { out: self.out, room: self.room };
        self.all = self.all.joined(value.serialize(item)?);
        self.count += 1;
        Ok(())
    }

    #[inline]
    fn finish(self) -> Result<Count, EncodeError> {
        self.length.check(self.out, self.count)?;
        let len = if let Length::Elements = self.length { self.count } else { 1 };
        Ok(self.all.with(len))
    }
}

/// The pairs of a hash.
pub(super) struct Pairs<'a> {
    out: &'a mut Vec<u8>,
    room: Room,
    length: Length,
    count: usize,
    /// The number of elements before the hash.
    before: usize,
    /// Whether all values so far are without internal tags.
    all: Count,
}

impl Pairs<'_> {
    #[inline]
    fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        let item = PackedSerializer::<'_, false> { out: self.out, room: self.room };
        self.all = self.all.joined(value.serialize(item)?);
        Ok(())
    }

    #[inline]
    fn field<T>(&mut self, key: &str, value: &T) -> Result<(), EncodeError>
    where
        T: Serialize + ?Sized,
    {
        self.count += 1;
        packed::put_text(self.out, key);
        self.value(value)
    }

    #[inline]
    fn finish(self) -> Result<Count, EncodeError> {
        self.length.check(self.out, self.count)?;
        Ok(self.all.with(self.before + 1))
    }
}

macro_rules! lists {
    ($($trait:ident::$method:ident;)*) => {
        $(impl ser::$trait for List<'_> {
            type Ok = Count;
            type Error = EncodeError;

            #[inline]
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
                self.item(value)
            }

            #[inline]
            fn end(self) -> Result<Count, EncodeError> {
                self.finish()
            }
        })*
    };
}

lists! {
    SerializeSeq::serialize_element;
    SerializeTuple::serialize_element;
    SerializeTupleStruct::serialize_field;
    SerializeTupleVariant::serialize_field;
}

macro_rules! structs {
    ($($trait:ident;)*) => {
        $(impl ser::$trait for Pairs<'_> {
            type Ok = Count;
            type Error = EncodeError;

            #[inline]
            fn serialize_field<T>(
                &mut self,
                key: &'static str,
                value: &T,
            ) -> Result<(), EncodeError>
            where
                T: Serialize + ?Sized,
            {
                self.field(key, value)
            }

            #[inline]
            fn end(self) -> Result<Count, EncodeError> {
                self.finish()
            }
        })*
    };
}

structs! {
    SerializeStruct;
    SerializeStructVariant;
}

impl ser::SerializeMap for Pairs<'_> {
    type Ok = Count;
    type Error = EncodeError;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), EncodeError> {
        self.count += 1;
        key.serialize(StringSerializer { out: self.out, stored: None })?;
        Ok(())
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.value(value)
    }

    #[inline]
    fn end(self) -> Result<Count, EncodeError> {
        self.finish()
    }
}
