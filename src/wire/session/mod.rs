//! A connection from its first octet to its packets, as a machine without I/O.
//!
//! A [`Session`] exchanges greetings, lets its caller decide whether to go on, asks for TLS where
//! both sides have a certificate or want encryption that is bound to their secret, and exchanges
//! proofs. Source: `docs/protocol.md` §1.

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

/// What a connection is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Connection {
    /// Packets between two nodes.
    Node,
    /// A raw stream that the listener has been told to expect (`docs/protocol.md` §1.7).
    Data {
        /// The ID, in written form.
        id: Vec<u8>,
    },
}

/// When our authentication line is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthOrder {
    /// At once.
    Now,
    /// When the peer's has been verified and [`Session::authenticate`] is called, so that the peer
    /// decides which of two simultaneous connections is used.
    AfterPeer,
}

/// Who is at the other end of a TLS connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsPeer {
    /// It showed a certificate, and that was verified against ours.
    Verified,
    /// It showed none. It can still prove itself with the secret, but by no `tls_*` method.
    Anonymous,
}

/// What a session has come to. It waits until it is told how to go on.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Event {
    /// The peer has greeted: see [`Session::peer`] and [`Session::connection`]. None of it is
    /// proven, and nothing of us depends on it yet. [`Session::proceed`] goes on; to refuse the
    /// peer, close the connection.
    Greeted,
    /// Both sides have a certificate: TLS begins with the very next octet in both directions, and
    /// what is there of it already is in [`Session::take_input`]. What is read and written from now
    /// on goes through TLS. [`Session::tls_established`] goes on.
    StartTls {
        /// Whether we are the TLS client; this depends on the nonces, not on who dialled.
        we_are_client: bool,
    },
    /// The same without certificates: both sides want encryption that is bound to their secret. TLS
    /// has to be of version 1.3, without resumption and early data; the server's certificate proves
    /// nothing and is not verified. [`Session::bound_tls_established`] goes on.
    StartBoundTls {
        /// Whether we are the TLS client.
        we_are_client: bool,
    },
    /// The peer has proven itself, and our line is held back ([`AuthOrder::AfterPeer`]).
    /// [`Session::authenticate`] goes on.
    Proven,
    /// The peer has proven itself, and our own line is sent. What it sends from now on is for
    /// [`Session::into_packets`], or for whoever gets the raw stream, by [`Session::take_input`].
    Established(Agreement),
}

/// What both sides of an established session have agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// What the peer said about itself.
    pub peer: Greeting,
    /// What the connection is for.
    pub connection: Connection,
    /// How the peer proved itself.
    pub method: AuthMethod,
    /// How we proved ourselves.
    pub own_method: AuthMethod,
    /// The form in which the peer wants our packets.
    pub send_framing: Framing,
    /// The form in which the peer's packets come.
    pub receive_framing: Framing,
    /// Whether the connection is encrypted, and how.
    pub protection: Protection,
    /// Whether the peer authenticated by `tls_anon`, which leaves the greetings unproven.
    pub untrusted: bool,
}

/// How much of what comes while the caller decides is kept: more than an honest peer sends.
const HELD_INPUT: usize = 8 << 10;

/// One end of a connection: octets in, octets out, and [`Event`]s that the caller answers.
///
/// [`Handshaker`] makes it. It is fed by
///
/// - [`Session::input`], where octets that were read are appended, cut anywhere, while
///   [`Session::wants_input`];
/// - [`Session::proceed`], [`Session::tls_established`], [`Session::bound_tls_established`] and
///   [`Session::authenticate`], each the answer to one event, and without effect at any other time;
///
/// and drained by
///
/// - [`Session::transmit`], octets to be written, in this order and before anything is read;
/// - [`Session::poll`], what it has come to.
///
/// After each input call `transmit` until there is nothing, then `poll`; read more when that gives
/// nothing. If the peer closes the connection meanwhile, [`Session::closed`] is the error to report.
/// The session has no clock: whoever drives it limits the time that it may take.
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
    /// What we dialled for; nothing if we listen and the peer says what it wants.
    dialled: Option<Connection>,
    own: Greeting,
    own_lines: Vec<u8>,
    nonce: Nonce,
    input: BytesMut,
    output: Vec<u8>,
    lines: Lines,
    /// What the first line of the peer said, and what the connection is for by that.
    peer: Option<(Greeting, Connection)>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The peer's greeting is awaited.
    Greeting,
    /// The caller is asked whether to go on.
    Greeted {
        we_are_client: bool,
    },
    /// The caller is about to be told that TLS begins.
    BeforeTls {
        chosen: LocalChoices,
        we_are_client: bool,
    },
    /// The caller performs the TLS handshake.
    InTls {
        chosen: LocalChoices,
        we_are_client: bool,
    },
    /// The peer's authentication line is awaited; ours is sent, or held back.
    Authenticating {
        chosen: LocalChoices,
        channel: Channel,
        held: Option<Vec<u8>>,
    },
    /// The peer has proven itself; ours is held back.
    Proven {
        agreement: Agreement,
        held: Vec<u8>,
    },
    /// Both lines have been exchanged, and the caller is about to be told so.
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

    /// Where to append what has been read from the connection, inside TLS once that has begun.
    pub fn input(&mut self) -> &mut BytesMut {
        &mut self.input
    }

    /// Whether more should be read now.
    ///
    /// Not while the caller performs TLS, nor where so much has come while the caller decides that
    /// it can wait in the socket: nothing stops a peer from sending before we have agreed.
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

    /// What has been read and the session has no use for: the beginning of TLS at
    /// [`Event::StartTls`], the beginning of the raw stream of a data connection that is established.
    pub fn take_input(&mut self) -> BytesMut {
        std::mem::take(&mut self.input)
    }

    /// Octets to be written to the connection, if there are any.
    pub fn transmit(&mut self) -> Option<Vec<u8>> {
        let output = std::mem::take(&mut self.output);
        (!output.is_empty()).then_some(output)
    }

    /// Our greeting, both lines with LF: what a peer that turns out to be ourselves has sent.
    pub fn own_greeting(&self) -> &[u8] {
        &self.own_lines
    }

    /// What the peer says about itself, as soon as its first line is there. None of it is proven
    /// before the session is established.
    pub fn peer(&self) -> Option<&Greeting> {
        self.peer.as_ref().map(|(greeting, _)| greeting)
    }

    /// What the connection is for, if the peer proves itself; known with its first line.
    pub fn connection(&self) -> Option<&Connection> {
        self.peer.as_ref().map(|(_, connection)| connection)
    }

    /// Goes as far as the input allows, and tells what the session has come to; nothing where it
    /// needs more input or waits for the caller.
    ///
    /// # Errors
    /// Fails, the same way from then on, if the peer is not acceptable; nothing can be done but to
    /// close the connection.
    pub fn poll(&mut self) -> Result<Option<Event>, HandshakeError> {
        // The state is put back by every branch of `advance` that does not fail.
        let state = std::mem::replace(&mut self.state, State::Greeting);
        let advanced = self.advance(state);
        if let Err(error) = &advanced {
            self.state = State::Failed(error.clone());
        }
        advanced
    }

    /// The answer to [`Event::Greeted`]: goes on. Chooses how we authenticate and in which framing we
    /// send; if nothing is common, [`Session::poll`] fails.
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

    /// The answer to [`Event::StartTls`]: the TLS handshake is done.
    pub fn tls_established(&mut self, peer: TlsPeer) {
        if let State::InTls { chosen, .. } = self.state
            && chosen.protection == Protection::Certificates
        {
            self.exchange_proofs(chosen, Channel::Tls(peer));
        }
    }

    /// The answer to [`Event::StartBoundTls`]: the TLS handshake is done, and this is what the TLS
    /// session exports for [`Exporter::LABEL`].
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

    /// The error to report when the peer has closed the connection before it was established.
    pub fn closed(&self) -> HandshakeError {
        match &self.state {
            State::Failed(error) => error.clone(),
            State::Greeting => HandshakeError::ClosedInGreeting,
            State::Greeted { .. } | State::Proven { .. } => HandshakeError::ClosedWhileHeld,
            _ => HandshakeError::ClosedInAuthentication,
        }
    }

    /// The packets of a session that is established; nothing before.
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

    /// Judges the whole greeting, and tells whether we would be the TLS client. That both node IDs
    /// are the same fails only here, as the whole greeting tells whether the peer is ourselves.
    fn take_second_line(&self, peer_nonce: &[u8]) -> Result<bool, HandshakeError> {
        let Some((peer, connection)) = &self.peer else {
            return Err(HandshakeError::ClosedInGreeting);
        };
        if *connection == Connection::Node && peer.node_id == self.config.node_id {
            let greeting = self.lines.greeting().to_vec();
            return Err(HandshakeError::SameNodeId { node_id: printable(&peer.node_id), greeting });
        }
        // Peers may not repeat a nonce at all, whatever else they say: inside TLS it would not
        // even be settled who is the client.
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
