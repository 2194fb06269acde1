//! Events for programs when nodes connect and disconnect.

use super::message::KillReason;
use super::queue;
use crate::value::NodeId;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A node was connected, or the connection to it was lost.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum NodeEvent {
    /// A node is connected.
    Up {
        /// Its ID.
        node: NodeId,
        /// Whether it has not proven that it belongs to the network (`tls_anon`).
        untrusted: bool,
    },
    /// The connection to a node was lost.
    Down {
        /// Its ID.
        node: NodeId,
        /// The reason, as monitors of its ports get it.
        reason: KillReason,
    },
}

/// A stream of nodes that connect and disconnect, beginning with those that are up.
///
/// If more than 1000 events are queued for a listener, later ones are combined: of a node that came
/// and went several times it gets the last loss and return.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use aemp::{Node, NodeEvent};
///
/// let seed = Node::builder().node_id("seed").secret("geheim").bind("127.0.0.1:0").start().await?;
/// let mut events = seed.events();
/// let address = seed.addresses()[0].to_string();
/// let other = Node::builder().node_id("other").secret("geheim").seed(&address).start().await?;
/// match events.next().await.unwrap() {
///     NodeEvent::Up { node, .. } => assert_eq!(node, *other.id()),
///     event => println!("{event:?}"),
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct NodeEvents(pub(super) queue::Receiver<NodeEvent>);

impl NodeEvents {
    /// Waits for the next event; `None` if the node was shut down.
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
