//! TLS of the relay, as a node does it, and with the faults of TLS.

use aemp::wire::auth::Exporter;
use bytes::{Buf, BytesMut};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig,
    SignatureScheme,
};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

/// How a connection does TLS.
pub(super) struct Settings<'a> {
    /// The node's key and its one certificate, which is also the only one that it trusts.
    pub(super) pem: &'a str,
    pub(super) presents: bool,
    pub(super) trusts_anybody: bool,
    pub(super) is_old: bool,
    /// It refuses TLS 1.2.
    pub(super) is_new: bool,
}

/// The TLS handshake; `None` if it fails.
pub(super) async fn secure<IO>(
    stream: IO,
    we_are_client: bool,
    settings: &Settings<'_>,
) -> Option<Box<TlsStream<IO>>>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let key = PrivateKeyDer::from_pem_slice(settings.pem.as_bytes()).ok()?;
    let certificate = CertificateDer::from_pem_slice(settings.pem.as_bytes()).ok()?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Arc::new(OnlyOurs {
        own: certificate.clone(),
        trusts_anybody: settings.trusts_anybody,
        provider: provider.clone(),
    });
    let versions = match settings {
        Settings { is_old: true, .. } => vec![&rustls::version::TLS12],
        Settings { is_new: true, .. } => vec![&rustls::version::TLS13],
        _ => rustls::ALL_VERSIONS.to_vec(),
    };
    if we_are_client {
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)
            .ok()?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let config = match settings.presents {
            true => builder.with_client_auth_cert(vec![certificate], key).ok()?,
            false => builder.with_no_client_auth(),
        };
        let nobody = ServerName::IpAddress(std::net::Ipv4Addr::LOCALHOST.into());
        let stream = TlsConnector::from(Arc::new(config)).connect(nobody, stream).await.ok()?;
        Some(Box::new(TlsStream::from(stream)))
    } else {
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)
            .ok()?
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate], key)
            .ok()?;
        config.send_tls13_tickets = 0;
        let stream = TlsAcceptor::from(Arc::new(config)).accept(stream).await.ok()?;
        Some(Box::new(TlsStream::from(stream)))
    }
}

/// What a TLS session exports for bound tokens.
pub(super) fn exporter<IO>(stream: &TlsStream<IO>) -> Option<Exporter> {
    let octets = [0; Exporter::OCTETS];
    let exported = match stream {
        TlsStream::Client(end) => {
            end.get_ref().1.export_keying_material(octets, Exporter::LABEL, None)
        }
        TlsStream::Server(end) => {
            end.get_ref().1.export_keying_material(octets, Exporter::LABEL, None)
        }
    };
    exported.ok().map(Exporter::new)
}

/// A stream of which some octets were read before.
pub(super) struct Rewound<IO> {
    pub(super) first: BytesMut,
    pub(super) stream: IO,
}

impl<IO: AsyncRead + Unpin> AsyncRead for Rewound<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, into);
        }
        let count = self.first.len().min(into.remaining());
        into.put_slice(&self.first[..count]);
        self.first.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Rewound<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, octets)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Accepts only the network's certificate, or any certificate if that is the fault.
#[derive(Debug)]
struct OnlyOurs {
    own: CertificateDer<'static>,
    trusts_anybody: bool,
    provider: Arc<CryptoProvider>,
}

impl OnlyOurs {
    fn accepts(&self, presented: &CertificateDer<'_>) -> Result<(), Error> {
        match *presented == self.own || self.trusts_anybody {
            true => Ok(()),
            false => Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)),
        }
    }
}

impl ServerCertVerifier for OnlyOurs {
    fn verify_server_cert(
        &self,
        presented: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.accepts(presented).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for OnlyOurs {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        !self.trusts_anybody
    }

    fn verify_client_cert(
        &self,
        presented: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.accepts(presented).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ServerCertVerifier::verify_tls12_signature(self, message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ServerCertVerifier::verify_tls13_signature(self, message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ServerCertVerifier::supported_verify_schemes(self)
    }
}
