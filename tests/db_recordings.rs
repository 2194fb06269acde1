//! Replays of recorded database conversations: given the actions of a node's peer and program, our
//! database sends what that node sent, and reports what its callbacks got.

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used)]

use aemp::kernel::db::{
    Database, Datum, DbAnswer, DbConfig, DbEffect, DbMonitorId, DbResult, QueryId, QueryKind,
};
use aemp::value::{NodeId, Packed, Str, Value};
use aemp::wire::conversation::{Conversation, Said};
use aemp::wire::recording::Entry;
use serde_json::{Value as Json, json};
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::time::Duration;

/// One recorded conversation.
struct Recording {
    name: &'static str,
    head: Json,
    /// What side `a` and `b` sent after authentication, and when.
    packets: BTreeMap<String, VecDeque<(f64, Packed)>>,
    /// Who closed the connection, and when.
    eof: (String, f64),
}

impl Recording {
    fn read(name: &'static str) -> Recording {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/{name}.jsonl"));
        let text = std::fs::read_to_string(path).unwrap();
        let (head, entries) = text.split_once('\n').unwrap();
        let head: Json = serde_json::from_str(head).unwrap();
        let mut conversation = Conversation::new(None);
        let mut packets: BTreeMap<String, VecDeque<(f64, Packed)>> = BTreeMap::new();
        let mut eof = None;
        for entry in entries.lines().map(|line| Entry::parse(line).unwrap()) {
            let Entry { ms, from, octets } = entry;
            let Some(octets) = octets else {
                eof = eof.or(Some((from.letter().to_owned(), ms)));
                continue;
            };
            for (side, said) in conversation.hear(from, &octets) {
                if let Said::Packet(values) = said {
                    let elements = Packed::of(&values[1..]).unwrap();
                    packets.entry(side.letter().into()).or_default().push_back((ms, elements));
                }
            }
        }
        Recording { name, head, packets, eof: eof.unwrap() }
    }

    fn config(&self, side: &str) -> &Json {
        &self.head[if side == "a" { "dialer" } else { "listener" }]
    }

    fn node(&self, side: &str) -> NodeId {
        self.config(side)["nodeid"].as_str().unwrap().parse().unwrap()
    }

    fn is_global_from_the_start(&self, side: &str) -> bool {
        self.config(side)["services"] == json!(["AnyEvent::MP::Global::"])
    }

    fn steps(&self, side: &str) -> Vec<(f64, String)> {
        let steps = self.head["steps"].as_array().unwrap().iter();
        steps
            .filter(|step| step["on"] == side)
            .map(|step| (step["at_ms"].as_f64().unwrap(), step["perl"].as_str().unwrap().into()))
            .collect()
    }

    /// What the callbacks of a side got: the label, then the arguments.
    fn callbacks(&self, side: &str) -> Vec<Json> {
        let steps = self.head["steps"].as_array().unwrap();
        let events = steps.last().unwrap()[format!("events_{side}")].as_array().unwrap();
        events
            .iter()
            .filter(|event| event[0] == "cb")
            .map(|event| Json::Array(event.as_array().unwrap()[1..].to_vec()))
            .collect()
    }
}

/// Our database in the place of one of the nodes.
struct Replay<'a> {
    recording: &'a Recording,
    db: Database,
    now: Duration,
    peer: NodeId,
    sent: Vec<Packed>,
    /// Labels and contents of the families that the program monitors.
    monitors: BTreeMap<DbMonitorId, (String, serde_json::Map<String, Json>)>,
    queries: BTreeMap<QueryId, &'static str>,
    callbacks: Vec<Json>,
    /// The port that the Perl program registered: its name was random.
    port: Option<Str>,
}

impl<'a> Replay<'a> {
    fn new(recording: &'a Recording, side: &str) -> Self {
        let peer = recording.node(if side == "a" { "b" } else { "a" });
        let mut replay = Replay {
            recording,
            // Perl nodes report at once what a lost global node told.
            db: Database::new(
                recording.node(side),
                DbConfig { grace: Duration::ZERO, ..DbConfig::default() },
            ),
            now: Duration::ZERO,
            peer: peer.clone(),
            sent: Vec::new(),
            monitors: BTreeMap::new(),
            queries: BTreeMap::new(),
            callbacks: Vec::new(),
            port: None,
        };
        let registered = recording.packets[side].iter().find_map(|(_, packet)| {
            let values = packet.as_elements().to_values().unwrap();
            let is_workers = values.get(1).is_some_and(|family| family.perl_eq(&"workers".into()));
            let key = values.get(2)?.as_hash()?.keys().next()?.clone();
            is_workers.then_some(key)
        });
        replay.port = registered;
        let binds = recording.config(side)["binds"].as_array().unwrap();
        let binds: Vec<Str> = binds.iter().map(|bind| bind.as_str().unwrap().into()).collect();
        let now = replay.now;
        replay.db.set_location(&binds, now);
        match recording.config(side)["eval"].as_str() {
            Some("db_set fam => ka => 'a1'") => replay.set("fam", "ka", "a1"),
            Some("db_set fam => kb => 'b1'") => replay.set("fam", "kb", "b1"),
            Some(other) => panic!("{other}"),
            None => {}
        }
        if recording.is_global_from_the_start(side) {
            replay.db.become_global(now);
        }
        replay.db.node_up(peer.clone());
        if side == "a" {
            replay.db.adopt_master(&peer);
            if !replay.db.is_global() {
                // The Perl node looks for the node of its seed, though it is connected to it.
                replay.db.find(peer, now);
            }
        }
        replay.settle();
        replay
    }

    fn set(&mut self, family: &str, key: &str, value: impl serde::Serialize) {
        let value = Datum::of(&value).unwrap();
        self.db.set(&family.into(), key.into(), value, self.now).unwrap();
    }

    fn delete(&mut self, family: &str, keys: &[&str]) {
        let keys = keys.iter().map(|&key| Str::from(key));
        self.db.delete(&family.into(), keys, self.now).unwrap();
    }

    fn monitor(&mut self, family: &str, label: &str) {
        let id = self.db.monitor(family.into(), self.now);
        self.monitors.insert(id, (label.into(), serde_json::Map::new()));
    }

    fn query(&mut self, kind: QueryKind, family: &str, label: &'static str) {
        let id = self.db.query(kind, family.into(), self.now);
        self.queries.insert(id, label);
    }

    /// The actions of the Perl program, from its source text.
    fn step(&mut self, perl: &str) {
        let perl = perl.strip_suffix("; 1").unwrap_or(perl);
        match perl {
            r#"db_set fam => k1 => "v1""# => self.set("fam", "k1", "v1"),
            r#"db_set fam => k1 => "v2""# => self.set("fam", "k1", "v2"),
            r#"db_set fam => k1 => "from b""# => self.set("fam", "k1", "from b"),
            r#"db_set fam => k2 => [1,{x=>undef}]"# => {
                self.set("fam", "k2", json!([1, {"x": null}]))
            }
            r#"db_set fam => "k3""# => self.set("fam", "k3", ()),
            r#"db_set fam => ka => "a2""# => self.set("fam", "ka", "a2"),
            r#"db_set fam => kb => "b2""# => self.set("fam", "kb", "b2"),
            r#"db_set fam => kb => 5"# => self.set("fam", "kb", 5),
            r#"db_set fam => after => 1"# => self.set("fam", "after", 1),
            r#"db_set fam => both => "from a""# => self.set("fam", "both", "from a"),
            r#"db_set fam => both => "from b""# => self.set("fam", "both", "from b"),
            r#"db_set other => x => 1"# => self.set("other", "x", 1),
            r#"db_del fam => "both""# => self.delete("fam", &["both"]),
            r#"db_del fam => "k1""# => self.delete("fam", &["k1"]),
            r#"db_del fam => "k1","k2""# => self.delete("fam", &["k1", "k2"]),
            r#"db_del fam => "ka""# => self.delete("fam", &["ka"]),
            r#"db_family fam => sub { out(cb => "family", @_) }"# => {
                self.query(QueryKind::Family, "fam", "family");
            }
            r#"db_family nofam => sub { out(cb => "family none", @_) }"# => {
                self.query(QueryKind::Family, "nofam", "family none");
            }
            r#"db_keys fam => sub { out(cb => "keys", [sort @{$_[0]}]) }"# => {
                self.query(QueryKind::Keys, "fam", "keys");
            }
            r#"db_keys nofam => sub { out(cb => "keys none", @_) }"# => {
                self.query(QueryKind::Keys, "nofam", "keys none");
            }
            r#"db_values fam => sub { out(cb => "values", scalar @{$_[0]}) }"# => {
                self.query(QueryKind::Values, "fam", "values");
            }
            "our $p = port { }; db_reg workers => $p, 3" => {
                let port = self.port.clone().unwrap();
                self.db.set(&"workers".into(), port, Datum::int(3), self.now).unwrap();
            }
            "kil $p" => {
                self.db.delete(&"workers".into(), self.port.clone(), self.now).unwrap();
            }
            "undef $g" => {
                let (&first, _) = self.monitors.first_key_value().unwrap();
                self.db.unmonitor(first, self.now);
            }
            _ => match perl.split_once(" = db_mon ") {
                Some((_, rest)) => {
                    let family = rest.split(' ').next().unwrap();
                    let label = rest.split('"').nth(1).unwrap();
                    self.monitor(family, label);
                }
                None => panic!("{}: {perl}", self.recording.name),
            },
        }
        self.settle();
    }

    fn hear(&mut self, packet: &Packed) {
        let elements = packet.as_elements();
        let name = elements.first_str().unwrap();
        let peer = self.peer.clone();
        assert!(self.db.receive(&peer, name, elements.after(1), self.now));
        self.settle();
    }

    fn settle(&mut self) {
        for effect in self.db.take_effects() {
            match effect {
                DbEffect::Send { to, packet } => {
                    assert_eq!(to[..], *std::slice::from_ref(&self.peer));
                    self.sent.push(packet.as_elements().after(1).to_packed());
                }
                DbEffect::Changed { monitor, changes } => {
                    let (label, content) = self.monitors.get_mut(&monitor).unwrap();
                    for (key, value) in changes.added.iter().chain(&changes.changed) {
                        content.insert(key.to_string(), value.decode().unwrap());
                    }
                    for key in &changes.deleted {
                        content.remove(&key.to_string());
                    }
                    let deleted: Vec<_> = changes.deleted.iter().map(Str::to_string).collect();
                    self.callbacks.push(json!([
                        label,
                        content,
                        changes.added.keys().map(Str::to_string).collect::<Vec<_>>(),
                        changes.changed.keys().map(Str::to_string).collect::<Vec<_>>(),
                        deleted,
                    ]));
                }
                DbEffect::Answer { query, answer } => {
                    let label = self.queries[&query];
                    self.callbacks.push(json!([label, seen(answer)]));
                }
                DbEffect::Problem { from, problem } => panic!("{from}: {problem}"),
                DbEffect::Orphan { node, request } => panic!("{node} is an orphan: {request}"),
                DbEffect::Conflict { node, .. } => panic!("conflict over {node}"),
                _ => {}
            }
        }
    }

    fn run(&mut self, side: &str) {
        let other = if side == "a" { "b" } else { "a" };
        enum Input {
            Step(String),
            Packet(Packed),
        }
        let steps = self.recording.steps(side).into_iter();
        let packets = self.recording.packets[other].iter().cloned();
        let mut inputs: Vec<_> = steps
            .map(|(ms, perl)| (ms, Input::Step(perl)))
            .chain(packets.map(|(ms, packet)| (ms, Input::Packet(packet))))
            .collect();
        inputs.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        for (ms, input) in inputs {
            self.now = Duration::from_secs_f64(ms / 1000.0);
            match input {
                Input::Step(perl) => self.step(&perl),
                Input::Packet(packet) => self.hear(&packet),
            }
        }
        if self.recording.eof.0 == other {
            let peer = self.peer.clone();
            self.db.node_down(&peer, self.now);
            self.settle();
        }
    }
}

/// An answer as the Perl callbacks printed it.
fn seen(answer: DbAnswer) -> Json {
    match answer.unwrap() {
        DbResult::Family(entries) => entries
            .iter()
            .map(|(key, value)| (key.to_string(), value.decode().unwrap()))
            .collect::<serde_json::Map<String, Json>>()
            .into(),
        DbResult::Keys(mut keys) => {
            keys.sort();
            keys.iter().map(Str::to_string).collect::<Vec<_>>().into()
        }
        DbResult::Values(values) => values.len().into(),
        other => panic!("{other:?}"),
    }
}

/// The normalized form of a request: hashes, and keys and values in replies, have no order.
fn comparable(packet: &Packed) -> Value {
    let mut values = packet.as_elements().to_values().unwrap();
    if values[0].perl_eq(&"g_reply".into())
        && let Some(Value::Array(list)) = values.last_mut()
    {
        list.sort_by_key(Value::to_string);
    }
    Value::Array(values)
}

/// The mesh sends it, not the database; the reference even twice.
fn is_request_to_become_global(packet: &Packed) -> bool {
    packet.len() == 1 && packet.as_elements().first_str().is_some_and(|name| name == "g_slave")
}

const RECORDINGS: [&str; 6] =
    ["db-cbor", "db-json", "db-storable", "global-cbor", "global-json", "global-storable"];

#[test]
fn the_database_sends_what_the_recorded_nodes_sent() {
    for name in RECORDINGS {
        let recording = Recording::read(name);
        for side in ["a", "b"] {
            let mut replay = Replay::new(&recording, side);
            replay.run(side);
            let expected: Vec<_> = recording.packets[side]
                .iter()
                .map(|(_, packet)| packet)
                .filter(|packet| !is_request_to_become_global(packet))
                .collect();
            assert!(expected.len() > 5);
            for (at, (ours, theirs)) in replay.sent.iter().zip(&expected).enumerate() {
                assert!(
                    comparable(ours).perl_eq(&comparable(theirs)),
                    "{name} {side}, packet {at}: {ours} instead of {theirs}"
                );
            }
            assert_eq!(replay.sent.len(), expected.len(), "{name} {side}");
        }
    }
}

#[test]
fn programs_see_what_the_callbacks_of_the_recorded_nodes_saw() {
    for name in RECORDINGS {
        let recording = Recording::read(name);
        for side in ["a", "b"] {
            let mut replay = Replay::new(&recording, side);
            replay.run(side);
            let is_global = replay.db.is_global();
            let normal = |mut callbacks: Vec<Json>| {
                for callback in callbacks.iter_mut().filter(|callback| callback[0] != "keys") {
                    for list in callback.as_array_mut().unwrap().iter_mut().skip(2) {
                        list.as_array_mut().unwrap().sort_by_key(Json::to_string);
                    }
                    // On a global node the reference forgets the content that a monitor began
                    // with.
                    if is_global {
                        callback[1] = Json::Null;
                    }
                }
                callbacks
            };
            let (ours, theirs) = (normal(replay.callbacks), normal(recording.callbacks(side)));
            assert_eq!(ours, theirs, "{name} {side}");
        }
    }
}
