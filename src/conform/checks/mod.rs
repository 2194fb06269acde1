//! All checks, in the order of `docs/protocol.md`.

mod auth;
mod greeting;
mod refusals;

use super::check::Check;
use super::pattern::{ANY, REST};

/// Every check that there is.
pub fn all() -> impl Iterator<Item = &'static Check> {
    [greeting::CHECKS, auth::CHECKS, refusals::CHECKS].into_iter().flatten()
}
