//! Delivers messages: to ports of this node, and to the lanes of other nodes.

use super::core::Shared;
use super::error::SendError;
use super::lanes::{Sent, SharedLane, WrittenBy};
use super::port::{Delivery, PortName};
use crate::kernel::died;
use crate::value::packed::Elements;
use crate::value::{NodeId, Packed, PortId, StrRef};
use std::sync::Arc;

/// What happens when a sender exceeds the soft limit of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pressure {
    /// A warning is logged.
    Ignored,
    /// The sender waits before it sends more.
    Yielding,
}

impl Shared {
    /// Delivers a message of this node to one of its own ports.
    #[inline]
    pub(super) fn take_own(self: &Arc<Self>, port: StrRef<'_>, message: Elements<'_>) {
        if port.is_empty() {
            self.take_own_request(message);
        } else {
            self.deliver(port, &self.id, message);
        }
    }

    #[inline(never)]
    fn take_own_request(self: &Arc<Self>, message: Elements<'_>) {
        self.kernel(|kernel| {
            self.tell_of_port_named_by(kernel, message);
            kernel.node_packet(&self.id, message);
        });
    }

    /// Delivers a message to a port of this node; drops it if there is no such port.
    #[inline(always)]
    pub(crate) fn deliver(
        self: &Arc<Self>,
        port: StrRef<'_>,
        from: &NodeId,
        message: Elements<'_>,
    ) {
        self.deliver_all(port, from, &mut std::iter::once(message));
    }

    /// As [`Shared::deliver`], for at least the first of these messages.
    #[inline(always)]
    pub(crate) fn deliver_all<'a>(
        self: &Arc<Self>,
        port: StrRef<'_>,
        from: &NodeId,
        messages: &mut impl Iterator<Item = Elements<'a>>,
    ) {
        match self.ports.deliver(port, from, messages) {
            Delivery::Done | Delivery::Queued { .. } | Delivery::NoSuchPort => {}
            Delivery::Service => {
                if let Some(message) = messages.next() {
                    self.kernel(|kernel| kernel.service_message(from, message));
                }
            }
            Delivery::Overflow => self.overflowed(&port.to_owned()),
        }
    }

    pub(crate) fn overflowed(self: &Arc<Self>, port: &PortName) {
        self.kill_own(port, &overflow());
    }

    /// Kills a port of this node.
    pub(crate) fn kill_own(self: &Arc<Self>, port: &PortName, reason: &Packed) {
        let id = self.port_id(port);
        self.kernel(|kernel| kernel.kill(&id, reason));
    }

    pub(super) fn port_id(&self, port: &PortName) -> PortId {
        PortId::new(&self.id, port)
    }

    /// Sends a packet, which begins with the port name, to the remote node of `to`, through the
    /// given lane if there is one.
    #[inline]
    pub(crate) fn send_remote(
        self: &Arc<Self>,
        to: &PortId,
        lane: Option<Arc<SharedLane>>,
        packet: Elements<'_>,
        how: Pressure,
    ) -> Result<(), SendError> {
        if self.is_over() {
            return Err(SendError::Shutdown);
        }
        match self.lanes.append(lane, || to.node(), packet, WrittenBy::Sender)? {
            Sent::Done | Sent::Crowded => {}
            Sent::Congested if how == Pressure::Yielding => {}
            Sent::Congested => tracing::warn!(node = %self.id, "{}", self.congestion(&to.node())),
            Sent::WantConnection => self.kernel(|kernel| kernel.want_connection(&to.node())),
            Sent::Overflow => self.kernel(|kernel| {
                // The kernel can only give up a node that is connected or wanted.
                kernel.want_connection(&to.node());
                kernel.disconnect(&to.node(), OVERFLOW);
            }),
        }
        Ok(())
    }

    pub(super) fn congestion(&self, node: &NodeId) -> String {
        let limits = self.settings.lane_limits;
        format!(
            "more than {} octets are queued for {node}; at {} its connection is closed; to wait \
             instead, send with snd_wait",
            limits.soft, limits.hard
        )
    }
}

pub(super) fn overflow() -> Packed {
    died("too many messages were waiting")
}

pub(super) const OVERFLOW: &str = "too many octets were queued to be sent";
