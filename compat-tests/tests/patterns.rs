//! Actors, supervisors, services and topics with real Perl nodes on the other side.

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use aemp::patterns::Failure;
use aemp::patterns::actor::{self, Actor, ActorContext};
use aemp::patterns::replica::{Counter as Sum, Replica};
use aemp::patterns::service::Service;
use aemp::patterns::supervisor::{Child, Place, Request, Strategy, Supervisor};
use aemp::patterns::topic::Topic;
use aemp::{Node, PortId, Reply, Value};
use compat_tests::node::SECRET;
use compat_tests::perl;
use compat_tests::perl_node::{MODULES, PerlNode};
use compat_tests::process::TIMEOUT;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::time::Duration;

struct Counter(i64);

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Count {
    Add(i64),
    Get(Reply<i64>),
}

impl Actor for Counter {
    type Message = Count;

    async fn handle(&mut self, _: &ActorContext, message: Count) -> Result<(), Failure> {
        match message {
            Count::Add(n) => self.0 += n,
            Count::Get(reply) => reply.send(self.0)?,
        }
        Ok(())
    }
}

async fn within<T>(future: impl IntoFuture<Output = T>) -> T {
    tokio::time::timeout(TIMEOUT, future).await.expect("in time")
}

/// Our node and a Perl node that has joined it.
async fn pair() -> Option<(Node, PerlNode)> {
    if !perl::has(MODULES) {
        return None;
    }
    let builder = Node::builder().node_id("rust").secret(SECRET).bind("127.0.0.1:0");
    let rust = builder.start().await.unwrap();
    let seed = rust.addresses()[0].to_string();
    let mut perl = PerlNode::start("perl", json!({"seeds": [seed]}));
    perl.sees_up("rust");
    Some((rust, perl))
}

#[tokio::test(flavor = "multi_thread")]
async fn perl_spawns_an_actor_and_calls_it() {
    let Some((rust, mut perl)) = pair().await else { return };
    rust.expose("Counter::new", actor::init(|n: i64| Ok(Counter(n))));
    let spawn = json!({"node": "rust", "function": "Counter::new", "arguments": [5]});
    let port = perl.run("spawn", spawn);
    perl.run("snd", json!({"to": port, "message": ["add", "37"]}));
    perl.run("cal", json!({"to": port, "message": ["get"], "label": "count"}));
    let reply = perl.event("reply", "count", |_| true);
    assert_eq!(reply["message"], json!([42]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_perl_port_is_a_child_and_is_restarted() {
    let Some((rust, _perl)) = pair().await else { return };
    let place = Place::Node("perl".parse().unwrap());
    let supervisor = Supervisor::new(Strategy::OneForOne)
        .child(Child::spawned("echo", place, "Compat::echo", ("argument",)))
        .start(&rust);
    let port_other_than = async |old: Option<PortId>| {
        loop {
            let children = within(supervisor.call(Request::Children)).await.unwrap();
            if let (_, Some(port)) = children[0].clone()
                && Some(&port) != old.as_ref()
            {
                return port;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let first = within(port_other_than(None)).await;
    let mut answers = rust.port();
    rust.snd(&first, ("echo", answers.id(), 1)).unwrap();
    let answer: (u32, String) = within(answers.recv()).await.unwrap();
    assert_eq!(answer, (1, "argument".into()));
    rust.snd(&first, ("die",)).unwrap();
    let second = within(port_other_than(Some(first))).await;
    rust.snd(&second, ("echo", answers.id(), 2)).unwrap();
    assert_eq!(within(answers.recv::<(u32,)>()).await.unwrap(), (2,));

    let death = rust.monitor(&second);
    supervisor.stop().unwrap();
    assert_eq!(within(death).await.tag().unwrap(), "shutdown");
}

#[tokio::test(flavor = "multi_thread")]
async fn perl_ports_are_members_of_services_and_topics() {
    let Some((rust, mut perl)) = pair().await else { return };
    let port = perl.port("inbox");
    perl.eval(&format!("db_reg 'news' => '{port}', 'a value'; 1"));
    let topic = Topic::new(&rust, "news").unwrap();
    let mut service: Service<Value> = Service::new(&rust, "news");
    while service.all().len() < 2 {
        assert!(within(service.changed()).await);
    }
    within(async {
        while topic.publish(("rain", 3)).unwrap() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(perl.message("inbox"), json!(["rain", 3]));
    perl.run("kil", json!({"port": port, "reason": ["over"]}));
    while service.all().len() > 1 {
        assert!(within(service.changed()).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_perl_port_keeps_a_copy_of_a_replica() {
    let Some((rust, mut perl)) = pair().await else { return };
    let port = perl.port("copy");
    perl.eval(&format!("db_reg 'hits' => '{port}'; 1"));
    let joining = {
        let rust = rust.clone();
        tokio::spawn(async move { Replica::<Sum>::join(&rust, "hits").await })
    };
    let merged = |perl: &mut PerlNode| {
        loop {
            let message = perl.message("copy");
            if message[0] == "merge" {
                return message;
            }
            // It need not answer: it sends everything by itself.
            assert_eq!(message[0], "pull");
        }
    };
    // It is sent everything that the new copy knows, and does the same.
    let greeting = merged(&mut perl);
    let [merge, empty, ours] = greeting.as_array().unwrap().as_slice() else {
        panic!("{greeting}");
    };
    assert_eq!((merge, empty), (&json!("merge"), &json!({})));
    let ours = ours.as_str().unwrap();
    perl.snd(ours, json!(["merge", { "perl": [40, 0] }, port]));
    let replica = within(joining).await.unwrap().unwrap();
    assert_eq!(replica.value(), 40);
    replica.add(3).unwrap();
    assert_eq!(merged(&mut perl), json!(["merge", { ours: [3, 0] }, null]));
    perl.snd(ours, json!(["merge", { "perl": [40, 1] }]));
    within(async {
        while replica.value() != 42 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_actor_dies_with_a_perl_port_and_a_registered_child_is_found_from_perl() {
    struct Agent(PortId);
    impl Actor for Agent {
        type Message = Count;
        async fn started(&mut self, ctx: &ActorContext) -> Result<(), Failure> {
            ctx.die_with(&self.0);
            Ok(())
        }
        async fn handle(&mut self, _: &ActorContext, message: Count) -> Result<(), Failure> {
            match message {
                Count::Get(reply) => Ok(reply.send(0)?),
                Count::Add(_) => Ok(()),
            }
        }
    }
    let Some((rust, mut perl)) = pair().await else { return };
    let client: PortId = perl.port("client").parse().unwrap();
    let agent = actor::start(&rust, Agent(client.clone()));
    within(agent.call(Count::Get)).await.unwrap();
    let death = agent.monitor();
    // The monitor was sent before this.
    rust.snd(&client, ("behind it",)).unwrap();
    perl.message("client");
    perl.run("kil", json!({"port": client, "reason": ["over", "and out"]}));
    assert_eq!(within(death).await.to_string(), r#"["over", "and out"]"#);

    let counters = perl.port("counters");
    perl.eval(&format!(
        "$main::family = db_mon 'counters' => sub {{ snd '{counters}', sort keys %{{ $_[0] }} }}; 1"
    ));
    let supervisor = Supervisor::new(Strategy::OneForOne)
        .child(Child::actor("counter", || Counter(42)).registered("counters"))
        .start(&rust);
    let found = loop {
        if let [port] = perl.message("counters").as_array().unwrap().as_slice() {
            break port.as_str().unwrap().to_owned();
        }
    };
    perl.run("cal", json!({"to": found, "message": ["get"], "label": "count"}));
    assert_eq!(perl.event("reply", "count", |_| true)["message"], json!([42]));
    supervisor.stop().unwrap();
    while perl.message("counters") != json!([]) {}
}
