//! A hostile member: a sequence of requests that is determined by a seed.

use super::SECRET;
use super::figures::Sent;
use super::raw;
use super::round::Attack;
use aemp::value::NodeId;
use aemp::value::packed::Elements;
use aemp::wire::auth::{Nonce, Secret};
use aemp::wire::framing::{Framing, encode};
use aemp::wire::session::{AuthOrder, Event, HandshakeConfig, Handshaker};
use aemp_sim::offences::{Offence, Offender};
use anyhow::{Context as _, Result, bail};
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::ops::Range;
use std::time::{Duration, Instant};

/// How long a member sends.
const DURATION: Duration = Duration::from_secs(5);

/// How far the sequences of two members are from each other.
const SECOND_MEMBER: u64 = 1_000_001;

/// Behind one packet in this many a member sends half a packet, or octets that are hard to decode, and
/// connects again.
const PACKETS_TO_RAW: usize = 50;

/// The pause after a connection was refused.
const RETRY: Duration = Duration::from_millis(50);

/// Octets of the largest packets of a round.
const MAX_PACKET_SIZES: [usize; 4] = [2_000, 60_000, 1 << 20, 16 << 20];

/// A sequence of this length at most is listed packet by packet.
const MAX_LISTED: usize = 20;

/// How a member reads the answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    Never,
    AtOnce,
    /// 64 KiB ten times a second.
    Slowly,
}

/// What a seed determines besides the packets.
struct Plan {
    offender: Offender,
    framing: Framing,
    largest: usize,
    reading: Reading,
}

impl Plan {
    fn of(seed: u64) -> Result<Plan> {
        let number = seed as usize;
        let largest = MAX_PACKET_SIZES.get(number / 3 % 4).copied().unwrap_or(2_000);
        Ok(Plan {
            offender: Offender::new(seed, &NodeId::new("victim")?, largest),
            framing: Framing::ALL.get(number % 3).copied().unwrap_or(Framing::Cbor),
            largest,
            reading: match number / 12 % 3 {
                0 => Reading::Never,
                1 => Reading::AtOnce,
                _ => Reading::Slowly,
            },
        })
    }
}

/// The names and seeds of the members that attack together.
fn members(seed: u64) -> Vec<(&'static str, u64)> {
    let mut members = vec![("member", seed)];
    if Attack::of(seed) == Attack::TwoMembers {
        members.push(("second", seed + SECOND_MEMBER));
    }
    members
}

/// One or two members send some packets of their sequences.
pub(super) fn besiege(address: &str, seed: u64, packets: &Range<usize>) -> Result<Sent> {
    let threads: Vec<_> = members(seed)
        .into_iter()
        .map(|(name, seed)| {
            let (address, packets) = (address.to_owned(), packets.clone());
            std::thread::spawn(move || besiege_as(name, &address, seed, &packets))
        })
        .collect();
    let mut sent = Sent::default();
    for thread in threads {
        let one = thread.join().map_err(|_| anyhow::anyhow!("a member's thread panicked"))??;
        sent.packets = sent.packets.max(one.packets);
        sent.octets += one.octets;
    }
    Ok(sent)
}

fn besiege_as(name: &str, address: &str, seed: u64, packets: &Range<usize>) -> Result<Sent> {
    let Plan { mut offender, framing, largest, reading } = Plan::of(seed)?;
    let begun = Instant::now();
    let mut sent = Sent::default();
    let goes_on = |number| begun.elapsed() < DURATION && number < packets.end;
    // A packet that is refused ends the connection; the member connects again.
    while goes_on(sent.packets) {
        // The node may not have noticed yet that the last connection has ended.
        let Ok(mut stream) = connect(address, name, framing) else {
            std::thread::sleep(RETRY);
            continue;
        };
        stream.set_write_timeout(Some(Duration::from_secs(1)))?;
        if reading != Reading::Never {
            let input = stream.try_clone()?;
            std::thread::spawn(move || read(input, reading));
        }
        while goes_on(sent.packets) {
            let offence = offender.offence();
            sent.packets += 1;
            if sent.packets <= packets.start {
                continue;
            }
            let request = offence.request.as_elements();
            let Some(packet) = packet(framing, request.len(), request.octets()) else { continue };
            sent.octets += packet.len() as u64;
            if stream.write_all(&packet).is_err() {
                break;
            }
            if sent.packets.is_multiple_of(PACKETS_TO_RAW) {
                let choice = sent.packets / PACKETS_TO_RAW;
                let raw = match choice % 4 {
                    0 => packet.get(..packet.len() / 2).unwrap_or_default().to_vec(),
                    _ => raw::octets(framing, choice as u64, largest),
                };
                sent.octets += raw.len() as u64;
                // The node may refuse it before all is written.
                let _ = stream.write_all(&raw);
                break;
            }
        }
        // The node may have closed it already.
        let _ = stream.shutdown(Shutdown::Both);
    }
    Ok(sent)
}

fn read(mut input: TcpStream, reading: Reading) {
    let mut buffer = vec![0; 64 << 10];
    while matches!(input.read(&mut buffer), Ok(len) if len > 0) {
        if reading == Reading::Slowly {
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Prints what the packets of a round are.
pub(super) fn list(seed: u64, packets: &Range<usize>) -> Result<()> {
    let attack = Attack::of(seed);
    println!("{}: packets {} to {} of seed {seed}", attack.name(), packets.start, packets.end);
    if !matches!(attack, Attack::OneMember | Attack::TwoMembers) {
        return Ok(());
    }
    for (name, seed) in members(seed) {
        let Plan { mut offender, framing, largest, reading } = Plan::of(seed)?;
        println!("{name}: {framing:?}, packets of up to {largest} octets, reads {reading:?}");
        let sequence = (0..packets.end).map(|_| offender.offence()).skip(packets.start);
        let octets = |offence: &Offence| offence.request.as_elements().octets().len();
        if packets.len() <= MAX_LISTED {
            sequence.for_each(|offence| println!("  {}: {}", offence.what, octets(&offence)));
            continue;
        }
        let mut kinds: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for offence in sequence {
            let (count, sum) = kinds.entry(offence.what).or_default();
            *count += 1;
            *sum += octets(&offence);
        }
        for (what, (count, sum)) in kinds {
            println!("  {count} of {what}, {sum} octets");
        }
    }
    Ok(())
}

/// A packet to the node port. `None` if it is too deep for the framing.
pub(super) fn packet(framing: Framing, len: usize, request: &[u8]) -> Option<Vec<u8>> {
    let mut elements = Vec::with_capacity(request.len() + 1);
    aemp::value::packed::put_text(&mut elements, "");
    elements.extend_from_slice(request);
    let mut octets = Vec::new();
    encode(framing, Elements::new(len + 1, &elements), &mut octets).ok()?;
    Some(octets)
}

/// Sends a request of `len` elements, and returns how many octets that were.
pub(super) fn send(
    stream: &mut TcpStream,
    framing: Framing,
    len: usize,
    request: &[u8],
) -> Result<u64> {
    let packet = packet(framing, len, request).context("a request that is too deep")?;
    stream.write_all(&packet)?;
    Ok(packet.len() as u64)
}

pub(super) fn nonce() -> Result<Nonce> {
    let mut octets = [0; Nonce::OCTETS];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut octets)?;
    Ok(Nonce::from_random(&octets))
}

/// An authenticated connection.
pub(super) fn connect(address: &str, name: &str, framing: Framing) -> Result<TcpStream> {
    let mut config = HandshakeConfig::new(name);
    config.secret = Secret::new(SECRET);
    config.framings = vec![framing];
    let handshaker = Handshaker::new(config)?;
    let mut session = handshaker.dial(nonce()?, address);
    let mut stream = TcpStream::connect(address)?;
    loop {
        while let Some(octets) = session.transmit() {
            stream.write_all(&octets)?;
        }
        match session.poll()? {
            Some(Event::Greeted) => session.proceed(AuthOrder::Now),
            Some(Event::Established(_)) => return Ok(stream),
            Some(other) => bail!("{other:?}"),
            None => {
                let mut piece = [0; 4096];
                let len = stream.read(&mut piece)?;
                if len == 0 {
                    bail!("the node closed the connection");
                }
                session.input().extend(piece.iter().take(len));
            }
        }
    }
}
