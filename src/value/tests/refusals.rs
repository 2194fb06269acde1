//! Refused values, and the error texts.

use super::*;
use serde::Serializer;
use serde::de::IgnoredAny;
use serde::ser::{SerializeMap, SerializeSeq};
use std::collections::{BTreeMap, HashMap};

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
    assert_eq!(error::<(Chat,)>(([0; 0],)), "element 0: wanted a tag, found an array of 0");
    assert_eq!(error::<(Chat,)>(((),)), "element 0: wanted a tag, found undef");
    assert_eq!(error::<Point>(("x",)), r#"element 0: wanted a hash, found string "x""#);
    assert_eq!(error::<Point>((Hash::from([("x", 1)]),)), r#"element 0: key "y" is missing"#);
    assert_eq!(
        error::<Chat>(("move", Hash::from([("x", 300)]))),
        r#"element 1, key "x": 300 is out of range for i8"#
    );
    assert_eq!(error::<(Hash,)>((1,)), "element 0: wanted a hash, found number 1");
    assert_eq!(error::<char>("ab"), r#"element 0: wanted a character, found string "ab""#);
    assert_eq!(error::<(Vec<u8>,)>((1,)), "element 0: wanted an array, found number 1");
    assert_eq!(error::<f64>(((),)), "element 0: wanted f64, found undef");
    assert_eq!(error::<(Wrapper, u8)>(("ab", "x")), r#"element 1: wanted u8, found string "x""#);
    assert_eq!(
        error::<Integer>("1".repeat(30)).split(',').next(),
        Some("element 0: wanted an integer from -2^63 to 2^64-1")
    );
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
    assert_eq!(message(&Wrong), "[1]", "a message's elements are counted anyway");
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

#[test]
fn types_nest_up_to_the_limit() {
    // The message is one level, so its element may have one less.
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
    assert!(Elements::new(1, &legal).decode::<serde_json::Value>().is_ok());
    assert!(Elements::new(1, &legal).decode::<Value>().is_ok());
    let error = Elements::new(1, &too_deep).decode::<serde_json::Value>();
    let error = error.unwrap_err();
    assert_eq!(error.kind(), &DecodeErrorKind::TooDeep);
    assert!(error.to_string().ends_with("levels down: nested deeper than 512 levels"));
    let mut hashes = [0xa1, 0x40].repeat(MAX_NESTING);
    hashes.push(0xf6);
    assert!(Elements::new(1, &hashes).decode::<(serde_json::Value,)>().is_err());
    let far_too_deep = nest(1_000_000);
    assert!(Elements::new(1, &far_too_deep).decode::<Value>().is_err());
    assert!(Elements::new(1, &far_too_deep).decode::<IgnoredAny>().is_ok());
    // A type that never stops reading.
    assert!(Elements::new(1, &[1]).decode::<Layers>().is_err());
    assert!(Elements::new(1, &[1]).decode::<(Layers,)>().is_err());
}

#[test]
fn octets_not_in_packed_form_are_refused() {
    let error = Elements::new(1, &[0xfc, 0]).decode::<(u8,)>().unwrap_err();
    assert_eq!(error.to_string(), "element 0: not in packed form at octet 1");
    for octets in [&[0x63, b'a'][..], &[0x78], &[0x79, 1], &[0x18], &[]] {
        assert!(Elements::new(1, octets).decode::<(String,)>().is_err());
        assert!(Elements::new(1, octets).decode::<(Str,)>().is_err());
        assert!(Elements::new(1, octets).decode::<(u8,)>().is_err());
        assert!(Elements::new(1, octets).decode::<(Value,)>().is_err());
        assert!(Elements::new(1, octets).decode::<(Chat,)>().is_err());
    }
    // Not UTF-8; no framing accepts that.
    assert!(Elements::new(1, &[0x61, 0xff]).decode::<(u8,)>().is_err());
    // A hash with a key that is not a string.
    let octets = [0xa1, 1, 0x61, b'x'];
    let error = Elements::new(1, &octets).decode::<(HashMap<u8, u8>,)>();
    assert_eq!(error.unwrap_err().to_string(), r#"element 0: wanted u8, found string "x""#);
}

#[test]
fn a_value_leaves_room_for_what_will_stand_around_it() {
    let mut out = Vec::new();
    let deep = list(MAX_NESTING - 4);
    assert!(put_value_within(&mut out, &deep, 4).is_ok());
    out.clear();
    assert_eq!(put_value_within(&mut out, &deep, 5), Err(EncodeError::TooDeep));
    assert!(put_value_within(&mut out, &(1,), 1000).is_err());
    assert!(put_value_within(&mut out, &1, 1000).is_ok());
}
