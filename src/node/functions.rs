//! Functions of the program that peers call and spawn by name, and expressions that peers ask to
//! have evaluated.

use super::core::Shared;
use super::message::MessageRef;
use super::panics::catch;
use super::port::{CallbackCell, PortName, Task, Unmatched, run_queue};
use crate::kernel::{Call, Level, Origin, cut_line};
use crate::value::{NodeId, Packed, Str};
use std::sync::Arc;

impl Shared {
    /// The cell of a port that a peer spawns here.
    pub(super) fn spawned_cell(&self, name: &PortName) -> Arc<CallbackCell> {
        let (hooks, limit) = (self.hooks.clone(), self.settings.port_limit);
        CallbackCell::new(name.clone(), hooks, Unmatched::Drop, limit)
    }

    /// The first task of a spawned port: its init function.
    pub(super) fn first_task(self: &Arc<Self>, init: Call) -> Task {
        let function = self.functions.read().get(&init.function).cloned();
        let shared = self.clone();
        Box::new(move |port| {
            let Some(function) = function else {
                return Err(format!("function {} is not registered here", init.function));
            };
            let message = MessageRef::new(&init.from, init.arguments.as_elements());
            function(&shared, Some(port), message)
        })
    }

    /// Runs a function that was called by name, as soon as this thread may run user code.
    pub(crate) fn call_soon(self: &Arc<Self>, call: Call) {
        let shared = self.clone();
        run_queue::call(move || shared.call_function(&call));
    }

    fn call_function(self: &Arc<Self>, call: &Call) {
        let Some(function) = self.functions.read().get(&call.function).cloned() else {
            return;
        };
        let message = MessageRef::new(&call.from, call.arguments.as_elements());
        let outcome = catch(|| function(self, None, message));
        if let Err(problem) = outcome.unwrap_or_else(Err) {
            let Call { function, from, .. } = call;
            let text = cut_line(format_args!("function {function} called by {from}: {problem}"));
            self.kernel(|kernel| {
                kernel.log_of_peer(from, Origin::Requests, Level::Warn, text);
            });
        }
    }

    /// Evaluates an expression for a peer that the kernel does not answer itself.
    pub(super) fn evaluate(self: &Arc<Self>, expression: &Str, from: &NodeId, reply: &Packed) {
        let hook = self.eval.read().clone();
        let outcome = match hook {
            Some(hook) => catch(|| hook(&expression.to_text_lossy(), from)).unwrap_or_else(Err),
            None => {
                Err("this node has no Perl interpreter and does not know the expression".into())
            }
        };
        let (error, results) = match outcome {
            Ok(results) => (String::new(), Packed::of(&results).unwrap_or_default()),
            Err(error) => (error, Packed::default()),
        };
        self.kernel(|kernel| kernel.eval_done(reply, &error, results.as_elements()));
    }
}

#[cfg(test)]
mod tests {
    use crate::node::{Context, MessageRef, Node, SendError};
    use parking_lot::Mutex;
    use std::sync::Arc;

    #[tokio::test]
    async fn what_a_callback_sends_to_its_own_node_comes_after_functions_that_it_called_there() {
        let builder = Node::builder().node_id("alone").secret("geheim").no_binds();
        let node = builder.start().await.unwrap();
        let order: Arc<Mutex<Vec<String>>> = Arc::default();
        let mailbox = Arc::new(Mutex::new(node.port()));
        let mailbox_id = mailbox.lock().id();
        let noted = order.clone();
        node.expose("function", move |_: &Context<'_>, (name,): (String,)| {
            let arrived = mailbox.lock().try_recv().unwrap().is_some();
            noted.lock().push(if arrived { format!("{name} behind mail") } else { name });
        });
        let noted = order.clone();
        let other = node.port_with(move |_: &Context<'_>, message: MessageRef<'_>| {
            noted.lock().push(message.decode::<(String,)>().unwrap().0);
        });
        let other = other.id();
        let start = node.port_of_tags();
        start.on("start", move |ctx: &Context<'_>, (): ()| -> Result<(), SendError> {
            let own = ctx.node().id().node_port();
            ctx.snd(&own, ("function", "one"))?;
            ctx.snd(&own, ("snd", &other, "relayed"))?;
            ctx.snd(&own, ("function", "two"))?;
            ctx.snd(&other, ("sent",))?;
            ctx.snd(&own, ("function", "three"))?;
            ctx.snd(&mailbox_id, ("mail",))?;
            ctx.snd(&own, ("function", "four"))?;
            ctx.snd(&own, ("snd", &other, "last"))
        });
        node.snd(start.id(), ("start",)).unwrap();
        let expected = ["one", "relayed", "two", "sent", "three", "four behind mail", "last"];
        assert_eq!(*order.lock(), expected);
    }
}
