//! Packets for the kernel that were read together: they are handled under one lock, and what they
//! make happen is carried out together as far as nobody can tell.

use super::core::{Core, Shared};
use super::deferred::{self, Deferred};
use super::effects::MOST_EFFECTS_KEPT;
use crate::kernel::Effect;
use crate::value::NodeId;
use crate::value::packed::Elements;
use parking_lot::MutexGuard;
use std::sync::Arc;

/// So many packets have the kernel before others have it again.
const PACKETS_PER_LOCK: usize = 64;

/// Packets for the kernel that were read together; see [`Shared::node_packets`].
pub(crate) struct NodePackets<'a> {
    shared: &'a Arc<Shared>,
    core: Option<MutexGuard<'a, Core>>,
    later: Vec<Deferred>,
    left: usize,
    /// How many effects wait to be carried out.
    waiting: usize,
}

impl<'a> NodePackets<'a> {
    pub(crate) const fn shared(&self) -> &'a Arc<Shared> {
        self.shared
    }

    /// The next packet. User code that is to run because of it has run when this returns; tasks
    /// that wait for what it brings are woken by [`NodePackets::settle`] at the latest.
    pub(crate) fn push(&mut self, from: &NodeId, message: Elements<'_>) {
        let core = self.core.get_or_insert_with(|| self.shared.lock());
        self.shared.tell_of_port_named_by(&mut core.kernel, message);
        core.kernel.node_packet(from, message);
        self.left -= 1;
        let pending = core.kernel.pending_effects();
        let new = pending.get(self.waiting..).unwrap_or_default();
        self.waiting = pending.len();
        if self.left > 0 && self.waiting < MOST_EFFECTS_KEPT && new.iter().all(can_wait) {
            return;
        }
        let before = self.later.len();
        self.shared.carry_out(core, &mut self.later);
        self.waiting = 0;
        // What the next packet makes happen must not come before functions that this one calls.
        let mut new = self.later.iter().skip(before);
        if self.left == 0 || new.any(Deferred::runs_user_code) {
            self.settle();
        }
    }

    /// Gives the lock back and runs what is due: before anything else of the same peer is handled.
    #[inline]
    pub(crate) fn settle(&mut self) {
        if let Some(core) = self.core.take() {
            self.finish(core);
        }
    }

    #[inline(never)]
    fn finish(&mut self, mut core: MutexGuard<'_, Core>) {
        self.shared.carry_out(&mut core, &mut self.later);
        self.waiting = 0;
        self.shared.set_alarm(&mut core);
        drop(core);
        self.left = PACKETS_PER_LOCK;
        deferred::run(self.shared, &mut self.later);
    }
}

impl Drop for NodePackets<'_> {
    fn drop(&mut self) {
        self.settle();
    }
}

impl Shared {
    /// For packets to the node port that come one behind the other: the lock is taken once.
    pub(crate) fn node_packets(self: &Arc<Self>) -> NodePackets<'_> {
        NodePackets {
            shared: self,
            core: None,
            later: Vec::new(),
            left: PACKETS_PER_LOCK,
            waiting: 0,
        }
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
