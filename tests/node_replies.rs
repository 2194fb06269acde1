//! The answering side of calls: typed replies, and what becomes of calls that get none.

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod node_support;

use aemp::{CallError, RecvError, Reply};
use node_support::{Log, node, pair, within};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Question {
    Double(u32),
    Nothing,
}

fn died(error: CallError) -> String {
    match error {
        CallError::Died(reason) => reason.to_string(),
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_enum_asks_and_is_asked() {
    let log = Log::of_this_process();
    let (seed, other) = pair().await;
    for caller in [seed.clone(), other] {
        let mut port = seed.port();
        let call = caller.call::<u32>(port.id(), Question::Double(21));
        let answer = tokio::spawn(call);
        let (question, reply): (Question, Reply<u32>) = within(port.recv_call()).await.unwrap();
        assert!(matches!(question, Question::Double(21)));
        reply.send(42).unwrap();
        assert_eq!(within(answer).await.unwrap().unwrap(), 42);

        let failed = tokio::spawn(caller.call::<u32>(port.id(), Question::Nothing));
        let (_, reply): (Question, Reply<u32>) = within(port.recv_call()).await.unwrap();
        reply.fail("no");
        let reason = died(within(failed).await.unwrap().unwrap_err());
        assert_eq!(reason, r#"["die", "no"]"#);

        let dropped = tokio::spawn(caller.call::<u32>(port.id(), Question::Nothing));
        drop(within(port.recv_call::<Question, ()>()).await.unwrap());
        let reason = died(within(dropped).await.unwrap().unwrap_err());
        assert_eq!(reason, r#"["die", "the call was not answered"]"#);

        let wrong = tokio::spawn(caller.call::<u32>(port.id(), ("triple", 1)));
        let error = within(port.recv_call::<Question, ()>()).await.unwrap_err();
        assert!(matches!(error, RecvError::Decode(_)));
        assert!(died(within(wrong).await.unwrap().unwrap_err()).contains("triple"));
    }
    assert_eq!(log.count("nobody monitored"), 0, "{}", log.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_answers_is_told_that_the_caller_gave_up() {
    let (seed, other) = pair().await;
    let mut port = seed.port();
    let call = tokio::spawn(other.call::<()>(port.id(), Question::Nothing));
    let (_, reply): (Question, Reply<()>) = within(port.recv_call()).await.unwrap();
    call.abort();
    within(reply.cancelled()).await;
    let call = tokio::spawn(other.call::<()>(port.id(), Question::Nothing));
    let (_, reply): (Question, Reply<()>) = within(port.recv_call()).await.unwrap();
    drop(other);
    call.abort();
    within(reply.cancelled()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_can_be_left_to_another_port() {
    #[derive(Debug, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Request {
        Get(Reply<u32>),
    }
    let node = node("n", &[]).await;
    let (mut front, mut back) = (node.port(), node.port());
    let call = tokio::spawn(node.call::<u32>(front.id(), ("get",)));
    let message = within(front.recv_message()).await.unwrap();
    assert!(message.decode::<Request>().unwrap_err().to_string().contains("decode_call"));
    let request: Request = message.decode_call(&node).unwrap();
    node.snd(back.id(), request).unwrap();
    let message = within(back.recv_message()).await.unwrap();
    let Request::Get(reply) = message.decode_call(&node).unwrap();
    reply.send(7).unwrap();
    assert_eq!(within(call).await.unwrap().unwrap(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registered_port_has_a_value_until_it_dies() {
    let (seed, other) = pair().await;
    let port = other.port();
    let entry = other.db().register_with("f", &port, ("idle", 4)).unwrap();
    // The entry is on its way to the seed.
    let mut there = seed.db().monitor("f");
    let value = loop {
        let change = within(there.next()).await.unwrap();
        if let Some(value) = change.value::<(String, u32)>(&port.id().into()).unwrap() {
            break value;
        }
    };
    assert_eq!(value, ("idle".into(), 4));
    drop(port);
    let db = other.db();
    let mut changes = db.monitor("f");
    while !within(db.keys("f")).await.unwrap().is_empty() {
        within(changes.next()).await.unwrap();
    }
    drop(entry);
}
