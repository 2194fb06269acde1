//! Authentication between nodes: methods, tokens, the secret and the nonce.

use super::hex;
use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use hmac::{Hmac, Mac as _};
use sha3::{Digest as _, Sha3_512};
use subtle::ConstantTimeEq as _;

/// An authentication method (`docs/protocol.md` §1.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuthMethod {
    /// The certificate authenticates the node; the token ties the greetings to the TLS connection.
    TlsSha3_512,
    /// Both sides know the same secret, which is never sent.
    HmacSha3_512,
    /// The certificate alone; the peer is untrusted.
    TlsAnon,
    /// The secret itself, in hex. Accepted for simple clients, never sent.
    Cleartext,
    /// Both sides know the same secret and are the two ends of one TLS session: the only method in a
    /// bound session ([`bound_token`]), and of no use anywhere else.
    HmacBoundSha3_512,
}

impl AuthMethod {
    /// The methods listed in greetings and in the configuration, in the order of Perl's default
    /// `auth_accept`. [`AuthMethod::HmacBoundSha3_512`] is not listed: where it is used, it is the only
    /// method, whatever the lists contain.
    pub const LISTED: [AuthMethod; 4] = [
        AuthMethod::TlsSha3_512,
        AuthMethod::HmacSha3_512,
        AuthMethod::TlsAnon,
        AuthMethod::Cleartext,
    ];

    /// The method's name in greetings, authentication lines and configuration.
    pub const fn name(self) -> &'static str {
        match self {
            AuthMethod::TlsSha3_512 => "tls_sha3_512",
            AuthMethod::HmacSha3_512 => "hmac_sha3_512",
            AuthMethod::TlsAnon => "tls_anon",
            AuthMethod::Cleartext => "cleartext",
            AuthMethod::HmacBoundSha3_512 => "hmac_bound_sha3_512",
        }
    }

    /// The method with this name, if it is known.
    pub fn from_name(name: &[u8]) -> Option<AuthMethod> {
        let all = AuthMethod::LISTED.into_iter().chain([AuthMethod::HmacBoundSha3_512]);
        all.into_iter().find(|method| method.name().as_bytes() == name)
    }

    /// Whether the method requires TLS with a verified certificate.
    pub fn needs_certificate(self) -> bool {
        matches!(self, AuthMethod::TlsSha3_512 | AuthMethod::TlsAnon)
    }

    /// Whether the method requires a secret that both sides know.
    pub fn needs_secret(self) -> bool {
        !self.needs_certificate()
    }

    /// Whether a node that lists the method may send it. Like Perl, nodes never send
    /// [`AuthMethod::Cleartext`], even if it is configured.
    pub fn may_be_sent(self) -> bool {
        !matches!(self, AuthMethod::Cleartext | AuthMethod::HmacBoundSha3_512)
    }

    /// The token by which the node with the greeting `own` authenticates to the one with the greeting
    /// `other`.
    ///
    /// Both are complete greetings: two lines, each with its LF. Returns `None` if the method needs a
    /// secret and there is none, and for [`AuthMethod::HmacBoundSha3_512`], which needs a TLS session as
    /// well ([`bound_token`]).
    pub fn token(self, secret: Option<&Secret>, own: &[u8], other: &[u8]) -> Option<String> {
        match self {
            AuthMethod::TlsAnon => Some(String::new()),
            AuthMethod::TlsSha3_512 => {
                Some(hex::encode(&Sha3_512::new().chain_update(own).chain_update(other).finalize()))
            }
            AuthMethod::HmacSha3_512 => secret.and_then(|secret| secret.hmac(&[own, other])),
            AuthMethod::Cleartext => secret.map(|Secret(octets)| hex::encode(octets)),
            AuthMethod::HmacBoundSha3_512 => None,
        }
    }

    /// Whether the token is the one that the node with the greeting `sender` must send to `receiver`.
    ///
    /// The time that this takes reveals nothing about the right token.
    pub fn verify(
        self,
        secret: Option<&Secret>,
        token: &[u8],
        sender: &[u8],
        receiver: &[u8],
    ) -> bool {
        self.token(secret, sender, receiver).is_some_and(|expected| is_same(&expected, token))
    }
}

/// A value that only the two ends of one TLS session know: 64 octets of its exporter (RFC 8446, 7.5) for
/// the label [`Exporter::LABEL`] without context. It is never displayed.
#[derive(Clone, PartialEq, Eq)]
pub struct Exporter([u8; Exporter::OCTETS]);

impl Exporter {
    /// The number of exported octets.
    pub const OCTETS: usize = 64;

    /// The exporter label. RFC 5705 reserves labels that begin with `EXPERIMENTAL` for private use.
    pub const LABEL: &[u8] = b"EXPERIMENTAL aemp hmac_bound_sha3_512";

    /// Wraps the octets that the TLS library has exported.
    pub fn new(octets: [u8; Exporter::OCTETS]) -> Exporter {
        Exporter(octets)
    }
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exporter(hidden)")
    }
}

/// The role of a node in a TLS session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsRole {
    /// The node with the smaller nonce.
    Client,
    /// The other node.
    Server,
}

impl TlsRole {
    /// The role of the peer.
    #[must_use]
    pub fn other(self) -> TlsRole {
        match self {
            TlsRole::Client => TlsRole::Server,
            TlsRole::Server => TlsRole::Client,
        }
    }

    /// The word for it in the input of [`bound_token`].
    pub fn name(self) -> &'static str {
        match self {
            TlsRole::Client => "client",
            TlsRole::Server => "server",
        }
    }
}

/// The prefix of the input of every bound token. No greeting begins like this (a greeting has no space
/// or zero octet there), so a plain token never has the same input as a bound one.
const BOUND_DOMAIN: &[u8] = b"aemp hmac_bound_sha3_512\0";

/// The token of [`AuthMethod::HmacBoundSha3_512`] by which the node with the greeting `own`, in this
/// role in the TLS session, authenticates to the one with the greeting `other` (`docs/protocol.md`
/// §1.8).
///
/// Both are complete greetings: two lines, each with its LF.
pub fn bound_token(
    secret: &Secret,
    exporter: &Exporter,
    role: TlsRole,
    own: &[u8],
    other: &[u8],
) -> Option<String> {
    secret.hmac(&[BOUND_DOMAIN, &exporter.0, role.name().as_bytes(), own, other])
}

/// Whether the token is the one that the node with the greeting `sender`, in this role in the TLS
/// session, must send to `receiver`. The time that this takes reveals nothing about the right token.
pub fn verify_bound(
    secret: &Secret,
    token: &[u8],
    exporter: &Exporter,
    role: TlsRole,
    sender: &[u8],
    receiver: &[u8],
) -> bool {
    bound_token(secret, exporter, role, sender, receiver)
        .is_some_and(|expected| is_same(&expected, token))
}

/// Compares tokens in constant time. Digests have a fixed length, so not even the length of a cleartext
/// secret is revealed.
fn is_same(expected: &str, token: &[u8]) -> bool {
    Sha3_512::digest(expected).ct_eq(&Sha3_512::digest(token)).into()
}

impl fmt::Display for AuthMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for AuthMethod {
    type Err = UnknownAuthMethod;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        AuthMethod::from_name(name.as_bytes()).ok_or_else(|| UnknownAuthMethod(name.to_owned()))
    }
}

/// The name of an authentication method that does not exist.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown authentication method {0:?}: use tls_sha3_512, hmac_sha3_512, tls_anon or cleartext"
)]
pub struct UnknownAuthMethod(pub String);

/// The secret shared by all nodes of a network: any octets, never displayed.
#[derive(Clone)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// Wraps the octets. An empty secret counts as none, as in Perl.
    pub fn new(octets: impl Into<Vec<u8>>) -> Option<Secret> {
        let octets = octets.into();
        (!octets.is_empty()).then(|| Secret(octets.into_boxed_slice()))
    }

    /// HMAC-SHA3-512 of the concatenated parts, in lower-case hex.
    fn hmac(&self, parts: &[&[u8]]) -> Option<String> {
        let mut hmac = Hmac::<Sha3_512>::new_from_slice(&self.0).ok()?;
        parts.iter().for_each(|part| hmac.update(part));
        Some(hex::encode(&hmac.finalize().into_bytes()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

/// The random second line of a greeting, which makes every token valid for one connection only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nonce(String);

impl Nonce {
    /// The number of random octets in a nonce.
    pub const OCTETS: usize = 66;

    /// Makes the line, 88 characters of base64, from the octets of a secure random source.
    pub fn from_random(octets: &[u8; Nonce::OCTETS]) -> Nonce {
        Nonce(base64::engine::general_purpose::STANDARD.encode(octets))
    }

    /// The line, without its LF.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::greeting;

    #[test]
    fn methods_have_names() {
        for method in AuthMethod::LISTED.into_iter().chain([AuthMethod::HmacBoundSha3_512]) {
            assert_eq!(AuthMethod::from_name(method.name().as_bytes()), Some(method));
        }
        assert!("hmac_md6_64_256".parse::<AuthMethod>().unwrap_err().to_string().contains("md6"));
    }

    #[test]
    fn a_method_needs_either_tls_or_a_secret() {
        for method in AuthMethod::LISTED {
            assert_eq!(method.needs_secret(), method.token(None, b"a", b"b").is_none());
        }
    }

    #[test]
    fn cleartext_is_the_secret_in_hex() {
        let secret = Secret::new("geheim");
        let token = AuthMethod::Cleartext.token(secret.as_ref(), b"", b"");
        assert_eq!(token.as_deref(), Some("67656865696d"));
    }

    #[test]
    fn without_a_secret_nothing_that_needs_one_verifies() {
        assert!(Secret::new("").is_none());
        assert!(!AuthMethod::Cleartext.verify(None, b"", b"a", b"b"));
        assert!(!AuthMethod::HmacSha3_512.verify(None, b"", b"a", b"b"));
    }

    #[test]
    fn a_token_holds_in_one_direction_only() {
        let secret = Secret::new("geheim");
        for method in [AuthMethod::HmacSha3_512, AuthMethod::TlsSha3_512] {
            let token = method.token(secret.as_ref(), b"a", b"b").unwrap();
            assert!(method.verify(secret.as_ref(), token.as_bytes(), b"a", b"b"));
            assert!(!method.verify(secret.as_ref(), token.as_bytes(), b"b", b"a"));
            assert!(!method.verify(secret.as_ref(), b"", b"a", b"b"));
            assert!(!method.verify(secret.as_ref(), &token.as_bytes()[1..], b"a", b"b"));
        }
        assert!(!AuthMethod::TlsAnon.verify(None, b"x", b"a", b"b"));
    }

    #[test]
    fn a_bound_token_holds_in_one_session_from_one_end_and_in_one_direction_only() {
        use TlsRole::{Client, Server};
        let secret = Secret::new("geheim").unwrap();
        let (session, other_session) = (Exporter::new([1; 64]), Exporter::new([2; 64]));
        let token = bound_token(&secret, &session, Client, b"a", b"b").unwrap();
        let holds = |secret: &Secret, session, role, sender: &[u8], receiver: &[u8]| {
            verify_bound(secret, token.as_bytes(), session, role, sender, receiver)
        };
        assert!(holds(&secret, &session, Client, b"a", b"b"));
        assert!(!holds(&secret, &other_session, Client, b"a", b"b"));
        assert!(!holds(&secret, &session, Server, b"a", b"b"));
        assert!(!holds(&secret, &session, Client, b"b", b"a"));
        assert!(!holds(&Secret::new("other").unwrap(), &session, Client, b"a", b"b"));
    }

    #[test]
    fn no_bound_token_serves_as_a_plain_one_nor_the_other_way_round() {
        let secret = Secret::new("geheim");
        let exporter = Exporter::new([0; 64]);
        let bound =
            bound_token(secret.as_ref().unwrap(), &exporter, TlsRole::Client, b"a", b"b").unwrap();
        for method in AuthMethod::LISTED {
            assert!(!method.verify(secret.as_ref(), bound.as_bytes(), b"a", b"b"));
        }
        let method = AuthMethod::HmacBoundSha3_512;
        assert_eq!(method.token(secret.as_ref(), b"a", b"b"), None);
        assert!(!method.verify(secret.as_ref(), bound.as_bytes(), b"a", b"b"));
        for protocol in [greeting::AEMP, greeting::AEMP_DATACONN] {
            let first_field = [protocol, b";"].concat();
            assert!(!BOUND_DOMAIN.starts_with(&first_field), "a greeting may begin like this");
        }
    }

    #[test]
    fn the_secret_is_never_shown() {
        let secret = Secret::new("geheim");
        assert_eq!(format!("{secret:?}"), "Some(Secret(hidden))");
        assert_eq!(format!("{:?}", Exporter::new([1; 64])), "Exporter(hidden)");
    }

    #[test]
    fn a_nonce_is_88_characters() {
        let nonce = Nonce::from_random(&[0xff; Nonce::OCTETS]);
        assert_eq!(nonce.as_bytes(), [b'/'; 88]);
    }
}
