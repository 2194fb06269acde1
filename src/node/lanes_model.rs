//! A loom model of a lane: every interleaving of senders, the writer, and the kernel's connects and
//! losses.
//!
//! The real source file, compiled once more with loom's mutex.
#![allow(clippy::duplicate_mod, dead_code, reason = "the file is the real one")]

#[path = "lanes.rs"]
mod lanes;

mod sync {
    //! loom's version of `sync`.

    use loom::sync::MutexGuard;
    use loom::sync::atomic::{AtomicBool, Ordering};
    use std::collections::HashMap;
    use std::hash::Hash;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    #[derive(Debug, Default)]
    pub(super) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(super) fn new(value: T) -> Self {
            Mutex(loom::sync::Mutex::new(value))
        }

        pub(super) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap()
        }
    }

    #[derive(Debug)]
    pub(super) struct Table<K, V>(Mutex<HashMap<K, V>>);

    impl<K: Hash + Eq + Clone, V: Clone> Table<K, V> {
        pub(super) fn new() -> Self {
            Table(Mutex::new(HashMap::new()))
        }

        pub(super) fn get_or_insert(&self, key: &K, make: impl FnOnce() -> V) -> V {
            self.0.lock().entry(key.clone()).or_insert_with(make).clone()
        }

        pub(super) fn get(&self, key: &K) -> Option<V> {
            self.0.lock().get(key).cloned()
        }

        pub(super) fn remove(&self, key: &K) {
            self.0.lock().remove(key);
        }

        pub(super) fn for_each(&self, mut f: impl FnMut(&K, &V)) {
            for (key, value) in &*self.0.lock() {
                f(key, value);
            }
        }
    }

    macro_rules! local {
        ($name:ident: $type:ty = $init:expr) => {
            loom::thread_local! {
                static $name: $type = $init;
            }
        };
    }
    pub(super) use local;

    /// Keeps the octets that were written, up to a limit.
    #[derive(Debug, Clone)]
    pub(super) struct DirectOutput {
        pub(super) written: std::sync::Arc<Mutex<Vec<u8>>>,
        pub(super) room: usize,
    }

    impl DirectOutput {
        pub(super) fn try_write(&self, octets: &[u8]) -> std::io::Result<usize> {
            let mut written = self.written.lock();
            let len = octets.len().min(self.room.saturating_sub(written.len()));
            written.extend_from_slice(&octets[..len]);
            match len {
                0 => Err(std::io::ErrorKind::WouldBlock.into()),
                _ => Ok(len),
            }
        }
    }

    /// Remembers whether it was notified.
    #[derive(Debug)]
    pub(super) struct Notify(AtomicBool);

    impl Notify {
        pub(super) fn new() -> Self {
            Notify(AtomicBool::new(false))
        }

        pub(super) fn notify_one(&self) {
            self.0.store(true, Ordering::Release);
        }

        pub(super) fn notify_waiters(&self) {}

        pub(super) fn notified(&self) -> Notified<'_> {
            Notified(self)
        }
    }

    pub(super) struct Notified<'a>(&'a Notify);

    impl Notified<'_> {
        pub(super) fn enable(self: Pin<&mut Self>) -> bool {
            false
        }
    }

    impl Future for Notified<'_> {
        type Output = ();

        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
            match self.0.0.swap(false, Ordering::AcqRel) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        }
    }
}

use crate::lane::{LaneLimits, Later};
use crate::value::{NodeId, Packed};
use crate::wire::framing::{Decoder, Framing, FramingLimits, Step};
use lanes::{Lanes, Sent, SharedLane, WrittenBy};
use loom::thread;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use sync::DirectOutput;

const ROOMY: LaneLimits = LaneLimits { soft: 1 << 20, hard: 1 << 20 };

fn peer() -> NodeId {
    "peer".parse().unwrap()
}

fn send(lanes: &Lanes, number: u32) -> Sent {
    let packet = Packed::of(&("port", number)).unwrap();
    let to = peer().node_port();
    // Programs send one way, the kernel the other.
    match number % 2 {
        0 => lanes.append(None, peer, packet.as_elements(), WrittenBy::Connection).unwrap(),
        _ => {
            let lane = lanes.last(peer().as_str());
            lanes.append(lane, || to.node(), packet.as_elements(), WrittenBy::Sender).unwrap()
        }
    }
}

/// Sends a packet that is made when its turn has come.
fn send_later(lanes: &Lanes, number: u32) -> Sent {
    let later = Later::new(20, move || vec![Packed::of(&("port", number)).unwrap()]);
    lanes.append_later(&peer(), &mut Some(later)).unwrap()
}

/// Appends what the lane holds for that connection to what was written on it before.
fn write(lane: &SharedLane, generation: u64, written: &mut Vec<u8>) {
    loop {
        while let Some(mut chunk) = lane.take(generation) {
            written.extend_from_slice(chunk.unwritten());
            chunk.advance(chunk.unwritten().len());
            lane.give_back(generation, chunk);
        }
        if !lane.make_next(generation).unwrap() {
            return;
        }
    }
}

fn numbers(octets: &[u8]) -> Vec<u32> {
    let mut decoder = Decoder::new(Framing::Json, FramingLimits::default());
    let mut numbers = Vec::new();
    let mut at = 0;
    loop {
        match decoder.next(&octets[at..]).unwrap() {
            Step::More { .. } => return numbers,
            Step::Packet { used, elements } => {
                at += used;
                let (_, number): (String, u32) = elements.decode().unwrap();
                numbers.push(number);
            }
        }
    }
}

/// What the kernel does when a connection is lost, all under its lock.
fn lose(lanes: &Lanes) {
    lanes.disconnect(&peer());
    // Here the monitors fire.
    lanes.reset(&peer());
}

/// As `loom::model`, with at most three preemptions per run; more would take too long.
fn model(run: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound.get_or_insert(3);
    model.check(run);
}

#[test]
fn what_is_sent_while_a_node_connects_arrives_once_and_in_order() {
    model(|| {
        let lanes = Arc::new(Lanes::new(ROOMY));
        let sender = {
            let lanes = lanes.clone();
            thread::spawn(move || (1..=3).map(|number| send(&lanes, number)).collect::<Vec<_>>())
        };
        let (lane, generation, errors) = lanes.connect(&peer(), Framing::Json);
        assert!(errors.is_empty());
        let mut written = Vec::new();
        write(&lane, generation, &mut written);
        let sent = sender.join().unwrap();
        // A connection is requested at most once, by the first message.
        assert!(sent[1..].iter().all(|sent| *sent == Sent::Done), "{sent:?}");
        write(&lane, generation, &mut written);
        assert_eq!(numbers(&written), [1, 2, 3]);
    });
}

#[test]
fn a_loss_splits_what_is_sent_into_a_prefix_and_a_suffix() {
    model(|| {
        let lanes = Arc::new(Lanes::new(ROOMY));
        let (first, generation, _) = lanes.connect(&peer(), Framing::Json);
        let sender = {
            let lanes = lanes.clone();
            thread::spawn(move || {
                for number in 1..=3 {
                    let _ = send(&lanes, number);
                }
            })
        };
        let mut before = Vec::new();
        write(&first, generation, &mut before);
        lose(&lanes);
        write(&first, generation, &mut before);
        assert!(first.is_over(generation));
        let (second, next, _) = lanes.connect(&peer(), Framing::Json);
        let mut after = Vec::new();
        write(&second, next, &mut after);
        sender.join().unwrap();
        write(&first, generation, &mut before);
        write(&second, next, &mut after);
        let (before, after) = (numbers(&before), numbers(&after));
        let all = [1, 2, 3];
        assert!(all.starts_with(&before), "{before:?} then {after:?}");
        assert!(all.ends_with(&after), "{before:?} then {after:?}");
        assert!(before.len() + after.len() <= 3, "{before:?} then {after:?}");
    });
}

#[test]
fn a_packet_that_is_made_later_keeps_its_place_also_when_the_connection_is_lost() {
    model(|| {
        let lanes = Arc::new(Lanes::new(ROOMY));
        let (first, generation, _) = lanes.connect(&peer(), Framing::Json);
        let sender = {
            let lanes = lanes.clone();
            thread::spawn(move || {
                let _ = send_later(&lanes, 1);
                let _ = send(&lanes, 2);
                let _ = send_later(&lanes, 3);
            })
        };
        let kernel = {
            let lanes = lanes.clone();
            thread::spawn(move || {
                lose(&lanes);
                lanes.connect(&peer(), Framing::Json)
            })
        };
        let mut before = Vec::new();
        write(&first, generation, &mut before);
        let (second, next, _) = kernel.join().unwrap();
        sender.join().unwrap();
        write(&first, generation, &mut before);
        let mut after = Vec::new();
        write(&second, next, &mut after);
        let (before, after) = (numbers(&before), numbers(&after));
        assert!([1, 2, 3].starts_with(&before), "{before:?} then {after:?}");
        assert!([1, 2, 3].ends_with(&after), "{before:?} then {after:?}");
        assert!(before.len() + after.len() <= 3, "{before:?} then {after:?}");
        assert!(lanes.are_empty());
    });
}

#[test]
fn after_a_loss_the_next_message_asks_for_a_connection_or_is_on_one() {
    model(|| {
        let lanes = Arc::new(Lanes::new(ROOMY));
        let _ = lanes.connect(&peer(), Framing::Json);
        let loss = {
            let lanes = lanes.clone();
            thread::spawn(move || lose(&lanes))
        };
        let during = send(&lanes, 1);
        loss.join().unwrap();
        // Whoever has seen the monitors fire can reach the node again.
        let after = send(&lanes, 2);
        assert_eq!(after == Sent::WantConnection, during == Sent::Done, "{during:?} {after:?}");
        let (lane, generation, _) = lanes.connect(&peer(), Framing::Json);
        let mut written = Vec::new();
        write(&lane, generation, &mut written);
        assert_eq!(numbers(&written).last(), Some(&2));
    });
}

#[test]
fn nothing_passes_a_message_that_was_dropped_because_too_much_waited() {
    model(|| {
        let lanes = Arc::new(Lanes::new(LaneLimits { soft: 1, hard: 4 }));
        let (lane, generation, _) = lanes.connect(&peer(), Framing::Json);
        let sender = {
            let lanes = lanes.clone();
            thread::spawn(move || (1..=3).map(|number| send(&lanes, number)).collect::<Vec<_>>())
        };
        let mut written = Vec::new();
        write(&lane, generation, &mut written);
        let sent = sender.join().unwrap();
        write(&lane, generation, &mut written);
        let overflows = sent.iter().filter(|sent| **sent == Sent::Overflow).count();
        let arrived = numbers(&written);
        assert!([1, 2, 3].starts_with(&arrived), "{sent:?} {arrived:?}");
        // The kernel is told once, and a message is missing only if it was told.
        assert!(overflows == 1 || (overflows == 0 && arrived.len() == 3), "{sent:?} {arrived:?}");
    });
}

#[test]
fn an_overflow_while_a_node_connects_leaves_no_hole_either() {
    model(|| {
        let lanes = Arc::new(Lanes::new(LaneLimits { soft: 1, hard: 4 }));
        let _ = send(&lanes, 1);
        let kernel = {
            let lanes = lanes.clone();
            thread::spawn(move || lanes.connect(&peer(), Framing::Json))
        };
        let sent = [send(&lanes, 2), send(&lanes, 3)];
        let (lane, generation, _) = kernel.join().unwrap();
        let mut written = Vec::new();
        write(&lane, generation, &mut written);
        assert!(sent.contains(&Sent::Overflow));
        assert!([1, 2, 3].starts_with(&numbers(&written)));
    });
}

#[test]
fn whoever_leaves_something_in_the_lane_has_woken_the_writer() {
    model(|| {
        let lanes = Arc::new(Lanes::new(ROOMY));
        let (lane, generation, _) = lanes.connect(&peer(), Framing::Json);
        let senders: Vec<_> = (0..2)
            .map(|sender| {
                let lanes = lanes.clone();
                thread::spawn(move || match sender {
                    0 => send_later(&lanes, sender),
                    _ => send(&lanes, sender),
                })
            })
            .collect();
        // Acts as the connection's writer: writes until nothing is queued, then waits.
        let mut written = Vec::new();
        let mut arrived = 0;
        let mut look = || {
            write(&lane, generation, &mut written);
            arrived = numbers(&written).len();
            arrived
        };
        look();
        for sender in senders {
            let _ = sender.join().unwrap();
        }
        let mut context = Context::from_waker(Waker::noop());
        loop {
            let mut wait = Box::pin(lane.wait_for_packets());
            match wait.as_mut().poll(&mut context) {
                Poll::Ready(()) => look(),
                Poll::Pending => break,
            };
        }
        assert_eq!(arrived, 2, "the writer sleeps on it");
    });
}

/// Senders that write directly, as far as the socket accepts octets, beside the connection's
/// writer.
fn write_directly(room: usize, numbers_sent: &'static [u32]) {
    model(move || {
        // Every packet is large enough to be written at once.
        let lanes = Arc::new(Lanes::new(LaneLimits { soft: 1, hard: 1 << 20 }));
        let (lane, generation, _) = lanes.connect(&peer(), Framing::Json);
        let written = Arc::default();
        lane.share_output(generation, DirectOutput { written: Arc::clone(&written), room });
        let senders: Vec<_> = numbers_sent
            .iter()
            .map(|number| {
                let lanes = lanes.clone();
                thread::spawn(move || {
                    // As programs send, which write directly.
                    let _ = send(&lanes, *number);
                })
            })
            .collect();
        // Acts as the connection's writer, which has the same socket; that has room again in the
        // end.
        let look = || {
            while let Some(mut chunk) = lane.take(generation) {
                written.lock().extend_from_slice(chunk.unwritten());
                chunk.advance(chunk.unwritten().len());
                lane.give_back(generation, chunk);
            }
        };
        look();
        for sender in senders {
            sender.join().unwrap();
        }
        let mut context = Context::from_waker(Waker::noop());
        while Box::pin(lane.wait_for_packets()).as_mut().poll(&mut context).is_ready() {
            look();
        }
        let mut arrived = numbers(&written.lock());
        arrived.sort_unstable();
        assert_eq!(arrived, numbers_sent, "whole, once each, and nobody sleeps on any");
    });
}

#[test]
fn what_senders_write_themselves_arrives_whole_and_once() {
    write_directly(usize::MAX, &[1, 3]);
}

#[test]
fn what_the_socket_does_not_take_from_a_sender_is_left_to_the_writer() {
    write_directly(5, &[1, 3]);
}
