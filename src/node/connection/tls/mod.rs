//! TLS between nodes, on a stream over which both have greeted.
//!
//! [`Identity`] is the setting `cert`; [`TlsConfig`] is what [`handshake`] needs of it. Both nodes
//! present a certificate, and each verifies the other's against its own file: there are no host
//! names, no system certificates, and no resumed sessions (`docs/protocol.md` §1.6).

mod bound;
mod certificate;
mod dates;
mod gencert;
mod pem;
#[cfg(test)]
mod tests;
mod verifier;

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use rustls::{
    AlertDescription, ClientConfig, ServerConfig, SignatureScheme, SupportedProtocolVersion,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

pub use self::bound::{BoundTls, BoundTlsError};
pub use self::certificate::{Fingerprint, Moment, Validity};
pub(crate) use self::dates::Reminder;
pub use self::dates::{CertificateDates, CertificatePlace, DateProblem, DateWarning, WARNING_DAYS};
pub use self::gencert::{GencertError, gencert};
pub use self::pem::{Identity, PemError};
pub use self::verifier::Refusal;
use self::verifier::{PeerCertificate, Trust, Verifier};
use crate::node::long_work::Turns;
pub use crate::rewind::Rewind;
use crate::wire::session::TlsPeer;

/// Whether a TLS client may connect without a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AnonymousClients {
    /// Every peer has to present a certificate, as Perl nodes demand. `tls_anon` does not change
    /// that: it is for peers that have a certificate and still want to count as untrusted.
    #[default]
    Refused,
    /// A peer without a certificate passes as [`TlsPeer::Anonymous`], and still has to
    /// authenticate. Only peers written for it can rely on that: which side is the TLS client
    /// depends on the nonces, and in half of all connections the peer is the server, which needs a
    /// certificate.
    Allowed,
}

/// Everything that a node needs for both kinds of TLS that greetings can lead to.
#[derive(Clone, Debug)]
pub(crate) struct Encryption {
    /// For TLS with certificates, if the node has one.
    pub(crate) certificates: Option<TlsConfig>,
    /// Whether the node offers TLS that is bound to the secret.
    pub(crate) offers_bound: bool,
    /// Of TLS handshakes, each step of which may take a millisecond: one for every other thread of the
    /// runtime.
    pub(crate) turns: Turns,
}

/// What TLS handshakes with certificates need, made once per node. Cheap to clone.
#[derive(Clone)]
pub struct TlsConfig {
    provider: Arc<CryptoProvider>,
    own_certificate: Arc<OwnCertificate>,
    trust: Arc<Trust>,
    anonymous_clients: AnonymousClients,
    clock: Arc<dyn TimeProvider>,
    versions: &'static [&'static SupportedProtocolVersion],
}

impl TlsConfig {
    /// TLS 1.2 and 1.3 with this identity.
    pub fn new(identity: &Identity, anonymous_clients: AnonymousClients) -> TlsConfig {
        TlsConfig {
            provider: identity.provider.clone(),
            own_certificate: Arc::new(OwnCertificate(identity.certified_key.clone())),
            trust: identity.trust.clone(),
            anonymous_clients,
            clock: Arc::new(DefaultTimeProvider),
            versions: rustls::ALL_VERSIONS,
        }
    }

    /// A new verifier for each handshake, since rustls shows the peer's certificate only to the
    /// verifier.
    fn verifier(&self) -> Arc<Verifier> {
        let anonymous_clients = self.anonymous_clients == AnonymousClients::Allowed;
        Arc::new(Verifier::new(self.trust.clone(), anonymous_clients))
    }

    fn client(&self, verifier: Arc<Verifier>) -> Result<ClientConfig, rustls::Error> {
        let (provider, clock) = (self.provider.clone(), self.clock.clone());
        let mut config = ClientConfig::builder_with_details(provider, clock)
            .with_protocol_versions(self.versions)?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(self.own_certificate.clone());
        config.resumption = Resumption::disabled();
        config.enable_sni = false;
        Ok(config)
    }

    fn server(&self, verifier: Arc<Verifier>) -> Result<ServerConfig, rustls::Error> {
        let (provider, clock) = (self.provider.clone(), self.clock.clone());
        let mut config = ServerConfig::builder_with_details(provider, clock)
            .with_protocol_versions(self.versions)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(self.own_certificate.clone());
        // A resumed session would skip the verification of the peer.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConfig")
            .field("trusted", &self.trust.len())
            .field("anonymous_clients", &self.anonymous_clients)
            .finish_non_exhaustive()
    }
}

/// Presents the node's only certificate, whatever name or issuers the peer asks for.
struct OwnCertificate(Arc<CertifiedKey>);

impl fmt::Debug for OwnCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnCertificate")
    }
}

impl ResolvesServerCert for OwnCertificate {
    fn resolve(&self, _client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

impl ResolvesClientCert for OwnCertificate {
    fn resolve(
        &self,
        _issuers: &[&[u8]],
        _schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// A connection on which the TLS handshake is complete.
#[derive(Debug)]
pub struct Established<IO> {
    /// The encrypted stream.
    ///
    /// Perl nodes close it without a TLS alert: a read then fails with
    /// [`io::ErrorKind::UnexpectedEof`] instead of returning nothing, and means the same. An error
    /// of the first read may mean that the peer has refused us: [`TlsError::on_established`].
    pub stream: TlsStream<IO>,
    /// The certificate that the peer presented; none if it is anonymous.
    pub peer_certificate: Option<Fingerprint>,
}

impl<IO> Established<IO> {
    /// For [`Session::tls_established`](crate::wire::session::Session::tls_established).
    pub fn peer(&self) -> TlsPeer {
        match self.peer_certificate {
            Some(_) => TlsPeer::Verified,
            None => TlsPeer::Anonymous,
        }
    }

    /// Version and cipher in one line for people, such as `TLSv1_3 TLS13_AES_256_GCM_SHA384`.
    pub fn summary(&self) -> String {
        let (_, connection) = self.stream.get_ref();
        let version = connection.protocol_version();
        let cipher = connection.negotiated_cipher_suite();
        let words = [
            version.map(|version| format!("{version:?}")),
            cipher.map(|cipher| format!("{:?}", cipher.suite())),
        ];
        words.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }
}

/// Why TLS with a peer failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// We refuse the peer's certificate.
    #[error("peer's certificate (SHA-256 {fingerprint}) was refused: {reason}")]
    Certificate {
        /// The certificate's fingerprint, so that somebody can find or trust it.
        fingerprint: Fingerprint,
        /// Why.
        reason: Refusal,
    },
    /// We have no certificate ourselves.
    #[error("this node has no certificate")]
    NoIdentity,
    /// This node does not offer encryption that is bound to the secret.
    #[error("this node does not offer encryption that is bound to the secret")]
    NotOffered,
    /// Encryption that is bound to the secret could not be set up.
    #[error(transparent)]
    Bound(#[from] BoundTlsError),
    /// The peer closed the connection during the TLS handshake of a bound connection.
    #[error("peer closed the connection during the TLS handshake")]
    Cut,
    /// The peer presented no certificate.
    #[error(
        "peer presented no certificate: it has none, or one with a key of a kind that cannot be \
         used here (RSA-PSS, Ed448, RSA of more than 8192 bits)"
    )]
    NoCertificate,
    /// The peer ended TLS, usually because it refuses our certificate.
    #[error("peer ended TLS with alert {alert}{hint}", hint = hint(*.alert))]
    Alert {
        /// The alert's name in the TLS standard.
        alert: Alert,
    },
    /// The peer closed the connection.
    ///
    /// Perl nodes do so, without an alert, if they refuse our certificate.
    #[error("peer closed the connection during the TLS handshake: it may refuse our certificate")]
    Closed,
    /// The peer does not speak TLS, violates the protocol, or has no TLS version in common with us.
    #[error("TLS failed: {0}")]
    Protocol(#[source] rustls::Error),
    /// The connection broke.
    #[error("connection broke during the TLS handshake: {0}")]
    Io(#[source] io::Error),
}

/// A TLS alert, named as in the TLS standard.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Alert(AlertDescription);

impl fmt::Display for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl fmt::Debug for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn hint(alert: Alert) -> &'static str {
    match alert.0 {
        AlertDescription::UnknownCA
        | AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::CertificateExpired
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::DecryptError => ": it refuses our certificate",
        _ => "",
    }
}

impl TlsError {
    /// What an error of reading from or writing to an established stream says about TLS; `None` if
    /// the connection just broke.
    ///
    /// In TLS 1.3 the client completes the handshake before the server has verified it, so a
    /// refusal of our certificate arrives here. (A Perl node just closes the connection.)
    pub fn on_established(error: &io::Error) -> Option<TlsError> {
        let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
        Some(TlsError::from_rustls(error.clone(), &PeerCertificate::default()))
    }

    fn in_handshake(error: io::Error, verifier: &Verifier) -> TlsError {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
        match inner.cloned() {
            Some(inner) => TlsError::from_rustls(inner, &verifier.seen()),
            None if error.kind() == io::ErrorKind::UnexpectedEof => TlsError::Closed,
            None => TlsError::Io(error),
        }
    }

    fn in_bound_handshake(error: io::Error) -> TlsError {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
        match inner.cloned() {
            Some(inner) => TlsError::from_rustls(inner, &PeerCertificate::default()),
            None if error.kind() == io::ErrorKind::UnexpectedEof => TlsError::Cut,
            None => TlsError::Io(error),
        }
    }

    fn from_rustls(error: rustls::Error, seen: &PeerCertificate) -> TlsError {
        if let (Some(fingerprint), Some(reason)) = (seen.presented, seen.refusal.clone()) {
            return TlsError::Certificate { fingerprint, reason };
        }
        match error {
            rustls::Error::NoCertificatesPresented => TlsError::NoCertificate,
            rustls::Error::AlertReceived(alert) => TlsError::Alert { alert: Alert(alert) },
            error => TlsError::Protocol(error),
        }
    }
}

/// Performs the TLS handshake on a stream, starting with the very next octet in both directions.
///
/// Which side is the client depends on the nonces
/// ([`Event::StartTls`](crate::wire::session::Event::StartTls)), not on who dialled. [`Rewind`]
/// gives back octets that were read beyond the greeting. The handshake has no time limit of its
/// own; dropping the future cancels it.
pub async fn handshake<IO>(
    stream: IO,
    we_are_client: bool,
    config: &TlsConfig,
) -> Result<Established<IO>, TlsError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let verifier = config.verifier();
    let result = if we_are_client {
        let client = config.client(verifier.clone());
        let connector = TlsConnector::from(Arc::new(client.map_err(TlsError::Protocol)?));
        let nobody = ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into());
        connector.connect(nobody, stream).await.map(TlsStream::from)
    } else {
        let server = config.server(verifier.clone());
        let acceptor = TlsAcceptor::from(Arc::new(server.map_err(TlsError::Protocol)?));
        acceptor.accept(stream).await.map(TlsStream::from)
    };
    match result {
        Ok(stream) => Ok(Established { stream, peer_certificate: verifier.seen().presented }),
        Err(error) => Err(TlsError::in_handshake(error, &verifier)),
    }
}
