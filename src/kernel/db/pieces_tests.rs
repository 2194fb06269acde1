use super::*;
use crate::kernel::db::{Datum, Tables};

fn entries(keys: usize, octets: usize) -> Entries {
    let value = Datum::string("x".repeat(octets).as_str());
    (0..keys).map(|key| (Str::text(&format!("{key:06}")), value.clone())).collect()
}

fn size(piece: &Piece) -> (usize, usize) {
    let of = |entries: &Entries| {
        let octets = entries.values().map(|value| value.octets().len()).sum::<usize>();
        (entries.len(), octets)
    };
    match piece {
        Piece::Request(Request::Update { set, delete, .. }) => {
            let (keys, octets) = set.as_ref().map(of).unwrap_or_default();
            (keys + delete.as_ref().map_or(0, Vec::len), octets)
        }
        Piece::Entries(families) => families
            .iter()
            .map(|(_, entries)| of(entries))
            .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1)),
        _ => (0, 0),
    }
}

#[test]
fn no_piece_has_many_keys_or_many_octets_and_none_is_missing() {
    let node = NodeId::new("n").unwrap();
    let family = Str::text("f");
    for (keys, octets) in [(0, 0), (1, 1), (1000, 1), (10_000, 1), (500, 10_000), (3, 1_000_000)] {
        let set = entries(keys, octets);
        let keys_of = |entries: &Entries| entries.keys().cloned().collect::<Vec<_>>();
        let update = Request::Update {
            family: family.clone(),
            set: Some(set.clone()),
            delete: Some(keys_of(&set)),
        };
        let tables = Tables::from([(family.clone(), set.clone()), (Str::text("g"), set.clone())]);
        for request in [update, Request::Slave(Some(tables))] {
            let pieces: Vec<Piece> = Pieces::of(&node, request).collect();
            let sizes: Vec<_> = pieces.iter().map(size).collect();
            assert_eq!(sizes.iter().map(|(keys, _)| keys).sum::<usize>(), 2 * keys);
            let longest = octets + 5;
            for (keys, octets) in sizes {
                assert!(keys <= KEYS_PER_PIECE && octets <= OCTETS_PER_PIECE + longest);
            }
        }
    }
}

#[test]
fn entries_behind_many_families_without_any_are_not_missing() {
    let node = NodeId::new("n").unwrap();
    let name = |number: usize| Str::text(&format!("{number:06}"));
    let empty = 3 * KEYS_PER_PIECE;
    let mut tables: Tables = (0..empty).map(|number| (name(number), Entries::new())).collect();
    tables.insert(name(empty), entries(1, 1));
    let pieces: Vec<Piece> = Pieces::of(&node, Request::Slave(Some(tables))).collect();
    assert_eq!(pieces.iter().map(|piece| size(piece).0).sum::<usize>(), 1);
    assert!(matches!(pieces.last(), Some(Piece::Replaced { .. })));
}
