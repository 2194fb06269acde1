//! The `tracing` layer that passes this program's log lines to catchers.

use super::{LogLevel, hub};
use std::fmt::Write as _;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, Filter};
use tracing_subscriber::registry::LookupSpan;

/// Targets that log while lines are being sent; sending their lines would never end.
const EXCLUDED_TARGETS: [&str; 7] =
    ["tokio", "tokio_util", "tokio_rustls", "mio", "rustls", "polling", "aemp::caught"];
/// Texts are cut to this length.
const MAX_TEXT_LEN: usize = 32 << 10;

/// A layer for `tracing_subscriber` that lets other nodes catch the log of this program.
///
/// Without it other nodes get no lines. It costs almost nothing while nobody asks for lines, and its
/// levels are its own: a catcher gets what it asks for, whatever other layers show.
///
/// Lines of this library are attributed to the node that they are about, all others to every node of
/// the program.
///
/// ```
/// use tracing_subscriber::layer::SubscriberExt as _;
/// use tracing_subscriber::{Layer as _, filter::LevelFilter};
///
/// let lines = tracing_subscriber::fmt::layer().with_filter(LevelFilter::WARN);
/// let log = tracing_subscriber::registry().with(lines).with(aemp::services::logs::layer());
/// # drop(log);
/// ```
pub fn layer<S>() -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    ToCatchers.with_filter(Wanted)
}

struct ToCatchers;

/// A filter that follows the level that catchers currently want.
struct Wanted;

fn is_silent(target: &str) -> bool {
    EXCLUDED_TARGETS.iter().any(|silent| {
        target.strip_prefix(silent).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    })
}

fn is_ours(target: &str) -> bool {
    target.strip_prefix("aemp").is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

impl<S> Filter<S> for Wanted {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        metadata.is_event()
            && hub::wants(LogLevel::from_tracing(*metadata.level()))
            && !is_silent(metadata.target())
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match hub::level().map(LogLevel::number) {
            None | Some(0..=3) => LevelFilter::OFF,
            Some(4) => LevelFilter::ERROR,
            Some(5 | 6) => LevelFilter::WARN,
            Some(7) => LevelFilter::INFO,
            Some(8) => LevelFilter::DEBUG,
            Some(9..) => LevelFilter::TRACE,
        })
    }
}

impl<S: Subscriber> Layer<S> for ToCatchers {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if hub::is_unlogged() {
            return;
        }
        let metadata = event.metadata();
        let mut line = Line { is_ours: is_ours(metadata.target()), ..Line::default() };
        event.record(&mut line);
        let level = LogLevel::from_tracing(*metadata.level());
        let node = line.node.take();
        let text = line.finish();
        hub::unlogged(|| hub::offer(node.as_deref(), level, metadata.target(), &text));
    }
}

/// Formats an event as text: the message, then `name=value` for each field.
#[derive(Default)]
struct Line {
    /// Whether the field `node` names the node that logs this.
    is_ours: bool,
    node: Option<String>,
    message: String,
    fields: String,
}

impl Line {
    fn finish(mut self) -> String {
        self.message.push_str(&self.fields);
        if self.message.len() > MAX_TEXT_LEN {
            let end = (0..=MAX_TEXT_LEN).rev().find(|&end| self.message.is_char_boundary(end));
            self.message.truncate(end.unwrap_or(0));
            self.message.push_str("...");
        }
        self.message
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing to a string only fails if the value's own formatting code does.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            "node" if self.is_ours => {
                self.node = Some(format!("{value:?}"));
                Ok(())
            }
            name => write!(self.fields, " {name}={value:?}"),
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message.push_str(value),
            "node" if self.is_ours => self.node = Some(value.to_owned()),
            name => {
                let _ = write!(self.fields, " {name}={value}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_crates_are_silent() {
        for target in ["rustls", "rustls::client::hs", "aemp::caught"] {
            assert!(is_silent(target), "{target}");
        }
        for target in ["aemp", "aemp::node::connection", "miolog", "my_app::tokio", ""] {
            assert!(!is_silent(target), "{target}");
        }
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let line = Line { message: "é".repeat(MAX_TEXT_LEN), ..Line::default() };
        let text = line.finish();
        assert_eq!(text.len(), MAX_TEXT_LEN + "...".len());
    }
}
