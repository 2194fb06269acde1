//! Nodes whose connections end soon after they have begun: they are dialled at increasing intervals.
//!
//! A peer may accept connections and close them at once, because of a limit, its configuration or a
//! fault. If each of these counted as a success, the delay between retries would stay short, and others
//! would see the node connect and disconnect all the time.

use super::Mesh;
use crate::kernel::HashMap;
use crate::kernel::effect::Level;
use crate::kernel::lines::MeshLine;
use crate::kernel::random::Random;
use crate::value::NodeId;
use std::time::Duration;

/// A connection that lasts at least this long counts as a success.
const STABLE_AFTER: Duration = Duration::from_secs(5);

/// The pause after the second short connection in a row, with a random factor between 1 and 2. There is
/// no pause after the first one, which may be an accident.
const FIRST_PAUSE: Duration = Duration::from_millis(600);

/// Nodes that need no pause any more are removed once this many are recorded.
const PRUNE_THRESHOLD: usize = 1000;

#[derive(Debug, Default)]
pub(super) struct ConnectPauses {
    longest_pause: Duration,
    nodes: HashMap<NodeId, ShortConnections>,
}

/// A node whose last connections were short.
#[derive(Debug)]
struct ShortConnections {
    /// The number of short connections in a row.
    connections: u32,
    pause: Duration,
    /// The node is not dialled before this time.
    until: Duration,
}

impl ConnectPauses {
    pub(super) fn new(longest_pause: Duration) -> Self {
        ConnectPauses { longest_pause, nodes: HashMap::default() }
    }

    /// The time at which the node may be dialled; `None` if it may be dialled at once.
    pub(super) fn until(&self, node: &NodeId, now: Duration) -> Option<Duration> {
        self.nodes.get(node).map(|node| node.until).filter(|until| *until > now)
    }

    /// A connection of the node has ended after `lasted`. Returns the number of short connections in a
    /// row.
    fn lost(&mut self, node: &NodeId, lasted: Duration, now: Duration, random: &mut Random) -> u32 {
        if lasted >= STABLE_AFTER {
            self.nodes.remove(node);
            return 0;
        }
        let longest = self.longest_pause;
        let is_recent = |node: &ShortConnections| now <= node.until + longest + STABLE_AFTER;
        if self.nodes.len() >= PRUNE_THRESHOLD && !self.nodes.contains_key(node) {
            self.nodes.retain(|_, node| is_recent(node));
        }
        let new = ShortConnections { connections: 0, pause: Duration::ZERO, until: now };
        let node = match self.nodes.entry(node.clone()).or_insert(new) {
            node if is_recent(node) => node,
            node => {
                *node = ShortConnections { connections: 0, pause: Duration::ZERO, until: now };
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
    /// The loss of a node was handled. Returns the time before which it must not be dialled, if its
    /// connections are short.
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
            let (node, pause) = (node.clone(), until - now);
            let line = MeshLine::Unsteady { node, count, lasting: STABLE_AFTER, pause };
            self.log(Level::Warn, line);
        }
        Some(until)
    }
}
