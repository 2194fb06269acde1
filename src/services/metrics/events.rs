//! The latest events in a node's network, for the status page.

use super::shown::shown;
use crate::node::{Node, NodeEvent};
use crate::value::Str;
use parking_lot::Mutex;
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// The number of events to keep.
const MAX_EVENTS: usize = 100;

/// A node went up or down.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Event {
    /// Seconds since the epoch.
    time: f64,
    node: String,
    up: bool,
    reason: String,
}

/// The latest events, the oldest first.
#[derive(Debug, Clone, Default)]
pub(super) struct Events(Arc<Mutex<VecDeque<Event>>>);

impl Events {
    /// Records events until the node ends.
    pub(super) fn of(node: &Node) -> Self {
        let events = Events::default();
        let noted = events.clone();
        let mut coming = node.events();
        node.shared().runtime.spawn(async move {
            while let Some(event) = coming.next().await {
                noted.note(event);
            }
        });
        events
    }

    fn note(&self, event: NodeEvent) {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let event = match event {
            NodeEvent::Up { node, untrusted } => Event {
                time,
                node: shown(&Str::from(node)),
                up: true,
                reason: if untrusted { "untrusted" } else { "" }.to_owned(),
            },
            NodeEvent::Down { node, reason } => Event {
                time,
                node: shown(&Str::from(node)),
                up: false,
                reason: shown(&Str::text(&reason.to_string())),
            },
        };
        let mut events = self.0.lock();
        if events.len() >= MAX_EVENTS {
            events.pop_front();
        }
        events.push_back(event);
    }

    pub(super) fn all(&self) -> Vec<Event> {
        self.0.lock().iter().cloned().collect()
    }
}
