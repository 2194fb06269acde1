//! Which local ports there are, by name.

use super::callback::CallbackCell;
use super::{Delivery, Ending, Later, PortCell, cache};
use crate::value::packed::Elements;
use crate::value::{NodeId, Packed, StrRef};
use foldhash::quality::RandomState;
use papaya::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The local ports of a node; read and changed from all threads.
///
/// Dropping it closes them all.
#[derive(Debug)]
pub(crate) struct PortTable {
    /// By the canonical octets of their names, so that octets and text are one name.
    cells: HashMap<Arc<[u8]>, PortCell, RandomState>,
    /// Which table of this process it is.
    number: u64,
}

impl Default for PortTable {
    fn default() -> Self {
        static TABLES: AtomicU64 = AtomicU64::new(0);
        PortTable { cells: HashMap::default(), number: TABLES.fetch_add(1, Ordering::Relaxed) }
    }
}

/// Where a message has to go once no map guard is held.
enum Found {
    Mailbox(Delivery, Later),
    Callback(Arc<CallbackCell>),
}

impl PortTable {
    /// No ports.
    pub(crate) fn new() -> Self {
        PortTable::default()
    }

    /// Adds a port; false if there is one of that name.
    pub(crate) fn insert(&self, name: StrRef<'_>, cell: PortCell) -> bool {
        let name: Arc<[u8]> = Arc::from(&*name.canonical());
        self.cells.pin().try_insert(name, cell).is_ok()
    }

    /// The port of that name.
    pub(crate) fn get(&self, name: StrRef<'_>) -> Option<PortCell> {
        self.cells.pin().get(&*name.canonical()).cloned()
    }

    /// Removes and closes a port; `None` if there is none of that name.
    ///
    /// From now on it takes nothing. Callers may hold a lock; see [`Later`].
    pub(crate) fn close(&self, name: StrRef<'_>, reason: Packed, ending: Ending) -> Option<Later> {
        let cell = self.remove(name)?;
        Some(cell.close(reason, ending))
    }

    /// Removes a port, which has to be closed: until then it is still delivered to by those who
    /// have it, or had it of late.
    pub(crate) fn remove(&self, name: StrRef<'_>) -> Option<PortCell> {
        self.cells.pin().remove(&*name.canonical()).cloned()
    }

    /// Removes all ports, which have to be closed.
    pub(crate) fn drain(&self) -> Vec<PortCell> {
        let cells = self.cells.pin();
        let all = cells.values().cloned().collect();
        cells.clear();
        all
    }

    /// How many octets of messages wait in all ports, beyond those that are being run or read.
    pub(crate) fn waiting(&self) -> usize {
        let cells = self.cells.pin();
        cells
            .values()
            .map(|cell| match cell {
                PortCell::Mailbox(cell) => cell.waiting(),
                PortCell::Callback(cell) => cell.waiting(),
                PortCell::Service => 0,
            })
            .sum()
    }

    /// How many ports there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.cells.len()
    }

    /// Hands a message to a port. It may be run by that, so the caller holds no lock, unless inside
    /// of a [`Hold`](super::Hold).
    #[inline]
    pub(crate) fn deliver(
        &self,
        port: StrRef<'_>,
        from: &NodeId,
        message: Elements<'_>,
    ) -> Delivery {
        let name = port.canonical();
        if let Some(kept) = cache::take(self.number, &name) {
            let delivery = kept.cell.deliver(from, message);
            if delivery != Delivery::NoSuchPort {
                cache::put_back(kept);
                return delivery;
            }
            // It is closed; another one may have got its name.
            cache::give_up(&kept);
        }
        self.deliver_uncached(&name, from, message)
    }

    #[inline(never)]
    fn deliver_uncached(&self, name: &[u8], from: &NodeId, message: Elements<'_>) -> Delivery {
        let found = {
            let cells = self.cells.pin();
            let Some((name, cell)) = cells.get_key_value(name) else {
                return Delivery::NoSuchPort;
            };
            cache::offer(self.number, name, cell);
            match cell {
                PortCell::Service => return Delivery::Service,
                PortCell::Callback(cell) => Found::Callback(Arc::clone(cell)),
                PortCell::Mailbox(cell) => {
                    let (delivery, later) = cell.push(from, message);
                    Found::Mailbox(delivery, later)
                }
            }
        };
        match found {
            Found::Callback(cell) => cell.deliver(from, message),
            Found::Mailbox(delivery, later) => {
                drop(later);
                delivery
            }
        }
    }
}

impl Drop for PortTable {
    fn drop(&mut self) {
        for cell in self.drain() {
            drop(cell.close(Packed::default(), Ending::AfterWaiting));
        }
    }
}
