//! Publishing a node's figures to the program's recorder of the `metrics` crate.

use super::figures::{Kind, figures};
use crate::node::Node;

/// Passes the figures of the whole node and its handshakes to the recorder of the `metrics` crate; call
/// it as often as you want them updated. `docs/operations.md` lists their names and meanings; each has a
/// label `node`.
///
/// The series of single peers and families are left out, since a recorder never forgets a series.
pub fn publish(node: &Node) {
    let metrics = node.metrics();
    let name = super::shown::shown(&metrics.node);
    for figure in figures(&metrics) {
        match figure.kind {
            Kind::Counter => {
                metrics_facade::counter!(figure.name, "node" => name.clone())
                    .absolute(figure.value as u64);
            }
            Kind::Gauge => {
                metrics_facade::gauge!(figure.name, "node" => name.clone()).set(figure.value);
            }
        }
    }
    for handshakes in &metrics.handshakes {
        metrics_facade::counter!(
            "aemp_handshakes_total",
            "node" => name.clone(),
            "dialled" => if handshakes.dialled { "1" } else { "0" },
            "outcome" => handshakes.outcome.name(),
        )
        .absolute(handshakes.count);
    }
}
