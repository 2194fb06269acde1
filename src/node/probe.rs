//! Performs a handshake with an address to find out what is wrong, without joining the network.

use super::connection::tls::TlsError;
use super::connection::{Channel, Stream, read, socket};
use super::error::{ConnectionError, StartError};
use super::settings::{encryption, handshaker, identity};
use crate::config::Settings;
use crate::value::{NodeId, Packed, PortId, Str, StrRef, Value};
use crate::wire::auth::{AuthMethod, Nonce};
use crate::wire::framing::{Framing, FramingLimits, encode};
use crate::wire::protection::Protection;
use crate::wire::session::{Agreement, AuthOrder, Event, HandshakeError, Packets};
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use thiserror::Error;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

/// What a successful handshake revealed about the node at the other end.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Probe {
    /// The node's ID.
    pub node: NodeId,
    /// The software and version that it claims to run.
    pub provider: Str,
    /// The method by which it authenticated.
    pub method: AuthMethod,
    /// The framing in which it wants our packets.
    pub framing: Framing,
    /// How the connection is protected.
    pub protection: Protection,
    /// Version and cipher, if the connection is encrypted.
    pub tls: Option<String>,
    /// Seconds by which its clock is ahead of ours (negative: behind), if it answered.
    pub clock_ahead: Option<f64>,
}

/// Why a handshake failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// The settings do not allow a handshake.
    #[error(transparent)]
    Settings(StartError),
    /// Nobody answers at the address, or it does not resolve.
    #[error("{0}")]
    Connect(#[source] io::Error),
    /// The handshake was not complete within this time.
    #[error("no complete handshake within {} s", .0.as_secs_f64())]
    Timeout(Duration),
    /// The handshake failed.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// TLS failed.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
}

impl From<ConnectionError> for ProbeError {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::Connect { source, .. } => ProbeError::Connect(source),
            ConnectionError::Handshake(error) => ProbeError::Handshake(error),
            ConnectionError::Tls(error) => ProbeError::Tls(error),
            ConnectionError::Io(error) => ProbeError::Io(error),
            other => ProbeError::Io(io::Error::other(other.to_string())),
        }
    }
}

/// Performs a handshake with an address (`host:port`), as a node with these settings but the ID
/// `id` would, asks for the time, and closes the connection.
///
/// # Errors
/// Fails with what went wrong, after `limit` at the latest.
pub async fn probe(
    settings: &Settings,
    id: &NodeId,
    address: &str,
    limit: Duration,
) -> Result<Probe, ProbeError> {
    let stream = socket::connect(address, limit).await?;
    match tokio::time::timeout(limit, shake_hands(settings, id, address, stream)).await {
        Ok(result) => result,
        Err(_) => Err(ProbeError::Timeout(limit)),
    }
}

async fn shake_hands(
    settings: &Settings,
    id: &NodeId,
    address: &str,
    stream: TcpStream,
) -> Result<Probe, ProbeError> {
    let handshaker = handshaker(settings, id).map_err(ProbeError::Settings)?;
    let identity = identity(settings).map_err(ProbeError::Settings)?;
    let encryption = encryption(identity.as_ref(), &handshaker);
    let ends = socket::ends(&stream, address);
    let session = handshaker.dial(nonce().map_err(ProbeError::Settings)?, ends);
    let mut channel = Channel::new(stream, session);
    loop {
        match channel.event().await? {
            Event::Established(agreement) => return Ok(finish(channel, agreement, id).await),
            // Continues: `proceed` also performs TLS and sends our authentication line.
            _ => channel = channel.proceed(AuthOrder::Now, &encryption).await?,
        }
    }
}

/// A nonce that almost always makes us the TLS client, so that we see the other certificate first.
fn nonce() -> Result<Nonce, StartError> {
    let mut octets = [0; Nonce::OCTETS];
    let random = octets.get_mut(6..).unwrap_or_default();
    getrandom::fill(random).map_err(|error| StartError::Randomness(error.to_string()))?;
    // `+` sorts first among the base64 digits; it stands for the bits 111110.
    octets.get_mut(..6).unwrap_or_default().copy_from_slice(&[0xfb, 0xef, 0xbe, 0xfb, 0xef, 0xbe]);
    Ok(Nonce::from_random(&octets))
}

async fn finish(channel: Channel, agreement: Agreement, id: &NodeId) -> Probe {
    const TIMEOUT: Duration = Duration::from_secs(2);
    let (mut stream, session) = channel.into_parts();
    let clock_ahead = match session.into_packets(FramingLimits::default()) {
        Some(packets) => {
            let asked = ask_time(&mut stream, packets, agreement.send_framing, id);
            tokio::time::timeout(TIMEOUT, asked).await.ok().flatten()
        }
        None => None,
    };
    let node = NodeId::new(agreement.peer.node_id.as_slice());
    Probe {
        // A peer that has authenticated has a valid node ID.
        node: node.unwrap_or_else(|_| id.clone()),
        provider: Str::octets(agreement.peer.written("provider").unwrap_or_default()),
        method: agreement.method,
        framing: agreement.send_framing,
        protection: agreement.protection,
        tls: stream.tls_summary(),
        clock_ahead,
    }
}

/// Seconds by which the node's clock is ahead; `None` if it does not answer.
async fn ask_time(
    stream: &mut Stream,
    mut packets: Packets,
    framing: Framing,
    id: &NodeId,
) -> Option<f64> {
    const PORT: &str = "time";
    let reply = PortId::new(id, StrRef::text(PORT));
    let question = Packed::of(&("", "time", reply.as_str().to_owned())).ok()?;
    let mut octets = Vec::new();
    encode(framing, question.as_elements(), &mut octets).ok()?;
    let before = SystemTime::now();
    stream.write_all(&octets).await.ok()?;
    stream.flush().await.ok()?;
    loop {
        while let Some(packet) = packets.poll().ok()? {
            if packet.first_str().is_some_and(|port| port == StrRef::text(PORT)) {
                let values: Vec<Value> = packet.after(1).decode().ok()?;
                let theirs = values.first()?.to_number()?.to_f64();
                let ours = before.duration_since(UNIX_EPOCH).ok()?.as_secs_f64();
                let halfway = before.elapsed().unwrap_or_default().as_secs_f64() / 2.0;
                return Some(theirs - (ours + halfway));
            }
        }
        if read(stream, packets.input()).await.ok()? == 0 {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probes_nonce_is_smaller_than_others() {
        let nonce = nonce().unwrap();
        assert!(nonce.as_bytes().starts_with(b"++++++++"));
        assert_ne!(nonce, super::nonce().unwrap());
    }
}
