//! Processes that end with the test that started them, and waiting for their output.

pub use rustix::process::Signal;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::Pid;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// The time limit for waits. Only a failing test waits this long.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// The maximum number of lines that are kept; more than any test searches.
const MAX_LINES: usize = 2000;

/// Where a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// A line that a process printed.
#[derive(Debug, Clone)]
pub struct Line {
    /// Where.
    pub stream: Stream,
    /// The line, without its end.
    pub text: String,
}

#[derive(Debug, Default)]
struct OutputLines {
    lines: Vec<Line>,
    open_streams: usize,
    /// Nobody reads what the process prints, so that its pipes fill up.
    is_reading_paused: bool,
}

type Output = Arc<(Mutex<OutputLines>, Condvar)>;

/// A running process with its output. It is killed when this is dropped, and when the thread that
/// started it ends.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    output: Output,
}

impl Process {
    /// Starts a program. `name` is its name in failures.
    pub fn start(
        name: &str,
        program: &Path,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Process {
        let mut command = ending_with_its_parent(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A developer's own settings must not change what is tested.
        for (variable, _) in std::env::vars_os() {
            let text = variable.to_string_lossy();
            if ["AE_", "PERL_ANYEVENT_", "AEMP_", "RUST_LOG"]
                .iter()
                .any(|start| text.starts_with(start))
            {
                command.env_remove(&variable);
            }
        }
        for (variable, value) in environment {
            command.env(variable, value);
        }
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: cannot start {}: {error}", program.display()));
        let output = Output::default();
        output.0.lock().unwrap().open_streams = 2;
        collect(Stream::Out, child.stdout.take().unwrap(), &output);
        collect(Stream::Err, child.stderr.take().unwrap(), &output);
        Process { name: name.to_owned(), stdin: child.stdin.take(), child, output }
    }

    /// Its name in failures.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process ID.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a line to its standard input. Nothing happens if the process has ended.
    pub fn send_line(&mut self, line: &str) {
        if let Some(stdin) = &mut self.stdin {
            let _ = stdin.write_all(format!("{line}\n").as_bytes());
        }
    }

    /// Closes its standard input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Waits until `find` finds something in the lines printed so far, or gives `None` once the
    /// process has ended and it did not.
    ///
    /// # Panics
    /// Fails the test with the whole output after [`TIMEOUT`].
    pub fn try_wait_for<T>(
        &self,
        what: &str,
        mut find: impl FnMut(&[Line]) -> Option<T>,
    ) -> Option<T> {
        let give_up = Instant::now() + TIMEOUT;
        let (printed, changed) = &*self.output;
        let mut printed = printed.lock().unwrap();
        loop {
            if let Some(found) = find(&printed.lines) {
                return Some(found);
            }
            if printed.open_streams == 0 {
                return None;
            }
            let left = give_up.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(printed);
                self.fail(&format!("{what}: nothing within {TIMEOUT:?}"));
            }
            printed = changed.wait_timeout(printed, left).unwrap().0;
        }
    }

    /// Waits until `find` finds something in the lines printed so far.
    ///
    /// # Panics
    /// Fails the test with the whole output after [`TIMEOUT`], or when the process has ended.
    pub fn wait_for<T>(&self, what: &str, find: impl FnMut(&[Line]) -> Option<T>) -> T {
        self.try_wait_for(what, find)
            .unwrap_or_else(|| self.fail(&format!("{what}: the process has ended without it")))
    }

    /// Waits for a line on standard error that contains `part`.
    pub fn wait_for_log(&self, part: &str) -> String {
        self.wait_for(&format!("a log line with `{part}`"), |lines| {
            lines
                .iter()
                .find(|line| line.stream == Stream::Err && line.text.contains(part))
                .map(|line| line.text.clone())
        })
    }

    /// Reads no more of what the process prints, and waits until its standard error takes no more either.
    ///
    /// # Panics
    /// Fails the test after [`TIMEOUT`]: the process prints too little to fill a pipe.
    pub fn fill_stderr(&self) {
        self.output.0.lock().unwrap().is_reading_paused = true;
        // Only the writing end of a pipe tells whether it is full.
        let path = format!("/proc/{}/fd/2", self.id());
        let stderr = File::options().write(true).open(path).unwrap();
        let give_up = Instant::now() + TIMEOUT;
        let has_room = || {
            let mut end = [PollFd::new(&stderr, PollFlags::OUT)];
            rustix::event::poll(&mut end, Some(&Timespec::default())).unwrap() > 0
        };
        while has_room() {
            assert!(Instant::now() < give_up, "{}: its standard error is not full", self.name);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Reads again what the process prints, after [`Process::fill_stderr`].
    pub fn read_again(&self) {
        let (printed, changed) = &*self.output;
        printed.lock().unwrap().is_reading_paused = false;
        changed.notify_all();
    }

    /// Whether the process ends by itself within this time, read or not.
    pub fn ends_within(&mut self, limit: Duration) -> bool {
        let give_up = Instant::now() + limit;
        while self.child.try_wait().unwrap().is_none() {
            if Instant::now() >= give_up {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        true
    }

    /// Everything printed so far.
    pub fn lines(&self) -> Vec<Line> {
        self.output.0.lock().unwrap().lines.clone()
    }

    /// Waits until the process has ended by itself.
    ///
    /// # Panics
    /// Fails the test after [`TIMEOUT`].
    pub fn wait_for_end(&mut self) -> ExitStatus {
        self.try_wait_for("the end of the process", |_| None::<()>);
        self.child.wait().unwrap()
    }

    /// Kills it (SIGKILL) and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self::signal(self.id(), signal);
    }

    /// Fails the test and shows what the process printed.
    ///
    /// # Panics
    /// Always.
    pub fn fail(&self, reason: &str) -> ! {
        let mut text = format!("{}: {reason}. It printed:\n", self.name);
        for line in self.lines() {
            let mark = match line.stream {
                Stream::Out => "out",
                Stream::Err => "err",
            };
            text.push_str(&format!("  {mark} {}\n", line.text));
        }
        panic!("{text}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sends a signal to any process.
///
/// # Panics
/// If there is no such process.
pub fn signal(process: u32, signal: Signal) {
    let id = i32::try_from(process).ok().and_then(Pid::from_raw).unwrap();
    rustix::process::kill_process(id, signal).unwrap();
}

/// A command whose process the kernel kills when the thread that starts it ends, even if that is
/// by SIGKILL. Where there is no `setpriv` it is killed on drop only.
fn ending_with_its_parent(program: &Path) -> Command {
    let setpriv = Path::new("/usr/bin/setpriv");
    if setpriv.exists() {
        let mut command = Command::new(setpriv);
        command.args(["--pdeathsig", "KILL"]).arg(program);
        command
    } else {
        Command::new(program)
    }
}

fn collect(stream: Stream, pipe: impl Read + Send + 'static, output: &Output) {
    let output = Arc::clone(output);
    std::thread::spawn(move || {
        let mut reader = BufReader::new(pipe);
        let mut octets = Vec::new();
        let (printed, changed) = &*output;
        while reader.read_until(b'\n', &mut octets).is_ok_and(|len| len > 0) {
            let text = String::from_utf8_lossy(&octets);
            let text = text.trim_end_matches(['\r', '\n']).to_owned();
            let mut printed = printed.lock().unwrap();
            if printed.lines.len() >= 2 * MAX_LINES {
                printed.lines.drain(..MAX_LINES);
            }
            printed.lines.push(Line { stream, text });
            changed.notify_all();
            octets.clear();
            drop(changed.wait_while(printed, |printed| printed.is_reading_paused).unwrap());
        }
        printed.lock().unwrap().open_streams -= 1;
        changed.notify_all();
    });
}
