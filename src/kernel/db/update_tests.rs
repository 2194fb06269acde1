//! An update that is read in place from its packet has the same effects as one that is parsed
//! completely.

use super::super::testing::{FAM, TestNode, entries, keys, node};
use super::super::{Datum, QueryKind, Request};
use super::*;
use proptest::prelude::*;

/// Two nodes with the same inputs: one gets packets, the other one parsed requests.
struct NodePair([TestNode; 2]);

impl NodePair {
    fn new(new: impl Fn() -> TestNode) -> Self {
        NodePair([new(), new()])
    }

    fn both(&mut self, act: impl Fn(&mut TestNode)) {
        self.0.iter_mut().for_each(act);
    }

    fn hear(&mut self, from: &str, request: &Request) {
        let [by_packet, in_full] = &mut self.0;
        by_packet.hear_from(from, request.clone());
        let packet = request.to_packet();
        let elements = packet.as_elements().after(1);
        let name = elements.first_str().unwrap();
        let parsed = Request::parse(name, elements.after(1)).unwrap().unwrap();
        in_full.db.handle(&node(from), parsed, in_full.now);
    }

    fn effects(&mut self) -> [Vec<String>; 2] {
        self.0.each_mut().map(TestNode::effects)
    }
}

/// A global node with slaves, another global node, and monitors of its own and of others.
fn master() -> NodePair {
    let mut twins = NodePair::new(|| TestNode::global("me"));
    twins.both(|me| ["s1", "s2", "g1", "odd"].iter().for_each(|id| me.up(id)));
    for slave in ["s1", "s2"] {
        twins.hear(slave, &Request::Slave(Some(Default::default())));
        twins.hear(slave, &Request::Monitor(FAM.into()));
    }
    twins.hear("g1", &Request::Global);
    twins.both(|me| {
        me.monitor();
    });
    twins.effects();
    twins
}

fn slave() -> NodePair {
    let mut twins = NodePair::new(TestNode::with_master);
    twins.both(|me| {
        me.monitor();
        me.content("a=1");
        me.effects();
    });
    twins
}

fn value() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec!["1", "2", "x", "a-longer-text-that-needs-room-of-its-own"])
}

prop_compose! {
    fn change()(
        from in proptest::sample::select(vec!["s1", "s2", "g1", "odd", "m", "me"]),
        family in proptest::sample::select(vec![FAM, FAM, "other", "'x"]),
        set in proptest::collection::vec((0..3_u8, value()), 0..3),
        delete in proptest::option::of(proptest::collection::vec(0..3_u8, 0..2)),
    ) -> (&'static str, &'static str, String, Option<String>) {
        let key = |number: u8| char::from(b'a' + number);
        let set: Vec<_> = set.into_iter().map(|(k, v)| format!("{}={v}", key(k))).collect();
        let delete = delete.map(|keys| keys.into_iter().map(|k| format!("{} ", key(k))).collect());
        (from, family, set.join(" "), delete)
    }
}

proptest! {
    #[test]
    fn a_single_key_is_set_as_by_the_request_in_full(
        changes in proptest::collection::vec(change(), 1..40)
    ) {
        let (mut master, mut slave) = (master(), slave());
        for (from, family, set, delete) in changes {
            let update = Request::Update {
                family: family.into(),
                set: Some(entries(&set)),
                delete: delete.as_deref().map(keys),
            };
            let changed = Request::Changed {
                family: family.into(),
                set: entries(&set),
                delete: delete.as_deref().map(keys).unwrap_or_default(),
            };
            for request in [&update, &changed] {
                for twins in [&mut master, &mut slave] {
                    twins.hear(from, request);
                    let [by_packet, in_full] = twins.effects();
                    prop_assert_eq!(by_packet, in_full);
                }
            }
        }
        let query = |id| Request::Query { kind: QueryKind::Family, family: FAM.into(), id };
        master.hear("s1", &query(Datum::string("b")));
        let [by_packet, in_full] = master.effects();
        prop_assert_eq!(by_packet, in_full);
    }
}

#[test]
fn packets_are_as_those_of_requests() {
    let (family, long) = (Str::from(FAM), "k".repeat(70_000));
    for set in ["", "key=70000", "a=1 b=2 c=x", &format!("{long}=1 b={}", "v".repeat(300))] {
        for deleted in ["", "d", "e f"] {
            let (set, delete) = (entries(set), keys(deleted));
            let update =
                Update { family: Key::Held(&family), set: Sets::Many(&set), delete: &delete };
            let same = |ours: Packed, theirs: Request| {
                let theirs = theirs.to_packet();
                assert_eq!(ours.as_elements().octets(), theirs.as_elements().octets());
                assert_eq!(ours.len(), theirs.len());
            };
            let family = family.clone();
            let request = |set, delete| Request::Update { family: family.clone(), set, delete };
            let (some_set, some_deleted) = (Some(set.clone()), Some(delete.clone()));
            same(update.to_packet(Name::Update), request(some_set.clone(), some_deleted.clone()));
            let some_set = some_set.filter(|set| !set.is_empty());
            let some_deleted = some_deleted.filter(|deleted| !deleted.is_empty());
            same(update.to_packet_of_slave(), request(some_set, some_deleted));
            let (family, set, delete) = (family.clone(), set.clone(), delete.clone());
            same(update.to_packet(Name::Changed), Request::Changed { family, set, delete });
        }
    }
}
