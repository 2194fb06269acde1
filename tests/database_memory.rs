//! The memory that unfinished database requests of a peer take, counted at the allocator.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use aemp::kernel::{
    Authenticated, Kernel, KernelConfig, LARGE_PACKET, LargePacket, NextPiece, Now, PeerGreeting,
    PeerLimits, is_large,
};
use aemp::value::{NodeId, Packed, Str};
use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);
/// All threads share the counters, so only one test runs at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn take(octets: usize) {
    MOST.fetch_max(IN_USE.fetch_add(octets, Relaxed) + octets, Relaxed);
}

// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        take(size);
        IN_USE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller keeps the contract.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn node(id: &str) -> NodeId {
    NodeId::new(id).unwrap()
}

/// A global node, to which `peer` is connected.
fn kernel(database_limit: usize) -> Kernel {
    let mut kernel = Kernel::new(KernelConfig::repeatable(node("own")), Now::default());
    kernel.set_limits(PeerLimits { table: 1 << 20, database: database_limit });
    kernel.become_global();
    let conn = kernel.accepted();
    kernel.greeted(conn, PeerGreeting::new(node("peer"), Str::default()));
    kernel.established(conn, &Authenticated { untrusted: false });
    kernel.take_effects();
    kernel
}

/// Handles a packet of the peer as a node does, except that no timer runs in between.
fn handle(kernel: &mut Kernel, packet: &Packed) {
    let elements = packet.as_elements();
    if !is_large(elements) {
        kernel.node_packet(&node("peer"), elements);
        kernel.take_effects();
        return;
    }
    let mut packet = LargePacket::new(&node("peer"), elements);
    loop {
        match packet.prepare() {
            NextPiece::Kernel => {
                packet.work(kernel);
                kernel.take_effects();
            }
            NextPiece::Send { .. } => {}
            NextPiece::Done => return,
        }
    }
}

/// The most octets that were in use at once while `act` was running, besides those before.
fn most_in_use(act: impl FnOnce()) -> usize {
    let before = IN_USE.load(Relaxed);
    MOST.store(before, Relaxed);
    act();
    MOST.load(Relaxed) - before
}

type Family = BTreeMap<String, u8>;

fn family(keys: usize) -> Family {
    (0..keys).map(|key| (format!("{key}"), 1)).collect()
}

fn families(count: usize, keys: usize) -> BTreeMap<String, Family> {
    (0..count).map(|number| (format!("{number}"), family(keys))).collect()
}

#[test]
fn a_request_takes_a_small_multiple_of_its_octets_besides_the_entries() {
    let _one = ONE_AT_A_TIME.lock().unwrap();
    let keys_of = |family: Family| family.into_keys().collect::<Vec<_>>();
    let requests = |size: usize| {
        [
            Packed::of(&("g_slave", families(size, 1))).unwrap(),
            Packed::of(&("g_slave", families(size, 0))).unwrap(),
            Packed::of(&("g_slave", families(1, size))).unwrap(),
            Packed::of(&("g_slave", BTreeMap::from([("'l", family(size))]))).unwrap(),
            Packed::of(&("g_upd", "family", family(size), keys_of(family(size)))).unwrap(),
            Packed::of(&("g_upd", "family", family(size), 1)).unwrap(),
            Packed::of(&("g_set", families(size, 1))).unwrap(),
        ]
    };
    for size in [20_000, 200_000] {
        for packet in requests(size) {
            // No entry is accepted, so only the request takes memory.
            let mut kernel = kernel(0);
            let octets = packet.as_elements().octets().len();
            assert!(octets > LARGE_PACKET);
            let most = most_in_use(|| handle(&mut kernel, &packet));
            let name = packet.as_elements().first_str().unwrap().to_text().unwrap();
            let bound = 4 * octets + LARGE_PACKET;
            assert!(most <= bound, "{name} of {octets} octets takes {most}");
        }
    }
}

#[test]
fn what_databases_replace_does_not_pile_up() {
    let _one = ONE_AT_A_TIME.lock().unwrap();
    let large = (0..2).map(|value| {
        let families: BTreeMap<String, Family> = families(20_000, 1)
            .into_iter()
            .map(|(family, keys)| (format!("{family}-{value}"), keys))
            .collect();
        Packed::of(&("g_slave", families)).unwrap()
    });
    let small = (0..2).map(|value| {
        let family: BTreeMap<String, u8> =
            (0..6000).map(|key| (format!("{key}-{value}"), 1)).collect();
        Packed::of(&("g_slave", BTreeMap::from([("family", family)]))).unwrap()
    });
    for packets in [large.collect::<Vec<_>>(), small.collect()] {
        let mut kernel = kernel(1 << 30);
        // One database, and the one that it replaces.
        let two = most_in_use(|| packets.iter().for_each(|packet| handle(&mut kernel, packet)));
        let more = most_in_use(|| {
            packets.iter().cycle().take(16).for_each(|packet| handle(&mut kernel, packet));
        });
        assert!(more <= two / 2, "{more} octets besides the {two} of two databases");
    }
}
