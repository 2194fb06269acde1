//! Work that occupies a thread for so long that other tasks should not wait for it.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::ready;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Semaphore;
use tokio::task::yield_now;
use tokio_util::sync::PollSemaphore;

/// Performs work that may take long while another thread runs the other tasks of this one. On a
/// runtime with a single thread, the other tasks wait.
pub(super) fn without_keeping_others<R>(work: impl FnOnce() -> R) -> R {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// Drops what takes long to free on a thread of its own, so that no task waits for it.
pub(super) fn drop_elsewhere(runtime: &Handle, garbage: impl Send + 'static) {
    runtime.spawn_blocking(move || drop(garbage));
}

/// Limits how many of thousands of tasks, such as handshakes, are polled between two polls of the runtime's
/// sockets, so that other tasks do not wait behind all of them. A turn ends when the sockets have been polled,
/// or some tens of other tasks have run. Turns are given in order; a task that waits for its peer needs none.
#[derive(Clone, Debug)]
pub(crate) struct Turns(Arc<Semaphore>);

impl Turns {
    /// So many at a time, but at least one.
    pub(crate) fn new(at_a_time: usize) -> Self {
        Turns(Arc::new(Semaphore::new(at_a_time.max(1))))
    }

    /// Does a task's work; each poll of it waits for a turn.
    pub(crate) async fn run<T>(&self, work: impl Future<Output = T>) -> T {
        let mut turns = PollSemaphore::new(self.0.clone());
        let mut work = pin!(work);
        poll_fn(|cx| {
            let turn = ready!(turns.poll_acquire(cx));
            let result = work.as_mut().poll(cx);
            tokio::spawn(async move {
                yield_now().await;
                drop(turn);
            });
            result
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering::SeqCst;
    use tokio::sync::{Notify, oneshot};

    #[tokio::test]
    async fn who_is_ready_waits_for_one_of_many_that_are_ready_in_turn() {
        const MANY: usize = 500;
        let (turns, begin) = (Turns::new(1), Arc::new(Notify::new()));
        let (waiting, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        for _ in 0..MANY {
            let (turns, begin) = (turns.clone(), begin.clone());
            let (waiting, done) = (waiting.clone(), done.clone());
            tokio::spawn(async move {
                let work = async {
                    let begin = begin.notified();
                    waiting.fetch_add(1, SeqCst);
                    begin.await;
                    done.fetch_add(1, SeqCst);
                };
                turns.run(work).await;
            });
        }
        while waiting.load(SeqCst) < MANY {
            yield_now().await;
        }
        begin.notify_waiters();
        let done_before = done.clone();
        let other = tokio::spawn(async move { done_before.load(SeqCst) });
        assert_eq!(other.await.unwrap(), 1);
        while done.load(SeqCst) < MANY {
            yield_now().await;
        }
    }

    #[tokio::test]
    async fn who_waits_for_its_peer_keeps_nobody_out() {
        let turns = Turns::new(1);
        let (answers, answer) = oneshot::channel();
        let silent = tokio::spawn({
            let turns = turns.clone();
            async move { turns.run(answer).await }
        });
        for _ in 0..100 {
            turns.run(yield_now()).await;
        }
        answers.send(7).unwrap();
        assert_eq!(silent.await.unwrap(), Ok(7));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn no_more_steps_run_at_once_than_are_allowed() {
        let turns = Turns::new(2);
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let handshakes: Vec<_> = (0..64)
            .map(|_| {
                let (turns, running, most) = (turns.clone(), running.clone(), most.clone());
                tokio::spawn(async move {
                    let step = || {
                        most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
                        std::thread::yield_now();
                        running.fetch_sub(1, SeqCst);
                    };
                    let handshake = async {
                        for _ in 0..8 {
                            step();
                            yield_now().await;
                        }
                    };
                    turns.run(handshake).await;
                })
            })
            .collect();
        for handshake in handshakes {
            handshake.await.unwrap();
        }
        assert!((1..=2).contains(&most.load(SeqCst)), "{most:?}");
    }
}
