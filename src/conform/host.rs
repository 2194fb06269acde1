//! An address of the loopback network for one run, so that two suites on one host do not meet.

use std::net::{IpAddr, Ipv4Addr, TcpListener};

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
