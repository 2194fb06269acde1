//! A value together with its tag, to see or send tags.

use super::packed;
use super::serde_tokens::{PACKED, TAGGED, is_ours};
use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use serde::ser::{Error as _, Serialize, Serializer};
use std::fmt;
use std::marker::PhantomData;

/// A value with a CBOR tag in front of it.
///
/// Other types ignore tags: a date that arrives as `1(1700000000)` decodes as a number, and a big
/// integer as `i128` or as a `String` of digits. Decode into a `Tagged` to see the tag; send one to send
/// the tag. Nodes that use JSON get the value alone.
///
/// ```
/// use aemp::value::{Packed, Tagged};
///
/// let message = Packed::of(&("at", Tagged { tag: 1, value: 1_700_000_000 }))?;
/// assert_eq!(message.to_string(), r#"["at", 1(1700000000)]"#);
/// let (_, at): (String, Tagged<u64>) = message.decode()?;
/// assert_eq!((at.tag, at.value), (1, 1_700_000_000));
/// let (_, at): (String, u64) = message.decode()?;
/// assert_eq!(at, 1_700_000_000);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tagged<T> {
    /// The tag's number.
    pub tag: u64,
    /// The value; a further tag is another `Tagged` in it.
    pub value: T,
}

impl<T: Serialize> Serialize for Tagged<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let readable = serializer.is_human_readable();
        serializer.serialize_newtype_struct(PACKED, &TaggedContent { whole: self, readable })
    }
}

/// The content of the newtype: packed form for our own serializer, the value without its tag for others.
struct TaggedContent<'a, T> {
    whole: &'a Tagged<T>,
    /// Whether the format was human-readable outside the newtype.
    readable: bool,
}

impl<T: Serialize> Serialize for TaggedContent<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !is_ours(self.readable, &serializer) {
            return self.whole.value.serialize(serializer);
        }
        let mut octets = Vec::new();
        packed::put_tag(&mut octets, self.whole.tag);
        super::put_value(&mut octets, &self.whole.value).map_err(S::Error::custom)?;
        serializer.serialize_bytes(&octets)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Tagged<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(TAGGED, TaggedVisitor(PhantomData))
    }
}

struct TaggedVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for TaggedVisitor<T> {
    type Value = Tagged<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a tagged value")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Tagged<T>, A::Error> {
        let missing = || serde::de::Error::custom("wanted a tagged value");
        let tag = parts.next_element()?.ok_or_else(missing)?;
        let value = parts.next_element()?.ok_or_else(missing)?;
        Ok(Tagged { tag, value })
    }
}
