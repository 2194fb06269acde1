//! The run queue of a thread.

use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

/// Counts how often it is woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn note(notes: &Notes, text: &'static str) -> impl FnOnce() + Send + 'static {
    let notes = Arc::clone(notes);
    move || notes.lock().push(text.to_owned())
}

#[test]
fn tasks_are_woken_once_no_lock_is_held_and_code_runs_once_nothing_else_does() {
    let notes = notes();
    let woken = Arc::new(Woken::default());
    let count = || woken.0.load(Ordering::Relaxed);
    let running = Running::begin().unwrap();
    let locked = Locked::begin();
    run_queue::wake(Some(Waker::from(woken.clone())));
    run_queue::run(note(&notes, "code"));
    assert_eq!(count(), 0);
    drop(locked);
    assert_eq!((count(), noted(&notes).len()), (1, 0));
    run_queue::wake(Some(Waker::from(woken.clone())));
    assert_eq!(count(), 2, "code that blocks must not keep tasks from what it waits for");
    drop(running);
    assert_eq!(noted(&notes), ["code"]);
}

#[test]
fn code_that_panics_keeps_nothing_waiting() {
    let notes = notes();
    let running = Running::begin().unwrap();
    run_queue::run(|| panic!("no luck"));
    run_queue::run(note(&notes, "next"));
    drop(running);
    assert_eq!(noted(&notes), ["next"]);
    assert!(Running::begin().is_some());
}

#[test]
fn what_follows_from_a_message_that_waited_comes_before_the_next_one() {
    let notes = notes();
    let running = Running::begin().unwrap();
    run_queue::call(note(&notes, "first function"));
    assert!(run_queue::keeps_messages_waiting());
    let inner = Arc::clone(&notes);
    run_queue::own_message(move || {
        run_queue::call(note(&inner, "second function"));
        inner.lock().push("call of the second".to_owned());
    });
    run_queue::own_message(note(&notes, "message"));
    drop(running);
    assert_eq!(
        noted(&notes),
        ["first function", "call of the second", "second function", "message"]
    );
    assert!(!run_queue::keeps_messages_waiting());
}
