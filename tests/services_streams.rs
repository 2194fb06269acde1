//! Data connections between nodes in one process, over real sockets, and with a peer that sends what a
//! recorded client sent to a Perl node.

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod services_support;

use aemp::services::streams::{DataStream, StreamError};
use aemp::{Node, PortId, RecvError};
use services_support::{Introduction, Peer, builder, id, node, started, within};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

/// A function that greets and then echoes its input until the end.
fn offer_echo(node: &Node) {
    node.expose_stream("Test::echo", |(name,): (String,), stream: DataStream| async move {
        let (mut input, mut output) = tokio::io::split(stream);
        output.write_all(format!("hello {name}\n").as_bytes()).await?;
        tokio::io::copy(&mut input, &mut output).await?;
        output.shutdown().await
    });
}

async fn assert_echoes(mut stream: DataStream, greeting: &str) {
    within(async {
        let sent: Vec<u8> = (0..200_000_u32).flat_map(u32::to_be_bytes).collect();
        let expected = [greeting.as_bytes(), b"\n", &sent].concat();
        let mut received = Vec::new();
        let (mut input, mut output) = tokio::io::split(&mut stream);
        let sending = async {
            output.write_all(&sent).await.unwrap();
            output.shutdown().await.unwrap();
        };
        let (_, read) = tokio::join!(sending, input.read_to_end(&mut received));
        read.unwrap();
        assert!(received == expected, "{} octets came back", received.len());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_leads_to_the_function_it_names_in_both_directions() {
    let seed = node("seed", &[]).await;
    let slave = node("slave", &[&seed]).await;
    offer_echo(&seed);
    offer_echo(&slave);
    let up = (seed.up_nodes(), slave.up_nodes());
    for (from, to) in [(&slave, &seed), (&seed, &slave)] {
        let stream = within(from.connect_stream(to.id(), "Test::echo", ("you",))).await.unwrap();
        assert_eq!(stream.peer(), to.id());
        assert!(!stream.is_encrypted() && !stream.is_untrusted());
        assert_echoes(stream, "hello you").await;
    }
    assert_eq!((seed.up_nodes(), slave.up_nodes()), up, "a stream is no connection between nodes");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_function_knows_who_connected() {
    let seed = node("seed", &[]).await;
    let slave = node("slave", &[&seed]).await;
    seed.expose_stream("Test::who", |(): (), mut stream: DataStream| async move {
        let peer = stream.peer().to_string();
        stream.write_all(peer.as_bytes()).await?;
        stream.shutdown().await
    });
    let mut stream = within(slave.connect_stream(seed.id(), "Test::who", ())).await.unwrap();
    let mut name = String::new();
    within(stream.read_to_string(&mut name)).await.unwrap();
    assert_eq!(name, "slave");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_unconnected_slaves_can_connect_a_stream() {
    let seed = node("seed", &[]).await;
    let one = node("one", &[&seed]).await;
    let two = node("two", &[&seed]).await;
    offer_echo(&two);
    let stream = within(one.connect_stream(two.id(), "Test::echo", ("one",))).await.unwrap();
    assert_echoes(stream, "hello one").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_listens_nowhere_dials_back() {
    let seed = node("seed", &[]).await;
    let hidden = started(builder("hidden", &[&seed]).no_binds()).await;
    assert!(hidden.addresses().is_empty());
    offer_echo(&hidden);
    let stream = within(seed.connect_stream(hidden.id(), "Test::echo", ("you",))).await.unwrap();
    assert_eq!(stream.peer(), hidden.id());
    assert_echoes(stream, "hello you").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_that_listen_nowhere_get_an_error() {
    let seed = node("seed", &[]).await;
    let one = started(builder("one", &[&seed]).no_binds()).await;
    offer_echo(&one);
    let two = started(builder("two", &[&seed]).no_binds()).await;
    let error = within(two.connect_stream(one.id(), "Test::echo", ("you",))).await.unwrap_err();
    assert!(matches!(error, StreamError::Lost { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_connects_streams_to_itself() {
    let alone = node("alone", &[]).await;
    offer_echo(&alone);
    let stream = within(alone.connect_stream(alone.id(), "Test::echo", ("me",))).await.unwrap();
    assert_echoes(stream, "hello me").await;
    let error = within(alone.connect_stream(alone.id(), "No::such", ())).await.unwrap_err();
    assert!(error.to_string().contains("no function No::such"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_function_is_refused_by_name() {
    let seed = node("seed", &[]).await;
    let slave = node("slave", &[&seed]).await;
    offer_echo(&seed);
    seed.hide_stream("Test::echo");
    let error = within(slave.connect_stream(seed.id(), "Test::echo", ("x",))).await.unwrap_err();
    assert!(matches!(error, StreamError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("Test::echo"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_node_and_one_that_is_silent_are_errors() {
    let seed = node("seed", &[]).await;
    // Without a database it would wait for one.
    seed.become_global();
    let unknown = id("unknown");
    let error = within(seed.connect_stream(&unknown, "Test::echo", ())).await.unwrap_err();
    assert!(matches!(error, StreamError::Lost { .. }), "{error}");

    // It authenticates, and answers nothing.
    let mut silent = Peer::connect(&seed, &Introduction::of("silent")).await.unwrap();
    silent.send(b"[]").await;
    let call = seed.connect_stream(&id("silent"), "Test::echo", ());
    let error = within(call.timeout(Duration::from_millis(100))).await.unwrap_err();
    assert!(matches!(error, StreamError::Timeout { .. }), "{error}");
    silent.read_until(r#""AnyEvent::MP::DataConn::_expect""#).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secure_node_hands_out_no_streams() {
    let seed = started(builder("seed", &[]).bind("127.0.0.1:0").set("secure", true)).await;
    let slave = node("slave", &[&seed]).await;
    offer_echo(&seed);
    let error = within(slave.connect_stream(seed.id(), "Test::echo", ("x",))).await.unwrap_err();
    assert!(matches!(error, StreamError::Unreachable { .. }), "{error}");
}

/// Asks `to` to expect a data connection, with a port of `from` to be killed if that fails.
fn expect(from: &Node, to: &Node, data: &str, port: PortId, seconds: f64, rest: (&str, &str)) {
    let request = ("AnyEvent::MP::DataConn::_expect", data, port, seconds, rest.0, rest.1);
    from.snd(to.id(), request).unwrap();
}

async fn death(port: &mut aemp::Port) -> String {
    match within(port.recv_message()).await {
        Err(RecvError::Died(reason)) => reason.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_kill_the_port_that_waits() {
    let seed = node("seed", &[]).await;
    let slave = node("slave", &[&seed]).await;
    offer_echo(&seed);
    seed.expose_stream("Test::fails", |(): (), _: DataStream| async { Err("cannot") });
    seed.expose_stream("Test::panics", |(): (), _: DataStream| async {
        if true {
            panic!("ouch");
        }
    });
    let tag = "AnyEvent::MP::DataConn";

    let mut port = slave.port();
    expect(&slave, &seed, "a@x", port.id(), 0.05, ("Test::echo", ""));
    let reason = death(&mut port).await;
    assert!(reason.contains(tag) && reason.contains("nobody connected"), "{reason}");

    let mut port = slave.port();
    expect(&slave, &seed, "b@x", port.id(), f64::NAN, ("Test::echo", ""));
    assert!(death(&mut port).await.contains("nobody connected"));

    for (name, text) in [("Test::fails", "cannot"), ("Test::panics", "ouch")] {
        let mut port = slave.port();
        expect(&slave, &seed, "c@x", port.id(), 10.0, (name, ""));
        let _: (f64,) = within(slave.call(seed.id(), ("time",))).await.unwrap();
        let introduction = Introduction { data: Some("c@x"), ..Introduction::of("slave") };
        Peer::connect(&seed, &introduction).await.unwrap();
        let reason = death(&mut port).await;
        assert!(reason.contains(tag) && reason.contains(text), "{reason}");
    }

    // An ID can only be expected once at a time.
    let mut first = slave.port();
    expect(&slave, &seed, "d@x", first.id(), 10.0, ("Test::echo", "you"));
    let mut second = slave.port();
    expect(&slave, &seed, "d@x", second.id(), 10.0, ("Test::echo", "you"));
    assert!(death(&mut second).await.contains("expected already"));
    assert!(first.try_recv().unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unauthenticated_peer_cannot_take_or_disturb_a_stream() {
    let seed = node("seed", &[]).await;
    let slave = node("slave", &[&seed]).await;
    offer_echo(&seed);
    let mut port = slave.port();
    expect(&slave, &seed, "a@slave", port.id(), 20.0, ("Test::echo", "you"));
    let _: (f64,) = within(slave.call(seed.id(), ("time",))).await.unwrap();
    let liar = Introduction {
        data: Some("a@slave"),
        line: Some("hmac_sha3_512;00;json\n"),
        ..Introduction::of("slave")
    };
    // The node authenticates at once, and then closes.
    let mut refused = Peer::connect(&seed, &liar).await.unwrap();
    let mut rest = Vec::new();
    // Either way of closing is fine.
    let _ = within(refused.stream.read_to_end(&mut rest)).await;
    assert!(rest.is_empty() && refused.unread.is_empty());
    let stranger = Introduction { data: Some("other@slave"), ..Introduction::of("slave") };
    assert!(Peer::connect(&seed, &stranger).await.is_err(), "nobody expects this one");
    let right = Introduction { data: Some("a@slave"), ..Introduction::of("slave") };
    let mut peer = Peer::connect(&seed, &right).await.unwrap();
    peer.read_until("hello you\n").await;
    assert!(port.try_recv().unwrap().is_none());
    assert!(Peer::connect(&seed, &right).await.is_err(), "it is expected once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_shuts_down_ends_its_streams_and_expectations() {
    let seed = node("seed", &[]).await;
    let slave = node("slave", &[&seed]).await;
    offer_echo(&seed);
    let stream = within(slave.connect_stream(seed.id(), "Test::echo", ("x",))).await.unwrap();
    let mut lines = BufReader::new(stream);
    let mut line = String::new();
    within(lines.read_line(&mut line)).await.unwrap();
    within(seed.shutdown()).await;
    let mut rest = Vec::new();
    // Closed by its end or by a reset.
    let _ = within(lines.read_to_end(&mut rest)).await;
    assert!(rest.is_empty());
}

/// What the client of a recording sent on an authenticated connection, read by read.
fn said_by_client(recording: &str) -> Vec<Vec<u8>> {
    let path = format!("{}/fixtures/{recording}", env!("CARGO_MANIFEST_DIR"));
    let lines = std::fs::read_to_string(path).unwrap();
    let events = lines.lines().skip(1).map(|line| {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        (event["from"].clone(), event["hex"].as_str().unwrap().to_owned())
    });
    let client = events
        .filter(|(from, _)| from == "a")
        .map(|(_, digits)| aemp::wire::hex::decode(&digits).unwrap());
    // Without its greeting and authentication line.
    client.skip(2).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_recorded_client_of_a_perl_node_gets_the_same_from_ours() {
    let node = node("perl-b", &[]).await;
    node.expose_stream("main::dc", |(number,): (u32,), stream: DataStream| async move {
        let mut stream = BufReader::new(stream);
        stream.write_all(format!("hello from perl {number}\n").as_bytes()).await?;
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        stream.write_all(format!("got {line}").as_bytes()).await?;
        stream.shutdown().await
    });
    let mut client = Peer::connect(&node, &Introduction::of("py-1")).await.unwrap();
    let said = said_by_client("dataconn.jsonl");
    client.send(&said[0]).await;
    client.send(br#"["","snd","py-1#y","there"]"#).await;
    client.read_until(r#"["y","there"]"#).await;

    let introduction = Introduction { data: Some("b@py-1"), ..Introduction::of("py-1") };
    let mut data = Peer::connect(&node, &introduction).await.unwrap();
    for octets in said_by_client("dataconn-2.jsonl") {
        data.send(&octets).await;
    }
    data.read_until("hello from perl 7\ngot raw bytes\n").await;

    // The second one times out after a second; Perl gives no text.
    client.send(&said[1]).await;
    let killed = client.read_until("]").await;
    assert!(killed.starts_with(r#"["","kil1","x","AnyEvent::MP::DataConn","#), "{killed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_a_tls_network_are_encrypted() {
    let pem = aemp::node::tls::gencert(std::time::SystemTime::now()).unwrap();
    let secretless = |id: &str, seeds: &[&Node]| {
        let mut builder = Node::builder().node_id(id).cert(&pem).bind("127.0.0.1:0");
        for seed in seeds {
            builder = builder.seed(&seed.addresses()[0].to_string());
        }
        started(builder)
    };
    let seed = secretless("seed", &[]).await;
    let slave = secretless("slave", &[&seed]).await;
    offer_echo(&seed);
    offer_echo(&slave);
    // Which side is the TLS client is random each time.
    for _ in 0..4 {
        for (from, to) in [(&slave, &seed), (&seed, &slave)] {
            let stream = within(from.connect_stream(to.id(), "Test::echo", ("x",))).await.unwrap();
            assert!(stream.is_encrypted() && !stream.is_untrusted());
            assert_echoes(stream, "hello x").await;
        }
    }
}
