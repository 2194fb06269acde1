//! Every interleaving of calls that begin, wait and end with the death of the port that they call
//! and with the giving up of its monitor, tried by loom.
//!
//! The same source file, once more, over loom's mutex.
#![allow(clippy::duplicate_mod, dead_code, reason = "the file is the real one")]

#[path = "../replies.rs"]
mod replies;

mod sync {
    //! loom's side of the real `sync`.

    use loom::sync::MutexGuard;

    #[derive(Debug)]
    pub(super) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(super) fn new(value: T) -> Self {
            Mutex(loom::sync::Mutex::new(value))
        }

        pub(super) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap()
        }
    }

    pub(super) const SHARDS: usize = 2;

    /// Draws other letters each time; the real one takes more stack than loom's threads have.
    #[derive(Debug)]
    pub(super) struct Random(u64);

    impl Random {
        pub(super) fn new(_: [u8; 32]) -> Self {
            Random(0)
        }

        pub(super) fn entropy(&mut self) -> [u8; 32] {
            [0; 32]
        }

        pub(super) fn letters(&mut self) -> [u8; 8] {
            self.0 += 1;
            self.0.to_be_bytes()
        }
    }

    /// The same in every run, as loom wants it.
    pub(super) type Hasher = foldhash::quality::FixedState;
}

mod run_queue {
    //! Wakes at once: loom's wakers may be woken under any lock.

    pub(super) fn wake(waker: Option<std::task::Waker>) {
        waker.into_iter().for_each(std::task::Waker::wake);
    }
}

use super::{Delivery, elements, message};
use crate::kernel::MonitorId;
use crate::value::{Packed, PortId};
use loom::future::block_on;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;
use replies::{Replies, ReplyName};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};

/// A caller's node and the port that it calls.
struct World {
    replies: Replies,
    port: PortId,
    kernel: sync::Mutex<Kernel>,
    /// Whether whoever sends to the port now would be told of its death, or has been.
    guarded: AtomicBool,
}

/// As much of the kernel as calls have to do with.
struct Kernel {
    alive: bool,
    monitors: Vec<MonitorId>,
    last: u64,
}

impl World {
    fn new() -> Arc<Self> {
        Arc::new(World {
            replies: Replies::new([7; 32]),
            port: "callee#port".parse().unwrap(),
            kernel: sync::Mutex::new(Kernel { alive: true, monitors: Vec::new(), last: 0 }),
            guarded: AtomicBool::new(false),
        })
    }

    /// As `Shared::begin_call`; the message would be sent when this returns.
    fn begin(&self) -> ReplyName {
        let name = self.replies.join(&self.port).unwrap_or_else(|| {
            let mut kernel = self.kernel.lock();
            self.replies.join_or_monitor(
                &self.port,
                &mut *kernel,
                |kernel| {
                    kernel.last += 1;
                    kernel.monitors.push(MonitorId(kernel.last));
                    MonitorId(kernel.last)
                },
                |kernel| {
                    self.guarded.store(true, Ordering::SeqCst);
                    if !kernel.alive {
                        self.fire(kernel);
                    }
                },
            )
        });
        assert!(self.guarded.load(Ordering::SeqCst), "the message would go without a monitor");
        name
    }

    fn fire(&self, kernel: &mut Kernel) {
        let reason = message("died");
        let fire = |monitor| self.replies.fired(&self.port, monitor, &reason);
        kernel.monitors.drain(..).for_each(fire);
    }

    /// The called port dies.
    fn die(&self) {
        let mut kernel = self.kernel.lock();
        kernel.alive = false;
        self.fire(&mut kernel);
    }

    fn answer(&self, name: &ReplyName) -> Option<Delivery> {
        name.with_octets(|name| self.replies.deliver(name, elements(&message(1))))
    }

    fn wait(&self, name: &ReplyName) -> Result<u32, Packed> {
        let answer = block_on(poll_fn(|cx| self.replies.poll(name, cx.waker())));
        answer.map(|answer| answer.elements().decode::<(u32,)>().unwrap().0)
    }

    fn poll(&self, name: &ReplyName) -> Poll<Result<(), Packed>> {
        self.replies.poll(name, Waker::noop()).map_ok(|_| ())
    }

    /// As `Shared::end_call`.
    fn end(&self, name: &ReplyName) -> bool {
        let ended = self.replies.end(name);
        self.unmonitor(ended.unused);
        ended.listed
    }

    fn sweep(&self) {
        self.unmonitor(self.replies.sweep());
    }

    fn unmonitor(&self, unused: impl IntoIterator<Item = MonitorId>) {
        for unused in unused {
            let mut kernel = self.kernel.lock();
            kernel.monitors.retain(|monitor| *monitor != unused);
            if kernel.monitors.is_empty() && kernel.alive {
                self.guarded.store(false, Ordering::SeqCst);
            }
        }
    }

    /// Nothing is left of calls that have all ended.
    fn assert_empty(&self) {
        self.sweep();
        self.sweep();
        assert!(self.kernel.lock().monitors.is_empty());
        assert!(self.replies.is_empty());
        assert_eq!(self.replies.unlisted(), 0);
    }
}

fn spawn<R: 'static>(
    world: &Arc<World>,
    f: impl FnOnce(&World) -> R + 'static,
) -> thread::JoinHandle<R> {
    let world = world.clone();
    thread::spawn(move || f(&world))
}

/// As `loom::model`, but a thread is interrupted twice at most: more would take too long.
fn model(run: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound.get_or_insert(3);
    model.check(run);
}

#[test]
fn every_call_that_waits_when_the_port_dies_or_begins_later_fails() {
    model(|| {
        let world = World::new();
        let callers = [spawn(&world, World::begin), spawn(&world, World::begin)];
        world.die();
        for caller in callers {
            let name = caller.join().unwrap();
            assert!(matches!(world.poll(&name), Poll::Ready(Err(_))));
            assert_eq!(world.answer(&name), Some(Delivery::NoSuchPort));
            world.end(&name);
        }
        world.assert_empty();
    });
}

#[test]
fn a_monitor_is_not_given_up_while_a_call_needs_it() {
    model(|| {
        let world = World::new();
        let first = world.begin();
        world.end(&first);
        world.sweep();
        let caller = spawn(&world, |world| {
            let name = world.begin();
            // Only now would it be harmless.
            assert!(world.guarded.load(Ordering::SeqCst));
            world.end(&name);
            world.begin()
        });
        world.sweep();
        world.sweep();
        let name = caller.join().unwrap();
        assert!(world.poll(&name).is_pending());
        world.die();
        assert!(matches!(world.poll(&name), Poll::Ready(Err(_))));
        world.end(&name);
        world.assert_empty();
    });
}

#[test]
fn a_port_that_dies_while_its_monitor_is_given_up_leaves_nothing_behind() {
    model(|| {
        let world = World::new();
        let name = world.begin();
        world.end(&name);
        world.sweep();
        let sweeper = spawn(&world, World::sweep);
        let caller = spawn(&world, World::begin);
        world.die();
        let name = caller.join().unwrap();
        sweeper.join().unwrap();
        assert!(matches!(world.poll(&name), Poll::Ready(Err(_))));
        world.end(&name);
        world.assert_empty();
    });
}

#[test]
fn an_answer_or_a_death_wakes_who_waits() {
    model(|| {
        let world = World::new();
        let name = world.begin();
        let answer = spawn(&world, move |world| world.answer(&name));
        let death = spawn(&world, World::die);
        let outcome = world.wait(&name);
        let delivered = answer.join().unwrap();
        death.join().unwrap();
        match outcome {
            Ok(answer) => assert_eq!(answer, 1),
            Err(reason) => assert_eq!(reason.to_string(), message("died").to_string()),
        }
        assert!(delivered.is_some());
        world.end(&name);
        assert_eq!(world.answer(&name), None);
        world.assert_empty();
    });
}

#[test]
fn calls_end_while_their_port_dies() {
    model(|| {
        let world = World::new();
        let names = [world.begin(), world.begin()];
        let [one, two] = names.map(|name| spawn(&world, move |world| world.end(&name)));
        world.die();
        assert!(!one.join().unwrap() && !two.join().unwrap());
        world.assert_empty();
    });
}

#[test]
fn a_late_answer_is_not_taken_for_that_of_the_next_call() {
    model(|| {
        let world = World::new();
        let first = world.begin();
        let late = spawn(&world, move |world| world.answer(&first));
        world.end(&first);
        let second = world.begin();
        late.join().unwrap();
        assert!(world.poll(&second).is_pending());
        assert_eq!(world.answer(&first), None);
        assert!(world.answer(&second).is_some());
        assert_eq!(world.wait(&second).ok(), Some(1));
        world.end(&second);
        world.assert_empty();
    });
}

#[test]
fn the_kernel_is_told_of_the_end_of_just_those_reply_ports_that_it_knows() {
    model(|| {
        let world = World::new();
        let name = world.begin();
        let known = spawn(&world, move |world| name.with_octets(|name| world.replies.list(name)));
        let told = world.end(&name);
        assert_eq!(told, known.join().unwrap());
        world.assert_empty();
    });
}
