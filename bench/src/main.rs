//! Measures aemp side by side with other systems: every side as processes of its own, several
//! rounds in turn, median and spread.
//!
//! `aemp-bench [--rounds N] [--quick] [--sides SIDE,...] [--before PROGRAM] [CASE...]`; `--before` is the
//! `aemp-bench` of an earlier version. It starts its own processes as `aemp-bench role ...`.

mod aemp_side;
mod before;
mod cases;
mod clock;
mod eight;
mod goal;
mod idle;
mod measure;
mod nats_server;
#[cfg(feature = "nats")]
mod nats_side;
mod node_loss;
mod process;
#[cfg(feature = "ractor")]
mod ractor_side;
mod raw_side;
mod report;
mod sides;
mod stream_side;
mod swarm;
#[cfg(feature = "zeromq")]
mod zeromq_side;

use anyhow::{Context as _, Result, bail};
use std::path::PathBuf;

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
        #[cfg(feature = "nats")]
        "nats" => nats_side::run(&role),
        #[cfg(feature = "ractor")]
        "ractor" => ractor_side::run(&role),
        #[cfg(feature = "zeromq")]
        "zeromq" => zeromq_side::run(&role),
        _ => bail!("no side called {side} is built in"),
    }
}

fn drive(arguments: &[String]) -> Result<()> {
    let mut rounds = 5;
    let mut quick = false;
    let mut before = None;
    let mut wanted = Vec::new();
    let mut only_sides = Vec::new();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--rounds" => rounds = value()?.parse()?,
            "--sides" => only_sides = value()?.split(',').map(str::to_owned).collect(),
            "--before" => before = Some(PathBuf::from(value()?)),
            "--quick" => quick = true,
            case => wanted.push(case.to_owned()),
        }
    }
    for name in &wanted {
        if !cases::ALL.iter().any(|case| case.name == name) {
            bail!("no case is called {name}");
        }
    }
    let mut sides = sides::Sides::find(before.as_deref())?;
    if !only_sides.is_empty() {
        sides.keep(&only_sides);
    }
    let mut report = report::Report::default();
    for case in cases::ALL {
        if wanted.is_empty() || wanted.iter().any(|name| name == case.name) {
            measure::measure(case, &sides, rounds, quick, &mut report);
        }
    }
    report.print();
    println!("load of this machine at the end: {}", load());
    report.write()
}

/// The load averages of 1, 5 and 15 minutes.
fn load() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split_whitespace().take(3).collect::<Vec<_>>().join(", ")
}
