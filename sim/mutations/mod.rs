//! Ways to break the kernel, each by name.
#![allow(dead_code, unreachable_pub)]

/// A way to break the kernel or its lanes: its name, the file (from `src/kernel`), what is replaced, and by what. `BROKEN` in that
/// is true if this mutation is the one that is tried.
pub type Mutation = (&'static str, &'static str, &'static str, &'static str);

/// All of them.
pub const MUTATIONS: &[Mutation] = &[
    (
        "the last monitor is not taken back",
        "monitor.rs",
        "if !port.is_empty() {\n            self.send(&node, Builder::request(\"mon0\")",
        "if !BROKEN && !port.is_empty() {\n            self.send(&node, Builder::request(\"mon0\")",
    ),
    (
        "monitoring peers are not told of a death",
        "monitor.rs",
        "for peer in mourners.peers {",
        "for peer in mourners.peers.into_iter().skip(usize::from(BROKEN)) {",
    ),
    (
        "the loss of a node fires no monitors",
        "monitor.rs",
        "for id in others {",
        "for id in others.into_iter().skip(usize::from(BROKEN)) {",
    ),
    (
        "the lane takes packets before all monitors have fired",
        "monitor.rs",
        "let (messages, others)",
        "if BROKEN {
            self.effects.push(Effect::LaneReset { node: node.clone() });
        }
        let (messages, others)",
    ),
    (
        "a lane that is too full leaves out what is too much",
        "../lane/mod.rs",
        "_ if waiting > self.limits.hard => {",
        "_ if BROKEN && waiting > self.limits.hard => {
                self.sent.dropped += 1;
                return Ok(Appended::Dropped);
            }
            _ if waiting > self.limits.hard => {",
    ),
    (
        "a lost peer still monitors",
        "mesh/link.rs",
        "self.ports.forget_peer(node);",
        "if !BROKEN {
            self.ports.forget_peer(node);
        }",
    ),
    (
        "every greeted connection is authenticated",
        "mesh/arbitration.rs",
        "if now < *patience => return,",
        "if now < *patience && !BROKEN => return,",
    ),
    (
        "a second connection is refused without a look at the first",
        "mesh/link.rs",
        "self.ask_echo(node, Question::Probe(number));",
        "if BROKEN {
            self.probe_answered(node, number);
        } else {
            self.ask_echo(node, Question::Probe(number));
        }",
    ),
    (
        "a second connection takes the place of the first without a look at it",
        "mesh/link.rs",
        "let deadline = self.now.uptime + self.config.connect_interval;\n        let number",
        "if BROKEN {
            return self.disconnect(node, \"another connection\");
        }
        let deadline = self.now.uptime + self.config.connect_interval;
        let number",
    ),
    (
        "nobody is given up",
        "mesh/trial.rs",
        "is_some_and(|trial| now >= trial.started + limit)",
        "is_some_and(|trial| !BROKEN && now >= trial.started + limit)",
    ),
    (
        "lost seeds are not dialled again",
        "mesh/link.rs",
        "if self.mesh.is_seed(node) {\n            self.retry_seeds();",
        "if !BROKEN && self.mesh.is_seed(node) {\n            self.retry_seeds();",
    ),
    (
        "global nodes are not connected again",
        "mesh/link.rs",
        "if self.mesh.keepalive.contains(node) {\n            self.retry_keepalive();",
        "if !BROKEN && self.mesh.keepalive.contains(node) {\n            self.retry_keepalive();",
    ),
    (
        "only the first address is tried",
        "mesh/trial.rs",
        "trial.addresses = addresses;",
        "trial.addresses = addresses;
        if BROKEN {
            trial.addresses.truncate(1);
        }",
    ),
    (
        "a lost master is not replaced",
        "membership.rs",
        "self.db.node_down(node, self.now.uptime);\n        self.find_master();",
        "self.db.node_down(node, self.now.uptime);
        if BROKEN {
            return;
        }
        self.find_master();",
    ),
    (
        "seeds are not asked to be global",
        "membership.rs",
        "self.send(node, request);\n        self.find_master();",
        "if !BROKEN {
            self.send(node, request);
        }
        self.find_master();",
    ),
    (
        "a new master does not learn what is monitored",
        "db/local.rs",
        "requests.extend(self.monitored().cloned().map(Request::Monitor));",
        "if !BROKEN {
            requests.extend(self.monitored().cloned().map(Request::Monitor));
        }",
    ),
    (
        "queries are not asked again",
        "db/local.rs",
        "requests.extend(self.queries.values().map(Query::request));",
        "if !BROKEN {
            requests.extend(self.queries.values().map(Query::request));
        }",
    ),
    (
        "queries without a master wait for ever",
        "db/local.rs",
        "self.due = queries.chain(finds)",
        "self.due = queries.filter(|_| !BROKEN).chain(finds)",
    ),
    (
        "a lost node's entries stay",
        "db/global.rs",
        "for change in self.merge.remove(node) {",
        "for change in self.merge.remove(node).into_iter().skip(usize::from(BROKEN)) {",
    ),
    (
        "a lost node's subscriptions stay",
        "db/global.rs",
        "self.unsubscribe_all(node);\n        self.forget_database(node, around);",
        "if !BROKEN {
            self.unsubscribe_all(node);
        }
        self.forget_database(node, around);",
    ),
    (
        "other global nodes are not told of deletions",
        "db/global.rs",
        "delete: Some(deletions_for_globals),",
        "delete: Some(deletions_for_globals).filter(|_| !BROKEN),",
    ),
    (
        "subscribers are not told of deletions",
        "db/global.rs",
        "let changed = Request::Changed { family, set, delete: deleted };",
        "let delete = deleted.into_iter().skip(usize::from(BROKEN)).collect();
            let changed = Request::Changed { family, set, delete };",
    ),
    (
        "a stale copy is kept",
        "heal.rs",
        "if may_be_elsewhere && peer.patient.inquiry.is_none() {",
        "if may_be_elsewhere && !BROKEN && peer.patient.inquiry.is_none() {",
    ),
    (
        "slaves are healed without a word of their master",
        "heal.rs",
        "Some(master) => self.await_word(node, master),",
        "Some(_) if BROKEN => self.adopt_orphan(node, pause),
                Some(master) => self.await_word(node, master),",
    ),
    (
        "slaves are healed whatever they answer",
        "heal.rs",
        "is_us || other.is_some() || !up.contains(master)",
        "BROKEN || is_us || other.is_some() || !up.contains(master)",
    ),
];

/// What the copy of the kernel has besides: whether a mutation is the one that is tried.
pub const SWITCH: &str = r#"
pub(crate) fn broken(name: &str) -> bool {
    static NAME: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    NAME.get_or_init(|| std::env::var("AEMP_BROKEN").ok()).as_deref() == Some(name)
}
"#;
