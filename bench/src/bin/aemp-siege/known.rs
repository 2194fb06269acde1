//! The known offences: the worst of each kind that one or two members, or strangers, can send. Each is
//! committed against a new node.

use super::figures::{Outcome, Sent};
use super::node;
use super::raw;
use super::round::{Attacked, besieged};
use super::strangers;
use super::talker::Talker;
use aemp::value::{Packed, packed};
use aemp::wire::framing::Framing;
use anyhow::Result;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// A known offence.
#[derive(Clone, Copy)]
pub(super) struct Known {
    pub(super) number: usize,
    pub(super) name: &'static str,
    how: How,
}

/// What one member sends.
type Act = fn(&mut Talker) -> Result<()>;

/// How an offence is committed.
#[derive(Clone, Copy)]
enum How {
    /// One member sends it on a connection with this framing.
    Member(Framing, Act),
    /// All else; the argument is the node's address.
    Others(fn(&str) -> Result<Attacked>),
}

/// An offence of one member, in CBOR.
const fn member(number: usize, name: &'static str, act: Act) -> Known {
    Known { number, name, how: How::Member(Framing::Cbor, act) }
}

/// An offence of one member, in another framing.
const fn framed(number: usize, name: &'static str, framing: Framing, act: Act) -> Known {
    Known { number, name, how: How::Member(framing, act) }
}

/// An offence that takes more than a member.
const fn others(number: usize, name: &'static str, act: fn(&str) -> Result<Attacked>) -> Known {
    Known { number, name, how: How::Others(act) }
}

/// All of them. The sizes stay below the 256 MiB that a packet may have.
pub(super) const ALL: [Known; 33] = [
    member(1, "a chain of `snd` to the node itself, 1 MiB in one packet", |m| m.ask(&chain(MIB)?)),
    member(2, "a chain of `snd`, 4 MiB", |m| m.ask(&chain(4 * MIB)?)),
    member(3, "a chain of `snd`, 64 MiB", |m| m.ask(&chain(64 * MIB)?)),
    member(4, "chains of 1 MiB for 30 s", |m| repeat(m, Duration::from_secs(30), &[chain(MIB)?])),
    others(5, "two members, chains of 1 MiB and of 4 MiB for 15 s", two_chains),
    member(6, "`_spawn` with 128 MiB of escape characters as the function's name", |m| {
        m.ask(&Packed::of(&("AnyEvent::MP::_spawn", "port", escapes()))?)
    }),
    member(7, "`kil1` with 128 MiB of escape characters as the port's name", |m| {
        m.ask(&Packed::of(&("kil1", escapes(), "die", "why"))?)
    }),
    member(8, "an unknown request with 128 MiB of escape characters as its name", |m| {
        m.ask(&Packed::of(&(escapes(),))?)
    }),
    member(9, "200 spawns of functions with names of 4 MiB", large_functions),
    member(10, "2,000 refused spawns with port names of 64 KiB", large_ports),
    member(11, "400,000 `g_mon1` of families that do not exist", |m| {
        many(400_000, |number| m.ask(&Packed::of(&("g_mon1", format!("family {number}")))?))
    }),
    member(12, "400,000 `mon1` of ports that do not exist", |m| {
        many(400_000, |number| m.ask(&Packed::of(&("mon1", format!("port {number}")))?))
    }),
    member(13, "100 MiB for nodes that are being looked for", large_messages),
    member(14, "`g_upd` with a value of 509, 510, 511 levels", deep_values),
    member(15, "300 MiB for one family", large_family),
    framed(16, "Storable: 250 MiB of undef and a back-reference", Framing::Storable, |m| {
        m.send(&raw::octets(Framing::Storable, 0, 250 * MIB));
        Ok(())
    }),
    member(17, "CBOR: 64 MiB of values with tag 28", |m| {
        m.send(&raw::octets(Framing::Cbor, 0, 64 * MIB));
        Ok(())
    }),
    others(18, "CBOR: 64 MiB of strings with tag 256", tagged_strings),
    member(19, "CBOR: 250 MiB of empty arrays", |m| {
        m.send(&empty_arrays(250 * MIB));
        Ok(())
    }),
    framed(20, "JSON: 250 MiB of empty arrays", Framing::Json, |m| {
        m.send(&empty_arrays_in_json(250 * MIB / 3));
        Ok(())
    }),
    member(21, "20,000 addresses of a node, and a message to it", addresses),
    member(22, "unknown requests for 30 s", unknown_requests),
    member(23, "100,000 messages to unknown nodes", |m| {
        many(100_000, |number| {
            m.ask(&Packed::of(&("snd", format!("unknown{number}#port"), "text"))?)
        })
    }),
    member(24, "`g_slave` with 300,000 families", |m| m.ask(&many_families(1)?)),
    member(25, "`g_slave` with 500,000 keys of one family", |m| m.ask(&many_keys()?)),
    member(26, "five databases of 300,000 families, one after the other", |m| {
        many(5, |number| m.ask(&many_families(number)?))
    }),
    member(27, "20 queries for a family of 500,000 keys, and its first monitor", queries),
    others(28, "500,000 keys of `'g` (20 MiB), and another member that is global", many_globals),
    others(29, "10,000 strangers that claim a connected node's ID", |address| {
        claimed(address, strangers::CONNECTED)
    }),
    others(30, "10,000 strangers that claim the ID of a node that is not connected", |address| {
        claimed(address, strangers::UNKNOWN)
    }),
    member(31, "20 updates of one key with 15 million empty arrays, in two forms", many_arrays),
    member(32, "20 updates of one key with 31 MiB of control characters", |m| {
        become_slave(m)?;
        many(20, |number| {
            let value = format!("{number}{}", "\u{1}".repeat(31 * MIB));
            m.ask(&Packed::of(&("g_upd", "f", BTreeMap::from([("k", value)])))?)
        })
    }),
    member(33, "30 MiB of addresses of one node", |m| {
        become_slave(m)?;
        let addresses: Vec<String> = (0..2_000_000).map(dead_address).collect();
        m.ask(&Packed::of(&("g_upd", "'l", BTreeMap::from([("unknown0", addresses)])))?)?;
        m.ask(&Packed::of(&("snd", "unknown0#port", "text"))?)
    }),
];

impl Known {
    /// The offence with a number.
    pub(super) fn of(number: &str) -> Option<Known> {
        let number: usize = number.parse().ok()?;
        ALL.into_iter().find(|known| known.number == number)
    }

    /// Commits it against a new node, which has the default limits.
    pub(super) fn commit(self) -> Result<Outcome> {
        besieged(node::DEFAULT_DATABASE_LIMIT, move |address| match self.how {
            How::Member(framing, act) => {
                let mut member = Talker::connect(address, "member", framing)?;
                act(&mut member)?;
                member.finish()
            }
            How::Others(act) => act(address),
        })
    }
}

/// Does something `count` times, with a number.
fn many(count: usize, act: impl FnMut(usize) -> Result<()>) -> Result<()> {
    (0..count).try_for_each(act)
}

/// Sends the same requests again and again.
fn repeat(member: &mut Talker, time: Duration, requests: &[Packed]) -> Result<()> {
    let packets: Vec<Vec<u8>> =
        requests.iter().map(|request| member.packet(request)).collect::<Result<_>>()?;
    let begun = Instant::now();
    for packet in packets.iter().cycle() {
        if !member.is_open() || begun.elapsed() >= time {
            break;
        }
        member.send(packet);
    }
    Ok(())
}

/// Relays to the node itself, one in the other, of about `size` octets. The innermost goes to no port.
fn chain(size: usize) -> Result<Packed> {
    let mut link = Vec::new();
    packed::put_text(&mut link, "snd");
    packed::put_text(&mut link, "victim");
    let links = size / link.len();
    let mut octets = link.repeat(links);
    packed::put_text(&mut octets, "snd");
    packed::put_text(&mut octets, "victim#nobody");
    Ok(Packed::new(2 * links + 2, octets.into()))
}

fn two_chains(address: &str) -> Result<Attacked> {
    let threads: Vec<_> = [("member", MIB), ("second", 4 * MIB)]
        .into_iter()
        .map(|(name, size)| {
            let address = address.to_owned();
            std::thread::spawn(move || {
                let mut member = Talker::connect(&address, name, Framing::Cbor)?;
                repeat(&mut member, Duration::from_secs(15), &[chain(size)?])?;
                member.finish()
            })
        })
        .collect();
    let mut all = Attacked::default();
    for thread in threads {
        let one = thread.join().map_err(|_| anyhow::anyhow!("a member's thread panicked"))??;
        all = all.and(one);
    }
    Ok(all)
}

fn escapes() -> String {
    "\u{1b}".repeat(128 * MIB)
}

fn large_functions(member: &mut Talker) -> Result<()> {
    let function = "f".repeat(4 * MIB);
    many(200, |number| {
        member.ask(&Packed::of(&("AnyEvent::MP::_spawn", format!("port {number}"), &function))?)
    })
}

fn large_ports(member: &mut Talker) -> Result<()> {
    let port = "p".repeat(64 * KIB);
    many(2000, |number| {
        member.ask(&Packed::of(&("AnyEvent::MP::_spawn", format!("{number} {port}"), "unknown"))?)
    })
}

/// Messages to nodes at whose addresses nobody listens, so that they are looked for.
fn large_messages(member: &mut Talker) -> Result<()> {
    become_slave(member)?;
    let nodes: BTreeMap<String, [String; 1]> =
        (0..1024).map(|number| (format!("unknown{number}"), [dead_address(number)])).collect();
    member.ask(&Packed::of(&("g_upd", "'l", nodes))?)?;
    let text = "t".repeat(100 * KIB);
    many(1024, |number| member.ask(&Packed::of(&("snd", format!("unknown{number}#port"), &text))?))
}

/// Makes the member a slave without entries, so that it may send updates.
fn become_slave(member: &mut Talker) -> Result<()> {
    member.ask(&Packed::of(&("g_slave", BTreeMap::<&str, ()>::new()))?)
}

/// Values that are taken, that are refused, and that end the connection. A packet of the last kind cannot
/// be encoded, so it is written as it is: packed form is CBOR.
fn deep_values(member: &mut Talker) -> Result<()> {
    become_slave(member)?;
    for levels in [509, 510, 511] {
        let mut packet = Vec::new();
        packed::put_array(&mut packet, 4);
        ["", "g_upd", "f"].iter().for_each(|text| packed::put_text(&mut packet, text));
        packed::put_hash(&mut packet, 1);
        packed::put_text(&mut packet, "deep");
        (0..levels).for_each(|_| packed::put_array(&mut packet, 1));
        packed::put_undef(&mut packet);
        member.send(&packet);
    }
    Ok(())
}

fn large_family(member: &mut Talker) -> Result<()> {
    become_slave(member)?;
    let value = "v".repeat(MIB);
    many(300, |number| {
        let entry = BTreeMap::from([(number.to_string(), &value)]);
        member.ask(&Packed::of(&("g_upd", "f", entry))?)
    })
}

/// A table of many small strings; and, of another member, a large one that is referred to again and again,
/// which ends the connection.
fn tagged_strings(address: &str) -> Result<Attacked> {
    let mut all = Attacked::default();
    for (name, choice) in [("member", 2), ("second", 1)] {
        let mut member = Talker::connect(address, name, Framing::Cbor)?;
        member.send(&raw::octets(Framing::Cbor, choice, 64 * MIB));
        all = all.and(member.finish()?);
    }
    Ok(all)
}

/// A packet with an array of empty arrays in CBOR, of which each is an octet.
fn empty_arrays(count: usize) -> Vec<u8> {
    let mut packet = Vec::with_capacity(count + 16);
    packed::put_array(&mut packet, 2);
    packed::put_text(&mut packet, "");
    packed::put_array(&mut packet, count);
    (0..count).for_each(|_| packed::put_array(&mut packet, 0));
    packet
}

/// Updates of one key with values that are the same to Perl, with the heads of arrays in their short form
/// and in a longer one.
fn many_arrays(member: &mut Talker) -> Result<()> {
    become_slave(member)?;
    let forms = [vec![0x80; 15 * MIB], [0x98, 0].repeat(15 * MIB)];
    let packets = forms.map(|arrays| {
        let mut packet = Vec::with_capacity(arrays.len() + 64);
        packed::put_array(&mut packet, 4);
        ["", "g_upd", "f"].iter().for_each(|text| packed::put_text(&mut packet, text));
        packed::put_hash(&mut packet, 1);
        packed::put_text(&mut packet, "k");
        packed::put_array(&mut packet, 15 * MIB);
        packet.extend(arrays);
        packet
    });
    many(20, |number| {
        packets.iter().cycle().nth(number).iter().for_each(|packet| member.send(packet));
        Ok(())
    })
}

fn empty_arrays_in_json(count: usize) -> Vec<u8> {
    [b"[\"\",[".as_slice(), &b"[],".repeat(count), b"[]]]"].concat()
}

/// An address at which nobody listens.
fn dead_address(number: usize) -> String {
    format!("127.1.{}.{}:1", number / 250, number % 250)
}

fn addresses(member: &mut Talker) -> Result<()> {
    become_slave(member)?;
    let addresses: Vec<String> = (0..20_000).map(dead_address).collect();
    member.ask(&Packed::of(&("g_upd", "'l", BTreeMap::from([("unknown0", addresses)])))?)?;
    member.ask(&Packed::of(&("snd", "unknown0#port", "text"))?)
}

fn unknown_requests(member: &mut Talker) -> Result<()> {
    let end = "n".repeat(KIB);
    let requests: Vec<Packed> = (0..1000)
        .map(|number| Ok(Packed::of(&(format!("{number} {end}"),))?))
        .collect::<Result<_>>()?;
    repeat(member, Duration::from_secs(30), &requests)
}

/// A database of 300,000 families, each with a key and this value.
fn many_families(value: usize) -> Result<Packed> {
    let entry = BTreeMap::from([("k", value)]);
    let families: BTreeMap<String, _> =
        (0..300_000).map(|number| (format!("f{number}"), &entry)).collect();
    Ok(Packed::of(&("g_slave", families))?)
}

/// A database of one family with 500,000 keys.
fn many_keys() -> Result<Packed> {
    let family: BTreeMap<String, usize> =
        (0..500_000).map(|number| (format!("k{number}"), number)).collect();
    Ok(Packed::of(&("g_slave", BTreeMap::from([("f", family)])))?)
}

fn queries(member: &mut Talker) -> Result<()> {
    member.ask(&many_keys()?)?;
    many(20, |number| member.ask(&Packed::of(&("g_db_family", "f", number.to_string()))?))?;
    member.ask(&Packed::of(&("g_mon1", "f"))?)
}

fn many_globals(address: &str) -> Result<Attacked> {
    let mut member = Talker::connect(address, "member", Framing::Cbor)?;
    let nodes: BTreeMap<String, ()> =
        (0..500_000).map(|number| (format!("a node with a long ID {number:016}"), ())).collect();
    member.ask(&Packed::of(&("g_slave", BTreeMap::from([("'g", nodes)])))?)?;
    member.settle()?;
    let mut second = Talker::connect(address, "second", Framing::Cbor)?;
    second.ask(&Packed::of(&("g_global",))?)?;
    let second = second.finish()?;
    Ok(member.finish()?.and(second))
}

fn claimed(address: &str, id: &str) -> Result<Attacked> {
    let sent: Sent = strangers::claim(address, id, 0..usize::MAX)?;
    Ok(Attacked { sent, open: Vec::new() })
}
