//! Runs as many plans as asked: `cargo run --release -p aemp-sim --example soak -- FIRST LAST`.

use aemp_sim::chaos::{Outcome, Plan};

fn main() -> std::process::ExitCode {
    let mut arguments = std::env::args().skip(1).filter_map(|text| text.parse::<u64>().ok());
    let first = arguments.next().unwrap_or(0);
    let last = arguments.next().unwrap_or(first + 1_000);
    let mut total = Outcome::default();
    for seed in first..last {
        match Plan::new(seed).run() {
            Ok(outcome) => {
                total.steps += outcome.steps;
                total.sent += outcome.sent;
                total.received += outcome.received;
                total.fired += outcome.fired;
                total.healed += outcome.healed;
                total.trace ^= outcome.trace;
            }
            Err(failure) => {
                println!("{failure}");
                let mut shrunk = failure.plan.shrink();
                shrunk.verbose = true;
                if let Err(shrunk) = shrunk.run() {
                    println!("shrunk: {shrunk}");
                }
                return std::process::ExitCode::FAILURE;
            }
        }
    }
    println!("{} plans: {total:?}", last - first);
    std::process::ExitCode::SUCCESS
}
