//! A node in a running program: tokio around the kernel, and the crate's public interface.
//!
//! No protocol decisions are made here.

mod call;
mod call_room;
mod calls;
mod combined;
pub(crate) mod connection;
pub(crate) mod context;
pub(crate) mod core;
pub(crate) mod counters;
mod db;
mod delivery;
mod effects;
pub(crate) mod error;
pub(crate) mod events;
mod fan_out;
mod functions;
mod health;
mod inputs;
mod lanes;
#[cfg(test)]
mod lanes_model;
pub(crate) mod listen;
mod log;
mod long_work;
mod message;
mod metrics;
mod monitor;
mod node_packets;
mod node_port;
pub(crate) mod panics;
pub(crate) mod port;
pub mod probe;
pub(crate) mod queue;
mod reply;
pub(crate) mod settings;
mod status;
mod sync;
mod to_port;
pub(crate) mod trace;

pub use self::call::Call;
pub use self::connection::{streams, tls};
pub use self::context::{Context, Outcome};
pub use self::counters::{HandshakeCount, HandshakeOutcome, Traffic};
pub use self::db::{Change, Db, DbError, DbMonitor, Entry};
pub use self::error::{CallError, ConnectionError, RecvError, SendError, StartError};
pub use self::events::{NodeEvent, NodeEvents};
pub use self::health::Unhealthy;
pub use self::message::{KillReason, Message, MessageRef};
pub use self::metrics::{Connections, Metrics};
pub use self::monitor::{Monitor, MonitorGuard};
pub use self::node_port::{CallbackPort, Port, Timer};
pub use self::reply::Reply;
pub use self::status::{Link, STATUS_FUNCTION, Status};
pub use self::to_port::ToPort;

use self::core::{Alive, EvalHook, Shared};
use self::delivery::Pressure;
use crate::kernel::db::QueryError;
use crate::kernel::{PortName, SeedStatus};
use crate::value::packed::Elements;
use crate::value::{Count, EncodeError, NodeId, PortId, Str, StrRef, Value, put_elements};
use port::{CallbackCell, PortCell, Unmatched, run_queue};
use serde::Serialize;
use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A node of a network: the handle through which a program uses it. Clones are the same node.
///
/// When the last handle is dropped the node is shut down: its connections close, and its ports die
/// normally. [`Node::shutdown`] does the same and waits until everything sent has been written.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use aemp::Node;
///
/// let node = Node::builder().alone().start().await?; // a network: see NodeBuilder
/// let mut port = node.port();
/// let death = node.monitor(&port);
/// node.snd(&port, ("hello", 42))?;
/// assert_eq!(port.recv::<(String, u32)>().await?, ("hello".into(), 42));
/// drop(port);
/// assert!(death.await.is_normal());
/// # Ok(()) }
/// ```
pub struct Node {
    shared: Arc<Shared>,
    /// Keeps the node running; handles within the node itself have none.
    alive: Option<Arc<Alive>>,
}

impl Clone for Node {
    fn clone(&self) -> Self {
        let alive = self.alive.clone().or_else(|| self.shared.alive.lock().upgrade());
        Node { shared: self.shared.clone(), alive }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Node({})", self.shared.id)
    }
}

thread_local! {
    /// Buffers into which values are serialized, so that sending does not allocate. There is one
    /// for each level of messages that are sent while another one is delivered.
    static BUFFERS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer with more capacity than this is freed after use.
const MAX_KEPT_CAPACITY: usize = 1 << 20;

/// Calls `f` with an empty buffer of this thread.
#[inline]
fn with_buffer<R>(f: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    // While the thread is ending, its buffers are gone.
    let taken = BUFFERS.try_with(|buffers| buffers.borrow_mut().pop().unwrap_or_default());
    let mut buffer = taken.unwrap_or_default();
    buffer.clear();
    let result = f(&mut buffer);
    if buffer.capacity() <= MAX_KEPT_CAPACITY {
        let _ = BUFFERS.try_with(|buffers| buffers.borrow_mut().push(buffer));
    }
    result
}

impl Node {
    pub(crate) fn outer(shared: Arc<Shared>) -> Self {
        let alive = Arc::new(Alive(Arc::downgrade(&shared)));
        *shared.alive.lock() = Arc::downgrade(&alive);
        Node { shared, alive: Some(alive) }
    }

    pub(crate) const fn inner(shared: Arc<Shared>) -> Self {
        Node { shared, alive: None }
    }

    pub(crate) fn inside(&self) -> Self {
        Node::inner(self.shared.clone())
    }

    /// A handle that does not keep the node running, for tasks and callbacks that live as long as
    /// the node. Its clones do keep it running.
    pub fn weak(&self) -> Self {
        self.inside()
    }

    /// The runtime of the node's tasks, for code that is not called within a runtime.
    pub fn runtime(&self) -> &tokio::runtime::Handle {
        &self.shared.runtime
    }

    pub(crate) const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// This node's ID. Perl calls this `$NODE`.
    pub fn id(&self) -> &NodeId {
        &self.shared.id
    }

    /// The nodes to which this one is connected, without itself. Perl calls this `up_nodes`.
    pub fn up_nodes(&self) -> Vec<NodeId> {
        self.shared.kernel(|kernel| kernel.up_nodes())
    }

    /// Whether a node is connected; the node itself always is. Perl calls this `node_is_up`.
    pub fn is_up(&self, node: &NodeId) -> bool {
        self.shared.kernel(|kernel| kernel.is_up(node))
    }

    /// Whether this node keeps the whole database.
    pub fn is_global(&self) -> bool {
        self.shared.kernel(|kernel| kernel.is_global())
    }

    /// The node that keeps the database for this one; a global node is its own master.
    pub fn master(&self) -> Option<NodeId> {
        self.shared.kernel(|kernel| kernel.master().cloned())
    }

    /// Number of ports of this node, including those of pending calls.
    pub fn port_count(&self) -> usize {
        self.shared.kernel(|kernel| self.shared.port_count(kernel))
    }

    /// Number of monitors that are set here, on ports of any node. All calls to a port share one
    /// monitor, which is removed up to a second after the last of them.
    pub fn monitor_count(&self) -> usize {
        self.shared.kernel(|kernel| kernel.monitor_count())
    }

    /// The state of the configured seeds.
    pub fn seeds(&self) -> Vec<SeedStatus> {
        self.shared.kernel(|kernel| kernel.seeds())
    }

    /// A stream of nodes that connect and disconnect, beginning with those that are up. Perl calls
    /// this `mon_nodes`.
    pub fn events(&self) -> NodeEvents {
        NodeEvents(self.shared.node_events())
    }

    /// Waits until this node has joined its network.
    ///
    /// A node that is not global has joined when a master has its entries, so that others can find
    /// it; this waits while no seed is up. It costs one small packet each way: a query for this
    /// node's address, which the master answers after it has received all entries.
    ///
    /// A global node has joined when each of its seeds is connected or could not be reached, and
    /// those that are connected had the opportunity to send their part of the database.
    pub async fn joined(&self) {
        let (db, location) = (self.db(), Str::from(self.id().clone()));
        while !self.is_global() {
            let asked = db.get::<Value>(crate::kernel::db::LOCATIONS, location.clone()).await;
            // Any answer will do: a node that does not listen has no address.
            if !matches!(asked, Err(DbError::Query(QueryError::NoMaster))) {
                return;
            }
        }
        let is_up = |seed: &SeedStatus| seed.node.as_ref().is_some_and(|node| self.is_up(node));
        let is_tried =
            |seed: &SeedStatus| seed.is_ourselves || seed.last_error.is_some() || is_up(seed);
        let mut pause = Duration::from_millis(1);
        while !self.seeds().iter().all(is_tried) && !self.shared.is_over() {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
        for seed in self.seeds().iter().filter(|seed| is_up(seed)) {
            if let Some(node) = &seed.node {
                // An echo: what the seed sent before has arrived then. It is also over if the
                // connection is lost.
                let _ = self.call::<()>(node, ("snd",)).await;
            }
        }
    }

    /// Sends a message to a port. Perl calls this `snd`.
    ///
    /// It makes no difference whether the port is on this node, on a connected node, or on one that
    /// has to be found and connected first. This never blocks; a message that cannot be delivered
    /// is dropped, and [monitors](Node::monitor) report the loss. Up to 256 MiB may be queued for
    /// one node; beyond that its connection is given up as if it had broken: everything queued is
    /// dropped, and monitors fire. A single message may be larger. When more than 8 MiB are queued
    /// a warning is logged, once until all of it is written; [`Node::snd_wait`] waits instead.
    ///
    /// # Errors
    /// Fails at once if the destination is not a port ID, if the message cannot be represented in
    /// Perl's data model or in the connection's framing (which can carry NaN and infinities, but
    /// not more than 512 nested arrays or hashes), or if this node was shut down. Nothing is sent
    /// then.
    pub fn snd(&self, to: impl ToPort, message: impl Serialize) -> Result<(), SendError> {
        to.with_port(|to| self.snd_to(to, |out| put_elements(out, &message), Pressure::Ignored))?
    }

    /// Sends the elements that `put` appends; `put` returns their number.
    fn snd_to(
        &self,
        to: &PortId,
        put: impl FnOnce(&mut Vec<u8>) -> Result<Count, EncodeError>,
        how: Pressure,
    ) -> Result<(), SendError> {
        with_buffer(|packet| self.snd_with(packet, to, put, how))
    }

    fn snd_with(
        &self,
        packet: &mut Vec<u8>,
        to: &PortId,
        put: impl FnOnce(&mut Vec<u8>) -> Result<Count, EncodeError>,
        how: Pressure,
    ) -> Result<(), SendError> {
        let (node, port) = (to.node_str(), to.port());
        let lane = self.shared.lanes.last(node);
        if lane.is_none() && node == self.id().as_str() {
            let count = put(packet)?;
            if self.shared.is_over() {
                return Err(SendError::Shutdown);
            }
            self.deliver_here(port, count.elements(0, packet));
        } else {
            crate::value::packed::put_str(packet, port);
            let packet = put(packet)?.elements(1, packet);
            self.shared.trace_sent(node, packet);
            self.shared.send_remote(to, lane, packet, how)?;
        }
        Ok(())
    }

    #[inline]
    fn deliver_here(&self, port: StrRef<'_>, message: Elements<'_>) {
        if run_queue::keeps_messages_waiting() {
            self.deliver_here_later(port, message);
        } else {
            self.shared.take_own(port, message);
        }
    }

    #[inline(never)]
    fn deliver_here_later(&self, port: StrRef<'_>, message: Elements<'_>) {
        let shared = self.shared.clone();
        let (port, message) = (port.to_owned(), message.to_packed());
        run_queue::own_message(move || shared.take_own(port.as_ref(), message.as_elements()));
    }

    /// Sends elements that are already in packed form.
    pub(crate) fn snd_elements(&self, to: &PortId, message: Elements<'_>) -> Result<(), SendError> {
        let put = |out: &mut Vec<u8>| {
            out.extend_from_slice(message.octets());
            Ok(message.count())
        };
        self.snd_to(to, put, Pressure::Ignored)
    }

    /// As [`Node::snd`], but first waits while more than 8 MiB (the builder's `soft_limit`) are
    /// queued for the node of the port.
    ///
    /// It waits for the connection, not for the port: messages that have arrived are queued in the
    /// port's mailbox, and a port whose mailbox exceeds its limit (64 MiB) is killed. To let the
    /// receiver slow the sender down, use [`call`](Node::call), which waits for room.
    ///
    /// # Errors
    /// As [`Node::snd`].
    pub async fn snd_wait(
        &self,
        to: impl ToPort,
        message: impl Serialize,
    ) -> Result<(), SendError> {
        let to = to.to_port()?;
        let node = to.node();
        if node != *self.id() {
            self.shared.lanes.of(&node).wait_until_drained().await;
        }
        self.snd_to(&to, |out| put_elements(out, &message), Pressure::Yielding)
    }

    /// Kills a port, on this or another node; its monitors get the reason. Does nothing if there is
    /// no such port, and node ports cannot be killed. Perl calls this `kil`.
    pub fn kil(&self, port: impl ToPort, reason: &KillReason) {
        if let Ok(port) = port.to_port()
            && !port.is_node_port()
        {
            self.shared.kernel(|kernel| {
                if port.node() == *self.id() {
                    self.shared.tell_of_reply_port(kernel, port.port());
                }
                kernel.kill(&port, reason.packed());
            });
        }
    }

    /// Makes a port with a mailbox, which keeps messages until they are received.
    pub fn port(&self) -> Port {
        let (cell, inbox) = PortCell::mailbox(self.shared.settings.port_limit);
        let name = self.shared.open_port(|_| cell);
        Port::new(self.clone(), name, inbox)
    }

    /// Makes a port that runs a callback for each message without a receiver added by
    /// [`CallbackPort::on`]. Perl calls this `port { ... }`.
    pub fn port_with<F, R>(&self, receiver: F) -> CallbackPort
    where
        F: FnMut(&Context<'_>, MessageRef<'_>) -> R + Send + 'static,
        R: Outcome,
    {
        let port = self.callbacks(Unmatched::Drop);
        port.on_default(receiver);
        port
    }

    /// Makes a port without receivers; add some with [`CallbackPort::on`]. A message without a
    /// receiver kills it with the reason `unhandled_message, text`. Perl calls this `port`.
    pub fn port_of_tags(&self) -> CallbackPort {
        self.callbacks(Unmatched::Die)
    }

    fn callbacks(&self, unmatched: Unmatched) -> CallbackPort {
        let shared = &self.shared;
        let mut cell = None;
        shared.open_port(|name| {
            let made = CallbackCell::new(
                name,
                shared.hooks.clone(),
                unmatched,
                shared.settings.port_limit,
            );
            cell = Some(made.clone());
            PortCell::Callback(made)
        });
        match cell {
            Some(cell) => CallbackPort::new(self.clone(), cell),
            None => unreachable!("open_port calls its argument"),
        }
    }

    /// The callback port of this node as which the calling code runs: in callbacks, and in futures
    /// that [run as a port](CallbackPort::background). Perl calls this `$SELF`.
    pub fn current_port(&self) -> Option<PortId> {
        port::current_port(&self.shared.hooks).map(|name| PortId::new(self.id(), &name))
    }

    /// The callback port with this name, if there is one here.
    pub(crate) fn callback_port(&self, name: &PortName) -> Option<CallbackPort> {
        match self.shared.ports.get(name.as_ref()) {
            Some(PortCell::Callback(cell)) => Some(CallbackPort::new(self.clone(), cell)),
            _ => None,
        }
    }

    /// Makes `node`, which may be this one, run its function `function` with these arguments as a
    /// new port, and returns the port's ID at once. `node` is the ID of a node or of any port on
    /// it, or the text of either. Perl calls this `spawn`.
    ///
    /// If that fails, because the function is unknown or returns an error or because the node
    /// cannot be reached, the port is dead; a monitor reports it.
    ///
    /// # Errors
    /// Fails if a text is not an ID, or if the arguments cannot be represented in Perl's data
    /// model.
    pub fn spawn(
        &self,
        node: impl ToPort,
        function: &str,
        arguments: impl Serialize,
    ) -> Result<PortId, SendError> {
        let node = node.to_port()?.node();
        let mut octets = Vec::new();
        let count = put_elements(&mut octets, &arguments)?;
        let arguments = count.elements(0, &octets);
        Ok(self.shared.kernel(|kernel| kernel.spawn(&node, function, arguments)))
    }

    /// Lets others call or spawn a function by this name; functions that are not exposed cannot be
    /// called or spawned.
    ///
    /// ```
    /// use aemp::{Node, PortId};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let node = Node::builder().alone().start().await?;
    /// node.expose("My::Greeter::new", |ctx, greeting: String| {
    ///     ctx.on("greet", move |ctx, (name, reply): (String, PortId)| {
    ///         ctx.snd(reply, format!("{greeting}, {name}!"))
    ///     });
    /// });
    /// let greeter = node.spawn(node.id(), "My::Greeter::new", "Hello")?;
    /// assert_eq!(node.call::<String>(&greeter, ("greet", "world")).await?, "Hello, world!");
    /// # Ok(()) }
    /// ```
    ///
    /// If spawned, it runs as a new port, to which it adds receivers with [`Context::on`]; an error
    /// or panic kills that port with `die, text`. If called (`["", NAME, ARGUMENTS...]`), it runs
    /// before anything that the same peer sent later. In `secure` mode nothing can be called by
    /// name. Replaces a function of the same name.
    pub fn expose<T, F, R>(&self, name: &str, function: F)
    where
        T: serde::de::DeserializeOwned,
        F: Fn(&Context<'_>, T) -> R + Send + Sync + 'static,
        R: Outcome,
    {
        self.expose_raw(name, move |context, message| {
            let arguments = message.decode::<T>().map_err(|error| error.to_string())?;
            function(context, arguments).into_result()
        });
    }

    /// As [`Node::expose`], for a function that takes its arguments undecoded.
    pub(crate) fn expose_raw(
        &self,
        name: &str,
        function: impl Fn(&Context<'_>, MessageRef<'_>) -> Result<(), String> + Send + Sync + 'static,
    ) {
        let function: core::Function = Arc::new(move |shared, port, message| {
            let node = Node::inner(shared.clone());
            let context = match port {
                Some(port) => Context::of_port(&node, port, message.from()),
                None => Context::of_node(&node, message.from()),
            };
            function(&context, message)
        });
        let name = Str::from(name);
        let replaced = {
            let mut functions = self.shared.functions.write();
            // After the shutdown nothing would remove the function, which may own a handle of the
            // node.
            match self.shared.is_over() {
                true => Some(function),
                false => functions.insert(name.clone(), function),
            }
        };
        drop(replaced);
        self.shared.kernel(|kernel| kernel.register(name));
    }

    /// Ends what [`Node::expose`] began; ports that were spawned live on.
    pub fn hide(&self, name: &str) {
        let name = Str::from(name);
        self.shared.kernel(|kernel| kernel.unregister(&name));
        let removed = self.shared.functions.write().remove(&name);
        drop(removed);
    }

    /// Answers expressions that peers ask to be evaluated: results, or an error text. The hook is
    /// asked for all but those that every node answers by itself, with or without white space
    /// around them and the wrapping of Perl's `aemp shell`
    /// (`package AnyEvent::MP::Kernel; my $ECHO = '...'; LINE`):
    ///
    /// | expression | results |
    /// |---|---|
    /// | the empty one | none |
    /// | `AnyEvent::MP::Kernel::up_nodes`, `up_nodes`, each also with `()` or ` ()` | IDs of the nodes that are connected, without this one |
    /// | `$AnyEvent::MP::Kernel::NODE`, `AnyEvent::MP::Kernel::NODE`, `$NODE`, `NODE` | this node's ID |
    /// | `$AnyEvent::MP::Kernel::MASTER`, `$MASTER` | the ID of this node's master, or undef |
    /// | `$$` | the process ID |
    ///
    /// Without a hook all others are answered with an error text. In `secure` mode nothing is
    /// answered at all. See `docs/protocol.md` §3.3.
    pub fn answer_eval<F>(&self, hook: F)
    where
        F: Fn(&str, &NodeId) -> Result<Vec<Value>, String> + Send + Sync + 'static,
    {
        let hook: EvalHook = Arc::new(hook);
        let replaced = {
            let mut current = self.shared.eval.write();
            if self.shared.is_over() { Some(hook) } else { current.replace(hook) }
        };
        drop(replaced);
    }

    /// Makes this node global, so that it keeps the whole database; see `docs/protocol.md` §5.2.
    pub fn become_global(&self) {
        self.shared.kernel(|kernel| kernel.become_global());
    }

    /// Replaces the seeds (`host:port`); existing connections stay.
    pub fn set_seeds(&self, addresses: impl AsRef<[Str]>) {
        self.shared.kernel(|kernel| kernel.set_seeds(addresses.as_ref()));
    }

    /// Waits until the node is shut down, by [`Node::shutdown`] or because its last handle was
    /// dropped.
    pub async fn ended(&self) {
        self.shared.ended.cancelled().await;
    }

    /// Writes what was sent, for at most the time of the key `shutdown` (5 s), then closes all
    /// connections and ends all ports normally.
    pub async fn shutdown(self) {
        let flushed = async {
            let mut pause = Duration::from_millis(1);
            while !self.shared.lanes.are_empty() {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_millis(50));
            }
        };
        let _ = tokio::time::timeout(self.shared.settings.shutdown, flushed).await;
        self.shared.end();
    }
}
