//! Logs of a whole network: a node sends its lines to those who ask, and collects those of others.
//!
//! Perl calls it `AnyEvent::MP::LogCatcher`; both directions work between its nodes and ours. What
//! this program logs by `tracing` is sent if its subscriber has the `layer` of this module (of the
//! feature `logs`). Lines that sending lines causes are not sent; where a catcher is too slow lines
//! are dropped, counted, and the count is sent. Source: `docs/protocol.md` §3.5.
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
// Without the layer nobody offers any lines.
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

/// The request to send lines to a port: its version, the port, the level.
const CONNECT: &str = "AnyEvent::MP::LogCatcher::connect";
/// The service that collects the lines of all other nodes in this one's log.
const CATCH: &str = "AnyEvent::MP::LogCatcher::catch";
/// The context of lines about catching itself; Perl's has the same name.
const CONTEXT: &str = "AnyEvent::MP::LogCatcher";

/// One line of some node's log.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct LogEntry {
    /// Whose log.
    pub node: NodeId,
    /// When, by that node's clock: seconds since the epoch.
    pub time: f64,
    /// Where in the program: the target of a `tracing` event, or a Perl package.
    pub context: String,
    /// How important.
    pub level: LogLevel,
    /// The text; it may be anything, line ends and control characters included.
    pub text: String,
}

pub(super) fn install(node: &Node) {
    super::offer(node, CONNECT, send::connect);
    super::offer(node, CATCH, catch::as_service);
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
