//! Child processes that print `READY ...` when others may be started, and `RESULT ...` at the end.

use anyhow::{Context as _, Result, bail};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// How long a result may take to be read after a process has ended. Each process is read by a thread of
/// its own, so that the end of one may be seen before what another said earlier.
const LINES_UNDER_WAY: Duration = Duration::from_secs(5);

/// What a process's reader passes on.
enum Output {
    Line(String),
    Ended { child: usize },
}

struct Process {
    name: String,
    child: Child,
}

/// The processes of one measurement; they end with it.
pub(crate) struct Group {
    processes: Vec<Process>,
    outputs: Receiver<Output>,
    sender: Sender<Output>,
    deadline: Instant,
    /// The numbers of those that have ended, after whose lines no more come from them.
    ended: Vec<usize>,
}

impl Group {
    pub(crate) fn new(limit: Duration) -> Self {
        let (sender, outputs) = channel();
        let deadline = Instant::now() + limit;
        Group { processes: Vec::new(), outputs, sender, deadline, ended: Vec::new() }
    }

    /// Starts a process whose lines are read; its process ID.
    pub(crate) fn start(&mut self, name: &str, mut command: Command) -> Result<u32> {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let out = child.stdout.take().context("no pipe")?;
        let sender = self.sender.clone();
        let number = self.processes.len();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if sender.send(Output::Line(line)).is_err() {
                    return;
                }
            }
            let _ = sender.send(Output::Ended { child: number });
        });
        let id = child.id();
        self.processes.push(Process { name: name.to_owned(), child });
        Ok(id)
    }

    /// Waits for a line that begins with this word, and returns the other words.
    pub(crate) fn expect(&mut self, word: &str) -> Result<Vec<String>> {
        loop {
            if !self.ended.is_empty() && self.ended.len() == self.processes.len() {
                bail!("no {word}: {}", self.ends());
            }
            let left = self.deadline.saturating_duration_since(Instant::now());
            let line = match self.outputs.recv_timeout(left) {
                Ok(Output::Line(line)) => line,
                Ok(Output::Ended { child }) => {
                    self.ended.push(child);
                    self.deadline = self.deadline.min(Instant::now() + LINES_UNDER_WAY);
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => bail!("nobody can say {word}"),
                Err(RecvTimeoutError::Timeout) if self.ended.is_empty() => {
                    bail!("no {word} in time")
                }
                Err(RecvTimeoutError::Timeout) => bail!("no {word}: {}", self.ends()),
            };
            let mut words = line.split_whitespace().map(str::to_owned);
            match words.next() {
                Some(first) if first == word => return Ok(words.collect()),
                Some(_) if std::env::var_os("AEMP_BENCH_VERBOSE").is_some() => eprintln!("{line}"),
                _ => {}
            }
        }
    }

    /// Which processes have ended, and how.
    fn ends(&mut self) -> String {
        let mut ends = Vec::new();
        for (number, process) in self.processes.iter_mut().enumerate() {
            if self.ended.contains(&number) {
                // One that only closed its output is not waited for.
                let _ = process.child.kill();
                ends.push(match process.child.wait() {
                    Ok(status) => format!("`{}` ended with {status}", process.name),
                    Err(error) => format!("`{}` ended: {error}", process.name),
                });
            }
        }
        ends.join(", ")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_result_counts_although_another_process_has_ended_before() {
        let mut group = Group::new(Duration::from_secs(60));
        group.start("receiver", shell("exit 1")).unwrap();
        group.start("sender", shell("exec sleep 60")).unwrap();
        // As if the thread that reads the sender came last.
        let ended = group.outputs.recv().unwrap();
        group.sender.send(ended).unwrap();
        group.sender.send(Output::Line("RESULT 5".into())).unwrap();
        assert_eq!(group.expect("RESULT").unwrap(), ["5"]);
    }

    #[test]
    fn a_missing_result_names_the_process_that_ended() {
        let mut group = Group::new(Duration::from_secs(60));
        group.start("receiver", shell("exit 3")).unwrap();
        let error = group.expect("RESULT").unwrap_err().to_string();
        assert_eq!(error, "no RESULT: `receiver` ended with exit status: 3");
    }
}
