//! Each example with its Perl counterpart, in both directions.
//!
//! The counterparts are in `perl/examples`; if `AEMP_PERL_EXAMPLES` names a directory, such as `eg` of
//! the distribution of AnyEvent::MP, the programs of the same names there are used instead.

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use compat_tests::node::{Aemp, SECRET, command};
use compat_tests::perl;
use compat_tests::perl_node::MODULES;
use compat_tests::process::{Process, Stream};
use serde_json::json;
use std::path::{Path, PathBuf};

#[derive(Clone, Copy)]
enum Language {
    Perl,
    Rust,
}
use Language::{Perl, Rust};

/// A seed of ours, and one rc file for all programs of both languages.
struct Network {
    _seed: Aemp,
    directory: tempfile::TempDir,
}

impl Network {
    /// `None` if Perl cannot load the modules.
    fn start() -> Option<Network> {
        if !perl::has(MODULES) {
            return None;
        }
        let seed = Aemp::start("seed", &[]);
        let directory = tempfile::tempdir().unwrap();
        let rc = json!({
            "version": 1,
            "secret": SECRET,
            "binds": ["127.0.0.1:0"],
            "seeds": [seed.address()],
        });
        std::fs::write(directory.path().join("rc"), rc.to_string()).unwrap();
        Some(Network { _seed: seed, directory })
    }

    fn example(&self, language: Language, name: &str, words: &[&str]) -> Process {
        let rc = self.directory.path().join("rc");
        let environment = [("PERL_ANYEVENT_MP_RC", rc.to_str().unwrap()), ("AE_VERBOSE", "5")];
        match language {
            Rust => Process::start(&format!("{name} in Rust"), &built(name), words, &environment),
            Perl => {
                let script = twin(name);
                // Unbuffered output.
                let unbuffered = ["-e", "$| = 1; do shift", script.to_str().unwrap()];
                let words = [&unbuffered, words].concat();
                Process::start(&format!("{name} in Perl"), Path::new("perl"), &words, &environment)
            }
        }
    }
}

fn built(name: &str) -> PathBuf {
    let program = command().parent().unwrap().join("examples").join(name);
    assert!(program.exists(), "there is no {name}: run `cargo build --examples` first");
    program
}

fn twin(name: &str) -> PathBuf {
    let ours = || Path::new(env!("CARGO_MANIFEST_DIR")).join("perl/examples");
    std::env::var_os("AEMP_PERL_EXAMPLES").map_or_else(ours, PathBuf::from).join(name)
}

/// Waits until the process has printed `part` for the `count`th time.
fn sees(process: &Process, part: &str, count: usize) {
    process.wait_for(&format!("{part:?} for the {count}. time"), |lines| {
        let lines = lines.iter().filter(|line| line.stream == Stream::Out);
        (lines.filter(|line| line.text.contains(part)).count() >= count).then_some(())
    });
}

#[test]
fn a_perl_sender_finds_a_rust_receiver() {
    let Some(network) = Network::start() else { return };
    let _sender = network.example(Perl, "simple_example_sender", &[]);
    let receiver = network.example(Rust, "simple_example_receiver", &[]);
    sees(&receiver, "Received data: 1", 2);
}

#[test]
fn a_rust_sender_finds_a_perl_receiver() {
    let Some(network) = Network::start() else { return };
    let sender = network.example(Rust, "simple_example_sender", &[]);
    let receiver = network.example(Perl, "simple_example_receiver", &[]);
    sees(&sender, "Sending", 2);
    sees(&receiver, "Received data: 1", 2);
}

#[test]
fn a_chat_of_both_languages_moves_from_a_perl_server_to_a_rust_server() {
    a_chat_moves("chat_server", "chat_client", Perl, Rust);
}

#[test]
fn a_chat_of_both_languages_moves_from_a_rust_server_to_a_perl_server() {
    a_chat_moves("chat_server", "chat_client", Rust, Perl);
}

#[test]
fn a_chat_with_spawned_ports_moves_from_a_perl_server_to_a_rust_server() {
    a_chat_moves("chat_server2", "chat_client2", Perl, Rust);
}

#[test]
fn a_chat_with_spawned_ports_moves_from_a_rust_server_to_a_perl_server() {
    a_chat_moves("chat_server2", "chat_client2", Rust, Perl);
}

/// Camel and crab talk through one server; it is killed, and they talk through another.
fn a_chat_moves(server: &str, client: &str, before: Language, after: Language) {
    let Some(network) = Network::start() else { return };
    let mut first = network.example(before, server, &[]);
    let mut camel = network.example(Perl, client, &["camel"]);
    sees(&first, "camel (joins)", 1);
    let mut crab = network.example(Rust, client, &["crab"]);
    sees(&camel, "crab (joins)", 1);
    camel.send_line("from the desert");
    sees(&crab, "camel: from the desert", 1);
    crab.send_line("from the sea");
    sees(&camel, "crab: from the sea", 1);

    first.kill();
    sees(&camel, "disconnected", 1);
    sees(&crab, "disconnected", 1);
    let second = network.example(after, server, &[]);
    sees(&second, "camel (joins)", 1);
    sees(&second, "crab (joins)", 1);
    camel.send_line("from the oasis");
    sees(&crab, "camel: from the oasis", 1);
    crab.send_line("from the reef");
    sees(&camel, "crab: from the reef", 1);

    crab.kill();
    sees(&camel, "crab (quits, ", 1);
}
