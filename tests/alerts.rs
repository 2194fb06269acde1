//! The Prometheus alerts that are delivered name existing series, cover every documented sign, and pass their own
//! unit tests.

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn text(path: &str) -> String {
    std::fs::read_to_string(file(path)).unwrap()
}

/// The names of series in a text: `aemp_...` and `process_...`.
fn series(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("aemp_") || word.starts_with("process_")).collect()
}

/// The series of the operations page, and whether a sign of theirs is called worth an alert.
fn documented(page: &str) -> Vec<(BTreeSet<&str>, bool)> {
    let rows =
        page.lines().filter(|line| line.starts_with("| `aemp_") || line.starts_with("| `process_"));
    let cells = rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>());
    cells
        .map(|cells| (series(cells[0]), cells.last().is_some_and(|sign| !sign.is_empty())))
        .collect()
}

#[test]
fn each_alert_looks_at_documented_series() {
    let (page, alerts) = (text("docs/operations.md"), text("packaging/prometheus/alerts.yaml"));
    let known: BTreeSet<&str> =
        documented(&page).into_iter().flat_map(|(names, _)| names).collect();
    let expressions: String = alerts.lines().filter(|line| line.contains("expr:")).collect();
    let unknown: Vec<_> = series(&expressions).difference(&known).copied().collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn each_sign_that_the_operations_page_calls_worth_an_alert_has_one() {
    let (page, alerts) = (text("docs/operations.md"), text("packaging/prometheus/alerts.yaml"));
    let used = series(&alerts);
    let rows = documented(&page);
    assert!(rows.len() > 25, "{rows:?}");
    let not_used = |names: &BTreeSet<&str>| !names.iter().any(|name| used.contains(name));
    let without: Vec<_> = rows.iter().filter(|(names, sign)| *sign && not_used(names)).collect();
    assert!(without.is_empty(), "{without:?}");
}

/// Skipped where `promtool`, of Debian's package prometheus, is not installed.
#[test]
fn the_alerts_fire_when_they_should_and_only_then() {
    let arguments: [&[&str]; 2] =
        [&["check", "rules", "alerts.yaml"], &["test", "rules", "alerts_test.yaml"]];
    for arguments in arguments {
        let mut promtool = Command::new("promtool");
        match promtool.args(arguments).current_dir(file("packaging/prometheus")).output() {
            Ok(output) => assert!(output.status.success(), "{output:?}"),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                eprintln!("SKIPPED: no promtool; install Debian's prometheus");
                return;
            }
            Err(error) => panic!("promtool: {error}"),
        }
    }
}
