//! Every rule of the merge by example, then all of them against a model that searches everything.

use super::super::entries::Tables;
use super::*;
use proptest::prelude::*;

fn entries(text: &str) -> Entries {
    text.split_whitespace()
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap();
            (key.into(), value.parse().map_or(Datum::string(value), Datum::int))
        })
        .collect()
}

fn id(node: &str) -> NodeId {
    node.parse().unwrap()
}

fn keys(text: &str) -> Vec<Str> {
    text.split_whitespace().map(Str::from).collect()
}

fn tables(text: &str) -> Tables {
    let entries = entries(text);
    if entries.is_empty() { Tables::new() } else { [("fam".into(), entries)].into() }
}

/// `me` and `s...` are slaves, `g...` are global, `o...` are neither.
fn kind(node: &str) -> OwnerKind {
    match node.as_bytes()[0] {
        b's' | b'm' => OwnerKind::Slave,
        b'g' => OwnerKind::Global,
        _ => OwnerKind::Other,
    }
}

/// What another global node has to know.
fn told_to_globals(merge: &Merge) -> Tables {
    let value_of = |family: &Str, key: &Str| merge.value_of_slaves(family, key).cloned();
    let families = merge.keys_of_slaves().into_iter();
    let families = families.map(|(family, keys)| {
        let entries = keys.into_iter().map(|key| {
            let value = value_of(&family, &key).unwrap();
            (key, value)
        });
        let entries = entries.collect();
        (family, entries)
    });
    families.collect()
}

fn update(merge: &mut Merge, node: &str, set: &str, delete: &str) -> Change {
    merge.set_kind(&id(node), kind(node));
    merge.update(&id(node), "fam".into(), entries(set), keys(delete))
}

fn show(entries: &Entries) -> String {
    let pairs: Vec<_> =
        entries.iter().map(|(key, value)| format!("{key}={}", value.to_str().unwrap())).collect();
    pairs.join(" ")
}

fn merged(merge: &Merge) -> String {
    show(&merge.family(&"fam".into()).map(|(k, v)| (k.clone(), v.clone())).collect())
}

fn subscribers_see(change: &Change) -> String {
    let mut set = change.set.clone();
    set.extend(change.set_for_subscribers.clone());
    seen(&set, &change.deletions_for_subscribers, change.tell_subscribers())
}

fn globals_see(change: &Change) -> String {
    seen(&for_globals(change), &change.deletions_for_globals, change.tell_globals)
}

fn seen(set: &Entries, deleted: &[Str], told: bool) -> String {
    if !told {
        return "nothing".into();
    }
    let deleted: Vec<_> = deleted.iter().map(Str::to_string).collect();
    format!("{}|{}", show(set), deleted.join(" "))
}

#[test]
fn each_rule_of_the_merge() {
    struct Case {
        rule: &'static str,
        before: &'static [(&'static str, &'static str)],
        change: (&'static str, &'static str, &'static str),
        merged: &'static str,
        subscribers: &'static str,
        globals: &'static str,
    }
    let case = |rule, before, change, merged, subscribers, globals| Case {
        rule,
        before,
        change,
        merged,
        subscribers,
        globals,
    };
    for Case { rule, before, change: (node, set, delete), merged: after, subscribers, globals } in [
        case("a slave's set goes to all", &[], ("s", "k=1", ""), "k=1", "k=1|", "k=1|"),
        case("a global's set goes to subscribers", &[], ("g", "k=1", ""), "k=1", "k=1|", "nothing"),
        case("so does a stranger's", &[], ("o", "k=1", ""), "k=1", "k=1|", "nothing"),
        case(
            "the last writer wins",
            &[("s", "k=1"), ("g", "k=2")],
            ("s2", "k=3", ""),
            "k=3",
            "k=3|",
            "k=3|",
        ),
        case(
            "a global wins too if it is last",
            &[("s", "k=1")],
            ("g", "k=2", ""),
            "k=2",
            "k=2|",
            "nothing",
        ),
        case("equal sets are passed on", &[("s", "k=1")], ("s", "k=1", ""), "k=1", "k=1|", "k=1|"),
        case(
            "nothing is told of nothing",
            &[("s", "k=1")],
            ("s", "", ""),
            "k=1",
            "nothing",
            "nothing",
        ),
        case(
            "a slave's last copy is deleted everywhere",
            &[("s", "k=1 l=1")],
            ("s", "", "k"),
            "l=1",
            "|k",
            "|k",
        ),
        case(
            "a global's last copy is deleted here",
            &[("g", "k=1 l=1")],
            ("g", "", "k"),
            "l=1",
            "|k",
            "nothing",
        ),
        case("a stranger's too", &[("o", "k=1")], ("o", "", "k"), "", "|k", "nothing"),
        case(
            "another slave has the merged value: nobody is told",
            &[("s", "k=1"), ("s2", "k=2")],
            ("s", "", "k"),
            "k=2",
            "nothing",
            "nothing",
        ),
        case(
            "another slave has the merged value, as a string",
            &[("s", "k=2"), ("s2", "k=1"), ("s", "k=1")],
            ("s2", "", "k"),
            "k=1",
            "nothing",
            "nothing",
        ),
        case(
            "another slave has another value: it is set for all",
            &[("s2", "k=2"), ("s", "k=1")],
            ("s", "", "k"),
            "k=2",
            "k=2|",
            "k=2|",
        ),
        case(
            "a slave's value goes before a later one of a global",
            &[("s2", "k=2"), ("g", "k=3"), ("s", "k=1")],
            ("s", "", "k"),
            "k=2",
            "k=2|",
            "k=2|",
        ),
        case(
            "another slave has the merged value, but globals were told another",
            &[("s2", "k=1"), ("s", "k=2"), ("g", "k=1")],
            ("s", "", "k"),
            "k=1",
            "nothing",
            "k=1|",
        ),
        case(
            "even if the one who deletes was not the last writer",
            &[("s2", "k=2"), ("s", "k=1"), ("g", "k=3")],
            ("s", "", "k"),
            "k=2",
            "k=2|",
            "k=2|",
        ),
        case(
            "a global deletes, a slave has another value: only subscribers are told",
            &[("s", "k=1"), ("g", "k=2")],
            ("g", "", "k"),
            "k=1",
            "k=1|",
            "nothing",
        ),
        case(
            "a global deletes, a slave has the merged value",
            &[("g", "k=2"), ("s", "k=1")],
            ("g", "", "k"),
            "k=1",
            "nothing",
            "nothing",
        ),
        case(
            "only a global is left, with another value: a set here, a deletion for globals",
            &[("g", "k=2"), ("s", "k=1")],
            ("s", "", "k"),
            "k=2",
            "k=2|",
            "|k",
        ),
        case(
            "only a global is left, with the merged value: a deletion for globals all the same",
            &[("s", "k=1"), ("g", "k=2")],
            ("s", "", "k"),
            "k=2",
            "nothing",
            "|k",
        ),
        case(
            "a global deletes, another has another value",
            &[("g2", "k=2"), ("g", "k=1")],
            ("g", "", "k"),
            "k=2",
            "k=2|",
            "nothing",
        ),
        case(
            "sets and deletions in one go",
            &[("s2", "b=9"), ("g", "c=8"), ("s", "a=1 b=1 c=1 d=1")],
            ("s", "a=2 e=5", "b c d"),
            "a=2 b=9 c=8 e=5",
            "a=2 b=9 c=8 e=5|d",
            "a=2 b=9 e=5|c d",
        ),
        case(
            "sets apply before deletions",
            &[("s", "k=1")],
            ("s", "k=2 l=2", "k"),
            "l=2",
            "l=2|k",
            "l=2|k",
        ),
        case(
            "set and deleted at once, another slave has it",
            &[("s2", "k=7")],
            ("s", "k=2", "k"),
            "k=7",
            "nothing",
            "nothing",
        ),
        case("deleted twice is deleted once", &[("s", "k=1")], ("s", "", "k k"), "", "|k", "|k"),
        case("deleting what nobody has", &[], ("s", "", "k"), "", "|k", "|k"),
    ] {
        let mut merge = Merge::new();
        for (node, set) in before {
            update(&mut merge, node, set, "");
        }
        let change = update(&mut merge, node, set, delete);
        assert_eq!(merged(&merge), after, "{rule}");
        assert_eq!(subscribers_see(&change), subscribers, "{rule}");
        assert_eq!(globals_see(&change), globals, "{rule}");
    }
}

#[test]
fn equal_means_equal_in_perl() {
    let family = || Str::from("fam");
    for (merged, left, told) in [
        (Datum::int(2), Datum::string("2"), false),
        (Datum::UNDEF, Datum::string(""), true),
        (Datum::string("2.0"), Datum::int(2), true),
    ] {
        let mut merge = Merge::new();
        merge.set_kind(&id("s"), OwnerKind::Slave);
        merge.set_kind(&id("s2"), OwnerKind::Slave);
        let set = |value: &Datum| [("k".into(), value.clone())].into_iter().collect();
        merge.update(&id("s2"), family(), set(&left), Vec::new());
        merge.update(&id("s"), family(), set(&merged), Vec::new());
        let change = merge.update(&id("s"), family(), Entries::new(), keys("k"));
        assert_eq!(change.tell_subscribers(), told);
        assert_eq!(merge.get(&family(), &"k".into()), Some(&left));
    }
}

#[test]
fn octets_and_text_are_the_same_key() {
    let mut merge = Merge::new();
    let (octets, text) = (Str::octets(&b"\xe9"[..]), Str::text("é"));
    let set = [(octets.clone(), Datum::int(1))].into_iter().collect();
    merge.update(&id("s"), octets.clone(), set, Vec::new());
    let change = merge.update(&id("s"), text.clone(), Entries::new(), vec![text]);
    assert_eq!(change.deletions_for_subscribers, [octets]);
    assert_eq!(merge.families().count(), 0);
}

#[test]
fn a_second_database_replaces_the_first() {
    let mut merge = Merge::new();
    update(&mut merge, "s", "a=1 b=1 c=1", "");
    let changes = merge.replace(&id("s"), tables("b=1 c=2 d=1"));
    assert_eq!(merged(&merge), "b=1 c=2 d=1");
    assert_eq!(changes.len(), 1);
    assert_eq!(subscribers_see(&changes[0].1), "b=1 c=2 d=1|a");
    let changes = merge.replace(&id("s"), Tables::new());
    assert_eq!(subscribers_see(&changes[0].1), "|b c d");
    assert_eq!(merge.kind(&id("s")), Some(OwnerKind::Slave), "it is still known");
}

#[test]
fn a_removed_node_is_deleted_family_by_family() {
    let mut merge = Merge::new();
    update(&mut merge, "s", "a=1 b=1", "");
    update(&mut merge, "g", "b=2", "");
    merge.update(&id("s"), "other".into(), entries("x=1"), Vec::new());
    let changes = merge.remove(&id("s"));
    let families: Vec<_> = changes.iter().map(|(family, _)| family.to_string()).collect();
    assert_eq!(families, ["fam", "other"]);
    assert_eq!(globals_see(&changes[0].1), "|a b");
    assert_eq!(subscribers_see(&changes[0].1), "|a");
    assert_eq!(merged(&merge), "b=2");
    assert_eq!(merge.kind(&id("s")), None);
    assert!(merge.remove(&id("s")).is_empty());
}

#[test]
fn what_our_slaves_have_leaves_out_all_others() {
    let mut merge = Merge::new();
    update(&mut merge, "s", "a=1 b=1", "");
    update(&mut merge, "s2", "b=2 c=2", "");
    update(&mut merge, "g", "b=3 c=3 d=3", "");
    update(&mut merge, "o", "a=4 e=4", "");
    merge.update(&id("g"), "other".into(), entries("x=1"), Vec::new());
    assert_eq!(told_to_globals(&merge), tables("a=1 b=2 c=2"));
}

#[test]
fn a_node_that_becomes_something_else_keeps_its_entries() {
    let mut merge = Merge::new();
    update(&mut merge, "o", "a=1 b=1", "");
    update(&mut merge, "s", "b=2", "");
    merge.set_kind(&id("o"), OwnerKind::Slave);
    assert_eq!(told_to_globals(&merge), tables("a=1 b=2"));
    let change = merge.update(&id("s"), "fam".into(), Entries::new(), keys("b"));
    assert_eq!(globals_see(&change), "b=1|", "it is a slave's value now");
    merge.set_kind(&id("o"), OwnerKind::Global);
    assert!(told_to_globals(&merge).is_empty());
}

/// The rules once more, the slow way: every question is answered by a search of everything.
#[derive(Default)]
struct Model {
    kinds: BTreeMap<String, OwnerKind>,
    /// Node, key, when, what.
    held: Vec<(String, String, u64, Datum)>,
    merged: BTreeMap<String, Datum>,
    clock: u64,
}

#[derive(Default, Debug, PartialEq)]
struct Told {
    sets: BTreeMap<String, Datum>,
    deleted: BTreeSet<String>,
}

impl Model {
    fn update(&mut self, node: &str, set: &Entries, delete: &[Str]) -> (Told, Option<Told>) {
        let (mut subscribers, mut globals) = (Told::default(), Told::default());
        let from_slave = self.kinds[node] == OwnerKind::Slave;
        // A key that is set and deleted in one go is as good as only deleted.
        for (key, value) in set.iter().filter(|(key, _)| !delete.contains(key)) {
            let key = key.to_string();
            self.held.retain(|(n, k, ..)| (n.as_str(), k) != (node, &key));
            self.clock += 1;
            self.held.push((node.into(), key.clone(), self.clock, value.clone()));
            self.merged.insert(key.clone(), value.clone());
            subscribers.sets.insert(key.clone(), value.clone());
            globals.sets.insert(key, value.clone());
        }
        for key in delete.iter().map(Str::to_string).collect::<BTreeSet<_>>() {
            let latest = |held: &[(String, String, u64, Datum)], slaves: bool| {
                held.iter()
                    .filter(|(n, k, ..)| *k == key && (self.kinds[n] == OwnerKind::Slave) == slaves)
                    .max_by_key(|(_, _, when, _)| *when)
                    .map(|(.., value)| value.clone())
            };
            let told = latest(&self.held, true);
            self.held.retain(|(n, k, ..)| (n.as_str(), k) != (node, &key));
            let (slave, other) = (latest(&self.held, true), latest(&self.held, false));
            let differs = |value: &Datum| !self.merged.get(&key).is_some_and(|m| m.perl_eq(value));
            if let Some(value) = slave {
                if differs(&value) {
                    subscribers.sets.insert(key.clone(), value.clone());
                    globals.sets.insert(key.clone(), value.clone());
                    self.merged.insert(key, value);
                } else if !told.is_some_and(|told| told.perl_eq(&value)) {
                    globals.sets.insert(key, value);
                }
            } else if let Some(value) = other {
                globals.deleted.insert(key.clone());
                if differs(&value) {
                    subscribers.sets.insert(key.clone(), value.clone());
                    self.merged.insert(key, value);
                }
            } else {
                self.merged.remove(&key);
                subscribers.deleted.insert(key.clone());
                if from_slave {
                    globals.deleted.insert(key);
                }
            }
        }
        (subscribers, from_slave.then_some(globals))
    }

    fn keys_of(&self, node: &str) -> Vec<Str> {
        let keys = self.held.iter().filter(|(n, ..)| n == node);
        keys.map(|(_, key, ..)| Str::from(key.as_str())).collect()
    }
}

fn told(sets: &Entries, deleted: &[Str]) -> Told {
    Told {
        sets: sets.iter().map(|(k, v)| (k.to_string(), v.clone())).collect(),
        deleted: deleted.iter().map(Str::to_string).collect(),
    }
}

fn for_globals(change: &Change) -> Entries {
    let mut set = change.set.clone();
    set.extend(change.set_for_globals.clone());
    set
}

impl Told {
    /// Keeps in `sets` what somebody knows who heard all changes so far.
    fn hear(&mut self, set: &Entries, deleted: &[Str]) {
        self.sets.extend(told(set, &[]).sets);
        deleted.iter().for_each(|key| {
            self.sets.remove(&key.to_string());
        });
    }
}

fn check_told(change: &Change, expected: (Told, Option<Told>)) {
    let mut set = change.set.clone();
    set.extend(change.set_for_subscribers.clone());
    assert_eq!(told(&set, &change.deletions_for_subscribers), expected.0);
    let globals = expected.1.unwrap_or_default();
    assert_eq!(change.tell_globals, globals != Told::default());
    if change.tell_globals {
        assert_eq!(told(&for_globals(change), &change.deletions_for_globals), globals);
    }
}

#[derive(Debug, Clone)]
enum Operation {
    Update(usize, Entries, Vec<Str>),
    Replace(usize, Entries),
    Remove(usize),
    Become(usize, OwnerKind),
}

const NODES: [&str; 6] = ["me", "s1", "s2", "g1", "g2", "o1"];

fn operation() -> impl Strategy<Value = Operation> {
    let key = || (0..5_u8).prop_map(|n| Str::from(format!("k{n}")));
    let value = || {
        prop_oneof![
            (0..3_i64).prop_map(Datum::int),
            Just(Datum::string("1")),
            Just(Datum::UNDEF),
            Just(Datum::string(""))
        ]
    };
    let set = move || {
        proptest::collection::btree_map(key(), value(), 0..4)
            .prop_map(|map| map.into_iter().collect::<Entries>())
    };
    let kind = prop_oneof![Just(OwnerKind::Slave), Just(OwnerKind::Global), Just(OwnerKind::Other)];
    prop_oneof![
        8 => (0..6_usize, set(), proptest::collection::vec(key(), 0..4))
            .prop_map(|(node, set, delete)| Operation::Update(node, set, delete)),
        2 => (0..6_usize, set()).prop_map(|(node, set)| Operation::Replace(node, set)),
        1 => (0..6_usize).prop_map(Operation::Remove),
        1 => (0..6_usize, kind).prop_map(|(node, kind)| Operation::Become(node, kind)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_indexes_answer_what_a_search_of_everything_answers(
        operations in proptest::collection::vec(operation(), 1..60)
    ) {
        let (mut merge, mut model) = (Merge::new(), Model::default());
        let (mut subscriber, mut global) = (Told::default(), Told::default());
        let mut told_globals_all = true;
        for node in NODES {
            merge.set_kind(&id(node), kind(node));
            model.kinds.insert(node.into(), kind(node));
        }
        for operation in operations {
            let changes = match operation {
                Operation::Update(node, set, delete) => {
                    let node = NODES[node];
                    let expected = model.update(node, &set, &delete);
                    let change = merge.update(&id(node), "fam".into(), set, delete);
                    check_told(&change, expected);
                    vec![(Str::from("fam"), change)]
                }
                Operation::Replace(node, set) => {
                    let node = NODES[node];
                    let mut missing = model.keys_of(node);
                    missing.retain(|key| !set.contains(key));
                    let expected = model.update(node, &set, &missing);
                    let changes = merge.replace(&id(node), [("fam".into(), set)].into());
                    prop_assert_eq!(changes.len(), 1);
                    check_told(&changes[0].1, expected);
                    changes
                }
                Operation::Remove(node) => {
                    let node = NODES[node];
                    let keys = model.keys_of(node);
                    let expected = model.update(node, &Entries::new(), &keys);
                    let changes = merge.remove(&id(node));
                    prop_assert_eq!(changes.len(), usize::from(!keys.is_empty()));
                    if let Some((_, change)) = changes.first() {
                        check_told(change, expected);
                    }
                    merge.set_kind(&id(node), model.kinds[node]);
                    changes
                }
                Operation::Become(node, kind) => {
                    merge.set_kind(&id(NODES[node]), kind);
                    model.kinds.insert(NODES[node].into(), kind);
                    told_globals_all = false;
                    Vec::new()
                }
            };
            for (_, change) in changes {
                let mut set = change.set.clone();
                set.extend(change.set_for_subscribers.clone());
                subscriber.hear(&set, &change.deletions_for_subscribers);
                if change.tell_globals {
                    global.hear(&for_globals(&change), &change.deletions_for_globals);
                }
            }
            let merged: BTreeMap<_, _> =
                merge.family(&"fam".into()).map(|(k, v)| (k.to_string(), v.clone())).collect();
            prop_assert_eq!(merged.len(), model.merged.len());
            for (key, value) in &merged {
                prop_assert!(model.merged[key].perl_eq(value));
            }
            for node in NODES {
                prop_assert_eq!(merge.owned(&id(node)), model.keys_of(node).len());
            }
            let of_slaves: BTreeSet<_> = model.held.iter()
                .filter(|(node, ..)| model.kinds[node] == OwnerKind::Slave)
                .map(|(_, key, ..)| key.clone()).collect();
            let tables = told_to_globals(&merge);
            let told: BTreeSet<_> = tables.values()
                .flat_map(Entries::keys).map(Str::to_string).collect();
            prop_assert_eq!(&told, &of_slaves);
            prop_assert!(subscriber.sets.keys().eq(merged.keys()));
            for (key, value) in &subscriber.sets {
                prop_assert!(merged[key].perl_eq(value));
            }
            if told_globals_all {
                prop_assert!(global.sets.keys().eq(of_slaves.iter()));
                let values = tables.values().flat_map(Entries::values);
                prop_assert!(global.sets.values().zip(values).all(|(told, is)| told.perl_eq(is)));
            }
        }
    }
}

/// A network of slaves with 100 entries each, and of one that shares its keys with another.
fn network(slaves: usize) -> Merge {
    let mut merge = Merge::new();
    for slave in 0..slaves {
        let node = format!("s{slave}");
        let set = (0..100)
            .map(|n| (format!("node{slave}#port{n}").into(), Datum::int(n)))
            .chain((0..10).map(|n| (format!("shared{}-{n}", slave / 2).into(), Datum::int(n))))
            .collect();
        merge.set_kind(&id(&node), OwnerKind::Slave);
        merge.update(&id(&node), "workers".into(), set, Vec::new());
    }
    merge
}

#[test]
fn losing_a_node_costs_what_it_owned() {
    let cost = |slaves| {
        let mut merge = network(slaves);
        let before = merge.operations();
        let changes = merge.remove(&id("s42"));
        assert_eq!(changes[0].1.deletions_for_subscribers.len(), 100);
        merge.operations() - before
    };
    assert_eq!(cost(100), 110);
    assert_eq!(cost(2_000), 110);
}
