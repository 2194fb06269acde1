//! Pieces of a database, and the state of the nodes at both ends of a transfer.

use super::super::testing::{FAM, TestNode, entries, keys, node};
use super::super::{Datum, DbEffect, GLOBALS, LOCATIONS, Request};
use super::*;
use crate::value::NodeId;
use std::collections::BTreeMap;

fn tables(families: &[(&str, &str)]) -> Tables {
    families.iter().map(|(family, content)| (Str::from(*family), entries(content))).collect()
}

/// A database of which all names are looked up at once.
impl Source for Tables {
    fn families(&self, from: &mut Cursor) -> Vec<Str> {
        *from = Cursor::END;
        Tables::keys(self).cloned().collect()
    }

    fn keys(&self, family: &Str, from: &mut Cursor) -> Vec<Str> {
        *from = Cursor::END;
        self.get(family).into_iter().flat_map(Entries::keys).cloned().collect()
    }

    fn value(&self, family: &Str, key: &Str) -> Option<&Datum> {
        self.get(family)?.get(key)
    }
}

fn pieces(transfer: &mut Transfer, of: &Tables, most: usize) -> Vec<Tables> {
    let mut pieces = Vec::new();
    while !transfer.is_done() {
        pieces.push(transfer.next(most, of));
    }
    pieces
}

#[test]
fn all_pieces_together_are_the_whole_each_within_its_size() {
    let all = tables(&[("'l", "me=1"), ("!", "a=1"), ("fam", "a=1 b=2 c=3 d=4"), ("x", "y=z")]);
    for most in 1..600 {
        let pieces = pieces(&mut Transfer::new(1), &all, most);
        let mut together = Tables::new();
        for piece in &pieces {
            let entries: usize = piece.values().map(Entries::len).sum();
            assert!(entries == 1 || octets_of(piece) <= most);
            for (family, content) in piece {
                together.entry(family.clone()).or_default().extend(content.clone());
            }
        }
        assert_eq!(together, all);
        assert!(pieces[0].contains_key(&Str::from("'l")), "where a node is comes first");
    }
}

#[test]
fn a_piece_has_a_bounded_number_of_keys_however_small_they_are() {
    let keys = (0..3 * MAX_NAMES).map(|key| (Str::text(&key.to_string()), Datum::UNDEF));
    let all = Tables::from([(Str::from(FAM), keys.collect())]);
    let pieces = pieces(&mut Transfer::new(1), &all, PIECE_SIZE);
    assert!(pieces.iter().all(|piece| piece.values().all(|keys| keys.len() < MAX_NAMES)));
    let together = pieces.into_iter().flat_map(|mut piece| piece.remove(&Str::from(FAM))).flatten();
    assert_eq!(Tables::from([(Str::from(FAM), together.collect())]), all);
}

#[test]
fn what_is_deleted_meanwhile_is_left_out_and_what_is_set_is_as_it_is_then() {
    let mut all = tables(&[(FAM, "a=1 b=2 c=3")]);
    let mut transfer = Transfer::new(1);
    let first = transfer.next(1, &all);
    assert_eq!(first, tables(&[(FAM, "a=1")]));
    let family = all.get_mut(&Str::from(FAM)).unwrap();
    family.remove(&"b".into());
    family.insert("c".into(), Datum::int(4));
    let rest = pieces(&mut transfer, &all, 1);
    assert_eq!(rest, [tables(&[(FAM, "c=4")])]);
}

/// The requests that a node has sent since the last call, and the room that it waits for.
fn requests(driven: &mut TestNode) -> (Vec<String>, Vec<(NodeId, u64)>) {
    let (mut sent, mut waiting) = (Vec::new(), Vec::new());
    for effect in driven.db.take_effects() {
        match effect {
            DbEffect::Send { packet, .. } => {
                sent.push(packet.as_elements().after(1).to_packed().to_string());
            }
            DbEffect::AwaitRoom { node, number } => waiting.push((node, number)),
            _ => {}
        }
    }
    (sent, waiting)
}

fn count(sent: &[String], name: &str) -> usize {
    sent.iter().filter(|request| request.contains(&format!("\"{name}\""))).count()
}

#[test]
fn a_master_gets_one_database_then_updates_and_last_what_is_asked_of_it() {
    let mut me = TestNode::new("me");
    me.db.set_piece(1);
    me.db.set_location(&["me:1".into()], me.now);
    for key in ["a", "b", "c"] {
        me.set(key, Datum::int(1));
    }
    me.monitor();
    me.adopt("m");
    let mut all = Vec::new();
    let (mut sent, mut waiting) = requests(&mut me);
    assert_eq!(sent.len(), 1, "{sent:?}");
    assert!(sent[0].contains("g_slave") && sent[0].contains(LOCATIONS), "{sent:?}");
    me.db.find(node("x"), me.now);
    me.db.query(super::super::QueryKind::Keys, FAM.into(), me.now);
    assert_eq!(requests(&mut me), (vec![], vec![]), "questions wait");
    me.set("b", Datum::int(2));
    let (changed, none) = requests(&mut me);
    assert_eq!((count(&changed, "g_upd"), none.len()), (1, 0), "changes do not");
    while let [(node, number)] = &waiting[..] {
        assert_eq!(count(&sent, "g_mon1") + count(&sent, "g_find") + count(&sent, "g_db_keys"), 0);
        me.db.has_room(node, number + 1, me.now);
        assert_eq!(requests(&mut me), (vec![], vec![]), "that is another transfer's room");
        me.db.has_room(node, *number, me.now);
        all.append(&mut sent);
        (sent, waiting) = requests(&mut me);
    }
    assert!(waiting.is_empty());
    all.append(&mut sent);
    assert_eq!((count(&all, "g_slave"), count(&all, "g_upd")), (1, 3));
    let asked =
        all.iter().position(|request| !request.contains("g_upd") && !request.contains("g_slave"));
    let asked = all.split_off(asked.unwrap());
    assert_eq!(asked.len(), 3, "{asked:?}");
}

#[test]
fn a_lost_master_gets_nothing_more_and_the_next_one_gets_all() {
    let mut me = TestNode::new("me");
    me.db.set_piece(1);
    for key in ["a", "b", "c"] {
        me.set(key, Datum::int(1));
    }
    me.adopt("m");
    let (_, waiting) = requests(&mut me);
    me.down("m");
    me.db.has_room(&waiting[0].0, waiting[0].1, me.now);
    assert_eq!(requests(&mut me).0, [""; 0]);
    me.adopt("m");
    let (mut sent, mut waiting_again) = requests(&mut me);
    me.db.has_room(&waiting[0].0, waiting[0].1, me.now);
    assert_eq!(requests(&mut me).0, [""; 0], "room for the first transfer is none for the second");
    while let Some((node, number)) = waiting_again.pop() {
        me.db.has_room(&node, number, me.now);
        let (more, again) = requests(&mut me);
        sent.extend(more);
        waiting_again = again;
    }
    assert_eq!((count(&sent, "g_slave"), count(&sent, "g_upd")), (1, 2));
}

#[test]
fn a_global_node_gets_all_global_nodes_and_the_sender_first_then_updates() {
    let mut me = TestNode::global("me");
    me.db.set_piece(1);
    me.up("s");
    let content = [(FAM, "a=1 b=2"), (LOCATIONS, "")];
    let tables: Tables =
        content.iter().map(|(family, content)| (Str::from(*family), entries(content))).collect();
    me.hear_from("s", Request::Slave(Some(tables)));
    me.up("g");
    me.effects();
    me.hear_from("g", Request::Global);
    let (first, mut waiting) = requests(&mut me);
    let set = first.iter().find(|request| request.contains("g_set")).unwrap();
    assert!(set.contains(GLOBALS) && set.contains("\"g\"") && set.contains("me:1"), "{set}");
    assert!(!set.contains(FAM), "{set}");
    me.hear_from("s", Request::Update { family: FAM.into(), set: None, delete: Some(keys("a")) });
    let mut all = first;
    all.extend(requests(&mut me).0);
    while let Some((node, number)) = waiting.pop() {
        me.db.has_room(&node, number, me.now);
        let (more, again) = requests(&mut me);
        all.extend(more);
        waiting = again;
    }
    assert_eq!(count(&all, "g_set"), 1);
    let last = all.last().unwrap();
    assert!(last.contains("g_upd") && last.contains("\"b\"") && !last.contains("\"a\""), "{all:?}");
}

#[test]
fn a_global_node_that_comes_again_gets_all_again() {
    let mut me = TestNode::global("me");
    me.db.set_piece(1);
    me.set("a", Datum::int(1));
    me.set("b", Datum::int(1));
    let mut begun = BTreeMap::new();
    for _ in 0..2 {
        me.up("g");
        me.hear_from("g", Request::Global);
        let (sent, waiting) = requests(&mut me);
        assert_eq!(count(&sent, "g_set"), 1);
        let (node, number) = waiting[0].clone();
        begun.insert(number, node);
        me.down("g");
        requests(&mut me);
    }
    assert_eq!(begun.len(), 2, "each transfer has a number of its own");
    for (number, node) in begun {
        me.db.has_room(&node, number, me.now);
        assert_eq!(requests(&mut me).0, [""; 0], "nobody is there who could get it");
    }
}

#[test]
fn a_node_with_many_entries_of_its_own_can_become_global() {
    let mut me = TestNode::new("me");
    me.db.set_location(&["me:1".into()], me.now);
    let count = 3 * MAX_NAMES;
    for key in 0..count {
        me.set(&key.to_string(), Datum::int(1));
    }
    me.db.become_global(me.now);
    requests(&mut me);
    me.up("g");
    me.hear_from("g", Request::Global);
    let mut told = 0;
    let (mut sent, mut waiting) = requests(&mut me);
    loop {
        told += sent.iter().map(|request| request.matches(": 1").count()).sum::<usize>();
        let Some((node, number)) = waiting.pop() else { break };
        me.db.has_room(&node, number, me.now);
        (sent, waiting) = requests(&mut me);
    }
    assert!(told >= count, "{told} of {count}");
}

#[test]
fn no_piece_looks_at_more_names_than_it_may_however_few_are_ours() {
    let mut me = TestNode::global("me");
    me.up("g");
    me.hear_from("g", Request::Global);
    let theirs = (0..10 * MAX_NAMES).map(|key| (Str::text(&key.to_string()), Datum::UNDEF));
    let theirs = Tables::from([(Str::from(FAM), theirs.collect())]);
    me.hear_from("g", Request::Set(theirs));
    requests(&mut me);
    me.up("h");
    me.hear_from("h", Request::Global);
    let (_, mut waiting) = requests(&mut me);
    let mut pieces = 1;
    while let Some((node, number)) = waiting.pop() {
        me.db.has_room(&node, number, me.now);
        waiting = requests(&mut me).1;
        pieces += 1;
    }
    assert!(pieces >= 10, "{pieces} pieces");
}
