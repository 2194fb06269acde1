//! Which node a subcommand runs or examines: its arguments, and with the rc file its settings.

use crate::errors::CliError;
use crate::output::print_line;
use aemp::config::node_id::node_name;
use aemp::config::profile::Effective;
use aemp::config::rc::{self, RcFile};
use aemp::config::{Args, Settings, Warning};

/// Which node to run.
#[derive(Debug, Clone)]
pub(crate) struct NodeArgs {
    args: Args,
    /// Whether it is the node of a subcommand that only talks to others.
    is_tool: bool,
}

impl NodeArgs {
    pub(crate) fn prepare(arguments: &[serde_json::Value]) -> Result<Self, CliError> {
        let args = Args::from_run_arguments(arguments)?;
        Ok(Self { args, is_tool: false })
    }

    /// The node that a subcommand is while it talks to others, configured as Perl's tool does.
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

    /// Reads the file and puts everything together; also for reading it again later. What is odd
    /// is said on standard error.
    pub(crate) fn settings(&self) -> Result<Settings, CliError> {
        let rc = match rc::default_path() {
            Some(path) if !self.args.norc => Some(RcFile::load(path)?),
            _ => None,
        };
        let effective = Effective::resolve(&self.args, rc.as_ref(), &node_name())?;
        let (settings, warnings) = effective.settings()?;
        for warning in &warnings {
            // What all profiles are to evaluate is nothing that the tool has to say each time.
            if !(self.is_tool && matches!(warning, Warning::PerlCode { .. })) {
                print_line("warning: ", warning);
            }
        }
        settings.check_credentials()?;
        Ok(settings)
    }
}

/// Whether every message is to be printed.
pub(crate) fn is_traced() -> bool {
    std::env::var_os("PERL_ANYEVENT_MP_TRACE").is_some_and(|value| !value.is_empty())
}
