//! Hostile members and strangers against a node over real sockets. Measures how long another member
//! waits for an echo meanwhile, what the node keeps, and what it writes into its log.
//!
//! A round is determined by its seed: who attacks, with which packets, and how they read the answers. If
//! others waited for too long the round is repeated before it counts, since something else may have kept
//! the processors busy. A round that breaks a bound is repeated with a part of its packets, as few as
//! still break it; they are listed, and `aemp-siege round` repeats them. At the end there is a table of
//! the worst of all rounds.
//!
//! `aemp-siege known` commits the known offences, or those with some numbers, and ends with their table.
//!
//! The node and the member that waits are processes of their own. The attackers' threads have a lower
//! priority, as they would be on other machines.

mod database;
mod figures;
mod helper;
mod known;
mod member;
mod node;
mod raw;
mod round;
mod strangers;
mod talker;
mod watcher;

use anyhow::{Context as _, Result};
use figures::{Bound, KnownTable, Outcome, Table};
use known::Known;
use round::{Attack, round};
use std::ops::Range;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// The secret of the network.
const SECRET: &str = "siege";

const USAGE: &str = "usage: aemp-siege [SECONDS [SEED]] | aemp-siege round SEED [FROM TO] | \
                     aemp-siege known [NUMBER...]";

/// How often a round or an offence is repeated in which others waited for too long; it counts if they do each time.
const REPEATS: usize = 2;

/// What the arguments ask for.
enum Command {
    /// Rounds for some time, from a seed on.
    Siege { seconds: u64, first: u64 },
    /// Some packets of one round.
    Round { seed: u64, packets: Range<usize> },
    /// Known offences.
    Known { offences: Vec<Known> },
    /// For internal use: the node under siege.
    Node { database_limit: usize },
    /// For internal use: the member that waits for echoes of the node at an address.
    Watcher { address: String },
}

impl Command {
    fn of(arguments: &[&str]) -> Option<Command> {
        let siege = |seconds, first| Some(Command::Siege { seconds, first });
        let round = |seed, packets| Some(Command::Round { seed, packets });
        match arguments {
            [] => siege(600, 1),
            ["node", limit] => Some(Command::Node { database_limit: limit.parse().ok()? }),
            ["watcher", address] => Some(Command::Watcher { address: (*address).to_owned() }),
            ["round", seed] => round(seed.parse().ok()?, 0..usize::MAX),
            ["round", seed, from, to] => {
                round(seed.parse().ok()?, from.parse().ok()?..to.parse().ok()?)
            }
            ["known"] => Some(Command::Known { offences: known::ALL.to_vec() }),
            ["known", numbers @ ..] => {
                let offences: Option<Vec<Known>> = numbers.iter().map(|n| Known::of(n)).collect();
                Some(Command::Known { offences: offences? })
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
        Command::Known { offences } => known(&offences),
        Command::Node { database_limit } => node::run(database_limit).map(|()| true),
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
        let outcome = confirmed(&format!("seed {seed}"), || round(seed, 0..usize::MAX))?;
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

/// Commits known offences. Returns whether none broke a bound.
fn known(offences: &[Known]) -> Result<bool> {
    let mut table = KnownTable::default();
    let mut broken = 0;
    for offence in offences {
        let name = format!("{} {}", offence.number, offence.name);
        match confirmed(&name, || offence.commit()) {
            Ok(outcome) => {
                table.add(offence.name, &outcome);
                broken += usize::from(outcome.broken.is_some());
            }
            // The others can be measured all the same.
            Err(error) => {
                println!("FAILED: {error:#}");
                broken += 1;
            }
        }
    }
    println!("\n{table}");
    println!("{} known offences, {broken} of which broke a bound", offences.len());
    Ok(broken == 0)
}

/// What an attempt costs others, printed. If they waited for too long it is repeated, and the first good
/// outcome counts.
fn confirmed(name: &str, attempt: impl Fn() -> Result<Outcome>) -> Result<Outcome> {
    let attempt = || attempt().with_context(|| name.to_owned());
    let mut outcome = attempt()?;
    for _ in 0..REPEATS {
        if outcome.broken != Some(Bound::Waiting) {
            break;
        }
        println!("{name}: {outcome}; again");
        outcome = attempt()?;
    }
    println!("{name}: {outcome}");
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
