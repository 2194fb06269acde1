//! `snd`, `cal`, `mon`, `eval`, `restart` and `ping`: one question, one answer.

use super::client::{Client, string};
use crate::errors::{CliError, NetworkError};
use crate::output::{print_line, say};
use crate::show;
use aemp::config::coerce;
use aemp::kernel::{REQUESTS, RequestInfo, is_function};
use aemp::value::Str;
use aemp::{CallError, KillReason, NodeId, PortId, Value};
use std::time::Duration;

/// How long a node may take to evaluate an expression.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a node may take to answer whether it has a function.
const ASKING: Duration = Duration::from_secs(2);
/// How many echoes `ping` asks for.
const PINGS: u32 = 3;

/// The expression with which a Perl node that has a watchdog restarts itself after it has answered.
const RESTART: &str = "require AnyEvent::Watchdog::Util; my $soon; $soon = AnyEvent->timer (after \
                       => 0.1, cb => sub { undef $soon; AnyEvent::Watchdog::Util::restart () }); \
                       ()";

fn other(error: impl ToString) -> CliError {
    NetworkError::Other(error.to_string()).into()
}

/// Prints on standard output, as Perl's tool does, why a port or node cannot be reached.
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
    let called = called_function(port, &message);
    client.node.snd(port, message).map_err(other)?;
    let echo = client.node.call::<Vec<Value>>(&node, ("snd",)).timeout(ANSWER_TIMEOUT);
    tokio::select! {
        biased;
        reason = died => {
            let shown = show::reason(&reason);
            if was_never_there(&reason) {
                say_reason(&shown, client)?;
                let port = show::text(port.as_str());
                return Err(NetworkError::PortGone { port, reason: shown }.into());
            }
            // The port existed when the monitor was set, so it has received the message.
            print_line("the port has ended since: ", &shown.trim_end());
            sent(client)
        }
        // Its node has received the message before it answers.
        echo = echo.into_future() => {
            echo.map_err(other)?;
            if let Some(name) = called {
                look_for_function(client, &node, &name).await?;
            }
            sent(client)
        }
    }
}

/// The request or function that a message to a node port names.
fn called_function(port: &PortId, message: &[serde_json::Value]) -> Option<String> {
    message.first().filter(|_| port.is_node_port()).and_then(coerce::to_text)
}

fn shown_call(node: &NodeId, name: &str) -> (String, String) {
    (show::text(node.as_str()), show::text(Str::text(name).as_ref()))
}

fn does_not_say(node: &NodeId, name: &str) -> String {
    let (node, function) = shown_call(node, name);
    format!(
        "node {node} does not say whether it has a function {function}; if not, the message did \
         nothing (nodes in secure mode run no functions)"
    )
}

fn no_function(node: &NodeId, name: &str) -> CliError {
    let (node, function) = shown_call(node, name);
    NetworkError::NoFunction { node, function }.into()
}

/// Fails if a node answers that it has no function of this name, so that the message had no effect.
async fn look_for_function(client: &Client, node: &NodeId, name: &str) -> Result<(), CliError> {
    match has_function(client, node, name).await {
        Some(true) => Ok(()),
        Some(false) => Err(no_function(node, name)),
        None => {
            print_line("", &does_not_say(node, name));
            Ok(())
        }
    }
}

/// Whether a node that has just received a message with this name can handle it; `None` if it does
/// not answer.
async fn has_function(client: &Client, node: &NodeId, name: &str) -> Option<bool> {
    let ask = |question: (&'static str, Str)| async move {
        let answer = client.node.call::<Vec<Value>>(node, question).timeout(ASKING).await;
        let mut answer = answer.ok()?.into_iter();
        Some((answer.next().unwrap_or_default(), answer.next().unwrap_or_default()))
    };
    // A Perl node claims every function that it has once tried to call.
    let is_request = |request: &RequestInfo| request.name == name && !name.contains("::");
    if REQUESTS.iter().any(is_request) {
        return Some(ask(("can", string(name))).await?.0.is_true());
    }
    // By now the node has loaded the function, if it can.
    let (error, is_there) = ask(("eval", string(&is_function(name)))).await?;
    (!error.is_true()).then(|| is_there.is_true())
}

fn sent(client: &Client) -> Result<(), CliError> {
    match client.options.json {
        true => say_json(&serde_json::json!({ "sent": true })),
        false => say("message sent successfully "),
    }
}

/// Whether a port did not exist, or could not be reached, when the monitor was set.
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
    let called = called_function(port, &message);
    let answer = client.node.call::<Vec<Value>>(port, message).into_future();
    let kind = if called.is_some() { "node" } else { "port" };
    let answer = client.while_telling(|| format!("for {kind} {shown} to answer"), answer);
    // A node does not answer a request that it does not know.
    let is_missing = async {
        match called {
            Some(name) => match has_function(client, &port.node(), &name).await {
                Some(true) => std::future::pending().await,
                Some(false) => name,
                None => {
                    print_line("", &does_not_say(&port.node(), &name));
                    std::future::pending().await
                }
            },
            None => std::future::pending().await,
        }
    };
    let answer = tokio::select! {
        biased;
        answer = answer => answer,
        name = is_missing => return Err(no_function(&port.node(), &name)),
    };
    match answer {
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
    let results = client.eval(node, expression, ANSWER_TIMEOUT).await?;
    match client.options.json {
        true => say(&show::json(&Value::Array(results), show::Style::Compact)),
        false => say(&show::list(&results)),
    }
}

pub(super) async fn restart(client: &Client, node: &NodeId) -> Result<(), CliError> {
    eval(client, node, RESTART).await
}

pub(super) async fn ping(client: &Client, node: &NodeId) -> Result<(), CliError> {
    // The first echo may have to find and connect the node.
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
