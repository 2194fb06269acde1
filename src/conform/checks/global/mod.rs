//! §5: the database as a global node keeps it for slaves and other global nodes.

pub(super) mod changes;
mod family;
pub(super) mod others;
pub(super) mod owners;
pub(super) mod queries;

use crate::conform::check::{Statement, check};

/// What a global node does, which shows only to who dials it.
const fn global(id: &'static str, section: &'static str, sentence: &'static str) -> Statement {
    check(id, section, sentence).dial()
}
