//! The ports that this thread delivered to of late: messages come in bursts to the same ones.
//!
//! A port that is closed refuses messages itself, so nothing here has to be invalidated; at worst
//! an emptied port is kept until its place is used again.

use super::PortCell;
use std::cell::Cell;
use std::sync::Arc;

/// A power of two.
const PLACES: usize = 16;

#[derive(Default)]
struct Place {
    /// What was looked for here in vain the last time.
    missed: Cell<u64>,
    kept: Cell<Option<Box<Kept>>>,
}

/// A port that was looked up time and again.
pub(super) struct Kept {
    table: u64,
    name: Arc<[u8]>,
    pub(super) cell: PortCell,
}

thread_local! {
    static PLACES_OF_THREAD: [Place; PLACES] = Default::default();
}

/// Takes a port out, if it is here, so that nothing is borrowed while it runs; [`put_back`] then.
#[inline]
pub(super) fn take(table: u64, name: &[u8]) -> Option<Box<Kept>> {
    PLACES_OF_THREAD
        .try_with(|places| {
            let place = &places[place_of(tail(name))];
            let kept = place.kept.take()?;
            if kept.table == table && *kept.name == *name {
                return Some(kept);
            }
            place.kept.set(Some(kept));
            None
        })
        .ok()?
}

/// Puts back what was taken.
#[inline]
pub(super) fn put_back(kept: Box<Kept>) {
    let before = PLACES_OF_THREAD
        .try_with(|places| places[place_of(tail(&kept.name))].kept.replace(Some(kept)));
    // What came here meanwhile is dropped unborrowed.
    drop(before);
}

/// Keeps a port, if it is looked up for the second time running.
#[inline]
pub(super) fn offer(table: u64, name: &Arc<[u8]>, cell: &PortCell) {
    let tail = tail(name);
    let again = PLACES_OF_THREAD
        .try_with(|places| places[place_of(tail)].missed.replace(tail) == tail);
    if again == Ok(true) {
        put_back(Box::new(Kept { table, name: Arc::clone(name), cell: cell.clone() }));
    }
}

/// The last octets of a name: where names differ that were made by counting.
#[inline]
fn tail(name: &[u8]) -> u64 {
    match name.last_chunk::<8>() {
        Some(last) => u64::from_ne_bytes(*last),
        None => name.iter().fold(1, |tail, octet| tail << 8 | u64::from(*octet)),
    }
}

#[inline]
fn place_of(tail: u64) -> usize {
    (tail.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60) as usize % PLACES
}
