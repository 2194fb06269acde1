//! Settings `cert` that work, and the errors for those that do not.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;

fn error(pem: &str) -> PemError {
    Identity::from_pem(pem.as_bytes()).unwrap_err()
}

/// The blocks of a PEM text.
fn blocks(pem: &str) -> Vec<String> {
    pem.split_inclusive("-----\n")
        .collect::<Vec<_>>()
        .chunks(2)
        .map(|block| block.concat())
        .collect()
}

/// Takes the key, which begins at `at`, out of a PKCS#8 block and puts it into a block with this
/// label.
fn unwrapped_key(pkcs8: &str, at: usize, label: &str) -> String {
    let base64: String = pkcs8.lines().filter(|line| !line.starts_with('-')).collect();
    let der = STANDARD.decode(base64).unwrap();
    let key = STANDARD.encode(&der[at..]);
    format!("-----BEGIN {label}-----\n{key}\n-----END {label}-----\n")
}

#[test]
fn key_and_certificates_come_in_any_order() {
    let ca = ca("ca");
    let leaf = ca.issue(params("leaf", false));
    let [key, certificate] = [&leaf.key.serialize_pem(), &leaf.certificate];
    let expected = identity(&leaf.pem(&[&ca])).fingerprint();
    for order in [
        [key, certificate, &ca.certificate],
        [certificate, key, &ca.certificate],
        [&ca.certificate, key, certificate],
        [&ca.certificate, certificate, key],
    ] {
        let order: String = order.map(|block| &**block).concat();
        let identity = identity(&order);
        assert_eq!(identity.fingerprint(), expected);
        assert_eq!(identity.certified_key.cert.len(), 2);
    }
}

#[test]
fn text_around_the_blocks_and_crlf_do_no_harm() {
    let expected = identity(&perl_pem()).fingerprint();
    let text = format!("subject=CN = AnyEvent::MP\n{}\nand more\n", perl_pem());
    assert_eq!(identity(&text).fingerprint(), expected);
    assert_eq!(identity(&text.replace('\n', "\r\n")).fingerprint(), expected);
}

#[test]
fn the_certificate_of_the_key_is_ours_and_only_its_issuers_are_sent_along() {
    let root = ca("root");
    let intermediate = root.issue(params("intermediate", true));
    let leaf = intermediate.issue(params("leaf", false));
    let (friend, namesake) = (ca("friend"), ca("intermediate"));
    let identity = identity(&leaf.pem(&[&friend, &root, &namesake, &intermediate]));
    let sent: Vec<_> = identity.certified_key.cert.iter().map(|der| Fingerprint::of(der)).collect();
    let expected = [&leaf, &intermediate, &root].map(|made| {
        let pem = self::identity(&made.pem(&[]));
        pem.fingerprint()
    });
    assert_eq!(sent, expected);
    assert_eq!(identity.trust.len(), 5);
}

#[tokio::test]
async fn rsa_keys_are_read_in_pkcs1_too() {
    let pem = perl_pem();
    let [certificate, key] = <[String; 2]>::try_from(blocks(&pem)).unwrap();
    let pkcs1 = unwrapped_key(&key, 26, "RSA PRIVATE KEY");
    they_meet(&(pkcs1 + &certificate), &pem).await;
}

#[tokio::test]
async fn ec_keys_are_read_in_sec1_too() {
    let made = ca("made");
    let sec1 = unwrapped_key(&made.key.serialize_pem(), 29, "EC PRIVATE KEY");
    they_meet(&(sec1 + &made.certificate), &made.pem(&[])).await;
}

#[tokio::test]
async fn ec_keys_are_read_as_openssl_writes_them() {
    let pem = include_str!("openssl/sec1-p384.pem");
    they_meet(pem, pem).await;
}

#[tokio::test]
async fn ed25519_and_p384_keys_are_taken() {
    for algorithm in [&rcgen::PKCS_ED25519, &rcgen::PKCS_ECDSA_P384_SHA384] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let certificate = params("node", true).self_signed(&key).unwrap().pem();
        let pem = key.serialize_pem() + &certificate;
        they_meet(&pem, &pem).await;
    }
}

#[test]
fn a_text_without_pem_blocks_is_called_so() {
    for text in ["", "garbage", "/etc/ssl/node.pem", "\u{0}\u{ff}"] {
        assert_eq!(error(text), PemError::NotPem);
    }
}

#[test]
fn a_damaged_block_is_called_so() {
    let pem = perl_pem();
    let cut = &pem[..pem.len() - 40];
    assert!(matches!(error(cut), PemError::Damaged(_)));
    let not_base64 = pem.replacen("MII", "M!I", 1);
    assert!(matches!(error(&not_base64), PemError::Damaged(_)));
}

#[test]
fn a_certificate_that_is_none_is_called_so() {
    let pem = perl_pem() + "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    assert_eq!(error(&pem), PemError::BadCertificate { number: 2 });
}

#[test]
fn what_is_missing_is_named() {
    let [certificate, key] = <[String; 2]>::try_from(blocks(&perl_pem())).unwrap();
    assert_eq!(error(&certificate), PemError::NoKey);
    assert_eq!(error(&key), PemError::NoCertificate);
}

#[test]
fn an_encrypted_key_is_called_so() {
    for pem in
        [include_str!("openssl/encrypted-pkcs8.pem"), include_str!("openssl/encrypted-sec1.pem")]
    {
        assert_eq!(error(pem), PemError::EncryptedKey);
    }
}

#[test]
fn a_key_of_another_certificate_is_called_so() {
    let (one, two) = (ca("node"), ca("node"));
    let pem = one.key.serialize_pem() + &two.certificate;
    assert_eq!(error(&pem), PemError::KeyMismatch { certificates: 1 });
}

#[test]
fn keys_that_cannot_be_used_are_named() {
    let unsupported = |label: &str| PemError::UnsupportedKey(label.into());
    let small = include_str!("openssl/rsa-1024.pem");
    assert_eq!(error(small), unsupported("PRIVATE KEY"));
    let dsa = ca("ca").certificate
        + "-----BEGIN DSA PRIVATE KEY-----\nMAA=\n-----END DSA PRIVATE KEY-----\n";
    assert_eq!(error(&dsa), unsupported("DSA PRIVATE KEY"));
}

#[test]
fn nothing_shows_the_key() {
    let [_, key] = <[String; 2]>::try_from(blocks(&perl_pem())).unwrap();
    let key = key.lines().nth(1).unwrap();
    let identity = identity(&perl_pem());
    let config = TlsConfig::new(&identity, AnonymousClients::Refused);
    let shown = format!("{identity:?} {config:?}");
    assert!(!shown.contains(key));
    assert!(shown.contains(&identity.fingerprint().to_string()));
}

#[test]
fn the_dates_of_our_certificate_can_be_asked() {
    let validity = identity(&perl_pem()).validity();
    assert_eq!(validity.not_before.to_string(), "2026-11-22 09:49:23 UTC");
    assert_eq!(validity.not_after.to_string(), "2036-11-19 09:49:23 UTC");
}

#[test]
fn generated_certificates_differ_and_last_ten_years() {
    let now = std::time::UNIX_EPOCH + Duration::from_secs(NOW);
    let (one, two) = (gencert(now).unwrap(), gencert(now).unwrap());
    assert_ne!(one, two);
    let validity = identity(&one).validity();
    assert_eq!(validity.not_before.to_string(), "2027-01-14 08:00:00 UTC");
    assert_eq!(validity.not_after.to_string(), "2037-01-12 08:00:00 UTC");
}

#[test]
fn a_clock_gone_mad_makes_a_certificate_all_the_same() {
    let far = std::time::UNIX_EPOCH + Duration::from_secs(1 << 40);
    let before_the_epoch = std::time::UNIX_EPOCH - Duration::from_secs(1);
    for now in [far, before_the_epoch, std::time::UNIX_EPOCH] {
        identity(&gencert(now).unwrap());
    }
}

#[test]
fn each_certificate_is_watched_for_what_it_is_there_for() {
    let root = ca("root");
    let mut soon = params("leaf", false);
    valid(&mut soon, -10, 5);
    let leaf = root.issue(soon);
    let mut past = params("friend", true);
    valid(&mut past, -10, -1);
    let friend = self_signed(past);
    let dates = identity(&leaf.pem(&[&friend, &root])).dates();
    let now = Moment::at(NOW.cast_signed());
    let texts: Vec<String> =
        dates.warnings(now).iter().map(|warning| warning.to_string()).collect();
    let has = |place: &str, what: &str| {
        texts.iter().any(|text| text.starts_with(place) && text.contains(what))
    };
    assert!(has("this node's certificate", "expires in 5 days"), "{texts:?}");
    assert!(has("an issuer of this node's certificate", "expires in 10 days"), "{texts:?}");
    assert!(has("a trusted certificate in cert", "expired on"), "{texts:?}");
    assert_eq!(dates.expires().unwrap().since_epoch(), now.since_epoch() + 5 * DAY);
}
