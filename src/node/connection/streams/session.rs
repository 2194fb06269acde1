//! The session of a data connection, in which the mesh of nodes takes no part.

use super::DataStream;
use crate::node::connection::{Channel, introduced, random_nonce, socket, tell_protection};
use crate::node::core::Shared;
use crate::node::error::ConnectionError;
use crate::value::{NodeId, Str};
use crate::wire::session::{AuthOrder, Event};
use std::sync::Arc;

/// Dials one address of `node`, which expects a connection with this ID.
pub(super) async fn dial(
    shared: &Arc<Shared>,
    node: &NodeId,
    address: &Str,
    id: &Str,
) -> Result<DataStream, ConnectionError> {
    let address = address.to_text_lossy();
    let settings = &shared.settings;
    let stream = socket::connect(&address, settings.monitor_timeout).await?;
    socket::configure(&stream, settings);
    let session = settings.handshaker.dial_data(
        random_nonce()?,
        socket::ends(&stream, &address),
        id.as_ref().data(),
    );
    let mut channel = Channel::new(stream, session);
    // The first event of any session is the peer's greeting.
    let _greeted = channel.event().await?;
    let found = introduced(channel.session())?.node;
    if found != *node {
        return Err(ConnectionError::Refused(format!("{address} is {found}")));
    }
    authenticate(shared, channel).await
}

/// Continues after the greetings, whichever side dialled.
pub(super) async fn authenticate(
    shared: &Arc<Shared>,
    channel: Channel,
) -> Result<DataStream, ConnectionError> {
    let peer = introduced(channel.session())?.node;
    let mut channel = channel.proceed(AuthOrder::Now, &shared.settings.encryption).await?;
    let agreement = loop {
        if let Event::Established(agreement) = channel.event().await? {
            break agreement;
        }
    };
    let protection = agreement.protection;
    tell_protection(shared, &peer, format_args!("data connection with {peer}"), protection);
    let (stream, mut session) = channel.into_parts();
    let made = DataStream::new(peer, stream, session.take_input());
    Ok(made.protected(agreement.protection.is_encrypted(), agreement.untrusted))
}
