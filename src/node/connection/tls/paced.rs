//! Leaves processors to other tasks while many TLS handshakes are under way: anybody can cause
//! these, and each costs a key exchange.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use tokio::sync::Semaphore;

/// Bounds how many TLS handshakes are computed *at the same moment* to half of the processors that
/// the node's tasks run on, but at least one. A handshake that waits for its peer does not count,
/// so silent peers keep nobody out. Waiting handshakes get their turn in order.
#[derive(Clone, Debug)]
pub(crate) struct HandshakeLimiter(Arc<Semaphore>);

impl HandshakeLimiter {
    /// For tasks that run on this many threads.
    pub(crate) fn new(threads: usize) -> HandshakeLimiter {
        HandshakeLimiter(Arc::new(Semaphore::new((threads / 2).max(1))))
    }

    /// Runs a handshake; each of its steps waits for its turn.
    pub(crate) async fn run<F: Future>(&self, handshake: F) -> F::Output {
        let mut handshake = pin!(handshake);
        loop {
            // The semaphore lives as long as we do and is never closed.
            let turn = self.0.acquire().await.ok();
            let step = poll_fn(|cx| Poll::Ready(handshake.as_mut().poll(cx))).await;
            drop(turn);
            if let Poll::Ready(output) = step {
                return output;
            }
            // The step has registered our waker, so the next wake-up comes from the peer.
            let mut was_woken = false;
            poll_fn(|_| match std::mem::replace(&mut was_woken, true) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            })
            .await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn who_waits_for_its_peer_keeps_nobody_out() {
        let pace = HandshakeLimiter::new(1);
        let (answers, answer) = oneshot::channel();
        let silent = tokio::spawn({
            let pace = pace.clone();
            async move { pace.run(answer).await }
        });
        for _ in 0..100 {
            pace.run(tokio::task::yield_now()).await;
        }
        answers.send(7).unwrap();
        assert_eq!(silent.await.unwrap(), Ok(7));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn no_more_steps_run_at_once_than_are_allowed() {
        let pace = HandshakeLimiter::new(4);
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let handshakes: Vec<_> = (0..64)
            .map(|_| {
                let (pace, running, most) = (pace.clone(), running.clone(), most.clone());
                tokio::spawn(async move {
                    let step = || {
                        most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
                        std::thread::yield_now();
                        running.fetch_sub(1, SeqCst);
                    };
                    let handshake = async {
                        for _ in 0..8 {
                            step();
                            tokio::task::yield_now().await;
                        }
                    };
                    pace.run(handshake).await;
                })
            })
            .collect();
        for handshake in handshakes {
            handshake.await.unwrap();
        }
        assert!((1..=2).contains(&most.load(SeqCst)), "{most:?}");
    }
}
