//! The sides that are compared, and how their processes are started.

use anyhow::{Context as _, Result};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// One process of a case, as it sees itself.
pub(crate) struct Role<'a> {
    pub(crate) case: &'a str,
    pub(crate) part: &'a str,
    /// How many messages, keys or other items the case counts.
    pub(crate) size: usize,
    /// The output of the previously started processes after `READY`.
    pub(crate) arguments: &'a [String],
}

/// A system to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    Aemp,
    Raw,
    Erlang,
    Ractor,
    Perl,
}

impl Side {
    pub(crate) const ALL: [Side; 5] =
        [Side::Aemp, Side::Raw, Side::Erlang, Side::Ractor, Side::Perl];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Side::Aemp => "aemp",
            Side::Raw => "raw",
            Side::Erlang => "erlang",
            Side::Ractor => "ractor",
            Side::Perl => "perl",
        }
    }

    /// The command of one process.
    pub(crate) fn command(self, role: &Role<'_>) -> Result<Command> {
        let program = match self {
            Side::Aemp | Side::Raw | Side::Ractor => std::env::current_exe()?,
            Side::Erlang => "erl".into(),
            Side::Perl => "perl".into(),
        };
        let is_foreign = matches!(self, Side::Erlang | Side::Perl);
        let mut command = match role.case {
            "rtt" if is_foreign => {
                // Our processes pin themselves.
                let mut command = Command::new("taskset");
                command.args(["-c", if role.part == "receiver" { "1" } else { "0" }]);
                command.arg(program);
                command
            }
            _ => Command::new(program),
        };
        match self {
            Side::Aemp | Side::Raw | Side::Ractor => {
                command.args(["role", self.name()]);
            }
            Side::Erlang => {
                let name = format!("bench_{}_{}@127.0.0.1", role.part, std::process::id());
                command.args(["-noshell", "-name", &name, "-setcookie", "bench", "-pa"]);
                command.arg(beams()?).args(["-run", "bench", "main"]);
            }
            Side::Perl => {
                command.arg(sources().join("perl/bench.pl"));
                command.env("PERL_ANYEVENT_MP_RC", "/nonexistent");
            }
        }
        command.args([role.case, role.part, &role.size.to_string()]).args(role.arguments);
        if is_foreign {
            command.stderr(Stdio::null());
        }
        Ok(command)
    }
}

fn sources() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn beams() -> Result<PathBuf> {
    let dir = std::env::temp_dir().join(format!("aemp-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    Ok(dir)
}

/// The sides that can be measured here.
pub(crate) fn installed() -> Result<Vec<Side>> {
    let mut sides = vec![Side::Aemp, Side::Raw];
    let erlang = Command::new("erlc")
        .arg("-o")
        .arg(beams()?)
        .arg(sources().join("erlang/bench.erl"))
        .status();
    match erlang {
        Ok(status) if status.success() => sides.push(Side::Erlang),
        _ => eprintln!("without Erlang: erlc (Debian's erlang-base) does not work here"),
    }
    if cfg!(feature = "ractor") {
        sides.push(Side::Ractor);
    } else {
        eprintln!("without ractor_cluster: built without the feature `ractor`");
    }
    let perl = Command::new("perl")
        .args(["-MAnyEvent::MP", "-e", "1"])
        .stderr(Stdio::null())
        .status()
        .context("perl");
    match perl {
        Ok(status) if status.success() => sides.push(Side::Perl),
        _ => eprintln!("without Perl: it cannot load AnyEvent::MP"),
    }
    Ok(sides)
}
