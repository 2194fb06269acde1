//! Combines reports for listeners that are too slow to take each one: fewer reports, same final
//! state.

use super::events::NodeEvent;
use super::message::KillReason;
use super::queue::{Combined, Item};
use crate::kernel::db::{ChangeSet, DbAnswer, Entries};
use crate::value::{NodeId, Str};
use std::collections::{BTreeMap, BTreeSet};

/// The changes of a family since the last report that was taken: each key is in one of the three at most.
#[derive(Debug, Default)]
pub(crate) struct CombinedChanges {
    family: Str,
    initial: bool,
    added: Entries,
    changed: Entries,
    deleted: BTreeSet<Str>,
}

impl Item for ChangeSet {
    type Combined = CombinedChanges;

    fn octets(&self) -> usize {
        const OVERHEAD: usize = 64;
        let of_key = |key: &Str| OVERHEAD + key.as_ref().data().len();
        let set = self.added.iter().chain(&self.changed);
        set.map(|(key, value)| of_key(key) + value.octets().len()).sum::<usize>()
            + self.deleted.iter().map(of_key).sum::<usize>()
    }
}

impl Combined<ChangeSet> for CombinedChanges {
    fn add(&mut self, change: ChangeSet) {
        let ChangeSet { family, initial, added, changed, deleted } = change;
        self.family = family;
        if initial {
            (self.initial, self.added) = (true, added);
            (self.changed, self.deleted) = Default::default();
            return;
        }
        for (key, value) in added {
            // The listener knows a key that was deleted and has come back.
            let is_known = self.deleted.remove(&key) || self.changed.contains(&key);
            let all = if is_known { &mut self.changed } else { &mut self.added };
            all.insert(key, value);
        }
        for (key, value) in changed {
            self.deleted.remove(&key);
            let is_new = self.added.contains(&key);
            let all = if is_new { &mut self.added } else { &mut self.changed };
            all.insert(key, value);
        }
        for key in deleted {
            if self.added.remove(&key).is_none() {
                self.changed.remove(&key);
                self.deleted.insert(key);
            }
        }
    }

    fn take(&mut self) -> Option<ChangeSet> {
        let CombinedChanges { family, initial, added, changed, deleted } = std::mem::take(self);
        let deleted = deleted.into_iter().collect();
        let all = ChangeSet { family, initial, added, changed, deleted };
        (initial || !all.is_empty()).then_some(all)
    }
}

/// The change of each node's state since the last event that was taken.
#[derive(Debug, Default)]
pub(crate) struct CombinedEvents(BTreeMap<NodeId, NodeChange>);

#[derive(Debug)]
enum NodeChange {
    /// It was not up, and is now.
    Up { untrusted: bool },
    /// It was up, and is lost.
    Down(KillReason),
    /// It was up, was lost, and is up again.
    DownAndUp { reason: KillReason, untrusted: bool },
}

impl Item for NodeEvent {
    type Combined = CombinedEvents;

    fn octets(&self) -> usize {
        const OVERHEAD: usize = 128;
        let (NodeEvent::Up { node, .. } | NodeEvent::Down { node, .. }) = self;
        OVERHEAD + node.as_str().data().len()
    }
}

impl Combined<NodeEvent> for CombinedEvents {
    fn add(&mut self, event: NodeEvent) {
        match event {
            NodeEvent::Up { node, untrusted } => {
                let change = match self.0.remove(&node) {
                    Some(NodeChange::Down(reason) | NodeChange::DownAndUp { reason, .. }) => {
                        NodeChange::DownAndUp { reason, untrusted }
                    }
                    Some(NodeChange::Up { .. }) | None => NodeChange::Up { untrusted },
                };
                self.0.insert(node, change);
            }
            // A node that came and went in between was never up for this listener.
            NodeEvent::Down { node, reason } => match self.0.remove(&node) {
                Some(NodeChange::Up { .. }) => {}
                Some(NodeChange::Down(_) | NodeChange::DownAndUp { .. }) | None => {
                    self.0.insert(node, NodeChange::Down(reason));
                }
            },
        }
    }

    fn take(&mut self) -> Option<NodeEvent> {
        let (node, change) = self.0.pop_first()?;
        Some(match change {
            NodeChange::Up { untrusted } => NodeEvent::Up { node, untrusted },
            NodeChange::Down(reason) => NodeEvent::Down { node, reason },
            NodeChange::DownAndUp { reason, untrusted } => {
                self.0.insert(node.clone(), NodeChange::Up { untrusted });
                NodeEvent::Down { node, reason }
            }
        })
    }
}

/// A monitor fires once.
impl Item for KillReason {
    type Combined = Option<KillReason>;

    fn octets(&self) -> usize {
        0
    }
}

impl Combined<KillReason> for Option<KillReason> {
    fn add(&mut self, reason: KillReason) {
        self.get_or_insert(reason);
    }

    fn take(&mut self) -> Option<KillReason> {
        Option::take(self)
    }
}

/// A query has one answer.
impl Item for DbAnswer {
    type Combined = Option<DbAnswer>;

    fn octets(&self) -> usize {
        0
    }
}

impl Combined<DbAnswer> for Option<DbAnswer> {
    fn add(&mut self, answer: DbAnswer) {
        self.get_or_insert(answer);
    }

    fn take(&mut self) -> Option<DbAnswer> {
        Option::take(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::db::Datum;
    use proptest::prelude::*;

    /// The content of a family as a listener knows it from its reports.
    #[derive(Debug, Default, PartialEq, Clone)]
    struct Known(BTreeMap<Str, Datum>);

    impl Known {
        fn hears(&mut self, change: ChangeSet) {
            for (key, value) in change.added {
                assert!(self.0.insert(key, value).is_none(), "added means that it was not there");
            }
            for (key, value) in change.changed {
                assert!(self.0.insert(key, value).is_some(), "changed means that it was there");
            }
            for key in change.deleted {
                assert!(self.0.remove(&key).is_some(), "deleted means that it was there");
            }
        }
    }

    /// The report of one change to a family: `key` gets a value, or is deleted.
    fn step(state: &mut Known, key: u8, value: Option<u8>) -> ChangeSet {
        let mut change = ChangeSet::default();
        let name = Str::text(&key.to_string());
        match value.map(|value| Datum::int(value.into())) {
            Some(value) if state.0.contains_key(&name) => {
                change.changed.insert(name, value);
            }
            Some(value) => {
                change.added.insert(name, value);
            }
            None if state.0.contains_key(&name) => change.deleted.push(name),
            None => {}
        }
        state.hears(change.clone());
        change
    }

    #[test]
    fn a_report_of_the_whole_content_replaces_those_before() {
        let mut combined = CombinedChanges::default();
        let mut content = Known::default();
        for (key, value) in [(1, Some(1)), (2, Some(2)), (1, None), (2, Some(3))] {
            combined.add(step(&mut content, key, value));
        }
        let added = Entries::from_iter([(Str::text("3"), Datum::int(3))]);
        let whole = ChangeSet { initial: true, added, ..ChangeSet::default() };
        combined.add(whole.clone());
        assert_eq!(combined.take(), Some(whole));
        // An empty one is reported as well.
        let empty = ChangeSet { initial: true, ..ChangeSet::default() };
        combined.add(empty.clone());
        assert_eq!(combined.take(), Some(empty));
        assert_eq!(combined.take(), None);
    }

    proptest! {
        #[test]
        fn combined_changes_lead_to_the_same_content_as_each_of_them(
            steps in proptest::collection::vec((0..5_u8, any::<Option<u8>>(), any::<bool>()), 0..60),
        ) {
            let (mut content, mut listener) = (Known::default(), Known::default());
            let mut combined = CombinedChanges::default();
            for (key, value, takes) in steps {
                combined.add(step(&mut content, key, value));
                if takes {
                    combined.take().into_iter().for_each(|change| listener.hears(change));
                    prop_assert_eq!(&listener, &content);
                }
            }
        }

        #[test]
        fn of_combined_events_each_node_has_at_most_two_and_the_last_is_what_it_is(
            steps in proptest::collection::vec((0..3_u8, any::<bool>()), 0..40),
        ) {
            let mut up = BTreeMap::<String, bool>::new();
            let mut seen = up.clone();
            let mut combined = CombinedEvents::default();
            for (number, takes) in steps {
                let name = format!("n{number}");
                let is_up = up.entry(name.clone()).or_default();
                *is_up = !*is_up;
                let node = NodeId::new(name).unwrap();
                combined.add(match *is_up {
                    true => NodeEvent::Up { node, untrusted: false },
                    false => NodeEvent::Down { node, reason: KillReason::normal() },
                });
                if !takes {
                    continue;
                }
                let mut events = 0;
                while let Some(event) = combined.take() {
                    events += 1;
                    let (node, now) = match event {
                        NodeEvent::Up { node, .. } => (node, true),
                        NodeEvent::Down { node, .. } => (node, false),
                    };
                    let before = seen.insert(node.to_string(), now).unwrap_or_default();
                    prop_assert_ne!(before, now);
                }
                prop_assert!(events <= 2 * up.len());
                for (node, is_up) in &up {
                    prop_assert_eq!(seen.get(node).copied().unwrap_or_default(), *is_up);
                }
            }
        }
    }
}
