//! Kinds of keys: those that the TLS library accepts, and the errors for the others.

use super::*;

#[tokio::test]
async fn every_supported_kind_of_key_meets_itself_in_all_versions() {
    for pem in [
        include_str!("openssl/p521.pem"),
        include_str!("openssl/rsa-6144.pem"),
        include_str!("openssl/rsa-8192.pem"),
        include_str!("openssl/rsa-e3.pem"),
    ] {
        they_meet(pem, pem).await;
    }
}

#[tokio::test]
async fn nodes_with_keys_of_different_kinds_meet() {
    let (one, two) = (include_str!("openssl/p521.pem"), include_str!("openssl/rsa-8192.pem"));
    let certificate = |pem: &str| pem[pem.find("-----BEGIN CERTIFICATE").unwrap()..].to_owned();
    let (one, two) = (one.to_owned() + &certificate(two), two.to_owned() + &certificate(one));
    they_meet(&one, &two).await;
}

#[test]
fn every_other_kind_is_refused_with_the_list_of_those_that_can_be_used() {
    for pem in [
        include_str!("openssl/rsa-1024.pem"),
        include_str!("openssl/rsa-pss.pem"),
        include_str!("openssl/ed448.pem"),
        include_str!("openssl/secp256k1.pem"),
    ] {
        let error = Identity::from_pem(pem.as_bytes()).unwrap_err();
        assert!(matches!(error, PemError::UnsupportedKey(_)), "{error}");
        for kind in ["RSA of 2048 to 8192 bits", "P-256, P-384 or P-521", "Ed25519"] {
            assert!(error.to_string().contains(kind), "{error}");
        }
    }
}
