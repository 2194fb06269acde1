//! The inside of a node: what its handles and connections share, and the kernel with its lock.

use super::call_room::CallRoom;
use super::connection::orders::Control;
use super::connection::pending::PendingHandshakes;
use super::connection::repeats::Repeats;
use super::connection::streams::table::Streams;
use super::counters::ConnectionCounters;
use super::events::NodeEvent;
use super::fan_out::FanOuts;
use super::lanes::Lanes;
use super::long_work::Turns;
use super::message::{KillReason, MessageRef};
use super::port::{
    CallbackCell, CloseWhen, Hooks, Locked, PortCell, PortTable, Replies, run_queue,
};
use super::queue;
use super::settings::NodeSettings;
use crate::kernel::db::{ChangeSet, DbAnswer, DbMonitorId, QueryId};
use crate::kernel::{ConnId, Effect, Kernel, MonitorId, Now, PortName};
use crate::value::{NodeId, Packed, PortId, Str, Value};
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

/// Effects that may wait to be carried out together. Capacity above this is freed after use.
pub(super) const MAX_KEPT_EFFECTS: usize = 16;

/// Everything that the handles of a node share.
pub(crate) struct Shared {
    pub(crate) id: NodeId,
    pub(crate) settings: NodeSettings,
    pub(crate) ports: PortTable,
    pub(crate) lanes: Lanes,
    pub(super) call_room: CallRoom,
    pub(crate) counters: ConnectionCounters,
    /// Connections whose peers have not authenticated yet.
    pub(crate) pending: Arc<PendingHandshakes>,
    /// Of handshakes: one for each thread of the runtime.
    pub(super) handshake_turns: Turns,
    /// Failed dials, so that the log does not repeat each of them.
    pub(crate) failed_dials: Repeats,
    pub(crate) functions: RwLock<HashMap<Str, Function>>,
    pub(crate) eval: RwLock<Option<EvalHook>>,
    pub(crate) streams: Arc<Streams>,
    pub(crate) runtime: tokio::runtime::Handle,
    /// Cancelled when the node shuts down; ends everything that runs for it.
    pub(crate) ended: CancellationToken,
    pub(crate) alive: Mutex<Weak<Alive>>,
    /// Set when the node was shut down: it sends nothing and accepts nothing new.
    over: AtomicBool,
    /// How callback ports report to the node.
    pub(crate) hooks: Arc<Hooks>,
    /// Where the node listens, and where others are told to dial.
    pub(crate) listening: watch::Sender<Listening>,
    core: Mutex<Core>,
    started: tokio::time::Instant,
    alarm: Notify,
}

/// A function that others may call or spawn by name. It gets the node, the port (unless it was only
/// called), and the sender and arguments as a message.
pub(crate) type Function = Arc<
    dyn Fn(&Arc<Shared>, Option<&PortName>, MessageRef<'_>) -> Result<(), String> + Send + Sync,
>;

/// Evaluates expressions for peers: returns results, or an error text.
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

/// The state of the listeners, for the node's other parts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Listening {
    /// The addresses that others are told to dial, as `host:port`.
    pub(crate) addresses: Vec<Str>,
    /// Why the node listens nowhere, if it should listen somewhere.
    pub(crate) nowhere: Option<String>,
}

/// Everything needed to make a node.
pub(crate) struct NodeParts {
    pub(crate) settings: NodeSettings,
    pub(crate) kernel: crate::kernel::KernelConfig,
    pub(crate) listening: Listening,
    pub(crate) runtime: tokio::runtime::Handle,
}

pub(super) struct Core {
    pub(super) kernel: Kernel,
    pub(super) conns: HashMap<ConnId, Connection>,
    pub(super) monitors: HashMap<MonitorId, OnFire>,
    pub(super) queries: HashMap<QueryId, queue::Sender<DbAnswer>>,
    pub(super) db_monitors: HashMap<DbMonitorId, queue::Sender<ChangeSet>>,
    pub(super) events: Vec<queue::Sender<NodeEvent>>,
    /// Whether a task is running that removes unused monitors of called ports.
    pub(super) sweeps_calls: bool,
    pub(super) fan_outs: FanOuts,
    wall_clock: WallClock,
    /// When the alarm is due.
    alarm_at: Option<Duration>,
    /// An empty buffer for effects, reused.
    pub(super) effects: Vec<Effect>,
}

/// The kernel's lock. Whatever is delivered, fired or woken while it is held is queued on this
/// thread, and runs after the lock is released.
pub(super) struct LockedCore<'a> {
    // The fields are dropped in this order.
    core: MutexGuard<'a, Core>,
    locked: Locked,
    /// How long the node had been running when the lock was taken.
    pub(super) taken_at: Duration,
}

impl LockedCore<'_> {
    /// Releases the lock, to a waiting thread if there is one.
    pub(super) fn hand_over(self) {
        let LockedCore { core, locked, .. } = self;
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

/// A connection's task, as seen by the kernel's effects.
pub(super) struct Connection {
    pub(super) control: mpsc::UnboundedSender<Control>,
    /// Set when the connection is given up, so that its reader stops at once.
    pub(super) over: Arc<AtomicBool>,
    pub(super) framing: Framing,
    /// Known as soon as both sides are authenticated.
    pub(super) protection: Option<Protection>,
}

/// What the node does when a monitor fires.
pub(crate) enum OnFire {
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
        let wall_clock = WallClock::read(Duration::ZERO);
        let mut kernel =
            Kernel::new(kernel, Now { uptime: Duration::ZERO, wall: wall_clock.seconds });
        kernel.set_limits(settings.peer_limits);
        let replies = Arc::new(Replies::new(kernel.entropy()));
        let service_port = kernel.service_port().clone();
        let shared = Arc::new_cyclic(|weak: &Weak<Shared>| Shared {
            id: kernel.node().clone(),
            listening: watch::Sender::new(listening),
            ports: PortTable::new(replies),
            lanes: Lanes::new(settings.lane_limits),
            call_room: CallRoom::new(settings.port_limit),
            counters: ConnectionCounters::default(),
            pending: PendingHandshakes::new(settings.handshake_limits),
            handshake_turns: Turns::new(runtime.metrics().num_workers()),
            failed_dials: Repeats::default(),
            streams: Streams::new(settings.peer_limits.table),
            settings,
            functions: RwLock::default(),
            eval: RwLock::default(),
            hooks: hooks(weak.clone(), runtime.clone()),
            runtime,
            ended: CancellationToken::new(),
            alive: Mutex::new(Weak::new()),
            over: AtomicBool::new(false),
            core: Mutex::new(Core {
                kernel,
                conns: HashMap::default(),
                monitors: HashMap::default(),
                queries: HashMap::default(),
                db_monitors: HashMap::default(),
                events: Vec::new(),
                sweeps_calls: false,
                fan_outs: FanOuts::default(),
                wall_clock,
                alarm_at: None,
                effects: Vec::new(),
            }),
            started,
            alarm: Notify::new(),
        });
        shared.ports.insert(service_port.as_ref(), PortCell::Service);
        shared
    }

    /// How long the node has been running.
    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Runs the kernel's timers. Must be polled for as long as the node lives.
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
            // A lost member's database is deleted in many ticks that are due at once.
            tokio::task::yield_now().await;
        }
    }

    /// Passes an input to the kernel and carries out the resulting effects.
    ///
    /// Code of the program that runs because of it runs on this thread after the kernel's lock is
    /// released and before this returns. If this thread is already running such code, that code
    /// finishes first.
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

    /// Takes the kernel's lock and sets the kernel's time.
    pub(super) fn lock(&self) -> LockedCore<'_> {
        let locked = Locked::begin();
        let mut core = self.core.lock();
        let taken_at = self.uptime();
        let wall = core.wall_clock.at(taken_at);
        core.kernel.set_now(Now { uptime: taken_at, wall });
        LockedCore { core, locked, taken_at }
    }

    pub(super) fn set_alarm(&self, core: &mut Core) {
        let next = core.kernel.next_tick();
        if next.is_some() && (core.alarm_at.is_none() || next < core.alarm_at) {
            self.alarm.notify_one();
        }
        core.alarm_at = next;
    }

    /// Whether the node was shut down.
    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Ends the node: connections are closed, ports die normally.
    pub(crate) fn end(self: &Arc<Self>) {
        let locked = Locked::begin();
        let ended = {
            let mut core = self.core.lock();
            self.over.store(true, Ordering::Relaxed);
            core.db_monitors.clear();
            core.queries.clear();
            core.events.clear();
            std::mem::take(&mut core.monitors)
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
        // Ports that keep each other busy must not occupy the thread that sent the first message.
        run_elsewhere: Some(Box::new(move |leftover| {
            runtime.spawn(async move { leftover.run() });
        })),
    })
}

/// The time of day. The system's clock is read once a second at most, since the kernel needs it only to
/// answer the request `time`, but is told of it with each input; in between it goes on with the uptime.
struct WallClock {
    /// The uptime when the system's clock was read.
    read_at: Duration,
    /// What it was then, in seconds since the epoch.
    seconds: f64,
}

/// Uptime after which the system's clock is read again.
const WALL_CLOCK_AGE: Duration = Duration::from_secs(1);

impl WallClock {
    fn read(uptime: Duration) -> Self {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        WallClock { read_at: uptime, seconds: seconds.as_secs_f64() }
    }

    /// Seconds since the epoch at this uptime, which is now.
    fn at(&mut self, uptime: Duration) -> f64 {
        let age = uptime.saturating_sub(self.read_at);
        if age < WALL_CLOCK_AGE {
            return self.seconds + age.as_secs_f64();
        }
        *self = WallClock::read(uptime);
        self.seconds
    }
}

#[cfg(test)]
mod tests {
    use super::WallClock;
    use crate::node::{Context, Node};
    use std::sync::Arc;
    use std::time::Duration;

    #[test]
    fn the_wall_clock_goes_on_with_the_uptime_and_is_read_again_after_a_second() {
        let mut clock = WallClock { read_at: Duration::from_secs(5), seconds: 100.0 };
        assert!((clock.at(Duration::from_millis(5250)) - 100.25).abs() < 1e-6);
        let now = clock.at(Duration::from_secs(6));
        assert!(now > 1e9, "{now} is what the system says");
        assert!((clock.at(Duration::from_millis(6500)) - now - 0.5).abs() < 1e-6);
    }

    async fn node(id: &str) -> Node {
        let builder = Node::builder().node_id(id).secret("secret");
        builder.bind("127.0.0.1:0").start().await.unwrap()
    }

    #[tokio::test]
    async fn other_tasks_run_between_the_ticks_that_delete_a_lost_members_database() {
        const KEYS: usize = 5000;
        let (one, two) = (node("one").await, node("two").await);
        one.become_global();
        two.set_seeds(one.addresses());
        two.joined().await;
        for key in 0..KEYS {
            two.db().set("f", key.to_string().as_str(), ()).unwrap();
        }
        let octets = || one.shared().kernel(|kernel| kernel.database_octets());
        while one.db().keys("f").await.unwrap().len() < KEYS {
            tokio::task::yield_now().await;
        }
        let before = octets();
        two.shutdown().await;
        let mut seen = std::collections::BTreeSet::new();
        while octets() > before / 10 {
            seen.insert(octets());
            tokio::task::yield_now().await;
        }
        assert!(seen.len() > 5, "{seen:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_node_whose_handles_are_gone_is_freed() {
        let (one, two) = (node("one").await, node("two").await);
        two.set_seeds(one.addresses());
        two.joined().await;
        two.expose("f", |ctx: &Context<'_>, (): ()| ctx.on("x", |_: &Context<'_>, (): ()| {}));
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
