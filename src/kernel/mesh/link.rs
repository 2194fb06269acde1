//! The connection of a node that is up: its beginning, checks whether it is alive, its end.

use super::claims::Claims;
use super::connection::{Conn, PeerGreeting, Phase};
use super::{Mesh, MeshOutput, MeshTimer};
use crate::kernel::effect::{ConnId, Level};
use crate::kernel::lines::MeshLine;
use crate::kernel::random::Random;
use crate::mutation::{self, Mutation};
use crate::value::NodeId;
use std::time::Duration;

/// The reason with which a connection in doubt is closed.
pub(super) const UNANSWERED: &str = "no answer while a new connection of this node waits";

/// How often a probed connection is checked in each `connect_interval`.
const CHECKS_PER_INTERVAL: u32 = 4;

/// The state of a connection, as its socket reports it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pulse {
    /// Octets received from the peer.
    pub received: u64,
    /// Octets acknowledged by the peer's system.
    pub acknowledged: u64,
    /// Whether it has acknowledged the whole packet of [`Effect::Probe`](crate::kernel::Effect::Probe).
    pub probe_arrived: bool,
}

/// A check whether a node is alive, because another connection claims to be this node.
#[derive(Debug)]
struct Probe {
    number: u64,
    /// The state of the connection when the probe was sent, and at the last check.
    looks: Option<(Pulse, Pulse)>,
    silent_since: Duration,
}

/// The connection of a node that is up.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) conn: ConnId,
    /// The proven greeting of its node on this connection.
    pub(super) peer: PeerGreeting,
    pub(super) untrusted: bool,
    since: Duration,
    probe: Option<Probe>,
    /// The node has shown no sign of life in time: a new connection that proves to be this node's
    /// replaces this one. Set only while the connection is checked.
    in_doubt: bool,
    /// The number of refused connections with this node's ID since it answered.
    refused: u32,
}

impl Link {
    pub(super) fn new(conn: ConnId, peer: PeerGreeting, untrusted: bool, since: Duration) -> Self {
        Link { conn, peer, untrusted, since, probe: None, in_doubt: false, refused: 0 }
    }
}

impl Mesh {
    /// A node is up by this connection.
    pub(super) fn linked(&mut self, link: Link, now: Duration) {
        let Link { conn, untrusted, .. } = link;
        let PeerGreeting { node, provider, knows_get, .. } = link.peer.clone();
        self.remote(&node).link = Some(link);
        self.set_seed_error(&node, None);
        self.end_attempt(&node, Some(conn), "connected by another address", now);
        self.outputs.push(MeshOutput::Up { node, conn, provider, untrusted, knows_get });
    }

    pub(super) fn is_in_doubt(&self, node: &NodeId) -> bool {
        self.link(node).is_some_and(|link| link.in_doubt)
    }

    /// Closes the connection of a node that is up, or ends the attempt to connect it.
    pub(in crate::kernel) fn disconnect(&mut self, node: &NodeId, why: &str, now: Duration) {
        if let Some(conn) = self.link(node).map(|link| link.conn) {
            self.close(conn, why, now);
            self.lost(node, why, now);
        } else {
            self.give_up(node, why, now);
        }
    }

    /// The connection of a node that was up has ended.
    pub(super) fn lost(&mut self, node: &NodeId, why: &str, now: Duration) {
        // These connections were to prove something while the node was up; the peer may still take it
        // for up.
        for conn in self.claims(node, Claims::awaiting_proof) {
            self.close(conn, why, now);
        }
        let Some(remote) = self.remotes.get_mut(node) else { return };
        if let Some(link) = remote.link.take() {
            remote.lasted = now.saturating_sub(link.since);
            self.set_seed_error(node, Some(&format!("connection lost: {why}")));
            self.outputs.push(MeshOutput::Down { node: node.clone(), why: why.to_owned() });
        }
    }

    /// A [`MeshOutput::Down`] was handled completely: the node may be connected again.
    pub(in crate::kernel) fn loss_was_told(
        &mut self,
        node: &NodeId,
        now: Duration,
        random: &mut Random,
    ) {
        let pause = self.pause_after_loss(node, now, random);
        if self.is_seed(node) && !mutation::is_on(Mutation::ForgetLostSeeds) {
            match pause {
                None => self.retry_seeds(now, random),
                Some(until) => self.retry_seeds_later(until, now),
            }
        }
        if self.keepalive.contains(node) && !mutation::is_on(Mutation::ForgetLostGlobals) {
            match pause {
                None => self.retry_keepalive(now, random),
                Some(until) => self.retry_keepalive_later(until),
            }
        }
        self.arbitrate_again(node, now);
        self.forget_if_unused(node);
        if let Some((id, how)) = self.replacement.take() {
            self.established(id, &how, now);
        }
    }

    /// Probes a node that seems to be up, because a new connection claims to come from it.
    pub(super) fn probe(&mut self, node: &NodeId, now: Duration) {
        if mutation::is_on(Mutation::ReplaceConnectionsUnasked) {
            return self.disconnect(node, "another connection", now);
        }
        let number = self.next_probe + 1;
        let Some(link) = self.link_mut(node) else {
            return;
        };
        if link.probe.is_some() {
            return;
        }
        let conn = link.conn;
        link.probe = Some(Probe { number, looks: None, silent_since: now });
        self.next_probe = number;
        if mutation::is_on(Mutation::RefuseConnectionsUnasked) {
            return self.probe_answered(node, number, now);
        }
        self.outputs.push(MeshOutput::Probe { node: node.clone(), conn, number });
    }

    /// The state of a probed connection: the answer to a [`MeshOutput::Probe`] or [`MeshOutput::Look`].
    ///
    /// Any octet received since the probe proves that the node is alive, even if its answer is queued
    /// behind others. Until the probe itself was acknowledged, any newly acknowledged octet proves it as
    /// well. A host whose own reader is busy does not report, since silence proves nothing then. The
    /// probe and the doubt end when no other connection claims to be the node any more.
    pub(in crate::kernel) fn pulse(
        &mut self,
        conn: ConnId,
        number: u64,
        pulse: Pulse,
        now: Duration,
    ) {
        let interval = self.connect_interval;
        let Some(Conn { phase: Phase::Up { node }, .. }) = self.conns.get(&conn) else { return };
        let node = node.clone();
        let is_claimed = self.greeted.contains_key(&node);
        let Some(link) = self.link_mut(&node).filter(|link| link.conn == conn) else { return };
        let Some(probe) = link.probe.as_mut().filter(|probe| probe.number == number) else {
            return;
        };
        if !is_claimed {
            // Nothing checks the connection from here on; the next claim starts a new probe.
            link.probe = None;
            link.in_doubt = false;
            return;
        }
        let (first, last) = *probe.looks.get_or_insert((pulse, pulse));
        let progress_counts = !mutation::is_on(Mutation::DoubtWhatProgresses);
        if progress_counts && pulse.received > first.received {
            return self.probe_answered(&node, number, now);
        }
        if progress_counts && pulse.acknowledged > last.acknowledged && !last.probe_arrived {
            probe.silent_since = now;
            link.in_doubt = false;
        }
        probe.looks = Some((first, pulse));
        let patience = probe.silent_since + interval;
        let next_look = now + interval / CHECKS_PER_INTERVAL;
        if now < patience {
            return self.wake(patience.min(next_look), MeshTimer::LookAtProbed(node, number));
        }
        // Anybody can greet with this node ID, and the node may just be slow: octets received before
        // another connection has proven to be its own still end the doubt.
        let is_new = !std::mem::replace(&mut link.in_doubt, true);
        self.wake(next_look, MeshTimer::LookAtProbed(node.clone(), number));
        if is_new {
            self.arbitrate(&node, now);
        }
    }

    /// The time of the next check of a probed connection has come.
    pub(super) fn look_at_probed(&mut self, node: &NodeId, number: u64) {
        if let Some(Link { conn, probe: Some(probe), .. }) = self.link(node)
            && probe.number == number
        {
            let conn = *conn;
            self.outputs.push(MeshOutput::Look { conn, number });
        }
    }

    /// The echo of a [`MeshOutput::Probe`] was received.
    pub(in crate::kernel) fn probe_answered(&mut self, node: &NodeId, number: u64, now: Duration) {
        let Some(link) = self.link_mut(node) else {
            return;
        };
        if link.probe.as_ref().is_some_and(|probe| probe.number == number) {
            link.probe = None;
            link.in_doubt = false;
            let peer = link.peer.clone();
            self.settle_duplicates(&peer, true, now);
        }
    }

    /// Another connection with the ID of a node that is up was refused. One such connection may be the
    /// node's own, by another address of ours; repeated ones indicate another node with the same ID.
    pub(super) fn refused_in_the_name_of(&mut self, node: &NodeId) {
        let Some(link) = self.link_mut(node) else { return };
        link.refused = link.refused.saturating_add(1);
        let count = link.refused;
        if count == 3 || count >= 8 && count.is_power_of_two() {
            self.log(Level::Warn, MeshLine::Refused(node.clone(), count));
        }
    }

    /// Whether a connection other than this one leads, or claims to lead, to the node.
    pub(in crate::kernel) fn is_spare(&self, conn: ConnId, node: &NodeId) -> bool {
        let others = self.greeted.get(node).is_some_and(|claims| claims.has_other(conn));
        others || self.link(node).is_some_and(|link| link.conn != conn)
    }
}
