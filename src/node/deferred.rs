//! User code that the kernel's effects call for: run after its lock is released, in order.

use super::context::Context;
use super::core::{Shared, Watching};
use super::message::{KillReason, MessageRef};
use super::port::{Later, Task};
use crate::kernel::db::DbAnswer;
use crate::kernel::{Call, Level};
use crate::value::{NodeId, Packed, Str};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Waker;
use tokio::sync::oneshot;

/// One thing to run when no lock is held.
pub(crate) enum Deferred {
    /// Ports to run, readers to wake, receivers to drop.
    Port(Later),
    Call(Call),
    Eval {
        expression: Str,
        from: NodeId,
        reply: Packed,
    },
    Fired {
        callback: Box<dyn FnOnce(KillReason) + Send>,
        reason: KillReason,
    },
    /// A relayed `snd` to this node itself, as it stood behind functions that were called.
    Relay(Packed),
    Answer(oneshot::Sender<DbAnswer>, DbAnswer),
    Wake(Waker),
    DropWatch(Watching),
    Log(Level, String),
}

impl Deferred {
    const fn is_call(&self) -> bool {
        matches!(self, Deferred::Call(_) | Deferred::Relay(_))
    }

    /// Whether it does more than to wake tasks and to log.
    pub(crate) const fn runs_user_code(&self) -> bool {
        match self {
            Deferred::Answer(..) | Deferred::Wake(_) | Deferred::Log(..) => false,
            Deferred::Port(_)
            | Deferred::Call(_)
            | Deferred::Relay(_)
            | Deferred::Eval { .. }
            | Deferred::Fired { .. }
            | Deferred::DropWatch(_) => true,
        }
    }
}

/// What waits while this thread is running such code already.
struct Waiting {
    running: bool,
    queue: VecDeque<(Arc<Shared>, Deferred)>,
    /// How many in the queue are functions that were called, or relays behind them.
    calls: usize,
}

thread_local! {
    static WAITING: RefCell<Waiting> =
        const { RefCell::new(Waiting { running: false, queue: VecDeque::new(), calls: 0 }) };
}

/// Capacity of the queue above this is freed after use.
const MOST_KEPT: usize = 256;

/// Whether functions that were called on this thread still wait to be run. A relayed `snd` that is
/// sent now waits behind them ([`Deferred::Relay`]), as peers use it as a barrier.
pub(crate) fn calls_wait() -> bool {
    WAITING.with_borrow(|waiting| waiting.calls > 0)
}

/// Runs what is due; if this thread is running such code already, that is finished first.
pub(crate) fn run(shared: &Arc<Shared>, due: &mut Vec<Deferred>) {
    if due.is_empty() {
        return;
    }
    let outermost = WAITING.with_borrow_mut(|waiting| {
        waiting.calls += due.iter().filter(|deferred| deferred.is_call()).count();
        waiting.queue.extend(due.drain(..).map(|deferred| (shared.clone(), deferred)));
        !std::mem::replace(&mut waiting.running, true)
    });
    if !outermost {
        return;
    }
    while let Some((shared, deferred)) = next() {
        // Even what drops or logs runs code of others, and what waits behind it must not wait for
        // ever.
        guarded("what an event set off", || run_one(&shared, deferred));
    }
}

fn next() -> Option<(Arc<Shared>, Deferred)> {
    WAITING.with_borrow_mut(|waiting| {
        let next = waiting.queue.pop_front();
        match &next {
            Some((_, deferred)) => waiting.calls -= usize::from(deferred.is_call()),
            None => {
                waiting.running = false;
                waiting.queue.shrink_to(MOST_KEPT);
            }
        }
        next
    })
}

fn run_one(shared: &Arc<Shared>, deferred: Deferred) {
    match deferred {
        Deferred::Port(later) => guarded("a port", || drop(later)),
        Deferred::Call(call) => call_function(shared, &call),
        Deferred::Relay(message) => {
            shared.kernel(|kernel| kernel.node_packet(&shared.id, message.as_elements()));
        }
        Deferred::Eval { expression, from, reply } => evaluate(shared, &expression, &from, &reply),
        Deferred::Fired { callback, reason } => {
            guarded("a monitor's callback", || callback(reason));
        }
        Deferred::Answer(waiting, answer) => drop(waiting.send(answer)),
        Deferred::Wake(waker) => waker.wake(),
        Deferred::DropWatch(watching) => guarded("dropping a monitor", || drop(watching)),
        Deferred::Log(level, text) => log(shared, level, &text),
    }
}

/// What a spawned port does first.
pub(crate) fn init(shared: &Arc<Shared>, init: Call) -> Task {
    let function = shared.functions.read().get(&init.function).cloned();
    let node = shared.inner_handle();
    Box::new(move |port| {
        let Some(function) = function else {
            return Err(format!("function {} is not registered here", init.function));
        };
        let message = MessageRef::new(&init.from, init.arguments.as_elements());
        function(&Context::of_port(&node, port, &init.from), message)
    })
}

fn call_function(shared: &Arc<Shared>, call: &Call) {
    let Some(function) = shared.functions.read().get(&call.function).cloned() else {
        return;
    };
    let node = shared.inner_handle();
    let message = MessageRef::new(&call.from, call.arguments.as_elements());
    let outcome =
        catch_unwind(AssertUnwindSafe(|| function(&Context::of_node(&node, &call.from), message)));
    let problem = match outcome {
        Ok(Ok(())) => return,
        Ok(Err(text)) => text,
        Err(panic) => panic_text(&*panic),
    };
    tracing::warn!(node = %shared.id, "function {} called by {}: {problem}", call.function, call.from);
}

fn evaluate(shared: &Arc<Shared>, expression: &Str, from: &NodeId, reply: &Packed) {
    let hook = shared.eval.read().clone();
    let outcome = match hook {
        Some(hook) => catch_unwind(AssertUnwindSafe(|| hook(&expression.to_text_lossy(), from)))
            .unwrap_or_else(|panic| Err(panic_text(&*panic))),
        None => Err("this node has no Perl interpreter and does not know the expression".into()),
    };
    let (error, results) = match outcome {
        Ok(results) => (String::new(), Packed::of(&results).unwrap_or_default()),
        Err(error) => (error, Packed::default()),
    };
    shared.kernel(|kernel| kernel.eval_done(reply, &error, results.as_elements()));
}

fn log(shared: &Shared, level: Level, text: &str) {
    let node = &shared.id;
    match level {
        Level::Error => tracing::error!(%node, "{text}"),
        Level::Warn => tracing::warn!(%node, "{text}"),
        Level::Info => tracing::info!(%node, "{text}"),
        Level::Debug => tracing::debug!(%node, "{text}"),
    }
}

/// Runs code of the user; a panic in it is logged and goes no further.
fn guarded(what: &str, code: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(code)) {
        tracing::error!("{what} panicked: {}", panic_text(&*panic));
    }
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panic".to_owned())
}
