//! Ports by name.

use super::*;
use crate::value::StrRef;

#[test]
fn octets_and_text_are_one_name() {
    let table = table();
    let (cell, mut inbox) = PortCell::mailbox(DEFAULT_LIMIT);
    let name = StrRef::octets(b"caf\xe9");
    assert!(table.insert(name, cell));
    assert!(!table.insert("café".into(), PortCell::Service));
    for name in ["café".into(), name, "café".into(), name] {
        let delivery = table.deliver(name, &node(), &mut once(elements(&message(1))));
        assert!(matches!(delivery, Delivery::Queued { .. }));
        assert!(matches!(inbox.try_next(), Next::Message(_)));
    }
    assert!(table.close(name, message("x"), CloseWhen::Now));
    assert!(!table.close(name, message("x"), CloseWhen::Now));
    assert!(table.get("café".into()).is_none());
}

#[test]
fn what_is_not_for_a_port_is_the_callers() {
    let table = table();
    assert!(table.insert("".into(), PortCell::Service));
    let deliver =
        |name: &str| table.deliver(name.into(), &node(), &mut once(elements(&message(1))));
    for _ in 0..4 {
        assert_eq!(deliver(""), Delivery::Service);
        assert_eq!(deliver("nobody"), Delivery::NoSuchPort);
    }
    assert_eq!(table.len(), 1);
}

#[test]
fn a_name_that_is_used_again_reaches_the_new_port() {
    let table = table();
    for round in 0..5 {
        let (cell, mut inbox) = PortCell::mailbox(DEFAULT_LIMIT);
        assert!(table.insert("again".into(), cell));
        for count in 0..5 {
            table.deliver("again".into(), &node(), &mut once(elements(&message((round, count)))));
            let Next::Message(received) = inbox.try_next() else { panic!("{round} {count}") };
            assert_eq!(received.message.decode::<(u32, u32)>().unwrap(), (round, count));
        }
        table.close("again".into(), message("x"), CloseWhen::Now);
        let delivery = table.deliver("again".into(), &node(), &mut once(elements(&message(1))));
        assert_eq!(delivery, Delivery::NoSuchPort);
    }
}

#[test]
fn tables_do_not_get_each_others_messages() {
    let tables = [table(), table()];
    let mut inboxes = tables.each_ref().map(|table| {
        let (cell, inbox) = PortCell::mailbox(DEFAULT_LIMIT);
        table.insert("port".into(), cell);
        inbox
    });
    for count in 0..20 {
        let which = count / 5 % 2;
        tables[which].deliver("port".into(), &node(), &mut once(elements(&message(count))));
        assert!(matches!(inboxes[which].try_next(), Next::Message(_)));
        assert!(matches!(inboxes[1 - which].try_next(), Next::Nothing));
    }
}

#[test]
fn dropping_the_table_closes_its_ports() {
    let notes = notes();
    let table = table();
    let (cell, mut inbox) = PortCell::mailbox(DEFAULT_LIMIT);
    table.insert("mailbox".into(), cell);
    let (cell, _) = port(Unmatched::Die);
    let dropped = DropNote("handler", Arc::clone(&notes));
    cell.on_default(Box::new(move |_| {
        let _kept = &dropped;
        Ok(())
    }));
    table.insert("callback".into(), PortCell::Callback(cell));
    for _ in 0..4 {
        table.deliver("callback".into(), &node(), &mut once(elements(&message(1))));
    }
    drop(table);
    assert!(matches!(inbox.try_next(), Next::Dead(_)));
    assert_eq!(noted(&notes), ["dropped handler"]);
}
