//! Every interleaving of a few threads on a mailbox and on callback ports, tried by loom.
//!
//! The same source files, once more, over loom's mutex, atomics, cells and thread-locals.
#![allow(clippy::duplicate_mod, dead_code, unused_imports, reason = "the files are the real ones")]

#[path = "../batch.rs"]
mod batch;
#[path = "../callback.rs"]
mod callback;
#[path = "../mailbox.rs"]
mod mailbox;
#[path = "../receivers.rs"]
mod receivers;
#[path = "../run_queue.rs"]
mod run_queue;
#[path = "../run_state.rs"]
mod run_state;

mod sync {
    //! loom's side of the real `sync`.

    pub(super) use loom::cell::UnsafeCell;
    use loom::sync::MutexGuard;
    pub(super) use loom::sync::atomic::{AtomicU8, Ordering};

    #[derive(Debug, Default)]
    pub(super) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(super) fn new(value: T) -> Self {
            Mutex(loom::sync::Mutex::new(value))
        }

        pub(super) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap()
        }
    }

    macro_rules! local {
        ($name:ident: $type:ty = $init:expr) => {
            loom::thread_local! {
                static $name: $type = $init;
            }
        };
    }
    pub(super) use local;
}

use super::{Delivery, PortName, elements, message, node};
use crate::value::Packed;
use callback::{CallbackCell, Hooks};
use loom::future::block_on;
use loom::thread;
use mailbox::{MailboxCell, Next};
use receivers::{Handler, Unmatched};
use run_queue::{Locked, Running};
use run_state::CloseWhen;
use std::iter::once;
use std::sync::Arc;
use std::sync::Mutex as Notebook;

/// What was run, in order; not part of what loom watches.
type Notes = Arc<Notebook<Vec<String>>>;

fn noted(notes: &Notes) -> Vec<String> {
    notes.lock().unwrap().clone()
}

fn port(name: &str, notes: &Notes) -> Arc<CallbackCell> {
    let notes = Arc::clone(notes);
    let died = move |port: &PortName, reason: Packed| {
        notes.lock().unwrap().push(format!("{port} died {reason}"));
    };
    let hooks = Hooks { died: Arc::new(died), run_elsewhere: None };
    CallbackCell::new(name.into(), Arc::new(hooks), Unmatched::Drop, 1 << 20)
}

fn noting(notes: &Notes) -> Handler {
    let notes = Arc::clone(notes);
    Box::new(move |incoming| {
        notes.lock().unwrap().push(incoming.message.to_string());
        Ok(())
    })
}

fn send(cell: &Arc<CallbackCell>, value: u32) -> Delivery {
    cell.deliver(&node(), &mut once(elements(&message(value))))
}

fn push(cell: &MailboxCell, value: u32) -> Delivery {
    cell.push(&node(), &mut once(elements(&message(value))))
}

/// Where what one thread sent stands among what was run.
fn in_order(notes: &[String], sent: &[&str]) -> bool {
    let mut of_thread = notes.iter().filter(|note| sent.contains(&note.as_str()));
    sent.iter().all(|sent| of_thread.next().is_some_and(|note| note == sent))
}

/// As `loom::model`, but a thread is interrupted three times at most: more would take too long.
fn model(run: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound.get_or_insert(3);
    model.check(run);
}

#[test]
fn a_mailbox_forgets_no_message_and_no_waiting_reader() {
    model(|| {
        let (cell, mut inbox) = MailboxCell::new(1 << 20);
        let sender = thread::spawn(move || {
            push(&cell, 1);
            push(&cell, 2);
        });
        for expected in ["[1]", "[2]"] {
            let received = block_on(inbox.next()).unwrap();
            assert_eq!(received.message.to_string(), expected);
        }
        sender.join().unwrap();
        assert!(matches!(inbox.try_next(), Next::Nothing));
    });
}

#[test]
fn a_killed_mailbox_yields_what_it_took_in_any_race() {
    model(|| {
        let (cell, mut inbox) = MailboxCell::new(1 << 20);
        let [killed, sent] = [Arc::clone(&cell), cell];
        let killer = thread::spawn(move || killed.close(message("end")));
        let sender =
            thread::spawn(move || matches!(push(&sent, 1), Delivery::Queued { .. }) as usize);
        let mut got = 0;
        let reason = loop {
            match block_on(inbox.next()) {
                Ok(_) => got += 1,
                Err(reason) => break reason,
            }
        };
        assert_eq!(reason.to_string(), r#"["end"]"#);
        killer.join().unwrap();
        assert_eq!(got, sender.join().unwrap());
    });
}

#[test]
fn a_callback_port_runs_everything_once_and_in_order() {
    model(|| {
        let notes = Notes::default();
        let cell = port("port", &notes);
        cell.on_default(noting(&notes));
        let other = Arc::clone(&cell);
        let sender = thread::spawn(move || {
            send(&other, 1);
            send(&other, 2);
        });
        send(&cell, 3);
        send(&cell, 4);
        sender.join().unwrap();
        let noted = noted(&notes);
        assert_eq!(noted.len(), 4);
        assert!(
            in_order(&noted, &["[1]", "[2]"]) && in_order(&noted, &["[3]", "[4]"]),
            "{noted:?}"
        );
    });
}

#[test]
fn what_is_held_up_on_one_thread_and_run_by_another_is_run_once() {
    model(|| {
        let notes = Notes::default();
        let cell = port("port", &notes);
        cell.on_default(noting(&notes));
        let other = Arc::clone(&cell);
        let sender = thread::spawn(move || {
            let running = Running::begin();
            send(&other, 1);
            send(&other, 2);
            drop(running);
        });
        send(&cell, 3);
        sender.join().unwrap();
        let noted = noted(&notes);
        assert_eq!(noted.len(), 3);
        assert!(in_order(&noted, &["[1]", "[2]"]), "{noted:?}");
    });
}

#[test]
fn ports_that_send_to_each_other_from_two_threads_forget_nothing() {
    model(|| {
        let notes = Notes::default();
        let [a, b] = ["a", "b"].map(|name| port(name, &notes));
        for (me, peer) in [(&a, &b), (&b, &a)] {
            let (peer, notes) = (Arc::downgrade(peer), Arc::clone(&notes));
            me.on_default(Box::new(move |incoming| {
                let (count,): (u32,) = incoming.message.decode().unwrap();
                notes.lock().unwrap().push(format!("{} {count}", incoming.port));
                if count < 2 {
                    send(&peer.upgrade().unwrap(), count + 10);
                }
                Ok(())
            }));
        }
        let other = Arc::clone(&b);
        let sender = thread::spawn(move || send(&other, 0));
        send(&a, 1);
        sender.join().unwrap();
        let mut noted = noted(&notes);
        noted.sort();
        assert_eq!(noted, ["a 1", "a 10", "b 0", "b 11"]);
        a.close(CloseWhen::Now);
        b.close(CloseWhen::Now);
    });
}

#[test]
fn an_edit_is_never_lost() {
    model(|| {
        let notes = Notes::default();
        let cell = port("port", &notes);
        let other = Arc::clone(&cell);
        let sender = thread::spawn(move || send(&other, 1));
        cell.on_default(noting(&notes));
        send(&cell, 2);
        sender.join().unwrap();
        let noted = noted(&notes);
        assert!(noted.contains(&"[2]".into()), "{noted:?}");
    });
}

#[test]
fn a_closed_port_runs_what_came_before_and_drops_its_handlers() {
    for ending in [CloseWhen::AfterWaiting, CloseWhen::Now] {
        model(move || {
            let notes = Notes::default();
            let token = Arc::new(());
            let cell = port("port", &notes);
            let (handler_token, handler_notes) = (Arc::clone(&token), Arc::clone(&notes));
            cell.on_default(Box::new(move |incoming| {
                let _kept = &handler_token;
                handler_notes.lock().unwrap().push(incoming.message.to_string());
                Ok(())
            }));
            let other = Arc::clone(&cell);
            let sender = thread::spawn(move || (send(&other, 1), send(&other, 2)));
            send(&cell, 3);
            cell.close(ending);
            assert_eq!(send(&cell, 4), Delivery::NoSuchPort);
            sender.join().unwrap();
            let noted = noted(&notes);
            if ending == CloseWhen::AfterWaiting {
                assert!(noted.contains(&"[3]".into()), "{noted:?}");
            }
            if noted.contains(&"[2]".into()) {
                assert!(noted.contains(&"[1]".into()), "{noted:?}");
            }
            assert!(!noted.contains(&"[4]".into()), "{noted:?}");
            assert_eq!(Arc::strong_count(&token), 1, "handlers are gone");
        });
    }
}

#[test]
fn a_port_that_fails_while_it_is_killed_and_sent_to_dies_at_most_once() {
    model(|| {
        let notes = Notes::default();
        let token = Arc::new(());
        let cell = port("port", &notes);
        let kept = Arc::clone(&token);
        cell.on_default(Box::new(move |_| Err(format!("{kept:?}"))));
        let [killed, sent] = [Arc::clone(&cell), Arc::clone(&cell)];
        let killer = thread::spawn(move || killed.close(CloseWhen::AfterWaiting));
        let sender = thread::spawn(move || send(&sent, 1));
        send(&cell, 2);
        killer.join().unwrap();
        sender.join().unwrap();
        assert!(noted(&notes).len() <= 1);
        assert!(cell.is_over());
        assert_eq!(Arc::strong_count(&token), 1, "handlers are gone");
    });
}

#[test]
fn a_task_and_a_message_from_another_thread_keep_their_order() {
    model(|| {
        let notes = Notes::default();
        let cell = port("port", &notes);
        let (itself, task_notes) = (Arc::clone(&cell), Arc::clone(&notes));
        let locked = Locked::begin();
        cell.push_task(Box::new(move |_| {
            itself.on_default(noting(&task_notes));
            Ok(())
        }));
        let other = Arc::clone(&cell);
        let sender = thread::spawn(move || send(&other, 1));
        drop(locked);
        sender.join().unwrap();
        assert_eq!(noted(&notes), ["[1]"], "the init function comes before any message");
        cell.close(CloseWhen::Now);
    });
}
