//! Mailboxes on one thread.

use super::*;

fn push(cell: &PortCell, value: impl Serialize) -> Delivery {
    let PortCell::Mailbox(cell) = cell else { unreachable!() };
    cell.push(&node(), &mut once(message(value).as_elements()))
}

fn read_all(inbox: &mut Inbox) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        match inbox.try_next() {
            Next::Message(Received { message, .. }) => all.push(message.to_string()),
            Next::Nothing => return all,
            Next::Dead(reason) => {
                all.push(format!("dead {reason}"));
                return all;
            }
        }
    }
}

#[test]
fn messages_come_out_in_order_with_their_senders() {
    let (cell, mut inbox) = PortCell::mailbox(DEFAULT_LIMIT);
    let PortCell::Mailbox(mailbox) = &cell else { unreachable!() };
    let senders = ["n/1", "n/1", "n/2", "n/1", "n/2", "n/2"];
    for round in 0..3 {
        for (count, sender) in senders.into_iter().enumerate() {
            let from = NodeId::new(sender).unwrap();
            mailbox.push(&from, &mut once(message((round, count)).as_elements()));
        }
        for (count, sender) in senders.into_iter().enumerate() {
            let Next::Message(received) = inbox.try_next() else { panic!("{round} {count}") };
            assert_eq!(received.from.as_str(), sender);
            assert_eq!(received.message.decode::<(u32, usize)>().unwrap(), (round, count));
        }
        assert!(matches!(inbox.try_next(), Next::Nothing));
    }
}

#[test]
fn a_killed_mailbox_yields_what_came_before_and_then_the_reason_for_good() {
    let (cell, mut inbox) = PortCell::mailbox(DEFAULT_LIMIT);
    push(&cell, 1);
    assert!(matches!(inbox.try_next(), Next::Message(_)));
    push(&cell, 2);
    cell.close(message("killed"), CloseWhen::Now);
    cell.close(message("too late"), CloseWhen::Now);
    assert_eq!(push(&cell, 3), Delivery::NoSuchPort);
    assert_eq!(read_all(&mut inbox), ["[2]", r#"dead ["killed"]"#]);
    assert_eq!(read_all(&mut inbox), [r#"dead ["killed"]"#]);
    let reason = block_on(inbox.next()).unwrap_err();
    assert_eq!(reason.to_string(), r#"["killed"]"#);
}

#[test]
fn too_much_overflows_once_and_leaves_no_hole() {
    let (cell, mut inbox) = PortCell::mailbox(50);
    let deliveries: Vec<_> = (0..20).map(|count| push(&cell, count)).collect();
    let taken = deliveries.iter().take_while(|d| matches!(d, Delivery::Queued { .. })).count();
    assert_eq!(deliveries[taken], Delivery::Overflow);
    assert_eq!(deliveries[taken + 1], Delivery::NoSuchPort);
    assert!(matches!(inbox.try_next(), Next::Message(_)));
    assert_eq!(push(&cell, 99), Delivery::NoSuchPort, "not even once there is room again");
    cell.close(message("overflow"), CloseWhen::Now);
    let all = read_all(&mut inbox);
    assert_eq!(all.len(), taken);
    assert_eq!(all[taken - 1], r#"dead ["overflow"]"#);
}

#[test]
fn one_message_may_be_larger_than_the_limit() {
    let (cell, mut inbox) = PortCell::mailbox(50);
    assert!(matches!(push(&cell, 1), Delivery::Queued { waiting } if waiting < 50));
    assert!(matches!(push(&cell, "x".repeat(1000)), Delivery::Queued { waiting: 1000.. }));
    assert_eq!(push(&cell, 1), Delivery::Overflow);
    assert_eq!(read_all(&mut inbox).len(), 2);
}

#[test]
fn a_mailbox_without_a_reader_takes_nothing() {
    let (cell, inbox) = PortCell::mailbox(DEFAULT_LIMIT);
    push(&cell, 1);
    drop(inbox);
    assert_eq!(push(&cell, 2), Delivery::NoSuchPort);
    let PortCell::Mailbox(cell) = cell else { unreachable!() };
    assert_eq!(cell.waiting(), 0);
}

#[test]
fn a_waiting_reader_is_woken_by_a_message_and_by_the_kill() {
    let (cell, mut inbox) = PortCell::mailbox(DEFAULT_LIMIT);
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let mut all = Vec::new();
            loop {
                match block_on(inbox.next()) {
                    Ok(received) => all.push(received.message.to_string()),
                    Err(reason) => return (all, reason.to_string()),
                }
            }
        });
        push(&cell, 1);
        push(&cell, 2);
        cell.close(message("end"), CloseWhen::Now);
        let (all, reason) = reader.join().unwrap();
        assert_eq!(all, ["[1]", "[2]"]);
        assert_eq!(reason, r#"["end"]"#);
    });
}

#[test]
fn the_last_waker_to_wait_is_woken() {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::{Context, Poll, Wake, Waker};
    #[derive(Default)]
    struct Count(AtomicU32);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let (cell, mut inbox) = PortCell::mailbox(DEFAULT_LIMIT);
    let [first, second] = [Arc::new(Count::default()), Arc::new(Count::default())];
    for count in [&first, &second, &second] {
        let waker = Waker::from(Arc::clone(count));
        assert!(inbox.poll_ready(&mut Context::from_waker(&waker)).is_pending());
    }
    push(&cell, 1);
    push(&cell, 2);
    let counts = [&first, &second].map(|count| count.0.load(Ordering::SeqCst));
    assert_eq!(counts, [0, 1]);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(matches!(inbox.poll_next(&mut cx), Poll::Ready(Ok(_))));
}

#[test]
fn a_very_large_buffer_is_not_kept() {
    let mut batch = super::super::batch::Batch::default();
    let large = message("x".repeat(1 << 20));
    assert!(batch.push(&node(), elements(&large), DEFAULT_LIMIT));
    assert!(batch.next().is_some() && batch.is_done());
    batch.clear();
    assert_eq!(batch.capacity(), 0);
    assert!(batch.push(&node(), elements(&message("x".repeat(1000))), DEFAULT_LIMIT));
    assert!(batch.next().is_some() && batch.is_done());
    batch.clear();
    assert!(batch.capacity() >= 1000);
}
