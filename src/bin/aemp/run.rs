//! `aemp run`: from arguments and the file to a running node.

use crate::errors::CliError;
use crate::grammar::Options;
use crate::node_args::{NodeArgs, is_traced};
use crate::output::print_line;
use crate::signals::{Children, SignalRequest, Signals};
use crate::watchdog::{self, Restarter};
use crate::{logging, stderr, systemd};
use aemp::config::Settings;
use aemp::node::Unhealthy;
use aemp::value::Value;
use aemp::{Node, NodeId};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// A restart waits this long, so that the answer reaches the node that asked for it.
const RESTART_DELAY: Duration = Duration::from_millis(100);

/// How long shutting down may take in addition to sending what is queued.
const KILL_MARGIN: Duration = Duration::from_secs(5);

/// The minimum time that a node is given to start, whatever its heartbeat is.
const MIN_START_TIMEOUT: Duration = Duration::from_secs(60);

/// Runs the node until it ends; in a child of this process, unless something else would restart it.
pub(crate) fn execute(args: &NodeArgs, options: Options) -> Result<ExitCode, CliError> {
    match Restarter::find(options) {
        None => watchdog::watch(),
        Some(restarter) => {
            if restarter == Restarter::Watchdog {
                watchdog::end_with_the_watchdog();
            }
            let settings = args.settings()?;
            start(&settings, args, options, restarter)
        }
    }
}

fn start(
    settings: &Settings,
    args: &NodeArgs,
    options: Options,
    restarter: Restarter,
) -> Result<ExitCode, CliError> {
    let level = logging::start(options.verbosity, settings.log_level);
    let runtime = tokio::runtime::Runtime::new().map_err(CliError::Runtime)?;
    let outcome = runtime.block_on(async {
        // From here on, signals do not end the process at once.
        let mut signals = Signals::new()?;
        let signs = Heartbeat::of(restarter, settings);
        // Starting may require names to be resolved.
        signs.promise(signs.limit.map(|limit| limit.max(MIN_START_TIMEOUT)));
        let mut builder = Node::builder().settings(settings.clone());
        if is_traced() {
            builder = builder.trace_with(|line| stderr::write_line(line.to_owned()));
        }
        let node = tokio::select! {
            node = builder.start() => node?,
            () = signals.end() => return Ok(ExitCode::SUCCESS),
        };
        if restarter == Restarter::Watchdog {
            watchdog::started();
        }
        let restart = Arc::new(Notify::new());
        let wish = restart.clone();
        node.answer_eval(move |expression, from| {
            answer_restart(expression, from, restarter, &wish)
        });
        tell_when_ready(&node);
        signs.promise(signs.limit);
        if std::process::id() == 1 {
            tokio::spawn(take_note_of_children(Children::new()?));
        }
        let code = serve(&node, args, &level, &restart, signs, signals).await?;
        systemd::notify(&systemd::stopping(settings.shutdown + KILL_MARGIN));
        node.shutdown().await;
        Ok(code)
    });
    // Do not wait for names that are still being resolved.
    runtime.shutdown_background();
    outcome
}

/// Tells the service manager that the node is ready once it listens (if it should).
fn tell_when_ready(node: &Node) {
    let ready = || systemd::notify(&format!("{}\n{}running", systemd::READY, systemd::STATUS));
    let Err(problem @ Unhealthy::ListensNowhere(_)) = node.health() else {
        return ready();
    };
    systemd::notify(&format!("{}{problem}", systemd::STATUS));
    let node = node.clone();
    tokio::spawn(async move {
        node.listening().await;
        ready();
    });
}

/// Reaps the processes that the first process of a container inherits.
async fn take_note_of_children(mut children: Children) {
    loop {
        children.next().await;
    }
}

/// Answers the expression with which Perl's `aemp restart`, or ours, asks for a restart.
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
        return Err("this node has no watchdog that could restart it".into());
    }
    tracing::info!("restart: requested by node {from}");
    restart.notify_one();
    Ok(Vec::new())
}

/// The receivers of signs of life, and the intervals.
struct Heartbeat {
    restarter: Restarter,
    /// How long the watchdog waits for one.
    limit: Option<Duration>,
    /// How long it waits for a node that is shutting down.
    ending: Duration,
}

impl Heartbeat {
    fn of(restarter: Restarter, settings: &Settings) -> Self {
        Self { restarter, limit: settings.heartbeat, ending: settings.shutdown + KILL_MARGIN }
    }

    /// The interval at which they are sent.
    fn interval(&self) -> Option<Duration> {
        match self.restarter {
            Restarter::Watchdog => self.limit.map(|limit| limit / 4),
            Restarter::ServiceManager => systemd::heartbeat(),
            Restarter::Nobody => None,
        }
    }

    /// Tells the watchdog when to expect the next one.
    fn promise(&self, limit: Option<Duration>) {
        if self.restarter == Restarter::Watchdog {
            watchdog::promise(limit);
        }
    }

    fn timer(&self) -> tokio::time::Interval {
        let mut timer = tokio::time::interval(self.interval().unwrap_or(Duration::MAX));
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        timer
    }

    /// Sends one, from a worker of the runtime: if all workers hang, none is sent.
    fn give(&self, node: &Node) {
        let (node, restarter, limit) = (node.clone(), self.restarter, self.limit);
        tokio::spawn(async move {
            // This takes the node's lock: if a thread holds that for ever, the node counts as hung.
            node.is_global();
            match restarter {
                Restarter::Watchdog => watchdog::promise(limit),
                Restarter::ServiceManager => systemd::notify(systemd::ALIVE),
                Restarter::Nobody => {}
            }
        });
    }
}

/// Serves until the process is asked to end or to restart.
async fn serve(
    node: &Node,
    args: &NodeArgs,
    level: &logging::Level,
    restart: &Notify,
    mut signs: Heartbeat,
    mut signals: Signals,
) -> Result<ExitCode, CliError> {
    let mut beats = signs.timer();
    let code = loop {
        tokio::select! {
            wish = signals.next() => {
                if wish != SignalRequest::ReadAgain {
                    break ExitCode::SUCCESS;
                }
                match reread(node, args, level) {
                    Ok(settings) => {
                        signs.limit = settings.heartbeat;
                        signs.promise(signs.limit);
                        beats = signs.timer();
                        tracing::info!("SIGHUP: rereading seeds, log level and heartbeat");
                    }
                    Err(error) => print_line("the node keeps its present configuration: ", &error),
                }
            }
            _ = beats.tick(), if signs.interval().is_some() => signs.give(node),
            () = restart.notified() => {
                tokio::time::sleep(RESTART_DELAY).await;
                break watchdog::RESTART.into();
            }
            () = node.ended() => break ExitCode::SUCCESS,
        }
    };
    // Shutting down has a time limit of its own.
    signs.promise(Some(signs.ending));
    Ok(code)
}

/// Rereads the configuration, and applies what can change while the node runs.
fn reread(node: &Node, args: &NodeArgs, level: &logging::Level) -> Result<Settings, CliError> {
    let settings = args.settings()?;
    let seeds = node.configured_seeds(&settings)?;
    level.set(settings.log_level);
    node.set_seeds(&seeds);
    Ok(settings)
}
