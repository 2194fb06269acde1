//! Random operations on a world, and checks of everything that aemp promises.
//!
//! A [`Plan`] is a list of operations made from one seed; [`Plan::run`] carries it out, lets the
//! world come to rest, and reports the promise that was broken, if any. A plan that fails can be
//! [shrunk](Plan::shrink): operations are left out as long as it still fails.

mod ledger;
mod ops;
mod oracle;
mod plan;
mod rest;
mod run;

pub use plan::{Op, Plan, Setup};
pub use run::{Failure, RunStats};
