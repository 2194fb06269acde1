//! A bounded queue of log lines for a slow reader, which counts the lines that it had to drop.

use super::{LogEntry, LogLevel};
use crate::value::NodeId;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// The maximum number of queued lines.
const MAX_PENDING: usize = 1024;
/// The maximum number of octets of their texts.
const MAX_OCTETS: usize = 1 << 20;

/// A queue that drops lines that do not fit, and tells the reader how many are missing at that place.
#[derive(Debug)]
pub(super) struct Backlog(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    entries: VecDeque<LogEntry>,
    octets: usize,
    dropped: u64,
    waker: Option<Waker>,
    ended: bool,
}

impl Backlog {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Backlog(Mutex::default()))
    }

    /// Adds a line, or counts it as dropped if the queue is full. Never waits.
    pub(super) fn push(&self, entry: LogEntry) {
        let mut state = self.0.lock();
        if state.ended {
            return;
        }
        let octets = state.octets + size(&entry);
        // After a gap, no line may be added before the reader was told of the gap.
        if state.dropped > 0 || state.entries.len() >= MAX_PENDING || octets > MAX_OCTETS {
            state.dropped += 1;
            return;
        }
        state.octets = octets;
        state.entries.push_back(entry);
        wake(state);
    }

    /// Closes the queue: no more lines will come.
    pub(super) fn end(&self) {
        let mut state = self.0.lock();
        state.ended = true;
        wake(state);
    }

    /// The next line, or the number of lines that were dropped after the previous one.
    pub(super) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Waiting>> {
        let mut state = self.0.lock();
        if let Some(entry) = state.entries.pop_front() {
            state.octets -= size(&entry);
            return Poll::Ready(Some(Waiting::Line(entry)));
        }
        if state.dropped > 0 {
            return Poll::Ready(Some(Waiting::Gap(std::mem::take(&mut state.dropped))));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        let old = state.waker.replace(cx.waker().clone());
        drop(state);
        drop(old);
        Poll::Pending
    }

    pub(super) async fn next(&self) -> Option<Waiting> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }
}

fn wake(mut state: parking_lot::MutexGuard<'_, State>) {
    let waker = state.waker.take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

fn size(entry: &LogEntry) -> usize {
    entry.text.len() + entry.context.len()
}

/// An item of a backlog.
#[derive(Debug)]
pub(super) enum Waiting {
    Line(LogEntry),
    /// This many lines are missing here.
    Gap(u64),
}

impl Waiting {
    /// Converts the item into a line; a gap becomes a warning of `node`.
    pub(super) fn into_entry(self, node: &NodeId) -> LogEntry {
        match self {
            Waiting::Line(entry) => entry,
            Waiting::Gap(dropped) => LogEntry {
                node: node.clone(),
                time: super::now(),
                context: super::CONTEXT.to_owned(),
                level: LogLevel::Warn,
                text: format!("{dropped} log lines were dropped here: their catcher is too slow"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: String) -> LogEntry {
        LogEntry {
            node: "node".parse().unwrap(),
            time: 1.5,
            context: "main".to_owned(),
            level: LogLevel::Info,
            text,
        }
    }

    fn all(backlog: &Backlog) -> Vec<String> {
        let mut texts = Vec::new();
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(waiting)) = backlog.poll_next(&mut cx) {
            texts.push(waiting.into_entry(&"node".parse().unwrap()).text);
        }
        texts
    }

    #[test]
    fn lines_come_in_order_with_a_gap_where_some_are_missing() {
        let backlog = Backlog::new();
        for number in 0..MAX_PENDING + 7 {
            backlog.push(entry(number.to_string()));
        }
        let texts = all(&backlog);
        let (gap, lines) = texts.split_last().unwrap();
        assert!(lines.iter().enumerate().all(|(number, text)| *text == number.to_string()));
        assert_eq!(lines.len(), MAX_PENDING);
        assert!(gap.starts_with("7 log lines were dropped"), "{gap}");
        backlog.push(entry("after".to_owned()));
        assert_eq!(all(&backlog), ["after"]);
    }

    #[test]
    fn long_lines_fill_the_backlog_too() {
        let backlog = Backlog::new();
        for _ in 0..3 {
            backlog.push(entry("x".repeat(MAX_OCTETS / 2 - "main".len())));
        }
        assert_eq!(all(&backlog).len(), 3);
        backlog.push(entry("x".repeat(MAX_OCTETS)));
        assert_eq!(all(&backlog).len(), 1);
    }

    #[test]
    fn queued_lines_can_be_read_after_the_end() {
        let backlog = Backlog::new();
        backlog.push(entry("last".to_owned()));
        backlog.end();
        backlog.push(entry("too late".to_owned()));
        assert_eq!(all(&backlog), ["last"]);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(matches!(backlog.poll_next(&mut cx), Poll::Ready(None)));
    }
}
