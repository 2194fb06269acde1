//! Values that real Perl nodes send, decoded as the Rust types that users would choose.
#![allow(clippy::unwrap_used)]

use aemp::value::packed::{Reader, Token};
use aemp::value::{
    DecodeError, DecodeErrorKind, Elements, Hash, Integer, NodeId, Packed, PortId, Str, StrRef,
    Value, from_value, put_value,
};
use aemp::wire::hex;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_bytes::ByteBuf;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;

/// The value of one recorded packet `["port1", "tag", VALUE]`, as CBOR::XS encoded it.
struct Recorded {
    name: String,
    octets: Vec<u8>,
}

impl Recorded {
    fn elements(&self) -> Elements<'_> {
        let mut reader = Reader::new(&self.octets);
        assert_eq!(reader.token(), Ok(Token::Array(3)));
        Elements::new(3, reader.rest())
    }

    fn ask<'a, T: Deserialize<'a>>(&'a self) -> Result<T, DecodeError> {
        from_value(&mut self.elements().after(2).reader())
    }

    /// The value is `expected` when its type is asked for, alone and as an element.
    #[track_caller]
    fn is<T: DeserializeOwned + PartialEq + Debug>(&self, expected: T) -> &Self {
        match self.ask::<T>() {
            Ok(value) => assert_eq!(value, expected, "{}", self.name),
            Err(error) => panic!("{}: {error}", self.name),
        }
        let (port, tag, value): (NodeId, String, T) = self.elements().decode().unwrap();
        assert_eq!((port.as_str(), &*tag), (StrRef::text("port1"), "tag"));
        assert_eq!(value, expected);
        self
    }

    #[track_caller]
    fn is_no<T: DeserializeOwned + Debug>(&self, message: &str) -> &Self {
        let error = self.ask::<T>().unwrap_err();
        assert_eq!(error.to_string(), message, "{}", self.name);
        self
    }

    /// The integer `n`, in every type that can hold it.
    #[track_caller]
    fn is_integer(&self, n: i128) -> &Self {
        self.is(n.to_string()).is(n as f64);
        self.is(Integer::try_from(n).unwrap());
        self.is(Str::from(n.to_string()));
        self.is_in_range::<u8>(n).is_in_range::<i8>(n);
        self.is_in_range::<u16>(n).is_in_range::<i16>(n);
        self.is_in_range::<u32>(n).is_in_range::<i32>(n);
        self.is_in_range::<u64>(n).is_in_range::<i64>(n);
        self.is(n).is_in_range::<u128>(n)
    }

    #[track_caller]
    fn is_in_range<T>(&self, n: i128) -> &Self
    where
        T: DeserializeOwned + PartialEq + Debug + TryFrom<i128>,
    {
        match T::try_from(n) {
            Ok(expected) => self.is(expected),
            Err(_) => {
                let kind = DecodeErrorKind::OutOfRange {
                    wanted: std::any::type_name::<T>(),
                    number: n.to_string().into(),
                };
                assert_eq!(self.ask::<T>().unwrap_err().kind(), &kind);
                self
            }
        }
    }

    /// A string of code points below 256, which can also be decoded as octets.
    #[track_caller]
    fn is_octets(&self, octets: &[u8]) -> &Self {
        let text: String = octets.iter().map(|&octet| char::from(octet)).collect();
        self.is(ByteBuf::from(octets));
        self.is(octets.to_vec());
        self.is(Str::octets(octets)).is(Str::text(&text));
        self.is(Value::from(Str::octets(octets)));
        self.is(Some(text.clone())).is(text)
    }
}

fn recorded() -> HashMap<String, Recorded> {
    let lines = include_str!("../fixtures/values.jsonl").lines();
    lines
        .map(|line| {
            let line: HashMap<String, String> = serde_json::from_str(line).unwrap();
            let octets = hex::decode(&line["cbor"]).unwrap();
            let name = line["name"].clone();
            (name.clone(), Recorded { name, octets })
        })
        .collect()
}

/// References to scalars are outside of the packed form; the CBOR framing takes what they refer to.
const NOT_PACKED: [&str; 2] = ["scalar ref to 1", "scalar ref to 0"];

const INTEGERS: [(&str, i128); 16] = [
    ("int 0", 0),
    ("int 1", 1),
    ("int -1", -1),
    ("int 23", 23),
    ("int 24", 24),
    ("int 255", 255),
    ("int 256", 256),
    ("int 65535", 65_535),
    ("int 65536", 65_536),
    ("int 2**31-1", 2_147_483_647),
    ("int -2**31", -2_147_483_648),
    ("int 2**32", 4_294_967_296),
    ("int max i64", i64::MAX as i128),
    ("int min i64", i64::MIN as i128),
    ("int max u64", u64::MAX as i128),
    ("float integral", 3),
];

#[derive(Debug, PartialEq, Deserialize)]
struct Sample {
    a: u8,
    b: (u32, String, BTreeMap<String, Option<u32>>),
    absent: Option<String>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct OnlyA {
    a: f64,
}

#[derive(Debug, PartialEq, Deserialize)]
struct OnlyZ {
    z: u32,
}

#[test]
fn every_recorded_value_decodes_as_what_a_user_asks_for() {
    let recorded = recorded();
    let asked = RefCell::new(BTreeSet::from(NOT_PACKED.map(String::from)));
    let value = |name: &str| {
        asked.borrow_mut().insert(name.to_owned());
        &recorded[name]
    };

    value("empty string")
        .is_octets(b"")
        .is(false)
        .is_no::<u32>(r#"wanted u32, found string """#)
        .is_no::<f64>(r#"wanted f64, found string """#)
        .is_no::<char>(r#"wanted a character, found string """#)
        .is_no::<NodeId>("a node ID must not be empty");
    value("ascii")
        .is_octets(b"hello world")
        .is_no::<u64>(r#"wanted u64, found string "hello world""#)
        .is_no::<bool>(r#"wanted bool, found string "hello world""#)
        .is_no::<Vec<u32>>(r#"wanted an array, found string "hello world""#)
        .is_no::<BTreeMap<String, String>>(r#"wanted a hash, found string "hello world""#)
        .is_no::<()>(r#"wanted undef, found string "hello world""#);
    assert_eq!(value("ascii").ask::<&str>().unwrap(), "hello world");
    assert_eq!(value("ascii").ask::<&[u8]>().unwrap(), b"hello world");
    assert_eq!(value("ascii").ask::<StrRef<'_>>().unwrap(), "hello world");
    value("latin1 bytes").is_octets(b"caf\xe9").is(*b"caf\xe9");
    let error = value("latin1 bytes").ask::<&str>().unwrap_err();
    assert_eq!(error.to_string(), r#"wanted a borrowed string, found string "café""#);
    value("raw bytes")
        .is_octets(b"\x00\x01\xff\xfe")
        .is_no::<u8>(r#"wanted u8, found string "\u{0}\u{1}ÿþ""#);
    value("unicode char string")
        .is("€ euro 😀".to_owned())
        .is(Str::text("€ euro 😀"))
        .is(Value::from("€ euro 😀"))
        .is_no::<ByteBuf>(r#"wanted octets, found string "€ euro 😀""#)
        .is_no::<Vec<u8>>(r#"wanted octets, found string "€ euro 😀""#);
    value("utf8-flagged ascii").is_octets(b"abc").is(vec![b'a', b'b', b'c']).is((b'a', b'b', b'c'));

    for (name, n) in INTEGERS {
        value(name).is_integer(n).is(Value::from(Integer::try_from(n).unwrap()));
    }
    value("int 0").is(false).is('0');
    value("int 1").is(true).is(Some(1_u8)).is_no::<[u8; 1]>("wanted an array of 1, found number 1");
    value("int 23").is_no::<bool>("wanted bool, found number 23");
    value("int -1")
        .is(ByteBuf::from(*b"-1"))
        .is_no::<Vec<u8>>("wanted an array, found number -1")
        .is_no::<bool>("wanted bool, found number -1");

    for name in ["numeric string", "number used as string", "string used as number"] {
        value(name).is_integer(42).is_octets(b"42").is(*b"42").is(42.0_f32).is(Value::from("42"));
    }

    let float = |name, x: f64, text: &str| {
        let value = value(name);
        value.is(x).is(text.to_owned()).is(Value::from(x));
        value.is(x as f32).is(ByteBuf::from(text));
    };
    float("float 1.5", 1.5, "1.5");
    float("float 0.1", 0.1, "0.1");
    float("float -1e300", -1e300, "-1e+300");
    float("float 1e16", 1e16, "1e+16");
    float("float half", 0.5, "0.5");
    float("inf", f64::INFINITY, "Inf");
    value("float 1.5").is_no::<u32>("wanted u32, found number 1.5");
    value("float 1e16").is(10_000_000_000_000_000_u64).is_in_range::<u32>(10_000_000_000_000_000);
    value("inf").is_no::<u64>("wanted u64, found number Inf");
    value("nan").is("NaN".to_owned());
    assert!(value("nan").ask::<f64>().unwrap().is_nan());
    assert!(value("nan").ask::<f32>().unwrap().is_nan());

    value("undef")
        .is(None::<u32>)
        .is(())
        .is(false)
        .is(Value::Undef)
        .is_no::<u32>("wanted u32, found undef")
        .is_no::<String>("wanted string, found undef")
        .is_no::<Str>("wanted string, found undef")
        .is_no::<Vec<u32>>("wanted an array, found undef")
        .is_no::<ByteBuf>("wanted octets, found undef");

    value("empty array")
        .is(Vec::<String>::new())
        .is((None::<u32>, ()))
        .is(Value::Array(Vec::new()))
        .is_no::<OnlyA>("wanted a hash, found an array of 0");
    value("empty hash")
        .is(HashMap::<String, u32>::new())
        .is(Hash::new())
        .is_no::<OnlyZ>(r#"key "z" is missing"#)
        .is_no::<Vec<u8>>("wanted an array, found a hash of 0");
    value("nested array")
        .is((1_u8, (2_u8, (3_u8, ("x".to_owned(),)))))
        .is((1.0, (2_u64, ("3".to_owned(), vec!['x']))))
        .is_no::<(u8, (u8, (u8, (bool,))))>(
            r#"element 1, element 1, element 1, element 0: wanted bool, found string "x""#,
        )
        .is_no::<(u8,)>("wanted an array of 1, found an array of 2");
    value("hash")
        .is(Sample { a: 1, b: (1, "2".into(), BTreeMap::from([("c".into(), None)])), absent: None })
        .is(OnlyA { a: 1.0 })
        .is_no::<HashMap<String, u32>>(r#"key "b": wanted u32, found an array of 3"#)
        .is(Value::from(Hash::from([
            ("a", Value::from(1)),
            ("b", [1.into(), 2.into(), Value::from(Hash::from([("c", ())]))].into()),
        ])));
    value("hash with unicode key").is(BTreeMap::from([("é€".to_owned(), 1_u8)]));
    value("hash with byte key")
        .is(BTreeMap::from([("é".to_owned(), 1_u8)]))
        .is(BTreeMap::from([(Str::octets(&b"\xe9"[..]), 1_u8)]))
        .is(BTreeMap::from([('é', "1".to_owned())]))
        .is_no::<BTreeMap<u32, u8>>(r#"key "é": wanted u32, found string "é""#);
    value("hash with empty key").is(BTreeMap::from([(String::new(), true)]));

    for (name, truth) in [("true", true), ("false", false)] {
        value(name)
            .is(truth)
            .is(i128::from(truth))
            .is(f64::from(u8::from(truth)))
            .is(u8::from(truth).to_string())
            .is(Value::Bool(truth));
    }
    value("perl true").is(true).is_octets(b"1").is_integer(1);
    value("perl false").is(false).is_octets(b"");

    value("long string 300").is_octets(&[b'x'; 300]);
    value("long string 70000").is_octets(&[b'y'; 70_000]);
    value("array of 30 ints")
        .is((1..=30).collect::<Vec<u8>>())
        .is((1..=30).map(|n| n.to_string()).collect::<BTreeSet<_>>());
    value("json specials").is_octets(b"q\"b\\s/n\n\t\x08\x0c\r\x1f\x7f");
    value("newline").is_octets(b"a\nb");
    value("json text in a string").is_octets(b"[\"]\",{}]");
    value("port id")
        .is("node/abc#port1".parse::<PortId>().unwrap())
        .is_no::<NodeId>("a node ID must not contain '#', which begins the port name in a port ID");
    value("hash of 20")
        .is((1..=20).map(|n| (format!("k{n:02}"), n)).collect::<HashMap<String, u16>>());

    let asked = asked.into_inner();
    let rest: Vec<_> = recorded.keys().filter(|name| !asked.contains(*name)).collect();
    assert!(rest.is_empty(), "not asked for: {rest:?}");
}

#[test]
fn every_recorded_value_survives_as_a_value() {
    for (name, recorded) in recorded() {
        if NOT_PACKED.contains(&&*name) {
            continue;
        }
        let value = Value::from_packed(&mut recorded.elements().after(2).reader()).unwrap();
        let mut again = Vec::new();
        put_value(&mut again, &value).unwrap();
        assert_eq!(again, value.to_packed().unwrap(), "{name}");
        let copy = Value::from_packed(&mut Reader::new(&again)).unwrap();
        assert!(value.perl_eq(&copy), "{name}");
        assert!(!value.to_string().contains('\n'));
        let message = Packed::of(&recorded.elements()).unwrap();
        assert_eq!(message.len(), 3);
    }
}

#[test]
fn every_numeric_string_can_be_decoded_as_a_number() {
    let ask = |text: &str| Value::from(text).decode::<u32>();
    for text in ["42", " 42", "42\n", "+42", "42.0", "4.2e1", "420e-1"] {
        assert_eq!(ask(text), Ok(42), "{text:?}");
    }
    assert_eq!(ask("1e3"), Ok(1000));
    for (text, number) in [("4294967296", "4294967296"), ("-1", "-1"), ("1e10", "10000000000")] {
        let error = ask(text).unwrap_err().to_string();
        assert_eq!(error, format!("{number} is out of range for u32"));
    }
    for text in ["", " ", "42x", "4.2", "inf", "nan", "0x2a"] {
        assert!(ask(text).is_err(), "{text:?}");
    }
    let ask = |text: &str| Value::from(text).decode::<f64>().unwrap();
    assert_eq!(ask("inf"), f64::INFINITY);
    assert_eq!(ask("-Infinity"), f64::NEG_INFINITY);
    assert!(ask("nan").is_nan());
    assert_eq!(ask(" 1e3 "), 1000.0);
    let ones = Value::from("1".repeat(30));
    assert_eq!(ones.decode(), Ok("1".repeat(30).parse::<i128>().unwrap()));
    assert!(ones.decode::<Integer>().is_err());
    assert_eq!(Value::from("7").decode::<Integer>(), Ok(7.into()));
}

#[test]
fn perls_true_and_false_can_be_decoded_as_bool() {
    for value in [Value::from("1"), 1.into(), 1.0.into(), true.into()] {
        assert_eq!(value.decode(), Ok(true), "{value}");
    }
    for value in [Value::from(""), "0".into(), 0.into(), 0.0.into(), false.into(), ().into()] {
        assert_eq!(value.decode(), Ok(false), "{value}");
    }
    for value in [Value::from("yes"), 2.into(), 0.5.into(), Value::Array(Vec::new())] {
        assert!(value.decode::<bool>().is_err(), "{value}");
    }
}

#[test]
fn strings_that_are_not_text_can_only_be_decoded_as_str() {
    for utf8 in [&b"\xed\xa0\x80"[..], b"\xf4\x90\x80\x80"] {
        let string = StrRef::generalized(utf8).unwrap();
        let message = Packed::of(&("tag", string)).unwrap();
        let (_, copy): (String, Str) = message.decode().unwrap();
        assert_eq!(copy.as_ref().data(), utf8);
        let (_, borrowed): (&str, StrRef<'_>) = message.decode().unwrap();
        assert_eq!(borrowed, string);
        let (_, value): (String, Value) = message.decode().unwrap();
        assert_eq!(value, Value::from(string));
        let error = message.decode::<(String, String)>().unwrap_err();
        assert_eq!(error.path(), "element 1");
        assert!(matches!(error.kind(), DecodeErrorKind::NotText(_)));
        assert!(error.to_string().contains("ask for Str or Value"));
        assert!(message.decode::<(Str, Vec<u8>)>().is_err());
        assert_eq!(serde_json::to_string(&copy).unwrap(), "\"\u{fffd}\"");
    }
}
