//! JSON according to RFC 8259, split anywhere; garbage is refused at its first octets.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod framing_support;

use aemp::wire::framing::{Decoder, Framing, FramingError, FramingLimits, Step};
use framing_support::*;

/// Decodes `["p",JSON]`, at once and octet by octet.
fn value(json: &[u8]) -> Result<Tree, FramingError> {
    let wire = [b"[\"p\",", json, b"]"].concat();
    let whole = decode(Framing::Json, &wire);
    let octets = decode_pieces(Framing::Json, FramingLimits::default(), wire.chunks(1));
    assert_eq!(whole, octets, "{}", wire.escape_ascii());
    let mut packets = whole?;
    assert_eq!(packets.len(), 1, "{} is complete", wire.escape_ascii());
    assert_eq!(packets[0].len(), 2);
    Ok(packets.remove(0).remove(1))
}

#[test]
fn numbers_keep_their_kind() {
    use Tree::{Float, Int};
    for (json, expected) in [
        ("0", Int(0)),
        ("-0", Int(0)),
        ("42", Int(42)),
        ("-1", Int(-1)),
        ("18446744073709551615", Int(u64::MAX.into())),
        ("-9223372036854775808", Int(i64::MIN.into())),
        // Beyond 64 bits they are strings, as in Perl.
        ("18446744073709551616", Tree::text("18446744073709551616")),
        ("-9223372036854775809", Tree::text("-9223372036854775809")),
        ("123456789012345678901234567890", Tree::text("123456789012345678901234567890")),
        ("1.5", Float(1.5)),
        ("1.0", Float(1.0)),
        ("-0.0", Float(-0.0)),
        ("1e2", Float(100.0)),
        ("1E+2", Float(100.0)),
        ("25e-1", Float(2.5)),
        ("0.1", Float(0.1)),
        ("5e-324", Float(5e-324)),
        ("1.7976931348623157e308", Float(f64::MAX)),
        ("1e400", Float(f64::INFINITY)),
    ] {
        assert_eq!(value(json.as_bytes()), Ok(expected), "{json}");
    }
}

#[test]
fn strings_are_unescaped() {
    for (json, expected) in [
        (&br#""""#[..], &b""[..]),
        (br#""plain""#, b"plain"),
        (br#""\"\\\/\b\f\n\r\t""#, b"\"\\/\x08\x0c\n\r\t"),
        (br#""a\u0041\u00e9\u20acz""#, "aAé€z".as_bytes()),
        (br#""\ud83d\ude00\uD83D\uDE00""#, "😀😀".as_bytes()),
        (br#""\u0000""#, b"\0"),
        (b"\"\x7f\"", b"\x7f"),
        ("\"é € 😀\"".as_bytes(), "é € 😀".as_bytes()),
        (b"\"\xef\xbf\xbe\"", b"\xef\xbf\xbe"),
        // Generalized UTF-8.
        (b"\"\xed\xa0\x80\"", b"\xed\xa0\x80"),
        (b"\"\xf4\x90\x80\x80x\"", b"\xf4\x90\x80\x80x"),
        (b"\"\xf8\x88\x80\x80\x80\"", b"\xf8\x88\x80\x80\x80"),
        (b"\"\xfc\x84\x80\x80\x80\x80\"", b"\xfc\x84\x80\x80\x80\x80"),
        (b"\"\xfe\x82\x80\x80\x80\x80\x80\"", b"\xfe\x82\x80\x80\x80\x80\x80"),
        // Halves of surrogate pairs.
        (br#""\ud800""#, b"\xed\xa0\x80"),
        (br#""\ud800x""#, b"\xed\xa0\x80x"),
        (br#""\udc00""#, b"\xed\xb0\x80"),
        (br#""\ud800\u0041""#, b"\xed\xa0\x80A"),
        (br#""\ud800\n""#, b"\xed\xa0\x80\n"),
        (br#""\ud83d\ud83d\ude00""#, b"\xed\xa0\xbd\xf0\x9f\x98\x80"),
    ] {
        assert_eq!(value(json), Ok(Tree::Str(expected.to_vec())), "{}", json.escape_ascii());
    }
}

#[test]
fn long_strings_are_scanned_in_runs() {
    for len in 0..40 {
        for special in ["\\n", "é", "\\u00e9", "😀", "\u{7f}"] {
            let json = format!("\"{}{special}{}\"", "x".repeat(len), "y".repeat(40 - len));
            let expected: String = serde_json::from_str(&json).unwrap();
            assert_eq!(value(json.as_bytes()), Ok(Tree::text(&expected)), "{json}");
        }
    }
}

#[test]
fn arrays_and_hashes_nest() {
    let json = br#" [ ] "#;
    assert_eq!(value(json), Ok(Tree::Array(vec![])));
    let json = b" {\t} ";
    assert_eq!(value(json), Ok(Tree::Hash([].into())));
    let json = br#"{"a":[1,{"b":null},[true , false]],"":{"c":"d"}}"#;
    let inner = |pairs: Vec<(&str, Tree)>| {
        Tree::Hash(pairs.into_iter().map(|(key, value)| (key.into(), value)).collect())
    };
    let booleans = Tree::Array(vec![Tree::Bool(true), Tree::Bool(false)]);
    let list = Tree::Array(vec![Tree::Int(1), inner(vec![("b", Tree::Undef)]), booleans]);
    let expected = inner(vec![("a", list), ("", inner(vec![("c", Tree::text("d"))]))]);
    assert_eq!(value(json), Ok(expected));
    assert_eq!(value(b"[1]"), Ok(Tree::Array(vec![Tree::Int(1)])));
}

#[test]
fn packets_follow_each_other_with_or_without_white_space() {
    let wire = b" \t\r\n[\"a\"][ ] [\"\"]\n[1,2] ";
    let expected =
        vec![vec![Tree::text("a")], vec![], vec![Tree::text("")], vec![Tree::Int(1), Tree::Int(2)]];
    assert_eq!(decode(Framing::Json, wire), Ok(expected.clone()));
    let octets = decode_pieces(Framing::Json, FramingLimits::default(), wire.chunks(1));
    assert_eq!(octets, Ok(expected));
}

#[test]
fn invalid_json_is_refused() {
    for wrong in [
        "01",
        "-",
        "-01",
        "1.",
        ".5",
        "+1",
        "1e",
        "1e+",
        "1.e1",
        "--1",
        "1-1",
        "1.2.3",
        "1e1e1",
        "0x10",
        "inf",
        "-inf",
        "nan",
        "nul",
        "nuLl",
        "trux",
        "falsy",
        "nullx",
        "True",
        "\"a\nb\"",
        "\"a\tb\"",
        "\"a\0b\"",
        "\"\\x\"",
        "\"\\u12g4\"",
        "\"\\'\"",
        "'a'",
        "1,",
        ",1",
        "1 2",
        "1:2",
        "[1,]",
        "[,1]",
        "[1}",
        "{\"a\":1]",
        "{\"a\":1,}",
        "{a:1}",
        "{\"a\"}",
        "{\"a\" 1}",
        "{1:2}",
        "{,}",
        "{\"a\":}",
        "}",
        "#",
        "/**/1",
        "\u{feff}1",
    ] {
        assert!(value(wrong.as_bytes()).is_err(), "{wrong}");
    }
    for wrong in [
        &b"\"\xff\""[..],
        b"\"\xc0\x80\"",
        b"\"\x80\"",
        b"\"\xe0\x80\x80\"",
        b"\"\xc3\"",
        b"\"\xe2\x82\"",
        b"\"\xe2\x82x\"",
        b"\"\xf0\x9f\x98\\n\"",
    ] {
        let error = value(wrong).unwrap_err();
        assert_eq!(error, FramingError::NotUtf8, "{}", wrong.escape_ascii());
    }
}

#[test]
fn anything_but_an_array_with_a_name_first_is_refused_at_its_first_octets() {
    for wrong in [
        &b"{"[..],
        b"\"",
        b"nonsense",
        b"\xff",
        b"1",
        b"]",
        b"t",
        b"\0",
        b"\x0c[",
        b"\xef",
        b"#",
        b"[{",
        b"[[",
        b"[n",
        b"[t",
        b"[f",
        b"[\xff",
        b"[,",
        b"[}",
        b"[1]{",
        b" [ {",
        b"{\"a\":1}",
        b"[{}]",
        b"[[\"x\"]]",
        b"\"str\"",
    ] {
        let error = decode(Framing::Json, wrong).unwrap_err();
        assert_eq!(error, FramingError::NotAPacket, "{}", wrong.escape_ascii());
    }
}

#[test]
fn brackets_without_end_are_refused() {
    let error = decode(Framing::Json, &[b'['; 600]).unwrap_err();
    assert_eq!(error, FramingError::NotAPacket);
    let wire = [b"[\"p\",", &[b'['; 600][..]].concat();
    let error = decode(Framing::Json, &wire).unwrap_err();
    assert_eq!(error, FramingError::TooDeep { limit: 512 });
}

#[test]
fn input_is_consumed_except_for_an_incomplete_token() {
    let mut decoder = Decoder::new(Framing::Json, FramingLimits::default());
    let mut more = |input: &[u8], expected: usize| {
        let step = decoder.next(input).unwrap();
        assert!(
            matches!(step, Step::More { used } if used == expected),
            "{}: {step:?}",
            input.escape_ascii()
        );
    };
    more(b"  ", 2);
    more(b"[\"port\",[1,{\"key\" : tr", 20);
    more(b"tru", 0);
    more(b"true,\"\\u12", 5);
    more(b"\"\\u1234", 0);
    more(b"\"\\u1234 and \xe2\x82", 0);
    more(b"\"\\u1234 and \xe2\x82\xac\":12", 17);
    more(b"12e", 0);
    let step = decoder.next(b"12e2}]][").unwrap();
    assert!(matches!(step, Step::Packet { used: 7, elements } if elements.len() == 2));
}

#[test]
fn the_limit_counts_the_octets_of_one_packet() {
    let limits = FramingLimits { packet: 20, nesting: 512 };
    let decode = |wire: &[u8]| {
        let whole = decode_pieces(Framing::Json, limits, [wire]);
        assert_eq!(whole, decode_pieces(Framing::Json, limits, wire.chunks(1)));
        whole
    };
    let twenty = b"[\"a\",\"123456789012\"]";
    let thrice = [&twenty[..], b" ", twenty, b"                                 ", twenty].concat();
    assert_eq!(decode(&thrice).map(|packets| packets.len()), Ok(3));
    let too_long = Err(FramingError::TooLong { limit: 20 });
    assert_eq!(decode(b"[\"a\",\"1234567890123\"]"), too_long);
    assert_eq!(decode(b"[\"a\",\"1234567890123456789"), too_long);
    assert_eq!(decode(b"[\"a\",1,1,1,1,1,1,1,1,1"), too_long);
    assert_eq!(decode(b"[\"a\",1                     "), too_long);
    assert_eq!(decode(b"[\"a\",12345678901234567890"), too_long);
}

#[test]
fn sent_json_is_what_perl_can_take() {
    let json = |value: Tree, octets: bool| {
        let wire = encode(Framing::Json, &[value], octets);
        String::from_utf8(wire[1..wire.len() - 1].to_vec()).unwrap()
    };
    for (number, expected) in [
        (f64::INFINITY, "\"Inf\""),
        (f64::NEG_INFINITY, "\"-Inf\""),
        (f64::NAN, "\"NaN\""),
        (3.0, "3.0"),
        (-0.0, "-0.0"),
        (0.1 + 0.2, "0.30000000000000004"),
        (1e16, "1e16"),
        (1e-7, "1e-7"),
    ] {
        assert_eq!(json(Tree::Float(number), false), expected);
    }
    let all: String = (0..=0xff_u8).map(char::from).collect();
    let escaped = json(Tree::text(&all), true);
    assert_eq!(escaped, json(Tree::text(&all), false), "octets and text are one string");
    assert_eq!(serde_json::from_str::<String>(&escaped).unwrap(), all);
    assert!(
        escaped.starts_with(r#""\u0000\u0001\u0002\u0003\u0004\u0005\u0006\u0007\b\t\n\u000b\f\r"#)
    );
    assert!(escaped.contains("\\u001f !\\\"#") && escaped.contains("[\\\\]"));
}
