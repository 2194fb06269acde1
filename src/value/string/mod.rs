//! Perl's string type: a sequence of code points, received as octets or as text.

mod code_points;
mod octets;
mod shown;

use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::Utf8Error;
use std::sync::Arc;

pub use self::code_points::CodePoints;
pub(crate) use self::code_points::{push_code_point, valid_generalized};
pub(crate) use self::octets::{is_ascii, same};
pub(crate) use self::shown::is_deceptive;
pub(super) use self::shown::write_point;

/// How a string is stored, which is also how it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StrKind {
    /// Every octet is one code point below 256 (CBOR major type 2).
    Octets,
    /// Generalized UTF-8: as UTF-8, but surrogates and code points above U+10FFFF may occur
    /// (CBOR major type 3).
    Text,
}

/// A borrowed Perl string. Strings are equal if they have the same code points, as octets or as text.
///
/// `b"\xe9"` and `"é"` are the same string in Perl, so they compare and hash alike here.
#[derive(Clone, Copy)]
pub struct StrRef<'a> {
    kind: StrKind,
    data: &'a [u8],
}

impl<'a> StrRef<'a> {
    /// A string whose code points are these octets.
    #[inline]
    pub const fn octets(data: &'a [u8]) -> Self {
        StrRef { kind: StrKind::Octets, data }
    }

    /// A string of characters.
    #[inline]
    pub const fn text(text: &'a str) -> Self {
        StrRef { kind: StrKind::Text, data: text.as_bytes() }
    }

    /// A string from generalized UTF-8; `None` if the octets are not valid.
    pub fn generalized(data: &'a [u8]) -> Option<Self> {
        valid_generalized(data).then_some(StrRef { kind: StrKind::Text, data })
    }

    /// As [`StrRef::generalized`], for octets that were validated before.
    ///
    /// Invalid octets are harmless: the code points are unspecified then.
    #[inline]
    pub(crate) const fn trusted(kind: StrKind, data: &'a [u8]) -> Self {
        StrRef { kind, data }
    }

    /// Octets or text.
    #[inline]
    pub const fn kind(self) -> StrKind {
        self.kind
    }

    /// The stored octets, whose meaning depends on [`StrRef::kind`].
    #[inline]
    pub const fn data(self) -> &'a [u8] {
        self.data
    }

    /// Whether the string has no code points.
    pub const fn is_empty(self) -> bool {
        self.data.is_empty()
    }

    /// The code points; values above `0x10FFFF` and surrogates are possible.
    pub fn code_points(self) -> CodePoints<'a> {
        CodePoints { kind: self.kind, rest: self.data }
    }

    /// The string in generalized UTF-8. Equal strings have equal canonical octets.
    #[inline]
    pub fn canonical(self) -> Cow<'a, [u8]> {
        if self.kind == StrKind::Text || is_ascii(self.data) {
            return Cow::Borrowed(self.data);
        }
        Cow::Owned(self.octets_in_utf8())
    }

    #[cold]
    fn canonical_eq(self, other: StrRef<'_>) -> bool {
        self.canonical() == other.canonical()
    }

    #[cold]
    fn octets_in_utf8(self) -> Vec<u8> {
        let mut utf8 = Vec::with_capacity(self.data.len() + self.data.len() / 2);
        for &octet in self.data {
            push_code_point(&mut utf8, u64::from(octet));
        }
        utf8
    }

    /// The string as characters.
    ///
    /// # Errors
    /// A code point is not a Unicode character (a surrogate, or above U+10FFFF).
    pub fn to_text(self) -> Result<Cow<'a, str>, Utf8Error> {
        match self.canonical() {
            Cow::Borrowed(utf8) => std::str::from_utf8(utf8).map(Cow::Borrowed),
            Cow::Owned(utf8) => {
                String::from_utf8(utf8).map(Cow::Owned).map_err(|error| error.utf8_error())
            }
        }
    }

    /// Whether the string begins with these characters, in either form of storage.
    pub fn starts_with(self, beginning: &str) -> bool {
        let mut points = self.code_points();
        beginning
            .chars()
            .all(|wanted| points.next().is_some_and(|point| point == u64::from(wanted)))
    }

    /// The string as characters; other code points become U+FFFD.
    pub fn to_text_lossy(self) -> Cow<'a, str> {
        match self.to_text() {
            Ok(text) => text,
            Err(_) => Cow::Owned(
                self.code_points()
                    .map(|point| {
                        u32::try_from(point)
                            .ok()
                            .and_then(char::from_u32)
                            .unwrap_or(char::REPLACEMENT_CHARACTER)
                    })
                    .collect(),
            ),
        }
    }

    /// The string as octets; `None` if a code point is above 255.
    pub fn to_octets(self) -> Option<Cow<'a, [u8]>> {
        if self.kind == StrKind::Octets || is_ascii(self.data) {
            return Some(Cow::Borrowed(self.data));
        }
        self.code_points()
            .map(|point| u8::try_from(point).ok())
            .collect::<Option<Vec<u8>>>()
            .map(Cow::Owned)
    }

    /// Concatenates strings: the result is octets if all of them are, otherwise text.
    pub fn concat(parts: &[StrRef<'_>]) -> Str {
        let kind = match parts.iter().all(|part| part.kind == StrKind::Octets) {
            true => StrKind::Octets,
            false => StrKind::Text,
        };
        let mut data = Vec::with_capacity(parts.iter().map(|part| part.data.len()).sum());
        for part in parts {
            match kind {
                StrKind::Octets => data.extend_from_slice(part.data),
                StrKind::Text => data.extend_from_slice(&part.canonical()),
            }
        }
        let data = data.into();
        Str { kind, data }
    }

    /// An owned copy.
    pub fn to_owned(self) -> Str {
        Str { kind: self.kind, data: Arc::from(self.data) }
    }
}

impl PartialEq for StrRef<'_> {
    #[inline(always)]
    fn eq(&self, other: &Self) -> bool {
        let same = same(self.data, other.data);
        if self.kind == other.kind {
            return same;
        }
        // ASCII octets are the same in text.
        let octets = if self.kind == StrKind::Octets { self.data } else { other.data };
        if is_ascii(octets) { same } else { self.canonical_eq(*other) }
    }
}

impl Eq for StrRef<'_> {}

impl PartialOrd for StrRef<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for StrRef<'_> {
    /// By code points, as Perl's `cmp`.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        if self.kind == other.kind {
            // UTF-8 preserves the order of code points.
            return self.data.cmp(other.data);
        }
        self.code_points().cmp(other.code_points())
    }
}

/// Hashes the canonical octets as `str` does: 0xff never occurs in them, so it marks the end of the
/// string.
impl Hash for StrRef<'_> {
    #[inline(always)]
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self.kind == StrKind::Text || is_ascii(self.data) {
            true => state.write(self.data),
            false => state.write(&self.octets_in_utf8()),
        }
        state.write_u8(0xff);
    }
}

impl<'a> From<&'a str> for StrRef<'a> {
    fn from(text: &'a str) -> Self {
        StrRef::text(text)
    }
}

impl<'a> From<&'a Str> for StrRef<'a> {
    fn from(string: &'a Str) -> Self {
        string.as_ref()
    }
}

impl fmt::Debug for StrRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_text_lossy(), f)
    }
}

/// An owned Perl string. Clones share the storage.
#[derive(Clone)]
pub struct Str {
    kind: StrKind,
    data: Arc<[u8]>,
}

impl Str {
    /// A string whose code points are these octets.
    pub fn octets(data: impl Into<Arc<[u8]>>) -> Self {
        Str { kind: StrKind::Octets, data: data.into() }
    }

    /// A string of characters.
    pub fn text(text: &str) -> Self {
        StrRef::text(text).to_owned()
    }

    /// The same string, borrowed.
    #[inline]
    pub fn as_ref(&self) -> StrRef<'_> {
        StrRef { kind: self.kind, data: &self.data }
    }

    /// Whether the string has no code points.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// The string as characters; other code points become U+FFFD.
    pub fn to_text_lossy(&self) -> Cow<'_, str> {
        self.as_ref().to_text_lossy()
    }

    /// Whether the string begins with these characters, in either form of storage.
    pub fn starts_with(&self, beginning: &str) -> bool {
        self.as_ref().starts_with(beginning)
    }
}

/// As [`Str::to_text_lossy`].
impl From<Str> for String {
    fn from(string: Str) -> Self {
        string.to_text_lossy().into_owned()
    }
}

impl Default for Str {
    fn default() -> Self {
        Str::text("")
    }
}

impl PartialEq for Str {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.as_ref() == other.as_ref()
    }
}

impl Eq for Str {}

impl PartialEq<str> for Str {
    fn eq(&self, other: &str) -> bool {
        self.as_ref() == StrRef::text(other)
    }
}

impl PartialEq<&str> for Str {
    fn eq(&self, other: &&str) -> bool {
        *self == **other
    }
}

impl PartialOrd for Str {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Str {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_ref().cmp(&other.as_ref())
    }
}

impl Hash for Str {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_ref().hash(state);
    }
}

impl PartialEq<str> for StrRef<'_> {
    #[inline]
    fn eq(&self, other: &str) -> bool {
        *self == StrRef::text(other)
    }
}

impl PartialEq<&str> for StrRef<'_> {
    fn eq(&self, other: &&str) -> bool {
        *self == **other
    }
}

impl From<&str> for Str {
    fn from(text: &str) -> Self {
        Str::text(text)
    }
}

impl From<String> for Str {
    fn from(text: String) -> Self {
        Str::text(&text)
    }
}

impl From<&[u8]> for Str {
    fn from(octets: &[u8]) -> Self {
        Str::octets(octets)
    }
}

impl From<Vec<u8>> for Str {
    fn from(octets: Vec<u8>) -> Self {
        Str::octets(octets)
    }
}

impl From<StrRef<'_>> for Str {
    fn from(string: StrRef<'_>) -> Self {
        string.to_owned()
    }
}

impl From<&Str> for Str {
    fn from(string: &Str) -> Self {
        string.clone()
    }
}

impl fmt::Debug for Str {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_ref().fmt(f)
    }
}

impl fmt::Display for Str {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.as_ref(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_of_any_length_are_the_same_only_if_each_is() {
        let octets: Vec<u8> = (0..40).collect();
        for len in 0..octets.len() {
            let (one, mut other) = (&octets[..len], octets[..len].to_vec());
            assert!(same(one, &other));
            assert!(!same(one, &octets[..len + 1]));
            for at in 0..len {
                other[at] ^= 0x80;
                assert!(!same(one, &other), "{at} of {len}");
                other[at] ^= 0x80;
            }
        }
    }

    #[test]
    fn octets_and_text_with_equal_code_points_are_one_string() {
        let octets = Str::octets(&b"caf\xe9"[..]);
        let text = Str::text("café");
        assert_eq!(octets, text);
        assert_eq!(octets.cmp(&text), std::cmp::Ordering::Equal);
        let hash = |s: &Str| {
            use std::hash::BuildHasher;
            std::hash::BuildHasherDefault::<std::collections::hash_map::DefaultHasher>::default()
                .hash_one(s)
        };
        assert_eq!(hash(&octets), hash(&text));
        assert_ne!(Str::octets("café".as_bytes()), text);
    }

    #[test]
    fn surrogates_and_beyond_are_strings_but_no_text() {
        for utf8 in [&b"\xed\xa0\x80"[..], b"\xf4\x90\x80\x80", b"\xfe\x83\xbf\xbf\xbf\xbf\xbf"] {
            let string = StrRef::generalized(utf8).unwrap();
            assert!(string.to_text().is_err());
            let mut again = Vec::new();
            string.code_points().for_each(|point| push_code_point(&mut again, point));
            assert_eq!(again, utf8);
        }
        assert!(StrRef::generalized(b"\xc0\x80").is_none(), "overlong");
        assert!(StrRef::generalized(b"\xe2\x82").is_none(), "cut");
        assert!(StrRef::generalized(b"\xff").is_none());
    }

    #[test]
    fn text_goes_to_octets_only_below_256() {
        assert_eq!(StrRef::text("é").to_octets().as_deref(), Some(&b"\xe9"[..]));
        assert_eq!(StrRef::text("€").to_octets(), None);
    }

    #[test]
    fn a_beginning_is_compared_by_code_points() {
        for string in [Str::octets(&b"caf\xe9 1"[..]), Str::text("café 1")] {
            assert!(string.starts_with("café"));
            assert!(string.starts_with(""));
            assert!(!string.starts_with("cafe"));
            assert!(!string.starts_with("café 12"));
            assert_eq!(String::from(string), "café 1");
        }
    }

    #[test]
    fn code_points_of_every_length_are_read() {
        for (point, len) in [
            (0x7f, 1),
            (0x7ff, 2),
            (0xffff, 3),
            (0x1f_ffff, 4),
            (0x3ff_ffff, 5),
            (0x7fff_ffff, 6),
            (0xf_ffff_ffff, 7),
        ] {
            let mut data = Vec::new();
            push_code_point(&mut data, point);
            assert_eq!(data.len(), len);
            let string = StrRef::generalized(&data).unwrap();
            assert_eq!(string.code_points().collect::<Vec<_>>(), [point]);
            for cut in 1..len {
                assert!(StrRef::generalized(&data[..cut]).is_none());
            }
        }
        assert!(StrRef::generalized(b"\xe2\x28\xa1").is_none());
        let wrong = StrRef::trusted(StrKind::Text, b"a\xffb").code_points();
        assert_eq!(wrong.collect::<Vec<_>>(), [0x61, 0xfffd, 0x62]);
    }

    #[test]
    fn strings_are_ordered_by_code_points() {
        let mut strings = [
            Str::text("€"),
            Str::octets(&b"\xe9"[..]),
            Str::text("é!"),
            Str::default(),
            Str::from(&b"e"[..]),
        ];
        strings.sort();
        let sorted: Vec<_> = strings.iter().map(Str::to_text_lossy).collect();
        assert_eq!(sorted, ["", "e", "é", "é!", "€"]);
        assert!(StrRef::text("a") < StrRef::octets(b"\xe9"));
        assert!(Str::text("a") < Str::text("b"));
        assert!(strings.iter().min().is_some_and(Str::is_empty));
    }

    #[test]
    fn strings_join_as_octets_or_text() {
        let (a, b) = (StrRef::octets(b"\xe9"), StrRef::text("€"));
        assert_eq!(StrRef::concat(&[a, a]), "éé");
        assert_eq!(StrRef::concat(&[a, a]).as_ref().kind(), StrKind::Octets);
        assert_eq!(StrRef::concat(&[a, b]), "é€");
        assert_eq!(StrRef::concat(&[]), Str::default());
    }
}
