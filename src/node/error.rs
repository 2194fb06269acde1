//! The errors of a node's public interface.

use super::message::KillReason;
use crate::value::{DecodeError, EncodeError, InvalidId};
use crate::wire::framing;
use std::{fmt, io};
use thiserror::Error;

/// Why a message was not sent.
///
/// A message to a port that is gone, or to a node that cannot be reached, is not an error; monitors
/// report that.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SendError {
    /// The destination is not a port ID.
    #[error("cannot send: {0}")]
    Destination(#[from] InvalidId),
    /// The message cannot be represented in Perl's data model.
    #[error("cannot send: {0}")]
    Encode(#[from] EncodeError),
    /// The connection's framing cannot carry the message.
    #[error("cannot send: {0}")]
    Framing(#[from] framing::EncodeError),
    /// The node was shut down.
    #[error("cannot send: the node was shut down")]
    Shutdown,
}

/// Why no message was received.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecvError {
    /// The port died; all messages that arrived before have been received.
    #[error("the port died: {0}")]
    Died(KillReason),
    /// The message does not have the requested type. It has been removed from the port.
    #[error("unexpected message: {0}")]
    Decode(#[from] DecodeError),
    /// No message arrived in time.
    #[error("no message within {} s", .0.as_secs_f64())]
    Timeout(std::time::Duration),
}

/// Why a call was not answered.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CallError {
    /// The call was not sent.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The port that was called died, or its node was lost.
    #[error("the port that was called died: {0}")]
    Died(KillReason),
    /// The answer does not have the requested type.
    #[error("unexpected answer: {0}")]
    Decode(#[from] DecodeError),
    /// No answer arrived in time.
    #[error("no answer within {} s", .0.as_secs_f64())]
    Timeout(std::time::Duration),
}

/// Why a node did not start.
///
/// Its `Debug` output is the error text, so that a `main` that returns it ends with a readable
/// line.
#[derive(Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration cannot be used.
    #[error("{0}")]
    Config(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// An address to listen on does not resolve.
    #[error("bind {address}: cannot resolve it: {source}; use an IP address or * for all")]
    Resolve {
        /// As configured.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// Listening on an address failed.
    #[error("bind {address}: {source}{hint}")]
    Bind {
        /// As resolved.
        address: String,
        /// Why.
        source: io::Error,
        /// A hint what to do about it, which begins with a semicolon; may be empty.
        hint: &'static str,
    },
    /// The operating system gave no random octets.
    #[error("no randomness from the operating system: {0}")]
    Randomness(String),
    /// The configuration names a service that is not registered here.
    #[error("service {0}: no such function is registered here")]
    Service(String),
}

impl fmt::Debug for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a connection to a node was refused or lost; the text of log lines.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The address does not resolve, or nobody answers there.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// As dialled.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// The handshake failed.
    #[error(transparent)]
    Handshake(#[from] crate::wire::session::HandshakeError),
    /// The peer's node ID is not valid.
    #[error("peer's node ID cannot be used: {0}")]
    NodeId(#[from] InvalidId),
    /// The handshake took too long.
    #[error("no complete handshake within {} s", .0.as_secs_f64())]
    HandshakeTimeout(std::time::Duration),
    /// It had to make room for another connection during its handshake.
    #[error("too many pending handshakes: the oldest was closed to make room")]
    Displaced,
    /// TLS failed.
    #[error("TLS: {0}")]
    Tls(#[from] super::tls::TlsError),
    /// The peer sent something that is not a packet.
    #[error("garbage in packet {number}: {problem}")]
    Garbage {
        /// Counted from 1.
        number: u64,
        /// The problem.
        problem: String,
    },
    /// The connection broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The peer closed the connection.
    #[error("closed by the peer")]
    Closed,
    /// We closed the connection.
    #[error("{0}")]
    Refused(String),
    /// Not a failure: the connection is a data connection and was handed to the task that expected
    /// it.
    #[error("handed over as a data connection")]
    HandedOver,
}
