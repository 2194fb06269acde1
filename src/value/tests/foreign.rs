//! Perl's types in other formats, and types that inspect a value before they read it.

use super::*;
use serde::Deserializer;
use serde::de::Visitor;
use std::collections::HashMap;

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
    assert_eq!(json.to_string(), r#"["tag","é",-1,1,0.5,true,null,{"k":[1]}]"#);
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
