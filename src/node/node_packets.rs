//! Handles packets for the kernel that were read together under one lock, and carries out their
//! effects together as far as that makes no visible difference.

use super::core::{LockedCore, MAX_KEPT_EFFECTS, Shared};
use super::delivery::Pressure;
use super::long_work::without_keeping_others;
use super::port::run_queue;
use crate::kernel::{
    Effect, LargePacket, Level, NextPiece, Origin, PortName, cut_line, is_large, port_named_by,
};
use crate::value::packed::{self, Elements};
use crate::value::{NodeId, Packed, PortId};
use std::sync::Arc;
use std::time::Duration;

/// Packets handled per acquisition of the kernel's lock, so that other threads get it in between.
const PACKETS_PER_LOCK: usize = 64;

/// The time after which the lock is released although fewer packets were handled: some take long. It is
/// looked at after each [`PACKETS_PER_LOOK`] packets, as that takes time as well.
const TIME_PER_LOCK: Duration = Duration::from_millis(1);

const PACKETS_PER_LOOK: usize = 8;

/// Octets, received or sent, that count as one more packet.
const OCTETS_LIKE_A_PACKET: usize = 1 << 10;

/// Packets for the kernel that were read together; see [`Shared::node_packets`].
pub(crate) struct NodePackets<'a> {
    shared: &'a Arc<Shared>,
    core: Option<LockedCore<'a>>,
    /// How long these packets may occupy the thread before other connections get it.
    turn: Duration,
    /// When the first of these packets was handled, as the node's uptime.
    begun: Option<Duration>,
    turn_is_over: bool,
    left: usize,
    /// Number of effects that have not been carried out yet.
    waiting: usize,
}

/// How the kernel's lock is released.
enum Lock {
    Released,
    /// To a waiting thread, so that a peer with many packets, or one of many pieces, does not monopolise
    /// it.
    HandedOver,
}

impl<'a> NodePackets<'a> {
    pub(crate) const fn shared(&self) -> &'a Arc<Shared> {
        self.shared
    }

    /// Whether the caller should let other connections have the thread before it pushes more packets.
    pub(crate) const fn turn_is_over(&self) -> bool {
        self.turn_is_over
    }

    /// Handles the next packet. User code that runs because of it has run when this returns; tasks
    /// that wait for its results are woken by [`NodePackets::settle`] at the latest.
    pub(crate) fn push(&mut self, from: &NodeId, message: Elements<'_>) {
        if is_large(message) {
            return without_keeping_others(|| self.push_large(from, message));
        }
        let core = match &mut self.core {
            Some(core) => core,
            None => {
                let core = self.shared.lock();
                // To wait for the lock takes time, too.
                let begun = *self.begun.get_or_insert(core.taken_at);
                self.turn_is_over |= core.taken_at.saturating_sub(begun) > self.turn;
                self.core.insert(core)
            }
        };
        self.shared.tell_of_port_named_by(&mut core.kernel, message);
        core.kernel.node_packet(from, message);
        if let Some(rest) = core.kernel.take_unfinished(from) {
            return without_keeping_others(|| self.work_off(None, rest));
        }
        let pending = core.kernel.pending_effects();
        let new = pending.get(self.waiting..).unwrap_or_default();
        self.waiting = pending.len();
        let octets = message.octets().len() + new.iter().map(octets_sent).sum::<usize>();
        self.left = self.left.saturating_sub(1 + octets / OCTETS_LIKE_A_PACKET);
        if self.left.is_multiple_of(PACKETS_PER_LOOK)
            && self.shared.uptime().saturating_sub(core.taken_at) >= TIME_PER_LOCK
        {
            self.left = 0;
        }
        if self.left > 0 && self.waiting < MAX_KEPT_EFFECTS && new.iter().all(can_wait) {
            return;
        }
        self.shared.carry_out(core);
        self.waiting = 0;
        if self.left == 0 {
            let begun = self.begun.unwrap_or(core.taken_at);
            self.turn_is_over |= self.shared.uptime().saturating_sub(begun) >= self.turn;
            self.release(Lock::HandedOver);
        } else if run_queue::jobs_wait() {
            // Effects of the next packet must not come before functions that this one calls.
            self.settle();
        }
    }

    /// Handles a large packet in pieces, taking the lock for each of them.
    #[inline(never)]
    fn push_large(&mut self, from: &NodeId, message: Elements<'_>) {
        let named = port_named_by(&self.shared.id, message);
        self.work_off(named, LargePacket::new(from, message));
    }

    /// Handles what is left of a packet. A port that it names, and that the kernel may not know, is added
    /// first.
    #[inline(never)]
    fn work_off(&mut self, mut named: Option<PortName>, mut packet: LargePacket) {
        self.settle();
        self.turn_is_over = true;
        let shared = self.shared;
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

    /// Releases the lock and runs what is due; required before anything else from the same peer is
    /// handled.
    #[inline]
    pub(crate) fn settle(&mut self) {
        self.release(Lock::Released);
    }

    #[inline]
    fn release(&mut self, lock: Lock) {
        if let Some(core) = self.core.take() {
            self.finish(core, lock);
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
            let (node, origin) = (to.node(), Origin::Requests);
            let text = cut_line(format_args!("message to {node} not sent: {error}"));
            self.kernel(|kernel| {
                kernel.log_of_peer(&node, origin, Level::Error, text);
            });
        }
    }

    /// For consecutive packets to the node port, which may occupy the thread for about `turn`: the lock
    /// is taken once for many of them.
    pub(crate) fn node_packets(self: &Arc<Self>, turn: Duration) -> NodePackets<'_> {
        NodePackets {
            shared: self,
            core: None,
            turn,
            begun: None,
            turn_is_over: false,
            left: PACKETS_PER_LOCK,
            waiting: 0,
        }
    }
}

/// Octets that an effect sends to one node.
const fn octets_sent(effect: &Effect) -> usize {
    match effect {
        Effect::Send { packet, .. } | Effect::SendAll { packet, .. } => packet.octets_len(),
        _ => 0,
    }
}

/// Whether an effect may be carried out after the next packet was handled, while the lock is held,
/// without a visible difference.
const fn can_wait(effect: &Effect) -> bool {
    matches!(
        effect,
        Effect::Send { .. }
            | Effect::SendAll { .. }
            | Effect::SendLater { .. }
            | Effect::Changed { .. }
            | Effect::Answer { .. }
            | Effect::Log { .. }
    )
}
