//! Tracks who owns which database entry, and whether reported deletions have a cause.

use super::plan::{Op, Plan};
use crate::{HostId, World};
use aemp::value::Str;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long the cause of a deletion may precede its report.
const CAUSE: Duration = Duration::from_secs(60);

/// The latest time, besides the grace, at which a monitor with a settled master reports a deletion.
/// The grace can pass twice: for a global node, and for the monitor's own node.
const DELAY: Duration = Duration::from_secs(10);

/// Two losses within this time look like the loss of a node together with its master.
const TOGETHER: Duration = Duration::from_secs(7);

/// The part of the grace that is spent on noticing a loss and on the way of entries that are
/// claimed again.
const MARGIN: Duration = Duration::from_secs(2);

/// What is known about the entries of all nodes, and about reasons for which one may be missing.
#[derive(Debug)]
pub(super) struct Ledger {
    grace: Duration,
    /// How long an owner may be without a master before that affects its entries.
    bearable: Duration,
    /// Since when each place, family and key has had an entry.
    owned: BTreeMap<(HostId, Str, Str), Duration>,
    /// When the node at a place last wrote an entry: place, family, key.
    written: BTreeMap<(HostId, Str, Str), Duration>,
    /// When an owner last deleted a key or ended.
    given_up: BTreeMap<(Str, Str), Duration>,
    homes: BTreeMap<HostId, EntryHome>,
    /// When each running node was started.
    running_since: BTreeMap<HostId, Duration>,
    /// When the first of two nodes last was without the second, and since when it is connected to it.
    parted: BTreeMap<(HostId, HostId), Parting>,
    /// Until then, any report may have a cause in the network.
    disturbed_until: Duration,
    ways_are_blocked: bool,
    seeds_are_hijacked: bool,
}

/// The time during which one node was disconnected from another one.
#[derive(Debug, Clone, Copy)]
struct Parting {
    from: Duration,
    /// `None` if it still is.
    until: Option<Duration>,
    /// Whether they had been connected before: it began with a loss, not with the start of the node.
    is_loss: bool,
}

/// Where a node's entries are kept.
#[derive(Debug, Clone, Copy)]
struct EntryHome {
    /// The place of the global node that is its master and knows it as a slave.
    master: Option<HostId>,
    /// The most recent of its masters, including the current one.
    last: Option<HostId>,
    /// The master before that, which may not have noticed yet that it has lost the node.
    earlier: Option<HostId>,
    /// Since when it has had the current master, or none.
    since: Duration,
    /// When its entries last were without a master for too long, or its master lost it.
    astray: Option<Duration>,
    /// When any other node last lost it.
    lost: Option<Duration>,
}

impl Ledger {
    /// `None` if the rules do not apply to the plan: Perl nodes have no grace, and failing
    /// handshakes can take longer than the grace.
    pub(super) fn new(plan: &Plan, worst_delay: Duration) -> Option<Self> {
        let setup = &plan.setup;
        if setup.perl != 0 || setup.trouble {
            return None;
        }
        let grace = crate::Spec::new("any").grace;
        Some(Ledger {
            grace,
            bearable: grace.saturating_sub(MARGIN + 2 * worst_delay),
            owned: BTreeMap::new(),
            written: BTreeMap::new(),
            given_up: BTreeMap::new(),
            homes: BTreeMap::new(),
            running_since: BTreeMap::new(),
            parted: BTreeMap::new(),
            disturbed_until: Duration::ZERO,
            ways_are_blocked: false,
            seeds_are_hijacked: false,
        })
    }

    pub(super) fn set(&mut self, host: HostId, family: &Str, key: &Str, now: Duration) {
        let entry = (host, family.clone(), key.clone());
        self.written.insert(entry.clone(), now);
        self.owned.entry(entry).or_insert(now);
    }

    pub(super) fn deleted(&mut self, host: HostId, family: &Str, key: &Str, now: Duration) {
        if self.owned.remove(&(host, family.clone(), key.clone())).is_some() {
            self.given_up.insert((family.clone(), key.clone()), now);
        }
    }

    pub(super) fn started(&mut self, host: HostId, now: Duration) {
        self.running_since.insert(host, now);
        self.homes.entry(host).or_insert(EntryHome {
            master: None,
            last: None,
            earlier: None,
            since: now,
            astray: None,
            lost: None,
        });
    }

    pub(super) fn ended(&mut self, host: HostId, now: Duration) {
        self.homes.remove(&host);
        // The next process there does not know whom this one has met or lost.
        self.running_since.remove(&host);
        self.parted.retain(|(by, _), _| *by != host);
        let given_up = &mut self.given_up;
        self.owned.retain(|(owner, family, key), _| {
            if *owner == host {
                given_up.insert((family.clone(), key.clone()), now);
            }
            *owner != host
        });
        for home in self.homes.values_mut().filter(|home| home.master == Some(host)) {
            (home.master, home.since) = (None, now);
            // This looks as if the node had ended together with its master.
            if home.lost.is_some_and(|at| now < at + TOGETHER) {
                home.astray = Some(now);
            }
        }
    }

    /// Records that a running node has lost the connection to its slave, to a node without a
    /// master, or to a global node, whose own entries it cannot distinguish from those of its
    /// slaves.
    pub(super) fn lost(&mut self, by: HostId, owner: HostId, now: Duration) {
        self.parted.insert((by, owner), Parting { from: now, until: None, is_loss: true });
        if let Some(home) = self.homes.get_mut(&owner)
            && ([home.last, home.earlier].contains(&Some(by))
                || home.master.is_none()
                || home.master == Some(owner))
        {
            home.astray = Some(now);
        } else if let Some(home) = self.homes.get_mut(&owner) {
            home.lost = Some(now);
        }
    }

    /// Records that a running node has a connection to another one.
    pub(super) fn met(&mut self, by: HostId, other: HostId, now: Duration) {
        let Some(&from) = self.running_since.get(&by) else { return };
        let first = Parting { from, until: None, is_loss: false };
        self.parted.entry((by, other)).or_insert(first).until.get_or_insert(now);
    }

    /// Updates which node keeps the entries of each node, after something has happened at `host`.
    pub(super) fn look(&mut self, world: &World, host: HostId) {
        let (now, bearable) = (world.now(), self.bearable);
        for (&owner, home) in &mut self.homes {
            if owner != host && home.master.is_some_and(|master| master != host) {
                continue;
            }
            let master = master_of(world, owner);
            if master == home.master {
                continue;
            }
            if home.master.is_none() && now - home.since > bearable {
                home.astray = Some(now);
            }
            (home.master, home.since) = (master, now);
            if master.is_some() && master != home.last {
                (home.earlier, home.last) = (home.last, master);
            }
        }
    }

    /// Records an operation that may hide or delay other events for a while.
    pub(super) fn disturbed_by(&mut self, op: Op, now: Duration) {
        let lasts = match op {
            Op::Pause { ms, .. } | Op::Suspend { ms, .. } => Duration::from_millis(u64::from(ms)),
            Op::HalfCut { .. } | Op::Vanish { .. } => Duration::from_secs(60),
            Op::Jump { .. } => Duration::ZERO,
            Op::Block { .. } | Op::Partition { .. } => {
                self.ways_are_blocked = true;
                Duration::ZERO
            }
            Op::Heal => {
                self.ways_are_blocked = false;
                Duration::ZERO
            }
            Op::Hijack { .. } => {
                self.seeds_are_hijacked = true;
                Duration::ZERO
            }
            _ => return,
        };
        self.disturbed_until = self.disturbed_until.max(now + lasts + CAUSE);
    }

    /// Records that everything was repaired, except for stopped processes.
    pub(super) fn mended(&mut self, now: Duration) {
        (self.ways_are_blocked, self.seeds_are_hijacked) = (false, false);
        self.disturbed_until = self.disturbed_until.max(now + CAUSE);
    }

    fn is_disturbed(&self, now: Duration) -> bool {
        self.ways_are_blocked || self.seeds_are_hijacked || now < self.disturbed_until
    }

    /// Checks that a monitor reports a key as deleted only if an owner deleted it, died, or was
    /// unreachable for longer than the grace.
    pub(super) fn check_deletion(
        &self,
        world: &World,
        host: HostId,
        family: &Str,
        key: &Str,
    ) -> Result<(), String> {
        let now = world.now();
        let given_up = self.given_up.get(&(family.clone(), key.clone()));
        if self.is_disturbed(now) || given_up.is_some_and(|&at| now < at + CAUSE) {
            return Ok(());
        }
        for ((owner, of, name), since) in &self.owned {
            if (of, name) != (family, key) || now < *since + DELAY {
                continue;
            }
            let Some(home) = self.homes.get(owner) else { continue };
            let is_astray = home.astray.is_some_and(|at| now < at + CAUSE)
                || home.master.is_none() && now > home.since + self.bearable;
            let seems_dead = self.were_lost_together(host, *owner, home, now);
            let is_claimed = home.master.is_none()
                && self.is_claimed_by_another(*owner, (family, key), home.since);
            if !is_astray && !seems_dead && !is_claimed && !self.were_apart(world, host, home) {
                return Err(format!("{family}.{key} of {owner:?} is reported deleted: {home:?}"));
            }
        }
        Ok(())
    }

    /// Whether another node wrote a key, or came to another master with it, when its owner's master was
    /// lost or after that. Then nobody can tell that it is not the owner, and the owner's entry is gone
    /// until the owner has a master again.
    fn is_claimed_by_another(&self, owner: HostId, key: (&Str, &Str), lost: Duration) -> bool {
        let lost = lost.saturating_sub(MARGIN);
        self.written.iter().any(|((by, family, name), written)| {
            let has_come = self.homes.get(by).is_some_and(|home| home.since >= lost);
            *by != owner && (family, name) == key && (*written >= lost || has_come)
        })
    }

    /// Whether a node's master has lost an owner and the owner's master at about the same time, as if both
    /// had ended together.
    fn were_lost_together(
        &self,
        host: HostId,
        owner: HostId,
        home: &EntryHome,
        now: Duration,
    ) -> bool {
        let own = self.homes.get(&host).and_then(|home| home.master);
        let lost = |node: Option<HostId>| {
            let parting = self.parted.get(&(own?, node?)).filter(|parting| parting.is_loss);
            Some(parting?.from)
        };
        let (Some(owner), Some(master)) = (lost(Some(owner)), lost(home.last)) else {
            return false;
        };
        now < owner.max(master) + CAUSE && owner.abs_diff(master) < TOGETHER
    }

    /// Whether a node's master was disconnected for long from the one that keeps an owner's entries, as
    /// when each of them became global after the only seed was lost.
    fn were_apart(&self, world: &World, host: HostId, owner: &EntryHome) -> bool {
        let (Some(home), Some(theirs)) = (self.homes.get(&host), owner.master) else {
            return false;
        };
        let Some(own) = home.master.filter(|own| *own != theirs) else { return false };
        let now = world.now();
        match self.parted.get(&(own, theirs)) {
            Some(Parting { from, until, .. }) => {
                let until = until.unwrap_or(now);
                until > *from + self.bearable && now < until + CAUSE
            }
            None => {
                let node = &world.spec(theirs).node;
                !world.running(own).is_some_and(|own| own.kernel().is_up(node))
            }
        }
    }

    /// Checks that a monitor whose node has kept its master long enough knows no key without an
    /// owner.
    pub(super) fn check_content<'a>(
        &self,
        host: HostId,
        family: &Str,
        keys: impl Iterator<Item = &'a Str>,
        now: Duration,
    ) -> Result<(), String> {
        let longest = 2 * self.grace + DELAY;
        let is_settled = self
            .homes
            .get(&host)
            .is_some_and(|home| home.master.is_some() && home.since + longest < now);
        if !is_settled || self.is_disturbed(now) {
            return Ok(());
        }
        for key in keys {
            let is_owned = self.owned.keys().any(|(_, of, name)| (of, name) == (family, key));
            let given_up = self.given_up.get(&(family.clone(), key.clone()));
            if !is_owned && given_up.is_none_or(|&at| at + longest < now) {
                return Err(format!("{host:?} still knows {family}.{key}, gone at {given_up:?}"));
            }
        }
        Ok(())
    }
}

/// The place of the node's master, if that master knows it as a slave.
fn master_of(world: &World, host: HostId) -> Option<HostId> {
    let node = world.running(host)?.kernel().node();
    let master = world.running(host)?.kernel().master()?;
    let mut hosts = world.hosts();
    let master = hosts.find(|&host| world.spec(host).node == *master)?;
    let global = world.running(master)?.kernel().database().global()?;
    global.is_slave(node).then_some(master)
}
