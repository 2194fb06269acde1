//! Ports used by several threads at once.

use super::*;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

const THREADS: usize = 4;
const EACH: usize = 20_000;

/// Checks that the numbers of each thread come without holes.
#[derive(Default)]
struct Sequence(HashMap<usize, usize>);

impl Sequence {
    fn check(&mut self, (thread, count): (usize, usize)) -> Result<(), String> {
        let next = self.0.entry(thread).or_default();
        if *next != count {
            return Err(format!("{count} of thread {thread} after {next}"));
        }
        *next += 1;
        Ok(())
    }
}

#[test]
fn a_callback_port_keeps_the_order_of_every_sender() {
    let (cell, notes) = port(Unmatched::Die);
    let table = table();
    table.insert("port".into(), PortCell::Callback(Arc::clone(&cell)));
    let (inside, total) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let total_there = Arc::clone(&total);
    let mut sequence = Sequence::default();
    cell.on_default(Box::new(move |incoming| {
        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two runners");
        sequence.check(incoming.message.decode().map_err(|e| e.to_string())?)?;
        total_there.fetch_add(1, Ordering::SeqCst);
        inside.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    }));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let table = &table;
            scope.spawn(move || {
                for count in 0..EACH {
                    let held = (count % 7 == 0).then(Running::begin);
                    table.deliver(
                        "port".into(),
                        &node(),
                        &mut once(elements(&message((thread, count)))),
                    );
                    drop(held);
                }
            });
        }
    });
    assert!(noted(&notes).is_empty());
    assert_eq!(total.load(Ordering::SeqCst), THREADS * EACH);
    cell.close(CloseWhen::Now);
}

#[test]
fn a_mailbox_keeps_the_order_of_every_sender() {
    let (cell, mut inbox) = PortCell::mailbox(DEFAULT_LIMIT);
    let table = table();
    table.insert("port".into(), cell);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let table = &table;
            scope.spawn(move || {
                for count in 0..EACH {
                    table.deliver(
                        "port".into(),
                        &node(),
                        &mut once(elements(&message((thread, count)))),
                    );
                }
            });
        }
        let mut sequence = Sequence::default();
        block_on(async {
            for _ in 0..THREADS * EACH {
                let received = inbox.next().await.unwrap();
                sequence.check(received.message.decode().unwrap()).unwrap();
            }
        });
    });
    assert!(matches!(inbox.try_next(), Next::Nothing));
}

#[test]
fn what_a_port_took_before_a_kill_is_run_and_nothing_else() {
    for round in 0..200 {
        let (cell, notes) = port(Unmatched::Die);
        let table = table();
        table.insert("port".into(), PortCell::Callback(Arc::clone(&cell)));
        let run = Arc::new(AtomicUsize::new(0));
        let run_there = Arc::clone(&run);
        cell.on_default(Box::new(move |_| {
            run_there.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }));
        let taken = std::thread::scope(|scope| {
            let senders = [(); 2].map(|()| {
                scope.spawn(|| {
                    let send =
                        || table.deliver("port".into(), &node(), &mut once(elements(&message(1))));
                    (0..500).take_while(|_| send() != Delivery::NoSuchPort).count()
                })
            });
            (0..round).for_each(|_| std::thread::yield_now());
            table.close("port".into(), message("killed"), CloseWhen::AfterWaiting);
            senders.map(|sender| sender.join().unwrap()).iter().sum::<usize>()
        });
        // A message that came during the kill itself may be taken, but not run.
        let run = run.load(Ordering::SeqCst);
        assert!(run <= taken && run + 2 >= taken, "{run} of {taken}");
        assert!(noted(&notes).is_empty());
        assert_eq!(table.len(), 0);
    }
}

#[test]
fn edits_from_elsewhere_reach_a_port_that_runs() {
    let (cell, notes) = port(Unmatched::Drop);
    let got = Arc::new(AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            while got.load(Ordering::SeqCst) < 1000 {
                send(&cell, ("tag", 1));
            }
        });
        for _ in 0..100 {
            let got = Arc::clone(&got);
            cell.on(
                "tag".into(),
                Box::new(move |_| {
                    got.fetch_add(1, Ordering::SeqCst);
                    Ok(())
                }),
            );
            std::thread::yield_now();
            cell.on("other".into(), noting("never", &notes));
            cell.remove("other".into());
        }
        sender.join().unwrap();
    });
    cell.remove("tag".into());
    let before = got.load(Ordering::SeqCst);
    send(&cell, ("tag", 1));
    assert_eq!(got.load(Ordering::SeqCst), before);
    assert!(noted(&notes).is_empty());
}
