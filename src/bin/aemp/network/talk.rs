//! `snd`, `cal`, `mon`, `eval`, `restart` and `ping`: one question, one answer.

use super::client::Client;
use crate::errors::{CliError, NetworkError};
use crate::output::{print_line, say};
use crate::show;
use aemp::{CallError, KillReason, NodeId, PortId, Value};
use std::time::Duration;

/// How long a node may evaluate.
const EVALUATING: Duration = Duration::from_secs(5);
/// How many echoes `ping` asks for.
const PINGS: u32 = 3;

/// What a Perl node with a watchdog evaluates to restart itself, once it has answered.
const RESTART: &str = "require AnyEvent::Watchdog::Util; my $soon; $soon = AnyEvent->timer (after \
                       => 0.1, cb => sub { undef $soon; AnyEvent::Watchdog::Util::restart () }); \
                       ()";

fn other(error: impl ToString) -> CliError {
    NetworkError::Other(error.to_string()).into()
}

/// Perl's tool says on standard output why somebody cannot be reached.
fn say_reason(reason: &str, client: &Client) -> Result<(), CliError> {
    match client.options.json {
        true => Ok(()),
        false => say(reason),
    }
}

fn say_json(value: &serde_json::Value) -> Result<(), CliError> {
    say(&show::json(&Value::of(value).unwrap_or_default(), show::Style::Compact))
}

async fn reach(client: &Client, node: &NodeId) -> Result<Duration, CliError> {
    let reached = client.reach(node).await;
    if let Err(CliError::Network(NetworkError::Unreachable { reason, .. })) = &reached {
        say_reason(reason, client)?;
    }
    reached
}

pub(super) async fn snd(
    client: &Client,
    port: &PortId,
    message: Vec<serde_json::Value>,
) -> Result<(), CliError> {
    let node = port.node();
    reach(client, &node).await?;
    let died = client.node.monitor(port);
    client.node.snd(port, message).map_err(other)?;
    let echo = client.node.call::<Vec<Value>>(node, ("snd",)).timeout(EVALUATING);
    tokio::select! {
        biased;
        reason = died => {
            let shown = show::reason(&reason);
            if was_never_there(&reason) {
                say_reason(&shown, client)?;
                let port = show::text(port.as_str());
                return Err(NetworkError::PortGone { port, reason: shown }.into());
            }
            // It was there when the monitor was set, so it has got the message.
            print_line("the port has ended since: ", &shown.trim_end());
            sent(client)
        }
        // Its node has got the message before it answers.
        echo = echo.into_future() => match echo {
            Ok(_) => sent(client),
            Err(error) => Err(other(error)),
        }
    }
}

fn sent(client: &Client) -> Result<(), CliError> {
    match client.options.json {
        true => say_json(&serde_json::json!({ "sent": true })),
        false => say("message sent successfully "),
    }
}

/// Whether a port was not there, or could not be reached, when the monitor of it was set.
fn was_never_there(reason: &KillReason) -> bool {
    matches!(first_word(reason).as_str(), "no_such_port" | "transport_error")
}

fn first_word(reason: &KillReason) -> String {
    let elements = reason.decode::<Vec<Value>>().unwrap_or_default();
    elements.first().map(show::word).unwrap_or_default()
}

pub(super) async fn cal(
    client: &Client,
    port: &PortId,
    message: Vec<serde_json::Value>,
) -> Result<(), CliError> {
    let shown = show::text(port.as_str());
    if let Err(error) = client.reach(&port.node()).await {
        say_reason("", client)?;
        return Err(error);
    }
    let answer = client.node.call::<Vec<Value>>(port, message).into_future();
    match client.while_telling(|| format!("for port {shown} to answer"), answer).await {
        Ok(answer) if client.options.json => {
            say(&show::json(&Value::Array(answer), show::Style::Compact))
        }
        Ok(answer) => say(&show::list(&answer)),
        Err(CallError::Died(reason)) => {
            say_reason("", client)?;
            let (port, text) = (shown, show::reason(&reason));
            Err(match was_never_there(&reason) {
                true => NetworkError::PortGone { port, reason: text },
                false => NetworkError::PortEnded { port, reason: text },
            }
            .into())
        }
        Err(error) => Err(other(error)),
    }
}

pub(super) async fn mon(client: &Client, port: &PortId) -> Result<(), CliError> {
    reach(client, &port.node()).await?;
    let shown = show::text(port.as_str());
    let died = client.node.monitor(port);
    let reason: KillReason = client.while_telling(|| format!("for the end of {shown}"), died).await;
    match client.options.json {
        true => {
            let elements = reason.decode::<Vec<Value>>().unwrap_or_default();
            say(&show::json(&Value::Array(elements), show::Style::Compact))
        }
        false => say(&show::reason(&reason)),
    }
}

pub(super) async fn eval(client: &Client, node: &NodeId, expression: &str) -> Result<(), CliError> {
    let results = client.eval(node, expression, EVALUATING).await?;
    match client.options.json {
        true => say(&show::json(&Value::Array(results), show::Style::Compact)),
        false => say(&show::list(&results)),
    }
}

pub(super) async fn restart(client: &Client, node: &NodeId) -> Result<(), CliError> {
    eval(client, node, RESTART).await
}

pub(super) async fn ping(client: &Client, node: &NodeId) -> Result<(), CliError> {
    // The first one may have to find and connect the node.
    client.reach(node).await?;
    let shown = show::text(node.as_str());
    let mut times = Vec::new();
    for _ in 0..PINGS {
        let time = client.reach(node).await?.as_secs_f64();
        times.push(time);
        if !client.options.json {
            say(&format!("{shown}: {:.3} ms", time * 1e3))?;
        }
    }
    if client.options.json {
        say_json(&serde_json::json!({ "node": show::plain(node.as_str()), "seconds": times }))?;
    }
    Ok(())
}
