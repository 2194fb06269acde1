//! Runs what the pages tell people to type: the README's programs, in both languages, and the command lines
//! of the tutorial and of `aemp --help`, each on a host with only loopback.

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use compat_tests::host::Host;
use compat_tests::node::command;
use compat_tests::perl;
use compat_tests::perl_node::MODULES;
use compat_tests::process::Process;
use std::path::{Path, PathBuf};

/// A user who follows a page, on a separate host with a new home directory.
struct Reader {
    host: Host,
    home: tempfile::TempDir,
}

impl Reader {
    fn new() -> Option<Reader> {
        Some(Reader { host: Host::new()?, home: tempfile::tempdir().unwrap() })
    }

    fn start(&self, name: &str, program: &Path, arguments: &[&str]) -> Process {
        let path = std::env::var("PATH").unwrap();
        let path = format!("{}:{path}", command().parent().unwrap().display());
        let environment = [("HOME", self.home.path().to_str().unwrap()), ("PATH", &path)];
        self.host.start(name, program, arguments, &environment)
    }

    /// Types a command line into a shell.
    fn types(&self, line: &str) -> Process {
        // The examples are built already; cargo would build them again for this user.
        let line = match line.strip_prefix("cargo run --example ") {
            Some(rest) => {
                let (name, arguments) = rest.split_once(' ').unwrap_or((rest, ""));
                format!("{} {arguments}", example(name).display())
            }
            None => line.to_owned(),
        };
        self.start(&line, Path::new("sh"), &["-c", &format!("exec {line}")])
    }

    /// Types a command line that ends by itself; returns its output.
    fn output_of(&self, line: &str) -> String {
        let mut process = self.types(line);
        if !process.wait_for_end().success() {
            process.fail("it ended with an error");
        }
        process.lines().into_iter().map(|line| line.text + "\n").collect()
    }

    /// A program of the README.
    fn runs(&self, role: Role, language: Language) -> Process {
        self.runs_with(role, language, &[])
    }

    /// Waits until there are two of the README's counters, which have the same count.
    fn waits_for_equal_counters(&self) {
        let program = program_of_the_readme(Role::Counter, Perl);
        let (setup, _) = program.split_once("my $count").unwrap();
        let script = self.home.path().join("equal");
        let compare = r#"
            my ($counters, $done) = ({}, AE::cv);
            my $family = db_mon eg_counters => sub { $counters = $_[0] };
            my $timer = AE::timer 0, 0.05, sub {
               return unless 2 == keys %$counters;
               my @counts;
               for (keys %$counters) {
                  cal $_, add => 0, sub {
                     push @counts, @_;
                     $done->send if @counts == 2 && $counts[0] == $counts[1];
                  };
               }
            };
            $done->recv;
        "#;
        std::fs::write(&script, format!("{setup}{compare}")).unwrap();
        let mut perl = self.start("equal", Path::new("perl"), &[script.to_str().unwrap()]);
        assert!(perl.wait_for_end().success());
    }

    fn runs_with(&self, role: Role, language: Language, arguments: &[&str]) -> Process {
        match language {
            Rust => {
                let name = format!("readme_{}", role.name());
                self.start(&format!("{name} in Rust"), &example(&name), arguments)
            }
            Perl => {
                let script = self.home.path().join(role.name());
                let program = program_of_the_readme(role, language);
                std::fs::write(&script, format!("$| = 1; {program}")).unwrap();
                let name = format!("the README's {} in Perl", role.name());
                self.start(&name, Path::new("perl"), &[script.to_str().unwrap()])
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Language {
    Perl,
    Rust,
}
use Language::{Perl, Rust};

#[derive(Clone, Copy)]
enum Role {
    Receiver,
    Sender,
    /// In Rust it keeps the count, in Perl it adds to it.
    Counter,
}

impl Role {
    const fn name(self) -> &'static str {
        match self {
            Role::Receiver => "receiver",
            Role::Sender => "sender",
            Role::Counter => "counter",
        }
    }

    /// What only its programs contain.
    const fn mark(self) -> &'static str {
        match self {
            Role::Receiver => "\"eg_receiver/%u\"",
            Role::Sender => "\"eg_sender/%u\"",
            Role::Counter => "eg_counters",
        }
    }
}

fn example(name: &str) -> PathBuf {
    let program = command().parent().unwrap().join("examples").join(name);
    assert!(program.exists(), "there is no {name}: run `cargo build --examples` first");
    program
}

fn page(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap()
}

/// The code blocks of a page with this mark.
fn blocks(page: &str, mark: &str) -> Vec<String> {
    let fence = format!("```{mark}\n");
    let behind = page.split(&fence).skip(1);
    behind.map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

fn program_of_the_readme(role: Role, language: Language) -> String {
    let mark = match language {
        Perl => "perl",
        Rust => "rust,no_run",
    };
    let programs = blocks(&page("README.md"), mark);
    let program = programs.into_iter().find(|program| program.contains(role.mark()));
    program.unwrap_or_else(|| panic!("the README has no {} in {mark}", role.name()))
}

fn prints(process: &Process, part: &str) {
    process.wait_for(&format!("a line with {part:?}"), |lines| {
        lines.iter().any(|line| line.text.contains(part)).then_some(())
    });
}

#[test]
fn the_readmes_programs_are_the_examples_that_are_built() {
    for role in [Role::Receiver, Role::Sender, Role::Counter] {
        let built = page(&format!("examples/readme_{}.rs", role.name()));
        let (_, program) = built.split_once("\n\n").unwrap();
        assert_eq!(program_of_the_readme(role, Rust), program);
    }
}

/// Both programs as they are printed, and the answer arrives.
fn the_readmes_pair_talks(receiver: Language, sender: Language) {
    let Some(reader) = Reader::new() else { return };
    let receiver = reader.runs(Role::Receiver, receiver);
    let mut sender = reader.runs(Role::Sender, sender);
    prints(&receiver, "Received data: 42");
    prints(&sender, "Answer: 42");
    assert!(sender.wait_for_end().success());
}

#[test]
fn the_readmes_receiver_and_sender_talk() {
    the_readmes_pair_talks(Rust, Rust);
}

#[test]
fn the_readmes_receiver_answers_its_sender_in_perl() {
    if perl::has(MODULES) {
        the_readmes_pair_talks(Rust, Perl);
    }
}

#[test]
fn the_readmes_sender_is_answered_by_its_receiver_in_perl() {
    if perl::has(MODULES) {
        the_readmes_pair_talks(Perl, Rust);
    }
}

#[test]
fn the_readmes_pair_in_perl_talks() {
    if perl::has(MODULES) {
        the_readmes_pair_talks(Perl, Perl);
    }
}

#[test]
fn the_readmes_counter_outlives_either_of_its_processes() {
    let Some(reader) = Reader::new() else { return };
    if !perl::has(MODULES) {
        return;
    }
    let readme = page("README.md");
    let lines: Vec<Vec<&str>> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("cargo run -- "))
        .map(|line| line.split(' ').collect())
        .collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    let mut count = 0;
    let mut adds = || {
        let mut adder = reader.runs(Role::Counter, Perl);
        let printed = adder.wait_for("a count", |lines| {
            lines.iter().find_map(|line| line.text.strip_prefix("Count: ")?.parse::<u32>().ok())
        });
        assert!(adder.wait_for_end().success());
        assert!(printed > count, "{printed} after {count}");
        count = printed;
    };
    let starts = |index: usize| reader.runs_with(Role::Counter, Rust, &lines[index]);
    let mut running = [starts(0), starts(1)];
    for index in [0, 1, 0] {
        adds();
        reader.waits_for_equal_counters();
        running[index].kill();
        adds();
        running[index] = starts(index);
        adds();
    }
}

#[test]
fn the_readmes_sender_says_what_is_missing_when_it_is_started_first_and_goes_on_when_it_is_there() {
    let Some(reader) = Reader::new() else { return };
    let sender = reader.runs(Role::Sender, Rust);
    prints(&sender, "no seed can be reached: 127.0.0.1:4040 (Connection refused");
    let _receiver = reader.runs(Role::Receiver, Rust);
    prints(&sender, "Answer: 42");
}

/// The lines of a text that users type: those that begin with one of our commands.
fn command_lines(text: &str) -> Vec<String> {
    let typed = |line: &&str| line.starts_with("aemp ") || line.starts_with("cargo run --example ");
    text.lines().map(str::trim).filter(typed).map(str::to_owned).collect()
}

#[test]
fn the_tutorials_command_lines_lead_to_a_network_with_a_chat() {
    let Some(reader) = Reader::new() else { return };
    let lines = command_lines(&blocks(&page("docs/tutorial.md"), "text").concat());
    let [secret, seed, receiver, server, alice, bob] = &lines[..] else {
        panic!("the tutorial has other command lines, which this test does not type: {lines:#?}");
    };
    reader.output_of(secret);
    let seed = reader.types(seed);
    prints(&seed, "listening on 127.0.0.1:4040");

    let receiver = reader.types(receiver);
    let arguments = "--once binds '127.0.0.1:*' seeds 127.0.0.1:4040";
    reader.output_of(&format!("cargo run --example simple_example_sender {arguments}"));
    prints(&receiver, "Received data: ");

    let mut server = reader.types(server);
    let alice = reader.types(alice);
    prints(&alice, "alice (joins)");
    let mut bob = reader.types(bob);
    prints(&alice, "bob (joins)");
    bob.send_line("hello");
    prints(&alice, "bob: hello");
    server.kill();
    prints(&alice, "disconnected");
}

#[test]
fn the_command_lines_of_the_help_lead_to_a_network_that_answers() {
    let Some(reader) = Reader::new() else { return };
    let help = reader.output_of("aemp --help");
    // Examples are indented.
    let examples: Vec<&str> = help.lines().filter(|line| line.starts_with("   ")).collect();
    let lines = command_lines(&examples.join("\n"));
    let (nodes, others): (Vec<&String>, Vec<&String>) =
        lines.iter().partition(|line| line.starts_with("aemp run "));
    assert!(nodes.len() == 2 && others.len() >= 4, "{lines:#?}");
    let mut running: Vec<Process> = Vec::new();
    for line in &lines {
        if nodes.contains(&line) {
            let node = reader.types(line);
            prints(&node, "listening on ");
            if let Some(seed) = running.first() {
                prints(seed, "worker is up");
            }
            running.push(node);
        } else {
            let output = reader.output_of(line);
            let names_both = output.contains("seed") && output.contains("worker");
            assert!(!line.starts_with("aemp trace") || names_both, "{output}");
            let is_time = output.trim().parse::<f64>().is_ok();
            assert!(!line.starts_with("aemp cal") || is_time, "{line}: {output}");
        }
    }
}
