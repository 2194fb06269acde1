//! Deliberately broken nodes: our node behind a relay that violates the protocol.
//!
//! The relay does the handshake with the suite itself, which is where faults of handshakes are, and another
//! one with our node, in the suite's name. Between the two it has complete packets, which faults change.

mod detours;
mod link;
mod packets;
mod pieces;
mod relay;
mod table;
mod tls;

pub use detours::Detours;
pub(crate) use packets::is_request;
pub use relay::Relay;
pub use table::{DIALLING_FAULTS, FAULTS, TLS_FAULTS};

use aemp::Value;
use aemp::wire::framing::Framing;
use aemp::wire::greeting::Greeting;
use std::collections::HashMap;

/// What is wrong with a node.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// Nothing: the relay itself violates no statement that is checked.
    None,
    /// A fault of the handshake.
    Handshake(HandshakeFault),
    /// A fault of the greeting that the node sends.
    Greeting(fn(&mut OwnGreeting)),
    /// Greetings that the node has to take, and refuses.
    Refuses(fn(&ReceivedGreeting<'_>) -> bool),
    /// Octets of packets that the node has to read, and cannot.
    Misreads(fn(Framing, &[u8]) -> bool),
    /// A fault of the requests with this name in one direction: what is sent instead of one of them.
    Requests(Direction, &'static str, Change),
    /// The same of messages to the suite's port with this name.
    Messages(&'static str, Change),
    /// A fault of packets of any kind: what is sent instead, and in which direction.
    Packets(PacketFault),
}

/// What is sent instead of a packet.
pub type Change = fn(Packet) -> Vec<Packet>;

/// A packet: the port's name, and the elements.
pub type Packet = Vec<Value>;

/// Changes one packet.
pub type PacketFault = fn(&mut FaultState, Direction, Packet) -> Sent;

/// Packets, each with its direction.
pub type Sent = Vec<(Direction, Packet)>;

/// The direction of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the node to the suite.
    Out,
    /// From the suite to the node.
    In,
}

/// The state of a fault for one connection.
pub type FaultState = HashMap<&'static str, Vec<Packet>>;

/// The greeting that the node sends.
#[derive(Clone, Debug)]
pub struct OwnGreeting {
    /// The first line, without its end.
    pub first: String,
    /// The end of both lines.
    pub end: &'static str,
}

/// A greeting that the node hears.
#[derive(Clone, Copy, Debug)]
pub struct ReceivedGreeting<'a> {
    /// The first line, without its end.
    pub first: &'a [u8],
    /// The second line, without its end.
    pub second: &'a [u8],
    /// What the first line says.
    pub greeting: &'a Greeting,
}

/// A fault of the handshake, or of the connection as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeFault {
    /// The token covers the peer's greeting first, then its own.
    SwapsGreetings,
    /// The token is in upper case.
    ShoutsToken,
    /// Tokens are not compared.
    BelievesTokens,
    /// A part of the token is accepted.
    BelievesBeginnings,
    /// The methods of TLS are accepted without TLS.
    TakesTlsMethods,
    /// A method is accepted that its greeting does not list.
    TakesUnlisted,
    /// The secret is sent in clear if the peer lists that first.
    SendsCleartext,
    /// The version is not checked.
    TakesAnyVersion,
    /// The version is compared as a text.
    ComparesVersionAsText,
    /// The protocol's name is not checked.
    TakesAnyProtocol,
    /// It accepts its own greeting.
    TakesMirrors,
    /// It accepts a peer with its own ID.
    TakesOwnId,
    /// The line end is hashed, too.
    HashesCr,
    /// Its greeting waits for the peer's.
    GreetsSecond,
    /// Its authentication waits for the peer's.
    AuthenticatesSecond,
    /// The nonce is always the same.
    RepeatsNonce,
    /// It sends the framing that it prefers itself.
    PrefersOwnFraming,
    /// It sends the framing that it receives.
    UsesOneFraming,
    /// There is no limit to a greeting.
    TakesAnyLength,
    /// An unknown framing is taken for JSON.
    GuessesFraming,
    /// A greeting without keys is refused.
    WantsKeys,
    /// A line has to arrive whole.
    WantsWholeLines,
    /// A packet has to arrive whole.
    WantsWholePackets,
    /// The authentication line has exactly three fields.
    WantsThreeFields,
    /// Packets come before the peer has authenticated.
    SpeaksEarly,
    /// What arrives with the authentication line is lost.
    LosesEarlyPackets,
    /// A silent peer is waited for without end.
    WaitsForEver,
    /// A connection is not closed, whatever happens.
    NeverCloses,
    /// With one refused peer all connections are closed.
    ClosesAll,
    /// A seed is dialled until it has been connected once, and never again.
    DialsOnce,
    /// It greets without the key `tls`, though it has a certificate.
    HidesTls,
    /// Inside TLS it is the client where it has to be the server.
    SwapsTlsRoles,
    /// As TLS client it presents no certificate.
    PresentsNothing,
    /// It does not look at the peer's certificate.
    TrustsAnybody,
    /// It only knows TLS 1.2.
    KnowsOldTls,
    /// It offers encryption by the secret and goes on in the clear.
    IgnoresBound,
    /// Its bound token names the peer's role in TLS as its own.
    NamesWrongRole,
    /// It takes any value of the key `bound` for an offer.
    TakesAnyBound,
    /// Encrypting by the secret it takes TLS 1.2 as well.
    TakesOldTls,
    /// On a bound connection it accepts other methods.
    TakesAnyMethodBound,
    /// On a plain connection it accepts the method of bound ones.
    TakesBoundAnywhere,
}
