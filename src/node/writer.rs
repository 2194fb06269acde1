//! The sending side of a connection: what its lane has goes to the socket.

use super::lanes::SharedLane;
use crate::kernel::Chunk;
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Notify;

/// Where packets are written to.
pub(super) enum Output {
    /// Senders write to it themselves, too.
    Plain(Arc<OwnedWriteHalf>),
    Tls(Box<dyn AsyncWrite + Send + Unpin>),
}

/// Writes what the lane has, as much at once as there is.
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
