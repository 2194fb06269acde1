//! Supervisors and services while nodes are killed, networks are cut or silent and seeds are restarted:
//!
//! - Within [`LIMIT`] of the network being whole again there is one of each singleton, and as long as
//!   it is whole there are never two of one for longer than that.
//! - No child is forgotten: its supervisor knows each one that runs, and once supervisors have ended
//!   none runs.
//! - Calls are answered, or fail.

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod chaos_support;
mod node_support;

use aemp::patterns::Failure;
use aemp::patterns::actor::{self, Actor, ActorContext, ActorRef};
use aemp::patterns::service::Service;
use aemp::patterns::supervisor::{Child, Place, Request, Strategy, Supervisor};
use aemp::{Node, PortId, Reply};
use chaos_support::{Host, MONITOR_TIMEOUT, Passing, Random, number, start_seed};
use node_support::{until, within};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How many rounds of trouble there are; after each everything is connected again, and looked at.
const ROUNDS: usize = 3;

/// What `patterns::supervisor` promises: `monitor_timeout` and five seconds.
const LIMIT: Duration = Duration::from_secs(MONITOR_TIMEOUT.as_secs() + 5);

/// Singletons that are supervised.
const CHILDREN: [&str; 3] = ["a", "b", "c"];

/// How many of each singleton there are, wherever they run, and for how long there were several
/// while the network was whole.
#[derive(Clone, Default)]
struct Census(Arc<Mutex<Counts>>);

#[derive(Default)]
struct Counts {
    running: BTreeMap<String, usize>,
    several_since: BTreeMap<String, Instant>,
    /// Since when the network has been whole.
    whole_since: Option<Instant>,
    longest: Duration,
}

impl Counts {
    /// To be called before something changes.
    fn note(&mut self) {
        let Some(whole) = self.whole_since else { return };
        for several in self.several_since.values() {
            self.longest = self.longest.max((*several).max(whole).elapsed());
        }
    }
}

impl Census {
    fn of(&self, name: &str) -> usize {
        self.0.lock().unwrap().running.get(name).copied().unwrap_or(0)
    }

    fn change(&self, name: &str, change: isize) {
        let mut counts = self.0.lock().unwrap();
        counts.note();
        let running = counts.running.entry(name.to_owned()).or_default();
        *running = running.checked_add_signed(change).unwrap();
        match *running {
            0 | 1 => drop(counts.several_since.remove(name)),
            _ => drop(counts.several_since.entry(name.to_owned()).or_insert_with(Instant::now)),
        }
    }

    fn set_whole(&self, is_whole: bool) {
        let mut counts = self.0.lock().unwrap();
        counts.note();
        counts.whole_since = is_whole.then(Instant::now);
    }

    /// The longest time for which there were several of one while the network was whole.
    fn longest(&self) -> Duration {
        let mut counts = self.0.lock().unwrap();
        counts.note();
        counts.longest
    }
}

/// A child: it is registered in the family of its name as long as it lives.
struct Singleton {
    name: String,
    census: Census,
}

impl Singleton {
    fn new(name: String, census: Census) -> Singleton {
        census.change(&name, 1);
        Singleton { name, census }
    }
}

impl Drop for Singleton {
    fn drop(&mut self) {
        self.census.change(&self.name, -1);
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Ask {
    Name(Reply<String>),
    Fail,
}

impl Actor for Singleton {
    type Message = Ask;

    async fn started(&mut self, ctx: &ActorContext) -> Result<(), Failure> {
        Ok(ctx.register(self.name.as_str())?)
    }

    async fn handle(&mut self, _: &ActorContext, message: Ask) -> Result<(), Failure> {
        match message {
            Ask::Name(reply) => reply.send(self.name.clone())?,
            Ask::Fail => return Err("as told".into()),
        }
        Ok(())
    }
}

/// A network of a seed, a supervisor, a client, and hosts for children.
struct Network {
    seed: Option<Node>,
    /// The supervisor's node, the client's, and then the hosts.
    hosts: Vec<Host>,
    census: Census,
    strategy: Strategy,
    supervisor: Option<ActorRef<Request>>,
}

impl Network {
    async fn new(strategy: Strategy) -> Network {
        let mut hosts = Vec::new();
        for id in ["supervisor", "client", "h1", "h2", "h3"] {
            hosts.push(Host::new(id).await);
        }
        let census = Census::default();
        let mut network = Network { seed: None, hosts, census, strategy, supervisor: None };
        network.mend().await;
        network
    }

    /// Everything runs and is connected.
    async fn mend(&mut self) {
        if self.seed.is_none() {
            self.seed = Some(start_seed(&self.hosts).await);
        }
        for (index, host) in self.hosts.iter_mut().enumerate() {
            let census = self.census.clone();
            let init = move |(name,): (String,)| Ok(Singleton::new(name, census.clone()));
            let node = host.mend().await;
            node.expose("Singleton::new", actor::init(init));
            if index > 1 {
                node.db().set("hosts", node.id().clone(), ()).unwrap();
            }
        }
        if self.supervisor.is_none() {
            self.supervisor = Some(supervisor(self.strategy).start(self.node(0)));
        }
        self.census.set_whole(true);
    }

    fn node(&self, index: usize) -> &Node {
        self.hosts[index].node.as_ref().unwrap()
    }

    /// The children that the supervisor knows.
    async fn children(&self) -> Vec<(String, Option<PortId>)> {
        let supervisor = self.supervisor.as_ref().unwrap();
        within(supervisor.call(Request::Children)).await.unwrap()
    }

    /// One piece of trouble, by chance.
    async fn trouble(&mut self, random: &mut Random) -> String {
        let index = 2 + random.below(self.hosts.len() - 2);
        match random.below(8) {
            kind @ (0 | 1) => {
                self.hosts[index].kill(kind == 0).await;
                format!("{} is killed", self.hosts[index].id)
            }
            kind @ (2..5) => {
                // The supervisor and the client may be cut off, too.
                let host = &self.hosts[random.below(self.hosts.len())];
                let passing = if kind == 4 { Passing::Nothing } else { Passing::Cut };
                self.census.set_whole(false);
                host.set(passing);
                format!("{} is cut off: {passing:?}", host.id)
            }
            5 => {
                self.census.set_whole(false);
                if let Some(seed) = self.seed.take() {
                    within(seed.shutdown()).await;
                }
                "the seed is killed".to_owned()
            }
            6 => {
                self.supervisor = None;
                self.hosts[0].kill(false).await;
                "the supervisor is killed".to_owned()
            }
            _ => {
                if self.supervisor.is_none() {
                    return "nothing".to_owned();
                }
                let (name, port) = self.children().await[random.below(CHILDREN.len())].clone();
                if let Some(port) = port {
                    self.node(0).snd(&port, Ask::Fail).unwrap();
                }
                format!("{name} fails")
            }
        }
    }
}

fn supervisor(strategy: Strategy) -> Supervisor {
    let spawned = |name: &&str| {
        let place = Place::Family("hosts".into());
        Child::spawned_actor(name, place, "Singleton::new", *name)
    };
    CHILDREN
        .iter()
        .map(spawned)
        .fold(Supervisor::new(strategy), Supervisor::child)
        .intensity(1000, Duration::from_secs(1))
        .backoff(Duration::from_millis(10), Duration::from_millis(100))
}

/// Calls by service never wait for ever: each is answered, or it fails.
async fn call_all_the_time(
    service: Service<()>,
    name: &'static str,
    over: Arc<AtomicBool>,
) -> usize {
    let mut answers = 0;
    while !over.load(Ordering::SeqCst) {
        match within(service.call::<String>(("name",)).safe_to_repeat()).await {
            Ok(answer) => {
                assert_eq!(answer, name);
                answers += 1;
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
    answers
}

async fn run(seed: u64, strategy: Strategy) {
    let mut random = Random(seed);
    let mut network = Network::new(strategy).await;
    let over = Arc::new(AtomicBool::new(false));
    let mut callers = Vec::new();
    for name in CHILDREN {
        let service = Service::new(network.node(1), name);
        callers.push(tokio::spawn(call_all_the_time(service, name, over.clone())));
    }
    let mut history = Vec::new();
    for _ in 0..ROUNDS {
        for _ in 0..1 + random.below(4) {
            history.push(network.trouble(&mut random).await);
            tokio::time::sleep(Duration::from_millis(random.below(100) as u64)).await;
        }
        network.mend().await;
        let mended = Instant::now();
        let look = async {
            for name in CHILDREN {
                while network.census.of(name) != 1 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
            // Each child that the supervisor knows is the one that lives, and answers.
            for name in CHILDREN {
                loop {
                    let children = network.children().await;
                    let port = children.into_iter().find(|(id, _)| id == name).unwrap().1;
                    if let Some(port) = port
                        && network.node(0).call::<String>(&port, ("name",)).await.is_ok()
                    {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        };
        let looked = tokio::time::timeout(LIMIT, look).await;
        let running = network.census.0.lock().unwrap().running.clone();
        assert!(looked.is_ok(), "seed {seed}, {strategy:?}: {running:?}, {history:?}");
        history.push(format!("all is mended, after {:?}", mended.elapsed()));
    }
    // Nobody is left behind: the callers reach each singleton, and there stays one of each.
    over.store(true, Ordering::SeqCst);
    for caller in callers {
        assert!(within(caller).await.unwrap() > 0, "seed {seed}: {history:?}");
    }
    for name in CHILDREN {
        assert_eq!(network.census.of(name), 1, "seed {seed}: {history:?}");
    }
    let longest = network.census.longest();
    assert!(longest < LIMIT, "seed {seed}: there were two for {longest:?}: {history:?}");
    eprintln!("seed {seed}, {strategy:?}: two for at most {longest:?}; {history:?}");
    network.supervisor.take().unwrap().stop().unwrap();
    until("all have stopped", || CHILDREN.iter().all(|name| network.census.of(name) == 0)).await;
}

/// `AEMP_SEED` repeats a run, and `AEMP_RUNS` makes more of them.
async fn runs(strategy: Strategy, usual: u64) {
    let first = number("AEMP_SEED").unwrap_or(usual);
    for seed in first..first + number("AEMP_RUNS").unwrap_or(1) {
        run(seed, strategy).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_each_singleton_there_is_one_after_any_trouble() {
    runs(Strategy::OneForOne, 100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_if_all_are_restarted_together() {
    runs(Strategy::OneForAll, 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_if_the_later_ones_are_restarted() {
    runs(Strategy::RestForOne, 300).await;
}
