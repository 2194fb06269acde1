//! Topics: what is published reaches all subscribers, on all nodes.
//!
//! Subscribers are the ports in a family of the database. A program with a [`Topic`] has one such
//! port, however many subscriptions it makes, so a message crosses the network once per Rust node.
//! Each Perl port that registered itself (`db_reg news => $port`) gets it too.
//!
//! ```
//! use aemp::{Node, patterns::topic::Topic};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let node = Node::builder().node_id("n").secret("geheim").bind("127.0.0.1:0").start().await?;
//! node.become_global(); // It has no seeds, and keeps the database itself.
//! let news = Topic::new(&node, "news")?;
//! let mut subscription = news.subscribe();
//! news.joined().await;
//! news.publish(("rain", 3))?;
//! assert_eq!(subscription.recv::<(String, u32)>().await?.unwrap().0, "rain");
//! # node.shutdown().await;
//! # Ok(()) }
//! ```

use super::service::Service;
use crate::node::{
    CallbackPort, Context, DbError, Entry, KillReason, Message, MessageRef, Node, SendError,
};
use crate::value::Value;
use crate::value::{DecodeError, Str};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use tokio::sync::broadcast;

/// Messages that are queued for a subscription that does not receive; older ones are skipped.
const CAPACITY: usize = 4096;

/// A topic on this node, for publishing and subscribing. Dropping it ends its subscriptions.
pub struct Topic {
    hub: CallbackPort,
    messages: broadcast::Sender<Message>,
    subscribers: Service<Value>,
    _entry: Entry,
}

/// A subscription to a topic.
#[derive(Debug)]
pub struct Subscription(broadcast::Receiver<Message>);

/// Why a subscription has no message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubscriptionError {
    /// The message does not have the requested type; the next one may.
    #[error("unexpected message: {0}")]
    Decode(#[from] DecodeError),
    /// This many messages were skipped because they were not received in time.
    #[error("{0} messages were skipped: they were not received in time")]
    Skipped(u64),
}

impl Topic {
    /// Adds a port of this node to the family.
    ///
    /// # Errors
    /// Fails for internal families, whose names begin with `'`.
    pub fn new(node: &Node, family: impl Into<Str>) -> Result<Self, DbError> {
        let family = family.into();
        let (messages, _) = broadcast::channel(CAPACITY);
        let sender = messages.clone();
        let hub = node.port_with(move |_: &Context<'_>, message: MessageRef<'_>| {
            // If there are no subscriptions, the message is not needed.
            let _ = sender.send(message.keep());
        });
        let entry = node.db().register(family.clone(), &hub)?;
        Ok(Topic { hub, messages, subscribers: Service::new(node, family), _entry: entry })
    }

    /// Subscribes to everything that is published from now on.
    pub fn subscribe(&self) -> Subscription {
        Subscription(self.messages.subscribe())
    }

    /// Sends a message to all known subscribers, and returns the number of their ports. Without a
    /// global node no subscribers are known: see [`Topic::joined`].
    ///
    /// # Errors
    /// As [`Node::snd`].
    pub fn publish(&self, message: impl Serialize) -> Result<usize, SendError> {
        self.subscribers.snd_all(message)
    }

    /// Waits until this node's own port is known in the family.
    pub async fn joined(&self) {
        let (own, mut subscribers) = (self.hub.id(), self.subscribers.clone());
        while !subscribers.all().contains(&own) {
            if !subscribers.changed().await {
                return;
            }
        }
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        self.hub.kil(&KillReason::normal());
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topic").field("subscribers", &self.subscribers).finish_non_exhaustive()
    }
}

impl Subscription {
    /// Receives the next message; `None` once the topic was dropped.
    ///
    /// # Errors
    /// Fails if the message does not have the requested type, or if messages were skipped; the next
    /// call continues after that.
    pub async fn recv<T: DeserializeOwned>(&mut self) -> Result<Option<T>, SubscriptionError> {
        match self.0.recv().await {
            Ok(message) => Ok(Some(message.decode()?)),
            Err(broadcast::error::RecvError::Lagged(skipped)) => {
                Err(SubscriptionError::Skipped(skipped))
            }
            Err(broadcast::error::RecvError::Closed) => Ok(None),
        }
    }
}
