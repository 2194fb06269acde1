//! Helpers of the service tests: nodes over real sockets, and a peer that the test plays itself.

// Each test file uses its own part of this.
#![allow(dead_code)]
// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use aemp::node::tls::{self, AnonymousClients, Identity, TlsConfig};
use aemp::wire::auth::{Nonce, Secret};
use aemp::wire::framing::Framing;
use aemp::wire::session::{AuthOrder, Event, HandshakeConfig, Handshaker, Session};
use aemp::{Node, NodeBuilder, NodeId};
use bytes::BytesMut;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub(crate) const TIMEOUT: Duration = Duration::from_secs(20);
pub(crate) const SECRET: &str = "geheim";

pub(crate) fn builder(id: &str, seeds: &[&Node]) -> NodeBuilder {
    let mut builder = Node::builder().node_id(id).secret(SECRET);
    for seed in seeds {
        builder = builder.seed(&seed.addresses()[0].to_string());
    }
    builder
}

/// A node that has joined its seeds.
pub(crate) async fn node(id: &str, seeds: &[&Node]) -> Node {
    started(builder(id, seeds).bind("127.0.0.1:0")).await
}

pub(crate) async fn started(builder: NodeBuilder) -> Node {
    let node = builder.start().await.unwrap();
    if !node.seeds().is_empty() {
        within(node.joined()).await;
    }
    node
}

pub(crate) async fn within<T>(future: impl std::future::IntoFuture<Output = T>) -> T {
    tokio::time::timeout(TIMEOUT, future).await.expect("in time")
}

pub(crate) fn id(text: &str) -> NodeId {
    text.parse().unwrap()
}

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A peer that a test plays itself, in JSON framing.
pub(crate) struct Peer {
    pub stream: Box<dyn Stream>,
    pub unread: BytesMut,
}

/// The greeting of such a peer.
pub(crate) struct Introduction<'a> {
    pub id: &'a str,
    pub secret: Option<&'a str>,
    pub pem: Option<&'a str>,
    /// The data connection that it dials.
    pub data: Option<&'a str>,
    /// The authentication line that it sends instead of a correct one.
    pub line: Option<&'a str>,
}

impl<'a> Introduction<'a> {
    pub(crate) fn of(id: &'a str) -> Self {
        Introduction { id, secret: Some(SECRET), pem: None, data: None, line: None }
    }
}

impl Peer {
    /// Connects to a node and authenticates, as far as the node lets it.
    pub(crate) async fn connect(
        node: &Node,
        introduction: &Introduction<'_>,
    ) -> std::io::Result<Peer> {
        let address = node.addresses()[0].to_string();
        let stream = TcpStream::connect(&address).await?;
        let mut session = begin(introduction);
        let mut stream: Box<dyn Stream> = Box::new(stream);
        loop {
            while let Some(octets) = session.transmit() {
                // Our authentication line follows the peer's greeting.
                let line = introduction.line.filter(|_| session.peer().is_some());
                stream.write_all(line.map_or(&*octets, str::as_bytes)).await?;
                stream.flush().await?;
            }
            match session.poll().unwrap() {
                Some(Event::Greeted) => session.proceed(AuthOrder::Now),
                Some(Event::StartTls { we_are_client }) => {
                    let pem = introduction.pem.unwrap().as_bytes();
                    let identity = Identity::from_pem(pem).unwrap();
                    let config = TlsConfig::new(&identity, AnonymousClients::Refused);
                    let plain = tls::Rewind::new(session.take_input(), stream);
                    let established = tls::handshake(plain, we_are_client, &config).await.unwrap();
                    session.tls_established(established.peer());
                    stream = Box::new(established.stream);
                }
                Some(Event::StartBoundTls { .. } | Event::Proven) => unreachable!("not asked for"),
                Some(Event::Established(_)) => {
                    return Ok(Peer { stream, unread: session.take_input() });
                }
                None => more(&mut stream, session.input()).await?,
            }
        }
    }

    pub(crate) async fn send(&mut self, octets: &[u8]) {
        self.stream.write_all(octets).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Reads until the text was received; returns everything up to and including it.
    pub(crate) async fn read_until(&mut self, text: &str) -> String {
        within(async {
            loop {
                let received = String::from_utf8_lossy(&self.unread).into_owned();
                if let Some(at) = received.find(text) {
                    let end = at + text.len();
                    let _ = self.unread.split_to(end);
                    return received[..end].to_owned();
                }
                more(&mut self.stream, &mut self.unread).await.unwrap();
            }
        })
        .await
    }
}

fn begin(introduction: &Introduction<'_>) -> Session {
    let mut config = HandshakeConfig::new(introduction.id);
    config.framings = vec![Framing::Json];
    config.secret = introduction.secret.and_then(|secret| Secret::new(secret.as_bytes()));
    config.certificate = introduction.pem.is_some();
    let handshaker = Handshaker::new(config).unwrap();
    let mut nonce = [0; Nonce::OCTETS];
    getrandom::fill(&mut nonce).unwrap();
    let nonce = Nonce::from_random(&nonce);
    match introduction.data {
        Some(id) => handshaker.dial_data(nonce, "127.0.0.1:1", id),
        None => handshaker.dial(nonce, "127.0.0.1:1"),
    }
}

async fn more(stream: &mut (impl Stream + ?Sized), unread: &mut BytesMut) -> std::io::Result<()> {
    match stream.read_buf(unread).await? {
        0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}
