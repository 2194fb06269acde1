//! The examples as processes that talk to each other, and the demo made of them.
//!
//! `compat-tests/tests/examples.rs` runs them with their Perl counterparts.

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../compat-tests/src/process.rs"]
#[allow(dead_code, unreachable_pub, clippy::missing_panics_doc)]
mod process;

use process::{Process, Stream};
use std::path::{Path, PathBuf};

/// The secret comes from the rc file, as for users.
struct Network {
    directory: tempfile::TempDir,
    seed: Process,
    seed_address: String,
}

impl Network {
    fn start() -> Network {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("rc"), r#"{"secret": "geheim"}"#).unwrap();
        let seed = start(
            directory.path(),
            "seed",
            Path::new(env!("CARGO_BIN_EXE_aemp")),
            &["run", "nodeid", "seed", "binds", "127.0.0.1:0"],
        );
        let line = seed.wait_for_log("listening on");
        let address = line.split_once("listening on ").unwrap().1;
        let seed_address = address.split_whitespace().next().unwrap().to_owned();
        Network { directory, seed, seed_address }
    }

    fn example(&self, name: &str, words: &[&str]) -> Process {
        let network = ["binds", "127.0.0.1:0", "seeds", &self.seed_address];
        start(self.directory.path(), name, &example(name), &[words, &network].concat())
    }
}

fn start(directory: &Path, name: &str, program: &Path, words: &[&str]) -> Process {
    let rc = directory.join("rc");
    Process::start(name, program, words, &[("PERL_ANYEVENT_MP_RC", rc.to_str().unwrap())])
}

/// Where cargo puts what it builds: `target/debug`.
fn built() -> PathBuf {
    std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned()
}

fn example(name: &str) -> PathBuf {
    let program = built().join("examples").join(name);
    assert!(program.exists(), "there is no {name}: run `cargo build --examples` first");
    program
}

/// Waits until the process has printed a line with `part` for the `count`th time.
fn sees(process: &Process, part: &str, count: usize) {
    process.wait_for(&format!("{part:?} for the {count}. time"), |lines| {
        let lines = lines.iter().filter(|line| line.stream == Stream::Out);
        (lines.filter(|line| line.text.contains(part)).count() >= count).then_some(())
    });
}

#[test]
fn the_simple_example_receives_its_own_message() {
    let mut process = Process::start("simple_example", &example("simple_example"), &[], &[]);
    assert!(process.wait_for_end().success());
    assert_eq!(process.lines()[0].text, "Ending with: 123");
}

#[test]
fn the_sender_finds_the_receiver_that_starts_after_it() {
    let network = Network::start();
    let mut sender = network.example("simple_example_sender", &["--once"]);
    network.seed.wait_for_log("is up");
    let receiver = network.example("simple_example_receiver", &[]);
    assert!(sender.wait_for_end().success());
    sees(&sender, "Answer: received", 1);
    sees(&receiver, "Received data: ", 1);
}

#[test]
fn a_chat_outlives_its_server() {
    a_chat_outlives("chat_server", "chat_client");
}

#[test]
fn a_chat_with_spawned_ports_outlives_its_server() {
    a_chat_outlives("chat_server2", "chat_client2");
}

fn a_chat_outlives(server: &str, client: &str) {
    let network = Network::start();
    let mut first = network.example(server, &[]);
    let mut alice = network.example(client, &["alice"]);
    sees(&alice, "alice (joins)", 1);
    let mut bob = network.example(client, &["bob"]);
    sees(&alice, "bob (joins)", 1);
    bob.send_line("hello");
    sees(&alice, "bob: hello", 1);

    first.kill();
    sees(&alice, "disconnected", 1);
    sees(&bob, "disconnected", 1);
    let second = network.example(server, &[]);
    sees(&second, "relaying: alice (joins)", 1);
    sees(&second, "relaying: bob (joins)", 1);
    alice.send_line("here again");
    sees(&bob, "alice: here again", 1);

    bob.close_stdin();
    assert!(bob.wait_for_end().success());
    sees(&alice, "bob (quits, normal end)", 1);
}

#[test]
fn a_chat_client_ends_with_its_input_while_there_is_no_server() {
    let network = Network::start();
    for client in ["chat_client", "chat_client2"] {
        let mut client = network.example(client, &["alice"]);
        client.send_line("hello");
        sees(&client, "no server is there", 1);
        client.close_stdin();
        assert!(client.wait_for_end().success());
    }
}

#[test]
fn an_example_without_secret_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("none");
    let nothing = [("PERL_ANYEVENT_MP_RC", file.to_str().unwrap())];
    let program = example("simple_example_receiver");
    let mut process = Process::start("receiver", &program, &[], &nothing);
    assert!(!process.wait_for_end().success());
    let lines = process.lines();
    assert!(lines.len() == 1 && lines[0].text.contains("aemp setsecret"), "{lines:?}");
}

#[test]
fn two_demos_at_once_do_not_disturb_each_other() {
    let target = built();
    if !target.ends_with("debug") {
        eprintln!("SKIPPED: the demo runs what `cargo build` builds, not {}", target.display());
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/demo");
    let script = [script.to_str().unwrap()];
    let environment = [("CARGO_TARGET_DIR", target.parent().unwrap().to_str().unwrap())];
    let demo = || Process::start("demo", Path::new("/bin/sh"), &script, &environment);
    for mut demo in [demo(), demo()] {
        assert!(demo.wait_for_end().success(), "{:?}", demo.lines());
        sees(&demo, "Answer: received", 1);
        sees(&demo, "Received data: ", 1);
    }
}
