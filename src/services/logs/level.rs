//! Log levels, with AnyEvent's numbers.

use std::fmt;
use std::str::FromStr;

/// The level of a log line. AnyEvent's levels are numbers from 1 (fatal) to 9 (trace).
///
/// Lines of this program only use five of them: [`LogLevel::Error`], [`LogLevel::Warn`],
/// [`LogLevel::Info`], [`LogLevel::Debug`] and [`LogLevel::Trace`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogLevel {
    /// The program cannot go on.
    Fatal = 1,
    /// Somebody has to act immediately.
    Alert,
    /// Something important is broken.
    Critical,
    /// Something failed.
    Error,
    /// Something is suspicious.
    Warn,
    /// Important, but normal.
    Note,
    /// Worth knowing.
    Info,
    /// Details.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    const ALL: [(LogLevel, &'static str); 9] = [
        (LogLevel::Fatal, "fatal"),
        (LogLevel::Alert, "alert"),
        (LogLevel::Critical, "critical"),
        (LogLevel::Error, "error"),
        (LogLevel::Warn, "warn"),
        (LogLevel::Note, "note"),
        (LogLevel::Info, "info"),
        (LogLevel::Debug, "debug"),
        (LogLevel::Trace, "trace"),
    ];

    /// The level with this number; numbers above 9 are trace. There is no level 0.
    pub const fn from_number(number: u64) -> Option<LogLevel> {
        Some(match number {
            0 => return None,
            1 => LogLevel::Fatal,
            2 => LogLevel::Alert,
            3 => LogLevel::Critical,
            4 => LogLevel::Error,
            5 => LogLevel::Warn,
            6 => LogLevel::Note,
            7 => LogLevel::Info,
            8 => LogLevel::Debug,
            _ => LogLevel::Trace,
        })
    }

    /// Its number in AnyEvent.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The level of this `tracing` level.
    pub const fn from_tracing(level: tracing::Level) -> LogLevel {
        match level {
            tracing::Level::ERROR => LogLevel::Error,
            tracing::Level::WARN => LogLevel::Warn,
            tracing::Level::INFO => LogLevel::Info,
            tracing::Level::DEBUG => LogLevel::Debug,
            tracing::Level::TRACE => LogLevel::Trace,
        }
    }
}

/// Its name: `error`.
impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(level, _)| level == self).map_or("", |(_, name)| name);
        f.pad(name)
    }
}

/// The error for a text that does not name a level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a log level; write 1 to 9, or fatal, alert, critical, error, warn, note, info, debug or trace"
)]
pub struct NoLogLevel(pub String);

/// Parses a number or a name.
impl FromStr for LogLevel {
    type Err = NoLogLevel;

    fn from_str(text: &str) -> Result<Self, NoLogLevel> {
        if let Ok(number) = text.parse() {
            return LogLevel::from_number(number).ok_or_else(|| NoLogLevel(text.to_owned()));
        }
        let found = Self::ALL.iter().find(|(_, name)| *name == text);
        found.map(|(level, _)| *level).ok_or_else(|| NoLogLevel(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_from_numbers_and_names_and_written_as_names() {
        for (number, (level, name)) in (1..).zip(LogLevel::ALL) {
            assert_eq!(level.number(), number);
            assert_eq!(LogLevel::from_number(number.into()), Some(level));
            assert_eq!(number.to_string().parse(), Ok(level));
            assert_eq!(name.parse(), Ok(level));
            assert_eq!(level.to_string(), name);
        }
        assert_eq!("12".parse(), Ok(LogLevel::Trace));
        for wrong in ["0", "-1", "", "ERROR", "4.5"] {
            assert_eq!(wrong.parse::<LogLevel>(), Err(NoLogLevel(wrong.to_owned())));
        }
    }

    #[test]
    fn the_levels_of_tracing_have_their_counterparts() {
        let numbers = [
            (tracing::Level::ERROR, 4),
            (tracing::Level::WARN, 5),
            (tracing::Level::INFO, 7),
            (tracing::Level::DEBUG, 8),
            (tracing::Level::TRACE, 9),
        ];
        for (level, number) in numbers {
            assert_eq!(LogLevel::from_tracing(level).number(), number);
        }
    }
}
