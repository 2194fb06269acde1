//! What code that runs as a port, or on behalf of a peer, can do.

use super::message::{KillReason, MessageRef};
use super::node_port::CallbackPort;
use super::{Node, SendError, ToPort};
use crate::kernel::PortName;
use crate::value::{NodeId, PortId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;

/// The context in which a callback or registered function runs: its node, its port, and the node
/// that caused it.
///
/// Perl keeps these in `$SELF`, `$NODE` and `$SRCNODE`.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let node = aemp::Node::builder().alone().start().await?;
/// // A function that others spawn: its context is the new port, to which it adds receivers.
/// node.expose("Counter::new", |ctx, mut count: i64| {
///     println!("spawned by {}", ctx.from());
///     ctx.on("add", move |ctx, (n, reply): (i64, aemp::PortId)| {
///         count += n;
///         ctx.snd(reply, count)
///     });
/// });
/// let counter = node.spawn(node.id(), "Counter::new", 40)?;
/// assert_eq!(node.call::<i64>(&counter, ("add", 2)).await?, 42);
/// # Ok(()) }
/// ```
pub struct Context<'a> {
    node: &'a Node,
    port: Option<&'a PortName>,
    from: &'a NodeId,
}

impl<'a> Context<'a> {
    pub(crate) const fn of_port(node: &'a Node, port: &'a PortName, from: &'a NodeId) -> Self {
        Context { node, port: Some(port), from }
    }

    pub(crate) const fn of_node(node: &'a Node, from: &'a NodeId) -> Self {
        Context { node, port: None, from }
    }

    /// The node on which this runs.
    pub const fn node(&self) -> &'a Node {
        self.node
    }

    /// The ID of the port as which this runs; a function called by name runs as the node port. Perl
    /// calls this `$SELF`.
    pub fn port_id(&self) -> PortId {
        match self.port {
            Some(port) => PortId::new(self.node.id(), port),
            None => self.node.id().node_port(),
        }
    }

    /// The node that sent the message or called the function. Perl calls this `$SRCNODE`.
    pub const fn from(&self) -> &'a NodeId {
        self.from
    }

    /// Sends a message; see [`Node::snd`].
    ///
    /// # Errors
    /// As [`Node::snd`].
    pub fn snd(&self, to: impl ToPort, message: impl Serialize) -> Result<(), SendError> {
        self.node.snd(to, message)
    }

    /// The port as which this runs, so that a spawned function can give it receivers.
    ///
    /// `None` for functions that were called by name and not spawned.
    pub fn port(&self) -> Option<CallbackPort> {
        self.port.and_then(|port| self.node.callback_port(port))
    }

    /// Receives messages with this tag from now on; see [`CallbackPort::on`]. Does nothing in
    /// functions that were not spawned, as they have no port.
    pub fn on<T, F, R>(&self, tag: &str, receiver: F)
    where
        T: DeserializeOwned + 'static,
        F: FnMut(&Context<'_>, T) -> R + Send + 'static,
        R: Outcome,
    {
        if let Some(port) = self.port() {
            port.on(tag, receiver);
        }
    }

    /// Receives all messages without a receiver of their own; see [`CallbackPort::on_default`].
    pub fn on_default<F, R>(&self, receiver: F)
    where
        F: FnMut(&Context<'_>, MessageRef<'_>) -> R + Send + 'static,
        R: Outcome,
    {
        if let Some(port) = self.port() {
            port.on_default(receiver);
        }
    }

    /// Kills the port as which this runs, once the current callback returns.
    pub fn kil(&self, reason: &KillReason) {
        if self.port.is_some() {
            self.node.kil(self.port_id(), reason);
        }
    }
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("port", &self.port_id())
            .field("from", self.from)
            .finish_non_exhaustive()
    }
}

/// What a callback may return: nothing, or a result whose error kills its port with `die, text`.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let node = aemp::Node::builder().alone().start().await?;
/// let port = node.port_of_tags();
/// port.on("set", |_, n: i32| println!("{n}"));
/// port.on("check", |_, n: i32| if n < 0 { Err("a negative number") } else { Ok(()) });
/// let death = node.monitor(&port);
/// node.snd(&port, ("check", -1))?;
/// assert_eq!(death.await.to_string(), r#"["die", "a negative number"]"#);
/// # Ok(()) }
/// ```
pub trait Outcome {
    /// The error's text, if there is an error.
    fn into_result(self) -> Result<(), String>;
}

impl Outcome for () {
    fn into_result(self) -> Result<(), String> {
        Ok(())
    }
}

impl<E: fmt::Display> Outcome for Result<(), E> {
    fn into_result(self) -> Result<(), String> {
        self.map_err(|error| error.to_string())
    }
}

/// The type `!`, which has no name of its own yet.
type Never = <fn() -> ! as Returns>::Type;

trait Returns {
    type Type;
}

impl<T> Returns for fn() -> T {
    type Type = T;
}

/// Code that never returns: it loops for ever, or panics.
#[allow(private_interfaces, private_bounds, reason = "the type behind them is `!`")]
impl Outcome for Never {
    fn into_result(self) -> Result<(), String> {
        self
    }
}
