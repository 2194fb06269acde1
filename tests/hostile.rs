//! Hostile strangers and members, on real sockets: others are served as if they did not exist.

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod node_support;

use aemp::wire::auth::{Nonce, Secret};
use aemp::wire::framing::Framing;
use aemp::wire::session::{AuthOrder, Event, HandshakeConfig, Handshaker};
use aemp::{Node, NodeId};
use node_support::{Log, TIMEOUT, builder, join, node, settled, until, within};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::LazyLock;

static LOG: LazyLock<Log> = LazyLock::new(Log::of_this_process);

fn address(node: &Node) -> SocketAddr {
    node.addresses()[0].to_string().parse().unwrap()
}

/// A peer that connects and does not know the secret.
fn stranger(node: &Node) -> TcpStream {
    let stream = TcpStream::connect(address(node)).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream.set_write_timeout(Some(TIMEOUT)).unwrap();
    stream
}

/// Both lines of the node's greeting.
fn greeting_of(stream: &mut TcpStream) -> Vec<u8> {
    let mut lines = Vec::new();
    while lines.iter().filter(|octet| **octet == b'\n').count() < 2 {
        let mut octet = [0];
        stream.read_exact(&mut octet).unwrap();
        lines.push(octet[0]);
    }
    lines
}

/// Waits until the node has closed the connection; returns what it sent before.
fn closed(mut stream: TcpStream) -> Vec<u8> {
    let mut sent = Vec::new();
    match stream.read_to_end(&mut sent) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("not closed: {error}"),
    }
    sent
}

/// A member of the network that violates the protocol: an authenticated connection.
fn member(node: &Node, id: &str, sends: Framing) -> TcpStream {
    let mut config = HandshakeConfig::new(id);
    config.secret = Secret::new("secret");
    let mut octets = [0; Nonce::OCTETS];
    getrandom::fill(&mut octets).unwrap();
    // The greeting lists the framing that it wants to send.
    config.framings = vec![sends];
    let handshaker = Handshaker::new(config).unwrap();
    let mut session = handshaker.dial(Nonce::from_random(&octets), "node:1");
    let mut stream = stranger(node);
    loop {
        while let Some(octets) = session.transmit() {
            stream.write_all(&octets).unwrap();
        }
        match session.poll().unwrap() {
            Some(Event::Greeted) => session.proceed(AuthOrder::Now),
            Some(Event::Established(_)) => return stream,
            Some(other) => panic!("{other:?}"),
            None => {
                let mut piece = [0; 4096];
                let len = stream.read(&mut piece).unwrap();
                assert!(len > 0, "the node closed the connection");
                session.input().extend_from_slice(&piece[..len]);
            }
        }
    }
}

/// Checks that a node that has been connected all the time still is, and gets answers.
async fn is_served(peer: &Node, node: &Node) {
    for _ in 0..20 {
        settled(peer, node.id()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_silent_and_slow_strangers_disturb_nobody() {
    let node = join(builder("node", &[]).set("monitor_timeout", 60), false).await;
    let peer = node_support::node("peer", &[&node]).await;
    let mut lost = peer.monitor(node.id());
    let slow = b"aemp;1;slow;hmac_sha3_512;cbor;provider=AE-2.02\nnonce\nhmac_sha3_512;";
    let mut strangers = Vec::new();
    for number in 0..1500 {
        let mut stranger = stranger(&node);
        if number % 2 == 0 {
            stranger.write_all(&slow[..number % slow.len()]).unwrap();
        }
        strangers.push(stranger);
        if number % 100 == 0 {
            settled(&peer, node.id()).await;
        }
    }
    until("all strangers are there", || node.status().pending_handshakes == 1500).await;
    is_served(&peer, &node).await;
    // Honest peers are accepted meanwhile.
    let newcomer = node_support::node("newcomer", &[&node]).await;
    is_served(&newcomer, &node).await;
    let status = node.status();
    assert_eq!((status.pending_handshakes, status.displaced), (1500, 0));
    drop(strangers);
    until("they are forgotten", || node.status().pending_handshakes == 0).await;
    assert_eq!(node.up_nodes().len(), 2);
    assert!(lost.try_reason().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_connections_is_counted_and_not_written_into_the_log_line_by_line() {
    let log = &*LOG;
    let node = node("flooded", &[]).await;
    let peer = node_support::node("peer", &[&node]).await;
    let before = node.status().refused;
    for number in 0..1000 {
        let mut stranger = stranger(&node);
        if number % 2 == 0 {
            stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        }
        drop(stranger);
    }
    until("all have failed", || node.status().refused - before >= 1000).await;
    is_served(&peer, &node).await;
    let lines = log.count("node=flooded");
    // One line a second, in addition to the first ones.
    assert!((1..200).contains(&lines), "{lines} lines");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_connects_again_and_again_does_not_fill_the_log() {
    let log = &*LOG;
    let node = join(builder("often", &[]).set("encrypt", 1), false).await;
    for _ in 0..300 {
        drop(member(&node, "restless", Framing::Cbor));
    }
    let peer = node_support::node("peer", &[&node]).await;
    is_served(&peer, &node).await;
    let lines = log.count("connection with restless");
    // One line a second, in addition to the first ones.
    assert!((1..200).contains(&lines), "{lines} lines");
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_at_any_stage_ends_its_connection_and_nothing_else() {
    let node = node("node", &[]).await;
    let peer = node_support::node("peer", &[&node]).await;
    let greeting = "aemp;1;bad;hmac_sha3_512;cbor;provider=AE-2.02\nnonce\n".to_owned();
    let random: Vec<u8> =
        (0..20_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let stages: Vec<Vec<u8>> = vec![
        b"\0\n".to_vec(),
        b"\n\n\n".to_vec(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        random.clone(),
        b"aemp;1;node;;\nnonce\n".to_vec(),
        b"aemp;9;bad;hmac_sha3_512;cbor\n".to_vec(),
        vec![b'a'; 5000],
        [b"aemp;1;bad;hmac_sha3_512;cbor;".as_slice(), &[b'k'; 5000]].concat(),
        format!("aemp-dataconn;1;bad;hmac_sha3_512;cbor;dataconn_id=x\nnonce\n{greeting}").into(),
        format!("{greeting}hmac_sha3_512;{};cbor\n", "0".repeat(128)).into(),
        format!("{greeting}cleartext;00;cbor\n").into(),
        format!("{greeting};;;;;\n").into(),
        [greeting.as_bytes(), &random].concat(),
        [greeting.as_bytes(), &[b'x'; 5000]].concat(),
    ];
    for octets in stages {
        let mut stranger = stranger(&node);
        // It may be closed before all is written.
        let _ = stranger.write_all(&octets);
        closed(stranger);
        settled(&peer, node.id()).await;
    }
    is_served(&peer, &node).await;
    assert_eq!(node.up_nodes(), [peer.id().clone()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn giant_expanding_and_deeply_nested_packets_end_a_members_connection_and_cost_little() {
    let node = join(builder("node", &[]).packet_limit(8 << 20), false).await;
    let peer = node_support::node("peer", &[&node]).await;
    let storable = |image: &[u8]| {
        let len = image.len();
        [&[0x80 | (len >> 7) as u8, (len & 0x7f) as u8], image].concat()
    };
    // Each array contains the previous one twice: 2^40 elements if it were expanded.
    let mut cbor_bomb = vec![0x82, 0x41, b'p', 0x98, 41, 0xd8, 28, 0x80];
    for level in 0..40_u8 {
        let reference =
            [&[0xd8, 29][..], if level < 24 { &[][..] } else { &[0x18] }, &[level]].concat();
        cbor_bomb.extend([&[0xd8, 28, 0x82][..], &reference, &reference].concat());
    }
    let mut storable_bomb = vec![5, 11, 2, 0, 0, 0, 42, 10, 1, b'p', 4, 2, 0, 0, 0, 0];
    for level in 0..40_u8 {
        let reference = [0, 0, 0, 0, 2 + 2 * level];
        storable_bomb.extend([&[4, 2, 0, 0, 0, 2][..], &reference, &reference].concat());
    }
    let packets: Vec<(Framing, Vec<u8>)> = vec![
        (Framing::Cbor, b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff\x41p".to_vec()),
        (Framing::Cbor, b"\x82\x41p\x5b\x00\x00\x00\xff\xff\xff\xff\xff".to_vec()),
        (Framing::Cbor, [b"\x82\x41p".as_slice(), &[0x81; 100_000]].concat()),
        (Framing::Cbor, cbor_bomb),
        (Framing::Cbor, vec![0xff; 10]),
        (Framing::Json, [b"[\"p\",".as_slice(), &[b'['; 100_000]].concat()),
        (Framing::Json, [b"[\"p\",\"".as_slice(), &vec![b'x'; 9 << 20]].concat()),
        (Framing::Json, b"{\"p\":1}".to_vec()),
        (Framing::Storable, b"\xff\xff\xff\xff\x7f".to_vec()),
        (Framing::Storable, storable(b"\x05\x0b\x02\x7f\xff\xff\xff\x0a\x01p")),
        (Framing::Storable, storable(&storable_bomb)),
        (Framing::Storable, storable(b"\x05\x0b\x11\x04evil\x0a\x01p")),
    ];
    let before = resident();
    for (index, (framing, octets)) in packets.into_iter().enumerate() {
        let mut bad = member(&node, &format!("bad{index}"), framing);
        let _ = bad.write_all(&octets);
        closed(bad);
        settled(&peer, node.id()).await;
    }
    is_served(&peer, &node).await;
    assert_eq!(node.up_nodes(), [peer.id().clone()]);
    let grown = resident().saturating_sub(before) >> 20;
    assert!(grown < 200, "{grown} MiB");
}

/// Octets of memory of this process; 0 where that is not known.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kib.map_or(0, |kib| kib.parse::<usize>().unwrap() << 10)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_sends_requests_and_never_reads_is_given_up() {
    let node = join(builder("node", &[]).hard_limit(1 << 20), false).await;
    let peer = node_support::node("peer", &[&node]).await;
    let mut bad = member(&node, "bad", Framing::Json);
    let id = NodeId::new("bad").unwrap();
    until("it is up", || node.is_up(&id)).await;
    let request = format!("[\"\",\"snd\",\"bad#port\",\"{}\"]", "x".repeat(60_000));
    let asks = std::thread::spawn(move || while bad.write_all(request.as_bytes()).is_ok() {});
    until("it is given up", || asks.is_finished()).await;
    until("it is down", || !node.is_up(&id)).await;
    is_served(&peer, &node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_echo_is_answered_while_a_member_floods() {
    let node = node("node", &[]).await;
    let peer = node_support::node("peer", &[&node]).await;
    let mut bad = member(&node, "bad", Framing::Cbor);
    let id = NodeId::new("bad").unwrap();
    until("it is up", || node.is_up(&id)).await;
    // Messages to a port that is not there, and requests that do nothing.
    let packets = [&b"\x83\x44none\x43tag\x01"[..], b"\x82\x40\x47devnull"].concat().repeat(5000);
    let flood = std::thread::spawn(move || {
        let mut sent = 0_u64;
        while bad.write_all(&packets).is_ok() {
            sent += 1;
        }
        sent
    });
    is_served(&peer, &node).await;
    assert!(node.is_up(&id) && !flood.is_finished(), "it floods all the time");
    node.shutdown().await;
    assert!(flood.join().unwrap() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_handshake_cannot_be_played_again() {
    let log = &*LOG;
    let node = node("replayed", &[]).await;
    // The recording: a member's octets, as an eavesdropper gets them.
    let between = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let target = address(&node);
    let seed = between.local_addr().unwrap().to_string();
    let relay = std::thread::spawn(move || {
        let (mut one, _) = between.accept().unwrap();
        let mut other = TcpStream::connect(target).unwrap();
        let (mut from, mut to) = (other.try_clone().unwrap(), one.try_clone().unwrap());
        let back = std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        let mut recorded = Vec::new();
        let mut piece = [0; 4096];
        while let Ok(len @ 1..) = one.read(&mut piece) {
            recorded.extend_from_slice(&piece[..len]);
            if other.write_all(&piece[..len]).is_err() {
                break;
            }
        }
        let _ = other.shutdown(std::net::Shutdown::Both);
        let _ = back.join();
        recorded
    });
    let member = join(builder("recorded", &[]).seed(&seed), true).await;
    settled(&member, node.id()).await;
    member.shutdown().await;
    let recorded = tokio::task::spawn_blocking(move || relay.join().unwrap()).await.unwrap();
    assert!(recorded.starts_with(b"aemp;1;recorded;"));
    until("it is gone", || node.up_nodes().is_empty()).await;
    let mut thief = stranger(&node);
    let _ = thief.write_all(&recorded);
    closed(thief);
    let refused = |line: &str| line.contains("node=replayed") && line.contains("refused");
    until("it is refused", || log.text().lines().any(refused)).await;
    assert!(node.up_nodes().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_does_not_accept_its_own_greeting_and_token() {
    let node = node("echoed", &[]).await;
    // Each connection sends what the other one receives.
    let (mut one, mut other) = (stranger(&node), stranger(&node));
    let (to_one, to_other) = (greeting_of(&mut one), greeting_of(&mut other));
    one.write_all(&to_other).unwrap();
    other.write_all(&to_one).unwrap();
    assert!(closed(one).is_empty() && closed(other).is_empty(), "no token is sent");
    // The same with another ID: the node has sent this nonce, but on another connection.
    let (mut one, mut other) = (stranger(&node), stranger(&node));
    let (_, to_other) = (greeting_of(&mut one), greeting_of(&mut other));
    let text = String::from_utf8(to_other).unwrap();
    let renamed = text.replace(";echoed;", ";renamed;").replace("role=accept", "role=dial");
    one.write_all(renamed.as_bytes()).unwrap();
    drop(other);
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        let mut octet = [0];
        one.read_exact(&mut octet).unwrap();
        line.push(octet[0]);
    }
    // It does not accept its own token.
    one.write_all(&line).unwrap();
    closed(one);
    assert!(node.up_nodes().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_to_two_nodes_cannot_be_tied_together_to_impersonate_them() {
    let log = &*LOG;
    let (one, other) = (node("tied-1", &[]).await, node("tied-2", &[]).await);
    let (mut to_one, mut to_other) = (stranger(&one), stranger(&other));
    let (greeting, other_greeting) = (greeting_of(&mut to_one), greeting_of(&mut to_other));
    to_one.write_all(&other_greeting).unwrap();
    to_other.write_all(&greeting).unwrap();
    // Both are closed before a token is sent.
    assert!(closed(to_one).is_empty() && closed(to_other).is_empty());
    until("both say so", || log.count("somebody connected two of them") >= 2).await;
    assert!(one.up_nodes().is_empty() && other.up_nodes().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn names_with_control_characters_and_long_ones_stay_on_a_short_line_of_the_log() {
    let log = &*LOG;
    let node = node("logs", &[]).await;
    let peer = node_support::node("peer", &[&node]).await;
    let wild = "wild\u{1b}[2J\r\t\u{7}\u{202e}".replace('\r', "\u{b}");
    let long = format!("long{}", "\u{1b}x".repeat(1400));
    for id in [&wild, &long] {
        // As a stranger, and as a member that asks for something absurd.
        let mut stranger = stranger(&node);
        let greeting = format!("aemp;1;{id};hmac_sha3_512;cbor;provider=AE-2.02\nn\nhmac;;\n");
        stranger.write_all(greeting.as_bytes()).unwrap();
        closed(stranger);
        let mut member = member(&node, id, Framing::Json);
        until("it is up", || node.up_nodes().len() == 2).await;
        let name = format!("\\u001b{}\\n", "y".repeat(100_000));
        member
            .write_all(format!("[\"\",\"{name}\"][\"\",[]][\"\",\"kil1\",\"\"]{{").as_bytes())
            .unwrap();
        closed(member);
        until("it is down", || node.up_nodes().len() == 1).await;
    }
    is_served(&peer, &node).await;
    let text = log.text();
    assert!(!text.chars().any(|octet| octet.is_control() && octet != '\n'), "{text:?}");
    let longest = text.lines().map(str::len).max().unwrap_or_default();
    assert!((200..3000).contains(&longest), "{longest} octets in a line");
    assert!(log.count("wild") > 0 && log.count("long") > 0 && log.count("yyyy") > 0);
    for line in text.lines() {
        let level = ["WARN", "ERROR"].iter().any(|level| line.contains(level));
        assert!(level && line.contains("node="), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_that_claim_to_be_a_peer_neither_cut_it_off_nor_keep_it_out() {
    let node = join(builder("node", &[]).set("connect_interval", 1), false).await;
    let peer = node_support::node("peer", &[&node]).await;
    let mut lost = node.monitor(peer.id());
    let claims = [
        "aemp;1;peer;hmac_sha3_512;cbor;provider=AE-2.02\nnonce\n",
        "aemp;1;peer;hmac_sha3_512;cbor;provider=aemp-0.1.0\nnonce\n",
        "aemp;1;late;hmac_sha3_512;cbor;provider=AE-2.02\nnonce\n",
        "aemp;1;late;hmac_sha3_512;cbor;provider=aemp-0.1.0\nnonce\n",
    ];
    let strangers: Vec<TcpStream> = (0..100)
        .map(|number| {
            let mut stranger = stranger(&node);
            stranger.write_all(claims[number % claims.len()].as_bytes()).unwrap();
            stranger
        })
        .collect();
    is_served(&peer, &node).await;
    assert!(lost.try_reason().is_none());
    let late = node_support::node("late", &[&node]).await;
    is_served(&late, &node).await;
    drop(strangers);
    assert!(lost.try_reason().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_cannot_kill_a_node_replace_its_ports_or_choose_its_master() {
    for secure in [false, true] {
        let node = join(builder("node", &[]).set("secure", secure), false).await;
        let peer = node_support::node("peer", &[&node]).await;
        let port = node.port();
        let name = port.id().port().to_text_lossy().into_owned();
        let mut bad = member(&node, "bad", Framing::Json);
        let spawn = "AnyEvent::MP::_spawn";
        for request in [
            "[\"\",\"kil1\",\"\",\"by\"]".to_owned(),
            format!("[\"\",\"{spawn}\",\"\",\"f\"][\"\",\"{spawn}\",\"{name}\",\"f\"]"),
            "[\"\",\"AnyEvent::MP::Kernel::master_set\",\"bad\"]".to_owned(),
            "[\"\",\"eval\",\"exit\",\"bad#reply\"]".to_owned(),
            "[\"\",\"POSIX::_exit\",1][\"\",\"CORE::exit\"][\"\",\"g_chg1\",\"f\",{\"k\":1}]"
                .to_owned(),
        ] {
            bad.write_all(request.as_bytes()).unwrap();
        }
        // All of that was handled when this is answered, and the connection is still there.
        let id = NodeId::new("bad").unwrap();
        until("it is up", || node.is_up(&id)).await;
        bad.write_all(b"[\"\",\"snd\",\"peer\",\"devnull\"]").unwrap();
        is_served(&peer, &node).await;
        assert_ne!(node.master(), Some(id.clone()));
        assert_eq!(node.port_count(), 1, "its own port lives");
        let (known,): (bool,) = within(peer.call(node.id(), ("can", "mon1"))).await.unwrap();
        assert!(known && node.is_up(&id));
        drop((port, bad));
        node.shutdown().await;
    }
}
