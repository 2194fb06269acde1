//! Values in the notation that the Perl co-process understands, and their comparison.
//!
//! A value is a sequence of words separated by spaces: `u` undef, `t` and `f` booleans, `i42` an integer,
//! `d3ff8000000000000` a float by its bits, `o6162` a string of octets, `c616263` a string of
//! characters in generalized UTF-8, `[ ... ]` an array, `{ key value ... }` a hash.

use aemp::value::packed::{self, Reader, Token};
use aemp::value::{Str, StrKind, StrRef};
pub use aemp::wire::hex::encode as hex;
use std::fmt;

/// A Perl value.
#[derive(Debug, Clone)]
pub enum Neutral {
    /// Perl's undef.
    Undef,
    /// A boolean object.
    Bool(bool),
    /// An integer from -2^63 to 2^64-1.
    Int(i128),
    /// A float.
    Float(f64),
    /// A string.
    Str(Str),
    /// An array.
    Array(Vec<Neutral>),
    /// A hash without duplicate keys.
    Hash(Vec<(Str, Neutral)>),
    /// A value that only Perl can make; the co-process accepts it, but never answers with one.
    OnlyPerl(OnlyPerl),
}

/// Scalars that were used as another type than their own, and other values peculiar to Perl.
#[derive(Debug, Clone)]
pub enum OnlyPerl {
    /// An integer that was printed once.
    PrintedInteger(i64),
    /// A string of octets that was used as a number once.
    CountedString(Vec<u8>),
    /// The result of a comparison.
    Comparison(bool),
    /// A reference to 0 or 1.
    ScalarRef(bool),
}

/// What a framing may do to the numbers in a value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Numbers {
    /// Nothing: integers arrive as integers and floats as floats, bit for bit.
    Exact,
    /// They may become strings or integers that Perl reads as exactly the same number.
    AnyForm,
    /// Like [`Numbers::AnyForm`], and floats may differ by this fraction.
    Rounded(f64),
}

impl Neutral {
    /// All values in a line of the notation.
    pub fn parse_line(line: &str) -> Vec<Neutral> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut rest = words.as_slice();
        let mut values = Vec::new();
        while !rest.is_empty() {
            values.push(Neutral::parse(&mut rest));
        }
        values
    }

    fn parse(words: &mut &[&str]) -> Neutral {
        let word = take(words);
        match word.split_at(1) {
            ("u", _) => Neutral::Undef,
            ("t", _) => Neutral::Bool(true),
            ("f", _) => Neutral::Bool(false),
            ("i", digits) => Neutral::Int(digits.parse().unwrap()),
            ("d", bits) => Neutral::Float(f64::from_bits(u64::from_str_radix(bits, 16).unwrap())),
            ("o" | "c", _) => Neutral::Str(parse_str(word)),
            ("[", _) => {
                let mut items = Vec::new();
                while words[0] != "]" {
                    items.push(Neutral::parse(words));
                }
                take(words);
                Neutral::Array(items)
            }
            ("{", _) => {
                let mut pairs = Vec::new();
                while words[0] != "}" {
                    let key = parse_str(take(words));
                    pairs.push((key, Neutral::parse(words)));
                }
                take(words);
                Neutral::Hash(pairs)
            }
            _ => panic!("`{word}` is no value"),
        }
    }

    /// Reads one value from packed form.
    pub fn from_packed(reader: &mut Reader<'_>) -> Neutral {
        match reader.token().unwrap() {
            Token::Undef => Neutral::Undef,
            Token::Bool(bool) => Neutral::Bool(bool),
            Token::UInt(number) => Neutral::Int(number.into()),
            Token::NInt(number) => Neutral::Int(number.into()),
            Token::Float(number) => Neutral::Float(number),
            Token::Exact(number) => Neutral::Str(number.to_string().into()),
            Token::Str(string) => Neutral::Str(string.to_owned()),
            Token::Array(len) => {
                Neutral::Array((0..len).map(|_| Neutral::from_packed(reader)).collect())
            }
            Token::Hash(len) => Neutral::Hash(
                (0..len)
                    .map(|_| {
                        let Token::Str(key) = reader.token().unwrap() else {
                            panic!("a key that is not a string");
                        };
                        (key.to_owned(), Neutral::from_packed(reader))
                    })
                    .collect(),
            ),
        }
    }

    /// Appends the value in packed form. Panics for values that only Perl can make.
    pub fn put(&self, out: &mut Vec<u8>) {
        match self {
            Neutral::Undef => packed::put_undef(out),
            Neutral::Bool(bool) => packed::put_bool(out, *bool),
            Neutral::Int(number) => match u64::try_from(*number) {
                Ok(number) => packed::put_uint(out, number),
                Err(_) => packed::put_int(out, i64::try_from(*number).unwrap()),
            },
            Neutral::Float(number) => packed::put_float(out, *number),
            Neutral::Str(string) => packed::put_str(out, string.as_ref()),
            Neutral::Array(items) => {
                packed::put_array(out, items.len());
                for item in items {
                    item.put(out);
                }
            }
            Neutral::Hash(pairs) => {
                packed::put_hash(out, pairs.len());
                for (key, value) in pairs {
                    packed::put_str(out, key.as_ref());
                    value.put(out);
                }
            }
            Neutral::OnlyPerl(_) => panic!("{self} has no packed form"),
        }
    }

    /// Whether a value that was sent as `self` may arrive as `received`.
    pub fn arrives_as(&self, received: &Neutral, numbers: Numbers) -> bool {
        match (self, received) {
            (Neutral::Undef, Neutral::Undef) => true,
            (Neutral::Bool(sent), Neutral::Bool(received)) => sent == received,
            (Neutral::Str(sent), Neutral::Str(received)) => sent == received,
            (Neutral::Array(sent), Neutral::Array(received)) => {
                sent.len() == received.len()
                    && (sent.iter().zip(received)).all(|(s, r)| s.arrives_as(r, numbers))
            }
            (Neutral::Hash(sent), Neutral::Hash(received)) => {
                sent.len() == received.len()
                    && sent.iter().all(|(key, sent)| {
                        (received.iter().find(|(other, _)| other == key))
                            .is_some_and(|(_, received)| sent.arrives_as(received, numbers))
                    })
            }
            (Neutral::Int(sent), _) => integer_arrives(*sent, received, numbers),
            (Neutral::Float(sent), _) => float_arrives(*sent, received, numbers),
            (Neutral::OnlyPerl(sent), _) => sent.arrives_as(received),
            _ => false,
        }
    }
}

impl OnlyPerl {
    fn arrives_as(&self, received: &Neutral) -> bool {
        let text = |expected: &[u8]| matches!(received, Neutral::Str(string) if string.as_ref() == StrRef::octets(expected));
        let int = |expected: i128| matches!(received, Neutral::Int(number) if *number == expected);
        match self {
            OnlyPerl::PrintedInteger(number) => {
                int((*number).into()) || text(number.to_string().as_bytes())
            }
            OnlyPerl::CountedString(string) => text(string),
            OnlyPerl::Comparison(true) => text(b"1"),
            OnlyPerl::Comparison(false) => text(b""),
            OnlyPerl::ScalarRef(bool) => {
                int((*bool).into()) || matches!(received, Neutral::Bool(got) if got == bool)
            }
        }
    }
}

fn integer_arrives(sent: i128, received: &Neutral, numbers: Numbers) -> bool {
    match received {
        Neutral::Int(received) => sent == *received,
        Neutral::Str(digits) if numbers != Numbers::Exact => {
            digits.to_text_lossy().parse() == Ok(sent)
        }
        _ => false,
    }
}

fn float_arrives(sent: f64, received: &Neutral, numbers: Numbers) -> bool {
    let received = match received {
        Neutral::Float(received) => *received,
        Neutral::Int(received) if numbers != Numbers::Exact => *received as f64,
        Neutral::Str(digits) if numbers != Numbers::Exact => match digits.to_text_lossy().parse() {
            Ok(received) => received,
            Err(_) => return false,
        },
        _ => return false,
    };
    if sent.is_nan() || received.is_nan() {
        return sent.is_nan() && received.is_nan();
    }
    match numbers {
        Numbers::Exact => sent.to_bits() == received.to_bits(),
        Numbers::AnyForm => sent == received,
        Numbers::Rounded(part) => {
            let (low, high) = (sent * (1.0 - part), sent * (1.0 + part));
            (low.min(high)..=low.max(high)).contains(&received)
        }
    }
}

impl fmt::Display for Neutral {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Neutral::Undef => f.write_str("u"),
            Neutral::Bool(true) => f.write_str("t"),
            Neutral::Bool(false) => f.write_str("f"),
            Neutral::Int(number) => write!(f, "i{number}"),
            Neutral::Float(number) => write!(f, "d{:016x}", number.to_bits()),
            Neutral::Str(string) => f.write_str(&show_str(string.as_ref())),
            Neutral::Array(items) => {
                f.write_str("[")?;
                for item in items {
                    write!(f, " {item}")?;
                }
                f.write_str(" ]")
            }
            Neutral::Hash(pairs) => {
                f.write_str("{")?;
                for (key, value) in pairs {
                    write!(f, " {} {value}", show_str(key.as_ref()))?;
                }
                f.write_str(" }")
            }
            Neutral::OnlyPerl(OnlyPerl::PrintedInteger(number)) => write!(f, "n{number}"),
            Neutral::OnlyPerl(OnlyPerl::CountedString(string)) => write!(f, "q{}", hex(string)),
            Neutral::OnlyPerl(OnlyPerl::Comparison(true)) => f.write_str("y"),
            Neutral::OnlyPerl(OnlyPerl::Comparison(false)) => f.write_str("z"),
            Neutral::OnlyPerl(OnlyPerl::ScalarRef(bool)) => write!(f, "r{}", u8::from(*bool)),
        }
    }
}

fn take<'a>(words: &mut &[&'a str]) -> &'a str {
    let (word, rest) = words.split_first().expect("the value is cut off");
    *words = rest;
    word
}

fn parse_str(word: &str) -> Str {
    let octets = unhex(&word[1..]);
    match &word[..1] {
        "o" => StrRef::octets(&octets).to_owned(),
        "c" => StrRef::generalized(&octets)
            .unwrap_or_else(|| panic!("{word} is no generalized UTF-8"))
            .to_owned(),
        _ => panic!("`{word}` is not a string"),
    }
}

fn show_str(string: StrRef<'_>) -> String {
    let kind = match string.kind() {
        StrKind::Octets => 'o',
        StrKind::Text => 'c',
    };
    format!("{kind}{}", hex(string.data()))
}

/// Octets from two hex digits each.
pub fn unhex(text: &str) -> Vec<u8> {
    aemp::wire::hex::decode(text).unwrap_or_else(|| panic!("`{text}` is not hexadecimal"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_survives_the_notation_and_packed_form() {
        let line = "[ u t f i-1 i18446744073709551615 d3fb999999999999a oe9 cc3a9 ceda080 \
                    { o c o61 [ ] } ]";
        let [value] = &Neutral::parse_line(line)[..] else {
            panic!("one value");
        };
        assert_eq!(value.to_string(), line);
        let mut packed = Vec::new();
        value.put(&mut packed);
        let read = Neutral::from_packed(&mut Reader::new(&packed));
        assert_eq!(read.to_string(), line);
        assert!(value.arrives_as(&read, Numbers::Exact));
    }

    #[test]
    fn numbers_and_strings_are_compared_as_the_framing_allows() {
        let same = |sent: &str, received: &str, numbers| {
            let values = Neutral::parse_line(&format!("{sent} {received}"));
            values[0].arrives_as(&values[1], numbers)
        };
        assert!(same("oe9", "cc3a9", Numbers::Exact));
        assert!(!same("oe9", "o65", Numbers::Exact));
        assert!(!same("i42", "o3432", Numbers::Exact));
        assert!(same("i42", "o3432", Numbers::AnyForm));
        assert!(!same("o3432", "i42", Numbers::Rounded(1e-14)));
        assert!(!same("d3ff8000000000000", "d3ff8000000000001", Numbers::AnyForm));
        assert!(same("d3ff8000000000000", "d3ff8000000000001", Numbers::Rounded(1e-14)));
        assert!(!same("{ o61 u }", "{ o62 u }", Numbers::Exact));
        assert!(!same("u", "o", Numbers::AnyForm));
    }
}
