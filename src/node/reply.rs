//! The answering side of calls: the received message, and the port to which its answer goes.

use super::error::RecvError;
use super::message::{KillReason, Message};
use super::monitor::Monitor;
use super::{Node, Port, SendError, ToPort};
use crate::value::{DecodeError, InvalidId, PortId};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering};

/// The answer that a caller waits for, of the type `A`: [send](Reply::send) it, or
/// [fail](Reply::fail). Dropping this without either fails the call.
///
/// A caller appends a port to the message ([`Node::call`], Perl's `cal`). [`Port::recv_call`]
/// removes it; in an enum of messages it may be the last field of a variant, see
/// [`Message::decode_call`]. Failing kills that port: a Rust caller gets
/// [`CallError::Died`](super::CallError::Died) with the reason at once, while a Perl caller's
/// callback runs only after its timeout.
///
/// ```
/// use aemp::{Node, Reply};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let node = Node::builder().alone().start().await?;
/// let mut port = node.port();
/// let to = port.id();
/// tokio::spawn(async move {
///     while let Ok(call) = port.recv_call().await {
///         let (divide, reply): ((f64, f64), Reply<f64>) = call;
///         match divide {
///             (_, 0.0) => reply.fail("division by zero"),
///             (a, b) => drop(reply.send(a / b)),
///         }
///     }
/// });
/// assert_eq!(node.call::<f64>(&to, (6, 4)).await?, 1.5);
/// let error = node.call::<f64>(&to, (6, 0)).await.unwrap_err();
/// assert!(error.to_string().contains("division by zero"));
/// # Ok(()) }
/// ```
#[must_use = "dropping it makes the call fail"]
pub struct Reply<A> {
    to: Option<(Node, PortId)>,
    /// Another port answers: the reply port's ID was written into a message.
    is_handed_on: AtomicBool,
    answer: PhantomData<fn(A)>,
}

thread_local! {
    /// The node on which a message is being decoded.
    static DECODING: RefCell<Option<Node>> = const { RefCell::new(None) };
}

impl<A> Reply<A> {
    const fn new(to: Option<(Node, PortId)>) -> Self {
        Reply { to, is_handed_on: AtomicBool::new(false), answer: PhantomData }
    }

    /// A placeholder for the reply port in a message that will be sent as a call; it is serialized
    /// as undef.
    pub const fn placeholder() -> Self {
        Reply::new(None)
    }

    /// The port to which the answer goes. The new owner of its ID has to answer.
    pub fn into_port(mut self) -> Option<PortId> {
        self.to.take().map(|(_, port)| port)
    }

    /// Makes the call fail: its caller gets `die` and this text.
    pub fn fail(self, text: impl fmt::Display) {
        self.fail_with(&KillReason::new("die", &text.to_string()));
    }

    /// Makes the call fail with this reason.
    pub fn fail_with(mut self, reason: &KillReason) {
        if let Some((node, port)) = self.to.take() {
            node.kil(port, reason);
        }
    }

    /// Resolves when the caller no longer waits for the answer, because it has given up or its node
    /// was lost.
    pub async fn cancelled(&self) {
        let monitor: Option<Monitor> = self.to.as_ref().map(|(node, port)| node.monitor(port));
        if let Some(monitor) = monitor {
            monitor.await;
        }
    }
}

impl<A: Serialize> Reply<A> {
    /// Sends the answer.
    ///
    /// # Errors
    /// As [`Node::snd`]; the call then fails with the error's text.
    pub fn send(mut self, answer: A) -> Result<(), SendError> {
        let Some((node, port)) = self.to.take() else { return Ok(()) };
        node.snd(&port, answer)
            .inspect_err(|error| node.kil(&port, &KillReason::new("die", &error.to_string())))
    }
}

impl<A> Drop for Reply<A> {
    fn drop(&mut self) {
        if let Some((node, port)) = self.to.take()
            && !self.is_handed_on.load(Ordering::Relaxed)
        {
            node.kil(port, &KillReason::new("die", "the call was not answered"));
        }
    }
}

impl<A> fmt::Debug for Reply<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reply").field(&self.to.as_ref().map(|(_, port)| port)).finish()
    }
}

/// Writes the reply port's ID and leaves the answer to the receiver of the message.
impl<A> Serialize for Reply<A> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.to {
            Some((_, port)) => {
                self.is_handed_on.store(true, Ordering::Relaxed);
                port.serialize(serializer)
            }
            None => serializer.serialize_none(),
        }
    }
}

impl<'de, A> Deserialize<'de> for Reply<A> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let node = DECODING.with_borrow(Clone::clone).ok_or_else(|| {
            D::Error::custom("a Reply is only decoded by an actor or by Message::decode_call")
        })?;
        let port = PortId::deserialize(deserializer)?;
        Ok(Reply::new(Some((node.weak(), port))))
    }
}

impl Node {
    /// The answer to a call whose reply port arrived as an element of a message.
    ///
    /// # Errors
    /// Fails if the text is not a port ID.
    pub fn reply_to<A>(&self, port: impl ToPort) -> Result<Reply<A>, InvalidId> {
        Ok(Reply::new(Some((self.weak(), port.to_port()?))))
    }
}

impl Message {
    /// As [`Message::decode`], for types that contain a [`Reply`], which answers through `node`.
    ///
    /// # Errors
    /// As [`Message::decode`].
    pub fn decode_call<T: DeserializeOwned>(&self, node: &Node) -> Result<T, DecodeError> {
        let outer = DECODING.replace(Some(node.weak()));
        let decoded = self.decode();
        DECODING.set(outer);
        decoded
    }
}

impl Port {
    /// Receives the next message as a call: all elements but the last as a Rust value, and the last
    /// one as the reply port.
    ///
    /// # Errors
    /// As [`Port::recv`]; a message whose last element is not a port ID counts as one of the wrong
    /// type. A call that does not decode fails with the error's text.
    pub async fn recv_call<T: DeserializeOwned, A>(&mut self) -> Result<(T, Reply<A>), RecvError> {
        let message = self.recv_message().await?;
        let elements = message.as_ref().elements();
        let (question, last) = elements.split_last().unwrap_or((elements, elements));
        let reply = Reply::new(Some((self.node().weak(), last.decode()?)));
        match question.decode() {
            Ok(question) => Ok((question, reply)),
            Err(error) => {
                reply.fail(&error);
                Err(error.into())
            }
        }
    }
}
