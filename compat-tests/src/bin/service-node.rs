//! Our node with the test service of `docs/conformance.md`: `service-node [PROFILE] [KEY VALUE]...`.
//! It prints its address, and runs until it is killed.

// A test helper may panic.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use aemp::Node;

#[tokio::main]
async fn main() {
    let arguments = std::env::args_os().skip(1);
    let builder = compat_tests::service::registered(Node::builder().arguments(arguments));
    let node = builder.start().await.unwrap();
    println!("{}", node.addresses()[0]);
    node.ended().await;
}
