//! Log catching: between two nodes in one process, and with a peer that sends what a recorded Perl node
//! sent.
#![cfg(feature = "logs")]
// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod services_support;

use aemp::Node;
use aemp::services::logs::{self, LogCatcher, LogEntry, LogLevel};
use services_support::{Introduction, Peer, builder, node, started, within};
use std::sync::Once;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// A program's log, which itself shows little.
fn begin_log() {
    static BEGUN: Once = Once::new();
    BEGUN.call_once(|| {
        let lines = tracing_subscriber::fmt::layer().with_test_writer();
        tracing_subscriber::registry()
            .with(lines.with_filter(LevelFilter::WARN))
            .with(logs::layer())
            .init();
    });
}

/// The next entry whose text contains `part`.
async fn entry(catcher: &mut LogCatcher, part: &str) -> LogEntry {
    within(async {
        loop {
            let entry = catcher.next().await.expect("the node lives");
            if entry.text.contains(part) {
                return entry;
            }
        }
    })
    .await
}

/// A line of the node's own: only its catchers get it.
macro_rules! say {
    ($level:ident, $node:expr, $($text:tt)*) => {
        tracing::$level!(target: "aemp::test", node = %$node.id(), $($text)*)
    };
}

async fn caught(catcher: &mut LogCatcher, node: &Node) {
    let marker = "gets log lines";
    assert_eq!(entry(catcher, marker).await.node, *node.id());
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_a_node_reach_the_catcher_with_level_context_and_time() {
    begin_log();
    let seed = node("seed-1", &[]).await;
    let slave = node("slave-1", &[&seed]).await;
    let mut catcher = LogCatcher::catch(&slave, LogLevel::Debug);
    caught(&mut catcher, &seed).await;
    say!(error, seed, "broken {}", 1);
    say!(debug, seed, size = 7, name = "x y", "detail");
    say!(trace, seed, "too much detail");
    say!(warn, slave, "not from the catcher's own node");
    tracing::info!(target: "My::App", node = "anything", "said by the program");
    let error = entry(&mut catcher, "broken").await;
    assert_eq!((error.text.as_str(), error.level), ("broken 1", LogLevel::Error));
    assert_eq!((error.context.as_str(), &error.node), ("aemp::test", seed.id()));
    assert!(error.time > 1.7e9);
    let detail = entry(&mut catcher, "").await;
    assert_eq!(detail.text, "detail size=7 name=x y");
    assert_eq!(detail.level, LogLevel::Debug);
    let said = entry(&mut catcher, "").await;
    assert_eq!(
        (said.text.as_str(), said.level),
        ("said by the program node=anything", LogLevel::Info)
    );
    assert_eq!(said.context, "My::App");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catcher_gets_no_more_than_it_asked_for_and_nothing_when_it_is_gone() {
    begin_log();
    let seed = node("seed-2", &[]).await;
    let slave = node("slave-2", &[&seed]).await;
    let mut port = slave.port();
    let request = ("AnyEvent::MP::LogCatcher::connect", 0, port.id(), 4);
    slave.snd(seed.id(), &request).unwrap();
    let _: (f64,) = within(slave.call(seed.id(), ("time",))).await.unwrap();
    say!(warn, seed, "less");
    say!(error, seed, "more");
    let (_, _, level, text): (f64, String, u8, String) = within(port.recv()).await.unwrap();
    assert_eq!((level, text.as_str()), (4, "more"));

    // After asking again the new level applies, and each line comes once.
    slave.snd(seed.id(), ("AnyEvent::MP::LogCatcher::connect", 0, port.id(), "warn")).unwrap();
    let _: (f64,) = within(slave.call(seed.id(), ("time",))).await.unwrap();
    say!(warn, seed, "now");
    say!(error, seed, "end");
    for expected in ["now", "end"] {
        let (_, _, _, text): (f64, String, u8, String) = within(port.recv()).await.unwrap();
        assert_eq!(text, expected);
    }
    assert!(port.try_recv().unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secure_node_or_an_invalid_request_yields_no_log_lines() {
    begin_log();
    let seed = started(builder("seed-3", &[]).bind("127.0.0.1:0").set("secure", true)).await;
    let slave = node("slave-3", &[&seed]).await;
    let open = node("open-3", &[&seed]).await;
    let mut port = slave.port();
    for (target, level) in [(&seed, "9"), (&open, "0"), (&open, "loud"), (&open, "")] {
        slave.snd(target.id(), ("AnyEvent::MP::LogCatcher::connect", 0, port.id(), level)).unwrap();
        let _: (f64,) = within(slave.call(target.id(), ("time",))).await.unwrap();
        say!(error, target, "unheard");
    }
    let _: (f64,) = within(slave.call(seed.id(), ("time",))).await.unwrap();
    let _: (f64,) = within(slave.call(open.id(), ("time",))).await.unwrap();
    assert!(port.try_recv().unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_join_later_or_come_back_are_caught_too() {
    begin_log();
    let seed = node("seed-4", &[]).await;
    let mut catcher = LogCatcher::catch(&seed, LogLevel::Trace);
    for _ in 0..2 {
        let slave = node("slave-4", &[&seed]).await;
        loop {
            if entry(&mut catcher, "gets log lines").await.node == *slave.id() {
                break;
            }
        }
        say!(info, slave, "here");
        let here = entry(&mut catcher, "here").await;
        assert_eq!((&here.node, here.level), (slave.id(), LogLevel::Info));
        within(slave.shutdown()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_that_catch_each_others_log_do_not_loop() {
    begin_log();
    let seed = node("seed-5", &[]).await;
    let slave = node("slave-5", &[&seed]).await;
    let mut at_seed = LogCatcher::catch(&seed, LogLevel::Trace);
    let mut at_slave = LogCatcher::catch(&slave, LogLevel::Trace);
    caught(&mut at_seed, &slave).await;
    caught(&mut at_slave, &seed).await;
    let mut between = Vec::new();
    for round in 0..20 {
        let marker = format!("round {round}");
        say!(info, seed, "{marker}");
        say!(info, slave, "{marker}");
        for catcher in [&mut at_seed, &mut at_slave] {
            within(async {
                loop {
                    let entry = catcher.next().await.unwrap();
                    if entry.text == marker {
                        break;
                    }
                    between.push(entry);
                }
            })
            .await;
        }
    }
    let own: Vec<_> = between.iter().filter(|entry| entry.context.starts_with("aemp::")).collect();
    assert!(own.len() < 20, "{own:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_catcher_is_told_how_many_lines_it_missed() {
    begin_log();
    let seed = node("seed-6", &[]).await;
    let slave = node("slave-6", &[&seed]).await;
    let mut catcher = LogCatcher::catch(&slave, LogLevel::Info);
    // The only sign that lines of this level are caught is that one arrives.
    within(async {
        loop {
            say!(info, seed, "first");
            let pause = std::time::Duration::from_millis(20);
            if tokio::time::timeout(pause, catcher.next()).await.is_ok() {
                break;
            }
        }
    })
    .await;
    let total = 20_000;
    for number in 0..total {
        say!(info, seed, "line {number}");
    }
    let mut numbers: Vec<u32> = Vec::new();
    let mut gaps = 0;
    within(async {
        loop {
            say!(info, seed, "the end");
            let entry = catcher.next().await.unwrap();
            if let Some(number) = entry.text.strip_prefix("line ") {
                numbers.push(number.parse().unwrap());
            } else if entry.text.contains(" log lines were dropped") {
                assert_eq!(entry.level, LogLevel::Warn);
                gaps += 1;
            } else if entry.text == "the end" {
                break;
            }
        }
    })
    .await;
    assert!(numbers.is_sorted() && numbers.len() < total, "{} lines at once fit", numbers.len());
    assert!(gaps > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_recorded_catcher_gets_what_a_perl_node_sends() {
    begin_log();
    let seed = node("seed", &[]).await;
    let mut perl = Peer::connect(&seed, &Introduction::of("perl-a")).await.unwrap();
    perl.send(br#"["","AnyEvent::MP::LogCatcher::connect",0,"perl-a#knO2YWMsTc",9]"#).await;
    perl.read_until(r#"["","mon1","knO2YWMsTc"]"#).await;
    let first = perl.read_until("]").await;
    assert!(first.starts_with(r#"["knO2YWMsTc",1"#), "{first}");
    assert!(first.contains(r#","AnyEvent::MP::LogCatcher",8,""#), "{first}");
    say!(error, seed, "something broke");
    say!(debug, seed, "detail");
    perl.read_until(r#","aemp::test",4,"something broke"]"#).await;
    perl.read_until(r#","aemp::test",8,"detail"]"#).await;
    perl.send(br#"["","kil0","knO2YWMsTc"]["","snd","perl-a#x","there"]"#).await;
    perl.read_until(r#"["x","there"]"#).await;
    say!(error, seed, "unheard");
    perl.send(br#"["","snd","perl-a#x","still there"]"#).await;
    let rest = perl.read_until(r#"["x","still there"]"#).await;
    assert!(!rest.contains("unheard"), "{rest}");
}
