//! Names chosen by peers, converted to text that is safe to show anywhere.

use crate::value::{Str, StrRef};

/// Longer names are cut.
const MAX_CHARS: usize = 200;

/// A string as characters, with everything that is not visible escaped. Octets that are valid UTF-8 are
/// decoded, since they are nearly always meant so.
pub(super) fn shown(string: &Str) -> String {
    let octets = string.as_ref().to_octets();
    let text = match octets.as_deref().map(std::str::from_utf8) {
        Some(Ok(text)) => StrRef::text(text).to_string(),
        _ => string.to_string(),
    };
    match text.char_indices().nth(MAX_CHARS) {
        None => text,
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_line_of_visible_characters() {
        assert_eq!(shown(&Str::octets("grün".as_bytes())), "grün");
        assert_eq!(shown(&Str::octets(&b"\xff\x1b["[..])), "ÿ\\u{1b}[");
        assert_eq!(shown(&Str::text("a\nb\u{202e}c")), "a\\u{a}b\\u{202e}c");
        assert_eq!(shown(&Str::text(&"ü".repeat(300))).chars().count(), MAX_CHARS + 3);
    }
}
