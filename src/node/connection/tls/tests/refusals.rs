//! Pairs of nodes that cannot talk to each other, and what each side learns.

use rcgen::{ExtendedKeyUsagePurpose, KeyUsagePurpose};

use super::*;

/// A moment this many days from now.
fn moment(days: i64) -> Moment {
    let since_epoch = NOW.checked_add_signed(days * DAY).unwrap();
    UnixTime::since_unix_epoch(Duration::from_secs(since_epoch)).into()
}

fn made(name: &str, is_ca: bool, from: i64, until: i64) -> CertificateParams {
    let mut params = params(name, is_ca);
    valid(&mut params, from, until);
    params
}

fn no_purpose() -> Refusal {
    Refusal::Unsuitable("its extended key usage excludes this use".into())
}

#[tokio::test]
async fn a_stranger_with_the_same_name_is_refused() {
    let (ours, stranger) = (ca("AnyEvent::MP"), ca("AnyEvent::MP"));
    let stranger = identity(&stranger.pem(&[&ours]));
    refused(&node(&ours.pem(&[])), &stranger, &Refusal::UnknownIssuer).await;
}

#[tokio::test]
async fn a_leaf_of_a_strange_ca_is_refused() {
    let (ours, strange) = (ca("ca"), ca("ca"));
    let leaf = identity(&strange.issue(params("leaf", false)).pem(&[&strange, &ours]));
    refused(&node(&ours.pem(&[])), &leaf, &Refusal::UnknownIssuer).await;
}

#[tokio::test]
async fn a_certificate_of_version_1_of_a_strange_ca_is_refused() {
    let ours = ca("ca");
    let stranger = identity(&[include_str!("openssl/v1-leaf.pem"), &ours.certificate].concat());
    refused(&node(&ours.pem(&[])), &stranger, &Refusal::UnknownIssuer).await;
    let stranger =
        identity(&[include_str!("openssl/v1-self-signed.pem"), &ours.certificate].concat());
    refused(&node(&ours.pem(&[])), &stranger, &Refusal::UnknownIssuer).await;
}

#[tokio::test]
async fn our_own_certificate_is_refused_once_it_has_expired() {
    let expired = self_signed(made("expired", true, -20, -1));
    let node = ca("node");
    let since = moment(-1);
    let peer = identity(&expired.pem(&[&node]));
    refused(&node_of(&identity(&node.pem(&[&expired]))), &peer, &Refusal::Expired { since }).await;
}

#[tokio::test]
async fn our_own_certificate_is_refused_before_its_time() {
    let future = self_signed(made("future", true, 1, 20));
    let node = ca("node");
    let peer = identity(&future.pem(&[&node]));
    let expected = Refusal::NotYetValid { from: moment(1) };
    refused(&node_of(&identity(&node.pem(&[&future]))), &peer, &expected).await;
}

#[tokio::test]
async fn a_certificate_can_be_used_in_its_first_and_last_second() {
    let pem = self_signed(made("exact", true, -1, 1)).pem(&[]);
    let at = |time: i64| TlsConfig {
        clock: Arc::new(Clock(NOW.checked_add_signed(time).unwrap())),
        ..node(&pem)
    };
    for (time, passes) in [(-DAY - 1, false), (-DAY, true), (DAY, true), (DAY + 1, false)] {
        let (client, server) = meet(&at(time), &at(time)).await;
        assert_eq!(client.is_ok() && server.is_ok(), passes, "{time}");
    }
}

#[tokio::test]
async fn a_leaf_outside_its_dates_is_refused() {
    let ca = ca("ca");
    let node = node(&ca.pem(&[]));
    let expired = ca.issue(made("leaf", false, -9, -1)).pem(&[&ca]);
    let since = moment(-1);
    refused(&node, &identity(&expired), &Refusal::Expired { since }).await;
    let future = ca.issue(made("leaf", false, 1, 9)).pem(&[&ca]);
    let from = moment(1);
    refused(&node, &identity(&future), &Refusal::NotYetValid { from }).await;
    let expired_ca = ca.issue(made("leaf", true, -9, -1)).pem(&[&ca]);
    refused(&node, &identity(&expired_ca), &Refusal::Expired { since }).await;
}

#[tokio::test]
async fn a_leaf_of_an_expired_ca_is_refused() {
    let expired = self_signed(made("ca", true, -20, -1));
    let node = ca("node");
    let config = node_of(&identity(&node.pem(&[&expired])));
    let since = moment(-1);
    for is_ca in [false, true] {
        let leaf = expired.issue(params("leaf", is_ca)).pem(&[&node]);
        refused(&config, &identity(&leaf), &Refusal::Expired { since }).await;
    }
}

/// An identity with one node's certificate and another's key.
fn thief(certificate: &Identity, key: &Identity) -> Identity {
    let mut thief = certificate.clone();
    thief.certified_key = Arc::new(CertifiedKey::new(
        certificate.certified_key.cert.clone(),
        key.certified_key.key.clone(),
    ));
    thief
}

#[tokio::test]
async fn a_peer_without_the_private_key_is_refused() {
    let other = identity(&ca("other").pem(&[]));
    for pem in [
        ca("ours").pem(&[]),
        include_str!("openssl/v1-self-signed.pem").to_owned(),
        include_str!("openssl/v1-leaf.pem").to_owned(),
    ] {
        let ours = identity(&pem);
        let thief = thief(&ours, &other);
        refused(&node_of(&ours), &thief, &Refusal::KeyNotProven).await;
    }
}

#[tokio::test]
async fn a_peer_with_a_key_of_another_kind_is_refused() {
    let ours = identity(&perl_pem());
    let thief = thief(&ours, &identity(&ca("other").pem(&[])));
    in_all_ways(&node_of(&ours), &node_of(&thief), |way, one, other| {
        assert!(one.is_err() && other.is_err(), "{way}: {one:?} {other:?}");
    })
    .await;
}

#[tokio::test]
async fn a_trusted_certificate_that_is_no_ca_cannot_issue() {
    let leaf = self_signed(params("pinned", false));
    let node = ca("node");
    let config = node_of(&identity(&node.pem(&[&leaf])));
    they_meet(&node.pem(&[&leaf]), &leaf.pem(&[&node])).await;
    for is_ca in [false, true] {
        let minted = leaf.issue(params("minted", is_ca)).pem(&[&node]);
        refused(&config, &identity(&minted), &Refusal::UnknownIssuer).await;
    }
    let with_issuer = leaf.issue(params("minted", false)).pem(&[&leaf, &node]);
    let no_ca = Refusal::Unsuitable("an issuer of it is not a CA".into());
    refused(&config, &identity(&with_issuer), &no_ca).await;
}

#[tokio::test]
async fn a_certificate_for_other_purposes_is_refused() {
    let ca = ca("ca");
    let mut mail = params("mail", false);
    mail.extended_key_usages = vec![ExtendedKeyUsagePurpose::EmailProtection];
    let mail = identity(&ca.issue(mail).pem(&[&ca]));
    refused(&node(&ca.pem(&[])), &mail, &no_purpose()).await;
}

#[tokio::test]
async fn a_certificate_for_servers_only_cannot_be_a_client() {
    let ca = ca("ca");
    let mut server = params("server", false);
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let server = node(&ca.issue(server).pem(&[&ca]));
    let ours = node(&ca.pem(&[]));
    let (one, other) = meet(&ours, &server).await;
    assert!(one.is_ok() && other.is_ok(), "{one:?} {other:?}");
    let (other, one) = meet(&server, &ours).await;
    assert!(other.is_err(), "{other:?}");
    match one {
        Err(TlsError::Certificate { reason, .. }) => assert_eq!(reason, no_purpose()),
        one => panic!("{one:?}"),
    }
}

#[tokio::test]
async fn a_restricted_ca_under_our_ca_is_no_node() {
    let ca = ca("ca");
    let mut issuer_only = params("issuer only", true);
    issuer_only.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let issuer_only = identity(&ca.issue(issuer_only).pem(&[&ca]));
    let why = "a CA certificate with restrictions cannot be used as a node's certificate";
    let expected = Refusal::Unsuitable(why.into());
    refused(&node(&ca.pem(&[])), &issuer_only, &expected).await;
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    for versions in VERSIONS {
        let (server, client) = meet_anonymous(versions, AnonymousClients::Refused).await;
        assert!(matches!(server, Err(TlsError::NoCertificate)), "{server:?}");
        assert!(matches!(client, Err(TlsError::Alert { .. })), "{client:?}");
    }
}

#[tokio::test]
async fn a_client_without_a_certificate_passes_as_anonymous_where_that_is_allowed() {
    for versions in VERSIONS {
        let (server, client) = meet_anonymous(versions, AnonymousClients::Allowed).await;
        assert_eq!(server.unwrap(), None);
        client.unwrap();
    }
}

#[tokio::test]
async fn where_anonymous_clients_pass_strangers_do_not() {
    let (ours, stranger) = (ca("ca"), ca("ca"));
    let stranger = identity(&stranger.pem(&[&ours]));
    let config = TlsConfig { anonymous_clients: AnonymousClients::Allowed, ..node(&ours.pem(&[])) };
    refused(&config, &stranger, &Refusal::UnknownIssuer).await;
}

async fn meet_anonymous(
    versions: &'static [&'static SupportedProtocolVersion],
    anonymous_clients: AnonymousClients,
) -> (HandshakeResult, Result<(), TlsError>) {
    let config = TlsConfig { versions, anonymous_clients, ..node(&perl_pem()) };
    let mut client = config.client(config.verifier()).unwrap();
    client.client_auth_cert_resolver = Arc::new(NoCertificate);
    let connector = TlsConnector::from(Arc::new(client));
    let (client_end, server_end) = tokio::io::duplex(100_000);
    let client = async {
        let name = ServerName::try_from("node.example").unwrap();
        let mut stream = connector.connect(name, client_end).await?;
        exchange(&mut stream).await
    };
    let (client, server) = tokio::join!(client, one_side(server_end, false, &config));
    let client =
        client.map_err(|error| TlsError::on_established(&error).unwrap_or(TlsError::Io(error)));
    (server, client)
}

#[derive(Debug)]
struct NoCertificate;

impl ResolvesClientCert for NoCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn a_peer_that_closes_or_speaks_no_tls_fails() {
    let node = node(&perl_pem());
    for we_are_client in [true, false] {
        let (mut peer, end) = tokio::io::duplex(100_000);
        peer.write_all(b"tls_sha3_512;00;json\n").await.unwrap();
        let result = handshake(end, we_are_client, &node).await;
        assert!(matches!(result, Err(TlsError::Protocol(_))), "{result:?}");

        let (peer, end) = tokio::io::duplex(100_000);
        drop(peer);
        let result = handshake(end, we_are_client, &node).await;
        let closed = matches!(result, Err(TlsError::Closed | TlsError::Io(_)));
        assert!(closed, "{result:?}");
    }
}

#[test]
fn a_refusal_is_one_line_with_reason_and_fingerprint() {
    let error = TlsError::Certificate {
        fingerprint: Fingerprint::of(b"abc"),
        reason: Refusal::Expired { since: moment(-1) },
    };
    assert_eq!(
        error.to_string(),
        "peer's certificate (SHA-256 ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad) \
         was refused: it or an issuer of it expired on 2027-01-14 08:00:00 UTC"
    );
    let alert = Alert(AlertDescription::UnknownCA);
    assert_eq!(
        TlsError::Alert { alert }.to_string(),
        "peer ended TLS with alert UnknownCA: it refuses our certificate"
    );
}
