//! The seeds of the configuration, and when they are dialled.

use super::backoff::Backoff;
use super::connection::DialReason;
use super::{Mesh, MeshOutput, MeshTimer};
use crate::kernel::effect::{ConnId, Level};
use crate::kernel::lines::MeshLine;
use crate::kernel::random::Random;
use crate::value::{NodeId, Str};
use std::time::Duration;

/// The unit of the retry delay; the first delay has a random factor between 2 and 4.
const BACKOFF_UNIT: Duration = Duration::from_millis(600);

/// The pause between the first and the second log line about unreachable seeds; later pauses double.
const FIRST_REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// The maximum pause between two such lines.
const MAX_REPORT_INTERVAL: Duration = Duration::from_secs(3600);

/// The maximum pause before a seed that led to this node itself is dialled again.
const MAX_RECHECK_INTERVAL: Duration = Duration::from_secs(120);

/// All seeds, as configured.
#[derive(Debug)]
pub(super) struct Seeds {
    seeds: Vec<Seed>,
    retry: Backoff,
    /// When they were last dialled.
    dialled: Option<Duration>,
    /// Whether a [`MeshTimer::ReportSeeds`] is set.
    report_is_due: bool,
    /// The number of log lines about unreachable seeds since a seed was last connected.
    reports: u32,
    /// No such line is logged before this time.
    quiet_until: Duration,
}

#[derive(Debug)]
struct Seed {
    address: Str,
    leads_to: Target,
    /// A connected node that sent its greeting there, and cannot prove more because it refuses second
    /// connections.
    claimed_by: Option<NodeId>,
    dial: Option<ConnId>,
    last_error: Option<String>,
}

/// The node that a seed's address leads to, as proven on the latest connection that got this far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Target {
    #[default]
    Unknown,
    Node(NodeId),
    /// This node itself. Addresses can move, so it is dialled again at `again`.
    Ourselves {
        again: Duration,
        pause: Duration,
    },
}

impl Target {
    fn node(&self) -> Option<&NodeId> {
        match self {
            Target::Node(node) => Some(node),
            Target::Unknown | Target::Ourselves { .. } => None,
        }
    }

    fn is_ourselves(&self) -> bool {
        matches!(self, Target::Ourselves { .. })
    }
}

impl Seeds {
    pub(super) fn new(addresses: &[Str]) -> Self {
        Seeds {
            seeds: addresses.iter().cloned().map(Seed::new).collect(),
            retry: Backoff::new(BACKOFF_UNIT),
            dialled: None,
            report_is_due: false,
            reports: 0,
            quiet_until: Duration::ZERO,
        }
    }

    /// The known nodes of seeds, in the configured order.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &NodeId> {
        self.seeds.iter().filter_map(|seed| seed.leads_to.node())
    }

    /// The connected nodes that sent their greeting at a seed's address, without proof.
    pub(super) fn claims(&self) -> impl Iterator<Item = &NodeId> {
        self.seeds.iter().filter_map(|seed| seed.claimed_by.as_ref())
    }

    /// Whether it is proven that a seed is this node.
    pub(super) fn leads_to(&self, index: usize, node: &NodeId) -> bool {
        self.seeds.get(index).is_some_and(|seed| seed.leads_to.node() == Some(node))
    }

    fn indices(&self, which: impl Fn(&Seed) -> bool) -> Vec<usize> {
        let seeds = self.seeds.iter().enumerate();
        seeds.filter(|(_, seed)| which(seed)).map(|(index, _)| index).collect()
    }

    /// The seeds that belong to this node.
    fn of<'a>(&'a self, node: &'a NodeId) -> impl Iterator<Item = &'a Seed> {
        self.seeds.iter().filter(move |seed| seed.leads_to.node() == Some(node))
    }

    /// The addresses of seeds that belong to this node.
    pub(super) fn addresses_of<'a>(&'a self, node: &'a NodeId) -> impl Iterator<Item = &'a Str> {
        self.of(node).map(|seed| &seed.address)
    }

    /// The dials of seeds that belonged to this node.
    pub(super) fn dials_of<'a>(&'a self, node: &'a NodeId) -> impl Iterator<Item = &'a ConnId> {
        self.of(node).filter_map(|seed| seed.dial.as_ref())
    }
}

impl Seed {
    fn new(address: Str) -> Self {
        let leads_to = Target::Unknown;
        Seed { address, leads_to, claimed_by: None, dial: None, last_error: None }
    }

    /// Its address and its last error, for the log.
    fn why_not_reached(&self) -> String {
        let Seed { address, last_error, .. } = self;
        let error = last_error.as_deref().unwrap_or("no answer yet");
        let prefix = format!("cannot connect to {address}: ");
        format!("{address} ({})", error.strip_prefix(&prefix).unwrap_or(error))
    }
}

/// The state of a configured seed, for status displays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeedStatus {
    /// The address, as configured.
    pub address: Str,
    /// Its node, once it has authenticated.
    pub node: Option<NodeId>,
    /// Whether the address leads to this node itself.
    pub is_ourselves: bool,
    /// The error of the last attempt.
    pub last_error: Option<String>,
}

impl Mesh {
    fn seed(&mut self, index: usize) -> Option<&mut Seed> {
        self.seeds.seeds.get_mut(index)
    }

    /// A connection to a seed's address has proven to lead to `node`.
    pub(super) fn learn_seed(&mut self, index: usize, node: &NodeId) {
        let Some(seed) = self.seed(index) else {
            return;
        };
        seed.dial = None;
        seed.last_error = None;
        seed.claimed_by = None;
        if seed.leads_to.node() != Some(node) {
            seed.leads_to = Target::Node(node.clone());
            if self.is_up(node) {
                self.outputs.push(MeshOutput::SeedUp(node.clone()));
            }
        }
    }

    /// A connected node, which refuses second connections, has sent its greeting at a seed's address.
    pub(super) fn seed_is_claimed(&mut self, index: usize, node: &NodeId) {
        if let Some(seed) = self.seed(index)
            && seed.leads_to.node() != Some(node)
        {
            seed.claimed_by = Some(node.clone());
            self.outputs.push(MeshOutput::SeedClaimed);
        }
    }

    /// A connection to a seed's address has led to this node itself.
    pub(super) fn seed_is_ourselves(&mut self, index: usize, now: Duration) {
        let first_pause = self.monitor_timeout;
        let Some(seed) = self.seed(index) else {
            return;
        };
        let (is_new, pause) = match seed.leads_to {
            Target::Ourselves { pause, .. } => (false, (pause * 2).min(MAX_RECHECK_INTERVAL)),
            Target::Unknown | Target::Node(_) => (true, first_pause),
        };
        let again = now + pause;
        seed.leads_to = Target::Ourselves { again, pause };
        seed.claimed_by = None;
        seed.dial = None;
        seed.last_error = None;
        let address = seed.address.clone();
        self.wake(again, MeshTimer::LookAgain);
        if is_new {
            self.log(Level::Info, MeshLine::SeedIsOurselves(address));
            self.outputs.push(MeshOutput::IsSeed);
        }
    }

    /// Dials the seeds again that led to this node itself, if their time has come.
    pub(super) fn look_again(&mut self, now: Duration) {
        let is_due =
            |seed: &Seed| matches!(seed.leads_to, Target::Ourselves { again, .. } if again <= now);
        let due: Vec<usize> = self.seeds.indices(is_due);
        due.into_iter().for_each(|index| self.dial_seed(index));
    }

    /// The dial of a seed has failed.
    pub(super) fn seed_dial_ended(&mut self, index: usize, id: ConnId, why: &str, now: Duration) {
        let Some(seed) = self.seed(index).filter(|seed| seed.dial == Some(id)) else {
            return;
        };
        seed.dial = None;
        seed.last_error = Some(why.to_owned());
        match &mut seed.leads_to {
            Target::Unknown => {}
            Target::Node(node) => {
                let node = node.clone();
                self.arbitrate_again(&node, now);
            }
            Target::Ourselves { again, pause } => {
                *again = now + *pause;
                let again = *again;
                self.wake(again, MeshTimer::LookAgain);
            }
        }
    }

    /// Resets the retry delay, and dials the seeds that are down now, or a moment after their last dial.
    pub(in crate::kernel) fn retry_seeds(&mut self, now: Duration, random: &mut Random) {
        let Seeds { retry, dialled, .. } = &mut self.seeds;
        let delay = retry.restart(random);
        let earliest = dialled.map_or(Duration::ZERO, |dialled| dialled + delay);
        self.retry_seeds_at(now.max(earliest));
        self.seeds.reports = 0;
        self.seeds.quiet_until = now;
        self.expect_report(now);
    }

    /// As [`Mesh::retry_seeds`], for a seed that must not be dialled before `at`. The delay and the
    /// pause between reports stay the same.
    pub(super) fn retry_seeds_later(&mut self, at: Duration, now: Duration) {
        self.retry_seeds_at(at);
        self.expect_report(now);
    }

    fn retry_seeds_at(&mut self, at: Duration) {
        if self.seeds.retry.no_later_than(at) {
            self.wake(at, MeshTimer::DialSeeds);
        }
    }

    /// Schedules a log line in case that no seed can be reached soon.
    fn expect_report(&mut self, now: Duration) {
        if !self.seeds.report_is_due {
            self.seeds.report_is_due = true;
            let at = self.seeds.quiet_until.max(now + self.connect_interval);
            self.wake(at, MeshTimer::ReportSeeds);
        }
    }

    /// Sets the error that the seeds of a node show, or clears it.
    pub(super) fn set_seed_error(&mut self, node: &NodeId, error: Option<&str>) {
        for seed in &mut self.seeds.seeds {
            if seed.leads_to.node() == Some(node) {
                seed.last_error = error.map(str::to_owned);
            }
        }
    }

    /// Logs that no seed is connected, and why. Logs nothing if one is connected, or if this node is a
    /// seed.
    pub(super) fn report_seeds(&mut self, now: Duration) {
        self.seeds.report_is_due = false;
        let seeds = &self.seeds.seeds;
        let is_reached = |seed: &Seed| {
            let node = seed.leads_to.node().or(seed.claimed_by.as_ref());
            seed.leads_to.is_ourselves() || node.is_some_and(|node| self.is_up(node))
        };
        if seeds.is_empty() || seeds.iter().any(is_reached) {
            return;
        }
        let reasons = seeds.iter().map(Seed::why_not_reached).collect();
        self.log(Level::Warn, MeshLine::NoSeed(reasons, self.monitor_timeout));
        let seeds = &mut self.seeds;
        let pause = FIRST_REPORT_INTERVAL
            .saturating_mul(1 << seeds.reports.min(6))
            .min(MAX_REPORT_INTERVAL);
        seeds.reports += 1;
        seeds.report_is_due = true;
        seeds.quiet_until = now + pause;
        self.wake(now + pause, MeshTimer::ReportSeeds);
    }

    /// Dials all seeds that are down.
    pub(super) fn dial_seeds(&mut self, now: Duration) {
        if !self.seeds.retry.take_due(now) {
            return;
        }
        let is_down = |seed: &Seed| match &seed.leads_to {
            Target::Unknown => true,
            Target::Node(node) => !self.is_up(node),
            Target::Ourselves { .. } => false,
        };
        let until =
            |seed: &Seed| seed.leads_to.node().and_then(|node| self.unsteady.until(node, now));
        let ready = self.seeds.indices(|seed| is_down(seed) && until(seed).is_none());
        let others = self.seeds.seeds.iter().filter(|seed| is_down(seed));
        let next = others.filter_map(until).min();
        if !ready.is_empty() {
            self.seeds.dialled = Some(now);
            ready.into_iter().for_each(|index| self.dial_seed(index));
            let at = self.seeds.retry.again(now, self.monitor_timeout);
            self.wake(at, MeshTimer::DialSeeds);
        }
        if let Some(at) = next {
            self.retry_seeds_at(at);
        }
    }

    fn dial_seed(&mut self, index: usize) {
        let Some(seed) = self.seed(index).filter(|seed| seed.dial.is_none()) else {
            return;
        };
        let address = seed.address.clone();
        let conn = self.dial(DialReason::Seed(index), address);
        if let Some(seed) = self.seed(index) {
            seed.dial = Some(conn);
        }
    }

    /// Replaces the seeds; existing connections stay open.
    pub(in crate::kernel) fn set_seeds(
        &mut self,
        addresses: &[Str],
        now: Duration,
        random: &mut Random,
    ) {
        let old = std::mem::take(&mut self.seeds.seeds);
        for seed in &old {
            if let Some(dial) = seed.dial {
                self.close(dial, "no seed any more", now);
            }
        }
        self.seeds.seeds = addresses
            .iter()
            .map(|address| {
                let known = old.iter().find(|seed| seed.address == *address);
                let leads_to = known.map(|seed| seed.leads_to.clone()).unwrap_or_default();
                Seed { leads_to, ..Seed::new(address.clone()) }
            })
            .collect();
        // The timer may have been that of a dial that was closed above.
        self.wake(now + self.monitor_timeout, MeshTimer::LookAgain);
        self.retry_seeds(now, random);
    }

    /// The state of the seeds.
    pub(in crate::kernel) fn seed_status(&self) -> Vec<SeedStatus> {
        self.seeds
            .seeds
            .iter()
            .map(|seed| SeedStatus {
                address: seed.address.clone(),
                node: seed.leads_to.node().cloned(),
                is_ourselves: seed.leads_to.is_ourselves(),
                last_error: seed.last_error.clone(),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::kernel::{Effect, Kernel, KernelConfig, Level, Now};
    use crate::value::{NodeId, Str};
    use std::time::Duration;

    const INTERVAL: Duration = Duration::from_secs(2);

    fn kernel(seeds: &[&str]) -> Kernel {
        let config = KernelConfig {
            seeds: seeds.iter().map(|seed| Str::text(seed)).collect(),
            connect_interval: INTERVAL,
            heal: true,
            ..KernelConfig::repeatable(NodeId::try_from("worker").unwrap())
        };
        Kernel::new(config, Now::default())
    }

    /// Lets time pass while every dial is refused at once. Returns the warnings, with their times in
    /// seconds.
    fn warnings_within(kernel: &mut Kernel, time: Duration) -> Vec<(u64, String)> {
        let mut warnings = Vec::new();
        while let Some(at) = kernel.next_tick().filter(|at| *at <= time) {
            kernel.set_now(Now { uptime: at, wall: 0.0 });
            kernel.tick();
            for effect in kernel.take_effects() {
                match effect {
                    Effect::Dial { conn, address } => {
                        kernel.closed(conn, &format!("cannot connect to {address}: refused"));
                    }
                    Effect::Log { level: Level::Warn, line, .. } => {
                        warnings.push((at.as_secs(), line.to_string()))
                    }
                    _ => {}
                }
            }
        }
        warnings
    }

    #[test]
    fn a_node_that_reaches_no_seed_says_which_and_why_and_repeats_that_rarely() {
        let mut kernel = kernel(&["one:4040", "two:4040"]);
        let warnings = warnings_within(&mut kernel, Duration::from_secs(24 * 3600));
        let (first, text) = &warnings[0];
        assert_eq!(*first, INTERVAL.as_secs());
        assert!(text.contains("one:4040 (refused), two:4040 (refused)"), "{text}");
        let pauses: Vec<u64> = warnings.windows(2).map(|two| two[1].0 - two[0].0).collect();
        assert_eq!(pauses[..7], [60, 120, 240, 480, 960, 1920, 3600]);
        assert!(pauses.iter().all(|pause| *pause <= 3600) && warnings.len() < 32);
    }

    #[test]
    fn a_node_without_seeds_misses_none() {
        assert!(warnings_within(&mut kernel(&[]), Duration::from_secs(3600)).is_empty());
    }
}
