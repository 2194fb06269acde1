//! Standard error: one line per remark or log event, written by a thread of its own.
//!
//! The reader of standard error may be slow or gone, or a full disk. None of these may stop or end
//! the node, so no code waits for a line to be written, and no failure ends anything: lines that do
//! not fit into the queue are counted, and the count is written as soon as there is room again.

use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

/// Octets that may be queued; lines beyond that are lost.
const CAPACITY: usize = 1 << 20;
/// How long to wait before trying again when a non-blocking standard error accepts nothing.
const RETRY_DELAY: Duration = Duration::from_millis(20);

static STDERR: LazyLock<Writer> = LazyLock::new(|| Writer::start(io::stderr()));

/// Queues a line, or counts it as lost. Returns at once.
pub(crate) fn write_line(line: String) {
    STDERR.push(line);
}

/// Waits until all lines are written, but for at most this time.
pub(crate) fn flush(limit: Duration) {
    STDERR.flush(limit);
}

/// Writes panics like all other lines, with a backtrace if `RUST_BACKTRACE` asks for one; `before`
/// is called first.
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

/// A `tracing_subscriber` writer of log lines, which writes each event as a whole.
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
    /// Octets of all queued lines.
    octets: usize,
    /// Lines lost since their number was last written.
    lost: u64,
    /// Whether the thread is writing a line, which is no longer in the queue.
    is_writing: bool,
}

impl Writer {
    fn start(output: impl AsFd + Send + 'static) -> Self {
        let shared = Arc::new(Shared::default());
        let of_thread = shared.clone();
        // Without a thread all lines are lost, which does not end anything either.
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
    /// Writes lines for ever.
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

    /// Waits for the next line. The number of lost lines is written when the queue is empty.
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
    /// The number of lines that are lost if this one is.
    counts_as: u64,
}

fn write(output: BorrowedFd<'_>, mut octets: &[u8]) -> io::Result<()> {
    while !octets.is_empty() {
        match rustix::io::write(output, octets) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => octets = octets.get(count..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => std::thread::sleep(RETRY_DELAY),
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
