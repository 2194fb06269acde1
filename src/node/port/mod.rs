//! The local ports of a node: where messages are handed over, and who runs them.
//!
//! Nothing here decides protocol questions, and nothing calls the kernel: the caller acts on what
//! [`Delivery`] says, and is told by [`Hooks`] when a port dies of itself. No code of the program
//! (receivers, tasks, wakers, drops of what they own) runs under a lock or a map guard of this module,
//! nor under a lock of a caller that has a [`Locked`].

mod batch;
mod cache;
mod callback;
mod mailbox;
mod receivers;
mod replies;
pub(crate) mod run_queue;
mod run_state;
mod sync;
mod table;
#[cfg(test)]
mod tests;

pub(crate) use crate::kernel::PortName;
pub(crate) use callback::{CallbackCell, Hooks, Task};
pub(crate) use mailbox::{Inbox, MailboxCell, Next};
pub(crate) use receivers::Unmatched;
pub(crate) use replies::{Replies, ReplyName};
pub(crate) use run_queue::Locked;
pub(crate) use run_state::CloseWhen;
pub(crate) use table::PortTable;

use crate::value::packed::Elements;
use crate::value::{NodeId, Packed};
use std::sync::Arc;

/// How many octets of messages wait for a port before it overflows, unless its owner says so.
pub(crate) const DEFAULT_LIMIT: usize = 64 << 20;

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// The port has run it, here and now.
    Done,
    /// It is queued: for the thread that runs the port, or for the mailbox's reader.
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
            PortCell::Mailbox(cell) => cell.push(from, messages),
            PortCell::Service => Delivery::Service,
        }
    }

    /// Ends the port: it takes no messages any more. `when` is for callback ports; a mailbox yields
    /// what came before, then `reason`.
    pub(crate) fn close(&self, reason: Packed, when: CloseWhen) {
        match self {
            PortCell::Mailbox(cell) => cell.close(reason),
            PortCell::Callback(cell) => cell.close(when),
            PortCell::Service => {}
        }
    }
}

/// The name of the port of the node with these hooks that runs on this thread: Perl's `$SELF`.
pub(crate) fn current_port(hooks: &Arc<Hooks>) -> Option<PortName> {
    callback::with_current(|current| {
        current.filter(|cell| Arc::ptr_eq(cell.hooks(), hooks)).map(|cell| cell.name().clone())
    })
}
