//! The bridge between Rust types and Perl values, as its users meet it.

use super::packed::{Reader, open_array, put_text, put_uint};
use super::*;
use proptest::prelude::*;
use serde::de::{DeserializeOwned, IgnoredAny, SeqAccess, Visitor};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Debug};

/// What `value` looks like as a message.
fn message<T: Serialize + ?Sized>(value: &T) -> String {
    Packed::of(value).unwrap().to_string()
}

/// `value` becomes the message `shown` and comes back from it.
#[track_caller]
fn goes<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: T, shown: &str) {
    let packed = Packed::of(&value).unwrap();
    assert_eq!(packed.to_string(), shown);
    assert_eq!(packed.decode::<T>().unwrap(), value);
    // And as a value inside of a message.
    let nested = Packed::of(&(1, (&value, 2))).unwrap();
    let (_, (inner, after)) = nested.decode::<(u8, (T, u8))>().unwrap();
    assert_eq!((inner, after), (value, 2));
}

/// The error of asking the message `value` for a `T`.
#[track_caller]
fn error<T: DeserializeOwned + Debug>(value: impl Serialize) -> String {
    let packed = Packed::of(&value).unwrap();
    packed.decode::<T>().unwrap_err().to_string()
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Point {
    x: f64,
    y: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Pair(u8, Option<String>);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Wrapper(Vec<u8>);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Nothing;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Chat {
    Quit,
    Nick(String),
    Privmsg(String, Option<u32>),
    Move { x: i8, y: i8 },
}

#[test]
fn rust_types_become_messages_and_return() {
    goes("tag".to_owned(), r#"["tag"]"#);
    goes(("tag".to_owned(), -42_i64, 1.5), r#"["tag", -42, 1.5]"#);
    goes([1_u8, 2], "[1, 2]");
    goes(vec!["a".to_owned()], r#"["a"]"#);
    goes(Pair(1, None), "[1, undef]");
    goes(Wrapper(vec![1, 2]), "[1, 2]");
    goes(Point { x: 1.0, y: 0.5 }, r#"[{"x": 1, "y": 0.5}]"#);
    goes(HashMap::from([("k".to_owned(), true)]), r#"[{"k": true}]"#);
    goes('x', r#"["x"]"#);
    goes(Some(7_u8), "[7]");
    goes(None::<u8>, "[undef]");
    goes(i128::from(u64::MAX), "[18446744073709551615]");
    goes(u128::from(u64::MAX), "[18446744073709551615]");
    goes(serde_bytes::ByteBuf::from(*b"\xe9"), r#"["é"]"#);
    goes((1.5_f32, -1_i8, -1_i16, -1_i32), "[1.5, -1, -1, -1]");
    goes((1_u16, 1_u32, [(); 1]), "[1, 1, [undef]]");
    goes((), "[]");
    goes(Nothing, "[]");
    goes(Hash::from([("a", 1)]), r#"[{"a": 1}]"#);
    goes(Integer::from(-3), "[-3]");
    goes(Str::octets(&b"\xe9"[..]), r#"["é"]"#);
    goes(Value::from([1, 2]), "[1, 2]");
    goes(((), Nothing, (Nothing,)), "[undef, undef, [undef]]");
}

#[test]
fn enum_variants_are_tags_and_fields() {
    goes(Chat::Quit, r#"["quit"]"#);
    goes(Chat::Nick("n".into()), r#"["nick", "n"]"#);
    goes(
        Chat::Privmsg("hi".into(), Some(3)),
        r#"["privmsg", "hi", 3]"#,
    );
    goes(
        Chat::Privmsg("hi".into(), None),
        r#"["privmsg", "hi", undef]"#,
    );
    goes(Chat::Move { x: 1, y: -1 }, r#"["move", {"x": 1, "y": -1}]"#);
    assert_eq!(
        message(&(1, Chat::Quit, Chat::Move { x: 1, y: -1 })),
        r#"[1, "quit", ["move", {"x": 1, "y": -1}]]"#
    );
}

#[test]
fn a_variant_may_stand_in_a_hash_of_one_pair() {
    let ask = |tag: &str, value: Value| {
        let hash = Hash::from([(tag, value)]);
        Packed::of(&(hash, 1)).unwrap().decode::<(Chat, u8)>()
    };
    let privmsg = ask("privmsg", Value::from(["hi", "3"])).unwrap();
    assert_eq!(privmsg, (Chat::Privmsg("hi".into(), Some(3)), 1));
    assert_eq!(ask("nick", "n".into()).unwrap().0, Chat::Nick("n".into()));
    assert_eq!(ask("quit", [1].into()).unwrap(), (Chat::Quit, 1));
    let place = Value::from(Hash::from([("x", 1), ("y", 2)]));
    assert_eq!(ask("move", place).unwrap().0, Chat::Move { x: 1, y: 2 });
    assert_eq!(
        ask("nick", [1].into()).unwrap_err().to_string(),
        r#"element 0, key "nick": wanted string, found an array of 1"#
    );
}

#[test]
fn what_is_missing_is_undef_and_what_is_more_is_ignored() {
    let packed = Packed::of(&("a", 1, 2)).unwrap();
    assert_eq!(packed.decode::<(&str, u8)>().unwrap(), ("a", 1));
    assert_eq!(packed.decode::<&str>().unwrap(), "a");
    assert_eq!(packed.decode::<()>(), Ok(()));
    assert_eq!(packed.decode::<Nothing>(), Ok(Nothing));
    let more = packed.decode::<(&str, u8, u8, Option<u8>, (), Value)>();
    assert_eq!(more.unwrap(), ("a", 1, 2, None, (), Value::Undef));
    let packed = Packed::of(&("privmsg", "hi")).unwrap();
    assert_eq!(packed.decode(), Ok(Chat::Privmsg("hi".into(), None)));
    let packed = Packed::of(&("quit", "and", "more")).unwrap();
    assert_eq!(packed.decode(), Ok(Chat::Quit));
    let nothing = Packed::default();
    assert_eq!(nothing.decode::<Option<(u8, u8)>>(), Ok(None));
    assert_eq!(nothing.decode::<Vec<u8>>(), Ok(Vec::new()));
    assert_eq!(error::<u32>(()), "element 0: wanted u32, found nothing");
    assert_eq!(error::<Chat>(()), "element 0: wanted string, found nothing");
    assert_eq!(
        error::<(u8, u8)>((1,)),
        "element 1: wanted u8, found nothing"
    );
    assert_eq!(
        error::<Chat>(("nick",)),
        "element 1: wanted string, found nothing"
    );
    let nested = Packed::of(&((1,), 2)).unwrap();
    assert_eq!(nested.decode(), Ok((Pair(1, None), 2)));
}

#[test]
fn errors_name_the_place_and_both_types() {
    let data = (1, 2, HashMap::from([("x", ("abc",))]));
    assert_eq!(
        error::<(u8, u8, HashMap<String, (u32,)>)>(&data),
        r#"element 2, key "x", element 0: wanted u32, found string "abc""#
    );
    assert_eq!(
        error::<Chat>(("join",)),
        r#"element 0: unknown tag "join", expected one of "quit", "nick", "privmsg", "move""#
    );
    assert_eq!(
        error::<(u8, Chat)>((1, ("quit", 1))),
        "element 1: wanted an array of 1, found an array of 2"
    );
    assert_eq!(
        error::<(Chat,)>((("privmsg", 1, 2, 3),)),
        "element 0: wanted an array of 3, found an array of 4"
    );
    assert_eq!(
        error::<(Chat,)>(([0; 0],)),
        "element 0: wanted a tag, found an array of 0"
    );
    assert_eq!(
        error::<(Chat,)>(((),)),
        "element 0: wanted a tag, found undef"
    );
    assert_eq!(
        error::<Point>(("x",)),
        r#"element 0: wanted a hash, found string "x""#
    );
    assert_eq!(
        error::<Point>((Hash::from([("x", 1)]),)),
        r#"element 0: key "y" is missing"#
    );
    assert_eq!(
        error::<Chat>(("move", Hash::from([("x", 300)]))),
        r#"element 1, key "x": 300 is out of range for i8"#
    );
    assert_eq!(
        error::<(Hash,)>((1,)),
        "element 0: wanted a hash, found number 1"
    );
    assert_eq!(
        error::<char>("ab"),
        r#"element 0: wanted a character, found string "ab""#
    );
    assert_eq!(
        error::<(Vec<u8>,)>((1,)),
        "element 0: wanted an array, found number 1"
    );
    assert_eq!(error::<f64>(((),)), "element 0: wanted f64, found undef");
    assert_eq!(
        error::<(Wrapper, u8)>(("ab", "x")),
        r#"element 1: wanted u8, found string "x""#
    );
    assert_eq!(
        error::<Integer>("1".repeat(30)).split(',').next(),
        Some("element 0: wanted an integer from -2^63 to 2^64-1")
    );
}

#[test]
fn keys_become_strings_and_return() {
    #[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
    struct Key(i64);
    #[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
    enum Side {
        Left,
    }
    fn key<K>(key: K, shown: &str)
    where
        K: Serialize + DeserializeOwned + Ord + Debug,
    {
        goes(BTreeMap::from([(key, 1)]), &format!("[{{\"{shown}\": 1}}]"));
    }
    key("k".to_owned(), "k");
    key(-1_i8, "-1");
    key(-1_i16, "-1");
    key(-1_i32, "-1");
    key(-1_i64, "-1");
    key(1_u8, "1");
    key(1_u16, "1");
    key(1_u32, "1");
    key(u64::MAX, "18446744073709551615");
    key(u128::from(u64::MAX) + 1, "18446744073709551616");
    key(i128::MIN, "-170141183460469231731687303715884105728");
    key('c', "c");
    key(true, "1");
    key(false, "0");
    key(Key(7), "7");
    key(Side::Left, "Left");
    key(Some(1), "1");
    key(Str::octets(&b"\xe9"[..]), "é");
    key(serde_bytes::ByteBuf::from(*b"\xe9"), "é");
}

#[test]
fn floats_are_keys_as_perl_writes_them() {
    struct Floats;
    impl Serialize for Floats {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut map = serializer.serialize_map(None)?;
            map.serialize_entry(&1e16_f64, &1)?;
            map.serialize_entry(&0.5_f32, &2)?;
            map.end()
        }
    }
    assert_eq!(message(&Floats), r#"[{"1e+16": 1, "0.5": 2}]"#);
}

#[test]
fn what_is_no_string_is_no_key() {
    fn refused<K: Serialize + Ord>(key: K) {
        let map = BTreeMap::from([(key, 1)]);
        let mut out = vec![7];
        let error = put_value(&mut out, &map).unwrap_err();
        assert!(error.to_string().contains("cannot be a hash key"));
        assert_eq!(out, [7], "nothing is left of a failure");
    }
    #[derive(PartialEq, Eq, PartialOrd, Ord, Serialize)]
    enum Key {
        New(u8),
        Tuple(u8, u8),
        Struct { a: u8 },
    }
    #[derive(PartialEq, Eq, PartialOrd, Ord, Serialize)]
    struct Unit;
    #[derive(PartialEq, Eq, PartialOrd, Ord, Serialize)]
    struct Tuple(u8, u8);
    #[derive(PartialEq, Eq, PartialOrd, Ord, Serialize)]
    struct Struct {
        a: u8,
    }
    refused(());
    refused(None::<u8>);
    refused(Unit);
    refused(vec![1]);
    refused((1, 2));
    refused(Tuple(1, 2));
    refused(Struct { a: 1 });
    refused(BTreeMap::from([(1, 2)]));
    refused(Key::New(1));
    refused(Key::Tuple(1, 2));
    refused(Key::Struct { a: 1 });
}

#[test]
fn integers_beyond_perls_are_refused() {
    for error in [
        Packed::of(&u128::MAX).unwrap_err(),
        Packed::of(&(1, i128::MIN)).unwrap_err(),
    ] {
        assert!(matches!(error, EncodeError::IntegerRange(_)), "{error}");
    }
}

#[test]
fn lists_of_unknown_length_are_counted() {
    struct Odd(u8);
    impl Serialize for Odd {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_seq((0..self.0).filter(|n| n % 2 == 1))
        }
    }
    assert_eq!(message(&Odd(6)), "[1, 3, 5]");
    assert_eq!(message(&(0, Odd(6))), "[0, [1, 3, 5]]");
}

#[test]
fn a_type_that_miscounts_is_refused() {
    struct Wrong;
    impl Serialize for Wrong {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut seq = serializer.serialize_seq(Some(3))?;
            seq.serialize_element(&1)?;
            seq.end()
        }
    }
    struct WrongMap;
    impl Serialize for WrongMap {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut map = serializer.serialize_map(Some(0))?;
            map.serialize_entry("a", &1)?;
            map.end()
        }
    }
    assert_eq!(
        message(&Wrong),
        "[1]",
        "a message's elements are counted anyway"
    );
    let error = Packed::of(&(Wrong,)).unwrap_err();
    assert_eq!(error.to_string(), "the type announced 3 values and gave 1");
    let error = Packed::of(&WrongMap).unwrap_err();
    assert_eq!(error.to_string(), "the type announced 0 values and gave 1");
}

#[test]
fn a_types_own_complaint_is_passed_on_in_one_line() {
    struct Unwilling;
    impl Serialize for Unwilling {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("no\nway"))
        }
    }
    let mut out = vec![1];
    let error = to_elements(&mut out, &("tag", Unwilling)).unwrap_err();
    assert_eq!(error.to_string(), "no\\u{a}way");
    assert_eq!(out, [1]);
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct List {
    next: Option<Box<List>>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Tree {
    Leaf,
    Node(Vec<Tree>),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Layers(Option<Box<Layers>>);

fn list(len: usize) -> List {
    (1..len).fold(List { next: None }, |list, _| {
        let next = Some(Box::new(list));
        List { next }
    })
}

#[test]
fn types_nest_up_to_the_limit() {
    // The message is one level, so the element may have one less.
    let deep = Packed::of(&list(MAX_NESTING - 1)).unwrap();
    assert_eq!(deep.decode::<List>().unwrap(), list(MAX_NESTING - 1));
    let error = Packed::of(&list(MAX_NESTING)).unwrap_err();
    assert_eq!(error, EncodeError::TooDeep);

    let tree = |levels: usize| (0..levels).fold(Tree::Leaf, |tree, _| Tree::Node(vec![tree]));
    let deep = Packed::of(&tree(255)).unwrap();
    assert_eq!(deep.decode::<Tree>().unwrap(), tree(255));
    assert!(Packed::of(&tree(300)).is_err());

    let layers = (0..2000).fold(Layers(None), |layers, _| Layers(Some(Box::new(layers))));
    assert_eq!(Packed::of(&layers).unwrap_err(), EncodeError::TooDeep);
    let mut out = Vec::new();
    assert!(put_value(&mut out, &layers).is_err());
}

#[test]
fn octets_that_nest_too_deep_are_refused() {
    let nest = |levels: usize| {
        let mut octets = vec![0x81; levels];
        octets.push(0xf6);
        octets
    };
    let legal = nest(MAX_NESTING - 1);
    let too_deep = nest(MAX_NESTING);
    assert!(
        Elements::new(1, &legal)
            .decode::<serde_json::Value>()
            .is_ok()
    );
    assert!(Elements::new(1, &legal).decode::<Value>().is_ok());
    let error = Elements::new(1, &too_deep).decode::<serde_json::Value>();
    let error = error.unwrap_err();
    assert_eq!(error.kind(), &DecodeErrorKind::TooDeep);
    assert!(
        error
            .to_string()
            .ends_with("levels down: nested deeper than 512 levels")
    );
    let mut hashes = [0xa1, 0x40].repeat(MAX_NESTING);
    hashes.push(0xf6);
    assert!(
        Elements::new(1, &hashes)
            .decode::<(serde_json::Value,)>()
            .is_err()
    );
    let far_too_deep = nest(1_000_000);
    assert!(Elements::new(1, &far_too_deep).decode::<Value>().is_err());
    assert!(
        Elements::new(1, &far_too_deep)
            .decode::<IgnoredAny>()
            .is_ok()
    );
    // A type that would ask for ever.
    assert!(Elements::new(1, &[1]).decode::<Layers>().is_err());
    assert!(Elements::new(1, &[1]).decode::<(Layers,)>().is_err());
}

#[test]
fn octets_not_in_packed_form_are_refused() {
    let error = Elements::new(1, &[0xc1, 0]).decode::<(u8,)>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "element 0: not in packed form at octet 1"
    );
    for octets in [&[0x63, b'a'][..], &[0x78], &[0x79, 1], &[0x18], &[]] {
        assert!(Elements::new(1, octets).decode::<(String,)>().is_err());
        assert!(Elements::new(1, octets).decode::<(Str,)>().is_err());
        assert!(Elements::new(1, octets).decode::<(u8,)>().is_err());
        assert!(Elements::new(1, octets).decode::<(Value,)>().is_err());
        assert!(Elements::new(1, octets).decode::<(Chat,)>().is_err());
    }
    // Not UTF-8, which no framing lets through.
    assert!(Elements::new(1, &[0x61, 0xff]).decode::<(u8,)>().is_err());
    // A hash whose key is no string.
    let octets = [0xa1, 1, 0x61, b'x'];
    let error = Elements::new(1, &octets).decode::<(HashMap<u8, u8>,)>();
    assert_eq!(
        error.unwrap_err().to_string(),
        r#"element 0: wanted u8, found string "x""#
    );
}

#[test]
fn strings_longer_than_a_short_cut_decode_too() {
    for len in [22, 23, 24, 255, 256, 65_535, 65_536] {
        let text = "x".repeat(len);
        let octets = serde_bytes::Bytes::new(text.as_bytes());
        let message = Packed::of(&(&text, octets, &text)).unwrap();
        let (a, b, c): (&str, &str, Str) = message.decode().unwrap();
        assert_eq!((a, b), (&*text, &*text));
        assert_eq!(c, *text);
        let (a, b): (StrRef<'_>, &[u8]) = message.decode().unwrap();
        assert_eq!((a.data(), b), (text.as_bytes(), text.as_bytes()));
    }
}

#[test]
fn a_visitor_may_stop_early() {
    #[derive(Debug, PartialEq)]
    struct FirstOf(u8);
    impl<'de> Deserialize<'de> for FirstOf {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct First;
            impl<'de> Visitor<'de> for First {
                type Value = FirstOf;
                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("anything")
                }
                fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<FirstOf, A::Error> {
                    Ok(FirstOf(seq.next_element()?.unwrap_or_default()))
                }
                fn visit_map<A>(self, mut map: A) -> Result<FirstOf, A::Error>
                where
                    A: serde::de::MapAccess<'de>,
                {
                    map.next_key::<IgnoredAny>()?;
                    Ok(FirstOf(9))
                }
            }
            deserializer.deserialize_any(First)
        }
    }
    let pairs = Hash::from([("a", 1), ("b", 2)]);
    let message = Packed::of(&([1, 2, 3], "next", pairs, "last")).unwrap();
    let (a, next, b, last): (FirstOf, String, FirstOf, String) = message.decode().unwrap();
    assert_eq!((a, b), (FirstOf(1), FirstOf(9)));
    assert_eq!((&*next, &*last), ("next", "last"));
}

#[test]
fn types_that_describe_themselves_see_plain_data() {
    let value = Value::from([
        Value::from("tag"),
        Str::octets(&b"\xe9"[..]).into(),
        (-1).into(),
        1.into(),
        0.5.into(),
        true.into(),
        ().into(),
        Hash::from([("k", [1])]).into(),
    ]);
    let json: serde_json::Value = Packed::of(&value).unwrap().decode().unwrap();
    assert_eq!(
        json.to_string(),
        r#"["tag","é",-1,1,0.5,true,null,{"k":[1]}]"#
    );
    assert_eq!(message(&json), message(&value));
    let again: Value = serde_json::from_str(&serde_json::to_string(&value).unwrap()).unwrap();
    assert_eq!(again, value);
}

#[test]
fn our_types_pass_through_other_formats() {
    let json = |text: &str| serde_json::from_str::<Value>(text);
    assert_eq!(json("18446744073709551615").unwrap(), u64::MAX.into());
    assert_eq!(json("-5").unwrap(), (-5).into());
    assert!(json("[").is_err());
    assert_eq!(serde_json::from_str::<Str>("7").unwrap(), "7");
    assert_eq!(serde_json::from_str::<Str>("-7").unwrap(), "-7");
    assert_eq!(serde_json::from_str::<Str>("0.5").unwrap(), "0.5");
    assert_eq!(serde_json::from_str::<Str>("true").unwrap(), "1");
    assert!(serde_json::from_str::<Str>("[]").is_err());
    assert_eq!(serde_json::from_str::<StrRef<'_>>("\"a\"").unwrap(), "a");
    assert!(serde_json::from_str::<StrRef<'_>>("1").is_err());
    assert_eq!(serde_json::from_str::<Integer>("\"7\"").unwrap(), 7.into());
    assert_eq!(serde_json::from_str::<Integer>("-7").unwrap(), (-7).into());
    assert_eq!(serde_json::from_str::<Integer>("7").unwrap(), 7.into());
    assert_eq!(serde_json::from_str::<Integer>("7.0").unwrap(), 7.into());
    assert!(serde_json::from_str::<Integer>("7.5").is_err());
    assert!(serde_json::from_str::<Integer>("\"x\"").is_err());
    assert!(serde_json::from_str::<Hash>("1").is_err());

    use serde::de::IntoDeserializer;
    use serde::de::value::{BorrowedBytesDeserializer, Error};
    let bytes = BorrowedBytesDeserializer::<Error>::new(b"\xe9");
    assert_eq!(StrRef::deserialize(bytes).unwrap(), "é");
    assert_eq!(Str::deserialize(bytes).unwrap(), "é");
    assert_eq!(Value::deserialize(bytes).unwrap(), "é".into());
    let wide = IntoDeserializer::<Error>::into_deserializer(1_i128 << 64);
    assert!(Value::deserialize(wide).is_err());
    let some = serde::de::value::UnitDeserializer::<Error>::new();
    assert!(Value::deserialize(some).unwrap().is_undef());
}

#[test]
fn serde_buffers_some_types_and_coerces_less_there() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Any {
        Number(u32),
        Text(String),
        Value(Value),
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Flat {
        a: u8,
        #[serde(flatten)]
        rest: HashMap<String, Any>,
    }
    let hash = Hash::from([
        ("a", Value::from("1")),
        ("b", 2.into()),
        ("c", "3".into()),
        ("d", [4].into()),
        ("e", Value::Undef),
    ]);
    let flat: Flat = Packed::of(&(hash,)).unwrap().decode::<(Flat,)>().unwrap().0;
    assert_eq!(flat.a, 1);
    assert_eq!(flat.rest["b"], Any::Number(2));
    assert_eq!(flat.rest["c"], Any::Text("3".into()));
    assert_eq!(flat.rest["d"], Any::Value([4].into()));
    assert_eq!(flat.rest["e"], Any::Value(Value::Undef));
    let again: Flat = Packed::of(&flat).unwrap().decode().unwrap();
    assert_eq!(again, flat);
}

#[test]
fn foreign_enums_are_no_perl_values() {
    use serde::de::value::{MapAccessDeserializer, MapDeserializer};
    let pairs = [("x", 1_u8)].into_iter();
    let map = MapDeserializer::<_, serde::de::value::Error>::new(pairs);
    struct AsEnum<D>(D);
    impl<'de, D: Deserializer<'de>> Deserializer<'de> for AsEnum<D> {
        type Error = D::Error;
        fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.0.deserialize_enum("", &[], visitor)
        }
        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
            option unit unit_struct newtype_struct seq tuple tuple_struct map struct enum
            identifier ignored_any
        }
    }
    assert!(Value::deserialize(AsEnum(MapAccessDeserializer::new(map))).is_err());
    let pairs = [(5_u64, 1_u8)].into_iter();
    let map = MapDeserializer::<_, serde::de::value::Error>::new(pairs);
    assert!(Value::deserialize(AsEnum(MapAccessDeserializer::new(map))).is_err());
}

#[test]
fn an_open_array_is_closed_with_its_length() {
    let mut out = Vec::new();
    let open = open_array(&mut out);
    put_uint(&mut out, 1);
    put_text(&mut out, "x");
    packed::close_len(&mut out, open, 2);
    let value: (u8, char) = from_value(&mut Reader::new(&out)).unwrap();
    assert_eq!(value, (1, 'x'));
}

/// Any string, octets or text, sometimes no Unicode.
fn any_str() -> impl Strategy<Value = Str> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(Str::octets),
        ".{0,20}".prop_map(Str::from),
        Just(StrRef::generalized(b"a\xed\xa0\x80").unwrap().to_owned()),
    ]
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Undef),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i8>().prop_map(Value::from),
        (-1e300..1e300_f64).prop_map(Value::from),
        any::<f32>()
            .prop_filter("NaN is unequal to itself", |x| !x.is_nan())
            .prop_map(Value::from),
        any_str().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::vec((any_str(), inner), 0..6)
                .prop_map(|pairs| Value::from(Hash::from_iter(pairs))),
        ]
    })
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Everything {
    flag: bool,
    small: i8,
    big: u64,
    float: f64,
    text: String,
    octets: serde_bytes::ByteBuf,
    list: Vec<Option<(i32, char)>>,
    map: BTreeMap<u16, Chat>,
    any: Value,
}

prop_compose! {
    fn everything()(
        (flag, small, big, float) in (any::<bool>(), any::<i8>(), any::<u64>(), -1e9..1e9_f64),
        text in ".{0,20}",
        octets in proptest::collection::vec(any::<u8>(), 0..20),
        list in proptest::collection::vec(any::<Option<(i32, char)>>(), 0..5),
        nicks in proptest::collection::btree_map(any::<u16>(), ".{0,5}", 0..4),
        any in any_value(),
    ) -> Everything {
        let octets = octets.into();
        let map = nicks.into_iter().map(|(n, nick)| (n, Chat::Nick(nick))).collect();
        Everything { flag, small, big, float, text, octets, list, map, any }
    }
}

proptest! {
    #[test]
    fn any_value_survives(value in any_value()) {
        let packed = value.to_packed().unwrap();
        let mut reader = Reader::new(&packed);
        let read = Value::from_packed(&mut reader).unwrap();
        prop_assert!(reader.is_done());
        prop_assert_eq!(read.to_packed().unwrap(), &packed[..], "kinds are kept");
        prop_assert!(value.perl_eq(&read));
        let mut by_serde = Vec::new();
        put_value(&mut by_serde, &value).unwrap();
        prop_assert_eq!(&by_serde, &packed);
        let read: Value = from_value(&mut Reader::new(&packed)).unwrap();
        prop_assert_eq!(&read, &value);
        let controls = value.to_string().contains(char::is_control);
        prop_assert!(!controls);
    }

    #[test]
    fn any_struct_survives(value in everything()) {
        let message = Packed::of(&(&value, "end")).unwrap();
        let (read, end): (Everything, String) = message.decode().unwrap();
        prop_assert_eq!(read, value);
        prop_assert_eq!(end, "end");
    }

    #[test]
    fn floats_read_back_as_perl_wrote_them(x in any::<f64>()) {
        let text = Number::from(x).to_string();
        let back = Number::parse((&*text).into()).unwrap().to_f64();
        prop_assert!(back == x || (back - x).abs() <= x.abs() * 1e-14 || x.is_nan(), "{}", text);
    }

    #[test]
    fn garbage_is_an_error_or_a_value_but_never_a_panic(
        octets in proptest::collection::vec(any::<u8>(), 0..60),
        len in 0..5_usize,
    ) {
        let elements = Elements::new(len, &octets);
        let _ = elements.decode::<Everything>();
        let _ = elements.decode::<(Value, Everything, Chat)>();
        let _ = elements.decode::<Vec<Value>>();
        let _ = elements.decode::<(Str, PortId, Point)>();
        let _ = elements.decode::<(Chat, Option<Pair>, Vec<u8>, [u8; 3])>();
        let _ = elements.decode::<Chat>();
        let _ = elements.decode::<(Tree, List)>();
        let _ = elements.decode::<serde_json::Value>();
        let _ = elements.decode::<HashMap<u32, (String, serde_bytes::ByteBuf)>>();
        let _ = elements.to_string();
        let _ = Packed::of(&elements);
        let _ = elements.after(2).first_str();
    }
}
