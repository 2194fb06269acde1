//! A callback port: runs its receivers on whichever thread delivers, one message at a time.

use super::batch::{Batch, Entry};
use super::receivers::{Edit, Failure, Handler, Receivers, Unmatched};
use super::run_queue::{self, Run, Runnable, Running, WaitingPorts};
use super::run_state::{CloseWhen, Enqueued, RunGuard, RunState};
use super::sync::local;
use super::{Delivery, PortName};
use crate::node::panics::{catch, drop_quietly};
use crate::value::packed::Elements;
use crate::value::{NodeId, Packed, StrRef};
use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

/// Something that is run as a port, in order with its messages; an error or a panic kills the port.
pub(crate) type Task = Box<dyn FnOnce(&PortName) -> Result<(), String> + Send>;

/// Is told of a port's own death: its name and the reason. No lock is held.
pub(crate) type DeathCallback = Arc<dyn Fn(&PortName, Packed) + Send + Sync>;

/// What callback ports tell their node; the same for all of a node.
pub(crate) struct Hooks {
    /// A port died of itself: it takes and runs nothing any more.
    pub(crate) died: DeathCallback,
    /// Has the rest of the work run on another thread; without it, it goes on on this one.
    pub(crate) run_elsewhere: Option<Box<dyn Fn(WaitingPorts) + Send + Sync>>,
}

/// A callback port.
pub(crate) struct CallbackCell {
    state: RunState<RunnerState, QueuedJobs>,
    name: PortName,
    hooks: Arc<Hooks>,
    unmatched: Unmatched,
    limit: usize,
}

/// What the running thread works with.
#[derive(Default)]
struct RunnerState {
    receivers: Receivers,
    batch: Batch,
    tasks: VecDeque<Task>,
}

/// What was queued.
#[derive(Default)]
struct QueuedJobs {
    batch: Batch,
    tasks: VecDeque<Task>,
    edits: Vec<Edit>,
}

impl CallbackCell {
    /// How many octets of messages wait, beyond those that are being run.
    pub(crate) fn waiting(&self) -> usize {
        self.state.peek(|waiting| waiting.batch.size())
    }

    /// A port without receivers, in which up to `limit` octets of messages wait.
    pub(crate) fn new(
        name: PortName,
        hooks: Arc<Hooks>,
        unmatched: Unmatched,
        limit: usize,
    ) -> Arc<Self> {
        let state = RunState::new(RunnerState::default(), QueuedJobs::default());
        Arc::new(CallbackCell { state, name, hooks, unmatched, limit })
    }

    /// The port's name.
    pub(crate) fn name(&self) -> &PortName {
        &self.name
    }

    /// What it was made with.
    pub(crate) fn hooks(&self) -> &Arc<Hooks> {
        &self.hooks
    }

    /// Whether it takes no messages any more.
    #[cfg(test)]
    pub(crate) fn is_over(&self) -> bool {
        self.state.is_over()
    }

    /// Sets the receiver of messages that begin with `tag`.
    pub(crate) fn on(self: &Arc<Self>, tag: StrRef<'_>, handler: Handler) {
        self.edit(Edit::Tag(tag.canonical().into(), Some(handler)));
    }

    /// Sets the receiver of all messages that no other one takes.
    pub(crate) fn on_default(self: &Arc<Self>, handler: Handler) {
        self.edit(Edit::Default(handler));
    }

    /// Removes the receiver of messages that begin with `tag`.
    pub(crate) fn remove(self: &Arc<Self>, tag: StrRef<'_>) {
        self.edit(Edit::Tag(tag.canonical().into(), None));
    }

    /// Runs the receiver for each of these messages: here and now if the port is idle and this thread
    /// runs nothing else of the program; otherwise they are queued.
    ///
    /// Messages are left over if something else has its turn first, or the port takes none.
    #[inline]
    pub(crate) fn deliver<'a>(
        self: &Arc<Self>,
        from: &NodeId,
        messages: &mut impl Iterator<Item = Elements<'a>>,
    ) -> Delivery {
        let Some(_running) = Running::begin() else {
            return self.queue(from, messages, run_queue::runs_soon());
        };
        let Some(mut guard) = self.state.start_if_idle() else {
            return self.queue(from, messages, true);
        };
        let ran = guard.with(|RunnerState { receivers, .. }| {
            self.guarded(|| {
                for message in messages {
                    receivers.handle(from, &self.name, message, self.unmatched)?;
                    if !self.state.is_undisturbed() || run_queue::jobs_wait() {
                        break;
                    }
                }
                Ok(())
            })
        });
        match ran {
            Ok(()) => {
                if let Some(guard) = guard.finish() {
                    self.settle(guard);
                }
            }
            Err(failure) => self.die(guard, failure),
        }
        Delivery::Done
    }

    #[cold]
    #[inline(never)]
    fn queue<'a>(
        self: &Arc<Self>,
        from: &NodeId,
        messages: &mut impl Iterator<Item = Elements<'a>>,
        free: bool,
    ) -> Delivery {
        if self.state.is_over() {
            return Delivery::NoSuchPort;
        }
        let mut delivery = Delivery::Done;
        for message in messages {
            let handed = self.state.hand_over(|waiting| {
                let batch = &mut waiting.batch;
                batch.push(from, message, self.limit).then(|| batch.size())
            });
            self.see_to_run(&handed, free);
            delivery = match handed {
                Enqueued::Over { value: waiting, .. } => Delivery::Queued { waiting },
                Enqueued::Full => Delivery::Overflow,
                Enqueued::Ended => Delivery::NoSuchPort,
            };
            if !matches!(delivery, Delivery::Queued { .. }) {
                break;
            }
        }
        delivery
    }

    /// Has something run as this port, after what came before; dropped if the port is closed.
    pub(crate) fn push_task(self: &Arc<Self>, task: Task) {
        let running = Running::begin();
        let free = running.is_some() || run_queue::runs_soon();
        let mut task = Some(task);
        let handed = self.state.hand_over(|waiting| {
            waiting.batch.push_marker();
            waiting.tasks.extend(task.take());
            Some(())
        });
        match task {
            Some(refused) => run_queue::run(move || drop(refused)),
            None => self.see_to_run(&handed, free),
        }
    }

    /// After something was queued: has this thread run the port, unless another one does. One that
    /// is about to start may be kept from it; a thread that is free need not wait for it.
    fn see_to_run<R>(self: &Arc<Self>, handed: &Enqueued<R>, free: bool) {
        match handed {
            Enqueued::Over { running: false, waited, .. } if free || !waited => {
                run_queue::schedule(Arc::clone(self) as Arc<dyn Runnable>);
            }
            _ => {}
        }
    }

    fn edit(self: &Arc<Self>, edit: Edit) {
        let _running = Running::begin();
        if self.state.note(|waiting| waiting.edits.push(edit))
            && let Some(guard) = self.state.start()
        {
            self.settle(guard);
        }
    }

    /// Runs something that is no callback of the port, but runs as it.
    pub(crate) fn as_current<R>(&self, run: impl FnOnce() -> R) -> R {
        let _current = Current::enter(self);
        run()
    }

    /// Closes the port: it takes nothing more, and what it consists of is dropped by the thread that
    /// runs it, or will; else by this one, once it may. A port that closes itself does so at once.
    pub(crate) fn close(&self, when: CloseWhen) {
        let itself = with_current(|current| current.is_some_and(|c| std::ptr::eq(c, self)));
        let when = if itself { CloseWhen::Now } else { when };
        if let Some(guard) = self.state.close(when) {
            let remains = guard.empty();
            run_queue::run(move || drop(remains));
        }
    }

    /// After a message was run in place: looks at what happened meanwhile.
    #[cold]
    fn settle(self: &Arc<Self>, mut guard: RunGuard<'_, RunnerState, QueuedJobs>) {
        loop {
            let signals = guard.signals();
            if signals.dead() {
                return drop_quietly(guard.empty());
            }
            // Taking edits may have taken messages, too; and the next run makes the edits first.
            if signals.waiting() || !guard.with(|mine| mine.batch.is_done()) {
                guard.leave();
                return run_queue::schedule(Arc::clone(self) as Arc<dyn Runnable>);
            }
            if signals.edited() {
                take(&mut guard);
                continue;
            }
            if signals.closing() {
                return drop_quietly(guard.empty());
            }
            match guard.finish() {
                Some(again) => guard = again,
                None => return,
            }
        }
    }

    fn run_next(&self, mine: &mut RunnerState) -> Option<Result<(), Failure>> {
        match mine.batch.next()? {
            Entry::Message(from, message) => {
                let receivers = &mut mine.receivers;
                let handle = || receivers.handle(from, &self.name, message, self.unmatched);
                Some(self.guarded(handle))
            }
            Entry::Marker => {
                let task = mine.tasks.pop_front()?;
                Some(self.guarded(|| task(&self.name).map_err(Failure::Died)))
            }
        }
    }

    #[inline]
    fn guarded(&self, run: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
        let _current = Current::enter(self);
        // Whatever a panic left half done belongs to this port, and it dies.
        catch(run).unwrap_or_else(|text| Err(Failure::Died(text)))
    }

    #[cold]
    fn die(&self, guard: RunGuard<'_, RunnerState, QueuedJobs>, failure: Failure) {
        let remains = guard.empty();
        (self.hooks.died)(&self.name, failure.into_reason());
        drop_quietly(remains);
    }
}

impl Runnable for CallbackCell {
    fn run(self: Arc<Self>, slice: usize) -> Option<Run> {
        let mut guard = self.state.start()?;
        let mut done = 0;
        loop {
            let signals = guard.signals();
            if signals.dead() {
                drop_quietly(guard.empty());
                return Some(Run { done, left: false });
            }
            if signals.edited() {
                take(&mut guard);
            }
            if done >= slice {
                guard.leave();
                return Some(Run { done, left: true });
            }
            match guard.with(|mine| self.run_next(mine)) {
                Some(Ok(())) => done += 1,
                Some(Err(failure)) => {
                    self.die(guard, failure);
                    return Some(Run { done, left: false });
                }
                None if signals.waiting() => take(&mut guard),
                None if signals.closing() => {
                    drop_quietly(guard.empty());
                    return Some(Run { done, left: false });
                }
                None => match guard.finish() {
                    Some(again) => guard = again,
                    None => return Some(Run { done, left: false }),
                },
            }
        }
    }

    fn pass_on(&self, ports: WaitingPorts) -> Result<(), WaitingPorts> {
        match &self.hooks.run_elsewhere {
            Some(run_elsewhere) => {
                run_elsewhere(ports);
                Ok(())
            }
            None => Err(ports),
        }
    }
}

local!(CURRENT: Cell<*const CallbackCell> = Cell::new(std::ptr::null()));

/// Makes `cell` the one that runs on this thread, until it is dropped.
struct Current<'a> {
    before: *const CallbackCell,
    now: PhantomData<&'a CallbackCell>,
}

impl<'a> Current<'a> {
    #[inline]
    fn enter(cell: &'a CallbackCell) -> Self {
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

impl fmt::Debug for CallbackCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallbackCell").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Makes the edits, and takes what waits if everything taken before was run.
fn take(guard: &mut RunGuard<'_, RunnerState, QueuedJobs>) {
    let mut edits = Vec::new();
    guard.take(|mine, waiting| {
        edits = std::mem::take(&mut waiting.edits);
        if !mine.batch.is_done() {
            return false;
        }
        mine.batch.clear();
        std::mem::swap(&mut mine.batch, &mut waiting.batch);
        mine.tasks.append(&mut waiting.tasks);
        true
    });
    for edit in edits {
        drop_quietly(guard.with(|mine| mine.receivers.apply(edit)));
    }
}
