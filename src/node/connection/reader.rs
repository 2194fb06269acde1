//! The receiving side of a connection: dispatches what the socket receives to ports, in order.

use crate::node::core::Shared;
use crate::node::error::ConnectionError;
use crate::node::lanes::SharedLane;
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
use tokio::io::{AsyncRead, ReadBuf};
use tokio::runtime::{Handle, RuntimeFlavor};

/// Octets that one read may return.
const READ_SIZE: usize = 64 << 10;

/// Packets that are dispatched before the reader has the runtime poll its sockets, at the end of a read.
const PACKETS_PER_POLL: u64 = 1024;

/// Work on at least this many octets may occupy a thread for more than a few milliseconds.
const LONG_WORK: usize = 256 << 10;

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
    /// The last read filled the buffer, so the reader stopped to let other tasks run, not for want
    /// of octets.
    pub(super) has_more: bool,
    /// The value of `packets` when the runtime was last made to poll its sockets.
    pub(super) sockets_polled_at: u64,
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
            if let Err(error) = self.keep_rest(unread) {
                return Poll::Ready(error);
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
                    // More is available; let other tasks run first.
                    if self.packets - self.sockets_polled_at < PACKETS_PER_POLL {
                        cx.waker().wake_by_ref();
                    } else {
                        self.sockets_polled_at = self.packets;
                        wake_after_sockets(cx);
                    }
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
            // Perl closes TLS connections without an alert.
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
            // An idle connection holds no buffer.
            self.unread = Vec::new();
        } else {
            self.unread.extend_from_slice(rest);
        }
        Ok(())
    }

    /// Dispatches the complete packets in `octets` and keeps the rest.
    fn keep_rest(&mut self, octets: Vec<u8>) -> Result<(), ConnectionError> {
        let used = self.dispatch(&octets)?;
        self.unread = match used {
            0 => octets,
            // The room of a large packet is not kept for the beginning of the next one.
            _ => octets.get(used..).unwrap_or_default().to_vec(),
        };
        Ok(())
    }

    /// Hands every complete packet to its port, in order. Returns how many octets were used.
    fn dispatch(&mut self, octets: &[u8]) -> Result<usize, ConnectionError> {
        let before = self.packets;
        let used = match octets.len() {
            ..=LONG_WORK => self.dispatch_all(octets),
            _ => without_keeping_others(|| self.dispatch_all(octets)),
        };
        // Counted once per read, not per packet, which makes the cost too small to measure.
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
                Step::More { used } => return Ok(at + used),
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
/// waits for the sockets, tokio polls them once in 61 turns, and each turn here may dispatch thousands of
/// packets. Doing this each time would be slower, since it wakes another thread of the runtime.
fn wake_after_sockets(cx: &mut Context<'_>) {
    // The first poll of this future, which is always pending, does that.
    let _ = pin!(tokio::task::yield_now()).poll(cx);
}

/// Performs work that may take long while another thread runs the other tasks of this one. On a
/// runtime with a single thread, the other tasks wait.
fn without_keeping_others<R>(work: impl FnOnce() -> R) -> R {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
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
    use std::sync::atomic::AtomicUsize;
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
}
