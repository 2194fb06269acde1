//! `aemp run`: from arguments and the file to a running node.

use crate::errors::{CliError, print_line};
use crate::grammar::Options;
use aemp::config::node_id::node_name;
use aemp::config::profile::Effective;
use aemp::config::rc::{self, RcFile};
use aemp::config::{Args, Settings};
use serde_json::Value;

/// Which node to run.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    args: Args,
}

impl Request {
    pub(crate) fn prepare(arguments: &[Value]) -> Result<Self, CliError> {
        let args = Args::from_run_arguments(arguments)?;
        Ok(Self { args })
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
            print_line("warning: ", warning);
        }
        settings.check_credentials()?;
        Ok(settings)
    }
}

/// Runs the node until it ends.
pub(crate) fn execute(request: &Request, options: Options) -> Result<(), CliError> {
    let settings = request.settings()?;
    start(&settings, request, options)
}

fn start(_settings: &Settings, _request: &Request, _options: Options) -> Result<(), CliError> {
    Err(CliError::CannotStartNodes)
}
