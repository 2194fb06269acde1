//! The phases of one connection: dialled or accepted, greeted, proven, in use, closed.

use super::claims::{Claim, Claims};
use super::link::{Link, UNANSWERED};
use super::{Mesh, MeshOutput, is_ours};
use crate::kernel::effect::{AuthOrder, ConnId};
use crate::value::{NodeId, Str};
use std::sync::Arc;
use std::time::Duration;

const OURSELVES: &str = "this is ourselves";
const ECHO: &str = "what we send comes back: that is no node";
const DUPLICATE: &str = "another connection to this node is in use";

/// A peer's greeting, before anything of it is proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerGreeting {
    /// The node ID that it claims.
    pub node: NodeId,
    /// The value of `provider`.
    pub provider: Str,
    /// The value of `instance`; empty if the greeting has none.
    pub instance: Str,
    /// Whether it announces support of the request `g_get`.
    pub knows_get: bool,
}

impl PeerGreeting {
    /// A greeting with no more than Perl nodes send.
    pub fn new(node: NodeId, provider: Str) -> Self {
        PeerGreeting { node, provider, instance: Str::default(), knows_get: false }
    }
}

/// What the handshake has proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authenticated {
    /// Whether the peer has no certificate that we trust (`tls_anon`).
    pub untrusted: bool,
}

#[derive(Debug)]
pub(super) struct Conn {
    /// Why this node dialled; `None` if the peer did.
    pub(super) goal: Option<DialReason>,
    /// The greeting that this node sent.
    greeting: Option<Arc<[u8]>>,
    pub(super) phase: Phase,
}

/// Why this node dialled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum DialReason {
    Seed(usize),
    Node(NodeId),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Phase {
    /// Connecting, or waiting for the greeting.
    Opening,
    Greeted {
        greeting: PeerGreeting,
        /// The number of greetings before this one.
        order: u64,
        step: Step,
    },
    Up {
        node: NodeId,
    },
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Our authentication line is held back.
    Held { since: Duration },
    /// The peer has to authenticate first.
    AwaitsPeer,
    /// The peer has to authenticate, only to prove that a seed's address leads to it. The node is up by
    /// another connection, so this one is closed then.
    AwaitsProof,
    /// The peer has authenticated; our authentication line is held back.
    Proven,
    /// Our authentication line was sent. Others wait for this connection until `patience`.
    Sent { patience: Duration },
}

impl Mesh {
    /// Connects to an address.
    pub(super) fn dial(&mut self, goal: DialReason, address: Str) -> ConnId {
        let conn = self.new_conn(Some(goal));
        self.outputs.push(MeshOutput::Dial { conn, address });
        conn
    }

    fn new_conn(&mut self, goal: Option<DialReason>) -> ConnId {
        self.next_conn += 1;
        let id = ConnId(self.next_conn);
        self.conns.insert(id, Conn { goal, greeting: None, phase: Phase::Opening });
        id
    }

    /// A connection was accepted.
    pub(in crate::kernel) fn accepted(&mut self) -> ConnId {
        self.new_conn(None)
    }

    /// The two greeting lines that this node sends on a connection.
    pub(in crate::kernel) fn greeting_sent(&mut self, conn: ConnId, lines: &[u8]) {
        if let Some(Conn { greeting, .. }) = self.conns.get_mut(&conn) {
            let lines: Arc<[u8]> = lines.into();
            *greeting = Some(lines.clone());
            self.by_own_greeting.insert(lines, conn);
        }
    }

    /// A peer has sent its greeting; nothing of it is proven.
    ///
    /// The answer is a [`MeshOutput::Proceed`] or [`MeshOutput::Close`], at once or later.
    pub(in crate::kernel) fn greeted(&mut self, id: ConnId, greeting: PeerGreeting, now: Duration) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        if conn.phase != Phase::Opening {
            return;
        }
        let (order, step) = (self.greetings, Step::Held { since: now });
        self.greetings += 1;
        conn.phase = Phase::Greeted { greeting: greeting.clone(), order, step };
        let claim = Claim { order, conn: id, dialled: conn.goal.is_some() };
        match conn.goal.clone() {
            // Perl nodes close a second connection before they prove anything.
            Some(DialReason::Seed(index))
                if self.link(&greeting.node).is_some_and(|link| !is_ours(&link.peer.provider)) =>
            {
                self.seed_is_claimed(index, &greeting.node);
            }
            Some(DialReason::Node(sought)) if sought != greeting.node => {
                let why = format!("that is {}", greeting.node);
                self.dial_ended(id, &DialReason::Node(sought), &why, now);
            }
            _ => {}
        }
        let claims = self.greeted.entry(greeting.node.clone()).or_default();
        claims.insert(claim, step);
        self.arbitrate(&greeting.node, now);
    }

    /// A peer has sent a greeting with our own node ID. Returns why the connection ends, unless the peer
    /// is another node.
    ///
    /// The peer is this node itself if its two lines are ones that this node sent on another connection,
    /// one of the two connections was dialled and the other accepted. In that case a dialled seed is
    /// this node, which becomes global. A greeting that comes back on the connection on which it was
    /// sent is an echo, and proves nothing.
    pub(in crate::kernel) fn greeted_with_own_id(
        &mut self,
        id: ConnId,
        lines: &[u8],
        now: Duration,
    ) -> Option<&'static str> {
        let conn = self.conns.get(&id)?;
        if conn.phase == Phase::Closed {
            // The other end of the connection has found this out first.
            return Some(OURSELVES);
        }
        if conn.greeting.as_deref() == Some(lines) {
            self.close(id, ECHO, now);
            return Some(ECHO);
        }
        let twin = *self.by_own_greeting.get(lines)?;
        if self.conns.get(&twin)?.goal.is_some() == conn.goal.is_some() {
            return None;
        }
        for id in [id, twin] {
            let goal = self.conns.get(&id).and_then(|conn| conn.goal.clone());
            self.close(id, OURSELVES, now);
            if let Some(DialReason::Seed(index)) = goal {
                self.seed_is_ourselves(index, now);
            }
        }
        Some(OURSELVES)
    }

    /// The peer's authentication line was verified, and ours is still held back.
    pub(in crate::kernel) fn verified(&mut self, id: ConnId, now: Duration) {
        let Some(Conn { phase: Phase::Greeted { greeting, .. }, goal, .. }) = self.conns.get(&id)
        else {
            return;
        };
        let (node, goal) = (greeting.node.clone(), goal.clone());
        self.set_step(id, Step::Proven);
        if self.is_up(&node) && !self.is_in_doubt(&node) {
            if let Some(DialReason::Seed(index)) = goal {
                self.learn_seed(index, &node);
            }
            self.probe(&node, now);
        } else {
            self.take_over(id, &node, now);
        }
    }

    /// Both sides have authenticated: the connection carries packets from now on.
    pub(in crate::kernel) fn established(
        &mut self,
        id: ConnId,
        how: &Authenticated,
        now: Duration,
    ) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        let Phase::Greeted { greeting, .. } = &conn.phase else {
            return;
        };
        let greeting = greeting.clone();
        let node = greeting.node.clone();
        if self.is_in_doubt(&node) {
            // The loss of the old connection has to be handled completely before the new one comes up.
            self.replacement = Some((id, how.clone()));
            return self.disconnect(&node, UNANSWERED, now);
        }
        if self.is_up(&node) {
            return self.close(id, "already connected", now);
        }
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        let goal = conn.goal.clone();
        let phase = std::mem::replace(&mut conn.phase, Phase::Up { node: node.clone() });
        self.forget_claim(id, &phase, goal.is_some());
        self.settle_duplicates(&greeting, false, now);
        if let Some(DialReason::Seed(index)) = goal {
            self.learn_seed(index, &node);
        }
        self.linked(Link::new(id, greeting, how.untrusted, now), now);
        if self.greeted.contains_key(&node) {
            // Connections that wait for our line get it when the node has shown that it uses this
            // connection.
            self.probe(&node, now);
        }
    }

    /// Closes all other connections to a node that is up, as `peer`. Connections of the same run of that
    /// node are first used to prove where a seed's address leads: the node that dialled them waits for
    /// our authentication line, and closes them then.
    ///
    /// They get our line only when the node `has_answered` on the connection that it has. Before, it
    /// might take one of them for the connection that both sides use, and lose what it sends there.
    /// Another run, which may be another live node with the same ID, would take our line for success.
    pub(super) fn settle_duplicates(
        &mut self,
        peer: &PeerGreeting,
        has_answered: bool,
        now: Duration,
    ) {
        let node = &peer.node;
        let mut shown = None;
        for id in self.claims(node, Claims::all) {
            let Some(Conn { goal, phase: Phase::Greeted { greeting, step, .. }, .. }) =
                self.conns.get(&id)
            else {
                continue;
            };
            let is_held = matches!(step, Step::Held { .. });
            let is_incoming = goal.is_none();
            let ours = is_ours(&greeting.provider);
            let may_be_shown = ours && greeting.instance == peer.instance;
            let proves_seed = match goal {
                Some(DialReason::Seed(index)) => may_be_shown && !self.seeds.leads_to(*index, node),
                _ => false,
            };
            let is_awaited = proves_seed && matches!(step, Step::AwaitsPeer | Step::AwaitsProof);
            if is_incoming && is_held && ours && !has_answered {
                continue;
            }
            if is_incoming && is_held {
                self.refused_in_the_name_of(node);
            }
            if proves_seed && is_held {
                self.set_step(id, Step::AwaitsProof);
                self.outputs.push(MeshOutput::Proceed { conn: id, order: AuthOrder::AfterPeer });
            } else if is_incoming && is_held && may_be_shown && shown.is_none() {
                shown = Some(id);
            } else if !is_awaited {
                self.close(id, DUPLICATE, now);
            }
        }
        // This comes last, as only one connection at a time may have our line without the peer's.
        if let Some(id) = shown {
            self.authenticate(id, node, now);
        }
    }

    /// A connection has ended, or a dial has failed.
    pub(in crate::kernel) fn closed(&mut self, id: ConnId, why: &str, now: Duration) {
        let Some(mut conn) = self.conns.remove(&id) else {
            return;
        };
        self.forget_own_greeting(conn.greeting.take());
        match &conn.phase {
            Phase::Up { node } => {
                if self.link(node).is_some_and(|link| link.conn == id) {
                    self.lost(&node.clone(), why, now);
                }
            }
            Phase::Greeted { greeting, .. } => {
                self.claim_ended(id, &conn.phase, conn.goal.is_some(), now);
                self.arbitrate_again(&greeting.node, now);
            }
            Phase::Opening | Phase::Closed => {}
        }
        if let Some(goal) = conn.goal {
            self.dial_ended(id, &goal, why, now);
        }
    }

    fn forget_own_greeting(&mut self, greeting: Option<Arc<[u8]>>) {
        if let Some(greeting) = greeting {
            self.by_own_greeting.remove(&greeting);
        }
    }

    /// A connection in this phase no longer claims to lead to a node. Returns the node if this was the
    /// last such connection.
    fn forget_claim<'a>(
        &mut self,
        conn: ConnId,
        phase: &'a Phase,
        dialled: bool,
    ) -> Option<&'a NodeId> {
        let Phase::Greeted { greeting, order, step } = phase else { return None };
        let claims = self.greeted.get_mut(&greeting.node)?;
        claims.remove(Claim { order: *order, conn, dialled }, *step);
        if !claims.is_empty() {
            return None;
        }
        self.greeted.remove(&greeting.node);
        Some(&greeting.node)
    }

    /// As [`Mesh::forget_claim`], when the connection has ended: others may be dialled in its place.
    fn claim_ended(&mut self, conn: ConnId, phase: &Phase, dialled: bool, now: Duration) {
        if let Some(node) = self.forget_claim(conn, phase, dialled) {
            self.advance_attempt(node, now);
        }
    }

    fn dial_ended(&mut self, id: ConnId, goal: &DialReason, why: &str, now: Duration) {
        match goal {
            DialReason::Seed(index) => self.seed_dial_ended(*index, id, why, now),
            DialReason::Node(node) => self.attempt_dial_ended(node, id, why, now),
        }
    }

    /// Closes a connection; a call of [`Mesh::closed`] may follow.
    pub(super) fn close(&mut self, id: ConnId, why: &str, now: Duration) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        let phase = std::mem::replace(&mut conn.phase, Phase::Closed);
        let (greeting, dialled) = (conn.greeting.take(), conn.goal.is_some());
        self.forget_own_greeting(greeting);
        self.outputs.push(MeshOutput::Close { conn: id, reason: why.to_owned() });
        self.claim_ended(id, &phase, dialled, now);
    }
}
