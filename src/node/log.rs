//! The kernel's log lines as `tracing` events, whose targets name the part of the kernel.

use super::core::Shared;
use super::port::run_queue;
use crate::kernel::{Level, Line, Origin};
use crate::value::NodeId;

impl Shared {
    /// Formats a line and writes it to the log once no lock is held, since subscribers are code of the
    /// program.
    pub(super) fn log_later(&self, level: Level, origin: Origin, line: Line) {
        let node = self.id.clone();
        run_queue::run(move || write(&node, level, origin, &line));
    }
}

/// The target of an event must be known at compile time.
macro_rules! event {
    ($target:literal, $node:ident, $level:ident, $text:ident) => {
        match $level {
            Level::Error => tracing::error!(target: $target, %$node, "{}", $text),
            Level::Warn => tracing::warn!(target: $target, %$node, "{}", $text),
            Level::Info => tracing::info!(target: $target, %$node, "{}", $text),
            Level::Debug => tracing::debug!(target: $target, %$node, "{}", $text),
        }
    };
}

/// Whether anybody reads what the mesh logs with [`Level::Debug`]; must be called without a lock.
pub(super) fn debug_is_logged() -> bool {
    tracing::event_enabled!(target: "aemp::kernel::mesh", tracing::Level::DEBUG)
}

fn write(node: &NodeId, level: Level, origin: Origin, text: &Line) {
    match origin {
        Origin::Mesh => event!("aemp::kernel::mesh", node, level, text),
        Origin::Ports => event!("aemp::kernel::ports", node, level, text),
        Origin::Database => event!("aemp::kernel::db", node, level, text),
        Origin::Healing => event!("aemp::kernel::healing", node, level, text),
        Origin::Requests => event!("aemp::kernel::request", node, level, text),
    }
}
