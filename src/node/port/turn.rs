//! One runner at a time: who may touch what belongs to a port's runner, and who has to run next.

use super::sync::{AtomicU8, Mutex, Ordering, UnsafeCell};

/// Somebody holds the turn (or the dead cell is being, or was, emptied).
const RUNNING: u8 = 1;
/// Something waits to be run.
const WAITING: u8 = 2;
/// Something has to be done before the next thing is run.
const EDITED: u8 = 4;
/// What waits will be run, and nothing after it.
const CLOSING: u8 = 8;
/// Nothing will be run any more.
const DEAD: u8 = 16;

/// When a turn ends for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// After what is just being run.
    Now,
    /// After what was handed over before.
    AfterWaiting,
}

/// A value for whoever runs (`M`), and beside it a place where others put what is to be run (`W`).
///
/// Whoever ends a run takes over what came meanwhile: either it runs that, too, or it leaves the
/// turn marked and sees to it that somebody [`start`](Turn::start)s again. So nothing is forgotten
/// and nothing is run by two at once.
#[derive(Debug, Default)]
pub(super) struct Turn<M, W> {
    state: AtomicU8,
    mine: UnsafeCell<M>,
    waiting: Mutex<W>,
}

// SAFETY: `mine` is reached through a `Held` only, of which there is one at a time, and `Held` is
// handed from thread to thread by acquire and release on `state`; `waiting` has its lock.
unsafe impl<M: Send, W: Send> Sync for Turn<M, W> {}

/// What came of handing something over.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Handed<R> {
    /// It waits.
    Over {
        /// What the closure returned.
        value: R,
        /// Somebody holds the turn and will see it.
        running: bool,
        /// Something waited already, so that somebody was told to start.
        waited: bool,
    },
    /// There was no room; nothing is taken any more.
    Full,
    /// The turn has ended, or ends after what waits.
    Ended,
}

/// What the holder of a turn has to heed between two things that it runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Signals(u8);

impl Signals {
    pub(super) const fn waiting(self) -> bool {
        self.0 & WAITING != 0
    }

    pub(super) const fn edited(self) -> bool {
        self.0 & EDITED != 0
    }

    pub(super) const fn closing(self) -> bool {
        self.0 & CLOSING != 0
    }

    pub(super) const fn dead(self) -> bool {
        self.0 & DEAD != 0
    }
}

impl<M: Default, W: Default> Turn<M, W> {
    pub(super) fn new(mine: M, waiting: W) -> Self {
        Turn { state: AtomicU8::new(0), mine: UnsafeCell::new(mine), waiting: Mutex::new(waiting) }
    }

    /// The turn, if nothing runs, nothing waits and nothing ended.
    #[inline]
    pub(super) fn start_if_idle(&self) -> Option<Held<'_, M, W>> {
        self.state
            .compare_exchange(0, RUNNING, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
            .then_some(Held { turn: self })
    }

    /// Whether somebody runs, and there is nothing that he has to heed.
    #[inline]
    pub(super) fn is_undisturbed(&self) -> bool {
        self.state.load(Ordering::Acquire) == RUNNING
    }

    /// The turn, if nobody has it and there is something to do.
    pub(super) fn start(&self) -> Option<Held<'_, M, W>> {
        self.state
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, |state| {
                (state != 0 && state & RUNNING == 0).then_some(state | RUNNING)
            })
            .is_ok()
            .then_some(Held { turn: self })
    }

    /// Hands something over to be run; `put` says `None` if there is no room.
    ///
    /// Unless somebody runs, or was told to start before, the caller has to see to it.
    pub(super) fn hand_over<R>(&self, put: impl FnOnce(&mut W) -> Option<R>) -> Handed<R> {
        let mut waiting = self.waiting.lock();
        if self.state.load(Ordering::Acquire) & (CLOSING | DEAD) != 0 {
            return Handed::Ended;
        }
        match put(&mut waiting) {
            Some(value) => {
                let before = self.state.fetch_or(WAITING, Ordering::AcqRel);
                Handed::Over {
                    value,
                    running: before & RUNNING != 0,
                    waited: before & WAITING != 0,
                }
            }
            None => {
                self.state.fetch_or(CLOSING, Ordering::AcqRel);
                Handed::Full
            }
        }
    }

    /// Leaves a note that the runner heeds before it runs the next thing; false if it ended.
    ///
    /// The caller has to [`start`](Turn::start) then, which gives it the turn if nobody has it.
    pub(super) fn note(&self, put: impl FnOnce(&mut W)) -> bool {
        let mut waiting = self.waiting.lock();
        if self.state.load(Ordering::Acquire) & DEAD != 0 {
            return false;
        }
        put(&mut waiting);
        self.state.fetch_or(EDITED, Ordering::AcqRel);
        true
    }

    /// Looks at what waits, from outside.
    pub(super) fn peek<R>(&self, look: impl FnOnce(&W) -> R) -> R {
        look(&self.waiting.lock())
    }

    /// Ends it; whoever gets the turn by that has to [`bury`](Held::bury) it.
    pub(super) fn close(&self, ending: Ending) -> Option<Held<'_, M, W>> {
        let mark = |state: u8| match ending {
            _ if state & DEAD != 0 => None,
            Ending::Now => Some(state | DEAD | RUNNING),
            // It is up to those who run, or were told to start.
            Ending::AfterWaiting if state & (RUNNING | WAITING | EDITED) != 0 => {
                Some(state | CLOSING)
            }
            Ending::AfterWaiting => Some(state | DEAD | RUNNING),
        };
        let before = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, mark).ok()?;
        let ours = before & RUNNING == 0 && mark(before).is_some_and(|after| after & RUNNING != 0);
        ours.then_some(Held { turn: self })
    }

    /// Whether nothing more is taken.
    pub(super) fn is_over(&self) -> bool {
        self.state.load(Ordering::Acquire) & (CLOSING | DEAD) != 0
    }
}

/// The turn itself: the right and the duty to run.
#[derive(Debug)]
#[must_use = "nobody else can run until it is finished, left or buried"]
pub(super) struct Held<'a, M: Default, W: Default> {
    turn: &'a Turn<M, W>,
}

impl<'a, M: Default, W: Default> Held<'a, M, W> {
    /// The runner's own value.
    #[inline]
    pub(super) fn with<R>(&mut self, f: impl FnOnce(&mut M) -> R) -> R {
        // SAFETY: there is one `Held` at a time (only the step that sets RUNNING makes one, and
        // only what consumes it clears RUNNING), and `&mut self` keeps `f` from nesting.
        self.turn.mine.with_mut(|mine| f(unsafe { &mut *mine }))
    }

    /// What has to be heeded now.
    #[inline]
    pub(super) fn signals(&self) -> Signals {
        Signals(self.turn.state.load(Ordering::Acquire))
    }

    /// Takes the notes, and with them what waits, out of the shared place; `f` says whether it has
    /// taken all that waits.
    pub(super) fn take(&mut self, f: impl FnOnce(&mut M, &mut W) -> bool) {
        let turn = self.turn;
        self.with(|mine| {
            let mut waiting = turn.waiting.lock();
            let seen = if f(mine, &mut waiting) { WAITING | EDITED } else { EDITED };
            turn.state.fetch_and(!seen, Ordering::AcqRel);
        });
    }

    /// Ends the run if nothing came meanwhile; otherwise the turn is still held.
    #[inline]
    pub(super) fn finish(self) -> Option<Self> {
        self.turn
            .state
            .compare_exchange(RUNNING, 0, Ordering::Release, Ordering::Relaxed)
            .is_err()
            .then_some(self)
    }

    /// Ends the run with work left: the caller has to see to it that somebody starts again.
    pub(super) fn leave(self) {
        // Always some: the closure never refuses.
        let _ = self.turn.state.fetch_update(Ordering::Release, Ordering::Relaxed, |state| {
            Some((state | WAITING) & !RUNNING)
        });
    }

    /// Ends it for good and takes everything out.
    pub(super) fn bury(mut self) -> (M, W) {
        self.turn.state.fetch_or(DEAD | RUNNING, Ordering::AcqRel);
        let waiting = std::mem::take(&mut *self.turn.waiting.lock());
        (self.with(std::mem::take), waiting)
    }
}
