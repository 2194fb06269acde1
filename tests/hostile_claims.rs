//! Anybody can greet with any node's ID: the effects before anything is proven.

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use aemp::kernel::{
    AuthOrder, Authenticated, ConnId, Effect, Kernel, KernelConfig, Now, PeerGreeting, Pulse,
};
use aemp::value::{NodeId, Str};
use std::time::Duration;

const PERL: &str = "AE-2.02";
const OURS: &str = "aemp-0.1.0";

struct Host {
    kernel: Kernel,
    now: Duration,
    effects: Vec<Effect>,
}

impl Host {
    /// The node `m`; the interval after which another connection gets its turn is two seconds.
    fn new() -> Host {
        let config = KernelConfig { grace: Duration::ZERO, ..KernelConfig::repeatable(node("m")) };
        let kernel = Kernel::new(config, Now::default());
        Host { kernel, now: Duration::ZERO, effects: Vec::new() }
    }

    fn greeted(&mut self, id: &str, provider: &str) -> ConnId {
        let conn = self.kernel.accepted();
        let greeting = PeerGreeting::new(node(id), Str::from(provider));
        self.kernel.greeted(conn, greeting);
        self.collect();
        conn
    }

    /// Lets the peer of a connection authenticate, if it is its turn.
    fn proves(&mut self, conn: ConnId) {
        match self.may_go_on(conn) {
            Some(AuthOrder::Now) => {}
            Some(AuthOrder::AfterPeer) => {
                self.kernel.verified(conn);
                self.collect();
                let orders = self.orders(conn);
                assert_eq!(orders, [AuthOrder::AfterPeer, AuthOrder::Now]);
            }
            None => panic!("it is still held"),
        }
        self.kernel.established(conn, &Authenticated { untrusted: false });
        self.collect();
    }

    fn up(&mut self, id: &str, provider: &str) -> ConnId {
        let conn = self.greeted(id, provider);
        self.proves(conn);
        assert!(self.kernel.is_up(&node(id)));
        conn
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.kernel.next_tick().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.kernel.set_now(Now { uptime: self.now, wall: 0.0 });
            self.kernel.tick();
            self.collect();
        }
        self.now = end;
        self.kernel.set_now(Now { uptime: end, wall: 0.0 });
    }

    fn collect(&mut self) {
        loop {
            let effects = self.kernel.take_effects();
            if effects.is_empty() {
                return;
            }
            for effect in &effects {
                if let Effect::Probe { conn, number, .. } | Effect::Look { conn, number } = effect {
                    // Nothing comes from anybody who is up.
                    self.kernel.pulse(*conn, *number, Pulse::default());
                }
            }
            self.effects.extend(effects);
        }
    }

    fn orders(&self, conn: ConnId) -> Vec<AuthOrder> {
        let order = |effect: &Effect| match effect {
            Effect::Proceed { conn: other, order } if *other == conn => Some(*order),
            _ => None,
        };
        self.effects.iter().filter_map(order).collect()
    }

    fn may_go_on(&self, conn: ConnId) -> Option<AuthOrder> {
        self.orders(conn).first().copied()
    }

    fn is_closed(&self, conn: ConnId) -> bool {
        let closes =
            |effect: &Effect| matches!(effect, Effect::Close { conn: other, .. } if *other == conn);
        self.effects.iter().any(closes)
    }
}

fn node(id: &str) -> NodeId {
    NodeId::new(id).unwrap()
}

#[test]
fn a_silent_peer_is_kept_until_another_connection_proves_its_id() {
    // A larger ID and a smaller one, since the smaller one authenticates first.
    for id in ["a", "z"] {
        for provider in [PERL, OURS] {
            let mut host = Host::new();
            let old = host.up(id, provider);
            let claim = host.greeted(id, provider);
            // No echo comes. Strangers come and go.
            host.pass(Duration::from_secs(25));
            assert!(host.kernel.is_up(&node(id)) && !host.is_closed(old));
            host.kernel.closed(claim, "no handshake in time");
            host.pass(Duration::from_secs(60));
            assert!(host.kernel.is_up(&node(id)) && !host.is_closed(old));
            // The node itself, after it was cut off.
            let new = host.greeted(id, provider);
            host.pass(Duration::from_secs(3));
            host.proves(new);
            assert!(host.is_closed(old) && !host.is_closed(new), "{id} {provider}");
            assert!(host.kernel.is_up(&node(id)));
        }
    }
}

#[test]
fn a_node_gets_its_turn_however_many_connections_claim_its_id() {
    for (id, provider) in [("a", PERL), ("z", PERL), ("z", OURS)] {
        let mut host = Host::new();
        for _ in 0..500 {
            host.greeted(id, provider);
        }
        let real = host.greeted(id, provider);
        // Five intervals, which is less than the handshake may take.
        host.pass(Duration::from_millis(10_100));
        assert_eq!(host.may_go_on(real), Some(AuthOrder::Now), "{id} {provider}");
        host.proves(real);
        assert!(host.kernel.is_up(&node(id)) && !host.is_closed(real));
    }
}
