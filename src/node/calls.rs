//! What the kernel has to do with calls: little, as long as a port is called time and again.

use super::core::{OnFire, Shared};
use super::error::SendError;
use super::port::ReplyName;
use crate::kernel::{Kernel, MonitorId, OnDeath, port_named_by};
use crate::value::packed::Elements;
use crate::value::{PortId, StrRef};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often monitors of ports that are not called any more are given up.
const SWEEP_INTERVAL: Duration = Duration::from_millis(500);

impl Shared {
    /// Tells the kernel of a port that something is about to be done with by name, if it is a reply
    /// port: of most, nobody but the called port ever hears, so that the kernel does not know them.
    pub(super) fn tell_of_reply_port(&self, kernel: &mut Kernel, name: StrRef<'_>) {
        if self.ports.replies().list(&name.canonical()) {
            kernel.add_reply_port(&name.to_owned());
        }
    }

    /// As [`Shared::tell_of_reply_port`], of the port that a request to our node port names.
    #[inline]
    pub(super) fn tell_of_port_named_by(&self, kernel: &mut Kernel, request: Elements<'_>) {
        if let Some(name) = port_named_by(&self.id, request) {
            self.tell_of_reply_port(kernel, name.as_ref());
        }
    }

    /// Sets a monitor in the kernel.
    pub(super) fn monitor_in(
        &self,
        kernel: &mut Kernel,
        target: &PortId,
        on_death: OnDeath,
    ) -> MonitorId {
        if target.node() == self.id {
            self.tell_of_reply_port(kernel, target.port());
        }
        match &on_death {
            OnDeath::Link(port) => self.tell_of_reply_port(kernel, port.as_ref()),
            OnDeath::Message { to, elements } if to.is_node_port() && to.node() == self.id => {
                self.tell_of_port_named_by(kernel, elements.as_elements());
            }
            OnDeath::Message { .. } | OnDeath::Host => {}
        }
        kernel.monitor(target, on_death)
    }

    /// How many ports this node has, those of calls that wait included.
    pub(crate) fn port_count(&self, kernel: &Kernel) -> usize {
        kernel.port_count() + self.ports.replies().unlisted()
    }

    /// Makes the reply port of a call to `called`, which fails as soon as that port dies: a monitor
    /// is set, and the request for it on its way, when this returns.
    #[inline]
    pub(crate) fn begin_call(self: &Arc<Self>, called: &PortId) -> Result<ReplyName, SendError> {
        match self.ports.replies().join(called) {
            Some(name) => Ok(name),
            None => self.begin_first_call(called),
        }
    }

    #[inline(never)]
    fn begin_first_call(self: &Arc<Self>, called: &PortId) -> Result<ReplyName, SendError> {
        self.with_core(|shared, core| {
            if shared.is_over() {
                return Err(SendError::Shutdown);
            }
            if !std::mem::replace(&mut core.sweeps_calls, true) {
                shared.runtime.spawn(sweep(Arc::downgrade(shared), shared.ended.clone()));
            }
            let name = shared.ports.replies().join_or_monitor(
                called,
                core,
                |core| {
                    let monitor = shared.monitor_in(&mut core.kernel, called, OnDeath::Host);
                    core.monitors.insert(monitor, OnFire::Calls(called.clone()));
                    monitor
                },
                |core| shared.carry_out(core),
            );
            Ok(name)
        })
    }

    /// Ends the reply port.
    #[inline]
    pub(crate) fn end_call(self: &Arc<Self>, name: &ReplyName) {
        let ended = self.ports.replies().end(name);
        if ended.listed {
            self.kernel(|kernel| kernel.port_ended(&name.to_str()));
        }
        if let Some(monitor) = ended.unused {
            self.unmonitor(monitor);
        }
    }

    /// Gives up monitors that no call needs any more; false if none is left.
    fn sweep_calls(self: &Arc<Self>) -> bool {
        let unused = self.ports.replies().sweep();
        self.with_core(|shared, core| {
            for monitor in unused {
                core.kernel.unmonitor(monitor);
                let _calls = core.monitors.remove(&monitor);
            }
            // Whoever sets a monitor has the kernel's lock too.
            core.sweeps_calls = !shared.ports.replies().is_empty();
            core.sweeps_calls
        })
    }
}

async fn sweep(shared: Weak<Shared>, ended: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(SWEEP_INTERVAL) => {}
            () = ended.cancelled() => return,
        }
        if !shared.upgrade().is_some_and(|shared| shared.sweep_calls()) {
            return;
        }
    }
}
