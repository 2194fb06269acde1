//! `replay`: shows a recording as `relay` shows a live conversation.

use super::transcript::{LineFormat, Transcript};
use super::words::{Words, configured_secret, secret_of};
use crate::errors::{CliError, NetworkError};
use crate::grammar::Options;
use crate::output::print_octets;
use crate::secrets::path;
use crate::show;
use aemp::wire::conversation::Side;
use aemp::wire::recording::Entry;
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;

pub(crate) struct Replay {
    file: PathBuf,
    secret: Option<String>,
    json: bool,
}

impl Replay {
    pub(super) fn prepare(mut words: Words) -> Result<Self, CliError> {
        let file = path(&words.next("FILE")?);
        words.finish()?;
        for (given, name) in [(words.record.is_some(), "--record"), (words.once, "--once")] {
            if given {
                return Err(CliError::UnknownOption { name: name.into() });
            }
        }
        Ok(Replay { file, secret: words.secret, json: words.json })
    }

    pub(super) fn execute(self, options: Options) -> Result<(), CliError> {
        let look = LineFormat::new(self.json || options.json);
        let failure = |problem: String| -> CliError {
            let text = format!("{}: {problem}", self.file.display());
            NetworkError::Other(show::escaped(&text)).into()
        };
        let file = File::open(&self.file).map_err(|error| failure(error.to_string()))?;
        let mut transcript = None;
        let mut last = 0.0;
        for (index, line) in BufReader::new(file).lines().enumerate() {
            let line = line.map_err(|error| failure(error.to_string()))?;
            if line.trim().is_empty() {
                continue;
            }
            let scenario = match &transcript {
                None => scenario(&line),
                Some(_) => None,
            };
            let transcript = transcript.get_or_insert_with(|| {
                let recorded = scenario.as_ref().and_then(|scenario| scenario["secret"].as_str());
                let secret = match self.secret.as_deref().or(recorded) {
                    Some(text) => secret_of(text),
                    None => configured_secret(),
                };
                Transcript::new(secret, look, None)
            });
            if let Some(scenario) = scenario {
                print_octets(headline(&scenario, look).as_bytes())?;
                continue;
            }
            let entry = Entry::parse(&line)
                .map_err(|error| failure(format!("line {}: {error}", index + 1)))?;
            last = entry.ms;
            print_octets(transcript.hear(&entry).as_bytes())?;
        }
        let Some(mut transcript) = transcript else {
            return Err(failure("empty, so it is not a recording".into()));
        };
        for side in Side::BOTH {
            print_octets(transcript.cut_off(last, side).as_bytes())?;
        }
        Ok(())
    }
}

/// The first line, if it describes the recording.
fn scenario(line: &str) -> Option<Value> {
    let value: Value = serde_json::from_str(line).ok()?;
    (value.is_object() && value.get("from").is_none() && value.get("steps").is_some())
        .then_some(value)
}

fn headline(scenario: &Value, look: LineFormat) -> String {
    if look.is_json() {
        return String::new();
    }
    let text = |key: &str| scenario[key].as_str().map(show::escaped).unwrap_or_default();
    format!("{}: {}\n", text("scenario"), text("note"))
}
