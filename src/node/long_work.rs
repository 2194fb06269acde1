//! Work that occupies a thread for so long that other tasks should not wait for it.

use std::future::{Future, poll_fn};
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

/// Works on one of many tasks. Each poll of it needs one of the permits of `turns` until the runtime has
/// polled its sockets, or has run some tens of other tasks. So whoever else is ready waits for as many of
/// the many as there are permits, not for all of them.
pub(super) async fn in_turn<T>(turns: &Arc<Semaphore>, work: impl Future<Output = T>) -> T {
    let mut turns = PollSemaphore::new(turns.clone());
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Notify;

    #[tokio::test]
    async fn who_is_ready_waits_for_one_of_many_that_are_ready_in_turn() {
        const MANY: usize = 500;
        let (turns, begin) = (Arc::new(Semaphore::new(1)), Arc::new(Notify::new()));
        let (waiting, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        for _ in 0..MANY {
            let (turns, begin) = (turns.clone(), begin.clone());
            let (waiting, done) = (waiting.clone(), done.clone());
            tokio::spawn(async move {
                let work = async {
                    let begin = begin.notified();
                    waiting.fetch_add(1, Ordering::Relaxed);
                    begin.await;
                    done.fetch_add(1, Ordering::Relaxed);
                };
                in_turn(&turns, work).await;
            });
        }
        while waiting.load(Ordering::Relaxed) < MANY {
            yield_now().await;
        }
        begin.notify_waiters();
        let done_before = done.clone();
        let other = tokio::spawn(async move { done_before.load(Ordering::Relaxed) });
        assert_eq!(other.await.unwrap(), 1);
        while done.load(Ordering::Relaxed) < MANY {
            yield_now().await;
        }
    }
}
