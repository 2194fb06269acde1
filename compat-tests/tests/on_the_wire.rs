//! What an eavesdropper between two hosts can read if their nodes have a secret and nothing else.
//!
//! It takes network namespaces (root and the Debian package iproute2) and tcpdump (Debian package tcpdump).

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use aemp::{Node, PortId};
use compat_tests::cable::Cable;
use compat_tests::network::eventually;
use std::net::UdpSocket;
use std::sync::mpsc;

/// Not readable on the wire.
const MARKER: &str = "nobody on the way may read this";

/// Sent unencrypted when both nodes have ended, so that all their packets have been captured before.
const END: &str = "here ends what the two nodes have said";

/// Encrypted octets hardly ever contain text of this length.
const MIN_TEXT_LEN: usize = 20;

fn builder(id: &str) -> aemp::NodeBuilder {
    Node::builder().node_id(id).secret("geheim")
}

#[test]
fn two_lines_of_each_greeting_can_be_read_and_nothing_else() {
    let has_tcpdump = std::process::Command::new("tcpdump").arg("--version").output().is_ok();
    if !has_tcpdump {
        eprintln!("SKIPPED: there is no tcpdump (Debian package tcpdump)");
        return;
    }
    let Some(cable) = Cable::lay("wire", &[]) else { return };
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("wire.pcap");
    let file_name = file.to_str().unwrap();
    let words = ["-Z", "root", "-i", "eth0", "--immediate-mode", "-U", "-w", file_name, "ip"];
    let tcpdump = cable.start("a", "tcpdump", "tcpdump", &words);
    tcpdump.wait_for_log("listening on eth0");

    let (addressed, address) = mpsc::channel();
    let a = cable.at("a", move || async move {
        let node = builder("node-a").bind("10.99.0.1:4040").start().await.unwrap();
        let mut port = node.port();
        addressed.send(port.id()).unwrap();
        let (text, reply): (String, PortId) = port.recv().await.unwrap();
        node.db().set("wire", "key", MARKER).unwrap();
        node.snd(&reply, (text,)).unwrap();
        node.monitor(&reply).await;
    });
    let b = cable.at("b", move || async move {
        let node = builder("node-b").no_binds().seed("10.99.0.1:4040").start().await.unwrap();
        node.joined().await;
        let mut port = node.port();
        node.snd(address.recv().unwrap(), (MARKER, port.id())).unwrap();
        let (text,): (String,) = port.recv().await.unwrap();
        assert_eq!(text, MARKER);
        assert_eq!(node.status().links[0].protection.to_text_lossy(), "bound");
        node.shutdown().await;
        let end = UdpSocket::bind("10.99.0.2:0").unwrap();
        end.send_to(END.as_bytes(), "10.99.0.1:4040").unwrap();
    });
    a.join().unwrap();
    b.join().unwrap();
    let (octets, _) = eventually("the end in what tcpdump has written", || {
        let octets = std::fs::read(&file).map_err(|error| error.to_string())?;
        let has_end = octets.windows(END.len()).any(|part| part == END.as_bytes());
        if has_end { Ok(octets) } else { Err(format!("{} octets", octets.len())) }
    });
    let is_text = |octet: &u8| (b' '..=b'~').contains(octet);
    let texts: Vec<String> = octets
        .split(|octet| !is_text(octet))
        .filter(|text| text.len() >= MIN_TEXT_LEN)
        .map(|text| String::from_utf8(text.to_vec()).unwrap())
        // The end of the packet's header may happen to be text.
        .map(|text| text.find("aemp;1;").map_or(text.clone(), |at| text[at..].to_owned()))
        .filter(|text| !text.contains(END))
        .collect();
    for id in ["node-a", "node-b"] {
        let start = format!("aemp;1;{id};");
        let greeting = texts.iter().find(|text| text.starts_with(&start));
        assert!(greeting.is_some_and(|greeting| greeting.contains("bound=1")), "{texts:?}");
    }
    let is_of_greeting = |text: &&String| text.starts_with("aemp;1;node-") || is_nonce(text);
    let readable: Vec<&String> = texts.iter().filter(|text| !is_of_greeting(text)).collect();
    assert!(readable.is_empty(), "{readable:?}");
    assert_eq!(texts.iter().filter(|text| is_nonce(text)).count(), texts.len() / 2);
}

/// The second line of a greeting: 66 octets in base64.
fn is_nonce(text: &str) -> bool {
    text.len() == 88 && text.bytes().all(|c| c.is_ascii_alphanumeric() || b"+/=".contains(&c))
}
