//! The seeds of a running Perl network are replaced by ours one after another, and one goes back. With an
//! earlier version of ours, named by `AEMP_OLD`, the seeds go from Perl's to that one and then to this one.

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use aemp::{DbMonitor, Node};
use compat_tests::network::{InProcess, eventually, free_address, until_free};
use compat_tests::node::Aemp;
use compat_tests::perl;
use compat_tests::perl_node::{MODULES, PerlNode};
use compat_tests::process::Signal;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, Instant};

const WORKERS: usize = 6;

/// Makes a Perl node a worker: a port that counts numbered messages and checks invariants.
const WORKER: &str = r#"
    our ($last, @holes) = (0);
    our $inbox = port {
        my ($number) = @_;
        push @holes, "$number after $last" if $number != $last + 1;
        $last = $number;
    };
    db_set workers => $NODE => $inbox;
    db_set "of-$NODE" => fixed => [$NODE, 42];
    $inbox
"#;

/// Makes a Perl node send numbered messages to all ports in `@to`, which it monitors.
const CLIENT: &str = r#"
    our (@to, %sent, @fired);
    db_set workers => $NODE => "client";
    db_set "of-$NODE" => fixed => [$NODE, 42];
    our $load = AE::timer 0, 0.01, sub { snd $_, ++$sent{$_} for @to };
    1
"#;

/// A seed of any kind.
enum Seed {
    Perl(PerlNode),
    /// Of the version that `AEMP_OLD` names.
    Old(Aemp),
    Ours(Aemp),
}

struct Network {
    inside: InProcess,
    addresses: Vec<String>,
    seeds: Vec<Option<Seed>>,
    workers: Vec<PerlNode>,
    client: PerlNode,
    /// One of our slaves for each seed, which is asked what that seed's database holds.
    observers: Vec<Node>,
    /// Our slaves that know all seeds, and monitor the workers.
    watchers: Vec<(Node, DbMonitor)>,
    round: u64,
}

/// Starts the seed of this number, which knows the addresses of all seeds.
type StartSeed = fn(usize, &[String]) -> Seed;

fn seed_name(index: usize) -> String {
    format!("seed{index}")
}

fn perl_seed(index: usize, addresses: &[String]) -> Seed {
    until_free(&addresses[index]);
    let settings = json!({"binds": [addresses[index]], "seeds": addresses});
    Seed::Perl(PerlNode::start(&seed_name(index), settings))
}

fn our_seed(index: usize, addresses: &[String]) -> Seed {
    until_free(&addresses[index]);
    let settings = [("binds", addresses[index].as_str()), ("seeds", &addresses.join(","))];
    Seed::Ours(Aemp::start(&seed_name(index), &settings))
}

/// The `aemp` command of an earlier version.
fn old_command() -> Option<PathBuf> {
    std::env::var_os("AEMP_OLD").map(PathBuf::from)
}

fn old_seed(index: usize, addresses: &[String]) -> Seed {
    until_free(&addresses[index]);
    let settings = [("binds", addresses[index].as_str()), ("seeds", &addresses.join(","))];
    let command = old_command().unwrap();
    Seed::Old(Aemp::start_other(&command, &seed_name(index), &settings))
}

impl Network {
    fn start() -> Network {
        let inside = InProcess::new();
        let addresses: Vec<String> = (0..3).map(|_| free_address()).collect();
        let seeds = (0..3).map(|index| Some(perl_seed(index, &addresses))).collect();
        let observers = addresses
            .iter()
            .enumerate()
            .map(|(index, seed)| {
                inside.start(&format!("observer{index}"), std::slice::from_ref(seed))
            })
            .collect();
        let watchers = (0..3).map(|index| {
            let mut order = addresses.clone();
            order.rotate_left(index);
            let node = inside.start(&format!("watcher{index}"), &order);
            let changes = node.db().monitor("workers");
            (node, changes)
        });
        let watchers = watchers.collect();
        let client = PerlNode::start("client", json!({"seeds": addresses}));
        let mut network = Network {
            inside,
            addresses,
            seeds,
            workers: vec![],
            client,
            observers,
            watchers,
            round: 0,
        };
        network.client.eval(CLIENT);
        network.new_round();
        for index in 0..WORKERS {
            network.add_worker(&format!("worker{index}"));
        }
        network.new_round();
        network.all_is_there();
        network.load_new_workers();
        network
    }

    fn add_worker(&mut self, name: &str) {
        let mut worker = PerlNode::start(name, json!({"seeds": self.addresses}));
        worker.eval(WORKER);
        self.workers.push(worker);
    }

    /// The client monitors all workers, and sends them numbered messages.
    fn load_new_workers(&mut self) {
        for worker in &mut self.workers {
            let inbox = worker.eval("$inbox")[0].as_str().unwrap().to_owned();
            self.client.eval(&format!(
                "unless (grep $_ eq '{inbox}', @to) {{
                    push @to, '{inbox}';
                    mon '{inbox}', sub {{ push @fired, \"{inbox}: @_\" }};
                 }} 1"
            ));
        }
    }

    /// Every second worker changes an entry; the others do nothing.
    fn new_round(&mut self) {
        self.round += 1;
        let code = format!("db_set \"of-$NODE\" => round => {}; 1", self.round);
        for perl in [&mut self.client].into_iter().chain(&mut self.workers).step_by(2) {
            perl.eval(&code);
        }
    }

    fn names(&self) -> Vec<String> {
        let workers = self.workers.iter().map(|worker| worker.id().to_owned());
        ["client".to_owned()].into_iter().chain(workers).collect()
    }

    /// Waits until every seed's database has the entries of every node; returns how long that took.
    fn all_is_there(&self) -> Duration {
        let (names, round) = (self.names(), self.round);
        let (_, took) = eventually("all entries in all databases", || {
            for observer in &self.observers {
                let workers = self.inside.family(observer, "workers")?;
                let locations = self.inside.family(observer, "'l")?;
                for (index, name) in names.iter().enumerate() {
                    let missing = |what: &str| {
                        Err(format!("{}: {name} has no {what} entry: {workers:?}", observer.id()))
                    };
                    if !workers.contains_key(name) {
                        return missing("workers");
                    }
                    if !locations.contains_key(name) {
                        return missing("address");
                    }
                    let own = self.inside.family(observer, &format!("of-{name}"))?;
                    let current = own.get("round").is_some_and(|value| number(value) == round);
                    if own.get("fixed").is_none_or(|value| value[0] != **name)
                        || (index % 2 == 0 && !current)
                    {
                        return missing(&format!("current (it is {own:?})"));
                    }
                }
                if workers.len() != names.len() {
                    return Err(format!("{}: too many: {workers:?}", observer.id()));
                }
            }
            Ok(())
        });
        took
    }

    /// Stops a seed, lets all others change something, and starts another one in its place.
    fn replace(&mut self, index: usize, with: StartSeed) -> Duration {
        let end = |process: &mut compat_tests::process::Process| {
            process.signal(Signal::TERM);
            process.wait_for_end();
        };
        let was_ours = matches!(self.seeds[index], Some(Seed::Ours(_)));
        self.deletions();
        match self.seeds[index].take().unwrap() {
            Seed::Perl(mut perl) => {
                assert_eq!(perl.complaints(), Vec::<String>::new());
                end(perl.process());
            }
            Seed::Old(mut ours) | Seed::Ours(mut ours) => end(ours.process()),
        }
        self.new_round();
        self.seeds[index] = Some(with(index, &self.addresses));
        let took = self.all_is_there();
        let workers = self.workers.iter_mut().chain([&mut self.client]);
        let healed = workers.filter_map(|perl| perl.was_healed().then_some(())).count();
        let deleted = self.deletions();
        eprintln!(
            "step {}: {took:.1?}, healed so far: {healed}, reported as deleted: {deleted:?}",
            self.round - 1
        );
        // Perl seeds and those of version 0.1 delete what the slaves of a lost one own at once.
        if self.seeds.iter().flatten().all(|seed| matches!(seed, Seed::Ours(_))) && was_ours {
            assert_eq!(deleted, Vec::<String>::new(), "entries of live nodes");
        }
        // Nodes that join from now on are found, and find the others.
        let name = format!("joined{}", self.round);
        self.add_worker(&name);
        let joined = self.workers.last_mut().unwrap();
        joined.eval(&format!("db_set \"of-$NODE\" => round => {}; 1", self.round));
        self.all_is_there();
        let names = self.names();
        let joined = self.workers.last_mut().unwrap();
        eventually("all workers, seen by the one that has just joined", || {
            joined.run("db_family", json!({"family": "workers", "label": "seen"}));
            let seen = joined.event("database", "seen", |_| true)["result"].clone();
            if names.iter().all(|name| !seen[name].is_null()) {
                Ok(())
            } else {
                Err(seen.to_string())
            }
        });
        self.load_new_workers();
        took
    }

    /// The keys that watchers have seen deleted since the last look. No node ever leaves this network.
    fn deletions(&mut self) -> Vec<String> {
        let mut deleted = Vec::new();
        for (_, watcher) in &mut self.watchers {
            let soon = Duration::from_millis(100);
            while let Ok(Some(change)) =
                self.inside.run(async { tokio::time::timeout(soon, watcher.next()).await })
            {
                deleted.extend(change.deleted().map(ToString::to_string));
            }
        }
        deleted
    }

    /// Stops the load and checks the results. Returns the number of messages.
    fn assert_undisturbed(&mut self) -> u64 {
        let client = &mut self.client;
        eventually("messages to everybody", || {
            let some = client.eval("scalar grep +($sent{$_} || 0) > 50, @to");
            if some[0] == self.workers.len() { Ok(()) } else { Err(some.to_string()) }
        });
        let sent = client.eval("undef $load; \\%sent")[0].clone();
        let mut messages = 0;
        for worker in &mut self.workers {
            let inbox = worker.eval("$inbox")[0].as_str().unwrap().to_owned();
            let count = number(&sent[&inbox]);
            assert!(count > 0, "{inbox} has got no messages");
            eventually("the last message", || {
                let last = worker.eval("$last")[0].clone();
                if number(&last) == count { Ok(()) } else { Err(format!("{last} of {count}")) }
            });
            assert_eq!(worker.eval("@holes"), json!([]), "{}", worker.id());
            messages += count;
        }
        assert_eq!(self.client.eval("@fired"), json!([]), "monitors that fired");
        let seeds = self.seeds.iter_mut().filter_map(|seed| match seed {
            Some(Seed::Perl(perl)) => Some(perl),
            _ => None,
        });
        for perl in self.workers.iter_mut().chain([&mut self.client]).chain(seeds) {
            assert_eq!(perl.complaints(), Vec::<String>::new(), "{}", perl.id());
        }
        messages
    }
}

/// A number, which Perl may hand on as a string.
fn number(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.parse().unwrap(),
        number => number.as_u64().unwrap_or_default(),
    }
}

/// The time limit of a step if `AEMP_STEP_SECONDS` sets one; otherwise the usual limit.
fn assert_fast(what: &str, took: Duration) {
    if let Ok(limit) = std::env::var("AEMP_STEP_SECONDS") {
        assert!(took.as_secs_f64() <= limit.parse().unwrap(), "{what} took {took:?}");
    }
}

#[test]
fn perl_seeds_are_replaced_one_after_another_and_one_goes_back() {
    if !perl::has(MODULES) {
        return;
    }
    let start = Instant::now();
    let mut network = Network::start();
    for index in 0..3 {
        let took = network.replace(index, our_seed);
        assert_fast(&format!("seed {index} is ours"), took);
    }
    let took = network.replace(1, our_seed);
    assert_fast("seed 1 is started again", took);
    let took = network.replace(0, perl_seed);
    assert_fast("seed 0 is Perl's again", took);
    let messages = network.assert_undisturbed();
    network.all_is_there();
    eprintln!("{messages} messages without a hole in {:.0} s", start.elapsed().as_secs_f64());
}

/// In between there is a seed of each kind, and an old slave is replaced by one of this version while all
/// else goes on.
#[test]
fn seeds_of_an_earlier_version_take_over_from_perl_and_are_replaced_by_ours_one_after_another() {
    let Some(old) = old_command().filter(|_| perl::has(MODULES)) else {
        return;
    };
    let mut network = Network::start();
    let seeds = network.addresses.join(",");
    let settings = [("seeds", seeds.as_str())];
    let old_slave = Aemp::start_other(&old, "slave", &settings);
    let steps: [(usize, StartSeed); 8] = [
        (0, old_seed),
        (1, our_seed),
        (1, old_seed),
        (2, our_seed),
        (0, our_seed),
        (1, our_seed),
        (2, old_seed),
        (2, our_seed),
    ];
    let locations = |network: &Network| network.inside.family(&network.observers[0], "'l");
    for (index, with) in steps {
        let took = network.replace(index, with);
        assert_fast(&format!("seed {index} is replaced"), took);
        eventually("the old slave's address", || match locations(&network)?.get("slave") {
            Some(_) => Ok(()),
            None => Err("it is not there".to_owned()),
        });
    }
    drop(old_slave);
    let slave = Aemp::start("slave", &settings);
    eventually("the new slave's address", || {
        match locations(&network)?.get("slave").map(|found| found[0] == *slave.address()) {
            Some(true) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    let messages = network.assert_undisturbed();
    network.all_is_there();
    eprintln!("{messages} messages without a hole");
}

#[test]
fn our_own_slaves_see_no_key_deleted_while_their_masters_are_replaced() {
    if !perl::has(MODULES) {
        return;
    }
    let inside = InProcess::new();
    let addresses: Vec<String> = (0..3).map(|_| free_address()).collect();
    let mut seeds: Vec<Option<Seed>> =
        (0..3).map(|index| Some(perl_seed(index, &addresses))).collect();
    // The one that owns the entry keeps its master.
    let worker = inside.start("our-worker", &addresses[2..]);
    let watcher = inside.start("our-watcher", &addresses[..2]);
    let port = worker.port();
    let _entry = worker.db().register("workers", &port).unwrap();
    let mut changes = watcher.db().monitor("workers");
    let first = inside.run(changes.next()).unwrap();
    let mut known = first.added().count();
    while known == 0 {
        known += inside.run(changes.next()).unwrap().added().count();
    }
    for index in [0, 1, 0] {
        drop(seeds[index].take());
        seeds[index] = Some(our_seed(index, &addresses));
        let fresh = inside.start("fresh", &[addresses[index].clone()]);
        let key = port.id().to_string();
        eventually("the worker's entry in the new seed", || {
            let seen = inside.family(&fresh, "workers")?;
            if seen.contains_key(&key) { Ok(()) } else { Err(format!("{seen:?}")) }
        });
        inside.run(fresh.shutdown());
    }
    // What the worker says now arrives after anything that was reported before.
    worker.db().set("workers", "end", 1).unwrap();
    loop {
        let change = inside.run(changes.next()).unwrap();
        assert_eq!(change.deleted().count(), 0, "{change:?}");
        if change.added().any(|(key, _)| *key == "end") {
            break;
        }
    }
}
