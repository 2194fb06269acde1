//! The queue of events in virtual time, and the events that nodes report.

use crate::link::LinkEnd;
use aemp::kernel::db::{ChangeSet, DbAnswer, DbMonitorId, QueryId};
use aemp::kernel::{Call, ConnId, Level, MonitorId, PortName, Reason};
use aemp::value::{NodeId, Packed, Str};
use std::collections::BTreeMap;
use std::time::Duration;

/// An event at a moment of virtual time.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// A node's connection attempt arrives at its destination.
    Dial { host: usize, incarnation: u32, conn: u64, address: Str, since: Duration },
    /// A node learns that its attempt failed.
    DialFailed { host: usize, incarnation: u32, conn: u64, why: &'static str },
    /// The next segment on its way to this end arrives.
    Arrive { to: LinkEnd },
    /// This end learns that the connection is gone.
    Reset { at: LinkEnd, why: &'static str },
    /// This end gives up if it has still heard nothing from its peer.
    Timeout { at: LinkEnd },
    /// A timer of a node fires.
    Timer { host: usize, incarnation: u32, what: Timer },
}

#[derive(Debug, Clone)]
pub(crate) enum Timer {
    Tick,
    Room { node: NodeId, number: u64, octets: usize },
    Flush { node: NodeId, conn: ConnId },
    Close { conn: ConnId, reason: String },
    HandshakeOver { conn: ConnId },
}

impl Event {
    /// The node to which it happens, if that is known without looking at the network.
    pub(crate) fn host(&self) -> Option<usize> {
        match self {
            Event::DialFailed { host, .. } | Event::Timer { host, .. } => Some(*host),
            _ => None,
        }
    }
}

/// Events ordered by time, and in order of insertion at equal times.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    pub(crate) now: Duration,
    serial: u64,
    events: BTreeMap<(Duration, u64), Event>,
}

impl Queue {
    pub(crate) fn at(&mut self, at: Duration, event: Event) {
        self.serial += 1;
        self.events.insert((at.max(self.now), self.serial), event);
    }

    pub(crate) fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now + delay, event);
    }

    /// Takes the next event and advances time, if the event is not later than `until`.
    pub(crate) fn pop(&mut self, until: Duration) -> Option<Event> {
        let (&(at, _), _) = self.events.first_key_value()?;
        if at > until {
            return None;
        }
        let (_, event) = self.events.pop_first()?;
        self.now = at;
        Some(event)
    }
}

/// An event that a node reports to the program that runs on it.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub enum WorldEvent {
    /// A message came to a port.
    Delivered { port: PortName, from: NodeId, message: Packed },
    /// A monitor fired.
    Fired { monitor: MonitorId, reason: Reason },
    /// A peer spawned a port.
    Spawned { port: PortName, init: Call },
    /// A port died.
    PortClosed { port: PortName, reason: Reason },
    /// A peer called a function.
    Called(Call),
    /// A peer wants an expression evaluated.
    Eval { expression: Str, from: NodeId, reply: Packed },
    /// A node was connected.
    NodeUp(NodeId),
    /// A node was lost.
    NodeDown(NodeId, Reason),
    /// The lane to a node accepts packets again after that node was lost.
    LaneOpen(NodeId),
    /// A query was answered.
    Answered { query: QueryId, answer: DbAnswer },
    /// A monitored family changed.
    Changed { monitor: DbMonitorId, changes: ChangeSet },
    /// The kernel dialled.
    Dialled { conn: ConnId, address: Str },
    /// The kernel closed a connection.
    Closed { conn: ConnId, reason: String },
    /// A log line.
    Log { level: Level, text: String },
}
