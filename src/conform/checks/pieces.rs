//! A family that many nodes do not send in one packet, and what a node has told of it.

use super::{ANY, REST};
use crate::conform::pattern;
use crate::conform::session::{Packet, Session};
use crate::conform::stop::{Verdict, late};
use serde_json::{Map, Value as Json, json};
use tokio::time::{Instant, sleep};

/// The number of entries, and the octets of each value. Together they are more than 1 MiB, beyond which nodes
/// of this project divide a database.
const ENTRIES: usize = 20;
const OCTETS: usize = 64 << 10;
/// The pause between two looks at what a node has told.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(20);

/// The entries of the family; the values differ, so that none can stand for another.
pub(super) fn entries() -> Map<String, Json> {
    let value = |number: usize| format!("{number:04}").repeat(OCTETS / 4);
    (0..ENTRIES).map(|number| (format!("k{number:02}"), json!(value(number)))).collect()
}

/// What a node has told of the family.
pub(super) struct Told<'a> {
    family: &'a str,
    /// The request that tells a whole database: `g_slave` or `g_set`.
    request: &'static str,
    entries: Map<String, Json>,
    /// Each database that was told, without the family.
    pub(super) databases: Vec<Json>,
}

impl<'a> Told<'a> {
    /// Nothing yet.
    pub(super) fn of(family: &'a str, request: &'static str) -> Told<'a> {
        Told { family, request, entries: Map::new(), databases: Vec::new() }
    }

    /// Adds what these packets tell.
    pub(super) fn hear(&mut self, packets: &[Packet]) {
        let database = json!(["", self.request, {REST: ANY}]);
        let update = json!(["", "g_upd", self.family, {REST: ANY}, REST]);
        for packet in packets {
            let element = |index: usize| packet.get(index).map(pattern::to_json);
            if pattern::matches_packet(&update, packet) {
                self.add(element(3));
            } else if pattern::matches_packet(&database, packet) {
                let mut content = element(2).unwrap_or_default();
                let family = content.as_object_mut().and_then(|all| all.remove(self.family));
                self.add(family);
                self.databases.push(content);
            }
        }
    }

    fn add(&mut self, entries: Option<Json>) {
        if let Some(Json::Object(entries)) = entries {
            self.entries.extend(entries);
        }
    }

    /// Whether the node has told all entries of the family.
    pub(super) fn is_all(&self) -> bool {
        self.entries == entries()
    }

    /// How many entries it has told, in words.
    pub(super) fn how_many(&self) -> String {
        let (told, right) = (&self.entries, entries());
        let count = right.iter().filter(|(key, value)| told.get(*key) == Some(value)).count();
        format!("{count} of {ENTRIES} entries of the family")
    }

    /// Waits until the node has told all of the family on a connection.
    pub(super) async fn all(&mut self, session: &mut Session) -> Verdict {
        let deadline = Instant::now() + session.patience;
        loop {
            let packets = session.all(json!(["", REST])).await?;
            self.hear(&packets);
            if self.is_all() {
                // What it sends behind the last piece.
                let packets = session.all(json!(["", REST])).await?;
                self.hear(&packets);
                return Ok(());
            }
            if Instant::now() > deadline {
                return late(format!("it told {}", self.how_many()));
            }
            sleep(PAUSE).await;
        }
    }
}
