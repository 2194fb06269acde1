//! The listening side of a stream: waits for connections that peers have announced.

use super::table::{Expectation, StreamFunction};
use super::{TAG, connect, session};
use crate::kernel::{Level, Origin, cut_line};
use crate::node::Node;
use crate::node::connection::channel::Channel;
use crate::node::context::Context;
use crate::node::core::Shared;
use crate::node::error::ConnectionError;
use crate::node::message::{KillReason, Message, MessageRef};
use crate::node::panics::text_of;
use crate::value::{NodeId, PortId, Str};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::task::AbortOnDropHandle;

/// Longest time, in seconds, that a peer may ask us to wait.
const MAX_WAIT: f64 = 3600.0;

/// The request `_expect ID, PORT, TIMEOUT, FUNCTION, arguments...`.
pub(super) fn expect(context: &Context<'_>, message: MessageRef<'_>) -> Result<(), String> {
    let (id, port, seconds, name): (Str, PortId, f64, Str) =
        message.decode().map_err(|error| error.to_string())?;
    let arguments = MessageRef::new(context.from(), message.elements().after(4)).keep();
    let shared = context.node().shared();
    let function = shared.streams.function(&name);
    let begun = function
        .ok_or_else(|| {
            let name = name.as_ref().beginning();
            format!("no function {name} for streams is registered here")
        })
        // The connection is expected before this request returns: the peer's next message relies on
        // it.
        .and_then(|function| {
            let octets = message.elements().octets().len();
            Ok((function, Expectation::new(&shared.streams, &id, context.from(), octets)?))
        });
    let (function, expectation) = match begun {
        Ok(begun) => begun,
        Err(why) => {
            context.node().kil(&port, &KillReason::new(TAG, &why));
            return Err(why);
        }
    };
    // A timeout that is not a positive number expires at once.
    let seconds = if seconds > 0.0 { seconds.min(MAX_WAIT) } else { 0.0 };
    let limit = Duration::from_secs_f64(seconds);
    let (shared, from) = (shared.clone(), context.from().clone());
    let runtime = shared.runtime.clone();
    runtime.spawn(async move {
        let ended = shared.ended.clone();
        let outcome = tokio::select! {
            outcome = serve(&shared, expectation, limit, function, arguments) => outcome,
            () = ended.cancelled() => return,
        };
        if let Err(why) = outcome {
            let id = id.as_ref().beginning();
            let text = cut_line(format_args!("data connection {id} for {name}: {why}"));
            shared.kernel(|kernel| {
                kernel.log_of_peer(&from, Origin::Requests, Level::Warn, text);
            });
            Node::inner(shared.clone()).kil(&port, &KillReason::new(TAG, &why));
        }
    });
    Ok(())
}

async fn serve(
    shared: &Shared,
    mut expectation: Expectation,
    limit: Duration,
    function: StreamFunction,
    arguments: Message,
) -> Result<(), String> {
    let stream = tokio::time::timeout(limit, expectation.stream())
        .await
        .map_err(|_| format!("nobody connected within {} s", limit.as_secs_f64()))?
        .ok_or("this node was shut down")?;
    drop(expectation);
    let task = async move { function(arguments.as_ref(), stream)?.await };
    let task = AbortOnDropHandle::new(shared.runtime.spawn(task));
    task.await.unwrap_or_else(|error| match error.try_into_panic() {
        Ok(panic) => Err(text_of(panic)),
        Err(_) => Err("this node was shut down".to_owned()),
    })
}

/// Turns an incoming connection, whose peer has greeted, into a data connection.
///
/// If it is not expected it is refused before we authenticate, so that the peer notices.
pub(crate) async fn adopt(
    shared: &Arc<Shared>,
    id: &Str,
    channel: Channel,
) -> Result<(), ConnectionError> {
    let refused = || ConnectionError::Refused(format!("data connection {id} is not expected"));
    if !shared.streams.is_expected(id) {
        return Err(refused());
    }
    let stream = session::authenticate(shared, channel).await?;
    tracing::debug!(node = %shared.id, "data connection {id} with {}", stream.peer());
    shared.streams.complete(id, stream).map_err(|_| refused())
}

/// The request `_connect ID, NODE`, from a node that asked us to expect a connection but cannot
/// dial us.
pub(super) fn connect_back(context: &Context<'_>, message: MessageRef<'_>) -> Result<(), String> {
    let (id, node): (Str, NodeId) = message.decode().map_err(|error| error.to_string())?;
    let shared = context.node().shared();
    if !shared.streams.is_expected(&id) {
        return Err("this data connection is not expected".to_owned());
    }
    let (shared, from) = (Arc::clone(shared), context.from().clone());
    let runtime = shared.runtime.clone();
    runtime.spawn(async move {
        let ended = shared.ended.clone();
        let dialled = tokio::select! {
            dialled = connect::dial_node(&shared, &node, &id) => dialled,
            () = ended.cancelled() => return,
        };
        match dialled {
            // If the time limit passed meanwhile, nobody waits for the stream and it is dropped.
            Ok(stream) => drop(shared.streams.complete(&id, stream)),
            Err(error) => {
                let text = cut_line(format_args!("data connection {id}: {error}"));
                shared.kernel(|kernel| {
                    kernel.log_of_peer(&from, Origin::Requests, Level::Warn, text);
                });
            }
        }
    });
    Ok(())
}
