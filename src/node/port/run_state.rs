//! Which thread runs a port: one at a time, and none forgets what another one has queued meanwhile.

use super::sync::{AtomicU8, Mutex, Ordering, UnsafeCell};

/// A thread has the run guard (or the closed port is being, or was, emptied).
const RUNNING: u8 = 1;
/// Something is queued.
const WAITING: u8 = 2;
/// Receivers have to be changed before the next thing is run.
const EDITED: u8 = 4;
/// What is queued will be run, and nothing after it.
const CLOSING: u8 = 8;
/// Nothing will be run any more.
const DEAD: u8 = 16;

/// When a port that is closed runs nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CloseWhen {
    /// After what is just being run.
    Now,
    /// After what was handed over before.
    AfterWaiting,
}

/// The run state of a port: a value that only the running thread touches (`M`), and a queue to which
/// all threads add (`W`).
///
/// Before a thread ends a run, it looks at what was queued meanwhile: either it runs that, too, or it
/// [leaves](RunGuard::leave) it and sees to it that some thread [`start`](RunState::start)s again. So
/// nothing is forgotten, and nothing is run by two threads at once.
#[derive(Debug, Default)]
pub(super) struct RunState<M, W> {
    flags: AtomicU8,
    mine: UnsafeCell<M>,
    waiting: Mutex<W>,
}

// SAFETY: `mine` is reached through a `RunGuard` only, of which there is one at a time, and `RunGuard` is
// handed from thread to thread by acquire and release on `flags`; `waiting` has its lock.
unsafe impl<M: Send, W: Send> Sync for RunState<M, W> {}

/// What became of something that was to be queued.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Enqueued<R> {
    /// It is queued.
    Over {
        /// What the closure returned.
        value: R,
        /// A thread has the run guard and will see it.
        running: bool,
        /// Something was queued already, so that some thread is about to start.
        waited: bool,
    },
    /// There was no room; nothing is taken any more.
    Full,
    /// The port is closed, or closes after what is queued.
    Ended,
}

/// What the running thread has to look at between two things that it runs.
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

impl<M: Default, W: Default> RunState<M, W> {
    pub(super) fn new(mine: M, waiting: W) -> Self {
        RunState {
            flags: AtomicU8::new(0),
            mine: UnsafeCell::new(mine),
            waiting: Mutex::new(waiting),
        }
    }

    /// The run guard, if the port is open and idle.
    #[inline]
    pub(super) fn start_if_idle(&self) -> Option<RunGuard<'_, M, W>> {
        self.flags
            .compare_exchange(0, RUNNING, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
            .then_some(RunGuard { run: self })
    }

    /// Whether a thread runs, and nothing was queued, changed or closed meanwhile.
    #[inline]
    pub(super) fn is_undisturbed(&self) -> bool {
        self.flags.load(Ordering::Acquire) == RUNNING
    }

    /// The run guard, if no thread has it and there is something to do.
    pub(super) fn start(&self) -> Option<RunGuard<'_, M, W>> {
        self.flags
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, |state| {
                (state != 0 && state & RUNNING == 0).then_some(state | RUNNING)
            })
            .is_ok()
            .then_some(RunGuard { run: self })
    }

    /// Queues something to be run; `put` returns `None` if there is no room.
    ///
    /// Unless a thread runs, or is about to start, the caller has to see to it that one does.
    pub(super) fn hand_over<R>(&self, put: impl FnOnce(&mut W) -> Option<R>) -> Enqueued<R> {
        let mut waiting = self.waiting.lock();
        if self.flags.load(Ordering::Acquire) & (CLOSING | DEAD) != 0 {
            return Enqueued::Ended;
        }
        match put(&mut waiting) {
            Some(value) => {
                let before = self.flags.fetch_or(WAITING, Ordering::AcqRel);
                Enqueued::Over {
                    value,
                    running: before & RUNNING != 0,
                    waited: before & WAITING != 0,
                }
            }
            None => {
                self.flags.fetch_or(CLOSING, Ordering::AcqRel);
                Enqueued::Full
            }
        }
    }

    /// Queues a change that is made before the next thing is run; false if the port is closed.
    ///
    /// The caller has to [`start`](RunState::start) then: if no thread runs, it makes the change.
    pub(super) fn note(&self, put: impl FnOnce(&mut W)) -> bool {
        let mut waiting = self.waiting.lock();
        if self.flags.load(Ordering::Acquire) & DEAD != 0 {
            return false;
        }
        put(&mut waiting);
        self.flags.fetch_or(EDITED, Ordering::AcqRel);
        true
    }

    /// Looks at what is queued, from any thread.
    pub(super) fn peek<R>(&self, look: impl FnOnce(&W) -> R) -> R {
        look(&self.waiting.lock())
    }

    /// Closes the port; who gets the run guard by that has to [empty](RunGuard::empty) it.
    pub(super) fn close(&self, ending: CloseWhen) -> Option<RunGuard<'_, M, W>> {
        let mark = |state: u8| match ending {
            _ if state & DEAD != 0 => None,
            CloseWhen::Now => Some(state | DEAD | RUNNING),
            // The thread that runs, or is about to start, does it.
            CloseWhen::AfterWaiting if state & (RUNNING | WAITING | EDITED) != 0 => {
                Some(state | CLOSING)
            }
            CloseWhen::AfterWaiting => Some(state | DEAD | RUNNING),
        };
        let before = self.flags.fetch_update(Ordering::AcqRel, Ordering::Acquire, mark).ok()?;
        let ours = before & RUNNING == 0 && mark(before).is_some_and(|after| after & RUNNING != 0);
        ours.then_some(RunGuard { run: self })
    }

    /// Whether nothing more is taken.
    pub(super) fn is_over(&self) -> bool {
        self.flags.load(Ordering::Acquire) & (CLOSING | DEAD) != 0
    }
}

/// The right, and the duty, of one thread to run a port.
#[derive(Debug)]
#[must_use = "no other thread can run the port until it is finished, left or emptied"]
pub(super) struct RunGuard<'a, M: Default, W: Default> {
    run: &'a RunState<M, W>,
}

impl<'a, M: Default, W: Default> RunGuard<'a, M, W> {
    /// The runner's own value.
    #[inline]
    pub(super) fn with<R>(&mut self, f: impl FnOnce(&mut M) -> R) -> R {
        // SAFETY: there is one `RunGuard` at a time (only the step that sets RUNNING makes one, and
        // only what consumes it clears RUNNING), and `&mut self` keeps `f` from nesting.
        self.run.mine.with_mut(|mine| f(unsafe { &mut *mine }))
    }

    /// What has happened meanwhile.
    #[inline]
    pub(super) fn signals(&self) -> Signals {
        Signals(self.run.flags.load(Ordering::Acquire))
    }

    /// Takes changes out of the queue, and with them what is to be run; `f` returns whether it has
    /// taken all of that.
    pub(super) fn take(&mut self, f: impl FnOnce(&mut M, &mut W) -> bool) {
        let run = self.run;
        self.with(|mine| {
            let mut waiting = run.waiting.lock();
            let seen = if f(mine, &mut waiting) { WAITING | EDITED } else { EDITED };
            run.flags.fetch_and(!seen, Ordering::AcqRel);
        });
    }

    /// Ends the run if nothing happened meanwhile; otherwise the guard comes back.
    #[inline]
    pub(super) fn finish(self) -> Option<Self> {
        self.run
            .flags
            .compare_exchange(RUNNING, 0, Ordering::Release, Ordering::Relaxed)
            .is_err()
            .then_some(self)
    }

    /// Ends the run with work left: the caller has to see to it that a thread starts again.
    pub(super) fn leave(self) {
        // Always some: the closure never refuses.
        let _ = self.run.flags.fetch_update(Ordering::Release, Ordering::Relaxed, |state| {
            Some((state | WAITING) & !RUNNING)
        });
    }

    /// Closes the port for good and takes everything out.
    pub(super) fn empty(mut self) -> (M, W) {
        self.run.flags.fetch_or(DEAD | RUNNING, Ordering::AcqRel);
        let waiting = std::mem::take(&mut *self.run.waiting.lock());
        (self.with(std::mem::take), waiting)
    }
}
