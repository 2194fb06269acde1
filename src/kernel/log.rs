//! The rate limit of the kernel's log lines for each source, since peers choose how often they cause one.

use super::HashMap;
use super::effect::{Effect, Level, Origin};
use super::lines::{Line, What};
use crate::value::NodeId;
use std::time::Duration;

/// Lines that a source may log in a burst. After that it may log one line each [`LINE_INTERVAL`].
const BURST: u32 = 20;

/// The interval after which a source may log one more line.
const LINE_INTERVAL: Duration = Duration::from_secs(1);

/// Sources at full credit are removed once this many are recorded, or twice as many as were left the last
/// time, so that a line costs no more with many sources than with few.
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
pub(super) struct LogLimits {
    budgets: HashMap<(Source, Level), Budget>,
    /// How many were left when those at full credit were last removed.
    left: usize,
}

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
    /// The line, with the number of lines that were suppressed before it; `None` if it is suppressed
    /// itself.
    pub(super) fn line(
        &mut self,
        origin: Origin,
        source: Source,
        level: Level,
        what: What,
        now: Duration,
    ) -> Option<Effect> {
        if self.budgets.len() >= PRUNE_THRESHOLD.max(2 * self.left) {
            self.prune(now);
        }
        let new = Budget { lines: BURST, since: now, unlogged: 0 };
        let budget = self.budgets.entry((source, level)).or_insert(new);
        budget.earn(now);
        let Some(left) = budget.lines.checked_sub(1) else {
            budget.unlogged += 1;
            return None;
        };
        budget.lines = left;
        let unlogged = std::mem::take(&mut budget.unlogged);
        Some(Effect::Log { level, origin, line: Line { what, unlogged } })
    }

    /// Removes the sources at full credit.
    #[cold]
    fn prune(&mut self, now: Duration) {
        self.budgets.retain(|_, budget| {
            budget.earn(now);
            budget.lines < BURST
        });
        self.left = self.budgets.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(limits: &mut LogLimits, source: &str, seconds: u64) -> Option<String> {
        let source = Source::Peer(NodeId::new(source).unwrap());
        let now = Duration::from_secs(seconds);
        let what = What::Text("line".to_owned());
        limits.line(Origin::Requests, source, Level::Warn, what, now).map(|effect| match effect {
            Effect::Log { line, .. } => line.to_string(),
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
        assert!(limits.budgets.len() <= PRUNE_THRESHOLD);
    }

    #[test]
    fn sources_are_looked_through_again_only_when_they_have_doubled() {
        let mut limits = LogLimits::default();
        let mut prunings = Vec::new();
        for source in 0..10 * PRUNE_THRESHOLD {
            log(&mut limits, &source.to_string(), 0);
            if prunings.last() != Some(&limits.left) {
                prunings.push(limits.left);
            }
        }
        assert_eq!(prunings, [0, 1, 2, 4, 8].map(|left| left * PRUNE_THRESHOLD));
        log(&mut limits, "late", 1);
        for source in 0..6 * PRUNE_THRESHOLD {
            log(&mut limits, &format!("again {source}"), 1);
        }
        // All that logged in the second before are at full credit.
        assert_eq!(limits.left, 6 * PRUNE_THRESHOLD);
    }
}
