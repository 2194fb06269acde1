//! Each of three seeds is killed and started again while others look on: what live nodes have in the
//! database is not reported as deleted, and what dead ones had is.

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use aemp::{DbMonitor, Node, PortId};
use compat_tests::network::{InProcess, eventually, free_address, until_free};
use compat_tests::node::Aemp;
use compat_tests::process::Signal;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A family in which every worker has its port.
const WORKERS: &str = "workers";

fn seed(index: usize, addresses: &[String]) -> Aemp {
    let settings = [("binds", addresses[index].as_str()), ("seeds", &addresses.join(","))];
    Aemp::start(&format!("seed{index}"), &settings)
}

/// A node whose master is the seed of this index and that knows all of them.
fn slave(inside: &InProcess, id: &str, index: usize, addresses: &[String]) -> Node {
    let node = inside.start(id, &addresses[index..=index]);
    eventually(&format!("the master of {id}"), || node.master().ok_or("none".to_owned()));
    node.set_seeds(addresses.iter().map(|seed| seed.as_str().into()).collect::<Vec<_>>());
    node
}

/// What a monitor has told so far.
struct MonitorLog {
    node: Node,
    changes: DbMonitor,
    known: BTreeMap<String, u64>,
    deleted: Vec<String>,
}

impl MonitorLog {
    fn new(node: Node) -> MonitorLog {
        let changes = node.db().monitor(WORKERS);
        MonitorLog { node, changes, known: BTreeMap::new(), deleted: Vec::new() }
    }

    /// Follows the monitor until what it knows satisfies `so`.
    fn follow(
        &mut self,
        inside: &InProcess,
        what: &str,
        so: impl Fn(&BTreeMap<String, u64>) -> bool,
    ) {
        let end = Instant::now() + compat_tests::process::TIMEOUT;
        while !so(&self.known) {
            let left = end.saturating_duration_since(Instant::now());
            let next = inside.run(async { tokio::time::timeout(left, self.changes.next()).await });
            let change = next.unwrap_or_else(|_| {
                panic!("{}: {what}: {:?}", self.node.id(), self.known);
            });
            let change = change.unwrap();
            for (key, _) in change.added().chain(change.changed()) {
                let value = change.value::<Option<u64>>(key).unwrap().flatten();
                self.known.insert(key.to_string(), value.unwrap_or_default());
            }
            for key in change.deleted() {
                self.known.remove(&key.to_string());
                self.deleted.push(key.to_string());
            }
        }
    }
}

#[test]
fn no_live_nodes_entry_is_reported_deleted_while_each_seed_is_killed_in_turn() {
    let inside = InProcess::new();
    let addresses: Vec<String> = (0..3).map(|_| free_address()).collect();
    let mut seeds: Vec<Aemp> = (0..3).map(|index| seed(index, &addresses)).collect();
    let joined = |kind: &str| -> Vec<Node> {
        (0..3).map(|i| slave(&inside, &format!("{kind}{i}"), i, &addresses)).collect()
    };
    let (workers, watchers) = (joined("worker"), joined("watcher"));
    let ports: Vec<PortId> = workers.iter().map(|worker| worker.port().id()).collect();
    let mut watchers: Vec<MonitorLog> = watchers.into_iter().map(MonitorLog::new).collect();
    let set = |round: u64| {
        for (worker, port) in workers.iter().zip(&ports) {
            worker.db().set(WORKERS, port.as_str().to_owned(), round).unwrap();
        }
    };
    let mut all_see = |round: u64| {
        for watcher in &mut watchers {
            let see = |known: &BTreeMap<String, u64>| {
                known.len() == ports.len() && known.values().all(|value| *value == round)
            };
            watcher.follow(&inside, &format!("round {round}"), see);
            assert_eq!(watcher.deleted, Vec::<String>::new(), "{}", watcher.node.id());
        }
    };
    set(0);
    all_see(0);
    for (index, address) in addresses.iter().enumerate() {
        let orphan = workers.iter().filter(|node| node.master() == Some(id_of(&seeds[index])));
        assert!(orphan.count() > 0, "seed{index} is nobody's master");
        seeds[index].process().signal(Signal::KILL);
        seeds[index].process().wait_for_end();
        eventually("other masters", || {
            let is_orphan = |node: &&Node| node.master().is_none_or(|m| m == id_of(&seeds[index]));
            let orphans: Vec<_> = workers.iter().filter(is_orphan).map(Node::id).collect();
            if orphans.is_empty() { Ok(()) } else { Err(format!("{orphans:?} have none")) }
        });
        let round = 2 * index as u64 + 1;
        set(round);
        all_see(round);
        until_free(address);
        seeds[index] = seed(index, &addresses);
        // The next seed is somebody's master again: one of its own comes back to it.
        set(round + 1);
        all_see(round + 1);
    }
    // Longer than any grace.
    std::thread::sleep(Duration::from_secs(12));
    set(100);
    all_see(100);
}

fn id_of(seed: &Aemp) -> aemp::NodeId {
    aemp::NodeId::new(seed.id()).unwrap()
}

/// A watcher that talks to a worker sees both go, and has no need to wait for the worker's return.
#[test]
fn a_worker_that_dies_together_with_the_only_seed_is_reported_when_the_seed_is_back() {
    let inside = InProcess::new();
    let addresses = vec![free_address()];
    let mut only = seed(0, &addresses);
    let (worker, other) = (inside.start("worker", &addresses), inside.start("other", &addresses));
    let (mut port, of_other) = (worker.port(), other.port());
    let _entry = worker.db().register(WORKERS, &port).unwrap();
    let _other = other.db().register(WORKERS, &of_other).unwrap();
    let mut watcher = MonitorLog::new(inside.start("watcher", &addresses));
    watcher.follow(&inside, "both workers", |known| known.len() == 2);
    let died = watcher.node.monitor(&port);
    watcher.node.snd(&port, ("hello",)).unwrap();
    inside.run(port.recv::<(String,)>()).unwrap();
    only.process().signal(Signal::KILL);
    only.process().wait_for_end();
    inside.run(worker.shutdown());
    inside.run(died);
    until_free(&addresses[0]);
    let _seed = seed(0, &addresses);
    let start = Instant::now();
    watcher.follow(&inside, "the loss of the worker", |known| known.len() == 1);
    assert_eq!(watcher.deleted, [port.id().to_string()]);
    eprintln!("reported {:.1?} after the seed was back", start.elapsed());
}
