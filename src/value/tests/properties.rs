//! Properties of all values, types and octets.

use super::*;
use crate::value::packed::Reader;
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};

/// Any string, octets or text, sometimes invalid Unicode.
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
        any::<f32>().prop_filter("NaN is unequal to itself", |x| !x.is_nan()).prop_map(Value::from),
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
