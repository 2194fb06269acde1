//! A queue from code that holds a lock to code that waits: pushing never runs anything foreign.

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// The sending end.
#[derive(Debug)]
pub(crate) struct Sender<T>(Arc<Shared<T>>);

/// The receiving end; the queue is gone when it is dropped.
#[derive(Debug)]
pub(crate) struct Receiver<T>(Arc<Shared<T>>);

#[derive(Debug)]
struct Shared<T>(Mutex<State<T>>);

#[derive(Debug)]
struct State<T> {
    items: VecDeque<T>,
    waker: Option<Waker>,
    ended: bool,
}

/// A new queue.
pub(crate) fn queue<T>() -> (Sender<T>, Receiver<T>) {
    let state = State { items: VecDeque::new(), waker: None, ended: false };
    let shared = Arc::new(Shared(Mutex::new(state)));
    (Sender(shared.clone()), Receiver(shared))
}

impl<T> Sender<T> {
    /// Adds an item. Whoever waits for it has to be woken when no lock is held any more.
    #[must_use]
    pub(crate) fn push(&self, item: T) -> Option<Waker> {
        let mut state = self.0.0.lock();
        if !state.ended {
            state.items.push_back(item);
        }
        state.waker.take()
    }

    /// No more items come.
    #[must_use]
    pub(crate) fn end(&self) -> Option<Waker> {
        let mut state = self.0.0.lock();
        state.ended = true;
        state.waker.take()
    }

    /// Whether nobody receives any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if let Some(waker) = self.end() {
            waker.wake();
        }
    }
}

impl<T> Receiver<T> {
    /// The next item; `None` once the sender has ended and everything was taken.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let mut state = self.0.0.lock();
        if let Some(item) = state.items.pop_front() {
            return Poll::Ready(Some(item));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        let new = cx.waker();
        let old = match &state.waker {
            Some(old) if old.will_wake(new) => None,
            _ => state.waker.replace(new.clone()),
        };
        drop(state);
        drop(old);
        Poll::Pending
    }

    /// The next item, if there is one already.
    pub(crate) fn try_next(&mut self) -> Option<T> {
        self.0.0.lock().items.pop_front()
    }

    /// Waits for the next item.
    pub(crate) async fn next(&mut self) -> Option<T> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }
}
