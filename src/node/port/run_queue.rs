//! The run queue of a thread: code of the program that waits until nothing else of the program runs on
//! this thread and no lock is held.
//!
//! Everything that a node runs for the program (ports, functions, callbacks of monitors, drops of what
//! they own, log lines) goes through here, so that it never runs under a lock, never deeper in the
//! stack than other such code, and in the order in which it was queued.

use super::sync::local;
use crate::node::panics;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::Arc;
use std::task::Waker;

/// Messages that one thread runs beyond its own before it passes the waiting ports on.
const BUDGET: usize = 4096;

/// Messages of one port that are run before the next job has its turn.
const SLICE: usize = 128;

/// Capacity of the queue above this is freed after use.
const MAX_KEPT_CAPACITY: usize = 256;

/// A port with something to run.
pub(super) trait Runnable: Send + Sync {
    /// Runs up to `slice` of what waits; `None` if somebody else does, or nothing waits.
    fn run(self: Arc<Self>, slice: usize) -> Option<Run>;

    /// Has ports run on another thread.
    ///
    /// # Errors
    /// Gives them back if there is no other thread.
    fn pass_on(&self, ports: WaitingPorts) -> Result<(), WaitingPorts>;
}

/// What became of running a port.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    /// How many messages and tasks were run.
    pub(super) done: usize,
    /// There is more, and the caller has to see to it.
    pub(super) left: bool,
}

type Code = Box<dyn FnOnce() + Send>;

enum Job {
    Port(Arc<dyn Runnable>),
    Code(Code),
    /// A function that somebody called by name.
    Call(Code),
    /// A message of this thread to its own node, which waited for such functions. What follows from
    /// it runs before what is in the queue.
    OwnMessage(Code),
}

impl Job {
    const fn keeps_messages_waiting(&self) -> bool {
        matches!(self, Job::Call(_) | Job::OwnMessage(_))
    }
}

/// What this thread is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Activity {
    /// It runs nothing of the program, as far as it is known here.
    Free,
    /// It runs something of the program, or holds a lock: what is queued has to wait.
    Busy,
    /// As [`Activity::Busy`], and the queue is not empty.
    JobsWait,
}

local!(ACTIVITY: Cell<Activity> = Cell::new(Activity::Free));
// How many locks this thread holds, and whether it is busy only because of them.
local!(LOCKS: Cell<(u32, bool)> = Cell::new((0, false)));
// How many jobs keep messages to the own node waiting.
local!(KEEPING_WAITING: Cell<usize> = Cell::new(0));
local!(JOBS: RefCell<VecDeque<Job>> = RefCell::new(VecDeque::new()));
local!(WAKERS: RefCell<Vec<Waker>> = RefCell::new(Vec::new()));

/// The right to run code of the program on this thread: what is queued meanwhile runs when this is
/// dropped.
#[derive(Debug)]
pub(crate) struct Running {
    of_this_thread: PhantomData<*const ()>,
}

impl Running {
    /// `None` if something runs already, or a lock is held, on this thread.
    #[inline]
    pub(crate) fn begin() -> Option<Running> {
        ACTIVITY.with(|activity| {
            (activity.get() == Activity::Free).then(|| {
                activity.set(Activity::Busy);
                Running { of_this_thread: PhantomData }
            })
        })
    }
}

impl Drop for Running {
    #[inline]
    fn drop(&mut self) {
        ACTIVITY.with(|activity| {
            if activity.get() == Activity::Busy {
                activity.set(Activity::Free);
            } else {
                let _free = FreeAtTheEnd;
                run_all();
            }
        });
    }
}

/// The thread is free again even if running what was queued panics.
struct FreeAtTheEnd;

impl Drop for FreeAtTheEnd {
    fn drop(&mut self) {
        ACTIVITY.with(|activity| activity.set(Activity::Free));
    }
}

/// While it lives, nothing of the program runs on this thread: to be made before a lock is taken,
/// and dropped after it was released. What was queued runs then.
#[derive(Debug)]
pub(crate) struct Locked {
    running: Option<Running>,
}

impl Locked {
    #[inline]
    pub(crate) fn begin() -> Locked {
        let running = Running::begin();
        LOCKS.with(|held| {
            let (locks, only) = held.get();
            held.set((locks + 1, running.is_some() || only));
        });
        Locked { running }
    }
}

impl Drop for Locked {
    #[inline]
    fn drop(&mut self) {
        let locks = LOCKS.with(|held| {
            let (locks, only) = held.get();
            held.set((locks - 1, only && locks > 1));
            locks - 1
        });
        if locks == 0 {
            wake_all();
        }
        drop(self.running.take());
    }
}

/// Whether something is queued on this thread.
#[inline]
pub(crate) fn jobs_wait() -> bool {
    ACTIVITY.with(Cell::get) == Activity::JobsWait
}

/// Whether this thread will run what is queued as soon as it has released its locks.
pub(super) fn runs_soon() -> bool {
    LOCKS.with(Cell::get).1
}

/// Whether messages of this thread to its own node have to wait, by [`own_message`], for functions
/// that it has called there.
#[inline]
pub(crate) fn keeps_messages_waiting() -> bool {
    KEEPING_WAITING.with(Cell::get) > 0
}

/// Runs code of the program, or drops something of it: now, or as soon as this thread may.
pub(crate) fn run(code: impl FnOnce() + Send + 'static) {
    let _running = Running::begin();
    push(Job::Code(Box::new(code)));
}

/// As [`run`], for a function that somebody called by name.
pub(crate) fn call(function: impl FnOnce() + Send + 'static) {
    let _running = Running::begin();
    push(Job::Call(Box::new(function)));
}

/// Hands a message to the own node after the functions that this thread has called there.
pub(crate) fn own_message(hand_over: impl FnOnce() + Send + 'static) {
    let _running = Running::begin();
    push(Job::OwnMessage(Box::new(hand_over)));
}

/// Wakes a task as soon as this thread holds no lock.
pub(crate) fn wake(waker: Option<Waker>) {
    let Some(waker) = waker else { return };
    if LOCKS.with(Cell::get).0 == 0 {
        return wake_now(waker);
    }
    let mut waker = Some(waker);
    let _ = WAKERS.try_with(|wakers| wakers.borrow_mut().extend(waker.take()));
    // The thread is ending and its variables are gone.
    waker.into_iter().for_each(wake_now);
}

/// Has a port run when this thread's [`Running`] or [`Locked`] is dropped.
pub(super) fn schedule(port: Arc<dyn Runnable>) {
    push(Job::Port(port));
}

fn push(job: Job) {
    let keeps_waiting = job.keeps_messages_waiting();
    let mut job = Some(job);
    if with_jobs(|jobs| jobs.extend(job.take())).is_some() {
        ACTIVITY.with(|value| value.set(Activity::JobsWait));
        KEEPING_WAITING
            .with(|value| value.set(KEEPING_WAITING.with(Cell::get) + usize::from(keeps_waiting)));
        return;
    }
    // The thread is ending and its variables are gone.
    match job {
        Some(Job::Port(port)) => while port.clone().run(usize::MAX).is_some_and(|run| run.left) {},
        Some(Job::Code(code) | Job::Call(code) | Job::OwnMessage(code)) => run_code(code),
        None => {}
    }
}

fn with_jobs<R>(f: impl FnOnce(&mut VecDeque<Job>) -> R) -> Option<R> {
    JOBS.try_with(|jobs| f(&mut jobs.borrow_mut())).ok()
}

fn run_all() {
    let mut budget = BUDGET;
    while let Some(job) = with_jobs(VecDeque::pop_front).flatten() {
        if job.keeps_messages_waiting() {
            KEEPING_WAITING.with(|value| value.set(KEEPING_WAITING.with(Cell::get) - 1));
        }
        match job {
            Job::Port(port) if budget == 0 => {
                // There is more only if it came back to this thread.
                budget = BUDGET;
                pass_on(port);
            }
            Job::Port(port) => {
                if let Some(run) = port.clone().run(SLICE) {
                    budget = budget.saturating_sub(run.done);
                    if run.left {
                        schedule(port);
                    }
                }
            }
            Job::Code(code) | Job::Call(code) => run_code(code),
            Job::OwnMessage(code) => {
                let later = with_jobs(std::mem::take).unwrap_or_default();
                run_code(code);
                with_jobs(|jobs| {
                    let new = std::mem::replace(jobs, later);
                    new.into_iter().rev().for_each(|job| jobs.push_front(job));
                });
            }
        }
    }
    with_jobs(|jobs| jobs.shrink_to(MAX_KEPT_CAPACITY));
}

/// Has this port and those that wait behind it run on another thread: what keeps itself busy must not
/// keep whoever sent the first message. Functions stay here, as their order counts.
fn pass_on(port: Arc<dyn Runnable>) {
    let mut ports = VecDeque::from([port.clone()]);
    with_jobs(|jobs| {
        for job in std::mem::take(jobs) {
            match job {
                Job::Port(port) => ports.push_back(port),
                other => jobs.push_back(other),
            }
        }
    });
    if let Err(WaitingPorts(ports)) = port.pass_on(WaitingPorts(ports)) {
        ports.into_iter().for_each(schedule);
    }
}

fn run_code(code: Code) {
    if let Err(text) = panics::catch(code) {
        tracing::error!("a callback or what it owned panicked: {text}");
    }
}

fn wake_now(waker: Waker) {
    if let Err(text) = panics::catch(|| waker.wake()) {
        tracing::error!("a task's waker panicked: {text}");
    }
}

#[inline]
fn wake_all() {
    let wakers = WAKERS.try_with(|wakers| {
        let mut wakers = wakers.borrow_mut();
        if wakers.is_empty() { Vec::new() } else { std::mem::take(&mut *wakers) }
    });
    wakers.unwrap_or_default().into_iter().for_each(wake_now);
}

/// Ports that have something to run, after this thread did its part.
pub(crate) struct WaitingPorts(VecDeque<Arc<dyn Runnable>>);

impl WaitingPorts {
    /// Runs them on this thread, for as long as one thread does.
    pub(crate) fn run(self) {
        let _running = Running::begin();
        self.0.into_iter().for_each(schedule);
    }
}
