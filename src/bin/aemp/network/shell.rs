//! `shell`: evaluates lines of input on nodes.

use super::client::{Client, NOTICE_DELAY, node_of};
use crate::errors::{CliError, NetworkError};
use crate::output::{print_line, print_octets};
use crate::show::{self, Style};
use aemp::{NodeId, Value};
use std::future::IntoFuture as _;
use std::io::{BufRead as _, IsTerminal as _};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::Instant;

const BANNER: &str = "\
Entering interactive shell - no commandline editing of course (use rlfe etc.).

=           display a list of nodes
=name       switch to another node
package P   switch to package P when evaluating
$ECHO       contains the name of a port that echos everything sent to it

";
const FIRST_PACKAGE: &str = "AnyEvent::MP::Kernel";
/// How long to wait for answers after the input has ended.
const EXIT_TIMEOUT: Duration = Duration::from_secs(5);

/// An event while the shell runs.
enum Event {
    Line(String),
    EndOfInput,
    Echo { from: NodeId, elements: Vec<Value> },
    Nodes(Vec<String>),
    Waiting { node: NodeId, line: String },
    Result { node: NodeId, line: String, seconds: f64, outcome: Result<Vec<Value>, String> },
}

struct Shell<'a> {
    client: &'a Client,
    node: NodeId,
    package: String,
    echo: aemp::CallbackPort,
    events: mpsc::UnboundedSender<Event>,
    unanswered: usize,
}

pub(super) async fn shell(client: &Client, node: Option<NodeId>) -> Result<(), CliError> {
    let (events, mut happens) = mpsc::unbounded_channel();
    read_lines(events.clone());
    let echoes = events.clone();
    let echo = client.node.port_with(move |_, message| {
        let elements = message.values().unwrap_or_default();
        let _ = echoes.send(Event::Echo { from: message.from().clone(), elements });
    });
    let mut shell = Shell {
        client,
        node: node.unwrap_or_else(|| client.node.id().clone()),
        package: FIRST_PACKAGE.into(),
        echo,
        events,
        unanswered: 0,
    };
    let mut interrupted = Interrupted::of_a_terminal()?;
    shell.print(&format!("{BANNER}{}", shell.prompt()))?;
    loop {
        tokio::select! {
            event = happens.recv() => match event {
                None | Some(Event::EndOfInput) => break,
                Some(event) => shell.handle(event)?,
            },
            // The terminal has discarded the line.
            () = interrupted.next() => shell.print(&format!("\n{}", shell.prompt()))?,
        }
    }
    let give_up = Instant::now() + EXIT_TIMEOUT;
    while shell.unanswered > 0 {
        tokio::select! {
            event = tokio::time::timeout_at(give_up, happens.recv()) => match event {
                Ok(Some(event)) => shell.handle(event)?,
                Ok(None) | Err(_) => break,
            },
            () = interrupted.next() => break,
        }
    }
    shell.print("\n")?;
    match shell.unanswered {
        0 => Ok(()),
        count => {
            let seconds = EXIT_TIMEOUT.as_secs();
            Err(NetworkError::Unanswered { count, seconds }.into())
        }
    }
}

/// Ctrl-C on a terminal where lines are typed. Without such a terminal an interrupt ends the
/// command.
struct Interrupted(Option<Signal>);

impl Interrupted {
    fn of_a_terminal() -> Result<Self, CliError> {
        let signal = std::io::stdin().is_terminal().then(|| signal(SignalKind::interrupt()));
        Ok(Interrupted(signal.transpose().map_err(CliError::Runtime)?))
    }

    async fn next(&mut self) {
        match &mut self.0 {
            Some(signal) => drop(signal.recv().await),
            None => std::future::pending().await,
        }
    }
}

/// Reads standard input on a thread of its own, for whose end nobody waits.
fn read_lines(events: mpsc::UnboundedSender<Event>) {
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        let mut line = Vec::new();
        while input.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            let text = aemp::config::octets::from_octets(line.trim_ascii_end());
            line.clear();
            if events.send(Event::Line(text)).is_err() {
                return;
            }
        }
        let _ = events.send(Event::EndOfInput);
    });
}

impl Shell<'_> {
    fn prompt(&self) -> String {
        format!("{} {}> ", show::text(self.node.as_str()), show::escaped(&self.package))
    }

    fn print(&self, text: &str) -> Result<(), CliError> {
        print_octets(text.as_bytes())
    }

    fn handle(&mut self, event: Event) -> Result<(), CliError> {
        match event {
            Event::Line(line) => {
                self.line(line);
                self.print(&self.prompt())
            }
            Event::EndOfInput => Ok(()),
            Event::Echo { from, elements } => {
                let from = show::text(from.as_str());
                let elements = show::json(&Value::Array(elements), Style::Pretty);
                self.print(&format!("\nECHO<{from}> {elements}\n\n{}", self.prompt()))
            }
            Event::Nodes(nodes) => {
                self.unanswered -= 1;
                self.print(&format!("\nnodes: {}\n{}", nodes.join(" "), self.prompt()))
            }
            Event::Waiting { node, line } => {
                let (node, line) = (show::text(node.as_str()), show::escaped(&line));
                let hint = "waiting for an answer; a node in secure mode never gives one";
                self.print(&format!("\n{node}: {line}\n{hint}\n\n{}", self.prompt()))
            }
            Event::Result { node, line, seconds, outcome } => {
                self.unanswered -= 1;
                let (node, line) = (show::text(node.as_str()), show::escaped(&line));
                let outcome = match outcome {
                    Ok(values) => show::json(&Value::Array(values), Style::Pretty) + "\n",
                    Err(text) => text,
                };
                let prompt = self.prompt();
                self.print(&format!("\n{node}: {line}\n{seconds:.3}s\n{outcome}\n{prompt}"))
            }
        }
    }

    fn line(&mut self, line: String) {
        if let Some(name) = line.strip_prefix('=') {
            match node_of(name.trim()) {
                _ if name.trim().is_empty() => self.list_nodes(),
                Ok(node) => self.node = node,
                Err(error) => print_line("", &error),
            }
        } else if let Some(package) = package(&line) {
            self.package = package;
        } else if !line.trim().is_empty() {
            self.evaluate(line);
        }
    }

    fn list_nodes(&mut self) {
        self.unanswered += 1;
        let (db, events) = (self.client.node.db(), self.events.clone());
        tokio::spawn(async move {
            let mut nodes = db.keys("'l").await.unwrap_or_default();
            nodes.sort();
            let nodes = nodes.iter().map(|node| show::text(node.as_ref())).collect();
            let _ = events.send(Event::Nodes(nodes));
        });
    }

    fn evaluate(&mut self, line: String) {
        self.unanswered += 1;
        let (node, events) = (self.node.clone(), self.events.clone());
        let echo = show::plain(self.echo.id().as_str()).into_owned();
        let expression = format!("package {}; my $ECHO = '{echo}'; {line}", self.package);
        let begun = Instant::now();
        let answer = self
            .client
            .node
            .call::<Vec<Value>>(&node, ("eval", super::client::string(&expression)));
        tokio::spawn(async move {
            let mut answer = answer.into_future();
            let answer = tokio::select! {
                biased;
                answer = &mut answer => answer,
                () = tokio::time::sleep(NOTICE_DELAY) => {
                    let _ = events.send(Event::Waiting { node: node.clone(), line: line.clone() });
                    answer.await
                }
            };
            let outcome = match answer {
                Ok(values) => {
                    let mut values = values.into_iter();
                    let error = values.next().unwrap_or_default();
                    match error.is_true() {
                        true => {
                            let words = std::iter::once(error).chain(values);
                            let words: Vec<String> = words.map(|word| lines(&word)).collect();
                            Err(words.join(" "))
                        }
                        false => Ok(values.collect()),
                    }
                }
                Err(aemp::CallError::Died(reason)) => Err(show::reason(&reason)),
                Err(error) => Err(show::escaped(&error.to_string())),
            };
            let seconds = begun.elapsed().as_secs_f64();
            let _ = events.send(Event::Result { node, line, seconds, outcome });
        });
    }
}

/// A text of several lines, with the control characters in each line escaped.
fn lines(value: &Value) -> String {
    let text = value.to_str().map(|text| show::plain(text.as_ref().as_ref()).into_owned());
    let text = text.unwrap_or_default();
    text.split('\n').map(show::escaped).collect::<Vec<_>>().join("\n")
}

/// The package to which a line switches.
fn package(line: &str) -> Option<String> {
    let rest = line.trim().strip_prefix("package")?;
    let name = rest.trim().trim_end_matches(';').trim_end();
    let is_name = rest.starts_with(char::is_whitespace)
        && !name.is_empty()
        && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | ':' | '\''));
    is_name.then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::package;

    #[test]
    fn only_a_package_alone_switches_the_package() {
        assert_eq!(package(" package Foo::Bar ; "), Some("Foo::Bar".into()));
        assert_eq!(package("package main"), Some("main".into()));
        assert_eq!(package("package main; 1"), None);
        assert_eq!(package("packages"), None);
        assert_eq!(package("package ;"), None);
    }
}
