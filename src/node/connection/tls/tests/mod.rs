//! Tests of TLS between two nodes, in fixed time, with certificates made here or by OpenSSL.

mod identities;
mod kinds;
mod meetings;
mod refusals;

use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

/// 2027-01-15 08:00:00 UTC, when every certificate here is valid unless a test says otherwise.
const NOW: u64 = 1_800_000_000;
const DAY: i64 = 86400;

const VERSIONS: [&[&SupportedProtocolVersion]; 3] = [&[&TLS12], &[&TLS13], &[&TLS12, &TLS13]];

/// The certificate of a real Perl node.
fn perl_pem() -> String {
    let recording = include_str!("../../../../../fixtures/tls-auth.jsonl");
    let first: serde_json::Value = serde_json::from_str(recording.lines().next().unwrap()).unwrap();
    first["pem"].as_str().unwrap().to_owned()
}

#[derive(Debug)]
struct Clock(u64);

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0)))
    }
}

/// A certificate with its key.
struct TestCertificate {
    params: CertificateParams,
    key: KeyPair,
    certificate: String,
}

/// Parameters of a certificate that is a CA or not, valid from ten days ago for twenty days.
fn params(name: &str, is_ca: bool) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    params.is_ca =
        if is_ca { IsCa::Ca(BasicConstraints::Unconstrained) } else { IsCa::ExplicitNoCa };
    valid(&mut params, -10, 10);
    params
}

/// Sets the validity, in days from now.
fn valid(params: &mut CertificateParams, from: i64, until: i64) {
    let moment = |days: i64| {
        let since_epoch = NOW.checked_add_signed(days * DAY).unwrap();
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(since_epoch)
    };
    params.not_before = moment(from);
    params.not_after = moment(until);
}

fn self_signed(params: CertificateParams) -> TestCertificate {
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    TestCertificate { params, key, certificate }
}

fn ca(name: &str) -> TestCertificate {
    self_signed(params(name, true))
}

impl TestCertificate {
    fn issue(&self, params: CertificateParams) -> TestCertificate {
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::from_params(&self.params, &self.key);
        let certificate = params.signed_by(&key, &issuer).unwrap().pem();
        TestCertificate { params, key, certificate }
    }

    /// The setting `cert` of a node with this certificate that also trusts those.
    fn pem(&self, trusted: &[&TestCertificate]) -> String {
        let trusted: String = trusted.iter().map(|made| &*made.certificate).collect();
        self.key.serialize_pem() + &self.certificate + &trusted
    }
}

fn identity(pem: &str) -> Identity {
    Identity::from_pem(pem.as_bytes()).unwrap()
}

fn node(pem: &str) -> TlsConfig {
    node_of(&identity(pem))
}

fn node_of(identity: &Identity) -> TlsConfig {
    let mut config = TlsConfig::new(identity, AnonymousClients::Refused);
    config.clock = Arc::new(Clock(NOW));
    config
}

type HandshakeResult = Result<Option<Fingerprint>, TlsError>;

/// Performs TLS and then sends one octet in each direction, since a TLS 1.3 client only then learns
/// that it was refused.
async fn meet(client: &TlsConfig, server: &TlsConfig) -> (HandshakeResult, HandshakeResult) {
    let (client_end, server_end) = tokio::io::duplex(100_000);
    tokio::join!(one_side(client_end, true, client), one_side(server_end, false, server))
}

async fn one_side<IO>(stream: IO, we_are_client: bool, config: &TlsConfig) -> HandshakeResult
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let mut established = handshake(stream, we_are_client, config).await?;
    exchange(&mut established.stream)
        .await
        .map_err(|error| TlsError::on_established(&error).unwrap_or(TlsError::Io(error)))?;
    Ok(established.peer_certificate)
}

async fn exchange<IO: AsyncRead + AsyncWrite + Unpin>(stream: &mut IO) -> io::Result<()> {
    stream.write_all(b"!").await?;
    stream.flush().await?;
    assert_eq!(stream.read_u8().await?, b'!');
    Ok(())
}

/// Calls `check` with each TLS version, and with each node once as client and once as server,
/// passing the outcome of the first node and then of the second.
async fn in_all_ways(
    first: &TlsConfig,
    second: &TlsConfig,
    check: impl Fn(&str, HandshakeResult, HandshakeResult),
) {
    for versions in VERSIONS {
        let with_versions = |config: &TlsConfig| TlsConfig { versions, ..config.clone() };
        let (first, second) = (with_versions(first), with_versions(second));
        let names: Vec<_> = versions.iter().map(|version| version.version).collect();
        let (one, other) = meet(&first, &second).await;
        check(&format!("{names:?}, first is client"), one, other);
        let (other, one) = meet(&second, &first).await;
        check(&format!("{names:?}, first is server"), one, other);
    }
}

async fn they_meet(first: &str, second: &str) {
    let (first, second) = (identity(first), identity(second));
    in_all_ways(&node_of(&first), &node_of(&second), |way, one, other| {
        assert_eq!(one.expect(way), Some(second.fingerprint()), "{way}");
        assert_eq!(other.expect(way), Some(first.fingerprint()), "{way}");
    })
    .await;
}

/// Checks that the first refuses the second for this reason, and that the second learns of it.
async fn refused(first: &TlsConfig, second: &Identity, expected: &Refusal) {
    in_all_ways(first, &node_of(second), |way, one, other| {
        match one {
            Err(TlsError::Certificate { fingerprint, reason }) => {
                assert_eq!(fingerprint, second.fingerprint(), "{way}");
                assert_eq!(reason, *expected, "{way}");
            }
            one => panic!("{way}: {one:?}"),
        }
        assert!(matches!(other, Err(TlsError::Alert { .. })), "{way}: {other:?}");
    })
    .await;
}
