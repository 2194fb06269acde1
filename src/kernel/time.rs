//! Time as an argument of the kernel, which has no clock.

use std::collections::BTreeSet;
use std::time::Duration;

/// The time of an input.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Now {
    /// Time since the node started, by a monotonic clock.
    pub uptime: Duration,
    /// Seconds since the epoch, for the request `time`.
    pub wall: f64,
}

/// A timer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TimerEntry<T> {
    at: Duration,
    serial: u64,
    what: T,
}

/// Timers, ordered by time; timers for the same time stay in the order in which they were added.
///
/// Timers are never cancelled: whoever handles one checks whether it still applies.
#[derive(Debug)]
pub(crate) struct TimerQueue<T> {
    due: BTreeSet<TimerEntry<T>>,
    serial: u64,
}

impl<T: Ord> TimerQueue<T> {
    pub(crate) const fn new() -> Self {
        TimerQueue { due: BTreeSet::new(), serial: 0 }
    }

    pub(crate) fn add(&mut self, at: Duration, what: T) {
        self.serial += 1;
        self.due.insert(TimerEntry { at, serial: self.serial, what });
    }

    pub(crate) fn len(&self) -> usize {
        self.due.len()
    }

    /// The time of the next timer.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.due.first().map(|due| due.at)
    }

    /// The number of timers that have expired at `now`.
    pub(crate) fn due(&self, now: Duration) -> usize {
        self.due.iter().take_while(|due| due.at <= now).count()
    }

    /// Takes the next timer that has expired at `now`.
    pub(crate) fn pop(&mut self, now: Duration) -> Option<T> {
        if self.next()? > now {
            return None;
        }
        self.due.pop_first().map(|due| due.what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_in_order_of_time_then_of_arrival() {
        let mut agenda = TimerQueue::new();
        let s = Duration::from_secs;
        agenda.add(s(2), "later");
        agenda.add(s(1), "first");
        agenda.add(s(1), "second");
        assert_eq!(agenda.next(), Some(s(1)));
        assert_eq!(agenda.pop(s(0)), None);
        assert_eq!([0, 1, 2].map(|now| agenda.due(s(now))), [0, 2, 3]);
        assert_eq!(agenda.pop(s(3)), Some("first"));
        assert_eq!(agenda.pop(s(3)), Some("second"));
        assert_eq!(agenda.pop(s(3)), Some("later"));
        assert_eq!(agenda.pop(s(3)), None);
    }
}
