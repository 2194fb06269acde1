//! All checks, in the order of `docs/protocol.md`.

mod auth;
mod bound;
mod framings;
mod global;
mod greeting;
mod mesh;
mod monitors;
mod pieces;
mod refusals;
mod requests;
mod robustness;
mod service;
mod slave;
mod tls;

use super::check::Check;
use super::pattern::{ANY, REST};

/// All checks.
pub fn all() -> impl Iterator<Item = &'static Check> {
    let groups = [
        greeting::CHECKS,
        auth::CHECKS,
        refusals::CHECKS,
        tls::CHECKS,
        bound::CHECKS,
        framings::each::CHECKS,
        framings::unusual::CHECKS,
        requests::CHECKS,
        monitors::CHECKS,
        mesh::CHECKS,
        slave::seeds::CHECKS,
        slave::failover::CHECKS,
        slave::pieces::CHECKS,
        slave::database::CHECKS,
        global::queries::CHECKS,
        global::changes::CHECKS,
        global::owners::CHECKS,
        global::others::CHECKS,
        global::pieces::CHECKS,
        robustness::CHECKS,
    ];
    groups.into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    #[test]
    fn every_check_has_a_unique_name_and_a_statement_and_every_statement_a_check() {
        let protocol = include_str!("../../../docs/protocol.md");
        let statements = statements(protocol);
        let mut names = BTreeSet::new();
        for check in all() {
            assert!(names.insert(check.id), "{} is there twice", check.id);
            assert!(check.id.len() <= 22, "{} does not fit into the table", check.id);
            let heading = match check.section().contains('.') {
                true => format!("### {} ", check.section()),
                false => format!("## {}. ", check.section()),
            };
            assert!(protocol.contains(&heading), "{}: no §{}", check.id, check.section());
            assert!(statements.contains(check.statement), "{}: no {}", check.id, check.statement);
            assert!(check.sentence.ends_with(['.', ')']), "{}", check.sentence);
        }
        assert!(names.len() >= 120);
        let of_networks = crate::conform::network_checks().map(|check| check.statement);
        let checked: BTreeSet<&str> =
            all().map(|check| check.statement).chain(of_networks).collect();
        let unchecked: Vec<_> = statements.difference(&checked).collect();
        assert!(unchecked.is_empty(), "statements without a check: {unchecked:?}");
    }

    /// The numbers of all statements; each is given once.
    fn statements(protocol: &str) -> BTreeSet<&str> {
        let body = protocol.split_once("## 1. ").unwrap().1;
        let mut statements = BTreeSet::new();
        for part in body.split("<sup>").skip(1) {
            let number = part.split_once("</sup>").unwrap().0;
            assert!(statements.insert(number), "{number} is there twice");
        }
        statements
    }

    /// Otherwise a fault of our node could go unnoticed.
    #[test]
    fn the_suite_knows_nothing_of_our_node() {
        fn look(directory: &Path) {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    look(&path);
                    continue;
                }
                let code = std::fs::read_to_string(&path).unwrap();
                for module in ["node", "kernel", "services", "codec", "config"] {
                    let using = format!("crate::{module}");
                    assert!(!code.contains(&using), "{} uses {using}", path.display());
                }
                for name in ["Node", "NodeId", "PortId"] {
                    let using = format!("use crate::{name}");
                    assert!(!code.contains(&using), "{} uses {name}", path.display());
                }
            }
        }
        look(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/conform"));
    }
}
