//! Keeps the members of a service up to date: a monitor of the family, and one of each port.

use super::{Member, Shared, State};
use crate::node::{Change, DbMonitor, KillReason, Monitor, Node, NodeEvent, ToPort};
use crate::value::{NodeId, PortId, Str};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;

/// How long to wait before a node that could not be reached is tried again.
const RETRY_DELAY: Duration = Duration::from_secs(2);

/// Monitors of the members' ports, and the pauses before lost ones are monitored again.
#[derive(Default)]
struct MemberMonitors(BTreeMap<PortId, Watched>);

enum Watched {
    Monitor(Monitor),
    Pause(Pin<Box<tokio::time::Sleep>>),
}

impl MemberMonitors {
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
pub(super) async fn follow<V: DeserializeOwned>(
    shared: Arc<Shared<V>>,
    mut family: DbMonitor,
    changes: watch::Sender<u64>,
) {
    let mut deaths = MemberMonitors::default();
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

fn apply<V: DeserializeOwned>(shared: &Shared<V>, deaths: &mut MemberMonitors, change: &Change) {
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
fn reached<V>(shared: &Shared<V>, deaths: &mut MemberMonitors, node: &NodeId) {
    for member in shared.members.lock().values_mut() {
        if matches!(member.state, State::Unreachable) && member.node() == *node {
            let monitor = shared.node.monitor(&member.port);
            deaths.0.insert(member.port.clone(), Watched::Monitor(monitor));
            member.state = State::Up;
        }
    }
}

fn heed<V>(
    shared: &Shared<V>,
    deaths: &mut MemberMonitors,
    port: PortId,
    reason: Option<KillReason>,
) {
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
            Some(Watched::Pause(Box::pin(sleep(RETRY_DELAY))))
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
