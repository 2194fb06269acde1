//! What can go wrong at the public face of a node.

use super::message::KillReason;
use crate::value::{DecodeError, EncodeError, InvalidId};
use crate::wire::framing;
use std::{fmt, io};
use thiserror::Error;

/// Why a message was not sent.
///
/// A message to a port that is gone, or to a node that cannot be reached, is no error: monitors
/// tell.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SendError {
    /// The destination is no port ID.
    #[error("cannot send: {0}")]
    Destination(#[from] InvalidId),
    /// The message has no form in Perl's data model.
    #[error("cannot send: {0}")]
    Encode(#[from] EncodeError),
    /// The connection's framing cannot carry the message.
    #[error("cannot send: {0}")]
    Framing(#[from] framing::EncodeError),
    /// The node was shut down.
    #[error("cannot send: the node was shut down")]
    Shutdown,
}

/// Why nothing was received.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecvError {
    /// The port died; what had arrived before was received.
    #[error("the port died: {0}")]
    Died(KillReason),
    /// The message is not what was asked for. It is taken from the port.
    #[error("unexpected message: {0}")]
    Decode(#[from] DecodeError),
    /// Nothing came in time.
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
    /// The answer is not what was asked for.
    #[error("unexpected answer: {0}")]
    Decode(#[from] DecodeError),
    /// No answer came in time.
    #[error("no answer within {} s", .0.as_secs_f64())]
    Timeout(std::time::Duration),
}

/// Why a node did not start.
///
/// Its `Debug` form is its text, so that a `main` that returns it ends with a line for people.
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
    /// An address to listen on cannot be listened on.
    #[error("bind {address}: {source}{hint}")]
    Bind {
        /// As resolved.
        address: String,
        /// Why.
        source: io::Error,
        /// What to do about it, with a semicolon before it; may be empty.
        hint: &'static str,
    },
    /// The operating system gave no random octets.
    #[error("no randomness from the operating system: {0}")]
    Randomness(String),
    /// A service that the configuration names does not exist here.
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
    /// The peer's node ID is none.
    #[error("peer's node ID cannot be used: {0}")]
    NodeId(#[from] InvalidId),
    /// The handshake took too long.
    #[error("no complete handshake within {} s", .0.as_secs_f64())]
    HandshakeTimeout(std::time::Duration),
    /// It had to make room for another one while it was in its handshake.
    #[error("too many connections are in their handshake: the oldest makes room")]
    Displaced,
    /// TLS failed.
    #[error("TLS: {0}")]
    Tls(#[from] super::tls::TlsError),
    /// The peer sent something that is no packet.
    #[error("garbage in packet {number}: {problem}")]
    Garbage {
        /// Counted from 1.
        number: u64,
        /// What was wrong.
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
    /// It is no failure: a data connection now belongs to whoever expected it.
    #[error("handed over as a data connection")]
    HandedOver,
}
