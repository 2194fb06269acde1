//! Networks of nodes of several implementations, which the suite starts, separates, suspends, kills and
//! restarts: `aemp conform --network FILE`.
//!
//! Nodes are processes on two hosts, network namespaces with a router between them that separates and
//! connects the hosts. Where a machine cannot create namespaces, all nodes listen on a loopback address
//! of the run, and the connections that matter for a check lead through relays, which can be cut, frozen
//! and slowed down. Each node runs the test service of `docs/conformance.md`, through which the suite
//! controls and observes it.

mod checks;
mod hosts;
mod known;
mod member;
mod net;
mod plan;
mod relay;
mod report;
mod run;
mod wiring;

pub use checks::{NetworkCheck, all as network_checks};
pub use plan::{Implementation, NetworkError, NetworkPlan, Variant};
pub use report::{NetworkReport, list_network};
pub use run::{NetworkFinding, NetworkRun, run_network};
pub use wiring::Wiring;
