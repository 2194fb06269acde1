//! Perl slaves that have permanently lost their master are repaired, and healthy ones are left alone.

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use aemp::Node;
use compat_tests::network::{InProcess, eventually, free_address, until_free};
use compat_tests::node::Aemp;
use compat_tests::perl;
use compat_tests::perl_node::{MODULES, PerlNode};
use serde_json::{Value, json};
use std::time::Duration;

/// Longer than it takes until a slave without an entry is suspected, asked, and repaired.
const BEYOND_GRACE_PERIOD: Duration = Duration::from_secs(7);

/// Two seeds of ours, and one of our slaves at each.
struct Seeds {
    inside: InProcess,
    addresses: [String; 2],
    seeds: [Option<Aemp>; 2],
    observers: [Node; 2],
}

impl Seeds {
    fn start() -> Seeds {
        let inside = InProcess::new();
        let addresses = [free_address(), free_address()];
        let observers =
            [0, 1].map(|i| inside.start(&format!("observer{i}"), &[addresses[i].clone()]));
        let mut seeds = Seeds { inside, addresses, seeds: [None, None], observers };
        seeds.bring_back(0);
        seeds.bring_back(1);
        seeds
    }

    fn bring_back(&mut self, index: usize) {
        until_free(&self.addresses[index]);
        let seeds = self.addresses.join(",");
        let settings = [("binds", self.addresses[index].as_str()), ("seeds", &seeds)];
        self.seeds[index] = Some(Aemp::start(&format!("seed{index}"), &settings));
    }

    fn worker(&self, name: &str, more: Value) -> PerlNode {
        let mut settings = json!({"seeds": self.addresses});
        for (key, value) in more.as_object().unwrap() {
            settings[key] = value.clone();
        }
        let mut worker = PerlNode::start(name, settings);
        worker.eval("db_set workers => $NODE => [1]; 1");
        self.is_at(0, name);
        self.is_at(1, name);
        // It cannot lose a seed that it has not connected to yet.
        eventually("both seeds", || {
            let up = worker.nodes();
            let both = ["seed0", "seed1"].iter().all(|&seed| up.iter().any(|node| node == seed));
            if both { Ok(()) } else { Err(format!("{up:?}")) }
        });
        worker
    }

    fn has(&self, index: usize, worker: &str) -> Result<(), String> {
        let seen = self.inside.family(&self.observers[index], "workers")?;
        if seen.contains_key(worker) { Ok(()) } else { Err(format!("{seen:?}")) }
    }

    fn is_at(&self, index: usize, worker: &str) -> Duration {
        eventually(&format!("{worker} at seed {index}"), || self.has(index, worker)).1
    }

    /// Kills the master of a worker; returns its index.
    fn kill_master_of(&mut self, worker: &mut PerlNode) -> usize {
        let master = worker.eval("$AnyEvent::MP::Kernel::MASTER")[0].clone();
        let index = usize::from(master == "seed1");
        assert_eq!(master, format!("seed{index}"));
        self.seeds[index].take().unwrap().process().kill();
        worker.sees_down(&format!("seed{index}"));
        index
    }

    /// Makes a worker lose its master for the second time, so that it is an orphan; returns the index of the
    /// remaining seed.
    fn orphan(&mut self, worker: &mut PerlNode) -> usize {
        let first = self.kill_master_of(worker);
        self.is_at(1 - first, worker.id());
        self.bring_back(first);
        worker.sees_up(&format!("seed{first}"));
        self.is_at(first, worker.id());
        let second = self.kill_master_of(worker);
        assert_eq!(second, 1 - first);
        first
    }
}

#[test]
fn a_slave_that_lost_its_master_again_and_again_is_back_in_the_database() {
    if !perl::has(MODULES) {
        return;
    }
    let mut seeds = Seeds::start();
    let mut worker = seeds.worker("worker", json!({}));
    // Counts the calls by name; Perl does not make its own calls by name.
    worker.eval(
        "our $healed = 0;
         $AnyEvent::MP::Kernel::NODE_REQ{'AnyEvent::MP::Kernel::master_set'} = sub {
            $healed++;
            &AnyEvent::MP::Kernel::master_set
         }; 1",
    );
    for loss in 1..=5 {
        let lost = seeds.kill_master_of(&mut worker);
        // The first time it finds a new master by itself.
        if loss > 1 {
            eventually("that it is healed", || {
                let times = worker.eval("$healed")[0].as_u64().unwrap();
                if times >= loss - 1 { Ok(()) } else { Err(times.to_string()) }
            });
        }
        seeds.is_at(1 - lost, "worker");
        assert_eq!(worker.eval("$healed")[0] != 0, loss > 1);
        seeds.bring_back(lost);
        worker.sees_up(&format!("seed{lost}"));
        seeds.is_at(lost, "worker");
    }
    // It uses the database as before.
    worker.run("db_family", json!({"family": "workers", "label": "own"}));
    let seen = worker.event("database", "own", |_| true);
    assert_eq!(seen["result"], json!({"worker": [1]}));
    assert_eq!(worker.complaints(), Vec::<String>::new());
}

#[test]
fn an_orphan_is_back_although_all_seeds_were_gone_at_once() {
    if !perl::has(MODULES) {
        return;
    }
    let mut seeds = Seeds::start();
    let mut worker = seeds.worker("worker", json!({}));
    for _ in 0..3 {
        for index in [0, 1] {
            seeds.seeds[index].take().unwrap().process().kill();
        }
        for index in [0, 1] {
            worker.sees_down(&format!("seed{index}"));
        }
        seeds.bring_back(0);
        seeds.bring_back(1);
        seeds.is_at(0, "worker");
        seeds.is_at(1, "worker");
    }
}

#[test]
fn healthy_slaves_are_never_told_to_change_their_master() {
    if !perl::has(MODULES) {
        return;
    }
    let mut seeds = Seeds::start();
    let mut workers: Vec<PerlNode> =
        (0..4).map(|index| seeds.worker(&format!("worker{index}"), json!({}))).collect();
    std::thread::sleep(BEYOND_GRACE_PERIOD);
    assert!(!workers.iter_mut().any(PerlNode::was_healed));
    // A slave that loses its master for the first time recovers by itself.
    let lost = seeds.kill_master_of(&mut workers[0]);
    for worker in &workers {
        seeds.is_at(1 - lost, worker.id());
    }
    seeds.bring_back(lost);
    for worker in &workers {
        seeds.is_at(lost, worker.id());
    }
    std::thread::sleep(BEYOND_GRACE_PERIOD);
    assert!(!workers.iter_mut().any(PerlNode::was_healed));
}

#[test]
fn a_secure_orphan_that_refuses_to_answer_is_left_alone() {
    if !perl::has(MODULES) {
        return;
    }
    let mut seeds = Seeds::start();
    let mut worker = seeds.worker("worker", json!({"secure": 1}));
    let left = seeds.orphan(&mut worker);
    let seed = seeds.seeds[left].as_mut().unwrap();
    let line = seed.process().wait_for_log("restart it");
    assert!(line.contains("worker"), "{line}");
    let (complaints, _) = eventually("that it complains", || {
        let complaints = worker.complaints();
        if complaints.is_empty() { Err("nothing".to_owned()) } else { Ok(complaints) }
    });
    let refused = |line: &String| line.contains("remote execution not allowed");
    assert!(complaints.iter().all(refused), "{complaints:?}");
    // Whatever it does now, it is not asked again.
    worker.eval("db_set more => entries => 1; 1");
    std::thread::sleep(BEYOND_GRACE_PERIOD);
    assert_eq!(worker.complaints(), complaints);
    assert!(!worker.was_healed());
}

#[test]
fn slaves_are_left_alone_if_healing_is_switched_off() {
    if !perl::has(MODULES) {
        return;
    }
    let inside = InProcess::new();
    let addresses = [free_address(), free_address()];
    let start = |index: usize| {
        inside.start_as(&format!("seed{index}"), |builder| {
            builder.bind(&addresses[index]).seed(&addresses[0]).seed(&addresses[1]).no_healing()
        })
    };
    let mut seeds = [0, 1].map(|index| Some(start(index)));
    let mut worker = PerlNode::start("worker", json!({"seeds": addresses}));
    worker.eval("db_set workers => $NODE => [1]; 1");
    for _ in 0..2 {
        worker.run("nodes", json!({}));
        eventually("the worker at both seeds", || {
            for seed in seeds.iter().flatten() {
                let seen = inside.family(seed, "workers")?;
                if !seen.contains_key("worker") || !seed.is_up(&"worker".parse().unwrap()) {
                    return Err(format!("{}: {seen:?}", seed.id()));
                }
            }
            Ok(())
        });
        let master = worker.eval("$AnyEvent::MP::Kernel::MASTER")[0].clone();
        let index = usize::from(master == "seed1");
        inside.run(seeds[index].take().unwrap().shutdown());
        worker.sees_down(&format!("seed{index}"));
        seeds[index] = Some(start(index));
        worker.sees_up(&format!("seed{index}"));
    }
    worker.eval("db_set more => entries => 1; 1");
    std::thread::sleep(BEYOND_GRACE_PERIOD);
    assert!(!worker.was_healed());
    // The entries of the slaves of a lost global node are kept for the grace period.
    eventually("the worker in no database", || {
        for seed in seeds.iter().flatten() {
            let seen = inside.family(seed, "workers")?;
            if !seen.is_empty() {
                return Err(format!("{}: {seen:?}", seed.id()));
            }
        }
        Ok(())
    });
    assert!(!worker.was_healed());
}
