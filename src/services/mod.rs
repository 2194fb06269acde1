//! Services on top of a node: log catching, and metrics.
//!
//! Logs are functions that peers call by name, as in Perl's module of the same name; a node in
//! `secure` mode does not answer them. Metrics are served over HTTP. The node does not know its
//! services; the builder installs them. Data connections belong to the node; their module is re-exported here.

pub mod logs;
pub mod metrics;

pub use crate::node::streams;

use crate::node::context::Context;
use crate::node::{MessageRef, Node};

/// Registers the functions through which others use this node's services.
pub(crate) fn install(node: &Node) {
    logs::install(node);
}

/// Registers a function under its Perl name.
fn offer<F>(node: &Node, name: &str, function: F)
where
    F: Fn(&Context<'_>, MessageRef<'_>) -> Result<(), String> + Send + Sync + 'static,
{
    node.expose_raw(name, function);
}
