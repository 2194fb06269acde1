//! A running supervisor: an actor that performs the actions of its plan.

use super::child::{Child, Slot};
use super::plan::{Action, Plan, TooMany};
use super::{Supervisor, child};
use crate::node::{Entry, KillReason, MonitorGuard, Node, NodeEvent, Reply};
use crate::patterns::Failure;
use crate::patterns::actor::{Actor, ActorContext, LINK, STOP};
use crate::value::{NodeId, PortId};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::task::AbortOnDropHandle;

/// How long the supervisor waits for a child that it has killed before it gives up that child.
const KILLED_LIMIT: Duration = Duration::from_secs(5);

/// The longest pause between attempts to kill a child on a node that was lost.
const MAX_RECLAIM_PAUSE: Duration = Duration::from_secs(5);

/// A running supervisor.
pub(super) struct Supervising {
    plan: Plan,
    children: Vec<Running>,
    began: Instant,
    timer: Option<AbortOnDropHandle<()>>,
}

struct Running {
    child: Child,
    /// Number of the current start, so that reports about earlier ones are recognised.
    generation: u64,
    lost_on: Option<NodeId>,
    phase: Phase,
}

enum Phase {
    Down,
    Starting { slot: Arc<Slot>, _task: AbortOnDropHandle<()> },
    Up(RunningChild),
}

/// A child that is running.
struct RunningChild {
    port: PortId,
    _monitor: MonitorGuard,
    _entry: Option<Entry>,
    /// Kills the child if it does not stop.
    killer: Option<AbortOnDropHandle<()>>,
}

impl Running {
    fn port(&self) -> Option<&PortId> {
        match &self.phase {
            Phase::Up(up) => Some(&up.port),
            Phase::Down | Phase::Starting { .. } => None,
        }
    }
}

/// Requests of others, and the supervisor's messages to itself.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Event {
    Children(Reply<Vec<(String, Option<PortId>)>>),
    /// This child was started: its port is in the slot.
    Began(usize, u64),
    /// The child could not be started.
    Failed(usize, u64, String),
    /// The child died: whether it ended normally, and whether its node was lost.
    Died(usize, u64, bool, bool),
    /// The pause is over.
    Tick,
}

impl Supervising {
    pub(super) fn new(supervisor: Supervisor) -> Self {
        let restarts = supervisor.children.iter().map(|child| child.restart);
        let (strategy, intensity) = (supervisor.strategy, supervisor.intensity);
        let plan = Plan::new(strategy, restarts, intensity, supervisor.backoff);
        let children = supervisor.children.into_iter().map(|child| Running {
            child,
            generation: 0,
            lost_on: None,
            phase: Phase::Down,
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
        let slot = Arc::new(Slot::default());
        let start = Start {
            node: ctx.node().weak(),
            supervisor: ctx.id().clone(),
            index,
            generation: running.generation,
            lost_on: running.lost_on.clone(),
            make: running.child.start.clone(),
            is_actor: running.child.is_actor,
            slot: slot.clone(),
        };
        let _task = AbortOnDropHandle::new(tokio::spawn(start.guarded()));
        running.phase = Phase::Starting { slot, _task };
    }

    /// Takes over a child that was started.
    fn began(&mut self, ctx: &ActorContext, index: usize, generation: u64) {
        let Some(running) = self.children.get_mut(index) else { return };
        let Phase::Starting { slot, .. } = &running.phase else { return };
        if running.generation != generation {
            return;
        }
        let Some(port) = slot.take() else { return };
        let (node, told, id) = (ctx.node(), ctx.node().weak(), ctx.id().clone());
        let _monitor = node.on_death(&port, move |reason: KillReason| {
            let is_normal = reason.is_normal() || reason.tag().is_some_and(|tag| tag == "shutdown");
            let event = Event::Died(index, generation, is_normal, reason.is_transport_error());
            let _ = told.snd(id, event);
        });
        let family = running.child.family.clone();
        let entry = family.map(|family| node.db().register(family, &port)).transpose();
        let _entry = entry.unwrap_or_else(|error| {
            let id = &running.child.id;
            tracing::warn!(node = %node.id(), "child {id} cannot be registered: {error}");
            node.kil(&port, &KillReason::new("die", &error.to_string()));
            None
        });
        running.phase = Phase::Up(RunningChild { port, _monitor, _entry, killer: None });
        self.plan.started(index);
    }

    /// Stops a child that is running; returns false if there is nothing to stop.
    fn stop_child(&mut self, ctx: &ActorContext, index: usize) -> bool {
        // The report that it was started may still be queued.
        let generation = self.children.get(index).map(|running| running.generation);
        self.began(ctx, index, generation.unwrap_or_default());
        let Some(running) = self.children.get_mut(index) else { return false };
        let Phase::Up(up) = &mut running.phase else {
            running.generation += 1;
            running.phase = Phase::Down;
            return false;
        };
        let (node, port, limit) = (ctx.node().weak(), up.port.clone(), running.child.shutdown);
        if running.child.is_actor {
            let _ = node.snd(&port, (STOP,));
            let kill = async move {
                sleep(limit).await;
                node.kil(port, &stopped());
            };
            up.killer = Some(AbortOnDropHandle::new(tokio::spawn(kill)));
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
        let ended = std::mem::replace(&mut running.phase, Phase::Down);
        if let Phase::Up(up) = ended
            && is_lost
        {
            running.lost_on = Some(up.port.node());
            reclaim(ctx.node(), up.port);
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
                let children = children.map(|each| (each.child.id.clone(), each.port().cloned()));
                reply.send(children.collect())?;
            }
            // These messages are only accepted from this node.
            _ if ctx.from() != ctx.node().id() => {}
            Event::Began(index, generation) => self.began(ctx, index, generation),
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
            if !self.stop_child(ctx, index) {
                continue;
            }
            let Some(running) = self.children.get(index) else { continue };
            let Some(port) = running.port() else { continue };
            // It is killed after its limit.
            let limit = running.child.shutdown + KILLED_LIMIT;
            let end = timeout(limit, ctx.node().monitor(port)).await;
            if end.is_ok_and(|reason| !reason.is_transport_error()) {
                continue;
            }
            reclaim(ctx.node(), port.clone());
        }
    }
}

/// The task that starts a child.
struct Start {
    node: Node,
    supervisor: PortId,
    index: usize,
    generation: u64,
    lost_on: Option<NodeId>,
    make: child::Start,
    is_actor: bool,
    slot: Arc<Slot>,
}

impl Start {
    /// Starts the child; a panic counts as a failed start.
    async fn guarded(self) {
        let (node, supervisor) = (self.node.weak(), self.supervisor.clone());
        let (index, generation) = (self.index, self.generation);
        let event = match AbortOnDropHandle::new(tokio::spawn(self.run())).await {
            Ok(Ok(())) => Event::Began(index, generation),
            Ok(Err(error)) => Event::Failed(index, generation, error.to_string()),
            Err(panic) => Event::Failed(index, generation, panic.to_string()),
        };
        let _ = node.snd(supervisor, event);
    }

    async fn run(self) -> Result<(), Failure> {
        let port = (self.make)(self.node.weak(), self.lost_on).await?;
        // From here on nothing is awaited, so the port cannot be forgotten.
        if self.is_actor && port.node() != *self.node.id() {
            let _ = self.node.snd(&port, (LINK, &self.supervisor));
        }
        if let Err(unwanted) = self.slot.put(port) {
            self.node.kil(unwanted, &stopped());
        }
        Ok(())
    }
}

fn stopped() -> KillReason {
    KillReason::new("shutdown", "stopped by its supervisor")
}

/// Kills a port whose node was lost as soon as the node can be reached again, since another port
/// has replaced it or its supervisor has ended.
fn reclaim(node: &Node, port: PortId) {
    let node = node.weak();
    drop(tokio::spawn(async move {
        let (own, mut events) = (port.node(), node.events());
        let mut pause = Duration::from_millis(500);
        loop {
            // The monitor requests a connection.
            let death = node.monitor(&port);
            node.kil(&port, &KillReason::new("shutdown", "its supervisor has replaced it"));
            if !death.await.is_transport_error() {
                return;
            }
            let is_up = async {
                while let Some(event) = events.next().await {
                    if matches!(event, NodeEvent::Up { node, .. } if node == own) {
                        return;
                    }
                }
                std::future::pending().await
            };
            tokio::select! {
                () = is_up => {}
                () = sleep(pause) => pause = (2 * pause).min(MAX_RECLAIM_PAUSE),
                () = node.ended() => return,
            }
        }
    }));
}
