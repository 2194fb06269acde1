//! The monitors that this node has set: their ports, and what each does when it fires.

use super::{Ports, PortsOutput};
use crate::kernel::HashMap;
use crate::kernel::effect::{Builder, MonitorId, PortName, Reason};
use crate::mutation::{self, Mutation};
use crate::value::{NodeId, Packed, PortId, Str};

/// What to do when a monitored port dies.
#[derive(Debug, Clone)]
pub enum OnDeath {
    /// Tell the host by [`Effect::Fire`](crate::kernel::Effect::Fire).
    Host,
    /// Kill a local port with the same reason, unless the reason is empty.
    Link(PortName),
    /// Send a message: these elements, followed by the reason.
    Message {
        /// The receiver.
        to: PortId,
        /// The elements before the reason.
        elements: Packed,
    },
}

/// A monitor that is set.
#[derive(Debug)]
struct Monitor {
    node: NodeId,
    /// Empty for the node itself.
    port: Str,
    on_death: OnDeath,
}

/// All monitors that are set.
#[derive(Debug, Default)]
pub(super) struct Monitors {
    by_id: HashMap<MonitorId, Monitor>,
    last_id: u64,
    /// Monitors of remote ports, in order; the empty name means the node itself.
    remote: HashMap<NodeId, HashMap<Str, Vec<MonitorId>>>,
}

impl Monitors {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// The nodes with monitored ports.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &NodeId> {
        self.remote.keys()
    }

    pub(super) fn sends_message(&self, id: MonitorId) -> bool {
        let monitor = self.by_id.get(&id);
        monitor.is_some_and(|monitor| matches!(monitor.on_death, OnDeath::Message { .. }))
    }

    /// Removes the monitors of all ports of a node and returns them, in order.
    pub(super) fn take_node(&mut self, node: &NodeId) -> Vec<MonitorId> {
        let ports = self.remote.remove(node);
        let mut ids: Vec<MonitorId> =
            ports.into_iter().flatten().flat_map(|(_, ids)| ids).collect();
        ids.sort();
        ids
    }

    fn take_port(&mut self, node: &NodeId, port: &Str) -> Vec<MonitorId> {
        let Some(ports) = self.remote.get_mut(node) else {
            return Vec::new();
        };
        let ids = ports.remove(port).unwrap_or_default();
        if ports.is_empty() {
            self.remote.remove(node);
        }
        ids
    }

    /// Adds a monitor of a remote port; true if it is the first.
    fn add_remote(&mut self, node: &NodeId, port: &Str, id: MonitorId) -> bool {
        let ports = match self.remote.get_mut(node) {
            Some(ports) => ports,
            None => self.remote.entry(node.clone()).or_default(),
        };
        match ports.get_mut(port) {
            Some(ids) => {
                ids.push(id);
                false
            }
            None => {
                ports.insert(port.clone(), vec![id]);
                true
            }
        }
    }

    /// Removes a monitor of a remote port; true if it was the last.
    fn remove_remote(&mut self, node: &NodeId, port: &Str, id: MonitorId) -> bool {
        let Some(ports) = self.remote.get_mut(node) else {
            return false;
        };
        let Some(ids) = ports.get_mut(port) else {
            return false;
        };
        remove_from(ids, id);
        if !ids.is_empty() {
            return false;
        }
        ports.remove(port);
        if ports.is_empty() {
            self.remote.remove(node);
        }
        true
    }
}

impl Ports {
    /// Monitors a port, local or remote; or, with a node's ID, the connection to that node.
    pub(in crate::kernel) fn monitor(&mut self, target: &PortId, on_death: OnDeath) -> MonitorId {
        self.monitors.last_id += 1;
        let id = MonitorId(self.monitors.last_id);
        let (node, port) = (target.node(), target.port().to_owned());
        let monitor = Monitor { node: node.clone(), port: port.clone(), on_death };
        self.monitors.by_id.insert(id, monitor);
        if node != self.own {
            if !self.monitors.add_remote(&node, &port, id) {
                return id;
            }
            self.outputs.push(if port.is_empty() {
                PortsOutput::Connect(node)
            } else {
                let packet = Builder::request("mon1").string(port.as_ref()).build();
                PortsOutput::Send { to: node, packet }
            });
        } else if let Some(local) = self.live.get_mut(&port) {
            local.awaited_by = None;
            local.monitors.push(id);
        } else if !port.is_empty() {
            let reason = self.reason_of_absence(&port, &node);
            self.fire(id, &reason);
            self.kill_dying();
        }
        id
    }

    /// Removes a monitor; no effect if it has fired.
    pub(in crate::kernel) fn unmonitor(&mut self, id: MonitorId) {
        let Some(Monitor { node, port, .. }) = self.monitors.by_id.remove(&id) else {
            return;
        };
        if node == self.own {
            if let Some(port) = self.live.get_mut(&port) {
                remove_from(&mut port.monitors, id);
            }
        } else if self.monitors.remove_remote(&node, &port, id)
            && !port.is_empty()
            && !mutation::is_on(Mutation::KeepRemoteMonitor)
        {
            let packet = Builder::request("mon0").string(port.as_ref()).build();
            self.outputs.push(PortsOutput::Send { to: node, packet });
        }
    }

    /// A port on a peer died.
    pub(in crate::kernel) fn remote_died(&mut self, node: &NodeId, port: &Str, reason: &Reason) {
        for id in self.monitors.take_port(node, port) {
            self.fire(id, reason);
        }
        self.kill_dying();
    }

    /// Fires a monitor and removes it.
    pub(super) fn fire(&mut self, id: MonitorId, reason: &Reason) {
        let Some(monitor) = self.monitors.by_id.remove(&id) else {
            return;
        };
        match monitor.on_death {
            OnDeath::Host => {
                self.outputs.push(PortsOutput::Fire { monitor: id, reason: reason.clone() });
            }
            OnDeath::Link(port) if !reason.is_empty() => self.dying.push((port, reason.clone())),
            OnDeath::Link(_) => {}
            OnDeath::Message { to, elements } => {
                let message = Builder::new()
                    .elements(elements.as_elements())
                    .elements(reason.as_elements())
                    .build();
                self.outputs.push(PortsOutput::SendMessage { to, message });
            }
        }
    }
}

/// IDs are ascending, so the list is sorted.
fn remove_from(ids: &mut Vec<MonitorId>, id: MonitorId) {
    if let Ok(at) = ids.binary_search(&id) {
        ids.remove(at);
    }
}
