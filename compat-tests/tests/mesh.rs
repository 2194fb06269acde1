//! Connections between nodes and their effects: with real Perl nodes and among our own.

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use aemp::{Node, NodeId, Port, PortId};
use compat_tests::network::{InProcess, eventually, free_address, until_free};
use compat_tests::node::Aemp;
use compat_tests::perl;
use compat_tests::perl_node::{MODULES, PerlNode};
use compat_tests::process::{Process, Signal, TIMEOUT, signal};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

/// How many messages each node sends to each other one.
const MESSAGES: u64 = 5;

/// Counts what arrives by sender, connections, and connections that were lost.
const COUNTING: &str = r#"
    our (%in, %down, $dialled, $accepted);
    our $inbox = port { my ($from, $number) = @_; push @{ $in{$from} }, $number };
    our $watch = AnyEvent::MP::Kernel::mon_nodes(sub {
        my ($node, $up, @reason) = @_;
        push @{ $down{$node} }, join " ", @reason unless $up;
    });
    my $new = \&AnyEvent::MP::Transport::new;
    no warnings;
    *AnyEvent::MP::Transport::new = sub {
        my ($class, %arg) = @_;
        $arg{fh} ? $accepted++ : $dialled++;
        goto &$new
    };
    $inbox
"#;

/// One of our nodes that counts what arrives by sender.
struct Ours {
    node: Node,
    inbox: Port,
    got: BTreeMap<String, Vec<u64>>,
}

impl Ours {
    fn start(inside: &InProcess, name: &str, seed: &str) -> Ours {
        let node = inside.start(name, &[seed.to_owned()]);
        Ours { inbox: node.port(), node, got: BTreeMap::new() }
    }

    fn receive(&mut self) {
        while let Some(message) = self.inbox.try_recv().unwrap() {
            let (from, number): (String, u64) = message.decode().unwrap();
            self.got.entry(from).or_default().push(number);
        }
    }
}

fn seconds_since_epoch() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64()
}

fn all_numbers() -> Vec<u64> {
    (1..=MESSAGES).collect()
}

/// Waits until the seed knows where all these nodes are.
fn all_are_known(inside: &InProcess, seed: &Node, names: &[String]) {
    eventually("all addresses", || {
        let seen = inside.family(seed, "'l")?;
        match names.iter().find(|name| !seen.contains_key(*name)) {
            Some(missing) => Err(format!("{missing} is missing")),
            None => Ok(()),
        }
    });
}

#[derive(Default)]
struct Dials {
    pairs: usize,
    dialled_by_both: u64,
    switched: usize,
    lost: usize,
}

/// Every one of the Perl nodes and of as many of ours send to each other at the same moment.
fn dial_each_other(
    inside: &InProcess,
    seed: &Node,
    perls: &mut [(PerlNode, String)],
    round: u64,
    dials: &mut Dials,
) {
    let mut ours: Vec<Ours> = (0..perls.len())
        .map(|index| Ours::start(inside, &format!("ours-{round}-{index}"), &seed_address(seed)))
        .collect();
    let names: Vec<String> = ours.iter().map(|ours| ours.node.id().to_string()).collect();
    let perl_names = perls.iter().map(|(perl, _)| perl.id().to_owned());
    all_are_known(inside, seed, &perl_names.chain(names.clone()).collect::<Vec<_>>());
    let targets: Vec<String> = ours.iter().map(|ours| ours.inbox.id().to_string()).collect();
    let start = seconds_since_epoch() + 0.7;
    for (perl, _) in perls.iter_mut() {
        perl.eval(&format!(
            "%in = %down = (); $dialled = $accepted = 0;
             our $go = AE::timer {start} - AE::time, 0, sub {{
                for my $to (qw({})) {{ snd $to, $NODE, $_ for 1 .. {MESSAGES} }}
             }}; 1",
            targets.join(" ")
        ));
    }
    std::thread::sleep(Duration::from_secs_f64((start - seconds_since_epoch()).max(0.0)));
    for one in &ours {
        for (_, inbox) in perls.iter() {
            for number in all_numbers() {
                one.node.snd(inbox, (one.node.id().to_string(), number)).unwrap();
            }
        }
    }
    // Everything arrives, except between nodes whose connection Perl has replaced.
    let ((switched, lost, connections), _) = eventually("all messages", || {
        let (mut switched, mut lost, mut connections) = (0, 0, 0);
        for one in &mut ours {
            one.receive();
        }
        for (perl, _) in perls.iter_mut() {
            let state = perl.eval("{ in => \\%in, down => \\%down, n => $dialled + $accepted }");
            connections += state[0]["n"].as_u64().unwrap();
            for one in &ours {
                let name = one.node.id().to_string();
                let is_switched = !state[0]["down"][&name].is_null();
                let there = numbers(&state[0]["in"][&name]) == all_numbers();
                let here = one.got.get(perl.id()) == Some(&all_numbers());
                if is_switched {
                    switched += 1;
                    lost += usize::from(!there || !here);
                } else if !there || !here {
                    return Err(format!(
                        "between {} and {name}: {:?} and {}",
                        perl.id(),
                        one.got.get(perl.id()),
                        state[0]["in"][&name]
                    ));
                }
            }
        }
        Ok((switched, lost, connections))
    });
    dials.pairs += perls.len() * ours.len();
    dials.switched += switched;
    dials.lost += lost;
    dials.dialled_by_both += connections.saturating_sub((perls.len() * ours.len()) as u64);
    for one in ours {
        inside.run(one.node.shutdown());
    }
}

fn numbers(value: &Value) -> Vec<u64> {
    let list = value.as_array().into_iter().flatten();
    list.map(|number| match number {
        Value::String(text) => text.parse().unwrap(),
        number => number.as_u64().unwrap(),
    })
    .collect()
}

fn seed_address(seed: &Node) -> String {
    seed.addresses()[0].to_string()
}

/// Every pair of our nodes sends to each other at the same moment; nothing at all may be lost.
fn our_nodes_dial_each_other(inside: &InProcess, seed: &Node, count: usize, round: u64) -> usize {
    let mut ours: Vec<Ours> = (0..count)
        .map(|index| Ours::start(inside, &format!("node-{round}-{index}"), &seed_address(seed)))
        .collect();
    let names: Vec<String> = ours.iter().map(|ours| ours.node.id().to_string()).collect();
    all_are_known(inside, seed, &names);
    let inboxes: Vec<PortId> = ours.iter().map(|ours| ours.inbox.id().clone()).collect();
    let monitors: Vec<_> =
        ours.iter().flat_map(|one| inboxes.iter().map(|inbox| one.node.monitor(inbox))).collect();
    for one in &ours {
        for inbox in &inboxes {
            for number in all_numbers() {
                one.node.snd(inbox, (one.node.id().to_string(), number)).unwrap();
            }
        }
    }
    eventually("all messages among our nodes", || {
        for one in &mut ours {
            one.receive();
            for name in &names {
                if one.got.get(name) != Some(&all_numbers()) {
                    let got = one.got.get(name);
                    return Err(format!("{} from {name}: {got:?}", one.node.id()));
                }
            }
        }
        Ok(())
    });
    for monitor in monitors {
        let fired = inside.run(tokio_timeout(Duration::from_micros(1), monitor));
        assert!(fired.is_none(), "a monitor has fired: {fired:?}");
    }
    for one in ours {
        inside.run(one.node.shutdown());
    }
    count * (count - 1) / 2
}

async fn tokio_timeout<T>(limit: Duration, future: impl IntoFuture<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, future).await.ok()
}

#[test]
fn a_thousand_simultaneous_dials_with_perl_nodes_lose_hardly_anything() {
    if !perl::has(MODULES) {
        return;
    }
    let start = Instant::now();
    let inside = InProcess::new();
    let seed = inside.start("seed", &[]);
    let mut perls: Vec<(PerlNode, String)> = (0..10)
        .map(|index| {
            // Whose ID is the smaller one matters between our nodes; so try both sides of ours.
            let name = format!("{}-perl-{index}", if index % 2 == 0 { "a" } else { "z" });
            let mut perl = PerlNode::start(&name, json!({"seeds": [seed_address(&seed)]}));
            let inbox = perl.eval(COUNTING)[0].as_str().unwrap().to_owned();
            (perl, inbox)
        })
        .collect();
    let mut dials = Dials::default();
    for round in 1..=10 {
        dial_each_other(&inside, &seed, &mut perls, round, &mut dials);
    }
    eprintln!(
        "{} pairs, both dialled in about {}; {} ended in switched connections, {} lost messages; {:.1?}",
        dials.pairs,
        dials.dialled_by_both,
        dials.switched,
        dials.lost,
        start.elapsed()
    );
    assert!(dials.switched * 100 <= dials.pairs, "{} switched", dials.switched);
}

#[test]
fn a_thousand_simultaneous_dials_of_our_nodes_lose_nothing() {
    let start = Instant::now();
    let inside = InProcess::new();
    let seed = inside.start("seed", &[]);
    let pairs: usize =
        (1..=3).map(|round| our_nodes_dial_each_other(&inside, &seed, 28, round)).sum();
    eprintln!("{pairs} pairs of our nodes, nothing lost; {:.1?}", start.elapsed());
}

/// Waits until a node sees the entry of the other one.
fn sees_value(inside: &InProcess, node: &Node, key: &str, value: u64) {
    eventually(&format!("{key} = {value}"), || {
        let seen = inside.family(node, "workers")?;
        let found = seen.get(key).is_some_and(|seen| numbers(&json!([seen])) == [value]);
        if found { Ok(()) } else { Err(format!("{seen:?}")) }
    });
}

#[test]
fn a_perl_node_that_crashed_or_hangs_is_not_locked_out_when_it_comes_back() {
    if !perl::has(MODULES) {
        return;
    }
    let inside = InProcess::new();
    let seed = inside.start("seed", &[]);
    let settings = json!({"seeds": [seed_address(&seed)]});
    let mut value = 0;
    let mut next_life = || {
        let mut perl = PerlNode::start("perl", settings.clone());
        value += 1;
        perl.eval(&format!("db_set workers => $NODE => {value}; 1"));
        sees_value(&inside, &seed, "perl", value);
        perl
    };
    for _ in 0..5 {
        next_life().kill();
    }
    // It hangs: its connection stays up, like one to a machine that has lost power.
    let mut hanging = Vec::new();
    for _ in 0..3 {
        let mut perl = next_life();
        perl.process().signal(Signal::STOP);
        hanging.push(perl);
    }
    next_life();
}

/// Stops a node that has a supervisor, without killing either.
fn freeze(supervisor: &Process) {
    let id = supervisor.id();
    supervisor.signal(Signal::STOP);
    let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
    for child in children.split_whitespace() {
        signal(child.parse().unwrap(), Signal::STOP);
    }
}

#[test]
fn our_node_that_crashed_or_hangs_is_not_locked_out_when_it_comes_back() {
    let inside = InProcess::new();
    let seed = inside.start("seed", &[]);
    let address = free_address();
    let mut events = seed.events();
    let mut came_up = || loop {
        let event = inside.run(events.next()).unwrap();
        if let aemp::NodeEvent::Up { node, .. } = event
            && node.to_string() == "ours"
        {
            return;
        }
    };
    let start =
        |bind: &str| Aemp::start("ours", &[("binds", bind), ("seeds", &seed_address(&seed))]);
    for _ in 0..3 {
        let mut ours = start(&address);
        came_up();
        ours.process().kill();
        until_free(&address);
    }
    let mut hanging = Vec::new();
    for _ in 0..2 {
        let mut ours = start("127.0.0.1:0");
        came_up();
        freeze(ours.process());
        hanging.push(ours);
    }
    let _ours = start(&address);
    came_up();
}

#[test]
fn all_addresses_of_a_node_are_tried() {
    let inside = InProcess::new();
    let seed = inside.start("seed", &[]);
    // Nobody listens on the first one, and the second one answers nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let real = free_address();
    let advertised = json!([free_address(), silent.local_addr().unwrap().to_string(), real]);
    let hidden = inside.start_as("hidden", |builder| {
        builder.bind(&real).seed(&seed_address(&seed)).set("advertise", advertised.clone())
    });
    let mut inbox = hidden.port();
    all_are_known(&inside, &seed, &["hidden".to_owned()]);
    assert_eq!(inside.family(&seed, "'l").unwrap()["hidden"], advertised);
    let sender = inside.start("sender", &[seed_address(&seed)]);
    inside.run(sender.joined());
    sender.snd(inbox.id(), ("hello",)).unwrap();
    let (text,): (String,) = inside.run(inbox.recv_timeout(TIMEOUT)).unwrap();
    assert_eq!(text, "hello");
    if perl::has(MODULES) {
        // Perl gives a node up after connect_interval, so that a short one leaves no time for more.
        let settings = json!({"seeds": [seed_address(&seed)], "connect_interval": 20});
        let mut perl = PerlNode::start("perl", settings);
        perl.snd(&inbox.id().to_string(), json!(["hello from perl"]));
        let (text,): (String,) = inside.run(inbox.recv_timeout(TIMEOUT)).unwrap();
        assert_eq!(text, "hello from perl");
    }
}

#[test]
fn a_node_that_is_its_own_seed_becomes_global() {
    if !perl::has(MODULES) {
        return;
    }
    let inside = InProcess::new();
    let addresses = [free_address(), free_address()];
    let ours = inside.start_as("ours", |builder| {
        builder.bind(&addresses[0]).seed(&addresses[0]).seed(&addresses[1])
    });
    // Nobody has asked it to become global.
    eventually("that it is global", || if ours.is_global() { Ok(()) } else { Err("no".into()) });
    assert!(ours.seeds().iter().any(|seed| seed.is_ourselves));
    let mut perl = PerlNode::start("perl", json!({"binds": [addresses[1]], "seeds": addresses}));
    perl.run("db_mon", json!({"family": "'g", "label": "globals"}));
    perl.event("family", "globals", |event| {
        ["ours", "perl"].iter().all(|id| event["content"].get(id).is_some())
    });
    eventually("both globals in our database", || {
        let globals = inside.family(&ours, "'g")?;
        if globals.len() == 2 { Ok(()) } else { Err(format!("{globals:?}")) }
    });
}

#[test]
fn databases_of_perls_and_our_globals_converge_and_forget_lost_nodes() {
    if !perl::has(MODULES) {
        return;
    }
    let inside = InProcess::new();
    let addresses: Vec<String> = (0..4).map(|_| free_address()).collect();
    let mut perls: Vec<PerlNode> = (0..2)
        .map(|index| {
            let settings = json!({"binds": [addresses[index]], "seeds": addresses});
            PerlNode::start(&format!("perl-global{index}"), settings)
        })
        .collect();
    let ours: Vec<Node> = (2..4)
        .map(|index| {
            inside.start_as(&format!("our-global{index}"), |builder| {
                addresses
                    .iter()
                    .fold(builder.bind(&addresses[index]), |builder, seed| builder.seed(seed))
            })
        })
        .collect();
    // Two slaves at each, one of either kind.
    let mut slaves: Vec<(String, Slave)> = Vec::new();
    for (index, seed) in addresses.iter().enumerate() {
        let name = format!("perl-slave{index}");
        let mut perl = PerlNode::start(&name, json!({"seeds": [seed]}));
        perl.eval("db_set workers => $NODE => 1; db_set workers => shared => $NODE; 1");
        slaves.push((name, Slave::Perl(perl)));
        let name = format!("our-slave{index}");
        let node = inside.start(&name, std::slice::from_ref(seed));
        node.db().set("workers", name.as_str(), 1).unwrap();
        slaves.push((name, Slave::Ours(node)));
    }
    converge(&inside, &mut perls, &ours, &slaves);
    while let Some((name, slave)) = slaves.pop() {
        match slave {
            Slave::Perl(mut perl) => perl.kill(),
            Slave::Ours(node) => inside.run(node.shutdown()),
        }
        eprintln!("{name} is gone");
        converge(&inside, &mut perls, &ours, &slaves);
    }
    for perl in &mut perls {
        assert_eq!(perl.complaints(), Vec::<String>::new());
    }
}

type Family = BTreeMap<String, Value>;

enum Slave {
    Perl(PerlNode),
    Ours(Node),
}

/// Waits until all global nodes have the same database: the entries of these slaves.
fn converge(inside: &InProcess, perls: &mut [PerlNode], ours: &[Node], slaves: &[(String, Slave)]) {
    eventually("the same databases everywhere", || {
        let mut all: Vec<(String, Family, Family)> = Vec::new();
        for perl in perls.iter_mut() {
            let mut family = |family: &str| -> Family {
                perl.run("db_family", json!({"family": family, "label": family}));
                let told = perl.event("database", family, |_| true);
                serde_json::from_value(told["result"].clone()).unwrap()
            };
            let (workers, locations) = (family("workers"), family("'l"));
            all.push((perl.id().to_owned(), workers, locations));
        }
        for node in ours {
            let workers = inside.family(node, "workers")?;
            all.push((node.id().to_string(), workers, inside.family(node, "'l")?));
        }
        let perl_slaves = slaves.iter().any(|(name, _)| name.starts_with("perl"));
        for (node, workers, locations) in &all {
            let shared = usize::from(perl_slaves);
            let complete = slaves
                .iter()
                .all(|(name, _)| workers.contains_key(name) && locations.contains_key(name));
            if !complete
                || workers.len() != slaves.len() + shared
                || locations.len() != slaves.len() + all.len()
            {
                return Err(format!("{node} holds {workers:?} and {locations:?}"));
            }
            // An entry with several owners has the value of a living one; which one may differ.
            if let Some(owner) = workers.get("shared")
                && !slaves.iter().any(|(name, _)| *owner == **name)
            {
                return Err(format!("{node} holds a value of {owner}, which is gone"));
            }
        }
        Ok(())
    });
}

#[test]
fn unknown_nodes_are_given_up_and_named() {
    let inside = InProcess::new();
    let seed = inside.start("seed", &[]);
    let slave = inside.start("slave", &[seed_address(&seed)]);
    inside.run(slave.joined());
    let nobody: NodeId = "nobody".parse().unwrap();
    let reason = inside.run(async { slave.monitor(&nobody).await });
    assert!(reason.to_string().contains("no known address"), "{reason}");
}
