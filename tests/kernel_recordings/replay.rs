//! A kernel in the place of one side of a conversation.

use crate::conversation::*;
use aemp::kernel::db::{ChangeSet, Datum, DbMonitorId, DbResult, Entries, QueryId};
use aemp::kernel::{
    Authenticated, ConnId, Effect, Kernel, KernelConfig, MonitorId, Now, OnDeath, PeerGreeting,
};
use aemp::lane::{Lane, LaneLimits};
use aemp::value::packed::Elements;
use aemp::value::{NodeId, Packed, PortId, Str};
use aemp::wire::framing::{Decoder, FramingLimits, Step};
use aemp::wire::packet::Packet;
use serde_json::{Value as Json, json};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// The event that a recorded port reports for a message.
type Receiver = Box<dyn Fn(&Json) -> Option<Json>>;

/// A kernel in the place of one side of a conversation.
pub(crate) struct Replay<'a> {
    pub(crate) conversation: &'a Conversation,
    pub(crate) side: usize,
    pub(crate) kernel: Kernel,
    pub(crate) lane: Option<Lane>,
    pub(crate) conn: Option<ConnId>,
    pub(crate) dialled: Option<ConnId>,
    pub(crate) sent: Vec<(f64, Json)>,
    pub(crate) decoder: Decoder,
    pub(crate) wire: Vec<u8>,
    pub(crate) now: f64,
    /// The recorded names of ports and ours.
    pub(crate) names: Vec<(String, String)>,
    /// The label of a port's messages; the name of the Perl variable that holds the port.
    pub(crate) ports: HashMap<Str, Receiver>,
    pub(crate) monitors: HashMap<MonitorId, String>,
    pub(crate) views: HashMap<DbMonitorId, (String, Entries)>,
    pub(crate) queries: HashMap<QueryId, String>,
    pub(crate) variables: HashMap<String, PortId>,
    /// The ports on which the example function was started: its reply port and arguments.
    pub(crate) spawned: HashMap<Str, (PortId, Json)>,
    pub(crate) family_monitor: Option<DbMonitorId>,
    pub(crate) guard: Option<MonitorId>,
    pub(crate) node_events: Vec<Json>,
    pub(crate) events: Vec<Json>,
}

impl<'a> Replay<'a> {
    pub(crate) fn new(conversation: &'a Conversation, side: usize) -> Self {
        let recorded = &conversation.sides[side];
        let configuration = ["dialer", "listener"]
            .map(|role| &conversation.scenario[role])
            .into_iter()
            .find(|role| role["is"] == SIDES[side]);
        let strings = |key: &str| -> Vec<Str> {
            let found = configuration.and_then(|configuration| configuration[key].as_array());
            found.into_iter().flatten().map(|text| Str::from(text.as_str().unwrap())).collect()
        };
        let dials = side == 0;
        let (mut binds, mut seeds) = (strings("binds"), strings("seeds"));
        if configuration.is_none() {
            // These were written down without a configuration: what they said tells it.
            binds = vec![Str::from(location_told(conversation, &recorded.node().to_string()))];
            seeds = if dials { vec![Str::from("127.0.0.1:1")] } else { Vec::new() };
        }
        let mut kernel = Kernel::new(
            KernelConfig {
                addresses: binds,
                seeds,
                heal: true,
                grace: Duration::ZERO,
                ..KernelConfig::repeatable(recorded.node())
            },
            Now::default(),
        );
        if let Some(configuration) = configuration {
            if configuration["services"].is_array() {
                kernel.become_global();
            }
            if let Some((key, value)) = configuration["eval"]
                .as_str()
                .and_then(|code| code.strip_prefix("db_set fam => "))
                .and_then(|code| code.split_once(" => "))
            {
                let value = Datum::string(value.trim_matches('\''));
                kernel.set(&Str::from("fam"), Str::from(key), value).unwrap();
            }
        }
        kernel.register(Str::from("My::App::init"));
        kernel.register(Str::from("My::App::dies"));
        Replay {
            conversation,
            side,
            kernel,
            lane: None,
            conn: None,
            dialled: None,
            sent: Vec::new(),
            decoder: Decoder::new(recorded.framing(), FramingLimits::default()),
            wire: Vec::new(),
            now: 0.0,
            names: Vec::new(),
            ports: HashMap::new(),
            monitors: HashMap::new(),
            views: HashMap::new(),
            queries: HashMap::new(),
            variables: HashMap::new(),
            spawned: HashMap::new(),
            family_monitor: None,
            guard: None,
            node_events: Vec::new(),
            events: Vec::new(),
        }
    }

    pub(crate) fn recorded(&self) -> &'a Recorded {
        &self.conversation.sides[self.side]
    }

    pub(crate) fn other(&self) -> &'a Recorded {
        &self.conversation.sides[1 - self.side]
    }

    /// Replays everything; what was sent and what the callbacks saw is in `sent` and `events`.
    pub(crate) fn run(&mut self) {
        self.kernel.tick();
        self.settle();
        let conn = match self.dialled {
            Some(conn) => conn,
            None => self.kernel.accepted(),
        };
        self.conn = Some(conn);
        self.kernel.greeting_sent(conn, b"ours");
        let provider = Str::from("AE-2.02");
        let greeting = PeerGreeting::new(self.other().node(), provider);
        self.kernel.greeted(conn, greeting);
        self.settle();
        self.at(self.other().up.max(self.recorded().up));
        self.kernel.established(conn, &Authenticated { untrusted: false });
        self.settle();
        self.know_other_nodes();

        let mut timeline: Vec<(f64, Happens<'_>)> = Vec::new();
        let packets = self.other().packets.iter();
        timeline.extend(packets.map(|(ms, packet)| (*ms, Happens::Packet(packet))));
        let steps = self.conversation.steps(self.side).into_iter();
        timeline.extend(steps.map(|(ms, step)| (ms, Happens::Step(step))));
        timeline.extend(self.other().ended.map(|ms| (ms, Happens::End)));
        timeline.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (ms, happens) in timeline {
            self.at(ms);
            match happens {
                Happens::Packet(packet) => self.receive(packet),
                Happens::Step(step) => self.act(step),
                Happens::End => {
                    let why = self.conversation.events(self.side).iter().find_map(|event| {
                        (event[0] == "node" && event[2] == 0)
                            .then(|| event[5].as_str().map(str::to_owned))?
                    });
                    self.kernel.closed(conn, &why.unwrap_or_default());
                }
            }
            self.settle();
        }
    }

    pub(crate) fn at(&mut self, ms: f64) {
        self.now = ms;
        let uptime = Duration::from_secs_f64(ms / 1000.0);
        self.kernel.set_now(Now { uptime, wall: 1_795_338_000.0 + ms / 1000.0 });
        self.kernel.tick();
        self.settle();
    }

    /// The seed of `find` and `trace` had other nodes, too.
    pub(crate) fn know_other_nodes(&mut self) {
        if self.recorded().node().as_str() != "seed" {
            return;
        }
        for name in ["perl-a", "perl-c"] {
            let node = NodeId::new(name).unwrap();
            if node == self.other().node() {
                continue;
            }
            let conn = self.kernel.accepted();
            let provider = Str::from("AE-2.02");
            let greeting = PeerGreeting::new(node.clone(), provider);
            self.kernel.greeted(conn, greeting);
            self.settle();
            self.kernel.established(conn, &Authenticated { untrusted: false });
            let address = location_told(self.conversation, name);
            let request = packed(&json!(["g_slave", { "'l": { name: [address] } }]));
            self.kernel.node_packet(&node, request.as_elements());
            self.settle();
        }
    }

    pub(crate) fn receive(&mut self, packet: &Json) {
        let packet = packed(&self.to_ours(packet));
        let from = self.other().node();
        match Packet::read(packet.as_elements()).unwrap() {
            Packet::Keepalive => {}
            Packet::Message { port, elements } if port.is_node_port() => {
                self.kernel.node_packet(&from, elements);
            }
            Packet::Message { port, elements } => self.deliver(&port.as_str().to_owned(), elements),
        }
    }

    pub(crate) fn deliver(&mut self, port: &Str, message: Elements<'_>) {
        let message = self.to_recorded(&to_json(&message.to_values().unwrap()));
        if let Some((reply, arguments)) = self.spawned.get(port).cloned() {
            if message[0] == "ping" {
                let mut pong = vec![json!(reply.port().to_string()), json!("pong")];
                pong.extend(message.as_array().unwrap()[1..].iter().cloned());
                pong.extend(arguments.as_array().unwrap().iter().cloned());
                let lane = self.lane.as_mut().unwrap();
                let _ = lane.append(packed(&Json::Array(pong)).as_elements()).unwrap();
            }
            return;
        }
        if let Some(event) = self.ports.get(port).and_then(|of_message| of_message(&message)) {
            self.events.push(event);
        }
    }

    pub(crate) fn settle(&mut self) {
        loop {
            let effects = self.kernel.take_effects();
            if effects.is_empty() {
                break;
            }
            effects.into_iter().for_each(|effect| self.carry_out(effect));
        }
        let Some(lane) = &mut self.lane else { return };
        let Some((_, generation)) = lane.connection() else { return };
        while let Some(mut chunk) = lane.take(generation) {
            self.wire.extend_from_slice(chunk.unwritten());
            chunk.advance(chunk.unwritten().len());
            let _ = lane.give_back(generation, chunk);
        }
        loop {
            let packet = match self.decoder.next(&self.wire).unwrap() {
                Step::More { used } => {
                    self.wire.drain(..used);
                    return;
                }
                Step::Packet { used, elements } => {
                    let packet = to_json(&elements.to_values().unwrap());
                    self.wire.drain(..used);
                    packet
                }
            };
            self.sent.push((self.now, self.to_recorded(&packet)));
        }
    }

    pub(crate) fn carry_out(&mut self, effect: Effect) {
        let peer = self.other().node();
        match effect {
            Effect::Send { to, packet } | Effect::Probe { node: to, packet, .. } if to == peer => {
                if let Some(lane) = &mut self.lane {
                    let _ = lane.append(packet.as_elements()).unwrap();
                }
            }
            Effect::SendAll { to, packet } if to.contains(&peer) => {
                if let Some(lane) = &mut self.lane {
                    let _ = lane.append(packet.as_elements()).unwrap();
                }
            }
            Effect::Dial { conn, .. } => {
                self.dialled.get_or_insert(conn);
            }
            Effect::LaneUp { node, .. } if node == peer => {
                let mut lane = Lane::new(LaneLimits::default());
                lane.connect(self.recorded().framing());
                self.lane = Some(lane);
            }
            Effect::LaneDown { node } if node == peer => self.lane = None,
            Effect::Deliver { port, message, .. } => self.deliver(&port, message.as_elements()),
            Effect::NodeUp { node, .. } if node == peer => {
                self.node_events.push(json!(["node", node.to_string(), 1]));
            }
            Effect::NodeDown { node, reason } if node == peer => {
                let mut event = vec![json!("node"), json!(node.to_string()), json!(0)];
                event.extend(list(&reason));
                self.node_events.push(Json::Array(event));
            }
            Effect::Fire { monitor, reason } => {
                let mut event = vec![json!("cb"), json!(self.monitors[&monitor])];
                event.extend(list(&reason));
                let event = self.to_recorded(&Json::Array(event));
                self.events.push(event);
            }
            Effect::Spawned { port, init } => self.init(&port, &init.function, &init.arguments),
            Effect::Eval { expression, reply, .. } => {
                let ports: Vec<String> = (0..5)
                    .filter_map(|n| Some(self.variables.get(&n.to_string())?.to_string()))
                    .collect();
                if expression == "@main::p" && !ports.is_empty() {
                    let ports = packed(&json!(ports));
                    self.kernel.eval_done(&reply, "", ports.as_elements());
                } else {
                    self.kernel.eval_done(&reply, "no Perl here", Packed::default().as_elements());
                }
            }
            Effect::Answer { query, answer } => self.answered(query, answer.unwrap()),
            Effect::Changed { monitor, changes } => self.changed(monitor, &changes),
            _ => {}
        }
    }

    /// The example functions that others spawn.
    pub(crate) fn init(&mut self, port: &Str, function: &Str, arguments: &Packed) {
        let own = PortId::new(self.kernel.node(), port);
        if function == "My::App::dies" {
            self.kernel.kill(&own, &packed(&json!(["die", "init failed\n"])));
            return;
        }
        let mut arguments = list(arguments);
        let reply = PortId::parse(arguments.remove(0).as_str().unwrap()).unwrap();
        self.kernel.monitor(&reply, OnDeath::Link(port.clone()));
        self.spawned.insert(port.clone(), (reply, Json::Array(arguments)));
    }

    pub(crate) fn answered(&mut self, query: QueryId, answer: DbResult) {
        let label = self.queries[&query].clone();
        let result = match answer {
            DbResult::Family(entries) => entries_to_json(&entries),
            DbResult::Keys(mut keys) => {
                keys.sort();
                json!(keys.iter().map(ToString::to_string).collect::<Vec<_>>())
            }
            DbResult::Values(values) => json!(values.len()),
            other => panic!("{other:?}"),
        };
        self.events.push(json!(["cb", label, result]));
    }

    pub(crate) fn changed(&mut self, monitor: DbMonitorId, changes: &ChangeSet) {
        let (label, view) = self.views.get_mut(&monitor).unwrap();
        let keys = |entries: &Entries| -> Vec<String> {
            entries.keys().map(ToString::to_string).collect()
        };
        for (key, value) in changes.added.iter().chain(&changes.changed) {
            view.insert(key.clone(), value.clone());
        }
        for key in &changes.deleted {
            view.remove(key);
        }
        let deleted: Vec<String> = changes.deleted.iter().map(ToString::to_string).collect();
        let (added, changed) = (keys(&changes.added), keys(&changes.changed));
        self.events.push(json!(["cb", label, entries_to_json(view), added, changed, deleted]));
    }

    /// A new port, whose messages become events by `event`; `name` is what the recording calls it.
    pub(crate) fn port(
        &mut self,
        name: &str,
        event: impl Fn(&Json) -> Option<Json> + 'static,
    ) -> PortId {
        let port = self.kernel.open_port();
        self.names.push((name.split('#').nth(1).unwrap_or(name).to_owned(), port.to_string()));
        self.ports.insert(port.clone(), Box::new(event));
        PortId::new(self.kernel.node(), &port)
    }

    pub(crate) fn monitor(&mut self, port: &PortId, label: &str) -> MonitorId {
        let monitor = self.kernel.monitor(port, OnDeath::Host);
        self.monitors.insert(monitor, label.to_owned());
        monitor
    }

    pub(crate) fn send(&mut self, to: &str, message: &Json) {
        // The kernel's packets are sent first.
        self.settle();
        let port = PortId::parse(to).unwrap();
        let mut packet = vec![json!(port.port().to_string())];
        packet.extend(message.as_array().unwrap().iter().cloned());
        if port.node() == self.other().node() {
            let lane = self.lane.as_mut().unwrap();
            let _ = lane.append(packed(&Json::Array(packet)).as_elements()).unwrap();
        } else {
            self.kernel.want_connection(&port.node());
        }
    }

    pub(crate) fn to_ours(&self, value: &Json) -> Json {
        self.renamed(value, |(recorded, ours)| (recorded, ours))
    }

    pub(crate) fn to_recorded(&self, value: &Json) -> Json {
        self.renamed(value, |(recorded, ours)| (ours, recorded))
    }

    pub(crate) fn renamed(
        &self,
        value: &Json,
        direction: impl Fn(&(String, String)) -> (&String, &String) + Copy,
    ) -> Json {
        match value {
            Json::String(text) => {
                let rename = |text: String, pair| {
                    let (from, to) = direction(pair);
                    text.replace(from.as_str(), to)
                };
                json!(self.names.iter().fold(text.clone(), rename))
            }
            Json::Array(values) => {
                Json::Array(values.iter().map(|value| self.renamed(value, direction)).collect())
            }
            Json::Object(hash) => {
                let pairs = hash.iter().map(|(key, value)| {
                    let key = self.renamed(&json!(key), direction);
                    (key.as_str().unwrap().to_owned(), self.renamed(value, direction))
                });
                json!(pairs.collect::<BTreeMap<_, _>>())
            }
            other => other.clone(),
        }
    }
}

pub(crate) enum Happens<'a> {
    Packet(&'a Json),
    Step(&'a Json),
    End,
}
