//! The handshake as a machine without I/O: octets in, octets out, one type for each of its states.
//!
//! ```text
//! Handshaker -> Handshake -> Greeted -> (AwaitingTls ->) Authenticating -> Authenticated
//! ```
//!
//! Every `feed` takes its lines off the front of the given buffer and leaves the rest there: it
//! belongs to whatever comes next (TLS, packets, a raw data stream). So feed what is in the
//! buffer before reading more:
//!
//! ```
//! use aemp::wire::handshake::{Authenticating, Authenticated, HandshakeError, Progress};
//! use bytes::BytesMut;
//!
//! fn authenticate(
//!     mut state: Authenticating,
//!     unread: &mut BytesMut,
//!     mut read_more: impl FnMut(&mut BytesMut) -> usize,
//! ) -> Result<Authenticated, HandshakeError> {
//!     loop {
//!         match state.feed(unread)? {
//!             Progress::Reached(authenticated) => return Ok(authenticated),
//!             Progress::NeedMore(same) if read_more(unread) == 0 => return Err(same.closed()),
//!             Progress::NeedMore(same) => state = same,
//!         }
//!     }
//! }
//! ```
//!
//! Source: `docs/protocol.md` §1.

mod config;
mod error;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::{Buf, BufMut as _};

pub use self::config::{HandshakeConfig, HandshakeConfigError, Handshaker, Tls};
pub use self::error::HandshakeError;
use crate::wire::auth::{AuthMethod, Nonce};
use crate::wire::framing::Framing;
use crate::wire::greeting::{self, AEMP, AEMP_DATACONN, Greeting, Role, printable};

/// What feeding octets led to.
#[derive(Debug)]
#[must_use]
pub enum Progress<Waiting, Next> {
    /// All octets are taken and the state is the same.
    NeedMore(Waiting),
    /// The next state; octets that it does not own are still in the buffer.
    Reached(Next),
}

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

/// The first state: our greeting goes out, the peer's is awaited. Begun by [`Handshaker`].
#[derive(Debug)]
pub struct Handshake {
    config: Arc<HandshakeConfig>,
    /// What we dialled for; nothing if we listen and the peer says what it wants.
    dialled: Option<Connection>,
    own_lines: Vec<u8>,
    nonce: Nonce,
    first: Option<FirstLine>,
    reader: LineReader,
}

#[derive(Debug)]
struct FirstLine {
    peer: Greeting,
    connection: Connection,
    lines: Vec<u8>,
}

impl Handshake {
    fn new(
        config: Arc<HandshakeConfig>,
        dialled: Option<Connection>,
        greeting: Greeting,
        nonce: Nonce,
    ) -> Handshake {
        let own_lines = lines(&[&greeting.compose(), nonce.as_bytes()]);
        let reader = LineReader::new(config.line_limit);
        Handshake { config, dialled, own_lines, nonce, first: None, reader }
    }

    /// Our greeting, two lines; send it without waiting for the peer's.
    pub fn output(&self) -> &[u8] {
        &self.own_lines
    }

    /// Reads the peer's greeting.
    ///
    /// An empty nonce and CR LF line ends pass. Wrong protocols and versions fail at the first
    /// line; our own node ID fails only after both, see [`HandshakeError::SameNodeId`].
    pub fn feed(mut self, input: &mut impl Buf) -> Result<Progress<Self, Greeted>, HandshakeError> {
        let mut first = match self.first.take() {
            Some(first) => first,
            None => match self.reader.line(input)? {
                Some(line) => self.check_first_line(&line)?,
                None => return Ok(Progress::NeedMore(self)),
            },
        };
        let Some(peer_nonce) = self.reader.line(input)? else {
            self.first = Some(first);
            return Ok(Progress::NeedMore(self));
        };
        first.lines.extend(lines(&[&peer_nonce]));
        if first.connection == Connection::Node && first.peer.node_id == self.config.node_id {
            let node_id = printable(&first.peer.node_id);
            return Err(HandshakeError::SameNodeId { node_id, greeting: first.lines });
        }
        // Peers may not repeat a nonce at all, whatever else they say: inside TLS it would not
        // even be settled who is the client.
        if peer_nonce == self.nonce.as_bytes() {
            return Err(HandshakeError::EchoedNonce);
        }
        let own_role = if self.dialled.is_some() { Role::Dials } else { Role::Accepts };
        if first.peer.written(greeting::ROLE) == Some(own_role.name()) {
            return Err(HandshakeError::Relayed);
        }
        let own_nonce_is_smaller = self.nonce.as_bytes() < peer_nonce.as_slice();
        Ok(Progress::Reached(Greeted {
            config: self.config,
            own_lines: self.own_lines,
            peer_lines: first.lines,
            peer: first.peer,
            connection: first.connection,
            own_nonce_is_smaller,
        }))
    }

    /// The error to report when the peer closes the connection now.
    pub fn closed(self) -> HandshakeError {
        HandshakeError::ClosedInGreeting
    }

    fn check_first_line(&self, line: &[u8]) -> Result<FirstLine, HandshakeError> {
        let not_a_greeting = |_| HandshakeError::NotAGreeting { line: printable(line) };
        let peer = Greeting::parse(line).map_err(not_a_greeting)?;
        let connection = self.agree_on_protocol(&peer)?;
        if !peer.has_version(greeting::VERSION) {
            return Err(HandshakeError::WrongVersion { version: printable(&peer.version) });
        }
        Ok(FirstLine { peer, connection, lines: lines(&[line]) })
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
}

/// The peer has greeted, and nothing of us depends on it yet: the place to decide whether to go on.
///
/// To hold the connection, hold this value. Most peers send no more than their authentication line
/// (or the start of TLS) meanwhile, but nothing stops one from sending packets too: whoever reads on
/// while holding has to bound the buffer.
#[derive(Debug)]
pub struct Greeted {
    config: Arc<HandshakeConfig>,
    own_lines: Vec<u8>,
    peer_lines: Vec<u8>,
    peer: Greeting,
    connection: Connection,
    own_nonce_is_smaller: bool,
}

impl Greeted {
    /// What the peer says about itself. None of it is proven.
    pub fn peer(&self) -> &Greeting {
        &self.peer
    }

    /// What the connection is for, if the peer proves itself.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Goes on: chooses how we authenticate and in which framing we send.
    ///
    /// Fails if there is no common method or framing, or no TLS where it is required.
    pub fn proceed(self) -> Result<Proceed, HandshakeError> {
        let config = &self.config;
        let tls = config.tls != Tls::Off && self.peer.offers_tls();
        if config.tls == Tls::Required && !tls {
            return Err(HandshakeError::TlsRequired);
        }
        let usable = |method: &AuthMethod| tls || !method.needs_tls();
        let offer: Vec<_> = config.auth_offer.iter().copied().filter(usable).collect();
        let peer_methods = self.peer.auth_methods.iter();
        let method = peer_methods
            .filter_map(|name| AuthMethod::from_name(name))
            .find(|method| offer.contains(method))
            .ok_or_else(|| HandshakeError::NoCommonAuth {
                peer_accepts: printable(&self.peer.auth_methods.join(&b',')),
                we_send: offer.iter().map(|method| method.name()).collect::<Vec<_>>().join(","),
            })?;
        let peer_framings = self.peer.framings.iter();
        let framing = peer_framings
            .filter_map(|name| framing_named(name))
            .find(|framing| config.framings.contains(framing))
            .ok_or_else(|| HandshakeError::NoCommonFraming {
                peer_accepts: printable(&self.peer.framings.join(&b',')),
                we_speak: names(&config.framings),
            })?;
        let agreed = Agreed { greeted: self, method, framing };
        Ok(if tls {
            Proceed::StartTls(AwaitingTls(agreed))
        } else {
            Proceed::Authenticate(Authenticating::new(agreed, Channel::Plain))
        })
    }
}

/// What comes after the greetings.
#[derive(Debug)]
#[must_use]
pub enum Proceed {
    /// TLS, from the very next octet in both directions.
    StartTls(AwaitingTls),
    /// Authentication, on the stream as it is.
    Authenticate(Authenticating),
}

#[derive(Debug)]
struct Agreed {
    greeted: Greeted,
    method: AuthMethod,
    framing: Framing,
}

/// Both sides have a certificate: the caller now performs the TLS handshake on the stream.
///
/// Octets that are left in the buffer are the beginning of TLS.
#[derive(Debug)]
pub struct AwaitingTls(Agreed);

/// Who is at the other end of a TLS connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsPeer {
    /// It showed a certificate, and that was verified against ours.
    Verified,
    /// It showed none. It can still prove itself with the secret, but by no `tls_*` method.
    Anonymous,
}

impl AwaitingTls {
    /// Whether we are the TLS client; this depends on the nonces, not on who dialled.
    pub fn we_are_client(&self) -> bool {
        self.0.greeted.own_nonce_is_smaller
    }

    /// What the peer says about itself. None of it is proven.
    pub fn peer(&self) -> &Greeting {
        &self.0.greeted.peer
    }

    /// Goes on inside TLS: what is fed and sent from now on is encrypted.
    pub fn tls_established(self, peer: TlsPeer) -> Authenticating {
        Authenticating::new(self.0, Channel::Tls(peer))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Channel {
    Plain,
    Tls(TlsPeer),
}

/// Our authentication line goes out, the peer's is awaited.
#[derive(Debug)]
pub struct Authenticating {
    agreed: Agreed,
    channel: Channel,
    output: Vec<u8>,
    reader: LineReader,
}

impl Authenticating {
    fn new(agreed: Agreed, channel: Channel) -> Authenticating {
        let Agreed { greeted, method, framing } = &agreed;
        let secret = greeted.config.secret.as_ref();
        // A checked configuration offers no method that lacks its secret.
        let token = method.token(secret, &greeted.own_lines, &greeted.peer_lines);
        let output = format!("{method};{};{framing}\n", token.unwrap_or_default()).into_bytes();
        let reader = LineReader::new(greeted.config.line_limit);
        Authenticating { agreed, channel, output, reader }
    }

    /// Our authentication line; send it without waiting for the peer's.
    pub fn output(&self) -> &[u8] {
        &self.output
    }

    /// What the peer says about itself. None of it is proven.
    pub fn peer(&self) -> &Greeting {
        &self.agreed.greeted.peer
    }

    /// Reads and verifies the peer's authentication line.
    pub fn feed(
        mut self,
        input: &mut impl Buf,
    ) -> Result<Progress<Self, Authenticated>, HandshakeError> {
        let Some(line) = self.reader.line(input)? else {
            return Ok(Progress::NeedMore(self));
        };
        let (method, receive_framing) = self.verify(&line)?;
        let Agreed { greeted, method: own_method, framing } = self.agreed;
        Ok(Progress::Reached(Authenticated {
            peer: greeted.peer,
            connection: greeted.connection,
            method,
            own_method,
            send_framing: framing,
            receive_framing,
            tls: self.channel != Channel::Plain,
            untrusted: method == AuthMethod::TlsAnon,
        }))
    }

    /// The error to report when the peer closes the connection now.
    pub fn closed(self) -> HandshakeError {
        HandshakeError::ClosedInAuthentication
    }

    fn verify(&self, line: &[u8]) -> Result<(AuthMethod, Framing), HandshakeError> {
        let mut fields = line.split(|&octet| octet == b';');
        let (Some(name), Some(token), Some(framing)) =
            (fields.next(), fields.next(), fields.next())
        else {
            return Err(HandshakeError::NotAnAuthLine);
        };
        let Greeted { config, own_lines, peer_lines, .. } = &self.agreed.greeted;
        let method = AuthMethod::from_name(name)
            .ok_or_else(|| HandshakeError::UnknownMethod { method: printable(name) })?;
        if !config.auth_accept.contains(&method) {
            return Err(HandshakeError::MethodRefused { method });
        }
        match self.channel {
            Channel::Plain if method.needs_tls() => {
                return Err(HandshakeError::MethodOutsideTls { method });
            }
            Channel::Tls(TlsPeer::Anonymous) if method.needs_tls() => {
                return Err(HandshakeError::NoPeerCertificate { method });
            }
            Channel::Plain | Channel::Tls(_) => {}
        }
        if !method.verify(config.secret.as_ref(), token, peer_lines, own_lines) {
            return Err(if method.needs_secret() {
                HandshakeError::WrongSecret { method }
            } else {
                HandshakeError::WrongToken { method }
            });
        }
        let accepted = framing_named(framing).filter(|name| config.framings.contains(name));
        let framing = accepted.ok_or_else(|| HandshakeError::FramingRefused {
            framing: printable(framing),
            we_accept: names(&config.framings),
        })?;
        Ok((method, framing))
    }
}

/// The peer has proven itself. What is left in the buffer are its first packets or raw data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authenticated {
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
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// Whether the peer authenticated by `tls_anon`, which leaves the greetings unproven.
    pub untrusted: bool,
}

fn framing_named(name: &[u8]) -> Option<Framing> {
    std::str::from_utf8(name).ok().and_then(Framing::from_name)
}

fn names(framings: &[Framing]) -> String {
    framings.iter().map(|framing| framing.name()).collect::<Vec<_>>().join(",")
}

/// Lines as they are hashed: each with LF, whatever ended it on the wire.
fn lines(lines: &[&[u8]]) -> Vec<u8> {
    lines.iter().flat_map(|line| [*line, b"\n"].concat()).collect()
}

/// Puts lines together that arrive in pieces, and never keeps more than one line may have.
#[derive(Debug)]
struct LineReader {
    partial: Vec<u8>,
    limit: usize,
}

impl LineReader {
    fn new(limit: usize) -> LineReader {
        LineReader { partial: Vec::new(), limit }
    }

    /// The next line without its line end, or nothing after all input is taken.
    fn line(&mut self, input: &mut impl Buf) -> Result<Option<Vec<u8>>, HandshakeError> {
        while input.has_remaining() {
            let line_end = memchr::memchr(b'\n', input.chunk());
            let taken = line_end.map_or(input.chunk().len(), |position| position + 1);
            if self.partial.len() + taken > self.limit {
                return Err(HandshakeError::LineTooLong { limit: self.limit });
            }
            self.partial.put((&mut *input).take(taken));
            if line_end.is_some() {
                let mut line = std::mem::take(&mut self.partial);
                line.pop();
                line.pop_if(|octet| *octet == b'\r');
                return Ok(Some(line));
            }
        }
        Ok(None)
    }
}
