//! Two nodes on a slow link, on which much is under way while a second connection is dialled.
//!
//! Each node has a network namespace of its own. If namespaces cannot be made (that takes root and iproute2),
//! or the kernel has no means to make a link slow, the tests are skipped.

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use aemp::Node;
use aemp::value::Str;
use compat_tests::cable::Cable;
use std::sync::mpsc;
use std::time::Duration;

fn builder(id: &str) -> aemp::NodeBuilder {
    Node::builder().node_id(id).secret("geheim")
}

/// The node `a` sends `b` as many messages of so many octets, one each `pause`. Meanwhile `b` takes the
/// other address of `a` for another seed, and dials it again and again.
fn arrives(cable: &Cable, messages: usize, octets: usize, pause: Duration) {
    let (addressed, address) = mpsc::channel();
    let a = cable.at("a", move || async move {
        let binds = builder("a").bind("10.99.0.1:4040").bind("10.99.0.10:4040");
        let node = binds.start().await.unwrap();
        let mut port = node.port();
        addressed.send(port.id()).unwrap();
        let (to,): (aemp::PortId,) = port.recv().await.unwrap();
        let mut lost = node.monitor(&to);
        let text = "x".repeat(octets);
        for number in 0..messages {
            node.snd(&to, (number, &text)).unwrap();
            tokio::time::sleep(pause).await;
        }
        let () = port.recv().await.unwrap();
        assert_eq!(lost.try_reason().map(|reason| reason.to_string()), None);
    });
    let b = cable.at("b", move || async move {
        let node = builder("b").no_binds().seed("10.99.0.1:4040").start().await.unwrap();
        node.joined().await;
        let to = address.recv().unwrap();
        let mut lost = node.monitor(&to);
        let mut port = node.port();
        node.snd(&to, (port.id(),)).unwrap();
        let seeds = ["10.99.0.1:4040", "10.99.0.10:4040"].map(Str::from);
        for expected in 0..messages {
            let (number, text): (usize, String) = port.recv().await.unwrap();
            assert_eq!((number, text.len()), (expected, octets));
            // The second one is dialled at once, as if it had just been added.
            node.set_seeds(&seeds);
        }
        assert_eq!(lost.try_reason().map(|reason| reason.to_string()), None);
        node.snd(&to, ()).unwrap();
        // The other end is done.
        lost.await;
    });
    a.join().unwrap();
    b.join().unwrap();
}

/// 10 Mbit/s and 100 ms each way, or where the kernel has no netem at least 10 Mbit/s.
const SLOW: &[&str] =
    &["netem rate 10mbit delay 100ms limit 10000", "tbf rate 10mbit burst 32kbit latency 8000ms"];

#[test]
fn messages_that_fill_a_slow_link_arrive_though_another_connection_is_dialled() {
    let Some(cable) = Cable::lay("fill", SLOW) else { return };
    arrives(&cable, 10, 1_000_000, Duration::from_millis(900));
}

#[test]
fn a_message_that_takes_long_on_a_slow_link_arrives_though_another_connection_is_dialled() {
    let Some(cable) = Cable::lay("long", SLOW) else { return };
    arrives(&cable, 2, 8_000_000, Duration::from_secs(1));
}

#[test]
fn messages_on_a_link_that_loses_packets_arrive_though_another_connection_is_dialled() {
    let lossy = "netem rate 10mbit delay 100ms loss 5% limit 10000";
    let Some(cable) = Cable::lay("loss", &[lossy]) else { return };
    arrives(&cable, 6, 60_000, Duration::from_millis(200));
}
