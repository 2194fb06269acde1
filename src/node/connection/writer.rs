//! The sending side of a connection: writes what its lane holds to the socket.

use crate::lane::Chunk;
use crate::node::lanes::SharedLane;
use std::future::poll_fn;
use std::io;
use std::mem;
use std::sync::Arc;
use std::task::Poll;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Notify;

/// Where packets are written to.
pub(super) enum Output {
    /// Senders also write to this one directly.
    Plain(Arc<OwnedWriteHalf>),
    Tls(Box<dyn AsyncWrite + Send + Unpin>),
}

/// Writes what the lane holds, as much at a time as there is.
pub(super) async fn write(
    mut output: Output,
    lane: Arc<SharedLane>,
    generation: u64,
    broken: Arc<Notify>,
) {
    if let Output::Plain(output) = &output {
        lane.share_output(generation, output.clone());
    }
    loop {
        let Some(mut chunk) = lane.take(generation) else {
            if make_next(&lane, generation) {
                continue;
            }
            if lane.is_over(generation) {
                return;
            }
            lane.wait_for_packets().await;
            let_others_send().await;
            continue;
        };
        let written = output.write_all(&mut chunk).await;
        lane.give_back(generation, chunk);
        if written.is_err() {
            return broken.notify_one();
        }
    }
}

/// Makes the packet that is to be written next, unless it is there. Returns whether there may be
/// something to write now.
fn make_next(lane: &SharedLane, generation: u64) -> bool {
    lane.make_next(generation).unwrap_or_else(|error| {
        tracing::error!("message to {} not sent: {error}", lane.node());
        true
    })
}

/// Lets ready tasks run first. Whoever woke the writer may be the first of many senders, and the
/// runtime would otherwise run the writer next, for a single packet. Without ready tasks this costs
/// next to nothing; tokio's `yield_now` would poll the sockets first.
async fn let_others_send() {
    let mut had_their_turn = false;
    poll_fn(|cx| {
        if mem::replace(&mut had_their_turn, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

impl Output {
    async fn write_all(&mut self, chunk: &mut Chunk) -> io::Result<()> {
        match self {
            Output::Plain(output) => {
                while !chunk.unwritten().is_empty() {
                    match output.try_write(chunk.unwritten()) {
                        Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                        Ok(written) => chunk.advance(written),
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::{LaneLimits, Later};
    use crate::node::lanes::{Lanes, WrittenBy};
    use crate::value::{MAX_NESTING, NodeId, Packed, packed};
    use crate::wire::framing::Framing;
    use tokio::io::AsyncReadExt as _;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_packet_is_made_when_its_turn_has_come_while_others_go_on() {
        let lanes = Lanes::new(LaneLimits::default());
        let peer: NodeId = "peer".parse().unwrap();
        let (lane, generation, _) = lanes.connect(&peer, Framing::Json);
        let (mut input, output) = tokio::io::duplex(1 << 10);
        let output = Output::Tls(Box::new(output));
        let writer = tokio::spawn(write(output, lane, generation, Arc::new(Notify::new())));

        let mut octets = Vec::new();
        packed::put_text(&mut octets, "port");
        (0..=MAX_NESTING).for_each(|_| packed::put_array(&mut octets, 1));
        packed::put_undef(&mut octets);
        let deep = Packed::new(2, octets.into());
        let (go, wait) = std::sync::mpsc::channel();
        let second = Later::new(20, move || {
            wait.recv().unwrap();
            vec![Packed::of(&("port", 2)).unwrap()]
        });
        let append = |number: u32| {
            let packet = Packed::of(&("port", number)).unwrap();
            let sent = lanes.append(None, || peer.clone(), packet.as_elements(), WrittenBy::Sender);
            let _ = sent.unwrap();
        };
        append(1);
        let _ = lanes.append_later(&peer, &mut Some(Later::new(20, move || vec![deep]))).unwrap();
        let _ = lanes.append_later(&peer, &mut Some(second)).unwrap();
        append(3);
        // On the only thread of the runtime, which the writer occupies.
        tokio::spawn(async move { go.send(()).unwrap() }).await.unwrap();
        let mut written = [0; 30];
        input.read_exact(&mut written).await.unwrap();
        assert_eq!(written, *br#"["port",1]["port",2]["port",3]"#);
        lanes.disconnect(&peer);
        writer.await.unwrap();
        assert!(lanes.are_empty());
    }
}
