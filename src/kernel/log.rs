//! The kernel's log lines: cut while they are written, and limited for each source, as peers choose
//! what they say and how often there is something to say.

use super::HashMap;
use super::effect::{Effect, Level, Origin};
use crate::value::NodeId;
use std::fmt::{self, Write as _};
use std::time::Duration;

/// Octets of a log line.
const LONGEST_LINE: usize = 1000;

/// Lines that a source may log at once; later ones are earned, one each [`LINE_INTERVAL`].
const BURST: u32 = 20;

/// How long it takes to earn a line.
const LINE_INTERVAL: Duration = Duration::from_secs(1);

/// How many sources are remembered without looking for some that have earned all their lines again.
const MANY_SOURCES: usize = 1000;

/// On whose account a line is logged. Each source has a limit of its own for each level.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Source {
    /// What a peer sent, or its coming and going.
    Peer(NodeId),
    /// Dials, and nodes that cannot be reached.
    Mesh,
    /// Deaths of ports.
    Ports,
    /// Perl slaves without a master.
    Healing,
}

/// How many lines each source may still log.
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
    /// The line, and that others were left out before it; `None` if it is to be left out itself.
    /// Nothing is formatted then.
    pub(super) fn line(
        &mut self,
        origin: Origin,
        source: Source,
        level: Level,
        text: fmt::Arguments<'_>,
        now: Duration,
    ) -> Option<Effect> {
        if self.0.len() >= MANY_SOURCES && !self.0.contains_key(&(source.clone(), level)) {
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

/// A text as it goes into the log. What does not fit is not formatted.
pub(super) fn line(text: fmt::Arguments<'_>) -> String {
    cut(text, LONGEST_LINE)
}

/// The first octets of a text, so many at most, and a sign if there are more. These are not formatted.
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
        for source in 0..10 * MANY_SOURCES {
            log(&mut limits, &source.to_string(), source as u64);
        }
        assert!(limits.0.len() <= MANY_SOURCES);
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
        assert!(text.len() <= LONGEST_LINE + 3 && text.ends_with("é..."), "{text}");
        assert!(pieces.get() <= LONGEST_LINE);
    }
}
