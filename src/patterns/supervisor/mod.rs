//! Supervisors: start children, start them again when they die, and give up when that does not help.
//!
//! Terms and semantics are those of Erlang/OTP's [supervisor
//! behaviour](https://www.erlang.org/doc/system/sup_princ.html), with these differences:
//!
//! - Restarts are delayed more and more: the first within the period is immediate, the second comes
//!   after 100 ms, then twice as long each time, up to 5 s ([`Supervisor::backoff`]).
//! - A child that cannot be started counts as one that died, also at the first start.
//! - A supervisor that gives up dies with the reason `die`, so that its own supervisor treats that
//!   as a failure; OTP's ends with `shutdown`.
//! - Children of a [`Strategy::OneForOne`] supervisor do not wait for each other to start.
//!
//! A child whose node is lost may still be alive there. It is started elsewhere at once, so for a
//! moment there may be two. If the first is an actor, it ends by itself because it has lost its
//! supervisor, too. In any case the supervisor kills it as soon as its node can be reached again.
//!
//! ```
//! use aemp::Node;
//! use aemp::patterns::supervisor::{Child, Place, Strategy, Supervisor};
//! # use aemp::patterns::{Failure, actor::{Actor, ActorContext}};
//! # struct Counter(i64);
//! # impl Actor for Counter {
//! #     type Message = (String,);
//! #     async fn handle(&mut self, _: &ActorContext, _: (String,)) -> Result<(), Failure> { Ok(()) }
//! # }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let node = Node::builder().alone().start().await?;
//! let supervisor = Supervisor::new(Strategy::OneForOne)
//!     .child(Child::actor("counter", || Counter(0)))
//!     .child(Child::spawned("remote", Place::Family("hosts".into()), "My::Worker::new", (1, 2)))
//!     .start(&node);
//! supervisor.stop()?;
//! assert!(supervisor.monitor().await.is_normal());
//! # Ok(()) }
//! ```

mod child;
mod plan;

pub use child::{Child, Place};

use super::Failure;
use super::actor::{self, Actor, ActorContext, ActorRef, LINK, STOP};
use crate::node::{KillReason, MonitorGuard, Node, Reply};
use crate::value::{NodeId, PortId};
use plan::{Action, Plan, TooMany};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::task::AbortOnDropHandle;

/// Which children are restarted when one of them dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// Only that one.
    OneForOne,
    /// All: the others are stopped first, in reverse order.
    OneForAll,
    /// That one and those that were started after it.
    RestForOne,
}

/// When a child is restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// Always.
    Permanent,
    /// Unless it ended normally or with the reason `shutdown`.
    Transient,
    /// Never, not even when others are restarted.
    Temporary,
}

/// Children, and what happens when they die; see the [module](self).
#[derive(Debug)]
pub struct Supervisor {
    strategy: Strategy,
    intensity: (usize, Duration),
    backoff: (Duration, Duration),
    children: Vec<Child>,
}

/// The requests that a supervisor answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Request {
    /// The children in order, each with its port if it is running.
    Children(Reply<Vec<(String, Option<PortId>)>>),
}

impl Supervisor {
    /// A supervisor without children. By default it gives up at the second restart within 5 s, like
    /// OTP's.
    pub const fn new(strategy: Strategy) -> Self {
        Supervisor {
            strategy,
            intensity: (1, Duration::from_secs(5)),
            backoff: (Duration::from_millis(100), Duration::from_secs(5)),
            children: Vec::new(),
        }
    }

    /// Gives up when more than `restarts` are needed within `period`.
    #[must_use]
    pub const fn intensity(mut self, restarts: usize, period: Duration) -> Self {
        self.intensity = (restarts, period);
        self
    }

    /// Sets the pause before the second restart within the period, and the longest pause.
    #[must_use]
    pub const fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.backoff = (first, longest);
        self
    }

    /// Adds a child, which is started after the others and stopped before them.
    #[must_use]
    pub fn child(mut self, child: Child) -> Self {
        self.children.push(child);
        self
    }

    /// Starts the supervisor and its children.
    pub fn start(self, node: &Node) -> ActorRef<Request> {
        actor::start(node, Supervising::new(self)).retyped()
    }

    /// Makes a supervisor a child of another one: `make` makes it anew for each start.
    pub fn as_child(id: &str, make: impl Fn() -> Supervisor + Send + Sync + 'static) -> Child {
        Child::actor(id, move || Supervising::new(make()))
    }
}

/// A running supervisor.
struct Supervising {
    plan: Plan,
    children: Vec<Running>,
    began: Instant,
    timer: Option<AbortOnDropHandle<()>>,
}

struct Running {
    child: Child,
    /// Number of the current start, so that reports about earlier ones are recognised.
    generation: u64,
    port: Option<PortId>,
    lost_on: Option<NodeId>,
    /// The task that starts the child, or that kills it if it does not stop.
    task: Option<AbortOnDropHandle<()>>,
    monitor: Option<MonitorGuard>,
}

/// Requests of others, and the supervisor's messages to itself.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Event {
    Children(Reply<Vec<(String, Option<PortId>)>>),
    /// A child was started.
    Began(usize, u64, PortId),
    /// The child could not be started.
    Failed(usize, u64, String),
    /// The child died: whether it ended normally, and whether its node was lost.
    Died(usize, u64, bool, bool),
    /// The pause is over.
    Tick,
}

impl Supervising {
    fn new(supervisor: Supervisor) -> Self {
        let restarts = supervisor.children.iter().map(|child| child.restart);
        let (strategy, intensity) = (supervisor.strategy, supervisor.intensity);
        let plan = Plan::new(strategy, restarts, intensity, supervisor.backoff);
        let children = supervisor.children.into_iter().map(|child| Running {
            child,
            generation: 0,
            port: None,
            lost_on: None,
            task: None,
            monitor: None,
        });
        let children = children.collect();
        Supervising { plan, children, began: Instant::now(), timer: None }
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Performs the actions that are due.
    fn act(&mut self, ctx: &ActorContext) {
        loop {
            let now = self.now();
            match self.plan.next(now) {
                Some(Action::Start(index)) => self.start_child(ctx, index),
                Some(Action::Stop(index)) => {
                    if !self.stop_child(ctx, index) {
                        // It was only being started, so there is nothing to wait for.
                        let _ = self.plan.died(index, true, now);
                    }
                }
                Some(Action::Wait(until)) => {
                    let (node, id, at) = (ctx.node().weak(), ctx.id().clone(), self.began + until);
                    let tick = async move {
                        sleep_until(at).await;
                        let _ = node.snd(id, Event::Tick);
                    };
                    self.timer = Some(AbortOnDropHandle::new(tokio::spawn(tick)));
                    return;
                }
                None => return,
            }
        }
    }

    fn start_child(&mut self, ctx: &ActorContext, index: usize) {
        let Some(running) = self.children.get_mut(index) else { return };
        running.generation += 1;
        let (node, id, generation) = (ctx.node().weak(), ctx.id().clone(), running.generation);
        let start = running.child.start.clone();
        let lost = running.lost_on.clone();
        let start = async move {
            // A panic counts as a failed start.
            let starting = tokio::spawn(async move { start(node.weak(), lost).await });
            let starting = AbortOnDropHandle::new(starting).await;
            starting.unwrap_or_else(|panic| Err(panic.into()))
        };
        let told = ctx.node().weak();
        let task = async move {
            let event = match start.await {
                Ok(port) => Event::Began(index, generation, port),
                Err(error) => Event::Failed(index, generation, error.to_string()),
            };
            let _ = told.snd(id, event);
        };
        running.task = Some(AbortOnDropHandle::new(tokio::spawn(task)));
    }

    fn began(&mut self, ctx: &ActorContext, index: usize, generation: u64, port: PortId) {
        let node = ctx.node();
        let Some(running) = self.children.get_mut(index) else { return };
        if running.generation != generation || running.port.is_some() {
            node.kil(port, &stopped());
            return;
        }
        if running.child.is_actor && port.node() != *node.id() {
            let _ = node.snd(&port, (LINK, ctx.id()));
        }
        let (told, id) = (node.weak(), ctx.id().clone());
        running.task = None;
        running.monitor = Some(node.on_death(&port, move |reason: KillReason| {
            let is_normal = reason.is_normal() || reason.tag().is_some_and(|tag| tag == "shutdown");
            let event = Event::Died(index, generation, is_normal, reason.is_transport_error());
            let _ = told.snd(id, event);
        }));
        running.port = Some(port);
        self.plan.started(index);
    }

    /// Stops a child that is running; returns false if there is nothing to stop.
    fn stop_child(&mut self, ctx: &ActorContext, index: usize) -> bool {
        let Some(running) = self.children.get_mut(index) else { return false };
        running.task = None;
        let Some(port) = running.port.clone() else {
            running.generation += 1;
            return false;
        };
        let (node, limit) = (ctx.node().weak(), running.child.shutdown);
        if running.child.is_actor {
            let _ = node.snd(&port, (STOP,));
            let kill = async move {
                sleep(limit).await;
                node.kil(port, &stopped());
            };
            running.task = Some(AbortOnDropHandle::new(tokio::spawn(kill)));
        } else {
            node.kil(port, &stopped());
        }
        true
    }

    fn died(
        &mut self,
        ctx: &ActorContext,
        index: usize,
        generation: u64,
        is_normal: bool,
        is_lost: bool,
    ) -> Result<(), Failure> {
        let now = self.now();
        let Some(running) = self.children.get_mut(index) else { return Ok(()) };
        if running.generation != generation {
            return Ok(());
        }
        (running.task, running.monitor) = (None, None);
        if let Some(port) = running.port.take().filter(|_| is_lost) {
            running.lost_on = Some(port.node());
            drop(tokio::spawn(reclaim(ctx.node().weak(), port)));
        }
        let id = running.child.id.clone();
        self.plan.died(index, is_normal, now).map_err(|TooMany| {
            format!("child {id} died, and that was one restart too many within the period").into()
        })
    }
}

impl Actor for Supervising {
    type Message = Event;

    async fn started(&mut self, ctx: &ActorContext) -> Result<(), Failure> {
        self.began = Instant::now();
        self.act(ctx);
        Ok(())
    }

    async fn handle(&mut self, ctx: &ActorContext, event: Event) -> Result<(), Failure> {
        match event {
            Event::Children(reply) => {
                let children = self.children.iter();
                let children = children.map(|each| (each.child.id.clone(), each.port.clone()));
                reply.send(children.collect())?;
            }
            // These messages are only accepted from this node.
            _ if ctx.from() != ctx.node().id() => {}
            Event::Began(index, generation, port) => self.began(ctx, index, generation, port),
            Event::Failed(index, generation, text) => {
                let id = self.children.get(index).map(|running| &running.child.id);
                tracing::warn!(node = %ctx.node().id(), "child {id:?} was not started: {text}");
                self.died(ctx, index, generation, false, false)?;
            }
            Event::Died(index, generation, is_normal, is_lost) => {
                self.died(ctx, index, generation, is_normal, is_lost)?;
            }
            Event::Tick => {}
        }
        self.act(ctx);
        Ok(())
    }

    /// Stops the children in reverse order, each after the death of the one before.
    async fn stopped(&mut self, ctx: &ActorContext, _: &KillReason) {
        for index in (0..self.children.len()).rev() {
            let port = self.children.get(index).and_then(|running| running.port.clone());
            let Some(port) = port else {
                self.stop_child(ctx, index);
                continue;
            };
            let death = ctx.node().monitor(&port);
            self.stop_child(ctx, index);
            let limit = self.children.get(index).map(|running| running.child.shutdown);
            // It is killed after its limit; a child that cannot be reached by then is given up.
            let _ = timeout(limit.unwrap_or_default() + Duration::from_secs(5), death).await;
        }
    }
}

fn stopped() -> KillReason {
    KillReason::new("shutdown", "stopped by its supervisor")
}

/// Kills a port whose node was lost as soon as the node can be reached again, since another port
/// has replaced it.
async fn reclaim(node: Node, port: PortId) {
    let mut pause = Duration::from_millis(500);
    loop {
        node.kil(&port, &KillReason::new("shutdown", "its supervisor has replaced it"));
        if !node.monitor(&port).await.is_transport_error() {
            return;
        }
        tokio::select! {
            () = sleep(pause) => pause = (2 * pause).min(Duration::from_secs(30)),
            () = node.ended() => return,
        }
    }
}
