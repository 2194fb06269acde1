//! Rust types as messages, and back.

use super::*;
use crate::value::packed::{Reader, close_len, open_array, put_text, put_uint};
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserializer, Serializer};
use std::collections::{BTreeMap, HashMap};
use std::fmt;

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
    goes(Chat::Privmsg("hi".into(), Some(3)), r#"["privmsg", "hi", 3]"#);
    goes(Chat::Privmsg("hi".into(), None), r#"["privmsg", "hi", undef]"#);
    goes(Chat::Move { x: 1, y: -1 }, r#"["move", {"x": 1, "y": -1}]"#);
    assert_eq!(
        message(&(1, Chat::Quit, Chat::Move { x: 1, y: -1 })),
        r#"[1, "quit", ["move", {"x": 1, "y": -1}]]"#
    );
}

#[test]
fn an_internally_tagged_enum_is_a_message_as_well_as_an_element() {
    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    #[serde(tag = "type")]
    enum Tagged {
        Move { x: i32 },
        Quit,
    }
    goes(Tagged::Move { x: 1 }, r#"[{"type": "Move", "x": 1}]"#);
    goes(Tagged::Quit, r#"[{"type": "Quit"}]"#);
    goes((Tagged::Quit, 1), r#"[{"type": "Quit"}, 1]"#);
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
    assert_eq!(error::<(u8, u8)>((1,)), "element 1: wanted u8, found nothing");
    assert_eq!(error::<Chat>(("nick",)), "element 1: wanted string, found nothing");
    let nested = Packed::of(&((1,), 2)).unwrap();
    assert_eq!(nested.decode(), Ok((Pair(1, None), 2)));
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
                    A: MapAccess<'de>,
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
fn an_open_array_is_closed_with_its_length() {
    let mut out = Vec::new();
    let open = open_array(&mut out);
    put_uint(&mut out, 1);
    put_text(&mut out, "x");
    close_len(&mut out, open, 2);
    let value: (u8, char) = from_value(&mut Reader::new(&out)).unwrap();
    assert_eq!(value, (1, 'x'));
}
