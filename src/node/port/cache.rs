//! The ports that this thread delivered to of late: messages come in bursts to the same ones.
//!
//! A port that is closed refuses messages itself, so nothing here has to be invalidated; at worst
//! an emptied port is kept until its place is used again.

use super::PortCell;
use crate::value::same;
use std::cell::Cell;
use std::sync::Arc;

/// A power of two.
const PLACES: usize = 16;

struct CacheSlot {
    /// What was looked for here in vain the last time.
    missed: Cell<u64>,
    kept: Cell<Option<Box<Kept>>>,
    /// It was taken and comes back: until then the place is not used for another.
    away: Cell<bool>,
}

impl CacheSlot {
    const fn empty() -> Self {
        CacheSlot { missed: Cell::new(0), kept: Cell::new(None), away: Cell::new(false) }
    }
}

/// A port that was looked up time and again.
pub(super) struct Kept {
    table: u64,
    name: Arc<[u8]>,
    /// Where it is kept.
    place: usize,
    pub(super) cell: PortCell,
}

thread_local! {
    static PLACES_OF_THREAD: [CacheSlot; PLACES] = const { [const { CacheSlot::empty() }; PLACES] };
}

/// Takes a port out, if it is here, so that nothing is borrowed while it runs; then
/// [`put_back`] or [`give_up`].
#[inline]
pub(super) fn take(table: u64, name: &[u8]) -> Option<Box<Kept>> {
    PLACES_OF_THREAD
        .try_with(|places| {
            let place = &places[place_of(tail(name))];
            let kept = place.kept.take()?;
            if kept.table == table && same(&kept.name, name) {
                place.away.set(true);
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
    let _ = PLACES_OF_THREAD.try_with(|places| {
        let place = &places[kept.place % PLACES];
        place.away.set(false);
        place.kept.set(Some(kept));
    });
}

/// Says that what was taken will not come back.
pub(super) fn give_up(kept: &Kept) {
    let _ = PLACES_OF_THREAD.try_with(|places| places[kept.place % PLACES].away.set(false));
}

/// Keeps a port, if it is looked up for the second time running.
#[inline]
pub(super) fn offer(table: u64, name: &Arc<[u8]>, cell: &PortCell) {
    let tail = tail(name);
    let before = PLACES_OF_THREAD.try_with(|places| {
        let at = place_of(tail);
        let place = &places[at];
        if place.missed.replace(tail) != tail || place.away.get() {
            return None;
        }
        let kept = Kept { table, name: Arc::clone(name), place: at, cell: cell.clone() };
        place.kept.replace(Some(Box::new(kept)))
    });
    // Dropped unborrowed.
    drop(before);
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
