//! Metrics, health check and status page over HTTP: their content, and the requests that they refuse.

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod node_support;
mod services_support;

use aemp::node::HandshakeOutcome;
use aemp::services::metrics::serve;
use aemp::{Node, NodeBuilder};
use node_support::{builder, join, node, pair, settled, until, within};
use serde_json::Value as Json;
use services_support::{Introduction, Peer};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A name that would do harm wherever it is not escaped.
const HOSTILE: &str = "<script>alert(1)</script>\"\\\u{1b}[31m\u{202e}";

async fn served(node: &Node) -> SocketAddr {
    serving(node, false).await
}

async fn serving(node: &Node, values: bool) -> SocketAddr {
    serve(node, &"127.0.0.1:0".parse().unwrap(), values).await.unwrap()[0]
}

async fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // The server may close before it has read all of a request that it refuses.
    let _ = within(stream.read_to_end(&mut answer)).await;
    String::from_utf8(answer).unwrap()
}

async fn get(address: SocketAddr, path: &str) -> String {
    exchange(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n")).await
}

/// The body of a response, which has to be a success.
async fn body(address: SocketAddr, path: &str) -> String {
    let answer = get(address, path).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

async fn json(address: SocketAddr, path: &str) -> Json {
    serde_json::from_str(&body(address, path).await).unwrap()
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
}

/// The value of a series.
fn value(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

fn global(id: &str) -> NodeBuilder {
    builder(id, &[]).set("services", vec!["AnyEvent::MP::Global::"])
}

#[tokio::test(flavor = "multi_thread")]
async fn packets_are_counted_on_both_sides_of_a_connection() {
    let (seed, other) = pair().await;
    let port = seed.port();
    for number in 0..100 {
        other.snd(port.id(), ("msg", number)).unwrap();
    }
    settled(&other, seed.id()).await;
    let sent = other.metrics();
    let link = &sent.links[0];
    assert!(link.packets > 100 && link.octets > 1_000, "{link:?}");
    until("all is counted", || {
        let received = seed.metrics();
        received.links[0].received_packets >= link.packets
            && received.links[0].received_octets >= link.octets
    })
    .await;
    let text = body(served(&seed).await, "/metrics").await;
    let received = value(&text, "aemp_peer_received_packets_total{peer=\"other\"}").unwrap();
    assert!(received > 100.0);
    assert!(value(&text, "aemp_received_packets_total").unwrap() >= received);
    assert_eq!(value(&text, "aemp_connections"), Some(1.0));
    assert!(value(&text, "aemp_ports_waiting_bytes").unwrap() > 0.0);
    assert!(value(&text, "process_open_fds").is_none_or(|files| files > 2.0));
    drop(port);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operations_page_explains_each_series() {
    let node = node("a", &[]).await;
    let text = body(served(&node).await, "/metrics").await;
    let page = include_str!("../docs/operations.md");
    let helps = text.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next());
    let names: Vec<&str> = helps.collect();
    assert!(names.len() > 30, "{names:?}");
    let explained =
        |name: &&str| page.contains(&format!("`{name}`")) || page.contains(&format!("`{name}{{"));
    let unexplained: Vec<_> = names.iter().filter(|name| !explained(name)).collect();
    assert!(unexplained.is_empty(), "{unexplained:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_series_of_a_lost_peer_disappear_and_the_totals_stay() {
    let (seed, other) = pair().await;
    settled(&other, seed.id()).await;
    let address = served(&seed).await;
    let before = body(address, "/metrics").await;
    let sum = |text: &str| value(text, "aemp_received_packets_total").unwrap();
    other.shutdown().await;
    until("the peer is gone", || seed.up_nodes().is_empty()).await;
    let after = body(address, "/metrics").await;
    assert!(before.contains("peer=\"other\"") && !after.contains("peer=\"other\""), "{after}");
    assert!(sum(&after) >= sum(&before) && sum(&before) > 0.0);
    assert_eq!(value(&after, "aemp_connections_lost_total"), Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_are_counted_by_how_they_end() {
    let seed = node("seed", &[]).await;
    let count = |dialled, outcome| {
        let all = seed.metrics().handshakes;
        let found = all.iter().find(|count| count.dialled == dialled && count.outcome == outcome);
        found.unwrap().count
    };
    let _friend = node("friend", &[&seed]).await;
    let stranger = builder("stranger", &[&seed]).secret("another").start().await.unwrap();
    until("all have tried", || {
        count(false, HandshakeOutcome::Up) == 1
            && count(false, HandshakeOutcome::Unauthenticated)
                + count(false, HandshakeOutcome::Closed)
                > 0
    })
    .await;
    drop(stranger);
    let mut stream = TcpStream::connect(seed.addresses()[0].to_string()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    until("garbage is counted", || count(false, HandshakeOutcome::Protocol) == 1).await;
    assert_eq!(count(true, HandshakeOutcome::Up), 0);
    assert!(
        body(served(&seed).await, "/metrics")
            .await
            .contains("aemp_handshakes_total{dialled=\"0\",outcome=\"protocol\"} 1\n")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_healthy_while_it_is_global_or_has_a_master() {
    let seed = node("seed", &[]).await;
    let address = served(&seed).await;
    assert!(body(address, "/health").await == "ok\n", "a node without seeds waits for others");
    let lonely = builder("lonely", &[]).seed("127.0.0.1:1").start().await.unwrap();
    let address = served(&lonely).await;
    let answer = get(address, "/health").await;
    assert_eq!(status(&answer), 503, "{answer}");
    let why = "no global node is connected; of 1 configured seeds 0 are connected";
    assert!(answer.contains(why), "{answer}");
    let with_reason = format!("{why}: 127.0.0.1:1 (Connection refused");
    while !get(address, "/health").await.contains(&with_reason) {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    lonely.set_seeds(seed.addresses());
    within(lonely.joined()).await;
    assert_eq!(body(address, "/health").await, "ok\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_a_figure_and_its_dates_are_warnings_before_they_make_the_node_unhealthy()
{
    const DAY: Duration = Duration::from_secs(86_400);
    // Certificates are valid from a day before they are made, for 3650 days.
    for (made, healthy, warning) in [
        (SystemTime::now() - DAY, true, None),
        (SystemTime::now() - 3640 * DAY, true, Some("expires in")),
        (SystemTime::now() - 3651 * DAY, false, Some("expired on")),
        (SystemTime::now() + 3 * DAY, false, Some("is valid only from")),
    ] {
        let pem = aemp::node::tls::gencert(made).unwrap();
        let node = global("n").cert(&pem).start().await.unwrap();
        let address = served(&node).await;
        let text = body(address, "/metrics").await;
        let expires = made.duration_since(UNIX_EPOCH).unwrap() + 3650 * DAY;
        let figure = value(&text, "aemp_certificate_expires_timestamp_seconds").unwrap();
        assert!((figure - expires.as_secs_f64()).abs() <= 1.0, "{figure}");
        let answer = get(address, "/health").await;
        assert_eq!(status(&answer), if healthy { 200 } else { 503 }, "{answer}");
        let page = json(address, "/status.json").await;
        let warnings = page["warnings"].as_array().unwrap();
        let shown = warnings.first().map(|warning| warning.as_str().unwrap());
        assert_eq!(shown.is_some(), warning.is_some(), "{shown:?}");
        assert!(warning.is_none_or(|warning| shown.unwrap().contains(warning)), "{shown:?}");
    }
    let node = global("n").start().await.unwrap();
    let text = body(served(&node).await, "/metrics").await;
    assert!(!text.contains("aemp_certificate_expires"), "there is none");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_get_and_head_are_answered() {
    let seed = node("seed", &[]).await;
    let address = served(&seed).await;
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT"] {
        let target = if method == "CONNECT" { "localhost:1" } else { "/metrics" };
        let request = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let answer = exchange(address, &request).await;
        assert_eq!(status(&answer), 405, "{method}: {answer}");
        assert!(answer.contains("allow: GET, HEAD\r\n"));
    }
    let answer = exchange(address, "HEAD /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(status(&answer) == 200 && answer.ends_with("\r\n\r\n"), "{answer}");
    assert_eq!(status(&get(address, "/etc/passwd").await), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_host_names_are_refused() {
    let seed = node("seed", &[]).await;
    let address = served(&seed).await;
    let asked = async |host: &str| {
        status(&exchange(address, &format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\n\r\n")).await)
    };
    for good in ["localhost", "LOCALHOST:1", "127.0.0.1:9464", "[::1]:9464", "192.0.2.7"] {
        assert_eq!(asked(good).await, 200, "{good}");
    }
    for evil in ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil"] {
        assert_eq!(asked(evil).await, 421, "{evil}");
    }
    for wrong in ["", "a b", "a\r\nHost: localhost"] {
        assert_eq!(asked(wrong).await, 400, "{wrong:?}");
    }
    let absolute = "GET http://evil.example/metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n";
    assert_eq!(status(&exchange(address, absolute).await), 421);
    assert_eq!(status(&exchange(address, "GET /health HTTP/1.0\r\n\r\n").await), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_forbids_foreign_content() {
    let seed = node("seed", &[]).await;
    let address = served(&seed).await;
    for path in ["/", "/page.js", "/page.css", "/status.json", "/metrics", "/nowhere"] {
        let answer = get(address, path).await;
        let head = answer.split_once("\r\n\r\n").unwrap().0;
        for header in [
            "content-security-policy: default-src 'none';",
            "x-content-type-options: nosniff",
            "cache-control: no-store",
            "cross-origin-resource-policy: same-origin",
            "connection: close",
        ] {
            assert!(head.contains(header), "{path}: {head}");
        }
        assert!(!head.contains("unsafe") && !head.contains("access-control"), "{head}");
    }
    let page = body(address, "/").await;
    assert!(!page.contains("<style") && !page.contains("style=") && !page.contains("http"));
    assert!(!page.contains(" on") && page.matches("<script").count() == 1, "nothing inline");
    let script = body(address, "/page.js").await;
    for way in ["innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(", "Function("]
    {
        assert!(!script.contains(way), "{way}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_large_and_many_clients_are_limited() {
    let seed = node("seed", &[]).await;
    let address = served(&seed).await;
    let large = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(40_000));
    assert_ne!(status(&exchange(address, &large).await), 200);
    let many = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X: y\r\n".repeat(200));
    assert_ne!(status(&exchange(address, &many).await), 200);
    // Every place is taken by a client that never sends a request, and is closed for one that does.
    let mut silent = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HT").await.unwrap();
        silent.push(stream);
    }
    let asked = std::time::Instant::now();
    assert_eq!(body(address, "/health").await, "ok\n");
    assert!(asked.elapsed() < std::time::Duration::from_secs(2), "{:?}", asked.elapsed());
    drop(silent);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_peers_are_text_without_any_effect() {
    let seed = services_support::node("seed", &[]).await;
    let evil = Peer::connect(&seed, &Introduction::of(HOSTILE)).await.unwrap();
    until("it is connected", || !seed.up_nodes().is_empty()).await;
    let address = served(&seed).await;
    seed.become_global();
    seed.db().set("a\nb\"} 1", "key", 1).unwrap();
    let text = body(address, "/metrics").await;
    let expected = r#"peer="<script>alert(1)</script>\"\\\\u{1b}[31m\\u{202e}""#;
    assert!(text.contains(expected), "{text}");
    assert!(text.contains(r#"{family="a\\u{a}b\"} 1"} 1"#), "{text}");
    let status = json(address, "/status.json").await;
    let shown = "<script>alert(1)</script>\"\\\\u{1b}[31m\\u{202e}";
    assert_eq!(status["links"][0]["node"], shown);
    assert_eq!(status["network"]["nodes"][1]["id"], shown);
    drop(evil);
}

/// Waits until the page's data satisfies the condition, and returns it.
async fn status_with(
    address: SocketAddr,
    is: impl Fn(&serde_json::Value) -> bool,
) -> serde_json::Value {
    within(async {
        loop {
            let status = json(address, "/status.json").await;
            if is(&status) {
                return status;
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_gets_the_network_its_families_and_events() {
    let seed = global("seed").start().await.unwrap();
    let one = join(builder("one", &[&seed]), true).await;
    let two = join(builder("two", &[&seed]), true).await;
    two.db().set("eg_family", "key", "value").unwrap();
    until("the key is there", || seed.metrics().families.contains_key(&"eg_family".into())).await;
    // Each node only knows its seed; the seed tells it of the other.
    let address = served(&one).await;
    let drawn = status_with(address, |status| {
        status["network"]["nodes"].as_array().unwrap().iter().any(|node| node["id"] == "two")
    })
    .await;
    assert_eq!(drawn["network"]["links"].as_array().unwrap().len(), 2, "{drawn}");
    assert_eq!(drawn["network"]["nodes"][1]["global"], true, "{drawn}");
    let address = served(&seed).await;
    let status = status_with(address, |status| {
        status["events"].as_array().unwrap().iter().any(|event| event["node"] == "two")
    })
    .await;
    let families = status["families"].as_array().unwrap();
    assert!(families.contains(&serde_json::json!(["eg_family", 1])), "{families:?}");
    assert_eq!(status["healthy"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_the_database_are_shown_only_if_asked_for() {
    let seed = global("seed").start().await.unwrap();
    seed.db().set("eg family", "key", "confidential").unwrap();
    let address = served(&seed).await;
    assert_eq!(status(&get(address, "/family.json?name=eg%20family").await), 403);
    for path in ["/metrics", "/status.json"] {
        assert!(!body(address, path).await.contains("confidential"), "{path}");
    }
    let address = serving(&seed, true).await;
    let family = json(address, "/family.json?name=eg%20family").await;
    assert_eq!(family["entries"], serde_json::json!([["key", "\"confidential\""]]));
    for path in ["/family.json?name=none", "/family.json", "/family.json?name=%zz"] {
        assert_eq!(status(&get(address, path).await), 404, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_served_after_the_node_has_ended() {
    let seed = node("seed", &[]).await;
    let address = served(&seed).await;
    assert_eq!(body(address, "/health").await, "ok\n");
    seed.shutdown().await;
    within(async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_metrics_starts_the_server_with_the_node() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let failed = builder("seed", &[]).metrics(&address).start().await.unwrap_err();
    assert!(failed.to_string().contains(&address), "{failed}");
    drop(taken);
    let _seed = builder("seed", &[]).metrics("127.0.0.1:0").start().await.unwrap();
}
