//! What nodes offer each other beyond messages: raw streams and logs; and what they tell those who watch over them.
//!
//! Streams and logs are functions that peers call by name, as Perl's modules of the same names offer
//! them; a node in `secure` mode answers neither. Metrics are served by HTTP.

pub mod logs;
pub mod metrics;
pub mod streams;

use crate::node::context::{Context, Function};
use crate::node::{MessageRef, Node};
use std::sync::Arc;

/// What a node keeps for its services.
#[derive(Default)]
pub(crate) struct Services {
    pub(crate) streams: streams::Streams,
}

impl Services {
    /// The node ends: nothing is expected any more, and the programs' functions are let go.
    pub(crate) fn end(&self) {
        self.streams.end();
    }
}

/// Lets others use the services of this node.
pub(crate) fn install(node: &Node) {
    streams::install(node);
    logs::install(node);
}

/// Registers a function under one of Perl's names.
fn offer<F>(node: &Node, name: &str, function: F)
where
    F: Fn(&Context<'_>, MessageRef<'_>) -> Result<(), String> + Send + Sync + 'static,
{
    let function: Function = Arc::new(function);
    node.register_raw(name, function);
}
