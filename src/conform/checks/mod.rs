//! All checks, in the order of `docs/protocol.md`.

mod auth;
mod framings;
mod global;
mod greeting;
mod mesh;
mod monitors;
mod refusals;
mod requests;
mod robustness;
mod slave;
mod tls;

use super::check::Check;
use super::pattern::{ANY, REST};

/// Every check that there is.
pub fn all() -> impl Iterator<Item = &'static Check> {
    let groups = [
        greeting::CHECKS,
        auth::CHECKS,
        refusals::CHECKS,
        tls::CHECKS,
        framings::IN_EACH,
        framings::CHECKS,
        requests::CHECKS,
        monitors::CHECKS,
        mesh::CHECKS,
        slave::CHECKS,
        global::CHECKS,
        robustness::CHECKS,
    ];
    groups.into_iter().flatten()
}
