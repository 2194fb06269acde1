//! Helpers for tests of whole networks: addresses that outlive their nodes, our nodes inside the test
//! process, and waiting for conditions.

use crate::node::SECRET;
use crate::process::TIMEOUT;
use aemp::{Node, NodeBuilder};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// The pause between two polls.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Ports that a test process has to itself.
struct Block {
    first: u16,
    /// Listens on the first port as long as the process runs, so that no other one takes the block.
    _lease: TcpListener,
}

/// The ports below the ephemeral ports of all systems, in blocks.
const FIRST_PORT: u16 = 10_000;
const BLOCKS: u16 = 100;
const BLOCK_SIZE: u16 = 200;

impl Block {
    fn take() -> Block {
        let start = (std::process::id() % u32::from(BLOCKS)) as u16;
        let firsts = (0..BLOCKS).map(|n| FIRST_PORT + (start + n) % BLOCKS * BLOCK_SIZE);
        let leased = |first| Some(Block { first, _lease: TcpListener::bind(local(first)).ok()? });
        let mut blocks = firsts.filter_map(leased);
        blocks.next().expect("a block of ports that no other test process has")
    }
}

fn local(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// An address of 127.0.0.1 that nobody listens on and that is never used for dialling, so that one node after
/// another can use it. No other test process is given it, also while nobody listens on it.
///
/// # Panics
/// If there is none.
pub fn free_address() -> String {
    static BLOCK: LazyLock<Block> = LazyLock::new(Block::take);
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let next = || Some(NEXT.fetch_add(1, Ordering::Relaxed)).filter(|port| *port < BLOCK_SIZE);
    let addresses = std::iter::from_fn(next).map(|port| local(BLOCK.first + port));
    let mut free = addresses.filter(|address| TcpListener::bind(address).is_ok());
    free.next().expect("a free port in the block of this process")
}

/// Waits until nobody listens on an address any more; children of a killed process die after it.
///
/// # Panics
/// Fails the test if somebody still listens after the time limit.
pub fn until_free(address: &str) {
    eventually(&format!("the end of who listens on {address}"), || {
        TcpListener::bind(address).map(drop).map_err(|error| error.to_string())
    });
}

/// Polls `look` until it finds something; returns it, and the time that took.
///
/// # Panics
/// Fails the test after [`TIMEOUT`], with what was seen last.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> (T, Duration) {
    let start = Instant::now();
    loop {
        match look() {
            Ok(found) => return (found, start.elapsed()),
            Err(seen) => assert!(start.elapsed() < TIMEOUT, "{what}: {seen}"),
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// Our nodes inside the test process.
#[derive(Debug)]
pub struct InProcess {
    runtime: Runtime,
}

impl Default for InProcess {
    fn default() -> Self {
        InProcess::new()
    }
}

impl InProcess {
    /// Without any nodes yet.
    pub fn new() -> Self {
        InProcess { runtime: Runtime::new().unwrap() }
    }

    /// A node on a free port of 127.0.0.1, further configured by `how`.
    pub fn start_as(&self, id: &str, how: impl FnOnce(NodeBuilder) -> NodeBuilder) -> Node {
        let builder = how(Node::builder().node_id(id).secret(SECRET));
        self.run(builder.start()).unwrap_or_else(|error| panic!("{id}: {error}"))
    }

    /// A node on a free port of 127.0.0.1 with these seeds.
    pub fn start(&self, id: &str, seeds: &[String]) -> Node {
        self.start_as(id, |builder| {
            seeds.iter().fold(builder.bind("127.0.0.1:0"), |builder, seed| builder.seed(seed))
        })
    }

    /// Runs a future of our nodes to its end.
    pub fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Runs a future in the background.
    pub fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.runtime.spawn(future)
    }

    /// A family as a node's master has it, if it answers within a second.
    ///
    /// # Errors
    /// The reason, as text.
    pub fn family(&self, node: &Node, family: &str) -> Result<BTreeMap<String, Value>, String> {
        let db = node.db();
        let query = db.family::<Value>(family);
        let answer = self.run(async { tokio::time::timeout(Duration::from_secs(1), query).await });
        let entries = answer
            .map_err(|_| format!("{} has no answer", node.id()))?
            .map_err(|error| format!("{}: {error}", node.id()))?;
        Ok(entries.into_iter().map(|(key, value)| (key.to_string(), value)).collect())
    }
}
