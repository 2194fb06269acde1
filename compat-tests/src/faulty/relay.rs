//! The relay that makes a node look broken: two handshakes, and complete packets in between.

use super::{Fault, Lapse, Memory};
use aemp::Value;
use aemp::wire::auth::{AuthMethod, Nonce, Secret};
use aemp::wire::framing::Framing;
use aemp::wire::greeting::Greeting;
use aemp::wire::session::{AuthOrder, Event, HandshakeConfig, Handshaker};
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The node behind the relay, and its fault.
#[derive(Clone, Debug)]
pub struct Relay {
    /// The ID of our node.
    pub node: String,
    /// The secret of the network.
    pub secret: String,
    /// What is wrong.
    pub fault: Fault,
}

impl Relay {
    /// For a suite that dials: returns the address to dial instead of our node's.
    ///
    /// # Panics
    /// If it cannot listen.
    pub async fn in_front_of(self, address: String) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((suite, _)) = listener.accept().await {
                let (relay, address) = (self.clone(), address.clone());
                tokio::spawn(async move { relay.suite_dials(suite, &address).await });
            }
        });
        own
    }

    /// For a suite that is the seed: returns the address to use instead of that seed.
    ///
    /// # Panics
    /// If it cannot listen.
    pub async fn before_seed(self, seed: String) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((node, _)) = listener.accept().await {
                let (relay, seed) = (self.clone(), seed.clone());
                if self.lapses(Lapse::DialsOnce) {
                    relay.node_dials(node, &seed).await;
                    // As if the node had stopped dialling.
                    return;
                }
                tokio::spawn(async move { relay.node_dials(node, &seed).await });
            }
        });
        own
    }

    async fn suite_dials(&self, suite: TcpStream, address: &str) -> Option<()> {
        let (suite, greeted) = self.greet(suite).await?;
        let node = TcpStream::connect(address).await.ok()?;
        let node = Link::with_node(node, &greeted.peer, &self.secret, false).await?;
        let suite = self.authenticate(suite, greeted).await?;
        self.exchange(suite, node).await
    }

    async fn node_dials(&self, node: TcpStream, seed: &str) -> Option<()> {
        let suite = TcpStream::connect(seed).await.ok()?;
        let (suite, greeted) = self.greet(suite).await?;
        let node = Link::with_node(node, &greeted.peer, &self.secret, true).await?;
        let suite = self.authenticate(suite, greeted).await?;
        self.exchange(suite, node).await
    }

    fn lapses(&self, lapse: Lapse) -> bool {
        matches!(self.fault, Fault::Handshake(own) if own == lapse)
    }

    async fn greet(&self, stream: TcpStream) -> Option<(Lines, Greeted)> {
        let mut lines = Lines { stream, unread: BytesMut::new(), unlimited: false };
        lines.unlimited = self.lapses(Lapse::TakesAnyLength);
        let mut random = [0; Nonce::OCTETS];
        if !self.lapses(Lapse::RepeatsNonce) {
            getrandom_fill(&mut random);
        }
        let nonce = Nonce::from_random(&random);
        let mut own = format!(
            "aemp;1;{};hmac_sha3_512;cbor,json,storable;provider=faulty;mproto=1;gproto=1\n",
            self.node
        )
        .into_bytes();
        own.extend_from_slice(nonce.as_bytes());
        own.push(b'\n');
        let is_late = self.lapses(Lapse::GreetsSecond);
        if !is_late {
            lines.write(&own).await?;
        }
        let (first, cr) = lines.line().await?;
        let (second, _) = lines.line().await?;
        if is_late {
            lines.write(&own).await?;
        }
        let peer = Greeting::parse(&first).ok()?;
        let mut theirs = first.clone();
        if cr && self.lapses(Lapse::HashesCr) {
            theirs.push(b'\r');
        }
        theirs.push(b'\n');
        theirs.extend_from_slice(&second);
        theirs.push(b'\n');
        if peer.protocol != b"aemp" && !self.lapses(Lapse::TakesAnyProtocol) {
            return None;
        }
        let version_is_right = match self.fault {
            Fault::Handshake(Lapse::TakesAnyVersion) => true,
            Fault::Handshake(Lapse::ComparesVersionAsText) => peer.version == b"1",
            _ => peer.has_version(1),
        };
        let is_itself = peer.node_id == self.node.as_bytes();
        let may_be_itself = self.lapses(Lapse::TakesMirrors);
        let has_keys = !peer.keys.is_empty() || !self.lapses(Lapse::WantsKeys);
        if !version_is_right || is_itself && !may_be_itself || !has_keys {
            return None;
        }
        if is_itself {
            // Our node behind it would close. A node that accepts itself waits here for ever.
            std::future::pending::<()>().await;
        }
        Some((lines, Greeted { own, theirs, peer }))
    }

    async fn authenticate(&self, mut lines: Lines, greeted: Greeted) -> Option<Link> {
        let Greeted { own, theirs, peer } = greeted;
        let secret = Secret::new(self.secret.as_bytes());
        let method = AuthMethod::HmacSha3_512;
        if !peer.auth_methods.iter().any(|name| name == method.name().as_bytes()) {
            return None;
        }
        let known = |name: &Vec<u8>| Framing::from_name(std::str::from_utf8(name).ok()?);
        let mut wanted = peer.framings.iter().filter_map(known);
        let sends = match self.lapses(Lapse::PrefersOwnFraming) {
            true => wanted.min_by_key(|framing| Framing::ALL.iter().position(|one| one == framing)),
            false => wanted.next(),
        }?;
        let mut token = match self.lapses(Lapse::SwapsGreetings) {
            true => method.token(secret.as_ref(), &theirs, &own),
            false => method.token(secret.as_ref(), &own, &theirs),
        }?;
        if self.lapses(Lapse::ShoutsToken) {
            token = token.to_uppercase();
        }
        let mut line = format!("{method};{token};{sends}\n").into_bytes();
        if self.lapses(Lapse::SpeaksEarly) {
            line.extend(encode(sends, &[])?);
        }
        let is_late = self.lapses(Lapse::AuthenticatesSecond);
        if !is_late {
            lines.write(&line).await?;
        }
        let (answer, _) = lines.line().await?;
        let mut fields = answer.split(|octet| *octet == b';');
        let mut field = || fields.next().unwrap_or_default();
        let (name, token, framing) = (field(), field(), field());
        let used = AuthMethod::from_name(name).filter(|method| !method.needs_tls())?;
        let is_proof = match self.fault {
            Fault::Handshake(Lapse::BelievesTokens) => true,
            Fault::Handshake(Lapse::BelievesBeginnings) => {
                let whole = used.token(secret.as_ref(), &theirs, &own)?;
                token.len() > 100 && whole.as_bytes().starts_with(token)
            }
            _ => used.verify(secret.as_ref(), token, &theirs, &own),
        };
        let receives = match known(&framing.to_vec()) {
            None if self.lapses(Lapse::GuessesFraming) => Framing::Json,
            known => known?,
        };
        if !is_proof {
            return None;
        }
        if is_late {
            lines.write(&line).await?;
        }
        Some(Link { stream: lines.stream, unread: lines.unread, sends, receives })
    }

    /// Packets in both directions, each through the fault.
    async fn exchange(&self, suite: Link, node: Link) -> Option<()> {
        let mut memory = Memory::new();
        let (mut suite_in, mut suite_out) = suite.split();
        let (mut node_in, mut node_out) = node.split();
        loop {
            let (to_suite, packets) = tokio::select! {
                packets = suite_in.packets() => (false, packets?),
                packets = node_in.packets() => (true, packets?),
            };
            for packet in packets {
                let sent = match self.fault {
                    Fault::Packets(fault) => fault(&mut memory, to_suite, packet),
                    Fault::None | Fault::Handshake(_) => vec![(to_suite, packet)],
                };
                for (to_suite, packet) in sent {
                    match to_suite {
                        true => suite_out.send(&packet).await?,
                        false => node_out.send(&packet).await?,
                    }
                }
            }
        }
    }
}

fn getrandom_fill(octets: &mut [u8]) {
    use std::hash::{BuildHasher, Hasher};
    // Here a nonce only has to differ each time.
    for chunk in octets.chunks_mut(8) {
        let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
        chunk.copy_from_slice(&random.to_ne_bytes()[..chunk.len()]);
    }
}

struct Greeted {
    own: Vec<u8>,
    theirs: Vec<u8>,
    peer: Greeting,
}

struct Lines {
    stream: TcpStream,
    unread: BytesMut,
    unlimited: bool,
}

impl Lines {
    async fn write(&mut self, octets: &[u8]) -> Option<()> {
        self.stream.write_all(octets).await.ok()
    }

    /// The next line, and whether there was a CR at its end.
    async fn line(&mut self) -> Option<(Vec<u8>, bool)> {
        loop {
            if let Some(end) = self.unread.iter().position(|octet| *octet == b'\n') {
                if end > 4096 && !self.unlimited {
                    return None;
                }
                let mut line = self.unread.split_to(end + 1).to_vec();
                line.pop();
                let cr = line.last() == Some(&b'\r');
                if cr {
                    line.pop();
                }
                return Some((line, cr));
            }
            if self.unread.len() > 4096 && !self.unlimited {
                return None;
            }
            if self.stream.read_buf(&mut self.unread).await.ok()? == 0 {
                return None;
            }
        }
    }
}

/// A connection that carries packets.
struct Link {
    stream: TcpStream,
    unread: BytesMut,
    sends: Framing,
    receives: Framing,
}

impl Link {
    /// A valid handshake with our node, as the node that sent this greeting.
    async fn with_node(
        mut stream: TcpStream,
        peer: &Greeting,
        secret: &str,
        node_dialled: bool,
    ) -> Option<Link> {
        let mut config = HandshakeConfig::new(peer.node_id.clone());
        config.secret = Secret::new(secret.as_bytes());
        config.framings = vec![Framing::Cbor];
        let provider = peer.written("provider").unwrap_or(b"faulty").to_vec();
        config.keys = vec![("provider".into(), String::from_utf8_lossy(&provider).into_owned())];
        let handshaker = Handshaker::new(config).ok()?;
        let mut random = [0; Nonce::OCTETS];
        getrandom_fill(&mut random);
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
        Some(Link { stream, unread, sends, receives })
    }

    fn split(self) -> (Incoming, Outgoing) {
        let (input, output) = self.stream.into_split();
        let decoder = aemp::wire::framing::Decoder::new(self.receives, Default::default());
        (Incoming { input, unread: self.unread, decoder }, Outgoing { output, framing: self.sends })
    }
}

struct Incoming {
    input: tokio::net::tcp::OwnedReadHalf,
    unread: BytesMut,
    decoder: aemp::wire::framing::Decoder,
}

impl Incoming {
    /// The packets of the next read; the future is cancel-safe.
    async fn packets(&mut self) -> Option<Vec<Vec<Value>>> {
        use aemp::wire::framing::Step;
        loop {
            let mut packets = Vec::new();
            loop {
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
            if !packets.is_empty() {
                return Some(packets);
            }
            if self.input.read_buf(&mut self.unread).await.ok()? == 0 {
                return None;
            }
        }
    }
}

struct Outgoing {
    output: tokio::net::tcp::OwnedWriteHalf,
    framing: Framing,
}

impl Outgoing {
    async fn send(&mut self, packet: &[Value]) -> Option<()> {
        self.output.write_all(&encode(self.framing, packet)?).await.ok()
    }
}

fn encode(framing: Framing, packet: &[Value]) -> Option<Vec<u8>> {
    let mut packed = Vec::new();
    for value in packet {
        value.put(&mut packed).ok()?;
    }
    let elements = aemp::value::packed::Elements::new(packet.len(), &packed);
    let mut octets = Vec::new();
    aemp::wire::framing::encode(framing, elements, &mut octets).ok()?;
    Some(octets)
}
