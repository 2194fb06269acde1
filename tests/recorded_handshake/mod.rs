//! A recorded handshake, and the rules that each has to satisfy.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used, clippy::missing_panics_doc)]

use std::path::{Path, PathBuf};

use aemp::wire::auth::{AuthMethod, Nonce, Secret};
use aemp::wire::framing::Framing;
use aemp::wire::greeting::Greeting;
use aemp::wire::recording::Entry;
use aemp::wire::session::{
    Agreement, AuthOrder, Event, HandshakeConfig, HandshakeError, Handshaker, Session, TlsPeer,
};
use base64::Engine as _;
use serde_json::Value;

/// What one side of a conversation sent.
pub struct Side {
    pub dials: bool,
    pub secret: String,
    pub auth_accept: Vec<AuthMethod>,
    /// Greeting, nonce, authentication line (unless it gave up before), without line ends.
    pub lines: Vec<String>,
    /// The octets after those lines.
    pub rest: Vec<u8>,
    pub octets: Vec<u8>,
}

impl Side {
    pub fn greeting_line(&self) -> &[u8] {
        self.lines[0].as_bytes()
    }

    pub fn greeting(&self) -> Greeting {
        Greeting::parse(self.greeting_line()).unwrap()
    }

    /// Both lines of the greeting, each with its LF.
    pub fn greeting_octets(&self) -> Vec<u8> {
        format!("{}\n{}\n", self.lines[0], self.lines[1]).into_bytes()
    }

    pub fn auth_line(&self) -> Option<&str> {
        self.lines.get(2).map(String::as_str)
    }

    pub fn secret(&self) -> Option<Secret> {
        Secret::new(self.secret.as_str())
    }

    pub fn nonce(&self) -> Nonce {
        let octets = base64::engine::general_purpose::STANDARD.decode(&self.lines[1]).unwrap();
        Nonce::from_random(octets.as_slice().try_into().unwrap())
    }

    /// Our configuration for playing this side, with its greeting keys in their order.
    pub fn config(&self, order: KeyOrder) -> HandshakeConfig {
        let greeting = self.greeting();
        let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).unwrap();
        let framings = greeting
            .framings
            .iter()
            .map(|name| Framing::from_name(std::str::from_utf8(name).unwrap()).unwrap());
        let recorded = greeting.keys.iter().filter(|(name, _)| match order {
            KeyOrder::Recorded => true,
            KeyOrder::Ours => name == b"provider",
        });
        HandshakeConfig {
            auth_accept: self.auth_accept.clone(),
            framings: framings.collect(),
            secret: self.secret(),
            certificate: greeting.offers_tls(),
            keys: recorded.map(|(name, value)| (text(name), text(value))).collect(),
            ..HandshakeConfig::new(greeting.node_id)
        }
    }

    /// Our session that plays this side.
    pub fn begin(&self, order: KeyOrder) -> Session {
        let handshaker = Handshaker::new(self.config(order)).unwrap();
        let peer_addr = self.greeting().value("peeraddr").unwrap();
        let peer_addr = std::str::from_utf8(&peer_addr).unwrap();
        match self.greeting().value("dataconn_id") {
            Some(id) => handshaker.dial_data(self.nonce(), peer_addr, id),
            None if self.dials => handshaker.dial(self.nonce(), peer_addr),
            None => handshaker.listen(self.nonce(), peer_addr),
        }
    }
}

#[derive(Clone, Copy)]
pub enum KeyOrder {
    Recorded,
    Ours,
}

pub struct Conversation {
    pub file: String,
    pub a: Side,
    pub b: Side,
}

impl Conversation {
    /// Each side with the other one.
    pub fn both_ways(&self) -> [(&Side, &Side); 2] {
        [(&self.a, &self.b), (&self.b, &self.a)]
    }

    /// Each Perl node with its peer; clients that are not Perl nodes send keys of their own.
    pub fn perl_nodes(&self) -> impl Iterator<Item = (&Side, &Side)> {
        self.both_ways().into_iter().filter(|(side, _)| side.greeting().is_from_perl())
    }
}

pub fn fixture(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(file)
}

pub fn json_lines(file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(fixture(file)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub fn read(file: &str) -> Conversation {
    read_from(&fixture(file))
}

/// A recording anywhere.
pub fn read_from(path: &Path) -> Conversation {
    let file = path.file_name().unwrap().to_str().unwrap();
    let text = std::fs::read_to_string(path).unwrap();
    let (scenario, reads) = text.split_once('\n').unwrap();
    let scenario: Value = serde_json::from_str(scenario).unwrap();
    let entries: Vec<Entry> = reads.lines().map(|line| Entry::parse(line).unwrap()).collect();
    let side = |name: &str| {
        let of_side = entries.iter().filter(|entry| entry.from.letter() == name);
        let octets: Vec<u8> = of_side.flat_map(|entry| entry.octets.clone()).flatten().collect();
        let mut rest = octets.as_slice();
        let mut lines = Vec::new();
        while lines.len() < 3
            && let Some(end) = rest.iter().position(|&octet| octet == b'\n')
        {
            lines.push(String::from_utf8(rest[..end].to_vec()).unwrap());
            rest = &rest[end + 1..];
        }
        let configured = ["dialer", "listener"].map(|role| &scenario[role]);
        let configured = configured.into_iter().find(|side| side["is"] == name);
        let secret = configured.map_or(&scenario["secret"], |side| &side["secret"]);
        let auth_accept = Greeting::parse(lines[0].as_bytes()).unwrap().auth_methods;
        Side {
            dials: name == "a",
            secret: secret.as_str().unwrap().to_owned(),
            auth_accept: auth_accept
                .iter()
                .filter_map(|name| AuthMethod::from_name(name))
                .collect(),
            lines,
            rest: rest.to_vec(),
            octets,
        }
    };
    Conversation { file: file.to_owned(), a: side("a"), b: side("b") }
}

/// The next event of a session that reads these pieces.
pub fn next_event(session: &mut Session, pieces: &mut Pieces<'_>) -> Result<Event, HandshakeError> {
    loop {
        match session.poll()? {
            Some(event) => return Ok(event),
            None if !pieces.arrive() => return Err(session.closed()),
            None => session.input().extend_from_slice(std::mem::take(&mut pieces.unread)),
        }
    }
}

/// Octets that arrive in several reads.
pub struct Pieces<'a> {
    pub unread: &'a [u8],
    pub to_come: Vec<&'a [u8]>,
}

impl<'a> Pieces<'a> {
    pub fn whole(octets: &'a [u8]) -> Pieces<'a> {
        Pieces { unread: octets, to_come: Vec::new() }
    }

    pub fn cut_at(octets: &'a [u8], at: usize) -> Pieces<'a> {
        Pieces { unread: &octets[..at], to_come: vec![&octets[at..]] }
    }

    pub fn single(octets: &'a [u8]) -> Pieces<'a> {
        Pieces { unread: &[], to_come: octets.chunks(1).rev().collect() }
    }

    /// Brings the next piece, if there is one.
    pub fn arrive(&mut self) -> bool {
        if self.unread.is_empty()
            && let Some(piece) = self.to_come.pop()
        {
            self.unread = piece;
            return true;
        }
        !self.unread.is_empty()
    }

    pub fn rest(mut self) -> Vec<u8> {
        self.to_come.push(self.unread);
        self.to_come.into_iter().rev().flatten().copied().collect()
    }
}

/// What we send when playing one side, and our verdict on the other.
pub struct Played {
    pub output: Vec<u8>,
    pub outcome: Result<Agreement, HandshakeError>,
    pub rest: Vec<u8>,
}

pub fn play(mut session: Session, mut pieces: Pieces<'_>) -> Played {
    let mut output = Vec::new();
    let outcome = loop {
        output.extend(session.transmit().unwrap_or_default());
        match next_event(&mut session, &mut pieces) {
            Ok(Event::Greeted) => session.proceed(AuthOrder::Now),
            Ok(Event::StartTls { .. }) => session.tls_established(TlsPeer::Verified),
            Ok(Event::StartBoundTls { .. } | Event::Proven) => panic!("not asked for"),
            Ok(Event::Established(agreement)) => break Ok(agreement),
            Err(error) => break Err(error),
        }
    };
    let rest = [session.take_input().to_vec(), pieces.rest()].concat();
    Played { output, outcome, rest }
}

pub fn said(side: &Side) -> Vec<u8> {
    side.lines.iter().flat_map(|line| [line.as_bytes(), b"\n"].concat()).collect()
}

/// Composes the recorded lines again, octet for octet.
pub fn is_composed_again(conversation: &Conversation) {
    for side in [&conversation.a, &conversation.b] {
        assert_eq!(side.greeting().compose(), side.greeting_line(), "{}", conversation.file);
        assert_eq!(side.nonce().as_bytes(), side.lines[1].as_bytes());
    }
}

/// Verifies and reproduces the recorded tokens. Returns the number of authentication lines.
pub fn authenticates_again(conversation: &Conversation) -> usize {
    let mut seen = 0;
    for (side, other) in conversation.both_ways() {
        let Some(line) = side.auth_line() else {
            continue;
        };
        let [name, token, framing] = *line.split(';').collect::<Vec<_>>() else { panic!() };
        let method: AuthMethod = name.parse().unwrap();
        let (own, peer) = (side.greeting_octets(), other.greeting_octets());
        let secret = side.secret();
        assert!(method.verify(secret.as_ref(), token.as_bytes(), &own, &peer));
        assert!(!method.verify(secret.as_ref(), token.as_bytes(), &peer, &own));
        let made = method.token(secret.as_ref(), &own, &peer).unwrap();
        assert_eq!(format!("{method};{made};{framing}"), line, "{}", conversation.file);
        seen += 1;
    }
    seen
}

/// When playing a Perl node we send what it sent.
pub fn is_played_again(conversation: &Conversation) {
    for (side, other) in conversation.perl_nodes() {
        let played = play(side.begin(KeyOrder::Recorded), Pieces::whole(&other.octets));
        assert_eq!(played.output, said(side), "{}", conversation.file);
        let peer = played.outcome.unwrap();
        assert_eq!(peer.peer, other.greeting());
        assert_eq!(peer.method, AuthMethod::HmacSha3_512);
        assert!(side.auth_line().unwrap().ends_with(peer.send_framing.name()));
        assert!(other.auth_line().unwrap().ends_with(peer.receive_framing.name()));
        assert_eq!(played.rest, other.rest, "{}", conversation.file);
    }
}
