//! A faulty node's connection that carries packets, and a valid handshake with our node.

use super::Packet;
use aemp::Value;
use aemp::wire::auth::{Nonce, Secret};
use aemp::wire::framing::Framing;
use aemp::wire::greeting::Greeting;
use aemp::wire::session::{AuthOrder, Event, HandshakeConfig, Handshaker};
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The maximum octets of a read, enough for everything that was sent at once.
pub(super) const ONE_READ: usize = 64 << 10;

/// A connection, with TLS or without.
pub(super) type Stream = Box<dyn Io>;

pub(super) trait Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send> Io for T {}

/// A connection that carries packets.
pub(super) struct Link {
    pub(super) stream: Stream,
    pub(super) unread: BytesMut,
    pub(super) sends: Framing,
    pub(super) receives: Framing,
}

impl Link {
    /// A valid handshake with our node, as the node that sent this greeting.
    pub(super) async fn with_node(
        mut stream: TcpStream,
        peer: &Greeting,
        secret: &str,
        node_dialled: bool,
    ) -> Option<Link> {
        let mut config = HandshakeConfig::new(peer.node_id.clone());
        config.secret = Secret::new(secret.as_bytes());
        let is_storable = peer.framings == [b"storable"];
        config.framings = vec![if is_storable { Framing::Storable } else { Framing::Cbor }];
        let provider = peer.written("provider").unwrap_or(b"faulty").to_vec();
        config.keys = vec![("provider".into(), String::from_utf8_lossy(&provider).into_owned())];
        let handshaker = Handshaker::new(config).ok()?;
        let mut random = [0; Nonce::OCTETS];
        fill_randomly(&mut random);
        let nonce = Nonce::from_random(&random);
        let mut session = match node_dialled {
            true => handshaker.listen(nonce, "relay"),
            false => handshaker.dial(nonce, "relay"),
        };
        let agreed = loop {
            while let Some(octets) = session.transmit() {
                stream.write_all(&octets).await.ok()?;
            }
            match session.poll().ok()? {
                Some(Event::Greeted) => session.proceed(AuthOrder::Now),
                Some(Event::Established(agreement)) => break agreement,
                Some(_) => return None,
                None if stream.read_buf(session.input()).await.ok()? == 0 => return None,
                None => {}
            }
        };
        let unread = session.take_input();
        let (sends, receives) = (agreed.send_framing, agreed.receive_framing);
        Some(Link { stream: Box::new(stream), unread, sends, receives })
    }

    pub(super) fn split(self) -> (Incoming, Outgoing) {
        let (input, output) = tokio::io::split(self.stream);
        let framing = self.receives;
        let decoder = aemp::wire::framing::Decoder::new(framing, Default::default());
        let unread = self.unread;
        let incoming = Incoming { input, unread, framing, decoder, whole: false, misreads: None };
        (incoming, Outgoing { output, framing: self.sends })
    }
}

pub(super) struct Incoming {
    input: tokio::io::ReadHalf<Stream>,
    pub(super) unread: BytesMut,
    framing: Framing,
    decoder: aemp::wire::framing::Decoder,
    pub(super) whole: bool,
    pub(super) misreads: Option<fn(Framing, &[u8]) -> bool>,
}

impl Incoming {
    /// The packets of the next read; the future is cancel-safe. `None` if the connection has ended or
    /// has to be closed.
    pub(super) async fn packets(&mut self) -> Option<Vec<Packet>> {
        use aemp::wire::framing::Step;
        loop {
            let mut packets = Vec::new();
            loop {
                if self.misreads.is_some_and(|misreads| misreads(self.framing, &self.unread)) {
                    return None;
                }
                match self.decoder.next(&self.unread).ok()? {
                    Step::More { used } => {
                        self.unread.advance(used);
                        break;
                    }
                    Step::Packet { used, elements } => {
                        packets.push(elements.to_values().ok()?);
                        self.unread.advance(used);
                    }
                }
            }
            if self.whole && !self.unread.is_empty() {
                return None;
            }
            if !packets.is_empty() {
                return Some(packets);
            }
            self.unread.reserve(ONE_READ);
            if self.input.read_buf(&mut self.unread).await.ok()? == 0 {
                return None;
            }
        }
    }
}

pub(super) struct Outgoing {
    output: tokio::io::WriteHalf<Stream>,
    framing: Framing,
}

impl Outgoing {
    pub(super) async fn send(&mut self, packet: &[Value]) -> Option<()> {
        self.output.write_all(&encode(self.framing, packet)?).await.ok()?;
        self.output.flush().await.ok()
    }
}

pub(super) fn encode(framing: Framing, packet: &[Value]) -> Option<Vec<u8>> {
    let mut packed = Vec::new();
    for value in packet {
        value.put(&mut packed).ok()?;
    }
    let elements = aemp::value::packed::Elements::new(packet.len(), &packed);
    let mut octets = Vec::new();
    aemp::wire::framing::encode(framing, elements, &mut octets).ok()?;
    Some(octets)
}

pub(super) fn fill_randomly(octets: &mut [u8]) {
    use std::hash::{BuildHasher, Hasher};
    // Here a nonce only has to be different each time.
    for chunk in octets.chunks_mut(8) {
        let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
        chunk.copy_from_slice(&random.to_ne_bytes()[..chunk.len()]);
    }
}
