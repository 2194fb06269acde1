//! The status page: its files, and the JSON that it reads.

use super::events::Events;
use super::network::{self, Network};
use super::shown::shown;
use crate::node::{Metrics, Node};
use crate::value::Str;
use crate::wire::greeting::PROVIDER;
use serde_json::{Value as Json, json};

pub(super) const HTML: &str = include_str!("page/page.html");
pub(super) const SCRIPT: &str = include_str!("page/page.js");
pub(super) const STYLE: &str = include_str!("page/page.css");
pub(super) const ICON: &str = include_str!("page/icon.svg");

/// The maximum number of rows in a table of the page.
const MAX_ROWS: usize = 500;

/// The data that the page shows in addition to the node's figures.
#[derive(Debug, Default)]
pub(super) struct Surroundings {
    pub(super) events: Events,
    pub(super) network: Network,
    /// Whether values of the database may be shown.
    pub(super) values: bool,
}

/// Everything that the page shows, except values of the database.
pub(super) fn status(node: &Node, around: &Surroundings) -> Json {
    let metrics = node.metrics();
    around.network.refresh(node, &metrics);
    let health = node.health();
    let links = metrics.links.iter().take(MAX_ROWS).map(|link| {
        json!({
            "node": shown(&link.node),
            "software": shown(&link.software),
            "untrusted": link.untrusted,
            "framing": shown(&link.framing),
            "protection": shown(&link.protection),
            "plain_because": shown(&link.plain_because),
            "waiting": link.waiting,
            "sent": [link.packets, link.octets],
            "received": [link.received_packets, link.received_octets],
        })
    });
    let handshakes = metrics.handshakes.iter().filter(|handshakes| handshakes.count > 0);
    let handshakes = handshakes.map(|handshakes| {
        json!({
            "dialled": handshakes.dialled,
            "outcome": handshakes.outcome.name(),
            "count": handshakes.count,
        })
    });
    json!({
        "node": shown(&metrics.node),
        "software": PROVIDER,
        "healthy": health.is_ok(),
        "warnings": node.warnings().iter().map(|text| shown(&Str::text(text))).collect::<Vec<_>>(),
        "uptime": metrics.uptime,
        "global": metrics.global,
        "master": metrics.master.as_ref().map(shown),
        "seeds": [metrics.seeds_up, metrics.seeds],
        "connections": {
            "up": metrics.connections.up,
            "opening": metrics.connections.opening,
            "lost": metrics.connections.lost,
        },
        "traffic": {
            "sent": [metrics.traffic.sent_packets, metrics.traffic.sent_octets],
            "received": [metrics.traffic.received_packets, metrics.traffic.received_octets],
            "dropped": metrics.traffic.dropped_packets,
        },
        "waiting": metrics.waiting,
        "ports": metrics.ports,
        "ports_waiting": metrics.ports_waiting,
        "monitors": metrics.monitors,
        "healed": metrics.healed,
        "links": links.collect::<Vec<_>>(),
        "handshakes": handshakes.collect::<Vec<_>>(),
        "families": families(&metrics),
        "families_left_out": metrics.families.len().saturating_sub(MAX_ROWS),
        "values": around.values,
        "events": around.events.all(),
        "network": around.network.picture(&metrics),
    })
}

fn families(metrics: &Metrics) -> Vec<(String, u64)> {
    let families = metrics.families.iter().take(MAX_ROWS);
    families.map(|(family, keys)| (shown(family), *keys)).collect()
}

/// Keys and values of the family with this (shown) name.
pub(super) async fn family(node: &Node, name: &str) -> Option<Json> {
    let families = node.metrics().families;
    let (family, keys): (&Str, &u64) = families.iter().find(|(family, _)| shown(family) == name)?;
    let entries = network::family(node, family, MAX_ROWS).await;
    Some(json!({ "family": name, "keys": keys, "entries": entries }))
}
