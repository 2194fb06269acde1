//! Where a node listens and what it announces, on hosts whose addresses come and go.

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use compat_tests::host::Host;
use compat_tests::node::command;
use compat_tests::process::{Process, TIMEOUT};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A host with a rc file: a network that is joined by 127.0.0.1:4041.
struct Machine {
    host: Host,
    directory: tempfile::TempDir,
}

impl Machine {
    fn new() -> Option<Machine> {
        let machine = Machine { host: Host::new()?, directory: tempfile::tempdir().unwrap() };
        std::fs::write(
            machine.rc(),
            r#"{ "secret": "geheim", "connect_interval": 0.1, "seeds": ["127.0.0.1:4041"],
                 "profile": { "seed": { "nodeid": "seed", "binds": ["127.0.0.1:4041"] } } }"#,
        )
        .unwrap();
        Some(machine)
    }

    fn rc(&self) -> PathBuf {
        self.directory.path().join("rc")
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("notify")
    }

    fn start(&self, program: &Path, arguments: &[&str]) -> Process {
        let name = arguments.join(" ");
        let rc = self.rc();
        self.host.start(&name, program, arguments, &[("PERL_ANYEVENT_MP_RC", rc.to_str().unwrap())])
    }

    fn seed(&self) -> Process {
        let seed = self.start(&command(), &["run", "seed"]);
        seed.wait_for_log("listening on 127.0.0.1:4041");
        seed
    }

    /// A node that a service manager starts.
    fn node(&self, binds: &str) -> Process {
        let arguments = ["run", "nodeid", "n", "binds", binds, "metrics", "127.0.0.1:4080"];
        let (rc, socket) = (self.rc(), self.socket());
        let environment = [
            ("PERL_ANYEVENT_MP_RC", rc.to_str().unwrap()),
            ("NOTIFY_SOCKET", socket.to_str().unwrap()),
        ];
        self.host.start("n", &command(), &arguments, &environment)
    }

    /// Runs a command to its end. Returns whether it succeeded, and its output.
    fn run(&self, program: &Path, arguments: &[&str]) -> (bool, String) {
        let mut process = self.start(program, arguments);
        let success = process.wait_for_end().success();
        (success, process.lines().into_iter().map(|line| line.text + "\n").collect())
    }

    fn ip(&self, arguments: &str) {
        self.host.ip(arguments);
    }

    /// Gets a page of the node's HTTP server.
    fn get(&self, path: &str) -> String {
        let script = format!(
            "exec 3<>/dev/tcp/127.0.0.1/4080 && printf 'GET {path} HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3"
        );
        self.run(Path::new("bash"), &["-c", &script]).1
    }

    /// Waits until the database has these addresses of the node.
    fn wait_until_announced(&self, addresses: &str) {
        let give_up = Instant::now() + TIMEOUT;
        loop {
            let (_, output) = self.run(&command(), &["db", "get", "'l", "n"]);
            if output.trim() == addresses {
                return;
            }
            assert!(Instant::now() < give_up, "announced: {output}, not {addresses}");
        }
    }
}

/// What a service manager has been told; waits for a message that satisfies `is_it`.
fn told(socket: &UnixDatagram, is_it: impl Fn(&str) -> bool) -> String {
    let mut message = [0; 4096];
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    loop {
        let length = socket.recv(&mut message).unwrap();
        let text = String::from_utf8_lossy(&message[..length]).into_owned();
        if is_it(&text) {
            return text;
        }
    }
}

#[test]
fn a_node_that_listens_nowhere_says_so_until_an_address_comes() {
    let Some(machine) = Machine::new() else { return };
    let _seed = machine.seed();
    let manager = UnixDatagram::bind(machine.socket()).unwrap();
    let node = machine.node("*:4040");
    node.wait_for_log("listens nowhere");
    // Its first words are not that it is ready.
    let first = told(&manager, |_| true);
    assert!(first.starts_with("STATUS=listens nowhere"), "{first}");
    let health = machine.get("/health");
    assert!(health.contains(" 503 ") && health.contains("*:4040"), "{health}");
    assert!(machine.get("/status.json").contains("listens nowhere"));
    machine.wait_until_announced("[]");
    let (healthy, findings) =
        machine.run(&command(), &["doctor", "nodeid", "n", "binds", "*:4040"]);
    assert!(!healthy && findings.contains("WRONG  bind *:4040"), "{findings}");

    machine.ip("address add 192.0.2.7/24 dev lo");
    node.wait_for_log("listening on 192.0.2.7:4040");
    told(&manager, |text| text.starts_with("READY=1"));
    machine.wait_until_announced(r#"["192.0.2.7:4040"]"#);
    assert!(machine.get("/health").contains(" 200 "));

    machine.ip("address add 192.0.2.8/24 dev lo");
    machine.wait_until_announced(r#"["192.0.2.7:4040","192.0.2.8:4040"]"#);
    machine.ip("address del 192.0.2.8/24 dev lo");
    machine.wait_until_announced(r#"["192.0.2.7:4040"]"#);
    machine.ip("address del 192.0.2.7/24 dev lo");
    node.wait_for_log("no longer listening on 192.0.2.7:4040");
    machine.wait_until_announced("[]");
    assert!(machine.get("/health").contains(" 503 "));
    machine.ip("address add 192.0.2.7/24 dev lo");
    machine.wait_until_announced(r#"["192.0.2.7:4040"]"#);
    assert!(machine.get("/health").contains(" 200 "));
}

#[test]
fn a_configured_address_that_the_machine_loses_is_not_announced_until_it_is_back() {
    let Some(machine) = Machine::new() else { return };
    let _seed = machine.seed();
    machine.ip("address add 192.0.2.7/24 dev lo");
    let node = machine.node("192.0.2.7:4040");
    machine.wait_until_announced(r#"["192.0.2.7:4040"]"#);
    machine.ip("address del 192.0.2.7/24 dev lo");
    node.wait_for_log("listens nowhere");
    machine.wait_until_announced("[]");
    machine.ip("address add 192.0.2.7/24 dev lo");
    machine.wait_until_announced(r#"["192.0.2.7:4040"]"#);
}

#[test]
fn a_listener_on_all_addresses_announces_those_of_the_machine() {
    let Some(machine) = Machine::new() else { return };
    let _seed = machine.seed();
    for binds in ["0.0.0.0:4040", r#"["[::]:4040"]"#] {
        let _node = machine.node(binds);
        machine.wait_until_announced(r#"["127.0.0.1:4040"]"#);
        machine.ip("address add 192.0.2.7/24 dev lo");
        machine.wait_until_announced(r#"["192.0.2.7:4040"]"#);
        machine.ip("address del 192.0.2.7/24 dev lo");
        machine.wait_until_announced(r#"["127.0.0.1:4040"]"#);
    }
}

#[test]
fn an_address_of_another_machine_is_refused_in_true_words() {
    let Some(machine) = Machine::new() else { return };
    let mut node = machine.start(&command(), &["run", "nodeid", "n", "binds", "192.0.2.7:4040"]);
    let line = node.wait_for_log("bind 192.0.2.7:4040");
    assert!(line.contains("this machine does not have the address"), "{line}");
    assert_eq!(node.wait_for_end().code(), Some(2));
}

#[test]
fn localhost_is_bound_where_the_hosts_file_knows_it_by_an_address_that_is_switched_off() {
    let Some(machine) = Machine::new() else { return };
    let hosts = machine.directory.path().join("hosts");
    std::fs::write(&hosts, "::1 localhost\n").unwrap();
    let mount = r#"ip address del ::1/128 dev lo 2>/dev/null; mount --bind "$0" /etc/hosts || exit 77; exec "$@""#;
    let (hosts, program) = (hosts.to_str().unwrap(), command());
    let words = ["--mount", "sh", "-c", mount, hosts, program.to_str().unwrap()];
    let rest = ["run", "nodeid", "n", "binds", "localhost:4040", "seeds", "[]"];
    let node = machine.start(Path::new("unshare"), &[&words[..], &rest[..]].concat());
    node.wait_for_log("listening on 127.0.0.1:4040");
}
