//! The connection that a node that is up has: its beginning, the doubt in it, its end.

use crate::kernel::effect::{ConnId, Effect, Level, transport_error};
use crate::kernel::heal::Patient;
use crate::kernel::service::Question;
use crate::kernel::{Kernel, Task};
use crate::value::{NodeId, Str};

/// Why a connection that is in doubt is given up.
pub(super) const UNANSWERED: &str = "no answer while a new connection of this node waits";

/// The connection of a peer that is up.
#[derive(Debug)]
pub(in crate::kernel) struct Link {
    pub(in crate::kernel) conn: ConnId,
    pub(in crate::kernel) provider: Str,
    pub(in crate::kernel) untrusted: bool,
    /// A relayed echo is on its way, because another connection claims to be this node.
    probe: Option<u64>,
    /// No echo came in time: a new connection that proves to be this node's takes over.
    in_doubt: bool,
}

impl Link {
    pub(super) fn new(conn: ConnId, provider: Str, untrusted: bool) -> Self {
        Link { conn, provider, untrusted, probe: None, in_doubt: false }
    }
}

impl Kernel {
    /// A node has got a connection: it is up.
    pub(super) fn linked(&mut self, node: &NodeId, link: Link) {
        let Link { conn, untrusted, .. } = link;
        self.peer(node).link = Some(link);
        self.end_trial(node, Some(conn), "connected by another address");
        self.effects.push(Effect::LaneUp { node: node.clone(), conn });
        self.effects.push(Effect::NodeUp { node: node.clone(), untrusted });
        self.log(Level::Info, format!("{node} is up"));
        self.node_is_up(node);
    }

    pub(super) fn is_in_doubt(&self, node: &NodeId) -> bool {
        self.link(node).is_some_and(|link| link.in_doubt)
    }

    pub(super) fn link(&self, node: &NodeId) -> Option<&Link> {
        self.peers.get(node)?.link.as_ref()
    }

    fn link_mut(&mut self, node: &NodeId) -> Option<&mut Link> {
        self.peers.get_mut(node)?.link.as_mut()
    }

    /// Ends the connection of a node that is up.
    pub fn disconnect(&mut self, node: &NodeId, why: &str) {
        if let Some(conn) = self.link(node).map(|link| link.conn) {
            self.close(conn, why);
            self.lost(node, why);
        } else {
            self.give_up(node, why);
        }
    }

    /// The connection of a node that was up is gone.
    pub(super) fn lost(&mut self, node: &NodeId, why: &str) {
        let Some(peer) = self.peers.get_mut(node) else {
            return;
        };
        if peer.link.take().is_none() {
            return;
        }
        peer.patient = Patient::default();
        let reason = transport_error(node, why);
        self.log(Level::Info, format!("{node} is down: {why}"));
        // First, or ports that die now would be reported to the lost node, by a new connection.
        self.ports.forget_peer(node);
        self.unreachable(node, why);
        self.effects.push(Effect::NodeDown { node: node.clone(), reason });
        self.node_is_down(node);
        if self.mesh.is_seed(node) {
            self.retry_seeds();
        }
        if self.mesh.keepalive.contains(node) {
            self.retry_keepalive();
        }
        self.arbitrate_again(node);
        self.forget_if_unused(node);
    }

    /// Asks a node that seems to be up whether it still is, because a new connection claims to
    /// come from it.
    pub(super) fn probe(&mut self, node: &NodeId) {
        let deadline = self.now.uptime + self.config.connect_interval;
        let number = self.mesh.next_probe + 1;
        let Some(link) = self.link_mut(node) else {
            return;
        };
        if link.probe.is_some() {
            return;
        }
        link.probe = Some(number);
        self.mesh.next_probe = number;
        self.agenda.add(deadline, Task::ProbeOver(node.clone(), number));
        self.ask_echo(node, Question::Probe(number));
    }

    /// The echo of a probe has come back.
    pub(in crate::kernel) fn probe_answered(&mut self, node: &NodeId, number: u64) {
        let Some(link) = self.link_mut(node) else {
            return;
        };
        if link.probe == Some(number) {
            link.probe = None;
            link.in_doubt = false;
            for id in self.mesh.greeted.get(node).cloned().unwrap_or_default() {
                self.close(id, "already connected");
            }
        }
    }

    pub(in crate::kernel) fn probe_over(&mut self, node: &NodeId, number: u64) {
        if let Some(link) = self.link_mut(node).filter(|link| link.probe == Some(number)) {
            // Whoever greeted with this node ID may be anybody, and the node just slow.
            link.in_doubt = true;
            self.arbitrate(node);
        }
    }
}
