//! A network that is partitioned into two halves, each with global nodes, and later reconnected.
//!
//! The halves are network namespaces on one switch, so that a cut is silent, like that of a real cable.
//! If namespaces cannot be made (that takes root and iproute2) the test is skipped.

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use compat_tests::dialogue::Dialogue;
use compat_tests::network::eventually;
use compat_tests::node::{SECRET, command};
use compat_tests::perl;
use compat_tests::perl_node::MODULES;
use compat_tests::process::Process;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Two namespaces, and a third one with the switch between them.
struct SwitchedNetwork {
    prefix: String,
    rc: tempfile::TempDir,
}

const LEFT: &str = "left";
const RIGHT: &str = "right";

impl SwitchedNetwork {
    fn lay() -> Option<SwitchedNetwork> {
        let prefix = format!("aemp{}", std::process::id());
        let wires = SwitchedNetwork { prefix, rc: tempfile::tempdir().unwrap() };
        if !wires.ip(&format!("netns add {}", wires.name("switch"))) {
            let why = "network namespaces need root and the Debian package iproute2";
            assert!(!compat_tests::is_required("hosts"), "{why}");
            eprintln!("SKIPPED: {why}");
            return None;
        }
        let must = |arguments: String| assert!(wires.ip(&arguments), "ip {arguments} failed");
        let switch = wires.name("switch");
        must(format!("-n {switch} link add name switch0 type bridge"));
        must(format!("-n {switch} link set switch0 up"));
        for (half, subnet) in [(LEFT, 1), (RIGHT, 2)] {
            let name = wires.name(half);
            must(format!("netns add {name}"));
            must(format!("-n {name} link set lo up"));
            must(format!("-n {switch} link add name {half} type veth peer name eth0 netns {name}"));
            must(format!("-n {switch} link set {half} master switch0 up"));
            must(format!("-n {name} addr add 10.99.0.{subnet}/24 dev eth0"));
            must(format!("-n {name} addr add 10.99.0.{subnet}0/24 dev eth0"));
            must(format!("-n {name} link set eth0 up"));
        }
        Some(wires)
    }

    fn name(&self, half: &str) -> String {
        format!("{}{half}", self.prefix)
    }

    fn ip(&self, arguments: &str) -> bool {
        let output = Command::new("ip").args(arguments.split(' ')).output();
        output.is_ok_and(|output| output.status.success())
    }

    /// Cuts the connection between the halves, silently.
    fn cut(&self) {
        assert!(self.ip(&format!("-n {} link set {RIGHT} nomaster", self.name("switch"))));
    }

    fn mend(&self) {
        assert!(self.ip(&format!("-n {} link set {RIGHT} master switch0", self.name("switch"))));
    }

    /// Starts something in one half.
    fn start(
        &self,
        half: &str,
        name: &str,
        program: &Path,
        arguments: &[&str],
        rc: &Path,
    ) -> Process {
        let namespace = self.name(half);
        let mut all = vec!["netns", "exec", &namespace, program.to_str().unwrap()];
        all.extend(arguments);
        let environment = [("AE_VERBOSE", "7"), ("PERL_ANYEVENT_MP_RC", rc.to_str().unwrap())];
        Process::start(name, &find_ip(), &all, &environment)
    }

    /// The rc file with which the tools query one seed.
    fn rc_of(&self, address: &str) -> PathBuf {
        let path = self.rc.path().join(address);
        let own = address.rsplit_once(':').unwrap().0;
        let content = json!({
            "version": 1, "secret": SECRET, "seeds": [address], "binds": [format!("{own}:*")],
        });
        std::fs::write(&path, content.to_string()).unwrap();
        path
    }

    /// The content of the family `workers` in a seed's database.
    fn workers(&self, half: &str, seed: &str) -> Result<BTreeMap<String, String>, String> {
        let output = Command::new("ip")
            .args(["netns", "exec", &self.name(half)])
            .arg(command())
            .args(["db", "get", "workers"])
            .env("PERL_ANYEVENT_MP_RC", self.rc_of(seed))
            .output()
            .unwrap();
        if !output.status.success() {
            return Err(format!("{seed}: {}", String::from_utf8_lossy(&output.stderr)));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let entries = text.lines().filter_map(|line| line.split_once(' '));
        Ok(entries.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
    }

    /// Waits until these seeds hold exactly these entries.
    fn hold(&self, seeds: &[(&str, &str)], wanted: &[(&str, &str)]) {
        let wanted: BTreeMap<String, String> =
            wanted.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let (_, took) = eventually(&format!("{wanted:?} at {seeds:?}"), || {
            for (half, seed) in seeds {
                let seen = self.workers(half, seed)?;
                if seen != wanted {
                    return Err(format!("{seed} has {seen:?}"));
                }
            }
            Ok(())
        });
        eprintln!("{} entries at {} seeds after {took:.1?}", wanted.len(), seeds.len());
    }
}

impl Drop for SwitchedNetwork {
    fn drop(&mut self) {
        for part in [LEFT, RIGHT, "switch"] {
            self.ip(&format!("netns delete {}", self.name(part)));
        }
    }
}

fn find_ip() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found = std::env::split_paths(&path).map(|directory| directory.join("ip"));
    found.find(|path| path.exists()).unwrap()
}

/// A Perl node in one half.
fn start_perl(
    wires: &SwitchedNetwork,
    half: &str,
    name: &str,
    bind: &str,
    seeds: &[&str],
) -> Dialogue {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("perl/node.pl");
    let settings = json!({
        "nodeid": name, "secret": SECRET, "binds": [bind], "seeds": seeds, "norc": 1,
    });
    let arguments = [script.to_str().unwrap(), &settings.to_string()];
    let process = wires.start(half, name, Path::new("perl"), &arguments, Path::new("/nonexistent"));
    let mut dialogue = Dialogue::new(process);
    dialogue.expect("readiness", |event| event["event"] == "ready");
    dialogue
}

fn set(perl: &mut Dialogue, key: &str, value: &str) {
    perl.tell(&json!({"do": "db_set", "id": key, "family": "workers", "key": key, "value": value}));
    perl.expect("db_set", |event| event["event"] == "done" && event["id"] == key);
}

#[test]
fn two_halves_of_a_network_heal_into_one() {
    if !perl::has(MODULES) {
        return;
    }
    let Some(wires) = SwitchedNetwork::lay() else {
        return;
    };
    let seeds = [
        (LEFT, "10.99.0.1:4040"),
        (LEFT, "10.99.0.10:4040"),
        (RIGHT, "10.99.0.2:4040"),
        (RIGHT, "10.99.0.20:4040"),
    ];
    let all: Vec<&str> = seeds.iter().map(|(_, address)| *address).collect();
    // One of the four is Perl's.
    let ours: Vec<Process> = seeds[..3]
        .iter()
        .map(|(half, address)| {
            let list = all.join(",");
            let arguments = [
                "run",
                "nodeid",
                address,
                "secret",
                SECRET,
                "binds",
                address,
                "seeds",
                &list,
                "monitor_timeout",
                "6",
                "norc",
                "1",
            ];
            let seed =
                wires.start(half, address, &command(), &arguments, Path::new("/nonexistent"));
            seed.wait_for_log("listening on");
            seed
        })
        .collect();
    let _perls = start_perl(&wires, RIGHT, "perl-seed", all[3], &all);
    // A worker of either kind in each half, which knows the seeds of its half.
    let mut left = start_perl(&wires, LEFT, "perl-left", "10.99.0.1:*", &all[..2]);
    let mut right = start_perl(&wires, RIGHT, "perl-right", "10.99.0.2:*", &all[2..]);
    let worker = |half, seed, key, value| {
        let arguments = ["db", "set", "workers", key, value];
        wires.start(half, key, &command(), &arguments, &wires.rc_of(seed))
    };
    let _our_left = worker(LEFT, all[1], "our-left", "one");
    let our_right = worker(RIGHT, all[2], "our-right", "one");
    set(&mut left, "perl-left", "one");
    set(&mut right, "perl-right", "one");
    let quote = |value: &str| format!("\"{value}\"");
    let (one, two) = (quote("one"), quote("two"));
    wires.hold(
        &seeds,
        &[("our-left", &one), ("our-right", &one), ("perl-left", &one), ("perl-right", &one)],
    );

    wires.cut();
    // Each half continues alone: something changes on each side, something else ends.
    set(&mut left, "perl-left", "two");
    set(&mut right, "perl-right", "two");
    drop(our_right);
    wires.hold(&seeds[..2], &[("our-left", &one), ("perl-left", &two)]);
    let _later = worker(LEFT, all[0], "later", "one");
    let at_left = [("later", &*one), ("our-left", &*one), ("perl-left", &*two)];
    wires.hold(&seeds[..2], &at_left);
    // Perl's seed notices late; ours does not depend on it.
    wires.hold(&seeds[2..3], &[("perl-right", &two)]);

    wires.mend();
    let mut whole = at_left.to_vec();
    whole.push(("perl-right", &two));
    wires.hold(&seeds, &whole);
    drop(ours);
}
