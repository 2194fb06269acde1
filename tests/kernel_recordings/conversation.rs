//! A recorded conversation: who said what when, as values.

use aemp::kernel::db::Entries;
use aemp::value::{NodeId, Packed, Value};
use aemp::wire::framing::{Decoder, Framing, FramingLimits, Step};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;

/// What one side sent, as packets, each with its time in milliseconds.
pub(crate) struct Recorded {
    pub(crate) greeting: Vec<u8>,
    pub(crate) framing: Framing,
    pub(crate) packets: Vec<(f64, Json)>,
    /// When its authentication line came.
    pub(crate) up: f64,
    pub(crate) ended: Option<f64>,
}

pub(crate) struct Conversation {
    pub(crate) scenario: Json,
    pub(crate) sides: [Recorded; 2],
}

pub(crate) const SIDES: [&str; 2] = ["a", "b"];

impl Conversation {
    pub(crate) fn read(name: &str) -> Self {
        let path = format!("{}/fixtures/{name}.jsonl", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        let lines: Vec<Json> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let sides = SIDES.map(|side| {
            let entries: Vec<_> = lines[1..].iter().filter(|entry| entry["from"] == side).collect();
            Recorded::read(&entries)
        });
        Conversation { scenario: lines[0].clone(), sides }
    }

    /// The steps of one side, each with its time.
    pub(crate) fn steps(&self, side: usize) -> Vec<(f64, &Json)> {
        let steps = self.scenario["steps"].as_array().unwrap();
        let steps = steps.iter().filter(|step| step["on"] == SIDES[side]);
        // Where no time was recorded, steps come after everything has settled.
        steps.map(|step| (step["at_ms"].as_f64().unwrap_or(999.0), step)).collect()
    }

    pub(crate) fn events(&self, side: usize) -> Vec<Json> {
        let steps = self.scenario["steps"].as_array().unwrap();
        let events = steps.iter().find_map(|step| step.get(format!("events_{}", SIDES[side])));
        events.and_then(Json::as_array).cloned().unwrap_or_default()
    }

    /// When the first step is taken.
    pub(crate) fn settled(&self) -> f64 {
        let steps = [0, 1].map(|side| self.steps(side).first().map_or(f64::MAX, |step| step.0));
        steps[0].min(steps[1])
    }
}

impl Recorded {
    pub(crate) fn read(entries: &[&Json]) -> Self {
        let mut octets = Vec::new();
        let mut times = Vec::new();
        let mut ended = None;
        for entry in entries {
            let ms = entry["ms"].as_f64().unwrap();
            match entry["hex"].as_str() {
                Some(hex) => {
                    let read = unhex(hex);
                    times.extend(std::iter::repeat_n(ms, read.len()));
                    octets.extend(read);
                }
                None => ended = Some(ms),
            }
        }
        let mut lines = Vec::new();
        let mut at = 0;
        while lines.len() < 3 {
            let len = octets[at..].iter().position(|&octet| octet == b'\n').unwrap();
            lines.push(octets[at..at + len].to_vec());
            at += len + 1;
        }
        let framing = lines[2].split(|&octet| octet == b';').next_back().unwrap();
        let framing = Framing::from_name(std::str::from_utf8(framing).unwrap()).unwrap();
        let up = times[at - 1];
        let mut decoder = Decoder::new(framing, FramingLimits::default());
        let mut packets = Vec::new();
        while let Step::Packet { used, elements } = decoder.next(&octets[at..]).unwrap() {
            packets.push((times[at + used - 1], to_json(&elements.to_values().unwrap())));
            at += used;
        }
        Recorded { greeting: lines[0].clone(), framing, packets, up, ended }
    }

    pub(crate) fn node(&self) -> NodeId {
        let id = self.greeting.split(|&octet| octet == b';').nth(2).unwrap();
        NodeId::new(id).unwrap()
    }
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let octet = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(octet).collect()
}

/// Values as Perl sees them: octets are text, numbers are strings, hashes have no order.
pub(crate) fn to_json(values: &[Value]) -> Json {
    Json::Array(values.iter().map(value_to_json).collect())
}

pub(crate) fn value_to_json(value: &Value) -> Json {
    match value {
        Value::Undef => Json::Null,
        Value::Bool(value) => json!(value),
        Value::Array(values) => to_json(values),
        Value::Hash(hash) => {
            // Keys in order, so that equal hashes look alike.
            let sorted: BTreeMap<String, Json> =
                hash.iter().map(|(key, value)| (key.to_string(), value_to_json(value))).collect();
            json!(sorted)
        }
        other => json!(other.to_str().unwrap().to_text_lossy()),
    }
}

pub(crate) fn packed(values: &Json) -> Packed {
    Packed::of(values).unwrap()
}

pub(crate) fn list(packed: &Packed) -> Vec<Json> {
    match to_json(&packed.as_elements().to_values().unwrap()) {
        Json::Array(values) => values,
        other => panic!("{other}"),
    }
}

pub(crate) fn strings_in(value: &Json) -> Vec<String> {
    match value {
        Json::String(text) => vec![text.clone()],
        Json::Array(values) => values.iter().flat_map(strings_in).collect(),
        Json::Object(hash) => hash
            .iter()
            .flat_map(|(key, value)| [vec![key.clone()], strings_in(value)].concat())
            .collect(),
        _ => Vec::new(),
    }
}

pub(crate) fn entries_to_json(entries: &Entries) -> Json {
    let pairs = entries
        .iter()
        .map(|(key, value)| (key.to_string(), value_to_json(&value.decode::<Value>().unwrap())));
    json!(pairs.collect::<BTreeMap<_, _>>())
}

/// Where a node can be reached, by what was said about it.
pub(crate) fn location_told(conversation: &Conversation, node: &str) -> String {
    for (_, packet) in conversation.sides.iter().flat_map(|side| &side.packets) {
        if packet[1] == "g_found" && packet[2] == node {
            return packet[3][0].as_str().unwrap_or_default().to_owned();
        }
        if packet[1] == "g_slave"
            && let Some(address) = packet[2]["'l"][node][0].as_str()
        {
            return address.to_owned();
        }
    }
    "127.0.0.1:1".to_owned()
}
