//! §5: the database that a global node keeps for slaves and other global nodes.

pub(super) mod changes;
mod family;
pub(super) mod others;
pub(super) mod owners;
pub(super) mod pieces;
pub(super) mod queries;

use crate::conform::check::{Description, check};

/// A check of a global node, which needs the suite to dial.
const fn global(id: &'static str, statement: &'static str, sentence: &'static str) -> Description {
    check(id, statement, sentence).dial()
}
