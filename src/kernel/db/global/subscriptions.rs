//! The families to which nodes have subscribed.

use super::Global;
use crate::kernel::db::held::Knows;
use crate::value::{NodeId, Str};
use std::collections::BTreeSet;

/// The families to which one node has subscribed.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    pub(super) families: BTreeSet<Str>,
    pub(super) octets: usize,
}

/// The octets that a subscription counts for its node.
pub(super) fn subscription_octets(family: &Str) -> usize {
    const OVERHEAD: usize = 256;
    OVERHEAD + family.as_ref().data().len()
}

impl Global {
    /// Adds a subscription; false if the node has too many.
    pub(super) fn subscribe(&mut self, node: &NodeId, family: &Str) -> bool {
        let subscriptions = self.subscriptions.entry(node.clone()).or_default();
        if !subscriptions.families.contains(family) {
            let octets = subscriptions.octets + subscription_octets(family);
            if octets > self.limits.table && *node != self.own {
                return false;
            }
            subscriptions.octets = octets;
            subscriptions.families.insert(family.clone());
        }
        self.subscribers.entry(family.clone()).or_default().insert(node);
        true
    }

    pub(super) fn unsubscribe_all(&mut self, node: &NodeId) {
        for family in self.subscriptions.remove(node).unwrap_or_default().families {
            self.unsubscribe(node, &family);
        }
    }

    pub(super) fn unsubscribe(&mut self, node: &NodeId, family: &Str) {
        if let Some(held) = self.held.get_mut(node) {
            held.forget(Knows::Subscriber, family);
        }
        if let Some(subscribers) = self.subscribers.get_mut(family) {
            subscribers.remove(node);
            if subscribers.nodes.is_empty() {
                self.subscribers.remove(family);
            }
        }
    }
}
