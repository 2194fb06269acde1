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
//! # node.shutdown().await;
//! # Ok(()) }
//! ```

use crate::node::{
    CallError, Change, DbMonitor, KillReason, Monitor, Node, NodeEvent, SendError, ToPort,
};
use crate::value::{EncodeError, NodeId, Packed, PortId, Str};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fmt;
use std::future::{Future, IntoFuture, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

/// How long to wait before a node that could not be reached is tried again.
const RETRY: Duration = Duration::from_secs(2);

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
        ServiceCall {
            service: self.clone(),
            message: Packed::of(&message),
            attempts: 1,
            limit: None,
            answer: std::marker::PhantomData,
        }
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

/// A call to a member of a service. Awaiting it yields the answer.
#[must_use = "a call is sent when it is awaited"]
pub struct ServiceCall<V, T> {
    service: Service<V>,
    message: Result<Packed, EncodeError>,
    attempts: usize,
    limit: Option<Duration>,
    answer: std::marker::PhantomData<fn() -> T>,
}

impl<V, T> ServiceCall<V, T> {
    /// Calls another member, up to five in all, if one dies or is lost before it has answered. The
    /// first one may already have done what was asked, so use this only if doing it twice is
    /// harmless.
    pub fn safe_to_repeat(mut self) -> Self {
        self.attempts = 5;
        self
    }

    /// Limits the total time, including the wait for a member.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }
}

impl<V, T> fmt::Debug for ServiceCall<V, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceCall").field("message", &self.message).finish_non_exhaustive()
    }
}

impl<V, T> IntoFuture for ServiceCall<V, T>
where
    V: DeserializeOwned + Clone + Send + 'static,
    T: DeserializeOwned + Send + 'static,
{
    type Output = Result<T, CallError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let limit = self.limit;
            let calls = self.run();
            match limit {
                None => calls.await,
                Some(limit) => tokio::time::timeout(limit, calls)
                    .await
                    .unwrap_or(Err(CallError::Timeout(limit))),
            }
        })
    }
}

impl<V, T> ServiceCall<V, T>
where
    V: DeserializeOwned + Clone + Send + 'static,
    T: DeserializeOwned + Send + 'static,
{
    async fn run(self) -> Result<T, CallError> {
        let message = self.message.map_err(SendError::from)?;
        let service = &self.service;
        let mut tried = Vec::new();
        loop {
            let picked = service.pick(&tried, |ports| service.round(ports)).await;
            let port = picked.map_err(|Ended| SendError::Shutdown)?;
            match service.shared.node.call(&port, &message).await {
                Err(CallError::Died(_)) if tried.len() + 1 < self.attempts => tried.push(port),
                outcome => return outcome,
            }
        }
    }
}

/// Monitors of the members' ports, and the pauses before lost ones are monitored again.
#[derive(Default)]
struct Deaths(BTreeMap<PortId, Watched>);

enum Watched {
    Monitor(Monitor),
    Pause(Pin<Box<tokio::time::Sleep>>),
}

impl Deaths {
    /// Waits for the next port that has died (with the reason), or whose pause is over.
    async fn next(&mut self) -> (PortId, Option<KillReason>) {
        poll_fn(|cx| {
            for (port, watched) in &mut self.0 {
                let news = match watched {
                    Watched::Monitor(monitor) => Pin::new(monitor).poll(cx).map(Some),
                    Watched::Pause(pause) => pause.as_mut().poll(cx).map(|()| None),
                };
                if let Poll::Ready(reason) = news {
                    return Poll::Ready((port.clone(), reason));
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// Keeps the members up to date until the node is shut down.
async fn follow<V: DeserializeOwned>(
    shared: Arc<Shared<V>>,
    mut family: DbMonitor,
    changes: watch::Sender<u64>,
) {
    let mut deaths = Deaths::default();
    let mut nodes = shared.node.events();
    let mut known = false;
    loop {
        tokio::select! {
            change = family.next() => match change {
                Some(change) => {
                    apply(&shared, &mut deaths, &change);
                    known = true;
                }
                None => return,
            },
            event = nodes.next() => match event {
                Some(NodeEvent::Up { node, .. }) => reached(&shared, &mut deaths, &node),
                Some(_) => {}
                None => return,
            },
            (port, reason) = deaths.next() => heed(&shared, &mut deaths, port, reason),
        }
        if known {
            changes.send_modify(|changes| *changes += 1);
        }
    }
}

fn apply<V: DeserializeOwned>(shared: &Shared<V>, deaths: &mut Deaths, change: &Change) {
    let mut members = shared.members.lock();
    for key in change.deleted() {
        if let Ok(port) = key.to_port() {
            members.remove(&port);
            deaths.0.remove(&port);
        }
    }
    let keys: Vec<&Str> = change.added().chain(change.changed()).map(|(key, _)| key).collect();
    for key in keys {
        match (key.to_port(), change.value::<V>(key)) {
            (Ok(port), Ok(Some(value))) => {
                let (state, losses) = members
                    .remove(&port)
                    .map_or((State::Up, 0), |member| (member.state, member.losses));
                deaths
                    .0
                    .entry(port.clone())
                    .or_insert_with(|| Watched::Monitor(shared.node.monitor(&port)));
                members.insert(port.clone(), Member { port, value, state, losses });
            }
            (Err(error), _) => log(&shared.node, change, key, &error),
            (_, Err(error)) => log(&shared.node, change, key, &error),
            (_, Ok(None)) => {}
        }
    }
}

fn log(node: &Node, change: &Change, key: &Str, error: &dyn fmt::Display) {
    let family = change.family();
    tracing::warn!(node = %node.id(), "service {family}: entry {key} is left out: {error}");
}

/// Marks members on this node as reachable again.
fn reached<V>(shared: &Shared<V>, deaths: &mut Deaths, node: &NodeId) {
    for member in shared.members.lock().values_mut() {
        if matches!(member.state, State::Unreachable) && member.node() == *node {
            let monitor = shared.node.monitor(&member.port);
            deaths.0.insert(member.port.clone(), Watched::Monitor(monitor));
            member.state = State::Up;
        }
    }
}

fn heed<V>(shared: &Shared<V>, deaths: &mut Deaths, port: PortId, reason: Option<KillReason>) {
    let mut members = shared.members.lock();
    let Some(member) = members.get_mut(&port) else {
        deaths.0.remove(&port);
        return;
    };
    let watched = match reason {
        None => {
            // The monitor requests a connection; the event of the connection marks it as up.
            if shared.node.is_up(&port.node()) {
                member.state = State::Up;
            }
            Some(Watched::Monitor(shared.node.monitor(&port)))
        }
        Some(reason) if reason.is_transport_error() => {
            member.losses += 1;
            member.state = State::Unreachable;
            Some(Watched::Pause(Box::pin(sleep(RETRY))))
        }
        Some(reason) => {
            member.state = State::Down(reason);
            None
        }
    };
    match watched {
        Some(watched) => drop(deaths.0.insert(port, watched)),
        None => drop(deaths.0.remove(&port)),
    }
}

/// The nodes of members.
impl<V> Member<V> {
    /// The node of the member.
    pub fn node(&self) -> NodeId {
        self.port.node()
    }
}
