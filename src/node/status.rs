//! The status of a node, for its program and for other nodes that ask.

use super::Node;
use super::context::Context;
use crate::value::{NodeId, PortId, Str, StrRef, Value};
use crate::wire::greeting::PROVIDER;
use crate::wire::protection::{Protection, WhyPlain};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// The function through which other nodes ask for the status: `["", "aemp::status", REPLYPORT,
/// ELEMENTS...]` is answered with `ELEMENTS..., STATUS`. In `secure` mode it is not answered, like
/// all functions.
pub const STATUS_FUNCTION: &str = "aemp::status";

/// The status of a node at one moment. As a message it is a hash with these field names; later
/// versions may add some.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Status {
    /// The node's ID.
    pub node: Str,
    /// Name and version of the software.
    pub provider: Str,
    /// Seconds since the node started.
    pub uptime: f64,
    /// Whether it keeps the whole database.
    pub global: bool,
    /// The node that keeps the database for it.
    pub master: Option<Str>,
    /// Number of ports.
    pub ports: u64,
    /// Its connections.
    pub links: Vec<Link>,
    /// Number of connections in the handshake.
    pub pending_handshakes: u64,
    /// Number of connections that were refused because their handshake failed.
    pub refused: u64,
    /// Number of these that had to make room for others.
    pub displaced: u64,
    /// What prevents it from working, or soon will: [`Node::warnings`].
    pub warnings: Vec<Str>,
    /// Number of keys in each family of the database, if this node keeps it.
    pub families: BTreeMap<Str, u64>,
}

/// A connection with another node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Link {
    /// The other node's ID.
    pub node: Str,
    /// Whether it has not proven that it belongs to the network (`tls_anon`).
    pub untrusted: bool,
    /// The framing of the packets sent to it.
    pub framing: Str,
    /// Octets that are queued for it.
    pub waiting: u64,
    /// Packets sent to it.
    pub packets: u64,
    /// Octets of these.
    pub octets: u64,
    /// Packets received from it.
    pub received_packets: u64,
    /// Octets of these.
    pub received_octets: u64,
    /// The software that it claims to run: `aemp-0.1.0`, or `AE-2.02` for Perl.
    pub software: Str,
    /// The protection of the connection: `certificates`, `bound` (encrypted, and bound to the
    /// secret) or `plain`; empty if the node does not report it.
    pub protection: Str,
    /// Why the connection is plain, in a few words; empty if it is not.
    pub plain_because: Str,
}

impl Node {
    /// The node's current status: its connections, its ports, and its role in the network.
    pub fn status(&self) -> Status {
        let shared = self.shared();
        let (master, ports, up, families) = shared.kernel(|kernel| {
            let master = kernel.master().cloned().map(Str::from);
            let families = kernel.families();
            let up = kernel.up_nodes_with_trust().into_iter();
            let up: Vec<(NodeId, bool, Str)> = up
                .map(|(node, untrusted)| {
                    let software = kernel.provider(&node).cloned().unwrap_or_default();
                    (node, untrusted, software)
                })
                .collect();
            (master, shared.port_count(kernel), up, families)
        });
        let link = |(node, untrusted, software): &(NodeId, bool, Str)| {
            let lane = shared.lanes.of(node);
            let (framing, waiting, counters) = lane.figures();
            let traffic = lane.received.and_sent(counters);
            let protection = lane.protection();
            let why_plain = protection.and_then(Protection::why_plain);
            Link {
                node: Str::from(node.clone()),
                untrusted: *untrusted,
                framing: framing.map_or("", |framing| framing.name()).into(),
                waiting: waiting as u64,
                packets: traffic.sent_packets,
                octets: traffic.sent_octets,
                received_packets: traffic.received_packets,
                received_octets: traffic.received_octets,
                software: software.clone(),
                protection: protection.map_or("", Protection::name).into(),
                plain_because: why_plain.map_or("", WhyPlain::name).into(),
            }
        };
        let pending = shared.pending.figures();
        Status {
            node: Str::from(self.id().clone()),
            provider: PROVIDER.into(),
            uptime: shared.uptime().as_secs_f64(),
            global: self.is_global(),
            master,
            ports: ports as u64,
            links: up.iter().map(link).collect(),
            pending_handshakes: pending.pending,
            refused: pending.refused,
            displaced: pending.displaced,
            warnings: self.warnings().into_iter().map(Str::from).collect(),
            families: families.into_iter().map(|(family, keys)| (family, keys as u64)).collect(),
        }
    }

    /// Asks another aemp node for its status.
    ///
    /// # Errors
    /// Fails if the node cannot be reached, or if no answer arrives within `limit`: Perl nodes, and
    /// nodes in `secure` mode, do not answer.
    pub async fn status_of(
        &self,
        node: &NodeId,
        limit: Duration,
    ) -> Result<Status, super::CallError> {
        let (status,) = self.call(node, (STATUS_FUNCTION,)).timeout(limit).await?;
        Ok(status)
    }

    /// Lets other nodes ask for the status.
    pub(crate) fn offer_status(&self) {
        self.expose(STATUS_FUNCTION, |context: &Context<'_>, arguments: Vec<Value>| {
            let Some((reply, elements)) = arguments.split_first() else {
                return Err("no reply port".to_owned());
            };
            let reply = reply.to_str().ok_or("the reply port is not a string")?;
            let reply = PortId::parse(reply.into_owned()).map_err(|error| error.to_string())?;
            let status = Value::of(&context.node().status()).map_err(|error| error.to_string())?;
            let answer: Vec<&Value> = elements.iter().chain([&status]).collect();
            context.snd(reply, answer).map_err(|error| error.to_string())
        });
    }
}

impl Status {
    /// The connection with a node, if there is one.
    pub fn link(&self, node: StrRef<'_>) -> Option<&Link> {
        self.links.iter().find(|link| link.node.as_ref() == node)
    }
}
