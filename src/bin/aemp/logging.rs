//! The log of the command: one line per event on standard error.

use crate::stderr::LogLine;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;

/// The level of the log, which can be changed while the node runs.
pub(crate) struct Level {
    verbosity: u8,
    handle: reload::Handle<Targets, tracing_subscriber::Registry>,
}

/// Starts the log. Without `-v` the level comes from `PERL_ANYEVENT_VERBOSE`, then from its short
/// form `AE_VERBOSE`, then from the configuration, in AnyEvent's numbers: 4 for errors, 5 for
/// warnings, 7 for information (the default), 8 for details, 9 for everything.
pub(crate) fn start(verbosity: u8, configured: Option<u8>) -> Level {
    start_with(verbosity, configured.map_or(LevelFilter::INFO, filter))
}

/// Starts the log, which by default shows nothing.
pub(crate) fn start_quietly(verbosity: u8) -> Level {
    start_with(verbosity, LevelFilter::OFF)
}

fn start_with(verbosity: u8, otherwise: LevelFilter) -> Level {
    let (level, handle) = reload::Layer::new(targets(verbosity, otherwise));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(|| LogLine)
        .with_ansi(false)
        .with_target(false)
        .with_timer(Seconds)
        .with_filter(level);
    // This fails only if a log was started before, which then remains in use.
    let _ =
        tracing_subscriber::registry().with(lines).with(aemp::services::logs::layer()).try_init();
    Level { verbosity, handle }
}

impl Level {
    /// Applies the level of the configuration, unless the command line or the environment set one.
    pub(crate) fn set(&self, configured: Option<u8>) {
        let otherwise = configured.map_or(LevelFilter::INFO, filter);
        let _ = self.handle.reload(targets(self.verbosity, otherwise));
    }
}

fn targets(verbosity: u8, otherwise: LevelFilter) -> Targets {
    let level = match verbosity {
        0 => from_environment().unwrap_or(otherwise),
        1 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    Targets::new().with_target("aemp", level)
}

fn from_environment() -> Option<LevelFilter> {
    ["PERL_ANYEVENT_VERBOSE", "AE_VERBOSE"].iter().find_map(|name| {
        let wanted = std::env::var(name).ok()?;
        wanted.trim().parse().ok().map(filter)
    })
}

/// The filter for a level in AnyEvent's numbers.
fn filter(level: u8) -> LevelFilter {
    match level {
        0 => LevelFilter::OFF,
        1..=4 => LevelFilter::ERROR,
        5..=6 => LevelFilter::WARN,
        7 => LevelFilter::INFO,
        8 => LevelFilter::DEBUG,
        9.. => LevelFilter::TRACE,
    }
}

/// Times as seconds since the epoch, by which the logs of several machines can be merged.
struct Seconds;

impl FormatTime for Seconds {
    fn format_time(&self, out: &mut Writer<'_>) -> std::fmt::Result {
        let now =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        write!(out, "{}.{:03}", now.as_secs(), now.subsec_millis())
    }
}
