//! Values with tags: ignored by types, kept when values are passed on.

use super::*;

/// Elements in packed form, from the octets of each.
fn elements(values: &[&[u8]]) -> Packed {
    Packed::new(values.len(), values.concat().into())
}

/// 36893488147419103233, -1.5, 1/3, 1(1700000000), ["Foo" frozen to 7], ["Bar" frozen to 1, 2],
/// \"x", undefined.
fn samples() -> Packed {
    elements(&[
        b"\xc2\x49\x02\0\0\0\0\0\0\0\x01",
        b"\xc4\x82\x20\x2e",
        b"\xd8\x1e\x82\x01\x03",
        b"\xc1\x1a\x65\x53\xf1\x00",
        b"\xd8\x1a\x82\x43Foo\x07",
        b"\xd8\x1a\x83\x43Bar\x01\x02",
        b"\xd9\x56\x52\x61x",
        b"\xf7",
    ])
}

#[test]
fn types_see_through_tags() {
    type Seen = (u128, f64, f64, u64, u8, Vec<u8>, String, Option<u8>);
    let seen: Seen = samples().decode().unwrap();
    let third = 1.0 / 3.0;
    let big = 36_893_488_147_419_103_233;
    assert_eq!(seen, (big, -1.5, third, 1_700_000_000, 7, vec![1, 2], "x".into(), None));
    let texts: [Option<String>; 4] = elements(&[
        b"\xc2\x49\x02\0\0\0\0\0\0\0\x01",
        b"\xc4\x82\x20\x2e",
        b"\xd8\x1e\x82\x01\x03",
        b"\xd8\x64\xf6",
    ])
    .decode()
    .unwrap();
    let texts = texts.map(Option::unwrap_or_default);
    assert_eq!(texts, ["36893488147419103233", "-1.5", "1/3", ""]);
    let error = samples().decode::<(u64,)>().unwrap_err().to_string();
    assert!(error.contains("36893488147419103233"), "{error}");
}

#[test]
fn integers_of_128_bits_arrive() {
    for n in [i128::MIN, -(1 << 64), i128::from(i64::MIN), -1, 0, 1 << 64, i128::MAX] {
        let message = Packed::of(&(n,)).unwrap();
        assert_eq!(message.decode::<(i128,)>().unwrap().0, n);
        assert_eq!(message.decode::<(String,)>().unwrap().0, n.to_string());
    }
    let most = Packed::of(&(u128::MAX,)).unwrap();
    assert_eq!(most.decode::<(u128,)>().unwrap().0, u128::MAX);
    assert_eq!(most.to_string(), format!("[{}]", u128::MAX));
}

#[test]
fn what_is_sent_on_keeps_its_tags() {
    let message = samples();
    let again = Packed::of(&message).unwrap();
    assert_eq!(again.as_elements().octets(), message.as_elements().octets());
    let nested = Packed::of(&("in", [message.clone()])).unwrap();
    let octets = nested.as_elements().octets().to_vec();
    assert!(octets.ends_with(message.as_elements().octets()));
    // `Value` has no `undefined`.
    let values: Vec<Value> = message.decode().unwrap();
    let of_values = Packed::of(&values).unwrap();
    let (all, undefined) = message.as_elements().octets().split_at(octets.len() - 6 - 1);
    let _ = undefined;
    assert_eq!(of_values.as_elements().octets().get(..all.len()), Some(all));
    assert_eq!(values.last(), Some(&Value::Undef));
}

#[test]
fn a_tag_is_asked_for_and_sent() {
    let (at, name): (Tagged<u64>, String) =
        elements(&[b"\xc1\x05", b"\xd8\x20\x61u"]).decode().unwrap();
    assert_eq!((at, name.as_str()), (Tagged { tag: 1, value: 5 }, "u"));
    let nested = Tagged { tag: 7, value: Tagged { tag: 1000, value: ("a", [1]) } };
    let message = Packed::of(&("x", nested)).unwrap();
    assert_eq!(message.as_elements().octets(), b"\x61x\xc7\xd9\x03\xe8\x82\x61a\x81\x01");
    let error = Packed::of(&(5,)).unwrap().decode::<(Tagged<u8>,)>().unwrap_err();
    assert_eq!(error.to_string(), "element 0: wanted a tagged value, found number 5");
    assert_eq!(serde_json::to_string(&nested).unwrap(), r#"["a",[1]]"#);
}

#[test]
fn values_show_their_tags_and_see_through_them() {
    let values: Vec<Value> = samples().decode().unwrap();
    let shown: Vec<String> = values.iter().map(Value::to_string).collect();
    assert_eq!(
        shown,
        [
            "36893488147419103233",
            "-1.5",
            "1/3",
            "1(1700000000)",
            "Foo(7)",
            "Bar(1, 2)",
            "22098(\"x\")",
            "undef"
        ]
    );
    let [big, decimal, _, date, foo, ..] = values.as_slice() else { panic!("too few") };
    assert_eq!(big.to_str().unwrap().as_ref(), &Str::text("36893488147419103233"));
    assert_eq!(decimal.to_number(), Some((-1.5).into()));
    assert_eq!(date.to_integer(), Some(1_700_000_000.into()));
    assert_eq!((foo.to_integer(), foo.untagged()), (Some(7.into()), &Value::from(7)));
    assert!(big.perl_eq(&big.clone()) && !date.perl_eq(&Value::from(1_700_000_000)));
    assert_eq!(
        serde_json::to_string(&values).unwrap(),
        r#"["36893488147419103233","-1.5","1/3",1700000000,7,["Bar",1,2],"x",null]"#
    );
}

#[test]
fn a_tag_is_a_level_of_nesting() {
    let tagged = |levels| (0..levels).fold(Value::from(1), |value, _| Value::tagged(9, value));
    assert!(tagged(MAX_NESTING).to_packed().is_ok());
    assert!(tagged(MAX_NESTING + 1).to_packed().is_err());
    // The message is one level.
    assert!(Packed::of(&(tagged(MAX_NESTING - 1),)).is_ok());
    assert!(Packed::of(&(tagged(MAX_NESTING),)).is_err());
    let chain = [&[0xc9; MAX_NESTING + 1][..], &[1]].concat();
    assert!(Value::from_packed(&mut packed::Reader::new(&chain)).is_err());
    assert_eq!(packed::nesting(&chain), Ok(MAX_NESTING + 1));
}
