//! Services on top of messages: raw streams, log catching, and metrics.
//!
//! Streams and logs are functions that peers call by name, as in Perl's modules of the same names; a
//! node in `secure` mode answers neither. Metrics are served over HTTP.

pub mod logs;
pub mod metrics;
pub mod streams;

use crate::node::context::{Context, Function};
use crate::node::{MessageRef, Node};
use std::sync::Arc;

/// The state of a node's services.
#[derive(Default)]
pub(crate) struct Services {
    pub(crate) streams: streams::Streams,
}

impl Services {
    /// Called when the node ends: expects no more streams, and drops the program's functions.
    pub(crate) fn end(&self) {
        self.streams.end();
    }
}

/// Registers the functions through which others use this node's services.
pub(crate) fn install(node: &Node) {
    streams::install(node);
    logs::install(node);
}

/// Registers a function under its Perl name.
fn offer<F>(node: &Node, name: &str, function: F)
where
    F: Fn(&Context<'_>, MessageRef<'_>) -> Result<(), String> + Send + Sync + 'static,
{
    let function: Function = Arc::new(function);
    node.register_raw(name, function);
}
