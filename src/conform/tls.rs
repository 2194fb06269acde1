//! The suite's own use of TLS, separate from the node's so that it does not share its faults. It can present
//! a certificate that nobody trusts, or none.

use crate::wire::auth::Exporter;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme,
    SupportedProtocolVersion,
};
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

/// A key with its certificates, from one PEM text.
#[derive(Debug)]
pub struct Identity {
    key: PrivateKeyDer<'static>,
    certificates: Vec<CertificateDer<'static>>,
}

/// Why a PEM text is not an identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no private key with its certificate: {0}")]
pub struct NoIdentity(String);

impl Identity {
    /// Reads a PEM text with a private key and certificates, the node's own first.
    ///
    /// # Errors
    /// Fails if a key or certificate is missing or unreadable.
    pub fn from_pem(pem: &[u8]) -> Result<Identity, NoIdentity> {
        let key = PrivateKeyDer::from_pem_slice(pem)
            .map_err(|error| NoIdentity(format!("private key: {error}")))?;
        let certificates = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| NoIdentity(format!("certificate: {error}")))?;
        if certificates.is_empty() {
            return Err(NoIdentity("there is no certificate".to_owned()));
        }
        Ok(Identity { key, certificates })
    }

    /// A fresh identity that nobody trusts.
    ///
    /// # Errors
    /// Fails if the system provides no random numbers.
    pub(crate) fn stranger() -> Result<Identity, NoIdentity> {
        let made = rcgen::generate_simple_self_signed(vec!["stranger".to_owned()])
            .map_err(|error| NoIdentity(error.to_string()))?;
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der())
            .map_err(|error| NoIdentity(error.to_owned()))?;
        Ok(Identity { key, certificates: vec![made.cert.der().clone()] })
    }
}

/// TLS settings of one connection.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    /// The identity that the suite presents; `None` to stay anonymous.
    pub(crate) presents: Option<Arc<Identity>>,
    /// The only version to use, if it is restricted.
    pub(crate) only: Option<&'static SupportedProtocolVersion>,
}

impl Tls {
    pub(crate) fn new(identity: Arc<Identity>) -> Self {
        Tls { presents: Some(identity), only: None }
    }

    fn versions(&self) -> Vec<&'static SupportedProtocolVersion> {
        self.only.map_or_else(|| rustls::ALL_VERSIONS.to_vec(), |only| vec![only])
    }

    fn client(&self, provider: Arc<CryptoProvider>) -> Result<ClientConfig, rustls::Error> {
        let verifier = Arc::new(AcceptAnyCertificate(provider.clone()));
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&self.versions())?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match &self.presents {
            Some(identity) => builder
                .with_client_auth_cert(identity.certificates.clone(), identity.key.clone_key())?,
            None => builder.with_no_client_auth(),
        };
        config.enable_sni = false;
        Ok(config)
    }

    fn server(&self, provider: Arc<CryptoProvider>) -> Result<ServerConfig, rustls::Error> {
        let Some(identity) = &self.presents else {
            return Err(rustls::Error::General("a server has to present something".to_owned()));
        };
        let verifier = Arc::new(AcceptAnyCertificate(provider.clone()));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&self.versions())?
            .with_client_cert_verifier(verifier)
            .with_single_cert(identity.certificates.clone(), identity.key.clone_key())?;
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

/// The result of a TLS handshake.
pub(crate) struct Secured<IO> {
    pub(crate) stream: TlsStream<IO>,
    /// The certificate that the node presented.
    pub(crate) presented: Option<CertificateDer<'static>>,
    /// Version and cipher.
    pub(crate) summary: String,
    /// What the session exports for a bound token.
    pub(crate) exporter: Option<Exporter>,
}

/// Does the TLS handshake on a stream on which both sides have greeted.
pub(crate) async fn handshake<IO>(
    stream: IO,
    we_are_client: bool,
    tls: &Tls,
) -> io::Result<Secured<IO>>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let provider = Arc::new(aws_lc_rs::default_provider());
    let stream = if we_are_client {
        let config = tls.client(provider).map_err(io::Error::other)?;
        let nobody = ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into());
        let connector = TlsConnector::from(Arc::new(config));
        TlsStream::from(connector.connect(nobody, stream).await?)
    } else {
        let config = tls.server(provider).map_err(io::Error::other)?;
        TlsStream::from(TlsAcceptor::from(Arc::new(config)).accept(stream).await?)
    };
    let exported = [0; Exporter::OCTETS];
    let exported = match &stream {
        TlsStream::Client(end) => {
            end.get_ref().1.export_keying_material(exported, Exporter::LABEL, None)
        }
        TlsStream::Server(end) => {
            end.get_ref().1.export_keying_material(exported, Exporter::LABEL, None)
        }
    };
    let exporter = exported.ok().map(Exporter::new);
    let (_, connection) = stream.get_ref();
    let presented = connection
        .peer_certificates()
        .and_then(|certificates| certificates.first())
        .map(|certificate| certificate.clone().into_owned());
    let summary = format!(
        "{:?} {:?}",
        connection.protocol_version(),
        connection.negotiated_cipher_suite().map(|suite| suite.suite())
    );
    Ok(Secured { stream, presented, summary, exporter })
}

/// Whether a certificate is one of the identity's, or was issued by one of them.
pub(crate) fn is_trusted(identity: &Identity, presented: &CertificateDer<'_>) -> bool {
    if identity.certificates.iter().any(|own| own == presented) {
        return true;
    }
    let anchors: Vec<_> = identity
        .certificates
        .iter()
        .filter_map(|own| webpki::anchor_from_trusted_cert(own).ok())
        .collect();
    let Ok(certificate) = webpki::EndEntityCert::try_from(presented) else {
        return false;
    };
    certificate
        .verify_for_usage(
            aws_lc_rs::default_provider().signature_verification_algorithms.all,
            &anchors,
            &[],
            UnixTime::now(),
            webpki::KeyUsage::client_auth(),
            None,
            None,
        )
        .is_ok()
}

/// Accepts any certificate with a valid signature; the suite checks it later.
#[derive(Debug)]
struct AcceptAnyCertificate(Arc<CryptoProvider>);

/// The parts that verifiers of clients and of servers have in common.
macro_rules! only_the_signature_counts {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            let algorithms = &self.0.signature_verification_algorithms;
            verify_tls12_signature(message, cert, dss, algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            let algorithms = &self.0.signature_verification_algorithms;
            verify_tls13_signature(message, cert, dss, algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.signature_verification_algorithms.supported_schemes()
        }
    };
}

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

    only_the_signature_counts!();
}

impl ClientCertVerifier for AcceptAnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    only_the_signature_counts!();
}
