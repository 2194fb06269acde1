//! A mailbox: senders append under a short lock, its reader takes all of it at once.

use super::batch::{Batch, Entry};
use super::sync::Mutex;
use super::{Delivery, run_queue};
use crate::value::packed::Elements;
use crate::value::{NodeId, Packed};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// Messages that are appended under one lock.
const MAX_BATCH: usize = 64;

/// The senders' side of a mailbox.
#[derive(Debug)]
pub(crate) struct MailboxCell {
    shared: Mutex<Shared>,
    limit: usize,
}

#[derive(Debug, Default)]
struct Shared {
    batch: Batch,
    reader: Option<Waker>,
    end: End,
}

/// Whether, and why, a mailbox takes no messages.
#[derive(Debug, Default)]
enum End {
    #[default]
    Open,
    /// It overflowed and waits to be killed.
    Full,
    Killed(Packed),
    /// Nobody reads it any more.
    Abandoned,
}

impl MailboxCell {
    /// A mailbox in which up to `limit` octets wait, and its reader.
    pub(crate) fn new(limit: usize) -> (Arc<Self>, Inbox) {
        let cell = Arc::new(MailboxCell { shared: Mutex::default(), limit });
        let inbox = Inbox { cell: Arc::clone(&cell), batch: Batch::default(), killed: None };
        (cell, inbox)
    }

    /// Appends messages. Some are left over if there are many, so that the reader has its turn.
    #[inline]
    pub(super) fn push<'a>(
        &self,
        from: &NodeId,
        messages: &mut impl Iterator<Item = Elements<'a>>,
    ) -> Delivery {
        let (delivery, reader) = {
            let mut shared = self.shared.lock();
            if !matches!(shared.end, End::Open) {
                return Delivery::NoSuchPort;
            }
            let limit = self.limit;
            let full =
                messages.take(MAX_BATCH).any(|message| !shared.batch.push(from, message, limit));
            let delivery = if full {
                shared.end = End::Full;
                Delivery::Overflow
            } else {
                Delivery::Queued { waiting: shared.batch.size() }
            };
            (delivery, shared.reader.take())
        };
        run_queue::wake(reader);
        delivery
    }

    /// Ends it: the reader gets what came before, then the reason. The first reason stays.
    pub(crate) fn close(&self, reason: Packed) {
        let reader = {
            let mut shared = self.shared.lock();
            if !matches!(shared.end, End::Open | End::Full) {
                return;
            }
            shared.end = End::Killed(reason);
            shared.reader.take()
        };
        run_queue::wake(reader);
    }

    /// How many octets of messages wait, beyond those that the reader has taken.
    pub(crate) fn waiting(&self) -> usize {
        self.shared.lock().batch.size()
    }
}

/// The reader's side of a mailbox.
///
/// Dropping it makes the mailbox refuse messages; it does not tell the port's monitors.
#[derive(Debug)]
pub(crate) struct Inbox {
    cell: Arc<MailboxCell>,
    batch: Batch,
    killed: Option<Packed>,
}

/// A message as it stands in its mailbox.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received<'a> {
    /// The node that sent it.
    pub(crate) from: &'a NodeId,
    /// Its elements.
    pub(crate) message: Elements<'a>,
}

/// What a mailbox holds right now.
#[derive(Debug)]
pub(crate) enum Next<'a> {
    /// A message.
    Message(Received<'a>),
    /// Nothing yet.
    Nothing,
    /// Nothing ever more: the port died for this reason.
    Dead(Packed),
}

impl Inbox {
    /// The next message, without waiting. It stays where it is until the next call.
    #[inline]
    pub(crate) fn try_next(&mut self) -> Next<'_> {
        if self.batch.is_done() {
            self.refill(None);
        }
        self.take()
    }

    /// Ready when [`try_next`](Inbox::try_next) would give a message or the reason of death.
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.batch.is_done() && !self.refill(Some(cx.waker())) {
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// The next message, which stays where it is until the next call.
    ///
    /// # Errors
    /// The reason for which the port died, once everything that came before was read.
    pub(crate) async fn next(&mut self) -> Result<Received<'_>, Packed> {
        poll_fn(|cx| self.poll_ready(cx)).await;
        match self.take() {
            Next::Message(received) => Ok(received),
            Next::Dead(reason) => Err(reason),
            // Cannot be: it was ready.
            Next::Nothing => Err(Packed::default()),
        }
    }

    /// As [`next`](Inbox::next) for callers that poll.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received<'_>, Packed>> {
        if self.poll_ready(cx).is_pending() {
            return Poll::Pending;
        }
        match self.take() {
            Next::Message(received) => Poll::Ready(Ok(received)),
            Next::Dead(reason) => Poll::Ready(Err(reason)),
            Next::Nothing => Poll::Pending,
        }
    }

    #[inline]
    fn take(&mut self) -> Next<'_> {
        match self.batch.next() {
            Some(Entry::Message(from, message)) => Next::Message(Received { from, message }),
            _ => self.killed.clone().map_or(Next::Nothing, Next::Dead),
        }
    }

    /// Takes what the senders have put; false if that is nothing, and then wakes `waker` later.
    fn refill(&mut self, waker: Option<&Waker>) -> bool {
        if self.killed.is_some() {
            return true;
        }
        self.batch.clear();
        let mut shared = self.cell.shared.lock();
        if shared.batch.size() > 0 {
            std::mem::swap(&mut self.batch, &mut shared.batch);
            return true;
        }
        if let End::Killed(reason) = &shared.end {
            self.killed = Some(reason.clone());
            return true;
        }
        let Some(waker) = waker else { return false };
        if shared.reader.as_ref().is_some_and(|reader| reader.will_wake(waker)) {
            return false;
        }
        // Cloning and dropping a waker runs code that is not ours, so it happens unlocked.
        drop(shared);
        let waker = waker.clone();
        let mut shared = self.cell.shared.lock();
        let (came, old) = if shared.batch.size() > 0 || !matches!(shared.end, End::Open | End::Full)
        {
            (true, Some(waker))
        } else {
            (false, shared.reader.replace(waker))
        };
        drop(shared);
        drop(old);
        came && self.refill(None)
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let (batch, reader) = {
            let mut shared = self.cell.shared.lock();
            if matches!(shared.end, End::Open | End::Full) {
                shared.end = End::Abandoned;
            }
            (std::mem::take(&mut shared.batch), shared.reader.take())
        };
        drop((batch, reader));
    }
}
