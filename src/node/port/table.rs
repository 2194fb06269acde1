//! Which local ports there are, by name.

use super::sync::SHARDS;
use super::{CloseWhen, Delivery, PortCell, Replies, cache};
use crate::value::packed::Elements;
use crate::value::{NodeId, Packed, StrRef};
use foldhash::quality::RandomState;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::BuildHasher;
use std::iter::once;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The local ports of a node; read and changed from all threads.
///
/// Dropping it closes them all.
///
/// Ports come and go, so that to add and to remove one has to cost no more than to find one: locks
/// that are held for a moment do better here than a map without locks, whose removals have to wait
/// for its readers. What is delivered to time and again is found without them; see [`cache`].
#[derive(Debug)]
pub(crate) struct PortTable {
    shards: [Mutex<Cells>; SHARDS],
    replies: Arc<Replies>,
    /// Which of the shards a name belongs to.
    hasher: RandomState,
    /// Which table of this process it is.
    number: u64,
}

/// By the canonical octets of their names, so that octets and text are one name.
type Cells = HashMap<Arc<[u8]>, PortCell, RandomState>;

impl PortTable {
    /// No ports but the reply ports of calls, which come and go by themselves.
    pub(crate) fn new(replies: Arc<Replies>) -> Self {
        static TABLES: AtomicU64 = AtomicU64::new(0);
        PortTable {
            shards: Default::default(),
            replies,
            hasher: RandomState::default(),
            number: TABLES.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// The reply ports of calls.
    #[inline]
    pub(crate) fn replies(&self) -> &Replies {
        &self.replies
    }

    /// Adds a port; false if there is one of that name.
    pub(crate) fn insert(&self, name: StrRef<'_>, cell: PortCell) -> bool {
        let name: Arc<[u8]> = Arc::from(&*name.canonical());
        // What is refused is dropped without the lock.
        let refused = match self.shard(&name).lock().entry(name) {
            Entry::Occupied(_) => Some(cell),
            Entry::Vacant(place) => {
                place.insert(cell);
                None
            }
        };
        refused.is_none()
    }

    #[inline]
    fn shard(&self, name: &[u8]) -> &Mutex<Cells> {
        &self.shards[self.hasher.hash_one(name) as usize % SHARDS]
    }

    /// The port of that name.
    pub(crate) fn get(&self, name: StrRef<'_>) -> Option<PortCell> {
        let name = name.canonical();
        self.shard(&name).lock().get(&*name).cloned()
    }

    /// Removes and closes a port; false if there is none of that name.
    pub(crate) fn close(&self, name: StrRef<'_>, reason: Packed, when: CloseWhen) -> bool {
        let name = name.canonical();
        if self.replies.kill(&name, &reason) {
            return true;
        }
        let cell = self.shard(&name).lock().remove(&*name);
        let found = cell.is_some();
        if let Some(cell) = cell {
            cell.close(reason, when);
        }
        found
    }

    /// Removes all ports, which have to be closed.
    pub(crate) fn drain(&self) -> Vec<PortCell> {
        let all = |shard: &Mutex<Cells>| std::mem::take(&mut *shard.lock()).into_values();
        self.shards.iter().flat_map(all).collect()
    }

    /// How many octets of messages wait in all ports, beyond those that are being run or read.
    pub(crate) fn waiting(&self) -> usize {
        let of_port = |cell: &PortCell| match cell {
            PortCell::Mailbox(cell) => cell.waiting(),
            PortCell::Callback(cell) => cell.waiting(),
            PortCell::Service => 0,
        };
        let of_shard = |shard: &Mutex<Cells>| shard.lock().values().map(of_port).sum::<usize>();
        self.shards.iter().map(of_shard).sum()
    }

    /// How many ports there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// Hands messages to a port: the first of them, unless the port is the node's own, and those
    /// that can be handed over together with it before anybody else has to have a turn.
    ///
    /// They may be run by that, so the caller holds no lock, unless it has a
    /// [`Locked`](super::Locked).
    #[inline]
    pub(crate) fn deliver<'a>(
        &self,
        port: StrRef<'_>,
        from: &NodeId,
        messages: &mut impl Iterator<Item = Elements<'a>>,
    ) -> Delivery {
        let name = port.canonical();
        if let Some(kept) = cache::take(self.number, &name) {
            let delivery = kept.cell.deliver(from, messages);
            if delivery != Delivery::NoSuchPort {
                cache::put_back(kept);
                return delivery;
            }
            // It is closed; another one may have got its name.
            cache::give_up(&kept);
        }
        self.deliver_uncached(&name, from, messages)
    }

    #[inline(never)]
    fn deliver_uncached<'a>(
        &self,
        name: &[u8],
        from: &NodeId,
        messages: &mut impl Iterator<Item = Elements<'a>>,
    ) -> Delivery {
        if !Replies::may_have(name) {
            return self.deliver_listed(name, from, messages);
        }
        let Some(message) = messages.next() else { return Delivery::Done };
        match self.replies.deliver(name, message) {
            Some(delivery) => delivery,
            None => self.deliver_listed(name, from, &mut once(message)),
        }
    }

    fn deliver_listed<'a>(
        &self,
        name: &[u8],
        from: &NodeId,
        messages: &mut impl Iterator<Item = Elements<'a>>,
    ) -> Delivery {
        let found = {
            let cells = self.shard(name).lock();
            cells.get_key_value(name).map(|(name, cell)| (Arc::clone(name), cell.clone()))
        };
        let delivery = found.map_or(Delivery::NoSuchPort, |(name, cell)| {
            cache::offer(self.number, &name, &cell);
            cell.deliver(from, messages)
        });
        if delivery == Delivery::NoSuchPort {
            // What nobody takes is dropped.
            messages.next();
        }
        delivery
    }
}

impl Drop for PortTable {
    fn drop(&mut self) {
        for cell in self.drain() {
            cell.close(Packed::default(), CloseWhen::AfterWaiting);
        }
    }
}
