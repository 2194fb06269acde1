//! Nodes that come and go, as programs hear of them.

use super::message::KillReason;
use super::queue;
use crate::value::NodeId;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A node was connected, or its connection was lost.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum NodeEvent {
    /// A node is connected.
    Up {
        /// Which.
        node: NodeId,
        /// Whether it has not proven that it belongs to the network (`tls_anon`).
        untrusted: bool,
    },
    /// The connection to a node was lost.
    Down {
        /// Which.
        node: NodeId,
        /// Why, as monitors of its ports get it.
        reason: KillReason,
    },
}

/// Nodes that come and go, beginning with those that are up.
///
/// If more than 1000 events wait for a listener, later ones are combined: of a node that came and went
/// several times it hears the last loss and return.
#[derive(Debug)]
pub struct NodeEvents(pub(super) queue::Receiver<NodeEvent>);

impl NodeEvents {
    /// Waits for the next event; `None` once the node was shut down.
    pub async fn next(&mut self) -> Option<NodeEvent> {
        self.0.next().await
    }
}

impl futures_core::Stream for NodeEvents {
    type Item = NodeEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<NodeEvent>> {
        self.0.poll_next(cx)
    }
}
