//! `aemp run` and its watchdog in a world that is not as it should be: standard error takes nothing,
//! processes stand still, ports are taken, names do not resolve.
#![allow(missing_docs, clippy::unwrap_used)]

mod cli_support;

use cli_support::*;
use serde_json::json;
use std::fs::File;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Tries again until it is so.
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let give_up = Instant::now() + TIMEOUT;
    while !is_so() {
        assert!(Instant::now() < give_up, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Standard errors that take nothing, each with what keeps them so.
fn useless_outputs() -> Vec<(&'static str, Stdio, Option<std::io::PipeReader>)> {
    let mut outputs = Vec::new();
    let (reader, pipe) = std::io::pipe().unwrap();
    fill(&pipe);
    outputs.push(("a pipe that nobody reads", pipe.into(), Some(reader)));
    let (_, pipe) = std::io::pipe().unwrap();
    outputs.push(("a pipe whose reader is gone", pipe.into(), None));
    #[cfg(target_os = "linux")]
    outputs.push(("a full disk", File::create("/dev/full").unwrap().into(), None));
    outputs
}

/// Writes to a pipe until it takes no more.
fn fill(pipe: &std::io::PipeWriter) {
    let flags = rustix::fs::fcntl_getfl(pipe).unwrap();
    rustix::fs::fcntl_setfl(pipe, flags | rustix::fs::OFlags::NONBLOCK).unwrap();
    for size in [1 << 16, 1] {
        while (&mut &*pipe).write(&vec![b'x'; size]).is_ok() {}
    }
    rustix::fs::fcntl_setfl(pipe, flags).unwrap();
}

fn profile(network: &Network, extra: serde_json::Value) {
    let mut profile =
        json!({ "nodeid": "n", "binds": ["127.0.0.1:0"], "seeds": [network.address] });
    for (key, value) in extra.as_object().unwrap() {
        profile[key] = value.clone();
    }
    network.configure_profile("p", profile);
}

/// Waits until the node serves, which it does a moment after it has begun to listen.
fn has_started(node: &Running) {
    node.address();
    node.signal("HUP");
    node.line_with("rereading seeds");
}

fn answers(network: &Network, node: &str) -> bool {
    network.run(&["ping", node]).code == 0
}

#[test]
fn a_node_lives_and_ends_whatever_becomes_of_its_standard_error() {
    for (what, stderr, _reader) in useless_outputs() {
        let network = Network::start();
        profile(&network, json!({}));
        let mut command = network.command(&["run", "p"]);
        command.env("PERL_ANYEVENT_MP_TRACE", "1").stdout(Stdio::null()).stderr(stderr);
        let mut node =
            Running { child: command.spawn().unwrap(), lines: std::sync::mpsc::channel().1 };
        wait_until(&format!("{what}: the node answers"), || answers(&network, "n"));
        let first = node.watched();
        signal("KILL", first);
        wait_until(&format!("{what}: the node is started again"), || {
            node.children().first().is_some_and(|child| *child != first)
        });
        wait_until(&format!("{what}: the node answers again"), || answers(&network, "n"));
        // What is wrong with the file is said where nobody hears it.
        profile(&network, json!({ "seeds": ["not an address:"] }));
        node.signal("HUP");
        assert!(answers(&network, "n"), "{what}");
        node.signal("TERM");
        let told = Instant::now();
        assert_eq!(node.exit_code(), Some(0), "{what}");
        assert!(told.elapsed() < Duration::from_secs(5), "{what}: {:?}", told.elapsed());
    }
}

#[test]
fn a_subcommand_that_talks_to_the_network_does_its_work_whatever_becomes_of_its_standard_error() {
    for (what, stderr, _reader) in useless_outputs() {
        let network = Network::start();
        let mut command = network.command(&["db", "set", "family", "key", "value"]);
        command.env("PERL_ANYEVENT_MP_TRACE", "1").stdout(Stdio::null()).stderr(stderr);
        let mut setter =
            Running { child: command.spawn().unwrap(), lines: std::sync::mpsc::channel().1 };
        wait_until(&format!("{what}: the entry is there"), || {
            network.run(&["db", "get", "family", "key"]).stdout.contains("value")
        });
        setter.signal("TERM");
        assert_eq!(setter.exit_code(), Some(0), "{what}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_subcommand_with_a_blocked_standard_output_ends_by_signal() {
    let network = Network::start();
    let _setter = Running::start(network.command(&["db", "set", "family", "key", "value"]));
    let (_reader, pipe) = std::io::pipe().unwrap();
    fill(&pipe);
    let mut command = network.command(&["db", "watch", "family"]);
    command.stdout(pipe).stderr(Stdio::null());
    let mut watcher =
        Running { child: command.spawn().unwrap(), lines: std::sync::mpsc::channel().1 };
    let id = watcher.child.id();
    wait_until("it hangs in writing to standard output", || {
        let Ok(threads) = std::fs::read_dir(format!("/proc/{id}/task")) else { return false };
        threads.flatten().any(|thread| {
            let call = std::fs::read_to_string(thread.path().join("syscall")).unwrap_or_default();
            let mut words = call.split(' ');
            matches!(words.next(), Some("1" | "64")) && words.next() == Some("0x1")
        })
    });
    watcher.signal("TERM");
    assert_eq!(watcher.exit_code(), Some(1));
}

#[test]
fn a_node_that_stood_still_together_with_its_watchdog_is_not_killed() {
    let network = Network::start();
    profile(&network, json!({ "heartbeat": 1 }));
    let node = Running::start(network.command(&["run", "p"]));
    node.address();
    let process = node.watched();
    for _ in 0..2 {
        for process in [node.child.id(), process] {
            signal("STOP", process);
        }
        // Longer than the node may be silent.
        std::thread::sleep(Duration::from_millis(1500));
        // The watchdog first, which is the harder case.
        for process in [node.child.id(), process] {
            signal("CONT", process);
        }
        node.signal("HUP");
        node.line_with("rereading seeds");
        assert_eq!(node.watched(), process);
    }
}

#[test]
fn a_node_whose_port_is_taken_when_it_is_started_again_waits_for_it() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut node = Running::node(&["nodeid", "n", "secret", "x", "binds", &address.to_string()]);
    has_started(&node);
    let process = node.watched();
    signal("STOP", node.child.id());
    signal("KILL", process);
    let mut taken = None;
    wait_until("the port is free", || {
        taken = TcpListener::bind(address).ok();
        taken.is_some()
    });
    signal("CONT", node.child.id());
    node.line_with("could not be started (exit status 2)");
    node.line_with("could not be started (exit status 2)");
    drop(taken);
    node.address();
    node.signal("TERM");
    assert_eq!(node.exit_code(), Some(0));
}

#[test]
fn a_file_that_cannot_be_read_is_final_only_at_the_first_start() {
    let network = Network::start();
    let rc = network.directory.path().join("rc");
    profile(&network, json!({}));
    let right = std::fs::read(&rc).unwrap();
    std::fs::write(&rc, "{").unwrap();
    let mut node = Running::start(network.command(&["run", "p"]));
    assert_eq!(node.exit_code(), Some(2));

    std::fs::write(&rc, &right).unwrap();
    let mut node = Running::start(network.command(&["run", "p"]));
    has_started(&node);
    std::fs::write(&rc, "{").unwrap();
    signal("KILL", node.watched());
    node.line_with("could not be started");
    std::fs::write(&rc, &right).unwrap();
    node.address();
    node.signal("TERM");
    assert_eq!(node.exit_code(), Some(0));
}

/// Runs a script as the only process that orphans below it are given to, as the first process of a
/// container is.
#[cfg(target_os = "linux")]
fn inheriting(mut command: Command) -> Running {
    let become_subreaper = || {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        Ok(())
    };
    // SAFETY: a single system call, which allocates nothing.
    unsafe { command.pre_exec(become_subreaper) };
    Running::start(command)
}

#[test]
#[cfg(target_os = "linux")]
fn the_watchdog_takes_note_of_the_end_of_processes_that_it_inherits() {
    let (reader, pipe) = std::io::pipe().unwrap();
    let mut command = Command::new("sh");
    // The inner one outlives the one around it, and becomes a child of what the outer one becomes.
    let script = r#"exec 3<&0; (sh -c 'read line <&3' &) ; exec "$0" "$@" 3<&- </dev/null"#;
    command.args(["-c", script, env!("CARGO_BIN_EXE_aemp"), "run", "nodeid", "n", "secret", "x"]);
    command.args(["binds", "127.0.0.1:0", "norc", "1"]).env_remove("NOTIFY_SOCKET");
    command.stdin(reader).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut node = inheriting(command);
    node.address();
    wait_until("it has inherited a process", || node.children().len() == 2);
    drop(pipe);
    wait_until("that is no zombie", || node.children().len() == 1);
    node.signal("TERM");
    assert_eq!(node.exit_code(), Some(0));
}

/// The name server is at an address that nobody has: what is sent there is dropped without a word.
#[cfg(target_os = "linux")]
const SILENT_NAME_SERVER: &str = r#"
    ip link set lo up && ip address add 198.51.100.1/32 dev lo &&
    ip route add 192.0.2.0/24 dev lo src 198.51.100.1 &&
    mount --bind "$1" /etc/resolv.conf || exit 77
    shift; exec "$@"
"#;

#[test]
#[cfg(target_os = "linux")]
fn shutdown_does_not_wait_for_names_that_do_not_resolve() {
    let directory = tempfile::tempdir().unwrap();
    let resolv = directory.path().join("resolv.conf");
    std::fs::write(&resolv, "nameserver 192.0.2.2\noptions timeout:30\n").unwrap();
    let in_namespace = |arguments: &[&str]| {
        let mut command = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            command.arg("--map-root-user");
        }
        command.args(["--net", "--mount", "sh", "-c", SILENT_NAME_SERVER, "sh"]);
        command.arg(&resolv).args(arguments).env_remove("NOTIFY_SOCKET");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let can_be_tried = in_namespace(&["true"]).output().is_ok_and(|tried| tried.status.success());
    if !can_be_tried {
        eprintln!("SKIPPED: no network namespace with a file system of its own");
        return;
    }
    let aemp = env!("CARGO_BIN_EXE_aemp");
    let of_seed = ["binds", "127.0.0.1:0", "seeds", "seed.example:4040"];
    let of_bind = ["binds", "node.example:4040"];
    for (name, rest) in [("a seed", &of_seed[..]), ("a bind", &of_bind[..])] {
        let arguments = [&[aemp, "run", "nodeid", "n", "secret", "x", "norc", "1"], rest].concat();
        let mut node = Running::start(in_namespace(&arguments));
        if name == "a seed" {
            node.address();
        }
        wait_until("the name is being resolved", || {
            let Some(node) = node.children().first().copied() else { return false };
            let sockets = std::fs::read_to_string(format!("/proc/{node}/net/udp"));
            sockets.unwrap_or_default().contains(":0035 ")
        });
        let told = Instant::now();
        node.signal("TERM");
        assert_eq!(node.exit_code(), Some(0), "{name}");
        assert!(told.elapsed() < Duration::from_secs(2), "{name}: {:?}", told.elapsed());
    }
}
