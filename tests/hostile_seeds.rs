//! Strangers at the addresses of seeds, on real sockets: a node believes only what is proven there.

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod node_support;

use aemp::wire::auth::{Nonce, Secret};
use aemp::wire::session::{HandshakeConfig, Handshaker};
use aemp::{Node, NodeId};
use node_support::{builder, join, node, until};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// What answers at an address.
#[derive(Clone)]
enum Answer {
    /// Each octet comes back.
    Echo,
    /// The greeting of a node, and then the end.
    Greeting(&'static str),
    /// Another address.
    Relay(String),
}

/// An address at which a stranger answers; what he does there can be changed.
struct Impostor {
    address: String,
    answer: Arc<Mutex<Answer>>,
    connections: Arc<Mutex<usize>>,
}

impl Impostor {
    fn new(answer: Answer) -> Impostor {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let answer = Arc::new(Mutex::new(answer));
        let connections = Arc::new(Mutex::new(0));
        let (now, count) = (answer.clone(), connections.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                *count.lock().unwrap() += 1;
                let answer = now.lock().unwrap().clone();
                thread::spawn(move || serve(stream, answer));
            }
        });
        Impostor { address, answer, connections }
    }

    fn set(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    fn connections(&self) -> usize {
        *self.connections.lock().unwrap()
    }
}

fn serve(mut stream: TcpStream, answer: Answer) {
    match answer {
        Answer::Echo => copy(&stream.try_clone().unwrap(), &stream),
        Answer::Greeting(id) => {
            let mut config = HandshakeConfig::new(id);
            config.secret = Secret::new("he does not know it");
            let mut octets = [0; Nonce::OCTETS];
            getrandom::fill(&mut octets).unwrap();
            let handshaker = Handshaker::new(config).unwrap();
            let session = handshaker.listen(Nonce::from_random(&octets), "node:1");
            // The node may have closed the connection.
            let _ = stream.write_all(session.own_greeting());
        }
        Answer::Relay(to) => {
            let Ok(other) = TcpStream::connect(to) else { return };
            let back = (other.try_clone().unwrap(), stream.try_clone().unwrap());
            thread::spawn(move || copy(&back.0, &back.1));
            copy(&stream, &other);
        }
    }
}

/// Copies octets until one side ends, and then ends the other.
fn copy(mut from: &TcpStream, mut to: &TcpStream) {
    let mut piece = [0; 4096];
    while let Ok(len) = from.read(&mut piece)
        && len > 0
        && to.write_all(&piece[..len]).is_ok()
    {}
    let _ = to.shutdown(Shutdown::Write);
}

fn address(node: &Node) -> String {
    node.addresses()[0].to_string()
}

fn is_up(node: &Node, other: &str) -> bool {
    node.is_up(&NodeId::new(other).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_hears_an_echo_at_its_seed_stays_what_it_is_and_joins_later() {
    let seed = node("seed", &[]).await;
    let impostor = Impostor::new(Answer::Echo);
    let node = join(builder("node", &[]).seed(&impostor.address), false).await;
    until("it dials again", || impostor.connections() >= 2).await;
    assert!(!node.is_global());
    assert!(!node.seeds()[0].is_ourselves);
    impostor.set(Answer::Relay(address(&seed)));
    until("it has joined", || is_up(&node, "seed") && is_up(&seed, "node")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_that_greets_as_a_connected_node_does_not_keep_the_network_split() {
    let (one, other) = (node("one", &[]).await, node("other", &[]).await);
    let impostor = Impostor::new(Answer::Greeting("one"));
    let node = join(builder("node", &[&one]).seed(&impostor.address), true).await;
    until("it is connected", || is_up(&node, "one")).await;
    let before = impostor.connections();
    until("it dials again", || impostor.connections() >= before + 2).await;
    assert_eq!(node.seeds()[1].node, None);
    impostor.set(Answer::Relay(address(&other)));
    until("the other seed is found", || is_up(&node, "other")).await;
    assert_eq!(node.seeds()[1].node, Some(NodeId::new("other").unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_address_of_a_connected_seed_is_proven_and_dialled_no_more() {
    let seed = node("seed", &[]).await;
    let relay = Impostor::new(Answer::Relay(address(&seed)));
    let node = join(builder("node", &[&seed]).seed(&relay.address), true).await;
    let seed_id = Some(NodeId::new("seed").unwrap());
    until("both are known", || node.seeds().iter().all(|seed| seed.node == seed_id)).await;
    assert!(is_up(&node, "seed"));
}
