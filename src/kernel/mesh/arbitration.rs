//! Arbitration between several connections to one node.

use super::claims::{Claim, Claims};
use super::connection::{Conn, Phase, Step};
use super::link::UNANSWERED;
use super::{Mesh, MeshOutput, MeshTimer};
use crate::kernel::effect::{AuthOrder, ConnId};
use crate::mutation::{self, Mutation};
use crate::value::{NodeId, Str};
use crate::wire::greeting::PROVIDER_PREFIX;
use std::time::Duration;

/// Up to this many connections that claim to be the same node get the full time to prove it, since a
/// node may dial several addresses at once; with more of them each gets less.
const CLAIMS_WITH_FULL_TIMEOUT: usize = 4;

impl Mesh {
    /// Decides which of the greeted connections to `node` may continue.
    ///
    /// At most one connection has our authentication line without the peer's. Between nodes of this
    /// implementation the one with the smaller ID decides, and prefers the connection that it has
    /// dialled; the other node answers on whichever connection is chosen. With other peers the first
    /// connection continues.
    pub(super) fn arbitrate(&mut self, node: &NodeId, now: Duration) {
        if self.is_up(node) && !self.is_in_doubt(node) {
            return self.probe(node, now);
        }
        let Some(claims) = self.greeted.get(node) else { return };
        self.looked_at += 1;
        let awaited = claims.first_awaited(now);
        let awaited = awaited.filter(|_| !mutation::is_on(Mutation::AuthenticateAllAtOnce));
        let proven = claims.first_proven();
        if let Some(proven) = proven.filter(|proven| awaited.is_none_or(|other| *proven < other)) {
            return self.take_over(proven.conn, node, now);
        }
        let Some(first) = claims.first_held().filter(|_| awaited.is_none()) else { return };
        let dialled = claims.first_held_and_dialled();
        let Some(Conn {
            phase: Phase::Greeted { greeting, step: Step::Held { since }, .. }, ..
        }) = self.conns.get(&first)
        else {
            return;
        };
        if !is_ours(&greeting.provider) {
            self.authenticate(first, node, now);
        } else if self.own < *node {
            // Our own dial may fail, so the peer's connection waits for it only this long.
            let patience = *since + self.connect_interval;
            if let Some(dialled) = dialled {
                self.authenticate(dialled, node, now);
            } else if now < patience && self.is_dialling(node) {
                self.wake(patience, MeshTimer::Arbitrate(node.clone()));
            } else {
                self.authenticate(first, node, now);
            }
        } else {
            for id in self.claims(node, Claims::held) {
                self.set_step(id, Step::AwaitsPeer);
                self.outputs.push(MeshOutput::Proceed { conn: id, order: AuthOrder::AfterPeer });
            }
        }
    }

    /// Some of the connections that claim to lead to `node`, to be checked one by one.
    pub(super) fn claims(
        &mut self,
        node: &NodeId,
        which: impl FnOnce(&Claims) -> Vec<ConnId>,
    ) -> Vec<ConnId> {
        let chosen = self.greeted.get(node).map(which).unwrap_or_default();
        self.looked_at += chosen.len() as u64;
        chosen
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
        if let Some(Conn { goal, phase: Phase::Greeted { greeting, order, step }, .. }) =
            self.conns.get_mut(&id)
            && let Some(claims) = self.greeted.get_mut(&greeting.node)
        {
            let claim = Claim { order: *order, conn: id, dialled: goal.is_some() };
            claims.remove(claim, *step);
            claims.insert(claim, new);
            *step = new;
        }
    }

    pub(super) fn authenticate(&mut self, id: ConnId, node: &NodeId, now: Duration) {
        // Anybody can claim to be the node; many such connections must not delay it for long.
        let waiting = self.greeted.get(node).map_or(1, Claims::len);
        let share = CLAIMS_WITH_FULL_TIMEOUT as f64 / waiting.max(CLAIMS_WITH_FULL_TIMEOUT) as f64;
        let patience = now + self.connect_interval.mul_f64(share);
        self.set_step(id, Step::Sent { patience });
        self.wake(patience, MeshTimer::Arbitrate(node.clone()));
        self.outputs.push(MeshOutput::Proceed { conn: id, order: AuthOrder::Now });
    }

    /// As [`Mesh::arbitrate`], when no new connection claims to be the node.
    pub(super) fn arbitrate_again(&mut self, node: &NodeId, now: Duration) {
        if !self.is_up(node) || self.is_in_doubt(node) {
            self.arbitrate(node, now);
        } else {
            for id in self.claims(node, |claims| claims.overdue(now)) {
                self.close(id, "already connected", now);
            }
        }
    }

    /// A connection whose peer has authenticated continues, and replaces one that is in doubt.
    pub(super) fn take_over(&mut self, id: ConnId, node: &NodeId, now: Duration) {
        self.authenticate(id, node, now);
        if self.is_up(node) {
            self.disconnect(node, UNANSWERED, now);
        }
    }
}

/// Whether the peer is of this implementation, which arbitrates in the same way.
pub(in crate::kernel) fn is_ours(provider: &Str) -> bool {
    provider.to_text_lossy().starts_with(PROVIDER_PREFIX)
}
