//! The ways in which a check ends without passing.

use std::fmt::Display;

/// Why a check does not pass.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The node does not do what the check is about.
    Miss(String),
    /// It cannot be tested here, and why.
    Skip(String),
}

/// The result of a check, or of one of its steps.
pub(crate) type Verdict<T = ()> = Result<T, Stop>;

/// A miss: the node does something else.
pub(crate) fn miss<T>(what: impl Display) -> Verdict<T> {
    Err(Stop::Miss(what.to_string()))
}

/// A skip: it cannot be tested here.
pub(crate) fn skip<T>(why: impl Display) -> Verdict<T> {
    Err(Stop::Skip(why.to_string()))
}

/// A miss unless the condition holds.
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
    /// Nothing arrived in time.
    Late(String),
    /// Something else arrived.
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
