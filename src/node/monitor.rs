//! Monitors as programs use them: futures and guards.

use super::core::{OnFire, Shared};
use super::message::KillReason;
use super::node_port::CallbackPort;
use super::{Context, Node, Outcome, SendError, ToPort, queue};
use crate::kernel::{MonitorId, OnDeath};
use crate::value::{Packed, PortId};
use serde::Serialize;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context as TaskContext, Poll};

/// A monitor that is set. Awaiting it yields the reason of the death; dropping it removes the
/// monitor.
///
/// It takes effect when the function that made it returns, not when it is first polled.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let node = aemp::Node::builder().alone().start().await?;
/// let port = node.port();
/// let death = node.monitor(&port);
/// port.kil(&aemp::KillReason::new("failure", "too hot"));
/// assert_eq!(death.await.tag().unwrap(), "failure");
/// # Ok(()) }
/// ```
#[must_use = "dropping a monitor removes it"]
pub struct Monitor {
    guard: MonitorGuard,
    reason: queue::Receiver<KillReason>,
}

impl Future for Monitor {
    type Output = KillReason;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<KillReason> {
        self.reason.poll_next(cx).map(|reason| {
            self.guard.fired();
            reason.unwrap_or_else(|| KillReason::new("shutdown", "this node was shut down"))
        })
    }
}

impl Monitor {
    /// The reason, if the monitor has fired.
    pub fn try_reason(&mut self) -> Option<KillReason> {
        self.reason.try_next()
    }
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.guard.fmt(f)
    }
}

/// Keeps a monitor set; dropping it removes the monitor.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let node = aemp::Node::builder().alone().start().await?;
/// let (parent, mut child) = (node.port(), node.port());
/// let link = node.link(&parent, &child.id()); // or on_death, or notify
/// parent.kil(&aemp::KillReason::new("failure", "too hot"));
/// assert!(child.recv::<(String,)>().await.is_err());
/// drop(link);
/// # Ok(()) }
/// ```
#[must_use = "dropping the guard removes the monitor; MonitorGuard::detach keeps it"]
pub struct MonitorGuard {
    shared: Weak<Shared>,
    id: Option<MonitorId>,
}

impl MonitorGuard {
    fn new(shared: &Arc<Shared>, id: MonitorId) -> Self {
        MonitorGuard { shared: Arc::downgrade(shared), id: Some(id) }
    }

    /// Keeps the monitor set until it fires.
    pub fn detach(mut self) {
        self.id = None;
    }

    fn fired(&mut self) {
        self.id = None;
    }
}

impl Drop for MonitorGuard {
    fn drop(&mut self) {
        if let (Some(id), Some(shared)) = (self.id.take(), self.shared.upgrade()) {
            shared.unmonitor(id);
        }
    }
}

impl fmt::Debug for MonitorGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Node {
    /// Monitors a port, or with a node ID the connection to that node: the future yields the reason
    /// of its death. Perl calls this `mon $port, sub {...}`.
    ///
    /// # The guarantee
    /// After the monitor is set, messages to the port arrive in order and without gaps until one is
    /// lost; then all later ones are lost too, until the monitor has fired. A connection that is
    /// lost, or cannot be made within `monitor_timeout`, fires it with the reason `transport_error,
    /// NODE, text`. Monitoring a port that does not exist fires it with `no_such_port`. Monitoring
    /// a node that is not connected requests a connection.
    ///
    /// A destination that is not a port ID counts as a port that does not exist.
    pub fn monitor(&self, port: impl ToPort) -> Monitor {
        let (sender, reason) = queue::queue();
        Monitor { guard: self.monitor_then(port, OnFire::Future(sender)), reason }
    }

    /// Runs a callback when a port dies; see [`Node::monitor`].
    pub fn on_death<F>(&self, port: impl ToPort, callback: F) -> MonitorGuard
    where
        F: FnOnce(KillReason) + Send + 'static,
    {
        self.monitor_then(port, OnFire::Callback(Box::new(callback)))
    }

    /// Sends a message when a port dies: these elements, followed by those of the reason. Perl
    /// calls this `mon $port, $rcvport, @message`.
    ///
    /// # Errors
    /// As [`Node::snd`].
    pub fn notify<T: Serialize + ?Sized>(
        &self,
        port: impl ToPort,
        to: impl ToPort,
        message: &T,
    ) -> Result<MonitorGuard, SendError> {
        let on_death = OnDeath::Message { to: to.to_port()?, elements: Packed::of(message)? };
        Ok(self.monitor_in_kernel(port, on_death))
    }

    /// Kills the local port `dependent` with the same reason when `port` dies, unless it dies
    /// normally. Perl calls this `mon $port, $rcvport`.
    pub fn link(&self, port: impl ToPort, dependent: &PortId) -> MonitorGuard {
        self.monitor_in_kernel(port, OnDeath::Link(dependent.port().to_owned()))
    }

    fn monitor_then(&self, port: impl ToPort, on_fire: OnFire) -> MonitorGuard {
        MonitorGuard::new(self.shared(), self.shared().monitor(&self.monitored(port), on_fire))
    }

    fn monitor_in_kernel(&self, port: impl ToPort, on_death: OnDeath) -> MonitorGuard {
        let port = self.monitored(port);
        let shared = self.shared();
        let monitor = shared.kernel(|kernel| shared.monitor_in(kernel, &port, on_death));
        MonitorGuard::new(self.shared(), monitor)
    }

    /// The port to monitor. Text that is not a port ID becomes a port of this node that does not
    /// exist, and the reason of its death names the problem.
    fn monitored(&self, port: impl ToPort) -> PortId {
        port.to_port().unwrap_or_else(|error| PortId::new(self.id(), error.to_string().as_str()))
    }
}

impl CallbackPort {
    /// Runs a callback as this port when another port dies, in order with this port's messages.
    pub fn on_death<F, R>(&self, port: impl ToPort, callback: F) -> MonitorGuard
    where
        F: FnOnce(&Context<'_>, KillReason) -> R + Send + 'static,
        R: Outcome,
    {
        let node = self.node().inside();
        let own = self.id();
        let callback = Box::new(move |reason| {
            let from = node.id().clone();
            let name = own.port().to_owned();
            callback(&Context::of_port(&node, &name, &from), reason).into_result()
        });
        self.node().monitor_then(port, OnFire::PortCallback(self.cell().clone(), callback))
    }

    /// Kills this port with the same reason when another one dies, unless it dies normally.
    pub fn link(&self, port: impl ToPort) -> MonitorGuard {
        self.node().link(port, &self.id())
    }
}
