//! Helpers for tests with several nodes in one process.

#![allow(dead_code, reason = "each test uses some of it")]

use aemp::{Node, NodeBuilder, NodeId};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The time limit for waits. Only a failing test waits this long.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// The builder of a node on a free port, with the common secret.
pub(crate) fn builder(id: &str, seeds: &[&Node]) -> NodeBuilder {
    let mut builder = Node::builder().node_id(id).secret("secret").bind("127.0.0.1:0");
    for seed in seeds {
        builder = builder.seed(&seed.addresses()[0].to_string());
    }
    builder
}

/// A node that has joined its seeds.
pub(crate) async fn node(id: &str, seeds: &[&Node]) -> Node {
    join(builder(id, seeds), !seeds.is_empty()).await
}

/// Starts a node, and waits until it has joined if it has seeds.
pub(crate) async fn join(builder: NodeBuilder, has_seeds: bool) -> Node {
    let node = builder.start().await.unwrap();
    if has_seeds {
        within(node.joined()).await;
    }
    node
}

/// A node and one that has joined it.
pub(crate) async fn pair() -> (Node, Node) {
    let seed = node("seed", &[]).await;
    let other = node("other", &[&seed]).await;
    (seed, other)
}

/// The result of a future; fails if that takes too long.
pub(crate) async fn within<T>(future: impl std::future::IntoFuture<Output = T>) -> T {
    tokio::time::timeout(TIMEOUT, future).await.expect("in time")
}

/// Waits until everything that `node` sent to `to` before has been handled there.
pub(crate) async fn settled(node: &Node, to: &NodeId) {
    let mut echo = node.port();
    node.snd(to, ("snd", echo.id(), "echo")).unwrap();
    let _: (String,) = within(echo.recv()).await.unwrap();
}

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let waiting = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// A gate that blocks a thread until it is opened.
#[derive(Debug, Clone)]
pub(crate) struct Gate(mpsc::SyncSender<()>, Arc<Mutex<mpsc::Receiver<()>>>);

impl Gate {
    pub(crate) fn closed() -> Gate {
        let (sender, receiver) = mpsc::sync_channel(1);
        Gate(sender, Arc::new(Mutex::new(receiver)))
    }

    /// Blocks until the gate is opened, and leaves it open.
    pub(crate) fn pass(&self) {
        let receiver = self.1.lock().unwrap();
        receiver.recv().unwrap();
        let _ = self.0.try_send(());
    }

    /// Waits until a thread is blocked at the gate.
    pub(crate) fn wait_for_visitor(&self) {
        while self.1.try_lock().is_ok() {
            std::thread::yield_now();
        }
    }

    pub(crate) fn open(&self) {
        let _ = self.0.try_send(());
    }
}

/// Opens the gate, since a failing test would not end with a blocked thread.
impl Drop for Gate {
    fn drop(&mut self) {
        self.open();
    }
}

/// The lines that this thread and the runtime's log, of at least level `warn`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Collects what the whole process logs from now on; once per process.
    pub(crate) fn of_this_process() -> Log {
        let log = Log::default();
        let writer = log.clone();
        tracing_subscriber::fmt()
            .with_env_filter("warn")
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .try_init()
            .unwrap();
        log
    }

    /// The number of lines that contain `part`.
    pub(crate) fn count(&self, part: &str) -> usize {
        self.text().lines().filter(|line| line.contains(part)).count()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
