//! A node's inside: the kernel behind its lock, and the carrying out of what it wants done.

use super::connection::orders::{Control, Orders};
use super::connection::pending::PendingHandshakes;
use super::connection::streams::table::Streams;
use super::counters::ConnectionCounters;
use super::error::SendError;
use super::events::NodeEvent;
use super::fan_out::FanOuts;
use super::lanes::{Lanes, Sent, SharedLane};
use super::listen::Listening;
use super::message::{KillReason, MessageRef};
use super::port::{
    CallbackCell, CloseWhen, Delivery, Hooks, Locked, PortCell, PortTable, Replies, run_queue,
};
use super::queue;
use super::settings::NodeSettings;
use super::trace::TraceSink;
use crate::kernel::db::{ChangeSet, DbAnswer, DbMonitorId, QueryId};
use crate::kernel::{ConnId, Effect, Kernel, Now, PortName, WatchId, died};
use crate::value::packed::Elements;
use crate::value::{NodeId, Packed, PortId, Str, StrRef, Value};
use crate::wire::framing::Framing;
use crate::wire::protection::Protection;
use parking_lot::{Mutex, MutexGuard, RwLock};
type HashMap<K, V> = std::collections::HashMap<K, V, foldhash::quality::RandomState>;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Everything that the handles of a node share.
pub(crate) struct Shared {
    pub(crate) id: NodeId,
    pub(crate) settings: NodeSettings,
    pub(crate) ports: PortTable,
    pub(crate) lanes: Lanes,
    pub(crate) counters: ConnectionCounters,
    /// Connections whose peers have not authenticated yet.
    pub(crate) pending: Arc<PendingHandshakes>,
    pub(crate) functions: RwLock<HashMap<Str, Function>>,
    pub(crate) eval: RwLock<Option<EvalHook>>,
    pub(crate) streams: Streams,
    pub(crate) runtime: tokio::runtime::Handle,
    /// Cancelled when the node shuts down: everything that runs for it ends.
    pub(crate) ended: CancellationToken,
    pub(crate) alive: Mutex<Weak<Alive>>,
    /// The node was shut down: it sends nothing and takes nothing new.
    over: AtomicBool,
    /// What ports that run callbacks tell.
    pub(crate) hooks: Arc<Hooks>,
    /// Where the node listens, and where others are told to dial.
    pub(crate) listening: watch::Sender<Listening>,
    core: Mutex<Core>,
    started: tokio::time::Instant,
    alarm: Notify,
}

/// A function that others may call or spawn by name. It gets its node, its port unless it was only
/// called, and who asked with which arguments.
pub(crate) type Function = Arc<
    dyn Fn(&Arc<Shared>, Option<&PortName>, MessageRef<'_>) -> Result<(), String> + Send + Sync,
>;

/// Answers expressions that peers ask to be evaluated: results, or an error text.
pub(crate) type EvalHook = Arc<dyn Fn(&str, &NodeId) -> Result<Vec<Value>, String> + Send + Sync>;

/// Ends the node when the last handle is dropped.
pub(crate) struct Alive(pub(super) Weak<Shared>);

impl Drop for Alive {
    fn drop(&mut self) {
        if let Some(shared) = self.0.upgrade() {
            shared.end();
        }
    }
}

/// What a node is made of.
pub(crate) struct NodeParts {
    pub(crate) settings: NodeSettings,
    pub(crate) kernel: crate::kernel::KernelConfig,
    pub(crate) listening: Listening,
    pub(crate) runtime: tokio::runtime::Handle,
}

pub(super) struct Core {
    pub(super) kernel: Kernel,
    pub(super) conns: HashMap<ConnId, Connection>,
    pub(super) watches: HashMap<WatchId, Watching>,
    pub(super) queries: HashMap<QueryId, queue::Sender<DbAnswer>>,
    pub(super) db_monitors: HashMap<DbMonitorId, queue::Sender<ChangeSet>>,
    pub(super) events: Vec<queue::Sender<NodeEvent>>,
    /// A task looks after the monitors of called ports.
    pub(super) sweeps_calls: bool,
    pub(super) fan_outs: FanOuts,
    /// When the alarm is set to go off.
    alarm_at: Option<Duration>,
    /// Room for effects, empty.
    pub(super) effects: Vec<Effect>,
}

/// The kernel's lock. Whatever is delivered, fired or woken while it is held is queued on this thread,
/// and runs when it was released.
pub(super) struct LockedCore<'a> {
    // Dropped in this order.
    core: MutexGuard<'a, Core>,
    locked: Locked,
}

impl LockedCore<'_> {
    /// Releases the lock to a thread that waits for it, if one does.
    pub(super) fn hand_over(self) {
        let LockedCore { core, locked } = self;
        MutexGuard::unlock_fair(core);
        drop(locked);
    }
}

impl Deref for LockedCore<'_> {
    type Target = Core;

    fn deref(&self) -> &Core {
        &self.core
    }
}

impl DerefMut for LockedCore<'_> {
    fn deref_mut(&mut self) -> &mut Core {
        &mut self.core
    }
}

/// A connection's task, as the kernel's effects reach it.
pub(super) struct Connection {
    pub(super) control: mpsc::UnboundedSender<Control>,
    /// Set when the connection is given up: its reader stops at once.
    pub(super) over: Arc<AtomicBool>,
    pub(super) framing: Framing,
    /// Known as soon as both sides are authenticated.
    pub(super) protection: Option<Protection>,
}

/// How a sender heeds that much waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pressure {
    /// Not at all: the log warns.
    Ignored,
    /// It waits before it sends more.
    Yielding,
}

/// What the node does when a monitor fires.
pub(crate) enum Watching {
    /// A future gets the reason.
    Future(queue::Sender<KillReason>),
    /// All calls that wait for this port fail.
    Calls(PortId),
    /// A callback runs.
    Callback(Box<dyn FnOnce(KillReason) + Send>),
    /// A callback runs as a port, in order with its messages.
    PortCallback(Arc<CallbackCell>, Box<dyn FnOnce(KillReason) -> Result<(), String> + Send>),
}

impl Shared {
    pub(crate) fn new(parts: NodeParts) -> Arc<Self> {
        let NodeParts { settings, kernel, listening, runtime } = parts;
        let started = tokio::time::Instant::now();
        let mut kernel = Kernel::new(kernel, Now { uptime: Duration::ZERO, wall: wall_clock() });
        kernel.set_limits(settings.peer_limits);
        let replies = Arc::new(Replies::new(kernel.entropy()));
        let service_port = kernel.service_port().clone();
        let shared = Arc::new_cyclic(|weak: &Weak<Shared>| Shared {
            id: kernel.node().clone(),
            listening: watch::Sender::new(listening),
            ports: PortTable::new(replies),
            lanes: Lanes::new(settings.lane_limits),
            counters: ConnectionCounters::default(),
            pending: PendingHandshakes::new(settings.handshake_limits),
            settings,
            functions: RwLock::default(),
            eval: RwLock::default(),
            streams: Streams::default(),
            hooks: hooks(weak.clone(), runtime.clone()),
            runtime,
            ended: CancellationToken::new(),
            alive: Mutex::new(Weak::new()),
            over: AtomicBool::new(false),
            core: Mutex::new(Core {
                kernel,
                conns: HashMap::default(),
                watches: HashMap::default(),
                queries: HashMap::default(),
                db_monitors: HashMap::default(),
                events: Vec::new(),
                sweeps_calls: false,
                fan_outs: FanOuts::default(),
                alarm_at: None,
                effects: Vec::new(),
            }),
            started,
            alarm: Notify::new(),
        });
        shared.ports.insert(service_port.as_ref(), PortCell::Service);
        shared
    }

    /// For how long the node has been running.
    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Lets the kernel's clock run: has to be polled as long as the node lives.
    pub(crate) async fn keep_time(self: Arc<Self>) {
        loop {
            let next = self.kernel(|kernel| kernel.next_tick());
            let rung = self.alarm.notified();
            match next {
                Some(at) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(self.started + at) => {}
                        () = rung => {}
                        () = self.ended.cancelled() => return,
                    }
                }
                None => {
                    tokio::select! {
                        () = rung => {}
                        () = self.ended.cancelled() => return,
                    }
                }
            }
            self.kernel(Kernel::tick);
        }
    }

    /// Gives the kernel an input and carries out what it wants done.
    ///
    /// Code of the program that is to run because of it runs on this thread after the kernel's lock
    /// is released, before this returns; unless this thread is running such code already: then that
    /// is finished first.
    pub(crate) fn kernel<R>(self: &Arc<Self>, input: impl FnOnce(&mut Kernel) -> R) -> R {
        self.with_core(|_, core| input(&mut core.kernel))
    }

    pub(super) fn with_core<R>(
        self: &Arc<Self>,
        input: impl FnOnce(&Arc<Self>, &mut Core) -> R,
    ) -> R {
        let mut core = self.lock();
        let result = input(self, &mut core);
        self.carry_out(&mut core);
        self.set_alarm(&mut core);
        result
    }

    /// The kernel's lock, with the time told.
    pub(super) fn lock(&self) -> LockedCore<'_> {
        let locked = Locked::begin();
        let mut core = self.core.lock();
        core.kernel.set_now(Now { uptime: self.started.elapsed(), wall: wall_clock() });
        LockedCore { core, locked }
    }

    pub(super) fn set_alarm(&self, core: &mut Core) {
        let next = core.kernel.next_tick();
        if next.is_some() && (core.alarm_at.is_none() || next < core.alarm_at) {
            self.alarm.notify_one();
        }
        core.alarm_at = next;
    }

    pub(super) fn add_connection(&self, core: &mut Core, conn: ConnId) -> Orders {
        let (control, orders) = mpsc::unbounded_channel();
        let over = Arc::new(AtomicBool::new(false));
        let (framing, protection) = (Framing::Cbor, None);
        let connection = Connection { control, over: over.clone(), framing, protection };
        core.conns.insert(conn, connection);
        Orders { orders, over }
    }

    /// Somebody has connected to us.
    pub(crate) fn accepted(self: &Arc<Self>) -> (ConnId, Orders) {
        self.with_core(|shared, core| {
            let conn = core.kernel.accepted();
            (conn, shared.add_connection(core, conn))
        })
    }

    /// A connection has been authenticated in both directions.
    pub(crate) fn established(
        self: &Arc<Self>,
        conn: ConnId,
        framing: Framing,
        protection: Protection,
        how: &crate::kernel::Authenticated,
    ) {
        self.with_core(|_, core| {
            if let Some(connection) = core.conns.get_mut(&conn) {
                connection.framing = framing;
                connection.protection = Some(protection);
            }
            core.kernel.established(conn, how);
        });
    }

    /// A connection has ended.
    pub(crate) fn closed(self: &Arc<Self>, conn: ConnId, why: &str) {
        self.with_core(|_, core| {
            core.conns.remove(&conn);
            core.kernel.closed(conn, why);
        });
    }

    /// Makes a port; `make` gets its name.
    pub(crate) fn open_port(self: &Arc<Self>, make: impl FnOnce(PortName) -> PortCell) -> PortName {
        self.with_core(|shared, core| {
            let name = core.kernel.open_port();
            let cell = make(name.clone());
            if shared.is_over() {
                cell.close(Packed::default(), CloseWhen::Now);
            } else {
                shared.ports.insert(name.as_ref(), cell);
            }
            name
        })
    }

    /// Sets a monitor.
    pub(crate) fn watch(self: &Arc<Self>, target: &PortId, watching: Watching) -> WatchId {
        self.with_core(|shared, core| {
            let watch = shared.watch_in(&mut core.kernel, target, crate::kernel::Watcher::Host);
            if shared.is_over() {
                run_queue::run(move || drop(watching));
            } else {
                core.watches.insert(watch, watching);
            }
            watch
        })
    }

    /// Removes a monitor; what it would have run is dropped, without a lock.
    pub(crate) fn unwatch(self: &Arc<Self>, watch: WatchId) {
        self.with_core(|_, core| {
            core.kernel.unwatch(watch);
            if let Some(watching) = core.watches.remove(&watch) {
                run_queue::run(move || drop(watching));
            }
        });
    }

    /// Asks the database.
    pub(crate) fn query(
        self: &Arc<Self>,
        ask: impl FnOnce(&mut Kernel) -> QueryId,
    ) -> (QueryId, queue::Receiver<DbAnswer>) {
        self.with_core(|shared, core| {
            let (sender, receiver) = queue::queue();
            let query = ask(&mut core.kernel);
            if !shared.is_over() {
                core.queries.insert(query, sender);
            }
            (query, receiver)
        })
    }

    /// Nobody waits for the answer any more.
    pub(crate) fn cancel_query(self: &Arc<Self>, query: QueryId) {
        self.with_core(|_, core| {
            if core.queries.remove(&query).is_some() {
                core.kernel.cancel_query(query);
            }
        });
    }

    /// Monitors a family of the database.
    pub(crate) fn monitor_family(
        self: &Arc<Self>,
        family: &Str,
    ) -> (DbMonitorId, queue::Receiver<ChangeSet>) {
        self.with_core(|shared, core| {
            let (sender, receiver) = queue::queue();
            let monitor = core.kernel.monitor_family(family);
            if !shared.is_over() {
                core.db_monitors.insert(monitor, sender);
            }
            (monitor, receiver)
        })
    }

    pub(crate) fn unmonitor_family(self: &Arc<Self>, monitor: DbMonitorId) {
        self.with_core(|_, core| {
            core.db_monitors.remove(&monitor);
            core.kernel.unmonitor_family(monitor);
        });
    }

    /// Tells of nodes that come and go, beginning with those that are up.
    pub(crate) fn node_events(self: &Arc<Self>) -> queue::Receiver<NodeEvent> {
        self.with_core(|shared, core| {
            let (sender, receiver) = queue::queue();
            if shared.is_over() {
                return receiver;
            }
            for (node, untrusted) in core.kernel.up_nodes_with_trust() {
                sender.push(NodeEvent::Up { node, untrusted });
            }
            core.events.push(sender);
            receiver
        })
    }

    /// Takes a message of this node to one of its own ports.
    pub(super) fn take_own(self: &Arc<Self>, port: StrRef<'_>, message: Elements<'_>) {
        if port.is_empty() {
            self.kernel(|kernel| {
                self.tell_of_port_named_by(kernel, message);
                kernel.node_packet(&self.id, message);
            });
        } else {
            self.deliver(port, &self.id, message);
        }
    }

    /// Delivers a message to a port of this node; it is dropped if there is none.
    #[inline]
    pub(crate) fn deliver(
        self: &Arc<Self>,
        port: StrRef<'_>,
        from: &NodeId,
        message: Elements<'_>,
    ) {
        self.deliver_all(port, from, &mut std::iter::once(message));
    }

    /// As [`Shared::deliver`], for at least the first of these messages.
    #[inline]
    pub(crate) fn deliver_all<'a>(
        self: &Arc<Self>,
        port: StrRef<'_>,
        from: &NodeId,
        messages: &mut impl Iterator<Item = Elements<'a>>,
    ) {
        match self.ports.deliver(port, from, messages) {
            Delivery::Done | Delivery::Queued { .. } | Delivery::NoSuchPort => {}
            Delivery::Service => {
                if let Some(message) = messages.next() {
                    self.kernel(|kernel| kernel.service_message(from, message));
                }
            }
            Delivery::Overflow => self.overflowed(&port.to_owned()),
        }
    }

    pub(crate) fn overflowed(self: &Arc<Self>, port: &PortName) {
        self.kill_own(port, &overflow());
    }

    /// Kills a port of this node.
    pub(crate) fn kill_own(self: &Arc<Self>, port: &PortName, reason: &Packed) {
        let id = self.port_id(port);
        self.kernel(|kernel| kernel.kill(&id, reason));
    }

    pub(super) fn port_id(&self, port: &PortName) -> PortId {
        PortId::new(&self.id, port)
    }

    /// Sends a packet, port name first, to the remote node that `to` is on, by its lane if that is
    /// at hand.
    #[inline]
    pub(crate) fn send_remote(
        self: &Arc<Self>,
        to: &PortId,
        lane: Option<Arc<SharedLane>>,
        packet: Elements<'_>,
        how: Pressure,
    ) -> Result<(), SendError> {
        if self.is_over() {
            return Err(SendError::Shutdown);
        }
        match self.lanes.append_by(lane, to, packet)? {
            Sent::Done => {}
            Sent::Congested if how == Pressure::Yielding => {}
            Sent::Congested => tracing::warn!(node = %self.id, "{}", self.congestion(&to.node())),
            Sent::WantConnection => self.kernel(|kernel| kernel.want_connection(&to.node())),
            Sent::Overflow => self.kernel(|kernel| {
                // Only what is sought or connected can be given up.
                kernel.want_connection(&to.node());
                kernel.disconnect(&to.node(), OVERFLOW);
            }),
        }
        Ok(())
    }

    /// Shows a packet that is sent, port name first.
    #[inline]
    pub(crate) fn trace_sent(&self, to: StrRef<'_>, packet: Elements<'_>) {
        if let Some(TraceSink(sink)) = &self.settings.trace {
            sink(&format!("SND {to} <- {packet}"));
        }
    }

    /// Shows a message that was received.
    #[inline]
    pub(crate) fn trace_received(&self, from: &NodeId, port: StrRef<'_>, message: Elements<'_>) {
        if let Some(TraceSink(sink)) = &self.settings.trace {
            sink(&format!("RCV {from} -> [\"{port}\"] {message}"));
        }
    }

    pub(super) fn congestion(&self, node: &NodeId) -> String {
        let limits = self.settings.lane_limits;
        format!(
            "more than {} octets wait for {node}, which is given up at {}; snd_wait would wait",
            limits.soft, limits.hard
        )
    }

    /// Whether the node was shut down.
    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Ends everything: connections are closed, ports die normally.
    pub(crate) fn end(self: &Arc<Self>) {
        let locked = Locked::begin();
        let ended = {
            let mut core = self.core.lock();
            self.over.store(true, Ordering::Relaxed);
            core.db_monitors.clear();
            core.queries.clear();
            core.events.clear();
            std::mem::take(&mut core.watches)
        };
        self.ended.cancel();
        self.lanes.end();
        self.ports.replies().fail_all();
        run_queue::run(move || drop(ended));
        for cell in self.ports.drain() {
            cell.close(Packed::default(), CloseWhen::AfterWaiting);
        }
        drop(locked);
        let functions = std::mem::take(&mut *self.functions.write());
        let eval = self.eval.write().take();
        drop((functions, eval));
        self.streams.end();
    }
}

fn hooks(shared: Weak<Shared>, runtime: tokio::runtime::Handle) -> Arc<Hooks> {
    Arc::new(Hooks {
        died: Arc::new(move |port, reason| {
            if let Some(shared) = shared.upgrade() {
                shared.kill_own(port, &reason);
            }
        }),
        // Ports that keep each other busy must not keep whoever sent the first message.
        run_elsewhere: Some(Box::new(move |leftover| {
            runtime.spawn(async move { leftover.run() });
        })),
    })
}

pub(super) fn overflow() -> Packed {
    died("too many messages were waiting")
}

pub(super) const OVERFLOW: &str = "too much waits to be sent";

fn wall_clock() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use crate::node::{Context, Node};
    use std::sync::Arc;
    use std::time::Duration;

    async fn node(id: &str) -> Node {
        let builder = Node::builder().node_id(id).secret("secret");
        builder.bind("127.0.0.1:0").start().await.unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_node_whose_handles_are_gone_is_freed() {
        let (one, two) = (node("one").await, node("two").await);
        two.set_seeds(one.addresses());
        two.joined().await;
        two.register("f", |ctx: &Context<'_>, (): ()| ctx.on("x", |_: &Context<'_>, (): ()| {}));
        two.spawn(two.id(), "f", ()).unwrap();
        let port = two.port_of_tags();
        port.on("x", |_: &Context<'_>, (): ()| {});
        port.background(std::future::pending::<()>());
        port.after(Duration::from_secs(3600), |_: &Context<'_>| {}).detach();
        two.monitor(one.id()).try_reason();
        let weak = Arc::downgrade(two.shared());
        // One is shut down, the other is just dropped.
        let dropped = Arc::downgrade(one.shared());
        drop((one, port));
        two.shutdown().await;
        for weak in [weak, dropped] {
            let freed = async {
                while weak.upgrade().is_some() {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(30), freed).await.unwrap();
        }
    }
}
