//! Recordings of conversations: one line of JSON for each read, as in `fixtures/`.

use super::conversation::Side;
use super::hex;
use serde_json::{Value, json};

/// One read of one side, or its end.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Milliseconds since the first octet.
    pub ms: f64,
    /// The side that sent it.
    pub from: Side,
    /// The octets; `None` at the end of the side.
    pub octets: Option<Vec<u8>>,
}

/// A line that is not part of a recording.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NotAnEntry {
    /// The line is not JSON.
    #[error("not JSON: {0}")]
    Json(String),
    /// A field is missing or invalid.
    #[error(
        "not an entry of a recording, which is {{\"ms\": MILLISECONDS, \"from\": \"a\" or \"b\", and \
         either \"hex\": OCTETS or \"eof\": true}}"
    )]
    Form,
}

impl Entry {
    /// Parses a line.
    ///
    /// # Errors
    /// The line is not part of a recording.
    pub fn parse(line: &str) -> Result<Entry, NotAnEntry> {
        let value: Value =
            serde_json::from_str(line).map_err(|error| NotAnEntry::Json(error.to_string()))?;
        Entry::of(&value).ok_or(NotAnEntry::Form)
    }

    fn of(value: &Value) -> Option<Entry> {
        let from = Side::BOTH.into_iter().find(|side| value["from"] == side.letter())?;
        let octets = match value.get("hex") {
            Some(digits) => Some(hex::decode(digits.as_str()?)?),
            None if value["eof"] == true => None,
            None => return None,
        };
        Some(Entry { ms: value["ms"].as_f64()?, from, octets })
    }

    /// The line of this entry, without its line end.
    #[must_use]
    pub fn line(&self) -> String {
        let ms = (self.ms * 10.0).round() / 10.0;
        let mut entry = json!({ "ms": ms, "from": self.from.letter() });
        match &self.octets {
            Some(octets) => entry["hex"] = hex::encode(octets).into(),
            None => entry["eof"] = true.into(),
        }
        entry.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        for octets in [Some(vec![0, 0x9f, 255]), Some(vec![]), None] {
            let entry = Entry { ms: 12.5, from: Side::Listener, octets };
            assert_eq!(Entry::parse(&entry.line()), Ok(entry));
        }
        let entry = Entry { ms: 1.26, from: Side::Dialler, octets: None };
        assert_eq!(entry.line(), r#"{"ms":1.3,"from":"a","eof":true}"#);
    }

    #[test]
    fn what_is_no_entry_is_refused() {
        for line in [
            "",
            "[]",
            "{}",
            r#"{"ms":1,"from":"c","hex":""}"#,
            r#"{"ms":1,"from":"a","hex":"0"}"#,
            r#"{"ms":1,"from":"a","hex":"é0"}"#,
            r#"{"ms":1,"from":"a"}"#,
            r#"{"from":"a","eof":true}"#,
        ] {
            assert!(Entry::parse(line).is_err(), "{line}");
        }
    }
}
