//! Reply ports and the monitors that they share.

use super::*;
use crate::kernel::MonitorId;
use crate::node::port::replies::{Ended, MAX_IDLE};
use crate::node::port::sync::SHARDS;
use crate::value::PortId;
use std::cell::Cell;
use std::collections::HashSet;
use std::task::{Poll, Waker};

struct Caller {
    replies: Replies,
    last: Cell<u64>,
}

impl Caller {
    fn new() -> Self {
        Caller { replies: Replies::new([7; 32]), last: Cell::new(0) }
    }

    fn call(&self, port: &PortId) -> ReplyName {
        let monitor = |(): &mut ()| {
            self.last.set(self.last.get() + 1);
            MonitorId(self.last.get())
        };
        self.replies.join_or_monitor(port, &mut (), monitor, |()| {})
    }

    fn deliver(&self, name: &[u8]) -> bool {
        matches!(self.replies.deliver(name, elements(&message(1))), Some(Delivery::Queued { .. }))
    }
}

fn callee(number: usize) -> PortId {
    format!("callee#port{number}").parse().unwrap()
}

fn octets(name: ReplyName) -> Vec<u8> {
    name.with_octets(<[u8]>::to_vec)
}

#[test]
fn each_call_has_a_name_of_its_own_and_gets_what_is_sent_to_just_that() {
    let caller = Caller::new();
    let names: Vec<_> = (0..5000).map(|number| caller.call(&callee(number % 70))).collect();
    let texts: HashSet<_> = names.iter().map(|name| octets(*name)).collect();
    assert_eq!((texts.len(), caller.replies.unlisted()), (5000, 5000));
    assert_eq!(caller.last.get(), 70, "one monitor for each port");
    for name in &names {
        let text = octets(*name);
        assert!(text.iter().all(u8::is_ascii_alphanumeric));
        let (random, place) = text.split_at(8);
        let longer = [random, b"A", place, b"a"].map(<[u8]>::to_vec);
        let leading = [random, b"A", place].concat();
        for wrong in [&text[..text.len() - 1], &longer.concat(), &leading, random, b"", &[0; 8]] {
            assert!(wrong == text || !caller.deliver(wrong), "{wrong:?} for {text:?}");
        }
        assert!(caller.replies.poll(name, Waker::noop()).is_pending());
        assert!(caller.deliver(&text));
        assert!(!caller.deliver(&text), "only the first counts");
        assert!(matches!(caller.replies.poll(name, Waker::noop()), Poll::Ready(Ok(_))));
        assert_eq!(caller.replies.end(name), Ended::default());
        assert!(!caller.deliver(&text));
    }
    assert_eq!(caller.replies.unlisted(), 0);
}

#[test]
fn few_monitors_outlast_their_calls_however_many_ports_are_called() {
    let caller = Caller::new();
    let mut kept = HashSet::new();
    for number in 0..10_000 {
        let name = caller.call(&callee(number));
        let monitor = MonitorId(caller.last.get());
        if caller.replies.end(&name).unused != Some(monitor) {
            kept.insert(monitor);
        }
    }
    assert!((MAX_IDLE..=MAX_IDLE * SHARDS).contains(&kept.len()), "{}", kept.len());
    assert!(caller.replies.sweep().is_empty(), "all were used since the last time");
    assert_eq!(caller.replies.sweep().into_iter().collect::<HashSet<_>>(), kept);
    assert!(caller.replies.is_empty());
}

#[test]
fn a_monitor_that_fires_ends_the_calls_of_its_port_and_no_others() {
    let caller = Caller::new();
    let (dying, other) = (callee(1), callee(2));
    let names = [&dying, &other, &dying].map(|port| caller.call(port));
    let answered = caller.call(&dying);
    assert!(caller.deliver(&octets(answered)));
    caller.replies.fired(&dying, MonitorId(99), &message("old"));
    assert!(caller.replies.poll(&names[0], Waker::noop()).is_pending());
    caller.replies.fired(&dying, MonitorId(1), &message("dead"));
    let failed = names.map(|name| caller.replies.poll(&name, Waker::noop()).is_ready());
    assert_eq!(failed, [true, false, true]);
    assert!(matches!(caller.replies.poll(&answered, Waker::noop()), Poll::Ready(Ok(_))));
    assert!(!caller.deliver(&octets(names[0])) && caller.deliver(&octets(names[1])));
    let again = caller.call(&dying);
    assert!(caller.replies.poll(&again, Waker::noop()).is_pending(), "it has a new monitor");
    assert_eq!(caller.last.get(), 3);
}
