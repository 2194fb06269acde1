//! Deliberately broken nodes, whose faults the conformance suite has to find.

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use compat_tests::conform::{Level, Outcome, Place, Plan, Start, Target, run};
use compat_tests::faulty::{DIALLING_FAULTS, FAULTS, Fault, Relay};
use compat_tests::network::Inside;
use compat_tests::node::SECRET;
use compat_tests::service::{self, SERVICE};
use std::time::Duration;

const NODE: &str = "faulty";

fn plan(place: Place, patience: Duration, only: Vec<String>) -> Plan {
    let target = Target {
        secret: Some(SECRET.into()),
        patience,
        service: Some(SERVICE.into()),
        ..Target::default()
    };
    Plan { place, target, only, level: Level::Ours, profile: None }
}

/// The checks that a node misses.
async fn missed(plan: Plan) -> Vec<String> {
    let findings = run(plan, |_| {}).await.unwrap();
    let missed = findings.iter().filter(|finding| !matches!(finding.outcome, Outcome::Passed));
    missed.map(|finding| format!("{}: {:?}", finding.check.id, finding.outcome)).collect()
}

/// The misses of each of the plans, which run concurrently.
async fn each_missed(plans: Vec<Plan>) -> Vec<Vec<String>> {
    let runs: Vec<_> = plans.into_iter().map(|plan| tokio::spawn(missed(plan))).collect();
    let mut all = Vec::new();
    for run in runs {
        all.push(run.await.unwrap());
    }
    all
}

/// Misses are determined quickly, while checks that pass may take longer.
const A_MOMENT: Duration = Duration::from_secs(2);
const LONG: Duration = Duration::from_secs(30);

fn all_of(faults: &[(&str, Fault, &str)]) -> Vec<String> {
    faults.iter().map(|(_, _, check)| (*check).to_owned()).collect()
}

fn not_found(faults: &[(&str, Fault, &str)], missed: &[Vec<String>]) -> Vec<String> {
    let pairs = faults.iter().zip(missed);
    let silent = pairs.filter(|((_, _, check), missed)| {
        !missed.iter().any(|line| line.starts_with(&format!("{check}: Missed")))
    });
    silent.map(|((name, _, check), missed)| format!("{name}: {check} gave {missed:?}")).collect()
}

#[test]
fn each_fault_of_a_node_that_is_dialled_is_found_by_its_check() {
    let inside = Inside::new();
    let node = inside.start(NODE, &[]);
    inside.run(async { service::register(&node) });
    let address = node.addresses()[0].to_string();
    let behind = |fault| {
        let relay = Relay { node: NODE.into(), secret: SECRET.into(), fault };
        Place::Dial(inside.run(relay.in_front_of(address.clone())))
    };
    // The relay itself causes no misses, so the following ones are due to the faults.
    let sound = plan(behind(Fault::None), LONG, all_of(FAULTS));
    assert_eq!(inside.run(missed(sound)), Vec::<String>::new());
    let plans: Vec<Plan> = FAULTS
        .iter()
        .map(|(_, fault, check)| plan(behind(*fault), A_MOMENT, vec![(*check).to_owned()]))
        .collect();
    let missed = inside.run(each_missed(plans));
    assert_eq!(not_found(FAULTS, &missed), Vec::<String>::new());
}

#[test]
fn each_fault_of_a_node_that_dials_is_found_by_its_check() {
    let inside = Inside::new();
    let command = |fault: &str| {
        let program = env!("CARGO_BIN_EXE_faulty-node");
        let command = format!("exec {program} '{fault}' {{seeds}}");
        Place::Listen { host: [127, 0, 0, 1].into(), start: Start::Command(command) }
    };
    let sound = plan(command("none"), LONG, all_of(DIALLING_FAULTS));
    assert_eq!(inside.run(missed(sound)), Vec::<String>::new());
    let plans: Vec<Plan> = DIALLING_FAULTS
        .iter()
        .map(|(name, _, check)| plan(command(name), A_MOMENT * 2, vec![(*check).to_owned()]))
        .collect();
    let missed = inside.run(each_missed(plans));
    assert_eq!(not_found(DIALLING_FAULTS, &missed), Vec::<String>::new());
}
