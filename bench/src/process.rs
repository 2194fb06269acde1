//! Child processes that print `READY ...` when others may be started, and `RESULT ...` at the end.

use anyhow::{Context as _, Result, bail};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// The processes of one measurement; they end with it.
pub(crate) struct Group {
    children: Vec<Child>,
    lines: Receiver<String>,
    sender: Sender<String>,
    deadline: Instant,
}

impl Group {
    pub(crate) fn new(limit: Duration) -> Self {
        let (sender, lines) = channel();
        Group { children: Vec::new(), lines, sender, deadline: Instant::now() + limit }
    }

    /// Starts a process whose lines are read.
    pub(crate) fn start(&mut self, mut command: Command) -> Result<u32> {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let out = child.stdout.take().context("no pipe")?;
        let sender = self.sender.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
            let _ = sender.send("ENDED".to_owned());
        });
        let id = child.id();
        self.children.push(child);
        Ok(id)
    }

    /// Waits for a line that begins with this word, and returns the other words.
    pub(crate) fn expect(&self, word: &str) -> Result<Vec<String>> {
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            let line = match self.lines.recv_timeout(left) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => bail!("no {word} in time"),
                Err(RecvTimeoutError::Disconnected) => bail!("nobody can say {word}"),
            };
            let mut words = line.split_whitespace().map(str::to_owned);
            match words.next() {
                Some(first) if first == word => return Ok(words.collect()),
                Some(first) if first == "ENDED" => bail!("a process ended before {word}"),
                Some(_) if std::env::var_os("AEMP_BENCH_VERBOSE").is_some() => eprintln!("{line}"),
                _ => {}
            }
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
