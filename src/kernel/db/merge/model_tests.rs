//! The merge against a model that searches all entries for every answer.

use super::tests::{for_globals, id, kind, told_to_globals};
use super::*;
use proptest::prelude::*;

/// The rules in their simplest form: every answer is found by searching all entries.
#[derive(Default)]
struct Model {
    kinds: BTreeMap<String, OwnerKind>,
    /// Node, key, time, value.
    held: Vec<(String, String, u64, Datum)>,
    merged: BTreeMap<String, Datum>,
    clock: u64,
}

#[derive(Default, Debug, PartialEq)]
struct Knows {
    sets: BTreeMap<String, Datum>,
    deleted: BTreeSet<String>,
}

impl Model {
    fn update(&mut self, node: &str, set: &Entries, delete: &[Str]) -> (Knows, Option<Knows>) {
        let (mut subscribers, mut globals) = (Knows::default(), Knows::default());
        let from_slave = self.kinds[node] == OwnerKind::Slave;
        // A key that is set and deleted at once is only deleted.
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

fn told(sets: &Entries, deleted: &[Str]) -> Knows {
    Knows {
        sets: sets.iter().map(|(k, v)| (k.to_string(), v.clone())).collect(),
        deleted: deleted.iter().map(Str::to_string).collect(),
    }
}

impl Knows {
    /// Maintains in `sets` the entries known to an observer who has received all changes.
    fn hear(&mut self, set: &Entries, deleted: &[Str]) {
        self.sets.extend(told(set, &[]).sets);
        deleted.iter().for_each(|key| {
            self.sets.remove(&key.to_string());
        });
    }
}

fn check_told(change: &Change, expected: (Knows, Option<Knows>)) {
    let mut set = change.set.clone();
    set.extend(change.set_for_subscribers.clone());
    assert_eq!(told(&set, &change.deletions_for_subscribers), expected.0);
    let globals = expected.1.unwrap_or_default();
    assert_eq!(change.tell_globals, globals != Knows::default());
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
        let (mut subscriber, mut global) = (Knows::default(), Knows::default());
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
            let counted = merge.families.get(&Str::from("fam")).map(|keys| keys.size);
            let mut size = FamilySize::of("fam".into());
            merge.family(&"fam".into()).for_each(|(k, v)| size.add(k.as_ref(), Value::Held(v)));
            prop_assert_eq!(counted.unwrap_or(FamilySize::of("fam".into())), size);
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
