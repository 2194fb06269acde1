//! Announced sizes allocate no memory, and decoded packets release theirs.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod framing_support;

use aemp::wire::framing::{Decoder, Framing, FramingLimits, Step};
use framing_support::*;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
    static MOST: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is passed on unchanged to the system's allocator; counting neither allocates
// nor unwinds (the cells are constants without destructors).
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.get().wrapping_add(layout.size());
        HELD.set(held);
        MOST.set(MOST.get().max(held));
        // SAFETY: the caller keeps to the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        HELD.set(HELD.get().saturating_sub(layout.size()));
        // SAFETY: `memory` came from `alloc` above, that is from the system.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The peak of additional memory.
fn most_held(run: impl FnOnce()) -> usize {
    let before = HELD.get();
    MOST.set(before);
    run();
    MOST.get() - before
}

#[test]
fn announced_lengths_take_no_memory() {
    for (framing, wire) in [
        (Framing::Cbor, unhex("9a0fff0000 4170")),
        (Framing::Cbor, unhex("82 4170 5a0fff0000 00")),
        (Framing::Cbor, unhex("82 4170 7a0fff0000 00")),
        (Framing::Cbor, unhex("82 4170 9a0fff0000 9a0f000000 ba07000000")),
        (Framing::Storable, unhex("ffffff00 050b02 0fffffff 0a0170")),
        (Framing::Storable, unhex("0d 050b02 00000003 0a0170 030f")),
    ] {
        let most = most_held(|| {
            let mut decoder = Decoder::new(framing, FramingLimits::default());
            assert!(matches!(decoder.next(&wire), Ok(Step::More { used: 0 })));
        });
        assert!(most < 4096, "{framing}: {most}");
    }
}

#[test]
fn packed_form_takes_little_more_than_the_wire() {
    for (framing, wire) in [
        (Framing::Json, [b"[0", &b",[]".repeat(100_000)[..], b"]"].concat()),
        (Framing::Json, [b"[0", &b",{\"\":0}".repeat(100_000)[..], b"]"].concat()),
        (Framing::Json, [b"[0,\"", &br"\n".repeat(200_000)[..], b"\"]"].concat()),
        (Framing::Cbor, [&unhex("9f00")[..], &unhex("9fff").repeat(100_000), &[0xff]].concat()),
        (Framing::Cbor, [&unhex("9f00")[..], &[0xf0; 300_000], &[0xff]].concat()),
    ] {
        let most = most_held(|| {
            let mut decoder = Decoder::new(framing, FramingLimits::default());
            assert!(matches!(decoder.next(&wire), Ok(Step::Packet { .. })));
        });
        // A growing vector is up to twice its contents, and is copied once more.
        assert!(most < wire.len() * 8, "{framing}: {most} for {}", wire.len());
    }
}

#[test]
fn memory_of_a_large_packet_is_given_back() {
    for framing in Framing::ALL {
        let large = Tree::Array((0..100_000).map(Tree::Int).collect());
        let wire = encode(framing, &[Tree::text("p"), large, Tree::text("é\n")], true);
        let mut decoder = Decoder::new(framing, FramingLimits::default());
        let before = HELD.get();
        assert!(matches!(decoder.next(&wire), Ok(Step::Packet { .. })));
        assert!(matches!(decoder.next(b""), Ok(Step::More { used: 0 })));
        let held = HELD.get().saturating_sub(before);
        assert!(held < 100_000, "{framing}: {held}");
    }
}

#[test]
fn small_packets_allocate_nothing_once_warm() {
    for framing in Framing::ALL {
        let packet = [Tree::text("port1"), Tree::text("test"), Tree::Int(42)];
        let wire = encode(framing, &packet, true);
        let mut decoder = Decoder::new(framing, FramingLimits::default());
        assert!(matches!(decoder.next(&wire), Ok(Step::Packet { .. })));
        let most = most_held(|| {
            for _ in 0..10 {
                assert!(matches!(decoder.next(&wire), Ok(Step::Packet { .. })));
            }
        });
        assert_eq!(most, 0, "{framing}");
    }
}
