//! A process of this program that answers each line of its standard input with a line of figures.

use anyhow::{Context as _, Result, bail};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// The process; it is killed when this is dropped.
pub(super) struct Helper {
    process: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Helper {
    /// Starts this program with other arguments, and returns the first line that it prints.
    pub(super) fn start(arguments: &[&str]) -> Result<(Helper, String)> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn()?;
        let orders = process.stdin.take().context("no pipe to the process")?;
        let answers = BufReader::new(process.stdout.take().context("no pipe from the process")?);
        let mut helper = Helper { process, orders, answers };
        let line = helper.line()?;
        Ok((helper, line))
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            bail!("a process of this program has ended: {}", self.process.wait()?);
        }
        Ok(line.trim_end().to_owned())
    }

    /// Asks for the figures.
    pub(super) fn figures<const N: usize>(&mut self) -> Result<[u64; N]> {
        writeln!(self.orders)?;
        let line = self.line()?;
        let figures: Vec<u64> = line.split(' ').map_while(|word| word.parse().ok()).collect();
        let figures = <[u64; N]>::try_from(figures);
        figures.map_err(|_| anyhow::anyhow!("no figures: {line}"))
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
