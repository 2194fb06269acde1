//! Runs as many random plans as requested, on all processors.
//!
//! `soak [FIRST [LAST [NODES]]]`: runs the plans of these seeds, for networks of three to eight
//! nodes by default. A plan that fails is shrunk and printed with everything that happened.

use aemp_sim::chaos::{Failure, Plan, RunStats};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).filter_map(|text| text.parse::<u64>().ok());
    let first = arguments.next().unwrap_or(0);
    let last = arguments.next().unwrap_or(first + 1_000);
    let nodes = arguments.next();
    let plan = |seed| match nodes {
        Some(nodes) => Plan::of_nodes(seed, nodes as usize),
        None => Plan::new(seed),
    };
    let next = AtomicU64::new(first);
    let total = Mutex::new((0, RunStats::default()));
    let failed: Mutex<Option<Box<Failure>>> = Mutex::new(None);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= last {
                return;
            }
            match plan(seed).run() {
                Ok(outcome) => {
                    if let Ok(mut total) = total.lock() {
                        total.0 += 1;
                        total.1.add(&outcome);
                    }
                }
                Err(failure) => {
                    next.store(last, Ordering::Relaxed);
                    if let Ok(mut failed) = failed.lock() {
                        *failed = Some(failure);
                    }
                }
            }
        }
    };
    let begun = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    if let Ok(total) = total.lock() {
        let (plans, outcome, took) = (total.0, total.1, begun.elapsed());
        println!("{plans} plans in {took:.1?}: {outcome:?}");
    }
    match failed.into_inner() {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(failure)) => {
            println!("{failure}");
            if std::env::var_os("AEMP_SIM_SHRINK").is_some_and(|wanted| wanted == "0") {
                return ExitCode::FAILURE;
            }
            let mut shrunk = failure.plan.shrink();
            shrunk.verbose = true;
            if let Err(shrunk) = shrunk.run() {
                println!("shrunk: {shrunk}");
            }
            ExitCode::FAILURE
        }
        Err(_) => ExitCode::FAILURE,
    }
}
