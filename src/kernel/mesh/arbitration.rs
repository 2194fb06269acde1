//! Which of several connections to one node goes on.

use super::connection::{Conn, Phase, Step};
use super::link::UNANSWERED;
use crate::kernel::effect::{AuthOrder, ConnId, Effect};
use crate::kernel::{Kernel, Task};
use crate::value::{NodeId, Str};

/// How many connections may claim to be the same node before each gets less time to prove it: a
/// node may dial several addresses at once.
const USUAL_CLAIMS: usize = 4;

impl Kernel {
    /// Decides which of the greeted connections to `node` may go on.
    ///
    /// At most one has our authentication line and not the peer's. Between nodes of this
    /// implementation the one with the smaller ID decides, and prefers the connection that it
    /// dialled itself; the other node answers on whichever it is asked. With other peers the first
    /// connection goes on.
    pub(super) fn arbitrate(&mut self, node: &NodeId) {
        if self.is_up(node) && !self.is_in_doubt(node) {
            return self.probe(node);
        }
        let now = self.now.uptime;
        let ids = self.mesh.greeted.get(node).cloned().unwrap_or_default();
        let mut held = Vec::new();
        for &id in &ids {
            let Some(conn) = self.mesh.conns.get(&id) else {
                continue;
            };
            match &conn.phase {
                Phase::Greeted { step: Step::Proven, .. } => return self.take_over(id, node),
                Phase::Greeted { step: Step::Sent { patience }, .. } if now < *patience => return,
                Phase::Greeted { step: Step::Held { since }, provider, .. } => {
                    held.push((id, conn.goal.is_some(), is_ours(provider), *since));
                }
                _ => {}
            }
        }
        let Some(&(first, _, ours, since)) = held.first() else {
            return;
        };
        if !ours {
            return self.authenticate(first, node);
        }
        if self.config.node < *node {
            if let Some(&(dialled, ..)) = held.iter().find(|(_, dialled, ..)| *dialled) {
                self.authenticate(dialled, node);
            } else {
                // Our own dial may lead nowhere: the peer's does not wait for it for long.
                let patience = since + self.config.connect_interval;
                if now < patience && self.is_dialling(node) {
                    self.agenda.add(patience, Task::Arbitrate(node.clone()));
                } else {
                    self.authenticate(first, node);
                }
            }
        } else {
            for (id, ..) in held {
                self.set_step(id, Step::AwaitsPeer);
                self.effects.push(Effect::Proceed { conn: id, order: AuthOrder::AfterPeer });
            }
        }
    }

    /// Whether a connection to `node` that we dialled may still be greeted.
    fn is_dialling(&self, node: &NodeId) -> bool {
        let trial = self.peers.get(node).and_then(|peer| peer.trial.as_ref());
        let dials = trial.into_iter().flat_map(|trial| &trial.dials);
        dials
            .chain(self.mesh.seeds.dials_of(node))
            .any(|id| self.mesh.conns.get(id).is_some_and(|conn| conn.phase == Phase::Opening))
    }

    fn set_step(&mut self, id: ConnId, new: Step) {
        if let Some(Conn { phase: Phase::Greeted { step, .. }, .. }) = self.mesh.conns.get_mut(&id)
        {
            *step = new;
        }
    }

    fn authenticate(&mut self, id: ConnId, node: &NodeId) {
        // Anybody can claim to be the node: many of them shall not keep it waiting for long.
        let waiting = self.mesh.greeted.get(node).map_or(1, Vec::len);
        let share = USUAL_CLAIMS as f64 / waiting.max(USUAL_CLAIMS) as f64;
        let patience = self.now.uptime + self.config.connect_interval.mul_f64(share);
        self.set_step(id, Step::Sent { patience });
        self.agenda.add(patience, Task::Arbitrate(node.clone()));
        self.effects.push(Effect::Proceed { conn: id, order: AuthOrder::Now });
    }

    pub(in crate::kernel) fn arbitrate_again(&mut self, node: &NodeId) {
        if !self.is_up(node) || self.is_in_doubt(node) {
            self.arbitrate(node);
        }
    }

    /// A connection whose peer has authenticated goes on, and replaces one that is in doubt.
    pub(super) fn take_over(&mut self, id: ConnId, node: &NodeId) {
        self.authenticate(id, node);
        if self.is_up(node) {
            self.disconnect(node, UNANSWERED);
        }
    }
}

/// Whether the peer is of this implementation, which arbitrates as we do.
pub(in crate::kernel) fn is_ours(provider: &Str) -> bool {
    provider.to_text_lossy().starts_with("aemp-")
}
