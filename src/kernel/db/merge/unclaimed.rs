//! Entries of the slaves of a lost global node, and of slaves that became global: kept for the grace
//! period, until the slaves claim them at another global node.
//!
//! A global node sends others the merge of its slaves' databases, so the owner of an entry is not known.
//! A node that writes a key after the loss claims it: the key no longer belongs to the lost node.
//! Entries that nobody has claimed at the end of the grace period are deleted; they are deleted earlier
//! if all slaves of the lost node have moved to another one or are lost, and nothing was claimed for a
//! while.

use super::super::datum::Datum;
use super::super::losses::Losses;
use super::super::update::Key;
use super::super::{GLOBALS, LOCATIONS, node_key, node_of};
use super::entry::{Contested, Entry};
use super::owner::{OwnerId, Owners, entry_octets};
use super::{Change, Merge};
use crate::mutation::{self, Mutation};
use crate::value::{NodeId, Str, StrRef};
use std::collections::BTreeSet;
use std::time::Duration;

/// How long no entry may be claimed, once no slave is awaited, until the remaining entries are deleted:
/// a slave's database may come in several packets.
const CLAIM_QUIET_PERIOD: Duration = Duration::from_secs(2);

/// The maximum number of slaves of a lost global node that are followed individually.
const MAX_AWAITED: usize = 1000;

/// The maximum number of lost global nodes whose slaves' entries are kept, since each adds to the work
/// of every change; the oldest are dropped first.
const MAX_LOST_GLOBALS: usize = 64;

/// A lost global node whose slaves' entries are kept, or a slave that has become global.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) owner: OwnerId,
    /// Its slaves that have neither moved to another global node nor been lost, as far as is known;
    /// `None` if they are too many to be followed individually.
    awaited: Option<BTreeSet<NodeId>>,
    /// When the remaining entries are deleted at the latest.
    end: Duration,
    /// When they are deleted if nothing is claimed until then, since no slave is awaited any more.
    settled: Option<Duration>,
    /// Whether an entry was claimed since `settled` was set.
    is_claimed: bool,
}

impl Lost {
    fn deadline(&self) -> Duration {
        self.settled.map_or(self.end, |settled| settled.min(self.end))
    }

    fn no_longer_awaits(&mut self, node: &NodeId, now: Duration) {
        if let Some(awaited) = &mut self.awaited
            && awaited.remove(node)
            && awaited.is_empty()
        {
            self.settled = Some(now + CLAIM_QUIET_PERIOD);
        }
    }
}

impl Merge {
    /// A global node is lost: its slaves' entries are kept for `grace` unless claimed before, and all
    /// its other entries are deleted as by [`Merge::remove`].
    pub(crate) fn lose_global(
        &mut self,
        node: &NodeId,
        grace: Duration,
        limit: usize,
        losses: &Losses,
        now: Duration,
    ) -> Vec<(Str, Change)> {
        let slaves = self.ids.get(node).and_then(|&id| self.slaves_of(id, node));
        let Some(slaves) = slaves
            .filter(|_| !grace.is_zero() && !mutation::is_on(Mutation::DropEntriesOfLostGlobals))
        else {
            return self.remove(node);
        };
        let awaited = slaves.map(|slaves| {
            slaves.into_iter().filter(|slave| !losses.contains(slave, now)).collect::<BTreeSet<_>>()
        });
        let settled =
            awaited.as_ref().is_some_and(BTreeSet::is_empty).then_some(now + CLAIM_QUIET_PERIOD);
        self.keep_for_a_while(node, limit, awaited, settled, now + grace)
    }

    /// A slave has become global, and sends its entries to all other global nodes itself. The entries
    /// that these got from this node are kept for `grace`, or until they get them from the slave.
    pub(crate) fn slave_is_global(
        &mut self,
        node: &NodeId,
        grace: Duration,
        limit: usize,
        now: Duration,
    ) -> Vec<(Str, Change)> {
        if grace.is_zero() {
            return self.remove(node);
        }
        self.keep_for_a_while(node, limit, None, None, now + grace)
    }

    fn keep_for_a_while(
        &mut self,
        node: &NodeId,
        limit: usize,
        awaited: Option<BTreeSet<NodeId>>,
        settled: Option<Duration>,
        end: Duration,
    ) -> Vec<(Str, Change)> {
        let Some(id) = self.ids.remove(node) else { return Vec::new() };
        let before = self.owners.get_mut(id).and_then(|owner| {
            owner.is_lost = true;
            owner.before.take()
        });
        let lost =
            |owner| Lost { owner, awaited: awaited.clone(), end, settled, is_claimed: false };
        self.unclaimed.extend(before.into_iter().chain([id]).map(lost));
        self.bound_unclaimed(node, limit);
        self.give_up_some()
    }

    /// The slaves of the global node that owns `id` whose addresses no other node announces; `None` if
    /// it never had any, and `Some(None)` if they may be too many to be followed individually.
    fn slaves_of(&self, id: OwnerId, node: &NodeId) -> Option<Option<Vec<NodeId>>> {
        let family = Str::text(LOCATIONS);
        let located = self.owners.get(id)?.entries.get(&family)?;
        let merged = &self.families.get(&family)?.entries;
        let own = node_key(node);
        let mut others = located.keys().filter(|key| **key != own).peekable();
        others.peek()?;
        if located.len() > MAX_AWAITED {
            return Some(None);
        }
        let is_only_there = |key: &&Str| matches!(merged.get(*key), Some(Entry::One(..)));
        Some(Some(others.filter(is_only_there).filter_map(node_of).collect()))
    }

    /// Drops kept entries of a node so that all of them together do not exceed the octets that it had
    /// while it was up.
    fn bound_unclaimed(&mut self, node: &NodeId, limit: usize) {
        let mut octets = 0;
        let mut kept = 0;
        for index in (0..self.unclaimed.len()).rev() {
            let Some(owner) = self.unclaimed.get(index).and_then(|l| self.owners.get(l.owner))
            else {
                continue;
            };
            let is_first = octets == 0;
            octets += if owner.node == *node { owner.octets } else { 0 };
            kept += 1;
            if kept > MAX_LOST_GLOBALS || owner.node == *node && octets > limit && !is_first {
                let lost = self.unclaimed.remove(index);
                self.abandoned.push_back(lost.owner);
            }
        }
    }

    /// A node has moved to a global node; it may be a slave of a lost one.
    pub(crate) fn has_come(&mut self, node: Key<'_>, now: Duration) {
        if !self.unclaimed.is_empty()
            && let Some(node) = node_of(&node.to_str())
        {
            self.unclaimed.iter_mut().for_each(|lost| lost.no_longer_awaits(&node, now));
        }
    }

    /// The connection to a node is lost.
    pub(crate) fn is_lost(&mut self, node: &NodeId, now: Duration) {
        self.unclaimed.iter_mut().for_each(|lost| lost.no_longer_awaits(node, now));
    }

    /// Whether entries of slaves of a lost global node are kept, so that slaves are moving.
    pub(crate) fn has_unclaimed(&self) -> bool {
        !self.unclaimed.is_empty()
    }

    /// When [`Merge::end_of_grace`] has to be called next.
    pub(crate) fn unclaimed_deadline(&self) -> Option<Duration> {
        self.unclaimed.iter().map(Lost::deadline).min()
    }

    /// Deletes entries that were not claimed in time.
    pub(crate) fn end_of_grace(&mut self, now: Duration) {
        for lost in &mut self.unclaimed {
            if lost.settled.is_some_and(|settled| settled <= now) && lost.is_claimed {
                (lost.settled, lost.is_claimed) = (Some(now + CLAIM_QUIET_PERIOD), false);
            }
        }
        if mutation::is_on(Mutation::KeepUnclaimedEntries) {
            self.unclaimed.retain(|lost| now < lost.deadline());
            return;
        }
        let over = self.unclaimed.extract_if(.., |lost| lost.deadline() <= now);
        self.abandoned.extend(over.map(|lost| lost.owner));
    }

    /// A family whose entries are not kept: what a lost global node announced about nodes.
    pub(super) fn nodes_of_lost(&self) -> Option<(OwnerId, Str)> {
        self.unclaimed.iter().find_map(|lost| {
            let owner = self.owners.get(lost.owner)?;
            let mut families = [LOCATIONS, GLOBALS].into_iter().map(Str::text);
            Some((lost.owner, families.find(|family| owner.entries.contains_key(family))?))
        })
    }
}

/// Removes keys from the records of lost nodes; `claimed` says which node had which value of `key`.
pub(super) fn strike<'a>(
    owners: &mut Owners,
    unclaimed: &mut [Lost],
    (family, key): (StrRef<'_>, &Str),
    claimed: impl Iterator<Item = &'a (OwnerId, Datum)>,
) {
    for (owner, value) in claimed {
        if let Some(lost) = unclaimed.iter_mut().find(|lost| lost.owner == *owner) {
            lost.is_claimed = true;
        }
        let Some(owner) = owners.get_mut(*owner) else { continue };
        owner.octets -= entry_octets(key, value);
        if let Some(owned) = owner.entries.get_mut(&family)
            && owned.remove(key).is_some()
        {
            owner.len -= 1;
            if owned.is_empty() {
                owner.entries.remove(&family);
            }
        }
    }
}

/// Removes a key from the lost global nodes that wrote it before `serial`, and returns these nodes and
/// their values.
///
/// A write does not claim entries of a slave that has become global, since other global nodes have to be
/// told when none of our slaves has the key.
pub(super) fn claim(
    contested: &mut Contested,
    unclaimed: &[Lost],
    serial: u64,
) -> Vec<(OwnerId, Datum)> {
    let mut taken = Vec::new();
    for lost in unclaimed {
        if let Some(&(wrote, _)) = contested.holders.get(&lost.owner)
            && wrote < serial
            && contested.others.remove(&(wrote, lost.owner))
            && let Some((_, value)) = contested.holders.remove(&lost.owner)
        {
            taken.push((lost.owner, value));
        }
    }
    taken
}
