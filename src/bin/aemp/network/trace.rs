//! `trace`: asks every node that can be reached to which nodes it is connected.

use super::client::Client;
use super::graph::Graph;
use crate::errors::{CliError, NetworkError};
use crate::grammar::Format;
use crate::output::{print_line, print_octets, say};
use crate::show;
use aemp::{KillReason, NodeId};
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How long a node may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(8);
/// The question to each node, in the words of Perl's tool, which nodes without Perl understand too.
const NEIGHBOURS: &str = "AnyEvent::MP::Kernel::up_nodes";

pub(super) async fn trace(client: &Client, seed: NodeId) -> Result<(), CliError> {
    let as_text = client.options.format == Format::Text;
    let mut survey = PendingQuestions::new(client);
    let mut graph = Graph::new(plain(&seed));
    survey.ask(&seed);
    let mut is_complete = true;
    while let Some((node, answer)) = survey.next().await {
        let shown = show::text(node.as_str());
        match answer {
            Ok(neighbours) => {
                let neighbours: Vec<NodeId> = neighbours
                    .into_iter()
                    .filter(|neighbour| neighbour != client.node.id())
                    .collect();
                if as_text {
                    let names: Vec<String> =
                        neighbours.iter().map(|neighbour| show::text(neighbour.as_str())).collect();
                    say(&format!("{shown} -> {}", names.join(" ")))?;
                }
                graph.add(plain(&node), neighbours.iter().map(plain).collect());
                for neighbour in &neighbours {
                    survey.ask(neighbour);
                }
            }
            Err(problem) => {
                is_complete = false;
                if as_text {
                    say(&format!("{shown} (timeout)"))?;
                }
                print_line("", &format!("node {shown}: {}", problem.trim_end()));
                graph.add_silent(plain(&node));
            }
        }
    }
    let drawn = match client.options.format {
        Format::Text => String::new(),
        Format::Tree => graph.tree(),
        Format::Dot => graph.dot(),
        Format::Svg => graph.svg(),
        Format::Json => graph.json(),
    };
    print_octets(drawn.as_bytes())?;
    match is_complete {
        true => Ok(()),
        false => Err(NetworkError::Incomplete.into()),
    }
}

fn plain(node: &NodeId) -> String {
    show::plain(node.as_str()).into_owned()
}

enum Event {
    Neighbours(NodeId, Vec<NodeId>),
    Dead(NodeId, KillReason),
}

/// The pending questions.
struct PendingQuestions<'a> {
    client: &'a Client,
    asked: BTreeSet<NodeId>,
    waiting: HashMap<NodeId, Instant>,
    events: mpsc::UnboundedReceiver<Event>,
    sender: mpsc::UnboundedSender<Event>,
    replies: aemp::CallbackPort,
    guards: Vec<aemp::MonitorGuard>,
    told: bool,
}

impl<'a> PendingQuestions<'a> {
    fn new(client: &'a Client) -> Self {
        let (sender, events) = mpsc::unbounded_channel();
        let on_reply = sender.clone();
        let replies = client.node.port_with(move |_, message| {
            let values = message.values().unwrap_or_default();
            let mut ids =
                values.iter().filter_map(|value| NodeId::new(value.to_str()?.into_owned()).ok());
            // The node, the error text (an empty text is not a node ID), its neighbours.
            let Some(node) = ids.next() else { return };
            let neighbours = match values.get(1) {
                Some(error) if error.is_true() => Vec::new(),
                _ => ids.collect(),
            };
            let _ = on_reply.send(Event::Neighbours(node, neighbours));
        });
        PendingQuestions {
            client,
            asked: BTreeSet::new(),
            waiting: HashMap::new(),
            events,
            sender,
            replies,
            guards: Vec::new(),
            told: false,
        }
    }

    /// Asks a node, unless it was asked before.
    fn ask(&mut self, node: &NodeId) {
        if !self.asked.insert(node.clone()) {
            return;
        }
        self.waiting.insert(node.clone(), Instant::now() + ANSWER_TIMEOUT);
        let reply = self.replies.id();
        let question = ("eval", NEIGHBOURS, reply.as_str().to_owned(), node.as_str().to_owned());
        let sender = self.sender.clone();
        let dead = node.clone();
        self.guards.push(self.client.node.on_death(node.node_port(), move |reason| {
            let _ = sender.send(Event::Dead(dead, reason));
        }));
        // If the node cannot be reached, its monitor fires.
        let _ = self.client.node.snd(node, question);
    }

    /// The next answer; `None` if none is pending.
    async fn next(&mut self) -> Option<(NodeId, Result<Vec<NodeId>, String>)> {
        loop {
            let (silent, until) = self
                .waiting
                .iter()
                .min_by_key(|(_, until)| **until)
                .map(|(n, u)| (n.clone(), *u))?;
            let hint = (until - ANSWER_TIMEOUT) + Duration::from_secs(2);
            tokio::select! {
                Some(event) = self.events.recv() => match event {
                    Event::Neighbours(node, neighbours) => {
                        if self.waiting.remove(&node).is_some() {
                            return Some((node, Ok(neighbours)));
                        }
                    }
                    Event::Dead(node, reason) => {
                        if self.waiting.remove(&node).is_some() {
                            return Some((node, Err(show::reason(&reason))));
                        }
                    }
                },
                () = tokio::time::sleep_until(hint), if !self.told => {
                    self.told = true;
                    let node = show::text(silent.as_str());
                    print_line("waiting: ", &format!("for node {node} to answer"));
                }
                () = tokio::time::sleep_until(until) => {
                    self.waiting.remove(&silent);
                    let problem = format!(
                        "no answer within {} s; nodes in secure mode do not answer",
                        ANSWER_TIMEOUT.as_secs()
                    );
                    return Some((silent, Err(problem)));
                }
            }
        }
    }
}
