//! Warnings about a configuration that is valid but probably not what was meant.

use super::address::SeedSpec;
use super::methods::UnknownName;
use super::profile::Origin;
use std::fmt;

/// A setting that is harmless but probably not what was meant.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Warning {
    /// An unknown key.
    UnknownKey {
        /// The key.
        key: String,
        /// Where it is set.
        origin: Origin,
        /// The key that was probably meant.
        nearest: Option<&'static str>,
    },
    /// A value of the command line or builder that the rc file overrides, as in Perl.
    Overridden {
        /// The key.
        key: String,
        /// Where the effective value is set.
        origin: Origin,
    },
    /// An unknown framing or method.
    UnknownName {
        /// The key.
        key: &'static str,
        /// Where it is set.
        origin: Origin,
        /// The name.
        unknown: UnknownName,
    },
    /// A seed without port.
    SeedWithoutPort {
        /// Where it is set.
        origin: Origin,
        /// The seed.
        seed: SeedSpec,
    },
    /// A text that looks like "no" but counts as true.
    TrueText {
        /// The key.
        key: &'static str,
        /// Where it is set.
        origin: Origin,
        /// The text.
        text: String,
    },
    /// `auth_offer` has the method `cleartext`, but the secret itself is never sent.
    CleartextOffered {
        /// Where it is set.
        origin: Origin,
    },
    /// A parent that is not in the file.
    MissingParent {
        /// The child.
        origin: Origin,
        /// The parent.
        parent: String,
    },
    /// Only Perl nodes evaluate `eval`.
    PerlCode {
        /// Where it is set.
        origin: Origin,
    },
    /// A profile's name that is also a key: probably its value was forgotten.
    ProfileNamedLikeKey {
        /// The profile.
        profile: String,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKey { key, origin, nearest: None } => {
                write!(f, "{origin}: `{}` is not a known key and is ignored", key.escape_debug())
            }
            Self::UnknownKey { key, origin, nearest: Some(nearest) } => write!(
                f,
                "{origin}: `{}` is not a known key and is ignored; did you mean `{nearest}`?",
                key.escape_debug()
            ),
            Self::Overridden { key, origin } => write!(
                f,
                "{origin}: `{key}` overrides the value given on the command line or by the program; \
                 `force 1` lets that one win, `norc 1` ignores the file"
            ),
            Self::PerlCode { origin } => write!(
                f,
                "{origin}: `eval` is Perl code, which only Perl nodes evaluate: this node ignores \
                 it; use `services` with functions that are registered, or run this profile with \
                 Perl's tool"
            ),
            Self::UnknownName { key, origin, unknown } => {
                write!(f, "{origin}: `{key}`: {unknown}; it is ignored")
            }
            Self::SeedWithoutPort { origin, seed } => write!(
                f,
                "{origin}: `seeds`: {seed} has no port, {0} is used (Perl nodes use none and \
                 fail); write {seed}:{0}",
                seed.port_or_default()
            ),
            Self::TrueText { key, origin, text } => {
                write!(f, "{origin}: `{key}`: {text:?} counts as true; write 0 for false")
            }
            Self::CleartextOffered { origin } => write!(
                f,
                "{origin}: `auth_offer`: cleartext is ignored, the secret itself is never sent"
            ),
            Self::MissingParent { origin, parent } => {
                write!(f, "{origin}: the parent {parent:?} is not a profile in the file")
            }
            Self::ProfileNamedLikeKey { profile } => write!(
                f,
                "the odd first argument {profile:?} is taken for a profile's name; was a value \
                 forgotten?"
            ),
        }
    }
}
