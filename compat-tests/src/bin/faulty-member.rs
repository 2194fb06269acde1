//! A member of a network with a fault: `faulty-member FAULT ID BIND SEEDS`.

// A test helper may panic.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [fault, id, bind, seeds] = &arguments[..] else {
        panic!("usage: faulty-member FAULT ID BIND SEEDS");
    };
    compat_tests::faulty_member::run(fault, id, bind, seeds).await;
}
