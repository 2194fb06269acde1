//! Announced sizes allocate no memory, and decoded packets release theirs.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod framing_support;

use aemp::wire::framing::{Decoder, Framing, FramingError, FramingLimits, Step};
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

    // Large blocks grow where they are, so that the old and the new one are not held at once.
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let held = HELD.get().wrapping_add(size).saturating_sub(layout.size());
        HELD.set(held);
        MOST.set(MOST.get().max(held));
        // SAFETY: the caller keeps to the contract, and `memory` came from the system.
        unsafe { System.realloc(memory, layout, size) }
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

/// What a packet of so many octets may take.
fn memory_limit(wire: &[u8]) -> usize {
    4 * wire.len() + (64 << 10)
}

/// An image of so many elements, with its length before it.
fn storable(elements: u32, body: &[u8]) -> Vec<u8> {
    let len = (7 + body.len()) as u32;
    let mut wire: Vec<u8> = [28, 21, 14, 7].map(|shift| (len >> shift) as u8 | 0x80).to_vec();
    while wire.first() == Some(&0x80) {
        wire.remove(0);
    }
    wire.push(len as u8 & 0x7f);
    wire.extend([0x05, 0x0b, 0x02]);
    wire.extend(elements.to_be_bytes());
    wire.extend(body);
    wire
}

#[test]
fn a_packet_takes_at_most_four_times_its_octets_whatever_is_in_it() {
    const N: usize = 200_000;
    let cbor = |body: &[u8]| (Framing::Cbor, [&unhex("9f00")[..], body, &[0xff]].concat());
    let namespace =
        |body: &[u8]| (Framing::Cbor, [&unhex("8200 d901009f")[..], body, &[0xff]].concat());
    let image = |elements: usize, body: &[u8]| {
        let body = [&[0x0a, 1, b'p'][..], body].concat();
        (Framing::Storable, storable(elements as u32 + 1, &body))
    };
    let chain = [[0xd8, 28].repeat(400), vec![0xf6]].concat();
    let mut refused = 0;
    for (name, (framing, wire)) in [
        ("arrays without items", cbor(&[0x80; N])),
        ("indefinite arrays", cbor(&unhex("9fff").repeat(N))),
        ("half floats", cbor(&unhex("f93c01").repeat(N))),
        ("shareable values", cbor(&unhex("d81cf6").repeat(N))),
        ("shareable arrays", cbor(&unhex("d81c9fff").repeat(N))),
        ("shareable again and again", cbor(&chain.repeat(N / 400))),
        ("references", cbor(&[&unhex("d81c f6")[..], &unhex("d81d00").repeat(N)].concat())),
        ("strings that may be referred to", namespace(&unhex("43616263").repeat(N))),
        (
            "references to a long string",
            namespace(&[&[0x58, 200][..], &[b'x'; 200], &unhex("d81900").repeat(N)].concat()),
        ),
        ("namespaces", cbor(&unhex("d9010043616263").repeat(N))),
        ("a string in chunks", cbor(&[&[0x5f][..], &unhex("4161").repeat(N), &[0xff]].concat())),
        ("tags", cbor(&unhex("c6f6").repeat(N))),
        ("arrays in JSON", (Framing::Json, [b"[0", &b",[]".repeat(N)[..], b"]"].concat())),
        ("floats in JSON", (Framing::Json, [b"[0", &b",1e40".repeat(N)[..], b"]"].concat())),
        ("escapes in JSON", (Framing::Json, [b"[0,\"", &br"\n".repeat(N)[..], b"\"]"].concat())),
        ("undef and one reference", {
            image(N + 1, &[&[5; N][..], &unhex("0000000001")].concat())
        }),
        ("references to each of many", {
            let references = (2..N as u32).map(|n| [&[0][..], &n.to_be_bytes()].concat());
            image(2 * N - 2, &[&[5; N][..], &references.collect::<Vec<_>>().concat()].concat())
        }),
        ("references to scalars", image(N, &unhex("0405").repeat(N))),
        (
            "references to references",
            image(N / 100, &[&[4; 100][..], &[5]].concat().repeat(N / 100)),
        ),
        (
            "objects of one class",
            image(N, &[&unhex("041103466f6f05")[..], &unhex("04120005").repeat(N - 1)].concat()),
        ),
        ("arrays that contain themselves", {
            let arrays = (0..N as u32)
                .map(|n| [&unhex("040200000001 0400")[..], &(3 + 3 * n).to_be_bytes()].concat());
            image(N, &arrays.collect::<Vec<_>>().concat())
        }),
        ("references to themselves", {
            let all = (0..N as u32).map(|n| [&[4, 0][..], &(2 + n).to_be_bytes()].concat());
            image(N, &all.collect::<Vec<_>>().concat())
        }),
        ("an array of itself, and references to each of its many items", {
            let head = [&[4, 2][..], &(2 * N as u32 + 1).to_be_bytes()].concat();
            let items = unhex("0405").repeat(N);
            let again = (0..N as u32).map(|n| [&[0][..], &(4 + 2 * n).to_be_bytes()].concat());
            let again = again.collect::<Vec<_>>().concat();
            image(1, &[&head[..], &items, &again, &unhex("040000000003")].concat())
        }),
        ("parts of a value that contains itself", {
            let value = unhex("0402000000020402000000010400000000030881");
            let again = unhex("040000000005").repeat(N);
            image(N + 1, &[value, again].concat())
        }),
        ("objects frozen with others", {
            let object =
                |n: u32| [&unhex("041342058201480001")[..], &(4 + 3 * n).to_be_bytes()].concat();
            image(N, &(0..N as u32).map(object).collect::<Vec<_>>().concat())
        }),
        ("classes", image(N, &unhex("04110141 05").repeat(N))),
        ("hashes in hashes", image(N, &unhex("0403 00000001 04 0200000000 0000000161").repeat(N))),
    ] {
        let mut result = Ok(());
        let most = most_held(|| {
            let mut decoder = Decoder::new(framing, FramingLimits::default());
            result = match decoder.next(&wire) {
                Ok(Step::Packet { .. }) => Ok(()),
                Ok(Step::More { .. }) => panic!("{name}: not complete"),
                Err(error) => Err(error),
            };
        });
        assert!(most <= memory_limit(&wire), "{name}: {most} for {}, {result:?}", wire.len());
        match result {
            Ok(()) => {}
            Err(FramingError::TooExpanded { limit }) => {
                assert!(limit <= memory_limit(&wire), "{name}");
                refused += 1;
            }
            Err(error) => panic!("{name}: {error}"),
        }
    }
    assert!(refused < 9, "most fit");
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
