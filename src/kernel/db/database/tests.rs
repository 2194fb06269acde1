//! Networks of databases: in the end all of them have the same entries, whatever happens before.

use super::super::testing::{FAM, node, seconds};
use super::super::{ChangeSet, Entries, GLOBALS, LOCATIONS};
use super::*;
use crate::value::Packed;
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};

const GLOBAL_NODES: usize = 3;
const NODES: [&str; 8] = ["g0", "g1", "g2", "s3", "s4", "s5", "s6", "s7"];

/// Nodes, and the packets in transit between them.
struct Network {
    nodes: Vec<Database>,
    /// Connected pairs, each in both directions, with the packets in transit.
    links: BTreeMap<(usize, usize), VecDeque<Packed>>,
    /// Nodes that wait for room in their connections to others, which there is in their next turn.
    waiting: VecDeque<(usize, NodeId, u64)>,
    /// The content of the family that each node's monitor has reported.
    views: Vec<Entries>,
    found: Vec<Option<Vec<Str>>>,
    now: Duration,
}

impl Network {
    fn new() -> Self {
        let mut network = Network {
            nodes: NODES.iter().map(|id| Database::new(node(id), DbConfig::default())).collect(),
            links: BTreeMap::new(),
            waiting: VecDeque::new(),
            views: vec![Entries::new(); NODES.len()],
            found: Vec::new(),
            now: seconds(1),
        };
        for (at, id) in NODES.iter().enumerate() {
            let now = network.now;
            network.act(at, |db| {
                db.set_location(&[format!("{id}:1").into()], now);
                if at < GLOBAL_NODES {
                    db.become_global(now);
                }
                db.monitor(FAM.into(), now);
            });
        }
        network
    }

    /// Makes a node do something, and carries out the effects.
    fn act(&mut self, at: usize, act: impl FnOnce(&mut Database)) {
        act(&mut self.nodes[at]);
        for effect in self.nodes[at].take_effects() {
            match effect {
                DbEffect::Send { to, packet } => {
                    let request = packet.as_elements().after(1).to_packed();
                    for node in to.iter() {
                        let to = NODES.iter().position(|id| node.as_str() == **id).unwrap();
                        let link = self.links.get_mut(&(at, to));
                        link.expect("only connected nodes are sent to").push_back(request.clone());
                    }
                }
                DbEffect::Changed { changes, .. } => follow(&mut self.views[at], &changes),
                DbEffect::Found { addresses, .. } => self.found.push(addresses),
                DbEffect::Problem { problem, .. } => {
                    // Former masters have not noticed yet that this node is on its own.
                    assert!(matches!(problem, DbProblem::NotFromMaster(_)), "{problem}");
                }
                DbEffect::AwaitRoom { node, number } => {
                    self.waiting.push_back((at, node, number));
                }
                DbEffect::Orphan { node, request } => panic!("{node} sent {request}"),
                _ => {}
            }
        }
    }

    fn connect(&mut self, a: usize, b: usize) {
        if a == b || self.links.contains_key(&(a, b)) {
            return;
        }
        for (from, to) in [(a, b), (b, a)] {
            self.links.insert((from, to), VecDeque::new());
        }
        for (from, to) in [(a, b), (b, a)] {
            self.act(from, |db| db.node_up(node(NODES[to])));
        }
        for (slave, master) in [(a, b), (b, a)] {
            if self.nodes[master].is_global() && self.nodes[slave].master().is_none() {
                self.act(slave, |db| db.adopt_master(&node(NODES[master])));
            }
        }
    }

    fn disconnect(&mut self, a: usize, b: usize) {
        if self.links.remove(&(a, b)).is_none() {
            return;
        }
        self.links.remove(&(b, a));
        let now = self.now;
        for (at, lost) in [(a, b), (b, a)] {
            self.act(at, |db| db.node_down(&node(NODES[lost]), now));
            let other = (0..GLOBAL_NODES).find(|&other| self.links.contains_key(&(at, other)));
            if let Some(master) = other
                && self.nodes[at].master().is_none()
            {
                self.act(at, |db| db.adopt_master(&node(NODES[master])));
            }
        }
    }

    fn deliver_one(&mut self, choice: usize) -> bool {
        let busy: Vec<_> =
            self.links.iter().filter(|(_, link)| !link.is_empty()).map(|(&pair, _)| pair).collect();
        let choice = choice % (busy.len() + self.waiting.len()).max(1);
        let Some(&(from, to)) = busy.get(choice) else {
            return self.next_turn();
        };
        let packet = self.links.get_mut(&(from, to)).and_then(VecDeque::pop_front).unwrap();
        let elements = packet.as_elements();
        let now = self.now;
        self.act(to, |db| {
            let name = elements.first_str().unwrap();
            assert!(db.receive(&node(NODES[from]), name, elements.after(1), now));
        });
        true
    }

    /// A node is told that it has room.
    fn next_turn(&mut self) -> bool {
        let Some((at, node, number)) = self.waiting.pop_front() else { return false };
        let now = self.now;
        self.act(at, |db| db.has_room(&node, number, now));
        true
    }

    fn settle(&mut self) {
        while self.deliver_one(0) {}
    }

    /// All nodes are connected as they should be, everything has arrived, and time has passed.
    fn calm_down(&mut self) {
        let globals = self.globals();
        for &a in &globals {
            globals.iter().for_each(|&b| self.connect(a, b));
        }
        for slave in GLOBAL_NODES..NODES.len() {
            if self.nodes[slave].master().is_none() {
                self.connect(slave, slave % GLOBAL_NODES);
            }
        }
        self.settle();
        self.now += seconds(1000);
        let now = self.now;
        (0..NODES.len()).for_each(|at| self.act(at, |db| db.expire(now)));
        self.settle();
    }

    fn globals(&self) -> Vec<usize> {
        (0..NODES.len()).filter(|&at| self.nodes[at].is_global()).collect()
    }

    fn content(&self, global: usize, family: &str) -> Entries {
        let merge = self.nodes[global].global().unwrap().merge();
        let family = family.into();
        merge.family(&family).map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    fn check(&mut self) {
        let mut owned: BTreeMap<Str, Vec<Datum>> = BTreeMap::new();
        for db in &self.nodes {
            for (key, value) in db.own().get(&FAM.into()).into_iter().flatten() {
                owned.entry(key.clone()).or_default().push(value.clone());
            }
        }
        let globals = self.globals();
        let ids: Vec<_> = globals.iter().map(|&at| NODES[at]).collect();
        for &global in &globals {
            let content = self.content(global, FAM);
            assert!(content.keys().eq(owned.keys()), "{content:?} {owned:?}");
            for (key, value) in &content {
                assert!(owned[key].iter().any(|held| held.perl_eq(value)));
            }
            let named = |family| self.content(global, family).keys().cloned().collect::<Vec<_>>();
            assert_eq!(named(GLOBALS), ids);
            assert_eq!(named(LOCATIONS), NODES);
        }
        for (at, view) in self.views.iter().enumerate() {
            let master = self.nodes[at].master().unwrap();
            let master = NODES.iter().position(|id| master.as_str() == **id).unwrap();
            let content = self.content(master, FAM);
            assert!(view.keys().eq(content.keys()), "{}: {view:?} {content:?}", NODES[at]);
            assert!(view.values().zip(content.values()).all(|(seen, held)| seen.perl_eq(held)));
        }
        let now = self.now;
        self.act(4, |db| db.find(node("g1"), now));
        self.settle();
        assert_eq!(self.found.last(), Some(&Some(vec!["g1:1".into()])));
    }
}

/// Applies a report to the content known to its monitor, and checks that it repeats nothing.
fn follow(view: &mut Entries, changes: &ChangeSet) {
    assert!(changes.initial || !changes.is_empty());
    for (key, value) in &changes.added {
        assert!(view.insert(key.clone(), value.clone()).is_none(), "added twice");
    }
    for (key, value) in &changes.changed {
        let before = view.insert(key.clone(), value.clone());
        assert!(before.is_some_and(|before| !before.perl_eq(value)), "not changed");
    }
    for key in &changes.deleted {
        assert!(view.remove(key).is_some(), "deleted twice");
    }
}

#[derive(Debug, Clone)]
enum Event {
    Set(usize, u8, i64),
    Delete(usize, u8),
    Connect(usize, usize),
    Disconnect(usize, usize),
    Deliver(usize),
    Wait(u64),
    BecomeGlobal,
}

fn event() -> impl Strategy<Value = Event> {
    let at = || 0..NODES.len();
    prop_oneof![
        6 => (at(), 0..6_u8, 0..3_i64).prop_map(|(at, key, value)| Event::Set(at, key, value)),
        4 => (at(), 0..6_u8).prop_map(|(at, key)| Event::Delete(at, key)),
        4 => (at(), 0..GLOBAL_NODES).prop_map(|(a, b)| Event::Connect(a, b)),
        3 => (at(), 0..GLOBAL_NODES).prop_map(|(a, b)| Event::Disconnect(a, b)),
        20 => (0..100_usize).prop_map(Event::Deliver),
        1 => (1..20_u64).prop_map(Event::Wait),
        1 => Just(Event::BecomeGlobal),
    ]
}

fn key(n: u8) -> Str {
    format!("k{n}").into()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn in_the_end_everybody_knows_what_there_is(
        events in proptest::collection::vec(event(), 1..150)
    ) {
        let mut network = Network::new();
        for event in events {
            let now = network.now;
            match event {
                Event::Set(at, n, value) => {
                    network.act(at, |db| {
                        db.set(&FAM.into(), key(n), Datum::int(value), now).unwrap();
                    });
                }
                Event::Delete(at, n) => {
                    network.act(at, |db| db.delete(&FAM.into(), [key(n)], now).unwrap());
                }
                Event::Connect(a, b) => network.connect(a, b),
                Event::Disconnect(a, b) => network.disconnect(a, b),
                Event::Deliver(choice) => {
                    network.deliver_one(choice);
                }
                Event::BecomeGlobal => network.act(3, |db| db.become_global(now)),
                Event::Wait(s) => {
                    network.now += seconds(s);
                    let now = network.now;
                    (0..NODES.len()).for_each(|at| network.act(at, |db| db.expire(now)));
                }
            }
        }
        network.calm_down();
        network.check();
    }
}

#[test]
fn a_slave_that_loses_its_master_sees_nothing_vanish_that_comes_back() {
    let mut network = Network::new();
    network.connect(0, 1);
    for (slave, master) in [(3, 0), (4, 0)] {
        network.connect(slave, master);
    }
    network.settle();
    let now = network.now;
    network.act(3, |db| db.set(&FAM.into(), key(1), Datum::int(1), now).unwrap());
    network.settle();
    assert_eq!(network.views[4].len(), 1);
    network.disconnect(4, 0);
    network.disconnect(3, 0);
    network.disconnect(1, 0);
    network.connect(4, 1);
    network.settle();
    assert_eq!(network.content(1, FAM).len(), 1, "it may come back");
    assert_eq!(network.views[4].len(), 1);
    network.connect(3, 1);
    network.settle();
    network.now += seconds(1000);
    let now = network.now;
    network.act(4, |db| db.expire(now));
    assert_eq!(network.views[4].len(), 1, "and it did");
}
