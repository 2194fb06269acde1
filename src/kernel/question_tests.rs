//! Questions about large families are answered in parts, and exactly.

use super::tests::{Host, node};
use super::*;
use crate::kernel::Effect;
use std::collections::BTreeMap;

/// More than some parts of a reading.
const KEYS: u32 = 12_000;

type Family = BTreeMap<String, u32>;

/// The global node, at which `peer` has set this family.
fn host(family: &Family) -> Host {
    let mut host = Host::new();
    let database = BTreeMap::from([("f", family)]);
    host.in_pieces("peer", &Packed::of(&("g_slave", database)).unwrap());
    host
}

fn update(host: &mut Host, family: &mut Family, set: &Family, delete: &[String]) {
    host.in_pieces("peer", &Packed::of(&("g_upd", "f", set, delete)).unwrap());
    family.extend(set.clone());
    family.retain(|key, _| !delete.contains(key));
}

fn family(keys: impl IntoIterator<Item = u32>, value: u32) -> Family {
    keys.into_iter().map(|key| (format!("key{key}"), value)).collect()
}

/// What the watcher is sent.
fn sent_to_watcher(effects: &[Effect]) -> Vec<Packed> {
    let packet = |effect: &Effect| match effect {
        Effect::Send { to, packet } if *to == node("watcher") => Some(packet.clone()),
        Effect::SendAll { to, packet } if to.contains(&node("watcher")) => Some(packet.clone()),
        Effect::SendLater { to, packets } if *to == node("watcher") => {
            let octets = packets.octets();
            let packet = packets.as_ref().clone().into_packets().pop()?;
            assert!(packet.as_elements().octets().len() <= octets);
            Some(packet)
        }
        _ => None,
    };
    effects.iter().filter_map(packet).collect()
}

/// The watcher asks; `between` is called after each part. Returns the effects and the number of parts.
fn ask(
    host: &mut Host,
    question: &Packed,
    mut between: impl FnMut(&mut Host, usize),
) -> (Vec<Effect>, usize) {
    let watcher = node("watcher");
    let mut effects = host.input(|kernel| kernel.node_packet(&watcher, question.as_elements()));
    let Some(mut rest) = host.kernel.take_unfinished(&watcher) else { return (effects, 1) };
    let mut parts = 1;
    while matches!(rest.prepare(), NextPiece::Kernel) {
        between(host, parts);
        effects.extend(host.input(|kernel| rest.work(kernel)));
        parts += 1;
        assert!(parts < 1000, "it does not end");
    }
    assert_eq!(host.kernel.db.global().unwrap().merge().readings(), 0);
    (effects, parts)
}

fn question(name: &str) -> Packed {
    Packed::of(&(name, "f", "id")).unwrap()
}

/// Changes of all kinds: keys that are new, changed, deleted, deleted and set again.
fn change_some(host: &mut Host, family: &mut Family, part: usize) {
    let part = part as u32;
    let of_part = |step: usize| (part * 37 % 101..2 * KEYS).step_by(step);
    let new = self::family(of_part(499), 1000 + part);
    let gone: Vec<String> = of_part(293).map(|key| format!("key{key}")).collect();
    update(host, family, &new, &gone);
    let again = self::family(of_part(1465), 2000 + part);
    update(host, family, &again, &[]);
}

#[test]
fn an_answer_has_the_family_as_it_is_when_the_last_part_has_been_read() {
    let mut content = family(0..KEYS, 1);
    let mut host = host(&content);
    for _ in 0..3 {
        let between = |host: &mut Host, part| change_some(host, &mut content, part);
        let (effects, parts) = ask(&mut host, &question("g_db_family"), between);
        assert!(parts > 2, "{parts}");
        let [answer] = &sent_to_watcher(&effects)[..] else { panic!("{}", effects.len()) };
        type Reply = (String, String, String, Family);
        let (_, name, id, told) = answer.decode::<Reply>().unwrap();
        assert_eq!((name.as_str(), id.as_str()), ("g_reply", "id"));
        assert!(told == content);
    }
    type Replies<T> = (String, String, String, Vec<T>);
    let between = |host: &mut Host, part| change_some(host, &mut content, part);
    let (effects, _) = ask(&mut host, &question("g_db_keys"), between);
    let (.., mut keys) = sent_to_watcher(&effects)[0].decode::<Replies<String>>().unwrap();
    keys.sort();
    assert!(keys.iter().eq(content.keys()));
    let between = |host: &mut Host, part| change_some(host, &mut content, part);
    let (effects, _) = ask(&mut host, &question("g_db_values"), between);
    let (.., mut values) = sent_to_watcher(&effects)[0].decode::<Replies<u32>>().unwrap();
    let mut all: Vec<u32> = content.values().copied().collect();
    values.sort_unstable();
    all.sort_unstable();
    assert_eq!(values, all);
}

#[test]
fn a_monitor_gets_the_family_and_then_each_change_after_it() {
    let mut content = family(0..KEYS, 1);
    let mut host = host(&content);
    let monitor = Packed::of(&("g_mon1", "f")).unwrap();
    let between = |host: &mut Host, part| change_some(host, &mut content, part);
    let (effects, _) = ask(&mut host, &monitor, between);
    let [first] = &sent_to_watcher(&effects)[..] else { panic!("{}", effects.len()) };
    let (_, name, _, told) = first.decode::<(String, String, String, Family)>().unwrap();
    assert_eq!(name, "g_chg1");
    assert!(told == content);
    let packet = Packed::of(&("g_upd", "f", family([1], 7), ["key2"])).unwrap();
    let [change] = &sent_to_watcher(&host.whole("peer", &packet))[..] else { panic!("none") };
    type Change = (String, String, String, Family, Vec<String>);
    let (_, name, _, set, delete) = change.decode::<Change>().unwrap();
    assert_eq!((name.as_str(), set, delete), ("g_chg2", family([1], 7), vec!["key2".to_owned()]));
}

#[test]
fn a_family_that_ends_and_begins_again_while_it_is_read_is_told_as_it_is() {
    let mut content = family(0..KEYS, 1);
    let mut host = host(&content);
    let between = |host: &mut Host, part| {
        if part == 1 {
            let all: Vec<String> = content.keys().cloned().collect();
            update(host, &mut content, &Family::new(), &all);
            assert!(content.is_empty());
            update(host, &mut content, &family(10..2 * KEYS, 2), &[]);
        }
    };
    let (effects, _) = ask(&mut host, &question("g_db_family"), between);
    let told = sent_to_watcher(&effects)[0].decode::<(String, String, String, Family)>().unwrap().3;
    assert!(told == content);
    let between = |host: &mut Host, part| {
        if part == 1 {
            let all: Vec<String> = content.keys().cloned().collect();
            update(host, &mut content, &Family::new(), &all);
        }
    };
    let (effects, _) = ask(&mut host, &Packed::of(&("g_mon1", "f")).unwrap(), between);
    let told = sent_to_watcher(&effects)[0].decode::<(String, String, String, Option<Family>)>();
    assert_eq!(told.unwrap().3, None);
}

#[test]
fn an_answer_takes_no_more_parts_however_fast_others_change_the_family() {
    let mut content = family(0..KEYS, 1);
    let mut host = host(&content);
    let (_, usual) = ask(&mut host, &question("g_db_family"), |_, _| ());
    let mut value = 2;
    let between = |host: &mut Host, _: usize| {
        value += 1;
        let many = family((0..KEYS).step_by(3), value);
        update(host, &mut content, &many, &[]);
    };
    let (effects, parts) = ask(&mut host, &question("g_db_family"), between);
    assert_eq!(parts, usual);
    let told = sent_to_watcher(&effects)[0].decode::<(String, String, String, Family)>().unwrap().3;
    assert!(told == content);
}

#[test]
fn nothing_is_left_of_a_question_of_a_node_that_is_lost() {
    let mut host = host(&family(0..KEYS, 1));
    let watcher = node("watcher");
    let monitor = Packed::of(&("g_mon1", "f")).unwrap();
    host.input(|kernel| kernel.node_packet(&watcher, monitor.as_elements()));
    let mut rest = host.kernel.take_unfinished(&watcher).unwrap();
    host.lose("watcher");
    let merge = |host: &Host| host.kernel.db.global().unwrap().merge().readings();
    assert_eq!(merge(&host), 0);
    // It may be back before the thread that answered it goes on.
    host.connect("watcher");
    host.kernel.take_effects();
    assert!(matches!(rest.prepare(), NextPiece::Kernel));
    let effects = host.input(|kernel| rest.work(kernel));
    assert!(effects.is_empty(), "{effects:?}");
    assert!(matches!(rest.prepare(), NextPiece::Done));
    let packet = Packed::of(&("g_upd", "f", family([1], 7), ())).unwrap();
    assert!(sent_to_watcher(&host.whole("peer", &packet)).is_empty());
}

#[test]
fn small_answers_are_packets_at_once() {
    let content = family(0..1000, 1);
    let mut host = host(&content);
    let (effects, parts) = ask(&mut host, &question("g_db_family"), |_, _| ());
    assert!(matches!(effects[..], [Effect::Send { .. }]), "{}", effects.len());
    assert_eq!(parts, 1);
    // The values may be large, though the keys are few.
    let large = BTreeMap::from([("f", BTreeMap::from([("k", "x".repeat(LARGE_PACKET))]))]);
    host.in_pieces("peer", &Packed::of(&("g_slave", large)).unwrap());
    let (effects, parts) = ask(&mut host, &question("g_db_family"), |_, _| ());
    assert!(matches!(effects[..], [Effect::SendLater { .. }]), "{}", effects.len());
    assert_eq!(parts, 1);
}
