//! The plan of a run: the position of the suite, the properties of the node, the checks to run.

use super::check::{Check, Level};
use super::checks;
use super::context::Target;
use super::position::Position;
use super::precondition::Obstacle;
use super::profile::Profile;
use std::io;
use std::net::IpAddr;

/// The position of the suite.
#[derive(Clone, Debug)]
pub enum Place {
    /// It dials the node under test at `host:port`.
    Dial(String),
    /// It is the node's seeds.
    Listen {
        /// The address on which the node can reach it.
        host: IpAddr,
        /// Who starts the node.
        start: Start,
    },
}

/// Who starts the node under test when it is to dial the suite.
#[derive(Clone, Debug)]
pub enum Start {
    /// Somebody else, once, with all the seeds that are printed.
    ByHand,
    /// The suite, as often as it needs one: a command for the shell, in which `{seeds}` stands for
    /// the addresses with commas between them.
    Command(String),
}

/// A run to carry out.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The position of the suite.
    pub place: Place,
    /// What the suite knows about the node.
    pub target: Target,
    /// Names of checks, or the beginnings of names followed by `*`; all checks if it is empty. Names after a
    /// `!` are excluded.
    pub only: Vec<String>,
    /// The lowest level to check.
    pub level: Level,
    /// The deviations to expect.
    pub profile: Option<&'static Profile>,
}

/// Why a plan cannot be carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// No check has this name.
    #[error("no check is called {name:?} here; --list lists all")]
    UnknownCheck {
        /// The name.
        name: String,
    },
    /// There is neither a secret nor a certificate.
    #[error(
        "neither secret nor certificate: nobody talks to a node without one; give --secret or --cert"
    )]
    NoCredentials,
    /// No address to listen on.
    #[error("cannot listen on {host}")]
    Listen {
        /// The address.
        host: IpAddr,
        /// The reason.
        source: io::Error,
    },
    /// The node cannot be tested, which is not a miss.
    #[error(transparent)]
    Obstacle(#[from] Obstacle),
}

impl Plan {
    /// The checks of this plan.
    ///
    /// # Errors
    /// If a name in `only` does not match any check.
    pub fn checks(&self) -> Result<Vec<&'static Check>, PlanError> {
        let position = self.position();
        let fits = |check: &&Check| check.is_for(position) && check.level <= self.level;
        let all: Vec<&Check> = checks::all().collect();
        let wanted = selected(&all, &self.only, |check| check.id)
            .map_err(|name| PlanError::UnknownCheck { name })?;
        Ok(wanted.into_iter().filter(fits).collect())
    }

    /// Who dials.
    pub fn position(&self) -> Position {
        match self.place {
            Place::Dial(_) => Position::Dial,
            Place::Listen { .. } => Position::Listen,
        }
    }
}

/// The items that these names select: names, or the beginnings of names followed by `*`; all if there are
/// none. Names after a `!` are excluded. The error is a name that matches nothing.
pub(super) fn selected<T: Copy>(
    all: &[T],
    names: &[String],
    id: impl Fn(&T) -> &'static str,
) -> Result<Vec<T>, String> {
    let is_named = |item: &T, name: &str| {
        id(item) == name || name.strip_suffix('*').is_some_and(|start| id(item).starts_with(start))
    };
    let names = names.iter().map(String::as_str);
    let (unwanted, wanted): (Vec<&str>, Vec<&str>) = names.partition(|name| name.starts_with('!'));
    let unwanted: Vec<&str> = unwanted.iter().map(|name| name.trim_start_matches('!')).collect();
    let mut given = wanted.iter().chain(&unwanted);
    if let Some(name) = given.find(|name| !all.iter().any(|item| is_named(item, name))) {
        return Err((*name).to_owned());
    }
    let is_wanted = |item: &&T| {
        let is_one = |name: &&str| is_named(item, name);
        (wanted.is_empty() || wanted.iter().any(is_one)) && !unwanted.iter().any(is_one)
    };
    Ok(all.iter().filter(is_wanted).copied().collect())
}
