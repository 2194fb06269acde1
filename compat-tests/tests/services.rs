//! Logs and data connections between real Perl nodes and ours.

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use aemp::services::logs::{LogCatcher, LogEntry, LogLevel};
use aemp::services::streams::DataStream;
use aemp::{Node, NodeBuilder, NodeId};
use compat_tests::node::{Aemp, SECRET};
use compat_tests::perl;
use compat_tests::perl_node::{MODULES, PerlNode};
use serde_json::json;
use std::future::IntoFuture;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::runtime::Runtime;

const TIMEOUT: Duration = Duration::from_secs(30);

/// A node inside the test process; its methods block.
struct Ours {
    runtime: Runtime,
    node: Node,
}

impl Ours {
    /// Joins through a Perl seed.
    fn start(id: &str, seed: &PerlNode, edit: impl FnOnce(NodeBuilder) -> NodeBuilder) -> Ours {
        let runtime = Runtime::new().unwrap();
        let builder = Node::builder().node_id(id).secret(SECRET).bind("127.0.0.1:0");
        let builder = edit(builder.seed(seed.address()));
        let node = runtime.block_on(async {
            let node = builder.start().await.unwrap();
            tokio::time::timeout(TIMEOUT, node.joined()).await.expect("it joins");
            node
        });
        Ours { runtime, node }
    }

    fn wait<T>(&self, future: impl IntoFuture<Output = T>) -> T {
        let future = future.into_future();
        self.runtime
            .block_on(async { tokio::time::timeout(TIMEOUT, future).await.expect("in time") })
    }

    fn connect(&self, perl: &PerlNode, function: &str, number: u32) -> DataStream {
        let to: NodeId = perl.id().parse().unwrap();
        self.wait(self.node.connect_stream(&to, function, (number,))).unwrap()
    }
}

/// A function of the Perl node that takes a data connection, sends a greeting and echoes a line.
const REPEAT: &str = r#"
    sub Compat::repeat {
       my ($number, $handle) = @_;
       $GUARDS{"stream$number"} = $handle;
       $handle->on_error(sub { delete $GUARDS{"stream$number"} });
       $handle->push_write("hello from perl $number\n");
       $handle->push_read(line => sub {
          my ($handle, $line) = @_;
          $handle->push_write("got $line\n");
          $handle->push_shutdown;
       });
    }
    ()
"#;

fn assert_repeats(ours: &Ours, stream: DataStream, number: u32) {
    let mut stream = BufReader::new(stream);
    ours.wait(async {
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        assert_eq!(line, format!("hello from perl {number}\n"));
        let text = "x".repeat(100_000);
        stream.write_all(format!("{text}\n").as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        line.clear();
        stream.read_line(&mut line).await.unwrap();
        assert_eq!(line, format!("got {text}\n"));
        // Perl closes without a closing alert of TLS.
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        assert!(rest.is_empty());
    });
}

#[test]
fn we_dial_a_data_connection_to_a_perl_node() {
    if !perl::has(MODULES) {
        return;
    }
    let mut seed = PerlNode::start("perl-seed", json!({}));
    seed.eval(REPEAT);
    let ours = Ours::start("rust-slave", &seed, |builder| builder);
    for number in 0..3 {
        let stream = ours.connect(&seed, "Compat::repeat", number);
        assert_eq!(stream.peer().to_string(), "perl-seed");
        assert!(!stream.is_encrypted());
        assert_repeats(&ours, stream, number);
    }
}

#[test]
fn data_connections_to_a_perl_node_are_encrypted_in_a_tls_network() {
    if !perl::has(MODULES) {
        return;
    }
    let pem = compat_tests::certificate();
    let mut seed = PerlNode::start("perl-seed", json!({"cert": pem}));
    seed.eval(REPEAT);
    let ours = Ours::start("rust-slave", &seed, |builder| builder.cert(&pem));
    // Which side is the TLS client is random each time.
    for number in 0..6 {
        let stream = ours.connect(&seed, "Compat::repeat", number);
        assert!(stream.is_encrypted());
        assert_repeats(&ours, stream, number);
    }
}

#[test]
fn a_data_connection_that_a_perl_node_refuses_ends_at_once() {
    if !perl::has(MODULES) {
        return;
    }
    for secure in [0, 1] {
        let seed = PerlNode::start("perl-seed", json!({"secure": secure}));
        let ours = Ours::start("rust-slave", &seed, |builder| builder);
        let mut stream = ours.connect(&seed, "No::such", 1);
        let mut rest = Vec::new();
        // Closed by its end or by a reset.
        let _ = ours.wait(stream.read_to_end(&mut rest));
        assert!(rest.is_empty());
    }
}

#[test]
fn a_perl_catcher_gets_our_log() {
    if !perl::has(MODULES) {
        return;
    }
    for framing in ["cbor", "json", "storable"] {
        // It shows nothing itself below errors, which makes no difference to catchers.
        let seed = Aemp::start("rust-seed", &[]);
        let settings = json!({"seeds": [seed.address()], "framing_format": [framing]});
        let mut perl = PerlNode::start("perl-slave", settings);
        perl.sees_up("rust-seed");
        perl.eval("require AnyEvent::MP::LogCatcher; AnyEvent::MP::LogCatcher::catch(8)");
        // Each one makes a warning; the first ones may come before the catcher has asked.
        let started = std::time::Instant::now();
        while !perl.complaints().iter().any(|line| line.contains("[rust-seed")) {
            assert!(started.elapsed() < TIMEOUT, "nothing caught: {:?}", perl.complaints());
            perl.snd("rust-seed", json!(["No::such::function"]));
            std::thread::sleep(Duration::from_millis(50));
        }
        let line = perl.log("[rust-seed");
        assert!(line.contains("warn") && line.contains("aemp::"), "{line}");
        assert!(line.contains("request No::such::function from perl-slave"), "{line}");
    }
}

fn caught(ours: &Ours, catcher: &mut LogCatcher, part: &str) -> LogEntry {
    ours.wait(async {
        loop {
            let entry = catcher.next().await.unwrap();
            if entry.text.contains(part) {
                return entry;
            }
        }
    })
}

#[test]
fn our_catcher_gets_the_log_of_perl_nodes() {
    if !perl::has(MODULES) {
        return;
    }
    let mut seed = PerlNode::start("perl-seed", json!({}));
    let settings = json!({"seeds": [seed.address()]});
    let mut slave = PerlNode::start("perl-slave", settings);
    let ours = Ours::start("rust-slave", &seed, |builder| builder);
    let mut catcher = LogCatcher::catch(&ours.node, LogLevel::Debug);
    // Perl logs this when it starts.
    let mut nodes = [(); 2].map(|()| {
        let entry = caught(&ours, &mut catcher, "starting to propagate");
        assert_eq!(
            (entry.context.as_str(), entry.level),
            ("AnyEvent::MP::LogCatcher", LogLevel::Debug)
        );
        entry.node.to_string()
    });
    nodes.sort();
    assert_eq!(nodes, ["perl-seed", "perl-slave"]);
    for (perl, id) in [(&mut seed, "perl-seed"), (&mut slave, "perl-slave")] {
        perl.eval(r#"AE::log 4 => "something broke: \x{20ac}"; AE::log 9 => "x"; ()"#);
        let entry = caught(&ours, &mut catcher, "something broke");
        assert_eq!(entry.node.to_string(), id);
        assert_eq!((entry.context.as_str(), entry.level), ("main", LogLevel::Error));
        assert_eq!(entry.text, "something broke: \u{20ac}");
        assert!(entry.time > 1.7e9);
        perl.eval(r#"AE::log debug => "detail"; ()"#);
        assert_eq!(caught(&ours, &mut catcher, "detail").level, LogLevel::Debug);
    }
}

#[test]
fn the_log_catcher_service_writes_the_log_of_others_to_ours() {
    if !perl::has(MODULES) {
        return;
    }
    let services = r#"[["AnyEvent::MP::LogCatcher::catch", 7]]"#;
    let mut seed = Aemp::start("rust-seed", &[("services", services)]);
    let mut perl = PerlNode::start("perl-slave", json!({"seeds": [seed.address()]}));
    perl.sees_up("rust-seed");
    perl.eval(r#"$GUARDS{tick} = AE::timer 0, 0.05, sub { AE::log 5 => "tick\nand tack" }; ()"#);
    let line = seed.process().wait_for_log("[perl-slave] main: ");
    assert!(line.contains("WARN") && line.ends_with(r"tick\nand tack"), "{line}");
}

#[test]
fn perl_and_our_node_can_catch_each_others_log_without_a_loop() {
    if !perl::has(MODULES) {
        return;
    }
    let services = r#"[["AnyEvent::MP::LogCatcher::catch", 9]]"#;
    let mut seed = Aemp::start("rust-seed", &[("services", services)]);
    let settings = json!({
        "seeds": [seed.address()],
        "services": [["AnyEvent::MP::LogCatcher::catch", 9]],
    });
    let mut perl = PerlNode::start("perl-slave", settings);
    perl.sees_up("rust-seed");
    perl.eval(r#"$GUARDS{tick} = AE::timer 0, 0.05, sub { AE::log 5 => "tick" }; ()"#);
    seed.process().wait_for_log("[perl-slave] main: tick");
    perl.eval("undef $GUARDS{tick}; ()");
    // If each line caused another one there would be thousands in a moment.
    let before = seed.process().lines().len();
    std::thread::sleep(Duration::from_millis(500));
    let lines = seed.process().lines();
    assert!(lines.len() < before + 100, "{} lines came", lines.len() - before);
}
