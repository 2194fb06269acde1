//! Collecting the log lines of all other nodes.

use super::backlog::Backlog;
use super::{CONNECT, LogEntry, LogLevel};
use crate::kernel::db::LOCATIONS;
use crate::node::context::Context;
use crate::node::{Message, MessageRef, Node};
use crate::value::{NodeId, Str};
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;
use tokio_util::task::AbortOnDropHandle;

/// The delay until a lost node is asked again; it doubles after each unsuccessful attempt.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The future log lines of all other nodes, including Perl nodes, as a stream; dropping it ends it.
///
/// It connects to every node that the database lists, now or later, and asks for its lines. A node
/// that has left the network is forgotten; one that was lost is asked again. Nodes in `secure` mode do
/// not answer. Up to 1024 lines, or 1 MiB of text, are queued; when more arrive, an entry of this node
/// says how many are missing.
#[derive(Debug)]
pub struct LogCatcher {
    own: NodeId,
    backlog: Arc<Backlog>,
    _task: AbortOnDropHandle<()>,
}

impl LogCatcher {
    /// Starts collecting lines of this level and of more important ones. Perl calls this
    /// `AnyEvent::MP::LogCatcher::catch`.
    pub fn catch(node: &Node, level: LogLevel) -> LogCatcher {
        let backlog = Backlog::new();
        let follow = follow_network(node.inside(), level, backlog.clone());
        let task = AbortOnDropHandle::new(node.shared().runtime.spawn(follow));
        LogCatcher { own: node.id().clone(), backlog, _task: task }
    }

    /// Waits for the next line; `None` once the node was shut down.
    pub async fn next(&mut self) -> Option<LogEntry> {
        Some(self.backlog.next().await?.into_entry(&self.own))
    }
}

impl futures_core::Stream for LogCatcher {
    type Item = LogEntry;

    fn poll_next(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<LogEntry>> {
        self.backlog.poll_next(cx).map(|waiting| Some(waiting?.into_entry(&self.own)))
    }
}

/// Asks every node that the database lists, until it no longer lists the node.
async fn follow_network(node: Node, level: LogLevel, backlog: Arc<Backlog>) {
    let mut changes = node.db().monitor(LOCATIONS);
    let mut asked: HashMap<Str, AbortOnDropHandle<()>> = HashMap::new();
    while let Some(change) = changes.next().await {
        for key in change.deleted() {
            asked.remove(key);
        }
        for (key, _) in change.added() {
            let Ok(peer) = NodeId::new(key.clone()) else {
                continue;
            };
            if peer != *node.id() {
                let ask = ask(node.inside(), peer, level, backlog.clone());
                let task = AbortOnDropHandle::new(node.shared().runtime.spawn(ask));
                asked.insert(key.clone(), task);
            }
        }
    }
    backlog.end();
}

/// Collects the lines of one node.
async fn ask(node: Node, peer: NodeId, level: LogLevel, backlog: Arc<Backlog>) {
    let mut pause = FIRST_PAUSE;
    loop {
        let mut port = node.port();
        let lost = node.monitor(&peer);
        // Every framing can represent it.
        let _ = node.snd(&peer, (CONNECT, 0, port.id(), level.number()));
        let collect = async {
            while let Ok(message) = port.recv_message().await {
                if let Some(entry) = read(&peer, &message) {
                    pause = FIRST_PAUSE;
                    backlog.push(entry);
                }
            }
        };
        tokio::select! {
            () = collect => {}
            _ = lost => {}
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(node.shared().settings.monitor_timeout.max(FIRST_PAUSE));
    }
}

/// Reads a line as nodes send it; `None` if the message is something else.
fn read(peer: &NodeId, message: &Message) -> Option<LogEntry> {
    let (time, context, level, text): (f64, Str, u64, Str) = message.decode().ok()?;
    Some(LogEntry {
        node: peer.clone(),
        time,
        context: context.to_text_lossy().into_owned(),
        level: LogLevel::from_number(level).unwrap_or(LogLevel::Fatal),
        text: text.to_text_lossy().into_owned(),
    })
}

/// The service of the configuration, with the level as its argument: writes the collected lines to this
/// program's log, with the target `aemp::caught`.
pub(super) fn as_service(context: &Context<'_>, message: MessageRef<'_>) -> Result<(), String> {
    if context.from() != context.node().id() {
        return Err("only this node's own configuration may call it".to_owned());
    }
    let (level,): (String,) = message.decode().map_err(|error| error.to_string())?;
    let level = level.parse().map_err(|error: super::NoLogLevel| error.to_string())?;
    let shared = context.node().shared().clone();
    let runtime = shared.runtime.clone();
    runtime.spawn(async move {
        let mut catcher = LogCatcher::catch(&Node::inner(shared.clone()), level);
        while let Some(entry) = catcher.next().await {
            log(&entry);
        }
    });
    Ok(())
}

fn log(entry: &LogEntry) {
    let LogEntry { node, context, text, .. } = entry;
    let text = one_line(text);
    let context = one_line(context);
    match entry.level {
        LogLevel::Fatal | LogLevel::Alert | LogLevel::Critical | LogLevel::Error => {
            tracing::error!(target: "aemp::caught", "[{node}] {context}: {text}");
        }
        LogLevel::Warn => tracing::warn!(target: "aemp::caught", "[{node}] {context}: {text}"),
        LogLevel::Note | LogLevel::Info => {
            tracing::info!(target: "aemp::caught", "[{node}] {context}: {text}");
        }
        LogLevel::Debug => tracing::debug!(target: "aemp::caught", "[{node}] {context}: {text}"),
        LogLevel::Trace => tracing::trace!(target: "aemp::caught", "[{node}] {context}: {text}"),
    }
}

/// A peer's text with control characters escaped, so that it cannot control a terminal.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.trim_end().chars() {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_written_out() {
        assert_eq!(one_line("a\nb\x1b[2J\u{e9}\n"), "a\\nb\\u{1b}[2J\u{e9}");
    }
}
