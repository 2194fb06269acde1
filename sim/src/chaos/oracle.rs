//! An observer's knowledge of how a network should behave; every event is checked against it.

use crate::{HostId, WorldEvent};
use aemp::kernel::MonitorId;
use aemp::kernel::db::{DbMonitorId, Entries, QueryId};
use aemp::value::{NodeId, Packed, PortId, Str};
use std::collections::{BTreeMap, BTreeSet};

/// One run of a node.
pub(super) type NodeRun = (HostId, u32);

/// Numbered messages from one run of a node to a port, sent after a monitor was set.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) from: NodeRun,
    pub(super) to: PortId,
    pub(super) monitor: MonitorId,
    pub(super) sent: u32,
    pub(super) received: u32,
    /// The monitor was removed, so nothing is sent any more.
    pub(super) ended: bool,
}

/// A message that asks for an answer.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) life: NodeRun,
    pub(super) reply: PortId,
    pub(super) monitor: MonitorId,
    /// It was answered, or its monitor has fired or was removed.
    pub(super) ended: bool,
}

/// A monitor that was set.
#[derive(Debug)]
pub(super) struct Monitored {
    pub(super) target: PortId,
    pub(super) fate: PortFate,
    /// The monitor sends a message or kills a port, so its firing is not reported as an event.
    pub(super) is_silent: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PortFate {
    Set,
    Fired,
    Removed,
}

#[derive(Debug)]
pub(super) struct View {
    pub(super) family: Str,
    pub(super) content: Option<Entries>,
}

#[derive(Debug, Default)]
pub(super) struct Oracle {
    pub(super) ports: Vec<PortId>,
    /// The ports that are alive.
    pub(super) alive: BTreeSet<PortId>,
    pub(super) streams: Vec<Stream>,
    pub(super) calls: Vec<Call>,
    /// The number of messages of each stream that wait for room in the lane.
    pub(super) waiting_streams: BTreeMap<usize, u32>,
    pub(super) monitors: BTreeMap<(NodeRun, MonitorId), Monitored>,
    pub(super) views: BTreeMap<(NodeRun, DbMonitorId), View>,
    pub(super) queries: BTreeSet<(NodeRun, QueryId)>,
    up: BTreeSet<(NodeRun, NodeId)>,
    /// The monitors that send messages and whose message has arrived.
    notified: BTreeSet<u32>,
    pub(super) notices: u32,
    /// Where the program made its node global.
    pub(super) made_global: BTreeSet<HostId>,
    /// Where a node got other seeds, while it may have kept its master.
    pub(super) got_other_seeds: BTreeSet<HostId>,
}

impl Oracle {
    /// Records a new port.
    pub(super) fn opened(&mut self, port: PortId) {
        self.alive.insert(port.clone());
        self.ports.push(port);
    }

    /// The call that a monitor belongs to.
    pub(super) fn call_of(&self, life: NodeRun, monitor: MonitorId) -> Option<usize> {
        self.calls.iter().position(|call| call.life == life && call.monitor == monitor)
    }

    /// Records that a run of a node has ended, with everything that it had.
    pub(super) fn died(&mut self, life: NodeRun, node: &NodeId) {
        self.alive.retain(|port| port.node() != *node);
        self.waiting_streams
            .retain(|&index, _| self.streams.get(index).is_some_and(|stream| stream.from != life));
        self.monitors.retain(|(of, _), _| *of != life);
        self.views.retain(|(of, _), _| *of != life);
        self.queries.retain(|(of, _)| *of != life);
        self.up.retain(|(of, _)| *of != life);
    }

    /// Records an event, or returns the promise that it breaks.
    pub(super) fn saw(
        &mut self,
        life: NodeRun,
        node: &NodeId,
        happening: &WorldEvent,
    ) -> Result<(), String> {
        match happening {
            WorldEvent::Delivered { port, message, .. } => self.delivered(life, port, message),
            // Only the spawner can know the port before.
            WorldEvent::Spawned { port, .. } => {
                self.opened(PortId::new(node, port));
                Ok(())
            }
            WorldEvent::PortClosed { port, .. } => {
                let port = PortId::new(node, port);
                self.alive.remove(&port);
                // A call whose reply port was linked to another port ends when that port dies.
                self.calls.iter_mut().for_each(|call| call.ended |= call.reply == port);
                Ok(())
            }
            WorldEvent::Fired { monitor, reason } => {
                let monitored = self
                    .monitors
                    .get_mut(&(life, *monitor))
                    .ok_or_else(|| format!("{monitor:?} fired and was never set"))?;
                if !reason.to_string().starts_with("[\"transport_error\"")
                    && self.alive.contains(&monitored.target)
                {
                    return Err(format!("{monitored:?} fired, but the port lives: {reason}"));
                }
                match monitored.fate {
                    PortFate::Set => monitored.fate = PortFate::Fired,
                    PortFate::Fired => return Err(format!("monitor {monitored:?} fired twice")),
                    PortFate::Removed => {
                        return Err(format!("monitor {monitored:?} was removed and fired"));
                    }
                }
                Ok(())
            }
            WorldEvent::LaneOpen(lost) => {
                let behind = self.monitors.iter().find(|((of, _), monitored)| {
                    *of == life
                        && monitored.fate == PortFate::Set
                        && !monitored.is_silent
                        && monitored.target.node() == *lost
                });
                let told = || format!("messages pass to lost {lost} before {behind:?} has fired");
                behind.is_none().then_some(()).ok_or_else(told)
            }
            WorldEvent::NodeUp(node) => {
                let new = self.up.insert((life, node.clone()));
                new.then_some(()).ok_or_else(|| format!("{node} came up twice"))
            }
            WorldEvent::NodeDown(node, _) => {
                let known = self.up.remove(&(life, node.clone()));
                known.then_some(()).ok_or_else(|| format!("{node} went down and was not up"))
            }
            WorldEvent::Answered { query, answer } => {
                let waited = self.queries.remove(&(life, *query));
                waited.then_some(()).ok_or_else(|| format!("{query:?} answered again: {answer:?}"))
            }
            WorldEvent::Changed { monitor, changes } => {
                let view = self.views.get_mut(&(life, *monitor)).ok_or_else(|| {
                    format!("{monitor:?} was not set or was removed: {changes:?}")
                })?;
                view.follow(changes)
            }
            WorldEvent::Log { level: aemp::kernel::Level::Error, text } => Err(text.clone()),
            _ => Ok(()),
        }
    }

    fn delivered(&mut self, life: NodeRun, port: &Str, message: &Packed) -> Result<(), String> {
        if let Ok((kind, stream, number, _)) = message.decode::<(String, usize, u32, String)>()
            && kind == "num"
        {
            let stream = self
                .streams
                .get_mut(stream)
                .ok_or_else(|| format!("a message of no stream: {message}"))?;
            if stream.to.port() != port.as_ref() {
                return Err(format!("a message for {} came to {port}", stream.to));
            }
            if stream.received != number {
                return Err(format!(
                    "a hole or a repetition at {life:?}: expected {}, got {message} ({stream:?})",
                    stream.received
                ));
            }
            stream.received += 1;
        } else if let Ok((kind, number)) = message.decode::<(String, u32)>()
            && kind == "notice"
        {
            return self.noticed(number);
        } else if message.to_string().starts_with("[\"notice\"") {
            let number = message.as_elements().to_values().ok();
            let number = number.and_then(|values| values.get(1)?.decode::<u32>().ok());
            return self.noticed(number.unwrap_or(u32::MAX));
        }
        Ok(())
    }

    fn noticed(&mut self, number: u32) -> Result<(), String> {
        let new = self.notified.insert(number);
        new.then_some(()).ok_or_else(|| format!("notice {number} came twice"))
    }
}

impl View {
    fn follow(&mut self, changes: &aemp::kernel::db::ChangeSet) -> Result<(), String> {
        if changes.initial != self.content.is_none() {
            return Err(format!("initial or not: {changes:?} for {self:?}"));
        }
        if !changes.initial && changes.is_empty() {
            return Err(format!("a report of nothing for {self:?}"));
        }
        let family = &self.family;
        let content = self.content.get_or_insert_default();
        for (key, value) in &changes.added {
            if content.insert(key.clone(), value.clone()).is_some() {
                return Err(format!("{family}.{key} was added twice"));
            }
        }
        for (key, value) in &changes.changed {
            let held = content.insert(key.clone(), value.clone());
            if held.is_none_or(|held| held.perl_eq(value)) {
                return Err(format!("{family}.{key} has not changed"));
            }
        }
        for key in &changes.deleted {
            if content.remove(key).is_none() {
                return Err(format!("{family}.{key} was deleted and not there"));
            }
        }
        Ok(())
    }
}
