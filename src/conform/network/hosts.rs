//! Two hosts and a router between them, as network namespaces. The router can separate them, whatever
//! addresses their nodes dial.

use crate::conform::host::Host;
use crate::conform::namespace::Namespace;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

/// Addresses of the router, on its links with the left and the right host.
const ROUTER: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 99, 1, 1), Ipv4Addr::new(10, 99, 2, 1)];
/// Addresses of the hosts.
const HOSTS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 99, 1, 2), Ipv4Addr::new(10, 99, 2, 2)];

/// On the router: a link to the host with the process `$1`.
const LINK: &str = "ip link add name \"to$1\" type veth peer name eth0 netns \"$1\"
ip addr add \"$2/24\" dev \"to$1\"
ip link set \"to$1\" up";
/// On a host: its end of that link, with a route to all others.
const END: &str = "ip addr add \"$1/24\" dev eth0
ip link set eth0 up
ip route add default via \"$2\"";
/// On the router: whether it forwards packets between the hosts. Those for itself are not affected.
const FORWARD: &str = "echo \"$1\" >/proc/sys/net/ipv4/ip_forward";
/// On a host: closes its connections with the other host, which is not told.
const CLOSE: &str = "ss --kill --no-header --tcp dst \"$1\"";

/// The timeout for closing or making a connection when the hosts are tested.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// Two hosts of one network, and the router.
#[derive(Debug)]
pub(super) struct Hosts {
    hosts: [Arc<Namespace>; 2],
    router: Arc<Namespace>,
}

/// One of the two hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

impl Hosts {
    /// Creates the hosts; the error says why that is not possible here.
    pub(super) async fn new() -> Result<Hosts, String> {
        let made = tokio::task::spawn_blocking(Hosts::make).await;
        made.unwrap_or_else(|error| Err(error.to_string()))
    }

    fn make() -> Result<Hosts, String> {
        let namespace = || Namespace::new().map(Arc::new);
        let (hosts, router) = ([namespace()?, namespace()?], namespace()?);
        for ((host, own), gateway) in hosts.iter().zip(HOSTS).zip(ROUTER) {
            let (own, gateway) = (own.to_string(), gateway.to_string());
            router.run(LINK, &[&host.process().to_string(), &gateway])?;
            host.run(END, &[&own, &gateway])?;
        }
        let hosts = Hosts { hosts, router };
        hosts.forward(true)?;
        Ok(hosts)
    }

    /// Checks that hosts can be created here, separated and connected again; the error says why not.
    pub(super) async fn work() -> Result<(), String> {
        let why = |error| format!("network namespaces cannot be used ({error})");
        let hosts = Hosts::new().await.map_err(why)?;
        timeout(PROBE_TIMEOUT, hosts.are_divisible())
            .await
            .unwrap_or_else(|_| Err("a connection between them is not closed".to_owned()))
            .map_err(why)
    }

    async fn are_divisible(&self) -> Result<(), String> {
        let text = |error: std::io::Error| error.to_string();
        let listener = self.host(Side::Right).listen(0).map_err(text)?;
        let address = listener.local_addr().map_err(text)?;
        let left = self.host(Side::Left);
        let (mut near, (mut far, _)) =
            tokio::try_join!(left.connect(address), listener.accept()).map_err(text)?;
        self.cut().await?;
        // Both ends get an error or the end of the stream.
        for end in [&mut near, &mut far] {
            let _ = end.read_u8().await;
        }
        self.mend()?;
        left.connect(address).await.map(drop).map_err(text)
    }

    /// A host for nodes.
    pub(super) fn host(&self, side: Side) -> Host {
        let ([left, right], [left_ip, right_ip]) = (&self.hosts, HOSTS);
        let (namespace, ip) = match side {
            Side::Left => (left, left_ip),
            Side::Right => (right, right_ip),
        };
        Host { ip: IpAddr::V4(ip), namespace: Some(namespace.clone()) }
    }

    /// The router as a host: both hosts can reach it at any time, and it can reach them.
    pub(super) fn router(&self) -> Host {
        let [ip, _] = ROUTER;
        Host { ip: IpAddr::V4(ip), namespace: Some(self.router.clone()) }
    }

    fn forward(&self, does: bool) -> Result<(), String> {
        self.router.run(FORWARD, &[if does { "1" } else { "0" }])
    }

    /// Drops all packets between the hosts, without closing connections.
    pub(super) fn freeze(&self) -> Result<(), String> {
        self.forward(false)
    }

    /// Drops all packets between the hosts, and closes both ends of all connections.
    pub(super) async fn cut(&self) -> Result<(), String> {
        self.freeze()?;
        let ([left, right], [left_ip, right_ip]) = (self.hosts.clone(), HOSTS);
        let close = move || {
            left.run(CLOSE, &[&right_ip.to_string()])?;
            right.run(CLOSE, &[&left_ip.to_string()])
        };
        let closed = tokio::task::spawn_blocking(close).await;
        closed.unwrap_or_else(|error| Err(error.to_string()))
    }

    /// Lets packets pass again.
    pub(super) fn mend(&self) -> Result<(), String> {
        self.forward(true)
    }
}
