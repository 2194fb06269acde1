//! Tags and their meaning.
//!
//! Most are registered CBOR tags, as Perl's encoder sends them. What only Perl's Storable can express
//! has internal tags, [`STORABLE`] and the ones after it. They are never sent: CBOR and JSON get the
//! value without them, and in received CBOR they are ignored.

use super::packed::{Item, Malformed, Reader, Token};

/// A big integer, as octets.
pub(crate) const BIGNUM: u64 = 2;
/// -1 minus a big integer.
pub(crate) const NEGATIVE_BIGNUM: u64 = 3;
/// A string that was sent before, referred to by its number.
pub(crate) const STRING_REFERENCE: u64 = 25;
/// A Perl object, `[class, values...]`, as its class has frozen it.
pub(crate) const PERL_OBJECT: u64 = 26;
/// A value that is referred to later.
pub(crate) const SHAREABLE: u64 = 28;
/// A value that was sent before, referred to by its number.
pub(crate) const SHARED_REFERENCE: u64 = 29;
/// The strings inside the value are numbered separately for references.
pub(crate) const STRING_NAMESPACE: u64 = 256;
/// A reference to something other than an array or hash: `\"text"`, `\\1`.
pub(crate) const INDIRECTION: u64 = 22098;

/// The first of the internal tags, four octets long; the last four bits say which one it is.
///
/// Each holds `[octets, value]`.
pub(crate) const STORABLE: u64 = 0x6165_6d70;
/// The first octets of the heads of all of them.
pub(crate) const STORABLE_HEAD: [u8; 4] = [0xda, 0x61, 0x65, 0x6d];

/// The meaning of an internal tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Storable {
    /// `[class, value]`: the result of `bless` on a reference.
    Blessed {
        /// The class has overloaded operators.
        overloaded: bool,
    },
    /// `[class, frozen]`, or `[class, [frozen, value...]]`: the result of the class's own
    /// `STORABLE_freeze`, with the values that it refers to, if any.
    Hook {
        /// The class has overloaded operators.
        overloaded: bool,
        /// Storable's number for the kind of value: 0 scalar, 1 array, 2 hash.
        kind: u8,
    },
    /// `[source text, value]`: a version string such as v1.2.3.
    VersionString,
    /// `[flags, pattern]`: the content of `qr//`.
    Regexp,
    /// `["", tagged value]`: the tag was received as an object that contains it, where Perl has other
    /// objects for this tag.
    Tagged,
    /// `[number, value]`: the value outside which labels have no meaning. The value is referred to from
    /// inside itself. The number is that of its first label; numbers are octets in big-endian order,
    /// without leading zeros.
    Scope,
    /// `[number, value]`: a value that is referred to elsewhere in the same scope.
    Label,
    /// `[number, undef]`: a reference to the value with this label.
    Again {
        /// Whether it is a weak reference.
        weak: bool,
    },
}

impl Storable {
    /// The tag.
    pub(crate) fn tag(self) -> u64 {
        STORABLE
            + match self {
                Storable::Blessed { overloaded } => u64::from(overloaded),
                Storable::Hook { overloaded, kind } => {
                    2 + 2 * u64::from(kind.min(2)) + u64::from(overloaded)
                }
                Storable::VersionString => 8,
                Storable::Regexp => 9,
                Storable::Tagged => 10,
                Storable::Scope => 11,
                Storable::Label => 12,
                Storable::Again { weak } => 13 + u64::from(weak),
            }
    }

    /// The meaning of a tag, if it is an internal one.
    pub(crate) fn of(tag: u64) -> Option<Storable> {
        Some(match tag.checked_sub(STORABLE)? {
            low @ 0..=1 => Storable::Blessed { overloaded: low == 1 },
            low @ 2..=7 => Storable::Hook { overloaded: low % 2 == 1, kind: (low / 2 - 1) as u8 },
            8 => Storable::VersionString,
            9 => Storable::Regexp,
            10 => Storable::Tagged,
            11 => Storable::Scope,
            12 => Storable::Label,
            low @ 13..=14 => Storable::Again { weak: low == 14 },
            _ => return None,
        })
    }
}

/// Whether the tag is an internal one, which must not be sent.
pub(crate) fn is_internal(tag: u64) -> bool {
    (STORABLE..STORABLE + 16).contains(&tag)
}

/// Whether the value of this tag is an array that begins with a class, or with something else that is
/// not data.
pub(crate) fn has_class(tag: u64) -> bool {
    tag == PERL_OBJECT || is_internal(tag)
}

/// The number of items after the head of a tag: one, or two if the array of an internal tag (which is
/// skipped) is not a level of its own.
pub(super) fn items_of(tag: u64, reader: &mut Reader<'_>) -> Result<u64, Malformed> {
    if is_internal(tag) {
        let mut inside = reader.clone();
        if let Ok(Item::Token(Token::Array(len @ 1..))) = inside.item() {
            *reader = inside;
            return Ok(len as u64);
        }
    }
    Ok(1)
}

/// The octets without internal tags, if they have any.
///
/// # Errors
/// The octets are not in packed form.
pub(crate) fn without_internal(octets: &[u8]) -> Result<Option<Vec<u8>>, Malformed> {
    if is_cbor(octets) {
        return Ok(None);
    }
    let mut reader = Reader::new(octets);
    let mut out = Vec::with_capacity(octets.len());
    while !reader.is_done() {
        let start = reader.position();
        if let Item::Tag(tag) = reader.item()?
            && is_internal(tag)
        {
            // Next is the value, or an array of another form, which stays.
            let mut inside = reader.clone();
            if inside.item()? == Item::Token(Token::Array(2)) {
                inside.skip()?;
                reader = inside;
            }
            continue;
        }
        out.extend_from_slice(octets.get(start..reader.position()).unwrap_or_default());
    }
    Ok(Some(out))
}

/// Whether packed values can be sent as CBOR unchanged: nothing in them looks like an internal tag.
pub(crate) fn is_cbor(octets: &[u8]) -> bool {
    memchr::memmem::find(octets, &STORABLE_HEAD).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_tags_do_not_leave() {
        let storable = |kind: Storable, value: &[u8]| {
            let mut out = Vec::new();
            super::super::packed::put_tag(&mut out, kind.tag());
            assert_eq!(Storable::of(kind.tag()), Some(kind));
            assert!(out.starts_with(&STORABLE_HEAD) && out.len() == 5);
            out.extend_from_slice(b"\x82\x43Foo");
            out.extend_from_slice(value);
            out
        };
        let inner = storable(Storable::Hook { overloaded: true, kind: 2 }, b"\x41x");
        let outer =
            storable(Storable::Blessed { overloaded: false }, &[b"\x81", &inner[..]].concat());
        let all = [b"\x01", &outer[..], b"\xda"].concat();
        let clean = without_internal(&all[..all.len() - 1]).unwrap().unwrap();
        assert_eq!(clean, b"\x01\x81\x41x");
        assert_eq!(without_internal(b"\x44\xda\x61\x65\x6a").unwrap(), None);
        let text = b"\x45\xda\x61\x65\x6d\x70";
        assert_eq!(without_internal(text).unwrap().unwrap(), text);
    }
}
