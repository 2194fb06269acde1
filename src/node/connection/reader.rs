//! The receiving side of a connection: dispatches what the socket receives to ports, in order.

use crate::node::core::Shared;
use crate::node::error::ConnectionError;
use crate::node::lanes::SharedLane;
use crate::node::long_work::without_keeping_others;
use crate::node::node_packets::NodePackets;
use crate::value::{Elements, NodeId, StrRef};
use crate::wire::framing::{Decoder, Step};
use crate::wire::packet::Packet;
use std::cell::Cell;
use std::future::{Future as _, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, ReadBuf};

/// Octets that one read may return.
const READ_SIZE: usize = 64 << 10;

/// Packets after which a reader that reads without a pause has the runtime poll its sockets, at the end of a
/// read.
const PACKETS_PER_POLL: u64 = 1024;

/// The time after which it does so although there were fewer packets.
const TIME_PER_POLL: Duration = Duration::from_millis(1);

/// Work on at least this many octets may occupy a thread for more than a few milliseconds.
const LONG_WORK: usize = 256 << 10;

/// How long the requests of one peer occupy a thread before other connections get it.
pub(super) const TURN: Duration = Duration::from_millis(1);

/// Where packets come from.
pub(super) type Input = Box<dyn AsyncRead + Send + Unpin>;

thread_local! {
    /// The read buffer of this thread, lent to whichever connection is being read, so that idle
    /// connections hold no buffer.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The receiving side of a connection.
pub(super) struct Reader {
    pub(super) shared: Arc<Shared>,
    pub(super) node: NodeId,
    pub(super) input: Input,
    /// The beginning of a packet whose rest has not arrived.
    pub(super) unread: Vec<u8>,
    pub(super) decoder: Decoder,
    pub(super) packets: u64,
    pub(super) lane: Arc<SharedLane>,
    /// Set when the connection is given up: no more packets are taken from it.
    pub(super) over: Arc<AtomicBool>,
    /// How long the peer's requests may occupy the thread at a stretch; see [`TURN`].
    pub(super) turn: Duration,
    /// The reader stopped to let other tasks run, not for want of octets.
    pub(super) has_more: bool,
    /// The value of `packets`, and the node's uptime, when the runtime was last made to poll its sockets.
    pub(super) sockets_polled_at: (u64, Duration),
}

/// How far octets were dispatched.
struct Dispatched {
    /// The octets of the packets that were handed over.
    used: usize,
    /// What follows may contain a complete packet, which has to wait for its turn.
    is_paused: bool,
}

impl Reader {
    /// Reads and dispatches until the connection ends, and returns the reason.
    pub(super) async fn read(&mut self) -> ConnectionError {
        poll_fn(|cx| self.poll(cx)).await
    }

    /// As [`Reader::read`], but ends as soon as nothing more is available.
    pub(super) async fn read_rest(&mut self) -> ConnectionError {
        poll_fn(|cx| match self.poll(cx) {
            Poll::Pending if !self.has_more => Poll::Ready(ConnectionError::Closed),
            poll => poll,
        })
        .await
    }

    /// Reads and dispatches until nothing is available. Ready when the connection has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionError> {
        if !self.unread.is_empty() {
            // Packets may have arrived together with the last line of the handshake.
            let unread = std::mem::take(&mut self.unread);
            match self.keep_rest(unread) {
                Err(error) => return Poll::Ready(error),
                Ok(is_paused) if is_paused => return self.pause(cx),
                Ok(_) => {}
            }
        }
        loop {
            let had = self.unread.len();
            let read = if had <= READ_SIZE {
                // What is read goes after the beginning of a packet that is already there.
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
                    _ => Ok(false),
                };
                SCRATCH.set(scratch);
                match rest {
                    Err(error) => return Poll::Ready(error),
                    Ok(is_paused) if is_paused => return self.pause(cx),
                    Ok(_) => {}
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
                } else {
                    match self.keep_rest(unread) {
                        Err(error) => return Poll::Ready(error),
                        Ok(is_paused) if is_paused => return self.pause(cx),
                        Ok(_) => {}
                    }
                }
                read
            };
            self.has_more = false;
            match read {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(error),
                Poll::Ready(Ok(0)) => return Poll::Ready(ConnectionError::Closed),
                Poll::Ready(Ok(READ_SIZE)) => {
                    // More is available; let other tasks run first.
                    self.has_more = true;
                    let now = self.shared.uptime();
                    let (packets, polled_at) = self.sockets_polled_at;
                    if self.packets - packets < PACKETS_PER_POLL
                        && now.saturating_sub(polled_at) < TIME_PER_POLL
                    {
                        cx.waker().wake_by_ref();
                    } else {
                        self.sockets_polled_at = (self.packets, now);
                        wake_after_sockets(cx);
                    }
                    return Poll::Pending;
                }
                Poll::Ready(Ok(_)) => {}
            }
        }
    }

    /// The peer's turn is over: other tasks run first, and other connections are read.
    fn pause<T>(&mut self, cx: &mut Context<'_>) -> Poll<T> {
        self.has_more = true;
        self.sockets_polled_at = (self.packets, self.shared.uptime());
        wake_after_sockets(cx);
        Poll::Pending
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
            // Perl closes TLS connections without an alert.
            Poll::Ready(Err(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                Poll::Ready(Ok(0))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Dispatches the complete packets in `buffer` and keeps the rest. Returns whether it is paused.
    fn dispatch_from(&mut self, buffer: &[u8], len: usize) -> Result<bool, ConnectionError> {
        let octets = buffer.get(..len).unwrap_or_default();
        let Dispatched { used, is_paused } = self.dispatch(octets)?;
        let rest = octets.get(used..).unwrap_or_default();
        self.unread.clear();
        if rest.is_empty() {
            // An idle connection holds no buffer.
            self.unread = Vec::new();
        } else {
            self.unread.extend_from_slice(rest);
        }
        Ok(is_paused)
    }

    /// As [`Reader::dispatch_from`], for octets that were kept.
    fn keep_rest(&mut self, octets: Vec<u8>) -> Result<bool, ConnectionError> {
        let Dispatched { used, is_paused } = self.dispatch(&octets)?;
        self.unread = match used {
            0 => octets,
            // The room of a large packet is not kept for the beginning of the next one.
            _ => octets.get(used..).unwrap_or_default().to_vec(),
        };
        Ok(is_paused)
    }

    /// Hands the complete packets to their ports, in order, until the peer's turn is over.
    fn dispatch(&mut self, octets: &[u8]) -> Result<Dispatched, ConnectionError> {
        let before = self.packets;
        let dispatched = match octets.len() {
            ..=LONG_WORK => self.dispatch_some(octets),
            _ => without_keeping_others(|| self.dispatch_some(octets)),
        };
        // Counted once per read, not per packet, which makes the cost too small to measure.
        let octets = dispatched.as_ref().map_or(octets.len(), |dispatched| dispatched.used);
        self.lane.received.count(self.packets - before, octets as u64);
        dispatched
    }

    fn dispatch_some(&mut self, octets: &[u8]) -> Result<Dispatched, ConnectionError> {
        let mut at = 0;
        let shared = self.shared.clone();
        let mut for_kernel = shared.node_packets(self.turn);
        loop {
            if self.over.load(Ordering::Relaxed) {
                return Ok(Dispatched { used: octets.len(), is_paused: false });
            }
            if for_kernel.turn_is_over() && at < octets.len() {
                return Ok(Dispatched { used: at, is_paused: true });
            }
            let rest = octets.get(at..).unwrap_or_default();
            if let Some(mut run) = self.decoder.packet_run(rest)
                && shared.settings.trace.is_none()
            {
                for_kernel.settle();
                let (port, over) = (run.port(), &self.over);
                let mut messages = run.by_ref().take_while(|_| !over.load(Ordering::Relaxed));
                shared.deliver_all(port, &self.node, &mut messages);
                at += run.used();
                self.packets += run.packets();
                continue;
            }
            let number = self.packets + 1;
            match self.decoder.next(rest).map_err(|error| garbage(number, &error))? {
                Step::More { used } => {
                    return Ok(Dispatched { used: at + used, is_paused: false });
                }
                Step::Packet { used, elements } => {
                    at += used;
                    let from = &self.node;
                    if let Some((port, message)) = Packet::read_usual(elements) {
                        hand_over(&mut for_kernel, from, port, message);
                    } else if let Packet::Message { port, elements } =
                        Packet::read(elements).map_err(|error| garbage(number, &error))?
                    {
                        hand_over(&mut for_kernel, from, port.as_str(), elements);
                    }
                    self.packets = number;
                }
            }
        }
    }
}

/// Has this task woken after other ready tasks have run and the runtime has polled its sockets.
///
/// A task that calls its waker instead is run again before that: while no other thread of the runtime
/// waits for the sockets, tokio polls them once in 61 turns, and each turn here may take a millisecond.
/// Doing this each time would be slower, since it wakes another thread of the runtime.
fn wake_after_sockets(cx: &mut Context<'_>) {
    // The first poll of this future, which is always pending, does that.
    let _ = pin!(tokio::task::yield_now()).poll(cx);
}

fn garbage(number: u64, problem: &dyn std::error::Error) -> ConnectionError {
    ConnectionError::Garbage { number, problem: problem.to_string() }
}

/// Hands one message to the kernel or to its port.
#[inline]
fn hand_over(
    for_kernel: &mut NodePackets<'_>,
    from: &NodeId,
    port: StrRef<'_>,
    message: Elements<'_>,
) {
    let shared = for_kernel.shared();
    if shared.traces() {
        // The kernel may still be locked for what came before.
        for_kernel.settle();
        shared.trace_received(from, port, message);
    }
    if port.is_empty() {
        for_kernel.push(from, message);
    } else {
        for_kernel.settle();
        shared.deliver(port, from, message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{Node, Port};
    use crate::value::packed::{self, Elements};
    use crate::wire::framing::{Framing, FramingLimits, encode};
    use std::io::Cursor;
    use std::sync::atomic::AtomicUsize;
    use std::task::Waker;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixStream;

    #[tokio::test]
    async fn other_sockets_are_served_before_a_busy_task_goes_on() {
        let (mut near, mut far) = UnixStream::pair().unwrap();
        let turns = Arc::new(AtomicUsize::new(0));
        let counted = turns.clone();
        let other = tokio::spawn(async move {
            let mut served = Vec::new();
            while far.read_u8().await.is_ok() {
                served.push(counted.load(Ordering::Relaxed));
            }
            served
        });
        let busy = tokio::spawn(async move {
            for _ in 0..5 {
                near.write_u8(1).await.unwrap();
                for _ in 0..100 {
                    let mut waited = false;
                    poll_fn(|cx| {
                        if std::mem::replace(&mut waited, true) {
                            return Poll::Ready(());
                        }
                        wake_after_sockets(cx);
                        Poll::Pending
                    })
                    .await;
                    turns.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        busy.await.unwrap();
        // In the turn after it was written to, or in the next one; of 100 turns for each octet.
        let turns: Vec<usize> = other.await.unwrap().iter().map(|turn| turn % 100).collect();
        assert!(turns.len() == 5 && turns.iter().all(|&turn| turn < 2), "{turns:?}");
    }

    const PACKETS: u64 = 1000;

    /// `["", "snd", PORT, NUMBER]` for each number.
    fn relays(port: &Port) -> Vec<u8> {
        let mut wire = Vec::new();
        for number in 0..PACKETS {
            let mut packet = Vec::new();
            packed::put_text(&mut packet, "");
            packed::put_text(&mut packet, "snd");
            packed::put_text(&mut packet, &port.id().to_string());
            packed::put_uint(&mut packet, number);
            encode(Framing::Cbor, Elements::new(4, &packet), &mut wire).unwrap();
        }
        wire
    }

    fn received(port: &mut Port) -> Vec<u64> {
        let next = || port.try_recv().unwrap();
        std::iter::from_fn(next).map(|message| message.decode::<(u64,)>().unwrap().0).collect()
    }

    /// A node with a port, and a reader that gets all relays in one read, with a turn of `turn`.
    async fn reader(turn: Duration) -> (Node, Node, Port, Reader) {
        let builder = |id: &str| Node::builder().node_id(id).secret("secret");
        let node = builder("node").bind("127.0.0.1:0").start().await.unwrap();
        let seed = node.addresses().first().unwrap().to_string();
        let peer = builder("peer").seed(&seed).start().await.unwrap();
        peer.joined().await;
        let port = node.port();
        let reader = Reader {
            shared: node.shared().clone(),
            node: peer.id().clone(),
            input: Box::new(Cursor::new(relays(&port))),
            unread: Vec::new(),
            decoder: Decoder::new(Framing::Cbor, FramingLimits::default()),
            packets: 0,
            lane: node.shared().lanes.of(peer.id()),
            over: Arc::default(),
            turn,
            has_more: false,
            sockets_polled_at: (0, Duration::ZERO),
        };
        (node, peer, port, reader)
    }

    #[tokio::test]
    async fn after_at_most_64_requests_other_connections_get_the_thread_if_the_turn_is_over() {
        let (_node, _peer, mut port, mut reader) = reader(Duration::ZERO).await;
        let mut all = Vec::new();
        loop {
            let poll = reader.poll(&mut Context::from_waker(Waker::noop()));
            assert_eq!(reader.has_more, poll.is_pending());
            let some = received(&mut port);
            assert!((1..=64).contains(&some.len()), "{}", some.len());
            all.extend(some);
            if poll.is_ready() {
                break;
            }
        }
        assert!(all.into_iter().eq(0..PACKETS));
    }

    #[tokio::test]
    async fn requests_are_handled_together_within_a_turn() {
        let (_node, _peer, mut port, mut reader) = reader(Duration::from_secs(3600)).await;
        let poll = reader.poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(poll, Poll::Ready(ConnectionError::Closed)), "{poll:?}");
        assert!(received(&mut port).into_iter().eq(0..PACKETS));
    }

    #[tokio::test]
    async fn the_rest_of_a_broken_connection_is_read_whatever_the_turns() {
        let (_node, _peer, mut port, mut reader) = reader(Duration::ZERO).await;
        assert!(matches!(reader.read_rest().await, ConnectionError::Closed));
        assert!(received(&mut port).into_iter().eq(0..PACKETS));
    }
}
