//! The connection that a node that is up has: its beginning, the doubt in it, its end.

use super::{Mesh, MeshOutput, MeshTimer};
use crate::kernel::effect::ConnId;
use crate::kernel::random::Random;
use crate::mutation::{self, Mutation};
use crate::value::{NodeId, Str};
use std::time::Duration;

/// Why a connection that is in doubt is given up.
pub(super) const UNANSWERED: &str = "no answer while a new connection of this node waits";

/// The connection of a node that is up.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) conn: ConnId,
    pub(super) provider: Str,
    pub(super) untrusted: bool,
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

impl Mesh {
    /// A node has got a connection: it is up.
    pub(super) fn linked(&mut self, node: &NodeId, link: Link, now: Duration) {
        let Link { conn, untrusted, .. } = link;
        let (node, provider) = (node.clone(), link.provider.clone());
        self.remote(&node).link = Some(link);
        self.end_attempt(&node, Some(conn), "connected by another address", now);
        self.outputs.push(MeshOutput::Up { node, conn, provider, untrusted });
    }

    pub(super) fn is_in_doubt(&self, node: &NodeId) -> bool {
        self.link(node).is_some_and(|link| link.in_doubt)
    }

    /// Ends the connection of a node that is up, or the search for one.
    pub(in crate::kernel) fn disconnect(&mut self, node: &NodeId, why: &str, now: Duration) {
        if let Some(conn) = self.link(node).map(|link| link.conn) {
            self.close(conn, why, now);
            self.lost(node, why);
        } else {
            self.give_up(node, why, now);
        }
    }

    /// The connection of a node that was up is gone.
    pub(super) fn lost(&mut self, node: &NodeId, why: &str) {
        if self.remotes.get_mut(node).and_then(|remote| remote.link.take()).is_some() {
            self.outputs.push(MeshOutput::Down { node: node.clone(), why: why.to_owned() });
        }
    }

    /// Everybody was told of a [`MeshOutput::Down`]: the node may be connected again.
    pub(in crate::kernel) fn loss_was_told(
        &mut self,
        node: &NodeId,
        now: Duration,
        random: &mut Random,
    ) {
        if self.is_seed(node) && !mutation::is_on(Mutation::ForgetLostSeeds) {
            self.retry_seeds(now, random);
        }
        if self.keepalive.contains(node) && !mutation::is_on(Mutation::ForgetLostGlobals) {
            self.retry_keepalive(now, random);
        }
        self.arbitrate_again(node, now);
        self.forget_if_unused(node);
        if let Some((id, how)) = self.replacement.take() {
            self.established(id, &how, now);
        }
    }

    /// Asks a node that seems to be up whether it still is, because a new connection claims to
    /// come from it.
    pub(super) fn probe(&mut self, node: &NodeId, now: Duration) {
        if mutation::is_on(Mutation::ReplaceConnectionsUnasked) {
            return self.disconnect(node, "another connection", now);
        }
        let deadline = now + self.connect_interval;
        let number = self.next_probe + 1;
        let Some(link) = self.link_mut(node) else {
            return;
        };
        if link.probe.is_some() {
            return;
        }
        link.probe = Some(number);
        self.next_probe = number;
        self.wake(deadline, MeshTimer::ProbeOver(node.clone(), number));
        if mutation::is_on(Mutation::RefuseConnectionsUnasked) {
            return self.probe_answered(node, number, now);
        }
        self.outputs.push(MeshOutput::Probe { node: node.clone(), number });
    }

    /// The echo of a [`MeshOutput::Probe`] has come back.
    pub(in crate::kernel) fn probe_answered(&mut self, node: &NodeId, number: u64, now: Duration) {
        let Some(link) = self.link_mut(node) else {
            return;
        };
        if link.probe == Some(number) {
            link.probe = None;
            link.in_doubt = false;
            for id in self.greeted.get(node).cloned().unwrap_or_default() {
                self.close(id, "already connected", now);
            }
        }
    }

    pub(super) fn probe_over(&mut self, node: &NodeId, number: u64, now: Duration) {
        if let Some(link) = self.link_mut(node).filter(|link| link.probe == Some(number)) {
            // Whoever greeted with this node ID may be anybody, and the node just slow.
            link.in_doubt = true;
            self.arbitrate(node, now);
        }
    }
}
