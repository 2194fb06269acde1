//! The names of framings and authentication methods.

use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// A name that this version does not know. Other nodes may: it is ignored as long as a known one
/// is left.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{name:?} is not known here (known are {known})")]
pub struct UnknownName {
    /// The name.
    pub name: String,
    known: &'static str,
}

macro_rules! named_enum {
    ($(#[$doc:meta])* $type:ident, $known:literal { $($(#[$variant_doc:meta])* $variant:ident = $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $type { $($(#[$variant_doc])* $variant,)* }

        impl $type {
            /// All of them, in the default order of preference.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name on the wire and in the configuration.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }

        impl FromStr for $type {
            type Err = UnknownName;

            fn from_str(name: &str) -> Result<Self, UnknownName> {
                match name {
                    $($name => Ok(Self::$variant),)*
                    _ => Err(UnknownName { name: name.into(), known: $known }),
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

named_enum! {
    /// How packets are put into octets (`docs/protocol.md` §2).
    FramingFormat, "cbor, json and storable" {
        /// CBOR items one after another.
        Cbor = "cbor",
        /// JSON texts one after another.
        Json = "json",
        /// Perl's Storable, with a length before each packet.
        Storable = "storable",
    }
}

named_enum! {
    /// How a node proves that it belongs to the network (`docs/protocol.md` §1.5).
    AuthMethod, "tls_sha3_512, hmac_sha3_512, tls_anon and cleartext" {
        /// Inside TLS: a hash of both greetings.
        TlsSha3_512 = "tls_sha3_512",
        /// A keyed hash of both greetings; the key is the secret.
        HmacSha3_512 = "hmac_sha3_512",
        /// Inside TLS: nothing; the peer is not trusted.
        TlsAnon = "tls_anon",
        /// The secret itself. Accepted, never sent.
        Cleartext = "cleartext",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_shown() {
        for framing in FramingFormat::ALL {
            assert_eq!(framing.to_string().parse(), Ok(*framing));
        }
        for method in AuthMethod::ALL {
            assert_eq!(method.to_string().parse(), Ok(*method));
        }
    }

    #[test]
    fn an_unknown_name_is_told_with_the_known_ones() {
        let error = "yaml".parse::<FramingFormat>().unwrap_err().to_string();
        assert_eq!(error, "\"yaml\" is not known here (known are cbor, json and storable)");
    }
}
