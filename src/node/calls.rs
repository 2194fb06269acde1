//! Tells the kernel about calls: reply ports once a request names them, and the shared monitors of
//! called ports.

use super::core::{OnFire, Shared};
use super::error::SendError;
use super::port::ReplyName;
use crate::kernel::{Kernel, MonitorId, OnDeath, port_named_by};
use crate::value::packed::Elements;
use crate::value::{PortId, StrRef};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Interval at which monitors of ports that are no longer called are removed.
const SWEEP_INTERVAL: Duration = Duration::from_millis(500);

impl Shared {
    /// Adds a port to the kernel before something is done with it by name, if it is a reply port.
    /// The kernel does not know reply ports until then, since most are only ever used by the port
    /// that was called.
    pub(super) fn tell_of_reply_port(&self, kernel: &mut Kernel, name: StrRef<'_>) {
        if self.ports.replies().list(&name.canonical()) {
            kernel.add_reply_port(&name.to_owned());
        }
    }

    /// As [`Shared::tell_of_reply_port`], for the port that a request to our node port names.
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

    /// Number of ports of this node, including those of pending calls.
    pub(crate) fn port_count(&self, kernel: &Kernel) -> usize {
        kernel.port_count() + self.ports.replies().unlisted()
    }

    /// Makes the reply port of a call to `called`. The call fails as soon as that port dies: when
    /// this returns, the monitor is set and the request for it has been sent.
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

    /// Removes monitors that no call needs any more; returns false if no others are left.
    fn sweep_calls(self: &Arc<Self>) -> bool {
        let unused = self.ports.replies().sweep();
        self.with_core(|shared, core| {
            for monitor in unused {
                core.kernel.unmonitor(monitor);
                let _calls = core.monitors.remove(&monitor);
            }
            // Setting such a monitor takes the kernel's lock, so none is added meanwhile.
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
