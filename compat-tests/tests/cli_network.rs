//! The subcommands that talk to a network, compared with those of Perl's tool: they print the same lines, on
//! a network of one node of ours and one of Perl's.
#![allow(missing_docs, clippy::unwrap_used)]

use compat_tests::node::{Aemp, SECRET, command};
use compat_tests::perl;
use compat_tests::perl_node::{MODULES, PerlNode};
use compat_tests::process::{Process, Signal, signal};
use serde_json::json;
use std::env;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Perl's tool: `$PERL_AEMP`, or `perl-aemp` in the search path.
fn perl_tool() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).map(|directory| directory.join("perl-aemp"));
    env::var_os("PERL_AEMP").map(PathBuf::from).or_else(|| found.into_iter().find(|f| f.is_file()))
}

/// A seed of ours, a Perl node that joined through it, and an rc file with which the tools join.
struct Network {
    seed: Aemp,
    perl: PerlNode,
    tool: PathBuf,
    directory: TempDir,
}

impl Network {
    fn start() -> Option<Network> {
        let tool = perl_tool();
        if tool.is_none() || !perl::has(MODULES) {
            eprintln!("SKIPPED: no Perl tool (PERL_AEMP) or no Perl nodes");
            return None;
        }
        let seed = Aemp::start("rust-seed", &[]);
        let mut perl = PerlNode::start("perl-slave", json!({ "seeds": [seed.address()] }));
        perl.sees_up("rust-seed");
        let directory = tempfile::tempdir().unwrap();
        let rc = json!({
            "version": 1,
            "secret": SECRET,
            "profile": { "aemp": { "seeds": [seed.address()], "binds": ["127.0.0.1:*"] } },
        });
        std::fs::write(directory.path().join("rc"), rc.to_string()).unwrap();
        Some(Network { seed, perl, tool: tool?, directory })
    }

    fn run(&self, tool: &Path, arguments: &[&str], input: &str) -> Output {
        let mut child = Command::new(tool)
            .args(arguments)
            .env("PERL_ANYEVENT_MP_RC", self.directory.path().join("rc"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    fn perls(&self, arguments: &[&str]) -> String {
        String::from_utf8(self.run(&self.tool, arguments, "").stdout).unwrap()
    }

    fn ours(&self, arguments: &[&str]) -> String {
        String::from_utf8(self.run(&command(), arguments, "").stdout).unwrap()
    }

    fn assert_same(&self, arguments: &[&str]) -> String {
        let (perls, ours) = (self.perls(arguments), self.ours(arguments));
        assert_eq!(ours, perls, "{arguments:?}");
        ours
    }
}

#[test]
fn each_subcommand_prints_what_perls_prints() {
    let Some(mut network) = Network::start() else { return };
    let port = network.perl.port("sink");
    assert_eq!(network.assert_same(&["snd", &port, "a", "b"]), "message sent successfully \n");
    assert_eq!(network.perl.message("sink"), json!(["a", "b"]));
    assert_eq!(network.perl.message("sink"), json!(["a", "b"]));
    network.assert_same(&["snd", "nobody#x", "a"]);
    // Perl's tool uses the last message as the answer, so it may be either.
    let answer = network.ours(&["snd", "perl-slave#nix", "a"]);
    assert_eq!(answer, "no_such_port cannot monitor nonexistent port perl-slave#nix \n");
    network.assert_same(&["mon", "perl-slave#nix"]);
    network.assert_same(&["mon", "rust-seed#nix"]);
    network.assert_same(&["mon", "nobody#x"]);
    network.assert_same(&["cal", "perl-slave#nix", "a"]);
    network.assert_same(&["cal", "rust-seed", "can", "snd"]);
    network.assert_same(&["cal", "perl-slave", "can", "nothing"]);
    network.assert_same(&["eval", "perl-slave", "1 + 1, [2.5, undef], { a => 'b' }, \"x\\n\\e\""]);
    network.assert_same(&["eval", "perl-slave", "()"]);
    network.assert_same(&["eval", "perl-slave", "1,", "2"]);
    network.assert_same(&["eval", "rust-seed", "$AnyEvent::MP::Kernel::NODE"]);
    network.assert_same(&["eval", "rust-seed", ""]);
}

#[test]
fn errors_of_evaluated_code_go_to_standard_error() {
    let Some(network) = Network::start() else { return };
    for tool in [network.tool.clone(), command()] {
        let output = network.run(&tool, &["eval", "perl-slave", "die \"told to\\n\""], "");
        assert!(!output.status.success());
        assert!(output.stdout.is_empty());
        assert!(String::from_utf8_lossy(&output.stderr).contains("told to"));
    }
}

#[test]
fn trace_shows_the_same_network() {
    let Some(network) = Network::start() else { return };
    let sorted = |text: String| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let ours = sorted(network.ours(&["trace", "rust-seed"]));
    assert_eq!(ours, ["perl-slave -> rust-seed", "rust-seed -> perl-slave"]);
    // Perl's tool begins with a node `seed`, which does not exist.
    let mut perls = sorted(network.perls(&["trace", "rust-seed"]));
    perls.retain(|line| line != "seed -> rust-seed");
    assert_eq!(ours, perls);
}

#[test]
fn a_message_to_a_function_that_a_perl_node_does_not_have_is_an_error() {
    let Some(network) = Network::start() else { return };
    for (function, is_there) in [
        ("AnyEvent::MP::Kernel::up_nodes", true),
        // Perl's own request, and a module that it only loads now.
        ("devnull", true),
        ("Text::Abbrev::abbrev", true),
        ("Text::Abbrev::nothing", false),
        ("nothing", false),
    ] {
        // A Perl node remembers what it has tried.
        for _ in 0..2 {
            let output = network.run(&command(), &["snd", "perl-slave", function, "x"], "");
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.success(), is_there, "{function}: {stderr}");
            assert_eq!(stderr.contains(&format!("no function {function}")), !is_there, "{stderr}");
        }
    }
}

#[test]
fn both_tools_see_a_port_die() {
    let Some(mut network) = Network::start() else { return };
    for tool in [network.tool.clone(), command()] {
        let port = network.perl.port("mortal");
        let code =
            format!("my $t; $t = AE::timer 1, 0, sub {{ undef $t; kil '{port}', die => 'x' }}; ()");
        network.perl.eval(&code);
        let output = network.run(&tool, &["mon", &port], "");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "die x \n");
    }
}

#[test]
fn the_shell_evaluates_on_perl_nodes_and_shows_echoes() {
    let Some(network) = Network::start() else { return };
    let lines = "=perl-slave\npackage main;\n__PACKAGE__, 40 + 2\nsnd $ECHO, 'hallo'; ()\n=\n";
    let output = network.run(&command(), &["shell", "rust-seed"], lines);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("rust-seed AnyEvent::MP::Kernel> "), "{text}");
    assert!(text.contains("perl-slave main> "), "{text}");
    assert!(text.contains("[\n   \"main\",\n   42\n]\n"), "{text}");
    assert!(text.contains("ECHO<perl-slave> [\n   \"hallo\"\n]\n"), "{text}");
    assert!(
        text.lines()
            .any(|line| { line.starts_with("nodes: ") && line.contains(" perl-slave rust-seed") })
    );
}

#[test]
fn either_tool_restarts_our_node() {
    let Some(network) = Network::start() else { return };
    let seeds = network.seed.address();
    let mut worker = Aemp::start_watched("rust-worker", &[("seeds", &seeds)]);
    let mut wait_until_up = |times| {
        worker.process().wait_for("the worker to join", |lines| {
            let ups = lines.iter().filter(|line| line.text.contains("rust-seed is up"));
            (ups.count() >= times).then_some(())
        });
        // The seed answers once it knows where the worker is.
        network.ours(&["ping", "rust-worker"]);
    };
    wait_until_up(1);
    for (tool, times) in [(network.tool.clone(), 2), (command(), 3)] {
        let output = network.run(&tool, &["restart", "rust-worker"], "");
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "\n", "{errors}");
        wait_until_up(times);
    }
}

#[test]
fn our_tool_restarts_a_perl_node() {
    let Some(network) = Network::start() else { return };
    let seeds = format!("[\"{}\"]", network.seed.address());
    let words = ["run", "nodeid", "perl-worker", "secret", SECRET, "binds", "[\"127.0.0.1:0\"]"];
    let words = [&words[..], &["seeds", &seeds, "norc", "1"]].concat();
    let worker = Process::start("perl-worker", &network.tool, &words, &[]);
    network.ours(&["ping", "perl-worker"]);
    let process = |network: &Network| network.ours(&["eval", "perl-worker", "$$"]);
    let before = until("the worker answers", || process(&network), |id| !id.is_empty());
    let output = network.run(&command(), &["restart", "perl-worker"], "");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "\n");
    let is_another = |id: &String| !id.is_empty() && *id != before;
    let after = until("another process answers", || process(&network), is_another);
    // The watchdog of Perl's tool ignores signals, and ends with its child.
    let id = after.trim().trim_matches('"').to_owned();
    signal(id.parse().unwrap(), Signal::TERM);
    drop(worker);
}

/// Polls until the condition holds.
fn until<T>(what: &str, mut look: impl FnMut() -> T, wanted: impl Fn(&T) -> bool) -> T {
    let give_up = Instant::now() + Duration::from_secs(60);
    loop {
        let seen = look();
        if wanted(&seen) {
            return seen;
        }
        assert!(Instant::now() < give_up, "{what}: not within a minute");
    }
}

#[test]
fn the_doctor_sees_that_the_clocks_of_two_machines_differ() {
    let Some(mut network) = Network::start() else { return };
    network.perl.eval(
        "$AnyEvent::MP::Kernel::NODE_REQ{time} = sub { AnyEvent::MP::Kernel::snd (@_, 1000 + time) }; ()",
    );
    let address = network.perl.address().to_owned();
    let words = ["doctor", "x", "norc", "1", "secret", SECRET, "binds", "127.0.0.1:0"];
    let report = network.ours(&[&words[..], &["seeds", &address]].concat());
    let line = report.lines().find(|line| line.starts_with("WRONG")).unwrap_or_default();
    assert!(line.contains("its clock is") && line.contains("ahead of this one"), "{report}");
}
