//! Whom the global side tells of something: other nodes by packets, its own slave side directly.

use super::super::effect::{DbEffect, DbProblem};
use super::super::local::Local;
use super::super::request::Request;
use crate::value::NodeId;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// What the global side needs of its node while it handles one input.
pub(crate) struct Around<'a> {
    pub(crate) local: &'a mut Local,
    pub(crate) up: &'a BTreeSet<NodeId>,
    pub(crate) now: Duration,
    /// Octets of each piece of a database that is sent.
    pub(crate) piece: usize,
    pub(crate) effects: &'a mut Vec<DbEffect>,
}

impl Around<'_> {
    /// Sends a request to some nodes; what is for ourselves takes no detour.
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

/// Whom a request is sent to.
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

/// Who is told of changes.
#[derive(Debug, Default)]
pub(super) struct Audience {
    pub(super) nodes: BTreeSet<NodeId>,
    /// The same, as changes are sent to them; made when there is a change.
    recipients: Option<Recipients>,
}

impl Audience {
    pub(super) fn insert(&mut self, node: &NodeId) {
        if self.nodes.insert(node.clone()) {
            self.recipients = None;
        }
    }

    pub(super) fn remove(&mut self, node: &NodeId) {
        if self.nodes.remove(node) {
            self.recipients = None;
        }
    }

    pub(super) fn contains(&self, node: &NodeId) -> bool {
        self.nodes.contains(node)
    }

    /// The same list each time until somebody comes or goes.
    pub(super) fn recipients(&mut self, own: &NodeId) -> Recipients {
        self.recipients.get_or_insert_with(|| Recipients::of(own, &self.nodes)).clone()
    }
}
