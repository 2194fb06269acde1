//! The kernel's log lines. Their length and their rate for each source are limited, since peers choose
//! both.

use super::HashMap;
use super::effect::{Effect, Level, Origin};
use crate::value::NodeId;
use std::fmt::{self, Write as _};
use std::time::Duration;

/// The maximum octets of a log line.
const MAX_LINE_LEN: usize = 1000;

/// Lines that a source may log in a burst. After that it may log one line each [`LINE_INTERVAL`].
const BURST: u32 = 20;

/// The interval after which a source may log one more line.
const LINE_INTERVAL: Duration = Duration::from_secs(1);

/// Sources at full credit are removed once this many are recorded.
const PRUNE_THRESHOLD: usize = 1000;

/// The source of a log line. Each source has a limit for each level.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Source {
    /// A peer's requests, connects and disconnects.
    Peer(NodeId),
    /// Dials, and nodes that cannot be reached.
    Mesh,
    /// Deaths of ports.
    Ports,
    /// Perl slaves without a master.
    Healing,
}

/// The number of lines that each source may still log.
#[derive(Debug, Default)]
pub(super) struct LogLimits(HashMap<(Source, Level), Budget>);

#[derive(Debug)]
struct Budget {
    lines: u32,
    since: Duration,
    unlogged: u64,
}

impl Budget {
    fn earn(&mut self, now: Duration) {
        let earned = now.saturating_sub(self.since).as_secs() / LINE_INTERVAL.as_secs();
        if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(u32::MAX);
            self.lines = self.lines.saturating_add(earned).min(BURST);
            self.since = now;
        }
    }
}

impl LogLimits {
    /// The text of a line, with the number of lines that were suppressed before it; `None` if it is
    /// suppressed itself, and then nothing is formatted.
    pub(super) fn line(
        &mut self,
        origin: Origin,
        source: Source,
        level: Level,
        text: fmt::Arguments<'_>,
        now: Duration,
    ) -> Option<Effect> {
        if self.0.len() >= PRUNE_THRESHOLD && !self.0.contains_key(&(source.clone(), level)) {
            self.0.retain(|_, budget| {
                budget.earn(now);
                budget.lines < BURST
            });
        }
        let new = Budget { lines: BURST, since: now, unlogged: 0 };
        let budget = self.0.entry((source, level)).or_insert(new);
        budget.earn(now);
        let Some(left) = budget.lines.checked_sub(1) else {
            budget.unlogged += 1;
            return None;
        };
        budget.lines = left;
        let mut text = line(text);
        match std::mem::take(&mut budget.unlogged) {
            0 => {}
            unlogged => text.push_str(&format!(" (and {unlogged} more that were not logged)")),
        }
        Some(Effect::Log { level, origin, text })
    }
}

/// Formats the text of a log line; formatting ends where the line is cut.
pub(super) fn line(text: fmt::Arguments<'_>) -> String {
    cut(text, MAX_LINE_LEN)
}

/// The first octets of a text, up to `longest`, with a mark if there are more. The rest is not
/// formatted.
pub(crate) fn cut(text: fmt::Arguments<'_>, longest: usize) -> String {
    let mut line = Line { text: String::new(), longest };
    if line.write_fmt(text).is_err() {
        line.text.push_str("...");
    }
    line.text
}

struct Line {
    text: String,
    longest: usize,
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.longest - self.text.len().min(self.longest);
        if text.len() <= room {
            self.text.push_str(text);
            return Ok(());
        }
        let end = (0..=room).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        self.text.push_str(text.get(..end).unwrap_or_default());
        Err(fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(limits: &mut LogLimits, source: &str, seconds: u64) -> Option<String> {
        let source = Source::Peer(NodeId::new(source).unwrap());
        let now = Duration::from_secs(seconds);
        let (level, text) = (Level::Warn, format_args!("line"));
        limits.line(Origin::Requests, source, level, text, now).map(|effect| match effect {
            Effect::Log { text, .. } => text,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn a_source_has_twenty_lines_and_then_one_a_second_which_counts_those_left_out() {
        let mut limits = LogLimits::default();
        assert_eq!((0..100).filter_map(|_| log(&mut limits, "a", 0)).count(), 20);
        assert_eq!(log(&mut limits, "b", 0).as_deref(), Some("line"));
        let line = log(&mut limits, "a", 1);
        assert_eq!(line.as_deref(), Some("line (and 80 more that were not logged)"));
        assert_eq!(log(&mut limits, "a", 1), None);
        assert_eq!((0..100).filter_map(|_| log(&mut limits, "a", 100)).count(), 20);
    }

    #[test]
    fn sources_that_have_all_their_lines_again_are_forgotten() {
        let mut limits = LogLimits::default();
        for source in 0..10 * PRUNE_THRESHOLD {
            log(&mut limits, &source.to_string(), source as u64);
        }
        assert!(limits.0.len() <= PRUNE_THRESHOLD);
    }

    #[test]
    fn a_line_is_formatted_no_further_than_it_is_logged() {
        struct Counts<'a>(&'a std::cell::Cell<usize>);
        impl fmt::Display for Counts<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                (0..1_000_000).try_for_each(|_| {
                    self.0.set(self.0.get() + 1);
                    f.write_str("é")
                })
            }
        }
        let pieces = std::cell::Cell::new(0);
        let text = line(format_args!("x{}", Counts(&pieces)));
        assert!(text.len() <= MAX_LINE_LEN + 3 && text.ends_with("é..."), "{text}");
        assert!(pieces.get() <= MAX_LINE_LEN);
    }
}
