//! How long an echo takes with this node on this machine, and what follows from that for the suite's
//! patience: a slow node or a busy machine is not a miss.

use super::session::Session;
use super::stop::Verdict;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How many echoes are measured.
const ECHOES: u32 = 20;
/// The pause between two of them, so that a busy machine has the time to show.
const ECHO_INTERVAL: Duration = Duration::from_millis(10);
/// An echo that takes this long doubles all times. On an idle machine it takes less than a millisecond.
const DOUBLES: Duration = Duration::from_millis(50);
/// However slow the node is, times grow by this factor at the most, so that every run ends.
const MAX_FACTOR: f64 = 12.0;

/// The longest that one of several echoes took.
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

/// By which factor all times of a run are longer than those for an idle machine.
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
