//! Nodes that have nothing but a secret are encrypted and bound to it: what is seen on the way, and what
//! somebody can do who stands there.

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod node_support;

use aemp::node::tls::{BoundTls, Rewind};
use aemp::services::streams::DataStream;
use aemp::{Node, NodeBuilder};
use node_support::{builder, join, node, until, within};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _,
};
use tokio::io::{BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

/// Not readable on the wire.
const MARKER: &str = "nobody on the way may read this";

/// A node that encrypts on loopback too.
fn encrypted(id: &str) -> NodeBuilder {
    builder(id, &[]).set("encrypt", "1")
}

fn address(node: &Node) -> SocketAddr {
    node.addresses()[0].to_string().parse().unwrap()
}

/// Somebody on the way to a node: what is done with each connection.
async fn on_the_way<F>(
    serve: impl Fn(TcpStream, TcpStream) -> F + Send + 'static,
    to: SocketAddr,
) -> String
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            if let Ok(far) = TcpStream::connect(to).await {
                tokio::spawn(serve(near, far));
            }
        }
    });
    address
}

/// What was heard of one connection, in both directions.
type Heard = Arc<Mutex<[Vec<u8>; 2]>>;

/// Passes on and remembers.
async fn tap(near: TcpStream, far: TcpStream, heard: Heard) {
    let (near, far) = (near.into_split(), far.into_split());
    let pass = async |direction: usize,
                      mut from: tokio::net::tcp::OwnedReadHalf,
                      mut to: tokio::net::tcp::OwnedWriteHalf| {
        let mut buffer = vec![0; 4096];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            heard.lock().unwrap()[direction].extend_from_slice(&buffer[..count]);
            if to.write_all(&buffer[..count]).await.is_err() {
                break;
            }
        }
    };
    tokio::join!(pass(0, near.0, far.1), pass(1, far.0, near.1));
}

#[tokio::test(flavor = "multi_thread")]
async fn on_the_way_two_greetings_can_be_seen_and_nothing_readable() {
    let seed = join(encrypted("seed"), false).await;
    let heard = Heard::default();
    let taps = heard.clone();
    let way = on_the_way(move |near, far| tap(near, far, taps.clone()), address(&seed)).await;
    let other = join(encrypted("other").seed(&way), true).await;
    let mut port = seed.port();
    other.snd(port.id(), ("text", MARKER)).unwrap();
    let (_, text): (String, String) = within(port.recv()).await.unwrap();
    assert_eq!(text, MARKER);
    for octets in heard.lock().unwrap().iter() {
        let mut lines = octets.splitn(3, |octet| *octet == b'\n');
        let (greeting, nonce, rest) = (lines.next().unwrap(), lines.next().unwrap(), lines.next());
        assert!(greeting.starts_with(b"aemp;1;") && nonce.len() == 88);
        let rest = rest.unwrap();
        assert_eq!(rest[..2], [0x16, 0x03], "TLS begins behind the greetings");
        for readable in [MARKER, "hmac", "g_slave", "seed"] {
            let is_there = rest.windows(readable.len()).any(|part| part == readable.as_bytes());
            assert!(!is_there, "{readable} can be read");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_the_key_or_with_encryption_off_is_talked_to_as_before() {
    let seed = join(encrypted("seed"), false).await;
    let heard = Heard::default();
    let taps = heard.clone();
    let way = on_the_way(move |near, far| tap(near, far, taps.clone()), address(&seed)).await;
    let plain = join(builder("plain", &[]).set("encrypt", 0).seed(&way), true).await;
    let mut port = seed.port();
    plain.snd(port.id(), ("text", MARKER)).unwrap();
    let _: (String, String) = within(port.recv()).await.unwrap();
    let heard = heard.lock().unwrap();
    assert!(heard[0].windows(MARKER.len()).any(|part| part == MARKER.as_bytes()));
}

/// Reads both lines of a greeting.
async fn greeting(stream: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut lines = Vec::new();
    for _ in 0..2 {
        stream.read_until(b'\n', &mut lines).await.ok().filter(|count| *count > 0)?;
    }
    Some(lines)
}

/// Goes on in TLS, as the other end.
async fn end_tls(
    stream: BufReader<TcpStream>,
    we_are_client: bool,
) -> Option<impl AsyncRead + AsyncWrite + Unpin> {
    let unread = stream.buffer().to_vec();
    let stream = Rewind::new(unread, stream.into_inner());
    let bound = BoundTls::new().unwrap();
    Some(bound.handshake(stream, we_are_client).await.ok()?.0.stream)
}

/// Passes the greetings on unchanged, ends the encryption on both sides, and passes on what is inside.
async fn end_the_encryption(near: TcpStream, far: TcpStream) {
    let (mut near, mut far) = (BufReader::new(near), BufReader::new(far));
    let Some((from_near, from_far)) = greeting(&mut near).await.zip(greeting(&mut far).await)
    else {
        return;
    };
    near.write_all(&from_far).await.unwrap();
    far.write_all(&from_near).await.unwrap();
    let nonce = |lines: &[u8]| lines.split(|octet| *octet == b'\n').nth(1).unwrap().to_vec();
    let near_is_client = nonce(&from_near) < nonce(&from_far);
    let ends = tokio::join!(end_tls(near, !near_is_client), end_tls(far, near_is_client));
    let (Some(mut near), Some(mut far)) = ends else { return };
    let _ = copy_bidirectional(&mut near, &mut far).await;
}

/// Takes the offer out of both greetings, so that both would go on in the clear.
async fn take_the_offer_out(near: TcpStream, far: TcpStream) {
    let (mut near, mut far) = (BufReader::new(near), BufReader::new(far));
    let Some((from_near, from_far)) = greeting(&mut near).await.zip(greeting(&mut far).await)
    else {
        return;
    };
    let without = |lines: Vec<u8>| String::from_utf8(lines).unwrap().replace(";bound=1", "");
    near.write_all(without(from_far).as_bytes()).await.unwrap();
    far.write_all(without(from_near).as_bytes()).await.unwrap();
    let _ = copy_bidirectional(&mut near, &mut far).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_changes_anything_on_the_way_gets_nowhere_and_both_nodes_go_on() {
    let seed = join(encrypted("seed"), false).await;
    let ways = [
        on_the_way(end_the_encryption, address(&seed)).await,
        on_the_way(take_the_offer_out, address(&seed)).await,
    ];
    for (number, way) in ways.iter().enumerate() {
        let refused = seed.status().refused;
        let victim = encrypted(&format!("victim{number}")).seed(way).start().await.unwrap();
        until("both have refused", || {
            seed.status().refused > refused && victim.seeds()[0].last_error.is_some()
        })
        .await;
        assert!(victim.up_nodes().is_empty());
        let honest =
            join(encrypted(&format!("honest{number}")).seed(&address(&seed).to_string()), true)
                .await;
        assert_eq!(seed.up_nodes(), [honest.id().clone()]);
        honest.shutdown().await;
        until("it has left", || seed.up_nodes().is_empty()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_connection_is_encrypted_like_those_between_nodes() {
    let seed = join(encrypted("seed"), false).await;
    seed.expose_stream("echo", |(): (), mut stream: DataStream| async move {
        assert!(stream.is_encrypted());
        let mut octets = [0; 4];
        stream.read_exact(&mut octets).await?;
        stream.write_all(&octets).await?;
        stream.shutdown().await
    });
    let other = join(encrypted("other").seed(&address(&seed).to_string()), true).await;
    let mut stream = within(other.connect_stream(seed.id(), "echo", ())).await.unwrap();
    assert!(stream.is_encrypted() && !stream.is_untrusted());
    stream.write_all(b"ping").await.unwrap();
    let mut octets = [0; 4];
    within(stream.read_exact(&mut octets)).await.unwrap();
    assert_eq!(&octets, b"ping");
}

#[tokio::test(flavor = "multi_thread")]
async fn encryption_can_be_required_with_nothing_but_a_secret_and_refuses_what_is_plain() {
    let seed = join(builder("seed", &[]).set("tls_required", 1), false).await;
    // Loopback is no exception for a peer that would do without.
    let local = node("local", &[&seed]).await;
    assert!(seed.is_up(local.id()));
    let plain = builder("plain", &[&seed]).set("encrypt", 0).start().await.unwrap();
    until("the plain one is refused", || plain.seeds()[0].last_error.is_some()).await;
    assert!(!seed.is_up(plain.id()));
}
