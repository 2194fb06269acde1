//! The transcript of a check's connections, for people who look for a fault.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// The number of entries kept for each check; the oldest are dropped first.
const MAX_ENTRIES: usize = 60;
/// The number of characters of an entry that are shown.
const SHOWN_CHARS: usize = 300;
/// The number of octets of a packet that are shown.
const SHOWN_OCTETS: usize = 48;

/// Who sent something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaker {
    /// The suite.
    Suite,
    /// The node under test.
    Node,
    /// The entry is a remark.
    Nobody,
}

#[derive(Debug)]
struct Entry {
    seconds: f64,
    connection: Arc<str>,
    speaker: Speaker,
    text: String,
    octets: Vec<u8>,
}

/// Shared by all connections of a check; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Transcript {
    start: Instant,
    entries: Arc<Mutex<Vec<Entry>>>,
}

impl Transcript {
    pub(crate) fn new() -> Self {
        Transcript { start: Instant::now(), entries: Arc::default() }
    }

    /// Adds what was sent, and its octets if the text alone does not show them.
    pub(crate) fn add(
        &self,
        connection: &Arc<str>,
        speaker: Speaker,
        text: impl Into<String>,
        octets: &[u8],
    ) {
        let entry = Entry {
            seconds: self.start.elapsed().as_secs_f64(),
            connection: connection.clone(),
            speaker,
            text: shorten(&text.into()),
            octets: octets.get(..octets.len().min(SHOWN_OCTETS + 1)).unwrap_or_default().to_vec(),
        };
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= MAX_ENTRIES {
            entries.remove(0);
        }
        entries.push(entry);
    }

    /// One line per entry; the last few with their octets.
    pub(crate) fn lines(&self) -> Vec<String> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let with_octets = entries.len().saturating_sub(4);
        let mut lines = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            let arrow = match entry.speaker {
                Speaker::Suite => "suite >",
                Speaker::Node => "node  <",
                Speaker::Nobody => "      -",
            };
            let Entry { seconds, connection, text, octets, .. } = entry;
            lines.push(format!("{seconds:7.3} {connection} {arrow} {text}"));
            if index >= with_octets && !octets.is_empty() {
                lines.push(format!("{:7} {connection} {:7} octets {}", "", "", hex(octets)));
            }
        }
        lines
    }
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}... ({} characters)", &text[..end], text.chars().count()),
        None => text.to_owned(),
    }
}

/// Octets as two hexadecimal digits each, followed by dots if there are more.
fn hex(octets: &[u8]) -> String {
    let mut text = String::new();
    for octet in octets.iter().take(SHOWN_OCTETS) {
        let _ = write!(text, "{octet:02x} ");
    }
    if octets.len() > SHOWN_OCTETS {
        text.push_str("...");
    }
    text.trim_end().to_owned()
}

/// The octets of a line as text, with unprintable ones escaped.
pub(crate) fn printable(octets: &[u8]) -> String {
    let mut text = String::new();
    for chunk in octets.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character.is_control() {
                true => text.extend(character.escape_default()),
                false => text.push(character),
            }
        }
        for octet in chunk.invalid() {
            let _ = write!(text, "\\x{octet:02x}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_entries_show_their_octets_and_long_ones_are_cut() {
        let transcript = Transcript::new();
        let connection: Arc<str> = "a".into();
        for _ in 0..100 {
            transcript.add(&connection, Speaker::Node, "x".repeat(1000), &[0xe9; 100]);
        }
        let lines = transcript.lines();
        assert_eq!(lines.len(), MAX_ENTRIES + 4);
        assert!(lines.iter().all(|line| line.len() < 400), "{lines:?}");
        assert!(lines.last().is_some_and(|line| line.ends_with("e9 ...")));
    }

    #[test]
    fn control_characters_are_escaped_in_transcripts() {
        assert_eq!(printable(b"a\x1b[2J\xff"), "a\\u{1b}[2J\\xff");
    }
}
