//! The node that a subcommand runs or examines: its arguments, and with the rc file its settings.

use crate::errors::CliError;
use crate::grammar::SECRET_FILE;
use crate::output::print_line;
use crate::secrets;
use aemp::config::coerce;
use aemp::config::node_id::node_name;
use aemp::config::profile::Effective;
use aemp::config::rc::{self, RcFile};
use aemp::config::{Args, Settings, Warning};
use serde_json::Value;

/// The node to run.
#[derive(Debug, Clone)]
pub(crate) struct NodeArgs {
    args: Args,
    /// Whether it is the node of a subcommand that only talks to others.
    is_tool: bool,
}

impl NodeArgs {
    /// The arguments of `run`, which is executed again whenever the node is restarted.
    pub(crate) fn of_run(arguments: &[Value]) -> Result<Self, CliError> {
        match split_secret_file(arguments) {
            (_, Some(file)) if file == secrets::STANDARD_INPUT => {
                Err(CliError::SecretFromStandardInput)
            }
            _ => Self::prepare(arguments),
        }
    }

    pub(crate) fn prepare(arguments: &[Value]) -> Result<Self, CliError> {
        let (arguments, secret_file) = split_secret_file(arguments);
        let mut args = Args::from_run_arguments(&arguments)?;
        if let Some(file) = secret_file {
            args.set("secret", secrets::read(&file)?);
        }
        Ok(Self { args, is_tool: false })
    }

    /// The node that a subcommand runs while it talks to others, with the configuration of Perl's
    /// tool.
    pub(crate) fn of_the_tool() -> Self {
        let mut args = Args::new();
        args.set("profile", "aemp").set("nodeid", "aemp/%n/%u");
        Self { args, is_tool: true }
    }

    /// The secret alone, if there is one that can be read.
    pub(crate) fn secret(&self) -> Option<Vec<u8>> {
        let rc = rc::default_path().and_then(|path| RcFile::load(path).ok());
        let effective = Effective::resolve(&self.args, rc.as_ref(), &node_name()).ok()?;
        let (settings, _) = effective.settings().ok()?;
        settings.secret.map(|secret| secret.expose().clone())
    }

    /// Reads the file and combines it with the arguments; also used to reread it later. Warnings
    /// are printed to standard error.
    pub(crate) fn settings(&self) -> Result<Settings, CliError> {
        let rc = match rc::default_path() {
            Some(path) if !self.args.norc => Some(RcFile::load(path)?),
            _ => None,
        };
        let effective = Effective::resolve(&self.args, rc.as_ref(), &node_name())?;
        let (settings, warnings) = effective.settings()?;
        for warning in &warnings {
            // Perl code for all profiles is no reason for a warning each time the tool runs.
            if !(self.is_tool && matches!(warning, Warning::PerlCode { .. })) {
                print_line("warning: ", warning);
            }
        }
        settings.check_credentials()?;
        Ok(settings)
    }
}

/// Takes `--secret-file FILE` out of the arguments.
fn split_secret_file(arguments: &[Value]) -> (Vec<Value>, Option<String>) {
    let mut rest = arguments.to_vec();
    let at = rest.iter().position(|word| word == SECRET_FILE);
    let file = at.filter(|at| at + 1 < rest.len()).and_then(|at| {
        let mut words = rest.drain(at..at + 2);
        words.nth(1).and_then(|file| coerce::to_text(&file))
    });
    (rest, file)
}

/// Whether every message is to be printed.
pub(crate) fn is_traced() -> bool {
    std::env::var_os("PERL_ANYEVENT_MP_TRACE").is_some_and(|value| !value.is_empty())
}
