//! Replicas: a value of which every process in a family has a copy, so that it outlives all of them
//! but the last.
//!
//! Each copy is a port in the family. It sends its changes to the others, and everything that it
//! knows to each that comes, or that comes back after it was lost. What a copy sent to some others
//! only before it was lost spreads from these: every second a copy asks another one, by chance, for
//! everything that it knows, if that differs. A copy
//! *merges* what it gets into what it has. Merging gives the same result in whatever order and however often it is done (in the
//! literature: a [state-based CRDT](https://inria.hal.science/inria-00555588)), so copies that know
//! of the same changes are equal, and copies that were apart become equal once they meet.
//!
//! ```
//! use aemp::Node;
//! use aemp::patterns::replica::{Counter, Replica};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let node = Node::builder().node_id("n").secret("geheim").bind("127.0.0.1:0").start().await?;
//! node.become_global(); // It has no seeds, and keeps the database itself.
//! let one = Replica::<Counter>::join(&node, "hits").await?;
//! one.add(40)?;
//! let other = Replica::<Counter>::join(&node, "hits").await?; // usually in another process
//! assert_eq!(other.value(), 40);
//! other.add(2)?;
//! # while one.value() < 42 { tokio::time::sleep(std::time::Duration::from_millis(1)).await }
//! # node.shutdown().await;
//! # Ok(()) }
//! ```
//!
//! On the wire a change is the message `merge, STATE`, and everything is `merge, STATE, PORT`, where
//! `PORT` is the copy that sends it. `pull, DIGEST, PORT` asks for everything, unless the digest (the
//! SHA-256 of the value as JSON, in hexadecimal) is that of the own value. A Perl port in the family
//! keeps a copy if it does the same; instead of comparing digests it may always answer.

use super::Failure;
use super::actor::{self, Actor, ActorContext, ActorRef};
use super::service::{Service, State};
use crate::node::{DbError, Entry, Message, Monitor, Node, SendError};
use crate::value::{DecodeError, Packed, PortId, Str, Value};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::task::AbortOnDropHandle;

/// The pause before the port of a copy that died is replaced.
const REOPENING: Duration = Duration::from_millis(100);

/// How often a copy compares what it knows with another one.
const PULL_INTERVAL: Duration = Duration::from_secs(1);

/// A value whose copies can be merged. Equal values have to be serialized equally (with
/// [`BTreeMap`], not with `HashMap`), or else copies are sent to and fro in vain.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use aemp::patterns::replica::Merge;
/// use serde::{Deserialize, Serialize};
///
/// /// The highest number that anybody has seen.
/// #[derive(Clone, Default, Serialize, Deserialize)]
/// struct Highest(u64);
///
/// impl Merge for Highest {
///     fn merge_with(&mut self, other: Self) {
///         self.0 = self.0.max(other.0);
///     }
/// }
/// # let mut highest = Highest(1);
/// # highest.merge_with(Highest(2));
/// # assert_eq!(highest.0, 2);
/// # Ok(()) }
/// ```
pub trait Merge: Serialize + DeserializeOwned + Clone + Default + Send + Sync + 'static {
    /// Takes over what `other` knows in addition. For all values `a`, `b` and `c`, merging `b` into
    /// `a` must equal merging `a` into `b`, merging `c` into that must equal merging `b` with `c`
    /// merged into it, and merging `a` into itself must change nothing.
    fn merge_with(&mut self, other: Self);
}

/// A set that only grows.
impl<T: Ord + Serialize + DeserializeOwned + Clone + Send + Sync + 'static> Merge for BTreeSet<T> {
    fn merge_with(&mut self, other: Self) {
        self.extend(other);
    }
}

/// Keys stay; the values of each are merged.
impl<K, V: Merge> Merge for BTreeMap<K, V>
where
    K: Ord + Serialize + DeserializeOwned + Clone + Send + Sync + 'static,
{
    fn merge_with(&mut self, other: Self) {
        for (key, value) in other {
            self.entry(key).or_default().merge_with(value);
        }
    }
}

/// A number to which every copy can add and from which it can subtract. It has two numbers for each
/// copy that ever did so.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Counter(BTreeMap<Str, (u64, u64)>);

impl Counter {
    /// The sum; [`i64::MAX`] or [`i64::MIN`] if it is beyond these.
    pub fn value(&self) -> i64 {
        let sums = self.0.values().map(|&(added, taken)| i128::from(added) - i128::from(taken));
        // Fewer than 2^63 entries of less than 2^64 each.
        i64::try_from(sums.clone().sum::<i128>()).unwrap_or_else(|_| match sums.sum::<i128>() > 0 {
            true => i64::MAX,
            false => i64::MIN,
        })
    }

    /// What `copy` changes in order to add a number.
    fn adding(&self, copy: &PortId, n: i64) -> Counter {
        let key = copy.as_str().to_owned();
        let (mut added, mut taken) = self.0.get(&key).copied().unwrap_or_default();
        let to = if n < 0 { &mut taken } else { &mut added };
        *to = to.saturating_add(n.unsigned_abs());
        Counter(BTreeMap::from([(key, (added, taken))]))
    }
}

impl Merge for Counter {
    fn merge_with(&mut self, other: Self) {
        for (copy, (added, taken)) in other.0 {
            let known = self.0.entry(copy).or_default();
            *known = (known.0.max(added), known.1.max(taken));
        }
    }
}

/// A copy of the value of a family. Clones are the same copy; when the last one is dropped, the
/// copy leaves the family. It does not keep its node running.
pub struct Replica<S: Merge> {
    copy: Arc<Copy<S>>,
    _follow: Arc<AbortOnDropHandle<()>>,
}

struct Copy<S> {
    shared: Arc<Shared<S>>,
    /// The current port; a new one takes the place of one that died.
    port: Mutex<PortId>,
}

/// What a copy and its ports share.
struct Shared<S> {
    node: Node,
    family: Str,
    copies: Service<Value>,
    state: Mutex<S>,
    /// The digest of the value, until that changes.
    digest: Mutex<Option<String>>,
    /// Whether another copy has sent everything.
    told: watch::Sender<bool>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase", bound(deserialize = "S: DeserializeOwned"))]
enum Merging<S> {
    /// A change, or everything that the copy at this port knows.
    Merge(S, Option<PortId>),
    /// The copy at this port asks for everything, unless it knows it already: its value has this
    /// digest.
    Pull(String, PortId),
}

impl<S: Merge> Replica<S> {
    /// Adds a copy to a family, and waits until it has what another copy knows, if there is one in
    /// the network. The node should have [joined](Node::joined) the network before; this waits for
    /// that.
    ///
    /// # Errors
    /// Fails for internal families, whose names begin with `'`, and if the node is shut down.
    pub async fn join(node: &Node, family: impl Into<Str>) -> Result<Self, DbError> {
        node.joined().await;
        let family = family.into();
        let shared = Arc::new(Shared {
            node: node.weak(),
            copies: Service::new(node, family.clone()),
            family,
            state: Mutex::new(S::default()),
            digest: Mutex::default(),
            told: watch::Sender::new(false),
        });
        let open = OpenCopy::new(&shared)?;
        let port = Mutex::new(open.port.id().clone());
        let copy = Arc::new(Copy { shared, port });
        let follow = node.runtime().spawn(follow(copy.clone(), open));
        let replica = Replica { copy, _follow: Arc::new(AbortOnDropHandle::new(follow)) };
        replica.copy.wait_for_others().await?;
        Ok(replica)
    }

    /// The port of this copy. If that is killed, another one takes its place.
    pub fn id(&self) -> PortId {
        self.copy.port.lock().clone()
    }

    /// Reads the value. Changes wait meanwhile.
    pub fn read<T>(&self, f: impl FnOnce(&S) -> T) -> T {
        f(&self.copy.shared.state.lock())
    }

    /// Changes the value here and in the other copies: `f` gets the value and the ID of this copy,
    /// and returns what is to be merged into all copies. It should be no more than the change.
    ///
    /// # Errors
    /// As [`Node::snd`]. The other copies then get the change with everything else the next time.
    pub fn update(&self, f: impl FnOnce(&S, &PortId) -> S) -> Result<(), SendError> {
        let (own, shared) = (self.id(), &self.copy.shared);
        let change = {
            let mut state = shared.state.lock();
            let change = f(&state, &own);
            state.merge_with(change.clone());
            change
        };
        shared.digest.lock().take();
        let message = Packed::of(&Merging::Merge(change, None))?;
        for other in shared.copies.all().into_iter().filter(|other| *other != own) {
            shared.node.snd(other, &message)?;
        }
        Ok(())
    }
}

impl Replica<Counter> {
    /// Adds a number, which may be negative.
    ///
    /// # Errors
    /// As [`Replica::update`].
    pub fn add(&self, n: i64) -> Result<(), SendError> {
        self.update(|counter, own| counter.adding(own, n))
    }

    /// The sum of all numbers that this copy knows of.
    pub fn value(&self) -> i64 {
        self.read(Counter::value)
    }
}

impl<S: Merge> Clone for Replica<S> {
    fn clone(&self) -> Self {
        Replica { copy: self.copy.clone(), _follow: self._follow.clone() }
    }
}

impl<S: Merge> fmt::Debug for Replica<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Replica").field(&self.id()).finish()
    }
}

/// A digest of a value, which does not depend on the form in which strings arrived; empty if the
/// value cannot be written as JSON.
fn digest_of(value: &impl Serialize) -> String {
    let json = serde_json::to_vec(value);
    json.map_or_else(|_| String::new(), |json| format!("{:x}", Sha256::digest(json)))
}

impl<S: Merge> Shared<S> {
    fn digest(&self) -> String {
        let mut known = self.digest.lock();
        if let Some(digest) = &*known {
            return digest.clone();
        }
        let digest = digest_of(&*self.state.lock());
        known.insert(digest).clone()
    }

    /// Merges something into the value.
    fn merge(&self, other: S) {
        self.state.lock().merge_with(other);
        self.digest.lock().take();
    }

    /// Sends everything to these copies, as the one at the port `own`.
    fn send_everything<'a>(&self, own: &PortId, to: impl Iterator<Item = &'a PortId>) {
        let mut others = to.filter(|copy| *copy != own).peekable();
        if others.peek().is_none() {
            return;
        }
        let everything = Merging::Merge(self.state.lock().clone(), Some(own.clone()));
        let everything = Packed::of(&everything).map_err(SendError::from);
        let sent = everything
            .and_then(|message| others.try_for_each(|copy| self.node.snd(copy, &message)));
        if let Err(error) = sent {
            let (node, family) = (self.node.id(), &self.family);
            tracing::warn!(%node, "replica in {family}: others are not told everything: {error}");
        }
    }
}

impl<S: Merge> Copy<S> {
    /// Waits until another copy has sent everything, or until it is known that there is none.
    async fn wait_for_others(&self) -> Result<(), DbError> {
        let (mut told, mut copies) = (self.shared.told.subscribe(), self.shared.copies.clone());
        let is_alone = async {
            while copies.all() != [self.port.lock().clone()] {
                if !copies.changed().await {
                    return Err(DbError::Shutdown);
                }
            }
            Ok(())
        };
        tokio::select! {
            // Its sender is in `self`.
            _ = told.wait_for(|told| *told) => Ok(()),
            alone = is_alone => alone,
        }
    }

    /// Sends everything to those copies that have come, or were lost and are back, since the last
    /// time.
    fn greet(&self, known: &mut BTreeSet<(PortId, u64)>) {
        let own = self.port.lock().clone();
        let members = self.shared.copies.members().into_iter();
        let up = members.filter(|copy| matches!(copy.state, State::Up));
        let up: BTreeSet<_> = up.map(|copy| (copy.port, copy.losses)).collect();
        self.shared.send_everything(&own, up.difference(known).map(|(copy, _)| copy));
        *known = up;
    }

    /// Asks another copy for what it knows.
    fn pull(&self) {
        let own = self.port.lock().clone();
        let mut others = self.shared.copies.all();
        others.retain(|copy| *copy != own);
        let random = RandomState::new().hash_one(());
        let index = usize::try_from(random % others.len().max(1) as u64).unwrap_or(0);
        if let Some(other) = others.get(index) {
            let digest = self.shared.digest();
            let _ = self.shared.node.snd(other, Merging::<S>::Pull(digest, own));
        }
    }
}

/// The port of a copy, which is registered; dropping this ends it.
struct OpenCopy<S> {
    port: ActorRef<Merging<S>>,
    death: Monitor,
    _entry: Entry,
}

impl<S: Merge> OpenCopy<S> {
    fn new(shared: &Arc<Shared<S>>) -> Result<Self, DbError> {
        let port = actor::start(&shared.node, Inbox(shared.clone()));
        match shared.node.db().register(shared.family.clone(), &port) {
            Ok(_entry) => Ok(OpenCopy { death: port.monitor(), port, _entry }),
            Err(error) => {
                let _ = port.stop();
                Err(error)
            }
        }
    }
}

impl<S> Drop for OpenCopy<S> {
    fn drop(&mut self) {
        let _ = self.port.stop();
    }
}

/// Keeps the other copies informed, and opens another port when the copy's own has died.
async fn follow<S: Merge>(copy: Arc<Copy<S>>, mut open: OpenCopy<S>) {
    let shared = &copy.shared;
    let mut copies = shared.copies.clone();
    let mut known = BTreeSet::new();
    let mut pull = tokio::time::interval(PULL_INTERVAL);
    pull.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        copy.greet(&mut known);
        let reason = tokio::select! {
            biased;
            () = shared.node.ended() => return,
            _ = copies.changed() => continue,
            _ = pull.tick() => {
                copy.pull();
                continue;
            }
            reason = &mut open.death => reason,
        };
        let (node, family) = (shared.node.id(), &shared.family);
        tracing::warn!(%node, "replica in {family}: its port has died and is replaced: {reason}");
        // Something may kill it again and again.
        tokio::time::sleep(REOPENING).await;
        match OpenCopy::new(shared) {
            Ok(opened) => open = opened,
            Err(_) => return,
        }
        copy.port.lock().clone_from(open.port.id());
    }
}

/// Merges what other copies send.
struct Inbox<S>(Arc<Shared<S>>);

impl<S: Merge> Actor for Inbox<S> {
    type Message = Merging<S>;

    async fn handle(&mut self, ctx: &ActorContext, message: Merging<S>) -> Result<(), Failure> {
        match message {
            Merging::Merge(other, sender) => {
                self.0.merge(other);
                if sender.is_some() {
                    self.0.told.send_replace(true);
                }
            }
            Merging::Pull(digest, copy) => {
                let is_same = !digest.is_empty() && digest == self.0.digest();
                if !is_same && self.0.copies.all().contains(&copy) {
                    self.0.send_everything(ctx.id(), [&copy].into_iter());
                }
            }
        }
        Ok(())
    }

    /// A member that sends nonsense must not end the copy.
    fn unknown(
        &mut self,
        ctx: &ActorContext,
        _: Message,
        error: DecodeError,
    ) -> Result<(), Failure> {
        let (node, family, from) = (ctx.node().id(), &self.0.family, ctx.from());
        tracing::warn!(%node, "replica in {family}: a message from {from} was ignored: {error}");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    fn copy(name: u8) -> PortId {
        format!("n#{name}").parse().unwrap()
    }

    proptest! {
        /// Changes of a few copies arrive somewhere in another order, and some of them again.
        #[test]
        fn counters_are_equal_whatever_the_order_and_repetition(
            changes in proptest::collection::vec((0..3_u8, any::<i32>()), 0..20),
            order in proptest::collection::vec(any::<usize>(), 0..60),
        ) {
            let mut copies: BTreeMap<u8, Counter> = BTreeMap::new();
            let mut sent = Vec::new();
            for &(name, n) in &changes {
                let own = copies.entry(name).or_default();
                let change = own.adding(&copy(name), n.into());
                own.merge_with(change.clone());
                sent.push(change);
            }
            let mut elsewhere = Counter::default();
            for index in order.into_iter().filter(|_| !changes.is_empty()) {
                elsewhere.merge_with(sent[index % changes.len()].clone());
            }
            sent.into_iter().rev().for_each(|change| elsewhere.merge_with(change));
            let sum: i64 = changes.iter().map(|&(_, n)| i64::from(n)).sum();
            prop_assert_eq!(elsewhere.value(), sum);
        }
    }

    #[test]
    fn equal_values_have_one_digest_whatever_the_form_of_their_strings() {
        let text = Str::text("caf\u{e9}");
        let octets = Str::octets(*b"caf\xe9");
        assert_eq!(text, octets);
        let counter = |key: Str| Counter([(key, (1, 0))].into());
        assert_eq!(digest_of(&counter(text)), digest_of(&counter(octets)));
        assert_ne!(digest_of(&counter(Str::text("a"))), digest_of(&counter(Str::text("b"))));
        assert_eq!(digest_of(&BTreeMap::from([((1, 2), 3)])), "");
    }

    #[test]
    fn a_sum_that_is_too_large_is_the_largest_one() {
        let entry = |name: u8, added, taken| (copy(name).as_str().to_owned(), (added, taken));
        let most = Counter([entry(0, u64::MAX, 0), entry(1, u64::MAX, 0)].into());
        assert_eq!(most.value(), i64::MAX);
        assert_eq!(most.adding(&copy(0), 1).0, [entry(0, u64::MAX, 0)].into());
        assert_eq!(Counter([entry(0, 0, u64::MAX)].into()).value(), i64::MIN);
    }

    #[test]
    fn sets_and_maps_keep_what_either_has() {
        let mut map: BTreeMap<String, BTreeSet<u8>> = [("a".into(), [1].into())].into();
        map.merge_with([("a".into(), [2].into()), ("b".into(), [3].into())].into());
        assert_eq!(map, [("a".into(), [1, 2].into()), ("b".into(), [3].into())].into());
    }
}
