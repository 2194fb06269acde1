//! Conversations between our node and Perl's, recorded by `aemp relay` in the format of `fixtures/`.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../../tests/recorded_handshake/mod.rs"]
mod recorded_handshake;

use compat_tests::node::{Aemp, SECRET, command};
use compat_tests::perl;
use compat_tests::perl_node::{MODULES, PerlNode};
use compat_tests::process::Process;
use recorded_handshake::{authenticates_again, is_composed_again, is_played_again, read_from};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

struct Relay {
    process: Process,
    address: String,
}

impl Relay {
    fn start(target: &str, file: &Path) -> Relay {
        let file = file.to_str().unwrap();
        let words =
            ["relay", "127.0.0.1:0", target, "--once", "--secret", SECRET, "--record", file];
        let process = Process::start("relay", &command(), &words, &[]);
        let line = process.wait_for_log("listening on ");
        let behind = line.split_once("listening on ").unwrap().1;
        let address = behind.split(',').next().unwrap().to_owned();
        Relay { process, address }
    }
}

fn packets(file: &Path) -> Vec<Value> {
    let output = Command::new(command()).args(["replay", "--json"]).arg(file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let all: Vec<Value> = lines.collect();
    for line in &all {
        assert!(line["said"] != "wrong" && line["said"] != "unfinished", "{line}");
    }
    all.into_iter().filter(|line| line["said"] == "packet").map(|l| l["packet"].clone()).collect()
}

fn is_accepted(file: &Path) {
    let conversation = read_from(file);
    is_composed_again(&conversation);
    assert_eq!(authenticates_again(&conversation), 2);
    is_played_again(&conversation);
}

#[test]
fn what_perl_and_we_say_to_each_other_can_be_recorded_in_every_framing() {
    if !perl::has(MODULES) {
        eprintln!("SKIPPED: no Perl nodes");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for framing in ["cbor", "json", "storable"] {
        let list = format!("[\"{framing}\"]");
        let seed = Aemp::start("rust-seed", &[("framing_format", &list)]);
        let file = directory.path().join(format!("{framing}.jsonl"));
        let mut relay = Relay::start(&seed.address(), &file);
        let settings = json!({ "seeds": [relay.address], "framing_format": [framing] });
        let mut perl = PerlNode::start("perl-slave", settings);
        perl.sees_up("rust-seed");
        let port = perl.port("echo");
        perl.snd("rust-seed", json!(["snd", port, "hallo", { "a": [1, null] }]));
        perl.message("echo");
        perl.kill();
        assert!(relay.process.wait_for_end().success());
        is_accepted(&file);
        let packets = packets(&file);
        let name = port.split_once('#').unwrap().1;
        assert!(packets.contains(&json!([name, "hallo", { "a": [1, null] }])), "{packets:?}");
        assert!(packets.contains(&json!(["", "g_global"])), "{packets:?}");
    }
}

#[test]
fn a_rust_node_that_dials_a_perl_seed_is_recorded_too() {
    if !perl::has(MODULES) {
        eprintln!("SKIPPED: no Perl nodes");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("dialled.jsonl");
    let mut perl = PerlNode::start("perl-seed", json!({}));
    let mut relay = Relay::start(perl.address(), &file);
    let worker = Aemp::start("rust-worker", &[("seeds", &relay.address)]);
    perl.sees_up("rust-worker");
    drop(worker);
    assert!(relay.process.wait_for_end().success());
    is_accepted(&file);
}
