//! Our node with a fault between it and its seeds: `faulty-node FAULT SEEDS [KEY VALUE]...`.

// A test helper may panic.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use aemp::Node;
use compat_tests::faulty::{DIALLING_FAULTS, Fault, Relay};
use compat_tests::node::SECRET;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let (name, seeds) = (arguments.next().unwrap(), arguments.next().unwrap());
    let fault = DIALLING_FAULTS.iter().find(|(fault, ..)| *fault == name);
    let fault = fault.map_or(Fault::None, |(_, fault, _)| *fault);
    let mut builder = Node::builder().node_id("faulty").secret(SECRET).bind("127.0.0.1:0");
    for seed in seeds.split(',') {
        let relay = Relay::new("faulty", SECRET, fault);
        builder = builder.seed(&relay.before_seed(seed.to_owned()));
    }
    let node = compat_tests::service::registered(builder).start().await.unwrap();
    node.ended().await;
}
