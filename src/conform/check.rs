//! What a check is: plain data and a function.

use super::context::Ctx;
use super::position::Position;
use super::stop::Verdict;
use std::fmt;
use std::pin::Pin;

/// How much a node needs to keep a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Without it nodes do not understand each other.
    Must,
    /// What nodes of the reference do, and others may rely on.
    Should,
    /// What this implementation does beyond the reference, above all against peers that err.
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

/// What a check needs of a node that dials the suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listening {
    /// It cannot be found out in that position.
    Never,
    /// One of many seeds of a node that other checks use at the same time.
    Shared,
    /// A node that has nothing but this check's seeds, so many.
    Alone(usize),
}

/// The code of a check.
pub(crate) type Run = fn(Ctx) -> Pin<Box<dyn Future<Output = Verdict> + Send>>;

/// One statement of the protocol, and how to find out whether a node keeps it.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// Its name, for `--only` and in reports.
    pub id: &'static str,
    /// The section of `docs/protocol.md` that says it.
    pub section: &'static str,
    /// What the node does, in one sentence.
    pub sentence: &'static str,
    /// How much it needs to.
    pub level: Level,
    pub(crate) dials: bool,
    pub(crate) listens: Listening,
    pub(crate) run: Run,
}

impl Check {
    /// Whether it can be found out in that position.
    pub fn is_for(&self, position: Position) -> bool {
        match position {
            Position::Dial => self.dials,
            Position::Listen => self.listens != Listening::Never,
        }
    }
}

/// A check without its code: what it is about, how much it matters, and where it can be found out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Statement {
    id: &'static str,
    section: &'static str,
    sentence: &'static str,
    level: Level,
    dials: bool,
    listens: Listening,
}

/// What every node has to do in both positions, unless the rows say otherwise.
pub(crate) const fn check(
    id: &'static str,
    section: &'static str,
    sentence: &'static str,
) -> Statement {
    let (level, listens) = (Level::Must, Listening::Shared);
    Statement { id, section, sentence, level, dials: true, listens }
}

impl Statement {
    pub(crate) const fn should(self) -> Statement {
        Statement { level: Level::Should, ..self }
    }

    pub(crate) const fn ours(self) -> Statement {
        Statement { level: Level::Ours, ..self }
    }

    /// Only where the suite dials.
    pub(crate) const fn dial(self) -> Statement {
        Statement { listens: Listening::Never, ..self }
    }

    /// Only where the suite is the node's seeds, so many, and the node has no others.
    pub(crate) const fn seeds(self, count: usize) -> Statement {
        Statement { dials: false, listens: Listening::Alone(count), ..self }
    }

    /// How it is found out.
    pub(crate) const fn by(self, run: Run) -> Check {
        let Statement { id, section, sentence, level, dials, listens } = self;
        Check { id, section, sentence, level, dials, listens, run }
    }
}

/// The code of a check: an async function of its context, or of what that becomes, and of more.
macro_rules! run {
    ($code:ident) => {
        run!($code())
    };
    ($code:ident($($argument:expr),* $(,)?)) => {
        |context| Box::pin($code(context.into() $(, $argument)*))
    };
}
pub(super) use run;
