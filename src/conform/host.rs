//! Hosts of the suite and of the nodes that it starts: a loopback address for one run, so that two
//! suites on one machine do not interfere, or an address in a network namespace.

use super::namespace::Namespace;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use tokio::net::{TcpSocket, TcpStream};

/// The maximum number of connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// A loopback address that is chosen at random, so that no other run uses it.
///
/// Nodes that another run has started go on dialling ports on which nobody listens any more; if this run
/// listened there, it would take them for its own. Linux has all of 127.0.0.0/8; on systems that only have
/// 127.0.0.1 it is that.
pub fn own_loopback() -> IpAddr {
    let mut octets = [0; 3];
    // Without random numbers the run shares an address with others, like on other systems.
    let _ = getrandom::fill(&mut octets);
    let [second, third, fourth] = octets;
    let host = Ipv4Addr::new(127, second.max(1), third, fourth.clamp(1, 254));
    match TcpListener::bind((host, 0)) {
        Ok(_) => host.into(),
        Err(_) => Ipv4Addr::LOCALHOST.into(),
    }
}

/// The place where sockets are created.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    /// Its address.
    pub(super) ip: IpAddr,
    /// Its namespace, if that is not the suite's own.
    pub(super) namespace: Option<Arc<Namespace>>,
}

impl Host {
    fn socket(&self) -> io::Result<TcpSocket> {
        let new = match self.ip {
            IpAddr::V4(_) => TcpSocket::new_v4,
            IpAddr::V6(_) => TcpSocket::new_v6,
        };
        // A socket stays in the namespace in which it was created.
        match &self.namespace {
            Some(namespace) => namespace.within(new)?,
            None => new(),
        }
    }

    /// Connects to an address from this host.
    pub(super) async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        self.socket()?.connect(address).await
    }

    /// Listens on a port of this host; 0 means any free one.
    pub(super) fn listen(&self, port: u16) -> io::Result<tokio::net::TcpListener> {
        let socket = self.socket()?;
        // This allows a port to be reused at once.
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::new(self.ip, port))?;
        socket.listen(BACKLOG)
    }
}
