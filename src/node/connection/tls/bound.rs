//! TLS without verified certificates. Inside it, both ends prove that they know the secret and
//! share this very session: encryption that is bound to the secret (`docs/protocol.md` §1.8).

use super::{Established, OwnCertificate, TlsError};
use crate::wire::auth::Exporter;
use rcgen::{CertificateParams, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConnection, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, ServerConnection};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme};
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OnceCell;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

/// What TLS handshakes of bound connections need. Cheap to clone.
#[derive(Clone)]
pub struct BoundTls {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl BoundTls {
    /// The one of this process, made for the first handshake of any of its nodes: most nodes on one machine
    /// never need it, and the first key takes the library tens of milliseconds.
    pub(crate) async fn of_this_process() -> Result<BoundTls, TlsError> {
        static MADE: OnceCell<BoundTls> = OnceCell::const_new();
        let make = || async {
            let made = tokio::task::spawn_blocking(BoundTls::new).await;
            Ok(made.map_err(|lost| TlsError::Io(lost.into()))??)
        };
        MADE.get_or_try_init(make).await.cloned()
    }

    /// Makes a certificate, since TLS servers need one; no peer has to know it.
    pub fn new() -> Result<BoundTls, BoundTlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::default().self_signed(&key)?;
        let private = PrivateKeyDer::try_from(key.serialize_der())
            .map_err(|problem| rustls::Error::General(problem.to_owned()))?;
        let private = provider.key_provider.load_private_key(private)?;
        let certified = CertifiedKey::new(vec![certificate.der().clone()], private);
        let client = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AcceptAnyCertificate(provider.clone())));
        let mut client = client.with_no_client_auth();
        // No resumption and no early data: each connection has a key exchange and exporter of its
        // own.
        client.resumption = Resumption::disabled();
        client.enable_early_data = false;
        client.enable_sni = false;
        let server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .with_no_client_auth();
        let own = OwnCertificate(Arc::new(certified));
        let mut server = server.with_cert_resolver(Arc::new(own));
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        server.max_early_data_size = 0;
        Ok(BoundTls { client: Arc::new(client), server: Arc::new(server) })
    }

    /// Performs the TLS handshake on a stream, starting with the very next octet in both
    /// directions, and returns the session's exported key for the proofs. Only these tell who is at
    /// the other end.
    pub async fn handshake<IO>(
        &self,
        stream: IO,
        we_are_client: bool,
    ) -> Result<(Established<IO>, Exporter), TlsError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let (stream, exporter) = if we_are_client {
            let nobody = ServerName::IpAddress(Ipv4Addr::UNSPECIFIED.into());
            let connecting = TlsConnector::from(self.client.clone()).connect(nobody, stream);
            let stream = connecting.await.map_err(TlsError::in_bound_handshake)?;
            let exporter = exported(End::Client(stream.get_ref().1))?;
            (TlsStream::from(stream), exporter)
        } else {
            let accepting = TlsAcceptor::from(self.server.clone()).accept(stream);
            let stream = accepting.await.map_err(TlsError::in_bound_handshake)?;
            let exporter = exported(End::Server(stream.get_ref().1))?;
            (TlsStream::from(stream), exporter)
        };
        Ok((Established { stream, peer_certificate: None }, exporter))
    }
}

impl fmt::Debug for BoundTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BoundTls")
    }
}

/// Bound encryption could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BoundTlsError {
    /// The certificate could not be made.
    #[error("cannot make a certificate for encrypted connections: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The TLS library refuses the configuration.
    #[error("cannot set up encrypted connections: {0}")]
    Tls(#[from] rustls::Error),
}

enum End<'a> {
    Client(&'a ClientConnection),
    Server(&'a ServerConnection),
}

fn exported(end: End<'_>) -> Result<Exporter, TlsError> {
    let octets = [0; Exporter::OCTETS];
    let exported = match end {
        End::Client(client) => client.export_keying_material(octets, Exporter::LABEL, None),
        End::Server(server) => server.export_keying_material(octets, Exporter::LABEL, None),
    };
    exported.map(Exporter::new).map_err(TlsError::Protocol)
}

/// Accepts every server, whatever its certificate: the proofs that follow identify the server and
/// are tied to this session. For the same reason the signature in the handshake is not verified.
#[derive(Debug)]
struct AcceptAnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 has no place here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
