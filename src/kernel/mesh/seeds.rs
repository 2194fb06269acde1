//! The seeds: the nodes that the configuration names, and when they are dialled.

use super::backoff::Backoff;
use super::connection::Goal;
use super::{Mesh, MeshOutput, MeshTimer};
use crate::kernel::effect::{ConnId, Level, seconds};
use crate::kernel::random::Random;
use crate::value::{NodeId, Str};
use std::time::Duration;

/// The unit of the first retry; a random factor between 2 and 4 goes on top.
const RETRY: Duration = Duration::from_millis(600);

/// Pause between the first log line that says that no seed is connected and the second; the pauses
/// after that double.
const REPORT: Duration = Duration::from_secs(60);

/// The longest pause between two such lines.
const LONGEST_REPORT: Duration = Duration::from_secs(3600);

/// The longest pause before a seed that led to this node itself is looked at again.
const LONGEST_LOOK: Duration = Duration::from_secs(120);

/// All seeds, as configured.
#[derive(Debug)]
pub(super) struct Seeds {
    seeds: Vec<Seed>,
    retry: Backoff,
    /// When they were dialled last.
    dialled: Option<Duration>,
    /// Whether a [`MeshTimer::ReportSeeds`] is set.
    report_is_due: bool,
    /// Log lines that have said that no seed is connected, since one was.
    reports: u32,
    /// The next of these lines comes no earlier.
    quiet_until: Duration,
}

#[derive(Debug)]
struct Seed {
    address: Str,
    leads_to: LeadsTo,
    /// A connected node that greeted there, and that cannot prove more than that: it refuses second
    /// connections.
    claimed_by: Option<NodeId>,
    dial: Option<ConnId>,
    last_error: Option<String>,
}

/// Where the address of a seed leads, as proven on the last of its connections that got so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum LeadsTo {
    #[default]
    Unknown,
    Node(NodeId),
    /// To this node itself. Addresses can move, so that it is dialled again at `again`.
    Ourselves {
        again: Duration,
        pause: Duration,
    },
}

impl LeadsTo {
    fn node(&self) -> Option<&NodeId> {
        match self {
            LeadsTo::Node(node) => Some(node),
            LeadsTo::Unknown | LeadsTo::Ourselves { .. } => None,
        }
    }

    fn is_ourselves(&self) -> bool {
        matches!(self, LeadsTo::Ourselves { .. })
    }
}

impl Seeds {
    pub(super) fn new(addresses: &[Str]) -> Self {
        Seeds {
            seeds: addresses.iter().cloned().map(Seed::new).collect(),
            retry: Backoff::new(RETRY),
            dialled: None,
            report_is_due: false,
            reports: 0,
            quiet_until: Duration::ZERO,
        }
    }

    /// The nodes of those that are known, in the configured order.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &NodeId> {
        self.seeds.iter().filter_map(|seed| seed.leads_to.node())
    }

    /// The connected nodes that greeted at a seed's address without proving that they are there.
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

    /// The seeds whose node this is.
    fn of<'a>(&'a self, node: &'a NodeId) -> impl Iterator<Item = &'a Seed> {
        self.seeds.iter().filter(move |seed| seed.leads_to.node() == Some(node))
    }

    /// Where a node can be reached, if it is a seed's.
    pub(super) fn addresses_of<'a>(&'a self, node: &'a NodeId) -> impl Iterator<Item = &'a Str> {
        self.of(node).map(|seed| &seed.address)
    }

    /// The dials of seeds of which this was the node.
    pub(super) fn dials_of<'a>(&'a self, node: &'a NodeId) -> impl Iterator<Item = &'a ConnId> {
        self.of(node).filter_map(|seed| seed.dial.as_ref())
    }
}

impl Seed {
    fn new(address: Str) -> Self {
        let leads_to = LeadsTo::Unknown;
        Seed { address, leads_to, claimed_by: None, dial: None, last_error: None }
    }

    /// Its address and the last error, for the log.
    fn why_not_reached(&self) -> String {
        let Seed { address, last_error, .. } = self;
        let error = last_error.as_deref().unwrap_or("no answer yet");
        let prefix = format!("cannot connect to {address}: ");
        format!("{address} ({})", error.strip_prefix(&prefix).unwrap_or(error))
    }
}

/// What is known of a configured seed, for status displays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeedStatus {
    /// As configured.
    pub address: Str,
    /// Its node, once it has authenticated.
    pub node: Option<NodeId>,
    /// Whether it is this node itself.
    pub is_ourselves: bool,
    /// Why the last attempt failed.
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
            seed.leads_to = LeadsTo::Node(node.clone());
            if self.is_up(node) {
                self.outputs.push(MeshOutput::SeedUp(node.clone()));
            }
        }
    }

    /// A node that is connected, and refuses second connections, has greeted at a seed's address.
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
            LeadsTo::Ourselves { pause, .. } => (false, (pause * 2).min(LONGEST_LOOK)),
            LeadsTo::Unknown | LeadsTo::Node(_) => (true, first_pause),
        };
        let again = now + pause;
        seed.leads_to = LeadsTo::Ourselves { again, pause };
        seed.claimed_by = None;
        seed.dial = None;
        seed.last_error = None;
        let address = seed.address.clone();
        self.wake(again, MeshTimer::LookAgain);
        if is_new {
            self.log(Level::Info, format_args!("seed {address} is this node: now global"));
            self.outputs.push(MeshOutput::IsSeed);
        }
    }

    /// Dials the seeds again that led to this node itself, if it is time.
    pub(super) fn look_again(&mut self, now: Duration) {
        let is_due =
            |seed: &Seed| matches!(seed.leads_to, LeadsTo::Ourselves { again, .. } if again <= now);
        let due: Vec<usize> = self.seeds.indices(is_due);
        due.into_iter().for_each(|index| self.dial_seed(index));
    }

    /// The dial of a seed has led nowhere.
    pub(super) fn seed_dial_ended(&mut self, index: usize, id: ConnId, why: &str, now: Duration) {
        let Some(seed) = self.seed(index).filter(|seed| seed.dial == Some(id)) else {
            return;
        };
        seed.dial = None;
        seed.last_error = Some(why.to_owned());
        match &mut seed.leads_to {
            LeadsTo::Unknown => {}
            LeadsTo::Node(node) => {
                let node = node.clone();
                self.arbitrate_again(&node, now);
            }
            LeadsTo::Ourselves { again, pause } => {
                *again = now + *pause;
                let again = *again;
                self.wake(again, MeshTimer::LookAgain);
            }
        }
    }

    /// Makes the seeds that are down be dialled now, or a moment after they were dialled last, and
    /// the delay between retries short again.
    pub(in crate::kernel) fn retry_seeds(&mut self, now: Duration, random: &mut Random) {
        let Seeds { retry, dialled, .. } = &mut self.seeds;
        let delay = retry.restart(random);
        let earliest = dialled.map_or(Duration::ZERO, |dialled| dialled + delay);
        self.retry_seeds_at(now.max(earliest));
        self.seeds.reports = 0;
        self.seeds.quiet_until = now;
        self.expect_report(now);
    }

    /// As [`Mesh::retry_seeds`], for one that is not to be dialled before `at`; the delay and the pause
    /// between reports stay as they are.
    pub(super) fn retry_seeds_later(&mut self, at: Duration, now: Duration) {
        self.retry_seeds_at(at);
        self.expect_report(now);
    }

    fn retry_seeds_at(&mut self, at: Duration) {
        if self.seeds.retry.no_later_than(at) {
            self.wake(at, MeshTimer::DialSeeds);
        }
    }

    /// Sees to it that it is logged if no seed can be reached soon.
    fn expect_report(&mut self, now: Duration) {
        if !self.seeds.report_is_due {
            self.seeds.report_is_due = true;
            let at = self.seeds.quiet_until.max(now + self.connect_interval);
            self.wake(at, MeshTimer::ReportSeeds);
        }
    }

    /// What the status of the seeds of a node says of the connection that it has, or of its loss.
    pub(super) fn set_seed_error(&mut self, node: &NodeId, error: Option<&str>) {
        for seed in &mut self.seeds.seeds {
            if seed.leads_to.node() == Some(node) {
                seed.last_error = error.map(str::to_owned);
            }
        }
    }

    /// Logs that no seed is connected, and why; nothing if one is, or if this node is one.
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
        let reasons: Vec<String> = seeds.iter().map(Seed::why_not_reached).collect();
        let retry = seconds(self.monitor_timeout);
        let text = format!(
            "no seed can be reached: {}. Until one of them runs this node is alone; they are tried \
             again at least every {retry}",
            reasons.join(", ")
        );
        self.log(Level::Warn, format_args!("{text}"));
        let seeds = &mut self.seeds;
        let pause = REPORT.saturating_mul(1 << seeds.reports.min(6)).min(LONGEST_REPORT);
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
            LeadsTo::Unknown => true,
            LeadsTo::Node(node) => !self.is_up(node),
            LeadsTo::Ourselves { .. } => false,
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
        let conn = self.dial(Goal::Seed(index), address);
        if let Some(seed) = self.seed(index) {
            seed.dial = Some(conn);
        }
    }

    /// Replaces the seeds; connections that exist stay.
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

    /// What is known of the seeds.
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
            node: NodeId::try_from("worker").unwrap(),
            addresses: Vec::new(),
            seeds: seeds.iter().map(|seed| Str::text(seed)).collect(),
            monitor_timeout: Duration::from_secs(30),
            connect_interval: INTERVAL,
            secure: false,
            heal: true,
            grace: KernelConfig::DEFAULT_GRACE,
            process_id: 1,
            entropy: [7; 32],
        };
        Kernel::new(config, Now::default())
    }

    /// Lets time pass; every dial is refused at once. The warnings, with their times in seconds.
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
                    Effect::Log { level: Level::Warn, text, .. } => {
                        warnings.push((at.as_secs(), text))
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
