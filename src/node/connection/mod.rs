//! One connection: its session, then packets in both directions, in order.

mod accept;
mod channel;
mod liveness;
pub(super) mod orders;
pub(super) mod pending;
mod reader;
pub(super) mod repeats;
pub(crate) mod socket;
pub mod streams;
pub mod tls;
mod writer;

use self::liveness::Liveness;
use self::orders::{Control, Orders};
use self::reader::{Input, Reader};
use self::tls::TlsError;
use self::writer::{Output, write};
use super::core::Shared;
use super::counters::HandshakeOutcome;
use super::error::ConnectionError;
use super::lanes::SharedLane;
use super::log::debug_is_logged;
use crate::kernel::{Authenticated as Proven, ConnId, Level, Origin, PeerGreeting, cut_line};
use crate::value::{NodeId, Str};
use crate::wire::auth::Nonce;
use crate::wire::greeting::{G_GET, INSTANCE, printable};
use crate::wire::protection::{Protection, WhyPlain};
use crate::wire::session::{
    Agreement, AuthOrder, Connection, Event, HandshakeError, Packets, Session,
};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::Notify;

pub(crate) use self::accept::accept;
pub(crate) use self::channel::{Channel, Stream, read};
pub(crate) use self::pending::{PendingHandshake, and_others};

/// Dials `address`, and serves the connection if there is one.
pub(crate) fn dial(shared: &Arc<Shared>, id: ConnId, address: &Str, orders: Orders) {
    let address = address.to_text_lossy().into_owned();
    let mut task =
        Task { shared: shared.clone(), id, orders, address, pending: None, node: None, up: false };
    shared.runtime.spawn(async move {
        let ended = task.shared.ended.clone();
        let why = tokio::select! {
            why = task.dial() => why,
            () = ended.cancelled() => shutdown(),
        };
        task.report(&why, true);
    });
}

/// Serves an incoming connection.
fn serve(shared: &Arc<Shared>, stream: TcpStream, address: String, pending: PendingHandshake) {
    let (id, orders) = shared.accepted();
    let mut task = Task {
        shared: shared.clone(),
        id,
        orders,
        address,
        pending: Some(pending),
        node: None,
        up: false,
    };
    shared.runtime.spawn(async move {
        let ended = task.shared.ended.clone();
        let why = tokio::select! {
            why = task.serve(stream, false) => why,
            () = ended.cancelled() => shutdown(),
        };
        task.report(&why, false);
    });
}

fn shutdown() -> ConnectionError {
    ConnectionError::Refused("this node is shutting down".to_owned())
}

/// A random nonce, which no other connection uses.
pub(crate) fn random_nonce() -> Result<Nonce, ConnectionError> {
    let mut nonce = [0; Nonce::OCTETS];
    getrandom::fill(&mut nonce)
        .map_err(|error| ConnectionError::Refused(format!("no randomness: {error}")))?;
    Ok(Nonce::from_random(&nonce))
}

struct Task {
    shared: Arc<Shared>,
    id: ConnId,
    orders: Orders,
    /// The peer's address, for the log.
    address: String,
    /// Its place among the pending handshakes, if we did not dial.
    pending: Option<PendingHandshake>,
    /// The ID that the peer claims.
    node: Option<NodeId>,
    up: bool,
}

impl Task {
    /// Tells the kernel and the log how the connection ended.
    fn report(&self, why: &ConnectionError, dialled: bool) {
        let shared = &self.shared;
        if !self.up {
            shared.counters.handshake_ended(dialled, HandshakeOutcome::of(why));
        }
        if !self.up && !shared.ended.is_cancelled() {
            let name = self.node.as_ref().map(|node| printable(node.as_str().data()));
            let node = name.map(|name| format!(" (node {name})")).unwrap_or_default();
            let (address, own) = (&self.address, &shared.id);
            match why {
                // The kernel logs unreachable seeds and nodes itself, once and then rarely.
                ConnectionError::Connect { .. } => tracing::debug!(node = %own, "{why}"),
                ConnectionError::Refused(_) | ConnectionError::HandedOver => {
                    tracing::debug!(node = %own, "connection with {address}{node} closed: {why}");
                }
                // The peer closed this one because there are two connections between the same
                // nodes.
                ConnectionError::Handshake(
                    HandshakeError::ClosedWhileHeld | HandshakeError::ClosedInAuthentication,
                ) if self.is_spare() => {
                    tracing::debug!(node = %own, "connection with {address}{node} closed: {why}");
                }
                _ if dialled && !self.is_news(why) => {
                    tracing::debug!(node = %own, "no connection to {address}{node}: {why}");
                }
                // Peers can cause these lines at will, with the addresses that they announce or by
                // being refused, so their rate is limited.
                _ => {
                    let unlogged = match dialled {
                        true => shared.pending.may_log(Instant::now()),
                        false => shared.pending.refused(),
                    };
                    if let Some(others) = unlogged.map(and_others) {
                        let what = if dialled { "no connection to" } else { "refused" };
                        tracing::warn!(node = %own, "{what} {address}{node}: {why}{others}");
                    }
                }
            }
        }
        shared.closed(self.id, &why.to_string());
    }

    /// Whether this failure to dial the address should be logged: it is new, or was last logged
    /// long ago.
    fn is_news(&self, why: &ConnectionError) -> bool {
        self.shared.failed_dials.is_due(&self.address, &why.to_string(), Instant::now())
    }

    /// Whether another connection with the node that the peer claims to be exists.
    fn is_spare(&self) -> bool {
        let node = self.node.as_ref();
        node.is_some_and(|node| self.shared.kernel(|kernel| kernel.is_spare(self.id, node)))
    }

    async fn dial(&mut self) -> ConnectionError {
        let address = self.address.clone();
        let connected = socket::connect(&address, self.shared.settings.monitor_timeout);
        let stream = tokio::select! {
            connected = connected => connected,
            reason = self.orders.closed() => return ConnectionError::Refused(reason),
        };
        match stream {
            Ok(stream) => self.serve(stream, true).await,
            Err(error) => error,
        }
    }

    /// Serves the connection until it ends, and returns the reason.
    async fn serve(&mut self, stream: TcpStream, dialled: bool) -> ConnectionError {
        socket::configure(&stream, &self.shared.settings);
        let limit = self.shared.settings.monitor_timeout;
        let displaced = self.pending.as_mut().map(PendingHandshake::displaced);
        let displaced = async {
            match displaced {
                Some(displaced) => displaced.await,
                None => std::future::pending().await,
            }
        };
        // Boxed so that the memory of a handshake (13 KiB) is freed when it has ended, and is no part of
        // the connection's task.
        let turns = self.shared.handshake_turns.clone();
        let handshake = Box::pin(turns.run(self.establish(stream, dialled)));
        let established = tokio::select! {
            biased;
            () = displaced => return ConnectionError::Displaced,
            established = tokio::time::timeout(limit, handshake) => established,
        };
        self.pending = None;
        match established {
            Err(_) => ConnectionError::HandshakeTimeout(limit),
            Ok(Err(error)) => {
                if matches!(error, ConnectionError::HandedOver) {
                    self.up = true;
                    self.shared.counters.handshake_ended(dialled, HandshakeOutcome::Data);
                }
                error
            }
            Ok(Ok(ready)) => {
                self.up = true;
                self.shared.counters.handshake_ended(dialled, HandshakeOutcome::Up);
                if dialled {
                    self.shared.failed_dials.connected(&self.address);
                }
                let why = self.exchange(ready).await;
                self.shared.counters.lost();
                why
            }
        }
    }

    /// Runs the handshake, up to the point where packets begin.
    async fn establish(
        &mut self,
        stream: TcpStream,
        dialled: bool,
    ) -> Result<Ready, ConnectionError> {
        let nonce = random_nonce()?;
        let handshaker = &self.shared.settings.handshaker;
        let ends = socket::ends(&stream, &self.address);
        let session = match dialled {
            true => handshaker.dial(nonce, ends),
            false => handshaker.listen(nonce, ends),
        };
        self.shared.kernel(|kernel| kernel.greeting_sent(self.id, session.own_greeting()));
        let mut channel = Channel::new(stream, session);
        loop {
            match self.orders.unless_closed(channel.event()).await {
                Ok(Event::Greeted) => {
                    if let Some(Connection::Data { id }) = channel.session().connection() {
                        // A data connection carries no packets between nodes, so the mesh does not
                        // know it.
                        let id = Str::octets(id.as_slice());
                        streams::adopt(&self.shared, &id, channel).await?;
                        return Err(ConnectionError::HandedOver);
                    }
                    self.greeted(&channel)?;
                    let order = self.permission(&mut channel).await?;
                    let encryption = &self.shared.settings.encryption;
                    channel = self.orders.unless_closed(channel.proceed(order, encryption)).await?;
                }
                Ok(Event::Proven) => {
                    self.shared.kernel(|kernel| kernel.verified(self.id));
                    self.permission(&mut channel).await?;
                    channel.authenticate();
                }
                Ok(Event::Established(agreement)) => return self.ready(channel, agreement).await,
                // `Channel::proceed` performs TLS, so these events never get here.
                Ok(Event::StartTls { .. } | Event::StartBoundTls { .. }) => {
                    return Err(TlsError::NoIdentity.into());
                }
                Err(ConnectionError::Handshake(error)) => return Err(self.refused(error)),
                Err(error) => return Err(error),
            }
        }
    }

    /// Tells the kernel which node the peer claims to be.
    fn greeted(&mut self, channel: &Channel) -> Result<(), ConnectionError> {
        let greeting = introduced(channel.session())?;
        self.node = Some(greeting.node.clone());
        self.shared.kernel(|kernel| kernel.greeted(self.id, greeting));
        Ok(())
    }

    /// The error for a peer that was refused. If the greeting has our own node ID, the kernel knows
    /// whether we sent it ourselves.
    fn refused(&mut self, error: HandshakeError) -> ConnectionError {
        if let HandshakeError::SameNodeId { greeting, .. } = &error {
            self.node = Some(self.shared.id.clone());
            let why = self.shared.kernel(|kernel| kernel.greeted_with_own_id(self.id, greeting));
            if let Some(why) = why {
                return ConnectionError::Refused(why.to_owned());
            }
        }
        error.into()
    }

    /// Waits until the kernel lets the connection go on, and notices if the peer closes it.
    async fn permission(&mut self, channel: &mut Channel) -> Result<AuthOrder, ConnectionError> {
        tokio::select! {
            biased;
            order = self.orders.next() => match order {
                Control::Proceed(order) => Ok(order),
                other => Err(other.out_of_order()),
            },
            error = channel.watch() => Err(error),
        }
    }

    /// Both sides are authenticated: asks the kernel for the lane.
    async fn ready(
        &mut self,
        channel: Channel,
        agreement: Agreement,
    ) -> Result<Ready, ConnectionError> {
        let settings = &self.shared.settings;
        let (stream, session) = channel.into_parts();
        let (Some(node), Some(packets)) =
            (self.node.clone(), session.into_packets(settings.framing_limits))
        else {
            return Err(ConnectionError::Closed);
        };
        tell_protection(
            &self.shared,
            &node,
            format_args!("connection with {node} ({})", self.address),
            agreement.protection,
        );
        if !self.pending.as_mut().is_none_or(PendingHandshake::is_done) {
            return Err(ConnectionError::Displaced);
        }
        let proven = Proven { untrusted: agreement.untrusted };
        self.shared.established(self.id, agreement.send_framing, agreement.protection, &proven);
        match self.orders.next().await {
            Control::Up { lane, generation } => {
                Ok(Ready { node, stream, packets, lane, generation })
            }
            other => Err(other.out_of_order()),
        }
    }

    /// Packets in both directions, until the connection ends.
    async fn exchange(&mut self, ready: Ready) -> ConnectionError {
        let Ready { node, stream, packets, lane, generation } = ready;
        let mut liveness = Liveness::new(&stream, lane.clone(), generation);
        let (input, output): (Input, Output) = match stream {
            Stream::Plain(stream) => {
                let (input, output) = stream.into_split();
                (Box::new(input), Output::Plain(Arc::new(output)))
            }
            Stream::Tls(established) => {
                let (input, output) = tokio::io::split(established.stream);
                (Box::new(input), Output::Tls(Box::new(output)))
            }
        };
        let broken = Arc::new(Notify::new());
        let writing = write(output, lane.clone(), generation, broken.clone());
        let writer = self.shared.runtime.spawn(writing);
        let (decoder, unread) = packets.into_parts();
        let mut reader = Reader {
            shared: self.shared.clone(),
            node,
            input,
            unread: unread.to_vec(),
            decoder,
            packets: 0,
            lane,
            over: self.orders.over.clone(),
            turn: reader::TURN,
            has_more: false,
            sockets_polled_at: (0, Duration::ZERO),
        };
        // While the reader is busy nothing is reported, since silence proves nothing then.
        let (shared, id) = (&self.shared, self.id);
        let report = |number| {
            // SAFETY: `reader` has a half of the stream.
            let pulse = unsafe { liveness.pulse(number) };
            shared.kernel(|kernel| kernel.pulse(id, number, pulse));
        };
        let why = tokio::select! {
            biased;
            reason = self.orders.report_until_closed(report) => ConnectionError::Refused(reason),
            why = reader.read() => why,
            // What the peer sent before the connection broke still counts.
            () = broken.notified() => reader.read_rest().await,
        };
        writer.abort();
        why
    }
}

/// Logs how a new connection is protected: with a warning if it is not encrypted although the
/// configuration asks for encryption. The line is on account of the peer, which chooses how often it
/// connects.
pub(crate) fn tell_protection(
    shared: &Arc<Shared>,
    peer: &NodeId,
    what: std::fmt::Arguments<'_>,
    protection: Protection,
) {
    let level = match protection {
        Protection::Certificates | Protection::Bound | Protection::Plain(WhyPlain::Local) => {
            Level::Debug
        }
        Protection::Plain(_) if shared.settings.wants_encryption() => Level::Warn,
        Protection::Plain(_) => Level::Info,
    };
    if level == Level::Debug && !debug_is_logged() {
        // Each connection has this line, which would take the kernel's lock to be written by nobody.
        return;
    }
    let text = match protection {
        Protection::Certificates => cut_line(format_args!("{what} is encrypted by certificate")),
        Protection::Bound => cut_line(format_args!("{what} is encrypted and bound to the secret")),
        Protection::Plain(why) => cut_line(format_args!("{what} is not encrypted: {}", why.name())),
    };
    shared.kernel(|kernel| kernel.log_of_peer(peer, Origin::Mesh, level, text));
}

/// What the peer says about itself in its greeting.
pub(crate) fn introduced(session: &Session) -> Result<PeerGreeting, ConnectionError> {
    let peer = session.peer().ok_or(HandshakeError::ClosedInGreeting)?;
    let node = NodeId::new(peer.node_id.as_slice())?;
    let value = |key| Str::octets(peer.written(key).unwrap_or_default());
    let (provider, instance) = (value("provider"), value(INSTANCE));
    Ok(PeerGreeting { node, provider, instance, knows_get: peer.written(G_GET) == Some(b"1") })
}

/// A connection on which packets begin.
struct Ready {
    node: NodeId,
    stream: Stream,
    packets: Packets,
    lane: Arc<SharedLane>,
    generation: u64,
}
