//! When something that has failed is tried again.

use crate::kernel::random::Random;
use std::time::Duration;

/// A delay that doubles up to a limit.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    delay: Duration,
    scheduled: Option<Duration>,
}

impl Backoff {
    /// Makes the delay short again: between one and two of `unit`.
    pub(super) fn restart(&mut self, unit: Duration, random: &mut Random) -> Duration {
        self.delay = unit.mul_f64(1.0 + random.fraction());
        self.delay
    }

    /// Whether nothing is scheduled before `at`.
    pub(super) fn is_later_than(&self, at: Duration) -> bool {
        self.scheduled.is_none_or(|scheduled| scheduled > at)
    }

    pub(super) fn schedule(&mut self, at: Duration) {
        self.scheduled = Some(at);
    }

    /// Schedules `at`, unless something is scheduled before. Returns whether it did.
    pub(super) fn no_later_than(&mut self, at: Duration) -> bool {
        let is_later = self.is_later_than(at);
        if is_later {
            self.schedule(at);
        }
        is_later
    }

    /// Whether the time has come; if so, nothing is scheduled any more.
    pub(super) fn take_due(&mut self, now: Duration) -> bool {
        let due = !self.is_later_than(now);
        if due {
            self.scheduled = None;
        }
        due
    }

    /// Schedules the next time, after twice the delay before. Returns when that is.
    pub(super) fn again(&mut self, now: Duration, longest: Duration) -> Duration {
        self.delay = (self.delay * 2).min(longest);
        let at = now + self.delay;
        self.schedule(at);
        at
    }
}
