//! The figures of a whole node, with their names for monitoring.

use crate::node::Metrics;

/// How a figure changes over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It only grows.
    Counter,
    /// It may rise and fall.
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

/// All figures, in the order in which they are shown.
pub(super) fn figures(metrics: &Metrics) -> Vec<Figure> {
    let figure = |name, kind, help, value| Figure { name, kind, help, value };
    let gauge = |name, help, value: u64| figure(name, Kind::Gauge, help, value as f64);
    let counter = |name, help, value: u64| figure(name, Kind::Counter, help, value as f64);
    let traffic = &metrics.traffic;
    let connections = &metrics.connections;
    vec![
        figure("aemp_uptime_seconds", Kind::Gauge, "Since the node was started.", metrics.uptime),
        gauge("aemp_global", "1 if the node keeps the database.", metrics.global.into()),
        gauge(
            "aemp_joined",
            "1 if the node has joined a network: it is global, or a global node is its master.",
            metrics.master.is_some().into(),
        ),
        gauge("aemp_seeds", "Configured seeds.", metrics.seeds),
        gauge("aemp_seeds_up", "Seeds that are connected.", metrics.seeds_up),
        gauge("aemp_connections", "Nodes that are connected.", connections.up),
        gauge(
            "aemp_connections_opening",
            "Connections that are being dialled or in the handshake.",
            connections.opening,
        ),
        gauge(
            "aemp_strangers",
            "Incoming connections that have not authenticated yet.",
            connections.pending_handshakes,
        ),
        counter(
            "aemp_connections_lost_total",
            "Connections with nodes that have ended.",
            connections.lost,
        ),
        counter("aemp_sent_packets_total", "Packets sent.", traffic.sent_packets),
        counter("aemp_sent_bytes_total", "Octets sent.", traffic.sent_octets),
        counter("aemp_received_packets_total", "Packets received.", traffic.received_packets),
        counter("aemp_received_bytes_total", "Octets received.", traffic.received_octets),
        counter(
            "aemp_dropped_packets_total",
            "Packets not sent, because their connection was being lost.",
            traffic.dropped_packets,
        ),
        gauge("aemp_waiting_bytes", "Octets queued to be sent.", metrics.waiting),
        gauge("aemp_ports", "Ports of the node.", metrics.ports),
        gauge(
            "aemp_ports_waiting_bytes",
            "Octets of messages queued in ports.",
            metrics.ports_waiting,
        ),
        gauge("aemp_monitors", "Monitors set on ports of any node.", metrics.monitors),
        gauge("aemp_queries", "Database queries without an answer yet.", metrics.queries),
        gauge(
            "aemp_peer_bytes",
            "Octets held for peers in tables that peer_limit bounds.",
            metrics.peer_octets,
        ),
        gauge(
            "aemp_database_bytes",
            "Octets of database entries, if the node keeps the database.",
            metrics.database_octets,
        ),
        counter(
            "aemp_refused_for_limits_total",
            "Requests refused because a peer was at its peer_limit or database_limit.",
            metrics.refused_for_limits,
        ),
        counter(
            "aemp_healed_slaves_total",
            "Slaves of lost masters that this node has adopted.",
            metrics.healed,
        ),
    ]
}
