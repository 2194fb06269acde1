//! Reads the setting `cert`: a node's private key, its certificate, and the certificates that it
//! trusts.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{PemObject as _, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::certificate::{Certificate, Fingerprint, Validity};
use super::dates::{CertificateDates, CertificatePlace, Dated};
use super::verifier::{Trust, is_signed_by};

/// Why a PEM text cannot be used as the setting `cert`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PemError {
    /// It has no PEM block at all.
    #[error("cert is not a PEM text: it has no line -----BEGIN ...-----")]
    NotPem,
    /// A PEM block is cut off or not base64.
    #[error("cert has a damaged PEM block: {0}")]
    Damaged(String),
    /// There is no private key.
    #[error("cert has no private key: put the key and the certificate into one PEM text")]
    NoKey,
    /// There is no certificate.
    #[error("cert has no certificate: put the key and the certificate into one PEM text")]
    NoCertificate,
    /// The private key is encrypted.
    #[error(
        "the private key in cert is encrypted, and a node cannot ask for its password: decrypt it \
         (openssl pkey -in FILE)"
    )]
    EncryptedKey,
    /// The private key is of an unknown form, algorithm or size. Holds the label of its PEM block.
    #[error(
        "the {0} in cert cannot be used: it has to be RSA of 2048 to 8192 bits (not RSA-PSS), EC \
         P-256, P-384 or P-521, or Ed25519, in PKCS#8, PKCS#1 or SEC1"
    )]
    UnsupportedKey(String),
    /// One of the certificates cannot be read.
    #[error("certificate {number} in cert is not an X.509 certificate of version 1 or 3")]
    BadCertificate {
        /// Counted from 1, in the order of the text.
        number: usize,
    },
    /// No certificate belongs to the key.
    #[error("the private key in cert belongs to none of the {certificates} certificate(s) in it")]
    KeyMismatch {
        /// How many there are.
        certificates: usize,
    },
}

/// A node's identity in TLS and the certificates that it trusts: the setting `cert`, read and
/// checked.
///
/// Cheap to clone. Its `Debug` does not show the private key.
#[derive(Clone)]
pub struct Identity {
    pub(super) certified_key: Arc<CertifiedKey>,
    pub(super) trust: Arc<Trust>,
    pub(super) provider: Arc<CryptoProvider>,
    fingerprint: Fingerprint,
    validity: Validity,
    dates: CertificateDates,
}

impl Identity {
    /// Reads a private key and certificates, in any order.
    ///
    /// The first certificate that belongs to the (first) key is ours. Its issuers, if they are
    /// among the others, are sent along with it. All certificates in the text are trusted: a peer
    /// must present one of them, or one that they issued (`docs/protocol.md` §1.6). Nobody else is
    /// trusted, and system certificates are not either. Dates are not checked here; see
    /// [`Identity::validity`].
    pub fn from_pem(pem: &[u8]) -> Result<Identity, PemError> {
        let provider = aws_lc_rs::default_provider();
        let algorithms = provider.signature_verification_algorithms;
        let Sections { key, certificates } = Sections::read(pem)?;
        let label = match &key {
            PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
            PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
            _ => "PRIVATE KEY",
        };
        let key = provider
            .key_provider
            .load_private_key(key)
            .map_err(|_| PemError::UnsupportedKey(label.to_owned()))?;
        if certificates.is_empty() {
            return Err(PemError::NoCertificate);
        }
        let read = certificates
            .iter()
            .enumerate()
            .map(|(index, certificate)| {
                let number = index + 1;
                Certificate::read(certificate).ok_or(PemError::BadCertificate { number })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let public_key =
            key.public_key().ok_or_else(|| PemError::UnsupportedKey(label.to_owned()))?;
        let own = read
            .iter()
            .position(|certificate| certificate.public_key == public_key.as_ref())
            .ok_or(PemError::KeyMismatch { certificates: read.len() })?;
        let mut chain = vec![own];
        // Each certificate is used at most once, so that two that issued each other do not form a
        // loop.
        while let Some(last) = chain.last().and_then(|&last| read.get(last)) {
            let issuer = read.iter().enumerate().find(|(index, candidate)| {
                !chain.contains(index)
                    && candidate.subject == last.issuer
                    && is_signed_by(last, candidate, &algorithms)
            });
            match issuer {
                Some((index, _)) => chain.push(index),
                None => break,
            }
        }
        let dated = |(index, certificate): (usize, &Certificate<'_>)| {
            let fingerprint = || certificates.get(index).map(|octets| Fingerprint::of(octets));
            let place = match index {
                _ if index == own => CertificatePlace::Own,
                _ if chain.contains(&index) => CertificatePlace::Issuer(fingerprint()?),
                _ => CertificatePlace::Trusted(fingerprint()?),
            };
            Some(Dated { place, validity: certificate.validity })
        };
        let dates = read.iter().enumerate().filter_map(dated).collect();
        let in_chain = |&index: &usize| certificates.get(index).cloned();
        let chain: Vec<_> = chain.iter().filter_map(in_chain).collect();
        let (Some(certificate), Some(read)) = (chain.first(), read.get(own)) else {
            return Err(PemError::NoCertificate);
        };
        Ok(Identity {
            fingerprint: Fingerprint::of(certificate),
            validity: read.validity,
            dates: CertificateDates::new(dates),
            trust: Arc::new(Trust::new(&certificates, algorithms)),
            provider: Arc::new(provider),
            certified_key: Arc::new(CertifiedKey::new(chain, key)),
        })
    }

    /// The SHA-256 of our certificate.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The period in which our certificate can be used.
    ///
    /// Outside of it every peer refuses us, which is worth a warning when a node starts.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// The dates of all certificates in the text.
    pub fn dates(&self) -> CertificateDates {
        self.dates.clone()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("fingerprint", &format_args!("{}", self.fingerprint))
            .field("validity", &self.validity)
            .field("trusted", &self.trust.len())
            .finish_non_exhaustive()
    }
}

struct Sections {
    key: PrivateKeyDer<'static>,
    certificates: Vec<CertificateDer<'static>>,
}

impl Sections {
    fn read(pem: &[u8]) -> Result<Sections, PemError> {
        let labels = labels(pem);
        if labels.is_empty() {
            return Err(PemError::NotPem);
        }
        // The header stands within the block, so the PEM reader would only report damaged base64.
        if lines_that_start(pem, b"Proc-Type:").any(|line| line.ends_with(b"ENCRYPTED")) {
            return Err(PemError::EncryptedKey);
        }
        let mut key = None;
        let mut certificates = Vec::new();
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem) {
            let (kind, der) = section.map_err(|error| PemError::Damaged(damage(&error)))?;
            match kind {
                SectionKind::Certificate => certificates.push(CertificateDer::from(der)),
                kind if key.is_none() => key = PrivateKeyDer::from_pem(kind, der),
                _ => {}
            }
        }
        let key = match key {
            Some(key) => key,
            None if labels.iter().any(|label| label == "ENCRYPTED PRIVATE KEY") => {
                return Err(PemError::EncryptedKey);
            }
            None => {
                let other_key = labels.into_iter().find(|label| label.ends_with("PRIVATE KEY"));
                return Err(other_key.map_or(PemError::NoKey, PemError::UnsupportedKey));
            }
        };
        Ok(Sections { key, certificates })
    }
}

fn lines_that_start<'a>(pem: &'a [u8], start: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    pem.split(|&octet| octet == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(move |line| line.starts_with(start))
}

fn labels(pem: &[u8]) -> Vec<String> {
    let label = |line: &[u8]| {
        let label = line.strip_prefix(b"-----BEGIN ")?.strip_suffix(b"-----")?;
        Some(String::from_utf8_lossy(label).into_owned())
    };
    lines_that_start(pem, b"-----BEGIN ").filter_map(label).collect()
}

/// Describes the problem without quoting the text, which may be a key.
fn damage(error: &rustls::pki_types::pem::Error) -> String {
    use rustls::pki_types::pem::Error;
    match error {
        Error::MissingSectionEnd { .. } => "the line -----END ...----- is missing".into(),
        Error::IllegalSectionStart { .. } => "a line -----BEGIN ... is malformed".into(),
        Error::Base64Decode(_) => "what should be base64 is not".into(),
        _ => "it cannot be read".into(),
    }
}
