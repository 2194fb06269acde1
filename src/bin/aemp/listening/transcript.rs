//! Formats a conversation as lines, for people or for programs.

use crate::show::{self, Style};
use aemp::Value;
use aemp::value::{Hash, Str, StrRef};
use aemp::wire::auth::Secret;
use aemp::wire::conversation::{Conversation, Opaque, Said, Side, Verdict};
use aemp::wire::greeting::Greeting;
use aemp::wire::hex;
use aemp::wire::recording::Entry;
use std::io::IsTerminal as _;

/// Characters of one packet that are shown to people.
const SHOWN_CHARS: usize = 4000;
/// Octets that are shown of input that is not part of the protocol.
const SHOWN_OCTETS: usize = 48;

/// The format of the lines.
#[derive(Debug, Clone, Copy)]
pub(super) struct LineFormat {
    json: bool,
    colour: bool,
}

impl LineFormat {
    pub(super) fn new(json: bool) -> Self {
        let colour = !json
            && std::io::stdout().is_terminal()
            && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        LineFormat { json, colour }
    }

    pub(super) fn is_json(self) -> bool {
        self.json
    }
}

/// The kind of a line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LineKind {
    Handshake,
    Packet,
    Problem,
    Aside,
}

/// The state of formatting one conversation.
pub(super) struct Transcript {
    conversation: Conversation,
    look: LineFormat,
    /// The number of the connection, if there can be several.
    number: Option<usize>,
}

impl Transcript {
    pub(super) fn new(secret: Option<Secret>, look: LineFormat, number: Option<usize>) -> Self {
        Transcript { conversation: Conversation::new(secret), look, number }
    }

    pub(super) fn greeting(&self, side: Side) -> Option<&Greeting> {
        self.conversation.greeting(side)
    }

    /// The lines for an entry.
    pub(super) fn hear(&mut self, entry: &Entry) -> String {
        let mut lines = String::new();
        match &entry.octets {
            Some(octets) => {
                for (side, said) in self.conversation.hear(entry.from, octets) {
                    lines.push_str(&self.line(entry.ms, side, &said));
                }
            }
            None => {
                lines.push_str(&self.cut_off(entry.ms, entry.from));
                let end = Line { name: "end", tone: LineKind::Aside, ..Line::default() };
                lines.push_str(&self.told(entry.ms, entry.from, end));
            }
        }
        lines
    }

    /// The line for something that one side began and did not finish.
    pub(super) fn cut_off(&mut self, ms: f64, side: Side) -> String {
        let rest = self.conversation.end(side);
        rest.map(|said| self.line(ms, side, &said)).unwrap_or_default()
    }

    fn line(&self, ms: f64, side: Side, said: &Said) -> String {
        let told = self.tell(side, said);
        self.told(ms, side, told)
    }

    fn told(&self, ms: f64, side: Side, told: Line) -> String {
        if self.look.json {
            return told.json(self.number, ms, side);
        }
        let number = self.number.map(|number| format!("{number} ")).unwrap_or_default();
        let mut text = told.text;
        if text.len() > SHOWN_CHARS
            && let Some((at, _)) = text.char_indices().nth(SHOWN_CHARS)
        {
            let more = text.split_off(at).chars().count();
            text.push_str(&format!(" ... and {more} characters more"));
        }
        let name = told.name;
        let what = match (name, text.is_empty()) {
            ("packet", _) => text,
            (_, true) => name.to_owned(),
            (_, false) => format!("{name}: {text}"),
        };
        let (letter, colour, plain) = match (self.look.colour, side, told.tone) {
            (false, ..) => (side.letter().to_owned(), "", ""),
            (true, Side::Dialler, tone) => ("\x1b[36ma\x1b[0m".into(), tone.colour(), "\x1b[0m"),
            (true, Side::Listener, tone) => ("\x1b[33mb\x1b[0m".into(), tone.colour(), "\x1b[0m"),
        };
        format!("{number}{ms:9.1} {letter}  {colour}{what}{plain}\n")
    }

    fn tell(&self, side: Side, said: &Said) -> Line {
        match said {
            Said::Greeting(greeting) => greeted(greeting),
            Said::Nonce(nonce) => Line::of("nonce", LineKind::Aside, octets_text(nonce))
                .with("nonce", octets_value(nonce)),
            Said::Authentication { method, token, framing, verdict } => {
                let (verdict, name, tone) = match verdict {
                    Verdict::Right => ("right", "right", LineKind::Handshake),
                    Verdict::Wrong => ("WRONG, the peer will close", "wrong", LineKind::Problem),
                    Verdict::SecretUnknown => (
                        "not checked: the secret is not known here (--secret)",
                        "unknown",
                        LineKind::Handshake,
                    ),
                    _ => ("of a method that is not known here", "unknown", LineKind::Problem),
                };
                let (shown_method, shown_framing) = (octets_text(method), octets_text(framing));
                let text =
                    format!("{shown_method}, {verdict}; {} sends {shown_framing}", side.letter());
                Line::of("authentication", tone, text)
                    .with("method", octets_value(method))
                    .with("token", octets_value(token))
                    .with("framing", octets_value(framing))
                    .with("verdict", name.into())
            }
            Said::Packet(values) if is_keepalive(values) => Line::of(
                "packet",
                LineKind::Aside,
                show::json(&Value::Array(values.clone()), Style::Compact),
            )
            .with("packet", Value::Array(values.clone())),
            Said::Packet(values) => {
                let packet = Value::Array(values.clone());
                Line::of("packet", LineKind::Packet, show::json(&packet, Style::Compact))
                    .with("packet", packet)
            }
            Said::Opaque { what, octets } => {
                let (name, tone) = match what {
                    Opaque::Encrypted => ("encrypted", LineKind::Aside),
                    Opaque::Data => ("data", LineKind::Aside),
                    _ => ("not understood", LineKind::Problem),
                };
                Line::of(name, tone, format!("{octets} octets"))
                    .with("octets", Value::Int((*octets as u64).into()))
            }
            Said::Wrong { problem, octets } => {
                let text = format!("{problem}: {}", excerpt(octets));
                Line::of("wrong", LineKind::Problem, text)
                    .with("problem", Value::Str(problem.to_string().into()))
                    .with("octets", octets_value(octets))
            }
            Said::Unfinished { octets } => {
                let text = match octets.is_empty() {
                    true => "a packet that ends in the middle".into(),
                    false => excerpt(octets),
                };
                Line::of("unfinished", LineKind::Problem, text).with("octets", octets_value(octets))
            }
            _ => Line::of("something", LineKind::Aside, String::new()),
        }
    }
}

impl LineKind {
    const fn colour(self) -> &'static str {
        match self {
            LineKind::Handshake => "\x1b[32m",
            LineKind::Packet => "",
            LineKind::Problem => "\x1b[31m",
            LineKind::Aside => "\x1b[2m",
        }
    }
}

/// A line, before it is formatted.
struct Line {
    name: &'static str,
    tone: LineKind,
    text: String,
    fields: Vec<(&'static str, Value)>,
}

impl Default for Line {
    fn default() -> Self {
        Line { name: "", tone: LineKind::Packet, text: String::new(), fields: Vec::new() }
    }
}

impl Line {
    fn of(name: &'static str, tone: LineKind, text: String) -> Self {
        Line { name, tone, text, fields: Vec::new() }
    }

    fn with(mut self, name: &'static str, value: Value) -> Self {
        self.fields.push((name, value));
        self
    }

    fn json(self, number: Option<usize>, ms: f64, side: Side) -> String {
        let mut hash = Hash::new();
        if let Some(number) = number {
            hash.insert("connection", Value::Int((number as u64).into()));
        }
        hash.insert("ms", Value::Float((ms * 10.0).round() / 10.0));
        hash.insert("from", Value::Str(side.letter().into()));
        hash.insert("said", Value::Str(self.name.into()));
        for (name, value) in self.fields {
            hash.insert(name, value);
        }
        show::json(&Value::Hash(hash), Style::Compact) + "\n"
    }
}

fn greeted(greeting: &Greeting) -> Line {
    let list = |names: &[Vec<u8>]| {
        names.iter().map(|name| octets_text(name)).collect::<Vec<_>>().join(",")
    };
    let values = |names: &[Vec<u8>]| names.iter().map(|name| octets_value(name)).collect();
    let mut text = format!(
        "{} {}, node {}, accepts {}, framings {}",
        octets_text(&greeting.protocol),
        octets_text(&greeting.version),
        octets_text(&greeting.node_id),
        list(&greeting.auth_methods),
        list(&greeting.framings),
    );
    let mut keys = Hash::new();
    for (key, value) in &greeting.keys {
        text.push_str(&format!(", {}={}", octets_text(key), octets_text(value)));
        keys.insert(Str::octets(key.clone()), octets_value(value));
    }
    Line::of("greeting", LineKind::Handshake, text)
        .with("protocol", octets_value(&greeting.protocol))
        .with("version", octets_value(&greeting.version))
        .with("node", octets_value(&greeting.node_id))
        .with("auth", Value::Array(values(&greeting.auth_methods)))
        .with("framings", Value::Array(values(&greeting.framings)))
        .with("keys", Value::Hash(keys))
}

fn is_keepalive(values: &[Value]) -> bool {
    match values {
        [] => true,
        [only] => only.to_str().is_some_and(|name| name.as_ref().is_empty()),
        _ => false,
    }
}

fn octets_text(octets: &[u8]) -> String {
    show::text(StrRef::octets(octets))
}

fn octets_value(octets: &[u8]) -> Value {
    Value::Str(Str::octets(octets.to_vec()))
}

fn excerpt(octets: &[u8]) -> String {
    let shown = octets.get(..SHOWN_OCTETS).unwrap_or(octets);
    let hex = hex::encode(shown);
    let more = match octets.len() - shown.len() {
        0 => String::new(),
        more => format!(" and {more} octets more"),
    };
    format!("\"{}\" ({hex}{more})", octets_text(shown))
}
