//! The virtual network: which hosts can reach each other, with what delays, and how TCP reacts to
//! faults.

use crate::event::{Event, Queue};
use crate::link::{End, Link, LinkEnd, Segment};
use aemp::value::Str;
use aemp::value::packed::Elements;
use rand::Rng as _;
use rand::rngs::StdRng;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// The delays of the network.
#[derive(Debug, Clone, Copy)]
pub struct NetworkConditions {
    /// The shortest delay.
    pub fastest: Duration,
    /// The longest delay of most segments.
    pub slowest: Duration,
    /// One segment in a hundred takes up to this long.
    pub worst: Duration,
    /// Octets of packets per second in one direction of a connection, if limited.
    pub octets_per_second: Option<u32>,
}

impl NetworkConditions {
    /// Every segment takes one millisecond.
    pub const CALM: NetworkConditions = NetworkConditions {
        fastest: Duration::from_millis(1),
        slowest: Duration::from_millis(1),
        worst: Duration::from_millis(1),
        octets_per_second: None,
    };
    /// Delays vary widely.
    pub const ROUGH: NetworkConditions = NetworkConditions {
        fastest: Duration::from_micros(100),
        slowest: Duration::from_millis(40),
        worst: Duration::from_secs(3),
        octets_per_second: None,
    };

    pub(crate) fn delay(&self, random: &mut StdRng) -> Duration {
        if self.fastest == self.worst {
            return self.fastest;
        }
        let slowest = if random.random_ratio(1, 100) { self.worst } else { self.slowest };
        random.random_range(self.fastest..=slowest)
    }
}

/// The properties of a slow link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlowLink {
    /// Octets of packets per second in one direction of a connection.
    pub octets_per_second: u32,
    /// The additional delay of every segment.
    pub delay: Duration,
    /// The additional delay of one segment in ten, whose first copy is lost.
    pub stall: Duration,
}

/// `TCP_USER_TIMEOUT`: how long sent octets may stay unacknowledged.
const USER_TIMEOUT: Duration = Duration::from_secs(30);
/// An idle connection notices after this long, by keepalive, that its peer is gone.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// The progress of a connection in octets as TCP counts them, including those of the handshake.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Progress {
    pub(crate) sent: u64,
    pub(crate) arrived: u64,
    pub(crate) received: u64,
    /// When octets from this end, and from the other one, last arrived.
    pub(crate) arrived_at: Option<Duration>,
    pub(crate) received_at: Option<Duration>,
}

/// Everything that was sent so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Octets of packets, in their framing.
    pub octets: u64,
    /// Number of packets to node ports by request, and of all others under `message`; only those of
    /// nodes of this implementation.
    pub packets: BTreeMap<String, u64>,
}

impl Traffic {
    pub(crate) fn count(&mut self, packet: Elements<'_>) {
        let request = match packet.first_str() {
            Some(port) if port.is_empty() => packet.after(1).first_str(),
            _ => None,
        };
        let name = request.map_or("message".into(), aemp::value::StrRef::to_text_lossy);
        match self.packets.get_mut(&*name) {
            Some(count) => *count += 1,
            None => drop(self.packets.insert(name.into_owned(), 1)),
        }
    }

    /// What was sent since `before`.
    #[must_use]
    pub fn since(&self, before: &Traffic) -> Traffic {
        let packets = self.packets.iter().filter_map(|(name, count)| {
            let count = count - before.packets.get(name).copied().unwrap_or_default();
            (count > 0).then(|| (name.clone(), count))
        });
        Traffic { octets: self.octets - before.octets, packets: packets.collect() }
    }

    /// Number of packets of all kinds.
    pub fn packets(&self) -> u64 {
        self.packets.values().sum()
    }
}

#[derive(Debug)]
pub(crate) struct Net {
    pub(crate) links: BTreeMap<u64, Link>,
    next_link: u64,
    /// The connections between two hosts.
    by_pair: BTreeMap<(usize, usize), BTreeSet<u64>>,
    /// The connections of each host.
    by_host: BTreeMap<usize, BTreeSet<u64>>,
    pub(crate) traffic: Traffic,
    pub(crate) listeners: BTreeMap<Str, usize>,
    /// Addresses at which strangers answer in place of the listener.
    pub(crate) hijacked: BTreeMap<Str, usize>,
    /// The pairs of hosts that cannot reach each other, and since when.
    blocked: BTreeMap<(usize, usize), Duration>,
    /// The pairs of hosts with a slow link.
    slow: BTreeMap<(usize, usize), SlowLink>,
    pub(crate) weather: NetworkConditions,
    /// Whether octets of handshakes are delayed, or handshakes cut.
    pub(crate) handshakes_have_trouble: bool,
    /// The incarnation that is running on each host, if any.
    pub(crate) running: Vec<Option<u32>>,
}

impl Net {
    pub(crate) fn new(weather: NetworkConditions) -> Self {
        Net {
            links: BTreeMap::new(),
            next_link: 0,
            by_pair: BTreeMap::new(),
            by_host: BTreeMap::new(),
            traffic: Traffic::default(),
            listeners: BTreeMap::new(),
            hijacked: BTreeMap::new(),
            blocked: BTreeMap::new(),
            slow: BTreeMap::new(),
            weather,
            handshakes_have_trouble: false,
            running: Vec::new(),
        }
    }

    pub(crate) fn is_blocked(&self, a: usize, b: usize) -> bool {
        self.blocked.contains_key(&(a.min(b), a.max(b)))
    }

    /// Makes the link between two hosts slow, or normal again.
    pub(crate) fn set_slow(&mut self, a: usize, b: usize, slow: Option<SlowLink>) {
        let pair = (a.min(b), a.max(b));
        match slow {
            Some(slow) => self.slow.insert(pair, slow),
            None => self.slow.remove(&pair),
        };
    }

    /// Whether this connection uses a slow link.
    pub(crate) fn is_slow(&self, end: LinkEnd) -> bool {
        self.weather.octets_per_second.is_some() || self.slow_way(end).is_some()
    }

    fn slow_way(&self, end: LinkEnd) -> Option<SlowLink> {
        if self.slow.is_empty() {
            return None;
        }
        let link = self.links.get(&end.link)?;
        let (a, b) = (link.end(0).host, link.end(1).host);
        self.slow.get(&(a.min(b), a.max(b))).copied()
    }

    /// Blocks the link between two hosts: nothing arrives, and neither host is told.
    pub(crate) fn block(&mut self, queue: &mut Queue, a: usize, b: usize) {
        let pair = (a.min(b), a.max(b));
        if a == b || self.blocked.contains_key(&pair) {
            return;
        }
        self.blocked.insert(pair, queue.now);
        for link in self.links_between(a, b) {
            let Some(ends) = self.links.get(&link) else { continue };
            for side in 0..2 {
                let waits = !ends.end(side).flight.is_empty();
                let limit = if waits { USER_TIMEOUT } else { KEEPALIVE };
                queue.after(limit, Event::Timeout { at: LinkEnd { link, side } });
            }
        }
    }

    /// The connections between two hosts, including those being made.
    pub(crate) fn links_between(&self, a: usize, b: usize) -> Vec<u64> {
        let links = self.by_pair.get(&(a.min(b), a.max(b)));
        links.into_iter().flatten().copied().collect()
    }

    fn forget(&mut self, link: u64) {
        if let Some(ends) = self.links.remove(&link) {
            let (a, b) = (ends.end(0).host, ends.end(1).host);
            let pair = (a.min(b), a.max(b));
            remove_from(&mut self.by_pair, &pair, link);
            remove_from(&mut self.by_host, &a, link);
            remove_from(&mut self.by_host, &b, link);
        }
    }

    /// Unblocks the link between two hosts; what was sent meanwhile arrives.
    pub(crate) fn unblock(&mut self, queue: &mut Queue, random: &mut StdRng, a: usize, b: usize) {
        let pair = (a.min(b), a.max(b));
        if self.blocked.remove(&pair).is_none() {
            return;
        }
        for link in self.links_between(a, b) {
            let Some(ends) = self.links.get_mut(&link) else { continue };
            for side in 0..2 {
                let other_open = ends.end(1 - side).open;
                let end = ends.end_mut(side);
                for _ in 0..end.flight.len() {
                    let at = (queue.now + self.weather.delay(random)).max(end.last_arrival);
                    end.last_arrival = at;
                    queue.at(at, Event::Arrive { to: LinkEnd { link, side: 1 - side } });
                }
                if end.open && !other_open {
                    // The next keepalive is answered with a reset.
                    let delay = random.random_range(Duration::ZERO..KEEPALIVE / 2);
                    let at = LinkEnd { link, side };
                    queue.after(delay, Event::Reset { at, why: "connection reset by peer" });
                }
            }
        }
    }

    pub(crate) fn connect(&mut self, ends: [(usize, u32, u64); 2], now: Duration) -> u64 {
        self.next_link += 1;
        let ends = ends.map(|(host, incarnation, conn)| End {
            host,
            incarnation,
            conn,
            open: true,
            flight: VecDeque::new(),
            sent: 0,
            arrived: 0,
            progressed: None,
            last_arrival: now,
        });
        let (a, b) = (ends[0].host, ends[1].host);
        self.by_pair.entry((a.min(b), a.max(b))).or_default().insert(self.next_link);
        for host in [a, b] {
            self.by_host.entry(host).or_default().insert(self.next_link);
        }
        self.links.insert(self.next_link, Link { ends });
        self.next_link
    }

    pub(crate) fn set_conn(&mut self, end: LinkEnd, conn: u64) {
        if let Some(link) = self.links.get_mut(&end.link) {
            link.end_mut(end.side).conn = conn;
        }
    }

    /// Number of segments of this end that have not arrived.
    pub(crate) fn in_flight(&self, end: LinkEnd) -> usize {
        self.links.get(&end.link).map_or(0, |link| link.end(end.side).flight.len())
    }

    /// The octets that this end has sent, and how many of these and of the other end's have
    /// arrived.
    pub(crate) fn progress(&self, end: LinkEnd) -> Progress {
        let Some(link) = self.links.get(&end.link) else { return Progress::default() };
        let (own, other) = (link.end(end.side), link.end(1 - end.side));
        Progress {
            sent: own.sent,
            arrived: own.arrived,
            received: other.arrived,
            arrived_at: own.progressed,
            received_at: other.progressed,
        }
    }

    pub(crate) fn send(
        &mut self,
        queue: &mut Queue,
        random: &mut StdRng,
        from: LinkEnd,
        segment: Segment,
        late: Duration,
    ) {
        let slow = self.slow_way(from);
        let mut delay = self.weather.delay(random) + late;
        let mut takes = Duration::ZERO;
        if let Some(slow) = slow {
            delay += slow.delay;
            if random.random_ratio(1, 10) {
                takes += slow.stall;
            }
        }
        let Some(link) = self.links.get_mut(&from.link) else {
            return;
        };
        let (a, b) = (link.end(0).host, link.end(1).host);
        let end = link.end_mut(from.side);
        if !end.open {
            return;
        }
        if let Segment::Data(octets) = &segment {
            self.traffic.octets += octets.len() as u64;
            let pace = slow.map(|slow| slow.octets_per_second).or(self.weather.octets_per_second);
            if let Some(pace) = pace {
                takes += Duration::from_secs_f64(octets.len() as f64 / f64::from(pace));
            }
        }
        end.sent += segment.octets();
        end.flight.push_back(segment);
        if self.blocked.contains_key(&(a.min(b), a.max(b))) {
            queue.after(USER_TIMEOUT, Event::Timeout { at: from });
            return;
        }
        let at = (queue.now + delay).max(end.last_arrival) + takes;
        end.last_arrival = at;
        queue.at(at, Event::Arrive { to: from.other() });
    }

    /// Sends lines of a handshake. If handshakes have trouble, parts of them are delayed by random
    /// times, and sometimes the connection is cut after one.
    pub(crate) fn say(
        &mut self,
        queue: &mut Queue,
        random: &mut StdRng,
        from: LinkEnd,
        octets: &[u8],
    ) {
        let mut rest = octets;
        while !rest.is_empty() {
            let len = match self.handshakes_have_trouble && random.random_ratio(1, 2) {
                true => random.random_range(1..=rest.len()),
                false => rest.len(),
            };
            let (piece, others) = rest.split_at(len);
            let late = self.handshake_delay(random);
            self.send(queue, random, from, Segment::Lines(piece.to_vec()), late);
            if self.handshakes_have_trouble && random.random_ratio(1, 12) {
                match random.random() {
                    true => self.cut(queue, random, from.link),
                    false => self.half_cut(queue, random, from.link),
                }
            }
            rest = others;
        }
    }

    /// The additional delay of octets of a handshake.
    pub(crate) fn handshake_delay(&self, random: &mut StdRng) -> Duration {
        if !self.handshakes_have_trouble {
            return Duration::ZERO;
        }
        let longest = match random.random_range(0..40) {
            // Longer than a handshake may take.
            0 => 40_000,
            1..=4 => 4_000,
            5..=15 => 300,
            _ => 1,
        };
        Duration::from_millis(random.random_range(0..longest))
    }

    /// The process closes its socket; the peer reads the end after everything that was sent.
    pub(crate) fn close(&mut self, queue: &mut Queue, random: &mut StdRng, end: LinkEnd) {
        self.send(queue, random, end, Segment::Fin, Duration::ZERO);
        self.end_closed(end);
    }

    fn end_closed(&mut self, end: LinkEnd) {
        if let Some(link) = self.links.get_mut(&end.link) {
            link.end_mut(end.side).open = false;
            if !link.end(1 - end.side).open && link.end(end.side).flight.is_empty() {
                self.forget(end.link);
            }
        }
    }

    /// Takes the next segment for this end, unless the link is blocked.
    pub(crate) fn arrive(&mut self, queue: &mut Queue, to: LinkEnd) -> Option<Arrival> {
        let link = self.links.get(&to.link)?;
        let (host, other) = (link.end(to.side).host, link.end(1 - to.side).host);
        if self.is_blocked(host, other) {
            return None;
        }
        let link = self.links.get_mut(&to.link)?;
        let open = link.end(to.side).open;
        let segment = link.end_mut(1 - to.side).flight.pop_front()?;
        if open {
            let sender = link.end_mut(1 - to.side);
            sender.arrived += segment.octets();
            if segment.octets() > 0 {
                sender.progressed = Some(queue.now);
            }
            let end = link.end(to.side);
            return Some(Arrival {
                host: end.host,
                incarnation: end.incarnation,
                conn: end.conn,
                segment,
            });
        }
        if link.end(1 - to.side).open {
            if self.running.get(host).copied().flatten().is_some() {
                let delay = self.weather.fastest;
                let why = "connection reset by peer";
                queue.after(delay, Event::Reset { at: to.other(), why });
            } else {
                queue.after(USER_TIMEOUT, Event::Timeout { at: to.other() });
            }
        } else if link.end(1 - to.side).flight.is_empty() {
            self.forget(to.link);
        }
        None
    }

    /// Whether TCP gives up at this end, because its peer is gone or has been silent for too long.
    pub(crate) fn is_timed_out(&self, now: Duration, at: LinkEnd) -> bool {
        let Some(link) = self.links.get(&at.link) else {
            return false;
        };
        let (end, other) = (link.end(at.side), link.end(1 - at.side));
        if !end.open {
            return false;
        }
        let pair = (end.host.min(other.host), end.host.max(other.host));
        let blocked = self.blocked.get(&pair).is_some_and(|&since| since + USER_TIMEOUT <= now);
        blocked || (!other.open && self.running.get(other.host).copied().flatten().is_none())
    }

    /// Closes this end. Returns the host, incarnation and connection, if it was open.
    pub(crate) fn reset(&mut self, at: LinkEnd) -> Option<(usize, u32, u64)> {
        let end = self.links.get_mut(&at.link)?.end_mut(at.side);
        if !end.open {
            return None;
        }
        let whose = (end.host, end.incarnation, end.conn);
        end.flight.clear();
        self.end_closed(at);
        Some(whose)
    }

    /// Cuts the connection; both ends are told.
    pub(crate) fn cut(&mut self, queue: &mut Queue, random: &mut StdRng, link: u64) {
        for side in 0..2 {
            let at = LinkEnd { link, side };
            let why = "connection reset by peer";
            queue.after(self.weather.delay(random), Event::Reset { at, why });
        }
    }

    /// Cuts the connection and tells one end. The other one finds out when it sends, or by a
    /// keepalive; until then the connection is half open.
    pub(crate) fn half_cut(&mut self, queue: &mut Queue, random: &mut StdRng, link: u64) {
        let side = usize::from(random.random::<bool>());
        let why = "connection reset by peer";
        queue.after(self.weather.delay(random), Event::Reset { at: LinkEnd { link, side }, why });
        let other = LinkEnd { link, side: 1 - side };
        queue.after(KEEPALIVE, Event::Reset { at: other, why });
    }

    /// Kills the process of a host: its system closes the sockets; what was not sent, and perhaps
    /// more, is lost.
    pub(crate) fn killed(&mut self, queue: &mut Queue, random: &mut StdRng, host: usize) {
        for end in self.open_ends_of(host) {
            if let Some(link) = self.links.get_mut(&end.link) {
                let flight = &mut link.end_mut(end.side).flight;
                let kept = random.random_range(0..=flight.len());
                flight.truncate(kept);
                if let Some(Segment::Data(octets)) = flight.back_mut() {
                    octets.truncate(random.random_range(0..=octets.len()));
                }
            }
            self.close(queue, random, end);
        }
    }

    /// Powers a host off: its peers are not told.
    pub(crate) fn vanished(&mut self, queue: &mut Queue, host: usize) {
        for end in self.open_ends_of(host) {
            if let Some(link) = self.links.get_mut(&end.link) {
                link.end_mut(end.side).flight.clear();
            }
            self.end_closed(end);
            queue.after(KEEPALIVE, Event::Timeout { at: end.other() });
        }
    }

    /// Powers a host on again: peers of its old connections find out.
    pub(crate) fn came_back(&mut self, queue: &mut Queue, random: &mut StdRng, host: usize) {
        let links = self.by_host.get(&host);
        let orphans = links.into_iter().flatten().filter_map(|&link| {
            let ends = self.links.get(&link)?;
            let side = ends.ends.iter().position(|end| end.host == host && !end.open)?;
            ends.end(1 - side).open.then_some(LinkEnd { link, side: 1 - side })
        });
        for at in orphans.collect::<Vec<_>>() {
            let delay = random.random_range(Duration::ZERO..KEEPALIVE / 2);
            queue.after(delay, Event::Reset { at, why: "connection reset by peer" });
        }
    }

    fn open_ends_of(&self, host: usize) -> Vec<LinkEnd> {
        let mut ends = Vec::new();
        for &link in self.by_host.get(&host).into_iter().flatten() {
            for side in 0..2 {
                let Some(both) = self.links.get(&link) else { continue };
                let end = both.end(side);
                if end.host == host && end.open {
                    ends.push(LinkEnd { link, side });
                }
            }
        }
        ends
    }
}

fn remove_from<K: Ord>(index: &mut BTreeMap<K, BTreeSet<u64>>, key: &K, link: u64) {
    if let Some(links) = index.get_mut(key) {
        links.remove(&link);
        if links.is_empty() {
            index.remove(key);
        }
    }
}

/// A segment that has arrived, and its connection.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) host: usize,
    pub(crate) incarnation: u32,
    pub(crate) conn: u64,
    pub(crate) segment: Segment,
}
