//! Callback ports on one thread.

use super::*;
use std::cell::Cell;

#[test]
fn a_tagged_receiver_gets_what_follows_its_tag_and_the_default_everything_else() {
    let (cell, notes) = port(Unmatched::Die);
    cell.on("ping".into(), noting("ping", &notes));
    cell.on_default(noting("default", &notes));
    assert_eq!(send(&cell, ("ping", 1)), Delivery::Done);
    send(&cell, ("pong", 2));
    send(&cell, ());
    assert_eq!(noted(&notes), ["ping [1]", r#"default ["pong", 2]"#, "default []"]);
}

#[test]
fn a_handler_sees_the_sender_the_port_and_the_whole_message() {
    let (cell, notes) = port(Unmatched::Die);
    let noted_there = Arc::clone(&notes);
    cell.on(
        "tag".into(),
        Box::new(move |incoming| {
            let Incoming { from, port, whole, .. } = incoming;
            noted_there.lock().push(format!("{} {port} {whole}", from.as_str()));
            Ok(())
        }),
    );
    send(&cell, ("tag", "x"));
    assert_eq!(noted(&notes), [r#"other/node port ["tag", "x"]"#]);
}

#[test]
fn tags_match_as_perl_strings_do() {
    let (cell, notes) = port(Unmatched::Drop);
    let long = "a tag that is far longer than twenty-three octets";
    for tag in ["café", "42", "", long] {
        cell.on(tag.into(), noting("got", &notes));
    }
    send(&cell, (serde_bytes::Bytes::new(b"caf\xe9"), 1));
    send(&cell, ("café", 2));
    send(&cell, (42, 3));
    send(&cell, (None::<u8>, 4));
    send(&cell, (long, 5));
    send(&cell, ([42], 6));
    assert_eq!(noted(&notes), ["got [1]", "got [2]", "got [3]", "got [4]", "got [5]"]);
}

#[test]
fn many_tags_are_found_replaced_and_removed_like_few() {
    let (cell, notes) = port(Unmatched::Drop);
    for count in 0..100 {
        cell.on(format!("tag{count}").as_str().into(), noting("old", &notes));
    }
    cell.on("tag50".into(), noting("new", &notes));
    cell.remove("tag3".into());
    cell.remove("tag77".into());
    for count in [3, 7, 50, 77, 99] {
        send(&cell, (format!("tag{count}"), count));
    }
    assert_eq!(noted(&notes), ["old [7]", "new [50]", "old [99]"]);
}

#[test]
fn without_a_default_an_unmatched_message_kills_the_port() {
    let (cell, notes) = port(Unmatched::Die);
    cell.on("known".into(), noting("known", &notes));
    send(&cell, ("naïve\ttag of more than thirty characters", 1));
    assert_eq!(send(&cell, ("known", 2)), Delivery::NoSuchPort);
    assert!(cell.is_over());
    let text = "no callback found for message 'na.ve.tag of more than thirty ' from other/node";
    assert_eq!(noted(&notes), [format!(r#"port ["unhandled_message", "{text}"]"#)]);
}

#[test]
fn an_unmatched_message_without_a_tag_shows_an_empty_one() {
    let (cell, notes) = port(Unmatched::Die);
    send(&cell, ());
    assert_eq!(
        noted(&notes),
        [r#"port ["unhandled_message", "no callback found for message '' from other/node"]"#]
    );
}

#[test]
fn a_spawned_port_with_tags_only_drops_what_does_not_match() {
    let (cell, notes) = port(Unmatched::Drop);
    cell.on("known".into(), noting("known", &notes));
    assert_eq!(send(&cell, ("unknown", 1)), Delivery::Done);
    send(&cell, ("known", 2));
    assert_eq!(noted(&notes), ["known [2]"]);
}

#[test]
fn an_error_and_a_panic_kill_the_port_with_their_text() {
    let fail: [(Handler, &str); 3] = [
        (Box::new(|_| Err("no luck\n".into())), "no luck"),
        (Box::new(|_| panic!("no {}", "hope")), "no hope"),
        (Box::new(|_| std::panic::panic_any(7)), "panic"),
    ];
    for (handler, text) in fail {
        let (cell, notes) = port(Unmatched::Die);
        let kept = DropNote("tagged", Arc::clone(&notes));
        cell.on("t".into(), Box::new(move |_| Err(kept.name())));
        cell.on_default(handler);
        assert_eq!(send(&cell, 1), Delivery::Done);
        assert_eq!(send(&cell, 2), Delivery::NoSuchPort);
        assert_eq!(noted(&notes), [format!(r#"port ["die", "{text}"]"#), "dropped tagged".into()]);
    }
}

#[test]
fn a_port_that_fails_drops_what_waits_for_it() {
    let (cell, notes) = port(Unmatched::Die);
    let running = Running::begin().unwrap();
    send(&cell, "unmatched");
    let dropped = DropNote("task", Arc::clone(&notes));
    cell.push_task(Box::new(move |_| Err(dropped.name())));
    drop(running);
    assert_eq!(noted(&notes).len(), 2, "one death, one drop");
}

#[test]
fn messages_to_oneself_are_run_later_and_in_order() {
    let (cell, notes) = port(Unmatched::Die);
    let (itself, noted_there) = (Arc::clone(&cell), Arc::clone(&notes));
    cell.on_default(Box::new(move |incoming| {
        let (count,): (u32,) = incoming.message.decode().map_err(|e| e.to_string())?;
        noted_there.lock().push(format!("begin {count}"));
        if count < 2 {
            assert!(matches!(send(&itself, count + 1), Delivery::Queued { .. }));
            assert!(matches!(send(&itself, 7), Delivery::Queued { .. }));
        }
        noted_there.lock().push(format!("end {count}"));
        Ok(())
    }));
    send(&cell, 1);
    let order = ["begin 1", "end 1", "begin 2", "end 2", "begin 7", "end 7"];
    assert_eq!(noted(&notes), order);
    cell.close(CloseWhen::Now);
}

#[test]
fn edits_made_by_a_handler_hold_for_the_next_message() {
    let (cell, notes) = port(Unmatched::Drop);
    let (itself, noted_there) = (Arc::clone(&cell), Arc::clone(&notes));
    let replaced = DropNote("first", Arc::clone(&notes));
    cell.on_default(Box::new(move |_| {
        let _kept = &replaced;
        send(&itself, ("tag", 2));
        itself.on("tag".into(), noting("tag", &noted_there));
        itself.on_default(noting("second", &noted_there));
        noted_there.lock().push("first".into());
        Ok(())
    }));
    send(&cell, 1);
    send(&cell, 3);
    assert_eq!(noted(&notes), ["first", "dropped first", "tag [2]", "second [3]"]);
}

#[test]
fn a_replaced_handler_may_use_the_port_when_it_is_dropped() {
    struct Farewell(Arc<CallbackCell>);
    impl Drop for Farewell {
        fn drop(&mut self) {
            send(&self.0, "farewell");
            self.0.remove("nothing".into());
        }
    }
    let (cell, notes) = port(Unmatched::Drop);
    let farewell = Farewell(Arc::clone(&cell));
    cell.on_default(Box::new(move |_| {
        let _kept = &farewell;
        Ok(())
    }));
    cell.on_default(noting("default", &notes));
    assert_eq!(noted(&notes), [r#"default ["farewell"]"#]);
}

#[test]
fn a_port_that_closes_itself_runs_nothing_more() {
    for ending in [CloseWhen::Now, CloseWhen::AfterWaiting] {
        let (cell, notes) = port(Unmatched::Die);
        let (itself, noted_there) = (Arc::clone(&cell), Arc::clone(&notes));
        let dropped = DropNote("handler", Arc::clone(&notes));
        cell.on_default(Box::new(move |incoming| {
            let _kept = &dropped;
            noted_there.lock().push(incoming.message.to_string());
            send(&itself, 2);
            itself.close(ending);
            assert_eq!(send(&itself, 3), Delivery::NoSuchPort);
            Ok(())
        }));
        send(&cell, 1);
        assert_eq!(noted(&notes), ["[1]", "dropped handler"]);
    }
}

#[test]
fn a_port_closed_by_another_still_runs_what_was_sent_before_unless_told_otherwise() {
    for (ending, expected) in
        [(CloseWhen::AfterWaiting, &["got [1]", "got [2]"][..]), (CloseWhen::Now, &[])]
    {
        let (cell, notes) = port(Unmatched::Die);
        cell.on_default(noting("got", &notes));
        let running = Running::begin().unwrap();
        send(&cell, 1);
        send(&cell, 2);
        cell.close(ending);
        assert_eq!(send(&cell, 3), Delivery::NoSuchPort);
        cell.close(CloseWhen::AfterWaiting);
        drop(running);
        assert_eq!(noted(&notes), expected);
    }
}

#[test]
fn an_idle_port_that_is_closed_drops_its_handlers_once_no_lock_is_held() {
    let (cell, notes) = port(Unmatched::Die);
    let dropped = DropNote("handler", Arc::clone(&notes));
    cell.on_default(Box::new(move |_| Err(dropped.name())));
    let locked = Locked::begin();
    cell.close(CloseWhen::AfterWaiting);
    assert!(noted(&notes).is_empty());
    drop(locked);
    assert_eq!(noted(&notes), ["dropped handler"]);
}

#[test]
fn tasks_run_as_the_port_in_order_with_messages() {
    let (cell, notes) = port(Unmatched::Drop);
    let running = Running::begin().unwrap();
    let (itself, noted_there) = (Arc::clone(&cell), Arc::clone(&notes));
    cell.push_task(Box::new(move |port| {
        noted_there.lock().push(format!("init {port} {:?}", current_port(itself.hooks())));
        itself.on("ping".into(), noting("ping", &noted_there));
        Ok(())
    }));
    assert!(matches!(send(&cell, ("ping", 1)), Delivery::Queued { .. }));
    let noted_there = Arc::clone(&notes);
    cell.push_task(Box::new(move |_| {
        noted_there.lock().push("monitor".into());
        Err("gone".into())
    }));
    send(&cell, ("ping", 2));
    assert!(noted(&notes).is_empty(), "held up");
    drop(running);
    let expected = [r#"init port Some("port")"#, "ping [1]", "monitor", r#"port ["die", "gone"]"#];
    assert_eq!(noted(&notes), expected);
}

#[test]
fn the_current_port_is_that_of_the_same_node_and_only_while_it_runs() {
    let (cell, notes) = port(Unmatched::Drop);
    let (hooks, others) = (Arc::clone(cell.hooks()), hooks(&notes));
    let noted_there = Arc::clone(&notes);
    cell.on_default(Box::new(move |_| {
        let current = [&hooks, &others].map(current_port);
        noted_there.lock().push(format!("{current:?}"));
        panic!("done");
    }));
    send(&cell, ());
    assert_eq!(noted(&notes)[0], r#"[Some("port"), None]"#);
    assert_eq!(current_port(cell.hooks()), None);
}

#[test]
fn too_much_for_a_callback_port_overflows_once_and_leaves_no_hole() {
    let notes = notes();
    let cell = CallbackCell::new("port".into(), hooks(&notes), Unmatched::Die, 100);
    cell.on_default(noting("got", &notes));
    let running = Running::begin().unwrap();
    let deliveries: Vec<_> = (0..40).map(|count| send(&cell, count)).collect();
    let taken = deliveries.iter().take_while(|d| matches!(d, Delivery::Queued { .. })).count();
    assert!(taken > 5, "{taken}");
    assert_eq!(deliveries[taken], Delivery::Overflow);
    assert!(deliveries[taken + 1..].iter().all(|d| *d == Delivery::NoSuchPort));
    drop(running);
    assert_eq!(noted(&notes).len(), taken);
}

#[test]
fn a_million_nested_sends_do_not_grow_the_stack() {
    thread_local!(static DEEPEST: Cell<usize> = const { Cell::new(usize::MAX) });
    let notes = notes();
    let table = Arc::new(table());
    let left = Arc::new(Mutex::new(1_000_000_u32));
    for (name, peer) in [("a", "b"), ("b", "a")] {
        let cell = CallbackCell::new(name.into(), hooks(&notes), Unmatched::Die, DEFAULT_LIMIT);
        let (table_there, left) = (Arc::downgrade(&table), Arc::clone(&left));
        cell.on_default(Box::new(move |incoming| {
            let here = 0_u8;
            DEEPEST.set(DEEPEST.get().min(std::ptr::from_ref(&here).addr()));
            let mut left = left.lock();
            *left -= 1;
            if *left > 0 {
                let table = table_there.upgrade().ok_or("no table")?;
                table.deliver(peer.into(), incoming.from, &mut once(incoming.whole));
            }
            Ok(())
        }));
        assert!(table.insert(name.into(), PortCell::Callback(cell)));
    }
    let here = 0_u8;
    table.deliver("a".into(), &node(), &mut once(elements(&message("ball"))));
    assert_eq!(*left.lock(), 0);
    assert!(std::ptr::from_ref(&here).addr() - DEEPEST.get() < 64 << 10);
    assert!(noted(&notes).is_empty());
}

#[test]
fn ports_that_go_on_among_themselves_are_passed_on_after_a_while() {
    let notes = notes();
    let passed: Arc<Mutex<Vec<WaitingPorts>>> = Arc::default();
    let passed_there = Arc::clone(&passed);
    let hooks = Arc::new(Hooks {
        died: Arc::new(|_, _| {}),
        run_elsewhere: Some(Box::new(move |leftover| passed_there.lock().push(leftover))),
    });
    let cell = CallbackCell::new("port".into(), hooks, Unmatched::Die, DEFAULT_LIMIT);
    let count = Arc::new(Mutex::new(0));
    let (itself, count_there) = (Arc::clone(&cell), Arc::clone(&count));
    cell.on_default(Box::new(move |incoming| {
        *count_there.lock() += 1;
        if *count_there.lock() < 10_000 {
            itself.deliver(incoming.from, &mut once(incoming.whole));
        }
        Ok(())
    }));
    send(&cell, "again");
    assert!((1_000..10_000).contains(&*count.lock()), "{count:?}");
    while let Some(leftover) = { passed.lock().pop() } {
        std::thread::spawn(move || leftover.run()).join().unwrap();
    }
    assert_eq!(*count.lock(), 10_000);
    cell.close(CloseWhen::Now);
    assert!(noted(&notes).is_empty());
}

#[test]
fn ports_that_wait_on_one_thread_take_turns() {
    let notes = notes();
    let order: Arc<Mutex<String>> = Arc::default();
    let [a, b] = ["a", "b"].map(|name| {
        let cell = CallbackCell::new(name.into(), hooks(&notes), Unmatched::Die, DEFAULT_LIMIT);
        let order = Arc::clone(&order);
        cell.on_default(Box::new(move |incoming| {
            order.lock().push_str(&incoming.port.to_text_lossy());
            Ok(())
        }));
        cell
    });
    let running = Running::begin().unwrap();
    (0..1000).for_each(|_| assert!(matches!(send(&a, 1), Delivery::Queued { .. })));
    send(&b, 1);
    drop(running);
    let order = order.lock();
    assert_eq!(order.len(), 1001);
    assert!(order.find('b').unwrap() < 500, "b need not wait for all of a");
}

#[test]
fn what_is_queued_under_a_lock_is_run_once_that_is_released() {
    let (cell, notes) = port(Unmatched::Die);
    let (itself, noted_there) = (Arc::clone(&cell), Arc::clone(&notes));
    let locked = Locked::begin();
    let inner = Locked::begin();
    cell.push_task(Box::new(move |_| {
        itself.on_default(noting("got", &noted_there));
        Ok(())
    }));
    assert!(matches!(send(&cell, 1), Delivery::Queued { .. }));
    cell.close(CloseWhen::AfterWaiting);
    let dropped = DropNote("task", Arc::clone(&notes));
    cell.push_task(Box::new(move |_| Err(dropped.name())));
    assert_eq!(send(&cell, 2), Delivery::NoSuchPort);
    drop(inner);
    assert!(noted(&notes).is_empty());
    drop(locked);
    assert_eq!(noted(&notes), ["got [1]", "dropped task"]);
}
