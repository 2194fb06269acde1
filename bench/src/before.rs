//! An earlier version's benchmark, whose processes are measured beside those of this one.

use crate::sides::Role;
use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The program of the earlier version, and what it can measure.
pub(crate) struct Before {
    program: PathBuf,
    figures: BTreeSet<String>,
    folder: PathBuf,
}

impl Before {
    /// `folder` takes the report that the earlier version writes.
    pub(crate) fn new(program: &Path, folder: PathBuf) -> Result<Before> {
        let program = program.canonicalize().with_context(|| format!("{}", program.display()))?;
        let mut before = Before { program, figures: BTreeSet::new(), folder };
        // Without rounds it measures nothing, and lists all of its figures.
        let rows = before.report(&["--rounds", "0"])?;
        before.figures =
            rows.iter().filter_map(|row| row["case"].as_str().map(str::to_owned)).collect();
        if before.figures.is_empty() {
            bail!("{} lists no figures", before.program.display());
        }
        Ok(before)
    }

    /// Whether it measures this figure.
    pub(crate) fn knows(&self, figure: &str) -> bool {
        self.figures.contains(figure)
    }

    /// The command of one process of a case.
    pub(crate) fn command(&self, role: &Role<'_>) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["role", "aemp", role.case, role.part, &role.size.to_string()]);
        command.args(role.arguments);
        command
    }

    /// The earlier version's `aemp`, which is built beside its benchmark.
    pub(crate) fn node_program(&self) -> PathBuf {
        self.program.with_file_name("aemp")
    }

    /// One round of a case that runs in the earlier version's own process.
    pub(crate) fn run_alone(&self, case: &str) -> Result<Vec<f64>> {
        let rows = self.report(&["--rounds", "1", "--sides", "aemp", case])?;
        rows.iter().map(|row| row["aemp"].as_f64().context("no figure")).collect()
    }

    /// The rows of its report.
    fn report(&self, arguments: &[&str]) -> Result<Vec<Value>> {
        let status = Command::new(&self.program)
            .args(arguments)
            .current_dir(&self.folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .with_context(|| format!("{}", self.program.display()))?;
        if !status.success() {
            bail!("{} ended with {status}", self.program.display());
        }
        let report = std::fs::read_to_string(self.folder.join("target/bench.json"))?;
        Ok(serde_json::from_str(&report)?)
    }
}
