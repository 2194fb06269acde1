//! The listener of the HTTP server, and its limits.

use super::events::Events;
use super::http::{self, Site};
use super::network::Network;
use super::page::Surroundings;
use crate::config::MetricsAddress;
use crate::config::node_id::node_name;
use crate::node::connection::socket;
use crate::node::{Node, StartError};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// How many connections are served at a time; if another one comes, the oldest is closed.
const MAX_CONNECTIONS: usize = 32;
/// How long a client may take to send its request.
const REQUEST_TIME: Duration = Duration::from_secs(3);
/// How long a connection lasts at most.
const CONNECTION_TIME: Duration = Duration::from_secs(10);
/// The maximum size of a request's head.
const REQUEST_SIZE: usize = 16 << 10;
const MAX_HEADERS: usize = 64;
/// How long to pause accepting when the system has run out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the node's metrics, health check and status page until the node ends; `values` lets the page
/// show values of the database. Returns the addresses on which it listens.
///
/// Logs a warning if one of them can be reached from other machines. The
/// configuration keys `metrics` and `metrics_values` do the same at the start of a node.
///
/// # Errors
/// Fails if the address cannot be resolved or listening on it fails.
pub async fn serve(
    node: &Node,
    address: &MetricsAddress,
    values: bool,
) -> Result<Vec<SocketAddr>, StartError> {
    let mut names = vec![node_name()];
    let addresses: Vec<SocketAddr> = match address.host() {
        Ok(ip) => vec![SocketAddr::new(ip, address.port())],
        Err(name) => {
            names.push(name.to_owned());
            let resolved = tokio::net::lookup_host((name, address.port())).await;
            resolved
                .map_err(|source| StartError::Resolve { address: address.to_string(), source })?
                .collect()
        }
    };
    let mut listeners = Vec::new();
    for address in addresses {
        let listener = socket::listen(address);
        listeners.push(listener.map_err(|error| StartError::bind(address, error))?);
    }
    let node = node.inside();
    let around = Surroundings { events: Events::of(&node), network: Network::default(), values };
    let site = Arc::new(Site { node: node.inside(), around, names });
    let places = Arc::new(Mutex::new(VecDeque::new()));
    let mut bound = Vec::new();
    for listener in listeners {
        let Ok(address) = listener.local_addr() else { continue };
        tracing::info!(node = %node.id(), "metrics and status page at http://{address}/");
        if !address.ip().is_loopback() {
            tracing::warn!(
                node = %node.id(),
                "anybody who can reach {address} can see the metrics and the status page: there is \
                 no password"
            );
        }
        bound.push(address);
        let ended = node.shared().ended.clone();
        let serving = accept(listener, site.clone(), places.clone());
        node.shared().runtime.spawn(async move {
            tokio::select! {
                () = serving => {}
                () = ended.cancelled() => {}
            }
        });
    }
    Ok(bound)
}

/// The connections that are served, in the order in which they came.
type Places = Mutex<VecDeque<AbortHandle>>;

/// Makes room by closing the oldest connection: a client that sends its request at once has its answer
/// by then.
fn take_place(places: &Places, connection: AbortHandle) {
    let mut places = places.lock();
    places.retain(|other| !other.is_finished());
    if places.len() >= MAX_CONNECTIONS
        && let Some(oldest) = places.pop_front()
    {
        oldest.abort();
    }
    places.push_back(connection);
}

async fn accept(listener: TcpListener, site: Arc<Site>, places: Arc<Places>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let site = site.clone();
                let ended = site.node.shared().ended.clone();
                let served = tokio::spawn(async move {
                    tokio::select! {
                        () = connection(stream, site) => {}
                        () = tokio::time::sleep(CONNECTION_TIME) => {}
                        () = ended.cancelled() => {}
                    }
                });
                take_place(&places, served.abort_handle());
            }
            Err(error) => {
                tracing::warn!(node = %site.node.id(), "metrics: cannot accept: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Answers one request.
async fn connection(stream: TcpStream, site: Arc<Site>) {
    let service = service_fn(move |request| {
        let site = site.clone();
        async move { Ok::<_, Infallible>(http::answer(&site, &request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIME)
        .keep_alive(false)
        .max_headers(MAX_HEADERS)
        .max_buf_size(REQUEST_SIZE)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!("metrics: {error}");
    }
}
