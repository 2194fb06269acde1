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
