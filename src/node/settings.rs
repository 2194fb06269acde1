//! What a running node has to know besides what its kernel knows.

use super::connection::tls::TlsConfig;
use super::trace::TraceSink;
use crate::config::settings::HandshakeLimits;
use crate::lane::LaneLimits;
use crate::wire::framing::FramingLimits;
use crate::wire::session::Handshaker;
use std::time::Duration;

/// Settings that stay as they are while the node runs.
#[derive(Debug)]
pub(crate) struct NodeSettings {
    pub(crate) handshaker: Handshaker,
    pub(crate) tls: Option<TlsConfig>,
    /// How long a handshake may take: Perl's `monitor_timeout`.
    pub(crate) monitor_timeout: Duration,
    pub(crate) lane_limits: LaneLimits,
    pub(crate) framing_limits: FramingLimits,
    /// Who may be in a handshake with us.
    pub(crate) handshake_limits: HandshakeLimits,
    /// Octets of messages that may wait in a port.
    pub(crate) port_limit: usize,
    /// Whether small packets are sent at once: Perl's `nodelay`.
    pub(crate) nodelay: bool,
    /// Who is shown every message: `PERL_ANYEVENT_MP_TRACE`.
    pub(crate) trace: Option<TraceSink>,
}
