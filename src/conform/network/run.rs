//! Runs the checks of networks for each pair of implementations in each variant, several networks at a time.

use super::checks::{self, NetworkCheck};
use super::hosts::Side;
use super::known::KnownMiss;
use super::member::Member;
use super::net::Net;
use super::plan::{Common, Implementation, NetworkError, NetworkPlan, Pair, Variant};
use super::wiring::Wiring;
use crate::conform::echo;
use crate::conform::run::{Outcome, run_label};
use crate::conform::stop::{Stop, Verdict};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// The check that every network has to pass before others make sense.
const FIRST: &str = "net-join";

/// The maximum number of checks that failed because of a timeout and are repeated, each alone.
const MAX_RETRIES: usize = 8;

/// The result of one check in one network.
#[derive(Clone, Debug)]
pub struct NetworkFinding {
    /// The check.
    pub check: &'static NetworkCheck,
    /// The implementations, in their roles.
    pub pair: (Arc<Implementation>, Arc<Implementation>),
    /// The properties of the connections.
    pub variant: Variant,
    /// Why it is known to be missed, if it is.
    pub known: Option<&'static str>,
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took.
    pub duration: Duration,
}

/// What a network run has found.
#[derive(Clone, Debug)]
pub struct NetworkRun {
    /// How the nodes were connected.
    pub wiring: Wiring,
    /// The result of each check, in the order of pairs, variants and checks.
    pub findings: Vec<NetworkFinding>,
}

impl NetworkPlan {
    /// The checks of this plan.
    ///
    /// # Errors
    /// If a name in `only` does not match any check.
    pub fn checks(&self) -> Result<Vec<&'static NetworkCheck>, NetworkError> {
        let all: Vec<_> = checks::all().collect();
        crate::conform::plan::selected(&all, &self.only, |check| check.id)
            .map_err(|name| NetworkError::UnknownCheck { name })
    }
}

/// Carries out the plan, and returns the result of each check.
///
/// # Errors
/// If the plan is invalid, or a command does not start a node that can be tested. A miss is not an error.
pub async fn run_network(
    plan: NetworkPlan,
    progress: impl Fn(&NetworkFinding) + Send + Sync + 'static,
) -> Result<NetworkRun, NetworkError> {
    let checks = plan.checks()?;
    let label = run_label();
    let wiring = plan.wiring.here().await?;
    let (common, slowness) = preconditions(&plan, &label, &wiring).await?;
    let networks: Vec<(Pair, Variant)> = plan
        .variants
        .iter()
        .flat_map(|variant| plan.pairs.iter().map(|pair| (pair.clone(), *variant)))
        .collect();
    let runner = Runner {
        common: Arc::new(common),
        label: label.into(),
        wiring: wiring.clone(),
        room: Arc::new(Semaphore::new(at_once(slowness))),
        progress: Arc::new(progress),
    };
    let mut tasks = JoinSet::new();
    for (number, (pair, variant)) in networks.into_iter().enumerate() {
        let (runner, checks) = (runner.clone(), checks.clone());
        tasks.spawn(async move { (number, runner.network(number, &pair, variant, checks).await) });
    }
    let mut found = tasks.join_all().await;
    found.sort_by_key(|(number, _)| *number);
    let mut findings = Vec::new();
    let mut left = MAX_RETRIES;
    for Found { mut finding, is_late } in found.into_iter().flat_map(|(_, all)| all) {
        if is_late && left > 0 {
            left -= 1;
            finding = runner.again(finding).await;
        }
        findings.push(finding);
    }
    Ok(NetworkRun { wiring, findings })
}

/// The number of concurrent networks; most of the time they wait.
fn at_once(slowness: f64) -> usize {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    (cores as f64 * 3.0 / slowness.max(1.0)).ceil().max(1.0) as usize
}

/// Checks that each command starts a node that greets, authenticates and has the test service. The time
/// of an echo determines the timeouts.
async fn preconditions(
    plan: &NetworkPlan,
    label: &str,
    wiring: &Wiring,
) -> Result<(Common, f64), NetworkError> {
    let common = Arc::new(plan.common.clone());
    let mut slowest = Duration::ZERO;
    let mut tried: Vec<(String, Variant)> = Vec::new();
    for variant in &plan.variants {
        for implementation in plan.pairs.iter().flat_map(|(first, second)| [first, second]) {
            let this = (implementation.name.clone(), *variant);
            if tried.contains(&this) || variant.tls && implementation.tls.is_none() {
                continue;
            }
            let pair = (implementation.clone(), implementation.clone());
            let label = format!("{label}-first");
            let net = Net::new(&common, &pair, *variant, &label, wiring);
            let echo = precondition(net).await.map_err(|stop| NetworkError::NoNode {
                implementation: implementation.name.clone(),
                variant: *variant,
                reason: match stop {
                    Stop::Miss(what) | Stop::Late(what) | Stop::Skip(what) => what,
                },
            })?;
            slowest = slowest.max(echo);
            tried.push(this);
        }
    }
    let slowness = echo::slowness(slowest);
    let mut common = plan.common.clone();
    common.patience = common.patience.mul_f64(slowness);
    Ok((common, slowness))
}

async fn precondition(net: impl Future<Output = Verdict<Net>>) -> Verdict<Duration> {
    let net = net.await?;
    let mut node = Member::first(&net, "first", Side::Left)?;
    let nowhere = net.relay(node.address)?;
    nowhere.cut();
    node.start(&[nowhere.address()]);
    node.ready().await?;
    echo::slowest(node.service()?).await
}

#[derive(Clone)]
struct Runner {
    common: Arc<Common>,
    label: Arc<str>,
    wiring: Wiring,
    room: Arc<Semaphore>,
    progress: Arc<dyn Fn(&NetworkFinding) + Send + Sync>,
}

/// The result of a check, and whether it has to be repeated.
struct Found {
    finding: NetworkFinding,
    is_late: bool,
}

impl Runner {
    /// All checks for one pair in one variant. If the network does not start, the others are skipped.
    async fn network(
        &self,
        number: usize,
        pair: &Pair,
        variant: Variant,
        checks: Vec<&'static NetworkCheck>,
    ) -> Vec<Found> {
        let without_tls = [&pair.0, &pair.1].into_iter().find(|one| one.tls.is_none());
        let mut obstacle = match without_tls {
            Some(one) if variant.tls => Some(format!("{}: the key tls is missing", one.name)),
            _ => None,
        };
        let mut all = Vec::new();
        let mut rest = checks.into_iter().peekable();
        if obstacle.is_none()
            && let Some(first) = rest.next_if(|check| check.id == FIRST)
        {
            let mut found = self.check(number, first, pair, variant).await;
            if found.is_late {
                // All others depend on it.
                found = Found { finding: self.again(found.finding).await, is_late: false };
            }
            if let Outcome::Missed { .. } = found.finding.outcome {
                obstacle = Some(format!("there is no network: see {FIRST}"));
            }
            all.push(found);
        }
        if let Some(why) = obstacle {
            let skipped = rest.map(|check| {
                let outcome = Outcome::Skipped(why.clone());
                let finding = self.finding(check, pair, variant, outcome, Duration::ZERO);
                (self.progress)(&finding);
                Found { finding, is_late: false }
            });
            all.extend(skipped);
            return all;
        }
        let mut tasks = JoinSet::new();
        for (place, check) in rest.enumerate() {
            let (runner, pair) = (self.clone(), pair.clone());
            tasks.spawn(async move { (place, runner.check(number, check, &pair, variant).await) });
        }
        let mut others = tasks.join_all().await;
        others.sort_by_key(|(place, _)| *place);
        all.extend(others.into_iter().map(|(_, found)| found));
        all
    }

    /// Runs one check while others run. It has to be repeated if it failed because of a timeout and this
    /// is not a known miss.
    async fn check(
        &self,
        number: usize,
        check: &'static NetworkCheck,
        pair: &Pair,
        variant: Variant,
    ) -> Found {
        let permit = self.room.acquire().await;
        let label = format!("{}-{number}-{}", self.label, check.id);
        let start = Instant::now();
        let net = Net::new(&self.common, pair, variant, &label, &self.wiring);
        let (outcome, is_late) = attempt(check, net).await;
        drop(permit);
        let finding = self.finding(check, pair, variant, outcome, start.elapsed());
        let is_late = is_late && finding.known.is_none();
        if !is_late {
            (self.progress)(&finding);
        }
        Found { finding, is_late }
    }

    fn finding(
        &self,
        check: &'static NetworkCheck,
        pair: &Pair,
        variant: Variant,
        outcome: Outcome,
        duration: Duration,
    ) -> NetworkFinding {
        let known = KnownMiss::about(check.id, pair, &self.wiring).map(|known| known.explanation);
        NetworkFinding { check, pair: pair.clone(), variant, known, outcome, duration }
    }

    /// Runs a check again, when no other one runs.
    async fn again(&self, mut finding: NetworkFinding) -> NetworkFinding {
        let NetworkFinding { check, pair, variant, .. } = &finding;
        let label = format!("{}-again-{}", self.label, check.id);
        let net = Net::new(&self.common, pair, *variant, &label, &self.wiring);
        (finding.outcome, _) = attempt(check, net).await;
        (self.progress)(&finding);
        finding
    }
}

/// Runs a check, and ends it in any case. Also returns whether it failed because of a timeout.
async fn attempt(
    check: &'static NetworkCheck,
    net: impl Future<Output = Verdict<Net>>,
) -> (Outcome, bool) {
    let net = match net.await {
        Ok(net) => net,
        Err(Stop::Skip(why) | Stop::Miss(why) | Stop::Late(why)) => {
            return (Outcome::Skipped(why), false);
        }
    };
    let transcript = net.transcript.clone();
    let limit = net.settle() * 6;
    let mut task = tokio::spawn((check.run)(net));
    let missed = |what| Outcome::Missed { what, transcript: transcript.lines() };
    match tokio::time::timeout(limit, &mut task).await {
        Ok(Ok(Ok(()))) => (Outcome::Passed, false),
        Ok(Ok(Err(Stop::Skip(why)))) => (Outcome::Skipped(why), false),
        Ok(Ok(Err(Stop::Miss(what)))) => (missed(what), false),
        Ok(Ok(Err(Stop::Late(what)))) => (missed(what), true),
        Ok(Err(_)) => (missed("the check itself broke: a defect of the suite".to_owned()), false),
        Err(_) => {
            task.abort();
            (missed(format!("the whole check took more than {limit:?}")), true)
        }
    }
}
