//! Hosts that are killed, cut off, silent, and mended again, for the tests of patterns.

#![allow(dead_code, reason = "each test uses some of it")]

use crate::node_support::{builder, join, within};
use aemp::Node;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// The hosts' `monitor_timeout`.
pub(crate) const MONITOR_TIMEOUT: Duration = Duration::from_secs(10);

/// What a wire does with octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passing {
    All,
    /// It keeps them until it passes all again.
    Nothing,
    /// It closes its connections, and new ones at once.
    Cut,
}

/// An address that leads to a node, wherever that listens now, unless it is cut.
pub(crate) struct Wire {
    address: String,
    state: watch::Sender<(String, Passing)>,
}

impl Wire {
    async fn new() -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (state, told) = watch::channel((String::new(), Passing::All));
        tokio::spawn(async move {
            while let Ok((dialled, _)) = listener.accept().await {
                tokio::spawn(pass_on(dialled, told.clone()));
            }
        });
        Wire { address, state }
    }

    pub(crate) fn leads_to(&self, address: &str) {
        self.state.send_modify(|state| address.clone_into(&mut state.0));
    }

    pub(crate) fn set(&self, passing: Passing) {
        self.state.send_modify(|state| state.1 = passing);
    }
}

async fn pass_on(mut dialled: TcpStream, mut state: watch::Receiver<(String, Passing)>) {
    let (target, passing) = state.borrow_and_update().clone();
    if passing != Passing::Cut
        && let Ok(mut node) = TcpStream::connect(target).await
    {
        let (from_dialled, to_dialled) = dialled.split();
        let (from_node, to_node) = node.split();
        tokio::select! {
            () = copy(from_dialled, to_node, state.clone()) => {}
            () = copy(from_node, to_dialled, state.clone()) => {}
            _ = state.wait_for(|(_, passing)| *passing == Passing::Cut) => {}
        }
    }
}

async fn copy(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut state: watch::Receiver<(String, Passing)>,
) {
    let mut octets = vec![0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut octets).await {
        let _ = state.wait_for(|(_, passing)| *passing != Passing::Nothing).await;
        if to.write_all(&octets[..read]).await.is_err() {
            return;
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

/// The numbers of a run, which its seed determines.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end as u64) as usize
    }
}

/// A node that may be killed and started again, behind wires of its own to it and to the seed.
pub(crate) struct Host {
    pub(crate) id: String,
    pub(crate) node: Option<Node>,
    to_it: Wire,
    to_seed: Wire,
}

impl Host {
    pub(crate) async fn new(id: &str) -> Host {
        Host { id: id.to_owned(), node: None, to_it: Wire::new().await, to_seed: Wire::new().await }
    }

    pub(crate) fn set(&self, passing: Passing) {
        self.to_it.set(passing);
        self.to_seed.set(passing);
    }

    /// Ends it, as a signal would if nobody is to be told.
    pub(crate) async fn kill(&mut self, tells_others: bool) {
        if !tells_others {
            self.set(Passing::Cut);
        }
        if let Some(node) = self.node.take() {
            within(node.shutdown()).await;
        }
    }

    /// Connects it to the network, and starts it if it does not run.
    pub(crate) async fn mend(&mut self) -> &Node {
        self.set(Passing::All);
        if self.node.is_none() {
            let address = own_address().await;
            let builder = Node::builder()
                .node_id(&self.id)
                .secret("secret")
                .bind(&address)
                .seed(&self.to_seed.address)
                .set("monitor_timeout", MONITOR_TIMEOUT.as_secs())
                .set("advertise", vec![self.to_it.address.clone()]);
            self.node = Some(builder.start().await.unwrap());
            self.to_it.leads_to(&address);
        }
        let node = self.node.as_ref().unwrap();
        within(node.joined()).await;
        node
    }
}

/// Starts the seed of these hosts.
pub(crate) async fn start_seed(hosts: &[Host]) -> Node {
    let seed = join(builder("seed", &[]), false).await;
    seed.become_global();
    let address = seed.addresses()[0].to_string();
    hosts.iter().for_each(|host| host.to_seed.leads_to(&address));
    seed
}

/// The number in an environment variable.
pub(crate) fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
