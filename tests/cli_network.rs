//! Subcommands that talk to nodes: what they print, and how they fail.
#![allow(missing_docs, clippy::unwrap_used)]

mod cli_support;

use cli_support::*;
use serde_json::{Value, json};
use std::net::TcpListener;
use std::time::Instant;

const WITH_A_NODE: &[&[&str]] = &[
    &["snd", "nobody#x", "hi"],
    &["cal", "nobody#x", "hi"],
    &["mon", "nobody#x"],
    &["eval", "nobody", "1"],
    &["restart", "nobody"],
    &["ping", "nobody"],
];

#[test]
fn an_unknown_node_is_an_error_that_names_it() {
    let network = Network::start();
    for arguments in WITH_A_NODE {
        network.failure(arguments, "node nobody cannot be reached: ");
    }
    let answer = network.failure(&["trace", "nobody"], "node nobody: ");
    assert_eq!(answer.stdout, "nobody (timeout)\n");
}

#[test]
fn a_wrong_secret_is_an_error_that_names_the_seed() {
    let network = Network::start();
    network.configure("another", Some(&network.address));
    let answer = network.failure(&["ping", "seed"], "secret");
    assert!(answer.stderr.contains(&network.address), "{}", answer.stderr);
}

#[test]
fn a_seed_that_nobody_listens_at_is_an_error() {
    let network = Network::start();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    network.configure(SECRET, Some(&nobody));
    network.failure(&["ping", "seed"], &format!("seed {nobody}: Connection refused"));
    network.configure(SECRET, None);
    network.failure(&["ping", "seed"], "setseeds");
}

#[test]
fn invalid_command_lines_are_refused_before_joining() {
    let network = Network::start();
    for (arguments, part) in [
        (&["snd"][..], "PORT is missing"),
        (&["trace", "seed", "--format", "png"], "\"png\""),
        (&["db", "read", "x"], "\"read\""),
        (&["db", "set", "x"], "KEY is missing"),
        (&["db", "keys", "x", "y"], "\"y\""),
        (&["mon", "#"], "not a valid port or node"),
    ] {
        let answer = network.run(arguments);
        assert_eq!((answer.code, answer.stdout.as_str()), (2, ""), "{arguments:?}");
        assert!(answer.stderr.contains(part), "{arguments:?}: {}", answer.stderr);
    }
}

#[test]
fn words_of_a_message_are_not_options() {
    let network = Network::start();
    assert_eq!(
        network.success(&["snd", "seed", "devnull", "--json"]),
        "message sent successfully \n"
    );
    assert_eq!(network.success(&["snd", "--json", "seed", "devnull"]), "{\"sent\":true}\n");
}

#[test]
fn a_message_to_a_function_that_is_not_there_is_an_error() {
    let network = Network::start();
    let answer =
        network.failure(&["snd", "seed", "My::App::init", "1"], "no function My::App::init");
    assert_eq!(answer.stdout, "");
    let answer =
        network.failure(&["cal", "seed", "My::App::init", "1"], "no function My::App::init");
    assert_eq!(answer.stdout, "");
    // Only global nodes know it, and this is one.
    network.success(&["snd", "seed", "g_find"]);
    network.success(&["snd", "seed", "AnyEvent::MP::_spawn"]);
}

#[test]
fn only_nodes_that_stay_serve_metrics() {
    let mut network = Network::start();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    network.success(&["setmetrics", &address]);
    network.success(&["ping", "seed"]);
    let node = ["run", "--no-watchdog", "other", "binds", "127.0.0.1:0"];
    let answer = network.run(&node);
    assert!(answer.code != 0 && answer.stderr.contains(&address), "{}", answer.stderr);
    network.success(&["metrics", "127.0.0.1:0"]);
    network.seed = Running::start(network.command(&node));
    let page = network.seed.line_with("metrics and status page at ");
    assert!(page.starts_with("http://127.0.0.1:"), "{page}");
    network.success(&["delmetrics"]);
}

#[test]
fn a_chain_configures_and_then_talks() {
    let network = Network::start();
    network.configure("another", None);
    let chain = [
        "secret",
        SECRET,
        "profile",
        "aemp",
        "seeds",
        &network.address,
        "ping",
        "seed",
        "mon",
        "seed#x",
    ];
    let stdout = network.success(&chain);
    assert_eq!(stdout.lines().filter(|line| line.starts_with("seed: ")).count(), 3);
    assert!(stdout.ends_with("no_such_port cannot monitor nonexistent port seed#x \n"), "{stdout}");
}

#[test]
fn a_network_is_drawn_in_every_format() {
    let network = Network::start();
    let trace = |format| network.success(&["trace", "seed", "--format", format]);
    assert_eq!(trace("text"), "seed -> \n");
    assert_eq!(trace("tree"), "seed\n");
    assert_eq!(trace("dot"), "graph aemp {\n   \"seed\";\n}\n");
    assert!(trace("svg").starts_with("<svg "));
    let json: Value = serde_json::from_str(&trace("json")).unwrap();
    assert_eq!(json, json!({ "start": "seed", "nodes": { "seed": [] } }));
    assert_eq!(network.success(&["--json", "trace", "seed"]), trace("json"));
}

#[test]
fn well_known_expressions_work_and_others_are_an_error() {
    let network = Network::start();
    assert_eq!(network.success(&["eval", "seed", "$AnyEvent::MP::Kernel::NODE"]), "\"seed\"\n");
    assert_eq!(network.success(&["eval", "seed", ""]), "\n");
    let json: Value = serde_json::from_str(&network.success(&["--json", "ping", "seed"])).unwrap();
    assert_eq!(json["seconds"].as_array().unwrap().len(), 3);
    network.failure(&["eval", "seed", "1 + 1"], "no Perl interpreter");
    network.failure(&["cal", "seed#nobody", "x"], "port seed#nobody does not exist");
}

#[test]
fn entries_live_as_long_as_the_command_that_set_them() {
    let network = Network::start();
    let watching = Running::start(network.command(&["db", "watch", "fam"]));
    let evil = "k\u{1b}[2J";
    let mut setting =
        Running::start(network.command(&["db", "set", "fam", evil, "[1,{\"a\":null}]"]));
    setting.line_with("is set until");
    assert_eq!(watching.line_with("+ "), "k\\u{1b}[2J [1,{\"a\":null}]");
    assert_eq!(network.success(&["db", "keys", "fam"]), "k\\u{1b}[2J\n");
    assert_eq!(network.success(&["db", "--json", "keys", "fam"]), "[\"k\\u001b[2J\"]\n");
    assert_eq!(network.success(&["db", "get", "fam", evil]), "[1,{\"a\":null}]\n");
    assert_eq!(network.success(&["db", "values", "fam"]), "[1,{\"a\":null}]\n");
    network.failure(&["db", "get", "fam", "none"], "family fam has no key none");
    network.failure(&["db", "del", "fam", evil], "belongs to another node");
    network.failure(&["db", "set", "'l", "x"], "'l");
    setting.signal("INT");
    assert_eq!(setting.exit_code(), Some(0));
    assert_eq!(watching.line_with("- "), "k\\u{1b}[2J");
    network.success(&["db", "del", "fam", evil]);
}

#[test]
fn top_prints_what_nodes_tell_about_themselves() {
    let network = Network::start();
    let common = ["secret", SECRET, "binds", "127.0.0.1:0", "seeds", &network.address];
    let mut secure = vec!["nodeid", "secure", "secure", "1"];
    secure.extend(common);
    let secure = Running::node(&secure);
    secure.line_with("seed is up");
    let top: Value = serde_json::from_str(&network.success(&["top", "--json"])).unwrap();
    let nodes = top["nodes"].as_array().unwrap();
    let row = |name: &str| nodes.iter().find(|node| node["node"] == name).unwrap();
    assert_eq!((&row("seed")["global"], &row("seed")["master"]), (&json!(true), &json!("seed")));
    assert_eq!(row("seed")["links"][0]["node"], "secure");
    assert_eq!(row("secure")["software"], "?");
    assert!(row("secure")["milliseconds"].is_number());
    assert_eq!(top["families"]["'g"], 1);
    network.failure(&["top"], "needs a terminal");
}

#[test]
fn logs_of_other_nodes_are_printed() {
    let network = Network::start();
    let logs = Running::start(network.command(&["logs", "info", "--json"]));
    // There is no sign that the seed has been asked for its lines, so it logs something until they
    // arrive.
    let give_up = Instant::now() + TIMEOUT;
    let line = loop {
        network.success(&["snd", "seed", "devnull"]);
        if let Some(line) = logs.lines.try_iter().find(|l| l.contains("\"node\":\"seed\"")) {
            break line;
        }
        assert!(Instant::now() < give_up);
    };
    assert!(line.contains("\"level\":\"info\""), "{line}");
}

#[test]
fn the_doctor_finds_what_is_wrong() {
    let network = Network::start();
    let healthy = network.success(&["doctor", "aemp"]);
    assert!(healthy.contains("node seed (aemp-"), "{healthy}");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let bind = taken.local_addr().unwrap().to_string();
    let answer = network.failure(
        &["doctor", "--json", "x", "binds", &bind, "seeds", &nobody],
        "2 of these things are wrong",
    );
    let report: Value = serde_json::from_str(&answer.stdout).unwrap();
    assert_eq!(report["healthy"], false);
    let findings = report["findings"].to_string();
    assert!(findings.contains("is taken by another program"), "{findings}");
    assert!(findings.contains("nothing listens at"), "{findings}");
    network.configure("another", Some(&network.address));
    let answer = network.failure(&["doctor", "aemp"], "1 of these things is wrong");
    assert!(answer.stdout.contains("wrong secret"), "{}", answer.stdout);
    let answer = network.run(&["doctor", "x", "binds", "["]);
    assert_eq!(answer.code, 2);
}

#[test]
fn the_doctor_counts_plain_connections_of_the_network_on_request() {
    let network = Network::start();
    let mut running = Vec::new();
    for (id, encrypt) in [("a", "1"), ("b", "1"), ("c", "0")] {
        let node = Running::node(
            &[
                ["nodeid", id, "secret", SECRET, "encrypt", encrypt],
                ["binds", "127.0.0.1:0", "seeds", &network.address, "heal", "0"],
            ]
            .concat(),
        );
        node.line_with("seed is up");
        running.push(node);
    }
    let report = network.success(&["doctor", "aemp", "--links"]);
    let line = |part: &str| {
        let line = report.lines().find(|line| line.contains(part));
        line.unwrap_or_else(|| panic!("no {part} in {report}"))
    };
    assert!(line("2 of 3 connections are encrypted").contains("2 bound to the secret"));
    let plain = line("1 plain (");
    assert!(plain.ends_with("c with seed") || plain.ends_with("seed with c"), "{report}");
    assert!(!network.success(&["doctor", "aemp"]).contains("links"));
}

#[test]
fn the_doctor_tells_certificates_apart() {
    let directory = tempfile::tempdir().unwrap();
    let with_certificate = |name: &str| {
        let rc = directory.path().join(name);
        let run = aemp().arg("gencert").env("PERL_ANYEVENT_MP_RC", &rc).status().unwrap();
        assert!(run.success());
        let file: Value = serde_json::from_slice(&std::fs::read(&rc).unwrap()).unwrap();
        file["cert"].as_str().unwrap().to_owned()
    };
    let (ours, theirs) = (with_certificate("ours"), with_certificate("theirs"));
    let node = Running::node(&["nodeid", "n", "cert", &theirs, "binds", "127.0.0.1:0"]);
    let address = node.address();
    let examine = |cert: &str| {
        let arguments =
            ["doctor", "x", "cert", cert, "binds", "127.0.0.1:0", "seeds", &address, "norc", "1"];
        let output = aemp().args(arguments).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, report) = examine(&theirs);
    assert_eq!(code, 0, "{report}");
    assert!(report.contains("encrypted by certificate (TLS"), "{report}");
    let (code, report) = examine(&ours);
    assert_eq!(code, 1, "{report}");
    let line = report.lines().find(|line| line.contains("certificate of another network")).unwrap();
    assert_eq!(line.matches("SHA-256").count(), 2, "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_ends_of_a_message_has_got_it() {
    let network = Network::start();
    let node = aemp::Node::builder()
        .node_id("ours")
        .secret(SECRET)
        .bind("127.0.0.1:0")
        .seed(&network.address)
        .start()
        .await
        .unwrap();
    node.joined().await;
    let port = node.port_with(|_, _| panic!("told to die"));
    let id = port.id().to_string();
    let answer = tokio::task::spawn_blocking(move || {
        (network.success(&["snd", &id, "die"]), network.run(&["snd", &id, "die"]))
    });
    let (first, second) = answer.await.unwrap();
    assert_eq!(first, "message sent successfully \n");
    assert_eq!(second.code, 1, "now it is not there: {}", second.stderr);
}
