//! Replicas while nodes are killed, networks are cut or silent and the seed is restarted: once
//! everything is connected again all copies are equal, and nothing is missing but what killed processes
//! had not sent.

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod chaos_support;
mod node_support;

use aemp::patterns::replica::{Counter, Replica};
use chaos_support::{Host, Passing, Random, number, start_seed};
use node_support::within;
use std::time::Duration;

/// How many rounds of trouble there are; after each everything is connected again, and looked at.
const ROUNDS: usize = 3;

/// A copy, and what was added to it.
type Copy = (Replica<Counter>, i64);

async fn run(seed: u64) {
    let mut random = Random(seed);
    let mut hosts = Vec::new();
    for id in ["a", "b", "c", "d"] {
        hosts.push(Host::new(id).await);
    }
    let mut seed_node = Some(start_seed(&hosts).await);
    let mut copies: Vec<Option<Copy>> = hosts.iter().map(|_| None).collect();
    let (mut by_dead, mut history) = (0, Vec::new());
    for round in 0..=ROUNDS {
        // The first round has no trouble.
        for _ in 0..if round == 0 { 0 } else { 1 + random.below(5) } {
            let index = random.below(hosts.len());
            match random.below(6) {
                0 => {
                    // One always lives, so that something is left.
                    let index = 1 + random.below(hosts.len() - 1);
                    hosts[index].kill(random.below(2) == 0).await;
                    by_dead += copies[index].take().map_or(0, |(_, added)| added);
                    history.push(format!("{} is killed", hosts[index].id));
                }
                1 => {
                    if let Some(node) = seed_node.take() {
                        within(node.shutdown()).await;
                    }
                    history.push("the seed is killed".to_owned());
                }
                2 => {
                    hosts[index].set(Passing::Nothing);
                    history.push(format!("{} is silent", hosts[index].id));
                }
                3 => {
                    if let Some((copy, _)) = &copies[index] {
                        let node = hosts[index].node.as_ref().unwrap();
                        node.kil(copy.id(), &aemp::KillReason::new("failure", "as told"));
                    }
                    history.push(format!("the port on {} is killed", hosts[index].id));
                }
                _ => {
                    hosts[index].set(Passing::Cut);
                    history.push(format!("{} is cut off", hosts[index].id));
                }
            }
            for (copy, added) in copies.iter_mut().flatten() {
                let n = random.below(20) as i64;
                copy.add(n).unwrap();
                *added += n;
            }
            tokio::time::sleep(Duration::from_millis(random.below(100) as u64)).await;
        }
        if seed_node.is_none() {
            seed_node = Some(start_seed(&hosts).await);
        }
        for (host, copy) in hosts.iter_mut().zip(&mut copies) {
            let node = host.mend().await;
            if copy.is_none() {
                *copy = Some((within(Replica::join(node, "hits")).await.unwrap(), 0));
            }
        }
        history.push("all is mended".to_owned());
        let living: Vec<&Copy> = copies.iter().flatten().collect();
        let look = async {
            loop {
                let states: Vec<_> = living.iter().map(|(copy, _)| copy.get()).collect();
                if states.windows(2).all(|pair| pair[0] == pair[1]) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let looked = tokio::time::timeout(node_support::TIMEOUT, look).await;
        let values: Vec<_> = living.iter().map(|(copy, added)| (copy.value(), added)).collect();
        assert!(looked.is_ok(), "seed {seed}: {values:?}, {history:?}");
        let by_living: i64 = living.iter().map(|(_, added)| added).sum();
        let of_dead = living[0].0.value() - by_living;
        // A killed process takes along what it had not sent.
        let found = (0..=by_dead).contains(&of_dead);
        assert!(found, "seed {seed}: {values:?}, {of_dead} of {by_dead} by dead ones, {history:?}");
        eprintln!("seed {seed}: {values:?}, {of_dead} of {by_dead} by dead ones; {history:?}");
    }
}

/// `AEMP_SEED` repeats a run, and `AEMP_RUNS` makes more of them.
#[tokio::test(flavor = "multi_thread")]
async fn copies_are_equal_and_complete_after_any_trouble() {
    // In the last one a copy dies after it has told some others only of its changes.
    let usual = vec![400, 401, 5010];
    let seeds = match number("AEMP_SEED") {
        Some(first) => (first..first + number("AEMP_RUNS").unwrap_or(1)).collect(),
        None => usual,
    };
    for seed in seeds {
        run(seed).await;
    }
}
