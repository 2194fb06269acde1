use super::*;
use crate::value::Str;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::hash::Hasher;

thread_local! {
    static HASHES: Cell<usize> = const { Cell::new(0) };
}

/// Counts how often it is hashed.
#[derive(Debug, PartialEq, Eq)]
struct Counted(usize);

impl Hash for Counted {
    fn hash<H: Hasher>(&self, state: &mut H) {
        HASHES.set(HASHES.get() + 1);
        self.0.hash(state);
    }
}

/// How many hashes `act` has computed.
fn hashes(act: impl FnOnce()) -> usize {
    HASHES.set(0);
    act();
    HASHES.get()
}

impl<K, V> Node<K, V> {
    /// The capacities of all leaves.
    fn capacities(&self) -> Vec<usize> {
        match self {
            Node::Leaf(leaf) => vec![leaf.capacity()],
            Node::Branch(parts) => parts.iter().flat_map(Node::capacities).collect(),
        }
    }
}

#[test]
fn no_insertion_or_removal_moves_more_entries_than_a_leaf_has() {
    const ALL: usize = 100_000;
    let mut table = Table::default();
    for number in 0..ALL {
        let moved = hashes(|| assert!(table.insert(Counted(number), ()).is_none()));
        assert!(moved <= 3 * MAX_LEAF, "{moved} hashes at {number} entries");
    }
    for number in 0..ALL {
        let moved = hashes(|| assert!(table.remove(&Counted(number)).is_some()));
        assert!(moved <= MAX_LEAF, "{moved} hashes at {number} entries");
    }
}

#[test]
fn inserting_many_entries_computes_a_few_hashes_for_each() {
    const ALL: usize = 100_000;
    let mut table = Table::default();
    let all = hashes(|| table = (0..ALL).map(|number| (Counted(number), ())).collect());
    assert_eq!(table.len(), ALL);
    assert!(all < 6 * ALL, "{all} hashes for {ALL} entries");
}

#[test]
fn a_table_that_shrinks_gives_memory_back() {
    const ALL: usize = 50_000;
    let mut table: Table<usize, ()> = (0..ALL).map(|number| (number, ())).collect();
    let full: usize = table.root.capacities().iter().sum();
    for left in [ALL / 2, ALL / 10, ALL / 100] {
        for number in left..ALL {
            table.remove(&number);
        }
        let capacity: usize = table.root.capacities().iter().sum();
        let small_leaves = 16 * table.root.capacities().len();
        assert!(capacity <= 16 * left + small_leaves, "{capacity} of {full} for {left} entries");
    }
    for number in 0..ALL {
        table.remove(&number);
    }
    assert_eq!(table.root.capacities(), [0]);
}

#[test]
fn keys_are_found_in_the_form_that_they_have_in_a_packet() {
    let mut table: Table<Str, u32> = Table::default();
    for number in 0..5000 {
        table.insert(Str::text(&format!("key{number}")), number);
    }
    for number in 0..5000 {
        let name = format!("key{number}");
        let key = crate::value::StrRef::octets(name.as_bytes());
        assert_eq!(table.get(&key), Some(&number));
        assert!(matches!(table.place(&key), Place::Occupied(slot) if slot.get().1 == number));
    }
    assert!(!table.contains_key(&crate::value::StrRef::octets(b"key5000")));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(24))]

    #[test]
    fn a_table_has_the_entries_of_an_ordinary_map(
        steps in proptest::collection::vec((0..4u8, 0..9000u32, 1..3000u32), 1..24),
    ) {
        let mut table = Table::default();
        let mut model = BTreeMap::new();
        for (what, first, count) in steps {
            for key in first..first + count {
                match what {
                    0 => assert_eq!(table.insert(key, first), model.insert(key, first)),
                    1 => assert_eq!(table.remove(&key), model.remove(&key)),
                    2 => {
                        if !table.contains_key(&key) {
                            assert_eq!(table.add(key, count), &count);
                        }
                        model.entry(key).or_insert(count);
                    }
                    _ => {
                        let value = table.get_mut(&key).map(|value| { *value += 1; *value });
                        let same = model.get_mut(&key).map(|value| { *value += 1; *value });
                        assert_eq!(value, same);
                    }
                }
            }
            assert_eq!(table.len(), model.len());
            assert_eq!(table.is_empty(), model.is_empty());
            let mut all: Vec<_> = table.iter().collect();
            all.sort_unstable();
            assert!(all.into_iter().eq(&model));
            assert_eq!(table.keys().count(), model.len());
        }
    }
}
