//! Values as text for people: always one line, of limited length.

use super::packed::Token;
use super::string::StrRef;
use super::tag::{self, Storable};
use super::{Number, Tagged, Value};
use std::fmt::{self, Write as _};

/// The maximum number of code points of a string that an error shows.
const SHOWN_CHARS: usize = 60;

/// The maximum number of code points that an error shows of text from elsewhere.
const SHOWN_TEXT: usize = 400;

/// A string in quotes, cut after `limit` code points.
pub(super) struct Quoted<'a> {
    string: StrRef<'a>,
    limit: usize,
}

impl<'a> Quoted<'a> {
    /// The whole string, in quotes.
    pub(super) fn whole(string: StrRef<'a>) -> Self {
        let limit = usize::MAX;
        Quoted { string, limit }
    }

    /// The string in quotes, cut for an error.
    pub(super) fn short(string: StrRef<'a>) -> Self {
        let limit = SHOWN_CHARS;
        Quoted { string, limit }
    }
}

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        let mut points = self.string.code_points();
        for point in points.by_ref().take(self.limit) {
            match point {
                0x22 => f.write_str("\\\"")?,
                0x5c => f.write_str("\\\\")?,
                0x0a => f.write_str("\\n")?,
                0x0d => f.write_str("\\r")?,
                0x09 => f.write_str("\\t")?,
                _ => super::string::write_point(f, point)?,
            }
        }
        f.write_char('"')?;
        if points.next().is_some() {
            f.write_str("...")?;
        }
        Ok(())
    }
}

/// A text from elsewhere, on one line and cut.
pub(super) fn one_line(text: &str) -> Box<str> {
    let cut = text.char_indices().nth(SHOWN_TEXT).map(|(at, _)| at);
    let shown = StrRef::text(text.get(..cut.unwrap_or(text.len())).unwrap_or_default());
    match cut {
        Some(_) => format!("{shown}...").into(),
        None => shown.to_string().into(),
    }
}

fn short(digits: &str) -> String {
    match digits.get(..SHOWN_CHARS) {
        Some(first) if first.len() < digits.len() => format!("{first}..."),
        _ => digits.to_owned(),
    }
}

/// The name of a token in an error.
pub(super) fn describe(token: Token<'_>) -> String {
    match token {
        Token::Undef => "undef".into(),
        Token::Bool(b) => b.to_string(),
        Token::UInt(n) => format!("number {n}"),
        Token::NInt(n) => format!("number {n}"),
        Token::Float(x) => format!("number {}", Number::Float(x)),
        Token::Exact(number) => format!("number {}", short(&number.to_string())),
        Token::Str(string) => format!("string {}", Quoted::short(string)),
        Token::Array(len) => format!("an array of {len}"),
        Token::Hash(len) => format!("a hash of {len}"),
    }
}

/// Shows the value on one line, in a form like JSON with Perl's words: `["tag", 42, {"key": undef},
/// "a\nb"]`. Control characters are escaped.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Undef => f.write_str("undef"),
            Value::Bool(b) => b.fmt(f),
            Value::Int(n) => n.fmt(f),
            Value::Float(x) => Number::Float(*x).fmt(f),
            Value::Str(string) => Quoted::whole(string.as_ref()).fmt(f),
            Value::Array(items) => write_list(f, items),
            Value::Tagged(tagged) => write_tagged(f, self, tagged),
            Value::Hash(hash) => {
                f.write_char('{')?;
                for (index, (key, value)) in hash.iter().enumerate() {
                    separate(f, index)?;
                    write!(f, "{}: {value}", Quoted::whole(key.as_ref()))?;
                }
                f.write_char('}')
            }
        }
    }
}

/// Numbers with all their digits, objects as `Class(value)`, other tags as `tag(value)`.
fn write_tagged(f: &mut fmt::Formatter<'_>, whole: &Value, tagged: &Tagged<Value>) -> fmt::Result {
    if let Some(number) = whole.exact_text() {
        return f.write_str(&number);
    }
    let storable = Storable::of(tagged.tag);
    match (tag::has_class(tagged.tag), tagged.value.as_array()) {
        (true, Some([_, value])) if matches!(storable, Some(Storable::Scope | Storable::Label)) => {
            fmt::Display::fmt(value, f)
        }
        (true, Some(_)) if matches!(storable, Some(Storable::Again { .. })) => f.write_str("..."),
        (true, Some([Value::Str(class), value])) if class.is_empty() => fmt::Display::fmt(value, f),
        (true, Some([Value::Str(class), values @ ..])) => {
            write!(f, "{class}(")?;
            for (index, value) in values.iter().enumerate() {
                separate(f, index)?;
                fmt::Display::fmt(value, f)?;
            }
            f.write_char(')')
        }
        _ => write!(f, "{}({})", tagged.tag, tagged.value),
    }
}

/// Writes values as an array.
pub(super) fn write_list(f: &mut fmt::Formatter<'_>, items: &[Value]) -> fmt::Result {
    f.write_char('[')?;
    for (index, item) in items.iter().enumerate() {
        separate(f, index)?;
        fmt::Display::fmt(item, f)?;
    }
    f.write_char(']')
}

fn separate(f: &mut fmt::Formatter<'_>, index: usize) -> fmt::Result {
    f.write_str(if index > 0 { ", " } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::{Hash, Str};

    #[test]
    fn values_show_on_one_line() {
        let mut hash = Hash::new();
        hash.insert("k\"", Value::Undef);
        hash.insert("b", true);
        let value = Value::from(vec![
            Value::from("a\n\r\t\\b\u{1b}"),
            Value::from(-4),
            Value::from(1e16),
            Value::from(hash),
            Value::from(Str::octets(&b"\xe9"[..])),
        ]);
        assert_eq!(
            value.to_string(),
            r#"["a\n\r\t\\b\u{1b}", -4, 1e+16, {"k\"": undef, "b": true}, "é"]"#
        );
    }

    #[test]
    fn error_messages_show_no_more_than_a_line() {
        let long = "x".repeat(1000);
        assert_eq!(
            describe(Token::Str(StrRef::text(&long))),
            format!("string \"{}\"...", "x".repeat(60))
        );
        assert_eq!(one_line(&long).len(), 403);
        assert_eq!(&*one_line("a\nb"), "a\\u{a}b");
        assert_eq!(describe(Token::Float(0.5)), "number 0.5");
        assert_eq!(describe(Token::Array(2)), "an array of 2");
        assert_eq!(describe(Token::Hash(2)), "a hash of 2");
        assert_eq!(describe(Token::NInt(-2)), "number -2");
        assert_eq!(describe(Token::Bool(true)), "true");
    }
}
