//! Hostile members and strangers against a node over real sockets. Measures how long another member
//! waits for an echo meanwhile, what the node keeps, and what it writes into its log.
//!
//! A round is determined by its seed: who attacks, with which packets, and how they read the answers. If
//! others waited for too long the round is repeated before it counts, since something else may have kept
//! the processors busy. A round that breaks a bound is repeated with a part of its packets, as few as
//! still break it; they are listed, and `aemp-siege round` repeats them. At the end there is a table of
//! the worst of all rounds.
//!
//! The node and the member that waits are processes of their own. The attackers' threads have a lower
//! priority, as they would be on other machines.

mod database;
mod figures;
mod helper;
mod member;
mod node;
mod raw;
mod round;
mod strangers;
mod watcher;

use anyhow::{Context as _, Result};
use figures::{Bound, Outcome, Table};
use round::{Attack, round};
use std::ops::Range;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// The secret of the network.
const SECRET: &str = "siege";

const USAGE: &str = "usage: aemp-siege [SECONDS [SEED]] | aemp-siege round SEED [FROM TO]";

/// How often a round is repeated in which others waited for too long; it counts if they do each time.
const REPEATS: usize = 2;

/// What the arguments ask for.
enum Command {
    /// Rounds for some time, from a seed on.
    Siege { seconds: u64, first: u64 },
    /// Some packets of one round.
    Round { seed: u64, packets: Range<usize> },
    /// For internal use: the node under siege.
    Node,
    /// For internal use: the member that waits for echoes of the node at an address.
    Watcher { address: String },
}

impl Command {
    fn of(arguments: &[&str]) -> Option<Command> {
        let siege = |seconds, first| Some(Command::Siege { seconds, first });
        let round = |seed, packets| Some(Command::Round { seed, packets });
        match arguments {
            [] => siege(600, 1),
            ["node"] => Some(Command::Node),
            ["watcher", address] => Some(Command::Watcher { address: (*address).to_owned() }),
            ["round", seed] => round(seed.parse().ok()?, 0..usize::MAX),
            ["round", seed, from, to] => {
                round(seed.parse().ok()?, from.parse().ok()?..to.parse().ok()?)
            }
            [seconds] => siege(seconds.parse().ok()?, 1),
            [seconds, seed] => siege(seconds.parse().ok()?, seed.parse().ok()?),
            _ => None,
        }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let Some(command) = Command::of(&arguments) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let result = match command {
        Command::Siege { seconds, first } => siege(Duration::from_secs(seconds), first),
        Command::Round { seed, packets } => {
            println!("seed {seed}, {}", Attack::of(seed).name());
            round(seed, packets).map(|outcome| {
                println!("{outcome}");
                outcome.broken.is_none()
            })
        }
        Command::Node => node::run().map(|()| true),
        Command::Watcher { address } => watcher::run(&address).map(|()| true),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("aemp-siege: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs rounds until one breaks a bound or the time is over. Returns whether none did.
fn siege(time: Duration, first: u64) -> Result<bool> {
    let begun = Instant::now();
    let mut seed = first;
    let mut table = Table::default();
    while begun.elapsed() < time {
        let outcome = confirmed(seed).with_context(|| format!("seed {seed}"))?;
        println!("seed {seed}: {outcome}");
        table.add(Attack::of(seed), &outcome);
        if let Some(bound) = outcome.broken {
            print!("{table}");
            let packets = shortest(seed, outcome.sent.packets, bound)?;
            member::list(seed, &packets)?;
            println!("repeat it with: aemp-siege round {seed} {} {}", packets.start, packets.end);
            return Ok(false);
        }
        seed += 1;
    }
    print!("{table}");
    println!("{} rounds without a finding", seed - first);
    Ok(true)
}

/// A round. If others waited for too long it is repeated, and the first good outcome counts.
fn confirmed(seed: u64) -> Result<Outcome> {
    let mut outcome = round(seed, 0..usize::MAX)?;
    for _ in 0..REPEATS {
        if outcome.broken != Some(Bound::Waiting) {
            break;
        }
        println!("seed {seed}: {outcome}; again");
        outcome = round(seed, 0..usize::MAX)?;
    }
    Ok(outcome)
}

/// A part of a round's packets that still breaks the bound, found by halving.
fn shortest(seed: u64, packets: usize, bound: Bound) -> Result<Range<usize>> {
    let mut shortest = 0..packets;
    while shortest.len() > 1 {
        let middle = shortest.start + shortest.len() / 2;
        let (first, second) = (shortest.start..middle, middle..shortest.end);
        if round(seed, first.clone())?.broken == Some(bound) {
            shortest = first;
        } else if round(seed, second.clone())?.broken == Some(bound) {
            shortest = second;
        } else {
            break;
        }
    }
    Ok(shortest)
}
