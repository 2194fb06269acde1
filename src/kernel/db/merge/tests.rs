//! Every rule of the merge by example, and the cost of losing a node.

use super::super::entries::Tables;
use super::super::transfer::Transfer;
use super::*;

fn entries(text: &str) -> Entries {
    text.split_whitespace()
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap();
            (key.into(), value.parse().map_or(Datum::string(value), Datum::int))
        })
        .collect()
}

pub(super) fn id(node: &str) -> NodeId {
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
pub(super) fn kind(node: &str) -> OwnerKind {
    match node.as_bytes()[0] {
        b's' | b'm' => OwnerKind::Slave,
        b'g' => OwnerKind::Global,
        _ => OwnerKind::Other,
    }
}

/// The entries that another global node has to know.
pub(super) fn told_to_globals(merge: &Merge) -> Tables {
    let mut transfer = Transfer::new(1);
    let all = transfer.next(usize::MAX, merge);
    assert!(transfer.is_done());
    all
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

pub(super) fn for_globals(change: &Change) -> Entries {
    let mut set = change.set.clone();
    set.extend(change.set_for_globals.clone());
    set
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

#[test]
fn a_key_that_comes_again_with_a_new_database_has_one_owner_and_is_not_deleted_later() {
    for others in ["", "o"] {
        let mut merge = Merge::new();
        update(&mut merge, "s", "a=1 b=1", "");
        if !others.is_empty() {
            update(&mut merge, others, "a=0", "");
        }
        merge.begin_to_replace(&id("s"));
        merge.set_kind(&id("s"), OwnerKind::Slave);
        assert!(update(&mut merge, "s", "a=2", "").tell_globals);
        let mut holders: Vec<&NodeId> = merge.holders(&"fam".into(), &"a".into()).collect();
        holders.sort_unstable();
        assert_eq!(holders.len(), 1 + others.len());
        assert_eq!(merge.get(&"fam".into(), &"a".into()), Some(&Datum::int(2)));
        assert_eq!(told_to_globals(&merge), tables("a=2 b=1"), "b stays until all has come");
        merge.replaced(&id("s"));
        let deleted = merge.give_up_some();
        assert!(
            matches!(&deleted[..], [(_, change)] if change.deletions_for_subscribers.len() == 1)
        );
        assert_eq!(told_to_globals(&merge), tables("a=2"));
        assert_eq!(merge.octets_of(&id("s")), update_alone("a=2"));
    }
}

/// What the octets of a slave are that has only this.
fn update_alone(set: &str) -> usize {
    let mut merge = Merge::new();
    update(&mut merge, "s", set, "");
    merge.octets_of(&id("s"))
}
