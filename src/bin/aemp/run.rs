//! `aemp run`: from arguments and the file to a running node.

use crate::errors::{CliError, print_line};
use crate::grammar::Options;
use crate::logging;
use aemp::Node;
use aemp::config::node_id::node_name;
use aemp::config::profile::Effective;
use aemp::config::rc::{self, RcFile};
use aemp::config::{Args, Settings};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

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

    /// The node that a subcommand is while it talks to others, configured as Perl's tool does.
    pub(crate) fn of_the_tool() -> Self {
        let mut args = Args::new();
        args.set("profile", "aemp").set("nodeid", "aemp/%n/%u");
        Self { args }
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

/// Whether every message is to be printed.
pub(crate) fn is_traced() -> bool {
    std::env::var_os("PERL_ANYEVENT_MP_TRACE").is_some_and(|value| !value.is_empty())
}

fn start(settings: &Settings, request: &Request, options: Options) -> Result<(), CliError> {
    let level = logging::start(options.verbosity);
    let runtime = tokio::runtime::Runtime::new().map_err(CliError::Runtime)?;
    runtime.block_on(async {
        let mut builder = Node::builder().settings(settings.clone());
        if is_traced() {
            builder = builder.trace();
        }
        let node = builder.start().await?;
        serve(&node, request, &level).await?;
        node.shutdown().await;
        Ok(())
    })
}

/// Serves until somebody asks the process to end.
async fn serve(node: &Node, request: &Request, level: &logging::Level) -> Result<(), CliError> {
    let listen = |kind| signal(kind).map_err(CliError::Runtime);
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut hang_up = listen(SignalKind::hangup())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hang_up.recv() => {
                level.read_again();
                match request.settings() {
                    Ok(settings) => match node.configured_seeds(&settings) {
                        Ok(seeds) => node.set_seeds(&seeds),
                        Err(error) => print_line("seeds stay as they are: ", &error),
                    },
                    Err(error) => print_line("seeds stay as they are: ", &error),
                }
            }
            () = node.ended() => break,
        }
    }
    Ok(())
}
