//! Every way in which a handshake fails, each as one line fit for a log.

use crate::wire::auth::AuthMethod;

/// Why a handshake failed; the connection is of no further use.
///
/// Texts that came from the peer are quoted, freed of control characters and cut short.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// A line did not end in time.
    #[error("peer sent a line of more than {limit} octets before it authenticated")]
    LineTooLong {
        /// What is allowed, line end included.
        limit: usize,
    },
    /// The first line is no greeting of any protocol version.
    #[error("peer did not greet as an AEMP node but sent {line}")]
    NotAGreeting {
        /// The line.
        line: String,
    },
    /// The peer speaks something else.
    #[error("peer speaks protocol {protocol}, expected {expected}")]
    WrongProtocol {
        /// What the peer named.
        protocol: String,
        /// What it could have named.
        expected: &'static str,
    },
    /// The peer speaks another version of the protocol.
    #[error("peer speaks AEMP version {version}, we speak 1: AnyEvent::MP 2.x or aemp is needed")]
    WrongVersion {
        /// What the peer named.
        version: String,
    },
    /// A data connection that does not say which one it is.
    #[error("peer opened a data connection without saying which (no key dataconn_id)")]
    NoDataConnectionId,
    /// The peer has our own node ID: we reached ourselves, or two nodes share an ID.
    ///
    /// It is ourselves only if `greeting` is what one of our own listening sessions has sent; anybody can name our node ID (`docs/protocol.md` §1.3).
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
    /// The peer made its connection the same way as we made ours, so that they are two.
    #[error(
        "peer took the same part in its connection as we in ours: somebody connected two of \
             them to pass for either node"
    )]
    Relayed,
    /// Encryption is required here, and the greetings lead to none.
    #[error("the connection would not be encrypted, which is required here (tls_required): {why}")]
    EncryptionRequired {
        /// Why it would not be.
        why: &'static str,
    },
    /// The peer accepts no method that we can send.
    #[error(
        "no common authentication method: peer accepts {peer_accepts}, we can send \"{we_send}\""
    )]
    NoCommonAuth {
        /// The peer's list.
        peer_accepts: String,
        /// What we can send on this connection.
        we_send: String,
    },
    /// The peer accepts no framing that we speak.
    #[error("no common framing: peer accepts {peer_accepts}, we speak \"{we_speak}\"")]
    NoCommonFraming {
        /// The peer's list.
        peer_accepts: String,
        /// Our list.
        we_speak: String,
    },
    /// The third line has no method, token and framing.
    ///
    /// The line is not told, for it may contain a secret.
    #[error("peer sent no authentication line (method;token;framing)")]
    NotAnAuthLine,
    /// The peer used a method that does not exist.
    #[error("peer used an unknown authentication method {method}")]
    UnknownMethod {
        /// What the peer named.
        method: String,
    },
    /// The peer used a method that we did not list.
    #[error("peer used authentication method {method}, which is not accepted here (auth_accept)")]
    MethodRefused {
        /// What the peer used.
        method: AuthMethod,
    },
    /// The peer used a `tls_*` method on a connection without TLS.
    #[error("peer used authentication method {method} outside TLS")]
    MethodOutsideTls {
        /// What the peer used.
        method: AuthMethod,
    },
    /// The peer used a `tls_*` method without a verified certificate.
    #[error("peer used authentication method {method} but showed no certificate")]
    NoPeerCertificate {
        /// What the peer used.
        method: AuthMethod,
    },
    /// The peer used another method in a TLS session that nothing but the secret ties to the nodes.
    #[error(
        "peer used authentication method {method} where only hmac_bound_sha3_512 is accepted: in TLS \
         without certificates"
    )]
    MethodInBoundSession {
        /// What the peer used.
        method: AuthMethod,
    },
    /// The peer used `hmac_bound_sha3_512` where there is no TLS session to which it could be bound.
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
        /// What the peer used.
        method: AuthMethod,
    },
    /// A token that needs no secret is wrong.
    #[error("wrong token: the peer's {method} token does not match the greetings")]
    WrongToken {
        /// What the peer used.
        method: AuthMethod,
    },
    /// The peer wants to send in a framing that we did not list.
    #[error("peer wants to send framing {framing}, we accept \"{we_accept}\"")]
    FramingRefused {
        /// What the peer named.
        framing: String,
        /// Our list.
        we_accept: String,
    },
    /// The connection ended during the greeting.
    #[error("peer closed the connection before it had greeted")]
    ClosedInGreeting,
    /// The connection ended while we had not decided whether to go on.
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
