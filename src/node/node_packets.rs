//! Packets for the kernel that were read together: they are handled under one lock, and what they
//! make happen is carried out together as far as nobody can tell.

use super::core::{LockedCore, MOST_EFFECTS_KEPT, Shared};
use super::delivery::Pressure;
use super::port::run_queue;
use crate::kernel::{Effect, LARGE_PACKET, LargePacket, NextPiece, port_named_by};
use crate::value::packed::{self, Elements};
use crate::value::{NodeId, Packed, PortId};
use std::sync::Arc;

/// Packets that are handled each time the kernel's lock is taken, so that other threads get it in
/// between.
const PACKETS_PER_LOCK: usize = 64;

/// Octets, received or sent, that count as another packet.
const OCTETS_LIKE_A_PACKET: usize = 1 << 10;

/// Packets for the kernel that were read together; see [`Shared::node_packets`].
pub(crate) struct NodePackets<'a> {
    shared: &'a Arc<Shared>,
    core: Option<LockedCore<'a>>,
    left: usize,
    /// How many effects wait to be carried out.
    waiting: usize,
}

/// How the kernel's lock is given back.
enum Lock {
    Released,
    /// To whoever waits for it, so that a peer whose packet has many pieces does not keep it.
    HandedOver,
}

impl<'a> NodePackets<'a> {
    pub(crate) const fn shared(&self) -> &'a Arc<Shared> {
        self.shared
    }

    /// The next packet. User code that is to run because of it has run when this returns; tasks
    /// that wait for what it brings are woken by [`NodePackets::settle`] at the latest.
    pub(crate) fn push(&mut self, from: &NodeId, message: Elements<'_>) {
        if message.octets().len() > LARGE_PACKET {
            return self.push_large(from, message);
        }
        let core = self.core.get_or_insert_with(|| self.shared.lock());
        self.shared.tell_of_port_named_by(&mut core.kernel, message);
        core.kernel.node_packet(from, message);
        let pending = core.kernel.pending_effects();
        let new = pending.get(self.waiting..).unwrap_or_default();
        self.waiting = pending.len();
        let octets = message.octets().len() + new.iter().map(octets_sent).sum::<usize>();
        self.left = self.left.saturating_sub(1 + octets / OCTETS_LIKE_A_PACKET);
        if self.left > 0 && self.waiting < MOST_EFFECTS_KEPT && new.iter().all(can_wait) {
            return;
        }
        self.shared.carry_out(core);
        self.waiting = 0;
        // What the next packet makes happen must not come before functions that this one calls.
        if self.left == 0 || run_queue::jobs_wait() {
            self.settle();
        }
    }

    /// The next packet, of which each piece has the lock for itself.
    #[inline(never)]
    fn push_large(&mut self, from: &NodeId, message: Elements<'_>) {
        self.settle();
        let shared = self.shared;
        let mut named = port_named_by(&shared.id, message);
        let mut packet = LargePacket::new(from, message);
        loop {
            match packet.prepare() {
                NextPiece::Done => return,
                NextPiece::Send { to, message } => shared.send_on(&to, &message),
                NextPiece::Kernel => {
                    let mut core = shared.lock();
                    if let Some(name) = named.take() {
                        shared.tell_of_reply_port(&mut core.kernel, name.as_ref());
                    }
                    packet.work(&mut core.kernel);
                    self.finish(core, Lock::HandedOver);
                }
            }
        }
    }

    /// Gives the lock back and runs what is due: before anything else of the same peer is handled.
    #[inline]
    pub(crate) fn settle(&mut self) {
        if let Some(core) = self.core.take() {
            self.finish(core, Lock::Released);
        }
    }

    #[inline(never)]
    fn finish(&mut self, mut core: LockedCore<'_>, lock: Lock) {
        self.shared.carry_out(&mut core);
        self.waiting = 0;
        self.shared.set_alarm(&mut core);
        self.left = PACKETS_PER_LOCK;
        match lock {
            Lock::Released => drop(core),
            Lock::HandedOver => core.hand_over(),
        }
    }
}

impl Drop for NodePackets<'_> {
    fn drop(&mut self) {
        self.settle();
    }
}

impl Shared {
    /// Sends a message that a peer asked this node to send.
    fn send_on(self: &Arc<Self>, to: &PortId, message: &Packed) {
        if to.node() == self.id {
            return self.deliver(to.port(), &self.id, message.as_elements());
        }
        let mut octets = Vec::with_capacity(message.as_elements().octets().len() + 64);
        packed::put_str(&mut octets, to.port());
        octets.extend_from_slice(message.as_elements().octets());
        let packet = Elements::new(message.len() + 1, &octets);
        self.trace_sent(to.node_str(), packet);
        if let Err(error) = self.send_remote(to, None, packet, Pressure::Ignored) {
            tracing::error!(node = %self.id, "message to {} not sent: {error}", to.node());
        }
    }

    /// For packets to the node port that come one behind the other: the lock is taken once.
    pub(crate) fn node_packets(self: &Arc<Self>) -> NodePackets<'_> {
        NodePackets { shared: self, core: None, left: PACKETS_PER_LOCK, waiting: 0 }
    }
}

/// How much is sent to one node by an effect.
const fn octets_sent(effect: &Effect) -> usize {
    match effect {
        Effect::Send { packet, .. } | Effect::SendAll { packet, .. } => packet.octets_len(),
        _ => 0,
    }
}

/// Whether an effect may be carried out after the next packet was handled, as long as the lock is
/// held: nobody can tell the difference.
const fn can_wait(effect: &Effect) -> bool {
    matches!(
        effect,
        Effect::Send { .. }
            | Effect::SendAll { .. }
            | Effect::Changed { .. }
            | Effect::Answer { .. }
            | Effect::Log { .. }
    )
}
