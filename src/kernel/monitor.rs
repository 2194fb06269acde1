//! Monitors: who is told when a port dies or its node is lost, and what that makes happen.

use super::Kernel;
use super::effect::{Builder, Effect, Level, PortName, Reason, WatchId, transport_error};
use super::ports::{Monitored, Mourners};
use crate::value::{NodeId, Packed, PortId, Str, StrRef};

/// What happens when a monitored port dies.
#[derive(Debug, Clone)]
pub enum Watcher {
    /// The node is told, by [`Effect::Fire`].
    Host,
    /// A local port dies too, with the same reason, unless that is empty.
    Link(PortName),
    /// A message is sent: these elements and the reason behind them.
    Message {
        /// Where to.
        to: PortId,
        /// The elements before the reason.
        elements: Packed,
    },
}

/// A monitor that is set.
#[derive(Debug)]
pub(super) struct Watch {
    node: NodeId,
    /// Empty for the node itself.
    port: Str,
    watcher: Watcher,
}

impl Kernel {
    /// Monitors a port, local or remote; or, with a node's ID, the connection to that node.
    ///
    /// It fires once, with the reason of the death or loss. What Perl calls `mon`.
    pub fn watch(&mut self, target: &PortId, watcher: Watcher) -> WatchId {
        self.next_watch += 1;
        let id = WatchId(self.next_watch);
        let (node, port) = (target.node(), target.port().to_owned());
        self.watches.insert(id, Watch { node: node.clone(), port: port.clone(), watcher });
        if node != self.config.node {
            self.watch_remote(&node, port, id);
        } else if !port.is_empty() {
            let own = self.config.node.clone();
            let reason = match self.ports.watch(&port, id, &own) {
                Monitored::Yes => return id,
                Monitored::Died(reason) => reason,
                Monitored::NoSuchPort => no_such_port(&own, port.as_ref()),
            };
            self.fire(id, &reason);
        }
        id
    }

    fn watch_remote(&mut self, node: &NodeId, port: Str, id: WatchId) {
        let watches = &mut self.peer(node).watches;
        if let Some(ids) = watches.get_mut(&port) {
            ids.push(id);
            return;
        }
        watches.insert(port.clone(), vec![id]);
        if port.is_empty() {
            self.want_connection(node);
        } else {
            self.send(node, Builder::request("mon1").string(port.as_ref()).build());
        }
    }

    /// Removes a monitor; nothing happens if it has fired.
    pub fn unwatch(&mut self, id: WatchId) {
        let Some(watch) = self.watches.remove(&id) else {
            return;
        };
        let Watch { node, port, .. } = watch;
        if node == self.config.node {
            self.ports.unwatch(&port, id);
            return;
        }
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        let Some(ids) = peer.watches.get_mut(&port) else {
            return;
        };
        // Later monitors have greater IDs.
        if let Ok(at) = ids.binary_search(&id) {
            ids.remove(at);
        }
        if !ids.is_empty() {
            return;
        }
        peer.watches.remove(&port);
        if !port.is_empty() {
            self.send(&node, Builder::request("mon0").string(port.as_ref()).build());
        }
        self.forget_if_unused(&node);
    }

    /// How many monitors of this node are set.
    pub fn watch_count(&self) -> usize {
        self.watches.len()
    }

    /// How many database queries wait for an answer.
    pub fn query_count(&self) -> usize {
        self.db.outstanding().0
    }

    /// Carries out what a monitor is for; it is gone then.
    fn fire(&mut self, id: WatchId, reason: &Reason) {
        let Some(watch) = self.watches.remove(&id) else {
            return;
        };
        match watch.watcher {
            Watcher::Host => self.effects.push(Effect::Fire { watch: id, reason: reason.clone() }),
            Watcher::Link(port) if !reason.is_empty() => self.dying.push((port, reason.clone())),
            Watcher::Link(_) => {}
            Watcher::Message { to, elements } => {
                let message = Builder::new()
                    .elements(elements.as_elements())
                    .elements(reason.as_elements())
                    .build();
                let own = self.config.node.clone();
                self.send_to_port(&to, message, &own);
            }
        }
    }

    /// A port on a peer died.
    pub(super) fn remote_port_died(&mut self, node: &NodeId, port: &Str, reason: &Reason) {
        let ids = self.peers.get_mut(node).and_then(|peer| peer.watches.remove(port));
        for id in ids.unwrap_or_default() {
            self.fire(id, reason);
        }
        self.forget_if_unused(node);
    }

    /// The connection to a node is gone, or could not be made: what waits for it is dropped, and
    /// then all monitors of its ports fire.
    pub(super) fn unreachable(&mut self, node: &NodeId, why: &str) {
        let reason = transport_error(node, why);
        self.effects.push(Effect::LaneDown { node: node.clone() });
        let watches = self.peers.get_mut(node).map(|peer| std::mem::take(&mut peer.watches));
        let mut ids: Vec<WatchId> =
            watches.into_iter().flatten().flat_map(|(_, ids)| ids).collect();
        ids.sort();
        let (messages, others): (Vec<_>, Vec<_>) = ids.into_iter().partition(|id| {
            matches!(self.watches.get(id), Some(Watch { watcher: Watcher::Message { .. }, .. }))
        });
        for id in others {
            self.fire(id, &reason);
        }
        while let Some((port, reason)) = self.dying.pop() {
            self.kill_local(port, reason);
        }
        self.effects.push(Effect::LaneReset { node: node.clone() });
        // A message may go to the lost node itself: it asks for a new connection.
        for id in messages {
            self.fire(id, &reason);
        }
    }

    /// Makes a local port with a name chosen here.
    pub fn open_port(&mut self) -> PortName {
        loop {
            let name = self.new_port_name();
            if self.ports.open(name.clone(), None) {
                return name;
            }
        }
    }

    /// Kills a port, local or remote; what Perl calls `kil`. Killing what is not there does nothing.
    pub fn kill(&mut self, port: &PortId, reason: &Reason) {
        if port.node() == self.config.node {
            self.kill_local(port.port().to_owned(), reason.clone());
        } else {
            let packet =
                Builder::request("kil1").string(port.port()).elements(reason.as_elements()).build();
            self.send(&port.node(), packet);
        }
    }

    /// A port of this node ended normally: whoever monitors it is told. No
    /// [`Effect::PortClosed`] follows; the host knows.
    pub fn port_ended(&mut self, port: &PortName) {
        let reason = Reason::default();
        if let Some(mourners) = self.ports.close(port, &reason) {
            self.mourn(port, &reason, mourners);
        }
    }

    /// Kills a local port, and every port that is linked to it.
    pub(super) fn kill_local(&mut self, port: Str, reason: Reason) {
        self.dying.push((port, reason));
        while let Some((port, reason)) = self.dying.pop() {
            let Some(mourners) = self.ports.close(&port, &reason) else {
                continue;
            };
            if mourners.watches.is_empty() && mourners.peers.is_empty() && !reason.is_empty() {
                self.log(
                    Level::Warn,
                    format!("port {port} died and nobody monitored it: {reason}"),
                );
            }
            self.effects.push(Effect::PortClosed { port: port.clone(), reason: reason.clone() });
            self.mourn(&port, &reason, mourners);
        }
    }

    /// Tells everybody who monitors a port that it died.
    fn mourn(&mut self, port: &PortName, reason: &Reason, mourners: Mourners) {
        for peer in mourners.peers {
            let packet = Builder::request("kil0")
                .string(port.as_ref())
                .elements(reason.as_elements())
                .build();
            self.send(&peer, packet);
        }
        for id in mourners.watches {
            self.fire(id, reason);
        }
    }
}

/// What Perl tells whoever monitors a port that is not there.
pub(super) fn no_such_port(node: &NodeId, port: StrRef<'_>) -> Reason {
    let id = PortId::new(node, port);
    Builder::new()
        .name("no_such_port")
        .name("cannot monitor nonexistent port")
        .string(id.as_str())
        .build()
}
