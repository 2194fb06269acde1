//! Requests that do nothing but send a message, which may again be a request to the same node: followed
//! in place, however many there are in one packet.

use super::effect::Builder;
use super::request::{Refused, argument};
use crate::value::PortId;
use crate::value::packed::Elements;

/// The most elements that a request has in front of the message that it sends: its name, an argument
/// and the destination.
pub(super) const MOST_BEFORE_MESSAGE: usize = 3;

/// What is left of a packet while relays to this node itself are followed.
#[derive(Debug)]
pub(super) struct Relay<'a> {
    /// The request at hand.
    pub(super) rest: Elements<'a>,
    /// What the relays so far had to say, which stands behind the rest.
    pub(super) results: Builder,
    first: bool,
}

/// What becomes of a request.
#[derive(Debug)]
pub(super) enum Next<'a> {
    /// Its message goes to this node's own node port: another request.
    Here { rest: Elements<'a>, results: Builder },
    /// Its message goes elsewhere.
    Elsewhere { to: PortId, message: Elements<'a>, results: Builder },
    /// It is to be carried out; it sends nothing, or that is not all.
    Request,
}

impl<'a> Relay<'a> {
    pub(super) fn new(request: Elements<'a>) -> Self {
        Relay { rest: request, results: Builder::default(), first: true }
    }

    /// Whether the request at hand is the packet's own, and not one that this node sends itself.
    pub(super) const fn is_first(&self) -> bool {
        self.first
    }

    pub(super) fn take_head(&mut self, rest: Elements<'a>, results: Builder) {
        self.rest = rest;
        self.first = false;
        self.results = std::mem::take(&mut self.results).append(results);
    }

    /// What the requests that led to a message had to say, `results` last: it stands behind the message.
    pub(super) fn results_behind(self, results: Builder) -> Builder {
        self.results.append(results)
    }
}

/// Where a reply goes; its first element says so. None wants no reply.
pub(super) fn destination(reply: Elements<'_>) -> Result<Option<PortId>, Refused> {
    if reply.is_empty() {
        return Ok(None);
    }
    let id = argument(reply).ok_or("the destination is no string")?;
    PortId::try_from(id).map(Some).map_err(|error| error.to_string())
}
