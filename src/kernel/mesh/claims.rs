//! The connections that claim to lead to one node and are not up yet, by phase.
//!
//! Anybody can claim to be any node, on thousands of connections. Decisions look only at the connections
//! that matter, so the cost of each connection does not depend on their number.

use super::connection::Step;
use crate::kernel::effect::ConnId;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::time::Duration;

/// A connection's position in the order of greetings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Claim {
    /// The number of greetings before this one.
    pub(super) order: u64,
    pub(super) conn: ConnId,
    /// Whether this node dialled it.
    pub(super) dialled: bool,
}

#[derive(Debug, Default)]
pub(super) struct Claims {
    all: BTreeSet<Claim>,
    held: BTreeSet<Claim>,
    /// The held-back connections that this node dialled.
    held_dialled: BTreeSet<Claim>,
    awaiting_proof: BTreeSet<Claim>,
    proven: BTreeSet<Claim>,
    /// The connections that have our authentication line, by the time until which others wait for them.
    sent: BTreeSet<(Duration, Claim)>,
}

impl Claims {
    pub(super) fn insert(&mut self, claim: Claim, step: Step) {
        self.all.insert(claim);
        match step {
            Step::Held { .. } => {
                self.held.insert(claim);
                if claim.dialled {
                    self.held_dialled.insert(claim);
                }
            }
            Step::AwaitsPeer => {}
            Step::AwaitsProof => {
                self.awaiting_proof.insert(claim);
            }
            Step::Proven => {
                self.proven.insert(claim);
            }
            Step::Sent { patience } => {
                self.sent.insert((patience, claim));
            }
        }
    }

    pub(super) fn remove(&mut self, claim: Claim, step: Step) {
        self.all.remove(&claim);
        match step {
            Step::Held { .. } => {
                self.held.remove(&claim);
                self.held_dialled.remove(&claim);
            }
            Step::AwaitsPeer => {}
            Step::AwaitsProof => {
                self.awaiting_proof.remove(&claim);
            }
            Step::Proven => {
                self.proven.remove(&claim);
            }
            Step::Sent { patience } => {
                self.sent.remove(&(patience, claim));
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// All connections, in the order of their greetings.
    pub(super) fn all(&self) -> Vec<ConnId> {
        conns(&self.all)
    }

    /// Whether there is a connection other than this one.
    pub(super) fn has_other(&self, conn: ConnId) -> bool {
        self.all.iter().any(|other| other.conn != conn)
    }

    /// The connections whose authentication line is held back.
    pub(super) fn held(&self) -> Vec<ConnId> {
        conns(&self.held)
    }

    pub(super) fn first_held(&self) -> Option<ConnId> {
        self.held.first().map(|claim| claim.conn)
    }

    pub(super) fn first_held_and_dialled(&self) -> Option<ConnId> {
        self.held_dialled.first().map(|claim| claim.conn)
    }

    pub(super) fn first_proven(&self) -> Option<Claim> {
        self.proven.first().copied()
    }

    pub(super) fn awaiting_proof(&self) -> Vec<ConnId> {
        conns(&self.awaiting_proof)
    }

    /// The connections that have our authentication line and for which others no longer wait.
    pub(super) fn overdue(&self, now: Duration) -> Vec<ConnId> {
        let overdue = self.sent.iter().take_while(|(patience, _)| *patience <= now);
        overdue.map(|(_, claim)| claim.conn).collect()
    }

    /// The first connection that has our authentication line and for which others wait.
    pub(super) fn first_awaited(&self, now: Duration) -> Option<Claim> {
        // Only one connection, unless its node was in doubt in between.
        let last = Claim { order: u64::MAX, conn: ConnId(u64::MAX), dialled: true };
        let awaited = self.sent.range((Bound::Excluded((now, last)), Bound::Unbounded));
        awaited.map(|(_, claim)| *claim).min()
    }
}

fn conns(claims: &BTreeSet<Claim>) -> Vec<ConnId> {
    claims.iter().map(|claim| claim.conn).collect()
}
