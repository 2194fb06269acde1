//! Writes the initial fuzzing inputs, `corpus/TARGET/...`: mostly from recorded conversations of real nodes.

#[path = "../src/inputs.rs"]
#[allow(dead_code, reason = "only what the inputs look like is used")]
mod inputs;

use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

/// How much of a conversation goes into one input.
const MAX_INPUT_LEN: usize = 4000;

const RC_FILES: [&str; 6] = [
    "",
    r##"{"version":1,"secret":"geheim","profile":{"a":{"nodeid":"a/","binds":["*:4040"]}}}"##,
    "# a comment\n{\"seeds\": [\"10.0.0.1\", \"[fe80::1]:4041\", \"*:4040,host:1\",],\n\
     \"profile\": {\"default\": {\"parent\": \"b\"}, \"b\": {\"parent\": \"default\"}}}",
    r##"{"profile":{"default":{"services":["AnyEvent::MP::Global",["f",1,{"a":null}]],
     "monitor_timeout":0.5,"connect_interval":"2","framing_format":"json,cbor","secure":true}}}"##,
    r##"{"auth_offer":"cleartext","auth_accept":["x","tls_anon"],"nodeid":"%n/%u","nodelay":"no"}"##,
    "{\"cert\":\"-----BEGIN PRIVATE KEY-----\\n-----BEGIN CERTIFICATE-----\",\"tls_required\":1,\
     \"advertise\":\"host\",\"handshake_limit\":10,\"n\":1e400,\"u\":\"\\ud83d\\ude00\\u0000\"}",
];

/// Local events at a node.
const EVENTS: [&str; 4] = [
    r##"["open"]["tick",3]["set","f","k",1]["mon","perl#p"]["monitor","f"]["query","f"]["lose"]"##,
    r##"["1","g_global"]["1","g_set",{"'l":{"ours":["192.0.2.3:1"],"x":null},"f":{"k":"v"}}]
        ["1","g_upd","f",{"k":2},["a"]]["tick",40]["mon","x#p"]["tick",40]"##,
    r##"["0","AnyEvent::MP::_spawn","p","f",1]["1","mon1","p"]["0","kil1","p","by"]["2","mon0","p"]
        ["0","snd","node#p","x"]["0","eval","$$","perl#r"]["0","can","x","perl#r"]"##,
    r##"["0","g_slave",{"'l":{"perl":[]},"f":{"k":[]}}]["2","g_mon1","f"]["0","g_upd","f",null,["k"]]
        ["2","g_find","perl"]["2","g_db_family","f","id"]["2","g_found","x",["192.0.2.4:4040"]]"##,
];

/// Storable images that no recording has: a packet of `"p"` and a value each.
const IMAGES: [(&str, &str); 7] = [
    ("cycle", "050b 0200000002 0a0170 04 0200000001 04 0000000003"),
    ("cycle-weak", "050b 0200000002 0a0170 04 0200000001 1b 0000000003"),
    ("cycle-object", "050b 0200000002 0a0170 04 110158 0200000001 04 0000000003"),
    ("cycle-scalar", "050b 0200000002 0a0170 04 0000000002"),
    (
        "hook-parts",
        "050b 0200000002 0a0170 04 13 42 0200000001 0885 42 0200000001 0887 820148 033c613e \
         02 00000004 00000006",
    ),
    ("native-integer", "040b083132333435363738 04080808 0202000000 0a0170 06ffffffffffffff7f"),
    ("native-float", "040b083132333435363738 04080808 0202000000 0a0170 07000000000000f83f"),
];

fn main() -> io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut fixtures: Vec<_> = fs::read_dir(root.join("../fixtures"))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    fixtures.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    fixtures.sort();
    let mut corpus = Corpus { root, inputs: 0 };
    for path in &fixtures {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(path)?;
        let lines: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        if name == "values" {
            corpus.values(&lines)?;
        } else {
            corpus.conversation(&name, &lines)?;
        }
    }
    for (name, image) in IMAGES {
        let image = unhex(image);
        // The length is one digit in base 128.
        let length = u8::try_from(image.len()).map_err(io::Error::other)?;
        corpus.add("storable", name, &[&[3, length], &image[..]].concat())?;
    }
    for (index, text) in RC_FILES.iter().enumerate() {
        corpus.add("rc", &format!("text{index}"), text.as_bytes())?;
    }
    for (index, happening) in EVENTS.iter().enumerate() {
        let cbor = to_cbor(happening.as_bytes());
        for kind in 0..2 {
            corpus.add(
                "requests",
                &format!("happens{index}-{kind}"),
                &[&[kind], &cbor[..]].concat(),
            )?;
        }
    }
    for (index, request) in aemp::kernel::REQUESTS.iter().enumerate() {
        let packet = serde_json::to_vec(&["0", request.name, "p", "perl#r", "x"])?;
        let input = [&[0], &to_cbor(&packet)[..]].concat();
        corpus.add("requests", &format!("request{index}"), &input)?;
    }
    println!("{} inputs in {}", corpus.inputs, root.join("corpus").display());
    Ok(())
}

struct Corpus<'a> {
    root: &'a Path,
    inputs: usize,
}

impl Corpus<'_> {
    fn add(&mut self, target: &str, name: &str, input: &[u8]) -> io::Result<()> {
        let directory = self.root.join("corpus").join(target);
        fs::create_dir_all(&directory)?;
        self.inputs += 1;
        fs::write(directory.join(name), input)
    }

    /// What Perl's encoders make of one value each.
    fn values(&mut self, lines: &[Value]) -> io::Result<()> {
        for (index, line) in lines.iter().enumerate() {
            for framing in ["cbor", "json", "storable"] {
                let Some(wire) = line[framing].as_str().map(unhex) else { continue };
                self.add(framing, &format!("value{index}"), &[&[3], &wire[..]].concat())?;
                if framing == "cbor" {
                    self.add("packed", &format!("value{index}"), &[&[3], &wire[1..]].concat())?;
                }
            }
        }
        Ok(())
    }

    fn conversation(&mut self, name: &str, lines: &[Value]) -> io::Result<()> {
        let mut sides: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
        for line in lines {
            if let (Some(side), Some(hex)) = (line["from"].as_str(), line["hex"].as_str()) {
                sides.entry(side).or_default().extend(unhex(hex));
            }
        }
        for (side, octets) in sides {
            let name = format!("{name}-{side}");
            let (handshake, packets, framing) = split(&octets);
            if let Some(line) = handshake.split(|octet| *octet == b'\n').next() {
                self.add("greeting", &name, line)?;
            }
            for kind in [0, 8, 0x38] {
                let input = [&[kind], handshake].concat();
                self.add("handshake", &format!("{name}-{kind}"), &input)?;
            }
            let greeting: Vec<&[u8]> = handshake.splitn(3, |octet| *octet == b'\n').collect();
            if let [first, nonce, _] = greeting[..] {
                let secret = aemp::wire::hex::encode(inputs::SECRET.as_bytes());
                let last = format!("cleartext;{secret};json\n[\"\"]");
                let input = [&[8], first, b"\n", nonce, b"\n", last.as_bytes()].concat();
                self.add("handshake", &format!("{name}-cleartext"), &input)?;
            }
            let Some(framing) = framing.filter(|_| !packets.is_empty()) else { continue };
            let packets = &packets[..packets.len().min(MAX_INPUT_LEN)];
            self.add(framing, &name, &[&[7], packets].concat())?;
            let cbor = match framing {
                "cbor" => packets.to_vec(),
                "json" => to_cbor(packets),
                _ => continue,
            };
            for kind in 0..2 {
                self.add("requests", &format!("{name}-{kind}"), &[&[kind], &cbor[..]].concat())?;
            }
        }
        Ok(())
    }
}

/// The lines of the handshake, the packets, and their framing.
fn split(octets: &[u8]) -> (&[u8], &[u8], Option<&'static str>) {
    let mut ends = octets.iter().enumerate().filter(|(_, octet)| **octet == b'\n');
    let Some((end, _)) = ends.nth(2) else {
        return (octets, &[], None);
    };
    let (handshake, packets) = octets.split_at(end + 1);
    let last = handshake.strip_suffix(b"\n").unwrap_or(handshake);
    let framing = ["cbor", "json", "storable"]
        .into_iter()
        .find(|name| last.ends_with(format!(";{name}").as_bytes()));
    (handshake, packets, framing)
}

/// JSON texts, one after another, as CBOR.
fn to_cbor(json: &[u8]) -> Vec<u8> {
    use aemp::wire::framing::{Decoder, Framing, FramingLimits, Step, encode};
    let mut decoder = Decoder::new(Framing::Json, FramingLimits::default());
    let (mut at, mut cbor) = (0, Vec::new());
    while let Ok(Step::Packet { used, elements }) = decoder.next(&json[at..]) {
        at += used;
        if encode(Framing::Cbor, elements, &mut cbor).is_err() {
            break;
        }
    }
    cbor
}

fn unhex(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}
