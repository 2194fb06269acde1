//! Decides whether a peer's certificate makes it a member of our network.

use std::sync::Arc;

use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{
    CertificateDer, ServerName, SubjectPublicKeyInfoDer, TrustAnchor, UnixTime,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, PeerMisbehaved,
    SignatureScheme,
};
use webpki::{EndEntityCert, KeyUsage, RawPublicKeyEntity};

use super::certificate::{
    AUTHORITY_KEY_ID, BASIC_CONSTRAINTS, Certificate, Fingerprint, Moment, SUBJECT_KEY_ID, Validity,
};

/// Why a peer's certificate was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It, or an issuer of it, has expired.
    #[error("it or an issuer of it expired on {since}")]
    Expired {
        /// Its last moment.
        since: Moment,
    },
    /// It, or an issuer of it, is not valid yet.
    #[error("it or an issuer of it is valid only from {from} on; are the clocks right?")]
    NotYetValid {
        /// Its first moment.
        from: Moment,
    },
    /// It is none of our certificates, and none of them issued it.
    #[error("it is not one of the certificates configured here, nor issued by one of them")]
    UnknownIssuer,
    /// The peer has the certificate but not its private key.
    #[error("the peer did not prove that it has the private key")]
    KeyNotProven,
    /// It is no certificate, or one that cannot be read.
    #[error("it cannot be read")]
    Malformed,
    /// It is not meant for this use, or uses something that is not supported.
    #[error("it does not fit: {0}")]
    Unsuitable(String),
}

impl Refusal {
    /// The error for rustls, which makes it send the TLS alert that fits.
    fn into_rustls(self) -> rustls::Error {
        rustls::Error::InvalidCertificate(match self {
            Refusal::Expired { .. } => CertificateError::Expired,
            Refusal::NotYetValid { .. } => CertificateError::NotValidYet,
            Refusal::UnknownIssuer => CertificateError::UnknownIssuer,
            Refusal::KeyNotProven => CertificateError::BadSignature,
            Refusal::Malformed => CertificateError::BadEncoding,
            Refusal::Unsuitable(_) => CertificateError::Other(OtherError(Arc::new(self))),
        })
    }
}

impl From<webpki::Error> for Refusal {
    fn from(error: webpki::Error) -> Refusal {
        use webpki::Error;
        match error {
            Error::CertExpired { not_after, .. } => Refusal::Expired { since: not_after.into() },
            Error::CertNotValidYet { not_before, .. } => {
                Refusal::NotYetValid { from: not_before.into() }
            }
            // The signature is invalid if the issuer only has the same name as one of ours.
            Error::UnknownIssuer | Error::InvalidSignatureForPublicKey => Refusal::UnknownIssuer,
            Error::BadDer | Error::BadDerTime | Error::TrailingData(_) => Refusal::Malformed,
            Error::RequiredEkuNotFoundContext(_) => {
                Refusal::Unsuitable("its extended key usage excludes this use".into())
            }
            Error::EndEntityUsedAsCa => Refusal::Unsuitable("an issuer of it is not a CA".into()),
            other => {
                let details = format!("{other:?}");
                let name = details.split([' ', '(']).next().unwrap_or_default();
                Refusal::Unsuitable(name.to_owned())
            }
        }
    }
}

/// The certificates that a node trusts: those in its own file.
#[derive(Debug)]
pub(super) struct Trust {
    anchors: Vec<Anchor>,
    algorithms: WebPkiSupportedAlgorithms,
}

#[derive(Debug)]
struct Anchor {
    certificate: CertificateDer<'static>,
    /// The certificate as a trust anchor, if it may issue others.
    issuer: Option<TrustAnchor<'static>>,
    validity: Validity,
}

impl Trust {
    /// Trusts these certificates, except those that cannot be read.
    pub(super) fn new(
        certificates: &[CertificateDer<'static>],
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Trust {
        let anchor = |certificate: &CertificateDer<'static>| {
            let parts = Certificate::read(certificate)?;
            let issuer = webpki::anchor_from_trusted_cert(certificate).ok();
            Some(Anchor {
                certificate: certificate.clone(),
                issuer: issuer.filter(|_| parts.may_issue()).map(|issuer| issuer.to_owned()),
                validity: parts.validity,
            })
        };
        Trust { anchors: certificates.iter().filter_map(anchor).collect(), algorithms }
    }

    pub(super) fn len(&self) -> usize {
        self.anchors.len()
    }

    /// Checks that the certificate is one of ours or was issued by one of ours.
    ///
    /// Host names play no role: AEMP nodes are identified by node IDs, and members trust each
    /// other.
    fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        usage: KeyUsage,
    ) -> Result<(), Refusal> {
        // A certificate of Perl's `aemp gencert` is a CA, which webpki refuses as an end entity.
        let one_of_ours = |anchor: &&Anchor| anchor.certificate == *end_entity;
        if let Some(anchor) = self.anchors.iter().find(one_of_ours) {
            return within(anchor.validity, now);
        }
        match self.verify_chain(end_entity, intermediates, now, usage) {
            Err(webpki::Error::CaUsedAsEndEntity | webpki::Error::UnsupportedCertVersion) => {
                self.verify_issued_directly(end_entity, now)
            }
            result => Ok(result?),
        }
    }

    fn verify_chain(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        usage: KeyUsage,
    ) -> Result<(), webpki::Error> {
        let issuers: Vec<_> =
            self.anchors.iter().filter_map(|anchor| anchor.issuer.clone()).collect();
        // webpki does not check the dates of trust anchors.
        let anchor_is_valid = |path: &webpki::VerifiedPath<'_>| {
            let used = |anchor: &&Anchor| anchor.issuer.as_ref() == Some(path.anchor());
            let mut result = Err(webpki::Error::UnknownIssuer);
            for anchor in self.anchors.iter().filter(used) {
                match dates_error(anchor.validity, now) {
                    None => return Ok(()),
                    Some(error) => result = Err(error),
                }
            }
            result
        };
        EndEntityCert::try_from(end_entity)?.verify_for_usage(
            self.algorithms.all,
            &issuers,
            intermediates,
            now,
            usage,
            None,
            Some(&anchor_is_valid),
        )?;
        Ok(())
    }

    /// For end entities that webpki refuses and OpenSSL accepts: certificates of version 1 (which
    /// `openssl x509 -req` makes by default) and those marked as CAs (`openssl req -x509 -CA`).
    ///
    /// Accepted only without extensions that could restrict them, and without intermediates.
    fn verify_issued_directly(
        &self,
        end_entity: &CertificateDer<'_>,
        now: UnixTime,
    ) -> Result<(), Refusal> {
        let certificate = Certificate::read(end_entity).ok_or(Refusal::Malformed)?;
        let issued_by = |anchor: &&Anchor| {
            anchor.issuer.as_ref().is_some_and(|issuer| {
                issuer.subject.as_ref() == certificate.issuer
                    && issuer.name_constraints.is_none()
                    && Certificate::read(&anchor.certificate)
                        .is_some_and(|issuer| is_signed_by(&certificate, &issuer, &self.algorithms))
            })
        };
        let mut issuers = self.anchors.iter().filter(issued_by).peekable();
        if issuers.peek().is_none() {
            return Err(Refusal::UnknownIssuer);
        }
        let harmless = [SUBJECT_KEY_ID, AUTHORITY_KEY_ID, BASIC_CONSTRAINTS];
        let extensions = certificate.extensions().ok_or(Refusal::Malformed)?;
        if extensions.iter().any(|(id, _)| !harmless.contains(id)) {
            let why = "a CA certificate with restrictions cannot be used as a node's certificate";
            return Err(Refusal::Unsuitable(why.into()));
        }
        within(certificate.validity, now)?;
        let mut result = Err(Refusal::UnknownIssuer);
        for issuer in issuers {
            result = within(issuer.validity, now);
            if result.is_ok() {
                break;
            }
        }
        result
    }
}

fn dates_error(validity: Validity, now: UnixTime) -> Option<webpki::Error> {
    let unix_time = |moment: Moment| {
        let since_epoch = u64::try_from(moment.since_epoch()).unwrap_or_default();
        UnixTime::since_unix_epoch(std::time::Duration::from_secs(since_epoch))
    };
    if Moment::from(now) < validity.not_before {
        let not_before = unix_time(validity.not_before);
        return Some(webpki::Error::CertNotValidYet { time: now, not_before });
    }
    let not_after = unix_time(validity.not_after);
    (Moment::from(now) > validity.not_after)
        .then_some(webpki::Error::CertExpired { time: now, not_after })
}

fn within(validity: Validity, now: UnixTime) -> Result<(), Refusal> {
    dates_error(validity, now).map_or(Ok(()), |error| Err(error.into()))
}

/// Whether the issuer's key made the signature in the certificate; nothing else is checked.
pub(super) fn is_signed_by(
    certificate: &Certificate<'_>,
    issuer: &Certificate<'_>,
    algorithms: &WebPkiSupportedAlgorithms,
) -> bool {
    let key = SubjectPublicKeyInfoDer::from(issuer.public_key);
    let Ok(key) = RawPublicKeyEntity::try_from(&key) else {
        return false;
    };
    algorithms
        .all
        .iter()
        .filter(|algorithm| {
            algorithm.signature_alg_id().as_ref() == certificate.signature_algorithm
        })
        .any(|algorithm| {
            key.verify_signature(*algorithm, certificate.signed, certificate.signature).is_ok()
        })
}

/// Verifies the peer of one TLS handshake, and remembers the certificate that it presented.
#[derive(Debug)]
pub(super) struct Verifier {
    trust: Arc<Trust>,
    anonymous_clients: bool,
    seen: Mutex<PeerCertificate>,
}

/// What became of the peer's certificate.
#[derive(Clone, Debug, Default)]
pub(super) struct PeerCertificate {
    pub(super) presented: Option<Fingerprint>,
    pub(super) refusal: Option<Refusal>,
}

impl Verifier {
    pub(super) fn new(trust: Arc<Trust>, anonymous_clients: bool) -> Verifier {
        Verifier { trust, anonymous_clients, seen: Mutex::default() }
    }

    pub(super) fn seen(&self) -> PeerCertificate {
        self.seen.lock().clone()
    }

    fn verify_peer(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        usage: KeyUsage,
    ) -> Result<(), rustls::Error> {
        let result = self.trust.verify(end_entity, intermediates, now, usage);
        *self.seen.lock() = PeerCertificate {
            presented: Some(Fingerprint::of(end_entity)),
            refusal: result.as_ref().err().cloned(),
        };
        result.map_err(Refusal::into_rustls)
    }

    fn note_signature(
        &self,
        result: Result<HandshakeSignatureValid, rustls::Error>,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        if let Err(error) = &result {
            self.seen.lock().refusal = Some(match error {
                rustls::Error::InvalidCertificate(CertificateError::BadSignature) => {
                    Refusal::KeyNotProven
                }
                error => Refusal::Unsuitable(error.to_string()),
            });
        }
        result
    }

    fn verify_tls12(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.trust.algorithms;
        let Some(key) = key_only_we_can_read(certificate)? else {
            return verify_tls12_signature(message, certificate, signature, algorithms);
        };
        let key = RawPublicKeyEntity::try_from(&key)
            .map_err(|error| Refusal::from(error).into_rustls())?;
        let (_, candidates) = algorithms
            .mapping
            .iter()
            .find(|(scheme, _)| *scheme == signature.scheme)
            .ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
        candidates
            .iter()
            .any(|algorithm| {
                key.verify_signature(*algorithm, message, signature.signature()).is_ok()
            })
            .then(HandshakeSignatureValid::assertion)
            .ok_or_else(|| Refusal::KeyNotProven.into_rustls())
    }

    fn verify_tls13(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.trust.algorithms;
        match key_only_we_can_read(certificate)? {
            None => verify_tls13_signature(message, certificate, signature, algorithms),
            Some(key) => verify_tls13_signature_with_raw_key(message, &key, signature, algorithms),
        }
    }
}

/// The key of a certificate that webpki cannot read. Such certificates are trusted only if they are
/// configured here or were issued by one that is.
fn key_only_we_can_read<'a>(
    certificate: &'a CertificateDer<'_>,
) -> Result<Option<SubjectPublicKeyInfoDer<'a>>, rustls::Error> {
    if EndEntityCert::try_from(certificate).is_ok() {
        return Ok(None);
    }
    let certificate =
        Certificate::read(certificate).ok_or_else(|| Refusal::Malformed.into_rustls())?;
    Ok(Some(SubjectPublicKeyInfoDer::from(certificate.public_key)))
}

/// The signature checks, which are the same on the client's and the server's side.
macro_rules! judges_signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            self.note_signature(self.verify_tls12(message, certificate, signature))
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            self.note_signature(self.verify_tls13(message, certificate, signature))
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.trust.algorithms.supported_schemes()
        }
    };
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verify_peer(end_entity, intermediates, now, KeyUsage::server_auth())?;
        Ok(ServerCertVerified::assertion())
    }

    judges_signatures!();
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        !self.anonymous_clients
    }

    /// No hints: every node has exactly one certificate.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.verify_peer(end_entity, intermediates, now, KeyUsage::client_auth())?;
        Ok(ClientCertVerified::assertion())
    }

    judges_signatures!();
}
