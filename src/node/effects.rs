//! What the kernel wants done, and the doing of it: packets into lanes, messages into ports, watchers
//! told. Its lock is held meanwhile; what runs user code is left for later.

use super::NodeEvent;
use super::connection::{self, Control};
use super::core::{Core, OVERFLOW, Shared, Watching, overflow};
use super::deferred::{self, Deferred};
use super::lanes::Sent;
use super::message::KillReason;
use super::port::{Delivery, Ending, PortCell};
use crate::kernel::{ConnId, Effect, Level};
use crate::lane::Copies;
use crate::value::NodeId;
use crate::value::packed::Elements;
use crate::wire::framing::EncodeError;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// So many effects may wait to be carried out together; room for more is not kept.
pub(super) const MOST_EFFECTS_KEPT: usize = 16;

impl Shared {
    pub(super) fn carry_out(self: &Arc<Self>, core: &mut Core, later: &mut Vec<Deferred>) {
        let mut effects = std::mem::take(&mut core.effects);
        loop {
            core.kernel.swap_effects(&mut effects);
            if effects.is_empty() {
                break;
            }
            for effect in effects.drain(..) {
                if self.is_over() && begins_something(&effect) {
                    continue;
                }
                self.carry_out_one(core, effect, later);
            }
        }
        // The room that one large change took is not kept.
        if effects.capacity() <= MOST_EFFECTS_KEPT {
            core.effects = effects;
        }
    }

    fn carry_out_one(self: &Arc<Self>, core: &mut Core, effect: Effect, later: &mut Vec<Deferred>) {
        match effect {
            Effect::Send { to, packet } => {
                self.send_for_kernel(core, &to, packet.as_elements(), later);
            }
            Effect::SendAll { to, packet } => {
                self.send_all(core, &to, packet.as_elements(), later);
            }
            Effect::Deliver { port, message, from } => {
                let (delivery, run) = self.ports.queue(port.as_ref(), &from, message.as_elements());
                later.push(Deferred::Port(run));
                match delivery {
                    Delivery::Service => {
                        core.kernel.service_message(&from, message.as_elements());
                    }
                    Delivery::Overflow => core.kernel.kill(&self.port_id(&port), &overflow()),
                    Delivery::Done | Delivery::Queued { .. } | Delivery::NoSuchPort => {}
                }
            }
            Effect::LaneUp { node, conn } => self.lane_up(core, &node, conn, later),
            Effect::LaneDown { node } => self.lanes.disconnect(&node),
            Effect::LaneReset { node } => self.lanes.reset(&node),
            Effect::Dial { conn, address } => {
                let orders = self.add_connection(core, conn);
                connection::dial(self, conn, &address, orders);
            }
            Effect::Proceed { conn, order } => {
                self.control(core, conn, Control::Proceed(order));
            }
            Effect::Close { conn, reason } => {
                self.control(core, conn, Control::Close(reason));
            }
            Effect::Spawned { port, init } => {
                let cell = self.spawned_cell(&port);
                later.push(Deferred::Port(cell.queue_task(deferred::init(self, init))));
                self.ports.insert(port.as_ref(), PortCell::Callback(cell));
            }
            Effect::PortClosed { port, reason } => {
                let closed = self.ports.close(port.as_ref(), reason, Ending::AfterWaiting);
                later.extend(closed.map(Deferred::Port));
            }
            Effect::Fire { watch, reason } => {
                let reason = KillReason::from_packed(reason);
                match core.watches.remove(&watch) {
                    Some(Watching::Future(future)) => {
                        later.extend(future.push(reason).map(Deferred::Wake));
                    }
                    Some(Watching::Calls(called)) => {
                        let wakers =
                            self.ports.replies().fired(&called, watch, &reason.into_packed());
                        later.extend(wakers.into_iter().map(Deferred::Wake));
                    }
                    Some(Watching::Callback(callback)) => {
                        later.push(Deferred::Fired { callback, reason });
                    }
                    Some(Watching::PortCallback(cell, callback)) => {
                        let run = cell.queue_task(Box::new(|_| callback(reason)));
                        later.push(Deferred::Port(run));
                    }
                    None => {}
                }
            }
            Effect::Call(call) => later.push(Deferred::Call(call)),
            Effect::Eval { expression, from, reply } => {
                later.push(Deferred::Eval { expression, from, reply });
            }
            Effect::NodeUp { node, untrusted } => {
                Self::tell(core, &NodeEvent::Up { node, untrusted }, later);
            }
            Effect::NodeDown { node, reason } => {
                let reason = KillReason::from_packed(reason);
                Self::tell(core, &NodeEvent::Down { node, reason }, later);
            }
            Effect::Answer { query, answer } => {
                if let Some(waiting) = core.queries.remove(&query) {
                    later.push(Deferred::Answer(waiting, answer));
                }
            }
            Effect::Changed { monitor, changes } => {
                if let Some(changed) = core.db_monitors.get(&monitor) {
                    later.extend(changed.push(changes).map(Deferred::Wake));
                }
            }
            Effect::Log { level, text } => later.push(Deferred::Log(level, text)),
        }
    }

    fn send_for_kernel(
        &self,
        core: &mut Core,
        to: &NodeId,
        packet: Elements<'_>,
        later: &mut Vec<Deferred>,
    ) {
        self.trace_sent(to.as_str(), packet);
        let sent = self.lanes.append(to, packet);
        self.sent_for_kernel(core, to, sent, later);
    }

    fn send_all(
        &self,
        core: &mut Core,
        to: &Arc<[NodeId]>,
        packet: Elements<'_>,
        later: &mut Vec<Deferred>,
    ) {
        let lanes = core.fan_outs.of(to, &self.lanes);
        let mut copies = Copies::of(packet);
        for (node, lane) in to.iter().zip(lanes.iter()) {
            self.trace_sent(node.as_str(), packet);
            let sent = match lane.append_copy(&mut copies).transpose() {
                Some(sent) => sent,
                None => self.lanes.append(node, packet),
            };
            self.sent_for_kernel(core, node, sent, later);
        }
    }

    #[inline]
    fn sent_for_kernel(
        &self,
        core: &mut Core,
        to: &NodeId,
        sent: Result<Sent, EncodeError>,
        later: &mut Vec<Deferred>,
    ) {
        match sent {
            // The kernel asks for connections itself.
            Ok(Sent::Done | Sent::WantConnection) => {}
            Ok(Sent::Congested) => later.push(Deferred::Log(Level::Warn, self.congestion(to))),
            Ok(Sent::Overflow) => core.kernel.disconnect(to, OVERFLOW),
            Err(error) => later.push(not_sent(to, &error)),
        }
    }

    fn lane_up(&self, core: &mut Core, node: &NodeId, conn: ConnId, later: &mut Vec<Deferred>) {
        let connection = core.conns.get(&conn);
        let Some((framing, protection)) = connection.map(|one| (one.framing, one.protection))
        else {
            return;
        };
        let (lane, generation, errors) = self.lanes.connect(node, framing);
        lane.set_protection(protection);
        later.extend(errors.iter().map(|error| not_sent(node, error)));
        self.control(core, conn, Control::Up { lane, generation });
    }

    fn control(&self, core: &Core, conn: ConnId, control: Control) {
        if let Some(conn) = core.conns.get(&conn) {
            if let Control::Close(_) = control {
                conn.over.store(true, Ordering::Relaxed);
            }
            // A task that is gone has reported, or is about to report, that it is.
            let _ = conn.control.send(control);
        }
    }

    fn tell(core: &mut Core, event: &NodeEvent, later: &mut Vec<Deferred>) {
        core.events.retain(|listener| !listener.is_abandoned());
        for listener in &core.events {
            later.extend(listener.push(event.clone()).map(Deferred::Wake));
        }
    }
}

/// Whether an effect makes something that nobody would end after the node was shut down.
const fn begins_something(effect: &Effect) -> bool {
    matches!(
        effect,
        Effect::Send { .. }
            | Effect::SendAll { .. }
            | Effect::Dial { .. }
            | Effect::LaneUp { .. }
            | Effect::Spawned { .. }
            | Effect::Call(_)
            | Effect::Eval { .. }
    )
}

fn not_sent(to: &NodeId, error: &EncodeError) -> Deferred {
    Deferred::Log(Level::Error, format!("message to {to} not sent: {error}"))
}
