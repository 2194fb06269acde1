//! Supervisors and services while nodes are killed, networks are cut and seeds are restarted: what holds
//! once everything is connected again.

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod node_support;

use aemp::node::Entry;
use aemp::patterns::Failure;
use aemp::patterns::actor::{self, Actor, ActorContext, ActorRef};
use aemp::patterns::service::Service;
use aemp::patterns::supervisor::{Child, Place, Request, Strategy, Supervisor};
use aemp::{Node, Reply};
use node_support::{builder, join, until, within};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How many rounds of trouble there are; after each everything is connected again, and looked at.
const ROUNDS: usize = 3;

/// Singletons that are supervised.
const CHILDREN: [&str; 3] = ["a", "b", "c"];

/// An address that leads to a node, wherever that listens now, unless it is cut.
struct Wire {
    address: String,
    state: watch::Sender<(String, bool)>,
}

impl Wire {
    async fn new() -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (state, told) = watch::channel((String::new(), true));
        tokio::spawn(async move {
            while let Ok((dialled, _)) = listener.accept().await {
                tokio::spawn(pass_on(dialled, told.clone()));
            }
        });
        Wire { address, state }
    }

    fn leads_to(&self, address: &str) {
        self.state.send_modify(|state| address.clone_into(&mut state.0));
    }

    fn cut(&self, is_cut: bool) {
        self.state.send_modify(|state| state.1 = !is_cut);
    }
}

async fn pass_on(mut dialled: TcpStream, mut state: watch::Receiver<(String, bool)>) {
    let (target, is_whole) = state.borrow_and_update().clone();
    if is_whole && let Ok(mut node) = TcpStream::connect(target).await {
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut dialled, &mut node) => {}
            _ = state.wait_for(|(_, is_whole)| !is_whole) => {}
        }
    }
}

/// An address on which nobody but this test listens: a loopback address of its own.
async fn own_address() -> String {
    static LAST: AtomicUsize = AtomicUsize::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    let number = LAST.fetch_add(1, Ordering::Relaxed) % 254 + 1;
    let listener = TcpListener::bind(format!("127.{}.{low}.{number}:0", high | 1)).await.unwrap();
    listener.local_addr().unwrap().to_string()
}

/// How many of each singleton there are, wherever they run.
#[derive(Clone, Default)]
struct Census(Arc<Mutex<BTreeMap<String, usize>>>);

impl Census {
    fn of(&self, name: &str) -> usize {
        self.0.lock().unwrap().get(name).copied().unwrap_or(0)
    }
}

/// A child: it is registered in the family of its name as long as it lives.
struct Singleton {
    name: String,
    census: Census,
    entry: Option<Entry>,
}

impl Singleton {
    fn new(name: String, census: Census) -> Singleton {
        *census.0.lock().unwrap().entry(name.clone()).or_default() += 1;
        Singleton { name, census, entry: None }
    }
}

impl Drop for Singleton {
    fn drop(&mut self) {
        *self.census.0.lock().unwrap().get_mut(&self.name).unwrap() -= 1;
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
        self.entry = Some(ctx.node().db().register(self.name.as_str(), ctx.id())?);
        Ok(())
    }

    async fn handle(&mut self, _: &ActorContext, message: Ask) -> Result<(), Failure> {
        match message {
            Ask::Name(reply) => reply.send(self.name.clone())?,
            Ask::Fail => return Err("as told".into()),
        }
        Ok(())
    }
}

/// The numbers of a run, which its seed determines.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end as u64) as usize
    }
}

/// A node that may be killed and started again, behind wires of its own to it and to the seed.
struct Host {
    id: String,
    node: Option<Node>,
    to_it: Wire,
    to_seed: Wire,
}

impl Host {
    async fn new(id: &str) -> Host {
        Host { id: id.to_owned(), node: None, to_it: Wire::new().await, to_seed: Wire::new().await }
    }

    fn cut(&self, is_cut: bool) {
        self.to_it.cut(is_cut);
        self.to_seed.cut(is_cut);
    }

    /// Starts it if it does not run, as a host of children if it is none of the fixed ones.
    async fn start(&mut self, census: &Census) {
        if self.node.is_some() {
            return;
        }
        let address = own_address().await;
        let builder = Node::builder()
            .node_id(&self.id)
            .secret("secret")
            .bind(&address)
            .seed(&self.to_seed.address)
            .set("advertise", vec![self.to_it.address.clone()]);
        let node = builder.start().await.unwrap();
        let census = census.clone();
        let init = move |(name,): (String,)| Ok(Singleton::new(name, census.clone()));
        node.expose("Singleton::new", actor::init(init));
        self.to_it.leads_to(&address);
        self.node = Some(node);
    }
}

/// A network of a seed, a supervisor, a client, and hosts for children.
struct Network {
    seed: Option<Node>,
    /// The supervisor's node, the client's, and then the hosts.
    hosts: Vec<Host>,
    census: Census,
}

impl Network {
    async fn new() -> Network {
        let mut hosts = Vec::new();
        for id in ["supervisor", "client", "h1", "h2", "h3"] {
            hosts.push(Host::new(id).await);
        }
        let mut network = Network { seed: None, hosts, census: Census::default() };
        network.mend().await;
        network
    }

    /// Everything runs and is connected.
    async fn mend(&mut self) {
        if self.seed.is_none() {
            let seed = join(builder("seed", &[]), false).await;
            seed.become_global();
            let address = seed.addresses()[0].to_string();
            self.hosts.iter().for_each(|host| host.to_seed.leads_to(&address));
            self.seed = Some(seed);
        }
        for (index, host) in self.hosts.iter_mut().enumerate() {
            host.cut(false);
            host.start(&self.census).await;
            let node = host.node.as_ref().unwrap();
            within(node.joined()).await;
            if index > 1 {
                node.db().set("hosts", node.id().clone(), ()).unwrap();
            }
        }
    }

    fn node(&self, index: usize) -> &Node {
        self.hosts[index].node.as_ref().unwrap()
    }

    /// One piece of trouble, by chance.
    async fn trouble(&mut self, random: &mut Random, supervisor: &ActorRef<Request>) -> String {
        let index = 2 + random.below(self.hosts.len() - 2);
        match random.below(6) {
            0 | 1 => {
                let host = &mut self.hosts[index];
                if let Some(node) = host.node.take() {
                    within(node.shutdown()).await;
                }
                format!("{} is killed", host.id)
            }
            2 | 3 => {
                // The supervisor and the client may be cut off, too.
                let host = &self.hosts[random.below(self.hosts.len())];
                host.cut(true);
                format!("{} is cut off", host.id)
            }
            4 => {
                if let Some(seed) = self.seed.take() {
                    within(seed.shutdown()).await;
                }
                "the seed is killed".to_owned()
            }
            _ => {
                let children = within(supervisor.call(Request::Children)).await.unwrap();
                let (name, port) = children[random.below(CHILDREN.len())].clone();
                if let Some(port) = port {
                    self.node(0).snd(&port, Ask::Fail).unwrap();
                }
                format!("{name} fails")
            }
        }
    }
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
    let mut network = Network::new().await;
    let spawned = |name: &&str| {
        let place = Place::Family("hosts".into());
        Child::spawned_actor(name, place, "Singleton::new", (*name,))
    };
    let supervisor = CHILDREN
        .iter()
        .map(spawned)
        .fold(Supervisor::new(strategy), Supervisor::child)
        .intensity(1000, Duration::from_secs(1))
        .backoff(Duration::from_millis(10), Duration::from_millis(100))
        .start(network.node(0));
    let over = Arc::new(AtomicBool::new(false));
    let mut callers = Vec::new();
    for name in CHILDREN {
        let service = Service::new(network.node(1), name);
        callers.push(tokio::spawn(call_all_the_time(service, name, over.clone())));
    }
    let mut history = Vec::new();
    for _ in 0..ROUNDS {
        for _ in 0..1 + random.below(4) {
            history.push(network.trouble(&mut random, &supervisor).await);
            tokio::time::sleep(Duration::from_millis(random.below(100) as u64)).await;
        }
        network.mend().await;
        history.push("all is mended".to_owned());
        let look = async {
            for name in CHILDREN {
                while network.census.of(name) != 1 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
            // Each child that the supervisor knows is the one that lives, and answers.
            for name in CHILDREN {
                let is_the_one = async {
                    loop {
                        let children = within(supervisor.call(Request::Children)).await.unwrap();
                        let port = children.into_iter().find(|(id, _)| id == name).unwrap().1;
                        if let Some(port) = port
                            && network.node(0).call::<String>(&port, ("name",)).await.is_ok()
                        {
                            return;
                        }
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                };
                within(is_the_one).await;
            }
        };
        let looked = tokio::time::timeout(node_support::PATIENCE, look).await;
        assert!(looked.is_ok(), "seed {seed}, {strategy:?}: {:?}, {history:?}", network.census.0);
    }
    // Nobody is left behind: the callers reach each singleton, and there stays one of each.
    over.store(true, Ordering::SeqCst);
    for caller in callers {
        assert!(within(caller).await.unwrap() > 0, "seed {seed}: {history:?}");
    }
    for name in CHILDREN {
        assert_eq!(network.census.of(name), 1, "seed {seed}: {history:?}");
    }
    supervisor.stop().unwrap();
    until("all have stopped", || CHILDREN.iter().all(|name| network.census.of(name) == 0)).await;
}

static SEED: AtomicUsize = AtomicUsize::new(0);

/// `AEMP_SEED` repeats a run, and `AEMP_RUNS` makes more of them.
async fn runs(strategy: Strategy) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = number("AEMP_SEED").unwrap_or(SEED.fetch_add(100, Ordering::Relaxed) as u64);
    for seed in first..first + number("AEMP_RUNS").unwrap_or(1) {
        run(seed, strategy).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_each_singleton_there_is_one_after_any_trouble() {
    runs(Strategy::OneForOne).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_if_all_are_restarted_together() {
    runs(Strategy::OneForAll).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_if_the_later_ones_are_restarted() {
    runs(Strategy::RestForOne).await;
}
