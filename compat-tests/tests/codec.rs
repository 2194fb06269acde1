//! The framings and tokens compared with Perl's own encoders, both ways, with random values.
//!
//! `AEMP_SEED` repeats a run, `AEMP_ROUNDS` sets how many values go each way in each framing.

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use aemp::value::packed::{Elements, Reader, Token};
use aemp::wire::auth::{AuthMethod, Secret};
use aemp::wire::framing::{Decoder, Framing, FramingLimits, Step, encode};
use compat_tests::codec::PerlCodec;
use compat_tests::neutral::{Neutral, Numbers, hex};
use compat_tests::random::{Palette, Random};

/// The precision with which Perl converts a float to text.
const FIFTEEN_DIGITS: Numbers = Numbers::Rounded(1e-14);

/// Perl's JSON decoder multiplies by powers of ten, which is off by more the larger the exponent.
const ROUGHLY: Numbers = Numbers::Rounded(1e-12);

fn rounds() -> usize {
    std::env::var("AEMP_ROUNDS").map_or(2_000, |text| text.parse().unwrap())
}

fn ours_encodes(framing: Framing, packet: &Neutral) -> Vec<u8> {
    let mut packed = Vec::new();
    packet.put(&mut packed);
    let mut reader = Reader::new(&packed);
    let Ok(Token::Array(len)) = reader.token() else {
        panic!("{packet} is not an array");
    };
    let mut octets = Vec::new();
    encode(framing, Elements::new(len, reader.rest()), &mut octets).unwrap();
    octets
}

/// Decodes a stream of packets that arrives in pieces.
fn ours_decodes(
    framing: Framing,
    octets: &[u8],
    random: &mut Random,
) -> Result<Vec<Neutral>, String> {
    let mut decoder = Decoder::new(framing, FramingLimits::default());
    let mut packets = Vec::new();
    let (mut from, mut arrived) = (0, 0);
    loop {
        match decoder.next(&octets[from..arrived]).map_err(|error| error.to_string())? {
            Step::More { used } => {
                from += used;
                if arrived == octets.len() {
                    return if from == arrived && !decoder.is_inside_a_packet() {
                        Ok(packets)
                    } else {
                        Err(format!("{} octets are left", arrived - from))
                    };
                }
                let longest = [1, 8, 70_000][random.below(3)];
                let piece = 1 + random.below(longest);
                arrived = (arrived + piece).min(octets.len());
            }
            Step::Packet { used, elements } => {
                from += used;
                let mut reader = elements.reader();
                let items = (0..elements.len()).map(|_| Neutral::from_packed(&mut reader));
                packets.push(Neutral::Array(items.collect()));
            }
        }
    }
}

fn assert_arrives(sent: &Neutral, received: &[Neutral], numbers: Numbers, context: &str) {
    let [received] = received else {
        panic!("{context}: {} packets instead of one for {sent}", received.len());
    };
    assert!(sent.arrives_as(received, numbers), "{context}\n    sent {sent}\nreceived {received}");
}

fn perl_reads_what_we_write(framing: Framing, numbers: Numbers) {
    let Some(mut perl) = PerlCodec::start() else {
        return;
    };
    let mut random = Random::from_environment();
    let palette = Palette {
        non_finite: true,
        beyond_unicode: true,
        tiny: framing != Framing::Json,
        only_perl: false,
    };
    for round in 0..rounds() {
        let context = format!("{framing}, AEMP_SEED={}, round {round}", random.seed());
        let sent = random.packet(palette);
        let octets = ours_encodes(framing, &sent);
        let received = perl
            .decode(framing, &octets)
            .unwrap_or_else(|error| panic!("{context}: {error}\n{sent}\n{}", hex(&octets)));
        assert_arrives(&sent, &received, numbers, &context);
    }
}

fn we_read_what_perl_writes(framing: Framing, numbers: Numbers) {
    let Some(mut perl) = PerlCodec::start() else {
        return;
    };
    let mut random = Random::from_environment();
    let palette = Palette {
        // Perl's JSON encoder writes text that no decoder reads, not even its own.
        non_finite: framing != Framing::Json,
        // Perl's JSON encoder refuses them.
        beyond_unicode: framing != Framing::Json,
        tiny: true,
        only_perl: true,
    };
    for round in 0..rounds() {
        let context = format!("{framing}, AEMP_SEED={}, round {round}", random.seed());
        let sent = random.packet(palette);
        let octets = perl.encode(framing, &sent).unwrap();
        let received = ours_decodes(framing, &octets, &mut random)
            .unwrap_or_else(|error| panic!("{context}: {error}\n{sent}\n{}", hex(&octets)));
        assert_arrives(&sent, &received, numbers, &context);
    }
}

#[test]
fn perl_reads_our_cbor() {
    perl_reads_what_we_write(Framing::Cbor, Numbers::Exact);
}

#[test]
fn perl_reads_our_json() {
    perl_reads_what_we_write(Framing::Json, ROUGHLY);
}

#[test]
fn perl_reads_our_storable() {
    perl_reads_what_we_write(Framing::Storable, Numbers::AnyForm);
}

#[test]
fn we_read_perls_cbor() {
    // Floats without a fraction are written as integers.
    we_read_what_perl_writes(Framing::Cbor, Numbers::AnyForm);
}

#[test]
fn we_read_perls_json() {
    we_read_what_perl_writes(Framing::Json, FIFTEEN_DIGITS);
}

#[test]
fn we_read_perls_storable() {
    we_read_what_perl_writes(Framing::Storable, FIFTEEN_DIGITS);
}

#[test]
fn packets_follow_one_another_without_anything_between() {
    let Some(mut perl) = PerlCodec::start() else {
        return;
    };
    let mut random = Random::from_environment();
    let palette =
        Palette { non_finite: false, beyond_unicode: false, tiny: true, only_perl: false };
    for framing in Framing::ALL {
        let packets: Vec<Neutral> = (0..200).map(|_| random.packet(palette)).collect();
        let seed = random.seed();

        let ours: Vec<u8> = packets.iter().flat_map(|p| ours_encodes(framing, p)).collect();
        let received = perl.decode(framing, &ours).unwrap();
        assert_eq!(received.len(), packets.len(), "{framing}, AEMP_SEED={seed}");

        let perls: Vec<u8> =
            packets.iter().flat_map(|p| perl.encode(framing, p).unwrap()).collect();
        let received = ours_decodes(framing, &perls, &mut random).unwrap();
        assert_eq!(received.len(), packets.len(), "{framing}, AEMP_SEED={seed}");
        for (sent, received) in packets.iter().zip(&received) {
            assert!(
                sent.arrives_as(received, FIFTEEN_DIGITS),
                "{framing}, AEMP_SEED={seed}\n    sent {sent}\nreceived {received}"
            );
        }
    }
}

#[test]
fn both_sides_take_the_deepest_nesting_that_perl_takes() {
    let Some(mut perl) = PerlCodec::start() else {
        return;
    };
    let mut random = Random::from_environment();
    let nested = |levels: usize| {
        let words = "[ o70 ".repeat(levels) + &"] ".repeat(levels);
        Neutral::parse_line(&words).remove(0)
    };
    for framing in Framing::ALL {
        let packet = nested(512);
        let ours = ours_encodes(framing, &packet);
        let received = perl.decode(framing, &ours).unwrap();
        assert_arrives(&packet, &received, Numbers::Exact, "ours to Perl");
        let perls = perl.encode(framing, &packet).unwrap();
        let received = ours_decodes(framing, &perls, &mut random).unwrap();
        assert_arrives(&packet, &received, Numbers::Exact, "Perl to ours");
    }
}

#[test]
fn tokens_are_those_of_perls_digests() {
    let Some(mut perl) = PerlCodec::start() else {
        return;
    };
    let mut random = Random::from_environment();
    for round in 0..rounds() / 4 {
        // The block of SHA3-512 has 72 octets; longer keys are hashed first.
        let key: Vec<u8> = (0..1 + random.below(150)).map(|_| random.bits() as u8).collect();
        let (own, other) = (random.octets(), random.octets());
        let secret = Secret::new(key.clone());
        let said = [own.clone(), other.clone()].concat();
        let context = format!("AEMP_SEED={}, round {round}", random.seed());
        assert_eq!(
            AuthMethod::HmacSha3_512.token(secret.as_ref(), &own, &other),
            Some(perl.hmac(&key, &said)),
            "{context}"
        );
        assert_eq!(
            AuthMethod::TlsSha3_512.token(None, &own, &other),
            Some(perl.sha3(&said)),
            "{context}"
        );
    }
}
