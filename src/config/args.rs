//! The program's own configuration: command-line arguments, or values set by a builder.
//!
//! The form is that of Perl's `configure`, `aemp run [PROFILE] KEY VALUE...`: with an odd number of
//! arguments the first one is the profile's name. An argument that begins with `[`, `{` or `"`
//! is JSON.

use super::coerce;
use super::octets::from_octets;
use super::relaxed::{self, SyntaxError};
use serde_json::{Map, Value};
use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use thiserror::Error;

/// What can be wrong with arguments. Error texts never show values, which may be secrets.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ArgsError {
    /// An argument begins like JSON but is not valid JSON.
    #[error(
        "argument {position} begins like JSON, but {source}; write a text that begins like this as JSON \
             too, such as '\"[::1]:4040\"'"
    )]
    Json {
        /// Which argument, counted from 1.
        position: usize,
        /// Where and why.
        source: SyntaxError,
    },
    /// A key or the profile's name is a list, an object or null.
    #[error("argument {position} has to be {expected}, not a list, object or null")]
    NotText {
        /// Which argument, counted from 1.
        position: usize,
        /// What it has to be.
        expected: &'static str,
    },
    /// The last key has no value.
    #[error("{key:?} has no value; write {key} VALUE")]
    MissingValue {
        /// The key.
        key: String,
    },
}

/// The program's own configuration, which the rc file overrides unless `force` is set.
#[derive(Clone, Default, PartialEq)]
pub struct Args {
    /// The profile; without one the node name (`uname -n`) is used.
    pub profile: Option<String>,
    /// Whether the rc file is ignored.
    pub norc: bool,
    /// Whether these values (and the built-in defaults with them) override the rc file.
    pub force: bool,
    values: Map<String, Value>,
}

impl fmt::Debug for Args {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Args")
            .field("profile", &self.profile)
            .field("norc", &self.norc)
            .field("force", &self.force)
            .field("keys", &self.values.keys().collect::<Vec<_>>())
            .finish()
    }
}

impl Args {
    /// No profile, no values.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads `[PROFILE] KEY VALUE...`.
    ///
    /// # Errors
    /// If a key is not a text.
    pub fn from_run_arguments(arguments: &[Value]) -> Result<Self, ArgsError> {
        if arguments.len().is_multiple_of(2) {
            return Self::from_pairs(arguments);
        }
        let (profile, pairs) = arguments.split_first().unzip();
        let mut args = Self::read_pairs(pairs.unwrap_or_default(), 2)?;
        if args.profile.is_none() {
            args.profile = match profile {
                Some(Value::Null) | None => None,
                Some(name) => Some(text_at(1, name, "the name of a profile")?),
            };
        }
        Ok(args)
    }

    /// Reads `KEY VALUE...`.
    ///
    /// # Errors
    /// If a key is not a text, or has no value.
    pub fn from_pairs(arguments: &[Value]) -> Result<Self, ArgsError> {
        Self::read_pairs(arguments, 1)
    }

    fn read_pairs(arguments: &[Value], first_position: usize) -> Result<Self, ArgsError> {
        let mut args = Self::default();
        let mut rest = arguments.iter();
        let mut position = first_position;
        while let Some(key) = rest.next() {
            let key = text_at(position, key, "a key")?;
            let Some(value) = rest.next() else {
                return Err(ArgsError::MissingValue { key });
            };
            if key == "profile" && !value.is_null() {
                args.profile = Some(text_at(position + 1, value, "the name of a profile")?);
            } else {
                args.set(&key, value.clone());
            }
            position += 2;
        }
        Ok(args)
    }

    /// Sets one value. The keys `profile`, `norc` and `force` are accepted, too.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) -> &mut Self {
        let value = value.into();
        match key {
            "profile" => self.profile = coerce::to_text(&value),
            "norc" => self.norc = coerce::is_true(&value),
            "force" => self.force = coerce::is_true(&value),
            _ => {
                self.values.insert(key.into(), value);
            }
        }
        self
    }

    /// The values, without `profile`, `norc` and `force`.
    #[must_use]
    pub const fn values(&self) -> &Map<String, Value> {
        &self.values
    }
}

/// Converts a whole command line (without the program's name) into values: an argument that begins
/// like JSON is parsed as such, any other becomes a text of its octets. If there is only one argument
/// and it begins with `[`, the items of that list are the arguments.
///
/// # Errors
/// If an argument begins like JSON but is not valid JSON.
pub fn decode_command_line(
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<Vec<Value>, ArgsError> {
    let decoded: Result<Vec<Value>, ArgsError> = arguments
        .into_iter()
        .enumerate()
        .map(|(index, argument)| decode(index + 1, &argument.into_vec()))
        .collect();
    let mut values = decoded?;
    match values.as_mut_slice() {
        [Value::Array(items)] => Ok(std::mem::take(items)),
        _ => Ok(values),
    }
}

fn decode(position: usize, octets: &[u8]) -> Result<Value, ArgsError> {
    match octets.first() {
        Some(b'[' | b'{' | b'"') => {
            relaxed::parse(octets).map_err(|source| ArgsError::Json { position, source })
        }
        _ => Ok(from_octets(octets).into()),
    }
}

fn text_at(position: usize, value: &Value, expected: &'static str) -> Result<String, ArgsError> {
    coerce::to_text(value).ok_or(ArgsError::NotText { position, expected })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn decoded(arguments: &[&str]) -> Vec<Value> {
        decode_command_line(arguments.iter().map(OsString::from)).unwrap()
    }

    fn run(arguments: &[&str]) -> Args {
        Args::from_run_arguments(&decoded(arguments)).unwrap()
    }

    fn values(args: &Args) -> Value {
        args.values().clone().into()
    }

    #[test]
    fn an_odd_number_of_arguments_begins_with_the_profile() {
        let args = run(&["eg", "nodeid", "eg/%u"]);
        assert_eq!(args.profile.as_deref(), Some("eg"));
        assert_eq!(values(&args), json!({"nodeid": "eg/%u"}));
        assert_eq!(run(&["eg"]).profile.as_deref(), Some("eg"));
        assert_eq!(run(&["nodeid", "x"]).profile, None);
        assert_eq!(run(&[]), Args::new());
    }

    #[test]
    fn the_key_profile_names_it_too_and_wins() {
        assert_eq!(run(&["profile", "eg"]).profile.as_deref(), Some("eg"));
        assert_eq!(run(&["a", "profile", "b"]).profile.as_deref(), Some("b"));
    }

    #[test]
    fn norc_and_force_are_perl_truths() {
        let args = run(&["norc", "1", "force", "0"]);
        assert!(args.norc && !args.force);
        assert_eq!(values(&args), json!({}));
    }

    #[test]
    fn what_begins_like_json_is_json() {
        assert_eq!(
            decoded(&["run", "[\"*:4040\"]", "{\"a\":1}", "\"x\"", "1", "x[1]"]),
            [
                json!("run"),
                json!(["*:4040"]),
                json!({"a": 1}),
                json!("x"),
                json!("1"),
                json!("x[1]")
            ]
        );
    }

    #[test]
    fn a_single_list_replaces_all_arguments() {
        assert_eq!(decoded(&["[\"run\",\"eg\",[1]]"]), [json!("run"), json!("eg"), json!([1])]);
    }

    #[test]
    fn octets_on_the_command_line_are_characters_and_json_is_utf8() {
        assert_eq!(
            decoded(&["x\u{e9}", "\"x\u{e9}\""]),
            [json!("x\u{c3}\u{a9}"), json!("x\u{e9}")]
        );
        let no_utf8 = [OsString::from_vec(vec![b'x', 0xff])];
        assert_eq!(decode_command_line(no_utf8).unwrap(), [json!("x\u{ff}")]);
    }

    #[test]
    fn wrong_arguments_are_named_by_their_position_without_their_value() {
        let broken = ["set", "[sesame]"].map(OsString::from);
        let error = decode_command_line(broken).unwrap_err().to_string();
        assert!(error.starts_with("argument 2 begins like JSON, but line 1, column 2"), "{error}");
        assert!(!error.contains("sesame"));
        let error = Args::from_run_arguments(&[json!("p"), json!([1]), json!(2)]).unwrap_err();
        assert_eq!(error, ArgsError::NotText { position: 2, expected: "a key" });
        let error = Args::from_pairs(&[json!("seeds")]).unwrap_err();
        assert_eq!(error.to_string(), "\"seeds\" has no value; write seeds VALUE");
    }

    #[test]
    fn debug_output_shows_no_values() {
        let mut args = Args::new();
        args.set("secret", "sesame");
        assert!(!format!("{args:?}").contains("sesame"));
    }
}
