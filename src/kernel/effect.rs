//! The outputs of the kernel: plain data, carried out in order.

use super::db::{ChangeSet, DbAnswer, DbMonitorId, LaterPackets, QueryId};
use super::lines::Line;
use crate::value::packed::Elements;
use crate::value::{NodeId, Packed, Str};
pub use crate::wire::session::AuthOrder;
use std::sync::Arc;
use std::time::Duration;

/// The ID of a connection, from the moment it is dialled or accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub u64);

/// The ID of a monitor, from the moment it is set until it fires or is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MonitorId(pub(crate) u64);

/// The name of a local port: the part of its ID after `#`.
pub type PortName = Str;

/// The reason of a port's death: the elements that its monitors get; empty if it ended normally.
pub type Reason = Packed;

/// The severity of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// Something failed that should not have.
    Error,
    /// Something unusual, or a misbehaving peer.
    Warn,
    /// Nodes that connect and disconnect.
    Info,
    /// Details.
    Debug,
}

/// The part of the kernel that a log line is about.
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

/// An output of the kernel. Effects are carried out in the order in which they were emitted.
///
/// Not `non_exhaustive`: the compiler has to find hosts that do not handle an effect.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Append the packet (array head included) to the lane of `to`.
    Send {
        /// A remote node.
        to: NodeId,
        /// The packet in packed form; port name first.
        packet: Packed,
    },
    /// Append the packet to the lanes of several nodes, all of which are connected.
    SendAll {
        /// Remote nodes.
        to: Arc<[NodeId]>,
        /// The packet in packed form; port name first.
        packet: Packed,
    },
    /// Append large packets of the database to the lane of `to`. Only their place among the other packets
    /// has to be taken now; to make them ([`LaterPackets::into_packets`]) takes so long that it should be
    /// done when their turn to be written comes, without the kernel's lock.
    SendLater {
        /// A connected node.
        to: NodeId,
        /// The packets.
        packets: Box<LaterPackets>,
    },
    /// Send a packet on a connection that is up, ahead of everything queued, and report the state of the
    /// connection at once by [`Kernel::pulse`](super::Kernel::pulse).
    Probe {
        /// The remote node.
        node: NodeId,
        /// Its connection.
        conn: ConnId,
        /// A number that the report repeats.
        number: u64,
        /// The packet in packed form; port name first.
        packet: Packed,
    },
    /// Report the state of a probed connection again.
    Look {
        /// The connection.
        conn: ConnId,
        /// A number that the report repeats.
        number: u64,
    },
    /// Call [`Kernel::has_room`](super::Kernel::has_room) once the node's lane is empty, or is no longer
    /// crowded and takes this many octets without exceeding its soft limit. This must not happen in the
    /// same acquisition of the kernel's lock, so that other threads get it in between. What the host has
    /// received by then should come first, as changes of the database may be combined until then.
    AwaitRoom {
        /// The remote node.
        node: NodeId,
        /// A number that the call repeats.
        number: u64,
        /// The room that is needed.
        octets: usize,
    },
    /// Deliver a message to a port of this node.
    Deliver {
        /// The port. If it does not exist any more, the message is dropped.
        port: PortName,
        /// The message.
        message: Packed,
        /// The sender's node.
        from: NodeId,
    },
    /// The connection is authenticated and the only one to this node: its lane comes up.
    LaneUp {
        /// The remote node.
        node: NodeId,
        /// Its connection.
        conn: ConnId,
    },
    /// The lane goes down: its queue is dropped. [`Effect::LaneReset`] follows.
    LaneDown {
        /// The remote node.
        node: NodeId,
    },
    /// All monitors of the lost connection have fired: the lane accepts packets again.
    LaneReset {
        /// The remote node.
        node: NodeId,
    },
    /// Dial an address, and report the result with the connection's ID.
    Dial {
        /// The new connection.
        conn: ConnId,
        /// `host:port` or `[ipv6]:port`.
        address: Str,
    },
    /// A greeted connection may continue.
    Proceed {
        /// The connection.
        conn: ConnId,
        /// Whether this node authenticates first, or only after the peer.
        order: AuthOrder,
    },
    /// Close the connection.
    Close {
        /// The connection.
        conn: ConnId,
        /// The reason, for the log and for the connection's own error.
        reason: String,
    },
    /// A peer spawned a port here. Messages to it are delivered from now on, after its first function
    /// has run.
    Spawned {
        /// Its name.
        port: PortName,
        /// Its first function.
        init: Call,
    },
    /// A port was killed. It keeps the messages that were delivered before, and gets no more.
    PortClosed {
        /// Its name.
        port: PortName,
        /// The reason.
        reason: Reason,
    },
    /// A monitor fires.
    Fire {
        /// The monitor, which is removed.
        monitor: MonitorId,
        /// The reason of the port's death or loss.
        reason: Reason,
    },
    /// Run a registered function that a peer called by name.
    Call(Call),
    /// Evaluate an expression that the kernel does not know, or refuse to.
    Eval {
        /// The expression.
        expression: Str,
        /// The node that sent it.
        from: NodeId,
        /// The beginning of the reply: a port ID and elements, to which error text and results are
        /// appended.
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
        /// The reason that its monitors get.
        reason: Reason,
    },
    /// A database query was answered, or has failed.
    Answer {
        /// The query.
        query: QueryId,
        /// The result.
        answer: DbAnswer,
    },
    /// A monitored family changed.
    Changed {
        /// The monitor.
        monitor: DbMonitorId,
        /// The changes.
        changes: ChangeSet,
    },
    /// A line for the log.
    Log {
        /// Its severity.
        level: Level,
        /// Its subject.
        origin: Origin,
        /// The text as data, to be displayed when no lock is held.
        line: Line,
    },
}

/// A call of a registered function.
#[derive(Debug, Clone)]
pub struct Call {
    /// Its name.
    pub function: Str,
    /// Its arguments.
    pub arguments: Packed,
    /// The node that called it.
    pub from: NodeId,
}

/// Octets that requests usually need.
const TYPICAL_SIZE: usize = 64;

/// Builds the elements of one packet or message, value by value.
#[derive(Debug, Clone, Default)]
pub(crate) struct Builder {
    len: usize,
    octets: Vec<u8>,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Builder { len: 0, octets: Vec::with_capacity(TYPICAL_SIZE) }
    }

    /// A packet to a port of another node, with capacity for this many octets after the port's name.
    pub(crate) fn to_port(port: crate::value::StrRef<'_>, octets: usize) -> Self {
        let room = crate::value::packed::string_len(port) + octets;
        Builder { len: 0, octets: Vec::with_capacity(room) }.string(port)
    }

    /// The number of octets so far.
    pub(crate) const fn octets_len(&self) -> usize {
        self.octets.len()
    }

    /// A request to the node port of another node.
    pub(crate) fn request(name: &str) -> Self {
        Builder::new().name("").name(name)
    }

    /// Appends a string of the protocol, as octets, as Perl does.
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

    /// Appends the elements of another builder.
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

/// The reason of monitors whose connection was lost.
pub(crate) fn transport_error(node: &NodeId, text: &str) -> Reason {
    Builder::new().name("transport_error").string(node.as_str()).text(text).build()
}

/// The reason of a port that failed: Perl's `die` and the error text.
pub(crate) fn died(text: &str) -> Reason {
    Builder::new().name("die").text(text).build()
}

/// A reason that consists of strings.
pub(crate) fn build_reason(elements: &[&str]) -> Reason {
    elements.iter().fold(Builder::new(), |builder, element| builder.text(element)).build()
}

/// A duration as text.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
