//! The checks of networks, each with the statement that it tests.

mod database;
mod fixture;
mod messages;
mod monitors;
mod numbers;
mod seeds;
mod split;

use super::net::Net;
use crate::conform::check::Level;
use crate::conform::stop::Verdict;
use std::pin::Pin;

/// The code of a check.
type Run = fn(Net) -> Pin<Box<dyn Future<Output = Verdict> + Send>>;

/// One statement of the protocol, and the code that tests whether networks of two implementations keep it.
#[derive(Clone, Copy, Debug)]
pub struct NetworkCheck {
    /// Its name, for `--only` and in reports.
    pub id: &'static str,
    /// The number of the statement in `docs/protocol.md`: its section and a letter.
    pub statement: &'static str,
    /// The statement, in one sentence.
    pub sentence: &'static str,
    pub(super) run: Run,
}

impl NetworkCheck {
    /// The importance of the statements: networks do not work without them.
    pub const LEVEL: Level = Level::Must;
}

/// A check of networks without its code.
struct Description {
    id: &'static str,
    statement: &'static str,
    sentence: &'static str,
}

const fn check(id: &'static str, statement: &'static str, sentence: &'static str) -> Description {
    Description { id, statement, sentence }
}

impl Description {
    const fn by(self, run: Run) -> NetworkCheck {
        let Description { id, statement, sentence } = self;
        NetworkCheck { id, statement, sentence, run }
    }
}

/// All checks of networks. The first one shows that there is a network at all.
pub fn all() -> impl Iterator<Item = &'static NetworkCheck> {
    let groups =
        [database::CHECKS, monitors::CHECKS, messages::CHECKS, split::CHECKS, seeds::CHECKS];
    groups.into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_check_of_networks_has_a_unique_name_and_an_existing_statement() {
        let protocol = include_str!("../../../../docs/protocol.md");
        let mut names = BTreeSet::new();
        for check in all() {
            assert!(names.insert(check.id), "{} is there twice", check.id);
            assert!(check.id.len() <= 16, "{} does not fit into the table", check.id);
            let number = format!("<sup>{}</sup>", check.statement);
            assert!(protocol.contains(&number), "{}: no {}", check.id, check.statement);
            assert!(check.sentence.ends_with('.'), "{}", check.sentence);
        }
    }
}
