//! Services: the ports that are registered in a family of the database, and the state of each.
//!
//! A [`Service`] follows the family and monitors every port in it, so it learns of an instance's
//! death before the database does. Instances register with
//! [`Db::register_with`](crate::Db::register_with), or with `db_reg` in Perl.
//!
//! ```
//! use aemp::Node;
//! use aemp::patterns::service::Service;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let node = Node::builder().node_id("n").secret("geheim").bind("127.0.0.1:0").start().await?;
//! node.become_global(); // It has no seeds, and keeps the database itself.
//! let square = node.port_of_tags();
//! square.on("square", |ctx, (n, reply): (f64, aemp::PortId)| ctx.snd(reply, (n * n,)));
//! let _entry = node.db().register_with("squares", &square, ("a value",))?;
//!
//! let squares: Service<(String,)> = Service::new(&node, "squares");
//! // It waits until there is an instance.
//! let port = squares.any().await?;
//! assert_eq!(node.call::<f64>(&port, ("square", 3)).await?, 9.0);
//! // If the instance dies on the way another one is asked: the caller says that this does no harm.
//! assert_eq!(squares.call::<f64>(("square", 4)).safe_to_repeat().await?, 16.0);
//! assert_eq!(squares.members()[0].value.0, "a value");
//! // The same as a stream: who is there, with which value, and in which state.
//! let members = squares.changes().next().await.ok_or("shut down")?;
//! assert_eq!(members[0].port, port);
//! # node.shutdown().await;
//! # Ok(()) }
//! ```

mod call;
mod follow;

pub use call::ServiceCall;

use crate::node::{KillReason, Node, SendError};
use crate::value::{NodeId, Packed, PortId, Str};
use follow::follow;
use futures_core::Stream;
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use tokio::sync::watch;
use tokio_util::sync::ReusableBoxFuture;
use tokio_util::task::AbortOnDropHandle;

/// The state of a member.
#[derive(Debug, Clone)]
pub enum State {
    /// It is not known to be down or unreachable.
    Up,
    /// The connection to its node was lost, or could not be made; it is tried again.
    Unreachable,
    /// It has died for this reason; its entry is about to be deleted.
    Down(KillReason),
}

/// A port in the family, with its value.
#[derive(Debug, Clone)]
pub struct Member<V> {
    /// The port.
    pub port: PortId,
    /// The value that it was registered with.
    pub value: V,
    /// What is known of it.
    pub state: State,
    /// How often it was lost since it is known. While this does not change, everything that was
    /// sent to it has arrived or will arrive.
    pub losses: u64,
}

/// The members of a family. Clones share their state. It does not keep its node running.
pub struct Service<V> {
    shared: Arc<Shared<V>>,
    /// Counts the changes; 0 until the family is known.
    changes: watch::Receiver<u64>,
    _task: Arc<AbortOnDropHandle<()>>,
}

struct Shared<V> {
    node: Node,
    members: Mutex<BTreeMap<PortId, Member<V>>>,
    round: AtomicUsize,
    prefers_local: bool,
}

impl<V> Clone for Service<V> {
    fn clone(&self) -> Self {
        let (shared, changes) = (self.shared.clone(), self.changes.clone());
        Service { shared, changes, _task: self._task.clone() }
    }
}

impl<V> fmt::Debug for Service<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.shared.members.lock().keys()).finish()
    }
}

/// The node was shut down while waiting for an instance.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("no instance: the node was shut down")]
pub struct Ended;

impl<V: DeserializeOwned + Clone + Send + 'static> Service<V> {
    /// Follows a family. Keys that are not port IDs, and values that are not a `V`, are left out
    /// and logged.
    pub fn new(node: &Node, family: impl Into<Str>) -> Self {
        Service::made(node, family, false)
    }

    /// As [`Service::new`], but [`any`](Service::any) and [`next`](Service::next) choose members on
    /// other nodes only while none on this node is up.
    pub fn local_first(node: &Node, family: impl Into<Str>) -> Self {
        Service::made(node, family, true)
    }

    fn made(node: &Node, family: impl Into<Str>, prefers_local: bool) -> Self {
        let shared = Arc::new(Shared {
            node: node.weak(),
            members: Mutex::new(BTreeMap::new()),
            round: AtomicUsize::new(0),
            prefers_local,
        });
        let (counter, changes) = watch::channel(0);
        let follow = follow(shared.clone(), node.db().monitor(family), counter);
        let task = Arc::new(AbortOnDropHandle::new(node.runtime().spawn(follow)));
        Service { shared, changes, _task: task }
    }

    /// Waits until the database has reported the members of the family; before that there are none.
    /// An instance that takes over from others, for example, needs to know whether there are any.
    ///
    /// # Errors
    /// Fails once the node was shut down.
    pub async fn known(&self) -> Result<(), Ended> {
        let mut changes = self.changes.clone();
        let known = changes.wait_for(|changes| *changes > 0).await;
        known.map_or(Err(Ended), |_| Ok(()))
    }

    /// All members, whatever their state, in the order of their IDs.
    pub fn members(&self) -> Vec<Member<V>> {
        self.shared.members.lock().values().cloned().collect()
    }

    /// Waits until the members, their values or their states have changed since the last call, or
    /// since this handle was made; returns false once the node was shut down.
    pub async fn changed(&mut self) -> bool {
        self.changes.changed().await.is_ok()
    }

    /// A stream of all members, with their values and states: at first as soon as they are known,
    /// and then whenever something has changed. It ends when the node is shut down.
    ///
    /// What changes while an item is not taken is combined into the next one.
    pub fn changes(&self) -> Members<V> {
        let mut changes = self.changes.clone();
        changes.mark_changed();
        let next = ReusableBoxFuture::new(next_change(changes));
        Members { service: self.clone(), next }
    }

    /// The members that are up.
    pub fn all(&self) -> Vec<PortId> {
        let members = self.shared.members.lock();
        let up = members.values().filter(|member| matches!(member.state, State::Up));
        up.map(|member| member.port.clone()).collect()
    }

    /// A random member that is up; waits while there is none.
    ///
    /// # Errors
    /// Fails once the node was shut down.
    pub async fn any(&self) -> Result<PortId, Ended> {
        self.pick(&[], |ports| {
            let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), ());
            usize::try_from(random % ports.len().max(1) as u64).unwrap_or(0)
        })
        .await
    }

    /// The members that are up, in turn; waits while there is none.
    ///
    /// # Errors
    /// Fails once the node was shut down.
    pub async fn next(&self) -> Result<PortId, Ended> {
        self.pick(&[], |ports| self.round(ports)).await
    }

    /// The member that is responsible for a key: the same for every node that sees the same
    /// members. Waits while there is none. When a member comes or goes, only its own keys move
    /// ([rendezvous hashing](https://en.wikipedia.org/wiki/Rendezvous_hashing)): the responsible
    /// member is the one with the greatest SHA-256 of the key, an octet 0, and its port's ID.
    ///
    /// # Errors
    /// Fails once the node was shut down.
    pub async fn by_key(&self, key: &str) -> Result<PortId, Ended> {
        let weight = |port: &PortId| {
            Sha256::new()
                .chain_update(key)
                .chain_update([0])
                .chain_update(port.as_str().canonical())
                .finalize()
        };
        let heaviest = |ports: &[PortId]| {
            let weights = ports.iter().map(weight).enumerate();
            weights.max_by(|a, b| a.1.cmp(&b.1)).map_or(0, |(index, _)| index)
        };
        self.pick_from(&[], false, heaviest).await
    }

    /// Sends a message to all members that are up, and returns the number of these.
    ///
    /// # Errors
    /// As [`Node::snd`].
    pub fn snd_all(&self, message: impl Serialize) -> Result<usize, SendError> {
        let message = Packed::of(&message)?;
        let ports = self.all();
        for port in &ports {
            self.shared.node.snd(port, &message)?;
        }
        Ok(ports.len())
    }

    /// Calls the members in turn (see [`next`](Service::next)), and waits for the answer.
    pub fn call<T: DeserializeOwned + 'static>(
        &self,
        message: impl Serialize,
    ) -> ServiceCall<V, T> {
        ServiceCall::new(self.clone(), Packed::of(&message))
    }

    fn round(&self, ports: &[PortId]) -> usize {
        self.shared.round.fetch_add(1, Ordering::Relaxed) % ports.len().max(1)
    }

    async fn pick(
        &self,
        not: &[PortId],
        choose: impl Fn(&[PortId]) -> usize,
    ) -> Result<PortId, Ended> {
        self.pick_from(not, self.shared.prefers_local, choose).await
    }

    /// Waits for a member that is up, preferably not one of `not`.
    async fn pick_from(
        &self,
        not: &[PortId],
        prefers_local: bool,
        choose: impl Fn(&[PortId]) -> usize,
    ) -> Result<PortId, Ended> {
        let mut changes = self.changes.clone();
        loop {
            changes.borrow_and_update();
            let mut ports = self.all();
            let own = self.shared.node.id();
            let better: [&dyn Fn(&PortId) -> bool; 2] =
                [&|port| !not.contains(port), &|port| prefers_local && port.node() == *own];
            for is_better in better {
                if ports.iter().any(is_better) {
                    ports.retain(is_better);
                }
            }
            if let Some(port) = ports.get(choose(&ports)) {
                return Ok(port.clone());
            }
            changes.changed().await.map_err(|_| Ended)?;
        }
    }
}

/// The members of a service, whenever they have changed; see [`Service::changes`].
pub struct Members<V> {
    service: Service<V>,
    next: ReusableBoxFuture<'static, Option<watch::Receiver<u64>>>,
}

/// Waits for a change after the family is known; `None` if the node was shut down.
async fn next_change(mut changes: watch::Receiver<u64>) -> Option<watch::Receiver<u64>> {
    loop {
        changes.changed().await.ok()?;
        if *changes.borrow_and_update() > 0 {
            return Some(changes);
        }
    }
}

impl<V: DeserializeOwned + Clone + Send + 'static> Members<V> {
    /// Waits for the next change; `None` if the node was shut down.
    pub async fn next(&mut self) -> Option<Vec<Member<V>>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl<V: DeserializeOwned + Clone + Send + 'static> Stream for Members<V> {
    type Item = Vec<Member<V>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(changes) = std::task::ready!(self.next.poll(cx)) else {
            self.next.set(std::future::ready(None));
            return Poll::Ready(None);
        };
        self.next.set(next_change(changes));
        Poll::Ready(Some(self.service.members()))
    }
}

impl<V> fmt::Debug for Members<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Members").field(&self.service).finish()
    }
}

impl<V> Member<V> {
    /// The node of the member.
    pub fn node(&self) -> NodeId {
        self.port.node()
    }
}
