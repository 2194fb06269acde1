//! Our own node: the `aemp` command, started by the test.

use crate::process::Process;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The secret of every node in these tests, unless a test sets another one.
pub const SECRET: &str = "secret";

/// A running `aemp run`. It is killed at the end of the test.
#[derive(Debug)]
pub struct Aemp {
    process: Process,
    id: String,
    port: u16,
}

impl Aemp {
    /// Starts a node on a free port of 127.0.0.1 and waits until it listens.
    ///
    /// `settings` are the arguments of `aemp run`; there are defaults for the secret, the binds,
    /// and no rc file is read.
    pub fn start(id: &str, settings: &[(&str, &str)]) -> Aemp {
        Aemp::listening(id, Aemp::run(id, settings))
    }

    /// Like [`Aemp::start`], with the `aemp` command of another version.
    pub fn start_other(command: &Path, id: &str, settings: &[(&str, &str)]) -> Aemp {
        Aemp::listening(id, Aemp::run_by(command, &[], &["--no-watchdog"], id, settings))
    }

    /// Like [`Aemp::start`], with a watchdog that restarts the node.
    pub fn start_watched(id: &str, settings: &[(&str, &str)]) -> Aemp {
        Aemp::listening(id, Aemp::run_watched(id, settings))
    }

    /// Like [`Aemp::start_watched`], with a line in the log for each message.
    pub fn start_watched_and_traced(id: &str, settings: &[(&str, &str)]) -> Aemp {
        let trace = "export PERL_ANYEVENT_MP_TRACE=1";
        Aemp::listening(id, Aemp::run_after(trace, &[], id, settings))
    }

    /// Like [`Aemp::start`], after the shell has run `limits`, such as `ulimit -n 40`.
    pub fn start_limited(id: &str, limits: &str, settings: &[(&str, &str)]) -> Aemp {
        Aemp::listening(id, Aemp::run_after(limits, &["--no-watchdog"], id, settings))
    }

    /// Starts `aemp run` after the shell has run a script.
    fn run_after(script: &str, options: &[&str], id: &str, settings: &[(&str, &str)]) -> Process {
        let script = format!("{script}; exec \"$0\" \"$@\"");
        let command = command();
        let shell = ["-c", &script, command.to_str().unwrap()];
        Aemp::run_by(Path::new("/bin/sh"), &shell, options, id, settings)
    }

    fn listening(id: &str, process: Process) -> Aemp {
        let port = process.wait_for("the address it listens on", |lines| {
            lines.iter().find_map(|line| {
                let (_, address) = line.text.split_once("listening on 127.0.0.1:")?;
                let end = address.find(|c: char| !c.is_ascii_digit());
                address[..end.unwrap_or(address.len())].parse().ok()
            })
        });
        Aemp { process, id: id.to_owned(), port }
    }

    /// Starts `aemp run` without waiting for anything.
    pub fn run(id: &str, settings: &[(&str, &str)]) -> Process {
        // Signals have to reach the node, not its watchdog.
        Aemp::run_with(&["--no-watchdog"], id, settings)
    }

    /// Like [`Aemp::run`], with a watchdog that restarts the node.
    pub fn run_watched(id: &str, settings: &[(&str, &str)]) -> Process {
        Aemp::run_with(&[], id, settings)
    }

    fn run_with(options: &[&str], id: &str, settings: &[(&str, &str)]) -> Process {
        Aemp::run_by(&command(), &[], options, id, settings)
    }

    fn run_by(
        program: &Path,
        before: &[&str],
        options: &[&str],
        id: &str,
        settings: &[(&str, &str)],
    ) -> Process {
        let defaults =
            [("nodeid", id), ("secret", SECRET), ("binds", "127.0.0.1:0"), ("norc", "1")];
        let mut arguments = [before, &["run"], options].concat();
        for (key, value) in defaults {
            if settings.iter().all(|(other, _)| *other != key) {
                arguments.extend([key, value]);
            }
        }
        for (key, value) in settings {
            arguments.extend([key, value]);
        }
        let verbosity = std::env::var("AEMP_TEST_VERBOSE").unwrap_or_else(|_| "8".to_owned());
        Process::start(
            id,
            program,
            &arguments,
            &[("AE_VERBOSE", &verbosity), ("PERL_ANYEVENT_MP_RC", "/nonexistent")],
        )
    }

    /// Its node ID.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The port of 127.0.0.1 on which it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it listens: `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The underlying process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// The `aemp` command: `AEMP_BIN`, or what cargo built beside the running test.
///
/// # Panics
/// If there is none, or if it is older than its sources.
pub fn command() -> PathBuf {
    if let Some(path) = std::env::var_os("AEMP_BIN") {
        return path.into();
    }
    let test = std::env::current_exe().unwrap();
    let target = test.ancestors().nth(2).unwrap();
    let command = target.join("aemp");
    let Some(built) = changed(&command) else {
        panic!("there is no {}: run `cargo build` first", command.display());
    };
    let sources = std::fs::read_to_string(command.with_extension("d")).unwrap_or_default();
    for source in sources.split_once(": ").unwrap_or_default().1.split_whitespace() {
        let newer = changed(Path::new(source)).is_some_and(|changed| changed > built);
        assert!(!newer, "{} is older than {source}: run `cargo build` first", command.display());
    }
    command
}

fn changed(path: &Path) -> Option<SystemTime> {
    path.metadata().ok()?.modified().ok()
}
