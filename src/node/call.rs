//! Calls: a message with a reply port, and the answer as a future.

use super::error::CallError;
use super::message::MessageRef;
use super::{Monitor, Node, Port, ToPort};
use crate::value::{Packed, PortId, to_elements};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::Pin;
use std::time::Duration;

/// A call that waits for its answer. Awaiting it yields that; dropping it cancels the wait.
#[must_use = "a call is sent when it is awaited"]
#[derive(Debug)]
pub struct Call<T> {
    node: Node,
    to: Result<PortId, crate::value::InvalidId>,
    message: Result<Packed, crate::value::EncodeError>,
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
        Call {
            node: self.clone(),
            to: to.to_port(),
            message: Packed::of(&message),
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
        let message = self.message.map_err(super::SendError::from)?;
        let mut reply = self.node.port();
        // Set before the message is sent, so that no death is missed.
        let died = self.node.monitor(&to);
        let mut octets = message.as_elements().octets().to_vec();
        let added = to_elements(&mut octets, &(reply.id(),)).map_err(super::SendError::from)?;
        let elements = crate::value::Elements::new(message.len() + added, &octets);
        self.node.snd_elements(&to, elements)?;
        let answer = wait(&mut reply, died);
        match self.limit {
            None => answer.await,
            Some(limit) => {
                tokio::time::timeout(limit, answer).await.unwrap_or(Err(CallError::Timeout(limit)))
            }
        }
    }
}

async fn wait<T: DeserializeOwned>(reply: &mut Port, died: Monitor) -> Result<T, CallError> {
    tokio::select! {
        biased;
        answer = reply.recv_message() => match answer {
            Ok(message) => Ok(decode(message.as_ref())?),
            Err(_) => Err(CallError::Died(super::KillReason::new("shutdown", "this node was shut down"))),
        },
        reason = died => Err(CallError::Died(reason)),
    }
}

fn decode<T: DeserializeOwned>(message: MessageRef<'_>) -> Result<T, crate::value::DecodeError> {
    message.decode()
}

impl<T: DeserializeOwned + 'static> IntoFuture for Call<T> {
    type Output = Result<T, CallError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}
