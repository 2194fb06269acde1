//! Reports of a network run: a matrix of checks and pairs for people, JSON and JUnit for programs.

use super::checks::{self, NetworkCheck};
use super::run::{NetworkFinding, NetworkRun};
use super::wiring::Wiring;
use crate::conform::report::{State, escape};
use crate::conform::run::Outcome;
use serde_json::{Value as Json, json};
use std::fmt::Write as _;

/// The report on a network run.
#[derive(Clone, Debug)]
pub struct NetworkReport {
    wiring: Wiring,
    findings: Vec<NetworkFinding>,
}

impl NetworkReport {
    /// A report on this run.
    pub fn new(NetworkRun { wiring, findings }: NetworkRun) -> NetworkReport {
        NetworkReport { wiring, findings }
    }

    /// The findings, in the order of pairs, variants and checks.
    pub fn findings(&self) -> &[NetworkFinding] {
        &self.findings
    }

    /// The state of a finding, in the light of what is known of the implementations.
    pub fn state(finding: &NetworkFinding) -> State {
        match (&finding.outcome, finding.known) {
            (Outcome::Passed, _) => State::Passed,
            (Outcome::Missed { .. }, None) => State::Missed,
            (Outcome::Missed { .. }, Some(_)) => State::Expected,
            (Outcome::Skipped(_), _) => State::Skipped,
        }
    }

    /// How many findings are in that state.
    pub fn count(&self, state: State) -> usize {
        self.findings.iter().filter(|finding| NetworkReport::state(finding) == state).count()
    }

    /// The matrix, the misses with what happened, and a summary. `all` also lists what passed.
    pub fn text(&self, all: bool) -> String {
        let mut text = self.matrix();
        for finding in &self.findings {
            let state = NetworkReport::state(finding);
            if state != State::Passed || all {
                let _ = writeln!(text, "\n{}", line(finding));
            }
            if let (State::Missed, Outcome::Missed { transcript, .. }) = (state, &finding.outcome) {
                for line in transcript {
                    let _ = writeln!(text, "  {line}");
                }
            }
        }
        let _ = writeln!(text, "\n{}", self.summary());
        text
    }

    /// One row for each check, one column for each pair; a cell has the worst state of all variants.
    fn matrix(&self) -> String {
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        let mut rows: Vec<&'static NetworkCheck> = Vec::new();
        for finding in &self.findings {
            if !pairs.contains(&names(finding)) {
                pairs.push(names(finding));
            }
            if !rows.iter().any(|check| check.id == finding.check.id) {
                rows.push(finding.check);
            }
        }
        let longest = pairs.iter().flat_map(|(first, second)| [first.len(), second.len() + 2]);
        let width = longest.max().unwrap_or_default().max(6);
        let row = |title: &str, cells: Vec<String>| {
            let mut line = format!("{title:16}");
            for cell in cells {
                let _ = write!(line, "  {cell:width$}");
            }
            format!("{}\n", line.trim_end())
        };
        let mut text = row("", pairs.iter().map(|(first, _)| (*first).to_owned()).collect());
        text += &row("", pairs.iter().map(|(_, second)| format!("x {second}")).collect());
        for check in rows {
            let cell = |pair: &(&str, &str)| {
                let all = self
                    .findings
                    .iter()
                    .filter(|finding| finding.check.id == check.id && names(finding) == *pair);
                let worst = all.map(NetworkReport::state).max_by_key(|state| weight(*state));
                worst.map_or_else(String::new, |state| state.name().to_owned())
            };
            text += &row(check.id, pairs.iter().map(cell).collect());
        }
        text
    }

    /// How the nodes were connected.
    pub fn wiring(&self) -> &Wiring {
        &self.wiring
    }

    /// The summary in two sentences.
    pub fn summary(&self) -> String {
        format!(
            "{} checks in networks: {} passed, {} missed, {} known misses, {} skipped. The nodes were \
             connected by {}.",
            self.findings.len(),
            self.count(State::Passed),
            self.count(State::Missed),
            self.count(State::Expected),
            self.count(State::Skipped),
            self.wiring
        )
    }

    /// Everything, as JSON.
    pub fn json(&self) -> Json {
        let one = |finding: &NetworkFinding| {
            let check = finding.check;
            let (first, second) = names(finding);
            let mut one = json!({
                "pair": [first, second],
                "framing": finding.variant.framing.name(),
                "tls": finding.variant.tls,
                "id": check.id,
                "statement": check.statement,
                "level": NetworkCheck::LEVEL.name(),
                "sentence": check.sentence,
                "state": NetworkReport::state(finding).name().to_lowercase(),
                "seconds": finding.duration.as_secs_f64(),
            });
            match &finding.outcome {
                Outcome::Passed => {}
                Outcome::Skipped(why) => one["why"] = why.as_str().into(),
                Outcome::Missed { what, transcript } => {
                    one["what"] = what.as_str().into();
                    one["transcript"] = transcript.as_slice().into();
                }
            }
            if let Some(known) = finding.known {
                one["known"] = known.into();
            }
            one
        };
        json!({
            "connect": self.wiring.name(),
            "passed": self.count(State::Passed),
            "missed": self.count(State::Missed),
            "known": self.count(State::Expected),
            "skipped": self.count(State::Skipped),
            "matrix": self.findings.iter().map(one).collect::<Vec<_>>(),
        })
    }

    /// Everything, in JUnit's XML format.
    pub fn junit(&self) -> String {
        let skipped = self.count(State::Skipped) + self.count(State::Expected);
        let seconds: f64 = self.findings.iter().map(|f| f.duration.as_secs_f64()).sum();
        let mut xml = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n<testsuite \
             name=\"aemp-conform-network\" tests=\"{}\" failures=\"{}\" errors=\"0\" \
             skipped=\"{skipped}\" time=\"{seconds:.3}\">\n",
            self.findings.len(),
            self.count(State::Missed)
        );
        for finding in &self.findings {
            let (first, second) = names(finding);
            let class = format!("aemp.network.{first}-{second}.{}", finding.variant);
            let name = format!("{} {}", finding.check.id, finding.check.sentence);
            let _ = write!(
                xml,
                "<testcase classname=\"{}\" name=\"{}\" time=\"{:.3}\"",
                escape(&class),
                escape(&name),
                finding.duration.as_secs_f64()
            );
            let end = match (&finding.outcome, finding.known) {
                (Outcome::Passed, _) => "/>\n".to_owned(),
                (Outcome::Skipped(why), _) => skipped_case(why),
                (Outcome::Missed { what, .. }, Some(known)) => {
                    skipped_case(&format!("{known}: {what}"))
                }
                (Outcome::Missed { what, transcript }, None) => format!(
                    "><failure message=\"{}\">{}</failure></testcase>\n",
                    escape(what),
                    escape(&transcript.join("\n"))
                ),
            };
            xml.push_str(&end);
        }
        xml.push_str("</testsuite>\n</testsuites>\n");
        xml
    }
}

fn skipped_case(why: &str) -> String {
    format!("><skipped message=\"{}\"/></testcase>\n", escape(why))
}

fn names(finding: &NetworkFinding) -> (&str, &str) {
    (&finding.pair.0.name, &finding.pair.1.name)
}

/// What a cell of the matrix shows if variants differ.
fn weight(state: State) -> u8 {
    match state {
        State::Skipped => 0,
        State::Passed | State::Surprise => 1,
        State::Expected => 2,
        State::Missed => 3,
    }
}

/// One finding in one or two lines.
fn line(finding: &NetworkFinding) -> String {
    let (first, second) = names(finding);
    let check = finding.check;
    let mut line = format!(
        "{:6} {first} x {second}, {}: {} (§{}): {}",
        NetworkReport::state(finding).name(),
        finding.variant,
        check.id,
        check.statement,
        check.sentence
    );
    let remark = match (&finding.outcome, finding.known) {
        (Outcome::Skipped(why), _) => Some(why.clone()),
        (Outcome::Missed { what, .. }, None) => Some(what.clone()),
        (Outcome::Missed { .. }, Some(known)) => Some(known.to_owned()),
        (Outcome::Passed, _) => None,
    };
    if let Some(remark) = remark {
        let _ = write!(line, "\n    -> {remark}");
    }
    line
}

/// The list of checks of networks, one a line.
pub fn list_network() -> String {
    let mut text = String::new();
    for check in checks::all() {
        let statement = format!("§{}", check.statement);
        let _ = writeln!(text, "{:16} {statement:6} {}", check.id, check.sentence);
    }
    text
}
