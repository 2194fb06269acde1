//! Calls to whichever member of a service is up.

use super::{Ended, Service};
use crate::node::{CallError, SendError};
use crate::value::{EncodeError, Packed};
use serde::de::DeserializeOwned;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::Pin;
use std::time::Duration;

/// A call to a member of a service. Awaiting it yields the answer.
#[must_use = "a call is sent when it is awaited"]
pub struct ServiceCall<V, T> {
    service: Service<V>,
    message: Result<Packed, EncodeError>,
    attempts: usize,
    limit: Option<Duration>,
    answer: PhantomData<fn() -> T>,
}

impl<V, T> ServiceCall<V, T> {
    pub(super) fn new(service: Service<V>, message: Result<Packed, EncodeError>) -> Self {
        ServiceCall { service, message, attempts: 1, limit: None, answer: PhantomData }
    }

    /// Calls another member, up to five in all, if one dies or is lost before it has answered. The
    /// first one may already have done what was asked, so use this only if doing it twice is
    /// harmless.
    pub fn safe_to_repeat(mut self) -> Self {
        self.attempts = 5;
        self
    }

    /// Limits the total time, including the wait for a member.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }
}

impl<V, T> fmt::Debug for ServiceCall<V, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceCall").field("message", &self.message).finish_non_exhaustive()
    }
}

impl<V, T> IntoFuture for ServiceCall<V, T>
where
    V: DeserializeOwned + Clone + Send + 'static,
    T: DeserializeOwned + Send + 'static,
{
    type Output = Result<T, CallError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let limit = self.limit;
            let calls = self.run();
            match limit {
                None => calls.await,
                Some(limit) => tokio::time::timeout(limit, calls)
                    .await
                    .unwrap_or(Err(CallError::Timeout(limit))),
            }
        })
    }
}

impl<V, T> ServiceCall<V, T>
where
    V: DeserializeOwned + Clone + Send + 'static,
    T: DeserializeOwned + Send + 'static,
{
    async fn run(self) -> Result<T, CallError> {
        let message = self.message.map_err(SendError::from)?;
        let service = &self.service;
        let mut tried = Vec::new();
        loop {
            let picked = service.pick(&tried, |ports| service.round(ports)).await;
            let port = picked.map_err(|Ended| SendError::Shutdown)?;
            match service.shared.node.call(&port, &message).await {
                Err(CallError::Died(_)) if tried.len() + 1 < self.attempts => tried.push(port),
                outcome => return outcome,
            }
        }
    }
}
