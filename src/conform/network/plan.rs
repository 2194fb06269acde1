//! The plan of a network run, read from a JSON file: the implementations, each as a command that starts
//! a node, the pairs of them, and the variants of connections.

use super::wiring::Wanted;
use crate::conform::profile::Profile;
use crate::conform::tls::{Identity, NoIdentity};
use crate::wire::framing::Framing;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The properties of the connections in a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variant {
    /// The framing of all packets.
    pub framing: Framing,
    /// Whether connections use TLS.
    pub tls: bool,
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.framing.name())?;
        f.write_str(if self.tls { "+tls" } else { "" })
    }
}

impl Variant {
    fn from_name(name: &str) -> Option<Variant> {
        let (framing, tls) = match name.strip_suffix("+tls") {
            Some(framing) => (framing, true),
            None => (name, false),
        };
        Framing::from_name(framing).map(|framing| Variant { framing, tls })
    }
}

/// A command that starts a node of one implementation.
#[derive(Clone, Debug)]
pub struct Implementation {
    /// Its name in reports.
    pub name: String,
    /// A shell command with `{node}`, `{bind}`, `{seeds}`, `{secret}`, `{framing}`, `{monitor_timeout}` and
    /// `{tls}`.
    pub(super) command: String,
    /// The replacement of `{tls}` if connections use TLS, with `{cert}` for the path of the certificate.
    pub(super) tls: Option<String>,
    /// The checks that it is known to miss.
    pub(super) profile: Option<&'static Profile>,
}

/// Two implementations, in their roles.
pub(super) type Pair = (Arc<Implementation>, Arc<Implementation>);

/// The common properties of all networks of a run.
#[derive(Clone, Debug)]
pub(super) struct Common {
    pub(super) secret: String,
    pub(super) service: String,
    pub(super) cert: Option<(PathBuf, Arc<Identity>)>,
    /// The directory in which the commands run.
    pub(super) directory: PathBuf,
    pub(super) patience: Duration,
    pub(super) monitor_timeout: Duration,
    pub(super) connect_interval: Duration,
}

/// A network run to carry out.
#[derive(Clone, Debug)]
pub struct NetworkPlan {
    pub(super) common: Common,
    pub(super) pairs: Vec<Pair>,
    pub(super) variants: Vec<Variant>,
    pub(super) wiring: Wanted,
    /// Names of checks, or the beginnings of names followed by `*`; all checks if it is empty. Names after a
    /// `!` are excluded.
    pub only: Vec<String>,
}

/// Why a network run cannot be carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The file is malformed.
    #[error("{}: {problem}; docs/conformance.md describes the file", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The fault.
        problem: String,
    },
    /// No check has this name.
    #[error("no check of networks is called {name:?}; --network FILE --list lists all")]
    UnknownCheck {
        /// The name.
        name: String,
    },
    /// The file requires network namespaces, which are not available here.
    #[error("{why}; leave out `connect` to test on loopback, where not everything can be cut")]
    NoNamespaces {
        /// The reason.
        why: String,
    },
    /// A command does not start a node that can be tested.
    #[error("{implementation} ({variant}): {reason}")]
    NoNode {
        /// The implementation.
        implementation: String,
        /// The connections that it was to use.
        variant: Variant,
        /// What happened instead.
        reason: String,
    },
}

/// The file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    secret: String,
    service: String,
    cert: Option<PathBuf>,
    variants: Option<Vec<String>>,
    nodes: BTreeMap<String, NodeEntry>,
    pairs: Option<Vec<(String, String)>>,
    connect: Option<String>,
    patience: Option<f64>,
    monitor_timeout: Option<f64>,
    connect_interval: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeEntry {
    command: String,
    tls: Option<String>,
    profile: Option<String>,
}

impl NetworkPlan {
    /// Reads the file. Paths in it, and the commands, are relative to its directory.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or cannot be carried out.
    pub fn read(path: &Path) -> Result<NetworkPlan, NetworkError> {
        let unreadable = |path: &Path| {
            let path = path.to_owned();
            |source| NetworkError::Unreadable { path, source }
        };
        let text = std::fs::read_to_string(path).map_err(unreadable(path))?;
        let whole = std::path::absolute(path).map_err(unreadable(path))?;
        let directory = whole.parent().unwrap_or(Path::new("/")).to_owned();
        let invalid = |problem| NetworkError::Invalid { path: path.to_owned(), problem };
        let file: File = serde_json::from_str(&text).map_err(|error| invalid(error.to_string()))?;
        let cert = match &file.cert {
            None => None,
            Some(name) => {
                let cert = directory.join(name);
                let pem = std::fs::read(&cert).map_err(unreadable(&cert))?;
                let identity = Identity::from_pem(&pem)
                    .map_err(|error: NoIdentity| invalid(format!("{}: {error}", name.display())))?;
                Some((cert, Arc::new(identity)))
            }
        };
        file.plan(cert, directory).map_err(invalid)
    }
}

impl File {
    fn plan(
        self,
        cert: Option<(PathBuf, Arc<Identity>)>,
        directory: PathBuf,
    ) -> Result<NetworkPlan, String> {
        let names = match self.variants {
            Some(names) => names,
            None => {
                let all: &[&str] = match &cert {
                    Some(_) => &["cbor", "json", "cbor+tls", "json+tls"],
                    None => &["cbor", "json"],
                };
                all.iter().map(|name| (*name).to_owned()).collect()
            }
        };
        let mut variants = Vec::new();
        for name in names {
            let variant = Variant::from_name(&name).ok_or_else(|| {
                format!("variants: {name:?} is none; use cbor, json or storable, or such with +tls")
            })?;
            if variant.tls && cert.is_none() {
                return Err(format!("variants: {name} needs a certificate, the key `cert`"));
            }
            variants.push(variant);
        }
        let mut nodes = BTreeMap::new();
        for (name, entry) in self.nodes {
            nodes.insert(name.clone(), Arc::new(entry.implementation(name)?));
        }
        let pairs: Vec<Pair> = match self.pairs {
            Some(pairs) => {
                let find = |name: &String| {
                    let unknown = || format!("pairs: {name:?} is not among the nodes");
                    nodes.get(name).cloned().ok_or_else(unknown)
                };
                let both = |(first, second)| Ok::<Pair, String>((find(&first)?, find(&second)?));
                pairs.into_iter().map(both).collect::<Result<_, _>>()?
            }
            None => {
                let all = nodes.values();
                all.clone().flat_map(|x| all.clone().map(|y| (x.clone(), y.clone()))).collect()
            }
        };
        if pairs.is_empty() || variants.is_empty() {
            return Err("there is nothing to test: name nodes, pairs and variants".to_owned());
        }
        let wiring = match &self.connect {
            None => Wanted::Best,
            Some(name) => Wanted::from_name(name).ok_or_else(|| {
                format!("connect: {name:?} is no way to connect nodes; use namespaces or loopback")
            })?,
        };
        let common = Common {
            secret: self.secret,
            service: self.service,
            cert,
            directory,
            patience: seconds("patience", self.patience.unwrap_or(5.0))?,
            monitor_timeout: seconds("monitor_timeout", self.monitor_timeout.unwrap_or(30.0))?,
            connect_interval: seconds("connect_interval", self.connect_interval.unwrap_or(2.0))?,
        };
        Ok(NetworkPlan { common, pairs, variants, wiring, only: Vec::new() })
    }
}

impl NodeEntry {
    fn implementation(self, name: String) -> Result<Implementation, String> {
        for part in ["{node}", "{bind}", "{seeds}"] {
            if !self.command.contains(part) {
                return Err(format!("nodes: the command of {name:?} has to contain {part}"));
            }
        }
        let unknown = |profile: &String| format!("nodes: there is no profile {profile:?}");
        let profile = match &self.profile {
            Some(profile) => Some(Profile::named(profile).ok_or_else(|| unknown(profile))?),
            None => None,
        };
        Ok(Implementation { name, command: self.command, tls: self.tls, profile })
    }
}

fn seconds(key: &str, seconds: f64) -> Result<Duration, String> {
    let duration = Duration::try_from_secs_f64(seconds).ok();
    duration
        .filter(|duration| !duration.is_zero() && duration.as_secs() < 3600)
        .ok_or_else(|| format!("{key}: has to be seconds, more than 0 and below 3600"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value as Json, json};

    fn plan(change: impl FnOnce(&mut Json)) -> Result<NetworkPlan, String> {
        let mut file = json!({
            "secret": "geheim",
            "service": "Conform::service",
            "nodes": {
                "one": {"command": "one {node} {bind} {seeds}"},
                "two": {"command": "two {node} {bind} {seeds}", "profile": "perl-2.02"},
            },
        });
        change(&mut file);
        let file: File = serde_json::from_value(file).map_err(|error| error.to_string())?;
        file.plan(None, "/".into())
    }

    #[test]
    fn without_more_words_every_pair_is_tried_with_both_framings() {
        let plan = plan(|_| {}).unwrap();
        let names = plan.pairs.iter().map(|(x, y)| format!("{} {}", x.name, y.name));
        assert_eq!(names.collect::<Vec<_>>(), ["one one", "one two", "two one", "two two"]);
        let variants = plan.variants.iter().map(ToString::to_string);
        assert_eq!(variants.collect::<Vec<_>>(), ["cbor", "json"]);
        assert_eq!(plan.common.monitor_timeout, Duration::from_secs(30));
    }

    #[test]
    fn what_cannot_be_done_is_named() {
        type Change = fn(&mut Json);
        let wrong: [(Change, &str); 8] = [
            (|file| file["variants"] = json!(["morse"]), "\"morse\" is none"),
            (|file| file["variants"] = json!(["cbor+tls"]), "needs a certificate"),
            (|file| file["pairs"] = json!([["one", "three"]]), "\"three\" is not among the nodes"),
            (|file| file["pairs"] = json!([]), "nothing to test"),
            (|file| file["nodes"]["one"]["command"] = json!("{node} {bind}"), "contain {seeds}"),
            (|file| file["nodes"]["two"]["profile"] = json!("x"), "no profile \"x\""),
            (|file| file["connect"] = json!("pigeons"), "use namespaces or loopback"),
            (|file| file["patience"] = json!(0), "patience: has to be seconds"),
        ];
        for (change, problem) in wrong {
            let error = plan(change).unwrap_err();
            assert!(error.contains(problem), "{error}");
        }
        assert!(plan(|file| file["nods"] = json!({})).is_err());
    }
}
