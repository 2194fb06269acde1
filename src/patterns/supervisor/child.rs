//! Children: how a supervisor starts and stops one.

use super::running::Supervising;
use super::{Restart, Supervisor};
use crate::node::{CallbackPort, KillReason, Node, ToPort};
use crate::patterns::Failure;
use crate::patterns::actor::{self, Actor};
use crate::value::{NodeId, Packed, PortId, Str};
use parking_lot::Mutex;
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher as _, RandomState};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

type StartFuture = Pin<Box<dyn Future<Output = Result<PortId, Failure>> + Send>>;

/// Starts the child; the second argument is the node on which it was lost before.
pub(super) type Start = Arc<dyn Fn(Node, Option<NodeId>) -> StartFuture + Send + Sync>;

/// Where a child is spawned.
#[derive(Debug, Clone)]
pub enum Place {
    /// On this node.
    Node(NodeId),
    /// On one of the nodes in this family of the database, whose keys are IDs of nodes or of ports
    /// on them. After a loss another one is preferred; while there is none, the child waits.
    Family(String),
}

/// A child of a supervisor. OTP calls this a child specification.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use aemp::patterns::supervisor::{Child, Place, Restart, Strategy, Supervisor};
/// use aemp::{CallbackPort, Node, PortId};
///
/// let node = Node::builder().alone().start().await?;
/// let hosts = Place::Family("counter_hosts".into());
/// let supervisor = Supervisor::new(Strategy::RestForOne)
///     // A port on this node, which others find in the family "echoes".
///     .child(Child::port("echo", |port: &CallbackPort| {
///         port.on("echo", |ctx, (text, reply): (String, PortId)| ctx.snd(reply, text));
///     })
///     .registered("echoes"))
///     // An actor on a node of a family, and a Perl port on a node of that name.
///     .child(Child::spawned_actor("counter", hosts, "Counter::new", 5).restart(Restart::Transient))
///     .child(Child::spawned("perl", Place::Node("perl".parse()?), "My::Worker::new", (1, 2)))
///     // Another supervisor.
///     .child(Child::supervisor("others", || Supervisor::new(Strategy::OneForOne)))
///     .start(&node);
/// supervisor.stop()?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Child {
    pub(super) id: String,
    pub(super) start: Start,
    pub(super) restart: Restart,
    pub(super) shutdown: Duration,
    /// The family in which its port is registered.
    pub(super) family: Option<Str>,
    /// Whether it understands the messages that all actors understand.
    pub(super) is_actor: bool,
}

/// Where the task that starts a child leaves the child's port for the supervisor, which may have
/// given up the start by then. Exactly one of them gets the port, so that none is forgotten.
#[derive(Default)]
pub(super) struct Slot(Mutex<Delivery>);

#[derive(Default)]
enum Delivery {
    #[default]
    Awaited,
    Arrived(PortId),
    /// The supervisor has taken the port, or does not want it any more.
    Over,
}

impl Slot {
    /// Leaves the port for the supervisor; returns it if the supervisor does not want it any more.
    pub(super) fn put(&self, port: PortId) -> Result<(), PortId> {
        let mut delivery = self.0.lock();
        match &*delivery {
            Delivery::Over => Err(port),
            _ => {
                *delivery = Delivery::Arrived(port);
                Ok(())
            }
        }
    }

    /// Takes the port if it is there, and refuses it otherwise.
    pub(super) fn take(&self) -> Option<PortId> {
        match std::mem::replace(&mut *self.0.lock(), Delivery::Over) {
            Delivery::Arrived(port) => Some(port),
            Delivery::Awaited | Delivery::Over => None,
        }
    }
}

impl Child {
    /// A child that is started by `start`, which returns the ID of the child's port. The future is
    /// dropped if the child is not wanted any more, so it should not wait for anything after it has
    /// made the port.
    pub fn new<Fut>(id: &str, start: impl Fn(Node) -> Fut + Send + Sync + 'static) -> Self
    where
        Fut: Future<Output = Result<PortId, Failure>> + Send + 'static,
    {
        Child::from_start(id, Arc::new(move |node, _| Box::pin(start(node))))
    }

    /// A port on the supervisor's node; `receive` adds its receivers with
    /// [`CallbackPort::on`](crate::CallbackPort::on). It is stopped by killing it.
    pub fn port(id: &str, receive: impl Fn(&CallbackPort) + Send + Sync + 'static) -> Self {
        let start: Start = Arc::new(move |node, _| {
            let port = KilledOnUnwind(node.port_of_tags());
            receive(&port.0);
            let port = port.0.id();
            Box::pin(async { Ok(port) })
        });
        Child::from_start(id, start)
    }

    /// Another supervisor, on the supervisor's node; `make` makes it anew for each start.
    pub fn supervisor(id: &str, make: impl Fn() -> Supervisor + Send + Sync + 'static) -> Self {
        Child::actor(id, move || Supervising::new(make()))
    }

    /// An actor on the supervisor's node.
    pub fn actor<A: Actor>(id: &str, make: impl Fn() -> A + Send + Sync + 'static) -> Self {
        let start: Start = Arc::new(move |node, _| {
            let port = actor::start(&node, make()).id().clone();
            Box::pin(async { Ok(port) })
        });
        Child { is_actor: true, ..Child::from_start(id, start) }
    }

    /// An [actor](crate::patterns::actor::init) that is spawned with this function. It is asked to
    /// stop before it is killed, and it stops by itself when it loses its supervisor.
    pub fn spawned_actor(
        id: &str,
        place: Place,
        function: &str,
        arguments: impl Serialize,
    ) -> Self {
        Child { is_actor: true, ..Child::spawned(id, place, function, arguments) }
    }

    /// A port that is spawned on a Perl or Rust node with this function. It is stopped by killing
    /// it, and it outlives its supervisor if the supervisor's process is killed; for actors there
    /// is [`Child::spawned_actor`].
    pub fn spawned(id: &str, place: Place, function: &str, arguments: impl Serialize) -> Self {
        let arguments = Packed::of(&arguments).map_err(|error| error.to_string());
        let function = function.to_owned();
        let start: Start = Arc::new(move |node, lost| {
            let (place, function, arguments) = (place.clone(), function.clone(), arguments.clone());
            Box::pin(async move {
                let on = match place {
                    Place::Node(on) => on,
                    Place::Family(family) => wait_for_host(&node, &family, lost).await?,
                };
                Ok(node.spawn(&on, &function, &arguments?)?)
            })
        });
        Child::from_start(id, start)
    }

    fn from_start(id: &str, start: Start) -> Self {
        Child {
            id: id.to_owned(),
            start,
            restart: Restart::Permanent,
            shutdown: Duration::from_secs(5),
            family: None,
            is_actor: false,
        }
    }

    /// When the child is restarted; permanent by default.
    #[must_use]
    pub fn restart(mut self, restart: Restart) -> Self {
        self.restart = restart;
        self
    }

    /// How long the child may take to stop before it is killed; 5 s by default.
    #[must_use]
    pub fn shutdown(mut self, limit: Duration) -> Self {
        self.shutdown = limit;
        self
    }

    /// Registers the child's port in this family of the database whenever it is running, so that
    /// others find it; see [`Db::register`](crate::Db::register). The entry belongs to the
    /// supervisor's node.
    #[must_use]
    pub fn registered(mut self, family: impl Into<Str>) -> Self {
        self.family = Some(family.into());
        self
    }
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child")
            .field("id", &self.id)
            .field("restart", &self.restart)
            .finish_non_exhaustive()
    }
}

/// A port that would be forgotten if the function that adds its receivers panicked.
struct KilledOnUnwind(CallbackPort);

impl Drop for KilledOnUnwind {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.kil(&KillReason::new("die", "its start failed"));
        }
    }
}

/// A node of the family. The node on which the child was lost is used only if there is no other,
/// and if it is connected again.
async fn wait_for_host(node: &Node, family: &str, lost: Option<NodeId>) -> Result<NodeId, Failure> {
    const SHUT_DOWN: &str = "the node was shut down";
    let (mut changes, mut events) = (node.db().monitor(family), node.events());
    let mut hosts = BTreeSet::new();
    loop {
        let others: Vec<&NodeId> =
            hosts.iter().filter(|host| Some(*host) != lost.as_ref()).collect();
        // A different one each time, so that the children are spread over the nodes.
        let random = RandomState::new().hash_one(());
        let index = usize::try_from(random % others.len().max(1) as u64).unwrap_or(0);
        let back = lost.as_ref().filter(|host| hosts.contains(*host) && node.is_up(host));
        if let Some(host) = others.get(index).copied().or(back) {
            return Ok(host.clone());
        }
        tokio::select! {
            change = changes.next() => {
                let change = change.ok_or(SHUT_DOWN)?;
                for host in change.deleted().filter_map(host_of) {
                    hosts.remove(&host);
                }
                hosts.extend(change.added().filter_map(|(key, _)| host_of(key)));
            }
            event = events.next() => drop(event.ok_or(SHUT_DOWN)?),
        }
    }
}

fn host_of(key: &Str) -> Option<NodeId> {
    Some(key.to_port().ok()?.node())
}
