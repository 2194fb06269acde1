//! One connection: handshake, then packets in, in order, and packets out.

use super::core::Shared;
use super::error::ConnectionError;
use super::lanes::SharedLane;
use super::lobby::{Guest, and_others};
use super::metrics::Outcome;
use super::socket;
use super::tls::{self, Rewind};
use crate::kernel::{AuthOrder, Authenticated as Proven, Chunk, ConnId, PeerGreeting};
use crate::services::streams;
use crate::value::{NodeId, Str};
use crate::wire::auth::Nonce;
use crate::wire::framing::{Decoder, Framing, Step};
use crate::wire::greeting::printable;
use crate::wire::handshake::{
    Authenticated, Authenticating, Connection, Greeted, Handshake, HandshakeError, Proceed,
    Progress,
};
use crate::wire::packet::Packet;
use bytes::BytesMut;
use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
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

/// How much is read at a time.
const READ_SIZE: usize = 64 << 10;

/// How much of what comes while a connection is held is kept: more than an honest peer sends.
const HELD_SIZE: usize = 8 << 10;

type Input = Box<dyn AsyncRead + Send + Unpin>;

/// Where packets are written to.
enum Output {
    /// Senders write to it themselves, too.
    Plain(Arc<OwnedWriteHalf>),
    Tls(Box<dyn AsyncWrite + Send + Unpin>),
}

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
                ConnectionError::Connect { .. } => tracing::info!(node = %own, "{why}"),
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
            why = std::future::poll_fn(|cx| reader.poll(cx)) => why,
            () = broken.notified() => {
                // What the peer sent before still counts.
                std::future::poll_fn(|cx| match reader.poll(cx) {
                    Poll::Ready(why) => Poll::Ready(why),
                    Poll::Pending if reader.has_more => Poll::Pending,
                    Poll::Pending => Poll::Ready(ConnectionError::Closed),
                }).await
            }
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

/// Writes what the lane has, as much at once as there is.
async fn write(mut output: Output, lane: Arc<SharedLane>, generation: u64, broken: Arc<Notify>) {
    if let Output::Plain(output) = &output {
        lane.share_output(generation, output.clone());
    }
    loop {
        let Some(mut chunk) = lane.take(generation) else {
            if lane.is_over(generation) {
                return;
            }
            lane.wait_for_packets().await;
            continue;
        };
        let written = output.write_all(&mut chunk).await;
        lane.give_back(generation, chunk);
        if written.is_err() {
            return broken.notify_one();
        }
    }
}

impl Output {
    async fn write_all(&mut self, chunk: &mut Chunk) -> std::io::Result<()> {
        match self {
            Output::Plain(output) => {
                while !chunk.unwritten().is_empty() {
                    match output.try_write(chunk.unwritten()) {
                        Ok(0) => return Err(std::io::ErrorKind::WriteZero.into()),
                        Ok(written) => chunk.advance(written),
                        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                            output.writable().await?;
                        }
                        Err(error) => return Err(error),
                    }
                }
                Ok(())
            }
            Output::Tls(output) => {
                output.write_all(chunk.unwritten()).await?;
                output.flush().await?;
                chunk.advance(chunk.unwritten().len());
                Ok(())
            }
        }
    }
}

thread_local! {
    /// Idle connections hold no buffer: this one is lent to whoever reads.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The receiving side of a connection.
struct Reader {
    shared: Arc<Shared>,
    node: NodeId,
    input: Input,
    /// The beginning of a packet whose rest has not come.
    unread: Vec<u8>,
    decoder: Decoder,
    packets: u64,
    lane: Arc<SharedLane>,
    over: Arc<AtomicBool>,
    /// The last read was full: it stopped to give others their turn, not for want of octets.
    has_more: bool,
}

impl Reader {
    /// Reads and dispatches until nothing is there; ready when the connection has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionError> {
        if !self.unread.is_empty() {
            // Packets may have come together with the handshake's last line.
            let unread = std::mem::take(&mut self.unread);
            if let Err(error) = self.keep_rest(unread) {
                return Poll::Ready(error);
            }
        }
        loop {
            let had = self.unread.len();
            let read = if had <= READ_SIZE {
                // The beginning that is there stands before what is read.
                let mut scratch = SCRATCH.take();
                scratch.resize(2 * READ_SIZE, 0);
                let read = self.poll_into(cx, &mut scratch, had);
                let rest = match read {
                    Poll::Ready(Ok(len)) if len > 0 => {
                        if let Some(start) = scratch.get_mut(..had) {
                            start.copy_from_slice(&self.unread);
                        }
                        self.dispatch_from(&scratch, had + len)
                    }
                    _ => Ok(()),
                };
                SCRATCH.set(scratch);
                if let Err(error) = rest {
                    return Poll::Ready(error);
                }
                read
            } else {
                let mut unread = std::mem::take(&mut self.unread);
                unread.resize(had + READ_SIZE, 0);
                let read = self.poll_into(cx, &mut unread, had);
                let got = match read {
                    Poll::Ready(Ok(len)) => len,
                    _ => 0,
                };
                unread.truncate(had + got);
                if got == 0 {
                    self.unread = unread;
                } else if let Err(error) = self.keep_rest(unread) {
                    return Poll::Ready(error);
                }
                read
            };
            self.has_more = matches!(read, Poll::Ready(Ok(READ_SIZE)));
            match read {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(error),
                Poll::Ready(Ok(0)) => return Poll::Ready(ConnectionError::Closed),
                Poll::Ready(Ok(READ_SIZE)) => {
                    // There is more; others have their turn first.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Ready(Ok(_)) => {}
            }
        }
    }

    fn poll_into(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
        from: usize,
    ) -> Poll<Result<usize, ConnectionError>> {
        let room = buffer.get_mut(from..from + READ_SIZE).unwrap_or_default();
        let mut buffer = ReadBuf::new(room);
        match Pin::new(&mut self.input).poll_read(cx, &mut buffer) {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(buffer.filled().len())),
            // Perl closes TLS connections without a word.
            Poll::Ready(Err(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                Poll::Ready(Ok(0))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
            Poll::Pending => Poll::Pending,
        }
    }

    fn dispatch_from(&mut self, buffer: &[u8], len: usize) -> Result<(), ConnectionError> {
        let octets = buffer.get(..len).unwrap_or_default();
        let used = self.dispatch(octets)?;
        let rest = octets.get(used..).unwrap_or_default();
        self.unread.clear();
        if rest.is_empty() {
            // Idle connections hold no buffer.
            self.unread = Vec::new();
        } else {
            self.unread.extend_from_slice(rest);
        }
        Ok(())
    }

    /// Dispatches what is complete in `octets` and keeps the rest.
    fn keep_rest(&mut self, mut octets: Vec<u8>) -> Result<(), ConnectionError> {
        let used = self.dispatch(&octets)?;
        if used < octets.len() {
            octets.drain(..used);
            self.unread = octets;
        }
        Ok(())
    }

    /// Hands every complete packet to its port, in order. Returns how many octets were used.
    fn dispatch(&mut self, octets: &[u8]) -> Result<usize, ConnectionError> {
        let before = self.packets;
        let used = self.dispatch_all(octets);
        // Once for each read, not for each packet: that costs nothing one could measure.
        let octets = *used.as_ref().unwrap_or(&octets.len());
        self.lane.received.count(self.packets - before, octets as u64);
        used
    }

    fn dispatch_all(&mut self, octets: &[u8]) -> Result<usize, ConnectionError> {
        let mut at = 0;
        let shared = self.shared.clone();
        let mut for_kernel = shared.node_packets();
        loop {
            if self.over.load(Ordering::Relaxed) {
                return Ok(octets.len());
            }
            let rest = octets.get(at..).unwrap_or_default();
            if let Some(mut streak) = self.decoder.streak(rest)
                && !shared.settings.trace
            {
                for_kernel.settle();
                let (port, over) = (streak.port(), &self.over);
                let mut messages = streak.by_ref().take_while(|_| !over.load(Ordering::Relaxed));
                shared.deliver_all(port, &self.node, &mut messages);
                at += streak.used();
                self.packets += streak.packets();
                continue;
            }
            let garbage =
                |problem: String| ConnectionError::Garbage { number: self.packets + 1, problem };
            match self.decoder.next(rest).map_err(|error| garbage(error.to_string()))? {
                Step::More { used } => return Ok(at + used),
                Step::Packet { used, elements } => {
                    at += used;
                    let packet =
                        Packet::read(elements).map_err(|error| garbage(error.to_string()))?;
                    self.packets += 1;
                    if let Packet::Message { port, elements } = packet {
                        let port = port.as_str();
                        shared.trace_received(&self.node, port, elements);
                        if port.is_empty() {
                            for_kernel.push(&self.node, elements);
                        } else {
                            for_kernel.settle();
                            shared.deliver(port, &self.node, elements);
                        }
                    }
                }
            }
        }
    }
}
