//! Measures the time of an echo with this node on this machine, by which the suite extends its timeouts:
//! a slow node or a busy machine is not a miss.

use super::session::Session;
use super::stop::Verdict;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The number of echoes to measure.
const ECHOES: u32 = 20;
/// The pause between two of them, so that the load of the machine shows.
const ECHO_INTERVAL: Duration = Duration::from_millis(10);
/// An echo that takes this long doubles all times. On an idle machine it takes less than a millisecond.
const DOUBLES: Duration = Duration::from_millis(50);
/// The maximum factor, so that every run ends.
const MAX_FACTOR: f64 = 12.0;

/// The longest time of several echoes.
pub(super) async fn slowest(session: &mut Session) -> Verdict<Duration> {
    let mut slowest = Duration::ZERO;
    for _ in 0..ECHOES {
        let start = Instant::now();
        session.barrier().await?;
        slowest = slowest.max(start.elapsed());
        sleep(ECHO_INTERVAL).await;
    }
    Ok(slowest)
}

/// The factor by which the timeouts of a run are extended.
pub(super) fn slowness(slowest_echo: Duration) -> f64 {
    (1.0 + slowest_echo.as_secs_f64() / DOUBLES.as_secs_f64()).min(MAX_FACTOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_grow_with_the_echo_up_to_a_limit_and_never_shrink() {
        assert_eq!(slowness(Duration::ZERO), 1.0);
        assert_eq!(slowness(DOUBLES), 2.0);
        assert_eq!(slowness(Duration::from_secs(60)), MAX_FACTOR);
    }
}
