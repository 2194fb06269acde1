//! Bounds the cost of connections whose peers have not authenticated yet: the pending handshakes.
//!
//! When there are too many, the *oldest* one is closed to make room for the new one: the oldest of
//! the same address if that address has too many, otherwise the oldest of the address that has the
//! most. An honest peer authenticates within a few round trips; to keep others out, an attacker has
//! to replace all pending handshakes within that time, again and again. If new ones were refused
//! instead, filling the table once per handshake timeout would be enough.
//!
//! Connections from this machine are counted separately, and not per address: hundreds of nodes may
//! start at once, and nobody elsewhere can take their places.

use crate::config::settings::HandshakeLimits;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Pending handshakes with peers on this machine, if the process may open twice as many files.
const MAX_LOCAL: usize = 16 << 10;
/// Refusals logged in a row; after that, one more each [`LOG_INTERVAL`].
const LOG_BURST: u32 = 20;
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// Where a connection comes from, for the purpose of counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Origin {
    /// This machine.
    Local,
    V4(Ipv4Addr),
    /// An IPv6 network of 64 bits: usually one customer, who can use all of its addresses.
    V6(u64),
}

impl Origin {
    /// The origin of a connection from `peer` that was accepted at the address `own`.
    pub(crate) fn of(peer: IpAddr, own: Option<IpAddr>) -> Origin {
        let own = own.map(|own| own.to_canonical());
        match peer.to_canonical() {
            peer if peer.is_loopback() || Some(peer) == own => Origin::Local,
            IpAddr::V4(address) => Origin::V4(address),
            IpAddr::V6(address) => Origin::V6((address.to_bits() >> 64) as u64),
        }
    }
}

/// How the handshakes of connections that others made have ended so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    /// Handshakes under way.
    pub(crate) pending: u64,
    /// Handshakes that were closed to make room for others.
    pub(crate) displaced: u64,
    /// Handshakes that failed, including the displaced ones.
    pub(crate) refused: u64,
}

/// All connections that others made and whose peers have not authenticated yet.
#[derive(Debug)]
pub(crate) struct PendingHandshakes {
    limits: HandshakeLimits,
    most_local: usize,
    table: Mutex<Table>,
    log: Mutex<LogBudget>,
    displaced: AtomicU64,
    refused: AtomicU64,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    /// By origin, in order of arrival. The sender tells that connection to make room.
    places: HashMap<Origin, BTreeMap<u64, oneshot::Sender<()>>>,
    /// Number of pending handshakes, without those from this machine.
    from_elsewhere: usize,
}

#[derive(Debug)]
struct LogBudget {
    lines: u32,
    since: Instant,
    unlogged: u64,
}

impl PendingHandshakes {
    pub(crate) fn new(limits: HandshakeLimits) -> Arc<Self> {
        PendingHandshakes::of_a_machine(limits, open_files())
    }

    /// Limits the table to half of the files that this process may open.
    fn of_a_machine(mut limits: HandshakeLimits, open_files: usize) -> Arc<Self> {
        limits.total = limits.total.min(open_files / 2).max(1);
        Arc::new(PendingHandshakes {
            limits,
            most_local: MAX_LOCAL.min(open_files / 2).max(1),
            table: Mutex::default(),
            log: Mutex::new(LogBudget { lines: LOG_BURST, since: Instant::now(), unlogged: 0 }),
            displaced: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        })
    }

    /// Adds a new connection, for which another one may have to make room.
    pub(crate) fn add(self: &Arc<Self>, origin: Origin) -> PendingHandshake {
        let (told_to_go, must_go) = oneshot::channel();
        let mut table = self.table.lock();
        let displaced = table.make_room(origin, &self.limits, self.most_local);
        let number = table.next;
        table.next += 1;
        table.places.entry(origin).or_default().insert(number, told_to_go);
        table.from_elsewhere += usize::from(origin != Origin::Local);
        drop(table);
        self.send_away(displaced);
        PendingHandshake { all: self.clone(), origin, number, must_go: Some(must_go), kept: None }
    }

    /// Closes the oldest pending handshake to free a file descriptor, preferring peers on other
    /// machines.
    pub(crate) fn make_room(&self) {
        let mut table = self.table.lock();
        let largest = table.largest().unwrap_or(Origin::Local);
        let displaced = table.take_oldest(largest);
        drop(table);
        self.send_away(displaced);
    }

    fn send_away(&self, displaced: Option<oneshot::Sender<()>>) {
        if let Some(displaced) = displaced {
            self.displaced.fetch_add(1, Ordering::Relaxed);
            let _ = displaced.send(());
        }
    }

    pub(crate) fn figures(&self) -> Figures {
        let table = self.table.lock();
        let pending = table.places.values().map(|places| places.len() as u64).sum();
        Figures {
            pending,
            displaced: self.displaced.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }

    /// Counts a handshake that failed. Returns `Some` if it should be logged, with the number of
    /// failures since the last one that was logged.
    pub(crate) fn refused(&self) -> Option<u64> {
        self.refused.fetch_add(1, Ordering::Relaxed);
        self.may_log(Instant::now())
    }

    /// As [`PendingHandshakes::refused`], for other events that anybody can cause at will.
    pub(crate) fn may_log(&self, now: Instant) -> Option<u64> {
        let mut log = self.log.lock();
        let earned = now.saturating_duration_since(log.since).as_secs() / LOG_INTERVAL.as_secs();
        if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(u32::MAX);
            log.lines = log.lines.saturating_add(earned).min(LOG_BURST);
            log.since = now;
        }
        if log.lines == 0 {
            log.unlogged += 1;
            return None;
        }
        log.lines -= 1;
        Some(std::mem::take(&mut log.unlogged))
    }
}

/// The end of a log line that counts the events that were not logged.
pub(crate) fn and_others(unlogged: u64) -> String {
    match unlogged {
        0 => String::new(),
        unlogged => format!(" (and {unlogged} more that were not logged)"),
    }
}

impl Table {
    fn make_room(
        &mut self,
        origin: Origin,
        limits: &HandshakeLimits,
        most_local: usize,
    ) -> Option<oneshot::Sender<()>> {
        let already = self.places.get(&origin).map_or(0, BTreeMap::len);
        if origin == Origin::Local {
            return (already >= most_local).then(|| self.take_oldest(origin)).flatten();
        }
        if already >= limits.per_address {
            return self.take_oldest(origin);
        }
        if self.from_elsewhere >= limits.total {
            return self.largest().and_then(|largest| self.take_oldest(largest));
        }
        None
    }

    /// The origin with the most pending handshakes; among equals, the one with the oldest.
    fn largest(&self) -> Option<Origin> {
        let elsewhere = self.places.iter().filter(|(origin, _)| **origin != Origin::Local);
        let rank = |places: &BTreeMap<u64, _>| {
            let first = places.keys().next().copied().unwrap_or(u64::MAX);
            (places.len(), std::cmp::Reverse(first))
        };
        elsewhere.max_by_key(|(_, places)| rank(places)).map(|(origin, _)| *origin)
    }

    fn take_oldest(&mut self, origin: Origin) -> Option<oneshot::Sender<()>> {
        let number = self.places.get(&origin)?.keys().next().copied()?;
        self.take(origin, number)
    }

    fn take(&mut self, origin: Origin, number: u64) -> Option<oneshot::Sender<()>> {
        let places = self.places.get_mut(&origin)?;
        let taken = places.remove(&number)?;
        if places.is_empty() {
            self.places.remove(&origin);
        }
        self.from_elsewhere -= usize::from(origin != Origin::Local);
        Some(taken)
    }
}

/// A connection's place among the pending handshakes.
#[derive(Debug)]
pub(crate) struct PendingHandshake {
    all: Arc<PendingHandshakes>,
    origin: Origin,
    number: u64,
    must_go: Option<oneshot::Receiver<()>>,
    /// The sender of `must_go`, kept because dropping it would resolve `must_go`.
    kept: Option<oneshot::Sender<()>>,
}

impl PendingHandshake {
    /// Resolves when this connection has to make room. May be called once.
    pub(crate) fn displaced(&mut self) -> impl Future<Output = ()> + use<> {
        let must_go = self.must_go.take();
        async move {
            let told = match must_go {
                Some(must_go) => must_go.await.is_ok(),
                None => false,
            };
            if !told {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Removes the connection from the pending ones, as the peer has authenticated: it can no
    /// longer be told to make room. Returns `false` if it was told so before.
    pub(crate) fn is_done(&mut self) -> bool {
        let place = self.all.table.lock().take(self.origin, self.number);
        let in_time = place.is_some();
        self.kept = place;
        in_time
    }
}

impl Drop for PendingHandshake {
    fn drop(&mut self) {
        self.all.table.lock().take(self.origin, self.number);
    }
}

/// How many files this process may have open.
fn open_files() -> usize {
    #[cfg(unix)]
    {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
    }
    #[cfg(not(unix))]
    {
        usize::MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(total: usize, per_address: usize) -> Arc<PendingHandshakes> {
        PendingHandshakes::of_a_machine(HandshakeLimits { total, per_address }, 1000)
    }

    fn address(number: u8) -> Origin {
        Origin::of(IpAddr::from([192, 0, 2, number]), None)
    }

    /// Whether a connection has not been told to make room.
    fn stays(one: &PendingHandshake) -> bool {
        let table = one.all.table.lock();
        table.places.get(&one.origin).is_some_and(|places| places.contains_key(&one.number))
    }

    #[test]
    fn an_address_that_has_too_many_loses_its_oldest() {
        let pending = pending(100, 3);
        let other = pending.add(address(1));
        let added: Vec<PendingHandshake> = (0..5).map(|_| pending.add(address(2))).collect();
        let staying: Vec<bool> = added.iter().map(stays).collect();
        assert_eq!(staying, [false, false, true, true, true]);
        assert!(stays(&other));
        assert_eq!(pending.figures().displaced, 2);
        assert_eq!(pending.figures().pending, 4);
    }

    #[test]
    fn where_all_are_too_many_the_address_that_has_most_loses_its_oldest() {
        let pending = pending(4, 3);
        let lone = pending.add(address(1));
        let many: Vec<PendingHandshake> = (0..3).map(|_| pending.add(address(2))).collect();
        let others: Vec<PendingHandshake> =
            (3..5).map(|number| pending.add(address(number))).collect();
        assert_eq!(many.iter().map(stays).collect::<Vec<_>>(), [false, false, true]);
        assert!(stays(&lone) && others.iter().all(stays));
        // All have one each now: the oldest of all goes.
        let last = pending.add(address(9));
        assert!(!stays(&lone) && stays(&last) && others.iter().all(stays));
    }

    #[test]
    fn this_machine_is_counted_apart_and_can_open_half_of_the_files() {
        let pending = pending(2, 1);
        let local = Origin::of(IpAddr::from([127, 3, 2, 1]), None);
        let first = pending.add(address(1));
        let locals: Vec<PendingHandshake> = (0..501).map(|_| pending.add(local)).collect();
        assert!(stays(&first));
        assert_eq!(locals.iter().filter(|one| !stays(one)).count(), 1);
    }

    #[test]
    fn whoever_has_authenticated_leaves_room_and_cannot_be_made_to_go() {
        let pending = pending(1, 1);
        let mut known = pending.add(address(1));
        let mut displaced = std::pin::pin!(known.displaced());
        assert!(known.is_done());
        let mut second = pending.add(address(2));
        let third = pending.add(address(3));
        assert!(!second.is_done(), "it had to make room");
        assert!(stays(&third));
        let mut nobody = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(displaced.as_mut().poll(&mut nobody).is_pending());
        let mut displaced = std::pin::pin!(second.displaced());
        assert!(displaced.as_mut().poll(&mut nobody).is_ready());
        drop(third);
        assert_eq!(pending.figures().pending, 0);
    }

    #[test]
    fn a_network_of_64_bits_is_one_address() {
        let origin = |address: &str| Origin::of(address.parse().unwrap(), None);
        assert_eq!(origin("2001:db8::1"), origin("2001:db8::ffff:1:2:3"));
        assert_ne!(origin("2001:db8::1"), origin("2001:db8:0:1::1"));
        assert_eq!(origin("::ffff:192.0.2.1"), origin("192.0.2.1"));
        assert_eq!(origin("::ffff:127.0.0.1"), Origin::Local);
        assert_eq!(origin("::1"), Origin::Local);
        let own = "::ffff:192.0.2.7".parse().ok();
        assert_eq!(Origin::of("192.0.2.7".parse().unwrap(), own), Origin::Local);
    }

    #[test]
    fn a_flood_of_refusals_is_a_line_per_second_that_counts_them() {
        let pending = pending(1, 1);
        let start = Instant::now();
        let logged = (0..100).filter(|_| pending.may_log(start).is_some()).count();
        assert_eq!(logged, 20);
        assert_eq!(pending.may_log(start + Duration::from_secs(1)), Some(80));
        assert_eq!(pending.may_log(start + Duration::from_secs(1)), None);
        assert_eq!(and_others(80), " (and 80 more that were not logged)");
        assert_eq!(and_others(0), "");
    }

    #[test]
    fn without_many_file_descriptors_there_are_fewer_places() {
        let limits = HandshakeLimits { total: 1000, per_address: 1000 };
        let pending = PendingHandshakes::of_a_machine(limits, 16);
        let added: Vec<PendingHandshake> = (0..20).map(|_| pending.add(address(1))).collect();
        assert_eq!(added.iter().filter(|one| stays(one)).count(), 8);
        pending.make_room();
        assert_eq!(added.iter().filter(|one| stays(one)).count(), 7);
    }
}
