use super::*;
use crate::kernel::db::testing::{FAM, TestNode, keys, node};
use crate::kernel::db::{Datum, DbEffect, DbProblem, Entries, Request, Tables};
use crate::value::Str;
use crate::value::packed::{self, Elements};
use crate::wire::framing::{self, Framing};
use proptest::prelude::*;

/// Octets of a family that are not counted: the head of its packet, and the names of the classes of
/// booleans and tags, once each.
const OVERHEAD: usize = 200;

/// The size of a packet with these entries, in the framing that needs most.
fn sent(entries: &Entries) -> usize {
    let mut octets = Vec::new();
    packed::put_text(&mut octets, FAM);
    entries.put(&mut octets);
    let lens = Framing::ALL.iter().map(|&framing| {
        let mut out = Vec::new();
        framing::encode(framing, Elements::new(2, &octets), &mut out).unwrap();
        out.len()
    });
    lens.max().unwrap()
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{0,40}",
        "[\\x00-\\x1f\\x7f]{0,40}",
        "[\"\\\\]{0,40}",
        "[\\u{80}-\\u{fff}]{0,20}",
    ]
}

/// A value in packed form.
fn value() -> impl Strategy<Value = Vec<u8>> {
    fn with(put: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out);
        out
    }
    let leaf = prop_oneof![
        Just(with(packed::put_undef)),
        Just(with(packed::put_undefined)),
        any::<bool>().prop_map(|value| with(|out| packed::put_bool(out, value))),
        any::<i64>().prop_map(|value| with(|out| packed::put_int(out, value))),
        (-300..300_i64).prop_map(|value| with(|out| packed::put_int(out, value))),
        any::<f32>().prop_map(|value| with(|out| packed::put_float(out, value.into()))),
        any::<f64>().prop_map(|value| with(|out| packed::put_float(out, value))),
        text().prop_map(|text| with(|out| packed::put_text(out, &text))),
        any::<Vec<u8>>().prop_map(|octets| with(|out| packed::put_octets(out, &octets))),
    ];
    leaf.prop_recursive(4, 200, 20, |inner| {
        let list = prop::collection::vec(inner.clone(), 0..20);
        let hash = prop::collection::btree_map(text(), inner.clone(), 0..20);
        prop_oneof![
            list.prop_map(|list| with(|out| {
                packed::put_array(out, list.len());
                list.iter().for_each(|value| out.extend_from_slice(value));
            })),
            hash.prop_map(|hash| with(|out| {
                packed::put_hash(out, hash.len());
                for (key, value) in hash {
                    packed::put_text(out, &key);
                    out.extend_from_slice(&value);
                }
            })),
            (6..1000_u64, inner).prop_map(|(tag, value)| with(|out| {
                packed::put_tag(out, tag);
                out.extend_from_slice(&value);
            })),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_framing_takes_more_octets_than_are_counted(
        entries in prop::collection::btree_map(text(), value(), 0..20)
    ) {
        let mut size = FamilySize::of(FAM.into());
        let (mut all, mut most) = (Entries::new(), 0);
        for (key, value) in entries {
            let key = Str::from(key);
            size.add(key.as_ref(), Value::Octets(&value));
            most += entry_sent_at_most(key.as_ref(), &value);
            all.insert(key, Datum::from_packed(&value).unwrap());
        }
        prop_assert!(sent(&all) <= size.octets() + OVERHEAD, "{} {:?}", sent(&all), size);
        prop_assert!(size.octets() <= FamilySize::of(FAM.into()).octets() + most);
    }
}

/// JSON needs six octets for each of these.
fn escaped(octets: usize) -> Datum {
    Datum::string("\u{1}".repeat(octets).as_str())
}

/// Two of these in a family could not be sent in one packet.
const MORE_THAN_HALF: usize = MAX_FAMILY / 11;

#[test]
fn a_node_cannot_set_more_in_a_family_than_can_be_sent_at_once() {
    for mut me in [TestNode::new("me"), TestNode::global("me")] {
        let now = me.now;
        let mut set = |family: &str, key: &str, octets| {
            me.db.set(&family.into(), key.into(), escaped(octets), now)
        };
        let too_large = Err(SetError::Unsendable(Unsendable::FamilyTooLarge));
        assert_eq!(set(FAM, "a", MORE_THAN_HALF), Ok(()));
        assert_eq!(set(FAM, "b", MORE_THAN_HALF), too_large);
        assert_eq!(set("other", "b", MORE_THAN_HALF), Ok(()));
        assert_eq!(set(FAM, "a", 1), Ok(()));
        assert_eq!(set(FAM, "b", MORE_THAN_HALF), Ok(()));
        assert_eq!(set(FAM, "a", MORE_THAN_HALF), too_large);
        me.db.delete(&FAM.into(), keys("b"), now).unwrap();
        assert_eq!(me.db.set(&FAM.into(), "a".into(), escaped(MORE_THAN_HALF), now), Ok(()));
    }
}

#[test]
fn what_would_make_a_family_too_large_is_taken_from_nobody_and_told_to_nobody() {
    let mut me = TestNode::global("me");
    ["a", "b", "m"].into_iter().for_each(|id| me.up(id));
    me.hear_from("m", Request::Slave(Some(Tables::new())));
    me.hear_from("m", Request::Monitor(FAM.into()));
    me.hear_from("a", Request::Slave(Some(Tables::new())));
    me.hear_from("b", Request::Slave(Some(Tables::new())));
    let mut update = |from: &str, set: Vec<(Str, Datum)>, deleted| {
        let (set, delete) = (Some(set.into_iter().collect()), Some(keys(deleted)));
        me.db.take_effects();
        me.hear_from(from, Request::Update { family: FAM.into(), set, delete });
        let mut told = Vec::new();
        for effect in me.db.take_effects() {
            match effect {
                DbEffect::Send { packet, .. } => told.push(packet.octets_len()),
                DbEffect::Problem { from, problem } => {
                    assert_eq!(from, node("b"));
                    let expected = DbProblem::Unsendable("g_upd", Unsendable::FamilyTooLarge);
                    assert_eq!(problem, expected);
                }
                other => panic!("{other:?}"),
            }
        }
        let merge = me.db.global().unwrap().merge();
        (told, merge.family(&FAM.into()).map(|(key, _)| key.to_string()).collect::<Vec<_>>())
    };
    let large = || escaped(MORE_THAN_HALF);
    let (_, family) = update("a", vec![("first".into(), large())], "");
    assert_eq!(family, ["first"]);
    let set = vec![("second".into(), large()), ("small".into(), Datum::int(1))];
    let (told, family) = update("b", set, "");
    assert_eq!(family, ["first", "small"]);
    assert!(told.iter().all(|&octets| octets < 100), "{told:?}");
    let (_, family) = update("a", Vec::new(), "first");
    assert_eq!(family, ["small"]);
    let (_, family) = update("b", vec![("second".into(), large())], "");
    assert_eq!(family, ["second", "small"]);
}

#[test]
fn the_octets_of_long_strings_are_counted_as_those_of_short_ones() {
    for len in 0..200 {
        let data: Vec<u8> = (0..len).map(|at| (at * 7 % 256) as u8).collect();
        let one_by_one: usize =
            data.iter().map(|octet| extra_json_octets(std::slice::from_ref(octet))).sum();
        assert_eq!(extra_json_octets(&data), one_by_one);
    }
    let all: Vec<u8> = (0..=255).collect();
    let escaped = all.iter().filter(|&&octet| extra(octet) == 5).count();
    assert_eq!((escaped, extra_json_octets(&all)), (33, 33 * 5 + 128 + 2));
    assert_eq!(extra_json_octets(&[0; 64]), 64 * 5);
}

#[test]
fn large_values_are_measured_once_with_the_same_result() {
    for (levels, is_too_deep) in [(MAX_ENTRY_NESTING - 1, false), (MAX_ENTRY_NESTING, true)] {
        let mut octets = Vec::new();
        packed::put_array(&mut octets, 2);
        (0..levels).for_each(|_| packed::put_array(&mut octets, 1));
        packed::put_undef(&mut octets);
        packed::put_text(&mut octets, &"\u{1}".repeat(100 << 10));
        let datum = Datum::from_packed(&octets).unwrap();
        assert!(datum.measures_of_large().is_some());
        assert_eq!(datum.octets(), octets);
        let family = StrRef::text(FAM);
        let (large, small) = (Value::Held(&datum), Value::Octets(&octets));
        assert_eq!(large.sent(), small.sent());
        assert_eq!(check(family, family, large), check(family, family, small));
        assert_eq!(check(family, family, large).is_err(), is_too_deep);
    }
}
