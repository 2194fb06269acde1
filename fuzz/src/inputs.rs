//! What must hold for any input from a peer or in the rc file. Each function takes arbitrary octets and
//! panics if a rule is violated. Used by the fuzz targets and by the property tests in
//! `tests/hostile_inputs.rs`.

use aemp::config::relaxed;
use aemp::config::{AdvertiseSpec, Args, BindSpec, Effective, RcFile, SeedSpec, to_pretty};
use aemp::kernel::db::{Datum, QueryKind};
use aemp::kernel::{
    Authenticated as Proven, ConnId, Effect, Kernel, KernelConfig, Now, OnDeath, PeerGreeting,
};
use aemp::value::packed::Elements;
use aemp::value::{NodeId, Packed, PortId, Str, Value};
use aemp::wire::auth::{AuthMethod, Exporter, Nonce, Secret};
use aemp::wire::framing::{self, Decoder, EncodeError, Framing, FramingLimits, Step};
use aemp::wire::greeting::{Greeting, escape, unescape};
use aemp::wire::packet::Packet;
use aemp::wire::protection::Protection;
use aemp::wire::session::{
    Agreement, AuthOrder, Connection, Encrypt, Event, HandshakeConfig, Handshaker, Session, TlsPeer,
};
use std::fmt::Debug;
use std::time::Duration;

/// The packet limit here: smaller than a node's, so that inputs reach it.
const LIMITS: FramingLimits = FramingLimits { packet: 16 << 10, nesting: 64 };

/// Parsing and composing a greeting line loses nothing.
pub fn greeting(line: &[u8]) {
    let breaks = |octet: &u8| matches!(octet, b'\r' | b'\n');
    let unbroken: Vec<u8> = line.iter().copied().filter(|octet| !breaks(octet)).collect();
    assert_eq!(unescape(&escape(&unbroken)), unbroken);
    assert!(!escape(line).iter().any(|octet| breaks(octet) || *octet == b';'));
    let Ok(greeting) = Greeting::parse(line) else {
        return;
    };
    let _ = (greeting.has_version(1), greeting.offers_tls(), greeting.is_from_perl());
    let again = Greeting::parse(&greeting.compose()).expect("a greeting");
    assert_eq!(again, greeting);
    assert_eq!(again.compose(), greeting.compose());
}

/// The result of a handshake does not depend on how its octets are split, and nobody who does not know
/// the secret authenticates by a method that needs it.
///
/// The first octet chooses our side, the others are the peer's.
pub fn handshake(input: &[u8]) {
    let Some((&kind, peer)) = input.split_first() else {
        return;
    };
    let whole = shake_hands(kind, &[peer]);
    let pieces: Vec<&[u8]> = peer.chunks(1 + usize::from(kind >> 4)).collect();
    let in_pieces = shake_hands(kind, &pieces);
    assert_eq!(whole, in_pieces);
    if let Ok((agreed, _)) = whole {
        let secret_was_told = agreed.method == AuthMethod::Cleartext;
        let by_certificate = agreed.protection == Protection::Certificates;
        assert!(secret_was_told || by_certificate, "{agreed:?} without the secret");
        assert!(!secret_was_told || agreed.protection != Protection::Bound, "{agreed:?}");
    }
}

/// A secret that no input knows, except those that send it in clear.
pub const SECRET: &str = "geheim";

type HandshakeResult = Result<(Agreement, Vec<u8>), String>;

/// Drives a session up to the first packet; returns what was agreed on and the remaining octets.
fn shake_hands(kind: u8, pieces: &[&[u8]]) -> HandshakeResult {
    let mut config = HandshakeConfig::new("node");
    config.secret = Secret::new(SECRET);
    (config.certificate, config.encrypt, config.encryption_required) = [
        (false, Encrypt::Never, false),
        (true, Encrypt::Auto, false),
        (true, Encrypt::Never, true),
        (false, Encrypt::Always, false),
    ][usize::from(kind & 3)];
    let handshaker = Handshaker::new(config).expect("a configuration");
    let nonce = Nonce::from_random(&[7; Nonce::OCTETS]);
    let mut session: Session = match kind >> 2 & 3 {
        0 => handshaker.dial(nonce, "192.0.2.1:4040"),
        1 => handshaker.dial_data(nonce, "192.0.2.1:4040", "id"),
        _ => handshaker.listen(nonce, "192.0.2.1:4040"),
    };
    let order = [AuthOrder::Now, AuthOrder::AfterPeer][usize::from(kind >> 6 & 1)];
    let mut pieces = pieces.iter();
    loop {
        let event = session.poll().map_err(|error| {
            let text = error.to_string();
            assert_is_one_line(&text, 8192);
            assert_eq!(session.poll(), Err(error), "a session that has failed stays so");
            text
        })?;
        match event {
            Some(Event::Greeted) => {
                if let Some(Connection::Data { id }) = session.connection() {
                    assert!(!id.contains(&b'\n'));
                }
                session.proceed(order);
            }
            Some(Event::StartTls { .. }) => session.tls_established(match kind & 0x80 {
                0 => TlsPeer::Verified,
                _ => TlsPeer::Anonymous,
            }),
            Some(Event::StartBoundTls { .. }) => {
                session.tls_established(TlsPeer::Verified);
                let sent = session.transmit();
                assert_eq!(sent.as_deref(), Some(session.own_greeting()), "no proof yet");
                session.bound_tls_established(Exporter::new([5; Exporter::OCTETS]));
            }
            Some(Event::Proven) => session.authenticate(),
            Some(Event::Established(agreement)) => {
                pieces.for_each(|piece| session.input().extend_from_slice(piece));
                return Ok((agreement, session.take_input().to_vec()));
            }
            None => match pieces.next() {
                Some(piece) => session.input().extend_from_slice(piece),
                None => return Err(session.closed().to_string()),
            },
        }
    }
}

/// Packets do not depend on how the octets are split, take no more memory than allowed, and survive being
/// sent on.
///
/// The first octet determines how the input is split.
pub fn packets(framing: Framing, input: &[u8]) {
    let Some((&cut, wire)) = input.split_first() else {
        return;
    };
    let (whole, end) = received(framing, LIMITS, &[wire]);
    let pieces: Vec<&[u8]> = wire.chunks(1 + usize::from(cut)).collect();
    let is_native =
        framing == Framing::Storable && wire.windows(NATIVE.len()).any(|octets| octets == NATIVE);
    let (in_pieces, end_of_pieces) = received(framing, LIMITS, &pieces);
    // If several things are wrong, which one is reported may depend on the split.
    assert_eq!(end.is_some(), end_of_pieces.is_some(), "{end:?} but in pieces {end_of_pieces:?}");
    assert_eq!(whole.len(), in_pieces.len());
    for (packet, piecewise) in whole.iter().zip(&in_pieces) {
        assert!(same(packet, piecewise), "{packet:x?} but in pieces {piecewise:x?}");
        sent_on(framing, packet, is_native);
    }
}

/// The packets in the pieces, and the error that ended decoding.
fn received(
    framing: Framing,
    limits: FramingLimits,
    pieces: &[&[u8]],
) -> (Vec<Packed>, Option<String>) {
    let mut decoder = Decoder::new(framing, limits);
    let mut unread = Vec::new();
    let mut packets = Vec::new();
    for piece in pieces {
        unread.extend_from_slice(piece);
        loop {
            match decoder.next(&unread) {
                Ok(Step::More { used }) => {
                    unread.drain(..used);
                    break;
                }
                Ok(Step::Packet { used, elements }) => {
                    assert!(used > 0, "a packet made of nothing");
                    packets.push(elements.to_packed());
                    unread.drain(..used);
                }
                Err(error) => return (packets, Some(error.to_string())),
            }
        }
    }
    (packets, None)
}

/// How Storable's images in the order of the machine begin.
const NATIVE: &[u8] = b"\x04\x0b\x0812345678";

/// A received packet can be read, and sent on in every framing.
///
/// Only Storable's native images have floats and integers beyond 32 bits. In network order these are sent
/// as strings, which then stay the same.
fn sent_on(framing: Framing, packet: &Packed, is_native: bool) {
    let elements = packet.as_elements();
    // Expanded references and numbers may take more memory than on the wire, but within a bound.
    assert!(elements.octets().len() <= 10 * LIMITS.packet, "{}", elements.octets().len());
    let _ = Packet::read(elements);
    let value: Vec<Value> = elements.decode().expect("any packet is a list of values");
    for value in &value {
        assert_is_one_line(&value.to_string(), usize::MAX);
    }
    let copy = Packed::of(&elements).expect("what was received can be sent");
    assert!(same(&copy, packet), "{copy} is a copy of {packet}");
    for other in Framing::ALL {
        let mut wire = Vec::new();
        framing::encode(other, elements, &mut wire).expect("what was received can be sent");
        // What the decoder knows of a packet only spares a search.
        let mut searched = Vec::new();
        let unknown = Elements::new(elements.len(), elements.octets());
        framing::encode(other, unknown, &mut searched).expect("what was received can be sent");
        assert_eq!(wire, searched, "{other}");
        let (again, error) = received(other, FramingLimits::default(), &[&wire]);
        assert_eq!(error, None, "{other}: {wire:x?}");
        assert_eq!(again.len(), 1, "{other}: {wire:x?}");
        if other == framing && is_native {
            sent_on(framing, &again[0], false);
        } else if other == framing {
            assert_eq!(shown(&again[0]), shown(packet), "{other}");
        }
    }
}

/// A packet as values; strings are equal whether they are octets or text.
fn shown(packet: &Packed) -> String {
    let values: Vec<Value> = packet.decode().expect("any packet is a list of values");
    let shown: String = values.iter().map(|value| format!("{value}, ")).collect();
    // JSON cannot represent these numbers; they are sent as Perl's strings for them.
    ["Inf", "-Inf", "NaN"]
        .iter()
        .fold(shown, |shown, name| shown.replace(&format!("{name:?}"), name))
}

fn same(one: &Packed, other: &Packed) -> bool {
    let (one, other) = (one.as_elements(), other.as_elements());
    one.len() == other.len() && one.octets() == other.octets()
}

/// Reading octets that are not in packed form returns an error and does nothing else.
///
/// The first octet is the number of values that the others are supposed to be.
pub fn packed(input: &[u8]) {
    let Some((&len, octets)) = input.split_first() else {
        return;
    };
    let elements = Elements::new(usize::from(len), octets);
    let _ = elements.decode::<Vec<Value>>();
    let _ = elements.decode::<(String, i8, f32, Option<bool>)>();
    let _ = Datum::from_packed(octets);
    for framing in Framing::ALL {
        let mut wire = vec![1, 2, 3];
        match framing::encode(framing, elements, &mut wire) {
            Ok(()) => assert!(wire.starts_with(&[1, 2, 3])),
            Err(_) => assert_eq!(wire, [1, 2, 3]),
        }
    }
}

/// Arbitrary requests from several peers in any order: the node's effects can be carried out, its log
/// stays readable, its timers do not spin, and nothing is left of the peers when they are gone.
///
/// The first octet chooses the kind of node. The others are packets in CBOR; the port name selects the
/// sender (`1`, `2`; otherwise the first peer), or names a local event: `tick`, `open`, `mon`, `set`,
/// `monitor`, `query`, `lose`.
pub fn requests(input: &[u8]) {
    let Some((&kind, wire)) = input.split_first() else {
        return;
    };
    let mut node = TestNode::new(kind);
    let (packets, _) = received(Framing::Cbor, LIMITS, &[wire]);
    for packet in packets.iter().take(64) {
        node.happens(packet);
    }
    for peer in 0..PEERS.len() {
        node.lose(peer);
    }
    node.pass(Duration::from_secs(1300));
    let counts = node.kernel.resource_counts();
    assert!(counts.nodes.is_empty(), "something is left of {counts:?}");
    assert_eq!((counts.connections, counts.attempts), (0, 0), "{counts:?}");
}

/// The peers: their IDs and providers.
const PEERS: [(&str, &str); 3] = [("perl", "AE-2.02"), ("ours", "aemp-0.1.0"), ("seed", "aemp-0")];

struct TestNode {
    kernel: Kernel,
    now: Duration,
    conns: [Option<ConnId>; 3],
}

impl TestNode {
    fn new(kind: u8) -> Self {
        let config = KernelConfig {
            addresses: vec![Str::from("192.0.2.1:4040")],
            seeds: if kind & 1 == 0 { Vec::new() } else { vec![Str::from("192.0.2.9:4040")] },
            secure: kind & 2 != 0,
            heal: kind & 4 == 0,
            ..KernelConfig::repeatable(node_id("node"))
        };
        let kernel = Kernel::new(config, Now::default());
        let mut node = TestNode { kernel, now: Duration::ZERO, conns: [None; 3] };
        node.kernel.register(Str::from("f"));
        if kind & 1 == 0 {
            node.kernel.become_global();
        }
        for peer in 0..PEERS.len() {
            node.connect(peer);
        }
        node
    }

    fn connect(&mut self, peer: usize) {
        let (id, provider) = PEERS[peer];
        let conn = self.kernel.accepted();
        self.conns[peer] = Some(conn);
        let greeting = PeerGreeting::new(node_id(id), Str::from(provider));
        self.kernel.greeted(conn, greeting);
        self.carry_out();
        self.kernel.verified(conn);
        self.carry_out();
        self.kernel.established(conn, &Proven { untrusted: false });
        self.carry_out();
    }

    fn lose(&mut self, peer: usize) {
        if let Some(conn) = self.conns[peer].take() {
            self.kernel.closed(conn, "lost");
            self.carry_out();
        }
    }

    fn happens(&mut self, packet: &Packed) {
        let Ok(Packet::Message { port, elements }) = Packet::read(packet.as_elements()) else {
            return;
        };
        let argument = |index: usize| -> Str {
            elements.after(index).first_str().unwrap_or_else(|| "".into()).to_owned()
        };
        match &*port.as_str().to_text_lossy() {
            "tick" => {
                let seconds: u8 = elements.decode::<(u8,)>().map_or(1, |(seconds,)| seconds);
                self.pass(Duration::from_secs(seconds.into()));
            }
            "open" => {
                self.kernel.open_port();
            }
            "mon" => {
                if let Ok(port) = PortId::parse(argument(0)) {
                    self.kernel.monitor(&port, OnDeath::Host);
                }
            }
            "kill" => {
                if let Ok(port) = PortId::parse(argument(0)) {
                    self.kernel.kill(&port, &elements.after(1).to_packed());
                }
            }
            "set" => {
                let value = Datum::from_packed(elements.after(2).octets());
                if let Ok(value) = value {
                    let _ = self.kernel.set(&argument(0), argument(1), value);
                }
            }
            "delete" => {
                let _ = self.kernel.delete(&argument(0), [argument(1)]);
            }
            "monitor" => {
                self.kernel.monitor_family(&argument(0));
            }
            "query" => {
                self.kernel.query(QueryKind::Family, &argument(0));
            }
            "lose" => {
                self.lose(1);
                self.connect(1);
            }
            name => {
                let peer = name.parse::<usize>().ok().filter(|peer| *peer < PEERS.len());
                let from = node_id(PEERS[peer.unwrap_or(0)].0);
                self.kernel.node_packet(&from, elements);
                if let Some(rest) = self.kernel.take_unfinished(&from) {
                    rest.finish(&mut self.kernel);
                }
                self.kernel.service_message(&from, elements);
            }
        }
        self.carry_out();
    }

    /// Advances time from one due event to the next.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        let mut steps = 0;
        while let Some(at) = self.kernel.next_tick().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.kernel.set_now(Now { uptime: self.now, wall: 1.8e9 + self.now.as_secs_f64() });
            self.kernel.tick();
            self.carry_out();
            steps += 1;
            assert!(steps < 50_000, "the clock spins");
        }
        self.now = end;
        self.kernel.set_now(Now { uptime: end, wall: 1.8e9 + end.as_secs_f64() });
    }

    fn carry_out(&mut self) {
        let mut rounds = 0;
        loop {
            let effects = self.kernel.take_effects();
            if effects.is_empty() {
                return;
            }
            rounds += 1;
            assert!(rounds < 1000, "effects without end");
            for effect in effects {
                self.one_effect(effect);
            }
        }
    }

    fn one_effect(&mut self, effect: Effect) {
        match effect {
            Effect::Send { packet, .. } | Effect::SendAll { packet, .. } => can_be_sent(&packet),
            Effect::Deliver { message, .. } => can_be_sent(&message),
            Effect::Spawned { init, .. } | Effect::Call(init) => can_be_sent(&init.arguments),
            Effect::Dial { conn, .. } => self.kernel.closed(conn, "nobody is there"),
            Effect::Close { conn, .. } => {
                for known in &mut self.conns {
                    if *known == Some(conn) {
                        *known = None;
                    }
                }
                self.kernel.closed(conn, "closed");
            }
            Effect::Eval { reply, .. } => {
                self.kernel.eval_done(&reply, "no Perl here", Elements::EMPTY);
            }
            Effect::Log { line, .. } => assert_is_one_line(&line.to_string(), 4096),
            _ => {}
        }
    }
}

fn can_be_sent(packet: &Packed) {
    for framing in Framing::ALL {
        match framing::encode(framing, packet.as_elements(), &mut Vec::new()) {
            Ok(()) | Err(EncodeError::TooDeep | EncodeError::TooLong { .. }) => {}
            Err(error) => panic!("{framing}: {error}: {packet:x?}"),
        }
    }
}

/// An rc file that can be read is the same after being written, and every error is one line.
pub fn rc_file(input: &[u8]) {
    match relaxed::parse(input) {
        Ok(value) => {
            let pretty = to_pretty(&value);
            let again = relaxed::parse(pretty.as_bytes()).expect("what was written is JSON");
            assert_eq!(again, value);
        }
        Err(error) => assert_is_one_line(&error.to_string(), 1000),
    }
    let file = match RcFile::parse("rc", input) {
        Ok(file) => file,
        Err(error) => return assert_is_one_line(&error.to_string(), 4096),
    };
    let again = RcFile::parse("rc", file.to_text().as_bytes()).expect("an rc file");
    assert_eq!(again.to_text(), file.to_text());
    let profiles = file.profiles().map(str::to_owned);
    for profile in profiles.chain(["default".to_owned()]).take(4) {
        let mut args = Args::new();
        args.profile = Some(profile);
        let effective = match Effective::resolve(&args, Some(&file), "host") {
            Ok(effective) => effective,
            Err(error) => {
                assert_is_one_line(&error.to_string(), usize::MAX);
                continue;
            }
        };
        match effective.settings() {
            Ok((settings, warnings)) => {
                warnings
                    .iter()
                    .for_each(|warning| assert_is_one_line(&warning.to_string(), usize::MAX));
                let _ = settings.check_credentials();
                let _ = settings.node_id.expand("host", "unique");
                for bind in &settings.binds {
                    let _ = (bind.endpoints("host", &[]), same_when_written(bind));
                }
                for seed in &settings.seeds {
                    let _ = (seed.endpoints("host", &[]), same_when_written(seed));
                }
            }
            Err(error) => assert_is_one_line(&error.to_string(), usize::MAX),
        }
    }
    if let Ok(text) = std::str::from_utf8(input) {
        let _ = (text.parse::<BindSpec>(), text.parse::<SeedSpec>(), text.parse::<AdvertiseSpec>());
        let _ = PortId::parse(text);
    }
}

fn same_when_written<T>(spec: &T)
where
    T: ToString + std::str::FromStr + PartialEq + Debug,
    T::Err: Debug,
{
    assert_eq!(spec.to_string().parse::<T>().expect("an address"), *spec);
}

fn node_id(id: &str) -> NodeId {
    NodeId::new(id).expect("a node ID")
}

#[track_caller]
fn assert_is_one_line(text: &str, longest: usize) {
    let control = text.chars().find(|character| character.is_control());
    assert_eq!(control, None, "in {text:?}");
    assert!(text.len() <= longest, "{} octets: {text:.200}...", text.len());
}
