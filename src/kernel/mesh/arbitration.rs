//! Which of several connections to one node goes on.

use super::connection::{Conn, Phase, Step};
use super::link::UNANSWERED;
use super::{Mesh, MeshOutput, MeshTimer};
use crate::kernel::effect::{AuthOrder, ConnId};
use crate::mutation::{self, Mutation};
use crate::value::{NodeId, Str};
use crate::wire::greeting::OUR_PROVIDERS;
use std::time::Duration;

/// How many connections may claim to be the same node before each gets less time to prove it: a
/// node may dial several addresses at once.
const USUAL_CLAIMS: usize = 4;

impl Mesh {
    /// Decides which of the greeted connections to `node` may go on.
    ///
    /// At most one has our authentication line and not the peer's. Between nodes of this
    /// implementation the one with the smaller ID decides, and prefers the connection that it
    /// dialled itself; the other node answers on whichever it is asked. With other peers the first
    /// connection goes on.
    pub(super) fn arbitrate(&mut self, node: &NodeId, now: Duration) {
        if self.is_up(node) && !self.is_in_doubt(node) {
            return self.probe(node, now);
        }
        let ids = self.greeted.get(node).cloned().unwrap_or_default();
        let mut held = Vec::new();
        for &id in &ids {
            let Some(conn) = self.conns.get(&id) else {
                continue;
            };
            match &conn.phase {
                Phase::Greeted { step: Step::Proven, .. } => return self.take_over(id, node, now),
                Phase::Greeted { step: Step::Sent { patience }, .. }
                    if now < *patience && !mutation::is_on(Mutation::AuthenticateAllAtOnce) =>
                {
                    return;
                }
                Phase::Greeted { step: Step::Held { since }, greeting } => {
                    held.push((id, conn.goal.is_some(), is_ours(&greeting.provider), *since));
                }
                _ => {}
            }
        }
        let Some(&(first, _, ours, since)) = held.first() else {
            return;
        };
        if !ours {
            return self.authenticate(first, node, now);
        }
        if self.own < *node {
            if let Some(&(dialled, ..)) = held.iter().find(|(_, dialled, ..)| *dialled) {
                self.authenticate(dialled, node, now);
            } else {
                // Our own dial may lead nowhere: the peer's does not wait for it for long.
                let patience = since + self.connect_interval;
                if now < patience && self.is_dialling(node) {
                    self.wake(patience, MeshTimer::Arbitrate(node.clone()));
                } else {
                    self.authenticate(first, node, now);
                }
            }
        } else {
            for (id, ..) in held {
                self.set_step(id, Step::AwaitsPeer);
                self.outputs.push(MeshOutput::Proceed { conn: id, order: AuthOrder::AfterPeer });
            }
        }
    }

    /// Whether a connection to `node` that we dialled may still be greeted.
    fn is_dialling(&self, node: &NodeId) -> bool {
        let attempt = self.remotes.get(node).and_then(|remote| remote.attempt.as_ref());
        let dials = attempt.into_iter().flat_map(|attempt| &attempt.dials);
        dials
            .chain(self.seeds.dials_of(node))
            .any(|id| self.conns.get(id).is_some_and(|conn| conn.phase == Phase::Opening))
    }

    pub(super) fn set_step(&mut self, id: ConnId, new: Step) {
        if let Some(Conn { phase: Phase::Greeted { step, .. }, .. }) = self.conns.get_mut(&id) {
            *step = new;
        }
    }

    pub(super) fn authenticate(&mut self, id: ConnId, node: &NodeId, now: Duration) {
        // Anybody can claim to be the node: many of them shall not keep it waiting for long.
        let waiting = self.greeted.get(node).map_or(1, Vec::len);
        let share = USUAL_CLAIMS as f64 / waiting.max(USUAL_CLAIMS) as f64;
        let patience = now + self.connect_interval.mul_f64(share);
        self.set_step(id, Step::Sent { patience });
        self.wake(patience, MeshTimer::Arbitrate(node.clone()));
        self.outputs.push(MeshOutput::Proceed { conn: id, order: AuthOrder::Now });
    }

    /// As [`Mesh::arbitrate`], for when nothing new claims to be the node.
    pub(super) fn arbitrate_again(&mut self, node: &NodeId, now: Duration) {
        if !self.is_up(node) || self.is_in_doubt(node) {
            self.arbitrate(node, now);
        } else {
            let is_over = |step: &Step| matches!(step, Step::Sent { patience } if *patience <= now);
            self.close_greeted(node, "already connected", now, is_over);
        }
    }

    /// A connection whose peer has authenticated goes on, and replaces one that is in doubt.
    pub(super) fn take_over(&mut self, id: ConnId, node: &NodeId, now: Duration) {
        self.authenticate(id, node, now);
        if self.is_up(node) {
            self.disconnect(node, UNANSWERED, now);
        }
    }
}

/// Whether the peer is of this implementation, which arbitrates as we do.
pub(in crate::kernel) fn is_ours(provider: &Str) -> bool {
    provider.to_text_lossy().starts_with(OUR_PROVIDERS)
}
