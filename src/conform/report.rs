//! Reports of a run: a table for people, JSON and JUnit for programs.

use super::check::Level;
use super::position::Position;
use super::profile::{Deviation, Profile};
use super::run::{Finding, Outcome};
use serde_json::{Value as Json, json};
use std::fmt::Write as _;

/// The state of a finding with regard to the profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It passed, as expected.
    Passed,
    /// It was missed, which is unexpected.
    Missed,
    /// It was missed, as the profile says.
    Expected,
    /// It passed, although the profile says that it does not.
    Surprise,
    /// It was skipped.
    Skipped,
}

impl State {
    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            State::Passed => "pass",
            State::Missed => "MISS",
            State::Expected => "known",
            State::Surprise => "PASSES",
            State::Skipped => "skip",
        }
    }
}

/// All findings of one run, or of several.
#[derive(Clone, Debug)]
pub struct Report {
    findings: Vec<Finding>,
    profile: Option<&'static Profile>,
}

impl Report {
    /// A report on these findings, in the light of a profile's deviations.
    pub fn new(findings: Vec<Finding>, profile: Option<&'static Profile>) -> Report {
        Report { findings, profile }
    }

    /// The findings, in order.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The state of a finding.
    pub fn state(&self, finding: &Finding) -> State {
        match (&finding.outcome, self.deviation(finding)) {
            (Outcome::Passed, None) => State::Passed,
            (Outcome::Passed, Some(known)) if known.sometimes => State::Passed,
            (Outcome::Passed, Some(_)) => State::Surprise,
            (Outcome::Missed { .. }, None) => State::Missed,
            (Outcome::Missed { .. }, Some(_)) => State::Expected,
            (Outcome::Skipped(_), _) => State::Skipped,
        }
    }

    fn deviation(&self, finding: &Finding) -> Option<&'static Deviation> {
        self.profile?.deviation(finding.check.id, finding.position)
    }

    /// How many findings are in that state.
    pub fn count(&self, state: State) -> usize {
        self.in_state(state).count()
    }

    fn in_state(&self, state: State) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(move |finding| self.state(finding) == state)
    }

    /// One line about a finding, without line end.
    pub fn line(&self, finding: &Finding) -> String {
        let check = finding.check;
        let state = self.state(finding).name();
        let mut line = format!(
            "{state:6} {:6} {:6} {:22} {}",
            check.level,
            format!("§{}", check.statement),
            check.id,
            check.sentence
        );
        let remark = match (&finding.outcome, self.deviation(finding)) {
            (Outcome::Skipped(why), _) => Some(why.clone()),
            (Outcome::Missed { .. }, Some(known)) => Some(known.explanation.to_owned()),
            (Outcome::Passed, Some(known)) if !known.sometimes => {
                Some(format!("the profile says that it does not: {}", known.explanation))
            }
            (Outcome::Missed { what, .. }, None) => Some(what.clone()),
            (Outcome::Passed, _) => None,
        };
        if let Some(remark) = remark {
            let _ = write!(line, "\n{:14}-> {remark}", "");
        }
        line
    }

    /// The misses with their conversations, and a summary. `all` also lists what passed.
    pub fn text(&self, all: bool) -> String {
        let mut text = String::new();
        for finding in &self.findings {
            if all || self.state(finding) != State::Passed {
                let _ = writeln!(text, "{}", self.line(finding));
            }
        }
        let misses: Vec<&Finding> = self.fix_first();
        let mut told: Vec<&str> = Vec::new();
        for finding in &misses {
            let Outcome::Missed { what, transcript } = &finding.outcome else {
                continue;
            };
            // A node that cannot be reached is reported only once.
            if transcript.is_empty() && told.contains(&what.as_str()) {
                continue;
            }
            told.push(what);
            let check = finding.check;
            let _ = writeln!(
                text,
                "\n{} ({}, §{}, {}): {}\n  {what}",
                check.id,
                check.level,
                check.statement,
                finding.position.name(),
                check.sentence
            );
            for line in transcript {
                let _ = writeln!(text, "  {line}");
            }
        }
        if let Some(first) = misses.first() {
            let _ = writeln!(
                text,
                "\nFix first: {} (docs/protocol.md §{}); then again `aemp conform ... --only {}`.",
                first.check.id, first.check.statement, first.check.id
            );
        }
        let _ = writeln!(text, "\n{}", self.summary());
        text
    }

    /// Unexpected misses, the most important first.
    fn fix_first(&self) -> Vec<&Finding> {
        let mut misses: Vec<&Finding> = self.in_state(State::Missed).collect();
        misses.sort_by_key(|finding| finding.check.level);
        misses
    }

    /// The summary in one sentence.
    pub fn summary(&self) -> String {
        let of_level = |level: Level| {
            self.in_state(State::Missed).filter(|finding| finding.check.level == level).count()
        };
        let mut text = format!(
            "{} checks: {} passed, {} missed ({} must, {} should, {} ours), {} skipped",
            self.findings.len(),
            self.count(State::Passed),
            self.count(State::Missed),
            of_level(Level::Must),
            of_level(Level::Should),
            of_level(Level::Ours),
            self.count(State::Skipped),
        );
        if let Some(profile) = self.profile {
            let _ = write!(
                text,
                "; of {}: {} known misses, {} unexpected passes",
                profile.name,
                self.count(State::Expected),
                self.count(State::Surprise)
            );
        }
        text.push('.');
        text
    }

    /// Everything, as JSON.
    pub fn json(&self) -> Json {
        let checks: Vec<Json> = self
            .findings
            .iter()
            .map(|finding| {
                let check = finding.check;
                let mut one = json!({
                    "id": check.id,
                    "statement": check.statement,
                    "section": check.section(),
                    "level": check.level.name(),
                    "sentence": check.sentence,
                    "position": finding.position.name(),
                    "state": self.state(finding).name().to_lowercase(),
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
                if let Some(known) = self.deviation(finding) {
                    one["known"] = known.explanation.into();
                }
                one
            })
            .collect();
        json!({
            "profile": self.profile.map(|profile| profile.name),
            "passed": self.count(State::Passed),
            "missed": self.count(State::Missed),
            "known": self.count(State::Expected),
            "unexpected_passes": self.count(State::Surprise),
            "skipped": self.count(State::Skipped),
            "checks": checks,
        })
    }

    /// Everything, in JUnit's XML format.
    pub fn junit(&self) -> String {
        let missed = self.count(State::Missed);
        let skipped = self.count(State::Skipped) + self.count(State::Expected);
        let seconds: f64 = self.findings.iter().map(|f| f.duration.as_secs_f64()).sum();
        let mut xml = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n<testsuite \
             name=\"aemp-conform\" tests=\"{}\" failures=\"{missed}\" errors=\"0\" \
             skipped=\"{skipped}\" time=\"{seconds:.3}\">\n",
            self.findings.len()
        );
        for finding in &self.findings {
            let check = finding.check;
            let _ = write!(
                xml,
                "<testcase classname=\"aemp.{}.{}\" name=\"{} {}\" time=\"{:.3}\"",
                finding.position.name(),
                check.level,
                check.id,
                escape(check.sentence),
                finding.duration.as_secs_f64()
            );
            match (&finding.outcome, self.deviation(finding)) {
                (Outcome::Passed, _) => xml.push_str("/>\n"),
                (Outcome::Skipped(why), _) => {
                    let _ = writeln!(xml, "><skipped message=\"{}\"/></testcase>", escape(why));
                }
                (Outcome::Missed { what, .. }, Some(known)) => {
                    let message = escape(&format!("{}: {what}", known.explanation));
                    let _ = writeln!(xml, "><skipped message=\"{message}\"/></testcase>");
                }
                (Outcome::Missed { what, transcript }, None) => {
                    let _ = writeln!(
                        xml,
                        "><failure message=\"{}\">{}</failure></testcase>",
                        escape(what),
                        escape(&transcript.join("\n"))
                    );
                }
            }
        }
        xml.push_str("</testsuite>\n</testsuites>\n");
        xml
    }
}

/// The list of checks, one a line.
pub fn list(position: Option<Position>) -> String {
    let mut text = String::new();
    for check in super::checks::all() {
        if position.is_some_and(|position| !check.is_for(position)) {
            continue;
        }
        let places = match (check.is_for(Position::Dial), check.is_for(Position::Listen)) {
            (true, true) => "both",
            (true, false) => "dial",
            _ => "listen",
        };
        let statement = format!("§{}", check.statement);
        let _ = writeln!(
            text,
            "{:22} {statement:6} {:6} {places:6} {}",
            check.id, check.level, check.sentence
        );
    }
    text
}

/// A text escaped for XML.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => escaped.push(character),
            // XML cannot represent these.
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push('?'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn finding(id: &str, outcome: Outcome) -> Finding {
        let check = super::super::checks::all().find(|check| check.id == id);
        let check = check.expect("a check of that name");
        Finding { check, position: Position::Dial, outcome, duration: Duration::ZERO }
    }

    fn missed() -> Outcome {
        let transcript = vec!["0.1 a node < <&\u{1}\">".to_owned()];
        Outcome::Missed { what: "it said \"nothing\"".to_owned(), transcript }
    }

    #[test]
    fn a_profile_explains_misses_and_reports_unexpected_passes() {
        let findings = vec![
            finding("mon-unknown", missed()),
            finding("spawn-reason", missed()),
            finding("mesh-dead", Outcome::Passed),
            finding("time", Outcome::Passed),
            finding("tls-13", Outcome::Skipped("no certificate".into())),
        ];
        let report = Report::new(findings, Profile::named("perl-2.02"));
        let states: Vec<State> =
            report.findings().iter().map(|finding| report.state(finding)).collect();
        let wanted =
            [State::Missed, State::Expected, State::Surprise, State::Passed, State::Skipped];
        assert_eq!(states, wanted);
        let text = report.text(false);
        assert!(text.contains("Fix first: mon-unknown") && !text.contains("seconds since 1970"));
        assert!(
            text.contains("it does not keep the reason") && text.contains("0.1 a node"),
            "{text}"
        );
        assert!(report.text(true).contains("seconds since 1970"));
        assert_eq!(report.json()["checks"][0]["state"], "miss");
    }

    #[test]
    fn junit_is_xml_whatever_a_node_says() {
        let xml = Report::new(vec![finding("mon-unknown", missed())], None).junit();
        assert!(xml.contains("it said &quot;nothing&quot;"), "{xml}");
        assert!(xml.contains("&lt;&amp;?&quot;&gt;"), "{xml}");
        assert!(xml.contains("tests=\"1\" failures=\"1\""), "{xml}");
    }

    #[test]
    fn misses_are_ordered_by_level_and_then_by_section() {
        let findings = vec![finding("greet-keys", missed()), finding("mon-unknown", missed())];
        let text = Report::new(findings, None).text(false);
        assert!(text.contains("Fix first: mon-unknown"), "{text}");
    }

    #[test]
    fn the_list_has_every_check_of_a_position() {
        assert!(list(None).lines().count() > 300);
        assert!(!list(Some(Position::Dial)).contains("failover"));
        assert!(list(Some(Position::Listen)).contains("failover"));
    }
}
