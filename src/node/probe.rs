//! Shaking hands with an address to find out what is wrong, without becoming a node of the network.

use super::builder::handshaker;
use super::error::StartError;
use super::socket;
use super::tls::{self, AnonymousClients, Identity, Rewind, TlsConfig, TlsError};
use crate::config::Settings;
use crate::value::{NodeId, Packed, PortId, Str, StrRef, Value};
use crate::wire::auth::{AuthMethod, Nonce};
use crate::wire::framing::{Decoder, Framing, FramingLimits, Step, encode};
use crate::wire::handshake::{
    Authenticated, Authenticating, Greeted, Handshake, HandshakeError, Proceed, Progress,
};
use bytes::BytesMut;
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What a handshake that worked told about the node at the other end.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Probe {
    /// The node's ID.
    pub node: NodeId,
    /// Which software it says it is, with its version.
    pub provider: Str,
    /// How it proved itself.
    pub method: AuthMethod,
    /// The framing in which it wants our packets.
    pub framing: Framing,
    /// Version and cipher, if the connection is encrypted.
    pub tls: Option<String>,
    /// How far its clock is ahead of ours in seconds (negative: behind), if it told.
    pub clock_ahead: Option<f64>,
}

/// Why a handshake did not work.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// The settings do not allow any handshake.
    #[error(transparent)]
    Settings(StartError),
    /// Nobody answers at the address, or it does not resolve.
    #[error("{0}")]
    Connect(#[source] io::Error),
    /// The peer did nothing for so long.
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

/// Shakes hands with what listens at an address (`host:port`), as a node with these settings but
/// the ID `id` would, asks for the time, and closes the connection.
///
/// # Errors
/// Fails with what went wrong, after `limit` at the latest.
pub async fn probe(
    settings: &Settings,
    id: &NodeId,
    address: &str,
    limit: Duration,
) -> Result<Probe, ProbeError> {
    let stream = socket::connect(address, limit).await.map_err(|error| match error {
        super::ConnectionError::Connect { source, .. } => ProbeError::Connect(source),
        error => ProbeError::Connect(io::Error::other(error.to_string())),
    })?;
    match tokio::time::timeout(limit, shake_hands(settings, id, address, stream)).await {
        Ok(result) => result,
        Err(_) => Err(ProbeError::Timeout(limit)),
    }
}

async fn shake_hands(
    settings: &Settings,
    id: &NodeId,
    address: &str,
    mut stream: TcpStream,
) -> Result<Probe, ProbeError> {
    let handshaker = handshaker(settings, id).map_err(ProbeError::Settings)?;
    let mut unread = BytesMut::new();
    let handshake = handshaker.dial(nonce().map_err(ProbeError::Settings)?, address);
    let greeted = greet(&mut stream, &mut unread, handshake).await?;
    match greeted.proceed()? {
        Proceed::Authenticate(state) => {
            let agreed = authenticate(&mut stream, &mut unread, state).await?;
            Ok(finish(stream, unread, agreed, None, id).await)
        }
        Proceed::StartTls(state) => {
            let pem = settings.cert.as_ref().map(|pem| pem.expose().as_bytes());
            let identity = Identity::from_pem(pem.unwrap_or_default())
                .map_err(|error| ProbeError::Settings(StartError::Config(Box::new(error))))?;
            let config = TlsConfig::new(&identity, AnonymousClients::Refused);
            let stream = Rewind::new(std::mem::take(&mut unread), stream);
            let established = tls::handshake(stream, state.we_are_client(), &config).await?;
            let summary = established.summary();
            let state = state.tls_established(established.peer());
            let mut stream = established.stream;
            let agreed = authenticate(&mut stream, &mut unread, state).await?;
            Ok(finish(stream, unread, agreed, Some(summary), id).await)
        }
    }
}

/// A nonce that makes us the TLS client, nearly always: then it is we who see the other
/// certificate first.
fn nonce() -> Result<Nonce, StartError> {
    let mut octets = [0; Nonce::OCTETS];
    let random = octets.get_mut(6..).unwrap_or_default();
    getrandom::fill(random).map_err(|error| StartError::Randomness(error.to_string()))?;
    // Base64 digits sort first by `+`, which are the bits 111110.
    octets.get_mut(..6).unwrap_or_default().copy_from_slice(&[0xfb, 0xef, 0xbe, 0xfb, 0xef, 0xbe]);
    Ok(Nonce::from_random(&octets))
}

async fn greet(
    stream: &mut TcpStream,
    unread: &mut BytesMut,
    mut handshake: Handshake,
) -> Result<Greeted, ProbeError> {
    let own = handshake.output().to_vec();
    stream.write_all(&own).await?;
    loop {
        match handshake.feed(unread)? {
            Progress::Reached(greeted) => return Ok(greeted),
            Progress::NeedMore(same) => handshake = same,
        }
        if read(stream, unread).await? == 0 {
            return Err(handshake.closed().into());
        }
    }
}

async fn authenticate<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    unread: &mut BytesMut,
    mut state: Authenticating,
) -> Result<Authenticated, ProbeError> {
    let own = state.output().to_vec();
    let written = async {
        stream.write_all(&own).await?;
        stream.flush().await
    };
    written.await.map_err(refused)?;
    loop {
        match state.feed(unread)? {
            Progress::Reached(authenticated) => return Ok(authenticated),
            Progress::NeedMore(same) => state = same,
        }
        if read(stream, unread).await.map_err(refused)? == 0 {
            return Err(state.closed().into());
        }
    }
}

/// Who refuses our certificate says so when TLS is established for us already.
fn refused(error: io::Error) -> ProbeError {
    match TlsError::on_established(&error) {
        Some(error) => error.into(),
        None => error.into(),
    }
}

/// Reads what is there; 0 if the connection ended, whatever way.
async fn read<S: AsyncRead + Unpin>(stream: &mut S, unread: &mut BytesMut) -> io::Result<usize> {
    match stream.read_buf(unread).await {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
            ) =>
        {
            Ok(0)
        }
        read => read,
    }
}

async fn finish<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    mut unread: BytesMut,
    agreed: Authenticated,
    tls: Option<String>,
    id: &NodeId,
) -> Probe {
    const PATIENCE: Duration = Duration::from_secs(2);
    let asked = ask_time(&mut stream, &mut unread, &agreed, id);
    let clock_ahead = tokio::time::timeout(PATIENCE, asked).await.ok().flatten();
    let node = NodeId::new(agreed.peer.node_id.as_slice());
    Probe {
        // Whoever has authenticated has a node ID that is one.
        node: node.unwrap_or_else(|_| id.clone()),
        provider: Str::octets(agreed.peer.written("provider").unwrap_or_default()),
        method: agreed.method,
        framing: agreed.send_framing,
        tls,
        clock_ahead,
    }
}

/// How far the node's clock is ahead; `None` if it does not tell.
async fn ask_time<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    unread: &mut BytesMut,
    agreed: &Authenticated,
    id: &NodeId,
) -> Option<f64> {
    const PORT: &str = "time";
    let reply = PortId::new(id, StrRef::text(PORT));
    let question = Packed::of(&("", "time", reply.as_str().to_owned())).ok()?;
    let mut octets = Vec::new();
    encode(agreed.send_framing, question.as_elements(), &mut octets).ok()?;
    let before = SystemTime::now();
    stream.write_all(&octets).await.ok()?;
    stream.flush().await.ok()?;
    let mut decoder = Decoder::new(agreed.receive_framing, FramingLimits::default());
    loop {
        let used = match decoder.next(unread).ok()? {
            Step::More { used } => {
                let _ = unread.split_to(used);
                if read(stream, unread).await.ok()? == 0 {
                    return None;
                }
                continue;
            }
            Step::Packet { used, elements } => {
                if elements.first_str().is_some_and(|port| port == StrRef::text(PORT)) {
                    let values: Vec<Value> = elements.after(1).decode().ok()?;
                    let theirs = values.first()?.to_number()?.to_f64();
                    let ours = before.duration_since(UNIX_EPOCH).ok()?.as_secs_f64();
                    let halfway = before.elapsed().unwrap_or_default().as_secs_f64() / 2.0;
                    return Some(theirs - (ours + halfway));
                }
                used
            }
        };
        let _ = unread.split_to(used);
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
