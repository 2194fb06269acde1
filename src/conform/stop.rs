//! How a check ends other than well.

use std::fmt::Display;

/// Why a check does not pass.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The node does not do what the check is about.
    Miss(String),
    /// It cannot be found out here, and why.
    Skip(String),
}

/// What a check, or a step of it, comes to.
pub(crate) type Verdict<T = ()> = Result<T, Stop>;

/// The node does something else.
pub(crate) fn miss<T>(what: impl Display) -> Verdict<T> {
    Err(Stop::Miss(what.to_string()))
}

/// It cannot be found out here.
pub(crate) fn skip<T>(why: impl Display) -> Verdict<T> {
    Err(Stop::Skip(why.to_string()))
}

/// Misses unless it is so.
pub(crate) fn ensure(is_so: bool, otherwise: impl FnOnce() -> String) -> Verdict {
    match is_so {
        true => Ok(()),
        false => miss(otherwise()),
    }
}

/// Why a step of a conversation did not happen.
#[derive(Debug, Clone)]
pub(crate) enum Seen {
    /// The node closed the connection.
    Closed(String),
    /// Nothing came in time.
    Late(String),
    /// Something else came.
    Wrong(String),
}

impl Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Seen::Closed(text) | Seen::Late(text) | Seen::Wrong(text) => f.write_str(text),
        }
    }
}

impl From<Seen> for Stop {
    fn from(seen: Seen) -> Stop {
        Stop::Miss(seen.to_string())
    }
}
