//! `top`: shows the network on a screen, updated every second.

mod model;
mod view;

use super::client::{self, Client};
use crate::errors::{CliError, NetworkError};
use crate::output::say;
use crate::signals::interrupted;
use crate::{show, stderr};
use aemp::value::Str;
use aemp::{CallError, Node, NodeEvent, NodeId, Value};
use model::{Answer, Kind, Model, Report};
use ratatui::crossterm::event::{self, Event as Input, KeyCode, KeyEventKind, KeyModifiers};
use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal as _;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;

const INTERVAL: Duration = Duration::from_secs(1);
/// How long a node may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// An expression that only a Perl node evaluates.
const PERL_VERSION: &str = "$AnyEvent::MP::VERSION";
/// The expression for a Perl node's master and neighbours.
const PERL_STATUS: &str = "($AnyEvent::MP::Kernel::MASTER, AnyEvent::MP::Kernel::up_nodes)";

/// An event while the screen is shown.
enum ScreenEvent {
    Report(NodeId, Report),
    Key(KeyCode),
    Resized,
    Connection(NodeEvent),
    Locations(BTreeSet<Str>),
    Globals(BTreeSet<Str>),
}

pub(super) async fn top(client: &Client) -> Result<(), CliError> {
    if !client.options.json && !std::io::stdout().is_terminal() {
        let text = "top needs a terminal; with --json it prints the network once";
        return Err(NetworkError::Other(text.into()).into());
    }
    let (sender, happenings) = mpsc::unbounded_channel();
    watch_family(&client.node, "'l", sender.clone(), ScreenEvent::Locations);
    watch_family(&client.node, "'g", sender.clone(), ScreenEvent::Globals);
    watch_connections(&client.node, sender.clone());
    let mut top = Top {
        node: client.node.clone(),
        model: Model::new(show::text(client.node.id().as_str())),
        asked: BTreeMap::new(),
        globals: BTreeSet::new(),
        sender,
        happenings,
    };
    match client.options.json {
        true => top.print().await,
        false => top.show().await,
    }
}

struct Top {
    node: Node,
    model: Model,
    /// All other nodes, with their kind and whether an answer is pending.
    asked: BTreeMap<NodeId, (Kind, bool)>,
    globals: BTreeSet<String>,
    sender: mpsc::UnboundedSender<ScreenEvent>,
    happenings: mpsc::UnboundedReceiver<ScreenEvent>,
}

impl Top {
    /// Asks twice, so that rates can be computed, then prints JSON.
    async fn print(&mut self) -> Result<(), CliError> {
        for _ in 0..2 {
            let end = tokio::time::Instant::now() + INTERVAL;
            while let Ok(Some(happening)) =
                tokio::time::timeout_at(end, self.happenings.recv()).await
            {
                self.take(happening);
            }
            self.ask();
            let end = tokio::time::Instant::now() + ANSWER_TIMEOUT;
            while self.asked.values().any(|(_, awaited)| *awaited) {
                match tokio::time::timeout_at(end, self.happenings.recv()).await {
                    Ok(Some(happening)) => self.take(happening),
                    Ok(None) | Err(_) => break,
                };
            }
        }
        say(&self.model.to_json().to_string())
    }

    /// Shows the screen until the user quits.
    async fn show(&mut self) -> Result<(), CliError> {
        let mut over = std::pin::pin!(interrupted());
        let mut terminal = ratatui::try_init().map_err(CliError::Output)?;
        // Replaces ratatui's panic hook, which writes to standard error directly.
        stderr::report_panics(|| drop(ratatui::try_restore()));
        read_keys(self.sender.clone());
        let mut rounds = tokio::time::interval(INTERVAL);
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let outcome = loop {
            let drawn = terminal.draw(|frame| view::draw(frame, &self.model, &time_of_day()));
            if let Err(error) = drawn {
                break Err(CliError::Output(error));
            }
            tokio::select! {
                _ = rounds.tick() => self.ask(),
                ended = &mut over => break ended,
                Some(happening) = self.happenings.recv() => {
                    if self.take(happening) {
                        break Ok(());
                    }
                }
            }
        };
        // If the terminal is gone, dropping it would print an error that nobody can read.
        if terminal.show_cursor().is_err() {
            std::mem::forget(terminal);
        }
        let restored = ratatui::try_restore().map_err(CliError::Output);
        outcome.and(restored)
    }

    /// Asks every node without a pending question.
    fn ask(&mut self) {
        for (id, (kind, awaited)) in &mut self.asked {
            if !std::mem::replace(awaited, true) {
                let question = ask(self.node.clone(), id.clone(), kind.clone());
                let (sender, id) = (self.sender.clone(), id.clone());
                tokio::spawn(async move {
                    let _ = sender.send(ScreenEvent::Report(id, question.await));
                });
            }
        }
    }

    /// Handles an event. Returns true if the user quits.
    fn take(&mut self, happening: ScreenEvent) -> bool {
        let now = time_of_day();
        match happening {
            ScreenEvent::Report(id, report) => {
                if let Some(asked) = self.asked.get_mut(&id) {
                    *asked = (report.kind.clone(), false);
                }
                self.model.report(report, &now);
            }
            ScreenEvent::Key(KeyCode::Char('q') | KeyCode::Esc) => return true,
            ScreenEvent::Key(KeyCode::Down | KeyCode::Char('j')) => self.model.select(1),
            ScreenEvent::Key(KeyCode::Up | KeyCode::Char('k')) => self.model.select(-1),
            ScreenEvent::Key(KeyCode::PageDown) => self.model.select(10),
            ScreenEvent::Key(KeyCode::PageUp) => self.model.select(-10),
            ScreenEvent::Key(_) | ScreenEvent::Resized => {}
            ScreenEvent::Connection(NodeEvent::Down { node, reason }) => {
                let (node, reason) = (show::text(node.as_str()), show::reason(&reason));
                self.model.happened(&now, format!("connection with {node} lost: {reason}"));
            }
            ScreenEvent::Connection(_) => {}
            ScreenEvent::Locations(nodes) => {
                let names = nodes.iter().map(|node| show::text(node.as_ref())).collect();
                self.model.families.insert("'l".into(), nodes.len() as u64);
                self.model.set_nodes(names, &now);
                self.model.set_globals(&self.globals, &now);
                let ids = nodes.into_iter().filter_map(|node| NodeId::new(node).ok());
                let ids: BTreeSet<NodeId> = ids.filter(|id| id != self.node.id()).collect();
                self.asked.retain(|id, _| ids.contains(id));
                for id in ids {
                    self.asked.entry(id).or_default();
                }
            }
            ScreenEvent::Globals(nodes) => {
                self.model.families.insert("'g".into(), nodes.len() as u64);
                self.globals = nodes.iter().map(|node| show::text(node.as_ref())).collect();
                self.model.set_globals(&self.globals, &now);
            }
        }
        false
    }
}

/// Asks a node all questions of one round.
async fn ask(node: Node, id: NodeId, kind: Kind) -> Report {
    let shown = show::text(id.as_str());
    let begun = Instant::now();
    let echo = node.call::<Vec<Value>>(&id, ("snd",)).timeout(ANSWER_TIMEOUT);
    if let Err(error) = echo.await {
        let problem = match error {
            CallError::Died(reason) => show::reason(&reason),
            error => show::escaped(&error.to_string()),
        };
        let answer = Answer::Nothing(problem.trim_end().to_owned());
        return Report { node: shown, kind, milliseconds: None, answer };
    }
    let milliseconds = Some(begun.elapsed().as_micros() as f64 / 1e3);
    let kind = match kind {
        Kind::Unknown => kind_of(&node, &id).await,
        known => known,
    };
    let answer = match &kind {
        Kind::Unknown => Answer::Echo,
        Kind::Perl(_) => match evaluate(&node, &id, PERL_STATUS).await {
            Some(Ok(values)) => {
                let mut words = values.iter().map(show::word);
                let master = words.next().filter(|master| !master.is_empty());
                Answer::Perl { master, neighbours: words.collect() }
            }
            _ => Answer::Echo,
        },
        Kind::Ours => match node.status_of(&id, ANSWER_TIMEOUT).await {
            Ok(status) => Answer::Ours(Box::new(status)),
            Err(_) => Answer::Echo,
        },
    };
    Report { node: shown, kind, milliseconds, answer }
}

/// The kind of a node; nodes in secure mode do not answer.
async fn kind_of(node: &Node, id: &NodeId) -> Kind {
    match evaluate(node, id, PERL_VERSION).await {
        Some(Ok(values)) => Kind::Perl(values.first().map(show::word).unwrap_or_default()),
        Some(Err(())) => Kind::Ours,
        None => Kind::Unknown,
    }
}

/// The results, or that there was an error; `None` without an answer.
async fn evaluate(node: &Node, id: &NodeId, expression: &str) -> Option<Result<Vec<Value>, ()>> {
    let question = ("eval", client::string(expression));
    let mut values = node.call::<Vec<Value>>(id, question).timeout(ANSWER_TIMEOUT).await.ok()?;
    let has_failed = values.first().is_none_or(Value::is_true);
    Some(match has_failed {
        true => Err(()),
        false => Ok(values.split_off(1)),
    })
}

fn watch_family(
    node: &Node,
    family: &str,
    sender: mpsc::UnboundedSender<ScreenEvent>,
    happening: fn(BTreeSet<Str>) -> ScreenEvent,
) {
    let mut monitor = node.db().monitor(family);
    tokio::spawn(async move {
        let mut keys = BTreeSet::new();
        while let Some(change) = monitor.next().await {
            keys.extend(change.added().map(|(key, _)| key.clone()));
            for key in change.deleted() {
                keys.remove(key);
            }
            if sender.send(happening(keys.clone())).is_err() {
                return;
            }
        }
    });
}

fn watch_connections(node: &Node, sender: mpsc::UnboundedSender<ScreenEvent>) {
    let mut events = node.events();
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            if sender.send(ScreenEvent::Connection(event)).is_err() {
                return;
            }
        }
    });
}

/// Reads the keyboard on a thread of its own, for whose end nobody waits.
fn read_keys(sender: mpsc::UnboundedSender<ScreenEvent>) {
    std::thread::spawn(move || {
        while let Ok(input) = event::read() {
            let happening = match input {
                Input::Key(key) if key.kind == KeyEventKind::Release => continue,
                Input::Key(key)
                    if key.modifiers.contains(KeyModifiers::CONTROL)
                        && key.code == KeyCode::Char('c') =>
                {
                    ScreenEvent::Key(KeyCode::Esc)
                }
                Input::Key(key) => ScreenEvent::Key(key.code),
                _ => ScreenEvent::Resized,
            };
            if sender.send(happening).is_err() {
                return;
            }
        }
        let _ = sender.send(ScreenEvent::Key(KeyCode::Esc));
    });
}

fn time_of_day() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    format!("{:02}:{:02}:{:02}", now / 3600 % 24, now / 60 % 60, now % 60)
}
