//! The master that a Perl node believes in, and how the node stops monitoring it.

use super::PerlNode;
use crate::node::HandlerContext;
use aemp::value::NodeId;
use std::collections::BTreeSet;

/// The events of nodes that it waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Watch {
    /// The master going down.
    Master,
    /// Any seed coming up.
    Seeds,
}

#[derive(Debug, Default)]
pub(super) struct Master {
    believed: Option<NodeId>,
    /// The watch that was set last; setting another one ends it.
    held: Option<Watch>,
    active: BTreeSet<Watch>,
}

impl Master {
    pub(super) fn believed(&self) -> Option<&NodeId> {
        self.believed.as_ref()
    }

    /// The defect: the new watch begins before the old one ends, and two of a kind are the same.
    fn watch(&mut self, watch: Watch) {
        self.active.insert(watch);
        if let Some(old) = self.held.replace(watch) {
            self.active.remove(&old);
        }
    }
}

impl PerlNode {
    pub(super) fn master_set(&mut self, around: &mut HandlerContext<'_>, master: NodeId) {
        if self.db.is_global() {
            return;
        }
        self.master.believed = Some(master.clone());
        self.master.watch(Watch::Master);
        self.db.adopt_master(&master);
        self.settle(around);
    }

    pub(super) fn search_master(&mut self, around: &mut HandlerContext<'_>) {
        let up = self.seeds.iter().filter_map(|seed| seed.node.as_ref());
        let up = up.filter(|node| self.links.contains_key(*node)).min().cloned();
        match up {
            Some(master) => self.master_set(around, master),
            None => self.master.watch(Watch::Seeds),
        }
    }

    pub(super) fn seed_is_up(&mut self, around: &mut HandlerContext<'_>, node: &NodeId) {
        if self.master.active.contains(&Watch::Seeds) {
            self.master_set(around, node.clone());
        }
    }

    /// Handles the loss of a node; a master that is not watched is still believed in.
    pub(super) fn master_is_down(&mut self, around: &mut HandlerContext<'_>, node: &NodeId) {
        if self.master.active.contains(&Watch::Master)
            && self.master.believed.as_ref() == Some(node)
        {
            self.master.believed = None;
            let now = around.now() - self.started;
            self.db.node_down(node, now);
            self.search_master(around);
        } else if self.db.is_global() || self.master.believed.as_ref() != Some(node) {
            let now = around.now() - self.started;
            self.db.node_down(node, now);
        }
    }
}
