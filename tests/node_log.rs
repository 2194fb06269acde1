//! What the program does with log lines and traces runs under no lock of the node.

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod node_support;

use aemp::{Context, Node, PortId};
use node_support::*;
use parking_lot::Mutex;
use std::fmt::Write as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber, span};

/// The node whose log lines and traces make the program call it.
static NODE: OnceLock<Node> = OnceLock::new();
static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());
static LONGEST_TRACE: AtomicUsize = AtomicUsize::new(0);
static TRACES: AtomicUsize = AtomicUsize::new(0);

/// What a program may do with the node at any time.
fn use_the_node() {
    if let Some(node) = NODE.get() {
        node.up_nodes();
        node.db().set("lines", "seen", LINES.lock().len()).unwrap();
        node.is_up(node.id());
    }
}

/// Calls the node for each line.
struct Log;

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.0, "{value:?}");
        }
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("aemp")
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        LINES.lock().push(text.0);
        use_the_node();
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

fn lines_with(part: &str) -> usize {
    LINES.lock().iter().filter(|line| line.contains(part)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn log_lines_and_traces_may_call_the_node_and_peers_choose_neither_their_length_nor_how_many()
{
    tracing::subscriber::set_global_default(Log).unwrap();
    let trace = |line: &str| {
        TRACES.fetch_add(1, Ordering::Relaxed);
        LONGEST_TRACE.fetch_max(line.len(), Ordering::Relaxed);
        use_the_node();
    };
    let node = builder("node", &[]).trace_with(trace).start().await.unwrap();
    NODE.set(node.clone()).ok().unwrap();
    node.expose("fails", |_: &Context<'_>, (): ()| Err("told to fail".to_owned()));
    let member = join(builder("member", &[&node]), false).await;
    let third = join(builder("third", &[&node]), false).await;

    // Requests that are refused and a function that fails, each of them often.
    let sink: PortId = third.port().id();
    for _ in 0..200 {
        member.snd(node.id(), ("no such request", "x".repeat(10_000))).unwrap();
        member.snd(node.id(), ("fails",)).unwrap();
        member.snd(node.id(), ("snd", &sink, "relayed")).unwrap();
    }
    // What is long is not shown as a whole.
    member.snd(node.id(), ("snd", &sink, "x".repeat(1 << 20))).unwrap();
    let mut port = member.port();
    member.snd(node.id(), ("snd", port.id(), "echo")).unwrap();
    assert_eq!(within(port.recv::<(String,)>()).await.unwrap().0, "echo");
    // A loss makes the kernel tell monitors and others under its lock.
    node.monitor(&sink).try_reason();
    third.shutdown().await;
    until("the loss is noticed", || !node.is_up(&sink.node())).await;

    for part in ["no such request", "told to fail"] {
        assert!((1..=25).contains(&lines_with(part)), "{part}: {}", lines_with(part));
    }
    let longest = LINES.lock().iter().map(String::len).max();
    assert!(longest.is_some_and(|octets| octets < 1200), "{longest:?}");
    assert!(TRACES.load(Ordering::Relaxed) > 600);
    let longest = LONGEST_TRACE.load(Ordering::Relaxed);
    assert!((60_000..70_000).contains(&longest), "{longest}");
    assert_eq!(within(node.db().get::<usize>("lines", "none")).await.unwrap(), None);
}
