//! A connection from its first octet to its packets, as a state machine without I/O.
//!
//! A [`Session`] exchanges greetings, lets its caller decide whether to continue, asks for TLS if both
//! sides have a certificate or want encryption that is bound to their secret, and exchanges proofs.
//! Source: `docs/protocol.md` §1.

#[cfg(test)]
mod bound_tests;
mod config;
mod error;
mod lines;
mod packets;
mod proof;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::BytesMut;

pub use self::config::{Encrypt, Ends, HandshakeConfig, HandshakeConfigError, Handshaker};
pub use self::error::HandshakeError;
pub(crate) use self::lines::{AuthLine, BadLine, Line, Lines, PERL_LINE_LIMIT};
pub use self::packets::Packets;
use self::proof::{Channel, LocalChoices};
use crate::wire::auth::{AuthMethod, Exporter, Nonce, TlsRole};
use crate::wire::framing::{Framing, FramingLimits};
use crate::wire::greeting::{self, AEMP, AEMP_DATACONN, Greeting, Role, printable};
use crate::wire::protection::Protection;

/// The purpose of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Connection {
    /// Packets between two nodes.
    Node,
    /// A raw stream that the listener expects (`docs/protocol.md` §1.7).
    Data {
        /// The ID, in escaped form.
        id: Vec<u8>,
    },
}

/// When our authentication line is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthOrder {
    /// As soon as possible.
    Now,
    /// After the peer's was verified and [`Session::authenticate`] was called: the peer decides which of
    /// two simultaneous connections is used.
    AfterPeer,
}

/// The authentication of a TLS peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsPeer {
    /// Its certificate was verified against ours.
    Verified,
    /// It has sent no certificate. It can still authenticate with the secret, but by no `tls_*` method.
    Anonymous,
}

/// A step of a session that its caller has to answer before the session continues.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Event {
    /// The peer has sent its greeting: see [`Session::peer`] and [`Session::connection`]. Nothing of it
    /// is proven. [`Session::proceed`] continues; to refuse the peer, close the connection.
    Greeted,
    /// Both sides have a certificate: TLS begins with the next octet in both directions; octets of it
    /// that were read already are in [`Session::take_input`]. From now on everything is read and written
    /// through TLS. [`Session::tls_established`] continues.
    StartTls {
        /// Whether we are the TLS client; this depends on the nonces, not on who dialled.
        we_are_client: bool,
    },
    /// The same without certificates: both sides want encryption that is bound to their secret. TLS has
    /// to be of version 1.3, without resumption and early data; the server's certificate proves nothing
    /// and is not verified. [`Session::bound_tls_established`] continues.
    StartBoundTls {
        /// Whether we are the TLS client.
        we_are_client: bool,
    },
    /// The peer has authenticated, and our line is held back ([`AuthOrder::AfterPeer`]).
    /// [`Session::authenticate`] continues.
    Proven,
    /// The peer has authenticated, and our line was sent. For the octets that follow, use
    /// [`Session::into_packets`], or [`Session::take_input`] if they are a raw stream.
    Established(Agreement),
}

/// The result of an established session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// The peer's greeting.
    pub peer: Greeting,
    /// The purpose of the connection.
    pub connection: Connection,
    /// The method by which the peer has authenticated.
    pub method: AuthMethod,
    /// The method by which we have authenticated.
    pub own_method: AuthMethod,
    /// The framing of packets to the peer.
    pub send_framing: Framing,
    /// The framing of packets from the peer.
    pub receive_framing: Framing,
    /// Whether the connection is encrypted, and how.
    pub protection: Protection,
    /// Whether the peer authenticated by `tls_anon`, which leaves the greetings unproven.
    pub untrusted: bool,
}

/// The maximum octets of input that are kept while the caller decides: more than an honest peer sends.
const HELD_INPUT: usize = 8 << 10;

/// One end of a connection: octets in, octets out, and [`Event`]s that the caller answers.
///
/// It is made by a [`Handshaker`]. Its inputs are
///
/// - [`Session::input`], where octets that were read are appended, cut anywhere, while
///   [`Session::wants_input`];
/// - [`Session::proceed`], [`Session::tls_established`], [`Session::bound_tls_established`] and
///   [`Session::authenticate`], each the answer to one event, and without effect at any other time;
///
/// and its outputs are
///
/// - [`Session::transmit`], octets to be written, in this order and before anything is read;
/// - [`Session::poll`], what it has come to.
///
/// After each input call `transmit` until it returns nothing, then `poll`; read more when that returns
/// nothing. If the peer closes the connection meanwhile, report the error [`Session::closed`]. The
/// session has no clock: its caller limits the time that it may take.
///
/// ```
/// use aemp::wire::session::{Agreement, AuthOrder, Event, HandshakeError, Session};
/// use std::io::{Read, Write};
///
/// /// Drives a session of a node that offers no encryption.
/// fn establish(
///     session: &mut Session,
///     stream: &mut (impl Read + Write),
/// ) -> Result<Agreement, Box<dyn std::error::Error>> {
///     loop {
///         while let Some(octets) = session.transmit() {
///             stream.write_all(&octets)?;
///         }
///         match session.poll()? {
///             Some(Event::Greeted) => session.proceed(AuthOrder::Now),
///             Some(Event::Established(agreement)) => return Ok(agreement),
///             Some(Event::StartTls { .. } | Event::StartBoundTls { .. } | Event::Proven) => {
///                 unreachable!("not asked for")
///             }
///             None => {
///                 let mut read = [0; 1024];
///                 match stream.read(&mut read)? {
///                     0 => return Err(session.closed().into()),
///                     len => session.input().extend_from_slice(&read[..len]),
///                 }
///             }
///         }
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Session {
    config: Arc<HandshakeConfig>,
    /// The purpose for which we dialled; `None` if we listen and the peer decides.
    dialled: Option<Connection>,
    own: Greeting,
    own_lines: Vec<u8>,
    nonce: Nonce,
    input: BytesMut,
    output: Vec<u8>,
    lines: Lines,
    /// The peer's first line, and the purpose of the connection according to it.
    peer: Option<(Greeting, Connection)>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Waiting for the peer's greeting.
    Greeting,
    /// Waiting for the caller's decision whether to continue.
    Greeted {
        we_are_client: bool,
    },
    /// About to tell the caller that TLS begins.
    BeforeTls {
        chosen: LocalChoices,
        we_are_client: bool,
    },
    /// Waiting for the caller to perform the TLS handshake.
    InTls {
        chosen: LocalChoices,
        we_are_client: bool,
    },
    /// Waiting for the peer's authentication line; ours was sent, or is held back.
    Authenticating {
        chosen: LocalChoices,
        channel: Channel,
        held: Option<Vec<u8>>,
    },
    /// The peer has authenticated; our line is held back.
    Proven {
        agreement: Agreement,
        held: Vec<u8>,
    },
    /// Both lines were exchanged; about to tell the caller.
    Agreed(Agreement),
    Established {
        receive_framing: Framing,
    },
    Failed(HandshakeError),
}

impl Session {
    fn new(
        config: Arc<HandshakeConfig>,
        dialled: Option<Connection>,
        greeting: Greeting,
        nonce: Nonce,
    ) -> Session {
        let own_lines = [&greeting.compose(), &b"\n"[..], nonce.as_bytes(), b"\n"].concat();
        Session {
            lines: Lines::new(config.line_limit),
            config,
            dialled,
            own: greeting,
            output: own_lines.clone(),
            own_lines,
            nonce,
            input: BytesMut::new(),
            peer: None,
            state: State::Greeting,
        }
    }

    /// The buffer to which octets read from the connection are appended; inside TLS once that has begun.
    pub fn input(&mut self) -> &mut BytesMut {
        &mut self.input
    }

    /// Whether more should be read now.
    ///
    /// False while the caller performs TLS, and when so much input has arrived while the caller decides
    /// that the rest should wait in the socket: nothing stops a peer from sending early.
    pub fn wants_input(&self) -> bool {
        match self.state {
            State::Greeted { .. } | State::Proven { .. } => self.input.len() < HELD_INPUT,
            State::BeforeTls { .. } | State::InTls { .. } | State::Failed(_) => false,
            State::Greeting
            | State::Authenticating { .. }
            | State::Agreed(_)
            | State::Established { .. } => true,
        }
    }

    /// Octets that were read but do not belong to the session: the beginning of TLS at
    /// [`Event::StartTls`], the beginning of the raw stream of an established data connection.
    pub fn take_input(&mut self) -> BytesMut {
        std::mem::take(&mut self.input)
    }

    /// Octets to be written to the connection, if there are any.
    pub fn transmit(&mut self) -> Option<Vec<u8>> {
        let output = std::mem::take(&mut self.output);
        (!output.is_empty()).then_some(output)
    }

    /// Our greeting, both lines with LF: what a peer sends that turns out to be this node itself.
    pub fn own_greeting(&self) -> &[u8] {
        &self.own_lines
    }

    /// The peer's greeting, as soon as its first line has arrived. It is not proven before the session
    /// is established.
    pub fn peer(&self) -> Option<&Greeting> {
        self.peer.as_ref().map(|(greeting, _)| greeting)
    }

    /// The purpose of the connection if the peer authenticates; known with its first line.
    pub fn connection(&self) -> Option<&Connection> {
        self.peer.as_ref().map(|(_, connection)| connection)
    }

    /// Continues as far as the input allows, and returns the next event; `None` if more input or an
    /// answer of the caller is needed.
    ///
    /// # Errors
    /// The peer is not acceptable. Every later call fails in the same way; the connection has to be
    /// closed.
    pub fn poll(&mut self) -> Result<Option<Event>, HandshakeError> {
        // Every branch of `advance` that does not fail sets the state again.
        let state = std::mem::replace(&mut self.state, State::Greeting);
        let advanced = self.advance(state);
        if let Err(error) = &advanced {
            self.state = State::Failed(error.clone());
        }
        advanced
    }

    /// The answer to [`Event::Greeted`]: continue. Chooses our method and the framing that we send; if
    /// there is no common one, [`Session::poll`] fails.
    pub fn proceed(&mut self, order: AuthOrder) {
        let (State::Greeted { we_are_client }, Some((peer, _))) = (&self.state, &self.peer) else {
            return;
        };
        let we_are_client = *we_are_client;
        match LocalChoices::from(&self.config, &self.own, peer, order) {
            Err(error) => self.state = State::Failed(error),
            Ok(chosen) if chosen.protection.is_encrypted() => {
                self.state = State::BeforeTls { chosen, we_are_client };
            }
            Ok(chosen) => self.exchange_proofs(chosen, Channel::Plain),
        }
    }

    /// The answer to [`Event::StartTls`]: the TLS handshake is complete.
    pub fn tls_established(&mut self, peer: TlsPeer) {
        if let State::InTls { chosen, .. } = self.state
            && chosen.protection == Protection::Certificates
        {
            self.exchange_proofs(chosen, Channel::Tls(peer));
        }
    }

    /// The answer to [`Event::StartBoundTls`]: the TLS handshake is complete, with the TLS session's
    /// export for [`Exporter::LABEL`].
    pub fn bound_tls_established(&mut self, exporter: Exporter) {
        if let State::InTls { chosen, we_are_client } = self.state
            && chosen.protection == Protection::Bound
        {
            let own_role = if we_are_client { TlsRole::Client } else { TlsRole::Server };
            self.exchange_proofs(chosen, Channel::Bound { exporter, own_role });
        }
    }

    /// The answer to [`Event::Proven`]: sends our authentication line.
    pub fn authenticate(&mut self) {
        match std::mem::replace(&mut self.state, State::Greeting) {
            State::Proven { agreement, held } => {
                self.output.extend(held);
                self.state = State::Agreed(agreement);
            }
            other => self.state = other,
        }
    }

    /// The error to report if the peer has closed the connection before it was established.
    pub fn closed(&self) -> HandshakeError {
        match &self.state {
            State::Failed(error) => error.clone(),
            State::Greeting => HandshakeError::ClosedInGreeting,
            State::Greeted { .. } | State::Proven { .. } => HandshakeError::ClosedWhileHeld,
            _ => HandshakeError::ClosedInAuthentication,
        }
    }

    /// The packets of an established session; `None` before that.
    pub fn into_packets(self, limits: FramingLimits) -> Option<Packets> {
        match self.state {
            State::Established { receive_framing } => {
                Some(Packets::new(receive_framing, limits, self.input))
            }
            _ => None,
        }
    }

    fn advance(&mut self, state: State) -> Result<Option<Event>, HandshakeError> {
        match state {
            State::Greeting => {
                while let Some(line) = self.next_line()? {
                    match line {
                        Line::Greeting(peer) => self.take_first_line(peer)?,
                        Line::Nonce(nonce) => {
                            let we_are_client = self.take_second_line(&nonce)?;
                            self.state = State::Greeted { we_are_client };
                            return Ok(Some(Event::Greeted));
                        }
                        Line::Authentication(_) => return Err(HandshakeError::NotAnAuthLine),
                    }
                }
                Ok(None)
            }
            State::BeforeTls { chosen, we_are_client } => {
                self.state = State::InTls { chosen, we_are_client };
                Ok(Some(match chosen.protection {
                    Protection::Bound => Event::StartBoundTls { we_are_client },
                    Protection::Certificates | Protection::Plain(_) => {
                        Event::StartTls { we_are_client }
                    }
                }))
            }
            State::Authenticating { chosen, channel, held } => match self.next_line()? {
                Some(Line::Authentication(line)) => {
                    let agreement = self.agree(&chosen, &channel, &line)?;
                    match held {
                        Some(held) => {
                            self.state = State::Proven { agreement, held };
                            Ok(Some(Event::Proven))
                        }
                        None => Ok(Some(self.establish(agreement))),
                    }
                }
                _ => {
                    self.state = State::Authenticating { chosen, channel, held };
                    Ok(None)
                }
            },
            State::Agreed(agreement) => Ok(Some(self.establish(agreement))),
            State::Failed(error) => Err(error),
            State::Greeted { .. }
            | State::InTls { .. }
            | State::Proven { .. }
            | State::Established { .. } => {
                self.state = state;
                Ok(None)
            }
        }
    }

    fn establish(&mut self, agreement: Agreement) -> Event {
        self.state = State::Established { receive_framing: agreement.receive_framing };
        Event::Established(agreement)
    }

    fn next_line(&mut self) -> Result<Option<Line>, HandshakeError> {
        self.lines.next(&mut self.input).map_err(|bad| match bad {
            BadLine::TooLong(_) => HandshakeError::LineTooLong { limit: self.config.line_limit },
            BadLine::NotAGreeting(line) => {
                HandshakeError::NotAGreeting { line: printable(lines::without_end(&line)) }
            }
            BadLine::NotAuthentication(_) => HandshakeError::NotAnAuthLine,
        })
    }

    fn take_first_line(&mut self, peer: Greeting) -> Result<(), HandshakeError> {
        let connection = self.agree_on_protocol(&peer)?;
        if !peer.has_version(greeting::VERSION) {
            return Err(HandshakeError::WrongVersion { version: printable(&peer.version) });
        }
        self.peer = Some((peer, connection));
        Ok(())
    }

    fn agree_on_protocol(&self, peer: &Greeting) -> Result<Connection, HandshakeError> {
        match (&self.dialled, peer.protocol.as_slice()) {
            (None, AEMP) => Ok(Connection::Node),
            (None, AEMP_DATACONN) => match peer.written(greeting::DATACONN_ID) {
                Some(id) => Ok(Connection::Data { id: id.to_vec() }),
                None => Err(HandshakeError::NoDataConnectionId),
            },
            (Some(connection), AEMP) => Ok(connection.clone()),
            (Some(connection @ Connection::Data { .. }), AEMP_DATACONN) => Ok(connection.clone()),
            (dialled, protocol) => Err(HandshakeError::WrongProtocol {
                protocol: printable(protocol),
                expected: match dialled {
                    Some(Connection::Node) => "aemp",
                    None | Some(Connection::Data { .. }) => "aemp or aemp-dataconn",
                },
            }),
        }
    }

    /// Checks the whole greeting, and returns whether we would be the TLS client. Equal node IDs are an
    /// error only here, since the whole greeting is needed to tell whether the peer is this node itself.
    fn take_second_line(&self, peer_nonce: &[u8]) -> Result<bool, HandshakeError> {
        let Some((peer, connection)) = &self.peer else {
            return Err(HandshakeError::ClosedInGreeting);
        };
        if *connection == Connection::Node && peer.node_id == self.config.node_id {
            let greeting = self.lines.greeting().to_vec();
            return Err(HandshakeError::SameNodeId { node_id: printable(&peer.node_id), greeting });
        }
        // A nonce must never be repeated: inside TLS it would not even be decided which side is the
        // client.
        if peer_nonce == self.nonce.as_bytes() {
            return Err(HandshakeError::EchoedNonce);
        }
        let own_role = if self.dialled.is_some() { Role::Dials } else { Role::Accepts };
        if peer.written(greeting::ROLE) == Some(own_role.name()) {
            return Err(HandshakeError::Relayed);
        }
        Ok(self.nonce.as_bytes() < peer_nonce)
    }

    fn exchange_proofs(&mut self, chosen: LocalChoices, channel: Channel) {
        let line = chosen.line(&self.config, &channel, &self.own_lines, self.lines.greeting());
        let held = match chosen.order {
            AuthOrder::Now => {
                self.output.extend(line);
                None
            }
            AuthOrder::AfterPeer => Some(line),
        };
        self.state = State::Authenticating { chosen, channel, held };
    }

    fn agree(
        &self,
        chosen: &LocalChoices,
        channel: &Channel,
        line: &AuthLine,
    ) -> Result<Agreement, HandshakeError> {
        let Some((peer, connection)) = self.peer.clone() else {
            return Err(HandshakeError::NotAnAuthLine);
        };
        let (method, receive_framing) =
            proof::verify(&self.config, channel, line, self.lines.greeting(), &self.own_lines)?;
        Ok(Agreement {
            peer,
            connection,
            method,
            own_method: chosen.method,
            send_framing: chosen.framing,
            receive_framing,
            protection: chosen.protection,
            untrusted: method == AuthMethod::TlsAnon,
        })
    }
}
