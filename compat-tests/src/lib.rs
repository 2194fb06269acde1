//! Helpers of the checks of aemp against real Perl modules and real Perl nodes.
//!
//! `tests/codec.rs` compares the framings and tokens with Perl's own encoders, `tests/peer.rs` tries all
//! kinds of handshakes between a scripted Perl peer and a node, and `tests/live.rs` runs networks of
//! Perl's AnyEvent::MP and ours. The first two only need Debian packages; see [`perl`].

// This crate consists of test helpers, which may panic.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::missing_panics_doc)]

pub use aemp::conform;

pub mod cable;
pub mod cases;
pub mod codec;
pub mod cut;
pub mod dialogue;
pub mod faulty;
pub mod faulty_member;
pub mod host;
pub mod network;
pub mod neutral;
pub mod node;
pub mod peer;
pub mod perl;
pub mod perl_node;
pub mod process;
pub mod random;
pub mod service;

/// Whether `AEMP_REQUIRE` has this word: then a test that lacks what the word means fails instead of
/// being skipped.
pub fn is_required(word: &str) -> bool {
    std::env::var("AEMP_REQUIRE").is_ok_and(|words| words.split(',').any(|other| other == word))
}

/// A key and its self-signed certificate in one PEM text, for tests of TLS.
///
/// # Panics
/// If there is no `openssl`.
pub fn certificate() -> String {
    let directory = tempfile::tempdir().unwrap();
    let (key, certificate) = (directory.path().join("key"), directory.path().join("certificate"));
    let output = std::process::Command::new("openssl")
        .args(["req", "-new", "-nodes", "-x509", "-days", "3650", "-newkey", "rsa:2048", "-batch"])
        .args(["-subj", "/CN=AnyEvent::MP", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .unwrap_or_else(|error| panic!("cannot run openssl (Debian package openssl): {error}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    [certificate, key].map(|file| std::fs::read_to_string(file).unwrap()).concat()
}

/// Identities of two nodes, each with a certificate of its own that the same CA issued.
///
/// # Panics
/// If there is no `openssl`.
pub fn certificates_of_a_ca() -> [String; 2] {
    let directory = tempfile::tempdir().unwrap();
    let openssl = |arguments: &[&str]| {
        let output = std::process::Command::new("openssl")
            .current_dir(&directory)
            .args(arguments)
            .output()
            .unwrap_or_else(|error| panic!("cannot run openssl (Debian package openssl): {error}"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let read = |file: &str| std::fs::read_to_string(directory.path().join(file)).unwrap();
    openssl(&[
        "req", "-new", "-nodes", "-x509", "-days", "3650", "-newkey", "rsa:2048", "-batch",
        "-subj", "/CN=CA", "-keyout", "ca.key", "-out", "ca.pem",
    ]);
    ["one", "two"].map(|name| {
        let subject = format!("/CN={name}");
        openssl(&[
            "req", "-new", "-nodes", "-newkey", "rsa:2048", "-batch", "-subj", &subject, "-keyout",
            "key", "-out", "request",
        ]);
        openssl(&[
            "x509",
            "-req",
            "-in",
            "request",
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            "365",
            "-out",
            "certificate",
        ]);
        // Perl presents the first certificate.
        read("certificate") + &read("ca.pem") + &read("key")
    })
}
