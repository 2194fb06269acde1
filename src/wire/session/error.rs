//! Errors of handshakes, each as one line for a log.

use crate::wire::auth::AuthMethod;

/// Why a handshake failed. The connection has to be closed.
///
/// Texts from the peer are quoted, cut, and free of control characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// A line is too long.
    #[error("peer sent a line of more than {limit} octets before it authenticated")]
    LineTooLong {
        /// The maximum length, including the line end.
        limit: usize,
    },
    /// The first line is not a greeting in any version of the protocol.
    #[error("peer did not greet as an AEMP node but sent {line}")]
    NotAGreeting {
        /// The line.
        line: String,
    },
    /// The peer uses another protocol.
    #[error("peer speaks protocol {protocol}, expected {expected}")]
    WrongProtocol {
        /// The peer's protocol.
        protocol: String,
        /// The expected protocols.
        expected: &'static str,
    },
    /// The peer uses another version of the protocol.
    #[error("peer speaks AEMP version {version}, we speak 1: AnyEvent::MP 2.x or aemp is needed")]
    WrongVersion {
        /// The peer's version.
        version: String,
    },
    /// A data connection without an ID.
    #[error("peer opened a data connection without saying which (no key dataconn_id)")]
    NoDataConnectionId,
    /// The peer has our own node ID: the connection leads to this node itself, or two nodes share an ID.
    ///
    /// It leads to this node only if `greeting` was sent by one of our own sessions; anybody can send
    /// our node ID (`docs/protocol.md` §1.3).
    #[error("peer has our own node ID {node_id}: each node of a network needs another one")]
    SameNodeId {
        /// The node ID.
        node_id: String,
        /// Both lines of the peer's greeting, each with its LF.
        greeting: Vec<u8>,
    },
    /// The peer sent our own nonce.
    #[error("peer sent our own nonce back (echo attack?)")]
    EchoedNonce,
    /// The peer says that it has the same role in the connection as this node, so these are two
    /// connections.
    #[error(
        "peer took the same part in its connection as we in ours: somebody connected two of \
             them to pass for either node"
    )]
    Relayed,
    /// Encryption is required here, but the greetings do not lead to it.
    #[error("the connection would not be encrypted, which is required here (tls_required): {why}")]
    EncryptionRequired {
        /// Why the connection would not be encrypted.
        why: &'static str,
    },
    /// The peer accepts no method that we can send.
    #[error(
        "no common authentication method: peer accepts {peer_accepts}, we can send \"{we_send}\""
    )]
    NoCommonAuth {
        /// The peer's list.
        peer_accepts: String,
        /// The methods that we can send on this connection.
        we_send: String,
    },
    /// The peer accepts no framing that we support.
    #[error("no common framing: peer accepts {peer_accepts}, we speak \"{we_speak}\"")]
    NoCommonFraming {
        /// The peer's list.
        peer_accepts: String,
        /// Our list.
        we_speak: String,
    },
    /// The third line has no method, token and framing.
    ///
    /// The line is not shown, since it may contain a secret.
    #[error("peer sent no authentication line (method;token;framing)")]
    NotAnAuthLine,
    /// The authentication method does not exist.
    #[error("peer used an unknown authentication method {method}")]
    UnknownMethod {
        /// The peer's method.
        method: String,
    },
    /// The peer used a method that is not in our list.
    #[error("peer used authentication method {method}, which is not accepted here (auth_accept)")]
    MethodRefused {
        /// The peer's method.
        method: AuthMethod,
    },
    /// The peer used a `tls_*` method on a connection without TLS.
    #[error("peer used authentication method {method} outside TLS")]
    MethodOutsideTls {
        /// The peer's method.
        method: AuthMethod,
    },
    /// The peer used a `tls_*` method without a verified certificate.
    #[error("peer used authentication method {method} but showed no certificate")]
    NoPeerCertificate {
        /// The peer's method.
        method: AuthMethod,
    },
    /// The peer used another method in a TLS session that only the secret ties to the nodes.
    #[error(
        "peer used authentication method {method} where only hmac_bound_sha3_512 is accepted: in TLS \
         without certificates"
    )]
    MethodInBoundSession {
        /// The peer's method.
        method: AuthMethod,
    },
    /// The peer used `hmac_bound_sha3_512` without a TLS session to which it could be bound.
    #[error(
        "peer used authentication method hmac_bound_sha3_512 on a connection that is not bound to \
         the secret (greeting key bound)"
    )]
    NotABoundSession,
    /// The peer does not know the secret, or is not the other end of our TLS session.
    #[error(
        "wrong secret, or somebody on the way ends the encryption: the peer's hmac_bound_sha3_512 \
         token does not match our secret and this TLS session"
    )]
    WrongBoundToken,
    /// The peer does not know the secret.
    #[error("wrong secret: the peer's {method} token does not match our secret")]
    WrongSecret {
        /// The peer's method.
        method: AuthMethod,
    },
    /// A token that needs no secret is wrong.
    #[error("wrong token: the peer's {method} token does not match the greetings")]
    WrongToken {
        /// The peer's method.
        method: AuthMethod,
    },
    /// The peer wants to send in a framing that is not in our list.
    #[error("peer wants to send framing {framing}, we accept \"{we_accept}\"")]
    FramingRefused {
        /// The peer's framing.
        framing: String,
        /// Our list.
        we_accept: String,
    },
    /// The connection ended before the greeting was complete.
    #[error("peer closed the connection before it had greeted")]
    ClosedInGreeting,
    /// The connection ended before we had decided whether to continue.
    #[error(
        "peer closed the connection while it had to wait for us: it is connected already, or another \
         live node may have our node ID (each needs its own)"
    )]
    ClosedWhileHeld,
    /// The connection ended between greeting and authentication.
    #[error(
        "peer closed the connection instead of authenticating: another live node may have our node ID \
         (each needs its own), or the two do not share a secret, methods or framings"
    )]
    ClosedInAuthentication,
}
