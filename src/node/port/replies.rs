//! The reply ports of calls. All calls that wait for the same port share one monitor of it: when
//! that fires, they all fail.
//!
//! A reply port is a place among those of the port that was called, and its name says which; so
//! nothing is looked up for it, and the kernel knows it only once somebody has asked for it by name.

use super::sync::{Hasher, Mutex, Random, SHARDS};
use super::{Delivery, run_queue};
use crate::kernel::{MonitorId, letters};
use crate::value::packed::Elements;
use crate::value::{Packed, PortId, Str, StrRef};
use std::collections::HashMap;
use std::mem;
use std::task::{Poll, Waker};

/// All calls of a node that wait for an answer.
#[derive(Debug)]
pub(crate) struct Replies {
    shards: [Mutex<Shard>; SHARDS],
}

/// Monitors in each shard that are kept though no call waits; see [`Replies::sweep`].
pub(super) const MAX_IDLE: usize = 64;

/// Calls of one port; capacity for more is freed once none waits.
const MAX_IDLE_PLACES: usize = 64;

#[derive(Debug)]
struct Shard {
    random: Random,
    by_port: HashMap<PortId, usize, Hasher>,
    called: Vec<CalledPort>,
    /// Which of `called` are not in use.
    vacant: Vec<usize>,
    /// How many monitors are set for which no call waits.
    idle: usize,
    /// How many reply ports the kernel does not know.
    unlisted: usize,
}

/// A port that was called, and the calls that wait for it.
#[derive(Debug)]
struct CalledPort {
    port: PortId,
    monitor: MonitorId,
    state: MonitorState,
    /// Whether a call has begun since the last [`Replies::sweep`].
    used: bool,
    places: Vec<CallSlot>,
    /// Which of `places` are free.
    free: Vec<usize>,
}

/// The monitor of a called port.
#[derive(Debug)]
enum MonitorState {
    /// The request for it is not on its way yet, so that others must not send.
    Requested,
    Set,
    /// It has fired, for this reason; no call joins the others any more.
    Fired(Packed),
    /// There is none: this is not in use.
    None,
}

#[derive(Debug)]
struct CallSlot {
    random: [u8; RANDOM],
    reply: Reply,
    /// The kernel knows the port and has to be told of its end.
    listed: bool,
}

#[derive(Debug)]
enum Reply {
    Free,
    Awaited(Option<Waker>),
    Answered(Answer),
    /// The reply port itself was killed.
    Killed(Packed),
}

/// What came to a reply port first; nothing else is kept.
#[derive(Debug)]
pub(crate) struct Answer {
    len: usize,
    octets: Vec<u8>,
}

impl Answer {
    /// Its elements.
    pub(crate) fn elements(&self) -> Elements<'_> {
        Elements::new(self.len, &self.octets)
    }
}

/// What the kernel has to be told when a call has ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Ended {
    /// A port of that name has ended.
    pub(crate) listed: bool,
    /// Nobody needs this monitor.
    pub(crate) unused: Option<MonitorId>,
}

/// How many random letters a name begins with.
const RANDOM: usize = 8;

/// The name of a reply port: random letters that nobody guesses, then its place. Capital letters
/// say among those of which called port, and small ones which of them; the names of other ports
/// that are made here have a small letter behind the random ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReplyName {
    random: [u8; RANDOM],
    /// The index of the called port, times [`SHARDS`], plus the number of its shard.
    called: usize,
    place: usize,
}

impl ReplyName {
    #[inline]
    fn parse(name: &[u8]) -> Option<Self> {
        let (random, rest) = name.split_first_chunk::<RANDOM>()?;
        if !rest.first()?.is_ascii_uppercase() {
            return None;
        }
        let capitals = rest.iter().position(|letter| !letter.is_ascii_uppercase())?;
        let (called, place) = rest.split_at_checked(capitals)?;
        let number = |text, zero| usize::try_from(letters::read(text, zero)?).ok();
        Some(ReplyName {
            random: *random,
            called: number(called, b'A')?,
            place: number(place, b'a')?,
        })
    }

    /// The name's octets, which are ASCII.
    #[inline]
    pub(crate) fn with_octets<R>(&self, f: impl FnOnce(&[u8]) -> R) -> R {
        let mut octets = [0; RANDOM + 2 * letters::MAX_LETTERS];
        let (random, rest) = octets.split_at_mut(RANDOM);
        random.copy_from_slice(&self.random);
        let capitals = letters::put(rest, self.called as u64, b'A');
        let small = letters::put(&mut rest[capitals..], self.place as u64, b'a');
        f(&octets[..RANDOM + capitals + small])
    }

    /// As the kernel knows it.
    pub(crate) fn to_str(self) -> Str {
        self.with_octets(|octets| StrRef::octets(octets).to_owned())
    }
}

impl Replies {
    /// No calls; `entropy` makes the names of reply ports.
    pub(crate) fn new(entropy: [u8; 32]) -> Self {
        let mut random = Random::new(entropy);
        Replies { shards: std::array::from_fn(|_| Mutex::new(Shard::new(random.entropy()))) }
    }

    /// Makes a reply port for a call to a port whose monitor is set; `None` if there is none.
    #[inline]
    pub(crate) fn join(&self, port: &PortId) -> Option<ReplyName> {
        let number = shard_of(port);
        let mut shard = self.shards[number].lock();
        let index = *shard.by_port.get(port)?;
        let called = shard.called.get_mut(index)?;
        if !matches!(called.state, MonitorState::Set) {
            return None;
        }
        if called.waiting() == 0 {
            shard.idle -= 1;
        }
        Some(shard.add_place(index, number))
    }

    /// As [`Replies::join`], and sets the monitor if there is none: `monitor` asks the kernel for it,
    /// and `carry_out` puts that on its way, whereby it may fire already.
    ///
    /// The caller holds the kernel's lock, without which no monitor is set and none fires.
    pub(crate) fn join_or_monitor<K>(
        &self,
        port: &PortId,
        kernel: &mut K,
        monitor: impl FnOnce(&mut K) -> MonitorId,
        carry_out: impl FnOnce(&mut K),
    ) -> ReplyName {
        if let Some(name) = self.join(port) {
            return name;
        }
        let monitor = monitor(kernel);
        let number = shard_of(port);
        let (name, index) = {
            let mut shard = self.shards[number].lock();
            let index = shard.add_called(port, monitor);
            (shard.add_place(index, number), index)
        };
        carry_out(kernel);
        let mut shard = self.shards[number].lock();
        if let Some(called) = shard.called.get_mut(index)
            && matches!(called.state, MonitorState::Requested)
        {
            called.state = MonitorState::Set;
        }
        name
    }

    /// Calls `f` with the place of that name, if it is in use.
    #[inline]
    fn with_place<R>(
        &self,
        name: &ReplyName,
        f: impl FnOnce(&mut CallSlot, &MonitorState, &mut usize) -> R,
    ) -> Option<R> {
        let mut shard = self.shards[name.called % SHARDS].lock();
        let shard = &mut *shard;
        let called = shard.called.get_mut(name.called / SHARDS)?;
        let place = called.places.get_mut(name.place)?;
        if place.random != name.random || matches!(place.reply, Reply::Free) {
            return None;
        }
        Some(f(place, &called.state, &mut shard.unlisted))
    }

    /// Whether a reply port could have that name.
    #[inline]
    pub(super) fn may_have(name: &[u8]) -> bool {
        name.get(RANDOM).is_some_and(u8::is_ascii_uppercase)
    }

    /// Hands a message to a reply port; `None` if there is none of that name.
    #[inline]
    pub(super) fn deliver(&self, name: &[u8], message: Elements<'_>) -> Option<Delivery> {
        let name = ReplyName::parse(name)?;
        let answer = Answer { len: message.len(), octets: message.octets().to_vec() };
        let waiting = answer.octets.len();
        let (delivery, reader) =
            self.with_place(&name, |place, monitor, _| match &mut place.reply {
                Reply::Awaited(reader) if !matches!(monitor, MonitorState::Fired(_)) => {
                    let reader = reader.take();
                    place.reply = Reply::Answered(answer);
                    (Delivery::Queued { waiting }, reader)
                }
                _ => (Delivery::NoSuchPort, None),
            })?;
        run_queue::wake(reader);
        Some(delivery)
    }

    /// Kills a reply port; false if there is none of that name.
    pub(super) fn kill(&self, name: &[u8], reason: &Packed) -> bool {
        let reader = ReplyName::parse(name).and_then(|name| {
            self.with_place(&name, |place, _, _| match &mut place.reply {
                Reply::Awaited(reader) => {
                    let reader = reader.take();
                    place.reply = Reply::Killed(reason.clone());
                    reader
                }
                _ => None,
            })
        });
        let found = reader.is_some();
        run_queue::wake(reader.flatten());
        found
    }

    /// Whether there is a reply port of that name, the end of which the kernel then has to be told.
    pub(crate) fn list(&self, name: &[u8]) -> bool {
        let listed = ReplyName::parse(name).and_then(|name| {
            self.with_place(&name, |place, monitor, unlisted| {
                let dead = matches!(place.reply, Reply::Killed(_))
                    || matches!(monitor, MonitorState::Fired(_));
                if !dead && !mem::replace(&mut place.listed, true) {
                    *unlisted -= 1;
                }
                !dead
            })
        });
        listed == Some(true)
    }

    /// How many reply ports the kernel does not know.
    pub(crate) fn unlisted(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unlisted).sum()
    }

    /// The answer, or the reason why none comes; else `waker` is woken when there is one.
    #[inline]
    pub(crate) fn poll(&self, name: &ReplyName, waker: &Waker) -> Poll<Result<Answer, Packed>> {
        let looked = self.with_place(name, |place, monitor, _| {
            place.outcome(monitor).map(Poll::Ready).or_else(|| {
                let known =
                    matches!(&place.reply, Reply::Awaited(Some(reader)) if reader.will_wake(waker));
                known.then_some(Poll::Pending)
            })
        });
        match looked {
            Some(Some(outcome)) => return outcome,
            Some(None) => {}
            // Cannot be: whoever has the name has the place until the call ends.
            None => return Poll::Ready(Err(Packed::default())),
        }
        // Cloning and dropping a waker runs code that is not ours, so it happens unlocked.
        let waker = waker.clone();
        let (polled, old) = self
            .with_place(name, |place, monitor, _| match place.outcome(monitor) {
                Some(outcome) => (Poll::Ready(outcome), Some(waker)),
                None => {
                    let old = mem::replace(&mut place.reply, Reply::Awaited(Some(waker)));
                    let Reply::Awaited(old) = old else { return (Poll::Pending, None) };
                    (Poll::Pending, old)
                }
            })
            .unwrap_or((Poll::Ready(Err(Packed::default())), None));
        drop(old);
        polled
    }

    /// Ends the reply port. Nobody may use the name after that.
    pub(crate) fn end(&self, name: &ReplyName) -> Ended {
        let (ended, reply) = {
            let mut shard = self.shards[name.called % SHARDS].lock();
            shard.remove_place(name)
        };
        drop(reply);
        ended
    }

    /// A monitor has fired: all calls that wait for its port fail. The kernel's lock is held.
    pub(crate) fn fired(&self, port: &PortId, monitor: MonitorId, reason: &Packed) {
        let readers = {
            let mut shard = self.shards[shard_of(port)].lock();
            // It may have been given up meanwhile, and there may be another one.
            match shard.by_port.get(port).copied() {
                Some(index) if shard.called.get(index).is_some_and(|c| c.monitor == monitor) => {
                    shard.fire(index, reason)
                }
                _ => Vec::new(),
            }
        };
        readers.into_iter().for_each(|reader| run_queue::wake(Some(reader)));
    }

    /// Gives up monitors of ports that were not called since the last time: the kernel has to be
    /// told. While calls follow one another, their monitor stays.
    pub(crate) fn sweep(&self) -> Vec<MonitorId> {
        let mut unused = Vec::new();
        for shard in &self.shards {
            let mut shard = shard.lock();
            for index in 0..shard.called.len() {
                unused.extend(shard.sweep(index));
            }
        }
        unused
    }

    /// Whether no monitor is set.
    pub(crate) fn is_empty(&self) -> bool {
        self.shards.iter().all(|shard| shard.lock().by_port.is_empty())
    }

    /// All calls fail: the node is shut down.
    pub(crate) fn fail_all(&self) {
        for shard in &self.shards {
            let mut readers = Vec::new();
            {
                let mut shard = shard.lock();
                let set: Vec<usize> = shard.by_port.values().copied().collect();
                for index in set {
                    readers.append(&mut shard.fire(index, &Packed::default()));
                }
            }
            readers.into_iter().for_each(|reader| run_queue::wake(Some(reader)));
        }
    }
}

/// Which shard a called port belongs to: names that were made by counting differ at their end. (One
/// that is written in two ways, as octets and as text, may have two monitors; that is no harm.)
#[inline]
fn shard_of(port: &PortId) -> usize {
    port.as_str().data().iter().rev().take(4).fold(0, |sum, octet| sum * 5 + usize::from(*octet))
        % SHARDS
}

impl Shard {
    fn new(entropy: [u8; 32]) -> Self {
        Shard {
            random: Random::new(entropy),
            by_port: HashMap::default(),
            called: Vec::new(),
            vacant: Vec::new(),
            idle: 0,
            unlisted: 0,
        }
    }

    fn add_called(&mut self, port: &PortId, monitor: MonitorId) -> usize {
        let called = CalledPort {
            port: port.clone(),
            monitor,
            state: MonitorState::Requested,
            used: true,
            places: Vec::new(),
            free: Vec::new(),
        };
        let index = match self.vacant.pop() {
            Some(index) => {
                self.called[index] = called;
                index
            }
            None => {
                self.called.push(called);
                self.called.len() - 1
            }
        };
        self.by_port.insert(port.clone(), index);
        index
    }

    #[inline]
    fn add_place(&mut self, index: usize, number: usize) -> ReplyName {
        let random = self.random.letters();
        let place = CallSlot { random, reply: Reply::Awaited(None), listed: false };
        self.unlisted += 1;
        let called = &mut self.called[index];
        called.used = true;
        let place = match called.free.pop() {
            Some(free) => {
                called.places[free] = place;
                free
            }
            None => {
                called.places.push(place);
                called.places.len() - 1
            }
        };
        ReplyName { random, called: index * SHARDS + number, place }
    }

    /// What was in the place is for the caller to drop, without the lock.
    #[inline]
    fn remove_place(&mut self, name: &ReplyName) -> (Ended, Option<Reply>) {
        let index = name.called / SHARDS;
        let Some(called) = self.called.get_mut(index) else { return Default::default() };
        let Some(place) = called.places.get_mut(name.place) else { return Default::default() };
        let reply = mem::replace(&mut place.reply, Reply::Free);
        let listed = place.listed;
        called.free.push(name.place);
        if !listed {
            self.unlisted -= 1;
        }
        let unused = if called.waiting() == 0 { self.last_ended(index) } else { None };
        (Ended { listed, unused }, Some(reply))
    }

    /// No call waits for this port any more.
    fn last_ended(&mut self, index: usize) -> Option<MonitorId> {
        let called = &mut self.called[index];
        if called.places.len() > MAX_IDLE_PLACES {
            (called.places, called.free) = Default::default();
        }
        let monitor = called.monitor;
        match called.state {
            MonitorState::Fired(_) => self.vacate(index),
            _ if self.idle < MAX_IDLE => self.idle += 1,
            _ => {
                self.by_port.remove(&self.called[index].port);
                self.vacate(index);
                return Some(monitor);
            }
        }
        None
    }

    fn fire(&mut self, index: usize, reason: &Packed) -> Vec<Waker> {
        let called = &mut self.called[index];
        called.state = MonitorState::Fired(reason.clone());
        self.by_port.remove(&called.port);
        if called.waiting() == 0 {
            self.idle -= 1;
            self.vacate(index);
            return Vec::new();
        }
        let readers = called.places.iter_mut().filter_map(|place| match &mut place.reply {
            Reply::Awaited(reader) => reader.take(),
            _ => None,
        });
        readers.collect()
    }

    fn sweep(&mut self, index: usize) -> Option<MonitorId> {
        let called = self.called.get_mut(index)?;
        let used = mem::replace(&mut called.used, false);
        if used || !matches!(called.state, MonitorState::Set) || called.waiting() > 0 {
            return None;
        }
        let monitor = called.monitor;
        self.by_port.remove(&called.port);
        self.idle -= 1;
        self.vacate(index);
        Some(monitor)
    }

    fn vacate(&mut self, index: usize) {
        let called = &mut self.called[index];
        called.state = MonitorState::None;
        (called.places, called.free) = Default::default();
        self.vacant.push(index);
    }
}

impl CallSlot {
    /// What the call ends with, if it is known; an answer is taken.
    #[inline]
    fn outcome(&mut self, monitor: &MonitorState) -> Option<Result<Answer, Packed>> {
        match (&mut self.reply, monitor) {
            (Reply::Answered(answer), _) => {
                Some(Ok(Answer { len: answer.len, octets: mem::take(&mut answer.octets) }))
            }
            (Reply::Killed(reason), _) => Some(Err(reason.clone())),
            (_, MonitorState::Fired(reason)) => Some(Err(reason.clone())),
            _ => None,
        }
    }
}

impl CalledPort {
    const fn waiting(&self) -> usize {
        self.places.len() - self.free.len()
    }
}
