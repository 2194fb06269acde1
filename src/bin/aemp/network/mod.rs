//! Subcommands that talk to a network: they join it as a node of their own, as Perl's tool does.

mod client;
mod db;
mod graph;
mod logs;
mod shell;
mod talk;
mod top;
mod trace;

use crate::errors::CliError;
use crate::grammar::{Invocation, Network, Options};
use crate::logging;
use aemp::config::coerce;
use aemp::services::logs::LogLevel;
use aemp::{NodeId, PortId};
use client::Client;
use serde_json::Value;

/// One of these subcommands, with valid arguments.
pub(crate) enum Step {
    Snd(PortId, Vec<Value>),
    Cal(PortId, Vec<Value>),
    Mon(PortId),
    Eval(NodeId, String),
    Restart(NodeId),
    Ping(NodeId),
    Trace(NodeId),
    Shell(Option<NodeId>),
    Db(db::Operation),
    Logs(LogLevel),
    Top,
}

impl Step {
    pub(crate) fn prepare(network: Network, invocation: &Invocation<'_>) -> Result<Self, CliError> {
        let text = || invocation.text();
        let behind = || invocation.arguments.get(1..).unwrap_or_default().to_vec();
        Ok(match network {
            Network::Snd => Self::Snd(client::port(&text()?)?, behind()),
            Network::Cal => Self::Cal(client::port(&text()?)?, behind()),
            Network::Mon => Self::Mon(client::port(&text()?)?),
            Network::Eval => {
                let words = behind();
                let words = words
                    .iter()
                    .map(|word| coerce::to_text(word).unwrap_or_else(|| word.to_string()));
                Self::Eval(client::node_of(&text()?)?, words.collect::<Vec<_>>().join(" "))
            }
            Network::Restart => Self::Restart(client::node_of(&text()?)?),
            Network::Ping => Self::Ping(client::node_of(&text()?)?),
            Network::Trace => Self::Trace(client::node_of(&text()?)?),
            Network::Shell => match invocation.arguments.is_empty() {
                true => Self::Shell(None),
                false => Self::Shell(Some(client::node_of(&text()?)?)),
            },
            Network::Db => Self::Db(db::Operation::prepare(invocation)?),
            Network::Logs => match invocation.arguments.is_empty() {
                true => Self::Logs(LogLevel::Info),
                false => Self::Logs(logs::level(&text()?)?),
            },
            Network::Top => Self::Top,
        })
    }
}

/// Joins the network and carries out all steps.
pub(crate) fn execute(steps: Vec<Step>, options: Options) -> Result<(), CliError> {
    if steps.is_empty() {
        return Ok(());
    }
    logging::start_quietly(options.verbosity);
    let runtime = tokio::runtime::Runtime::new().map_err(CliError::Runtime)?;
    let outcome = runtime.block_on(async {
        let client = Client::join(options).await?;
        let mut outcome = Ok(());
        for step in steps {
            outcome = act(&client, step).await;
            if outcome.is_err() {
                break;
            }
        }
        client.leave().await;
        outcome
    });
    // Do not wait for the thread that still reads input.
    runtime.shutdown_background();
    outcome
}

async fn act(client: &Client, step: Step) -> Result<(), CliError> {
    match step {
        Step::Snd(port, message) => talk::snd(client, &port, message).await,
        Step::Cal(port, message) => talk::cal(client, &port, message).await,
        Step::Mon(port) => talk::mon(client, &port).await,
        Step::Eval(node, expression) => talk::eval(client, &node, &expression).await,
        Step::Restart(node) => talk::restart(client, &node).await,
        Step::Ping(node) => talk::ping(client, &node).await,
        Step::Trace(node) => trace::trace(client, node).await,
        Step::Shell(node) => shell::shell(client, node).await,
        Step::Logs(level) => logs::logs(client, level).await,
        Step::Top => top::top(client).await,
        Step::Db(operation) => db::operate(client, operation).await,
    }
}
