//! `aemp relay` and `aemp replay`: octets pass unchanged, and are shown and recorded correctly.
#![allow(missing_docs, clippy::unwrap_used)]

mod cli_support;
mod recorded_handshake;

use cli_support::*;
use recorded_handshake::{authenticates_again, is_composed_again, read_from};
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;

/// A relay in front of this address, and the address on which it listens.
fn relay(target: &str, options: &[&str]) -> (Running, String) {
    let mut command = aemp();
    command.args(["relay", "127.0.0.1:0", target]).args(options);
    command.env("PERL_ANYEVENT_MP_RC", "/dev/null");
    let relay = Running::start(command);
    let behind = relay.line_with("listening on ");
    let address = behind.split(',').next().unwrap().to_owned();
    (relay, address)
}

fn replay(file: &Path, options: &[&str]) -> String {
    let mut command = aemp();
    command.arg("replay").arg(file).args(options).env("PERL_ANYEVENT_MP_RC", "/dev/null");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let mut octets = Vec::new();
    stream.read_to_end(&mut octets).unwrap();
    octets
}

#[test]
fn other_protocols_pass_unchanged_and_each_direction_ends_by_itself() {
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let (mut relay, address) = relay(&target.local_addr().unwrap().to_string(), &["--once"]);
    let question: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
    let mut dialler = TcpStream::connect(address).unwrap();
    let (mut listener, _) = target.accept().unwrap();
    let sent = question.clone();
    let mut writer = dialler.try_clone().unwrap();
    let writing = std::thread::spawn(move || {
        writer.write_all(&sent).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    assert!(read_to_end(&mut listener) == question);
    writing.join().unwrap();
    // The other direction is still open.
    listener.write_all(b"\x1b[2Janswer\0").unwrap();
    drop(listener);
    assert_eq!(read_to_end(&mut dialler), b"\x1b[2Janswer\0");
    let told = relay.line_with(" b  unfinished: ");
    assert!(told.starts_with("\"\\u{1b}[2Janswer\\u{0}\""), "{told}");
    assert_eq!(relay.exit_code(), Some(0));
}

#[test]
fn a_recorded_conversation_is_shown_again_and_is_a_recording_like_all_others() {
    let network = Network::start();
    let file = network.directory.path().join("talk.jsonl");
    let record = ["--secret", SECRET, "--record", file.to_str().unwrap()];
    let (mut relay, address) = relay(&network.address, &record);
    network.configure(SECRET, Some(&address));
    network.success(&["cal", "seed", "time"]);
    relay.line_with(" a  authentication: hmac_sha3_512, right; a sends cbor");
    let asked = relay.line_with(" a  [\"\",\"time\",");
    relay.line_with(" a  end");
    relay.signal("INT");
    assert_eq!(relay.exit_code(), Some(0));
    let shown = replay(&file, &[]);
    assert!(shown.contains(&asked), "{shown}");
    assert!(shown.contains(" b  authentication: hmac_sha3_512, right; b sends cbor\n"), "{shown}");
    assert!(!replay(&file, &["--secret", "x"]).contains("right;"));
    for line in replay(&file, &["--json"]).lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(line["ms"].is_number() && (line["from"] == "a" || line["from"] == "b"), "{line}");
        assert_ne!(line["said"], "wrong");
    }
    let conversation = read_from(&file);
    is_composed_again(&conversation);
    assert_eq!(authenticates_again(&conversation), 2);
}

#[test]
fn encrypted_conversations_work_and_are_shown_as_encrypted() {
    let directory = tempfile::tempdir().unwrap();
    let rc = directory.path().join("rc");
    assert!(aemp().arg("gencert").env("PERL_ANYEVENT_MP_RC", &rc).status().unwrap().success());
    let file: Value = serde_json::from_slice(&std::fs::read(&rc).unwrap()).unwrap();
    let pem = file["cert"].as_str().unwrap();
    let node = Running::node(&["nodeid", "n", "cert", pem, "binds", "127.0.0.1:0"]);
    let (relay, address) = relay(&node.address(), &[]);
    let dialler =
        Running::node(&["nodeid", "m", "cert", pem, "binds", "127.0.0.1:0", "seeds", &address]);
    dialler.line_with("n is up");
    relay.line_with(" a  encrypted: ");
}

#[test]
fn of_conversations_bound_to_the_secret_only_the_greetings_are_shown() {
    let settings = |id| ["nodeid", id, "secret", SECRET, "encrypt", "1", "binds", "127.0.0.1:0"];
    let node = Running::node(&settings("n"));
    let (relay, address) = relay(&node.address(), &[]);
    let dialler = Running::node(&[&settings("m")[..], &["seeds", &address]].concat());
    dialler.line_with("n is up");
    let mut shown: Vec<String> = Vec::new();
    let has_shown = |shown: &[String], part: &str| shown.iter().any(|line| line.contains(part));
    while ["a", "b"].iter().any(|end| !has_shown(&shown, &format!(" {end}  encrypted: "))) {
        shown.push(relay.lines.recv_timeout(TIMEOUT).unwrap());
    }
    for end in ["a", "b"] {
        let start = format!(" {end}  greeting: ");
        let greeting = shown.iter().find(|line| line.contains(&start));
        assert!(greeting.is_some_and(|line| line.contains("bound=1")), "{shown:#?}");
    }
    for line in &shown {
        let is_expected = ["greeting", "nonce", "encrypted"]
            .iter()
            .any(|what| line.contains(&format!("  {what}: ")));
        assert!(is_expected, "{shown:#?}");
    }
}

#[test]
fn each_connection_has_a_recording_of_its_own_and_none_is_overwritten() {
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let target_address = target.local_addr().unwrap().to_string();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("talk.jsonl");
    let record = ["--record", file.to_str().unwrap()];
    let (mut first, address) = relay(&target_address, &record);
    for text in ["one", "two"] {
        let mut dialler = TcpStream::connect(&address).unwrap();
        dialler.write_all(text.as_bytes()).unwrap();
        drop(dialler);
        drop(target.accept().unwrap());
        first.line_with(" b  end");
    }
    first.signal("TERM");
    assert_eq!(first.exit_code(), Some(0));
    assert!(replay(&file, &[]).contains("\"one\""));
    assert!(replay(&directory.path().join("talk-2.jsonl"), &[]).contains("\"two\""));
    let (mut again, address) = relay(&target_address, &record);
    drop(TcpStream::connect(address).unwrap());
    again.line_with("cannot record in ");
    assert_eq!(again.exit_code(), Some(1));
    assert!(replay(&file, &[]).contains("\"one\""));
}

#[test]
fn errors_of_relay_and_replay_name_the_cause() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (mut relay, address) = relay(&nobody, &["--once"]);
    let mut dialler = TcpStream::connect(address).unwrap();
    relay.line_with(&format!("{nobody} cannot be reached"));
    assert_eq!(read_to_end(&mut dialler), b"");
    assert_eq!(relay.exit_code(), Some(1));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("x");
    std::fs::write(&file, "{\"ms\":0,\"from\":\"a\",\"hex\":\"00\"}\n{\"ms\":1}\n").unwrap();
    let file = file.to_str().unwrap();
    let none = directory.path().join("none");
    let none = none.to_str().unwrap();
    for (arguments, code, part) in [
        (&["relay"][..], 2, "LISTEN is missing"),
        (&["relay", "127.0.0.1:0"], 2, "TARGET is missing"),
        (&["relay", "127.0.0.1:0", "host"], 2, "HOST:PORT"),
        (&["relay", "a:b:c", "host:1"], 2, "a:b:c"),
        (&["relay", "127.0.0.1:0", "host:1", "--record"], 2, "FILE is missing"),
        (&["relay", "127.0.0.1:0", "host:1", "--bogus"], 2, "--bogus"),
        (&["replay"], 2, "FILE is missing"),
        (&["replay", file, "more"], 2, "\"more\" is one argument too many"),
        (&["replay", none], 1, "No such file"),
        (&["replay", file], 1, "line 2: not an entry of a recording"),
    ] {
        let output = aemp().args(arguments).output().unwrap();
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {complaint}");
        assert!(complaint.contains(part), "{arguments:?}: {complaint}");
    }
}
