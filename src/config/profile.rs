//! The effective configuration of a profile: the value of each key, and where it comes from.
//!
//! `docs/protocol.md` §6: built-in defaults, then the program's arguments, then the rc file's top
//! level, then the chain of parents, then the profile. With `force` the first two come last.

use super::args::Args;
use super::coerce;
use super::rc::RcFile;
use super::warning::Warning;
use crate::wire::auth::AuthMethod;
use crate::wire::framing::Framing;
use serde_json::{Map, Value};
use std::fmt;
use std::path::PathBuf;
use thiserror::Error;

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The built-in defaults.
    BuiltIn,
    /// The program's arguments.
    Arguments,
    /// The top level of the rc file.
    TopLevel(PathBuf),
    /// A profile in the rc file.
    Profile(PathBuf, String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn => f.write_str("built-in defaults"),
            Self::Arguments => f.write_str("arguments"),
            Self::TopLevel(path) => write!(f, "{}, top level", path.display()),
            Self::Profile(path, name) => write!(f, "{}, profile {name:?}", path.display()),
        }
    }
}

/// Why a profile has no effective configuration.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// The chain of parents forms a circle. (Perl never returns from this.)
    #[error("{}: the parents of profile {:?} form a circle: {}; use `aemp profile {} delparent`",
            path.display(), chain.first().map_or("", String::as_str), shown_chain(chain),
            chain.last().map_or("", String::as_str))]
    ParentCycle {
        /// The rc file.
        path: PathBuf,
        /// The profile, its parent and so on; the last one's parent is already in the list.
        chain: Vec<String>,
        /// The profile that occurs twice.
        again: String,
    },
    /// The parent is not a name.
    #[error("{}, profile {profile:?}: `parent` has to be the name of a profile", path.display())]
    ParentNotText {
        /// The rc file.
        path: PathBuf,
        /// The profile.
        profile: String,
    },
}

fn shown_chain(chain: &[String]) -> String {
    chain.join(" -> ")
}

/// One effective value.
#[derive(Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) value: Value,
    pub(super) origin: Origin,
}

/// The effective configuration of a profile.
#[derive(Clone)]
pub struct Effective {
    pub(super) profile: String,
    pub(super) entries: Vec<Entry>,
    pub(super) warnings: Vec<Warning>,
}

impl fmt::Debug for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.entries.iter().map(|entry| (&entry.key, &entry.origin));
        f.debug_struct("Effective")
            .field("profile", &self.profile)
            .field("keys", &keys.collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl Effective {
    /// Combines defaults, arguments and rc file. `node_name` (see
    /// [`node_name`](super::node_id::node_name)) is the profile if the arguments do not name one.
    /// A profile that is not in the file has no values of its own.
    ///
    /// # Errors
    /// If the chain of parents forms a circle or contains something other than a name.
    pub fn resolve(
        args: &Args,
        rc: Option<&RcFile>,
        node_name: &str,
    ) -> Result<Self, ProfileError> {
        let profile = args.profile.clone().unwrap_or_else(|| node_name.into());
        let mut effective = Self { profile, entries: Vec::new(), warnings: Vec::new() };
        let rc = rc.filter(|_| !args.norc);
        if args.force {
            effective.overlay_file(rc)?;
            effective.overlay_program(args);
        } else {
            effective.overlay_program(args);
            effective.overlay_file(rc)?;
            effective.warn_of_overridden(args);
        }
        Ok(effective)
    }

    /// The profile's name.
    #[must_use]
    pub fn profile(&self) -> &str {
        &self.profile
    }

    /// The effective value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// Where the effective value comes from.
    #[must_use]
    pub fn origin(&self, key: &str) -> Option<&Origin> {
        self.entry(key).map(|entry| &entry.origin)
    }

    /// All values, as `aemp showconfig` shows them: without `profile` and `parent`, but with secrets.
    #[must_use]
    pub fn to_json(&self) -> Map<String, Value> {
        let shown = self.entries.iter().filter(|e| !matches!(e.key.as_str(), "profile" | "parent"));
        shown.map(|entry| (entry.key.clone(), entry.value.clone())).collect()
    }

    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    fn warn_of_overridden(&mut self, args: &Args) {
        for entry in &self.entries {
            if args.values().get(&entry.key).is_some_and(|given| !means_same(given, &entry.value)) {
                let (key, origin) = (entry.key.clone(), entry.origin.clone());
                self.warnings.push(Warning::Overridden { key, origin });
            }
        }
    }

    fn overlay_program(&mut self, args: &Args) {
        self.overlay(&built_in_defaults(), &Origin::BuiltIn);
        self.overlay(args.values(), &Origin::Arguments);
    }

    fn overlay_file(&mut self, rc: Option<&RcFile>) -> Result<(), ProfileError> {
        let Some(rc) = rc else { return Ok(()) };
        self.overlay(rc.root(), &Origin::TopLevel(rc.path().into()));
        for name in self.lineage(rc)?.into_iter().rev() {
            if let Some(values) = rc.profile(&name) {
                self.overlay(values, &Origin::Profile(rc.path().into(), name));
            }
        }
        Ok(())
    }

    fn overlay(&mut self, values: &Map<String, Value>, origin: &Origin) {
        for (key, value) in values {
            let entry = Entry { key: key.clone(), value: value.clone(), origin: origin.clone() };
            match self.entries.iter_mut().find(|entry| entry.key == *key) {
                Some(old) => *old = entry,
                None => self.entries.push(entry),
            }
        }
    }

    /// The profile, its parent, and so on.
    fn lineage(&mut self, rc: &RcFile) -> Result<Vec<String>, ProfileError> {
        let mut chain = vec![self.profile.clone()];
        let mut name = self.profile.clone();
        loop {
            let parent = match rc.profile(&name).and_then(|values| values.get("parent")) {
                None | Some(Value::Null) => return Ok(chain),
                Some(parent) => coerce::to_text(parent).ok_or_else(|| {
                    ProfileError::ParentNotText { path: rc.path().into(), profile: name.clone() }
                })?,
            };
            if chain.contains(&parent) {
                chain.push(parent.clone());
                let path = rc.path().into();
                return Err(ProfileError::ParentCycle { path, chain, again: parent });
            }
            if rc.profile(&parent).is_none() {
                self.warnings.push(Warning::MissingParent {
                    origin: Origin::Profile(rc.path().into(), name),
                    parent: parent.clone(),
                });
            }
            chain.push(parent.clone());
            name = parent;
        }
    }
}

/// Whether two values mean the same, such as 5 and "5", or a text and a list of only that text.
fn means_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(a, b)| means_same(a, b))
        }
        (Value::Array(list), single) | (single, Value::Array(list)) => {
            matches!(list.as_slice(), [only] if means_same(only, single))
        }
        (Value::Number(number), Value::String(text))
        | (Value::String(text), Value::Number(number)) => number.to_string() == *text,
        _ => one == other,
    }
}

fn built_in_defaults() -> Map<String, Value> {
    let framings = Framing::ALL.iter().map(|framing| framing.name().into());
    let accepted = AuthMethod::LISTED.iter().map(|method| method.name().into());
    let offered = [AuthMethod::TlsSha3_512, AuthMethod::HmacSha3_512].map(AuthMethod::name);
    [
        ("monitor_timeout", Value::from(30)),
        ("connect_interval", Value::from(2)),
        ("framing_format", Value::Array(framings.collect())),
        ("auth_offer", Value::from(offered.to_vec())),
        ("auth_accept", Value::Array(accepted.collect())),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const RC: &str = r#"{
        "version": 1, "secret": "top", "seeds": ["top:1"], "monitor_timeout": 10,
        "profile": {
            "base":  {"seeds": ["base:1"], "nodeid": "base/", "secret": "base"},
            "child": {"parent": "base", "nodeid": "child"},
            "lost":  {"parent": "gone", "secret": "lost"},
            "a": {"parent": "b"}, "b": {"parent": "c"}, "c": {"parent": "b"},
            "self": {"parent": "self"},
            "odd": {"parent": ["base"]}
        }
    }"#;

    fn resolve(arguments: &[&str]) -> Result<Effective, ProfileError> {
        let arguments: Vec<Value> = arguments.iter().map(|&text| text.into()).collect();
        let args = Args::from_run_arguments(&arguments).unwrap();
        let rc = RcFile::parse("rc", RC.as_bytes()).unwrap();
        Effective::resolve(&args, Some(&rc), "rain")
    }

    fn get(arguments: &[&str], key: &str) -> Value {
        resolve(arguments).unwrap().get(key).cloned().unwrap_or_default()
    }

    #[test]
    fn the_defaults_are_those_of_perl() {
        let effective = Effective::resolve(&Args::new(), None, "rain").unwrap();
        assert_eq!(effective.profile(), "rain");
        assert_eq!(
            Value::from(effective.to_json()),
            json!({
                "monitor_timeout": 30,
                "connect_interval": 2,
                "framing_format": ["cbor", "json", "storable"],
                "auth_offer": ["tls_sha3_512", "hmac_sha3_512"],
                "auth_accept": ["tls_sha3_512", "hmac_sha3_512", "tls_anon", "cleartext"],
            })
        );
    }

    #[test]
    fn the_file_overrides_the_arguments_and_they_the_defaults() {
        assert_eq!(get(&["connect_interval", "5"], "connect_interval"), "5");
        assert_eq!(get(&["monitor_timeout", "5"], "monitor_timeout"), 10);
        assert_eq!(get(&["child", "nodeid", "mine"], "nodeid"), "child");
    }

    #[test]
    fn the_profile_overrides_its_parents_and_they_the_top_level() {
        assert_eq!(get(&["child"], "nodeid"), "child");
        assert_eq!(get(&["child"], "secret"), "base");
        assert_eq!(get(&["child"], "seeds"), json!(["base:1"]));
        assert_eq!(get(&["child"], "version"), 1);
        assert_eq!(get(&["unknown"], "secret"), "top");
        assert_eq!(get(&[], "secret"), "top");
    }

    #[test]
    fn norc_ignores_the_file() {
        assert_eq!(get(&["child", "norc", "1"], "secret"), Value::Null);
        assert_eq!(get(&["child", "norc", "1", "secret", "mine"], "secret"), "mine");
        assert_eq!(get(&["child", "norc", "0"], "secret"), "base");
    }

    #[test]
    fn force_lets_arguments_and_defaults_win() {
        assert_eq!(get(&["child", "force", "1", "secret", "mine"], "secret"), "mine");
        assert_eq!(get(&["child", "force", "1"], "monitor_timeout"), 30);
        assert_eq!(get(&["child", "force", "1"], "nodeid"), "child");
    }

    #[test]
    fn an_argument_that_the_file_overrides_is_named_with_the_file_and_the_way_out() {
        let warnings = |arguments: &[&str]| -> Vec<String> {
            resolve(arguments).unwrap().warnings.iter().map(Warning::to_string).collect()
        };
        assert_eq!(
            warnings(&["child", "seeds", "mine:1", "connect_interval", "5"]),
            ["rc, profile \"base\": `seeds` overrides the value given on the command line or by \
              the program; `force 1` lets that one win, `norc 1` ignores the file"]
        );
        // The file has the same value, written differently.
        assert!(warnings(&["child", "seeds", "base:1", "monitor_timeout", "10"]).is_empty());
        assert!(warnings(&["child", "seeds", "mine:1", "force", "1"]).is_empty());
        assert!(warnings(&["child", "seeds", "mine:1", "norc", "1"]).is_empty());
    }

    #[test]
    fn every_value_knows_its_origin() {
        let effective = resolve(&["child", "connect_interval", "5"]).unwrap();
        let origin = |key| effective.origin(key).unwrap().to_string();
        assert_eq!(origin("framing_format"), "built-in defaults");
        assert_eq!(origin("connect_interval"), "arguments");
        assert_eq!(origin("monitor_timeout"), "rc, top level");
        assert_eq!(origin("secret"), "rc, profile \"base\"");
    }

    #[test]
    fn what_is_shown_leaves_out_profiles_and_parents() {
        let shown = resolve(&["child"]).unwrap().to_json();
        assert!(!shown.contains_key("profile") && !shown.contains_key("parent"));
    }

    #[test]
    fn circles_of_parents_are_named() {
        let error = resolve(&["a"]).unwrap_err().to_string();
        assert_eq!(
            error,
            "rc: the parents of profile \"a\" form a circle: a -> b -> c -> b; \
             use `aemp profile b delparent`"
        );
        assert!(resolve(&["self"]).unwrap_err().to_string().contains("self -> self"));
        assert!(resolve(&["odd"]).unwrap_err().to_string().contains("profile \"odd\": `parent`"));
    }

    #[test]
    fn a_parent_that_is_not_there_is_only_a_warning() {
        let effective = resolve(&["lost"]).unwrap();
        assert_eq!(effective.get("secret"), Some(&json!("lost")));
        assert!(matches!(effective.warnings.as_slice(), [Warning::MissingParent { .. }]));
    }

    #[test]
    fn debug_output_shows_no_values() {
        assert!(!format!("{:?}", resolve(&["child"]).unwrap()).contains("base/"));
    }
}
