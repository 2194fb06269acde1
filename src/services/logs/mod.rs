//! Logs of a whole network: a node sends its log lines to nodes that ask, and collects those of others.
//!
//! Perl calls it `AnyEvent::MP::LogCatcher`; both directions work between Perl nodes and ours. What this
//! program logs through `tracing` is sent if its subscriber has the `layer` of this module (feature
//! `logs`). Lines that are logged while sending lines are not sent. If a catcher is too slow, lines are
//! dropped and counted, and the count is sent. See `docs/protocol.md` §3.5.
//!
//! ```
//! # async fn example(node: aemp::Node) {
//! use aemp::services::logs::{LogCatcher, LogLevel};
//!
//! let mut catcher = LogCatcher::catch(&node, LogLevel::Info);
//! while let Some(entry) = catcher.next().await {
//!     println!("{} {} {}: {}", entry.node, entry.level, entry.context, entry.text);
//! }
//! # }
//! ```

mod backlog;
mod catch;
// Without the layer there are no lines to send.
#[cfg_attr(not(feature = "logs"), allow(dead_code))]
mod hub;
#[cfg(feature = "logs")]
mod layer;
mod level;
mod send;

pub use self::catch::LogCatcher;
#[cfg(feature = "logs")]
pub use self::layer::layer;
pub use self::level::{LogLevel, NoLogLevel};

use crate::node::Node;
use crate::value::NodeId;
use std::time::{SystemTime, UNIX_EPOCH};

/// The request to send lines to a port: protocol version, port, level.
const CONNECT: &str = "AnyEvent::MP::LogCatcher::connect";
/// The service that writes the lines of all other nodes to this one's log.
const CATCH: &str = "AnyEvent::MP::LogCatcher::catch";
/// The context of lines about log catching itself, named as in Perl.
const CONTEXT: &str = "AnyEvent::MP::LogCatcher";

/// One line of a node's log.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct LogEntry {
    /// The node that logged it.
    pub node: NodeId,
    /// The time by that node's clock, in seconds since the epoch.
    pub time: f64,
    /// The place in the program: the target of a `tracing` event, or a Perl package.
    pub context: String,
    /// The level.
    pub level: LogLevel,
    /// The text, which may contain anything, including line ends and control characters.
    pub text: String,
}

pub(super) fn install(node: &Node) {
    super::offer(node, CONNECT, send::connect);
    super::offer(node, CATCH, catch::as_service);
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
