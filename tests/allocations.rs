//! Messages need no allocations beyond those of the requested type.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use aemp::{Context, Node, PortId};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
/// All threads share one counter, so only one test runs at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller keeps the contract.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const MESSAGES: u64 = 20_000;
/// Allowance for growing buffers, tasks of the runtime and the protocol's own packets.
const ALLOWANCE: u64 = MESSAGES / 20;

async fn node(id: &str, seed: Option<&Node>) -> Node {
    let mut builder = Node::builder().node_id(id).secret("geheim").bind("127.0.0.1:0");
    if let Some(seed) = seed {
        builder = builder.seed(&seed.addresses()[0].to_string());
    }
    let node = builder.start().await.unwrap();
    if seed.is_some() {
        node.joined().await;
    }
    node
}

/// The number of allocations of sending messages and letting each batch of them arrive.
async fn count(from: &Node, to: &PortId, seen: &AtomicU64) -> u64 {
    let mut before = 0;
    for run in 0..2 {
        let goal = seen.load(Relaxed) + MESSAGES;
        before = ALLOCATIONS.load(Relaxed);
        for number in 0..MESSAGES {
            from.snd(to, ("msg", run, number, "hello world")).unwrap();
            if number % 1000 == 0 {
                tokio::task::yield_now().await;
            }
        }
        while seen.load(Relaxed) < goal {
            tokio::task::yield_now().await;
        }
    }
    ALLOCATIONS.load(Relaxed) - before
}

fn counting_port(node: &Node) -> (PortId, Arc<AtomicU64>) {
    let seen = Arc::new(AtomicU64::new(0));
    let count = seen.clone();
    let port = node.port_with(move |_: &Context<'_>, message| {
        let (tag, _, _, text): (&str, u64, u64, &str) = message.decode().unwrap();
        assert_eq!((tag, text), ("msg", "hello world"));
        count.fetch_add(1, Relaxed);
    });
    (port.id(), seen)
}

#[test]
fn a_borrowed_message_to_a_port_of_this_node_allocates_nothing() {
    let _alone = ONE_AT_A_TIME.lock().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let node = node("alone", None).await;
        let (port, seen) = counting_port(&node);
        let allocations = count(&node, &port, &seen).await;
        assert!(allocations < 20, "{allocations} allocations for {MESSAGES} messages");
    });
}

#[test]
fn a_borrowed_message_to_another_node_allocates_nothing_on_either_side() {
    let _alone = ONE_AT_A_TIME.lock().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let receiver = node("receiver", None).await;
        let sender = node("sender", Some(&receiver)).await;
        let (port, seen) = counting_port(&receiver);
        let allocations = count(&sender, &port, &seen).await;
        assert!(allocations < ALLOWANCE, "{allocations} allocations for {MESSAGES} messages");
    });
}

#[test]
fn a_string_that_is_received_is_one_allocation() {
    let _alone = ONE_AT_A_TIME.lock().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let node = node("alone", None).await;
        let seen = Arc::new(AtomicU64::new(0));
        let port = node.port_of_tags();
        let in_port = seen.clone();
        port.on("msg", move |_: &Context<'_>, _: (u64, u64, String)| {
            in_port.fetch_add(1, Relaxed);
        });
        let allocations = count(&node, &port.id(), &seen).await;
        assert!(allocations < MESSAGES + 20, "{allocations} allocations for {MESSAGES} messages");
    });
}
