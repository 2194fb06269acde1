//! What is odd about a configuration, without being wrong.

use super::address::SeedSpec;
use super::methods::UnknownName;
use super::profile::Origin;
use std::fmt;

/// Something that is probably not what was meant, but does no harm.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Warning {
    /// A key that means nothing here.
    UnknownKey {
        /// The key.
        key: String,
        /// Where it stands.
        origin: Origin,
        /// What was probably meant.
        nearest: Option<&'static str>,
    },
    /// A value of the program (its command line or builder) that the rc file overrides, as in Perl.
    Overridden {
        /// The key.
        key: String,
        /// Where the value that counts stands.
        origin: Origin,
    },
    /// A framing or method that means nothing here.
    UnknownName {
        /// The key.
        key: &'static str,
        /// Where it stands.
        origin: Origin,
        /// The name.
        unknown: UnknownName,
    },
    /// A seed without port.
    SeedWithoutPort {
        /// Where it stands.
        origin: Origin,
        /// The seed.
        seed: SeedSpec,
    },
    /// A text that says no and counts as yes.
    TrueText {
        /// The key.
        key: &'static str,
        /// Where it stands.
        origin: Origin,
        /// The text.
        text: String,
    },
    /// The secret itself is never sent.
    CleartextOffered {
        /// Where it stands.
        origin: Origin,
    },
    /// A parent that the file does not have.
    MissingParent {
        /// The child.
        origin: Origin,
        /// The parent.
        parent: String,
    },
    /// Only Perl nodes evaluate `eval`.
    PerlCode {
        /// Where it stands.
        origin: Origin,
    },
    /// Probably a value was forgotten.
    ProfileNamedLikeKey {
        /// The profile.
        profile: String,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKey { key, origin, nearest: None } => {
                write!(f, "{origin}: `{}` is no known key and ignored", key.escape_debug())
            }
            Self::UnknownKey { key, origin, nearest: Some(nearest) } => write!(
                f,
                "{origin}: `{}` is no known key and ignored; did you mean `{nearest}`?",
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
                write!(f, "{origin}: the parent {parent:?} is no profile in the file")
            }
            Self::ProfileNamedLikeKey { profile } => write!(
                f,
                "the odd first argument {profile:?} is taken for a profile's name; was a value \
                 forgotten?"
            ),
        }
    }
}
