//! The sides that are compared, and how their processes are started.

use crate::before::Before;
use crate::clock::pin;
use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tokio::runtime::{Builder, Runtime};

/// One process of a case, as it sees itself.
pub(crate) struct Role<'a> {
    pub(crate) case: &'a str,
    pub(crate) part: &'a str,
    /// How many messages, keys or other items the case counts.
    pub(crate) size: usize,
    /// The output of the previously started processes after `READY`.
    pub(crate) arguments: &'a [String],
}

/// The tokio runtime of a process: as many threads as there are processors, but a round trip is measured
/// with one on each side, pinned to a processor of its own.
pub(crate) fn runtime(role: &Role<'_>) -> std::io::Result<Runtime> {
    match role.case {
        "rtt" | "rtt_bound" => {
            pin(usize::from(role.part == "receiver"));
            Builder::new_current_thread().enable_all().build()
        }
        _ => Builder::new_multi_thread().enable_all().build(),
    }
}

/// A system to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    Aemp,
    /// An earlier version of aemp.
    Before,
    Raw,
    Zeromq,
    Nats,
    Erlang,
    Ractor,
    Perl,
}

impl Side {
    pub(crate) const ALL: [Side; 8] = [
        Side::Aemp,
        Side::Before,
        Side::Raw,
        Side::Zeromq,
        Side::Nats,
        Side::Erlang,
        Side::Ractor,
        Side::Perl,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Side::Aemp => "aemp",
            Side::Before => "before",
            Side::Raw => "raw",
            Side::Zeromq => "zeromq",
            Side::Nats => "nats",
            Side::Erlang => "erlang",
            Side::Ractor => "ractor",
            Side::Perl => "perl",
        }
    }
}

/// The sides that can be measured here.
pub(crate) struct Sides {
    installed: Vec<Side>,
    before: Option<Before>,
    folder: PathBuf,
}

impl Sides {
    /// Finds out what is installed; `before` is the benchmark of an earlier version.
    pub(crate) fn find(before: Option<&Path>) -> Result<Sides> {
        let folder = std::env::temp_dir().join(format!("aemp-bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let mut sides = Sides { installed: vec![Side::Aemp, Side::Raw], before: None, folder };
        if let Some(program) = before {
            sides.before = Some(Before::new(program, sides.folder.clone())?);
            sides.installed.push(Side::Before);
        }
        sides.find_peers();
        Ok(sides)
    }

    fn find_peers(&mut self) {
        if cfg!(feature = "zeromq") {
            self.installed.push(Side::Zeromq);
        } else {
            eprintln!("without ZeroMQ: built without the feature `zeromq` (Debian's libzmq3-dev)");
        }
        match (cfg!(feature = "nats"), crate::nats_server::program()) {
            (false, _) => eprintln!("without NATS: built without the feature `nats`"),
            (true, None) => eprintln!("without NATS: nats-server (Debian's) is not installed"),
            (true, Some(_)) => self.installed.push(Side::Nats),
        }
        let mut erlc = Command::new("erlc");
        erlc.arg("-o").arg(&self.folder).arg(sources().join("erlang/bench.erl"));
        if succeeds(&mut erlc) {
            self.installed.push(Side::Erlang);
        } else {
            eprintln!("without Erlang: erlc (Debian's erlang-base) does not work here");
        }
        if cfg!(feature = "ractor") {
            self.installed.push(Side::Ractor);
        } else {
            eprintln!("without ractor_cluster: built without the feature `ractor`");
        }
        if succeeds(Command::new("perl").args(["-MAnyEvent::MP", "-e", "1"]).stderr(Stdio::null()))
        {
            self.installed.push(Side::Perl);
        } else {
            eprintln!("without Perl: it cannot load AnyEvent::MP");
        }
    }

    /// Leaves only the sides with these names.
    pub(crate) fn keep(&mut self, names: &[String]) {
        self.installed.retain(|side| names.iter().any(|name| name == side.name()));
    }

    /// Whether this side measures a case with this first figure.
    pub(crate) fn measures(&self, side: Side, figure: &str) -> bool {
        let knows = |before: &Before| before.knows(figure);
        self.installed.contains(&side)
            && (side != Side::Before || self.before.as_ref().is_some_and(knows))
    }

    /// The earlier version.
    pub(crate) fn before(&self) -> Result<&Before> {
        self.before.as_ref().context("no earlier version to measure")
    }

    /// The command of one process.
    pub(crate) fn command(&self, side: Side, role: &Role<'_>) -> Result<Command> {
        let mut command = match side {
            Side::Before => return Ok(self.before()?.command(role)),
            Side::Erlang => foreign(role, "erl"),
            Side::Perl => foreign(role, "perl"),
            _ => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["role", side.name()]);
                command
            }
        };
        match side {
            Side::Erlang => {
                let name = format!("bench_{}_{}@127.0.0.1", role.part, std::process::id());
                command.args(["-noshell", "-name", &name, "-setcookie", "bench", "-pa"]);
                command.arg(&self.folder).args(["-run", "bench", "main"]);
            }
            Side::Perl => {
                command.arg(sources().join("perl/bench.pl"));
                command.env("PERL_ANYEVENT_MP_RC", "/nonexistent");
            }
            _ => {}
        }
        command.args([role.case, role.part, &role.size.to_string()]).args(role.arguments);
        Ok(command)
    }
}

impl Drop for Sides {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A program that is not ours; ours pin themselves where a case wants that.
fn foreign(role: &Role<'_>, program: &str) -> Command {
    let mut command = match role.case {
        "rtt" => {
            let mut command = Command::new("taskset");
            command.args(["-c", if role.part == "receiver" { "1" } else { "0" }, program]);
            command
        }
        _ => Command::new(program),
    };
    command.stderr(Stdio::null());
    command
}

fn succeeds(command: &mut Command) -> bool {
    command.status().is_ok_and(|status| status.success())
}

fn sources() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
