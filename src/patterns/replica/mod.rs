//! Replicas: a value of which every process in a family has a copy, so that it outlives all of them
//! but the last.
//!
//! Each copy is a port in the family. It sends its changes to the other copies, and its whole value to
//! each copy that joins, or that comes back after it was lost. A copy that is lost may have sent its
//! last change to only some of the others. Therefore each copy asks a random other one every second
//! for its whole value, which that one sends if the two values differ.
//!
//! A copy *merges* what it receives into its value. Merging gives the same result in whatever order and
//! however often it is done (in the literature: a
//! [state-based CRDT](https://inria.hal.science/inria-00555588)), so copies that know of the same
//! changes are equal, and copies that were separated become equal once they meet.
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
//! On the wire a change is the message `merge, VALUE`, and a whole value is `merge, VALUE, PORT`, where
//! `PORT` is the copy that sends it. `pull, DIGEST, PORT` asks for the whole value, to be sent unless
//! the receiver's own value has this digest (the SHA-256 of the value as JSON, in hexadecimal). A Perl
//! port in the family is a copy if it does the same; it may also send its value without comparing
//! digests.

mod merge;

pub use merge::{Counter, Merge};

use super::Failure;
use super::actor::{self, Actor, ActorContext, ActorRef};
use super::service::{Service, State};
use crate::node::{DbError, Entry, Message, Monitor, Node, SendError};
use crate::value::{DecodeError, Packed, PortId, Str, Value};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
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
    known: Mutex<Known<S>>,
    /// Whether another copy has sent its whole value.
    told: watch::Sender<bool>,
}

/// The value, and its digest, once that was asked for and until the value changes.
#[derive(Default)]
struct Known<S> {
    value: Arc<S>,
    digest: Option<String>,
}

impl<S: Merge> Known<S> {
    fn merge(&mut self, other: S) {
        Arc::make_mut(&mut self.value).merge_with(other);
        self.digest = None;
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase", bound(deserialize = "S: DeserializeOwned"))]
enum Merging<S> {
    /// A change, or the whole value of the copy at this port.
    Merge(S, Option<PortId>),
    /// The copy at this port has a value with this digest, and asks for the whole value if that
    /// differs.
    Pull(String, PortId),
}

impl<S: Merge> Replica<S> {
    /// Adds a copy to a family, and waits until it has merged the value of another copy, if there is
    /// one in the network. It first waits until the node has [joined](Node::joined) a network.
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
            known: Mutex::default(),
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

    /// The value as it is now. Later changes do not change what was returned; the first one while it is
    /// still in use clones the value.
    pub fn get(&self) -> Arc<S> {
        self.copy.shared.value()
    }

    /// Changes the value here and in the other copies: `f` gets the value and the ID of this copy,
    /// and returns what is to be merged into all copies. It should be no more than the change.
    ///
    /// One change is made at a time, so `f` sees all changes before its own. It must not use this
    /// replica, and neither must [`Merge::merge_with`] and `clone` of the value: they would wait for
    /// themselves.
    ///
    /// # Errors
    /// As [`Node::snd`]. The value has then changed here; the other copies get the change within some
    /// seconds, with the whole value.
    pub fn update(&self, f: impl FnOnce(&S, &PortId) -> S) -> Result<(), SendError> {
        let (own, shared) = (self.id(), &self.copy.shared);
        let change = {
            let mut known = shared.known.lock();
            let change = f(&known.value, &own);
            known.merge(change.clone());
            change
        };
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
        self.get().value()
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
    fn value(&self) -> Arc<S> {
        self.known.lock().value.clone()
    }

    /// The digest of the value. The value is serialized outside the lock.
    fn digest(&self) -> String {
        let value = match &*self.known.lock() {
            Known { digest: Some(digest), .. } => return digest.clone(),
            Known { value, .. } => value.clone(),
        };
        let digest = digest_of(&*value);
        let mut known = self.known.lock();
        if Arc::ptr_eq(&known.value, &value) {
            known.digest = Some(digest.clone());
        }
        digest
    }

    /// Sends the whole value to these copies, as the one at the port `own`.
    fn send_value<'a>(&self, own: &PortId, to: impl Iterator<Item = &'a PortId>) {
        let mut others = to.filter(|copy| *copy != own).peekable();
        if others.peek().is_none() {
            return;
        }
        let value = self.value();
        let sent = Packed::of(&Merging::Merge(&*value, Some(own.clone())))
            .map_err(SendError::from)
            .and_then(|message| others.try_for_each(|copy| self.node.snd(copy, &message)));
        if let Err(error) = sent {
            let (node, family) = (self.node.id(), &self.family);
            tracing::warn!(%node, "replica in {family}: not all copies were sent the value: {error}");
        }
    }
}

impl<S: Merge> Copy<S> {
    /// Waits until another copy has sent its value, or until it is known that there is none.
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

    /// Sends the value to those copies that have joined, or were lost and are back, since the last
    /// time.
    fn greet(&self, known: &mut BTreeSet<(PortId, u64)>) {
        let own = self.port.lock().clone();
        let members = self.shared.copies.members().into_iter();
        let up = members.filter(|copy| matches!(copy.state, State::Up));
        let up: BTreeSet<_> = up.map(|copy| (copy.port, copy.losses)).collect();
        self.shared.send_value(&own, up.difference(known).map(|(copy, _)| copy));
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
                self.0.known.lock().merge(other);
                if sender.is_some() {
                    self.0.told.send_replace(true);
                }
            }
            Merging::Pull(digest, copy) => {
                let is_same = !digest.is_empty() && digest == self.0.digest();
                if !is_same && self.0.copies.all().contains(&copy) {
                    self.0.send_value(ctx.id(), [&copy].into_iter());
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
    use crate::value::Str;
    use std::collections::BTreeMap;

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
}
