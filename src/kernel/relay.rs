//! Requests that only send a message, which may again be a request to the same node: handled in a loop,
//! however many there are in one packet.

use super::effect::Builder;
use super::request::{Refused, argument};
use crate::value::PortId;
use crate::value::packed::Elements;

/// The maximum number of elements before the message in a request that sends it: name, argument and
/// destination.
pub(super) const MAX_ELEMENTS_BEFORE_MESSAGE: usize = 3;

/// The rest of a packet while relays to this node itself are followed.
#[derive(Debug)]
pub(super) struct Relay<'a> {
    /// The current request.
    pub(super) rest: Elements<'a>,
    /// The results of the relays so far, to be appended to the message.
    pub(super) results: Builder,
    first: bool,
}

/// How a request continues.
#[derive(Debug)]
pub(super) enum RelayStep<'a> {
    /// Its message is another request to this node.
    Here { rest: Elements<'a>, results: Builder },
    /// Its message goes to another port.
    Elsewhere { to: PortId, message: Elements<'a>, results: Builder },
    /// It has to be carried out: it does more than send a message.
    Request,
}

impl<'a> Relay<'a> {
    pub(super) fn new(request: Elements<'a>) -> Self {
        Relay { rest: request, results: Builder::default(), first: true }
    }

    /// Whether the current request is the packet's own, not one that this node sends to itself.
    pub(super) const fn is_first(&self) -> bool {
        self.first
    }

    pub(super) fn take_head(&mut self, rest: Elements<'a>, results: Builder) {
        self.rest = rest;
        self.first = false;
        self.results = std::mem::take(&mut self.results).append(results);
    }

    /// The results of the requests that led to a message, followed by `results`: they are appended to
    /// the message.
    pub(super) fn results_behind(self, results: Builder) -> Builder {
        self.results.append(results)
    }
}

/// The destination of a reply, its first element; undef means that no reply is wanted.
pub(super) fn destination(reply: Elements<'_>) -> Result<Option<PortId>, Refused> {
    if reply.is_empty() {
        return Ok(None);
    }
    let id = argument(reply).ok_or("the destination is not a string, or longer than 256 KiB")?;
    Ok(Some(PortId::try_from(id)?))
}
