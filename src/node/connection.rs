//! One connection: handshake, then packets in, in order, and packets out.

use super::core::Shared;
use super::error::ConnectionError;
use super::lanes::SharedLane;
use super::lobby::{Guest, and_others};
use super::metrics::Outcome;
use super::reader::{Input, Reader};
use super::socket;
use super::tls::{self, Rewind};
use super::writer::{Output, write};
use crate::kernel::{AuthOrder, Authenticated as Proven, ConnId, PeerGreeting};
use crate::services::streams;
use crate::value::{NodeId, Str};
use crate::wire::auth::Nonce;
use crate::wire::framing::{Decoder, Framing};
use crate::wire::greeting::printable;
use crate::wire::handshake::{
    Authenticated, Authenticating, Connection, Greeted, Handshake, HandshakeError, Proceed,
    Progress,
};
use bytes::BytesMut;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};

/// What the kernel tells a connection's task.
#[derive(Debug)]
pub(crate) enum Control {
    /// The peer has greeted, and may go on.
    Proceed(AuthOrder),
    /// The connection is not wanted any more.
    Close(String),
    /// The connection is its node's only one now, and this its lane.
    Up { lane: Arc<SharedLane>, generation: u64 },
}

/// The task's end of what the kernel tells it.
#[derive(Debug)]
pub(crate) struct Orders {
    pub(crate) orders: mpsc::UnboundedReceiver<Control>,
    /// Set as soon as the connection is given up: nothing more may be taken from it.
    pub(crate) over: Arc<AtomicBool>,
}

/// How much of what comes while a connection is held is kept: more than an honest peer sends.
const HELD_SIZE: usize = 8 << 10;

/// Dials `address`, and serves the connection if there is one.
pub(crate) fn dial(shared: &Arc<Shared>, id: ConnId, address: &Str, orders: Orders) {
    let address = address.to_text_lossy().into_owned();
    let mut task =
        Task { shared: shared.clone(), id, orders, address, guest: None, node: None, up: false };
    shared.runtime.spawn(async move {
        let ended = task.shared.ended.clone();
        let why = tokio::select! {
            why = task.dial() => why,
            () = ended.cancelled() => shutdown(),
        };
        task.report(&why, true);
    });
}

/// Serves a connection that somebody made to us.
pub(crate) fn accept(shared: &Arc<Shared>, stream: TcpStream, address: String, guest: Guest) {
    let (id, orders) = shared.accepted();
    let mut task = Task {
        shared: shared.clone(),
        id,
        orders,
        address,
        guest: Some(guest),
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
    ConnectionError::Refused("this node shuts down".to_owned())
}

/// Octets that no other connection will send.
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
    /// Its place among those that have not authenticated, if it did not dial itself.
    guest: Option<Guest>,
    /// What the peer says it is.
    node: Option<NodeId>,
    up: bool,
}

/// A stream with what was read from it and not used yet.
struct Unread<S> {
    stream: S,
    octets: BytesMut,
}

impl Task {
    /// Tells the kernel and the log how the connection ended.
    fn report(&self, why: &ConnectionError, dialled: bool) {
        let shared = &self.shared;
        if !self.up {
            shared.tally.shaken(dialled, Outcome::of(why));
        }
        if !self.up && !shared.ended.is_cancelled() {
            let name = self.node.as_ref().map(|node| printable(node.as_str().data()));
            let node = name.map(|name| format!(" (node {name})")).unwrap_or_default();
            let (address, own) = (&self.address, &shared.id);
            match why {
                // The kernel says once, and rarely again, which seeds or nodes cannot be reached.
                ConnectionError::Connect { .. } => tracing::debug!(node = %own, "{why}"),
                ConnectionError::Refused(_) => {
                    tracing::debug!(node = %own, "connection with {address}{node} closed: {why}");
                }
                _ if dialled => {
                    tracing::warn!(node = %own, "no connection to {address}{node}: {why}")
                }
                _ => {
                    if let Some(unlogged) = shared.lobby.refused() {
                        let others = and_others(unlogged);
                        tracing::warn!(node = %own, "refused {address}{node}: {why}{others}");
                    }
                }
            }
        }
        shared.closed(self.id, &why.to_string());
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

    /// Serves the connection to its end, and says why it ended.
    async fn serve(&mut self, stream: TcpStream, dialled: bool) -> ConnectionError {
        socket::configure(&stream, &self.shared.settings);
        let limit = self.shared.settings.monitor_timeout;
        let displaced = self.guest.as_mut().map(Guest::displaced);
        let displaced = async {
            match displaced {
                Some(displaced) => displaced.await,
                None => std::future::pending().await,
            }
        };
        let shaken = tokio::select! {
            biased;
            () = displaced => return ConnectionError::Displaced,
            shaken = tokio::time::timeout(limit, self.shake_hands(stream, dialled)) => shaken,
        };
        self.guest = None;
        match shaken {
            Err(_) => ConnectionError::HandshakeTimeout(limit),
            Ok(Err(error)) => error,
            Ok(Ok(Shaken::Data)) => {
                self.up = true;
                self.shared.tally.shaken(dialled, Outcome::Data);
                ConnectionError::Refused("handed over as a data connection".to_owned())
            }
            Ok(Ok(Shaken::Node(mut ready))) => {
                self.up = true;
                self.shared.tally.shaken(dialled, Outcome::Up);
                let why = self.exchange(&mut ready).await;
                self.shared.tally.lost();
                why
            }
        }
    }

    async fn shake_hands(
        &mut self,
        stream: TcpStream,
        dialled: bool,
    ) -> Result<Shaken, ConnectionError> {
        let nonce = random_nonce()?;
        let handshaker = &self.shared.settings.handshaker;
        let handshake = match dialled {
            true => handshaker.dial(nonce, &self.address),
            false => handshaker.listen(nonce, &self.address),
        };
        let mut unread = Unread { stream, octets: BytesMut::new() };
        let greeted = self.greet(&mut unread, handshake).await?;
        if let Connection::Data { id } = greeted.connection() {
            let id = Str::octets(id.as_slice());
            let Unread { stream, octets } = unread;
            streams::adopt(&self.shared, &id, stream, octets, greeted).await?;
            return Ok(Shaken::Data);
        }
        let order = self.hold(&mut unread).await?;
        match greeted.proceed()? {
            Proceed::Authenticate(state) => {
                let agreed = self.authenticate(&mut unread, state, order).await?;
                let (input, output) = unread.stream.into_split();
                let output = Output::Plain(Arc::new(output));
                self.ready(Box::new(input), output, unread.octets, agreed).await
            }
            Proceed::StartTls(state) => {
                let Some(config) = &self.shared.settings.tls else {
                    return Err(ConnectionError::Tls("no certificate".to_owned()));
                };
                let stream = Rewind::new(unread.octets, unread.stream);
                let established = tls::handshake(stream, state.we_are_client(), config)
                    .await
                    .map_err(|error| ConnectionError::Tls(error.to_string()))?;
                let state = state.tls_established(established.peer());
                let mut unread = Unread { stream: established.stream, octets: BytesMut::new() };
                let agreed = self.authenticate(&mut unread, state, order).await?;
                let (input, output) = tokio::io::split(unread.stream);
                let output = Output::Tls(Box::new(output));
                self.ready(Box::new(input), output, unread.octets, agreed).await
            }
        }
    }

    /// Exchanges greetings, and tells the kernel of the peer's.
    async fn greet(
        &mut self,
        unread: &mut Unread<TcpStream>,
        mut handshake: Handshake,
    ) -> Result<Greeted, ConnectionError> {
        let own = handshake.output().to_vec();
        self.shared.kernel(|kernel| kernel.greeting_sent(self.id, &own));
        unread.stream.write_all(&own).await?;
        let greeted = loop {
            match handshake.feed(&mut unread.octets) {
                Ok(Progress::Reached(greeted)) => break greeted,
                Ok(Progress::NeedMore(same)) => handshake = same,
                Err(error) => return Err(self.refused_greeting(error)),
            }
            if unread.stream.read_buf(&mut unread.octets).await? == 0 {
                return Err(handshake.closed().into());
            }
        };
        let peer = greeted.peer();
        let node = NodeId::new(peer.node_id.as_slice())
            .map_err(|error| ConnectionError::Refused(error.to_string()))?;
        self.node = Some(node.clone());
        if let Connection::Data { .. } = greeted.connection() {
            // The mesh knows nothing of it: it is no connection between nodes.
            return Ok(greeted);
        }
        let provider = Str::octets(peer.written("provider").unwrap_or_default());
        let greeting = PeerGreeting { node, provider };
        self.shared.kernel(|kernel| kernel.greeted(self.id, greeting));
        Ok(greeted)
    }

    /// Why a greeting was refused; the kernel knows whether it is one of our own.
    fn refused_greeting(&mut self, error: HandshakeError) -> ConnectionError {
        if let HandshakeError::SameNodeId { greeting, .. } = &error {
            self.node = Some(self.shared.id.clone());
            if self.shared.kernel(|kernel| kernel.greeted_with_own_id(self.id, greeting)) {
                return ConnectionError::Refused("this is ourselves".to_owned());
            }
        }
        error.into()
    }

    /// Waits until the kernel lets the connection go on, and notices if the peer closes it.
    async fn hold(&mut self, unread: &mut Unread<TcpStream>) -> Result<AuthOrder, ConnectionError> {
        loop {
            let room = unread.octets.len() < HELD_SIZE;
            tokio::select! {
                biased;
                order = self.orders.next() => return match order {
                    Control::Proceed(order) => Ok(order),
                    Control::Close(reason) => Err(ConnectionError::Refused(reason)),
                    Control::Up { .. } => Err(ConnectionError::Refused("out of order".to_owned())),
                },
                read = unread.stream.read_buf(&mut unread.octets), if room => {
                    if read? == 0 {
                        return Err(ConnectionError::Closed);
                    }
                }
            }
        }
    }

    async fn authenticate<S>(
        &mut self,
        unread: &mut Unread<S>,
        mut state: Authenticating,
        order: AuthOrder,
    ) -> Result<Authenticated, ConnectionError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let own = state.output().to_vec();
        if order == AuthOrder::Now {
            unread.stream.write_all(&own).await?;
            unread.stream.flush().await?;
        }
        let authenticated = loop {
            match state.feed(&mut unread.octets)? {
                Progress::Reached(authenticated) => break authenticated,
                Progress::NeedMore(same) => state = same,
            }
            tokio::select! {
                biased;
                reason = self.orders.closed() => return Err(ConnectionError::Refused(reason)),
                read = unread.stream.read_buf(&mut unread.octets) => {
                    if read? == 0 {
                        return Err(state.closed().into());
                    }
                }
            }
        };
        if order == AuthOrder::AfterPeer {
            self.shared.kernel(|kernel| kernel.verified(self.id));
            match self.orders.next().await {
                Control::Proceed(_) => {
                    unread.stream.write_all(&own).await?;
                    unread.stream.flush().await?;
                }
                Control::Close(reason) => return Err(ConnectionError::Refused(reason)),
                Control::Up { .. } => return Err(ConnectionError::Refused("out of order".into())),
            }
        }
        Ok(authenticated)
    }

    /// Both sides are authenticated: asks the kernel for the lane.
    async fn ready(
        &mut self,
        input: Input,
        output: Output,
        unread: BytesMut,
        agreed: Authenticated,
    ) -> Result<Shaken, ConnectionError> {
        let Some(node) = self.node.clone() else {
            return Err(ConnectionError::Closed);
        };
        if !agreed.tls && self.shared.settings.tls.is_some() {
            let own = &self.shared.id;
            tracing::warn!(node = %own, "{node} ({}) is not encrypted: it has no TLS", self.address);
        }
        if !self.guest.as_mut().is_none_or(Guest::is_known_now) {
            return Err(ConnectionError::Displaced);
        }
        let proven = Proven { untrusted: agreed.untrusted };
        self.shared.established(self.id, agreed.send_framing, &proven);
        match self.orders.next().await {
            Control::Up { lane, generation } => Ok(Shaken::Node(Ready {
                node,
                input,
                output: Some(output),
                unread,
                framing: agreed.receive_framing,
                lane,
                generation,
            })),
            Control::Close(reason) => Err(ConnectionError::Refused(reason)),
            Control::Proceed(_) => Err(ConnectionError::Refused("out of order".to_owned())),
        }
    }

    /// Packets in both directions, until the connection ends.
    async fn exchange(&mut self, ready: &mut Ready) -> ConnectionError {
        let broken = Arc::new(Notify::new());
        let Some(output) = ready.output.take() else {
            return ConnectionError::Closed;
        };
        let writer = self.shared.runtime.spawn(write(
            output,
            ready.lane.clone(),
            ready.generation,
            broken.clone(),
        ));
        let mut reader = Reader {
            shared: self.shared.clone(),
            node: ready.node.clone(),
            input: std::mem::replace(&mut ready.input, Box::new(tokio::io::empty())),
            unread: std::mem::take(&mut ready.unread).to_vec(),
            decoder: Decoder::new(ready.framing, self.shared.settings.framing_limits),
            packets: 0,
            lane: ready.lane.clone(),
            over: self.orders.over.clone(),
            has_more: false,
        };
        let why = tokio::select! {
            biased;
            reason = self.orders.closed() => ConnectionError::Refused(reason),
            why = reader.read() => why,
            // What the peer sent before still counts.
            () = broken.notified() => reader.read_rest().await,
        };
        writer.abort();
        why
    }
}

impl Orders {
    async fn next(&mut self) -> Control {
        self.orders
            .recv()
            .await
            .unwrap_or_else(|| Control::Close("this node shuts down".to_owned()))
    }

    /// Waits until the connection is given up.
    async fn closed(&mut self) -> String {
        loop {
            if let Control::Close(reason) = self.next().await {
                return reason;
            }
        }
    }
}

/// What a handshake has led to.
enum Shaken {
    Node(Ready),
    /// A data connection, which somebody else has now.
    Data,
}

/// An authenticated connection.
struct Ready {
    node: NodeId,
    input: Input,
    output: Option<Output>,
    unread: BytesMut,
    framing: Framing,
    lane: Arc<SharedLane>,
    generation: u64,
}
