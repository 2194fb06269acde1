//! A queue from code that may hold a lock to tasks that wait.
//!
//! It is bounded. Items that do not fit are combined with earlier ones that did not fit either, so
//! a slow receiver gets fewer items with the same result.

use super::port::run_queue;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// Items that are queued one by one.
const MAX_ITEMS: usize = 1000;

/// Octets of items that are queued one by one, unless a single item has more.
const MAX_OCTETS: usize = 1 << 20;

/// A type of items that can be queued.
pub(crate) trait Item: Sized {
    /// Items that did not fit, combined into one.
    type Combined: Default + std::fmt::Debug + Combined<Self>;

    /// The approximate memory that it takes, in octets.
    fn octets(&self) -> usize;
}

/// Items that did not fit.
pub(crate) trait Combined<T> {
    /// Adds an item that came after these.
    fn add(&mut self, item: T);

    /// Takes an item that stands for some or all of these; `None` if none is left.
    fn take(&mut self) -> Option<T>;
}

/// The sending end.
#[derive(Debug)]
pub(crate) struct Sender<T: Item>(Arc<Shared<T>>);

/// The receiving end; dropping it discards the queue.
#[derive(Debug)]
pub(crate) struct Receiver<T: Item>(Arc<Shared<T>>);

#[derive(Debug)]
struct Shared<T: Item>(Mutex<State<T>>);

#[derive(Debug)]
struct State<T: Item> {
    /// Each item with its octets.
    items: VecDeque<(T, usize)>,
    /// The sum of them.
    octets: usize,
    /// Items that came when the queue was full.
    combined: Option<T::Combined>,
    waker: Option<Waker>,
    ended: bool,
}

impl<T: Item> State<T> {
    fn push(&mut self, item: T) {
        if let Some(combined) = &mut self.combined {
            return combined.add(item);
        }
        let octets = item.octets();
        let sum = self.octets.saturating_add(octets);
        let is_full = self.items.len() >= MAX_ITEMS || sum > MAX_OCTETS;
        if is_full && !self.items.is_empty() {
            self.combined.get_or_insert_default().add(item);
        } else {
            self.octets = sum;
            self.items.push_back((item, octets));
        }
    }
}

pub(crate) fn queue<T: Item>() -> (Sender<T>, Receiver<T>) {
    let items = VecDeque::new();
    let state = State { items, octets: 0, combined: None, waker: None, ended: false };
    let shared = Arc::new(Shared(Mutex::new(state)));
    (Sender(shared.clone()), Receiver(shared))
}

impl<T: Item> Sender<T> {
    /// Adds an item; the waiting task is woken once this thread holds no lock.
    pub(crate) fn push(&self, item: T) {
        let waiting = {
            let mut state = self.0.0.lock();
            if !state.ended {
                state.push(item);
            }
            state.waker.take()
        };
        run_queue::wake(waiting);
    }

    /// Whether the receiver was dropped.
    pub(crate) fn is_abandoned(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

impl<T: Item> Drop for Sender<T> {
    fn drop(&mut self) {
        let waiting = {
            let mut state = self.0.0.lock();
            state.ended = true;
            state.waker.take()
        };
        run_queue::wake(waiting);
    }
}

impl<T: Item> Receiver<T> {
    /// The next item; `None` once the sender was dropped and everything was taken.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if let Some(item) = self.try_next() {
            return Poll::Ready(Some(item));
        }
        let mut state = self.0.0.lock();
        // An item may have come since `try_next`.
        if !state.items.is_empty() || state.combined.is_some() {
            drop(state);
            return self.poll_next(cx);
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
        loop {
            let mut combined = {
                let mut state = self.0.0.lock();
                if let Some((item, octets)) = state.items.pop_front() {
                    state.octets = state.octets.saturating_sub(octets);
                    return Some(item);
                }
                state.combined.take()?
            };
            // Outside the lock, since there may be many items.
            let with_octets = |item: T| {
                let octets = item.octets();
                (item, octets)
            };
            let items: VecDeque<_> =
                std::iter::from_fn(|| combined.take()).map(with_octets).collect();
            let mut state = self.0.0.lock();
            state.octets += items.iter().map(|(_, octets)| octets).sum::<usize>();
            let later = std::mem::replace(&mut state.items, items);
            state.items.extend(later);
        }
    }

    /// Waits for the next item.
    pub(crate) async fn next(&mut self) -> Option<T> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Number {
        octets: usize,
        sum: u64,
    }

    impl Item for Number {
        type Combined = Option<u64>;

        fn octets(&self) -> usize {
            self.octets
        }
    }

    impl Combined<Number> for Option<u64> {
        fn add(&mut self, item: Number) {
            *self.get_or_insert(0) += item.sum;
        }

        fn take(&mut self) -> Option<Number> {
            Option::take(self).map(|sum| Number { octets: 8, sum })
        }
    }

    fn taken(receiver: &mut Receiver<Number>) -> Vec<u64> {
        std::iter::from_fn(|| receiver.try_next()).map(|number| number.sum).collect()
    }

    #[test]
    fn what_does_not_fit_is_combined_and_the_sum_is_the_same() {
        for octets in [1, MAX_OCTETS / 10, 2 * MAX_OCTETS] {
            let (sender, mut receiver) = queue();
            for _ in 0..3 {
                (1..=5000).for_each(|sum| sender.push(Number { octets, sum }));
                let state = receiver.0.0.lock();
                assert!(state.items.len() <= MAX_ITEMS);
                assert!(state.octets <= MAX_OCTETS.max(octets));
                drop(state);
                let sums = taken(&mut receiver);
                assert_eq!(sums.iter().sum::<u64>(), 5000 * 5001 / 2);
                let one_by_one = MAX_ITEMS.min((MAX_OCTETS / octets).max(1));
                assert_eq!(sums.len(), one_by_one + 1);
                assert!(sums[..one_by_one].is_sorted());
            }
        }
    }

    #[test]
    fn a_receiver_that_keeps_up_gets_each_item() {
        let (sender, mut receiver) = queue();
        for sum in 0..5000 {
            sender.push(Number { octets: 1, sum });
            assert_eq!(taken(&mut receiver), [sum]);
        }
        drop(sender);
        assert_eq!(receiver.try_next(), None);
    }
}
