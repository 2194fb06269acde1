//! The rc file: finding it, reading it, and changing it without ever losing data.
//!
//! `docs/protocol.md` §6: one JSON object. Its top level holds defaults for every profile, its
//! key `profile` the profiles by name. Perl's tool and ours share the file.

use super::pretty::to_pretty;
use super::relaxed::{self, SyntaxError};
use super::replace::{ReplaceLock, lock_path, replace};
use serde_json::{Map, Value};
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;

/// The environment variable that names another rc file.
pub const RC_VARIABLE: &str = "PERL_ANYEVENT_MP_RC";

/// How long [`RcFile::update`] waits for other writers.
pub const LOCK_TIMEOUT: Duration = Duration::from_secs(60);

const MAX_FILE_SIZE: u64 = 64 << 20;

/// What can go wrong with the rc file. Messages name the file and never show its content.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RcError {
    /// The file exists but cannot be read.
    #[error("{}: cannot read the configuration: {source}", path.display())]
    Read {
        /// The rc file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file is not relaxed JSON. It is never overwritten.
    #[error("{}: {source}; correct it by hand; the file was not changed", path.display())]
    Syntax {
        /// The rc file.
        path: PathBuf,
        /// Where and why.
        source: SyntaxError,
    },
    /// The file begins with a byte order mark, as some editors write it. It is never overwritten.
    #[error("{}: begins with a byte order mark (U+FEFF), which Perl nodes do not accept either; save \
             it as UTF-8 without one; the file was not changed", path.display())]
    ByteOrderMark {
        /// The rc file.
        path: PathBuf,
    },
    /// The JSON does not have the structure of a configuration. It is never overwritten.
    #[error("{}: {place} has to be a JSON object {{...}}; correct it by hand; the file was not changed",
            path.display())]
    Shape {
        /// The rc file.
        path: PathBuf,
        /// Which part.
        place: String,
    },
    /// The file is too large to be a configuration.
    #[error("{}: larger than {} MiB, so it is not a configuration file", path.display(),
            MAX_FILE_SIZE >> 20)]
    TooLarge {
        /// The rc file.
        path: PathBuf,
    },
    /// The path is a device, pipe or directory and must not be replaced by a file.
    #[error("{}: not a regular file, so no configuration can be written there; \
             let {RC_VARIABLE} name another one", path.display())]
    NotAFile {
        /// The rc file.
        path: PathBuf,
    },
    /// The path has no file name.
    #[error("no file to write the configuration to; set HOME, or {RC_VARIABLE} to a file name")]
    NoPath,
    /// The file cannot be written. The old version is unchanged.
    #[error("{}: cannot write the configuration: {source}", path.display())]
    Write {
        /// The rc file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The lock file cannot be created.
    #[error("{}: cannot lock the configuration: {source}", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Another process holds the lock.
    #[error("{}: another process has held this lock for {} seconds; end it and try again",
            path.display(), LOCK_TIMEOUT.as_secs())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
}

/// The path of the rc file, given the environment: `$PERL_ANYEVENT_MP_RC`, otherwise
/// `~/.perl-anyevent-mp`, otherwise none.
#[must_use]
pub fn path_in(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    if let Some(path) = variable(RC_VARIABLE) {
        return Some(PathBuf::from(path));
    }
    if let Some(home) = variable("HOME") {
        return Some(Path::new(&home).join(".perl-anyevent-mp"));
    }
    variable("APPDATA").map(|directory| Path::new(&directory).join("perl-anyevent-mp"))
}

/// The path of this process's rc file; see [`path_in`].
#[must_use]
pub fn default_path() -> Option<PathBuf> {
    path_in(|name| std::env::var_os(name))
}

/// The part of the rc file that a change applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope<'a> {
    /// The top level: defaults for every profile.
    Defaults,
    /// One profile.
    Profile(&'a str),
}

/// The content of an rc file. Unknown keys survive reading and writing (comments do not; the same is
/// true of Perl's tool).
#[derive(Clone)]
pub struct RcFile {
    path: PathBuf,
    root: Map<String, Value>,
    dirty: bool,
}

impl fmt::Debug for RcFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RcFile")
            .field("path", &self.path)
            .field("keys", &self.root.keys().collect::<Vec<_>>())
            .field("profiles", &self.profiles().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl RcFile {
    /// A configuration without content, like the one with which Perl starts a new file.
    #[must_use]
    pub fn empty(path: impl Into<PathBuf>) -> Self {
        let mut root = Map::new();
        root.insert("version".into(), 1.into());
        Self { path: path.into(), root, dirty: false }
    }

    /// Reads the file. A missing file, or one without content, is [`empty`](Self::empty).
    ///
    /// # Errors
    /// If the file cannot be read, cannot be parsed, or is not an object of profiles. (Perl then silently
    /// starts with an empty configuration, and overwrites the file.)
    pub fn load(path: impl Into<PathBuf>) -> Result<Self, RcError> {
        let path = path.into();
        let content = match read(&path) {
            Ok(content) => content,
            Err(source) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(Self::empty(path));
            }
            Err(source) => return Err(RcError::Read { path, source }),
        };
        if content.len() as u64 > MAX_FILE_SIZE {
            return Err(RcError::TooLarge { path });
        }
        Self::parse(path, &content)
    }

    /// Parses `content` as that of the file `path`.
    ///
    /// # Errors
    /// As for [`load`](Self::load), except those of reading.
    pub fn parse(path: impl Into<PathBuf>, content: &[u8]) -> Result<Self, RcError> {
        let path = path.into();
        if content.trim_ascii().is_empty() {
            return Ok(Self::empty(path));
        }
        if content.starts_with(b"\xEF\xBB\xBF") {
            return Err(RcError::ByteOrderMark { path });
        }
        let root = match relaxed::parse(content) {
            Ok(Value::Object(root)) => root,
            Ok(_) => {
                return Err(RcError::Shape { path, place: "the file".into() });
            }
            Err(source) => return Err(RcError::Syntax { path, source }),
        };
        match misshapen_part(&root) {
            Some(place) => Err(RcError::Shape { path, place }),
            None => Ok(Self { path, root, dirty: false }),
        }
    }

    /// Reads the file, lets `edit` change it, and writes it back, all under a lock, so that concurrent
    /// writers do not lose each other's changes. If `edit` fails or changes nothing, nothing is written.
    /// Otherwise the new version (mode 0600) replaces the old one atomically, and the old one is kept as
    /// `FILE~`. A symbolic link is followed, not replaced.
    ///
    /// # Errors
    /// The error of `edit`, or an [`RcError`] converted to its type.
    pub fn update<T, E: From<RcError>>(
        path: impl Into<PathBuf>,
        edit: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E> {
        let path = writable_target(path.into())?;
        let lock = match ReplaceLock::acquire(&path, LOCK_TIMEOUT) {
            Ok(Some(lock)) => lock,
            Ok(None) => {
                return Err(RcError::Locked { path: lock_path(&path) }.into());
            }
            Err(source) => {
                return Err(RcError::Lock { path: lock_path(&path), source }.into());
            }
        };
        let mut rc = Self::load(path)?;
        let result = edit(&mut rc)?;
        if rc.dirty {
            replace(&rc.path, rc.to_text().as_bytes())
                .map_err(|source| RcError::Write { path: rc.path.clone(), source })?;
        }
        drop(lock);
        Ok(result)
    }

    /// The file's text, in Perl's layout.
    #[must_use]
    pub fn to_text(&self) -> String {
        to_pretty(&Value::Object(self.root.clone()))
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Everything, profiles included.
    #[must_use]
    pub const fn root(&self) -> &Map<String, Value> {
        &self.root
    }

    /// The names of all profiles.
    pub fn profiles(&self) -> impl Iterator<Item = &str> {
        self.profile_table().into_iter().flat_map(Map::keys).map(String::as_str)
    }

    /// A profile's own values, without inherited ones.
    #[must_use]
    pub fn profile(&self, name: &str) -> Option<&Map<String, Value>> {
        self.profile_table()?.get(name)?.as_object()
    }

    /// One value, without inheritance.
    #[must_use]
    pub fn get(&self, scope: Scope<'_>, key: &str) -> Option<&Value> {
        match scope {
            Scope::Defaults => self.root.get(key),
            Scope::Profile(name) => self.profile(name)?.get(key),
        }
    }

    /// Sets one value, and creates the profile if it does not exist.
    pub fn set(&mut self, scope: Scope<'_>, key: &str, value: Value) {
        self.section_mut(scope).insert(key.into(), value);
    }

    /// Deletes one value, so that it is inherited again.
    pub fn delete(&mut self, scope: Scope<'_>, key: &str) -> Option<Value> {
        self.dirty = true;
        match scope {
            Scope::Defaults => self.root.shift_remove(key),
            Scope::Profile(name) => {
                let profile = self.root.get_mut("profile")?.as_object_mut()?.get_mut(name)?;
                profile.as_object_mut()?.shift_remove(key)
            }
        }
    }

    /// Changes a list (`binds`, `seeds`, `services`). A missing list starts empty, a comma-separated
    /// string is split.
    pub fn edit_list(&mut self, scope: Scope<'_>, key: &str, edit: impl FnOnce(&mut Vec<Value>)) {
        let mut list = match self.section_mut(scope).get_mut(key).map(Value::take) {
            Some(Value::Array(list)) => list,
            Some(Value::String(text)) => split_list(&text).map(Value::from).collect(),
            Some(Value::Null) | None => Vec::new(),
            Some(other) => vec![other],
        };
        edit(&mut list);
        self.set(scope, key, Value::Array(list));
    }

    /// Creates the profile if it does not exist.
    pub fn create_profile(&mut self, name: &str) {
        self.section_mut(Scope::Profile(name));
    }

    /// Deletes a profile with all its values.
    pub fn delete_profile(&mut self, name: &str) -> Option<Value> {
        self.dirty = true;
        self.root.get_mut("profile")?.as_object_mut()?.shift_remove(name)
    }

    fn profile_table(&self) -> Option<&Map<String, Value>> {
        self.root.get("profile")?.as_object()
    }

    fn section_mut(&mut self, scope: Scope<'_>) -> &mut Map<String, Value> {
        self.dirty = true;
        match scope {
            Scope::Defaults => &mut self.root,
            Scope::Profile(name) => object_in(object_in(&mut self.root, "profile"), name),
        }
    }
}

/// The items of a comma-separated list. As with Perl's `split`, empty items at the end are dropped.
pub(super) fn split_list(text: &str) -> impl Iterator<Item = &str> {
    let list = text.trim_end_matches(|c: char| c == ',' || c.is_ascii_whitespace());
    (!list.is_empty()).then(|| list.split(',').map(str::trim)).into_iter().flatten()
}

fn object_in<'a>(parent: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    let value = parent.entry(key).or_insert(Value::Null);
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(object) => object,
        _ => unreachable!("made an object above"),
    }
}

fn misshapen_part(root: &Map<String, Value>) -> Option<String> {
    match root.get("profile")? {
        Value::Null => None,
        Value::Object(profiles) => profiles
            .iter()
            .find(|(_, profile)| !(profile.is_object() || profile.is_null()))
            .map(|(name, _)| format!("profile {name:?}")),
        _ => Some("the key \"profile\"".into()),
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)?.take(MAX_FILE_SIZE + 1).read_to_end(&mut content)?;
    Ok(content)
}

/// The file to replace: symbolic links are followed; devices (root could replace /dev/null) and
/// directories are refused.
fn writable_target(path: PathBuf) -> Result<PathBuf, RcError> {
    if path.file_name().is_none() {
        return Err(RcError::NoPath);
    }
    match fs::canonicalize(&path) {
        Ok(target) if target.is_file() => Ok(target),
        Ok(_) => Err(RcError::NotAFile { path }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(link_target(path)),
        Err(source) => Err(RcError::Read { path, source }),
    }
}

/// The target of a symbolic link, which may not exist yet.
fn link_target(mut path: PathBuf) -> PathBuf {
    // A circle of links is reported as such, not as a missing file.
    while let Ok(target) = fs::read_link(&path) {
        path = path.parent().map_or_else(|| target.clone(), |parent| parent.join(&target));
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parsed(text: &str) -> Result<RcFile, RcError> {
        RcFile::parse("rc", text.as_bytes())
    }

    fn environment(variables: &[(&str, &str)]) -> Option<PathBuf> {
        path_in(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
        })
    }

    #[test]
    fn the_environment_names_the_file() {
        let both = [("HOME", "/home/eg"), (RC_VARIABLE, "other/rc")];
        assert_eq!(environment(&both), Some("other/rc".into()));
        assert_eq!(environment(&both[..1]), Some("/home/eg/.perl-anyevent-mp".into()));
        assert_eq!(environment(&[]), None);
    }

    #[test]
    fn a_new_file_has_version_1() {
        assert_eq!(Value::from(RcFile::empty("rc").root().clone()), json!({"version": 1}));
        assert_eq!(Value::from(parsed(" \n").unwrap().root().clone()), json!({"version": 1}));
    }

    #[test]
    fn keys_are_set_and_deleted_in_their_scope() {
        let mut rc = parsed(r#"{"seeds":["a:1"],"ours":{"x":1},"profile":{"p":{"y":2}}}"#).unwrap();
        rc.set(Scope::Defaults, "secret", json!("s"));
        rc.set(Scope::Profile("p"), "nodeid", json!("anon/"));
        rc.set(Scope::Profile("q"), "binds", json!([]));
        assert_eq!(rc.delete(Scope::Defaults, "seeds"), Some(json!(["a:1"])));
        assert_eq!(rc.delete(Scope::Profile("none"), "seeds"), None);
        let expected = json!({
            "ours": {"x": 1},
            "profile": {"p": {"y": 2, "nodeid": "anon/"}, "q": {"binds": []}},
            "secret": "s",
        });
        assert_eq!(Value::from(rc.root().clone()), expected);
        assert_eq!(rc.profiles().collect::<Vec<_>>(), ["p", "q"]);
        assert_eq!(rc.get(Scope::Profile("p"), "secret"), None);
    }

    #[test]
    fn profiles_are_created_and_deleted() {
        let mut rc = parsed(r#"{"profile":{"p":null}}"#).unwrap();
        rc.create_profile("p");
        rc.create_profile("q");
        assert_eq!(rc.delete_profile("q"), Some(json!({})));
        assert_eq!(Value::from(rc.root().clone()), json!({"profile": {"p": {}}}));
    }

    #[test]
    fn lists_grow_and_shrink_whatever_they_were() {
        let mut rc = parsed(r#"{"seeds":"a:1,b:2"}"#).unwrap();
        rc.edit_list(Scope::Defaults, "seeds", |seeds| seeds.push("c:3".into()));
        rc.edit_list(Scope::Profile("p"), "binds", |binds| binds.push("*".into()));
        let expected = json!({"seeds": ["a:1", "b:2", "c:3"], "profile": {"p": {"binds": ["*"]}}});
        assert_eq!(Value::from(rc.root().clone()), expected);
    }

    #[test]
    fn lists_are_split_as_perl_does() {
        let split = |text| split_list(text).collect::<Vec<_>>();
        assert_eq!(split(""), Vec::<&str>::new());
        assert_eq!(split("a, b,"), ["a", "b"]);
        assert_eq!(split("a,,b"), ["a", "", "b"]);
    }

    #[test]
    fn a_syntax_error_is_reported_with_its_position() {
        let error = parsed("{\"a\":1\n\"b\":2}").unwrap_err().to_string();
        assert_eq!(
            error,
            "rc: line 2, column 1: expected `,` or `}`; correct it by hand; the file was not changed"
        );
    }

    #[test]
    fn a_file_of_the_wrong_structure_is_refused() {
        for (text, place) in [
            ("[]", "the file"),
            (r#"{"profile":[]}"#, "the key \"profile\""),
            (r#"{"profile":{"p":"x"}}"#, "profile \"p\""),
        ] {
            let error = parsed(text).unwrap_err().to_string();
            assert!(error.contains(place), "{error}");
        }
    }

    #[test]
    fn debug_output_shows_no_values() {
        let rc = parsed(r#"{"secret":"sesame","profile":{"p":{"secret":"simsim"}}}"#).unwrap();
        let shown = format!("{rc:?}");
        assert!(!shown.contains("sesame") && !shown.contains("simsim"), "{shown}");
        assert!(shown.contains("secret") && shown.contains('p'));
    }
}
