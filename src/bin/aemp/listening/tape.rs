//! The file in which a conversation is recorded, in the format of the project's fixtures.

use super::transcript::Transcript;
use aemp::wire::conversation::Side;
use aemp::wire::recording::Entry;
use serde_json::{Value, json};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// A recording that is being written.
pub(super) struct Tape {
    file: File,
    scenario: String,
    secret: Option<String>,
    /// Lines that wait for the first line, which describes both sides and so is written once both
    /// have spoken.
    waiting: Option<Vec<String>>,
}

impl Tape {
    /// Creates a file that no other user may read, since it contains the secret if one was given.
    pub(super) fn create(path: &Path, secret: Option<&str>) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let secret = secret.map(str::to_owned);
        Ok(Tape { file, scenario: stem, secret, waiting: Some(Vec::new()) })
    }

    /// The path of the recording of a later connection.
    pub(super) fn path_of(first: &Path, number: usize) -> PathBuf {
        if number <= 1 {
            return first.to_owned();
        }
        let mut name = first.file_stem().unwrap_or_default().to_owned();
        name.push(format!("-{number}"));
        if let Some(extension) = first.extension() {
            name.push(".");
            name.push(extension);
        }
        first.with_file_name(name)
    }

    /// Records an entry.
    pub(super) fn record(&mut self, entry: &Entry, transcript: &Transcript) -> io::Result<()> {
        let line = entry.line();
        let Some(waiting) = &mut self.waiting else {
            return writeln!(self.file, "{line}");
        };
        waiting.push(line);
        let greetings = Side::BOTH.map(|side| transcript.greeting(side));
        if greetings.iter().all(Option::is_some) {
            self.begin(transcript)?;
        }
        Ok(())
    }

    /// Completes the file.
    pub(super) fn finish(&mut self, transcript: &Transcript) -> io::Result<()> {
        self.begin(transcript)
    }

    fn begin(&mut self, transcript: &Transcript) -> io::Result<()> {
        let Some(waiting) = self.waiting.take() else {
            return Ok(());
        };
        let mut text = format!("{}\n", self.scenario(transcript));
        for line in waiting {
            text.push_str(&line);
            text.push('\n');
        }
        self.file.write_all(text.as_bytes())
    }

    fn scenario(&self, transcript: &Transcript) -> Value {
        let [dialler, listener] = Side::BOTH.map(|side| {
            let greeting = transcript.greeting(side);
            let mut of_side = json!({
                "is": side.letter(),
                "nodeid": greeting.map(|greeting| text(&greeting.node_id)),
                "framing_format": greeting.map(|greeting| texts(&greeting.framings)),
            });
            if let Some(secret) = &self.secret {
                of_side["secret"] = secret.as_str().into();
            }
            of_side
        });
        let providers = Side::BOTH.map(|side| {
            let provider =
                transcript.greeting(side).and_then(|greeting| greeting.value("provider"));
            text(&provider.unwrap_or_default())
        });
        let nodes = Side::BOTH.map(|side| {
            let greeting = transcript.greeting(side);
            greeting.map_or_else(|| "?".to_owned(), |greeting| text(&greeting.node_id))
        });
        json!({
            "scenario": self.scenario,
            "note": format!("{} dialled {}", nodes[0], nodes[1]),
            "secret": self.secret,
            "dialer": dialler,
            "listener": listener,
            "steps": [],
            "recorded_from": format!("a: {}; b: {}", providers[0], providers[1]),
        })
    }
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

fn texts(all: &[Vec<u8>]) -> Vec<String> {
    all.iter().map(|octets| text(octets)).collect()
}
