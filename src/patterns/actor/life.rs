//! The life of an actor: its mailbox, and the task that handles one message at a time.

use super::{Actor, ActorContext, LINK, OVERHEAD, ROOM, SENDERS, STOP};
use crate::node::{KillReason, Message, MessageRef, Monitor, Node};
use crate::patterns::Failure;
use crate::value::PortId;
use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::sync::mpsc;

pub(super) struct Sender {
    messages: mpsc::UnboundedSender<Message>,
    waiting: Arc<AtomicUsize>,
    limit: usize,
}

pub(super) struct Inbox {
    messages: mpsc::UnboundedReceiver<Message>,
    waiting: Arc<AtomicUsize>,
}

pub(super) fn inbox(limit: usize) -> (Sender, Inbox) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    let inbox = Inbox { messages: receiver, waiting: waiting.clone() };
    (Sender { messages: sender, waiting, limit }, inbox)
}

fn size(message: MessageRef<'_>) -> usize {
    message.elements().octets().len() + OVERHEAD
}

impl Sender {
    pub(super) fn put(&self, message: MessageRef<'_>) -> Result<(), String> {
        let size = size(message);
        if self.waiting.fetch_add(size, Ordering::Relaxed) + size > self.limit {
            return Err(format!("more than {} octets of messages wait", self.limit));
        }
        // If this fails, the actor has ended, and so has this port.
        let _ = self.messages.send(message.keep());
        Ok(())
    }
}

impl Inbox {
    async fn next(&mut self) -> Option<Message> {
        let message = self.messages.recv().await?;
        self.waiting.fetch_sub(size(message.as_ref()), Ordering::Relaxed);
        Some(message)
    }
}

pub(super) fn run<A: Actor>(node: &Node, id: PortId, inbox: Inbox, actor: A) {
    let death = node.monitor(&id);
    let ctx = ActorContext {
        node: node.weak(),
        from: node.id().clone(),
        id,
        is_stopping: AtomicBool::new(false),
    };
    drop(node.runtime().spawn(live(ctx, inbox, actor, death)));
}

async fn live<A: Actor>(mut ctx: ActorContext, mut inbox: Inbox, mut actor: A, mut death: Monitor) {
    let begun = tokio::select! {
        biased;
        reason = &mut death => Err((reason, true)),
        begun = guarded(actor.started(&ctx)) => begun.map_err(|reason| (reason, false)),
    };
    let (reason, is_dead) = loop {
        if let Err(end) = begun {
            break end;
        }
        if ctx.is_stopping.load(Ordering::Relaxed) {
            break (KillReason::normal(), false);
        }
        let step = guarded(handle_next(&mut ctx, &mut inbox, &mut actor));
        tokio::select! {
            biased;
            reason = &mut death => break (reason, true),
            done = step => if let Err(reason) = done { break (reason, false) },
        }
    };
    let _ = guarded(async {
        actor.stopped(&ctx, &reason).await;
        Ok(())
    })
    .await;
    if !is_dead {
        ctx.node.kil(&ctx.id, &reason);
    }
}

async fn handle_next<A: Actor>(
    ctx: &mut ActorContext,
    inbox: &mut Inbox,
    actor: &mut A,
) -> Result<(), Failure> {
    let Some(message) = inbox.next().await else {
        // The port is gone, and its monitors are about to fire.
        return std::future::pending().await;
    };
    ctx.from = message.from().clone();
    let is = |tag| message.tag().is_some_and(|found| found == tag);
    if is(STOP) {
        ctx.stop();
        return Ok(());
    }
    if is(LINK) {
        let (_, port): (String, PortId) = message.decode()?;
        let (node, own) = (ctx.node.weak(), ctx.id.clone());
        let stop = move |_| drop(node.snd(&own, (STOP,)));
        ctx.node.on_death(port, stop).detach();
        return Ok(());
    }
    if is(ROOM) {
        let (_, reply): (String, PortId) = message.decode()?;
        return Ok(ctx.snd(reply, A::MAILBOX / SENDERS)?);
    }
    match message.decode_call(&ctx.node) {
        Ok(decoded) => actor.handle(ctx, decoded).await,
        Err(error) => actor.unknown(ctx, message, error),
    }
}

/// Runs a future; its failure or panic becomes a kill reason.
async fn guarded(future: impl Future<Output = Result<(), Failure>>) -> Result<(), KillReason> {
    let mut future = pin!(future);
    // Whatever a panic leaves half done belongs to the actor, which ends.
    let outcome = poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(poll) => poll.map(|outcome| outcome.map_err(|error| error.to_string())),
        Err(panic) => std::task::Poll::Ready(Err(text_of(&*panic))),
    });
    outcome.await.map_err(|text| KillReason::new("die", &text))
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panic".to_owned())
}
