//! Deliberately broken nodes, whose faults the conformance suite has to find.

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use compat_tests::conform::{self, Identity, Level, Outcome, Place, Plan, Start, Target, run};
use compat_tests::faulty::{DIALLING_FAULTS, FAULTS, Fault, Relay, TLS_FAULTS};
use compat_tests::faulty_member::NETWORK_FAULTS;
use compat_tests::network::InProcess;
use compat_tests::node::SECRET;
use compat_tests::service::{self, SERVICE};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::Semaphore;

const NODE: &str = "faulty";

fn plan(place: Place, patience: Duration, only: Vec<String>) -> Plan {
    let target = Target {
        secret: Some(SECRET.into()),
        patience,
        monitor_timeout: SILENCE,
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

/// Plans that run at the same time; with all of them a busy machine is too slow for their patience.
const AT_ONCE: usize = 24;

/// The misses of each of the plans.
async fn each_missed(plans: Vec<Plan>) -> Vec<Vec<String>> {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let run = |plan: Plan| {
        let room = room.clone();
        tokio::spawn(async move {
            let _permit = room.acquire().await.unwrap();
            missed(plan).await
        })
    };
    let runs: Vec<_> = plans.into_iter().map(run).collect();
    let mut all = Vec::new();
    for run in runs {
        all.push(run.await.unwrap());
    }
    all
}

/// The time after which nodes and the relay give up a silent peer.
const SILENCE: Duration = Duration::from_secs(4);

/// Misses are determined quickly, while checks that pass may take longer.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);
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
    assert_found(FAULTS, None);
}

/// Runs every fault of a node that is dialled with its own check, and the node without a fault with all of
/// them: the relay itself causes no misses, so that the others are due to the faults.
fn assert_found(faults: &[(&str, Fault, &str)], certificate: Option<&str>) {
    let inside = InProcess::new();
    let node = inside.start(NODE, &[]);
    inside.run(async { service::register(&node) });
    let address = node.addresses()[0].to_string();
    let identity = certificate.map(|pem| Arc::new(Identity::from_pem(pem.as_bytes()).unwrap()));
    let plan = |fault: Fault, patience: Duration, only: Vec<String>| {
        let mut relay = Relay::new(NODE, SECRET, fault).monitor_timeout(SILENCE);
        if let Some(pem) = certificate {
            relay = relay.with_certificate(pem);
        }
        let place = Place::Dial(inside.run(relay.in_front_of(address.clone())));
        let mut plan = plan(place, patience, only);
        plan.target.identity = identity.clone();
        plan
    };
    let sound = plan(Fault::None, LONG, all_of(faults));
    assert_eq!(inside.run(missed(sound)), Vec::<String>::new());
    let plans: Vec<Plan> = faults
        .iter()
        .map(|(_, fault, check)| plan(*fault, CHECK_TIMEOUT, vec![(*check).to_owned()]))
        .collect();
    let missed = inside.run(each_missed(plans));
    assert_eq!(not_found(faults, &missed), Vec::<String>::new());
}

#[test]
fn each_fault_of_tls_is_found_by_its_check() {
    let pem = aemp::node::tls::gencert(SystemTime::now()).unwrap();
    assert_found(TLS_FAULTS, Some(&pem));
}

/// Statements that no fault breaks, with the reason.
const WITHOUT_FAULT: &[(&str, &str)] = &[];

#[test]
fn every_statement_is_broken_by_a_fault_that_a_check_finds() {
    let statement = |id: &str| {
        let check = conform::all().find(|check| check.id == id);
        check.unwrap_or_else(|| panic!("no check is called {id}")).statement
    };
    let of_network = |id: &str| {
        let check = conform::network_checks().find(|check| check.id == id);
        check.unwrap_or_else(|| panic!("no check of networks is called {id}")).statement
    };
    let faults = FAULTS.iter().chain(DIALLING_FAULTS).chain(TLS_FAULTS);
    let faults = faults.map(|(_, _, check)| statement(check));
    let of_members = NETWORK_FAULTS.iter().map(|(_, _, check)| of_network(check));
    let broken: BTreeSet<&str> = faults.chain(of_members).collect();
    let all = conform::all().map(|check| check.statement);
    let of_networks = conform::network_checks().map(|check| check.statement);
    let all: BTreeSet<&str> = all.chain(of_networks).collect();
    let excused: BTreeSet<&str> = WITHOUT_FAULT.iter().map(|(statement, _)| *statement).collect();
    let missing: Vec<_> = all.difference(&broken).filter(|one| !excused.contains(*one)).collect();
    assert!(missing.is_empty(), "statements that no fault breaks: {missing:?}");
    let needless: Vec<_> = excused.intersection(&broken).collect();
    assert!(needless.is_empty(), "excused, but broken by a fault: {needless:?}");
}

#[test]
fn each_fault_of_a_node_that_dials_is_found_by_its_check() {
    let inside = InProcess::new();
    let command = |fault: &str| {
        let program = env!("CARGO_BIN_EXE_faulty-node");
        let command = format!("exec {program} '{fault}' {{seeds}}");
        Place::Listen { host: [127, 0, 0, 1].into(), start: Start::Command(command) }
    };
    let sound = plan(command("none"), LONG, all_of(DIALLING_FAULTS));
    assert_eq!(inside.run(missed(sound)), Vec::<String>::new());
    let plans: Vec<Plan> = DIALLING_FAULTS
        .iter()
        .map(|(name, _, check)| plan(command(name), CHECK_TIMEOUT * 2, vec![(*check).to_owned()]))
        .collect();
    let missed = inside.run(each_missed(plans));
    assert_eq!(not_found(DIALLING_FAULTS, &missed), Vec::<String>::new());
}
