//! What a running node needs to know beyond what its kernel knows.

use super::connection::tls::{AnonymousClients, CertificateDates, Encryption, Identity, TlsConfig};
use super::long_work::Turns;
use super::trace::TraceSink;
use crate::config::Settings;
use crate::config::settings::HandshakeLimits;
use crate::kernel::PeerLimits;
use crate::lane::LaneLimits;
use crate::node::error::StartError;
use crate::value::NodeId;
use crate::wire::auth::Secret;
use crate::wire::framing::FramingLimits;
use crate::wire::session::{Encrypt, HandshakeConfig, Handshaker};
use std::time::Duration;

/// Settings that do not change while the node runs.
#[derive(Debug)]
pub(crate) struct NodeSettings {
    pub(crate) handshaker: Handshaker,
    pub(crate) encryption: Encryption,
    /// The dates of its certificates.
    pub(crate) certificate_dates: Option<CertificateDates>,
    /// How long a handshake may take: Perl's `monitor_timeout`.
    pub(crate) monitor_timeout: Duration,
    pub(crate) lane_limits: LaneLimits,
    pub(crate) framing_limits: FramingLimits,
    /// The limits of pending handshakes.
    pub(crate) handshake_limits: HandshakeLimits,
    /// The limits of what is held on account of each peer.
    pub(crate) peer_limits: PeerLimits,
    /// Octets of messages that may be queued in a port.
    pub(crate) port_limit: usize,
    /// How long a shutdown may take to write what was sent.
    pub(crate) shutdown: Duration,
    /// Whether small packets are sent without delay (`TCP_NODELAY`): Perl's `nodelay`.
    pub(crate) nodelay: bool,
    /// Where every message is traced: `PERL_ANYEVENT_MP_TRACE`.
    pub(crate) trace: Option<TraceSink>,
}

impl NodeSettings {
    /// Whether encryption was configured: a certificate, or `encrypt 1`.
    pub(crate) fn wants_encryption(&self) -> bool {
        let handshake = self.handshaker.config();
        handshake.certificate || handshake.encrypt == Encrypt::Always
    }
}

/// The parameters of handshakes for a node with these settings.
pub(crate) fn handshaker(settings: &Settings, node: &NodeId) -> Result<Handshaker, StartError> {
    let mut handshake = HandshakeConfig::new(node.as_str().data());
    handshake.auth_offer.clone_from(&settings.auth_offer);
    handshake.auth_accept.clone_from(&settings.auth_accept);
    handshake.framings.clone_from(&settings.framing_format);
    handshake.secret =
        settings.secret.as_ref().and_then(|secret| Secret::new(secret.expose().clone()));
    handshake.certificate = settings.cert.is_some();
    handshake.encrypt = settings.encrypt;
    handshake.encryption_required = settings.tls_required;
    let mut instance = [0; 8];
    getrandom::fill(&mut instance).map_err(|error| StartError::Randomness(error.to_string()))?;
    handshake.instance = Some(format!("{:016x}", u64::from_ne_bytes(instance)));
    handshake.knows_get = true;
    Handshaker::new(handshake).map_err(config)
}

/// The certificate of these settings, with its key.
pub(crate) fn identity(settings: &Settings) -> Result<Option<Identity>, StartError> {
    let identity = settings.cert.as_ref().map(|pem| Identity::from_pem(pem.expose().as_bytes()));
    identity.transpose().map_err(config)
}

/// What a node needs for TLS. Must be called inside a runtime.
pub(crate) fn encryption(identity: Option<&Identity>, handshaker: &Handshaker) -> Encryption {
    let certificates = identity.map(|identity| TlsConfig::new(identity, AnonymousClients::Refused));
    let offers_bound = handshaker.config().encrypt != Encrypt::Never;
    let threads = tokio::runtime::Handle::current().metrics().num_workers();
    Encryption { certificates, offers_bound, turns: Turns::new(threads / 2) }
}

fn config(error: impl std::error::Error + Send + Sync + 'static) -> StartError {
    StartError::Config(Box::new(error))
}
