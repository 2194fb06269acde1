//! How each side proves itself: what we choose of what the peer accepts, and what we accept of it.

use super::config::{HandshakeConfig, Tls};
use super::lines::{AuthLine, framing_named};
use super::{AuthOrder, HandshakeError, TlsPeer};
use crate::wire::auth::AuthMethod;
use crate::wire::framing::Framing;
use crate::wire::greeting::{Greeting, printable};

/// On what the authentication lines are exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channel {
    Plain,
    Tls(TlsPeer),
}

/// What we have chosen for our side of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chosen {
    pub(super) method: AuthMethod,
    pub(super) framing: Framing,
    pub(super) tls: bool,
    pub(super) order: AuthOrder,
}

impl Chosen {
    /// The first method and framing in the peer's lists that we can send.
    pub(super) fn from(
        config: &HandshakeConfig,
        peer: &Greeting,
        order: AuthOrder,
    ) -> Result<Chosen, HandshakeError> {
        let tls = config.tls != Tls::Off && peer.offers_tls();
        if config.tls == Tls::Required && !tls {
            return Err(HandshakeError::TlsRequired);
        }
        let usable = |method: &AuthMethod| tls || !method.needs_tls();
        let offer: Vec<_> = config.auth_offer.iter().copied().filter(usable).collect();
        let peer_methods = peer.auth_methods.iter();
        let method = peer_methods
            .filter_map(|name| AuthMethod::from_name(name))
            .find(|method| offer.contains(method))
            .ok_or_else(|| HandshakeError::NoCommonAuth {
                peer_accepts: printable(&peer.auth_methods.join(&b',')),
                we_send: offer.iter().map(|method| method.name()).collect::<Vec<_>>().join(","),
            })?;
        let peer_framings = peer.framings.iter();
        let framing = peer_framings
            .filter_map(|name| framing_named(name))
            .find(|framing| config.framings.contains(framing))
            .ok_or_else(|| HandshakeError::NoCommonFraming {
                peer_accepts: printable(&peer.framings.join(&b',')),
                we_speak: names(&config.framings),
            })?;
        Ok(Chosen { method, framing, tls, order })
    }

    /// Our authentication line, for these two greetings.
    pub(super) fn line(&self, config: &HandshakeConfig, own: &[u8], peer: &[u8]) -> Vec<u8> {
        let Chosen { method, framing, .. } = self;
        // A checked configuration offers no method that lacks its secret.
        let token = method.token(config.secret.as_ref(), own, peer).unwrap_or_default();
        format!("{method};{token};{framing}\n").into_bytes()
    }
}

/// Judges the peer's authentication line: how it proved itself, and the framing in which it sends.
pub(super) fn verify(
    config: &HandshakeConfig,
    channel: Channel,
    line: &AuthLine,
    peer: &[u8],
    own: &[u8],
) -> Result<(AuthMethod, Framing), HandshakeError> {
    let method = AuthMethod::from_name(&line.method)
        .ok_or_else(|| HandshakeError::UnknownMethod { method: printable(&line.method) })?;
    if !config.auth_accept.contains(&method) {
        return Err(HandshakeError::MethodRefused { method });
    }
    match channel {
        Channel::Plain if method.needs_tls() => {
            return Err(HandshakeError::MethodOutsideTls { method });
        }
        Channel::Tls(TlsPeer::Anonymous) if method.needs_tls() => {
            return Err(HandshakeError::NoPeerCertificate { method });
        }
        Channel::Plain | Channel::Tls(_) => {}
    }
    if !method.verify(config.secret.as_ref(), &line.token, peer, own) {
        return Err(if method.needs_secret() {
            HandshakeError::WrongSecret { method }
        } else {
            HandshakeError::WrongToken { method }
        });
    }
    let accepted = line.known_framing().filter(|name| config.framings.contains(name));
    let framing = accepted.ok_or_else(|| HandshakeError::FramingRefused {
        framing: printable(&line.framing),
        we_accept: names(&config.framings),
    })?;
    Ok((method, framing))
}

fn names(framings: &[Framing]) -> String {
    framings.iter().map(|framing| framing.name()).collect::<Vec<_>>().join(",")
}
