//! Helpers of the database's tests: a node to drive, and effects as text.

use super::entries::Tables;
use super::{Database, Datum, DbConfig, DbEffect, DbMonitorId, DbResult, Entries, Request};
use crate::value::{NodeId, Packed, Str};
use std::time::Duration;

pub(super) const FAM: &str = "fam";

pub(super) fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

pub(super) fn node(id: &str) -> NodeId {
    id.parse().unwrap()
}

pub(super) fn entries(text: &str) -> Entries {
    text.split_whitespace()
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap();
            (key.into(), value.parse().map_or(Datum::string(value), Datum::int))
        })
        .collect()
}

/// The database of a node that has the addresses of these nodes and this content.
pub(super) fn tables_of(nodes: &str, content: &str) -> Tables {
    let address = |node: &Str| (node.clone(), Datum::strings(&[Str::from(format!("{node}:1"))]));
    let locations = keys(nodes).iter().map(address).collect();
    [("'l".into(), locations), (FAM.into(), entries(content))].into()
}

pub(super) fn keys(text: &str) -> Vec<Str> {
    text.split_whitespace().map(Str::from).collect()
}

pub(super) fn show(entries: &Entries) -> String {
    let pairs: Vec<_> = entries.iter().map(|(key, value)| format!("{key}={value:?}")).collect();
    pairs.join(" ")
}

/// A node that a test drives.
pub(super) struct TestNode {
    pub(super) db: Database,
    pub(super) now: Duration,
}

impl TestNode {
    pub(super) fn new(id: &str) -> Self {
        let config = DbConfig { patience: seconds(30), grace: seconds(5) };
        TestNode { db: Database::new(node(id), config), now: seconds(100) }
    }

    pub(super) fn global(id: &str) -> Self {
        let mut driven = TestNode::new(id);
        driven.db.set_location(&[format!("{id}:1").into()], driven.now);
        driven.db.become_global(driven.now);
        driven.effects();
        driven
    }

    pub(super) fn up(&mut self, id: &str) {
        self.db.node_up(node(id));
    }

    pub(super) fn down(&mut self, id: &str) {
        self.db.node_down(&node(id), self.now);
    }

    pub(super) fn with_master() -> Self {
        let mut slave = TestNode::new("me");
        slave.adopt("m");
        slave.effects();
        slave
    }

    pub(super) fn adopt(&mut self, master: &str) {
        self.db.node_up(node(master));
        self.db.adopt_master(&node(master));
    }

    pub(super) fn set(&mut self, key: &str, value: Datum) {
        self.db.set(&FAM.into(), key.into(), value, self.now).unwrap();
    }

    pub(super) fn delete(&mut self, deleted: &str) {
        self.db.delete(&FAM.into(), keys(deleted), self.now).unwrap();
    }

    pub(super) fn monitor(&mut self) -> DbMonitorId {
        self.db.monitor(FAM.into(), self.now)
    }

    pub(super) fn hear(&mut self, request: Request) {
        self.hear_from("m", request);
    }

    pub(super) fn hear_from(&mut self, from: &str, request: Request) {
        let packet = request.to_packet();
        let elements = packet.as_elements().after(1);
        if !self.db.receive_one(&node(from), elements, self.now) {
            let name = elements.first_str().unwrap();
            assert!(self.db.receive(&node(from), name, elements.after(1), self.now));
        }
    }

    pub(super) fn content(&mut self, content: &str) {
        self.content_from("m", content);
    }

    pub(super) fn content_from(&mut self, from: &str, content: &str) {
        let content = Some(entries(content)).filter(|content| !content.is_empty());
        self.hear_from(from, Request::Family { family: FAM.into(), content });
    }

    pub(super) fn change(&mut self, set: &str, delete: &str) {
        let change =
            Request::Changed { family: FAM.into(), set: entries(set), delete: keys(delete) };
        self.hear(change);
    }

    pub(super) fn wait(&mut self, s: u64) {
        self.now += seconds(s);
        self.db.expire(self.now);
    }

    pub(super) fn effects(&mut self) -> Vec<String> {
        self.db.take_effects().into_iter().map(text).collect()
    }

    /// The effects up to the host's next turn, all of whose connections have room.
    pub(super) fn turn(&mut self) -> Vec<String> {
        let mut texts = Vec::new();
        loop {
            let effects = self.db.take_effects();
            if effects.is_empty() {
                return texts;
            }
            for effect in effects {
                match effect {
                    DbEffect::AwaitRoom { node, number } => {
                        self.db.has_room(&node, number, self.now);
                    }
                    other => texts.push(text(other)),
                }
            }
        }
    }
}

fn text(effect: DbEffect) -> String {
    match effect {
        DbEffect::Send { to, packet } => {
            let request = packet.as_elements().after(1).to_packed();
            let to: Vec<_> = to.iter().map(NodeId::to_string).collect();
            format!("{}: {request}", to.join(","))
        }
        DbEffect::SendLater { to, packets } => {
            let request = |packet: Packed| packet.as_elements().after(1).to_packed().to_string();
            let requests: Vec<_> = packets.into_packets().into_iter().map(request).collect();
            format!("{to}: {}", requests.join(" "))
        }
        DbEffect::AwaitRoom { node, number } => format!("room at {node} for {number}"),
        DbEffect::Changed { monitor, changes } => format!(
            "{}{} +[{}] ~[{}] -[{}]",
            monitor.0,
            if changes.initial { " initially" } else { "" },
            show(&changes.added),
            show(&changes.changed),
            changes.deleted.iter().map(Str::to_string).collect::<Vec<_>>().join(" "),
        ),
        DbEffect::Answer { query, answer } => match answer {
            Ok(DbResult::Family(entries)) => format!("{} {}", query.0, show(&entries)),
            Ok(other) => format!("{} {other:?}", query.0),
            Err(error) => format!("{} {error}", query.0),
        },
        DbEffect::Found { node, addresses } => format!("found {node} {addresses:?}"),
        DbEffect::Problem { from, problem } => format!("{from}: {problem}"),
        DbEffect::KeepAlive(node) => format!("keep {node}"),
        DbEffect::KeepAliveNoMore(node) => format!("keep {node} no more"),
        DbEffect::Located(node) => format!("located {node}"),
        DbEffect::Unlocated(node) => format!("unlocated {node}"),
        DbEffect::Orphan { node, request } => format!("orphan {node}: {request}"),
        DbEffect::Conflict { node, other } => format!("conflict over {node} with {other}"),
    }
}
