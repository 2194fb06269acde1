//! Accepts incoming connections for as long as the node runs.

use super::pending::{Origin, and_others};
use super::serve;
use crate::node::core::Shared;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How long a listener pauses when the system has no more file descriptors or memory.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves a listener until the node ends or the listener is `closed`.
pub(crate) async fn accept(shared: Arc<Shared>, listener: TcpListener, closed: CancellationToken) {
    let own = listener.local_addr().ok().map(|address| address.ip());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.ended.cancelled() => return,
            () = closed.cancelled() => return,
        };
        match accepted {
            Ok((stream, address)) => {
                shared.counters.accepts(true);
                // A listener on all addresses has no address of its own.
                let own = match own {
                    Some(own) if !own.is_unspecified() => Some(own),
                    _ => stream.local_addr().ok().map(|address| address.ip()),
                };
                let pending = shared.pending.add(Origin::of(address.ip(), own));
                serve(&shared, stream, address.to_string(), pending);
            }
            // The peer gave up before its connection was accepted; another one may be waiting.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                // Most likely the process is out of file descriptors: close the oldest pending
                // handshake, so that another peer gets its turn, and pause instead of retrying at
                // once.
                shared.counters.accepts(false);
                shared.pending.make_room();
                if let Some(unlogged) = shared.pending.may_log(Instant::now()) {
                    let others = and_others(unlogged);
                    tracing::warn!(node = %shared.id, "cannot accept connections: {error}{others}");
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
