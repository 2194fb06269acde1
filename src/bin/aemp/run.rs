//! `aemp run`: from arguments and the file to a running node.

use crate::errors::{CliError, print_line};
use crate::grammar::Options;
use crate::watchdog::{self, Restarter};
use crate::{logging, systemd};
use aemp::config::node_id::node_name;
use aemp::config::profile::Effective;
use aemp::config::rc::{self, RcFile};
use aemp::config::{Args, Settings};
use aemp::value::Value;
use aemp::{Node, NodeId};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

/// How long a restart waits, so that whoever asked for it gets its answer.
const ANSWERING: Duration = Duration::from_millis(100);

/// Which node to run.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    args: Args,
}

impl Request {
    pub(crate) fn prepare(arguments: &[serde_json::Value]) -> Result<Self, CliError> {
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

/// Runs the node until it ends, in a child of this process if nobody else would restart it.
pub(crate) fn execute(request: &Request, options: Options) -> Result<ExitCode, CliError> {
    match Restarter::find(options) {
        None => watchdog::watch(),
        Some(restarter) => {
            if restarter == Restarter::Watchdog {
                watchdog::end_with_the_watchdog();
            }
            let settings = request.settings()?;
            start(&settings, request, options, restarter)
        }
    }
}

/// Whether every message is to be printed.
pub(crate) fn is_traced() -> bool {
    std::env::var_os("PERL_ANYEVENT_MP_TRACE").is_some_and(|value| !value.is_empty())
}

fn start(
    settings: &Settings,
    request: &Request,
    options: Options,
    restarter: Restarter,
) -> Result<ExitCode, CliError> {
    let level = logging::start(options.verbosity);
    let runtime = tokio::runtime::Runtime::new().map_err(CliError::Runtime)?;
    runtime.block_on(async {
        let mut builder = Node::builder().settings(settings.clone());
        if is_traced() {
            builder = builder.trace();
        }
        let node = builder.start().await?;
        let restart = Arc::new(Notify::new());
        let wish = restart.clone();
        node.answer_eval(move |expression, from| {
            answer_restart(expression, from, restarter, &wish)
        });
        systemd::notify(systemd::READY);
        let code = serve(&node, request, &level, &restart).await?;
        systemd::notify(systemd::STOPPING);
        node.shutdown().await;
        Ok(code)
    })
}

/// Answers what Perl's `aemp restart` evaluates, and ours.
fn answer_restart(
    expression: &str,
    from: &NodeId,
    restarter: Restarter,
    restart: &Notify,
) -> Result<Vec<Value>, String> {
    if !expression.contains("AnyEvent::Watchdog::Util::restart") {
        return Err("this node has no Perl interpreter and does not know the expression".into());
    }
    if restarter == Restarter::Nobody {
        return Err("this node runs without a watchdog that could start it again".into());
    }
    tracing::info!("restart: node {from} asks for it");
    restart.notify_one();
    Ok(Vec::new())
}

/// Serves until somebody asks the process to end, or to restart.
async fn serve(
    node: &Node,
    request: &Request,
    level: &logging::Level,
    restart: &Notify,
) -> Result<ExitCode, CliError> {
    let listen = |kind| signal(kind).map_err(CliError::Runtime);
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut hang_up = listen(SignalKind::hangup())?;
    let heartbeat = systemd::heartbeat();
    let mut beats = tokio::time::interval(heartbeat.unwrap_or(Duration::MAX));
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
            _ = beats.tick(), if heartbeat.is_some() => {
                // It takes the node's lock: who holds it for ever is not alive.
                node.is_global();
                systemd::notify(systemd::ALIVE);
            }
            () = restart.notified() => {
                tokio::time::sleep(ANSWERING).await;
                return Ok(watchdog::RESTART.into());
            }
            () = node.ended() => break,
        }
    }
    Ok(ExitCode::SUCCESS)
}
