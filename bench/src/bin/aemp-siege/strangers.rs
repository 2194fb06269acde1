//! Strangers that all claim to be the same node.

use super::figures::Sent;
use super::member::nonce;
use aemp::wire::auth::Secret;
use aemp::wire::session::{HandshakeConfig, Handshaker};
use anyhow::Result;
use std::collections::VecDeque;
use std::io::Write as _;
use std::net::TcpStream;
use std::ops::Range;
use std::time::Duration;

/// The number of strangers, and how many of them are connected at the same time.
const STRANGERS: usize = 10_000;
const STRANGERS_AT_ONCE: usize = 4_000;

/// The ID of a connected node, and of one that does not exist.
pub(super) const CONNECTED: &str = "watcher";
pub(super) const UNKNOWN: &str = "nobody";

/// The IDs that they claim; the last is the node's own.
const CLAIMED: [&str; 3] = [CONNECTED, UNKNOWN, "victim"];

/// How long the last ones stay.
const STAY: Duration = Duration::from_secs(1);

/// The ID that the strangers of a seed claim.
pub(super) fn claimed(seed: u64) -> &'static str {
    CLAIMED.get(seed as usize % CLAIMED.len()).copied().unwrap_or(CONNECTED)
}

/// Connects as some of the strangers that claim an ID, each of which sends a greeting.
pub(super) fn claim(address: &str, claimed: &str, strangers: Range<usize>) -> Result<Sent> {
    let mut config = HandshakeConfig::new(claimed);
    config.secret = Secret::new("another");
    let handshaker = Handshaker::new(config)?;
    let (mut connections, mut sent) = (VecDeque::new(), Sent::default());
    for number in strangers.start..strangers.end.min(STRANGERS) {
        let session = handshaker.dial(nonce()?, address);
        let mut stream = TcpStream::connect(address)?;
        sent.packets = number + 1;
        sent.octets += session.own_greeting().len() as u64;
        // The node may have refused it already.
        let _ = stream.write_all(session.own_greeting());
        connections.push_back(stream);
        if connections.len() > STRANGERS_AT_ONCE {
            connections.pop_front();
        }
    }
    std::thread::sleep(STAY);
    Ok(sent)
}
