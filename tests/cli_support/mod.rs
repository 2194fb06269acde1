//! Commands that run, and a network that they talk to.
#![allow(dead_code, unreachable_pub)]

pub mod terminal;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub const SECRET: &str = "geheim";
/// The time limit for waits. Only a failing test waits this long.
pub const TIMEOUT: Duration = Duration::from_secs(30);

pub fn aemp() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aemp"));
    for variable in [
        "AE_VERBOSE",
        "PERL_ANYEVENT_VERBOSE",
        "PERL_ANYEVENT_MP_TRACE",
        "NOTIFY_SOCKET",
        "WATCHDOG_USEC",
    ] {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A running command whose lines are collected.
pub struct Running {
    pub child: Child,
    pub lines: mpsc::Receiver<String>,
}

impl Running {
    pub fn start(mut command: Command) -> Running {
        let mut child = command.spawn().unwrap();
        let (sender, lines) = mpsc::channel();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let both: [Box<dyn std::io::Read + Send>; 2] = [Box::new(out), Box::new(err)];
        for stream in both {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines() {
                    let _ = sender.send(line.unwrap_or_default());
                }
            });
        }
        Running { child, lines }
    }

    /// `aemp run` without an rc file.
    pub fn node(arguments: &[&str]) -> Running {
        let mut command = aemp();
        command.arg("run").args(arguments).args(["norc", "1"]);
        command.env("PERL_ANYEVENT_MP_RC", "/dev/null");
        Running::start(command)
    }

    /// Waits for a line with this text, and returns what follows the text.
    pub fn line_with(&self, text: &str) -> String {
        let give_up = Instant::now() + TIMEOUT;
        let mut seen = Vec::new();
        loop {
            let left = give_up.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("no line with {text:?} in {seen:#?}");
            };
            if let Some((_, behind)) = line.split_once(text) {
                return behind.to_owned();
            }
            seen.push(line);
        }
    }

    pub fn address(&self) -> String {
        let behind = self.line_with("listening on ");
        behind.split(' ').next().unwrap().to_owned()
    }

    pub fn signal(&self, name: &str) {
        signal(name, self.child.id());
    }

    pub fn exit_code(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    /// The child processes, including zombies.
    pub fn children(&self) -> Vec<u32> {
        let parent = self.child.id();
        let path = format!("/proc/{parent}/task/{parent}/children");
        let children = std::fs::read_to_string(path).unwrap_or_default();
        children.split_whitespace().map(|child| child.parse().unwrap()).collect()
    }

    /// The node's process, if this one is its watchdog.
    pub fn watched(&self) -> u32 {
        let give_up = Instant::now() + TIMEOUT;
        loop {
            if let Some(child) = self.children().first() {
                return *child;
            }
            assert!(Instant::now() < give_up, "the node has no process");
            std::thread::yield_now();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn signal(name: &str, process: u32) {
    let signal = match name {
        "ABRT" => Signal::ABORT,
        "CONT" => Signal::CONT,
        "HUP" => Signal::HUP,
        "INT" => Signal::INT,
        "KILL" => Signal::KILL,
        "STOP" => Signal::STOP,
        "TERM" => Signal::TERM,
        other => panic!("no signal {other}"),
    };
    let process = Pid::from_raw(process.try_into().unwrap()).unwrap();
    kill_process(process, signal).unwrap();
}

/// A node, and an rc file with which the command joins it.
pub struct Network {
    pub seed: Running,
    pub address: String,
    pub directory: TempDir,
}

pub struct Answer {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl Network {
    pub fn start() -> Network {
        let seed = Running::node(&["nodeid", "seed", "secret", SECRET, "binds", "127.0.0.1:0"]);
        let address = seed.address();
        let network = Network { seed, address, directory: tempfile::tempdir().unwrap() };
        network.configure(SECRET, Some(&network.address));
        network
    }

    pub fn configure(&self, secret: &str, seed: Option<&str>) {
        let rc = json!({
            "version": 1,
            "secret": secret,
            "profile": { "aemp": { "seeds": seed.as_slice(), "binds": ["127.0.0.1:*"] } },
        });
        std::fs::write(self.directory.path().join("rc"), rc.to_string()).unwrap();
    }

    /// Adds a profile to the file, or changes it.
    pub fn configure_profile(&self, name: &str, profile: serde_json::Value) {
        let path = self.directory.path().join("rc");
        let mut rc: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        rc["profile"][name] = profile;
        std::fs::write(path, rc.to_string()).unwrap();
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = aemp();
        command.args(arguments).env("PERL_ANYEVENT_MP_RC", self.directory.path().join("rc"));
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Answer {
        let begun = Instant::now();
        let output = self.command(arguments).output().unwrap();
        Answer {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
            took: begun.elapsed(),
        }
    }

    pub fn success(&self, arguments: &[&str]) -> String {
        let answer = self.run(arguments);
        assert_eq!(answer.code, 0, "{arguments:?}: {}", answer.stderr);
        answer.stdout
    }

    pub fn failure(&self, arguments: &[&str], part: &str) -> Answer {
        let answer = self.run(arguments);
        assert_eq!(answer.code, 1, "{arguments:?}: {}", answer.stderr);
        assert!(answer.stderr.contains(part), "{arguments:?}: {}", answer.stderr);
        assert!(answer.took < Duration::from_secs(10), "{arguments:?} took {:?}", answer.took);
        answer
    }
}
