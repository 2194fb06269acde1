//! The node that the command runs while it talks to other nodes.

use crate::errors::{CliError, NetworkError};
use crate::grammar::Options;
use crate::node_args::{NodeArgs, is_traced};
use crate::output::print_line;
use crate::{show, stderr};
use aemp::value::Str;
use aemp::{CallError, Node, NodeId, PortId, Value};
use std::future::{Future, IntoFuture as _};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// How long joining the network may take.
const JOIN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long reaching a node may take.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(4_500);
/// After waiting for this long, the command says what it is waiting for.
pub(crate) const NOTICE_DELAY: Duration = Duration::from_secs(2);

/// A node that has joined the network.
pub(crate) struct Client {
    pub(crate) node: Node,
    pub(crate) options: Options,
}

impl Client {
    /// Starts a node with the profile `aemp`, as Perl's tool does, and waits until it has joined.
    pub(crate) async fn join(options: Options) -> Result<Self, CliError> {
        let mut settings = NodeArgs::of_the_tool().settings()?;
        // A `metrics` key of all profiles is meant for nodes that keep running, and one of these
        // has the address.
        settings.metrics = None;
        if settings.seeds.is_empty() {
            return Err(NetworkError::NoSeeds.into());
        }
        let mut builder = Node::builder().settings(settings).no_healing();
        if is_traced() {
            builder = builder.trace_with(|line| stderr::write_line(line.to_owned()));
        }
        let node = builder.start().await?;
        let client = Client { node, options };
        let joined = client.while_telling(|| client.seeds(), client.node.joined());
        match timeout(JOIN_TIMEOUT, joined).await {
            Ok(()) => Ok(client),
            Err(_) => {
                let error = NetworkError::NotJoined { seeds: client.seeds() };
                client.leave().await;
                Err(error.into())
            }
        }
    }

    /// The state of the seeds, in words.
    fn seeds(&self) -> String {
        let seeds = self.node.seeds().into_iter().map(|seed| {
            let address = show::text(seed.address.as_ref());
            match (seed.last_error, seed.node) {
                (Some(error), _) => format!("seed {address}: {}", without(&error, &address)),
                (None, Some(node)) => {
                    format!("seed {address}: connected to {node}, which does not answer")
                }
                (None, None) => format!("seed {address}: no answer"),
            }
        });
        seeds.collect::<Vec<_>>().join("; ")
    }

    /// Waits for something, and says what for if it takes long.
    pub(crate) async fn while_telling<T>(
        &self,
        what: impl Fn() -> String,
        work: impl Future<Output = T>,
    ) -> T {
        let mut work = std::pin::pin!(work);
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = sleep(NOTICE_DELAY) => print_line("waiting: ", &what()),
        }
        work.await
    }

    /// Checks that a node can be reached; returns the round-trip time.
    pub(crate) async fn reach(&self, node: &NodeId) -> Result<Duration, CliError> {
        let begun = Instant::now();
        let echo =
            self.node.call::<Vec<Value>>(node, ("snd",)).timeout(CONNECT_TIMEOUT).into_future();
        let shown = show::text(node.as_str());
        let echo = self.while_telling(|| format!("for node {shown} to answer"), echo);
        match echo.await {
            Ok(_) => Ok(begun.elapsed()),
            Err(CallError::Died(reason)) => {
                let reason = show::reason(&reason);
                Err(NetworkError::Unreachable { node: shown, reason }.into())
            }
            Err(CallError::Timeout(limit)) => {
                let reason = format!("no answer within {} s ", limit.as_secs_f32());
                Err(NetworkError::Unreachable { node: shown, reason }.into())
            }
            Err(error) => Err(NetworkError::Other(error.to_string()).into()),
        }
    }

    /// Makes a node evaluate Perl.
    pub(crate) async fn eval(
        &self,
        node: &NodeId,
        expression: &str,
        limit: Duration,
    ) -> Result<Vec<Value>, CliError> {
        self.reach(node).await?;
        let answer = self
            .node
            .call::<Vec<Value>>(node, ("eval", string(expression)))
            .timeout(limit)
            .into_future();
        let shown = show::text(node.as_str());
        let answer = self.while_telling(|| format!("for node {shown} to evaluate it"), answer);
        let mut answer = match answer.await {
            Ok(answer) => answer.into_iter(),
            Err(CallError::Died(reason)) => {
                let reason = show::reason(&reason);
                return Err(NetworkError::Unreachable { node: shown, reason }.into());
            }
            Err(CallError::Timeout(limit)) => {
                let seconds = limit.as_secs();
                return Err(NetworkError::NotEvaluated { node: shown, seconds }.into());
            }
            Err(error) => return Err(NetworkError::Other(error.to_string()).into()),
        };
        let error = answer.next().unwrap_or_default();
        if error.is_true() {
            let words: Vec<String> = std::iter::once(error)
                .chain(answer)
                .map(|value| show::word(&value).trim_end_matches("\\u{a}").to_owned())
                .collect();
            return Err(NetworkError::Evaluation { text: words.join(" ") }.into());
        }
        Ok(answer.collect())
    }

    /// Ends the node.
    pub(crate) async fn leave(self) {
        let _ = timeout(Duration::from_secs(1), self.node.shutdown()).await;
    }
}

/// The error without the address with which errors of connections begin.
fn without<'a>(error: &'a str, address: &str) -> &'a str {
    let error = error.strip_prefix("cannot connect to ").unwrap_or(error);
    error.strip_prefix(address).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(error)
}

/// The node of a port, or the node itself.
pub(crate) fn node_of(text: &str) -> Result<NodeId, CliError> {
    port(text).map(|port| port.node())
}

/// A port, or a node's node port.
pub(crate) fn port(text: &str) -> Result<PortId, CliError> {
    PortId::parse(string(text)).map_err(|error| CliError::InvalidId {
        what: "port or node",
        text: text.into(),
        problem: error.to_string(),
    })
}

/// An argument as a Perl string of its octets.
pub(crate) fn string(text: &str) -> Str {
    match aemp::config::octets::to_octets(text) {
        Ok(octets) => Str::octets(octets),
        Err(_) => Str::text(text),
    }
}
