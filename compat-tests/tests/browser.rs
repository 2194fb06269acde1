//! The status page in a real browser: it shows a mixed network, and a hostile name does nothing.
//!
//! `make browser` runs it and leaves pictures in `target/browser`.

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use aemp::Node;
use aemp::services::metrics::serve;
use compat_tests::node::{Aemp, SECRET};
use compat_tests::perl;
use compat_tests::perl_node::{MODULES, PerlNode};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const TIMEOUT: Duration = Duration::from_secs(60);

/// If it were interpreted as HTML, it would change the page's title.
const HOSTILE: &str = "<img src=x onerror=document.title='hacked'>\"'&amp";

/// The path of the browser, or the reason why this test is skipped.
fn browser() -> Option<String> {
    let named = std::env::var("AEMP_BROWSER").ok();
    let known = ["chromium", "chromium-browser", "google-chrome"].map(str::to_owned);
    let works = |name: &String| Command::new(name).arg("--version").output().is_ok();
    let found = named.into_iter().chain(known).find(works);
    if found.is_none() {
        eprintln!("SKIPPED: no browser; install Debian's chromium, or name one in AEMP_BROWSER");
    }
    found
}

fn browse(browser: &str, profile: &Path, what: &[&str], page: &str) -> Output {
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--hide-scrollbars", "--enable-logging=stderr", "--virtual-time-budget=5000"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .args(what)
        .arg(page)
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    let complaints: Vec<&str> = log.lines().filter(|line| line.contains("CONSOLE")).collect();
    assert!(complaints.is_empty(), "the page's script complains: {complaints:#?}");
    assert!(output.status.success(), "{log}");
    output
}

async fn status(address: SocketAddr) -> Value {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /status.json HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

/// Waits until the page shows this many nodes, connections between them, and global nodes.
async fn drawn(address: SocketAddr, nodes: usize, links: usize, globals: usize) {
    let waiting = async {
        loop {
            let network = status(address).await["network"].take();
            let count = |key: &str| network[key].as_array().unwrap().len();
            let is_global = |node: &&Value| node["global"] == true;
            let found = network["nodes"].as_array().unwrap().iter().filter(is_global).count();
            if count("nodes") == nodes && count("links") >= links && found >= globals {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, waiting).await.expect("the network comes together");
}

#[test]
fn a_mixed_network_is_shown_and_a_hostile_name_does_nothing() {
    let Some(browser) = browser() else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let seed = Aemp::start("seed", &[]);
    let second = Aemp::start("seed2", &[("seeds", &seed.address())]);
    let seeds = [seed.address(), second.address()].join(",");
    let _workers =
        ["worker/1", "worker/2", "worker/3"].map(|id| Aemp::start(id, &[("seeds", &seeds)]));
    let _hostile = Aemp::start(HOSTILE, &[("seeds", &seeds)]);
    let has_perl = perl::has(MODULES);
    let _perl = has_perl.then(|| PerlNode::start("perl/1", json!({ "seeds": [seed.address()] })));
    let (node, address) = runtime.block_on(async {
        let node = Node::builder().node_id("lobby").secret(SECRET).bind("127.0.0.1:0");
        let node = node.seed(&seed.address()).seed(&second.address()).start().await.unwrap();
        node.become_global();
        let address = serve(&node, &"127.0.0.1:0".parse().unwrap(), true).await.unwrap()[0];
        drawn(address, 7 + usize::from(has_perl), 8, 1).await;
        (node, address)
    });
    for key in ["alice", "bob", HOSTILE] {
        node.db().set("eg_chat", key, 1).unwrap();
    }
    let profile = tempfile::tempdir().unwrap();
    let page = format!("http://{address}/");

    let dom = browse(&browser, profile.path(), &["--dump-dom"], &page);
    let dom = String::from_utf8(dom.stdout).unwrap();
    assert!(dom.contains("<title>lobby – aemp</title>"), "{dom}");
    assert!(dom.contains(">healthy</p>"), "{dom}");
    assert!(!dom.contains("<img"), "{dom}");
    assert!(dom.contains("&lt;img src=x onerror=document.title='hacked'&gt;\"'&amp;amp"), "{dom}");
    assert_eq!(drawn_nodes(&dom), (7, usize::from(has_perl)), "{dom}");
    for shown in [">worker/3<", ">eg_chat<", ">connected nodes<", "<line "] {
        assert!(dom.contains(shown), "{shown}: {dom}");
    }
    assert_eq!(dom.contains(">perl/1<"), has_perl);

    for (name, size, dark) in [
        ("light-wide", "1280,1500", false),
        ("dark-wide", "1280,1500", true),
        ("light-narrow", "500,2600", false),
        ("dark-narrow", "500,2600", true),
    ] {
        photograph(&browser, profile.path(), &page, name, size, dark);
    }
}

/// The numbers of our nodes and of Perl nodes that the picture shows.
fn drawn_nodes(dom: &str) -> (usize, usize) {
    (dom.matches("<circle").count(), dom.matches("<rect").count())
}

/// Leaves a picture of the page in `target/browser`.
fn photograph(browser: &str, profile: &Path, page: &str, name: &str, size: &str, dark: bool) {
    let pictures = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../browser");
    std::fs::create_dir_all(&pictures).unwrap();
    let file = pictures.join(format!("{name}.png"));
    let _ = std::fs::remove_file(&file);
    let mut what =
        vec![format!("--screenshot={}", file.display()), format!("--window-size={size}")];
    if dark {
        what.push("--blink-settings=preferredColorScheme=0".to_owned());
    }
    let what: Vec<&str> = what.iter().map(String::as_str).collect();
    browse(browser, profile, &what, page);
    assert!(std::fs::metadata(&file).unwrap().len() > 10_000, "{name} shows something");
}

/// A network of this many nodes, `perl` of which are Perl nodes, is shown completely.
fn a_network_is_shown(nodes: usize, perl: usize) {
    let Some(browser) = browser() else { return };
    let perl = if perl::has(MODULES) { perl } else { 0 };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let start = |id: String, seeds: &[String]| {
        let builder = Node::builder().node_id(&id).secret(SECRET).bind("127.0.0.1:0");
        let builder = seeds.iter().fold(builder, |builder, seed| builder.seed(seed));
        runtime.block_on(builder.start()).unwrap()
    };
    let own = start("lobby".to_owned(), &[]);
    own.become_global();
    let mut seeds = vec![own.addresses()[0].to_string()];
    let mut others = Vec::new();
    for number in 0..nodes - 1 - perl {
        // Every hundredth node is a seed, too.
        let id = format!("host{number:03}.example.net/worker");
        let node = start(id, &seeds);
        if number % 100 == 1 {
            node.become_global();
            seeds.push(node.addresses()[0].to_string());
        }
        others.push(node);
    }
    let _perl: Vec<PerlNode> = (0..perl)
        .map(|number| PerlNode::start(&format!("perl/{number}"), json!({ "seeds": seeds })))
        .collect();
    let address = runtime.block_on(async {
        let address = serve(&own, &"127.0.0.1:0".parse().unwrap(), true).await.unwrap()[0];
        drawn(address, nodes, nodes - 1, seeds.len()).await;
        address
    });
    let profile = tempfile::tempdir().unwrap();
    let page = format!("http://{address}/");
    let dom = browse(&browser, profile.path(), &["--dump-dom"], &page);
    let dom = String::from_utf8(dom.stdout).unwrap();
    assert_eq!(drawn_nodes(&dom), (nodes - perl, perl));
    assert_eq!(dom.matches("class=\"global\"").count(), seeds.len() - 1);
    for (name, size, dark) in [("wide", "1280,1500", false), ("narrow", "500,2600", true)] {
        let name = format!("{nodes}-nodes-{name}");
        photograph(&browser, profile.path(), &page, &name, size, dark);
    }
}

#[test]
fn a_mixed_network_of_2_nodes_is_shown() {
    a_network_is_shown(2, 1);
}

#[test]
fn a_mixed_network_of_20_nodes_is_shown() {
    a_network_is_shown(20, 5);
}

#[test]
fn a_network_of_200_nodes_is_shown() {
    a_network_is_shown(200, 0);
}
