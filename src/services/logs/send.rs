//! Sending this node's lines to a port that asked for them.

use super::backlog::Backlog;
use super::hub::{self, Catcher};
use super::{CONTEXT, LogEntry, LogLevel};
use crate::node::context::Context;
use crate::node::{MessageRef, Node};
use crate::value::PortId;
use serde::de::IgnoredAny;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// The request `connect VERSION, PORT, LEVEL`: lines up to that level go to the port until it dies.
pub(super) fn connect(context: &Context<'_>, message: MessageRef<'_>) -> Result<(), String> {
    let (_version, port, level): (IgnoredAny, PortId, String) =
        message.decode().map_err(|error| error.to_string())?;
    let level: LogLevel = level.parse().map_err(|error: super::NoLogLevel| error.to_string())?;
    if port.is_node_port() {
        return Err("a node port cannot catch log lines".to_owned());
    }
    let node = context.node().inside();
    let backlog = Backlog::new();
    if level >= LogLevel::Debug {
        backlog.push(LogEntry {
            node: node.id().clone(),
            time: super::now(),
            context: CONTEXT.to_owned(),
            level: LogLevel::Debug,
            text: format!("{port} gets log lines up to level {level} from now on"),
        });
    }
    hub::add(Catcher {
        node: node.id().clone(),
        port: port.clone(),
        level,
        backlog: backlog.clone(),
    });
    // Before anything is handled that the peer sent after the port's death: it gets no line any more.
    let dead = CancellationToken::new();
    let (removed, died) = (backlog.clone(), dead.clone());
    let monitor = node.on_death(&port, move |_| {
        hub::remove(&removed);
        died.cancel();
    });
    let runtime = node.shared().runtime.clone();
    runtime.spawn(async move {
        let _monitor = monitor;
        let ended = node.shared().ended.clone();
        tokio::select! {
            biased;
            () = dead.cancelled() => {}
            () = ended.cancelled() => {}
            () = send_all(&node, &port, &backlog) => {}
        }
        hub::remove(&backlog);
    });
    Ok(())
}

async fn send_all(node: &Node, port: &PortId, backlog: &Arc<Backlog>) {
    while let Some(waiting) = backlog.next().await {
        let entry = waiting.into_entry(node.id());
        if port.node() != *node.id() {
            node.shared().lanes.of(&port.node()).wait_until_drained().await;
        }
        let line = (entry.time, entry.context, entry.level.number(), entry.text);
        // A line that cannot be sent is lost like a dropped one.
        let _ = hub::unlogged(|| node.snd(port, line));
    }
}
