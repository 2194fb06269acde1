//! The dialect of JSON that the rc file may use: with `#` comments and trailing commas.
//!
//! It is the "relaxed" dialect of Perl's JSON::XS 4: wherever white space is allowed, a comment may run
//! from `#` to the end of the line; arrays and objects may end in one comma; strings may contain literal
//! tabs. As in JSON::XS, integers beyond 64 bits become strings of their digits, nesting is limited to 512
//! levels, and of two equal keys the last one counts.

use serde_json::{Map, Number, Value};
use thiserror::Error;

/// How deep arrays and objects may be nested.
pub const MAX_DEPTH: usize = 512;

/// Where and why a text is not relaxed JSON.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line}, column {column}: {problem}")]
pub struct SyntaxError {
    /// Line, counted from 1.
    pub line: usize,
    /// Column in characters, counted from 1.
    pub column: usize,
    /// The problem.
    pub problem: Problem,
}

/// What can be wrong with a text. Messages never quote the text, which may contain secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Problem {
    /// A value is missing.
    #[error("expected a value (a \"string\", a number, true, false, null, [...] or {{...}})")]
    ExpectedValue,
    /// A key is missing.
    #[error("expected a key in double quotes, or `}}`")]
    ExpectedKey,
    /// A key is not followed by a colon.
    #[error("expected `:` after the key")]
    ExpectedColon,
    /// An array goes on without a comma.
    #[error("expected `,` or `]`")]
    ExpectedCommaOrBracket,
    /// An object goes on without a comma.
    #[error("expected `,` or `}}`")]
    ExpectedCommaOrBrace,
    /// More text after the end.
    #[error("expected nothing more after the end of the JSON text")]
    TrailingText,
    /// A string without its closing quote.
    #[error("the string that begins here is never closed")]
    UnclosedString,
    /// A control character in a string.
    #[error("a control character in a string has to be written as an escape such as \\n")]
    ControlCharacter,
    /// An escape that JSON does not know.
    #[error("unknown escape (known are \\\" \\\\ \\/ \\b \\f \\n \\r \\t and \\uXXXX)")]
    UnknownEscape,
    /// Half a surrogate pair.
    #[error("half of a surrogate pair (characters beyond U+FFFF need both, \\uD83D\\uDE00)")]
    LoneSurrogate,
    /// A number that JSON does not allow.
    #[error("malformed number")]
    MalformedNumber,
    /// A number that no double can hold.
    #[error("number out of range; write it as a string")]
    NumberOutOfRange,
    /// Nested too deep.
    #[error("nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// Not UTF-8.
    #[error("not UTF-8; save the file as UTF-8")]
    NotUtf8,
}

/// Reads one relaxed JSON text in UTF-8.
///
/// # Errors
/// [`SyntaxError`] with the line and column of the first problem.
pub fn parse(text: &[u8]) -> Result<Value, SyntaxError> {
    let utf8 = match std::str::from_utf8(text) {
        Ok(utf8) => utf8,
        Err(error) => return Err(locate(text, error.valid_up_to(), Problem::NotUtf8)),
    };
    let mut parser = Parser { text: utf8, position: 0 };
    parser.document().map_err(|(position, problem)| locate(text, position, problem))
}

fn locate(text: &[u8], position: usize, problem: Problem) -> SyntaxError {
    let before = text.get(..position).unwrap_or(text);
    let line_start = memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1);
    let in_line = before.get(line_start..).unwrap_or_default();
    SyntaxError {
        line: memchr::memchr_iter(b'\n', before).count() + 1,
        column: String::from_utf8_lossy(in_line).chars().count() + 1,
        problem,
    }
}

type Parsed<T> = Result<T, (usize, Problem)>;

struct Parser<'a> {
    text: &'a str,
    position: usize,
}

impl Parser<'_> {
    fn document(&mut self) -> Parsed<Value> {
        self.skip_space();
        let value = self.value(0)?;
        self.skip_space();
        match self.peek() {
            None => Ok(value),
            Some(_) => self.fail(Problem::TrailingText),
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.position).copied()
    }

    fn eat(&mut self, octet: u8) -> bool {
        let there = self.peek() == Some(octet);
        self.position += usize::from(there);
        there
    }

    fn eat_digits(&mut self) -> usize {
        let start = self.position;
        while self.peek().is_some_and(|octet| octet.is_ascii_digit()) {
            self.position += 1;
        }
        self.position - start
    }

    fn fail<T>(&self, problem: Problem) -> Parsed<T> {
        Err((self.position, problem))
    }

    fn skip_space(&mut self) {
        loop {
            match self.peek() {
                Some(b' ' | b'\t' | b'\r' | b'\n') => self.position += 1,
                Some(b'#') => {
                    let rest = self.text.as_bytes().get(self.position..).unwrap_or_default();
                    self.position += memchr::memchr(b'\n', rest).unwrap_or(rest.len());
                }
                _ => return,
            }
        }
    }

    fn value(&mut self, depth: usize) -> Parsed<Value> {
        match self.peek() {
            Some(b'[' | b'{') if depth >= MAX_DEPTH => self.fail(Problem::TooDeep),
            Some(b'[') => self.array(depth + 1),
            Some(b'{') => self.object(depth + 1),
            Some(b'"') => self.string().map(Value::String),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => self.literal(),
        }
    }

    fn literal(&mut self) -> Parsed<Value> {
        let rest = self.text.get(self.position..).unwrap_or_default();
        for (word, value) in
            [("null", Value::Null), ("true", Value::Bool(true)), ("false", Value::Bool(false))]
        {
            if rest.starts_with(word) {
                self.position += word.len();
                return Ok(value);
            }
        }
        self.fail(Problem::ExpectedValue)
    }

    fn array(&mut self, depth: usize) -> Parsed<Value> {
        self.position += 1;
        let mut items = Vec::new();
        loop {
            self.skip_space();
            // An array may end in a comma, but not consist of only a comma.
            if self.eat(b']') {
                return Ok(Value::Array(items));
            }
            items.push(self.value(depth)?);
            self.skip_space();
            if self.eat(b',') {
                continue;
            }
            return match self.eat(b']') {
                true => Ok(Value::Array(items)),
                false => self.fail(Problem::ExpectedCommaOrBracket),
            };
        }
    }

    fn object(&mut self, depth: usize) -> Parsed<Value> {
        self.position += 1;
        let mut members = Map::new();
        loop {
            self.skip_space();
            if self.eat(b'}') {
                return Ok(Value::Object(members));
            }
            if self.peek() != Some(b'"') {
                return self.fail(Problem::ExpectedKey);
            }
            let key = self.string()?;
            self.skip_space();
            if !self.eat(b':') {
                return self.fail(Problem::ExpectedColon);
            }
            self.skip_space();
            let value = self.value(depth)?;
            members.insert(key, value);
            self.skip_space();
            if self.eat(b',') {
                continue;
            }
            return match self.eat(b'}') {
                true => Ok(Value::Object(members)),
                false => self.fail(Problem::ExpectedCommaOrBrace),
            };
        }
    }

    fn string(&mut self) -> Parsed<String> {
        let opening = self.position;
        self.position += 1;
        let mut out = String::new();
        let mut plain_from = self.position;
        loop {
            let Some(octet) = self.peek() else {
                return Err((opening, Problem::UnclosedString));
            };
            match octet {
                b'"' | b'\\' => {
                    out.push_str(self.text.get(plain_from..self.position).unwrap_or_default());
                    if self.eat(b'"') {
                        return Ok(out);
                    }
                    out.push(self.escape(opening)?);
                    plain_from = self.position;
                }
                b'\t' | 0x20.. => self.position += 1,
                _ => return self.fail(Problem::ControlCharacter),
            }
        }
    }

    fn escape(&mut self, opening: usize) -> Parsed<char> {
        let start = self.position;
        self.position += 1;
        let Some(letter) = self.peek() else {
            return Err((opening, Problem::UnclosedString));
        };
        self.position += 1;
        Ok(match letter {
            b'"' | b'\\' | b'/' => char::from(letter),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode_escape(start),
            _ => return Err((start, Problem::UnknownEscape)),
        })
    }

    fn unicode_escape(&mut self, start: usize) -> Parsed<char> {
        let first = self.four_hex_digits(start)?;
        let code_point = match first {
            0xD800..=0xDBFF => {
                if !(self.eat(b'\\') && self.eat(b'u')) {
                    return Err((start, Problem::LoneSurrogate));
                }
                match self.four_hex_digits(start)? {
                    second @ 0xDC00..=0xDFFF => {
                        0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00)
                    }
                    _ => return Err((start, Problem::LoneSurrogate)),
                }
            }
            _ => first,
        };
        char::from_u32(code_point).ok_or((start, Problem::LoneSurrogate))
    }

    fn four_hex_digits(&mut self, start: usize) -> Parsed<u32> {
        let digits = self.text.get(self.position..self.position + 4);
        let digits = digits.filter(|digits| digits.bytes().all(|d| d.is_ascii_hexdigit()));
        let number = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        self.position += 4;
        number.ok_or((start, Problem::UnknownEscape))
    }

    fn number(&mut self) -> Parsed<Value> {
        let start = self.position;
        let malformed = Err((start, Problem::MalformedNumber));
        self.eat(b'-');
        let leading_zero = self.peek() == Some(b'0');
        match self.eat_digits() {
            0 => return malformed,
            1 => {}
            _ if leading_zero => return malformed,
            _ => {}
        }
        let mut is_integer = true;
        if self.eat(b'.') {
            is_integer = false;
            if self.eat_digits() == 0 {
                return malformed;
            }
        }
        if self.eat(b'e') || self.eat(b'E') {
            is_integer = false;
            if !self.eat(b'+') {
                self.eat(b'-');
            }
            if self.eat_digits() == 0 {
                return malformed;
            }
        }
        let digits = self.text.get(start..self.position).unwrap_or_default();
        if is_integer {
            return Ok(integer(digits));
        }
        digits
            .parse()
            .ok()
            .and_then(Number::from_f64)
            .map(Value::Number)
            .ok_or((start, Problem::NumberOutOfRange))
    }
}

fn integer(digits: &str) -> Value {
    if let Ok(signed) = digits.parse::<i64>() {
        Value::from(signed)
    } else if let Ok(unsigned) = digits.parse::<u64>() {
        Value::from(unsigned)
    } else {
        Value::from(digits)
    }
}

#[cfg(test)]
mod tests {
    use super::super::pretty::to_pretty;
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn error_at(text: &[u8]) -> (usize, usize, Problem) {
        let error = parse(text).unwrap_err();
        (error.line, error.column, error.problem)
    }

    #[test]
    fn comments_and_trailing_commas_are_allowed() {
        let text = b"# network\n{ \"seeds\" : [\"a:1\", # first\n \"b:2\",\n ], } # end";
        assert_eq!(parse(text).unwrap(), json!({"seeds": ["a:1", "b:2"]}));
    }

    #[test]
    fn a_comma_alone_is_no_list() {
        assert_eq!(error_at(b"[,]"), (1, 2, Problem::ExpectedValue));
        assert_eq!(error_at(b"{,}"), (1, 2, Problem::ExpectedKey));
        assert_eq!(error_at(b"{\"a\":1,,}"), (1, 8, Problem::ExpectedKey));
    }

    #[test]
    fn integers_beyond_64_bits_are_strings_of_their_digits() {
        let parsed = parse(b"[18446744073709551615,18446744073709551616,-9223372036854775809,-0]");
        let expected =
            json!([18446744073709551615_u64, "18446744073709551616", "-9223372036854775809", 0]);
        assert_eq!(parsed.unwrap(), expected);
    }

    #[test]
    fn floats_and_exponents_are_numbers() {
        assert_eq!(parse(b"[1.5,1E+2,2e-1]").unwrap(), json!([1.5, 100.0, 0.2]));
        assert_eq!(error_at(b"[1e999]"), (1, 2, Problem::NumberOutOfRange));
    }

    #[test]
    fn malformed_numbers_are_refused() {
        for text in ["[01]", "[1.]", "[-]", "[1e]", "[-.5]"] {
            assert_eq!(error_at(text.as_bytes()), (1, 2, Problem::MalformedNumber), "{text}");
        }
        assert_eq!(error_at(b"[+1]"), (1, 2, Problem::ExpectedValue));
        assert_eq!(error_at(b"[.5]"), (1, 2, Problem::ExpectedValue));
    }

    #[test]
    fn escapes_and_literal_tabs_are_read() {
        let parsed = parse(b"[\"\\u00e9\\ud83d\\ude00\\n\\/\",\"a\tb\",\"\\u0000\"]").unwrap();
        assert_eq!(parsed, json!(["\u{e9}\u{1f600}\n/", "a\tb", "\0"]));
    }

    #[test]
    fn broken_strings_are_located() {
        assert_eq!(error_at(b"[\n  \"abc"), (2, 3, Problem::UnclosedString));
        assert_eq!(error_at(b"[\"a\nb\"]"), (1, 4, Problem::ControlCharacter));
        assert_eq!(error_at(b"[\"\\x\"]"), (1, 3, Problem::UnknownEscape));
        assert_eq!(error_at(b"[\"\\ud800\"]"), (1, 3, Problem::LoneSurrogate));
        assert_eq!(error_at(b"[\"\\ud800\\u0041\"]"), (1, 3, Problem::LoneSurrogate));
        assert_eq!(error_at(b"[\"\\udc00\"]"), (1, 3, Problem::LoneSurrogate));
        assert_eq!(error_at(b"[\"\\u12\xc3\xa9\"]"), (1, 3, Problem::UnknownEscape));
    }

    #[test]
    fn errors_count_columns_in_characters() {
        let text = "{\"\u{e9}\u{e9}\": 1\n \"\u{e9}\" 2}".as_bytes();
        assert_eq!(error_at(text), (2, 2, Problem::ExpectedCommaOrBrace));
        assert_eq!(error_at(b"\xc3\xa9\xff"), (1, 2, Problem::NotUtf8));
        assert_eq!(error_at("{\"\u{e9}\" 2}".as_bytes()), (1, 6, Problem::ExpectedColon));
    }

    #[test]
    fn text_after_the_end_is_refused() {
        assert_eq!(error_at(b"[1] 2"), (1, 5, Problem::TrailingText));
        assert_eq!(error_at(b"[1 2]"), (1, 4, Problem::ExpectedCommaOrBracket));
    }

    #[test]
    fn an_empty_input_is_refused() {
        assert_eq!(error_at(b""), (1, 1, Problem::ExpectedValue));
        assert_eq!(error_at(b"# only\n"), (2, 1, Problem::ExpectedValue));
        assert_eq!(error_at(b"nul"), (1, 1, Problem::ExpectedValue));
    }

    #[test]
    fn nesting_ends_at_512_levels() {
        let nested = |depth: usize| [b"[".repeat(depth), b"]".repeat(depth)].concat();
        assert!(parse(&nested(512)).is_ok());
        assert_eq!(error_at(&nested(513)).2, Problem::TooDeep);
    }

    #[test]
    fn the_last_of_two_equal_keys_counts() {
        assert_eq!(parse(b"{\"a\":1,\"a\":2}").unwrap(), json!({"a": 2}));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-1e300..1e300).prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                proptest::collection::vec((any::<String>(), inner), 0..6)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(value in any_json()) {
            prop_assert_eq!(parse(to_pretty(&value).as_bytes()).unwrap(), value.clone());
            prop_assert_eq!(parse(value.to_string().as_bytes()).unwrap(), value);
        }

        #[test]
        fn no_octets_make_it_panic(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&octets);
        }

        #[test]
        fn no_near_miss_makes_it_panic(text in r#"([\[\]{}",:#\\u0d8e\n -]|true|null|\\ud8){0,60}"#) {
            let _ = parse(text.as_bytes());
        }
    }
}
