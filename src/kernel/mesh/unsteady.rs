//! Nodes whose connections end soon after they have begun: they are dialled after growing pauses.
//!
//! A peer may accept a connection and close it at once, for whatever reason: a limit, its
//! configuration, a fault. If each such connection counted as a success, the delay between retries
//! would be short for ever, and everybody would see the node come and go.

use super::Mesh;
use crate::kernel::HashMap;
use crate::kernel::effect::{Level, seconds};
use crate::kernel::random::Random;
use crate::value::NodeId;
use std::time::Duration;

/// A connection that has lasted so long was a success.
const LASTING: Duration = Duration::from_secs(5);

/// The pause after the second short connection in a row; a random factor between 1 and 2 goes on top.
/// The first one may be chance, and has none.
const FIRST_PAUSE: Duration = Duration::from_millis(600);

/// How many nodes are remembered without looking for some that need not be.
const MANY: usize = 1000;

#[derive(Debug, Default)]
pub(super) struct Unsteady {
    longest_pause: Duration,
    nodes: HashMap<NodeId, Shortlived>,
}

/// A node whose last connections were short.
#[derive(Debug)]
struct Shortlived {
    /// How many of them in a row.
    connections: u32,
    pause: Duration,
    /// Before that it is not dialled.
    until: Duration,
}

impl Unsteady {
    pub(super) fn new(longest_pause: Duration) -> Self {
        Unsteady { longest_pause, nodes: HashMap::default() }
    }

    /// When the node may be dialled; `None` if at any time.
    pub(super) fn until(&self, node: &NodeId, now: Duration) -> Option<Duration> {
        self.nodes.get(node).map(|node| node.until).filter(|until| *until > now)
    }

    /// A connection of the node has ended, which has `lasted` so long. Returns how many there were
    /// in a row that did not last.
    fn lost(&mut self, node: &NodeId, lasted: Duration, now: Duration, random: &mut Random) -> u32 {
        if lasted >= LASTING {
            self.nodes.remove(node);
            return 0;
        }
        let longest = self.longest_pause;
        let is_recent = |node: &Shortlived| now <= node.until + longest + LASTING;
        if self.nodes.len() >= MANY && !self.nodes.contains_key(node) {
            self.nodes.retain(|_, node| is_recent(node));
        }
        let new = Shortlived { connections: 0, pause: Duration::ZERO, until: now };
        let node = match self.nodes.entry(node.clone()).or_insert(new) {
            node if is_recent(node) => node,
            node => {
                *node = Shortlived { connections: 0, pause: Duration::ZERO, until: now };
                node
            }
        };
        node.connections = node.connections.saturating_add(1);
        node.pause = match node.connections {
            1 => Duration::ZERO,
            2 => FIRST_PAUSE.mul_f64(1.0 + random.fraction()),
            _ => (node.pause * 2).min(longest),
        };
        node.until = now + node.pause;
        node.connections
    }
}

impl Mesh {
    /// The loss of a node was told. Returns until when it is not to be dialled, if its connections
    /// do not last.
    pub(super) fn pause_after_loss(
        &mut self,
        node: &NodeId,
        now: Duration,
        random: &mut Random,
    ) -> Option<Duration> {
        let remote = self.remotes.get(node)?;
        let count = self.unsteady.lost(node, remote.lasted, now, random);
        let until = self.unsteady.until(node, now)?;
        if count == 3 || count >= 8 && count.is_power_of_two() {
            let pause = seconds(until - now);
            self.log(
                Level::Warn,
                format_args!(
                    "{count} connections with {node} in a row ended within {} of their beginning; \
                     the next one is tried in {pause}. Its log may say why",
                    seconds(LASTING)
                ),
            );
        }
        Some(until)
    }
}
