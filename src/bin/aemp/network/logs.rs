//! `logs`: the log lines of all other nodes, as they come.

use super::client::Client;
use crate::errors::CliError;
use crate::output::say;
use crate::show;
use crate::signals::interrupted;
use aemp::services::logs::{LogCatcher, LogEntry, LogLevel};

/// A level by its name, or by its number in AnyEvent.
pub(super) fn level(text: &str) -> Result<LogLevel, CliError> {
    let number = text.parse().ok().and_then(LogLevel::from_number);
    number.or_else(|| text.parse().ok()).ok_or_else(|| CliError::UnknownLevel { name: text.into() })
}

pub(super) async fn logs(client: &Client, level: LogLevel) -> Result<(), CliError> {
    let mut catcher = LogCatcher::catch(&client.node, level);
    let mut over = std::pin::pin!(interrupted());
    loop {
        tokio::select! {
            entry = catcher.next() => match entry {
                Some(entry) => say(&line(&entry, client.options.json))?,
                None => return Ok(()),
            },
            ended = &mut over => return ended,
        }
    }
}

fn line(entry: &LogEntry, as_json: bool) -> String {
    let LogEntry { node, time, context, level, text, .. } = entry;
    let text = text.trim_end();
    if as_json {
        let entry = serde_json::json!({
            "node": show::plain(node.as_str()),
            "time": time,
            "level": level.to_string(),
            "context": context,
            "text": text,
        });
        return show::json(&aemp::Value::of(&entry).unwrap_or_default(), show::Style::Compact);
    }
    let (node, context, text) =
        (show::text(node.as_str()), show::escaped(context), show::escaped(text));
    format!("{time:.3} {node} {level} {context}: {text}")
}
