//! Calls: a message with a reply port, and the answer as a future.

use super::error::CallError;
use super::message::{KillReason, MessageRef};
use super::port::Inbox;
use super::{Node, ToPort};
use crate::kernel::{PortName, WatchId};
use crate::value::{PortId, to_elements};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::Pin;
use std::time::Duration;

/// How much room the message of a call usually needs, its reply port's ID included.
const USUAL_SIZE: usize = 96;

/// A call that waits for its answer. Awaiting it yields that; dropping it cancels the wait.
#[must_use = "a call is sent when it is awaited"]
#[derive(Debug)]
pub struct Call<T> {
    node: Node,
    to: Result<PortId, crate::value::InvalidId>,
    message: Result<Asked, crate::value::EncodeError>,
    limit: Option<Duration>,
    answer: PhantomData<fn() -> T>,
}

impl Node {
    /// Sends a message with the ID of a new port behind its elements, and waits for what comes to
    /// that port. What Perl calls `cal`.
    ///
    /// Without a limit it waits until the answer comes, or the called port or its node dies. The
    /// reply port is gone when the future ends, whatever way.
    pub fn call<T: DeserializeOwned>(&self, to: impl ToPort, message: impl Serialize) -> Call<T> {
        let mut octets = Vec::with_capacity(USUAL_SIZE);
        let len = to_elements(&mut octets, &message);
        Call {
            node: self.clone(),
            to: to.to_port(),
            message: len.map(|len| Asked { len, octets }),
            limit: None,
            answer: PhantomData,
        }
    }
}

impl<T> Call<T> {
    /// Waits no longer than this.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }
}

impl<T: DeserializeOwned + 'static> Call<T> {
    async fn run(self) -> Result<T, CallError> {
        let to = self.to.map_err(super::SendError::from)?;
        let mut message = self.message.map_err(super::SendError::from)?;
        // The monitor is set before the message is sent, so that no death is missed.
        let mut reply = Reply::open(&self.node, &to);
        let id = PortId::new(self.node.id(), &reply.name);
        message.len += to_elements(&mut message.octets, &(id,)).map_err(super::SendError::from)?;
        let elements = crate::value::Elements::new(message.len, &message.octets);
        self.node.snd_elements(&to, elements)?;
        let answer = reply.answer();
        match self.limit {
            None => answer.await,
            Some(limit) => {
                tokio::time::timeout(limit, answer).await.unwrap_or(Err(CallError::Timeout(limit)))
            }
        }
    }
}

/// The elements of a message before the reply port's ID.
struct Asked {
    len: usize,
    octets: Vec<u8>,
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::value::Elements::new(self.len, &self.octets).fmt(f)
    }
}

/// The reply port of a call, which dies of what the called port dies of; dropping it ends both.
struct Reply<'a> {
    node: &'a Node,
    name: PortName,
    watch: WatchId,
    inbox: Inbox,
}

impl<'a> Reply<'a> {
    fn open(node: &'a Node, called: &PortId) -> Self {
        let (name, watch, inbox) = node.shared().open_call(called);
        Reply { node, name, watch, inbox }
    }

    async fn answer<T: DeserializeOwned>(&mut self) -> Result<T, CallError> {
        match self.inbox.next().await {
            Ok(received) => Ok(MessageRef::new(received.from, received.message).decode()?),
            Err(_) if self.node.shared().is_over() => {
                Err(CallError::Died(KillReason::new("shutdown", "this node was shut down")))
            }
            Err(reason) => Err(CallError::Died(KillReason::from_packed(reason))),
        }
    }
}

impl Drop for Reply<'_> {
    fn drop(&mut self) {
        self.node.shared().close_call(&self.name, self.watch);
    }
}

impl<T: DeserializeOwned + 'static> IntoFuture for Call<T> {
    type Output = Result<T, CallError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}
