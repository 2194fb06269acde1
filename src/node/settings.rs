//! What a running node has to know besides what its kernel knows.

use super::connection::tls::{CertificateDates, TlsConfig};
use super::trace::TraceSink;
use crate::config::Settings;
use crate::config::settings::HandshakeLimits;
use crate::kernel::PeerLimits;
use crate::lane::LaneLimits;
use crate::node::StartError;
use crate::value::NodeId;
use crate::wire::auth::Secret;
use crate::wire::framing::FramingLimits;
use crate::wire::session::{HandshakeConfig, Handshaker, Tls};
use std::time::Duration;

/// Settings that stay as they are while the node runs.
#[derive(Debug)]
pub(crate) struct NodeSettings {
    pub(crate) handshaker: Handshaker,
    pub(crate) tls: Option<TlsConfig>,
    /// Those of the certificates for it.
    pub(crate) certificate_dates: Option<CertificateDates>,
    /// How long a handshake may take: Perl's `monitor_timeout`.
    pub(crate) monitor_timeout: Duration,
    pub(crate) lane_limits: LaneLimits,
    pub(crate) framing_limits: FramingLimits,
    /// Who may be in a handshake with us.
    pub(crate) handshake_limits: HandshakeLimits,
    /// What is kept on account of each peer.
    pub(crate) peer_limits: PeerLimits,
    /// Octets of messages that may wait in a port.
    pub(crate) port_limit: usize,
    /// Whether small packets are sent at once: Perl's `nodelay`.
    pub(crate) nodelay: bool,
    /// Who is shown every message: `PERL_ANYEVENT_MP_TRACE`.
    pub(crate) trace: Option<TraceSink>,
}

/// How a node with these settings shakes hands.
pub(crate) fn handshaker(settings: &Settings, node: &NodeId) -> Result<Handshaker, StartError> {
    let mut handshake = HandshakeConfig::new(node.as_str().data());
    handshake.auth_offer.clone_from(&settings.auth_offer);
    handshake.auth_accept.clone_from(&settings.auth_accept);
    handshake.framings.clone_from(&settings.framing_format);
    handshake.secret =
        settings.secret.as_ref().and_then(|secret| Secret::new(secret.expose().clone()));
    handshake.tls = match (&settings.cert, settings.tls_required) {
        (None, _) => Tls::Off,
        (Some(_), false) => Tls::Offered,
        (Some(_), true) => Tls::Required,
    };
    Handshaker::new(handshake).map_err(|error| StartError::Config(Box::new(error)))
}
