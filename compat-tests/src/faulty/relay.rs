//! The relay that makes a node look broken: two handshakes, and complete packets in between.

use super::detours::Detours;
use super::link::{Link, ONE_READ, Stream, encode, fill_randomly};
use super::{
    Direction, Fault, FaultState, HandshakeFault, OwnGreeting, Packet, ReceivedGreeting, Sent, tls,
};
use aemp::wire::auth::{self, AuthMethod, Exporter, Nonce, Secret, TlsRole};
use aemp::wire::framing::Framing;
use aemp::wire::greeting::Greeting;
use bytes::BytesMut;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::timeout;

/// The node behind the relay, and its fault.
#[derive(Clone, Debug)]
pub struct Relay {
    node: String,
    secret: String,
    fault: Fault,
    certificate: Option<String>,
    monitor_timeout: Duration,
    closing: Arc<Notify>,
    detours: Option<Arc<Detours>>,
}

impl Relay {
    /// A relay that takes the place of our node with this ID.
    pub fn new(node: &str, secret: &str, fault: Fault) -> Relay {
        Relay {
            node: node.to_owned(),
            secret: secret.to_owned(),
            fault,
            certificate: None,
            monitor_timeout: Duration::from_secs(30),
            closing: Arc::default(),
            detours: None,
        }
    }

    /// With a certificate and its key, as PEM.
    #[must_use]
    pub fn with_certificate(self, pem: &str) -> Relay {
        Relay { certificate: Some(pem.to_owned()), ..self }
    }

    /// With relays to all nodes whose addresses the node learns.
    #[must_use]
    pub fn with_detours(self, detours: Arc<Detours>) -> Relay {
        Relay { detours: Some(detours), ..self }
    }

    /// How long a peer may be silent during the handshake.
    #[must_use]
    pub fn monitor_timeout(self, monitor_timeout: Duration) -> Relay {
        Relay { monitor_timeout, ..self }
    }

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
                tokio::spawn(async move {
                    tokio::select! {
                        refused = relay.suite_dials(suite, &address) => {
                            if refused.is_none() && relay.lapses(HandshakeFault::ClosesAll) {
                                relay.closing.notify_waiters();
                            }
                        }
                        () = relay.closing.notified() => {}
                    }
                });
            }
        });
        own
    }

    /// For a suite that is the seed: returns the address to use instead of that seed.
    ///
    /// # Panics
    /// If it cannot listen.
    pub fn before_seed(self, seed: String) -> String {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let own = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((node, _)) = listener.accept().await {
                let (relay, seed) = (self.clone(), seed.clone());
                if self.lapses(HandshakeFault::DialsOnce) {
                    relay.node_dials(node, &seed).await;
                    // As if the node had stopped dialling.
                    return;
                }
                tokio::spawn(async move { relay.node_dials(node, &seed).await });
            }
        });
        own
    }

    /// `None` if the suite or the node ended or refused the connection.
    async fn suite_dials(&self, suite: TcpStream, address: &str) -> Option<()> {
        let (suite, greeted) = self.greet(suite).await?;
        let node = TcpStream::connect(address).await.ok()?;
        let node = Link::with_node(node, &greeted.peer, &self.secret, false).await;
        if node.is_none() && !self.lapses(HandshakeFault::NeverCloses) {
            return None;
        }
        let suite = self.authenticate(suite, greeted).await?;
        match node {
            Some(node) => self.exchange(suite, node).await,
            None => std::future::pending().await,
        }
    }

    async fn node_dials(&self, node: TcpStream, seed: &str) -> Option<()> {
        let suite = TcpStream::connect(seed).await.ok()?;
        let (suite, greeted) = self.greet(suite).await?;
        let node = Link::with_node(node, &greeted.peer, &self.secret, true).await?;
        let suite = self.authenticate(suite, greeted).await?;
        self.exchange(suite, node).await
    }

    fn lapses(&self, lapse: HandshakeFault) -> bool {
        matches!(self.fault, Fault::Handshake(own) if own == lapse)
    }

    fn greeting(&self) -> OwnGreeting {
        let tls = match self.certificate {
            Some(_) if !self.lapses(HandshakeFault::HidesTls) => ";tls=1.0",
            _ => "",
        };
        let methods = match self.certificate {
            Some(_) => "tls_sha3_512,hmac_sha3_512",
            None => "hmac_sha3_512",
        };
        let mut greets = OwnGreeting {
            first: format!(
                "aemp;1;{};{methods};cbor,json,storable;provider=faulty;mproto=1;gproto=1;g_get=1;bound=1{tls}",
                self.node
            ),
            end: "\n",
        };
        if let Fault::Greeting(change) = self.fault {
            change(&mut greets);
        }
        greets
    }

    async fn greet(&self, stream: TcpStream) -> Option<(Lines, Greeted)> {
        let mut lines = Lines {
            stream: Box::new(stream),
            unread: BytesMut::new(),
            unlimited: self.lapses(HandshakeFault::TakesAnyLength),
            whole: self.lapses(HandshakeFault::WantsWholeLines),
            patience: match self.lapses(HandshakeFault::WaitsForEver) {
                true => Duration::MAX,
                false => self.monitor_timeout,
            },
        };
        let mut random = [0; Nonce::OCTETS];
        if !self.lapses(HandshakeFault::RepeatsNonce) {
            fill_randomly(&mut random);
        }
        let nonce = Nonce::from_random(&random).as_bytes().to_vec();
        let OwnGreeting { first, end } = self.greeting();
        let written = [first.as_bytes(), end.as_bytes(), &nonce, end.as_bytes()].concat();
        let own = [first.as_bytes(), b"\n", &nonce, b"\n"].concat();
        let is_late = self.lapses(HandshakeFault::GreetsSecond);
        if !is_late {
            lines.write(&written).await?;
        }
        let (first, cr) = lines.line().await?;
        let (second, _) = lines.line().await?;
        if is_late {
            lines.write(&written).await?;
        }
        let peer = Greeting::parse(&first).ok()?;
        let mut theirs = first.clone();
        if cr && self.lapses(HandshakeFault::HashesCr) {
            theirs.push(b'\r');
        }
        theirs.push(b'\n');
        theirs.extend_from_slice(&second);
        theirs.push(b'\n');
        let heard = ReceivedGreeting { first: &first, second: &second, greeting: &peer };
        if !self.takes(&heard) {
            return None;
        }
        let is_itself = peer.node_id == self.node.as_bytes();
        if is_itself {
            if !self.lapses(HandshakeFault::TakesMirrors)
                && !self.lapses(HandshakeFault::TakesOwnId)
            {
                return None;
            }
            // Our node behind it would close. A node that accepts itself waits here for ever.
            std::future::pending::<()>().await;
        }
        let we_are_client = (nonce < second) != self.lapses(HandshakeFault::SwapsTlsRoles);
        let uses_tls = first_says_tls(&written) && peer.offers_tls();
        if let Some(pem) = self.certificate.as_ref().filter(|_| uses_tls) {
            let rest = std::mem::take(&mut lines.unread);
            let settings = tls::Settings {
                pem,
                presents: !self.lapses(HandshakeFault::PresentsNothing),
                trusts_anybody: self.lapses(HandshakeFault::TrustsAnybody),
                is_old: self.lapses(HandshakeFault::KnowsOldTls),
                is_new: false,
            };
            let stream = tls::Rewound { first: rest, stream: lines.stream };
            lines.stream = tls::secure(stream, we_are_client, &settings).await?;
        }
        let mut bound = None;
        if !uses_tls && self.is_bound_with(&peer) {
            let pem = aemp::node::tls::gencert(std::time::SystemTime::now()).ok()?;
            let settings = tls::Settings {
                pem: &pem,
                presents: false,
                trusts_anybody: true,
                is_old: false,
                is_new: !self.lapses(HandshakeFault::TakesOldTls),
            };
            let first = std::mem::take(&mut lines.unread);
            let stream = tls::Rewound { first, stream: lines.stream };
            let secured = tls::secure(stream, we_are_client, &settings).await?;
            let role = if we_are_client { TlsRole::Client } else { TlsRole::Server };
            bound = Some((tls::exporter(&secured)?, role));
            lines.stream = secured;
        }
        Some((lines, Greeted { own, theirs, peer, in_tls: uses_tls, bound }))
    }

    /// Whether a connection is encrypted by the secret.
    fn is_bound_with(&self, peer: &Greeting) -> bool {
        let offers = match self.lapses(HandshakeFault::TakesAnyBound) {
            true => peer.written("bound").is_some(),
            false => peer.bound().is_some(),
        };
        offers && !self.lapses(HandshakeFault::IgnoresBound)
    }

    /// The checks of a greeting.
    fn takes(&self, heard: &ReceivedGreeting<'_>) -> bool {
        let peer = heard.greeting;
        if let Fault::Refuses(refuses) = self.fault
            && refuses(heard)
        {
            return false;
        }
        let is_protocol = peer.protocol == b"aemp" || self.lapses(HandshakeFault::TakesAnyProtocol);
        let is_version = match self.fault {
            Fault::Handshake(HandshakeFault::TakesAnyVersion) => true,
            Fault::Handshake(HandshakeFault::ComparesVersionAsText) => peer.version == b"1",
            _ => peer.has_version(1),
        };
        let has_keys = !peer.keys.is_empty() || !self.lapses(HandshakeFault::WantsKeys);
        is_protocol && is_version && has_keys
    }

    async fn authenticate(&self, mut lines: Lines, greeted: Greeted) -> Option<Link> {
        let Greeted { own, theirs, peer, in_tls, bound } = greeted;
        let secret = Secret::new(self.secret.as_bytes());
        let bound_token = |role: fn(TlsRole) -> TlsRole, sender: &[u8], receiver: &[u8]| {
            let ((exporter, own_role), secret) = (bound.as_ref()?, secret.as_ref()?);
            auth::bound_token(secret, exporter, role(*own_role), sender, receiver)
        };
        let lists = |method: AuthMethod| {
            peer.auth_methods.iter().position(|name| name == method.name().as_bytes())
        };
        let usable = |method: AuthMethod| in_tls || !method.needs_certificate();
        let mut methods = vec![AuthMethod::TlsSha3_512, AuthMethod::HmacSha3_512];
        if self.lapses(HandshakeFault::SendsCleartext) {
            methods.push(AuthMethod::Cleartext);
        }
        methods.retain(|method| usable(*method));
        let method = methods.into_iter().filter(|method| lists(*method).is_some());
        let method = match bound {
            Some(_) => AuthMethod::HmacBoundSha3_512,
            None => method.min_by_key(|method| lists(*method))?,
        };
        let known = |name: &[u8]| Framing::from_name(std::str::from_utf8(name).ok()?);
        let mut wanted = peer.framings.iter().filter_map(|name| known(name));
        let mut sends = match self.lapses(HandshakeFault::PrefersOwnFraming) {
            true => wanted.min_by_key(|framing| Framing::ALL.iter().position(|one| one == framing)),
            false => wanted.next(),
        }?;
        let (first, second) = match self.lapses(HandshakeFault::SwapsGreetings) {
            true => (&theirs, &own),
            false => (&own, &theirs),
        };
        let mut token = match bound {
            Some(_) if self.lapses(HandshakeFault::NamesWrongRole) => {
                bound_token(TlsRole::other, first, second)
            }
            Some(_) => bound_token(|own| own, first, second),
            None => method.token(secret.as_ref(), first, second),
        }?;
        if self.lapses(HandshakeFault::ShoutsToken) {
            token = token.to_uppercase();
        }
        let mut line = format!("{method};{token};{sends}\n").into_bytes();
        if self.lapses(HandshakeFault::SpeaksEarly) {
            line.extend(encode(sends, &[])?);
        }
        let is_late = self.lapses(HandshakeFault::AuthenticatesSecond);
        if !is_late {
            lines.write(&line).await?;
        }
        let (answer, _) = lines.line().await?;
        let fields: Vec<&[u8]> = answer.split(|octet| *octet == b';').collect();
        if self.lapses(HandshakeFault::WantsThreeFields) && fields.len() != 3 {
            return None;
        }
        let field = |index: usize| fields.get(index).copied().unwrap_or_default();
        let used = AuthMethod::from_name(field(0))?;
        let is_listed = match used {
            AuthMethod::HmacBoundSha3_512 => {
                bound.is_some() || self.lapses(HandshakeFault::TakesBoundAnywhere)
            }
            _ if bound.is_some() && !self.lapses(HandshakeFault::TakesAnyMethodBound) => false,
            AuthMethod::Cleartext => self.lapses(HandshakeFault::TakesUnlisted),
            AuthMethod::TlsAnon | AuthMethod::TlsSha3_512 if !in_tls => {
                self.lapses(HandshakeFault::TakesTlsMethods)
            }
            AuthMethod::TlsAnon => false,
            AuthMethod::HmacSha3_512 | AuthMethod::TlsSha3_512 => true,
        };
        let is_proof = match self.fault {
            Fault::Handshake(
                HandshakeFault::BelievesTokens | HandshakeFault::TakesBoundAnywhere,
            ) => true,
            Fault::Handshake(HandshakeFault::BelievesBeginnings) => {
                let whole = used.token(secret.as_ref(), &theirs, &own)?;
                field(1).len() > 100 && whole.as_bytes().starts_with(field(1))
            }
            _ if used == AuthMethod::HmacBoundSha3_512 => {
                bound_token(TlsRole::other, &theirs, &own)?.as_bytes() == field(1)
            }
            _ => used.verify(secret.as_ref(), field(1), &theirs, &own),
        };
        let receives = match known(field(2)) {
            None if self.lapses(HandshakeFault::GuessesFraming) => Framing::Json,
            known => known?,
        };
        if !is_listed || !is_proof {
            return None;
        }
        if self.lapses(HandshakeFault::UsesOneFraming) {
            sends = receives;
        }
        if is_late {
            lines.write(&line).await?;
        }
        if self.lapses(HandshakeFault::LosesEarlyPackets) {
            lines.unread.clear();
        }
        Some(Link { stream: lines.stream, unread: lines.unread, sends, receives })
    }

    /// Packets in both directions, each through the fault.
    async fn exchange(&self, suite: Link, node: Link) -> Option<()> {
        let mut memory = FaultState::new();
        let (mut suite_in, mut suite_out) = suite.split();
        let (mut node_in, mut node_out) = node.split();
        suite_in.whole = self.lapses(HandshakeFault::WantsWholePackets);
        if let Fault::Misreads(misreads) = self.fault {
            suite_in.misreads = Some(misreads);
        }
        loop {
            let (way, packets) = tokio::select! {
                packets = suite_in.packets() => (Direction::In, packets),
                packets = node_in.packets() => (Direction::Out, packets),
            };
            let packets = match packets {
                Some(packets) => packets,
                None if self.lapses(HandshakeFault::NeverCloses) => std::future::pending().await,
                None => return Some(()),
            };
            for packet in packets {
                for (way, packet) in self.changed(&mut memory, way, packet) {
                    match way {
                        Direction::Out => suite_out.send(&packet).await?,
                        Direction::In => node_out.send(&packet).await?,
                    }
                }
            }
        }
    }

    /// What is sent instead of a packet.
    fn changed(&self, memory: &mut FaultState, way: Direction, mut packet: Packet) -> Sent {
        if let Some(detours) = &self.detours {
            let detour = |address: &str| self.clone().before_seed(address.to_owned());
            super::packets::each_value(&mut packet, &mut |value| {
                detours.change(way, value, detour)
            });
        }
        let all = |packets: Vec<Packet>| packets.into_iter().map(|one| (way, one)).collect();
        match self.fault {
            Fault::Packets(fault) => fault(memory, way, packet),
            Fault::Requests(of, name, change)
                if of == way && super::packets::is_request(&packet, name) =>
            {
                all(change(packet))
            }
            Fault::Messages(port, change)
                if way == Direction::Out && super::packets::is(&packet, 0, port) =>
            {
                all(change(packet))
            }
            _ => vec![(way, packet)],
        }
    }
}

fn first_says_tls(written: &[u8]) -> bool {
    written
        .split(|octet| *octet == b'\n')
        .next()
        .is_some_and(|line| line.split(|octet| *octet == b';').any(|field| field == b"tls=1.0"))
}

struct Greeted {
    own: Vec<u8>,
    theirs: Vec<u8>,
    peer: Greeting,
    in_tls: bool,
    /// The TLS exporter of a bound connection, and our role in TLS.
    bound: Option<(Exporter, TlsRole)>,
}

struct Lines {
    stream: Stream,
    unread: BytesMut,
    unlimited: bool,
    whole: bool,
    patience: Duration,
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
            if (self.unread.len() > 4096 && !self.unlimited)
                || (self.whole && !self.unread.is_empty())
            {
                return None;
            }
            self.unread.reserve(ONE_READ);
            let read = timeout(self.patience, self.stream.read_buf(&mut self.unread));
            if read.await.ok()?.ok()? == 0 {
                return None;
            }
        }
    }
}
