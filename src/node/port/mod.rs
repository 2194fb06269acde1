//! The local ports of a node: where messages are handed over, and who runs them.
//!
//! Nothing here decides protocol questions, and nothing calls the kernel: the caller acts on what
//! [`Delivery`] says, and is told by [`Hooks`] when a port dies of itself. No user code (receivers,
//! tasks, wakers, drops of what they own) is run under a lock or a map guard of this module.

mod batch;
mod cache;
mod callback;
mod mailbox;
mod receivers;
mod replies;
mod scope;
mod sync;
mod table;
#[cfg(test)]
mod tests;
mod turn;

pub(crate) use callback::{CallbackCell, Hooks, Later, Task};
pub(crate) use mailbox::{Inbox, MailboxCell, Next};
pub(crate) use receivers::Unmatched;
pub(crate) use replies::{Replies, ReplyName};
pub(crate) use table::PortTable;
pub(crate) use turn::Ending;

use crate::value::packed::Elements;
use crate::value::{NodeId, Packed, Str};
use std::iter::once;
use std::sync::Arc;

/// The name of a local port: what stands behind `#` in its ID.
pub(crate) type PortName = Str;

/// How many octets of messages wait for a port before it overflows, unless its owner says so.
pub(crate) const DEFAULT_LIMIT: usize = 64 << 20;

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// The port has run it, here and now.
    Done,
    /// It waits for its turn, or for the reader of the mailbox.
    Queued {
        /// How many octets wait there now, headers included: a caller that can slow down should,
        /// before this reaches the limit.
        waiting: usize,
    },
    /// There is no such port, or it takes nothing any more: the message is dropped.
    NoSuchPort,
    /// Too much waits: the message is dropped and nothing more is taken, so that there is no hole.
    /// The caller has to kill the port. This is said once for each port.
    Overflow,
    /// The port is the node's own: the message is the caller's business.
    Service,
}

/// One local port; clones are the same port.
#[derive(Debug, Clone)]
pub(crate) enum PortCell {
    /// Messages are kept for a reader.
    Mailbox(Arc<MailboxCell>),
    /// Messages are run.
    Callback(Arc<CallbackCell>),
    /// Messages are for the node itself.
    Service,
}

impl PortCell {
    /// A mailbox in which up to `limit` octets wait, and its reader.
    pub(crate) fn mailbox(limit: usize) -> (PortCell, Inbox) {
        let (cell, inbox) = MailboxCell::new(limit);
        (PortCell::Mailbox(cell), inbox)
    }

    /// Hands messages to the port; see [`PortTable::deliver`].
    #[inline]
    pub(crate) fn deliver<'a>(
        &self,
        from: &NodeId,
        messages: &mut impl Iterator<Item = Elements<'a>>,
    ) -> Delivery {
        match self {
            PortCell::Callback(cell) => cell.deliver(from, messages),
            PortCell::Mailbox(cell) => {
                let (delivery, later) = cell.push(from, messages);
                drop(later);
                delivery
            }
            PortCell::Service => Delivery::Service,
        }
    }

    /// As [`deliver`](Self::deliver), but runs nothing: for callers that hold a lock.
    pub(crate) fn queue(&self, from: &NodeId, message: Elements<'_>) -> (Delivery, Later) {
        match self {
            PortCell::Callback(cell) => cell.queue(from, message),
            PortCell::Mailbox(cell) => cell.push(from, &mut once(message)),
            PortCell::Service => (Delivery::Service, Later::default()),
        }
    }

    /// Ends the port: it takes no messages any more. `ending` is for callback ports; a mailbox
    /// yields what came before, then `reason`.
    ///
    /// Callers may hold a lock; see [`Later`].
    pub(crate) fn close(&self, reason: Packed, ending: Ending) -> Later {
        match self {
            PortCell::Mailbox(cell) => cell.close(reason),
            PortCell::Callback(cell) => cell.close(ending),
            PortCell::Service => Later::default(),
        }
    }
}

/// The name of the port of the node with these hooks that runs on this thread: Perl's `$SELF`.
pub(crate) fn current_port(hooks: &Arc<Hooks>) -> Option<PortName> {
    scope::with_current(|current| {
        current.filter(|cell| Arc::ptr_eq(cell.hooks(), hooks)).map(|cell| cell.name().clone())
    })
}
