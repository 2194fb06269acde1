//! Large packets have the same effects as small ones, in pieces of bounded work.

use super::*;
use crate::kernel::db::Tables;
use crate::kernel::{Authenticated, ConnId, Effect, KernelConfig, Now, PeerGreeting};
use crate::value::Str;
use std::collections::BTreeMap;
use std::time::Duration;

/// The maximum number of keys that one piece may touch: those of a piece of a request, and as many
/// deleted ones of lost nodes.
const MAX_OPERATIONS: u64 = 2100;

pub(in crate::kernel) fn node(id: &str) -> NodeId {
    NodeId::new(id).unwrap()
}

pub(in crate::kernel) struct Host {
    pub(in crate::kernel) kernel: Kernel,
    conns: BTreeMap<NodeId, ConnId>,
    /// The number of inputs, and the maximum number of database entries that one of them examined.
    inputs: usize,
    most_operations: u64,
}

impl Host {
    /// The global node `own`, to which `peer` and `watcher` are connected.
    pub(in crate::kernel) fn new() -> Host {
        let config =
            KernelConfig { grace: Duration::ZERO, ..KernelConfig::repeatable(node("own")) };
        let kernel = Kernel::new(config, Now::default());
        let mut host = Host { kernel, conns: BTreeMap::new(), inputs: 0, most_operations: 0 };
        host.kernel.become_global();
        ["peer", "watcher"].iter().for_each(|id| host.connect(id));
        host.kernel.take_effects();
        host
    }

    pub(in crate::kernel) fn connect(&mut self, id: &str) {
        let conn = self.kernel.accepted();
        let greeting = PeerGreeting::new(node(id), Str::default());
        self.kernel.greeted(conn, greeting);
        self.kernel.established(conn, &Authenticated { untrusted: false });
        self.conns.insert(node(id), conn);
    }

    fn operations(&self) -> u64 {
        self.kernel.db.global().unwrap().merge().operations()
    }

    /// An input, after which the effects are taken at once.
    pub(in crate::kernel) fn input(&mut self, input: impl FnOnce(&mut Kernel)) -> Vec<Effect> {
        let before = self.operations();
        input(&mut self.kernel);
        let effects = self.kernel.take_effects();
        self.inputs += 1;
        self.most_operations = self.most_operations.max(self.operations() - before);
        effects
    }

    pub(in crate::kernel) fn whole(&mut self, from: &str, packet: &Packed) -> Vec<Effect> {
        let mut effects = self.kernel_input(from, packet);
        effects.extend(self.rest());
        effects
    }

    fn kernel_input(&mut self, from: &str, packet: &Packed) -> Vec<Effect> {
        self.input(|kernel| kernel.node_packet(&node(from), packet.as_elements()))
    }

    pub(in crate::kernel) fn in_pieces(&mut self, from: &str, packet: &Packed) -> Vec<Effect> {
        let mut effects = Vec::new();
        let mut packet = LargePacket::new(&node(from), packet.as_elements());
        loop {
            match packet.prepare() {
                NextPiece::Kernel => effects.extend(self.input(|kernel| packet.work(kernel))),
                NextPiece::Send { to, message } => {
                    let from = node("own");
                    effects.push(Effect::Deliver { port: to.port().to_owned(), message, from });
                }
                NextPiece::Done => break,
            }
        }
        effects.extend(self.rest());
        effects
    }

    /// Runs the timers that have expired.
    fn rest(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        while self.kernel.next_tick() == Some(Duration::ZERO) {
            effects.extend(self.input(Kernel::tick));
        }
        effects
    }

    pub(in crate::kernel) fn lose(&mut self, id: &str) {
        let conn = self.conns[&node(id)];
        self.input(|kernel| kernel.closed(conn, "gone"));
    }

    /// The merged database without addresses.
    fn content(&self) -> Tables {
        let merge = self.kernel.db.global().unwrap().merge();
        let families = merge.families().filter(|family| !db::is_internal(*family));
        let content = |family: &Str| {
            let entries = merge.family(family).map(|(key, value)| (key.clone(), value.clone()));
            (family.clone(), entries.collect())
        };
        families.map(content).collect()
    }
}

type Database = BTreeMap<String, BTreeMap<String, u32>>;

fn database(families: usize, keys: usize, value: u32) -> Database {
    let keys = |_| (0..keys).map(|key| (format!("key{key}"), value)).collect();
    (0..families).map(|family| (format!("family{family}"), keys(family))).collect()
}

/// The content of the family according to the changes that the watcher has received.
fn told(effects: &[Effect]) -> BTreeMap<String, u32> {
    let mut content = BTreeMap::new();
    for effect in effects {
        let packet = match effect {
            Effect::Send { packet, to } if *to == node("watcher") => packet,
            Effect::SendAll { packet, to } if to.contains(&node("watcher")) => packet,
            _ => continue,
        };
        type Change = (String, String, String, BTreeMap<String, u32>, Vec<String>);
        if let Ok((_, name, _, set, delete)) = packet.decode::<Change>() {
            assert_eq!(name, "g_chg2");
            content.extend(set);
            content.retain(|key, _| !delete.contains(key));
        }
    }
    content
}

fn packets() -> Vec<(&'static str, Packed)> {
    let set: BTreeMap<String, u32> = (0..5000).map(|key| (format!("key{key}"), key)).collect();
    let delete: Vec<String> = (2500..7000).map(|key| format!("key{key}")).collect();
    vec![
        ("one family", Packed::of(&("g_slave", database(1, 5000, 1))).unwrap()),
        ("many families", Packed::of(&("g_slave", database(5000, 1, 2))).unwrap()),
        ("empty families", Packed::of(&("g_slave", database(5000, 0, 2))).unwrap()),
        ("update", Packed::of(&("g_upd", "family0", set, delete.clone())).unwrap()),
        ("deletions", Packed::of(&("g_upd", "family0", (), delete)).unwrap()),
        ("another database", Packed::of(&("g_slave", database(3, 2000, 3))).unwrap()),
        ("malformed", Packed::of(&("g_slave", "x".repeat(100_000))).unwrap()),
        ("nothing", Packed::of(&("g_slave", database(0, 0, 0))).unwrap()),
    ]
}

#[test]
fn a_large_database_in_pieces_has_the_outcome_of_the_whole_and_none_does_much_at_once() {
    let (mut whole, mut pieces) = (Host::new(), Host::new());
    let watch = Packed::of(&("g_mon1", "family0")).unwrap();
    for host in [&mut whole, &mut pieces] {
        host.kernel_input("watcher", &watch);
    }
    let mut seen = (BTreeMap::new(), BTreeMap::new());
    for (what, packet) in packets() {
        let one = whole.whole("peer", &packet);
        let other = pieces.in_pieces("peer", &packet);
        assert_eq!(pieces.content(), whole.content(), "{what}");
        seen.0.extend(told(&one));
        seen.1.extend(told(&other));
        let count = |host: &Host| host.kernel.db.global().unwrap().merge().owned(&node("peer"));
        assert_eq!(count(&pieces), count(&whole), "{what}");
    }
    assert_eq!(seen.0, seen.1);
    assert!(pieces.most_operations <= MAX_OPERATIONS, "{}", pieces.most_operations);
    assert!(whole.most_operations > MAX_OPERATIONS, "or the packets are too small to tell");
    assert!(pieces.content().is_empty());
}

#[test]
fn the_database_of_another_global_node_in_pieces_has_the_outcome_of_the_whole() {
    let mut hosts = [Host::new(), Host::new()];
    let [whole, pieces] = &mut hosts;
    for host in [&mut *whole, &mut *pieces] {
        host.kernel_input("peer", &Packed::of(&("g_global",)).unwrap());
    }
    for located in [true, false] {
        let locations: BTreeMap<String, Vec<String>> = (0..3000)
            .map(|number| (format!("node{number}"), vec!["127.0.0.1:1".to_owned()]))
            .chain(located.then(|| ("peer".to_owned(), vec!["127.0.0.1:2".to_owned()])))
            .collect();
        let request = ("g_set", BTreeMap::from([("'l", locations)]));
        let packet = Packed::of(&request).unwrap();
        whole.whole("peer", &packet);
        pieces.in_pieces("peer", &packet);
        let places = |host: &Host| {
            let at = |id: &str| host.kernel.db.location(&node(id));
            (at("peer"), at("node2999"), at("node0"))
        };
        assert_eq!(places(pieces), places(whole));
        assert_eq!(places(pieces).0.is_some(), located);
    }
    assert!(pieces.most_operations <= MAX_OPERATIONS, "{}", pieces.most_operations);
}

#[test]
fn the_loss_of_a_node_that_has_much_is_worked_off_in_pieces_and_it_may_come_back_meanwhile() {
    let mut host = Host::new();
    host.kernel_input("watcher", &Packed::of(&("g_mon1", "family0")).unwrap());
    let packet = Packed::of(&("g_slave", database(2, 5000, 1))).unwrap();
    host.in_pieces("peer", &packet);
    assert_eq!(host.content().values().map(|entries| entries.len()).sum::<usize>(), 10_000);
    host.lose("peer");
    host.connect("peer");
    let packet = Packed::of(&("g_slave", database(1, 4000, 2))).unwrap();
    let effects = host.in_pieces("peer", &packet);
    let content: Tables = host.content();
    assert_eq!(content.len(), 1);
    assert_eq!(content.values().map(|entries| entries.len()).sum::<usize>(), 4000);
    assert_eq!(told(&effects).len(), 4000, "none is told to be deleted that is there again");
    host.lose("peer");
    host.rest();
    assert!(host.content().is_empty());
    assert!(host.most_operations <= MAX_OPERATIONS, "{}", host.most_operations);
    assert!(!host.kernel.resource_counts().nodes.contains(&node("peer")));
}

#[test]
fn what_a_node_has_set_before_it_becomes_a_slave_is_replaced_in_pieces() {
    let mut host = Host::new();
    host.kernel_input("watcher", &Packed::of(&("g_mon1", "family0")).unwrap());
    let set: BTreeMap<String, u32> = (0..5000).map(|key| (format!("key{key}"), 1)).collect();
    host.in_pieces("peer", &Packed::of(&("g_upd", "family0", set)).unwrap());
    let database = Packed::of(&("g_slave", database(1, 10, 2))).unwrap();
    assert!(!is_large(database.as_elements()));
    let effects = host.whole("peer", &database);
    assert_eq!(host.content().values().map(|entries| entries.len()).sum::<usize>(), 10);
    assert_eq!(told(&effects).len(), 10);
    assert!(host.most_operations <= MAX_OPERATIONS, "{}", host.most_operations);
    assert_eq!(host.kernel.db.global().unwrap().merge().owned(&node("peer")), 10);
}

#[test]
fn large_values_of_a_lost_node_are_freed_some_at_a_time() {
    const VALUES: usize = 64;
    let mut host = Host::new();
    host.whole("peer", &Packed::of(&("g_slave",)).unwrap());
    for key in 0..VALUES {
        let entry = BTreeMap::from([(key.to_string(), "v".repeat(1 << 20))]);
        host.in_pieces("peer", &Packed::of(&("g_upd", "f", entry)).unwrap());
    }
    let left = |host: &Host| host.kernel.db.global().unwrap().merge().family_len(&Str::text("f"));
    host.lose("peer");
    assert_eq!(left(&host), VALUES);
    let mut turns = 0;
    while host.kernel.next_tick() == Some(Duration::ZERO) {
        let before = left(&host);
        host.input(Kernel::tick);
        assert!(before - left(&host) <= 1, "{before} to {}", left(&host));
        turns += 1;
    }
    assert!(left(&host) == 0 && turns >= VALUES, "{turns}");
}

#[test]
fn a_node_that_is_lost_within_its_packet_leaves_nothing() {
    let mut host = Host::new();
    host.in_pieces("peer", &Packed::of(&("g_slave", database(1, 3000, 1))).unwrap());
    let packet = Packed::of(&("g_slave", database(1, 5000, 2))).unwrap();
    let mut packet = LargePacket::new(&node("peer"), packet.as_elements());
    for _ in 0..4 {
        assert!(matches!(packet.prepare(), NextPiece::Kernel));
        host.input(|kernel| packet.work(kernel));
    }
    assert!(!host.content().is_empty());
    host.lose("peer");
    host.input(|kernel| packet.work(kernel));
    assert!(matches!(packet.prepare(), NextPiece::Done));
    host.rest();
    assert!(host.content().is_empty());
    assert!(!host.kernel.resource_counts().nodes.contains(&node("peer")));
}

/// A packet of `count` requests, each of which sends the next to the node itself.
fn relays(head: &[&str], count: usize, tail: &[&str]) -> Packed {
    let relay = head.iter().chain(&["own"]);
    let elements: Vec<&str> = (0..count).flat_map(|_| relay.clone()).chain(tail).copied().collect();
    Packed::of(&elements).unwrap()
}

#[test]
fn any_number_of_relays_to_the_node_itself_takes_a_bounded_number_each_time() {
    const COUNT: usize = 200_000;
    let mut host = Host::new();
    let tail = ["snd", "own#port", "arrived"];
    for (head, results) in [(&["snd"][..], 0), (&["can", "snd"], 1), (&["eval", "NODE"], 2)] {
        let packet = relays(head, COUNT, &tail);
        for large in [true, false] {
            host.inputs = 0;
            let effects = match large {
                true => host.in_pieces("peer", &packet),
                false => host.whole("peer", &packet),
            };
            let Some(Effect::Deliver { port, message, from }) = effects.last() else {
                panic!("{effects:?}");
            };
            assert_eq!((port, from), (&Str::text("port"), &node("own")));
            assert_eq!(message.len(), 1 + COUNT * results, "results come behind the message");
            assert!(!large || host.inputs <= COUNT / RELAYS_AT_A_TIME + 3);
        }
    }
}

#[test]
fn a_request_that_is_relayed_to_the_node_itself_is_carried_out_as_its_own() {
    for count in [1, 2, 1000] {
        for large in [false, true] {
            for head in [&["snd"][..], &["can", "x"], &["time"]] {
                let mut host = Host::new();
                let port = host.kernel.open_port();
                let name = port.to_text_lossy().into_owned();
                let packet = relays(head, count, &["kil1", &name, "why"]);
                let effects = match large {
                    true => host.in_pieces("peer", &packet),
                    false => host.whole("peer", &packet),
                };
                let closed = effects.iter().find_map(|effect| match effect {
                    Effect::PortClosed { port: closed, reason } if *closed == port => Some(reason),
                    _ => None,
                });
                let reason = closed.expect("it dies").as_elements();
                assert_eq!(reason.first_str(), Some("why".into()));
                let results = if head == ["snd"] { 0 } else { count };
                assert_eq!(reason.len(), 1 + results, "{head:?}");
            }
        }
    }
}

#[test]
fn nobody_changes_the_database_of_a_node_in_its_own_name() {
    let mut host = Host::new();
    host.whole("peer", &Packed::of(&("g_slave", database(1, 2, 1))).unwrap());
    let before = host.content();
    let unknown = "x".repeat(LARGE_PACKET);
    for large in [false, true] {
        let family = if large { &unknown } else { "f0" };
        let requests = [
            Packed::of(&("snd", "own", "g_upd", family, BTreeMap::from([("k", 1)]))),
            Packed::of(&("snd", "own", "g_slave", BTreeMap::from([(family, [("k", 1)])]))),
            Packed::of(&("snd", "own", "g_slave", BTreeMap::from([(family, ())]))),
            Packed::of(&("snd", "own", "snd", "own", "g_mon0", family)),
            Packed::of(&("time", "own", "g_chg1", family)),
        ];
        for request in requests {
            let request = request.unwrap();
            let effects = match large {
                true => host.in_pieces("peer", &request),
                false => host.whole("peer", &request),
            };
            assert!(matches!(effects[..], [Effect::Log { .. }]), "{effects:?}");
            host.rest();
            assert_eq!(host.content(), before);
        }
    }
}

#[test]
fn an_expression_that_only_the_program_knows_sends_no_result_to_the_node_port_itself() {
    let mut host = Host::new();
    let effects = host.whole("peer", &relays(&["eval", "unheard of"], 3, &["snd", "own#x"]));
    assert!(matches!(&effects[..], [Effect::Log { .. }]), "{effects:?}");
}

#[test]
fn what_a_function_gets_of_a_large_packet_is_not_copied() {
    let mut host = Host::new();
    host.kernel.register(Str::text("f"));
    let argument = "x".repeat(LARGE_PACKET);
    let packet = Packed::of(&("f", argument.as_str())).unwrap();
    let mut packet = LargePacket::new(&node("peer"), packet.as_elements());
    let body = packet.body.as_elements().octets().as_ptr_range();
    assert!(matches!(packet.prepare(), NextPiece::Kernel));
    let effects = host.input(|kernel| packet.work(kernel));
    let [Effect::Call(call)] = &effects[..] else { panic!("{effects:?}") };
    assert!(body.contains(&call.arguments.as_elements().octets().as_ptr()));
    assert_eq!(call.arguments.decode::<(String,)>().unwrap().0, argument);
}

#[test]
fn what_is_refused_in_each_piece_of_a_packet_is_logged_once() {
    let mut host = Host::new();
    let deep = |out: &mut Vec<u8>| {
        (0..510).for_each(|_| crate::value::packed::put_array(out, 1));
        crate::value::packed::put_undef(out);
    };
    let mut octets = Vec::new();
    crate::value::packed::put_text(&mut octets, "g_upd");
    crate::value::packed::put_text(&mut octets, "f");
    crate::value::packed::put_hash(&mut octets, 5000);
    for key in 0..5000 {
        crate::value::packed::put_text(&mut octets, &key.to_string());
        deep(&mut octets);
    }
    let packet = Packed::new(3, octets.into());
    host.in_pieces("peer", &Packed::of(&("g_slave",)).unwrap());
    let effects = host.in_pieces("peer", &packet);
    let lines = effects.iter().filter(|effect| matches!(effect, Effect::Log { .. })).count();
    assert_eq!(lines, 1, "{effects:?}");
    // The next packet has a line of its own.
    let effects = host.in_pieces("peer", &packet);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Log { .. })));
}

#[test]
fn a_string_that_is_too_long_to_be_copied_under_the_lock_is_refused() {
    let mut host = Host::new();
    host.kernel.register(Str::text("f"));
    for (length, is_taken) in [(256 << 10, true), ((256 << 10) + 1, false)] {
        let long = "x".repeat(length);
        let requests = [
            Packed::of(&("snd", &long, "x")),
            Packed::of(&("eval", &long, "watcher#x")),
            Packed::of(&("time", &long)),
        ];
        for request in requests {
            let effects = host.in_pieces("peer", &request.unwrap());
            let is_refused = matches!(effects[..], [Effect::Log { .. }]);
            assert_eq!(is_refused, !is_taken, "{length}: {effects:?}");
        }
        let spawn = Packed::of(&(crate::kernel::request::SPAWN, "p", &long)).unwrap();
        let effects = host.in_pieces("peer", &spawn);
        let [Effect::Log { line, .. }] = &effects[..] else { panic!("{effects:?}") };
        assert_eq!(line.to_string().contains("longer than 256 KiB"), !is_taken, "{line}");
    }
}
