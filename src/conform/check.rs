//! The type of a check: plain data and a function.

use super::context::Ctx;
use super::position::Position;
use super::stop::Verdict;
use std::fmt;
use std::pin::Pin;

/// The importance of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Without it nodes cannot communicate.
    Must,
    /// Nodes of the reference do it, so others may rely on it.
    Should,
    /// This implementation does it beyond the reference, mostly to cope with faulty peers.
    Ours,
}

impl Level {
    /// The name on the command line and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Level::Must => "must",
            Level::Should => "should",
            Level::Ours => "ours",
        }
    }

    /// The level of that name.
    pub fn from_name(name: &str) -> Option<Level> {
        [Level::Must, Level::Should, Level::Ours].into_iter().find(|level| level.name() == name)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a check needs from a node that dials the suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listening {
    /// The statement cannot be tested in that position.
    Never,
    /// One of many seeds of a node that other checks use at the same time.
    Shared,
    /// A node whose only seeds are this number of seeds of this check.
    Alone(usize),
}

/// The code of a check.
pub(crate) type Run = fn(Ctx) -> Pin<Box<dyn Future<Output = Verdict> + Send>>;

/// One statement of the protocol, and the code that tests whether a node keeps it.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// Its name, for `--only` and in reports.
    pub id: &'static str,
    /// The number of the statement in `docs/protocol.md`: its section and a letter.
    pub statement: &'static str,
    /// The statement, in one sentence.
    pub sentence: &'static str,
    /// How important it is.
    pub level: Level,
    pub(crate) dials: bool,
    pub(crate) listens: Listening,
    pub(crate) run: Run,
}

impl Check {
    /// The section of `docs/protocol.md` with the statement.
    pub fn section(&self) -> &'static str {
        self.statement.trim_end_matches(|letter: char| letter.is_ascii_lowercase())
    }

    /// Whether it can be tested in that position.
    pub fn is_for(&self, position: Position) -> bool {
        match position {
            Position::Dial => self.dials,
            Position::Listen => self.listens != Listening::Never,
        }
    }
}

/// A check without its code: the statement, its level, and the positions in which it can be tested.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Description {
    id: &'static str,
    statement: &'static str,
    sentence: &'static str,
    level: Level,
    dials: bool,
    listens: Listening,
}

/// A check that every node must pass in both positions, unless the row says otherwise.
pub(crate) const fn check(
    id: &'static str,
    statement: &'static str,
    sentence: &'static str,
) -> Description {
    let (level, listens) = (Level::Must, Listening::Shared);
    Description { id, statement, sentence, level, dials: true, listens }
}

impl Description {
    pub(crate) const fn should(self) -> Description {
        Description { level: Level::Should, ..self }
    }

    pub(crate) const fn ours(self) -> Description {
        Description { level: Level::Ours, ..self }
    }

    /// Only where the suite dials.
    pub(crate) const fn dial(self) -> Description {
        Description { listens: Listening::Never, ..self }
    }

    /// Only where the suite is all of the node's seeds, this many.
    pub(crate) const fn seeds(self, count: usize) -> Description {
        Description { dials: false, listens: Listening::Alone(count), ..self }
    }

    /// Where the suite dials, and where it is all of the node's seeds, this many.
    pub(crate) const fn dial_or_seeds(self, count: usize) -> Description {
        Description { dials: true, listens: Listening::Alone(count), ..self }
    }

    /// Sets the code.
    pub(crate) const fn by(self, run: Run) -> Check {
        let Description { id, statement, sentence, level, dials, listens } = self;
        Check { id, statement, sentence, level, dials, listens, run }
    }
}

/// The code of a check: an async function of its context, or of a fixture made from it, and of further
/// arguments.
macro_rules! run {
    ($code:ident) => {
        run!($code())
    };
    ($code:ident($($argument:expr),* $(,)?)) => {
        |context| Box::pin($code(context.into() $(, $argument)*))
    };
}
pub(super) use run;
