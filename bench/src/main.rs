//! Measures aemp side by side with other systems: every side as processes of its own, several
//! rounds in turn, median and spread.
//!
//! `aemp-bench [--rounds N] [--quick] [CASE...]`; it starts its own processes as `aemp-bench role ...`.

mod aemp_side;
mod cases;
mod clock;
mod idle;
mod node_loss;
mod process;
#[cfg(feature = "ractor")]
mod ractor_side;
mod raw_side;
mod report;
mod sides;
mod stream_side;
mod swarm;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((role, rest)) if role == "role" => run_role(rest),
        _ => drive(&arguments),
    }
}

/// `role SIDE CASE PART SIZE ARGUMENTS...`: one process of a case.
fn run_role(arguments: &[String]) -> Result<()> {
    let [side, case, part, size, rest @ ..] = arguments else {
        bail!("usage: role SIDE CASE PART SIZE ARGUMENTS...");
    };
    let role = sides::Role { case, part, size: size.parse()?, arguments: rest };
    match side.as_str() {
        "aemp" if case.starts_with("stream") => stream_side::run_aemp(&role),
        "raw" if case.starts_with("stream") => stream_side::run_raw(&role),
        "aemp" => aemp_side::run(&role),
        "raw" => raw_side::run(&role),
        #[cfg(feature = "ractor")]
        "ractor" => ractor_side::run(&role),
        _ => bail!("no side called {side} is built in"),
    }
}

fn drive(arguments: &[String]) -> Result<()> {
    let mut rounds = 5;
    let mut quick = false;
    let mut wanted = Vec::new();
    let mut only_sides = Vec::new();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--rounds" => rounds = arguments.next().map_or(Ok(rounds), |n| n.parse())?,
            "--sides" => {
                let list = arguments.next().cloned().unwrap_or_default();
                only_sides = list.split(',').map(str::to_owned).collect();
            }
            "--quick" => quick = true,
            case => wanted.push(case.to_owned()),
        }
    }
    let sides: Vec<sides::Side> = sides::installed()?
        .into_iter()
        .filter(|side| only_sides.is_empty() || only_sides.iter().any(|name| name == side.name()))
        .collect();
    let mut report = report::Report::default();
    for case in cases::ALL {
        if wanted.is_empty() || wanted.iter().any(|name| name == case.name) {
            cases::measure(case, &sides, rounds, quick, &mut report);
        }
    }
    report.print();
    report.write("target/bench.json")
}
