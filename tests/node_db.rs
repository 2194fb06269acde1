//! Changes of the database with many subscribers.

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod node_support;

use aemp::value::Str;
use aemp::{CallbackPort, DbError, DbMonitor, Node, Value};
use node_support::{Gate, builder, join, until, within};

async fn slave(id: &str, framing: &str, center: &Node) -> (Node, DbMonitor) {
    let node = builder(id, &[center]).set("framing_format", vec![framing]);
    let node = join(node, true).await;
    let mut changes = node.db().monitor("family");
    assert!(within(changes.next()).await.unwrap().is_initial());
    (node, changes)
}

/// Sets values one after another, and expects each of them to be reported.
async fn change(center: &Node, values: std::ops::Range<u64>, seen_by: &mut [&mut DbMonitor]) {
    for value in values.clone() {
        center.db().set("family", "key", value).unwrap();
    }
    for changes in seen_by {
        for value in values.clone() {
            let change = within(changes.next()).await.unwrap();
            assert_eq!(change.value::<u64>(&"key".into()).unwrap(), Some(value));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_comes_to_all_subscribers_in_the_framing_of_each() {
    let center = join(builder("center", &[]), false).await;
    center.become_global();
    let (_one, mut cbor) = slave("cbor", "cbor", &center).await;
    let (_two, mut json) = slave("json", "json", &center).await;
    let (three, mut storable) = slave("storable", "storable", &center).await;
    let mut own = center.db().monitor("family");
    assert!(within(own.next()).await.unwrap().is_initial());
    change(&center, 0..200, &mut [&mut cbor, &mut json, &mut storable, &mut own]).await;

    // A node that leaves and comes back is a new entry in the list, with a new lane.
    let gone = three.id().clone();
    three.shutdown().await;
    until("the center knows", || !center.is_up(&gone)).await;
    change(&center, 200..300, &mut [&mut cbor, &mut json, &mut own]).await;
    let node = builder("storable", &[&center]).set("framing_format", vec!["json"]);
    let node = join(node, true).await;
    let mut again = node.db().monitor("family");
    let first = within(again.next()).await.unwrap();
    assert_eq!(first.value::<u64>(&"key".into()).unwrap(), Some(299));
    change(&center, 300..400, &mut [&mut cbor, &mut json, &mut again, &mut own]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_a_network_has_a_database_of_its_own() {
    let node = Node::builder().alone().start().await.unwrap();
    let db = node.db();
    db.set("eg", "key", 1).unwrap();
    assert_eq!(within(db.get::<u32>("eg", "key")).await.unwrap(), Some(1));
    assert_eq!(within(db.get::<u32>("eg", "other")).await.unwrap(), None);
    within(node.joined()).await;
}

/// Megabytes of entries, in many pieces.
fn fill(node: &Node, keys: u32) {
    let value = "v".repeat(100_000);
    (0..keys).for_each(|key| node.db().set("large", format!("{key}"), &value).unwrap());
}

async fn has_all(node: &Node, keys: usize) {
    let mut changes = node.db().monitor("large");
    let mut known = 0;
    while known < keys {
        let change = within(changes.next()).await.unwrap();
        known += change.added().count();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_many_pieces_reaches_a_master_and_from_there_a_global_node() {
    let first = join(builder("first", &[]), false).await;
    let slave = join(builder("slave", &[]), false).await;
    fill(&slave, 150);
    slave.set_seeds([Str::from(first.addresses()[0].to_string())]);
    has_all(&first, 150).await;
    // What it asks comes after its own entries have arrived.
    let keys = within(slave.db().keys("large")).await.unwrap();
    assert_eq!(keys.len(), 150);

    let second = join(builder("second", &[&first]), true).await;
    second.become_global();
    has_all(&second, 150).await;
    slave.shutdown().await;
    let is_gone = || !second.status().families.contains_key(&Str::from("large"));
    until("all is gone with its owner", is_gone).await;
}

#[tokio::test]
async fn an_entry_that_could_not_be_sent_on_is_refused() {
    let node = Node::builder().alone().start().await.unwrap();
    let nested = |levels| {
        let mut value = Value::from(1);
        for _ in 0..levels {
            value = Value::Array(vec![value]);
        }
        value
    };
    node.db().set("eg", "deep", nested(509)).unwrap();
    let refused = node.db().set("eg", "deep", nested(510)).unwrap_err();
    assert!(matches!(refused, DbError::Unsendable(_)), "{refused}");
    let refused = node.db().set("eg", "large", "x".repeat(32 << 20)).unwrap_err();
    assert!(matches!(refused, DbError::Unsendable(_)), "{refused}");
}

/// Keeps `reader` from reading what `writer` sends, until the gate is opened.
fn block(reader: &Node, writer: &Node) -> (Gate, CallbackPort) {
    let gate = Gate::closed();
    let door = gate.clone();
    // A callback that blocks keeps its node from reading what this peer sends.
    let blocks = reader.port_with(move |_: &aemp::Context<'_>, _| door.pass());
    writer.snd(blocks.id(), ("wait",)).unwrap();
    gate.wait_for_visitor();
    (gate, blocks)
}

/// The last value that [`flood`] sets.
const LAST: u64 = 60_000;

/// Sets one key again and again, for 60 MB in all.
fn flood(writer: &Node) {
    let (db, load) = (writer.db(), "x".repeat(1_000));
    for value in 0..=LAST {
        db.set("family", "key", (value, &load)).unwrap();
        if value % 1_000 == 0 {
            let waiting = writer.metrics().waiting;
            assert!(waiting < 4 << 20, "{waiting} octets wait");
        }
    }
}

/// Expects the last value, after only some of those before.
async fn last_of_some(changes: &mut DbMonitor) {
    let mut seen = 0;
    loop {
        let change = within(changes.next()).await.unwrap();
        let (value, _) = change.value::<(u64, String)>(&"key".into()).unwrap().unwrap();
        seen += 1;
        if value == LAST {
            break;
        }
    }
    assert!(seen < LAST / 2, "{seen} changes of {LAST} were sent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_waits_for_a_subscriber_that_reads_nothing_is_bounded_and_the_newest_value_arrives() {
    let center = join(builder("center", &[]), false).await;
    center.become_global();
    let (subscriber, mut changes) = slave("subscriber", "cbor", &center).await;
    let (gate, _blocks) = block(&subscriber, &center);
    flood(&center);
    gate.open();
    last_of_some(&mut changes).await;
    // All is as before: changes come one by one.
    let mut own = center.db().monitor("family");
    assert!(within(own.next()).await.unwrap().is_initial());
    change(&center, 0..50, &mut [&mut changes, &mut own]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_waits_for_a_master_that_reads_nothing_is_bounded_and_comes_before_a_question() {
    let center = join(builder("center", &[]), false).await;
    center.become_global();
    let (writer, mut own) = slave("writer", "cbor", &center).await;
    let mut changes = center.db().monitor("family");
    assert!(within(changes.next()).await.unwrap().is_initial());
    let (gate, _blocks) = block(&center, &writer);
    flood(&writer);
    let db = writer.db();
    // The master is asked before it reads on.
    let (asked, ()) = tokio::join!(within(db.get::<(u64, String)>("family", "key")), async {
        gate.open();
    });
    assert_eq!(asked.unwrap().unwrap().0, LAST);
    last_of_some(&mut changes).await;
    last_of_some(&mut own).await;
    // All is as before: changes come one by one.
    change(&writer, 0..50, &mut [&mut changes, &mut own]).await;
}
