//! Authentication of both sides: the choice of our method from the peer's list, and the check of the
//! peer's line.

use super::config::HandshakeConfig;
use super::lines::{AuthLine, framing_named};
use super::{AuthOrder, HandshakeError, TlsPeer};
use crate::wire::auth::{self, AuthMethod, Exporter, TlsRole};
use crate::wire::framing::Framing;
use crate::wire::greeting::{Greeting, printable};
use crate::wire::protection::Protection;

/// The channel on which the authentication lines are exchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Channel {
    Plain,
    /// In TLS with certificates.
    Tls(TlsPeer),
    /// In TLS that only the proofs tie to the two nodes.
    Bound {
        exporter: Exporter,
        own_role: TlsRole,
    },
}

/// Our choices for a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct LocalChoices {
    pub(super) method: AuthMethod,
    pub(super) framing: Framing,
    pub(super) protection: Protection,
    pub(super) order: AuthOrder,
}

impl LocalChoices {
    /// The choices that follow from both greetings: the first method and framing in the peer's lists
    /// that we can send.
    pub(super) fn from(
        config: &HandshakeConfig,
        own: &Greeting,
        peer: &Greeting,
        order: AuthOrder,
    ) -> Result<LocalChoices, HandshakeError> {
        let protection = Protection::of(own, peer);
        if let (true, Protection::Plain(why)) = (config.encryption_required, protection) {
            return Err(HandshakeError::EncryptionRequired { why: why.name() });
        }
        let method = match protection {
            Protection::Bound => AuthMethod::HmacBoundSha3_512,
            Protection::Certificates => listed_method(config, peer, true)?,
            Protection::Plain(_) => listed_method(config, peer, false)?,
        };
        let peer_framings = peer.framings.iter();
        let framing = peer_framings
            .filter_map(|name| framing_named(name))
            .find(|framing| config.framings.contains(framing))
            .ok_or_else(|| HandshakeError::NoCommonFraming {
                peer_accepts: printable(&peer.framings.join(&b',')),
                we_speak: names(&config.framings),
            })?;
        Ok(LocalChoices { method, framing, protection, order })
    }

    /// Our authentication line for these two greetings.
    pub(super) fn line(
        &self,
        config: &HandshakeConfig,
        channel: &Channel,
        own: &[u8],
        peer: &[u8],
    ) -> Vec<u8> {
        let LocalChoices { method, framing, .. } = self;
        let secret = config.secret.as_ref();
        let token = match channel {
            Channel::Bound { exporter, own_role } => {
                secret.and_then(|secret| auth::bound_token(secret, exporter, *own_role, own, peer))
            }
            Channel::Plain | Channel::Tls(_) => method.token(secret, own, peer),
        };
        // A checked configuration offers no method without its secret.
        format!("{method};{};{framing}\n", token.unwrap_or_default()).into_bytes()
    }
}

/// The first method in the peer's list that we can send.
fn listed_method(
    config: &HandshakeConfig,
    peer: &Greeting,
    has_certificates: bool,
) -> Result<AuthMethod, HandshakeError> {
    let usable = |method: &AuthMethod| has_certificates || !method.needs_certificate();
    let offer: Vec<_> = config.auth_offer.iter().copied().filter(usable).collect();
    let peer_methods = peer.auth_methods.iter();
    peer_methods
        .filter_map(|name| AuthMethod::from_name(name))
        .find(|method| offer.contains(method))
        .ok_or_else(|| HandshakeError::NoCommonAuth {
            peer_accepts: printable(&peer.auth_methods.join(&b',')),
            we_send: offer.iter().map(|method| method.name()).collect::<Vec<_>>().join(","),
        })
}

/// Checks the peer's authentication line, and returns its method and the framing of its packets.
pub(super) fn verify(
    config: &HandshakeConfig,
    channel: &Channel,
    line: &AuthLine,
    peer: &[u8],
    own: &[u8],
) -> Result<(AuthMethod, Framing), HandshakeError> {
    let method = AuthMethod::from_name(&line.method)
        .ok_or_else(|| HandshakeError::UnknownMethod { method: printable(&line.method) })?;
    match (channel, method) {
        (Channel::Bound { exporter, own_role }, AuthMethod::HmacBoundSha3_512) => {
            let proves = config.secret.as_ref().is_some_and(|secret| {
                auth::verify_bound(secret, &line.token, exporter, own_role.other(), peer, own)
            });
            if !proves {
                return Err(HandshakeError::WrongBoundToken);
            }
        }
        (Channel::Bound { .. }, _) => return Err(HandshakeError::MethodInBoundSession { method }),
        (Channel::Plain | Channel::Tls(_), AuthMethod::HmacBoundSha3_512) => {
            return Err(HandshakeError::NotABoundSession);
        }
        (Channel::Plain | Channel::Tls(_), _) => {
            verify_listed(config, channel, method, &line.token, peer, own)?;
        }
    }
    let accepted = line.known_framing().filter(|name| config.framings.contains(name));
    let framing = accepted.ok_or_else(|| HandshakeError::FramingRefused {
        framing: printable(&line.framing),
        we_accept: names(&config.framings),
    })?;
    Ok((method, framing))
}

/// Checks a token of one of the methods that we have listed.
fn verify_listed(
    config: &HandshakeConfig,
    channel: &Channel,
    method: AuthMethod,
    token: &[u8],
    peer: &[u8],
    own: &[u8],
) -> Result<(), HandshakeError> {
    if !config.auth_accept.contains(&method) {
        return Err(HandshakeError::MethodRefused { method });
    }
    if method.needs_certificate() {
        match channel {
            Channel::Tls(TlsPeer::Verified) => {}
            Channel::Tls(TlsPeer::Anonymous) => {
                return Err(HandshakeError::NoPeerCertificate { method });
            }
            Channel::Plain | Channel::Bound { .. } => {
                return Err(HandshakeError::MethodOutsideTls { method });
            }
        }
    }
    match method.verify(config.secret.as_ref(), token, peer, own) {
        true => Ok(()),
        false if method.needs_secret() => Err(HandshakeError::WrongSecret { method }),
        false => Err(HandshakeError::WrongToken { method }),
    }
}

fn names(framings: &[Framing]) -> String {
    framings.iter().map(|framing| framing.name()).collect::<Vec<_>>().join(",")
}
