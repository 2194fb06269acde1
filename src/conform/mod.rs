//! Tests any AEMP 2 node, in any language, over the wire: which statements of the protocol it
//! keeps.
//!
//! Every [`Check`] holds one statement of `docs/protocol.md`. The suite speaks raw protocol through
//! [`wire`](crate::wire) and [`value`](crate::value) only, so that no mistake of this crate's own
//! node can hide itself. It stands in one of two [`Place`]s: it dials the node under test, or is
//! the seed that the node dials. `docs/conformance.md` tells how to use it and how to add a check;
//! the command is `aemp conform`.

mod check;
mod checks;
mod conn;
mod context;
mod node_process;
mod pattern;
mod position;
mod precondition;
mod profile;
mod report;
mod run;
mod session;
mod shake;
mod stop;
mod tls;
mod transcript;

pub use check::{Check, Level};
pub use checks::all;
pub use context::Target;
pub use position::Position;
pub use precondition::Obstacle;
pub use profile::{Deviation, Profile};
pub use report::{Report, State, list};
pub use run::{Finding, Outcome, Place, Plan, PlanError, Progress, Start, run};
pub use tls::{Identity, NoIdentity};
