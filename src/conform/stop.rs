//! The ways in which a check ends without passing.

use std::fmt::Display;

/// Why a check does not pass.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The node does not do what the check is about.
    Miss(String),
    /// It has not done so in time: it is wrong or slow.
    Late(String),
    /// It cannot be tested here, and why.
    Skip(String),
}

/// The result of a check, or of one of its steps.
pub(crate) type Verdict<T = ()> = Result<T, Stop>;

/// A miss: the node does something else.
pub(crate) fn miss<T>(what: impl Display) -> Verdict<T> {
    Err(Stop::Miss(what.to_string()))
}

/// The node has not done it in time.
pub(crate) fn late<T>(what: impl Display) -> Verdict<T> {
    Err(Stop::Late(what.to_string()))
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

/// Why an expected step of a conversation has not happened.
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

impl Stop {
    /// The same with a longer description; the reason of a skip is not changed.
    pub(crate) fn about(self, more: impl FnOnce(String) -> String) -> Stop {
        match self {
            Stop::Miss(what) => Stop::Miss(more(what)),
            Stop::Late(what) => Stop::Late(more(what)),
            Stop::Skip(why) => Stop::Skip(why),
        }
    }
}

impl From<Seen> for Stop {
    fn from(seen: Seen) -> Stop {
        match seen {
            Seen::Late(what) => Stop::Late(what),
            Seen::Closed(what) | Seen::Wrong(what) => Stop::Miss(what),
        }
    }
}
