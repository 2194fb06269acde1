//! Packets of a hostile member: every request, with extreme names, counts, depths and sizes, in a
//! sequence that is determined by a seed. Half of the sequences consist of a few kinds of requests.

use aemp::value::{NodeId, Packed, packed};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{Rng as _, SeedableRng as _};

/// A request to the node port of the victim.
#[derive(Debug, Clone)]
pub struct Offence {
    /// A description.
    pub what: &'static str,
    /// The request; its name is the first element.
    pub request: Packed,
}

/// An endless sequence of offences.
#[derive(Debug)]
pub struct Offender {
    random: StdRng,
    victim: NodeId,
    largest: usize,
    kinds: Vec<usize>,
}

/// The elements of a request.
#[derive(Default)]
struct Row {
    len: usize,
    octets: Vec<u8>,
}

impl Row {
    fn of(name: &str) -> Row {
        Row::default().text(name)
    }

    fn put(mut self, put: impl FnOnce(&mut Vec<u8>)) -> Row {
        put(&mut self.octets);
        self.len += 1;
        self
    }

    fn text(self, text: &str) -> Row {
        self.put(|out| packed::put_text(out, text))
    }

    fn packed(self) -> Packed {
        Packed::new(self.len, self.octets.into())
    }
}

/// The largest number of kinds in a sequence of few kinds.
const MAX_FEW_KINDS: usize = 3;

type Make = fn(&mut Offender) -> Row;

const OFFENCES: &[(&str, Make)] = &[
    ("relays to the victim itself", Offender::relays),
    ("relays that gather results", Offender::gathering_relays),
    ("a database", Offender::database),
    ("the database of a global node", Offender::global_database),
    ("an update", Offender::update),
    ("a deep value", Offender::deep_value),
    ("a database with a deep value", |o| o.deep_database("g_slave")),
    ("the database of a global node, with a deep value", |o| o.deep_database("g_set")),
    ("global nodes that nobody knows", Offender::globals),
    ("a node with many addresses", Offender::addresses),
    ("a subscription", |o| o.named("g_mon1")),
    ("the end of a subscription", |o| o.named("g_mon0")),
    ("a search for a node", |o| o.named("g_find")),
    ("a query", Offender::query),
    ("to be global", |_| Row::of("g_global")),
    ("a family, unasked", |o| o.entries(Row::of("g_chg1").text("f"))),
    ("a change, unasked", |o| o.entries(Row::of("g_chg2").text("f"))),
    ("an answer, unasked", |o| o.named("g_reply").text("x")),
    ("a spawn", Offender::spawn),
    ("a kill", |o| o.with_reason("kil1")),
    ("a death", |o| o.with_reason("kil0")),
    ("a monitor", |o| o.named("mon1")),
    ("the end of a monitor", |o| o.named("mon0")),
    ("an unknown request", Offender::unknown),
    ("an expression", |o| o.named("eval").text("nobody#x")),
    ("a question what the victim can", |o| o.named("can").text("nobody#x")),
    ("a message to an unknown node", Offender::message),
    ("an expected data connection", Offender::expected),
];

impl Offender {
    /// Offences against `victim` of at most about `largest` octets, determined by `seed`.
    pub fn new(seed: u64, victim: &NodeId, largest: usize) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let mut kinds: Vec<usize> = (0..OFFENCES.len()).collect();
        if (seed / 2).is_multiple_of(2) {
            kinds.shuffle(&mut random);
            kinds.truncate(random.random_range(1..=MAX_FEW_KINDS));
        }
        Offender { random, victim: victim.clone(), largest, kinds }
    }

    /// The next offence.
    pub fn offence(&mut self) -> Offence {
        let kind = self.kinds.choose(&mut self.random);
        let Some((what, make)) = kind.and_then(|&kind| OFFENCES.get(kind)) else {
            return Offence { what: "nothing", request: Packed::default() };
        };
        Offence { what, request: make(self).packed() }
    }

    /// A random size; small numbers are as likely as large ones.
    fn size(&mut self) -> usize {
        let bits = f64::from(self.largest.max(2) as u32).log2();
        self.random.random_range(0.0..bits).exp2() as usize
    }

    fn name(&mut self) -> String {
        let letter = match self.random.random_range(0..6) {
            0 => "\u{1b}",
            1 => "\u{202e}",
            2 => "\u{2028}",
            3 => "\u{61c}",
            _ => "x",
        };
        let number = self.random.random_range(0..1000);
        format!("{number}{}", letter.repeat(self.size()))
    }

    fn named(&mut self, request: &str) -> Row {
        Row::of(request).text(&self.name())
    }

    fn relays(&mut self) -> Row {
        let victim = self.victim.to_string();
        let count = self.size() / 16;
        let row = (0..count).fold(Row::default(), |row, _| row.text("snd").text(&victim));
        self.ending(row)
    }

    fn gathering_relays(&mut self) -> Row {
        let victim = self.victim.to_string();
        let count = self.size() / 24;
        let mut row = Row::default();
        for _ in 0..count {
            row = match self.random.random_range(0..3) {
                0 => row.text("time").text(&victim),
                1 => row.text("can").text("snd").text(&victim),
                _ => row.text("eval").text("up_nodes").text(&victim),
            };
        }
        self.ending(row)
    }

    /// Appends the end of a chain of relays.
    fn ending(&mut self, row: Row) -> Row {
        match self.random.random_range(0..4) {
            0 => row.text("mon1").text("x"),
            1 => self.entries(row.text("g_upd").text("f")),
            2 => row.text("unheard of"),
            _ => row.text("snd").text(&format!("{}#nobody", self.victim)),
        }
    }

    /// Appends a hash with keys and values of all sizes.
    fn entries(&mut self, row: Row) -> Row {
        let size = self.size();
        let keys = 1 + size / (1 + self.size().min(size));
        let value = "v".repeat(size / keys);
        row.put(|out| {
            packed::put_hash(out, keys);
            for key in 0..keys {
                packed::put_text(out, &key.to_string());
                packed::put_text(out, &value);
            }
        })
    }

    fn tables(&mut self, request: &str) -> Row {
        let families = 1 + self.size() / 32;
        let keys = if families > 100 { families % 3 } else { self.size() / (16 * families) };
        Row::of(request).put(|out| {
            packed::put_hash(out, families);
            for family in 0..families {
                packed::put_text(out, &family.to_string());
                packed::put_hash(out, keys);
                for key in 0..keys {
                    packed::put_text(out, &key.to_string());
                    packed::put_uint(out, key as u64);
                }
            }
        })
    }

    fn database(&mut self) -> Row {
        self.tables("g_slave")
    }

    fn global_database(&mut self) -> Row {
        self.tables("g_set")
    }

    fn update(&mut self) -> Row {
        let count = self.size() / 8;
        self.entries(Row::of("g_upd").text("f")).put(|out| {
            packed::put_array(out, count);
            (0..count).for_each(|key| packed::put_text(out, &key.to_string()));
        })
    }

    fn deep_value(&mut self) -> Row {
        let depth = self.random.random_range(1..=510);
        Row::of("g_upd").text("f").put(|out| put_deep_entry(out, depth))
    }

    fn deep_database(&mut self, request: &str) -> Row {
        let depth = self.random.random_range(1..=509);
        Row::of(request).put(|out| {
            packed::put_hash(out, 1);
            packed::put_text(out, "f");
            put_deep_entry(out, depth);
        })
    }

    /// An update of the internal family `name`, with `addresses` addresses per value.
    fn internal(&mut self, name: &str, keys: usize, addresses: usize) -> Row {
        Row::of("g_upd").text(name).put(|out| {
            packed::put_hash(out, keys);
            for key in 0..keys {
                packed::put_text(out, &format!("unknown{key}"));
                packed::put_array(out, addresses);
                (0..addresses).for_each(|_| packed::put_text(out, "127.0.0.1:1"));
            }
        })
    }

    fn globals(&mut self) -> Row {
        let keys = self.size() / 16;
        self.internal("'g", keys, 0)
    }

    fn addresses(&mut self) -> Row {
        let addresses = 1 + self.size() / 16;
        self.internal("'l", 1 + 100 / addresses, addresses)
    }

    fn query(&mut self) -> Row {
        let name = ["g_db_family", "g_db_keys", "g_db_values"];
        let name = name.get(self.random.random_range(0..name.len())).unwrap_or(&"");
        Row::of(name).text("f").text(&self.name())
    }

    fn spawn(&mut self) -> Row {
        let (port, function) = (self.name(), self.name());
        Row::of("AnyEvent::MP::_spawn").text(&port).text(&function)
    }

    fn expected(&mut self) -> Row {
        let (id, argument) = (self.name(), self.name());
        let row = Row::of("AnyEvent::MP::DataConn::_expect").text(&id).text("nobody#x");
        row.put(|out| packed::put_uint(out, 3600)).text("stream").text(&argument)
    }

    fn with_reason(&mut self, request: &str) -> Row {
        let (port, reason) = (self.name(), self.name());
        Row::of(request).text(&port).text("die").text(&reason)
    }

    fn unknown(&mut self) -> Row {
        let name = self.name();
        Row::of(&name)
    }

    fn message(&mut self) -> Row {
        // Often one whose addresses the victim has been told.
        let node = self.random.random_range(0..2) * self.random.random_range(0..1000);
        let text = self.name();
        Row::of("snd").text(&format!("unknown{node}#port")).text(&text)
    }
}

/// Appends a hash with one entry, whose value has `depth` levels.
fn put_deep_entry(out: &mut Vec<u8>, depth: usize) {
    packed::put_hash(out, 1);
    packed::put_text(out, "deep");
    (0..depth).for_each(|_| packed::put_array(out, 1));
    packed::put_undef(out);
}
