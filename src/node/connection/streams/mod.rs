//! Data connections: raw streams of octets between two nodes, beside their messages.
//!
//! A stream has a connection of its own, authenticated and encrypted like those between nodes. One
//! node asks for it and names a function of the other node, which gets the other end:
//!
//! ```
//! # async fn example(node: aemp::Node, archive: aemp::NodeId) -> Result<(), Box<dyn std::error::Error>> {
//! use aemp::services::streams::DataStream;
//! use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
//!
//! // On the node `archive`:
//! # let there = node.clone();
//! there.expose_stream("Archive::fetch", |(name,): (String,), mut stream: DataStream| async move {
//!     stream.write_all(&tokio::fs::read(name).await?).await?;
//!     stream.shutdown().await
//! });
//!
//! // On another one:
//! let mut stream = node.connect_stream(&archive, "Archive::fetch", ("data.tar",)).await?;
//! let mut octets = Vec::new();
//! stream.read_to_end(&mut octets).await?;
//! # Ok(()) }
//! ```
//!
//! Perl calls this `AnyEvent::MP::DataConn`; its nodes can be the listening side, where the
//! function gets an `AnyEvent::Handle` after its arguments. Source: `docs/protocol.md` §1.7, §3.6.

mod connect;
mod expect;
mod session;
mod stream;
pub(crate) mod table;

pub use self::connect::ConnectStream;
pub(crate) use self::expect::adopt;
pub use self::stream::DataStream;
use self::table::StreamFunction;

use crate::node::context::Outcome;
use crate::node::{KillReason, Node, SendError};
use crate::value::{NodeId, Packed, Str, to_elements};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// The request to expect a data connection. Also the tag of the reason with which a port is killed
/// if that fails.
const EXPECT: &str = "AnyEvent::MP::DataConn::_expect";
const TAG: &str = "AnyEvent::MP::DataConn";
/// The request to dial the node that sends it, because it cannot dial itself.
const CONNECT: &str = "AnyEvent::MP::DataConn::_connect";

/// Why there is no stream to a node.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The arguments cannot be represented in Perl's data model.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The node refused; usually it has no such function.
    #[error("{node} refused the stream: {reason}")]
    Refused {
        /// Which node.
        node: NodeId,
        /// The reason that the node gave.
        reason: KillReason,
    },
    /// The node was lost, or could not be reached at all.
    #[error("no stream to {node}: {reason}")]
    Lost {
        /// Which node.
        node: NodeId,
        /// The reason, as monitors get it.
        reason: KillReason,
    },
    /// The node can be reached with messages, but no stream to it could be connected.
    #[error("no stream to {node}: {problems}")]
    Unreachable {
        /// Which node.
        node: NodeId,
        /// The problem with each of its addresses.
        problems: String,
    },
    /// It took too long.
    #[error("no stream to {node} within {} s", .limit.as_secs_f64())]
    Timeout {
        /// Which node.
        node: NodeId,
        /// The time limit.
        limit: Duration,
    },
    /// This node was shut down.
    #[error("no stream: this node was shut down")]
    Shutdown,
}

impl Node {
    /// Asks `node`, which may be this one, to run its function `function` with these arguments and
    /// one end of a new stream. Awaiting the result yields the other end. Perl calls this
    /// `AnyEvent::MP::DataConn::connect_to`.
    ///
    /// It takes at most `monitor_timeout`, or the limit set with [`ConnectStream::timeout`]. This
    /// node dials the other one; if that does not listen anywhere, it dials this one.
    ///
    /// # Errors
    /// [`StreamError::Refused`] if an aemp node has no such function. A Perl node without it only
    /// logs a warning, and the stream ends at once; a stream to a Perl node in `secure` mode does
    /// so too.
    pub fn connect_stream(
        &self,
        node: &NodeId,
        function: &str,
        arguments: impl Serialize,
    ) -> ConnectStream {
        ConnectStream::new(self.clone(), node.clone(), function, packed(&arguments))
    }

    /// Lets other nodes connect streams to a function, which runs as a task with their arguments
    /// and its end of the stream. If the arguments do not decode, or if the function fails or
    /// panics, the port with which the other side waits is killed with the reason
    /// `AnyEvent::MP::DataConn, text`.
    ///
    /// Replaces a function of the same name. In `secure` mode nobody can connect. The future is
    /// dropped when the node ends.
    pub fn expose_stream<T, F, Fut, R>(&self, name: &str, function: F)
    where
        T: DeserializeOwned,
        F: Fn(T, DataStream) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = R> + Send + 'static,
        R: Outcome,
    {
        let function: StreamFunction = Arc::new(move |arguments, stream| {
            let arguments = arguments.decode::<T>().map_err(|error| error.to_string())?;
            let future = function(arguments, stream);
            Ok(Box::pin(async move { future.await.into_result() }))
        });
        let replaced = self.shared().streams.register(Str::from(name), function);
        drop(replaced);
    }

    /// Ends what [`Node::expose_stream`] began; open streams stay open.
    pub fn hide_stream(&self, name: &str) {
        let removed = self.shared().streams.unregister(&Str::from(name));
        drop(removed);
    }
}

fn packed(arguments: &impl Serialize) -> Result<Packed, SendError> {
    let mut octets = Vec::new();
    let len = to_elements(&mut octets, arguments)?;
    Ok(Packed::new(len, octets.into()))
}

/// Lets others connect streams to this node.
pub(crate) fn install(node: &Node) {
    node.expose_raw(EXPECT, expect::expect);
    node.expose_raw(CONNECT, expect::connect_back);
}
