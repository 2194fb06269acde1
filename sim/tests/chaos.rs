//! Random networks with random faults keep their promises.

use aemp_sim::chaos::Plan;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many plans are tried, unless `SEEDS` says otherwise: `FIRST..LAST`, or how many.
const PLANS: u64 = 600;

fn seeds() -> std::ops::Range<u64> {
    let Ok(told) = std::env::var("SEEDS") else {
        return 0..PLANS;
    };
    match told.split_once("..") {
        Some((first, last)) => first.parse().unwrap_or(0)..last.parse().unwrap_or(PLANS),
        None => 0..told.parse().unwrap_or(PLANS),
    }
}

#[test]
fn networks_keep_their_promises_whatever_happens() {
    let seeds = seeds();
    let next = AtomicU64::new(seeds.start);
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(4);
    let mut failures: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut failures = Vec::new();
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= seeds.end || failures.len() > 3 {
                            return failures;
                        }
                        let failure = std::panic::catch_unwind(|| Plan::new(seed).run())
                            .unwrap_or_else(|_| panic!("seed {seed} panicked"));
                        failures.extend(failure.err());
                    }
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("no panic")).collect()
    });
    failures.sort_by_key(|failure| failure.plan.ops.len());
    let Some(first) = failures.first() else {
        return;
    };
    let seeds: Vec<u64> = failures.iter().map(|failure| failure.plan.seed).collect();
    for failure in &failures {
        eprintln!("seed {}: {}", failure.plan.seed, failure.what);
    }
    if std::env::var_os("AEMP_SIM_SHRINK").is_some_and(|wanted| wanted == "0") {
        panic!("{first}");
    }
    let shrunk = first.plan.shrink();
    let shrunk = shrunk.run().expect_err("a shrunk plan still fails");
    panic!("seeds {seeds:?} failed; the shortest, shrunk:\n{shrunk}");
}

#[test]
fn one_seed_reproduces_a_run() {
    for seed in 1_000..1_005 {
        let plan = Plan::new(seed);
        assert_eq!(plan.run().ok(), plan.run().ok(), "seed {seed}");
    }
}
