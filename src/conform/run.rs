//! Runs checks against a node: concurrently if they do not disturb each other, and with an upper limit
//! of time.

use super::check::{Check, Level, Listening};
use super::context::{Ctx, Reach, Target};
use super::node_process::NodeProcess;
use super::plan::{Place, Plan, PlanError, Start};
use super::position::Position;
use super::precondition::{self, Depth, Obstacle, TestableNode};
use super::profile::Profile;
use super::stop::Stop;
use parking_lot::Mutex;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

/// The maximum number of checks that talk to the node concurrently.
const MAX_CONCURRENT: usize = 24;
/// The maximum number of checks that failed because of a timeout and are repeated, each alone. If there
/// are more, the node is silent, not disturbed by other checks.
const MAX_RETRIES: usize = 20;
/// The maximum time of a run. It is extended by checks that wait for the node's `monitor_timeout`, and
/// for slow nodes.
const MAX_RUN_TIME: Duration = Duration::from_secs(110);

/// The result of a check.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The node keeps the statement.
    Passed,
    /// It does not.
    Missed {
        /// What happened.
        what: String,
        /// The conversation.
        transcript: Vec<String>,
    },
    /// It could not be determined.
    Skipped(String),
}

/// The result of one check.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The check.
    pub check: &'static Check,
    /// Who dialled.
    pub position: Position,
    /// The result.
    pub outcome: Outcome,
    /// Its duration.
    pub duration: Duration,
}

/// What the suite reports while it runs.
#[derive(Clone, Debug)]
pub enum Progress {
    /// The user has to start the node with these seeds.
    StartWith(Vec<SocketAddr>),
    /// A check has ended.
    Found(Finding),
}

/// Messages from the tasks of a run to the run itself.
enum Event {
    Found(Finding),
    /// The node cannot be tested any more.
    Over(Obstacle),
}

/// Carries out the plan, and returns the result of each check in the order of the checks.
///
/// # Errors
/// If the plan is invalid, or the node cannot be tested: it cannot be reached, ends, or belongs to another
/// network. A miss is not an error.
pub async fn run(
    plan: Plan,
    mut progress: impl FnMut(&Progress),
) -> Result<Vec<Finding>, PlanError> {
    if plan.target.secret.is_none() && plan.target.identity.is_none() {
        return Err(PlanError::NoCredentials);
    }
    let checks = plan.checks()?;
    let position = plan.position();
    let breaks_node = |check: &Check| {
        let deviation = plan.profile.and_then(|profile| profile.deviation(check.id, position));
        deviation.filter(|deviation| deviation.breaks_node)
    };
    let (events, mut happened) = mpsc::unbounded_channel();
    let mut harmless = Vec::new();
    for check in &checks {
        match breaks_node(check) {
            None => harmless.push(*check),
            Some(deviation) => {
                let outcome =
                    Outcome::Skipped(format!("it would break the node: {}", deviation.explanation));
                let duration = Duration::ZERO;
                let _ = events.send(Event::Found(Finding { check, position, outcome, duration }));
            }
        }
    }
    let target = Arc::new(plan.target.clone());
    let end = Instant::now() + MAX_RUN_TIME.max(target.monitor_timeout * 2);
    let extent = Depth::of(&plan.only);
    let by_hand = matches!(plan.place, Place::Listen { start: Start::ByHand, .. });
    let runner = Runner {
        patience: target.patience,
        slowness: 1.0,
        lacks_service: false,
        target,
        extent,
        profile: plan.profile,
        by_hand,
        run: run_label(),
        events,
        end,
        dialled: Arc::default(),
        node: Arc::default(),
        under_way: Arc::default(),
        late: Arc::default(),
    };
    let work: std::pin::Pin<Box<dyn Future<Output = ()> + Send>> = match &plan.place {
        Place::Dial(address) => Box::pin(runner.dial(harmless, address.clone())),
        Place::Listen { host, start } => {
            let host = *host;
            let seats = seats(&harmless, host, by_hand)
                .await
                .map_err(|source| PlanError::Listen { host, source })?;
            match start {
                Start::Command(command) => {
                    Box::pin(runner.with_command(seats, command.clone(), host))
                }
                Start::ByHand => {
                    progress(&Progress::StartWith(all_addresses(&seats)));
                    Box::pin(runner.by_hand(seats))
                }
            }
        }
    };
    let work = tokio::spawn(work);
    let mut all = Vec::new();
    while let Some(event) = happened.recv().await {
        match event {
            Event::Found(finding) => {
                progress(&Progress::Found(finding.clone()));
                all.push(finding);
            }
            Event::Over(obstacle) => {
                work.abort();
                return Err(obstacle.into());
            }
        }
    }
    // It has returned all results.
    let _ = work.await;
    let place = |finding: &Finding| checks.iter().position(|check| check.id == finding.check.id);
    all.sort_by_key(place);
    Ok(all)
}

/// A few characters that make the names of this run unique.
pub(super) fn run_label() -> String {
    let mut octets = [0; 4];
    // Most nodes accept the names of an earlier run.
    let _ = getrandom::fill(&mut octets);
    format!("c{:08x}", u32::from_ne_bytes(octets))
}

/// A check, with the addresses on which it waits for the node.
type ScheduledCheck = (&'static Check, Vec<Arc<TcpListener>>);

/// Checks that need a node of their own have seeds of their own. If there is only one node, they use the
/// same seeds one after another, which the node soon dials again.
async fn seats(
    checks: &[&'static Check],
    host: IpAddr,
    one_after_another: bool,
) -> io::Result<Vec<ScheduledCheck>> {
    let mut seats = Vec::new();
    let mut common: Vec<Arc<TcpListener>> = Vec::new();
    for check in checks {
        let (count, is_alone) = match check.listens {
            Listening::Alone(count) => (count, true),
            Listening::Shared | Listening::Never => (1, false),
        };
        let mut listeners = Vec::new();
        for index in 0..count {
            let known = common.get(index).filter(|_| is_alone && one_after_another);
            let listener = match known {
                Some(listener) => listener.clone(),
                None => Arc::new(TcpListener::bind((host, 0)).await?),
            };
            if is_alone && common.len() == index {
                common.push(listener.clone());
            }
            listeners.push(listener);
        }
        seats.push((*check, listeners));
    }
    Ok(seats)
}

fn all_addresses(seats: &[ScheduledCheck]) -> Vec<SocketAddr> {
    let listeners = seats.iter().flat_map(|(_, listeners)| listeners);
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in listeners.filter_map(|listener| listener.local_addr().ok()) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

/// Starts the node with these seeds.
fn started(command: &str, seeds: &[SocketAddr], stderr: Stdio) -> NodeProcess {
    let seeds: Vec<String> = seeds.iter().map(SocketAddr::to_string).collect();
    NodeProcess::start(&command.replace("{seeds}", &seeds.join(",")), None, None, stderr)
}

#[derive(Clone)]
struct Runner {
    target: Arc<Target>,
    /// The requested timeout; that of the target is longer if the node is slow.
    patience: Duration,
    /// The factor by which it is longer.
    slowness: f64,
    /// Whether the node lacks the test service that it should have.
    lacks_service: bool,
    /// The precondition of the first check.
    extent: Depth,
    /// The deviations to expect, which are not repeated.
    profile: Option<&'static Profile>,
    /// Whether the user has started the node, with seeds that cannot change any more.
    by_hand: bool,
    run: String,
    events: mpsc::UnboundedSender<Event>,
    /// When the run has to end.
    end: Instant,
    /// Whether the node has ever dialled.
    dialled: Arc<AtomicBool>,
    /// The ID of the node that somebody else has started.
    node: Arc<OnceLock<String>>,
    under_way: Arc<Mutex<RunProgress>>,
    /// Checks that failed because of a timeout while other checks ran, and may be repeated alone.
    late: Arc<Mutex<Vec<TimedOutCheck>>>,
}

/// A check that failed because of a timeout.
struct TimedOutCheck {
    finding: Finding,
    /// The node's address, if it does not dial.
    address: Option<String>,
}

/// The progress of a run's checks.
#[derive(Debug, Default)]
struct RunProgress {
    running: Vec<&'static str>,
    ended: usize,
}

impl Runner {
    /// The order of checks: first those of what nodes need to communicate, then those of faulty peers,
    /// so that a node that the latter break has already passed the former.
    async fn dial(mut self, checks: Vec<&'static Check>, address: String) {
        let reach = Reach::Dial(address.clone());
        let met = precondition::meets(&self.ctx("first", reach), &address, self.extent).await;
        match met {
            Ok(met) => self.adapt(met),
            Err(obstacle) => return self.over(obstacle),
        }
        let (tame, rough): (Vec<&Check>, Vec<&Check>) =
            checks.into_iter().partition(|check| check.level < Level::Ours);
        // Checks that wait for a timeout of the node run concurrently with all others.
        let (slow, tame): (Vec<&Check>, Vec<&Check>) =
            tame.into_iter().partition(|check| waits_long(check));
        let runner = self.clone();
        let reach = address.clone();
        let slow = tokio::spawn(async move { runner.dial_all(slow, reach).await });
        self.dial_all(tame, address.clone()).await;
        self.dial_all(rough, address).await;
        let _ = slow.await;
        self.try_again(None).await;
    }

    /// Repeats the checks that failed because of a timeout, each alone.
    async fn try_again(&mut self, command: Option<(&str, IpAddr)>) {
        let late = std::mem::take(&mut *self.late.lock());
        let is_silent = late.len() > MAX_RETRIES * self.slowness as usize;
        if late.is_empty() {
            return;
        }
        // The machine may have more load than at the start.
        let again = late.iter().find_map(|late| late.address.clone());
        let met = match (again, command) {
            (Some(address), _) => {
                let ctx = self.ctx("again", Reach::Dial(address.clone()));
                precondition::meets(&ctx, &address, self.extent).await
            }
            (None, Some((command, host))) => self.command_works(command, host).await,
            (None, None) => Ok(TestableNode::UNKNOWN),
        };
        let TestableNode { slowness, .. } = met.unwrap_or(TestableNode::UNKNOWN);
        self.adapt(TestableNode { slowness, lacks_service: false });
        for TimedOutCheck { finding, address } in late {
            let found = match (address, command) {
                _ if is_silent => None,
                (Some(address), _) => {
                    Some(self.attempt(finding.check, Reach::Dial(address), "-again").await)
                }
                (None, Some((command, host))) => match seats(&[finding.check], host, false).await {
                    Ok(seats) => {
                        let _node = started(command, &all_addresses(&seats), Stdio::null());
                        let listeners = seats.into_iter().flat_map(|(_, all)| all).collect();
                        let reach = Reach::Seeds(listeners);
                        Some(self.attempt(finding.check, reach, "-again").await)
                    }
                    Err(_) => None,
                },
                (None, None) => None,
            };
            let (finding, _) = found.unwrap_or((finding, false));
            self.found(finding);
        }
    }

    /// Extends all timeouts for a slow node, once; marks checks of a missing service as skipped.
    fn adapt(&mut self, TestableNode { slowness, lacks_service }: TestableNode) {
        self.lacks_service |= lacks_service;
        if slowness > self.slowness {
            self.end += MAX_RUN_TIME.mul_f64(slowness - self.slowness);
            self.slowness = slowness;
            let patience = self.patience.mul_f64(slowness);
            self.target = Arc::new(Target { patience, ..(*self.target).clone() });
        }
    }

    /// The number of checks that talk to the node concurrently.
    fn at_once(&self) -> usize {
        ((MAX_CONCURRENT as f64 / self.slowness) as usize).max(4)
    }

    fn found(&self, finding: Finding) {
        let _ = self.events.send(Event::Found(finding));
    }

    async fn dial_all(&self, checks: Vec<&'static Check>, address: String) {
        let room = Arc::new(Semaphore::new(self.at_once()));
        let mut tasks = JoinSet::new();
        for check in checks {
            let (runner, room) = (self.clone(), room.clone());
            let reach = Reach::Dial(address.clone());
            tasks.spawn(async move {
                let _permit = room.acquire_owned().await;
                runner.check(check, reach).await;
            });
        }
        tasks.join_all().await;
    }

    fn over(&self, obstacle: Obstacle) {
        // The receiver has ended if another task was faster.
        let _ = self.events.send(Event::Over(obstacle));
    }

    fn ctx(&self, name: &str, reach: Reach) -> Ctx {
        let label = format!("{}-{name}", self.run);
        let node = if self.by_hand { self.node.clone() } else { Arc::default() };
        Ctx::new(self.target.clone(), reach, label, self.dialled.clone(), node)
    }

    /// Checks that the command starts a node with which a handshake succeeds.
    async fn command_works(&self, command: &str, host: IpAddr) -> Result<TestableNode, Obstacle> {
        let listener = match TcpListener::bind((host, 0)).await {
            Ok(listener) => Arc::new(listener),
            // The checks have their own.
            Err(_) => return Ok(TestableNode::UNKNOWN),
        };
        let addresses: Vec<SocketAddr> = listener.local_addr().into_iter().collect();
        let place = addresses.iter().map(SocketAddr::to_string).collect::<String>();
        let mut node = started(command, &addresses, Stdio::piped());
        let ctx = self.ctx("first", Reach::Seeds(vec![listener]));
        let met = tokio::select! {
            met = precondition::meets(&ctx, &place, self.extent) => met,
            ended = node.failed() => return Err(ended),
        };
        match met {
            Err(Obstacle::Unreachable { .. }) => {
                Err(Obstacle::NobodyDials { waited: ctx.until_dialled(), said: node.said() })
            }
            met => met,
        }
    }

    /// Checks that can share a node use one together; each of the others has a node of its own.
    async fn with_command(mut self, seats: Vec<ScheduledCheck>, command: String, host: IpAddr) {
        match self.command_works(&command, host).await {
            Ok(met) => self.adapt(met),
            Err(obstacle) => return self.over(obstacle),
        }
        let (shared, alone): (Vec<ScheduledCheck>, Vec<ScheduledCheck>) =
            seats.into_iter().partition(|(check, _)| check.listens == Listening::Shared);
        let mut tasks = JoinSet::new();
        let processes = std::thread::available_parallelism().map_or(4, |cores| cores.get() * 3);
        let room = Arc::new(Semaphore::new((processes as f64 / self.slowness).ceil() as usize));
        // A node should not get hundreds of seeds at once.
        for wave in shared.chunks(self.at_once()) {
            let (runner, room, command) = (self.clone(), room.clone(), command.clone());
            let wave = wave.to_vec();
            tasks.spawn(async move {
                let _permit = room.acquire_owned().await;
                let _node = started(&command, &all_addresses(&wave), Stdio::null());
                runner.share(wave).await;
            });
        }
        for (check, listeners) in alone {
            let (runner, room, command) = (self.clone(), room.clone(), command.clone());
            tasks.spawn(async move {
                let _permit = room.acquire_owned().await;
                let seat = [(check, listeners.clone())];
                let _node = started(&command, &all_addresses(&seat), Stdio::null());
                runner.check(check, Reach::Seeds(listeners)).await;
            });
        }
        tasks.join_all().await;
        self.try_again(Some((&command, host))).await;
    }

    /// Runs all checks with one node, which the user starts: it changes from one master to the next.
    async fn by_hand(self, seats: Vec<ScheduledCheck>) {
        let (shared, alone): (Vec<ScheduledCheck>, Vec<ScheduledCheck>) =
            seats.into_iter().partition(|(check, _)| check.listens == Listening::Shared);
        self.share(shared).await;
        if !self.dialled.load(Ordering::Relaxed) {
            let waited = self.ctx("first", Reach::Seeds(Vec::new())).until_dialled();
            return self.over(Obstacle::NobodyDials { waited, said: String::new() });
        }
        for (check, listeners) in alone {
            self.check(check, Reach::Seeds(listeners)).await;
        }
    }

    async fn share(&self, seats: Vec<ScheduledCheck>) {
        let mut tasks = JoinSet::new();
        for (check, listeners) in seats {
            let runner = self.clone();
            tasks.spawn(async move { runner.check(check, Reach::Seeds(listeners)).await });
        }
        tasks.join_all().await;
    }

    /// Runs one check among others, and reports the result, unless the check has to be repeated.
    async fn check(&self, check: &'static Check, reach: Reach) {
        let address = match &reach {
            Reach::Dial(address) => Some(address.clone()),
            Reach::From(_, address) => Some(address.to_string()),
            Reach::Seeds(_) => None,
        };
        self.under_way.lock().running.push(check.id);
        let (finding, is_late) = self.attempt(check, reach, "").await;
        if let (Outcome::Missed { .. }, Some(address)) = (&finding.outcome, &address) {
            let running = self.under_way.lock().running.join(", ");
            if precondition::is_gone(address, self.target.patience).await {
                let (address, checks) = (address.clone(), self.under_way.lock().ended);
                return self.over(Obstacle::Gone { address, checks, running });
            }
        }
        let mut under_way = self.under_way.lock();
        under_way.running.retain(|id| *id != check.id);
        under_way.ended += 1;
        drop(under_way);
        let expected = self.profile.and_then(|known| known.deviation(check.id, finding.position));
        match is_late && !self.by_hand && expected.is_none() {
            true => self.late.lock().push(TimedOutCheck { finding, address }),
            false => self.found(finding),
        }
    }

    /// Runs one check, and ends it in any case. Also returns whether it failed because of a timeout.
    async fn attempt(&self, check: &'static Check, reach: Reach, again: &str) -> (Finding, bool) {
        let start = Instant::now();
        let mut ctx = self.ctx(&format!("{}{again}", check.id), reach);
        ctx.lacks_service = self.lacks_service && check.id != Ctx::SHOWS_SERVICE;
        let position = ctx.position();
        let transcript = ctx.transcript.clone();
        let mut task = tokio::spawn((check.run)(ctx));
        let limit = limit(check, &self.target).min(self.end.saturating_duration_since(start));
        let missed = |what| Outcome::Missed { what, transcript: transcript.lines() };
        let (outcome, is_late) = match tokio::time::timeout(limit, &mut task).await {
            Ok(Ok(Ok(()))) => (Outcome::Passed, false),
            Ok(Ok(Err(Stop::Skip(why)))) => (Outcome::Skipped(why), false),
            // The node gives up what takes longer than its own limits, the shortest of which this is.
            Ok(Ok(Err(Stop::Miss(what)))) => {
                (missed(what), start.elapsed() >= self.target.connect_interval)
            }
            Ok(Ok(Err(Stop::Late(what)))) => (missed(what), true),
            Ok(Err(_)) => {
                (missed("the check itself broke: a defect of the suite".to_owned()), false)
            }
            Err(_) => {
                task.abort();
                match Instant::now() < self.end {
                    true => (missed(format!("the whole check took more than {limit:?}")), true),
                    false => (missed("the run took too long and was ended".to_owned()), false),
                }
            }
        };
        (Finding { check, position, outcome, duration: start.elapsed() }, is_late)
    }
}

/// Whether a check mostly waits for the node's `monitor_timeout`.
fn waits_long(check: &Check) -> bool {
    matches!(check.id, "refuse-silence" | "refuse-half")
}

fn limit(check: &Check, target: &Target) -> Duration {
    match waits_long(check) {
        true => target.monitor_timeout * 3 / 2 + target.patience * 5,
        false => target.patience * 6,
    }
}
