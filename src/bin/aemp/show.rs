//! Formats values of the network as text: JSON as Perl's tool prints it, without control
//! characters.

use aemp::value::{Number, StrRef};
use aemp::{KillReason, Value};
use std::borrow::Cow;
use std::fmt::Write as _;

/// The layout of JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// On one line, without spaces.
    Compact,
    /// Indented like the output of Perl's tool, in ASCII.
    Pretty,
}

/// A string as characters. Octets that are valid UTF-8 are decoded, since they are nearly always
/// meant so.
pub(crate) fn plain(string: StrRef<'_>) -> Cow<'_, str> {
    if let Some(octets) = string.to_octets()
        && let Ok(text) = std::str::from_utf8(&octets)
    {
        return Cow::Owned(text.to_owned());
    }
    string.to_text_lossy()
}

/// A string for a terminal, with everything escaped that would have an effect there.
pub(crate) fn text(string: StrRef<'_>) -> String {
    escaped(&plain(string))
}

/// A text with its control characters escaped.
pub(crate) fn escaped(text: &str) -> String {
    StrRef::text(text).to_string()
}

/// A list as JSON without the brackets around it.
pub(crate) fn list(values: &[Value]) -> String {
    let mut out = String::new();
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        put(&mut out, value, Style::Compact, 0);
    }
    out
}

/// A value as JSON.
pub(crate) fn json(value: &Value, style: Style) -> String {
    let mut out = String::new();
    put(&mut out, value, style, 0);
    out
}

/// The elements of a kill reason, each followed by a space, as Perl's tool prints them.
pub(crate) fn reason(reason: &KillReason) -> String {
    let elements = reason.decode::<Vec<Value>>().unwrap_or_default();
    elements.iter().map(|element| word(element) + " ").collect()
}

/// A value as a word of a line: strings as they are.
pub(crate) fn word(value: &Value) -> String {
    match value {
        Value::Undef => String::new(),
        Value::Tagged(_) => word(&value.without_tags()),
        Value::Array(_) | Value::Hash(_) => json(value, Style::Compact),
        _ => value.to_str().map(|string| text(string.as_ref().as_ref())).unwrap_or_default(),
    }
}

fn put(out: &mut String, value: &Value, style: Style, depth: usize) {
    match value {
        Value::Undef => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Int(number) => out.push_str(&number.to_string()),
        Value::Float(number) if number.is_finite() => {
            out.push_str(&Number::Float(*number).to_string());
        }
        Value::Float(number) => {
            put_string(out, &Number::Float(*number).to_string(), style);
        }
        Value::Str(string) => put_string(out, &plain(string.as_ref()), style),
        Value::Array(values) => {
            out.push('[');
            for (index, value) in values.iter().enumerate() {
                next_item(out, index, style, depth + 1);
                put(out, value, style, depth + 1);
            }
            close(out, values.is_empty(), style, depth);
            out.push(']');
        }
        Value::Hash(hash) => {
            out.push('{');
            for (index, (key, value)) in hash.iter().enumerate() {
                next_item(out, index, style, depth + 1);
                put_string(out, &plain(key.as_ref()), style);
                out.push_str(if style == Style::Pretty { " : " } else { ":" });
                put(out, value, style, depth + 1);
            }
            close(out, hash.is_empty(), style, depth);
            out.push('}');
        }
        Value::Tagged(_) => put(out, &value.without_tags(), style, depth),
    }
}

fn next_item(out: &mut String, index: usize, style: Style, depth: usize) {
    if index > 0 {
        out.push(',');
    }
    new_line(out, style, depth);
}

fn close(out: &mut String, is_empty: bool, style: Style, depth: usize) {
    if !is_empty {
        new_line(out, style, depth);
    }
}

fn new_line(out: &mut String, style: Style, depth: usize) {
    if style == Style::Pretty {
        out.push('\n');
        out.push_str(&"   ".repeat(depth));
    }
}

fn put_string(out: &mut String, text: &str, style: Style) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            _ if is_dangerous(c) || (style == Style::Pretty && !c.is_ascii()) => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    // Writing to a string cannot fail.
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            _ => out.push(c),
        }
    }
    out.push('"');
}

/// Whether a terminal would do anything but show the character.
fn is_dangerous(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(json: serde_json::Value) -> Value {
        Value::of(&json).unwrap()
    }

    #[test]
    fn json_looks_as_perls() {
        let values = value(serde_json::json!(["1", [2, 1.5, null], {"a": true}]));
        assert_eq!(json(&values, Style::Compact), r#"["1",[2,1.5,null],{"a":true}]"#);
        let pretty = "[\n   \"1\",\n   [\n      2,\n      1.5,\n      null\n   ],\n   {\n      \
                      \"a\" : true\n   }\n]";
        assert_eq!(json(&values, Style::Pretty), pretty);
        assert_eq!(json(&value(serde_json::json!([])), Style::Pretty), "[]");
    }

    #[test]
    fn control_characters_are_never_printed() {
        let evil = value(serde_json::json!("\u{1b}[2J\u{7f}\u{9b}\u{202e}"));
        assert_eq!(json(&evil, Style::Compact), r#""\u001b[2J\u007f\u009b\u202e""#);
        assert!(word(&evil).is_ascii());
    }

    #[test]
    fn octets_that_are_utf8_are_shown_as_characters() {
        let octets = Value::Str(aemp::value::Str::octets("grün".as_bytes()));
        assert_eq!(json(&octets, Style::Compact), "\"grün\"");
        assert_eq!(json(&octets, Style::Pretty), "\"gr\\u00fcn\"");
    }
}
