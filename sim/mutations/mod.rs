//! Ways to break the kernel, each by name.
#![allow(dead_code, unreachable_pub)]

/// A way to break the kernel: its name, the file, what is replaced, and by what.
pub type Mutation = (&'static str, &'static str, &'static str, &'static str);

/// All of them.
pub const MUTATIONS: &[Mutation] = &[
    (
        "the last monitor is not taken back",
        "monitor.rs",
        "if !port.is_empty() {\n            self.send(&node, Builder::request(\"mon0\")",
        "if false {\n            self.send(&node, Builder::request(\"mon0\")",
    ),
    (
        "monitoring peers are not told of a death",
        "monitor.rs",
        "for peer in mourners.peers {",
        "for peer in mourners.peers.into_iter().skip(1) {",
    ),
    (
        "the loss of a node fires no monitors",
        "monitor.rs",
        "for id in others {",
        "for id in others.into_iter().skip(1) {",
    ),
    (
        "the lane takes packets before all monitors have fired",
        "monitor.rs",
        "for id in others {",
        "self.effects.push(Effect::LaneReset { node: node.clone() });\n        for id in others {",
    ),
    (
        "a lost lane keeps what waits",
        "lane.rs",
        "self.state = State::Down;\n        self.buffer = Vec::new();",
        "self.state = State::Queueing;",
    ),
    ("a lost peer still monitors", "mesh.rs", "self.ports.forget_peer(node);", ""),
    (
        "every greeted connection is authenticated",
        "mesh.rs",
        "if now < *patience => return,",
        "if now < *patience => {}",
    ),
    (
        "a second connection is refused without a look at the first",
        "mesh.rs",
        "self.ask_echo(node, super::service::Question::Probe(number));",
        "self.probe_answered(node, number);",
    ),
    (
        "nobody is given up",
        "mesh.rs",
        "is_some_and(|trial| now >= trial.started + limit)",
        "is_some_and(|trial| now >= trial.started + limit * 100)",
    ),
    (
        "lost seeds are not dialled again",
        "mesh.rs",
        "if self.mesh.is_seed(node) {\n            self.retry_seeds();",
        "if false {\n            self.retry_seeds();",
    ),
    (
        "global nodes are not connected again",
        "mesh.rs",
        "if self.mesh.keepalive.contains(node) {\n            self.retry_keepalive();",
        "if false {\n            self.retry_keepalive();",
    ),
    (
        "only the first address is tried",
        "mesh.rs",
        "trial.addresses = addresses;",
        "trial.addresses = addresses.into_iter().take(1).collect();",
    ),
    (
        "a lost master is not replaced",
        "membership.rs",
        "self.db.node_down(node, self.now.uptime);\n        self.find_master();",
        "self.db.node_down(node, self.now.uptime);",
    ),
    (
        "seeds are not asked to be global",
        "membership.rs",
        "self.send(node, request);\n        self.find_master();",
        "let _ = request;\n        self.find_master();",
    ),
    (
        "a new master does not learn what is monitored",
        "db/local.rs",
        "requests.extend(self.families.keys().cloned().map(Request::Monitor));",
        "",
    ),
    (
        "queries are not asked again",
        "db/local.rs",
        "requests.extend(self.queries.values().map(Query::request));",
        "",
    ),
    (
        "queries without a master wait for ever",
        "db/local.rs",
        "self.due = queries.chain(finds).map(|what| (until, what)).collect();",
        "self.due = finds.map(|what| (until, what)).collect();\n        let _ = queries.count();",
    ),
    (
        "a lost node's entries stay",
        "db/global.rs",
        "for change in self.merge.remove(node) {",
        "for change in self.merge.remove(node).into_iter().skip(1) {",
    ),
    (
        "a lost node's subscriptions stay",
        "db/global.rs",
        "self.unsubscribe_all(node);\n        self.forget_database(node, around);",
        "self.forget_database(node, around);",
    ),
    (
        "other global nodes are not told of deletions",
        "db/global.rs",
        "delete: Some(deletions_for_globals),",
        "delete: deletions_for_globals.is_empty().then(Vec::new),",
    ),
    (
        "subscribers are not told of deletions",
        "db/global.rs",
        "let changed = Request::Changed { family, set, delete: deleted };",
        "let changed = Request::Changed { family, set, delete: deleted.into_iter().skip(1).collect() };",
    ),
    (
        "a stale copy is kept",
        "heal.rs",
        "if may_be_elsewhere && peer.patient.inquiry.is_none() {",
        "if may_be_elsewhere && peer.patient.inquiry.is_some() {",
    ),
    (
        "slaves are healed without a word of their master",
        "heal.rs",
        "Some(master) => self.await_word(node, master),",
        "Some(_) => self.adopt_orphan(node, pause),",
    ),
    (
        "slaves are healed whatever they answer",
        "heal.rs",
        "is_us || other.is_some() || !up.contains(master)",
        "true || up.contains(master)",
    ),
    (
        "nobody is healed twice",
        "heal.rs",
        "self.healed += 1;",
        "self.healed += 1;\n            if let Some(peer) = self.peers.get_mut(node) { peer.patient.refuses = true; }",
    ),
];
