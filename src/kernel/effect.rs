//! What the kernel wants done: plain data, to be carried out in order.

use super::db::{ChangeSet, DbAnswer, DbMonitorId, QueryId};
use crate::value::packed::Elements;
use crate::value::{NodeId, Packed, Str};
pub use crate::wire::session::AuthOrder;
use std::sync::Arc;
use std::time::Duration;

/// One connection, from the moment it is dialled or accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub u64);

/// One monitor, from the moment it is set until it fires or is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MonitorId(pub(crate) u64);

/// The name of a local port: what stands behind `#` in its ID.
pub type PortName = Str;

/// Why a port died: the elements that its monitors get; none means that it ended normally.
pub type Reason = Packed;

/// How important a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// Something failed that should not have.
    Error,
    /// Something is odd, or a peer misbehaves.
    Warn,
    /// Worth knowing: nodes come and go.
    Info,
    /// Details.
    Debug,
}

/// Which part of the kernel a log line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Connections.
    Mesh,
    /// Ports and monitors.
    Ports,
    /// The database.
    Database,
    /// Perl slaves without a master.
    Healing,
    /// Requests of peers.
    Requests,
}

/// One thing to do; effects are carried out in the order in which the kernel gives them.
///
/// Not `non_exhaustive`: a host that does not carry out one of them is to be noticed by the compiler.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Append the packet (array head included) to the lane of `to`.
    Send {
        /// A remote node.
        to: NodeId,
        /// The packet in packed form; port name first.
        packet: Packed,
    },
    /// The same for several nodes, all of which are connected.
    SendAll {
        /// Remote nodes.
        to: Arc<[NodeId]>,
        /// The packet in packed form; port name first.
        packet: Packed,
    },
    /// Send a packet on a connection that is up, before all that waits for it, and report at once, by
    /// [`Kernel::pulse`](super::Kernel::pulse), how the connection is doing.
    Probe {
        /// The remote node.
        node: NodeId,
        /// Its connection.
        conn: ConnId,
        /// What the report has to name.
        number: u64,
        /// The packet in packed form; port name first.
        packet: Packed,
    },
    /// Report again how a connection is doing that was probed.
    Look {
        /// The connection.
        conn: ConnId,
        /// What the report has to name.
        number: u64,
    },
    /// Report, by [`Kernel::has_room`](super::Kernel::has_room), once a node's lane is not crowded any more
    /// and takes so many octets without its soft limit being passed, or nothing waits there. Not in the
    /// same step, so that others get at the kernel in between.
    AwaitRoom {
        /// The remote node.
        node: NodeId,
        /// What the report has to name.
        number: u64,
        /// How much room is wanted.
        octets: usize,
    },
    /// Deliver a message to a port of this node.
    Deliver {
        /// The port; if it is gone, the message is dropped.
        port: PortName,
        /// The message.
        message: Packed,
        /// Who sent it.
        from: NodeId,
    },
    /// The connection is authenticated and the node's only one: its lane comes up.
    LaneUp {
        /// The remote node.
        node: NodeId,
        /// Its connection.
        conn: ConnId,
    },
    /// The lane goes down: what waits in it is dropped. [`Effect::LaneReset`] follows.
    LaneDown {
        /// The remote node.
        node: NodeId,
    },
    /// All monitors of the lost connection have been told: the lane takes packets again.
    LaneReset {
        /// The remote node.
        node: NodeId,
    },
    /// Dial an address; report what comes of it with the connection's ID.
    Dial {
        /// The new connection.
        conn: ConnId,
        /// `host:port` or `[ipv6]:port`.
        address: Str,
    },
    /// A greeted connection may go on.
    Proceed {
        /// The connection.
        conn: ConnId,
        /// Whether we authenticate before the peer has, or only after.
        order: AuthOrder,
    },
    /// Close the connection.
    Close {
        /// The connection.
        conn: ConnId,
        /// For the log and for the connection's own error.
        reason: String,
    },
    /// Somebody spawned a port here: messages to it are delivered from now on, after its first
    /// function.
    Spawned {
        /// Its name.
        port: PortName,
        /// What it runs first.
        init: Call,
    },
    /// A port died: what was delivered before is still its own, nothing comes after.
    PortClosed {
        /// Its name.
        port: PortName,
        /// Why.
        reason: Reason,
    },
    /// A monitor fires.
    Fire {
        /// The monitor; it is gone now.
        monitor: MonitorId,
        /// Why the port died or was lost.
        reason: Reason,
    },
    /// Run a registered function that a peer called by name.
    Call(Call),
    /// Evaluate an expression that the kernel does not know, or refuse it.
    Eval {
        /// The expression.
        expression: Str,
        /// Who asks.
        from: NodeId,
        /// The reply so far: a port ID and elements; error text and results go behind it.
        reply: Packed,
    },
    /// A node was connected.
    NodeUp {
        /// The node.
        node: NodeId,
        /// Whether it authenticated anonymously.
        untrusted: bool,
    },
    /// The connection to a node was lost.
    NodeDown {
        /// The node.
        node: NodeId,
        /// As its monitors get it.
        reason: Reason,
    },
    /// A database query is answered, or failed.
    Answer {
        /// Which.
        query: QueryId,
        /// The result.
        answer: DbAnswer,
    },
    /// A monitored family changed.
    Changed {
        /// The monitor.
        monitor: DbMonitorId,
        /// What changed.
        changes: ChangeSet,
    },
    /// Something for the log.
    Log {
        /// How important.
        level: Level,
        /// What it is about.
        origin: Origin,
        /// One line; what came from peers is escaped.
        text: String,
    },
}

/// A registered function to run.
#[derive(Debug, Clone)]
pub struct Call {
    /// Its name.
    pub function: Str,
    /// Its arguments.
    pub arguments: Packed,
    /// The node that asked for it.
    pub from: NodeId,
}

/// How much room requests usually need.
const USUAL_SIZE: usize = 64;

/// Builds the elements of one packet or message, value by value.
#[derive(Debug, Clone, Default)]
pub(crate) struct Builder {
    len: usize,
    octets: Vec<u8>,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Builder { len: 0, octets: Vec::with_capacity(USUAL_SIZE) }
    }

    /// A packet to a port of another node, with room for so many octets behind the port's name. They
    /// are moved no more if there are as many.
    pub(crate) fn to_port(port: crate::value::StrRef<'_>, octets: usize) -> Self {
        let room = crate::value::packed::string_len(port) + octets;
        Builder { len: 0, octets: Vec::with_capacity(room) }.string(port)
    }

    /// How many octets it holds.
    pub(crate) const fn octets_len(&self) -> usize {
        self.octets.len()
    }

    /// A request to the node port of another node.
    pub(crate) fn request(name: &str) -> Self {
        Builder::new().name("").name(name)
    }

    /// A string of the protocol's own, sent as octets as Perl does.
    pub(crate) fn name(mut self, name: &str) -> Self {
        crate::value::packed::put_octets(&mut self.octets, name.as_bytes());
        self.len += 1;
        self
    }

    pub(crate) fn string(mut self, string: crate::value::StrRef<'_>) -> Self {
        crate::value::packed::put_str(&mut self.octets, string);
        self.len += 1;
        self
    }

    pub(crate) fn text(mut self, text: &str) -> Self {
        crate::value::packed::put_text(&mut self.octets, text);
        self.len += 1;
        self
    }

    pub(crate) fn undef(mut self) -> Self {
        crate::value::packed::put_undef(&mut self.octets);
        self.len += 1;
        self
    }

    pub(crate) fn float(mut self, value: f64) -> Self {
        crate::value::packed::put_float(&mut self.octets, value);
        self.len += 1;
        self
    }

    pub(crate) fn elements(mut self, elements: Elements<'_>) -> Self {
        self.octets.extend_from_slice(elements.octets());
        self.len += elements.len();
        self
    }

    /// Appends what another builder holds.
    pub(crate) fn append(mut self, other: Builder) -> Self {
        if self.len == 0 {
            return other;
        }
        self.octets.extend_from_slice(&other.octets);
        self.len += other.len;
        self
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn build(self) -> Packed {
        Packed::new(self.len, self.octets.into())
    }
}

/// The reason of every monitor whose connection was lost.
pub(crate) fn transport_error(node: &NodeId, text: &str) -> Reason {
    Builder::new().name("transport_error").string(node.as_str()).text(text).build()
}

/// The reason of a port that failed: Perl's `die`, and the error.
pub(crate) fn died(text: &str) -> Reason {
    Builder::new().name("die").text(text).build()
}

/// A reason made of strings.
pub(crate) fn build_reason(elements: &[&str]) -> Reason {
    elements.iter().fold(Builder::new(), |builder, element| builder.text(element)).build()
}

/// How long a duration is, for people.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
