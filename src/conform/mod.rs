//! Tests over the wire which statements of the protocol an AEMP 2 node keeps, in whatever language it is
//! written.
//!
//! Every [`Check`] tests one statement of `docs/protocol.md`. The suite only uses
//! [`wire`](crate::wire) and [`value`](crate::value), so that a fault of this crate's own node cannot go
//! unnoticed. It runs in one of two [`Place`]s: it dials the node under test, or is the seed that the node
//! dials. `docs/conformance.md` describes how to use it and how to add a check; the command is
//! `aemp conform`.

mod check;
mod checks;
mod conn;
mod context;
mod echo;
mod host;
mod namespace;
mod network;
mod node_process;
mod pattern;
mod plan;
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
pub use host::own_loopback;
pub use network::{
    Implementation, NetworkCheck, NetworkError, NetworkFinding, NetworkPlan, NetworkReport,
    NetworkRun, Variant, Wiring, list_network, network_checks, run_network,
};
pub use plan::{Place, Plan, PlanError, Start};
pub use position::Position;
pub use precondition::Obstacle;
pub use profile::{Deviation, Profile};
pub use report::{Report, State, list};
pub use run::{Finding, Outcome, Progress, run};
pub use tls::{Identity, NoIdentity};
