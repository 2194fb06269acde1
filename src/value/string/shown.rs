//! Strings in log lines and errors: on one line, escaped, and cut.

use super::{Str, StrRef};
use std::fmt::{self, Write as _};

/// Shows the string on one line: control characters and invalid characters are escaped.
impl fmt::Display for StrRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.code_points().try_for_each(|point| write_point(f, point))
    }
}

/// Writes one code point so that the output stays on one line.
pub(in crate::value) fn write_point(f: &mut fmt::Formatter<'_>, point: u64) -> fmt::Result {
    match u32::try_from(point).ok().and_then(char::from_u32) {
        Some(c) if c.is_control() || is_deceptive(c) => write!(f, "{}", c.escape_unicode()),
        Some(c) => f.write_char(c),
        None => write!(f, "\\x{{{point:x}}}"),
    }
}

/// Invisible characters, and characters that change how a terminal lays out the rest of a line: they
/// could make one text look like another. These are format characters, line and paragraph separators,
/// and characters that are ignored where they cannot be displayed.
pub(crate) const fn is_deceptive(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}'
            | '\u{890}'..='\u{891}' | '\u{8e2}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}'
            | '\u{13430}'..='\u{1345f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

/// The maximum number of code points that a log line or an error shows of a peer's string.
const SHOWN_CODE_POINTS: usize = 200;

/// The beginning of a string, on one line and escaped.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Beginning<'a>(StrRef<'a>);

impl<'a> StrRef<'a> {
    /// The part of the string that a log line or an error shows, since peers can send strings as long as
    /// a packet.
    pub(crate) const fn beginning(self) -> Beginning<'a> {
        Beginning(self)
    }

    /// A copy of the part that [`StrRef::beginning`] shows, and of one more code point if there is one,
    /// so that the copy is shown as the string is.
    pub(crate) fn cut(self) -> Str {
        let mut points = self.code_points();
        points.by_ref().take(SHOWN_CODE_POINTS + 1).for_each(drop);
        let end = self.data.len() - points.rest.len();
        StrRef { kind: self.kind, data: self.data.get(..end).unwrap_or_default() }.to_owned()
    }
}

impl fmt::Display for Beginning<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut points = self.0.code_points();
        points.by_ref().take(SHOWN_CODE_POINTS).try_for_each(|point| write_point(f, point))?;
        if points.next().is_some() {
            f.write_str("...")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_the_layout_of_a_line_or_is_not_seen_is_escaped() {
        for point in [
            0xad, 0x61c, 0x180e, 0x200b, 0x200d, 0x200e, 0x2028, 0x2029, 0x202e, 0x2060, 0x2066,
            0x2069, 0x206f, 0x3164, 0xfe0f, 0xfeff, 0xfffb, 0xe_0041, 0x1b, 0x7f, 0x85,
        ] {
            let c = char::from_u32(point).unwrap();
            let shown = Str::text(&c.to_string()).to_string();
            assert_eq!(shown, format!("\\u{{{point:x}}}"));
        }
        for seen in ["é", "日本", "😀", "ß\u{301}", " ", "\u{2014}", "עברית"] {
            assert_eq!(Str::text(seen).to_string(), seen);
        }
    }

    #[test]
    fn of_a_long_string_an_error_shows_the_beginning() {
        let long = Str::octets(b"\x1b".repeat(1_000_000));
        let text = long.as_ref().beginning().to_string();
        assert_eq!(text, format!("{}...", "\\u{1b}".repeat(SHOWN_CODE_POINTS)));
        assert_eq!(Str::text("short").as_ref().beginning().to_string(), "short");
        for string in [long.as_ref(), StrRef::octets(&[0xe9; 1000]), StrRef::text("short")] {
            let cut = string.cut();
            assert_eq!(cut.as_ref().beginning().to_string(), string.beginning().to_string());
            assert!(cut.as_ref().data().len() <= 7 * (SHOWN_CODE_POINTS + 1));
        }
    }

    #[test]
    fn display_keeps_one_line() {
        assert_eq!(Str::text("a\nb\u{1b}[2J").to_string(), "a\\u{a}b\\u{1b}[2J");
    }
}
