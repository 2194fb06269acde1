//! The handshake of a data connection, which the mesh of nodes has no say in.

use super::DataStream;
use crate::node::connection::random_nonce;
use crate::node::core::Shared;
use crate::node::tls::{self, Rewind};
use crate::node::{ConnectionError, socket};
use crate::value::{NodeId, Str};
use crate::wire::handshake::{Authenticated, Authenticating, Greeted, Proceed, Progress};
use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Dials one address of `node`, which expects the connection under this ID.
pub(super) async fn dial(
    shared: &Shared,
    node: &NodeId,
    address: &Str,
    id: &Str,
) -> Result<DataStream, ConnectionError> {
    let address = address.to_text_lossy();
    let settings = &shared.settings;
    let mut stream = socket::connect(&address, settings.monitor_timeout).await?;
    socket::configure(&stream, settings);
    let nonce = random_nonce()?;
    let mut handshake = settings.handshaker.dial_data(nonce, &address, id.as_ref().data());
    stream.write_all(handshake.output()).await?;
    let mut unread = BytesMut::new();
    let greeted = loop {
        match handshake.feed(&mut unread)? {
            Progress::Reached(greeted) => break greeted,
            Progress::NeedMore(same) => handshake = same,
        }
        if stream.read_buf(&mut unread).await? == 0 {
            return Err(handshake.closed().into());
        }
    };
    let found = peer(&greeted)?;
    if found != *node {
        return Err(ConnectionError::Refused(format!("{address} is {found}")));
    }
    authenticate(shared, stream, unread, greeted).await
}

/// Goes on after the greetings, whoever dialled.
pub(super) async fn authenticate(
    shared: &Shared,
    stream: TcpStream,
    unread: BytesMut,
    greeted: Greeted,
) -> Result<DataStream, ConnectionError> {
    let peer = peer(&greeted)?;
    let made = match greeted.proceed()? {
        Proceed::Authenticate(state) => {
            if shared.settings.tls.is_some() {
                tracing::warn!(
                    node = %shared.id,
                    "the data connection with {peer} is not encrypted: {peer} has no TLS"
                );
            }
            let (stream, unread, agreed) = exchange(stream, unread, state).await?;
            DataStream::new(peer, stream, unread).protected(false, agreed.untrusted)
        }
        Proceed::StartTls(state) => {
            let Some(config) = &shared.settings.tls else {
                return Err(ConnectionError::Tls("no certificate".to_owned()));
            };
            let stream = Rewind::new(unread, stream);
            let established = tls::handshake(stream, state.we_are_client(), config)
                .await
                .map_err(|error| ConnectionError::Tls(error.to_string()))?;
            let state = state.tls_established(established.peer());
            let (stream, unread, agreed) =
                exchange(established.stream, BytesMut::new(), state).await?;
            DataStream::new(peer, stream, unread).protected(true, agreed.untrusted)
        }
    };
    Ok(made)
}

fn peer(greeted: &Greeted) -> Result<NodeId, ConnectionError> {
    NodeId::new(greeted.peer().node_id.as_slice())
        .map_err(|error| ConnectionError::Refused(error.to_string()))
}

/// Exchanges the authentication lines; what came behind the peer's is the stream's.
async fn exchange<S>(
    mut stream: S,
    mut unread: BytesMut,
    mut state: Authenticating,
) -> Result<(S, BytesMut, Authenticated), ConnectionError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(state.output()).await?;
    stream.flush().await?;
    loop {
        match state.feed(&mut unread)? {
            Progress::Reached(agreed) => return Ok((stream, unread, agreed)),
            Progress::NeedMore(same) => state = same,
        }
        if stream.read_buf(&mut unread).await? == 0 {
            return Err(state.closed().into());
        }
    }
}
