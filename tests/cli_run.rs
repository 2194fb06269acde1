//! `aemp run`: the start of a node, its watchdog, and its end.
#![allow(missing_docs, clippy::unwrap_used)]

mod cli_support;

use cli_support::*;
use serde_json::json;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;

#[test]
fn a_node_ends_cleanly_by_signals() {
    for name in ["TERM", "INT"] {
        let mut node = Running::node(&["nodeid", "n", "secret", "x", "binds", "127.0.0.1:0"]);
        node.address();
        node.signal(name);
        assert_eq!(node.exit_code(), Some(0), "{name}");
    }
}

#[test]
fn a_node_that_is_killed_is_started_again() {
    let mut network = Network::start();
    for name in ["KILL", "ABRT"] {
        signal(name, network.seed.watched());
        network.seed.line_with("is started again");
        network.seed.address();
    }
    network.seed.signal("TERM");
    assert_eq!(network.seed.exit_code(), Some(0));
}

#[test]
fn a_node_restarts_when_it_is_told_to() {
    let network = Network::start();
    assert_eq!(network.success(&["restart", "seed"]), "\n");
    network.seed.line_with("the node restarts");
    network.seed.address();
}

#[test]
fn a_node_without_watchdog_cannot_be_restarted_and_says_so() {
    let arguments = ["--no-watchdog", "nodeid", "seed", "secret", SECRET, "binds", "127.0.0.1:0"];
    let seed = Running::node(&arguments);
    let address = seed.address();
    let network = Network { seed, address, directory: tempfile::tempdir().unwrap() };
    network.configure(SECRET, Some(&network.address));
    network.failure(&["restart", "seed"], "no watchdog that could restart it");
    network.success(&["ping", "seed"]);
}

#[test]
fn a_node_does_not_outlive_its_watchdog() {
    let mut node = Running::node(&["nodeid", "n", "secret", "x", "binds", "127.0.0.1:0"]);
    let address = node.address();
    let mut connection = BufReader::new(std::net::TcpStream::connect(address).unwrap());
    connection.get_ref().set_read_timeout(Some(TIMEOUT)).unwrap();
    let mut greeting = String::new();
    connection.read_line(&mut greeting).unwrap();
    assert!(greeting.starts_with("aemp;1"), "{greeting}");
    node.child.kill().unwrap();
    // The connection ends when the process ends.
    let ended = connection.read_to_end(&mut Vec::new());
    assert!(!ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));
}

#[test]
fn a_node_that_cannot_start_is_not_started_again() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut node = Running::node(&["nodeid", "n", "secret", "x", "binds", &address]);
    node.line_with(&address);
    assert_eq!(node.exit_code(), Some(2));
}

#[test]
fn the_service_manager_is_told_how_the_node_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(TIMEOUT)).unwrap();
    let mut command = aemp();
    command.args(["run", "nodeid", "n", "secret", "x", "binds", "127.0.0.1:0", "norc", "1"]);
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "200000");
    let mut node = Running::start(command);
    let next = || {
        let mut octets = [0; 64];
        let len = manager.recv(&mut octets).unwrap();
        String::from_utf8(octets[..len].to_vec()).unwrap()
    };
    assert!(next().starts_with("READY=1\n"));
    assert_eq!(next(), "WATCHDOG=1");
    assert_eq!(next(), "WATCHDOG=1");
    node.signal("TERM");
    while !next().starts_with("STOPPING=1\n") {}
    assert_eq!(node.exit_code(), Some(0));
}

#[test]
fn a_node_that_hangs_is_started_again() {
    let node =
        Running::node(&["nodeid", "n", "secret", "x", "binds", "127.0.0.1:0", "heartbeat", "2"]);
    node.address();
    // From then on it sends its watchdog signs of life.
    node.signal("HUP");
    node.line_with("rereading seeds");
    signal("STOP", node.watched());
    node.line_with("no sign of life for 2 s");
    node.address();
}

#[test]
fn a_node_rereads_seeds_and_log_level_on_sighup() {
    let network = Network::start();
    let mut command = network.command(&["run", "p"]);
    let configure = |seed: Option<&str>, level: &str| {
        network.configure_profile(
            "p",
            json!({
                "nodeid": "n", "binds": ["127.0.0.1:0"], "seeds": seed.as_slice(), "log_level": level,
            }),
        );
    };
    configure(None, "info");
    command.env_remove("AE_VERBOSE");
    let node = Running::start(command);
    node.address();
    configure(Some(&network.address), "debug");
    node.signal("HUP");
    node.line_with("rereading seeds");
    node.line_with("seed is up");
    configure(Some("not an address:"), "error");
    node.signal("HUP");
    node.line_with("the node keeps its present configuration");
    network.success(&["ping", "n"]);
}

#[test]
fn perl_code_in_the_profile_is_ignored_with_a_warning() {
    let node = Running::node(&["nodeid", "n", "secret", "x", "binds", "127.0.0.1:0", "eval", "1"]);
    node.line_with("`eval` is Perl code");
    node.address();
}

#[test]
fn a_node_reads_its_secret_from_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("secret");
    std::fs::write(&file, format!("{SECRET}\n")).unwrap();
    let file = file.to_str().unwrap();
    let seed = Running::node(&["--secret-file", file, "nodeid", "seed", "binds", "127.0.0.1:0"]);
    let address = seed.address();
    let network = Network { seed, address, directory };
    network.configure(SECRET, Some(&network.address));
    network.success(&["ping", "seed"]);
    let mut refused = Running::node(&["--secret-file", "-", "nodeid", "n"]);
    refused.line_with("name a file");
    assert_eq!(refused.exit_code(), Some(2));
}
