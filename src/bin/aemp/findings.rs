//! The findings of an examination, for people and for programs.

use crate::errors::CliError;
use crate::output::print_octets;
use crate::show;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Fine,
    Note,
    Wrong,
}

impl State {
    const fn name(self) -> &'static str {
        match self {
            Self::Fine => "ok",
            Self::Note => "note",
            Self::Wrong => "WRONG",
        }
    }
}

struct Finding {
    state: State,
    what: String,
    text: String,
}

/// The findings so far. They are printed at once, unless the output is for programs.
pub(crate) struct Findings {
    all: Vec<Finding>,
    json: bool,
}

impl Findings {
    pub(crate) fn new(json: bool) -> Self {
        Self { all: Vec::new(), json }
    }

    /// The subjects of the findings.
    #[cfg(test)]
    pub(crate) fn subjects(&self) -> impl Iterator<Item = &str> {
        self.all.iter().map(|finding| finding.what.as_str())
    }

    pub(crate) fn add(&mut self, state: State, what: &str, text: &str) -> Result<(), CliError> {
        let (what, text) = (show::escaped(what), show::escaped(text));
        if !self.json {
            print_octets(format!("{:5}  {what}: {text}\n", state.name()).as_bytes())?;
        }
        self.all.push(Finding { state, what, text });
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<(), CliError> {
        let count = self.all.iter().filter(|finding| finding.state == State::Wrong).count();
        if self.json {
            let findings: Vec<_> = self
                .all
                .iter()
                .map(|finding| {
                    serde_json::json!({
                        "state": finding.state.name().to_lowercase(),
                        "what": finding.what,
                        "text": finding.text,
                    })
                })
                .collect();
            let report = serde_json::json!({ "healthy": count == 0, "findings": findings });
            print_octets(format!("{report}\n").as_bytes())?;
        }
        match count {
            0 => Ok(()),
            count => Err(CliError::Unhealthy { count }),
        }
    }
}
