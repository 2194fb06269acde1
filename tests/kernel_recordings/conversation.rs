//! A recorded conversation: time, sender and decoded content.

use aemp::kernel::db::Entries;
use aemp::value::{NodeId, Packed, Value};
use aemp::wire::auth::Secret;
use aemp::wire::conversation::{Conversation as Heard, Said, Side, Verdict};
use aemp::wire::framing::Framing;
use aemp::wire::recording::Entry;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;

/// What one side sent, as packets, each with its time in milliseconds.
#[derive(Default)]
pub(crate) struct Recorded {
    pub(crate) greeting: Vec<u8>,
    framing: Option<Framing>,
    pub(crate) packets: Vec<(f64, Json)>,
    /// When its authentication line arrived.
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
        let (scenario, entries) = text.split_once('\n').unwrap();
        let scenario: Json = serde_json::from_str(scenario).unwrap();
        let secret = Secret::new(scenario["secret"].as_str().unwrap());
        let mut heard = Heard::new(secret);
        let mut sides = Side::BOTH.map(|_| Recorded::default());
        for entry in entries.lines().map(|line| Entry::parse(line).unwrap()) {
            match &entry.octets {
                Some(octets) => {
                    for (side, said) in heard.hear(entry.from, octets) {
                        sides[side as usize].add(entry.ms, said);
                    }
                }
                None => sides[entry.from as usize].ended = Some(entry.ms),
            }
        }
        Conversation { scenario, sides }
    }

    /// The steps of one side, each with its time.
    pub(crate) fn steps(&self, side: usize) -> Vec<(f64, &Json)> {
        let steps = self.scenario["steps"].as_array().unwrap();
        let steps = steps.iter().filter(|step| step["on"] == SIDES[side]);
        // Steps without a recorded time are taken after everything has settled.
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
    fn add(&mut self, ms: f64, said: Said) {
        match said {
            Said::Greeting(greeting) => self.greeting = greeting.compose(),
            Said::Nonce(_) => {}
            Said::Authentication { framing, verdict: Verdict::Right, .. } => {
                let name = std::str::from_utf8(&framing).unwrap();
                (self.framing, self.up) = (Framing::from_name(name), ms);
            }
            Said::Packet(values) => self.packets.push((ms, to_json(&values))),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn framing(&self) -> Framing {
        self.framing.unwrap()
    }

    pub(crate) fn node(&self) -> NodeId {
        let id = self.greeting.split(|&octet| octet == b';').nth(2).unwrap();
        NodeId::new(id).unwrap()
    }
}

/// Values normalized as in Perl: octets are text, numbers are strings, hashes have no order.
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
