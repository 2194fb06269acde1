//! Ports as programs hold them: mailboxes to receive from, and ports that run callbacks.

use super::Node;
use super::context::{Context, Outcome};
use super::error::RecvError;
use super::message::{KillReason, Message, MessageRef};
use super::panics::catch;
use super::port::{CallbackCell, Inbox, Next};
use crate::kernel::{PortName, died};
use crate::value::PortId;
use serde::de::DeserializeOwned;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;
use tokio_util::task::AbortOnDropHandle;

/// A port that keeps its messages until they are received.
///
/// Dropping it kills the port normally. Up to 64 MiB of messages may be queued (see the builder's
/// `port_limit`); one more kills the port with a reason, so that no message is ever skipped.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use aemp::{Node, RecvError};
/// use std::time::Duration;
///
/// let node = Node::builder().alone().start().await?;
/// let mut port = node.port();
/// node.snd(&port, ("text", 1))?;
/// node.snd(&port, ("text", "no number"))?;
/// assert_eq!(port.recv::<(String, u32)>().await?.1, 1);
/// assert!(matches!(port.recv::<(String, u32)>().await, Err(RecvError::Decode(_))));
/// let nothing = port.recv_timeout::<(String,)>(Duration::from_millis(1)).await;
/// assert!(matches!(nothing, Err(RecvError::Timeout(_))));
/// # Ok(()) }
/// ```
pub struct Port {
    node: Node,
    name: PortName,
    inbox: Inbox,
    /// Whether the port ends with the future that runs as it, so that dropping this handle does not
    /// kill it.
    ends_with_task: bool,
}

impl Port {
    pub(super) const fn new(node: Node, name: PortName, inbox: Inbox) -> Self {
        Port { node, name, inbox, ends_with_task: false }
    }

    /// The port's ID, with which everybody can send to it and monitor it.
    pub fn id(&self) -> PortId {
        PortId::new(self.node.id(), &self.name)
    }

    /// Receives the next message as a Rust value.
    ///
    /// Cancel safe: dropping the future loses no message.
    ///
    /// # Errors
    /// [`RecvError::Decode`] if the message does not have the requested type; it is removed, and
    /// the port lives on. [`RecvError::Died`] once the port is dead and all earlier messages were
    /// received.
    pub async fn recv<T: DeserializeOwned>(&mut self) -> Result<T, RecvError> {
        match self.inbox.next().await {
            Ok(received) => Ok(MessageRef::new(received.from, received.message).decode()?),
            Err(reason) => Err(RecvError::Died(KillReason::from_packed(reason))),
        }
    }

    /// As [`Port::recv`], but waits for at most `limit`.
    ///
    /// # Errors
    /// As [`Port::recv`], and [`RecvError::Timeout`].
    pub async fn recv_timeout<T: DeserializeOwned>(
        &mut self,
        limit: Duration,
    ) -> Result<T, RecvError> {
        tokio::time::timeout(limit, self.recv()).await.unwrap_or(Err(RecvError::Timeout(limit)))
    }

    /// Receives the next message undecoded.
    ///
    /// # Errors
    /// [`RecvError::Died`] once the port is dead and all earlier messages were received.
    pub async fn recv_message(&mut self) -> Result<Message, RecvError> {
        match self.inbox.next().await {
            Ok(received) => Ok(MessageRef::new(received.from, received.message).keep()),
            Err(reason) => Err(RecvError::Died(KillReason::from_packed(reason))),
        }
    }

    /// The next message, if there is one already.
    ///
    /// # Errors
    /// [`RecvError::Died`] once the port is dead and all earlier messages were received.
    pub fn try_recv(&mut self) -> Result<Option<Message>, RecvError> {
        match self.inbox.try_next() {
            Next::Message(received) => {
                Ok(Some(MessageRef::new(received.from, received.message).keep()))
            }
            Next::Nothing => Ok(None),
            Next::Dead(reason) => Err(RecvError::Died(KillReason::from_packed(reason))),
        }
    }

    /// For stream adapters: the next message, undecoded; `None` once the port is dead.
    pub fn poll_recv(&mut self, cx: &mut TaskContext<'_>) -> Poll<Option<Message>> {
        self.inbox.poll_next(cx).map(|received| {
            received.ok().map(|received| MessageRef::new(received.from, received.message).keep())
        })
    }

    /// Kills the port with a reason. Perl calls this `kil $SELF`.
    pub fn kil(self, reason: &KillReason) {
        self.node.kil(self.id(), reason);
    }

    /// Runs a future as this port, in the background, and returns the port's ID; `task` makes the
    /// future from the port. The port dies when the future ends: normally, or with the reason `die,
    /// text` if it fails or panics. The future is dropped when the port is killed.
    ///
    /// ```
    /// # use aemp::{Node, PortId, RecvError};
    /// # fn example(node: Node) {
    /// let echo = node.port().run(async |mut port| -> Result<(), RecvError> {
    ///     loop {
    ///         let (reply, text): (PortId, String) = port.recv().await?;
    ///         let _ = port.node().snd(&reply, (text,));
    ///     }
    /// });
    /// # }
    /// ```
    pub fn run<F, Fut, R>(mut self, task: F) -> PortId
    where
        F: FnOnce(Port) -> Fut,
        Fut: Future<Output = R> + Send + 'static,
        R: Outcome + 'static,
    {
        let (node, id) = (self.node.inside(), self.id());
        self.ends_with_task = true;
        match catch(|| task(self)) {
            Ok(future) => run_as(&node, &id, PortEnds::WithTask, None, future),
            Err(text) => node.kil(&id, &KillReason::from_packed(died(&text))),
        }
        id
    }

    /// The node of the port.
    pub const fn node(&self) -> &Node {
        &self.node
    }
}

impl futures_core::Stream for Port {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Message>> {
        self.poll_recv(cx)
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        if !self.ends_with_task {
            self.node.kil(self.id(), &KillReason::normal());
        }
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Port({})", self.id())
    }
}

/// Whether a port dies when a future that ran as it ends without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PortEnds {
    WithTask,
    OnFailure,
}

/// Runs a future until it ends or the port `id` dies; kills the port if the future fails.
fn run_as<R: Outcome + 'static>(
    node: &Node,
    id: &PortId,
    ends: PortEnds,
    cell: Option<Arc<CallbackCell>>,
    future: impl Future<Output = R> + Send + 'static,
) {
    let monitor = node.monitor(id.clone());
    // A task of the node must not keep the node running.
    let (node, id) = (node.inside(), id.clone());
    let runtime = node.shared().runtime.clone();
    runtime.spawn(async move {
        let future = AsPort { cell, future };
        let outcome = tokio::select! {
            biased;
            _ = monitor => return,
            outcome = future => outcome,
        };
        let failure = outcome.and_then(Outcome::into_result).err();
        match failure {
            Some(text) => node.kil(id, &KillReason::from_packed(died(&text))),
            None if ends == PortEnds::WithTask => node.kil(id, &KillReason::normal()),
            None => {}
        }
    });
}

/// A future that runs as a port, and whose panics become errors.
struct AsPort<F> {
    cell: Option<Arc<CallbackCell>>,
    future: F,
}

impl<F: Future> Future for AsPort<F> {
    type Output = Result<F::Output, String>;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        // SAFETY: the inner future is pinned whenever this one is: it is never moved out, and
        // there is no other way to reach it; `cell` is not pinned, and nothing is moved out of it.
        let this = unsafe { self.get_unchecked_mut() };
        // SAFETY: as above.
        let inner = unsafe { Pin::new_unchecked(&mut this.future) };
        let poll = || inner.poll(cx);
        let polled = catch(|| match &this.cell {
            Some(cell) => cell.as_current(poll),
            None => poll(),
        });
        match polled {
            Ok(poll) => poll.map(Ok),
            Err(text) => Poll::Ready(Err(text)),
        }
    }
}

/// A port that runs callbacks, one message at a time, on the thread that delivers them.
///
/// It lives until it is killed; dropping a handle does nothing. A callback that returns an error or
/// panics kills the port with the reason `die, text`. A callback that blocks stalls the connection
/// whose message it handles, so move long work into a task.
///
/// Like every handle from outside, it keeps the node running. In a callback of its own use
/// [`Context::port`], which does not; otherwise the node runs until [`Node::shutdown`].
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use aemp::{Node, PortId};
/// use std::time::Duration;
///
/// let node = Node::builder().alone().start().await?;
/// let port = node.port_of_tags();
/// let mut sum = 0;
/// port.on("add", move |ctx, (n, reply): (u32, PortId)| {
///     sum += n;
///     ctx.snd(reply, sum) // an error would kill the port
/// });
/// port.on_default(|_, message| println!("not understood: {message:?}"));
/// assert_eq!(node.call::<u32>(&port, ("add", 40)).await?, 40);
/// assert_eq!(node.call::<u32>(&port, ("add", 2)).await?, 42);
/// port.after(Duration::from_secs(60), |ctx| ctx.kil(&aemp::KillReason::normal())).detach();
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct CallbackPort {
    node: Node,
    cell: Arc<CallbackCell>,
}

impl CallbackPort {
    pub(super) const fn new(node: Node, cell: Arc<CallbackCell>) -> Self {
        CallbackPort { node, cell }
    }

    /// The port's ID, with which everybody can send to it and monitor it.
    pub fn id(&self) -> PortId {
        PortId::new(self.node.id(), self.cell.name())
    }

    /// Receives messages whose first element is `tag`: `receiver` gets the elements after it as a
    /// Rust value. A message that does not decode kills the port with the error's text.
    ///
    /// Replaces a receiver for the same tag. Perl calls this `rcv $port, tag => sub {...}`.
    pub fn on<T, F, R>(&self, tag: &str, mut receiver: F)
    where
        T: DeserializeOwned + 'static,
        F: FnMut(&Context<'_>, T) -> R + Send + 'static,
        R: Outcome,
    {
        let node = self.node.inside();
        self.cell.on(
            tag.into(),
            Box::new(move |incoming| {
                let value = crate::value::from_elements::<T>(incoming.message)
                    .map_err(|error| error.to_string())?;
                let context = Context::of_port(&node, incoming.port, incoming.from);
                receiver(&context, value).into_result()
            }),
        );
    }

    /// Receives all messages without a receiver of their own, including their first element.
    ///
    /// Perl calls this `rcv $port, sub {...}`.
    pub fn on_default<F, R>(&self, mut receiver: F)
    where
        F: FnMut(&Context<'_>, MessageRef<'_>) -> R + Send + 'static,
        R: Outcome,
    {
        let node = self.node.inside();
        self.cell.on_default(Box::new(move |incoming| {
            let context = Context::of_port(&node, incoming.port, incoming.from);
            receiver(&context, MessageRef::new(incoming.from, incoming.whole)).into_result()
        }));
    }

    /// Removes the receiver for a tag. Perl calls this `rcv $port, tag => undef`.
    pub fn off(&self, tag: &str) {
        self.cell.remove(tag.into());
    }

    /// Kills the port with a reason. Perl calls this `kil $port`.
    pub fn kil(&self, reason: &KillReason) {
        self.node.kil(self.id(), reason);
    }

    /// Runs a closure as this port, in order with its messages; an error or a panic kills the port.
    /// Perl calls this `peval`.
    pub fn then<F, R>(&self, code: F)
    where
        F: FnOnce(&Context<'_>) -> R + Send + 'static,
        R: Outcome,
    {
        let node = self.node.inside();
        self.cell.push_task(Box::new(move |port| {
            let from = node.id().clone();
            code(&Context::of_port(&node, port, &from)).into_result()
        }));
    }

    /// Runs a closure as this port after `delay`, unless the port dies or the returned guard is
    /// dropped first. Perl calls this `after`.
    #[must_use = "dropping the guard cancels it; Timer::detach lets it run"]
    pub fn after<F, R>(&self, delay: Duration, code: F) -> Timer
    where
        F: FnOnce(&Context<'_>) -> R + Send + 'static,
        R: Outcome,
    {
        // The timer must not keep the node running.
        let port = CallbackPort::new(self.node.inside(), self.cell.clone());
        let monitor = port.node.monitor(self.id());
        let task = self.node.shared().runtime.spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(delay) => port.then(code),
                _ = monitor => {}
            }
        });
        Timer(AbortOnDropHandle::new(task))
    }

    /// Runs a future as this port, in the background: the port dies with the reason `die, text` if
    /// it fails or panics, and the future is dropped when the port dies.
    pub fn background<Fut, R>(&self, future: Fut)
    where
        Fut: Future<Output = R> + Send + 'static,
        R: Outcome + 'static,
    {
        run_as(&self.node, &self.id(), PortEnds::OnFailure, Some(self.cell.clone()), future);
    }

    /// The node of the port.
    pub const fn node(&self) -> &Node {
        &self.node
    }

    pub(super) fn cell(&self) -> &Arc<CallbackCell> {
        &self.cell
    }
}

impl fmt::Debug for CallbackPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CallbackPort({})", self.id())
    }
}

/// A closure that runs later; dropping this cancels it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let node = aemp::Node::builder().alone().start().await?;
/// let port = node.port_of_tags();
/// let death = node.monitor(&port);
/// let timer = port.after(std::time::Duration::from_millis(1), |_| Err("too late"));
/// assert_eq!(death.await.tag().unwrap(), "die");
/// drop(timer);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Timer(AbortOnDropHandle<()>);

impl Timer {
    /// Lets the closure run even though this guard is dropped.
    pub fn detach(self) {
        drop(self.0.detach());
    }
}
