//! The nodes that the global side sends changes to: other nodes by packets, its own slave side by calls.

use super::super::effect::{DbEffect, DbProblem};
use super::super::held::HeldBack;
use super::super::local::Local;
use super::super::request::Request;
use crate::value::NodeId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// What the global side uses of its node while it handles one input.
pub(crate) struct Around<'a> {
    pub(crate) local: &'a mut Local,
    pub(crate) up: &'a BTreeSet<NodeId>,
    pub(crate) now: Duration,
    /// The size of the pieces in which a database is sent, in octets.
    pub(crate) piece: usize,
    pub(crate) effects: &'a mut Vec<DbEffect>,
}

impl Around<'_> {
    /// Sends a request to several nodes. Its own slave side is called directly.
    pub(super) fn send(&mut self, own: &NodeId, to: Recipients, request: Request) {
        if !to.others.is_empty() {
            self.effects.push(DbEffect::Send { to: to.others, packet: request.to_packet() });
        }
        if to.ourselves {
            self.local.receive(own, request, self.now, self.effects);
        }
    }

    /// Sends a request to one node, which may be this one.
    pub(super) fn reply(&mut self, own: &NodeId, to: &NodeId, request: Request) {
        let ourselves = to == own;
        let others = if ourselves { Arc::default() } else { [to.clone()].into() };
        self.send(own, Recipients { others, ourselves }, request);
    }

    pub(super) fn problem(&mut self, from: &NodeId, problem: DbProblem) {
        self.effects.push(DbEffect::Problem { from: from.clone(), problem });
    }
}

/// The recipients of a request.
#[derive(Debug, Clone, Default)]
pub(super) struct Recipients {
    /// Connected nodes.
    pub(super) others: Arc<[NodeId]>,
    pub(super) ourselves: bool,
}

impl Recipients {
    pub(super) fn of(own: &NodeId, nodes: &BTreeSet<NodeId>) -> Self {
        let ourselves = nodes.contains(own);
        let others = nodes.iter().filter(|node| *node != own).cloned().collect();
        Recipients { others, ourselves }
    }
}

/// The nodes that get changes.
#[derive(Debug, Default)]
pub(super) struct Audience {
    pub(super) nodes: BTreeSet<NodeId>,
    /// The same nodes as lists, in the form that sending needs; computed when there is a change.
    parts: Option<Parts>,
}

/// The nodes that get a change at once, and those whose connections have no room for it.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) at_once: Recipients,
    pub(super) without_room: Vec<NodeId>,
}

impl Audience {
    pub(super) fn insert(&mut self, node: &NodeId) {
        if self.nodes.insert(node.clone()) {
            self.parts = None;
        }
    }

    pub(super) fn remove(&mut self, node: &NodeId) {
        if self.nodes.remove(node) {
            self.parts = None;
        }
    }

    pub(super) fn contains(&self, node: &NodeId) -> bool {
        self.nodes.contains(node)
    }

    /// A node has got room, or has no room any more.
    pub(super) fn changes(&mut self, node: &NodeId) {
        if self.nodes.contains(node) {
            self.parts = None;
        }
    }

    /// The lists, computed only if something has changed.
    pub(super) fn parts(&mut self, own: &NodeId, held: &BTreeMap<NodeId, HeldBack>) -> &Parts {
        self.parts.get_or_insert_with(|| {
            let (without_room, at_once): (BTreeSet<_>, BTreeSet<_>) =
                self.nodes.iter().cloned().partition(|node| held.contains_key(node));
            let without_room = without_room.into_iter().collect();
            Parts { at_once: Recipients::of(own, &at_once), without_room }
        })
    }
}
