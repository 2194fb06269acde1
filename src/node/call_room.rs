//! Room for calls: how many octets of large calls may be pending for one port at a time, so that
//! callers wait instead of filling its mailbox until it is killed.

use crate::value::PortId;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::mem;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Octets from which on a call counts as large.
pub(super) const LARGE_CALL: usize = 4 << 10;

/// Octets for one permit of a semaphore.
const UNIT: usize = 1 << 10;

/// The ports for which large calls are pending.
#[derive(Debug)]
pub(super) struct CallRoom {
    /// The permits for each port.
    units: u32,
    ports: Mutex<HashMap<PortId, Arc<Semaphore>>>,
}

/// The room that one call takes, until it is dropped.
#[derive(Debug)]
pub(super) struct ReservedRoom<'a> {
    room: &'a CallRoom,
    port: &'a PortId,
    permit: Option<OwnedSemaphorePermit>,
}

impl CallRoom {
    /// Room for a quarter of what a mailbox may hold, so that several nodes can call a port.
    pub(super) fn new(port_limit: usize) -> Self {
        let units = u32::try_from(port_limit / 4 / UNIT).unwrap_or(u32::MAX);
        let units = units.clamp(1, u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX));
        CallRoom { units, ports: Mutex::new(HashMap::new()) }
    }

    /// Waits until there is room for a large call of this many octets. One that is larger than the
    /// whole room takes all of it.
    pub(super) async fn take<'a>(&'a self, port: &'a PortId, octets: usize) -> ReservedRoom<'a> {
        let units = u32::try_from(octets / UNIT).unwrap_or(u32::MAX).clamp(1, self.units);
        let all = || Arc::new(Semaphore::new(usize::try_from(self.units).unwrap_or(1)));
        let semaphore = self.ports.lock().entry(port.clone()).or_insert_with(all).clone();
        // While this waits, dropping it removes the port from the table if it is the last one.
        let mut taken = ReservedRoom { room: self, port, permit: None };
        // The semaphore is never closed.
        taken.permit = semaphore.acquire_many_owned(units).await.ok();
        taken
    }

    /// The number of ports for which large calls are pending.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.ports.lock().len()
    }
}

impl Drop for ReservedRoom<'_> {
    fn drop(&mut self) {
        drop(mem::take(&mut self.permit));
        let mut ports = self.room.ports.lock();
        // All other calls of the port have a handle, those that wait too.
        if ports.get(self.port).is_some_and(|semaphore| Arc::strong_count(semaphore) == 1) {
            ports.remove(self.port);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    fn poll<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Poll<T> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn calls_wait_for_room_in_turn_and_leave_nothing_behind() {
        let room = CallRoom::new(64 * UNIT);
        let (busy, other): (PortId, PortId) =
            ("n#busy".parse().unwrap(), "n#other".parse().unwrap());
        let Poll::Ready(first) = poll(pin!(room.take(&busy, 10 * UNIT))) else { panic!("room") };
        let mut second = pin!(room.take(&busy, 1000 * UNIT));
        let mut third = Box::pin(room.take(&busy, 1));
        assert!(poll(second.as_mut()).is_pending() && poll(third.as_mut()).is_pending());
        let Poll::Ready(elsewhere) = poll(pin!(room.take(&other, 16 * UNIT))) else {
            panic!("each port has its own room")
        };
        drop(elsewhere);
        drop(first);
        let Poll::Ready(second) = poll(second.as_mut()) else { panic!("it has all of it") };
        assert!(poll(third.as_mut()).is_pending());
        drop(third);
        assert_eq!(room.len(), 1);
        drop(second);
        assert_eq!(room.len(), 0);
    }
}
