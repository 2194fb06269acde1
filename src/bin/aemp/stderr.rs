//! Standard error: one line a remark or log event, written by a thread of its own.
//!
//! Whoever reads standard error may be slow, gone or a full disk. None of these may stop or end the
//! node, so nobody waits for a line to be written and no failure ends anything: lines that find no
//! room are counted, and the count is written as soon as there is room again.

use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

/// Octets that may wait to be written; what exceeds them is lost.
const CAPACITY: usize = 1 << 20;
/// How long a standard error that does not block is left alone when it takes nothing.
const RETRY: Duration = Duration::from_millis(20);

static STDERR: LazyLock<Writer> = LazyLock::new(|| Writer::start(io::stderr()));

/// Writes a line, or loses and counts it. Returns at once.
pub(crate) fn write_line(line: String) {
    STDERR.push(line);
}

/// Waits until all lines are written, but no longer than this.
pub(crate) fn flush(limit: Duration) {
    STDERR.flush(limit);
}

/// Lets panics be written as everything else is, with a backtrace if `RUST_BACKTRACE` wants one, and
/// this be done before.
pub(crate) fn report_panics(before: fn()) {
    std::panic::set_hook(Box::new(move |panic| {
        before();
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("without a name");
        write_line(format!("aemp: in thread {name}: {panic}"));
        let backtrace = std::backtrace::Backtrace::capture();
        if backtrace.status() == std::backtrace::BacktraceStatus::Captured {
            write_line(backtrace.to_string());
        }
    }));
}

/// A line of the log as `tracing_subscriber` writes it: each event in one piece.
pub(crate) struct LogLine;

impl io::Write for LogLine {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        write_line(String::from_utf8_lossy(octets).trim_end_matches('\n').to_owned());
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Writer {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lines: VecDeque<String>,
    /// Octets of all lines that wait.
    octets: usize,
    /// Lines lost since the last time that their number was written.
    lost: u64,
    /// Whether the thread is writing a line, which is not among those that wait.
    is_writing: bool,
}

impl Writer {
    fn start(output: impl AsFd + Send + 'static) -> Self {
        let shared = Arc::new(Shared::default());
        let of_thread = shared.clone();
        // Without a thread all lines are lost, which ends nothing either.
        let _ = std::thread::Builder::new()
            .name("aemp-stderr".into())
            .spawn(move || of_thread.write_all(output.as_fd()));
        Self { shared }
    }

    fn push(&self, mut line: String) {
        line.push('\n');
        let mut state = self.shared.state.lock();
        if state.octets + line.len() > CAPACITY {
            state.lost += 1;
            return;
        }
        state.octets += line.len();
        state.lines.push_back(line);
        drop(state);
        self.shared.changed.notify_all();
    }

    fn flush(&self, limit: Duration) {
        let until = Instant::now() + limit;
        let mut state = self.shared.state.lock();
        while state.is_writing || !state.lines.is_empty() {
            if self.shared.changed.wait_until(&mut state, until).timed_out() {
                return;
            }
        }
    }
}

impl Shared {
    /// Writes what comes, for ever.
    fn write_all(&self, output: BorrowedFd<'_>) {
        let mut takes_lines = true;
        loop {
            let line = self.next(takes_lines);
            takes_lines = write(output, line.text.as_bytes()).is_ok();
            if !takes_lines {
                self.state.lock().lost += line.counts_as;
            }
        }
    }

    /// Waits for the next line. How many were lost is said when there is nothing else to write.
    fn next(&self, takes_lines: bool) -> Line {
        let mut state = self.state.lock();
        loop {
            if let Some(text) = state.lines.pop_front() {
                state.octets -= text.len();
                state.is_writing = true;
                return Line { text, counts_as: 1 };
            }
            if takes_lines && state.lost > 0 {
                state.is_writing = true;
                let lost = std::mem::take(&mut state.lost);
                let lines = if lost == 1 { "line was" } else { "lines were" };
                let text = format!("aemp: {lost} {lines} lost here: standard error took no more\n");
                return Line { text, counts_as: lost };
            }
            state.is_writing = false;
            self.changed.notify_all();
            self.changed.wait(&mut state);
        }
    }
}

struct Line {
    text: String,
    /// How many lines are lost if this one is.
    counts_as: u64,
}

fn write(output: BorrowedFd<'_>, mut octets: &[u8]) -> io::Result<()> {
    while !octets.is_empty() {
        match rustix::io::write(output, octets) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => octets = octets.get(count..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => std::thread::sleep(RETRY),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead as _, BufReader};

    #[test]
    fn a_reader_that_reads_late_learns_how_many_lines_it_has_missed() {
        let (reader, pipe) = io::pipe().unwrap();
        let writer = Writer::start(pipe);
        let line = "x".repeat(1000);
        let mut sent = 0;
        while writer.shared.state.lock().lost < 10 {
            writer.push(line.clone());
            sent += 1;
        }
        writer.flush(Duration::from_millis(1));
        let mut seen = 0;
        for read in BufReader::new(reader).lines() {
            let read = read.unwrap();
            if let Some(rest) = read.strip_prefix("aemp: ") {
                assert_eq!(rest, "10 lines were lost here: standard error took no more");
                break;
            }
            seen += 1;
        }
        assert_eq!(seen + 10, sent);
        writer.flush(Duration::from_secs(30));
        let state = writer.shared.state.lock();
        assert_eq!((state.octets, state.lost, state.lines.len()), (0, 0, 0));
    }

    #[test]
    fn a_reader_that_is_gone_costs_lines_and_nothing_else() {
        let (reader, pipe) = io::pipe().unwrap();
        drop(reader);
        let writer = Writer::start(pipe);
        for _ in 0..3 {
            writer.push("lost".into());
        }
        writer.flush(Duration::from_secs(30));
        assert_eq!(writer.shared.state.lock().lost, 3);
    }
}
