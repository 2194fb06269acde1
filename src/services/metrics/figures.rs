//! The figures of a node that stand for the whole node, with their names for monitoring.

use crate::node::Metrics;

/// What may become of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It only grows.
    Counter,
    /// It comes and goes.
    Gauge,
}

/// One figure.
#[derive(Debug)]
pub(super) struct Figure {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) help: &'static str,
    pub(super) value: f64,
}

/// All of them, in the order in which they are shown.
pub(super) fn figures(metrics: &Metrics) -> Vec<Figure> {
    use Kind::{Counter, Gauge};
    let figure = |name, kind, help, value| Figure { name, kind, help, value };
    let count = |name, kind, help, value: u64| figure(name, kind, help, value as f64);
    let traffic = &metrics.traffic;
    let connections = &metrics.connections;
    vec![
        figure("aemp_uptime_seconds", Gauge, "Since the node was started.", metrics.uptime),
        count("aemp_global", Gauge, "1 if the node keeps the database.", metrics.global.into()),
        count(
            "aemp_joined",
            Gauge,
            "1 if the node has joined a network: it is global, or a global node serves it.",
            metrics.master.is_some().into(),
        ),
        count("aemp_seeds", Gauge, "Configured seeds.", metrics.seeds),
        count("aemp_seeds_up", Gauge, "Seeds that are connected.", metrics.seeds_up),
        count("aemp_connections", Gauge, "Nodes that are connected.", connections.up),
        count(
            "aemp_connections_opening",
            Gauge,
            "Connections that are being dialled or shake hands.",
            connections.opening,
        ),
        count(
            "aemp_strangers",
            Gauge,
            "Connections dialled by others who have not authenticated yet.",
            connections.strangers,
        ),
        count(
            "aemp_connections_lost_total",
            Counter,
            "Connections with nodes that have ended.",
            connections.lost,
        ),
        count("aemp_sent_packets_total", Counter, "Packets sent.", traffic.sent_packets),
        count("aemp_sent_bytes_total", Counter, "Octets sent.", traffic.sent_octets),
        count(
            "aemp_received_packets_total",
            Counter,
            "Packets received.",
            traffic.received_packets,
        ),
        count("aemp_received_bytes_total", Counter, "Octets received.", traffic.received_octets),
        count(
            "aemp_dropped_packets_total",
            Counter,
            "Packets not sent, as their connection was being lost.",
            traffic.dropped_packets,
        ),
        count("aemp_waiting_bytes", Gauge, "Octets that wait to be sent.", metrics.waiting),
        count("aemp_ports", Gauge, "Ports of the node.", metrics.ports),
        count(
            "aemp_ports_waiting_bytes",
            Gauge,
            "Octets of messages that wait in ports.",
            metrics.ports_waiting,
        ),
        count("aemp_monitors", Gauge, "Monitors set on ports of any node.", metrics.monitors),
        count("aemp_queries", Gauge, "Database queries without an answer yet.", metrics.queries),
        count(
            "aemp_healed_slaves_total",
            Counter,
            "Slaves of lost masters that this node has taken on.",
            metrics.healed,
        ),
    ]
}
