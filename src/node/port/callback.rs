//! A callback port: runs its receivers on whichever thread delivers, one message at a time.

use super::batch::{Batch, Entry};
use super::receivers::{Edit, Failure, Handler, Receivers, Unmatched};
use super::scope::{self, Current, Hold, Leftover};
use super::turn::{Ending, Handed, Held, Turn};
use super::{Delivery, PortName};
use crate::value::packed::Elements;
use crate::value::{NodeId, Packed, StrRef};
use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Waker;

/// Something that is run as a port, in order with its messages; an error or a panic kills the port.
pub(crate) type Task = Box<dyn FnOnce(&PortName) -> Result<(), String> + Send>;

/// What a port tells about a port's own death: its name and the reason. No lock is held.
pub(crate) type Died = Arc<dyn Fn(&PortName, Packed) + Send + Sync>;

/// What callback ports have to be able to tell the node; the same for all of a node.
pub(crate) struct Hooks {
    /// A port died of itself: it takes and runs nothing any more.
    pub(crate) died: Died,
    /// Has the rest of the work run on another thread; without it, it goes on on this one.
    pub(crate) run_elsewhere: Option<Box<dyn Fn(Leftover) + Send + Sync>>,
}

/// A callback port.
pub(crate) struct CallbackCell {
    turn: Turn<Mine, Waiting>,
    name: PortName,
    hooks: Arc<Hooks>,
    unmatched: Unmatched,
    limit: usize,
}

/// What whoever has the turn works with.
#[derive(Default)]
struct Mine {
    receivers: Receivers,
    batch: Batch,
    tasks: VecDeque<Task>,
}

/// What came while somebody had the turn.
#[derive(Default)]
struct Waiting {
    batch: Batch,
    tasks: VecDeque<Task>,
    edits: Vec<Edit>,
}

/// What is left to do where no lock is held, since it runs, wakes or drops user code; dropping this
/// does it.
#[derive(Default)]
#[must_use = "drop it where no lock is held"]
pub(crate) struct Later(Option<Work>);

enum Work {
    Run(Arc<CallbackCell>),
    Wake(Waker),
    Drop(Box<dyn Any + Send>),
}

impl Later {
    pub(super) fn wake(waker: Option<Waker>) -> Self {
        Later(waker.map(Work::Wake))
    }

    fn remains(held: Held<'_, Mine, Waiting>) -> Self {
        Later(Some(Work::Drop(Box::new(held.bury()))))
    }
}

impl Drop for Later {
    #[inline]
    fn drop(&mut self) {
        match self.0.take() {
            None => {}
            Some(Work::Wake(waker)) => waker.wake(),
            Some(Work::Drop(user_code)) => drop_quietly(user_code),
            Some(Work::Run(cell)) => {
                let _hold = Hold::enter();
                scope::schedule(cell);
            }
        }
    }
}

impl fmt::Debug for Later {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let work = self.0.as_ref().map(|work| match work {
            Work::Run(_) => "run",
            Work::Wake(_) => "wake",
            Work::Drop(_) => "drop",
        });
        f.debug_tuple("Later").field(&work).finish()
    }
}

/// One go at what waits for a port.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    /// How many messages and tasks were run.
    pub(super) done: usize,
    /// There is more, and it is the caller's duty.
    pub(super) left: bool,
}

impl CallbackCell {
    /// How many octets of messages wait, beyond those that are being run.
    pub(crate) fn waiting(&self) -> usize {
        self.turn.peek(|waiting| waiting.batch.size())
    }

    /// A port without receivers, in which up to `limit` octets of messages wait.
    pub(crate) fn new(
        name: PortName,
        hooks: Arc<Hooks>,
        unmatched: Unmatched,
        limit: usize,
    ) -> Arc<Self> {
        let turn = Turn::new(Mine::default(), Waiting::default());
        Arc::new(CallbackCell { turn, name, hooks, unmatched, limit })
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
        self.turn.is_over()
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

    /// Runs the receiver for each of these messages: here and now if the port is idle and nothing
    /// else runs on this thread; otherwise they wait for their turn.
    ///
    /// Messages are left over if something else has its turn first, or the port takes none.
    #[inline]
    pub(crate) fn deliver<'a>(
        self: &Arc<Self>,
        from: &NodeId,
        messages: &mut impl Iterator<Item = Elements<'a>>,
    ) -> Delivery {
        let Some(hold) = Hold::enter() else {
            return self.wait(from, messages, false);
        };
        let Some(mut held) = self.turn.start_if_idle() else {
            return self.wait(from, messages, true);
        };
        let ran = held.with(|Mine { receivers, .. }| {
            self.guarded(|| {
                for message in messages {
                    receivers.handle(from, &self.name, message, self.unmatched)?;
                    if !self.turn.is_undisturbed() || hold.has_work() {
                        break;
                    }
                }
                Ok(())
            })
        });
        match ran {
            Ok(()) => {
                if let Some(held) = held.finish() {
                    self.settle(held);
                }
            }
            Err(failure) => self.die(held, failure),
        }
        Delivery::Done
    }

    #[cold]
    #[inline(never)]
    fn wait<'a>(
        self: &Arc<Self>,
        from: &NodeId,
        messages: &mut impl Iterator<Item = Elements<'a>>,
        free: bool,
    ) -> Delivery {
        if self.turn.is_over() {
            return Delivery::NoSuchPort;
        }
        let mut delivery = Delivery::Done;
        for message in messages {
            let later;
            (delivery, later) = self.queue_if(from, message, free);
            drop(later);
            if !matches!(delivery, Delivery::Queued { .. }) {
                break;
            }
        }
        delivery
    }

    /// As [`deliver`](Self::deliver), but runs nothing: for callers that hold a lock.
    pub(crate) fn queue(
        self: &Arc<Self>,
        from: &NodeId,
        message: Elements<'_>,
    ) -> (Delivery, Later) {
        self.queue_if(from, message, true)
    }

    fn queue_if(
        self: &Arc<Self>,
        from: &NodeId,
        message: Elements<'_>,
        free: bool,
    ) -> (Delivery, Later) {
        let handed = self.turn.hand_over(|waiting| {
            let batch = &mut waiting.batch;
            batch.push(from, message, self.limit).then(|| batch.size())
        });
        let later = self.duty(&handed, free);
        let delivery = match handed {
            Handed::Over { value: waiting, .. } => Delivery::Queued { waiting },
            Handed::Full => Delivery::Overflow,
            Handed::Ended => Delivery::NoSuchPort,
        };
        (delivery, later)
    }

    /// Has something run as this port, after what came before; dropped if the port is over.
    pub(crate) fn push_task(self: &Arc<Self>, task: Task) {
        let hold = Hold::enter();
        drop(self.queue_task_if(task, hold.is_some()));
        drop(hold);
    }

    /// As [`push_task`](Self::push_task), but runs nothing: for callers that hold a lock.
    pub(crate) fn queue_task(self: &Arc<Self>, task: Task) -> Later {
        self.queue_task_if(task, true)
    }

    fn queue_task_if(self: &Arc<Self>, task: Task, free: bool) -> Later {
        let mut task = Some(task);
        let handed = self.turn.hand_over(|waiting| {
            waiting.batch.push_marker();
            waiting.tasks.extend(task.take());
            Some(())
        });
        match task {
            Some(refused) => Later(Some(Work::Drop(Box::new(refused)))),
            None => self.duty(&handed, free),
        }
    }

    /// What whoever handed something over has to do: see to it that it is run, unless somebody else
    /// does. Who was told to start before us may be held up; a free thread need not wait for it.
    fn duty<R>(self: &Arc<Self>, handed: &Handed<R>, free: bool) -> Later {
        match handed {
            Handed::Over { running: false, waited, .. } if free || !waited => {
                Later(Some(Work::Run(Arc::clone(self))))
            }
            _ => Later::default(),
        }
    }

    fn edit(self: &Arc<Self>, edit: Edit) {
        let _hold = Hold::enter();
        if self.turn.note(|waiting| waiting.edits.push(edit))
            && let Some(held) = self.turn.start()
        {
            self.settle(held);
        }
    }

    /// Runs something that is no callback of the port, but runs as it.
    pub(crate) fn as_current<R>(&self, run: impl FnOnce() -> R) -> R {
        let _current = Current::enter(self);
        run()
    }

    /// Ends the port: it takes nothing more. What it consists of comes back, unless it is running
    /// or will run: then the runner drops it. A port that closes itself does so at once.
    ///
    /// Callers may hold a lock; see [`Later`].
    pub(crate) fn close(&self, ending: Ending) -> Later {
        let itself = scope::with_current(|current| current.is_some_and(|c| std::ptr::eq(c, self)));
        let ending = if itself { Ending::Now } else { ending };
        self.turn.close(ending).map_or_else(Later::default, Later::remains)
    }

    /// Goes on with what waits; `None` if somebody else does, or nothing waits.
    pub(super) fn run(self: &Arc<Self>, slice: usize) -> Option<Run> {
        let mut held = self.turn.start()?;
        let mut done = 0;
        loop {
            let signals = held.signals();
            if signals.dead() {
                self.bury(held);
                return Some(Run { done, left: false });
            }
            if signals.edited() {
                take(&mut held);
            }
            if done >= slice {
                held.leave();
                return Some(Run { done, left: true });
            }
            match held.with(|mine| self.run_next(mine)) {
                Some(Ok(())) => done += 1,
                Some(Err(failure)) => {
                    self.die(held, failure);
                    return Some(Run { done, left: false });
                }
                None if signals.waiting() => take(&mut held),
                None if signals.closing() => {
                    self.bury(held);
                    return Some(Run { done, left: false });
                }
                None => match held.finish() {
                    Some(again) => held = again,
                    None => return Some(Run { done, left: false }),
                },
            }
        }
    }

    /// After a message was run in place: heeds what came meanwhile.
    #[cold]
    fn settle(self: &Arc<Self>, mut held: Held<'_, Mine, Waiting>) {
        loop {
            let signals = held.signals();
            if signals.dead() {
                return self.bury(held);
            }
            // Taking edits may have taken messages, too; and the next run makes the edits first.
            if signals.waiting() || !held.with(|mine| mine.batch.is_done()) {
                held.leave();
                return scope::schedule(Arc::clone(self));
            }
            if signals.edited() {
                take(&mut held);
                continue;
            }
            if signals.closing() {
                return self.bury(held);
            }
            match held.finish() {
                Some(again) => held = again,
                None => return,
            }
        }
    }

    fn run_next(&self, mine: &mut Mine) -> Option<Result<(), Failure>> {
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
        catch_unwind(AssertUnwindSafe(run))
            .unwrap_or_else(|panic| Err(Failure::Died(text_of(panic))))
    }

    #[cold]
    fn die(&self, held: Held<'_, Mine, Waiting>, failure: Failure) {
        let remains = Later::remains(held);
        (self.hooks.died)(&self.name, failure.into_reason());
        drop(remains);
    }

    fn bury(&self, held: Held<'_, Mine, Waiting>) {
        drop(Later::remains(held));
    }
}

impl fmt::Debug for CallbackCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallbackCell").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Makes the edits, and takes what waits if everything taken before was run.
fn take(held: &mut Held<'_, Mine, Waiting>) {
    let mut edits = Vec::new();
    held.take(|mine, waiting| {
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
        drop_quietly(held.with(|mine| mine.receivers.apply(edit)));
    }
}

/// Drops user code; a panic in it was reported by the panic hook and harms nobody here.
fn drop_quietly<T>(value: T) {
    let _ = catch_unwind(AssertUnwindSafe(move || drop(value)));
}

/// What a panic said.
fn text_of(panic: Box<dyn Any + Send>) -> String {
    let panic = match panic.downcast::<String>() {
        Ok(text) => return *text,
        Err(panic) => panic,
    };
    if let Some(text) = panic.downcast_ref::<&str>() {
        return (*text).to_owned();
    }
    drop_quietly(panic);
    "panic".to_owned()
}
