//! The node under siege, as a process of its own, which reports what it has allocated and logged. With
//! `SIEGE_LOG` in its environment it prints its log.

use super::SECRET;
use aemp::Node;
use aemp::services::streams::DataStream;
use anyhow::{Context as _, Result};
use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use tracing::field::{Field, Visit};

#[global_allocator]
static ALLOCATOR: Counting = Counting { in_use: AtomicU64::new(0) };

/// Counts the octets that are allocated.
struct Counting {
    in_use: AtomicU64,
}

// SAFETY: everything is left to the system's allocator; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.in_use.fetch_add(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        self.in_use.fetch_sub(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Octets of database entries that the node keeps for a member: in a round, and if nothing is set.
pub(super) const DATABASE_LIMIT: usize = 64 << 20;
pub(super) const DEFAULT_DATABASE_LIMIT: usize = 1 << 30;

static LINES_LOGGED: AtomicU64 = AtomicU64::new(0);
static OCTETS_LOGGED: AtomicU64 = AtomicU64::new(0);
static UNESCAPED: AtomicU64 = AtomicU64::new(0);

/// Marks that change how a line is laid out.
const MARKS: [char; 3] = ['\u{202e}', '\u{2028}', '\u{61c}'];

/// Counts what is logged at level info or above.
struct Log;

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, _: &Field, value: &dyn std::fmt::Debug) {
        let _ = write!(self.0, "{value:?}");
    }
}

impl tracing::Subscriber for Log {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::INFO
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        LINES_LOGGED.fetch_add(1, Ordering::Relaxed);
        OCTETS_LOGGED.fetch_add(message.0.len() as u64, Ordering::Relaxed);
        let is_unescaped = message.0.contains(|c: char| c.is_control() || MARKS.contains(&c));
        UNESCAPED.fetch_add(u64::from(is_unescaped), Ordering::Relaxed);
        if std::env::var_os("SIEGE_LOG").is_some() {
            eprintln!("{}", message.0);
        }
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

/// Runs the node, which keeps so many octets of database entries for a member. Each line of standard input is answered with its figures: octets in use, lines and
/// octets logged, and lines with characters that do not belong into a log.
pub(super) fn run(database_limit: usize) -> Result<()> {
    tracing::subscriber::set_global_default(Log)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let _guard = runtime.enter();
    let node = runtime.block_on(async {
        let builder = Node::builder().node_id("victim").secret(SECRET).bind("127.0.0.1:0");
        let builder = builder.database_limit(database_limit);
        let node = builder.start().await?;
        // Members may ask to expect connections for it.
        node.expose_stream("stream", |(): (), _: DataStream| async {});
        anyhow::Ok(node)
    })?;
    // Listeners that never look: what changes is combined for them.
    let _changes = node.db().monitor("f");
    let _events = node.events();
    println!("{}", node.addresses().first().context("no address")?);
    for line in std::io::stdin().lines() {
        line?;
        let in_use = ALLOCATOR.in_use.load(Ordering::Relaxed);
        let (lines, octets) = (&LINES_LOGGED, &OCTETS_LOGGED);
        println!(
            "{in_use} {} {} {}",
            lines.load(Ordering::Relaxed),
            octets.load(Ordering::Relaxed),
            UNESCAPED.load(Ordering::Relaxed)
        );
    }
    runtime.block_on(node.shutdown());
    Ok(())
}
