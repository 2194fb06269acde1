//! The delays between retries.

use crate::kernel::random::Random;
use std::time::Duration;

/// A delay that doubles up to a limit, and is at least one unit.
#[derive(Debug)]
pub(super) struct Backoff {
    unit: Duration,
    delay: Duration,
    scheduled: Option<Duration>,
}

impl Backoff {
    /// Nothing is scheduled. The first delay is `unit`, unless [`Backoff::restart`] chooses another one.
    pub(super) const fn new(unit: Duration) -> Self {
        Backoff { unit, delay: unit, scheduled: None }
    }

    /// Resets the delay to a random one between one and two units.
    pub(super) fn restart(&mut self, random: &mut Random) -> Duration {
        self.delay = self.unit.mul_f64(1.0 + random.fraction());
        self.delay
    }

    /// Whether nothing is scheduled before `at`.
    pub(super) fn is_later_than(&self, at: Duration) -> bool {
        self.scheduled.is_none_or(|scheduled| scheduled > at)
    }

    pub(super) fn schedule(&mut self, at: Duration) {
        self.scheduled = Some(at);
    }

    /// Schedules `at`, unless an earlier time is scheduled. Returns whether it did.
    pub(super) fn no_later_than(&mut self, at: Duration) -> bool {
        let is_later = self.is_later_than(at);
        if is_later {
            self.schedule(at);
        }
        is_later
    }

    /// Whether the scheduled time has come; if so, it is cleared.
    pub(super) fn take_due(&mut self, now: Duration) -> bool {
        let due = !self.is_later_than(now);
        if due {
            self.scheduled = None;
        }
        due
    }

    /// Schedules the next time: after twice the previous delay, but at most `longest` and at least one
    /// unit. Returns the time.
    pub(super) fn again(&mut self, now: Duration, longest: Duration) -> Duration {
        self.delay = (self.delay * 2).min(longest).max(self.unit);
        let at = now + self.delay;
        self.schedule(at);
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_time_is_always_later() {
        let unit = Duration::from_millis(300);
        for longest in [Duration::ZERO, unit, Duration::from_secs(30)] {
            let mut backoff = Backoff::new(unit);
            let times = [(); 12].map(|()| backoff.again(Duration::ZERO, longest));
            assert!(times.is_sorted() && times[0] >= unit, "{times:?}");
            assert_eq!(times[11], longest.max(unit));
        }
    }
}
