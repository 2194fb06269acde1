//! What the slaves of a lost global node own: kept until they have come to another global node and claim
//! it there, for the grace at most. Likewise what a slave owned that has become global.
//!
//! A global node tells others the merge of its slaves' databases, so whose an entry is cannot be seen.
//! Whoever writes a key after the loss claims it: it is no longer the lost node's. What nobody has
//! claimed at the end of the grace is deleted; or earlier, once all slaves of the lost node have come to
//! another one or are known to be lost, and nothing was claimed for a while.

use super::super::datum::Datum;
use super::super::losses::Losses;
use super::super::pieces::KEYS_PER_PIECE;
use super::super::update::Key;
use super::super::{GLOBALS, LOCATIONS, node_key, node_of};
use super::entry::{Contested, Entry};
use super::owner::{OwnerId, Owners, entry_octets};
use super::{Change, Merge};
use crate::mutation::{self, Mutation};
use crate::value::{NodeId, Str, StrRef};
use std::collections::BTreeSet;
use std::time::Duration;

/// How long nothing has to be claimed until all has been claimed that will be, once nobody is awaited:
/// a slave's database may come in several packets.
const SETTLED: Duration = Duration::from_secs(2);

/// Lost global nodes whose slaves' entries are kept at the same time; beyond that the oldest are given
/// up, so that the work for each change stays bounded.
const MOST_LOST: usize = 64;

/// A lost global node whose slaves' entries are kept, or a slave that has become global.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) owner: OwnerId,
    /// Its slaves that have neither come to another global node nor been lost, as far as this one knows;
    /// none if they are too many to be followed one by one.
    awaited: Option<BTreeSet<NodeId>>,
    /// When what is left is given up at the latest.
    end: Duration,
    /// When it is given up if nothing is claimed until then, as nobody is awaited any more.
    settled: Option<Duration>,
    /// Whether something was claimed since `settled` was set.
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
            self.settled = Some(now + SETTLED);
        }
    }
}

impl Merge {
    /// A global node is lost: its slaves' entries stay for `grace` if nobody claims them before, and all
    /// else of it is deleted as by [`Merge::remove`].
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
        let awaited = (slaves.len() <= KEYS_PER_PIECE).then(|| {
            slaves.into_iter().filter(|slave| !losses.contains(slave, now)).collect::<BTreeSet<_>>()
        });
        let settled = awaited.as_ref().is_some_and(BTreeSet::is_empty).then_some(now + SETTLED);
        self.keep_for_a_while(node, limit, awaited, settled, now + grace)
    }

    /// A slave has become global, and tells all other global nodes what it owns. What they know of that
    /// from this node stays for `grace`, until they know it from the slave too.
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

    /// The slaves of the global node that owns `id`, of which no other node says where they are; none if
    /// it never had any.
    fn slaves_of(&self, id: OwnerId, node: &NodeId) -> Option<Vec<NodeId>> {
        let family = Str::text(LOCATIONS);
        let located = self.owners.get(id)?.entries.get(&family)?;
        let merged = &self.families.get(&family)?.entries;
        let own = node_key(node);
        let others = located.iter().filter(|key| **key != own);
        others.clone().next()?;
        let is_only_there = |key: &&Str| matches!(merged.get(*key), Some(Entry::One(..)));
        Some(others.filter(is_only_there).filter_map(node_of).collect())
    }

    /// One node's entries are never kept so often that they take more room than it had while it was up.
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
            if kept > MOST_LOST || owner.node == *node && octets > limit && !is_first {
                let lost = self.unclaimed.remove(index);
                self.abandoned.push_back(lost.owner);
            }
        }
    }

    /// A node has come to a global node, maybe one that was a slave of a lost one.
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

    /// When [`Merge::end_of_grace`] has something to do.
    pub(crate) fn unclaimed_deadline(&self) -> Option<Duration> {
        self.unclaimed.iter().map(Lost::deadline).min()
    }

    /// Gives up what nobody has claimed in time.
    pub(crate) fn end_of_grace(&mut self, now: Duration) {
        for lost in &mut self.unclaimed {
            if lost.settled.is_some_and(|settled| settled <= now) && lost.is_claimed {
                (lost.settled, lost.is_claimed) = (Some(now + SETTLED), false);
            }
        }
        if mutation::is_on(Mutation::KeepUnclaimedEntries) {
            self.unclaimed.retain(|lost| now < lost.deadline());
            return;
        }
        let over = self.unclaimed.extract_if(.., |lost| lost.deadline() <= now);
        self.abandoned.extend(over.map(|lost| lost.owner));
    }

    /// A family that is not kept: what a lost global node said of nodes.
    pub(super) fn nodes_of_lost(&self) -> Option<(OwnerId, Str)> {
        self.unclaimed.iter().find_map(|lost| {
            let owner = self.owners.get(lost.owner)?;
            let mut families = [LOCATIONS, GLOBALS].into_iter().map(Str::text);
            Some((lost.owner, families.find(|family| owner.entries.contains_key(family))?))
        })
    }
}

/// Takes keys off the list of what lost nodes had: `claimed` says which node had which value of `key`.
pub(super) fn strike(
    owners: &mut Owners,
    unclaimed: &mut [Lost],
    (family, key): (StrRef<'_>, &Str),
    claimed: &[(OwnerId, Datum)],
) {
    for (owner, value) in claimed {
        if let Some(lost) = unclaimed.iter_mut().find(|lost| lost.owner == *owner) {
            lost.is_claimed = true;
        }
        let Some(owner) = owners.get_mut(*owner) else { continue };
        owner.octets -= entry_octets(key, value);
        if let Some(owned) = owner.entries.get_mut(&family)
            && owned.remove(key)
        {
            owner.len -= 1;
            if owned.is_empty() {
                owner.entries.remove(&family);
            }
        }
    }
}

/// Takes a key from the lost global nodes that wrote it before `serial`: which, and what they had.
///
/// What a slave had that has become global since is not claimed by a write, as other global nodes have to
/// be told when none of our slaves has it.
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
