//! The clock that all processes of this machine share.

use std::time::{Duration, Instant};

/// Nanoseconds of `CLOCK_MONOTONIC`.
pub(crate) fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Makes this process run on one processor only, if there are several.
pub(crate) fn pin(processor: usize) {
    let there_are = std::thread::available_parallelism().map_or(1, usize::from);
    if there_are > 1 {
        let mut set = rustix::thread::CpuSet::new();
        set.set(processor % there_are);
        let _ = rustix::thread::sched_setaffinity(None, &set);
    }
}

/// How long a case with round trips measures at most, so that it has a result within the minute that a
/// case may take.
const LONGEST: Duration = Duration::from_secs(15);

/// The numbers of the round trips of a case: `count` of them, or as many as begin in 15 seconds.
pub(crate) fn round_trips(count: usize) -> impl Iterator<Item = usize> {
    let begun = Instant::now();
    (0..count).take_while(move |_| begun.elapsed() < LONGEST)
}

/// The value below which `part` of the values are.
pub(crate) fn percentile(values: &mut [u64], part: f64) -> f64 {
    values.sort_unstable();
    let at = (values.len() as f64 * part) as usize;
    values.get(at.min(values.len().saturating_sub(1))).copied().unwrap_or(0) as f64
}
