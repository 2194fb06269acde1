//! What runs on this thread: which port, and which ports have to run once it is done.

use super::callback::CallbackCell;
use super::sync::local;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::Arc;

/// How many messages one thread runs beyond its own before it passes the rest on.
const BUDGET: usize = 4096;

/// How many messages of one port are run before the next port has its turn.
const SLICE: usize = 128;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Business {
    Free,
    Busy,
    /// Busy, and there is something in `SCHEDULED`.
    Scheduled,
}

local!(BUSINESS: Cell<Business> = Cell::new(Business::Free));
local!(SCHEDULED: RefCell<VecDeque<Arc<CallbackCell>>> = RefCell::new(VecDeque::new()));
local!(CURRENT: Cell<*const CallbackCell> = Cell::new(std::ptr::null()));

/// While it lives, nothing that is delivered on this thread runs; all of it does when it is
/// dropped.
///
/// So it is what to have around a lock that is held while messages are delivered (made before
/// the lock is taken, dropped after it was released).
#[derive(Debug)]
pub(crate) struct Hold {
    of_this_thread: PhantomData<*const ()>,
}

impl Hold {
    /// `None` if something runs already, or is held up, on this thread.
    #[inline]
    pub(crate) fn enter() -> Option<Hold> {
        BUSINESS.with(|business| {
            (business.get() == Business::Free).then(|| {
                business.set(Business::Busy);
                Hold { of_this_thread: PhantomData }
            })
        })
    }

    /// Whether something will run when it is dropped.
    #[inline]
    pub(super) fn has_work(&self) -> bool {
        BUSINESS.with(|business| business.get() == Business::Scheduled)
    }
}

impl Drop for Hold {
    #[inline]
    fn drop(&mut self) {
        BUSINESS.with(|business| {
            if business.get() == Business::Busy {
                business.set(Business::Free);
            } else {
                let _free = FreeAtTheEnd;
                run_scheduled();
            }
        });
    }
}

/// The thread is free again even if what it was told to do beside running ports panics.
struct FreeAtTheEnd;

impl Drop for FreeAtTheEnd {
    fn drop(&mut self) {
        BUSINESS.with(|business| business.set(Business::Free));
    }
}

/// Has `cell` run when this thread's [`Hold`] is dropped.
pub(super) fn schedule(cell: Arc<CallbackCell>) {
    let mut cell = Some(cell);
    let _ = try_with_scheduled(|scheduled| scheduled.extend(cell.take()));
    match cell {
        None => BUSINESS.with(|business| business.set(Business::Scheduled)),
        // The thread is ending and its variables are gone.
        Some(cell) => while cell.run(usize::MAX).is_some_and(|run| run.left) {},
    }
}

fn try_with_scheduled<R>(f: impl FnOnce(&mut VecDeque<Arc<CallbackCell>>) -> R) -> Option<R> {
    SCHEDULED.try_with(|scheduled| f(&mut scheduled.borrow_mut())).ok()
}

fn run_scheduled() {
    let mut budget = BUDGET;
    while let Some(cell) = try_with_scheduled(VecDeque::pop_front).flatten() {
        if budget == 0
            && let Some(elsewhere) = &cell.hooks().run_elsewhere
        {
            let mut cells = try_with_scheduled(std::mem::take).unwrap_or_default();
            cells.push_front(Arc::clone(&cell));
            elsewhere(Leftover { cells });
            // There is more only if it came back to this thread.
            budget = BUDGET;
            continue;
        }
        if let Some(run) = cell.run(SLICE) {
            budget = budget.saturating_sub(run.done);
            if run.left {
                let _ = try_with_scheduled(|scheduled| scheduled.push_back(cell));
            }
        }
    }
}

/// Ports that have something to run, after this thread did its part: what sends messages should
/// not be kept for as long as these go on among themselves.
pub(crate) struct Leftover {
    cells: VecDeque<Arc<CallbackCell>>,
}

impl Leftover {
    /// Runs them on this thread, for as long as one thread does.
    pub(crate) fn run(self) {
        let hold = Hold::enter();
        for cell in self.cells {
            schedule(cell);
        }
        drop(hold);
    }
}

/// Makes `cell` the one that runs on this thread, until it is dropped.
pub(super) struct Current<'a> {
    before: *const CallbackCell,
    now: PhantomData<&'a CallbackCell>,
}

impl<'a> Current<'a> {
    #[inline]
    pub(super) fn enter(cell: &'a CallbackCell) -> Self {
        Current { before: CURRENT.with(|current| current.replace(cell)), now: PhantomData }
    }
}

impl Drop for Current<'_> {
    #[inline]
    fn drop(&mut self) {
        CURRENT.with(|current| current.set(self.before));
    }
}

/// Calls `f` with the port that runs on this thread, if one does.
pub(super) fn with_current<R>(f: impl FnOnce(Option<&CallbackCell>) -> R) -> R {
    let current = CURRENT.with(Cell::get);
    // SAFETY: it is null, or was set from a reference that outlives the `Current` that set it and
    // that puts the one before back when it is dropped, on the same thread: both are below us on
    // the stack, unless the `Current` was leaked, which nobody does.
    f(unsafe { current.as_ref() })
}
