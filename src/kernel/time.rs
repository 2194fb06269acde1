//! Time as the kernel sees it: an argument, never a clock.

use std::collections::BTreeSet;
use std::time::Duration;

/// What the clocks show at the moment of an input.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Now {
    /// Time since the node started, from a clock that never goes back.
    pub uptime: Duration,
    /// Seconds since the epoch, as the request `time` answers them.
    pub wall: f64,
}

/// Something that has to happen later.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Due<T> {
    at: Duration,
    serial: u64,
    what: T,
}

/// An agenda: entries in order of time, equal times in order of arrival.
///
/// Nothing is ever taken back: whoever handles an entry looks whether it still applies.
#[derive(Debug)]
pub(crate) struct Agenda<T> {
    due: BTreeSet<Due<T>>,
    serial: u64,
}

impl<T: Ord> Agenda<T> {
    pub(crate) const fn new() -> Self {
        Agenda { due: BTreeSet::new(), serial: 0 }
    }

    pub(crate) fn add(&mut self, at: Duration, what: T) {
        self.serial += 1;
        self.due.insert(Due { at, serial: self.serial, what });
    }

    pub(crate) fn len(&self) -> usize {
        self.due.len()
    }

    /// When the next entry is due.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.due.first().map(|due| due.at)
    }

    /// How many entries are due at `now`.
    pub(crate) fn due(&self, now: Duration) -> usize {
        self.due.iter().take_while(|due| due.at <= now).count()
    }

    /// Takes the next entry that is due at `now`.
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
        let mut agenda = Agenda::new();
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
