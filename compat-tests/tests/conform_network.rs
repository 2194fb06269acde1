//! The conformance suite of whole networks, of our nodes, real Perl nodes and broken ones.

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use aemp::conform::{NetworkPlan, NetworkReport, Outcome, State, Wiring, run_network};
use compat_tests::faulty_member::NETWORK_FAULTS;
use compat_tests::network::{InProcess, eventually};
use compat_tests::node::SECRET;
use compat_tests::perl;
use compat_tests::perl_node::MODULES;
use compat_tests::process::{Process, Signal};
use compat_tests::service::SERVICE;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

/// The command for our node.
fn ours() -> Value {
    let node = env!("CARGO_BIN_EXE_service-node");
    json!({
        "command": format!("exec {node} x norc 1 nodeid {{node}} binds {{bind}} seeds {{seeds}} \
                            secret {{secret}} framing_format {{framing}} \
                            monitor_timeout {{monitor_timeout}} {{tls}}"),
        "tls": "cert \"$(cat {cert})\"",
    })
}

/// The command for a real Perl node.
fn perl() -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("perl/service.pl");
    json!({
        // Perl gives up a node after connect_interval, and the machine may be busy.
        "command": format!("exec perl {} nodeid {{node}} binds {{bind}} seeds {{seeds}} \
                            secret {{secret}} framing_format {{framing}} connect_interval 20 \
                            monitor_timeout {{monitor_timeout}} {{tls}}",
                            script.display()),
        "tls": "cert {cert}",
        "profile": "perl-2.02",
    })
}

/// A file for the suite, with a certificate beside it.
struct File {
    directory: tempfile::TempDir,
    content: Value,
}

impl File {
    fn new(nodes: Value) -> File {
        let directory = tempfile::tempdir().unwrap();
        let content = json!({"secret": SECRET, "service": SERVICE, "nodes": nodes});
        File { directory, content }
    }

    fn with(mut self, key: &str, value: Value) -> File {
        self.content[key] = value;
        self
    }

    fn with_certificate(self) -> File {
        let path = self.directory.path().join("network.pem");
        std::fs::write(path, compat_tests::certificate()).unwrap();
        self.with("cert", "network.pem".into())
    }

    fn path(&self) -> std::path::PathBuf {
        let path = self.directory.path().join("network.json");
        std::fs::write(&path, self.content.to_string()).unwrap();
        path
    }

    fn report(&self, inside: &InProcess, only: &[&str]) -> NetworkReport {
        let mut plan = NetworkPlan::read(&self.path()).unwrap();
        plan.only = only.iter().map(|name| (*name).to_owned()).collect();
        let report = NetworkReport::new(inside.run(run_network(plan, |_| {})).unwrap());
        let is_free = self.content["connect"].is_null();
        if is_free && compat_tests::is_required("hosts") {
            assert_eq!(*report.wiring(), Wiring::Namespaces);
        }
        report
    }
}

fn assert_passes(report: &NetworkReport) {
    assert_eq!(report.count(State::Skipped), 0, "{}", report.text(false));
    assert_misses_nothing(report);
}

/// Nothing unexpected is missed. Where all nodes are on loopback, Perl nodes now and then dial each other past
/// the relays, which is skipped.
fn assert_misses_nothing(report: &NetworkReport) {
    assert_eq!(report.count(State::Missed), 0, "{}", report.text(false));
    assert!(report.count(State::Passed) > report.count(State::Skipped), "{}", report.text(true));
    if *report.wiring() == Wiring::Namespaces {
        assert_eq!(report.count(State::Skipped), 0, "{}", report.text(false));
    }
}

/// Checks of what may differ by framing and with TLS.
const OF_CONNECTIONS: &[&str] = &["net-join", "mon-cut", "msg-cut", "msg-order", "split-heals"];

#[test]
fn networks_of_our_nodes_keep_every_statement() {
    let file = File::new(json!({"ours": ours()})).with_certificate();
    let (file, inside) = (file.with("variants", json!(["cbor"])), InProcess::new());
    assert_passes(&file.report(&inside, &[]));
    let file = file.with("variants", json!(["json", "cbor+tls", "json+tls"]));
    assert_passes(&file.report(&inside, OF_CONNECTIONS));
    let file = file.with("connect", "loopback".into()).with("variants", json!(["cbor"]));
    assert_passes(&file.report(&inside, OF_CONNECTIONS));
}

#[test]
fn networks_of_our_nodes_and_perl_nodes_keep_every_statement() {
    if !perl::has(MODULES) {
        return;
    }
    let file = File::new(json!({"ours": ours(), "perl": perl()})).with_certificate();
    let file = file.with("pairs", json!([["ours", "perl"], ["perl", "ours"]]));
    let (file, inside) = (file.with("variants", json!(["cbor"])), InProcess::new());
    assert_misses_nothing(&file.report(&inside, &[]));
    let file = file.with("variants", json!(["json", "cbor+tls", "json+tls"]));
    assert_misses_nothing(&file.report(&inside, OF_CONNECTIONS));
}

#[test]
fn networks_of_perl_nodes_miss_what_their_profile_says() {
    if !perl::has(MODULES) {
        return;
    }
    // What is known to be missed is waited for.
    let file = File::new(json!({"perl": perl()})).with("monitor_timeout", json!(15));
    let file = file.with("variants", json!(["cbor"]));
    let report = file.report(&InProcess::new(), &[]);
    assert_misses_nothing(&report);
}

#[test]
fn a_broken_member_is_named_by_its_statement() {
    let member = |fault: &str| {
        let program = env!("CARGO_BIN_EXE_faulty-member");
        json!({"command": format!("exec {program} '{fault}' {{node}} {{bind}} {{seeds}}")})
    };
    let checks: Vec<&str> = NETWORK_FAULTS.iter().map(|(_, _, check)| *check).collect();
    let inside = InProcess::new();
    let file = |fault: &str| {
        let file = File::new(json!({"ours": ours(), "faulty": member(fault)}));
        let file = file.with("pairs", json!([["ours", "faulty"]]));
        file.with("variants", json!(["cbor"]))
    };
    // The relay itself causes no misses, so the following ones are due to the faults.
    assert_passes(&file("none").report(&inside, &checks));
    std::thread::scope(|scope| {
        for (fault, _, check) in NETWORK_FAULTS {
            let (file, inside) = (&file, &inside);
            scope.spawn(move || {
                // Misses are determined quickly.
                let file = file(fault).with("patience", json!(2)).with("monitor_timeout", json!(4));
                let report = file.report(inside, &[check]);
                let [finding] = report.findings() else {
                    panic!("{}", report.text(true));
                };
                let is_missed = matches!(finding.outcome, Outcome::Missed { .. });
                assert!(is_missed, "{fault}: {}", report.text(true));
            });
        }
    });
}

#[test]
fn a_command_that_starts_no_node_ends_the_run_with_one_line() {
    let run = |command: &str| {
        let node = json!({"command": format!("{command} # {{node}} {{bind}} {{seeds}}")});
        let file = File::new(json!({"broken": node}))
            .with("patience", json!(0.5))
            .with("variants", json!(["cbor"]));
        let output = Command::new(compat_tests::node::command())
            .args(["conform", "--network"])
            .arg(file.path())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), text.lines().count()), (Some(2), 1), "{text}");
        text
    };
    let ended = run("echo 'out of luck' >&2; exit 3");
    assert!(ended.starts_with("aemp: broken (cbor): the command ended"), "{ended}");
    assert!(ended.contains("exit status: 3") && ended.contains("out of luck"), "{ended}");
    let idle = run("exec sleep 60");
    assert!(idle.contains("broken (cbor): no connection with first"), "{idle}");
}

#[test]
fn the_nodes_end_with_the_suite_even_if_they_are_stopped() {
    for signal in [Signal::INT, Signal::KILL] {
        let mut node = ours();
        let directory = tempfile::tempdir().unwrap();
        let pids = directory.path().join("pids");
        let command = node["command"].as_str().unwrap();
        let command = format!("echo $$ >> {}; {command}", pids.display());
        node["command"] = command.into();
        let file = File::new(json!({"ours": node})).with("variants", json!(["cbor"]));
        let path = file.path();
        let arguments = ["conform", "--network", path.to_str().unwrap(), "--only", "msg-pause"];
        let suite = Process::start("suite", &compat_tests::node::command(), &arguments, &[]);
        let started = || {
            let text = std::fs::read_to_string(&pids).unwrap_or_default();
            text.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let state = |id: &String| {
            let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next())
        };
        eventually("one of the nodes is stopped", || {
            match started().iter().any(|id| state(id) == Some('T')) {
                true => Ok(()),
                false => Err(format!("{:?}", started())),
            }
        });
        let namespace = |id: &str| std::fs::read_link(format!("/proc/{id}/ns/net")).ok();
        let own = namespace("self");
        let mut namespaces: Vec<_> = started().iter().filter_map(|id| namespace(id)).collect();
        namespaces.retain(|one| Some(one) != own.as_ref());
        suite.signal(signal);
        eventually("all nodes have ended", || {
            // Where nobody reaps it, what was killed stays as a zombie.
            let lives = |id: &&String| state(id).is_some_and(|state| state != 'Z');
            match started().iter().find(lives) {
                None => Ok(()),
                Some(id) => Err(format!("process {id} lives")),
            }
        });
        eventually("nobody is in a network namespace of the suite", || {
            let processes = std::fs::read_dir("/proc").unwrap().flatten();
            let mut names = processes.filter_map(|entry| entry.file_name().into_string().ok());
            let is_left = |id: &String| namespace(id).is_some_and(|its| namespaces.contains(&its));
            names.find(is_left).map_or(Ok(()), |id| Err(format!("process {id} is")))
        });
    }
}
