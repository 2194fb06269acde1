//! Decides when the log repeats that an address cannot be dialled for the same reason as before,
//! since dials are retried for ever.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Pause between the first line and the second; the pauses after that double.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
const MAX_PAUSE: Duration = Duration::from_secs(3600);

/// Addresses that are remembered. Failures of others are logged each time, within the limit for all
/// lines.
const MAX_ADDRESSES: usize = 1000;

/// Failures that were logged, by address.
#[derive(Debug, Default)]
pub(crate) struct Repeats(Mutex<HashMap<String, Logged>>);

#[derive(Debug)]
struct Logged {
    why: String,
    pause: Duration,
    until: Instant,
}

impl Repeats {
    /// Whether the failure of `address` should be logged: the reason is new, or the pause is over.
    pub(crate) fn is_due(&self, address: &str, why: &str, now: Instant) -> bool {
        let mut logged = self.0.lock();
        let pause = match logged.get(address) {
            Some(last) if last.why == why && now < last.until => return false,
            Some(last) if last.why == why => (last.pause * 2).min(MAX_PAUSE),
            _ => FIRST_PAUSE,
        };
        if logged.len() >= MAX_ADDRESSES {
            logged.retain(|_, last| now < last.until);
        }
        if logged.len() < MAX_ADDRESSES || logged.contains_key(address) {
            let last = Logged { why: why.to_owned(), pause, until: now + pause };
            logged.insert(address.to_owned(), last);
        }
        true
    }

    /// The address was connected, so its next failure counts as new.
    pub(crate) fn connected(&self, address: &str) {
        self.0.lock().remove(address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_logged_when_it_is_news_and_then_after_pauses_that_double_up_to_an_hour() {
        let (repeats, start) = (Repeats::default(), Instant::now());
        let due = |why: &str, minute: u64| {
            repeats.is_due("a:1", why, start + Duration::from_secs(60) * minute as u32)
        };
        let minutes: Vec<u64> = (0..400).filter(|minute| due("closed", *minute)).collect();
        assert_eq!(minutes, [0, 1, 3, 7, 15, 31, 63, 123, 183, 243, 303, 363]);
        assert!(due("refused", 400) && !due("refused", 400));
        repeats.connected("a:1");
        assert!(due("refused", 400));
    }

    #[test]
    fn of_more_addresses_than_are_remembered_each_failure_is_due() {
        let (repeats, now) = (Repeats::default(), Instant::now());
        let addresses = (0..2 * MAX_ADDRESSES).map(|number| format!("a:{number}"));
        assert!(addresses.into_iter().all(|address| repeats.is_due(&address, "closed", now)));
        assert!(repeats.0.lock().len() <= MAX_ADDRESSES);
    }
}
