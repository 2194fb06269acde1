//! Errors of the command: one line each, naming the thing and the way out.

use aemp::config::args::ArgsError;
use aemp::config::octets::to_octets;
use aemp::config::profile::ProfileError;
use aemp::config::rc::RcError;
use aemp::config::settings::{CredentialsError, SettingError};
use aemp::node::tls::GencertError;
use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use thiserror::Error;

/// Exit status: the command line or the configuration is wrong, and nothing was done.
const USAGE: u8 = 2;
/// Exit status: something failed.
const FAILURE: u8 = 1;

#[derive(Debug, Error)]
pub(crate) enum CliError {
    #[error("usage: aemp SUBCOMMAND [ARGUMENTS] [SUBCOMMAND...]; try `aemp --help`")]
    NoSubcommand,
    #[error(
        "{} is not a subcommand{}; {}",
        shown(name),
        after.as_ref().map(|usage| format!(" (after `{usage}`)")).unwrap_or_default(),
        match nearest {
            Some(nearest) => format!("did you mean `{nearest}`? `aemp help` lists all"),
            None => "`aemp help` lists all".into(),
        }
    )]
    UnknownSubcommand {
        name: String,
        nearest: Option<String>,
        /// The usage of the subcommand before it.
        after: Option<String>,
    },
    #[error("{} is not an option; try `aemp help`", shown(name))]
    UnknownOption { name: String },
    #[error("{argument} is missing; write `aemp {usage}`")]
    MissingArgument { argument: &'static str, usage: String },
    #[error("{argument} has to be a text, not a list, object or null; write `aemp {usage}`")]
    NotText { argument: &'static str, usage: String },
    #[error("`run` has to be the first subcommand, and takes all arguments that follow it")]
    RunNotFirst,
    #[error("there are no completions for {}; use bash, zsh or fish", shown(name))]
    UnknownShell { name: String },
    #[error("{} is one argument too many; try `aemp help {usage}`", shown(argument))]
    TooManyArguments { argument: String, usage: String },
    #[error(
        "{} is not a log level; use error, warn, note, info, debug, trace or a number up to 9",
        shown(name)
    )]
    UnknownLevel { name: String },
    #[error("--format {}: unknown; use text, tree, dot, svg or json", shown(name))]
    UnknownFormat { name: String },
    #[error("`db` has no operation {}; use get, keys, values, watch, set or del", shown(name))]
    UnknownDbOperation { name: String },
    #[error("{} is not a valid {what}: {problem}", shown(text))]
    InvalidId { what: &'static str, text: String, problem: String },
    #[error("{count} of these things {} wrong", if *count == 1 { "is" } else { "are" })]
    Unhealthy { count: usize },
    #[error("{problem}; try `aemp help conform`")]
    Conform { problem: String },
    #[error(transparent)]
    Plan(#[from] aemp::conform::PlanError),
    #[error(transparent)]
    NetworkPlan(#[from] aemp::conform::NetworkError),
    #[error("{count} of these statements {} missed", if *count == 1 { "is" } else { "are" })]
    Nonconforming { count: usize },
    #[error("{0}")]
    Network(#[from] NetworkError),
    #[error(transparent)]
    Arguments(#[from] ArgsError),
    #[error(transparent)]
    RcFile(#[from] RcError),
    #[error(transparent)]
    Profile(#[from] ProfileError),
    #[error(transparent)]
    Setting(#[from] SettingError),
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    #[error(
        "profile {} would be its own ancestor with this parent; choose another parent",
        shown(profile)
    )]
    CircularParents { profile: String },
    #[error("{}: cannot read the certificate: {source}; name a readable PEM file", path.display())]
    CertUnreadable { path: PathBuf, source: io::Error },
    #[error("{}: larger than 1 MiB, so it is not a certificate; name a PEM file", path.display())]
    CertTooLarge { path: PathBuf },
    #[error("{}: cannot read the secret: {source}", path.display())]
    SecretUnreadable { path: PathBuf, source: io::Error },
    #[error("{}: has to hold a secret of 1 octet to 64 KiB", path.display())]
    NoSecret { path: PathBuf },
    #[error(
        "`run` cannot read its secret from standard input, since it has to read it again for each \
         restart of the node; name a file"
    )]
    SecretFromStandardInput,
    #[error("the system provides no random numbers: {0}")]
    Random(getrandom::Error),
    #[error("{}", with_cause(source))]
    Gencert {
        #[from]
        source: GencertError,
    },
    #[error("cannot write the output: {0}")]
    Output(io::Error),
    #[error(transparent)]
    Start(#[from] aemp::StartError),
    #[error("the system does not let nodes run: {0}")]
    Runtime(io::Error),
}

/// Errors between nodes: one line each, with control characters of a peer's text escaped.
#[derive(Debug, Error)]
pub(crate) enum NetworkError {
    #[error(
        "no seed is configured through which to join; write `aemp profile aemp setseeds HOST:PORT` \
         with the address of a running node"
    )]
    NoSeeds,
    #[error("cannot join the network: {seeds}; `aemp doctor aemp` finds out why")]
    NotJoined { seeds: String },
    #[error("node {node} cannot be reached: {}", reason.trim_end())]
    Unreachable {
        node: String,
        /// Each element is followed by a space.
        reason: String,
    },
    #[error("port {port} does not exist: {}", reason.trim_end())]
    PortGone { port: String, reason: String },
    #[error(
        "node {node} has no function {function}: the message did nothing; the program of the node has to \
         register it (in Perl, define it)"
    )]
    NoFunction { node: String, function: String },
    #[error("port {port} ended before it answered: {}", reason.trim_end())]
    PortEnded { port: String, reason: String },
    #[error(
        "node {node} did not answer within {seconds} s; nodes in secure mode do not evaluate \
             anything"
    )]
    NotEvaluated { node: String, seconds: u64 },
    #[error("{text}")]
    Evaluation { text: String },
    #[error(
        "{count} line{} not answered within {seconds} s",
        if *count == 1 { " was" } else { "s were" }
    )]
    Unanswered { count: usize, seconds: u64 },
    #[error("some nodes did not answer")]
    Incomplete,
    #[error("family {family} has no key {key}")]
    NoKey { family: String, key: String },
    #[error("key {key} still exists: it belongs to another node, and only that node can delete it")]
    NotOurs { key: String },
    #[error("{0}")]
    Other(String),
}

impl CliError {
    pub(crate) fn exit_code(&self) -> ExitCode {
        let code = match self {
            Self::Network(_)
            | Self::Unhealthy { .. }
            | Self::Nonconforming { .. }
            | Self::Random(_)
            | Self::Gencert { .. }
            | Self::Output(_)
            | Self::Runtime(_) => FAILURE,
            Self::Start(aemp::StartError::Randomness(_)) => FAILURE,
            Self::RcFile(RcError::Write { .. } | RcError::Lock { .. } | RcError::Locked { .. }) => {
                FAILURE
            }
            _ => USAGE,
        };
        code.into()
    }
}

/// A word of the command line in quotes, with control characters escaped.
fn shown(word: &str) -> String {
    match to_octets(word) {
        Ok(octets) => format!("{:?}", String::from_utf8_lossy(&octets)),
        Err(_) => format!("{word:?}"),
    }
}

fn with_cause(error: &dyn Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
