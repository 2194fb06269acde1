//! Names and tokens by which our own types pass through serde without loss.
//!
//! Serde has no string that is octets and text alike, and no tags. So our types are newtypes with the
//! names below, which our serializer and deserializer recognise. Other formats see the content of the
//! newtype.

use super::string::{StrKind, StrRef};
use serde::de::value::{BorrowedBytesDeserializer, U64Deserializer};
use serde::de::{self, DeserializeSeed, EnumAccess, Unexpected, VariantAccess, Visitor};
use serde::ser::{Serialize, Serializer};

/// A string of octets.
pub(super) const OCTETS: &str = "$aemp::Octets";
/// A string in generalized UTF-8.
pub(super) const TEXT: &str = "$aemp::Text";
/// Any string, requested of a deserializer.
pub(super) const STR: &str = "$aemp::Str";
/// An integer of up to 64 bits, signed or unsigned, requested of a deserializer.
pub(super) const INTEGER: &str = "$aemp::Integer";
/// Any value, requested of a deserializer.
pub(super) const VALUE: &str = "$aemp::Value";
/// One value in packed form, passed to a serializer.
pub(super) const PACKED: &str = "$aemp::Packed";
/// A list of values in packed form, passed to a serializer: a variant whose index is the number of
/// values, with their octets as content. Its name is [`PLAIN`] if none has an internal tag.
pub(super) const ELEMENTS: &str = "$aemp::Elements";
/// See [`ELEMENTS`].
pub(super) const PLAIN: &str = "$aemp::Plain";
/// A tag and its value, requested of a deserializer.
pub(super) const TAGGED: &str = "$aemp::Tagged";

/// The content of the newtype: our own serializer reports that it is not human-readable, and gets the
/// stored octets, as binary formats do; other formats get characters.
pub(super) struct Raw<'a>(pub(super) StrRef<'a>);

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&self.0.to_text_lossy())
        } else {
            serializer.serialize_bytes(self.0.data())
        }
    }
}

/// Whether a newtype is being written by our own serializer, the only one that is human-readable outside
/// the newtype and not inside it.
pub(super) fn is_ours<S: Serializer>(readable_outside: bool, inside: &S) -> bool {
    readable_outside && !inside.is_human_readable()
}

/// What our deserializer returns to a visitor that requested [`STR`] or [`VALUE`]: a variant with an
/// index that no other format returns.
pub(super) struct Given<'de> {
    what: u64,
    data: &'de [u8],
}

const GIVEN_OCTETS: u64 = 0x6165_6d70_9e37_79b9;
const GIVEN_TEXT: u64 = GIVEN_OCTETS + 1;
const GIVEN_VALUE: u64 = GIVEN_OCTETS + 2;

impl<'de> Given<'de> {
    /// A string in its stored form.
    #[inline]
    pub(super) fn string(string: StrRef<'de>) -> Self {
        let what = match string.kind() {
            StrKind::Octets => GIVEN_OCTETS,
            StrKind::Text => GIVEN_TEXT,
        };
        let data = string.data();
        Given { what, data }
    }

    /// One value in packed form.
    #[inline]
    pub(super) fn value(data: &'de [u8]) -> Self {
        let what = GIVEN_VALUE;
        Given { what, data }
    }
}

/// The content of a [`Given`].
pub(super) enum Received<'de> {
    /// A string.
    Str(StrRef<'de>),
    /// One value in packed form.
    Value(&'de [u8]),
}

impl<'de> Received<'de> {
    /// For a visitor's `visit_enum`.
    #[inline]
    pub(super) fn from_enum<A: EnumAccess<'de>>(access: A) -> Result<Self, A::Error> {
        let (what, variant) = access.variant::<u64>()?;
        if !matches!(what, GIVEN_OCTETS | GIVEN_TEXT | GIVEN_VALUE) {
            return Err(de::Error::invalid_type(Unexpected::Enum, &"a Perl value"));
        }
        let data = variant.newtype_variant()?;
        Ok(match what {
            GIVEN_OCTETS => Received::Str(StrRef::octets(data)),
            GIVEN_TEXT => Received::Str(StrRef::trusted(StrKind::Text, data)),
            _ => Received::Value(data),
        })
    }
}

impl<'de> EnumAccess<'de> for Given<'de> {
    type Error = super::DecodeError;
    type Variant = Self;

    #[inline]
    fn variant_seed<V>(self, seed: V) -> Result<(V::Value, Self), Self::Error>
    where
        V: DeserializeSeed<'de>,
    {
        let what = U64Deserializer::<Self::Error>::new(self.what);
        Ok((seed.deserialize(what)?, self))
    }
}

impl<'de> VariantAccess<'de> for Given<'de> {
    type Error = super::DecodeError;

    #[inline]
    fn newtype_variant_seed<T>(self, seed: T) -> Result<T::Value, Self::Error>
    where
        T: DeserializeSeed<'de>,
    {
        seed.deserialize(BorrowedBytesDeserializer::new(self.data))
    }

    // Only `Received` calls this, and only for the variants above.
    fn unit_variant(self) -> Result<(), Self::Error> {
        Err(de::Error::invalid_type(Unexpected::NewtypeVariant, &"a Perl value"))
    }

    fn tuple_variant<V>(self, _len: usize, _visitor: V) -> Result<V::Value, Self::Error>
    where
        V: Visitor<'de>,
    {
        Err(de::Error::invalid_type(Unexpected::NewtypeVariant, &"a Perl value"))
    }

    fn struct_variant<V>(
        self,
        _fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Self::Error>
    where
        V: Visitor<'de>,
    {
        Err(de::Error::invalid_type(Unexpected::NewtypeVariant, &"a Perl value"))
    }
}
