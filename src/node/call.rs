//! Calls: a message with a reply port, and the answer as a future.

use super::call_room::LARGE_CALL;
use super::error::CallError;
use super::message::KillReason;
use super::port::ReplyName;
use super::{Node, ToPort};
use crate::value::{Count, PortId, from_elements, packed, put_elements};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// Octets that the message of a call usually needs, including its reply port's ID.
const TYPICAL_SIZE: usize = 96;

/// A call: awaiting it sends the message and yields the answer; dropping it cancels the call.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use aemp::{CallError, Node};
/// use std::time::Duration;
///
/// let node = Node::builder().alone().start().await?;
/// let deaf = node.port();
/// let call = node.call::<u32>(&deaf, ("hello",)).timeout(Duration::from_millis(1));
/// assert!(matches!(call.await, Err(CallError::Timeout(_))));
/// # Ok(()) }
/// ```
#[must_use = "a call is sent when it is awaited"]
pub struct Call<T> {
    state: State<T>,
}

enum State<T> {
    /// The call before its first poll; `None` while it turns into a future.
    Prepared(Option<Prepared<T>>),
    Sent(Pin<Box<dyn Future<Output = Result<T, CallError>> + Send>>),
}

struct Prepared<T> {
    node: Node,
    to: Result<PortId, crate::value::InvalidId>,
    message: Result<CallRequest, crate::value::EncodeError>,
    limit: Option<Duration>,
    answer: PhantomData<fn() -> T>,
}

impl Node {
    /// Sends a message with the ID of a new reply port as its last element, and waits for the
    /// answer that is sent to that port. Perl calls this `cal`.
    ///
    /// Without a [timeout](Call::timeout) the call waits until the answer arrives or the called
    /// port or its node dies. The reply port is removed when the future ends, however it ends.
    ///
    /// Calls with more than 4 KiB wait for room before they are sent: no more than a quarter of what
    /// a mailbox holds by default (16 of 64 MiB, see [`port_limit`](crate::NodeBuilder::port_limit))
    /// is pending for one port at a time, so that a port that is slow slows its callers down and is
    /// not killed by them.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use aemp::PortId;
    /// let node = aemp::Node::builder().alone().start().await?;
    /// let doubler = node.port_of_tags();
    /// doubler.on("double", |ctx, (n, reply): (u32, PortId)| ctx.snd(reply, 2 * n));
    /// assert_eq!(node.call::<u32>(&doubler, ("double", 21)).await?, 42);
    /// # Ok(()) }
    /// ```
    pub fn call<T: DeserializeOwned>(&self, to: impl ToPort, message: impl Serialize) -> Call<T> {
        let mut octets = Vec::with_capacity(TYPICAL_SIZE);
        let count = put_elements(&mut octets, &message);
        let prepared = Prepared {
            node: self.clone(),
            to: to.to_port(),
            message: count.map(|count| CallRequest { count, octets }),
            limit: None,
            answer: PhantomData,
        };
        Call { state: State::Prepared(Some(prepared)) }
    }
}

impl<T> Call<T> {
    /// Limits how long the call waits. Must be called before the first poll.
    pub fn timeout(mut self, limit: Duration) -> Self {
        if let State::Prepared(Some(prepared)) = &mut self.state {
            prepared.limit = Some(limit);
        }
        self
    }
}

impl<T> fmt::Debug for Call<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.state {
            State::Prepared(Some(Prepared { to, message, limit, .. })) => f
                .debug_struct("Call")
                .field("to", to)
                .field("message", message)
                .field("limit", limit)
                .finish(),
            _ => f.write_str("Call"),
        }
    }
}

impl<T: DeserializeOwned + 'static> Prepared<T> {
    async fn run(self) -> Result<T, CallError> {
        let to = self.to.map_err(super::SendError::from)?;
        let mut message = self.message.map_err(super::SendError::from)?;
        let mut left = self.limit;
        let _room = match message.octets.len() {
            small if small < LARGE_CALL => None,
            large => {
                let began = tokio::time::Instant::now();
                // In a box, so that small calls need not move it about.
                let room = Box::pin(self.node.shared().call_room.take(&to, large));
                let room = match left {
                    None => room.await,
                    Some(limit) => tokio::time::timeout(limit, room)
                        .await
                        .map_err(|_| CallError::Timeout(limit))?,
                };
                left = left.map(|limit| limit.saturating_sub(began.elapsed()));
                Some(room)
            }
        };
        // The monitor is set before the message is sent, so no death is missed.
        let reply = ReplyPort::open(&self.node, &to)?;
        reply.put_id(&mut message.octets);
        let elements = message.count.elements(1, &message.octets);
        self.node.snd_elements(&to, elements)?;
        let answer = reply.answer();
        match left.zip(self.limit) {
            None => answer.await,
            Some((left, limit)) => {
                tokio::time::timeout(left, answer).await.unwrap_or(Err(CallError::Timeout(limit)))
            }
        }
    }
}

/// The elements of a message before the reply port's ID.
struct CallRequest {
    count: Count,
    octets: Vec<u8>,
}

impl fmt::Debug for CallRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.count.elements(0, &self.octets).fmt(f)
    }
}

/// The reply port of a call. It dies when the called port dies, with the same reason; dropping this
/// removes it.
struct ReplyPort<'a> {
    node: &'a Node,
    name: ReplyName,
}

impl<'a> ReplyPort<'a> {
    fn open(node: &'a Node, called: &PortId) -> Result<Self, super::SendError> {
        Ok(ReplyPort { node, name: node.shared().begin_call(called)? })
    }

    fn put_id(&self, out: &mut Vec<u8>) {
        let node = self.node.id().as_str();
        self.name.with_octets(|name| packed::put_joined(out, node, &[b"#", name]));
    }

    async fn answer<T: DeserializeOwned>(&self) -> Result<T, CallError> {
        let shared = self.node.shared();
        match poll_fn(|cx| shared.ports.replies().poll(&self.name, cx.waker())).await {
            Ok(answer) => Ok(from_elements(answer.elements())?),
            Err(_) if shared.is_over() => {
                Err(CallError::Died(KillReason::new("shutdown", "this node was shut down")))
            }
            Err(reason) => Err(CallError::Died(KillReason::from_packed(reason))),
        }
    }
}

impl Drop for ReplyPort<'_> {
    fn drop(&mut self) {
        self.node.shared().end_call(&self.name);
    }
}

impl<T: DeserializeOwned + 'static> Future for Call<T> {
    type Output = Result<T, CallError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let State::Prepared(prepared) = &mut self.state
            && let Some(prepared) = prepared.take()
        {
            self.state = State::Sent(Box::pin(prepared.run()));
        }
        match &mut self.state {
            State::Sent(answer) => answer.as_mut().poll(cx),
            State::Prepared(_) => Poll::Pending,
        }
    }
}
