//! The conformance suite against our own node and real Perl nodes.

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use aemp::wire::framing::Framing;
use compat_tests::conform::{
    Identity, Level, Outcome, Place, Plan, Position, Profile, Progress, Report, Start, State,
    Target, all, run,
};
use compat_tests::network::{InProcess, eventually};
use compat_tests::perl;
use compat_tests::perl_node::{MODULES, PerlNode};
use compat_tests::process::Process;
use compat_tests::service::{self, SERVICE};
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

/// Longer than a block of the HMAC.
const SECRET: &str = "a secret of more than seventy-two octets, so that HMAC has to hash it first";

/// Longer than any handshake takes on a busy machine.
const MONITOR_TIMEOUT: u64 = 60;

/// Checks that wait for `monitor_timeout` use a node of their own, with a small value.
const SLOW: &[&str] = &["refuse-silence", "refuse-half"];

/// All settings for a node that has the test service.
fn target(framing: Option<Framing>, pem: Option<&str>) -> Target {
    Target {
        secret: Some(SECRET.into()),
        identity: pem.map(|pem| Arc::new(Identity::from_pem(pem.as_bytes()).unwrap())),
        framing,
        // Only a failing check waits this long; a slow machine is not a miss.
        patience: Duration::from_secs(20),
        monitor_timeout: Duration::from_secs(MONITOR_TIMEOUT),
        service: Some(SERVICE.into()),
        ..Target::default()
    }
}

fn plan(place: Place, target: Target) -> Plan {
    Plan { place, target, only: Vec::new(), level: Level::Ours, profile: None }
}

async fn report(plan: Plan) -> Report {
    let profile = plan.profile;
    Report::new(run(plan, |_| {}).await.unwrap(), profile)
}

/// Everything passes, and only checks that these settings exclude are skipped.
fn assert_passes(report: &Report, skipped: &[&str]) {
    let text = report.text(false);
    assert_eq!(report.count(State::Missed), 0, "{text}");
    assert_eq!(report.count(State::Surprise), 0, "{text}");
    for finding in report.findings() {
        let id = finding.check.id;
        let may_skip =
            skipped.iter().any(|skip| *skip == id || skip.ends_with('-') && id.starts_with(skip));
        let is_skipped = matches!(finding.outcome, Outcome::Skipped(_));
        assert!(!is_skipped || may_skip, "{}", report.line(finding));
    }
}

/// The checks of connections, whose code differs by framing and with TLS.
const OF_CONNECTIONS: &[&str] =
    &["take-*", "auth-*", "choose-*", "tls-*", "snd-*", "mon-*", "g-chg2-*", "join*", "slave-*"];

/// Each framing with and without TLS; and whether to run all checks, or only those of connections.
fn variants(pem: &str) -> [(Framing, Option<&str>, bool); 6] {
    [
        (Framing::Cbor, None, true),
        (Framing::Json, None, false),
        (Framing::Storable, None, false),
        (Framing::Cbor, Some(pem), false),
        (Framing::Json, Some(pem), false),
        (Framing::Storable, Some(pem), true),
    ]
}

fn only(all: bool) -> Vec<String> {
    let only = OF_CONNECTIONS.iter().filter(|_| !all).map(|name| (*name).to_owned());
    only.chain(SLOW.iter().map(|name| format!("!{name}"))).collect()
}

/// The checks that cannot be run with, and without, a certificate.
fn skipped(pem: Option<&str>) -> &'static [&'static str] {
    match pem {
        Some(_) => &["refuse-unlisted", "take-claimed-tls"],
        None => &["refuse-unlisted", "tls-"],
    }
}

#[test]
fn our_node_keeps_every_statement_when_it_is_dialled() {
    let pem = compat_tests::certificate();
    let inside = InProcess::new();
    let mut nodes = Vec::new();
    for (framing, cert, all) in variants(&pem) {
        let name = format!("ours-{framing}-{}", cert.is_some());
        let node = inside.start_as(&name, |builder| {
            let builder = builder.secret(SECRET).bind("127.0.0.1:0").set("connect_interval", 5);
            let builder = builder.set("monitor_timeout", MONITOR_TIMEOUT);
            cert.into_iter().fold(builder, |builder, pem| builder.cert(pem))
        });
        inside.run(async { service::register(&node) });
        let place = Place::Dial(node.addresses()[0].to_string());
        let mut target = target(Some(framing), cert);
        target.connect_interval = Duration::from_secs(5);
        nodes.push((node, cert, Plan { only: only(all), ..plan(place, target) }));
    }
    let reports: Vec<Report> = inside.run(async {
        let plans = nodes.iter().map(|(_, _, plan)| plan.clone());
        let runs: Vec<_> = plans.map(|plan| tokio::spawn(report(plan))).collect();
        let mut reports = Vec::new();
        for run in runs {
            reports.push(run.await.unwrap());
        }
        reports
    });
    for ((_, cert, _), report) in nodes.iter().zip(&reports) {
        assert_passes(report, skipped(*cert));
    }
}

/// The command that starts our node with the test service and these settings.
fn our_command(cert: Option<&std::path::Path>) -> String {
    let node = env!("CARGO_BIN_EXE_service-node");
    let cert = cert.map_or_else(String::new, |path| format!("cert \"$(cat {})\"", path.display()));
    format!(
        "exec {node} x nodeid nut norc 1 binds 127.0.0.1:0 monitor_timeout {MONITOR_TIMEOUT} \
         secret '{SECRET}' seeds {{seeds}} {cert}"
    )
}

fn listening(command: String) -> Place {
    Place::Listen { host: IpAddr::V4(Ipv4Addr::LOCALHOST), start: Start::Command(command) }
}

#[test]
fn our_node_keeps_every_statement_when_it_dials() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pem");
    let pem = compat_tests::certificate();
    std::fs::write(&path, &pem).unwrap();
    let inside = InProcess::new();
    for (framing, cert, all) in variants(&pem) {
        let command = our_command(cert.map(|_| &*path));
        let plan = plan(listening(command), target(Some(framing), cert));
        let report = inside.run(report(Plan { only: only(all), ..plan }));
        assert_passes(&report, skipped(cert));
    }
}

#[test]
fn our_node_refuses_a_method_that_it_does_not_list() {
    let inside = InProcess::new();
    let node = inside.start_as("ours", |builder| {
        builder.secret(SECRET).bind("127.0.0.1:0").set("auth_accept", json!(["hmac_sha3_512"]))
    });
    let place = Place::Dial(node.addresses()[0].to_string());
    let plan = Plan { only: vec!["refuse-unlisted".into()], ..plan(place, target(None, None)) };
    assert_passes(&inside.run(report(plan)), &[]);
}

#[test]
fn our_node_closes_silent_connections() {
    let inside = InProcess::new();
    let node = inside.start_as("ours", |builder| {
        builder.secret(SECRET).bind("127.0.0.1:0").set("monitor_timeout", 1)
    });
    assert_gives_up(&inside, &node.addresses()[0].to_string());
}

fn assert_gives_up(inside: &InProcess, address: &str) {
    let mut target = target(None, None);
    target.monitor_timeout = Duration::from_secs(1);
    let only = SLOW.iter().map(|name| (*name).to_owned()).collect();
    let plan = Plan { only, ..plan(Place::Dial(address.to_owned()), target) };
    assert_passes(&inside.run(report(plan)), &[]);
}

fn perl_settings(pem: Option<&str>) -> Value {
    let mut settings = json!({
        "secret": SECRET,
        "monitor_timeout": MONITOR_TIMEOUT,
        // Perl gives up a node after that time, and the machine may be busy.
        "connect_interval": 20,
    });
    if let Some(pem) = pem {
        settings["cert"] = pem.into();
    }
    settings
}

fn perl_profile() -> Option<&'static Profile> {
    Profile::named("perl-2.02")
}

/// Checks that Perl occasionally misses under load are repeated alone.
fn alone(report: &Report) -> Vec<String> {
    let missed = report.findings().iter().filter(|finding| {
        let known = perl_profile().unwrap().deviation(finding.check.id, finding.position);
        known.is_some_and(|known| known.sometimes)
            && finding.check.level == Level::Must
            && matches!(finding.outcome, Outcome::Missed { .. })
    });
    missed.map(|finding| finding.check.id.to_owned()).collect()
}

#[test]
fn perl_keeps_every_must_when_it_is_dialled_and_misses_what_its_profile_says() {
    if !perl::has(MODULES) {
        return;
    }
    let pem = compat_tests::certificate();
    let inside = InProcess::new();
    for (framing, cert) in [(Framing::Cbor, None), (Framing::Json, Some(&*pem))] {
        let node = PerlNode::start("perl-node", perl_settings(cert));
        let mut target = target(Some(framing), cert);
        target.patience = Duration::from_secs(10);
        let whole = Plan {
            profile: perl_profile(),
            only: only(true),
            ..plan(Place::Dial(node.address().to_owned()), target.clone())
        };
        let first = inside.run(report(whole));
        assert_eq!(first.count(State::Missed), 0, "{}", first.text(false));
        assert_eq!(first.count(State::Surprise), 0, "{}", first.text(false));
        for id in alone(&first) {
            let node = PerlNode::start("perl-node", perl_settings(cert));
            let place = Place::Dial(node.address().to_owned());
            let only = Plan { only: vec![id], ..plan(place, target.clone()) };
            assert_passes(&inside.run(report(only)), &[]);
        }
    }
}

#[test]
fn perl_closes_silent_connections() {
    if perl::has(MODULES) {
        let node = PerlNode::start("perl-node", json!({"secret": SECRET, "monitor_timeout": 1}));
        assert_gives_up(&InProcess::new(), node.address());
    }
}

#[test]
fn perl_keeps_every_must_when_it_dials_and_misses_what_its_profile_says() {
    if !perl::has(MODULES) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("settings");
    let mut settings = perl_settings(None);
    settings["nodeid"] = "perl-node".into();
    settings["binds"] = json!(["127.0.0.1:*"]);
    settings["norc"] = 1.into();
    settings["seeds"] = json!(["SEEDS"]);
    std::fs::write(&path, settings.to_string()).unwrap();
    let program = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("perl/node.pl");
    // It runs until its standard input is closed.
    let command = format!(
        "sleep 300 | perl {} \"$(sed s/SEEDS/{{seeds}}/ {})\"",
        program.display(),
        path.display()
    );
    let mut target = target(None, None);
    target.patience = Duration::from_secs(10);
    let plan =
        Plan { profile: perl_profile(), only: only(true), ..plan(listening(command), target) };
    let report = InProcess::new().run(report(plan));
    assert_eq!(report.count(State::Missed), 0, "{}", report.text(false));
    assert_eq!(report.count(State::Surprise), 0, "{}", report.text(false));
}

#[test]
fn a_profile_only_names_existing_checks() {
    for profile in Profile::ALL {
        for deviation in profile.deviations {
            let is_one = all().any(|check| {
                [Position::Dial, Position::Listen].into_iter().any(|position| {
                    let found = profile.deviation(check.id, position);
                    found.is_some_and(|found| std::ptr::eq(found, deviation))
                })
            });
            assert!(is_one, "{} of {}", deviation.id, profile.name);
        }
    }
}

#[test]
fn a_node_that_dials_may_be_started_by_hand_with_all_seeds() {
    let inside = InProcess::new();
    let place = Place::Listen { host: [127, 0, 0, 1].into(), start: Start::ByHand };
    // Each of those that need a master waits until the node dials again.
    let only = ["take-*", "auth-*", "join-master", "failover", "slave-set"];
    let only = only.map(str::to_owned).to_vec();
    let plan = Plan { only, ..plan(place, target(None, None)) };
    let (tell, told) = std::sync::mpsc::channel();
    let watch = move |progress: &Progress| {
        if let Progress::StartWith(seeds) = progress {
            tell.send(seeds.clone()).unwrap();
        }
    };
    let run = inside.spawn(run(plan, watch));
    let seeds = told.recv().unwrap();
    let node = inside.start_as("by-hand", |builder| {
        let builder = builder.secret(SECRET).bind("127.0.0.1:0");
        seeds.iter().fold(builder, |builder, seed| builder.seed(&seed.to_string()))
    });
    inside.run(async { service::register(&node) });
    let findings = inside.run(run).unwrap().unwrap();
    assert_passes(&Report::new(findings, None), &[]);
    assert!(seeds.len() > 20);
}

/// The behaviour of something that listens on a port.
type Answer = fn(&mut std::net::TcpStream);

#[test]
fn a_run_ends_whatever_answers() {
    use std::io::{Read as _, Write as _};
    let answers: [(&str, Answer); 4] = [
        ("closes", |_| {}),
        ("is silent", |stream| {
            let _ = stream.read_to_end(&mut Vec::new());
        }),
        ("speaks HTTP", |stream| {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            let _ = stream.read_to_end(&mut Vec::new());
        }),
        ("says no end of things", |stream| while stream.write_all(&[b'x'; 4096]).is_ok() {}),
    ];
    let inside = InProcess::new();
    for (name, answer) in answers {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                std::thread::spawn(move || answer(&mut stream));
            }
        });
        let mut target = target(None, None);
        target.patience = Duration::from_millis(50);
        target.monitor_timeout = Duration::from_millis(50);
        // All checks that are requested by name are run, even if the peer is not a node.
        let plan = Plan { only: vec!["*".to_owned()], ..plan(Place::Dial(address), target) };
        let report = inside.run(report(plan));
        let is_pass = |finding: &&compat_tests::conform::Finding| {
            // A peer that closes passes all checks of refusals.
            let closes = finding.check.sentence.starts_with("Refuses")
                || finding.check.id.starts_with("refuse-");
            matches!(finding.outcome, Outcome::Passed) && !closes
        };
        let passed: Vec<_> = report.findings().iter().filter(is_pass).collect();
        assert!(passed.is_empty(), "who {name} passes {}", report.line(passed[0]));
        assert!(report.findings().len() > 290, "{name}");
    }
}

#[test]
fn the_command_reports_and_its_exit_status_tells() {
    let aemp = |arguments: &[&str]| {
        let output = std::process::Command::new(compat_tests::node::command())
            .arg("conform")
            .args(arguments)
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, list) = aemp(&["--list"]);
    assert_eq!(code, Some(0));
    assert!(list.contains("mon-unknown") && list.lines().count() > 300);
    for wrong in [
        &["127.0.0.1:1"][..],
        &["--secret", "x"],
        &["127.0.0.1:1", "--secret", "x", "--only", "no-such-check"],
        &["127.0.0.1:1", "--profile", "no-such-profile"],
        &["127.0.0.1:1", "--no-such-option"],
        &["--command", "node", "--secret", "x"],
    ] {
        assert_eq!(aemp(wrong).0, Some(2), "{wrong:?}");
    }
    let node = InProcess::new();
    let ours = node.start_as("ours", |builder| builder.secret(SECRET).bind("127.0.0.1:0"));
    let address = ours.addresses()[0].to_string();
    let directory = tempfile::tempdir().unwrap();
    let junit = directory.path().join("junit.xml");
    let junit = junit.to_str().unwrap();
    let only = ["--only", "snd-*,mon-unknown", "--secret", SECRET, "--json", "--junit", junit];
    let (code, json) = aemp(&[&[&*address][..], &only].concat());
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &json["missed"]), (Some(0), &json!(0)));
    assert!(json["passed"].as_u64() > Some(4));
    assert!(std::fs::read_to_string(junit).unwrap().contains("snd-echo"));
    let stranger = ["--only", "auth-hmac,snd-echo", "--secret", "another secret"];
    let (code, text) = aemp(&[&[&*address][..], &stranger].concat());
    assert_eq!(code, Some(1));
    assert!(text.contains("MISS") && text.contains("Fix first: auth-hmac"), "{text}");
}

/// The error of a whole run against that place.
fn obstacle(inside: &InProcess, place: Place, secret: &str) -> String {
    let target = Target {
        secret: Some(secret.into()),
        patience: Duration::from_secs(2),
        ..Target::default()
    };
    inside.run(run(plan(place, target), |_| {})).unwrap_err().to_string()
}

#[test]
fn a_node_that_cannot_be_tested_ends_the_run_with_a_remedy() {
    let inside = InProcess::new();
    let dial = |address: &str| Place::Dial(address.to_owned());

    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap().to_string();
    let silent = obstacle(&inside, dial(&address), SECRET);
    assert!(
        silent.starts_with(&format!("no AEMP 2 node answers at {address}: waited 2s")),
        "{silent}"
    );
    drop(nobody);
    let refused = obstacle(&inside, dial(&address), SECRET);
    assert!(
        refused.contains("Connection refused") && refused.contains("start the node"),
        "{refused}"
    );

    let ours = inside.start_as("ours", |builder| builder.secret(SECRET).bind("127.0.0.1:0"));
    let address = ours.addresses()[0].to_string();
    let stranger = obstacle(&inside, dial(&address), "another secret");
    assert!(
        stranger.contains("cannot authenticate") && stranger.contains("--secret"),
        "{stranger}"
    );

    let command = |command: &str| listening(format!("{command}; : {{seeds}}"));
    let ended = obstacle(&inside, command("echo 'out of luck' >&2; exit 3"), SECRET);
    assert!(ended.contains("exit status: 3") && ended.contains("out of luck"), "{ended}");
    let idle = obstacle(&inside, command("exec sleep 60"), SECRET);
    assert!(idle.starts_with("no node dialled within"), "{idle}");
}

#[test]
fn a_node_that_ends_during_the_run_ends_it_and_the_running_checks_are_named() {
    let inside = InProcess::new();
    let ours = inside.start_as("ours", |builder| builder.secret(SECRET).bind("127.0.0.1:0"));
    let address = ours.addresses()[0].to_string();
    let target = Target { patience: Duration::from_secs(1), ..target(None, None) };
    let (tell, told) = std::sync::mpsc::channel();
    let watch = move |progress: &Progress| {
        if let Progress::Found(_) = progress {
            // Nobody listens after the first connection.
            let _ = tell.send(());
        }
    };
    let run = inside.spawn(run(plan(Place::Dial(address.clone()), target), watch));
    told.recv().unwrap();
    inside.run(ours.shutdown());
    let error = inside.run(run).unwrap().unwrap_err().to_string();
    let expected = format!("the node at {address} no longer accepts connections");
    assert!(error.starts_with(&expected) && error.contains("were running: "), "{error}");
}

#[test]
fn what_the_suite_starts_ends_with_it_even_if_it_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let written = directory.path().join("processes");
    // A shell that waits for a process, as commands that people give do.
    let node = format!("sleep 600 & echo $$ $! > {}; wait; : {{seeds}}", written.display());
    let arguments = ["conform", "--command", &node, "--secret", "x", "--patience", "60"];
    let suite = Process::start("the suite", &compat_tests::node::command(), &arguments, &[]);
    let (processes, _) = eventually("the command runs", || {
        let text = std::fs::read_to_string(&written).unwrap_or_default();
        let ids: Vec<u32> = text.split_whitespace().filter_map(|id| id.parse().ok()).collect();
        if ids.len() == 2 { Ok(ids) } else { Err(text) }
    });
    drop(suite);
    let lives = |id: &&u32| {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        // Where nobody reaps it, what was killed stays as a zombie.
        !stat.is_empty() && !stat.contains(") Z ")
    };
    eventually("they have ended", || match processes.iter().find(lives) {
        None => Ok(()),
        Some(id) => Err(format!("process {id} lives")),
    });
}

#[test]
fn a_service_that_is_not_there_is_one_miss_and_the_checks_that_need_it_are_skipped() {
    let inside = InProcess::new();
    let node = inside.start_as("ours", |builder| builder.secret(SECRET).bind("127.0.0.1:0"));
    let mut target = target(None, None);
    target.service = Some("No::service".into());
    target.patience = Duration::from_secs(5);
    let only = ["spawn", "mon-*", "kil*", "monitors*"].map(str::to_owned).to_vec();
    let place = Place::Dial(node.addresses()[0].to_string());
    let report = inside.run(report(Plan { only, ..plan(place, target) }));
    let in_state = |state: State| {
        let findings = report.findings().iter();
        let found = findings.filter(|one| report.state(one) == state);
        found.map(|finding| finding.check.id).collect::<Vec<_>>()
    };
    assert_eq!(in_state(State::Missed), ["spawn"], "{}", report.text(true));
    assert!(in_state(State::Skipped).contains(&"mon-die"), "{}", report.text(true));
}

#[test]
fn two_suites_on_one_host_do_not_meet_each_others_nodes() {
    let inside = InProcess::new();
    let suite = || {
        let start = Start::Command(our_command(None));
        let host = compat_tests::conform::own_loopback();
        let only = ["take-*", "join*", "slave-*", "failover*"].map(str::to_owned).to_vec();
        let place = Place::Listen { host, start };
        Plan { only, ..plan(place, target(None, None)) }
    };
    let both = [inside.spawn(report(suite())), inside.spawn(report(suite()))];
    for one in both {
        assert_passes(&inside.run(one).unwrap(), &["take-claimed-tls"]);
    }
}
