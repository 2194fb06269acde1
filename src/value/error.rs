//! Errors of conversions between Rust types and packed form.

use super::nesting::MAX_NESTING;
use super::packed::{Malformed, Token};
use super::show::{Quoted, describe, one_line};
use super::string::{Str, StrRef};
use serde::de::{Expected, Unexpected};
use std::fmt::{self, Write as _};
use thiserror::Error;

/// A Rust value that cannot be encoded as a message.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// Arrays, hashes and tags are nested deeper than [`MAX_NESTING`].
    #[error("nested deeper than {MAX_NESTING} levels, which Perl nodes refuse")]
    TooDeep,
    /// A map key that cannot become a string.
    #[error("{0} cannot be a hash key; use a string, an integer, a bool or a unit variant")]
    Key(&'static str),
    /// A type that announced another number of elements or fields than it serialized.
    #[error("the type announced {announced} values and gave {given}")]
    Length {
        /// The announced number.
        announced: usize,
        /// The actual number.
        given: usize,
    },
    /// An error of a type's own `Serialize`.
    #[error("{0}")]
    Custom(Box<str>),
}

impl serde::ser::Error for EncodeError {
    #[cold]
    fn custom<T: fmt::Display>(message: T) -> Self {
        EncodeError::Custom(one_line(&message.to_string()))
    }
}

/// A message or value that cannot be decoded as the requested type.
///
/// Its text is one line with the path to the place, what was wanted and what was found: `element 2, key
/// "x", element 0: wanted u32, found string "abc"`. Elements count from 0.
#[derive(Clone, PartialEq)]
pub struct DecodeError(Box<Detail>);

#[derive(Clone, PartialEq)]
struct Detail {
    kind: DecodeErrorKind,
    /// From the innermost step outwards.
    path: Vec<Step>,
}

#[derive(Clone, PartialEq)]
enum Step {
    Element(usize),
    Key(Str),
}

/// The reason of a decoding error.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum DecodeErrorKind {
    /// A value of another kind than the type needs, which Perl would not convert either.
    #[error("wanted {wanted}, found {found}")]
    Wanted {
        /// The kind that the type needs.
        wanted: Box<str>,
        /// The value that was found.
        found: Box<str>,
    },
    /// A number that the type cannot hold.
    #[error("{number} is out of range for {wanted}")]
    OutOfRange {
        /// The type.
        wanted: &'static str,
        /// The number.
        number: Box<str>,
    },
    /// A Perl string that is not a Rust string: it has surrogates or code points above U+10FFFF. [`Str`]
    /// and [`Value`](super::Value) accept it.
    #[error("string {0} is not Unicode text; ask for Str or Value")]
    NotText(Box<str>),
    /// A message whose tag is not a variant of the enum.
    #[error("unknown tag {tag}, expected {}", one_of(expected))]
    UnknownTag {
        /// The tag, in quotes.
        tag: Box<str>,
        /// The variants.
        expected: &'static [&'static str],
    },
    /// A hash without a key that the struct needs.
    #[error("key \"{0}\" is missing")]
    MissingKey(&'static str),
    /// Arrays, hashes and tags are nested deeper than [`MAX_NESTING`].
    #[error("nested deeper than {MAX_NESTING} levels")]
    TooDeep,
    /// Octets that are not in packed form.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// An error of a type's own `Deserialize`.
    #[error("{0}")]
    Custom(Box<str>),
}

/// The maximum number of tags, and of steps of the path, that an error shows.
const NAMED: usize = 12;

fn one_of(expected: &[&str]) -> String {
    let mut list = String::new();
    for tag in expected.iter().take(NAMED) {
        let separator = if list.is_empty() { "" } else { ", " };
        let _ = write!(list, "{separator}{}", Quoted::short(StrRef::text(tag)));
    }
    match expected.len() {
        0 => "none".into(),
        1 => list,
        2..=NAMED => format!("one of {list}"),
        more => format!("one of {list} and {} more", more - NAMED),
    }
}

impl DecodeError {
    /// The reason of the error.
    pub fn kind(&self) -> &DecodeErrorKind {
        &self.0.kind
    }

    /// The path from the message to the place, such as `element 2, key "x"`; empty for the whole
    /// message.
    pub fn path(&self) -> String {
        let mut path = String::new();
        let steps = self.0.path.len();
        for step in self.0.path.iter().rev().take(NAMED) {
            let separator = if path.is_empty() { "" } else { ", " };
            let _ = match step {
                Step::Element(index) => write!(path, "{separator}element {index}"),
                Step::Key(key) => {
                    write!(path, "{separator}key {}", Quoted::short(key.as_ref()))
                }
            };
        }
        if steps > NAMED {
            let _ = write!(path, " and {} levels down", steps - NAMED);
        }
        path
    }

    #[cold]
    pub(super) fn new(kind: DecodeErrorKind) -> Self {
        let path = Vec::new();
        DecodeError(Box::new(Detail { kind, path }))
    }

    #[cold]
    pub(super) fn wanted(wanted: &str, found: Token<'_>) -> Self {
        DecodeError::new(DecodeErrorKind::Wanted {
            wanted: wanted.into(),
            found: describe(found).into(),
        })
    }

    #[cold]
    pub(super) fn out_of_range(wanted: &'static str, number: impl fmt::Display) -> Self {
        let number = number.to_string().into();
        DecodeError::new(DecodeErrorKind::OutOfRange { wanted, number })
    }

    #[cold]
    pub(super) fn not_text(string: StrRef<'_>) -> Self {
        DecodeError::new(DecodeErrorKind::NotText(Quoted::short(string).to_string().into()))
    }

    #[cold]
    pub(super) fn too_deep() -> Self {
        DecodeError::new(DecodeErrorKind::TooDeep)
    }

    /// Adds element `index` to the path.
    #[cold]
    pub(super) fn in_element(mut self, index: usize) -> Self {
        self.0.path.push(Step::Element(index));
        self
    }

    /// Adds `key` to the path.
    #[cold]
    pub(super) fn in_key(mut self, key: StrRef<'_>) -> Self {
        self.0.path.push(Step::Key(key.to_owned()));
        self
    }

    /// Marks the value as missing, in contrast to undef.
    #[cold]
    pub(super) fn missing(mut self) -> Self {
        if let DecodeErrorKind::Wanted { found, .. } = &mut self.0.kind {
            *found = "nothing".into();
        }
        self
    }
}

impl From<Malformed> for DecodeError {
    #[cold]
    fn from(error: Malformed) -> Self {
        DecodeError::new(error.into())
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.path.is_empty() {
            write!(f, "{}: ", self.path())?;
        }
        self.0.kind.fmt(f)
    }
}

impl fmt::Debug for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecodeError")
            .field("path", &self.path())
            .field("kind", &self.0.kind)
            .finish()
    }
}

impl std::error::Error for DecodeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0.kind {
            DecodeErrorKind::Malformed(malformed) => Some(malformed),
            _ => None,
        }
    }
}

impl serde::de::Error for DecodeError {
    #[cold]
    fn custom<T: fmt::Display>(message: T) -> Self {
        DecodeError::new(DecodeErrorKind::Custom(one_line(&message.to_string())))
    }

    #[cold]
    fn invalid_type(found: Unexpected<'_>, wanted: &dyn Expected) -> Self {
        let found = match found {
            Unexpected::Unit | Unexpected::Option => "undef".into(),
            Unexpected::Bool(b) => b.to_string(),
            Unexpected::Unsigned(n) => format!("number {n}"),
            Unexpected::Signed(n) => format!("number {n}"),
            Unexpected::Float(x) => format!("number {}", super::Number::Float(x)),
            Unexpected::Str(text) => format!("string {}", Quoted::short(text.into())),
            Unexpected::Bytes(octets) => {
                format!("string {}", Quoted::short(StrRef::octets(octets)))
            }
            Unexpected::Seq => "an array".into(),
            Unexpected::Map => "a hash".into(),
            other => other.to_string(),
        };
        DecodeError::new(DecodeErrorKind::Wanted {
            wanted: one_line(&wanted.to_string()),
            found: found.into(),
        })
    }

    #[cold]
    fn invalid_value(found: Unexpected<'_>, wanted: &dyn Expected) -> Self {
        Self::invalid_type(found, wanted)
    }

    #[cold]
    fn unknown_variant(tag: &str, expected: &'static [&'static str]) -> Self {
        let tag = Quoted::short(tag.into()).to_string().into();
        DecodeError::new(DecodeErrorKind::UnknownTag { tag, expected })
    }

    #[cold]
    fn missing_field(key: &'static str) -> Self {
        DecodeError::new(DecodeErrorKind::MissingKey(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::de::Error as _;

    #[test]
    fn a_long_way_is_shortened() {
        let mut error = DecodeError::wanted("u32", Token::Str("abc".into()));
        assert_eq!(error.to_string(), "wanted u32, found string \"abc\"");
        error = error.in_element(0).in_key("x\n".into()).in_element(2);
        assert_eq!(
            error.to_string(),
            r#"element 2, key "x\n", element 0: wanted u32, found string "abc""#
        );
        for _ in 0..20 {
            error = error.in_element(7);
        }
        assert!(error.path().ends_with("element 7 and 11 levels down"));
        assert!(format!("{error:?}").contains("Wanted"));
    }

    #[test]
    fn tags_are_listed_up_to_a_dozen() {
        assert_eq!(one_of(&[]), "none");
        assert_eq!(one_of(&["a"]), "\"a\"");
        assert_eq!(one_of(&["a", "b"]), "one of \"a\", \"b\"");
        assert!(one_of(&["x"; 15]).ends_with("\"x\" and 3 more"));
        let error = DecodeError::unknown_variant("c", &["a", "b"]);
        assert_eq!(error.to_string(), "unknown tag \"c\", expected one of \"a\", \"b\"");
    }

    #[test]
    fn what_serde_found_is_named_in_perls_words() {
        for (found, text) in [
            (Unexpected::Unit, "undef"),
            (Unexpected::Bool(true), "true"),
            (Unexpected::Unsigned(1), "number 1"),
            (Unexpected::Signed(-1), "number -1"),
            (Unexpected::Float(1e16), "number 1e+16"),
            (Unexpected::Str("a\n"), "string \"a\\n\""),
            (Unexpected::Bytes(b"\xe9"), "string \"é\""),
            (Unexpected::Seq, "an array"),
            (Unexpected::Map, "a hash"),
            (Unexpected::Char('c'), "character `c`"),
        ] {
            let error = DecodeError::invalid_value(found, &"a thing");
            assert_eq!(error.to_string(), format!("wanted a thing, found {text}"));
        }
    }

    #[test]
    fn malformed_octets_are_the_source() {
        let error = DecodeError::from(Malformed { at: 3 });
        assert!(std::error::Error::source(&error).is_some());
        assert!(std::error::Error::source(&DecodeError::too_deep()).is_none());
        assert_eq!(error.missing().to_string(), "not in packed form at octet 3");
        assert_eq!(EncodeError::from(super::super::nesting::TooDeep), EncodeError::TooDeep);
    }
}
